package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rsc.io/qr"

	"yunbox.local/daemon/problem"
)

// TestCacheSurvivesAKillAnywhere pushes a random folder again and again, with files
// that come, change and go and kills between any two steps, and compares with what
// must be remembered.
func TestCacheSurvivesAKillAnywhere(t *testing.T) { // R05: a killed push resumes
	for seed := range uint64(30) {
		rng := mrand.New(mrand.NewPCG(seed, 7))
		dir := t.TempDir()
		files := map[string]record{} // on the disk
		sure := map[string]record{}  // noted before the newest kill, and not changed since
		for round := range 12 {
			for range rng.IntN(20) {
				rel := fmt.Sprintf("%c/%c%c", 'a'+rng.IntN(3), "-.ab"[rng.IntN(4)], 'a'+rng.IntN(4))
				if rng.IntN(4) == 0 {
					delete(files, rel)
					delete(sure, rel)
					continue
				}
				files[rel] = record{rel: rel, id: fileID{dev: 1, inode: rng.Uint64(), size: rng.Int64(), mtime: int64(round)}, sum: sha256.Sum256([]byte(fmt.Sprint(seed, round, rel)))}
				delete(sure, rel)
			}
			c, err := openCache(dir, "key")
			if err != nil {
				t.Fatalf("seed %d round %d: %v", seed, round, err)
			}
			order := slices.SortedFunc(maps.Keys(files), walkOrder)
			die := rng.IntN(len(order)*2 + 2) // steps until the kill; often beyond the end
			killed := false
			for batch := range slices.Chunk(order, 1+rng.IntN(7)) {
				for _, rel := range batch {
					f := files[rel]
					got, ok := c.find(rel, f.id)
					if want, must := sure[rel]; must && (!ok || got != want) {
						t.Fatalf("seed %d round %d: %s was forgotten: %v", seed, round, rel, got)
					}
					if ok && got.sum != f.sum {
						t.Fatalf("seed %d round %d: %s has the hash of something else", seed, round, rel)
					}
				}
				for _, i := range rng.Perm(len(batch)) { // uploads end in any order
					if die--; die < 0 {
						killed = true
						break
					}
					f := files[batch[i]]
					f.named = true
					if err := c.done(f); err != nil {
						t.Fatal(err)
					}
					sure[f.rel] = f
				}
				if killed {
					break
				}
				var recs []record
				for _, rel := range batch {
					recs = append(recs, sure[rel])
				}
				if err := c.batch(recs); err != nil {
					t.Fatal(err)
				}
			}
			if killed { // what a kill leaves: no close, no flush
				c.old.close()
				c.part.f.Close()
				c.log.f.Close()
				c.lock.Close()
				continue
			}
			if err := c.close(true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestCacheIsNotSharedWhileInUse(t *testing.T) {
	dir := t.TempDir()
	c, err := openCache(dir, "key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openCache(dir, "key"); !errors.Is(err, errBusy) {
		t.Errorf("opened twice: %v", err)
	}
	other, err := openCache(dir, "another folder")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.close(true), c.close(true)); err != nil {
		t.Error(err)
	}
}

func FuzzRecords(f *testing.F) {
	var b bytes.Buffer
	name := filepath.Join(f.TempDir(), "records")
	w, err := createRecords(name)
	if err != nil {
		f.Fatal(err)
	}
	for _, rel := range []string{"a", "b/c"} {
		if err := w.add(record{rel: rel, id: fileID{1, 2, 3, 4, 5}, named: true}); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	b.Write(whole)
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:len(whole)-3])
	f.Fuzz(func(t *testing.T, raw []byte) {
		name := filepath.Join(t.TempDir(), "records")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := openRecords(name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		for rec, ok := r.next(); ok; rec, ok = r.next() {
			if rec.rel == "" {
				t.Fatal("a record without a path")
			}
		}
	})
}

func TestWalkOrderIsTheOrderOfTheWalk(t *testing.T) {
	root := t.TempDir()
	for _, rel := range []string{"a/x", "a.txt", "a-b", "a/y/z", "a/y-z", "b", "B", "云/1", "é", "a b/c", "ab"} {
		name := filepath.Join(root, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	w := &walker{root: root, exclude: []string{"B", "a/y"}}
	if err := w.walk(t.Context(), func(f walked) error { got = append(got, f.rel); return f.err }); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(got, walkOrder) || len(got) != 9 || w.skipped != 2 {
		t.Errorf("%q, %d left out", got, w.skipped)
	}
}

// authority makes a box's authority and a leaf for 127.0.0.1.
func authority(t *testing.T, hosts ...string) (chain tls.Certificate, sum pin) {
	t.Helper()
	now := time.Now()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, leafKey := key(), key()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "box"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: hosts, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: leafKey}, sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
}

func TestPinTrustsOneKeyForOneHost(t *testing.T) { // R31
	good, goodPin := authority(t, "box.local")
	other, otherPin := authority(t, "box.local")
	state := func(c ...[]byte) tls.ConnectionState {
		var cs tls.ConnectionState
		for _, der := range c {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			cs.PeerCertificates = append(cs.PeerCertificates, cert)
		}
		return cs
	}
	if err := goodPin.verify(state(good.Certificate...), "box.local"); err != nil {
		t.Errorf("the right box: %v", err)
	}
	for name, c := range map[string]struct {
		p    pin
		cs   tls.ConnectionState
		host string
	}{
		"another key":                      {otherPin, state(good.Certificate...), "box.local"},
		"another host":                     {goodPin, state(good.Certificate...), "other.local"},
		"a leaf that the key did not sign": {goodPin, state(other.Certificate[0], good.Certificate[1]), "box.local"},
		"no authority in the chain":        {goodPin, state(good.Certificate[0]), "box.local"},
		"no chain":                         {goodPin, state(), "box.local"},
		"no pin":                           {pin{}, state(good.Certificate...), "box.local"},
	} {
		if err := c.p.verify(c.cs, c.host); err == nil {
			t.Errorf("%s: trusted", name)
		}
	}
}

func TestPins(t *testing.T) {
	var p pin
	for i := range p {
		p[i] = byte(i)
	}
	for _, s := range []string{p.String(), p.String() + "=", fmt.Sprintf("%x", p[:]), strings.ToUpper(fmt.Sprintf("%x", p[:])), " " + p.String() + "\n"} {
		if got, err := parsePin(s); err != nil || got != p {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", p.String()[1:], strings.Repeat("A", 43), strings.Repeat("0", 64)} {
		if got, err := parsePin(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
	if (pin{}).String() != "" {
		t.Error("no pin must not look like one")
	}
}

func TestBoxAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"https://box.local:8443": "https://box.local:8443", "box.local:8443": "https://box.local:8443", "192.0.2.1": "https://192.0.2.1:443",
		"https://[2001:db8::1]:8443/": "https://[2001:db8::1]:8443", "http://127.0.0.1:80": "http://127.0.0.1:80", "http://localhost": "http://localhost",
	} {
		if u, err := parseBox(in); err != nil || u.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, u, err, want)
		}
	}
	for _, in := range []string{"http://box.local", "ftp://box.local", "https://", "https://ada:secret@box.local", "https://box.local/path", "https://box.local?x=1"} {
		if u, err := parseBox(in); err == nil {
			t.Errorf("%s is taken as %v", in, u)
		}
	}
}

func TestTheBoxOnThisMachineIsReachedWithoutNames(t *testing.T) {
	for want, in := range map[string][]string{
		"https://127.0.0.1:8443/":   {"https://yunbox-8dac.local:8443/", "https://192.168.77.1:8443/", "https://127.0.0.1:8443/"},
		"https://[::1]:8443/":       {"https://yunbox-8dac.local:8443/", "https://[::1]:8443/"},
		"https://192.168.77.1:8443": {"https://yunbox-8dac.local:8443/", "https://192.168.77.1:8443"},
		"https://box.local/":        {"https://box.local/"},
	} {
		if got := nearest(in); got != want {
			t.Errorf("of %v: %s", in, got)
		}
	}
}

func TestProblemsKeepTheirKindAndMembers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/problem":
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"type":"urn:yunbox:problem:consent-required","title":"T","status":403,"detail":"D","hint":"H","purpose":"wechat_backup"}`)
		case "/proxy":
			http.Error(w, "bad gateway", http.StatusBadGateway)
		default:
			http.Redirect(w, r, "/problem", http.StatusFound)
		}
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(u, pin{}, "token")
	p := problem.As(c.call(t.Context(), "GET", "/problem", nil, nil))
	if p.Kind != problem.ConsentRequired || p.Title != "T" || p.Detail != "D" || p.Hint != "H" || p.Members["purpose"] != "wechat_backup" || p.RetryAfter != 7*time.Second {
		t.Errorf("%+v", p)
	}
	if got := exitCode(c.call(t.Context(), "GET", "/proxy", nil, nil)); got != problem.ExitUnreachable {
		t.Errorf("502 ends with %d", got)
	}
	var out struct{}
	if err := c.call(t.Context(), "GET", "/elsewhere", nil, &out); err == nil {
		t.Error("a redirect was followed with the token")
	}
}

func TestPatienceEnds(t *testing.T) {
	away := &problem.Error{Kind: problem.Unavailable}
	synctest.Test(t, func(t *testing.T) {
		a := &alive{patience: 5 * time.Minute}
		time.Sleep(time.Hour) // a long upload that works is not impatience
		begin := time.Now()
		wait := newBackoff()
		tries := 0
		for a.again(t.Context(), wait, away) == nil {
			tries++
		}
		if d := time.Since(begin); d < 4*time.Minute || d > 5*time.Minute || tries < 15 || tries > 60 {
			t.Errorf("gave up after %v and %d tries", d, tries)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a box that takes everything and answers nothing
		a := &alive{patience: 5 * time.Minute}
		begin := time.Now()
		for wait := newBackoff(); ; {
			ctx, flow := newFlow(t.Context())
			body := flow.reader(strings.NewReader("all of it"), nil)
			if _, err := io.Copy(io.Discard, body); err != nil {
				t.Fatal(err)
			}
			<-ctx.Done()
			flow.stop()
			if err := a.again(t.Context(), wait, context.Cause(ctx)); err != nil {
				break
			}
		}
		if d := time.Since(begin); d > 12*time.Minute {
			t.Errorf("a box that hangs was given up only after %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) { // what trying again cannot help
		a := &alive{patience: time.Hour}
		for _, k := range problem.Kinds() {
			err := a.again(t.Context(), newBackoff(), &problem.Error{Kind: k})
			retried := err == nil
			if want := slices.Contains([]problem.Kind{problem.Unavailable, problem.Canceled, problem.RateLimited, problem.Locked, problem.Internal}, k); retried != want {
				t.Errorf("%s: tried again %t", k, retried)
			}
		}
		begin := time.Now()
		if err := a.again(t.Context(), newBackoff(), &problem.Error{Kind: problem.RateLimited, RetryAfter: time.Minute}); err != nil || time.Since(begin) < time.Minute {
			t.Errorf("Retry-After is not obeyed: %v after %v", err, time.Since(begin))
		}
	})
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "500": 500, "1.5GB": 1_500_000_000, "20 kB": 20_000, "3TB": 3e12, "7B": 7, "7mb": -1, "": -1, "GB": -1, "-1": -1, "1e30": -1, "NaN": -1, "1 XB": -1} {
		got, err := parseSize(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestMTimesTheBoxTakes(t *testing.T) {
	for ns, want := range map[int64]string{0: "0.000000000", 1700000000_123456789: "1700000000.123456789", -1: "", 1 << 62: ""} {
		if got := mtime(fileID{mtime: ns}); got != want {
			t.Errorf("%d: %q, want %q", ns, got, want)
		}
	}
}

func TestFilePathsAreEscapedOnce(t *testing.T) {
	for in, want := range map[string]string{
		"a b/c":     "/v1/files/a%20b/c",
		"100%/x?#":  "/v1/files/100%25/x%3F%23",
		"云":         "/v1/files/%E4%BA%91",
		`back\x`:    "/v1/files/back%5Cx",
		"a+b&c=d;e": "/v1/files/a+b&c=d%3Be",
	} {
		got := filePath(in)
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
		if u, err := url.Parse("https://box" + got); err != nil || u.Path != "/v1/files/"+in {
			t.Errorf("%q is read as %v, %v", in, u, err)
		}
	}
}

func TestQRCodeIsDrawnAsItIs(t *testing.T) {
	const text = "yunbox://pair?v=1&id=z7n6n2nrjzowrglj&k=z9vm6bFOXWiZaXG2WsyiWbOijzd8DlmFzemvqpuVuu8&s=5fwJ85uchTcZIQCkAEHXpA&n=D5JQ"
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	drawQR(&b, text)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	dark := func(x, y int) bool { // modules of the picture, margin included
		r := []rune(lines[y/2])[x]
		if y%2 == 0 {
			return r == ' ' || r == '▄'
		}
		return r == ' ' || r == '▀'
	}
	for y := range len(lines) * 2 {
		for x := range code.Size + 8 {
			want := x >= 4 && y >= 4 && code.Black(x-4, y-4)
			if got := dark(x, y); got != want {
				t.Fatalf("module %d,%d is dark: %t, want %t", x, y, got, want)
			}
		}
	}
}

func TestNamesCannotSpeakToTheTerminal(t *testing.T) {
	if got := shown("a\x1b[31mb\u202ec\x9bd"); strings.ContainsAny(got, "\x1b\u202e\u009b") || !strings.Contains(got, "[31mb") {
		t.Errorf("%q", got)
	}
}

func TestAFileThatChangesIsNotConfirmedWrongly(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("short"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &pusher{app: &app{stderr: io.Discard}}
	p.rep = newReport(p.app, p)
	_, flow := newFlow(t.Context())
	defer flow.stop()
	body := p.body(&entry{}, f, 0, 100, flow)
	if _, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) || body.changed(sha256.Sum256(nil)) {
		t.Errorf("a file that became shorter: %v", err)
	}
	if err := body.instead(fs.ErrClosed); !errors.Is(err, errChanged) {
		t.Errorf("the reason is lost: %v", err)
	}
}

// fakeBox answers like a box, over plain HTTP on the loopback, and lies as told.
func fakeBox(t *testing.T, known func(asked []string) []string, stored func(method, path string, body []byte) string) *app {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	}
	mux.HandleFunc("GET /.well-known/yunbox", func(w http.ResponseWriter, _ *http.Request) { answer(w, `{"id":"box"}`) })
	mux.HandleFunc("GET /v1/me", func(w http.ResponseWriter, _ *http.Request) { answer(w, `{"id":"me","username":"ada"}`) })
	mux.HandleFunc("POST /v1/blobs/known", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			SHA256 []string `json:"sha256"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		b, err := json.Marshal(map[string]any{"known": known(q.SHA256)})
		if err != nil {
			t.Error(err)
		}
		answer(w, string(b))
	})
	mux.HandleFunc("PUT /v1/files/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		answer(w, `{"sha256":"`+stored(r.Method, r.URL.Path, body)+`"}`)
	})
	mux.HandleFunc("POST /v1/uploads", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://elsewhere.example/v1/uploads/x")
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("PATCH /v1/uploads/x", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Upload-Offset", fmt.Sprint(len(body)))
		w.Header().Set("Yunbox-Sha256", stored(r.Method, r.URL.Path, body))
		w.WriteHeader(http.StatusNoContent)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Setenv("YUNBOX_TOKEN", "token")
	return &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, box: srv.URL, profile: filepath.Join(t.TempDir(), "none")}
}

