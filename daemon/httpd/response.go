package httpd

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"yunbox.local/daemon/metrics"
	"yunbox.local/daemon/problem"
)

// A response watches over one answer: it turns the multiplexer's own answers
// into problems, counts, and gives slow readers a deadline. Handlers see it as
// their http.ResponseWriter.
type response struct {
	http.ResponseWriter
	log     *slog.Logger
	limits  Limits
	request *http.Request // as it arrived
	control *http.ResponseController

	routed      bool // a route was found
	routing     bool // the multiplexer has the word: without a route, what it writes is its own
	replaced    bool // it was turned into a problem; what follows is dropped
	wroteHeader bool
	status      int
	sent        int64

	bodyLimit int64         // bytes; 0: none
	stranger  bool          // nobody is signed in
	allowed   func() error  // whether the credentials still hold; nil: there were none
	body      *progressBody // what the handler reads now
	earlier   int64         // bytes that came through bodies before it

	lane *metrics.Lane // nil: nothing is counted

	crowd  *crowd // nil: nobody is counted
	joined bool
}

func newResponse(log *slog.Logger, limits Limits, w http.ResponseWriter, r *http.Request) *response {
	return &response{ResponseWriter: w, log: log, limits: limits, request: r, control: http.NewResponseController(w)}
}

// guard runs the handling of the request. A panic becomes a problem, or, if the
// answer has begun, cuts the connection off: the client must not take what it has
// for the whole.
func (w *response) guard(handle func()) {
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler {
			w.log.Error("a request handler panicked", "route", w.pattern(), "panic", p, "stack", string(debug.Stack()))
			if w.wroteHeader {
				p = http.ErrAbortHandler
			} else {
				p = nil
				WriteProblem(w, w.request, errors.New("panic"))
			}
		}
		w.finish()
		if p != nil {
			panic(p)
		}
	}()
	handle()
}

// responseOf finds the response below the wrappers of a gateway; nil if w did not
// come through the hall.
func responseOf(w http.ResponseWriter) *response {
	for {
		switch v := w.(type) {
		case *response:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}

// pattern is the route for the log: never the path, which names people's files.
func (w *response) pattern() string {
	if p := w.request.Pattern; p != "" {
		return p
	}
	return "none"
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.replaced || w.wroteHeader {
		return
	}
	if w.routing && !w.routed && !(status >= 300 && status < 400 && safe(w.request.Method)) {
		w.routing = false
		w.join()
		WriteProblem(w, w.request, routeProblem(status, w.request, w.Header().Get("Allow")))
		w.replaced = true
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.wroteHeader, w.status = true, status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	if w.replaced {
		return len(b), nil
	}
	// The deadline is taken away again: on HTTP/2 it would end the stream even if
	// nothing is being written. Errors mean that the connection knows none.
	_ = w.control.SetWriteDeadline(time.Now().Add(w.limits.WriteTimeout))
	n, err := w.ResponseWriter.Write(b)
	w.sent += int64(n)
	if err == nil {
		_ = w.control.SetWriteDeadline(noDeadline)
	}
	return n, err
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// ReadFrom implements io.ReaderFrom with buffers that are used again.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(writerOnly{w}, r, *b)
}

type writerOnly struct{ io.Writer }

// Flush implements http.Flusher.
func (w *response) Flush() {
	if w.replaced {
		return
	}
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(w.limits.WriteTimeout))
	if err := w.control.Flush(); err == nil {
		_ = w.control.SetWriteDeadline(noDeadline)
	}
}

// finish ends the watch. What is still buffered has its time to leave.
func (w *response) finish() {
	if w.body != nil {
		w.body.release()
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(w.limits.WriteTimeout))
	if w.request.ProtoMajor == 1 && w.unread() {
		// net/http reads what is left of a small body, and would wait for it for ever.
		_ = w.control.SetReadDeadline(time.Now().Add(min(w.limits.Patience, 5*time.Second)))
		w.linger()
	}
	if !w.wroteHeader && w.status == 0 {
		w.status = http.StatusOK
	}
	w.part()
}

// join counts the request among those of strangers, or cuts it off: an answer that
// nobody reads would keep memory, too.
func (w *response) join() {
	if w.crowd == nil || w.joined {
		return
	}
	if !w.crowd.enter(Remote(w.request)) {
		panic(http.ErrAbortHandler)
	}
	w.joined = true
}

// part ends that when the answer has left: until then it takes memory.
func (w *response) part() {
	if !w.joined {
		return
	}
	if w.wroteHeader && w.request.ProtoMajor > 1 {
		_ = w.control.Flush() // the client is gone or does not read: the deadline ended it
	}
	w.crowd.leave(Remote(w.request))
}

// linger gives a client that is refused in the middle of its body time to read why, before
// the connection is reset under what it still sends, where net/http does not: it does not
// know that a body has begun if the client waited for "100 Continue" first.
func (w *response) linger() {
	if !w.wroteHeader || w.request.Header.Get("Expect") == "" || w.earlier == 0 && (w.body == nil || w.body.count() == 0) {
		return
	}
	if w.control.Flush() != nil {
		return
	}
	end := time.NewTimer(w.limits.Linger)
	defer end.Stop()
	select {
	case <-end.C:
	case <-w.request.Context().Done():
	}
}

// unread reports whether the client may still have a body to send.
func (w *response) unread() bool {
	r := w.request
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return false
	}
	return w.body == nil || !w.body.atEnd()
}

func (w *response) received() int64 {
	if w.body == nil {
		return w.earlier
	}
	return w.earlier + w.body.count()
}

var errSlow = &problem.Error{Kind: problem.Canceled, Op: "httpd.body",
	Title:  "The upload came too slowly",
	Detail: "Less than 1 KiB a second arrived.",
	Hint:   "Resume it with a better connection; what arrived is kept where the protocol allows it."}
