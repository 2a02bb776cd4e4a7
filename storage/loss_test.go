package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"

	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

func in(dir string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, dir+"/") }
}

// tiny is a log that is made fast.
func tiny() Options { return Options{Intent: 32 * intentBlock} }

func nobody(Ref) (bool, error) { return false, nil }

func mustRemove(t *testing.T, s *Store, contents ...[]byte) {
	t.Helper()
	var refs []Ref
	for _, data := range contents {
		refs = append(refs, sha256.Sum256(data))
	}
	if _, err := s.Remove(t.Context(), refs, nobody); err != nil {
		t.Fatal(err)
	}
}

func mustHave(t *testing.T, s *Store, contents ...[]byte) {
	t.Helper()
	for i, data := range contents {
		if err := s.Verify(t.Context(), sha256.Sum256(data)); err != nil {
			t.Errorf("content %d: %v", i, err)
		}
	}
}

func mustNotHave(t *testing.T, s *Store, data []byte) {
	t.Helper()
	if _, err := s.Get(t.Context(), sha256.Sum256(data)); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed, but: %v", err)
	}
}

// What is removed while the log of an earlier process cannot be put back, as on a full
// disk, does not come back when it can; the rest does.
func TestRemovedBeforeTheLogIsPutBack(t *testing.T) { // R27
	rng := vfstest.Seed(t)
	for _, fault := range []vfstest.Fault{
		{Ops: vfstest.OpCreate, Err: syscall.ENOSPC, Path: in(stagingDir)},
		{Ops: vfstest.OpWrite, Err: syscall.ENOSPC, Path: in(stagingDir)},
		{Ops: vfstest.OpWrite, Err: syscall.EIO, Path: in(intentDir)}, // it cannot be made void
		{Ops: vfstest.OpSync, Err: syscall.EIO, Path: in(intentDir)},
		{Ops: vfstest.OpOpen, Err: syscall.EIO, Path: in(intentDir)},
		{Ops: vfstest.OpRead, Err: syscall.EIO, Path: in(intentDir)},
		{Ops: vfstest.OpMkdir, Err: syscall.EIO, Path: func(name string) bool { return name == intentDir }},
	} {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, tiny())
		contents := someContents(3, 10_000)
		putAll(t, s, contents...)
		disk = disk.Kill()
		fault.Nth, fault.Sticky = 1, true
		disk.Fail(fault)
		s = openStore(t, disk, tiny())
		disk.Heal()
		mustRemove(t, s, contents[1])
		s = openStore(t, disk.PowerCutAs(rng, vfstest.Drop), tiny())
		mustNotHave(t, s, contents[1])
		mustHave(t, s, contents[0], contents[2])
	}
}

// Records that were made void in memory only are made so on the disk by the next process:
// else a power cut brings back what that one removed.
func TestRecordsThatOnlyLookVoid(t *testing.T) { // R27
	disk := vfstest.NewDisk()
	s := openStore(t, disk, tiny())
	data := []byte("the secret")
	putAll(t, s, data)
	disk.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO, Path: in(intentDir)})
	if err := s.intent.removing(nil); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	disk = disk.Kill()
	s = openStore(t, disk, tiny())
	mustRemove(t, s, data)
	s = openStore(t, disk.PowerCutAs(vfstest.Seed(t), vfstest.Drop), tiny())
	mustNotHave(t, s, data)
}

// A process is killed while it makes the volume. What the next one acknowledges does not
// hang on a name that the first has not made durable.
func TestKilledWhileTheVolumeIsMade(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	disk := vfstest.NewDisk()
	openStore(t, disk, Options{Intent: 1 << 16})
	calls := disk.Calls(vfstest.OpAny)
	data := []byte("acknowledged")
	for n := calls - 30; n <= calls; n++ {
		disk := vfstest.NewDisk()
		disk.CutIn(n)
		_, _ = Open(t.Context(), disk, Options{Intent: 1 << 16})
		disk = disk.Kill()
		s := openStore(t, disk, Options{Intent: 1 << 16})
		putAll(t, s, data)
		s = openStore(t, disk.PowerCutAs(rng, vfstest.Drop), Options{Volume: s.VolumeID(), Intent: 1 << 16})
		mustHave(t, s, data)
		if t.Failed() {
			t.Fatalf("killed at call %d of %d", n, calls)
		}
	}
}

