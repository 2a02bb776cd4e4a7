package resumable_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage/vfs/vfstest"
)

// phone is a tus client of one person.
type phone struct {
	t   *testing.T
	box *daemontest.Box
	who *daemontest.Person
}

func newPhone(t *testing.T) *phone {
	box := daemontest.Start(t)
	ada := box.Bind()
	ada.Grant("storage", "album_backup")
	return &phone{t, box, ada}
}

// as is the same phone in another person's hands.
func (p *phone) as(who *daemontest.Person) *phone { return &phone{p.t, p.box, who} }

type answer struct {
	status int
	header http.Header
	body   []byte
}

// send makes a request with the headers of the protocol; header is name, value, …
func (p *phone) send(method, target string, body io.Reader, header ...string) answer {
	p.t.Helper()
	r := p.who.Request(method, strings.TrimPrefix(target, p.box.URL), body)
	r.Header.Set("Tus-Resumable", "1.0.0")
	if body != nil {
		r.Header.Set("Content-Type", "application/offset+octet-stream")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	status, h, b := p.who.Do(r)
	if h.Get("Tus-Resumable") != "1.0.0" && status != 401 && status != 404 && status != 405 {
		p.t.Errorf("%s %s: %d without Tus-Resumable", method, r.URL.Path, status)
	}
	return answer{status, h, b}
}

// create begins an upload and returns its address.
func (p *phone) create(length int, metadata string, header ...string) string {
	p.t.Helper()
	a := p.send("POST", "/v1/uploads", nil, append([]string{"Upload-Length", strconv.Itoa(length), "Upload-Metadata", metadata}, header...)...)
	if a.status != 201 {
		p.t.Fatalf("create: %d %s", a.status, a.body)
	}
	return a.header.Get("Location")
}

// patch sends a part.
func (p *phone) patch(location string, offset int, part string, header ...string) answer {
	p.t.Helper()
	return p.send("PATCH", location, strings.NewReader(part), append([]string{"Upload-Offset", strconv.Itoa(offset)}, header...)...)
}

// offset asks how far an upload got.
func (p *phone) offset(location string) int {
	p.t.Helper()
	a := p.send("HEAD", location, nil)
	n, err := strconv.Atoi(a.header.Get("Upload-Offset"))
	if a.status != 200 || err != nil || a.header.Get("Cache-Control") != "no-store" {
		p.t.Fatalf("HEAD: %d %v", a.status, a.header)
	}
	return n
}

// file reads a file of the person.
func (p *phone) file(path string) (int, string) {
	p.t.Helper()
	status, _, body := p.who.Do(p.who.Request("GET", "/v1/files/"+path, nil))
	return status, string(body)
}

// is checks status and the kind of problem, "" for a success.
func (a answer) is(t *testing.T, what string, status int, kind string) {
	t.Helper()
	var p struct{ Type, Title, Hint string }
	if a.status >= 400 && len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &p); err != nil || p.Title == "" || p.Hint == "" {
			t.Errorf("%s: no problem that says what to do: %s", what, a.body)
		}
	}
	if got := strings.TrimPrefix(p.Type, "urn:yunbox:problem:"); a.status != status || got != kind {
		t.Errorf("%s: %d %q, want %d %q: %.300s", what, a.status, got, status, kind, a.body)
	}
}

