package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/api"
)

// socket sends a request to the box's unix socket.
func socket(t *testing.T, box *daemontest.Box, method, path, body string) answer {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dir, err := os.Open(filepath.Join(box.State, "run"))
			if err != nil {
				return nil, err
			}
			defer dir.Close() // the whole path may be too long for a socket
			return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/yunboxd.sock", dir.Fd()))
		},
	}}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://box"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b.Bytes()}
}

func TestLocalStatusAndLabel(t *testing.T) {
	t.Parallel()
	box := daemontest.Start(t)
	var label struct {
		Serial  string
		Code    *string
		PairURI *string `json:"pair_uri"`
		Spent   bool
	}
	box.Local("GET", "/local/label", nil, &label)
	if label.Serial == "" || label.Code == nil || label.PairURI == nil || label.Spent {
		t.Errorf("an unspent label: %+v", label)
	}
	w := worldOn(t, box)
	w.put(w.ada, "a.jpg", "12345")
	box.Local("GET", "/local/label", nil, &label)
	if label.Code != nil || label.PairURI != nil || !label.Spent {
		t.Errorf("a spent label: %+v", label)
	}
	var s api.LocalStatus
	box.Local("GET", "/local/status", nil, &s)
	if !s.Bound || s.Items != 1 || s.PhysicalBytes != 5 || s.Users != 1 || s.Memory.RSS <= 0 || s.Disk.Free <= 0 || !s.Volume.OK ||
		s.Volume.ID == "" || len(s.Words) != 6 || len(s.Addresses) == 0 || s.ID == "" || s.Version == "" {
		t.Errorf("status: %+v", s)
	}
}

func TestLocalPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.bob()
	socket(t, w.Box, "POST", "/local/users", `{"username":"bob","password":"`+daemontest.Password+`"}`).is(t, "twice", 409, "conflict")
	socket(t, w.Box, "POST", "/local/users", `{"username":"x","secret":1}`).is(t, "a member that is not known", 400, "invalid")
	socket(t, w.Box, "POST", "/local/users", `{} {}`).is(t, "two values", 400, "invalid")
	socket(t, w.Box, "PATCH", "/local/users/BOB", `{"disabled":true}`).is(t, "switch off", 200, "")
	w.ask(bob, "GET", "/v1/me", "").is(t, "switched off", 401, "unauthenticated")
	socket(t, w.Box, "PATCH", "/local/users/bob", `{"disabled":false,"password":"a forgotten one, renewed"}`).is(t, "switch on", 200, "")
	w.ask(nil, "POST", "/v1/session", `{"username":"bob","password":"a forgotten one, renewed"}`).is(t, "with the new password", 200, "")
	var limited struct {
		QuotaBytes *int64 `json:"quota_bytes"`
		Disabled   bool
	}
	socket(t, w.Box, "PATCH", "/local/users/bob", `{"quota_bytes":1000}`).into(t, &limited)
	if limited.QuotaBytes == nil || *limited.QuotaBytes != 1000 || limited.Disabled {
		t.Errorf("limited: %+v", limited)
	}
	socket(t, w.Box, "PATCH", "/local/users/bob", `{"quota_bytes":null}`).into(t, &limited)
	if limited.QuotaBytes != nil {
		t.Errorf("not limited: %+v", limited)
	}
	socket(t, w.Box, "PATCH", "/local/users/bob", `{"quota_bytes":"much"}`).is(t, "no number", 400, "invalid")
	socket(t, w.Box, "PATCH", "/local/users/nobody", `{"disabled":true}`).is(t, "nobody", 404, "not-found")
	socket(t, w.Box, "GET", "/local/files", "").is(t, "no such operation", 404, "not-found")
	var users struct{ Users []struct{ Username string } }
	w.Local("GET", "/local/users", nil, &users)
	if len(users.Users) != 2 {
		t.Errorf("users: %+v", users)
	}
}

