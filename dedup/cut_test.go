package dedup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/cryptotest"
	"time"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// cutDisk is a disk that loses power: the tree and the notes lie on one.
type cutDisk struct{ d *vfstest.Disk }

const cutRoot = "tree"

func at(name string) string { return path.Join(cutRoot, name) }

func (c cutDisk) open(name string) (file, error) {
	f, err := c.d.OpenFile(at(name), vfs.ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	number, _, err := c.d.Identity(at(name))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &cutFile{File: f, c: c, name: name, number: number}, nil
}

func (c cutDisk) stat(name string) (Facts, error) {
	info, err := c.d.Stat(at(name))
	if err != nil {
		return Facts{}, err
	}
	if !info.Mode().IsRegular() {
		return Facts{}, errNotAFile
	}
	number, _, err := c.d.Identity(at(name))
	return Facts{Volume: 1, Inode: number, Size: info.Size(), Mtime: info.ModTime().UnixNano(), Ctime: 1}, err
}

func (c cutDisk) links(name string) (uint64, error) {
	_, n, err := c.d.Identity(at(name))
	return uint64(n), err
}

func (c cutDisk) link(name, other string) error { return c.d.Link(at(name), at(other)) }
func (c cutDisk) exchange(a, b string) error    { return c.d.Exchange(at(a), at(b)) }
func (c cutDisk) remove(name string) error      { return c.d.Remove(at(name)) }
func (c cutDisk) sync(dir string) error         { return c.d.SyncDir(at(dir)) }

func (c cutDisk) move(name, to string) error {
	if _, err := c.d.Stat(at(to)); err == nil {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EEXIST}
	}
	return c.d.Rename(at(name), at(to))
}

func (c cutDisk) mkdir(name string) error {
	if err := c.d.Mkdir(at(name), 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (c cutDisk) write(name string, content io.Reader, _ meta) error {
	f, err := c.d.OpenFile(at(name), vfs.CreateNew, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{f}, content)
	return errors.Join(err, f.Sync(), f.Close())
}

type cutFile struct {
	vfs.File
	c      cutDisk
	name   string
	number uint64
}

func (f *cutFile) facts() (Facts, error) {
	info, err := f.Stat()
	if err != nil {
		return Facts{}, err
	}
	return Facts{Volume: 1, Inode: f.number, Size: info.Size(), Mtime: info.ModTime().UnixNano(), Ctime: 1}, nil
}

// meta asks by the name: nobody else renames here.
func (f *cutFile) meta() (meta, error) {
	_, links, err := f.c.d.Identity(at(f.name))
	return meta{Links: uint64(links)}, err
}

func (f *cutFile) sync() error                             { return f.Sync() }
func (f *cutFile) lease(bool) error                        { return nil }
func (f *cutFile) undisturbed() bool                       { return true }
func (f *cutFile) share(file, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }
func (c cutDisk) folder() *Folder                          { return &Folder{work: c.work(), disk: c, name: "/" + cutRoot} }
func (c cutDisk) work() Work                               { return Work{c.d, "notes"} }

// all reads every file of the tree.
func (c cutDisk) all(t *testing.T, dir string, into map[string]string) {
	t.Helper()
	entries, err := c.d.ReadDir(at(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			c.all(t, name, into)
			continue
		}
		b, err := vfs.ReadFile(c.d, at(name))
		if err != nil {
			t.Fatal(err)
		}
		into[name] = string(b)
	}
}

// newCutDisk makes groups of equal files and a plan for them, all durable.
func newCutDisk(t *testing.T, rng *rand.Rand, action Action) (c cutDisk, id string, before map[string]string) {
	t.Helper()
	c = cutDisk{vfstest.NewDisk()}
	now := time.Unix(1e9, 0)
	c.d.SetNow(func() time.Time { return now })
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for _, dir := range []string{cutRoot, "notes", at("a"), at("b"), at("b/deep")} {
		must(c.d.Mkdir(dir, 0o755))
	}
	dirs := []string{".", "a", "b", "b/deep"}
	p := Plan{ID: newID(), Root: "/" + cutRoot, Action: action, AnyTime: true, Created: now.UTC()}
	w, err := c.work().newPlan(p.ID)
	must(err)
	w.line(p)
	var sum PlanSum
	for g := range 1 + rng.IntN(4) {
		content := bytes.Repeat([]byte{byte('a' + g)}, 1+rng.IntN(3000))
		var files []PlanFile
		for i := range 2 + rng.IntN(3) {
			name := path.Join(dirs[rng.IntN(len(dirs))], fmt.Sprintf("%d-%d", g, i))
			must(vfs.WriteFile(c.d, at(name), content, 0o644))
			f, err := c.stat(name)
			must(err)
			files = append(files, PlanFile{Path(name), f})
		}
		w.line(PlanGroup{Ref: refOf(content), Size: int64(len(content)), Keep: files[0], Fold: files[1:]})
		sum.Files += int64(len(files) - 1)
	}
	w.line(sum)
	must(w.publish())
	must(c.d.SyncAll())
	before = map[string]string{}
	c.all(t, ".", before)
	return c, p.ID, before
}

func refOf(b []byte) storage.Ref { return storage.Ref(sha256.Sum256(b)) }

// A cut at any call, of apply or undo, and again in the middle of what follows: every
// file has its bytes by its name or in the trash, every content has a copy in its
// place, and in the end apply or undo does all that it should. R13
func TestPowerCutWhileFolding(t *testing.T) {
	foldWithCuts(t, vfstest.Seed(t), rounds())
}

// The same seed cuts at the same calls and finds the same.
func TestSameSeedFoldsTheSame(t *testing.T) {
	var first string
	for run := range 2 {
		t.Run("", func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1) // the ids of plans
			if told := foldWithCuts(t, rand.New(rand.NewPCG(1, 0)), 30); run == 0 {
				first = told
			} else if told != first {
				t.Errorf("first %s, then %s", first, told)
			}
		})
	}
}

