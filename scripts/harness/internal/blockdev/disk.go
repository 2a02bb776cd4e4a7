// Package blockdev is a disk whose power can be cut: one file on a small FUSE
// file system of this process, put under a loop device and a real ext4, XFS or
// btrfs. Every block write and every cache flush that the kernel sends to the
// disk passes through here. It can be recorded, to rebuild later what a platter
// may hold at any moment (see [Recording]); flushes can be slowed down, as on a
// cheap card or a hard disk; and writes can fail, as on a dying one.
//
// It needs root, /dev/fuse and loop devices, and nothing of device-mapper.
package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is a running disk. Its methods may be used by several goroutines.
type Disk struct {
	delay   time.Duration
	dir     string
	size    int64
	live    *os.File // what the disk holds now
	server  *fuse.Server
	flushes atomic.Int64

	mu      sync.Mutex
	rec     *Recording // nil: not recording
	healthy int        // block writes that still succeed, while sick > 0
	sick    int        // block writes that fail after those
}

// New makes an empty disk of size bytes with its files below dir, and serves it
// as the file [Disk.Path]. Each cache flush takes flushDelay at least.
func New(dir string, size int64, flushDelay time.Duration) (*Disk, error) {
	front := filepath.Join(dir, "front")
	if err := os.MkdirAll(front, 0o700); err != nil {
		return nil, err
	}
	live, err := os.OpenFile(filepath.Join(dir, "live.img"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := live.Truncate(size); err != nil {
		return nil, errors.Join(err, live.Close())
	}
	d := &Disk{delay: flushDelay, dir: dir, size: size, live: live}
	d.server, err = fs.Mount(front, &rootNode{disk: d}, &fs.Options{
		MountOptions: fuse.MountOptions{FsName: "yunbox-disk", DirectMount: true, MaxWrite: 1 << 20},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mount the disk's file: %w", err), live.Close())
	}
	return d, nil
}

// Path is the file to put a loop device on.
func (d *Disk) Path() string { return filepath.Join(d.dir, "front", "disk") }

// Image is the plain file with the disk's present content: for mkfs, which needs
// no recording and no delays.
func (d *Disk) Image() string { return d.live.Name() }

// Flushes counts the cache flushes so far.
func (d *Disk) Flushes() int64 { return d.flushes.Load() }

// Record begins to record into a new file; base, a copy of the disk's content at
// this moment, is where a replay starts.
func (d *Disk) Record(file, base string) (*Recording, error) {
	if err := copySparse(d.Image(), base); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rec = &Recording{log: log, base: base}
	return d.rec, nil
}

// StopRecording ends the recording; what is written later is not part of it.
func (d *Disk) StopRecording() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rec = nil
}

// FailWrites lets count block writes fail with EIO, after the next healthy ones.
func (d *Disk) FailWrites(healthy, count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.healthy, d.sick = healthy, count
}

// Close takes the disk away. Whatever is mounted from it must be unmounted first.
func (d *Disk) Close() error {
	var err error
	for range 1200 { // the loop device lets go of its file a moment after it was told to
		if err = d.server.Unmount(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(err, d.live.Close())
}

func (d *Disk) write(p []byte, off int64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sick > 0 {
		if d.healthy == 0 {
			d.sick--
			return syscall.EIO
		}
		d.healthy--
	}
	if _, err := d.live.WriteAt(p, off); err != nil {
		return fs.ToErrno(err)
	}
	if d.rec != nil {
		if err := d.rec.addWrite(p, off); err != nil {
			return fs.ToErrno(err)
		}
	}
	return fs.OK
}

func (d *Disk) flush() {
	d.flushes.Add(1)
	if d.delay > 0 {
		time.Sleep(d.delay)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rec != nil {
		d.rec.addFlush()
	}
}

// The FUSE file system: a root directory with one file, "disk".

type rootNode struct {
	fs.Inode
	disk *Disk
}

type diskNode struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeOnAdder   = (*rootNode)(nil)
	_ fs.NodeGetattrer = (*diskNode)(nil)
	_ fs.NodeSetattrer = (*diskNode)(nil)
	_ fs.NodeOpener    = (*diskNode)(nil)
	_ fs.NodeReader    = (*diskNode)(nil)
	_ fs.NodeWriter    = (*diskNode)(nil)
	_ fs.NodeFsyncer   = (*diskNode)(nil)
	_ fs.NodeFlusher   = (*diskNode)(nil)
)

func (r *rootNode) OnAdd(ctx context.Context) {
	file := r.NewPersistentInode(ctx, &diskNode{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG, Ino: 2})
	r.AddChild("disk", file, true)
}

func (n *diskNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = syscall.S_IFREG | 0o600
	out.Size = uint64(n.disk.size)
	out.Blksize = 4096
	out.Blocks = uint64(n.disk.size / 512)
	return fs.OK
}

func (n *diskNode) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.Getattr(ctx, f, out)
}

// Open asks for no writeback cache: each write arrives here before it is done.
func (n *diskNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, fs.OK
}

func (n *diskNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	got, err := n.disk.live.ReadAt(dest, off)
	if got == 0 && err != nil {
		return fuse.ReadResultData(nil), fs.OK
	}
	return fuse.ReadResultData(dest[:got]), fs.OK
}

func (n *diskNode) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := n.disk.write(data, off); errno != fs.OK {
		return 0, errno
	}
	return uint32(len(data)), fs.OK
}

// Fsync is the disk's cache flush.
func (n *diskNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.flush()
	return fs.OK
}

// Flush is called when a file descriptor is closed: nothing to do with the disk's cache.
func (n *diskNode) Flush(context.Context, fs.FileHandle) syscall.Errno { return fs.OK }
