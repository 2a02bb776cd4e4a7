// Package immich takes photos from the upload programs of Immich users: the
// command line program of that project, and immich-go. It speaks the part of that
// server's HTTP interface which they call, below /api, as it was observed on the
// wire and is described by its OpenAPI document (major version 3). The app for
// phones is not served: it needs the whole of that server.
//
// It is a gateway: it speaks a protocol and owns no rule.
//
// # What becomes what
//
//   - An API key is an app token of the box.
//   - An asset is an item; its id is the item's, written as a UUID (version 8).
//   - The protocol has no folders. An upload lies under Photos/<year>/<month> by its
//     fileCreatedAt, with the name that it brought; other bytes of the same name get
//     the next free one ("a (2).jpg"), and bytes that a live item has already get no
//     other name: the answer is that item.
//   - An album is a folder in Albums. An asset that is added to it gets a further
//     name there: one content, as many names, each counted as the catalogue counts.
//     A slash in an album's name is kept as U+FF0F, which looks like one.
//   - A sidecar (.xmp) is a file beside its asset.
//   - Favourites, descriptions, visibility, positions and tags are not kept: the box
//     has no place for them, and its answers say so.
//
// Where a file comes from decides whose consent it needs. The protocol has no word
// for that; see sourceOf.
//
// # Beyond the protocol
//
// The fields of an upload may also stand in the query of its address. What stands
// there is known, and judged, before the body is read. Three fields are the box's
// own: path (the whole path, instead of a place by date), source, and sha256.
package immich

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// Options are the rooms that the gateway needs, all of them.
type Options struct {
	Consent *consent.Ledger
	Catalog *catalog.Catalog
	Ingest  *ingest.Ingest
	DB      *db.DB
	Files   *content.Files
}

// Handler serves the protocol. It is safe for concurrent use and keeps no state
// of its own.
type Handler struct {
	consent *consent.Ledger
	catalog *catalog.Catalog
	ingest  *ingest.Ingest
	db      *db.DB
	files   *content.Files
}

// New returns a Handler; Register mounts it.
func New(o Options) *Handler {
	return &Handler{consent: o.Consent, catalog: o.Catalog, ingest: o.Ingest, db: o.DB, files: o.Files}
}

// Register mounts the protocol at /api/ and its signpost at /.well-known/immich.
// Whatever else lies below /api/ is refused in the protocol's own form.
func (h *Handler) Register(server *httpd.Server) {
	for _, rt := range []struct {
		pattern string
		access  httpd.Access
		serve   endpoint
	}{
		{"GET /.well-known/immich", httpd.Public, h.signpost},
		{"/api", httpd.Public, h.unknown},
		{"/api/", httpd.Public, h.unknown},
		{"GET /api/server/ping", httpd.Public, h.ping},
		{"GET /api/server/version", httpd.Public, h.version},
		{"GET /api/server/features", httpd.Public, h.features},
		{"GET /api/server/config", httpd.Public, h.config},
		{"GET /api/server/media-types", httpd.Public, h.mediaTypes},
		{"GET /api/server/about", httpd.Files, h.about},
		{"GET /api/users/me", httpd.Files, h.me},
		{"GET /api/api-keys/me", httpd.Files, h.key},
		{"POST /api/assets", httpd.Files, h.upload},
		{"POST /api/assets/bulk-upload-check", httpd.Files, h.check},
		{"GET /api/assets/statistics", httpd.Files, h.statistics},
		{"GET /api/assets/{id}", httpd.Files, h.asset},
		{"PUT /api/assets/{id}", httpd.Files, h.asset},
		{"GET /api/assets/{id}/original", httpd.Files, h.original},
		{"POST /api/search/metadata", httpd.Files, h.search},
		{"GET /api/albums", httpd.Files, h.albums},
		{"POST /api/albums", httpd.Files, h.makeAlbum},
		{"GET /api/albums/{id}", httpd.Files, h.album},
		{"PUT /api/albums/{id}/assets", httpd.Files, h.addToAlbum},
		{"GET /api/jobs", httpd.Files, h.jobs},
		{"PUT /api/jobs/{name}", httpd.Files, h.job},
	} {
		server.Handle(rt.pattern, rt.serve, rt.access)
	}
}

// A visit is one request.
type visit struct {
	w   http.ResponseWriter
	r   *http.Request
	who ident.Principal
}

// An endpoint answers one method. It writes its own success; an error becomes an
// error document of the protocol.
type endpoint func(*visit) error

