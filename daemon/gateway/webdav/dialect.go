package webdav

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// A Mount is an address below which a person's files are served, and the way in
// which they are spoken of there.
type Mount struct {
	// Prefix of every address as its client writes it: percent-encoded, with a slash
	// at its end.
	Prefix  string
	Dialect *Dialect // nil: plain WebDAV
}

// A Dialect is what a protocol that is built on WebDAV adds to it. It must be safe
// for concurrent use.
type Dialect struct {
	// Live returns the value, as XML, of a property that the dialect knows and no
	// client can set; false: it does not.
	Live func(name xml.Name, f Found) (value string, ok bool)
	// Announced reads what the headers of a PUT say about its file.
	Announced func(r *http.Request, meta *ingest.Meta) error
	// Stored sets the headers that say what became of a PUT.
	Stored func(h http.Header, item catalog.Item)
	// Served adds to the headers of GET and HEAD of a file.
	Served func(ctx context.Context, h http.Header, item catalog.Item) error
	// Folder answers GET and HEAD of a folder.
	Folder func(w http.ResponseWriter)
	// Status is the status of a problem where it is another than WebDAV's; 0: it is
	// not.
	Status func(problem.Kind) int
}

// Found is a file or folder whose properties are asked for.
type Found struct {
	Who    ident.Principal
	File   bool
	Root   bool
	Item   catalog.Item   // of a file
	Folder catalog.Folder // of a folder
}

// told asks the dialect for a property of res.
func (v *visit) told(name xml.Name, res resource) (value string, ok bool) {
	d := v.mount.Dialect
	if d == nil || name.Space == dav {
		return "", false
	}
	return d.Live(name, Found{Who: v.who, File: res.kind == file, Root: res.path == "", Item: res.item, Folder: res.folder})
}

// Path returns the clean path that a URL in a header of r names, which lies below
// m.Prefix. A URL of another host is problem.Misdirected, one outside of the mount
// problem.Forbidden.
func (m Mount) Path(r *http.Request, address string) (string, error) {
	return (&visit{r: r, mount: m}).pathOn(address)
}

// Meta is what is known of a file at path, a clean one, before its headers are read:
// its device, and its source, which decides whose consent it needs.
func (m Mount) Meta(r *http.Request, path string) (ingest.Meta, error) {
	who, _ := httpd.PrincipalFrom(r.Context())
	return metaOf(&visit{r: r, mount: m, who: who, path: path}, path)
}

// Place puts a file that has come in another way at address, a URL below m.Prefix,
// and answers as PUT does: with the same conditions, locks and headers. take is
// called once nothing more can be refused.
func (h *Handler) Place(w http.ResponseWriter, r *http.Request, m Mount, address *url.URL, take func(consent.Grant, ingest.Meta) (ingest.Result, error)) {
	v, err := newVisit(w, r, address, m)
	if err == nil {
		err = h.place(v, take)
	}
	if err != nil {
		m.refuse(w, r, err)
	}
}

// Refuse answers with err as the dialect says it.
func (m Mount) Refuse(w http.ResponseWriter, r *http.Request, err error) { m.refuse(w, r, err) }
