package catalog

import (
	"context"
	"crypto/sha256"
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

	listDeletedSHA1 = fmt.Sprintf(`SELECT key, ref, since, trashed FROM (
  SELECT r.key AS key, b.ref AS ref, `+deletedAt+` AS since, `+inTrash+` AS trashed FROM json_each(?1) r CROSS JOIN blob b ON b.sha1 = unhex(r.value) WHERE `+notLive+`
  UNION ALL `, "b.ref") + fmt.Sprintf(`
  SELECT r.key, d.ref, `+deletedAt+`, 0 FROM json_each(?1) r CROSS JOIN tombstone_sha1 d ON d.user = +?2 AND d.sha1 = unhex(r.value) WHERE `+notLive+`
) WHERE since > ?3`, "d.ref")

	deletedSince = fmt.Sprintf(`SELECT p.decline_days, `+deletedAt+` FROM user p WHERE p.id = +?2 AND p.decline_days > 0 AND `+notLive, "+?1")
)

const inTrash = `EXISTS (SELECT 1 FROM item i WHERE i.ref = %[1]s AND i.user = +?2 AND i.trashed IS NOT NULL)`

const declineDays = `SELECT decline_days FROM user WHERE id = +?`

// forgotten is the time of which, and before which, deletions do not count any more.
func forgotten(tx *db.Tx, days int) int64 { return tx.Sure.AddDate(0, 0, -days).UnixMilli() }

// empty is the content without bytes. That it was deleted says nothing: programs
// make such files before they write them.
var empty = storage.Ref(sha256.Sum256(nil))

// Deletion is a content that a person deleted.
type Deletion struct {
	Ref  storage.Ref
	Time time.Time // when it went into the trash, or out of it for good
	// Trashed: it can be restored from the trash. Only DeletedSHA1In says so.
	Trashed bool
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
			if refs[i] == empty {
				continue
			}
			list = append(list, Deletion{Ref: refs[i], Time: time.UnixMilli(when).UTC()})
		}
		return rows.Err()
	})
	return list, err
}

// DeletedSHA1In returns for each of sums, in their order, what Deleted says of the
// content of that SHA-1; a zero Time: nothing. Contents that were deleted by an older
// version of the box are known by their SHA-1 after NoteSHA1 only. Limits are those
// of Known.
func (c *Catalog) DeletedSHA1In(tx *db.Tx, u ident.UserID, sums []storage.SHA1) ([]Deletion, error) {
	if len(sums) > MaxKnown {
		return nil, tooManyAsked(len(sums))
	}
	list := make([]Deletion, len(sums))
	if len(sums) == 0 {
		return list, nil
	}
	var days int
	if err := tx.QueryRow(declineDays, int64(u)).Scan(&days); errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("catalog.deleted", "person")
	} else if err != nil || days == 0 {
		return list, err
	}
	rows, err := tx.Query(listDeletedSHA1, hexArray(len(sums), func(i int) []byte { return sums[i][:] }), int64(u), forgotten(tx, days))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var i int
		var ref []byte
		var when int64
		var trashed bool
		if err := rows.Scan(&i, &ref, &when, &trashed); err != nil {
			return nil, err
		}
		if storage.Ref(ref) == empty || list[i].Trashed && !trashed {
			continue // it was deleted for good before, and came again
		}
		list[i] = Deletion{Ref: storage.Ref(ref), Time: time.UnixMilli(when).UTC(), Trashed: trashed}
	}
	return list, rows.Err()
}

const (
	noteSHA1OfBlob = `INSERT OR IGNORE INTO tombstone_sha1 (user, sha1, ref) SELECT ?1, sha1, ref FROM blob WHERE ref = ?2`
	noteSHA1       = `INSERT OR IGNORE INTO tombstone_sha1 (user, sha1, ref) SELECT user, ?3, ref FROM tombstone WHERE user = +?1 AND ref = +?2`
)

// NoteSHA1 notes the SHA-1 of a content that u deleted for good, if u did.
func (c *Catalog) NoteSHA1(tx *db.Tx, u ident.UserID, ref storage.Ref, sum storage.SHA1) error {
	_, err := tx.Exec(noteSHA1, int64(u), ref[:], sum[:])
	return err
}

const (
	newestInTrash = `SELECT coalesce((SELECT id FROM item WHERE ref = +?1 AND user = +?2 AND trashed IS NOT NULL ORDER BY trashed DESC LIMIT 1),
  (SELECT item FROM version WHERE ref = +?1 AND user = +?2 AND trashed IS NOT NULL ORDER BY trashed DESC LIMIT 1), 0)`
	dropTombstone  = `DELETE FROM tombstone WHERE user = +? AND ref = +?`
	dropTombstone1 = `DELETE FROM tombstone_sha1 WHERE user = +? AND ref = +?`
)

// Want takes back that u deleted ref. From the trash it is restored, and its item
// returned (of ID zero: it was not there); what was deleted for good is taken again when a
// device offers it. It returns false if u did not delete ref, or has it.
func (c *Catalog) Want(ctx context.Context, u ident.UserID, ref storage.Ref) (it Item, wanted bool, err error) {
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		it, wanted = Item{}, false
		h, err := held(tx, u, ref)
		if err != nil || h.live {
			return err
		}
		var id int64
		if err := tx.QueryRow(newestInTrash, ref[:], int64(u)).Scan(&id); err != nil {
			return err
		}
		if id != 0 {
			if it, err = c.restore(tx, u, ident.ItemID(id)); err != nil {
				return err
			}
			wanted = true
		}
		res, err := tx.Exec(dropTombstone, int64(u), ref[:])
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil || n == 0 {
			return err
		}
		wanted = true
		_, err = tx.Exec(dropTombstone1, int64(u), ref[:])
		return err
	})
	return it, wanted, err
}

// MayComeBack fails with problem.Deleted if a backup may not bring u the content
// ref: see Deleted.
func (c *Catalog) MayComeBack(tx *db.Tx, u ident.UserID, ref storage.Ref) error {
	var days int
	var when int64
	switch err := tx.QueryRow(deletedSince, ref[:], int64(u)).Scan(&days, &when); {
	case errors.Is(err, sql.ErrNoRows), err == nil && (ref == empty || when <= forgotten(tx, days)):
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
