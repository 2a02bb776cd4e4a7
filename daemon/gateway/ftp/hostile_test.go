//go:build linux

package ftp_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/gateway/ftp"
)

var connections = flag.Int("connections", 1000, "how many TestFloodOfConnections makes in vain; 10000 takes a while")

// The box connects to no address that it is told, before and after the sign-in and
// with TLS; and what comes to its port from elsewhere is nobody's data.
func TestBounceToThirdHosts(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	l, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			d, err := l.Accept()
			if err != nil {
				return
			}
			d.Close()
			t.Error("the box connected to an address that it was told")
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	pw := cameraPassword(ada, "cam").Token
	for what, c := range map[string]*client{
		"stranger": dial(t, box, nil), "signed in": login(t, box, nil, "ada", pw), "with TLS": login(t, box, box.TLS(), "ada", pw),
	} {
		for _, command := range []string{
			fmt.Sprintf("PORT 127,0,0,3,%d,%d", port>>8, port&255), fmt.Sprintf("PORT 0127,0,0,03,%d,%d", port>>8, port&255), "PORT 10,0,0,1,0,25", "PORT 127,0,0,3,999,999",
			"PORT 127,0,0,1,0,22", "PORT", "PORT ,,,,,", "PORT -1,-1,-1,-1,-1,-1",
			fmt.Sprintf("EPRT |1|127.0.0.3|%d|", port), fmt.Sprintf("EPRT |2|::ffff:127.0.0.3|%d|", port), "EPRT |2|::1|22|", "EPRT |3|localhost|22|", "EPRT", "EPRT |||||", "EPRT |1|169.254.169.254|80|",
		} {
			if code, text := c.say(command); code < 400 {
				t.Errorf("%s: %s: %d %s", what, command, code, text)
			}
			if code, text := c.say("NLST"); code < 400 {
				t.Errorf("%s: NLST after %s: %d %s", what, command, code, text)
			}
		}
	}
	// PASV names the address that the client reached, and no other gets in.
	c := login(t, box, nil, "ada", pw)
	text := c.must(227, "PASV")
	if !strings.Contains(text, "127,0,0,1,") {
		t.Errorf("PASV says %s", text)
	}
	var a, b, hi, lo int
	if _, err := fmt.Sscanf(text[strings.Index(text, "(")+1:], "127,0,%d,%d,%d,%d)", &a, &b, &hi, &lo); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", hi<<8|lo)
	for i := range 20 {
		thief, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(10+i))}}).Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer thief.Close()
		_, _ = thief.Write([]byte("forged")) // it may be closed already
	}
	d, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	c.must(150, "STOR a.jpg")
	if _, err := d.Write([]byte("real")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if got, _ := file(ada, "Camera/cam/a.jpg"); string(got) != "real" {
		t.Errorf("%q was stored", got)
	}
}

// By no command and no spelling of ".." does a camera leave its folder.
func TestDotDots(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	c := login(t, box, nil, "ada", cameraPassword(ada, "cam").Token)
	for i, dots := range []string{
		"..", "../..", "/..", "//..//..", "./../.", "a/../../..", "%2e%2e", "%2E%2e/%2e%2e", ".%2e", "%252e%252e", "\xc0\xae\xc0\xae", "\xe0\x80\xae\xe0\x80\xae", "．．", "..;", `..\..`, `\..\..`, `..\`, "..\x00", "\x00..",
		"..%00", "..\r..", "...", "....//", ".. ", " ..", "~", "~root", "-la ..", `"..""`, "..\t", "\xff\xff..", "‥", "/proc/self/root", "C:\\..",
	} {
		for _, command := range []string{"CWD ", "MKD ", "XMKD ", "STOR ", "APPE "} {
			argument := dots
			if command == "STOR " || command == "APPE " {
				argument += fmt.Sprintf("/%d.jpg", i)
				_ = c.put(command+argument, []byte("x")) // stored or not, see below
			} else if code, text := c.say(command + argument); code == 0 {
				t.Fatalf("%q: the connection broke: %s", command+argument, text)
			}
		}
		c.must(250, "CWD /")
		for range 3 {
			c.must(250, "CDUP")
		}
		if got := c.must(257, "PWD"); !strings.HasPrefix(got, `"/"`) {
			t.Fatalf("above the root there is %s", got)
		}
	}
	all := items(ada)
	if len(all) == 0 {
		t.Error("nothing was stored: the test says nothing")
	}
	for _, it := range all {
		if !strings.HasPrefix(it.Path, "Camera/cam/") {
			t.Errorf("%q lies outside", it.Path)
		}
		for _, part := range strings.Split(it.Path, "/") {
			if part == ".." || part == "." || part == "" || strings.ContainsAny(part, "\x00\r\n") {
				t.Errorf("%q", it.Path)
			}
		}
	}
	var folders struct{ Folders []struct{ Path string } }
	ada.Call("GET", "/v1/items?limit=1000", nil, &folders)
	for _, f := range folders.Folders {
		if f.Path != "Camera" {
			t.Errorf("a folder was made at %q", f.Path)
		}
	}
}

