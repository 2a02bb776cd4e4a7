package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// The schema folder says what is: it runs at every start and changes nothing
// where nothing is missing. The migrations folder only moves older files there;
// NNNN-what.sql brings a database to user_version NNNN.
//
//go:embed schema/*.sql all:migrations
var sqlFiles embed.FS

const (
	// applicationID marks the file as ours ("YBOX").
	applicationID = 0x59424f58
	// firstVersion is the version that the schema folder began with.
	firstVersion = 1
)

// prepare asserts durability, migrates what is older and applies the schema.
func (d *DB) prepare(ctx context.Context, fresh bool, backupDir string) error {
	if err := d.assertDurable(ctx); err != nil {
		return err
	}
	migrations, newest, err := readMigrations(d.files)
	if err != nil {
		return err
	}
	if fresh {
		return d.apply(ctx, nil, newest)
	}
	var app, version int
	if err := d.write.QueryRowContext(ctx, "SELECT * FROM pragma_application_id, pragma_user_version").Scan(&app, &version); err != nil {
		return fmt.Errorf("db: %s: %w", d.path, translate(err))
	}
	switch {
	case app == 0 && version == 0 && d.empty(ctx):
		// A cut came between the file's creation and its first transaction.
		return d.apply(ctx, nil, newest)
	case app != applicationID:
		return fmt.Errorf("db: %s is not a database of yunbox (application id %#x)", d.path, app)
	case version > newest:
		return fmt.Errorf("db: %s was written by a newer yunbox (version %d, this one knows %d): install that version again, or restore the copy in %s", d.path, version, newest, backupDir)
	case version == newest:
		return d.apply(ctx, nil, newest)
	}
	if err := d.backupBefore(ctx, backupDir, version); err != nil {
		return err
	}
	return d.apply(ctx, migrations[version-firstVersion:], newest)
}

// assertDurable asks the writer's connection for what makes commits durable.
func (d *DB) assertDurable(ctx context.Context) error {
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1"} {
		var got string
		if err := d.write.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
			return fmt.Errorf("db: %s: %w", d.path, translate(err))
		}
		if got != want {
			return fmt.Errorf("db: %s: PRAGMA %s is %s where %s is needed: commits would not be durable", d.path, pragma, got, want)
		}
	}
	return nil
}

// assertWritable asks for a change without making one. SQLite opens a file that it
// could not open for writing, if only this once, for reading.
func (d *DB) assertWritable(ctx context.Context) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err == nil {
		_, err = tx.ExecContext(ctx, "PRAGMA incremental_vacuum(1)") // of a kind of file that this is not
		err = errors.Join(err, tx.Rollback())
	}
	if err != nil {
		return fmt.Errorf("db: %s: %w", d.path, translate(err))
	}
	return nil
}

func (d *DB) empty(ctx context.Context) bool {
	var n int
	return d.write.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n) == nil && n == 0
}

// readMigrations returns the migrations after firstVersion in order, and the
// version that the last one leads to.
func readMigrations(files fs.FS) (list []string, newest int, err error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, 0, err
	}
	newest = firstVersion
	for _, name := range names {
		n, err := strconv.Atoi(strings.SplitN(path.Base(name), "-", 2)[0])
		if err != nil || n != newest+1 {
			return nil, 0, fmt.Errorf("db: migration %s does not follow version %d", name, newest)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, 0, err
		}
		list, newest = append(list, string(text)), n
	}
	return list, newest, nil
}

func (d *DB) backupBefore(ctx context.Context, dir string, version int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("db: backup: %w", err)
	}
	name := fmt.Sprintf("box-v%d-%s.db", version, d.now().UTC().Format("20060102T150405.000Z"))
	d.log.Info("copying the database before it is migrated", "to", name)
	return backup(ctx, d.write, filepath.Join(dir, name))
}

// apply runs migrations and the schema in one transaction: either all of it
// holds afterwards or nothing changed.
func (d *DB) apply(ctx context.Context, migrations []string, version int) error {
	if len(migrations) > 0 {
		// Tables are rebuilt in migrations; their references hold again at the end.
		if _, err := d.write.ExecContext(ctx, "PRAGMA foreign_keys=0"); err != nil {
			return fmt.Errorf("db: %w", err)
		}
		defer d.write.Exec("PRAGMA foreign_keys=1")
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("db: %w", translate(err))
	}
	defer tx.Rollback()
	for _, m := range migrations {
		if _, err := tx.ExecContext(ctx, m); err != nil {
			return fmt.Errorf("db: migrating %s: %w; the file is unchanged", d.path, translate(err))
		}
	}
	names, err := fs.Glob(d.files, "schema/*.sql")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(d.files, name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("db: %s: %w", name, translate(err))
		}
	}
	if len(migrations) > 0 {
		if err := foreignKeys(ctx, tx); err != nil {
			return err
		}
	}
	var app, at int
	if err := tx.QueryRowContext(ctx, "SELECT * FROM pragma_application_id, pragma_user_version").Scan(&app, &at); err != nil {
		return fmt.Errorf("db: %w", translate(err))
	}
	if app != applicationID || at != version {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d", applicationID, version)); err != nil {
			return fmt.Errorf("db: %w", translate(err))
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("db: %w", translate(err))
	}
	return nil
}

func foreignKeys(ctx context.Context, tx *sql.Tx) error {
	var table, parent string
	var row int64
	err := tx.QueryRowContext(ctx, `SELECT "table", coalesce(rowid, 0), parent FROM pragma_foreign_key_check LIMIT 1`).Scan(&table, &row, &parent)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("db: %w", translate(err))
	}
	return fmt.Errorf("db: after the migration row %d of %s points to nothing in %s; the file is unchanged", row, table, parent)
}
