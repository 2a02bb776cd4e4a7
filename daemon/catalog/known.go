package catalog

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// MaxKnown is the most contents that one call of Known answers for.
const MaxKnown = 5000

// One query for all: the array is parsed once, and each element costs at most
// three look-ups in indices that hold all they need.
const listKnown = `SELECT r.key FROM json_each(?1) r
WHERE (EXISTS (SELECT 1 FROM item i WHERE i.ref = unhex(r.value) AND i.user = +?2 AND i.trashed IS NULL)
    OR EXISTS (SELECT 1 FROM version v WHERE v.ref = unhex(r.value) AND v.user = +?2 AND v.trashed IS NULL))
  AND NOT EXISTS (SELECT 1 FROM blob b INDEXED BY blob_doubted WHERE b.ref = unhex(r.value) AND b.doubted IS NOT NULL)`

// Known returns those of refs, in their order, that u need not send because u
// keeps them already: as the content of a live item or of one of its versions,
// and without doubt about the stored bytes. It never speaks of the trash (which
// may be emptied tomorrow, when the phone has forgotten its copy) nor of other
// people's contents. More than MaxKnown refs are problem.TooLarge.
func (c *Catalog) Known(ctx context.Context, u ident.UserID, refs []storage.Ref) ([]storage.Ref, error) {
	return c.among(ctx, listKnown, u, refs)
}

// among returns those of refs whose place in the array the query names.
func (c *Catalog) among(ctx context.Context, query string, u ident.UserID, refs []storage.Ref) (some []storage.Ref, err error) {
	question, err := asArray(refs)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query, question, int64(u))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i int
			if err := rows.Scan(&i); err != nil {
				return err
			}
			some = append(some, refs[i])
		}
		return rows.Err()
	})
	return some, err
}

// asArray returns refs as a JSON array. More than MaxKnown are problem.TooLarge.
func asArray(refs []storage.Ref) (string, error) {
	if len(refs) > MaxKnown {
		return "", tooManyAsked(len(refs))
	}
	return hexArray(len(refs), func(i int) []byte { return refs[i][:] }), nil
}

// hexArray returns n hashes as a JSON array of their hex digits.
func hexArray(n int, hash func(i int) []byte) string {
	list := append(make([]byte, 0, n*67+2), '[')
	for i := range n {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(hex.AppendEncode(append(list, '"'), hash(i)), '"')
	}
	return string(append(list, ']'))
}

func tooManyAsked(n int) error {
	return &problem.Error{
		Kind: problem.TooLarge, Op: "catalog.known",
		Detail: fmt.Sprintf("%d contents were asked for, %d at a time are answered.", n, MaxKnown),
		Hint:   "Ask in several requests.",
	}
}

const liveByRef = `SELECT EXISTS (SELECT 1 FROM item WHERE ref = +?1) OR EXISTS (SELECT 1 FROM version WHERE ref = +?1)`

// Live reports whether anybody keeps ref, the trash included. It is what the
// sweep of storage asks before it removes a file.
func (c *Catalog) Live(ctx context.Context, ref storage.Ref) (live bool, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(liveByRef, ref[:]).Scan(&live)
	})
	return live, err
}

const listDead = `SELECT ref FROM blob WHERE dead IS NOT NULL ORDER BY dead LIMIT +?`

// Dead returns up to limit contents that lost their last row, longest ago first.
// Their files may be removed once Live says no under the lock of storage.
func (c *Catalog) Dead(ctx context.Context, limit int) (refs []storage.Ref, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, listDead, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b []byte
			if err := rows.Scan(&b); err != nil {
				return err
			}
			refs = append(refs, storage.Ref(b))
		}
		return rows.Err()
	})
	return refs, err
}

// Died returns a channel that yields after contents lost their last row. It has
// one reader, who asks Dead then.
func (c *Catalog) Died() <-chan struct{} { return c.died }

func (c *Catalog) announceDeath() {
	select {
	case c.died <- struct{}{}:
	default: // the reader will find them all
	}
}

// Forget drops the records of dead contents whose files are gone. One that came
// back to life meanwhile stays.
func (c *Catalog) Forget(ctx context.Context, refs []storage.Ref) error {
	return c.db.Write(ctx, func(tx *db.Tx) error {
		for _, ref := range refs {
			res, err := tx.Exec(`DELETE FROM blob WHERE ref = +? AND dead IS NOT NULL`, ref[:])
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err == nil && n > 0 {
				err = c.endDamage(tx, ref, EndGone, "")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Blob is a content on the disk that somebody keeps.
type Blob struct {
	Ref     storage.Ref
	Size    int64
	Doubted bool // its bytes were found damaged or missing
}

const listBlobs = `SELECT ref, size, doubted IS NOT NULL FROM blob WHERE ref > ? AND dead IS NULL ORDER BY ref LIMIT +?`

// Blobs returns up to limit (MaxLimit at most) contents that somebody keeps,
// after the given one in the order of their refs. The zero Ref begins.
func (c *Catalog) Blobs(ctx context.Context, after storage.Ref, limit int) (list []Blob, err error) {
	if limit <= 0 || limit > MaxLimit {
		limit = MaxLimit
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		list, err = scanBlobs(tx.QueryContext(ctx, listBlobs, after[:], limit))
		return err
	})
	return list, err
}

func scanBlobs(rows *sql.Rows, err error) (list []Blob, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b Blob
		var ref []byte
		if err := rows.Scan(&ref, &b.Size, &b.Doubted); err != nil {
			return nil, err
		}
		b.Ref = storage.Ref(ref)
		list = append(list, b)
	}
	return list, rows.Err()
}
