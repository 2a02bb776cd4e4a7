package webdav_test

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/webdav"
)

const set = `<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:" xmlns:x="urn:x">%s</D:propertyupdate>`

func (w *world) sets(path, props string) answer {
	w.t.Helper()
	return w.do("PROPPATCH", path, fmt.Sprintf(set, "<D:set><D:prop>"+props+"</D:prop></D:set>"))
}

// dead is a property of urn:x, "" if there is none.
func (w *world) dead(path, name string) string {
	w.t.Helper()
	value, _ := w.do("PROPFIND", path, "", "Depth", "0").members()[0].prop("urn:x", name)
	return value
}

func TestDeadProperties(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	w.do("MKCOL", "dir", "").is(201)
	for _, path := range []string{"a.txt", "dir", ""} {
		w.sets(path, `<x:a>one &lt; <x:b y="1"/> 微信</x:a>`).has("200 OK").lacks("40", "50")
		if got := w.dead(path, "a"); got != `one &lt; <x:b y="1"/> 微信` {
			t.Errorf("%q: %s", path, got)
		}
	}
	w.do("PROPPATCH", "nothing", fmt.Sprintf(set, `<D:set><D:prop><x:a/></D:prop></D:set>`)).refuses(404, "not-found", "")
	// They follow their file and folder wherever these go, and are the copy's own.
	w.do("PUT", "a.txt", "new content").is(204)
	w.do("COPY", "a.txt", "", "Destination", w.to("copy.txt")).is(201)
	w.sets("a.txt", `<x:a>two</x:a>`)
	w.do("MOVE", "a.txt", "", "Destination", w.to("dir/moved.txt")).is(201)
	w.do("COPY", "dir", "", "Destination", w.to("copies")).is(201)
	w.do("MOVE", "dir", "", "Destination", w.to("moved")).is(201)
	for path, want := range map[string]string{"copy.txt": "one", "moved/moved.txt": "two", "copies/moved.txt": "two", "moved": "one", "copies": "one"} {
		if got := w.dead(path, "a"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %s", path, got, want)
		}
	}
	// A copy over a file brings the properties of the original and no others.
	w.do("PUT", "plain.txt", "p").is(201)
	w.do("COPY", "plain.txt", "", "Destination", w.to("copy.txt")).is(204)
	if got := w.dead("copy.txt", "a"); got != "" {
		t.Errorf("the replaced file's property stayed: %s", got)
	}
	id := w.id("moved", "moved.txt")
	w.do("DELETE", "moved/moved.txt", "").is(204)
	w.ada.Call("POST", "/v1/items/"+id+"/restore", nil, nil)
	if got := w.dead("moved/moved.txt", "a"); got != "two" {
		t.Errorf("out of the trash: %s", got)
	}
	w.do("PROPPATCH", "moved/moved.txt", fmt.Sprintf(set, `<D:remove><D:prop><x:a/><x:never/></D:prop></D:remove>`)).has("200 OK").lacks("404")
	if got := w.dead("moved/moved.txt", "a"); got != "" {
		t.Errorf("removed, and it says %s", got)
	}
	// In the order in which they are given.
	w.do("PROPPATCH", "plain.txt", fmt.Sprintf(set, `<D:remove><D:prop><x:o/></D:prop></D:remove><D:set><D:prop><x:o>1</x:o></D:prop></D:set><D:set><D:prop><x:o>2</x:o></D:prop></D:set>`)).is(207)
	if got := w.dead("plain.txt", "o"); got != "2" {
		t.Errorf("the last one is %s", got)
	}
	// The language of where it stood is kept with it.
	w.do("PROPPATCH", "plain.txt", `<propertyupdate xmlns="DAV:" xml:lang="zh"><set><prop><l xmlns="urn:x">x</l></prop></set></propertyupdate>`).is(207)
	w.do("PROPFIND", "plain.txt", "", "Depth", "0").has(`<l xmlns="urn:x" xml:lang="zh">x</l>`)
}

// With its file or folder a property goes for good.
func TestPropertiesArePurged(t *testing.T) {
	w := newWorld(t)
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir/a.txt", "a").is(201)
	w.sets("dir", "<x:a>1</x:a>")
	w.sets("dir/a.txt", "<x:a>1</x:a><x:b>2</x:b>")
	w.sets("dir/a.txt", "<x:b>3</x:b>")
	id := w.id("dir", "a.txt")
	w.do("DELETE", "dir", "").is(204)
	count := func() (rows, bytes int64) {
		t.Helper()
		w.Stop()
		defer w.Restart()
		d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(w.State, "box.db")})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		err = d.Read(t.Context(), func(tx *db.Tx) error {
			return tx.QueryRow(`SELECT (SELECT count(*) FROM dav_property), (SELECT sum(bytes) FROM dav_usage)`).Scan(&rows, &bytes)
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows, bytes
	}
	if rows, bytes := count(); rows != 2 || bytes == 0 {
		t.Errorf("in the trash: %d, %d bytes", rows, bytes)
	}
	w.ada.Call("DELETE", "/v1/items/"+id, nil, nil)
	if rows, bytes := count(); rows != 0 || bytes != 0 {
		t.Errorf("after all is gone: %d, %d bytes", rows, bytes)
	}
}

