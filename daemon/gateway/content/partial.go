package content

import (
	"io"
	"net/http"

	"yunbox.local/daemon/problem"
)

// partialWriter turns http.ServeContent's own 416 into a problem.
type partialWriter struct {
	http.ResponseWriter
	r       *http.Request
	refuse  func(http.ResponseWriter, *http.Request, error)
	refused bool
}

// WriteHeader implements http.ResponseWriter.
func (w *partialWriter) WriteHeader(status int) {
	if status != http.StatusRequestedRangeNotSatisfiable {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.refused = true
	length := w.Header().Get("Content-Range") // "bytes */LENGTH" (RFC 9110 §15.5.17)
	w.refuse(&withRange{w.ResponseWriter, length}, w.r, &problem.Error{
		Kind: problem.RangeUnsatisfiable, Op: "content.serve", Hint: "Ask with HEAD how long the file is.",
	})
}

// Write implements http.ResponseWriter.
func (w *partialWriter) Write(b []byte) (int, error) {
	if w.refused {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// ReadFrom keeps the buffers of the response below in use.
func (w *partialWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(w.ResponseWriter, r)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *partialWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// withRange puts Content-Range back, which a problem clears away with the other
// headers of the answer that was not given.
type withRange struct {
	http.ResponseWriter
	contentRange string
}

func (w *withRange) WriteHeader(status int) {
	w.Header().Set("Content-Range", w.contentRange)
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets httpd find its own response.
func (w *withRange) Unwrap() http.ResponseWriter { return w.ResponseWriter }
