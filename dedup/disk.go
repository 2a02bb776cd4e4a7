package dedup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A disk is what folding does to a tree. There are two: tree, and one in the tests
// that loses power. Names are Paths.
type disk interface {
	// open opens a regular file for reading, and nothing else.
	open(name string) (file, error)
	// stat says what is at a name, without following it.
	stat(name string) (Facts, error)
	// links says how many names the file of a name has. It opens nothing, so that
	// it breaks no lease.
	links(name string) (uint64, error)
	// link gives a file another name; it never replaces one.
	link(name, other string) error
	// exchange swaps what two names of one folder mean, at once.
	exchange(a, b string) error
	// move renames; it never replaces anything.
	move(name, to string) error
	remove(name string) error
	// mkdir makes a folder, or is content with the one that is there.
	mkdir(name string) error
	// sync makes the names in a folder durable.
	sync(dir string) error
	// write makes a file that must not exist, durable but for its name, with the
	// owner, mode, attributes and time of like.
	write(name string, content io.Reader, like meta) error
}

// A file is an open file of a disk.
type file interface {
	io.ReaderAt
	io.Closer
	facts() (Facts, error)
	meta() (meta, error)
	// sync makes what is in it durable.
	sync() error
	// lease asks to be the only one who has the file open (alone), or that nobody
	// has it open for writing. errBusy: it is not so. Where nobody can say, it is nil.
	lease(alone bool) error
	// undisturbed says that since lease nobody tried to open it in a way that
	// contradicts it. It is true where nobody can say.
	undisturbed() bool
	// share has the kernel compare the file with another one and let that use the
	// same storage, n bytes at off. errDiffers: they are not equal.
	share(with file, off, n int64) (shared int64, err error)
}

// meta is what a file has beside its content and time.
type meta struct {
	Mode     uint32 // type and permissions, as in st_mode
	UID, GID uint32
	Links    uint64
	Mtime    int64
	Xattrs   map[string]string
}

var (
	errBusy    = errors.New("another program is using it")
	errDiffers = errors.New("the contents differ")
)

// tree is the real disk: all below one folder.
type tree struct {
	top  *os.File
	name string
	vols *volumes
	xdev bool // other file systems that are mounted below count as well
}

// openTree opens a folder. Only this name may be, or lead through, a symbolic link.
func openTree(root string) (*tree, error) {
	top, err := os.OpenFile(root, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &tree{top: top, name: root, vols: newVolumes()}, nil
}

func (t *tree) Close() error { return t.top.Close() }

// How openat2(2) resolves a path (linux/openat2.h).
const (
	resolveNoXDev     = 0x01
	resolveNoSymlinks = 0x04
	resolveBeneath    = 0x08
)

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// at opens something below the root. No symbolic link is followed, and no other
// file system entered unless that was asked for.
func (t *tree) at(name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_LARGEFILE), Mode: uint64(mode),
		Resolve: resolveBeneath | resolveNoSymlinks | resolveNoXDev,
	}
	if t.xdev {
		how.Resolve &^= resolveNoXDev
	}
	for range 100 {
		fd, err := unix.Openat2(int(t.top.Fd()), name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: something was renamed on the way
			continue
		case unix.ENOSYS: // Linux before 5.6
			return t.walkTo(name, int(how.Flags), mode)
		}
		return fd, err
	}
	return -1, unix.EAGAIN
}

