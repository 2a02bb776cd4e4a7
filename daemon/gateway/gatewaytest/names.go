package gatewaytest

import (
	"net/url"
	"strings"
)

// escape writes a path into a URL: its parts separated by slashes, everything
// else in it that needs it percent-encoded once.
func escape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// names: a name is kept exactly as it was given, or refused in words; no third.
func names(s *suite) {
	body := content(s.Name(), 3000)
	refused := map[string]string{
		"the folder above":         "../secret.jpg",
		"a folder above, inside":   "a/../../secret.jpg",
		"the folder itself":        "a/./b.jpg",
		"only dots":                "a/..",
		"NUL":                      "a\x00.jpg",
		"a line break":             "a\nb.jpg",
		"DEL":                      "a\x7f.jpg",
		"a C1 control":             "a\u0085.jpg",
		"4 KiB":                    strings.Repeat("x", 4096),
		"256 bytes":                strings.Repeat("x", 256),
		"86 characters, 258 bytes": strings.Repeat("信", 86),
		"too deep":                 strings.Repeat("abcdefgh/", 300) + "a.jpg",
		"no UTF-8":                 "a\xff.jpg",
		"half a character":         "a\xe4\xbf.jpg",
		"overlong slash":           "a\xc0\xafb.jpg",
		"a surrogate":              "a\xed\xa0\x80.jpg",
		"right-to-left override":   "a\u202egpj.exe",
		"left-to-right embedding":  "a\u202a.jpg",
		"right-to-left isolate":    "a\u2067gpj.exe",
		"pop directional isolate":  "a\u2069.jpg",
		"an empty part":            "a//b.jpg",
		"a slash at the end":       "a/b.jpg/",
	}
	s.unchanged(func() {
		for what, name := range refused {
			f := s.file("", body)
			f.Path = s.path(name)
			_, err := s.client.Put(s.Context(), f)
			s.refused(what, err, "invalid")
			s.refused(what+", announced", s.client.Announce(s.Context(), f, "3000"), "invalid")
		}
		f := s.file("", body)
		for _, f.Path = range []string{"..", "../" + s.folder, "/" + s.folder + "/a.jpg", "."} {
			_, err := s.client.Put(s.Context(), f)
			s.refused(f.Path, err, "invalid")
		}
	})
	for what, name := range map[string]string{
		"a right-to-left mark":       "a\u200f.jpg",
		"a left-to-right mark":       "\u200eא.jpg",
		"Arabic":                     "صورة.jpg",
		"Hebrew":                     "תמונה.jpg",
		"Chinese":                    "微信图片_2026.jpg",
		"emoji with a joiner":        "👩\u200d👩\u200d👧.jpg",
		"255 bytes":                  strings.Repeat("x", 251) + ".jpg",
		"85 characters, 255 bytes":   strings.Repeat("信", 85),
		"what URLs are made of":      "a?b#c&d=e;f%g+h i@j:k.jpg",
		"percent-encoding":           "%2e%2e%2fa%00.jpg",
		"encoded twice":              "%252e%252e.jpg",
		"a backslash":                `a\..\b.jpg`,
		"quotes":                     `a"b'c` + "`d.jpg",
		"dots that are a name":       "...",
		"a hidden file":              ".nomedia",
		"spaces at both ends":        " a .jpg ",
		"a device of DOS":            "CON",
		"a script":                   "<script>alert(1)</script>.svg",
		"a tilde":                    "~",
		"the page's own name":        "index.html",
		"a semicolon and a comma":    "a;b,c.jpg",
		"a name that sounds like us": ".yunbox",
	} {
		f := s.file(name, body)
		r, err := s.client.Put(s.Context(), f)
		if err != nil {
			s.Errorf("%s: %v", what, err)
			continue
		}
		if r.SHA256 != sum(body) {
			s.Errorf("%s: %+v", what, r)
		}
		s.kept(f.Path, body)
		s.listed(f.Path)
	}
	// Names that differ in case only are two names: a phone's are.
	for _, name := range []string{"img_1.jpg", "IMG_1.JPG"} {
		s.put(s.file(name, []byte(name)), []byte(name))
	}
	s.kept(s.path("img_1.jpg"), []byte("img_1.jpg"))
	// A name is a file's or a folder's, not both's.
	s.put(s.file("folder/a.jpg", body), body)
	s.unchanged(func() {
		for what, name := range map[string]string{"a file below a file": "img_1.jpg/a.jpg", "a file in the place of a folder": "folder"} {
			_, err := s.client.Put(s.Context(), s.file(name, body))
			s.refused(what, err, "conflict")
		}
	})
	s.kept(s.path("folder/a.jpg"), body)
	// A Mac writes é as two characters and means the same file.
	decomposed, composed := "Cafe\u0301.jpg", "Caf\u00e9.jpg"
	f := s.file(decomposed, body)
	if _, err := s.client.Put(s.Context(), f); err != nil {
		s.Fatal(err)
	}
	s.listed(s.path(composed))
	for _, name := range []string{decomposed, composed} {
		s.kept(s.path(name), body)
	}
	s.unchanged(func() {
		if _, err := s.client.Put(s.Context(), s.file(composed, body)); err != nil {
			s.Error(err)
		}
	})
}

func (s *suite) listed(path string) {
	s.Helper()
	n := 0
	for _, i := range s.items(s.ada) {
		if i.Path == path {
			n++
		}
	}
	if n != 1 {
		s.Errorf("%q is listed %d times", path, n)
	}
}
