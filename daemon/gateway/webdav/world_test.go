package webdav_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// world is a box with ada, who consented to what she needs, and bob, who did not.
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

// as sends a request to a path below /dav/, which is percent-encoded already. The
// extra are header names and values.
func (w *world) as(p *daemontest.Person, method, path, body string, extra ...string) answer {
	w.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := p.Request(method, "/dav/"+path, r)
	for i := 0; i < len(extra); i += 2 {
		req.Header.Set(extra[i], extra[i+1])
	}
	a := answer{t: w.t, what: method + " " + path}
	var b []byte
	a.status, a.header, b = p.Do(req)
	a.body = string(b)
	return a
}

// do is as for ada.
func (w *world) do(method, path, body string, extra ...string) answer {
	w.t.Helper()
	return w.as(w.ada, method, path, body, extra...)
}

// each runs n requests, some at a time, that must all succeed.
func (w *world) each(n int, request func(i int) answer) {
	w.t.Helper()
	var running sync.WaitGroup
	work := make(chan int)
	for range 8 {
		running.Go(func() {
			for i := range work {
				if a := request(i); a.status/100 != 2 {
					w.t.Errorf("%s: %d %s", a.what, a.status, a.body)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	running.Wait()
}

// to is the Destination header of a path.
func (w *world) to(path string) string { return w.URL + "/dav/" + path }

func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// refuses checks a refusal: its status, kind, the precondition of WebDAV if there
// is one, and that it tells a person what to do.
func (a answer) refuses(status int, kind, condition string) answer {
	a.t.Helper()
	a.is(status)
	var doc struct {
		XMLName xml.Name `xml:"DAV: error"`
		Message string   `xml:"http://sabredav.org/ns message"`
		Type    string   `xml:"urn:yunbox:problem type"`
		Hint    string   `xml:"urn:yunbox:problem hint"`
	}
	if err := xml.Unmarshal([]byte(a.body), &doc); err != nil {
		a.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
	if doc.Type != "urn:yunbox:problem:"+kind || doc.Message == "" || doc.Hint == "" {
		a.t.Errorf("%s: it should be %s with a hint: %s", a.what, kind, a.body)
	}
	if condition != "" && !strings.Contains(a.body, "<d:"+condition) {
		a.t.Errorf("%s: it should break %s: %s", a.what, condition, a.body)
	}
	return a
}

// has checks for a part of the body.
func (a answer) has(parts ...string) answer {
	a.t.Helper()
	for _, p := range parts {
		if !strings.Contains(a.body, p) {
			a.t.Errorf("%s: it lacks %s: %s", a.what, p, a.body)
		}
	}
	return a
}

func (a answer) lacks(parts ...string) answer {
	a.t.Helper()
	for _, p := range parts {
		if strings.Contains(a.body, p) {
			a.t.Errorf("%s: it has %s: %s", a.what, p, a.body)
		}
	}
	return a
}

// holds checks the bytes of a file.
func (w *world) holds(path, body string) {
	w.t.Helper()
	if a := w.do("GET", path, "").is(200); a.body != body {
		w.t.Errorf("%s holds %.60q, want %.60q", path, a.body, body)
	}
}

// A member is a response of a multistatus.
type member struct {
	Href      string `xml:"href"`
	Propstats []struct {
		Status string `xml:"status"`
		Props  struct {
			All []struct {
				XMLName xml.Name
				Inner   string `xml:",innerxml"`
			} `xml:",any"`
		} `xml:"prop"`
	} `xml:"propstat"`
}

// prop is the inner XML of a property and the status that it came with; "" for
// both if it was not mentioned.
func (m member) prop(space, local string) (inner, status string) {
	for _, s := range m.Propstats {
		for _, p := range s.Props.All {
			if p.XMLName == (xml.Name{Space: space, Local: local}) {
				return p.Inner, strings.TrimPrefix(s.Status, "HTTP/1.1 ")
			}
		}
	}
	return "", ""
}

func (a answer) members() []member {
	a.t.Helper()
	a.is(207)
	var doc struct {
		XMLName   xml.Name `xml:"DAV: multistatus"`
		Responses []member `xml:"response"`
	}
	if err := xml.Unmarshal([]byte(a.body), &doc); err != nil {
		a.t.Fatalf("%s: %v in %.2000s", a.what, err, a.body)
	}
	return doc.Responses
}

// list is what a folder has, by the names in hrefs.
func (w *world) list(path string) (names []string) {
	w.t.Helper()
	all := w.do("PROPFIND", path, "", "Depth", "1").members()
	for _, m := range all[1:] {
		name, err := url.PathUnescape(strings.TrimPrefix(m.Href, all[0].Href))
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w *world) lists(path string, want ...string) {
	w.t.Helper()
	if got := w.list(path); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%q has %q, want %q", path, got, want)
	}
}

const lockInfo = `<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:%s/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner><D:href>Ada &amp; her laptop</D:href></D:owner></D:lockinfo>`

// locked takes a lock and returns its token.
func (w *world) locked(path, scope string, extra ...string) string {
	w.t.Helper()
	a := w.do("LOCK", path, fmt.Sprintf(lockInfo, scope), extra...)
	if a.status/100 != 2 {
		w.t.Fatalf("LOCK %s: %d %s", path, a.status, a.body)
	}
	return strings.Trim(a.header.Get("Lock-Token"), "<>")
}

// trash lists where the files in ada's trash were.
func (w *world) trash() (paths []string) {
	w.t.Helper()
	var page struct{ Items []struct{ ID, Path string } }
	w.ada.Call("GET", "/v1/items?trash=true&limit=1000", nil, &page)
	for _, i := range page.Items {
		paths = append(paths, i.Path)
	}
	slices.Sort(paths)
	return paths
}

// id is the item of a path.
func (w *world) id(folder, name string) string {
	w.t.Helper()
	var page struct{ Items []struct{ ID, Name string } }
	w.ada.Call("GET", "/v1/items?limit=1000&folder="+url.QueryEscape(folder), nil, &page)
	for _, i := range page.Items {
		if i.Name == name {
			return i.ID
		}
	}
	w.t.Fatalf("%s/%s is not there", folder, name)
	return ""
}
