package gatewaytest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

// camera is a client of the camera gateway. It signs in anew for each file, as
// cameras do that save their battery.
type camera struct {
	wire
	secure   bool
	password string
}

func connectFTP(secure bool) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client {
		var made struct{ Token string }
		if p.Token == "" {
			t.Fatal("nobody has a camera")
		}
		p.Call("POST", "/v1/tokens", map[string]any{"name": "suite", "scope": "camera"}, &made)
		return &camera{connectWire(t, p, 1), secure, made.Token}
	}
}

// Folder implements gatewaytest.Terse.
func (*camera) Folder() string { return "Camera/suite" }

// Source implements gatewaytest.Terse.
func (*camera) Source() string { return "camera" }

// Cannot implements gatewaytest.Terse. What is not asked here is asked of the
// gateway in its own tests, as far as FTP has words for it.
func (*camera) Cannot(name string) string {
	return map[string]string{
		"known":         "226 has no room for whether the content was known",
		"cancelled":     "no command gives an upload up: the box forgets it, or what replaces it",
		"hash":          "no command announces a hash",
		"long":          "a file has no announced length; ALLO reserves room and is no limit",
		"sizes":         "a file has no announced length; ALLO reserves room and is no limit",
		"consent":       "there is one source, so there is no other to refuse; see TestNoConsent of the gateway",
		"sources":       "no command says a source",
		"found sources": "there is one source, whatever the names say",
		"withdrawn":     "the case needs a second source on the same protocol; see TestWithdrawnMidway of the gateway",
		"names":         "'..' and '//' are commands of the language and end at the root; see TestHostileNames of the gateway",
		"tokens":        "it has passwords of its own; see TestPasswords of the gateway",
		"deleted":       "no command announces a hash, or says 'again'; see TestDeletedIsDeclined of the gateway",
		"ledger":        "there is one source, no hash is announced, and the device is that of the password",
		"expired":       "a camera has no session that could expire",
	}[name]
}

// ftpConn is a signed-in control connection.
type ftpConn struct {
	*textproto.Conn
	net  net.Conn
	data *tls.Config
}

func (c *camera) signIn(ctx context.Context) (f *ftpConn, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.person.Box().FTP)
	if err != nil {
		return nil, err
	}
	f = &ftpConn{Conn: textproto.NewConn(conn), net: conn}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, _, err = f.ReadResponse(220); err != nil {
		return nil, err
	}
	if c.secure {
		if err = f.say(234, "AUTH TLS"); err != nil {
			return nil, err
		}
		f.data = c.person.Box().TLS()
		f.Conn = textproto.NewConn(tls.Client(conn, f.data))
		if err = errors.Join(f.say(200, "PBSZ 0"), f.say(200, "PROT P")); err != nil {
			return nil, err
		}
	}
	return f, errors.Join(f.say(331, "USER "+c.person.Name), f.say(230, "PASS "+c.password), f.say(200, "TYPE I"))
}

func (f *ftpConn) say(code int, command string) error {
	_, err := f.ask(code, command)
	return err
}

func (f *ftpConn) ask(code int, command string) (string, error) {
	if err := f.PrintfLine("%s", command); err != nil {
		return "", err
	}
	_, text, err := f.ReadResponse(code)
	return text, ftpRefusal(err)
}

// ftpRefusal reads an answer as a person does, who has only its text.
func ftpRefusal(err error) error {
	var answer *textproto.Error
	if !errors.As(err, &answer) {
		return err
	}
	r := &gatewaytest.Refusal{Status: answer.Code, Text: answer.Msg}
	for title, kind := range map[string]string{
		"consent is needed first": "consent-required", "The privacy policy has changed": "consent-required", "You declined the privacy policy": "consent-required",
		"Your share of the box is used up": "quota", "The box is full": "full",
		"The disk did not keep the file": "unavailable", "The box's disk loses data": "unavailable", "The upload broke off": "canceled",
		"The box cannot do that right now": "unavailable",
	} {
		if strings.Contains(answer.Msg, title) {
			r.Kind = kind
		}
	}
	return r
}

// begin opens a data connection and says command; the answer comes before any byte.
func (f *ftpConn) begin(command string) (net.Conn, error) {
	text, err := f.ask(229, "EPSV")
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(f.net.RemoteAddr().String())
	if err != nil {
		return nil, err
	}
	data, err := net.Dial("tcp", net.JoinHostPort(host, strings.Split(text, "|")[3]))
	if err != nil {
		return nil, err
	}
	if err := f.say(150, command); err != nil {
		data.Close()
		return nil, err
	}
	if f.data == nil {
		return data, nil
	}
	return tls.Client(data, f.data), nil
}

