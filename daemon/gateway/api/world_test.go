package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// world is a box with its owner. Every answer that goes through it is held
// against the OpenAPI document.
type world struct {
	*daemontest.Box
	t    *testing.T
	spec *spec
	ada  *daemontest.Person
	bobs *daemontest.Person // made when he is asked for
}

func newWorld(t *testing.T) *world { return worldOn(t, daemontest.Start(t)) }

func worldOn(t *testing.T, box *daemontest.Box) *world {
	w := &world{Box: box, t: t, spec: readSpec(t, box), ada: box.Bind()}
	// An answer is what the box says itself, not where it sends somebody.
	box.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.ada.Grant("storage", "album_backup")
	return w
}

// bob is a second person, a member.
func (w *world) bob() *daemontest.Person {
	w.t.Helper()
	if w.bobs == nil {
		w.bobs = w.AddPerson("bob")
		w.bobs.Grant("storage", "album_backup")
	}
	return w.bobs
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request as p, or as nobody, and checks the answer against the
// document. header is name, value, name, value.
func (w *world) ask(p *daemontest.Person, method, target, body string, header ...string) answer {
	w.t.Helper()
	token := ""
	if p != nil {
		token = p.Token
	}
	return w.askWith(token, method, target, body, header...)
}

func (w *world) askWith(token, method, target, body string, header ...string) answer {
	w.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+target, in)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.HasPrefix(body, "{") && !strings.HasPrefix(target, "/v1/files/") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) answer {
	w.t.Helper()
	resp, err := w.Client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		w.t.Fatal(err)
	}
	if err := w.spec.checkAnswer(r.Method, r.URL.Path, a.status, a.header, a.body); err != nil {
		w.t.Error(err)
	}
	return a
}

// into decodes the body.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// is checks status and, for a problem, its kind; "" is a success.
func (a answer) is(t *testing.T, what string, status int, kind string) {
	t.Helper()
	got := ""
	if a.status >= 400 {
		var p struct{ Type, Title, Hint string }
		if json.Unmarshal(a.body, &p) == nil {
			got = strings.TrimPrefix(p.Type, "urn:yunbox:problem:")
			if p.Title == "" || p.Hint == "" {
				t.Errorf("%s: the problem does not say what to do: %s", what, a.body)
			}
		}
	}
	if a.status != status || got != kind {
		t.Errorf("%s: %d %q, want %d %q: %.300s", what, a.status, got, status, kind, a.body)
	}
}

type stored struct {
	ID, Path, SHA256, Stored, MTime string
	Size                            int64
}

// put stores a file and returns its receipt.
func (w *world) put(p *daemontest.Person, path, content string) stored {
	w.t.Helper()
	a := w.ask(p, "PUT", "/v1/files/"+path+"?source=album", content)
	if a.status/100 != 2 {
		w.t.Fatalf("PUT %s: %d %s", path, a.status, a.body)
	}
	var s stored
	a.into(w.t, &s)
	return s
}

// names lists a person's files.
func (w *world) names(p *daemontest.Person) []string {
	w.t.Helper()
	var page struct{ Items []struct{ Path string } }
	w.ask(p, "GET", "/v1/items?recursive=true", "").into(w.t, &page)
	var list []string
	for _, i := range page.Items {
		list = append(list, i.Path)
	}
	return list
}

func sha(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func reprDigest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// eventually waits for something that happens soon, for a generous while.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
