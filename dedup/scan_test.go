package dedup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// place is a tree with a Work beside it.
type place struct {
	t    testing.TB
	root string
	work Work
}

func newPlace(t testing.TB) *place {
	t.Helper()
	return placeIn(t, t.TempDir())
}

// quickPlace lies in memory if it can: for tests of thousands of files.
func quickPlace(t testing.TB) *place {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "yunbox-dedup-")
	if err != nil {
		return newPlace(t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return placeIn(t, dir)
}

// placeIn makes both in a folder, so that they can lie on a file system of choice.
func placeIn(t testing.TB, base string) *place {
	t.Helper()
	p := &place{t: t, root: filepath.Join(base, "tree")}
	for _, dir := range []string{p.root, filepath.Join(base, "state", "w")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	state, err := vfs.OpenDir(filepath.Join(base, "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Close() })
	p.work = Work{state, "w"}
	return p
}

func (p *place) open() *Folder {
	p.t.Helper()
	f, err := Open(p.root, p.work)
	if err != nil {
		p.t.Fatal(err)
	}
	f.settled = -time.Hour // files that were made a moment ago are remembered too
	p.t.Cleanup(func() { f.Close() })
	return f
}

func (p *place) path(name string) string { return filepath.Join(p.root, filepath.FromSlash(name)) }

func (p *place) put(name string, content []byte) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), content, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// at sets the time of change of a file, in seconds since 1970.
func (p *place) at(name string, sec int64) {
	p.t.Helper()
	if err := os.Chtimes(p.path(name), time.Unix(sec, 0), time.Unix(sec, 0)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) link(name, other string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(other)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Link(p.path(name), p.path(other)); err != nil {
		p.t.Fatal(err)
	}
}

// contents reads all regular files.
func (p *place) contents() map[string]string {
	p.t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(p.root, path)
		m[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// scan returns the groups as sorted lists of paths.
func (p *place) scan(opt ScanOptions) (*Report, [][]string) {
	p.t.Helper()
	var groups [][]string
	r, err := p.open().Scan(context.Background(), opt, func(g Group) error {
		var names []string
		for _, m := range g.Files {
			names = append(names, string(m.Path))
		}
		slices.Sort(names)
		groups = append(groups, names)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	slices.SortFunc(groups, slices.Compare)
	return r, groups
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func wantGroups(t *testing.T, got [][]string, want ...[]string) {
	t.Helper()
	slices.SortFunc(want, slices.Compare)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("groups are %q, want %q", got, want)
	}
}

func TestScanFindsWhatIsEqual(t *testing.T) { // R13
	p, rng := newPlace(t), rand.New(rand.NewPCG(1, 2))
	small, large := noise(rng, 3000), noise(rng, 700_000)
	p.put("a/one.jpg", small)
	p.put("b/two.jpg", small)
	p.put("three.jpg", small)
	p.put("film.mp4", large)
	p.put("b/film copy.mp4", large)
	p.put("alone.bin", noise(rng, 4000))
	p.put("empty", nil)
	p.put("b/empty too", nil)
	// Of the same size with the same ends, and of the same size only.
	ends := bytes.Clone(large)
	ends[350_000] ^= 1
	p.put("same ends.mp4", ends)
	other := bytes.Clone(small)
	other[0] ^= 1
	p.put("same size.jpg", other)
	// Links are one file.
	p.link("alone.bin", "links/alone too.bin")
	p.link("three.jpg", "links/three too.jpg")
	if err := os.Symlink("one.jpg", p.path("a/link.jpg")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", p.path("folder link")); err != nil {
		t.Fatal(err)
	}
	p.put(".yunbox-trash/x.jpg", small)
	p.put("odd \xff name.jpg", small)

	var seen []Progress
	r, groups := p.scan(ScanOptions{Progress: func(p Progress) { seen = append(seen, p) }})
	wantGroups(t, groups,
		[]string{"a/one.jpg", "b/two.jpg", "links/three too.jpg", "odd \xff name.jpg", "three.jpg"},
		[]string{"b/film copy.mp4", "film.mp4"})
	if r.Files != 13 || r.Empty != 2 || r.Linked != 2 || r.Groups != 2 || r.Same != 4 || r.Unreadable.N+r.Changed.N != 0 {
		t.Errorf("%+v", r)
	}
	if r.Free != 3*3000+700_000 {
		t.Errorf("%d bytes could be freed", r.Free)
	}
	if len(seen) == 0 || seen[len(seen)-1].Files == 0 {
		t.Errorf("progress: %+v", seen)
	}

	// A second run reads nothing, a changed file is read again.
	again, groups := p.scan(ScanOptions{})
	if again.ReadFiles != 0 || again.ReadBytes != 0 || len(groups) != 2 {
		t.Errorf("the second run read %d files, %d bytes, and found %q", again.ReadFiles, again.ReadBytes, groups)
	}
	p.put("b/two.jpg", other)
	third, groups := p.scan(ScanOptions{})
	wantGroups(t, groups,
		[]string{"a/one.jpg", "links/three too.jpg", "odd \xff name.jpg", "three.jpg"},
		[]string{"b/film copy.mp4", "film.mp4"}, []string{"b/two.jpg", "same size.jpg"})
	if third.ReadFiles != 1 || third.ReadBytes != 3000 {
		t.Errorf("the third run read %d files", third.ReadFiles)
	}
}

// The links of one file, and files of a size of their own, are not read.
func TestScanReadsNoLinks(t *testing.T) {
	p := newPlace(t)
	p.put("a", []byte("linked"))
	p.link("a", "b")
	p.link("a", "c")
	p.put("d", []byte("of another size"))
	if r, groups := p.scan(ScanOptions{}); r.ReadFiles != 0 || r.Linked != 2 || len(groups) != 0 {
		t.Errorf("%+v %q", r, groups)
	}
}

// A file whose change a clock could not tell from the reading of it is not remembered.
func TestScanForgetsWhatIsTooYoung(t *testing.T) {
	p := newPlace(t)
	p.put("a", []byte("same"))
	p.put("b", []byte("same"))
	for range 2 {
		f := p.open()
		f.settled = settled
		r, err := f.Scan(context.Background(), ScanOptions{}, func(Group) error { return nil })
		if err != nil || r.ReadFiles != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}

// What changes between the listing and the reading is told, and is in no group.
func TestScanTellsWhatChanged(t *testing.T) {
	p := newPlace(t)
	p.put("a", []byte("same"))
	p.put("b", []byte("same"))
	p.put("c", []byte("same"))
	f := p.open()
	changed := false
	r, err := f.Scan(context.Background(), ScanOptions{Progress: func(pr Progress) {
		if pr.Stage == Listing && pr.Files == 3 && !changed {
			changed = true // listed, not read yet
			p.put("c", []byte("more"))
			os.Remove(p.path("b"))
			os.Symlink("a", p.path("b"))
		}
	}}, func(g Group) error { t.Errorf("%+v", g); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if !changed || r.Changed.N != 2 || len(r.Changed.List) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestScanTellsWhatCannotBeRead(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read everything")
	}
	p := newPlace(t)
	for _, name := range []string{"a", "b", "c", "closed/d"} {
		p.put(name, []byte("same"))
	}
	os.Chmod(p.path("c"), 0)
	os.Chmod(p.path("closed"), 0)
	defer os.Chmod(p.path("closed"), 0o755)
	r, groups := p.scan(ScanOptions{})
	wantGroups(t, groups, []string{"a", "b"})
	if r.Unreadable.N != 2 {
		t.Errorf("%+v", r)
	}
}

func TestScanAsksWhatTheBoxHas(t *testing.T) {
	p := newPlace(t)
	p.put("a", []byte("in the box"))
	p.put("b", []byte("twice"))
	p.put("c", []byte("twice"))
	has := map[storage.Ref]bool{sha256.Sum256([]byte("in the box")): true, sha256.Sum256([]byte("twice")): true}
	known := func(_ context.Context, refs []storage.Ref) (list []storage.Ref, _ error) {
		for _, r := range refs {
			if has[r] {
				list = append(list, r)
			}
		}
		return list, nil
	}
	r, groups := p.scan(ScanOptions{Known: known})
	if r.InBox != 2 || r.InBoxBytes != 10 || len(groups) != 1 {
		t.Errorf("%+v %q", r, groups)
	}
	r, groups = p.scan(ScanOptions{Known: known, All: true})
	if r.InBox != 3 || r.InBoxBytes != 20 || len(groups) != 1 || r.Groups != 1 || r.Same != 1 {
		t.Errorf("%+v %q", r, groups)
	}
}

// Sorted runs in files give what sorting in memory gives.
func TestSorterSpills(t *testing.T) {
	p, rng := newPlace(t), rand.New(rand.NewPCG(3, 4))
	for _, length := range []int{7, 100, 5000} {
		s := newSorter(&scratch{work: p.work}, bySize())
		s.length = length
		var all []record
		for i := range 1000 {
			r := record{Facts: Facts{Volume: 1, Inode: rng.Uint64N(50), Size: rng.Int64N(40)}, name: int64(i), links: 3, known: knowsFull}
			r.full[31], r.ends[15] = byte(i), byte(i)
			all = append(all, r)
			s.add(&r)
		}
		slices.SortFunc(all, func(a, b record) int { return bySize().cmp(&a, &b) })
		i := 0
		for r, err := range s.each() {
			if err != nil || *r != all[i] {
				t.Fatalf("runs of %d: %d is %+v, want %+v, %v", length, i, r, all[i], err)
			}
			i++
		}
		if i != len(all) {
			t.Fatalf("runs of %d: %d records", length, i)
		}
	}
	left, err := p.work.FS.ReadDir("w")
	if err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

func TestNamesSpill(t *testing.T) {
	p := newPlace(t)
	n := &names{scratch: &scratch{work: p.work}, limit: 64 << 10}
	defer n.close()
	dir := int64(noFolder)
	var at []int64
	var want []string
	path := ""
	for i := range 10_000 {
		if i%2000 == 0 {
			var err error
			if dir, err = n.add(dir, []byte(fmt.Sprint("folder", i))); err != nil {
				t.Fatal(err)
			}
			path = strings.TrimPrefix(path+"/"+fmt.Sprint("folder", i), "/")
		}
		name := fmt.Sprint(strings.Repeat("x", i%240), i)
		a, err := n.add(dir, []byte(name))
		if err != nil {
			t.Fatal(err)
		}
		at, want = append(at, a), append(want, path+"/"+name)
	}
	if n.flushed == 0 {
		t.Fatal("nothing was spilled")
	}
	for i, a := range at {
		if got, err := n.path(a); err != nil || got != want[i] {
			t.Fatalf("%d: %q, want %q, %v", i, got, want[i], err)
		}
	}
}
