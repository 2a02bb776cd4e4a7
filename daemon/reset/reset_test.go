package reset_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"
	"testing"

	"yunbox.local/daemon/reset"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

const (
	serial = "YB26-FAJ6-D5JQ"
	secret = "what nobody may read afterwards"
)

// used is what the state directory of a box in use looks like.
func used() []string {
	names := []string{"VOLUME", "VOLUME.copy", "LOCK", "RECORDS", "box.db", "box.db-wal", "box.db-shm", "keys/ca.key", "keys/ca.crt", "keys/vault.json",
		"keys/vault.json.copy", "keys/person-17.json", "keys/label.json", "keys/label.json.new", "keys/outside.json", "journal/1/a", "journal/1/b", "backup/1.db",
		"staging/x/data", "staging/x/state", "intent/1", "tree/ada/2026/photo.jpg", "dedup/17/plan", "exports/1/list", "damaged/2026/box.db", "blobs.damaged-1/ab/y", "run/note"}
	for i := range 6 {
		names = append(names, fmt.Sprintf("blobs/%02x/cd/%064x", i, i))
	}
	return names
}

func write(t *testing.T, disk vfs.FS, name string, perm fs.FileMode) {
	t.Helper()
	for dir := range parents(name) {
		if err := disk.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	if err := vfs.WriteFile(disk, name, []byte(secret+" "+name), perm); err != nil {
		t.Fatal(err)
	}
}

// parents are the folders of a name, the outer one first.
func parents(name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		var list []string
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			list = append([]string{dir}, list...)
		}
		for _, dir := range list {
			if !yield(dir) {
				return
			}
		}
	}
}

func box(t *testing.T) *vfstest.Disk {
	t.Helper()
	disk := vfstest.NewDisk()
	for _, name := range used() {
		perm := fs.FileMode(0o600)
		if path.Dir(name) == "keys" {
			perm = 0o400
		}
		write(t, disk, name, perm)
	}
	if err := disk.SyncAll(); err != nil {
		t.Fatal(err)
	}
	return disk
}

func walk(t *testing.T, disk vfs.FS, dir string) (names []string) {
	t.Helper()
	list, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if name := path.Join(dir, e.Name()); e.IsDir() {
			names = append(names, walk(t, disk, name)...)
		} else {
			names = append(names, name)
		}
	}
	return names
}

// start is what every start of a box does: it finishes what was asked for.
func start(disk vfs.FS) error {
	serial, asked, err := reset.Asked(disk)
	if err != nil || !asked {
		return err
	}
	_, err = reset.Do(disk, false, func() error {
		if err := disk.Mkdir("keys", 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return vfs.WriteFile(disk, "keys/label.json", []byte(serial), 0o400)
	})
	return err
}

// whole fails unless disk has all of the old box or nothing of it.
func whole(t *testing.T, disk *vfstest.Disk, what string) (isReset bool) {
	t.Helper()
	names := walk(t, disk, ".")
	left := 0
	for _, name := range names {
		data, err := vfs.ReadFile(disk, name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(secret)) && name != "LOCK" {
			left++
		}
	}
	if left == len(used())-1 && !slices.Contains(names, reset.Mark) {
		return false
	}
	slices.Sort(names)
	if want := []string{"LOCK", "keys/label.json"}; left > 0 || !slices.Equal(names, want) {
		t.Fatalf("%s: half a box, %d files with secrets: %v", what, left, names)
	}
	if data, err := vfs.ReadFile(disk, "keys/label.json"); err != nil || string(data) != serial {
		t.Fatalf("%s: the serial number is %q, %v", what, data, err)
	}
	return true
}

func TestResetLeavesNothing(t *testing.T) { // R03
	disk := box(t)
	write(t, disk, "photos of my own.txt", 0o600)
	write(t, disk, "update/kept", 0o600) // which release is the oldest that may come back
	if err := reset.Ask(disk, serial); err != nil {
		t.Fatal(err)
	}
	_, asked, err := reset.Asked(disk)
	if err != nil || !asked {
		t.Fatal(asked, err)
	}
	foreign, err := reset.Do(disk, true, func() error { return nil })
	if err != nil || !slices.Equal(foreign, []string{"photos of my own.txt"}) {
		t.Fatal(foreign, err)
	}
	names := walk(t, disk, ".")
	slices.Sort(names)
	if want := []string{"LOCK", "VOLUME", "VOLUME.copy", "photos of my own.txt", "update/kept"}; !slices.Equal(names, want) {
		t.Errorf("%v is left, want %v", names, want)
	}
	if _, asked, err := reset.Asked(disk); asked || err != nil {
		t.Error(asked, err)
	}
}

// A cut before any call, kill -9 and power cut in turn, and another one while the next
// start finishes it. R01 R03
func TestResetIsWholeOrDidNotBegin(t *testing.T) {
	rng := vfstest.Seed(t)
	again := rand.New(rand.NewPCG(1, 2))
	outcomes := map[bool]int{}
	for n := 1; ; n++ {
		disk := box(t)
		disk.CutIn(n)
		asked := reset.Ask(disk, serial)
		err := asked
		if asked == nil {
			err = start(disk)
		}
		after := disk.Kill()
		if n%2 == 0 {
			after = disk.PowerCut(rng)
		}
		for range again.IntN(3) {
			after.CutIn(1 + again.IntN(60))
			_ = start(after) // it is cut
			after = after.PowerCut(rng)
		}
		if err := start(after); err != nil {
			t.Fatalf("cut before call %d: %v", n, err)
		}
		is := whole(t, after, fmt.Sprint("cut before call ", n))
		if asked == nil && !is {
			t.Fatalf("cut before call %d: it was promised, and did not come", n)
		}
		outcomes[is]++
		if err == nil {
			break
		}
	}
	if outcomes[true] < 20 || outcomes[false] < 2 {
		t.Errorf("%v: not every step was cut", outcomes)
	}
}

// A call that fails ends the reset with an error; the next start goes on. R03
func TestResetOnAFailingDisk(t *testing.T) {
	for n := 1; ; n++ {
		disk := box(t)
		disk.Fail(vfstest.Fault{Nth: n, Err: syscall.EIO})
		asked := reset.Ask(disk, serial)
		err := asked
		if asked == nil {
			err = start(disk)
		}
		over := disk.Pending()
		disk.Heal()
		if err := start(disk); err != nil {
			t.Fatalf("call %d failed: %v", n, err)
		}
		if is := whole(t, disk, fmt.Sprint("call ", n, " failed")); is != (asked == nil) {
			t.Fatalf("call %d failed: asked %v, reset %v", n, asked, is)
		}
		if err == nil && over {
			break
		}
	}
}
