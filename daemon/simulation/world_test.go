// Package simulation has no code but a test: a box without its gateways lives through
// a hundred thousand steps and hundreds of power cuts, drawn from one seed, and is
// compared with a model of what it was told and what it said.
package simulation_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	randv2 "math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/health"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

const password = "correct horse battery"

// A world is a box and what it stands on. Everything happens in one goroutine, one
// step after the other; the goroutines of the box itself have come to rest before
// each step.
//
// What is simulated: contents and staged uploads lie on vfstest.Disk, which forgets
// what was not synced and lets any call fail. The database is SQLite, which is C and
// cannot run there: it lies on a real folder in memory. A cut copies it as it is
// then; if the cut falls into a commit, the part of the log that was written since
// the last answer is cut off or torn. That SQLite itself syncs what it says is left
// to scripts/powercut, which cuts the power of a real disk under the whole daemon.
type world struct {
	t     *testing.T
	rng   *randv2.Rand
	trace io.Writer
	count map[string]int // of steps by name, and of what became of them
	step  int
	last  string // step

	disk   *vfstest.Disk
	keys   *vfstest.Disk
	folder string       // below which the database's folders are made
	dir    string       // of the database
	cutDir string       // the database as it was when CutIn struck; "": it did not
	sick   bool         // a call of the disk failed since the start: what can wait for the next one does
	ahead  atomic.Int64 // of the clock, in nanoseconds
	signer *ecdsa.PrivateKey
	words  *consent.Catalogue // nil: the built-in one
	people []*person
	model  *model

	// of the running box
	db     *db.DB
	cat    *catalog.Catalog
	store  *storage.Store
	audit  *audit.Log
	ledger *consent.Ledger
	acc    *account.Accounts
	in     *ingest.Ingest
	health *health.Health
}

// A person of the box. All that is asked needs a signed-in one.
type person struct {
	name    string
	id      ident.UserID
	session ident.Principal
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// ctx is bounded by nothing: time is not real here.
func (w *world) ctx() context.Context { return context.Background() }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("step %d, %s: %v", w.step, w.last, err)
	}
}

// wrong is what must never be.
func (w *world) wrong(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("step %d, %s: %s", w.step, w.last, fmt.Sprintf(format, args...))
}

func newWorld(t *testing.T, folder string, rng *randv2.Rand, trace io.Writer, count map[string]int) *world {
	w := &world{t: t, rng: rng, trace: trace, count: count, folder: folder, disk: vfstest.NewDisk(), keys: vfstest.NewDisk(), model: newModel()}
	w.ahead.Store(int64(time.Until(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC))))
	var err error
	w.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	w.dir = w.newDir()
	w.start()
	w.settle()
	return w
}

func (w *world) newDir() string {
	dir, err := os.MkdirTemp(w.folder, "db-")
	w.must(err)
	return dir
}

func (w *world) start() {
	w.sick = false
	w.disk.SetNow(w.now)
	w.disk.OnCut(func() { w.cutDir = w.copyDB() })
	var err error
	w.db, err = db.Open(w.ctx(), db.Options{Path: filepath.Join(w.dir, "box.db"), Journal: filepath.Join(w.dir, "journal"), Now: w.now})
	w.must(err)
	w.cat, err = catalog.Open(w.ctx(), w.db)
	w.must(err)
	w.store, err = storage.Open(w.ctx(), w.disk, storage.Options{Reserve: -1, Intent: 48 << 10, Now: w.now, Acknowledged: w.cat.Relied})
	w.must(err)
	w.audit = audit.New(w.db)
	w.ledger, err = consent.OpenWith(w.ctx(), w.db, w.audit, w.signer, w.words)
	w.must(err)
	w.acc, err = account.Open(w.ctx(), w.db, w.audit, account.Options{Keys: w.keys, DeviceID: "simulated", Fingerprint: "00", Name: "Yunbox", Now: w.now})
	w.must(err)
	w.in = ingest.New(ingest.Options{Store: w.store, Catalog: w.cat, DB: w.db, Consent: w.ledger, Now: w.now})
	w.health = health.New(health.Options{Catalog: w.cat, Store: w.store, DB: w.db, Now: w.now, Sources: []health.Source{w.model}})
	synctest.Wait()
}

// settle makes the people of a new box.
func (w *world) settle() {
	label, err := w.acc.Label(w.ctx())
	w.must(err)
	uri, err := url.Parse(label.PairURI)
	w.must(err)
	owner, err := w.acc.Bind(w.ctx(), account.BindRequest{Secret: uri.Query().Get("s"), Username: "ann", Password: password, Remote: "192.0.2.1"})
	w.must(err)
	_, err = w.acc.CreateUser(w.ctx(), account.As(owner.Principal, "test"), account.NewUser{Username: "bob", Password: password})
	w.must(err)
	other, err := w.acc.Login(w.ctx(), account.LoginRequest{Username: "bob", Password: password, Remote: "192.0.2.1"})
	w.must(err)
	for _, s := range []account.Session{owner, other} {
		p := &person{name: s.Principal.Name, id: s.Principal.User, session: s.Principal}
		w.people = append(w.people, p)
		w.model.people[p.id] = newHoldings()
		w.model.sessions[s.Token] = &session{principal: s.Principal, live: true, sure: true}
		for _, purpose := range append([]consent.Purpose{consent.Storage}, purposes...) {
			_, err := w.ledger.Record(w.ctx(), w.decision(p, purpose, true))
			w.must(err)
			w.model.consents[consentKey{p.id, purpose}] = answer{yes: true}
		}
	}
}

