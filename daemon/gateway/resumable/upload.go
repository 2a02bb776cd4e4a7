package resumable

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// checkpointEvery is how many bytes of one request a power cut may cost. Phones
// send whole videos in one request, and must not begin again after every cut.
const checkpointEvery = 64 << 20

// create begins an upload and takes its first bytes if they come along (tus
// 1.0.0, "Creation", "Creation With Upload").
func (h *Handler) create(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Upload-Concat") != "" {
		return &problem.Error{
			Kind: problem.Unsupported, Op: "resumable.create", Title: "Uploads in parallel parts are not offered",
			Detail: "The request has an Upload-Concat header; concatenation is not in Tus-Extension.",
			Hint:   "Send each file as one upload, and several files at a time.",
		}
	}
	meta, err := h.tusMeta(r)
	if err != nil {
		return err
	}
	withBody := r.ContentLength != 0
	if withBody {
		if err := checkChunk(r, 0, meta.Size); err != nil {
			return err
		}
	}
	sum, err := parseChecksum(r.Header.Get("Upload-Checksum"))
	if err != nil {
		return err
	}
	grant, err := h.grant(r, meta)
	if err != nil {
		return err
	}
	intake, err := h.ingest.Begin(r.Context(), grant, meta)
	if err != nil {
		return err
	}
	return closing(intake, func() error {
		if withBody {
			err = receive(w, r, intake, sum)
		}
		whole := err == nil && intake.Offset() == meta.Size
		switch {
		case whole:
			return h.createdWhole(w, r, intake)
		case err == nil, stalled(err, intake):
			return h.created(w, r, intake)
		}
		return err // the client was told no address to go on from: nothing is kept
	})
}

// closing runs do and lets go of the intake after it.
func closing(intake *ingest.Intake, do func() error) (err error) {
	defer func() { err = errors.Join(err, intake.Close()) }()
	return do()
}

// stalled says whether a body ended because nothing came for too long: that
// client may still be there to read an answer.
func stalled(err error, intake *ingest.Intake) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && intake.Context().Err() == nil
}

