package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"yunbox.local/daemon/problem"
)

// A cargo is what a row of files is made of: a folder that is pushed, or an archive.
type cargo interface {
	// open goes on to the next file and returns what stands before its bytes, and them.
	// It returns false when there is none.
	open() (fileAhead, io.Reader, bool)
	// moved is told of n bytes of the file that was opened last, when they leave.
	moved(n int64)
	// shut closes the file that was opened last, if there is one.
	shut()
	// heard is told what the box said of the n-th file that was opened. Unless it
	// returns true, the file is to be sent once more. Its error ends everything.
	heard(ctx context.Context, n int, said rowLine, err error) (settled bool, _ error)
	// alone is told that the box takes no such requests.
	alone()
}

// A row is the body of one request with many files, and what the box said of them.
type row struct {
	load cargo
	flow *flow
	end  chan struct{} // closed when nothing reads the row any more
	once sync.Once

	mu   sync.Mutex
	sent int // files that were opened
	done map[int]bool

	// of who reads
	head []byte
	src  io.Reader
	left int64
}

func newRow(l cargo) *row { return &row{load: l, end: make(chan struct{}), done: map[int]bool{}} }

// sendRows makes some requests at a time with many files each, and returns the files that
// were not dealt with. begin makes the cargo of a request, which takes the next file that no
// other has taken, and tells what is left of it.
func sendRows[T any](ctx context.Context, c *client, device string, requests int, files []T, begin func(next *atomic.Int64) (cargo, func(*row) []T)) (left []T, err error) {
	outer := ctx
	var next atomic.Int64
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(outer)
	for range requests {
		g.Go(func() error {
			load, unsettled := begin(&next)
			r := newRow(load)
			err := r.send(ctx, c, device)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, unsettled(r)...)
			return err
		})
	}
	err = g.Wait()
	if err == nil && outer.Err() != nil {
		err = context.Cause(outer)
	}
	if n := min(int(next.Load()), len(files)); n < len(files) {
		left = append(left, files[n:]...)
	}
	return left, err
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
	Absent     bool   `json:"absent,omitempty"` // only if there is no file of that name
}

// rowLine is one line of the answer: what became of a file.
type rowLine struct {
	N       *int            `json:"n"`
	SHA256  string          `json:"sha256"`
	Stored  string          `json:"stored"` // new, known
	Problem json.RawMessage `json:"problem"`
}

// send makes the request, for a device if one is named, and hears of each file. The
// error ends everything.
func (r *row) send(ctx context.Context, c *client, device string) error {
	ctx, r.flow = newFlow(ctx)
	defer r.flow.stop()
	target := "/v1/files"
	if device != "" {
		target += "?" + url.Values{"device": {device}}.Encode()
	}
	req, err := c.request(ctx, http.MethodPost, target, r)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	req.Header.Set("Content-Type", manyType)
	res, err := c.do(req)
	if err != nil {
		<-r.end
		switch problem.KindOf(err) {
		case problem.NotFound, problem.MethodNotAllowed, problem.UnsupportedMedia, problem.Unsupported:
			r.load.alone() // an older box
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
		r.load.alone()
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
	var said rowLine
	if json.Unmarshal(line, &said) != nil {
		return nil // it is about files that nothing is known of
	}
	var err error
	if said.Problem != nil {
		err = parseProblem(said.Problem)
	}
	if said.N == nil { // of all that follow
		if problem.KindOf(err) == problem.Invalid {
			r.load.alone() // a box that does not know what we say of a file
		}
		return nil
	}
	n := *said.N
	r.mu.Lock()
	unknown := n < 0 || n >= r.sent || r.done[n]
	r.mu.Unlock()
	if unknown {
		return nil
	}
	settled, err := r.load.heard(ctx, n, said, err)
	if settled {
		r.mu.Lock()
		r.done[n] = true
		r.mu.Unlock()
	}
	return err
}

// unsettled calls each with the places of the files that the row took and that the box
// said nothing final of.
func (r *row) unsettled(each func(n int)) {
	<-r.end
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.sent {
		if !r.done[n] {
			each(n)
		}
	}
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
			r.load.moved(int64(n))
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

// begin opens the next file.
func (r *row) begin() bool {
	r.load.shut()
	head, src, ok := r.load.open()
	if !ok {
		return false
	}
	r.mu.Lock()
	r.sent++
	r.mu.Unlock()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(head); err != nil {
		panic(err) // all of it can be written as JSON
	}
	r.head, r.src, r.left = []byte(b.String()), src, head.Size
	return true
}

// Close is called by the transport, always and once it reads no more.
func (r *row) Close() error {
	r.once.Do(func() {
		r.load.shut()
		close(r.end)
	})
	return nil
}
