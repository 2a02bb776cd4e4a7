package box

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// A Source gives a file's bytes from one offset up to another.
type Source func(from, to int64) io.Reader

// errOutOfRange is why a client stops in the middle.
var errOutOfRange = errors.New("the phone went out of range")

// broken is a body that ends in an error: the client drops the connection.
func broken(r io.Reader) io.Reader { return io.MultiReader(r, lost{}) }

type lost struct{}

func (lost) Read([]byte) (int, error) { return 0, errOutOfRange }

// CutTus sends a file by tus 1.0, loses the connection after cut bytes, asks where
// the upload stands and sends the rest. It returns how many bytes were sent twice.
func (b *Box) CutTus(ctx context.Context, path string, size, cut int64, source Source, want string) (again int64, err error) {
	b64 := base64.StdEncoding.EncodeToString
	ask := func(method, target string, header map[string]string, body io.Reader, length int64) (http.Header, error) {
		req, err := http.NewRequestWithContext(ctx, method, target, body)
		if err != nil {
			return nil, err
		}
		req.ContentLength = length
		req.Header.Set("Tus-Resumable", "1.0.0")
		for name, value := range header {
			req.Header.Set(name, value)
		}
		return b.tus(req)
	}
	patch := func(target string, at int64, body io.Reader) (http.Header, error) {
		return ask(http.MethodPatch, target, map[string]string{"Upload-Offset": fmt.Sprint(at), "Content-Type": "application/offset+octet-stream"}, body, size-at)
	}
	created, err := ask(http.MethodPost, b.URL+"/v1/uploads", map[string]string{
		"Upload-Length": fmt.Sprint(size), "Upload-Metadata": "path " + b64([]byte(path)) + ",source " + b64([]byte("other"))}, nil, 0)
	if err != nil {
		return 0, err
	}
	upload := created.Get("Location")
	if _, err := patch(upload, 0, broken(source(0, cut))); !errors.Is(err, errOutOfRange) {
		return 0, fmt.Errorf("the cut upload ended with %w", err)
	}
	stands, err := ask(http.MethodHead, upload, nil, nil, 0)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(stands.Get("Upload-Offset"), 10, 64)
	if err != nil {
		return 0, err
	}
	last, err := patch(upload, at, source(at, size))
	if err != nil {
		return 0, err
	}
	return cut - at, sameHash(path, last.Get("Yunbox-Sha256"), want)
}

// CutResumable is CutTus by the IETF's resumable uploads, in one request that is
// broken off.
func (b *Box) CutResumable(ctx context.Context, path string, size, cut int64, source Source, want string) (again int64, err error) {
	upload := ""
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if code == 104 {
			upload = header.Get("Location")
		}
		return nil
	}})
	send := func(ctx context.Context, method, target string, header map[string]string, body io.Reader, length int64) (http.Header, []byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, target, body)
		if err != nil {
			return nil, nil, err
		}
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer "+b.Token)
		req.Header.Set("Upload-Draft-Interop-Version", "8")
		for name, value := range header {
			req.Header.Set(name, value)
		}
		return exchange(b.client, req)
	}
	whole := map[string]string{"Upload-Complete": "?1", "Content-Type": "application/partial-upload"}
	query := url.Values{"path": {path}, "source": {"other"}}
	if _, _, err := send(traced, http.MethodPost, b.URL+"/v1/uploads?"+query.Encode(), map[string]string{"Upload-Complete": "?1"}, broken(source(0, cut)), size); !errors.Is(err, errOutOfRange) {
		return 0, fmt.Errorf("the cut upload ended with %w", err)
	}
	stands, _, err := send(ctx, http.MethodHead, upload, nil, nil, 0)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(stands.Get("Upload-Offset"), 10, 64)
	if err != nil {
		return 0, err
	}
	whole["Upload-Offset"] = fmt.Sprint(at)
	if _, _, err := send(ctx, http.MethodPatch, upload, whole, source(at, size), size-at); err != nil {
		return 0, err
	}
	got, err := b.Hash(ctx, path)
	if err != nil {
		return 0, err
	}
	return cut - at, sameHash(path, got, want)
}

// CutChunks is CutTus by Nextcloud's chunks: the chunk that broke off is sent again.
func (b *Box) CutChunks(ctx context.Context, path, user string, size, cut, chunk int64, source Source, want string) (again int64, err error) {
	ask := func(method, name string, body io.Reader, length int64) (http.Header, error) {
		req, err := http.NewRequestWithContext(ctx, method, b.URL+"/remote.php/dav/uploads/"+user+"/cut"+name, body)
		if err != nil {
			return nil, err
		}
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer "+b.Token)
		req.Header.Set("Yunbox-Source", "other")
		req.Header.Set("Destination", b.URL+"/remote.php/dav/files/"+user+"/"+(&url.URL{Path: path}).EscapedPath())
		header, _, err := exchange(b.client, req)
		return header, err
	}
	if _, err := ask("MKCOL", "", nil, 0); err != nil {
		return 0, err
	}
	for n := int64(0); n*chunk < size; n++ {
		from, to := n*chunk, min((n+1)*chunk, size)
		name := fmt.Sprintf("/%05d", n+1)
		if cut > from && cut < to {
			if _, err := ask(http.MethodPut, name, broken(source(from, cut)), to-from); !errors.Is(err, errOutOfRange) {
				return 0, fmt.Errorf("the cut chunk ended with %w", err)
			}
			again = cut - from
		}
		if _, err := ask(http.MethodPut, name, source(from, to), to-from); err != nil {
			return 0, err
		}
	}
	header, err := ask("MOVE", "/.file", nil, 0)
	if err != nil {
		return 0, err
	}
	return again, sameHash(path, strings.Trim(header.Get("ETag"), `"`), want)
}

// CutFTP is CutTus by FTP: a session that ends in the middle, and another that goes on.
func (b *Box) CutFTP(ctx context.Context, c *Camera, secure bool, path string, size, cut int64, source Source, want string) (again int64, err error) {
	first, err := c.Connect(ctx, secure)
	if err != nil {
		return 0, err
	}
	data, err := first.Begin(ctx, path, 0)
	if err == nil {
		_, err = io.Copy(data, source(0, cut))
	}
	first.Close() // a kernel closes in the order in which they were opened
	if data != nil {
		_ = data.Close()
	}
	if err != nil {
		return 0, err
	}
	second, err := c.Connect(ctx, secure)
	if err != nil {
		return 0, err
	}
	defer second.Close()
	at, err := second.Size(path)
	if err != nil {
		return 0, err
	}
	if data, err = second.Begin(ctx, path, at); err != nil {
		return 0, err
	}
	_, err = io.Copy(data, source(at, size))
	if err = errors.Join(err, data.Close()); err != nil {
		return 0, err
	}
	if err := second.End(); err != nil {
		return 0, err
	}
	got, err := b.Hash(ctx, path)
	if err != nil {
		return 0, err
	}
	return cut - at, sameHash(path, got, want)
}
