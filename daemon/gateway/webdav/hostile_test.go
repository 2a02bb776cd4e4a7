package webdav_test

import (
	"bufio"
	"crypto/tls"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/webdav"
)

var flood = flag.Int("flood", 500, "how many requests TestFloodOfLocks sends of each kind; 100000 takes minutes")

// bombs are XML that does not end, or would become large.
var bombs = map[string]*daemontest.Flood{
	"depth":      {Head: `<?xml version="1.0"?>`, Again: `<a>`},
	"attributes": {Head: `<propfind xmlns="DAV:"`, Again: ` a="b"`},
	"namespaces": {Head: `<propfind xmlns="DAV:"`, Again: ` xmlns:a="b"`},
	"elements":   {Head: `<propfind xmlns="DAV:"><prop>`, Again: `<a/>`},
	"a name":     {Head: `<`, Again: `aaaaaaaaaaaaaaaa`},
	"a text":     {Head: `<propfind xmlns="DAV:"><prop>`, Again: `a text without an end `},
	"a comment":  {Head: `<!--`, Again: ` comment`},
	"CDATA":      {Head: `<propfind xmlns="DAV:"><![CDATA[`, Again: `]]]`},
	"entities":   {Head: `<!DOCTYPE l [`, Again: `<!ENTITY a "&b;&b;&b;&b;">`},
	"spaces":     {Again: "        "},
}

// XML without an end is refused after a little of it, by whatever method it comes,
// and costs no memory. Not parallel: it looks at the heap.
func TestXMLWithoutEnd(t *testing.T) {
	b := daemontest.Start(t)
	w := &world{Box: b, t: t, ada: b.Bind()}
	w.ada.Grant("storage")
	w.do("PUT", "a.txt", "a").is(201)
	grown := daemontest.Grown(func() {
		for what, bomb := range bombs {
			for method, status := range map[string]int{"PROPFIND": 413, "PROPPATCH": 413, "LOCK": 413, "MKCOL": 415, "REPORT": 405, "SEARCH": 405} {
				if status != 413 && what != "depth" {
					continue // they read none
				}
				r := w.ada.Request(method, "/dav/a.txt", nil)
				r.Header.Set("Depth", "0")
				a := answer{t: t, what: method + " of XML with endless " + what}
				var body []byte
				a.status, a.header, body = w.ada.Refuse(t, r, &daemontest.Flood{Head: bomb.Head, Again: bomb.Again})
				a.body = string(body)
				a.refuses(status, map[int]string{413: "too-large", 415: "unsupported-media", 405: "method-not-allowed"}[status], "")
			}
		}
	})
	t.Logf("the heap grew by %d KiB", grown>>10)
	if grown > 16<<20 {
		t.Errorf("XML that is refused took %d MiB", grown>>20)
	}
	// One that says its length is refused by that.
	for _, method := range []string{"PROPFIND", "PROPPATCH", "LOCK"} {
		c, err := tls.Dial("tcp", strings.TrimPrefix(w.URL, "https://"), w.TLS())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "%s /dav/a.txt HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 10485760\r\n\r\n",
			method, strings.TrimPrefix(w.URL, "https://"), w.ada.Token)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 413 {
			t.Errorf("%s of 10 MiB: %s", method, resp.Status)
		}
	}
	w.holds("a.txt", "a")
	if got := w.do("PROPFIND", "a.txt", "", "Depth", "0").is(207).body; strings.Contains(got, "<d:activelock>") {
		t.Errorf("a refused LOCK holds: %s", got)
	}
}

