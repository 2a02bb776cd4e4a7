package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

func openStore(t testing.TB, fsys vfs.FS, opt Options) *Store {
	t.Helper()
	if opt.Intent == 0 {
		opt.Intent = 4 << 20 // the usual one is much for a disk in memory
	}
	s, err := Open(t.Context(), fsys, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sealAll(t testing.TB, s *Store, contents ...[]byte) (batch []Sealed) {
	t.Helper()
	for _, data := range contents {
		u, err := s.Begin(t.Context(), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(t.Context(), 0, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		sealed, err := u.Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, sealed)
	}
	return batch
}

func putAll(t testing.TB, s *Store, contents ...[]byte) {
	t.Helper()
	batch := sealAll(t, s, contents...)
	if err := errors.Join(s.Commit(t.Context(), batch)...); err != nil {
		t.Fatal(err)
	}
	s.Release(batch)
}

func someContents(n, size int) (list [][]byte) {
	for i := range n {
		list = append(list, bytes.Repeat(fmt.Appendf(nil, "%8d", i), size/8))
	}
	return list
}

// Eight small files cost one flush; the names of one too large cost more.
func TestSmallFilesShareAFlush(t *testing.T) {
	disk := vfstest.NewDisk()
	s := openStore(t, disk, Options{})
	const flushes = vfstest.OpSync | vfstest.OpSyncDir | vfstest.OpSyncAll
	before := disk.Calls(flushes)
	putAll(t, s, someContents(8, 100_000)...)
	if n := disk.Calls(flushes) - before; n != 1 {
		t.Errorf("%d flushes for eight small files, want 1", n)
	}
	before = disk.Calls(flushes)
	putAll(t, s, make([]byte, intentLimit+1))
	if n := disk.Calls(flushes) - before; n != 2 {
		t.Errorf("%d flushes for a large file, want those of its data and its name", n)
	}
}

// What no longer fits is synced in its own files, and nobody waits for the log.
func TestFullIntentLogKeepsNobodyWaiting(t *testing.T) {
	block := &blockedDisk{FS: vfstest.NewDisk(), reached: make(chan struct{}, 1), goOn: make(chan struct{})}
	s := openStore(t, block, Options{Intent: 8 * intentBlock})
	contents := someContents(40, intentBlock)
	for _, data := range contents {
		putAll(t, s, data)
	}
	<-block.reached // the settling of the first segment has begun and hangs
	for _, data := range contents {
		if err := s.Verify(t.Context(), sha256.Sum256(data)); err != nil {
			t.Error(err)
		}
	}
	close(block.goOn)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// blockedDisk lets SyncAll wait.
type blockedDisk struct {
	vfs.FS
	reached chan struct{}
	goOn    chan struct{}
	late    bool // after it is done, not before: what comes meanwhile is not synced
}

func (d *blockedDisk) SyncAll() error {
	if d.late {
		defer func() { d.reached <- struct{}{}; <-d.goOn }()
		return d.FS.SyncAll()
	}
	select {
	case d.reached <- struct{}{}:
	default:
	}
	<-d.goOn
	return d.FS.SyncAll()
}

// A segment is not settled between the record of a file and its name: the file
// would be neither in the log nor on the disk.
func TestSettlingWaitsForNames(t *testing.T) { // R01
	synctest.Test(t, func(t *testing.T) {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, Options{})
		data := []byte("recorded, but not yet named")
		batch := sealAll(t, s, data)
		named := s.logSmall(batch, make([]error, 1))
		settled := make(chan error, 1)
		go func() { settled <- s.intent.removing(nil) }()
		synctest.Wait()
		if n := disk.Calls(vfstest.OpSyncAll); n != 0 {
			t.Error("settled before the name")
		}
		if err := batch[0].upload.giveName(); err != nil {
			t.Fatal(err)
		}
		named()
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		s = openStore(t, disk.PowerCut(rand.New(rand.NewPCG(1, 1))), Options{})
		if err := s.Verify(t.Context(), sha256.Sum256(data)); err != nil {
			t.Error(err)
		}
	})
}

// What is logged while the log is settled to be wiped is not wiped with it.
func TestWipingLeavesWhatCameMeanwhile(t *testing.T) { // R01 R27
	disk := vfstest.NewDisk()
	block := &blockedDisk{FS: disk, reached: make(chan struct{}, 1), goOn: make(chan struct{}), late: true}
	s := openStore(t, block, Options{})
	putAll(t, s, []byte("before it"))
	wiped := make(chan error, 1)
	go func() { wiped <- s.Wipe() }()
	<-block.reached
	contents := someContents(9, intentBlock)
	for _, data := range contents {
		putAll(t, s, data)
	}
	close(block.goOn)
	if err := <-wiped; err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(10) {
		s := openStore(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 1))), Options{})
		for i, data := range contents {
			if err := s.Verify(t.Context(), sha256.Sum256(data)); err != nil {
				t.Errorf("seed %d: content %d: %v", seed, i, err)
			}
		}
	}
}

