package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// filesPrefix stands before the path of a file in a URL.
const filesPrefix = "/v1/files/"

func (a *API) registerFiles() {
	const pattern = filesPrefix + "{path...}"
	const about = "`path` is the whole path, its parts separated by `/`; everything else in it is percent-encoded once."
	file := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}

	stream[putFileInput, fileAnswer](a, route{
		Method: "PUT", Path: filesPrefix + "{path}", ID: "put-file", Tag: "files", Status: 201,
		Summary: "Keep one file, sent in one request",
		Description: about + " Everything that can be refused is refused before the body is read: send `Expect: 100-continue`. " +
			"201: the content is new. 200: the asker had this content already. What the name held before is kept as a version. " +
			" With `Repr-Digest` and an empty body the box answers 200 if the asker has that content, " +
			"else 409 `body-needed`.",
	}, httpd.Files, pattern, map[string]*huma.Response{"200": {
		Description: "Kept; nothing was new, or the name was there before",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: schemaPrefix + "StoredFile"}}},
	}}, a.putFile)

	get := map[string]*huma.Response{
		"200": {Description: "The file", Content: file},
		"206": {Description: "The range that was asked for", Content: file},
		"304": {Description: "Not modified"},
	}
	stream[getFileInput, readHeaders](a, route{
		Method: "GET", Path: filesPrefix + "{path}", ID: "get-file", Tag: "files", Status: 200,
		Summary: "Read a file", Description: about,
	}, httpd.Files, pattern, get, a.getFile)
	// http.ServeMux sends HEAD to the GET pattern; here it is only described.
	huma.Register(a.paper, a.operation(route{
		Method: "HEAD", Path: filesPrefix + "{path}", ID: "head-file", Tag: "files", Status: 200,
		Summary: "Size, hash and time of a file", Description: about,
	}, httpd.Files), func(context.Context, *getFileInput) (*readHeaders, error) { return nil, nil })

	stream[deleteFileInput, struct{}](a, route{
		Method: "DELETE", Path: filesPrefix + "{path}", ID: "trash-file", Tag: "files", Status: 204,
		Summary: "Put a file into the trash", Description: about,
	}, httpd.Files, pattern, nil, a.deleteFile)
}

type putFileInput struct {
	Path          string `path:"path" example:"DCIM/Camera/IMG_0001.jpg"`
	Source        string `query:"source" doc:"Where the device has it from: album, screenshot, camera, wechat, qq, tim, download, other. It decides the purpose that must be consented to. Left out, or auto: the box goes by the names of folder and file." example:"album"`
	SourcePath    string `query:"source_path" doc:"What the device itself calls the file, for finding the source, where that says more than the path on the box; not kept" example:"Pictures/WeiXin/mmexport1598266474988.jpg"`
	MTime         string `query:"mtime" doc:"Modification time: RFC 3339 or Unix seconds, decimals allowed, 1970 to 2106" example:"1700000000.123"`
	Device        string `query:"device" pattern:"^[0-9a-hjkmnp-tv-z]{13}$" doc:"The sending device; left out: the one of the session"`
	Again         bool   `query:"again" doc:"Take the file even if the asker deleted its content from the box; without it that is refused with 410 deleted, except for source other"`
	ContentLength string `header:"Content-Length" doc:"Recommended: size, quota and space are then checked before the body"`
	ReprDigest    string `header:"Repr-Digest" doc:"RFC 9530. sha-256 is verified, other algorithms are ignored" example:"sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"`
	ContentDigest string `header:"Content-Digest" doc:"RFC 9530, the same here"`
	IfNoneMatch   string `header:"If-None-Match" doc:"*: only if there is no file of that name"`
	IfMatch       string `header:"If-Match" doc:"Only if the file of that name has one of these entity tags"`
	Expect        string `header:"Expect" doc:"100-continue: wait for the box before sending the body"`
	RawBody       []byte `contentType:"application/octet-stream"`
}

type fileAnswer struct {
	ETag string `header:"ETag"`
	Body StoredFile
}

