// Package content is how the HTTP gateways name, judge and give out contents:
// paths in URLs, entity tags, media types, ranges, and bytes that are checked while
// they leave, so that these are the same in every protocol.
package content

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Files gives the contents of files out. It is safe for concurrent use.
type Files struct {
	Catalog *catalog.Catalog
	Store   *storage.Store
	Log     *slog.Logger
}

// Path returns what follows prefix in the path of u, decoded exactly once. A
// separator inside an encoded part is refused: what it would mean differs from
// server to server, and such differences have let attackers out of folders. The
// result is not clean yet: see catalog.CleanPath.
func Path(u *url.URL, prefix string) (string, error) {
	raw, ok := strings.CutPrefix(u.EscapedPath(), prefix)
	if !ok || strings.Contains(strings.ToUpper(raw), "%2F") {
		return "", &problem.Error{
			Kind: problem.Invalid, Op: "content.path", Title: "The address names no file",
			Detail: "A part of the path holds an encoded slash.", Hint: "Write the slashes between folders as they are.",
		}
	}
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return "", &problem.Error{Kind: problem.Invalid, Op: "content.path", Title: "The address cannot be read", Hint: "Percent-encode the path as UTF-8.", Err: err}
	}
	return decoded, nil
}

// Serve answers GET and HEAD with the content of item, with ranges and the
// conditions of RFC 9110 §13. It is content from outside: never shown inside the
// origin of the box, never guessed at (ASVS 5.0 3.2.1). refuse writes an error in
// the form of the protocol.
func (f *Files) Serve(w http.ResponseWriter, r *http.Request, item catalog.Item, refuse func(http.ResponseWriter, *http.Request, error)) {
	ctx := r.Context()
	blob, err := f.sound(ctx, item)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer blob.Close()
	h := w.Header()
	h.Set("Content-Type", Type(item.Name))
	h.Set("Content-Disposition", attachment(item.Name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", ETag(item.Ref))
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(item.Ref[:])+":")
	content := verified(blob, item.Ref)
	http.ServeContent(&partialWriter{ResponseWriter: w, r: r, refuse: refuse}, r, "", item.MTime, content)
	if content.damaged {
		f.suspect(context.WithoutCancel(ctx), item.Ref)
		panic(http.ErrAbortHandler) // the client must see that this was not all of it
	}
}

// sound opens the content of an item. One that is in doubt is read whole first:
// who asks for a part of it could not tell that from a good one.
func (f *Files) sound(ctx context.Context, item catalog.Item) (*storage.Blob, error) {
	doubted, err := f.Catalog.Doubted(ctx, item.Ref)
	if err != nil {
		return nil, err
	}
	damaged := &problem.Error{
		Kind: problem.Damaged, Op: "content.serve", Detail: "The box does not have the whole content of this file any more.",
		Hint: "Send the file again from a device that still has it; `yunboxctl check` tells more.",
	}
	if doubted {
		if damaged.Err = f.Store.Verify(ctx, item.Ref); damaged.Err != nil {
			return nil, damaged
		}
		if err := f.Catalog.Doubt(ctx, item.Ref, false); err != nil {
			return nil, err
		}
	}
	blob, err := f.Store.Get(ctx, item.Ref)
	if err == nil && blob.Size() != item.Size {
		err = errors.Join(storage.ErrDamaged, blob.Close())
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // the reader is gone, which says nothing about the file
		}
		f.suspect(ctx, item.Ref)
		damaged.Err = err
		return nil, damaged
	}
	return blob, nil
}

// suspect reads a content again that did not look good, because memory and
// cables fail, too. If it is damaged, nobody is told any longer that it is
// known: a phone that still has it sends it again, and that heals it.
func (f *Files) suspect(ctx context.Context, ref storage.Ref) {
	err := f.Store.Verify(ctx, ref)
	if err == nil {
		f.Log.WarnContext(ctx, "a content was read wrongly once and is sound", "ref", ref)
		return
	}
	if !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, storage.ErrNotFound) {
		f.Log.WarnContext(ctx, "a content cannot be read right now", "ref", ref, "error", err)
		return // too many open files, for example: that says nothing about the bytes
	}
	f.Log.ErrorContext(ctx, "a content is damaged; it will be asked for again", "ref", ref, "error", err)
	if err := f.Catalog.Doubt(ctx, ref, true); err != nil {
		f.Log.ErrorContext(ctx, "the damage could not be noted", "ref", ref, "error", err)
	}
}
