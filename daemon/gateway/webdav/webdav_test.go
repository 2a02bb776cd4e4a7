package webdav_test

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func etag(body string) string { return fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(body))) }

func TestOptionsAndMethods(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"", "a/b", "nothing/"} {
		a := w.do("OPTIONS", path, "").is(200)
		if a.header.Get("DAV") != "1, 2" || !strings.Contains(a.header.Get("Allow"), "PROPPATCH") || a.header.Get("MS-Author-Via") != "DAV" {
			t.Errorf("%v", a.header)
		}
	}
	if a := w.do("PATCH", "a", "x").refuses(405, "method-not-allowed", ""); !strings.Contains(a.header.Get("Allow"), "LOCK") {
		t.Errorf("%v", a.header)
	}
	w.do("GET", "", "").refuses(405, "method-not-allowed", "")
	w.do("HEAD", "", "").is(405)
	w.do("GET", "nothing", "").refuses(404, "not-found", "")
	// The root is there with and without its slash.
	for _, path := range []string{"/dav", "/dav/"} {
		r := w.ada.Request("PROPFIND", path, nil)
		r.Header.Set("Depth", "0")
		if status, _, body := w.ada.Do(r); status != 207 || !strings.Contains(string(body), "<d:href>/dav/</d:href>") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	// Nobody learns anything without signing in.
	for _, method := range []string{"OPTIONS", "GET", "PUT", "PROPFIND", "LOCK", "MOVE", "ANY"} {
		if a := w.as(w.Nobody(), method, "a", ""); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s by nobody: %d", method, a.status)
		}
	}
}

// An app token opens files by Basic authentication, which is all that WebDAV clients know.
func TestBasicAuthentication(t *testing.T) {
	w := newWorld(t)
	var app struct{ Token string }
	w.ada.Call("POST", "/v1/tokens", map[string]any{"name": "drive", "scope": "files"}, &app)
	for name, want := range map[string]int{"ada": 201, "bob": 401} {
		w.as(w.Nobody(), "PUT", "by "+name, "x", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(name+":"+app.Token))).is(want)
	}
}

func TestPut(t *testing.T) { // R01 R02
	w := newWorld(t)
	if a := w.do("PUT", "a.txt", "first").is(201); a.header.Get("ETag") != etag("first") {
		t.Errorf("%v", a.header)
	}
	w.do("PUT", "a.txt", "second").is(204)
	w.holds("a.txt", "second")
	// What was there before is kept as a version.
	var list struct{ Versions []struct{ SHA256 string } }
	w.ada.Call("GET", "/v1/items/"+w.id("", "a.txt")+"/versions", nil, &list)
	if len(list.Versions) != 1 || `"`+list.Versions[0].SHA256+`"` != etag("first") {
		t.Errorf("%+v", list)
	}
	w.do("PUT", "no/such/folder.txt", "x").refuses(409, "conflict", "")
	w.do("PUT", "a.txt/below", "x").refuses(409, "conflict", "")
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir", "x").refuses(409, "conflict", "")
	w.do("PUT", "dir/", "x").refuses(400, "invalid", "")
	w.do("PUT", "b.txt", "x", "Content-Range", "bytes 0-0/10").refuses(400, "invalid", "")
	w.do("PUT", "a.txt", "x", "Content-Range", "bytes 0-0/10").refuses(400, "invalid", "")
	w.do("PUT", "b.txt", "x", "Content-Encoding", "gzip").refuses(415, "unsupported-media", "")
	w.do("PUT", "b.txt", "x", "X-Expected-Entity-Length", "1").is(201)
	w.do("PUT", "b.txt", "x", "Yunbox-Source", "nowhere").refuses(400, "invalid", "")
	w.do("PUT", "b.txt?source=album", "x", "Yunbox-Source", "wechat").refuses(400, "invalid", "")
	w.holds("a.txt", "second")
	w.lists("", "a.txt", "b.txt", "dir/")
}

