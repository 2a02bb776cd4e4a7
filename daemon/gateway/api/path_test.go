package api

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
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

func TestContentTypeRunsNothing(t *testing.T) {
	for name, want := range map[string]string{
		"a.JPG": "image/jpeg", "a.heic": "image/heic", "a.txt": "text/plain; charset=utf-8",
		"a.svg": "application/octet-stream", "a.html": "application/octet-stream", "a.js": "application/octet-stream",
		"a.xml": "application/octet-stream", "noext": "application/octet-stream", "a.jpg.html": "application/octet-stream",
	} {
		if got := contentType(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestAttachmentKeepsNames(t *testing.T) {
	for name, want := range map[string]string{
		"a.jpg":         "attachment; filename=a.jpg",
		"a b\"c.jpg":    `attachment; filename="a b\"c.jpg"`,
		"微信 😀.jpg":      "attachment; filename*=utf-8''%E5%BE%AE%E4%BF%A1%20%F0%9F%98%80.jpg",
		"a;x=y\r\n.jpg": "attachment; filename*=utf-8''a%3Bx%3Dy%0D%0A.jpg",
	} {
		if got := attachment(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestEntityTags(t *testing.T) {
	ref, other := storage.Ref(sha256.Sum256([]byte("photo"))), storage.Ref(sha256.Sum256([]byte("another photo")))
	for list, want := range map[string]bool{
		"*": true, etag(ref): true, etag(other): false, etag(other) + ", " + etag(ref): true,
		"W/" + etag(ref): false, ref.String(): false, "": false,
	} {
		if got := hasTag(list, ref); got != want {
			t.Errorf("%s: %v", list, got)
		}
	}
	if http.StatusPreconditionFailed != problem.PreconditionFailed.Status() {
		t.Error("a failed precondition is not 412")
	}
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
