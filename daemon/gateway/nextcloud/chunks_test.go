package nextcloud_test

import (
	"crypto/sha1"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestChunks(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "film.mp4"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("MKCOL", uploads+"u", "", to...).is(405)
	w.lists("u", "")
	for i, part := range []string{"one ", "two ", "three "} {
		w.do("PUT", fmt.Sprintf("%su/%06d", uploads, i+1), part, to...).is(201)
		w.do("GET", files+"film.mp4", "").is(404)
	}
	w.lists("u", "000001:4 000002:4 000003:6", to...)
	// An answer that was lost: the same again is taken, and is there once.
	w.do("PUT", uploads+"u/000003", "three ", to...).is(204)
	w.do("PUT", uploads+"u/000001", "one ", to...).is(204)
	w.lists("u", "000001:4 000002:4 000003:6")
	w.do("PROPFIND", uploads+"u/000002", "", "Depth", "0").is(207)
	w.do("PROPFIND", uploads+"u/000004", "", "Depth", "0").is(404)
	for _, name := range []string{"abc", "-1", "+4", "4.0", ".file", "0x4", strings.Repeat("9", 30)} {
		if a := w.do("PUT", uploads+"u/"+name, "x"); a.status/100 != 4 {
			t.Errorf("a chunk named %s: %d", name, a.status)
		}
	}
	sum := sha1.Sum([]byte("one two three "))
	moved := w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Checksum", "SHA1:"+hash(sum[:]), "OC-Total-Length", "14", "X-OC-Mtime", "1600000000.5")...).is(201)
	if moved.header.Get("X-OC-Mtime") != "accepted" || moved.header.Get("OC-FileId") != w.prop(files+"film.mp4", oc, "id") {
		t.Errorf("%v", moved.header)
	}
	if got := w.do("GET", files+"film.mp4", ""); got.body != "one two three " || got.header.Get("ETag") != moved.header.Get("ETag") || got.header.Get("Last-Modified") != "Sun, 13 Sep 2020 12:26:40 GMT" {
		t.Errorf("%q, %v", got.body, got.header)
	}
	// Its answer may be lost, too. Else the folder is gone, and can be made anew.
	if again := w.do("MOVE", uploads+"u/.file", "", to...).is(204); again.header.Get("ETag") != moved.header.Get("ETag") || again.header.Get("OC-FileId") != moved.header.Get("OC-FileId") {
		t.Errorf("%v", again.header)
	}
	w.do("PROPFIND", uploads+"u", "").is(404)
	w.do("PUT", uploads+"u/000004", "x", to...).is(404)
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/1", "four", to...).is(201)
	w.do("MOVE", uploads+"u/.file", "", append(to, "If", "<"+w.URL+files+"film.mp4> ([\"other\"])")...).is(412)
	w.do("MOVE", uploads+"u/.file", "", append(to, "If", "<"+w.URL+files+"film.mp4> (["+moved.header.Get("ETag")+"])")...).is(204)
	if got := w.do("GET", files+"film.mp4", ""); got.body != "four" {
		t.Errorf("%q", got.body)
	}
}

func TestWrongChunksMakeNoFile(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	begin := func() {
		t.Helper()
		w.do("MKCOL", uploads+"u", "", to...).is(201)
		w.do("PUT", uploads+"u/1", "12345", to...).is(201)
		w.do("PUT", uploads+"u/2", "67890", to...).is(201)
	}
	begin()
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "11")...).is(400) // one is missing: it may come
	w.do("PUT", uploads+"u/3", "1", to...).is(201)
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Checksum", "SHA1:"+strings.Repeat("a", 40))...).is(400)
	w.do("PROPFIND", uploads+"u", "").is(404)
	begin()
	w.do("PUT", uploads+"u/1", "54321", to...).is(409) // another file under this name: both begin anew
	w.do("PROPFIND", uploads+"u", "").is(404)
	begin()
	w.do("PUT", uploads+"u/0", "x", to...).is(409)
	w.do("PROPFIND", uploads+"u", "").is(404)
	begin()
	w.do("DELETE", uploads+"u", "").is(204)
	w.do("MOVE", uploads+"u/.file", "", to...).is(404)
	w.do("MKCOL", uploads+"empty", "", to...).is(201)
	w.do("MOVE", uploads+"empty/.file", "", to...).is(400)
	w.do("MKCOL", uploads+"sized", "", append(to, "OC-Total-Length", "7")...).is(201)
	w.do("PUT", uploads+"sized/1", "12345678", to...).is(413)
	w.do("GET", files+"a.bin", "").is(404)
}

// Android names the folder by name, time and size of the file: two files can have
// the same.
func TestFoldersOfTwoFilesMayHaveOneName(t *testing.T) {
	w := newWorld(t)
	w.do("MKCOL", files+"x", "").is(201)
	w.do("MKCOL", files+"y", "").is(201)
	for _, f := range []string{"x", "y"} {
		w.do("MKCOL", uploads+"same", "", "Destination", files+f+"/burst.jpg").is(201)
	}
	for _, n := range []string{"1", "2"} {
		for _, f := range []string{"x", "y"} {
			w.do("PUT", uploads+"same/"+n, f+n, "Destination", files+f+"/burst.jpg").is(201)
		}
	}
	w.do("PUT", uploads+"same/3", "?").is(409) // whose is not said
	w.lists("same", "1:2 2:2", "Destination", files+"x/burst.jpg")
	// Android lists without saying which: it begins with the first chunk, and all is well.
	w.lists("same", "")
	w.do("PUT", uploads+"same/1", "x1", "Destination", files+"x/burst.jpg").is(204)
	w.lists("same", "1:2 2:2", "Destination", files+"x/burst.jpg")
	for _, f := range []string{"x", "y"} {
		w.do("MOVE", uploads+"same/.file", "", "Destination", files+f+"/burst.jpg").is(201)
		if got := w.do("GET", files+f+"/burst.jpg", "").body; got != f+"1"+f+"2" {
			t.Errorf("%s: %q", f, got)
		}
	}
}

