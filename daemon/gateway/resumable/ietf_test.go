package resumable_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A form is one of those in which the IETF's protocol is spoken: an interop
// version, or none (0).
type form int

func (f form) String() string {
	if f == 0 {
		return "final"
	}
	return "interop " + strconv.Itoa(int(f))
}

// since says whether the form is of that version or a later one.
func (f form) since(version form) bool { return f == 0 || f >= version }

// complete are the words by which a request or an answer says that it is, or is not,
// the end of the file.
func (f form) complete(yes bool) (name, value string) {
	name, value = "Upload-Complete", "?1"
	if f == 3 {
		name, yes = "Upload-Incomplete", !yes
	}
	if !yes {
		value = "?0"
	}
	return name, value
}

// reply is an answer with the interim ones before it.
type reply struct {
	answer
	interim []http.Header
}

// speak sends a request in the form; header is name, value, …
func (p *phone) speak(f form, method, target string, body io.Reader, header ...string) reply {
	p.t.Helper()
	var got reply
	ctx := httptrace.WithClientTrace(p.t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == 104 {
			got.interim = append(got.interim, http.Header(h))
		}
		return nil
	}})
	r := p.who.Request(method, strings.TrimPrefix(target, p.box.URL), body).WithContext(ctx)
	if f != 0 {
		r.Header.Set("Upload-Draft-Interop-Version", strconv.Itoa(int(f)))
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	got.status, got.header, got.body = p.who.Do(r)
	if v := got.header.Get("Upload-Draft-Interop-Version"); f != 0 && v != strconv.Itoa(int(f)) && got.status != 401 && got.status != 404 {
		p.t.Errorf("%s: the answer %d is in version %q", method, got.status, v)
	}
	return got
}

// post begins an upload.
func (p *phone) post(f form, query string, body io.Reader, whole bool, header ...string) reply {
	p.t.Helper()
	name, value := f.complete(whole)
	return p.speak(f, "POST", "/v1/uploads?"+query, body, append([]string{name, value}, header...)...)
}

// add goes on with one.
func (p *phone) add(f form, location string, offset int, part io.Reader, last bool, header ...string) reply {
	p.t.Helper()
	name, value := f.complete(last)
	all := []string{name, value, "Upload-Offset", strconv.Itoa(offset)}
	if f.since(6) {
		all = append(all, "Content-Type", "application/partial-upload")
	}
	return p.speak(f, "PATCH", location, part, append(all, header...)...)
}

// where asks how far an upload got.
func (p *phone) where(f form, location string) (offset int, complete bool) {
	p.t.Helper()
	a := p.speak(f, "HEAD", location, nil)
	n, err := strconv.Atoi(a.header.Get("Upload-Offset"))
	if a.status != 204 || err != nil || a.header.Get("Cache-Control") != "no-store" {
		p.t.Fatalf("HEAD: %d %v", a.status, a.header)
	}
	name, value := f.complete(true)
	return n, a.header.Get(name) == value
}

// begun is the address of an upload of that length.
func (p *phone) begun(f form, name string, length int) string {
	p.t.Helper()
	a := p.post(f, inAlbum(name), nil, false, "Upload-Length", strconv.Itoa(length))
	if a.status/100 != 2 {
		p.t.Fatalf("create: %d %s", a.status, a.body)
	}
	return a.header.Get("Location")
}

func inAlbum(path string) string {
	return url.Values{"path": {path}, "source": {"album"}, "mtime": {"1700000000.5"}}.Encode()
}

// says checks what an answer says of completeness.
func (a reply) says(t *testing.T, what string, f form, complete bool) {
	t.Helper()
	name, want := f.complete(complete)
	if got := a.header.Get(name); got != want {
		t.Errorf("%s: %s is %q, want %q", what, name, got, want)
	}
}