// kept checks the receipt that finishes an upload.
func (a answer) kept(t *testing.T, content, path, stored string) {
	t.Helper()
	h := a.header
	got, err := url.PathUnescape(h.Get("Yunbox-Path"))
	if h.Get("Yunbox-Item") == "" || h.Get("Yunbox-Sha256") != sha(content) || h.Get("Yunbox-Stored") != stored || got != path || err != nil {
		t.Errorf("receipt: %v", h)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func meta(path string) string { return "path " + b64(path) + ",source " + b64("album") }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// R05: an upload in parts, over a restart of the box.
func TestUploadInPartsOverARestart(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	const content = "first part, second part, third part"
	metadata := "filename " + b64("no.jpg") + ",path " + b64("相册/é 1.jpg") + ",source " + b64("album") + ",mtime " + b64("1700000000.5") + ",filetype " + b64("image/jpeg")
	location := p.create(len(content), metadata)
	if !strings.HasPrefix(location, p.box.URL+"/v1/uploads/") {
		t.Errorf("Location is %s", location)
	}
	a := p.patch(location, 0, content[:10])
	if a.is(t, "first part", 204, ""); a.header.Get("Upload-Offset") != "10" {
		t.Errorf("after the first part: %v", a.header)
	}
	if when, err := http.ParseTime(a.header.Get("Upload-Expires")); err != nil || time.Until(when) < time.Hour {
		t.Errorf("Upload-Expires is %q", a.header.Get("Upload-Expires"))
	}
	p.box.Restart()
	head := p.send("HEAD", location, nil)
	if head.header.Get("Upload-Offset") != "10" || head.header.Get("Upload-Length") != strconv.Itoa(len(content)) || head.header.Get("Upload-Metadata") != metadata {
		t.Errorf("after the restart: %v", head.header)
	}
	p.patch(location, 5, "x").is(t, "a wrong offset", 409, "conflict")
	p.patch(location, 20, "x").is(t, "another wrong offset", 409, "conflict")
	p.patch(location, 10, content[10:20]).is(t, "second part", 204, "")
	a = p.patch(location, 20, content[20:])
	a.is(t, "last part", 204, "")
	a.kept(t, content, "相册/é 1.jpg", "new")
	if status, got := p.file("%E7%9B%B8%E5%86%8C/%C3%A9%201.jpg"); status != 200 || got != content {
		t.Errorf("the file: %d %q", status, got)
	}
	// The client that lost the last answer asks once more, by either way.
	again := p.send("HEAD", location, nil)
	if again.kept(t, content, "相册/é 1.jpg", "new"); again.header.Get("Upload-Offset") != strconv.Itoa(len(content)) {
		t.Errorf("the finished upload: %v", again.header)
	}
	p.patch(location, len(content), "").kept(t, content, "相册/é 1.jpg", "new")
	p.patch(location, 20, content[20:]).is(t, "the last part again", 409, "conflict")
	p.send("DELETE", location, nil).is(t, "forget the upload", 204, "")
	if status, _ := p.file("%E7%9B%B8%E5%86%8C/%C3%A9%201.jpg"); status != 200 {
		t.Errorf("the file went with its upload: %d", status)
	}
	p.send("HEAD", location, nil).is(t, "a forgotten upload", 404, "")
}

func TestCreationWithUpload(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	const content = "all at once"
	for i, want := range []string{"new", "known"} {
		name := fmt.Sprint(i, ".jpg")
		a := p.send("POST", "/v1/uploads/", strings.NewReader(content), "Upload-Length", strconv.Itoa(len(content)), "Upload-Metadata", meta(name)+",sha256 "+b64(sha(content)))
		a.is(t, "the whole file", 201, "")
		if a.kept(t, content, name, want); a.header.Get("Upload-Offset") != strconv.Itoa(len(content)) || a.header.Get("Location") == "" {
			t.Errorf("answer: %v", a.header)
		}
	}
	a := p.send("POST", "/v1/uploads", strings.NewReader(content[:4]), "Upload-Length", strconv.Itoa(len(content)), "Upload-Metadata", meta("part.jpg"))
	a.is(t, "a part", 201, "")
	location := a.header.Get("Location")
	if a.header.Get("Upload-Offset") != "4" || p.offset(location) != 4 {
		t.Errorf("after a part: %v", a.header)
	}
	p.patch(location, 4, content[4:]).kept(t, content, "part.jpg", "known")
	a = p.send("POST", "/v1/uploads", nil, "Upload-Length", "0", "Upload-Metadata", meta("empty.jpg"))
	a.is(t, "an empty file", 201, "")
	a.kept(t, "", "empty.jpg", "new")
	// A client that says no name at all still keeps its file.
	a = p.send("POST", "/v1/uploads", strings.NewReader("x"), "Upload-Length", "1")
	if a.is(t, "without metadata", 201, ""); !strings.HasPrefix(a.header.Get("Yunbox-Path"), "unnamed-") {
		t.Errorf("answer: %v", a.header)
	}
}

func TestDeferredLength(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	a := p.send("POST", "/v1/uploads", nil, "Upload-Defer-Length", "1", "Upload-Metadata", meta("a.jpg"))
	a.is(t, "create", 201, "")
	location := a.header.Get("Location")
	if a = p.send("HEAD", location, nil); a.header.Get("Upload-Defer-Length") != "1" || a.header.Get("Upload-Length") != "" {
		t.Errorf("HEAD: %v", a.header)
	}
	p.patch(location, 0, "abc").is(t, "a part", 204, "")
	p.patch(location, 3, "def", "Upload-Length", "5").is(t, "less than is sent", 413, "too-large")
	p.patch(location, 3, "de", "Upload-Length", "6").is(t, "the length", 204, "")
	p.patch(location, 5, "f", "Upload-Length", "7").is(t, "another length", 400, "invalid")
	p.patch(location, 5, "f").kept(t, "abcdef", "a.jpg", "new")
}

// R01: a part that is not what was announced is not kept.
func TestChecksums(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	sum1 := func(s string) string {
		h := sha1.Sum([]byte(s))
		return "sha1 " + base64.StdEncoding.EncodeToString(h[:])
	}
	sum256 := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return "sha256 " + base64.StdEncoding.EncodeToString(h[:])
	}
	const content = "good part, better part"
	location := p.create(len(content), meta("a.jpg"))
	p.patch(location, 0, "bad! part,", "Upload-Checksum", sum1(content[:10])).is(t, "damaged", 460, "mismatch")
	if n := p.offset(location); n != 0 {
		t.Errorf("the box kept %d damaged bytes", n)
	}
	p.patch(location, 0, content[:10], "Upload-Checksum", sum1(content[:10])).is(t, "sound", 204, "")
	p.patch(location, 10, " butter part", "Upload-Checksum", sum256(content[10:])).is(t, "damaged at the end", 460, "mismatch")
	if n := p.offset(location); n != 10 {
		t.Errorf("the upload stands at %d, want 10", n)
	}
	for what, bad := range map[string]string{"algorithm": "md5 XUFAKrxLKna5cZ2REBfFkg==", "base64": "sha1 ???", "length": "sha1 YWJj"} {
		p.patch(location, 10, content[10:], "Upload-Checksum", bad).is(t, what, 400, "invalid")
	}
	a := p.patch(location, 10, content[10:], "Upload-Checksum", sum256(content[10:]))
	a.kept(t, content, "a.jpg", "new")

	create := func(checksum string) answer {
		return p.send("POST", "/v1/uploads", strings.NewReader("whole"), "Upload-Length", "5", "Upload-Metadata", meta("b.jpg"), "Upload-Checksum", checksum)
	}
	create(sum1("other")).is(t, "a damaged whole", 460, "mismatch")
	if status, _ := p.file("b.jpg"); status != 404 {
		t.Errorf("a damaged file was kept: %d", status)
	}
	create(sum1("whole")).kept(t, "whole", "b.jpg", "new")
	location = p.create(5, meta("c.jpg")+",sha256 "+b64(sha("other")))
	p.patch(location, 0, "whole").is(t, "another file than announced", 422, "mismatch")
	p.send("HEAD", location, nil).is(t, "it cannot be continued", 404, "")
}

// R05: what arrived before the connection broke is not sent again, and a client
// that is back does not wait for its dead connection.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	part := func(location, header, body string, length int) *tls.Conn {
		conn := p.dial()
		_, err := fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"+
			"Content-Type: application/offset+octet-stream\r\n%sContent-Length: %d\r\n\r\n%s",
			strings.TrimPrefix(location, p.box.URL), p.who.Token, header, length, body)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	// A connection that hangs. When all but a byte of a large part has left this
	// end, no more than the buffers between can be missing at the other.
	large := strings.Repeat("0123456789", 1_600_000)
	location := p.create(len(large), meta("large.mp4"))
	conn := part(location, "", large[:len(large)-1], len(large))
	got := p.offset(location) // takes the upload from the connection, with all it sent
	if got == 0 {
		t.Error("nothing of what the dead connection sent was kept")
	}
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != 423 {
			t.Errorf("the displaced request was answered %s", resp.Status)
		}
	}
	a := p.patch(location, got, large[got:])
	a.is(t, "the rest", 204, "")
	a.kept(t, large, "large.mp4", "new")

	// A connection that breaks in the middle of a part.
	content := strings.Repeat("0123456789", 20_000)
	location = p.create(len(content), meta("again.mp4"))
	conn = part(location, "", content[:70_000], len(content))
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 503 {
		t.Fatalf("the broken part was answered with %v, %v", resp, err)
	}
	resp.Body.Close()
	if n := p.offset(location); n != 70_000 {
		t.Errorf("%d bytes of the broken part were kept", n)
	}
	p.patch(location, 70_000, content[70_000:]).kept(t, content, "again.mp4", "new")

	// A part with a checksum that broke off proves nothing.
	location = p.create(len(content), meta("proof.mp4"))
	conn = part(location, "Upload-Checksum: sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=\r\n", content[:70_000], len(content))
	eventually(t, "it is being received", func() bool { return p.uploads() == 1 })
	if n := p.offset(location); n != 0 {
		t.Errorf("%d unproven bytes count", n)
	}
	conn.Close()
}