// A sync of the volume that fails, for want of room, too, loses files of both segments
// and of uploads that are not in the log yet, and the next one does not say so.
func TestAFailedSyncOfAllIsToldOnce(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, Options{Intent: 8 * intentBlock})
		disk.Fail(vfstest.Fault{Ops: vfstest.OpSyncAll, Nth: 1, Err: errno})
		contents := someContents(9, 2*intentBlock-recordHeader-8)
		early := sealAll(t, s, contents[8])
		var kept [][]byte
		for _, data := range contents[:8] {
			u, err := s.Begin(t.Context(), int64(len(data)))
			if err != nil {
				break
			}
			if _, err := u.Write(t.Context(), 0, bytes.NewReader(data)); err == nil {
				if sealed, err := u.Seal(t.Context()); err == nil && s.Commit(t.Context(), []Sealed{sealed})[0] == nil {
					kept = append(kept, data)
				}
			}
			_ = u.Close()
		}
		if s.Commit(t.Context(), early)[0] == nil {
			kept = append(kept, contents[8])
		}
		if len(kept) < 4 {
			t.Errorf("%v: only %d were kept", errno, len(kept))
		}
		_ = s.Close() // settles all
		disk.Heal()
		s = openStore(t, disk.PowerCutAs(rng, vfstest.Drop), tiny())
		mustHave(t, s, kept...)
	}
}

// A segment that could only be made void by cutting it off, on a full disk, is put back
// like any other.
func TestASegmentThatWasCutOff(t *testing.T) { // R01
	disk := vfstest.NewDisk()
	s := openStore(t, disk, tiny())
	putAll(t, s, []byte("before"))
	disk.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 1, Err: syscall.ENOSPC, Path: in(intentDir)})
	if err := s.intent.removing(nil); err != nil {
		t.Fatal(err)
	}
	putAll(t, s, []byte("after"))
	disk.Fail(vfstest.Fault{Ops: vfstest.OpSyncAll, Nth: 1, Err: syscall.EIO})
	if err := s.intent.removing(nil); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, disk.PowerCutAs(vfstest.Seed(t), vfstest.Drop), tiny())
	mustHave(t, s, []byte("before"), []byte("after"))
}

// A block of the log that the disk does not give costs no other record.
func TestABlockThatCannotBeRead(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	for bad := 3; bad < 9; bad++ { // after the heads of both segments
		disk := vfstest.NewDisk()
		s := openStore(t, disk, tiny())
		contents := someContents(3, 1000)
		putAll(t, s, contents...)
		disk = disk.PowerCutAs(rng, vfstest.Drop)
		for nth := bad; nth < bad+2; nth++ { // once more does not help
			disk.Fail(vfstest.Fault{Ops: vfstest.OpRead, Nth: nth, Err: syscall.EIO, Path: in(intentDir)})
		}
		s = openStore(t, disk, tiny())
		disk.Heal()
		lost := 0
		for _, data := range contents {
			if s.Verify(t.Context(), sha256.Sum256(data)) != nil {
				lost++
			}
		}
		if lost != 1 {
			t.Errorf("%d of 3 are lost where one could not be read", lost)
		}
		putAll(t, s, []byte("it goes on"))
		s = openStore(t, disk.Kill(), tiny())
		mustHave(t, s, append(contents, []byte("it goes on"))...)
	}
}

// A content is sent again while it is being removed, and is not kept: its record does not
// bring it back.
func TestRemovedWhileItIsSentAgain(t *testing.T) { // R27
	rng := vfstest.Seed(t)
	for _, luck := range vfstest.Lucks() {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, tiny())
		first, data := []byte("first"), []byte("the secret")
		putAll(t, s, first, data)
		again := func(ref Ref) (bool, error) {
			if ref == sha256.Sum256(first) {
				putAll(t, s, data)
			}
			return false, nil
		}
		if _, err := s.Remove(t.Context(), []Ref{sha256.Sum256(first), sha256.Sum256(data)}, again); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, disk.PowerCutAs(rng, luck), tiny())
		mustNotHave(t, s, data)
	}
}

