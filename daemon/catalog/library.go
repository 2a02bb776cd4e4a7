package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// listKnownSHA1 finds a content by its SHA-1, and then whether the person has it.
const listKnownSHA1 = `SELECT r.key, (SELECT min(i.id) FROM item i WHERE i.ref = b.ref AND i.user = +?2 AND i.trashed IS NULL)
FROM json_each(?1) r CROSS JOIN blob b ON b.sha1 = unhex(r.value) AND b.doubted IS NULL AND b.dead IS NULL`

// KnownSHA1 returns, for each of sums and in their order, the live item of u that
// has a content of that SHA-1, 0 if there is none. As Known it speaks neither of
// the trash, nor of contents in doubt, nor of other people's. SHA-1 is what some
// clients ask by; it does not prove that two contents are equal, and nothing is
// kept or dropped by it. More than MaxKnown sums are problem.TooLarge.
func (c *Catalog) KnownSHA1(ctx context.Context, u ident.UserID, sums []storage.SHA1) ([]ident.ItemID, error) {
	if len(sums) > MaxKnown {
		return nil, tooManyAsked(len(sums))
	}
	ids := make([]ident.ItemID, len(sums))
	if len(sums) == 0 {
		return ids, nil
	}
	list := hexArray(len(sums), func(i int) []byte { return sums[i][:] })
	err := c.each(ctx, func(rows *sql.Rows) error {
		var key int
		var id sql.NullInt64 // NULL: only others have it
		err := rows.Scan(&key, &id)
		if err == nil && id.Valid {
			ids[key] = ident.ItemID(id.Int64)
		}
		return err
	}, listKnownSHA1, list, int64(u))
	return ids, err
}

// each runs a query and has every row of it read.
func (c *Catalog) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

const listSHA1 = `SELECT r.key, b.sha1 FROM json_each(?1) r CROSS JOIN blob b ON b.ref = unhex(r.value)`

// SHA1s returns the SHA-1 of the content of each of items, which the caller got
// from this catalogue, in their order.
func (c *Catalog) SHA1s(ctx context.Context, items []Item) ([]storage.SHA1, error) {
	refs := make([]string, len(items))
	for i := range items {
		refs[i] = items[i].Ref.String()
	}
	sums := make([]storage.SHA1, len(items))
	err := c.each(ctx, func(rows *sql.Rows) error {
		var key int
		var sum []byte
		err := rows.Scan(&key, &sum)
		if err == nil {
			copy(sums[key][:], sum)
		}
		return err
	}, listSHA1, array(refs))
	return sums, err
}

// array is list as JSON. Its elements can always be encoded.
func array[T string | int64](list []T) string {
	b, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(b)
}

const nextSource = `SELECT min(source) FROM item WHERE user = +? AND folder IS NOT NULL AND source > ?`

// ByID returns up to limit (MaxLimit at most) live items of u by their identifiers,
// which grow with time: those below from with the newest first, or those above it
// with the oldest first. The zero from begins. What comes meanwhile moves no page.
func (c *Catalog) ByID(ctx context.Context, u ident.UserID, from ident.ItemID, newest bool, limit int) (list []Item, err error) {
	if limit <= 0 || limit > MaxLimit {
		limit = MaxLimit
	}
	query := listSourceUp
	if newest {
		query = listSource
		if from == 0 {
			from = math.MaxInt64
		}
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		// The index goes by source: the first of each are as many as are needed.
		for source := ""; ; {
			var next sql.NullString
			if err := tx.QueryRowContext(ctx, nextSource, int64(u), source).Scan(&next); err != nil || !next.Valid {
				return err
			}
			source = next.String
			some, err := scanItems(tx.QueryContext(ctx, query, int64(u), source, int64(from), limit))
			if err != nil {
				return err
			}
			list = append(list, some...)
			slices.SortFunc(list, func(a, b Item) int {
				if newest {
					a, b = b, a
				}
				return cmp.Compare(a.ID, b.ID)
			})
			list = list[:min(len(list), limit)]
		}
	})
	return list, err
}

const listNames = `SELECT name FROM item WHERE user = +? AND folder IS NOT NULL`

// EachName calls fn with the name of every live item of u, in no order. It reads
// all of them, about a second for a million.
func (c *Catalog) EachName(ctx context.Context, u ident.UserID, fn func(name string)) error {
	return c.each(ctx, func(rows *sql.Rows) error {
		var name sql.RawBytes
		err := rows.Scan(&name)
		if err == nil {
			fn(string(name))
		}
		return err
	}, listNames, int64(u))
}

const listCounts = `SELECT r.key, (SELECT count(*) FROM item i WHERE i.folder = f.id) FROM json_each(?1) r
CROSS JOIN folder f ON f.id = r.value WHERE f.user = +?2`

// Counts returns how many items lie directly in each of folders of u.
func (c *Catalog) Counts(ctx context.Context, u ident.UserID, folders []Folder) ([]int64, error) {
	ids := make([]int64, len(folders))
	for i := range folders {
		ids[i] = folders[i].ID
	}
	counts := make([]int64, len(folders))
	err := c.each(ctx, func(rows *sql.Rows) error {
		var key int
		var n int64
		err := rows.Scan(&key, &n)
		if err == nil {
			counts[key] = n
		}
		return err
	}, listCounts, array(ids), int64(u))
	return counts, err
}

const folderByID = `SELECT ` + folderColumns + ` FROM folder f LEFT JOIN change c ON c.user = f.user AND c.seq = f.seq
WHERE f.id = +? AND f.user = +?`

// FolderByID returns the folder of u with that number, wherever it was moved.
func (c *Catalog) FolderByID(ctx context.Context, u ident.UserID, id int64) (f Folder, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		f, err = scanFolder(tx.QueryRowContext(ctx, folderByID, id, int64(u)))
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("catalog.folder", "folder")
		}
		return err
	})
	return f, err
}
