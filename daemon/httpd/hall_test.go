package httpd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

const password = "four nice words here"

// A hall is a running server with an owner, a member and the routes of the test.
type hall struct {
	*httpd.Server
	t        testing.TB
	id       *httpd.Identity
	accounts *account.Accounts
	addr     string
	client   *http.Client // pins the box's key; no cookies, no redirects
	log      *lockedBuffer

	owner, member account.Session
	files, full   string // app tokens of the member
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open starts a hall; routes registers what the test needs.
func open(t *testing.T, limits httpd.Limits, routes func(*hall)) *hall {
	t.Helper()
	t.Parallel()
	return start(t, limits, routes)
}

func start(t testing.TB, limits httpd.Limits, routes func(*hall)) *hall {
	t.Helper()
	h := &hall{t: t, log: &lockedBuffer{}}
	dir := t.TempDir()
	var err error
	h.id, err = httpd.LoadIdentity(filepath.Join(dir, "keys"), nil)
	check(t, err)
	t.Cleanup(func() { h.id.Close() })
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), BackupDir: dir})
	check(t, err)
	t.Cleanup(func() { d.Close() })
	keys, err := vfs.OpenDir(filepath.Join(dir, "keys"))
	check(t, err)
	t.Cleanup(func() { keys.Close() })
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.accounts, err = account.Open(t.Context(), d, audit.New(d), account.Options{Keys: keys, DeviceID: h.id.ID(), Fingerprint: h.id.Fingerprint(), Log: log})
	check(t, err)
	h.people()
	h.Server = httpd.New(httpd.Options{Identity: h.id, Accounts: h.accounts, Log: log, Limits: limits,
		Names: func() []string { return []string{"nas.home.arpa"} }})
	if routes != nil {
		routes(h)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	h.addr = ln.Addr().String()
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- h.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	h.client = h.newClient(true)
	return h
}

func (h *hall) people() {
	t, ctx := h.t, h.t.Context()
	t.Helper()
	l, err := h.accounts.Label(ctx)
	check(t, err)
	h.owner, err = h.accounts.Bind(ctx, account.BindRequest{Serial: l.Serial, Code: l.Code, Username: "anna", Password: password, Remote: "local"})
	check(t, err)
	_, err = h.accounts.CreateUser(ctx, account.Root("socket"), account.NewUser{Username: "ben", Password: password})
	check(t, err)
	h.member, err = h.accounts.Login(ctx, account.LoginRequest{Username: "ben", Password: password, Remote: "local"})
	check(t, err)
	_, h.files, err = h.accounts.CreateToken(ctx, h.member.Principal, "camera", ident.ScopeFiles, 0)
	check(t, err)
	_, h.full, err = h.accounts.CreateToken(ctx, h.member.Principal, "script", ident.ScopeFull, 0)
	check(t, err)
}

// pin is how a client checks the box: by nothing but the key of its authority,
// then by the names in the leaf, under that authority's constraints.
func (h *hall) pin(name string) *tls.Config {
	want := h.id.Fingerprint()
	return &tls.Config{
		InsecureSkipVerify: true, // replaced by what follows
		ServerName:         name,
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, c := range cs.PeerCertificates {
				if sum := sha256.Sum256(c.RawSubjectPublicKeyInfo); c.IsCA && base64.RawURLEncoding.EncodeToString(sum[:]) == want {
					roots.AddCert(c)
					found = true
				}
			}
			if !found {
				return errors.New("the chain does not hold the pinned key")
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
			return err
		},
	}
}

func (h *hall) newClient(http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: h.pin("127.0.0.1"), ForceAttemptHTTP2: http2}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// raw is a TLS connection that speaks HTTP/1.1 by hand.
func (h *hall) raw() net.Conn {
	h.t.Helper()
	cfg := h.pin("127.0.0.1")
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", h.addr, cfg)
	check(h.t, err)
	h.t.Cleanup(func() { c.Close() })
	check(h.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	return c
}

// speak sends text, with \n as CRLF and HOST replaced, and returns the answers
// until the server closes the connection or want answers have come.
func (h *hall) speak(text string, want int) []*http.Response {
	h.t.Helper()
	c := h.raw()
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\n", "\r\n"), "HOST", h.addr)
	_, err := io.WriteString(c, text)
	check(h.t, err)
	return h.answers(c, want)
}

func (h *hall) answers(c net.Conn, want int) (out []*http.Response) {
	h.t.Helper()
	br := bufio.NewReader(c)
	for len(out) < want {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !isReset(err) {
				h.t.Fatal(err)
			}
			return out
		}
		body, err := io.ReadAll(resp.Body)
		check(h.t, err)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		out = append(out, resp)
	}
	return out
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// request makes a request by the pinned client; edit changes it first.
func (h *hall) request(method, path string, body io.Reader, edit func(*http.Request)) *http.Response {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, "https://"+h.addr+path, body)
	check(h.t, err)
	if edit != nil {
		edit(r)
	}
	resp, err := h.client.Do(r)
	check(h.t, err)
	h.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// document is the body of a problem, which resp must be.
func document(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("status %d, content type %q, body %q", resp.StatusCode, got, body)
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	for _, member := range []string{"type", "title", "hint"} {
		if s, _ := doc[member].(string); s == "" {
			t.Errorf("a problem without %s: %s", member, body)
		}
	}
	if doc["status"] != float64(resp.StatusCode) {
		t.Errorf("status %d says %v", resp.StatusCode, doc["status"])
	}
	return doc
}

func wantProblem(t *testing.T, resp *http.Response, status int, kind string) {
	t.Helper()
	if resp.StatusCode != status {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, body)
	}
	if got := document(t, resp)["type"]; got != "urn:yunbox:problem:"+kind {
		t.Errorf("type %v, want %s", got, kind)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo answers with who asks and what they sent.
func echo(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	p, _ := httpd.PrincipalFrom(r.Context())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": p.Name, "bytes": n, "path": r.PathValue("path")})
}

// each registers echo under a path for every access level.
func each(h *hall) {
	h.Handle("/public", http.HandlerFunc(echo), httpd.Public)
	h.Handle("/signedin", http.HandlerFunc(echo), httpd.SignedIn)
	h.Handle("/files/{path...}", http.HandlerFunc(echo), httpd.Files)
	h.Handle("/admin", http.HandlerFunc(echo), httpd.AdminOnly)
	h.Handle("GET /{$}", http.HandlerFunc(echo), httpd.Public)
	h.Handle("GET /only-get", http.HandlerFunc(echo), httpd.Public)
	h.Handle("GET /tree/", http.HandlerFunc(echo), httpd.Public)
}