// StoredFile is the receipt for a file: it is on stable storage.
type StoredFile struct {
	ID     ident.ItemID `json:"id"`
	Path   string       `json:"path" doc:"As kept: in Unicode NFC"`
	SHA256 storage.Ref  `json:"sha256"`
	Size   int64        `json:"size" minimum:"0"`
	Stored string       `json:"stored" enum:"new,known" doc:"known: the asker had this content already"`
	MTime  *moment      `json:"mtime" nullable:"true" doc:"null: none was said"`
}

func (a *API) putFile(w http.ResponseWriter, r *http.Request) {
	result, err := a.put(w, r)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	status := http.StatusOK
	if result.Stored == ingest.StoredNew {
		status = http.StatusCreated
	}
	w.Header().Set("ETag", content.ETag(result.Item.Ref))
	httpd.WriteJSON(w, status, StoredFile{
		ID: result.Item.ID, Path: result.Item.Path, SHA256: result.Item.Ref, Size: result.Item.Size,
		Stored: result.Stored, MTime: momentOrNull(result.Item.MTime),
	})
}

// put decides everything that can be decided without the body first, so that a
// client that waits for "100 Continue" sends nothing in vain.
func (a *API) put(w http.ResponseWriter, r *http.Request) (ingest.Result, error) {
	ctx := r.Context()
	meta, err := a.putMeta(r)
	if err != nil {
		return ingest.Result{}, err
	}
	grant, err := a.ingest.Grant(ctx, principal(ctx).User, meta)
	if err != nil {
		return ingest.Result{}, err
	}
	if err := a.conditions(r, &meta); err != nil {
		return ingest.Result{}, err
	}
	if !meta.Want.IsZero() {
		result, known, err := a.ingest.Known(ctx, grant, meta)
		if err != nil || known {
			return result, err
		}
		if r.ContentLength == 0 && meta.Want != storage.Ref(sha256.Sum256(nil)) {
			return ingest.Result{}, &problem.Error{
				Kind: problem.BodyNeeded, Op: "api.put", Detail: "You have no file with this content on the box.",
				Hint: "Send the same request with the file as its body.",
			}
		}
	}
	intake, err := a.ingest.Begin(ctx, grant, meta)
	if err != nil {
		return ingest.Result{}, err
	}
	return receive(w, r, intake)
}

// receive takes the body. What has arrived belongs to the person: it is written
// even if the phone is gone by then. What ends it is in the intake's context.
func receive(w http.ResponseWriter, r *http.Request, intake *ingest.Intake) (result ingest.Result, err error) {
	defer func() { err = errors.Join(err, intake.Close()) }()
	ctx := intake.Context()
	if _, err := intake.Write(ctx, 0, httpd.ProgressReader(w, r.WithContext(ctx))); err != nil {
		return ingest.Result{}, err
	}
	return intake.Finish(ctx)
}

// putMeta reads what the request says about the file, and refuses what makes no
// sense.
func (a *API) putMeta(r *http.Request) (ingest.Meta, error) {
	var meta ingest.Meta
	if r.Header.Get("Content-Range") != "" {
		return meta, &problem.Error{
			Kind: problem.Invalid, Op: "api.put", Title: "A file cannot be put in parts",
			Detail: "The request has a Content-Range header (RFC 9110 §14.4).",
			Hint:   "Send the whole file, or use resumable uploads at /v1/uploads.",
		}
	}
	if strings.TrimSpace(r.Header.Get("Upload-Complete")) == "?0" || strings.TrimSpace(r.Header.Get("Upload-Incomplete")) == "?1" {
		return meta, &problem.Error{
			Kind: problem.Invalid, Op: "api.put", Title: "A file cannot be put in parts",
			Detail: "The request says that more is to follow (draft-ietf-httpbis-resumable-upload).",
			Hint:   "Send the whole file, or use resumable uploads at /v1/uploads.",
		}
	}
	if c := r.Header.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return meta, &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "api.put", Title: "Files are taken as they are, not compressed",
			Hint: "Send the file without Content-Encoding.",
		}
	}
	want, err := httpd.AnnouncedSHA256(r.Header, "Repr-Digest", "Content-Digest")
	if err != nil {
		return meta, err
	}
	p, err := filePath(r.URL)
	if err != nil {
		return meta, err
	}
	query, err := uploadQuery(r.URL)
	if err != nil {
		return meta, err
	}
	meta = ingest.Meta{Path: p, Source: query.Get("source"), DevicePath: query.Get("source_path"), Size: r.ContentLength, Want: want, Device: principal(r.Context()).Device}
	meta.FindSource()
	switch query.Get("again") {
	case "", "false":
	case "true":
		meta.Again = true
	default:
		return meta, &problem.Error{Kind: problem.Invalid, Op: "api.put", Title: "The parameter again is neither true nor false", Hint: "Leave it out, or send again=true."}
	}
	if s := query.Get("mtime"); s != "" {
		if meta.MTime, err = ingest.ParseMTime(s); err != nil {
			return meta, err
		}
	}
	if s := query.Get("device"); s != "" {
		if meta.Device, err = a.sendingDevice(r, s); err != nil {
			return meta, err
		}
	}
	return meta, nil
}

