package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"yunbox.local/daemon/problem"
)

const (
	// syncDelay is how long after a commit its record is made durable, so that a
	// busy box pays for one flush and not for hundreds. Until then it outlives a
	// killed daemon, but no power cut; see docs/decisions/0020.
	syncDelay = 2 * time.Second
	// A new generation is made when the log since the last one is longer than that,
	// but not below minGrown bytes, and when something changes a day after it was made.
	// Of a large database that would wear a small disk: it takes a day for each
	// perDay bytes, and a week at most.
	minGrown      = 32 << 20
	generationAge = 24 * time.Hour
	perDay        = 64 << 20
	mostDays      = 7
	// examineAfter a start, which has better things to do, database and journal are
	// read through.
	examineAfter = 30 * time.Second
	// retryRoll is how long a generation that could not be made is not tried again.
	retryRoll = 10 * time.Minute
)

// A journal is what brings the database back when its file is lost or damaged: a
// checked copy of it (a generation) and the statements of all transactions since.
// It lies in a folder beside the database; docs/format.md describes the files.
//
// The writer appends a record after each commit and before anybody hears of it,
// with a plain write: nothing waits for the disk. What was appended is copied into
// a second file and synced seconds later by keep, which also makes generations.
//
// The row of table journal holds the number of the last transaction, and is
// written in it. A database that is behind its journal was put back from a copy or
// lost its own log. A journal that is behind lost its last seconds in a power cut;
// its next record begins a new segment, and a new generation closes the gap.
//
// Nothing here may fail a write: the database is whole without its journal.
type journal struct {
	dir string
	of  string // path of the database; "": none is looked for
	log *slog.Logger
	now func() time.Time

	wake chan struct{} // something is to be synced, or to be rolled

	mu       sync.Mutex
	end      point // of the database
	schema   schemaHash
	known    map[string]uint64 // statements that the current segment has named
	current  *segment          // nil: the next record begins one
	unsynced []*segment        // the current one is last
	gap      error             // why the log does not lead from the newest generation to end
	wanted   string            // why a new generation is wanted although there is no gap
	grown    int64             // bytes of log since the newest generation
	newest   generation        // the zero value: there is none
	trouble  error             // why the last generation could not be made
	buf      []byte

	syncing sync.Mutex // one sync at a time; taken before mu
	rolling sync.Mutex // one generation at a time; taken before syncing
	notYet  time.Time
}

// A segment is a file of the log and its copy, while they are written.
type segment struct {
	name   string
	f      *os.File
	size   int64 // guarded by journal.mu, all below by journal.syncing
	done   bool  // guarded by journal.mu: nothing more is appended
	twin   *os.File
	copied int64 // bytes that both files have
	synced bool  // and that are durable
}

// openJournal reads where the journal in dir ends.
func openJournal(dir string, log *slog.Logger, now func() time.Time) (*journal, error) {
	j := &journal{dir: dir, log: log, now: now, wake: make(chan struct{}, 1)}
	gens, err := generations(dir)
	if err != nil {
		return nil, fmt.Errorf("db: journal: %w", err)
	}
	for i := len(gens) - 1; i >= 0 && j.newest.number == 0; i-- {
		if gens[i].read(dir) == nil {
			j.newest, j.end = gens[i], gens[i].point
		}
	}
	list, err := segments(dir)
	if err != nil {
		return nil, fmt.Errorf("db: journal: %w", err)
	}
	for i := len(list) - 1; i >= 0; i-- {
		found, err := j.readEnd(list[i])
		if err != nil {
			return nil, fmt.Errorf("db: journal: %w", err)
		}
		if found {
			break
		}
	}
	for _, first := range list {
		if info, err := os.Stat(filepath.Join(dir, segmentName(first))); err == nil && first > j.newest.number {
			j.grown += info.Size()
		}
	}
	return j, nil
}