// hooked calls something in place of, or before, calls of a disk.
type hooked struct {
	*vfstest.Disk
	syncDir func(name string) error
	syncAll func()
}

func (d *hooked) SyncDir(name string) error {
	if d.syncDir != nil {
		return d.syncDir(name)
	}
	return d.Disk.SyncDir(name)
}

func (d *hooked) SyncAll() error {
	if d.syncAll != nil {
		d.syncAll()
	}
	return d.Disk.SyncAll()
}

var _ vfs.FS = (*hooked)(nil)

// Two sync the same directory at the same time, and the system tells one of them of an
// error: neither believes its names.
func TestAnErrorOfAFolderIsToldOnce(t *testing.T) { // R01
	disk := &hooked{Disk: vfstest.NewDisk()}
	s := openStore(t, disk, tiny())
	verdicts := make(chan error, 2)
	told := false
	disk.syncDir = func(string) error {
		if told {
			return nil
		}
		told = true
		go func() { verdicts <- s.syncShard(shardDir(7)) }()
		return syscall.EIO
	}
	verdicts <- s.syncShard(shardDir(7))
	for range 2 {
		if err := <-verdicts; !errors.Is(err, ErrSync) {
			t.Errorf("one is told %v", err)
		}
	}
	disk.syncDir = nil
	_ = s.Close()
}

// While the log is settled somebody else is told that names of a directory are lost, or
// the bytes of a file: the records do not go before these are put back.
func TestAnErrorThatAnotherIsTold(t *testing.T) { // R01
	data := []byte("acknowledged")
	ref := Ref(sha256.Sum256(data))
	for _, op := range []vfstest.Op{vfstest.OpSyncDir, vfstest.OpSync} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			disk := &hooked{Disk: vfstest.NewDisk()}
			s := openStore(t, disk, Options{Intent: 32 * intentBlock, Acknowledged: func(context.Context, Ref) (bool, error) { return true, nil }})
			putAll(t, s, data)
			disk.syncAll = func() {
				disk.syncAll = nil
				disk.Fail(vfstest.Fault{Ops: op, Nth: 1, Err: errno, Path: func(name string) bool { return name == ref.path() || name == path.Dir(ref.path()) }})
				if op == vfstest.OpSyncDir {
					_ = s.syncShard(path.Dir(ref.path()))
				} else {
					_, _ = s.makeSure(t.Context(), ref, int64(len(data)))
				}
				if disk.Pending() {
					t.Error("the fault did not strike")
				}
			}
			_ = s.intent.removing(nil)
			_ = s.Close()
			again := openStore(t, disk.PowerCutAs(vfstest.Seed(t), vfstest.Drop), tiny())
			mustHave(t, again, data)
			if t.Failed() {
				t.Fatal(fmt.Sprint(op, errno))
			}
		}
	}
}

// The system writes behind, fails, and lets go of the pages before the log reads them:
// what it then reads is not acknowledged.
func TestBytesThatWereLostBeforeTheLog(t *testing.T) { // R01 R02
	disk := vfstest.NewDisk()
	s := openStore(t, disk, tiny())
	good, bad := []byte("one that is well"), bytes.Repeat([]byte("one that is lost "), 300)
	batch := sealAll(t, s, good, bad)
	name := stagingDir + "/" + batch[1].upload.name
	disk.Lose(func(n string) bool { return n == name })
	f, err := disk.OpenFile(name, vfs.ReadOnly, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Evict(0, 0), f.Close()); err != nil {
		t.Fatal(err)
	}
	verdicts := s.Commit(t.Context(), batch)
	if verdicts[0] != nil || verdicts[1] == nil {
		t.Errorf("%v", verdicts)
	}
	s.Release(batch)
	s = openStore(t, disk.PowerCutAs(vfstest.Seed(t), vfstest.Drop), tiny())
	mustHave(t, s, good)
	mustNotHave(t, s, bad)
}
