package resumable

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// draftHandler answers a request of the IETF's protocol, as tusHandler does one
// of tus.
type draftHandler func(w http.ResponseWriter, r *http.Request, d draft) error

// serveDraft answers with next, and adds to its errors what the form asks for.
func serveDraft(w http.ResponseWriter, r *http.Request, d draft, next draftHandler) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	d.setVersion(header)
	err := next(w, r, d)
	if err == nil {
		return
	}
	if d >= draft7 && !d.saysComplete(header) {
		// The error is the upload's, not that of the file that it was to become.
		d.setComplete(header, false)
	}
	if d >= draft6 && problem.KindOf(err) == problem.TooLarge {
		header.Set("Upload-Limit", maxSizeLimit())
	}
	httpd.WriteProblem(w, r, err)
}

// createAny begins an upload in the protocol that the request speaks.
func (h *Handler) createAny(w http.ResponseWriter, r *http.Request) {
	if speaksTus(r) {
		serveTus(w, r, h.create)
		return
	}
	h.createDraft(w, r)
}

// createDraft begins an upload. All that can be refused or answered without its
// body is, then the client is told where to go on ("Upload Creation").
func (h *Handler) createDraft(w http.ResponseWriter, r *http.Request) {
	d, whole, err := creation(r)
	serveDraft(w, r, d, func(w http.ResponseWriter, r *http.Request, d draft) error {
		if err != nil {
			return err
		}
		return h.begin(w, r, d, whole)
	})
}

func (h *Handler) begin(w http.ResponseWriter, r *http.Request, d draft, whole bool) error {
	meta, err := h.draftMeta(r, d, whole)
	if err != nil {
		return err
	}
	var sum *checksum
	if !whole {
		if sum, err = contentDigest(r); err != nil {
			return err
		}
	}
	grant, err := h.grant(r, meta)
	if err != nil {
		return err
	}
	if whole && !meta.Want.IsZero() {
		result, known, err := h.ingest.Known(r.Context(), grant, meta)
		if err != nil {
			return err
		}
		if known {
			setFileLocation(w, r, result)
			return answerFile(w, d, result)
		}
		if r.ContentLength == 0 && meta.Want != storage.Ref(sha256.Sum256(nil)) {
			return &problem.Error{
				Kind: problem.BodyNeeded, Op: "resumable.create", Detail: "You have no file with this content on the box.",
				Hint: "Send the same request with the file as its body.",
			}
		}
	}
	intake, err := h.ingest.Begin(r.Context(), grant, meta)
	if err != nil {
		return err
	}
	return closing(intake, func() error {
		if d == plain {
			return takePlain(w, r, intake)
		}
		// On the disk before the client hears of it: the address holds after a power
		// cut, too.
		if err := intake.Persist(context.WithoutCancel(r.Context())); err != nil {
			return err
		}
		d.announce(w, r, intake.ID(), h.ingest.Expiry())
		setLocation(w, r, intake.ID())
		return h.take(w, r, taking{draft: d, intake: intake, whole: whole, sum: sum, left: h.ingest.Expiry(), status: http.StatusCreated})
	})
}

// takePlain takes a file that is not resumable.
func takePlain(w http.ResponseWriter, r *http.Request, intake *ingest.Intake) error {
	if err := receive(w, r, intake, nil); err != nil {
		return err
	}
	result, err := intake.Finish(intake.Context())
	if err != nil {
		return err
	}
	setFileLocation(w, r, result)
	return answerFile(w, plain, result)
}

// setFileLocation names the file itself, where no upload is left that could be
// named.
func setFileLocation(w http.ResponseWriter, r *http.Request, result ingest.Result) {
	w.Header().Set("Location", origin(r)+"/v1/files/"+(&url.URL{Path: result.Item.Path}).EscapedPath())
}

// taking is a body that belongs to an upload.
type taking struct {
	draft  draft
	intake *ingest.Intake
	whole  bool          // with this body the file is complete
	sum    *checksum     // of the body; nil: none was announced
	left   time.Duration // that the upload lives if this is not the end
	status int           // of the answer if it is not
}

