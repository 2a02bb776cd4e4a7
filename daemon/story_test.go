package daemon_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// The story tests tell what a person lives through with a whole box, over real
// TLS, in one piece.

// a story's answer: status, header and body, or the problem in it.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) kind() string {
	var p struct{ Type string }
	if r.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(r.body, &p) != nil {
		return ""
	}
	return strings.TrimPrefix(p.Type, "urn:yunbox:problem:")
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// is fails the test unless the reply has that status and kind.
func (r reply) is(t *testing.T, what string, status int, kind string) reply {
	t.Helper()
	if r.status != status || r.kind() != kind {
		t.Fatalf("%s: %v; expected %d %s", what, r, status, kind)
	}
	return r
}

func (r reply) into(t *testing.T, out any) {
	t.Helper()
	if err := json.Unmarshal(r.body, out); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
}

// ask sends a request as p with a body, JSON if it looks like it. headers are
// name, value, name, value.
func ask(p *daemontest.Person, method, target, body string, headers ...string) reply {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := p.Request(method, target, in)
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	status, header, got := p.Do(r)
	return reply{status, header, got}
}

// put sends a file from the album that must be kept.
func put(t *testing.T, p *daemontest.Person, path, content string) {
	t.Helper()
	if r := ask(p, "PUT", "/v1/files/"+path+"?source=album", content); r.status/100 != 2 {
		t.Fatalf("%s: %v", path, r)
	}
}

func sumOf(content string) string {
	s := sha256.Sum256([]byte(content))
	return hex.EncodeToString(s[:])
}

func digestOf(content string) string {
	s := sha256.Sum256([]byte(content))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(s[:]) + ":"
}

// raw opens a connection to the box that a test writes HTTP/1.1 on by hand.
func raw(t *testing.T, b *daemontest.Box) net.Conn {
	t.Helper()
	d := tls.Dialer{Config: b.TLS(), NetDialer: &net.Dialer{Timeout: time.Minute}}
	c, err := d.DialContext(t.Context(), "tcp", hostOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func hostOf(t *testing.T, b *daemontest.Box) string {
	t.Helper()
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// read reads one answer from a connection.
func read(t *testing.T, c net.Conn) reply {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if resp.Close {
		resp.Header.Set("Connection", "close") // where ReadResponse took it from
	}
	return reply{resp.StatusCode, resp.Header, bytes.TrimSpace(body)}
}
