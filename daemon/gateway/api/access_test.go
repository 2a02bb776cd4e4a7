package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/gateway/resumable"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
)

// example is a request that fits an operation's template. What it names does not
// exist: who may not ask must not even learn that.
func (o operation) example() string {
	return strings.NewReplacer(
		"/v1/files/{path}", "/v1/files/some/file.jpg?source=album", "{purpose}", "album_backup", "{id}", ident.ItemID(1).String(),
	).Replace(o.path)
}

// knock sends an operation's example without a useful body and returns the
// status and the kind of problem.
func (w *world) knock(token string, op operation) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), op.method, w.URL+op.example(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.HasPrefix(op.path, "/v1/uploads") {
		r.Header.Set("Tus-Resumable", "1.0.0")
	}
	return w.send(r)
}

// R34: every operation against everybody who may not use it. The operations come
// from the document, so a new one is tested from its first day.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var app struct{ ID, Token string }
	w.ask(w.ada, "POST", "/v1/tokens", `{"name":"camera","scope":"files"}`).into(t, &app)
	var revoked struct{ ID, Token string }
	w.ask(w.ada, "POST", "/v1/tokens", `{"name":"lost","scope":"files"}`).into(t, &revoked)
	w.ask(w.ada, "DELETE", "/v1/tokens/"+revoked.ID, "").is(t, "revoke", 204, "")

	for _, op := range w.spec.operations() {
		if op.path == "/v1/events" || op.path == "/metrics" {
			continue // the one does not end, the other looks at where the request comes from: see their own tests
		}
		for who, token := range map[string]string{"nobody": "", "garbage": "garbage", "a revoked token": revoked.Token} {
			a := w.knock(token, op)
			if refused := a.status == 401 || a.status == 429; refused == (op.access() == "public") && op.method != "POST" || a.status >= 500 {
				t.Errorf("%s, %v (%s): %d %s", who, op, op.access(), a.status, a.body)
			}
			if op.access() != "public" && op.method == "POST" && a.status != 401 && a.status != 429 {
				t.Errorf("%s, %v (%s): %d %s", who, op, op.access(), a.status, a.body)
			}
		}
		may := map[string]bool{"public": true, "files": true}[op.access()]
		if a := w.knock(app.Token, op); (a.status != 403) != may && a.status != 401 {
			t.Errorf("a token for files, %v (%s): %d %s", op, op.access(), a.status, a.body)
		}
		if a := w.knock(w.bob().Token, op); op.access() == "admin" && a.status != 403 {
			t.Errorf("a member, %v: %d %s", op, a.status, a.body)
		}
		if op.ID() == "sign-out" { // bob has done that just now
			w.bobs = w.SignIn("bob")
		}
	}
}

func (o operation) ID() string { id, _ := o.body["operationId"].(string); return id }

// The document describes every route that the gateways under /v1 have, with the
// access that it really has, and no other.
func TestEveryRouteIsDescribed(t *testing.T) {
	server := httpd.New(httpd.Options{})
	face := api.New(api.Options{Server: server})
	resumable.New(resumable.Options{}).Register(server, face.OpenAPI())
	doc, err := json.Marshal(face.OpenAPI())
	s := &spec{}
	if err == nil {
		err = json.Unmarshal(doc, &s.doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	for _, op := range s.operations() {
		described[op.String()] = op.access()
	}
	for _, route := range server.Routes() {
		pattern := strings.NewReplacer("/{path...}", "/{path}", "/{$}", "").Replace(route.Pattern)
		if pattern == "OPTIONS /v1/uploads/{id}" {
			continue // the same as without an id
		}
		access, ok := described[pattern]
		if !ok || access != accessNames[route.Access] && access != "seen" {
			t.Errorf("%s is %s; the document says %q", route.Pattern, accessNames[route.Access], access)
		}
		described[pattern] = "seen"
		if path, ok := strings.CutPrefix(pattern, "GET "); ok && described["HEAD "+path] == access {
			described["HEAD "+path] = "seen" // http.ServeMux serves both
		}
	}
	for op, state := range described {
		if state != "seen" {
			t.Errorf("%s is described, but there is no such route", op)
		}
	}
}

var accessNames = map[httpd.Access]string{
	httpd.Public: "public", httpd.SignedIn: "signed-in", httpd.Files: "files", httpd.AdminOnly: "admin",
}

func TestUnknownAddressesAreProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/v1/nothing", 404}, {"GET", "/v2/me", 404}, {"POST", "/v1/me", 405}, {"PATCH", "/v1/files/a.jpg", 405}, {"GET", "/v1/session", 405}, {"TRACE", "/v1/me", 405},
	} {
		a := send(t, w, tt.method, tt.target)
		if a.status != tt.status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, a.status, a.header.Get("Content-Type"))
		}
		if tt.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", tt.method, tt.target)
		}
	}
}

// send asks for what the document does not describe.
func send(t *testing.T, w *world, method, target string) answer {
	t.Helper()
	status, header, body := w.ada.Do(w.ada.Request(method, target, nil))
	return answer{status, header, body}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.ada, "a.jpg", "12345")
	a := w.ask(nil, "GET", "/metrics", "")
	a.is(t, "from this machine", 200, "")
	for _, line := range []string{"yunbox_items 1\n", "yunbox_physical_bytes 5\n", "# TYPE yunbox_disk_free_bytes gauge\n", "yunbox_volume_healthy 1\n"} {
		if !strings.Contains(string(a.body), line) {
			t.Errorf("%q is missing in\n%s", line, a.body)
		}
	}
	w.ask(nil, "GET", "/healthz", "").is(t, "health", 200, "")
	ca := w.ask(nil, "GET", "/ca.crt", "")
	if ca.is(t, "the authority", 200, ""); !strings.HasPrefix(string(ca.body), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("ca.crt: %s", ca.body)
	}
}
