// Package vfstest has a disk in memory that can lose power, fail and fill up.
package vfstest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"yunbox.local/storage/vfs"
)

// ErrPowerOff is what every call on a Disk answers after a power cut or a kill.
var ErrPowerOff = errors.New("the power is off")

// Disk is a file system in memory that is as forgetful as POSIX allows. What
// was not synced may be lost in PowerCut, sector by sector and name by name,
// and a sync that fails loses it for good though a second sync succeeds.
//
// Of two names that a rename within one directory changes, a cut shows the old
// state or the new. A rename between directories is two changes: a cut may show
// the file under both names or under neither, until both directories are synced.
//
// All methods are safe for concurrent use. A Disk has no clock unless Now is
// set: times of files are then those of time.Now.
type Disk struct {
	m    *media
	life int // of the media: this Disk is off when that has moved on
}

var _ vfs.FS = (*Disk)(nil)

// media is what several lives of a process see one after the other.
type media struct {
	mu       sync.Mutex
	life     int
	root     *inode
	inodes   uint64 // made so far
	capacity int64
	used     int64
	locks    map[string]bool
	now      func() time.Time
	faults   []*Fault
	calls    [numOps]int
	clones   bool
	cutIn    int // the power fails before that call from now; 0: never
	onCut    func()
	luck     Luck // of the cut that this is being made by
	untold   bool // a write behind was lost: the next SyncAll says so
}

const (
	sector = 512  // is written whole or not at all
	block  = 4096 // room is taken in these
)

// inode is a file or a directory.
type inode struct {
	num   uint64 // in the order of making
	mode  fs.FileMode
	mtime time.Time
	links int // names
	opens int

	// A SyncAll, or a write behind, has lost what was not on the device; the next
	// sync of this file or directory says so, too, once. Linux tells every descriptor
	// that was open, and later ones only if nobody was told (errseq_t,
	// Documentation/core-api/errseq.rst; errseq_sample in lib/errseq.c); the first
	// alone is less, and so harder.
	untold bool

	// Pages of this file count as clean and are not on the device: a failed write
	// does that in ext4 and XFS (A. Rebello et al., "Can Applications Recover from
	// fsync Failures?", USENIX ATC 2020). Processes see them until they
	// are evicted.
	forgetful bool

	// rotten is what the device has in truth where that went bad under the page
	// cache: processes see data until they evict it. See Disk.Rot.
	rotten []byte

	// A file: what processes see, what the device has, and which sectors
	// differ. len(disk) is the size the device knows.
	data, disk []byte
	dirty      map[int]bool
	resized    bool

	// A directory: what processes see, what the device has, and the changes
	// in between, in order.
	entries, durable map[string]*inode
	log              []change
}

// change is one change of a directory: it survives a cut whole or not at all.
type change []struct {
	name string
	node *inode // nil: the name is gone
}

// NewDisk returns an empty disk without faults and practically without end.
func NewDisk() *Disk {
	m := &media{capacity: math.MaxInt64 / 4, locks: make(map[string]bool), now: time.Now}
	m.root = m.newInode(fs.ModeDir | 0o755)
	m.root.links = 1
	return &Disk{m: m}
}

func (m *media) newInode(mode fs.FileMode) *inode {
	m.inodes++
	n := &inode{num: m.inodes, mode: mode, mtime: m.now()}
	if mode.IsDir() {
		n.entries, n.durable = make(map[string]*inode), make(map[string]*inode)
	} else {
		n.dirty = make(map[int]bool)
	}
	return n
}

// SetCapacity sets how many bytes fit, in blocks of 4 KiB.
func (d *Disk) SetCapacity(n int64) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.capacity = n
}

// SetClones says whether files can share their storage.
func (d *Disk) SetClones(can bool) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.clones = can
}

// Rot lets bytes of a file go bad on the device, under the page cache: change gets
// what is there. Whoever reads sees the old bytes until they are evicted.
func (d *Disk) Rot(name string, change func([]byte)) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err != nil {
		return err
	}
	n.rotten = slices.Clone(n.data)
	change(n.rotten)
	return nil
}

// SetNow sets the clock of modification times.
func (d *Disk) SetNow(now func() time.Time) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.now = now
}

