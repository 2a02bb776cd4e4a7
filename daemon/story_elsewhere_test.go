package daemon_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/httpd"
)

// realProvider is an OpenID provider that we did not write, in a process of its own.
type realProvider struct {
	issuer, ca string // its certificate as a file
	roots      *x509.CertPool
	register   func(redirect string)
}

func startProvider(t *testing.T) *realProvider {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "provider")
	build := exec.Command("go", "build", "-C", "thirdparty/testdata/provider", "-o", bin, ".")
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(bin)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	var said struct{ Issuer, CA string }
	if err != nil || json.Unmarshal(line, &said) != nil {
		t.Fatalf("the provider says %q, %v", line, err)
	}
	p := &realProvider{issuer: said.Issuer, ca: filepath.Join(t.TempDir(), "ca.pem"), roots: x509.NewCertPool()}
	p.roots.AppendCertsFromPEM([]byte(said.CA))
	if err := os.WriteFile(p.ca, []byte(said.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	p.register = func(redirect string) {
		fmt.Fprintln(in, redirect)
		if _, err := lines.ReadBytes('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// visit is a person at the provider: they open the page that the box sent them to, sign
// in, and are sent back to the address that is returned.
func (p *realProvider) visit(t *testing.T, to, user string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	form := url.Values(nil)
	for range 10 {
		var resp *http.Response
		if form != nil {
			resp, err = c.PostForm(to, form)
		} else {
			resp, err = c.Get(to)
		}
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		at := resp.Request.URL
		form = nil
		switch next := resp.Header.Get("Location"); {
		case next != "":
			u, err := at.Parse(next)
			if err != nil {
				t.Fatal(err)
			}
			if to = u.String(); !strings.HasPrefix(to, p.issuer) {
				return to
			}
		case strings.Contains(string(body), `name="password"`):
			id := at.Query().Get("authRequestID")
			to, form = p.issuer+"/login/username", url.Values{"id": {id}, "username": {user}, "password": {"verysecure"}}
		default:
			t.Fatalf("the provider answers %s %s: %s", at, resp.Status, body)
		}
	}
	t.Fatal("the provider goes round in circles")
	return ""
}

// browser keeps cookies as browsers do, SameSite included.
type browser struct {
	t       *testing.T
	box     *daemontest.Box
	cookies map[string]*http.Cookie
}

func newBrowser(t *testing.T, b *daemontest.Box) *browser {
	return &browser{t, b, map[string]*http.Cookie{}}
}

// as is a browser in which a person is signed in.
func (br *browser) as(p *daemontest.Person) *browser {
	br.cookies[httpd.CookieName] = &http.Cookie{Name: httpd.CookieName, Value: p.Token, SameSite: http.SameSiteStrictMode}
	return br
}

func (br *browser) do(method, target, body, kind string, cross bool) reply {
	br.t.Helper()
	r, err := http.NewRequestWithContext(br.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		br.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", kind)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if cross {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Dest", "document")
		if method == "POST" {
			r.Header.Set("Origin", "https://appleid.apple.com")
		}
	}
	for _, c := range br.cookies {
		if !cross || c.SameSite == http.SameSiteNoneMode || c.SameSite == http.SameSiteLaxMode && method == "GET" {
			r.AddCookie(c)
		}
	}
	c := *br.box.Client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(r)
	if err != nil {
		br.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		br.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if !c.Secure || !c.HttpOnly || c.Path != "/" {
			br.t.Errorf("the cookie %v", c)
		}
		if br.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(br.cookies, c.Name)
		}
	}
	return reply{resp.StatusCode, resp.Header, b}
}

func (br *browser) call(method, path, body string) reply {
	br.t.Helper()
	return br.do(method, br.box.URL+path, body, "application/json", false)
}

// begin asks the box where to go.
func (br *browser) begin(path string) string {
	br.t.Helper()
	var out struct{ URL string }
	br.call("POST", path, "").is(br.t, path, 200, "").into(br.t, &out)
	return out.URL
}

// comes back from elsewhere by a link, and returns the page that it lands on.
func (br *browser) comes(to string) string {
	br.t.Helper()
	r := br.do("GET", to, "", "", true)
	if r.status != 303 {
		br.t.Fatalf("coming back: %v", r)
	}
	return r.header.Get("Location")
}

const (
	toLink   = "/#/elsewhere/link"
	toSignIn = "/#/elsewhere/sign-in"
	toOver   = "/#/elsewhere/over"
)

func users(t *testing.T, ada *daemontest.Person) (n int) {
	t.Helper()
	var list struct{ Users []struct{} }
	ask(ada, "GET", "/v1/users", "").is(t, "people", 200, "").into(t, &list)
	return len(list.Users)
}

// R14: an account at a real OpenID provider is connected with consent and a proof of
// identity, opens the account of whoever connected it and nobody else's, second factor
// included, and is forgotten when that is said or the consent is withdrawn.
func TestSigningInWithAnAccountElsewhere(t *testing.T) {
	t.Parallel()
	op := startProvider(t)
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) {
		c.SignIn = []config.SignIn{
			{ID: "home", Name: "Home", Kind: config.OpenID, Issuer: op.issuer, ClientID: "box", CA: op.ca},
			{ID: "other", Name: "Other", Kind: config.OpenID, Issuer: op.issuer, ClientID: "box", CA: op.ca},
		}
	})
	ada := b.Bind()
	bob := b.AddPerson("bob")
	op.register(b.URL + "/v1/sign-in/home/callback")
	b.Local("PUT", "/local/secrets/sign-in.home", map[string]string{"value": "secret"}, nil)

	page := newBrowser(t, b).as(ada)
	page.call("POST", "/v1/me/links/home", "").is(t, "without consent", 403, "consent-required")
	if kinds, _ := kindsOf(t, ada, "/v1/disclosures"); kinds != "" {
		t.Fatalf("without consent it asked: %s", kinds)
	}
	ada.Grant("storage", "third_party_login")
	to := page.begin("/v1/me/links/home")
	for _, part := range []string{"code_challenge_method=S256", "code_challenge=", "state=", "nonce=", "scope=openid+email", "response_type=code"} {
		if !strings.Contains(to, part) {
			t.Errorf("%s lacks %s", to, part)
		}
	}
	if at := page.comes(op.visit(t, to, "test-user@127.0.0.1")); at != toLink {
		t.Fatalf("it lands on %s", at)
	}
	newBrowser(t, b).as(bob).call("POST", "/v1/me/links", "").is(t, "bob, without the ticket", 404, "not-found")
	other := newBrowser(t, b).as(bob)
	other.cookies["__Host-yunbox-elsewhere"] = page.cookies["__Host-yunbox-elsewhere"]
	other.call("POST", "/v1/me/links", "").is(t, "bob, with ada's ticket", 404, "not-found")
	other.call("POST", "/v1/session/elsewhere", `{}`).is(t, "a sign-in with what was to be a link", 404, "not-found")
	var link struct{ ID, Service, Shown string }
	page.call("POST", "/v1/me/links", "").is(t, "connected", 201, "").into(t, &link)
	if link.Service != "home" || link.Shown != "test-user@zitadel.ch" {
		t.Fatalf("%+v", link)
	}
	page.call("POST", "/v1/me/links", "").is(t, "connected again with the same", 404, "not-found")
	kinds, all := kindsOf(t, ada, "/v1/me/disclosures")
	if kinds != "sign_in_ask sign_in_ask sign_in_ask sign_in_ask link" || all.Disclosures[0].Authority != "third_party_login#2" || all.Disclosures[0].Recipient != "127.0.0.1" {
		t.Errorf("the register: %q, %+v", kinds, all.Disclosures[0])
	}

	// Signing in, in a browser that nobody is signed in with.
	signsIn := func(user string) *browser {
		t.Helper()
		br := newBrowser(t, b)
		to := br.begin("/v1/sign-in/home")
		if strings.Contains(to, "email") {
			t.Errorf("to sign in the box asks for more than who it is: %s", to)
		}
		if at := br.comes(op.visit(t, to, user)); at != toSignIn {
			t.Fatalf("it lands on %s", at)
		}
		return br
	}
	var s struct {
		Token string
		User  struct{ ID string }
	}
	b.LocalLines("POST", "/local/vault/rotate", map[string]any{}) // what finds the account elsewhere is under another key now
	signsIn("test-user@127.0.0.1").call("POST", "/v1/session/elsewhere", `{"device":{"name":"a browser","kind":"browser"}}`).is(t, "signing in", 200, "").into(t, &s)
	if s.User.ID != ada.ID {
		t.Fatalf("%+v", s)
	}
	ask(ada.With(s.Token), "GET", "/v1/me", "").is(t, "the session", 200, "")
	ask(ada.With(s.Token), "POST", "/v1/users", `{"username":"eve","password":"`+daemontest.Password+`"}`).is(t, "a session without a password proves nothing", 403, "step-up-required")
	before := users(t, ada)
	signsIn("test-user2").call("POST", "/v1/session/elsewhere", `{}`).is(t, "somebody who connected nothing", 401, "unauthenticated")
	if n := users(t, ada); n != before {
		t.Errorf("it made an account: %d people", n)
	}
	if kinds, _ := kindsOf(t, bob, "/v1/me/disclosures"); kinds != "" {
		t.Errorf("bob is told of %q", kinds)
	}

	// Mix-up, replay, another browser.
	br := newBrowser(t, b)
	back := op.visit(t, br.begin("/v1/sign-in/home"), "test-user@127.0.0.1")
	if at := newBrowser(t, b).comes(back); at != toOver {
		t.Errorf("in another browser it lands on %s", at)
	}
	stranger := newBrowser(t, b)
	stranger.begin("/v1/sign-in/home")
	if at := stranger.comes(back); at != toOver {
		t.Errorf("in a browser with a flow of its own it lands on %s", at)
	}
	if at := br.comes(back); at != toSignIn {
		t.Errorf("in its own browser it lands on %s", at)
	}
	if at := br.comes(back); at != toOver {
		t.Errorf("a second time it lands on %s", at)
	}
	b.LocalLines("POST", "/local/vault/rotate", map[string]any{})
	b.LocalLines("POST", "/local/vault/rotate", map[string]any{})
	br.call("POST", "/v1/session/elsewhere", `{}`).is(t, "the first one is still good", 200, "")
	br.call("POST", "/v1/session/elsewhere", `{}`).is(t, "once", 404, "not-found")
	br = newBrowser(t, b)
	back = op.visit(t, br.begin("/v1/sign-in/home"), "test-user@127.0.0.1")
	if at := br.comes(strings.Replace(back, "/home/", "/other/", 1)); at != toOver {
		t.Errorf("as the answer of another service it lands on %s", at)
	}
	if at := br.comes(back); at != toOver {
		t.Errorf("and then, as its own, on %s", at)
	}
	br = newBrowser(t, b)
	back = op.visit(t, br.begin("/v1/sign-in/home"), "test-user@127.0.0.1")
	b.Pass(11 * time.Minute)
	if at := br.comes(back); at != toOver {
		t.Errorf("after eleven minutes it lands on %s", at)
	}
	b.Leap(-11 * time.Minute)
	br = newBrowser(t, b)
	back = op.visit(t, br.begin("/v1/sign-in/home"), "test-user@127.0.0.1")
	b.Leap(-12 * time.Hour)
	if at := br.comes(back); at != toOver {
		t.Errorf("begun before the clock went back, it lands on %s", at)
	}
	b.Leap(12 * time.Hour)
	if r := newBrowser(t, b).do("POST", back, "x=y", "application/x-www-form-urlencoded", true); r.status != 403 {
		t.Errorf("a form from elsewhere: %v", r)
	}

	// The second factor.
	ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "proof", 200, "")
	_, codes := protect(t, ada, 0)
	br = signsIn("test-user@127.0.0.1")
	br.call("POST", "/v1/session/elsewhere", `{}`).is(t, "without a code", 401, "code-required")
	br.call("POST", "/v1/session/elsewhere", `{"otp":"000000"}`).is(t, "with a wrong code", 401, "code-required")
	br.call("POST", "/v1/session/elsewhere", `{"otp":"`+codes[0]+`"}`).is(t, "with a code", 200, "")
	b.Pass(3 * time.Minute) // codes are limited, too
	br = signsIn("test-user@127.0.0.1")
	for range 5 {
		br.call("POST", "/v1/session/elsewhere", `{"otp":"no-such-code"}`).is(t, "guessing", 401, "code-required")
	}
	br.call("POST", "/v1/session/elsewhere", `{"otp":"`+codes[1]+`"}`).is(t, "after five tries", 404, "not-found")

	// Somebody else cannot connect the same account.
	bob.Grant("storage", "third_party_login")
	bobs := newBrowser(t, b).as(bob)
	bobs.comes(op.visit(t, bobs.begin("/v1/me/links/home"), "test-user@127.0.0.1"))
	bobs.call("POST", "/v1/me/links", "").is(t, "ada's account", 409, "conflict")

	// Cut, connected again, and withdrawn.
	ask(bob, "DELETE", "/v1/me/links/"+link.ID, "").is(t, "bob cuts it", 404, "not-found")
	ask(ada, "DELETE", "/v1/me/links/"+link.ID, "").is(t, "cut", 204, "")
	signsIn("test-user@127.0.0.1").call("POST", "/v1/session/elsewhere", `{}`).is(t, "after it was cut", 401, "unauthenticated")
	page.comes(op.visit(t, page.begin("/v1/me/links/home"), "test-user@127.0.0.1"))
	page.call("POST", "/v1/me/links", "").is(t, "connected again", 201, "").into(t, &link)
	b.Pass(3 * time.Minute)
	br = signsIn("test-user@127.0.0.1")
	ada.Withdraw("third_party_login")
	if r := br.call("POST", "/v1/session/elsewhere", `{}`); r.status != 401 && r.status != 403 { // 403 until the connection is cut
		t.Errorf("after it was withdrawn: %v", r)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if r := ask(ada, "GET", "/v1/me/links", "").is(t, "connections", 200, ""); strings.Contains(string(r.body), `"links":[]`) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the withdrawal cut nothing: %v", r)
		}
	}
}

