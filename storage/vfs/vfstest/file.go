package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"yunbox.local/storage/vfs"
)

// file is an open file of a Disk.
type file struct {
	d      *Disk
	n      *inode
	name   string
	write  bool
	pos    int64
	closed bool
}

// begin is Disk.begin for an open file.
func (f *file) begin(op Op) error {
	if err := f.d.begin(op, f.name); err != nil {
		return err
	}
	if f.closed {
		f.d.m.mu.Unlock()
		return &fs.PathError{Op: op.String(), Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *file) fail(op Op, err error) error {
	return &fs.PathError{Op: op.String(), Path: f.name, Err: err}
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.begin(OpRead); err != nil {
		return 0, err
	}
	defer f.d.m.mu.Unlock()
	n, err := f.readAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.begin(OpRead); err != nil {
		return 0, err
	}
	defer f.d.m.mu.Unlock()
	return f.readAt(p, off)
}

func (f *file) readAt(p []byte, off int64) (int, error) {
	if f.n.mode.IsDir() {
		return 0, f.fail(OpRead, syscall.EISDIR)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.writeAt(p, -1)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.fail(OpWrite, fs.ErrInvalid)
	}
	return f.writeAt(p, off)
}

// writeAt writes at off, or at the position when off is negative.
func (f *file) writeAt(p []byte, off int64) (int, error) {
	failed := f.begin(OpWrite)
	if failed != nil {
		n := shortOf(failed, len(p))
		if n == 0 {
			return 0, failed
		}
		p = p[:n]
		f.d.m.mu.Lock()
	}
	defer f.d.m.mu.Unlock()
	if !f.write {
		return 0, f.fail(OpWrite, syscall.EBADF)
	}
	at := off
	if off < 0 {
		at = f.pos
	}
	n, err := f.d.m.write(f.n, p, at)
	if off < 0 {
		f.pos += int64(n)
	}
	if err != nil {
		return n, f.fail(OpWrite, err)
	}
	return n, failed
}

// write writes what fits. The media is locked.
func (m *media) write(n *inode, p []byte, off int64) (int, error) {
	var full error
	if end := off + int64(len(p)); end > int64(len(n.data)) {
		if fits := m.fits(n); end > fits {
			full = syscall.ENOSPC
			p = p[:max(0, min(int64(len(p)), fits-off))]
		}
		if end = off + int64(len(p)); len(p) > 0 && end > int64(len(n.data)) {
			if err := m.resize(n, end); err != nil {
				return 0, err
			}
		}
	}
	if len(p) > 0 {
		copy(n.data[off:], p)
		n.touch(off, off+int64(len(p)))
		n.mtime = m.now()
	}
	return len(p), full
}

// fits is the size to which a file can grow.
func (m *media) fits(n *inode) int64 {
	return blocks(n) + max(0, m.capacity-m.used)/block*block
}

func blocks(n *inode) int64 { return (int64(len(n.data)) + block - 1) / block * block }

// resize changes a file's size; what lies between becomes zero.
func (m *media) resize(n *inode, size int64) error {
	if size == int64(len(n.data)) {
		return nil
	}
	if size > m.fits(n) {
		return syscall.ENOSPC
	}
	m.used -= blocks(n)
	old := int64(len(n.data))
	if size < old {
		n.data = n.data[:size:size]
	} else {
		n.data = append(n.data, make([]byte, size-old)...)
	}
	n.touch(min(size, old), max(size, old))
	n.resized = true
	n.mtime = m.now()
	m.used += blocks(n)
	return nil
}

// touch marks the sectors of bytes [from, to) as not yet on the device.
func (n *inode) touch(from, to int64) {
	for s := from / sector; s*sector < to; s++ {
		n.dirty[int(s)] = true
	}
}

// free gives back the room of a file that has neither names nor users.
func (m *media) free(n *inode) {
	if n.links == 0 && n.opens == 0 {
		m.used -= blocks(n)
		n.data = nil
	}
}

func (f *file) Seek(off int64, whence int) (int64, error) {
	f.d.m.mu.Lock()
	defer f.d.m.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		off += int64(len(f.n.data))
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.pos = off
	return off, nil
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.begin(OpStat); err != nil {
		return nil, err
	}
	defer f.d.m.mu.Unlock()
	return f.n.info(f.name), nil
}

func (f *file) Truncate(size int64) error {
	if err := f.begin(OpTruncate); err != nil {
		return err
	}
	defer f.d.m.mu.Unlock()
	if !f.write || size < 0 {
		return f.fail(OpTruncate, fs.ErrInvalid)
	}
	if err := f.d.m.resize(f.n, size); err != nil {
		return f.fail(OpTruncate, err)
	}
	return nil
}

func (f *file) Chmod(mode fs.FileMode) error {
	if err := f.begin(OpChmod); err != nil {
		return err
	}
	defer f.d.m.mu.Unlock()
	f.n.mode = f.n.mode.Type() | mode.Perm()
	return nil
}

// SetModTime, unlike sizes and names, always survives a cut: nothing depends on it.
func (f *file) SetModTime(t time.Time) error {
	if err := f.begin(OpTimes); err != nil {
		return err
	}
	defer f.d.m.mu.Unlock()
	f.n.mtime = t
	return nil
}

// Clone is a copy that takes room and may be lost, half of it or all, until it is
// synced: less than file systems promise.
func (f *file) Clone(from vfs.File) error {
	if err := f.begin(OpClone); err != nil {
		return err
	}
	defer f.d.m.mu.Unlock()
	source, ok := from.(*file)
	if !ok || source.d.m != f.d.m || !f.d.m.clones {
		return f.fail(OpClone, errors.ErrUnsupported)
	}
	if _, err := f.d.m.write(f.n, slices.Clone(source.n.data), 0); err != nil {
		return f.fail(OpClone, err)
	}
	return nil
}

func (f *file) Sync() error     { return f.sync() }
func (f *file) Datasync() error { return f.sync() }

func (f *file) sync() error {
	if err := f.begin(OpSync); err != nil {
		if lost(err) {
			f.d.m.mu.Lock()
			defer f.d.m.mu.Unlock()
			f.n.forgetful = f.n.forgetful || f.n.resized || len(f.n.dirty) > 0
			clear(f.n.dirty)
			f.n.resized, f.n.untold = false, false
		}
		return err
	}
	defer f.d.m.mu.Unlock()
	n := f.n
	untold := n.untold
	if !untold {
		n.reachAll()
	}
	n.forgetful = n.forgetful || untold && (n.resized || len(n.dirty) > 0)
	clear(n.dirty)
	n.resized, n.untold = false, false
	if untold {
		return f.fail(OpSync, syscall.EIO)
	}
	return nil
}

// evict drops the pages that count as clean.
func (n *inode) evict() {
	data := n.ofSize(n.disk, len(n.data))
	data = slices.Clone(data)
	for s := range n.dirty {
		from, to := s*sector, min((s+1)*sector, len(data))
		if from < to {
			copy(data[from:to], n.data[from:to])
		}
	}
	n.data, n.forgetful = data, false
}

// reachAll brings a file to the device.
func (n *inode) reachAll() {
	if n.resized {
		n.disk = n.ofSize(n.disk, len(n.data))
	}
	for s := range n.dirty {
		// A size that a failed sync has lost comes with what is written later.
		if end := min((s+1)*sector, len(n.data)); end > len(n.disk) {
			n.disk = n.ofSize(n.disk, end)
		}
		n.reach(s)
	}
}

// reach brings a sector to the device, as far as that knows the file to go.
func (n *inode) reach(s int) {
	from, to := s*sector, min((s+1)*sector, len(n.data), len(n.disk))
	if from < to {
		copy(n.disk[from:to], n.data[from:to])
	}
}

// ofSize cuts b or extends it with zeros.
func (n *inode) ofSize(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(slices.Clip(b), make([]byte, size-len(b))...)
}

// WriteBack makes nothing durable; a device may keep what it took in a cache
// that forgets.
func (f *file) WriteBack(_, _ int64, _ bool) error {
	if err := f.begin(OpWriteBack); err != nil {
		if lost(err) {
			f.d.m.mu.Lock()
			defer f.d.m.mu.Unlock()
			f.n.forgetful = f.n.forgetful || len(f.n.dirty) > 0
			clear(f.n.dirty)
		}
		return err
	}
	defer f.d.m.mu.Unlock()
	return nil
}

// Evict shows what became of the file on the device: see Disk.Rot. What a failed sync
// has lost shows as what was there before, or as zeros: the size stays in memory.
func (f *file) Evict(_, _ int64) error {
	if err := f.begin(OpEvict); err != nil {
		return err
	}
	defer f.d.m.mu.Unlock()
	if f.n.rotten != nil {
		f.n.data, f.n.disk, f.n.rotten = f.n.rotten, slices.Clone(f.n.rotten), nil
	}
	if f.n.forgetful {
		f.n.evict()
	}
	return nil
}

func (f *file) Close() error {
	err := f.begin(OpClose)
	if err != nil {
		f.d.m.mu.Lock()
		if f.closed || f.d.life != f.d.m.life {
			f.d.m.mu.Unlock()
			return err
		}
	}
	defer f.d.m.mu.Unlock()
	f.closed = true
	f.n.opens--
	f.d.m.free(f.n)
	return err
}
