// Package webdav opens a person's files to what speaks WebDAV (RFC 4918, classes
// 1 and 2) below /dav/: file managers, sync and backup apps, mounted drives.
//
// It is a gateway: it speaks a protocol and owns no rule. A file comes in through
// ingest, so it has its name only when it is whole and durable, and what the name
// held before is kept as a version; what is deleted lies in the trash; a copy
// costs no bytes. Only what WebDAV alone knows is kept here: dead properties and
// locks, both bounded.
//
// Locks bind the clients of this protocol. A backup that comes by another one
// does not ask for them: it never destroys what it replaces.
package webdav

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Prefix stands before the path of a file or folder in a URL; the address without
// the slash at its end names the root, too.
const Prefix = "/dav/"

// allowed are the methods that are understood.
const allowed = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, LOCK, UNLOCK"

// Options are the rooms that the gateway needs. All but Log are needed.
type Options struct {
	Consent *consent.Ledger
	Catalog *catalog.Catalog
	Ingest  *ingest.Ingest
	Store   *storage.Store
	DB      *db.DB
	Log     *slog.Logger
}

// Handler serves the protocol. It is safe for concurrent use and keeps no state
// of its own.
type Handler struct {
	consent *consent.Ledger
	catalog *catalog.Catalog
	ingest  *ingest.Ingest
	store   *storage.Store
	db      *db.DB
	files   *content.Files
}

// New returns a Handler; Register mounts it.
func New(o Options) *Handler {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Handler{
		consent: o.Consent, catalog: o.Catalog, ingest: o.Ingest, store: o.Store, db: o.DB,
		files: &content.Files{Catalog: o.Catalog, Store: o.Store, Log: log},
	}
}

// Register mounts the protocol at /dav/.
func (h *Handler) Register(server *httpd.Server) {
	server.Handle(strings.TrimSuffix(Prefix, "/"), h, httpd.Files)
	server.Handle(Prefix, h, httpd.Files)
}

// A visit is one request: who makes it, and what it names.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	mount Mount
	who   ident.Principal
	path  string     // clean; "": the root
	sent  string     // the same as its client wrote it
	slash bool       // the address ends with a slash
	cond  conditions // the If header
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.ServeAt(w, r, Mount{Prefix: Prefix})
}

// ServeAt answers a request to an address below m.Prefix.
func (h *Handler) ServeAt(w http.ResponseWriter, r *http.Request, m Mount) {
	w.Header().Set("DAV", "1, 2")
	w.Header().Set("MS-Author-Via", "DAV") // without it Windows does not take the server for one
	if err := h.serve(w, r, m); err != nil {
		m.refuse(w, r, err)
	}
}

// newVisit reads what a request says about the resource at u.
func newVisit(w http.ResponseWriter, r *http.Request, u *url.URL, m Mount) (v *visit, err error) {
	v = &visit{w: w, r: r, mount: m}
	v.who, _ = httpd.PrincipalFrom(r.Context()) // the routes are open to the signed-in only
	if v.path, v.slash, err = pathOf(u, m.Prefix); err != nil {
		return nil, err
	}
	v.sent = sentPath(u, m.Prefix)
	v.cond, err = parseIf(strings.Join(r.Header.Values("If"), " "))
	return v, err
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, m Mount) error {
	v, err := newVisit(w, r, r.URL, m)
	if err != nil {
		return err
	}
	switch r.Method {
	case http.MethodOptions:
		return h.options(v)
	case http.MethodGet, http.MethodHead:
		return h.get(v)
	case http.MethodPut:
		return h.put(v)
	case http.MethodDelete:
		return h.delete(v)
	case "MKCOL":
		return h.mkcol(v)
	case "COPY":
		return h.transfer(v, false)
	case "MOVE":
		return h.transfer(v, true)
	case "PROPFIND":
		return h.propfind(v)
	case "PROPPATCH":
		return h.proppatch(v)
	case "LOCK":
		return h.lock(v)
	case "UNLOCK":
		return h.unlock(v)
	}
	return notAllowed(w, "Files and folders do not know that method.", "They know "+allowed+".")
}

func notAllowed(w http.ResponseWriter, detail, hint string) error {
	w.Header().Set("Allow", allowed)
	return &problem.Error{Kind: problem.MethodNotAllowed, Op: "webdav", Detail: detail, Hint: hint}
}