// take receives a body, and keeps the file if that was the rest of it.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, t taking) error {
	d, intake, header := t.draft, t.intake, w.Header()
	announced := intake.Meta().Size
	if r.ContentLength != 0 {
		err := receive(w, r, intake, t.sum)
		switch kind := problem.KindOf(err); {
		case kind == problem.TooLarge && announced >= 0:
			return d.wrongLength("More bytes came than were announced.")
		case kind == problem.Canceled:
			setOffset(header, intake.Offset()) // it goes on from here
			return err
		case err != nil:
			return err
		}
	}
	offset := intake.Offset()
	if t.whole && announced < 0 {
		if err := intake.SetSize(offset); err != nil {
			return err
		}
		announced = offset
	}
	switch {
	case offset == announced:
		// A client that reads its file's length in Upload-Offset takes the file for
		// stored, also if it never said that this was all: tus-js-client is one. So
		// it is stored before we say so.
		return h.finish(w, t)
	case t.whole:
		setOffset(header, offset)
		return d.wrongLength("The body ended before the file did.")
	}
	if err := intake.Checkpoint(intake.Context()); err != nil {
		return err
	}
	setOffset(header, offset)
	d.setLimits(header, t.left)
	d.setComplete(header, false)
	w.WriteHeader(t.status)
	return nil
}

// finish keeps a file of which all bytes are here.
func (h *Handler) finish(w http.ResponseWriter, t taking) error {
	d, header := t.draft, w.Header()
	result, err := t.intake.Finish(t.intake.Context())
	switch problem.KindOf(err) {
	case "":
	case problem.Unavailable, problem.Canceled, problem.Internal, problem.Full, problem.Locked:
		return err // it can be finished another time
	default:
		if d >= draft7 {
			d.setComplete(header, true) // to go on would not help: the error is the file's
		}
		return err
	}
	if !t.whole && d < draft9 {
		// Before -12 only the client could say that it is complete.
		setOffset(header, result.Item.Size)
		setResult(header, result)
		d.setLimits(header, t.left)
		d.setComplete(header, false)
		w.WriteHeader(t.status)
		return nil
	}
	return answerFile(w, d, result)
}

// get is HEAD for clients that prefer GET (-12, "Offset Retrieval"). Once the
// upload is finished it brings the file along, as tus servers do: who sent it can
// compare it under the address that it knows.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	serveDraft(w, r, draftOf(r), func(w http.ResponseWriter, r *http.Request, d draft) error {
		info, err := h.describe(w, r, d)
		if err != nil {
			return err
		}
		if info.Finished == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		item, err := h.files.Catalog.Item(r.Context(), principal(r).User, info.Finished.Item.ID)
		if err != nil {
			return err
		}
		if !item.Trashed.IsZero() || item.Ref != info.Finished.Item.Ref {
			return &problem.Error{
				Kind: problem.NotFound, Op: "resumable.get", Title: "The file is not what was uploaded any more",
				Detail: "It was replaced or put into the trash after the upload.", Hint: "Ask for it by its path, /v1/files/….",
			}
		}
		h.files.Serve(w, r, item, httpd.WriteProblem)
		return nil
	})
}

// headDraft says how far an upload got ("Offset Retrieval").
func (h *Handler) headDraft(w http.ResponseWriter, r *http.Request, d draft) error {
	if _, err := h.describe(w, r, d); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent) // 200 may be said since -03, 204 always
	return nil
}

// describe finds out how far an upload got and says it in the headers of w.
func (h *Handler) describe(w http.ResponseWriter, r *http.Request, d draft) (ingest.Info, error) {
	if err := d.onlyAsks(r, "Upload-Length"); err != nil {
		return ingest.Info{}, err
	}
	info, err := h.look(r)
	if err != nil {
		return info, err
	}
	header := w.Header()
	setOffset(header, info.Offset)
	if info.Meta.Size >= 0 {
		header.Set("Upload-Length", strconv.FormatInt(info.Meta.Size, 10))
	}
	d.setLimits(header, h.ingest.Left(info.Expires))
	d.setComplete(header, info.Finished != nil)
	if info.Finished != nil {
		setResult(header, *info.Finished)
	}
	return info, nil
}

// cancelDraft gives an upload up ("Upload Cancellation").
func (h *Handler) cancelDraft(w http.ResponseWriter, r *http.Request, d draft) error {
	if err := d.onlyAsks(r); err != nil {
		return err
	}
	return h.terminate(w, r)
}

