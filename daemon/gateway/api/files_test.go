package api_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage/vfs"
)

// R01: a file that was put is there, byte for byte, under its name.
func TestPutAndGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const content = "the bytes of a photo"
	a := w.ask(w.ada, "PUT", "/v1/files/DCIM/e%CC%81%20%E5%BE%AE.jpg?source=album&mtime=1700000000.123", content, "Repr-Digest", reprDigest(content))
	a.is(t, "put", 201, "")
	var s stored
	a.into(t, &s)
	if s.Path != "DCIM/é 微.jpg" || s.SHA256 != sha(content) || s.Size != int64(len(content)) || s.Stored != "new" ||
		s.MTime != "2023-11-14T22:13:20.123Z" || a.header.Get("ETag") != `"`+sha(content)+`"` {
		t.Errorf("receipt %+v, ETag %s", s, a.header.Get("ETag"))
	}
	const name = "/v1/files/DCIM/%C3%A9%20%E5%BE%AE.jpg"
	get := w.ask(w.ada, "GET", name, "")
	get.is(t, "get", 200, "")
	if string(get.body) != content {
		t.Errorf("got %q", get.body)
	}
	for k, want := range map[string]string{
		"ETag": `"` + s.SHA256 + `"`, "Content-Type": "image/jpeg", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox", "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
		"Content-Disposition": "attachment; filename*=utf-8''%C3%A9%20%E5%BE%AE.jpg", "Repr-Digest": reprDigest(content),
	} {
		if got := get.header.Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if a := w.ask(w.ada, "GET", name, "", "Range", "bytes=4-8"); a.status != 206 || string(a.body) != "bytes" {
		t.Errorf("a range gave %d %q", a.status, a.body)
	}
	a = w.ask(w.ada, "GET", name, "", "Range", "bytes=1000-")
	if a.is(t, "a range behind the end", 416, "range-unsatisfiable"); a.header.Get("Content-Range") != "bytes */20" || a.header.Get("ETag") != "" {
		t.Errorf("a range behind the end: %v", a.header)
	}
	if a := w.ask(w.ada, "GET", name, "", "If-None-Match", `"`+s.SHA256+`"`); a.status != 304 {
		t.Errorf("an unchanged file gave %d", a.status)
	}
	if a := w.ask(w.ada, "HEAD", name, ""); a.status != 200 || a.header.Get("Content-Length") != strconv.Itoa(len(content)) || len(a.body) != 0 {
		t.Errorf("HEAD gave %d, %v", a.status, a.header)
	}
	w.ask(w.bob(), "GET", name, "").is(t, "another person", 404, "not-found")
	w.ask(w.bob(), "DELETE", name, "").is(t, "another person", 404, "not-found")
	w.ask(w.ada, "DELETE", name, "", "If-Match", `"`+sha("x")+`"`).is(t, "delete another version", 412, "precondition-failed")
	w.ask(w.ada, "DELETE", name, "").is(t, "delete", 204, "")
	w.ask(w.ada, "GET", name, "").is(t, "get deleted", 404, "not-found")
}

// R13, R34: what the asker has is not sent again; what only others have is.
func TestKnownContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const content = "seen before"
	w.put(w.ada, "a.jpg", content)

	a := w.ask(w.ada, "PUT", "/v1/files/b.jpg?source=album", content)
	a.is(t, "the same bytes again", 200, "")
	var s stored
	a.into(t, &s)
	if s.Stored != "known" || s.Path != "b.jpg" {
		t.Errorf("receipt %+v", s)
	}
	probe := func(p *daemontest.Person, path string) answer {
		return w.ask(p, "PUT", "/v1/files/"+path+"?source=album", "", "Repr-Digest", reprDigest(content))
	}
	a = probe(w.ada, "c.jpg")
	a.is(t, "the hash alone", 200, "")
	a.into(t, &s)
	if s.Stored != "known" || s.Size != int64(len(content)) {
		t.Errorf("receipt %+v", s)
	}
	if got := w.ask(w.ada, "GET", "/v1/files/c.jpg", ""); string(got.body) != content {
		t.Errorf("c.jpg holds %q", got.body)
	}
	probe(w.bob(), "c.jpg").is(t, "the hash of another person's file", 409, "body-needed")
	var known struct{ Known []string }
	w.ask(w.bob(), "POST", "/v1/blobs/known", `{"sha256":["`+sha(content)+`"]}`).into(t, &known)
	if len(known.Known) != 0 {
		t.Error("bob learned what ada keeps")
	}
	w.ask(w.ada, "POST", "/v1/blobs/known", `{"sha256":["`+sha("other")+`","`+sha(content)+`"]}`).into(t, &known)
	if !slices.Equal(known.Known, []string{sha(content)}) {
		t.Errorf("ada knows %v", known.Known)
	}
	// Bob sends it and is told that it is new, although the box has the blob.
	a = w.ask(w.bob(), "PUT", "/v1/files/c.jpg?source=album", content)
	a.is(t, "the first copy of bob", 201, "")
	a.into(t, &s)
	if s.Stored != "new" {
		t.Errorf("bob was told %q", s.Stored)
	}
	// The empty file has the digest of nothing: it is complete without a body.
	w.ask(w.bob(), "PUT", "/v1/files/empty?source=album", "", "Repr-Digest", reprDigest("")).is(t, "an empty file", 201, "")
}

