package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

var every = flag.Bool("every", false, "let every single call fail, which takes minutes")

// A trial is one operation on a volume that holds some contents already.
type trial struct {
	name string
	run  func(*site) error
	long bool // it makes hundreds of calls that are all alike
}

// A site is a volume in a trial, and what must be on it.
type site struct {
	t      *testing.T
	ctx    context.Context
	disk   *vfstest.Disk
	store  *storage.Store
	stored map[storage.Ref][]byte
	opt    storage.Options
}

var (
	smallOne = bytes.Repeat([]byte("small "), 100)
	largeOne = bytes.Repeat([]byte("large, and never in the intent log "), 300)
	deadOne  = []byte("nobody keeps this any more")
	newOne   = []byte("this one is new")
)

func newSite(t *testing.T) *site {
	s := &site{t: t, ctx: t.Context(), disk: vfstest.NewDisk(), stored: map[storage.Ref][]byte{}}
	s.opt = storage.Options{Intent: 24 << 10, Acknowledged: func(_ context.Context, r storage.Ref) (bool, error) { return s.stored[r] != nil, nil }}
	s.store = mustOpen(t, s.disk, s.opt)
	for _, data := range [][]byte{smallOne, largeOne} {
		s.stored[mustPut(t, s.store, data)] = data
	}
	mustPut(t, s.store, deadOne)
	return s
}

func (s *site) live(r storage.Ref) (bool, error) { return s.stored[r] != nil, nil }

// keep stores a content and remembers it only if that was said to be done.
func (s *site) keep(data []byte) error {
	ref, err := put(s.ctx, s.store, data)
	if err == nil {
		s.stored[ref] = data
	}
	return err
}

func trials() []trial {
	return []trial{
		{name: "put small", run: func(s *site) error { return s.keep(newOne) }},
		{name: "put large", run: func(s *site) error { return s.keep(append(largeOne[1:], newOne...)) }},
		{name: "put known", run: func(s *site) error { return errors.Join(s.keep(largeOne), s.keep(smallOne)) }},
		{name: "get", run: func(s *site) error {
			for ref, want := range s.stored {
				b, err := s.store.Get(s.ctx, ref)
				if err != nil {
					return err
				}
				got, err := io.ReadAll(b)
				if err := errors.Join(err, b.Close()); err != nil {
					return err
				}
				if !bytes.Equal(got, want) {
					s.t.Errorf("a reader got %d wrong bytes", len(got))
				}
			}
			return nil
		}},
		{name: "scrub", run: func(s *site) error {
			for ref, data := range s.stored {
				damage, err := s.store.Inspect(s.ctx, ref, int64(len(data)), nil)
				if err != nil {
					return err
				}
				if damage != storage.Sound {
					s.t.Errorf("one failed call made a sound content %q", damage)
				}
			}
			return nil
		}},
		{name: "list", run: func(s *site) error {
			n := 0
			for _, err := range s.store.Refs(s.ctx) {
				if err != nil {
					return err
				}
				n++
			}
			if n != len(s.stored)+1 {
				s.t.Errorf("%d blobs were listed without an error", n)
			}
			return nil
		}, long: true},
		{name: "remove", run: func(s *site) error {
			var refs []storage.Ref
			for _, data := range [][]byte{smallOne, deadOne} {
				refs = append(refs, storage.Ref(sha256.Sum256(data)))
			}
			_, err := s.store.Remove(s.ctx, refs, s.live)
			return err
		}},
		{name: "sweep", run: func(s *site) error { _, err := s.store.Sweep(s.ctx, -1, s.live); return err }, long: true},
		{name: "heal", run: func(s *site) error {
			ref := storage.Ref(sha256.Sum256(largeOne))
			s.store.Doubt(ref)
			return s.keep(largeOne)
		}},
		{name: "resume", run: func(s *site) error {
			data := append([]byte("in pieces "), largeOne...)
			u, err := s.store.Begin(s.ctx, int64(len(data)))
			if err != nil {
				return err
			}
			defer u.Close()
			if _, err := u.Write(s.ctx, 0, bytes.NewReader(data[:5000])); err != nil {
				return err
			}
			if err := u.Checkpoint(s.ctx); err != nil {
				return err
			}
			if err := u.Close(); err != nil {
				return err
			}
			if u, err = s.store.Resume(s.ctx, u.ID()); err != nil {
				return err
			}
			defer u.Close()
			if u.Offset() < 5000 {
				s.t.Errorf("%d bytes are left of 5000", u.Offset())
			}
			if _, err := u.Write(s.ctx, u.Offset(), bytes.NewReader(data[u.Offset():])); err != nil {
				return err
			}
			sealed, err := u.Seal(s.ctx)
			if err != nil {
				return err
			}
			batch := []storage.Sealed{sealed}
			if err := s.store.Commit(s.ctx, batch)[0]; err != nil {
				return err
			}
			s.stored[sealed.Ref] = data
			s.store.Release(batch)
			return nil
		}},
		{name: "stop", run: func(s *site) error { return s.store.Close() }},
		{name: "start", run: func(s *site) error { // with records in the log
			opened, err := storage.Open(s.ctx, s.disk, s.opt)
			if err == nil {
				s.store = opened
			}
			return err
		}},
	}
}

