package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

// A household uploads to a box whose power fails again and again, and remembers
// what the box said. Storage is on a disk in memory that forgets what was not
// synced; the database is C and on a real folder, which is copied at the cut
// with its log. scripts/powercut cuts the power of the pair on a real device.
type household struct {
	t    *testing.T
	rng  *rand.Rand
	disk *vfstest.Disk
	dir  string
	ages atomic.Int64 // how far the clock is ahead
	next atomic.Int64 // numbers the uploads

	faulty bool // the disk fails, not only its power

	mu      sync.Mutex
	stored  map[string]told // what was acknowledged, by user and path
	pending map[string]told // resumable uploads that were begun, by id
}

type told struct {
	user    ident.UserID
	path    string
	content []byte
	offset  int64 // of a pending one: bytes that the box said were safe

	finishing bool // all bytes were sent
}

func newHousehold(t *testing.T) *household {
	return &household{
		t: t, rng: vfstest.Seed(t), disk: vfstest.NewDisk(), dir: quickDir(t),
		stored: map[string]told{}, pending: map[string]told{},
	}
}

func (h *household) now() time.Time { return time.Now().Add(time.Duration(h.ages.Load())) }

func (h *household) box() *box {
	h.disk.SetNow(h.now)
	return start(h.t, settings{dir: h.dir, disk: h.disk, now: h.now})
}

// content makes bytes of 0 to 6 kB; one in three was there before.
func content(rng *rand.Rand) []byte {
	n := rng.Uint64()
	if n%3 == 0 {
		n %= 30
	}
	r := rand.New(rand.NewPCG(n, 5))
	data := make([]byte, r.IntN(6000))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// live uploads with several phones until the power fails: right before some call
// of the disk, or at some moment. It returns the box as it was.
func (h *household) live(b *box, phones int) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	byCall := h.rng.IntN(2) == 0
	if byCall {
		h.disk.CutIn(1 + h.rng.IntN(400))
	}
	enough := make(chan struct{})
	var count atomic.Int64
	after := int64(1 + h.rng.IntN(60))
	var all sync.WaitGroup
	for range phones {
		rng := rand.New(rand.NewPCG(h.rng.Uint64(), 1))
		all.Go(func() {
			for ctx.Err() == nil {
				err := h.upload(ctx, b, rng)
				if errors.Is(err, vfstest.ErrPowerOff) || err != nil && b.powerless.Load() {
					stop()
					return
				}
				if err != nil && ctx.Err() == nil {
					h.t.Errorf("upload: %v", err)
					return
				}
				if count.Add(1) == after {
					close(enough)
				}
			}
		})
	}
	if byCall {
		<-ctx.Done()
	} else {
		<-enough
	}
	h.cut(b)
	stop()
	all.Wait()
}

// cut takes the power away. It runs inside a transaction, so that the copy of
// the database is what a cut between two commits leaves; what is acknowledged
// later did not happen.
func (h *household) cut(b *box) {
	dir := quickDir(h.t)
	must(h.t, b.db.Write(context.Background(), func(*db.Tx) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		b.powerless.Store(true)
		h.disk = h.disk.PowerCut(h.rng)
		for _, name := range []string{"box.db", "box.db-wal"} { // in this order: the log has what the file lacks
			data, err := os.ReadFile(filepath.Join(h.dir, name))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return err
			}
		}
		h.dir = dir
		return nil
	}))
}

// heard notes what the box said, unless the power was gone by then.
func (h *household) heard(b *box, fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !b.powerless.Load() {
		fn()
	}
}

func (h *household) upload(ctx context.Context, b *box, rng *rand.Rand) error {
	x := told{user: []ident.UserID{ann, bob}[rng.IntN(2)], content: content(rng)}
	n := h.next.Add(1)
	x.path = fmt.Sprintf("DCIM/%d/%d", n%7, n)
	g, err := b.ledger.Grant(ctx, x.user, phone, consent.AlbumBackup)
	if err != nil {
		return err
	}
	i, err := b.in.Begin(ctx, g, album(x.path, len(x.content)))
	if err != nil {
		return err
	}
	defer i.Close()
	if rng.IntN(3) > 0 {
		return h.finish(ctx, b, i, x, 0)
	}
	if err := i.Persist(ctx); err != nil {
		return err
	}
	h.heard(b, func() { h.pending[i.ID()] = x })
	half := int64(len(x.content) / 2)
	if _, err := i.Write(ctx, 0, bytes.NewReader(x.content[:half])); err != nil {
		return err
	}
	if err := i.Checkpoint(ctx); err != nil {
		return err
	}
	x.offset = half
	h.heard(b, func() { h.pending[i.ID()] = x })
	if rng.IntN(2) == 0 {
		return i.Close() // later
	}
	return h.finish(ctx, b, i, x, half)
}

