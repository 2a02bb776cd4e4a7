package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"yunbox.local/daemon/problem"
)

// Scour makes every file of the database forget what is no longer in it: when it
// returns nil, nothing that was removed before the call can be found in the database,
// its log, or the journal. SQLite overwrites what it deletes, but copies of rows that
// moved from page to page lie in gaps between rows, and in the log: so the database is
// written anew, in its own transaction, and the log cut off. It takes room for two
// more databases for as long as it runs; writers wait meanwhile.
func (d *DB) Scour(ctx context.Context) error {
	if err := d.Err(); err != nil {
		return err
	}
	if err := d.vacuum(ctx); err != nil {
		return fmt.Errorf("db: scour: %w", translate(err))
	}
	if err := d.truncateLog(ctx); err != nil {
		return err
	}
	return d.Forget(ctx)
}

// vacuum writes the database anew. The connection is the writer's, which has one: it
// waits for the transaction that is running, and the next waits for it. What SQLite
// needs beside is a file without a name in the folder of the database, neither memory
// nor a place for everybody's temporary files.
func (d *DB) vacuum(ctx context.Context) (err error) {
	c, err := d.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	d.rewriting.Store(true)
	defer d.rewriting.Store(false)
	const where = "SQLITE_TMPDIR" // SQLite asks for it each time that it makes such a file
	before, was := os.LookupEnv(where)
	if err := os.Setenv(where, filepath.Dir(d.path)); err != nil {
		return err
	}
	defer func() {
		if was {
			err = errors.Join(err, os.Setenv(where, before))
		} else {
			err = errors.Join(err, os.Unsetenv(where))
		}
	}()
	if _, err := c.ExecContext(ctx, "PRAGMA temp_store=FILE"); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "VACUUM")
	_, back := c.ExecContext(context.WithoutCancel(ctx), "PRAGMA temp_store=MEMORY")
	return errors.Join(err, back)
}

// truncateLog folds the log into the database and cuts it to nothing.
func (d *DB) truncateLog(ctx context.Context) error {
	var busy, pages, folded int
	for range 3 { // a reader that is in the middle of something keeps it for ten seconds
		if err := d.check.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &folded); err != nil {
			return fmt.Errorf("db: scour: %w", translate(err))
		}
		if busy == 0 {
			return nil
		}
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "db.scour", Title: "The records are being read",
		Detail: "Their log could not be cut off.", Hint: "It is tried again by itself."}
}
