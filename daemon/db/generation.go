package db

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"yunbox.local/daemon/problem"
)

const (
	generationPrefix = "gen-"
	// keptGenerations is how many stay, so that any damage to one is survived.
	keptGenerations = 2
)

// A generation is a copy of the database in the journal's folder.
type generation struct {
	point
	nth    int // where several have the same number
	schema schemaHash
	at     time.Time
	size   int64
	sum    [sha256.Size]byte
}

func (g generation) name() string {
	return fmt.Sprintf("%s%016x-%d.db", generationPrefix, g.number, g.nth)
}

// label is the file beside it that says what it is.
func (g generation) label() string { return strings.TrimSuffix(g.name(), ".db") + ".txt" }

func (g generation) marshal() []byte {
	b := fmt.Appendf(nil, "yunbox generation 1\nnumber  %d\nmark    %d\nschema  %x\ntime    %s\nsize    %d\nsha256  %x\n",
		g.number, g.mark, g.schema, g.at.UTC().Format(time.RFC3339), g.size, g.sum)
	return fmt.Appendf(b, "crc     %08x\n", crcOf(b))
}

var errLabel = errors.New("the label of a generation is damaged")

// read completes g from its label.
func (g *generation) read(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, g.label()))
	if err != nil {
		return err
	}
	cut := bytes.LastIndex(b, []byte("crc "))
	if cut < 0 || string(b[cut:]) != fmt.Sprintf("crc     %08x\n", crcOf(b[:cut])) {
		return errLabel
	}
	r := *g
	var schema, sum []byte
	var at string
	if _, err := fmt.Sscanf(string(b[:cut]), "yunbox generation 1\nnumber  %d\nmark    %d\nschema  %x\ntime    %s\nsize    %d\nsha256  %x\n",
		&r.number, &r.mark, &schema, &at, &r.size, &sum); err != nil || r.number != g.number {
		return errLabel
	}
	if r.at, err = time.Parse(time.RFC3339, at); err != nil || len(schema) != len(r.schema) || len(sum) != len(r.sum) {
		return errLabel
	}
	copy(r.schema[:], schema)
	copy(r.sum[:], sum)
	*g = r
	return nil
}

// generations lists those in dir by their names, the newest last; each is still
// to be read.
func generations(dir string) ([]generation, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []generation
	for _, e := range list {
		rest, ok := strings.CutPrefix(e.Name(), generationPrefix)
		rest, ok2 := strings.CutSuffix(rest, ".db")
		number, nth, ok3 := strings.Cut(rest, "-")
		n, err := strconv.ParseInt(number, 16, 64)
		k, err2 := strconv.Atoi(nth)
		if ok && ok2 && ok3 && err == nil && err2 == nil && len(number) == 16 && n > 0 && k >= 0 {
			out = append(out, generation{point: point{number: n}, nth: k})
		}
	}
	slices.SortFunc(out, func(a, b generation) int {
		if a.number != b.number {
			return int(min(max(a.number-b.number, -1), 1))
		}
		return a.nth - b.nth
	})
	return out, nil
}

// verify reads the whole copy and compares its hash.
func (g generation) verify(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, g.name()))
	if err != nil {
		return err
	}
	defer f.Close()
	sum, n, err := hashOf(ctx, f)
	if err != nil {
		return err
	}
	if n != g.size || sum != g.sum {
		return fmt.Errorf("%s is damaged", g.name())
	}
	return nil
}

func hashOf(ctx context.Context, r io.Reader) (sum [sha256.Size]byte, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, &readerUntil{ctx, r})
	h.Sum(sum[:0])
	return sum, n, err
}

// readerUntil ends with the context.
type readerUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r *readerUntil) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}

// Roll makes a new generation now and removes what is older than the one before.
func (d *DB) Roll(ctx context.Context) error { return d.roll(ctx, "somebody asked for one") }

