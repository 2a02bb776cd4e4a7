package vfstest_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"yunbox.local/storage/vfs/vfstest"
)

// What a cut leaves of two files that were written and not synced, by luck.
func TestLuck(t *testing.T) {
	want := map[vfstest.Luck][]string{
		vfstest.Drop: {"oo oo"},
		vfstest.Keep: {"nn nn"},
		vfstest.Rand: {"oo oo", "oo nn", "nn oo", "nn nn"},
		vfstest.Torn: {"oo oo", "oo on", "on nn", "no oo", "nn nn"}, // and more
	}
	for _, luck := range vfstest.Lucks() {
		seen := map[string]bool{}
		rng := rand.New(rand.NewPCG(1, 1))
		for range 500 {
			d := vfstest.NewDisk()
			for _, text := range []string{"o", "n"} {
				for _, name := range []string{"a", "b"} {
					f := open(t, d, name)
					write(t, f, 0, strings.Repeat(text, 1024))
					if text == "o" {
						must(t, f.Sync(), d.SyncDir("."))
					}
				}
			}
			after := d.PowerCutAs(rng, luck)
			var all []string
			for _, text := range strings.Fields(see("a", "b")(after)) {
				all = append(all, string([]byte{text[0], text[1023]}))
			}
			seen[strings.Join(all, " ")] = true
		}
		for _, w := range want[luck] {
			if !seen[w] {
				t.Errorf("%s: %q is possible but never occurred: %v", luck, w, seen)
			}
		}
		if luck != vfstest.Torn && len(seen) != len(want[luck]) {
			t.Errorf("%s: %v", luck, seen)
		}
	}
}

func TestOnCut(t *testing.T) {
	d := vfstest.NewDisk()
	told := 0
	d.OnCut(func() { told++ })
	d.CutIn(2)
	for range 3 {
		_, _ = d.Stat(".")
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}