// begin starts a call: it counts it and lets it fail if that is due. On nil the
// media is locked.
func (d *Disk) begin(op Op, name string) error {
	d.m.mu.Lock()
	err := d.m.admit(d.life, op, name)
	if err != nil {
		d.m.mu.Unlock()
		return &fs.PathError{Op: op.String(), Path: name, Err: err}
	}
	return nil
}

// lookup finds a file or directory. The media is locked.
func (m *media) lookup(name string) (*inode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	n := m.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.mode.IsDir() {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parent finds the directory of a name.
func (m *media) parent(name string) (*inode, string, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, "", fs.ErrInvalid
	}
	dir, err := m.lookup(path.Dir(name))
	if err == nil && !dir.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	return dir, path.Base(name), err
}

// apply makes a change of a directory visible.
func (n *inode) apply(c change) {
	for _, e := range c {
		if e.node == nil {
			delete(n.entries, e.name)
		} else {
			n.entries[e.name] = e.node
		}
	}
	n.log = append(n.log, c)
}

func set(name string, node *inode) change {
	return change{{name, node}}
}

func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	op := OpOpen
	if flag&syscall.O_CREAT != 0 {
		op = OpCreate
	}
	if err := d.begin(op, name); err != nil {
		return nil, err
	}
	defer d.m.mu.Unlock()
	n, err := d.open(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: op.String(), Path: name, Err: err}
	}
	n.opens++
	return &file{d: d, n: n, name: name, write: flag&(syscall.O_WRONLY|syscall.O_RDWR) != 0}, nil
}

func (d *Disk) open(name string, flag int, perm fs.FileMode) (*inode, error) {
	write := flag&(syscall.O_WRONLY|syscall.O_RDWR) != 0
	n, err := d.m.lookup(name)
	switch {
	case err == nil && flag&syscall.O_CREAT != 0 && flag&syscall.O_EXCL != 0:
		return nil, syscall.EEXIST
	case err == nil && write && n.mode.IsDir():
		return nil, syscall.EISDIR
	case err == nil && write && n.mode&0o200 == 0:
		return nil, syscall.EACCES // the daemon is not root
	case err == nil:
		if flag&syscall.O_TRUNC != 0 {
			return n, d.m.resize(n, 0)
		}
		return n, nil
	case !errors.Is(err, fs.ErrNotExist) || flag&syscall.O_CREAT == 0:
		return nil, err
	}
	dir, base, err := d.m.parent(name)
	if err != nil {
		return nil, err
	}
	n = d.m.newInode(perm.Perm())
	n.links = 1
	dir.apply(set(base, n))
	return n, nil
}

func (d *Disk) Rename(oldname, newname string) error {
	if err := d.begin(OpRename, oldname); err != nil {
		return err
	}
	defer d.m.mu.Unlock()
	if err := d.rename(oldname, newname); err != nil {
		return &fs.PathError{Op: "rename", Path: oldname, Err: err}
	}
	return nil
}

func (d *Disk) rename(oldname, newname string) error {
	from, oldbase, err := d.m.parent(oldname)
	if err != nil {
		return err
	}
	n := from.entries[oldbase]
	if n == nil {
		return syscall.ENOENT
	}
	to, newbase, err := d.m.parent(newname)
	if err != nil {
		return err
	}
	target := to.entries[newbase]
	switch {
	case target == n:
		return nil // POSIX: two names of one file both stay
	case target != nil && target.mode.IsDir() != n.mode.IsDir():
		return syscall.EEXIST
	case target != nil && len(target.entries) > 0:
		return syscall.ENOTEMPTY
	}
	if from == to {
		from.apply(append(set(oldbase, nil), set(newbase, n)...))
	} else {
		from.apply(set(oldbase, nil))
		to.apply(set(newbase, n))
	}
	if target != nil {
		target.links--
		d.m.free(target)
	}
	return nil
}

// Link gives a file a second name, which must be free.
func (d *Disk) Link(oldname, newname string) error {
	if err := d.begin(OpLink, oldname); err != nil {
		return err
	}
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(oldname)
	if err == nil && n.mode.IsDir() {
		err = syscall.EPERM
	}
	if err == nil {
		var dir *inode
		var base string
		if dir, base, err = d.m.parent(newname); err == nil && dir.entries[base] != nil {
			err = syscall.EEXIST
		}
		if err == nil {
			dir.apply(set(base, n))
			n.links++
		}
	}
	if err != nil {
		return &fs.PathError{Op: "link", Path: oldname, Err: err}
	}
	return nil
}

