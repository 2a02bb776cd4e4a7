package resumable

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
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
