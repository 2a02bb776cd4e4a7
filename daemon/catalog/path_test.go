package catalog_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/problem"
)

func TestCleanPath(t *testing.T) { // R01
	for in, want := range map[string]string{
		"a":                           "a",
		"a/b.jpg":                     "a/b.jpg",
		"cafe\u0301/e\u0301.jpg":      "caf\u00e9/\u00e9.jpg", // NFD, as a Mac sends it
		"A/a":                         "A/a",
		"...":                         "...",
		"..a/.b":                      "..a/.b",
		" a / b ":                     " a / b ",
		`back\slash`:                  `back\slash`,
		"照片/图 1.jpg":                  "照片/图 1.jpg",
		"\u200fשלום\u200e.jpg":        "\u200fשלום\u200e.jpg",
		"👨\u200d👩\u200d👧.jpg":         "👨\u200d👩\u200d👧.jpg",
		strings.Repeat("n", 255):      strings.Repeat("n", 255),
		strings.Repeat("\u00e9", 127): strings.Repeat("\u00e9", 127),
	} {
		if got, err := catalog.CleanPath(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a/../b",
		"a\x00b", "a\nb", "a\x7fb", "a\u0085b", "\xff", "a/\xc3\x28", "photo\u202egpj.exe", "\u2066a\u2069", "a\u202c",
		strings.Repeat("n", 256), strings.Repeat("\u00e9", 128), strings.Repeat("a/", 1100) + "a", strings.Repeat("x", 4096),
		strings.Repeat("e\u0301", 100_000),
	} {
		got, err := catalog.CleanPath(in)
		if problem.KindOf(err) != problem.Invalid || got != "" {
			t.Errorf("%.40q became %.40q, %v", in, got, err)
		}
		if p := problem.As(err); p.Hint == "" || !utf8.ValidString(p.Detail) {
			t.Errorf("%.40q: %+v", in, p)
		}
	}
	if got, err := catalog.CleanFolder(""); err != nil || got != "" {
		t.Errorf("root: %q, %v", got, err)
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"a/b", "e\u0301", "a/../b", "\u202e", "\x00", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := catalog.CleanPath(s)
		if err != nil {
			if problem.KindOf(err) != problem.Invalid {
				t.Fatal(err)
			}
			return
		}
		if again, err := catalog.CleanPath(p); err != nil || again != p {
			t.Fatalf("%q is clean, but cleaned again it is %q, %v", p, again, err)
		}
		if len(p) > catalog.MaxPath || !utf8.ValidString(p) || strings.ContainsRune(p, 0) {
			t.Fatalf("%q", p)
		}
		for part := range strings.SplitSeq(p, "/") {
			if part == "" || part == "." || part == ".." || len(part) > catalog.MaxName {
				t.Fatalf("%q has the part %q", p, part)
			}
		}
	})
}
