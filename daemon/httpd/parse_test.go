package httpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
)

func FuzzBasic(f *testing.F) {
	f.Add("Basic " + base64.StdEncoding.EncodeToString([]byte("anna:yb_token:with:colons")))
	f.Add("basic  =")
	f.Add("Basic")
	f.Fuzz(func(t *testing.T, s string) {
		user, password, ok := parseBasic(s)
		if !ok {
			return
		}
		if strings.Contains(user, ":") || strings.ContainsAny(user+password, "\x00\r\n") {
			t.Errorf("%q gives %q and %q", s, user, password)
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
		if u, p, ok := parseBasic(again); !ok || u != user || p != password {
			t.Errorf("%q gives %q and %q, then %q and %q", s, user, password, u, p)
		}
	})
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer yb_x")
	f.Add("bearer  x ")
	f.Fuzz(func(t *testing.T, s string) {
		if token, ok := parseBearer(s); ok && (token == "" || strings.ContainsAny(token, " \t\x00") || !strings.HasSuffix(strings.TrimRight(s, " "), token)) {
			t.Errorf("%q gives %q", s, token)
		}
	})
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/a/", "//", "/a/../b", "/.", "a", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isCleanPath(s) {
			return
		}
		for i, part := range strings.Split(s[1:], "/") {
			if part == "." || part == ".." || part == "" && i < strings.Count(s, "/")-1 {
				t.Errorf("%q is taken for clean", s)
			}
		}
	})
}

// A key file is whatever lies in its place: it is a P-256 key or an error.
func FuzzIdentityKey(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good, err := encodeKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeKey(data)
		if err != nil {
			return
		}
		again, err := encodeKey(got)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeKey(again); err != nil || !same.Equal(got) {
			t.Errorf("a key that is not the same when it is read again: %v", err)
		}
	})
}
