package content

import (
	"bytes"
	"fmt"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What is no range of bytes is ignored, and what no file has is refused (RFC 9110 §14.1.2,
// §14.2).
func TestRange(t *testing.T) {
	for asked, want := range map[string]struct {
		status int
		said   string
	}{
		"bytes=0-1": {206, "bytes 0-1/10"}, "BYTES=8-99": {206, "bytes 8-9/10"}, "bytes=-3": {206, "bytes 7-9/10"}, "bytes=4-": {206, "bytes 4-9/10"},
		"bytes=-0": {416, "bytes */10"}, "bytes=10-": {416, "bytes */10"}, "bytes=99999999999999999999-": {416, "bytes */10"}, "bytes=-0,1-1": {206, "bytes 1-1/10"},
		"bytes=0-99999999999999999999": {206, "bytes 0-9/10"}, "bytes=-99999999999999999999": {206, "bytes 0-9/10"}, "bytes= ,1-1 ,": {206, "bytes 1-1/10"},
		"items=0-1": {200, ""}, "bytes=5-2": {200, ""}, "bytes": {200, ""}, "bytes=": {200, ""}, "bytes=a-b": {200, ""}, "bytes=--1": {200, ""}, "bytes=1 - 2": {200, ""}, "bytes=+1-2": {200, ""},
		"bytes=" + strings.Repeat("0-0,", 64): {200, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", asked)
		w := httptest.NewRecorder()
		give(w, r, time.Time{}, strings.NewReader("0123456789"), func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(416) })
		if w.Code != want.status || w.Header().Get("Content-Range") != want.said {
			t.Errorf("%s: %d %q", asked, w.Code, w.Header().Get("Content-Range"))
		}
	}
}

// Whatever a client asks of a file (RFC 9110 §14), what it gets is bytes of that file
// from where the answer says, never more than the file has, and a refusal says how
// long that is.
func FuzzRange(f *testing.F) {
	const size = 1000
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i * 7)
	}
	for _, s := range []string{"", "bytes=0-0", "bytes=0-", "bytes=-1", "bytes=999-", "bytes=1000-", "bytes=5-2", "bytes=0-0,-1", "bytes=-0", "bytes=0-9223372036854775807",
		"bytes=18446744073709551615-", "bytes= 1 - 2", "bytes=1-2,", "items=1-2", "bytes", "bytes=" + strings.Repeat("0-,", 300), "bytes=0-1,0-1,5-6", "bytes=--1", "bytes=a-b", "bytes=0-499,500-999"} {
		f.Add(s, "")
	}
	f.Add("bytes=0-1", `"other"`)
	f.Add("bytes=0-1", `"tag"`)
	f.Fuzz(func(t *testing.T, asked, condition string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Range"] = []string{asked}
		if condition != "" {
			r.Header["If-Range"] = []string{condition}
		}
		w := httptest.NewRecorder()
		w.Header().Set("ETag", `"tag"`)
		w.Header().Set("Content-Type", "image/jpeg")
		refused := false
		give(w, r, time.Time{}, bytes.NewReader(body), func(w http.ResponseWriter, _ *http.Request, _ error) {
			refused = true
			w.Header().Del("Content-Range")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		})
		got := w.Body.Bytes()
		part := func(said string, b []byte) {
			var from, to, all int
			if n, err := fmt.Sscanf(said, "bytes %d-%d/%d", &from, &to, &all); n != 3 || err != nil || all != size || from > to || to >= size || !bytes.Equal(b, body[from:to+1]) {
				t.Errorf("%q: %q with %d bytes", asked, said, len(b))
			}
		}
		said := w.Header().Get("Content-Range")
		switch {
		case refused != (w.Code == 416):
			t.Errorf("%q: %d, refused %v", asked, w.Code, refused)
		case w.Code == 200:
			if !bytes.Equal(got, body) || said != "" {
				t.Errorf("%q: all is %d bytes, %q", asked, len(got), said)
			}
		case w.Code == 416:
			if said != "bytes */1000" || len(got) != 0 {
				t.Errorf("%q: %q, %d bytes", asked, said, len(got))
			}
		case w.Code != 206 || condition == `"other"`:
			t.Errorf("%q if %q: %d", asked, condition, w.Code)
		case said != "":
			part(said, got)
		default:
			kind, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
			if err != nil || kind != "multipart/byteranges" {
				t.Fatalf("%q: %q", asked, w.Header())
			}
			parts, sum := multipart.NewReader(bytes.NewReader(got), params["boundary"]), 0
			for {
				p, err := parts.NextPart()
				if err != nil {
					break
				}
				var b bytes.Buffer
				b.ReadFrom(p)
				part(p.Header.Get("Content-Range"), b.Bytes())
				sum += b.Len()
			}
			if sum > size {
				t.Errorf("%q: %d bytes of a file of %d", asked, sum, size)
			}
		}
	})
}