// Forget makes the journal forget what is no longer in the database: when it
// returns nil, nothing that was removed before the call can be found in it. Others
// need not call it: two generations later the same holds, which is after two days on
// which something changes, and after two weeks for a catalogue of more than 448 MiB.
func (d *DB) Forget(ctx context.Context) error {
	for range keptGenerations {
		if err := d.roll(ctx, "something is to be forgotten"); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) roll(ctx context.Context, why string) error {
	j := d.journal
	if j == nil {
		return nil
	}
	j.rolling.Lock()
	defer j.rolling.Unlock()
	defer trim()
	// The log goes on in a new segment, so that the old ones can go as a whole.
	j.mu.Lock()
	nothing := j.end.number == 0
	j.leave()
	gap := j.gap
	j.mu.Unlock()
	if nothing {
		return nil
	}
	if err := j.sync(); err != nil {
		d.log.Warn("the end of the journal's log is lost; a new copy of the database takes its place", "err", err)
		j.mu.Lock()
		gap = j.gap
		j.mu.Unlock()
	}
	g, err := d.makeGeneration(ctx)
	if err != nil {
		j.mu.Lock()
		j.trouble = err
		j.mu.Unlock()
		return err
	}
	j.mu.Lock()
	// A gap that came while the copy was made is still one if it came after it.
	if j.gap == gap || j.end.number == g.number {
		j.gap = nil
	}
	j.trouble = nil
	j.wanted = ""
	j.newest, j.grown = g, 0
	if j.current != nil {
		j.grown = j.current.size
	}
	j.mu.Unlock()
	d.log.Info("made a generation of the database", "number", g.number, "bytes", g.size, "why", why)
	return j.prune()
}

// makeGeneration writes a checked copy of the database into the journal's folder.
func (d *DB) makeGeneration(ctx context.Context) (g generation, err error) {
	dir := d.journal.dir
	if err := d.journal.makeDir(); err != nil {
		return g, err
	}
	part := filepath.Join(dir, "gen.part")
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return g, err
	}
	defer os.Remove(part)
	if err := private0600(part); err != nil {
		return g, err
	}
	pool := open(d.path, 1, "_cache_size=-256")
	_, err = pool.ExecContext(ctx, "VACUUM INTO ?", part)
	if err := errors.Join(err, pool.Close()); err != nil {
		return g, fmt.Errorf("db: generation: %w", d.judge(err))
	}
	err = again(func() error {
		g.point, g.schema, err = inspect(ctx, part)
		return err
	})
	if err != nil {
		return g, errors.Join(fmt.Errorf("db: generation: %w", err), d.thorough(ctx))
	}
	if err := d.sameAsJournal(ctx, part, g); err != nil {
		return g, err
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return g, err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return g, err
	}
	if g.sum, g.size, err = hashOf(ctx, f); err != nil {
		return g, err
	}
	g.at = d.now()
	old, err := generations(dir)
	if err != nil {
		return g, err
	}
	for _, o := range old {
		if o.number == g.number {
			g.nth = max(g.nth, o.nth+1)
		}
	}
	if err := writeSynced(filepath.Join(dir, g.label()), g.marshal()); err != nil {
		return g, err
	}
	if err := os.Rename(part, filepath.Join(dir, g.name())); err != nil {
		return g, err
	}
	return g, syncDir(dir)
}

var errDiffers = errors.New("the database is not what its journal says")

// sameAsJournal compares a new copy of the database with what the journal makes of
// the generation before. A bit that flipped on the disk, in the name of a file, is
// seen by nobody else, and would be in all generations two days later. Where the
// journal has a gap there is nothing to compare with.
func (d *DB) sameAsJournal(ctx context.Context, path string, g generation) error {
	j := d.journal
	j.mu.Lock()
	gap := j.gap != nil
	j.mu.Unlock()
	list, err := segments(j.dir)
	if gap || err != nil || len(list) == 0 {
		return err
	}
	other := filepath.Join(j.dir, "check.part")
	b := &rebuilder{RebuildOptions: RebuildOptions{Journal: j.dir, Path: other, Log: d.log, Now: d.now, until: g.number}}
	defer b.remove()
	err = b.rebuild(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isFull(err):
		return fmt.Errorf("db: generation: %w", err)
	case err != nil || b.Lost != "" || b.at != g.point || b.schema != g.schema:
		d.log.Info("the journal says too little to compare the database with", "err", err, "lost", b.Lost)
		return nil // the new generation heals it
	}
	var want, have map[string][sha256.Size]byte
	if err := again(func() (err error) { want, err = Digest(ctx, other); return err }); err != nil {
		return err
	}
	if err := again(func() (err error) { have, err = Digest(ctx, path); return err }); err != nil {
		return err
	}
	for table, sum := range want {
		if have[table] != sum {
			return fmt.Errorf("%w: table %s", errDiffers, table)
		}
	}
	return nil
}

// thorough notes whether the database itself is damaged, after a copy of it was.
func (d *DB) thorough(ctx context.Context) error {
	pool := open(d.path, 1, "_cache_size=-1024&_query_only=1")
	defer pool.Close()
	err := again(func() error { return integrity(ctx, pool) })
	if instead := d.noteDamage(err); instead != nil {
		return instead
	}
	return err
}