func (c *camera) name(f gatewaytest.File) string { return strings.TrimPrefix(f.Path, c.Folder()) }

// Put implements gatewaytest.Client.
func (c *camera) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	conn, err := c.signIn(ctx)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer conn.net.Close()
	// Folders are made by the file that lies in them.
	if f.Size >= 0 {
		if err := conn.say(200, fmt.Sprint("ALLO ", f.Size)); err != nil {
			return gatewaytest.Receipt{}, err
		}
	}
	return c.send(ctx, conn, f, 0)
}

// send is STOR from an offset, and MFMT.
func (c *camera) send(ctx context.Context, conn *ftpConn, f gatewaytest.File, at int64) (gatewaytest.Receipt, error) {
	if at > 0 {
		if err := conn.say(350, fmt.Sprint("REST ", at)); err != nil {
			return gatewaytest.Receipt{}, err
		}
	}
	data, err := conn.begin("STOR " + c.name(f))
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	body := f.Body(at)
	answer := make(chan error, 1)
	go func() {
		_, _, err := conn.ReadResponse(226)
		answer <- ftpRefusal(err)
		if b, ok := body.(io.Closer); ok {
			b.Close() // nobody reads on
		}
	}()
	read := &source{Reader: body}
	if _, err := io.Copy(data, read); err != nil {
		var patience time.Duration
		if read.err == nil {
			patience = time.Minute // the box takes no more, and says why
		}
		select {
		case said := <-answer:
			return gatewaytest.Receipt{}, said
		case <-time.After(patience):
		}
		conn.net.Close() // out of range: both connections end
		data.Close()
		<-answer
		return gatewaytest.Receipt{}, err
	}
	data.Close()
	if err := <-answer; err != nil {
		return gatewaytest.Receipt{}, err
	}
	if err := conn.say(213, "MFMT "+gatewaytest.Sent.Format("20060102150405.000")+" "+c.name(f)); err != nil {
		return gatewaytest.Receipt{}, err
	}
	return c.receipt(ctx, f, at)
}

// A source notes why it could not be read on.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != io.EOF {
		s.err = err
	}
	return n, err
}

// receipt asks the box's interface: 226 says no hash.
func (c *camera) receipt(ctx context.Context, f gatewaytest.File, at int64) (gatewaytest.Receipt, error) {
	cursor := ""
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.person.Box().URL+"/v1/items?recursive=true&limit=1000"+cursor, nil)
		if err != nil {
			return gatewaytest.Receipt{}, err
		}
		resp, err := c.do(r)
		if err != nil {
			return gatewaytest.Receipt{}, err
		}
		var page struct {
			Items []struct{ Path, SHA256 string }
			Next  *string
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil {
			return gatewaytest.Receipt{}, err
		}
		for _, it := range page.Items {
			if it.Path == f.Path {
				return gatewaytest.Receipt{SHA256: it.SHA256, Resumed: at}, nil
			}
		}
		if page.Next == nil {
			return gatewaytest.Receipt{}, fmt.Errorf("226, and %s is not listed", f.Path)
		}
		cursor = "&cursor=" + *page.Next
	}
}

// Resume implements gatewaytest.Client.
func (c *camera) Resume(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	conn, err := c.signIn(ctx)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer conn.net.Close()
	text, err := conn.ask(213, "SIZE "+c.name(f))
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	if at == f.Size { // whole, as every client concludes
		return c.receipt(ctx, f, at)
	}
	return c.send(ctx, conn, f, at)
}

// Cancel implements gatewaytest.Client.
func (*camera) Cancel(context.Context, string) error { return errors.ErrUnsupported }

// Announce implements gatewaytest.Client.
func (c *camera) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	conn, err := c.signIn(ctx)
	if err != nil {
		return err
	}
	defer conn.net.Close()
	if err := conn.say(200, "ALLO "+size); err != nil {
		return err
	}
	data, err := conn.begin("STOR " + c.name(f))
	if err != nil {
		return err
	}
	conn.net.Close()
	return data.Close()
}

var _ gatewaytest.Terse = (*camera)(nil)