// problem checks a refusal: its status, and its type where the form has one.
func (a reply) problem(t *testing.T, what string, status int, kind string) (doc map[string]any) {
	t.Helper()
	if err := json.Unmarshal(a.body, &doc); err != nil || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: %d %q, no problem", what, a.status, a.body)
	}
	if got := strings.TrimPrefix(fmt.Sprint(doc["type"]), "https://iana.org/assignments/http-problem-types#"); a.status != status || got != kind {
		t.Errorf("%s: %d %s, want %d %s: %s", what, a.status, got, status, kind, a.body)
	}
	if doc["hint"] == "" {
		t.Errorf("%s: no word on what to do", what)
	}
	return doc
}

// stored checks the last answer, which is that of PUT /v1/files.
func (a reply) stored(t *testing.T, f form, content, path, stored string) {
	t.Helper()
	var got struct {
		ID, Path, SHA256, Stored, MTime string
		Size                            int
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	want := map[string]int{"new": 201, "known": 200}[stored]
	if a.status != want || got.ID == "" || got.Path != path || got.SHA256 != sha(content) || got.Stored != stored || got.Size != len(content) || got.MTime != "2023-11-14T22:13:20.500Z" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a.header.Get("Upload-Offset") != strconv.Itoa(len(content)) || a.header.Get("Repr-Digest") != reprDigest(content) || a.header.Get("Yunbox-Sha256") != sha(content) {
		t.Errorf("the answer's headers: %v", a.header)
	}
	a.says(t, "the last answer", f, true)
}

func reprDigest(content string) string {
	b := make([]byte, 0, 32)
	_, err := fmt.Sscanf(sha(content), "%x", &b)
	if err != nil {
		panic(err)
	}
	return "sha-256=:" + base64.StdEncoding.EncodeToString(b) + ":"
}

// hidden is a body whose length the client does not say.
func hidden(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }

// A raw is a request on a connection of its own, of which the test writes every
// byte and reads every answer.
type raw struct {
	*tls.Conn
	t       *testing.T
	answers *bufio.Reader
}

// raw writes the head of a request; header is lines.
func (p *phone) raw(f form, method, target string, length int, header ...string) raw {
	p.t.Helper()
	conn := p.dial()
	if f != 0 {
		header = append(header, "Upload-Draft-Interop-Version: "+strconv.Itoa(int(f)))
	}
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s\r\n\r\n",
		method, strings.TrimPrefix(target, p.box.URL), strings.TrimPrefix(p.box.URL, "https://"), p.who.Token, length, strings.Join(header, "\r\n"))
	if err != nil {
		p.t.Fatal(err)
	}
	return raw{conn, p.t, bufio.NewReader(conn)}
}

// rawPost begins the upload of a whole file and returns the address that is told
// before a byte of it was sent.
func (p *phone) rawPost(f form, path string, length int) (conn raw, location string) {
	p.t.Helper()
	name, value := f.complete(true)
	conn = p.raw(f, "POST", "/v1/uploads?"+inAlbum(path), length, name+": "+value)
	interim := conn.next()
	if interim.StatusCode != 104 {
		p.t.Fatalf("before the body: %s", interim.Status)
	}
	return conn, interim.Header.Get("Location")
}

// next reads an answer, or an interim one.
func (c raw) next() *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (c raw) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// cut ends the connection after what was written, and waits until the box knows.
func (c raw) cut() {
	c.t.Helper()
	if err := c.CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
	if resp := c.next(); resp.StatusCode != 503 {
		c.t.Errorf("a body that broke off was answered %s", resp.Status)
	}
}

// R05: every form of the protocol through everything that happens to an upload.
func TestIETF(t *testing.T) {
	t.Parallel()
	for _, f := range []form{3, 4, 5, 6, 7, 8, 9, 0} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			p := newPhone(t)
			for _, c := range []struct {
				name string
				run  func(*testing.T, *phone, form)
			}{
				{"whole file", wholeFile}, {"cut", cutInTheMiddle}, {"parts", inParts}, {"wrong offset", wrongOffset}, {"wrong length", wrongLength},
				{"complete", touchedAgain}, {"cancelled", cancelled}, {"restart", restarted}, {"displaced", displaced},
				{"before the body", beforeTheBody}, {"digests", digests}, {"another person", anothersUpload}, {"withdrawn", withdrawnMidway},
			} {
				t.Run(c.name, func(t *testing.T) {
					p.box.For(t)
					q := *p
					q.t = t
					c.run(t, &q, f)
				})
			}
		})
	}
}

