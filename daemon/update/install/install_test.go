package install_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/update/bundle"
	"yunbox.local/daemon/update/install"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// below is a folder of a disk.
type below struct {
	*vfstest.Disk
	dir string
}

func (b below) at(name string) string { return path.Join(b.dir, name) }
func (b below) OpenFile(n string, flag int, perm fs.FileMode) (vfs.File, error) {
	return b.Disk.OpenFile(b.at(n), flag, perm)
}
func (b below) Rename(o, n string) error                { return b.Disk.Rename(b.at(o), b.at(n)) }
func (b below) Remove(n string) error                   { return b.Disk.Remove(b.at(n)) }
func (b below) Mkdir(n string, perm fs.FileMode) error  { return b.Disk.Mkdir(b.at(n), perm) }
func (b below) ReadDir(n string) ([]fs.DirEntry, error) { return b.Disk.ReadDir(b.at(n)) }
func (b below) Stat(n string) (fs.FileInfo, error)      { return b.Disk.Stat(b.at(n)) }
func (b below) SyncDir(n string) error                  { return b.Disk.SyncDir(b.at(n)) }
func (b below) Lock(n string) (io.Closer, error)        { return b.Disk.Lock(b.at(n)) }
func (b below) Symlink(target, n string) error          { return b.Disk.Symlink(target, b.at(n)) }
func (b below) Readlink(n string) (string, error)       { return b.Disk.Readlink(b.at(n)) }

func key(word string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(word))
	return ed25519.NewKeyFromSeed(seed[:])
}

func trust() bundle.Trust {
	var t bundle.Trust
	for _, w := range []string{"root 1", "root 2", "root 3"} {
		t.Roots = append(t.Roots, key(w).Public().(ed25519.PublicKey))
	}
	return t
}

// program is what a file of a release says: which it is, and how it behaves.
func program(name string, r bundle.Release, how string) []byte {
	if name == bundle.ReleaseFile {
		b, _ := json.Marshal(r)
		return b
	}
	return fmt.Appendf(nil, "%s %d %s", name, r.Counter, how)
}

