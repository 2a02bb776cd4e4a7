package gatewaytest

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// from yields all of body.
func from(body []byte) func(int64) io.Reader {
	return func(off int64) io.Reader { return bytes.NewReader(body[min(off, int64(len(body))):]) }
}

var errCut = errors.New("the phone went out of range")

// cutAt yields the first n bytes of body and breaks off.
func cutAt(body []byte, n int) func(int64) io.Reader {
	return func(off int64) io.Reader {
		return io.MultiReader(bytes.NewReader(body[min(int(off), n):n]), failing{})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

// endAt yields the first n bytes of body as if that were all.
func endAt(body []byte, n int) func(int64) io.Reader { return from(body[:n]) }

// A gate yields a body up to a point, and the rest only when it is opened: a
// phone whose connection hangs.
type gate struct {
	body    []byte
	at      int64
	once    sync.Once
	reached chan struct{} // closed when all bytes before the gate are out
	open    chan struct{} // close it to let the rest through
}

func newGate(body []byte, at int) *gate {
	return &gate{body: body, at: int64(at), reached: make(chan struct{}), open: make(chan struct{})}
}

// Body is for File.Body.
func (g *gate) Body(off int64) io.Reader {
	return &gated{gate: g, off: off, closed: make(chan struct{})}
}

type gated struct {
	*gate
	off    int64
	once   sync.Once
	closed chan struct{}
}

// Close ends a Read that waits at the gate.
func (g *gated) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}

func (g *gated) Read(p []byte) (int, error) {
	end := g.at
	if g.off >= g.at {
		g.gate.once.Do(func() { close(g.reached) })
		select {
		case <-g.open:
		case <-g.closed:
			return 0, errCut
		}
		end = int64(len(g.body))
	}
	if g.off == end {
		return 0, io.EOF
	}
	n := copy(p, g.body[g.off:end])
	g.off += int64(n)
	return n, nil
}
