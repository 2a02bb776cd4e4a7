package vfstest_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// outcomes cuts the power many times after the same calls and counts what is
// seen then. It also cuts twice with the same seed, which must show the same.
func outcomes(t *testing.T, before func(d *vfstest.Disk), see func(d *vfstest.Disk) string) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	seed := vfstest.Seed(t).Uint64()
	for i := range uint64(400) {
		var first string
		for n := range 2 {
			d := vfstest.NewDisk()
			before(d)
			got := see(d.PowerCut(rand.New(rand.NewPCG(seed, i))))
			if n == 0 {
				first = got
				seen[got]++
			} else if got != first {
				t.Fatalf("the same seed shows %q and %q", first, got)
			}
		}
	}
	return seen
}

// wantSeen demands that exactly these outcomes occur.
func wantSeen(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if got[w] == 0 {
			t.Errorf("%q is possible but never occurred: %v", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("occurred: %v, possible: %q", got, want)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, d *vfstest.Disk, name string) vfs.File {
	t.Helper()
	f, err := d.OpenFile(name, syscall.O_RDWR|syscall.O_CREAT, 0o600)
	must(t, err)
	return f
}

func write(t *testing.T, f vfs.File, off int64, text string) {
	t.Helper()
	_, err := f.WriteAt([]byte(text), off)
	must(t, err)
}

// see reads files: "-" for one that is not there, zeros as dots.
func see(names ...string) func(d *vfstest.Disk) string {
	return func(d *vfstest.Disk) string {
		var all []string
		for _, name := range names {
			data, err := vfs.ReadFile(d, name)
			if err != nil {
				all = append(all, "-")
				continue
			}
			all = append(all, string(bytes.ReplaceAll(data, []byte{0}, []byte("."))))
		}
		return strings.Join(all, " ")
	}
}

func TestUnsyncedDataMayBeLost(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		write(t, f, 0, "old")
		must(t, f.Datasync(), d.SyncDir("."))
		write(t, f, 0, "new")
	}, see("f"))
	wantSeen(t, got, "old", "new")
}

func TestUnsyncedSizeMayBeLost(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		must(t, d.SyncDir("."))
		write(t, f, 0, "new")
	}, see("f"))
	wantSeen(t, got, "", "...", "new")
}

func TestWritesTearAtSectors(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		write(t, f, 0, strings.Repeat("o", 1024))
		must(t, f.Sync(), d.SyncDir("."))
		write(t, f, 0, strings.Repeat("n", 1024))
	}, func(d *vfstest.Disk) string {
		text := see("f")(d)
		return string([]byte{text[0], text[511], text[512], text[1023]})
	})
	wantSeen(t, got, "oooo", "nnoo", "oonn", "nnnn")
}

func TestSyncedDataSurvives(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		write(t, f, 0, "synced")
		must(t, f.Datasync(), d.SyncDir("."), f.Close())
	}, see("f"))
	wantSeen(t, got, "synced")
}

func TestUnsyncedNamesMayBeLost(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		write(t, f, 0, "x")
		must(t, f.Sync())
	}, see("f"))
	wantSeen(t, got, "-", "x")
}

// A new directory is lost with all that was synced in it unless its own name
// was synced, too.
func TestDirectoriesNeedTheirParents(t *testing.T) {
	fill := func(d *vfstest.Disk) {
		must(t, d.Mkdir("d", 0o700))
		f := open(t, d, "d/f")
		write(t, f, 0, "x")
		must(t, f.Sync(), d.SyncDir("d"))
	}
	wantSeen(t, outcomes(t, fill, see("d/f")), "-", "x")
	wantSeen(t, outcomes(t, func(d *vfstest.Disk) { fill(d); must(t, d.SyncDir(".")) }, see("d/f")), "x")
}

