package httpd

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"yunbox.local/daemon/problem"
)

// A Document is an error as a protocol writes it.
type Document struct {
	Status      int
	ContentType string
	Body        []byte
}

// WriteProblem answers r with err as an RFC 9457 document; see problem.As for
// what becomes of an error that is no problem. If the client still has a body to
// send, an HTTP/1 connection is closed after the answer rather than read on.
//
// If the answer has begun already, the connection is cut off instead, by the
// panic that net/http provides for it: a client must not take what it has for
// the whole.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	WriteProblemAs(w, r, err, func(p *problem.Error) Document {
		return Document{p.Kind.Status(), "application/problem+json", encodeProblem(p)}
	})
}

// WriteProblemAs is WriteProblem for a protocol with documents of its own.
func WriteProblemAs(w http.ResponseWriter, r *http.Request, err error, encode func(*problem.Error) Document) {
	p := asProblem(err)
	out := responseOf(w)
	if out != nil {
		out.note(p)
		if out.wroteHeader {
			panic(http.ErrAbortHandler)
		}
	}
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Range", "ETag", "Last-Modified", "Content-Disposition"} {
		h.Del(name) // what a handler may have set for the answer that it had in mind
	}
	doc := encode(p)
	h.Set("Content-Type", doc.ContentType)
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	if p.Kind.Status() == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(r))
	}
	if r.ProtoMajor == 1 && (out != nil && out.unread() || out == nil && r.ContentLength != 0) {
		h.Set("Connection", "close")
	}
	h.Set("Content-Length", strconv.Itoa(len(doc.Body)))
	w.WriteHeader(doc.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(doc.Body) // the client is gone: there is nobody to tell
	}
}

// ProblemDocument is err as WriteProblem would send it, in one line, for answers of
// which only a part has failed. w must be the one that the handler got.
func ProblemDocument(w http.ResponseWriter, err error) []byte {
	p := asProblem(err)
	if out := responseOf(w); out != nil {
		out.note(p)
	}
	b := encodeProblem(p)
	return b[:len(b)-1]
}

func asProblem(err error) *problem.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &problem.Error{Kind: problem.TooLarge, Title: problem.TooLarge.Title(), Op: "httpd", Err: err,
			Detail: fmt.Sprintf("This takes at most %d bytes.", tooLarge.Limit), Hint: "Send less at once."}
	}
	return problem.As(err)
}

func encodeProblem(p *problem.Error) []byte {
	doc := map[string]any{}
	for k, v := range p.Members {
		doc[k] = v
	}
	doc["type"], doc["title"], doc["status"] = p.Kind.Type(), p.Title, p.Kind.Status()
	if p.Type != "" {
		doc["type"] = p.Type
	}
	if p.Detail != "" {
		doc["detail"] = p.Detail
	}
	if p.Hint != "" {
		doc["hint"] = p.Hint
	}
	body, err := json.Marshal(doc)
	if err != nil { // a member that is no JSON: a mistake of ours, but not the client's problem
		body = fmt.Appendf(nil, `{"type":%q,"title":%q,"status":%d}`, p.Kind.Type(), p.Kind.Title(), p.Kind.Status())
	}
	return append(body, '\n')
}

// challenge is the WWW-Authenticate header. A browser's page gets none of Basic:
// the browser would ask for a password in a window of its own.
func challenge(r *http.Request) string {
	if r.Header.Get("Sec-Fetch-Site") != "" {
		return `Bearer realm="yunbox"`
	}
	return `Basic realm="yunbox", charset="UTF-8", Bearer realm="yunbox"`
}

// note logs faults of ours. The others are the client's business.
func (w *response) note(p *problem.Error) {
	if p.Kind != problem.Internal && p.Kind != problem.Damaged {
		return
	}
	w.log.Log(w.request.Context(), slog.LevelError, "a request failed", "route", w.pattern(), "op", p.Op, "kind", string(p.Kind), "err", p.Err)
}

// routeProblem is what http.ServeMux itself has to say, as a problem.
func routeProblem(status int, r *http.Request, allow string) error {
	switch {
	case status == http.StatusMethodNotAllowed:
		return &problem.Error{Kind: problem.MethodNotAllowed, Op: "httpd",
			Detail: "This address does not know that method.", Hint: "It knows " + allow + "."}
	case status == http.StatusBadRequest:
		return &problem.Error{Kind: problem.Invalid, Op: "httpd", Detail: "The request does not name a path.",
			Hint: "Send a request for a path of the box, such as /."}
	case status >= 300 && status < 400:
		return &problem.Error{Kind: problem.NotFound, Op: "httpd",
			Detail: "The address ends with a slash.", Hint: "Add the slash."}
	}
	return &problem.Error{Kind: problem.NotFound, Op: "httpd",
		Detail: "The box has no such address.", Hint: "/v1/openapi.json lists those that it has."}
}
