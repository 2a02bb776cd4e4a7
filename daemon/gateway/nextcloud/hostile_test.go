package nextcloud_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// XML that does not end, or that makes more of itself than it is, is refused by
// every address of the protocol. REPORT and SEARCH, which other servers know, are not
// read at all.
func TestXMLBombs(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", files+"a.txt", "a").is(201)
	w.do("MKCOL", uploads+"u", "", "Destination", files+"b.txt").is(201)
	laughs := `<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]><o:filter-files xmlns:o="http://owncloud.org/ns">&b;</o:filter-files>`
	for _, path := range []string{files + "a.txt", files, "/remote.php/webdav/a.txt", uploads + "u", "/remote.php/dav", "/remote.php/dav/"} {
		for method, status := range map[string]int{"REPORT": 405, "SEARCH": 405, "PROPFIND": 413, "PROPPATCH": 413, "LOCK": 413} {
			switch {
			case strings.HasSuffix(path, "/dav") || strings.HasSuffix(path, "/dav/"):
				status = 405 // there is nothing at that address
			case strings.HasPrefix(path, uploads) && method != "PROPFIND":
				status = 405 // nor is a chunk a file
			case strings.HasPrefix(path, uploads):
				status = 207 // it tells all, whatever is asked
			}
			if method == "PROPFIND" || method == "REPORT" {
				r := w.ada.Request(method, path, nil)
				r.Header.Set("Depth", "0")
				got, _, body := w.ada.Refuse(t, r, &daemontest.Flood{Head: `<?xml version="1.0"?>`, Again: `<a b="c">`})
				if got != status {
					t.Errorf("%s %s without an end: %d, want %d: %s", method, path, got, status, body)
				}
			}
			if status == 413 {
				status = 400
			}
			a := w.do(method, path, laughs, "Depth", "0")
			if a.status != status || strings.Contains(a.body, "hahaha") {
				t.Errorf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
			}
		}
	}
	w.lists("u", "")
	w.do("PUT", files+"a.txt", "b").is(204)
}

// A folder of chunks belongs to one person and one file: the same name with another
// person, for the same file or another, is another folder.
func TestFoldersOfTwoPeopleMayHaveOneName(t *testing.T) {
	w := newWorld(t)
	w.bob.Grant("storage", "album_backup")
	bobs := func(path string) string { return strings.Replace(path, "/ada/", "/bob/", 1) }
	make2 := func(folder, name string) {
		t.Helper()
		w.do("MKCOL", uploads+folder, "", "Destination", files+name).is(201)
		w.as(w.bob, "MKCOL", bobs(uploads)+folder, "", "Destination", bobs(files)+name).is(201)
	}
	make2("same", "burst.jpg")
	make2("given up", "burst.jpg")
	for _, n := range []string{"1", "2"} {
		w.do("PUT", uploads+"same/"+n, "ada"+n, "Destination", files+"burst.jpg").is(201)
		w.as(w.bob, "PUT", bobs(uploads)+"same/"+n, "bob"+n, "Destination", bobs(files)+"burst.jpg").is(201)
	}
	w.do("DELETE", uploads+"given%20up", "").is(204)
	w.as(w.bob, "PROPFIND", bobs(uploads)+"given%20up", "", "Depth", "1").is(207)
	for _, user := range []string{"bob", "b%6fb", "BOB", "ada%2f..%2fbob", "..%2fbob", "%2e%2e", "bob%00", "ada%00bob", "ada;bob", "ada%5c..%5cbob", "b\u043eb"} {
		for _, prefix := range []string{"/remote.php/dav/files/", "/remote.php/dav/uploads/"} {
			w.do("MOVE", uploads+"same/.file", "", "Destination", prefix+user+"/burst.jpg").is(403)
		}
		if a := w.do("MOVE", "/remote.php/dav/uploads/"+user+"/same/.file", "", "Destination", files+"burst.jpg"); a.status/100 == 2 {
			t.Errorf("ada has the chunks of %q: %d %s", user, a.status, a.body)
		}
	}
	for _, path := range []string{"../bob/x", "%2e%2e/bob/x", ".%2e/bob/x", "..%2fbob/x", "./x", "%2e/x", "x/../../bob/x", "%c0%ae%c0%ae/bob/x", "a%00/x", "..%00/x"} {
		if a := w.do("MOVE", uploads+"same/.file", "", "Destination", files+path); a.status != 400 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"%252e%252e/bob/x", "..;/bob/x", "..%5cbob/x", "%ef%bc%8e%ef%bc%8e/bob/x", ".../x"} { // other names
		w.do("MOVE", uploads+"same/.file", "", "Destination", files+path).is(404) // no folder was made for those
	}
	for _, path := range []string{"%2e%2e/bob/same", "..%2fbob/same", "same/..%2f..%2fbob%2fsame", "same/%2e%2e"} {
		for _, method := range []string{"PUT", "PROPFIND", "DELETE", "MOVE"} {
			if a := w.do(method, uploads+path, "x", "Destination", files+"burst.jpg"); a.status/100 == 2 {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			}
		}
	}
	w.do("MOVE", uploads+"same/.file", "", "Destination", files+"burst.jpg").is(201)
	w.as(w.bob, "MOVE", bobs(uploads)+"same/.file", "", "Destination", bobs(files)+"burst.jpg").is(201)
	if got := w.do("GET", files+"burst.jpg", "").body; got != "ada1ada2" {
		t.Errorf("ada has %q", got)
	}
	if got := w.as(w.bob, "GET", bobs(files)+"burst.jpg", "").body; got != "bob1bob2" {
		t.Errorf("bob has %q", got)
	}
}

