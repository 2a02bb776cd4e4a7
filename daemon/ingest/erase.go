package ingest

import (
	"context"
	"encoding/json"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Uploads live for a week: looking through them is cheaper than an index that each pays.
const uploadsUnder = `SELECT id FROM upload WHERE user = +?1 AND (?2 OR source IN (SELECT value FROM json_each(?3))) LIMIT +?4`

// Erase ends all uploads of u with one of the sources (nil: with any), and removes what
// has arrived of them and the memory of finished ones. It returns how many those were.
func (in *Ingest) Erase(ctx context.Context, u ident.UserID, sources []string) (n int, err error) {
	list, err := json.Marshal(sources)
	if err != nil {
		return 0, err
	}
	for {
		ids, err := in.ids(ctx, uploadsUnder, int64(u), sources == nil, string(list), expireBatch)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		some, err := in.dropAll(ctx, ids)
		if n += some; err != nil {
			return n, err
		}
	}
}

// HasIn reports whether bytes of an unfinished upload of u with one of the sources (nil:
// with any) are there.
func (in *Ingest) HasIn(tx *db.Tx, u ident.UserID, sources []string) (has bool, err error) {
	list, err := json.Marshal(sources)
	if err != nil {
		return false, err
	}
	err = tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM upload WHERE user = +?1 AND item IS NULL AND (?2 OR source IN (SELECT value FROM json_each(?3))))`,
		int64(u), sources == nil, string(list)).Scan(&has)
	return has, err
}
