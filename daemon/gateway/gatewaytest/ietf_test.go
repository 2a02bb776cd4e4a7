package gatewaytest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

func TestIETF(t *testing.T)      { t.Parallel(); gatewaytest.Run(t, connectIETF(1, 0)) }
func TestIETFHTTP2(t *testing.T) { t.Parallel(); gatewaytest.RunWire(t, connectIETF(2, 8)) }

func TestOneBoxIETF(t *testing.T) {
	t.Parallel()
	gatewaytest.Across(t, connectIETF(1, 6), connectTus(1, false))
	gatewaytest.Across(t, connectNative(1), connectIETF(2, 0))
}

// ietf is a client of the IETF's resumable uploads that does what iOS does: it
// sends the whole file in one request and learns on the way where it could go on.
type ietf struct {
	wire
	interop int // version; 0: the form of the RFC

	mu      sync.Mutex
	uploads map[string]string // addresses by path
}

func connectIETF(v version, interop int) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client {
		return &ietf{wire: connectWire(t, p, v), interop: interop, uploads: map[string]string{}}
	}
}

func (c *ietf) target(f gatewaytest.File) string {
	query := url.Values{"path": {f.Path}, "source": {f.Source}, "mtime": {gatewaytest.Sent.Format(time.RFC3339Nano)}}
	if f.Again {
		query.Set("again", "true")
	}
	return "/v1/uploads?" + query.Encode()
}

// whole is the field that says that a request brings the rest of the file.
func (c *ietf) whole() (name, value string) {
	if c.interop == 3 {
		return "Upload-Incomplete", "?0"
	}
	return "Upload-Complete", "?1"
}

func (c *ietf) request(ctx context.Context, method, target string, body io.Reader, size int64) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.interop != 0 {
		r.Header.Set("Upload-Draft-Interop-Version", strconv.Itoa(c.interop))
	}
	if body == nil {
		return r, nil
	}
	r.Body = closer(body)
	if r.ContentLength = size; size == 0 {
		r.Body = http.NoBody
	}
	r.Header.Set("Expect", "100-continue")
	r.Header.Set(c.whole())
	return r, nil
}

// Put implements gatewaytest.Client.
func (c *ietf) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	c.remember(f.Path, "")
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == 104 && (c.interop == 0 || h.Get("Upload-Draft-Interop-Version") == strconv.Itoa(c.interop)) {
			c.remember(f.Path, h.Get("Location"))
		}
		return nil
	}})
	r, err := c.request(ctx, http.MethodPost, c.person.Box().URL+c.target(f), f.Body(0), f.Size)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	if f.SHA256 != "" {
		r.Header.Set("Repr-Digest", digest(f.SHA256))
	}
	return c.receipt(r)
}

func (c *ietf) remember(path, location string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uploads[path] = location
}

func (c *ietf) location(path string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uploads[path] == "" {
		return "", errors.New("there is nothing to go on with")
	}
	return c.uploads[path], nil
}

// receipt sends a request whose success is a stored file.
func (c *ietf) receipt(r *http.Request) (gatewaytest.Receipt, error) {
	resp, err := c.do(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer resp.Body.Close()
	var stored struct{ SHA256, Stored string }
	if err := json.NewDecoder(resp.Body).Decode(&stored); err != nil {
		return gatewaytest.Receipt{}, err
	}
	if name, value := c.whole(); resp.Header.Get(name) != value {
		return gatewaytest.Receipt{}, fmt.Errorf("the answer says %s: %q", name, resp.Header.Get(name))
	}
	return gatewaytest.Receipt{SHA256: stored.SHA256, Known: stored.Stored == "known"}, nil
}

// Resume implements gatewaytest.Client.
func (c *ietf) Resume(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	location, err := c.location(f.Path)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r, err := c.request(ctx, http.MethodHead, location, nil, 0)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	resp, err := c.do(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	if err := resp.Body.Close(); err != nil {
		return gatewaytest.Receipt{}, err
	}
	from, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	length, body := int64(-1), f.Body(from) // so that a body of another length than announced can be sent
	if f.Size >= 0 {
		length = f.Size - from
	}
	if name, value := c.whole(); resp.Header.Get(name) == value {
		length, body = 0, strings.NewReader("") // only the last answer is missing
	}
	if r, err = c.request(ctx, http.MethodPatch, location, body, length); err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.Header.Set("Content-Type", "application/partial-upload")
	r.Header.Set("Upload-Offset", strconv.FormatInt(from, 10))
	receipt, err := c.receipt(r)
	receipt.Resumed = from
	return receipt, err
}

// Cancel implements gatewaytest.Client.
func (c *ietf) Cancel(ctx context.Context, path string) error {
	location, err := c.location(path)
	if err != nil {
		return errors.ErrUnsupported // it was refused before there was an upload
	}
	r, err := c.request(ctx, http.MethodDelete, location, nil, 0)
	if err != nil {
		return err
	}
	resp, err := c.do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Announce implements gatewaytest.Client.
func (c *ietf) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	head := "POST " + c.target(f) + " HTTP/1.1\r\nHost: " + c.host() + "\r\nAuthorization: Bearer " + c.person.Token + "\r\n"
	if c.interop != 0 {
		head += "Upload-Draft-Interop-Version: " + strconv.Itoa(c.interop) + "\r\n"
	}
	name, value := c.whole()
	return c.announce(ctx, head+name+": "+value+"\r\nContent-Length: "+size+"\r\n"+reprDigest(f))
}
