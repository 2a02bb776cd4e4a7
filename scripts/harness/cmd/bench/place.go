package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"yunbox.local/scripts/harness/internal/blockdev"
)

// A place is where one run keeps its data. It makes an empty directory, and clear
// takes it away again.
type place func() (dir string, clear func() error, err error)

// fresh is a place on a file system that is made anew for each run. On one that is
// used again a run pays for its predecessors: ext4 does not take inodes that were
// freed a short while ago, and looks for others at every new file.
func fresh(format, disk, mountPoint string, loopOptions ...string) place {
	return func() (string, func() error, error) {
		if err := blockdev.Format("ext4", format); err != nil {
			return "", nil, err
		}
		mount, err := blockdev.MountFile("ext4", disk, mountPoint, loopOptions...)
		if err != nil {
			return "", nil, err
		}
		dir := filepath.Join(mount.Dir, "run")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", nil, errors.Join(err, mount.Unmount())
		}
		return dir, mount.Unmount, nil
	}
}

// folder is a place in a plain directory, for who is not root.
func folder(dir string) place {
	return func() (string, func() error, error) {
		return dir, func() error { return os.RemoveAll(dir) }, os.MkdirAll(dir, 0o755)
	}
}

// image writes a file of size bytes for a loop device. It is written, not only made
// long, so that no run pays for the allocation of its blocks below.
func image(path string, size int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyN(f, zeros{}, size); err != nil {
		return err
	}
	return f.Sync()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