// What a person deleted is not asked for again, and nobody else hears of it; for
// as long as they chose. R27
func TestDeletedContentIsLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const content = "better forgotten"
	w.put(w.ada, "a.jpg", content)
	type declined struct{ SHA256, Reason, Deleted string }
	ask := func(p *daemontest.Person) (known, deleted []string) {
		t.Helper()
		var out struct {
			Known    []string
			Declined []declined
		}
		w.ask(p, "POST", "/v1/blobs/known", `{"sha256":["`+sha("other")+`","`+sha(content)+`"]}`).into(t, &out)
		for _, d := range out.Declined {
			if at, err := time.Parse(time.RFC3339, d.Deleted); err != nil || d.Reason != "deleted" || time.Until(at) > 24*time.Hour {
				t.Errorf("%+v", d)
			}
			deleted = append(deleted, d.SHA256)
		}
		return out.Known, deleted
	}
	gone := func(what string) {
		t.Helper()
		if known, deleted := ask(w.ada); len(known) != 0 || !slices.Equal(deleted, []string{sha(content)}) {
			t.Errorf("%s: %v %v", what, known, deleted)
		}
	}
	var s stored
	w.ask(w.ada, "PUT", "/v1/files/a.jpg?source=album", content).into(t, &s)
	if known, deleted := ask(w.ada); len(known) != 1 || len(deleted) != 0 {
		t.Errorf("before: %v %v", known, deleted)
	}
	w.ask(w.ada, "DELETE", "/v1/files/a.jpg", "").is(t, "to the trash", 204, "")
	gone("in the trash")
	w.ask(w.ada, "DELETE", "/v1/items/"+s.ID, "").is(t, "for good", 204, "")
	gone("deleted")
	if known, deleted := ask(w.bob()); len(known)+len(deleted) != 0 {
		t.Errorf("bob learned %v %v", known, deleted)
	}
	// For a year, unless ada chooses another time.
	w.Box.Pass(364 * 24 * time.Hour)
	*w.ada = *w.Box.SignIn("ada")
	gone("after 364 days")
	w.ask(w.ada, "PUT", "/v1/files/a.jpg?source=album", content).is(t, "after 364 days", 410, "deleted")
	days := func(n string, want int, status int, kind string) {
		t.Helper()
		var me struct {
			Days int `json:"decline_deleted_days"`
		}
		w.ask(w.ada, "PATCH", "/v1/me", `{"decline_deleted_days":`+n+`}`).is(t, n+" days", status, kind)
		w.ask(w.ada, "GET", "/v1/me", "").into(t, &me)
		if me.Days != want {
			t.Errorf("%d days are remembered, not %d", me.Days, want)
		}
	}
	days("400", 400, 200, "")
	w.Box.Pass(30 * 24 * time.Hour)
	*w.ada = *w.Box.SignIn("ada")
	gone("after 394 of 400 days")
	days("-1", 400, 400, "invalid")
	days("36501", 400, 400, "invalid")
	days("365", 365, 200, "")
	if known, deleted := ask(w.ada); len(known)+len(deleted) != 0 {
		t.Errorf("after 394 of 365 days: %v %v", known, deleted)
	}
	days("0", 0, 200, "")
	days("365", 365, 200, "")
	w.ask(w.ada, "PUT", "/v1/files/a.jpg?source=album&again=maybe", content).is(t, "maybe again", 400, "invalid")
	w.put(w.ada, "again.jpg", content)
	if known, deleted := ask(w.ada); len(known) != 1 || len(deleted) != 0 {
		t.Errorf("wanted back: %v %v", known, deleted)
	}
}

func TestKnownQuestionIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hashes := make([]string, 5001)
	for i := range hashes {
		hashes[i] = `"` + sha(fmt.Sprint(i)) + `"`
	}
	body := func(n int) string { return `{"sha256":[` + strings.Join(hashes[:n], ",") + `]}` }
	w.ask(w.ada, "POST", "/v1/blobs/known", body(5000)).is(t, "5,000 hashes", 200, "")
	w.ask(w.ada, "POST", "/v1/blobs/known", body(5001)).is(t, "5,001 hashes", 400, "invalid")
	for what, bad := range map[string]string{
		"upper case": `{"sha256":["` + strings.ToUpper(sha("x")) + `"]}`, "short": `{"sha256":["abc"]}`, "number": `{"sha256":[1]}`,
		"null": `{"sha256":null}`, "missing": `{}`, "extra": `{"sha256":[],"x":1}`, "not JSON": `{"sha256":[`, "array": `{"sha256":{}}`,
	} {
		w.ask(w.ada, "POST", "/v1/blobs/known", bad).is(t, what, 400, "invalid")
	}
	w.ask(w.ada, "POST", "/v1/blobs/known", `{"sha256":[]}`, "Content-Type", "text/plain").is(t, "not declared as JSON", 415, "unsupported-media")
	w.ask(w.ada, "POST", "/v1/blobs/known", `{"sha256":["`+strings.Repeat("a", 600<<10)+`"]}`).is(t, "600 kB", 413, "too-large")
}

// Bad input is refused with a reason, and nothing of it is stored.
func TestPutRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const ok = "/v1/files/x.jpg?source=album"
	for _, tt := range []struct {
		what, target string
		header       []string
		status       int
		kind         string
	}{
		{"no such source", "/v1/files/x.jpg?source=fax", nil, 400, "invalid"},
		{"no consent for that source", "/v1/files/x.jpg?source=wechat", nil, 403, "consent-required"},
		{"a misspelt parameter", "/v1/files/x.jpg?src=album", nil, 400, "invalid"},
		{"a parameter twice", "/v1/files/x.jpg?source=album&source=wechat", nil, 400, "invalid"},
		{"a garbled query", "/v1/files/x.jpg?source=%zz", nil, 400, "invalid"},
		{"no time", ok + "&mtime=yesterday", nil, 400, "invalid"},
		{"a time before 1970", ok + "&mtime=-1", nil, 400, "invalid"},
		{"a time after 2106", ok + "&mtime=4294967296", nil, 400, "invalid"},
		{"no device", ok + "&device=abc", nil, 400, "invalid"},
		{"another's device", ok + "&device=" + w.bobsDevice(), nil, 404, "not-found"},
		{"a part", ok, []string{"Content-Range", "bytes 0-3/10"}, 400, "invalid"},
		{"a first part", ok, []string{"Upload-Complete", "?0"}, 400, "invalid"},
		{"a first part, of iOS 17", ok, []string{"Upload-Incomplete", "?1"}, 400, "invalid"},
		{"compressed", ok, []string{"Content-Encoding", "gzip"}, 415, "unsupported-media"},
		{"a garbled digest", ok, []string{"Repr-Digest", "sha-256=abc"}, 400, "invalid"},
		{"a digest that is too short", ok, []string{"Repr-Digest", "sha-256=:YWJj:"}, 400, "invalid"},
		{"another digest", ok, []string{"Repr-Digest", reprDigest("other")}, 422, "mismatch"},
		{"another digest of the content", ok, []string{"Content-Digest", reprDigest("other")}, 422, "mismatch"},
		{"two digests", ok, []string{"Content-Digest", reprDigest("a"), "Repr-Digest", reprDigest("b")}, 400, "invalid"},
		{"a condition that does not hold", ok, []string{"If-Match", `"` + sha("x") + `"`}, 412, "precondition-failed"},
		{"any version of none", ok, []string{"If-Match", "*"}, 412, "precondition-failed"},
		{"no name", "/v1/files/?source=album", nil, 400, "invalid"},
		{"dots", "/v1/files/%2e%2e/%2e%2e/etc/passwd?source=album", nil, 400, "invalid"},
		{"an encoded slash", "/v1/files/a%2Fb?source=album", nil, 400, "invalid"},
		{"NUL", "/v1/files/a%00b?source=album", nil, 400, "invalid"},
		{"no UTF-8", "/v1/files/%FF?source=album", nil, 400, "invalid"},
		{"4 KiB", "/v1/files/" + strings.Repeat("a", 4096) + "?source=album", nil, 400, "invalid"},
		{"256 bytes", "/v1/files/" + strings.Repeat("a", 256) + "?source=album", nil, 400, "invalid"},
		{"right to left", "/v1/files/a%E2%80%AEgpj.exe?source=album", nil, 400, "invalid"},
	} {
		w.ask(w.ada, "PUT", tt.target, "body", tt.header...).is(t, tt.what, tt.status, tt.kind)
	}
	w.ask(nil, "PUT", ok, "body").is(t, "nobody", 401, "unauthenticated")
	w.askWith("garbage", "PUT", ok, "body").is(t, "a garbage token", 401, "unauthenticated")
	if names := w.names(w.ada); len(names) != 0 {
		t.Errorf("something was stored: %v", names)
	}
	for _, digest := range []string{"sha-512=:AAAA:", "sha-256=:" + strings.TrimPrefix(reprDigest("body"), "sha-256=:") + ", md5=:AA==:"} {
		w.ask(w.ada, "PUT", ok+"&again=true", "body", "Repr-Digest", digest).is(t, digest, 201, "")
		w.ask(w.ada, "DELETE", "/v1/files/x.jpg", "").is(t, "delete", 204, "")
	}
}