// foldWithCuts does what TestPowerCutWhileFolding says, and tells all that happened.
func foldWithCuts(t *testing.T, rng *rand.Rand, rounds int) (told string) {
	t.Helper()
	var all strings.Builder
	for round := range rounds {
		action := []Action{Trash, Hardlink}[round%2]
		c, id, before := newCutDisk(t, rng, action)
		undoing := rng.IntN(3) == 0
		var trail []string
		for tries := 0; ; tries++ {
			if tries < 4 {
				c.d.CutIn(1 + rng.IntN(120))
			}
			var err error
			what := "apply"
			if undoing {
				what = "undo"
				if info, e := c.work().Plan("/"+cutRoot, ""); e == nil && info.State == Planned {
					what = "apply"
				}
			}
			if what == "apply" {
				_, err = c.folder().Apply(context.Background(), id, nil)
			} else {
				_, err = c.folder().Undo(context.Background(), id, nil)
			}
			trail = append(trail, fmt.Sprint(what, ": ", err))
			_, off := c.d.Stat(cutRoot)
			if err == nil && (what == "undo" || !undoing) && off == nil {
				break
			}
			if errors.Is(err, ErrState) { // applied, and the end was told in time
				if what == "apply" {
					break
				}
			}
			if tries > 20 {
				t.Fatalf("round %d: no end: %s", round, strings.Join(trail, "\n"))
			}
			if rng.IntN(3) == 0 {
				c.d = c.d.Kill()
			} else {
				c.d = c.d.PowerCut(rng)
			}
			c.mustHaveAll(t, id, before, round, trail)
		}
		c.d = c.d.Kill()
		c.mustHaveAll(t, id, before, round, trail)
		after := map[string]string{}
		c.all(t, ".", after)
		for name := range after {
			if strings.Contains(name, tempPrefix) {
				t.Fatalf("round %d: %s is left\n%s", round, name, strings.Join(trail, "\n"))
			}
		}
		if !undoing {
			folded := 0
			for name := range before {
				if _, links, err := c.d.Identity(at(name)); err != nil || links > 1 {
					folded++
				}
			}
			if folded == 0 {
				t.Fatalf("round %d: nothing was folded\n%s", round, strings.Join(trail, "\n"))
			}
			if r, err := c.folder().Undo(context.Background(), id, nil); err != nil || r.Left.N > 0 {
				t.Fatalf("round %d: %+v, %v\n%s", round, r, err, strings.Join(trail, "\n"))
			}
			clear(after)
			c.all(t, ".", after)
		}
		if !maps.Equal(before, after) {
			t.Fatalf("round %d (%s): %q, want %q\n%s", round, action, slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)), strings.Join(trail, "\n"))
		}
		for name := range before {
			if _, links, err := c.d.Identity(at(name)); err != nil || links != 1 {
				t.Fatalf("round %d: %s has %d names, %v\n%s", round, name, links, err, strings.Join(trail, "\n"))
			}
		}
		fmt.Fprintf(&all, "round %d: %q, %d calls\n", round, trail, c.d.Calls(vfstest.OpAny))
	}
	return all.String()
}

