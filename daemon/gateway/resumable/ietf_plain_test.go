package resumable_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// R05: an iPhone of a year to come, or of one long past, still saves its photos.
func TestUnknownVersionsAreOrdinaryUploads(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	for i, header := range [][]string{
		{"Upload-Draft-Interop-Version", "10", "Upload-Complete", "?1"},
		{"Upload-Draft-Interop-Version", "2", "Upload-Incomplete", "?0"},
		{"Upload-Draft-Interop-Version", "1"},
		{"Upload-Draft-Interop-Version", "3, 4", "Upload-Complete", "?1"},
		{"Upload-Draft-Interop-Version", "six", "Upload-Complete", "?1"},
		{"Upload-Draft-Interop-Version", "3", "Upload-Complete", "?1"},
		{"Upload-Draft-Interop-Version", "8"},
		{"Upload-Incomplete", "?0"},
		{"Content-Type", "image/jpeg"},
		{},
	} {
		content, name := fmt.Sprint("plain ", i), fmt.Sprint(i, ".jpg")
		a := p.speak(0, "POST", "/v1/uploads?"+inAlbum(name), strings.NewReader(content), header...)
		var got struct{ Path, SHA256, Stored string }
		if json.Unmarshal(a.body, &got) != nil || a.status != 201 || got.Path != name || got.SHA256 != sha(content) || got.Stored != "new" {
			t.Errorf("%v: %d %s", header, a.status, a.body)
		}
		for h := range a.header {
			if strings.HasPrefix(h, "Upload-") || strings.HasPrefix(h, "Tus-") || len(a.interim) > 0 {
				t.Errorf("%v: an ordinary upload was answered with %v, %v", header, a.interim, a.header)
			}
		}
		if status, file := p.file(name); status != 200 || file != content || a.header.Get("Location") != p.box.URL+"/v1/files/"+name {
			t.Errorf("%v: the file: %d %q, %v", header, status, file, a.header)
		}
		a = p.speak(0, "POST", "/v1/uploads?"+inAlbum(name), strings.NewReader("other bytes than that"), append(header, "Repr-Digest", reprDigest(content))...)
		if a.status != 200 || !strings.Contains(string(a.body), `"known"`) {
			t.Errorf("%v: what is known: %d %s", header, a.status, a.body)
		}
	}
	// A part must not become the file.
	for _, header := range [][]string{
		{"Upload-Draft-Interop-Version", "10", "Upload-Complete", "?0"},
		{"Upload-Draft-Interop-Version", "2", "Upload-Incomplete", "?1"},
		{"Upload-Draft-Interop-Version", "3", "Upload-Complete", "?0"},
		{"Upload-Draft-Interop-Version", "8", "Upload-Incomplete", "?1"},
		{"Upload-Draft-Interop-Version", "10", "Upload-Complete", "?1", "Upload-Length", "100"},
		{"Upload-Complete", "false"}, {"Upload-Complete", "0"}, {"Upload-Incomplete", "?1"}, {"Content-Range", "bytes 0-4/100"},
	} {
		p.speak(0, "POST", "/v1/uploads?"+inAlbum("part.jpg"), strings.NewReader("parts"), header...).problem(t, fmt.Sprint(header), 400, "urn:yunbox:problem:invalid")
		if status, got := p.file("part.jpg"); status != 404 {
			t.Fatalf("%v: a part is a file: %q", header, got)
		}
	}
	conn := p.raw(0, "POST", "/v1/uploads?"+inAlbum("torn.jpg"), 100, "Upload-Draft-Interop-Version: 11", "Upload-Complete: ?1")
	conn.write("torn")
	conn.cut()
	if status, _ := p.file("torn.jpg"); status != 404 {
		t.Error("a torn upload is a file")
	}
	// To an upload that exists, an unknown version speaks as the newest does.
	location := p.begun(9, "later.jpg", 4)
	a := p.speak(0, "HEAD", location, nil, "Upload-Draft-Interop-Version", "12")
	if a.status != 204 || a.header.Get("Upload-Complete") != "?0" || a.header.Get("Upload-Draft-Interop-Version") != "" {
		t.Errorf("HEAD of version 12: %d %v", a.status, a.header)
	}
}