// createdWhole keeps a file all of whose bytes came with its creation, so that
// nothing needs to be written down about the upload as such.
func (h *Handler) createdWhole(w http.ResponseWriter, r *http.Request, intake *ingest.Intake) error {
	result, err := intake.Finish(intake.Context())
	if err != nil {
		return err
	}
	setLocation(w, r, intake.ID())
	setResult(w.Header(), result)
	setOffset(w.Header(), result.Item.Size)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// created writes an upload down and tells the client where it goes on.
func (h *Handler) created(w http.ResponseWriter, r *http.Request, intake *ingest.Intake) error {
	ctx := context.WithoutCancel(r.Context())
	if err := intake.Persist(ctx); err != nil {
		return err
	}
	offset := intake.Offset()
	if err := intake.Close(); err != nil {
		return err
	}
	info, err := h.ingest.Describe(ctx, principal(r).User, intake.ID())
	if err != nil {
		return err
	}
	setLocation(w, r, intake.ID())
	setExpires(w.Header(), info.Expires)
	setOffset(w.Header(), offset)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// patch takes the bytes of an upload from where it stands (tus 1.0.0, "PATCH").
func (h *Handler) patch(w http.ResponseWriter, r *http.Request) error {
	info, err := h.ingest.Describe(r.Context(), principal(r).User, r.PathValue("id"))
	if err != nil {
		return err
	}
	offset, err := parseSize(r.Header.Get("Upload-Offset"), "Upload-Offset")
	if err != nil {
		return err
	}
	size, err := deferredSize(r, info.Meta.Size)
	if err != nil {
		return err
	}
	if err := checkChunk(r, offset, size); err != nil {
		return err
	}
	sum, err := parseChecksum(r.Header.Get("Upload-Checksum"))
	if err != nil {
		return err
	}
	if offset != info.Offset {
		return wrongOffset(w, info.Offset)
	}
	if info.Finished != nil { // the last answer was lost and is asked for again
		answerPatch(w, info, info.Finished)
		return nil
	}
	return h.resume(r, info, func(intake *ingest.Intake) error {
		return h.goOn(w, r, info, intake, size, sum)
	})
}

// resume takes an upload up, away from a request of the same client that hangs.
func (h *Handler) resume(r *http.Request, info ingest.Info, do func(*ingest.Intake) error) error {
	grant, err := h.grant(r, info.Meta)
	if err != nil {
		return err
	}
	intake, err := h.ingest.Resume(r.Context(), grant, info.ID)
	if err != nil {
		return err
	}
	return closing(intake, func() error { return do(intake) })
}

// goOn takes the body of a PATCH, and finishes the upload if that was the rest.
func (h *Handler) goOn(w http.ResponseWriter, r *http.Request, info ingest.Info, intake *ingest.Intake, size int64, sum *checksum) error {
	if intake.Offset() != info.Offset { // another request came between
		return wrongOffset(w, intake.Offset())
	}
	if size != info.Meta.Size {
		if err := intake.SetSize(size); err != nil {
			return err
		}
	}
	if r.ContentLength != 0 {
		err := receive(w, r, intake, sum)
		if size < 0 && problem.KindOf(err) == problem.Full {
			// It was never promised the room that it fills. If it kept that for as long
			// as an upload may wait, nobody could store anything meanwhile.
			return errors.Join(err, intake.Discard())
		}
		if err != nil {
			return err
		}
	}
	info.Offset = intake.Offset()
	if info.Offset == size {
		result, err := intake.Finish(intake.Context())
		if err == nil {
			answerPatch(w, info, &result)
		}
		return err
	}
	if err := intake.Checkpoint(intake.Context()); err != nil {
		return err
	}
	answerPatch(w, info, nil)
	return nil
}

func answerPatch(w http.ResponseWriter, info ingest.Info, result *ingest.Result) {
	setOffset(w.Header(), info.Offset)
	if result != nil {
		setResult(w.Header(), *result)
	} else {
		setExpires(w.Header(), info.Expires)
	}
	w.WriteHeader(http.StatusNoContent)
}

// receive writes the body of r where the intake stands. What has arrived belongs
// to the person, so it is written even if the phone is gone by then; what ends it
// is in the intake's context: withdrawal, another request for the same upload,
// the end of the box.
//
// Bytes with an announced checksum count only once it was right. Until then the
// intake makes no checkpoint, so that letting go of it takes them back.
func receive(w http.ResponseWriter, r *http.Request, intake *ingest.Intake, sum *checksum) error {
	ctx := intake.Context()
	body := httpd.ProgressReader(w, r.WithContext(ctx))
	for sum == nil {
		n, err := intake.Write(ctx, intake.Offset(), io.LimitReader(body, checkpointEvery))
		if err != nil || n < checkpointEvery {
			return err
		}
		if err := intake.Checkpoint(ctx); err != nil {
			return err
		}
	}
	intake.Provisional(true)
	if _, err := intake.Write(ctx, intake.Offset(), io.TeeReader(body, sum.hash)); err != nil {
		intake.Provisional(!sum.keepsBroken)
		return err
	}
	if !sum.matches() {
		return &problem.Error{
			Kind: problem.Mismatch, Op: "resumable.checksum",
			Detail: "The checksum of this part is another than " + sum.header + " says. The part was not kept.",
			Hint:   "Send the part again.",
		}
	}
	intake.Provisional(false)
	return nil
}

// grant asks for the consent that the upload's source needs.
func (h *Handler) grant(r *http.Request, meta ingest.Meta) (consent.Grant, error) {
	return h.ingest.Grant(r.Context(), principal(r).User, meta)
}

// tusMeta reads what a creation says about its file.
func (h *Handler) tusMeta(r *http.Request) (ingest.Meta, error) {
	size, err := creationSize(r)
	if err != nil {
		return ingest.Meta{}, err
	}
	header := r.Header.Get("Upload-Metadata")
	m, err := parseMetadata(header)
	if err != nil {
		return ingest.Meta{}, err
	}
	meta, err := h.meta(r, m, size)
	meta.Extra = header
	return meta, err
}

// meta makes of what a client says about its file what ingest wants to know.
func (h *Handler) meta(r *http.Request, m metadata, size int64) (meta ingest.Meta, err error) {
	meta = ingest.Meta{Source: m["source"], DevicePath: m["source_path"], Size: size, Device: principal(r).Device}
	if meta.Path, err = m.path(); err != nil {
		return meta, err
	}
	meta.FindSource()
	if meta.Again, err = m.again(); err != nil {
		return meta, err
	}
	if s := m["mtime"]; s != "" {
		if meta.MTime, err = ingest.ParseMTime(s); err != nil {
			return meta, err
		}
	}
	if s := m["sha256"]; s != "" {
		if meta.Want, err = storage.ParseRef(s); err != nil {
			return meta, badMetadata("The value of sha256 is not 64 lower-case hex digits.")
		}
	}
	if s := m["device"]; s != "" {
		if meta.Device, err = ident.Parse[ident.DeviceID](s); err != nil {
			return meta, badMetadata("The value of device is not the id of a device.")
		}
		if !principal(r).SpeaksFor(meta.Device) {
			return meta, &problem.Error{
				Kind: problem.Forbidden, Op: "resumable.create", Detail: "This app token belongs to another device.",
				Hint: "Leave device out, or make an app token for that device.",
			}
		}
		if err := h.device(r.Context(), principal(r).User, meta.Device); err != nil {
			return meta, err
		}
	}
	return meta, nil
}

// again says whether the person wants just this file, though they deleted it.
func (m metadata) again() (bool, error) {
	switch m["again"] {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, badMetadata("The value of again is neither true nor false.")
}

// path is where the file goes: path, else filename, else a name of our own, for
// clients that say none.
func (m metadata) path() (string, error) {
	for _, key := range []string{"path", "filename"} {
		if p := m[key]; p != "" {
			return catalog.CleanPath(p)
		}
	}
	return "unnamed-" + rand.Text(), nil
}

// creationSize reads Upload-Length or Upload-Defer-Length, of which a creation
// has exactly one. -1: not known yet.
func creationSize(r *http.Request) (int64, error) {
	length, later := r.Header.Get("Upload-Length"), r.Header.Get("Upload-Defer-Length")
	switch {
	case length != "" && later == "":
		return parseSize(length, "Upload-Length")
	case length == "" && later == "1":
		return -1, nil
	}
	return 0, &problem.Error{
		Kind: problem.Invalid, Op: "resumable.create", Title: "The length of the upload is not said",
		Hint: "Send either Upload-Length with the number of bytes, or Upload-Defer-Length: 1.",
	}
}

// deferredSize is the size of an upload whose PATCH may bring it (tus 1.0.0,
// "Creation": Upload-Defer-Length). It may be said once and never changed.
func deferredSize(r *http.Request, known int64) (int64, error) {
	header := r.Header.Get("Upload-Length")
	if header == "" {
		return known, nil
	}
	size, err := parseSize(header, "Upload-Length")
	if err == nil && known >= 0 && size != known {
		err = &problem.Error{
			Kind: problem.Invalid, Op: "resumable.patch", Title: "The length of an upload cannot change",
			Hint: "Leave Upload-Length out, or begin another upload.",
		}
	}
	return size, err
}

func parseSize(s, header string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, &problem.Error{
			Kind: problem.Invalid, Op: "resumable", Title: "The " + header + " header is not a number of bytes",
			Hint: "Send it in decimal digits.",
		}
	case err != nil || n > ingest.MaxSize:
		return 0, &problem.Error{
			Kind: problem.TooLarge, Op: "resumable", Title: "No file of that size is taken",
			Hint: "OPTIONS " + basePath + " tells the largest as Tus-Max-Size.",
		}
	}
	return int64(n), nil
}

// checkChunk looks at a body before it is read: its type, and that it does not
// go beyond the end of the file.
func checkChunk(r *http.Request, offset, size int64) error {
	if mediaType(r) != chunkType {
		return &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "resumable.chunk", Title: "The bytes of an upload have a type of their own",
			Hint: "Send Content-Type: " + chunkType + ".",
		}
	}
	if size >= 0 && (offset > size || r.ContentLength > size-offset) {
		return &problem.Error{
			Kind: problem.TooLarge, Op: "resumable.chunk", Title: "The body goes beyond the end of the file",
			Detail: "The upload was announced with " + strconv.FormatInt(size, 10) + " bytes.",
			Hint:   "Ask with HEAD how much is missing, and send no more than that.",
		}
	}
	return nil
}

func wrongOffset(w http.ResponseWriter, have int64) *problem.Error {
	setOffset(w.Header(), have)
	return &problem.Error{
		Kind: problem.Conflict, Op: "resumable.patch", Title: "The upload stands at another offset",
		Detail:  "The box has " + strconv.FormatInt(have, 10) + " bytes.",
		Hint:    "Go on from there.",
		Members: map[string]any{"offset": have},
	}
}

// origin is the scheme and the host by which the client came: they are proven to
// be the box's own by then.
func origin(r *http.Request) string {
	if r.TLS == nil {
		return "http://" + r.Host
	}
	return "https://" + r.Host
}

func setLocation(w http.ResponseWriter, r *http.Request, id string) {
	w.Header().Set("Location", origin(r)+basePath+"/"+id)
}
