package httpd

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"testing"
)

func digestOf(content string) ([sha256.Size]byte, string) {
	sum := sha256.Sum256([]byte(content))
	return sum, "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func TestAnnouncedSHA256(t *testing.T) {
	ref, field := digestOf("photo")
	other, otherField := digestOf("another photo")
	const sha512 = "sha-512=:Zm9v:"
	tests := []struct {
		name          string
		repr, content []string
		want          [sha256.Size]byte
		bad           bool
	}{
		{name: "none"},
		{name: "repr", repr: []string{field}, want: ref},
		{name: "content", content: []string{field}, want: ref},
		{name: "both agree", repr: []string{field}, content: []string{field}, want: ref},
		{name: "both differ", repr: []string{field}, content: []string{otherField}, bad: true},
		{name: "other algorithm only", repr: []string{sha512}},
		{name: "beside another", repr: []string{sha512 + ", " + field}, want: ref},
		{name: "two lines", repr: []string{sha512, field}, want: ref},
		{name: "later one counts", repr: []string{field + ", " + otherField}, want: other},
		{name: "parameters", repr: []string{field + `;a;b=1;c="x,\"y";d=:Zm9v:` + ", " + sha512}, want: ref},
		{name: "tabs around the comma", repr: []string{sha512 + "\t,\t" + field}, want: ref},
		{name: "hex", repr: []string{"sha-256=" + hex.EncodeToString(ref[:])}, bad: true},
		{name: "quoted", repr: []string{`sha-256="` + field + `"`}, bad: true},
		{name: "short", repr: []string{"sha-256=:Zm9v:"}, bad: true},
		{name: "no end", repr: []string{"sha-256=:Zm9v"}, bad: true},
		{name: "not base64", repr: []string{"sha-256=:???:"}, bad: true},
		{name: "upper case key", repr: []string{"SHA-256=:Zm9v:"}, bad: true},
		{name: "trailing comma", repr: []string{field + ","}, bad: true},
		{name: "empty", repr: []string{""}, bad: true},
		{name: "open parameter", repr: []string{field + ";"}, bad: true},
		{name: "open string", repr: []string{field + `;a="`}, bad: true},
		{name: "no comma", repr: []string{field + " " + sha512}, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AnnouncedSHA256(http.Header{"Repr-Digest": tt.repr, "Content-Digest": tt.content}, "Repr-Digest", "Content-Digest")
			if (err != nil) != tt.bad || got != tt.want {
				t.Errorf("AnnouncedSHA256 = %x, %v; want %x, error %v", got, err, tt.want, tt.bad)
			}
		})
	}
}

// What is read can be written again and is read as the same.
func FuzzParseDigests(f *testing.F) {
	_, field := digestOf("photo")
	for _, s := range []string{field, field + ";a=1, md5=:AA==:", "a=::", "*=:Zg==:", "a=:Zg==:;b=\"\\\"\"", ",", "a=:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		digests, ok := parseDigests(s)
		if !ok {
			return
		}
		for key, value := range digests {
			again, ok := parseDigests(key + "=:" + base64.StdEncoding.EncodeToString(value) + ":")
			if !ok || !bytes.Equal(again[key], value) {
				t.Fatalf("%q: %s=%x is not read again", s, key, value)
			}
		}
	})
}
