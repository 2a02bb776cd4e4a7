package httpd_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/httpd"
)

// Whoever opens the box without encryption is shown the way, in words of theirs; a program
// is told to stop.
func TestPort80ShowsTheWay(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	done := make(chan error, 1)
	go func() { done <- h.ServeRedirect(t.Context(), ln, 8443) }()
	at := "https://127.0.0.1:8443/"
	const html, zh = "text/html,*/*;q=0.8", "zh-CN,zh;q=0.9,en;q=0.8"
	for name, c := range map[string]struct {
		method, path, accept, lang, host string
		status                           int
		location, kind, says, lacks      string
	}{
		"the page":            {"GET", "/", html, "de,en;q=0.5", "", 307, at, "text/html", `<a href="` + at + `">`, "盒子"},
		"the page, Chinese":   {"GET", "/", html, zh, "", 307, at, "text/html", "盒子只接受 HTTPS", "This box"},
		"a bookmark":          {"GET", "/files/a", html, "", "", 400, "", "text/html", "This box speaks HTTPS only", "files/a"},
		"a bookmark, Chinese": {"GET", "/x", html, "zh-TW", "", 400, "", "text/html", "请打开 <a href=\"" + at, ""},
		"only asked about":    {"HEAD", "/x", html, zh, "", 400, "", "text/html", "", ""},
		"a program":           {"GET", "/v1/me", "application/json", zh, "", 400, "", "application/problem+json", "speaks HTTPS only", "<"},
		"one that sends":      {"PUT", "/v1/files/a", html, "", "", 400, "", "application/problem+json", "Nothing was read", "<"},
		"another name":        {"GET", "/", html, "", `evil.example`, 421, "", "application/problem+json", "", "https://evil"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+ln.Addr().String()+c.path, nil)
		check(t, err)
		r.Header.Set("Accept", c.accept)
		if c.lang != "" {
			r.Header.Set("Accept-Language", c.lang)
		}
		if c.host != "" {
			r.Host = c.host
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		check(t, err)
		b, err := io.ReadAll(resp.Body)
		check(t, err)
		resp.Body.Close()
		if text := string(b); resp.StatusCode != c.status || resp.Header.Get("Location") != c.location || !strings.HasPrefix(resp.Header.Get("Content-Type"), c.kind) ||
			!strings.Contains(text, c.says) || c.lacks != "" && strings.Contains(text, c.lacks) || len(text) > 1200 || !resp.Close {
			t.Errorf("%s: %d %v\n%s", name, resp.StatusCode, resp.Header, text)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	check(t, h.Shutdown(t.Context()))
	check(t, <-done)
}