func wholeFile(t *testing.T, p *phone, f form) {
	content := "all in one request " + f.String()
	path := "相册/é " + f.String() + ".jpg"
	a := p.post(f, inAlbum(path), strings.NewReader(content), true)
	a.stored(t, f, content, path, "new")
	if len(a.interim) != 1 {
		t.Fatalf("%d interim answers", len(a.interim))
	}
	interim, location := a.interim[0], a.header.Get("Location")
	want := http.Header{"Location": {location}}
	if f != 0 {
		want.Set("Upload-Draft-Interop-Version", strconv.Itoa(int(f)))
	}
	limit := interim.Get("Upload-Limit")
	age := map[bool]string{true: "expires", false: "max-age"}[f == 6]
	if has := limit == "max-size=1099511627776, "+age+"=604800"; has != f.since(6) || !has && limit != "" {
		t.Errorf("104 has the limits %q", limit)
	}
	interim.Del("Upload-Limit")
	if !maps.EqualFunc(interim, want, slices.Equal) || !strings.HasPrefix(location, p.box.URL+"/v1/uploads/") {
		t.Errorf("104 says %v; the answer's Location is %s", interim, location)
	}
	if n, complete := p.where(f, location); n != len(content) || !complete {
		t.Errorf("the finished upload stands at %d, complete: %v", n, complete)
	}
	if status, got := p.file(url.PathEscape("相册") + "/" + url.PathEscape("é "+f.String()+".jpg")); status != 200 || got != content {
		t.Errorf("the file: %d %q", status, got)
	}
	p.post(f, inAlbum(path), strings.NewReader(content), true).stored(t, f, content, path, "known")
	p.post(f, inAlbum("empty"), nil, true).stored(t, f, "", "empty", "new")
	p.post(f, inAlbum("hidden"+f.String()), hidden("of a hidden length"+f.String()), true).stored(t, f, "of a hidden length"+f.String(), "hidden"+f.String(), "new")
	// tus-js-client never says that an empty file is complete.
	location = p.begun(f, "careful empty", 0)
	if n, complete := p.where(f, location); n != 0 || !complete {
		t.Error("an empty file is not stored")
	}

	var put, post map[string]any
	_, _, b := p.who.Do(p.who.Request("PUT", "/v1/files/same.jpg?source=album&mtime=1700000000.5", strings.NewReader(content)))
	c := p.post(f, inAlbum("same.jpg"), strings.NewReader(content), true).body
	if json.Unmarshal(b, &put) != nil || json.Unmarshal(c, &post) != nil || !maps.Equal(put, post) {
		t.Errorf("PUT answers %s, POST %s", b, c)
	}
}

func cutInTheMiddle(t *testing.T, p *phone, f form) {
	content := strings.Repeat("0123456789", 30_000) + f.String()
	conn, location := p.rawPost(f, "cut.mp4", len(content))
	conn.write(content[:170_003])
	conn.cut()
	if n, complete := p.where(f, location); n != 170_003 || complete {
		t.Fatalf("of 170003 bytes %d were kept, complete: %v", n, complete)
	}
	// Cut once more, on the way of the rest.
	name, value := f.complete(true)
	conn = p.raw(f, "PATCH", location, len(content)-170_003, name+": "+value, "Upload-Offset: 170003", "Content-Type: application/partial-upload")
	conn.write(content[170_003:200_000])
	conn.cut()
	n, _ := p.where(f, location)
	if n != 200_000 {
		t.Fatalf("of 200000 bytes %d were kept", n)
	}
	p.add(f, location, n, strings.NewReader(content[n:]), true).stored(t, f, content, "cut.mp4", "new")
	if status, got := p.file("cut.mp4"); status != 200 || got != content {
		t.Errorf("the file: %d, %d bytes", status, len(got))
	}
}

