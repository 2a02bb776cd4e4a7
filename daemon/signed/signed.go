// Package signed is the form of what a box signs for people to keep: a JSON Web Signature
// in compact form (RFC 7515 §7.1) by the key of the box, ES256 (RFC 7518 §3.4), whose
// payload is one JSON object. The box and yunboxctl read it here, and nowhere else.
package signed

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
)

var (
	// ErrKey: keys of boxes are ECDSA keys on P-256.
	ErrKey = errors.New("signed: not an ECDSA key on P-256")
	// ErrHeader: it is of another kind, by another key, or signed in another way.
	ErrHeader = errors.New("signed: by another key, or in another way")
	// ErrSignature: the signature is none, or is not of these bytes.
	ErrSignature = errors.New("signed: the signature is wrong")
	// ErrForm: it is no JSON object that every reader understands alike.
	ErrForm = errors.New("it cannot be read")
)

// Fingerprint names a key of a box, a *ecdsa.PublicKey: the SHA-256 of its SPKI.
func Fingerprint(key crypto.PublicKey) (sum [sha256.Size]byte, err error) {
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok || pub == nil || pub.Curve != elliptic.P256() {
		return sum, ErrKey
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return sum, ErrKey
	}
	return sha256.Sum256(der), nil
}

// header is the protected header, byte for byte: typ says of what kind a document is, so
// that no signature is good for another one.
func header(typ string, kid [sha256.Size]byte) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"` + typ + `","kid":"` + base64.RawURLEncoding.EncodeToString(kid[:]) + `"}`))
}

// Sign signs a payload as a document of the kind typ. key is on P-256.
func Sign(key crypto.Signer, typ string, payload []byte) (jws string, err error) {
	kid, err := Fingerprint(key.Public())
	if err != nil {
		return "", err
	}
	input := header(typ, kid) + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	der, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signed: %w", err)
	}
	// crypto.Signer gives ASN.1; JWS wants r and s side by side (RFC 7518 §3.4).
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return "", fmt.Errorf("signed: %w", err)
	}
	var raw [64]byte
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

// Verify returns the payload of a document of the kind typ that key signed. Errors are
// ErrKey, ErrHeader and ErrSignature.
func Verify(key crypto.PublicKey, typ, jws string) (payload []byte, err error) {
	kid, err := Fingerprint(key)
	if err != nil {
		return nil, err
	}
	head, rest, _ := strings.Cut(jws, ".")
	body, sig, _ := strings.Cut(rest, ".")
	if head != header(typ, kid) { // no other algorithm, key or extension
		return nil, ErrHeader
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sig)
	if err != nil || len(raw) != 64 || len(sig) != 86 {
		return nil, ErrSignature
	}
	digest := sha256.Sum256([]byte(head + "." + body))
	if !ecdsa.Verify(key.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])) {
		return nil, ErrSignature
	}
	payload, err = base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return nil, ErrSignature
	}
	return payload, nil
}

// Payload returns what a document says, unchecked: Verify does that.
func Payload(jws string) ([]byte, error) {
	_, rest, _ := strings.Cut(jws, ".")
	body, _, _ := strings.Cut(rest, ".")
	payload, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return nil, ErrForm
	}
	return payload, nil
}

// maxDepth bounds how deep an object is nested; documents have five levels at most.
const maxDepth = 16

// Object reads one JSON object, with numbers as they are written (json.Number). A name that
// stands twice is refused, and whatever follows: two readers could understand it in two
// ways. Errors are an ErrForm.
func Object(data []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows it", ErrForm)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: it is no object", ErrForm)
	}
	return m, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil || depth > maxDepth {
		return nil, ErrForm
	}
	switch t {
	case json.Delim('{'):
		m := map[string]any{}
		for d.More() {
			t, err := d.Token()
			if err != nil {
				return nil, ErrForm
			}
			name, _ := t.(string)
			if _, twice := m[name]; twice {
				return nil, fmt.Errorf("%w: %q stands twice in it", ErrForm, name)
			}
			if m[name], err = value(d, depth+1); err != nil {
				return nil, err
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, ErrForm
		}
		return m, nil
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, ErrForm
		}
		return list, nil
	}
	return t, nil
}

// Split reads a document as the box gave it: an object of which the member jws is the
// signature, and the others say what was signed.
func Split(data []byte) (said map[string]any, jws string, err error) {
	if said, err = Object(data); err != nil {
		return nil, "", err
	}
	jws, _ = said["jws"].(string)
	delete(said, "jws")
	return said, jws, nil
}

// Says reports whether what stands beside a signature (see Split) is what was signed,
// which Object read, letter by letter.
func Says(said, signed map[string]any) bool {
	x, err1 := json.Marshal(said) // sorts the names
	y, err2 := json.Marshal(signed)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
