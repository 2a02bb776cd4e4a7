package blockdev

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
)

// Model says what became of the writes since the last flush before the cut.
type Model string

// The models: all of these writes were lost; all arrived; a random half of them
// arrived; the same, and a write may have arrived in part.
const (
	Drop Model = "drop"
	Keep Model = "keep"
	Rand Model = "rand"
	Torn Model = "torn"
)

// Models lists every model, the harshest for a server that does not sync first.
func Models() []Model { return []Model{Drop, Torn, Rand, Keep} }

// sector is what a disk writes whole or not at all; 512 is less than XFS itself
// promises to survive.
const sector = 4096

// record is one block write, or one flush (length 0).
type record struct {
	disk   int64 // where on the disk
	log    int64 // where its bytes are in the log
	length int
}

// Recording is everything that a disk was told after a moment, in order. Writing
// and reading positions is safe from several goroutines; [Recording.Cut] must be
// called by one, after the recording was stopped.
type Recording struct {
	log  *os.File
	base string

	mu      sync.Mutex
	records []record
	end     int64

	applied int // records that base already holds
}

// Pos is the number of records so far. What was durable when Pos was read is in
// the records before it.
func (r *Recording) Pos() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

// Totals counts block writes, flushes and written bytes.
func (r *Recording) Totals() (writes, flushes int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.records {
		if rec.length == 0 {
			flushes++
		}
	}
	return len(r.records) - flushes, flushes, r.end
}

// Unflushed counts the writes before a position that no flush before it made durable.
func (r *Recording) Unflushed(at int) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at--; at >= 0 && r.records[at].length > 0; at-- {
		n++
	}
	return n
}

// Close lets go of the log.
func (r *Recording) Close() error { return r.log.Close() }

func (r *Recording) addWrite(p []byte, off int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.log.WriteAt(p, r.end); err != nil {
		return err
	}
	r.records = append(r.records, record{disk: off, log: r.end, length: len(p)})
	r.end += int64(len(p))
	return nil
}

func (r *Recording) addFlush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record{})
}

// Cut writes to image what the disk may hold if its power is cut after the first
// at records: all up to the last flush, and of the later writes what model and
// rng leave. Positions must not decrease from call to call. It returns how many
// writes were not yet flushed, and how many of those survived.
func (r *Recording) Cut(image string, at int, model Model, rng *rand.Rand) (unflushed, kept int, err error) {
	if at < r.applied || at > len(r.records) {
		return 0, 0, fmt.Errorf("cut at %d lies outside %d–%d", at, r.applied, len(r.records))
	}
	flushed := r.applied
	for i := r.applied; i < at; i++ {
		if r.records[i].length == 0 {
			flushed = i + 1
		}
	}
	base, err := os.OpenFile(r.base, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = base.Close() }() // a cache of records; what matters is checked on write
	for ; r.applied < flushed; r.applied++ {
		if err := r.apply(base, r.records[r.applied], 0, r.records[r.applied].length); err != nil {
			return 0, 0, err
		}
	}
	if err := copySparse(r.base, image); err != nil {
		return 0, 0, err
	}
	out, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	for _, rec := range r.records[flushed:at] {
		unflushed++
		lo, hi := survivors(model, rec.length, rng)
		if lo == hi {
			continue
		}
		kept++
		if err := r.apply(out, rec, lo, hi); err != nil {
			return 0, 0, err
		}
	}
	return unflushed, kept, out.Close()
}

// survivors says which part of an unflushed write of n bytes reached the platter.
func survivors(model Model, n int, rng *rand.Rand) (lo, hi int) {
	switch model {
	case Keep:
		return 0, n
	case Rand:
		return 0, n * rng.IntN(2)
	case Torn:
		sectors := n / sector
		switch choice := rng.IntN(3); {
		case choice == 0:
			return 0, 0
		case choice == 1 && sectors > 1:
			edge := sector * (1 + rng.IntN(sectors-1))
			if rng.IntN(2) == 0 {
				return 0, edge
			}
			return edge, n
		}
		return 0, n
	}
	return 0, 0
}

func (r *Recording) apply(to *os.File, rec record, lo, hi int) error {
	buf := make([]byte, hi-lo)
	if _, err := r.log.ReadAt(buf, rec.log+int64(lo)); err != nil {
		return err
	}
	_, err := to.WriteAt(buf, rec.disk+int64(lo))
	return err
}

// copySparse copies a disk image without its holes; cp finds them by SEEK_DATA.
func copySparse(from, to string) error {
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp %s: %w: %s", from, err, out)
	}
	return nil
}
