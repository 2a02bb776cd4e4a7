package tree_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/tree"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// world is a box without its gateways. Contents and view lie on a disk that can lose
// power, the records on a real one.
type world struct {
	t     testing.TB
	disk  *vfstest.Disk
	db    *db.DB
	cat   *catalog.Catalog
	store *storage.Store
	tree  *tree.Tree
	mode  string

	people map[ident.UserID]string
	held   map[string]map[string]bool // contents that a name in the view ever had
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB, clones bool) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "yunbox-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, disk: vfstest.NewDisk(), mode: tree.Auto, people: map[ident.UserID]string{1: "Ada", 2: "小明"}, held: map[string]map[string]bool{}}
	w.disk.SetClones(clones)
	w.db, err = db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db")})
	must(t, err)
	t.Cleanup(func() { w.db.Close() })
	must(t, w.db.Write(t.Context(), func(tx *db.Tx) error {
		for id, name := range w.people {
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?, ?, ?, ?, '', 0)`,
				int64(id), name, name, []string{"", "owner", "member"}[id]); err != nil {
				return err
			}
		}
		return nil
	}))
	w.cat, err = catalog.Open(t.Context(), w.db)
	must(t, err)
	must(t, w.disk.Mkdir("tree", 0o700))
	must(t, w.disk.SyncDir("."))
	w.open()
	return w
}

// open is a start of the box.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.store, err = storage.Open(w.t.Context(), w.disk, storage.Options{Intent: -1, Reserve: -1})
	must(w.t, err)
	w.tree = tree.New(tree.Options{
		Catalog: w.cat, Store: w.store, DB: w.db, Disk: below{w.disk, "tree"}, Mode: w.mode,
		People: func(context.Context) (list []tree.Person, _ error) {
			for id, name := range w.people {
				list = append(list, tree.Person{ID: id, Name: name})
			}
			return list, nil
		},
	})
}

// keep stores a content.
func (w *world) keep(content string) storage.Sealed {
	w.t.Helper()
	ctx := w.t.Context()
	u, err := w.store.Begin(ctx, int64(len(content)))
	must(w.t, err)
	_, err = u.Write(ctx, 0, strings.NewReader(content))
	must(w.t, err)
	sealed, err := u.Seal(ctx)
	must(w.t, err)
	must(w.t, errors.Join(w.store.Commit(ctx, []storage.Sealed{sealed})...))
	return sealed
}

// add gives a content a name.
func (w *world) add(u ident.UserID, name, content string, mtime time.Time) (it catalog.Item, err error) {
	sealed := w.keep(content)
	defer w.store.Release([]storage.Sealed{sealed})
	sum := sha1.Sum([]byte(content))
	err = w.db.Write(w.t.Context(), func(tx *db.Tx) error {
		a, err := w.cat.Add(tx, catalog.Entry{User: u, Path: name, Ref: sealed.Ref, SHA1: sum, Size: int64(len(content)), MTime: mtime, Source: "other"})
		it = a.Item
		return err
	})
	w.note()
	return it, err
}

// note remembers which contents the names have now.
func (w *world) note() {
	for name, f := range w.wanted() {
		if w.held[name] == nil {
			w.held[name] = map[string]bool{}
		}
		w.held[name][f.content] = true
	}
}

func (w *world) follow() {
	w.t.Helper()
	if _, err := w.tree.Follow(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// file is what a file of the view is to be, or is.
type file struct {
	content string
	mtime   int64
	mode    fs.FileMode
}

func (w *world) items(u ident.UserID) (list []catalog.Item) {
	q := catalog.Query{Recursive: true, Limit: 1000}
	for {
		page, err := w.cat.List(context.Background(), u, q)
		must(w.t, err)
		list = append(list, page.Items...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return list
		}
	}
}

// wanted is the view by the catalogue.
func (w *world) wanted() map[string]file {
	m := map[string]file{}
	for u, name := range w.people {
		for _, it := range w.items(u) {
			at := it.MTime
			if at.IsZero() {
				at = it.Added
			}
			p := it.Path
			if p == "SHA256SUMS" || p == "%SHA256SUMS" {
				p = "%" + p
			}
			m[name+"/"+p] = file{w.content("blobs/" + it.Ref.String()[:2] + "/" + it.Ref.String()), at.UnixMilli(), 0o444}
		}
	}
	return m
}

func (w *world) content(name string) string {
	b, err := vfs.ReadFile(w.disk, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(missing)"
	}
	must(w.t, err)
	return string(b)
}

// found is the view as it lies on the disk, and the lists.
func (w *world) found() (m map[string]file, sums map[string]string) {
	m, sums = map[string]file{}, map[string]string{}
	w.walk("tree", func(name string, info fs.FileInfo) {
		rel := strings.TrimPrefix(name, "tree/")
		if user, base, _ := strings.Cut(rel, "/"); base == "SHA256SUMS" {
			sums[user] = w.content(name)
		} else if user != ".yunbox" {
			m[rel] = file{w.content(name), info.ModTime().UnixMilli(), info.Mode()}
		}
	})
	return m, sums
}

func (w *world) walk(dir string, each func(string, fs.FileInfo)) {
	list, err := w.disk.ReadDir(dir)
	must(w.t, err)
	for _, e := range list {
		name := dir + "/" + e.Name()
		if e.IsDir() {
			w.walk(name, each)
			continue
		}
		info, err := e.Info()
		must(w.t, err)
		each(name, info)
	}
}

// same compares the view with the catalogue.
func (w *world) same() {
	w.t.Helper()
	want := w.wanted()
	got, sums := w.found()
	if !maps.Equal(got, want) {
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if got[name] != want[name] {
				w.t.Errorf("%s: %.30q instead of %.30q", name, fmt.Sprint(got[name]), fmt.Sprint(want[name]))
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				w.t.Errorf("%s is shown", name)
			}
		}
		w.t.FailNow()
	}
	lines := map[string][]string{}
	for name, f := range want {
		user, p, _ := strings.Cut(name, "/")
		line := fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(f.content)), p)
		if escaped := strings.ReplaceAll(line, "\\", "\\\\"); escaped != line {
			line = "\\" + escaped
		}
		lines[user] = append(lines[user], line)
	}
	for user, text := range sums {
		list := slices.Collect(strings.Lines(text))
		slices.Sort(list)
		slices.Sort(lines[user])
		if !slices.Equal(list, lines[user]) {
			w.t.Fatalf("the list of %s is\n%sand not\n%s", user, text, strings.Join(lines[user], ""))
		}
		delete(lines, user)
	}
	if len(lines) > 0 {
		w.t.Fatalf("there is no list of %v", lines)
	}
	// No folder is left over.
	for user := range w.people {
		w.noEmptyFolder("tree/" + w.people[user])
	}
}

func (w *world) noEmptyFolder(dir string) {
	list, err := w.disk.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(w.t, err)
	if len(list) == 0 {
		w.t.Fatalf("%s is empty", dir)
	}
	for _, e := range list {
		if e.IsDir() {
			w.noEmptyFolder(dir + "/" + e.Name())
		}
	}
}

// honest says that no name has a content that it never had.
func (w *world) honest() {
	w.t.Helper()
	got, _ := w.found()
	for name, f := range got {
		if !w.held[name][f.content] {
			w.t.Fatalf("%s never was %.40q", name, f.content)
		}
	}
}

// cut lets the power fail and starts the box again.
func (w *world) cut(rng *rand.Rand) {
	w.disk = w.disk.PowerCut(rng)
	w.open()
}

// below is a folder of a disk.
type below struct {
	d   *vfstest.Disk
	dir string
}

func (b below) at(name string) string { return path.Join(b.dir, name) }

func (b below) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	return b.d.OpenFile(b.at(name), flag, perm)
}
func (b below) Rename(from, to string) error               { return b.d.Rename(b.at(from), b.at(to)) }
func (b below) Remove(name string) error                   { return b.d.Remove(b.at(name)) }
func (b below) Mkdir(name string, perm fs.FileMode) error  { return b.d.Mkdir(b.at(name), perm) }
func (b below) ReadDir(name string) ([]fs.DirEntry, error) { return b.d.ReadDir(b.at(name)) }
func (b below) Stat(name string) (fs.FileInfo, error)      { return b.d.Stat(b.at(name)) }
func (b below) SyncDir(name string) error                  { return b.d.SyncDir(b.at(name)) }
func (b below) SyncAll() error                             { return b.d.SyncAll() }
func (b below) Space() (vfs.Space, error)                  { return b.d.Space() }
func (b below) Lock(name string) (io.Closer, error)        { return b.d.Lock(b.at(name)) }

var _ vfs.FS = below{}
