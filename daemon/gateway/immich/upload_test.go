package immich_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestUpload(t *testing.T) { // R01 R02
	w := newWorld(t)
	first, status := w.upload("IMG_0001.JPG", "one", field("fileSize", "3"), field("isFavorite", "false"))
	if status != "created" {
		t.Fatal(status)
	}
	w.holds("Photos/2021/02/IMG_0001.JPG", "one")
	it := w.items(w.ada)["Photos/2021/02/IMG_0001.JPG"]
	if it.Source != "album" || it.MTime != modified || it.Size != 3 {
		t.Errorf("%+v", it)
	}
	// The same again is known, under whatever name it comes.
	for _, name := range []string{"IMG_0001.JPG", "copy.jpg"} {
		if id, status := w.upload(name, "one"); id != first || status != "duplicate" {
			t.Errorf("%s: %s %s", name, id, status)
		}
	}
	// Other bytes of the same name are another photo.
	if id, status := w.upload("IMG_0001.JPG", "two"); id == first || status != "created" {
		t.Errorf("%s %s", id, status)
	}
	w.holds("Photos/2021/02/IMG_0001.JPG", "one")
	w.holds("Photos/2021/02/IMG_0001%20(2).JPG", "two")
	if all := w.items(w.ada); len(all) != 2 {
		t.Errorf("%+v", all)
	}
	// What others have is new to bob.
	w.full(w.bob).Grant("storage", "album_backup")
	w.post(w.bob, "", form(file("a.jpg", "one")), "x-immich-checksum", hexSum("one")).is(201)
}

// The parts come in any order: what is said after the file counts as well.
func TestFieldsOnEitherSide(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		content := fmt.Sprintf("%d of them", i)
		pieces := []piece{
			field("fileCreatedAt", created), field("fileModifiedAt", modified), field("fileSize", fmt.Sprint(len(content))),
			file("a.jpg", content), field("visibility", "timeline"), field("deviceAssetId", "a-1"),
		}
		pieces = slices.Concat(pieces[i:], pieces[:i])
		w.post(w.ada, "", form(pieces...)).is(201)
		name := "Photos/2021/02/a.jpg"
		if i > 0 {
			name = fmt.Sprintf("Photos/2021/02/a (%d).jpg", i+1)
		}
		if it := w.items(w.ada)[name]; it.MTime != modified || it.Size != int64(len(content)) {
			t.Errorf("%d: %+v", i, it)
		}
	}
	// The name may come by itself, too, and after the file; not a source.
	w.post(w.ada, "", form(file("blob", "named later"), field("filename", "later.jpg"), field("fileCreatedAt", created))).is(201)
	w.holds("Photos/2021/02/later.jpg", "named later")
	for _, late := range []piece{field("filename", "mmexport1598266474988.jpg"), field("source", "wechat"), field("sha256", strings.Repeat("1", 64))} {
		w.post(w.ada, "", form(file("x.jpg", "late "+late.name), late)).refuses(400, "invalid")
	}
	// Without any time it is today's.
	w.post(w.ada, "", form(file("now.jpg", "no time at all"))).is(201)
}

func TestSidecars(t *testing.T) {
	w := newWorld(t)
	when := field("fileCreatedAt", created)
	w.post(w.ada, "", form(when, file("a.jpg", "photo"), named("sidecarData", "a.xmp", "<one/>"))).is(201)
	w.holds("Photos/2021/02/a.jpg.xmp", "<one/>")
	w.post(w.ada, "", form(named("sidecarData", "whatever.xmp", "<two/>"), when, file("a.jpg", "another"))).is(201)
	w.holds("Photos/2021/02/a%20(2).jpg.xmp", "<two/>")
	// Again, with a sidecar that changed: the old one is kept.
	w.post(w.ada, "", form(when, file("a.jpg", "photo"), named("sidecarData", "a.xmp", "<three/>"))).is(200)
	w.holds("Photos/2021/02/a.jpg.xmp", "<one/>")
	w.holds("Photos/2021/02/a.jpg%20(2).xmp", "<three/>")
	before := len(w.items(w.ada))
	w.post(w.ada, "", form(when, file("a.jpg", "photo"), named("sidecarData", "a.xmp", "<three/>"))).is(200)
	if now := len(w.items(w.ada)); now != before {
		t.Errorf("%d files became %d", before, now)
	}
}