// All instructions are followed, or none.
func TestProppatchIsAtomic(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	for _, protected := range []string{"getetag", "resourcetype", "displayname", "getcontentlength", "quota-used-bytes", "lockdiscovery"} {
		m := w.sets("a.txt", `<x:a>1</x:a><D:`+protected+`>x</D:`+protected+`><x:b>2</x:b>`).has("cannot-modify-protected-property").members()[0]
		_, bad := m.prop("DAV:", protected)
		_, first := m.prop("urn:x", "a")
		_, last := m.prop("urn:x", "b")
		if bad != "403 Forbidden" || first != "424 Failed Dependency" || last != first {
			t.Errorf("%s: %s, %s, %s", protected, bad, first, last)
		}
	}
	if w.dead("a.txt", "a") != "" {
		t.Error("half of a PROPPATCH was done")
	}
	for what, doc := range map[string]string{
		"no instruction": fmt.Sprintf(set, ""), "another root": `<x/>`, "no prop": fmt.Sprintf(set, "<D:set/>"), "no XML": "a=b", "nothing": "",
		"a document type": `<!DOCTYPE x>` + fmt.Sprintf(set, `<D:set><D:prop><x:a/></D:prop></D:set>`),
	} {
		if a := w.do("PROPPATCH", "a.txt", doc); a.status != 400 {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

// What clients keep is bounded.
func TestPropertyBounds(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	w.sets("a.txt", "<x:a>"+strings.Repeat("y", 17<<10)+"</x:a>").has("507 Insufficient Storage")
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, "<x:p%d/>", i)
	}
	w.sets("a.txt", many.String()).has("507 Insufficient Storage", "424 Failed Dependency").lacks("200 OK")
	w.sets("a.txt", strings.Replace(many.String(), "<x:p64/>", "", 1)).has("200 OK").lacks("507")
	w.sets("a.txt", "<x:p0>other</x:p0>").has("200 OK").lacks("507") // in the place of one
	w.sets("a.txt", "<x:one-more/>").has("507")
	w.do("PROPPATCH", "a.txt", fmt.Sprintf(set, "<D:set><D:prop><x:a>"+strings.Repeat("y", 200<<10)+"</x:a></D:prop></D:set>")).refuses(413, "too-large", "")
}

func TestPropfind(t *testing.T) {
	w := newWorld(t)
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir/a b&.jpg", "abc", "X-OC-Mtime", "1234567890").is(201)
	w.sets("dir/a%20b&.jpg", "<x:a>1</x:a>")
	m := w.do("PROPFIND", "dir/a%20b&.jpg", "", "Depth", "0").members()[0]
	for name, want := range map[string]string{
		"getetag": strings.ReplaceAll(etag("abc"), `"`, "&#34;"), "getcontentlength": "3", "getcontenttype": "image/jpeg", "getlastmodified": "Fri, 13 Feb 2009 23:31:30 GMT",
		"displayname": "a b&amp;.jpg", "resourcetype": "", "lockdiscovery": "",
	} {
		if got, status := m.prop("DAV:", name); got != want || status != "200 OK" {
			t.Errorf("%s: %q, %s; want %q", name, got, status, want)
		}
	}
	if got, _ := m.prop("DAV:", "supportedlock"); !strings.Contains(got, "exclusive") || !strings.Contains(got, "shared") {
		t.Error(got)
	}
	if got, _ := m.prop("DAV:", "creationdate"); !strings.HasPrefix(got, "20") {
		t.Error(got)
	}
	if _, status := m.prop("DAV:", "quota-used-bytes"); status != "" {
		t.Error("the quota is told to who did not ask")
	}
	if got, _ := w.do("PROPFIND", "dir", "", "Depth", "0").members()[0].prop("DAV:", "resourcetype"); got != "<d:collection/>" {
		t.Error(got)
	}
	if m.Href != "/dav/dir/a%20b&.jpg" {
		t.Error(m.Href)
	}
	// A named property that is not there is said to be missing.
	m = w.do("PROPFIND", "dir/a%20b&.jpg", `<d:propfind xmlns:d="DAV:" xmlns:x="urn:x"><d:prop><d:getetag/><x:a/><x:none/><d:nosuch/><nospace xmlns=""/></d:prop></d:propfind>`, "Depth", "0").members()[0]
	for _, tt := range []struct{ space, name, want string }{
		{"DAV:", "getetag", "200 OK"}, {"urn:x", "a", "200 OK"}, {"urn:x", "none", "404 Not Found"}, {"DAV:", "nosuch", "404 Not Found"},
		{"", "nospace", "404 Not Found"}, {"DAV:", "getcontentlength", ""},
	} {
		if _, status := m.prop(tt.space, tt.name); status != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, status, tt.want)
		}
	}
	m = w.do("PROPFIND", "dir/a%20b&.jpg", `<propfind xmlns="DAV:"><propname/></propfind>`, "Depth", "0").members()[0]
	if value, status := m.prop("DAV:", "getetag"); value != "" || status != "200 OK" {
		t.Errorf("propname: %q, %s", value, status)
	}
	if value, status := m.prop("urn:x", "a"); value != "" || status != "200 OK" {
		t.Errorf("propname: %q, %s", value, status)
	}
	m = w.do("PROPFIND", "dir", `<propfind xmlns="DAV:"><allprop/><include><quota-used-bytes/></include></propfind>`, "Depth", "0").members()[0]
	if got, _ := m.prop("DAV:", "quota-used-bytes"); got != "3" {
		t.Errorf("include: %q", got)
	}
	// A folder's tag changes with what is below it.
	before, _ := w.do("PROPFIND", "", "", "Depth", "0").members()[0].prop("DAV:", "getetag")
	w.do("PUT", "dir/b", "b").is(201)
	if after, _ := w.do("PROPFIND", "", "", "Depth", "0").members()[0].prop("DAV:", "getetag"); after == before {
		t.Error("the root's tag did not change with a file in a folder of it")
	}
}