func TestRenameIsAtomicInOneDirectory(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		old, fresh := open(t, d, "a"), open(t, d, "b")
		write(t, old, 0, "old")
		write(t, fresh, 0, "new")
		must(t, old.Sync(), fresh.Sync(), d.SyncDir("."))
		must(t, d.Rename("b", "a"))
	}, see("a", "b"))
	wantSeen(t, got, "old new", "new -")
}

func TestRenameBetweenDirectoriesIsTwoChanges(t *testing.T) {
	move := func(d *vfstest.Disk) {
		must(t, d.Mkdir("d", 0o700))
		f := open(t, d, "f")
		write(t, f, 0, "x")
		must(t, f.Sync(), d.SyncDir("d"), d.SyncDir("."))
		must(t, d.Rename("f", "d/f"))
	}
	wantSeen(t, outcomes(t, move, see("f", "d/f")), "x -", "- x", "x x", "- -")
	half := func(d *vfstest.Disk) { move(d); must(t, d.SyncDir("d")) }
	wantSeen(t, outcomes(t, half, see("f", "d/f")), "- x", "x x")
}

func TestChangesOfOneNameStayInOrder(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		write(t, f, 0, "1")
		must(t, f.Sync(), d.SyncDir("."), d.Remove("f"))
		f = open(t, d, "f")
		write(t, f, 0, "2")
		must(t, f.Sync())
	}, see("f"))
	wantSeen(t, got, "1", "-", "2")
}

// After a failed sync the pages count as clean: the second sync says nil, and
// the data is lost all the same.
func TestFailedSyncLosesData(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		write(t, f, 0, "old")
		must(t, f.Sync(), d.SyncDir("."))
		write(t, f, 0, "new")
		d.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO})
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		must(t, f.Sync())
		if text := see("f")(d); text != "new" {
			t.Fatalf("before the cut: %q", text)
		}
	}, see("f"))
	wantSeen(t, got, "old")
}

func TestFailedSyncDirLosesNames(t *testing.T) {
	got := outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		must(t, f.Sync())
		d.Fail(vfstest.Fault{Ops: vfstest.OpSyncDir, Nth: 1, Err: syscall.EIO})
		if err := d.SyncDir("."); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		must(t, d.SyncDir("."))
	}, see("f"))
	wantSeen(t, got, "-")
}

func TestKillKeepsWhatIsWritten(t *testing.T) {
	d := vfstest.NewDisk()
	f := open(t, d, "f")
	write(t, f, 0, "x")
	_, err := d.Lock("L")
	must(t, err)
	gone := open(t, d, "gone")
	write(t, gone, 0, "x")
	must(t, d.Remove("gone"))
	after := d.Kill()
	if text := see("f")(after); text != "x" {
		t.Errorf("after a kill the file holds %q", text)
	}
	if _, err := after.Lock("L"); err != nil {
		t.Errorf("the lock outlived its holder: %v", err)
	}
	if _, err := f.WriteAt([]byte("y"), 0); !errors.Is(err, vfstest.ErrPowerOff) {
		t.Errorf("the dead process still writes: %v", err)
	}
	wantSeen(t, outcomes(t, func(d *vfstest.Disk) {
		f := open(t, d, "f")
		must(t, f.Sync())
		after := d.Kill()
		*d = *after
	}, see("f")), "-", "")
}

func TestCapacity(t *testing.T) {
	d := vfstest.NewDisk()
	d.SetCapacity(8192)
	f, g := open(t, d, "f"), open(t, d, "g")
	if n, err := f.WriteAt(make([]byte, 10_000), 0); n != 8192 || !vfs.IsFull(err) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	if n, err := g.WriteAt([]byte("x"), 0); n != 0 || !vfs.IsFull(err) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	must(t, f.Truncate(4096))
	write(t, g, 0, "x")
	if s, err := d.Space(); err != nil || s.Free != 0 || s.Total != 8192 {
		t.Errorf("%+v %v", s, err)
	}
	must(t, d.Remove("f"))
	if s, _ := d.Space(); s.Free != 0 {
		t.Errorf("an open file gave its room back: %+v", s)
	}
	must(t, f.Close())
	if s, _ := d.Space(); s.Free != 4096 {
		t.Errorf("%+v", s)
	}
}