// walkTo is at for kernels without openat2: one step at a time.
func (t *tree) walkTo(name string, flags int, mode uint32) (int, error) {
	home, err := deviceOf(int(t.top.Fd()))
	if err != nil {
		return -1, err
	}
	at, owned := int(t.top.Fd()), false
	parts := strings.Split(name, "/")
	for i, part := range parts {
		how := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if i == len(parts)-1 {
			how = flags
		}
		if part == ".." {
			err = unix.EXDEV
		}
		fd := -1
		if err == nil {
			fd, err = unix.Openat(at, part, how, mode)
		}
		if owned {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at, owned = fd, true
		if device, err := deviceOf(fd); err != nil || device != home && !t.xdev {
			unix.Close(fd)
			if err == nil {
				err = unix.EXDEV
			}
			return -1, err
		}
	}
	return at, nil
}

func deviceOf(fd int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return uint64(st.Dev), err
}

// parent opens the folder that holds name.
func (t *tree) parent(name string) (fd int, base string, err error) {
	fd, err = t.at(path.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return fd, path.Base(name), err
}

// in runs a call on the folder of name.
func (t *tree) in(op, name string, call func(dir int, base string) error) error {
	fd, base, err := t.parent(name)
	if err != nil {
		return pathError(op, name, err)
	}
	defer unix.Close(fd)
	return pathError(op, name, again(func() error { return call(fd, base) }))
}

func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (t *tree) openFD(name string) (int, error) {
	// O_NONBLOCK: a pipe that took a file's place must not hold us. O_NOATIME:
	// looking is no use of a file; only its owner may ask for that.
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	fd, err := t.at(name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = t.at(name, flags, 0)
	}
	return fd, err
}

func (t *tree) open(name string) (file, error) {
	fd, err := t.openFD(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		if err == nil {
			err = errNotAFile
		}
		return nil, pathError("open", name, err)
	}
	return &realFile{File: os.NewFile(uintptr(fd), name), t: t}, nil
}

var errNotAFile = errors.New("it is no longer an ordinary file")

func (t *tree) stat(name string) (f Facts, err error) {
	err = t.in("stat", name, func(dir int, base string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return errNotAFile
		}
		f = t.factsOf(&st, dir)
		return nil
	})
	return f, err
}

func (t *tree) links(name string) (n uint64, err error) {
	err = t.in("stat", name, func(dir int, base string) error {
		var st unix.Stat_t
		err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		n = uint64(st.Nlink)
		return err
	})
	return n, err
}

// factsOf turns the answer of stat into Facts; fd is open on the same file system.
func (t *tree) factsOf(st *unix.Stat_t, fd int) Facts {
	return factsOf(st, t.vols.of(uint64(st.Dev), fd).key)
}

func factsOf(st *unix.Stat_t, volume uint64) Facts {
	return Facts{
		Volume: volume, Inode: st.Ino, Size: st.Size,
		Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}

// between runs a call on the folders of two names.
func (t *tree) between(op, name, other string, call func(dir int, base string, toDir int, toBase string) error) error {
	return t.in(op, name, func(dir int, base string) error {
		to, toBase, err := t.parent(other)
		if err != nil {
			return err
		}
		defer unix.Close(to)
		return call(dir, base, to, toBase)
	})
}

func (t *tree) link(name, other string) error {
	return t.between("link", name, other, func(dir int, base string, toDir int, toBase string) error {
		return unix.Linkat(dir, base, toDir, toBase, 0)
	})
}

func (t *tree) exchange(a, b string) error {
	return t.between("exchange", a, b, func(dir int, base string, toDir int, toBase string) error {
		return unix.Renameat2(dir, base, toDir, toBase, unix.RENAME_EXCHANGE)
	})
}

func (t *tree) move(name, to string) error {
	return t.between("rename", name, to, func(dir int, base string, toDir int, toBase string) error {
		err := unix.Renameat2(dir, base, toDir, toBase, unix.RENAME_NOREPLACE)
		if err != unix.EINVAL && err != unix.ENOSYS {
			return err
		}
		// Not all file systems (FAT among them, for long) can refuse to replace.
		// The target is a name of our own, and nobody else makes those.
		var st unix.Stat_t
		if err := unix.Fstatat(toDir, toBase, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
			if err == nil {
				err = unix.EEXIST
			}
			return err
		}
		return unix.Renameat(dir, base, toDir, toBase)
	})
}

func (t *tree) remove(name string) error {
	return t.in("remove", name, func(dir int, base string) error { return unix.Unlinkat(dir, base, 0) })
}

func (t *tree) mkdir(name string) error {
	return t.in("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, 0o700); err != unix.EEXIST {
			return err
		}
		fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

func (t *tree) sync(dir string) error {
	fd, err := t.at(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return pathError("sync", dir, err)
	}
	defer unix.Close(fd)
	return pathError("sync", dir, again(func() error { return unix.Fsync(fd) }))
}

func (t *tree) write(name string, content io.Reader, like meta) (err error) {
	fd, err := t.at(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return pathError("create", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{content}, make([]byte, pieceSize)); err != nil {
		return err
	}
	if err := unix.Fchown(fd, int(like.UID), int(like.GID)); err != nil {
		return pathError("chown", name, err)
	}
	for k, v := range like.Xattrs {
		if err := unix.Fsetxattr(fd, k, []byte(v), 0); err != nil {
			return pathError("setxattr", name, err)
		}
	}
	if err := unix.Fchmod(fd, like.Mode&0o7777); err != nil {
		return pathError("chmod", name, err)
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(like.Mtime)}
	if err := utimens(fd, times); err != nil {
		return pathError("utimens", name, err)
	}
	return f.Sync()
}

// utimens is futimens(3): utimensat on the descriptor itself.
func utimens(fd int, times []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), times, 0)
}

// realFile is an open file of a tree.
type realFile struct {
	*os.File
	t      *tree
	leased int // F_RDLCK, F_WRLCK, or none
}

const none = -1

func (f *realFile) fd() int { return int(f.Fd()) }

func (f *realFile) facts() (Facts, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd(), &st); err != nil {
		return Facts{}, pathError("stat", f.Name(), err)
	}
	return f.t.factsOf(&st, f.fd()), nil
}

func (f *realFile) meta() (m meta, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd(), &st); err != nil {
		return m, pathError("stat", f.Name(), err)
	}
	m = meta{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Links: uint64(st.Nlink), Mtime: st.Mtim.Nano()}
	m.Xattrs, err = xattrsOf(f.fd())
	return m, pathError("getxattr", f.Name(), err)
}