// R20: consent is asked before the bytes of the file are read, by what its name
// says; a yes to one thing is not a yes to another.
func TestConsentByName(t *testing.T) {
	w := newWorld(t)
	a := w.post(w.ada, "", form(file("mmexport1598266474988.jpg", "from a chat"))).refuses(403, "consent-required")
	if !strings.Contains(string(a.body), "/v1/consents/wechat_backup") {
		t.Errorf("%s", a.body)
	}
	w.post(w.bob, "", form(file("a.jpg", "bob's"))).refuses(403, "consent-required")
	w.post(w.ada, "", form(field("source", "qq"), file("a.jpg", "x"))).refuses(403, "consent-required")
	w.post(w.ada, "?source=facebook", form(file("a.jpg", "x"))).refuses(400, "invalid")
	// A sidecar needs what its name needs, too.
	w.post(w.ada, "", form(file("a.jpg", "x"), named("sidecarData", "mmexport1598266474988.jpg.xmp", "x"))).refuses(403, "consent-required")
	w.full(w.ada).Grant("wechat_backup")
	w.post(w.ada, "", form(field("fileCreatedAt", created), file("mmexport1598266474988.jpg", "from a chat"))).is(201)
	if it := w.items(w.ada)["Photos/2021/02/mmexport1598266474988.jpg"]; it.Source != "wechat" {
		t.Errorf("%+v", it)
	}
	// What is known already needs the consent it was kept under, too.
	w.full(w.ada).Withdraw("wechat_backup")
	w.post(w.ada, "", form(), "x-immich-checksum", hexSum("from a chat")).refuses(403, "consent-required")
	if all := w.items(w.ada); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

// A checksum in the header is judged before the body and held against it after.
func TestChecksum(t *testing.T) {
	w := newWorld(t)
	w.post(w.ada, "", form(file("a.jpg", "right")), "x-immich-checksum", base64Sum("wrong")).refuses(422, "mismatch")
	if len(w.items(w.ada)) != 0 {
		t.Error("it was kept")
	}
	w.post(w.ada, "", form(file("a.jpg", "right")), "x-immich-checksum", base64Sum("right")).is(201)
	for _, checksum := range []string{hexSum("right"), strings.ToUpper(hexSum("right")), base64Sum("right")} {
		var out struct{ Status string }
		w.post(w.ada, "", form(), "x-immich-checksum", checksum).is(200).into(&out) // there is no file in that form
		if out.Status != "duplicate" {
			t.Errorf("%+v", out)
		}
	}
	w.post(w.ada, "", form(file("a.jpg", "right")), "x-immich-checksum", "nonsense").refuses(400, "invalid")
}

// R06: what is refused, or known, costs no byte of the body.
func TestNothingIsSentInVain(t *testing.T) {
	w := newWorld(t)
	w.upload("a.jpg", "known")
	for what, c := range map[string]struct {
		head   string
		status int
	}{
		"known":           {"x-api-key: " + w.ada.Token + "\r\nx-immich-checksum: " + hexSum("known"), 200},
		"new":             {"x-api-key: " + w.ada.Token + "\r\nx-immich-checksum: " + hexSum("new"), 100},
		"a wrong key":     {"x-api-key: yb_wrong", 401},
		"no consent":      {"x-api-key: " + w.bob.Token, 403},
		"others' content": {"x-api-key: " + w.bob.Token + "\r\nx-immich-checksum: " + hexSum("known"), 403},
	} {
		c1, err := (&tls.Dialer{Config: w.TLS()}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.URL, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c1.Close()
		fmt.Fprintf(c1, "POST /api/assets HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n%s\r\n\r\n",
			strings.TrimPrefix(w.URL, "https://"), c.head)
		resp, err := http.ReadResponse(bufio.NewReader(c1), nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", what, resp.Status, c.status)
		}
	}
}

// Hostile and broken forms are refused, cost little, and leave nothing.
func TestHostileForms(t *testing.T) {
	w := newWorld(t)
	open := "--" + boundary + "\r\n"
	end := "\r\n--" + boundary + "--\r\n"
	disposition := "Content-Disposition: form-data; name=\"assetData\"; filename=\"a.jpg\"\r\n"
	for what, c := range map[string]struct {
		body string
		kind string
	}{
		"nothing":                    {"", "invalid"},
		"no file":                    {form(field("fileSize", "3")).String(), "invalid"},
		"not a form":                 {"hello", "invalid"},
		"no end":                     {open + disposition + "\r\nbytes", "invalid"},
		"no end after a part":        {open + disposition + "\r\nbytes\r\n--" + boundary, "invalid"},
		"the end of another form":    {open + disposition + "\r\nbytes\r\n--other--\r\n", "invalid"},
		"a header without an end":    {open + disposition, "invalid"},
		"a part without a name":      {open + "\r\nbytes" + end, "invalid"},
		"a part that is no field":    {open + "Content-Disposition: attachment; filename=x\r\n\r\nbytes" + end, "invalid"},
		"an encoded part":            {open + disposition + "Content-Transfer-Encoding: base64\r\n\r\nYQ==" + end, "invalid"},
		"two files":                  {form(file("a.jpg", "1"), file("b.jpg", "2")).String(), "invalid"},
		"two sidecars":               {form(named("sidecarData", "a", "1"), named("sidecarData", "b", "2"), file("a.jpg", "x")).String(), "invalid"},
		"a file as a field":          {form(field("assetData", "bytes")).String(), "invalid"},
		"a field as a file":          {form(named("fileSize", "a", "3"), file("a.jpg", "abc")).String(), "invalid"},
		"a size that is none":        {form(field("fileSize", "-1"), file("a.jpg", "abc")).String(), "invalid"},
		"a size beyond all":          {form(field("fileSize", "99999999999999999999"), file("a.jpg", "abc")).String(), "too-large"},
		"too few bytes":              {form(field("fileSize", "4"), file("a.jpg", "abc")).String(), "invalid"},
		"too many bytes":             {form(field("fileSize", "2"), file("a.jpg", "abc")).String(), "too-large"},
		"too few bytes, said later":  {form(file("a.jpg", "abc"), field("fileSize", "4")).String(), "invalid"},
		"too many bytes, said later": {form(file("a.jpg", "abc"), field("fileSize", "2")).String(), "too-large"},
		"two sizes":                  {form(field("fileSize", "3"), field("fileSize", "4"), file("a.jpg", "abc")).String(), "invalid"},
		"a time that is none":        {form(field("fileModifiedAt", "yesterday"), file("a.jpg", "abc")).String(), "invalid"},
		"a long field":               {form(field("metadata", strings.Repeat("x", 9<<10)), file("a.jpg", "abc")).String(), "too-large"},
		"a long header":              {open + "X: " + strings.Repeat("x", 1<<20) + "\r\n" + disposition + "\r\nabc" + end, "too-large"},
		"many headers":               {open + strings.Repeat("X: x\r\n", 100_000) + disposition + "\r\nabc" + end, "too-large"},
		"many fields":                {strings.Repeat(open+"Content-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n", 1000) + open + disposition + "\r\nabc" + end, "too-large"},
		"a long preamble":            {strings.Repeat("x\r\n", 1<<19) + open + disposition + "\r\nabc" + end, "too-large"},
		"a long epilogue":            {form(file("a.jpg", "abc")).String() + strings.Repeat("x", 1<<20), "too-large"},
		"a long name":                {form(file(strings.Repeat("x", 300), "abc")).String(), "invalid"},
		"no name":                    {open + "Content-Disposition: form-data; name=\"assetData\"; filename=\"\"\r\n\r\nabc" + end, "invalid"},
		"a path that climbs":         {form(file("../../etc/passwd", "abc")).String(), "invalid"},
		"a rooted path":              {form(file("/etc/passwd", "abc")).String(), "invalid"},
		"NUL in the name":            {form(file("a\x00.jpg", "abc")).String(), "invalid"},
		"a name turned around":       {form(file("a\u202egpj.exe", "abc")).String(), "invalid"},
		"a name that is no UTF-8":    {form(file("a\xff.jpg", "abc")).String(), "invalid"},
	} {
		status := map[string]int{"invalid": 400, "too-large": 413}[c.kind]
		a := w.post(w.ada, "", strings.NewReader(c.body))
		a.what = what
		a.refuses(status, c.kind)
	}
	for _, kind := range []string{"", "application/json", "multipart/mixed; boundary=x", "multipart/form-data; boundary", "image/jpeg"} {
		w.as(w.ada, "POST", "/api/assets", form(file("a.jpg", "abc")), "Content-Type", kind).refuses(415, "unsupported-media")
	}
	for _, kind := range []string{"multipart/form-data", "multipart/form-data; boundary=" + strings.Repeat("x", 71)} {
		w.as(w.ada, "POST", "/api/assets", form(file("a.jpg", "abc")), "Content-Type", kind).refuses(400, "invalid")
	}
	w.post(w.ada, "", form(file("a.jpg", "abc")), "Content-Encoding", "gzip").refuses(415, "unsupported-media")
	w.post(w.ada, "?path=a&path=b", form(file("a.jpg", "abc"))).refuses(400, "invalid")
	w.post(w.ada, "?sha256=zz", form(file("a.jpg", "abc"))).refuses(400, "invalid")
	if all := w.items(w.ada); len(all) != 0 {
		t.Errorf("something was kept: %+v", all)
	}
	var status struct{ Blobs, Uploads int }
	w.Local("GET", "/local/status", nil, &status)
	if status.Blobs != 0 || status.Uploads != 0 {
		t.Errorf("%+v", status)
	}
	// What follows the end of a form is nothing.
	body := form(field("fileCreatedAt", created), file("a.jpg", "abc")).String() + "an epilogue"
	w.post(w.ada, "", strings.NewReader("a preamble\r\n"+body)).is(201)
	w.holds("Photos/2021/02/a.jpg", "abc")
}

// A file that holds what looks like the form's own marks is kept as it is.
func TestFilesOfAnyBytes(t *testing.T) {
	w := newWorld(t)
	for i, content := range []string{
		"", "\r\n", "--", "--" + boundary[:len(boundary)-1], "\r\n--" + boundary[:10], strings.Repeat("\r\n--", 5000), "\r\n\r\n", strings.Repeat("x", 3<<20+1),
		"\n--" + boundary + "x", // not at the start of a line by the rules of forms
	} {
		name := fmt.Sprintf("%d.bin", i)
		w.post(w.ada, "", form(field("fileCreatedAt", created), file(name, content))).is(201)
		w.holds("Photos/2021/02/"+name, content)
	}
}

// Programs send several at a time: the same bytes twice are one photo, and other
// bytes of one name are all kept.
func TestAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	var running sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for i := range 24 {
		running.Go(func() {
			r := w.ada.Request("POST", "/api/assets", form(field("fileCreatedAt", created), file("a.jpg", fmt.Sprint("content ", i%6))))
			r.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
			resp, err := w.Client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			mu.Lock()
			defer mu.Unlock()
			count[resp.StatusCode]++
		})
	}
	running.Wait()
	if count[201] != 6 || count[200] != 18 {
		t.Errorf("%v", count)
	}
	sums := map[string]bool{}
	for _, it := range w.items(w.ada) {
		sums[it.SHA256] = true
	}
	if all := w.items(w.ada); len(all) != 6 || len(sums) != 6 {
		t.Errorf("%+v", all)
	}
}
