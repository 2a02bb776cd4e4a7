package daemon_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

type exportState struct {
	ID, State string
	Size      int64
	Missing   int64
}

// prepareExport asks for an export and waits until it can be fetched.
func prepareExport(t *testing.T, p *daemontest.Person, want string) (e exportState) {
	t.Helper()
	ask(p, "POST", "/v1/me/exports", want).is(t, "asking for an export", 202, "").into(t, &e)
	for e.State == "preparing" {
		time.Sleep(5 * time.Millisecond)
		ask(p, "GET", "/v1/me/exports/"+e.ID, "").is(t, "its state", 200, "").into(t, &e)
	}
	if e.State != "ready" {
		t.Fatalf("the export is %v", e)
	}
	return e
}

func fetchExport(t *testing.T, p *daemontest.Person, want string) (exportState, []byte) {
	t.Helper()
	e := prepareExport(t, p, want)
	r := ask(p, "GET", "/v1/me/exports/"+e.ID+"/archive", "").is(t, "the archive", 200, "")
	if int64(len(r.body)) != e.Size || r.header.Get("ETag") == "" {
		t.Fatalf("%d bytes came of %d", len(r.body), e.Size)
	}
	return e, r.body
}

// entries reads a whole archive.
func entries(t *testing.T, archive []byte) (files map[string]string, headers map[string]*tar.Header) {
	t.Helper()
	files, headers = map[string]string{}, map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if headers[h.Name] != nil {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name], headers[h.Name] = string(b), h
	}
}

var oddNames = []string{
	"plain.jpg", "照片/微信 图片.jpg", "نص/صورة.jpg", "Ελλάδα/é.jpg", `back\slash/a\nb.txt`, "sp ace/ lead and trail .txt", "emoji/👩‍👩‍👧‍👦.heic",
	strings.Repeat("long/", 40) + strings.Repeat("n", 250) + ".jpg", "a/b/c/d/e/f.bin", "-rf", "quote'\"/$HOME", "files/metadata/items.jsonl", "under_score/%41%2e.jpg", "ｆｕｌｌ/İstanbul.jpg",
}

func adasLibrary(t *testing.T, ada *daemontest.Person) map[string]string {
	t.Helper()
	want := map[string]string{}
	rng := rand.New(rand.NewPCG(1, 2))
	for i, name := range oddNames {
		content := make([]byte, []int{0, 1, 511, 512, 513, 70_000}[i%6]+i)
		for j := range content {
			content[j] = byte(rng.Uint32())
		}
		want[name] = string(content)
		at := ""
		if i%3 > 0 {
			at = fmt.Sprintf("&mtime=%d.%03d", 1500000000+i, i)
		}
		parts := strings.Split(name, "/")
		for j := range parts {
			parts[j] = url.PathEscape(parts[j])
		}
		if r := ask(ada, "PUT", "/v1/files/"+strings.Join(parts, "/")+"?source=album"+at, string(content)); r.status/100 != 2 {
			t.Fatalf("%q: %v", name, r)
		}
	}
	return want
}

