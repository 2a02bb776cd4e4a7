package httpd

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// deadlines is a connection that remembers its read deadline.
type deadlines struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }

// lastBytes is a body that ends in its first read, while something happens.
type lastBytes struct{ meanwhile func() }

func (l lastBytes) Read(p []byte) (int, error) { l.meanwhile(); return copy(p, "x"), io.EOF }
func (lastBytes) Close() error                 { return nil }

// A context that ends while the last bytes are read leaves no deadline in the past:
// net/http listens on the connection from then on, and would take it for a client
// that left.
func TestBodyEndsWithItsContext(t *testing.T) {
	conn := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	ctx, cancel := context.WithCancel(t.Context())
	b := &progressBody{control: http.NewResponseController(conn), patience: time.Minute, left: time.Minute, owed: 1 << 20, ctx: ctx, stop: func() bool { return false }}
	b.raw = lastBytes{func() { cancel(); b.interrupt() }}
	if data, err := io.ReadAll(b); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
	if !conn.read.IsZero() {
		t.Errorf("the read deadline of the connection is %v", conn.read)
	}
}
