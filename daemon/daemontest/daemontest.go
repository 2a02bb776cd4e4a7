// Package daemontest runs a whole box in a test: real TLS on a real socket, a
// real database and a real state directory, or a disk that can lose power.
package daemontest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/consent"
	"yunbox.local/storage/vfs"
)

// Password of every person that this package makes.
const Password = "correct horse battery staple"

// epoch is some moment of which the monotonic part counts.
var epoch = time.Now()

// Box is a running box.
type Box struct {
	State  string       // its state directory
	URL    string       // "https://127.0.0.1:PORT"
	Client *http.Client // trusts this box and no other
	FTP    string       // where cameras connect, "127.0.0.1:PORT"; empty: nowhere

	conf  config.Config
	words *consent.Catalogue // nil: the one of this version
	disk  vfs.FS
	ahead atomic.Int64 // nanoseconds by which the box's clock is ahead
	lived atomic.Int64 // nanoseconds that passed beside those of the test
	log   testLog
	lines slog.Handler // where the box's log goes
	t     testing.TB
	stop  func()
	off   bool // the power is off: errors of stopping are what a cut looks like
}

// Start runs a box on a fresh state directory until the test ends.
func Start(t testing.TB) *Box { return StartOn(t, t.TempDir(), nil) }

// StartOn runs a box on the state directory, with its blobs on disk unless that
// is nil. The box stops when the test ends.
func StartOn(t testing.TB, state string, disk vfs.FS) *Box {
	t.Helper()
	return StartWith(t, state, disk, func(*config.Config) {})
}

// StartWith is StartOn with other settings.
func StartWith(t testing.TB, state string, disk vfs.FS, set func(*config.Config)) *Box {
	t.Helper()
	return start(t, state, disk, slog.NewTextHandler(testLog{t}, nil), set)
}

// StartLogged is StartWith on a fresh state directory, with the box's log at its most
// talkative in w, which is written to from several goroutines.
func StartLogged(t testing.TB, w io.Writer, set func(*config.Config)) *Box {
	t.Helper()
	return start(t, t.TempDir(), nil, slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}), set)
}

func start(t testing.TB, state string, disk vfs.FS, lines slog.Handler, set func(*config.Config)) *Box {
	t.Helper()
	b := &Box{State: state, disk: disk, t: t, log: testLog{t}, lines: lines, conf: config.Config{
		State: state, HTTPS: Address(t.Cleanup), HTTP: config.Off, FTP: config.Off, LogFormat: "text", MemoryMiB: 64, ScrubDays: 30,
	}}
	set(&b.conf)
	b.run()
	t.Cleanup(func() { b.stop() })
	return b
}

// Address returns an address, "127.0.0.1:PORT", that nobody else gets who asks here, in any
// process, until what it leaves with cleanup is called. A box is started again on its
// address: one that the system chose could be that of another's connection by then, and so
// this is none of those.
func Address(cleanup func(func())) string {
	for {
		at := fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000))
		lease, err := net.ListenPacket("udp4", at) // nothing is sent there
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp4", at); err == nil {
			l.Close()
			cleanup(func() { lease.Close() })
			return at
		}
		lease.Close()
	}
}

// Restart stops the box cleanly and starts it again on the same address.
func (b *Box) Restart() {
	b.t.Helper()
	b.stop()
	b.conf.HTTPS = strings.TrimPrefix(b.URL, "https://")
	b.run()
}

// Stop stops the box cleanly. Restart starts it again.
func (b *Box) Stop() { b.stop() }

// PowerOff ends a box whose disk has lost power: it stops, and may complain.
func (b *Box) PowerOff() {
	b.off = true
	b.stop()
}

// Crash ends the box without a goodbye and starts it on what the state directory
// holds at this moment, copied to another place: what a killed daemon leaves.
// change returns the disk with the blobs as it is afterwards; it is nil for a box
// that keeps them in its state directory. Nothing may be on its way into the
// database meanwhile: the files of SQLite are copied one after the other.
func (b *Box) Crash(change func() vfs.FS) {
	b.t.Helper()
	b.Kill()
	if change != nil {
		b.disk = change()
	}
	b.Restart()
}

