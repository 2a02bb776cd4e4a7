// Package db is the box's one SQLite database: schema, migrations, one writer
// whose callers share a commit, and many readers.
//
// A commit that Write reported is on stable storage: the journal mode is WAL and
// synchronous is FULL, which is asserted at Open because the driver is compiled
// with NORMAL, where a power cut takes committed rows away.
package db

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"

	"yunbox.local/daemon/problem"
)

const (
	// maxGroup bounds the calls that share one commit, and so the time that the
	// first of them waits for the last.
	maxGroup = 64
	// readers is the number of connections that read at the same time; each costs
	// its page cache.
	readers = 4
	// checkpointEvery is how many commits the log may grow before its pages are
	// copied back into the database, beside the writer and not in its way.
	checkpointEvery = 64
)

// Options of Open.
type Options struct {
	// Path of the database file. Its folder must exist.
	Path string
	// BackupDir receives a verified copy before a migration. Made if missing.
	BackupDir string
	// Journal is the folder of what brings the database back when its file is lost:
	// see Rebuild. Made if missing. "": there is none.
	Journal string
	// Cache is how many bytes of pages the writer keeps in memory; each reader keeps a
	// quarter of that. 0: 4 MiB.
	Cache int64
	// Log receives what is worth knowing; nil discards it.
	Log *slog.Logger
	// Now is the clock of transactions; nil is time.Now.
	Now func() time.Time
	// Gone is asked before an error is taken for damage: whether the disk is not there
	// any more, where SQLite finds no pages. nil: it always is.
	Gone func() error
	// Trouble is told of an error by which the disk may show that it is failing or
	// gone. It must not block. nil: nobody.
	Trouble func(error)
	// Sure is the clock of what cannot be undone, and whether Now may well be wrong: see
	// Tx. nil: Now, which is not.
	Sure func() (t time.Time, unsure bool)

	log int64 // bytes that SQLite's log is made with; 0: logSize
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	path      string
	files     fs.FS // schema and migrations
	log       *slog.Logger
	now       func() time.Time
	trouble   func(error)
	gone      func() error
	sure      func() (time.Time, bool)
	write     *sql.DB // one connection, owned by the writer goroutine
	read      *sql.DB
	check     *sql.DB  // one connection, for checkpoints
	journal   *journal // nil: there is none
	ops       ops      // of the running transaction; the writer's
	calls     chan *call
	stopping  context.Context // ends with stop
	stopNow   context.CancelFunc
	stop      chan struct{}
	stopOnce  sync.Once
	done      sync.WaitGroup
	tick      chan struct{}
	failed    atomic.Pointer[error]
	doubted   atomic.Bool // it looked damaged once, and was not
	rewriting atomic.Bool // Scour has the writer's connection
	commits   atomic.Int64
	writes    atomic.Int64
}

// Open opens the database at opt.Path, creating or migrating it as needed. It
// refuses a file of another program, a file of a newer version of yunbox, and a
// database that would not be durable. A database that is missing, damaged or older
// than its journal is refused with problem.Damaged: Rebuild makes it anew.
func Open(ctx context.Context, opt Options) (d *DB, err error) {
	err = again(func() error {
		d, err = openWith(ctx, opt, sqlFiles)
		return err
	})
	return d, err
}

