package httpd

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"yunbox.local/daemon/problem"
)

// ReadJSON reads a body of at most limit bytes strictly into v: one value, no
// unknown members. Anything else is problem.Invalid, which tells an administrator that
// yunboxctl and the box may be of different age.
func ReadJSON(w http.ResponseWriter, r *http.Request, v any, limit int64) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more than one value")
	}
	return &problem.Error{Kind: problem.Invalid, Op: "httpd.json", Title: "The body is not the JSON that is expected", Err: err, Hint: "This yunboxctl may be older or newer than the box."}
}

// WriteJSON answers with v. That it could not be sent is no error: then the client
// is gone.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// lineTime is how long a client may take to read one line.
const lineTime = time.Minute

// Lines begins an answer of several JSON values, one a line, each sent at once. emit
// fails when nobody reads any more; it is for one goroutine at a time.
func Lines(w http.ResponseWriter) (emit func(line any) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(line any) error {
		return errors.Join(rc.SetWriteDeadline(time.Now().Add(lineTime)), enc.Encode(line), rc.Flush())
	}
}
