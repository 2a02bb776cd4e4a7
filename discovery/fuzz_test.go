package discovery

import (
	"strings"
	"testing"
)

// The TXT record of any device on the network: the first of equal keys counts, in any
// spelling, and nothing is made up (RFC 6763 §6.4).
func FuzzText(f *testing.F) {
	for _, s := range []string{"id=a\nID=b", "=x", "", "st", "a=b=c", "\xff=\x00", "sn4=\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := strings.Split(s, "\n")
		for k, v := range parseText(list) {
			if k == "" || strings.Contains(k, "=") || k != strings.ToLower(k) {
				t.Errorf("%q has a key %q", s, k)
			}
			for _, entry := range list {
				if key, value, _ := strings.Cut(entry, "="); strings.ToLower(key) == k {
					if value != v {
						t.Errorf("%q: %q is %q", s, k, v)
					}
					break
				}
			}
		}
	})
}