// readEnd reads the segment to its end and reports whether it has a record. What
// its copy lacks, since the daemon was killed, is copied by the first sync.
func (j *journal) readEnd(first int64) (bool, error) {
	r, err := openSegment(j.dir, first)
	if errors.Is(err, errSegment) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer r.Close()
	for err == nil {
		_, err = r.next()
	}
	if !errors.Is(err, io.EOF) {
		return false, err
	}
	if r.last.number >= first && r.last.number >= j.end.number {
		j.end, j.schema = r.last, r.schema
	}
	if name := filepath.Join(j.dir, segmentName(first)); r.last.number >= first && !r.bad[0] {
		f, err := os.Open(name)
		if err != nil {
			return false, err
		}
		g := &segment{name: name, f: f, size: r.pos, done: true}
		if info, err := os.Stat(name + copySuffix); err == nil {
			g.copied = min(info.Size(), g.size)
		}
		j.unsynced = append(j.unsynced, g)
	}
	return r.last.number >= first, nil
}

// empty reports whether the journal speaks of no transaction.
func (j *journal) empty() bool { return j.end.number == 0 }

// fits says whether a database at p is the one of this journal; nil if it is, or
// is ahead.
func (j *journal) fits(p point) error {
	switch {
	case p.number < j.end.number:
		return fmt.Errorf("the database is at transaction %d, its journal at %d", p.number, j.end.number)
	case p.number == j.end.number && p.mark != j.end.mark:
		return fmt.Errorf("transaction %d of the database is not that of its journal", p.number)
	}
	return nil
}

// begin takes the journal into use for a database at p. It must have fitted.
func (j *journal) begin(p point, schema schemaHash) {
	switch {
	case p.number > j.end.number:
		j.gap = fmt.Errorf("transactions %d to %d are not in the journal", j.end.number+1, p.number)
	case j.newest.number > 0 && j.newest.schema != schema:
		j.wanted = "the schema has changed"
	}
	j.end, j.schema = p, schema
	if len(j.unsynced) > 0 || j.due() != "" {
		j.nudge()
	}
}

// nudge makes keep look what there is to do.
func (j *journal) nudge() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// following is the point of the next transaction. It belongs to the writer.
func (j *journal) following() point { return point{j.end.number + 1, rand.Int64()} }

// append takes the record of the transaction that was just committed at p.
func (j *journal) append(p point, at time.Time, o *ops) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(p, at, o); err != nil {
		if j.gap == nil {
			j.log.Error("the journal of the database has a gap; it gets a new copy of the database", "err", err)
		}
		j.gap = fmt.Errorf("transaction %d is not in the journal: %w", p.number, err)
		j.leave()
	}
	j.end = p
	j.nudge()
}

func (j *journal) write(p point, at time.Time, o *ops) error {
	if j.current != nil && j.current.size >= maxSegment {
		j.leave()
	}
	if j.current == nil {
		if err := j.beginSegment(p.number); err != nil {
			return err
		}
	}
	g := j.current
	j.buf = appendRecord(j.buf[:0], p, at, o, j.known)
	if len(j.buf) > recordHead+maxRecord {
		return fmt.Errorf("a transaction of %d bytes is too large for the journal", len(j.buf))
	}
	if _, err := g.f.WriteAt(j.buf, g.size); err != nil {
		return err
	}
	g.size += int64(len(j.buf))
	j.grown += int64(len(j.buf))
	if cap(j.buf) > 1<<20 {
		j.buf = nil
	}
	return nil
}