func nothing([]string) []string { return []string{} }

func TestASecondRunAsksOnceFor5000Files(t *testing.T) { // R05
	dir, cache := t.TempDir(), t.TempDir()
	const files = batchFiles + 1
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d", i)), fmt.Appendf(nil, "photo %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var asked, puts atomic.Int64
	second := false
	a := fakeBox(t, func(sums []string) []string {
		asked.Add(1)
		if second {
			return sums
		}
		return []string{}
	}, func(_, _ string, body []byte) string {
		puts.Add(1)
		return fmt.Sprintf("%x", sha256.Sum256(body))
	})
	push := func() {
		t.Helper()
		if err := a.push(t.Context(), dir, pushOptions{source: "other", jobs: 8, retryFor: time.Minute, cacheDir: cache}); err != nil {
			t.Fatal(err)
		}
	}
	push()
	if puts.Load() != files {
		t.Errorf("the first run sent %d of %d files", puts.Load(), files)
	}
	second = true
	asked.Store(0)
	puts.Store(0)
	push()
	if asked.Load() != 2 || puts.Load() != 0 {
		t.Errorf("the second run of %d files asked %d times and sent %d requests", files, asked.Load(), puts.Load())
	}
}

func TestABoxThatConfirmsOtherBytesIsNotBelieved(t *testing.T) { // promise 3
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "small"), []byte("small"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, oneRequest+1), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string]bool{"honest": false, "lying": true} {
		var requests atomic.Int64
		a := fakeBox(t, nothing, func(_, _ string, body []byte) string {
			requests.Add(1)
			if lie {
				body = append(body, '!')
			}
			return fmt.Sprintf("%x", sha256.Sum256(body))
		})
		var out bytes.Buffer
		a.stdout, a.json = &out, true
		o := pushOptions{source: "other", jobs: 2, retryFor: time.Minute, cacheDir: t.TempDir()}
		err := a.push(t.Context(), dir, o)
		if code := exitCode(err); lie && code != problem.ExitPartly || !lie && err != nil {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
		if lie == strings.Contains(out.String(), `"result":"stored"`) {
			t.Errorf("%s:\n%s", name, out.String())
		}
		if first := requests.Load(); lie && (first < 2 || first > 2*maxTries) {
			t.Errorf("a box that lies was asked %d times", first)
		}
	}
}

