// Package nextcloud speaks to the apps of Nextcloud as a server of theirs does, as
// far as a backup needs it: who is there and what can it do, sign in, files, and
// uploads in chunks.
//
// It is a gateway: it speaks a protocol and owns no rule. Files are served by
// gateway/webdav, to which it adds what Nextcloud's clients ask for besides; the
// chunks of a file are one resumable upload of ingest, see chunks.go.
package nextcloud

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Options are the rooms that the gateway needs. All but Log are needed.
type Options struct {
	Accounts *account.Accounts
	Consent  *consent.Ledger
	Catalog  *catalog.Catalog
	Ingest   *ingest.Ingest
	Store    *storage.Store
	DB       *db.DB
	Files    *webdav.Handler
	// Name returns what people call the box.
	Name func() string
	// Instance distinguishes the ids of this box's files from those of others: letters
	// and digits.
	Instance string
	Log      *slog.Logger
}

// Handler serves the protocol. It is safe for concurrent use.
type Handler struct {
	Options
	dialect *webdav.Dialect
	turns   turns
	logins  *logins
}

// New returns a Handler; Register mounts it.
func New(o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{Options: o, logins: newLogins()}
	h.dialect = &webdav.Dialect{Live: h.live, Announced: announced, Stored: h.stored, Served: h.served, Folder: folder, Status: status}
	return h
}

const (
	filesPrefix   = "/remote.php/dav/files/"
	legacyPrefix  = "/remote.php/webdav/"
	uploadsPrefix = "/remote.php/dav/uploads/"
)

// Register mounts the protocol.
func (h *Handler) Register(server *httpd.Server) {
	server.Handle("GET /status.php", http.HandlerFunc(h.status), httpd.Public)
	server.Handle("GET /index.php/204", http.HandlerFunc(noContent), httpd.Public)
	for _, v := range []string{"/ocs/v1.php", "/ocs/v2.php"} {
		server.Handle("GET "+v+"/cloud/capabilities", http.HandlerFunc(h.capabilities), httpd.Files)
		server.Handle("GET "+v+"/cloud/user", http.HandlerFunc(h.user), httpd.Files)
		server.Handle("GET "+v+"/cloud/users/{user}", http.HandlerFunc(h.user), httpd.Files)
		server.Handle("GET "+v+"/core/getapppassword", http.HandlerFunc(h.getAppPassword), httpd.Files)
		server.Handle("DELETE "+v+"/core/apppassword", http.HandlerFunc(h.deleteAppPassword), httpd.Files)
	}
	h.registerLogin(server)
	server.Handle(filesPrefix, http.HandlerFunc(h.files), httpd.Files)
	server.Handle("/remote.php/dav", http.HandlerFunc(root), httpd.Files)
	server.Handle("/remote.php/dav/{$}", http.HandlerFunc(root), httpd.Files)
	server.Handle(uploadsPrefix, http.HandlerFunc(h.uploads), httpd.Files)
	server.Handle(strings.TrimSuffix(legacyPrefix, "/"), http.HandlerFunc(h.files), httpd.Files)
	server.Handle(legacyPrefix, http.HandlerFunc(h.files), httpd.Files)
}

func principal(r *http.Request) ident.Principal {
	p, _ := httpd.PrincipalFrom(r.Context()) // the routes are open to the signed-in only
	return p
}

// files answers for a person's files.
func (h *Handler) files(w http.ResponseWriter, r *http.Request) {
	m, err := h.mount(r, r.URL)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.Files.ServeAt(w, r, m)
}

// folder answers GET and HEAD of a folder: the app for Android asks by HEAD whether
// one is there.
func folder(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

// root answers at the address above all of WebDAV, where apps ask how to sign in and
// whether they are.
func root(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("DAV", "1, 2")
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		folder(w)
	default:
		httpd.WriteProblem(w, r, &problem.Error{
			Kind: problem.MethodNotAllowed, Op: "nextcloud.root", Detail: "There is nothing at this address itself.",
			Hint: "Your files are below files/ and your user name.",
		})
	}
}

// mount is where the files lie that u speaks of, which must be the asker's own.
func (h *Handler) mount(r *http.Request, u *url.URL) (webdav.Mount, error) {
	m := webdav.Mount{Prefix: legacyPrefix, Dialect: h.dialect}
	path := u.EscapedPath()
	if strings.HasPrefix(path+"/", legacyPrefix) {
		return m, nil
	}
	rest, ok := strings.CutPrefix(path, filesPrefix)
	if !ok {
		return m, &problem.Error{
			Kind: problem.Forbidden, Op: "nextcloud.mount", Title: "The destination is not among your files",
			Detail: "Your files are below another address of this box.", Hint: "Choose a place there.",
		}
	}
	user, _, _ := strings.Cut(rest, "/")
	if err := isOwn(r, user); err != nil {
		return m, err
	}
	m.Prefix = filesPrefix + user + "/"
	return m, nil
}

// isOwn fails unless the user name in an address, percent-encoded, is the asker's.
// Names that differ in case only are one person's.
func isOwn(r *http.Request, user string) error {
	name, err := url.PathUnescape(user)
	if err == nil && strings.EqualFold(name, principal(r).Name) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Forbidden, Op: "nextcloud.user", Title: "Those are another person's files",
		Detail: "The address holds another user name than the one that is signed in.", Hint: "Sign in with that name, or use your own.",
	}
}

// refuse answers with err as the dialect says it.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	webdav.Mount{Prefix: legacyPrefix, Dialect: h.dialect}.Refuse(w, r, err)
}
