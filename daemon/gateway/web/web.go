// Package web serves the box's admin page: a single-page application that is
// embedded in the daemon and speaks to it only by the HTTP API under /v1.
//
// The page needs nothing from outside: no font, script or picture of another
// origin, no inline script or style, no eval. Its sources are in app; dist is
// what they make (go generate), committed so that building the daemon needs no
// JavaScript tools.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run -C build .

//go:embed dist
var dist embed.FS

// CSP is the Content-Security-Policy of the page. blob: is for pictures and
// receipts that the page itself has fetched or made.
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; " +
	"connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at "/" and its assets below "/assets/"; every other
// path is answered 404. GET and HEAD only. Assets carry their hash in their
// name and may be kept for good; the page itself is checked again each time, so
// an updated box is seen at the next visit. It is safe for concurrent use.
func Handler() http.Handler {
	pages := map[string]*file{}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		url := strings.TrimPrefix(name, "dist")
		if url == "/index.html" {
			url = "/"
		}
		pages[url] = newFile(path.Base(name), data)
		return nil
	})
	if err != nil {
		panic("web: embedded files cannot be read: " + err.Error()) // cannot happen: they are part of the program
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", CSP)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
		f := pages[r.URL.Path]
		switch {
		case f == nil:
			http.Error(w, "There is no such page on this box.", http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "This page can only be read.", http.StatusMethodNotAllowed)
		default:
			f.serve(w, r)
		}
	})
}

type file struct {
	kind  string // Content-Type
	cache string // Cache-Control
	etag  string
	plain []byte
	gzip  func() []byte // compressed on first use, then kept: some 60 kB for the whole page
}

func newFile(name string, data []byte) *file {
	sum := sha256.Sum256(data)
	f := &file{
		kind:  contentType(path.Ext(name)),
		cache: "public, max-age=31536000, immutable",
		etag:  base64.RawURLEncoding.EncodeToString(sum[:12]),
		plain: data,
	}
	if f.kind == "" {
		panic("web: no content type for " + name) // a test serves every file
	}
	if name == "index.html" {
		f.cache = "no-cache"
	}
	f.gzip = sync.OnceValue(func() []byte {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			panic(err) // only for an invalid level
		}
		// Writing to a bytes.Buffer cannot fail.
		_, _ = z.Write(data)
		_ = z.Close()
		return b.Bytes()
	})
	return f
}

// contentType does not ask the system's table, which differs between boxes.
func contentType(ext string) string {
	switch ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return ""
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	body, etag := f.plain, f.etag
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		body, etag = f.gzip(), f.etag+"-gz"
		h.Set("Content-Encoding", "gzip")
	}
	etag = fmt.Sprintf("%q", etag)
	h.Set("ETag", etag)
	h.Set("Cache-Control", f.cache)
	if match(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the reader is gone: there is nobody to tell
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3).
func acceptsGzip(header string) bool {
	any := false
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		name, value, _ := strings.Cut(strings.TrimSpace(params), "=")
		q := 1.0
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			var err error
			if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				q = 0
			}
		}
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			return q > 0
		case "*":
			any = q > 0
		}
	}
	return any
}

// match is the weak comparison of If-None-Match (RFC 9110 §13.1.2).
func match(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
