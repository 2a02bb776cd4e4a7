package webdav_test

import (
	"net/url"
	"strings"
	"testing"
)

// A name is listed as its client wrote it, and found however it is written.
func TestSpellings(t *testing.T) {
	w := newWorld(t)
	const nfc, nfd = "caf\u00e9", "cafe\u0301"
	in, is := url.PathEscape(nfd), url.PathEscape(nfc)
	shows := func(folder, want string) {
		t.Helper()
		a := w.do("PROPFIND", folder, "", "Depth", "1").is(207)
		if !strings.Contains(a.body, "<d:href>/dav/"+want+"</d:href>") {
			t.Errorf("%s does not show %s: %s", folder, want, a.body)
		}
		if strings.Contains(a.body, "urn:yunbox:spelling") {
			t.Errorf("%s tells how the box keeps it", folder)
		}
	}
	w.do("PUT", in+".txt", "a").is(201)
	shows("", in+".txt")
	w.holds(is+".txt", "a")
	w.holds(in+".txt", "a")
	w.do("PUT", is+".txt", "b").is(204) // the same file; its name stays as it was made
	shows("", in+".txt")
	w.do("PROPFIND", is+".txt", "", "Depth", "0").is(207).has("<d:href>/dav/" + is + ".txt</d:href>")
	w.do("MKCOL", in, "").is(201)
	w.do("MKCOL", is, "").is(405)
	w.do("PUT", is+"/"+in+".txt", "c").is(201)
	shows("", in+"/")
	shows(in, in+"/"+in+".txt")
	shows(is, is+"/"+in+".txt") // whoever asks in one spelling gets that back
	// A copy of a folder keeps its names; the name that is said is written as it is said.
	w.do("COPY", in, "", "Destination", w.to("copy")).is(201)
	shows("copy", "copy/"+in+".txt")
	w.do("COPY", in+".txt", "", "Destination", w.to(is+"2.txt")).is(201)
	w.do("COPY", in+".txt", "", "Destination", w.to(in+"3.txt")).is(201)
	shows("", is+"2.txt")
	shows("", in+"3.txt")
	w.do("MOVE", in+"3.txt", "", "Destination", w.to("plain.txt")).is(201)
	shows("", "plain.txt")
	w.do("MOVE", "plain.txt", "", "Destination", w.to(in+"4.txt")).is(201)
	shows("", in+"4.txt")
	w.do("MOVE", is, "", "Destination", w.to("dir")).is(201)
	shows("", "dir/")
	w.do("MOVE", "dir", "", "Destination", w.to(in)).is(201)
	shows("", in+"/")
	token := w.locked(in+"5.txt", "exclusive")
	w.do("PUT", in+"5.txt", "x", "If", "(<"+token+">)").is(204)
	shows("", in+"5.txt")
	// Nobody sets it, and another name than that of the catalogue is never shown.
	w.do("PROPPATCH", in+".txt", `<propertyupdate xmlns="DAV:"><set><prop><evil xmlns="urn:yunbox:spelling">x</evil></prop></set></propertyupdate>`).is(207).has("403 Forbidden")
	shows("", in+".txt")
	w.Restart()
	shows("", in+".txt")
	w.do("DELETE", in+".txt", "").is(204)
	w.do("PUT", is+".txt", "new").is(201)
	shows("", is+".txt")
}
