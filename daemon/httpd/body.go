package httpd

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"sync"
	"time"

	"yunbox.local/daemon/metrics"
)

var noDeadline time.Time

// A progressBody is a request's body that must keep coming: within each period
// of patience that the handler spends waiting for it, 1 KiB for every second of
// it. Time that the handler itself takes does not count, so a slow disk is not a
// slow client. The body of a stranger has to be there whole within that period. A
// read also ends when the context does, and when the credentials of the request
// have ceased to hold meanwhile.
type progressBody struct {
	raw      io.ReadCloser
	control  *http.ResponseController
	patience time.Duration
	allowed  func() error // nil: nothing to ask
	recheck  time.Duration
	ctx      context.Context
	stop     func() bool // takes back the watch on ctx
	lane     *metrics.Lane

	mu       sync.Mutex
	left     time.Duration // of the patience, for the bytes that are still owed
	owed     int64         // bytes until the patience begins anew
	set      time.Time     // the connection's read deadline now
	ended    bool          // the body is over, the context is, or the request is
	eof      bool
	received int64
	asked    time.Time // when allowed was asked last
}

// watch returns the request's body bound to ctx; the one before it ends.
func (w *response) watch(ctx context.Context) io.ReadCloser {
	r := w.request
	if r.Body == nil || r.Body == http.NoBody {
		return http.NoBody
	}
	if w.body != nil {
		w.earlier += w.body.count()
		w.body.release()
	}
	b := &progressBody{raw: r.Body, control: w.control, patience: w.limits.Patience, ctx: ctx, lane: w.lane,
		allowed: w.allowed, recheck: w.limits.Recheck, asked: time.Now()}
	b.left, b.owed = b.patience, b.quota()
	if w.stranger {
		b.owed = math.MaxInt64
	}
	b.stop = context.AfterFunc(ctx, b.interrupt)
	w.body = b
	if w.bodyLimit > 0 {
		return http.MaxBytesReader(w.ResponseWriter, b, w.bodyLimit-w.earlier)
	}
	return b
}

// ProgressReader returns r's body for a handler that wants reading to end with
// r.Context(), which may be another context than the request's own: of a grant
// that is withdrawn, of an upload that another connection takes over. A blocked
// read then returns context.Cause within milliseconds. Slow clients end with
// os.ErrDeadlineExceeded. w and r must be those that the handler got, apart from
// r's context. Use it instead of r.Body, not beside it.
func ProgressReader(w http.ResponseWriter, r *http.Request) io.Reader {
	out := responseOf(w)
	if out == nil {
		return r.Body
	}
	return out.watch(r.Context())
}

func (b *progressBody) quota() int64 { return int64(b.patience.Seconds() * 1024) }

// Read implements io.Reader.
func (b *progressBody) Read(p []byte) (int, error) {
	begin := time.Now()
	if err := b.ask(begin); err != nil {
		return 0, err
	}
	b.mu.Lock()
	if b.eof {
		b.mu.Unlock()
		return 0, io.EOF // without a deadline: there is nothing to wait for
	}
	if b.ended {
		b.mu.Unlock()
		return 0, b.cause(os.ErrDeadlineExceeded)
	}
	// Moving a deadline costs more than a read from memory: only when it drifted.
	if want := begin.Add(b.left); want.Sub(b.set).Abs() > b.patience/32 {
		if err := b.control.SetReadDeadline(want); err == nil {
			b.set = want
		}
	}
	b.mu.Unlock()

	n, err := b.raw.Read(p)
	b.lane.Received(int64(n))

	b.mu.Lock()
	defer b.mu.Unlock()
	b.received += int64(n)
	b.owed -= int64(n)
	b.left -= time.Since(begin)
	if b.owed <= 0 {
		b.left, b.owed = b.patience, b.quota()
	}
	switch {
	case err == io.EOF:
		b.eof = true
		b.endLocked()
		if b.ctx.Err() != nil {
			// The context ended within this very read: its deadline must not
			// reach what comes after the body, see endLocked.
			_ = b.control.SetReadDeadline(noDeadline)
		}
	case err != nil:
		// A context that ended made the deadline pass: say which it was.
		err = b.cause(err)
		b.endLocked()
	}
	return n, err
}

// ask ends the body if who sends it may no longer. Read is called by one goroutine
// at a time, so asked needs no lock.
func (b *progressBody) ask(now time.Time) error {
	if b.allowed == nil || now.Sub(b.asked) < b.recheck {
		return nil
	}
	b.asked = now
	err := b.allowed()
	if err != nil {
		b.release()
	}
	return err
}

// cause is why reading ended. The end of the patience also ends the request's
// context, so it has to be looked at first.
func (b *progressBody) cause(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && !b.set.IsZero() && !time.Now().Before(b.set):
		return errors.Join(errSlow, err)
	case b.ctx.Err() != nil:
		return context.Cause(b.ctx)
	}
	return err
}

// interrupt ends a blocked read when the context ends.
func (b *progressBody) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.ended = true
		_ = b.control.SetReadDeadline(time.Now()) // a connection that knows none ends by itself
	}
}

// endLocked takes the deadline away: while the handler works on what it has
// read, the connection is read in the background, and a deadline that passes
// there would look like a client that left.
func (b *progressBody) endLocked() {
	if b.ended {
		return
	}
	b.ended = true
	b.stop()
	_ = b.control.SetReadDeadline(noDeadline)
}

// release ends the watch without ending the body: its deadline must not hit the
// connection's next request.
func (b *progressBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked()
}

// Close implements io.Closer. net/http closes the body itself.
func (b *progressBody) Close() error { return b.raw.Close() }

func (b *progressBody) atEnd() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eof
}

func (b *progressBody) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received
}
