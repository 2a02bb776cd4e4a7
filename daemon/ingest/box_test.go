package ingest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

const (
	ann   = ident.UserID(1)
	bob   = ident.UserID(2)
	phone = ident.DeviceID(7)
)

// box is what stands below the gateways, without the rest of the daemon.
type box struct {
	t      testing.TB
	db     *db.DB
	store  *storage.Store
	cat    *catalog.Catalog
	ledger *consent.Ledger
	in     *ingest.Ingest

	powerless atomic.Bool // the disk is off: closing may fail
}

type settings struct {
	dir     string // of the database; "": a new one
	disk    vfs.FS // nil: a new one in memory
	options ingest.Options
	reserve int64
	now     func() time.Time
}

// start opens a box; people and consents are made if the database is new.
func start(t testing.TB, s settings) *box {
	t.Helper()
	b := &box{t: t}
	ctx := context.Background()
	if s.dir == "" {
		s.dir = quickDir(t)
	}
	if s.disk == nil {
		s.disk = vfstest.NewDisk()
	}
	if s.reserve == 0 {
		s.reserve = -1
	}
	var err error
	b.db, err = db.Open(ctx, db.Options{Path: filepath.Join(s.dir, "box.db"), Now: s.now})
	must(t, err)
	b.cat, err = catalog.Open(ctx, b.db)
	must(t, err)
	b.store, err = storage.Open(ctx, s.disk, storage.Options{Reserve: s.reserve, Intent: 48 << 10, Now: s.now, Acknowledged: b.cat.Live})
	must(t, err)
	b.ledger, err = consent.Open(ctx, b.db, audit.New(b.db), deviceKey(t))
	must(t, err)
	var people int
	must(t, b.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT count(*) FROM user`).Scan(&people)
	}))
	if people == 0 {
		b.settle()
	}
	s.options.Store, s.options.Catalog, s.options.DB, s.options.Consent = b.store, b.cat, b.db, b.ledger
	if s.options.Now == nil {
		s.options.Now = s.now
	}
	b.in = ingest.New(s.options)
	t.Cleanup(func() { b.stop() })
	return b
}

// quickDir is in memory where there is such a place: what these tests want of
// the database is not its speed on a disk.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "yunbox-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// realDisk is a folder on the disk of this machine.
func realDisk(t testing.TB) *vfs.Dir {
	dir, err := vfs.OpenDir(t.TempDir())
	must(t, err)
	t.Cleanup(func() { dir.Close() })
	return dir
}

func deviceKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func (b *box) settle() {
	b.t.Helper()
	must(b.t, b.db.Write(context.Background(), func(tx *db.Tx) error {
		for u, role := range map[ident.UserID]string{ann: "owner", bob: "member"} {
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?1, ?2, ?2, ?3, '', 0)`,
				int64(u), fmt.Sprint(u), role); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, u := range []ident.UserID{ann, bob} {
		b.decide(u, consent.Storage, true)
		b.decide(u, consent.AlbumBackup, true)
	}
}

func (b *box) decide(u ident.UserID, p consent.Purpose, yes bool) {
	b.t.Helper()
	b.decideFor(u, 0, p, yes)
}

func (b *box) decideFor(u ident.UserID, d ident.DeviceID, p consent.Purpose, yes bool) {
	b.t.Helper()
	_, err := b.ledger.Record(context.Background(), consent.Decision{
		User: u, Device: d, Actor: u, Purpose: p, Granted: yes, How: "test", PolicyRevision: consent.CurrentPolicy().Revision,
	})
	must(b.t, err)
}

// stop ends the box in good order; again is harmless.
func (b *box) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(b.in.Close(ctx), b.db.Close(), b.store.Close()); err != nil && !b.powerless.Load() && !b.t.Failed() {
		b.t.Error(err)
	}
}

func (b *box) grant(u ident.UserID, p consent.Purpose) consent.Grant {
	b.t.Helper()
	g, err := b.ledger.Grant(context.Background(), u, phone, p)
	must(b.t, err)
	return g
}

func album(path string, size int) ingest.Meta {
	return ingest.Meta{Source: "album", Path: path, Size: int64(size)}
}

// put is one upload in one request.
func (b *box) put(u ident.UserID, path string, content []byte) (ingest.Result, error) {
	g, err := b.ledger.Grant(context.Background(), u, phone, consent.AlbumBackup)
	if err != nil {
		return ingest.Result{}, err
	}
	return b.send(g, album(path, len(content)), bytes.NewReader(content))
}

func (b *box) send(g consent.Grant, m ingest.Meta, body io.Reader) (ingest.Result, error) {
	ctx := context.Background()
	i, err := b.in.Begin(ctx, g, m)
	if err != nil {
		return ingest.Result{}, err
	}
	defer i.Close()
	if _, err := i.Write(ctx, 0, body); err != nil {
		return ingest.Result{}, err
	}
	return i.Finish(ctx)
}

func (b *box) mustPut(u ident.UserID, path, content string) ingest.Result {
	b.t.Helper()
	r, err := b.put(u, path, []byte(content))
	must(b.t, err)
	return r
}

// content reads back what u has at path.
func (b *box) content(u ident.UserID, path string) (string, error) {
	it, err := b.cat.Lookup(context.Background(), u, path)
	if err != nil {
		return "", err
	}
	blob, err := b.store.Get(context.Background(), it.Ref)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	data, err := io.ReadAll(blob)
	if err == nil && storage.Ref(sha256.Sum256(data)) != it.Ref {
		err = fmt.Errorf("%s holds other bytes than its name says", path)
	}
	return string(data), err
}

// blobs counts the files below blobs/, and the staged uploads.
func (b *box) blobs() (blobs, staged int) {
	b.t.Helper()
	for _, err := range b.store.Refs(context.Background()) {
		must(b.t, err)
		blobs++
	}
	for _, err := range b.store.Staged(context.Background()) {
		must(b.t, err)
		staged++
	}
	return blobs, staged
}

func (b *box) usage(u ident.UserID) catalog.Usage {
	b.t.Helper()
	g, err := b.cat.Usage(context.Background(), u)
	must(b.t, err)
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err error, kind problem.Kind) {
	t.Helper()
	if got := problem.KindOf(err); got != kind {
		t.Errorf("want %s, got %q: %v", kind, got, err)
	}
	if p := problem.As(err); p != nil && kind != problem.Internal && (p.Title == "" || p.Detail == "" || p.Hint == "") {
		t.Errorf("a person cannot act on this: %+v", p)
	}
}