// The file's name comes from the query, from tus's metadata, or from the header
// that any HTTP client can set.
func TestIETFNames(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	for _, tt := range []struct{ query, metadata, disposition, want string }{
		{"path=a%2Fb.jpg", "path " + b64("no.jpg"), "attachment; filename=no.jpg", "a/b.jpg"},
		{"", "filename " + b64("meta.jpg"), "attachment; filename=no.jpg", "meta.jpg"},
		{"", "", `inline; filename="IMG_0001.HEIC"`, "IMG_0001.HEIC"},
		{"", "", `attachment; filename="no.jpg"; filename*=UTF-8''%E7%9B%B8%E5%86%8C.jpg`, "相册.jpg"},
		{"", "", `attachment; filename="C:\\Users\\ada\\x.jpg"`, "x.jpg"},
		{"", "", `attachment; filename="../../../etc/passwd"`, "passwd"},
		{"", "", `form-data; name="file"; filename="微信.jpg"`, "微信.jpg"},
		{"", "", "", "unnamed-"},
		{"", "", `attachment; filename*=utf-8''bad%ZZ`, "unnamed-"},
	} {
		header := []string{"Upload-Metadata", tt.metadata, "Content-Disposition", tt.disposition}
		a := p.speak(0, "POST", "/v1/uploads?source=album&"+tt.query, strings.NewReader(tt.want), append(header, "Upload-Complete", "?1")...)
		var got struct{ Path string }
		if json.Unmarshal(a.body, &got) != nil || got.Path != tt.want && !(tt.want == "unnamed-" && strings.HasPrefix(got.Path, tt.want)) {
			t.Errorf("%+v: %d %s", tt, a.status, a.body)
		}
	}
	for _, header := range [][]string{
		{"Content-Disposition", `attachment; filename=`}, {"Content-Disposition", `attachment; filename=".."`}, {"Upload-Metadata", "path !"},
		{"Repr-Digest", reprDigest("x"), "Upload-Metadata", "sha256 " + b64(sha("y"))},
	} {
		a := p.speak(0, "POST", "/v1/uploads", strings.NewReader("x"), append(header, "Upload-Complete", "?1")...)
		a.problem(t, fmt.Sprint(header), 400, "urn:yunbox:problem:invalid")
	}
}

// R05: one cut at 9 MB of 25 MB costs no more than what was on the way.
func TestResentAfterACut(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	content := strings.Repeat("0123456789abcdef", 25_000_000/16)
	for _, f := range []form{8, 0} {
		content := content + f.String()
		conn, location := p.rawPost(f, f.String(), len(content))
		sent := 9_000_000
		conn.write(content[:sent])
		conn.NetConn().Close() // without a word, as Wi-Fi goes
		n, _ := p.where(f, location)
		sent += len(content) - n
		p.add(f, location, n, strings.NewReader(content[n:]), true).stored(t, f, content, f.String(), "new")
		resent := sent - len(content)
		t.Logf("%v: %d of %d bytes were sent again", f, resent, len(content))
		if resent > 64<<10 {
			t.Errorf("%v: %d bytes were sent again", f, resent)
		}
	}
}

// A client that cannot send PATCH says so, as in tus.
func TestIETFOverride(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	location := p.begun(6, "override.jpg", 4)
	a := p.speak(6, "POST", location, strings.NewReader("abcd"), "X-HTTP-Method-Override", "PATCH", "Upload-Offset", "0", "Upload-Complete", "?1", "Content-Type", "application/partial-upload")
	a.stored(t, 6, "abcd", "override.jpg", "new")
	p.speak(6, "POST", location, strings.NewReader("abcd"), "Upload-Complete", "?1").problem(t, "POST", 405, "urn:yunbox:problem:method-not-allowed")
	r, err := http.NewRequestWithContext(context.Background(), "OPTIONS", p.box.URL+"/v1/uploads", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.box.Client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if h := resp.Header; h.Get("Upload-Limit") != "max-size=1099511627776" || !strings.Contains(h.Get("Accept-Patch"), "application/partial-upload") {
		t.Errorf("OPTIONS: %v", h)
	}
}