func inParts(t *testing.T, p *phone, f form) {
	content := "first part, second part, third " + f.String()
	taken := map[bool]int{true: 204, false: 201}[f.since(7)]
	part := func(a reply, what string, status, offset int) {
		t.Helper()
		if a.status != status || a.header.Get("Upload-Offset") != strconv.Itoa(offset) || len(a.body) != 0 {
			t.Errorf("%s: %d %v %s", what, a.status, a.header, a.body)
		}
		a.says(t, what, f, false)
		if limit := a.header.Get("Upload-Limit"); (limit != "") != f.since(6) || f.since(7) && !strings.Contains(limit, "max-age=") {
			t.Errorf("%s: the limits are %q", what, limit)
		}
	}
	for _, announced := range [][]string{{"Upload-Length", strconv.Itoa(len(content))}, nil} {
		name := fmt.Sprint(len(announced), "parts.jpg")
		a := p.post(f, inAlbum(name), strings.NewReader(content[:6]), false, announced...)
		part(a, "creation", 201, 6)
		location := a.header.Get("Location")
		head := p.speak(f, "HEAD", location, nil)
		if got := head.header.Get("Upload-Length"); announced != nil && got != announced[1] || announced == nil && got != "" {
			t.Errorf("HEAD says length %q", got)
		}
		head.says(t, "HEAD", f, false)
		a = p.add(f, location, 6, strings.NewReader(content[6:11]), false)
		part(a, "second", taken, 11)
		if len(a.interim) != 0 {
			t.Errorf("an append got %v", a.interim)
		}
		part(p.add(f, location, 11, hidden(content[11:20]), false), "third", taken, 20)
		part(p.add(f, location, 20, nil, false), "nothing", taken, 20)
		if announced != nil {
			p.add(f, location, 20, hidden(content[20:]), true).stored(t, f, content, name, "new")
			continue
		}
		part(p.add(f, location, 20, strings.NewReader(content[20:]), false), "the last", taken, len(content))
		if _, complete := p.where(f, location); complete {
			t.Error("it is complete, and nobody said so")
		}
		p.add(f, location, len(content), nil, true).stored(t, f, content, name, "known")
	}
	// A client that says nothing: only version 3 means by that the end.
	location := p.begun(f, "silent.jpg", 5)
	if f.since(4) {
		location = p.post(f, inAlbum("silent.jpg"), nil, false).header.Get("Location")
	}
	a := p.speak(f, "PATCH", location, strings.NewReader("12345"), "Upload-Offset", "0", "Content-Type", "application/partial-upload")
	if _, complete := p.where(f, location); a.status/100 != 2 || complete != (f == 3) {
		t.Errorf("a part without a word: %d, complete: %v", a.status, complete)
	}
	// tus-js-client takes a file for stored when its length is in Upload-Offset.
	location = p.begun(f, "all.jpg", 3)
	if a := p.add(f, location, 0, strings.NewReader("abc"), false); a.status/100 != 2 || a.header.Get("Upload-Offset") != "3" {
		t.Errorf("all bytes: %d %s", a.status, a.body)
	} else {
		a.says(t, "all bytes", f, f.since(9))
	}
	if status, got := p.file("all.jpg"); status != 200 || got != "abc" {
		t.Errorf("the file is not stored: %d %q", status, got)
	}
	if a := p.add(f, location, 3, nil, true); a.status/100 != 2 {
		t.Errorf("the end is said: %d %s", a.status, a.body)
	}
}

func wrongOffset(t *testing.T, p *phone, f form) {
	location := p.begun(f, "offset.jpg", 10)
	p.add(f, location, 0, strings.NewReader("abcd"), false)
	kind := map[bool]string{true: "mismatching-upload-offset", false: "urn:yunbox:problem:conflict"}[f.since(6)]
	for _, offset := range []int{0, 3, 5} {
		a := p.add(f, location, offset, strings.NewReader("xxxxx"), true)
		doc := a.problem(t, "a wrong offset", 409, kind)
		if a.header.Get("Upload-Offset") != "4" {
			t.Errorf("the right offset is said to be %q", a.header.Get("Upload-Offset"))
		}
		if f.since(6) && (doc["expected-offset"] != 4.0 || doc["provided-offset"] != float64(offset)) {
			t.Errorf("%s", a.body)
		}
		if f.since(7) {
			a.says(t, "a wrong offset", f, false)
		}
	}
	for _, bad := range []string{"", "-1", "x", "1.5", "9999999999999999", "?1"} {
		p.add(f, location, 0, strings.NewReader("x"), false, "Upload-Offset", bad).problem(t, "offset "+bad, 400, "urn:yunbox:problem:invalid")
	}
	if f.since(6) {
		p.add(f, location, 4, strings.NewReader("x"), false, "Content-Type", "image/jpeg").problem(t, "another type", 415, "urn:yunbox:problem:unsupported-media")
	}
	if n, _ := p.where(f, location); n != 4 {
		t.Errorf("it stands at %d after refusals", n)
	}
}

