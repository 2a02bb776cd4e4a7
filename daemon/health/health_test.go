package health_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/health"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

// world is a store and its catalogue, with a clock of their own.
type world struct {
	*testing.T
	disk  *vfstest.Disk
	store *storage.Store
	db    *db.DB
	cat   *catalog.Catalog
	clock atomic.Int64 // Unix ms
}

func newWorld(t *testing.T) *world {
	t.Parallel()
	w := &world{T: t, disk: vfstest.NewDisk()}
	w.clock.Store(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	w.disk.SetNow(w.now)
	var err error
	if w.db, err = db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "box.db"), BackupDir: t.TempDir(), Now: w.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	if w.cat, err = catalog.Open(t.Context(), w.db); err != nil {
		t.Fatal(err)
	}
	if w.store, err = storage.Open(t.Context(), w.disk, storage.Options{Acknowledged: w.cat.Relied, Now: w.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	w.must(w.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ann', 'ann', 'owner', '', 0)`)
		return err
	}))
	return w
}

func (w *world) now() time.Time       { return time.UnixMilli(w.clock.Load()).UTC() }
func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}
func (w *world) path(r storage.Ref) string { return "blobs/" + r.String()[:2] + "/" + r.String() }

// put keeps contents, as uploads do.
func (w *world) put(contents ...[]byte) (refs []storage.Ref) {
	w.Helper()
	var batch []storage.Sealed
	for _, data := range contents {
		u, err := w.store.Begin(w.Context(), int64(len(data)))
		w.must(err)
		_, err = u.Write(w.Context(), 0, bytes.NewReader(data))
		w.must(err)
		sealed, err := u.Seal(w.Context())
		w.must(err)
		batch, refs = append(batch, sealed), append(refs, sealed.Ref)
	}
	w.must(errors.Join(w.store.Commit(w.Context(), batch)...))
	w.must(w.db.Write(w.Context(), func(tx *db.Tx) error {
		for _, s := range batch {
			if _, err := w.cat.Add(tx, catalog.Entry{User: 1, Path: s.Ref.String(), Ref: s.Ref, SHA1: s.SHA1, Size: s.Size, Source: "album"}); err != nil {
				return err
			}
		}
		return nil
	}))
	w.store.Release(batch)
	return refs
}

func (w *world) health(o health.Options) *health.Health {
	o.Catalog, o.Store, o.DB, o.Now = w.cat, w.store, w.db, w.now
	return health.New(o)
}

