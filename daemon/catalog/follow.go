package catalog

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// What follows is for who keeps something in step with the files of all people.

// Stirred holds a token when anybody's files have changed, or stored bytes were made
// sound again, since it was last taken. It is for one listener.
func (c *Catalog) Stirred() <-chan struct{} { return c.stirred }

// Seqs returns the newest change of everybody who keeps or kept something.
func (c *Catalog) Seqs(ctx context.Context) (map[ident.UserID]int64, error) {
	seqs := map[ident.UserID]int64{}
	err := c.each(ctx, func(rows *sql.Rows) error {
		var u ident.UserID
		var seq int64
		err := rows.Scan(&u, &seq)
		seqs[u] = seq
		return err
	}, `SELECT user, seq FROM usage`) // one row per person
	return seqs, err
}

const itemsAfter = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder WHERE i.id > ? ORDER BY i.id LIMIT +?`

// EveryItem returns up to limit (MaxLimit at most) items of all people after the given
// identifier, in the order of identifiers, those in the trash among them.
func (c *Catalog) EveryItem(ctx context.Context, after ident.ItemID, limit int) ([]Item, error) {
	return c.items(ctx, itemsAfter, int64(after), clampLimit(limit))
}

const itemsByID = `SELECT ` + columns + ` FROM json_each(?1) r CROSS JOIN item i ON i.id = r.value LEFT JOIN folder f ON f.id = i.folder`

// ItemsByID returns those of ids, of whatever person, that exist, live or in the trash.
func (c *Catalog) ItemsByID(ctx context.Context, ids []ident.ItemID) ([]Item, error) {
	numbers := make([]int64, len(ids))
	for i, id := range ids {
		numbers[i] = int64(id)
	}
	return c.items(ctx, itemsByID, array(numbers))
}

const liveWithRef = `SELECT ` + columns + ` FROM item i JOIN folder f ON f.id = i.folder WHERE i.ref = +? AND i.trashed IS NULL`

// LiveWith returns the live items of all people whose current content is ref.
func (c *Catalog) LiveWith(ctx context.Context, ref storage.Ref) ([]Item, error) {
	return c.items(ctx, liveWithRef, ref[:])
}

func (c *Catalog) items(ctx context.Context, query string, args ...any) (list []Item, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		list, err = scanItems(tx.QueryContext(ctx, query, args...))
		return err
	})
	return list, err
}

const purgedSince = `SELECT seq, item FROM change WHERE user = +? AND seq > ? AND kind = 'purged' ORDER BY seq LIMIT +?`

// PurgedSince returns up to limit items of u that were deleted for good by the changes
// after seq, and the number of the last of these changes, 0 if there is none.
func (c *Catalog) PurgedSince(ctx context.Context, u ident.UserID, seq int64, limit int) (ids []ident.ItemID, last int64, err error) {
	err = c.each(ctx, func(rows *sql.Rows) error {
		var id ident.ItemID
		err := rows.Scan(&last, &id)
		ids = append(ids, id)
		return err
	}, purgedSince, int64(u), seq, clampLimit(limit))
	return ids, last, err
}

// Heal is a content that got sound bytes again.
type Heal struct {
	Ref  storage.Ref
	Time time.Time
}

// HealedSince returns the contents whose file was replaced by a sound one after t, the
// first of them first.
func (c *Catalog) HealedSince(ctx context.Context, t time.Time) (list []Heal, err error) {
	if !c.everHurt(ctx) {
		return nil, nil
	}
	// The list of damages is short, and nobody asks this of a box that never met one.
	err = c.each(ctx, func(rows *sql.Rows) error {
		var ref []byte
		var ms int64
		if err := rows.Scan(&ref, &ms); err != nil {
			return err
		}
		list = append(list, Heal{storage.Ref(ref), time.UnixMilli(ms).UTC()})
		return nil
	}, `SELECT ref, closed FROM damage WHERE closed > ? AND ending IN ('upload', 'copy') ORDER BY closed, id LIMIT 1000`, t.UnixMilli())
	return list, err
}

// everHurt says whether there is any entry in the list of damages.
func (c *Catalog) everHurt(ctx context.Context) (hurt bool) {
	err := c.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM damage)`).Scan(&hurt)
	})
	return hurt || err != nil
}