func wrongLength(t *testing.T, p *phone, f form) {
	kind := map[bool]string{true: "inconsistent-upload-length", false: "urn:yunbox:problem:invalid"}[f.since(7)]
	refused := func(what string, a reply) {
		t.Helper()
		a.problem(t, what, 400, kind)
		if f.since(7) {
			a.says(t, what, f, false)
		}
	}
	a := p.post(f, inAlbum("length.jpg"), strings.NewReader("12345"), true, "Upload-Length", "6")
	refused("two lengths", a)
	if len(a.interim) != 0 {
		t.Error("a creation that is refused got a 104")
	}
	refused("a part that is more than the whole", p.post(f, inAlbum("length.jpg"), strings.NewReader("12345"), false, "Upload-Length", "4"))
	location := p.begun(f, "length.jpg", 10)
	p.add(f, location, 0, strings.NewReader("abcd"), false)
	refused("the last part is too short", p.add(f, location, 4, strings.NewReader("abcde"), true))
	refused("the last part is too long", p.add(f, location, 4, strings.NewReader("abcdefg"), true))
	refused("a part is too long", p.add(f, location, 4, strings.NewReader("abcdefg"), false))
	refused("another length than before", p.add(f, location, 4, strings.NewReader("abc"), false, "Upload-Length", "7"))
	refused("the last part ends early", p.add(f, location, 4, hidden("abcde"), true))
	if n, complete := p.where(f, location); n != 9 || complete {
		t.Errorf("it stands at %d, complete: %v", n, complete)
	}
	refused("more comes than was announced", p.add(f, location, 9, hidden("xyz"), true))
	if a := p.speak(f, "HEAD", location, nil); a.status != 404 {
		t.Errorf("what grew too long is still there: %d", a.status)
	}
	if status, _ := p.file("length.jpg"); status != 404 {
		t.Errorf("a file of a wrong length is there: %d", status)
	}
	// A value that is none is as good as none.
	p.post(f, inAlbum("value.jpg"), strings.NewReader("value"+f.String()), true, "Upload-Length", "five").stored(t, f, "value"+f.String(), "value.jpg", "new")
}

func touchedAgain(t *testing.T, p *phone, f form) {
	content := "complete " + f.String()
	a := p.post(f, inAlbum("again.jpg"), strings.NewReader(content), true)
	a.stored(t, f, content, "again.jpg", "new")
	location := a.header.Get("Location")
	// Whoever lost the last answer gets it again.
	p.add(f, location, len(content), nil, true).stored(t, f, content, "again.jpg", "new")
	more := p.add(f, location, len(content), strings.NewReader("more"), true)
	early := p.add(f, location, 3, strings.NewReader("more"), true)
	switch {
	case f == 6 || f == 7:
		more.problem(t, "more", 400, "completed-upload")
		early.problem(t, "an early offset", 400, "completed-upload")
		p.add(f, location, 3, nil, true).problem(t, "nothing, early", 400, "completed-upload")
	case f == 8:
		more.problem(t, "more", 400, "inconsistent-upload-length")
		early.problem(t, "an early offset", 400, "inconsistent-upload-length")
		p.add(f, location, 3, nil, true).problem(t, "nothing, early", 400, "completed-upload")
	case f.since(9):
		more.problem(t, "more", 400, "inconsistent-upload-length")
		early.problem(t, "an early offset", 409, "mismatching-upload-offset")
		more.says(t, "more", f, false)
	default:
		more.problem(t, "more", 409, "urn:yunbox:problem:conflict")
		early.problem(t, "an early offset", 409, "urn:yunbox:problem:conflict")
	}
	if status, got := p.file("again.jpg"); status != 200 || got != content {
		t.Errorf("the file: %d %q", status, got)
	}
	back := p.speak(f, "GET", location, nil)
	if back.status != 200 || string(back.body) != content || back.header.Get("Upload-Offset") != strconv.Itoa(len(content)) {
		t.Errorf("the file under the address of its upload: %d %q %v", back.status, back.body, back.header)
	}
	back.says(t, "GET", f, true)
	if status, _, body := p.who.Do(p.who.Request("PUT", "/v1/files/again.jpg?source=album", strings.NewReader("other"))); status != 201 && status != 200 {
		t.Errorf("replacing it: %d %s", status, body)
	}
	if a := p.speak(f, "GET", location, nil); a.status != 404 {
		t.Errorf("the upload of what was replaced: %d %q", a.status, a.body)
	}
	if a := p.speak(f, "DELETE", location, nil); a.status != 204 {
		t.Errorf("forgetting it: %d", a.status)
	}
	if status, _ := p.file("again.jpg"); status != 200 {
		t.Error("the file went with its upload")
	}
}

