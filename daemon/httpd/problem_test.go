package httpd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

func TestEveryErrorIsAProblem(t *testing.T) {
	h := open(t, httpd.Limits{}, func(h *hall) {
		each(h)
		fail := func(path string, err error) {
			h.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"of the answer that never came"`)
				w.Header().Set("Content-Length", "12345")
				httpd.WriteProblem(w, r, err)
			}), httpd.Public)
		}
		fail("/fail/unknown", errors.New("pq: secret table is missing"))
		fail("/fail/wrapped", fmt.Errorf("deep down: %w", &problem.Error{Kind: problem.ConsentRequired, Op: "x",
			Detail: "d", Hint: "h", Members: map[string]any{"purpose": "wechat_backup", "status": 200, "type": "mine"}}))
		fail("/fail/wait", &problem.Error{Kind: problem.RateLimited, Hint: "h", RetryAfter: 1500 * time.Millisecond})
		fail("/fail/canceled", context.Canceled)
		fail("/fail/member", &problem.Error{Kind: problem.Invalid, Hint: "h", Members: map[string]any{"f": func() {}}})
		h.Handle("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("with a secret inside") }), httpd.Public)
	})
	for _, c := range []struct {
		method, path string
		status       int
		kind         string
	}{
		{"GET", "/nothing/here", 404, "not-found"},
		{"POST", "/only-get", 405, "method-not-allowed"},
		{"OPTIONS", "/only-get", 405, "method-not-allowed"},
		{"PUT", "/files//a", 400, "invalid"},
		{"PUT", "/files/a/../b", 400, "invalid"},
		{"PUT", "/files/%2e%2e/b", 400, "invalid"},
		{"PUT", "/files/a/%2E/b", 400, "invalid"},
		{"PUT", "/files/..%2f..%2fetc/passwd", 400, "invalid"},
		{"GET", "//files/a", 400, "invalid"},
		{"PUT", "/files/.", 400, "invalid"},
		{"PUT", "/tree", 405, "method-not-allowed"},
		{"GET", "/fail/unknown", 500, "internal"},
		{"GET", "/fail/wrapped", 403, "consent-required"},
		{"GET", "/fail/wait", 429, "rate-limited"},
		{"GET", "/fail/canceled", 503, "canceled"},
		{"GET", "/panic", 500, "internal"},
	} {
		resp := h.request(c.method, c.path, nil, bearer(h.owner.Token))
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, resp.StatusCode, c.status)
			continue
		}
		doc := document(t, resp)
		if doc["type"] != "urn:yunbox:problem:"+c.kind {
			t.Errorf("%s %s: %v", c.method, c.path, doc)
		}
		if s := fmt.Sprint(doc, resp.Header); strings.Contains(s, "secret") || strings.Contains(s, "never came") {
			t.Errorf("%s %s tells %s", c.method, c.path, s)
		}
	}
	if got := h.request("POST", "/only-get", nil, nil).Header.Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow: %q", got)
	}
	if doc := document(t, h.request("GET", "/fail/wrapped", nil, nil)); doc["purpose"] != "wechat_backup" {
		t.Errorf("the members are lost: %v", doc)
	}
	if got := h.request("GET", "/fail/wait", nil, nil).Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: %q", got)
	}
	if resp := h.request("GET", "/fail/member", nil, nil); resp.StatusCode != 400 {
		t.Errorf("a member that is no JSON: %d", resp.StatusCode)
	}
	if resp := h.request("GET", "/tree", nil, nil); resp.StatusCode/100 != 3 || resp.Header.Get("Location") != "/tree/" {
		t.Errorf("reading a folder without its slash: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	head := h.request("HEAD", "/fail/unknown", nil, nil)
	if body, _ := io.ReadAll(head.Body); head.StatusCode != 500 || len(body) != 0 {
		t.Errorf("HEAD: %d, %q", head.StatusCode, body)
	}
	log := h.log.String()
	if !strings.Contains(log, "secret table is missing") || !strings.Contains(log, "with a secret inside") {
		t.Error("the causes of internal errors are not in the log")
	}
}

func TestGuardOutsideTheHall(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	mux := http.NewServeMux()
	mux.HandleFunc("/fail/{name}", func(w http.ResponseWriter, r *http.Request) { httpd.WriteProblem(w, r, errors.New("the cause")) })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("the reason") })
	mux.HandleFunc("/half", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		httpd.WriteProblem(w, r, errors.New("too late"))
	})
	s := httptest.NewServer(httpd.Guard(slog.New(slog.NewTextHandler(log, nil)), mux))
	defer s.Close()
	for path, said := range map[string]string{"/fail/anna": "the cause", "/panic": "the reason"} {
		resp, err := s.Client().Get(s.URL + path)
		check(t, err)
		wantProblem(t, resp, 500, "internal")
		resp.Body.Close()
		if !strings.Contains(log.String(), said) {
			t.Errorf("%s: the log does not say why: %s", path, log)
		}
	}
	if strings.Contains(log.String(), "anna") || !strings.Contains(log.String(), "/fail/{name}") {
		t.Errorf("the log names people, or not the route: %s", log)
	}
	if resp, err := s.Client().Get(s.URL + "/half"); err == nil {
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("half an answer looks whole: %q", body)
		}
		resp.Body.Close()
	}
	if !strings.Contains(log.String(), "too late") {
		t.Errorf("the log does not say why: %s", log)
	}
}

func TestBrokenAnswerIsNeverTakenForWhole(t *testing.T) { // R01
	begin := func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, "the first half")
		_ = http.NewResponseController(w).Flush()
	}
	h := open(t, httpd.Limits{}, func(h *hall) {
		h.Handle("/problem", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			httpd.WriteProblem(w, r, errors.New("the disk is gone"))
		}), httpd.Public)
		h.Handle("/panic", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			panic("oops")
		}), httpd.Public)
	})
	for _, http2 := range []bool{true, false} {
		h.client = h.newClient(http2)
		for _, path := range []string{"/problem", "/panic"} {
			resp := h.request("GET", path, nil, nil)
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s over HTTP/%d looks complete: %q", path, resp.ProtoMajor, body)
			}
		}
	}
}

func TestSizeOfBodies(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	big := bytes.Repeat([]byte("x"), 1<<20+1)
	for _, http2 := range []bool{true, false} {
		h.client = h.newClient(http2)
		for _, c := range []struct {
			path   string
			size   int
			status int
		}{
			{"/public", 1 << 20, 200}, {"/public", 1<<20 + 1, 413}, {"/signedin", 1<<20 + 1, 413}, {"/admin", 1<<20 + 1, 413}, {"/files/x", 1<<20 + 1, 200},
		} {
			for name, body := range map[string]io.Reader{"length": bytes.NewReader(big[:c.size]), "chunks": io.MultiReader(bytes.NewReader(big[:c.size]))} {
				resp := h.request("POST", c.path, body, bearer(h.owner.Token))
				if resp.StatusCode != c.status {
					t.Errorf("%s, %d bytes by %s over HTTP/%d: %d, want %d", c.path, c.size, name, resp.ProtoMajor, resp.StatusCode, c.status)
				}
				if resp.StatusCode == 413 {
					document(t, resp)
				}
				resp.Body.Close()
			}
		}
	}
}

func TestHeaders(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, func(h *hall) {
		each(h)
		h.Handle("/page", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
		}), httpd.Public)
	})
	for _, path := range []string{"/public", "/nothing", "/signedin"} {
		got := h.request("GET", path, nil, nil).Header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY", "Permissions-Policy": "camera=()",
			"Content-Security-Policy": "default-src 'none'",
		} {
			if !strings.HasPrefix(got.Get(name), want) {
				t.Errorf("%s: %s is %q", path, name, got.Get(name))
			}
		}
		if got.Get("Server") != "" {
			t.Errorf("it says what it is: %q", got.Get("Server"))
		}
	}
	if got := h.request("GET", "/page", nil, nil).Header.Get("Content-Security-Policy"); got != "default-src 'self'" {
		t.Errorf("a page's own policy is replaced by %q", got)
	}
}

func TestLogHasNoPersonalData(t *testing.T) { // privacy
	h := open(t, httpd.Limits{}, each)
	h.request("PUT", "/files/Urlaub/IMG_4711.jpg?source=wechat&device=geheim", strings.NewReader("x"), bearer(h.files))
	h.request("GET", "/nothing/IMG_4711.jpg", nil, bearer("yb_wrong-token"))
	h.request("GEHEIM1", "/public", nil, nil)
	h.request("PUT", "/signedin", nil, func(r *http.Request) { r.SetBasicAuth("ben", password) })
	log := h.log.String()
	if !strings.Contains(log, "/files/{path...}") {
		t.Fatalf("the log has no routes: %s", log)
	}
	for _, secret := range []string{"4711", "Urlaub", "geheim", "GEHEIM", "wechat", h.files, h.member.Token, "wrong-token", password} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func TestRouteWithoutAccessIsRefused(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	for _, a := range []httpd.Access{0, -1, httpd.AdminOnly + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a route was registered with access %d", a)
				}
			}()
			h.Handle("/x", http.HandlerFunc(echo), a)
		}()
	}
	if routes := h.Routes(); len(routes) != 7 || routes[0] != (httpd.Route{Pattern: "/public", Access: httpd.Public, Remains: "*"}) {
		t.Errorf("%v", routes)
	}
}
