package httpd

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// ownHosts knows the addresses of this computer, asked anew when one is missing.
type ownHosts struct {
	mu    sync.Mutex
	addrs []netip.Addr
	asked time.Time
}

// has reports whether r is addressed to this box. It is the defence against DNS
// rebinding: a foreign page can make its own name resolve to the box's address,
// but it cannot change the Host header that its requests then carry.
func (o *ownHosts) has(s *Server, r *http.Request) bool {
	host := r.Host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return false
		}
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		ip = ip.Unmap().WithZone("")
		return ip == addrOf(local) || o.hasAddr(ip)
	}
	return host == s.identity.HostName() || host == "localhost" || slices.Contains(s.identity.systemNames(), host) ||
		slices.ContainsFunc(s.names(), func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), host) })
}

func (o *ownHosts) hasAddr(ip netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.addrs, ip) && time.Since(o.asked) < time.Minute {
		return true
	}
	if time.Since(o.asked) >= 2*time.Second {
		o.addrs, o.asked = ownAddrs(), time.Now()
	}
	return slices.Contains(o.addrs, ip)
}

// sameSite refuses requests that other web sites make in somebody's browser, of
// every method and on every route: what may be read by them may be guessed from
// the time it takes, and what may be written needs no reading. The one exception
// is following a link to the page. It is http.CrossOriginProtection made stricter:
// safe methods count, and Origin must have the right scheme too.
//
// Programs that are no browsers send neither header and pass.
func sameSite(r *http.Request) error {
	h := r.Header
	switch h.Get("Sec-Fetch-Site") {
	case "same-origin":
		return nil
	case "", "none": // a program, or typed and bookmarked by the person
	default:
		if safe(r.Method) && r.URL.Path == "/" && isVisit(r) {
			return nil
		}
		return crossSite()
	}
	if origins := h["Origin"]; len(origins) > 0 && !isOwnOrigin(r) {
		return crossSite()
	}
	return nil
}

