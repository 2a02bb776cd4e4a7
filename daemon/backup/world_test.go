package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/backup"
	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/db"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// world is a box without its gateways, and the disk of its second copy, which is
// in memory and can lose power.
type world struct {
	t     testing.TB
	db    *db.DB
	store *storage.Store
	b     *backup.Backup
	state string
	keys  *vfs.Dir
	key   target.Recovery

	mu      sync.Mutex
	disk    *vfstest.Disk // nil: it is not plugged in
	now     time.Time
	busy    bool
	doubted []storage.Ref
	kept    map[storage.Ref][]byte // what the box keeps
}

// plugged is the disk as the box opens it.
type plugged struct{ *vfstest.Disk }

func (plugged) Close() error { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	state, err := os.MkdirTemp("/dev/shm", "yunbox-test-")
	if err != nil {
		state = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	w := &world{t: t, state: state, disk: vfstest.NewDisk(), now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), kept: map[storage.Ref][]byte{}}
	clock := func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }
	must(t, os.Mkdir(filepath.Join(state, "keys"), 0o700))
	must(t, os.WriteFile(filepath.Join(state, "keys", "ca.key"), []byte("the key of the box"), 0o400))
	w.keys, err = vfs.OpenDir(filepath.Join(state, "keys"))
	must(t, err)
	disk, err := vfs.OpenDir(state)
	must(t, err)
	w.store, err = storage.Open(t.Context(), disk, storage.Options{Intent: -1, Now: clock})
	must(t, err)
	w.db, err = db.Open(t.Context(), db.Options{Path: filepath.Join(state, "box.db"), Now: clock})
	must(t, err)
	must(t, w.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'Ada', 'owner', '', 0)`)
		if err == nil {
			_, err = tx.Exec(`INSERT INTO usage (user) VALUES (1)`)
		}
		return err
	}))
	w.b = backup.New(backup.Options{
		DB: w.db, Audit: audit.New(w.db), Store: w.store, Disk: disk, Keys: w.keys, State: state, Box: "testbox", Now: clock,
		Busy: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.busy },
		Doubt: func(_ context.Context, ref storage.Ref, _ int64) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.doubted = append(w.doubted, ref)
			return nil
		},
		Open: func(string) (backup.Folder, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.disk == nil {
				return nil, fs.ErrNotExist
			}
			return plugged{w.disk}, nil
		},
	})
	t.Cleanup(func() {
		if err := errors.Join(w.db.Close(), w.store.Close(), disk.Close(), w.keys.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// add adds the copy. The folder on the real disk is only a name here.
func (w *world) add() {
	w.t.Helper()
	var err error
	w.key, err = target.NewRecovery()
	must(w.t, err)
	public, err := w.key.Public()
	must(w.t, err)
	top := filepath.Join(w.t.TempDir(), "usb")
	must(w.t, os.Mkdir(top, 0o700))
	_, err = w.b.Add(w.t.Context(), backup.Wish{Path: top, Key: public, SameDisk: true})
	must(w.t, err)
}

// keep stores a content.
func (w *world) keep(content []byte) storage.Ref {
	w.t.Helper()
	ctx := w.t.Context()
	u, err := w.store.Begin(ctx, int64(len(content)))
	must(w.t, err)
	_, err = u.Write(ctx, 0, bytes.NewReader(content))
	must(w.t, err)
	sealed, err := u.Seal(ctx)
	must(w.t, err)
	must(w.t, errors.Join(w.store.Commit(ctx, []storage.Sealed{sealed})...))
	must(w.t, w.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO blob (ref, sha1, size, added) VALUES (?, zeroblob(20), ?, 0) ON CONFLICT (ref) DO UPDATE SET dead = NULL`, sealed.Ref[:], len(content))
		return errors.Join(err, changed(tx))
	}))
	w.store.Release([]storage.Sealed{sealed})
	w.kept[sealed.Ref] = content
	return sealed.Ref
}

// changed raises the person's change number, as every change of the catalogue does.
func changed(tx *db.Tx) error {
	_, err := tx.Exec(`UPDATE usage SET seq = seq + 1`)
	return err
}

// forget removes a content for good.
func (w *world) forget(ref storage.Ref) {
	w.t.Helper()
	must(w.t, w.db.Write(w.t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM blob WHERE ref = ?`, ref[:])
		return errors.Join(err, changed(tx))
	}))
	_, err := w.store.Remove(w.t.Context(), []storage.Ref{ref}, func(storage.Ref) (bool, error) { return false, nil })
	must(w.t, err)
	delete(w.kept, ref)
}

func (w *world) run() (backup.Result, error) { return w.b.RunNow(w.t.Context(), "", nil) }

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) plug(d *vfstest.Disk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disk = d
}

// restore restores the copy on disk with the recovery key and returns what it got.
func (w *world) restore(disk vfs.FS) (target.Restored, map[storage.Ref][]byte, error) {
	w.t.Helper()
	keys, err := w.key.Keys()
	must(w.t, err)
	tt, err := target.Open(disk, keys, "")
	if err != nil {
		return target.Restored{}, nil, err
	}
	state := vfstest.NewDisk()
	r, err := tt.Restore(w.t.Context(), state, target.RestoreOptions{Lost: func(storage.Ref, string) {}, Step: func(int64, int64, int64) {}})
	if err != nil {
		return r, nil, err
	}
	return r, contentsOf(w.t, state), nil
}

func contentsOf(t testing.TB, state vfs.FS) map[storage.Ref][]byte {
	t.Helper()
	got := map[storage.Ref][]byte{}
	for i := range 256 {
		dir := fmt.Sprintf("blobs/%02x", i)
		list, err := state.ReadDir(dir)
		must(t, err)
		for _, e := range list {
			ref, err := storage.ParseRef(e.Name())
			must(t, err)
			got[ref], err = vfs.ReadFile(state, dir+"/"+e.Name())
			must(t, err)
		}
	}
	return got
}

func same(a, b map[storage.Ref][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// onTarget counts the contents on the target, and finds what should not be there.
func onTarget(t testing.TB, disk vfs.FS) (contents int, strange []string) {
	t.Helper()
	for i := range 256 {
		list, err := disk.ReadDir(fmt.Sprintf("data/%02x", i))
		must(t, err)
		for _, e := range list {
			if filepath.Ext(e.Name()) == ".age" {
				contents++
			} else {
				strange = append(strange, e.Name())
			}
		}
	}
	list, err := disk.ReadDir(".")
	must(t, err)
	for _, e := range list {
		if !slices.Contains([]string{"data", "generations", "YUNBOX-BACKUP", "README.txt", "LOCK"}, e.Name()) {
			strange = append(strange, e.Name())
		}
	}
	return contents, strange
}

func readAll(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}
