package catalog

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Kind says what a Change did.
type Kind string

// The kinds of changes. Folders that are made, moved or removed have no item.
const (
	KindAdded    Kind = "added"
	KindReplaced Kind = "replaced"
	KindMoved    Kind = "moved"
	KindTrashed  Kind = "trashed"
	KindRestored Kind = "restored"
	KindPurged   Kind = "purged"
	KindFolder   Kind = "folder"
	KindDated    Kind = "dated" // its modification time was corrected
)

// Change is an entry of a person's change feed.
type Change struct {
	Seq  int64 // of this person, rising by one from 1
	Kind Kind
	Item ident.ItemID
	Path string // where the item is now (or was, in the trash); "" if it is gone
	Time time.Time
}

const listChanges = `SELECT c.seq, c.kind, c.item, c.time, coalesce(f.path, i.origin), i.name
FROM change c LEFT JOIN item i ON i.id = c.item LEFT JOIN folder f ON f.id = i.folder
WHERE c.user = +? AND c.seq > ? ORDER BY c.seq LIMIT +?`

// Since returns the changes of u after seq, oldest first: at most limit of them,
// and never more than MaxLimit.
func (c *Catalog) Since(ctx context.Context, u ident.UserID, seq int64, limit int) (list []Change, err error) {
	if limit <= 0 || limit > MaxLimit {
		limit = MaxLimit
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, listChanges, int64(u), seq, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var ch Change
			var when int64
			var folder, name sql.NullString
			if err := rows.Scan(&ch.Seq, &ch.Kind, &ch.Item, &when, &folder, &name); err != nil {
				return err
			}
			ch.Time = time.UnixMilli(when).UTC()
			if name.Valid {
				ch.Path = join(folder.String, name.String)
			}
			list = append(list, ch)
		}
		return rows.Err()
	})
	return list, err
}

// Seq returns the newest change of u, 0 if there was none: where a listener
// begins who wants to hear only what comes.
func (c *Catalog) Seq(ctx context.Context, u ident.UserID) (int64, error) {
	g, err := c.Usage(ctx, u)
	return g.Seq, err
}

// Changed returns a channel that is closed at the next change of u. Ask for the
// channel first, then for the changes Since, then wait: nothing is missed.
func (c *Catalog) Changed(u ident.UserID) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.changed[u]
	if ch == nil {
		ch = make(chan struct{})
		c.changed[u] = ch
	}
	return ch
}

func (c *Catalog) announce(u ident.UserID) {
	select {
	case c.stirred <- struct{}{}:
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.changed[u]; ch != nil {
		close(ch)
		delete(c.changed, u)
	}
}