// onlyAsks refuses fields of a request that sends no bytes (-01 to -05).
func (d draft) onlyAsks(r *http.Request, since6 ...string) error {
	forbidden := []string{"Upload-Offset", completeField}
	switch {
	case d == draft3:
		forbidden[1] = incompleteField
	case d == draft6:
		forbidden = append(forbidden, since6...)
	case d > draft6:
		return nil
	}
	for _, name := range forbidden {
		if r.Header.Get(name) != "" {
			return &problem.Error{
				Kind: problem.Invalid, Op: "resumable.draft", Title: "The request has a field that belongs to bytes",
				Detail: name + " is there.", Hint: "Leave it out.",
			}
		}
	}
	return nil
}

// appendDraft takes bytes from where an upload stands ("Upload Append").
func (h *Handler) appendDraft(w http.ResponseWriter, r *http.Request, d draft) error {
	offset, ok := integer(r.Header, "Upload-Offset")
	if !ok {
		return &problem.Error{
			Kind: problem.Invalid, Op: "resumable.append", Title: "The Upload-Offset header is not a number of bytes",
			Hint: "Send it in decimal digits.",
		}
	}
	if d >= draft6 && mediaType(r) != partialType {
		return &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "resumable.append", Title: "The bytes of an upload have a type of their own",
			Hint: "Send Content-Type: " + partialType + ".",
		}
	}
	sum, err := contentDigest(r)
	if err != nil {
		return err
	}
	info, err := h.ingest.Describe(r.Context(), principal(r).User, r.PathValue("id"))
	if err != nil {
		return err
	}
	whole, _ := d.completes(r.Header)
	if info.Finished != nil {
		return appendedToComplete(w, r, d, info, offset)
	}
	if offset != info.Offset {
		return d.wrongOffset(w, info.Offset, offset)
	}
	size, err := d.length(r, offset, whole, info.Meta.Size)
	if err != nil {
		return err
	}
	return h.resume(r, info, func(intake *ingest.Intake) error {
		if have := intake.Offset(); have != offset { // another request came between
			return d.wrongOffset(w, have, offset)
		}
		if size != info.Meta.Size {
			if err := intake.SetSize(size); err != nil {
				return err
			}
		}
		status := http.StatusNoContent
		if d < draft7 {
			status = http.StatusCreated
		}
		return h.take(w, r, taking{draft: d, intake: intake, whole: whole, sum: sum, left: h.ingest.Left(info.Expires), status: status})
	})
}

// appendedToComplete answers bytes for an upload that has all of them. A client
// that lost the last answer may ask for it once more, by saying at the end that
// nothing is missing: -12 suggests that; the drafts before it would refuse.
func appendedToComplete(w http.ResponseWriter, r *http.Request, d draft, info ingest.Info, offset int64) error {
	size := info.Meta.Size
	switch {
	case offset == size && r.ContentLength == 0:
		return answerFile(w, d, *info.Finished)
	case d == draft6 || d == draft7 || d == draft8 && r.ContentLength == 0:
		setOffset(w.Header(), size)
		return alreadyComplete()
	case d == draft8 || d > draft8 && offset == size:
		setOffset(w.Header(), size)
		return d.wrongLength("All of the file has arrived and is stored.")
	}
	return d.wrongOffset(w, size, offset)
}

// draftMeta reads what a request says about a new file: query parameters, which
// win, Upload-Metadata as in tus, and the file name of Content-Disposition.
func (h *Handler) draftMeta(r *http.Request, d draft, whole bool) (ingest.Meta, error) {
	if c := r.Header.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return ingest.Meta{}, &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "resumable.create", Title: "Files are taken as they are, not compressed",
			Hint: "Send the file without Content-Encoding.",
		}
	}
	header := r.Header.Get("Upload-Metadata")
	m, err := parseMetadata(header)
	if err != nil {
		return ingest.Meta{}, err
	}
	if err := m.addQuery(r.URL.RawQuery); err != nil {
		return ingest.Meta{}, err
	}
	if m["path"] == "" && m["filename"] == "" {
		if err := m.addDisposition(r.Header.Get("Content-Disposition")); err != nil {
			return ingest.Meta{}, err
		}
	}
	size, err := d.length(r, 0, whole, -1)
	if err != nil {
		return ingest.Meta{}, err
	}
	meta, err := h.meta(r, m, size)
	if err != nil {
		return ingest.Meta{}, err
	}
	meta.Extra = header
	fields := []string{"Repr-Digest"}
	if whole {
		fields = append(fields, "Content-Digest")
	}
	want, err := httpd.AnnouncedSHA256(r.Header, fields...)
	if err != nil {
		return ingest.Meta{}, err
	}
	if want := storage.Ref(want); !want.IsZero() {
		if !meta.Want.IsZero() && meta.Want != want {
			return ingest.Meta{}, badMetadata("The value of sha256 is another than that of Repr-Digest.")
		}
		meta.Want = want
	}
	return meta, nil
}

