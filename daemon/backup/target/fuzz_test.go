package target

import (
	"strings"
	"testing"
)

// A recovery key is typed by a person, years later: what is taken for one is one, in
// any spelling, and comes back as it is written.
func FuzzRecovery(f *testing.F) {
	k, err := NewRecovery()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.String())
	f.Add("# created: today\n\n " + strings.ToLower(k.String()) + " \r\n")
	f.Add(k.String() + "\n" + k.String())
	f.Add("AGE-SECRET-KEY-1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecovery(text)
		if err != nil {
			return
		}
		if !strings.Contains(strings.ToUpper(text), r.String()) {
			t.Error("another key than the one that was typed")
		}
		if again, err := ParseRecovery(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%v", err)
		}
	})
}

// Names of a copy's files are read in one spelling only.
func FuzzNames(f *testing.F) {
	n := Name{1, 2, 3}
	f.Add(n.path())
	f.Add(strings.ToUpper(n.path()))
	f.Add("../" + n.path())
	f.Add("")
	f.Fuzz(func(t *testing.T, p string) {
		if n, ok := parsePath(p); ok && n.path() != p {
			t.Errorf("%q is read as %q", p, n.path())
		}
		if i := strings.LastIndexByte(p, '/'); i >= 0 {
			p = p[i+1:]
		}
		if n, ok := parseName(p); ok && !strings.HasSuffix(n.path(), p) {
			t.Errorf("%q is read as %q", p, n.path())
		}
	})
}
