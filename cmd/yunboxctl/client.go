package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/discovery"
)

const (
	maxAnswer = 8 << 20 // bytes of a JSON answer that are read
	userAgent = "yunboxctl"
)

// client speaks HTTP/1.1 to one box, as one person or over its own socket. It is
// safe for concurrent use. Errors are *problem.Error: the box's own, or Unavailable
// when the box cannot be reached.
type client struct {
	base   *url.URL // scheme and host
	http   *http.Client
	token  string
	pin    pin
	socket string // path, if it speaks to a daemon on this machine
}

// newClient makes a client for a person's side.
func newClient(base *url.URL, p pin, token string) *client {
	dialer := &net.Dialer{Timeout: 15 * time.Second}
	loopback := isLoopback(base.Hostname())
	return &client{
		base: base, token: token, pin: p,
		http: &http.Client{
			Transport: &http.Transport{
				// A name that claims to be this machine must be: its key was taken on trust.
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := dialer.DialContext(ctx, network, addr)
					if err != nil || !loopback {
						return c, err
					}
					if t, ok := c.RemoteAddr().(*net.TCPAddr); !ok || !t.IP.IsLoopback() {
						c.Close()
						return nil, fmt.Errorf("%s is not on this machine", addr)
					}
					return c, nil
				},
				TLSClientConfig:       p.tlsConfig(base.Hostname()),
				MaxIdleConnsPerHost:   64,
				IdleConnTimeout:       90 * time.Second,
				TLSHandshakeTimeout:   15 * time.Second,
				ExpectContinueTimeout: 2 * time.Second,
				WriteBufferSize:       64 << 10,
				ReadBufferSize:        16 << 10,
			},
			// A redirect could lead the token elsewhere; the box never sends one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// packagedState is where the package keeps the box of a computer that is one.
const packagedState = "/var/lib/yunbox"

// local returns a client for the daemon of --state, which is packagedState where that is.
func (a *app) local() (*client, error) {
	if a.state == "" {
		if info, err := os.Stat(packagedState); err != nil || !info.IsDir() {
			return nil, usagef("this command speaks to the box on this machine: name its state directory with --state DIR")
		}
		a.state = packagedState
	}
	socket := filepath.Join(a.state, "run", "yunboxd.sock")
	return &client{
		base: &url.URL{Scheme: "http", Host: "localhost"}, socket: socket,
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				// The address of a socket holds about 100 bytes; a path from here is shorter.
				if wd, err := os.Getwd(); err == nil && len(socket) > 100 {
					if rel, err := filepath.Rel(wd, socket); err == nil && len(rel) < len(socket) {
						socket = rel
					}
				}
				return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
			},
		}},
	}, nil
}

// person returns a client for a signed-in person.
func (a *app) person(ctx context.Context) (*client, error) {
	base, known, err := a.findBox(ctx, pairing{})
	if err != nil {
		return nil, err
	}
	token := os.Getenv("YUNBOX_TOKEN")
	if token == "" {
		p, err := a.loadProfile()
		if err != nil {
			return nil, err
		}
		// The saved token goes only to the box that gave it, wherever that is now.
		if p.Token != "" && (known == (pin{}) || known.String() == p.Fingerprint) {
			token = p.Token
			if p.Fingerprint != "" {
				if known, err = parsePin(p.Fingerprint); err != nil {
					return nil, err
				}
			} else if base.String() != p.Box {
				token = "" // it was given without encryption, on this machine
			}
		}
	}
	if token == "" {
		return nil, &problem.Error{
			Kind: problem.Unauthenticated, Op: "client", Title: "You are not signed in",
			Hint: "Run `yunboxctl login --box " + base.String() + " --username NAME`, or set YUNBOX_TOKEN.",
		}
	}
	p, err := a.choosePin(ctx, base, known)
	if err != nil {
		return nil, err
	}
	return newClient(base, p, token), nil
}

