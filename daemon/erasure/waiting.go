package erasure

import (
	"context"

	"yunbox.local/daemon/db"
)

// Waiting returns how much is being erased: categories that people asked for, and
// accounts on their way out, those in their days of cooling off included.
func (r *Room) Waiting(ctx context.Context) (categories, accounts int, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM erasure WHERE gone IS NULL`).Scan(&categories)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	return categories, len(r.leaving), err
}
