package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

func acknowledged(context.Context, storage.Ref) (bool, error) { return true, nil }

// Whatever becomes of a file on the disk is found and named, and sending the content
// again heals it. R03
func TestEveryDamageIsFoundAndHealed(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	s := mustOpen(t, fsys, storage.Options{Acknowledged: acknowledged})
	at := func(ref storage.Ref) string { return filepath.Join(dir, pathOf(ref)) }
	overwrite := func(ref storage.Ref, off int64, b []byte) error {
		f, err := os.OpenFile(at(ref), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(b, off)
		return errors.Join(err, f.Close())
	}
	for what, c := range map[string]struct {
		size int
		harm func(ref storage.Ref, data []byte) error
		want storage.Damage
	}{
		"a flipped bit": {100_000, func(r storage.Ref, d []byte) error { return overwrite(r, 777, []byte{d[777] ^ 16}) }, storage.WrongBytes},
		"the last bit":  {5 << 20, func(r storage.Ref, d []byte) error { return overwrite(r, 5<<20-1, []byte{d[5<<20-1] ^ 1}) }, storage.WrongBytes},
		"a large one":   {65<<20 + 1, func(r storage.Ref, d []byte) error { return overwrite(r, 65<<20, []byte{d[65<<20] ^ 1}) }, storage.WrongBytes},
		"zeros":         {8192, func(r storage.Ref, d []byte) error { return overwrite(r, 4096, make([]byte, 4096)) }, storage.WrongBytes},
		"cut":           {100_000, func(r storage.Ref, _ []byte) error { return os.Truncate(at(r), 5000) }, storage.WrongSize},
		"emptied":       {100_000, func(r storage.Ref, _ []byte) error { return os.Truncate(at(r), 0) }, storage.WrongSize},
		"longer":        {1000, func(r storage.Ref, _ []byte) error { return os.Truncate(at(r), 1001) }, storage.WrongSize},
		"removed":       {1000, func(r storage.Ref, _ []byte) error { return os.Remove(at(r)) }, storage.Missing},
		"a directory":   {1000, func(r storage.Ref, _ []byte) error { return errors.Join(os.Remove(at(r)), os.Mkdir(at(r), 0o700)) }, storage.NotAFile},
		"a directory with": {1000, func(r storage.Ref, _ []byte) error {
			return errors.Join(os.Remove(at(r)), os.MkdirAll(at(r)+"/x", 0o700))
		}, storage.NotAFile},
		"a pipe": {1000, func(r storage.Ref, _ []byte) error {
			return errors.Join(os.Remove(at(r)), syscall.Mkfifo(at(r), 0o600))
		}, storage.NotAFile},
		"a link to itself": {1000, func(r storage.Ref, _ []byte) error {
			return errors.Join(os.Remove(at(r)), os.Symlink(filepath.Base(at(r)), at(r)))
		}, storage.Unreadable},
	} {
		t.Run(what, func(t *testing.T) {
			data := random(c.size)
			ref := mustPut(t, s, data)
			if d, err := s.Inspect(ctx, ref, int64(c.size), nil); d != storage.Sound || err != nil {
				t.Fatalf("before: %q, %v", d, err)
			}
			if err := os.Chmod(at(ref), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.harm(ref, data); err != nil {
				t.Fatal(err)
			}
			if d, err := s.Inspect(ctx, ref, int64(c.size), nil); d != c.want || err != nil {
				t.Errorf("found %q, %v, want %q", d, err, c.want)
			}
			if d, err := s.Look(ctx, ref, int64(c.size)); c.want != storage.WrongBytes && (d != c.want || err != nil) {
				t.Errorf("a look says %q, %v, want %q", d, err, c.want)
			}
			if again := mustPut(t, s, data); again != ref {
				t.Fatal("another name")
			}
			mustHold(t, s, ref, data)
			if d, err := s.Inspect(ctx, ref, int64(c.size), nil); d != storage.Sound || err != nil {
				t.Errorf("sent again: %q, %v", d, err)
			}
		})
	}
}

// What the disk lost under the page cache is found, although readers still see the
// old bytes.
func TestDamageBehindTheCacheIsFound(t *testing.T) { // R03
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{Acknowledged: acknowledged})
	for _, bit := range []int{0, 4095 * 8, 8999*8 + 7} {
		data := random(9000)
		ref := mustPut(t, s, data)
		if err := disk.Rot(pathOf(ref), func(b []byte) { b[bit/8] ^= 1 << (bit % 8) }); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s, ref, data) // the cache hides it
		if d, err := s.Inspect(ctx, ref, 9000, nil); d != storage.WrongBytes || err != nil {
			t.Errorf("bit %d: found %q, %v", bit, d, err)
		}
		mustPut(t, s, data)
		if d, err := s.Inspect(ctx, ref, 9000, nil); d != storage.Sound || err != nil {
			t.Errorf("bit %d: sent again: %q, %v", bit, d, err)
		}
	}
}