func (p *phone) dial() *tls.Conn {
	p.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.box.URL, "https://"), p.box.TLS())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *phone) uploads() int {
	p.t.Helper()
	var s struct{ Uploads int }
	p.box.Local("GET", "/local/status", nil, &s)
	return s.Uploads
}

// R01: an upload that did not say its size gives the disk back when it fills it;
// one that was promised its room waits for the rest.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := vfstest.NewDisk()
	disk.SetCapacity(64 << 20)
	box := daemontest.StartOn(t, t.TempDir(), disk)
	p := &phone{t, box, box.Bind()}
	p.who.Grant("storage", "album_backup")
	a := p.send("POST", "/v1/uploads", nil, "Upload-Defer-Length", "1", "Upload-Metadata", meta("endless.bin"))
	a.is(t, "create", 201, "")
	endless := a.header.Get("Location")
	p.patch(endless, 0, strings.Repeat("x", 1<<20)).is(t, "while there is room", 204, "")
	p.send("PATCH", endless, io.LimitReader(zeros{}, 100<<20), "Upload-Offset", strconv.Itoa(1<<20)).is(t, "more than there is", 507, "full")
	p.send("HEAD", endless, nil).is(t, "what filled the disk", 404, "")
	p.patch(p.create(5, meta("small.jpg")), 0, "small").is(t, "room for others", 204, "")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// R20, R22: consent is asked for before the body, at each request, and its