// What was removed does not come back from the log, whatever crash follows, and
// of its bytes nothing stays in the files of the log.
func TestRemovedDoesNotComeBack(t *testing.T) { // R27 R28
	rng := vfstest.Seed(t)
	for range 100 {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, Options{Intent: int64(4+rng.IntN(12)) * intentBlock})
		var gone []Ref
		for i := range 30 {
			data := fmt.Appendf(nil, "the secret of %d", i)
			putAll(t, s, data)
			if rng.IntN(3) == 0 {
				ref := Ref(sha256.Sum256(data))
				gone = append(gone, ref)
				if _, err := s.Remove(t.Context(), []Ref{ref}, func(Ref) (bool, error) { return false, nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rng.IntN(2) == 0 {
			disk = disk.Kill()
			s = openStore(t, disk, Options{})
		}
		for _, ref := range gone {
			if _, err := s.Get(t.Context(), ref); !errors.Is(err, ErrNotFound) {
				t.Fatalf("removed, but: %v", err)
			}
		}
		if _, err := s.Sweep(t.Context(), -1, func(Ref) (bool, error) { return false, nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			b, err := vfs.ReadFile(disk, path.Join(intentDir, fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("the secret of")) {
				t.Fatal("the log still holds what was removed")
			}
		}
	}
}

// Nor does a power cut bring it back under its name, also where another process removed it
// and had no time to say so. R27 R28
func TestACutBringsNothingBack(t *testing.T) {
	rng := vfstest.Seed(t)
	for _, luck := range vfstest.Lucks() {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, Options{})
		var refs []Ref
		for i := range 8 {
			data := fmt.Appendf(nil, "the secret of %d", i)
			putAll(t, s, data)
			refs = append(refs, sha256.Sum256(data))
		}
		if err := s.Close(); err != nil { // the log is in blobs
			t.Fatal(err)
		}
		disk = disk.Kill()
		s = openStore(t, disk, Options{})
		if err := disk.Remove(refs[0].path()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Remove(t.Context(), refs, func(Ref) (bool, error) { return false, nil }); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, disk.PowerCutAs(rng, luck), Options{})
		for i, ref := range refs {
			if _, err := s.Get(t.Context(), ref); !errors.Is(err, ErrNotFound) {
				t.Errorf("%v: %d is back: %v", luck, i, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The kernel tells of an error of a folder once: a removal that hears of it does not keep
// it to itself, or the next upload would be acknowledged under a name that is not there.
func TestARemovalTellsOfUnsureNames(t *testing.T) { // R01
	disk := vfstest.NewDisk()
	s := openStore(t, disk, Options{})
	putAll(t, s, []byte("goes"))
	disk.Fail(vfstest.Fault{Ops: vfstest.OpSyncDir, Nth: 1, Err: syscall.EIO})
	if _, err := s.Remove(t.Context(), []Ref{sha256.Sum256([]byte("goes"))}, func(Ref) (bool, error) { return false, nil }); !errors.Is(err, ErrSync) {
		t.Errorf("it says %v", err)
	}
	disk.Heal()
	if _, err := s.Begin(t.Context(), 4); !errors.Is(err, ErrSync) {
		t.Errorf("an upload begins: %v", err)
	}
	if err := s.Close(); err != nil && !errors.Is(err, ErrSync) {
		t.Error(err)
	}
}

// After an error of the log uploads go on without it, and it loses nothing.
func TestBrokenIntentLog(t *testing.T) { // R01
	for _, op := range []vfstest.Op{vfstest.OpWrite, vfstest.OpSync} {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, Options{})
		before := someContents(3, 10_000)
		putAll(t, s, before...)
		disk.Fail(vfstest.Fault{Ops: op, Nth: 1, Err: syscall.EIO, Sticky: true, Path: func(name string) bool { return path.Dir(name) == intentDir }})
		after := someContents(3, 20_000)
		putAll(t, s, after...)
		if !errors.Is(s.Err(), syscall.EIO) {
			t.Errorf("%v: the volume is not flagged: %v", op, s.Err())
		}
		disk.Heal()
		s = openStore(t, disk.PowerCut(vfstest.Seed(t)), Options{})
		for _, data := range append(before, after...) {
			if err := s.Verify(t.Context(), sha256.Sum256(data)); err != nil {
				t.Errorf("%v: %v", op, err)
			}
		}
	}
}

// Nor does it when the power is cut while what the log holds is put in order after its
// error: a record that may not be on the disk replaces no file that is.
func TestCutsAfterABrokenIntentLog(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	for _, op := range []vfstest.Op{vfstest.OpWrite, vfstest.OpSync} {
		n := 1
		for cutAfterBrokenLog(t, rng, op, n) {
			n++
		}
		if n < 10 {
			t.Errorf("%v: only %d places to cut at", op, n-1)
		}
	}
}

// cutAfterBrokenLog cuts the power n calls after the log failed, and says whether there
// were so many.
func cutAfterBrokenLog(t *testing.T, rng *rand.Rand, op vfstest.Op, n int) bool {
	disk := vfstest.NewDisk()
	s := openStore(t, disk, Options{})
	acked := someContents(3, 10_000)
	putAll(t, s, acked...)
	disk.Fail(vfstest.Fault{Ops: op, Nth: 1, Err: syscall.EIO, Sticky: true, Path: func(name string) bool { return path.Dir(name) == intentDir }})
	after := someContents(3, 20_000)
	batch := sealAll(t, s, after...)
	cut := false
	disk.OnCut(func() { cut = true })
	disk.CutIn(n)
	for i, err := range s.Commit(t.Context(), batch) {
		if err == nil {
			acked = append(acked, after[i])
		}
	}
	s.Release(batch)
	_ = s.Close() // waits for the log
	disk.Heal()
	for _, luck := range vfstest.Lucks() {
		again := openStore(t, disk.PowerCutAs(rng, luck), Options{})
		for _, data := range acked {
			if err := again.Verify(t.Context(), sha256.Sum256(data)); err != nil {
				t.Errorf("%v, %v, cut at %d: %v", op, luck, n, err)
			}
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	return cut
}

// Several batches at once, small segments, removals in between: for -race.
func TestIntentLogSideBySide(t *testing.T) {
	disk := vfstest.NewDisk()
	s := openStore(t, disk, Options{Intent: 20 * intentBlock})
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 50 {
				data := fmt.Appendf(nil, "%d of %d", i, g)
				batch := sealAll(t, s, data, append(data, make([]byte, 5000)...))
				if err := errors.Join(s.Commit(context.Background(), batch)...); err != nil {
					t.Error(err)
				}
				s.Release(batch)
				if i%10 == 0 {
					if _, err := s.Remove(context.Background(), []Ref{batch[1].Ref}, func(Ref) (bool, error) { return false, nil }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wait.Wait()
	s = openStore(t, disk.PowerCut(vfstest.Seed(t)), Options{})
	for g := range 4 {
		for i := range 50 {
			if err := s.Verify(t.Context(), sha256.Sum256(fmt.Appendf(nil, "%d of %d", i, g))); err != nil {
				t.Error(err)
			}
		}
	}
}

// Whatever a segment holds, the volume opens, and what is put back has the name
// of its bytes.
func FuzzIntentLog(f *testing.F) {
	disk := vfstest.NewDisk()
	s := openStore(f, disk, Options{})
	putAll(f, s, []byte("one"), bytes.Repeat([]byte("two"), 3000))
	good, err := vfs.ReadFile(disk, path.Join(intentDir, "0"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-intentBlock-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfstest.NewDisk()
		if err := openStore(t, disk, Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(disk, path.Join(intentDir, "0"), b, stageMode); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, disk, Options{})
		for info, err := range s.Refs(t.Context()) {
			if err == nil {
				err = s.Verify(t.Context(), info.Ref)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		putAll(t, s, []byte("three"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A store that takes nothing more says so, whatever the reason.
func TestRecordsThatCannotBeVoided(t *testing.T) {
	disk := vfstest.NewDisk()
	s := openStore(t, disk, Options{})
	defer s.Close()
	putAll(t, s, []byte("one"))
	disk.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 1, Err: syscall.EIO, Path: func(name string) bool { return path.Dir(name) == intentDir }})
	if err := s.intent.removing(nil); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the log was emptied: %v", err)
	}
	if _, err := s.Begin(t.Context(), 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("an upload begins: %v", err)
	}
	if err := s.Err(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the volume is not flagged: %v", err)
	}
}
