package webdav_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/gateway/webdav"
)

func TestExclusiveLock(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	token := w.locked("a.txt", "exclusive")
	open := "(<" + token + ">)"
	const patch = `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="u">y</x></prop></set></propertyupdate>`
	w.do("PUT", "a.txt", "b").refuses(423, "locked", "lock-token-submitted><d:href>/dav/a.txt").has("<y:lock_owner>Ada &amp; her laptop</y:lock_owner>")
	w.do("DELETE", "a.txt", "").refuses(423, "locked", "lock-token-submitted")
	w.do("PROPPATCH", "a.txt", patch).refuses(423, "locked", "lock-token-submitted")
	w.do("MOVE", "a.txt", "", "Destination", w.to("b.txt")).refuses(423, "locked", "lock-token-submitted")
	w.do("PUT", "c.txt", "c").is(201)
	w.do("MOVE", "c.txt", "", "Destination", w.to("a.txt")).refuses(423, "locked", "lock-token-submitted")
	w.do("COPY", "c.txt", "", "Destination", w.to("a.txt")).refuses(423, "locked", "lock-token-submitted")
	for _, scope := range []string{"exclusive", "shared"} {
		w.do("LOCK", "a.txt", fmt.Sprintf(lockInfo, scope)).refuses(423, "locked", "no-conflicting-lock")
	}
	// Reading needs no token, nor does copying from it.
	w.holds("a.txt", "a")
	w.do("COPY", "a.txt", "", "Destination", w.to("copy.txt")).is(201)
	w.do("PUT", "copy.txt", "not locked").is(204)
	// A wrong token fails the condition, none of it the lock.
	w.do("PUT", "a.txt", "b", "If", "(<urn:other>)").refuses(412, "precondition-failed", "")
	w.do("PUT", "a.txt", "b", "If", "(Not <DAV:no-lock>)").refuses(423, "locked", "")
	w.do("PUT", "a.txt", "b", "If", open).is(204)
	w.do("PROPPATCH", "a.txt", patch, "If", open).is(207)
	w.do("PUT", "a.txt", "c", "If", "<"+w.to("a.txt")+"> "+open).is(204)
	w.do("UNLOCK", "a.txt", "").refuses(400, "invalid", "")
	w.do("UNLOCK", "a.txt", "", "Lock-Token", "<urn:other>").refuses(409, "conflict", "lock-token-matches-request-uri")
	w.do("UNLOCK", "c.txt", "", "Lock-Token", "<"+token+">").refuses(409, "conflict", "lock-token-matches-request-uri")
	w.do("UNLOCK", "a.txt", "", "Lock-Token", "<"+token+">").is(204)
	w.do("PUT", "a.txt", "d").is(204)
	// What is moved or deleted loses its lock, and the name is free.
	token = w.locked("a.txt", "exclusive")
	w.do("MOVE", "a.txt", "", "Destination", w.to("moved.txt"), "If", "(<"+token+">)").is(201)
	w.do("PUT", "moved.txt", "e").is(204)
	w.do("PUT", "a.txt", "e").is(201)
	token = w.locked("a.txt", "exclusive")
	w.do("DELETE", "a.txt", "", "If", "(<"+token+">)").is(204)
	w.do("PUT", "a.txt", "e").is(201)
}

func TestSharedLock(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	first, second := w.locked("a.txt", "shared"), w.locked("a.txt", "shared")
	w.do("LOCK", "a.txt", fmt.Sprintf(lockInfo, "exclusive")).refuses(423, "locked", "no-conflicting-lock")
	w.do("PUT", "a.txt", "b").refuses(423, "locked", "lock-token-submitted")
	for _, token := range []string{first, second} { // one of them is enough
		w.do("PUT", "a.txt", token, "If", "(<"+token+">)").is(204)
	}
	if got, _ := w.do("PROPFIND", "a.txt", "", "Depth", "0").members()[0].prop("DAV:", "lockdiscovery"); strings.Count(got, "<d:shared/>") != 2 {
		t.Error(got)
	}
	w.do("UNLOCK", "a.txt", "", "Lock-Token", "<"+first+">").is(204)
	w.do("PUT", "a.txt", "b").refuses(423, "locked", "")
	w.do("UNLOCK", "a.txt", "", "Lock-Token", "<"+second+">").is(204)
	w.do("PUT", "a.txt", "b").is(204)
}

