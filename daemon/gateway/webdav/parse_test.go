package webdav

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
)

func TestIfHeader(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   conditions // nil: refused
	}{
		{"", conditions{}},
		{"(<urn:a>)", conditions{{"", []condition{{token: "urn:a"}}}}},
		{` ( <urn:a>  ["x"] ) (Not <DAV:no-lock>)`, conditions{
			{"", []condition{{token: "urn:a"}, {etag: `"x"`}}}, {"", []condition{{not: true, token: "DAV:no-lock"}}}}},
		{`<http://h/a> (<urn:a>) (["x"]) <http://h/b> (not ["y"])`, conditions{
			{"http://h/a", []condition{{token: "urn:a"}}}, {"http://h/a", []condition{{etag: `"x"`}}},
			{"http://h/b", []condition{{not: true, etag: `"y"`}}}}},
		{`(Not<urn:a>)`, conditions{{"", []condition{{not: true, token: "urn:a"}}}}},
		{"()", nil}, {"(", nil}, {"(<a>", nil}, {"(<a)", nil}, {"<a>", nil}, {"<a> <b> (<c>)", nil}, {"<a", nil},
		{"(a)", nil}, {"([a])", nil}, {`(["a)`, nil}, {"(<>)", nil}, {"<> (<a>)", nil}, {"(Not)", nil}, {"(Not Not <a>)", nil}, {`(["x]"])`, nil}, {"garbage", nil},
		{"(<a>) garbage", nil}, {strings.Repeat("(<a>)", maxConditions+1), nil},
	} {
		got, err := parseIf(tt.header)
		if (err != nil) != (tt.want == nil) || err != nil && problem.KindOf(err) != problem.Invalid || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%.80s: %+v, %v; want %+v", tt.header, got, err, tt.want)
		}
	}
}

func TestConditions(t *testing.T) {
	held := state{etag: `"x"`, locks: []lock{{token: "urn:a"}, {token: "urn:b"}}}
	for header, want := range map[string]bool{
		"(<urn:a>)": true, "(<urn:c>)": false, "(<urn:a> <urn:b>)": true, "(<urn:a> <urn:c>)": false, "(<urn:c>) (<urn:b>)": true,
		`(["x"])`: true, `(["y"])`: false, `([W/"x"])`: false, `(Not ["y"])`: true, `(Not ["x"])`: false, `(<urn:a> ["y"])`: false,
		"(<DAV:no-lock>)": false, "(Not <DAV:no-lock>)": true,
	} {
		c, err := parseIf(header)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(c, func(l list) bool {
			return !slices.ContainsFunc(l.all, func(x condition) bool { return !held.meets(x) })
		})
		if got != want {
			t.Errorf("%s: %v", header, got)
		}
	}
	c, err := parseIf("(<urn:a> Not <urn:n>) </b> (<urn:b> <urn:a>)")
	if err != nil || fmt.Sprint(c.tokens()) != "[urn:a urn:b]" {
		t.Errorf("submitted: %v, %v", c.tokens(), err)
	}
}

// What is read can be written again and is read as the same.
func FuzzIfHeader(f *testing.F) {
	for _, s := range []string{"", "(<urn:a>)", `<http://h/a> (Not <urn:a> ["x"]) (<b>)`, "(Not<a>)", "(((", `(["`, "<", "(Not", "(<a> )\t(<b>)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseIf(s)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, l := range c {
			if l.resource != "" {
				b.WriteString("<" + l.resource + ">")
			}
			b.WriteString("(")
			for _, x := range l.all {
				if x.not {
					b.WriteString("Not ")
				}
				if x.token != "" {
					b.WriteString("<" + x.token + ">")
				} else {
					b.WriteString("[" + x.etag + "]")
				}
			}
			b.WriteString(")")
		}
		again, err := parseIf(b.String())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(c) {
			t.Fatalf("%q was read as %+v, and that as %+v, %v", s, c, again, err)
		}
	})
}

