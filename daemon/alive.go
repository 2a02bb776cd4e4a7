package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// Alive reports what of a running box does not answer any more: each listener is called
// as a client would, and the database's writer is asked for a change that it undoes. It
// writes nothing to the disk. nil: all of it answers. What the box answers does not
// count, as long as it does: a full disk or too many clients are no hang, and a restart
// mends neither.
//
// It waits for the database whatever becomes of ctx: whoever calls it notices a writer
// that hangs by Alive not returning.
func (b *Box) Alive(ctx context.Context) error {
	hello := []byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	errs := []error{answers(ctx, "https", b.https, hello)}
	if !strings.HasPrefix(b.local.Addr().String(), "/proc/") { // see listenLongPath: the name has ended
		errs = append(errs, answers(ctx, "local socket", b.local, hello))
	}
	if b.plain != nil {
		errs = append(errs, answers(ctx, "http", b.plain, hello))
	}
	if b.ftp != nil {
		errs = append(errs, answers(ctx, "ftp", b.ftp, nil)) // it speaks first
	}
	if err := b.db.Try(ctx); err != nil && b.refusing() == nil {
		errs = append(errs, fmt.Errorf("database: %w", err))
	}
	return errors.Join(errs...)
}

// answers connects to l, says hello, and waits for a first byte or for being hung up on:
// both show that the loop behind l runs. That the system takes the connection does not.
func answers(ctx context.Context, name string, l net.Listener, hello []byte) error {
	failed := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	addr := l.Addr()
	at := addr.String()
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		at = net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	c, err := new(net.Dialer).DialContext(ctx, addr.Network(), at)
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	if by, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(by); err != nil {
			return failed(err)
		}
	}
	if name == "https" {
		// Who answers is not the question, and it is on this machine.
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
	}
	if _, err := c.Write(hello); err != nil {
		return failed(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return failed(err)
	}
	return nil
}