// addQuery adds the parameters of an address, each of which may be there once. A
// misspelt one is refused: a lost source or time would be noticed years later.
func (m metadata) addQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return &problem.Error{Kind: problem.Invalid, Op: "resumable.query", Title: "The query of the address cannot be read", Hint: "Percent-encode what is not a letter or a digit."}
	}
	for name, values := range query {
		switch name {
		case "path", "source", "source_path", "mtime", "device", "again":
			if len(values) == 1 {
				m[name] = values[0]
				continue
			}
		}
		return &problem.Error{
			Kind: problem.Invalid, Op: "resumable.query", Title: "The query of the address has a parameter that is not expected",
			Hint: "path, source, source_path, mtime, device and again may be there, each once.",
		}
	}
	return nil
}

// addDisposition adds the name of a Content-Disposition header (RFC 6266 §4.3),
// without the folders that some clients leave in it.
func (m metadata) addDisposition(header string) error {
	if header == "" {
		return nil
	}
	_, params, err := mime.ParseMediaType(header)
	if err != nil {
		return &problem.Error{
			Kind: problem.Invalid, Op: "resumable.create", Title: "The Content-Disposition header cannot be read", Err: err,
			Hint: `Send inline; filename="IMG_0001.jpg", with filename*=UTF-8''… for other letters, or the query parameter path.`,
		}
	}
	name := params["filename"]
	if m["source_path"] == "" {
		m["source_path"] = name
	}
	m["filename"] = name[strings.LastIndexAny(name, `/\`)+1:]
	return nil
}

// contentDigest is what a request announces for its body (RFC 9530 §2). What
// arrives before a break is kept all the same: this protocol asks for it, and the
// digest then speaks of bytes that never came.
func contentDigest(r *http.Request) (*checksum, error) {
	want, err := httpd.AnnouncedSHA256(r.Header, "Content-Digest")
	if err != nil || storage.Ref(want).IsZero() {
		return nil, err
	}
	return &checksum{hash: sha256.New(), want: want[:], header: "Content-Digest", keepsBroken: true}, nil
}

// file is the answer for a stored file: that of PUT /v1/files.
type file struct {
	ID     ident.ItemID `json:"id"`
	Path   string       `json:"path"`
	SHA256 storage.Ref  `json:"sha256"`
	Size   int64        `json:"size"`
	Stored string       `json:"stored"`
	MTime  *string      `json:"mtime"`
}

// answerFile answers with a file that is stored.
func answerFile(w http.ResponseWriter, d draft, result ingest.Result) error {
	item, header := result.Item, w.Header()
	answer := file{ID: item.ID, Path: item.Path, SHA256: item.Ref, Size: item.Size, Stored: result.Stored}
	if !item.MTime.IsZero() {
		s := item.MTime.UTC().Format("2006-01-02T15:04:05.000Z")
		answer.MTime = &s
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	if d != plain {
		setOffset(header, item.Size)
		setResult(header, result)
		d.setComplete(header, true)
	}
	header.Set("ETag", `"`+item.Ref.String()+`"`)
	header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(item.Ref[:])+":")
	header.Set("Content-Type", "application/json")
	status := http.StatusOK
	if result.Stored == ingest.StoredNew {
		status = http.StatusCreated
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone: it can ask for it again
	return nil
}

// overrideDraft is for clients that cannot send PATCH: tus-js-client does this in
// the IETF's forms, too.
func (h *Handler) overrideDraft(w http.ResponseWriter, r *http.Request, d draft) error {
	if strings.EqualFold(r.Header.Get("X-HTTP-Method-Override"), http.MethodPatch) {
		return h.appendDraft(w, r, d)
	}
	return noOverride()
}
