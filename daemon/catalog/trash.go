package catalog

import (
	"context"
	"database/sql"
	"errors"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Trash moves the live item id of u, with its versions, to the trash. It counts
// against the quota until it is purged. What is there already stays as it is.
func (c *Catalog) Trash(ctx context.Context, u ident.UserID, id ident.ItemID) error {
	return c.db.Write(ctx, func(tx *db.Tx) error { return c.TrashIn(tx, u, id) })
}

// TrashIn is Trash in tx.
func (c *Catalog) TrashIn(tx *db.Tx, u ident.UserID, id ident.ItemID) error {
	it, err := itemIn(tx, "catalog.trash", u, id)
	if err != nil || !it.Trashed.IsZero() {
		return err
	}
	return c.trash(tx, it)
}

func (c *Catalog) trash(tx *db.Tx, it Item) error {
	folder, _ := split(it.Path)
	seq, err := c.touch(tx, it.User, it.ID, KindTrashed, delta{items: -1}, folder)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE item SET folder = NULL, origin = ?, trashed = ?, seq = ? WHERE id = ?`,
		folder, tx.Sure.UnixMilli(), seq, int64(it.ID)); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE version SET trashed = ? WHERE item = ?`, tx.Sure.UnixMilli(), int64(it.ID))
	return err
}

// trashAtOnce is how many items of a folder one transaction moves, so that a
// large folder does not keep uploads waiting.
const trashAtOnce = 256

const itemsBelow = `SELECT ` + columns + ` FROM folder f CROSS JOIN item i ON i.folder = f.id
WHERE f.user = +?1 AND f.path >= ?2 AND f.path < ?4 AND (f.path = +?2 OR f.path > ?3) LIMIT +?5`

