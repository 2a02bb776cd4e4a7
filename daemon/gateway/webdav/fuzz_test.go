package webdav

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
)

// No Timeout header gives a lock that lasts for ever or is over at once.
func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"", "Infinite", "Second-1", "Second-4294967295", "Second-4294967296", "Second--1", "Infinite, Second-5", ",", "second-0,SECOND-7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := parseTimeout(s); d < time.Second || d > maxTimeout {
			t.Errorf("%q: %v", s, d)
		}
	})
}

// Times in properties are those that the box can keep, in either form.
func FuzzPropertyTime(f *testing.F) {
	for _, s := range []string{"Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14T22:13:20Z", "1700000000.5", "Mon, 01 Jan 0001 00:00:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseTime(s)
		if err != nil {
			return
		}
		if at.Unix() < 0 || at.Unix() > 1<<32-1 || at.Location() != time.UTC || at.Nanosecond()%1e6 != 0 {
			t.Errorf("%q: %v", s, at)
		}
	})
}

// The address that a header names is among the person's own files on this box, or
// refused; it means the same as in the request's own line.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"/dav/a", "https://box:8443/dav/a%20b", "https://box/dav/a", "http://box:8443/dav/a", "//evil/dav/a", "https://evil/dav/a", "/dav/../v1/me", "/dav/%2e%2e/x", "/dav/a%2fb",
		"/davx", "/dav", "", "dav/a", "https:/dav/a", "https://user@box:8443/dav/a", "/dav/\x00", "/dav/a?b#c", "javascript:x", "https://box:8443/dav//a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		r := httptest.NewRequest("COPY", "https://box:8443/dav/from", nil)
		v := &visit{r: r, mount: Mount{Prefix: Prefix}}
		path, err := v.pathOn(address)
		if err != nil || path == "" {
			return
		}
		if clean, err := catalog.CleanPath(path); err != nil || clean != path {
			t.Errorf("%q names %q, %v", address, path, err)
		}
		u, err := url.Parse(address)
		if err != nil || u.Host != "" && u.Host != "box:8443" && !strings.EqualFold(u.Host, "box:8443") {
			t.Errorf("%q is on another host and names %q", address, path)
		}
		if again, err := v.pathOn((&url.URL{Scheme: "https", Host: "box:8443", Path: Prefix + path}).String()); err != nil || again != path {
			t.Errorf("%q names %q, and that %q, %v", address, path, again, err)
		}
	})
}

// A depth is one of those that may be.
func FuzzDepth(f *testing.F) {
	for _, s := range []string{"", "0", "1", "infinity", "INFINITY ", "2", "1,0", "1, noroot"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := httptest.NewRequest("PROPFIND", "https://box/dav/", nil)
		r.Header["Depth"] = []string{s}
		if d, err := depth(r, "infinity", "0", "1"); err == nil && d != "infinity" && d != "0" && d != "1" {
			t.Errorf("%q is read as %q", s, d)
		}
	})
}
