package gatewaytest_test

import (
	"bufio"
	"context"
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
	"strconv"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

// wire is what HTTP clients have in common.
type wire struct {
	person    *daemontest.Person
	transport *http.Transport
}

// version of HTTP that a client speaks.
type version int

func connectWire(t testing.TB, p *daemontest.Person, v version) wire {
	w := wire{p, &http.Transport{TLSClientConfig: p.Box().TLS(), ForceAttemptHTTP2: v == 2, ExpectContinueTimeout: time.Minute}}
	t.Cleanup(w.transport.CloseIdleConnections)
	return w
}

// Reconnect forgets the connections to a box that was started anew.
func (w wire) Reconnect() { w.transport.CloseIdleConnections() }

// Get reads a file over the box's own interface: none of the protocols here has
// a way of its own.
func (w wire) Get(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.person.Box().URL+"/v1/files/"+escape(path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// do sends a request as the person; an answer that is no 2xx is a Refusal.
func (w wire) do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+w.person.Token)
	resp, err := w.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp, nil
}

func refusal(resp *http.Response) error {
	r := &gatewaytest.Refusal{Status: resp.StatusCode, Member: map[string]string{}}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the answer %s broke off: %w", resp.Status, err)
	}
	if resp.Header.Get("Content-Type") != "application/problem+json" {
		return r // net/http's own, about a request that was no HTTP
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil && resp.Request.Method != http.MethodHead {
		return fmt.Errorf("%s: %w in %q", resp.Status, err, body)
	}
	for k, v := range doc {
		r.Member[k], _ = v.(string)
	}
	r.Kind = strings.TrimPrefix(r.Member["type"], "urn:yunbox:problem:")
	if r.Member["hint"] != "" { // without one there is nothing to go on
		r.Text = r.Member["title"] + ". " + r.Member["detail"] + " " + r.Member["hint"]
	}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		r.Kind, r.Text = kinds[resp.StatusCode], "an answer to HEAD has no body"
	}
	return r
}

// kinds is what the status of an answer to HEAD says.
var kinds = map[int]string{400: "invalid", 401: "unauthenticated", 403: "consent-required", 404: "not-found", 503: "unavailable", 507: "full"}

// announce writes the head of a request on a connection of its own, as HTTP/1.1,
// and no body. With and without "Expect: 100-continue" a refusal must come all
// the same; only with it there is an answer that says go on.
func (w wire) announce(ctx context.Context, head string) error {
	err := w.announceOnce(ctx, head+"Expect: 100-continue\r\n\r\n")
	if err == nil {
		return nil
	}
	again := w.announceOnce(ctx, head+"\r\n")
	var a, b *gatewaytest.Refusal
	if errors.As(err, &a) && (!errors.As(again, &b) || a.Status != b.Status || a.Kind != b.Kind) {
		return fmt.Errorf("with Expect: %w; without: %v", err, again)
	}
	return err
}

func (w wire) announceOnce(ctx context.Context, head string) error {
	d := tls.Dialer{Config: w.person.Box().TLS()}
	c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(w.person.Box().URL, "https://"))
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	method, _, _ := strings.Cut(head, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 <= 2 {
		return nil
	}
	return davRefusal(resp)
}

func (w wire) host() string {
	u, err := url.Parse(w.person.Box().URL)
	if err != nil {
		return "" // the box made it
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return ""
	}
	return u.Host
}

// native is a client of PUT /v1/files.
type native struct{ wire }

func connectNative(v version) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client { return native{connectWire(t, p, v)} }
}

func (n native) target(f gatewaytest.File) string {
	again := ""
	if f.Again {
		again = "&again=true"
	}
	return "/v1/files/" + escape(f.Path) + "?source=" + url.QueryEscape(f.Source) + "&mtime=" + fmt.Sprintf("%d.%03d", gatewaytest.Sent.Unix(), gatewaytest.Sent.UnixMilli()%1000) + again
}

