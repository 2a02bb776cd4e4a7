package catalog

import "testing"

// A cursor is read in one way only, and written back as it was read.
func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", cursor{"i", "a.jpg", ""}.String(), cursor{"t", "1", "2"}.String(), "AA", "!", "aQBhAGIAYw", "aQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil || s == "" {
			return
		}
		if again, err := parseCursor(c.String()); err != nil || again != c || c.kind == "" {
			t.Errorf("%q is read as %q, then as %q, %v", s, c, again, err)
		}
	})
}
