package httpd_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"yunbox.local/daemon/httpd"
)

// everywhere are requests to one route of every kind, in all methods that matter.
var everywhere = []struct{ method, path string }{
	{"GET", "/"}, {"GET", "/public"}, {"POST", "/public"}, {"GET", "/signedin"}, {"PUT", "/files/a/b.jpg"}, {"GET", "/files/a/b.jpg"},
	{"PROPFIND", "/files/a"}, {"DELETE", "/files/a"}, {"PATCH", "/files/a"}, {"OPTIONS", "/files/a"}, {"HEAD", "/files/a"},
	{"POST", "/admin"}, {"GET", "/no/such/route"}, {"PUT", "/only-get"},
}

func TestDNSRebinding(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, each)
	_, port, err := net.SplitHostPort(h.addr)
	check(t, err)
	own := []string{
		h.addr, "127.0.0.1", "localhost", "localhost:" + port, h.id.HostName(), strings.ToUpper(h.id.HostName()), h.id.HostName() + ".",
		h.id.HostName() + ":" + port, "nas.home.arpa", "NAS.home.arpa:443", "[::1]", "[::1]:" + port, "[::ffff:127.0.0.1]",
	}
	addrs, err := net.InterfaceAddrs()
	check(t, err)
	for _, a := range addrs {
		if ip, err := netip.ParsePrefix(a.String()); err == nil {
			if host := ip.Addr().String(); ip.Addr().Is4() {
				own = append(own, host)
			} else {
				own = append(own, "["+host+"]")
			}
		}
	}
	foreign := []string{
		"evil.example", "evil.example:" + port, "127.0.0.1.nip.io", "localhost.evil.example", h.id.HostName() + ".evil.example",
		"yunbox-0000.local.evil", "192.0.2.7", "[2001:db8::7]", "8.8.8.8", "2130706433", "0x7f000001", "127.1", "evil.local", "local",
		"x" + h.id.HostName(),
	}
	for _, rq := range everywhere {
		for _, host := range own {
			resp := h.request(rq.method, rq.path, nil, func(r *http.Request) { r.Host = host; bearer(h.owner.Token)(r) })
			if resp.StatusCode == http.StatusMisdirectedRequest || resp.StatusCode == http.StatusBadRequest {
				t.Errorf("%s %s refuses its own name %s: %d", rq.method, rq.path, host, resp.StatusCode)
			}
			resp.Body.Close()
		}
		for _, host := range foreign {
			resp := h.request(rq.method, rq.path, nil, func(r *http.Request) { r.Host = host; bearer(h.owner.Token)(r) })
			if resp.StatusCode != http.StatusMisdirectedRequest && resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s %s answers %d to the host %s", rq.method, rq.path, resp.StatusCode, host)
			}
			resp.Body.Close()
		}
	}
	for _, text := range []string{
		"GET https://evil.example/public HTTP/1.1\nHost: HOST\n\n", // the target's host counts (RFC 9112 §3.2.2)
		"GET /public HTTP/1.0\n\n",
		"GET /public HTTP/1.1\nHost: \n\n",
		"GET /public HTTP/1.1\nHost: evil.example@127.0.0.1\n\n",
		"GET /public HTTP/1.1\nHost: 127.0.0.1:80:80\n\n",
		"GET /public HTTP/1.1\nHost: 127.0.0.1 evil.example\n\n",
	} {
		for _, resp := range h.speak(text, 1) {
			if resp.StatusCode != http.StatusMisdirectedRequest && resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%q: %d", text, resp.StatusCode)
			}
		}
	}
	resp := h.request("GET", "/public", nil, func(r *http.Request) { r.Host = "evil.example" })
	wantProblem(t, resp, http.StatusMisdirectedRequest, "misdirected")
}