func TestPutConditions(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "x", "If-Match", "*").refuses(412, "precondition-failed", "")
	w.do("PUT", "a.txt", "x", "If-None-Match", "*").is(201)
	w.do("PUT", "a.txt", "y", "If-None-Match", "*").refuses(412, "precondition-failed", "")
	w.do("PUT", "a.txt", "y", "If-Match", etag("z")).refuses(412, "precondition-failed", "")
	w.do("PUT", "a.txt", "y", "If-Match", etag("x")).is(204)
	w.do("PUT", "a.txt", "z", "If", "(["+etag("x")+"])").refuses(412, "precondition-failed", "")
	w.do("PUT", "a.txt", "z", "If", "(["+etag("x")+"]) (["+etag("y")+"])").is(204)
	w.do("PUT", "b.txt", "b", "If", "<"+w.to("a.txt")+"> (["+etag("y")+"])").refuses(412, "precondition-failed", "")
	w.do("PUT", "b.txt", "b", "If", "<"+w.to("a.txt")+"> (["+etag("z")+"])").is(201)
	w.do("PUT", "b.txt", "b", "If", "<https://elsewhere/dav/a.txt> (["+etag("z")+"])").refuses(412, "precondition-failed", "")
	w.do("PUT", "b.txt", "b", "If", "garbage").refuses(400, "invalid", "")
	w.do("DELETE", "a.txt", "", "If-Match", etag("x")).refuses(412, "precondition-failed", "")
	w.do("DELETE", "a.txt", "", "If-Match", etag("z")).is(204)
}

func TestModificationTimes(t *testing.T) {
	w := newWorld(t)
	for sent, want := range map[string]string{
		"1234567890": "Fri, 13 Feb 2009 23:31:30 GMT", "1234567890.75": "Fri, 13 Feb 2009 23:31:30 GMT", "0": "Thu, 01 Jan 1970 00:00:00 GMT",
		"yesterday": "", "-1": "", "99999999999": "", "": "",
	} {
		a := w.do("PUT", "a.txt", "at "+sent, "X-OC-Mtime", sent)
		if a.status/100 != 2 || (a.header.Get("X-OC-MTime") == "accepted") != (want != "") {
			t.Fatalf("%q: %d %v", sent, a.status, a.header)
		}
		got, status := w.do("PROPFIND", "a.txt", "", "Depth", "0").members()[0].prop("DAV:", "getlastmodified")
		when, err := http.ParseTime(got)
		if err != nil || want != "" && got != want || want == "" && time.Since(when) > time.Hour {
			t.Errorf("%q: %q, %s, %v", sent, got, status, err)
		}
	}
	// The same bytes with another time are worth the time.
	w.do("PUT", "same.txt", "x", "X-OC-Mtime", "1234567890").is(201)
	w.do("PUT", "same.txt", "x", "X-OC-Mtime", "1300000000").is(204)
	if a := w.do("HEAD", "same.txt", ""); a.header.Get("Last-Modified") != "Sun, 13 Mar 2011 07:06:40 GMT" {
		t.Errorf("%v", a.header)
	}
	const patch = `<d:propertyupdate xmlns:d="DAV:" xmlns:z="urn:schemas-microsoft-com:"><d:set><d:prop>%s</d:prop></d:set></d:propertyupdate>`
	for prop, want := range map[string]string{
		`<z:Win32LastModifiedTime>Sat, 02 Jan 2010 03:04:05 GMT</z:Win32LastModifiedTime>`: "Sat, 02 Jan 2010 03:04:05 GMT",
		`<d:lastmodified>1300000000</d:lastmodified>`:                                      "Sun, 13 Mar 2011 07:06:40 GMT",
		`<d:getlastmodified>Mon, 01 Jan 2001 00:00:00 GMT</d:getlastmodified>`:             "Mon, 01 Jan 2001 00:00:00 GMT",
	} {
		w.do("PROPPATCH", "a.txt", fmt.Sprintf(patch, prop)).has("200 OK").lacks("40")
		if a := w.do("HEAD", "a.txt", ""); a.header.Get("Last-Modified") != want {
			t.Errorf("%s: %v", prop, a.header)
		}
	}
	got, _ := w.do("PROPFIND", "a.txt", `<propfind xmlns="DAV:"><prop><Win32LastModifiedTime xmlns="urn:schemas-microsoft-com:"/></prop></propfind>`, "Depth", "0").
		members()[0].prop("urn:schemas-microsoft-com:", "Win32LastModifiedTime")
	if _, err := http.ParseTime(got); err != nil {
		t.Error(err)
	}
	w.do("PROPPATCH", "a.txt", fmt.Sprintf(patch, `<d:lastmodified>soon</d:lastmodified>`)).has("HTTP/1.1 400 Bad Request")
	// A folder's time is that of its last change, and not the client's to set.
	w.do("PROPPATCH", "", fmt.Sprintf(patch, `<d:getlastmodified>Mon, 01 Jan 2001 00:00:00 GMT</d:getlastmodified>`)).has("403 Forbidden")
	got, _ = w.do("PROPFIND", "", "", "Depth", "0").members()[0].prop("DAV:", "getlastmodified")
	if when, err := http.ParseTime(got); err != nil || time.Since(when) > time.Hour {
		t.Errorf("the root changed %q, %v", got, err)
	}
}

