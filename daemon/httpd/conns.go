package httpd

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// conns bounds the connections, in all and by address. At the bound a connection
// that is doing nothing, the one that has done so for longest, makes room for a
// new one; so whoever opens many and leaves them idle harms nobody else.
type conns struct {
	max, perSource int

	mu      sync.Mutex
	open    map[*conn]struct{}
	sources map[string]int
}

type conn struct {
	net.Conn
	owner  *conns
	source string
	busy   bool // a request is being answered
	since  time.Time
	once   sync.Once
}

func newConns(max, perSource int) *conns {
	return &conns{max: max, perSource: perSource, open: map[*conn]struct{}{}, sources: map[string]int{}}
}

type listener struct {
	net.Listener
	conns *conns
}

func (c *conns) listen(ln net.Listener) net.Listener { return listener{ln, c} }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, evicted := l.conns.add(raw)
		if evicted != nil {
			evicted.Close()
		}
		if c != nil {
			return c, nil
		}
		raw.Close() // everybody is busy
	}
}

// add takes a connection in. evicted has to be closed; a nil conn means that
// there is no room.
func (c *conns) add(raw net.Conn) (added, evicted *conn) {
	source := addrOf(raw.RemoteAddr()).String()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.sources[source] >= c.perSource:
		if evicted = c.idlest(source); evicted == nil {
			return nil, nil
		}
	case len(c.open) >= c.max:
		if evicted = c.idlest(""); evicted == nil {
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

// idlest is the connection of that source, "" any, which has been idle for
// longest.
func (c *conns) idlest(source string) (found *conn) {
	for k := range c.open {
		if !k.busy && (source == "" || k.source == source) && (found == nil || k.since.Before(found.since)) {
			found = k
		}
	}
	return found
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
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	k, ok := nc.(*conn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.busy, k.since = s == http.StateActive, time.Now()
}
