package target

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a copy of some contents with one generation, as a box makes it.
type made struct {
	t        *testing.T
	disk     *vfstest.Disk
	key      Recovery
	box      *Target
	contents map[storage.Ref][]byte
	gen      Generation
	known    map[storage.Ref]Entry
}

func makeCopy(t *testing.T) *made {
	t.Helper()
	m := &made{t: t, disk: vfstest.NewDisk(), contents: map[storage.Ref][]byte{}, known: map[storage.Ref]Entry{}}
	var err error
	m.key, err = NewRecovery()
	must(t, err)
	public, err := m.key.Public()
	must(t, err)
	keys, err := NewKeys(public)
	must(t, err)
	m.box, err = Init(m.disk, keys, Identity{ID: strings.Repeat("a", 26), Box: "box", Created: time.Unix(1_800_000_000, 0)})
	must(t, err)
	for i := range 5 {
		m.put(bytes.Repeat(fmt.Appendf(nil, "content %d ", i), 1+i*600))
	}
	m.generation(map[string][]byte{"VOLUME": []byte("the volume"), "keys/ca.key": []byte("the key")})
	return m
}

func (m *made) put(content []byte) { m.contents[sha256.Sum256(content)] = content }

func (m *made) generation(state map[string][]byte) {
	m.t.Helper()
	must(m.t, m.tryGeneration(state))
}

func (m *made) tryGeneration(state map[string][]byte) error {
	w, err := m.box.Begin(m.t.Context(), time.Unix(1_800_000_100, 0))
	if err != nil {
		return err
	}
	defer w.Close()
	c := m.box.NewCopier()
	var entries []Entry
	refs := slices.SortedFunc(maps.Keys(m.contents), func(a, b storage.Ref) int { return m.box.Name(a).Compare(m.box.Name(b)) })
	for _, ref := range refs {
		there, err := c.Has(m.box.Name(ref))
		if err != nil {
			return err
		}
		e, ok := m.known[ref]
		if !ok || !there {
			if e, err = c.Put(m.t.Context(), ref, bytes.NewReader(m.contents[ref])); err != nil {
				return err
			}
			m.known[ref] = e
		}
		entries = append(entries, e)
	}
	if err := errors.Join(c.Flush(), c.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.Content(e); err != nil {
			return err
		}
	}
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	if err := errors.Join(
		w.File(FilesFile, text("files")), w.File(DatabaseFile, text("the database")),
		w.File(StateFile, func(w io.Writer) error { return WriteState(w, state, time.Unix(1_800_000_000, 0)) }),
	); err != nil {
		return err
	}
	m.gen, err = w.Seal()
	return err
}

func (m *made) restore() (Restored, *vfstest.Disk, error) {
	m.t.Helper()
	state := vfstest.NewDisk()
	r, err := m.restoreInto(state)
	return r, state, err
}

func (m *made) restoreInto(state vfs.FS) (Restored, error) {
	m.t.Helper()
	keys, err := m.key.Keys()
	must(m.t, err)
	t, err := Open(m.disk, keys, "")
	if err != nil {
		return Restored{}, err
	}
	return t.Restore(m.t.Context(), state, RestoreOptions{Lost: func(storage.Ref, string) {}, Step: func(int64, int64, int64) {}})
}

