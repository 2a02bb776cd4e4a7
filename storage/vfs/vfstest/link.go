package vfstest

import (
	"io/fs"
	"slices"
	"syscall"
)

// Symlink makes a symbolic link. No other call follows it.
func (d *Disk) Symlink(target, name string) error {
	if err := d.begin(OpLink, name); err != nil {
		return err
	}
	defer d.m.mu.Unlock()
	dir, base, err := d.m.parent(name)
	if err == nil && dir.entries[base] != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return &fs.PathError{Op: "symlink", Path: name, Err: err}
	}
	n := d.m.newInode(fs.ModeSymlink | 0o777)
	n.links = 1
	// Where it points to is in the inode, which reaches the device with its name.
	n.data = []byte(target)
	n.disk = slices.Clone(n.data)
	dir.apply(set(base, n))
	return nil
}

// Readlink says where a symbolic link points to.
func (d *Disk) Readlink(name string) (string, error) {
	if err := d.begin(OpStat, name); err != nil {
		return "", err
	}
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err == nil && n.mode&fs.ModeSymlink == 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(n.data), nil
}
