package resumable

import (
	"encoding/base64"
	"strings"
	"testing"
)

// A header that is read names an algorithm and a digest of its length, in one
// spelling; it is matched by those bytes only.
func FuzzParseChecksum(f *testing.F) {
	for _, s := range []string{"", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha256 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"sha1", "sha1 ", " sha256  47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "md5 AAAA", "sha1 \x00", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := parseChecksum(header)
		if err != nil || c == nil {
			if header != "" && err == nil {
				t.Errorf("%q is taken for none", header)
			}
			return
		}
		if len(c.want) != c.hash.Size() || !strings.Contains(header, "sha") {
			t.Fatalf("%q: %d bytes", header, len(c.want))
		}
		name, _, _ := strings.Cut(strings.TrimSpace(header), " ")
		again, err := parseChecksum(name + " " + base64.StdEncoding.EncodeToString(c.want))
		if err != nil || string(again.want) != string(c.want) {
			t.Errorf("%q is read as %x, then as %v, %v", header, c.want, again, err)
		}
		if c.matches() && string(c.want) != string(c.hash.Sum(nil)) {
			t.Errorf("%q matches nothing", header)
		}
	})
}
