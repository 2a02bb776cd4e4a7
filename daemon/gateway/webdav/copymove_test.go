package webdav_test

import (
	"fmt"
	"strings"
	"testing"
)

func (w *world) blobs() (n int64) {
	w.t.Helper()
	var status struct{ Blobs int64 }
	w.Local("GET", "/local/status", nil, &status)
	return status.Blobs
}

func TestCopyFile(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a", "X-OC-Mtime", "1234567890", "Yunbox-Source", "album").is(201)
	blobs := w.blobs()
	a := w.do("COPY", "a.txt", "", "Destination", w.to("b.txt")).is(201)
	if got := a.header.Get("Location"); got != "/dav/b.txt" {
		t.Errorf("it says that the copy is %q", got)
	}
	w.holds("b.txt", "a")
	w.holds("a.txt", "a")
	if got := w.do("HEAD", "b.txt", "").header.Get("Last-Modified"); got != "Fri, 13 Feb 2009 23:31:30 GMT" {
		t.Errorf("the copy is of %s", got)
	}
	if w.blobs() != blobs {
		t.Error("a copy took bytes")
	}
	var page struct{ Items []struct{ Path string } }
	w.ada.Call("GET", "/v1/items?recursive=true&source=album", nil, &page)
	if len(page.Items) != 2 {
		t.Errorf("the copy lost its source: %+v", page)
	}
	// What is replaced is kept as a version.
	w.do("PUT", "c.txt", "c").is(201)
	w.do("COPY", "a.txt", "", "Destination", w.to("c.txt"), "Overwrite", "F").refuses(412, "precondition-failed", "")
	w.holds("c.txt", "c")
	w.do("COPY", "a.txt", "", "Destination", w.to("c.txt"), "Overwrite", "T").is(204)
	w.holds("c.txt", "a")
	var list struct{ Versions []any }
	w.ada.Call("GET", "/v1/items/"+w.id("", "c.txt")+"/versions", nil, &list)
	if len(list.Versions) != 1 {
		t.Errorf("%+v", list)
	}
}

func TestMoveFile(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	w.do("PUT", "b.txt", "b").is(201)
	id := w.id("", "a.txt")
	w.do("MOVE", "a.txt", "", "Destination", w.to("b.txt"), "Overwrite", "F").refuses(412, "precondition-failed", "")
	w.do("MOVE", "a.txt", "", "Destination", w.to("b.txt"), "Depth", "0").refuses(400, "invalid", "")
	w.do("MOVE", "a.txt", "", "Destination", w.to("b.txt")).is(204)
	w.holds("b.txt", "a")
	w.lists("", "b.txt")
	if got := fmt.Sprint(w.trash()); got != "[b.txt]" {
		t.Errorf("the trash has %s", got)
	}
	if w.id("", "b.txt") != id {
		t.Error("it became another item")
	}
	w.do("MOVE", "b.txt", "", "Destination", "/dav/c.txt").is(201) // a path is enough
	w.do("MOVE", "c.txt", "", "Destination", w.to("no/such.txt")).refuses(409, "conflict", "")
	w.do("MOVE", "nothing", "", "Destination", w.to("d")).refuses(404, "not-found", "")
	w.lists("", "c.txt")
}