func private0600(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// inspect checks the closed database at path as a whole and returns its place in
// the journal and its schema.
func inspect(ctx context.Context, path string) (p point, s schemaHash, err error) {
	c, err := sql.Open("sqlite3", "file:"+uriPath(path)+"?mode=ro&immutable=1&_cache_size=-1024")
	if err != nil {
		return p, s, err
	}
	defer c.Close()
	if err := integrity(ctx, c); err != nil {
		return p, s, err
	}
	if p, err = readPoint(ctx, c); err != nil {
		return p, s, err
	}
	s, err = schemaOf(ctx, c)
	return p, s, err
}

// integrity asks SQLite whether tables and indexes fit.
func integrity(ctx context.Context, c *sql.DB) error {
	var answer string
	if err := c.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&answer); err != nil {
		return translate(err)
	}
	if answer != "ok" {
		return damaged(fmt.Errorf("%w: %s", errCheck, answer))
	}
	return nil
}

// readPoint returns the place of a database in its journal, the zero value for
// one that never had any.
func readPoint(ctx context.Context, c *sql.DB) (p point, err error) {
	var has bool
	if err := c.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'journal' AND type = 'table')").Scan(&has); err != nil || !has {
		return p, translate(err)
	}
	err = c.QueryRowContext(ctx, "SELECT number, mark FROM journal WHERE one = 1").Scan(&p.number, &p.mark)
	if errors.Is(err, sql.ErrNoRows) {
		return p, damaged(errors.New("the row of table journal is missing"))
	}
	return p, translate(err)
}

// schemaOf returns what tells one schema from another.
func schemaOf(ctx context.Context, c *sql.DB) (s schemaHash, err error) {
	rows, err := c.QueryContext(ctx, `SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL
		UNION ALL SELECT 'version', user_version, '' FROM pragma_user_version ORDER BY 1, 2`)
	if err != nil {
		return s, translate(err)
	}
	defer rows.Close()
	h := sha256.New()
	for rows.Next() {
		var kind, name, text string
		if err := rows.Scan(&kind, &name, &text); err != nil {
			return s, translate(err)
		}
		fmt.Fprintf(h, "%q %q %q\n", kind, name, text)
	}
	h.Sum(s[:0])
	return s, translate(rows.Err())
}