// Put implements gatewaytest.Client.
func (n native) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, n.person.Box().URL+n.target(f), closer(f.Body(0)))
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.ContentLength = f.Size
	if f.Size == 0 {
		r.Body = http.NoBody
	}
	if f.Size != 0 {
		r.Header.Set("Expect", "100-continue")
	}
	if f.SHA256 != "" {
		r.Header.Set("Repr-Digest", digest(f.SHA256))
	}
	resp, err := n.do(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer resp.Body.Close()
	var stored struct{ SHA256, Stored string }
	if err := json.NewDecoder(resp.Body).Decode(&stored); err != nil {
		return gatewaytest.Receipt{}, err
	}
	return gatewaytest.Receipt{SHA256: stored.SHA256, Known: stored.Stored == "known"}, nil
}

// Resume implements gatewaytest.Client.
func (native) Resume(context.Context, gatewaytest.File) (gatewaytest.Receipt, error) {
	return gatewaytest.Receipt{}, errors.ErrUnsupported // one file, one request
}

// Cancel implements gatewaytest.Client.
func (native) Cancel(context.Context, string) error { return errors.ErrUnsupported }

// Announce implements gatewaytest.Client.
func (n native) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	return n.announce(ctx, "PUT "+n.target(f)+" HTTP/1.1\r\nHost: "+n.host()+"\r\nAuthorization: Bearer "+n.person.Token+
		"\r\nContent-Length: "+size+"\r\n"+reprDigest(f))
}

// reprDigest is the header that announces the content of f, if it is to be.
func reprDigest(f gatewaytest.File) string {
	if f.SHA256 == "" {
		return ""
	}
	return "Repr-Digest: " + digest(f.SHA256) + "\r\n"
}

// closer is what net/http wants to close; some bodies of the suite can be.
func closer(r io.Reader) io.ReadCloser {
	if c, ok := r.(io.ReadCloser); ok {
		return c
	}
	return io.NopCloser(r)
}

func digest(sha256 string) string {
	b, err := hex.DecodeString(sha256)
	if err != nil {
		panic(err) // the suite made it
	}
	return "sha-256=:" + base64.StdEncoding.EncodeToString(b) + ":"
}

func escape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// tus is a client of resumable uploads, tus 1.0.0.
type tus struct {
	wire
	whole   bool              // send the body along with the creation
	uploads map[string]string // addresses by path, as a phone remembers them
}

func connectTus(v version, whole bool) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client {
		return &tus{connectWire(t, p, v), whole, map[string]string{}}
	}
}