func TestRestore(t *testing.T) {
	t.Parallel()
	m := makeCopy(t)
	r, state, err := m.restore()
	must(t, err)
	if r.Contents != 5 || r.Damaged != 0 {
		t.Errorf("%+v", r)
	}
	for name, want := range map[string]string{"VOLUME": "the volume", "keys/ca.key": "the key", "box.db": "the database"} {
		if got, err := vfs.ReadFile(state, name); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	n, err := ReadNotice(state)
	if err != nil || n.Generation != 1 || n.Copy != strings.Repeat("a", 26) || n.Time.Unix() != 1_800_000_100 {
		t.Errorf("%+v %v", n, err)
	}
	if _, err := state.Stat(RestoringFile); err == nil {
		t.Error("it is still being restored")
	}
}

// The power fails around the seal: a generation that has one is whole.
func TestCutsAroundTheSeal(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	state := map[string][]byte{"VOLUME": []byte("the volume")}
	begin := func() (*made, int) {
		m := makeCopy(t)
		for e, err := range m.box.Contents(m.gen) {
			must(t, err)
			m.known[e.Ref] = e
		}
		m.put([]byte("another"))
		return m, m.disk.Calls(vfstest.OpAny)
	}
	m, before := begin()
	must(t, m.tryGeneration(state))
	calls, sealed, not := m.disk.Calls(vfstest.OpAny)-before, 0, 0
	for round := 0; round < 3 || min(sealed, not) < 3 && round < 50; round++ { // the dice may fall one way for long
		for _, back := range []int{0, 1, 1, 1, 1, 2, 3} { // right before the last call most of all: that makes the seal's name durable
			m, _ := begin()
			m.disk.CutIn(calls + 1 - back)
			_ = m.tryGeneration(state) // it says so, or was done
			m.disk = m.disk.PowerCut(rng)
			m.box = &Target{fsys: m.disk, keys: m.box.keys, id: m.box.id}
			_, bad, err := m.box.Generations()
			must(t, err)
			if bad > 0 {
				t.Fatalf("%d calls before the end: a generation has a seal and does not hold", back)
			}
			c, err := m.box.Verify(t.Context(), true, func(d Damage) error { return fmt.Errorf("%s: %s", d.File, d.Reason) }, func(int64, int64) {})
			if err != nil {
				t.Fatalf("%d calls before the end: %v", back, err)
			}
			if c.Generation.Number == 2 {
				sealed++
			} else {
				not++
			}
		}
	}
	if sealed < 3 || not < 3 {
		t.Errorf("%d cuts came after the seal, %d before it", sealed, not)
	}
}

// A restore that is cut off at any call goes on where it was, and until it is done
// no box starts on what there is.
func TestARestoreIsResumed(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	m := makeCopy(t)
	for range 20 {
		state, cuts := vfstest.NewDisk(), 0
		for {
			if cuts < 4 {
				state.CutIn(1 + rng.IntN(900))
			}
			_, err := m.restoreInto(state)
			state = state.PowerCut(rng)
			if err == nil {
				break
			}
			cuts++
			_, volume := state.Stat("VOLUME")
			_, mark := state.Stat(RestoringFile)
			if volume == nil && mark != nil {
				break // the cut came when all was done: what follows must hold
			}
		}
		for _, name := range []string{"box.db", "keys/ca.key", RestoredFile} {
			if _, err := state.Stat(name); err != nil {
				t.Fatalf("after %d cuts a half restored box looks whole: %v", cuts, err)
			}
		}
		for ref, want := range m.contents {
			if got, err := vfs.ReadFile(state, "blobs/"+ref.String()[:2]+"/"+ref.String()); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("after %d cuts: %s: %v", cuts, ref, err)
			}
		}
		if _, err := state.Stat("VOLUME"); err != nil {
			t.Fatal(err)
		}
	}
}

