package storage_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// send stores one content in one piece, up to Commit.
func send(ctx context.Context, s *storage.Store, data []byte) (storage.Sealed, error) {
	u, err := s.Begin(ctx, int64(len(data)))
	if err != nil {
		return storage.Sealed{}, err
	}
	defer u.Close()
	if _, err := u.Write(ctx, 0, bytes.NewReader(data)); err != nil {
		return storage.Sealed{}, err
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		return storage.Sealed{}, err
	}
	return sealed, s.Commit(ctx, []storage.Sealed{sealed})[0]
}

// put is send and Release.
func put(ctx context.Context, s *storage.Store, data []byte) (storage.Ref, error) {
	sealed, err := send(ctx, s, data)
	if sealed.Size > 0 || err == nil {
		s.Release([]storage.Sealed{sealed})
	}
	return sealed.Ref, err
}

func mustPut(t *testing.T, s *storage.Store, data []byte) storage.Ref {
	t.Helper()
	ref, err := put(t.Context(), s, data)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func pathOf(ref storage.Ref) string { return "blobs/" + ref.String()[:2] + "/" + ref.String() }

// random is never twice the same.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// The whole way on the real file system, with every kind of size.
func TestRealDisk(t *testing.T) { // R01 R02
	ctx := t.Context()
	fsys, err := vfs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	s := mustOpen(t, fsys, storage.Options{})
	for _, n := range []int{0, 1, 65535, 65536, 100_000, 1 << 20, 1<<20 + 1, 9 << 20, 65<<20 + 3} {
		data := random(n)
		for range 2 {
			ref := mustPut(t, s, data)
			if ref != sha256.Sum256(data) {
				t.Fatalf("%d bytes: wrong name %s", n, ref)
			}
			mustHold(t, s, ref, data)
		}
	}
	u, err := s.Begin(ctx, 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(ctx, 0, bytes.NewReader(make([]byte, 12))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(u.Checkpoint(ctx), u.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, fsys, storage.Options{Volume: s.VolumeID()})
	if u, err = s.Resume(ctx, u.ID()); err != nil || u.Offset() != 12 || u.Size() != 20 {
		t.Fatal(u, err)
	}
	if _, err := u.Write(ctx, 12, bytes.NewReader(make([]byte, 8))); err != nil {
		t.Fatal(err)
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Ref != sha256.Sum256(make([]byte, 20)) || sealed.SHA1 != sha1.Sum(make([]byte, 20)) {
		t.Error("wrong sums after resuming")
	}
	if err := s.Commit(ctx, []storage.Sealed{sealed})[0]; err != nil {
		t.Fatal(err)
	}
	s.Release([]storage.Sealed{sealed})
	if entries, err := fsys.ReadDir("staging"); err != nil || len(entries) > 0 {
		t.Errorf("left in staging: %v %v", entries, err)
	}
	if info, err := fsys.Stat(pathOf(sealed.Ref)); err != nil || info.Mode() != 0o440 {
		t.Errorf("the blob's mode: %v %v", info, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecondStoreIsRefused(t *testing.T) {
	both := func(name string, fsys vfs.FS) {
		s := mustOpen(t, fsys, storage.Options{})
		_, err := storage.Open(t.Context(), fsys, storage.Options{Intent: 64 << 10})
		wantErr(t, name+": second store", err, storage.ErrLocked)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, fsys, storage.Options{})
		if again.VolumeID() != s.VolumeID() {
			t.Errorf("%s: the volume changed its identity", name)
		}
	}
	dir, err := vfs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	both("Dir", dir)
	both("Disk", vfstest.NewDisk())
}

// One bad sector, or an fsck that takes a folder out of the tree, does not end a box.
func TestVolumeMends(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	id := s.VolumeID()
	ref := mustPut(t, s, []byte("x"))
	volume, err := vfs.ReadFile(disk, "VOLUME")
	if err != nil {
		t.Fatal(err)
	}
	again := func(what string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = storage.Open(ctx, disk, storage.Options{Volume: id, Intent: 64 << 10}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, name := range []string{"VOLUME", "VOLUME.copy"} {
			if data, err := vfs.ReadFile(disk, name); err != nil || !bytes.Equal(data, volume) {
				t.Errorf("%s: %s is %q, %v", what, name, data, err)
			}
		}
	}
	for _, name := range []string{"VOLUME", "VOLUME.copy"} {
		for what, text := range map[string]string{
			"cut":         string(volume[:len(volume)/2]),
			"empty":       "",
			"one bit":     strings.Replace(string(volume), "volume 1", "volume 3", 1),
			"another bit": strings.Replace(string(volume), "created 2", "created 3", 1),
		} {
			if err := vfs.WriteFile(disk, name, []byte(text), 0o440); err != nil {
				t.Fatal(err)
			}
			again(name + " is " + what)
		}
		if err := disk.Remove(name); err != nil {
			t.Fatal(err)
		}
		again(name + " is lost")
	}
	disk.Fail(vfstest.Fault{Ops: vfstest.OpRead, Nth: 1, Err: syscall.EIO, Path: func(name string) bool { return name == "VOLUME" }})
	again("a sector of VOLUME is bad")
	if disk.Pending() {
		t.Error("VOLUME was not read")
	}
	shard := path.Join("blobs", ref.String()[:2])
	for _, lost := range []string{shard, "staging", "blobs"} {
		for _, instead := range []string{"nothing", "a file"} {
			if _, err := disk.Stat("lost+found"); err != nil {
				if err := disk.Mkdir("lost+found", 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := disk.Rename(lost, path.Join("lost+found", path.Base(lost)+instead)); err != nil {
				t.Fatal(err)
			}
			if instead == "a file" {
				if err := vfs.WriteFile(disk, lost, []byte("not a folder"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			again(lost + " is " + instead)
			mustPut(t, s, []byte("x"))
			mustHold(t, s, ref, []byte("x"))
		}
	}
}

// A volume without its identity is absent, not empty, and nothing is written.
func TestWrongVolumeIsRefused(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	id := s.VolumeID()
	mustPut(t, s, []byte("x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	volume, err := vfs.ReadFile(disk, "VOLUME")
	if err != nil {
		t.Fatal(err)
	}
	writes := vfstest.OpCreate | vfstest.OpWrite | vfstest.OpMkdir | vfstest.OpRename | vfstest.OpRemove
	refused := func(what string, d *vfstest.Disk, want string) {
		t.Helper()
		before := d.Calls(writes)
		_, err := storage.Open(ctx, d, storage.Options{Volume: want, Intent: 64 << 10})
		wantErr(t, what, err, storage.ErrWrongVolume)
		if d.Calls(writes) != before {
			t.Errorf("%s: something was written", what)
		}
	}
	refused("an empty directory", vfstest.NewDisk(), id)
	other := vfstest.NewDisk()
	if err := mustOpen(t, other, storage.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	foreign, err := vfs.ReadFile(other, "VOLUME")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"VOLUME", "VOLUME.copy"} {
		if err := vfs.WriteFile(disk, name, foreign, 0o440); err != nil {
			t.Fatal(err)
		}
		refused(name+" of another volume", disk, id)
		refused(name+" of another volume, none expected", disk, "")
		if err := vfs.WriteFile(disk, name, volume, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	refused("another volume", disk, strings.Repeat("a", 26))
	for what, text := range map[string]string{
		"a damaged VOLUME": strings.Replace(string(volume), "created 2", "created 3", 1),
		"a newer VOLUME":   strings.Replace(string(volume), "volume 1", "volume 2", 1),
		"an empty VOLUME":  "",
	} {
		for _, name := range []string{"VOLUME", "VOLUME.copy"} {
			if err := vfs.WriteFile(disk, name, []byte(text), 0o440); err != nil {
				t.Fatal(err)
			}
		}
		refused(what, disk, id)
		refused(what+", none expected", disk, "")
	}
	for _, name := range []string{"VOLUME", "VOLUME.copy"} {
		if err := disk.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	refused("no VOLUME", disk, id)
	_, err = storage.Open(ctx, disk, storage.Options{Intent: 64 << 10})
	wantErr(t, "blobs without VOLUME", err, storage.ErrWrongVolume)
	if _, err := disk.Stat("VOLUME"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new identity was given to old blobs")
	}
}

func TestWriteRefuses(t *testing.T) {
	ctx := t.Context()
	s := mustOpen(t, vfstest.NewDisk(), storage.Options{})
	for _, size := range []int64{5, 3 << 20} { // both ways of Write
		u, err := s.Begin(ctx, size)
		if err != nil {
			t.Fatal(err)
		}
		n, err := u.Write(ctx, 1, strings.NewReader("x"))
		wantErr(t, "a gap", err, storage.ErrOffset)
		if n != 0 || u.Offset() != 0 {
			t.Errorf("%d bytes were taken", n)
		}
		_, err = u.Seal(ctx)
		wantErr(t, "sealed too early", err, storage.ErrIncomplete)
		n, err = u.Write(ctx, 0, io.LimitReader(zeros{}, size+1))
		wantErr(t, "too long", err, storage.ErrTooLong)
		if n != size {
			t.Errorf("%d bytes were kept of %d", n, size)
		}
		_, err = u.Seal(ctx)
		wantErr(t, "sealed though too long", err, storage.ErrTooLong)
		wantErr(t, "checkpoint though too long", u.Checkpoint(ctx), storage.ErrTooLong)
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = u.Write(ctx, 0, strings.NewReader("x"))
		wantErr(t, "write after close", err, storage.ErrTooLong)
	}
	if _, err := s.Begin(ctx, -2); err == nil {
		t.Error("size -2 was accepted")
	}
	for _, id := range []string{"", "..", "../VOLUME", strings.Repeat("a", 26), strings.Repeat("A", 26), strings.Repeat("a", 25) + "/"} {
		_, err := s.Resume(ctx, id)
		wantErr(t, "resume "+id, err, storage.ErrNotFound)
		wantErr(t, "discard "+id, s.Discard(ctx, id), storage.ErrNotFound)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What arrived before the wire broke is kept, and the upload goes on from there.
func TestWriteKeepsWhatArrived(t *testing.T) {
	ctx := t.Context()
	s := mustOpen(t, vfstest.NewDisk(), storage.Options{})
	broken := errors.New("the phone left the room")
	for _, size := range []int{3000, 2 << 20} {
		for _, declared := range []int64{int64(size), -1} {
			data := random(size)
			u, err := s.Begin(ctx, declared)
			if err != nil {
				t.Fatal(err)
			}
			for _, end := range []int{0, size / 3, size / 3, size/2 + 1} {
				have := u.Offset()
				n, err := u.Write(ctx, have, io.MultiReader(bytes.NewReader(data[have:end]), iotest.ErrReader(broken)))
				wantErr(t, "broken wire", err, broken)
				if have+n != int64(end) || u.Offset() != int64(end) {
					t.Fatalf("kept %d bytes up to %d of %d", n, u.Offset(), end)
				}
			}
			gone, cancel := context.WithCancelCause(ctx)
			cancel(broken)
			_, err = u.Write(gone, u.Offset(), zeros{})
			wantErr(t, "withdrawn", err, broken)
			if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(data[u.Offset():])); err != nil {
				t.Fatal(err)
			}
			sealed, err := u.Seal(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if sealed.Ref != sha256.Sum256(data) || sealed.Size != int64(size) || u.Size() != int64(size) {
				t.Errorf("sealed %d bytes as %s", sealed.Size, sealed.Ref)
			}
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSetSize(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	u, err := s.Begin(ctx, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(ctx, 0, strings.NewReader("12345")); err != nil {
		t.Fatal(err)
	}
	if err := u.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "less than has come", u.SetSize(4), storage.ErrTooLong)
	if err := errors.Join(u.SetSize(6), u.SetSize(6)); err != nil {
		t.Fatal(err)
	}
	if err := u.SetSize(7); err == nil {
		t.Error("the size was declared twice")
	}
	if err := errors.Join(u.Checkpoint(ctx), u.Close()); err != nil {
		t.Fatal(err)
	}
	if u, err = s.Resume(ctx, u.ID()); err != nil || u.Size() != 6 || u.Offset() != 5 {
		t.Fatalf("%d of %d: %v", u.Offset(), u.Size(), err)
	}
	_, err = s.Resume(ctx, u.ID())
	wantErr(t, "resumed twice", err, storage.ErrInUse)
	wantErr(t, "discarded in use", s.Discard(ctx, u.ID()), storage.ErrInUse)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	for info, err := range s.Staged(ctx) {
		if err != nil || info.ID != u.ID() || info.Size != 6 || info.Offset != 5 || time.Since(info.Modified) > time.Hour {
			t.Errorf("%+v %v", info, err)
		}
	}
	if err := s.Discard(ctx, u.ID()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Resume(ctx, u.ID())
	wantErr(t, "resumed after discard", err, storage.ErrNotFound)
}

// A full disk says so before the first byte, or in the middle; nothing else
// breaks, and what is removed makes room again.
func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{Reserve: 1 << 20})
	kept := mustPut(t, s, random(100_000))
	disk.SetCapacity(3 << 20)
	_, err := s.Begin(ctx, 2<<20)
	wantErr(t, "no room above the reserve", err, storage.ErrFull)
	first, err := s.Begin(ctx, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Begin(ctx, 1<<20)
	wantErr(t, "promised twice", err, storage.ErrFull)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := s.Begin(ctx, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.Write(ctx, 0, io.LimitReader(zeros{}, 8<<20))
	wantErr(t, "filled up", err, storage.ErrFull)
	wantErr(t, "and its cause", err, syscall.ENOSPC)
	if err := s.Verify(ctx, kept); err != nil {
		t.Error(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, random(1<<20-5))
	if s.Err() != nil {
		t.Errorf("a full disk is not a failing one: %v", s.Err())
	}
	swept, err := s.Sweep(ctx, -time.Hour, func(storage.Ref) (bool, error) { return false, nil })
	if err != nil || swept.Blobs != 2 || swept.Bytes != 100_000+1<<20-5 {
		t.Errorf("%+v %v", swept, err)
	}
}

// By default a small disk keeps 5 % free, a large one 1 % and at least 64 MiB.
func TestDefaultReserve(t *testing.T) {
	ctx := t.Context()
	for total, reserve := range map[int64]int64{
		64 << 20:  64 << 20 / 20,
		2 << 30:   64 << 20,
		100 << 30: 1 << 30,
	} {
		disk := vfstest.NewDisk()
		s := mustOpen(t, disk, storage.Options{})
		disk.SetCapacity(total)
		space, err := s.Space()
		if err != nil {
			t.Fatal(err)
		}
		u, err := s.Begin(ctx, space.Free-reserve)
		if err != nil {
			t.Errorf("%d bytes: %v", total, err)
			continue
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = s.Begin(ctx, space.Free-reserve+1)
		wantErr(t, fmt.Sprintf("%d bytes", total), err, storage.ErrFull)
	}
}

// Damage is found, is not taken for the content when that is sent again, and is
// healed by it: whichever way it was found, and also when nobody looked. R03
func TestSendingAgainHeals(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	acked := func(context.Context, storage.Ref) (bool, error) { return true, nil }
	isBlob := func(name string) bool { return strings.HasPrefix(name, "blobs/") }
	s := mustOpen(t, disk, storage.Options{Acknowledged: acked})
	for what, harm := range map[string]func(ref storage.Ref) error{
		"a flipped bit": func(ref storage.Ref) error { return disk.Corrupt(pathOf(ref), 4711) },
		"a flipped bit that was found": func(ref storage.Ref) error {
			err := disk.Corrupt(pathOf(ref), 4711)
			wantErr(t, "verify", s.Verify(ctx, ref), storage.ErrDamaged)
			return err
		},
		"a lost end": func(ref storage.Ref) error {
			if err := disk.Remove(pathOf(ref)); err != nil {
				return err
			}
			f, err := disk.OpenFile(pathOf(ref), vfs.CreateNew, 0o440)
			if err != nil {
				return err
			}
			return f.Close()
		},
		"a bad sector": func(ref storage.Ref) error {
			disk.Fail(vfstest.Fault{Ops: vfstest.OpRead, Nth: 1, Err: syscall.EIO, Path: isBlob})
			return nil
		},
		"a doubt": func(ref storage.Ref) error { s.Doubt(ref); return nil },
	} {
		data := random(9000)
		ref := mustPut(t, s, data)
		if err := harm(ref); err != nil {
			t.Fatal(err)
		}
		renames := disk.Calls(vfstest.OpRename)
		if again := mustPut(t, s, data); again != ref {
			t.Fatal("another name")
		}
		if disk.Calls(vfstest.OpRename) == renames {
			t.Errorf("%s: the old copy was kept", what)
		}
		if err := s.Verify(ctx, ref); err != nil {
			t.Errorf("%s: sent again, still %v", what, err)
		}
		renames = disk.Calls(vfstest.OpRename)
		mustPut(t, s, data)
		if disk.Calls(vfstest.OpRename) != renames {
			t.Errorf("%s: a good copy was replaced", what)
		}
	}
	wantErr(t, "verify what is not there", s.Verify(ctx, storage.Ref{1}), storage.ErrNotFound)
	_, err := s.Get(ctx, storage.Ref{1})
	wantErr(t, "get what is not there", err, storage.ErrNotFound)
}

func TestRefs(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	want := make(map[storage.Ref]int64)
	for n := range 50 {
		want[mustPut(t, s, random(n))] = int64(n)
	}
	for _, name := range []string{"blobs/00/README", "blobs/00/" + strings.Repeat("A", 64), "blobs/01/" + strings.Repeat("0", 64)} {
		if err := vfs.WriteFile(disk, name, []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var last storage.Ref
	seen := 0
	for info, err := range s.Refs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if size, ok := want[info.Ref]; !ok || size != info.Size || bytes.Compare(info.Ref[:], last[:]) <= 0 {
			t.Errorf("%+v after %s", info, last)
		}
		last = info.Ref
		seen++
	}
	if seen != len(want) {
		t.Errorf("saw %d of %d blobs", seen, len(want))
	}
	if _, err := s.Sweep(ctx, -time.Hour, func(storage.Ref) (bool, error) { return false, nil }); err != nil {
		t.Fatal(err)
	}
	if data, err := vfs.ReadFile(disk, "blobs/00/README"); err != nil || string(data) != "not ours" {
		t.Errorf("what is not ours was touched: %q %v", data, err)
	}
}

func TestSweepSparesTheYoungThePinnedAndTheLive(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	disk.SetNow(clock)
	s := mustOpen(t, disk, storage.Options{Now: clock})
	live, pinned, old := mustPut(t, s, []byte("live")), mustPut(t, s, []byte("pinned")), mustPut(t, s, []byte("old"))
	unpin, err := s.Pin(ctx, pinned)
	if err != nil {
		t.Fatal(err)
	}
	unreleased, err := send(ctx, s, []byte("not yet released"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(25 * time.Hour)
	young := mustPut(t, s, []byte("young"))
	isLive := func(r storage.Ref) (bool, error) { return r == live, nil }
	swept, err := s.Sweep(ctx, 24*time.Hour, isLive)
	if err != nil || swept.Blobs != 1 || swept.Bytes != 3 {
		t.Errorf("%+v %v", swept, err)
	}
	for _, ref := range []storage.Ref{live, pinned, unreleased.Ref, young} {
		if err := s.Verify(ctx, ref); err != nil {
			t.Error(err)
		}
	}
	_, err = s.Pin(ctx, old)
	wantErr(t, "pin what was swept", err, storage.ErrNotFound)
	unpin()
	unpin()
	s.Release([]storage.Sealed{unreleased})
	if swept, err = s.Remove(ctx, []storage.Ref{live, pinned, unreleased.Ref, old, young}, isLive); err != nil || swept.Blobs != 3 {
		t.Errorf("%+v %v", swept, err)
	}
	trouble := errors.New("the catalogue does not answer")
	now = now.Add(25 * time.Hour)
	_, err = s.Sweep(ctx, 24*time.Hour, func(storage.Ref) (bool, error) { return false, trouble })
	wantErr(t, "sweep", err, trouble)
	mustHold(t, s, live, []byte("live"))
}

// Uploads, pins and sweeps of the same few contents race. A blob that a row
// names is there at every moment.
func TestSweepRacesWithCommitAndPin(t *testing.T) { // R04
	ctx := t.Context()
	s := mustOpen(t, vfstest.NewDisk(), storage.Options{})
	contents := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	rows := make([]atomic.Int32, len(contents))
	index := make(map[storage.Ref]int)
	for i, data := range contents {
		index[sha256.Sum256(data)] = i
	}
	live := func(r storage.Ref) (bool, error) { return rows[index[r]].Load() > 0, nil }
	// withRow has a row for a moment, which begins under a pin.
	withRow := func(i int, release func()) {
		rows[i].Add(1)
		release()
		if err := s.Verify(ctx, sha256.Sum256(contents[i])); err != nil {
			t.Errorf("a row without its blob: %v", err)
		}
		rows[i].Add(-1)
	}
	var work, sweeps sync.WaitGroup
	for i := range contents {
		for range 2 {
			work.Go(func() {
				for range 150 {
					sealed, err := send(ctx, s, contents[i])
					if err != nil {
						t.Error(err)
						return
					}
					withRow(i, func() { s.Release([]storage.Sealed{sealed}) })
				}
			})
		}
		work.Go(func() {
			for range 300 {
				release, err := s.Pin(ctx, sha256.Sum256(contents[i]))
				if err == nil {
					withRow(i, release)
				} else if !errors.Is(err, storage.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var removed atomic.Int32
	sweeps.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			swept, err := s.Sweep(ctx, -time.Hour, live)
			if err != nil {
				t.Error(err)
				return
			}
			removed.Add(int32(swept.Blobs))
		}
	})
	work.Wait()
	close(stop)
	sweeps.Wait()
	if removed.Load() == 0 {
		t.Error("nothing was ever swept: the race was not run")
	}
}

// Many senders at once, in batches, with the same contents among them.
func TestManyAtOnce(t *testing.T) {
	ctx := t.Context()
	s := mustOpen(t, vfstest.NewDisk(), storage.Options{})
	queue := make(chan storage.Sealed)
	var senders, committer sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			for n := range 40 {
				u, err := s.Begin(ctx, -1)
				if err == nil {
					_, err = u.Write(ctx, 0, strings.NewReader(fmt.Sprint("content ", i%4, n)))
				}
				var sealed storage.Sealed
				if err == nil {
					sealed, err = u.Seal(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
				queue <- sealed
			}
		})
	}
	committer.Go(func() {
		for first := range queue {
			batch := []storage.Sealed{first}
			for len(batch) < 16 {
				next, ok := <-queue
				if !ok {
					break
				}
				batch = append(batch, next)
			}
			if err := errors.Join(s.Commit(ctx, batch)...); err != nil {
				t.Error(err)
			}
			s.Release(batch)
		}
	})
	senders.Wait()
	close(queue)
	committer.Wait()
	for i := range 4 {
		for n := range 40 {
			data := []byte(fmt.Sprint("content ", i, n))
			mustHold(t, s, sha256.Sum256(data), data)
		}
	}
}

// The large buffers are few: beyond the budget uploads get small ones, and the
// content is the same.
func TestBuffersAreBounded(t *testing.T) {
	ctx := t.Context()
	s := mustOpen(t, vfstest.NewDisk(), storage.Options{})
	const n = 60
	var all sync.WaitGroup
	start := make(chan struct{})
	var reading sync.WaitGroup
	reading.Add(n)
	for i := range n {
		all.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 600_000)
			u, err := s.Begin(ctx, int64(len(data)))
			if err != nil {
				t.Error(err)
				return
			}
			defer u.Close()
			// Everybody holds a buffer before anybody goes on.
			first := func(p []byte) (int, error) { reading.Done(); <-start; return 0, io.EOF }
			if _, err := u.Write(ctx, 0, io.MultiReader(readerFunc(first), bytes.NewReader(data))); err != nil {
				t.Error(err)
			}
			if sealed, err := u.Seal(ctx); err != nil || sealed.Ref != sha256.Sum256(data) {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	if held := storage.HeldBuffers(s); held > 20<<20 {
		t.Errorf("%d uploads hold %d bytes of buffers", n, held)
	}
	close(start)
	all.Wait()
	if held := storage.HeldBuffers(s); held != 0 {
		t.Errorf("%d bytes of buffers were not given back", held)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