// scripted is a service that answers what a test says: an OpenID provider and WeChat.
type scripted struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	caFile string

	mu     sync.Mutex
	asked  []*http.Request // with their forms
	claims map[string]any  // of the id token; nil values are left out
	alter  func(token string) string
	answer http.HandlerFunc // of the token endpoint; nil: an id token
	names  bool             // it says its issuer with each answer
}

func startScripted(t *testing.T) *scripted {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{key: key}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	s.caFile = filepath.Join(t.TempDir(), "scripted.pem")
	if err := os.WriteFile(s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (s *scripted) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.ParseForm()
	s.asked = append(s.asked, r)
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{
			"issuer": s.URL, "authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token", "jwks_uri": s.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256"}, "authorization_response_iss_parameter_supported": s.names,
		})
	case "/keys":
		raw, _ := s.key.PublicKey.Bytes()
		json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", "x": b64url(raw[1:33]), "y": b64url(raw[33:])}}})
	case "/token", "/sns/oauth2/access_token", "/sns/userinfo":
		if s.answer != nil {
			s.answer(w, r)
			return
		}
		payload, _ := json.Marshal(s.claims)
		text := b64url([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + b64url(payload)
		sum := sha256.Sum256([]byte(text))
		a, b, _ := ecdsa.Sign(rand.Reader, s.key, sum[:])
		token := text + "." + b64url(append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...))
		if s.alter != nil {
			token = s.alter(token)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": token})
	}
}

// says has the next answers be about a sign-in that began with to.
func (s *scripted) says(t *testing.T, to string, change map[string]any) (state string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alter, s.answer = nil, nil
	s.claims = map[string]any{"iss": s.URL, "aud": "box", "sub": "subject-7731", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nonce": q.Get("nonce")}
	for k, v := range change {
		if s.claims[k] = v; v == nil {
			delete(s.claims, k)
		}
	}
	return q.Get("state")
}

func (s *scripted) last(path string) *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.asked) - 1; i >= 0; i-- {
		if s.asked[i].URL.Path == path {
			return s.asked[i]
		}
	}
	return nil
}

