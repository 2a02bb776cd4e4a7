package immich

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage"
)

// The names of the parts of an upload that are files.
const (
	assetPart   = "assetData"
	sidecarPart = "sidecarData"
)

// upload takes one asset (POST /api/assets). Consent is decided before the body as
// far as it can be, and at the latest when the name of the file was read, before
// its bytes; quota and room then, too. The parts may come in any order. Nothing is
// kept before the end of the form was seen.
func (h *Handler) upload(v *visit) error {
	u := &upload{visit: v, h: h, size: -1}
	result, err := u.receive()
	if err = errors.Join(err, u.close()); err != nil {
		return err
	}
	header := v.w.Header()
	header.Set("Yunbox-Item", result.Item.ID.String())
	header.Set("Yunbox-Sha256", result.Item.Ref.String())
	header.Set("Yunbox-Stored", result.Stored)
	header.Set("Yunbox-Path", (&url.URL{Path: result.Item.Path}).EscapedPath())
	doc := object{"id": uuid(ofItem, int64(result.Item.ID)), "status": "created"}
	if result.Stored == ingest.StoredKnown {
		doc["status"] = "duplicate"
		return v.answer(http.StatusOK, doc)
	}
	return v.answer(http.StatusCreated, doc)
}

// An upload is one on its way in.
type upload struct {
	*visit
	h *Handler

	said              map[string]string // the fields so far, those of the query first
	size              int64             // fileSize; -1: not said
	created, modified time.Time
	want              storage.Ref
	wantSHA1          storage.SHA1

	form    *form
	body    swapped
	asset   *ingest.Intake
	name    string // under which the client knows the asset
	sidecar *ingest.Intake
	extra   string // under which it knows the sidecar
	ended   bool   // the asset's part was read
}

// swapped is a reader whose source changes: before consent is known the request
// ends it, after that the intake does, too.
type swapped struct{ io.Reader }

func (u *upload) close() (err error) {
	for _, intake := range []*ingest.Intake{u.asset, u.sidecar} {
		if intake != nil {
			err = errors.Join(err, intake.Close())
		}
	}
	return err
}

func (u *upload) receive() (result ingest.Result, err error) {
	if c := u.r.Header.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return result, &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "immich.upload", Title: "Files are taken as they are, not compressed",
			Hint: "Send the file without Content-Encoding.",
		}
	}
	u.body.Reader = u.r.Body
	if u.form, err = newForm(u.r, &u.body); err != nil {
		return result, err
	}
	if err := u.query(); err != nil {
		return result, err
	}
	if result, known, err := u.known(); err != nil || known {
		return result, err
	}
	if err := u.parts(); err != nil {
		return result, err
	}
	return u.finish()
}

// query reads the fields that stand in the address and, if they are enough,
// decides everything by them.
func (u *upload) query() error {
	values, err := url.ParseQuery(u.r.URL.RawQuery)
	if err != nil {
		return badField("query", "It cannot be read.")
	}
	u.said = map[string]string{}
	for name, list := range values {
		if len(list) != 1 || len(list[0]) > maxField {
			return badField(name, "It is said twice, or is too long.")
		}
		if err := u.field(name, list[0]); err != nil {
			return err
		}
	}
	if s := u.r.Header.Get("X-Immich-Checksum"); s != "" {
		if u.wantSHA1, err = parseSum(s); err != nil {
			return err
		}
	}
	if u.said["path"] == "" {
		return u.h.anyConsent(u.visit)
	}
	_, err = u.grant(u.meta(""))
	return err
}

