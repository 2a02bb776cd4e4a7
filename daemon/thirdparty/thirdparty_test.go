package thirdparty

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

func TestNamesFromElsewhereAreFitToBeShown(t *testing.T) { // R14
	for in, want := range map[string]string{
		"": "", " 阿达 ": "阿达", "a\u202eb\x00c\nd": "abcd", "a\xffb": "ab", strings.Repeat("字", 300): strings.Repeat("字", maxShown),
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAppleTakesOneKindOfKey(t *testing.T) { // R14
	encode := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]string{"nothing": "", "no PEM": "secret", "no key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "P-384": encode(wide), "RSA": encode(other)} {
		if s, err := appleSecret(key, "T", "K", "c", "https://appleid.apple.com", time.Now()); err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: %q, %v", what, s, err)
		}
	}
}

// What a service answers, and what was sent to it, stay out of the log.
func TestReasonsTellNothing(t *testing.T) { // R33
	var r Room
	for _, err := range []error{
		&oauth2.RetrieveError{Response: &http.Response{StatusCode: 400}, Body: []byte("geheim"), ErrorCode: "geheim <b>", ErrorDescription: "geheim"},
		&url.Error{Op: "Get", URL: "https://x/?secret=geheim", Err: errors.New("refused")},
		errors.New("oidc: failed to decode {\"email\":\"geheim\"}"),
		errors.New(strings.Repeat("x", 150) + "geheim" + strings.Repeat("x", 100)),
	} {
		if got := r.reason(err); strings.Contains(got.Error(), "geheim") {
			t.Errorf("%T: %v", err, got)
		}
	}
}
