package daemontest

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"yunbox.local/daemon/consent"
)

// Revised is the catalogue of a later version of the box: with as many further
// revisions of the policy, called "2", "3" …, and with the given purposes made wider.
func Revised(t testing.TB, revisions int, wider ...consent.Purpose) *consent.Catalogue {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(consent.Source(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(consent.Source(), name)
		files[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	list := files["policy/revisions.toml"]
	for n := range revisions {
		id := fmt.Sprint(n + 2)
		for _, lang := range consent.Languages() {
			name := "policy/" + consent.CurrentPolicy().Revision + "." + lang + ".md"
			files["policy/"+id+"."+lang+".md"] = &fstest.MapFile{Data: append([]byte("Revision "+id+".\n\n"), files[name].Data...)}
		}
		list.Data = fmt.Appendf(list.Data, "\n[[revision]]\nid = %q\nmodified = 2027-01-%02d\nchanges.en = [\"The box now makes coffee, %s cups a day.\", \"Nothing else.\"]\nchanges.zh = [\"盒子现在会煮咖啡。\", \"没有其他变化。\"]\n", id, n+1, id)
	}
	for _, p := range wider {
		f := files["purposes/"+string(p)+".toml"]
		f.Data = []byte(strings.Replace(string(f.Data), "version = 1\n", "version = 2\n", 1))
	}
	c, err := consent.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Update restarts the box as a version of its software that has another catalogue;
// nil is this one's.
func (b *Box) Update(words *consent.Catalogue) {
	b.t.Helper()
	b.words = words
	b.Restart()
}
