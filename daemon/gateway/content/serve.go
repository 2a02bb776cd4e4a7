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
	"sync"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Files gives the contents of files out. It is safe for concurrent use.
type Files struct {
	Catalog *catalog.Catalog
	Store   *storage.Store
	Log     *slog.Logger

	looking   sync.Mutex // see healed
	surveying sync.Mutex // see parts
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
	var part *partBlob
	if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
		if part, err = f.parts(ctx, blob, item); err != nil {
			if errors.Is(err, storage.ErrDamaged) {
				err = f.broken(ctx, item, err)
			}
			refuse(w, r, err)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", Type(item.Name))
	h.Set("Content-Disposition", attachment(item.Name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", ETag(item.Ref))
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(item.Ref[:])+":")
	if part != nil {
		give(w, r, item.MTime, part, refuse)
		f.settle(ctx, item, part.damaged, nil)
		return
	}
	whole := verified(blob, item.Ref)
	give(w, r, item.MTime, whole, refuse)
	f.settle(ctx, item, whole.damaged, whole.sums)
}

// settle does what is due after a content was read: of one that did not look good the
// client must see that it did not get all, and sums are worth keeping.
func (f *Files) settle(ctx context.Context, item catalog.Item, damaged bool, sums storage.Sums) {
	ctx = context.WithoutCancel(ctx)
	if damaged {
		f.suspect(ctx, item)
		panic(http.ErrAbortHandler)
	}
	if err := f.Catalog.LearnSums(ctx, item.Ref, sums); err != nil {
		f.Log.WarnContext(ctx, "the sums of a content could not be kept", "ref", item.Ref, "error", err)
	}
}

// sound opens the content of an item. One that is in doubt is read whole first:
// who asks for a part of it could not tell that from a good one.
func (f *Files) sound(ctx context.Context, item catalog.Item) (*storage.Blob, error) {
	doubted, err := f.Catalog.Doubted(ctx, item.Ref)
	if err != nil {
		return nil, err
	}
	if doubted && !f.healed(ctx, item) {
		return nil, damaged(storage.ErrDamaged)
	}
	blob, err := f.Store.Get(ctx, item.Ref)
	if err == nil && blob.Size() != item.Size {
		err = errors.Join(storage.ErrDamaged, blob.Close())
	}
	if err != nil {
		return nil, f.broken(ctx, item, err)
	}
	return blob, nil
}

// broken looks at a content again that could not be opened or read, and returns what
// to tell the reader.
func (f *Files) broken(ctx context.Context, item catalog.Item, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the reader is gone, which says nothing about the file
	}
	f.suspect(ctx, item)
	return damaged(err)
}

func damaged(err error) error {
	return &problem.Error{
		Kind: problem.Damaged, Op: "content.serve", Detail: "The box does not have the whole content of this file any more.",
		Hint: "Back it up again from a device that still has it: the box then takes it again.", Err: err,
	}
}

// healed reads a content that is on the list of damages again, so that a file whose
// disk was away for a while is served at once when it is back. One reader at a time
// does that: the others are told what the list says.
func (f *Files) healed(ctx context.Context, item catalog.Item) bool {
	if !f.looking.TryLock() {
		return false
	}
	defer f.looking.Unlock()
	damage, sums, err := f.Store.ReadBack(ctx, item.Ref, item.Size, nil)
	if err != nil || damage != storage.Sound {
		return false
	}
	return f.Catalog.Found(ctx, catalog.ByRead, []catalog.Finding{{Ref: item.Ref, Time: time.Now(), Sums: sums}}) == nil
}

// suspect reads a content again that did not look good, because memory and
// cables fail, too. If it is damaged, nobody is told any longer that it is
// known: a phone that still has it sends it again, and that heals it.
func (f *Files) suspect(ctx context.Context, item catalog.Item) {
	damage, sums, err := f.Store.ReadBack(ctx, item.Ref, item.Size, nil)
	switch {
	case err != nil:
		f.Log.WarnContext(ctx, "a content cannot be read right now", "ref", item.Ref, "error", err)
		return // too many open files, for example: that says nothing about the bytes
	case damage == storage.Sound:
		f.Log.WarnContext(ctx, "a content was read wrongly once and is sound", "ref", item.Ref)
		// If its sums were wrong, they are right from now on.
		f.settle(ctx, item, false, sums)
		return
	}
	f.Log.ErrorContext(ctx, "a content is damaged; it will be asked for again", "ref", item.Ref, "damage", string(damage))
	if err := f.Catalog.Found(ctx, catalog.ByRead, []catalog.Finding{{Ref: item.Ref, Damage: damage}}); err != nil {
		f.Log.ErrorContext(ctx, "the damage could not be noted", "ref", item.Ref, "error", err)
	}
}