// R26: everything in one archive, in open formats, that needs nothing of ours to be read
// and checked.
func TestExportHasEverythingAndChecks(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	want := adasLibrary(t, ada)
	put(t, ada, "changed.jpg", "first")
	put(t, ada, "changed.jpg", "second")
	want["changed.jpg"] = "second"
	put(t, ada, "rubbish.jpg", "in the trash")
	ask(ada, "DELETE", "/v1/files/rubbish.jpg", "").is(t, "trash", 204, "")
	if r := ask(ada, "MKCOL", "/dav/empty%20folder/", ""); r.status != 201 {
		t.Fatal(r)
	}
	bob := b.AddPerson("bob")
	bob.Grant("storage", "album_backup")
	put(t, bob, "bobs.jpg", "bob's own")

	_, archive := fetchExport(t, ada, `{"versions":true,"trash":true}`)
	files, headers := entries(t, archive)
	older, trash, holes := 0, 0, 0
	for name, content := range files {
		switch dir, path, _ := strings.Cut(name, "/"); dir {
		case "files":
			if headers[name].Typeflag == tar.TypeDir {
				continue
			}
			if want[path] != content {
				t.Errorf("%q holds something else", path)
			}
			delete(want, path)
		case "older":
			older++
			if content != "first" {
				t.Errorf("an older version is %q", content)
			}
		case "trash":
			trash++
			if content != "in the trash" || !strings.HasSuffix(name, "/rubbish.jpg") {
				t.Errorf("the trash has %q", name)
			}
		case "holes":
			holes++
		}
		if strings.Contains(name+content, "bob's own") || strings.Contains(content, bob.ID) && name != "metadata/record.jsonl" {
			t.Errorf("%s tells of bob", name)
		}
	}
	if len(want) > 0 || older != 1 || trash != 1 || holes != 0 || headers["files/empty folder/"] == nil {
		t.Errorf("missing %q; %d older, %d in the trash, %d holes", want, older, trash, holes)
	}
	if at := headers["files/照片/微信 图片.jpg"].ModTime; at.UnixMilli() != 1500000001001 {
		t.Errorf("a file's time is %v", at)
	}
	if len(strings.Trim(files["MISSING.jsonl"], "\n")) > 0 {
		t.Errorf("missing: %s", files["MISSING.jsonl"])
	}
	for name, part := range map[string]string{
		"metadata/account.jsonl": `"username":"ada"`, "metadata/consents.jsonl": `"jws":"ey`, "metadata/record.jsonl": `"action":"box.bind"`,
		"metadata/items.jsonl": `"source":"album"`, "metadata/changes.jsonl": `"change":"added"`, "README.txt": "yunboxctl import", "export.json": `"schema_version": "yunbox-export/1"`,
	} {
		if !strings.Contains(files[name], part) {
			t.Errorf("%s has no %s:\n%.300s", name, part, files[name])
		}
	}
	// Secrets and their hashes stay on the box.
	for _, secret := range []string{ada.Token, daemontest.Password, "argon2", hashOf(ada.Token)} {
		if bytes.Contains(archive, []byte(secret)) {
			t.Errorf("the archive has a secret")
		}
	}

	// What everybody has on their computer unpacks and checks it.
	dir := t.TempDir()
	for _, cmd := range []*exec.Cmd{exec.Command("tar", "-x", "-C", dir), exec.Command("sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS")} {
		cmd.Dir = dir
		if cmd.Args[0] == "tar" {
			cmd.Stdin = bytes.NewReader(archive)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%.600s", cmd.Args[0], err, out)
		}
	}
	if out, err := exec.Command("sh", "-c", "find "+filepath.Join(dir, "files")+" -type f | wc -l").Output(); err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(len(oddNames)+1) {
		t.Errorf("unpacked: %s files, %v", out, err)
	}
}

func hashOf(token string) string {
	s := sha256.Sum256([]byte(token))
	return hex.EncodeToString(s[:])
}

// R26: whatever part of the archive is asked for, by whatever reader, it is the same,
// also after a restart.
func TestExportGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	adasLibrary(t, ada)
	for i := range 270 { // more than one mark
		put(t, ada, fmt.Sprintf("many/%04d.jpg", i), fmt.Sprintf("photo %d", i))
	}
	e, whole := fetchExport(t, ada, `{"trash":true}`)
	where := "/v1/me/exports/" + e.ID + "/archive"
	tag := `"` + e.ID + `"`
	rng := rand.New(rand.NewPCG(3, 4))
	part := func(from, to int64) {
		t.Helper()
		r := ask(ada, "GET", where, "", "Range", fmt.Sprintf("bytes=%d-%d", from, to), "If-Range", tag)
		if r.status != 206 || !bytes.Equal(r.body, whole[from:min(to+1, e.Size)]) {
			t.Fatalf("bytes %d to %d of %d: %d, %d bytes, not the same", from, to, e.Size, r.status, len(r.body))
		}
	}
	for range 60 {
		from := rng.Int64N(e.Size)
		part(from, from+rng.Int64N(20_000))
	}
	part(e.Size-1, e.Size+100)
	part(0, 0)
	b.Restart()
	part(e.Size/2, e.Size)
	part(100, 100_000)
	if r := ask(ada, "GET", where, "", "Range", "bytes=10-", "If-Range", `"another"`); r.status != 200 || int64(len(r.body)) != e.Size {
		t.Errorf("another tag: %d, %d bytes", r.status, len(r.body))
	}
	if r := ask(ada, "GET", where, "", "Range", fmt.Sprintf("bytes=%d-", e.Size)); r.status != 416 {
		t.Errorf("behind the end: %v", r.status)
	}
	if r := ask(ada, "HEAD", where, ""); r.status != 200 || r.header.Get("Content-Length") != fmt.Sprint(e.Size) {
		t.Errorf("HEAD: %d %v", r.status, r.header)
	}
}