// Every call of every operation fails, by every error that disks, quotas and limits
// give. The operation says so, or has done what it says; nothing that was kept is
// lost or half, after it and after a cut; and the store goes on, unless it said that
// a sync has failed. Each run takes other calls; with -every it takes all. R02 R06
func TestEveryOperationFailsAtEveryCall(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EINTR, syscall.EMFILE, syscall.EROFS} {
		for _, tr := range trials() {
			t.Run(fmt.Sprintf("%s/%v", tr.name, errno), func(t *testing.T) {
				t.Parallel()
				rng := vfstest.Seed(t)
				step := 4
				switch {
				case *every:
					step = 1
				case tr.long:
					step = 97
				case errno != syscall.EIO && errno != syscall.ENOSPC:
					step = 13
				}
				for n := 1 + rng.IntN(step); ; n += step {
					s := newSite(t)
					if tr.name == "start" {
						s.disk = s.disk.Kill() // which forgets faults
					}
					short := errno != syscall.EINTR && errno != syscall.EMFILE && n%2 == 0
					s.disk.Fail(vfstest.Fault{Nth: n, Err: errno, Short: short})
					err := tr.run(s)
					if !s.disk.Pending() {
						s.judge(tr, n, err)
					} else if err != nil {
						t.Fatalf("without a fault: %v", err)
					}
					pending := s.disk.Pending()
					s.disk.Heal()
					s.after(tr, n)
					s.disk = s.disk.PowerCut(rng)
					s.store = mustOpen(t, s.disk, s.opt)
					s.holds(tr, n, "after a cut")
					if pending {
						return
					}
				}
			})
		}
	}
}

// judge looks at what an operation said of a call that failed.
func (s *site) judge(tr trial, n int, err error) {
	s.t.Helper()
	switch {
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrWrongVolume):
		s.t.Errorf("call %d: a failed call looks like a missing file: %v", n, err)
	case errors.Is(err, storage.ErrSync) && s.store.Err() == nil && tr.name != "start":
		s.t.Errorf("call %d: a failed sync did not flag the volume: %v", n, err)
	}
}

// after: the store is as good as before, or says that it is not.
func (s *site) after(tr trial, n int) {
	s.t.Helper()
	if tr.name == "stop" || tr.name == "start" {
		s.disk = s.disk.Kill()
		s.store = mustOpen(s.t, s.disk, s.opt)
	}
	s.holds(tr, n, "at once")
	err := s.keep([]byte("after the fault"))
	if err != nil && s.store.Err() == nil {
		s.t.Errorf("call %d: nothing is wrong, but a file is refused: %v", n, err)
	}
	if err == nil && errors.Is(s.store.Err(), storage.ErrReadOnly) {
		s.t.Errorf("call %d: it took a file and says that it can only be read", n)
	}
}

