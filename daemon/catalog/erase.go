package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
	"yunbox.local/storage"
)

// All of a person's files go in the way in which one does: its row, its versions, what
// is counted. A few rows are one transaction, so that it can be cut off anywhere.

// purgeAtOnce is how many items are deleted for good in one transaction.
const purgeAtOnce = 128

// eraser erases for one box: sources are those whose files rest on a purpose.
type eraser struct {
	*Catalog
	sources func(purpose string) []string
}

// of returns the sources that w takes, as a JSON array; "": all.
func (e eraser) of(w rights.Which) (string, error) {
	if w.Purpose == "" {
		return "", nil
	}
	b, err := json.Marshal(append([]string{}, e.sources(w.Purpose)...))
	return string(b), err
}

// item_source has the live items of a person; where it is asked for one source after
// the other it is read in a range each.
const (
	someLive       = `SELECT ` + columns + ` FROM item i INDEXED BY item_source CROSS JOIN folder f ON f.id = i.folder WHERE i.user = +?1 AND i.folder IS NOT NULL LIMIT +?2`
	someLiveOf     = `SELECT ` + columns + ` FROM json_each(?3) s CROSS JOIN item i INDEXED BY item_source ON i.user = +?1 AND i.source = s.value AND i.folder IS NOT NULL CROSS JOIN folder f ON f.id = i.folder LIMIT +?2`
	someTrashed    = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder WHERE i.user = +?1 AND i.trashed IS NOT NULL LIMIT +?2`
	someTrashedAt  = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder WHERE i.user = +?1 AND i.trashed <= ?3 LIMIT +?2`
	someTrashedOf  = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder WHERE i.user = +?1 AND i.trashed IS NOT NULL AND i.source IN (SELECT value FROM json_each(?3)) LIMIT +?2`
	someVersions   = `SELECT item, seq, ref, size FROM version WHERE user = +?1 ORDER BY item, seq LIMIT +?2`
	someVersionsOf = `SELECT item, seq, ref, size FROM version WHERE user = +?1 AND source IN (SELECT value FROM json_each(?3)) ORDER BY item, seq LIMIT +?2`

	// What became of files that are gone, and of what never became one.
	someOffers      = `DELETE FROM ledger WHERE user = +?1 AND (device, n) IN (SELECT device, n FROM ledger WHERE user = +?1 ORDER BY device, n LIMIT +?2)`
	someOffersUntil = `DELETE FROM ledger WHERE user = +?1 AND (device, n) IN (SELECT device, n FROM ledger WHERE user = +?1 AND time <= ?3 ORDER BY device, n LIMIT +?2)`
	someOffersLost  = `DELETE FROM ledger WHERE user = +?1 AND (device, n) IN (SELECT l.device, l.n FROM ledger l WHERE l.user = +?1 AND l.path <> ''
		AND NOT EXISTS (SELECT 1 FROM item i WHERE i.id = l.item) ORDER BY l.device, l.n LIMIT +?2)`

	countOffersOf   = `SELECT count(*), 0 FROM ledger l LEFT JOIN item i ON i.id = l.item WHERE l.user = +?1 AND l.path <> '' AND (i.id IS NULL OR i.source IN (SELECT value FROM json_each(?2)))`
	countLiveOf     = `SELECT count(*), coalesce(sum(i.size), 0) FROM json_each(?2) s CROSS JOIN item i INDEXED BY item_source ON i.user = +?1 AND i.source = s.value AND i.folder IS NOT NULL`
	countTrashedOf  = `SELECT count(*), coalesce(sum(i.size), 0) FROM item i WHERE i.user = +?1 AND i.trashed IS NOT NULL AND i.source IN (SELECT value FROM json_each(?2))`
	countVersionsOf = `SELECT count(*), coalesce(sum(v.size), 0) FROM version v WHERE v.user = +?1 AND v.source IN (SELECT value FROM json_each(?2))`

	// The deepest first; one that holds something stays.
	dropFolders = `DELETE FROM folder WHERE id IN (SELECT f.id FROM folder f WHERE f.user = +?1 AND f.path > ''
		AND NOT EXISTS (SELECT 1 FROM item i WHERE i.folder = f.id) AND NOT EXISTS (SELECT 1 FROM folder b WHERE b.parent = f.id) ORDER BY f.path DESC LIMIT +?2)`
	dropChanges = `DELETE FROM change WHERE user = +?1 AND seq IN (SELECT seq FROM change WHERE user = +?1 ORDER BY seq LIMIT +?2)`
	dropRoot    = `DELETE FROM folder WHERE user = +?1 AND path = ''`
)

func (e eraser) some(tx *db.Tx, all, of string, u ident.UserID, w rights.Which, n int) ([]Item, error) {
	sources, err := e.of(w)
	if err != nil {
		return nil, err
	}
	if sources == "" {
		return scanItems(tx.Query(all, int64(u), n))
	}
	return scanItems(tx.Query(of, int64(u), n, sources))
}

// count returns a Count for a statement of the person and their sources.
func (e eraser) count(query string) func(context.Context, *db.Tx, ident.UserID, string) (rights.Sum, error) {
	return func(ctx context.Context, tx *db.Tx, u ident.UserID, purpose string) (s rights.Sum, err error) {
		sources, err := e.of(rights.Which{Purpose: purpose})
		if err == nil {
			err = tx.QueryRowContext(ctx, query, int64(u), sources).Scan(&s.Records, &s.Bytes)
		}
		return s, err
	}
}

func (e eraser) files(ctx context.Context, u ident.UserID, w rights.Which, n int) (done int, err error) {
	err = e.db.Write(ctx, func(tx *db.Tx) error {
		items, err := e.some(tx, someLive, someLiveOf, u, w, min(n, purgeAtOnce))
		if err != nil {
			return err
		}
		done = len(items)
		for _, it := range items {
			if err := e.trash(tx, it); err != nil {
				return err
			}
			if w.Trash {
				continue
			}
			if err := e.purgeAs(tx, it, !w.End); err != nil {
				return err
			}
			if folder, _ := split(it.Path); w.Purpose != "" { // else all folders are looked at afterwards
				if err := e.dropEmptied(tx, u, folder); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return done, err
}

const nothingIn = `SELECT NOT EXISTS (SELECT 1 FROM item WHERE folder = +?1) AND NOT EXISTS (SELECT 1 FROM folder WHERE parent = +?1)`

// dropEmptied removes the folder that was emptied, and those that it was the last thing in:
// their names came with the files.
func (e eraser) dropEmptied(tx *db.Tx, u ident.UserID, path string) error {
	dropped := false
	for ; path != ""; path, _ = split(path) {
		id, _, err := folderIn(tx, u, path)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		empty := false
		if err == nil {
			err = tx.QueryRow(nothingIn, id).Scan(&empty)
		}
		if err != nil {
			return err
		}
		if !empty {
			break
		}
		if _, err := tx.Exec(`DELETE FROM folder WHERE id = +?`, id); err != nil {
			return err
		}
		dropped = true
	}
	if !dropped {
		return nil
	}
	_, err := e.touch(tx, u, 0, KindFolder, delta{}, "")
	return err
}

func (e eraser) trashed(ctx context.Context, u ident.UserID, w rights.Which, n int) (done int, err error) {
	if w.Trash {
		return 0, nil // that is where things are to go
	}
	err = e.db.Write(ctx, func(tx *db.Tx) error {
		n := min(n, purgeAtOnce)
		items, err := []Item(nil), error(nil)
		if w.Before.IsZero() {
			items, err = e.some(tx, someTrashed, someTrashedOf, u, w, n)
		} else {
			items, err = scanItems(tx.Query(someTrashedAt, int64(u), n, w.Before.UnixMilli()))
		}
		if err != nil {
			return err
		}
		done = len(items)
		for _, it := range items {
			if err := e.purgeAs(tx, it, !w.End); err != nil {
				return err
			}
		}
		return nil
	})
	return done, err
}

// versions deletes what files held before; the files stay.
func (e eraser) versions(ctx context.Context, u ident.UserID, w rights.Which, n int) (done int, err error) {
	if w.Trash {
		return 0, nil // they lie with their files
	}
	err = e.db.Write(ctx, func(tx *db.Tx) error {
		done = 0
		sources, err := e.of(w)
		if err != nil {
			return err
		}
		var rows *sql.Rows
		if sources == "" {
			rows, err = tx.Query(someVersions, int64(u), min(n, purgeAtOnce))
		} else {
			rows, err = tx.Query(someVersionsOf, int64(u), min(n, purgeAtOnce), sources)
		}
		if err != nil {
			return err
		}
		type version struct {
			item ident.ItemID
			seq  int64
			ref  storage.Ref
			size int64
		}
		var list []version
		for rows.Next() {
			var v version
			var ref []byte
			if err := rows.Scan(&v.item, &v.seq, &ref, &v.size); err != nil {
				return errors.Join(err, rows.Close())
			}
			copy(v.ref[:], ref)
			list = append(list, v)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		var d delta
		for _, v := range list {
			if _, err := tx.Exec(`DELETE FROM version WHERE item = +? AND seq = ?`, int64(v.item), v.seq); err != nil {
				return err
			}
			gone, err := e.letGoAs(tx, u, v.ref, !w.End)
			if err != nil {
				return err
			}
			if d.bytes -= v.size; gone {
				d.distinct -= v.size
			}
		}
		if done = len(list); done == 0 {
			return nil
		}
		tx.AfterCommit(e.announceDeath)
		_, err = e.touch(tx, u, 0, KindFolder, d, "")
		return err
	})
	return done, err
}

// offers deletes the history of devices: for a purpose, what it says of files that are gone.
func (e eraser) offers(ctx context.Context, u ident.UserID, w rights.Which, n int) (done int, err error) {
	if w.Trash {
		return 0, nil // the files are still there
	}
	query, args := someOffers, []any{int64(u), n}
	switch {
	case !w.Before.IsZero():
		query, args = someOffersUntil, append(args, w.Before.UnixMilli())
	case w.Purpose != "":
		query = someOffersLost
	}
	err = e.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(query, args...)
		if err != nil {
			return err
		}
		some, err := res.RowsAffected()
		done = int(some)
		return err
	})
	return done, err
}

// folders removes folders in which nothing lies.
func (e eraser) folders(ctx context.Context, u ident.UserID, _ rights.Which, n int) (done int, err error) {
	err = e.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(dropFolders, int64(u), n)
		if err != nil {
			return err
		}
		some, err := res.RowsAffected()
		if done = int(some); err != nil || done == 0 {
			return err
		}
		_, err = e.touch(tx, u, 0, KindFolder, delta{}, "")
		return err
	})
	return done, err
}

// changes deletes the feed, and with its last row the folder in which all others were.
func (e eraser) changes(ctx context.Context, u ident.UserID, _ rights.Which, n int) (done int, err error) {
	err = e.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(dropChanges, int64(u), n)
		if err != nil {
			return err
		}
		some, err := res.RowsAffected()
		if done = int(some); err != nil || done > 0 {
			return err
		}
		_, err = tx.Exec(dropRoot, int64(u))
		return err
	})
	return done, err
}

// HandOver gives up to n live files of a person to another one, below a folder of
// theirs, and takes them from the person: in one transaction, within the other's
// quota. also is called in it with how many it gave, and can refuse it; HandOver returns
// that, 0: none is left. Older versions and the trash do not go along.
func (c *Catalog) HandOver(ctx context.Context, from, to ident.UserID, folder string, n int, also func(*db.Tx, int) error) (done int, err error) {
	folder, err = CleanPath(folder)
	if err != nil {
		return 0, err
	}
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		items, err := scanItems(tx.Query(someLive, int64(from), min(n, purgeAtOnce)))
		if err != nil {
			return err
		}
		done = len(items)
		for _, it := range items {
			path := join(folder, it.Path)
			if len(path) > MaxPath {
				path = join(folder, it.Name)
			}
			if _, err := c.put(tx, Entry{User: to, Path: path, Ref: it.Ref, Size: it.Size, MTime: it.MTime,
				Source: it.Source, SourceBy: it.SourceBy, Taken: it.Taken, Beside: true}); err != nil {
				return err
			}
			if err := c.trash(tx, it); err != nil {
				return err
			}
			if err := c.purgeAs(tx, it, false); err != nil {
				return err
			}
		}
		return also(tx, done)
	})
	return done, err
}

// forgetsAfter is how many days longer than their owner asked for deletions are
// remembered: somebody who chooses a longer time soon after loses nothing.
const forgetsAfter = 30

const (
	oldTombstones  = `SELECT d.user, d.ref FROM user u CROSS JOIN tombstone d ON d.user = u.id WHERE d.time <= ?1 - (u.decline_days + ?2) * 86400000 LIMIT +?3`
	deletedForgets = 500
)

// ForgetDeletions removes the memory of deletions that count no longer. It reads all of
// it, so it is for once a day, and writes only where there is something to remove.
func (c *Catalog) ForgetDeletions(ctx context.Context) error {
	for {
		type one struct {
			user ident.UserID
			ref  []byte
		}
		var list []one
		err := c.db.Read(ctx, func(tx *db.Tx) error {
			rows, err := tx.QueryContext(ctx, oldTombstones, tx.Sure.UnixMilli(), forgetsAfter, deletedForgets)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var o one
				if err := rows.Scan(&o.user, &o.ref); err != nil {
					return err
				}
				list = append(list, o)
			}
			return rows.Err()
		})
		if err != nil || len(list) == 0 {
			return err
		}
		if err := c.db.Write(ctx, func(tx *db.Tx) error {
			for _, o := range list {
				if _, err := tx.Exec(dropTombstone, int64(o.user), o.ref); err != nil {
					return err
				}
				if _, err := tx.Exec(dropTombstone1, int64(o.user), o.ref); err != nil {
					return err
				}
			}
			return nil
		}); err != nil || len(list) < deletedForgets {
			return err
		}
	}
}
