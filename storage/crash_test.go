package storage_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// world is what the outside knows of a volume: what it was told is stored, and
// how far its uploads are.
type world struct {
	rng    *rand.Rand
	stored map[storage.Ref][]byte
	staged map[string]*sending // by upload id; nil: discarded, may come back
	ids    []string            // of staged, in the order of their making
}

// sending is a resumable upload as its client sees it.
type sending struct {
	data     []byte
	declared bool
	offset   int64 // acknowledged by the last Checkpoint

	// Commit has begun. If the power fails now the file may have neither name,
	// where a rename between directories is not atomic: the client, who was
	// not told "stored", begins anew.
	ending bool
}

func newWorld(rng *rand.Rand) *world {
	return &world{rng: rng, stored: make(map[storage.Ref][]byte), staged: make(map[string]*sending)}
}

// content is often one that was sent before.
func (w *world) content() []byte {
	data := make([]byte, [...]int{0, 1, 511, 512, 700, 3000}[w.rng.IntN(6)])
	for i := range data {
		data[i] = byte(w.rng.IntN(3))
	}
	if len(data) > 8 {
		copy(data, fmt.Sprintf("%8d", w.rng.IntN(12)))
		clear(data[8:])
	}
	return data
}

// step does one random thing. An error means that the power went off.
func (w *world) step(ctx context.Context, s *storage.Store) error {
	switch w.rng.IntN(12) {
	case 0, 1, 2, 3:
		return w.putSome(ctx, s)
	case 4, 5:
		return w.beginResumable(ctx, s)
	case 6, 7, 8:
		return w.resumeOne(ctx, s)
	case 9:
		return w.discardOne(ctx, s)
	case 10:
		_, err := s.Sweep(ctx, -1, func(r storage.Ref) (bool, error) { return w.stored[r] != nil, nil })
		return err
	default:
		for info, err := range s.Refs(ctx) {
			if err != nil {
				return err
			}
			return s.Verify(ctx, info.Ref)
		}
		return nil
	}
}

func (w *world) putSome(ctx context.Context, s *storage.Store) error {
	var batch []storage.Sealed
	var contents [][]byte
	for range 1 + w.rng.IntN(4) {
		data := w.content()
		size := int64(len(data))
		if w.rng.IntN(4) == 0 {
			size = -1
		}
		u, err := s.Begin(ctx, size)
		if err != nil {
			return err
		}
		defer u.Close()
		if _, err := u.Write(ctx, 0, bytes.NewReader(data)); err != nil {
			return err
		}
		if w.rng.IntN(8) == 0 {
			if err := u.Close(); err != nil {
				return err
			}
			continue
		}
		sealed, err := u.Seal(ctx)
		if err != nil {
			return err
		}
		batch, contents = append(batch, sealed), append(contents, data)
	}
	return w.commit(ctx, s, batch, contents)
}

// commit believes each verdict.
func (w *world) commit(ctx context.Context, s *storage.Store, batch []storage.Sealed, contents [][]byte) error {
	verdicts := s.Commit(ctx, batch)
	for i, err := range verdicts {
		if err == nil {
			if want := sha256.Sum256(contents[i]); batch[i].Ref != want {
				return fmt.Errorf("stored under %s, want %x", batch[i].Ref, want)
			}
			if batch[i].SHA1 != sha1.Sum(contents[i]) || batch[i].Size != int64(len(contents[i])) {
				return fmt.Errorf("wrong SHA-1 or size of %s", batch[i].Ref)
			}
			// nil says "not stored"
			w.stored[batch[i].Ref] = append([]byte{}, contents[i]...)
		}
	}
	s.Release(batch)
	return errors.Join(verdicts...)
}

func (w *world) beginResumable(ctx context.Context, s *storage.Store) error {
	data := w.content()
	x := &sending{data: data, declared: w.rng.IntN(3) > 0}
	size := int64(-1)
	if x.declared {
		size = int64(len(data))
	}
	u, err := s.Begin(ctx, size)
	if err != nil {
		return err
	}
	defer u.Close()
	return w.send(ctx, s, u, x)
}

func (w *world) resumeOne(ctx context.Context, s *storage.Store) error {
	for _, id := range w.ids {
		x := w.staged[id]
		if x == nil {
			continue
		}
		u, err := s.Resume(ctx, id)
		if err != nil {
			return err
		}
		defer u.Close()
		if u.Offset() < x.offset || u.Offset() > int64(len(x.data)) {
			return fmt.Errorf("upload resumed at %d, acknowledged were %d of %d", u.Offset(), x.offset, len(x.data))
		}
		return w.send(ctx, s, u, x)
	}
	return nil
}