func TestBadPropfinds(t *testing.T) {
	w := newWorld(t)
	w.do("PROPFIND", "nothing", "", "Depth", "0").refuses(404, "not-found", "")
	w.do("PROPFIND", "", "", "Depth", "infinity").refuses(403, "forbidden", "propfind-finite-depth/>")
	w.do("PROPFIND", "", "").refuses(403, "forbidden", "propfind-finite-depth/>") // no depth is infinity
	w.do("PROPFIND", "", "", "Depth", "2").refuses(400, "invalid", "")
	w.do("PUT", "a", "a").is(201)
	w.do("PROPFIND", "a", "").is(207) // a file has nothing below
	for what, doc := range map[string]string{
		"no XML": "x", "another root": `<prop xmlns="DAV:"/>`, "nothing asked": `<propfind xmlns="DAV:"/>`,
		"two questions": `<propfind xmlns="DAV:"><allprop/><propname/></propfind>`, "another namespace": `<propfind><allprop/></propfind>`,
		"an empty prefix":   `<D:propfind xmlns:D="DAV:"><D:prop><bar:foo xmlns:bar=""/></D:prop></D:propfind>`,
		"laughs":            `<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><propfind xmlns="DAV:"><prop><x>&b;</x></prop></propfind>`,
		"an outside entity": `<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><propfind xmlns="DAV:"><prop><x>&a;</x></prop></propfind>`,
		"too deep":          strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000),
		"too many":          `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<x/>", 5000) + `</prop></propfind>`,
		"UTF-16":            "\xff\xfe<\x00a\x00/\x00>\x00",
	} {
		if a := w.do("PROPFIND", "", doc, "Depth", "0"); a.status != 400 {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	w.do("PROPFIND", "", strings.Repeat(" ", 129<<10), "Depth", "0").refuses(413, "too-large", "")
}

// A folder of many entries is listed whole, each once.
func TestLongListing(t *testing.T) {
	w := newWorld(t)
	want := map[string]bool{}
	for i := range 230 {
		want[fmt.Sprintf("file %03d", i)] = true
		if i < 120 {
			want[fmt.Sprintf("folder %03d/", i)] = true
		}
	}
	w.each(230, func(i int) answer { return w.do("PUT", fmt.Sprintf("file%%20%03d", i), "same") })
	w.each(120, func(i int) answer { return w.do("MKCOL", fmt.Sprintf("folder%%20%03d", i), "") })
	w.sets("file%20150", "<x:a>here</x:a>")
	list := w.list("")
	for _, name := range list {
		if !want[name] {
			t.Errorf("%q is listed twice, or never was there", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
	n := 0
	for _, m := range w.do("PROPFIND", "", "", "Depth", "1").members() {
		if value, _ := m.prop("urn:x", "a"); value == "here" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d entries have the property of one", n)
	}
}

// No query reads a whole table, however many properties and locks there are.
func TestQueryPlans(t *testing.T) {
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "box.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	bad := regexp.MustCompile(`\bSCAN (p|l|s|dav_\w+|item|folder)\b|TEMP B-TREE`)
	err = d.Read(context.Background(), func(tx *db.Tx) error {
		for query, args := range webdav.Queries() {
			rows, err := tx.Query("EXPLAIN QUERY PLAN "+query, args...)
			if err != nil {
				return fmt.Errorf("%s: %w", query, err)
			}
			var plan []string
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					return err
				}
				plan = append(plan, detail)
			}
			rows.Close()
			if text := strings.Join(plan, "\n"); text == "" || bad.MatchString(text) {
				t.Errorf("%s\nreads or sorts too much:\n%s", query, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bad.MatchString("SCAN p") || bad.MatchString("SCAN json_each") {
		t.Error("this test cannot fail")
	}
}
