package disclosure

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

func register(t *testing.T) (*Register, *db.DB) {
	t.Helper()
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), Journal: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(d), d
}

var some = Entry{User: 7, Kind: Export, Recipient: "the person", Categories: []string{"everything"}, Why: "asked_for", Basis: ByPerson, Actor: 7, Object: "x"}

func with(change func(*Entry)) Entry {
	e := some
	change(&e)
	return e
}

// R38: each entry says to whom, which data, why and on whose authority, or there is none.
func TestEntriesAreComplete(t *testing.T) {
	r, _ := register(t)
	for what, e := range map[string]Entry{
		"no recipient":       with(func(e *Entry) { e.Recipient = "" }),
		"no data":            with(func(e *Entry) { e.Categories = nil }),
		"no reason":          with(func(e *Entry) { e.Why = "" }),
		"a sentence":         with(func(e *Entry) { e.Why = "Because I say so" }),
		"no basis":           with(func(e *Entry) { e.Basis = "" }),
		"a bare consent":     with(func(e *Entry) { e.Basis = ByConsent }),
		"a bare clause":      with(func(e *Entry) { e.Basis = ByClause }),
		"a person's clause":  with(func(e *Entry) { e.Authority = "1.3.8" }),
		"one and everybody":  with(func(e *Entry) { e.Everyone = true }),
		"too long recipient": with(func(e *Entry) { e.Recipient = strings.Repeat("x", 256) }),
	} {
		if err := r.Note(t.Context(), e); err == nil {
			t.Errorf("%s was written down", what)
		}
	}
	if list, err := r.All(t.Context(), 0, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// R38: people see what is about them, who runs the box sees that something was.
func TestWhoSeesWhat(t *testing.T) {
	r, d := register(t)
	if err := d.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (7, 'a', 'a', 'member', '', ?)`, tx.Now.UnixMilli())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all := Entry{Everyone: true, Kind: SecondCopy, Recipient: "a disk", Categories: []string{"everything"}, Why: "second_copy", Basis: ByOwner}
	other := with(func(e *Entry) {
		e.User, e.Actor, e.Basis, e.Authority = 8, 8, ByConsent, ForConsent("third_party_login", 12)
	})
	for _, e := range []Entry{some, other, all} {
		if err := r.Note(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	of := func(u ident.UserID, before int64, limit int) (seqs []int64) {
		list, err := r.Of(t.Context(), u, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			seqs = append(seqs, e.Seq)
		}
		return seqs
	}
	for want, got := range map[string][]int64{"3 1": of(7, 0, 9), "3": of(7, 0, 1), "1": of(7, 3, 9), "2": of(8, 0, 9), "": of(9, 0, 9)} {
		var s []string
		for _, n := range got {
			s = append(s, string(rune('0'+n)))
		}
		if strings.Join(s, " ") != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	list, err := r.All(t.Context(), 0, 9)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, e := range list {
		if e.User > 0 || e.Actor != 0 || e.User != 0 && e.Object != "" || strings.Contains(e.Authority, "#") {
			t.Errorf("who runs the box sees %+v", e)
		}
	}
	if report, err := r.Verify(t.Context()); err != nil || report.Bad != nil || report.Entries != 3 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, sql := range []string{`UPDATE disclosure SET recipient = 'nobody'`, `DELETE FROM disclosure`} {
		if err := d.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(sql); return err }); err == nil {
			t.Errorf("the database let %s happen", sql)
		}
	}
}

func server(t *testing.T, h http.HandlerFunc) (*httptest.Server, *x509.CertPool, string) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return s, pool, u.Hostname()
}

// R38: nothing leaves by the client without an entry, and an entry that cannot be
// written keeps it from leaving.
func TestNothingLeavesUnrecorded(t *testing.T) {
	r, d := register(t)
	var asked atomic.Int64
	s, roots, host := server(t, func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		switch req.URL.Path {
		case "/long":
			w.Write(make([]byte, MaxAnswer+1))
		case "/away":
			http.Redirect(w, req, "/elsewhere", http.StatusFound)
		}
	})
	c := r.Client(ClientOptions{Hosts: []string{host}, Roots: roots})
	get := func(ctx context.Context, url string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		for p := make([]byte, 64<<10); err == nil; {
			_, err = resp.Body.Read(p)
		}
		if err.Error() == "EOF" {
			err = nil
		}
		return resp.StatusCode, err
	}
	asks := With(t.Context(), with(func(e *Entry) { e.Kind = SignInAsk }))
	if _, err := get(t.Context(), s.URL); err == nil || asked.Load() != 0 {
		t.Errorf("a request that says nothing about itself left: %v", err)
	}
	if _, err := get(With(t.Context(), Entry{Kind: SignInAsk}), s.URL); err == nil || asked.Load() != 0 {
		t.Errorf("a request with half an entry left: %v", err)
	}
	if code, err := get(asks, s.URL); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	if code, err := get(asks, s.URL+"/away"); err != nil || code != 302 {
		t.Errorf("a redirect was followed: %d, %v", code, err)
	}
	if _, err := get(asks, s.URL+"/long"); err == nil {
		t.Error("an endless answer was read")
	}
	if _, err := get(asks, strings.Replace(s.URL, "https:", "http:", 1)); err == nil {
		t.Error("a request left without TLS")
	}
	list, err := r.All(t.Context(), 0, 10)
	if err != nil || len(list) != 3 || list[0].Recipient != host || asked.Load() != 3 {
		t.Fatalf("%d requests, %v, %v", asked.Load(), list, err)
	}
	if err := d.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(`DROP TRIGGER disclosure_appended`); return err }); err != nil {
		t.Fatal(err)
	}
	if code, err := get(asks, s.URL); err != nil || code != 200 { // appended, but the head stays behind
		t.Fatal(code, err)
	}
	before := asked.Load()
	if _, err := get(asks, s.URL); err == nil || asked.Load() != before {
		t.Errorf("a request left that could not be written down: %v", err)
	}
}

// What a server elsewhere names must not send the box to its neighbours.
func TestTheHomeNetworkIsOutOfReach(t *testing.T) {
	r, _ := register(t)
	s, roots, _ := server(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	req, err := http.NewRequestWithContext(With(t.Context(), some), "GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Client(ClientOptions{Roots: roots}).Do(req); err == nil {
		t.Error("a host that no setting names was asked")
	}
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "::1": false, "10.1.2.3": false, "192.168.1.1": false, "172.16.0.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "::ffff:192.168.1.1": false, "fe80::1": false, "fd00::1": false,
		"224.0.0.1": false, "255.255.255.255": false, "64:ff9b::c0a8:101": false, "2002:c0a8:101::1": false, "198.18.0.1": false, "::": false,
	} {
		if got := isPublic(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is public: %v", addr, got)
		}
	}
}
