package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

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

// sendMany makes some requests with many files each, and returns those that were not
// dealt with.
func (p *pusher) sendMany(ctx context.Context, jobs []job) (left []job, err error) {
	outer := ctx
	var next atomic.Int64
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(outer)
	for range min(manyStreams, p.opt.jobs) {
		g.Go(func() error {
			r := newRow(p, jobs)
			r.next = &next
			err := r.send(ctx)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, r.unsettled()...)
			return err
		})
	}
	err = g.Wait()
	if err == nil && outer.Err() != nil {
		err = context.Cause(outer)
	}
	if n := min(int(next.Load()), len(jobs)); n < len(jobs) {
		left = append(left, jobs[n:]...)
	}
	return left, err
}

// A row is the body of one request with many files, and what the box said of them. It
// takes the next job that no other row has taken when it has room for its bytes.
type row struct {
	p    *pusher
	jobs []job
	next *atomic.Int64
	flow *flow
	end  chan struct{} // closed when nothing reads the row any more
	once sync.Once

	mu    sync.Mutex
	begun []job // by their place in the request
	later []job // not fit to be sent this way
	done  map[int]bool

	// of who reads
	head []byte
	src  io.Reader
	file *os.File
	e    *entry
	left int64
}

func newRow(p *pusher, jobs []job) *row {
	return &row{p: p, jobs: jobs, next: new(atomic.Int64), end: make(chan struct{}), done: map[int]bool{}}
}

// fileAhead is what stands before the bytes of a file.
type fileAhead struct {
	Path       string `json:"path"`
	Size       int64  `json:"size"`
	SHA256     string `json:"sha256"`
	Source     string `json:"source,omitempty"`
	SourcePath string `json:"source_path,omitempty"`
	MTime      string `json:"mtime,omitempty"`
	Again      bool   `json:"again,omitempty"`
}

// send makes the request and hears of each file. The error ends the backup.
func (r *row) send(ctx context.Context) error {
	p := r.p
	ctx, r.flow = newFlow(ctx)
	defer r.flow.stop()
	target := "/v1/files"
	if p.device != "" {
		target += "?" + url.Values{"device": {p.device}}.Encode()
	}
	req, err := p.c.request(ctx, http.MethodPost, target, r)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	req.Header.Set("Content-Type", manyType)
	res, err := p.c.do(req)
	if err != nil {
		<-r.end
		switch problem.KindOf(err) {
		case problem.NotFound, problem.MethodNotAllowed, problem.UnsupportedMedia, problem.Unsupported:
			p.single.Store(true) // an older box
		}
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilent) {
			return context.Cause(ctx)
		}
		return nil // whoever sends them one by one finds out what to make of it
	}
	defer func() {
		res.Body.Close()
		<-r.end
	}()
	if res.StatusCode != http.StatusOK {
		p.single.Store(true)
		return nil
	}
	lines := bufio.NewReaderSize(res.Body, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return nil // the end, or a cut: what was not told is sent again
		}
		r.flow.timer.Reset(silence)
		if err := r.heard(ctx, line); err != nil {
			return err
		}
	}
}

// heard takes note of one line of the answer.
func (r *row) heard(ctx context.Context, line []byte) error {
	var answer struct {
		N       *int   `json:"n"`
		SHA256  string `json:"sha256"`
		Problem json.RawMessage
	}
	if json.Unmarshal(line, &answer) != nil || answer.N == nil {
		return nil // it is about files that nothing is known of
	}
	r.mu.Lock()
	if *answer.N < 0 || *answer.N >= len(r.begun) || r.done[*answer.N] {
		r.mu.Unlock()
		return nil
	}
	j := r.begun[*answer.N]
	r.mu.Unlock()
	var err error
	if answer.Problem != nil {
		err = parseProblem(answer.Problem)
	} else if err = r.p.confirm(j.e, answer.SHA256); err == nil {
		r.p.alive.beat()
		r.p.welcome.Store(true)
		r.p.remember(j.e.sum)
	}
	switch problem.KindOf(err) {
	case problem.Mismatch, problem.TooLarge, problem.Locked, problem.Unavailable, problem.Canceled, problem.RateLimited, problem.Internal:
		if err != nil {
			return nil // once more, by itself
		}
	}
	r.mu.Lock()
	r.done[*answer.N] = true
	r.mu.Unlock()
	return r.p.settle(ctx, j.e, resultStored, err)
}

// unsettled are the jobs that the row took and that the box said nothing final of.
func (r *row) unsettled() []job {
	<-r.end
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.later
	for n, j := range r.begun {
		if !r.done[n] {
			r.p.showOnly(j.e, 0)
			left = append(left, j)
		}
	}
	return left
}

// Read implements io.Reader: files one after the other. What a file lacks that became
// shorter is filled up, and the box finds that it is not what was announced.
func (r *row) Read(b []byte) (int, error) {
	for {
		switch {
		case len(r.head) > 0:
			n := copy(b, r.head)
			r.head = r.head[n:]
			return n, nil
		case r.left > 0:
			n, err := r.src.Read(b[:min(int64(len(b)), r.left)])
			if n == 0 && err != nil {
				r.src = zeros{}
				continue
			}
			r.left -= int64(n)
			r.flow.timer.Reset(silence)
			r.p.show(r.e, int64(n))
			r.p.rep.moved(int64(n))
			return n, nil
		case !r.begin():
			return 0, io.EOF
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// begin opens the next file. It returns false when there is none, or when the box
// refused something for want of consent: then each file asks before its bytes leave.
func (r *row) begin() bool {
	r.shut()
	for !r.p.cautious.Load() {
		n := r.next.Add(1) - 1
		if n >= int64(len(r.jobs)) {
			return false
		}
		j := r.jobs[n]
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
			r.mu.Lock()
			r.later = append(r.later, j)
			r.mu.Unlock()
			continue
		}
		r.file, r.src, r.e, r.left = f, f, j.e, j.e.id.size
		r.mu.Lock()
		r.begun = append(r.begun, j)
		r.mu.Unlock()
		r.head = append(r.p.ahead(j.e), '\n')
		return true
	}
	return false
}

// ahead is the line before the bytes of a file.
func (p *pusher) ahead(e *entry) []byte {
	head := fileAhead{Path: p.target(e), Size: e.id.size, SHA256: hex.EncodeToString(e.sum[:]), MTime: mtime(e.id), Again: p.opt.again}
	if p.opt.source == autoSource {
		head.SourcePath = p.sourcePath(e)
	} else {
		head.Source = p.opt.source
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(head); err != nil {
		panic(err) // all of it can be written as JSON
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

func (r *row) shut() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// Close is called by the transport, always and once it reads no more.
func (r *row) Close() error {
	r.once.Do(func() {
		r.shut()
		close(r.end)
	})
	return nil
}
