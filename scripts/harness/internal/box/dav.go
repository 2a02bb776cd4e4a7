package box

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// MakeFolder makes a folder by WebDAV.
func (b *Box) MakeFolder(ctx context.Context, path string) error {
	_, err := b.dav(ctx, "MKCOL", path, nil)
	return err
}

// SendDAV sends one file by WebDAV from a stream, and returns when the box has
// acknowledged it. Its folder must be there.
func (b *Box) SendDAV(ctx context.Context, path string, size int64, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, b.URL+"/dav/"+(&url.URL{Path: path}).EscapedPath(), body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+b.Token)
	req.Header.Set("Yunbox-Source", "other")
	_, _, err = exchange(b.client, req)
	return err
}

// SendTus sends one file by tus 1.0 from a stream, in one request that creates the
// upload and one that brings all of it.
func (b *Box) SendTus(ctx context.Context, path string, size int64, body io.Reader) error {
	b64 := base64.StdEncoding.EncodeToString
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+"/v1/uploads", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Tus-Resumable", "1.0.0")
	req.Header.Set("Upload-Length", fmt.Sprint(size))
	req.Header.Set("Upload-Metadata", "path "+b64([]byte(path))+",source "+b64([]byte("other")))
	created, err := b.tus(req)
	if err != nil {
		return err
	}
	if req, err = http.NewRequestWithContext(ctx, http.MethodPatch, created.Get("Location"), body); err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Tus-Resumable", "1.0.0")
	req.Header.Set("Upload-Offset", "0")
	req.Header.Set("Content-Type", "application/offset+octet-stream")
	_, err = b.tus(req)
	return err
}

// SendResumable sends one file from a stream in one request that could be gone on
// with (the IETF's resumable uploads, as iOS 26 speaks them).
func (b *Box) SendResumable(ctx context.Context, path string, size int64, body io.Reader) error {
	query := url.Values{"path": {path}, "source": {"other"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+"/v1/uploads?"+query.Encode(), body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Upload-Draft-Interop-Version", "8")
	req.Header.Set("Upload-Complete", "?1")
	return b.send(b.client, req, nil)
}
