package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type testSigner struct {
	key  *ecdsa.PrivateKey
	spki []byte
	pin  pin
}

func newTestSigner(t *testing.T, secret byte) testSigner {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{secret}, 32))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return testSigner{key, spki, sha256.Sum256(spki)}
}

func (s testSigner) jws(t *testing.T, typ string, payload []byte) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(`{"alg":"ES256","typ":"`+typ+`","kid":"`+s.pin.String()+`"}`)) + "." + encode(payload)
	digest := sha256.Sum256([]byte(input))
	x, y, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	return input + "." + encode(sig)
}

// R20 R29: each kind of document that a box signs is checked without the box, as JSON and
// by its signature alone; changed, of another kind or another box it is refused.
func TestWhateverABoxSignedIsChecked(t *testing.T) {
	s, other := newTestSigner(t, 3), newTestSigner(t, 4)
	known := boxKey{pin: s.pin}
	for typ, kind := range documents {
		by := "box"
		if typ == "yunbox-receipt+jws" || typ == "yunbox-deletion+jws" {
			by = "pii_controller"
		}
		payload := fmt.Sprintf(`{"schema_version":%q,%q:{"key":%q,"spki":%q},"purpose":{"id":"x"},"bytes":9007199254740993}`,
			kind.schema, by, s.pin, base64.StdEncoding.EncodeToString(s.spki))
		if typ == "yunbox-deletion+jws" {
			payload = strings.Replace(payload, `{"id":"x"}`, `"x"`, 1)
		}
		jws := s.jws(t, typ, []byte(payload))
		whole := strings.TrimSuffix(payload, "}") + `,"jws":"` + jws + `"}`
		for _, form := range []string{whole, `{"jws":"` + jws + `"}`} {
			d, err := openDocument([]byte(form), known)
			var out strings.Builder
			if err == nil {
				err = kind.write(&out, d.Payload)
			}
			if err != nil || d.Typ != typ || out.Len() == 0 {
				t.Errorf("%s: %q, %v\n%s", typ, out.String(), err, form)
			}
		}
		for what, form := range map[string]string{
			"one number":      strings.Replace(whole, "9007199254740993", "9007199254740992", 1),
			"a field more":    strings.Replace(whole, `"bytes"`, `"more":1,"bytes"`, 1),
			"a field less":    strings.Replace(whole, `"bytes":9007199254740993,`, ``, 1),
			"a name twice":    strings.Replace(whole, `"bytes"`, `"bytes":1,"bytes"`, 1),
			"the payload":     strings.Replace(whole, "."+base64.RawURLEncoding.EncodeToString([]byte(payload))[:20], ".A"+base64.RawURLEncoding.EncodeToString([]byte(payload))[1:20], 1),
			"the signature":   `{"jws":"` + jws[:len(jws)-4] + `AAAA"}`,
			"no signature":    `{"jws":"` + jws[:strings.LastIndexByte(jws, '.')+1] + `"}`,
			"another kind":    `{"jws":"` + s.jws(t, "yunbox-other+jws", []byte(payload)) + `"}`,
			"another schema":  `{"jws":"` + s.jws(t, typ, []byte(strings.Replace(payload, kind.schema, "yunbox-other/1", 1))) + `"}`,
			"another box":     `{"jws":"` + other.jws(t, typ, []byte(payload)) + `"}`,
			"what follows it": whole + "1",
			"no key in it":    `{"jws":"` + s.jws(t, typ, []byte(strings.Replace(payload, "spki", "spk", 1))) + `"}`,
			"no object":       `[` + whole + `]`,
		} {
			if _, err := openDocument([]byte(form), known); err == nil {
				t.Errorf("%s with %s is genuine:\n%s", typ, what, form)
			}
		}
		if _, err := openDocument([]byte(whole), boxKey{pin: other.pin}); err == nil {
			t.Errorf("%s of another box is genuine", typ)
		}
	}
	for _, bad := range []string{"", "{", `{"receipts":3}`, "a.b.c", `{"jws":7}`} {
		list, err := readDocuments([]byte(bad))
		for _, one := range list {
			if err == nil {
				_, err = openDocument(one, known)
			}
		}
		if err == nil {
			t.Errorf("%q is genuine", bad)
		}
	}
}

// Receipts of the first versions of the box, which name their key by its fingerprint, hold
// by its certificate.
func TestOldReceiptsHoldByTheCertificate(t *testing.T) {
	s := newTestSigner(t, 7)
	names, err := filepath.Glob("../../daemon/consent/testdata/receipts/1-*.jws")
	if err != nil || len(names) == 0 {
		t.Fatal("no receipts to read", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list, err := readDocuments(data)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		var line struct{ JWS string }
		if err := json.Unmarshal(list[0], &line); err != nil || line.JWS == "" {
			t.Fatal(err)
		}
		if _, err := openDocument(list[0], boxKey{s.pin, s.spki}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := openDocument(list[0], boxKey{pin: s.pin}); err == nil || !strings.Contains(err.Error(), "does not name the key") {
			t.Errorf("by the fingerprint alone: %v", err)
		}
	}
}