func (w *world) bobsDevice() string {
	var d struct{ ID string }
	w.ask(w.bob(), "POST", "/v1/devices", `{"name":"Bob's phone","kind":"phone"}`).into(w.t, &d)
	return d.ID
}

// The router must not redirect a PUT, which would lose its body.
func TestAddressesThatAreNotCleanAreErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, target := range []string{"/v1/files/../x", "/v1/files/a/../b", "/v1/files//a", "/v1/files/a//b", "//v1/files/a", "/v1/./files/a", "/v1/files/a/"} {
		status := w.raw(fmt.Sprintf("PUT %s?source=album HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n\r\nbody", target, w.ada.Token))
		if status != 400 {
			t.Errorf("PUT %s: %d", target, status)
		}
	}
}

// raw sends bytes as they are and returns the status of the answer.
func (w *world) raw(request string) int {
	w.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// R20: a client that waits for 100 Continue sends no byte of what is refused or
// already here.
func TestExpectContinueCostsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const content = "known content"
	w.put(w.ada, "known.jpg", content)
	for _, tt := range []struct {
		what, target, token, header string
		length                      int64
		status                      int
	}{
		{"nobody", "/v1/files/a.jpg?source=album", "", "", 100 << 20, 401},
		{"no consent", "/v1/files/a.jpg?source=wechat", w.ada.Token, "", 100 << 20, 403},
		{"no source", "/v1/files/a.jpg?source=fax", w.ada.Token, "", 100 << 20, 400},
		{"a bad name", "/v1/files/a%00.jpg?source=album", w.ada.Token, "", 100 << 20, 400},
		{"absurd", "/v1/files/a.jpg?source=album", w.ada.Token, "", 1 << 60, 413},
		{"more than the disk has", "/v1/files/a.jpg?source=album", w.ada.Token, "", 1 << 40, 507},
		{"the name is taken", "/v1/files/known.jpg?source=album", w.ada.Token, "If-None-Match: *\r\n", 10, 412},
		{"known", "/v1/files/b.jpg?source=album", w.ada.Token, "Repr-Digest: " + reprDigest(content) + "\r\n", int64(len(content)), 200},
	} {
		request := fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n%sContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
			tt.target, tt.token, tt.header, tt.length)
		if tt.token == "" {
			request = strings.Replace(request, "Authorization: Bearer \r\n", "", 1)
		}
		if status := w.raw(request); status != tt.status {
			t.Errorf("%s: %d before any body, want %d", tt.what, status, tt.status)
		}
	}
}

