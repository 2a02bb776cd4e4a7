package storage

import (
	"errors"
	"io"
	"iter"
	"slices"
)

// place is where a record of a segment lies.
type place struct {
	pos, size int64
	ref       Ref
}

// records goes through the records of a segment from one on. A block that cannot be
// read is an error in its turn; what follows it is looked for, since nothing else in a
// segment can look like a record of its epoch.
func (g *segment) records(from int64) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		head := make([]byte, recordHeader)
		gap := false
		for pos := from; pos < g.high; {
			_, err := g.readAt(head, pos)
			if errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				if !yield(place{pos: pos}, err) {
					return
				}
				gap = true
				pos += intentBlock
				continue
			}
			ref, size, ok := parseIntentRecord(head, g.epoch, pos)
			switch {
			case ok && !yield(place{pos, size, ref}, nil):
				return
			case ok:
				pos += recordRoom(size)
			case gap:
				pos += intentBlock
			default:
				return
			}
		}
	}
}

// readAt fills b. What cannot be read is tried once more; io.EOF when the file ends before.
func (g *segment) readAt(b []byte, pos int64) (int, error) {
	n, err := g.file.ReadAt(b, pos)
	if n < len(b) && err != nil && !errors.Is(err, io.EOF) {
		n, err = g.file.ReadAt(b, pos)
	}
	if n == len(b) {
		return n, nil
	} else if err == nil {
		err = io.EOF
	}
	return n, err
}

// strike takes contents that are to be removed out of records that could not be put
// back, or made void, when the store was opened: else the next start brings them back.
// A block that still cannot be read is left. l.mu is held.
func (l *intentLog) strike(refs []Ref) error {
	for _, g := range l.segs {
		if g.file == nil {
			if err := l.openSegment(g); err != nil {
				return err
			}
		}
		if g.epoch == 0 { // as far as can be seen
			if err := l.void(g); err != nil {
				return err
			}
			continue
		}
		struck := false
		for r, err := range g.records(intentBlock) {
			if err != nil || !slices.Contains(refs, r.ref) {
				continue
			}
			// No content has the SHA-256 of zeros.
			b := make([]byte, recordRoom(r.size))
			copy(b, intentRecord(g.epoch, r.pos, Ref{}, r.size))
			if _, err := g.file.WriteAt(b, r.pos); err != nil {
				return err
			}
			struck = true
		}
		if !struck {
			continue
		}
		if err := g.file.Datasync(); err != nil {
			return l.s.syncFailed("the intent log", err)
		}
	}
	return nil
}

// A watch waits for contents to be logged while they are being removed.
type watch struct {
	refs   []Ref
	logged bool
}

// watchFor begins a watch; logged ends it and says whether one of them was logged.
func (l *intentLog) watchFor(refs []Ref) (logged func() bool) {
	w := &watch{refs: refs}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = append(l.watch, w)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watch = slices.DeleteFunc(l.watch, func(x *watch) bool { return x == w })
		return w.logged
	}
}

// tell tells those who watch what was logged. l.mu is held.
func (l *intentLog) tell(batch []*Upload) {
	for _, w := range l.watch {
		for _, u := range batch {
			w.logged = w.logged || slices.Contains(w.refs, u.sum)
		}
	}
}
