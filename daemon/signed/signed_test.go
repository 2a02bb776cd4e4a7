package signed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func testKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestASignatureHoldsForOneKindKeyAndText(t *testing.T) { // R20
	key := testKey(t, elliptic.P256())
	jws, err := Sign(key, "a+jws", []byte(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Verify(&key.PublicKey, "a+jws", jws); err != nil || string(got) != `{"n":1}` {
		t.Errorf("%s, %v", got, err)
	}
	for what, tt := range map[string]struct {
		typ, jws string
		key      any
		want     error
	}{
		"another kind":   {"b+jws", jws, &key.PublicKey, ErrHeader},
		"another key":    {"a+jws", jws, &testKey(t, elliptic.P256()).PublicKey, ErrHeader},
		"a key of sorts": {"a+jws", jws, &testKey(t, elliptic.P384()).PublicKey, ErrKey},
		"no key":         {"a+jws", jws, nil, ErrKey},
		"a letter more":  {"a+jws", jws + "A", &key.PublicKey, ErrSignature},
		"padding":        {"a+jws", jws + "==", &key.PublicKey, ErrSignature},
		"a letter less":  {"a+jws", jws[:len(jws)-1], &key.PublicKey, ErrSignature},
		"another text":   {"a+jws", strings.Replace(jws, ".", ".A", 1), &key.PublicKey, ErrSignature},
		"none":           {"a+jws", jws[:strings.LastIndexByte(jws, '.')], &key.PublicKey, ErrSignature},
		"nothing":        {"a+jws", "", &key.PublicKey, ErrHeader},
	} {
		if got, err := Verify(tt.key, tt.typ, tt.jws); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: %s, %v", what, got, err)
		}
	}
	if _, err := Sign(testKey(t, elliptic.P384()), "a+jws", nil); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

func TestWhatStandsBesideASignatureIsWhatWasSigned(t *testing.T) { // R20
	signed, err := Object([]byte(`{"a":9007199254740993,"b":["é",null,{"c":1.0}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for doc, same := range map[string]bool{
		`{"b":["\u00e9",null,{"c":1.0}],"jws":"x","a":9007199254740993}`: true,
		`{"b":["é",null,{"c":1.0}],"jws":"x","a":9007199254740992}`:      false, // the same to a reader with float64
		`{"b":["é",null,{"c":1}],"jws":"x","a":9007199254740993}`:        false,
		`{"b":["é",null],"jws":"x","a":9007199254740993}`:                false,
		`{"jws":"x"}`: false,
	} {
		said, jws, err := Split([]byte(doc))
		if err != nil || jws != "x" || Says(said, signed) != same {
			t.Errorf("%s: %v, %q, %v", doc, said, jws, err)
		}
	}
}

func FuzzObject(f *testing.F) {
	for _, s := range []string{`{"a":[1,2,{"b":null}],"c":"é"}`, `{"a":1,"a":2}`, `{"a":1}x`, `[1]`, `{`, strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Object(data)
		if err != nil {
			if !errors.Is(err, ErrForm) {
				t.Fatal(err)
			}
			return
		}
		var want map[string]any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: read as %v, encoding/json reads %v, %v", data, got, want, err)
		}
	})
}
