package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/mattn/go-sqlite3"

	"yunbox.local/daemon/problem"
)

// A Tx is one caller's part of a transaction. It is valid only inside the
// function that received it and must be used by one goroutine at a time.
//
// Statements of a writing Tx are never interrupted by a context: an interrupt
// would roll back the whole transaction, other callers' parts included.
type Tx struct {
	// Now is the time of the transaction: one clock for all that it writes.
	Now time.Time
	// Sure is the time that a deadline may be held against whose passing deletes
	// something or cannot be undone otherwise: a jump of the clock does not move it far.
	// Deadlines that it is compared with are made from it. Unsure: Now may well be wrong.
	Sure   time.Time
	Unsure bool

	tx      *sql.Tx
	ops     *ops // what it changed, for the journal; nil if it reads
	reading bool
	depth   int
	after   []func()
	broken  *brokenError // set once SQLite gave up the whole transaction
}

func (tx *Tx) ctx(ctx context.Context) context.Context {
	if tx.reading {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// Exec runs a statement that returns no rows. A writing one is repeated when the
// database is rebuilt, so it may ask for nothing but the database and its values:
// no random(), no clock. One statement at a time.
func (tx *Tx) Exec(query string, args ...any) (sql.Result, error) {
	return tx.ExecContext(context.Background(), query, args...)
}

// ExecContext is Exec; see Tx for what ctx does.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if tx.reading {
		return tx.tx.ExecContext(ctx, query, args...)
	}
	v, err := tx.ops.known.classify(query)
	if err != nil {
		return nil, err
	}
	res, err := tx.tx.ExecContext(context.WithoutCancel(ctx), query, args...)
	if err != nil || v == reads {
		return res, err
	}
	rows := int64(unknownRows)
	if v != defines {
		if rows, err = res.RowsAffected(); err != nil {
			return nil, err
		}
		if rows == 0 && v == changes {
			return res, nil
		}
	}
	return res, tx.note(query, rows, args)
}

func (tx *Tx) note(query string, rows int64, args []any) error {
	if err := tx.ops.add(query, rows, args); err != nil {
		return tx.giveUp(err) // it was done: the transaction would not be what is noted
	}
	return nil
}

// Query runs a statement that returns rows. Close them before the next statement.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	return tx.QueryContext(context.Background(), query, args...)
}

// QueryContext is Query; see Tx for what ctx does.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := tx.asks(query, args); err != nil {
		return nil, err
	}
	return tx.tx.QueryContext(tx.ctx(ctx), query, args...)
}

// QueryRow runs a statement that returns at most one row.
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row {
	return tx.QueryRowContext(context.Background(), query, args...)
}

// QueryRowContext is QueryRow; see Tx for what ctx does.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := tx.asks(query, args); err != nil {
		// There is no other way to an error in a Row: Scan returns that of its context.
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(err)
		return tx.tx.QueryRowContext(ctx, query, args...)
	}
	return tx.tx.QueryRowContext(tx.ctx(ctx), query, args...)
}

// asks notes a statement that changes rows and returns them. If it fails, it does
// so again when it is repeated.
func (tx *Tx) asks(query string, args []any) error {
	if tx.reading {
		return nil
	}
	v, err := tx.ops.known.classify(query)
	if err != nil || v == reads {
		return err
	}
	return tx.note(query, unknownRows, args)
}

// Savepoint runs fn and undoes what it wrote, and only that, if it returns an
// error, which Savepoint returns. Savepoints nest.
func (tx *Tx) Savepoint(fn func() error) error {
	if tx.reading {
		return fn()
	}
	if tx.broken != nil {
		return tx.broken
	}
	mark, noted := len(tx.after), len(tx.ops.list)
	tx.depth++
	defer func() { tx.depth-- }()
	name := fmt.Sprintf("s%d", tx.depth)
	if _, err := tx.tx.Exec("SAVEPOINT " + name); err != nil {
		return tx.giveUp(err)
	}
	err := fn()
	if tx.broken != nil {
		return tx.broken
	}
	if err == nil {
		if _, err := tx.tx.Exec("RELEASE " + name); err != nil {
			return tx.giveUp(err)
		}
		return nil
	}
	tx.after = tx.after[:mark]
	tx.ops.cut(noted)
	if _, rerr := tx.tx.Exec("ROLLBACK TO " + name); rerr != nil {
		return tx.giveUp(errors.Join(err, rerr))
	}
	if _, rerr := tx.tx.Exec("RELEASE " + name); rerr != nil {
		return tx.giveUp(errors.Join(err, rerr))
	}
	return err
}

func (tx *Tx) giveUp(err error) error {
	tx.broken = &brokenError{err}
	return tx.broken
}

// AfterCommit has fn run once the transaction is on stable storage, before the
// call of Write that it belongs to returns. fn must not call Write. It is
// dropped if its part of the transaction is undone.
func (tx *Tx) AfterCommit(fn func()) { tx.after = append(tx.after, fn) }

// brokenError says that SQLite has given up the whole transaction (a full disk
// does that), so no part of it can be kept, whatever fn makes of the error.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "transaction given up: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// A call is one caller of Write that waits for its verdict.
type call struct {
	ctx   context.Context
	fn    func(*Tx) error
	err   error
	panic any
	stack []byte
	after []func()
	done  chan struct{}
}

