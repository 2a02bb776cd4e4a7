package content

import (
	"context"
	"io"
	"net/http"
	"time"

	"yunbox.local/daemon/catalog"
)

// Open returns the content of item for reading, as Serve would send it: one that is
// damaged is refused, and one that is read from its first byte to its last fails at
// its end if it is not what was stored.
func (f *Files) Open(ctx context.Context, item catalog.Item) (io.ReadSeekCloser, error) {
	blob, err := f.sound(ctx, item)
	if err != nil {
		return nil, err
	}
	return &reading{verifiedBlob: verified(blob, item.Ref), ctx: ctx, files: f, item: item}, nil
}

// reading tells the catalogue of damage that it came upon.
type reading struct {
	*verifiedBlob
	ctx   context.Context
	files *Files
	item  catalog.Item
}

// Close implements io.Closer.
func (r *reading) Close() error {
	if r.damaged {
		r.files.suspect(context.WithoutCancel(r.ctx), r.item)
	}
	return r.Blob.Close()
}

// Ranges answers GET and HEAD with what content has, with ranges and the conditions
// of RFC 9110 §13, by the headers that w has already: an entity tag above all.
func Ranges(w http.ResponseWriter, r *http.Request, modified time.Time, content io.ReadSeeker, refuse func(http.ResponseWriter, *http.Request, error)) {
	http.ServeContent(&partialWriter{ResponseWriter: w, r: r, refuse: refuse}, r, "", modified, content)
}
