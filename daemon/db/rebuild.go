package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"

	"yunbox.local/daemon/problem"
)

// Rebuilt says what Rebuild made.
type Rebuilt struct {
	// Number and Time are of the last transaction that is in it. Time is zero where
	// none came after the generation that it began with.
	Number int64
	Time   time.Time
	// Generation is the file that it began with, "" for an empty database.
	Generation string
	// Replayed is how many transactions of the log followed.
	Replayed int64
	// Differences is how many statements did otherwise than when they ran first: 0,
	// unless the database was damaged before anybody noticed.
	Differences int64
	// Damaged lists what is damaged in the journal itself and was got around.
	Damaged []string
	// Lost says what the journal does not know any more, "" if it knows all. What
	// was deleted or withdrawn in that time may be in the new database.
	Lost string
}

// RebuildOptions of Rebuild.
type RebuildOptions struct {
	// Journal is the folder to read.
	Journal string
	// Path is where the new database is written. What is there is replaced.
	Path string
	// Progress is called now and then with the transactions of the log that were
	// run again and those that there may be; nil: not.
	Progress func(done, total int64)
	Log      *slog.Logger
	Now      func() time.Time

	until int64 // the last transaction that counts; 0: the last that there is
}

// Rebuild makes a database from a journal, as it was after the last transaction
// that the journal knows. It only reads the journal. The new database is checked and
// on stable storage when Rebuild returns nil; the caller still has to look at
// Rebuilt.Lost. It fails with problem.Damaged where the journal gives nothing.
func Rebuild(ctx context.Context, opt RebuildOptions) (Rebuilt, error) {
	b := &rebuilder{RebuildOptions: opt}
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	if b.Now == nil {
		b.Now = time.Now
	}
	defer trim()
	err := again(func() error {
		b.Rebuilt = Rebuilt{}
		err := b.rebuild(ctx)
		if err != nil {
			b.remove()
		}
		return err
	})
	return b.Rebuilt, err
}

type rebuilder struct {
	RebuildOptions
	Rebuilt

	pool   *sql.DB
	at     point
	schema schemaHash
	total  int64
}

func (b *rebuilder) remove() error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(b.Path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b *rebuilder) rebuild(ctx context.Context) error {
	list, err := segments(b.Journal)
	if err != nil {
		return fmt.Errorf("db: rebuild: %w", err)
	}
	if err := b.base(ctx, list); err != nil {
		return err
	}
	dsn := "file:" + uriPath(b.Path) + "?_journal_mode=MEMORY&_synchronous=OFF&_foreign_keys=1&_secure_delete=1&_stmt_cache_size=128&_cache_size=-2048"
	b.pool = sql.OpenDB(connector{dsn: dsn, driver: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		_, err := c.Exec("PRAGMA temp_store=MEMORY", nil)
		return err
	}}})
	b.pool.SetMaxOpenConns(1)
	err = b.replay(ctx, list)
	if err := errors.Join(err, b.pool.Close()); err != nil {
		return fmt.Errorf("db: rebuild: %w", translate(err))
	}
	return b.finish(ctx)
}

