package api

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"

	"yunbox.local/daemon/catalog"
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
	space, err := a.store.Space()
	if err == nil {
		var totals catalog.Totals
		if totals, err = a.catalog.Totals(r.Context()); err == nil {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			w.Header().Set("Cache-Control", "no-store")
			a.writeMetrics(w, space.Total, space.Free, totals)
			return
		}
	}
	httpd.WriteProblem(w, r, err)
}

func (a *API) writeMetrics(w http.ResponseWriter, total, free int64, t catalog.Totals) {
	healthy := 1
	if a.diskState() != diskOK {
		healthy = 0
	}
	var b strings.Builder
	gauge := func(name, help string, value any) {
		fmt.Fprintf(&b, "# HELP yunbox_%[1]s %[2]s\n# TYPE yunbox_%[1]s gauge\nyunbox_%[1]s %[3]v\n", name, help, value)
	}
	gauge("volume_healthy", "1 unless the volume failed or can only be read.", healthy)
	gauge("disk_bytes", "Size of the volume.", total)
	gauge("disk_free_bytes", "Free bytes of the volume.", free)
	gauge("items", "Live files of all people.", t.Items)
	gauge("logical_bytes", "Bytes of all files, versions and the trash.", t.LogicalBytes)
	gauge("blobs", "Distinct contents.", t.Blobs)
	gauge("physical_bytes", "Bytes of the distinct contents.", t.PhysicalBytes)
	gauge("uploads_open", "Uploads that are being received.", a.box.Uploads())
	gauge("resident_bytes", "Memory of the daemon.", a.box.Resident())
	gauge("goroutines", "Tasks that the daemon has begun and not ended.", runtime.NumGoroutine())
	gauge("uptime_seconds", "Seconds since the start.", a.box.Uptime())
	fmt.Fprint(w, b.String())
}

// fromThisMachine looks at the connection itself; no header can pretend it.
func fromThisMachine(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
