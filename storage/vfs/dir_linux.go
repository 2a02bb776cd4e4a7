package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the real FS: a directory of this computer, confined by os.Root, so
// that no name and no symbolic link leads out of it.
type Dir struct {
	root *os.Root
	top  *os.File // the same directory, open for SyncAll to remember errors by
}

var _ FS = (*Dir)(nil)

// OpenDir opens a directory that exists.
func OpenDir(dir string) (*Dir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	top, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Dir{root, top}, nil
}

// CreateDir makes a directory with all its parents, mode 0700, and makes their
// names durable. A directory that exists is left as it is.
func CreateDir(dir string) error {
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := CreateDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(parent)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close lets go of the directory. Open files stay usable.
func (d *Dir) Close() error { return errors.Join(d.top.Close(), d.root.Close()) }

// Name is the path that was given to OpenDir.
func (d *Dir) Name() string { return d.root.Name() }

func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := valid("open", name); err != nil {
		return nil, err
	}
	// os.Root, unlike os.OpenFile, does not ask for files over 2 GiB on 32 bits.
	f, err := d.open(name, flag|unix.O_LARGEFILE, perm)
	if errors.Is(err, errUndecided) {
		f, err = d.root.OpenFile(name, flag|unix.O_LARGEFILE, perm)
	}
	if err != nil {
		return nil, err
	}
	return &file{f}, nil
}

var errUndecided = errors.New("vfs: os.Root decides")

// open does by one call what os.Root does by two for each directory on the way: openat2(2),
// since Linux 5.6. Where the kernel has not, or refuses for a reason of its own, the error
// is errUndecided.
func (d *Dir) open(name string, flag int, perm fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flag) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	if flag&os.O_CREATE != 0 {
		how.Mode = uint64(perm.Perm())
	}
	var fd int
	var why error
	if err := control(d.top, "openat2", func(top int) error {
		fd, why = unix.Openat2(top, name, &how)
		return why
	}); err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(d.Name(), name)), nil
	}
	if why == unix.ENOENT || why == unix.EEXIST {
		return nil, &fs.PathError{Op: "open", Path: name, Err: why}
	}
	return nil, errUndecided
}

func (d *Dir) Rename(oldname, newname string) error {
	if err := errors.Join(valid("rename", oldname), valid("rename", newname)); err != nil {
		return err
	}
	return d.root.Rename(oldname, newname)
}

func (d *Dir) Remove(name string) error {
	if err := valid("remove", name); err != nil {
		return err
	}
	return d.root.Remove(name)
}

func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	if err := valid("mkdir", name); err != nil {
		return err
	}
	return d.root.Mkdir(name, perm)
}

func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := valid("readdir", name); err != nil {
		return nil, err
	}
	return fs.ReadDir(d.root.FS(), name)
}

func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	if err := valid("stat", name); err != nil {
		return nil, err
	}
	f, err := d.open(name, unix.O_PATH, 0)
	if errors.Is(err, errUndecided) {
		return d.root.Stat(name)
	} else if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	return info, errors.Join(err, f.Close())
}

func (d *Dir) SyncDir(name string) error {
	if err := valid("syncdir", name); err != nil {
		return err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncAll is syncfs. Only since Linux 5.8 does that report lost data (commit
// 735e4ae5ba28, "vfs: track per-sb writeback errors and report them to syncfs").
func (d *Dir) SyncAll() error {
	if !syncfsTells() {
		return &fs.PathError{Op: "syncfs", Path: d.Name(), Err: errors.ErrUnsupported}
	}
	return control(d.top, "syncfs", unix.Syncfs)
}

var syncfsTells = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 8)
})

func (d *Dir) Space() (Space, error) {
	var st unix.Statfs_t
	if err := control(d.top, "statfs", func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return Space{}, err
	}
	unit := int64(st.Frsize)
	if unit == 0 {
		unit = int64(st.Bsize)
	}
	return Space{Total: int64(st.Blocks) * unit, Free: int64(st.Bavail) * unit}, nil
}

// Lock uses flock: it belongs to the open file, so it also excludes a second
// opening in the same process, and the kernel ends it with the process, however
// that dies. Nothing is left to clean up after a power cut.
func (d *Dir) Lock(name string) (io.Closer, error) {
	if err := valid("lock", name); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = control(f, "lock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return f, nil
	}
	_ = f.Close() // nothing was written through it
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	return nil, err
}

// file is a File of Dir.
type file struct {
	*os.File
}

func (f *file) Datasync() error { return control(f.File, "fdatasync", unix.Fdatasync) }

func (f *file) WriteBack(off, n int64, wait bool) error {
	flags := unix.SYNC_FILE_RANGE_WRITE
	if wait {
		flags |= unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	}
	err := control(f.File, "sync_file_range", func(fd int) error {
		return unix.SyncFileRange(fd, off, n, flags)
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // only a hint: the sync that follows does all of it
	}
	return err
}

func (f *file) Evict(off, n int64) error {
	err := control(f.File, "fadvise", func(fd int) error {
		return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED)
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE) {
		return nil
	}
	return err
}

func (f *file) SetModTime(t time.Time) error {
	mtime, err := unix.TimeToTimespec(t)
	if err != nil {
		return nil // no such time on this computer
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	return control(f.File, "utimensat", func(fd int) error {
		// futimens(3) is utimensat on the descriptor itself.
		return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), times, 0)
	})
}

func (f *file) Clone(from File) error {
	source, ok := from.(*file)
	if !ok {
		return &fs.PathError{Op: "clone", Path: f.Name(), Err: errors.ErrUnsupported}
	}
	err := control(source.File, "clone", func(source int) error {
		return control(f.File, "clone", func(fd int) error { return unix.IoctlFileClone(fd, source) })
	})
	// Who cannot says so in many ways: other file systems, other volumes, files that
	// are not to be shared, systems that forbid the call.
	for _, cannot := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EPERM} {
		if errors.Is(err, cannot) {
			return &fs.PathError{Op: "clone", Path: f.Name(), Err: errors.Join(errors.ErrUnsupported, err)}
		}
	}
	return err
}

// control runs a system call on the descriptor of f, which stays open while it
// runs, again when a signal interrupted it, and names the file in the error.
func control(f *os.File, op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if failed = call(int(fd)); failed != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if failed != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: failed}
	}
	return nil
}

func valid(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// Symlink makes a symbolic link. Where it points to is not looked at; who follows it
// through this Dir cannot leave the directory by it.
func (d *Dir) Symlink(target, name string) error {
	if err := valid("symlink", name); err != nil {
		return err
	}
	return d.root.Symlink(target, name)
}

// Readlink says where a symbolic link points to.
func (d *Dir) Readlink(name string) (string, error) {
	if err := valid("readlink", name); err != nil {
		return "", err
	}
	return d.root.Readlink(name)
}

// Lchown gives a file, not what it may point to, to another user.
func (d *Dir) Lchown(name string, uid, gid int) error {
	if err := valid("lchown", name); err != nil {
		return err
	}
	return d.root.Lchown(name, uid, gid)
}
