// Package resumable takes uploads that survive a lost connection, a sleeping
// phone and a restarted box, over the box's own store, in two protocols:
//
//   - tus 1.0.0 (https://tus.io/protocols/resumable-upload) with the extensions
//     creation, creation-with-upload, creation-defer-length, checksum, expiration
//     and termination. A request of it says so in Tus-Resumable.
//   - the IETF's resumable uploads (draft-ietf-httpbis-resumable-upload), which
//     iOS speaks by itself: interop versions 3 to 9, and the form without a
//     version that the RFC will have. A request that says neither belongs here.
//
// It is a gateway: it speaks protocols and owns no rule. What an upload may do is
// decided by consent and ingest before its body is read.
//
// # What the offset promises
//
// The offset that the box answers is what it has received and can go on from,
// after a restart too: every request that ends, well or by a broken connection,
// leaves a checkpoint behind. Durable in the sense of the box's first promise is
// only the file: its final answer carries Yunbox-Item, and a client must not
// forget its own copy before it has seen that.
//
// Concatenation of tus is not offered: the hash of a whole file cannot be had
// from those of its parts without reading everything again.
//
// # The IETF's protocol
//
// A POST to /v1/uploads takes the file's name and whereabouts as query parameters:
// path, source, source_path, mtime, device and again, as PUT /v1/files does; source decides
// which consent is needed. Without path the file name of Content-Disposition is
// taken, which iOS apps can set on any request. Upload-Metadata as in tus is understood
// too, for tus-js-client sends it in both protocols; the query wins. Repr-Digest
// announces the content: what the person has already is answered at once, what
// arrives is held against it. The last answer is that of PUT /v1/files.
//
// An upload is on the disk before its address is told in 104 (Upload Resumption
// Supported), and that is before the body is read. There is no limit for a single
// request: iOS sends whole videos in one.
//
// Where the drafts leave a choice, or we left them:
//
//   - A version that we do not know makes an ordinary upload of the request,
//     without any means to go on. If it announces a part, it is refused: the part
//     would become the file.
//   - A file whose announced length has arrived is stored, even if the client has
//     not said yet that this was all. Until -11 the answer is still that something
//     may follow.
//   - Whoever says of a stored upload that nothing is missing gets the last answer
//     again, in every version: -12 suggests it, -04 to -11 want a refusal.
//   - Content-Digest of a whole file is kept as the file's. That of a part is held
//     against the part if all of it comes; what arrived of a broken one is kept.
package resumable

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

const (
	tusVersion = "1.0.0"
	extensions = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
	chunkType  = "application/offset+octet-stream"

	// basePath is where uploads are made; below it they live under their ids.
	basePath = "/v1/uploads"
)

// Options are the rooms that the gateway needs. All but Log are needed.
type Options struct {
	Ingest *ingest.Ingest
	// Files gives out what a finished upload became.
	Files *content.Files
	// Device returns nil when the device is one of the user's, else a problem.
	Device func(context.Context, ident.UserID, ident.DeviceID) error
	Log    *slog.Logger
}

// Handler serves the protocol. It is safe for concurrent use and keeps no state
// of its own.
type Handler struct {
	ingest *ingest.Ingest
	files  *content.Files
	device func(context.Context, ident.UserID, ident.DeviceID) error
	log    *slog.Logger
}

// New returns a Handler; Register mounts it.
func New(o Options) *Handler {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Handler{ingest: o.Ingest, files: o.Files, device: o.Device, log: log}
}

// tusHandler answers one method. It writes its own success; an error becomes the
// problem document of the answer.
type tusHandler func(w http.ResponseWriter, r *http.Request) error

// serve answers in the protocol that a request speaks.
func serve(tus tusHandler, ietf draftHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if speaksTus(r) {
			serveTus(w, r, tus)
			return
		}
		serveDraft(w, r, draftOf(r), ietf)
	})
}

// serveTus answers with next, and adds what all methods of tus share: the version
// of the protocol, and the way in which errors leave.
func serveTus(w http.ResponseWriter, r *http.Request, next tusHandler) {
	header := w.Header()
	header.Set("Tus-Resumable", tusVersion)
	header.Set("Cache-Control", "no-store")
	if v := r.Header.Get("Tus-Resumable"); v != tusVersion {
		header.Set("Tus-Version", tusVersion)
		refuse(w, r, &problem.Error{
			Kind: problem.PreconditionFailed, Op: "resumable", Title: "That version of tus is not spoken here",
			Hint: "Send Tus-Resumable: " + tusVersion + ".",
		})
		return
	}
	if err := next(w, r); err != nil {
		refuse(w, r, err)
	}
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if problem.KindOf(err) == problem.Mismatch && r.Header.Get("Upload-Checksum") != "" {
		w = &mismatchWriter{ResponseWriter: w}
	}
	httpd.WriteProblem(w, r, err)
}

