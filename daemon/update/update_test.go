package update_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update"
	"yunbox.local/daemon/update/bundle"
	"yunbox.local/daemon/update/install"
	"yunbox.local/storage/vfs"
)

func key(word string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(word))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(word string) ed25519.PublicKey { return key(word).Public().(ed25519.PublicKey) }

// makeBundle makes a release of some counter that is signed with a list of some counter.
func makeBundle(t *testing.T, counter, list int64) []byte {
	t.Helper()
	l := bundle.KeyList{Product: bundle.Product, Counter: list, Keys: []bundle.ReleaseKey{{ID: bundle.IDOf(public("release")), Key: public("release")}}, Revoked: []bundle.KeyID{}, Created: "2026-11-26T00:00:00Z"}
	var file []byte
	var err error
	for _, root := range []string{"root 1", "root 2"} {
		if file, err = bundle.SignKeyList(l, file, key(root)); err != nil {
			t.Fatal(err)
		}
	}
	rel, _ := json.Marshal(bundle.Release{Version: fmt.Sprintf("0.%d.0", counter), Counter: counter, Arch: "amd64", MinSchema: 1, MaxSchema: 4})
	var payload bytes.Buffer
	h, err := bundle.Make(&payload, bundle.Draft{Channel: "stable", Created: time.Unix(1e9, 0)}, func(name string) (io.ReadCloser, int64, error) {
		b := []byte("a program")
		if name == bundle.ReleaseFile {
			b = rel
		}
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	head, err := bundle.Head(file, h, key("release"))
	if err != nil {
		t.Fatal(err)
	}
	return append(head, payload.Bytes()...)
}

type world struct {
	*update.Room
	t       *testing.T
	state   *vfs.Dir
	db      *db.DB
	log     *audit.Log
	outside *disclosure.Register
	told    []string
	opt     update.Options
}

func newWorld(t *testing.T, change func(*update.Options)) *world {
	t.Helper()
	dir := t.TempDir()
	state, err := vfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), Journal: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); state.Close() })
	w := &world{t: t, state: state, db: d, log: audit.New(d), outside: disclosure.New(d)}
	w.opt = update.Options{
		DB: d, Audit: w.log, Outside: w.outside, Log: slog.New(slog.DiscardHandler), State: state, Version: "0.10.0",
		Release: bundle.Release{Version: "0.10.0", Counter: 10, Arch: "amd64", MinSchema: 1, MaxSchema: 3},
		Roots:   []ed25519.PublicKey{public("root 1"), public("root 2"), public("root 3")},
		Roll:    d.Roll, Notify: func(_ *db.Tx, kind string) error { w.told = append(w.told, kind); return nil },
		Test:     func(context.Context) string { return "" },
		Software: fstest.MapFS{"releases/9/release.json": {Data: []byte(`{"version":"0.9.0","counter":9,"arch":"amd64","min_schema":1,"max_schema":3}`)}},
	}
	if change != nil {
		change(&w.opt)
	}
	if w.Room, err = update.New(w.opt); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) take(b []byte) error {
	_, err := w.Take(w.t.Context(), update.Who{Via: "socket"}, bytes.NewReader(b))
	return err
}

func (w *world) acts() (list []string) {
	w.t.Helper()
	entries, err := w.log.Tail(w.t.Context(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Action)
	}
	return list
}

