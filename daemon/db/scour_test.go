package db_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/db"
)

// holding lists the files below dir in which what stands.
func holding(t *testing.T, dir, what string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // of a copy of the database that is just being made
		}
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if n := bytes.Count(b, []byte(what)); n > 0 {
			list = append(list, fmt.Sprintf("%s (%d)", filepath.Base(name), n))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// R27: what was deleted is in no file of the database, wherever its rows have been.
func TestScourLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), Journal: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if err := d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(query, args...)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 7))
	if err := d.Write(t.Context(), func(tx *db.Tx) error {
		for i := range 4000 {
			whose, id := "kept", rng.Int64()
			if i%2 == 0 {
				whose = "secret"
			}
			name := fmt.Sprintf("%s-%d-%s", whose, i, strings.Repeat("n", rng.IntN(60)))
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?, ?, ?, 'member', '', 0)`, id, name, name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	exec(`UPDATE user SET shown = shown || '-and-longer' WHERE id % 3 = 0`)
	exec(`UPDATE user SET shown = substr(shown, 1, 30) WHERE id % 5 = 0`)
	if len(holding(t, dir, "secret-")) == 0 {
		t.Fatal("the names were never there")
	}
	exec(`DELETE FROM user WHERE username LIKE 'secret-%'`)
	if err := d.Scour(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := holding(t, dir, "secret-"); len(found) > 0 {
		t.Errorf("still in %v", found)
	}
	if len(holding(t, dir, "kept-")) == 0 {
		t.Error("the others are gone, too")
	}
	exec(`UPDATE user SET shown = 'after' WHERE id % 7 = 0`)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), Journal: filepath.Join(dir, "journal")}); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.CheckAll(t.Context()); err != nil {
		t.Error(err)
	}
}