// mismatchWriter gives a mismatch the status that the checksum extension wants.
type mismatchWriter struct{ http.ResponseWriter }

func (w *mismatchWriter) WriteHeader(status int) {
	if status == problem.Mismatch.Status() {
		status = statusChecksumMismatch
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *mismatchWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// options says what the box speaks (tus 1.0.0, "OPTIONS"; -12 §"Limits"). It
// needs no version header and tells nothing about the box but its software.
func (h *Handler) options(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Tus-Resumable", tusVersion)
	header.Set("Tus-Version", tusVersion)
	header.Set("Tus-Extension", extensions)
	header.Set("Tus-Max-Size", strconv.FormatInt(ingest.MaxSize, 10))
	header.Set("Tus-Checksum-Algorithm", checksumAlgorithms)
	header.Set("Upload-Limit", maxSizeLimit())
	header.Set("Accept-Patch", chunkType+", "+partialType)
	w.WriteHeader(http.StatusNoContent)
}

// override answers a POST to an upload that stands for another method, for
// clients that cannot send it (tus 1.0.0, "X-HTTP-Method-Override").
func (h *Handler) override(w http.ResponseWriter, r *http.Request) error {
	switch strings.ToUpper(r.Header.Get("X-HTTP-Method-Override")) {
	case http.MethodPatch:
		return h.patch(w, r)
	case http.MethodHead:
		return h.head(w, r)
	case http.MethodDelete:
		return h.terminate(w, r)
	}
	return noOverride()
}

func noOverride() error {
	return &problem.Error{
		Kind: problem.MethodNotAllowed, Op: "resumable.override", Title: "An upload is continued by PATCH",
		Hint: "Send PATCH, or POST with X-HTTP-Method-Override: PATCH.",
	}
}

// look finds out how far an upload got.
func (h *Handler) look(r *http.Request) (ingest.Info, error) {
	info, err := h.ingest.Describe(r.Context(), principal(r).User, r.PathValue("id"))
	if err != nil || info.Finished != nil || info.Offset != info.Meta.Size {
		return info, err
	}
	// All bytes are here, but the box stopped before it could keep the file. A
	// client that reads offset = length takes the file for stored, so it has to be
	// that before we say so.
	err = h.resume(r, info, func(intake *ingest.Intake) error {
		result, err := intake.Finish(intake.Context())
		info.Finished = &result
		return err
	})
	return info, err
}

// head says how far an upload got (tus 1.0.0, "HEAD"). Of a finished one it says
// what became of it, for clients whose last answer was lost.
func (h *Handler) head(w http.ResponseWriter, r *http.Request) error {
	info, err := h.look(r)
	if err != nil {
		return err
	}
	header := w.Header()
	setOffset(header, info.Offset)
	if info.Meta.Size >= 0 {
		header.Set("Upload-Length", strconv.FormatInt(info.Meta.Size, 10))
	} else {
		header.Set("Upload-Defer-Length", "1")
	}
	if info.Meta.Extra != "" {
		header.Set("Upload-Metadata", info.Meta.Extra)
	}
	if info.Finished != nil {
		setResult(header, *info.Finished)
	} else {
		setExpires(header, info.Expires)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// terminate gives an upload up and frees its space (tus 1.0.0, "Termination").
func (h *Handler) terminate(w http.ResponseWriter, r *http.Request) error {
	if err := h.ingest.Cancel(r.Context(), principal(r).User, r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setResult tells what became of a finished upload. The path is percent-encoded
// because header fields are ASCII (RFC 9110 §5.5).
func setResult(h http.Header, result ingest.Result) {
	h.Set("Yunbox-Item", result.Item.ID.String())
	h.Set("Yunbox-Sha256", result.Item.Ref.String())
	h.Set("Yunbox-Stored", result.Stored)
	h.Set("Yunbox-Path", (&url.URL{Path: result.Item.Path}).EscapedPath())
}

func setOffset(h http.Header, n int64) { h.Set("Upload-Offset", strconv.FormatInt(n, 10)) }

// setExpires tells when an unfinished upload is given up (tus 1.0.0,
// "Expiration"; the format is that of HTTP dates).
func setExpires(h http.Header, t time.Time) {
	if !t.IsZero() {
		h.Set("Upload-Expires", t.UTC().Format(http.TimeFormat))
	}
}

func principal(r *http.Request) ident.Principal {
	p, _ := httpd.PrincipalFrom(r.Context()) // the routes are open to the signed-in only
	return p
}