// holds: everything that was said to be kept is there, whole.
func (s *site) holds(tr trial, n int, when string) {
	s.t.Helper()
	for ref, want := range s.stored {
		b, err := s.store.Get(s.ctx, ref)
		if err != nil {
			s.t.Errorf("call %d, %s: %v", n, when, err)
			continue
		}
		got, err := io.ReadAll(b)
		if err := errors.Join(err, b.Close()); err != nil || !bytes.Equal(got, want) {
			s.t.Errorf("call %d, %s: %d bytes came back where %d were kept, %v", n, when, len(got), len(want), err)
		}
	}
}

// When the sync of a stored blob fails, what was to be stored on its account is
// refused, and what was acknowledged before comes back from the intent log: the
// system may show bytes that are not on the disk.
func TestFailedSyncOfABlobLosesNothing(t *testing.T) { // R01
	for _, close := range []bool{true, false} {
		disk := vfstest.NewDisk()
		acked := func(context.Context, storage.Ref) (bool, error) { return true, nil }
		s := mustOpen(t, disk, storage.Options{Acknowledged: acked})
		ref := mustPut(t, s, []byte("x"))
		disk.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO})
		_, err := put(t.Context(), s, []byte("x"))
		wantErr(t, "put", err, storage.ErrSync)
		_, err = put(t.Context(), s, []byte("something else"))
		wantErr(t, "put after that", err, storage.ErrSync)
		if close {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		disk = disk.PowerCut(vfstest.Seed(t))
		s = mustOpen(t, disk, storage.Options{Acknowledged: acked})
		mustHold(t, s, ref, []byte("x"))
		mustPut(t, s, []byte("something else"))
	}
}

// A write-back that fails in the middle of a stream is a failed sync: no later
// sync that says nil is believed.
func TestFailedWriteBackIsFinal(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	disk.Fail(vfstest.Fault{Ops: vfstest.OpWriteBack, Nth: 2, Err: syscall.EIO})
	u, err := s.Begin(ctx, 20<<20)
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.Write(ctx, 0, io.LimitReader(zeros{}, 20<<20))
	wantErr(t, "write", err, storage.ErrSync)
	wantErr(t, "the volume is flagged", s.Err(), syscall.EIO)
	_, err = u.Write(ctx, u.Offset(), io.LimitReader(zeros{}, 20<<20-u.Offset()))
	wantErr(t, "write on", err, storage.ErrSync)
	_, err = u.Seal(ctx)
	wantErr(t, "seal", err, storage.ErrSync)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = put(ctx, s, []byte("another upload"))
	wantErr(t, "put", err, storage.ErrSync)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, disk, storage.Options{})
	mustPut(t, s, []byte("it goes on once the store was opened again"))
}

// After a failed sync of a directory no name can be trusted: the store takes
// nothing more, but still gives what it has.
func TestFailedDirectorySyncStopsTheStore(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{Intent: -1})
	data := random(100)
	ref := mustPut(t, s, data)
	u, err := s.Begin(ctx, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	disk.Fail(vfstest.Fault{Ops: vfstest.OpSyncDir, Nth: 1, Err: syscall.EIO})
	_, err = put(ctx, s, random(100))
	wantErr(t, "put", err, storage.ErrSync)
	_, err = put(ctx, s, random(100))
	wantErr(t, "put again", err, storage.ErrSync)
	_, err = u.Write(ctx, 0, strings.NewReader("x"))
	wantErr(t, "write", err, storage.ErrSync)
	mustHold(t, s, ref, data)
}

// What nobody was told to be stored is not relied on, whatever it looks like.
func TestUnacknowledgedBlobIsReplaced(t *testing.T) { // R01
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	mustPut(t, s, []byte("x"))
	renames := disk.Calls(vfstest.OpRename)
	mustPut(t, s, []byte("x"))
	if disk.Calls(vfstest.OpRename) == renames {
		t.Error("the old copy was kept")
	}
}
