package httpd

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// conns bounds the connections, in all and by address. At the bound another one
// makes room for a new one: one of somebody who never signed in and that does
// nothing, else one that does nothing, else one of a stranger; the one that has
// done so for longest. So strangers cannot keep others out, with however many
// connections, and what a signed-in person is sending is never cut off for them.
type conns struct {
	max, perSource int

	mu      sync.Mutex
	open    map[*conn]struct{}
	sources map[string]int

	long atomic.Int32 // handlers that have long reads
}

type conn struct {
	net.Conn
	owner  *conns
	source string
	busy   bool // a request is being answered
	known  bool // somebody signed in has used it
	begun  bool // it has brought a request
	since  time.Time
	once   sync.Once

	long atomic.Int32 // handlers that want long reads; what follows belongs to whoever reads
	buf  []byte
	read []byte // part of buf: what came and was not taken yet
}

func newConns(max, perSource int) *conns {
	return &conns{max: max, perSource: perSource, open: map[*conn]struct{}{}, sources: map[string]int{}}
}

// A listener ends in two steps. After hangUp it takes no connections, and the loop that
// accepts waits; after Close, which is net/http's, that loop ends. In between, who
// connected before can still bring the request for which that was done: net/http drops
// what it reads once it shuts down.
type listener struct {
	net.Listener
	conns    *conns
	quiet    chan struct{} // closed by hangUp
	drained  chan struct{} // closed when the last connection was taken in
	closed   chan struct{} // closed by Close
	quietly  sync.Once
	closing  sync.Once
	draining sync.Once
}

func (c *conns) listen(ln net.Listener) *listener {
	return &listener{Listener: ln, conns: c, quiet: make(chan struct{}), drained: make(chan struct{}), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			select {
			case <-l.quiet:
				l.draining.Do(func() { close(l.drained) })
				<-l.closed
			default:
			}
			return nil, err
		}
		c, evicted := l.conns.add(raw)
		if evicted != nil {
			evicted.Close()
		}
		if c != nil {
			return c, nil
		}
		raw.Close() // people who are signed in use them all
	}
}

// hangUp takes no more connections.
func (l *listener) hangUp() {
	l.quietly.Do(func() {
		close(l.quiet)
		l.Listener.Close()
	})
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return ignoreClosed(l.Listener.Close())
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// add takes a connection in. evicted has to be closed; a nil conn means that
// there is no room.
func (c *conns) add(raw net.Conn) (added, evicted *conn) {
	source := addrOf(raw.RemoteAddr()).String()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.sources[source] >= c.perSource:
		if evicted = c.dispensable(source); evicted == nil {
			return nil, nil
		}
	case len(c.open) >= c.max:
		if evicted = c.dispensable(""); evicted == nil {
			return nil, nil
		}
	}
	if evicted != nil {
		c.removeLocked(evicted)
	}
	added = &conn{Conn: raw, owner: c, source: source, since: time.Now()}
	c.open[added] = struct{}{}
	c.sources[source]++
	return added, evicted
}

// expected reports whether a connection is open that has not brought a request yet.
func (c *conns) expected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.open {
		if !k.begun {
			return true
		}
	}
	return false
}

// dispensable is the connection of that source, "" any, that has to make room.
func (c *conns) dispensable(source string) (found *conn) {
	for k := range c.open {
		switch {
		case k.busy && k.known, source != "" && k.source != source:
		case found == nil, k.rank() < found.rank(), k.rank() == found.rank() && k.since.Before(found.since):
			found = k
		}
	}
	return found
}

func (k *conn) rank() int {
	switch {
	case k.busy:
		return 2
	case k.known:
		return 1
	}
	return 0
}

type connKey struct{}

// context is the http.Server's ConnContext hook.
func (c *conns) context(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(nc))
}

// admitted notes that somebody signed in uses the connection of ctx.
func (c *conns) admitted(ctx context.Context) {
	k, _ := ctx.Value(connKey{}).(*conn)
	if k == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.known = true
}

// connOf is the conn below TLS; nil if there is none.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	k, _ := nc.(*conn)
	return k
}

func (c *conns) removeLocked(k *conn) {
	if _, ok := c.open[k]; !ok {
		return
	}
	delete(c.open, k)
	if c.sources[k.source]--; c.sources[k.source] == 0 {
		delete(c.sources, k.source)
	}
}

// Close implements net.Conn.
func (k *conn) Close() error {
	k.once.Do(func() {
		k.owner.mu.Lock()
		k.owner.removeLocked(k)
		k.owner.mu.Unlock()
	})
	return k.Conn.Close()
}

// state is the http.Server's ConnState hook.
func (c *conns) state(nc net.Conn, s http.ConnState) {
	k := connOf(nc)
	if k == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.busy, k.since = s == http.StateActive, time.Now()
	k.begun = k.begun || k.busy
}

const (
	longRead      = 128 << 10 // bytes
	mostLongReads = 8         // handlers: who comes later reads as ever
)

// LongReads lets all that has come by the connection of r be read in one call, until the
// function that it returns is called. It is for bodies of many records, while they are
// read: TLS asks for one at a time, and each of these calls tells the sender how much
// was taken. It may be in vain, where many do so.
func LongReads(r *http.Request) (end func()) {
	k, _ := r.Context().Value(connKey{}).(*conn)
	if k == nil {
		return func() {}
	}
	if k.owner.long.Add(1) > mostLongReads {
		k.owner.long.Add(-1)
		return func() {}
	}
	k.long.Add(1)
	return func() {
		k.long.Add(-1)
		k.owner.long.Add(-1)
	}
}

// Read implements net.Conn.
func (k *conn) Read(p []byte) (int, error) {
	if len(k.read) == 0 {
		switch wanted := k.long.Load() > 0 && len(p) < longRead; {
		case wanted && k.buf == nil:
			k.buf = make([]byte, longRead)
		case !wanted:
			k.buf, k.read = nil, nil
		}
		if k.buf == nil {
			return k.Conn.Read(p)
		}
		n, err := k.Conn.Read(k.buf)
		if k.read = k.buf[:n]; n == 0 {
			return 0, err
		}
	}
	n := copy(p, k.read)
	k.read = k.read[n:]
	return n, nil
}
