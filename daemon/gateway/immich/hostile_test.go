package immich_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// kept fails if anything of an upload was kept, half or whole.
func (w *world) keptNothing() {
	w.t.Helper()
	var status struct{ Blobs, Uploads int }
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		w.Local("GET", "/local/status", nil, &status)
		if status.Uploads == 0 || time.Now().After(end) {
			break
		}
	}
	if all := w.items(w.ada); len(all) != 0 || status.Blobs != 0 || status.Uploads != 0 {
		w.t.Errorf("something was kept: %+v, %+v", all, status)
	}
}

// A form that does not end in one of its parts is refused after a little of it, costs
// no memory, and leaves nothing. Not parallel: it looks at the heap.
func TestFormsWithoutEnd(t *testing.T) {
	b := daemontest.Start(t)
	w := &world{Box: b, t: t, ada: b.Bind()}
	w.ada.Grant("storage", "album_backup")
	open := "--" + boundary + "\r\n"
	disposition := "Content-Disposition: form-data; name=\"x\"\r\n"
	whole := strings.TrimSuffix(form(field("fileCreatedAt", created), file("a.jpg", "abc")).String(), "--\r\n")
	grown := daemontest.Grown(func() {
		for what, f := range map[string]*daemontest.Flood{
			"a preamble":                    {Again: "a preamble\r\n"},
			"a preamble of almost marks":    {Again: "--" + boundary + "x\r\n"},
			"a line before the first part":  {Again: "xxxxxxxx"},
			"a header":                      {Head: open + "X: ", Again: "xxxxxxxx"},
			"a folded header":               {Head: open + "X: x\r\n", Again: "\tmore\r\n"},
			"many headers":                  {Head: open, Again: "X: y\r\n"},
			"a name of a header":            {Head: open, Again: "xxxxxxxx"},
			"a name of a file":              {Head: open + "Content-Disposition: form-data; name=\"assetData\"; filename=\"", Again: "xxxxxxxx"},
			"fields":                        {Again: open + disposition + "\r\nvalue\r\n"},
			"fields of one name":            {Again: open + "Content-Disposition: form-data; name=\"fileCreatedAt\"\r\n\r\n" + created + "\r\n"},
			"a field":                       {Head: open + disposition + "\r\n", Again: "xxxxxxxx"},
			"a field of almost marks":       {Head: open + disposition + "\r\n", Again: "\r\n--" + boundary[:len(boundary)-1]},
			"a form in a field":             {Head: open + disposition + "Content-Type: multipart/mixed; boundary=inner\r\n\r\n", Again: "--inner\r\n" + disposition + "\r\nx\r\n"},
			"fields after the file":         {Head: whole, Again: "\r\n" + disposition + "\r\nvalue\r\n--" + boundary},
			"an epilogue":                   {Head: whole + "--\r\n", Again: "xxxxxxxx"},
			"a file of no name":             {Head: open + "Content-Disposition: form-data; name=\"assetData\"; filename=\"\"\r\n\r\n", Again: "xxxxxxxx"},
			"a second file":                 {Head: whole + "\r\n" + strings.Replace(disposition, `"x"`, `"assetData"; filename="b.jpg"`, 1) + "\r\n", Again: "xxxxxxxx"},
			"a file that is larger than it": {Head: open + "Content-Disposition: form-data; name=\"fileSize\"\r\n\r\n3\r\n" + open + "Content-Disposition: form-data; name=\"assetData\"; filename=\"a.jpg\"\r\n\r\n", Again: "xxxxxxxx"},
		} {
			r := w.ada.Request("POST", "/api/assets", nil)
			r.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
			a := answer{t: t, what: what + " without an end"}
			a.status, a.header, a.body = w.ada.Refuse(t, r, f)
			switch a.status {
			case 400:
				a.refuses(400, "invalid")
			default:
				a.refuses(413, "too-large")
			}
		}
	})
	t.Logf("the heap grew by %d KiB", grown>>10)
	if grown > 16<<20 {
		t.Errorf("forms that are refused took %d MiB", grown>>20)
	}
	w.keptNothing()
	// A file may be as large as it likes, also one that nearly ends the form all the time.
	const size = 24 << 20
	again := "\r\n--" + boundary[:len(boundary)-1] + "\r\n"
	grown = daemontest.Grown(func() {
		content := io.LimitReader(&daemontest.Flood{Again: again}, size)
		w.post(w.ada, "?path=large.bin", io.MultiReader(strings.NewReader(open+"Content-Disposition: form-data; name=\"assetData\"; filename=\"a.jpg\"\r\n\r\n"),
			content, strings.NewReader("\r\n--"+boundary+"--\r\n"))).is(201)
	})
	t.Logf("the heap grew by %d KiB", grown>>10)
	if grown > 16<<20 {
		t.Errorf("a file of 24 MiB took %d MiB", grown>>20)
	}
	if it := w.items(w.ada)["large.bin"]; it.Size != size {
		t.Errorf("%+v", it)
	}
}

