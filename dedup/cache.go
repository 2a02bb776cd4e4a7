package dedup

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"sync"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// The cache remembers what was read, so that it need not be read again. It is two
// files of entries of one size, each with a CRC of its own: "cache", sorted by volume
// and inode, and "cache.log", what came since, in any order. A scan reads the cache
// beside its own sorted records, so nothing of it is kept in memory; it appends to
// the log as it goes, so a scan that was cut off is not lost; and it ends by merging
// both. An entry whose CRC is wrong is as good as none: what it says is read again.

const (
	cacheName    = "cache"
	cacheLogName = "cache.log"
	cacheHead    = "yunbox dedup cache 1\n"

	entrySize = 5*8 + 2*4 + 16 + storageRefSize + 16 + 8 + 4 + 4
	// keepDays is how long an entry is kept that no scan met.
	keepDays = 180
	// renewDays is how old that may be before it is written again.
	renewDays = 30
)

// mergeLength is how many entries of the log are merged at a time: about 4 MiB.
const mergeLength = 32 << 10

const storageRefSize = len(storage.Ref{})

// entry is what is remembered of a file.
type entry struct {
	Facts
	known known
	day   uint32 // when a scan last met it, in days since 1970
	ends  [16]byte
	full  storage.Ref
	image [16]byte // of a picture without its metadata
	look  uint64   // its perceptual hash
	wide  uint16
	high  uint16
}

const (
	knowsImage known = 4 << iota // it is a JPEG, and image is set
	knowsLook                    // look, wide and high are set
	knowsPlain                   // it is no picture that can be looked at
)

func (e *entry) put(b []byte) {
	le := binary.LittleEndian
	for i, v := range []uint64{e.Volume, e.Inode, uint64(e.Size), uint64(e.Mtime), uint64(e.Ctime)} {
		le.PutUint64(b[8*i:], v)
	}
	le.PutUint32(b[40:], uint32(e.known))
	le.PutUint32(b[44:], e.day)
	copy(b[48:], e.ends[:])
	copy(b[64:], e.full[:])
	copy(b[96:], e.image[:])
	le.PutUint64(b[112:], e.look)
	le.PutUint16(b[120:], e.wide)
	le.PutUint16(b[122:], e.high)
	le.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli()))
}

// get reads an entry and says whether it is sound.
func (e *entry) get(b []byte) bool {
	le := binary.LittleEndian
	if le.Uint32(b[124:]) != crc32.Checksum(b[:124], castagnoli()) {
		return false
	}
	e.Volume, e.Inode, e.Size = le.Uint64(b), le.Uint64(b[8:]), int64(le.Uint64(b[16:]))
	e.Mtime, e.Ctime = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	e.known, e.day = known(le.Uint32(b[40:])), le.Uint32(b[44:])
	copy(e.ends[:], b[48:])
	copy(e.full[:], b[64:])
	copy(e.image[:], b[96:])
	e.look, e.wide, e.high = le.Uint64(b[112:]), le.Uint16(b[120:]), le.Uint16(b[122:])
	return true
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func byFile(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Inode, b.Inode))
}

// join takes what two entries know of the same state of a file.
func (e *entry) join(o *entry) {
	if e.Facts != o.Facts {
		return
	}
	if e.known&knowsEnds == 0 {
		e.ends = o.ends
	}
	if e.known&knowsFull == 0 {
		e.full = o.full
	}
	if e.known&knowsImage == 0 {
		e.image = o.image
	}
	if e.known&knowsLook == 0 {
		e.look, e.wide, e.high = o.look, o.wide, o.high
	}
	e.known |= o.known
	e.day = max(e.day, o.day)
}

// entries reads a file of them in order. Unsound ones are passed over.
type entries struct {
	f   io.Closer // nil: there is none
	r   *bufio.Reader
	now entry
	ok  bool
}

func (w Work) entries(name string) (*entries, error) {
	f, err := w.FS.OpenFile(w.path(name), vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &entries{}, nil
	}
	if err != nil {
		return nil, err
	}
	c := readEntries(f)
	c.f = f
	return c, nil
}

func readEntries(r io.Reader) *entries {
	c := &entries{r: bufio.NewReaderSize(r, 64<<10)}
	head := make([]byte, len(cacheHead))
	if _, err := io.ReadFull(c.r, head); err != nil || string(head) != cacheHead {
		c.r = nil // not ours, or of another version: it is written anew
		return c
	}
	return c
}