func cancelled(t *testing.T, p *phone, f form) {
	location := p.begun(f, "gone.jpg", 10)
	p.add(f, location, 0, strings.NewReader("abcd"), false)
	for _, name := range []string{"Upload-Offset", "Upload-Complete"} {
		value := "4"
		if name == "Upload-Complete" {
			name, value = f.complete(false)
		}
		for _, method := range []string{"HEAD", "GET"} {
			want := map[bool]int{true: 204, false: 400}[f.since(7)]
			if a := p.speak(f, method, location, nil, name, value); a.status != want {
				t.Errorf("%s with %s: %d, want %d", method, name, a.status, want)
			}
		}
		if !f.since(7) {
			p.speak(f, "DELETE", location, nil, name, value).problem(t, "DELETE with "+name, 400, "urn:yunbox:problem:invalid")
		}
	}
	if a := p.speak(f, "GET", location, nil); a.status != 204 || a.header.Get("Upload-Offset") != "4" || len(a.body) != 0 {
		t.Errorf("GET: %d %v", a.status, a.header)
	}
	if a := p.speak(f, "DELETE", location, nil); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	for _, method := range []string{"HEAD", "GET", "DELETE"} {
		if a := p.speak(f, method, location, nil); a.status != 404 {
			t.Errorf("%s of what is gone: %d", method, a.status)
		}
	}
	p.add(f, location, 4, strings.NewReader("efghij"), true).problem(t, "going on", 404, "urn:yunbox:problem:not-found")
	if status, _ := p.file("gone.jpg"); status != 404 {
		t.Errorf("the file: %d", status)
	}
}

func restarted(t *testing.T, p *phone, f form) {
	content := strings.Repeat("over a restart ", 9_000) + f.String()
	conn, location := p.rawPost(f, "restart.mp4", len(content))
	conn.write(content[:100_000])
	conn.cut()
	p.box.Restart()
	n, complete := p.where(f, location)
	if n != 100_000 || complete {
		t.Fatalf("after the restart it stands at %d, complete: %v", n, complete)
	}
	p.add(f, location, n, strings.NewReader(content[n:]), true).stored(t, f, content, "restart.mp4", "new")
}

