package dedup

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"yunbox.local/storage"
)

// A plan lies on the disk until somebody carries it out: whatever became of it there,
// no path of it leads out of the folder, and one that is not whole is none.
func FuzzPlan(f *testing.F) {
	p := quickPlace(f)
	const id = "abcdefghijkl"
	var whole []byte
	for _, v := range []any{
		Plan{ID: id, Root: "/tree", Action: Trash}, PlanGroup{Ref: storage.Ref{1}, Size: 3, Keep: PlanFile{Path: "a"}, Fold: []PlanFile{{Path: "b/\xff"}}},
		PlanSum{Groups: 1, Files: 1, Free: 3},
	} {
		whole, _ = appendLine(whole, v)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	bad, _ := appendLine(nil, Plan{ID: id})
	bad, _ = appendLine(bad, PlanGroup{Keep: PlanFile{Path: "../a"}, Fold: []PlanFile{{Path: "/etc/passwd"}}})
	f.Add(bad)
	for _, v := range []any{Plan{ID: "other"}, map[string]any{"sha256": nil}, PlanSum{}, 7, nil} {
		line, _ := appendLine(nil, v)
		f.Add(line)
		f.Add(append(slices.Clone(whole), line...))
	}
	name := filepath.Join(filepath.Dir(p.root), "state", p.work.Dir, id+planEnd)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		groups := 0
		err := p.work.Groups(id, func(g PlanGroup) error {
			groups++
			for _, file := range append(g.Fold, g.Keep) {
				if !filepath.IsLocal(string(file.Path)) || file.Path == "." {
					t.Errorf("%q", file.Path)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrDamage) && !errors.Is(err, ErrNoPlan) {
			var syntax *json.UnmarshalTypeError
			if !errors.As(err, &syntax) {
				t.Errorf("%v", err)
			}
		}
		if groups > len(b) {
			t.Error("more than there is")
		}
		list, err := p.work.Plans()
		if err != nil || len(list) > 1 || len(list) == 1 && list[0].ID != id {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// Paths come back as they were, also those that are no UTF-8.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a/b", "\xff", "..", "", `{"base64":"AA=="}`, "a//b", "a/../b", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := Path(s)
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again Path
		if err := json.Unmarshal(b, &again); err != nil || again != p {
			t.Errorf("%q becomes %s and %q, %v", s, b, again, err)
		}
		if p.valid() == nil && (!fs.ValidPath(s) && filepath.IsLocal(s) == false) {
			t.Errorf("%q is taken for a path below a folder", s)
		}
		_ = json.Unmarshal([]byte(s), &again)
	})
}

// Entries of a folder come from the kernel, and what a file system of a foreign disk
// puts into them is not its choice.
func FuzzFolder(f *testing.F) {
	entry := func(inode uint64, kind byte, name string) []byte {
		b := make([]byte, (19+len(name)+1+7)&^7)
		binary.NativeEndian.PutUint64(b, inode)
		binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
		b[18] = kind
		copy(b[19:], name)
		return b
	}
	f.Add(slices.Concat(entry(1, 4, "."), entry(2, 8, "a.jpg"), entry(3, 4, "相册"), entry(4, 8, TrashName)))
	f.Add(entry(1, 8, "a")[:20])
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l lister
		l.parse(b)
		if len(l.batch)*19 > len(b) {
			t.Error("more than there is")
		}
		for _, e := range l.batch {
			if name := string(l.text[e.from:e.to]); name == "." || name == ".." || ours(name) {
				t.Errorf("%q", name)
			}
		}
	})
}

// What the cache's neighbours keep in files of their own is read in bounds.
func FuzzNames(f *testing.F) {
	n := &names{}
	if _, err := n.add(noFolder, []byte("a")); err != nil {
		f.Fatal(err)
	}
	f.Add(n.tail)
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, name, err := parseName(b); err == nil && len(name)+10 > len(b) {
			t.Errorf("%q", name)
		}
	})
}
