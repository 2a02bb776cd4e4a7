package api

import (
	"net"
	"net/http"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// serveMetrics tells figures about the box as a whole, and nothing about any
// person. It answers programs on the box itself, and admins.
func (a *API) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if p, ok := httpd.PrincipalFrom(r.Context()); !fromThisMachine(r) && !(ok && p.Admin()) {
		httpd.WriteProblem(w, r, &problem.Error{
			Kind: problem.Forbidden, Op: "api.metrics", Title: "Only an admin, or a program on the box, may see that",
			Hint: "Sign in as an admin.",
		})
		return
	}
	page, err := a.box.Metrics(r.Context())
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(page)
}

// localMetrics is the same for who runs the box.
func (l *Local) localMetrics(w http.ResponseWriter, r *http.Request) error {
	page, err := l.api.box.Metrics(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	w.Write(page)
	return nil
}

// fromThisMachine looks at the connection itself; no header can pretend it. What a
// proxy on this machine passes on comes from elsewhere.
func fromThisMachine(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if len(r.Header[name]) > 0 {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