// R22: withdrawal ends an upload in its middle, and nothing of it stays.
func TestWithdrawalEndsAPut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body, send := io.Pipe()
	defer send.Close()
	r := w.ada.Request("PUT", "/v1/files/video.mp4?source=album", body)
	r.ContentLength = 1 << 20
	done := make(chan answer, 1)
	go func() { done <- w.send(r) }()
	if _, err := send.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the upload is being received", func() bool { return w.status().Uploads == 1 })
	w.ada.Withdraw("album_backup")
	(<-done).is(t, "an upload whose consent was withdrawn", 403, "consent-required")
	if names := w.names(w.ada); len(names) != 0 {
		t.Errorf("stored: %v", names)
	}
	w.ask(w.ada, "PUT", "/v1/files/video.mp4?source=album", "x").is(t, "the next one", 403, "consent-required")
}

type status struct {
	Uploads int
	Blobs   int64
	Volume  struct {
		OK bool `json:"ok"`
	}
}

func (w *world) status() (s status) {
	w.t.Helper()
	w.Local("GET", "/local/status", nil, &s)
	return s
}

// R01: a body that ends early leaves nothing.
func TestBrokenBodyLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, request := range []string{
		"PUT /v1/files/a.jpg?source=album HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\nhalf",
		"PUT /v1/files/a.jpg?source=album HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, request, w.ada.Token); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the upload is being received", func() bool { return w.status().Uploads == 1 })
		conn.Close()
		eventually(t, "the upload is given up", func() bool { return w.status().Uploads == 0 })
	}
	if names := w.names(w.ada); len(names) != 0 || w.status().Blobs != 0 {
		t.Errorf("stored: %v", names)
	}
	// A length that is not known before is no obstacle.
	r := w.ada.Request("PUT", "/v1/files/a.jpg?source=album", io.MultiReader(strings.NewReader("un"), strings.NewReader("known")))
	w.send(r).is(t, "a chunked body", 201, "")
}

// R01: a name keeps what it held before.
func TestReplacingAName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.put(w.ada, "a.jpg", "first")
	a := w.ask(w.ada, "PUT", "/v1/files/a.jpg?source=album", "second", "If-Match", `"`+first.SHA256+`"`)
	a.is(t, "replace", 201, "")
	var second stored
	a.into(t, &second)
	if second.ID != first.ID || second.Stored != "new" {
		t.Errorf("%+v replaced %+v", second, first)
	}
	var versions struct{ Versions []struct{ SHA256 string } }
	w.ask(w.ada, "GET", "/v1/items/"+first.ID+"/versions", "").into(t, &versions)
	if len(versions.Versions) != 1 || versions.Versions[0].SHA256 != first.SHA256 {
		t.Errorf("versions: %+v", versions)
	}
	w.ask(w.ada, "PUT", "/v1/files/a.jpg?source=album", "third", "If-None-Match", "*").is(t, "only if new", 412, "precondition-failed")
	w.ask(w.ada, "PUT", "/v1/files/b.jpg?source=album", "third", "If-None-Match", "*").is(t, "new", 201, "")
}

// fullDisk is a disk whose free space the test decides.
type fullDisk struct {
	vfs.FS
	full atomic.Bool
}

func (d *fullDisk) Space() (vfs.Space, error) {
	s, err := d.FS.Space()
	if d.full.Load() {
		s.Free = 0
	}
	return s, err
}

// R01: a full disk says so before the body; reading and deleting still work.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	dir, err := vfs.OpenDir(state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() }) // after the box
	disk := &fullDisk{FS: dir}
	w := worldOn(t, daemontest.StartOn(t, state, disk))
	w.put(w.ada, "a.jpg", "before")
	disk.full.Store(true)
	if s := w.raw(fmt.Sprintf("PUT /v1/files/b.jpg?source=album HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", w.ada.Token)); s != 507 {
		t.Errorf("a full disk answered %d", s)
	}
	w.ask(w.ada, "PUT", "/v1/files/b.jpg?source=album", "more").is(t, "a full disk", 507, "full")
	w.ask(w.ada, "PUT", "/v1/files/c.jpg?source=album", "", "Repr-Digest", reprDigest("before")).is(t, "what is here needs no space", 200, "")
	w.ask(w.ada, "GET", "/v1/files/a.jpg", "").is(t, "read", 200, "")
	w.ask(w.ada, "DELETE", "/v1/files/a.jpg", "").is(t, "delete", 204, "")
	w.ask(w.ada, "GET", "/v1/items", "").is(t, "list", 200, "")
	disk.full.Store(false)
	w.ask(w.ada, "PUT", "/v1/files/b.jpg?source=album", "more").is(t, "room again", 201, "")
}