func TestOtherWebSites(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, each)
	origin := "https://" + h.addr
	type headers map[string]string
	set := func(hd headers) func(*http.Request) {
		return func(r *http.Request) {
			bearer(h.owner.Token)(r)
			for k, v := range hd {
				r.Header.Set(k, v)
			}
		}
	}
	refused := []headers{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site", "Origin": origin},
		{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, {"Sec-Fetch-Site": "made-up"},
		{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://" + h.addr}, {"Origin": "https://127.0.0.1:1"},
		{"Origin": origin + ".evil.example"}, {"Origin": "file://"}, {"Origin": ""},
		{"Sec-Fetch-Site": "none", "Origin": "https://evil.example"},
		{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
		{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "document"},
	}
	allowed := []headers{
		{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "same-origin", "Origin": origin}, {"Origin": origin},
	}
	for _, rq := range everywhere {
		for _, hd := range refused {
			resp := h.request(rq.method, rq.path, nil, set(hd))
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s answers %d to %v", rq.method, rq.path, resp.StatusCode, hd)
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s lets another site read", rq.method, rq.path)
			}
			resp.Body.Close()
		}
		for _, hd := range allowed {
			resp := h.request(rq.method, rq.path, nil, set(hd))
			if resp.StatusCode == http.StatusForbidden {
				t.Errorf("%s %s refuses %v", rq.method, rq.path, hd)
			}
			resp.Body.Close()
		}
		typed := h.request(rq.method, rq.path, nil, set(headers{"Sec-Fetch-Site": "none"}))
		if typed.StatusCode == http.StatusForbidden {
			t.Errorf("%s %s cannot be typed", rq.method, rq.path)
		}
		link := h.request(rq.method, rq.path, nil, set(headers{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}))
		if want := rq.method == "GET" && rq.path == "/"; (link.StatusCode != http.StatusForbidden) != want {
			t.Errorf("following a link with %s to %s: %d", rq.method, rq.path, link.StatusCode)
		}
	}
}

func TestCookiesNeedTheSameOrigin(t *testing.T) { // R34, R39
	h := open(t, httpd.Limits{}, each)
	origin := "https://" + h.addr
	for _, c := range []struct {
		method, name, value string
		ok                  bool
	}{
		{"GET", "", "", true}, {"HEAD", "", "", true},
		{"POST", "", "", false}, {"PUT", "", "", false}, {"DELETE", "", "", false}, {"PATCH", "", "", false}, {"PROPFIND", "", "", false},
		{"POST", "Origin", origin, true}, {"POST", "Sec-Fetch-Site", "same-origin", true}, {"PUT", "Origin", origin, true},
		{"POST", "Sec-Fetch-Site", "none", false}, {"POST", "Referer", origin + "/", false}, {"POST", "Origin", "https://evil.example", false},
	} {
		resp := h.request(c.method, "/files/x", nil, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: httpd.CookieName, Value: h.member.Token})
			if c.name != "" {
				r.Header.Set(c.name, c.value)
			}
		})
		if want := map[bool]int{true: 200, false: 403}[c.ok]; resp.StatusCode != want {
			t.Errorf("%s with %s %q: %d, want %d", c.method, c.name, c.value, resp.StatusCode, want)
		}
	}
	// A program with a bearer token has no origin to show.
	if resp := h.request("POST", "/files/x", nil, bearer(h.member.Token)); resp.StatusCode != 200 {
		t.Errorf("a program is refused: %d", resp.StatusCode)
	}
}