// field takes what the client says about its file. Fields that mean nothing to
// the box are left out.
func (u *upload) field(name, value string) (err error) {
	if old, twice := u.said[name]; twice && old != value {
		return badField(name, "It is said twice, and differently.")
	}
	switch name {
	case "fileSize":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return badField(name, "It is not a number of bytes in decimal digits.")
		}
		if err != nil || n > ingest.MaxSize {
			return &problem.Error{
				Kind: problem.TooLarge, Op: "immich.upload", Title: "No file of that size is taken",
				Hint: "If the file really is that large, send it in parts.",
			}
		}
		u.size = int64(n)
	case "fileModifiedAt":
		u.modified, err = ingest.ParseMTime(value)
	case "fileCreatedAt":
		// A time that cannot be used is not worth the file: it only finds its folder.
		u.created, _ = ingest.ParseMTime(value)
	case "sha256":
		if u.want, err = storage.ParseRef(value); err != nil {
			return badField(name, "It is not 64 lower-case hex digits.")
		}
	case "path":
		_, err = catalog.CleanPath(value)
	case "filename", "source":
	default:
		return nil // not remembered: there may be many, and they may be long
	}
	u.said[name] = value
	return err
}

func badField(name, detail string) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "immich.field", Title: "A field of the upload cannot be used", Detail: detail,
		Hint: "Correct the field, or leave it out.", Members: map[string]any{"field": name},
	}
}

// meta is what is known about the asset whose part names it so; "": it has not
// come yet.
func (u *upload) meta(filename string) ingest.Meta {
	m := ingest.Meta{
		Device: u.who.Device, Source: u.said["source"], Size: u.size, MTime: u.modified, Want: u.want, WantSHA1: u.wantSHA1,
	}
	if name := u.said["filename"]; name != "" {
		filename = name
	}
	if m.Path = u.said["path"]; m.Path == "" {
		m.Path, m.Beside, m.Once = u.place(filename), true, true
		m.DevicePath = filename
	}
	sourceOf(&m)
	return m
}

// sourceOf decides where a file comes from, and so whose consent it needs. The
// client may say it. Else the names tell, where folders are said; without them, a
// name that only one source gives. Whoever sends to a photo library without saying
// a place says by that that the rest belongs to the album, even if another source
// would be likelier by the name alone.
func sourceOf(m *ingest.Meta) {
	m.FindSource()
	if m.DevicePath != "" && m.SourceBy.Rank() < source.Name.Rank() {
		m.Source, m.SourceBy = source.Album, source.Guess
	}
}

// place is where an asset goes that says no path.
func (u *upload) place(filename string) string {
	when := u.created
	if when.IsZero() {
		when = u.modified
	}
	if when.IsZero() {
		when = time.Now()
	}
	return month(when) + "/" + filename
}

func (u *upload) grant(m ingest.Meta) (consent.Grant, error) {
	return u.h.ingest.Grant(u.r.Context(), u.who.User, m)
}

// anyConsent refuses whoever agreed to nothing that could cover an upload.
func (h *Handler) anyConsent(v *visit) error {
	_, refused := h.consent.GrantFor(v.r.Context(), v.who.User, v.who.Device, source.Album)
	if refused == nil {
		return nil
	}
	for _, s := range source.List() {
		if _, err := h.consent.GrantFor(v.r.Context(), v.who.User, v.who.Device, s); err == nil {
			return nil
		}
	}
	return refused
}

// known answers for a content that the person has already, before the body is
// read. It needs the consent all the same, to whatever the content was kept for.
func (u *upload) known() (result ingest.Result, known bool, err error) {
	m := u.meta("")
	switch {
	case u.said["path"] != "" && !u.want.IsZero():
		// The name is said, and the content: as in PUT /v1/files.
	case u.said["path"] == "" && u.wantSHA1 != storage.SHA1{}:
		it, found, err := u.h.known(u.visit, u.wantSHA1)
		if err != nil || !found {
			return result, false, err
		}
		m.Path, m.Want, m.MTime = it.Path, it.Ref, it.MTime
		m.Source, m.SourceBy = it.Source, source.Confidence(it.SourceBy)
	default:
		return result, false, nil
	}
	grant, err := u.grant(m)
	if err != nil {
		return result, false, err
	}
	return u.h.ingest.Known(u.r.Context(), grant, m)
}