// XML that fits is read without becoming more than it is: what a document declares
// is refused, whichever method it comes by, and nothing outside is looked at.
func TestXMLBombs(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	for what, doc := range map[string]string{
		"laughs":               `<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>%s&b;%s`,
		"a squared text":       `<!DOCTYPE l [<!ENTITY a "` + strings.Repeat("a", 50_000) + `">]>%s` + strings.Repeat("&a;", 10_000) + `%s`,
		"a file":               `<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>%s&a;%s`,
		"another server":       `<!DOCTYPE l [<!ENTITY a SYSTEM "` + w.URL + `/dav/a.txt">]>%s&a;%s`,
		"an outside DTD":       `<!DOCTYPE l SYSTEM "` + w.URL + `/dav/a.txt">%s%s`,
		"a parameter entity":   `<!DOCTYPE l [<!ENTITY %% p SYSTEM "file:///etc/passwd"> %%p;]>%s%s`,
		"an undeclared entity": `%s&a;%s`,
		"depth":                `%s` + strings.Repeat("<a>", 10_000) + strings.Repeat("</a>", 10_000) + `%s`,
		"attributes":           `%s<a` + strings.Repeat(` b=""`, 10_000) + `/>%s`,
		"many attributes":      `%s<a ` + attributes(5000) + `/>%s`,
		"elements":             `%s` + strings.Repeat("<a/>", 20_000) + `%s`,
	} {
		for method, around := range map[string][2]string{
			"PROPFIND":  {`<propfind xmlns="DAV:"><prop><x>`, `</x></prop></propfind>`},
			"PROPPATCH": {`<propertyupdate xmlns="DAV:"><set><prop><x xmlns="u">`, `</x></prop></set></propertyupdate>`},
			"LOCK":      {`<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype><owner>`, `</owner></lockinfo>`},
		} {
			a := w.do(method, "a.txt", fmt.Sprintf(doc, around[0], around[1]), "Depth", "0")
			a.what = method + " with " + what
			a.refuses(400, "invalid", "").lacks("root:")
		}
	}
	w.do("PUT", "a.txt", "b").is(204) // nothing holds it
	if got := w.do("PROPFIND", "a.txt", "", "Depth", "0").body; strings.Contains(got, `<x xmlns="u">`) {
		t.Errorf("a refused property is kept: %s", got)
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="" `, i)
	}
	return b.String()
}

// rows counts in the box's database, beside the box.
func (w *world) rows(query string, args ...any) (n int) {
	w.t.Helper()
	d, err := sql.Open("sqlite3", "file:"+filepath.Join(w.State, "box.db")+"?_busy_timeout=20000&mode=ro")
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	if err := d.QueryRow(query, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A flood of locks, refreshes and unlocks is refused in the words of the protocol.
// What it leaves in the database is bounded, ends, and hinders nobody else.
func TestFloodOfLocks(t *testing.T) {
	w := newWorld(t)
	others := []*daemontest.Person{w.bob, w.AddPerson("cleo")}
	for _, p := range others {
		p.Grant("storage")
	}
	w.do("MKCOL", "dir", "").is(201)
	held := w.locked("dir", "shared", "Depth", "0", "Timeout", "Second-3600")
	w.fillWithLocks(webdav.MaxLocks - 1)
	const locks = `SELECT count(*) FROM dav_lock`
	if n := w.rows(locks); n != webdav.MaxLocks {
		t.Fatalf("%d locks are kept", n)
	}
	shared, exclusive := fmt.Sprintf(lockInfo, "shared"), fmt.Sprintf(lockInfo, "exclusive")
	items := w.rows(`SELECT count(*) FROM item`)
	w.eachAnswer(*flood, func(i int) answer { return w.do("LOCK", fmt.Sprint("free", i), exclusive) }, func(a answer) { a.refuses(507, "quota", "") })
	w.eachAnswer(*flood, func(int) answer { return w.do("LOCK", "dir", shared, "Depth", "0") }, func(a answer) { a.refuses(507, "quota", "") })
	// Junk, one token and as many as a header may hold.
	junk := func(i int) string { return fmt.Sprintf("<urn:uuid:%032x>", i) }
	many := strings.Repeat("(<urn:junk>) ", 250)
	w.eachAnswer(*flood, func(i int) answer { return w.do("LOCK", "dir", "", "If", "("+junk(i)+")") }, func(a answer) { a.refuses(412, "precondition-failed", "") })
	w.eachAnswer(*flood, func(i int) answer { return w.do("UNLOCK", "dir", "", "Lock-Token", junk(i)) }, func(a answer) {
		a.refuses(409, "conflict", "lock-token-matches-request-uri")
	})
	w.eachAnswer(*flood/10, func(int) answer { return w.do("LOCK", "dir", "", "If", many) }, func(a answer) { a.refuses(412, "precondition-failed", "") })
	w.do("LOCK", "dir", "", "If", many+many).refuses(400, "invalid", "")
	w.do("UNLOCK", "dir", "", "Lock-Token", "<"+strings.Repeat("x", 10_000)+">").refuses(409, "conflict", "")
	if n := w.rows(locks); n != webdav.MaxLocks {
		t.Errorf("the flood made %d locks of %d", n, webdav.MaxLocks)
	}
	if n := w.rows(`SELECT count(*) FROM item`); n != items {
		t.Errorf("%d files became %d", items, n)
	}
	// Others have their own, and nobody ends another person's.
	for i, p := range others {
		a := w.as(p, "LOCK", "a.txt", exclusive).is(201)
		w.as(p, "LOCK", "a.txt", "", "If", "(<"+held+">)").refuses(412, "precondition-failed", "")
		w.as(p, "UNLOCK", "a.txt", "", "Lock-Token", "<"+held+">").refuses(409, "conflict", "")
		w.as(p, "PUT", "a.txt", fmt.Sprint(i)).refuses(423, "locked", "")
		w.as(p, "PUT", "a.txt", fmt.Sprint(i), "If", "("+a.header.Get("Lock-Token")+")").is(204)
	}
	w.do("LOCK", "dir", "", "If", "(<"+held+">)", "Timeout", "Second-60").is(200) // the honest one still can
	// All of them end, and their rows with the next that is taken.
	w.Pass(61 * time.Minute)
	w.do("LOCK", "dir", exclusive, "Depth", "0").is(200)
	if n := w.rows(locks); n != 1+len(others) {
		t.Errorf("%d locks are kept after their time", n)
	}
}

// fillWithLocks takes n locks on files below dir in a single transaction beside the
// box: the way by LOCK is that of TestManyLocks.
func (w *world) fillWithLocks(n int) {
	w.t.Helper()
	w.write(`WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?1)
INSERT INTO dav_lock (token, user, path, folder, infinite, shared, owner, expires)
SELECT 'urn:test:' || i.n, l.user, 'dir/' || i.n, 0, 0, 0, '', l.expires FROM i, dav_lock l WHERE l.path = 'dir'`, n)
}

// write changes the box's database beside the box.
func (w *world) write(query string, args ...any) {
	w.t.Helper()
	d, err := sql.Open("sqlite3", "file:"+filepath.Join(w.State, "box.db")+"?_busy_timeout=20000&_txlock=immediate&_foreign_keys=1")
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Exec(query, args...); err != nil {
		w.t.Fatal(err)
	}
}

// eachAnswer is each for requests whose answers are looked at.
func (w *world) eachAnswer(n int, request func(i int) answer, look func(answer)) {
	w.t.Helper()
	w.each(n, func(i int) answer {
		a := request(i)
		look(a)
		a.status = 200 // it was looked at
		return a
	})
}

// A large folder is listed page by page: ten times as many entries cost no more
// memory. Not parallel: it looks at the heap.
func TestListingIsFlat(t *testing.T) {
	b := daemontest.Start(t)
	w := &world{Box: b, t: t, ada: b.Bind()}
	w.ada.Grant("storage")
	list := func(folder string, want int) int64 {
		w.do("MKCOL", folder, "").is(201)
		w.do("PUT", folder+"/0", "x").is(201)
		w.write(`WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?1)
