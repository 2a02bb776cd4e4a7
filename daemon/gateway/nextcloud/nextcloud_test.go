package nextcloud_test

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// world is a box with ada, who consented to what she needs, and bob.
type world struct {
	*daemontest.Box
	t        *testing.T
	ada, bob *daemontest.Person
}

func newWorld(t *testing.T) *world {
	t.Parallel()
	b := daemontest.Start(t)
	w := &world{Box: b, t: t, ada: b.Bind(), bob: b.AddPerson("bob")}
	w.ada.Grant("storage", "album_backup")
	return w
}

type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   string
}

const (
	files   = "/remote.php/dav/files/ada/"
	uploads = "/remote.php/dav/uploads/ada/"
)

// as sends a request. The extra are header names and values; a Destination is a
// path on the box.
func (w *world) as(p *daemontest.Person, method, path, body string, extra ...string) answer {
	w.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := p.Request(method, path, r)
	for i := 0; i < len(extra); i += 2 {
		v := extra[i+1]
		if extra[i] == "Destination" {
			v = w.URL + v
		}
		req.Header.Set(extra[i], v)
	}
	a := answer{t: w.t, what: method + " " + path}
	var b []byte
	a.status, a.header, b = p.Do(req)
	a.body = string(b)
	return a
}

func (w *world) do(method, path, body string, extra ...string) answer {
	w.t.Helper()
	return w.as(w.ada, method, path, body, extra...)
}

func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// prop asks for one property of a file or folder; "-": it has none.
func (w *world) prop(path, space, name string) string {
	w.t.Helper()
	a := w.do("PROPFIND", path, `<d:propfind xmlns:d="DAV:"><d:prop><p:`+name+` xmlns:p="`+space+`"/></d:prop></d:propfind>`, "Depth", "0").is(207)
	var doc struct {
		Stats []struct {
			Prop struct {
				Inner string `xml:",innerxml"`
			} `xml:"prop"`
			Status string `xml:"status"`
		} `xml:"response>propstat"`
	}
	if err := xml.Unmarshal([]byte(a.body), &doc); err != nil || len(doc.Stats) != 1 {
		w.t.Fatalf("%v in %s", err, a.body)
	}
	if !strings.Contains(doc.Stats[0].Status, " 200 ") {
		return "-"
	}
	inner := doc.Stats[0].Prop.Inner
	if strings.HasSuffix(inner, "/>") && strings.Count(inner, "<") == 1 {
		return ""
	}
	return inner[strings.IndexByte(inner, '>')+1 : strings.LastIndex(inner, "</")]
}

func TestStatusSaysAVersionThatClientsTake(t *testing.T) {
	w := newWorld(t)
	var s struct {
		Installed, Maintenance, NeedsDBUpgrade bool
		Version, VersionString, ProductName    string
	}
	if err := json.Unmarshal([]byte(w.as(w.Nobody(), "GET", "/status.php", "").is(200).body), &s); err != nil {
		t.Fatal(err)
	}
	major, _, _ := strings.Cut(s.Version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < 33 { // iOS lets the system upload from 33 on
		t.Errorf("the version is %q", s.Version)
	}
	if !s.Installed || s.Maintenance || s.NeedsDBUpgrade || !strings.HasPrefix(s.Version, s.VersionString) || s.ProductName == "" {
		t.Errorf("%+v", s)
	}
	w.as(w.Nobody(), "GET", "/index.php/204", "").is(204)
	for _, probe := range []string{"/.well-known/carddav", "/.well-known/webdav", "/index.php/core/preview?fileId=1", "/remote.php/dav/trashbin/ada/trash"} {
		w.do("GET", probe, "").is(404)
	}
	// Android asks so how to sign in, and whether a folder is there.
	for _, path := range []string{"/remote.php/dav", "/remote.php/dav/", files, "/remote.php/webdav/"} {
		if a := w.as(w.Nobody(), "HEAD", path, "").is(401); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: %v", path, a.header)
		}
		w.do("HEAD", path, "").is(200)
	}
	w.do("HEAD", files+"nowhere", "").is(404)
	w.do("PROPFIND", "/remote.php/dav/", "").is(405)
	w.do("GET", "/dav/", "").is(405)
}