func TestSessionCookie(t *testing.T) { // R39
	h := open(t, httpd.Limits{}, func(h *hall) {
		h.Handle("POST /in", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { httpd.SetSessionCookie(w, h.member) }), httpd.Public)
		h.Handle("POST /out", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { httpd.ClearSessionCookie(w) }), httpd.Public)
	})
	for _, path := range []string{"/in", "/out"} {
		got := h.request("POST", path, nil, nil).Header.Get("Set-Cookie")
		for _, want := range []string{"__Host-yunbox=", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q lacks %s", path, got, want)
			}
		}
		if strings.Contains(got, "Domain") || path == "/out" && !strings.Contains(got, "Max-Age=0") ||
			path == "/in" && !strings.Contains(got, "Max-Age=15") { // 180 days, by whatever clock
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestWhoMayUseWhichRoute(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, each)
	basic := func(user, token string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, token) }
	}
	header := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", v) }
	}
	cookie := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: httpd.CookieName, Value: token}) }
	}
	key := func(tokens ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["X-Api-Key"] = tokens }
	}
	for _, c := range []struct {
		who                            string
		as                             func(*http.Request)
		name                           string // on public routes
		public, signedin, files, admin int
	}{
		{"nobody", nil, "", 200, 401, 401, 401},
		{"the owner", bearer(h.owner.Token), "anna", 200, 200, 200, 200},
		{"the owner's cookie", cookie(h.owner.Token), "anna", 200, 200, 200, 200},
		{"a member", bearer(h.member.Token), "ben", 200, 200, 200, 403},
		{"a member's cookie", cookie(h.member.Token), "ben", 200, 200, 200, 403},
		{"a full token", bearer(h.full), "ben", 200, 200, 200, 403},
		{"a files token", bearer(h.files), "ben", 200, 403, 200, 403},
		{"a files token by Basic", basic("ben", h.files), "ben", 200, 403, 200, 403},
		{"a full token by Basic", basic("BEN", h.full), "ben", 200, 200, 200, 403},
		{"another's name by Basic", basic("anna", h.full), "", 200, 401, 401, 401},
		{"the password by Basic", basic("ben", password), "", 200, 401, 401, 401},
		{"a files token as an API key", key(h.files), "ben", 200, 403, 200, 403},
		{"a full token as an API key", key(h.full), "ben", 200, 200, 200, 403},
		{"a bad API key", key("x"), "", 200, 401, 401, 401},
		{"two API keys", key(h.full, h.full), "", 200, 401, 401, 401},
		{"a bad API key beside a good cookie", func(r *http.Request) { cookie(h.member.Token)(r); key("x")(r) }, "", 200, 401, 401, 401},
		{"a bad header beside a good API key", func(r *http.Request) { key(h.full)(r); header("Bearer x")(r) }, "", 200, 401, 401, 401},
		{"garbage", header("Bearer x"), "", 200, 401, 401, 401},
		{"no token", header("Bearer "), "", 200, 401, 401, 401},
		{"another scheme", header("Digest username=ben"), "", 200, 401, 401, 401},
		{"broken Basic", header("Basic %%%"), "", 200, 401, 401, 401},
		{"a bad cookie", cookie("ys_x"), "", 200, 401, 401, 401},
		{"a bad header beside a good cookie", func(r *http.Request) { cookie(h.member.Token)(r); header("Bearer x")(r) }, "", 200, 401, 401, 401},
		{"two headers", func(r *http.Request) {
			r.Header["Authorization"] = []string{"Bearer " + h.member.Token, "Bearer " + h.owner.Token}
		}, "", 200, 401, 401, 401},
	} {
		for path, want := range map[string]int{"/public": c.public, "/signedin": c.signedin, "/files/x": c.files, "/admin": c.admin} {
			resp := h.request("GET", path, nil, c.as)
			// Many bad credentials from one address: 429 in the place of 401.
			if resp.StatusCode != want && !(want == 401 && resp.StatusCode == 429) {
				t.Errorf("%s on %s: %d, want %d", c.who, path, resp.StatusCode, want)
			}
			if path == "/public" {
				body, err := io.ReadAll(resp.Body)
				check(t, err)
				if !strings.Contains(string(body), fmt.Sprintf(`"name":%q`, c.name)) {
					t.Errorf("%s on a public route: %s", c.who, body)
				}
			}
			resp.Body.Close()
		}
	}
}

func TestBadCredentialsAreLimitedGoodOnesNever(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, each)
	seen := map[int]int{}
	for range 30 {
		resp := h.request("GET", "/signedin", nil, bearer("yb_guess"))
		seen[resp.StatusCode]++
		if resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "" {
			t.Error("it is not said how long to wait")
		}
		resp.Body.Close()
	}
	if seen[401] < 10 || seen[401] > 13 || seen[401]+seen[429] != 30 {
		t.Errorf("the answers were %v", seen)
	}
	if resp := h.request("GET", "/signedin", nil, bearer(h.member.Token)); resp.StatusCode != 200 {
		t.Errorf("a good token from the same address: %d", resp.StatusCode)
	}
}