// stranger returns a client for a box that nobody is signed in to yet.
func (a *app) stranger(ctx context.Context, pair pairing) (*client, error) {
	base, known, err := a.findBox(ctx, pair)
	if err != nil {
		return nil, err
	}
	p, err := a.choosePin(ctx, base, known)
	if err != nil {
		return nil, err
	}
	return newClient(base, p, ""), nil
}

// findBox says where the box is: --box, the box of --state, the one that announces
// the id of the pairing code, or the saved one. The pin is set if the way of
// finding it proves it.
func (a *app) findBox(ctx context.Context, pair pairing) (*url.URL, pin, error) {
	if a.box != "" {
		u, err := parseBox(a.box)
		return u, pair.key, err
	}
	if a.state != "" {
		s, err := a.localStatus(ctx)
		if err != nil {
			return nil, pin{}, err
		}
		if len(s.Addresses) == 0 {
			return nil, pin{}, &problem.Error{Kind: problem.Unavailable, Op: "client", Title: "The box on this machine has no address", Hint: "Start it with --https."}
		}
		p, err := parsePin(s.Fingerprint)
		if err != nil {
			return nil, pin{}, err
		}
		if pair.key != (pin{}) {
			p = pair.key
		}
		u, err := parseBox(nearest(s.Addresses))
		return u, p, err
	}
	if pair.id != "" {
		u, err := discoverBox(ctx, pair.id)
		return u, pair.key, err
	}
	p, err := a.loadProfile()
	if err != nil {
		return nil, pin{}, err
	}
	if p.Box == "" {
		return nil, pin{}, usagef("no box is named: pass --box https://host:port, or log in first")
	}
	u, err := parseBox(p.Box)
	if err != nil {
		return nil, pin{}, err
	}
	if p.Fingerprint == "" { // without encryption, on this machine
		return u, pin{}, nil
	}
	known, err := parsePin(p.Fingerprint)
	return u, known, err
}

// nearest picks the address by which a box on this machine is surely reached: its
// names need a resolver that knows multicast DNS.
func nearest(addresses []string) string {
	for _, a := range addresses {
		if u, err := url.Parse(a); err == nil && isLoopback(u.Hostname()) {
			return a
		}
	}
	for _, a := range addresses {
		if u, err := url.Parse(a); err == nil && net.ParseIP(u.Hostname()) != nil {
			return a
		}
	}
	return addresses[0]
}

// discoverBox looks for the box with a public id on the network. What it finds may
// be forged: only the pin of the pairing code makes it the right one.
func discoverBox(ctx context.Context, id string) (*url.URL, error) { return discoverBy(ctx, "id", id) }

// discoverBy looks for the box that announces a value under key.
func discoverBy(ctx context.Context, key, value string) (*url.URL, error) {
	found, err := discovery.Browse(ctx, discovery.ServiceBox, 3*time.Second)
	if err != nil {
		return nil, unreachable(err)
	}
	for _, f := range found {
		if strings.EqualFold(f.Text[key], value) && len(f.Addrs) > 0 {
			return &url.URL{Scheme: "https", Host: net.JoinHostPort(f.Addrs[0].String(), strconv.Itoa(f.Port))}, nil
		}
	}
	return nil, &problem.Error{
		Kind: problem.Unavailable, Op: "client", Title: "That box was not found on this network",
		Hint: "Check that it is on and on the same network, or name its address with --box.",
	}
}