// Write runs fn in a transaction and returns when that is on stable storage.
//
// Calls that arrive while a transaction is being committed share the next one
// (group commit): n callers cost one flush. There is no timer, so a lone call
// never waits for company. Each fn is a unit: its error undoes its own part and
// is returned to its own caller. fn must not keep tx and must not call Write. The end of ctx gives up a call that has not begun; a call
// that has begun runs to its end.
func (d *DB) Write(ctx context.Context, fn func(*Tx) error) error {
	c := &call{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case <-d.stop:
		return errClosed()
	default:
	}
	select {
	case d.calls <- c:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.stop:
		return errClosed()
	}
	<-c.done
	if c.panic != nil {
		panic(fmt.Sprintf("%v\n\nin a db.Write:\n%s", c.panic, c.stack))
	}
	return c.err
}

func errClosed() error {
	return &problem.Error{Kind: problem.Unavailable, Op: "db.write",
		Detail: "The box is shutting down.", Hint: "Try again in a moment."}
}

func (d *DB) writer() {
	defer d.done.Done()
	for {
		select {
		case c := <-d.calls:
			d.group(c)
		case <-d.stop:
			return
		}
	}
}

// group runs one transaction for first and everyone who is waiting by then.
func (d *DB) group(first *call) {
	var group []*call
	err := d.Err()
	if err == nil {
		group, err = d.transaction(first)
	} else {
		group = []*call{first}
	}
	for _, c := range group {
		if err != nil && c.err == nil {
			c.err = err
		}
		if c.err == nil {
			d.writes.Add(1)
			for _, fn := range c.after {
				fn()
			}
		}
		close(c.done)
	}
	if err == nil && d.commits.Load()%checkpointEvery == 0 {
		select {
		case d.tick <- struct{}{}:
		default: // one is due already
		}
	}
}

// transaction runs first and everyone who is waiting by then in one transaction.
// A group of one, the common case, costs no savepoint: first runs without, and
// when it fails the transaction ends there, before anybody joined.
func (d *DB) transaction(first *call) (group []*call, err error) {
	group = []*call{first}
	stx, err := d.write.BeginTx(context.Background(), nil)
	if err != nil {
		return group, d.judge(err)
	}
	d.ops.reset()
	tx := d.timed(&Tx{tx: stx, ops: &d.ops})
	if d.run(tx, first, func(part func() error) error { return part() }); first.err != nil {
		stx.Rollback()
		return group, nil
	}
	for len(group) < maxGroup {
		var next *call
		select {
		case next = <-d.calls:
		default:
			return group, d.commit(tx)
		}
		group = append(group, next)
		if len(group) == 2 && lost(stx) {
			return group, errors.New("db: a call before this one lost the transaction and did not say so")
		}
		if broken := d.run(tx, next, tx.Savepoint); broken != nil {
			stx.Rollback()
			return group, translate(broken)
		}
	}
	return group, d.commit(tx)
}

// lost reports whether SQLite gave up the transaction within the first call, which
// ran without a savepoint to notice it. The savepoint of the next call would begin
// a transaction of its own and commit it. Within a transaction BEGIN is refused.
func lost(stx *sql.Tx) bool {
	if _, err := stx.Exec("BEGIN"); err != nil {
		return false
	}
	stx.Rollback()
	return true
}

func (d *DB) commit(tx *Tx) error {
	stx := tx.tx
	var p point
	journalled := d.journal != nil && len(d.ops.list) > 0
	if journalled {
		p = d.journal.following()
		if _, err := stx.Exec("UPDATE journal SET number = ?, mark = ? WHERE one = 1", p.number, p.mark); err != nil {
			stx.Rollback()
			return d.judge(err)
		}
	}
	err := stx.Commit()
	if err == nil {
		d.commits.Add(1)
		if journalled {
			d.journal.append(p, tx.Now, &d.ops)
		}
		return nil
	}
	stx.Rollback()
	var se sqlite3.Error
	if errors.As(err, &se) && se.Code == sqlite3.ErrIoErr {
		err := translate(err)
		d.failed.Store(&err)
		d.trouble(err)
		d.log.Error("a commit did not reach the disk; no further change is accepted until a restart", "err", err)
	}
	return translate(err)
}

// run runs one call's part as one unit, which within makes undoable. What it
// returns breaks the whole transaction; the verdict of the call alone is in c.
func (d *DB) run(tx *Tx, c *call, within func(func() error) error) (broken error) {
	if c.ctx.Err() != nil {
		c.err = context.Cause(c.ctx)
		return nil
	}
	tx.after = nil
	err := within(func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				c.panic, c.stack = p, debug.Stack()
				err = errors.New("panic")
			}
		}()
		return c.fn(tx)
	})
	c.after = tx.after
	if tx.broken != nil { // also when c.fn swallowed it
		c.err = d.judge(tx.broken.err)
		return tx.broken.err
	}
	c.err = d.judge(err)
	return nil
}

// checkpointer copies the log's pages back into the database beside the writer,
// so that no upload waits for it.
func (d *DB) checkpointer() {
	defer d.done.Done()
	for {
		select {
		case <-d.tick:
			if _, err := d.check.Exec("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
				d.log.Warn("the database's log could not be folded in", "err", d.judge(err))
			}
		case <-d.stop:
			return
		}
	}
}
