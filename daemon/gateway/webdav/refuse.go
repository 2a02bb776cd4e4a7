package webdav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// A failed is a problem for which WebDAV has a word of its own, a precondition
// code (RFC 4918 §16, RFC 4331).
type failed struct {
	problem   *problem.Error
	condition string // in the namespace DAV:
	held      *lock  // that is the cause; nil: none is
}

// Error implements error.
func (f *failed) Error() string { return f.problem.Error() }

// Unwrap returns the problem.
func (f *failed) Unwrap() error { return f.problem }

// refuse answers with err as a DAV:error document. Besides the condition it holds
// the reason for people, once as the many clients of sabre/dav look for it, and
// once part by part as in the documents of RFC 9457.
func (m Mount) refuse(w http.ResponseWriter, r *http.Request, err error) {
	httpd.WriteProblemAs(w, r, err, func(p *problem.Error) httpd.Document {
		return httpd.Document{Status: m.status(p), ContentType: contentTypeXML, Body: errorDocument(p, err, m.Prefix)}
	})
}

const contentTypeXML = "application/xml; charset=utf-8"

// status is the number of p in the dialect.
func (m Mount) status(p *problem.Error) int {
	if m.Dialect != nil && m.Dialect.Status != nil {
		if s := m.Dialect.Status(p.Kind); s != 0 {
			return s
		}
	}
	return status(p)
}

// status is the table from kinds to the codes of WebDAV, where they differ from
// those of HTTP.
func status(p *problem.Error) int {
	if p.Kind == problem.Misdirected { // RFC 4918 §9.8.5
		return http.StatusBadGateway
	}
	return p.Kind.Status()
}

func errorDocument(p *problem.Error, err error, prefix string) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header + `<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:y="urn:yunbox:problem">`)
	condition, href := "", ""
	var f *failed
	switch {
	case errors.As(err, &f):
		condition = f.condition
		if f.held != nil {
			href = f.held.href(prefix)
		}
	case p.Kind == problem.Quota: // RFC 4331 §6
		condition = "quota-not-exceeded"
	case p.Kind == problem.Full:
		condition = "sufficient-disk-space"
	}
	switch {
	case href != "":
		b.WriteString("<d:" + condition + "><d:href>" + escaped(href) + "</d:href></d:" + condition + ">")
	case condition != "":
		b.WriteString("<d:" + condition + "/>")
	}
	text := func(prefix, name, value string) {
		if value != "" {
			b.WriteString("<" + prefix + ":" + name + ">" + escaped(value) + "</" + prefix + ":" + name + ">")
		}
	}
	text("s", "message", sentence(p))
	text("y", "type", p.Kind.Type())
	text("y", "title", p.Title)
	text("y", "detail", p.Detail)
	text("y", "hint", p.Hint)
	for _, name := range slices.Sorted(maps.Keys(p.Members)) {
		text("y", name, fmt.Sprint(p.Members[name]))
	}
	b.WriteString("</d:error>\n")
	return b.Bytes()
}

// sentence is all that a person is told, in one piece.
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