// R06: a body that breaks off, or is longer than it says, changes nothing.
func TestBrokenBodies(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.bin", "whole").is(201)
	w.do("LOCK", "unlocked", "<garbage").refuses(400, "invalid", "")
	for what, head := range map[string]string{
		"short":           "Content-Length: 100\r\n\r\n" + strings.Repeat("x", 99),
		"chunks cut off":  "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"a bad chunk":     "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
		"less than said":  "Transfer-Encoding: chunked\r\nX-Expected-Entity-Length: 9\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"more than said":  "Transfer-Encoding: chunked\r\nX-Expected-Entity-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"two lengths":     "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"negative length": "Content-Length: -5\r\n\r\nhello",
	} {
		for _, name := range []string{"a.bin", "new.bin"} {
			c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "PUT /dav/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s", name, strings.TrimPrefix(w.URL, "https://"), w.ada.Token, head)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				if resp.StatusCode/100 == 2 {
					t.Errorf("%s, %s: %s", what, name, resp.Status)
				}
				resp.Body.Close()
			}
			c.Close()
		}
	}
	w.holds("a.bin", "whole")
	w.lists("", "a.bin")
	var list struct{ Versions []any }
	w.ada.Call("GET", "/v1/items/"+w.id("", "a.bin")+"/versions", nil, &list)
	if len(list.Versions) != 0 {
		t.Errorf("broken bodies left versions: %v", list.Versions)
	}
}

func TestGet(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.jpg", "0123456789", "X-OC-Mtime", "1234567890").is(201)
	a := w.do("GET", "a.jpg", "", "Range", "bytes=2-4").is(206)
	if a.body != "234" || a.header.Get("Content-Range") != "bytes 2-4/10" || a.header.Get("ETag") != etag("0123456789") || a.header.Get("Content-Type") != "image/jpeg" {
		t.Errorf("%q %v", a.body, a.header)
	}
	w.do("GET", "a.jpg", "", "Range", "bytes=20-").refuses(416, "range-unsatisfiable", "")
	w.do("GET", "a.jpg", "", "If-None-Match", etag("0123456789")).is(304)
	w.do("GET", "a.jpg", "", "If-Match", etag("other")).is(412)
	if a := w.do("GET", "a.jpg", "", "Range", "bytes=2-4", "If-Range", etag("other")).is(200); a.body != "0123456789" {
		t.Errorf("%q", a.body)
	}
	if a := w.do("HEAD", "a.jpg", "").is(200); a.header.Get("Content-Length") != "10" || a.header.Get("Last-Modified") != "Fri, 13 Feb 2009 23:31:30 GMT" {
		t.Errorf("%v", a.header)
	}
}

// R20: what the person did not consent to is refused before anything is kept, the
// names of folders among it.
func TestConsent(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"PUT", "MKCOL", "LOCK"} {
		body := map[string]string{"PUT": "x", "LOCK": fmt.Sprintf(lockInfo, "exclusive")}[method]
		w.as(w.bob, method, "private", body).refuses(403, "consent-required", "").has("<y:purpose>storage</y:purpose>", "<y:grant_url>/v1/consents/storage</y:grant_url>")
		w.do(method, "private?source=wechat", body).refuses(403, "consent-required", "").has("<y:purpose>wechat_backup</y:purpose>")
	}
	w.as(w.bob, "PROPPATCH", "", `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="u">y</x></prop></set></propertyupdate>`).refuses(403, "consent-required", "")
	w.lists("")
	if a := w.as(w.bob, "PROPFIND", "", "", "Depth", "1"); len(a.members()) != 1 {
		t.Error(a.body)
	}
	w.do("PUT", "photo.jpg", "x", "Yunbox-Source", "album").is(201)
	// The purpose of a file covers what is kept about it.
	w.ada.Withdraw("album_backup")
	w.do("PROPPATCH", "photo.jpg", `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="u">y</x></prop></set></propertyupdate>`).refuses(403, "consent-required", "")
	// What is the person's own stays in their hands.
	w.do("MOVE", "photo.jpg", "", "Destination", w.to("mine.jpg")).is(201)
	w.do("DELETE", "mine.jpg", "").is(204)
}

