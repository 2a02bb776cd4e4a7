package storage

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"yunbox.local/storage/vfs/vfstest"
)

// A checkpoint that cannot be read costs neither the other uploads nor the start.
func TestACheckpointThatCannotBeRead(t *testing.T) {
	disk := vfstest.NewDisk()
	s := openStore(t, disk, tiny())
	u, err := s.Begin(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(t.Context(), 0, strings.NewReader("half of it")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(u.Checkpoint(t.Context()), u.Close()); err != nil {
		t.Fatal(err)
	}
	disk = disk.Kill()
	disk.Fail(vfstest.Fault{Ops: vfstest.OpRead, Nth: 1, Err: syscall.EIO, Path: func(name string) bool { return strings.HasPrefix(name, stagingDir+"/") }, Sticky: true})
	s = openStore(t, disk, tiny())
	putAll(t, s, []byte("it goes on"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Heal()
	s = openStore(t, disk, tiny())
	if u, err = s.Resume(t.Context(), u.ID()); err != nil || u.Offset() != 10 {
		t.Fatal(err)
	}
	if err := u.Discard(); err != nil {
		t.Error(err)
	}
}

// A process is killed after it has made a lost folder again and before that is durable.
// The next one makes it so, before it acknowledges what it puts there.
func TestKilledWhileAFolderIsMadeAgain(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	var data []byte
	for i := 0; i == 0 || Ref(sha256.Sum256(data)).shard() != 7; i++ {
		data = fmt.Appendf(nil, "content %d", i)
	}
	lose := func() *vfstest.Disk {
		disk := vfstest.NewDisk()
		if err := openStore(t, disk, Options{Intent: -1}).Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(disk.Remove(shardDir(7)), disk.SyncDir(blobsDir)); err != nil {
			t.Fatal(err)
		}
		return disk.Kill()
	}
	disk := lose()
	before := disk.Calls(vfstest.OpAny)
	openStore(t, disk, Options{Intent: -1})
	for n := range disk.Calls(vfstest.OpAny) - before {
		disk := lose()
		disk.CutIn(n + 1)
		_, _ = Open(t.Context(), disk, Options{Intent: -1})
		disk = disk.Kill()
		s := openStore(t, disk, Options{Intent: -1})
		putAll(t, s, data)
		s = openStore(t, disk.PowerCutAs(rng, vfstest.Drop), Options{Intent: -1})
		if err := s.Verify(t.Context(), sha256.Sum256(data)); err != nil {
			t.Fatalf("killed at call %d: %v", n+1, err)
		}
	}
}

// A directory that cannot be synced is no reason not to give what is there, nor not to put
// back what the log has; but nothing more is taken.
func TestStartsThoughAFolderCannotBeSynced(t *testing.T) {
	data := []byte("acknowledged")
	for _, dir := range []string{".", blobsDir, stagingDir, intentDir} {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, tiny())
		putAll(t, s, data)
		u, err := s.Begin(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(u.Checkpoint(t.Context()), u.Close()); err != nil {
			t.Fatal(err)
		}
		disk = disk.PowerCutAs(vfstest.Seed(t), vfstest.Drop)
		disk.Fail(vfstest.Fault{Ops: vfstest.OpSyncDir, Nth: 1, Err: syscall.EIO, Sticky: true, Path: func(name string) bool { return name == dir }})
		s = openStore(t, disk, tiny())
		mustHave(t, s, data)
		if _, err := s.Begin(t.Context(), 1); !errors.Is(err, ErrSync) {
			t.Errorf("%s: an upload begins: %v", dir, err)
		}
		_ = s.Close()
	}
}

// A sealed upload is not finished by a blob of its name that is not whole, or gone.
func TestResumedOnlyToAWholeBlob(t *testing.T) { // R01
	for _, harm := range []func(*vfstest.Disk, string) error{
		func(d *vfstest.Disk, name string) error { return d.Corrupt(name, 3) },
		func(d *vfstest.Disk, name string) error { return d.Remove(name) },
	} {
		disk := vfstest.NewDisk()
		s := openStore(t, disk, tiny())
		u, err := s.Begin(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(t.Context(), 0, strings.NewReader("the content")); err != nil {
			t.Fatal(err)
		}
		if err := u.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		sealed, err := u.Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), []Sealed{sealed})[0]; err != nil {
			t.Fatal(err)
		}
		disk = disk.Kill()
		s = openStore(t, disk, tiny())
		if err := harm(disk, sealed.Ref.path()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resume(t.Context(), u.ID()); !errors.Is(err, ErrNotFound) {
			t.Errorf("it is resumed: %v", err)
		}
		_ = s.Close()
	}
}
