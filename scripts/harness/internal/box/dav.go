package box

import (
	"context"
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