// Kill is Crash, but does not start the box again: what a killed daemon left is in
// State, and Restart goes on with that.
func (b *Box) Kill() {
	b.t.Helper()
	left := b.log.t.TempDir() // of the test that began the box: it may go on after b.t
	// The journal has a transaction after the database does, never before it: a copy that
	// takes its time is one of a moment only if it begins with the journal.
	copied := func() error {
		journal := filepath.Join(b.State, "journal")
		if _, err := os.Stat(journal); err == nil {
			if err := os.CopyFS(filepath.Join(left, "journal"), os.DirFS(journal)); err != nil {
				return err
			}
		}
		return os.CopyFS(left, onlyFiles{os.DirFS(b.State), "journal"})
	}
	for err := copied(); err != nil; err = copied() {
		if !errors.Is(err, fs.ErrNotExist) {
			b.t.Fatal(err)
		}
		// A file came and went meanwhile.
		if err := errors.Join(os.RemoveAll(left), os.Mkdir(left, 0o755)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.PowerOff()
	b.State, b.conf.State = left, left
}

// Rebuild rebuilds the records of a box that was stopped.
func (b *Box) Rebuild(how daemon.RebuildOptions) (daemon.RebuildReport, error) {
	log := slog.New(slog.NewTextHandler(b.log, nil))
	return daemon.Rebuild(context.Background(), daemon.Options{Config: b.conf, Log: log, Disk: b.disk, Now: b.now, Running: b.running, Catalogue: b.words}, how, nil)
}

// onlyFiles leaves sockets out, which cannot be copied, and what is called but.
type onlyFiles struct {
	fs.FS
	but string
}

// ReadDir implements fs.ReadDirFS.
func (f onlyFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(f.FS, name)
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool { return e.Type()&fs.ModeSocket != 0 || e.Name() == f.but }), err
}

// Pass lets time pass for the box and its clients. Less than none sets their clocks
// back.
func (b *Box) Pass(d time.Duration) {
	b.ahead.Add(int64(d))
	b.lived.Add(max(int64(d), 0))
}

// Leap sets the box's clock, and that of its clients, forward or back, while no time
// passes.
func (b *Box) Leap(d time.Duration) { b.ahead.Add(int64(d)) }

func (b *Box) running() time.Duration { return time.Since(epoch) + time.Duration(b.lived.Load()) }

func (b *Box) now() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }

// For lets failures count for a subtest until that ends.
func (b *Box) For(t testing.TB) {
	outer := b.t
	b.t = t
	t.Cleanup(func() { b.t = outer })
}

func (b *Box) run() {
	b.t.Helper()
	b.off = false
	box, err := daemon.Open(context.Background(), daemon.Options{Config: b.conf, Log: slog.New(b.lines), Disk: b.disk, Now: b.now, Running: b.running, Catalogue: b.words})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- box.Run(ctx, func() { close(ready) }) }()
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		b.Client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil && !b.off {
			b.t.Error("stopping the box:", err)
		}
		if err := box.Close(); err != nil && !b.off {
			b.t.Error("closing the box:", err)
		}
	}
	<-ready
	b.URL = strings.TrimSuffix(box.URLs()[0], "/")
	if b.FTP = box.CameraAddress(); b.FTP != "" {
		b.conf.FTP = b.FTP // the same after a restart
	}
	b.Client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: b.TLS(), MaxIdleConnsPerHost: 32,
	}}
}

// TLS returns the configuration of a client that trusts this box only.
func (b *Box) TLS() *tls.Config {
	return &tls.Config{RootCAs: b.authority(), ServerName: "127.0.0.1", Time: b.now}
}

func (b *Box) authority() *x509.CertPool {
	b.t.Helper()
	pem, err := os.ReadFile(filepath.Join(b.State, "keys", "ca.crt"))
	if err != nil {
		b.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		b.t.Fatal("the box's authority is not a certificate")
	}
	return pool
}

// Local sends a request to the box's unix socket and decodes the JSON answer
// into out unless that is nil. It fails the test on an error.
func (b *Box) Local(method, path string, in, out any) {
	b.t.Helper()
	answer(b.t, b.local(), method, "http://box"+path, "", in, out)
}

// LocalLines is Local for an answer of several JSON values.
func (b *Box) LocalLines(method, path string, in any) (lines []json.RawMessage) {
	b.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(exchange(b.t, b.local(), method, "http://box"+path, "", in)))
	for {
		var line json.RawMessage
		switch err := dec.Decode(&line); {
		case errors.Is(err, io.EOF):
			return lines
		case err != nil:
			b.t.Fatalf("%s %s: %v", method, path, err)
		}
		lines = append(lines, line)
	}
}

func (b *Box) local() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dir, err := os.Open(filepath.Join(b.State, "run"))
			if err != nil {
				return nil, err
			}
			defer dir.Close() // a test's state directory may be too long for a socket's name
			var d net.Dialer
			return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/yunboxd.sock", dir.Fd()))
		},
	}}
}

