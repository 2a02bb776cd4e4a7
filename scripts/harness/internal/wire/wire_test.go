package wire

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// sink accepts connections and gives what each of them brought.
func sink(t *testing.T) (address string, received <-chan []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	all := make(chan []byte, 8)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(conn) // a cut ends it with an error
			all <- b
			_ = conn.Close()
		}
	}()
	return ln.Addr().String(), all
}

func TestProxyCutsAndCounts(t *testing.T) {
	address, received := sink(t)
	p, err := Listen(address, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	send := func(n int) error {
		conn, err := net.Dial("tcp", p.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for ; n > 0 && err == nil; n -= 1000 {
			_, err = conn.Write(bytes.Repeat([]byte{'x'}, 1000))
		}
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		if err == nil {
			_, err = io.ReadAll(conn)
		}
		return err
	}
	if err := send(50_000); err != nil {
		t.Errorf("before the cut: %v", err)
	}
	if got := len(<-received); got != 50_000 {
		t.Errorf("%d of 50000 bytes arrived", got)
	}
	if err := send(10_000_000); err == nil {
		t.Error("the cut connection took everything")
	}
	if got := len(<-received); got >= 50_000 {
		t.Errorf("%d bytes passed where the cut was due after 50000", got)
	}
	if err := send(50_000); err != nil {
		t.Errorf("after the cut: %v", err)
	}
	if got := len(<-received); got != 50_000 {
		t.Errorf("%d of 50000 bytes arrived", got)
	}
	if p.Cuts() != 1 || p.Connections() != 3 || p.Sent() < 150_000 {
		t.Errorf("%d cuts, %d connections, %d bytes", p.Cuts(), p.Connections(), p.Sent())
	}
}
