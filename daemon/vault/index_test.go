package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

// told is what a person is found by in these tests: the kind, and what put wrote for them.
func told(v *Vault, tx *db.Tx, u ident.UserID, kind string) (string, error) {
	var sealed []byte
	if err := tx.QueryRow(`SELECT sealed FROM thing WHERE id = ?`, int64(u)).Scan(&sealed); err != nil {
		return "", err
	}
	text, err := v.Open(u, details, fmt.Sprint(int64(u)), sealed)
	return kind + " of " + string(text), err
}

// stepped calls step after each file that is there from then on.
type stepped struct {
	vfs.FS
	step func()
}

func (s stepped) Rename(from, to string) error {
	err := s.FS.Rename(from, to)
	if err == nil {
		s.step()
	}
	return err
}

// indexed has two people who are found by more than one batch of details, one of whom has
// connected an account elsewhere.
func indexed(t *testing.T) (w *world, kinds []string) {
	t.Helper()
	w = openIn(t, t.TempDir())
	for i := range batch + 3 {
		kinds = append(kinds, fmt.Sprintf("kind%d", i))
	}
	for _, u := range []ident.UserID{7, 8} {
		w.put(t, u, int(u), fmt.Sprint("person ", int(u)))
		w.write(t, func(tx *db.Tx) error {
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?1, ?2, ?2, 'member', '', 0)`, int64(u), fmt.Sprint(int64(u))); err != nil {
				return err
			}
			for _, kind := range kinds {
				if err := w.SetIndex(tx, u, kind, fmt.Sprintf("%s of person %d", kind, int(u))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return w, kinds
}

func (w *world) connect(t *testing.T) {
	t.Helper()
	w.write(t, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO link (id, user, service, subject, created) VALUES (1, 7, 's', ?, 0) ON CONFLICT DO UPDATE SET subject = excluded.subject`, w.Fingerprint("link", "elsewhere"))
		return err
	})
}

