package account

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func listOf(end string, passwords ...string) string {
	var lines []string
	for i, p := range passwords {
		lines = append(lines, fmt.Sprintf("%X:%d", sha1.Sum([]byte(p)), i*i*1000+1))
	}
	slices.Sort(lines)
	return strings.Join(lines, end)
}

// R36: every password of a list is found, whatever its place, and no other.
func TestBreached(t *testing.T) {
	var all []string
	for i := range 300 {
		all = append(all, fmt.Sprint("password", i))
	}
	for _, n := range []int{0, 1, 2, 3, 10, 300} {
		for _, end := range []string{"\n", "\r\n"} {
			for _, last := range []string{"", end} {
				list := listOf(end, all[:n]...)
				if n > 0 {
					list += last
				}
				for i, p := range all {
					got, err := breached(strings.NewReader(list), int64(len(list)), p)
					if err != nil || got != (i < n) {
						t.Fatalf("%d lines, %q: %s is found: %v, %v", n, end, p, got, err)
					}
				}
			}
		}
	}
	// Sums alone, in small letters.
	list := strings.ToLower(fmt.Sprintf("%X\n", sha1.Sum([]byte("x"))))
	if got, err := breached(strings.NewReader(list), int64(len(list)), "x"); err != nil || !got {
		t.Errorf("%v, %v", got, err)
	}
	for _, list := range []string{"x", "\n", "\n\n\n", strings.Repeat("a", 500), strings.Repeat("0", 41) + "\n", strings.Repeat("g", 40) + "\n", "password\n123456\n"} {
		if got, err := breached(strings.NewReader(list), int64(len(list)), "x"); !errors.Is(err, errNoList) || got {
			t.Errorf("%.20q: %v, %v", list, got, err)
		}
	}
}

func FuzzBreached(f *testing.F) {
	f.Add(listOf("\n", "a", "b", "c"), "b")
	f.Add(listOf("\r\n", "a"), "x")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, list, password string) {
		got, err := breached(strings.NewReader(list), int64(len(list)), password)
		if got && (err != nil || !strings.Contains(strings.ToUpper(list), fmt.Sprintf("%X", sha1.Sum([]byte(password))))) {
			t.Errorf("found in %q: %v", list, err)
		}
		if n := rand.IntN(len(list) + 1); n < len(list) {
			breached(strings.NewReader(list[:n]), int64(len(list)), password) // a file that became shorter
		}
	})
}
