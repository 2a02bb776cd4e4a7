package catalog_test

import (
	"regexp"
	"strings"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
)

// What a plan must not say: that it reads a whole table or index, or sorts. A
// list of values that came with the query may be read from end to end.
var (
	scans = regexp.MustCompile(`\bSCAN (item|i|version|v|folder|f|blob|b|change|c|ledger|tombstone|user|p|upload|t|tombstone_sha1|d|damage)\b`)
	sorts = regexp.MustCompile(`TEMP B-TREE`)
)

func explain(t *testing.T, b *box, query string, args ...any) string {
	t.Helper()
	var plan []string
	must(t, b.db.Read(t.Context(), func(tx *db.Tx) error {
		rows, err := tx.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				return err
			}
			plan = append(plan, detail)
		}
		return rows.Err()
	}))
	return strings.Join(plan, "\n")
}

func TestNoListingReadsTheWholeCatalogue(t *testing.T) {
	b := open(t)
	for _, q := range catalog.Listings() {
		plan := explain(t, b, q.SQL, q.Args...)
		if plan == "" && !strings.HasPrefix(q.SQL, "INSERT") || scans.MatchString(plan) || sorts.MatchString(plan) {
			t.Errorf("%s reads or sorts the whole catalogue:\n%s\nadd an index, or page by key", q.Name, plan)
		}
	}
}

func TestThePlanTestCanFail(t *testing.T) {
	b := open(t)
	for _, bad := range []string{
		`SELECT id FROM item i WHERE i.size > 5`,
		`SELECT id FROM item WHERE user = 1 AND source = 'album' AND folder IS NOT NULL ORDER BY size`,
	} {
		if plan := explain(t, b, bad); !scans.MatchString(plan) && !sorts.MatchString(plan) {
			t.Errorf("not noticed:\n%s\n%s", bad, plan)
		}
	}
}

// A bare parameter in these places has the statement parsed anew on every use:
// see the comment in catalog.go.
func TestNoStatementIsParsedTwice(t *testing.T) {
	planned := regexp.MustCompile(`\bJOIN\b|\bORDER BY\b|\bmax\(|\bmin\(`)
	bare := regexp.MustCompile(`([^<>]= |LIMIT )\?`)
	for _, q := range catalog.Listings() {
		if planned.MatchString(q.SQL) && bare.MatchString(q.SQL) {
			t.Errorf("%s: write `= +?` and `LIMIT +?`:\n%s", q.Name, q.SQL)
		}
	}
}