func TestOCS(t *testing.T) {
	w := newWorld(t)
	w.ada.SetQuota(1000)
	type envelope struct {
		OCS struct {
			Meta struct {
				Status     string
				StatusCode int
			}
			Data json.RawMessage
		}
	}
	for path, code := range map[string]int{"/ocs/v1.php": 100, "/ocs/v2.php": 200} {
		var e envelope
		if err := json.Unmarshal([]byte(w.do("GET", path+"/cloud/user?format=json", "").is(200).body), &e); err != nil {
			t.Fatal(err)
		}
		var u struct {
			ID    string
			Quota struct{ Free, Used, Total, Quota int64 }
		}
		if err := json.Unmarshal(e.OCS.Data, &u); err != nil {
			t.Fatal(err)
		}
		if e.OCS.Meta.StatusCode != code || e.OCS.Meta.Status != "ok" || u.ID != "ada" || u.Quota.Quota != 1000 || u.Quota.Free != 1000 || u.Quota.Total != 1000 {
			t.Errorf("%s: %+v, %+v", path, e.OCS.Meta, u)
		}
		if err := json.Unmarshal([]byte(w.do("GET", path+"/cloud/capabilities", "", "Accept", "application/json").is(200).body), &e); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"chunking":"1.0"`, `"bigfilechunking":true`, `"supportedTypes":["SHA1","SHA256"]`, `"major":33`} {
			if !strings.Contains(string(e.OCS.Data), want) {
				t.Errorf("no %s in %s", want, e.OCS.Data)
			}
		}
		var doc struct {
			XMLName xml.Name `xml:"ocs"`
			Code    int      `xml:"meta>statuscode"`
			Chunks  string   `xml:"data>capabilities>dav>chunking"`
			Sums    []string `xml:"data>capabilities>checksums>supportedTypes>element"`
		}
		if err := xml.Unmarshal([]byte(w.do("GET", path+"/cloud/capabilities", "").is(200).body), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Code != code || doc.Chunks != "1.0" || len(doc.Sums) != 2 {
			t.Errorf("%+v", doc)
		}
		w.as(w.Nobody(), "GET", path+"/cloud/user", "").is(401)
		w.do("GET", path+"/cloud/users/ada", "").is(200)
		w.do("GET", path+"/cloud/users/bob", "").is(404)
	}
	w.do("GET", "/ocs/v2.php/core/getapppassword?format=json", "").is(403)
}

// Who signs out of an app ends its password, and no other.
func TestAppPasswordEndsItself(t *testing.T) {
	w := newWorld(t)
	var app struct{ Token string }
	w.ada.Call("POST", "/v1/tokens", map[string]any{"name": "app", "scope": "files"}, &app)
	phone := w.ada.With(app.Token)
	w.as(phone, "PROPFIND", files, "", "Depth", "0").is(207)
	w.as(phone, "DELETE", "/ocs/v2.php/core/apppassword", "").is(200)
	w.as(phone, "PROPFIND", files, "", "Depth", "0").is(401)
	w.do("DELETE", "/ocs/v2.php/core/apppassword", "").is(404) // a session is none
	w.do("PROPFIND", files, "", "Depth", "0").is(207)
}

const oc = "http://owncloud.org/ns"

func TestProperties(t *testing.T) {
	w := newWorld(t)
	w.do("MKCOL", files+"InstantUpload", "", "Yunbox-Source", "album").is(201)
	put := w.do("PUT", files+"InstantUpload/a.jpg", "one", "X-OC-Mtime", "1700000000.123").is(201)
	if put.header.Get("X-OC-Mtime") != "accepted" || put.header.Get("OC-ETag") != put.header.Get("ETag") {
		t.Errorf("%v", put.header)
	}
	at := files + "InstantUpload/a.jpg"
	id := w.prop(at, oc, "id")
	if fileid := w.prop(at, oc, "fileid"); !strings.HasPrefix(id, fileid+"oc") || put.header.Get("OC-FileId") != id {
		t.Errorf("id %s, fileid %s, %v", id, fileid, put.header)
	}
	for _, want := range [][4]string{
		{at, oc, "permissions", "GDNVW"}, {files + "InstantUpload/", oc, "permissions", "GDNVCK"}, {at, oc, "size", "3"}, {files, oc, "size", "-"},
		{at, oc, "owner-id", "ada"}, {at, "http://nextcloud.org/ns", "has-preview", "false"}, {at, oc, "favorite", "-"},
	} {
		if got := w.prop(want[0], want[1], want[2]); got != want[3] {
			t.Errorf("%s of %s: %q, want %q", want[2], want[0], got, want[3])
		}
	}
	// The same files from the other addresses, with addresses of the same kind.
	for prefix, status := range map[string]int{"/remote.php/webdav/": 207, "/remote.php/dav/files/ADA/": 207, "/dav/": 207} {
		a := w.do("PROPFIND", prefix+"InstantUpload", "", "Depth", "1").is(status)
		if !strings.Contains(a.body, "<d:href>"+prefix+"InstantUpload/a.jpg</d:href>") {
			t.Errorf("%s: %s", prefix, a.body)
		}
	}
	// Every folder above a change has another tag, no other has.
	tag := func(path string) string { return w.prop(path, "DAV:", "getetag") }
	w.do("MKCOL", files+"Other", "").is(201)
	root, folder, other := tag(files), tag(files+"InstantUpload"), tag(files+"Other")
	w.do("PUT", at, "two").is(204)
	if tag(files) == root || tag(files+"InstantUpload") == folder || tag(files+"Other") != other {
		t.Error("the tags of the folders do not follow the change")
	}
	// The id stays when the file moves.
	w.do("MOVE", at, "", "Destination", files+"Other/b.jpg").is(201)
	if got := w.prop(files+"Other/b.jpg", oc, "id"); got != id {
		t.Errorf("the id was %s, now it is %s", id, got)
	}
	// What the box decides about cannot be set; a favourite is the client's.
	set := func(name string) string {
		return w.do("PROPPATCH", files+"Other/b.jpg", `<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop><oc:`+name+` xmlns:oc="`+oc+`">1</oc:`+name+`></d:prop></d:set></d:propertyupdate>`).is(207).body
	}
	if body := set("fileid"); !strings.Contains(body, "403 Forbidden") {
		t.Error(body)
	}
	if set("favorite"); w.prop(files+"Other/b.jpg", oc, "favorite") != "1" {
		t.Error("a favourite is forgotten")
	}
	if got := w.prop("/dav/Other/b.jpg", oc, "fileid"); got != "-" {
		t.Errorf("plain WebDAV says %q", got)
	}
}

func hash(b []byte) string { return hex.EncodeToString(b) }

func TestChecksums(t *testing.T) {
	w := newWorld(t)
	body := "some bytes"
	s1, m := sha1.Sum([]byte(body)), md5.Sum([]byte(body))
	for sum, status := range map[string]int{
		"SHA1:" + hash(s1[:]): 201, "sha1:" + strings.ToUpper(hash(s1[:])): 201, "SHA1:" + strings.Repeat("0", 39) + "1": 400, "SHA1:xyz": 400,
		"SHA256:" + strings.Repeat("1", 64): 400, "MD5:" + hash(m[:]): 201, "MD5:" + strings.Repeat("1", 32): 201, "ADLER32:1": 201,
	} {
		name := files + hash([]byte(sum)) + ".txt"
		w.do("PUT", name, body, "OC-Checksum", sum).is(status)
		if status != 201 {
			w.do("GET", name, "").is(404)
		}
	}
	w.do("PUT", files+"sum.txt", body).is(201)
	for _, method := range []string{"GET", "HEAD"} {
		if got := w.do(method, files+"sum.txt", "").is(200).header.Get("OC-Checksum"); got != "SHA1:"+hash(s1[:]) {
			t.Errorf("%s: %s", method, got)
		}
	}
	w.do("PUT", files+"length.txt", body, "OC-Total-Length", "11").is(400)
	w.do("PUT", files+"length.txt", body, "OC-Total-Length", "10").is(201)
}

// R26: nobody reaches another person's files, chunks included.
func TestOthersAreRefused(t *testing.T) {
	w := newWorld(t)
	w.bob.Grant("storage", "album_backup")
	w.do("PUT", files+"a.txt", "ada's").is(201)
	w.do("MKCOL", uploads+"u", "", "Destination", files+"b.txt").is(201)
	for _, method := range []string{"GET", "PUT", "PROPFIND", "DELETE", "MKCOL", "MOVE"} {
		w.as(w.bob, method, files+"a.txt", "", "Destination", "/remote.php/dav/files/bob/x").is(403)
	}
	for _, path := range []string{"u", "u/00001", "u/.file"} {
		for _, method := range []string{"PUT", "PROPFIND", "DELETE", "MKCOL", "MOVE"} {
			w.as(w.bob, method, uploads+path, "", "Destination", "/remote.php/dav/files/bob/x").is(403)
		}
	}
	w.as(w.bob, "PROPFIND", "/remote.php/dav/uploads/bob/u", "").is(404)
	w.do("MOVE", files+"a.txt", "", "Destination", "/remote.php/dav/files/bob/a.txt").is(403)
	w.do("COPY", files+"a.txt", "", "Destination", "/remote.php/dav/files/bob/a.txt").is(403)
	w.do("MKCOL", uploads+"v", "", "Destination", "/remote.php/dav/files/bob/a.txt").is(403)
	w.do("MOVE", uploads+"u/.file", "", "Destination", "/remote.php/dav/files/bob/a.txt").is(403)
	w.do("MOVE", uploads+"u/.file", "", "Destination", "/etc/passwd").is(403)
	for _, bad := range []string{"/remote.php/dav/files/ada/%2e%2e/bob/x", "/remote.php/dav/files/ada/..%2fbob/x"} {
		if a := w.do("MKCOL", uploads+"v", "", "Destination", bad); a.status != 400 {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
	if a := w.do("GET", files+"a.txt", ""); a.body != "ada's" {
		t.Errorf("%+v", a)
	}
}

// chunkName finds a chunk in a listing.
var chunkName = regexp.MustCompile(`<d:href>` + uploads + `[^<]*/(\d+)</d:href>.*?<d:getcontentlength>(\d+)<`)

// chunks lists what is in a folder as "name:size".
func (w *world) chunks(folder string, extra ...string) (list []string) {
	w.t.Helper()
	for _, m := range chunkName.FindAllStringSubmatch(w.do("PROPFIND", uploads+folder, "", append(extra, "Depth", "1")...).is(207).body, -1) {
		list = append(list, m[1]+":"+m[2])
	}
	return list
}

func (w *world) lists(folder string, want string, extra ...string) {
	w.t.Helper()
	if got := fmt.Sprint(w.chunks(folder, extra...)); got != "["+want+"]" {
		w.t.Errorf("%s holds %s, want %s", folder, got, want)
	}
}