// R26: a path is always one among the asker's own files.
func TestOtherPeople(t *testing.T) {
	w := newWorld(t)
	w.bob.Grant("storage")
	w.do("PUT", "a.txt", "ada's").is(201)
	for _, method := range []string{"GET", "DELETE", "PROPFIND"} {
		w.as(w.bob, method, "a.txt", "", "Depth", "0").refuses(404, "not-found", "")
	}
	token := w.locked("a.txt", "exclusive")
	w.as(w.bob, "PUT", "a.txt", "bob's").is(201) // another file
	w.as(w.bob, "UNLOCK", "a.txt", "", "Lock-Token", "<"+token+">").refuses(409, "conflict", "lock-token-matches-request-uri")
	w.as(w.bob, "LOCK", "a.txt", "", "If", "(<"+token+">)").refuses(412, "precondition-failed", "")
	w.holds("a.txt", "ada's")
	// A copy that bob makes is of his own.
	w.as(w.bob, "COPY", "a.txt", "", "Destination", w.to("b.txt")).is(201)
	if a := w.as(w.bob, "GET", "b.txt", ""); a.body != "bob's" {
		t.Error(a.body)
	}
}

func TestHostileNames(t *testing.T) { // R34
	w := newWorld(t)
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir/a.txt", "a").is(201)
	bad := []string{
		"dir/%2e%2e/x", "..", "%2E%2e", "dir/..%2Fx", "dir%2Fx", "dir%2fx", "a%00b", "a%0ab", "%ff", "%c0%ae%c0%ae", "a%ed%a0%80", "a%E2%80%AEgpj",
		"dir//x", "./x", "dir/./x", strings.Repeat("x", 256), strings.Repeat("x", 4096), strings.Repeat("abcdefgh/", 300) + "x", "%",
	}
	for _, name := range bad {
		raw := func(method, header string) {
			c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			host := strings.TrimPrefix(w.URL, "https://")
			target := "/dav/" + name
			if header != "" {
				target = "/dav/dir/a.txt"
				header = "Destination: /dav/" + name + "\r\n"
			}
			fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n", method, target, host, w.ada.Token, header)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("%s %.80s: %v", method, name, err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != 400 {
				t.Errorf("%s %.80s: %s", method, name, resp.Status)
			}
		}
		for _, method := range []string{"PUT", "MKCOL", "GET", "DELETE", "PROPFIND", "LOCK"} {
			raw(method, "")
		}
		raw("MOVE", "Destination")
		raw("COPY", "Destination")
	}
	w.lists("", "dir/")
	w.lists("dir/", "a.txt")
	// NFD and NFC are one name, shown as it was made.
	w.do("PUT", "Cafe%CC%81.txt", "1").is(201)
	w.do("PUT", "Caf%C3%A9.txt", "2").is(204)
	w.do("MOVE", "Cafe%CC%81.txt", "", "Destination", w.to("Caf%C3%A9.txt")).refuses(403, "forbidden", "")
	w.lists("", "Cafe\u0301.txt", "dir/")
	for _, name := range []string{"a b#c%d&e+f;g=h'i[j].txt", "<script>&\"'.html", "图片 😀.jpg", "%2e%2e", "a\\b", "..."} {
		path := url.PathEscape(name)
		w.do("PUT", path, name).is(201)
		w.holds(path, name)
		var found bool
		for _, n := range w.list("") {
			found = found || n == name
		}
		if !found {
			t.Errorf("%s is not listed: %q", name, w.list(""))
		}
	}
}

func TestMkcol(t *testing.T) {
	w := newWorld(t)
	w.do("MKCOL", "a/b", "").refuses(409, "conflict", "")
	w.do("MKCOL", "a/", "").is(201)
	w.do("MKCOL", "a", "").refuses(405, "method-not-allowed", "")
	w.do("MKCOL", "", "").refuses(405, "method-not-allowed", "")
	w.do("MKCOL", "b", "<x/>").refuses(415, "unsupported-media", "")
	w.do("PUT", "f", "x").is(201)
	w.do("MKCOL", "f", "").refuses(405, "method-not-allowed", "")
	w.do("MKCOL", "f/a", "").refuses(409, "conflict", "")
	w.lists("", "a/", "f")
}

