package catalog

import (
	"context"
	"encoding/json"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// Erased counts what Erase deleted.
type Erased struct {
	Files int   // names, and versions that were erased without theirs
	Bytes int64 // of them
}

// eraseAtOnce is how many files one transaction of an erasure deletes.
const eraseAtOnce = 100

// One index has what is live, by source, another what is in the trash. ?4: of any source.
const (
	eraseLive = `SELECT ` + columns + ` FROM item i JOIN folder f ON f.id = i.folder
		WHERE i.user = +?1 AND i.folder IS NOT NULL AND (?4 OR i.source IN (SELECT value FROM json_each(?3))) LIMIT +?2`
	eraseTrash = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder
		WHERE i.user = +?1 AND i.trashed IS NOT NULL AND (?4 OR i.source IN (SELECT value FROM json_each(?3))) LIMIT +?2`
	eraseVersions = `SELECT item, seq, ref, size FROM version WHERE user = +?1 AND source IN (SELECT value FROM json_each(?3)) LIMIT +?2`
	forgetOffers  = `DELETE FROM ledger WHERE user = +?1 AND path <> '' AND NOT EXISTS (SELECT 1 FROM item WHERE item.id = ledger.item)`
	hasAny        = `SELECT EXISTS (SELECT 1 FROM item WHERE user = +?1 AND folder IS NOT NULL AND (?3 OR source IN (SELECT value FROM json_each(?2))))
		OR EXISTS (SELECT 1 FROM item WHERE user = +?1 AND trashed IS NOT NULL AND (?3 OR source IN (SELECT value FROM json_each(?2))))
		OR EXISTS (SELECT 1 FROM version WHERE user = +?1 AND (?3 OR source IN (SELECT value FROM json_each(?2))))`
)

// HasIn reports whether u keeps anything that came in with one of the sources, nil: with
// any; the trash and versions count.
func (c *Catalog) HasIn(tx *db.Tx, u ident.UserID, sources []string) (has bool, err error) {
	list, err := json.Marshal(sources)
	if err != nil {
		return false, err
	}
	err = tx.QueryRow(hasAny, int64(u), string(list), sources == nil).Scan(&has)
	return has, err
}

// EraseIn deletes a part of what u keeps that came in with one of the sources (nil: with
// any), for good and at once: names, versions and the trash. Unlike Purge it leaves no
// trace of a content, so that the person may send it again. more: call it again. After
// the last part the history of what devices offered has no name left of what is gone,
// and with nil no folder and no memory of earlier deletions is left either.
func (c *Catalog) EraseIn(tx *db.Tx, u ident.UserID, sources []string) (e Erased, more bool, err error) {
	raw, err := json.Marshal(sources)
	if err != nil {
		return e, false, err
	}
	for _, q := range []string{eraseLive, eraseTrash} {
		list, err := scanItems(tx.Query(q, int64(u), eraseAtOnce, string(raw), sources == nil))
		if err != nil {
			return e, false, err
		}
		if err := c.eraseItems(tx, list, &e); err != nil {
			return e, false, err
		}
		if len(list) == eraseAtOnce {
			return e, true, nil
		}
	}
	if sources == nil {
		return e, false, c.eraseRest(tx, u)
	}
	n, err := c.eraseVersions(tx, u, string(raw), &e)
	if err != nil || n == eraseAtOnce {
		return e, true, err
	}
	_, err = tx.Exec(forgetOffers, int64(u))
	return e, false, err
}

// eraseRest deletes what is left of somebody who keeps no file.
func (c *Catalog) eraseRest(tx *db.Tx, u ident.UserID) error {
	res, err := tx.Exec(`DELETE FROM folder WHERE user = ? AND path > ''`, int64(u))
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n > 0 {
		if _, err := c.touch(tx, u, 0, KindFolder, delta{}, ""); err != nil {
			return err
		}
	}
	for _, q := range []string{`DELETE FROM tombstone WHERE user = ?`, `DELETE FROM tombstone_sha1 WHERE user = ?`, `DELETE FROM ledger WHERE user = ?`} {
		if _, err := tx.Exec(q, int64(u)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) eraseItems(tx *db.Tx, list []Item, e *Erased) error {
	for _, it := range list {
		refs := map[storage.Ref]int64{it.Ref: it.Size}
		more, err := versionsIn(tx, it.ID, refs)
		if err != nil {
			return err
		}
		e.Files++
		e.Bytes += it.Size + more
		if it.Trashed.IsZero() { // out of its folder first, so that who follows hears of it
			if err := c.trash(tx, it); err != nil {
				return err
			}
		}
		if err := c.purgeAs(tx, it, false); err != nil {
			return err
		}
		for ref := range refs {
			if err := forgetDeletion(tx, it.User, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseVersions deletes versions whose file has a content of another source now.
func (c *Catalog) eraseVersions(tx *db.Tx, u ident.UserID, sources string, e *Erased) (n int, err error) {
	type version struct {
		item ident.ItemID
		seq  int64
		ref  storage.Ref
		size int64
	}
	var list []version
	rows, err := tx.Query(eraseVersions, int64(u), eraseAtOnce, sources)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var v version
		var ref []byte
		if err := rows.Scan(&v.item, &v.seq, &ref, &v.size); err != nil {
			return 0, err
		}
		copy(v.ref[:], ref)
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	for _, v := range list {
		if _, err := tx.Exec(`DELETE FROM version WHERE item = ? AND seq = ?`, int64(v.item), v.seq); err != nil {
			return 0, err
		}
		gone, err := c.letGoAs(tx, u, v.ref, false)
		if err != nil {
			return 0, err
		}
		d := delta{bytes: -v.size}
		if gone {
			d.distinct = -v.size
			if err := forgetDeletion(tx, u, v.ref); err != nil {
				return 0, err
			}
		}
		tx.AfterCommit(c.announceDeath)
		if _, err := c.touch(tx, u, v.item, KindReplaced, d); err != nil {
			return 0, err
		}
		e.Files++
		e.Bytes += v.size
	}
	return len(list), nil
}

func forgetDeletion(tx *db.Tx, u ident.UserID, ref storage.Ref) error {
	if _, err := tx.Exec(`DELETE FROM tombstone WHERE user = ? AND ref = ?`, int64(u), ref[:]); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM tombstone_sha1 WHERE user = ? AND ref = ?`, int64(u), ref[:])
	return err
}

// EraseAll is EraseIn, part after part.
func (c *Catalog) EraseAll(ctx context.Context, u ident.UserID, sources []string, each func(*db.Tx, Erased) error) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		err := c.db.Write(ctx, func(tx *db.Tx) (err error) {
			var e Erased
			if e, more, err = c.EraseIn(tx, u, sources); err != nil {
				return err
			}
			return each(tx, e)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