// R14, mix-up and forgery: whatever does not fit exactly what the box asked opens nothing.
func TestForgedAnswersOpenNothing(t *testing.T) {
	t.Parallel()
	op := startScripted(t)
	op.names = true
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) {
		c.SignIn = []config.SignIn{{ID: "op", Name: "Op", Kind: config.OpenID, Issuer: op.URL, ClientID: "box", CA: op.caFile}}
	})
	ada := b.Bind()
	ada.Grant("storage", "third_party_login")
	b.Local("PUT", "/local/secrets/sign-in.op", map[string]string{"value": "secret"}, nil)
	page := newBrowser(t, b).as(ada)
	state := op.says(t, page.begin("/v1/me/links/op"), map[string]any{"email": "ada@example.com\u202e\x07", "name": "Ada Secret"})
	back := func(q url.Values) string {
		if _, ok := q["iss"]; !ok {
			q.Set("iss", op.URL)
		}
		return b.URL + "/v1/sign-in/op/callback?" + q.Encode()
	}
	if at := page.comes(back(url.Values{"state": {state}, "code": {"c"}})); at != toLink {
		t.Fatal(at)
	}
	if r := page.call("POST", "/v1/me/links", "").is(t, "connected", 201, ""); !strings.Contains(string(r.body), `"shown":"ada@example.com"`) {
		t.Errorf("%v", r)
	}
	if r := op.last("/token"); r.Form.Get("code_verifier") == "" || r.Form.Get("redirect_uri") != b.URL+"/v1/sign-in/op/callback" {
		t.Errorf("the code was asked for with %v", r.Form)
	}

	raw := func(body string) func() {
		return func() { op.answer = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) } }
	}
	bad := map[string]struct {
		claims map[string]any
		query  url.Values
		script func()
	}{
		"another nonce":         {claims: map[string]any{"nonce": "x"}},
		"no nonce":              {claims: map[string]any{"nonce": nil}},
		"for another client":    {claims: map[string]any{"aud": "other"}},
		"of another issuer":     {claims: map[string]any{"iss": "https://evil.example"}},
		"expired":               {claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}},
		"another party":         {claims: map[string]any{"azp": "other"}},
		"two audiences":         {claims: map[string]any{"aud": []string{"box", "other"}}},
		"nobody":                {claims: map[string]any{"sub": ""}},
		"an endless name":       {claims: map[string]any{"sub": strings.Repeat("x", 300)}},
		"the answer of another": {query: url.Values{"iss": {"https://evil.example"}}},
		"whose answer is it":    {query: url.Values{"iss": {""}}},
		"two codes":             {query: url.Values{"code": {"a", "b"}}},
		"no code":               {query: url.Values{"code": {""}}},
		"signed by somebody":    {script: func() { op.alter = func(s string) string { return s[:len(s)-10] + "AAAAAAAAAA" } }},
		"not signed": {script: func() {
			op.alter = func(s string) string {
				p := strings.Split(s, ".")
				return b64url([]byte(`{"alg":"none"}`)) + "." + p[1] + "."
			}
		}},
		"no id token": {script: raw(`{"access_token":"x","token_type":"Bearer"}`)},
		"no JSON":     {script: raw("hello")},
		"too much":    {script: raw(`{"access_token":"` + strings.Repeat("x", 1<<20) + `"}`)},
		"an error":    {script: func() { op.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } }},
		"a redirect to the home": {script: func() {
			op.answer = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://192.168.1.1/", http.StatusTemporaryRedirect)
			}
		}},
	}
	for what, c := range bad {
		br := newBrowser(t, b)
		state := op.says(t, br.begin("/v1/sign-in/op"), c.claims)
		if c.script != nil {
			op.mu.Lock()
			c.script()
			op.mu.Unlock()
		}
		q := url.Values{"state": {state}, "code": {"c"}}
		for k, v := range c.query {
			q[k] = v
		}
		if at := br.comes(back(q)); at != toSignIn {
			t.Errorf("%s: it lands on %s", what, at)
		}
		br.call("POST", "/v1/session/elsewhere", `{}`).is(t, what, 401, "unauthenticated")
		br.call("POST", "/v1/session/elsewhere", `{}`).is(t, what+", again", 404, "not-found")
		b.Pass(time.Minute) // begins are limited
	}
	br := newBrowser(t, b)
	state = op.says(t, br.begin("/v1/sign-in/op"), nil)
	br.comes(back(url.Values{"state": {state}, "error": {"access_denied"}, "error_description": {"<script>"}}))
	if r := br.call("POST", "/v1/session/elsewhere", `{}`).is(t, "refused there", 503, "canceled"); strings.Contains(string(r.body), "script") {
		t.Errorf("%v", r)
	}
	br = newBrowser(t, b)
	state = op.says(t, br.begin("/v1/sign-in/op"), nil)
	if at := br.comes(back(url.Values{"state": {state, state}, "code": {"c"}})); at != toOver {
		t.Errorf("with two states it lands on %s", at)
	}
	// And the right answer, after all of that.
	b.Pass(time.Minute)
	br = newBrowser(t, b)
	state = op.says(t, br.begin("/v1/sign-in/op"), map[string]any{"exp": time.Now().Add(3 * time.Hour).Unix()})
	br.comes(back(url.Values{"state": {state}, "code": {"c"}}))
	br.call("POST", "/v1/session/elsewhere", `{}`).is(t, "the right answer", 200, "")
	// Other sites begin nothing, and flows have their limits.
	r := ask(b.Nobody(), "POST", "/v1/sign-in/op", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	r.is(t, "another site begins a sign-in", 403, "forbidden")
	limited := false
	for range 30 {
		limited = limited || newBrowser(t, b).call("POST", "/v1/sign-in/op", "").status == 429
	}
	if !limited {
		t.Error("anybody can begin as many as they like")
	}
	// Nothing of what the provider said but the id, hashed, and the address, sealed.
	b.Stop()
	for _, word := range []string{"subject-7731", "Ada Secret", "ada@example.com"} {
		filepath.WalkDir(b.State, func(name string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if data, err := os.ReadFile(name); err == nil && bytes.Contains(data, []byte(word)) {
					t.Errorf("%s has %q", name, word)
				}
			}
			return nil
		})
	}
}