// ServeHTTP implements http.Handler.
func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r}
	v.who, _ = httpd.PrincipalFrom(r.Context()) // nobody, on the public routes
	if err := e(v); err != nil {
		e.Refuse(w, r, err)
	}
}

// Refuse implements httpd.Refuser.
func (endpoint) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	httpd.WriteProblemAs(w, r, err, document)
}

// document is an error as the protocol writes it: message, error and statusCode.
// They come first, for the programs print all of it; the rest makes it a document
// of RFC 9457 as well.
func document(p *problem.Error) httpd.Document {
	status := p.Kind.Status()
	rest := map[string]any{}
	maps.Copy(rest, p.Members)
	rest["type"], rest["title"], rest["status"], rest["detail"], rest["hint"] = p.Kind.Type(), p.Title, status, p.Detail, p.Hint
	body, err := json.Marshal(struct {
		Message string `json:"message"`
		Error   string `json:"error"`
		Status  int    `json:"statusCode"`
	}{sentence(p), http.StatusText(status), status})
	if err == nil {
		var more []byte
		if more, err = json.Marshal(rest); err == nil {
			body = append(append(body[:len(body)-1], ','), more[1:]...) // two objects become one
		}
	}
	if err != nil { // a member that is no JSON: a mistake of ours, but not the client's problem
		body = fmt.Appendf(nil, `{"message":%q,"statusCode":%d}`, p.Kind.Title(), status)
	}
	return httpd.Document{Status: status, ContentType: "application/problem+json", Body: append(body, '\n')}
}

// sentence is all that a person is told, in one piece: the programs print it.
func sentence(p *problem.Error) string {
	s := p.Title + "."
	if p.Detail != "" {
		s += " " + p.Detail
	}
	if p.Hint != "" {
		s += " " + p.Hint
	}
	return s
}

func (v *visit) answer(status int, body any) error {
	v.w.Header().Set("Content-Type", "application/json")
	v.w.Header().Set("Cache-Control", "no-store")
	v.w.WriteHeader(status)
	enc := json.NewEncoder(v.w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // fails only if the client is gone
	return nil
}

// maxQuestion is the most bytes of a body that is no upload: 5,000 names and
// checksums, or 65,000 ids.
const maxQuestion = 4 << 20

// ask reads a JSON body. Members that are not known are left out: programs of
// later versions send more.
func (v *visit) ask(into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(v.w, v.r.Body, maxQuestion))
	err := dec.Decode(into)
	var tooLarge *http.MaxBytesError
	if err == nil || errors.As(err, &tooLarge) || v.r.Context().Err() != nil {
		return err
	}
	var p *problem.Error
	if errors.As(err, &p) { // the body came too slowly
		return err
	}
	return &problem.Error{
		Kind: problem.Invalid, Op: "immich.json", Title: "The request is not the expected JSON", Err: err,
		Hint: "Use a program that speaks version 3 of this interface.",
	}
}

func (h *Handler) unknown(v *visit) error {
	return &problem.Error{
		Kind: problem.NotFound, Op: "immich", Title: "The box does not have this part of the interface",
		Detail: "It takes uploads from command line programs; it does not serve the app for phones or a gallery.",
		Hint:   "docs/clients.md says which programs work.",
	}
}

// moment is a time as the protocol writes it.
type moment time.Time

// MarshalJSON implements json.Marshaler.
func (m moment) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(m).UTC().Format("2006-01-02T15:04:05.000Z"))
}

// What an id names.
const (
	ofUser = iota
	ofItem
	ofFolder
	ofToken
)

// uuid writes an identifier of the box as a UUID of version 8, RFC 9562 §5.8:
// 48 bits of it, then what it names, then 16 bits.
func uuid(kind byte, id int64) string {
	var b [16]byte
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(id))
	copy(b[:6], n[:6])
	b[6], b[8], b[9] = 0x80, 0x80, kind
	copy(b[14:], n[6:])
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// fromUUID is the opposite of uuid; ok is false for any other text.
func fromUUID(kind byte, s string) (id int64, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return 0, false
	}
	var n [8]byte
	copy(n[:6], b[:6])
	copy(n[6:], b[14:])
	id = int64(binary.BigEndian.Uint64(n[:]))
	return id, id > 0 && uuid(kind, id) == strings.ToLower(s)
}

func notFound(what string) error {
	return &problem.Error{
		Kind: problem.NotFound, Op: "immich.id",
		Detail: "There is no " + what + " of that id among your files.",
		Hint:   "It may have been deleted meanwhile: list them again.",
	}
}
