package httpd

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"yunbox.local/daemon/problem"
)

// ServeRedirect is for instead of ServePlain: it answers HTTP without TLS on ln only to
// point whoever opens the box's page there to HTTPS on that port, under the same name.
// Anything else is refused before its body is read, so that no program goes on sending
// in the clear.
func (s *Server) ServeRedirect(ctx context.Context, ln net.Listener, port int) error {
	s.plain.Handler = Guard(s.log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secureHeaders(w.Header())
		w.Header().Set("Connection", "close")
		switch {
		case !s.own.has(s, r):
			WriteProblem(w, r, s.notThisBox())
		case (r.Method != http.MethodGet && r.Method != http.MethodHead) || r.URL.Path != "/":
			WriteProblem(w, r, &problem.Error{Kind: problem.Invalid, Op: "httpd.redirect", Title: "This box speaks HTTPS only",
				Detail: "Nothing was read: what is sent without encryption can be seen on the way.",
				Hint:   "Use an address that begins with https://."})
		default:
			http.Redirect(w, r, "https://"+onPort(r.Host, port)+"/", http.StatusTemporaryRedirect)
		}
	}))
	return s.ServePlain(ctx, ln)
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