// What somebody else has put on the disk is not believed: nothing is restored that
// the key did not seal, nothing is written outside of what belongs to a box, and
// nothing hangs.
func TestAHostileTarget(t *testing.T) {
	t.Parallel()
	replace := func(m *made, name string, data []byte) {
		m.t.Helper()
		must(m.t, vfs.WriteFile(m.disk, name, data, 0o600))
	}
	// Whoever knows the recipient can encrypt; not even that is on the target.
	forged := func(m *made, name string, text []byte) {
		m.t.Helper()
		e, err := m.box.put(m.t.Context(), name, false, func(w io.Writer) error { _, err := w.Write(text); return err })
		must(m.t, err)
		must(m.t, m.disk.Rename(name+tempSuffix, name))
		sums, err := vfs.ReadFile(m.disk, genPath(1, sumsFile))
		must(m.t, err)
		var out strings.Builder
		for line := range strings.Lines(string(sums)) {
			if strings.HasSuffix(line, "  "+name+"\n") {
				line = sumLine(e.Sum, name)
			}
			out.WriteString(line)
		}
		replace(m, genPath(1, sumsFile), []byte(out.String()))
	}
	// resealed is what only the holder of the key could do: the last line of defence.
	resealed := func(m *made) {
		m.t.Helper()
		sum, _, err := m.box.hash(m.t.Context(), genPath(1, sumsFile))
		must(m.t, err)
		m.gen.sums = fmt.Sprintf("%x", sum)
		replace(m, genPath(1, sealFile), m.gen.marshal(m.box.keys))
	}
	tarOf := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			must(t, w.WriteHeader(&h))
			_, err := w.Write(make([]byte, h.Size))
			must(t, err)
		}
		must(t, w.Close())
		return b.Bytes()
	}
	for name, do := range map[string]func(m *made){
		"a database that is not ours": func(m *made) { forged(m, genPath(1, DatabaseFile), []byte("mallory is the owner")) },
		"another number": func(m *made) {
			must(m.t, m.disk.Rename("generations/00000001", "generations/00000002"))
		},
		"a seal of zeros":     func(m *made) { replace(m, genPath(1, sealFile), make([]byte, 300)) },
		"a seal of gigabytes": func(m *made) { replace(m, genPath(1, sealFile), make([]byte, 10<<20)) },
		"a seal with a line more": func(m *made) {
			b, err := vfs.ReadFile(m.disk, genPath(1, sealFile))
			must(m.t, err)
			replace(m, genPath(1, sealFile), append(b, "more\n"...))
		},
		"no identity":       func(m *made) { must(m.t, m.disk.Remove(IdentityFile)) },
		"identity of 10 MB": func(m *made) { replace(m, IdentityFile, bytes.Repeat([]byte("x"), 10<<20)) },
		"a folder as list": func(m *made) {
			must(m.t, m.disk.Remove(genPath(1, contentsFile)))
			must(m.t, m.disk.Mkdir(genPath(1, contentsFile), 0o700))
		},
		"a way out in the state": func(m *made) {
			forged(m, genPath(1, StateFile), tarOf(tar.Header{Name: "../evil", Mode: 0o600, Size: 3}, tar.Header{Name: "VOLUME", Size: 3}))
			resealed(m)
		},
		"a deep way out in the state": func(m *made) {
			forged(m, genPath(1, StateFile), tarOf(tar.Header{Name: "keys/../../evil", Mode: 0o600, Size: 3}, tar.Header{Name: "VOLUME", Size: 3}))
			resealed(m)
		},
		"a link in the state": func(m *made) {
			forged(m, genPath(1, StateFile), tarOf(tar.Header{Name: "keys/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, tar.Header{Name: "VOLUME", Size: 3}))
			resealed(m)
		},
		"blobs in the state": func(m *made) {
			forged(m, genPath(1, StateFile), tarOf(tar.Header{Name: "blobs/aa/x", Mode: 0o600, Size: 3}, tar.Header{Name: "VOLUME", Size: 3}))
			resealed(m)
		},
		"a file of gigabytes in the state": func(m *made) {
			forged(m, genPath(1, StateFile), tarOf(tar.Header{Name: "keys/x", Mode: 0o600, Size: maxKept + 1}, tar.Header{Name: "VOLUME", Size: 3}))
			resealed(m)
		},
		"a state without a volume": func(m *made) {
			forged(m, genPath(1, StateFile), tarOf(tar.Header{Name: "keys/x", Mode: 0o600, Size: 3}))
			resealed(m)
		},
		"a list that leads elsewhere": func(m *made) {
			forged(m, genPath(1, contentsFile), []byte(strings.Repeat("a", 64)+" ../../../etc/shadow 5\n"))
			resealed(m)
		},
		"a content under the name of another": func(m *made) {
			var list []Entry
			for e, err := range m.box.Contents(m.gen) {
				must(m.t, err)
				list = append(list, e)
			}
			list[0].Ref, list[1].Ref = list[1].Ref, list[0].Ref
			var text strings.Builder
			for _, e := range list {
				text.WriteString(e.contentLine())
			}
			forged(m, genPath(1, contentsFile), []byte(text.String()))
			resealed(m)
		},
		"a list without an end": func(m *made) {
			forged(m, genPath(1, contentsFile), bytes.Repeat([]byte("x"), 1<<20))
			resealed(m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := makeCopy(t)
			m.t = t
			do(m)
			_, state, err := m.restore()
			p := problem.As(err)
			if err == nil || p.Kind == problem.Internal || p.Hint == "" {
				t.Errorf("%v", err)
			}
			for _, name := range []string{"VOLUME", "box.db", "evil", "keys/x"} {
				if _, err := state.Stat(name); err == nil && name != "box.db" && name != "keys/x" {
					t.Errorf("%s was written", name)
				}
			}
		})
	}
	// The same for whoever has nothing but a real disk: pipes and links.
	dir := t.TempDir()
	real, err := vfs.OpenDir(dir)
	must(t, err)
	defer real.Close()
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, IdentityFile)))
	if _, err := ReadIdentity(real); err == nil {
		t.Error("a link out of the target was followed")
	}
}

