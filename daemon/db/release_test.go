package db

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
)

// A database of an older version becomes what a fresh one is, and what was in it
// is read as it was meant.
func TestVersion1IsTakenOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "box.db")
	schema, err := os.ReadFile("testdata/v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	old, err := sql.Open("sqlite3", "file:"+path+"?_journal_mode=WAL")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Exec(string(schema) + `
		INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'Ada', 'owner', '', 0);
		INSERT INTO usage (user) VALUES (1);
		INSERT INTO folder (id, user, name, path, seq) VALUES (1, 1, '', '', 0);
		INSERT INTO item (id, user, folder, name, ref, size, added, source, device, seq) VALUES
			(1, 1, 1, 'a', zeroblob(32), 1, 1, 'album', 0, 1), (2, 1, 1, 'b', zeroblob(32), 1, 1, '', 0, 2);
		INSERT INTO version (item, seq, user, ref, size, added, source, device, replaced) VALUES (1, 1, 1, zeroblob(32), 1, 1, '', 0, 1);
		INSERT INTO upload (id, user, device, source, path, size, if_absent, extra, created, expires) VALUES ('x', 1, 0, 'album', 'a', 1, 0, '', 1, 2);
	`); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, dir)
	var got string
	if err := d.Read(t.Context(), func(tx *Tx) error {
		return tx.QueryRow(`SELECT group_concat(source || ' ' || source_by || ' ' || ifnull(taken, '-') || taken_local || taken_from, ', ' ORDER BY id)
			|| '; ' || (SELECT source || ' ' || source_by FROM version) || '; ' || (SELECT source || ' ' || source_by || ' ' || automatic FROM upload) || '; ' || (SELECT decline_days FROM user) FROM item`).Scan(&got)
	}); err != nil {
		t.Fatal(err)
	}
	if want := "album declared -0, other none -0; other none; album declared 0; 365"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if a, b := columns(t, d), columns(t, openTest(t, t.TempDir())); a != b {
		t.Errorf("taken over: %s\nfresh: %s", a, b)
	}
}
