package db_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"yunbox.local/daemon/db"
)

// How long writers stand still while a large database is scoured: YUNBOX_ITEMS=1000000.
// The figures are in docs/trust.md.
func TestScourOfALargeDatabase(t *testing.T) {
	items, err := strconv.Atoi(os.Getenv("YUNBOX_ITEMS"))
	if err != nil {
		t.Skip("YUNBOX_ITEMS says how large")
	}
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), Journal: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write := func(fn func(*db.Tx) error) {
		t.Helper()
		if err := d.Write(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	write(func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'ada', 'member', '', 0)`)
		return err
	})
	for done := 0; done < items; done += 10_000 {
		write(func(tx *db.Tx) error {
			folder := 1 + done/10_000
			if _, err := tx.Exec(`INSERT INTO folder (id, user, parent, name, path, seq) VALUES (?1, 1, NULL, ?2, ?2, 1)`, folder, fmt.Sprint("Photos ", folder)); err != nil {
				return err
			}
			for i := done; i < done+10_000; i++ {
				ref := sha256.Sum256(fmt.Append(nil, i))
				if _, err := tx.Exec(`INSERT INTO blob (ref, sha1, size, added) VALUES (?, ?, 2000000, 1)`, ref[:], ref[:20]); err != nil {
					return err
				}
				if _, err := tx.Exec(`INSERT INTO item (user, folder, name, ref, size, mtime, added, source, device, seq) VALUES (1, ?, ?, ?, 2000000, ?, ?, 'album', 1, ?)`,
					folder, fmt.Sprintf("IMG_2026%07d.jpg", i), ref[:], i, i, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	write(func(tx *db.Tx) error { _, err := tx.Exec(`DELETE FROM item WHERE id % 10 = 0`); return err })
	info, err := os.Stat(filepath.Join(dir, "box.db"))
	if err != nil {
		t.Fatal(err)
	}
	stop, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		most := time.Duration(0)
		for n := 0; ; n++ {
			select {
			case <-stop:
				longest <- most
				return
			default:
			}
			began := time.Now()
			if err := d.Write(t.Context(), func(tx *db.Tx) error {
				_, err := tx.Exec(`UPDATE user SET shown = ? WHERE id = 1`, fmt.Sprint("ada ", n))
				return err
			}); err != nil {
				t.Error(err)
			}
			most = max(most, time.Since(began))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began := time.Now()
	if err := d.Scour(t.Context()); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	close(stop)
	t.Logf("%d items, box.db %d MB: scoured in %v, the longest wait of a writer %v", items, info.Size()>>20, took.Round(time.Millisecond), (<-longest).Round(time.Millisecond))
}
