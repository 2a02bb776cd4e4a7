package db

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// ReadCopy runs fn on a file that Backup wrote, as it is: nothing is migrated and
// nothing beside the file is read or written.
func ReadCopy(ctx context.Context, path string, fn func(*Tx) error) error {
	c, err := sql.Open("sqlite3", "file:"+uriPath(path)+"?mode=ro&immutable=1&_query_only=1&_cache_size=-1024")
	if err != nil {
		return fmt.Errorf("db: copy: %w", err)
	}
	defer c.Close()
	tx, err := c.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("db: copy: %w", translate(err))
	}
	defer tx.Rollback()
	return translate(fn(&Tx{tx: tx, Now: time.Now(), reading: true}))
}