// parts reads the form to its end.
func (u *upload) parts() error {
	if u.said["path"] != "" {
		if err := u.begin(&u.asset, u.meta("")); err != nil {
			return err
		}
	}
	for {
		p, err := u.form.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return u.why(err)
		}
		switch {
		case p.name == assetPart && p.file:
			err = u.take(&u.asset, p, u.meta(p.filename), &u.name)
			u.ended = true
		case p.name == sidecarPart && p.file:
			err = u.take(&u.sidecar, p, u.besides(p.filename), &u.extra)
		case p.file || p.name == assetPart || p.name == sidecarPart:
			err = badField(p.name, "A field is sent as a file, or a file as a field.")
		default:
			err = u.field(p.name, p.value)
		}
		if err != nil {
			return u.why(err)
		}
	}
}

// why is what ended the upload: the person's no is said before that the form,
// which is not read on then, is not whole.
func (u *upload) why(err error) error {
	for _, intake := range []*ingest.Intake{u.asset, u.sidecar} {
		if intake == nil {
			continue
		}
		if cause := context.Cause(intake.Context()); cause != nil {
			return cause
		}
	}
	return err
}

// begin admits a file. From then on the body ends with the consent, too.
func (u *upload) begin(intake **ingest.Intake, m ingest.Meta) error {
	grant, err := u.grant(m)
	if err != nil {
		return err
	}
	if *intake, err = u.h.ingest.Begin(u.r.Context(), grant, m); err != nil {
		return err
	}
	if !u.form.bodyEnded() {
		u.body.Reader = httpd.ProgressReader(u.w, u.r.WithContext((*intake).Context()))
	}
	return nil
}

// take reads a file that is a part of the form.
func (u *upload) take(intake **ingest.Intake, p *part, m ingest.Meta, name *string) error {
	if *name != "" || p.filename == "" {
		return badField(p.name, "There are several files, or one without a name.")
	}
	*name = p.filename
	if *intake == nil {
		if err := u.begin(intake, m); err != nil {
			return err
		}
	}
	if m.Size >= 0 && (*intake).Meta().Size < 0 { // said after the name
		if err := (*intake).SetSize(m.Size); err != nil {
			return err
		}
	}
	_, err := (*intake).Write((*intake).Context(), 0, p)
	return err
}

// besides is what is known about a sidecar before its asset has a place.
func (u *upload) besides(filename string) ingest.Meta {
	m := u.meta(filename)
	m.Path, m.Size, m.Want, m.WantSHA1 = u.place(filename), -1, storage.Ref{}, storage.SHA1{}
	m.Beside, m.Once = true, false
	return m
}

// finish gives the files their names. What came after the bytes is put right
// first.
func (u *upload) finish() (result ingest.Result, err error) {
	if !u.ended {
		return result, badField(assetPart, "It is missing.")
	}
	m := u.meta(u.name)
	if m.Source != u.asset.Meta().Source || m.Want != u.asset.Meta().Want {
		return result, badField(assetPart, "A field that decides about the file came after the file.")
	}
	if m.Size >= 0 && u.asset.Meta().Size < 0 {
		if err := u.asset.SetSize(m.Size); err != nil {
			return result, err
		}
	}
	if err := u.asset.Amend(m.Path, m.MTime); err != nil {
		return result, err
	}
	if result, err = u.asset.Finish(u.asset.Context()); err != nil || u.sidecar == nil {
		return result, err
	}
	if err := u.sidecar.Amend(result.Item.Path+".xmp", m.MTime); err != nil {
		return result, err
	}
	_, err = u.sidecar.Finish(u.sidecar.Context())
	if problem.KindOf(err) == problem.Deleted {
		err = nil // it stays deleted, which the ledger says; the photo is kept
	}
	return result, err
}

var _ httpd.Refuser = endpoint(nil)