func TestXML(t *testing.T) {
	for doc, want := range map[string]string{ // "": refused
		`<a/>`:          `<a xmlns=""/>`,
		`<a xmlns=""/>`: `<a xmlns=""/>`,
		"\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- c --><d:a xmlns:d='DAV:'> x &amp; &#x4fe1;<d:b/></d:a>\n": `<d:a xmlns:d="DAV:"> x &amp; 信<d:b/></d:a>`,
		`<a xmlns="u"><b xmlns="v"><c xmlns="u"/></b><b/></a>`:                                                            `<a xmlns="u"><b xmlns="v"><c xmlns="u"/></b><b/></a>`,
		`<p:a xmlns:p="u"><p:a xmlns:p="v" p:x="1" y="2"/></p:a>`:                                                         `<p:a xmlns:p="u"><p:a xmlns:p="v" p:x="1" y="2"/></p:a>`,
		`<a xmlns:q="u" xml:lang="zh"><q:b/><q:c/></a>`:                                                                   `<a xmlns="" xml:lang="zh"><q:b xmlns:q="u"/><q:c xmlns:q="u"/></a>`,
		`<a><![CDATA[<b>]]></a>`:  `<a xmlns="">&lt;b&gt;</a>`,
		``:                        "",
		`text`:                    "",
		`<a>`:                     "",
		`</a>`:                    "",
		`<a></b>`:                 "",
		`<a/><b/>`:                "",
		`<a/>text`:                "",
		`<p:a/>`:                  "",
		`<a p:b="1"/>`:            "",
		`<a xmlns:p=""/>`:         "",
		`<p:a xmlns:p="u"></q:a>`: "",
		`<a b="1" b="2"/>`:        "",
		`<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="2"/>`: "",
		`<a xmlns:p="u" xmlns:p="v"/>`:                 "",
		`<a xmlns:xml="u"/>`:                           "",
		`<a:b:c xmlns:a="u"/>`:                         "",
		`<a>&b;</a>`:                                   "",
		"<a>\x01</a>":                                  "",
		"<a>\xff</a>":                                  "",
		`<!DOCTYPE a><a/>`:                             "",
		`<!DOCTYPE a [<!ENTITY b "bomb">]><a>&b;</a>`:  "",
		`<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>`: "",
		`<?xml version="1.0" encoding="utf-16"?><a/>`:  "",
		strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1): "",
		`<a xmlns:p="` + strings.Repeat("u", maxSpace+1) + `"/>`:               "",
		`<a xmlns="` + strings.Repeat("u", maxSpace+1) + `"/>`:                 "",
		`<a ` + strings.Repeat("u", maxLocal+1) + `="x"/>`:                     "",
		`<` + strings.Repeat("u", maxLocal+1) + `/>`:                           "",
		"<a>" + strings.Repeat("<b/>", maxElements) + "</a>":                   "",
	} {
		n, err := parseXML([]byte(doc))
		switch {
		case want == "":
			if err == nil {
				t.Errorf("%.80s was read as %s", doc, n)
			}
		case err != nil || n.String() != want:
			t.Errorf("%.80s: %v, %v; want %s", doc, n, err, want)
		}
	}
}

