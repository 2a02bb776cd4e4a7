package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// seeded returns a source of chance whose seed is in the log.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("YUNBOX_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("YUNBOX_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func openJournalled(t *testing.T, dir string) *DB {
	t.Helper()
	d, err := tryJournalled(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tryJournalled(t *testing.T, dir string) (*DB, error) {
	d, err := Open(t.Context(), Options{Path: filepath.Join(dir, "box.db"), BackupDir: filepath.Join(dir, "backup"), Journal: filepath.Join(dir, "journal")})
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

// dump returns all rows of all tables, as text.
func dump(t *testing.T, path string) string {
	t.Helper()
	c, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var names []string
	rows, err := c.Query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		names = append(names, n)
	}
	var b strings.Builder
	for _, name := range names {
		rows, err := c.Query("SELECT * FROM " + name)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for rows.Next() {
			values := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s %q\n", name, fmt.Sprintf("%#v", values)))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}

// same fails the test with the first line that differs.
func same(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			t.Fatalf("the rebuilt database differs:\n  %s\ninstead of\n  %s", slices.Concat(g, []string{"nothing"})[min(i, len(g))], w[i])
		}
	}
	t.Fatalf("the rebuilt database has more rows: %s", g[len(w)])
}

func rebuilt(t *testing.T, dir string) (Rebuilt, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new.db")
	r, err := Rebuild(t.Context(), RebuildOptions{Journal: filepath.Join(dir, "journal"), Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return r, path
}

var errMind = errors.New("changed its mind")

// something changes the database as its users do, in a random way: rows that come,
// change and go, statements that fail, parts that are undone.
func something(rng *rand.Rand, d *DB) error {
	return d.Write(context.Background(), func(tx *Tx) error {
		for range 1 + rng.IntN(3) {
			if err := one(rng, tx); err != nil {
				return err
			}
		}
		if rng.IntN(8) == 0 {
			return errMind
		}
		return nil
	})
}

func one(rng *rand.Rand, tx *Tx) error {
	key, user := fmt.Sprint("key", rng.IntN(30)), rng.IntN(5)
	switch rng.IntN(12) {
	case 0:
		_, err := tx.Exec("INSERT INTO box (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2", key, strings.Repeat("v", rng.IntN(300)))
		return err
	case 1:
		_, err := tx.Exec("DELETE FROM box WHERE key = ?", key)
		return err
	case 2:
		_, err := tx.Exec("INSERT INTO user (id, username, shown, role, password, created) VALUES (?, ?, 'x', 'member', '', ?) ON CONFLICT DO NOTHING", user, fmt.Sprint("user", user), rng.Int64())
		return err
	case 3: // fails without such a person, and is not minded
		tx.Exec("INSERT INTO usage (user, items) VALUES (?, 3)", user)
		return nil
	case 4:
		var n int64 // fails below zero, and is not minded
		tx.QueryRow("UPDATE usage SET items = items + ? WHERE user = ? RETURNING items", rng.IntN(5)-2, user).Scan(&n)
		return nil
	case 5:
		res, err := tx.Exec("INSERT INTO folder (user, name, path, seq) SELECT id, '', '', 0 FROM user WHERE id = ? ON CONFLICT DO NOTHING", user)
		if err == nil {
			_, err = res.LastInsertId()
		}
		return err
	case 6: // ids of folders that went do not come back
		_, err := tx.Exec("DELETE FROM folder WHERE user = ?", user)
		return err
	case 7:
		ref := []byte(strings.Repeat(string(rune('a'+rng.IntN(9))), 32))
		_, err := tx.Exec("INSERT INTO blob (ref, sha1, size, added) VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET dead = 5", ref, ref[:20], rng.IntN(1000))
		clear(ref) // its owner uses it again
		return err
	case 8:
		_, err := tx.Exec("DELETE FROM blob WHERE size % 7 = ?", rng.IntN(7))
		return err
	case 9: // cascades
		_, err := tx.Exec("INSERT INTO device (id, user, name, kind, created, last_seen) SELECT ?, id, 'd', 'k', ?, 0 FROM user WHERE id = ?", rng.Int64(), rng.Float64() > 0.5, user)
		return err
	case 10:
		err := tx.Savepoint(func() error {
			if err := one(rng, tx); err != nil {
				return err
			}
			if rng.IntN(2) == 0 {
				return errMind
			}
			return nil
		})
		if errors.Is(err, errMind) {
			err = nil
		}
		return err
	}
	_, err := tx.Exec("UPDATE box SET value = value || ? WHERE key > ?", "é"+key, key)
	return err
}

func history(t *testing.T, rng *rand.Rand, d *DB, n int) {
	t.Helper()
	for range n {
		if err := something(rng, d); err != nil && !errors.Is(err, errMind) {
			t.Fatal(err)
		}
	}
}

// Whatever happened, and wherever generations were made: what the journal gives is
// what the database was, after a stop and after kill -9 alike.
func TestTheJournalGivesWhatWasThere(t *testing.T) { // R12
	rng := seeded(t)
	for round := range 6 {
		dir := t.TempDir()
		d := openJournalled(t, dir)
		for range rng.IntN(5) {
			history(t, rng, d, rng.IntN(60))
			switch rng.IntN(3) {
			case 0:
				if err := d.Roll(t.Context()); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				d = openJournalled(t, dir)
			}
		}
		history(t, rng, d, 10)
		r, path := rebuilt(t, dir) // while it runs: what kill -9 leaves
		if r.Lost != "" || r.Differences != 0 || len(r.Damaged) > 0 {
			t.Fatalf("round %d: %+v", round, r)
		}
		same(t, dump(t, path), dump(t, d.path))
		d.Close()
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Generations are made while others write; what comes meanwhile is in the log, and
// either of the two generations will do.
func TestWritesGoOnWhileAGenerationIsMade(t *testing.T) {
	dir := t.TempDir()
	d := openJournalled(t, dir)
	if err := put(d, "first"); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := put(d, fmt.Sprint("key ", i)); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 4 {
		for last := d.Journal().Number; d.Journal().Number < last+5; {
			time.Sleep(time.Millisecond)
		}
		if err := d.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	gens, err := generations(d.journal.dir)
	if err != nil || len(gens) != 2 || gens[0].number == gens[1].number {
		t.Fatal(gens, err)
	}
	want := dump(t, d.path)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range gens {
		r, path := rebuilt(t, dir)
		if r.Lost != "" || r.Differences != 0 {
			t.Errorf("%+v", r)
		}
		same(t, dump(t, path), want)
		if err := os.Remove(filepath.Join(dir, "journal", gens[1].name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// A statement that returns rows is written down before anybody knows whether it
// fails; where it did, it does so again.
func TestAStatementThatFailedFailsAgain(t *testing.T) {
	dir := t.TempDir()
	d := openJournalled(t, dir)
	if err := d.Write(t.Context(), func(tx *Tx) error {
		if _, err := tx.Exec("INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'a', 'a', 'member', '', 1)"); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO usage (user, items) VALUES (1, 1)"); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow("UPDATE usage SET items = items - 2 WHERE user = 1 RETURNING items").Scan(&n); err == nil {
			t.Error("fewer than none")
		}
		return tx.QueryRow("UPDATE usage SET items = items + 7 WHERE user = 1 RETURNING items").Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	r, path := rebuilt(t, dir)
	if r.Lost != "" || r.Differences != 0 || r.Replayed != 1 {
		t.Errorf("%+v", r)
	}
	same(t, dump(t, path), dump(t, d.path))
}

// What a power cut takes from the journal is closed by a new generation: the
// database itself has it.
func TestAJournalThatIsBehindIsCompletedByAGeneration(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	d := openJournalled(t, dir)
	history(t, rng, d, 20)
	if err := d.journal.sync(); err != nil {
		t.Fatal(err)
	}
	durable := t.TempDir()
	if err := os.CopyFS(durable, os.DirFS(filepath.Join(dir, "journal"))); err != nil {
		t.Fatal(err)
	}
	if err := put(d, "in the last seconds"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	after := t.TempDir()
	copyFile(t, d.path, filepath.Join(after, "box.db"))
	if err := os.CopyFS(filepath.Join(after, "journal"), os.DirFS(durable)); err != nil {
		t.Fatal(err)
	}
	d = openJournalled(t, after)
	if err := put(d, "later"); err != nil {
		t.Fatal(err)
	}
	if d.Journal().Err == nil || d.journal.due() == "" {
		t.Fatal("the gap is not noticed")
	}
	if r, _ := rebuilt(t, after); !strings.Contains(r.Lost, "lacks") {
		t.Errorf("a gap is not told: %+v", r)
	}
	if err := d.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := put(d, "last"); err != nil {
		t.Fatal(err)
	}
	if s := d.Journal(); s.Err != nil || s.Generations != 1 {
		t.Errorf("%+v", s)
	}
	r, path := rebuilt(t, after)
	if r.Lost != "" {
		t.Error(r.Lost)
	}
	same(t, dump(t, path), dump(t, d.path))
}

// What was removed is in no file of the journal after Forget, and after two
// generations.
func TestTheJournalForgets(t *testing.T) { // R32
	dir := t.TempDir()
	d := openJournalled(t, dir)
	secret := "the name of a photo that was erased"
	if err := put(d, secret); err != nil {
		t.Fatal(err)
	}
	if err := d.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("DELETE FROM box WHERE key = ?", secret)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	found := func() (list []string) {
		files, err := os.ReadDir(filepath.Join(dir, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, "journal", f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), secret) {
				list = append(list, f.Name())
			}
		}
		return list
	}
	if len(found()) == 0 {
		t.Fatal("the test looks for the wrong thing")
	}
	if err := d.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := found(); len(list) > 0 {
		t.Errorf("still in %v", list)
	}
	if err := put(d, "later"); err != nil {
		t.Fatal(err)
	}
	r, path := rebuilt(t, dir)
	if r.Lost != "" {
		t.Error(r.Lost)
	}
	same(t, dump(t, path), dump(t, d.path))
}

// A statement that could not be run again is refused when it is written, and not
// years later.
func TestStatementsThatCannotBeRepeatedAreRefused(t *testing.T) {
	d := openTest(t, t.TempDir())
	for _, q := range []string{
		"INSERT INTO box (key, value) VALUES ('k', random())",
		"UPDATE box SET value = datetime('now')",
		"INSERT INTO box (key, value) VALUES ('k', CURRENT_TIMESTAMP)",
		"INSERT INTO box (key, value) VALUES ('k', last_insert_rowid())",
		"DELETE FROM box WHERE key = 'a'; DELETE FROM box",
		"WITH x(k) AS (SELECT hex(randomblob(4))) INSERT INTO box (key, value) SELECT k, k FROM x",
	} {
		for how, run := range map[string]func(*Tx) error{
			"Exec":     func(tx *Tx) error { _, err := tx.Exec(q); return err },
			"QueryRow": func(tx *Tx) error { return tx.QueryRow(q + " RETURNING 1").Scan(new(int)) },
		} {
			if err := d.Write(t.Context(), run); err == nil || errors.Is(err, sql.ErrNoRows) {
				t.Errorf("%s of %s: %v", how, q, err)
			}
		}
	}
	if err := d.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO box (key, value) VALUES ('k', ?)", time.Now())
		return err
	}); err == nil {
		t.Error("a value whose text is the driver's affair was taken")
	}
	if has(t, d, "k") {
		t.Error("it was done all the same")
	}
}

// A journal that an older version of the schema began is read by this one.
func TestAJournalOfAnOlderSchemaIsRead(t *testing.T) { // R17
	dir := t.TempDir()
	schema, err := os.ReadFile("testdata/v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	journalTable, err := os.ReadFile("schema/05-journal.sql")
	if err != nil {
		t.Fatal(err)
	}
	// A generation of version 1, and the log after it, as that version wrote them.
	old := filepath.Join(dir, "box.db")
	c, err := sql.Open("sqlite3", "file:"+old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(string(schema) + string(journalTable) + `
		INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'Ada', 'owner', '', 0);
		INSERT INTO usage (user) VALUES (1);
		INSERT INTO folder (id, user, name, path, seq) VALUES (1, 1, '', '', 0);
		UPDATE journal SET number = 1, mark = 7`); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "journal")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &DB{path: old, now: time.Now, journal: &journal{dir: folder, now: time.Now}}
	g, err := d.makeGeneration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(folder, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	j.begin(g.point, g.schema)
	o := &ops{known: statements{}}
	const addItem = `INSERT INTO item (id, user, folder, name, ref, size, added, source, device, seq) VALUES (?, 1, 1, ?, zeroblob(32), 1, 1, '', 0, ?)`
	for i := range 3 {
		o.reset()
		if err := o.add(addItem, 1, []any{i, fmt.Sprint("photo", i), i}); err != nil {
			t.Fatal(err)
		}
		j.append(j.following(), time.Now(), o)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	// What this version did next is in the same journal: the database was migrated
	// and lost before a generation was made.
	if c, err = sql.Open("sqlite3", "file:"+old); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := c.Exec(addItem, i, fmt.Sprint("photo", i), i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Exec("UPDATE journal SET number = ?, mark = ?", j.end.number, j.end.mark); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	now := openJournalled(t, dir)
	if now.journal.due() == "" {
		t.Error("no generation is made after a migration")
	}
	if err := now.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("UPDATE item SET source_by = 'name', taken_from = 'name', taken = 5 WHERE name = 'photo1'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := dump(t, now.path)
	if err := now.Close(); err != nil {
		t.Fatal(err)
	}
	r, path := rebuilt(t, dir)
	if r.Lost != "" || r.Differences != 0 || r.Replayed != 4 {
		t.Errorf("%+v", r)
	}
	same(t, dump(t, path), want)
}