// R01: the check finds what is damaged, missing and ownerless.
func TestLocalCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sound, rotten, lost := w.put(w.ada, "sound", "sound"), w.put(w.ada, "rotten", "rotten"), w.put(w.ada, "lost", "lost")
	blob := func(sha string) string { return filepath.Join(w.State, "blobs", sha[:2], sha) }
	if e := check(t, w, true); len(e) != 1 || e[0] != (checkEvent{Event: "done", Blobs: 3, Bytes: 15}) {
		t.Errorf("a sound box: %+v", e)
	}
	orphan := sha("nobody's")
	for _, err := range []error{
		os.Remove(blob(rotten.SHA256)), os.WriteFile(blob(rotten.SHA256), []byte("rotted"), 0o440),
		os.Remove(blob(lost.SHA256)), os.WriteFile(blob(orphan), []byte("nobody's"), 0o440),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	found := map[checkEvent]bool{}
	for _, e := range check(t, w, true) {
		found[e] = true
	}
	for _, want := range []checkEvent{
		{Event: "damage", SHA256: rotten.SHA256, Reason: "bytes", Size: 6},
		{Event: "damage", SHA256: lost.SHA256, Reason: "missing", Size: 4},
		{Event: "orphan", SHA256: orphan, Size: 8},
		{Event: "done", Blobs: 3, Bytes: 15, Damaged: 2, Orphans: 1},
	} {
		if !found[want] {
			t.Errorf("the check did not say %+v, but %+v", want, found)
		}
	}
	var known struct{ Known []string }
	w.ask(w.ada, "POST", "/v1/blobs/known", `{"sha256":["`+sound.SHA256+`","`+rotten.SHA256+`","`+lost.SHA256+`"]}`).into(t, &known)
	if len(known.Known) != 1 || known.Known[0] != sound.SHA256 {
		t.Errorf("damaged content is not asked for again: %v", known)
	}
	w.put(w.ada, "rotten", "rotten")
	w.put(w.ada, "lost", "lost")
	if e := check(t, w, true); e[len(e)-1].Damaged != 0 {
		t.Errorf("not healed by sending again: %+v", e)
	}
	if e := check(t, w, false); e[len(e)-1].Damaged != 0 || e[len(e)-1].Error != "" {
		t.Errorf("the short check: %+v", e)
	}
	var swept struct{ Blobs int }
	w.Local("POST", "/local/sweep", nil, &swept)
	if _, err := os.Stat(blob(orphan)); err != nil || swept.Blobs != 0 {
		t.Errorf("a fresh orphan was swept: %v, %+v", err, swept)
	}
}

type checkEvent struct {
	Event, SHA256, Reason, Error string
	Size, Blobs, Bytes           int64
	Damaged, Orphans             int64
}

func check(t *testing.T, w *world, deep bool) (events []checkEvent) {
	t.Helper()
	body := `{"deep":false}`
	if deep {
		body = `{"deep":true}`
	}
	a := socket(t, w.Box, "POST", "/local/check", body)
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("check: %d %s", a.status, a.body)
	}
	for dec := json.NewDecoder(bytes.NewReader(a.body)); dec.More(); {
		var e checkEvent
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Event != "progress" {
			events = append(events, e)
		}
	}
	return events
}

// R35: the audit record over the socket.
func TestLocalAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type chain struct {
		Entries int64
		Head    string
		Bad     *struct{}
	}
	var report struct {
		chain
		Consent chain
	}
	w.Local("GET", "/local/audit/verify", nil, &report)
	if report.Entries == 0 || len(report.Head) != 64 || report.Bad != nil || report.Consent.Entries != 2 || report.Consent.Bad != nil {
		t.Errorf("verify: %+v", report)
	}
	var tail struct{ Entries []struct{ Action string } }
	w.Local("GET", "/local/audit/tail?n=2", nil, &tail)
	if len(tail.Entries) != 2 {
		t.Errorf("tail: %+v", tail)
	}
	socket(t, w.Box, "GET", "/local/audit/tail?n=0", "").is(t, "none", 400, "invalid")
}

// R34: whoever did not come through the socket as the right user is refused.
func TestLocalRefusesStrangers(t *testing.T) {
	l := (&api.API{}).Local()
	for what, c := range map[string]net.Conn{"TCP": tcpConn(t), "nothing that the kernel knows": nil} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/local/label", nil)
		if c != nil {
			r = r.WithContext(l.ConnContext(r.Context(), c))
		}
		l.ServeHTTP(rec, r)
		answer{rec.Code, rec.Header(), rec.Body.Bytes()}.is(t, what, 403, "forbidden")
	}
}

func tcpConn(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); ln.Close() })
	return c
}