// prune removes the generations before the last keptGenerations and the segments
// that end before the oldest that stays.
func (j *journal) prune() error {
	gens, err := generations(j.dir)
	if err != nil {
		return err
	}
	list, err := segments(j.dir)
	if err != nil {
		return err
	}
	var errs []error
	remove := func(name string) {
		if err := os.Remove(filepath.Join(j.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for len(gens) > keptGenerations {
		remove(gens[0].label())
		remove(gens[0].name())
		gens = gens[1:]
	}
	if len(gens) == keptGenerations {
		for i, first := range list {
			// It ends where the next begins, or where the database was when that began.
			if i+1 < len(list) && list[i+1] <= gens[0].number+1 || i+1 == len(list) && j.ended(first, gens[0].number) {
				remove(segmentName(first))
				remove(segmentName(first) + copySuffix)
			}
		}
	}
	return errors.Join(append(errs, syncDir(j.dir))...)
}

// ended reports whether the last segment is no longer written and has no record
// after number.
func (j *journal) ended(first, number int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current == nil && j.end.number <= number && first <= number
}

// CheckJournal reads the whole journal back and returns what is damaged in it, as
// texts for an administrator; none if all of it is sound. The next generation heals
// it: see Roll.
func (d *DB) CheckJournal(ctx context.Context) (bad []string, err error) {
	j := d.journal
	if j == nil {
		return nil, nil
	}
	if err := j.sync(); err != nil {
		return nil, err
	}
	j.rolling.Lock()
	defer j.rolling.Unlock()
	gens, err := generations(j.dir)
	if err != nil {
		return nil, err
	}
	for _, g := range gens {
		sound := func() error {
			if err := g.read(j.dir); err != nil {
				return err
			}
			return g.verify(ctx, j.dir)
		}
		err := sound()
		if err != nil {
			err = sound() // damage is what is there twice
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", g.name(), err))
		}
	}
	list, err := segments(j.dir)
	if err != nil {
		return nil, err
	}
	for i, first := range list {
		if i == len(list)-1 {
			break // it is written meanwhile, and was read at the start
		}
		for _, suffix := range []string{"", copySuffix} {
			name := segmentName(first) + suffix
			sound := func() error {
				r, err := openFiles(filepath.Join(j.dir, name), "", first)
				if err != nil {
					return err
				}
				defer r.Close()
				for err == nil && ctx.Err() == nil {
					_, err = r.next()
				}
				if r.bad[0] || r.last.number < first {
					return errors.New("it is damaged")
				}
				return nil
			}
			err := sound()
			if err != nil {
				err = sound()
			}
			if err != nil {
				bad = append(bad, fmt.Sprintf("%s: %v", name, err))
			}
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return bad, nil
}

// QuickCheck has SQLite look through the whole database, quickly: it finds pages that
// make no sense. What it finds ends all writing: see Err.
func (d *DB) QuickCheck(ctx context.Context) error {
	err := again(func() error { return d.look(ctx) })
	if instead := d.noteDamage(err); instead != nil {
		return instead
	}
	return translate(err)
}

func (d *DB) look(ctx context.Context) error {
	pool := open(d.path, 1, "_cache_size=-1024&_query_only=1") // with no page in memory yet
	defer pool.Close()
	var answer string
	err := pool.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&answer)
	if err == nil && answer != "ok" {
		err = damaged(fmt.Errorf("%w: %s", errCheck, answer))
	}
	return err
}

// errCheck is the cause where SQLite's own check found something.
var errCheck = errors.New("the check of the database failed")

func isDamage(err error) bool {
	var se sqlite3.Error
	return errors.Is(err, errCheck) || errors.As(err, &se) && (se.Code == sqlite3.ErrCorrupt || se.Code == sqlite3.ErrNotADB)
}

// damaged is what is said about a database that is not what was written.
func damaged(err error) error {
	return &problem.Error{Kind: problem.Damaged, Op: "db", Err: err,
		Title:  "The box's catalogue is damaged",
		Detail: "The files themselves are untouched.",
		Hint:   "Run `yunboxctl rebuild` on the box: it makes the catalogue anew from the journal beside it."}
}

// again runs fn once more where it says that there is damage. SQLite says so of a page
// that the disk did not give (SQLITE_IOERR_CORRUPTFS), if only this once.
func again(fn func() error) error {
	err := fn()
	if isDamage(err) {
		err = fn()
	}
	return err
}

// noteDamage ends all writing once the database was found damaged: a change could
// spread the damage. Where what looks like damage is none, it returns what is to be
// said instead: the disk is gone, or did not give a page this once.
func (d *DB) noteDamage(err error) (instead error) {
	if !isDamage(err) {
		if isDiskError(err) && d.trouble != nil {
			d.trouble(err)
		}
		return nil
	}
	if d.gone != nil {
		if gone := d.gone(); gone != nil {
			d.trouble(gone)
			return away(errors.Join(gone, err))
		}
	}
	// A second look, unless it was taken: see again. It may pass over what it is not
	// made to see, so that it counts once.
	if !errors.Is(err, errCheck) && d.look(d.stopping) == nil && d.doubted.CompareAndSwap(false, true) {
		d.log.Warn("the database looked damaged, and sound when it was read again", "err", err)
		return &problem.Error{Kind: problem.Unavailable, Op: "db", Err: errors.New(err.Error()), // no damage any more
			Detail: "The disk did not give all of the box's records this once.",
			Hint:   "Try again. If it happens more often, the disk is failing: look at it, and make sure that there is a second copy."}
	}
	err = damaged(err)
	if d.failed.CompareAndSwap(nil, &err) {
		d.log.Error("the database is damaged; no further change is accepted until it was rebuilt", "err", err)
	}
	return nil
}

// CheckAll is Check, but also compares every index with its table and every
// reference with its row; it takes several times as long.
func (d *DB) CheckAll(ctx context.Context) error {
	if err := d.thorough(ctx); err != nil {
		return err
	}
	return d.Read(ctx, func(tx *Tx) error { return foreignKeys(ctx, tx.tx) })
}

// Digest returns a hash of the rows of each table of the closed database at path,
// by which two databases are compared.
func Digest(ctx context.Context, path string) (map[string][sha256.Size]byte, error) {
	c, err := sql.Open("sqlite3", "file:"+uriPath(path)+"?mode=ro&immutable=1&_cache_size=-1024")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	rows, err := c.QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_stat%'")
	if err != nil {
		return nil, translate(err)
	}
	var names []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			break
		}
		names = append(names, n)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, translate(err)
	}
	out := map[string][sha256.Size]byte{}
	for _, n := range names {
		if out[n], err = digestOf(ctx, c, n); err != nil {
			return nil, fmt.Errorf("db: %s: %w", n, translate(err))
		}
	}
	return out, nil
}

func digestOf(ctx context.Context, c *sql.DB, table string) (sum [sha256.Size]byte, err error) {
	// In the order of the primary key, in which a table is stored. The one of SQLite
	// itself has none.
	rows, err := c.QueryContext(ctx, `SELECT * FROM "`+table+`" NOT INDEXED`+map[bool]string{true: " ORDER BY name"}[table == "sqlite_sequence"])
	if err != nil {
		return sum, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return sum, err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	h := sha256.New()
	var buf []byte
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return sum, err
		}
		buf = buf[:0]
		for _, v := range values {
			if buf, err = appendValue(buf, v); err != nil {
				return sum, err
			}
		}
		h.Write(buf)
	}
	h.Sum(sum[:0])
	return sum, rows.Err()
}
