package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// A person who deletes a photo on the box seldom deletes it on every phone. The
// next backup would bring it back, and so would a phone that was set up anew.
// Therefore what its owner deleted is remembered by its content, as a tombstone
// or in the trash, and declined for as long as they chose.

// deletedAt is when a person ("+?2") let a content go, 0 if they did not. It
// does not look whether they keep it all the same.
const deletedAt = `max(
  coalesce((SELECT t.time FROM tombstone t WHERE t.user = +?2 AND t.ref = %[1]s), 0),
  coalesce((SELECT i.trashed FROM item i WHERE i.ref = %[1]s AND i.user = +?2 AND i.trashed IS NOT NULL ORDER BY i.trashed DESC LIMIT 1), 0),
  coalesce((SELECT v.trashed FROM version v WHERE v.ref = %[1]s AND v.user = +?2 AND v.trashed IS NOT NULL ORDER BY v.trashed DESC LIMIT 1), 0))`

const notLive = `NOT EXISTS (SELECT 1 FROM item i WHERE i.ref = %[1]s AND i.user = +?2 AND i.trashed IS NULL)
  AND NOT EXISTS (SELECT 1 FROM version v WHERE v.ref = %[1]s AND v.user = +?2 AND v.trashed IS NULL)`

var (
	listDeleted = fmt.Sprintf(`SELECT key, since FROM (SELECT r.key, `+deletedAt+` AS since FROM json_each(?1) r WHERE `+notLive+`) WHERE since > ?3`, "unhex(r.value)")

	deletedSince = fmt.Sprintf(`SELECT p.decline_days, `+deletedAt+` FROM user p WHERE p.id = +?2 AND p.decline_days > 0 AND `+notLive, "+?1")
)

const declineDays = `SELECT decline_days FROM user WHERE id = +?`

// forgotten is the time of which, and before which, deletions do not count any more.
func forgotten(tx *db.Tx, days int) int64 { return tx.Now.AddDate(0, 0, -days).UnixMilli() }

// Deletion is a content that a person deleted.
type Deletion struct {
	Ref  storage.Ref
	Time time.Time // when it went into the trash, or out of it for good
}

// Deleted returns those of refs, in their order, that u deleted (they lie in the
// trash or were deleted for good), does not keep under another name, and does not
// want back by a backup: see account.Accounts.SetDeclineDays. Limits are those of
// Known.
func (c *Catalog) Deleted(ctx context.Context, u ident.UserID, refs []storage.Ref) (list []Deletion, err error) {
	question, err := asArray(refs)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		var days int
		if err := tx.QueryRow(declineDays, int64(u)).Scan(&days); errors.Is(err, sql.ErrNoRows) {
			return notFound("catalog.deleted", "person")
		} else if err != nil || days == 0 {
			return err
		}
		rows, err := tx.QueryContext(ctx, listDeleted, question, int64(u), forgotten(tx, days))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i int
			var when int64
			if err := rows.Scan(&i, &when); err != nil {
				return err
			}
			list = append(list, Deletion{Ref: refs[i], Time: time.UnixMilli(when).UTC()})
		}
		return rows.Err()
	})
	return list, err
}

// MayComeBack fails with problem.Deleted if a backup may not bring u the content
// ref: see Deleted.
func (c *Catalog) MayComeBack(tx *db.Tx, u ident.UserID, ref storage.Ref) error {
	var days int
	var when int64
	switch err := tx.QueryRow(deletedSince, ref[:], int64(u)).Scan(&days, &when); {
	case errors.Is(err, sql.ErrNoRows), err == nil && when <= forgotten(tx, days):
		return nil
	case err != nil:
		return err
	}
	t := time.UnixMilli(when).UTC()
	return &problem.Error{
		Kind: problem.Deleted, Op: "catalog.deleted",
		Detail:  fmt.Sprintf("You deleted this content from the box on %s. A backup does not bring it back by itself.", t.Format(time.DateOnly)),
		Hint:    "To have it again, restore it from the trash, or back it up again on purpose.",
		Members: map[string]any{"deleted": t.Format("2006-01-02T15:04:05.000Z"), "sha256": ref.String()},
	}
}
