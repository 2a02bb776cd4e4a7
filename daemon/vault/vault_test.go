package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

var (
	details = Column{Table: "thing", Name: "sealed", Row: "id", Class: General}
	secrets = Column{Table: "thing", Name: "secret", Row: "id", Class: Sensitive}
	logged  = Column{Table: "seen", Name: "sealed", Row: "id", Owner: "CASE WHEN who IS NULL THEN 0 ELSE who END", Class: General}
)

type world struct {
	*Vault
	dir string
	db  *db.DB
}

func openIn(t testing.TB, dir string) *world {
	t.Helper()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), BackupDir: dir, Journal: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	for _, q := range []string{
		`CREATE TABLE IF NOT EXISTS thing (id INTEGER PRIMARY KEY, user INTEGER NOT NULL, sealed BLOB, secret BLOB) STRICT`,
		`CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY, who INTEGER, sealed BLOB) STRICT`,
	} {
		if err := d.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(q); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := vfs.CreateDir(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	keys, err := vfs.OpenDir(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	v, err := Open(t.Context(), d, Options{Keys: keys, Columns: []Column{details, secrets, logged}, Value: told, Hashed: []Column{{Table: "link", Name: "subject"}}})
	if err != nil {
		t.Fatal(err)
	}
	return &world{v, dir, d}
}

func (w *world) put(t testing.TB, u ident.UserID, id int, text string) {
	t.Helper()
	a, err := w.Seal(u, details, fmt.Sprint(id), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.Seal(u, secrets, fmt.Sprint(id), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO thing (id, user, sealed, secret) VALUES (?,?,?,?)`, id, int64(u), a, b)
		return err
	})
}

func (w *world) write(t testing.TB, fn func(*db.Tx) error) {
	t.Helper()
	if err := w.db.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func (w *world) sealed(t testing.TB, id int) (a, b []byte) {
	t.Helper()
	if err := w.db.Read(t.Context(), func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT sealed, secret FROM thing WHERE id = ?`, id).Scan(&a, &b)
	}); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// get opens what put wrote.
func (w *world) get(t testing.TB, u ident.UserID, id int) (string, error) {
	t.Helper()
	a, b := w.sealed(t, id)
	plain, err := w.Open(u, details, fmt.Sprint(id), a)
	if err != nil {
		return "", err
	}
	secret, err := w.Open(u, secrets, fmt.Sprint(id), b)
	if err == nil && !bytes.Equal(plain, secret) {
		t.Errorf("%q and %q", plain, secret)
	}
	return string(plain), err
}

// R32: a value is good for its person, class, column and row, and unchanged only.
func TestAValueIsBoundToItsPlace(t *testing.T) {
	w := openIn(t, t.TempDir())
	const ada, bob = 7, 8
	for _, u := range []ident.UserID{ada, bob} {
		if _, err := w.Seal(u, details, "1", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{0, 1, bucket - 1, bucket, bucket + 1, 3000} {
		plain := bytes.Repeat([]byte{0x80}, n)
		sealed, err := w.Seal(ada, details, "1", plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.Open(ada, details, "1", sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %d, %v", n, len(got), err)
		}
	}
	sealed, err := w.Seal(ada, details, "1", []byte("somewhere"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Seal(ada, details, "1", []byte("somewhere"))
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("the same value twice is the same: %v", err)
	}
	other := details
	other.Name = "other"
	for what, open := range map[string]func() ([]byte, error){
		"another person": func() ([]byte, error) { return w.Open(bob, details, "1", sealed) },
		"another row":    func() ([]byte, error) { return w.Open(ada, details, "2", sealed) },
		"another column": func() ([]byte, error) { return w.Open(ada, other, "1", sealed) },
		"another class": func() ([]byte, error) {
			return w.Open(ada, Column{Table: "thing", Name: "sealed", Class: Sensitive}, "1", sealed)
		},
		"cut":     func() ([]byte, error) { return w.Open(ada, details, "1", sealed[:len(sealed)-1]) },
		"nothing": func() ([]byte, error) { return w.Open(ada, details, "1", nil) },
	} {
		if got, err := open(); !errors.Is(err, ErrChanged) || got != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if got, err := w.Open(ada, details, "1", changed); err == nil {
			t.Fatalf("byte %d changed: %q", i, got)
		}
	}
	if _, err := w.Open(9, details, "1", sealed); !errors.Is(err, ErrLost) {
		t.Errorf("somebody without keys: %v", err)
	}
	if _, err := w.Seal(ada, details, "1", make([]byte, MaxPlain+1)); err == nil {
		t.Error("a value that is too long was sealed")
	}
}

// What is short says nothing by its length.
func TestShortValuesAreOfOneLength(t *testing.T) {
	w := openIn(t, t.TempDir())
	male, err := w.Seal(1, details, "1", []byte("male"))
	if err != nil {
		t.Fatal(err)
	}
	female, err := w.Seal(1, details, "1", []byte("female"))
	if err != nil || len(male) != len(female) {
		t.Errorf("%d and %d bytes, %v", len(male), len(female), err)
	}
}

// all returns every byte of every file below dir.
func all(t testing.TB, dir string) []byte {
	t.Helper()
	var b []byte
	if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it came and went meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		b = append(append(b, data...), 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// copyOf is what a thief has who took the whole disk then.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	for {
		to := t.TempDir()
		switch err := os.CopyFS(to, os.DirFS(dir)); {
		case err == nil:
			return to
		case !errors.Is(err, fs.ErrNotExist): // else one came and went meanwhile
			t.Fatal(err)
		}
	}
}

// R32: what was sealed for somebody who left is noise, also where the journal of the
// database still has it, and with all keys that are left.
func TestDestroyedKeysOpenNothing(t *testing.T) {
	w := openIn(t, t.TempDir())
	const ada, bob = 7, 8
	const phone = "+86 138 1234 5678"
	w.put(t, ada, 1, phone)
	w.put(t, bob, 2, "bob's")
	w.write(t, func(tx *db.Tx) error {
		for u, name := range map[ident.UserID]string{ada: "ada", bob: "bob"} {
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?,?,?,'member','',0)`, int64(u), name, name); err != nil {
				return err
			}
		}
		return w.SetIndex(tx, ada, "phone", "+8613812345678")
	})
	if err := w.db.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealed, secret := w.sealed(t, 1)
	file, err := vfs.ReadFile(w.keys, nameOf(ada))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := parsePerson(file)
	if err != nil {
		t.Fatal(err)
	}
	wrappedKey, err := json.Marshal(kept.Keys[0].Sensitive)
	if err != nil {
		t.Fatal(err)
	}
	wrappedKey = bytes.Trim(wrappedKey, `"`)
	state := all(t, w.dir)
	if !bytes.Contains(state, wrappedKey) || !bytes.Contains(state, sealed) || bytes.Contains(state, []byte("1234 5678")) {
		t.Fatal("the test looks at the wrong bytes, or a value is in the clear")
	}

	undone := errors.New("undone")
	err = w.db.Write(t.Context(), func(tx *db.Tx) error { return errors.Join(w.Destroy(tx, ada), undone) })
	if got, err2 := w.get(t, ada, 1); !errors.Is(err, undone) || err2 != nil || got != phone {
		t.Fatalf("a destruction that was undone: %q, %v, %v", got, err, err2)
	}
	w.write(t, func(tx *db.Tx) error { return w.Destroy(tx, ada) })

	if _, err := w.Open(ada, details, "1", sealed); !errors.Is(err, ErrLost) {
		t.Errorf("open: %v", err)
	}
	if _, err := w.Seal(ada, details, "3", nil); !errors.Is(err, ErrGone) {
		t.Errorf("seal: %v", err)
	}
	if has, err := w.HasKeys(ada); has || err != nil {
		t.Errorf("keys are left: %v", err)
	}
	if got, err := w.get(t, bob, 2); err != nil || got != "bob's" {
		t.Errorf("bob: %q, %v", got, err)
	}
	state = all(t, w.dir)
	if bytes.Contains(state, wrappedKey) {
		t.Error("the wrapped key is still in the state directory")
	}
	if !bytes.Contains(state, sealed) {
		t.Error("the journal has no copy of the value: the test shows nothing")
	}
	// A thief with the whole disk, who knows the program.
	thief := openIn(t, copyOf(t, w.dir))
	for u := range ident.UserID(20) {
		for _, c := range []Column{details, secrets} {
			for _, value := range [][]byte{sealed, secret} {
				if got, err := thief.Open(u, c, "1", value); err == nil {
					t.Errorf("%q", got)
				}
			}
		}
	}
	w.write(t, func(tx *db.Tx) error {
		if found, err := w.Find(tx, "phone", "+8613812345678"); err != nil || len(found) != 0 {
			t.Errorf("found %v, %v", found, err)
		}
		return nil
	})
}

// A cut between the commit and the removal of the keys takes nothing back.
func TestDestroyingIsFinishedAtTheNextStart(t *testing.T) {
	w := openIn(t, t.TempDir())
	w.put(t, 7, 1, "x")
	for step := range 3 {
		dir := copyOf(t, w.dir)
		again := openIn(t, dir)
		if err := again.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO vault_gone (id, time) VALUES (7, 0)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		switch file := filepath.Join(dir, "keys", nameOf(7)); step {
		case 1: // written over, not removed
			if err := os.WriteFile(file, make([]byte, 100), 0o600); err != nil {
				t.Fatal(err)
			}
		case 2: // only the copy is left, which must not mend the other
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		if err := again.db.Close(); err != nil {
			t.Fatal(err)
		}
		third := openIn(t, dir)
		if has, err := third.HasKeys(7); has || err != nil {
			t.Errorf("step %d: keys are left: %v", step, err)
		}
		if _, err := third.get(t, 7, 1); !errors.Is(err, ErrLost) {
			t.Errorf("step %d: %v", step, err)
		}
	}
}

func TestEitherFileMendsTheOther(t *testing.T) {
	w := openIn(t, t.TempDir())
	w.put(t, 7, 1, "x")
	for _, name := range []string{boxName, nameOf(7)} {
		for _, suffix := range []string{"", copySuffix} {
			for _, damage := range []string{"remove", "zero", "cut"} {
				dir := copyOf(t, w.dir)
				path := filepath.Join(dir, "keys", name+suffix)
				good, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				switch damage {
				case "remove":
					err = os.Remove(path)
				case "zero":
					err = os.WriteFile(path, make([]byte, len(good)), 0o600)
				case "cut":
					err = os.Truncate(path, int64(len(good)/2))
				}
				if err != nil {
					t.Fatal(err)
				}
				again := openIn(t, dir)
				if got, err := again.get(t, 7, 1); err != nil || got != "x" {
					t.Errorf("%s%s, %s: %q, %v", name, suffix, damage, got, err)
				}
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
					t.Errorf("%s%s was not mended: %v", name, suffix, err)
				}
			}
		}
	}
}

// Without its master key the box starts, says that values are lost, and takes new ones.
// When the key comes back, the old ones can be read again.
func TestALostMasterKey(t *testing.T) {
	w := openIn(t, t.TempDir())
	w.put(t, 7, 1, "old")
	saved, err := vfs.ReadFile(w.keys, boxName)
	if err != nil {
		t.Fatal(err)
	}
	dir := copyOf(t, w.dir)
	for _, n := range []string{boxName, boxName + copySuffix} {
		if err := os.Remove(filepath.Join(dir, "keys", n)); err != nil {
			t.Fatal(err)
		}
	}
	again := openIn(t, dir)
	if _, err := again.get(t, 7, 1); !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
	again.put(t, 7, 2, "new")
	if got, err := again.get(t, 7, 2); err != nil || got != "new" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := again.Rotate(t.Context(), func(Progress) {}); err != nil {
		t.Errorf("rotate: %v", err)
	}
	if got, err := again.get(t, 7, 2); err != nil || got != "new" {
		t.Errorf("after the rotation: %q, %v", got, err)
	}
	newer := t.TempDir()
	if err := os.CopyFS(newer, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(newer, "keys", boxName), saved, 0o600); err != nil {
		t.Fatal(err)
	}
	back := openIn(t, newer)
	if got, err := back.get(t, 7, 1); err != nil || got != "old" {
		t.Errorf("the key came back: %q, %v", got, err)
	}
}

func TestANewerFileIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	w := openIn(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "keys", boxName), []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), w.db, Options{Keys: w.keys}); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("%v", err)
	}
}

// R32: keys are changed while people write, cut off anywhere, and nothing is lost.
func TestRotation(t *testing.T) {
	w := openIn(t, t.TempDir())
	text := func(id int) string { return fmt.Sprintf("value %d", id) }
	owner := func(id int) ident.UserID { return ident.UserID(7 + id%2) }
	const n = 3*batch + 5
	for id := range n {
		w.put(t, owner(id), id+1, text(id+1))
	}
	strange, err := w.Seal(0, logged, "1", []byte("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO seen (id, who, sealed) VALUES (1, NULL, ?)`, strange)
		return err
	})
	first, _ := w.sealed(t, 1)
	oldMaster := w.box.current()
	oldFile, err := vfs.ReadFile(w.keys, nameOf(owner(0)))
	if err != nil {
		t.Fatal(err)
	}

	// Cut off after each batch in turn, each time on a new start.
	cuts := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		left := cuts%4 + 1
		_, err := w.Rotate(ctx, func(Progress) {
			if left--; left == 0 {
				cancel()
			}
		})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || !w.Unfinished() {
			t.Fatalf("cut %d: %v", cuts, err)
		}
		if cuts++; cuts > 50 {
			t.Fatal("it does not come to an end")
		}
		w = openIn(t, copyOf(t, w.dir))
		for id := range n {
			if got, err := w.get(t, owner(id), id+1); err != nil || got != text(id+1) {
				t.Fatalf("cut %d, value %d: %q, %v", cuts, id+1, got, err)
			}
		}
		if cuts == 2 { // somebody changes and deletes things meanwhile
			w.write(t, func(tx *db.Tx) error { _, err := tx.Exec(`DELETE FROM thing WHERE id = ?`, n); return err })
			w.put(t, owner(n-1), n, text(n))
		}
	}
	if cuts < 5 {
		t.Errorf("only %d cuts", cuts)
	}
	if w.Unfinished() || len(w.box.Masters) != 1 || w.box.current().ID == oldMaster.ID {
		t.Errorf("masters: %d", len(w.box.Masters))
	}
	now, _ := w.sealed(t, 1)
	if bytes.Equal(now, first) || bytes.Equal(now[:header], first[:header]) {
		t.Error("a value lies under its old key")
	}
	if got, err := w.Open(0, logged, "1", func() (b []byte) {
		if err := w.db.Read(t.Context(), func(tx *db.Tx) error { return tx.QueryRow(`SELECT sealed FROM seen`).Scan(&b) }); err != nil {
			t.Fatal(err)
		}
		return b
	}()); err != nil || string(got) != "192.0.2.1" {
		t.Errorf("the box's own: %q, %v", got, err)
	}
	// What was read before the rotation can be opened until the next one.
	if got, err := w.Open(owner(0), details, "1", first); err != nil || string(got) != text(1) {
		t.Errorf("a value of before: %q, %v", got, err)
	}
	if _, err := w.Rotate(t.Context(), func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(owner(0), details, "1", first); !errors.Is(err, ErrLost) {
		t.Errorf("two rotations later: %v", err)
	}
	state := all(t, filepath.Join(w.dir, "keys"))
	f, err := parsePerson(oldFile)
	if err != nil {
		t.Fatal(err)
	}
	oldKey, err := json.Marshal(f.Keys[0].General)
	if err != nil || bytes.Contains(state, bytes.Trim(oldKey, `"`)) || bytes.Contains(state, []byte(oldMaster.ID)) {
		t.Errorf("the old keys are still there: %v", err)
	}
}

func TestOneRotationAtATime(t *testing.T) {
	w := openIn(t, t.TempDir())
	w.put(t, 7, 1, "x")
	_, err := w.Rotate(t.Context(), func(Progress) {
		if _, err := w.Rotate(t.Context(), func(Progress) {}); !errors.Is(err, ErrRotating) {
			t.Errorf("a second one: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sealing, opening, rotating and destroying at once.
func TestConcurrently(t *testing.T) {
	w := openIn(t, t.TempDir())
	var all sync.WaitGroup
	for u := ident.UserID(1); u <= 4; u++ {
		all.Go(func() {
			for i := range 30 {
				text := fmt.Sprint(u, i)
				sealed, err := w.Seal(u, details, "1", []byte(text))
				if u == 4 && errors.Is(err, ErrGone) {
					return
				}
				if err != nil {
					t.Errorf("%d: %v", u, err)
					return
				}
				got, err := w.Open(u, details, "1", sealed)
				if u == 4 && errors.Is(err, ErrLost) {
					return
				}
				if err != nil || string(got) != text {
					t.Errorf("%d: %q, %v", u, got, err)
				}
			}
		})
	}
	all.Go(func() {
		if _, err := w.Rotate(t.Context(), func(Progress) {}); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		if err := w.db.Write(t.Context(), func(tx *db.Tx) error { return w.Destroy(tx, 4) }); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
	if has, err := w.HasKeys(4); has || err != nil {
		t.Errorf("keys are left: %v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	w := openIn(t, t.TempDir())
	for u := range ident.UserID(maxRings + 10) {
		if _, err := w.Seal(u+1, details, "1", nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.rings) > maxRings {
		t.Errorf("%d rings", len(w.rings))
	}
}

func TestFind(t *testing.T) {
	w := openIn(t, t.TempDir())
	w.write(t, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (7,'a','a','member','',0)`); err != nil {
			return err
		}
		return w.SetIndex(tx, 7, "email", "a@example.com")
	})
	find := func(kind, value string) (n int) {
		t.Helper()
		if err := w.db.Read(t.Context(), func(tx *db.Tx) error {
			list, err := w.Find(tx, kind, value)
			n = len(list)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if find("email", "a@example.com") != 1 || find("phone", "a@example.com") != 0 || find("email", "b@example.com") != 0 {
		t.Error("not found by its value only")
	}
	w.write(t, func(tx *db.Tx) error { return w.SetIndex(tx, 7, "email", "b@example.com") })
	if find("email", "a@example.com") != 0 || find("email", "b@example.com") != 1 {
		t.Error("found by an earlier value")
	}
	w.write(t, func(tx *db.Tx) error { return w.SetIndex(tx, 7, "email", "") })
	if find("email", "b@example.com") != 0 {
		t.Error("found by a value that is gone")
	}
	if bytes.Contains(all(t, w.dir), []byte("example.com")) {
		t.Error("the value is in the clear")
	}
}

// R33: nothing but Reveal gives a value away.
func TestMaskedValues(t *testing.T) {
	for _, c := range []struct {
		value interface {
			fmt.Stringer
			Reveal(Witness) string
		}
		plain, masked string
	}{
		{NewPhone("13812345678"), "13812345678", "138****5678"},
		{NewPhone("+8613812345678"), "+8613812345678", "+86138****5678"},
		{NewPhone("+44 20 7946"), "+44 20 7946", "+44 ** **46"},
		{NewPhone("12345"), "12345", "***45"},
		{NewPhone("123"), "123", "***"},
		{NewPhone("一二三"), "一二三", "********"},
		{NewPhone(""), "", ""},
		{NewEmail("ada@example.com"), "ada@example.com", "a***@example.com"},
		{NewEmail("li@example.com"), "li@example.com", "***@example.com"},
		{NewEmail("小明明@example.com"), "小明明@example.com", "小***@example.com"},
		{NewEmail("nobody"), "nobody", "***"},
		{NewSerial("YB26-4F7Q-9KMD"), "YB26-4F7Q-9KMD", "****-****-9KMD"},
		{NewSerial("AB"), "AB", "****"},
		{NewCode("12345678"), "12345678", "********"},
		{NewPlace("31.2304, 121.4737"), "31.2304, 121.4737", "***"},
		{NewName("小明"), "小明", "小***"},
		{NewName("A"), "A", "***"},
		{NewAddress("192.168.1.57"), "192.168.1.57", "192.168.1.*"},
		{NewAddress("10.0.0.100"), "10.0.0.100", "10.0.0.*"},
		{NewAddress("2001:db8:1:2::3"), "2001:db8:1:2::3", "2001:db8:1::*"},
		{NewAddress("fe80::1%eth0"), "fe80::1%eth0", "fe80::*"},
		{NewAddress("a host"), "a host", "***"},
	} {
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", c.value, "in", struct{ V any }{c.value})
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", c.value, "in", struct{ V any }{c.value})
		encoded, err := json.Marshal(map[string]any{"v": c.value})
		if err != nil {
			t.Fatal(err)
		}
		printed := fmt.Sprintf("%v %s %+v %#v %q %d %x", c.value, c.value, c.value, c.value, c.value, []any{c.value}, struct{ V any }{c.value}) + fmt.Sprintf("%v %+v %#v", struct{ v any }{c.value}, struct{ v any }{c.value}, struct{ v any }{c.value})
		for _, out := range []string{log.String(), string(encoded), printed} {
			if c.plain != "" && c.plain != c.masked && strings.Contains(out, c.plain) {
				t.Errorf("%s is given away: %s", c.plain, out)
			}
		}
		if got := c.value.String(); got != c.masked {
			t.Errorf("%s: %s, want %s", c.plain, got, c.masked)
		}
		if got := c.value.Reveal(Witness{}); got != c.masked {
			t.Errorf("%s is revealed without a witness: %s", c.plain, got)
		}
	}
	w := openIn(t, t.TempDir())
	broken := errors.New("broken")
	w.write(t, func(tx *db.Tx) error {
		witness, err := Recorded(tx, func(*db.Tx) error { return broken })
		if got := NewCode("1234").Reveal(witness); !errors.Is(err, broken) || got != "********" {
			t.Errorf("not recorded: %q, %v", got, err)
		}
		witness, err = Recorded(tx, func(*db.Tx) error { return nil })
		if got := NewCode("1234").Reveal(witness); err != nil || got != "1234" {
			t.Errorf("recorded: %q, %v", got, err)
		}
		return nil
	})
}

// Whatever stands in a row or a file: no panic, and nothing is opened.
func FuzzOpen(f *testing.F) {
	w := openIn(f, f.TempDir())
	sealed, err := w.Seal(7, details, "1", []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:40])
	f.Add([]byte(`{"version":1,"keys":[{"generation":1,"master":"x"}]}`))
	f.Add([]byte(`{"version":1,"masters":[{"id":"a","key":""}],"index":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := w.Open(7, details, "1", b); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("opened %q", plain)
		}
		if p, err := parsePerson(b); err == nil {
			if r, err := w.Vault.open(7, p); err == nil {
				t.Errorf("keys out of %q: %v", b, r)
			}
		}
		if box, err := parseBox(b); err == nil {
			if _, err := box.current().wrapper(); err != nil {
				t.Error(err)
			}
		}
	})
}