// R01: damaged bytes are never served as good, and sending the file again heals it.
func TestDamageIsNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := strings.Repeat("the bytes of a photo ", 5000)
	s := w.put(w.ada, "a.jpg", content)
	blob := filepath.Join(w.State, "blobs", s.SHA256[:2], s.SHA256)
	damage := func(change func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(blob)
		if err == nil {
			err = os.Remove(blob)
		}
		if err == nil {
			err = os.WriteFile(blob, change(b), 0o440)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	damage(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	resp, err := w.Client.Do(w.ada.Request("GET", "/v1/files/a.jpg", nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err == nil {
		t.Errorf("%d damaged bytes were served as good", len(got))
	}
	var known struct{ Known []string }
	w.ask(w.ada, "POST", "/v1/blobs/known", `{"sha256":["`+s.SHA256+`"]}`).into(t, &known)
	if len(known.Known) != 0 {
		t.Error("the damaged content is not asked for again")
	}
	w.ask(w.ada, "GET", "/v1/files/a.jpg", "", "Range", "bytes=0-9").is(t, "a part of what is known to be damaged", 500, "damaged")
	damage(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	w.ask(w.ada, "GET", "/v1/files/a.jpg", "", "Range", "bytes=0-9").is(t, "a part of what was mended by hand", 206, "")
	damage(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	if resp, err := w.Client.Do(w.ada.Request("GET", "/v1/files/a.jpg", nil)); err == nil {
		_, _ = io.ReadAll(resp.Body) // found damaged again
		resp.Body.Close()
	}
	if w.put(w.ada, "a.jpg", content); string(w.ask(w.ada, "GET", "/v1/files/a.jpg", "").body) != content {
		t.Error("sending the file again did not heal it")
	}
	damage(func([]byte) []byte { return nil })
	w.ask(w.ada, "GET", "/v1/files/a.jpg", "").is(t, "an emptied file", 500, "damaged")
}

// What the client declares counts, whatever the names say; what it does not
// declare is found by the names, the device's own before those on the box. R06
func TestSourceOfAPut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, tt := range []struct {
		target      string
		status      int
		source, how string
	}{
		{"Pictures/WeiXin/mmexport1598266474988.jpg?source=album", 201, "album", "declared"},
		{"Pictures/WeiXin/b.jpg?source=other", 201, "other", "declared"},
		{"Pictures/WeiXin/c.jpg", 403, "", ""},
		{"Pictures/WeiXin/d.jpg?source=auto", 403, "", ""},
		{"Pictures/WeiXin/e.jpg?source=", 403, "", ""},
		{"old/f.jpg?source_path=DCIM/Camera/f.jpg", 201, "album", "folder"},
		{"DCIM/g.jpg?source_path=%E5%BE%AE%E4%BF%A1%E5%9B%BE%E7%89%87_20260501123000.jpg", 403, "", ""},
		{"letter.pdf", 201, "other", "none"},
		{"x.jpg?source_path=a&source_path=b", 400, "", ""},
	} {
		a := w.ask(w.ada, "PUT", "/v1/files/"+tt.target, fmt.Sprint("content ", i))
		if a.status != tt.status {
			t.Errorf("%s: %d %s", tt.target, a.status, a.body)
			continue
		}
		if a.status != 201 {
			continue
		}
		var s stored
		a.into(t, &s)
		var item struct {
			Source   string
			SourceBy string `json:"source_by"`
		}
		w.ask(w.ada, "GET", "/v1/items/"+s.ID, "").into(t, &item)
		if item.Source != tt.source || item.SourceBy != tt.how {
			t.Errorf("%s is kept as %+v", tt.target, item)
		}
	}
}