// R14: Apple sends the browser back by a form of its own site, wants a signed secret,
// and tells a name once, which nobody needs.
func TestSigningInWithApple(t *testing.T) {
	t.Parallel()
	op := startScripted(t)
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) {
		c.SignIn = []config.SignIn{{ID: "apple", Name: "Apple", Kind: config.Apple, Issuer: op.URL, ClientID: "box", TeamID: "TEAM", KeyID: "KEY", CA: op.caFile}}
	})
	ada := b.Bind()
	ada.Grant("storage", "third_party_login")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b.Local("PUT", "/local/secrets/sign-in.apple", map[string]string{"value": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}, nil)
	callback := b.URL + "/v1/sign-in/apple/callback"
	const form = "application/x-www-form-urlencoded"

	page := newBrowser(t, b).as(ada)
	to := page.begin("/v1/me/links/apple")
	if !strings.Contains(to, "response_mode=form_post") {
		t.Errorf("%s", to)
	}
	relay := "x7@privaterelay.appleid.com"
	state := op.says(t, to, map[string]any{"email": relay, "email_verified": "true", "is_private_email": "true"})
	body := url.Values{"state": {state}, "code": {"c"}, "user": {`{"name":{"firstName":"Ada","lastName":"Geheim4711"},"email":"` + relay + `"}`}}.Encode()
	if r := page.do("GET", callback+"?"+body, "", "", true); r.status != 403 {
		t.Errorf("Apple's answer as a link: %v", r)
	}
	if r := page.do("POST", callback, "{}", "application/json", true); r.status != 403 {
		t.Errorf("Apple's answer as JSON: %v", r)
	}
	if r := page.do("POST", b.URL+"/v1/session", body, form, true); r.status != 403 {
		t.Errorf("a form of another site to another address: %v", r)
	}
	if r := page.do("POST", callback, body, form, true); r.status != 303 || r.header.Get("Location") != toLink {
		t.Fatalf("%v", r)
	}
	if r := page.call("POST", "/v1/me/links", "").is(t, "connected", 201, ""); !strings.Contains(string(r.body), relay) {
		t.Errorf("%v", r)
	}
	secret := op.last("/token").Form.Get("client_secret")
	parts := strings.Split(secret, ".")
	if len(parts) != 3 {
		t.Fatalf("%q", secret)
	}
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	sig, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	var c struct {
		Iss, Sub, Aud string
		Iat, Exp      int64
	}
	if err := json.Unmarshal(claims, &c); err != nil || c.Iss != "TEAM" || c.Sub != "box" || c.Aud != op.URL || c.Exp-c.Iat != 300 || !strings.Contains(string(header), `"kid":"KEY"`) {
		t.Errorf("%s %s", header, claims)
	}
	if !ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the secret is not signed with the key")
	}

	br := newBrowser(t, b)
	state = op.says(t, br.begin("/v1/sign-in/apple"), nil) // no e-mail, no name: not the first time
	if r := br.do("POST", callback, url.Values{"state": {state}, "code": {"c"}}.Encode(), form, true); r.status != 303 {
		t.Fatalf("%v", r)
	}
	br.call("POST", "/v1/session/elsewhere", `{}`).is(t, "signing in", 200, "")
	held := ask(ada, "GET", "/v1/me/data/links", "").is(t, "what is held", 200, "")
	if !strings.Contains(string(held.body), relay) || strings.Contains(string(held.body), "Geheim4711") {
		t.Errorf("%v", held)
	}
}

