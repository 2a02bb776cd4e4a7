package immich_test

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"

	"yunbox.local/daemon/gateway/immich"
	"yunbox.local/daemon/problem"
)

// FuzzForm: whatever comes, a form is read within its bounds or refused in words,
// however the bytes are cut into pieces.
func FuzzForm(f *testing.F) {
	f.Add(form(field("a", "1"), file("a.jpg", "bytes"), field("b", "2")).String(), "multipart/form-data; boundary="+boundary)
	f.Add("--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--x--", "multipart/form-data; boundary=x")
	f.Add("--x\r\nContent-Disposition: form-data; name=assetData; filename*=UTF-8''%e4%bf%a1\r\n\r\n--x\r\n--x--\r\nrest", "multipart/form-data; boundary=x")
	f.Add("--x--", "multipart/form-data; boundary=x")
	f.Add("", "multipart/form-data; boundary=\"a b\"")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		type part struct {
			name, value string
			file        bool
		}
		read := func(r io.Reader) (parts []part, err error) {
			outside := 0
			err = immich.ReadForm(contentType, r, func(name, value string, file bool) {
				parts = append(parts, part{name, value, file})
				if !file {
					outside += len(value)
					if len(value) > immich.MaxField {
						t.Errorf("a field of %d bytes", len(value))
					}
				}
			})
			if len(parts) > immich.MaxParts || outside > immich.MaxRest {
				t.Errorf("%d parts, %d bytes outside of files", len(parts), outside)
			}
			return parts, err
		}
		parts, err := read(strings.NewReader(body))
		var p *problem.Error
		if err != nil && (!errors.As(err, &p) || p.Hint == "") {
			t.Errorf("refused without a word: %v", err)
		}
		again, errAgain := read(iotest.OneByteReader(strings.NewReader(body)))
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("at once: %v; byte by byte: %v", err, errAgain)
		}
		if err != nil {
			return
		}
		if len(parts) != len(again) {
			t.Fatalf("at once %d parts, byte by byte %d", len(parts), len(again))
		}
		for i := range parts {
			if parts[i] != again[i] {
				t.Errorf("part %d: %+v and %+v", i, parts[i], again[i])
			}
		}
	})
}

// A form that ends anywhere before its end is refused, and one that a library
// writes is read.
func TestFormsThatEndEarly(t *testing.T) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, name := range []string{"one", "two"} {
		if err := w.WriteField(name, name); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.CreateFormFile("assetData", `a "quoted" \ 照片.jpg`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write([]byte("the bytes")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := b.String()
	n := 0
	tell := func(string, string, bool) { n++ }
	if err := immich.ReadForm(w.FormDataContentType(), strings.NewReader(whole), tell); err != nil || n != 3 {
		t.Fatalf("%d parts, %v", n, err)
	}
	for end := range len(whole) - len("\r\n") { // the last line break may be missing
		err := immich.ReadForm(w.FormDataContentType(), strings.NewReader(whole[:end]), tell)
		if problem.KindOf(err) != problem.Invalid {
			t.Errorf("%d of %d bytes: %v", end, len(whole), err)
		}
	}
	broke := errors.New("the connection broke")
	err = immich.ReadForm(w.FormDataContentType(), io.MultiReader(strings.NewReader(whole[:len(whole)-20]), iotest.ErrReader(broke)), tell)
	if !errors.Is(err, broke) {
		t.Errorf("%v", err)
	}
}
