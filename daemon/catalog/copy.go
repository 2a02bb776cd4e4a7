package catalog

import (
	"context"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// CopyIn gives the content of the live item id of u the further name to, a clean
// path whose folder is made as needed, without any bytes: both names share one
// content, and each counts against the quota. A file that has the name keeps its
// content as a version. device is who asks for the copy; time and source are
// those of the original. After an error tx must be undone to the savepoint before.
func (c *Catalog) CopyIn(tx *db.Tx, u ident.UserID, id ident.ItemID, to string, device ident.DeviceID) (Added, error) {
	it, err := liveItem(tx, "catalog.copy", u, id)
	if err != nil {
		return Added{}, err
	}
	// The row of the original keeps the content alive until this one is there.
	return c.put(tx, it.copyTo(to, device))
}

// CopyIntoIn is CopyIn into a folder, a clean path, under the item's own name or
// the next free one like it: see Entry.Beside.
func (c *Catalog) CopyIntoIn(tx *db.Tx, u ident.UserID, id ident.ItemID, folder string, device ident.DeviceID) (Added, error) {
	it, err := liveItem(tx, "catalog.copy", u, id)
	if err != nil {
		return Added{}, err
	}
	to, err := CleanPath(join(folder, it.Name))
	if err != nil {
		return Added{}, err
	}
	e := it.copyTo(to, device)
	e.Beside = true
	return c.put(tx, e)
}

func (it Item) copyTo(to string, device ident.DeviceID) Entry {
	return Entry{
		User: it.User, Device: device, Path: to, Ref: it.Ref, Size: it.Size, MTime: it.MTime,
		Source: it.Source, SourceBy: it.SourceBy, Taken: it.Taken,
	}
}

// SetMTimeIn corrects the modification time of the live item id of u in tx, for
// clients that send it after the file.
func (c *Catalog) SetMTimeIn(tx *db.Tx, u ident.UserID, id ident.ItemID, mtime time.Time) error {
	it, err := liveItem(tx, "catalog.mtime", u, id)
	if err != nil || it.MTime.Equal(mtime.Truncate(time.Millisecond)) {
		return err
	}
	folder, _ := split(it.Path)
	seq, err := c.touch(tx, u, id, KindDated, delta{}, folder)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE item SET mtime = ?, seq = ? WHERE id = ?`, millis(mtime), seq, int64(id))
	return err
}

const treeSize = `SELECT count(*), coalesce(sum(i.size), 0) FROM folder f CROSS JOIN item i ON i.folder = f.id
WHERE f.user = +?1 AND f.path >= ?2 AND f.path < ?4 AND (f.path = +?2 OR f.path > ?3)`

// TreeSize returns how many items lie in the folder of u at path, at any depth,
// and their bytes, versions not among them: what a copy of it would add.
func (c *Catalog) TreeSize(ctx context.Context, u ident.UserID, path string) (items, bytes int64, err error) {
	if path, err = CleanPath(path); err != nil {
		return 0, 0, err
	}
	lo, hi := below(path)
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, treeSize, int64(u), path, lo, hi).Scan(&items, &bytes)
	})
	return items, bytes, err
}