// R02: half a chunk is never seen, whatever ends the connection, and neither is it
// after a restart.
func TestHalfAChunkIsNone(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/1", strings.Repeat("1", 100_000), to...).is(201)
	half := func() {
		t.Helper()
		c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT %su/2 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n%s",
			uploads, strings.TrimPrefix(w.URL, "https://"), w.ada.Token, strings.Repeat("x", 70_000))
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	half()
	w.lists("u", "1:100000")
	half()
	w.Restart()
	w.lists("u", "1:100000")
	half()
	w.Crash(nil)
	w.lists("u", "1:100000")
	w.do("PUT", uploads+"u/2", strings.Repeat("2", 100_000), to...).is(201)
	w.Crash(nil)
	w.lists("u", "1:100000 2:100000")
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "200000")...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != strings.Repeat("1", 100_000)+strings.Repeat("2", 100_000) {
		t.Errorf("%d bytes came back", len(got))
	}
}

// Chunks that are sent side by side are taken in their order.
func TestChunksWaitForTheirTurn(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	var want strings.Builder
	var sending sync.WaitGroup
	for n := 12; n >= 1; n-- { // the last one first; numbers, not texts, are in order
		sending.Go(func() { w.do("PUT", fmt.Sprintf("%su/%d", uploads, n), fmt.Sprintf("part %d ", n), to...).is(201) })
	}
	sending.Wait()
	for n := range 12 {
		fmt.Fprintf(&want, "part %d ", n+1)
	}
	w.do("MOVE", uploads+"u/.file", "", to...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != want.String() {
		t.Errorf("%q", got)
	}
	// The desktop's sixteen digits begin with 0.
	w.do("MKCOL", uploads+"v", "", to...).is(201)
	sending.Go(func() { w.do("PUT", uploads+"v/0000000000000001", "b", to...).is(201) })
	w.do("PUT", uploads+"v/0000000000000000", "a", to...).is(201)
	sending.Wait()
	w.do("MOVE", uploads+"v/.file", "", to...).is(204)
	if got := w.do("GET", files+"a.bin", "").body; got != "ab" {
		t.Errorf("%q", got)
	}
}

// R22: a name that says whose consent is needed comes last at the latest.
func TestChunksNeedConsent(t *testing.T) {
	w := newWorld(t)
	w.as(w.bob, "MKCOL", "/remote.php/dav/uploads/bob/u", "").is(403)
	w.as(w.bob, "MKCOL", "/remote.php/dav/uploads/bob/u", "", "Destination", "/remote.php/dav/files/bob/a.jpg").is(403)
	w.do("MKCOL", uploads+"u", "", "Destination", files+"WeiXin/a.jpg").is(403)
	w.do("MKCOL", files+"Pictures", "").is(201)
	w.do("MKCOL", uploads+"u", "").is(201) // it does not say where it goes
	w.do("PUT", uploads+"u/1", "x").is(201)
	refused := w.do("MOVE", uploads+"u/.file", "", "Destination", files+"Pictures/mmexport1598266474988.jpg").is(403)
	if !strings.Contains(refused.body, "wechat_backup") {
		t.Error(refused.body)
	}
	w.do("PROPFIND", uploads+"u", "").is(404) // nothing of it is kept
	w.do("MKCOL", uploads+"u", "").is(201)
	w.do("PUT", uploads+"u/1", "x").is(201)
	w.do("PUT", uploads+"u/3", "z").is(201) // set aside
	w.ada.Withdraw("storage")
	w.do("PUT", uploads+"u/2", "y").is(404) // it went with the consent, and what was set aside too
	w.do("MKCOL", uploads+"u", "", "Destination", files+"a.bin").is(403)
	staging := filepath.Join(w.State, "staging")
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		left, err := os.ReadDir(staging)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v are left", left)
		}
	}
	w.ada.Grant("storage")
	w.do("MKCOL", uploads+"v", "").is(201)
	w.do("PUT", uploads+"v/1", "x").is(201)
	w.do("MOVE", uploads+"v/.file", "", "Destination", files+"Pictures/IMG_20260501_123000.jpg").is(201)
	var list struct {
		Items []struct{ Path, Source string }
	}
	w.ada.Call("GET", "/v1/items?recursive=true", nil, &list)
	if len(list.Items) != 1 || list.Items[0].Source != "album" {
		t.Errorf("%+v", list)
	}
}

func TestUnfinishedFilesAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.do("MKCOL", fmt.Sprintf("%s%d", uploads, i), "", "Destination", fmt.Sprintf("%s%d.bin", files, i)).is(201)
	}
	w.do("MKCOL", uploads+"more", "").is(507)
	w.do("PROPFIND", uploads+"0", "").is(207)
	w.Pass(25 * time.Hour) // what nothing came for for a day makes room
	w.do("MKCOL", uploads+"more", "").is(201)
	n := 0
	for i := range 100 {
		if w.do("PROPFIND", fmt.Sprintf("%s%d", uploads, i), "").status == 207 {
			n++
		}
	}
	if n != 99 {
		t.Errorf("%d of 100 are left", n)
	}
	w.ada.SetQuota(10)
	w.do("PUT", uploads+"more/1", "123456").is(201)
	w.do("PUT", uploads+"more/2", "123456").is(507)
	w.do("MKCOL", uploads+"large", "", "OC-Total-Length", "11").is(507)
}
