package nextcloud

import (
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// mustExplain checks that what cannot be read is refused in words.
func mustExplain(t *testing.T, err error) {
	t.Helper()
	if k := problem.KindOf(err); k == problem.Internal || problem.As(err).Hint == "" {
		t.Fatalf("%v is of kind %s, or says not what to do", err, k)
	}
}

// A name is the number that its digits say, or none.
func FuzzChunkName(f *testing.F) {
	for _, s := range []string{"1", "000001", "0000000000000000", "00010", "000000000000000-000000010485759", "5-3", "-1", "+1", "1e3", "", "-", "1-2-3", ".file", "٣", strings.Repeat("9", 30)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseChunkName(s)
		if err != nil {
			mustExplain(t, err)
			return
		}
		first, last, ranged := strings.Cut(s, "-")
		is := func(digits string, v int64) bool {
			want, ok := new(big.Int).SetString(digits, 10)
			return ok && want.IsInt64() && want.Int64() == v && v >= 0
		}
		if !is(first, n.number) || n.digits != len(first) || ranged != (n.last >= 0) || ranged && (!is(last, n.last) || n.last < n.number) {
			t.Fatalf("%q was read as %+v", s, n)
		}
	})
}

// A destination leads to a clean path below the files of who asks, or nowhere.
func FuzzDestination(f *testing.F) {
	for _, s := range []string{
		"https://box/remote.php/dav/files/ada/a.bin", "/remote.php/dav/files/ada/a%20b/c", "/remote.php/webdav/x", "https://evil/remote.php/webdav/x",
		"/remote.php/dav/files/ada/%2e%2e/x", "/remote.php/dav/files/ada/..%2fx", "/remote.php/dav/files/ada/a/../../bob/x", "//remote.php/webdav/x", "https:/remote.php/webdav/x",
		"/remote.php/dav/files/ada/%00", "/remote.php/dav/files/ada/%252e%252e/x", "/remote.php/webdav/%c0%ae%c0%ae/x", "/remote.php/webdav/..;/x", "/remote.php/webdav/a\\..\\b", "/remote.php/webdav/a/", "/remote.php/webdav",
	} {
		f.Add(s)
	}
	h := &Handler{}
	f.Fuzz(func(t *testing.T, s string) {
		r := httptest.NewRequest("MOVE", "https://box/remote.php/dav/uploads/ada/u/.file", nil)
		r.Header["Destination"] = []string{s}
		path, err := h.destination(r)
		if err != nil {
			mustExplain(t, err)
			return
		}
		if s == "" {
			return
		}
		if clean, err := catalog.CleanPath(path); err != nil || clean != path {
			t.Fatalf("%q leads to %q: %v", s, path, err)
		}
		u, err := url.Parse(s)
		if err != nil || u.Host != "" && !strings.EqualFold(strings.TrimSuffix(u.Host, ":443"), "box") || !strings.HasPrefix(u.EscapedPath(), legacyPrefix) {
			t.Fatalf("%q was taken for a place of nobody", s) // only the address without a user name is the asker's here
		}
		back := legacyPrefix + (&url.URL{Path: path}).EscapedPath()
		if again, err := (webdav.Mount{Prefix: legacyPrefix}).Path(r, back); err != nil || again != path {
			t.Fatalf("%q leads to %q, and %q to %q: %v", s, path, back, again, err)
		}
	})
}

// The headers of a file: what is taken of them is what they say.
func FuzzAnnounced(f *testing.F) {
	f.Add("SHA1:"+strings.Repeat("a", 40), "12", "1700000000.123")
	f.Add("SHA256:"+strings.Repeat("B", 64), "", "-1")
	f.Add("sha1:xyz", "-5", "1e9")
	f.Add("MD5:abc", "9223372036854775807", "99999999999")
	f.Add("SHA1", "9223372036854775808", "1700000000.")
	f.Add("SHA1:a SHA256:b", "+1", ".5")
	f.Fuzz(func(t *testing.T, checksum, total, mtime string) {
		r := &http.Request{Method: "PUT", Header: http.Header{"Oc-Checksum": {checksum}, "Oc-Total-Length": {total}}}
		meta := ingest.Meta{Size: -1}
		if err := announced(r, &meta); err != nil {
			mustExplain(t, err)
		} else {
			kind, sum, _ := strings.Cut(checksum, ":")
			if !meta.WantSHA1.IsZero() && (!strings.EqualFold(kind, "SHA1") || !strings.EqualFold(hexOf(meta.WantSHA1[:]), sum)) ||
				!meta.Want.IsZero() && (!strings.EqualFold(kind, "SHA256") || !strings.EqualFold(meta.Want.String(), sum)) {
				t.Fatalf("%q was read as %s and %x", checksum, meta.Want, meta.WantSHA1)
			}
			if n, ok := new(big.Int).SetString(total, 10); total != "" && (!ok || !n.IsInt64() || n.Int64() != meta.Size) || total == "" && meta.Size != -1 {
				t.Fatalf("%q was read as %d", total, meta.Size)
			}
		}
		at, err := ingest.ParseMTime(mtime)
		if err != nil {
			mustExplain(t, err)
		} else if at.Unix() < 0 || at.Unix() > 1<<32-1 {
			t.Fatalf("%q was read as %s", mtime, at)
		}
	})
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// The bodies and headers of the login flow come from anybody on the network.
func FuzzLogin(f *testing.F) {
	f.Add(`{"device":"1A2B"}`, "Nextcloud-android/3.30\u200b")
	f.Add(`{"device":""}`, "")
	f.Add(`{"device":-1}`, "\xff\x00")
	f.Add(`[]`, strings.Repeat("信", 100))
	f.Add(strings.Repeat("[", 5000), "a\u202eb")
	f.Fuzz(func(t *testing.T, body, agent string) {
		if id, err := parseGrant(strings.NewReader(body)); err != nil {
			mustExplain(t, err)
		} else if id <= 0 {
			t.Fatalf("%q names the device %d", body, id)
		}
		if name := clientName(agent); len(name) > maxClient || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\n\u202e\u200b") {
			t.Fatalf("%q is shown as %q", agent, name)
		}
	})
}
