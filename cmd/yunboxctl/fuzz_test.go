package main

import (
	"strings"
	"testing"
)

// A QR code is whatever somebody stuck on the box: it never makes a client trust
// everybody, or speak to a box without encryption.
func FuzzPairing(f *testing.F) {
	key := strings.Repeat("A", 42) + "E"
	for _, s := range []string{"yunbox://pair?v=1&id=x&k=" + key + "&s=y", "yunbox://pair?v=1&id=x&k=" + strings.Repeat("A", 43) + "&s=y", "yunbox://pair?v=2", "yunbox://join?v=1&id=x&k=" + key + "&s=y", "http://pair?v=1", "%", key,
		"https://box:8443", "http://127.0.0.1:80", "http://evil.example", "box", "[::1]", "http://localhost.evil.example", "https://u:p@box"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parsePairing(s); err == nil && (p.key == (pin{}) || p.secret == "" || p.id == "") {
			t.Errorf("%q: %+v", s, p)
		}
		if p, err := parseInvitation(s); err == nil && (p.key == (pin{}) || p.secret == "" || p.id == "") {
			t.Errorf("%q: %+v", s, p)
		}
		if p, err := parsePin(s); err == nil {
			if again, err := parsePin(p.String()); err != nil || again != p || p == (pin{}) {
				t.Errorf("%q: %v, then %v, %v", s, p, again, err)
			}
		}
		u, err := parseBox(s)
		if err != nil {
			return
		}
		if u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) || u.User != nil || u.Path != "" {
			t.Errorf("%q: %v", s, u)
		}
		if again, err := parseBox(u.String()); err != nil || *again != *u {
			t.Errorf("%q: %v, then %v, %v", s, u, again, err)
		}
	})
}