// isVisit reports whether a browser says that r opens a page of its own in a tab.
func isVisit(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// LetVisit lets other web sites send browsers to one exact path of a Public route with
// one method, GET or POST: for services that people sign in with, which send them back.
// It must be called before the first Serve. A browser that says where a request comes
// from must say that it opens a page; the session's cookie is not sent along, and a
// POST must be a form.
func (s *Server) LetVisit(method, path string) {
	if s.visits == nil {
		s.visits = map[string]bool{}
	}
	s.visits[method+" "+path] = true
}

func (s *Server) mayVisit(r *http.Request) bool {
	if !s.visits[r.Method+" "+r.URL.Path] || r.Header.Get("Sec-Fetch-Site") != "" && !isVisit(r) {
		return false
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return r.Method == http.MethodGet || strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded")
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// isOwnOrigin reports whether the Origin header names the origin that r asks.
func isOwnOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return len(origins) == 1 && strings.EqualFold(origins[0], scheme+r.Host)
}

func crossSite() error {
	return &problem.Error{Kind: problem.Forbidden, Op: "httpd",
		Title:  "Another web site asked for that",
		Detail: "The box answers only to its own page and to apps, not to other web sites in a browser.",
		Hint:   "Open the box's page and do it there."}
}

// CookieName is the name of the session cookie.
const CookieName = "__Host-yunbox"

// SetSessionCookie gives a browser the session that somebody signed in to.
func SetSessionCookie(w http.ResponseWriter, s account.Session) {
	// Max-Age beside Expires: the clocks of box and browser may differ by years.
	http.SetCookie(w, &http.Cookie{Name: CookieName, Value: s.Token, Path: "/", Expires: s.Expires,
		MaxAge: int(account.SessionLife / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// ClearSessionCookie takes it away.
func ClearSessionCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: CookieName, Path: "/", MaxAge: -1,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

type principalKey struct{}

// PrincipalFrom returns who makes the request of ctx, if they are signed in.
func PrincipalFrom(ctx context.Context) (ident.Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(ident.Principal)
	return p, ok
}

// admit lets r in to a route, with the principal in its context
// and its body under watch, or says why not. Nothing of the body has been read.
func (s *Server) admit(out *response, r *http.Request, route Route) (*http.Request, error) {
	a := route.Access
	p, byCookie, err := s.identify(r)
	if p.User == 0 || err != nil {
		out.join()
	}
	if err != nil {
		if problem.KindOf(err) != problem.Unauthenticated {
			return r, err
		}
		if a != Public {
			if wait, ok := s.failed.Take(time.Now(), Remote(r)); !ok {
				err = &problem.Error{Kind: problem.RateLimited, Op: "httpd", RetryAfter: wait, Err: err,
					Detail: "There were too many requests with credentials that are not valid.",
					Hint:   "Sign in again or make a new app token, then try once more."}
			}
			return r, err
		}
		p = ident.Principal{}
	}
	if byCookie && !safe(r.Method) && r.Header.Get("Sec-Fetch-Site") != "same-origin" && !isOwnOrigin(r) {
		// Browsers say where such a request comes from; the cookie is for them only.
		return r, crossSite()
	}
	switch {
	case a == Public:
	case p.User == 0:
		return r, &problem.Error{Kind: problem.Unauthenticated, Op: "httpd",
			Detail: "Nobody is signed in.",
			Hint:   "Sign in with POST /v1/session, or send an app token."}
	case a != Files && p.Scope != ident.ScopeFull:
		return r, &problem.Error{Kind: problem.Forbidden, Op: "httpd",
			Detail: "This app token opens files only.",
			Hint:   "Sign in with your user name and password to do that."}
	case a == AdminOnly && !p.Admin():
		return r, &problem.Error{Kind: problem.Forbidden, Op: "httpd",
			Detail: "Only the owner and the admins of the box may do that.", Hint: "Ask one of them."}
	}
	if p.User != 0 && !route.remainsBy(r.Method) {
		if err := s.limited(p.User); err != nil {
			return r, err
		}
	}
	if err := leaving(p, r.Method, route.Pattern); err != nil {
		return r, err
	}
	if route.StepUp != 0 {
		if err := s.accounts.RequireFresh(r.Context(), p, route.StepUp); err != nil {
			return r, err
		}
	}
	if a != Files && route.Pattern != largeBody {
		if r.ContentLength > maxBody {
			return r, &problem.Error{Kind: problem.TooLarge, Op: "httpd",
				Detail: "This takes at most 1 MiB.", Hint: "Files are sent to /v1/files and /v1/uploads."}
		}
		out.bodyLimit = maxBody
	}
	out.stranger = p.User == 0
	ctx := r.Context()
	if p.User != 0 {
		s.conns.admitted(ctx)
		out.allowed = func() error { return s.stillIn(r, route.Pattern) }
		ctx = context.WithValue(ctx, principalKey{}, p)
	}
	r = r.WithContext(ctx)
	r.Body = out.watch(ctx)
	return r, nil
}

// Authenticate returns who makes r, as Handle found it out, but as of now: for
// answers that go on for long and must end when their session does. A request
// without credentials is Unauthenticated.
func (s *Server) Authenticate(r *http.Request) (ident.Principal, error) {
	p, _, err := s.identify(r)
	if err == nil && p.User == 0 {
		err = &problem.Error{Kind: problem.Unauthenticated, Op: "httpd",
			Detail: "Nobody is signed in.", Hint: "Sign in with POST /v1/session, or send an app token."}
	}
	return p, err
}

// stillIn returns a problem once r's credentials no longer open the box: the
// session has ended, the token was revoked, the person was switched off, the account is
// being cancelled.
func (s *Server) stillIn(r *http.Request, pattern string) error {
	p, err := s.Authenticate(r.WithContext(context.WithoutCancel(r.Context())))
	if problem.KindOf(err) == problem.Unauthenticated {
		return err
	}
	if err == nil {
		return leaving(p, r.Method, pattern)
	}
	return nil // a fault of ours is no reason to drop what comes
}

// identify finds out who makes the request: by the Authorization header if there
// is one, else by X-Api-Key, which holds a token as Bearer does (for clients of
// photo servers that know nothing else), else by the cookie. Other web sites can
// send none of the headers without asking first, which the box never allows.
func (s *Server) identify(r *http.Request) (p ident.Principal, byCookie bool, err error) {
	if headers := r.Header["Authorization"]; len(headers) > 0 {
		if len(headers) > 1 {
			return p, false, badCredentials()
		}
		if user, password, ok := parseBasic(headers[0]); ok {
			p, err = s.accounts.AuthenticateBasic(r.Context(), user, password)
			return p, false, err
		}
		if token, ok := parseBearer(headers[0]); ok {
			p, err = s.accounts.Authenticate(r.Context(), token)
			return p, false, err
		}
		return p, false, badCredentials()
	}
	if keys := r.Header["X-Api-Key"]; len(keys) > 0 {
		if len(keys) > 1 {
			return p, false, badCredentials()
		}
		p, err = s.accounts.Authenticate(r.Context(), keys[0])
		return p, false, err
	}
	if r.TLS == nil {
		return p, false, nil // the cookie is for TLS only, whatever a client sends
	}
	cookies := r.CookiesNamed(CookieName)
	if len(cookies) == 0 {
		return p, false, nil
	}
	p, err = s.accounts.Authenticate(r.Context(), cookies[0].Value)
	return p, true, err
}

func badCredentials() error {
	return &problem.Error{Kind: problem.Unauthenticated, Op: "httpd",
		Detail: "The Authorization header is neither Basic nor Bearer, or is garbled.",
		Hint:   "Send `Authorization: Bearer TOKEN`, or Basic with the user name and an app token."}
}

// parseBearer reads RFC 6750 §2.1 credentials.
func parseBearer(h string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(h, " ")
	token = strings.Trim(token, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t\x00") {
		return "", false
	}
	return token, true
}

// parseBasic reads RFC 7617 credentials: UTF-8, and a colon ends the user name.
func parseBasic(h string) (user, password string, ok bool) {
	scheme, payload, ok := strings.Cut(h, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") || len(payload) > 4096 {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(payload, " "))
	if err != nil || !utf8.Valid(raw) {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(raw), ":")
	if !ok || strings.ContainsFunc(user+password, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", "", false
	}
	return user, password, true
}

// Remote returns the address that r came from, without port and zone, "local"
// for a unix socket. It is what rate limits are counted by.
func Remote(r *http.Request) string {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "local"
	}
	return p.Addr().Unmap().WithZone("").String()
}