// R26 R27: what is deleted in between is missing, and the archive says so, as long as it was.
func TestExportSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	for _, name := range []string{"a.jpg", "b 照片.jpg", "c.jpg"} {
		put(t, ada, url.PathEscape(name), strings.Repeat(name, 1000))
	}
	put(t, ada, "d.jpg", strings.Repeat("d.jpg", 20_000))
	bob := b.AddPerson("bob")
	bob.Grant("storage", "album_backup")
	put(t, bob, "same.jpg", strings.Repeat("b 照片.jpg", 1000)) // the content stays on the disk
	e := prepareExport(t, ada, `{}`)
	var items struct{ Items []struct{ ID, Path string } }
	ask(ada, "GET", "/v1/items", "").is(t, "items", 200, "").into(t, &items)
	ask(ada, "DELETE", "/v1/files/"+url.PathEscape("b 照片.jpg"), "").is(t, "trash", 204, "")
	for _, i := range items.Items {
		if i.Path == "b 照片.jpg" {
			ask(ada, "DELETE", "/v1/items/"+i.ID, "").is(t, "for good", 204, "")
		}
	}
	spoiled := sumOf(strings.Repeat("d.jpg", 20_000))
	write(t, filepath.Join(b.State, "blobs", spoiled[:2], spoiled), []byte(strings.Repeat("e.jpg", 20_000)))
	where := "/v1/me/exports/" + e.ID + "/archive"
	r := ask(ada, "GET", where, "").is(t, "the archive", 200, "")
	files, _ := entries(t, r.body)
	if !strings.Contains(files["MISSING.jsonl"], `{"entry":"files/d.jpg","sha256":"`+spoiled+`","size":100000,"reason":"damaged"}`) {
		t.Errorf("nothing is said of the damaged one: %s", files["MISSING.jsonl"])
	}
	if files["files/a.jpg"] == "" || files["files/c.jpg"] == "" || files["files/b 照片.jpg"] != "" {
		t.Error("other files are missing than the one that was deleted")
	}
	if hole := files["holes/b 照片.jpg"]; strings.Trim(hole, "\x00") != "" || len(hole) != len(strings.Repeat("b 照片.jpg", 1000)) {
		t.Errorf("the hole has %d bytes", len(hole))
	}
	var missing struct{ Entry, Reason string }
	if err := json.NewDecoder(strings.NewReader(files["MISSING.jsonl"])).Decode(&missing); err != nil || missing.Entry != "files/b 照片.jpg" || missing.Reason != "deleted" {
		t.Errorf("MISSING.jsonl: %+v, %v", missing, err)
	}
	b.Restart()
	ask(ada, "GET", "/v1/me/exports/"+e.ID, "").is(t, "its state", 200, "").into(t, &e)
	if e.Missing != 2 {
		t.Errorf("after a restart it says that %d are missing", e.Missing)
	}
	// It is gone for good a week later, and another person's never was to be had.
	ask(bob, "GET", where, "").is(t, "bob", 404, "not-found")
	b.Pass(8 * 24 * time.Hour)
	ask(ada, "GET", where, "").is(t, "a week later", 404, "not-found")
	b.Restart()
	wait(t, "its list is there", func() bool { // the box clears away beside its start
		left, err := filepath.Glob(filepath.Join(b.State, "exports", "*"))
		return err == nil && len(left) == 0
	})
}