func TestLockedFolders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"dir", "dir/sub", "dirt"} {
		w.do("MKCOL", path, "").is(201)
	}
	w.do("PUT", "dir/sub/a.txt", "a").is(201)
	// Depth infinity holds all below, also what is not there yet.
	token := w.locked("dir", "exclusive", "Depth", "infinity")
	open := "<" + w.to("dir/") + "> (<" + token + ">)"
	w.do("PUT", "dir/sub/a.txt", "b").refuses(423, "locked", "lock-token-submitted><d:href>/dav/dir/")
	w.do("PUT", "dir/sub/new.txt", "b").refuses(423, "locked", "")
	w.do("MKCOL", "dir/new", "").refuses(423, "locked", "")
	w.do("DELETE", "dir", "").refuses(423, "locked", "")
	w.do("LOCK", "dir/sub/a.txt", fmt.Sprintf(lockInfo, "shared")).refuses(423, "locked", "no-conflicting-lock")
	w.do("PUT", "dirt/a.txt", "a").is(201) // a neighbour
	w.do("PUT", "dir/sub/new.txt", "b", "If", open).is(201)
	w.do("MKCOL", "dir/new", "", "If", open).is(201)
	if got, _ := w.do("PROPFIND", "dir/sub/a.txt", "", "Depth", "0").members()[0].prop("DAV:", "lockdiscovery"); !strings.Contains(got, token) || !strings.Contains(got, "<d:lockroot><d:href>/dav/dir/</d:href>") {
		t.Error(got)
	}
	w.do("UNLOCK", "dir/sub/a.txt", "", "Lock-Token", "<"+token+">").is(204) // by any name that it holds
	// Depth 0 holds the folder and its list of names, and not what the files hold.
	token = w.locked("dir", "exclusive", "Depth", "0")
	w.do("PUT", "dir/new.txt", "b").refuses(423, "locked", "")
	w.do("DELETE", "dir/sub", "").refuses(423, "locked", "")
	w.do("MOVE", "dirt/a.txt", "", "Destination", w.to("dir/a.txt")).refuses(423, "locked", "")
	w.do("PUT", "dir/sub/a.txt", "c").is(204)
	w.do("PUT", "dir/new.txt", "b", "If", "<"+w.to("dir")+"> (<"+token+">)").is(201)
	w.do("UNLOCK", "dir", "", "Lock-Token", "<"+token+">").is(204)
	// A lock inside keeps the folder in its place.
	inner := w.locked("dir/sub/a.txt", "exclusive")
	w.do("LOCK", "dir", fmt.Sprintf(lockInfo, "exclusive"), "Depth", "infinity").refuses(423, "locked", "no-conflicting-lock><d:href>/dav/dir/sub/a.txt")
	w.do("LOCK", "dir", fmt.Sprintf(lockInfo, "exclusive"), "Depth", "1").refuses(400, "invalid", "")
	w.do("DELETE", "dir", "").refuses(423, "locked", "lock-token-submitted><d:href>/dav/dir/sub/a.txt")
	w.do("MOVE", "dir", "", "Destination", w.to("elsewhere")).refuses(423, "locked", "")
	w.do("MOVE", "dirt", "", "Destination", w.to("dir")).refuses(423, "locked", "")
	target := w.locked("dirt", "exclusive")
	w.do("COPY", "dir", "", "Destination", w.to("dirt")).refuses(423, "locked", "lock-token-submitted><d:href>/dav/dirt/")
	w.do("COPY", "dir", "", "Destination", w.to("dirt"), "If", "<"+w.to("dirt/")+"> (<"+target+">)").is(204)
	w.holds("dirt/sub/a.txt", "c")
	w.do("MOVE", "dir", "", "Destination", w.to("elsewhere"), "If", "<"+w.to("dir/sub/a.txt")+"> (<"+inner+">)").is(201)
	w.do("PUT", "elsewhere/sub/a.txt", "d").is(204)
}

