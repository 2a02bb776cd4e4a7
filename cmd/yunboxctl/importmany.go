package main

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"yunbox.local/daemon/problem"
)

// importBatch is how many files of an archive are looked at together.
const importBatch = 1000

// sendBatch sends some files: those that are small and that the person has not got on the
// box many to a request, the others by themselves. The error ends the import.
//
// What the box has already, or has deleted, needs no bytes and a question of its own. Nothing
// leaves that is not consented to: the first file of each source asks before its bytes do.
func (m *importer) sendBatch(ctx context.Context, batch []importFile) error {
	var small, rest []importFile
	if !m.apart.Load() {
		here, err := m.here(ctx, batch)
		if err != nil {
			return err
		}
		for _, f := range batch {
			switch source := f.source(); {
			case f.Size > manyUpTo || here[f.SHA256]:
				rest = append(rest, f)
			case m.taken(source):
				small = append(small, f)
				here[f.SHA256] = true // another one with this content needs no bytes
			default:
				if err := m.one(ctx, f); err != nil {
					return err
				}
			}
		}
	} else {
		rest = batch
	}
	for len(small) >= manyFrom && !m.apart.Load() {
		before := len(small)
		var err error
		if small, err = m.sendMany(ctx, small); err != nil {
			return err
		}
		if len(small) == before {
			break // it is not to be had this way: the other one waits and tries on
		}
	}
	return m.sendAlone(ctx, append(rest, small...))
}

// taken reports whether the box has taken a file of that source.
func (m *importer) taken(source string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, unwanted := m.unwanted[source]
	return m.welcome[source] && !unwanted
}

// here asks which contents the person has on the box, or deleted from it and does not
// want back.
func (m *importer) here(ctx context.Context, batch []importFile) (map[string]bool, error) {
	in := struct {
		SHA256 []string `json:"sha256"`
	}{SHA256: []string{}}
	for _, f := range batch {
		if f.Size <= manyUpTo {
			in.SHA256 = append(in.SHA256, f.SHA256)
		}
	}
	if len(in.SHA256) == 0 {
		return map[string]bool{}, nil
	}
	slices.Sort(in.SHA256)
	in.SHA256 = slices.Compact(in.SHA256)
	var out struct {
		Known    []string
		Declined []struct{ SHA256 string }
	}
	for wait := newBackoff(); ; {
		err := m.c.call(ctx, "POST", "/v1/blobs/known", in, &out)
		if err == nil {
			m.alive.beat()
			break
		}
		if problem.KindOf(err) == problem.ConsentRequired { // to the policy: each file will hear it
			return map[string]bool{}, nil
		}
		if err := m.alive.again(ctx, wait, err); err != nil {
			return nil, err
		}
	}
	here := make(map[string]bool, len(out.Known))
	for _, sum := range out.Known {
		here[sum] = true
	}
	if !m.again {
		for _, d := range out.Declined {
			here[d.SHA256] = true
		}
	}
	return here, nil
}

// sendMany sends some files in rows, and returns those that were not dealt with.
func (m *importer) sendMany(ctx context.Context, files []importFile) (left []importFile, err error) {
	return sendRows(ctx, m.c, "", min(manyStreams, m.jobs), files, func(next *atomic.Int64) (cargo, func(*row) []importFile) {
		l := &importLoad{m: m, files: files, next: next}
		return l, l.unsettled
	})
}

// importLoad is the cargo of one row: it takes the next file that no other row has taken.
type importLoad struct {
	m     *importer
	files []importFile
	next  *atomic.Int64

	mu    sync.Mutex
	begun []importFile // by their place in the request
}

// open implements cargo. Files of a source that the box refused meanwhile are left out.
func (l *importLoad) open() (fileAhead, io.Reader, bool) {
	for {
		n := l.next.Add(1) - 1
		if n >= int64(len(l.files)) {
			return fileAhead{}, nil, false
		}
		f := l.files[n]
		if l.m.leftOut(f) {
			continue
		}
		l.mu.Lock()
		l.begun = append(l.begun, f)
		l.mu.Unlock()
		return fileAhead{
			Path: l.m.target(f.Path), Size: f.Size, SHA256: f.SHA256, Source: f.source(), MTime: f.MTime, Again: l.m.again, Absent: true,
		}, io.NewSectionReader(l.m.file, f.from, f.Size), true
	}
}

// unsettled are the files of the row that the box said nothing final of.
func (l *importLoad) unsettled(r *row) (left []importFile) {
	r.unsettled(func(n int) { left = append(left, l.begun[n]) })
	return left
}

// moved implements cargo.
func (l *importLoad) moved(n int64) { l.m.bar.step(0, n, 0) }

// shut implements cargo: all files are one.
func (l *importLoad) shut() {}

// alone implements cargo.
func (l *importLoad) alone() { l.m.apart.Store(true) }

// heard implements cargo.
func (l *importLoad) heard(ctx context.Context, n int, said rowLine, err error) (settled bool, _ error) {
	l.mu.Lock()
	f := l.begun[n]
	l.mu.Unlock()
	if err == nil && said.SHA256 != f.SHA256 || err != nil && (mayDoAlone(err) || problem.KindOf(err) == problem.PreconditionFailed) {
		return false, nil // once more, by itself: that also finds out what has the name
	}
	if err == nil {
		l.m.alive.beat()
	}
	return true, l.m.settle(ctx, f, said.Stored == "new", err)
}