// base puts the newest sound generation in place, or an empty database where the
// log begins with the first transaction.
func (b *rebuilder) base(ctx context.Context, list []int64) error {
	gens, err := generations(b.Journal)
	if err != nil {
		return fmt.Errorf("db: rebuild: %w", err)
	}
	var unsure []generation
	for i := len(gens) - 1; i >= 0; i-- {
		g := gens[i]
		err := g.read(b.Journal)
		if err == nil {
			err = b.take(ctx, g, true)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if problem.KindOf(translate(err)) == problem.Full || isFull(err) {
			return fmt.Errorf("db: rebuild: %w", err)
		}
		b.Damaged = append(b.Damaged, fmt.Sprintf("%s: %v", g.name(), err))
		unsure = append(unsure, g)
	}
	if len(list) > 0 && list[0] == 1 {
		ok, err := b.fromNothing(ctx)
		if ok || err != nil {
			return err
		}
	}
	for _, g := range unsure {
		if b.take(ctx, g, false) == nil {
			b.Lost = fmt.Sprintf("The copies of the catalogue in the journal are damaged. %s was used all the same; some of what it says may be wrong.", g.name())
			return nil
		}
	}
	return &problem.Error{Kind: problem.Damaged, Op: "db.rebuild",
		Title:  "The journal cannot bring the catalogue back",
		Detail: "It has no copy of the catalogue that can be read.",
		Hint:   "Name the journal of a second copy with --from DIR.",
		Err:    fmt.Errorf("%d generations, %d segments in %s: %v", len(gens), len(list), b.Journal, b.Damaged)}
}

func isFull(err error) bool { return err != nil && unlessFull(err) == nil }

// take copies a generation to its place and checks it.
func (b *rebuilder) take(ctx context.Context, g generation, labelled bool) error {
	if err := b.remove(); err != nil {
		return err
	}
	from, err := os.Open(filepath.Join(b.Journal, g.name()))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(b.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, &readerUntil{ctx, from}); err != nil {
		return err
	}
	if labelled { // what was written is what is compared
		if _, err := to.Seek(0, io.SeekStart); err != nil {
			return err
		}
		sum, n, err := hashOf(ctx, to)
		if err != nil {
			return err
		}
		if n != g.size || sum != g.sum {
			return errors.New("it is not what was written")
		}
	}
	p, s, err := inspect(ctx, b.Path)
	if err != nil {
		return err
	}
	if p.number != g.number || labelled && p.mark != g.mark {
		return errors.New("it is another one")
	}
	b.at, b.schema, b.Number, b.Generation = p, s, p.number, g.name()
	return nil
}

// fromNothing makes an empty database, which is what there was before the first
// transaction if the log was begun with this schema.
func (b *rebuilder) fromNothing(ctx context.Context) (ok bool, err error) {
	r, err := openSegment(b.Journal, 1)
	if errors.Is(err, errSegment) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer r.Close()
	if err := errors.Join(b.remove(), private0600(b.Path)); err != nil {
		return false, err
	}
	pool := open(b.Path, 1, "")
	d := &DB{path: b.Path, files: sqlFiles, log: b.Log, now: b.Now, write: pool}
	err = d.prepare(ctx, true, "")
	if err == nil {
		b.schema, err = schemaOf(ctx, pool)
	}
	if err := errors.Join(err, pool.Close()); err != nil {
		return false, err
	}
	b.at = point{}
	return b.schema == r.schema, nil
}

// replay runs the transactions after the base again.
func (b *rebuilder) replay(ctx context.Context, list []int64) error {
	if len(list) > 0 {
		b.total = b.newest(list) - b.at.number
	}
	for i, first := range list {
		if i+1 < len(list) && list[i+1] <= b.at.number+1 {
			continue
		}
		if b.reached(first) {
			return nil
		}
		more, err := b.segment(ctx, first, i+1 == len(list))
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// reached reports whether the transaction of that number is not wanted any more.
func (b *rebuilder) reached(number int64) bool { return b.until > 0 && number > b.until }

// newest guesses the number of the last transaction, for the progress.
func (b *rebuilder) newest(list []int64) int64 {
	r, err := openSegment(b.Journal, list[len(list)-1])
	if err != nil {
		return list[len(list)-1]
	}
	defer r.Close()
	for err == nil {
		_, err = r.next()
	}
	return r.last.number
}

// lose says that the log leads no further. What was not known before stays said.
func (b *rebuilder) lose(format string, args ...any) {
	b.Lost = fmt.Sprintf(format, args...)
}

func (b *rebuilder) segment(ctx context.Context, first int64, last bool) (more bool, err error) {
	r, err := openSegment(b.Journal, first)
	if errors.Is(err, errSegment) {
		b.lose("The log is damaged after transaction %d.", b.at.number)
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer r.Close()
	if first > b.at.number+1 {
		b.lose("The log lacks the transactions %d to %d, of before %s.", b.at.number+1, first-1, r.at.UTC().Format(time.RFC3339))
		return false, nil
	}
	if r.after.number == b.at.number && r.after.mark != b.at.mark {
		b.lose("The log after transaction %d is of another catalogue.", b.at.number)
		return false, nil
	}
	ok, err := b.records(ctx, r)
	if err != nil || !ok {
		return false, err
	}
	for i, suffix := range []string{"", copySuffix} {
		// The copy of the last one may be behind, and has no end of its own.
		if r.bad[i] && !last {
			b.Damaged = append(b.Damaged, segmentName(first)+suffix)
		}
	}
	rest, torn := r.rest()
	if b.reached(b.at.number + 1) {
		return false, nil
	}
	if last && rest > 0 && !torn {
		b.lose("The end of the log is damaged: %d bytes after transaction %d cannot be read.", rest, b.at.number)
		return false, nil
	}
	return true, nil
}

// replayBatch is how many transactions share one commit: what they change is kept in memory
// until then, as it was before.
const replayBatch = 16

// records runs the records of a segment after b.at.
func (b *rebuilder) records(ctx context.Context, r *segmentReader) (ok bool, err error) {
	var known []string
	var tx *sql.Tx
	defer func() {
		if tx != nil {
			tx.Rollback()
		}
	}()
	end := func() error {
		if tx == nil {
			return nil
		}
		_, err := tx.ExecContext(ctx, "UPDATE journal SET number = ?, mark = ? WHERE one = 1", b.at.number, b.at.mark)
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			return err
		}
		tx = nil
		if b.Progress != nil {
			b.Progress(b.Replayed, max(b.total, b.Replayed))
		}
		return nil
	}
	for n := 0; ; {
		rec, err := r.next()
		if errors.Is(err, io.EOF) {
			return true, end()
		} else if err != nil {
			return false, err
		}
		if b.reached(rec.number) {
			return true, end()
		}
		do := func(change) error { return nil }
		if rec.number > b.at.number {
			if tx == nil {
				if r.schema != b.schema {
					if err := b.upgrade(ctx, r.schema); err != nil {
						return false, err
					}
				}
				if tx, err = b.pool.BeginTx(ctx, nil); err != nil {
					return false, err
				}
			}
			do = func(c change) error { return b.again(ctx, tx, c) }
		} else if rec.number == b.at.number && rec.mark != b.at.mark {
			b.lose("The log of transaction %d is of another catalogue.", b.at.number)
			return false, nil
		}
		err = parseBody(rec.body, &known, do)
		if errors.Is(err, errBody) {
			b.lose("The log is damaged at transaction %d.", rec.number)
			return false, end()
		} else if err != nil {
			return false, err
		}
		if rec.number > b.at.number {
			b.at, b.Number, b.Time = rec.point, rec.number, rec.at
			b.Replayed++
			if n++; n%replayBatch == 0 {
				if err := end(); err != nil {
					return false, err
				}
			}
		}
	}
}

// again runs a statement again, as it ran first.
func (b *rebuilder) again(ctx context.Context, tx *sql.Tx, c change) error {
	var constraint sqlite3.Error
	if c.rows == unknownRows {
		rows, err := tx.QueryContext(ctx, c.query, c.args...)
		if err == nil {
			for rows.Next() {
			}
			err = errors.Join(rows.Err(), rows.Close())
		}
		if errors.As(err, &constraint) && constraint.Code == sqlite3.ErrConstraint {
			return nil // as it did then
		}
		return err
	}
	res, err := tx.ExecContext(ctx, c.query, c.args...)
	if errors.As(err, &constraint) && (constraint.Code == sqlite3.ErrConstraint || constraint.Code == sqlite3.ErrError) {
		b.Differences++
		return nil
	} else if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != c.rows {
		b.Differences++
	}
	return nil
}

// upgrade brings the database to the schema of this program, where the log was
// written by a newer one than the generation.
func (b *rebuilder) upgrade(ctx context.Context, want schemaHash) error {
	migrations, newest, err := readMigrations(sqlFiles)
	if err != nil {
		return err
	}
	var version int
	if err := b.pool.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > newest {
		return fmt.Errorf("db: the journal was written by a newer yunbox (version %d, this one knows %d)", version, newest)
	}
	d := &DB{path: b.Path, files: sqlFiles, log: b.Log, now: b.Now, write: b.pool}
	if err := d.apply(ctx, migrations[version-firstVersion:], newest); err != nil {
		return err
	}
	if b.schema, err = schemaOf(ctx, b.pool); err != nil {
		return err
	}
	if b.schema != want {
		// A version between them, whose statements this schema still understands or
		// which are counted as differences.
		b.Log.Warn("a part of the journal was written by another version of yunbox")
		b.schema = want
	}
	return nil
}

// finish checks the new database as a whole and makes it durable.
func (b *rebuilder) finish(ctx context.Context) error {
	p, _, err := inspect(ctx, b.Path)
	if err != nil {
		return fmt.Errorf("db: rebuild: %w", err)
	}
	if p != b.at {
		return fmt.Errorf("db: rebuild: the new database is at transaction %d, not %d", p.number, b.at.number)
	}
	c, err := sql.Open("sqlite3", "file:"+uriPath(b.Path)+"?mode=ro&immutable=1")
	if err != nil {
		return fmt.Errorf("db: rebuild: %w", err)
	}
	defer c.Close()
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("db: rebuild: %w", translate(err))
	}
	defer tx.Rollback()
	if err := foreignKeys(ctx, tx); isDamage(err) || isDiskError(err) {
		return fmt.Errorf("db: rebuild: %w", translate(err))
	} else if err != nil {
		b.Differences++
		b.Log.Error("the new database has a row that points to nothing", "err", err)
	}
	f, err := os.OpenFile(b.Path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("db: rebuild: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("db: rebuild: %w", err)
	}
	return syncDir(filepath.Dir(b.Path))
}