// maxXattrs bounds what is compared; a file with more is left alone.
const maxXattrs = 256 << 10

func xattrsOf(fd int) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, list)
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, value, sum := map[string]string{}, make([]byte, 64<<10), 0
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, err
		}
		m[name] = string(value[:n])
		if sum += len(name) + n; sum > maxXattrs {
			return nil, unix.E2BIG
		}
	}
	return m, nil
}

func (f *realFile) sync() error {
	return pathError("sync", f.Name(), again(func() error { return unix.Fsync(f.fd()) }))
}

func (f *realFile) lease(alone bool) error {
	kind := unix.F_RDLCK
	if alone {
		kind = unix.F_WRLCK
	}
	f.leased = none
	_, err := unix.FcntlInt(uintptr(f.fd()), unix.F_SETLEASE, kind)
	switch err {
	case nil:
		f.leased = kind
	case unix.EAGAIN:
		return errBusy
	}
	return nil // who may not ask, and file systems without leases, tell nothing
}

func (f *realFile) undisturbed() bool {
	if f.leased == none {
		return true
	}
	now, err := unix.FcntlInt(uintptr(f.fd()), unix.F_GETLEASE, 0)
	return err == nil && now == f.leased
}

func (f *realFile) Close() error { return f.File.Close() } // ends a lease too

// sharePiece is how much the kernel is asked to compare at once; btrfs takes 16 MiB
// at most.
const sharePiece = 16 << 20

func (f *realFile) share(with file, off, n int64) (int64, error) {
	other, ok := with.(*realFile)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	r := unix.FileDedupeRange{
		Src_offset: uint64(off), Src_length: uint64(min(n, sharePiece)),
		Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(other.fd()), Dest_offset: uint64(off)}},
	}
	if err := again(func() error { return unix.IoctlFileDedupeRange(f.fd(), &r) }); err != nil {
		return 0, pathError("dedupe", f.Name(), err)
	}
	switch s := r.Info[0].Status; {
	case s == unix.FILE_DEDUPE_RANGE_DIFFERS:
		return 0, errDiffers
	case s < 0:
		return 0, pathError("dedupe", f.Name(), unix.Errno(-s))
	case r.Info[0].Bytes_deduped == 0:
		return 0, pathError("dedupe", f.Name(), unix.EOPNOTSUPP)
	}
	return int64(r.Info[0].Bytes_deduped), nil
}