// Whoever comes back does not wait for the connection that was lost.
func displaced(t *testing.T, p *phone, f form) {
	content := strings.Repeat("0123456789", 20_000) + "displaced" + f.String()
	conn, location := p.rawPost(f, "displaced.mp4", len(content))
	conn.write(content[:70_000])
	n, _ := p.where(f, location)
	if resp := conn.next(); resp.StatusCode != 423 {
		t.Errorf("the connection that was lost was told %s", resp.Status)
	}
	name, value := f.complete(true)
	hanging := p.raw(f, "PATCH", location, len(content)-n, name+": "+value, "Upload-Offset: "+strconv.Itoa(n), "Content-Type: application/partial-upload")
	hanging.write(content[n : n+10])
	eventually(t, "it is being received", func() bool { return p.uploads() == 1 })
	var last reply
	eventually(t, "it goes on", func() bool { // it may have come in only after our question
		m, _ := p.where(f, location)
		if m < n || m > n+10 {
			t.Fatalf("it stood at %d, now at %d", n, m)
		}
		last = p.add(f, location, m, strings.NewReader(content[m:]), true)
		return last.status != 409
	})
	last.stored(t, f, content, "displaced.mp4", "new")
	if resp := hanging.next(); resp.StatusCode != 423 && resp.StatusCode != 409 {
		t.Errorf("the append that was lost was told %s", resp.Status)
	}
}

// R20: what is refused, or here already, costs no byte of the body; with and
// without "Expect: 100-continue".
func beforeTheBody(t *testing.T, p *phone, f form) {
	known := "known " + f.String()
	p.post(f, inAlbum("known.jpg"), strings.NewReader(known), true).stored(t, f, known, "known.jpg", "new")
	location := p.begun(f, "expected.jpg", 1<<20)
	name, value := f.complete(true)
	whole := name + ": " + value
	for _, tt := range []struct {
		what, method, target string
		header               []string
		status               int
	}{
		{"no consent", "POST", "/v1/uploads?source=wechat", []string{whole}, 403},
		{"no such source", "POST", "/v1/uploads?source=fax", []string{whole}, 400},
		{"misspelt", "POST", "/v1/uploads?sorce=album", []string{whole}, 400},
		{"twice", "POST", "/v1/uploads?source=album&source=wechat", []string{whole}, 400},
		{"climbing", "POST", "/v1/uploads?path=..%2Fa", []string{whole}, 400},
		{"compressed", "POST", "/v1/uploads?source=album", []string{whole, "Content-Encoding: gzip"}, 415},
		{"no digest", "POST", "/v1/uploads?source=album", []string{whole, "Repr-Digest: sha-256=x"}, 400},
		{"known", "POST", "/v1/uploads?" + inAlbum("copy of known.jpg"), []string{whole, "Repr-Digest: " + reprDigest(known)}, 200},
		{"wrong offset", "PATCH", location, []string{whole, "Upload-Offset: 7", "Content-Type: application/partial-upload"}, 409},
		{"unknown", "PATCH", "/v1/uploads/nope", []string{whole, "Upload-Offset: 0", "Content-Type: application/partial-upload"}, 404},
		{"too large", "POST", "/v1/uploads?source=album", []string{whole}, 413},
	} {
		for _, expect := range []string{"Expect: 100-continue", "X-Expect: nothing"} {
			length := 1 << 20
			if tt.status == 413 {
				length = 1<<40 + 1
			}
			conn := p.raw(f, tt.method, tt.target, length, append(tt.header, expect)...)
			if resp := conn.next(); resp.StatusCode != tt.status { // neither 100 nor 104
				t.Errorf("%s, %s: %s before any body", tt.what, expect, resp.Status)
			}
			conn.Close()
		}
	}
	if status, got := p.file("copy%20of%20known.jpg"); status != 200 || got != known {
		t.Errorf("what was known: %d %q", status, got)
	}
	// What is taken is told 104 first, then 100.
	conn := p.raw(f, "POST", "/v1/uploads?"+inAlbum("wait.jpg"), 4, whole, "Expect: 100-continue")
	if a, b := conn.next(), conn.next(); a.StatusCode != 104 || b.StatusCode != 100 {
		t.Fatalf("%s, then %s", a.Status, b.Status)
	}
	conn.write("wait")
	if resp := conn.next(); resp.StatusCode/100 != 2 {
		t.Errorf("the answer is %s", resp.Status)
	}
}

