package httpd_test

import (
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/httpd"
)

// R14 R34: another site may send a browser to exactly what was let in, and in no other way.
func TestVisits(t *testing.T) {
	h := open(t, httpd.Limits{}, func(h *hall) {
		ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		for _, m := range []string{"GET", "POST"} {
			h.Handle(m+" /back/{which}", ok, httpd.Public)
		}
		h.LetVisit("GET", "/back/get")
		h.LetVisit("POST", "/back/post")
	})
	const form = "application/x-www-form-urlencoded"
	visit := map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Origin": "https://appleid.apple.com"}
	for _, c := range []struct {
		method, path, kind string
		change             map[string]string
		want               int
	}{
		{"GET", "/back/get", "", nil, 204},
		{"POST", "/back/post", form, nil, 204},
		{"POST", "/back/post", form + "; charset=utf-8", nil, 204},
		{"POST", "/back/post", form, map[string]string{"Sec-Fetch-Site": "", "Sec-Fetch-Mode": "", "Sec-Fetch-Dest": ""}, 204}, // an old browser
		{"GET", "/back/post", "", nil, 403},
		{"HEAD", "/back/get", "", nil, 403},
		{"POST", "/back/get", form, nil, 403},
		{"GET", "/back/other", "", nil, 403},
		{"GET", "/back/get/", "", nil, 403},
		{"POST", "/back/post", "application/json", nil, 403},
		{"POST", "/back/post", "text/plain", nil, 403},
		{"POST", "/back/post", "", nil, 403},
		{"GET", "/back/get", "", map[string]string{"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403},
		{"GET", "/back/get", "", map[string]string{"Sec-Fetch-Dest": "iframe"}, 403},
		{"POST", "/back/post", form, map[string]string{"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 403},
		{"POST", "/back/post", form, map[string]string{"Cookie": httpd.CookieName + "=" + h.owner.Token}, 403}, // no browser sends it along
	} {
		resp := h.request(c.method, c.path, strings.NewReader("a=b"), func(r *http.Request) {
			if c.kind != "" {
				r.Header.Set("Content-Type", c.kind)
			}
			for _, list := range []map[string]string{visit, c.change} {
				for k, v := range list {
					if r.Header.Set(k, v); v == "" {
						r.Header.Del(k)
					}
				}
			}
		})
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s as %q with %v: %d, want %d", c.method, c.path, c.kind, c.change, resp.StatusCode, c.want)
		}
	}
}