func TestRevokedSessionIsRefusedAtOnce(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, each)
	if resp := h.request("GET", "/signedin", nil, bearer(h.member.Token)); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	check(t, h.accounts.Logout(t.Context(), h.member.Principal))
	wantProblem(t, h.request("GET", "/signedin", nil, bearer(h.member.Token)), 401, "unauthenticated")
	// A long answer asks again whether it may go on.
	r, err := http.NewRequest("GET", "https://"+h.addr+"/signedin", nil)
	check(t, err)
	for token, want := range map[string]bool{h.member.Token: false, "": false, h.full: true} {
		r.Header.Del("Authorization")
		if token != "" {
			bearer(token)(r)
		}
		if p, err := h.Authenticate(r); (err == nil) != want || want && p.Name != "ben" {
			t.Errorf("%+v, %v; want %v", p, err, want)
		}
	}
	if resp := h.request("GET", "/files/x", nil, bearer(h.files)); resp.StatusCode != 200 {
		t.Errorf("the app token went with it: %d", resp.StatusCode)
	}
}

func TestChallenges(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	program := h.request("GET", "/signedin", nil, nil).Header.Get("WWW-Authenticate")
	if !strings.Contains(program, `Basic realm="yunbox", charset="UTF-8"`) || !strings.Contains(program, "Bearer") {
		t.Errorf("a program is asked for %q", program)
	}
	page := h.request("GET", "/signedin", nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }).Header.Get("WWW-Authenticate")
	if strings.Contains(page, "Basic") || page == "" {
		t.Errorf("a page is asked for %q: the browser would open a window of its own", page)
	}
}

func TestRefusedUploadIsNotRead(t *testing.T) { // R34
	h := open(t, httpd.Limits{}, each)
	// The client waits for permission: it gets the refusal and no 100.
	got := h.speak("PUT /files/x HTTP/1.1\nHost: HOST\nContent-Length: 1000000000\nExpect: 100-continue\n\n", 2)
	if len(got) != 1 || got[0].StatusCode != 401 || !got[0].Close {
		t.Errorf("%+v", got)
	}
	// One that does not wait: the answer comes although the body does not.
	got = h.speak("PUT /files/x HTTP/1.1\nHost: HOST\nContent-Length: 1000000000\n\n", 2)
	if len(got) != 1 || got[0].StatusCode != 401 || !got[0].Close {
		t.Errorf("%+v", got)
	}
	// With permission it is asked for.
	c := h.raw()
	fmt.Fprintf(c, "PUT /files/x HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", h.addr, h.files)
	line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(c, line); err != nil || !strings.Contains(string(line), "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	fmt.Fprint(c, "hello")
	if got := h.answers(c, 1); len(got) != 1 || got[0].StatusCode != 200 || got[0].Close {
		t.Errorf("%+v", got)
	}
}

func TestPlainHTTPTakesNoCookie(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	done := make(chan error, 1)
	go func() { done <- h.ServePlain(t.Context(), ln) }()
	url := "http://" + ln.Addr().String() + "/files/x"
	for name, c := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"token":  {bearer(h.files), 200},
		"cookie": {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: httpd.CookieName, Value: h.member.Token}) }, 401},
		"rebind": {func(r *http.Request) { r.Host = "evil.example" }, 421},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		check(t, err)
		c.edit(r)
		resp, err := http.DefaultTransport.RoundTrip(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, c.want)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	check(t, h.Shutdown(t.Context()))
	check(t, <-done)
}

func TestBasicIsReadAsWritten(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	for payload, ok := range map[string]bool{
		"ben:" + h.files: true, "be\x00n:" + h.files: false, "ben" + h.files: false, ":" + h.files: false, "ben:" + h.files + "\n": false, "\xff:" + h.files: false,
	} {
		resp := h.request("GET", "/files/x", nil, func(r *http.Request) {
			r.Header.Set("Authorization", "bAsIc "+base64.StdEncoding.EncodeToString([]byte(payload)))
		})
		if (resp.StatusCode == 200) != ok {
			t.Errorf("%q: %d", payload, resp.StatusCode)
		}
	}
}

func TestRemote(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.168.1.5:1234": "192.168.1.5", "[::ffff:192.168.1.5]:1": "192.168.1.5", "[fe80::1%eth0]:1": "fe80::1", "[::1]:1": "::1", "@": "local", "": "local",
	} {
		if got := httpd.Remote(&http.Request{RemoteAddr: addr}); got != want {
			t.Errorf("%q: %q, want %q", addr, got, want)
		}
	}
}
