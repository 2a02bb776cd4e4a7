package consent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestReceiptProvesItself(t *testing.T) { // R20
	h := build(t)
	r := h.decide(ann, 0, AlbumBackup, true)
	plain, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, plain, "", "  "); err != nil {
		t.Fatal(err)
	}
	// Another program may write the same values in another order and spelling.
	var loose map[string]any
	if err := json.Unmarshal(plain, &loose); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(loose)
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string][]byte{
		"jws": []byte(r.JWS), "jws in a file": []byte(r.JWS + "\n"), "json": plain, "pretty": pretty.Bytes(), "sorted": sorted,
	} {
		got, err := VerifyReceipt(h.key.Public(), form)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %v\n%+v\n%+v", name, err, got, r)
		}
	}
}

func TestForgedReceiptIsRefused(t *testing.T) { // R20
	h, other := build(t), build(t)
	r := h.decide(ann, 0, AlbumBackup, true)
	no := h.decide(ann, 0, AlbumBackup, false)
	plain, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(plain)
	part := strings.Split(r.JWS, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	resigned, err := other.sign.jws(r) // genuine, but of another box
	if err != nil {
		t.Fatal(err)
	}
	own := *h.sign
	own.key = misnamed{h.sign.key, other.sign.pub}
	misnamed, err := own.jws(r)
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]string{
		"empty":                        "",
		"space":                        " \n",
		"not JSON":                     "{",
		"no jws":                       `{}`,
		"list":                         `[]`,
		"jws of another type":          `{"jws":1}`,
		"a yes made a no":              strings.Replace(doc, `"state":"granted"`, `"state":"withdrawn"`, 1),
		"another person":               strings.Replace(doc, r.Principal.String(), bob.String(), 1),
		"a field more":                 strings.Replace(doc, `{`, `{"x":1,`, 1),
		"a field less":                 strings.Replace(doc, `"lawful_basis":"consent",`, ``, 1),
		"a field in capitals":          strings.Replace(doc, `{`, `{"Event":{"state":"withdrawn"},`, 1),
		"a field twice":                strings.Replace(doc, `{`, `{"event":{"state":"withdrawn"},`, 1),
		"two receipts":                 doc + doc,
		"text of one, sign of another": strings.Replace(doc, r.JWS, no.JWS, 1),
		"another box":                  resigned,
		"another box's name":           misnamed,
		"payload of another":           part[0] + "." + strings.Split(no.JWS, ".")[1] + "." + part[2],
		"signature of another":         part[0] + "." + part[1] + "." + strings.Split(no.JWS, ".")[2],
		"no signature":                 part[0] + "." + part[1] + ".",
		"two parts":                    part[0] + "." + part[1],
		"four parts":                   r.JWS + ".x",
		"padded":                       r.JWS + "==",
		"broken line":                  part[0] + "." + part[1] + "." + part[2][:40] + "\n" + part[2][40:],
		"zero signature":               part[0] + "." + part[1] + "." + b64(make([]byte, 64)),
		"algorithm none":               b64([]byte(`{"alg":"none"}`)) + "." + part[1] + ".",
		"algorithm HS256":              b64([]byte(`{"alg":"HS256","typ":"yunbox-receipt+jws","kid":"`+h.sign.kid+`"}`)) + "." + part[1] + "." + part[2],
		"header with extension":        b64([]byte(`{"alg":"ES256","typ":"yunbox-receipt+jws","kid":"`+h.sign.kid+`","crit":["x"]}`)) + "." + part[1] + "." + part[2],
		"nested":                       strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100),
		"huge":                         "{" + strings.Repeat(" ", maxReceipt) + "}",
	} {
		if _, err := VerifyReceipt(h.key.Public(), []byte(form)); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, key := range []any{nil, "key", (*ecdsa.PublicKey)(nil), other.key.Public()} {
		if _, err := VerifyReceipt(key, []byte(r.JWS)); !errors.Is(err, ErrReceipt) {
			t.Errorf("with the key %T: %v", key, err)
		}
	}
	// A later form is not read as if it were this one.
	r.Schema = "yunbox-receipt/2"
	later, err := h.sign.jws(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyReceipt(h.key.Public(), []byte(later)); !errors.Is(err, ErrReceipt) {
		t.Error(err)
	}
}

// misnamed is a key under another one's name.
type misnamed struct {
	crypto.Signer
	pub crypto.PublicKey
}

func (m misnamed) Public() crypto.PublicKey { return m.pub }

// Every single bit of a receipt counts.
func TestEveryBitOfAReceiptCounts(t *testing.T) { // R20
	h := build(t)
	jws := []byte(h.decide(ann, 0, AlbumBackup, true).JWS)
	for i := range jws {
		forged := bytes.Clone(jws)
		forged[i] ^= 1 << (i % 7)
		if _, err := VerifyReceipt(h.key.Public(), forged); err == nil {
			t.Fatalf("byte %d changed from %q to %q and nobody noticed", i, jws[i], forged[i])
		}
	}
}

// Receipts of released versions stay readable: these files are never edited.
func TestOldReceiptsStayReadable(t *testing.T) { // R20
	key := fixedKey(t)
	names, err := filepath.Glob("testdata/receipts/*.jws")
	if err != nil || len(names) == 0 {
		t.Fatal("no receipts to read", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := VerifyReceipt(key.Public(), b)
		if err != nil || r.Principal != ann || r.Purpose.ID != WeChatBackup || r.Notice.SHA256["en"] == "" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func fixedKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func FuzzVerifyReceipt(f *testing.F) {
	key := fixedKey(f)
	sign, err := newSigner(key)
	if err != nil {
		f.Fatal(err)
	}
	r := Receipt{Schema: receiptSchema, Record: strings.Repeat("0", 64), Principal: ann,
		Purpose: ReceiptPurpose{ID: AlbumBackup, Title: map[string]string{"zh": "手机相册备份 <&>"}}}
	if r.JWS, err = sign.jws(r); err != nil {
		f.Fatal(err)
	}
	doc, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(r.JWS))
	f.Add(doc)
	f.Add([]byte(`{"jws":"a.b.c","a":{"b":[1,null,true]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := VerifyReceipt(key.Public(), data)
		if err != nil {
			if !errors.Is(err, ErrReceipt) {
				t.Fatal(err)
			}
			return
		}
		// Accepted is only what says exactly what the one genuine receipt says.
		got.JWS, r.JWS = "", ""
		a, errA := json.Marshal(got)
		b, errB := json.Marshal(r)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("accepted as genuine: %q", data)
		}
	})
}

func BenchmarkReceipt(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sign, err := newSigner(key)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := sign.jws(Receipt{Schema: receiptSchema}); err != nil {
			b.Fatal(err)
		}
	}
}
