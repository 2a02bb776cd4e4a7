package webdav

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// put answers PUT (RFC 4918 §9.7). All that can be refused is refused before the
// body is read; the name keeps what it has until the new content is durable.
func (h *Handler) put(v *visit) error {
	return h.place(v, func(grant consent.Grant, meta ingest.Meta) (ingest.Result, error) {
		return h.take(v, grant, meta)
	})
}

// place has take bring a file to where v puts it, once all that can be refused
// before has been, and answers.
func (h *Handler) place(v *visit, take func(consent.Grant, ingest.Meta) (ingest.Result, error)) error {
	meta, err := h.putMeta(v)
	if err != nil {
		return err
	}
	grant, err := h.ingest.Grant(v.r.Context(), v.who.User, meta)
	if err != nil {
		return err
	}
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) error { return h.mayPut(tx, v, &meta) })
	if err != nil {
		return err
	}
	result, err := take(grant, meta)
	if err != nil {
		return err
	}
	if result.Outcome == catalog.Unchanged && !meta.MTime.IsZero() {
		// The same bytes with another time, as a client sends them that saw a file
		// touched: without the time it would send them again for ever.
		err := h.db.Write(v.r.Context(), func(tx *db.Tx) error {
			return h.catalog.SetMTimeIn(tx, v.who.User, result.Item.ID, meta.MTime)
		})
		if err != nil {
			return err
		}
	}
	if result.Outcome == catalog.Created && v.sent != v.path {
		err := h.db.Write(v.r.Context(), func(tx *db.Tx) error {
			return keepSpelling(tx, v.who.User, holder{item: result.Item.ID}, result.Item.Name, v.sent)
		})
		if err != nil {
			return err
		}
	}
	header := v.w.Header()
	header.Set("ETag", content.ETag(result.Item.Ref))
	header.Set("Yunbox-Item", result.Item.ID.String())
	header.Set("Yunbox-Stored", result.Stored)
	if !meta.MTime.IsZero() {
		header.Set("X-OC-MTime", "accepted")
	}
	if d := v.mount.Dialect; d != nil {
		d.Stored(header, result.Item)
	}
	if result.Outcome == catalog.Created {
		v.w.WriteHeader(http.StatusCreated)
	} else {
		v.w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// mayPut holds the state of the name against the request, and has ingest hold it
// again in the transaction that gives the name, as far as the request cares.
func (h *Handler) mayPut(tx *db.Tx, v *visit, meta *ingest.Meta) error {
	res, err := h.find(tx, v.who.User, v.path)
	if err != nil {
		return err
	}
	if err := h.holds(tx, v, res); err != nil {
		return err
	}
	scope := itself
	switch res.kind {
	case folder:
		return &problem.Error{
			Kind: problem.Conflict, Op: "webdav.put", Title: "The name is taken",
			Detail: "A folder has that name.", Hint: "Choose another name, or move what is there first.",
		}
	case missing:
		scope |= members
		if err := h.around(tx, v.who.User, v.path); err != nil {
			return err
		}
		meta.IfAbsent = v.values("If-None-Match") != ""
	case file:
		if v.values("If-Match") != "" || v.cond.hasTag() {
			meta.IfRef = res.item.Ref
		}
	}
	// A lock may be taken while the body comes, and until the file has its name.
	meta.Require = func(tx *db.Tx) error { return h.unlocked(tx, v, v.path, scope) }
	return h.unlocked(tx, v, v.path, scope)
}

// take brings the body in. What has arrived is written even if the client is gone
// by then; what ends it is in the intake's context.
func (h *Handler) take(v *visit, grant consent.Grant, meta ingest.Meta) (result ingest.Result, err error) {
	if !meta.Want.IsZero() {
		result, known, err := h.ingest.Known(v.r.Context(), grant, meta)
		if err != nil || known {
			return result, err
		}
		if v.r.ContentLength == 0 && meta.Want != storage.Ref(sha256.Sum256(nil)) {
			return result, &problem.Error{
				Kind: problem.BodyNeeded, Op: "webdav.put", Detail: "You have no file with this content on the box.",
				Hint: "Send the same request with the file as its body.",
			}
		}
	}
	intake, err := h.ingest.Begin(v.r.Context(), grant, meta)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, intake.Close()) }()
	ctx := intake.Context()
	if _, err := intake.Write(ctx, 0, httpd.ProgressReader(v.w, v.r.WithContext(ctx))); err != nil {
		return result, err
	}
	return intake.Finish(ctx)
}

// putMeta reads what a PUT says about its file, and refuses what makes no sense.
func (h *Handler) putMeta(v *visit) (ingest.Meta, error) {
	header := v.r.Header
	switch c := header.Get("Content-Encoding"); {
	case header.Get("Content-Range") != "": // RFC 9110 §14.4: a whole file would be taken for it
		return ingest.Meta{}, &problem.Error{
			Kind: problem.Invalid, Op: "webdav.put", Title: "A file cannot be put in parts",
			Detail: "The request has a Content-Range header (RFC 9110 §14.4).",
			Hint:   "Send the whole file, or use resumable uploads at /v1/uploads.",
		}
	case c != "" && !strings.EqualFold(c, "identity"):
		return ingest.Meta{}, &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "webdav.put", Title: "Files are taken as they are, not compressed",
			Hint: "Send the file without Content-Encoding.",
		}
	case v.slash:
		return ingest.Meta{}, &problem.Error{
			Kind: problem.Invalid, Op: "webdav.put", Title: "The address names a folder",
			Detail: "It ends with a slash.", Hint: "Leave the slash out, or make a folder with MKCOL.",
		}
	}
	meta, err := metaOf(v, v.path)
	if err != nil {
		return ingest.Meta{}, err
	}
	if meta.Want, err = httpd.AnnouncedSHA256(header, "Repr-Digest", "Content-Digest"); err != nil {
		return ingest.Meta{}, err
	}
	if meta.Size = v.r.ContentLength; meta.Size < 0 {
		meta.Size = expectedSize(header)
	}
	// A time that cannot be used is not worth the file. That it was not taken shows
	// in the answer, which does not say accepted.
	if t, err := ingest.ParseMTime(header.Get("X-OC-Mtime")); err == nil {
		meta.MTime = t
	}
	if d := v.mount.Dialect; d != nil {
		err = d.Announced(v.r, &meta)
	}
	return meta, err
}

// expectedSize is the size that the Mac's Finder announces beside a body in
// chunks; -1: not said.
func expectedSize(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("X-Expected-Entity-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