// Nobody initialises a copy over what is not ours.
func TestInitRefusesForeignFolders(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(d *vfstest.Disk){
		"a file":   func(d *vfstest.Disk) { must(t, vfs.WriteFile(d, "holiday.jpg", []byte("x"), 0o600)) },
		"a folder": func(d *vfstest.Disk) { must(t, d.Mkdir("photos", 0o700)) },
		"a copy":   func(d *vfstest.Disk) { must(t, vfs.WriteFile(d, IdentityFile, []byte("x"), 0o600)) },
		"lost identity": func(d *vfstest.Disk) {
			must(t, errors.Join(d.Mkdir("data", 0o700), d.Mkdir("data/aa", 0o700), vfs.WriteFile(d, "data/aa/x.age", []byte("x"), 0o600)))
		},
	} {
		d := vfstest.NewDisk()
		do(d)
		before := d.Calls(vfstest.OpCreate | vfstest.OpMkdir | vfstest.OpRemove)
		key, err := NewRecovery()
		must(t, err)
		keys, err := key.Keys()
		must(t, err)
		if _, err := Init(d, keys, Identity{}); problem.KindOf(err) != problem.Conflict || d.Calls(vfstest.OpCreate|vfstest.OpMkdir|vfstest.OpRemove) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that was cut off is taken up.
	for n := 1; n < 600; n += 37 {
		d := vfstest.NewDisk()
		key, err := NewRecovery()
		must(t, err)
		keys, err := key.Keys()
		must(t, err)
		d.CutIn(n)
		_, err = Init(d, keys, Identity{ID: "a", Box: "b", Created: time.Unix(1_800_000_000, 0)})
		if d = d.PowerCut(rand.New(rand.NewPCG(uint64(n), 0))); err == nil {
			_, err := ReadIdentity(d)
			must(t, err)
			continue
		}
		if _, err := ReadIdentity(d); err == nil {
			continue
		}
		if _, err := Init(d, keys, Identity{ID: "a", Box: "b", Created: time.Unix(1_800_000_000, 0)}); err != nil {
			t.Fatalf("after a cut at call %d: %v", n, err)
		}
	}
}

// The order and the names on the target say nothing about the contents, and the
// sorter gives what was added, in order, the newest of each name.
func TestSorter(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	for range 30 {
		s := NewSorter(t.TempDir())
		s.limit = 1 + rng.IntN(50)
		want := map[Name]Record{}
		for range rng.IntN(400) {
			r := Record{Size: rng.Int64()}
			r.Name[0], r.Name[31] = byte(rng.IntN(4)), byte(rng.IntN(40))
			r.Value[5] = byte(rng.IntN(256))
			must(t, s.Add(r))
			want[r.Name] = r
			if rng.IntN(200) == 0 { // read in between
				for range s.All() {
				}
			}
		}
		for range 2 {
			got := map[Name]Record{}
			var last Name
			for r, err := range s.All() {
				must(t, err)
				if len(got) > 0 && last.Compare(r.Name) >= 0 {
					t.Fatal("out of order")
				}
				last = r.Name
				r.seq = 0
				got[r.Name] = r
			}
			if !maps.Equal(got, want) {
				t.Fatalf("%d of %d", len(got), len(want))
			}
		}
		must(t, s.Close())
	}
}

// A content is never put under its name with other bytes, and a disk that gives
// back other bytes than were written is noticed at once.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	m := makeCopy(t)
	c := m.box.NewCopier()
	if _, err := c.Put(t.Context(), sha256.Sum256([]byte("this")), strings.NewReader("that")); !errors.Is(err, ErrSource) {
		t.Errorf("other bytes: %v", err)
	}
	if _, err := c.Put(t.Context(), sha256.Sum256([]byte("this")), io.MultiReader(strings.NewReader("th"), failing{})); !errors.Is(err, ErrSource) {
		t.Errorf("a source that fails: %v", err)
	}
	must(t, c.Close())
	liar := &lying{FS: m.disk}
	tt := &Target{fsys: liar, keys: m.box.keys}
	if _, err := tt.put(t.Context(), "data/00/x", true, func(w io.Writer) error { _, err := w.Write([]byte("abc")); return err }); err == nil {
		t.Error("a disk that gives back other bytes was believed")
	}
	if _, err := m.disk.Stat("data/00/x" + tempSuffix); err == nil {
		t.Error("what is not right stays")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("a bad sector") }

// lying is a disk that gives back other bytes.
type lying struct{ vfs.FS }

func (l *lying) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	return lyingFile{f}, err
}