// RFC 4918 §7.3: a lock on a name that is free makes an empty file.
func TestLockOnAFreeName(t *testing.T) {
	w := newWorld(t)
	a := w.do("LOCK", "new.txt", fmt.Sprintf(lockInfo, "exclusive"), "Timeout", "Second-300").is(201).has("<d:timeout>Second-300</d:timeout>", "<D:href>Ada &amp; her laptop</D:href>")
	token := strings.Trim(a.header.Get("Lock-Token"), "<>")
	w.holds("new.txt", "")
	w.lists("", "new.txt")
	w.do("PUT", "new.txt", "x").refuses(423, "locked", "")
	w.do("PUT", "new.txt", "x", "If", "(<"+token+">)").is(204)
	w.do("LOCK", "no/such", fmt.Sprintf(lockInfo, "exclusive")).refuses(409, "conflict", "")
	for what, body := range map[string]string{
		"another root": `<x xmlns="DAV:"/>`, "no type": `<lockinfo xmlns="DAV:"><lockscope><shared/></lockscope></lockinfo>`,
		"no scope": `<lockinfo xmlns="DAV:"><lockscope/><locktype><write/></locktype></lockinfo>`, "no XML": "x",
		"a bomb": `<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><lockinfo xmlns="DAV:"><owner>&b;</owner></lockinfo>`,
	} {
		if a := w.do("LOCK", "other.txt", body).refuses(400, "invalid", ""); a.status != 400 {
			t.Error(what)
		}
	}
	long := strings.Replace(fmt.Sprintf(lockInfo, "exclusive"), "laptop", strings.Repeat("x", 5000), 1)
	w.do("LOCK", "other.txt", long).refuses(413, "too-large", "")
	w.do("LOCK", "other.txt", strings.Repeat(" ", 200<<10)).refuses(413, "too-large", "")
	w.lists("", "new.txt")
}

func TestRefreshAndTimeout(t *testing.T) {
	w := newWorld(t)
	w.do("PUT", "a.txt", "a").is(201)
	token := w.locked("a.txt", "exclusive", "Timeout", "Second-600")
	w.do("LOCK", "a.txt", "").refuses(400, "invalid", "")
	w.do("LOCK", "a.txt", "", "If", "(<urn:other>)").refuses(412, "precondition-failed", "")
	w.Pass(9 * time.Minute)
	w.do("LOCK", "a.txt", "", "If", "(<"+token+">)", "Timeout", "Second-600").is(200).has(token, "Second-600")
	w.Pass(9 * time.Minute)
	w.do("PUT", "a.txt", "b").refuses(423, "locked", "")
	w.Restart()
	w.do("PUT", "a.txt", "b").refuses(423, "locked", "")
	w.Pass(2 * time.Minute)
	w.do("PUT", "a.txt", "b").is(204)
	w.do("LOCK", "a.txt", "", "If", "(<"+token+">)").refuses(412, "precondition-failed", "")
	w.do("UNLOCK", "a.txt", "", "Lock-Token", "<"+token+">").refuses(409, "conflict", "")
	w.locked("a.txt", "exclusive", "Timeout", "Infinite")
	w.Pass(61 * time.Minute)
	w.do("PUT", "a.txt", "c").is(204)
}

// A person who locks everything is refused in words, before anything is made, and
// others are not.
func TestManyLocks(t *testing.T) {
	w := newWorld(t)
	w.bob.Grant("storage")
	w.do("MKCOL", "dir", "").is(201)
	body := fmt.Sprintf(lockInfo, "shared")
	files := (webdav.MaxLocks + webdav.MaxTogether - 1) / webdav.MaxTogether
	w.each(files, func(i int) answer { return w.do("PUT", fmt.Sprint("dir/", i), "x") })
	w.each(webdav.MaxTogether, func(int) answer { return w.do("LOCK", "dir/0", body) })
	w.do("LOCK", "dir/0", body).refuses(507, "quota", "")
	w.each(webdav.MaxLocks-webdav.MaxTogether, func(i int) answer {
		return w.do("LOCK", fmt.Sprint("dir/", 1+i/webdav.MaxTogether), body)
	})
	w.do("PUT", "a.txt", "a").is(201)
	w.do("LOCK", "a.txt", body).refuses(507, "quota", "")
	w.do("LOCK", "new.txt", body).refuses(507, "quota", "")
	w.lists("", "a.txt", "dir/")
	w.as(w.bob, "LOCK", "a.txt", body).is(http.StatusCreated)
	w.Pass(2 * time.Hour)
	w.do("LOCK", "a.txt", body).is(200)
}