// Lines without an end, bytes that are no commands and commands by the thousand cost
// a connection at most; others are served meanwhile.
func TestGarbage(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	honest := login(t, box, nil, "ada", pw)
	n := byte(0)
	for what, again := range map[string]string{
		"a line": "AAAAAAAA", "a command": "USER ", "a password": "PASS 0123456789", "NUL": "\x00\x00\x00\x00", "telnet": "\xff\xf4\xff\xf2", "binary": string(content(7, 997)),
		"a TLS record": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTP": "GET / HTTP/1.1\r\nHost: box\r\n\r\n", "empty lines": "\r\n", "returns": "\r",
	} {
		for _, first := range []string{"", "USER ada\r\nPASS " + pw + "\r\n", "USER ada\r\nPASS " + pw + "\r\nSTOR "} {
			n++ // of one address only so many may come at a time
			conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, n)}}).Dial("tcp", box.FTP)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(2 * time.Minute))
			go io.Copy(io.Discard, conn) // an attacker may also leave the answers alone, see below
			_, err = io.Copy(conn, io.LimitReader(io.MultiReader(strings.NewReader(first), &repeated{text: again}), 64<<10))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: neither read on nor ended", what)
			}
			conn.Close()
		}
	}
	// Commands in one packet are answered one by one, in their order.
	c := login(t, box, nil, "ada", pw)
	const times = 200
	if _, err := c.conn.Write(bytes.Repeat([]byte("NOOP\r\nPWD\r\nNONSENSE\r\n"), times)); err != nil {
		t.Fatal(err)
	}
	for range times {
		c.expect(200)
		c.expect(257)
		c.expect(500)
	}
	// Several uploads at once on one connection: one data connection, one file.
	d := c.passive()
	if _, err := io.WriteString(c.conn, "STOR a.jpg\r\nSTOR b.jpg\r\nMKD dir\r\nPWD\r\n"); err != nil {
		t.Fatal(err)
	}
	c.expect(150)
	if _, err := d.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	c.expect(226)
	if code, _, _ := c.ReadResponse(0); code < 400 {
		t.Errorf("a second STOR without a data connection: %d", code)
	}
	c.expect(257)
	c.expect(257)
	// Who reads no answers is waited for no longer than an idle one, and stops nobody.
	deaf, err := net.Dial("tcp", box.FTP)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	deaf.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = io.Copy(deaf, io.LimitReader(&repeated{text: "FEAT\r\n"}, 4<<20)) // until nothing goes any more
	if err := honest.put("STOR honest.jpg", content(8, 10_000)); err != nil {
		t.Errorf("others are hindered: %v", err)
	}
	got := map[string]bool{}
	for _, it := range items(ada) {
		got[it.Path] = true
	}
	if len(got) != 2 || !got["Camera/cam/a.jpg"] || !got["Camera/cam/honest.jpg"] {
		t.Errorf("%v", got)
	}
}

// repeated yields a text without an end.
type repeated struct {
	text string
	at   int
}

// Read implements io.Reader.
func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], r.text[r.at:])
		r.at = (r.at + k) % len(r.text)
		n += k
	}
	return n, nil
}

// However many connect, from however many addresses, a bounded number is served, the
// others are told so, and who was in goes on.
func TestFloodOfConnections(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	c := login(t, box, nil, "ada", cameraPassword(ada, "cam").Token)
	served, refused := 1, 0
	b := make([]byte, 100)
	limits := ftp.DefaultLimits()
	for i := range limits.Conns + *connections {
		from := net.IPv4(127, byte(1+i%5), byte(rand.N(256)), byte(1+rand.N(254)))
		if i%2 == 0 {
			from = net.IPv4(127, 0, 0, 2) // one that wants all of it
		}
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", box.FTP)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
		n, err := conn.Read(b)
		switch line := string(b[:n]); {
		case strings.HasPrefix(line, "220 "):
			served++
		case strings.HasPrefix(line, "421 "):
			refused++
			conn.Close()
		default:
			t.Fatalf("%q, %v", line, err)
		}
	}
	if served != limits.Conns || refused != *connections+1 {
		t.Errorf("%d were served and %d refused, %d may be served", served, refused, limits.Conns)
	}
	if err := c.put("STOR a.jpg", content(9, 1000)); err != nil {
		t.Errorf("who was in before is hindered: %v", err)
	}
}

// Once TLS was asked for there is no way back to the clear, nothing that was slipped
// in before it counts, and there is no TLS inside of TLS.
func TestNoWayBackFromTLS(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	// Commands in the clear right behind AUTH, as somebody between the two could add them.
	conn, err := net.Dial("tcp", box.FTP)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "220 ") {
		t.Fatal(line, err)
	}
	if _, err := io.WriteString(conn, "AUTH TLS\r\nUSER ada\r\nPASS "+pw+"\r\nMKD slipped\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "234 ") {
		t.Fatal(line, err)
	}
	secure := tls.Client(conn, box.TLS())
	if err := secure.Handshake(); err == nil {
		answers := textproto.NewConn(secure)
		if err := answers.PrintfLine("PWD"); err != nil {
			t.Fatal(err)
		}
		if code, text, err := answers.ReadResponse(0); code != 530 {
			t.Errorf("what was slipped in counts: %d %s, %v", code, text, err)
		}
	}
	// In the clear after AUTH.
	c := dial(t, box, nil)
	c.must(234, "AUTH TLS")
	if code, text := c.say("USER ada"); code != 0 {
		t.Errorf("a command in the clear after AUTH is answered: %d %s", code, text)
	}
	// Back to the clear, by the words that there are for it.
	c = login(t, box, box.TLS(), "ada", pw)
	for _, command := range []string{"CCC", "REIN", "AUTH TLS", "AUTH SSL", "AUTH NONE", "AUTH"} {
		if code, text := c.say(command); code < 500 {
			t.Errorf("%s inside of TLS: %d %s", command, code, text)
		}
	}
	if err := c.put("STOR a.jpg", content(4, 1000)); err != nil { // it is as it was
		t.Error(err)
	}
	// Data in the clear on a connection that was promised TLS.
	d := c.passive()
	if code, _ := c.say("STOR b.jpg"); code == 150 {
		_, _ = d.Write(content(5, 1000))
		d.Close()
		if err := c.end(); err == nil {
			t.Error("data in the clear is taken for a photo")
		}
	}
	if all := items(ada); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}