// Exchange swaps what two names of one directory mean, as renameat2 with
// RENAME_EXCHANGE does: a cut shows both as they were, or both swapped.
func (d *Disk) Exchange(a, b string) error {
	if err := d.begin(OpRename, a); err != nil {
		return err
	}
	defer d.m.mu.Unlock()
	dir, first, err := d.m.parent(a)
	if err == nil {
		other, second, failed := d.m.parent(b)
		switch err = failed; {
		case err != nil:
		case dir != other:
			err = syscall.EXDEV // enough for what is tested
		case dir.entries[first] == nil || dir.entries[second] == nil:
			err = syscall.ENOENT
		default:
			x, y := dir.entries[first], dir.entries[second]
			dir.apply(append(set(first, y), set(second, x)...))
		}
	}
	if err != nil {
		return &fs.PathError{Op: "exchange", Path: a, Err: err}
	}
	return nil
}

// Identity tells files apart, as inode numbers do: it is the same for all names of
// one, and after a cut. Links is how many names it has.
func (d *Disk) Identity(name string) (number uint64, links int, err error) {
	if err := d.begin(OpStat, name); err != nil {
		return 0, 0, err
	}
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err != nil {
		return 0, 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.num, n.links, nil
}

func (d *Disk) Remove(name string) error {
	if err := d.begin(OpRemove, name); err != nil {
		return err
	}
	defer d.m.mu.Unlock()
	dir, base, err := d.m.parent(name)
	if err == nil {
		switch n := dir.entries[base]; {
		case n == nil:
			err = syscall.ENOENT
		case len(n.entries) > 0:
			err = syscall.ENOTEMPTY
		default:
			dir.apply(set(base, nil))
			n.links--
			d.m.free(n)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	if err := d.begin(OpMkdir, name); err != nil {
		return err
	}
	defer d.m.mu.Unlock()
	dir, base, err := d.m.parent(name)
	if err == nil && dir.entries[base] != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	n := d.m.newInode(fs.ModeDir | perm.Perm())
	n.links = 1
	dir.apply(set(base, n))
	return nil
}

func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := d.begin(OpReadDir, name); err != nil {
		return nil, err
	}
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err == nil && !n.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	entries := make([]fs.DirEntry, 0, len(n.entries))
	for base, child := range n.entries {
		entries = append(entries, dirEntry{d, path.Join(name, base), child.mode})
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// dirEntry asks for the rest when it is asked, as the real one does.
type dirEntry struct {
	d    *Disk
	path string
	mode fs.FileMode
}

func (e dirEntry) Name() string               { return path.Base(e.path) }
func (e dirEntry) IsDir() bool                { return e.mode.IsDir() }
func (e dirEntry) Type() fs.FileMode          { return e.mode.Type() }
func (e dirEntry) Info() (fs.FileInfo, error) { return e.d.Stat(e.path) }

func (d *Disk) Stat(name string) (fs.FileInfo, error) {
	if err := d.begin(OpStat, name); err != nil {
		return nil, err
	}
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.info(name), nil
}

type info struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (n *inode) info(name string) info {
	return info{path.Base(name), int64(len(n.data)), n.mode, n.mtime}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mtime }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

func (d *Disk) SyncDir(name string) error {
	if err := d.begin(OpSyncDir, name); err != nil {
		var failed *fs.PathError
		if errors.As(err, &failed) && !errors.Is(failed.Err, ErrPowerOff) {
			d.loseDir(name)
		}
		return err
	}
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err == nil && !n.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err == nil && n.untold {
		n.untold, n.log, err = false, nil, syscall.EIO
	}
	if err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	for _, c := range n.log {
		c.reach(n.durable)
	}
	n.log = nil
	return nil
}

// reach brings a change to the device.
func (c change) reach(durable map[string]*inode) {
	for _, e := range c {
		if e.node == nil {
			delete(durable, e.name)
		} else {
			durable[e.name] = e.node
		}
	}
}

// SyncAll that fails has lost all that was not synced, or of that what Fault.Loses
// says; files and directories of which that is true say so at their next own sync, as
// Linux does.
func (d *Disk) SyncAll() error {
	failed := d.begin(OpSyncAll, ".")
	if failed != nil {
		if !lost(failed) {
			return failed
		}
		d.m.mu.Lock()
	}
	defer d.m.mu.Unlock()
	loses := func(string) bool { return false }
	if failed != nil {
		loses = losesOf(failed)
	} else if d.m.untold {
		failed = &fs.PathError{Op: "syncall", Path: ".", Err: syscall.EIO}
	}
	d.m.untold = false
	d.m.root.syncAll(".", loses, make(map[*inode]bool))
	return failed
}

// Lose is what the kernel does when it writes behind and the device does not take it:
// the unsynced data of the files whose names lose approves of is gone. Nobody is
// told but the next sync of such a file, and the next SyncAll (Linux 5.8, commit
// 735e4ae5ba28). It is no call of a process.
func (d *Disk) Lose(lose func(name string) bool) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.life == d.m.life {
		d.m.root.loseBehind(d.m, ".", lose)
	}
}

func (n *inode) loseBehind(m *media, name string, lose func(string) bool) {
	if !n.mode.IsDir() && len(n.dirty) > 0 && lose(name) {
		clear(n.dirty)
		n.untold, n.forgetful, m.untold = true, true, true
	}
	for base, child := range n.entries {
		child.loseBehind(m, path.Join(name, base), lose)
	}
}

// Reclaim is what the kernel does when memory is short: pages that count as clean are
// dropped, and who reads next sees the device. It is no call of a process.
func (d *Disk) Reclaim() {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.root.reclaim()
}

func (n *inode) reclaim() {
	if n.forgetful {
		n.evict()
	}
	for _, child := range n.entries {
		child.reclaim()
	}
}

// syncAll brings a tree to the device, or loses what is not there.
func (n *inode) syncAll(name string, loses func(string) bool, seen map[*inode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	good := !loses(name)
	if n.mode.IsDir() {
		n.untold = n.untold || !good && len(n.log) > 0
		if good {
			for _, c := range n.log {
				c.reach(n.durable)
			}
		}
		n.log = nil
	} else {
		lost := !good && (n.resized || len(n.dirty) > 0)
		n.untold, n.forgetful = n.untold || lost, n.forgetful || lost
		if good {
			n.reachAll()
		}
		clear(n.dirty)
		n.resized = false
	}
	for base, child := range n.entries {
		child.syncAll(path.Join(name, base), loses, seen)
	}
}

// loseDir is a failed SyncDir: what it should have written counts as clean.
func (d *Disk) loseDir(name string) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if n, err := d.m.lookup(name); err == nil {
		n.log, n.untold = nil, false
	}
}

func (d *Disk) Space() (vfs.Space, error) {
	if err := d.begin(OpSpace, "."); err != nil {
		return vfs.Space{}, err
	}
	defer d.m.mu.Unlock()
	return vfs.Space{Total: d.m.capacity, Free: d.m.capacity - d.m.used}, nil
}

func (d *Disk) Lock(name string) (io.Closer, error) {
	if err := d.begin(OpLock, name); err != nil {
		return nil, err
	}
	defer d.m.mu.Unlock()
	if d.m.locks[name] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: vfs.ErrLocked}
	}
	if _, err := d.open(name, syscall.O_RDWR|syscall.O_CREAT, 0o600); err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	d.m.locks[name] = true
	return &lock{d, name}, nil
}

type lock struct {
	d    *Disk
	name string
}

func (l *lock) Close() error {
	l.d.m.mu.Lock()
	defer l.d.m.mu.Unlock()
	if l.d.life != l.d.m.life {
		return ErrPowerOff
	}
	delete(l.d.m.locks, l.name)
	return nil
}

// Corrupt flips one bit of a file, in memory and on the device, as if it had
// rotted. It is not a call of a process: it is not counted and never fails for
// another reason than a wrong name or offset.
func (d *Disk) Corrupt(name string, off int64) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	n, err := d.m.lookup(name)
	if err != nil {
		return err
	}
	if off < 0 || off >= int64(len(n.data)) {
		return fmt.Errorf("%s has no byte %d", name, off)
	}
	n.data[off] ^= 1
	if off < int64(len(n.disk)) {
		n.disk[off] ^= 1
	}
	return nil
}
