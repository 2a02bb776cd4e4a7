package catalog

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// Holding is a content as one person keeps it.
type Holding struct {
	Ref      storage.Ref
	Size     int64
	Trash    bool      // only in the trash
	Doubted  bool      // a check found its bytes damaged or missing
	Verified time.Time // when its bytes were last read back and were right; zero: never
}

const listHoldings = `SELECT r.key, b.size, b.doubted IS NOT NULL, b.verified,
  NOT (EXISTS (SELECT 1 FROM item i WHERE i.ref = b.ref AND i.user = +?2 AND i.trashed IS NULL)
    OR EXISTS (SELECT 1 FROM version v WHERE v.ref = b.ref AND v.user = +?2 AND v.trashed IS NULL))
FROM json_each(?1) r CROSS JOIN blob b ON b.ref = unhex(r.value)
WHERE EXISTS (SELECT 1 FROM item i WHERE i.ref = b.ref AND i.user = +?2)
   OR EXISTS (SELECT 1 FROM version v WHERE v.ref = b.ref AND v.user = +?2)`

// Holdings returns those of refs, in their order, that u keeps in any way, the
// trash included. Limits are those of Known.
func (c *Catalog) Holdings(ctx context.Context, u ident.UserID, refs []storage.Ref) (list []Holding, err error) {
	question, err := asArray(refs)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, listHoldings, question, int64(u))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i int
			var h Holding
			var verified sql.NullInt64
			if err := rows.Scan(&i, &h.Size, &h.Doubted, &verified, &h.Trash); err != nil {
				return err
			}
			h.Ref, h.Verified = refs[i], fromMillis(verified)
			list = append(list, h)
		}
		return rows.Err()
	})
	return list, err
}