INSERT INTO item (user, folder, name, ref, size, mtime, added, source, device, seq)
SELECT it.user, it.folder, 'a file with a name ' || i.n, it.ref, it.size, it.mtime, it.added, it.source, it.device, it.seq
FROM i, item it JOIN folder f ON f.id = it.folder WHERE f.path = ?2`, want-1, folder)
		for _, depth := range []string{"infinity", ""} {
			r := w.ada.Request("PROPFIND", "/dav/"+folder, nil)
			if depth != "" {
				r.Header.Set("Depth", depth)
			}
			a := answer{t: t, what: "PROPFIND with Depth " + depth}
			var body []byte
			a.status, a.header, body = w.ada.Do(r)
			a.body = string(body)
			a.refuses(403, "forbidden", "propfind-finite-depth/>")
		}
		got := &counting{find: "<d:response>"}
		grown := daemontest.Grown(func() {
			r := w.ada.Request("PROPFIND", "/dav/"+folder, nil)
			r.Header.Set("Depth", "1")
			resp, err := b.Client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.CopyBuffer(struct{ io.Writer }{got}, resp.Body, make([]byte, 32<<10)); err != nil {
				t.Fatal(err)
			}
		})
		if got.n != want+1 { // and the folder itself
			t.Errorf("%d of %d are listed", got.n, want+1)
		}
		t.Logf("%d entries, %d KiB of answer, the heap grew by %d KiB", want, got.bytes>>10, grown>>10)
		return grown
	}
	few, many := list("few", 2000), list("many", 20_000)
	if many > few+8<<20 {
		t.Errorf("2,000 entries took %d KiB of memory, 20,000 took %d KiB", few>>10, many>>10)
	}
}

// counting counts a text in what is written to it.
type counting struct {
	find  string
	rest  string
	n     int
	bytes int64
}

// Write implements io.Writer.
func (c *counting) Write(p []byte) (int, error) {
	text := c.rest + string(p)
	c.n += strings.Count(text, c.find)
	c.rest = text[max(len(text)-len(c.find)+1, 0):]
	c.bytes += int64(len(p))
	return len(p), nil
}

// dotDots are the ways to write "..": as it is, encoded once and twice, as UTF-8
// that is too long, for servers that read a backslash, a semicolon or NUL their way.
var dotDots = []string{
	"..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "%252e%252e", "%25252e%25252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%f0%80%80%ae%f0%80%80%ae", "%uff0e%uff0e", "%u002e%u002e",
	"%ef%bc%8e%ef%bc%8e", "..;", "..;x=y", "%2e%2e;", "..%00", "%00..", "..%20", "..%09", "..%0d%0a", "...", "....", "..%5c..", "..%5c", "%5c..", "..\\..", "..%2f..", "..%2F", "%2f..", "..%252f..", "..%c0%af..", "..%u2215..", "..%ff",
}

// By no spelling of "..", and by no address of another place, does a file leave its
// person's own, or another's change.
func TestDestinationsInEveryEncoding(t *testing.T) {
	w := newWorld(t)
	w.bob.Grant("storage")
	w.as(w.bob, "PUT", "bobs.txt", "bob's").is(201)
	w.do("MKCOL", "dir", "").is(201)
	w.do("PUT", "dir/a.txt", "ada's").is(201)
	host := strings.TrimPrefix(w.URL, "https://")
	refused := map[string][]int{
		"https://127.0.0.2" + host[strings.LastIndexByte(host, ':'):] + "/dav/x": {502}, "https://127.0.0.1/dav/x": {502}, "http://127.0.0.1:80/dav/x": {502},
		"ftp://" + host + "/dav/x": {502}, "file://" + host + "/dav/x": {502}, "gopher://" + host + "/dav/x": {502}, "file:///dav/x": {400}, "javascript:/dav/x": {400}, "https:/dav/x": {400},
		"https://" + host + "@evil.example/dav/x": {502}, "https://evil.example#@" + host + "/dav/x": {502}, "https://evil.example?@" + host + "/dav/x": {502},
		"https://evil.example\\@" + host + "/dav/x": {400, 502}, "https://" + host + ".evil.example/dav/x": {400, 502}, "https://bob@" + host + "/remote.php/dav/files/bob/x": {403},
		w.URL + "/remote.php/dav/files/bob/x": {403}, w.URL + "/dav?x/../bob": {403}, w.URL + "/dav/#/bob/x": {403}, w.URL + "//dav/x": {403}, w.URL + "/%64av/x": {403}, w.URL + "/DAV/x": {403},
		w.URL + "/x/../dav/x": {403}, "\\dav\\x": {400}, "dav/x": {400}, "/dav/ x y": {201, 400},
	}
	for _, dots := range dotDots {
		for _, place := range []string{dots + "/x", "dir/" + dots + "/" + dots + "/bob/x", "dir/" + dots, dots + "/" + dots + "/" + dots + "/etc/passwd"} {
			refused[w.URL+"/dav/"+place] = nil // or it is a name like any other
			refused["/dav/"+place] = nil
		}
	}
	for destination, want := range refused {
		for _, method := range []string{"COPY", "MOVE"} {
			a := w.do(method, "dir/a.txt", "", "Destination", destination)
			ok := len(want) == 0 && (a.status == 201 || a.status == 400 || a.status == 403 || a.status == 409)
			for _, s := range want {
				ok = ok || a.status == s
			}
			if !ok {
				t.Errorf("%s to %q: %d, want %v: %s", method, destination, a.status, want, a.body)
			}
			if a.status != 201 {
				continue
			}
			made := strings.TrimPrefix(a.header.Get("Location"), "/dav/")
			for _, part := range strings.Split(made, "/") {
				if part == "" || part == ".." || part == "." {
					t.Errorf("%s to %q made %q", method, destination, made)
				}
			}
			w.holds(made, "ada's")
			if method == "MOVE" {
				w.do("MOVE", made, "", "Destination", w.to("dir/a.txt")).is(201)
			} else {
				w.do("DELETE", made, "").is(204)
			}
		}
	}
	w.holds("dir/a.txt", "ada's")
	var page struct {
		Items []struct{ Path, SHA256 string }
	}
	w.bob.Call("GET", "/v1/items?recursive=true&limit=1000", nil, &page)
	if len(page.Items) != 1 || page.Items[0].Path != "bobs.txt" {
		t.Errorf("bob has %+v", page.Items)
	}
	for _, harmless := range []string{"https://bob:secret@" + host + "/dav/ok1", w.URL + "/dav/ok2?../bob", w.URL + "/dav/ok3#/../bob"} {
		w.do("COPY", "dir/a.txt", "", "Destination", harmless).is(201) // what stands around the path means nothing
	}
	for _, name := range []string{"ok1", "ok2", "ok3"} {
		w.holds(name, "ada's")
	}
}