// send goes on with an upload in a few pieces and ends it now and then.
func (w *world) send(ctx context.Context, s *storage.Store, u *storage.Upload, x *sending) error {
	for range 1 + w.rng.IntN(3) {
		rest := x.data[u.Offset():]
		piece := rest[:w.rng.IntN(len(rest)+1)]
		var err error
		if len(rest) > 0 { // a sealed upload takes no more
			_, err = u.Write(ctx, u.Offset(), iotest.OneByteReader(bytes.NewReader(piece)))
		}
		if err == nil {
			err = u.Checkpoint(ctx)
		}
		if err != nil {
			return err
		}
		x.offset = u.Offset()
		w.note(u.ID(), x)
	}
	if w.rng.IntN(2) == 0 {
		return u.Close()
	}
	if u.Offset() < int64(len(x.data)) {
		if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(x.data[u.Offset():])); err != nil {
			return err
		}
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		return err
	}
	x.offset = int64(len(x.data))
	if w.rng.IntN(4) == 0 {
		return u.Close() // its answer was lost: it comes again
	}
	x.ending = true
	if err := w.commit(ctx, s, []storage.Sealed{sealed}, [][]byte{x.data}); err != nil {
		return err
	}
	w.staged[u.ID()] = nil
	return nil
}

func (w *world) note(id string, x *sending) {
	if w.staged[id] == nil {
		w.ids = append(w.ids, id)
	}
	w.staged[id] = x
}

func (w *world) discardOne(ctx context.Context, s *storage.Store) error {
	for _, id := range w.ids {
		if w.staged[id] == nil {
			continue
		}
		w.staged[id] = nil // whether or not the power lasts to the end of it
		return s.Discard(ctx, id)
	}
	return nil
}

// check compares a volume with what the world was told.
func (w *world) check(t *testing.T, fsys vfs.FS, s *storage.Store) {
	t.Helper()
	ctx := t.Context()
	for ref, data := range w.stored {
		mustHold(t, s, ref, data)
	}
	for info, err := range s.Refs(ctx) {
		if err == nil {
			err = s.Verify(ctx, info.Ref)
		}
		if err != nil {
			t.Fatalf("a visible blob is not whole: %v", err)
		}
	}
	for _, id := range w.ids {
		x, known := w.staged[id]
		if !known {
			continue
		}
		u, err := s.Resume(ctx, id)
		if x == nil {
			// Discarded or stored. A removal is not synced: what is left of
			// it is removed here, as the expiry would.
			if err == nil {
				err = u.Discard()
			}
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Fatal(err)
			}
			delete(w.staged, id)
			continue
		}
		if x.ending && errors.Is(err, storage.ErrNotFound) {
			delete(w.staged, id)
			continue
		}
		x.ending = false
		if err != nil {
			t.Fatalf("checkpointed at %d of %d: %v", x.offset, len(x.data), err)
		}
		if u.Offset() < x.offset || u.Offset() > int64(len(x.data)) {
			t.Fatalf("resumed at %d, acknowledged were %d of %d", u.Offset(), x.offset, len(x.data))
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	}
	known := make(map[string]bool)
	for info, err := range s.Staged(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		known[info.ID] = true
	}
	entries, err := fsys.ReadDir("staging")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id, ext, _ := strings.Cut(e.Name(), ".")
		if !known[id] || ext == "tmp" {
			t.Fatalf("left in staging: %s", e.Name())
		}
	}
}

// options of a store that knows what was acknowledged.
func (w *world) options() storage.Options {
	// No intent log, one that is always full, one that often is, one that seldom is.
	intent := [...]int64{-1, 6 * 4096, 12 * 4096, 60 * 4096}[w.rng.IntN(4)]
	return storage.Options{Reserve: -1, Intent: intent, Acknowledged: func(_ context.Context, r storage.Ref) (bool, error) {
		return w.stored[r] != nil, nil
	}}
}

func mustHold(t *testing.T, s *storage.Store, ref storage.Ref, data []byte) {
	t.Helper()
	b, err := s.Get(t.Context(), ref)
	if err != nil {
		t.Fatalf("acknowledged, but lost: %v", err)
	}
	got, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("acknowledged %s, but its %d bytes came back as %d others", ref, len(data), len(got))
	}
}

