package db

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
)

// Any damage to one file of the journal is survived together with the loss of the
// database, and any damage to the journal alone is healed by the next generation.
func TestDamageToTheJournalIsSurvived(t *testing.T) { // R12
	rng := seeded(t)
	dir := t.TempDir()
	d := openJournalled(t, dir)
	if err := d.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO box (key, value) VALUES ('a', 'letters of a value')") // history leaves it alone
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		history(t, rng, d, 30)
		if err := d.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	history(t, rng, d, 30)
	want := dump(t, d.path)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(dir, "journal"))
	if err != nil || len(files) != 2*2+2*2 {
		t.Fatalf("%v, %v: two generations with labels, two segments with copies are expected", files, err)
	}
	for _, f := range files {
		whole, err := os.ReadFile(filepath.Join(dir, "journal", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		damages := map[string][]byte{"gone": nil, "empty": {}, "zeros": make([]byte, len(whole)), "half": whole[:len(whole)/2]}
		for range 2 {
			at := rng.IntN(len(whole))
			flipped := slices.Clone(whole)
			flipped[at] ^= 1 << rng.IntN(8)
			damages[fmt.Sprint("flipped ", at)] = flipped
		}
		if at := strings.Index(string(whole), "letters of a value"); at >= 0 && strings.HasPrefix(f.Name(), generationPrefix) {
			flipped := slices.Clone(whole) // which SQLite does not see
			flipped[at] ^= 1
			damages["with another letter"] = flipped
		} else if strings.HasSuffix(f.Name(), ".db") {
			t.Errorf("%s has no value to change", f.Name())
		}
		for what, data := range damages {
			hurt := t.TempDir()
			if err := os.CopyFS(filepath.Join(hurt, "journal"), os.DirFS(filepath.Join(dir, "journal"))); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(hurt, "journal", f.Name())
			if data == nil {
				err = os.Remove(name)
			} else {
				err = os.WriteFile(name, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, path := rebuilt(t, hurt)
			if r.Lost != "" || r.Differences != 0 {
				t.Errorf("%s %s: %+v", f.Name(), what, r)
				continue
			}
			same(t, dump(t, path), want)
			if what != "zeros" {
				continue
			}
			// With its database it goes on, finds the damage and heals.
			copyFile(t, filepath.Join(dir, "box.db"), filepath.Join(hurt, "box.db"))
			d := openJournalled(t, hurt)
			if err := put(d, "after"); err != nil {
				t.Fatal(err)
			}
			for range keptGenerations {
				if err := d.Roll(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if bad, err := d.CheckJournal(t.Context()); err != nil || len(bad) > 0 {
				t.Errorf("%s %s: after two generations: %v, %v", f.Name(), what, bad, err)
			}
			d.Close()
		}
	}
}

// A power cut may take any part of what was not synced. Together with the loss of
// the database that costs these seconds, and never more; what is given is what was
// there at some moment, and damage that is no end is told.
func TestAPowerCutCostsTheLastSecondsAtMost(t *testing.T) { // R02
	rng := seeded(t)
	dir := t.TempDir()
	d := openJournalled(t, dir)
	history(t, rng, d, 20)
	if err := d.journal.sync(); err != nil {
		t.Fatal(err)
	}
	synced, name := d.journal.end.number, d.journal.current.name
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	at := map[int64]string{synced: dump(t, d.path)}
	for range 12 {
		history(t, rng, d, 1)
		at[d.journal.end.number] = dump(t, d.path)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	safe := int(info.Size())
	for round := range 24 {
		after := t.TempDir()
		if err := os.CopyFS(filepath.Join(after, "journal"), os.DirFS(filepath.Join(dir, "journal"))); err != nil {
			t.Fatal(err)
		}
		cut, kind := slices.Clone(whole), round%3
		from := safe + rng.IntN(len(whole)-safe)
		if kind == 0 {
			cut = cut[:from]
		} else {
			for i := from; i < len(cut) && (kind == 1 || i < from+512); i++ {
				cut[i] = 0
			}
		}
		if err := os.WriteFile(filepath.Join(after, "journal", filepath.Base(name)), cut, 0o600); err != nil {
			t.Fatal(err)
		}
		r, path := rebuilt(t, after)
		want, ok := at[r.Number]
		if !ok || r.Number < synced || r.Differences != 0 {
			t.Fatalf("cut %d of kind %d: %+v, at least %d is safe", from, kind, r, synced)
		}
		same(t, dump(t, path), want)
		if kind == 2 && r.Number < d.journal.end.number && r.Lost == "" {
			t.Errorf("sectors of zeros at %d, with more behind them, are taken for the end", from)
		}
	}
}

// CheckJournal names what is damaged.
func TestCheckJournalFindsDamage(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	d := openJournalled(t, dir)
	history(t, rng, d, 20)
	for range 2 {
		if err := d.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
		history(t, rng, d, 20)
	}
	if bad, err := d.CheckJournal(t.Context()); err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	if left, err := filepath.Glob(filepath.Join(d.journal.dir, "*.part*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	list, err := segments(d.journal.dir)
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	gens, err := generations(d.journal.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{segmentName(list[0]), segmentName(list[0]) + copySuffix, gens[0].name(), gens[1].label()} {
		path := filepath.Join(d.journal.dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		hurt := slices.Clone(whole)
		hurt[rng.IntN(len(hurt))] ^= 0x40
		if err := os.WriteFile(path, hurt, 0o600); err != nil {
			t.Fatal(err)
		}
		bad, err := d.CheckJournal(t.Context())
		if err != nil || len(bad) != 1 {
			t.Errorf("%s damaged: %v, %v", name, bad, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What is damaged or removed in the journal of a running box is noticed and written
// anew.
func TestTheJournalHeals(t *testing.T) {
	rng := seeded(t)
	for what, damage := range map[string]func(t *testing.T, dir string){
		"a damaged generation": func(t *testing.T, dir string) {
			gens, err := generations(dir)
			if err != nil || len(gens) == 0 {
				t.Fatal(gens, err)
			}
			if err := os.Truncate(filepath.Join(dir, gens[0].name()), 4096); err != nil {
				t.Fatal(err)
			}
		},
		"no folder": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir := t.TempDir()
		d := openJournalled(t, dir)
		history(t, rng, d, 20)
		if err := d.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
		history(t, rng, d, 20)
		if err := d.journal.sync(); err != nil { // both files of the segment are open
			t.Fatal(err)
		}
		damage(t, d.journal.dir)
		history(t, rng, d, 5)
		d.journal.sync() // fails where the folder is gone
		d.examine()
		if d.journal.due() != "" { // as keeper does
			if err := d.Roll(t.Context()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		history(t, rng, d, 5)
		r, path := rebuilt(t, dir)
		if r.Lost != "" || len(r.Damaged) > 0 || r.Generation == "" {
			t.Errorf("%s: %+v", what, r)
		}
		same(t, dump(t, path), dump(t, d.path))
		d.Close()
	}
}

// A database that is lost, damaged or older than its journal is refused at the
// start, and never replaced by an empty one.
func TestALostDatabaseIsRefused(t *testing.T) { // R12
	rng := seeded(t)
	dir := t.TempDir()
	d := openJournalled(t, dir)
	history(t, rng, d, 40)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	older, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	d = openJournalled(t, dir)
	if err := put(d, "newer"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	header := slices.Clone(newest)
	clear(header[:100])
	for what, data := range map[string][]byte{
		"gone": nil, "empty": {}, "older": older, "cut": newest[:len(newest)-4096], "of zeros": make([]byte, len(newest)), "without its header": header,
	} {
		if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if data != nil {
			if err := os.WriteFile(d.path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := tryJournalled(t, dir)
		if problem.KindOf(err) != problem.Damaged || !strings.Contains(problem.Sentence(err), "yunboxctl rebuild") {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(d.path); data == nil && err == nil {
			t.Error("a new database was made in the place of the lost one")
		}
	}
	// Another database that has come as far.
	other := t.TempDir()
	d = openJournalled(t, other)
	for d.Journal().Number < func() int64 {
		j, _ := openJournal(filepath.Join(dir, "journal"), slog.New(slog.DiscardHandler), time.Now)
		return j.end.number
	}() {
		if err := put(d, fmt.Sprint(d.Journal().Number)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	copyFile(t, d.path, filepath.Join(dir, "box.db"))
	if _, err := tryJournalled(t, dir); problem.KindOf(err) != problem.Damaged {
		t.Errorf("of another box: %v", err)
	}
	d.path = filepath.Join(dir, "box.db")
	// As it was it is taken.
	if err := os.WriteFile(d.path, newest, 0o600); err != nil {
		t.Fatal(err)
	}
	openJournalled(t, dir)
}

// A database that lost its own log is behind its journal.
func TestALostWriteAheadLogIsNoticed(t *testing.T) {
	for _, whole := range []bool{true, false} {
		dir := t.TempDir()
		d := openJournalled(t, dir)
		for i := range 20 {
			if err := put(d, fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		left := t.TempDir() // kill -9
		if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		wal := filepath.Join(left, "box.db-wal")
		if whole {
			if err := os.Remove(wal); err != nil {
				t.Fatal(err)
			}
		} else { // a byte of its eighth frame
			b, err := os.ReadFile(wal)
			if err != nil {
				t.Fatal(err)
			}
			b[32+7*(24+4096)+500] ^= 1
			if err := os.WriteFile(wal, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tryJournalled(t, left); problem.KindOf(err) != problem.Damaged {
			t.Errorf("log removed %v: %v", whole, err)
		}
		r, path := rebuilt(t, left)
		if r.Lost != "" {
			t.Error(r.Lost)
		}
		same(t, dump(t, path), dump(t, d.path))
	}
}

// A byte of a row that changes on the disk is no damage to SQLite. It must not
// spread into the generations, and a rebuild ends it.
func TestAByteThatChangesInARowIsNoticed(t *testing.T) { // R12
	dir := t.TempDir()
	d := openJournalled(t, dir)
	for i := range 50 {
		if err := d.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO user (id, username, shown, role, password, created) VALUES (?, ?, ?, 'member', '', 1)", i, fmt.Sprint(i), fmt.Sprint("the name of person ", i))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := dump(t, d.path)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "the name of person 7")
	b[at+4] ^= 1
	if err := os.WriteFile(d.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d = openJournalled(t, dir)
	if err := d.CheckAll(t.Context()); err != nil {
		t.Fatalf("this test is about what SQLite does not see: %v", err)
	}
	if err := d.Roll(t.Context()); !errors.Is(err, errDiffers) {
		t.Errorf("a generation was made of it: %v", err)
	}
	if d.Journal().Err == nil {
		t.Error("nobody is told")
	}
	if err := put(d, "later"); err != nil {
		t.Errorf("a box that may only be wrong about one name takes no more: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	_, path := rebuilt(t, dir)
	got := dump(t, path)
	if !strings.Contains(got, "later") || strings.Count(got, "the name of person ") != strings.Count(want, "the name of person ") {
		t.Errorf("the rebuilt database has other names")
	}
}

// A page that makes no sense ends all writing with words that help.
func TestADamagedPageEndsWriting(t *testing.T) {
	dir := t.TempDir()
	d := openJournalled(t, dir)
	for i := range 40 {
		if err := d.Write(t.Context(), func(tx *Tx) error {
			for j := range 50 {
				if _, err := tx.Exec("INSERT INTO box (key, value) VALUES (?, 'x')", fmt.Sprint("key ", i*50+j)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	// The last page is one of the table that grew.
	if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, info.Size()-4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	scan := func(tx *Tx) error { return tx.QueryRow("SELECT sum(length(key)) FROM box NOT INDEXED").Scan(new(int)) }
	for what, meet := range map[string]func(*DB) error{
		"a check": func(d *DB) error { return d.QuickCheck(t.Context()) },
		"a read":  func(d *DB) error { return d.Read(t.Context(), scan) },
		"a write": func(d *DB) error { return d.Write(t.Context(), scan) },
	} {
		d = openJournalled(t, dir) // nothing that a start looks at
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
		if err := meet(d); problem.KindOf(err) != problem.Damaged {
			t.Fatalf("%s does not meet it: %v", what, err)
		}
		if problem.KindOf(d.Err()) != problem.Damaged {
			t.Errorf("%s met it, and changes are still accepted", what)
		}
		d.Close()
	}
	d = openJournalled(t, dir)
	if err := d.QuickCheck(t.Context()); err == nil {
		t.Fatal("not found")
	}
	if err := put(d, "more"); problem.KindOf(err) != problem.Damaged || !strings.Contains(problem.Sentence(err), "yunboxctl rebuild") {
		t.Errorf("a change is accepted: %v", err)
	}
	if err := d.Roll(t.Context()); err == nil {
		t.Error("a generation was made of a damaged database")
	}
	r, path := rebuilt(t, dir)
	if r.Lost != "" || r.Replayed == 0 {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(dump(t, path), `key `); n < 2000 {
		t.Errorf("%d rows", n)
	}
}
