package inbox_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/inbox"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

const ada = ident.UserID(1)

// world is what stands below the gateway, on a disk in memory, with real folders
// to watch and times that a test can wait for.
type world struct {
	t      testing.TB
	dir    string // of the database
	disk   *vfstest.Disk
	opt    inbox.Options
	closed map[ident.UserID]bool

	db     *db.DB
	store  *storage.Store
	cat    *catalog.Catalog
	audit  *audit.Log
	ledger *consent.Ledger
	ingest *ingest.Ingest
	*inbox.Inbox
	stop func()

	powerless bool          // the disk is off: stopping may fail
	ahead     time.Duration // by which the box's clock is ahead
}

func newWorld(t testing.TB, opt inbox.Options) *world {
	dir, err := os.MkdirTemp("/dev/shm", "yunbox-inbox-")
	if err != nil {
		dir = t.TempDir()
	}
	w := &world{t: t, dir: dir, disk: vfstest.NewDisk(), opt: opt, closed: map[ident.UserID]bool{}}
	t.Cleanup(func() {
		w.stop()
		os.RemoveAll(dir)
	})
	w.run()
	must(t, w.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'Ada', 'owner', '', 0)`)
		return err
	}))
	w.decide(consent.Storage, true)
	w.decide(consent.AlbumBackup, true)
	return w
}

func (w *world) run() {
	t, ctx := w.t, context.Background()
	var err error
	w.db, err = db.Open(ctx, db.Options{
		Path: filepath.Join(w.dir, "box.db"), Now: func() time.Time { return time.Now().Add(w.ahead) },
	})
	must(t, err)
	w.cat, err = catalog.Open(ctx, w.db)
	must(t, err)
	w.store, err = storage.Open(ctx, w.disk, storage.Options{Reserve: -1, Acknowledged: w.cat.Live})
	must(t, err)
	w.audit = audit.New(w.db)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w.ledger, err = consent.Open(ctx, w.db, w.audit, key)
	must(t, err)
	w.ingest = ingest.New(ingest.Options{Store: w.store, Catalog: w.cat, DB: w.db})
	opt := w.opt
	opt.DB, opt.Audit, opt.Consent, opt.Catalog, opt.Ingest, opt.State = w.db, w.audit, w.ledger, w.cat, w.ingest, w.dir
	opt.Named = func(_ context.Context, name string) (ident.UserID, error) {
		if strings.EqualFold(name, "ada") {
			return ada, nil
		}
		return 0, &problem.Error{Kind: problem.NotFound}
	}
	opt.Person = func(_ context.Context, u ident.UserID) (string, bool, error) { return "Ada", !w.closed[u], nil }
	if opt.Settle == 0 {
		opt.Settle = 120 * time.Millisecond
	}
	if opt.Scan == 0 {
		opt.Scan = time.Hour // what is noticed is noticed by the system
	}
	if opt.Retry == 0 {
		opt.Retry = 200 * time.Millisecond
	}
	if opt.Absent == 0 {
		opt.Absent = 50 * time.Millisecond
	}
	w.Inbox, err = inbox.New(ctx, opt)
	must(t, err)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-ended
		patience, done := context.WithTimeout(context.Background(), time.Minute)
		defer done()
		if err := errors.Join(w.ingest.Close(patience), w.db.Close(), w.store.Close()); err != nil && !t.Failed() && !w.powerless {
			t.Error(err)
		}
	}
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.run()
}

func (w *world) decide(p consent.Purpose, yes bool) {
	w.t.Helper()
	_, err := w.ledger.Record(context.Background(), consent.Decision{
		User: ada, Actor: ada, Purpose: p, Granted: yes, How: "test", PolicyRevision: consent.CurrentPolicy().Revision,
	})
	must(w.t, err)
}

// add watches a folder for ada, into her root.
func (w *world) add(path string, change ...func(*inbox.Wish)) {
	w.t.Helper()
	wish := inbox.Wish{Path: path, User: "ada", Into: "/"}
	for _, c := range change {
		c(&wish)
	}
	_, err := w.Add(context.Background(), wish)
	must(w.t, err)
}

func trash(w *inbox.Wish) { w.Originals = inbox.Trash }

// status is how the one watched folder stands.
func (w *world) status() inbox.Status {
	w.t.Helper()
	list, err := w.List(context.Background())
	must(w.t, err)
	if len(list) != 1 {
		w.t.Fatalf("%d folders are watched", len(list))
	}
	return list[0]
}

// kept is every live file of ada by path, as the text that it holds.
func (w *world) kept() map[string]string {
	w.t.Helper()
	m := map[string]string{}
	for cur := ""; ; {
		page, err := w.cat.List(context.Background(), ada, catalog.Query{Recursive: true, Limit: 1000, Cursor: cur})
		must(w.t, err)
		for _, i := range page.Items {
			m[i.Path] = w.text(i.Ref)
		}
		if cur = page.Next; cur == "" {
			return m
		}
	}
}

func (w *world) text(ref storage.Ref) string {
	w.t.Helper()
	blob, err := w.store.Get(context.Background(), ref)
	must(w.t, err)
	defer blob.Close()
	b, err := io.ReadAll(blob)
	must(w.t, err)
	if sha256.Sum256(b) != ref {
		w.t.Errorf("the stored bytes of %s are others", ref)
	}
	return string(b)
}

// offers is how many files were offered to the box so far.
func (w *world) offers() (n int) {
	w.t.Helper()
	list, _, err := w.cat.Ledger(context.Background(), ada, 0, "", "", 1000)
	must(w.t, err)
	return len(list)
}

// eventually waits for something that the box does by itself.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			list, err := w.List(context.Background())
			w.t.Fatalf("%s: not within two minutes; %+v %v; %v", what, list, err, w.kept())
		}
	}
}

// holds waits until ada keeps just these files.
func (w *world) holds(want map[string]string) {
	w.t.Helper()
	w.eventually(fmt.Sprint("she keeps ", want), func() bool { return fmt.Sprint(w.kept()) == fmt.Sprint(want) })
}

// looked waits until everything was looked through once more.
func (w *world) looked() {
	w.t.Helper()
	before := time.Now()
	w.Overflow()
	w.eventually("it is looked through", func() bool {
		s := w.status()
		return s.LastScan != nil && s.LastScan.After(before) && s.State != "scanning"
	})
}

// imports runs an import as yunboxctl would.
func (w *world) imports(wish inbox.Wish) (lines []map[string]any) {
	w.t.Helper()
	mux := http.NewServeMux()
	w.Routes(func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			if err := h(rw, r); err != nil {
				http.Error(rw, err.Error(), 500)
			}
		})
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	body, err := json.Marshal(wish)
	must(w.t, err)
	resp, err := http.Post(server.URL+"/local/inboxes/import", "application/json", strings.NewReader(string(body)))
	must(w.t, err)
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		w.t.Fatalf("import: %s %s", resp.Status, b)
	}
	for dec := json.NewDecoder(resp.Body); ; {
		var line map[string]any
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return lines
		} else if err != nil {
			w.t.Fatal(err)
		}
		lines = append(lines, line)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file and the folders above it.
func write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o644))
}