// A form that breaks off, wherever that is, leaves nothing; one that ends early with
// its request is told so.
func TestFormsThatBreakOff(t *testing.T) {
	w := newWorld(t)
	whole := form(field("fileCreatedAt", created), field("deviceId", "x"), file("a.jpg", strings.Repeat("bytes ", 20_000)), field("isFavorite", "false")).String()
	marks := []int{0, 1, 20, 60, strings.Index(whole, "assetData"), strings.Index(whole, "bytes") - 2, strings.Index(whole, "bytes"), len(whole) / 2,
		strings.LastIndex(whole, "bytes"), strings.Index(whole, "isFavorite") - 1, len(whole) - 40, len(whole) - 4, len(whole) - 3}
	for _, at := range marks {
		w.post(w.ada, "", strings.NewReader(whole[:at])).refuses(400, "invalid")
		c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /api/assets HTTP/1.1\r\nHost: %s\r\nx-api-key: %s\r\nContent-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n\r\n%s",
			strings.TrimPrefix(w.URL, "https://"), w.ada.Token, boundary, len(whole), whole[:at])
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.keptNothing()
	// Two requests in one: what follows the form is the next request, and no part of it.
	c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := fmt.Sprintf("POST /api/assets?path=%%s HTTP/1.1\r\nHost: %s\r\nx-api-key: %s\r\nContent-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n\r\n%%s",
		strings.TrimPrefix(w.URL, "https://"), w.ada.Token, boundary, len(whole))
	other := strings.ReplaceAll(whole, "bytes", "BYTES")
	go fmt.Fprintf(c, request+request, "one.jpg", whole, "two.jpg", other)
	answers := bufio.NewReader(c)
	for range 2 {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 201 {
			t.Errorf("%s, %v", resp.Status, err)
		}
	}
	w.holds("one.jpg", strings.Repeat("bytes ", 20_000))
	w.holds("two.jpg", strings.Repeat("BYTES ", 20_000))
}

// A form inside of a form is bytes: no part of it is a field or a file.
func TestFormsInForms(t *testing.T) {
	w := newWorld(t)
	inner := strings.ReplaceAll(form(field("fileCreatedAt", "1999-01-01T00:00:00.000Z"), file("inner.jpg", "inner")).String(), boundary, "inner")
	w.post(w.ada, "", form(field("fileCreatedAt", created), field("x", inner), file("a.jpg", inner))).is(201)
	w.holds("Photos/2021/02/a.jpg", inner)
	if all := w.items(w.ada); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	// With the same boundary it ends the outer one, which has said nothing of a file yet,
	// or has a second.
	same := form(field("fileCreatedAt", created), file("inner.jpg", "inner")).String()
	w.post(w.ada, "", form(file("b.jpg", "outer\r\n"+same))).refuses(400, "invalid")
	if all := w.items(w.ada); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}
