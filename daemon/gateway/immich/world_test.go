package immich_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// world is a box with ada, who consented to what she needs, and bob, who did not.
// Both have an app token.
type world struct {
	*daemontest.Box
	t        *testing.T
	ada, bob *daemontest.Person
}

func newWorld(t *testing.T) *world {
	t.Parallel()
	b := daemontest.Start(t)
	w := &world{Box: b, t: t, ada: b.Bind(), bob: b.AddPerson("bob")}
	w.ada.Grant("storage", "album_backup")
	for _, p := range []*daemontest.Person{w.ada, w.bob} {
		var app struct{ Token string }
		p.Call("POST", "/v1/tokens", map[string]any{"name": "uploader", "scope": "files"}, &app)
		*p = *p.With(app.Token)
	}
	return w
}

// full signs somebody in again, for what an app token may not do.
func (w *world) full(p *daemontest.Person) *daemontest.Person { return w.SignIn(p.Name) }

type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   []byte
}

// as sends a request with the person's token as an API key. The extra are header
// names and values.
func (w *world) as(p *daemontest.Person, method, path string, body io.Reader, extra ...string) answer {
	w.t.Helper()
	r := p.Request(method, path, body)
	r.Header.Del("Authorization")
	if p.Token != "" {
		r.Header.Set("x-api-key", p.Token)
	}
	for i := 0; i < len(extra); i += 2 {
		r.Header.Set(extra[i], extra[i+1])
	}
	a := answer{t: w.t, what: method + " " + path}
	a.status, a.header, a.body = p.Do(r)
	return a
}

// json sends JSON as ada.
func (w *world) json(method, path, body string) answer {
	w.t.Helper()
	return w.as(w.ada, method, path, strings.NewReader(body), "Content-Type", "application/json")
}

func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// into decodes a success, whose type clients look at.
func (a answer) into(out any) answer {
	a.t.Helper()
	if a.status/100 != 2 || a.header.Get("Content-Type") != "application/json" {
		a.t.Fatalf("%s: %d %s %s", a.what, a.status, a.header.Get("Content-Type"), a.body)
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		a.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
	return a
}

// refuses checks a refusal in the protocol's form, which tells a person what to do.
func (a answer) refuses(status int, kind string) answer {
	a.t.Helper()
	a.is(status)
	var doc struct {
		Message, Error, Type, Hint string
		StatusCode                 int
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || !strings.Contains(a.header.Get("Content-Type"), "json") {
		a.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
	if doc.Message == "" || doc.Error != http.StatusText(status) || doc.StatusCode != status ||
		doc.Type != "urn:yunbox:problem:"+kind || doc.Hint == "" || !strings.Contains(doc.Message, doc.Hint) {
		a.t.Errorf("%s: it should be %s: %s", a.what, kind, a.body)
	}
	return a
}

const boundary = "----formdata-undici-012345678901"

// A piece is a part of a form.
type piece struct{ name, filename, value string }

func field(name, value string) piece         { return piece{name: name, value: value} }
func file(name, content string) piece        { return piece{"assetData", name, content} }
func named(part, name, content string) piece { return piece{part, name, content} }

// form writes a form as the programs do.
func form(pieces ...piece) *bytes.Buffer {
	var b bytes.Buffer
	for _, p := range pieces {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q", boundary, p.name)
		if p.filename != "" {
			fmt.Fprintf(&b, "; filename=\"%s\"\r\nContent-Type: application/octet-stream", p.filename)
		}
		fmt.Fprintf(&b, "\r\n\r\n%s\r\n", p.value)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return &b
}

const (
	created  = "2021-02-03T04:05:06.000Z"
	modified = "2023-11-14T22:13:20.123Z"
)

// post sends a form as a person.
func (w *world) post(p *daemontest.Person, query string, body io.Reader, extra ...string) answer {
	w.t.Helper()
	return w.as(p, "POST", "/api/assets"+query, body, append([]string{"Content-Type", "multipart/form-data; boundary=" + boundary}, extra...)...)
}

// upload sends a photo of ada's and returns its id and what became of it.
func (w *world) upload(name, content string, pieces ...piece) (id, status string) {
	w.t.Helper()
	pieces = append([]piece{field("fileCreatedAt", created), field("fileModifiedAt", modified)}, append(pieces, file(name, content))...)
	var out struct{ ID, Status string }
	a := w.post(w.ada, "", form(pieces...)).into(&out)
	if want := map[string]int{"created": 201, "duplicate": 200}[out.Status]; a.status != want {
		w.t.Errorf("%d for %s", a.status, out.Status)
	}
	return out.ID, out.Status
}

type item struct {
	ID, Path, Source, SHA256 string
	Size                     int64
	MTime                    string
}

// items lists what a person keeps, by path.
func (w *world) items(p *daemontest.Person) map[string]item {
	w.t.Helper()
	var page struct{ Items []item }
	p.Call("GET", "/v1/items?recursive=true&limit=1000", nil, &page)
	all := map[string]item{}
	for _, it := range page.Items {
		all[it.Path] = it
	}
	return all
}

// holds checks the bytes of ada's file.
func (w *world) holds(path, content string) {
	w.t.Helper()
	status, _, body := w.ada.Do(w.ada.Request("GET", "/v1/files/"+strings.ReplaceAll(path, " ", "%20"), nil))
	if status != 200 || string(body) != content {
		w.t.Errorf("%s: %d %.60q, want %.60q", path, status, body, content)
	}
}

func sum(content string) [20]byte { return sha1.Sum([]byte(content)) }

func hexSum(content string) string {
	s := sum(content)
	return hex.EncodeToString(s[:])
}

func base64Sum(content string) string {
	s := sum(content)
	return base64.StdEncoding.EncodeToString(s[:])
}
