package nextcloud_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/nextcloud"
)

// No query reads a whole table, however many files are being sent.
func TestQueryPlans(t *testing.T) {
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "box.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	bad := regexp.MustCompile(`\bSCAN (f|u|upload|nextcloud_\w+)\b|TEMP B-TREE`)
	err = d.Read(t.Context(), func(tx *db.Tx) error {
		for query, args := range nextcloud.Queries() {
			rows, err := tx.Query("EXPLAIN QUERY PLAN "+query, args...)
			if err != nil {
				return err
			}
			var plan []string
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					return err
				}
				plan = append(plan, detail)
			}
			rows.Close()
			if text := strings.Join(plan, "\n"); text == "" || bad.MatchString(text) {
				t.Errorf("%s\nreads or sorts too much:\n%s", query, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bad.MatchString("SCAN f") || bad.MatchString("SEARCH f") {
		t.Error("this test cannot fail")
	}
}