func (j *journal) beginSegment(first int64) error {
	if err := j.makeDir(); err != nil {
		return err
	}
	name := filepath.Join(j.dir, segmentName(first))
	// One of that name holds no sound record, or the database would be behind.
	for _, old := range []string{name, name + copySuffix} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	head := segmentHeader{after: j.end, schema: j.schema, at: j.now()}.marshal()
	if _, err := f.Write(head); err != nil {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	j.current = &segment{name: name, f: f, size: segmentHead}
	j.known = make(map[string]uint64)
	j.unsynced = append(j.unsynced, j.current)
	return nil
}

// makeDir makes the folder if it is missing, but not where the database is missing,
// too: what was mounted there is away, and what is there now is somebody else's.
func (j *journal) makeDir() error {
	if _, err := os.Stat(j.of); err != nil && j.of != "" {
		return err
	}
	return os.MkdirAll(j.dir, 0o700)
}

// leave ends the current segment.
func (j *journal) leave() {
	if j.current != nil {
		j.current.done = true
		j.current = nil
	}
}

// sync makes durable what was appended so far, twice.
func (j *journal) sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	list := append([]*segment(nil), j.unsynced...)
	j.mu.Unlock()
	var errs []error
	fresh := false
	for _, g := range list {
		j.mu.Lock()
		size, done := g.size, g.done
		j.mu.Unlock()
		fresh = fresh || g.twin == nil
		err := g.sync(size)
		if err == nil && !done {
			continue
		}
		j.mu.Lock()
		if err != nil { // nothing of it can be relied on: a new one begins
			j.gap = err
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(g.name), err))
			if j.current == g {
				j.leave()
			}
		}
		j.unsynced = slices.DeleteFunc(j.unsynced, func(other *segment) bool { return other == g })
		j.mu.Unlock()
		errs = append(errs, g.close())
	}
	if fresh {
		errs = append(errs, syncDir(j.dir), syncDir(filepath.Dir(j.dir)))
	}
	return errors.Join(errs...)
}

func (g *segment) close() error {
	err := g.f.Close()
	if g.twin != nil {
		err = errors.Join(err, g.twin.Close())
	}
	return err
}

// sync copies the first size bytes, where the copy lacks them, and syncs both.
func (g *segment) sync(size int64) (err error) {
	if g.synced && g.copied == size {
		return nil
	}
	if _, err := os.Stat(g.name); err != nil {
		return err // somebody removed it: what is appended would be nowhere
	}
	g.synced = false
	if g.twin == nil {
		if g.twin, err = os.OpenFile(g.name+copySuffix, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
	}
	// Not by the kernel: it could let both files share the same blocks.
	buf := make([]byte, min(64<<10, size-g.copied))
	for g.copied < size {
		n, err := g.f.ReadAt(buf[:min(int64(len(buf)), size-g.copied)], g.copied)
		if n == 0 && err != nil {
			return err
		}
		if _, err := g.twin.WriteAt(buf[:n], g.copied); err != nil {
			return err
		}
		g.copied += int64(n)
	}
	if err := errors.Join(g.f.Sync(), g.twin.Sync()); err != nil {
		return err
	}
	g.synced = true
	return nil
}

// close syncs what is left. The writer must have ended.
func (j *journal) close() error {
	j.mu.Lock()
	j.leave()
	j.mu.Unlock()
	return j.sync()
}

// due says why a new generation is to be made now, "" if none is.
func (j *journal) due() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	age := j.now().Sub(j.newest.at)
	switch {
	case j.end.number == 0:
		return ""
	case j.gap != nil:
		return j.gap.Error()
	case j.newest.number == 0:
		return "there is none"
	case j.wanted != "":
		return j.wanted
	case j.grown > max(minGrown, j.newest.size):
		return "the log has grown"
	case j.newest.number < j.end.number && age.Abs() > j.newest.lasts():
		return "the last one is old"
	}
	return ""
}

// openJournal finds the journal, if there is to be one, and refuses to begin a new
// database where it says that there was one.
func (d *DB) openJournal(dir string) (err error) {
	if dir == "" {
		return nil
	}
	if d.journal, err = openJournal(dir, d.log, d.now); err != nil {
		return err
	}
	if d.journal.of = d.path; d.journal.empty() {
		return nil
	}
	info, err := os.Stat(d.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return missing(fmt.Errorf("%s is missing or empty", filepath.Base(d.path)))
	}
	return err
}

