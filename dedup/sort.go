package dedup

import (
	"container/heap"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"yunbox.local/storage/vfs"
)

// scratch makes files for one scan. They have no name for longer than it takes to
// open them.
type scratch struct {
	work Work
	n    atomic.Int64

	// What one sorter needed the next one uses again.
	mu     sync.Mutex
	runs   [][]record
	sorted []keyed
	buf    []byte
}

func (s *scratch) file() (vfs.File, error) {
	name := s.work.path(fmt.Sprint("scratch-", s.n.Add(1)))
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
	order
	scratch *scratch
	length  int // of a run

	run  []record
	file vfs.File
	runs []int64 // where each ends in the file, in records
	err  error
	n    int64
}

func newSorter(s *scratch, o order) *sorter {
	return &sorter{order: o, scratch: s, length: runLength}
}

// add takes a record. An error is kept and told by each.
func (s *sorter) add(r *record) {
	if s.err != nil {
		return
	}
	if s.run == nil {
		s.run = s.scratch.room()
	}
	s.n++
	if s.run = append(s.run, *r); len(s.run) >= s.length {
		s.err = s.spill()
	}
}

// room is for a run, nil if there is none to be used again.
func (s *scratch) room() []record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) == 0 {
		return nil
	}
	run := s.runs[len(s.runs)-1]
	s.runs = s.runs[:len(s.runs)-1]
	return run
}

func (s *sorter) spill() (err error) {
	s.scratch.mu.Lock()
	defer s.scratch.mu.Unlock()
	sorted := s.sort()
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
	if s.scratch.buf == nil {
		s.scratch.buf = make([]byte, batch*recordSize)
	}
	for part := range slices.Chunk(sorted, batch) {
		b := s.scratch.buf[:len(part)*recordSize]
		for i, k := range part {
			s.run[k.at].put(b[i*recordSize:])
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

// keyed stands for a record of a run, which is too large to be moved about.
type keyed struct {
	first, second uint64
	at            int32
}

// sorted returns the order of the run, to be kept while others are sorted.
func (s *sorter) sorted() []keyed {
	s.scratch.mu.Lock()
	defer s.scratch.mu.Unlock()
	return slices.Clone(s.sort())
}

// sort returns the order of the run. The caller holds the scratch's lock for as long
// as it uses that.
func (s *sorter) sort() []keyed {
	list := slices.Grow(s.scratch.sorted[:0], len(s.run))[:len(s.run)]
	s.scratch.sorted = list
	for i := range list {
		first, second := s.key(&s.run[i])
		list[i] = keyed{first, second, int32(i)}
	}
	slices.SortFunc(list, func(a, b keyed) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		case a.second < b.second:
			return -1
		case a.second > b.second:
			return 1
		}
		return s.cmp(&s.run[a.at], &s.run[b.at])
	})
	return list
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
			for _, k := range s.sorted() {
				if !yield(&s.run[k.at], nil) {
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
		s.free()
		m := merge{order: s.order}
		var from int64
		for _, to := range s.runs {
			c := &cursor{file: s.file, at: from, end: to, order: s.order}
			from = to
			if ok, err := c.next(); err != nil {
				yield(nil, err)
				return
			} else if ok {
				m.list = append(m.list, c)
			}
		}
		heap.Init(&m)
		var r record
		for len(m.list) > 0 {
			c := m.list[0]
			r = c.now
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

// free lets the next sorter have the room of the run.
func (s *sorter) free() {
	if cap(s.run) > 0 {
		s.scratch.mu.Lock()
		s.scratch.runs = append(s.scratch.runs, s.run[:0])
		s.scratch.mu.Unlock()
	}
	s.run = nil
}

func (s *sorter) drop() {
	s.free()
	s.runs = nil
	if s.file != nil {
		s.file.Close() // nothing in it is needed any more
		s.file = nil
	}
}

// cursor reads one run.
type cursor struct {
	order
	file    vfs.File
	at, end int64
	all     []byte
	buf     []byte // what is left of all
	now     record

	first, second uint64 // its key
}

func (c *cursor) next() (bool, error) {
	if len(c.buf) == 0 {
		n := min(c.end-c.at, 128)
		if n == 0 {
			return false, nil
		}
		if c.all == nil {
			c.all = make([]byte, n*recordSize)
		}
		c.buf = c.all[:n*recordSize]
		if _, err := c.file.ReadAt(c.buf, c.at*recordSize); err != nil {
			return false, err
		}
		c.at += n
	}
	c.now.get(c.buf)
	c.first, c.second = c.key(&c.now)
	c.buf = c.buf[recordSize:]
	return true, nil
}

type merge struct {
	order
	list []*cursor
}

func (m *merge) Len() int { return len(m.list) }
func (m *merge) Less(i, j int) bool {
	a, b := m.list[i], m.list[j]
	switch {
	case a.first != b.first:
		return a.first < b.first
	case a.second != b.second:
		return a.second < b.second
	}
	return m.cmp(&a.now, &b.now) < 0
}
func (m *merge) Swap(i, j int) { m.list[i], m.list[j] = m.list[j], m.list[i] }
func (m *merge) Push(x any)    { m.list = append(m.list, x.(*cursor)) }
func (m *merge) Pop() any {
	last := m.list[len(m.list)-1]
	m.list = m.list[:len(m.list)-1]
	return last
}