// next goes to the next sound entry; ok is false at the end.
func (c *entries) next() {
	c.ok = false
	if c.r == nil {
		return
	}
	var b [entrySize]byte
	for {
		// A cache that cannot be read any further is one that ends here.
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return
		}
		if c.now.get(b[:]) {
			c.ok = true
			return
		}
	}
}

func (c *entries) close() {
	if c.f != nil {
		c.f.Close() // only read
	}
}

// seek goes on to the first entry that is not before f.
func (c *entries) seek(f Facts) bool {
	want := entry{Facts: f}
	if !c.ok {
		return false
	}
	for c.ok && byFile(&c.now, &want) < 0 {
		c.next()
	}
	return c.ok && c.now.Facts == f
}

// cacheLog appends what was read.
type cacheLog struct {
	mu  sync.Mutex
	f   vfs.File // nil: nothing yet
	w   Work
	at  int64
	buf []byte
}

func (l *cacheLog) add(e *entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		f, err := l.w.FS.OpenFile(l.w.path(cacheLogName), vfs.Replace, 0o600)
		if err != nil {
			return err
		}
		l.f, l.buf = f, append(make([]byte, 0, 64<<10), cacheHead...)
	}
	l.buf = append(l.buf, make([]byte, entrySize)...)
	e.put(l.buf[len(l.buf)-entrySize:])
	if len(l.buf) < 60<<10 {
		return nil
	}
	return l.flush()
}

func (l *cacheLog) flush() error {
	if l.f == nil || len(l.buf) == 0 {
		return nil
	}
	n, err := l.f.WriteAt(l.buf, l.at)
	l.at += int64(n)
	l.buf = l.buf[:0]
	return err
}

// close ends the log, which stays until it was merged.
func (l *cacheLog) close() error {
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.flush(), l.f.Close())
	l.f = nil
	return err
}

// settle merges the log, if there is one, into the cache. Nothing here needs to
// survive a cut; what is found after one is sound or ignored.
func (w Work) settle(today uint32) error {
	if _, err := w.FS.Stat(w.path(cacheLogName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	log, err := w.entries(cacheLogName)
	if err != nil {
		return err
	}
	defer log.close()
	// The log of a scan of millions is merged in parts.
	fresh := make([]entry, 0, mergeLength)
	for {
		fresh = fresh[:0]
		for log.next(); log.ok; log.next() {
			if fresh = append(fresh, log.now); len(fresh) == mergeLength {
				break
			}
		}
		if len(fresh) == 0 {
			break
		}
		slices.SortStableFunc(fresh, func(a, b entry) int { return byFile(&a, &b) })
		if err := w.mergeCache(fresh, today); err != nil {
			return err
		}
	}
	return w.FS.Remove(w.path(cacheLogName))
}

// mergeCache writes the cache anew, with fresh, which is sorted, in it.
func (w Work) mergeCache(fresh []entry, today uint32) (err error) {
	old, err := w.entries(cacheName)
	if err != nil {
		return err
	}
	defer old.close()
	staged := w.path(cacheName + ".new")
	f, err := w.FS.OpenFile(staged, vfs.Replace, 0o600)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 64<<10)
	out.WriteString(cacheHead)
	var b [entrySize]byte
	put := func(e *entry) {
		if e.day+keepDays < today {
			return
		}
		e.put(b[:])
		out.Write(b[:]) // Flush tells
	}
	old.next()
	for i := 0; i < len(fresh); i++ {
		e := &fresh[i]
		for i+1 < len(fresh) && byFile(e, &fresh[i+1]) == 0 {
			i++
			fresh[i].join(e)
			e = &fresh[i]
		}
		for old.ok && byFile(&old.now, e) < 0 {
			put(&old.now)
			old.next()
		}
		for old.ok && byFile(&old.now, e) == 0 {
			e.join(&old.now)
			old.next()
		}
		put(e)
	}
	for ; old.ok; old.next() {
		put(&old.now)
	}
	if err := errors.Join(out.Flush(), f.Close()); err != nil {
		return fmt.Errorf("cache: %w", errors.Join(err, w.FS.Remove(staged)))
	}
	return w.FS.Rename(staged, w.path(cacheName))
}

// Forget removes what is remembered of files that were read, and plans that were
// not begun. What is needed to undo a plan stays.
func (w Work) Forget() error {
	var errs []error
	for _, name := range []string{cacheName, cacheLogName, cacheName + ".new"} {
		if err := w.FS.Remove(w.path(name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, w.dropPlans()...)...)
}