func (h *household) finish(ctx context.Context, b *box, i *ingest.Intake, x told, from int64) error {
	if _, err := i.Write(ctx, from, bytes.NewReader(x.content[from:])); err != nil {
		return err
	}
	x.finishing = true
	h.heard(b, func() {
		if _, ok := h.pending[i.ID()]; ok {
			h.pending[i.ID()] = x
		}
	})
	r, err := i.Finish(ctx)
	if err != nil {
		return err
	}
	if r.Item.Ref != sha256.Sum256(x.content) || r.Item.Path != x.path {
		return fmt.Errorf("%s was stored as %+v", x.path, r.Item)
	}
	h.heard(b, func() {
		h.stored[fmt.Sprint(x.user, x.path)] = x
		delete(h.pending, i.ID())
	})
	return nil
}

// check demands all that was acknowledged, the newest first, and no name without
// its bytes. It goes on with some of the uploads that were interrupted.
func (h *household) check(b *box, whole bool) {
	for _, x := range h.stored {
		if !whole && h.rng.IntN(8) > 0 {
			continue
		}
		if got, err := b.content(x.user, x.path); err != nil || got != string(x.content) {
			h.t.Errorf("%s of %d was acknowledged: %v", x.path, x.user, err)
		}
	}
	var after storage.Ref
	for {
		list, err := b.cat.Blobs(context.Background(), after, 0)
		must(h.t, err)
		for _, blob := range list {
			after = blob.Ref
			if !whole && h.rng.IntN(8) > 0 {
				continue
			}
			if err := b.store.Verify(context.Background(), blob.Ref); err != nil {
				h.t.Errorf("the catalogue has a name without its bytes: %v", err)
			}
		}
		if len(list) == 0 {
			break
		}
	}
	h.resume(b, whole)
}

func (h *household) resume(b *box, all bool) {
	ctx := context.Background()
	for id, x := range h.pending {
		if !all && h.rng.IntN(3) > 0 {
			continue
		}
		delete(h.pending, id)
		info, err := b.in.Describe(ctx, x.user, id)
		if (x.finishing || h.faulty) && problem.KindOf(err) == problem.NotFound {
			// The cut came between the two halves of a rename, or a sync failed, after
			// which nothing is kept of an upload. The phone was not told "stored" and
			// still has the bytes.
			continue
		}
		if err != nil {
			h.t.Errorf("upload %s, safe up to %d: %v", id, x.offset, err)
			continue
		}
		if info.Offset < x.offset || info.Offset > int64(len(x.content)) {
			h.t.Errorf("upload %s stands at %d of %d; %d were safe", id, info.Offset, len(x.content), x.offset)
		}
		if info.Finished != nil {
			if info.Finished.Item.Ref != sha256.Sum256(x.content) {
				h.t.Errorf("upload %s was finished with other bytes", id)
			}
			h.stored[fmt.Sprint(x.user, x.path)] = x
			continue
		}
		i, err := b.in.Resume(ctx, b.grant(x.user, consent.AlbumBackup), id)
		must(h.t, err)
		if err := h.finish(ctx, b, i, x, info.Offset); err != nil && problem.KindOf(err) != problem.Deleted { // meanwhile, under another name
			h.t.Errorf("upload %s went on at %d: %v", id, info.Offset, err)
		}
		must(h.t, i.Close())
	}
}

func TestAcknowledgedSurvivesPowerCuts(t *testing.T) { // R01 R05
	h := newHousehold(t)
	cuts := 0
	for begin := time.Now(); cuts < 10 || cuts < 200 && time.Since(begin) < 5*time.Second; cuts++ {
		b := h.box()
		h.check(b, false)
		h.live(b, 1+h.rng.IntN(8))
		b.stop()
		if t.Failed() {
			t.Fatalf("after %d cuts", cuts+1)
		}
	}
	b := h.box()
	h.check(b, true)
	t.Logf("%d cuts, %d uploads, %d acknowledged", cuts, h.next.Load(), len(h.stored))
	h.sweepsClean(b)
}

