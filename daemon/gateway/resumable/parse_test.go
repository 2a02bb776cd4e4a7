package resumable

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"yunbox.local/daemon/ingest"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseMetadata(t *testing.T) {
	for header, want := range map[string]metadata{
		"":                                 {},
		"filename " + b64("a.jpg"):         {"filename": "a.jpg"},
		"a " + b64("1") + ",b " + b64("2"): {"a": "1", "b": "2"},
		"a " + b64("1") + " , b":           {"a": "1", "b": ""},
		"empty":                            {"empty": ""},
		"empty ":                           {"empty": ""},
		"nopad YQ":                         {"nopad": "a"},
		"zh " + b64("微信 😀.jpg"):            {"zh": "微信 😀.jpg"},
		",":                                nil,
		"a " + b64("1") + ",":              nil,
		"a !!!":                            nil,
		"a YQ== x":                         nil,
		"a " + b64("\xff"):                 nil,
		"a " + b64("1") + ",a " + b64("2"): nil,
		"ключ " + b64("1"):                 nil,
		"a YR==":                           nil, // bits behind the end: two spellings of one value
		strings.Repeat("x", maxMetadata+1): nil,
	} {
		got, err := parseMetadata(header)
		if (err != nil) != (want == nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%.60q: %v, %v; want %v", header, got, err, want)
		}
	}
}

// What is read can be written again and is read as the same.
func FuzzParseMetadata(f *testing.F) {
	f.Add("filename YS5qcGc=,source YWxidW0=")
	f.Add("a,b ,c YQ")
	f.Add(" ,")
	f.Fuzz(func(t *testing.T, header string) {
		m, err := parseMetadata(header)
		if err != nil {
			return
		}
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			pairs = append(pairs, k+" "+b64(m[k]))
		}
		again, err := parseMetadata(strings.Join(pairs, ","))
		if len(strings.Join(pairs, ",")) <= maxMetadata && (err != nil || !maps.Equal(m, again)) {
			t.Fatalf("%q became %v, and that %v, %v", header, m, again, err)
		}
	})
}

func TestParseChecksum(t *testing.T) {
	const body = "hello"
	sha1 := "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00="
	sha256 := "sha256 LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
	for header, want := range map[string]string{
		"":                                    "none",
		sha1:                                  "true",
		sha256:                                "true",
		"sha1 " + b64("aaaaabbbbbcccccddddd"): "false",
		"md5 XUFAKrxLKna5cZ2REBfFkg==":        "error",
		"sha1":                                "error",
		"sha1 !!":                             "error",
		"sha256 qvTGHdzF6KLavt4PO0gs2a6pQ00=": "error",
		"SHA1 qvTGHdzF6KLavt4PO0gs2a6pQ00=":   "error",
	} {
		sum, err := parseChecksum(header)
		got := "error"
		switch {
		case err == nil && sum == nil:
			got = "none"
		case err == nil:
			fmt.Fprint(sum.hash, body)
			got = fmt.Sprint(sum.matches())
		}
		if got != want {
			t.Errorf("%q: %s, %v; want %s", header, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "10": 10, "1099511627776": 1 << 40,
		"": -1, "-1": -1, "+1": -1, "1.5": -1, "0x10": -1, " 1": -1, "1e3": -1, "1099511627777": -1, "99999999999999999999999": -1,
	} {
		got, err := parseSize(s, "Upload-Length")
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}

func TestStructuredFields(t *testing.T) {
	field := func(lines ...string) http.Header { return http.Header{"X": lines} }
	for value, want := range map[string]int64{
		"0": 0, "5": 5, " 7 ": 7, "007": 7, "12;a=b": 12, "999999999999999": 999999999999999,
		"": -1, "-1": -1, "+1": -1, "1.0": -1, "1e3": -1, "1 2": -1, "9999999999999999": -1, "?1": -1, ":MQ==:": -1, "\u0661": -1,
	} {
		if n, ok := integer(field(value), "X"); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v", value, n, ok)
		}
	}
	if n, ok := integer(field("1", "2"), "X"); ok {
		t.Errorf("two lines are one number: %d", n)
	}
	for value, want := range map[string]string{"?1": "true", "?0": "false", " ?1": "true", "?0;q": "false", "": "", "1": "", "true": "", "?2": "", "?1, ?1": ""} {
		got := ""
		if b, ok := boolean(field(value), "X"); ok {
			got = strconv.FormatBool(b)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// No words of a request make a file of a part: what is taken whole says so, or
// says nothing at all.
func FuzzCreation(f *testing.F) {
	for _, s := range []string{"", "?0", "?1", "?1;a", "true", "3"} {
		f.Add(s, "6", "", "")
		f.Add("", "3", s, "")
		f.Add(s, "12", s, s)
	}
	f.Fuzz(func(t *testing.T, complete, version, incomplete, length string) {
		r := httptest.NewRequest("POST", "/v1/uploads", strings.NewReader("12345"))
		for name, value := range map[string]string{completeField: complete, versionField: version, incompleteField: incomplete, "Upload-Length": length} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		d, whole, err := creation(r)
		if err != nil {
			return
		}
		if d != plain && (d < draft3 || d > final) {
			t.Fatalf("form %d", d)
		}
		said := complete
		if d == draft3 {
			said = map[string]string{"?0": "?1", "?1": "?0"}[strings.Trim(strings.Split(incomplete, ";")[0], " ")]
		}
		if whole && said != "" && strings.Trim(strings.Split(said, ";")[0], " ") != "?1" {
			t.Fatalf("%q in form %d is the whole file", said, d)
		}
		if n, err := d.length(r, 0, whole, -1); err == nil && whole && n != 5 {
			t.Fatalf("5 bytes are %d", n)
		}
	})
}

// Whatever lengths a request names, they agree with all that is known, or are
// refused.
func FuzzLength(f *testing.F) {
	f.Add("10", int64(4), int64(6), int64(10), true)
	f.Add("", int64(0), int64(-1), int64(-1), true)
	f.Add("10", int64(1<<62), int64(1<<62), int64(-1), false)
	f.Fuzz(func(t *testing.T, length string, offset, body, known int64, whole bool) {
		if offset < 0 || body < -1 || known < -1 || known > ingest.MaxSize || known >= 0 && offset > known {
			return
		}
		r := httptest.NewRequest("PATCH", "/v1/uploads/x", nil)
		r.Header.Set("Upload-Length", length)
		r.ContentLength = body
		n, err := draft9.length(r, offset, whole, known)
		if err != nil {
			return
		}
		if known >= 0 && n != known || n > ingest.MaxSize || n >= 0 && body >= 0 && (body > n || offset > n-body) || whole && body >= 0 && n != offset+body {
			t.Fatalf("%d bytes at %d of %d, announced %q: %d", body, offset, known, length, n)
		}
	})
}
