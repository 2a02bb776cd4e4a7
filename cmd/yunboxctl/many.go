package main

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"yunbox.local/daemon/problem"
)

const (
	// manyUpTo is the size up to which a file goes in a request with others. Above,
	// a request of its own costs little beside its bytes.
	manyUpTo = 1 << 20
	// manyStreams is how many such requests run at a time: more only wait for each
	// other (measured, docs/bench.md).
	manyStreams = 2
	// manyFrom is the number of files from which it is worth it.
	manyFrom = 4

	manyType = "application/vnd.yunbox.files"
)

// sendSmall sends those of jobs that are small and new many to a request, and returns
// the others and those that the box did not acknowledge: each of these is sent by
// itself, where there is a second try. The error ends the backup.
func (p *pusher) sendSmall(ctx context.Context, jobs []job) (rest []job, err error) {
	if p.opt.dry || p.single.Load() {
		return jobs, nil
	}
	var small []job
	for _, j := range jobs {
		if j.nameOnly || j.e.id.size > manyUpTo {
			rest = append(rest, j)
		} else {
			small = append(small, j)
		}
	}
	if len(small) > manyFrom && !p.welcome.Load() {
		// Nothing leaves that is not consented to: the first file asks before its bytes do.
		if err := p.sendAll(ctx, small[:1]); err != nil {
			return nil, err
		}
		small = small[1:]
	}
	for len(small) >= manyFrom && p.welcome.Load() && !p.cautious.Load() && !p.single.Load() {
		before := len(small)
		if small, err = p.sendMany(ctx, small); err != nil {
			return nil, err
		}
		if len(small) == before {
			break // it is not to be had this way: the other one waits and tries on
		}
	}
	return append(small, rest...), nil
}

// sendMany sends some jobs in rows, and returns those that were not dealt with.
func (p *pusher) sendMany(ctx context.Context, jobs []job) (left []job, err error) {
	return sendRows(ctx, p.c, p.device, min(manyStreams, p.opt.jobs), jobs, func(next *atomic.Int64) (cargo, func(*row) []job) {
		l := &pushLoad{p: p, jobs: jobs, next: next}
		return l, l.unsettled
	})
}

// pushLoad is the cargo of one row: it takes the next job that no other row has taken when
// the row has room for its bytes.
type pushLoad struct {
	p    *pusher
	jobs []job
	next *atomic.Int64

	mu    sync.Mutex
	begun []job // by their place in the request
	later []job // not fit to be sent this way

	// of who reads
	file *os.File
	e    *entry
}

// heard implements cargo.
func (l *pushLoad) heard(ctx context.Context, n int, said rowLine, err error) (settled bool, _ error) {
	l.mu.Lock()
	j := l.begun[n]
	l.mu.Unlock()
	if err == nil {
		if err = l.p.confirm(j.e, said.SHA256); err == nil {
			l.p.alive.beat()
			l.p.welcome.Store(true)
			l.p.remember(j.e.sum)
		}
	}
	if err != nil && mayDoAlone(err) {
		return false, nil
	}
	return true, l.p.settle(ctx, j.e, resultStored, err)
}

// mayDoAlone reports whether a file that was refused with err among others is sent once
// more, by itself.
func mayDoAlone(err error) bool {
	switch problem.KindOf(err) {
	case problem.Mismatch, problem.TooLarge, problem.Locked, problem.Unavailable, problem.Canceled, problem.RateLimited, problem.Internal:
		return true
	}
	return false
}

// unsettled are the jobs of the row that the box said nothing final of.
func (l *pushLoad) unsettled(r *row) []job {
	var left []job
	r.unsettled(func(n int) {
		l.p.showOnly(l.begun[n].e, 0)
		left = append(left, l.begun[n])
	})
	return append(l.later, left...)
}

// moved implements cargo.
func (l *pushLoad) moved(n int64) {
	l.p.show(l.e, n)
	l.p.rep.moved(n)
}

// alone implements cargo.
func (l *pushLoad) alone() { l.p.single.Store(true) }

// open implements cargo. There is no file any more when the box refused something for
// want of consent: then each file asks before its bytes leave.
func (l *pushLoad) open() (fileAhead, io.Reader, bool) {
	for !l.p.cautious.Load() {
		n := l.next.Add(1) - 1
		if n >= int64(len(l.jobs)) {
			break
		}
		j := l.jobs[n]
		f, err := os.Open(j.e.abs)
		if err == nil {
			var info os.FileInfo
			if info, err = f.Stat(); err == nil && statID(info) != j.e.id {
				err = errChanged
			}
		}
		if err != nil {
			if f != nil {
				f.Close()
			}
			l.mu.Lock()
			l.later = append(l.later, j)
			l.mu.Unlock()
			continue
		}
		l.file, l.e = f, j.e
		l.mu.Lock()
		l.begun = append(l.begun, j)
		l.mu.Unlock()
		return l.p.ahead(j.e), f, true
	}
	return fileAhead{}, nil, false
}

// ahead is what stands before the bytes of a file.
func (p *pusher) ahead(e *entry) fileAhead {
	head := fileAhead{Path: p.target(e), Size: e.id.size, SHA256: hex.EncodeToString(e.sum[:]), MTime: mtime(e.id), Again: p.opt.again}
	if p.opt.source == autoSource {
		head.SourcePath = p.sourcePath(e)
	} else {
		head.Source = p.opt.source
	}
	return head
}

// shut implements cargo.
func (l *pushLoad) shut() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