// A box whose answer was lost has the content by the time of the next try, and says so
// without taking the body again.
func TestABodyThatIsNotWantedIsNoChange(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("x"), 300_000)
	if err := os.WriteFile(filepath.Join(dir, "a"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	a := fakeBox(t, nothing, nil)
	inner := a.box
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut { // all but the upload as before
			res, err := http.DefaultTransport.RoundTrip(clone(r, inner))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			w.WriteHeader(res.StatusCode)
			io.Copy(w, res.Body)
			return
		}
		fmt.Fprintf(w, `{"sha256":"%x"}`, sha256.Sum256(content))
	}))
	defer srv.Close()
	a.box = srv.URL
	var out bytes.Buffer
	a.stdout, a.json = &out, true
	err := a.push(t.Context(), dir, pushOptions{source: "other", jobs: 1, retryFor: time.Minute, cacheDir: t.TempDir()})
	if err != nil || !strings.Contains(out.String(), `"result":"stored"`) || !strings.Contains(out.String(), `"sent_bytes":0`) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func clone(r *http.Request, to string) *http.Request {
	c := r.Clone(r.Context())
	c.URL.Scheme, c.URL.Host = "http", strings.TrimPrefix(to, "http://")
	return c
}

func TestWhatWasDeletedIsNotSentAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("unwanted"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("unwanted")))
	for _, again := range []bool{false, true} {
		a := fakeBox(t, nothing, func(_, _ string, body []byte) string { return fmt.Sprintf("%x", sha256.Sum256(body)) })
		inner := a.box
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/blobs/known" {
				fmt.Fprintf(w, `{"known":[],"declined":[{"sha256":%q,"reason":"deleted","deleted":"2026-01-02T03:04:05.000Z"}]}`, sum)
				return
			}
			res, err := http.DefaultTransport.RoundTrip(clone(r, inner))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			w.WriteHeader(res.StatusCode)
			io.Copy(w, res.Body)
		}))
		defer srv.Close()
		a.box = srv.URL
		var out bytes.Buffer
		a.stdout, a.json = &out, true
		err := a.push(t.Context(), dir, pushOptions{source: "album", jobs: 1, retryFor: time.Minute, cacheDir: t.TempDir(), again: again})
		want := `"result":"deleted"`
		if again {
			want = `"result":"stored"`
		}
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("again %t: %v\n%s", again, err, out.String())
		}
	}
}