// run lets h make one run and returns how it ended.
func (w *world) run(h *health.Health, whole bool) health.Progress {
	w.Helper()
	ctx, stop := context.WithCancel(w.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	return w.wait(h, h.Begin(whole))
}

func (w *world) wait(h *health.Health, number int64) health.Progress {
	w.Helper()
	for p := h.Progress(); ; p = h.Progress() {
		if p.Number >= number && !p.Running {
			if p.Error != "" {
				w.Fatal(p.Error)
			}
			return p
		}
		select {
		case <-w.Context().Done():
			w.Fatal("the run does not end")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (w *world) damage() (open []catalog.Damage) {
	w.Helper()
	open, err := w.cat.OpenDamage(w.Context(), storage.Ref{}, 0)
	w.must(err)
	return open
}

func content(i int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(i))
	return bytes.Repeat(b, 20+i%300)
}

func contents(from, to int) (list [][]byte) {
	for i := from; i < to; i++ {
		list = append(list, content(i))
	}
	return list
}

// Single bits in 1,000 contents: all are found in one pass, and all are healed by a
// second copy or by who sends them again. R03
func TestThousandBits(t *testing.T) {
	w := newWorld(t)
	const n = 1000
	rng := vfstest.Seed(t)
	refs := w.put(contents(0, n)...)
	flip := func(i int) {
		w.must(w.disk.Rot(w.path(refs[i]), func(b []byte) { b[rng.IntN(len(b))] ^= 1 << rng.IntN(8) }))
	}
	for i := range refs {
		if i%10 != 9 { // every tenth stays good
			flip(i)
		}
	}
	p := w.run(w.health(health.Options{}), true)
	if p.Blobs != n || p.Total != n || p.Damaged != n*9/10 || p.Healed != 0 || p.Bytes != p.Size {
		t.Errorf("%+v", p)
	}
	open := w.damage()
	for _, d := range open {
		if d.Kind != storage.WrongBytes || d.How != catalog.ByScrub {
			t.Fatalf("%+v", d)
		}
	}
	known, err := w.cat.Known(t.Context(), 1, refs)
	w.must(err)
	if len(open) != n*9/10 || len(known) != n/10 {
		t.Errorf("%d on the list, %d known", len(open), len(known))
	}
	// Half of them have a copy.
	h := w.health(health.Options{Sources: []health.Source{bad{}, copyOf(func(ref storage.Ref) []byte {
		for i, r := range refs[:n/2] {
			if r == ref {
				return content(i)
			}
		}
		return nil
	})}})
	healed, waiting := 0, 0
	w.must(h.Repair(t.Context(), func(r health.Repaired) error {
		switch {
		case r.Ending == catalog.EndCopy && r.Copy == "the second disk" && r.Err == nil:
			healed++
		case r.Ending == catalog.StillOpen:
			waiting++
		default:
			t.Errorf("%+v", r)
		}
		return nil
	}))
	if healed != n*9/20 || waiting != n*9/20 {
		t.Errorf("healed %d, waiting %d", healed, waiting)
	}
	w.put(contents(n/2, n)...)
	if open := w.damage(); len(open) != 0 {
		t.Errorf("%d are still on the list", len(open))
	}
	w.pass(time.Hour)
	if p := w.run(w.health(health.Options{}), true); p.Blobs != n || p.Damaged != 0 {
		t.Errorf("afterwards: %+v", p)
	}
	counts, err := w.cat.DamageTotals(t.Context())
	w.must(err)
	if counts.Open != 0 || counts.Healed != n*9/10 {
		t.Errorf("%+v", counts)
	}
	log := audit.New(w.db)
	if r, err := log.Verify(t.Context()); err != nil || r.Bad != nil || r.Entries != 2*n*9/10 {
		t.Errorf("the audit record: %+v, %v", r, err)
	}
}

// bad is a copy that is damaged, too.
type bad struct{}

func (bad) Name() string { return "the bad disk" }
func (bad) Open(context.Context, storage.Ref) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte{7}, 160))), nil
}

type copyOf func(storage.Ref) []byte