func (h *Handler) options(v *visit) error {
	v.w.Header().Set("Allow", allowed)
	v.w.Header().Set("Content-Length", "0")
	v.w.WriteHeader(http.StatusOK)
	return nil
}

// pathOf returns the clean path that u names below prefix, "" for the root, and whether it was
// written with a slash at its end, as folders are.
func pathOf(u *url.URL, prefix string) (path string, slash bool, err error) {
	if u.EscapedPath()+"/" == prefix {
		return "", true, nil
	}
	if path, err = content.Path(u, prefix); err != nil {
		return "", false, err
	}
	path, slash = strings.CutSuffix(path, "/")
	if path == "" && !slash {
		return "", true, nil
	}
	path, err = catalog.CleanPath(path)
	return path, slash, err
}

// hrefOf is the address of a path below prefix, percent-encoded.
func hrefOf(prefix, path string, folder bool) string {
	if path == "" {
		return prefix
	}
	if folder {
		path += "/"
	}
	return prefix + (&url.URL{Path: path}).EscapedPath()
}

// parentOf returns the folder around path, which is not the root.
func parentOf(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

// within reports whether path lies in folder, at any depth.
func within(path, folder string) bool {
	return folder == "" && path != "" || len(path) > len(folder) && path[len(folder)] == '/' && path[:len(folder)] == folder
}

// A resource is what a path names.
type resource struct {
	path   string
	kind   kind
	item   catalog.Item   // of a file
	folder catalog.Folder // of a folder
}

type kind int

const (
	missing kind = iota
	file
	folder
)

// find looks up what path names, which may be nothing.
func (h *Handler) find(tx *db.Tx, u ident.UserID, path string) (resource, error) {
	f, err := h.catalog.FolderIn(tx, u, path)
	if err == nil {
		return resource{path: path, kind: folder, folder: f}, nil
	}
	if !isNotFound(err) {
		return resource{}, err
	}
	item, err := h.catalog.LookupIn(tx, u, path)
	if err == nil {
		return resource{path: path, kind: file, item: item}, nil
	}
	if !isNotFound(err) {
		return resource{}, err
	}
	return resource{path: path}, nil
}

func isNotFound(err error) bool { return errors.Is(err, &problem.Error{Kind: problem.NotFound}) }

// must is find for what has to be there.
func (h *Handler) must(tx *db.Tx, v *visit) (resource, error) {
	res, err := h.find(tx, v.who.User, v.path)
	if err == nil && res.kind == missing {
		err = &problem.Error{
			Kind: problem.NotFound, Op: "webdav.find", Detail: "There is no file or folder of that name.",
			Hint: "It may have been renamed or deleted meanwhile: list the folder again.",
		}
	}
	return res, err
}

// etag is the entity tag of r, "" if there is nothing. That of a folder changes
// with every change in it or below.
func (r resource) etag() string {
	switch r.kind {
	case file:
		return content.ETag(r.item.Ref)
	case folder:
		return folderETag(r.folder.Seq)
	}
	return ""
}

func (r resource) href(prefix string) string { return hrefOf(prefix, r.path, r.kind == folder) }

// around fails unless the folder around path exists (RFC 4918 §9.3.1, §9.7.1).
func (h *Handler) around(tx *db.Tx, u ident.UserID, path string) error {
	parent, err := h.find(tx, u, parentOf(path))
	if err != nil || parent.kind == folder {
		return err
	}
	return &problem.Error{
		Kind: problem.Conflict, Op: "webdav.parent", Title: "The folder around it does not exist",
		Detail: "What should hold the new name is not there, or is a file.", Hint: "Make the folder first.",
	}
}

// get answers GET and HEAD.
func (h *Handler) get(v *visit) error {
	var res resource
	err := h.db.Read(v.r.Context(), func(tx *db.Tx) (err error) {
		res, err = h.must(tx, v)
		return err
	})
	if err != nil {
		return err
	}
	if d := v.mount.Dialect; res.kind == folder && d != nil {
		d.Folder(v.w)
		return nil
	}
	if res.kind == folder {
		return notAllowed(v.w, "This is a folder: it has no bytes of its own.", "Open the address in a program that speaks WebDAV.")
	}
	if d := v.mount.Dialect; d != nil {
		if err := d.Served(v.r.Context(), v.w.Header(), res.item); err != nil {
			return err
		}
	}
	h.files.Serve(v.w, v.r, res.item, v.mount.refuse)
	return nil
}
