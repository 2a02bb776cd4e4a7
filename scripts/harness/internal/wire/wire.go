// Package wire is a TCP proxy that stands between a client and a box: it counts
// what passes, and cuts connections in the middle, as a phone's Wi-Fi does. It
// sees only TLS records, so client and box still trust each other alone.
package wire

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Proxy forwards connections. Its methods may be used by several goroutines.
type Proxy struct {
	ln     net.Listener
	target string

	mu    sync.Mutex
	up    int64   // bytes from clients
	conns int     // connections accepted
	cuts  []int64 // cut a connection when up reaches the first of these
	made  int     // cuts made
	open  map[net.Conn]bool
}

// Listen starts a proxy to target ("host:port") on a free port of 127.0.0.1. It
// cuts the connection whose bytes make the total from clients reach one of cuts,
// which must increase.
func Listen(target string, cuts ...int64) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{ln: ln, target: target, cuts: cuts, open: map[net.Conn]bool{}}
	go p.serve()
	return p, nil
}

// Port is the port to connect to.
func (p *Proxy) Port() int { return p.ln.Addr().(*net.TCPAddr).Port }

// Retarget makes new connections go elsewhere: a restarted box has a new port.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Sent counts the bytes that clients sent, TLS included.
func (p *Proxy) Sent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// Connections counts the connections that clients made.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns
}

// Cuts counts the cuts made so far.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

// Close stops listening and drops all connections.
func (p *Proxy) Close() error {
	err := p.ln.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		err = errors.Join(err, conn.Close())
	}
	return err
}

func (p *Proxy) serve() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.mu.Lock()
		p.conns++
		target := p.target
		p.mu.Unlock()
		go p.forward(client, target)
	}
}

func (p *Proxy) forward(client net.Conn, target string) {
	server, err := net.Dial("tcp", target)
	if err != nil {
		reset(client)
		return
	}
	p.hold(client, server)
	defer p.drop(client, server)
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(client, server) // ends when either side does
		done <- struct{}{}
	}()
	go func() {
		if _, err := io.Copy(&counter{server, p}, client); errors.Is(err, errCut) {
			reset(client)
			reset(server)
		}
		done <- struct{}{}
	}()
	<-done
}

func (p *Proxy) hold(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		_ = c.Close() // it may be cut already
	}
}

// reset drops a connection without a goodbye.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

var errCut = errors.New("cut")

type counter struct {
	to    io.Writer
	proxy *Proxy
}

func (c *counter) Write(b []byte) (int, error) {
	p := c.proxy
	p.mu.Lock()
	p.up += int64(len(b))
	cut := len(p.cuts) > 0 && p.up >= p.cuts[0]
	if cut {
		p.cuts = p.cuts[1:]
		p.made++
	}
	p.mu.Unlock()
	if cut {
		return 0, errCut
	}
	return c.to.Write(b)
}