type lyingFile struct{ vfs.File }

func (f lyingFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func TestKeys(t *testing.T) {
	t.Parallel()
	r, err := NewRecovery()
	must(t, err)
	again, err := ParseRecovery("# a comment\n\n" + strings.ToLower(r.String()) + "\r\n")
	if err != nil || again.String() != r.String() {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "x", r.String()[:73], r.String() + "\n" + r.String(), strings.Replace(r.String(), "AGE", "EGA", 1)} {
		if _, err := ParseRecovery(bad); problem.KindOf(err) != problem.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	public, err := r.Public()
	must(t, err)
	if s := public.Recipient + public.Master; strings.Contains(s, r.String()) {
		t.Error("what the box keeps shows the key")
	}
	k, err := NewKeys(public)
	must(t, err)
	text := k.Marshal()
	if bytes.Contains(text, []byte(r.String())) {
		t.Error("the box keeps the key")
	}
	back, err := ParseKeys(text)
	if err != nil || back.check != k.check || back.own.String() != k.own.String() {
		t.Error(err)
	}
	for i := range text {
		spoilt := bytes.Clone(text)
		spoilt[i] ^= 1
		if _, err := ParseKeys(spoilt); err == nil {
			t.Fatalf("a flipped bit at %d is not noticed", i)
		}
	}
	ref := storage.Ref(sha256.Sum256([]byte("x")))
	other, err := NewRecovery()
	must(t, err)
	ok, err := other.Keys()
	must(t, err)
	mine, err := r.Keys()
	must(t, err)
	if n := k.Name(ref); n != mine.Name(ref) || n == ok.Name(ref) || bytes.Equal(n[:], ref[:]) {
		t.Error("names do not hang on the recovery key alone")
	}
}

func FuzzTexts(f *testing.F) {
	k, err := NewRecovery()
	if err != nil {
		f.Fatal(err)
	}
	keys, err := k.Keys()
	if err != nil {
		f.Fatal(err)
	}
	e := Entry{Name: Name{1}, Ref: storage.Ref{2}, Sum: [32]byte{3}, Size: 4}
	f.Add(Generation{Number: 1, Time: time.Unix(0, 0)}.marshal(keys))
	f.Add([]byte(e.contentLine()))
	f.Add([]byte(e.copiedLine()))
	f.Add([]byte(strings.Replace(e.contentLine(), " 4", " +4", 1)))
	f.Add([]byte(strings.Replace(e.copiedLine(), " 4", " 04", 1)))
	f.Add([]byte(sumLine(e.Sum, e.Name.path())))
	f.Add(keys.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		line := strings.TrimSuffix(string(data), "\n")
		if e, err := parseContentLine(line); err == nil && e.contentLine() != line+"\n" {
			t.Errorf("%q is read as %q", line, e.contentLine())
		}
		if e, ok := parseCopiedLine(line); ok && e.copiedLine() != line+"\n" {
			t.Errorf("%q is read as %q", line, e.copiedLine())
		}
		if sum, p, err := parseSumLine(line); err == nil && sumLine(sum, p) != line+"\n" {
			t.Errorf("%q is read as another", line)
		}
		if g, err := parseSeal(data, keys, 1); err == nil && !bytes.Equal(g.marshal(keys), data) {
			t.Error("a seal is read as another")
		}
		ParseKeys(data)
		fields(data, "yunbox backup 1", "id")
	})
}