// sweepsClean lets the time of all uploads run out and demands that the disk
// holds what the catalogue names and nothing else.
func (h *household) sweepsClean(b *box) {
	ctx := context.Background()
	h.ages.Store(int64(8 * 24 * time.Hour))
	clear(h.pending)
	_, err := b.in.Sweep(ctx)
	must(h.t, err)
	blobs, staged := b.blobs()
	total, err := b.cat.Totals(ctx)
	must(h.t, err)
	if int64(blobs) != total.Blobs || staged != 0 {
		h.t.Errorf("%d blobs on the disk, %d in the catalogue, %d staged", blobs, total.Blobs, staged)
	}
	h.check(b, true)
}

// Any one call of the disk may fail. Then one upload fails with an error that a
// person can act on, nothing is half visible, and what was acknowledged is there
// after the next start.
func TestAnyCallOfTheDiskMayFail(t *testing.T) { // R01
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		struck := 0
		for n := 1; ; n++ {
			h := newHousehold(t)
			b := h.box()
			h.disk.Fail(vfstest.Fault{Nth: n, Err: cause, Ops: vfstest.OpAny &^ vfstest.OpReadDir}) // 256 shards are listed alike
			h.failing(b)
			done := h.disk.Pending()
			h.disk.Heal()
			b.powerless.Store(true) // a failed close is part of the test
			b.stop()
			h.disk = h.disk.Kill()
			if done {
				break
			}
			struck++
			again := h.box()
			h.check(again, true)
			h.sweepsClean(again)
			again.stop()
			if t.Failed() {
				t.Fatalf("%v in call %d", cause, n)
			}
		}
		if struck < 20 {
			t.Errorf("only %d calls could fail", struck)
		}
	}
}

// failing does one of each: in one piece, resumable, the same content again, a
// purge and its sweep.
func (h *household) failing(b *box) {
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	judge := func(err error) bool {
		if err == nil {
			return true
		}
		switch problem.KindOf(err) {
		case problem.Full, problem.Unavailable, problem.NotFound, problem.Internal:
		default:
			h.t.Errorf("a failing disk is told as %s: %v", problem.KindOf(err), err)
		}
		return false
	}
	one := func(path, text string, persist bool) {
		x := told{user: ann, path: path, content: []byte(text)}
		i, err := b.in.Begin(ctx, g, album(path, len(text)))
		if !judge(err) {
			return
		}
		defer i.Close()
		if persist && !judge(i.Persist(ctx)) {
			return
		}
		judge(h.finish(ctx, b, i, x, 0))
	}
	one("a", "first content", false)
	one("b", "second content", true)
	one("c", "first content", false)
	one("d", "first content", true)
	if it, err := b.cat.Lookup(ctx, ann, "b"); err == nil {
		must(h.t, b.cat.Trash(ctx, ann, it.ID))
		must(h.t, b.cat.Purge(ctx, ann, it.ID))
		delete(h.stored, fmt.Sprint(ann, "b"))
		if _, err := b.in.Sweep(ctx); err != nil {
			judge(err)
		}
	}
}

func TestAFullDiskStillDeletes(t *testing.T) {
	h := newHousehold(t)
	b := h.box()
	ctx := context.Background()
	h.disk.SetCapacity(1 << 20)
	var last catalog.Item
	for i := 0; ; i++ {
		r, err := b.put(ann, fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 100_000))
		if err != nil {
			want(t, err, problem.Full)
			p := problem.As(err)
			if p.Members["needed"] != int64(100_000) || p.Members["left"] == nil {
				t.Errorf("%+v", p.Members)
			}
			break
		}
		last = r.Item
	}
	// A body whose size was not announced fills the disk in the middle.
	i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), album("long", -1))
	must(t, err)
	must(t, i.Persist(ctx))
	_, err = i.Write(ctx, 0, io.LimitReader(endless{}, 4<<20))
	want(t, err, problem.Full)
	must(t, i.Close())
	if _, err := b.content(ann, last.Path); err != nil {
		t.Error(err)
	}
	must(t, b.cat.Trash(ctx, ann, last.ID))
	must(t, b.cat.Purge(ctx, ann, last.ID))
	if s, err := b.in.Sweep(ctx); err != nil || s.Blobs != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := b.put(ann, "fits again", bytes.Repeat([]byte{200}, 90_000)); err != nil {
		t.Error(err)
	}
	if _, staged := b.blobs(); staged != 0 {
		t.Errorf("%d staged", staged)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
