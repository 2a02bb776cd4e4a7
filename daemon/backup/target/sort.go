package target

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// A Sorter brings any number of records into the order of their names within a
// bounded memory: what does not fit goes through a scratch file. Names on a target
// must not be in the order of the contents' hashes, or their order would tell
// those.
type Sorter struct {
	dir   string // of the scratch file
	buf   []Record
	seq   uint64
	file  *os.File
	runs  []int64 // where each run in file ends
	limit int     // records held at once
}

// Record is what is sorted: a name and what belongs to it, a ref or a sum.
type Record struct {
	Name  Name
	Value [32]byte
	Size  int64
	seq   uint64 // in the order of Add
}

const (
	recordSize = 32 + 32 + 8 + 8
	heldAtOnce = 32 << 10 // records, 2.5 MiB
	runBuffer  = 4 << 10  // bytes for each run while they are merged
)

// NewSorter returns an empty sorter that may use a scratch file in dir. Close it.
func NewSorter(dir string) *Sorter { return &Sorter{dir: dir, limit: heldAtOnce} }

// Add adds a record.
func (s *Sorter) Add(r Record) error {
	s.seq++
	r.seq = s.seq
	s.buf = append(s.buf, r)
	if len(s.buf) >= s.limit {
		return s.spill()
	}
	return nil
}

func (r Record) compare(o Record) int {
	if c := bytes.Compare(r.Name[:], o.Name[:]); c != 0 {
		return c
	}
	if r.seq < o.seq {
		return -1
	}
	return 1
}

// spill writes what is held to the scratch file as one sorted run.
func (s *Sorter) spill() error {
	slices.SortFunc(s.buf, Record.compare)
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "sort-*")
		if err != nil {
			return fmt.Errorf("sort: %w", err)
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil { // it ends with the process, however that ends
			return fmt.Errorf("sort: %w", err)
		}
	}
	w := bufio.NewWriterSize(s.file, 64<<10)
	var b [recordSize]byte
	for _, r := range s.buf {
		copy(b[:32], r.Name[:])
		copy(b[32:64], r.Value[:])
		binary.LittleEndian.PutUint64(b[64:], uint64(r.Size))
		binary.LittleEndian.PutUint64(b[72:], r.seq)
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("sort: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	end := int64(len(s.buf)) * recordSize
	if n := len(s.runs); n > 0 {
		end += s.runs[n-1]
	}
	s.runs, s.buf = append(s.runs, end), s.buf[:0]
	return nil
}

// All yields one record for each name, the one that was added last, in the order
// of the names. It may be called again, and more may be added once it has ended.
func (s *Sorter) All() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var held Record
		any := false
		for r, err := range s.merged() {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if any && held.Name != r.Name && !yield(held, nil) {
				return
			}
			held, any = r, true
		}
		if any {
			yield(held, nil)
		}
	}
}

func (s *Sorter) merged() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		slices.SortFunc(s.buf, Record.compare)
		h := runHeap{}
		if len(s.buf) > 0 {
			h = append(h, &run{held: s.buf[1:], first: s.buf[0]})
		}
		start := int64(0)
		for _, end := range s.runs {
			r := &run{file: bufio.NewReaderSize(io.NewSectionReader(s.file, start, end-start), runBuffer)}
			start = end
			if _, err := r.next(); err != nil {
				yield(Record{}, err)
				return
			}
			h = append(h, r)
		}
		heap.Init(&h)
		for len(h) > 0 {
			if !yield(h[0].first, nil) {
				return
			}
			more, err := h[0].next()
			switch {
			case err != nil:
				yield(Record{}, err)
				return
			case more:
				heap.Fix(&h, 0)
			default:
				heap.Pop(&h)
			}
		}
	}
}

// Close removes the scratch file.
func (s *Sorter) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// run is a sorted run that is being merged.
type run struct {
	first Record
	held  []Record
	file  *bufio.Reader // nil: all is held
}

func (r *run) next() (more bool, err error) {
	if r.file == nil {
		if len(r.held) == 0 {
			return false, nil
		}
		r.first, r.held = r.held[0], r.held[1:]
		return true, nil
	}
	var b [recordSize]byte
	if _, err := io.ReadFull(r.file, b[:]); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("sort: %w", err)
	}
	r.first = Record{Size: int64(binary.LittleEndian.Uint64(b[64:])), seq: binary.LittleEndian.Uint64(b[72:])}
	copy(r.first.Name[:], b[:32])
	copy(r.first.Value[:], b[32:64])
	return true, nil
}

// runHeap has the run with the least record on top.
type runHeap []*run

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return h[i].first.compare(h[j].first) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