// finds fails unless both people are found by all that they told, and the account
// elsewhere if there is one.
func (w *world) finds(t *testing.T, when string, kinds []string) {
	t.Helper()
	if err := w.db.Read(t.Context(), func(tx *db.Tx) error {
		for _, u := range []ident.UserID{7, 8} {
			for _, kind := range kinds {
				if got, err := w.Find(tx, kind, fmt.Sprintf("%s of person %d", kind, int(u))); err != nil || !slices.Equal(got, []ident.UserID{u}) {
					t.Errorf("%s: %s of %d finds %v, %v", when, kind, u, got, err)
				}
			}
		}
		var is, found bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM link)`).Scan(&is); err != nil {
			return err
		}
		if err := w.Lookup("link", "elsewhere", func(f []byte) (bool, error) {
			err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM link WHERE subject = ?)`, f).Scan(&found)
			return found, err
		}); err != nil || found != is {
			t.Errorf("%s: the account elsewhere: %v, want %v, %v", when, found, is, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// has reports whether a key lies in the folder of keys.
func (w *world) has(t *testing.T, key []byte) bool {
	t.Helper()
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(all(t, filepath.Join(w.dir, "keys")), bytes.Trim(text, `"`))
}

// wrapped fails unless the account elsewhere, if it is connected, is under the newest key,
// and under no other one alone.
func (w *world) wrapped(t *testing.T, when string) {
	t.Helper()
	if err := w.db.Read(t.Context(), func(tx *db.Tx) error {
		list, err := fingerprints(t.Context(), tx, `SELECT subject FROM link`)
		for _, f := range list {
			if !bytes.Equal(f, fingerprint(w.box.Index, "link", "elsewhere")) && !bytes.Equal(f[4:8], idOf(w.box.Index)[:4]) {
				t.Errorf("%s: the account elsewhere is under another key", when)
			}
			for _, k := range w.box.Before {
				if bytes.Equal(f, fingerprint(k, "link", "elsewhere")) || bytes.Equal(f, mac(k, "link", "elsewhere")) {
					t.Errorf("%s: who has an old key can tell what account that is", when)
				}
			}
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// R32: the key of fingerprints is changed with the others. Killed after any file or any
// batch, people are found, before and after the rest was done; nobody is missed while it
// runs; and the key before is gone afterwards.
func TestTheKeyOfFingerprintsIsChanged(t *testing.T) {
	w, kinds := indexed(t)
	w.connect(t)
	first := w.box.Index
	w.finds(t, "before", kinds)

	var left []string // what a kill leaves, at each step
	files := w.keys
	stepping := true
	w.keys = stepped{files, func() { left = append(left, copyOf(t, w.dir)) }}
	rotate := func() {
		t.Helper()
		p, err := w.Rotate(t.Context(), func(p Progress) {
			if stepping {
				left = append(left, copyOf(t, w.dir))
			}
			w.finds(t, fmt.Sprintf("while it runs, %+v", p), kinds)
		})
		if err != nil || p.Found != int64(2*len(kinds)) || p.Lost != 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		w.finds(t, "afterwards", kinds)
	}
	rotate()
	w.keys, stepping = files, false
	second := w.box.Index
	if bytes.Equal(first, second) || !w.has(t, second) || !w.has(t, first) {
		t.Error("the account elsewhere is under the first key, which is kept for it, and nothing else")
	}
	if len(left) < 12 {
		t.Errorf("only %d steps", len(left))
	}
	for i, dir := range left {
		again := openIn(t, dir)
		when := fmt.Sprintf("killed at step %d", i)
		again.finds(t, when, kinds)
		again.Run(t.Context())
		again.finds(t, when+", gone on", kinds)
		if again.Unfinished() || again.has(t, first) != (i < 2 || len(again.box.Before) == 1) {
			t.Errorf("%s: it is not at its end", when)
		}
		var old int
		if err := again.db.Read(t.Context(), func(tx *db.Tx) error {
			return tx.QueryRow(`SELECT count(*) FROM vault_index WHERE substr(hash, 1, 8) <> ?`, idOf(again.box.Index)).Scan(&old)
		}); err != nil || old != 0 {
			t.Errorf("%s: %d are under another key, %v", when, old, err)
		}
		again.wrapped(t, when)
		if err := again.db.Close(); err != nil {
			t.Error(err)
		}
	}

	w.wrapped(t, "once")
	rotate()
	w.wrapped(t, "twice")
	if !w.has(t, first) || !w.has(t, second) {
		t.Error("keys that the account elsewhere is found by are gone")
	}
	w.connect(t) // who signs in is under the key in use from then on
	second = w.box.Index
	rotate()
	if w.has(t, first) || !w.has(t, second) {
		t.Error("the first key is not gone, or the one before is")
	}
	w.write(t, func(tx *db.Tx) error { _, err := tx.Exec(`DELETE FROM link`); return err })
	third := w.box.Index
	rotate()
	if w.has(t, first) || w.has(t, second) || w.has(t, third) || len(w.box.Before) > 0 {
		t.Error("keys that nothing is under are not gone")
	}
}

// Records that come back from before a rotation, whose keys are gone: what people told
// says by what they are found. Of what nobody can open it stays.
func TestFingerprintsAreMadeAnewFromWhatWasTold(t *testing.T) {
	w, kinds := indexed(t)
	before := copyOf(t, w.dir)
	if _, err := w.Rotate(t.Context(), func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(before, "keys")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(before, "keys"), os.DirFS(filepath.Join(w.dir, "keys"))); err != nil {
		t.Fatal(err)
	}
	again := openIn(t, before)
	find := func(w *world, u ident.UserID) (n int) {
		if err := w.db.Read(t.Context(), func(tx *db.Tx) error {
			list, err := w.Find(tx, kinds[0], fmt.Sprintf("%s of person %d", kinds[0], int(u)))
			n = len(list)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if find(again, 7) != 0 {
		t.Fatal("the old key is still there, so nothing is tried here")
	}
	again.Run(t.Context())
	again.finds(t, "after a start", kinds)

	w.write(t, func(tx *db.Tx) error { _, err := tx.Exec(`UPDATE thing SET sealed = x'02' WHERE id = 8`); return err })
	if p, err := w.Rotate(t.Context(), func(Progress) {}); err != nil || p.Found != int64(len(kinds)) || find(w, 7) != 1 || find(w, 8) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	var rows int
	if err := w.db.Read(t.Context(), func(tx *db.Tx) error { return tx.QueryRow(`SELECT count(*) FROM vault_index`).Scan(&rows) }); err != nil || rows != 2*len(kinds) {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// Nobody is missed and nothing is lost that is told while keys are changed.
func TestPeopleAreFoundWhileKeysChange(t *testing.T) {
	w, kinds := indexed(t)
	w.connect(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			if _, err := w.Rotate(t.Context(), func(Progress) {}); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		w.finds(t, "meanwhile", kinds[:2])
		w.write(t, func(tx *db.Tx) error { return w.SetIndex(tx, 8, kinds[1], kinds[1]+" of person 8") })
		w.finds(t, "told meanwhile", kinds[1:2])
	}
	w.finds(t, "afterwards", kinds)
	w.wrapped(t, "afterwards")
}
