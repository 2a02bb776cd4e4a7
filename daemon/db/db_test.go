package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"yunbox.local/daemon/problem"
)

func openTest(t *testing.T, dir string) *DB {
	t.Helper()
	d, err := Open(t.Context(), Options{Path: filepath.Join(dir, "box.db"), BackupDir: filepath.Join(dir, "backup")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func put(d *DB, key string) error {
	return d.Write(context.Background(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO box(key, value) VALUES (?, 'x')", key)
		return err
	})
}

func has(t *testing.T, d *DB, key string) bool {
	t.Helper()
	var n int
	err := d.Read(t.Context(), func(tx *Tx) error {
		return tx.QueryRow("SELECT count(*) FROM box WHERE key = ?", key).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func TestCommitsAreDurable(t *testing.T) {
	d := openTest(t, t.TempDir())
	var mode int
	if err := d.write.QueryRow("PRAGMA synchronous").Scan(&mode); err != nil || mode != 2 {
		t.Fatalf("synchronous is %d, %v; 2 (FULL) is what a power cut needs", mode, err)
	}
	var version string
	if err := d.write.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil || version < "3.51.3" {
		t.Fatalf("SQLite %s, %v: versions before 3.51.3 can corrupt a log that is reset", version, err)
	}
}

// What Write acknowledged is in the files, without Close: a copy of database and
// log as they stand opens with every acknowledged row.
func TestAcknowledgedRowsAreInTheFiles(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir)
	keys := []string{"a", "b", "c"}
	for _, k := range keys {
		if err := put(d, k); err != nil {
			t.Fatal(err)
		}
	}
	after := t.TempDir()
	for _, f := range []string{"box.db", "box.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(after, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := openTest(t, after)
	for _, k := range keys {
		if !has(t, e, k) {
			t.Errorf("%s is lost", k)
		}
	}
}

// Other users of the machine can read neither the database nor its log, which
// hold hashes of passwords and the names of files.
func TestOnlyTheDaemonReadsItsFiles(t *testing.T) { // R32
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := []string{"box.db", "box.db-wal", "box.db-shm"}
	d := openTest(t, dir)
	for _, left := range []bool{false, true} {
		if left { // by an earlier version, with a log that was not folded in
			copied := t.TempDir()
			for _, f := range files {
				b, err := os.ReadFile(filepath.Join(dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(copied, f), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			dir, d = copied, openTest(t, copied)
		}
		if err := put(d, fmt.Sprint(left)); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(filepath.Join(dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if m := info.Mode().Perm(); m != 0o600 {
				t.Errorf("left %v: %s has mode %v", left, f, m)
			}
		}
	}
}

func TestCallersShareACommitAndFailAlone(t *testing.T) {
	d := openTest(t, t.TempDir())
	before := d.Stats()
	block, entered := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		d.Write(t.Context(), func(*Tx) error { close(entered); <-block; return nil })
	})
	<-entered
	boom := errors.New("boom")
	errs := make([]error, 40)
	for i := range errs {
		wg.Go(func() {
			errs[i] = d.Write(t.Context(), func(tx *Tx) error {
				if _, err := tx.Exec("INSERT INTO box(key, value) VALUES (?, 'x')", string(rune('A'+i))); err != nil {
					return err
				}
				if i%10 == 3 {
					return boom
				}
				return nil
			})
		})
	}
	time.Sleep(50 * time.Millisecond) // lets most of them queue up; the counts below hold for any number
	close(block)
	wg.Wait()
	for i, err := range errs {
		if bad := i%10 == 3; bad != errors.Is(err, boom) || (!bad && err != nil) {
			t.Errorf("call %d: %v", i, err)
		}
		if stored := has(t, d, string(rune('A'+i))); stored == (i%10 == 3) {
			t.Errorf("call %d: stored is %v", i, stored)
		}
	}
	after := d.Stats()
	if w, c := after.Writes-before.Writes, after.Commits-before.Commits; w != 37 || c >= w {
		t.Errorf("%d writes took %d commits", w, c)
	}
}

func TestSavepointsUndoTheirOwnPart(t *testing.T) {
	d := openTest(t, t.TempDir())
	var ran []string
	err := d.Write(t.Context(), func(tx *Tx) error {
		for _, k := range []string{"good", "bad", "better"} {
			err := tx.Savepoint(func() error {
				tx.AfterCommit(func() { ran = append(ran, k) })
				if _, err := tx.Exec("INSERT INTO box(key, value) VALUES (?, 'x')", k); err != nil {
					return err
				}
				if k == "bad" {
					return errors.New("no")
				}
				return nil
			})
			if (err != nil) != (k == "bad") {
				t.Errorf("%s: %v", k, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !has(t, d, "good") || has(t, d, "bad") || !has(t, d, "better") {
		t.Error("a savepoint kept or undid the wrong rows")
	}
	if got := strings.Join(ran, " "); got != "good better" {
		t.Errorf("after the commit ran: %s", got)
	}
}

func TestAfterCommitSeesTheRow(t *testing.T) {
	d := openTest(t, t.TempDir())
	seen := false
	err := d.Write(t.Context(), func(tx *Tx) error {
		tx.AfterCommit(func() { seen = has(t, d, "k") })
		_, err := tx.Exec("INSERT INTO box(key, value) VALUES ('k', 'x')")
		return err
	})
	if err != nil || !seen {
		t.Fatalf("%v, seen %v", err, seen)
	}
}

func TestPanicReachesItsCallerOnly(t *testing.T) {
	d := openTest(t, t.TempDir())
	func() {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(p.(string), "oh no") {
				t.Errorf("recovered %v", p)
			}
		}()
		d.Write(t.Context(), func(*Tx) error { panic("oh no") })
	}()
	if err := put(d, "next"); err != nil {
		t.Fatalf("the writer did not survive: %v", err)
	}
}

func TestCancelledContextNeverTouchesOthers(t *testing.T) {
	d := openTest(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Write(ctx, func(tx *Tx) error {
		cancel() // the phone went away while its row was being written
		_, err := tx.ExecContext(ctx, "INSERT INTO box(key, value) VALUES ('k', 'x')")
		return err
	})
	if err != nil || !has(t, d, "k") {
		t.Fatalf("a begun write must finish: %v", err)
	}
	if err := d.Write(ctx, func(*Tx) error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	d := openTest(t, t.TempDir())
	err := d.Read(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO box(key, value) VALUES ('k', 'x')")
		return err
	})
	if err == nil || has(t, d, "k") {
		t.Fatal("a reader wrote")
	}
}

func TestClosedDatabaseSaysSo(t *testing.T) {
	d := openTest(t, t.TempDir())
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(d, "k"); problem.KindOf(err) != problem.Unavailable {
		t.Fatal(err)
	}
}

func TestForeignAndNewerFilesAreRefusedUnchanged(t *testing.T) {
	for name, pragma := range map[string]string{
		"not a database of yunbox": "PRAGMA application_id=7; CREATE TABLE t(x)",
		"newer yunbox":             "PRAGMA application_id=0x59424f58; PRAGMA user_version=9999; CREATE TABLE t(x)",
	} {
		path := filepath.Join(t.TempDir(), "box.db")
		c, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(pragma); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if d, err := Open(t.Context(), Options{Path: path}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
			d.Close()
		}
		c, _ = sql.Open("sqlite3", path)
		var tables string
		if err := c.QueryRow("SELECT group_concat(name) FROM sqlite_schema").Scan(&tables); err != nil || tables != "t" {
			t.Errorf("%s: the file was changed: %s %v", name, tables, err)
		}
		c.Close()
	}
}

func schema(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func TestMigrationKeepsACopyAndEndsLikeAFreshDatabase(t *testing.T) {
	dir := t.TempDir()
	opt := Options{Path: filepath.Join(dir, "box.db"), BackupDir: filepath.Join(dir, "backup")}
	old := schema(map[string]string{"schema/10.sql": "CREATE TABLE IF NOT EXISTS person(id INTEGER PRIMARY KEY, name TEXT) STRICT"})
	d, err := openWith(t.Context(), opt, old)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO person(name) VALUES ('Ada')")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	now := map[string]string{
		"schema/10.sql":                      "CREATE TABLE IF NOT EXISTS person(id INTEGER PRIMARY KEY, name TEXT, born TEXT) STRICT; CREATE TABLE IF NOT EXISTS pet(person INTEGER REFERENCES person(id)) STRICT",
		"migrations/0002-born.sql":           "ALTER TABLE person ADD COLUMN born TEXT",
		"migrations/0003-ada-was-famous.sql": "UPDATE person SET born = '1815'",
	}
	bad := map[string]string{}
	for k, v := range now {
		bad[k] = v
	}
	bad["migrations/0004-broken.sql"] = "CREATE TABLE pet(person INTEGER REFERENCES person(id)) STRICT; INSERT INTO pet VALUES (4711)"
	if _, err := openWith(t.Context(), opt, schema(bad)); err == nil || !strings.Contains(err.Error(), "points to nothing") {
		t.Fatalf("a migration that breaks references was accepted: %v", err)
	}
	d, err = openWith(t.Context(), opt, schema(now))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var name, born string
	if err := d.Read(t.Context(), func(tx *Tx) error { return tx.QueryRow("SELECT name, born FROM person").Scan(&name, &born) }); err != nil || name != "Ada" || born != "1815" {
		t.Fatalf("%s %s %v", name, born, err)
	}
	copies, err := filepath.Glob(filepath.Join(dir, "backup", "box-v1-*.db"))
	if err != nil || len(copies) != 2 { // one a try
		t.Fatalf("%v, %v", copies, err)
	}
	for _, c := range copies {
		b, err := openWith(t.Context(), Options{Path: c}, old)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Read(t.Context(), func(tx *Tx) error { return tx.QueryRow("SELECT name FROM person").Scan(&name) }); err != nil || name != "Ada" {
			t.Fatalf("the copy holds %q, %v", name, err)
		}
		b.Close()
	}
	fresh, err := openWith(t.Context(), Options{Path: filepath.Join(t.TempDir(), "box.db")}, schema(now))
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if a, b := columns(t, d), columns(t, fresh); a != b {
		t.Fatalf("migrated: %s\nfresh: %s", a, b)
	}
}

func columns(t *testing.T, d *DB) (s string) {
	t.Helper()
	err := d.Read(t.Context(), func(tx *Tx) error {
		return tx.QueryRow(`SELECT group_concat(m.name || '.' || c.name || ' ' || c.type, ', ' ORDER BY m.name, c.cid)
			FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'`).Scan(&s)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpeningAgainWritesNothing(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir).Close()
	before, err := os.ReadFile(filepath.Join(dir, "box.db"))
	if err != nil {
		t.Fatal(err)
	}
	openTest(t, dir).Close()
	after, err := os.ReadFile(filepath.Join(dir, "box.db"))
	if err != nil || string(before) != string(after) {
		t.Fatalf("a start without changes rewrote the database (%v)", err)
	}
}

// A full disk makes SQLite roll back everything. Nobody in the group may then be
// told "stored", not even a caller that swallowed its item's error.
func TestGivenUpTransactionIsGivenUpForAll(t *testing.T) {
	d := openTest(t, t.TempDir())
	if err := put(d, "before"); err != nil {
		t.Fatal(err)
	}
	err := d.Write(t.Context(), func(tx *Tx) error {
		if err := tx.Savepoint(func() error {
			_, err := tx.Exec("INSERT INTO box(key, value) VALUES ('early', 'x')")
			return err
		}); err != nil {
			return err
		}
		tx.Savepoint(func() error {
			_, err := tx.Exec("ROLLBACK") // what SQLITE_FULL does by itself
			if err != nil {
				return err
			}
			return errors.New("full")
		})
		if err := tx.Savepoint(func() error { t.Error("a later part ran"); return nil }); err == nil {
			t.Error("a later part was accepted")
		}
		return nil // swallowed
	})
	if err == nil || has(t, d, "early") {
		t.Fatalf("acknowledged although the transaction was given up: %v", err)
	}
	if err := put(d, "after"); err != nil || !has(t, d, "before") {
		t.Fatalf("the writer did not survive: %v", err)
	}
}