func makeBundle(t testing.TB, r bundle.Release, how string, floor int64) []byte {
	t.Helper()
	rk := key("release").Public().(ed25519.PublicKey)
	l := bundle.KeyList{Product: bundle.Product, Counter: 1, Keys: []bundle.ReleaseKey{{ID: bundle.IDOf(rk), Key: rk}}, Revoked: []bundle.KeyID{}, Created: "2026-11-26T00:00:00Z"}
	list, err := bundle.SignKeyList(l, nil, key("root 1"))
	if err == nil {
		list, err = bundle.SignKeyList(l, list, key("root 2"))
	}
	var payload bytes.Buffer
	var h bundle.Header
	if err == nil {
		h, err = bundle.Make(&payload, bundle.Draft{Channel: "stable", SecurityFloor: floor, Created: time.Unix(1e9, 0)}, func(name string) (io.ReadCloser, int64, error) {
			b := program(name, r, how)
			return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
		})
	}
	var head []byte
	if err == nil {
		head, err = bundle.Head(list, h, key("release"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(head, payload.Bytes()...)
}

func release(n int64, schema int) bundle.Release {
	return bundle.Release{Version: fmt.Sprintf("0.%d.0", n), Counter: n, Arch: "amd64", MinSchema: 1, MaxSchema: schema}
}

func write(t testing.TB, d vfs.FS, name string, b []byte) {
	t.Helper()
	if err := vfs.WriteFile(d, name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A world is a box with release 10 and records of schema 2, and what people were
// promised.
type world struct {
	t    testing.TB
	disk *vfstest.Disk
	// promised is every upload that a daemon answered for. It outlives cuts.
	promised []string
	// The daemon that runs; nil: none.
	runs    *daemonState
	starts  int
	on      bool // something may start it
	now     time.Time
	crashes int
}

type daemonState struct {
	release bundle.Release
	how     string
	closed  bool
	trial   string
	well    bool
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, disk: vfstest.NewDisk(), now: time.Unix(1e9, 0), on: true}
	for _, dir := range []string{"usr", "usr/releases", "usr/releases/packaged", "var", "var/update", "var/journal"} {
		if err := w.disk.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range bundle.Files() {
		write(t, w.disk, "usr/releases/packaged/"+name, program(name, release(10, 2), "good"))
	}
	if err := w.base().Symlink(install.Packaged, install.Current); err != nil {
		t.Fatal(err)
	}
	write(t, w.disk, "var/box.db", []byte("schema 2\n"))
	write(t, w.disk, "var/box.db-wal", []byte("w"))
	write(t, w.disk, "var/journal/log-1", []byte("one\n"))
	write(t, w.disk, "var/LOCK", nil)
	for _, dir := range []string{".", "usr", "usr/releases", "usr/releases/packaged", "var", "var/update", "var/journal"} {
		if err := w.disk.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) base() below  { return below{w.disk, "usr"} }
func (w *world) state() below { return below{w.disk, "var"} }

func (w *world) updater() *install.Updater {
	return install.New(install.Options{
		Base: w.base(), State: w.state(), Services: w, Trust: trust(), Give: func(string) error { return nil },
		Patience: 10 * time.Second, Stay: 2 * time.Second, Pause: time.Second,
		Now:   func() time.Time { return w.now },
		Sleep: func(context.Context, time.Duration) { w.now = w.now.Add(time.Second); w.live() },
	})
}

func (w *world) ask(action string) {
	w.t.Helper()
	b, _ := json.Marshal(install.Request{ID: fmt.Sprint("r", w.starts, action), Action: action})
	write(w.t, w.disk, "var/"+install.RequestFile, b)
}

// wrong is what may not be, unless the power went off while it was looked at.
func (w *world) wrong(format string, args ...any) {
	w.t.Helper()
	if _, err := w.disk.Stat("."); !errors.Is(err, vfstest.ErrPowerOff) {
		w.t.Errorf(format, args...)
	}
}

// boot starts the daemon that is current, as the service manager would.
func (w *world) boot() {
	w.runs = nil
	if !w.on {
		return
	}
	w.starts++
	dir, err := w.base().Readlink(install.Current)
	if err != nil {
		return
	}
	var d daemonState
	text, err := vfs.ReadFile(w.base(), dir+"/"+bundle.ReleaseFile)
	if err != nil {
		w.wrong("no release at %s: %v", dir, err)
		return
	}
	if d.release, err = bundle.ParseRelease(text); err != nil {
		w.wrong("%v", err)
		return
	}
	for _, name := range []string{"yunboxctl", "yunboxd"} {
		b, err := vfs.ReadFile(w.base(), dir+"/"+name)
		if f := strings.Fields(string(b)); err != nil || len(f) != 3 || f[0] != name || f[1] != fmt.Sprint(d.release.Counter) {
			w.wrong("%s/%s is %q, %v", dir, name, b, err)
			return
		}
		d.how = strings.Fields(string(b))[2]
	}
	if _, err := w.state().Stat(install.RestoreMark); err == nil {
		return // refuses to start
	}
	if text, err := vfs.ReadFile(w.state(), install.TrialFile); err == nil {
		var tr install.Trial
		if err := json.Unmarshal(text, &tr); err != nil {
			w.wrong("%v", err)
		}
		d.trial, d.closed = tr.ID, tr.Closed
	}
	schema := w.schema()
	if schema > d.release.MaxSchema || schema < d.release.MinSchema {
		w.wrong("release %d was started on records of schema %d", d.release.Counter, schema)
		return
	}
	w.runs = &d
	if d.how == "dead" {
		w.runs = nil
		return
	}
	if schema < d.release.MaxSchema {
		w.put("box.db", strings.Replace(w.read("box.db"), fmt.Sprint("schema ", schema), fmt.Sprint("schema ", d.release.MaxSchema), 1))
		w.put("journal/log-2", "moved\n")
	}
}

func (w *world) schema() (n int) {
	if _, err := fmt.Sscanf(w.read("box.db"), "schema %d", &n); err != nil {
		w.wrong("the records are %q: %v", w.read("box.db"), err)
	}
	return n
}

func (w *world) read(name string) string {
	b, err := vfs.ReadFile(w.state(), name)
	if err != nil {
		w.wrong("%s: %v", name, err)
	}
	return string(b)
}

// put writes as a database does: what it answered for is durable.
func (w *world) put(name, text string) error {
	return vfs.WriteFile(w.state(), name, []byte(text), 0o600)
}

// live is a second of a daemon's life: somebody uploads, and a trial is judged.
func (w *world) live() {
	d := w.runs
	if d == nil {
		return
	}
	if d.closed {
		if _, err := w.state().Stat(install.TrialFile); errors.Is(err, fs.ErrNotExist) {
			d.closed = false
		}
	}
	if !d.closed {
		name := fmt.Sprintf("photo%d", len(w.promised))
		if w.put("box.db", w.read("box.db")+name+"\n") == nil {
			w.promised = append(w.promised, name)
		}
	}
	if d.trial != "" && !d.well && d.how != "mute" {
		d.well = true
		b, _ := json.Marshal(install.Health{ID: d.trial, Counter: d.release.Counter, OK: d.how != "sick", Failed: map[bool]string{true: "blob"}[d.how == "sick"]})
		w.put(install.HealthFile, string(b))
	} else if d.how == "crash" && d.well {
		w.crashes++
		w.runs = nil
		w.boot()
	}
}

func (w *world) Stop(context.Context) error { w.runs, w.on = nil, false; return nil }
func (w *world) Start(context.Context) error {
	w.on = true
	if w.runs == nil {
		w.boot()
	}
	return nil
}
func (w *world) Restart(context.Context) error { w.on = true; w.boot(); return nil }
func (w *world) Alive(context.Context) (string, bool, error) {
	if w.runs == nil {
		return "", w.on && w.starts > 0, nil
	}
	return fmt.Sprint(w.starts), false, nil
}

// settle is what the next boots do, until nothing is left to do.
func (w *world) settle() {
	w.t.Helper()
	w.runs, w.on = nil, true
	if err := w.updater().Recover(context.Background()); err != nil {
		w.t.Fatal("recover:", err)
	}
	w.boot()
	w.live()
	if err := w.updater().Run(context.Background()); err != nil {
		w.t.Fatal("run:", err)
	}
	for range 3 {
		w.live()
	}
}

// check says what is wrong with the box at the end.
func (w *world) check(cut string, want ...int64) {
	w.t.Helper()
	if w.runs == nil || !slices.Contains(want, w.runs.release.Counter) || w.runs.closed {
		w.t.Errorf("%s: %+v runs, want one of %v", cut, w.runs, want)
		return
	}
	have := w.read("box.db")
	for _, p := range w.promised {
		if !strings.Contains(have, p+"\n") {
			w.t.Errorf("%s: %s was answered for and is lost", cut, p)
			return
		}
	}
	if len(w.promised) == 0 {
		w.t.Errorf("%s: nothing was ever taken", cut)
	}
	list, err := w.disk.ReadDir("var/update")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list {
		switch "update/" + e.Name() {
		case install.ResultFile, install.KeptFile, install.OfferedFile:
		default:
			w.t.Errorf("%s: %s is left over", cut, e.Name())
		}
	}
}

func (w *world) result() (r install.Result) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.read(install.ResultFile)), &r); err != nil {
		w.t.Error(err)
	}
	return r
}

func (w *world) offer(r bundle.Release, how string, floor int64) {
	write(w.t, w.disk, "var/"+install.BundleFile, makeBundle(w.t, r, how, floor))
	w.ask(install.Install)
}

func TestUpdates(t *testing.T) { // R18
	for name, c := range map[string]struct {
		release      bundle.Release
		how          string
		runs         int64
		outcome, why string
	}{
		"good":               {release(11, 2), "good", 11, install.OutcomeKept, ""},
		"good, moves":        {release(11, 3), "good", 11, install.OutcomeKept, ""},
		"never ready":        {release(11, 2), "mute", 10, install.OutcomeBack, "deadline"},
		"never ready, moves": {release(11, 3), "mute", 10, install.OutcomeBack, "deadline"},
		"does not start":     {release(11, 2), "dead", 10, install.OutcomeBack, "crashed"},
		"crashes":            {release(11, 2), "crash", 10, install.OutcomeBack, "crashed"},
		"crashes, moves":     {release(11, 3), "crash", 10, install.OutcomeBack, "crashed"},
		"sick":               {release(11, 2), "sick", 10, install.OutcomeBack, "unhealthy:blob"},
		"sick, moves":        {release(11, 3), "sick", 10, install.OutcomeBack, "unhealthy:blob"},
		"older":              {release(9, 2), "good", 10, install.OutcomeRefused, ""},
		"cannot read":        {release(11, 1), "good", 10, install.OutcomeRefused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.boot()
			w.live()
			w.offer(c.release, c.how, 0)
			if err := w.updater().Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.live()
			w.check("", c.runs)
			if r := w.result(); r.Outcome != c.outcome || r.Why != c.why || r.Outcome == install.OutcomeRefused && r.Hint == "" {
				t.Errorf("%+v", r)
			}
			if c.runs == 10 && w.schema() != 2 {
				t.Error("the records moved")
			}
		})
	}
}

// An update, then back, then that update again; and the floor.
func TestRollback(t *testing.T) { // R18
	w := newWorld(t)
	w.boot()
	w.live()
	do := func(want int64, outcome, title string) {
		t.Helper()
		if err := w.updater().Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.live()
		w.check("", want)
		if r := w.result(); r.Outcome != outcome || r.Title != title {
			t.Errorf("%+v", r)
		}
	}
	w.ask(install.Rollback)
	do(10, install.OutcomeRefused, "There is no version to go back to")
	w.offer(release(11, 2), "good", 0)
	do(11, install.OutcomeKept, "")
	w.ask(install.Rollback)
	do(10, install.OutcomeKept, "")
	w.offer(release(10, 2), "good", 0)
	do(10, install.OutcomeRefused, "The update is older than this box")
	w.offer(release(11, 2), "good", 0)
	do(11, install.OutcomeKept, "")
	w.offer(release(12, 2), "good", 12)
	do(12, install.OutcomeKept, "")
	w.ask(install.Rollback)
	do(12, install.OutcomeRefused, "The version before is not safe any more")
	w.offer(release(13, 3), "good", 12)
	do(13, install.OutcomeKept, "")
	w.ask(install.Rollback)
	do(13, install.OutcomeRefused, "The version before cannot read the records any more")
	names, err := w.disk.ReadDir("usr/releases")
	if err != nil || len(names) != 3 {
		t.Errorf("%v are kept, %v", names, err)
	}
}

func TestNoRoom(t *testing.T) { // R18
	w := newWorld(t)
	w.boot()
	w.live()
	w.offer(release(11, 3), "good", 0)
	w.disk.SetCapacity(1 << 20)
	if err := w.updater().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := w.result(); r.Title != "There is no room for the update" {
		t.Errorf("%+v", r)
	}
	w.check("", 10)
}

var every = flag.Int("every", 4, "cut before one call in this many")

// The power fails, or the updater is killed, before each call that reaches the disk: what
// runs in the end is one whole release, on records that it knows, and all that was ever
// answered for is there.
func TestCutAtEveryStep(t *testing.T) { // R18
	seeds := vfstest.Seed(t)
	for name, c := range map[string]struct {
		release bundle.Release
		how     string
		want    []int64
	}{
		"good":        {release(11, 2), "good", []int64{10, 11}},
		"good, moves": {release(11, 3), "good", []int64{10, 11}},
		"sick":        {release(11, 2), "sick", []int64{10}},
		"sick, moves": {release(11, 3), "sick", []int64{10}},
		"mute, moves": {release(11, 3), "mute", []int64{10}},
	} {
		rng := rand.New(rand.NewPCG(seeds.Uint64(), 0))
		t.Run(name, func(t *testing.T) {
			ends := map[string]int{}
			file := makeBundle(t, c.release, c.how, 0)
			// Each run looks at one call in every few; all are looked at in some runs.
			for n := 1 + rng.IntN(*every); ; n += *every {
				w := newWorld(t)
				w.boot()
				w.live()
				write(t, w.disk, "var/"+install.BundleFile, file)
				w.ask(install.Install)
				w.disk.CutIn(n)
				err := w.updater().Run(t.Context())
				if err == nil {
					if n < 100 {
						t.Errorf("an update makes %d calls only", n)
					}
					break
				}
				if !errors.Is(err, vfstest.ErrPowerOff) {
					t.Fatalf("call %d: %v", n, err)
				}
				kill := rng.IntN(3) == 0
				if kill {
					w.disk = w.disk.Kill()
				} else {
					w.disk = w.disk.PowerCut(rng)
				}
				if rng.IntN(4) == 0 { // and again soon after
					w.runs, w.on = nil, true
					w.disk.CutIn(1 + rng.IntN(60))
					if err := w.updater().Recover(t.Context()); err == nil {
						w.boot()
						if err := w.updater().Run(t.Context()); err != nil && !errors.Is(err, vfstest.ErrPowerOff) {
							t.Fatalf("call %d, second cut: %v", n, err)
						}
					}
					w.disk = w.disk.PowerCut(rng)
				}
				w.settle()
				cut := fmt.Sprintf("%s, cut before call %d (kill %v)", name, n, kill)
				w.check(cut, c.want...)
				if r := w.runs; r != nil {
					ends[fmt.Sprint(r.release.Counter)]++
				}
				if t.Failed() {
					return
				}
			}
			t.Log(slices.Sorted(maps.Keys(ends)), ends)
		})
	}
}
