package gatewaytest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

func TestImmich(t *testing.T)      { t.Parallel(); gatewaytest.Run(t, connectImmich(1)) }
func TestImmichHTTP2(t *testing.T) { t.Parallel(); gatewaytest.RunWire(t, connectImmich(2)) }

func TestOneBoxImmich(t *testing.T) {
	t.Parallel()
	gatewaytest.Across(t, connectImmich(1), connectTus(1, false))
	gatewaytest.Across(t, connectWebDAV(1), connectImmich(2))
}

// immich is a client of the upload of photo servers: a form with the file in the
// midst of its fields, and the token as an API key. What the protocol has no word
// for, path and source, stands in the query, as does what must be known before the
// body.
type immich struct{ wire }

// CannotSayAgain implements gatewaytest.Wordless.
func (immich) CannotSayAgain() {}

func connectImmich(v version) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client { return immich{connectWire(t, p, v)} }
}

func (c immich) target(f gatewaytest.File, size string) string {
	query := url.Values{"path": {f.Path}, "source": {f.Source}}
	if size != "" {
		query.Set("fileSize", size)
	}
	if f.SHA256 != "" {
		query.Set("sha256", f.SHA256)
	}
	return "/api/assets?" + query.Encode()
}

const boundary = "-----7d3f-a-boundary"

func field(name, value string) string {
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
}

// body is a form around another body.
type body struct {
	io.Reader
	inner io.Closer
}

// Close implements io.Closer.
func (b body) Close() error { return b.inner.Close() }

// Put implements gatewaytest.Client.
func (c immich) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	size := ""
	if f.Size >= 0 {
		size = strconv.FormatInt(f.Size, 10)
	}
	inner := closer(f.Body(0))
	form := body{io.MultiReader(
		strings.NewReader(field("deviceId", "a phone")+field("fileCreatedAt", "2021-05-06T07:08:09.000Z")+field("isFavorite", "false")+
			"--"+boundary+"\r\nContent-Disposition: form-data; name=\"assetData\"; filename=\"IMG_0001.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n"),
		inner,
		strings.NewReader("\r\n"+field("fileModifiedAt", gatewaytest.Sent.Format(time.RFC3339Nano))+field("visibility", "timeline")+"--"+boundary+"--\r\n"),
	), inner}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.person.Box().URL+c.target(f, size), form)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	r.Header.Set("Expect", "100-continue")
	r.Header.Set("X-Api-Key", c.person.Token)
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return gatewaytest.Receipt{}, refusal(resp)
	}
	return gatewaytest.Receipt{SHA256: resp.Header.Get("Yunbox-Sha256"), Known: resp.StatusCode == http.StatusOK}, nil
}

// Resume implements gatewaytest.Client.
func (immich) Resume(context.Context, gatewaytest.File) (gatewaytest.Receipt, error) {
	return gatewaytest.Receipt{}, errors.ErrUnsupported // one form, one request
}

// Cancel implements gatewaytest.Client.
func (immich) Cancel(context.Context, string) error { return errors.ErrUnsupported }

// Announce implements gatewaytest.Client.
func (c immich) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	return c.announce(ctx, "POST "+c.target(f, size)+" HTTP/1.1\r\nHost: "+c.host()+"\r\nX-Api-Key: "+c.person.Token+
		"\r\nContent-Type: multipart/form-data; boundary="+boundary+"\r\nTransfer-Encoding: chunked\r\n")
}
