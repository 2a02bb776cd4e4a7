package catalog

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// All that a person keeps, in one go and in one state of the records.
const (
	everyFolder = `SELECT f.path FROM folder f WHERE f.user = +? AND f.path > '' ORDER BY f.path`
	everyItem   = `SELECT ` + columns + ` FROM folder f CROSS JOIN item i ON i.folder = f.id WHERE f.user = +? ORDER BY f.path, i.name`
	everyTrash  = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder
WHERE i.user = +? AND i.trashed IS NOT NULL ORDER BY i.trashed, i.id`
	everyVersion = `SELECT v.seq, v.ref, v.size, v.mtime, v.added, v.replaced, v.source, v.source_by, v.device, ` + columns + `
FROM version v CROSS JOIN item i ON i.id = v.item LEFT JOIN folder f ON f.id = i.folder WHERE v.user = +? ORDER BY v.item, v.seq`
)

// EachFolder calls fn with the path of each folder of u but the root, parents first.
func (c *Catalog) EachFolder(ctx context.Context, tx *db.Tx, u ident.UserID, fn func(path string) error) error {
	return eachRow(ctx, tx, everyFolder, u, func(rows *sql.Rows) error {
		var path string
		if err := rows.Scan(&path); err != nil {
			return err
		}
		return fn(path)
	})
}

// EachItem calls fn with each live item of u, folder by folder.
func (c *Catalog) EachItem(ctx context.Context, tx *db.Tx, u ident.UserID, fn func(Item) error) error {
	return eachItem(ctx, tx, everyItem, u, fn)
}

// EachTrashed calls fn with each item of u that is in the trash.
func (c *Catalog) EachTrashed(ctx context.Context, tx *db.Tx, u ident.UserID, fn func(Item) error) error {
	return eachItem(ctx, tx, everyTrash, u, fn)
}

func eachItem(ctx context.Context, tx *db.Tx, query string, u ident.UserID, fn func(Item) error) error {
	return eachRow(ctx, tx, query, u, func(rows *sql.Rows) error {
		it, err := scanItem(rows)
		if err != nil {
			return err
		}
		return fn(it)
	})
}

// EachVersion calls fn with each content that an item of u had before, and with the
// number of the change that replaced it, which tells the versions of an item apart.
func (c *Catalog) EachVersion(ctx context.Context, tx *db.Tx, u ident.UserID, fn func(it Item, v Version, seq int64) error) error {
	return eachRow(ctx, tx, everyVersion, u, func(rows *sql.Rows) error {
		var v Version
		var seq, added, replaced int64
		var ref []byte
		var mtime sql.NullInt64
		it, err := scanItem(after{rows, []any{&seq, &ref, &v.Size, &mtime, &added, &replaced, &v.Source, &v.SourceBy, &v.Device}})
		if err != nil {
			return err
		}
		copy(v.Ref[:], ref)
		v.MTime, v.Added, v.Replaced = fromMillis(mtime), time.UnixMilli(added).UTC(), time.UnixMilli(replaced).UTC()
		return fn(it, v, seq)
	})
}

// after is a row whose first columns are scanned elsewhere.
type after struct {
	row
	first []any
}

func (a after) Scan(dest ...any) error { return a.row.Scan(append(a.first, dest...)...) }

func eachRow(ctx context.Context, tx *db.Tx, query string, u ident.UserID, fn func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query, int64(u))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Keeps reports whether u has a row with that content: under a name, as a version, or
// in the trash.
func (c *Catalog) Keeps(ctx context.Context, u ident.UserID, ref storage.Ref) (any bool, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		h, err := held(tx, u, ref)
		any = h.any
		return err
	})
	return any, err
}
