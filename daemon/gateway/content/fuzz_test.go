package content

import (
	"mime"
	"strings"
	"testing"
	"unicode/utf8"

	"yunbox.local/storage"
)

// A list matches a content only if it is "*" somewhere, or names the whole hash.
func FuzzHasTag(f *testing.F) {
	ref := storage.Ref{1, 2, 3}
	for _, s := range []string{"", "*", ETag(ref), "W/" + ETag(ref), `"a", ` + ETag(ref), `"a,` + ref.String() + `"`, ref.String(), `"*"`, ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if HasTag(list, ref) && !strings.Contains(list, "*") && !strings.Contains(list, ETag(ref)) {
			t.Errorf("%q matches", list)
		}
		if HasTag(list, ref) && strings.TrimSpace(list) == "W/"+ETag(ref) {
			t.Errorf("%q is weak", list)
		}
		if !HasTag(list+","+ETag(ref), ref) {
			t.Errorf("%q hides what comes after it", list)
		}
	})
}

// Whatever a file is called, its name cannot become another header or another type
// of disposition, and readers get it back.
func FuzzAttachment(f *testing.F) {
	for _, s := range []string{"a.jpg", "微信 😀.jpg", `a"; filename="b.exe`, "a\r\nSet-Cookie: x", "\x00", "\xff", "", "%41.jpg", "\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		header := attachment(name)
		if strings.ContainsFunc(header, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) {
			t.Fatalf("%q gives %q", name, header)
		}
		kind, params, err := mime.ParseMediaType(header)
		if err != nil || kind != "attachment" || len(params) > 1 {
			t.Fatalf("%q gives %q: %q %v %v", name, header, kind, params, err)
		}
		if got, said := params["filename"]; said && got != name && utf8.ValidString(name) {
			t.Errorf("%q comes back as %q by %q", name, got, header)
		}
	})
}
