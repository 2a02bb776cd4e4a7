package immich

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// An id of the protocol is one of ours in one spelling, of one kind.
func FuzzID(f *testing.F) {
	f.Add(uuid(ofItem, 1))
	f.Add(uuid(ofFolder, 1<<62))
	f.Add(strings.ToUpper(uuid(ofItem, 1<<40)))
	f.Add("00000000-0000-0000-0000-000000000000")
	f.Add(strings.ReplaceAll(uuid(ofToken, 77), "-", ""))
	f.Add("-")
	f.Fuzz(func(t *testing.T, s string) {
		kinds := 0
		for _, kind := range []byte{ofUser, ofItem, ofFolder, ofToken} {
			id, ok := fromUUID(kind, s)
			if !ok {
				continue
			}
			kinds++
			if id <= 0 || uuid(kind, id) != strings.ToLower(s) {
				t.Errorf("%q is %d of kind %d, written %q", s, id, kind, uuid(kind, id))
			}
		}
		if kinds > 1 {
			t.Errorf("%q names %d things", s, kinds)
		}
	})
}

// A checksum that is read is the one that was written, in hex or in base64.
func FuzzSum(f *testing.F) {
	for _, s := range []string{strings.Repeat("0a", 20), "Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "", "Kq5sNclPz7QV2+lfQIuc6R7oRu0", "000000000000000000000000001=", "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sum, err := parseSum(s)
		if err == nil && !strings.EqualFold(hex.EncodeToString(sum[:]), s) && base64.StdEncoding.EncodeToString(sum[:]) != strings.NewReplacer("\r", "", "\n", "").Replace(s) {
			t.Errorf("%q is %x", s, sum)
		}
	})
}
