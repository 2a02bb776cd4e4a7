package dedup

import (
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"sync"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// A record is one name of one file, in few bytes: a million of them must fit
// beside everything else that a small box does.
type record struct {
	Facts
	name  int64 // in names
	alloc int64 // bytes on the disk
	links uint32
	known known
	ends  [16]byte    // of the first and last bytes
	full  storage.Ref // of all bytes
}

type known uint32

const (
	knowsEnds known = 1 << iota
	knowsFull
)

const recordSize = 5*8 + 2*8 + 2*4 + 16 + 32

func (r *record) put(b []byte) {
	le := binary.LittleEndian
	for i, v := range []uint64{r.Volume, r.Inode, uint64(r.Size), uint64(r.Mtime), uint64(r.Ctime), uint64(r.name), uint64(r.alloc)} {
		le.PutUint64(b[8*i:], v)
	}
	le.PutUint32(b[56:], r.links)
	le.PutUint32(b[60:], uint32(r.known))
	copy(b[64:], r.ends[:])
	copy(b[80:], r.full[:])
}

func (r *record) get(b []byte) {
	le := binary.LittleEndian
	r.Volume, r.Inode, r.Size = le.Uint64(b), le.Uint64(b[8:]), int64(le.Uint64(b[16:]))
	r.Mtime, r.Ctime = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	r.name, r.alloc = int64(le.Uint64(b[40:])), int64(le.Uint64(b[48:]))
	r.links, r.known = le.Uint32(b[56:]), known(le.Uint32(b[60:]))
	copy(r.ends[:], b[64:])
	copy(r.full[:], b[80:])
}

// The orders in which records are needed.

// bySize: large ones first, then links of one file together.
func bySize(a, b *record) int { return cmp.Or(cmp.Compare(b.Size, a.Size), byInode(a, b)) }

// byInode is also about the order on the disk.
func byInode(a, b *record) int {
	return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.name, b.name))
}

func byEnds(a, b *record) int {
	return cmp.Or(cmp.Compare(b.Size, a.Size), bytes.Compare(a.ends[:], b.ends[:]), byInode(a, b))
}

func byContent(a, b *record) int {
	return cmp.Or(cmp.Compare(b.Size, a.Size), bytes.Compare(a.full[:], b.full[:]), byInode(a, b))
}

// scratch makes files for one scan. They have no name for longer than it takes to
// open them.
type scratch struct {
	work Work
	n    int
}

func (s *scratch) file() (vfs.File, error) {
	s.n++
	name := s.work.path(fmt.Sprint("scratch-", s.n))
	f, err := s.work.FS.OpenFile(name, vfs.Replace, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.work.FS.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// runLength is how many records are sorted in memory: about 1 MiB.
const runLength = 8 << 10

// A sorter takes records in any order and gives them back in its own. Beyond a
// run's length they wait in a file.
type sorter struct {
	order   func(a, b *record) int
	scratch *scratch
	length  int // of a run

	run  []record
	file vfs.File
	runs []int64 // where each ends in the file, in records
	err  error
	n    int64
}

func newSorter(s *scratch, order func(a, b *record) int) *sorter {
	return &sorter{order: order, scratch: s, length: runLength}
}

// add takes a record. An error is kept and told by each.
func (s *sorter) add(r record) {
	if s.err != nil {
		return
	}
	s.n++
	if s.run = append(s.run, r); len(s.run) >= s.length {
		s.err = s.spill()
	}
}

func (s *sorter) spill() (err error) {
	order := s.sort()
	if s.file == nil {
		if s.file, err = s.scratch.file(); err != nil {
			return err
		}
	}
	var at int64
	if len(s.runs) > 0 {
		at = s.runs[len(s.runs)-1]
	}
	const batch = 1024
	b := make([]byte, 0, batch*recordSize)
	for part := range slices.Chunk(order, batch) {
		b = b[:len(part)*recordSize]
		for i, n := range part {
			s.run[n].put(b[i*recordSize:])
		}
		if _, err := s.file.WriteAt(b, at*recordSize); err != nil {
			return err
		}
		at += int64(len(part))
	}
	s.runs = append(s.runs, at)
	s.run = s.run[:0]
	return nil
}

// sort returns the order of the run, whose records are too large to be moved about.
func (s *sorter) sort() []int32 {
	order := make([]int32, len(s.run))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return s.order(&s.run[a], &s.run[b]) })
	return order
}

// each gives all records in order and then lets go of them. The record is valid
// until the next one.
func (s *sorter) each() iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		defer s.drop()
		if s.err != nil {
			yield(nil, s.err)
			return
		}
		if len(s.runs) == 0 {
			for _, i := range s.sort() {
				if !yield(&s.run[i], nil) {
					return
				}
			}
			return
		}
		if len(s.run) > 0 {
			if err := s.spill(); err != nil {
				yield(nil, err)
				return
			}
		}
		s.run = nil
		m := merge{order: s.order}
		var from int64
		for _, to := range s.runs {
			c := &cursor{file: s.file, at: from, end: to}
			from = to
			if ok, err := c.next(); err != nil {
				yield(nil, err)
				return
			} else if ok {
				m.list = append(m.list, c)
			}
		}
		heap.Init(&m)
		for len(m.list) > 0 {
			c := m.list[0]
			r := c.now
			if !yield(&r, nil) {
				return
			}
			ok, err := c.next()
			switch {
			case err != nil:
				yield(nil, err)
				return
			case ok:
				heap.Fix(&m, 0)
			default:
				heap.Pop(&m)
			}
		}
	}
}