func (copyOf) Name() string { return "the second disk" }
func (c copyOf) Open(_ context.Context, ref storage.Ref) (io.ReadCloser, error) {
	data := c(ref)
	if data == nil {
		return nil, fmt.Errorf("%s: %w", ref, storage.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// A scrub that finds damage heals it from a copy at once, and looks at what is on the
// list again: a disk that was away is back.
func TestScrubHeals(t *testing.T) {
	w := newWorld(t)
	refs := w.put(content(1), content(2))
	one, two := refs[0], refs[1]
	w.must(w.disk.Rot(w.path(one), func(b []byte) { b[3] ^= 1 }))
	w.must(w.cat.Found(t.Context(), catalog.ByCheck, []catalog.Finding{{Ref: two, Damage: storage.Unreadable}}))
	h := w.health(health.Options{})
	h.AddSource(copyOf(func(storage.Ref) []byte { return content(1) }))
	if p := w.run(h, true); p.Damaged != 1 || p.Healed != 2 {
		t.Errorf("%+v", p)
	}
	list, err := w.cat.DamageRecord(t.Context(), 0, 0)
	w.must(err)
	if len(list) != 2 || list[0].Ending != catalog.EndCopy || list[0].Copy != "the second disk" || list[1].Ending != catalog.EndSound {
		t.Errorf("%+v", list)
	}
	if d, err := w.store.Inspect(t.Context(), one, -1, nil); d != storage.Sound || err != nil {
		t.Error(d, err)
	}
}

// A run that a restart interrupts goes on where it was, and a content is not read
// twice.
func TestScrubGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t)
	const n = 600
	w.put(contents(0, n)...)
	w.pass(time.Hour)
	reads := w.disk.Calls(vfstest.OpEvict) / 2
	ctx, stop := context.WithCancel(t.Context())
	h := w.health(health.Options{})
	ended := make(chan struct{})
	opened := 0 // guarded by the disk, which asks Path
	w.disk.Fail(vfstest.Fault{Ops: vfstest.OpOpen, Nth: 1 << 30, Path: func(name string) bool {
		if strings.HasPrefix(name, "blobs/") {
			if opened++; opened == n/3 {
				stop() // in the middle of a content
			}
		}
		return true
	}})
	h.Begin(true)
	w.pass(time.Second) // what is read now was read after the run began
	go func() { h.Run(ctx); close(ended) }()
	<-ended
	w.disk.Heal()
	first := w.disk.Calls(vfstest.OpEvict)/2 - reads
	if first < n/4 || first > n/2 {
		t.Fatalf("%d were read before the end", first)
	}
	h = w.health(health.Options{})
	ctx, stop = context.WithCancel(t.Context())
	ended = make(chan struct{})
	go func() { h.Run(ctx); close(ended) }() // nobody asks
	w.wait(h, h.Begin(false))
	stop()
	<-ended
	p := h.Progress()
	all := w.disk.Calls(vfstest.OpEvict)/2 - reads
	if !p.Whole || p.Total == n || p.Total != p.Blobs || all < n || all > n+1 {
		t.Errorf("%d were read before, %d in all, then %+v", first, all, p)
	}
}

// Who stops a run of everything stops it for good: it does not go on by itself, nor
// after a restart, and what it read counts.
func TestScrubIsStopped(t *testing.T) {
	w := newWorld(t)
	const n = 300
	w.put(contents(0, n)...)
	w.pass(25 * time.Hour)
	ctx, end := context.WithCancel(t.Context())
	h := w.health(health.Options{Days: 30})
	if h.Stop() {
		t.Error("a run was stopped that nobody began")
	}
	opened := 0
	w.disk.Fail(vfstest.Fault{Ops: vfstest.OpOpen, Nth: 1 << 30, Path: func(name string) bool {
		if strings.HasPrefix(name, "blobs/") {
			if opened++; opened == n/3 && !h.Stop() {
				t.Error("there is nothing to stop")
			}
		}
		return true
	}})
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	w.wait(h, h.Begin(true))
	p := h.Progress()
	if p.Blobs == 0 || p.Blobs >= n || !p.Stopped || p.Error != "" || p.Running {
		t.Errorf("%+v", p)
	}
	w.disk.Heal()
	end()
	<-ended
	ctx, end = context.WithCancel(t.Context())
	again := w.health(health.Options{Days: 30})
	ended = make(chan struct{})
	go func() { again.Run(ctx); close(ended) }()
	w.wait(again, again.Begin(false))
	end()
	<-ended
	if p := again.Progress(); p.Whole {
		t.Errorf("it goes on after a restart: %+v", p)
	}
	done := h.Progress().Blobs
	h = w.health(health.Options{Days: 30})
	ctx, end = context.WithCancel(t.Context())
	ended = make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	w.pass(time.Minute)
	w.wait(h, h.Begin(true))
	if p := h.Progress(); p.Blobs != n || p.Stopped || done == 0 {
		t.Errorf("a new run after the stop: %+v", p)
	}
	end()
	<-ended
}

// Portions bring everything round in time, what was not read for the longest time
// first, and a box with nothing to read writes nothing.
func TestPortions(t *testing.T) {
	w := newWorld(t)
	const n = 400
	for i := range n / 10 {
		w.put(contents(i*10, i*10+10)...)
		w.pass(70 * time.Minute)
	}
	h := w.health(health.Options{Days: 30})
	most, oldest := int64(0), time.Duration(0)
	for day := range 60 {
		w.pass(24 * time.Hour)
		if day%7 == 3 {
			continue // the box is off
		}
		p := w.run(h, false)
		most = max(most, p.Total)
		c, err := h.Coverage(t.Context())
		w.must(err)
		if day > 30 {
			oldest = max(oldest, w.now().Sub(c.Oldest))
		}
		if p.Total > 0 && !c.Last.Equal(w.now()) || c.Days != 30 {
			t.Fatalf("%+v", c)
		}
	}
	if oldest > 30*24*time.Hour || oldest < 20*24*time.Hour {
		t.Errorf("the oldest was not read for %v", oldest)
	}
	if most > n/12 {
		t.Errorf("a portion of %d contents is not small", most)
	}
	w.run(h, true)
	w.pass(time.Hour)
	writes := w.db.Stats().Writes
	if p := w.run(h, false); p.Total != 0 || w.db.Stats().Writes != writes {
		t.Errorf("a portion after everything was read: %+v, %d writes", p, w.db.Stats().Writes-writes)
	}
}

// Coverage tells the truth at every moment, compared with a look at every content.
func TestCoverage(t *testing.T) {
	w := newWorld(t)
	h := w.health(health.Options{})
	if c, err := h.Coverage(t.Context()); err != nil || !c.Oldest.IsZero() {
		t.Errorf("an empty box: %+v, %v", c, err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	times := map[storage.Ref]time.Time{}
	var refs []storage.Ref
	for i := range 100 {
		w.pass(time.Hour)
		ref := w.put(content(i))[0]
		refs, times[ref] = append(refs, ref), w.now()
		if i%3 == 0 {
			w.pass(time.Hour)
			r := refs[rng.IntN(len(refs))]
			w.must(w.cat.Found(t.Context(), catalog.ByVerify, []catalog.Finding{{Ref: r, Time: w.now()}}))
			times[r] = w.now()
		}
		c, err := h.Coverage(t.Context())
		w.must(err)
		var want time.Time
		for _, at := range times {
			if want.IsZero() || at.Before(want) {
				want = at
			}
		}
		// A bound may be older than the truth in the moment, never younger.
		if c.Oldest.After(want) {
			t.Fatalf("after %d: says %v, it is %v", i, c.Oldest, want)
		}
		if !c.Oldest.Equal(want) {
			t.Errorf("after %d: says %v, it is %v", i, c.Oldest, want)
		}
	}
}

// A volume that is not there any more holds no damage.
func TestAMissingDiskIsNoDamage(t *testing.T) {
	w := newWorld(t)
	w.put(contents(0, 20)...)
	w.pass(time.Hour)
	w.disk.Fail(vfstest.Fault{Ops: vfstest.OpOpen | vfstest.OpStat | vfstest.OpRead, Nth: 1, Err: errors.New("no medium"), Sticky: true})
	h := w.health(health.Options{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	number := h.Begin(true)
	p := h.Progress()
	for ; p.Number < number || p.Running; p = h.Progress() {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-ended
	if p.Error == "" || p.Damaged != 0 || len(w.damage()) != 0 {
		t.Errorf("%+v, on the list: %d", p, len(w.damage()))
	}
	w.disk.Heal()
	if p := w.run(h, true); p.Blobs != 20 || p.Damaged != 0 {
		t.Errorf("it is back: %+v", p)
	}
}

// What is on the list does not stand for the same bytes that come again, even if the
// page cache shows them whole.
func TestHiddenDamageIsReplaced(t *testing.T) {
	w := newWorld(t)
	ref := w.put(content(5))[0]
	w.must(w.cat.Found(t.Context(), catalog.ByCheck, []catalog.Finding{{Ref: ref, Damage: storage.WrongBytes}}))
	w.must(w.store.Close()) // and with it what it remembers
	var err error
	w.store, err = storage.Open(t.Context(), w.disk, storage.Options{Acknowledged: w.cat.Relied, Now: w.now})
	w.must(err)
	w.must(w.disk.Rot(w.path(ref), func(b []byte) { b[0] ^= 1 }))
	w.put(content(5))
	if d, err := w.store.Inspect(t.Context(), ref, -1, nil); d != storage.Sound || err != nil {
		t.Error(d, err)
	}
}