// R14: WeChat is no OpenID provider: its own parameters, its own errors, and of what it
// tells the nickname alone is kept.
func TestSigningInWithWeChat(t *testing.T) {
	t.Parallel()
	wx := startScripted(t)
	used := map[string]bool{}
	wx.answer = func(w http.ResponseWriter, r *http.Request) { // as documented: always 200, text/plain
		w.Header().Set("Content-Type", "text/plain")
		q := r.URL.Query()
		switch {
		case r.URL.Path == "/sns/userinfo" && q.Get("access_token") == "ACCESS" && q.Get("openid") == "oABC":
			io.WriteString(w, `{"openid":"oABC","nickname":"阿达","sex":2,"language":"","city":"","province":"广东","country":"CN","headimgurl":"https://thirdwx.qlogo.cn/x","privilege":[],"unionid":"oUNION"}`)
		case r.URL.Path == "/sns/userinfo":
			io.WriteString(w, `{"errcode":40003,"errmsg":"invalid openid, rid: 1"}`)
		case q.Get("appid") != "wx1" || q.Get("secret") != "geheim4711" || q.Get("grant_type") != "authorization_code":
			io.WriteString(w, `{"errcode":40125,"errmsg":"invalid appsecret, rid: 2"}`)
		case used[q.Get("code")]:
			io.WriteString(w, `{"errcode":40163,"errmsg":"code been used, rid: 3"}`)
		case !strings.HasPrefix(q.Get("code"), "good"):
			io.WriteString(w, `{"errcode":40029,"errmsg":"invalid code, rid: 4"}`)
		default:
			used[q.Get("code")] = true
			io.WriteString(w, `{"access_token":"ACCESS","expires_in":7200,"refresh_token":"REFRESH","openid":"oABC","scope":"snsapi_login","unionid":"oUNION"}`)
		}
	}
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) {
		c.SignIn = []config.SignIn{{ID: "wechat", Name: "微信", Kind: config.WeChat, Issuer: wx.URL, ClientID: "wx1", CA: wx.caFile}}
	})
	ada := b.Bind()
	ada.Grant("storage", "third_party_login")
	b.Local("PUT", "/local/secrets/sign-in.wechat", map[string]string{"value": "geheim4711"}, nil)
	callback := b.URL + "/v1/sign-in/wechat/callback"
	state := func(to string) string {
		t.Helper()
		u, err := url.Parse(to)
		if err != nil || u.Host+u.Path != "open.weixin.qq.com/connect/qrconnect" || u.Fragment != "wechat_redirect" {
			t.Fatal(to, err)
		}
		q := u.Query()
		if q.Get("appid") != "wx1" || q.Get("scope") != "snsapi_login" || q.Get("redirect_uri") != callback || q.Get("response_type") != "code" {
			t.Errorf("%s", to)
		}
		return q.Get("state")
	}
	page := newBrowser(t, b).as(ada)
	if at := page.comes(callback + "?code=good1&state=" + state(page.begin("/v1/me/links/wechat"))); at != toLink {
		t.Fatal(at)
	}
	r := page.call("POST", "/v1/me/links", "").is(t, "connected", 201, "")
	if !strings.Contains(string(r.body), "阿达") {
		t.Errorf("%v", r)
	}
	for code, want := range map[string]int{"bad": 401, "good1": 401, "good2": 200} {
		br := newBrowser(t, b)
		if at := br.comes(callback + "?code=" + code + "&state=" + state(br.begin("/v1/sign-in/wechat"))); at != toSignIn {
			t.Fatal(at)
		}
		if r := br.call("POST", "/v1/session/elsewhere", `{}`); r.status != want || strings.Contains(string(r.body), "rid") {
			t.Errorf("code %s: %v", code, r)
		}
	}
	if kinds, _ := kindsOf(t, ada, "/v1/me/disclosures"); kinds != "sign_in_ask sign_in_ask link sign_in" && kinds != "sign_in_ask sign_in_ask sign_in_ask link sign_in" {
		t.Errorf("the register: %q", kinds)
	}
	b.Stop()
	for _, word := range []string{"oABC", "oUNION", "qlogo", "阿达"} {
		for _, name := range []string{"box.db", "box.db-wal"} {
			if data, err := os.ReadFile(filepath.Join(b.State, name)); err == nil && bytes.Contains(data, []byte(word)) {
				t.Errorf("%s has %q", name, word)
			}
		}
	}
}

// R01 R14: a box without such settings offers nothing and asks nobody.
func TestNothingElsewhereUnlessItIsSetUp(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "third_party_login")
	if r := ask(b.Nobody(), "GET", "/v1/sign-in", "").is(t, "services", 200, ""); !strings.Contains(string(r.body), `"services":[]`) {
		t.Errorf("%v", r)
	}
	ask(b.Nobody(), "POST", "/v1/sign-in/apple", "").is(t, "signing in", 404, "not-found")
	ask(ada, "POST", "/v1/me/links/apple", "").is(t, "connecting", 404, "not-found")
	if kinds, _ := kindsOf(t, ada, "/v1/disclosures"); kinds != "" {
		t.Errorf("it asked: %s", kinds)
	}
}