// names of all elements and attributes, and the texts, in their order.
func shape(n *node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q(", n.name)
	for _, a := range n.attrs {
		fmt.Fprintf(&b, "%q=%q ", a.name, a.value)
	}
	for _, p := range n.content {
		if p.node != nil {
			b.WriteString(shape(p.node))
		} else {
			b.WriteString(strings.ReplaceAll(fmt.Sprintf("%q", p.text), `""`, ""))
		}
	}
	b.WriteString(")")
	return b.String()
}

// What is kept means the same as what was sent, in the middle of any document.
func FuzzXML(f *testing.F) {
	for _, s := range []string{
		`<a xmlns="u" xmlns:p="v" p:x="&lt;"><p:b/>t<c xmlns=""/></a>`, `<d:a xmlns:d="DAV:" xml:lang="de">é</d:a>`, `<!DOCTYPE a><a/>`, `<a>&b;</a>`,
		`<a><p:b xmlns:p="u"><p:c xmlns:p="v"/><p:c/></p:b></a>`, "<a>\r\n\t</a>", `<xml:a xmlns:b="c"/>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		n, err := parseXML(doc)
		if err != nil {
			return
		}
		kept := n.String()
		again, err := parseXML([]byte(kept))
		if err != nil || shape(again) != shape(n) {
			t.Fatalf("%q was kept as %q: %v", doc, kept, err)
		}
		if again.String() != kept {
			t.Fatalf("%q changes when it is kept again: %q", kept, again)
		}
		inside, err := parseXML([]byte(`<d:x xmlns:d="DAV:" xmlns:p="other" xmlns:q="u">` + kept + `</d:x>`))
		if err != nil || shape(inside.elements()[0]) != shape(n) {
			t.Fatalf("%q means something else inside of a document: %v", kept, err)
		}
		if err := xml.NewDecoder(bytes.NewReader([]byte(kept))).Decode(new(struct{})); err != nil {
			t.Fatalf("%q: %v", kept, err)
		}
	})
}

func TestPaths(t *testing.T) {
	for target, want := range map[string]string{ // "-": refused
		"/dav": "", "/dav/": "", "/dav/a": "a", "/dav/a/": "a/", "/dav/a%20b/c": "a b/c", "/dav/e%CC%81": "é", "/dav/a%252Fb": "a%2Fb",
		"/dav/a%2Fb": "-", "/dav/..": "-", "/dav/a/../b": "-", "/dav/%2e%2e/b": "-", "/dav//a": "-", "/dav/a//": "-", "/dav/a%00": "-", "/dav/%ff": "-",
		"/dave": "-", "/": "-", "/dav/" + strings.Repeat("x", 256): "-",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		got, slash, err := pathOf(u, Prefix)
		if slash && got != "" {
			got += "/"
		}
		if (err != nil) != (want == "-") || err == nil && got != want {
			t.Errorf("%.80s: %q, %v", target, got, err)
		}
		if err == nil {
			back, err := url.Parse(hrefOf(Prefix, strings.TrimSuffix(got, "/"), slash))
			if err != nil {
				t.Fatal(err)
			}
			if p, _, err := pathOf(back, Prefix); err != nil || p != strings.TrimSuffix(got, "/") {
				t.Errorf("%s: the address %s leads to %q, %v", target, back, p, err)
			}
		}
	}
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		path, folder string
		want         bool
	}{
		{"a/b", "a", true}, {"a/b/c", "a", true}, {"ab", "a", false}, {"a", "a", false}, {"a", "", true}, {"", "", false}, {"a", "a/b", false},
	} {
		if within(tt.path, tt.folder) != tt.want {
			t.Errorf("%q within %q: %v", tt.path, tt.folder, !tt.want)
		}
	}
}

func TestTimeout(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": defaultTimeout, "Second-60": time.Minute, "second-1": time.Second, "Infinite": maxTimeout, "Infinite, Second-5": maxTimeout,
		"Extend, Second-5": 5 * time.Second, "Second-4100000000": maxTimeout, "Second-99999999999": defaultTimeout, "Second-0": defaultTimeout,
		"Second--5": defaultTimeout, "garbage": defaultTimeout,
	} {
		if got := parseTimeout(header); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

func TestModificationTimes(t *testing.T) {
	for text, want := range map[string]int64{
		"Fri, 13 Feb 2009 23:31:30 GMT": 1234567890000, "1234567890": 1234567890000, "1234567890.5": 1234567890500, "2009-02-13T23:31:30Z": 1234567890000,
		"": 0, "yesterday": 0, "-5": 0, "Fri, 13 Feb 1609 23:31:30 GMT": 0,
	} {
		got, err := parseTime(text)
		if (err != nil) != (want == 0) || err == nil && got.UnixMilli() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
