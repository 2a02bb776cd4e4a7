//go:build linux

package ftp_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
)

// startBox runs a box whose camera gateway also lets clients in that know no TLS,
// with an owner who consented to cameras.
func startBox(t *testing.T) (*daemontest.Box, *daemontest.Person) {
	t.Helper()
	box := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.FTP, c.FTPPlain = "127.0.0.1:0", true })
	ada := box.Bind()
	ada.Grant("camera_transfer")
	return box, ada
}

type token struct{ ID, Token string }

// cameraPassword makes a password for a camera.
func cameraPassword(p *daemontest.Person, name string) (made token) {
	p.Call("POST", "/v1/tokens", map[string]any{"name": name, "scope": "camera"}, &made)
	return made
}

// A client speaks FTP as a camera does.
type client struct {
	*textproto.Conn
	t    testing.TB
	conn net.Conn // of the commands
	tls  *tls.Config
	data *tls.Config // nil: data in the clear
}

// dial connects, and says AUTH TLS if cfg is not nil.
func dial(t testing.TB, box *daemontest.Box, cfg *tls.Config) *client {
	t.Helper()
	return dialFrom(t, box, cfg, net.IPv4(127, 0, 0, 1))
}

func dialFrom(t testing.TB, box *daemontest.Box, cfg *tls.Config, ip net.IP) *client {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}).Dial("tcp", box.FTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{Conn: textproto.NewConn(conn), t: t, conn: conn, tls: cfg}
	c.expect(220)
	if cfg != nil {
		c.must(234, "AUTH TLS")
		secure := tls.Client(conn, cfg)
		c.Conn = textproto.NewConn(secure)
		c.must(200, "PBSZ 0")
		c.must(200, "PROT P")
		c.data = cfg
	}
	return c
}

// login is dial and the sign-in of a person with a password.
func login(t testing.TB, box *daemontest.Box, cfg *tls.Config, name, password string) *client {
	t.Helper()
	c := dial(t, box, cfg)
	c.must(331, "USER "+name)
	c.must(230, "PASS "+password)
	c.must(200, "TYPE I")
	return c
}

func (c *client) expect(code int) string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	got, text, err := c.ReadResponse(0)
	if got != code {
		c.t.Fatalf("answered %d %s, %v; %d was expected", got, text, err, code)
	}
	return text
}

// must sends a command whose answer must have that code.
func (c *client) must(code int, command string) string {
	c.t.Helper()
	got, text := c.say(command)
	if got != code {
		c.t.Fatalf("%s: %d %s; %d was expected", strings.Fields(command)[0], got, text, code)
	}
	return text
}

// say sends a command and returns its answer, 0 for none.
func (c *client) say(command string) (int, string) {
	c.t.Helper()
	if err := c.PrintfLine("%s", command); err != nil {
		return 0, err.Error()
	}
	c.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	code, text, err := c.ReadResponse(0)
	if code == 0 {
		text = err.Error()
	}
	return code, text
}

// passive opens a data connection, without TLS yet.
func (c *client) passive() net.Conn {
	c.t.Helper()
	text := c.must(229, "EPSV")
	parts := strings.Split(text, "|")
	host, _, err := net.SplitHostPort(c.conn.RemoteAddr().String())
	if err != nil || len(parts) != 5 {
		c.t.Fatalf("%q: %v", text, err)
	}
	d, err := net.Dial("tcp", net.JoinHostPort(host, parts[3]))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { d.Close() })
	return d
}

// begin says command and returns the data connection once the box takes it; a
// refusal is its answer.
func (c *client) begin(command string) (net.Conn, error) {
	c.t.Helper()
	raw := c.passive()
	if code, text := c.say(command); code != 150 {
		raw.Close()
		return nil, &refused{code, text}
	}
	if c.data == nil {
		return raw, nil
	}
	secure := tls.Client(raw, c.data)
	return secure, secure.Handshake()
}

type refused struct {
	code int
	text string
}

func (r *refused) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// put sends body with command and returns the last answer.
func (c *client) put(command string, body []byte) error {
	c.t.Helper()
	d, err := c.begin(command)
	if err != nil {
		return err
	}
	if _, err := d.Write(body); err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	return c.end()
}

// end reads the answer to a transfer.
func (c *client) end() error {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	code, text, err := c.ReadResponse(0)
	if code == 0 {
		return err
	}
	if code != 226 {
		return &refused{code, text}
	}
	return nil
}

// list returns the lines of a listing.
func (c *client) list(command string) (lines []string) {
	c.t.Helper()
	d, err := c.begin(command)
	if err != nil {
		c.t.Fatal(err)
	}
	for s := bufio.NewScanner(d); s.Scan(); {
		lines = append(lines, s.Text())
	}
	d.Close()
	if err := c.end(); err != nil {
		c.t.Fatal(err)
	}
	return lines
}

// size asks with SIZE, -1 for what is not there.
func (c *client) size(name string) int64 {
	c.t.Helper()
	code, text := c.say("SIZE " + name)
	if code != 213 {
		return -1
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// reset ends a connection as a crashed network stack does.
func reset(c net.Conn) {
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// file reads what the person has at path, false if there is nothing.
func file(p *daemontest.Person, path string) ([]byte, bool) {
	status, _, body := p.Do(p.Request("GET", "/v1/files/"+path, nil))
	return body, status == 200
}

type item struct {
	Path, Source, SHA256 string
	Size                 int64
	MTime                time.Time
}

func items(p *daemontest.Person) []item {
	var page struct{ Items []item }
	p.Call("GET", "/v1/items?recursive=true&limit=1000", nil, &page)
	return page.Items
}

func uploads(box *daemontest.Box) int {
	var st struct{ Uploads int }
	box.Local("GET", "/local/status", nil, &st)
	return st.Uploads
}

// eventually waits for what the box does by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}