// One folder may be begun for two files; the chunks of one never get into the other,
// also if a chunk of each is on its way at the same moment.
func TestCollidingChunksAtOnce(t *testing.T) {
	w := newWorld(t)
	names := []string{"a.bin", "b.bin"}
	for _, n := range names {
		w.do("MKCOL", uploads+"same", "", "Destination", files+n).is(201)
	}
	done := make(chan error, len(names))
	for _, n := range names {
		requests := make([]func() error, 0, 4)
		for k := range 3 {
			r := w.ada.Request("PUT", fmt.Sprintf("%ssame/%d", uploads, k+1), strings.NewReader(strings.Repeat(n[:1], 200_000+k)))
			r.Header.Set("Destination", w.URL+files+n)
			requests = append(requests, func() error {
				resp, err := w.Client.Do(r)
				if err == nil {
					resp.Body.Close()
					if resp.StatusCode != 201 {
						err = fmt.Errorf("%s: %s", n, resp.Status)
					}
				}
				return err
			})
		}
		go func() {
			for _, send := range requests {
				if err := send(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range names {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		w.do("MOVE", uploads+"same/.file", "", "Destination", files+n, "OC-Total-Length", "600003").is(201)
		if got := w.do("GET", files+n, "").body; got != strings.Repeat(n[:1], 600_003) {
			t.Errorf("%s: %d bytes came back, or others'", n, len(got))
		}
	}
}

// Half a chunk that comes before its turn counts for nothing either, and no file is
// made without it.
func TestHalfAnEarlyChunkIsNone(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/1", strings.Repeat("1", 100_000), to...).is(201)
	c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "PUT %su/3 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n%s",
		uploads, strings.TrimPrefix(w.URL, "https://"), w.ada.Token, strings.Repeat("x", 70_000))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	w.lists("u", "1:100000")
	w.do("PUT", uploads+"u/2", strings.Repeat("2", 100_000), to...).is(201)
	w.lists("u", "1:100000 2:100000")
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "300000")...).is(400)
	w.do("GET", files+"a.bin", "").is(404)
	w.do("PUT", uploads+"u/3", strings.Repeat("3", 100_000), to...).is(201)
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "300000")...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != strings.Repeat("1", 100_000)+strings.Repeat("2", 100_000)+strings.Repeat("3", 100_000) {
		t.Errorf("%d bytes came back", len(got))
	}
}
