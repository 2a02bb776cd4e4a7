package gatewaytest_test

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

// connectNextcloud makes a client that sends files to Nextcloud's address in one
// request each.
func connectNextcloud(v version) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client {
		return webdav{connectWire(t, p, v), "/remote.php/dav/files/" + url.PathEscape(p.Name) + "/"}
	}
}

// chunkSize of the client; the phones' is larger, and so are their files.
const chunkSize = 64 << 10

// nextcloudChunks is a client of the chunked upload, version 2.
type nextcloudChunks struct {
	webdav
	folders map[string]string // of chunks, by the path of the file
}

// HashComesLast implements gatewaytest.HashComesLast: with the MOVE.
func (nextcloudChunks) HashComesLast() {}

func connectNextcloudChunks(v version) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client {
		return nextcloudChunks{connectNextcloud(v)(t, p).(webdav), map[string]string{}}
	}
}

func (c nextcloudChunks) folder(id string) string {
	return "/remote.php/dav/uploads/" + url.PathEscape(c.person.Name) + "/" + id
}

// ask sends a request to a path with the Destination of f.
func (c nextcloudChunks) ask(ctx context.Context, method, path string, f gatewaytest.File, body io.Reader, size int64, more http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.person.Box().URL+path, body)
	if err != nil {
		return nil, err
	}
	r.ContentLength = size
	if size == 0 {
		r.Body = http.NoBody
	}
	for k, v := range more {
		r.Header[k] = v
	}
	r.Header.Set("Destination", c.person.Box().URL+c.base+escape(f.Path))
	return c.send(r)
}

func total(f gatewaytest.File) http.Header {
	if f.Size < 0 {
		return http.Header{}
	}
	return http.Header{"Oc-Total-Length": {strconv.FormatInt(f.Size, 10)}}
}

func query(f gatewaytest.File) string { return "?source=" + url.QueryEscape(f.Source) }

// Put implements gatewaytest.Client.
func (c nextcloudChunks) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	c.around(ctx, f)
	id := rand.Text()
	resp, err := c.ask(ctx, "MKCOL", c.folder(id)+query(f), f, nil, 0, total(f))
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	resp.Body.Close()
	c.folders[f.Path] = id
	return c.sendFrom(ctx, f, 0, 1)
}

// sendFrom sends the chunks from an offset on, and moves them to where they belong.
func (c nextcloudChunks) sendFrom(ctx context.Context, f gatewaytest.File, off, number int64) (gatewaytest.Receipt, error) {
	from := off
	body := f.Body(off)
	if stop, ok := body.(io.Closer); ok {
		defer stop.Close()
	}
	for done := f.Size >= 0 && off >= f.Size; !done; number++ {
		size, counted := int64(-1), &counter{r: body, left: chunkSize}
		if f.Size >= 0 {
			size = min(chunkSize, f.Size-off)
			counted.left = size
		}
		resp, err := c.ask(ctx, http.MethodPut, fmt.Sprintf("%s/%05d", c.folder(c.folders[f.Path]), number), f, counted, size, http.Header{"Expect": {"100-continue"}})
		if err != nil {
			return gatewaytest.Receipt{}, err
		}
		resp.Body.Close()
		off += counted.n
		done = f.Size >= 0 && off >= f.Size || f.Size < 0 && counted.n < chunkSize
	}
	return c.move(ctx, f, from)
}

// counter reads a chunk from a body.
type counter struct {
	r       io.Reader
	n, left int64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.n += int64(n)
	c.left -= int64(n)
	return n, err
}

// Close ends a read that waits, if the chunk was given up.
func (c *counter) Close() error {
	if stop, ok := c.r.(io.Closer); ok && c.left > 0 {
		return stop.Close()
	}
	return nil
}

func (c nextcloudChunks) move(ctx context.Context, f gatewaytest.File, from int64) (gatewaytest.Receipt, error) {
	more := total(f)
	more.Set("X-OC-Mtime", fmt.Sprintf("%d.%03d", gatewaytest.Sent.Unix(), gatewaytest.Sent.UnixMilli()%1000))
	if f.SHA256 != "" {
		c.announceHash(more, f.SHA256)
	}
	resp, err := c.ask(ctx, "MOVE", c.folder(c.folders[f.Path])+"/.file"+query(f), f, nil, 0, more)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	resp.Body.Close()
	if resp.Header.Get("OC-FileId") == "" || resp.Header.Get("OC-ETag") != resp.Header.Get("ETag") {
		return gatewaytest.Receipt{}, fmt.Errorf("the answer does not name the file: %v", resp.Header)
	}
	return gatewaytest.Receipt{
		SHA256: strings.Trim(resp.Header.Get("ETag"), `"`), Known: resp.Header.Get("Yunbox-Stored") == "known", Resumed: from,
	}, nil
}

// Resume implements gatewaytest.Client: like the phones, it adds up what is there.
func (c nextcloudChunks) Resume(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	resp, err := c.ask(ctx, "PROPFIND", c.folder(c.folders[f.Path]), f, nil, 0, http.Header{"Depth": {"1"}})
	var refused *gatewaytest.Refusal
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return c.move(ctx, f, f.Size) // it may be complete
	}
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer resp.Body.Close()
	var doc struct {
		Responses []struct {
			Href   string `xml:"href"`
			Length *int64 `xml:"propstat>prop>getcontentlength"`
		} `xml:"response"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&doc); err != nil {
		return gatewaytest.Receipt{}, err
	}
	off, number := int64(0), int64(1)
	for _, r := range doc.Responses {
		if r.Length == nil {
			continue
		}
		if want := fmt.Sprintf("%s/%05d", c.folder(c.folders[f.Path]), number); r.Href != want {
			return gatewaytest.Receipt{}, fmt.Errorf("%s is listed, not %s", r.Href, want)
		}
		off += *r.Length
		number++
	}
	return c.sendFrom(ctx, f, off, number)
}

// Cancel implements gatewaytest.Client.
func (c nextcloudChunks) Cancel(ctx context.Context, path string) error {
	resp, err := c.ask(ctx, http.MethodDelete, c.folder(c.folders[path]), gatewaytest.File{Path: path}, nil, 0, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Announce implements gatewaytest.Client.
func (c nextcloudChunks) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	c.around(ctx, f)
	return c.announce(ctx, "MKCOL "+c.folder(rand.Text())+query(f)+" HTTP/1.1\r\nHost: "+c.host()+"\r\nAuthorization: Bearer "+c.person.Token+
		"\r\nDestination: "+c.person.Box().URL+c.base+escape(f.Path)+"\r\nOC-Total-Length: "+size+"\r\n")
}