// withdrawal ends a running one; nothing of it stays.
func TestConsent(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	a := p.send("POST", "/v1/uploads", strings.NewReader("x"), "Upload-Length", "1", "Upload-Metadata", "path "+b64("a.jpg")+",source "+b64("wechat"))
	a.is(t, "without consent", 403, "consent-required")
	if !bytes.Contains(a.body, []byte(`"purpose":"wechat_backup"`)) {
		t.Errorf("the problem does not name the purpose: %s", a.body)
	}
	location := p.create(1<<20, meta("b.jpg"))
	body, send := io.Pipe()
	done := make(chan answer, 1)
	go func() { done <- p.send("PATCH", location, body, "Upload-Offset", "0") }()
	if _, err := send.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is being received", func() bool { return p.uploads() == 1 })
	p.who.Withdraw("album_backup")
	(<-done).is(t, "withdrawn in the middle", 403, "consent-required")
	send.Close()
	p.send("HEAD", location, nil).is(t, "what had arrived", 404, "")

	p.who.Grant("album_backup")
	location = p.create(2, meta("c.jpg"))
	p.who.Withdraw("album_backup")
	p.patch(location, 0, "cc").is(t, "withdrawn between two requests", 404, "not-found")
	p.send("POST", "/v1/uploads", nil, "Upload-Length", "2", "Upload-Metadata", meta("c.jpg")).is(t, "begun anew", 403, "consent-required")
}