func TestFaults(t *testing.T) {
	d := vfstest.NewDisk()
	f := open(t, d, "f")
	d.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 2, Err: syscall.ENOSPC, Short: true})
	write(t, f, 0, "ok")
	if n, err := f.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the second write: %d %v", n, err)
	}
	write(t, f, 0, "x")
	want := "xb"
	if text := see("f")(d); text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if d.Pending() {
		t.Error("the fault has struck")
	}
	calls := d.Calls(vfstest.OpAny)
	d.CutIn(2)
	_, err := d.Stat("f")
	must(t, err)
	for range 2 {
		if _, err := d.Stat("f"); !errors.Is(err, vfstest.ErrPowerOff) {
			t.Errorf("after the cut: %v", err)
		}
	}
	if got := d.Calls(vfstest.OpAny) - calls; got != 1 {
		t.Errorf("%d calls were counted, want 1", got)
	}
}

func TestModesAreHonoured(t *testing.T) {
	d := vfstest.NewDisk()
	f, err := d.OpenFile("f", vfs.CreateNew, 0o440)
	must(t, err)
	write(t, f, 0, "x")
	if _, err := d.OpenFile("f", vfs.ReadWrite, 0); !errors.Is(err, syscall.EACCES) {
		t.Errorf("a read-only file opened for writing: %v", err)
	}
	g, err := d.OpenFile("f", vfs.ReadOnly, 0)
	must(t, err)
	if _, err := g.WriteAt([]byte("y"), 0); err == nil {
		t.Error("wrote through a descriptor for reading")
	}
	if data, err := io.ReadAll(g); err != nil || string(data) != "x" {
		t.Errorf("%q %v", data, err)
	}
}

// What a failed sync has lost is seen until its pages are dropped; what the kernel loses
// behind is told once by the next sync of that file, and once by the next of all.
func TestLostPages(t *testing.T) {
	d := vfstest.NewDisk()
	f := open(t, d, "f")
	write(t, f, 0, "old")
	must(t, f.Sync(), d.SyncDir("."))
	read := func() string {
		data, err := vfs.ReadFile(d, "f")
		must(t, err)
		return string(data)
	}
	d.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO})
	write(t, f, 0, "new")
	if err := f.Sync(); !errors.Is(err, syscall.EIO) || read() != "new" {
		t.Errorf("%v, %q", err, read())
	}
	must(t, f.Sync()) // says nothing
	d.Reclaim()
	if got := read(); got != "old" {
		t.Errorf("after a failed sync the device has %q", got)
	}
	write(t, f, 0, "newer")
	d.Lose(func(name string) bool { return name == "f" })
	for _, sync := range []func() error{f.Sync, d.SyncAll} {
		if err := sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("what was lost behind is told as %v", err)
		}
		must(t, sync())
	}
	must(t, f.Evict(0, 0))
	if got := read(); got != "old\x00\x00" {
		t.Errorf("after a loss behind the device has %q", got)
	}
	write(t, f, 0, "again")
	must(t, f.Sync())
	d.Reclaim()
	if got := read(); got != "again" {
		t.Errorf("written again it is %q", got)
	}
}

// A sync of all that fails may keep some.
func TestASyncOfAllThatLosesSome(t *testing.T) {
	d := vfstest.NewDisk()
	for _, name := range []string{"a", "b"} {
		write(t, open(t, d, name), 0, "x")
	}
	must(t, d.SyncDir("."))
	d.Fail(vfstest.Fault{Ops: vfstest.OpSyncAll, Nth: 1, Err: syscall.EIO, Loses: func(name string) bool { return name == "a" }})
	if err := d.SyncAll(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if got := see("a", "b")(d.PowerCutAs(rand.New(rand.NewPCG(1, 1)), vfstest.Drop)); strings.TrimSpace(got) != "x" {
		t.Errorf("%q", got)
	}
}