func (c cutDisk) mustHaveAll(t *testing.T, id string, before map[string]string, round int, trail []string) {
	t.Helper()
	now := map[string]string{}
	c.all(t, ".", now)
	inPlace := map[string]bool{}
	for name, content := range before {
		if now[name] == content {
			inPlace[content] = true
		}
	}
	for name, content := range before {
		if got, ok := now[name]; ok {
			if got != content {
				t.Fatalf("round %d: %s has other bytes\n%s", round, name, strings.Join(trail, "\n"))
			}
			continue
		}
		if now[TrashName+"/dedup-"+id+"/"+name] != content {
			t.Fatalf("round %d: %s is nowhere: %q\n%s", round, name, slices.Sorted(maps.Keys(now)), strings.Join(trail, "\n"))
		}
		if !inPlace[content] {
			t.Fatalf("round %d: no copy of %s is in its place\n%s", round, name, strings.Join(trail, "\n"))
		}
	}
}

// Any single call fails, by the disk or for want of room: nothing is lost, and
// nothing that was not done counts as done.
func TestFaultsWhileFolding(t *testing.T) {
	rng := vfstest.Seed(t)
	for _, action := range []Action{Trash, Hardlink} {
		for nth := 1; nth < 400; nth++ {
			c, id, before := newCutDisk(t, rng, action)
			c.d.Fail(vfstest.Fault{Nth: nth, Err: []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE}[rng.IntN(3)]})
			_, err := c.folder().Apply(context.Background(), id, nil)
			if c.d.Pending() {
				break
			}
			trail := []string{fmt.Sprintf("%s, call %d: %v", action, nth, err)}
			c.d = c.d.Kill()
			c.mustHaveAll(t, id, before, nth, trail)
			if _, err := c.folder().Apply(context.Background(), id, nil); err != nil && !errors.Is(err, ErrState) {
				t.Fatalf("%s: then %v", trail, err)
			}
			c.mustHaveAll(t, id, before, nth, trail)
			if _, err := c.folder().Undo(context.Background(), id, nil); err != nil && !errors.Is(err, ErrState) {
				t.Fatalf("%s: undo: %v", trail, err)
			}
			after := map[string]string{}
			c.all(t, ".", after)
			for name, content := range before {
				if after[name] != content {
					t.Fatalf("%s: after undo %s is %q", trail, name, after[name])
				}
			}
		}
	}
}

// rounds is how many cuts are tried: few in each run, since it runs often.
func rounds() int {
	if long() {
		return 10_000
	}
	return 200
}

// long says that there is time: YUNBOX_DEDUP_LONG=1 go test ./dedup
func long() bool { return os.Getenv("YUNBOX_DEDUP_LONG") != "" }