func (s *sorter) drop() {
	s.run, s.runs = nil, nil
	if s.file != nil {
		s.file.Close() // nothing in it is needed any more
		s.file = nil
	}
}

// cursor reads one run.
type cursor struct {
	file    vfs.File
	at, end int64
	buf     []byte
	now     record
}

func (c *cursor) next() (bool, error) {
	if len(c.buf) == 0 {
		n := min(c.end-c.at, 128)
		if n == 0 {
			return false, nil
		}
		c.buf = slices.Grow(c.buf[:0], int(n)*recordSize)[:int(n)*recordSize]
		if _, err := c.file.ReadAt(c.buf, c.at*recordSize); err != nil {
			return false, err
		}
		c.at += n
	}
	c.now.get(c.buf)
	c.buf = c.buf[recordSize:]
	return true, nil
}

type merge struct {
	order func(a, b *record) int
	list  []*cursor
}

func (m *merge) Len() int           { return len(m.list) }
func (m *merge) Less(i, j int) bool { return m.order(&m.list[i].now, &m.list[j].now) < 0 }
func (m *merge) Swap(i, j int)      { m.list[i], m.list[j] = m.list[j], m.list[i] }
func (m *merge) Push(x any)         { m.list = append(m.list, x.(*cursor)) }
func (m *merge) Pop() any {
	last := m.list[len(m.list)-1]
	m.list = m.list[:len(m.list)-1]
	return last
}

// names keeps paths as pairs of folder and name, in a file once they are many. One
// goroutine adds or many read.
type names struct {
	scratch *scratch
	file    vfs.File
	flushed int64
	tail    []byte // what is not in the file yet
	limit   int    // how long that may get; 0: namesTail

	mu      sync.Mutex
	folders map[int64]string // paths of folders that were asked for lately
}

// someFolders is how many of those are kept.
const someFolders = 256

const (
	namesTail = 4 << 20
	noFolder  = -1 // the root
)

// add returns the number by which path finds the name again.
func (n *names) add(folder int64, name []byte) (int64, error) {
	if len(name) > math.MaxUint16 {
		return 0, fmt.Errorf("a name of %d bytes", len(name))
	}
	at := n.flushed + int64(len(n.tail))
	n.tail = binary.LittleEndian.AppendUint64(n.tail, uint64(folder))
	n.tail = binary.LittleEndian.AppendUint16(n.tail, uint16(len(name)))
	n.tail = append(n.tail, name...)
	if limit := cmp.Or(n.limit, namesTail); len(n.tail) < limit {
		return at, nil
	}
	if n.file == nil {
		f, err := n.scratch.file()
		if err != nil {
			return 0, err
		}
		n.file = f
	}
	if _, err := n.file.WriteAt(n.tail, n.flushed); err != nil {
		return 0, err
	}
	n.flushed += int64(len(n.tail))
	n.tail = n.tail[:0]
	return at, nil
}

func (n *names) entry(at int64) (folder int64, name string, err error) {
	var b [10 + 256]byte
	got := 0
	if at >= n.flushed {
		got = copy(b[:], n.tail[at-n.flushed:])
	} else if got, err = n.file.ReadAt(b[:], at); err != nil && !errors.Is(err, io.EOF) {
		return 0, "", err
	} else if over := at + int64(got) - n.flushed; over > 0 {
		got -= int(over)
	}
	if got < 10 {
		return 0, "", io.ErrUnexpectedEOF
	}
	length := int(binary.LittleEndian.Uint16(b[8:]))
	if got < 10+length {
		return 0, "", io.ErrUnexpectedEOF // names are 255 bytes at most
	}
	return int64(binary.LittleEndian.Uint64(b[:])), string(b[10 : 10+length]), nil
}

// path is the whole path of a name below the root.
func (n *names) path(at int64) (string, error) {
	folder, name, err := n.entry(at)
	if err != nil {
		return "", fmt.Errorf("names: %w", err)
	}
	if folder == noFolder {
		return name, nil
	}
	n.mu.Lock()
	above, ok := n.folders[folder]
	n.mu.Unlock()
	if !ok {
		if above, err = n.path(folder); err != nil {
			return "", err
		}
		n.mu.Lock()
		if n.folders == nil || len(n.folders) >= someFolders {
			n.folders = make(map[int64]string, someFolders)
		}
		n.folders[folder] = above
		n.mu.Unlock()
	}
	return above + "/" + name, nil
}

func (n *names) close() {
	if n.file != nil {
		n.file.Close() // nothing in it is needed any more
	}
}