// R23 R26: the right to see and have everything rests on no consent.
func TestExportNeedsNoConsent(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	put(t, ada, "a.jpg", "a photo")
	ada.Withdraw("album_backup")
	ada.Withdraw("storage")
	_, archive := fetchExport(t, ada, `{}`)
	if files, _ := entries(t, archive); files["files/a.jpg"] != "a photo" {
		t.Error("the photo is not in the archive")
	}
	ask(ada, "GET", "/v1/me/data", "").is(t, "the view", 200, "")
	_, archive = fetchExport(t, ada, `{}`)
	if files, _ := entries(t, archive); strings.Count(files["metadata/record.jsonl"], `"export.fetch"`) != 1 {
		t.Errorf("the record of the first export: %s", files["metadata/record.jsonl"])
	}
	never := b.AddPerson("never")
	if files, _ := entries(t, second(fetchExport(t, never, `{}`))); !strings.Contains(files["metadata/account.jsonl"], "never") {
		t.Errorf("somebody who never accepted anything got %v", files)
	}
}

func second[A, B any](_ A, b B) B { return b }

// R26: one view of everything, by category, complete and nobody else's.
func TestWhatTheBoxHoldsAboutMe(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	for _, p := range []*daemontest.Person{ada, bob} {
		p.Grant("storage", "album_backup")
		for i := range 5 {
			put(t, p, fmt.Sprintf("%s's/%d.jpg", p.Name, i), fmt.Sprint(p.Name, i))
		}
		put(t, p, p.Name+"'s/0.jpg", "another")
		ask(p, "DELETE", "/v1/files/"+p.Name+"'s/1.jpg", "").is(t, "trash", 204, "")
		ask(p, "POST", "/v1/devices", `{"name":"`+p.Name+`'s phone","kind":"phone"}`).is(t, "device", 201, "")
		ask(p, "POST", "/v1/tokens", `{"name":"`+p.Name+`'s app","scope":"full"}`).is(t, "token", 201, "")
		ask(p, "POST", "/v1/tokens", `{"name":"`+p.Name+`'s camera","scope":"camera"}`).is(t, "token", 201, "")
		ask(p, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "9",
			"Upload-Metadata", "path "+b64(p.Name+"'s upload.jpg")+",source "+b64("album")).is(t, "upload", 201, "")
		ask(p, "LOCK", "/dav/"+p.Name+"'s/3.jpg", `<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>`, "Content-Type", "application/xml").is(t, "lock", 200, "")
		ask(p, "PROPPATCH", "/dav/"+p.Name+"'s/2.jpg", `<?xml version="1.0"?><propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">`+p.Name+`'s note</x></prop></set></propertyupdate>`, "Content-Type", "application/xml").is(t, "note", 207, "")
	}
	var view struct {
		Categories []struct {
			ID      string
			Records int64
			Bytes   int64
		}
		Places []struct{ Name string }
	}
	ask(ada, "GET", "/v1/me/data", "").is(t, "the view", 200, "").into(t, &view)
	if len(view.Categories) < 15 || len(view.Places) < 15 {
		t.Fatalf("%d categories, %d places", len(view.Categories), len(view.Places))
	}
	counts := map[string]int64{}
	for _, c := range view.Categories {
		counts[c.ID] = c.Records
		for _, limit := range []int{1, 3, 1000} {
			var all []string
			for cursor := ""; ; {
				var page struct {
					Records []json.RawMessage
					Next    *string
				}
				ask(ada, "GET", fmt.Sprintf("/v1/me/data/%s?limit=%d&cursor=%s", c.ID, limit, url.QueryEscape(cursor)), "").is(t, c.ID, 200, "").into(t, &page)
				for _, r := range page.Records {
					all = append(all, string(r))
				}
				if page.Next == nil {
					break
				}
				cursor = *page.Next
				if len(all) > 1000 {
					t.Fatalf("%s has no end", c.ID)
				}
			}
			seen := map[string]bool{}
			for _, r := range all {
				if seen[r] && c.ID != "sessions" {
					t.Errorf("%s, %d a page: twice %s", c.ID, limit, r)
				}
				seen[r] = true
				if strings.Contains(r, "bob") || strings.Contains(r, ada.Token) || strings.Contains(r, "argon2") {
					t.Errorf("%s tells %s", c.ID, r)
				}
			}
			if int64(len(all)) != c.Records {
				t.Errorf("%s, %d a page: %d records, counted %d", c.ID, limit, len(all), c.Records)
			}
		}
	}
	for id, least := range map[string]int64{
		"account": 1, "devices": 1, "sessions": 1, "tokens": 2, "consents": 4, "files": 4, "folders": 1, "versions": 1, "trash": 1,
		"offers": 0, "changes": 6, "uploads": 1, "properties": 1, "locks": 1, "record": 5,
	} {
		if counts[id] < least {
			t.Errorf("%s has %d records, at least %d were made", id, counts[id], least)
		}
	}
	for _, bad := range []string{"nothing", "files?cursor=x", "files?cursor=eyJ0IjowLCJrIjpbInMiXX0", "files?limit=0", "account?cursor=eyJ0Ijo5OX0"} {
		if r := ask(ada, "GET", "/v1/me/data/"+bad, ""); r.status != http.StatusNotFound && r.status != http.StatusBadRequest && r.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %v", bad, r)
		}
	}
}

