package gatewaytest_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

// webdav is a client of RFC 4918: it makes the folders that it needs, and sends a
// file in one request.
type webdav struct {
	wire
	base string // of every address
}

func connectWebDAV(v version) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client {
		return webdav{connectWire(t, p, v), "/dav/"}
	}
}

// target is where a file is put. The source is said in the query, because a header
// cannot end with a space as one of the suite's does.
func (d webdav) target(f gatewaytest.File) string {
	return d.base + escape(f.Path) + "?source=" + url.QueryEscape(f.Source)
}

func (d webdav) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, d.person.Box().URL+d.base+escape(path), body)
}

// send is wire.do with what a DAV:error document says.
func (d webdav) send(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+d.person.Token)
	resp, err := d.transport.RoundTrip(r)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer resp.Body.Close()
	return nil, davRefusal(resp)
}

// davRefusal is refusal for an answer that may be a DAV:error document.
func davRefusal(resp *http.Response) error {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/xml") {
		return refusal(resp) // the front hall's own
	}
	r := &gatewaytest.Refusal{Status: resp.StatusCode, Member: map[string]string{}}
	var doc struct {
		XMLName xml.Name `xml:"DAV: error"`
		Parts   []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&doc); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	for _, p := range doc.Parts {
		switch p.XMLName.Space {
		case "urn:yunbox:problem":
			r.Member[p.XMLName.Local] = p.Text
		case "http://sabredav.org/ns":
			r.Text = p.Text
		}
	}
	r.Kind = strings.TrimPrefix(r.Member["type"], "urn:yunbox:problem:")
	if r.Member["hint"] == "" { // without one there is nothing to go on
		r.Text = ""
	}
	return r
}

// around makes the folders that a path needs. What refuses them refuses the file.
func (d webdav) around(ctx context.Context, f gatewaytest.File) {
	for i, c := range f.Path {
		if c != '/' || i == 0 {
			continue
		}
		r, err := d.request(ctx, "MKCOL", f.Path[:i], nil)
		if err != nil {
			return
		}
		r.Header.Set("Yunbox-Source", f.Source)
		resp, err := d.send(r)
		if err == nil {
			resp.Body.Close()
		}
		var refused *gatewaytest.Refusal
		if errors.As(err, &refused) && refused.Status != http.StatusMethodNotAllowed { // 405: it is there
			return
		}
	}
}

// announceHash says what the content must be, as the clients of each address do.
func (d webdav) announceHash(h http.Header, sha256 string) {
	if d.base == "/dav/" {
		h.Set("Repr-Digest", digest(sha256))
	} else {
		h.Set("OC-Checksum", "SHA256:"+sha256)
	}
}

// Put implements gatewaytest.Client.
func (d webdav) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	d.around(ctx, f)
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, d.person.Box().URL+d.target(f), closer(f.Body(0)))
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	if r.ContentLength = f.Size; f.Size == 0 {
		r.Body = http.NoBody
	} else {
		r.Header.Set("Expect", "100-continue")
	}
	r.Header.Set("X-OC-Mtime", fmt.Sprintf("%d.%03d", gatewaytest.Sent.Unix(), gatewaytest.Sent.UnixMilli()%1000))
	if f.SHA256 != "" {
		d.announceHash(r.Header, f.SHA256)
	}
	resp, err := d.send(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-OC-MTime"); got != "accepted" {
		return gatewaytest.Receipt{}, fmt.Errorf("the modification time was not taken: %q", got)
	}
	return gatewaytest.Receipt{
		SHA256: strings.Trim(resp.Header.Get("ETag"), `"`), Known: resp.Header.Get("Yunbox-Stored") == "known",
	}, nil
}

// Resume implements gatewaytest.Client.
func (webdav) Resume(context.Context, gatewaytest.File) (gatewaytest.Receipt, error) {
	return gatewaytest.Receipt{}, errors.ErrUnsupported // one file, one request
}

// Drive implements gatewaytest.Drive.
func (webdav) Drive() {}

// CannotSayAgain implements gatewaytest.Wordless.
func (webdav) CannotSayAgain() {}

// Cancel implements gatewaytest.Client.
func (webdav) Cancel(context.Context, string) error { return errors.ErrUnsupported }

// Announce implements gatewaytest.Client.
func (d webdav) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	d.around(ctx, f)
	hash := ""
	if f.SHA256 != "" {
		h := http.Header{}
		d.announceHash(h, f.SHA256)
		for name := range h {
			hash += name + ": " + h.Get(name) + "\r\n"
		}
	}
	return d.announce(ctx, "PUT "+d.target(f)+" HTTP/1.1\r\nHost: "+d.host()+"\r\nAuthorization: Bearer "+d.person.Token+
		"\r\nContent-Length: "+size+"\r\n"+hash)
}

// Get implements gatewaytest.Client.
func (d webdav) Get(ctx context.Context, path string) ([]byte, error) {
	r, err := d.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.send(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