// Memory, cables and limits fail, too: what is read rightly the second time, or could
// not be tried, is no damage, and a disk that is gone holds no damaged blobs.
func TestOnlyDamageIsDamage(t *testing.T) {
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{Acknowledged: acknowledged})
	blob := func(name string) bool { return strings.HasPrefix(name, "blobs/") }
	ref := mustPut(t, s, random(600_000))
	for what, c := range map[string]struct {
		fault vfstest.Fault
		want  storage.Damage
		err   error
	}{
		"once unreadable":    {vfstest.Fault{Ops: vfstest.OpRead, Nth: 2, Err: syscall.EIO, Path: blob}, storage.Sound, nil},
		"unreadable":         {vfstest.Fault{Ops: vfstest.OpRead, Nth: 2, Err: syscall.EIO, Path: blob, Sticky: true}, storage.Unreadable, nil},
		"cannot be opened":   {vfstest.Fault{Ops: vfstest.OpOpen, Nth: 1, Err: syscall.EIO, Path: blob, Sticky: true}, storage.Unreadable, nil},
		"out of files":       {vfstest.Fault{Ops: vfstest.OpOpen, Nth: 1, Err: syscall.EMFILE, Path: blob, Sticky: true}, "", syscall.EMFILE},
		"out of memory":      {vfstest.Fault{Ops: vfstest.OpRead, Nth: 1, Err: syscall.ENOMEM, Path: blob, Sticky: true}, "", syscall.ENOMEM},
		"the volume is gone": {vfstest.Fault{Ops: vfstest.OpOpen | vfstest.OpStat, Nth: 1, Err: fs.ErrNotExist, Sticky: true}, "", storage.ErrWrongVolume},
		"the disk is gone":   {vfstest.Fault{Nth: 1, Err: syscall.EIO, Sticky: true}, "", syscall.EIO},
	} {
		disk.Fail(c.fault)
		d, err := s.Inspect(ctx, ref, 600_000, nil)
		if d != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", what, d, err, c.want, c.err)
		}
		if disk.Pending() {
			t.Errorf("%s: the fault did not strike", what)
		}
		disk.Heal()
	}
	if d, err := s.Inspect(ctx, ref, 600_000, nil); d != storage.Sound || err != nil {
		t.Errorf("at the end: %q, %v", d, err)
	}
}

// Reading back asks the disk and leaves the page cache to those who use it.
func TestInspectDoesNotFillTheCache(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type == unix.TMPFS_MAGIC {
		t.Skip("there is no page cache to drop here")
	}
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	s := mustOpen(t, fsys, storage.Options{Intent: -1})
	data := random(9 << 20)
	ref := mustPut(t, s, data)
	mustHold(t, s, ref, data)
	if n := cached(t, filepath.Join(dir, pathOf(ref))); n == 0 {
		t.Skip("this file system shows nothing of its cache")
	}
	if d, err := s.Inspect(t.Context(), ref, int64(len(data)), nil); d != storage.Sound || err != nil {
		t.Fatal(d, err)
	}
	if n := cached(t, filepath.Join(dir, pathOf(ref))); n != 0 {
		t.Errorf("%d pages are in the cache", n)
	}
}

// cached is how many pages of a file are in the page cache.
func cached(t *testing.T, name string) (n int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	in := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&in[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, b := range in {
		n += int(b & 1)
	}
	return n
}

func TestPace(t *testing.T) {
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{})
	data := random(3 << 20)
	ref := mustPut(t, s, data)
	read, asked := int64(0), 0
	pace := &storage.Pace{Rate: func() int64 { asked++; return 0 }, Read: func(n int64) { read += n }}
	if d, err := s.Inspect(t.Context(), ref, int64(len(data)), pace); d != storage.Sound || err != nil {
		t.Fatal(d, err)
	}
	if read != int64(len(data)) || asked < 3 {
		t.Errorf("told of %d bytes, asked %d times", read, asked)
	}
	// A rate that would take a thousand years: only the end of ctx ends the wait.
	ctx, cancel := context.WithCancel(t.Context())
	slow := &storage.Pace{Rate: func() int64 { time.AfterFunc(10*time.Millisecond, cancel); return 1 }}
	if _, err := s.Inspect(ctx, ref, int64(len(data)), slow); !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended with %v", err)
	}
}