// R26: what people call things, themselves included, and when things were, can be
// corrected; nobody else's can, and nothing is replaced by it.
func TestCorrections(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	ada.Grant("storage", "album_backup")
	put(t, ada, "wrong.jpg", "a photo")
	put(t, ada, "other.jpg", "another")
	var items struct {
		Items []struct{ ID, Path, MTime string }
	}
	ask(ada, "GET", "/v1/items", "").is(t, "items", 200, "").into(t, &items)
	id := items.Items[1].ID
	var token struct{ ID string }
	ask(ada, "POST", "/v1/tokens", `{"name":"wrong","scope":"camera"}`).is(t, "token", 201, "").into(t, &token)

	ask(ada, "PATCH", "/v1/items/"+id, `{"path":"DCIM/right 照片.jpg","mtime":"2020-02-29T12:00:00.5Z"}`).is(t, "a file", 200, "")
	r := ask(ada, "GET", "/v1/items/"+id, "").is(t, "the file", 200, "")
	if !strings.Contains(string(r.body), `"path":"DCIM/right 照片.jpg"`) || !strings.Contains(string(r.body), `"mtime":"2020-02-29T12:00:00.500Z"`) {
		t.Errorf("corrected: %v", r)
	}
	ask(ada, "PATCH", "/v1/items/"+id, `{"path":"other.jpg","mtime":"2021-01-01T00:00:00Z"}`).is(t, "a name that is taken", 409, "conflict")
	ask(ada, "PATCH", "/v1/items/"+id, `{"path":"fine.jpg","mtime":"1969-01-01T00:00:00Z"}`).is(t, "no time", 400, "invalid")
	ask(ada, "PATCH", "/v1/items/"+id, `{"path":"../fine.jpg"}`).is(t, "no path", 400, "invalid")
	if again := ask(ada, "GET", "/v1/items/"+id, ""); string(again.body) != string(r.body) {
		t.Errorf("what was refused did something: %v", again)
	}
	ask(ada, "PATCH", "/v1/tokens/"+token.ID, `{"name":"right"}`).is(t, "a token", 204, "")
	ask(ada, "PUT", "/v1/me/username", `{"username":"BOB"}`).is(t, "a name that is taken", 409, "conflict")
	ask(ada, "PUT", "/v1/me/username", `{"username":"Ada Lovelace"}`).is(t, "her name", 204, "")
	ask(ada, "GET", "/v1/me", "").is(t, "who", 200, "")
	if r := ask(ada, "GET", "/v1/me/data/account", ""); !strings.Contains(string(r.body), `"username":"Ada Lovelace","sign_in_name":"ada lovelace"`) {
		t.Errorf("who: %v", r)
	}
	if r := ask(ada, "GET", "/v1/me/data/tokens", ""); !strings.Contains(string(r.body), `"name":"right"`) {
		t.Errorf("the token: %v", r)
	}
	b.SignIn("ada lovelace")
	ask(bob, "PATCH", "/v1/items/"+id, `{"path":"mine.jpg"}`).is(t, "bob", 404, "not-found")
	ask(bob, "PATCH", "/v1/tokens/"+token.ID, `{"name":"mine"}`).is(t, "bob", 404, "not-found")
	if r := ask(ada, "POST", "/v1/session", `{"username":"ada","password":"`+daemontest.Password+`"}`); r.status != 401 {
		t.Errorf("the old name: %v", r)
	}
}