func metadata(f gatewaytest.File) string {
	pairs := []string{"path " + encode(f.Path), "source " + encode(f.Source), "mtime " + encode(gatewaytest.Sent.Format(time.RFC3339Nano))}
	if f.SHA256 != "" {
		pairs = append(pairs, "sha256 "+encode(f.SHA256))
	}
	if f.Again {
		pairs = append(pairs, "again "+encode("true"))
	}
	return strings.Join(pairs, ",")
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Put implements gatewaytest.Client.
func (c *tus) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	delete(c.uploads, f.Path)
	var body io.Reader = http.NoBody
	if c.whole {
		body = f.Body(0)
	}
	r, err := c.request(ctx, http.MethodPost, c.person.Box().URL+"/v1/uploads", body, f.Size)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.Header.Set("Upload-Metadata", metadata(f))
	if f.Size >= 0 {
		r.Header.Set("Upload-Length", strconv.FormatInt(f.Size, 10))
	} else {
		r.Header.Set("Upload-Defer-Length", "1")
	}
	h, err := c.header(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	c.uploads[f.Path] = h.Get("Location")
	if receipt, ok := stored(h); ok {
		return receipt, nil
	}
	if c.whole {
		if f.Size < 0 { // all is there; only that it is all has not been said
			return c.end(ctx, f)
		}
		return gatewaytest.Receipt{}, errors.New("all was sent, and the box did not say stored")
	}
	return c.send(ctx, f, 0)
}

// request is one of tus, with a body whose length is said if it is known.
func (c *tus) request(ctx context.Context, method, target string, body io.Reader, size int64) (*http.Request, error) {
	if body != http.NoBody {
		body = closer(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Tus-Resumable", "1.0.0")
	if body != http.NoBody {
		r.Header.Set("Content-Type", "application/offset+octet-stream")
		r.Header.Set("Expect", "100-continue")
		if r.ContentLength = size; size == 0 {
			r.Body = http.NoBody
		}
	}
	return r, nil
}

func (c *tus) header(r *http.Request) (http.Header, error) {
	resp, err := c.do(r)
	if err != nil {
		return nil, err
	}
	return resp.Header, resp.Body.Close()
}

func stored(h http.Header) (gatewaytest.Receipt, bool) {
	return gatewaytest.Receipt{SHA256: h.Get("Yunbox-Sha256"), Known: h.Get("Yunbox-Stored") == "known"}, h.Get("Yunbox-Item") != ""
}

// send sends the body from an offset on.
func (c *tus) send(ctx context.Context, f gatewaytest.File, from int64) (gatewaytest.Receipt, error) {
	length := int64(-1) // so that a body of another length than announced can be sent
	if f.Size >= 0 {
		length = f.Size - from
	}
	if f.SHA256 != "" {
		length = -1
	}
	r, err := c.request(ctx, http.MethodPatch, c.uploads[f.Path], f.Body(from), length)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.Header.Set("Upload-Offset", strconv.FormatInt(from, 10))
	h, err := c.header(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	receipt, ok := stored(h)
	receipt.Resumed = from
	switch {
	case ok:
		return receipt, nil
	case f.Size < 0:
		return c.end(ctx, f)
	}
	return receipt, fmt.Errorf("the box has %s bytes and did not say stored", h.Get("Upload-Offset"))
}

// end says how long an upload is whose bytes are all there.
func (c *tus) end(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	offset, _, err := c.offset(ctx, f)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r, err := c.request(ctx, http.MethodPatch, c.uploads[f.Path], strings.NewReader(""), 0)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.Header.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	r.Header.Set("Upload-Length", strconv.FormatInt(offset, 10))
	h, err := c.header(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	receipt, ok := stored(h)
	if !ok {
		return receipt, errors.New("the length was said, and the box did not say stored")
	}
	return receipt, nil
}

func (c *tus) offset(ctx context.Context, f gatewaytest.File) (int64, http.Header, error) {
	r, err := c.request(ctx, http.MethodHead, c.uploads[f.Path], http.NoBody, 0)
	if err != nil {
		return 0, nil, err
	}
	h, err := c.header(r)
	if err != nil {
		return 0, nil, err
	}
	n, err := strconv.ParseInt(h.Get("Upload-Offset"), 10, 64)
	return n, h, err
}

// Resume implements gatewaytest.Client.
func (c *tus) Resume(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	if c.whole {
		return gatewaytest.Receipt{}, errors.ErrUnsupported // the address was in the answer that did not come
	}
	if c.uploads[f.Path] == "" {
		return gatewaytest.Receipt{}, errors.New("there is nothing to go on with")
	}
	offset, h, err := c.offset(ctx, f)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	if receipt, ok := stored(h); ok {
		return receipt, nil
	}
	return c.send(ctx, f, offset)
}

// Cancel implements gatewaytest.Client.
func (c *tus) Cancel(ctx context.Context, path string) error {
	if c.whole || c.uploads[path] == "" {
		return errors.ErrUnsupported
	}
	r, err := c.request(ctx, http.MethodDelete, c.uploads[path], http.NoBody, 0)
	if err != nil {
		return err
	}
	_, err = c.header(r)
	return err
}

// Announce implements gatewaytest.Client.
func (c *tus) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	return c.announce(ctx, "POST /v1/uploads HTTP/1.1\r\nHost: "+c.host()+"\r\nAuthorization: Bearer "+c.person.Token+
		"\r\nTus-Resumable: 1.0.0\r\nUpload-Metadata: "+metadata(f)+"\r\nUpload-Length: "+size+
		"\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: 1\r\n")
}