// TrashFolder moves everything in the folder of u at path to the trash and
// removes the folder. Of a large folder it moves one part after the other: if it
// ends early, the rest is still in place.
func (c *Catalog) TrashFolder(ctx context.Context, u ident.UserID, path string) error {
	path, err := CleanPath(path)
	if err != nil {
		return err
	}
	lo, hi := below(path)
	for more := true; more; {
		err := c.db.Write(ctx, func(tx *db.Tx) error {
			if _, _, err := folderIn(tx, u, path); errors.Is(err, sql.ErrNoRows) {
				return notFound("catalog.trash", "folder")
			} else if err != nil {
				return err
			}
			items, err := scanItems(tx.Query(itemsBelow, int64(u), path, lo, hi, trashAtOnce))
			if err != nil {
				return err
			}
			for _, it := range items {
				if err := c.trash(tx, it); err != nil {
					return err
				}
			}
			if more = len(items) == trashAtOnce; more {
				return nil
			}
			return c.removeFolders(tx, u, path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeFolders removes the folder at path and those below it, none of which
// may hold a live item.
func (c *Catalog) removeFolders(tx *db.Tx, u ident.UserID, path string) error {
	lo, hi := below(path)
	rows, err := tx.Query(`SELECT id FROM folder WHERE user = +?1 AND path >= ?2 AND path < ?4 AND (path = +?2 OR path > ?3) ORDER BY path DESC`, int64(u), path, lo, hi)
	if err != nil {
		return err
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			rows.Close()
			return err
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range ids { // a folder's path sorts before those below it
		if _, err := tx.Exec(`DELETE FROM folder WHERE id = +?`, id); err != nil {
			return err
		}
	}
	above, _ := split(path)
	_, err = c.touch(tx, u, 0, KindFolder, delta{}, above)
	return err
}

// Restore brings the item id of u back from the trash to where it was. It makes
// the folder again if that is gone, and where a name is taken by now it takes
// the next free one: "a (2).jpg". A live item stays as it is.
func (c *Catalog) Restore(ctx context.Context, u ident.UserID, id ident.ItemID) (it Item, err error) {
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		it, err = c.restore(tx, u, id)
		return err
	})
	return it, err
}

func (c *Catalog) restore(tx *db.Tx, u ident.UserID, id ident.ItemID) (it Item, err error) {
	if it, err = itemIn(tx, "catalog.restore", u, id); err != nil || it.Trashed.IsZero() {
		return it, err
	}
	folder, name := split(it.Path)
	fid, folder, err := folderAround(tx, u, folder)
	if err != nil {
		return it, err
	}
	if name, err = freeName(tx, fid, name); err != nil {
		return it, err
	}
	if it.Seq, err = c.touch(tx, u, id, KindRestored, delta{items: 1}, folder); err != nil {
		return it, err
	}
	if _, err := tx.Exec(`UPDATE item SET folder = ?, name = ?, origin = NULL, trashed = NULL, seq = ? WHERE id = ?`, fid, name, it.Seq, int64(id)); err != nil {
		return it, err
	}
	if _, err := tx.Exec(`UPDATE version SET trashed = NULL WHERE item = ?`, int64(id)); err != nil {
		return it, err
	}
	return itemIn(tx, "catalog.restore", u, id)
}

// folderAround makes the folder at path again. If a file has taken the name of a
// part of it, the nearest folder above is used instead.
func folderAround(tx *db.Tx, u ident.UserID, path string) (id int64, folder string, err error) {
	for {
		err := tx.Savepoint(func() (err error) {
			id, _, err = makeFolders(tx, u, path)
			return err
		})
		if problem.KindOf(err) != problem.Conflict || path == "" {
			return id, path, err
		}
		path, _ = split(path)
	}
}

func freeName(tx *db.Tx, folder int64, name string) (string, error) {
	for n := 1; ; n++ {
		try := numbered(name, n)
		item, err := hasItem(tx, folder, try)
		if err != nil {
			return "", err
		}
		dir, err := hasFolder(tx, folder, try)
		if err != nil {
			return "", err
		}
		if !item && !dir {
			return try, nil
		}
	}
}

// Purge deletes the item id of u and its versions for good. It must be in the
// trash (problem.Conflict otherwise). A tombstone remembers each content. The
// files of contents that nobody keeps any longer are removed soon after: see
// Dead.
func (c *Catalog) Purge(ctx context.Context, u ident.UserID, id ident.ItemID) error {
	return c.db.Write(ctx, func(tx *db.Tx) error {
		it, err := itemIn(tx, "catalog.purge", u, id)
		if err != nil {
			return err
		}
		if it.Trashed.IsZero() {
			return &problem.Error{
				Kind: problem.Conflict, Op: "catalog.purge", Title: "The file is not in the trash",
				Detail: "Only what is in the trash can be deleted for good.", Hint: "Move it to the trash first.",
			}
		}
		return c.purge(tx, it)
	})
}

func (c *Catalog) purge(tx *db.Tx, it Item) error { return c.purgeAs(tx, it, true) }

// purgeAs is purge with or without a tombstone.
func (c *Catalog) purgeAs(tx *db.Tx, it Item, remember bool) error {
	sizes := map[storage.Ref]int64{it.Ref: it.Size}
	freed, err := versionsIn(tx, it.ID, sizes)
	if err != nil {
		return err
	}
	freed += it.Size
	if _, err := tx.Exec(`DELETE FROM version WHERE item = +?`, int64(it.ID)); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM item WHERE id = +?`, int64(it.ID)); err != nil {
		return err
	}
	d := delta{bytes: -freed}
	for ref, size := range sizes {
		gone, err := c.letGoAs(tx, it.User, ref, remember)
		if err != nil {
			return err
		}
		if gone {
			d.distinct -= size
		}
	}
	tx.AfterCommit(c.announceDeath)
	_, err = c.touch(tx, it.User, it.ID, KindPurged, d)
	return err
}

// versionsIn adds the contents of an item's versions to sizes and returns the
// bytes that the versions count.
func versionsIn(tx *db.Tx, id ident.ItemID, sizes map[storage.Ref]int64) (total int64, err error) {
	rows, err := tx.Query(`SELECT ref, size FROM version WHERE item = +?`, int64(id))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var ref storage.Ref
		var b []byte
		var size int64
		if err := rows.Scan(&b, &size); err != nil {
			return 0, err
		}
		copy(ref[:], b)
		sizes[ref] = size
		total += size
	}
	return total, rows.Err()
}

const markDead = `UPDATE blob SET dead = ?2 WHERE ref = ?1 AND dead IS NULL
AND NOT EXISTS (SELECT 1 FROM item WHERE ref = ?1) AND NOT EXISTS (SELECT 1 FROM version WHERE ref = ?1)`

// letGoAs notes that u deleted a row with ref: the tombstone if it is to be remembered, else no trace,
// and that the content is dead if nobody keeps it. It returns whether u keeps it no longer.
func (c *Catalog) letGoAs(tx *db.Tx, u ident.UserID, ref storage.Ref, remember bool) (bool, error) {
	if remember {
		if err := remembers(tx, u, ref); err != nil {
			return false, err
		}
	} else if err := forgetDeletion(tx, u, ref); err != nil {
		return false, err
	}
	if _, err := tx.Exec(markDead, ref[:], tx.Now.UnixMilli()); err != nil {
		return false, err
	}
	h, err := held(tx, u, ref)
	return !h.any, err
}

func forgetDeletion(tx *db.Tx, u ident.UserID, ref storage.Ref) error {
	if _, err := tx.Exec(dropTombstone, int64(u), ref[:]); err != nil {
		return err
	}
	_, err := tx.Exec(dropTombstone1, int64(u), ref[:])
	return err
}

func remembers(tx *db.Tx, u ident.UserID, ref storage.Ref) error {
	if _, err := tx.Exec(`INSERT INTO tombstone (user, ref, time) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET time = excluded.time`,
		int64(u), ref[:], tx.Sure.UnixMilli()); err != nil {
		return err
	}
	_, err := tx.Exec(noteSHA1OfBlob, int64(u), ref[:])
	return err
}
