package db

import (
	"context"
	"errors"
)

var errUndone = errors.New("undone on purpose")

// Try asks the writer for a change and undoes it. nil says that the writer takes calls,
// gets SQLite's lock and can change a row. Nothing is written to the disk: SQLite keeps
// the pages of a transaction in memory until its commit. While Scour writes the database anew, for as long as
// that takes, it returns nil at once.
//
// It returns when the writer does, whatever becomes of ctx after it began.
func (d *DB) Try(ctx context.Context) error {
	if d.rewriting.Load() {
		return nil
	}
	err := d.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec("UPDATE box SET value = value WHERE key = 'volume'"); err != nil {
			return err
		}
		return errUndone
	})
	if errors.Is(err, errUndone) {
		return nil
	}
	return err
}
