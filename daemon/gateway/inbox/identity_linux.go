package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// cifsMagic is CIFS_SUPER_MAGIC (linux/magic.h), which x/sys does not have.
const cifsMagic = 0xff534d42

// idOf is what stat says of a file on or below a folder of volume v.
func idOf(info fs.FileInfo, v volume) fileID {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{size: info.Size(), mtime: info.ModTime().UnixNano()}
	}
	id := fileID{
		device: uint64(st.Dev), inode: st.Ino, size: st.Size,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
	}
	if id.device == v.device {
		id.device = 0
	}
	if v.loose {
		id.inode, id.ctime = 0, 0
	}
	return id
}

// volumeOf describes the file system that an open folder lies on.
func volumeOf(dir *os.File) (v volume, err error) {
	info, err := dir.Stat()
	if err != nil {
		return v, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return v, errors.ErrUnsupported
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		return v, err
	}
	var fsys unix.Statfs_t
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Fstatfs(int(fd), &fsys) }); err != nil || failed != nil {
		return v, errors.Join(err, failed)
	}
	v.device, v.inode = uint64(st.Dev), st.Ino
	kind := uint32(fsys.Type)
	switch kind {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		v.loose = true
	case unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, cifsMagic, unix.V9FS_MAGIC:
		v.loose, v.remote = true, true
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		v.unreal = true
	}
	v.name = fmt.Sprintf("%x:%x:%x:%d", kind, fsys.Fsid.Val[0], fsys.Fsid.Val[1], fsys.Blocks)
	return v, nil
}

// beingWritten says whether somebody has the file open for writing, where the
// system tells: a read lease is refused then (fcntl(2), F_SETLEASE). It is given
// back at once. Who may not ask, and file systems without leases, tell nothing.
func beingWritten(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var lease error
	if err := raw.Control(func(fd uintptr) {
		if _, lease = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); lease == nil {
			_, lease = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	}); err != nil {
		return false
	}
	return errors.Is(lease, unix.EAGAIN)
}

// notFollowed opens nothing but what the name itself is, and never waits for the
// other end of a pipe.
const notFollowed = unix.O_NOFOLLOW | unix.O_NONBLOCK

// diskErrors are those that the next file would meet too: the disk is going, or
// gone.
var diskErrors = []error{unix.EIO, unix.ENODEV, unix.ENXIO, unix.ENOMEDIUM, unix.ESTALE, unix.ENOTCONN, unix.EHOSTDOWN, unix.ESHUTDOWN}