func openWith(ctx context.Context, opt Options, files fs.FS) (*DB, error) {
	d := &DB{
		path: opt.Path, files: files, log: opt.Log, now: opt.Now, sure: opt.Sure, trouble: opt.Trouble, gone: opt.Gone,
		calls: make(chan *call), stop: make(chan struct{}), tick: make(chan struct{}, 1),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.trouble == nil {
		d.trouble = func(error) {}
	}
	if d.sure == nil {
		d.sure = func() (time.Time, bool) { return d.now(), false }
	}
	d.ops.known = statements{}
	d.stopping, d.stopNow = context.WithCancel(context.WithoutCancel(ctx))
	if err := d.openJournal(opt.Journal); err != nil {
		return nil, err
	}
	fresh, err := private(opt.Path)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	ok := false
	defer func() {
		if !ok {
			d.closePools()
		}
	}()
	// The log is checkpointed beside the writer; the writer does it itself only
	// when that could not keep up (8,000 pages, 32 MiB).
	cache := cmp.Or(opt.Cache, 4<<20) >> 10 // SQLite counts KiB if it is negative
	writer := fmt.Sprintf("_txlock=immediate&_cache_size=-%d", cache)
	d.write = open(opt.Path, 1, writer)
	if err := d.compare(ctx); err != nil {
		return nil, err
	}
	if err := d.prepare(ctx, fresh, opt.BackupDir); err != nil {
		return nil, err
	}
	// Closing folds the log in and removes it; see preallocate.
	if err := d.write.Close(); err != nil {
		return nil, fmt.Errorf("db: %s: %w", opt.Path, translate(err))
	}
	if err := preallocate(opt.Path+"-wal", cmp.Or(opt.log, logSize)); err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	d.write = open(opt.Path, 1, writer)
	if err := errors.Join(d.assertDurable(ctx), d.assertWritable(ctx)); err != nil {
		return nil, err
	}
	d.read = open(opt.Path, readers, fmt.Sprintf("_query_only=1&_cache_size=-%d", cache/readers))
	d.check = open(opt.Path, 1, "_cache_size=-256")
	if err := d.beginJournal(ctx); err != nil {
		return nil, err
	}
	// Also of a file that is there: a process killed at its first start may have
	// left a name that is only in memory.
	if err := syncDir(filepath.Dir(opt.Path)); err != nil {
		return nil, err
	}
	d.done.Add(2)
	go d.writer()
	go d.checkpointer()
	if d.journal != nil {
		d.done.Add(1)
		go d.keeper()
	}
	ok = true
	return d, nil
}

// private makes the file if there is none, and lets nobody but the daemon's own
// user read it, whatever the folder and the umask are. SQLite gives its log, which
// holds the same rows, the mode of the database.
func private(path string) (fresh bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return true, f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(name, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// logSize is what the log reaches before it is folded in, and a little more.
const logSize = 6 << 20

// preallocate makes the log as long as it will get. A commit that writes over
// what a file has already costs one flush of the disk; one that makes the file
// longer waits for the journal of the file system, too. SQLite takes a log of
// zeros for an empty one (https://www.sqlite.org/walformat.html#recovery_algorithm).
func preallocate(log string, size int64) error {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another program reads the database: the log stayed
	} else if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 256<<10))
	for n := int64(0); n < size && err == nil; n += int64(len(zeros)) {
		_, err = f.Write(zeros)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		// A short log is as good, only slower; and a full disk must not keep the box from starting.
		return errors.Join(os.Remove(log), unlessFull(err))
	}
	return nil
}

func unlessFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return err
}

// connector opens connections that carry the settings which a data source name
// has no word for, so that a connection made anew has them too.
type connector struct {
	dsn    string
	driver *sqlite3.SQLiteDriver
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.driver }

func open(path string, conns int, more string) *sql.DB {
	pool := sql.OpenDB(connector{
		// mode=rw: where the file is missing, its disk is away, and none is to be made.
		dsn: "file:" + uriPath(path) + "?mode=rw&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1" +
			"&_busy_timeout=10000&_stmt_cache_size=128&_secure_delete=1&" + more,
		driver: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
			// Statement journals of nested savepoints stay in memory: a file for them
			// doubles the cost of a row, and would put people's data into /tmp.
			_, err := c.Exec("PRAGMA wal_autocheckpoint=8000; PRAGMA journal_size_limit=33554432; PRAGMA cell_size_check=1; PRAGMA temp_store=MEMORY", nil)
			return err
		}},
	})
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool
}

func uriPath(p string) string {
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '%', '?', '#':
			out = fmt.Appendf(out, "%%%02X", c)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("db: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("db: sync %s: %w", dir, err)
	}
	return nil
}

// Close waits for the writes that were accepted and closes the database.
func (d *DB) Close() error {
	d.stopOnce.Do(func() { close(d.stop); d.stopNow() })
	d.done.Wait()
	err := d.closePools()
	if d.journal != nil {
		if jerr := d.journal.close(); jerr != nil {
			d.log.Error("the journal of the database could not be made durable", "err", jerr)
		}
	}
	return err
}

func (d *DB) closePools() error {
	var errs []error
	for _, p := range []*sql.DB{d.read, d.check, d.write} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}

// Err returns why writes are refused, nil while they are not. Once a flush has
// failed the kernel may have dropped committed pages, so no later success means
// anything until the database was opened again.
func (d *DB) Err() error {
	if p := d.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Stats counts since Open.
type Stats struct {
	Writes  int64 // calls of Write that were committed
	Commits int64 // transactions that carried them
}

// Stats returns what was written so far.
func (d *DB) Stats() Stats { return Stats{Writes: d.writes.Load(), Commits: d.commits.Load()} }

// timed sets the times of a transaction.
func (d *DB) timed(tx *Tx) *Tx {
	tx.Now = d.now()
	tx.Sure, tx.Unsure = d.sure()
	return tx
}

// Read runs fn on a snapshot of the database. fn must not write (SQLite refuses
// it) and must not keep tx. The end of ctx interrupts fn's statements.
func (d *DB) Read(ctx context.Context, fn func(*Tx) error) error {
	tx, err := d.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return d.judge(err)
	}
	defer tx.Rollback()
	return d.judge(fn(d.timed(&Tx{tx: tx, reading: true})))
}

