package catalog

import (
	"context"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// SetMTime says when the content of u's live item id was made, to the
// millisecond: for protocols that tell it only after the bytes.
func (c *Catalog) SetMTime(ctx context.Context, u ident.UserID, id ident.ItemID, at time.Time) (it Item, err error) {
	const op = "catalog.set_mtime"
	at = at.Truncate(time.Millisecond).UTC()
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		if it, err = itemIn(tx, op, u, id); err != nil {
			return err
		}
		if !it.Trashed.IsZero() {
			return trashedAlready(op)
		}
		if it.MTime.Equal(at) {
			return nil
		}
		folder, _ := split(it.Path)
		if it.Seq, err = c.touch(tx, u, id, KindChanged, delta{}, folder); err != nil {
			return err
		}
		it.MTime = at
		_, err = tx.Exec(`UPDATE item SET mtime = ?, seq = ? WHERE id = ?`, millis(at), it.Seq, int64(id))
		return err
	})
	return it, err
}
