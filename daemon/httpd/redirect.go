package httpd

import (
	"context"
	"html"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/text/language"

	"yunbox.local/daemon/problem"
)

// ServeRedirect is for instead of ServePlain: it answers HTTP without TLS on ln only to
// point whoever opens the box's page there to HTTPS on that port, under the same name.
// Anything else is refused before its body is read, so that no program goes on sending
// in the clear; a browser is told so by a page that a person can read.
func (s *Server) ServeRedirect(ctx context.Context, ln net.Listener, port int) error {
	s.plain.Handler = Guard(s.log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secureHeaders(w.Header())
		w.Header().Set("Connection", "close")
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case !s.own.has(s, r):
			WriteProblem(w, r, s.notThisBox())
		case reads && r.URL.Path == "/":
			at := "https://" + onPort(r.Host, port) + "/"
			w.Header().Set("Location", at)
			writeHTTPSOnly(w, r, http.StatusTemporaryRedirect, at)
		case reads && strings.Contains(r.Header.Get("Accept"), "text/html"):
			writeHTTPSOnly(w, r, httpsOnly.Kind.Status(), "https://"+onPort(r.Host, port)+"/")
		default:
			WriteProblem(w, r, httpsOnly)
		}
	}))
	return s.ServePlain(ctx, ln)
}

var httpsOnly = &problem.Error{Kind: problem.Invalid, Op: "httpd.redirect", Title: "This box speaks HTTPS only",
	Detail: "Nothing was read: what is sent without encryption can be seen on the way.",
	Hint:   "Use an address that begins with https://."}

// The page for people: without a style, which any browser shows in letters that can be
// read on a phone. LINK is the box's address.
const (
	httpsOnlyHTML = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>HTTPS only</title>
<h1>This box speaks HTTPS only</h1>
<p>Nothing was read: what is sent without encryption can be seen on the way.</p>
<p>Open <a href="LINK">LINK</a></p>
<p>The first time, your browser warns you, since it does not know the box. Go on, and before you sign in compare the six words there with those on the box's label.</p>
<p>In an app, use an address that begins with https://</p>
`
	httpsOnlyChinese = `<!doctype html><html lang="zh-CN"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>仅限 HTTPS</title>
<h1>盒子只接受 HTTPS</h1>
<p>没有读取任何内容：未加密发送的内容可能在途中被他人看到。</p>
<p>请打开 <a href="LINK">LINK</a></p>
<p>首次打开时，浏览器会发出警告，因为它还不认识这台盒子。请继续前往，并在登录之前核对页面上的六个词是否与盒子标签上的一致。</p>
<p>在应用中，请使用以 https:// 开头的地址</p>
`
)

func writeHTTPSOnly(w http.ResponseWriter, r *http.Request, status int, at string) {
	text, tag := httpsOnlyHTML, "en"
	matcher := language.NewMatcher([]language.Tag{language.English, language.Chinese})
	if _, i := language.MatchStrings(matcher, r.Header.Get("Accept-Language")); i == 1 {
		text, tag = httpsOnlyChinese, "zh-CN"
	}
	text = strings.ReplaceAll(text, "LINK", html.EscapeString(at))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", tag)
	h.Set("Vary", "Accept, Accept-Language")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, text) // the client is gone: there is nobody to tell
	}
}

// onPort returns the host of a Host header with another port. 443 need not be named.
func onPort(host string, port int) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if len(host) > 1 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	if port != 443 {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		return "[" + host + "]"
	}
	return host
}