// Backup writes a compact, verified copy of the database to path, which must not
// exist. The copy is on stable storage when Backup returns nil.
func (d *DB) Backup(ctx context.Context, path string) error { return backup(ctx, d.check, path) }

func backup(ctx context.Context, pool *sql.DB, path string) error {
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("db: backup: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("db: backup: %s exists already", path)
	}
	defer os.Remove(part) // harmless once it is renamed
	err := again(func() error {
		os.Remove(part) // of the first try
		_, err := pool.ExecContext(ctx, "VACUUM INTO ?", part)
		return err
	})
	if err != nil {
		return fmt.Errorf("db: backup: %w", translate(err))
	}
	if err := again(func() error { return quickCheck(ctx, part) }); err != nil {
		return fmt.Errorf("db: backup of %s: %w", path, err)
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("db: backup: %w", err)
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return fmt.Errorf("db: backup: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("db: backup: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("db: backup: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func quickCheck(ctx context.Context, path string) error {
	c, err := sql.Open("sqlite3", "file:"+uriPath(path)+"?mode=ro&immutable=1")
	if err != nil {
		return err
	}
	defer c.Close()
	var answer string
	if err := c.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&answer); err != nil {
		return translate(err)
	}
	if answer != "ok" {
		return fmt.Errorf("the copy is damaged: %w: %s", errCheck, answer)
	}
	return nil
}

// maxProblems bounds what Check returns.
const maxProblems = 100

// Check reads the whole database and returns what is wrong with it, in words for who
// maintains it; nothing: it is sound, and every reference has its target.
func (d *DB) Check(ctx context.Context) (problems []string, err error) {
	if problems, err = d.checkOnce(ctx); len(problems) > 0 {
		return d.checkOnce(ctx) // see again
	}
	return problems, err
}

func (d *DB) checkOnce(ctx context.Context) (problems []string, err error) {
	err = d.Read(ctx, func(tx *Tx) error {
		rows, err := tx.QueryContext(ctx, fmt.Sprintf("PRAGMA integrity_check(%d)", maxProblems))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			if text != "ok" {
				problems = append(problems, text)
			}
		}
		return rows.Err()
	})
	if problem.KindOf(err) == problem.Damaged {
		return append(problems, err.Error()), nil // too damaged for its own check
	}
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	err = d.Read(ctx, func(tx *Tx) error {
		rows, err := tx.QueryContext(ctx, "PRAGMA foreign_key_check")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() && len(problems) < maxProblems {
			var table, parent string
			var row sql.NullInt64
			var key int64
			if err := rows.Scan(&table, &row, &parent, &key); err != nil {
				return err
			}
			problems = append(problems, fmt.Sprintf("row %d of %s refers to a row of %s that is not there", row.Int64, table, parent))
		}
		return rows.Err()
	})
	return problems, err
}

// judge is translate for errors that may show what has become of the database.
func (d *DB) judge(err error) error {
	if instead := d.noteDamage(err); instead != nil {
		return instead
	}
	return translate(err)
}

func away(err error) error {
	return &problem.Error{Kind: problem.Unavailable, Op: "db", Err: err, Title: "The box's disk is not there",
		Detail: "It was unplugged or unmounted, or does not answer any more.",
		Hint:   "Nothing was lost: devices keep their files and try again. Attach and mount the disk; the box goes on by itself."}
}

// isDiskError tells errors that the disk reported.
func isDiskError(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && (se.Code == sqlite3.ErrIoErr || se.Code == sqlite3.ErrReadonly || se.Code == sqlite3.ErrCantOpen)
}

// translate gives SQLite's failures the kind that a person can act on. Errors
// that are problems already, and those of fn's own making, pass unchanged.
func translate(err error) error {
	var se sqlite3.Error
	if err == nil || !errors.As(err, &se) {
		return err
	}
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	if se.SystemErrno == syscall.EROFS || se.Code == sqlite3.ErrReadonly {
		return &problem.Error{Kind: problem.Unavailable, Op: "db", Err: err, Title: "The box's disk can only be read",
			Detail: "Nothing can be changed. Files that are on the box can be read as before.",
			Hint:   "Look after the disk; the box goes on once it can be written again."}
	}
	switch se.Code {
	case sqlite3.ErrFull:
		return &problem.Error{Kind: problem.Full, Op: "db", Err: err,
			Detail: "The disk has no room left for the box's own records.",
			Hint:   "Nothing was lost. Empty the trash or free space on the disk, then try again."}
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return damaged(err)
	case sqlite3.ErrIoErr, sqlite3.ErrCantOpen:
		return &problem.Error{Kind: problem.Unavailable, Op: "db", Err: err,
			Detail: "The disk did not take the change.",
			Hint:   "Nothing that was acknowledged is affected. Look at the disk and restart the box."}
	}
	return err
}