// sendingDevice is the device that a request names in its query, "" the asker's own.
func (a *API) sendingDevice(r *http.Request, name string) (ident.DeviceID, error) {
	p := principal(r.Context())
	if name == "" {
		return p.Device, nil
	}
	device, err := ident.Parse[ident.DeviceID](name)
	if err != nil {
		return 0, &problem.Error{Kind: problem.Invalid, Op: "api.put", Title: "That is not the id of a device", Hint: "GET /v1/devices lists yours."}
	}
	if !p.SpeaksFor(device) {
		return 0, &problem.Error{
			Kind: problem.Forbidden, Op: "api.put", Detail: "This app token belongs to another device.",
			Hint: "Leave device out, or make an app token for that device.",
		}
	}
	return device, a.ownDevice(r.Context(), device)
}

// uploadQuery refuses parameters that are misspelt: a lost source or time would
// be noticed years later.
func uploadQuery(u *url.URL) (url.Values, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "api.query", Title: "The query of the address cannot be read", Hint: "Percent-encode what is not a letter or a digit."}
	}
	for name, values := range query {
		if name != "source" && name != "source_path" && name != "mtime" && name != "device" && name != "again" || len(values) != 1 {
			return nil, &problem.Error{
				Kind: problem.Invalid, Op: "api.query", Title: "The query of the address has a parameter that is not expected",
				Hint: "source, source_path, mtime, device and again may be there, each once.",
			}
		}
	}
	return query, nil
}

// filePath returns the path of the file that u names.
func filePath(u *url.URL) (string, error) {
	p, err := content.Path(u, filesPrefix)
	if err != nil {
		return "", err
	}
	return catalog.CleanPath(p)
}

type getFileInput struct {
	Path        string `path:"path" example:"DCIM/Camera/IMG_0001.jpg"`
	Range       string `header:"Range" example:"bytes=0-1023"`
	IfNoneMatch string `header:"If-None-Match"`
	IfRange     string `header:"If-Range"`
}

type readHeaders struct {
	ETag               string `header:"ETag" doc:"The SHA-256 of the content, quoted"`
	ContentDisposition string `header:"Content-Disposition"`
	LastModified       string `header:"Last-Modified"`
	ReprDigest         string `header:"Repr-Digest" doc:"RFC 9530: the SHA-256 of the whole file"`
	ContentLength      int64  `header:"Content-Length"`
}

// getFile serves a file to its owner.
func (a *API) getFile(w http.ResponseWriter, r *http.Request) {
	item, err := a.lookup(r)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	a.content.Serve(w, r, item, httpd.WriteProblem)
}

type deleteFileInput struct {
	Path    string `path:"path"`
	IfMatch string `header:"If-Match" doc:"Only if the file has one of these entity tags"`
}

func (a *API) deleteFile(w http.ResponseWriter, r *http.Request) {
	item, err := a.lookup(r)
	if err == nil {
		err = checkIfMatch(r.Header.Get("If-Match"), item.Ref)
	}
	if err == nil {
		err = a.catalog.Trash(r.Context(), item.User, item.ID)
	}
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// lookup finds the asker's own file that the request names.
func (a *API) lookup(r *http.Request) (catalog.Item, error) {
	p, err := filePath(r.URL)
	if err != nil {
		return catalog.Item{}, err
	}
	return a.catalog.Lookup(r.Context(), principal(r.Context()).User, p)
}