func mustOpen(t *testing.T, fsys vfs.FS, opt storage.Options) *storage.Store {
	t.Helper()
	if opt.Intent == 0 {
		opt.Intent = 64 << 10 // the usual one is much for a disk in memory
	}
	s, err := storage.Open(t.Context(), fsys, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A volume lives through one power cut or kill after the other, at any call, and
// keeps every promise. R01 R02
func TestAcknowledgedSurvivesPowerCut(t *testing.T) {
	rng := vfstest.Seed(t)
	cuts := 2000
	if testing.Short() {
		cuts = 300
	}
	for cut := 0; cut < cuts; {
		w, disk := newWorld(rng), vfstest.NewDisk()
		for range 25 { // lives of one volume
			s := mustOpen(t, disk, w.options())
			w.check(t, disk, s)
			disk.CutIn(1 + rng.IntN(150))
			for {
				if err := w.step(t.Context(), s); errors.Is(err, vfstest.ErrPowerOff) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if cut++; rng.IntN(4) == 0 {
				disk = disk.Kill()
			} else {
				disk = disk.PowerCut(rng)
			}
		}
	}
}

// What a process that was killed had not made durable yet is durable when its
// successor shows it: the offset of an upload never goes back. R01
func TestOffsetAfterKillSurvivesPowerCut(t *testing.T) {
	ctx := t.Context()
	rng := vfstest.Seed(t)
	offset := func(s *storage.Store) (offset int64) {
		for info, err := range s.Staged(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			offset = info.Offset
		}
		return offset
	}
	for n := 1; n < 60; n++ {
		for range 4 {
			disk := vfstest.NewDisk()
			s := mustOpen(t, disk, storage.Options{})
			disk.CutIn(n)
			u, err := s.Begin(ctx, 3000)
			for i := int64(1); err == nil && i <= 3; i++ {
				if _, err = u.Write(ctx, u.Offset(), io.LimitReader(zeros{}, 1000)); err == nil {
					err = u.Checkpoint(ctx)
				}
			}
			if err == nil {
				_, _ = u.Seal(ctx)
			}
			disk = disk.Kill()
			shown := offset(mustOpen(t, disk, storage.Options{}))
			disk = disk.PowerCut(rng)
			if after := offset(mustOpen(t, disk, storage.Options{})); after != shown {
				t.Fatalf("killed at call %d: the upload stood at %d, after a cut at %d", n, shown, after)
			}
		}
	}
}

// The power fails while a volume is made or opened: often near the end, where
// the volume begins to count as one.
func TestOpenSurvivesPowerCut(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	disk := vfstest.NewDisk()
	mustOpen(t, disk, storage.Options{})
	calls := disk.Calls(vfstest.OpAny)
	for range 300 {
		disk := vfstest.NewDisk()
		disk.CutIn(calls + 1 - rng.IntN(12))
		if rng.IntN(4) == 0 {
			disk.CutIn(1 + rng.IntN(calls))
		}
		for {
			s, err := storage.Open(t.Context(), disk, storage.Options{Intent: 20 << 10})
			if err != nil && !errors.Is(err, vfstest.ErrPowerOff) {
				t.Fatal(err)
			}
			disk = disk.PowerCut(rng)
			if err == nil {
				again := mustOpen(t, disk, storage.Options{Volume: s.VolumeID()})
				if _, err := put(t.Context(), again, []byte("x")); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
}

// Every call of a scenario fails once, in every way. Then nothing that was
// acknowledged is lost, nothing half is visible, and a failed sync is flagged
// and not believed later. R01 R02
func TestEveryCallFailsOnce(t *testing.T) {
	for _, fault := range []vfstest.Fault{
		{Err: syscall.EIO},
		{Err: syscall.ENOSPC},
		{Err: syscall.EIO, Sticky: true},
		{Err: syscall.ENOSPC, Sticky: true, Ops: vfstest.OpWrite | vfstest.OpCreate},
		{Err: syscall.ENOSPC, Ops: vfstest.OpWrite, Short: true},
		{Err: syscall.EDQUOT, Ops: vfstest.OpWrite, Short: true},
		{Err: syscall.EIO, Ops: vfstest.OpSync | vfstest.OpSyncAll},
		{Err: syscall.EIO, Ops: vfstest.OpSyncDir},
		{Err: syscall.EIO, Ops: vfstest.OpSyncAll | vfstest.OpSync, Sticky: true},
		{Err: syscall.EIO, Ops: vfstest.OpSyncAll | vfstest.OpSyncDir, Sticky: true},
	} {
		t.Run(fmt.Sprintf("%v %v short=%v sticky=%v", fault.Ops, fault.Err, fault.Short, fault.Sticky), func(t *testing.T) {
			rng := vfstest.Seed(t)
			for n := 1; ; n++ {
				fault.Nth = n
				if !failOnce(t, rng, fault) {
					if n < 3 {
						t.Fatalf("only %d calls were made to fail", n-1)
					}
					return
				}
			}
		})
	}
}

// failOnce runs the scenario with one fault and reports whether it struck.
func failOnce(t *testing.T, rng *rand.Rand, fault vfstest.Fault) bool {
	ctx := t.Context()
	w, disk := newWorld(rng), vfstest.NewDisk()
	s := mustOpen(t, disk, w.options())
	disk.Fail(fault)
	old := []byte("sent twice")
	ops := []func() error{
		func() error { return w.putAll(ctx, s, old, []byte("another")) },
		func() error { return w.putAll(ctx, s, old, bytes.Repeat([]byte("x"), 5000), old) },
		func() error { return w.sendInPieces(ctx, s, bytes.Repeat([]byte("yz"), 1500)) },
		func() error { return w.resumeOne(ctx, s) },
		func() error { return w.sendInPieces(ctx, s, old) },
		func() error {
			_, err := s.Sweep(ctx, -1, func(r storage.Ref) (bool, error) { return w.stored[r] != nil, nil })
			return err
		},
		func() error { return w.putAll(ctx, s, old, []byte("the last")) },
	}
	for _, op := range ops {
		err := op()
		switch {
		case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
			if !errors.Is(err, storage.ErrFull) && !harmless(err) {
				t.Errorf("no room, but not ErrFull: %v", err)
			}
		case errors.Is(err, storage.ErrNotFound):
			t.Errorf("a failed call looks like a missing file: %v", err)
		}
		if errors.Is(err, storage.ErrSync) && s.Err() == nil {
			t.Errorf("a failed sync did not flag the volume: %v", err)
		}
	}
	struck := !disk.Pending()
	disk.Heal()
	if rng.IntN(2) == 0 {
		// The daemon is started again on the same mount, where the kernel
		// may show names that a failed sync has lost, and all is sent again.
		disk = disk.Kill()
		s = mustOpen(t, disk, w.options())
		if err := w.putAll(ctx, s, old, []byte("another"), []byte("the last")); err != nil {
			t.Fatal(err)
		}
	}
	disk = disk.PowerCut(rng)
	s = mustOpen(t, disk, w.options())
	w.check(t, disk, s)
	return struck
}

// harmless errors come from calls that need no room, where a disk that says so
// is broken in another way.
func harmless(err error) bool {
	pathErr, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	if !ok {
		return false
	}
	for _, op := range []string{"open ", "read ", "readdir ", "stat ", "close ", "chmod ", "remove ", "space ", "truncate "} {
		if strings.HasPrefix(pathErr.Error(), op) {
			return true
		}
	}
	return false
}

// putAll stores contents in one batch.
func (w *world) putAll(ctx context.Context, s *storage.Store, contents ...[]byte) error {
	var batch []storage.Sealed
	var arrived [][]byte
	var errs []error
	for _, data := range contents {
		u, err := s.Begin(ctx, int64(len(data)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer u.Close()
		_, err = u.Write(ctx, 0, bytes.NewReader(data))
		if err == nil {
			var sealed storage.Sealed
			if sealed, err = u.Seal(ctx); err == nil {
				batch, arrived = append(batch, sealed), append(arrived, data)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, w.commit(ctx, s, batch, arrived))...)
}

// sendInPieces sends a resumable upload, lets go of it and ends it.
func (w *world) sendInPieces(ctx context.Context, s *storage.Store, data []byte) error {
	u, err := s.Begin(ctx, int64(len(data)))
	if err != nil {
		return err
	}
	defer u.Close()
	for _, end := range []int{len(data) / 3, len(data) / 2} {
		if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(data[u.Offset():end])); err != nil {
			return err
		}
		if err := u.Checkpoint(ctx); err != nil {
			if errors.Is(err, storage.ErrSync) {
				delete(w.staged, u.ID())
			}
			return err
		}
		w.note(u.ID(), &sending{data: data, declared: true, offset: u.Offset()})
	}
	if err := u.Close(); err != nil {
		return err
	}
	if u, err = s.Resume(ctx, u.ID()); err != nil {
		return err
	}
	defer u.Close()
	if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(data[u.Offset():])); err != nil {
		return err
	}
	sealed, err := u.Seal(ctx)
	if err == nil {
		w.staged[u.ID()].ending = true
		err = w.commit(ctx, s, []storage.Sealed{sealed}, [][]byte{data})
	}
	switch {
	case err == nil:
		w.staged[u.ID()] = nil
	case errors.Is(err, storage.ErrSync):
		delete(w.staged, u.ID()) // given up, as documented
	}
	return err
}
