// Package vfs is the only way from yunbox to the disk.
//
// It exists for two reasons. A disk that can lose power is a second real
// implementation (package vfstest), so every rule about durability is tested
// in memory, thousands of cuts a second. And a call that reaches the disk only
// through FS cannot leave the state directory: the real implementation, Dir,
// is confined by os.Root.
//
// # What is durable when
//
// As on any POSIX file system, and no better: the bytes of a file are durable
// after File.Sync or File.Datasync returned nil; a name is durable after
// FS.SyncDir of the directory that holds it returned nil; a new directory
// needs its parent's SyncDir too. A failed sync is final: the kernel may have
// marked the lost pages clean, so a second sync that answers nil says nothing.
//
// Names are slash-separated, relative to the root, without "." and ".."
// elements, and "." is the root itself, as in io/fs.ValidPath.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"syscall"
	"time"
)

// ErrLocked is returned by FS.Lock while somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// Flags of FS.OpenFile: those of package os, in the combinations that are used.
const (
	ReadOnly  = syscall.O_RDONLY
	ReadWrite = syscall.O_RDWR
	CreateNew = syscall.O_RDWR | syscall.O_CREAT | syscall.O_EXCL // fails when there is one
	Replace   = syscall.O_RDWR | syscall.O_CREAT | syscall.O_TRUNC
)

// FS is one directory tree on one volume. All methods are safe for concurrent
// use. Errors are *fs.PathError or wrap what errors.Is finds as fs.ErrNotExist,
// fs.ErrExist, syscall.ENOSPC and so on.
type FS interface {
	// OpenFile opens a file: see the flags above.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)

	// Rename gives a file another name, atomically replacing what had that name.
	Rename(oldname, newname string) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	// ReadDir lists a directory in the order of names.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)

	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error

	// SyncAll makes everything on the volume durable, data and names, also
	// what other programs wrote: its time has no bound. An error says that
	// something was lost since the last SyncAll, not what. It is
	// errors.ErrUnsupported, at once, where the system hides lost data.
	SyncAll() error

	// Space reports the size of the volume.
	Space() (Space, error)

	// Lock takes an advisory lock on a file, made when missing, until the
	// returned Closer is closed or the process ends. ErrLocked: somebody else,
	// in this process or another, has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Reading and writing at offsets is safe for concurrent
// use; Read, Write and Seek share one position.
type File interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
	io.Closer

	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Chmod(mode fs.FileMode) error
	// SetModTime sets when the file was modified, as far as the file system can
	// keep that time.
	SetModTime(t time.Time) error

	// Clone gives this file, which is empty and open for writing, the content of
	// another one of the same volume by sharing its storage: neither takes room,
	// and a later write to one is none to the other. errors.ErrUnsupported where the
	// file system cannot (ext4) or the two lie on different ones; the file is empty
	// then.
	Clone(from File) error

	// Sync makes data and metadata durable, but not the file's name.
	Sync() error
	// Datasync makes the data durable, and of the metadata what is needed to
	// read it back (the size), but not the file's name.
	Datasync() error
	// WriteBack starts to write bytes [off, off+n) to the disk and, when wait
	// is set, waits until the device has taken them. It makes nothing durable;
	// it makes a later Datasync short. An error is as final as that of a sync.
	WriteBack(off, n int64, wait bool) error
	// Evict drops what the page cache holds of bytes [off, off+n), n 0: all
	// from off on, so that the next read asks the disk and the cache is left to
	// those who use it. What is not written yet stays. It is a hint: a system
	// that does not know it answers nil.
	Evict(off, n int64) error
}

// Entries calls f with each entry of a directory, in no order, and keeps only some
// of them in memory at a time. f may remove the entry.
func Entries(fsys FS, name string, f func(fs.DirEntry) error) error {
	dir, err := fsys.OpenFile(name, ReadOnly, 0)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // read only
	some, ok := dir.(interface {
		ReadDir(n int) ([]fs.DirEntry, error)
	})
	if !ok {
		list, err := fsys.ReadDir(name)
		for _, e := range list {
			err = errors.Join(err, f(e))
		}
		return err
	}
	for {
		list, err := some.ReadDir(1024)
		for _, e := range list {
			if err := f(e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Space is the room on a volume, in bytes.
type Space struct {
	Total int64 // all of it
	Free  int64 // what this process may still use
}

// IsFull reports whether an error means that there is no room left: on the
// volume, or in the quota of the daemon's own system user.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// ReadFile reads a whole small file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// WriteFile replaces a small file durably and all at once: after nil the new
// content survives a power cut, and at any moment a reader, or the box after a
// cut, finds the old content or the new one whole. The new content is first
// written beside it, as name + ".new"; two writers of one name must take turns.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) (err error) {
	staged := name + ".new"
	// One left by a power cut may have a mode that forbids to open it again.
	if err := fsys.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.OpenFile(staged, CreateNew, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// Harmless when the rename already happened: the name is gone.
			_ = fsys.Remove(staged)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := fsys.Rename(staged, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}
