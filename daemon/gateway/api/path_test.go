package api

import (
	"net/url"
	"strings"
	"testing"

	"yunbox.local/daemon/problem"
)

// R34: what a client names is decoded once and never leaves the person's files.
func TestFilePath(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/files/a.jpg":             "a.jpg",
		"/v1/files/DCIM/a%20b.jpg":    "DCIM/a b.jpg",
		"/v1/files/100%25.jpg":        "100%.jpg",
		"/v1/files/%252e%252e/x":      "%2e%2e/x", // decoded once, not twice
		"/v1/files/a%252Fb":           "a%2Fb",
		"/v1/files/%E5%BE%AE.jpg":     "微.jpg",
		"/v1/files/e%CC%81.jpg":       "é.jpg", // NFD becomes NFC
		"/v1/files/a%3Fb%23c":         "a?b#c",
		"/v1/files/a+b&c=d;e":         "a+b&c=d;e",
		"/v1/files/a%5Cb":             `a\b`,
		"/v1/files/":                  "",
		"/v1/files/a/":                "",
		"/v1/files//a":                "",
		"/v1/files/a//b":              "",
		"/v1/files/../secret":         "",
		"/v1/files/%2e%2e/secret":     "",
		"/v1/files/a/%2E./b":          "",
		"/v1/files/a/./b":             "",
		"/v1/files/a%2Fb":             "",
		"/v1/files/a%2fb":             "",
		"/v1/files/..%2F..%2Fsecret":  "",
		"/v1/files/a%00b":             "",
		"/v1/files/a%0Ab":             "",
		"/v1/files/%FF.jpg":           "",
		"/v1/files/%C0%AE%C0%AE/x":    "", // overlong UTF-8
		"/v1/files/a%E2%80%AEgpj.exe": "", // right-to-left override
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		got, err := filePath(u)
		if want == "" {
			if problem.KindOf(err) != problem.Invalid {
				t.Errorf("%s was read as %q, %v", target, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", target, got, err, want)
		}
	}
}

func FuzzFilePath(f *testing.F) {
	for _, s := range []string{"a.jpg", "a%2Fb", "%2e%2e/x", "%FF", "e%CC%81", "a//b", "%", "%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI(filesPrefix + s)
		if err != nil {
			return
		}
		p, err := filePath(u)
		if err != nil {
			return
		}
		for part := range strings.SplitSeq(p, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
				t.Fatalf("%q was read as %q", s, p)
			}
		}
		again, err := filePath(&url.URL{Path: filesPrefix + p})
		if err != nil || again != p {
			t.Fatalf("%q was read as %q, and that as %q, %v", s, p, again, err)
		}
	})
}

func TestLanguage(t *testing.T) {
	for _, tt := range []struct{ lang, accept, want string }{
		{"", "", "en"},
		{"zh", "en", "zh"},
		{"", "zh-CN,zh;q=0.9,en;q=0.8", "zh"},
		{"", "zh-Hant-TW", "zh"},
		{"", "de, en;q=0.5", "en"},
		{"", "fr", "en"},
		{"xx", "zh", "zh"},
		{"!!", "???", "en"},
	} {
		if got := (Localized{Lang: tt.lang, AcceptLanguage: tt.accept}).language(); got != tt.want {
			t.Errorf("%q, %q: %s, want %s", tt.lang, tt.accept, got, tt.want)
		}
	}
}