func TestDelete(t *testing.T) { // R16
	w := newWorld(t)
	w.do("DELETE", "", "").refuses(403, "forbidden", "")
	w.do("DELETE", "nothing", "").refuses(404, "not-found", "")
	w.do("PUT", "a.txt", "a").is(201)
	w.do("MKCOL", "dir", "").is(201)
	w.do("MKCOL", "dir/sub", "").is(201)
	w.do("PUT", "dir/sub/b.txt", "b").is(201)
	w.do("DELETE", "a.txt", "").is(204)
	w.do("DELETE", "dir", "", "Depth", "0").refuses(400, "invalid", "")
	w.do("DELETE", "dir", "").is(204)
	w.lists("")
	if got := fmt.Sprint(w.trash()); got != "[a.txt dir/sub/b.txt]" {
		t.Errorf("the trash has %s", got)
	}
}

// The quota holds before the body, and for copies, which count as files do.
func TestQuota(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", strings.Repeat("a", 1000)).is(201)
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir/b.txt", strings.Repeat("b", 1000)).is(201)
	w.ada.SetQuota(2500)
	w.do("PUT", "b.txt", strings.Repeat("b", 1000)).refuses(507, "quota", "quota-not-exceeded")
	w.do("COPY", "a.txt", "", "Destination", w.to("c.txt")).refuses(507, "quota", "quota-not-exceeded")
	w.do("COPY", "dir", "", "Destination", w.to("dir2")).refuses(507, "quota", "quota-not-exceeded")
	w.lists("", "a.txt", "dir/")
	const ask = `<propfind xmlns="DAV:"><prop><quota-available-bytes/><quota-used-bytes/></prop></propfind>`
	m := w.do("PROPFIND", "", ask, "Depth", "0").members()[0]
	used, _ := m.prop("DAV:", "quota-used-bytes")
	left, status := m.prop("DAV:", "quota-available-bytes")
	if used != "2000" || left != "500" || status != "200 OK" {
		t.Errorf("used %s, left %s, %s", used, left, status)
	}
	w.ada.SetQuota(-1)
	if left, _ := w.do("PROPFIND", "", ask, "Depth", "0").members()[0].prop("DAV:", "quota-available-bytes"); len(left) < 7 {
		t.Errorf("without a share %s bytes are left on the disk", left)
	}
}

// Two who write one name at once both keep what they sent: one as the file, one as
// its version.
func TestTwoWriters(t *testing.T) {
	w := newWorld(t)
	bodies := []string{strings.Repeat("a", 300<<10), strings.Repeat("b", 300<<10)}
	for round := range 5 {
		path := fmt.Sprint("file", round)
		done := make(chan int, 2)
		for _, body := range bodies {
			r := w.ada.Request("PUT", "/dav/"+path, strings.NewReader(body))
			go func() {
				resp, err := w.Client.Do(r)
				if err != nil {
					done <- 0
					return
				}
				resp.Body.Close()
				done <- resp.StatusCode
			}()
		}
		for range bodies {
			if status := <-done; status/100 != 2 {
				t.Errorf("one of the two got %d", status)
			}
		}
		got := w.do("GET", path, "").is(200).body
		var list struct{ Versions []struct{ SHA256 string } }
		w.ada.Call("GET", "/v1/items/"+w.id("", path)+"/versions", nil, &list)
		other := bodies[0]
		if got == other {
			other = bodies[1]
		} else if got != bodies[1] {
			t.Fatalf("%d bytes that nobody sent", len(got))
		}
		if len(list.Versions) != 1 || `"`+list.Versions[0].SHA256+`"` != etag(other) {
			t.Errorf("the other one is lost: %+v", list)
		}
	}
}

func TestWhatIsAcknowledgedSurvives(t *testing.T) { // R01
	w := newWorld(t)
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir/a.txt", "a").is(201)
	w.do("PROPPATCH", "dir/a.txt", `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="u">y</x></prop></set></propertyupdate>`).is(207)
	w.do("COPY", "dir", "", "Destination", w.to("copy")).is(201)
	w.do("MOVE", "dir", "", "Destination", w.to("moved")).is(201)
	token := w.locked("moved/a.txt", "exclusive")
	w.Crash(nil)
	w.holds("moved/a.txt", "a")
	w.holds("copy/a.txt", "a")
	w.lists("", "copy/", "moved/")
	for _, path := range []string{"moved/a.txt", "copy/a.txt"} {
		w.do("PROPFIND", path, "", "Depth", "0").has(`<x xmlns="u">y</x>`)
	}
	w.do("PUT", "moved/a.txt", "b").refuses(423, "locked", "lock-token-submitted")
	w.do("PUT", "moved/a.txt", "b", "If", "(<"+token+">)").is(204)
}