// Person is somebody with a full session on the box.
type Person struct {
	Name  string
	ID    string
	Token string

	box *Box
}

type session struct {
	Token string `json:"token"`
	User  struct {
		ID string `json:"id"`
	} `json:"user"`
}

// Bind makes the box's owner, "ada", by the secret of the label's QR code.
func (b *Box) Bind() *Person {
	b.t.Helper()
	var label struct {
		PairURI string `json:"pair_uri"`
	}
	b.Local("GET", "/local/label", nil, &label)
	_, secret, _ := strings.Cut(label.PairURI, "&s=")
	secret, _, _ = strings.Cut(secret, "&")
	var s session
	answer(b.t, b.Client, "POST", b.URL+"/v1/bind", "", map[string]any{
		"secret": secret, "username": "ada", "password": Password,
	}, &s)
	return &Person{Name: "ada", ID: s.User.ID, Token: s.Token, box: b}
}

// AddPerson adds a member and signs them in.
func (b *Box) AddPerson(name string) *Person {
	b.t.Helper()
	b.Local("POST", "/local/users", map[string]any{"username": name, "password": Password, "role": "member"}, nil)
	return b.SignIn(name)
}

// SignIn signs a person in again.
func (b *Box) SignIn(name string) *Person {
	b.t.Helper()
	var s session
	answer(b.t, b.Client, "POST", b.URL+"/v1/session", "", map[string]any{"username": name, "password": Password}, &s)
	return &Person{Name: name, ID: s.User.ID, Token: s.Token, box: b}
}

// Box returns the box that the person is on.
func (p *Person) Box() *Box { return p.box }

// Nobody is somebody who has not signed in.
func (b *Box) Nobody() *Person { return &Person{box: b} }

// With returns the person with another token.
func (p *Person) With(token string) *Person {
	other := *p
	other.Token = token
	return &other
}

// SetQuota limits the bytes that the person may keep; negative: no limit.
func (p *Person) SetQuota(bytes int64) {
	p.box.t.Helper()
	var quota *int64
	if bytes >= 0 {
		quota = &bytes
	}
	p.box.Local("PATCH", "/local/users/"+p.Name, map[string]any{"quota_bytes": quota}, nil)
}

// Call sends JSON as the person and decodes the answer into out unless that is
// nil. It fails the test unless the answer is a 2xx.
func (p *Person) Call(method, path string, in, out any) {
	p.box.t.Helper()
	answer(p.box.t, p.box.Client, method, p.box.URL+path, p.Token, in, out)
}

// Grant records the person's consent to each purpose under the current policy.
func (p *Person) Grant(purposes ...string) {
	p.box.t.Helper()
	var policy struct {
		Revision string `json:"revision"`
	}
	p.Call("GET", "/v1/policy", nil, &policy)
	for _, purpose := range purposes {
		p.Call("PUT", "/v1/consents/"+purpose, map[string]any{"granted": true, "policy_revision": policy.Revision}, nil)
	}
}

// Withdraw withdraws the person's consent to a purpose.
func (p *Person) Withdraw(purpose string) {
	p.box.t.Helper()
	p.Call("DELETE", "/v1/consents/"+purpose, nil, nil)
}

// Request makes a request as the person, to be changed and sent with Do.
func (p *Person) Request(method, path string, body io.Reader) *http.Request {
	p.box.t.Helper()
	r, err := http.NewRequestWithContext(p.box.t.Context(), method, p.box.URL+path, body)
	if err != nil {
		p.box.t.Fatal(err)
	}
	if p.Token != "" {
		r.Header.Set("Authorization", "Bearer "+p.Token)
	}
	return r
}

// Do sends a request and returns the status, the header and the whole body. It
// fails the test if there is no answer.
func (p *Person) Do(r *http.Request) (int, http.Header, []byte) {
	p.box.t.Helper()
	resp, err := p.box.Client.Do(r)
	if err != nil {
		p.box.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.box.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

func answer(t testing.TB, c *http.Client, method, url, token string, in, out any) {
	t.Helper()
	b := exchange(t, c, method, url, token, in)
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, url, err, b)
		}
	}
}

// exchange sends JSON and returns the body of an answer that must be a 2xx.
func exchange(t testing.TB, c *http.Client, method, url, token string, in any) []byte {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s", method, r.URL.Path, resp.Status, b)
	}
	return b
}

// testLog sends the box's log to the test's.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