func TestDestinations(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	w.do("MKCOL", "dir", "").is(201)
	w.do("MKCOL", "dir/sub", "").is(201)
	for destination, want := range map[string]int{
		"":                                    400,
		"b.txt":                               400,
		"http://[":                            400,
		"https://elsewhere.example/dav/b.txt": 502,
		"https://elsewhere.example/":          502,
		"//elsewhere.example/dav/b.txt":       502,
		w.URL + "/v1/files/b.txt":             403,
		w.URL + "/remote.php/dav/files/b/x":   403,
		w.URL + "/davy/b.txt":                 403,
		w.URL + "/dav/":                       403,
		w.URL + "/dav":                        403,
		w.URL + "/dav/a.txt":                  403,
		w.URL + "/dav/../b.txt":               400,
		w.URL + "/dav/%2e%2e/b.txt":           400,
		w.URL + "/dav/x%2f..%2fb.txt":         400,
		w.URL + "/dav/a%00b":                  400,
		"/dav/" + strings.Repeat("x", 300):    400,
		"https://ada@" + w.URL[8:] + "/v1/x":  403,
		w.URL + "/dav/a.txt/below":            409,
		w.URL + "/dav/nothing/below":          409,
	} {
		for _, method := range []string{"MOVE", "COPY"} {
			if a := w.do(method, "a.txt", "", "Destination", destination); a.status != want {
				t.Errorf("%s to %.60s: %d, want %d: %s", method, destination, a.status, want, a.body)
			}
		}
	}
	w.lists("", "a.txt", "dir/")
	w.do("MOVE", "a.txt", "", "Destination", strings.ToUpper(w.URL)+"/dav/ok.txt").is(201)
	for _, method := range []string{"MOVE", "COPY"} {
		w.do(method, "dir", "", "Destination", w.to("dir/sub/dir")).refuses(403, "forbidden", "")
		w.do(method, "dir/sub", "", "Destination", w.to("dir")).refuses(403, "forbidden", "") // it would delete what it moves
		w.do(method, "", "", "Destination", w.to("dir/all")).refuses(403, "forbidden", "")
		w.do(method, "ok.txt", "", "Destination", w.to("b"), "Overwrite", "perhaps").refuses(400, "invalid", "")
		w.do(method, "dir", "", "Destination", w.to("b"), "Depth", "1").refuses(400, "invalid", "")
	}
	w.lists("dir/", "sub/")
}

// fill makes a tree of more entries than one transaction takes.
func (w *world) fill(root string) (files int) {
	w.t.Helper()
	w.do("MKCOL", root, "").is(201)
	for i := range 3 {
		dir := fmt.Sprintf("%s/d%d", root, i)
		w.do("MKCOL", dir, "").is(201)
		w.do("MKCOL", dir+"/empty", "").is(201)
		w.each(90, func(k int) answer { return w.do("PUT", fmt.Sprintf("%s/%d.txt", dir, k), fmt.Sprint(i, k)) })
		files += 90
	}
	w.do("PUT", root+"/top.txt", "top").is(201)
	return files + 1
}

func (w *world) countItems(folder string) int {
	w.t.Helper()
	var page struct{ Items []any }
	w.ada.Call("GET", "/v1/items?recursive=true&limit=1000&folder="+folder, nil, &page)
	return len(page.Items)
}

func TestCopyAndMoveFolders(t *testing.T) {
	w := newWorld(t)
	files := w.fill("tree")
	blobs := w.blobs()
	w.do("COPY", "tree", "", "Destination", w.to("copy")).is(201)
	if n := w.countItems("copy"); n != files || w.blobs() != blobs {
		t.Errorf("%d of %d files were copied, %d contents became %d", n, files, blobs, w.blobs())
	}
	w.holds("copy/d2/89.txt", "2 89")
	w.lists("copy/", "d0/", "d1/", "d2/", "top.txt")
	w.lists("copy/d1/empty/")
	w.do("COPY", "tree/", "", "Destination", w.to("flat/"), "Depth", "0").is(201)
	w.lists("flat/")
	// Replacing a folder puts what it held into the trash.
	w.do("COPY", "tree", "", "Destination", w.to("copy"), "Overwrite", "F").refuses(412, "precondition-failed", "")
	w.do("PUT", "copy/extra.txt", "extra").is(201)
	w.do("COPY", "tree", "", "Destination", w.to("copy")).is(204)
	w.do("GET", "copy/extra.txt", "").is(404)
	if n := w.countItems("copy"); n != files {
		t.Errorf("%d files", n)
	}
	if n := len(w.trash()); n != files+1 {
		t.Errorf("%d files are in the trash, want %d", n, files+1)
	}
	w.do("MOVE", "tree", "", "Destination", w.to("copy/d0")).is(204)
	w.do("PROPFIND", "tree", "", "Depth", "0").is(404)
	w.holds("copy/d0/d2/5.txt", "2 5")
	// Files and folders replace each other.
	w.do("PUT", "file", "f").is(201)
	w.do("MOVE", "file", "", "Destination", w.to("copy/d1")).is(204)
	w.holds("copy/d1", "f")
	w.do("COPY", "copy/d2", "", "Destination", w.to("copy/d1")).is(204)
	w.holds("copy/d1/5.txt", "2 5")
	w.do("COPY", "copy/top.txt", "", "Destination", w.to("copy/d1")).is(204)
	w.holds("copy/d1", "top")
}