// missing is what is said about a database that is not there or not the newest.
func missing(err error) error {
	return &problem.Error{Kind: problem.Damaged, Op: "db", Err: err,
		Title:  "The box's catalogue is missing or not the newest",
		Detail: "The files themselves are untouched.",
		Hint:   "Run `yunboxctl rebuild` on the box: it makes the catalogue anew from the journal beside it."}
}

// compare refuses a database that does not know what its journal knows.
func (d *DB) compare(ctx context.Context) error {
	if d.journal == nil || d.journal.empty() {
		return nil
	}
	p, err := readPoint(ctx, d.write)
	if err != nil {
		return fmt.Errorf("db: %s: %w", d.path, err)
	}
	if err := d.journal.fits(p); err != nil {
		return missing(err)
	}
	return nil
}

func (d *DB) beginJournal(ctx context.Context) error {
	if d.journal == nil {
		return nil
	}
	p, err := readPoint(ctx, d.write)
	if err != nil {
		return fmt.Errorf("db: %s: %w", d.path, err)
	}
	s, err := schemaOf(ctx, d.write)
	if err != nil {
		return fmt.Errorf("db: %s: %w", d.path, err)
	}
	d.journal.begin(p, s)
	return nil
}

// lasts is how long a generation stands while things change.
func (g generation) lasts() time.Duration {
	return generationAge * time.Duration(min(max(g.size/perDay, 1), mostDays))
}

// keeper syncs the journal and makes its generations, behind the writer. Nobody
// waits for it, and an idle box does not hear it.
func (d *DB) keeper() {
	defer d.done.Done()
	examine := time.After(examineAfter)
	for {
		select {
		case <-d.journal.wake:
		case <-examine:
			d.examine()
			continue
		case <-d.stop:
			return
		}
		select {
		case <-time.After(syncDelay):
		case <-d.stop:
			return
		}
		if err := d.journal.sync(); err != nil {
			d.log.Error("the journal of the database could not be made durable", "err", err)
		}
		why := d.journal.due()
		now := d.now()
		if why == "" || d.Err() != nil || now.Before(d.journal.notYet) && d.journal.notYet.Sub(now) <= generationAge { // or the clock was set back
			continue
		}
		if err := d.roll(d.stopping, why); err != nil && d.stopping.Err() == nil {
			d.journal.notYet = d.now().Add(retryRoll)
			if errors.Is(err, errDiffers) { // and will tomorrow
				d.journal.notYet = d.now().Add(generationAge)
			}
			d.log.Error("a generation of the database could not be made", "err", err, "what to do", "run yunboxctl rebuild, which keeps what it replaces")
		}
	}
}

// examine reads database and journal through. Damage to the database ends all
// writing: see Check. Damage to the journal is healed by new generations.
func (d *DB) examine() {
	if err := d.QuickCheck(d.stopping); err != nil {
		return // it was logged
	}
	bad, err := d.CheckJournal(d.stopping)
	if err == nil && len(bad) > 0 {
		d.log.Error("the journal of the database is damaged; it is written anew", "files", bad)
		err = d.Forget(d.stopping)
	}
	if err != nil && d.stopping.Err() == nil {
		d.log.Error("the journal of the database could not be checked or written anew", "err", err)
	}
}

// JournalState says how the journal stands.
type JournalState struct {
	Number      int64     // of the last transaction
	Generations int       // sound by their names; Check reads them
	Newest      time.Time // when the newest was made; zero: never
	Bytes       int64     // of the log since then
	Err         error     // why the journal alone could not bring everything back; nil: it could
}

// Journal returns how the journal stands; the zero value where there is none.
func (d *DB) Journal() JournalState {
	j := d.journal
	if j == nil {
		return JournalState{}
	}
	gens, err := generations(j.dir)
	j.mu.Lock()
	defer j.mu.Unlock()
	return JournalState{Number: j.end.number, Generations: len(gens), Newest: j.newest.at, Bytes: j.grown, Err: errors.Join(j.gap, j.trouble, err)}
}