// Bad requests are refused before the body, with a reason.
func TestRefusals(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	location := p.create(4, meta("a.jpg"))
	bob := p.box.AddPerson("bob")
	create := func(header ...string) answer {
		return p.send("POST", "/v1/uploads", nil, header...)
	}
	for what, tt := range map[string]struct {
		a      answer
		status int
		kind   string
	}{
		"no version":            {create("Tus-Resumable", ""), 412, "precondition-failed"},
		"another version":       {create("Tus-Resumable", "0.2.2"), 412, "precondition-failed"},
		"no length":             {create(), 400, "invalid"},
		"both lengths":          {create("Upload-Length", "1", "Upload-Defer-Length", "1"), 400, "invalid"},
		"deferred twice":        {create("Upload-Defer-Length", "2"), 400, "invalid"},
		"a negative length":     {create("Upload-Length", "-1"), 400, "invalid"},
		"an absurd length":      {create("Upload-Length", "9223372036854775807"), 413, "too-large"},
		"more than the disk":    {create("Upload-Length", "1099511627776", "Upload-Metadata", meta("x")), 507, "full"},
		"garbled metadata":      {create("Upload-Length", "1", "Upload-Metadata", "path !!!"), 400, "invalid"},
		"a path that climbs":    {create("Upload-Length", "1", "Upload-Metadata", meta("../../etc/passwd")), 400, "invalid"},
		"a path with NUL":       {create("Upload-Length", "1", "Upload-Metadata", meta("a\x00b")), 400, "invalid"},
		"no such source":        {create("Upload-Length", "1", "Upload-Metadata", "path "+b64("a")+",source "+b64("fax")), 400, "invalid"},
		"no such device":        {create("Upload-Length", "1", "Upload-Metadata", meta("a")+",device "+b64("x")), 400, "invalid"},
		"no such hash":          {create("Upload-Length", "1", "Upload-Metadata", meta("a")+",sha256 "+b64("x")), 400, "invalid"},
		"no such time":          {create("Upload-Length", "1", "Upload-Metadata", meta("a")+",mtime "+b64("noon")), 400, "invalid"},
		"a part of a file":      {create("Upload-Length", "1", "Upload-Concat", "partial"), 501, "unsupported"},
		"the wrong type":        {p.patch(location, 0, "abcd", "Content-Type", "image/jpeg"), 415, "unsupported-media"},
		"no type":               {p.patch(location, 0, "abcd", "Content-Type", ""), 415, "unsupported-media"},
		"no offset":             {p.patch(location, 0, "abcd", "Upload-Offset", ""), 400, "invalid"},
		"a negative offset":     {p.patch(location, -1, "abcd"), 400, "invalid"},
		"beyond the end":        {p.patch(location, 0, "abcde"), 413, "too-large"},
		"an unknown upload":     {p.patch("/v1/uploads/nope", 0, "x"), 404, "not-found"},
		"another's upload":      {p.as(bob).patch(location, 0, "abcd"), 404, "not-found"},
		"the end of another's":  {p.as(bob).send("DELETE", location, nil), 404, "not-found"},
		"a look at another's":   {p.as(bob).send("HEAD", location, nil), 404, ""},
		"a POST to an upload":   {p.send("POST", location, nil), 405, "method-not-allowed"},
		"a whole type mismatch": {p.send("POST", "/v1/uploads", strings.NewReader("x"), "Upload-Length", "1", "Content-Type", "text/plain"), 415, "unsupported-media"},
	} {
		tt.a.is(t, what, tt.status, tt.kind)
		if tt.status == 412 && tt.a.header.Get("Tus-Version") != "1.0.0" {
			t.Errorf("%s: the version is not said", what)
		}
	}
	p.patch(location, 0, "abcd").kept(t, "abcd", "a.jpg", "new")
}

func TestOptionsTerminationAndOverride(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	resp, err := p.box.Client.Do(func() *http.Request {
		r, _ := http.NewRequestWithContext(t.Context(), "OPTIONS", p.box.URL+"/v1/uploads", nil)
		return r
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for k, want := range map[string]string{
		"Tus-Version": "1.0.0", "Tus-Checksum-Algorithm": "sha1,sha256", "Tus-Max-Size": strconv.Itoa(1 << 40),
		"Tus-Extension": "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination",
	} {
		if got := resp.Header.Get(k); resp.StatusCode != 204 || got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	location := p.create(4, meta("a.jpg"))
	override := func(method string) []string { return []string{"X-HTTP-Method-Override", method, "Upload-Offset", "0"} }
	p.send("POST", location, strings.NewReader("ab"), override("PATCH")...).is(t, "PATCH by POST", 204, "")
	if a := p.send("POST", location, nil, override("HEAD")...); a.status != 200 || a.header.Get("Upload-Offset") != "2" {
		t.Errorf("HEAD by POST: %d %v", a.status, a.header)
	}
	p.send("POST", location, nil, override("DELETE")...).is(t, "DELETE by POST", 204, "")
	p.send("DELETE", location, nil).is(t, "once more", 404, "not-found")
	p.send("HEAD", location, nil).is(t, "what is gone", 404, "")
}

// R20: whoever waits for 100 Continue sends no byte of what is refused.
func TestExpectContinueCostsNothing(t *testing.T) {
	t.Parallel()
	p := newPhone(t)
	location := p.create(1<<30, meta("a.mp4"))
	path := strings.TrimPrefix(location, p.box.URL)
	for _, tt := range []struct {
		what, request string
		status        int
	}{
		{"no consent", "POST /v1/uploads HTTP/1.1\r\nUpload-Length: 1000000000\r\nUpload-Metadata: source " + b64("wechat") + "\r\n", 403},
		{"wrong offset", "PATCH " + path + " HTTP/1.1\r\nUpload-Offset: 7\r\n", 409},
		{"unknown", "PATCH /v1/uploads/nope HTTP/1.1\r\nUpload-Offset: 0\r\n", 404},
	} {
		conn := p.dial()
		fmt.Fprintf(conn, "%sHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n", tt.request, p.who.Token)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %s before any body", tt.what, resp.Status)
		}
		conn.Close()
	}
}
