package daemon

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A listener that nobody accepts on looks alive to the kernel, and to nobody else; one
// that hangs up at once is alive.
func TestAListenerThatNobodyServesIsNoticed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, name := range []string{"http", "https"} {
		if err := answers(ctx, name, l, []byte("hello")); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, 5)) //nolint:errcheck // it hangs up anyway
			c.Close()
		}
	}()
	for _, name := range []string{"http", "https"} {
		if err := answers(t.Context(), name, l, []byte("hello")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
