package httpd

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// A name that the box answers to is one of its own, whatever is written around it: the
// list is all that stands between a foreign page and the box (DNS rebinding).
func FuzzHost(f *testing.F) {
	id, err := LoadIdentity(f.TempDir(), time.Now)
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{identity: id, names: func() []string { return []string{"Box.Example", "盒子.local."} }}
	own := []string{id.HostName(), "localhost", "box.example", "盒子.local", "127.0.0.1", "::1"}
	for _, name := range append(own, "evil.example", "box.example.evil.example", "evil-box.example", "[::1]:8443", "127.0.0.1:8443", "[fe80::1%25eth0]", "127.1", "2130706433", "0x7f.1", "box.example:port",
		"BOX.EXAMPLE.:443", "localhost..", "::ffff:127.0.0.1", "[localhost]", "box.example\x00.evil", "", ":", "[", "]:1", "127.0.0.1%1") {
		f.Add(name)
	}
	hostname, _ := os.Hostname()
	f.Fuzz(func(t *testing.T, host string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		// The address that was connected to is not one of this computer's list.
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8443}))
		if !s.own.has(s, r) {
			return
		}
		name := host
		if h, port, err := net.SplitHostPort(host); err == nil {
			if strings.Trim(port, "0123456789") != "" {
				t.Fatalf("%q: the port is no number", host)
			}
			name = h
		}
		name = strings.ToLower(strings.Trim(name, "[]."))
		if ip, err := netip.ParseAddr(name); err == nil {
			ip = ip.Unmap().WithZone("")
			if ip != netip.MustParseAddr("192.0.2.7") && !s.own.hasAddr(ip) {
				t.Errorf("%q is an address of somebody else", host)
			}
			return
		}
		first, _, _ := strings.Cut(strings.ToLower(hostname), ".")
		for _, o := range append(own, strings.ToLower(hostname), first+".local") {
			if strings.EqualFold(name, o) {
				return
			}
		}
		t.Errorf("the box answers to %q", host)
	})
}