func (w *world) files() (list []string) {
	w.t.Helper()
	entries, err := w.state.ReadDir(install.Dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestTakeAndInstall(t *testing.T) { // R18
	w := newWorld(t, func(o *update.Options) { o.Answered = func(context.Context) []string { return []string{"eth0"} } })
	good := makeBundle(t, 11, 5)
	if err := w.take(good); err != nil {
		t.Fatal(err)
	}
	s, err := w.State(t.Context())
	if err != nil || s.Waiting == nil || s.Waiting.Counter != 11 || !s.Waiting.Moves || s.KeyList != 5 || s.Highest != 10 {
		t.Fatalf("%+v %v", s, err)
	}
	// What comes after it and is bad takes nothing away.
	for name, b := range map[string][]byte{"cut off": good[:len(good)-1], "garbage": []byte("x"), "older keys": makeBundle(t, 12, 4), "older": makeBundle(t, 9, 5)} {
		if err := w.take(b); problem.KindOf(err) == problem.Internal || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.files(); !slices.Equal(got, []string{"bundle.yup", "keys", "waiting"}) {
		t.Errorf("%v", got)
	}
	who := update.Who{User: 1, Via: "http"}
	if err := w.Install(t.Context(), who, 12); problem.KindOf(err) != problem.NotFound {
		t.Errorf("another one than was shown: %v", err)
	}
	if err := w.Install(t.Context(), who, 11); err != nil {
		t.Fatal(err)
	}
	if err := w.take(good); problem.KindOf(err) != problem.Locked {
		t.Errorf("while one runs: %v", err)
	}
	// The version on trial knows where this one answered, and no trial else does.
	var req install.Request
	if ok, err := install.ReadJSON(w.state, install.RequestFile, &req); !ok || err != nil {
		t.Fatal(err)
	}
	for id, links := range map[string][]string{req.ID: {"eth0"}, "another": nil, "": nil} {
		put(t, w.state, install.TrialFile, install.Trial{ID: id})
		if next, err := update.New(w.opt); err != nil || !slices.Equal(next.AnsweredBefore(), links) {
			t.Errorf("trial %q: %v %v", id, next.AnsweredBefore(), err)
		}
	}
	if err := w.state.Remove(install.TrialFile); err != nil {
		t.Fatal(err)
	}
	if s, err := w.State(t.Context()); err != nil || s.Running == nil || *s.Running != install.Install {
		t.Errorf("%+v %v", s, err)
	}
	if gens := w.db.Journal().Generations; gens == 0 {
		t.Error("there is no copy of the records from before")
	}
	want := []string{"update.take", "update.refuse", "update.refuse", "update.refuse", "update.refuse", "update.install"}
	if got := w.acts(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// The highest counter is kept in two places; a lost one is no way back.
func TestNoWayBackToAnOlderOne(t *testing.T) { // R18
	w := newWorld(t, nil)
	put(t, w.state, install.ResultFile, install.Result{ID: "a", Action: install.Install, Outcome: install.OutcomeKept, Version: "0.30.0", Counter: 30})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	for len(w.acts()) == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
	if !slices.Equal(w.told, []string{update.NoticeKept}) || !slices.Equal(w.acts(), []string{"update.kept"}) {
		t.Errorf("%v %v", w.told, w.acts())
	}
	if err := w.take(makeBundle(t, 29, 1)); err == nil || !strings.Contains(problem.Sentence(err), "older than this box") {
		t.Errorf("by the database: %v", err)
	}
	o := newWorld(t, nil)
	put(t, o.state, install.KeptFile, install.Kept{Highest: 30, Floor: 9, Previous: "releases/9"})
	if err := o.take(makeBundle(t, 29, 1)); err == nil || !strings.Contains(problem.Sentence(err), "older than this box") {
		t.Errorf("by the file: %v", err)
	}
	s, err := o.State(t.Context())
	if err != nil || s.Previous == nil || *s.Previous != "0.9.0" {
		t.Errorf("%+v %v", s, err)
	}
	put(t, o.state, install.KeptFile, install.Kept{Highest: 30, Floor: 10, Previous: "releases/9"})
	if s, err := o.State(t.Context()); err != nil || s.Previous != nil {
		t.Errorf("below the floor: %+v %v", s, err)
	}
}

func put(t *testing.T, fsys vfs.FS, name string, v any) {
	t.Helper()
	b, _ := json.Marshal(v)
	if err := vfs.WriteFile(fsys, name, b, fs.FileMode(0o600)); err != nil {
		t.Fatal(err)
	}
}

// Without keys or without a package there is nothing to be changed.
func TestNoKeysNoPackage(t *testing.T) { // R18
	for title, change := range map[string]func(*update.Options){
		"This build takes no updates from files":    func(o *update.Options) { o.Roots = nil },
		"This box was not installed from a package": func(o *update.Options) { o.Release = bundle.Release{} },
	} {
		w := newWorld(t, change)
		if err := w.take(makeBundle(t, 11, 1)); err == nil || problem.As(err).Title != title {
			t.Errorf("%v, want %s", err, title)
		}
	}
}

// Whoever has it, the signature counts; and that the box asked is in the register.
func TestFetch(t *testing.T) { // R18 R38
	file := makeBundle(t, 11, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/update/offer" {
			w.Write(file)
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	w := newWorld(t, nil)
	if _, err := w.Fetch(t.Context(), update.Who{}, server.URL, true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Fetch(t.Context(), update.Who{}, server.URL+"/v1/update/offer", false); problem.KindOf(err) != problem.Unavailable {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	file[len(file)-1] ^= 1
	if _, err := w.Fetch(t.Context(), update.Who{}, server.URL, true); problem.KindOf(err) != problem.Mismatch {
		t.Errorf("a bad neighbour: %v", err)
	}
	for _, bad := range []string{"http://box/", "https://a:b@box/", "x"} {
		if _, err := w.Fetch(t.Context(), update.Who{}, bad, false); problem.KindOf(err) != problem.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	list, err := w.outside.All(t.Context(), 0, 10)
	if err != nil || len(list) != 3 || list[0].Kind != disclosure.UpdateFetch || list[0].Why != "update_box" {
		t.Errorf("%+v %v", list, err)
	}
}