var purposes = []consent.Purpose{"album_backup", "wechat_backup", "qq_backup"}

func (w *world) decision(p *person, purpose consent.Purpose, yes bool) consent.Decision {
	return consent.Decision{User: p.id, Actor: p.id, Purpose: purpose, Granted: yes, How: "test", PolicyRevision: w.ledger.Policy().Revision}
}

// copyDB copies the database with its log and its journal as they are.
func (w *world) copyDB() string {
	dir := w.newDir()
	w.copyFile(dir, "box.db")
	w.copyFile(dir, "box.db-wal") // second: the log has what the file lacks
	w.copyJournal(dir)
	return dir
}

func (w *world) copyFile(dir, name string) {
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, name), data, 0o600))
}

func (w *world) copyJournal(dir string) {
	w.must(os.RemoveAll(filepath.Join(dir, "journal")))
	w.must(os.CopyFS(filepath.Join(dir, "journal"), os.DirFS(filepath.Join(w.dir, "journal"))))
}

// A log is the state of the database's log at some moment; https://sqlite.org/fileformat2.html#walformat.
type log struct {
	salt string            // changes when the log begins anew
	end  int               // of the frames that it holds
	file [sha256.Size]byte // of the database itself, to which a checkpoint copies them
}

func (w *world) log(dir string) (l log, data []byte) {
	data, err := os.ReadFile(filepath.Join(dir, "box.db-wal"))
	if errors.Is(err, os.ErrNotExist) || len(data) < 32 {
		return log{}, data
	}
	w.must(err)
	file, err := os.ReadFile(filepath.Join(dir, "box.db"))
	w.must(err)
	l = log{salt: string(data[16:24]), end: 32, file: sha256.Sum256(file)}
	frame := 24 + int(binary.BigEndian.Uint32(data[8:]))
	for l.end+frame <= len(data) && string(data[l.end+8:l.end+16]) == l.salt {
		l.end += frame
	}
	return l, data
}

// tear lets the power fail in the last commit: some or nothing of what the log in dir
// has since then is there, as luck has it, and the journal knows nothing of it yet.
func (w *world) tear(dir string, before log, luck vfstest.Luck) (torn bool) {
	after, data := w.log(dir)
	if after.salt != before.salt || after.end == before.end || luck == vfstest.Keep {
		return false
	}
	if after.file != before.file {
		return false // a checkpoint, which syncs the log before it copies from it
	}
	const sector = 512
	from, to := before.end, after.end
	switch luck {
	case vfstest.Drop:
		clear(data[from:to])
	case vfstest.Rand:
		clear(data[from+w.rng.IntN(to-from) : to])
	default:
		for at := from; at < to; {
			end := min(at+sector-at%sector, to)
			if w.rng.IntN(2) == 0 {
				clear(data[at:end])
			}
			at = end
		}
	}
	w.count["torn commits"]++
	w.must(os.WriteFile(filepath.Join(dir, "box.db-wal"), data, 0o600))
	return true
}

// stop ends the box, however that goes.
func (w *world) stop() error {
	return errors.Join(w.in.Close(w.ctx()), w.db.Close(), w.store.Close())
}

// A cut is how the power fails: dir is the database as it was then.
func (w *world) cut(dir string, luck vfstest.Luck) {
	w.count["cut "+luck.String()]++
	old := w.disk
	w.disk = old.PowerCutAs(w.rng, luck)
	w.keys = w.keys.PowerCutAs(w.rng, luck)
	_ = w.stop() // the disk is off: of course it fails
	w.must(os.RemoveAll(w.dir))
	w.dir, w.cutDir = dir, ""
	w.model.powerCut()
	w.start()
}

// kill ends the box as kill -9 does.
func (w *world) kill() {
	w.count["killed"]++
	dir := w.copyDB()
	w.disk = w.disk.Kill()
	w.keys = w.keys.Kill()
	_ = w.stop()
	w.must(os.RemoveAll(w.dir))
	w.dir = dir
	w.start()
}

// lose ends the box, loses the database and makes it anew from its journal.
func (w *world) lose() {
	w.count["rebuilt"]++
	w.must(w.stop())
	dir := w.newDir()
	w.copyJournal(dir)
	w.must(os.RemoveAll(w.dir))
	w.dir = dir
	made, err := db.Rebuild(w.ctx(), db.RebuildOptions{Journal: filepath.Join(dir, "journal"), Path: filepath.Join(dir, "box.db"), Now: w.now})
	w.must(err)
	// A copy of a part that is behind, since a cut came before its sync, is got around.
	if made.Lost != "" || made.Differences != 0 {
		w.wrong("the journal does not know everything: %+v", made)
	}
	w.start()
}

func (w *world) restart() {
	w.count["restarted"]++
	w.must(w.stop())
	w.start()
}

// put is one upload in one request.
func (w *world) put(u ident.UserID, m ingest.Meta, content []byte) (ingest.Result, error) {
	g, err := w.in.Grant(w.ctx(), u, m)
	if err != nil {
		return ingest.Result{}, err
	}
	i, err := w.in.Begin(w.ctx(), g, m)
	if err != nil {
		return ingest.Result{}, err
	}
	defer i.Close()
	if _, err := i.Write(w.ctx(), 0, bytes.NewReader(content)); err != nil {
		return ingest.Result{}, err
	}
	return i.Finish(w.ctx())
}

// read is what somebody gets who opens a content; an error if the box says that it
// is not whole.
func (w *world) read(ref storage.Ref) ([]byte, error) {
	b, err := w.store.Get(w.ctx(), ref)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}