// R01: announced bytes are the only ones that are kept.
func digests(t *testing.T, p *phone, f form) {
	content := "the announced " + f.String()
	a := p.post(f, inAlbum("digest.jpg"), strings.NewReader("not "+content), true, "Repr-Digest", reprDigest(content))
	a.problem(t, "another content", 422, "urn:yunbox:problem:mismatch")
	if f.since(7) {
		a.says(t, "another content", f, true) // going on would not help
	}
	p.post(f, inAlbum("digest.jpg"), strings.NewReader("not "+content), true, "Content-Digest", reprDigest(content)).problem(t, "another body", 422, "urn:yunbox:problem:mismatch")
	p.post(f, inAlbum("digest.jpg"), nil, true, "Repr-Digest", reprDigest(content)).problem(t, "without a body", 409, "urn:yunbox:problem:body-needed")
	if status, _ := p.file("digest.jpg"); status != 404 {
		t.Errorf("the file: %d", status)
	}
	a = p.post(f, inAlbum("digest.jpg"), strings.NewReader(content[:4]), false, "Repr-Digest", reprDigest(content), "Content-Digest", reprDigest(content[:4]))
	location := a.header.Get("Location")
	a = p.add(f, location, 4, strings.NewReader("damaged"), false, "Content-Digest", reprDigest(content[4:11]))
	a.problem(t, "a damaged part", 422, "urn:yunbox:problem:mismatch")
	if n, _ := p.where(f, location); n != 4 {
		t.Errorf("of a damaged part %d bytes were kept", n-4)
	}
	// A part that breaks off is kept, whatever was said of all of it.
	name, value := f.complete(false)
	conn := p.raw(f, "PATCH", location, 7, name+": "+value, "Upload-Offset: 4", "Content-Type: application/partial-upload", "Content-Digest: "+reprDigest(content[4:11]))
	conn.write(content[4:9])
	conn.cut()
	if n, _ := p.where(f, location); n != 9 {
		t.Errorf("it stands at %d, not at 9", n)
	}
	p.add(f, location, 9, strings.NewReader(content[9:]), true, "Content-Digest", reprDigest(content[9:])).stored(t, f, content, "digest.jpg", "new")
}

func anothersUpload(t *testing.T, p *phone, f form) {
	bob := p.as(p.box.AddPerson("bob"))
	location := p.begun(f, "private.jpg", 4)
	for _, method := range []string{"HEAD", "GET", "DELETE"} {
		if a := bob.speak(f, method, location, nil); a.status != 404 {
			t.Errorf("%s of another's upload: %d", method, a.status)
		}
	}
	bob.add(f, location, 0, strings.NewReader("evil"), true).problem(t, "another's upload", 404, "urn:yunbox:problem:not-found")
	nobody := p.as(p.box.Nobody())
	if a := nobody.speak(f, "HEAD", location, nil); a.status != 401 {
		t.Errorf("HEAD of nobody: %d", a.status)
	}
	p.add(f, location, 0, strings.NewReader("mine"), true)
	if status, got := p.file("private.jpg"); status != 200 || got != "mine" {
		t.Errorf("the file: %d %q", status, got)
	}
	if a := bob.speak(f, "GET", location, nil); a.status != 404 {
		t.Errorf("what another's upload became: %d %q", a.status, a.body)
	}
}

// R22: withdrawal ends a running upload; nothing of it stays.
func withdrawnMidway(t *testing.T, p *phone, f form) {
	conn, location := p.rawPost(f, "withdrawn.mp4", 1<<20)
	conn.write(strings.Repeat("x", 64<<10))
	eventually(t, "it is being received", func() bool { return p.uploads() == 1 })
	p.who.Withdraw("album_backup")
	if resp := conn.next(); resp.StatusCode != 403 {
		t.Errorf("it was told %s", resp.Status)
	}
	if a := p.speak(f, "HEAD", location, nil); a.status != 404 {
		t.Errorf("what had arrived: %d", a.status)
	}
	p.post(f, inAlbum("later.jpg"), strings.NewReader("x"), true).problem(t, "after the withdrawal", 403, "urn:yunbox:problem:consent-required")
	p.who.Grant("album_backup")
	location = p.begun(f, "pause.jpg", 2)
	p.who.Withdraw("album_backup")
	p.add(f, location, 0, strings.NewReader("ab"), true).problem(t, "withdrawn in a pause", 404, "urn:yunbox:problem:not-found")
	p.who.Grant("album_backup")
}