// parseBox reads the address of a box. Without a scheme it is HTTPS; plain HTTP is
// for this machine only.
func parseBox(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, usagef("--box must be https://host:port")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		return nil, usagef("--box must be https://host:port: nothing personal is sent without encryption")
	}
	if u.Port() == "" && u.Scheme == "https" {
		u.Host = net.JoinHostPort(u.Hostname(), "443")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// request makes a request for a path that is already escaped.
func (c *client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent+"/"+version)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// do sends a request. An answer of 400 or above becomes its problem; the body of
// any other is the caller's to close.
func (c *client) do(req *http.Request) (*http.Response, error) {
	res, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil {
			return nil, cause
		}
		var p *problem.Error
		if errors.As(err, &p) {
			return nil, p
		}
		if c.socket != "" {
			return nil, c.notRunning(err)
		}
		return nil, unreachable(err)
	}
	if res.StatusCode >= 400 {
		defer res.Body.Close()
		return nil, readProblem(res)
	}
	return res, nil
}

// call sends in as JSON (nothing if it is nil) and reads the answer into out.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(err)
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &problem.Error{Kind: problem.Internal, Op: "client", Title: "The box's answer cannot be read", Detail: method + " " + path, Hint: "Is it a box? Use a yunboxctl of its version.", Err: err}
	}
	return nil
}

// readProblem turns an answer that says no into its error (RFC 9457).
func readProblem(res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	e := &problem.Error{Kind: kindOf(res.StatusCode), Op: "client", Title: fmt.Sprintf("The box answered %d", res.StatusCode)}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	if t, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); t != "application/problem+json" {
		return e
	}
	readDocument(e, b)
	return e
}

// parseProblem is the error that a part of an answer holds.
func parseProblem(doc []byte) error {
	e := &problem.Error{Kind: problem.Internal, Op: "client", Title: "The box answered that it could not"}
	readDocument(e, doc)
	return e
}

// readDocument fills e from a problem document (RFC 9457).
func readDocument(e *problem.Error, b []byte) {
	var doc map[string]any
	if json.Unmarshal(b, &doc) != nil {
		return
	}
	text := func(k string) string { s, _ := doc[k].(string); return s }
	if kind, ok := strings.CutPrefix(text("type"), problem.Kind("").Type()); ok {
		e.Kind = problem.Kind(kind)
	}
	e.Title, e.Detail, e.Hint = text("title"), text("detail"), text("hint")
	for _, k := range []string{"type", "title", "status", "detail", "hint"} {
		delete(doc, k)
	}
	e.Members = doc
}

// kindOf is for answers that are no problem documents: a proxy's, a HEAD's.
func kindOf(status int) problem.Kind {
	switch status {
	case http.StatusUnauthorized:
		return problem.Unauthenticated
	case http.StatusForbidden:
		return problem.Forbidden
	case http.StatusNotFound:
		return problem.NotFound
	case http.StatusConflict:
		return problem.Conflict
	case http.StatusGone:
		return problem.Gone
	case http.StatusPreconditionFailed:
		return problem.PreconditionFailed
	case http.StatusUnprocessableEntity:
		return problem.Mismatch
	case http.StatusLocked:
		return problem.Locked
	case http.StatusTooManyRequests:
		return problem.RateLimited
	case http.StatusInsufficientStorage:
		return problem.Full
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return problem.Unavailable
	}
	if status < 500 {
		return problem.Invalid
	}
	return problem.Internal
}

// notRunning says why the daemon on this machine does not answer.
func (c *client) notRunning(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &problem.Error{
			Kind: problem.Forbidden, Op: "client", Title: "Only root and the box's own user may do that",
			Hint: "Run it with sudo.", Err: err,
		}
	}
	detail := "Nobody listens on " + c.socket + "."
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		detail = unreachable(err).(*problem.Error).Detail
	}
	return &problem.Error{
		Kind: problem.Unavailable, Op: "client", Title: "The box on this machine does not answer", Detail: detail,
		Hint: "Is yunboxd running with this --state? `yunboxctl wait` waits until it is up.", Err: err,
	}
}

func unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the address: a path may hold the name of a file
	}
	return &problem.Error{
		Kind: problem.Unavailable, Op: "client", Title: "The box cannot be reached", Detail: err.Error() + ".",
		Hint: "Check that it is on and on this network, and its address.", Err: err,
	}
}
