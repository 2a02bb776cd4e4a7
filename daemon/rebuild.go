package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// ErrRebuild ends Run when somebody asked for the records to be rebuilt: close the
// box and call Rescue.
var ErrRebuild = errors.New("the records are to be rebuilt")

// NeedsRebuild says whether Open failed because of the records, so that Rescue can
// help.
func NeedsRebuild(err error) bool { return problem.KindOf(err) == problem.Damaged }

// RebuildOptions say how to rebuild box.db.
type RebuildOptions struct {
	// From is the folder of the journal; "" is the box's own.
	From string `json:"from,omitempty"`
	// Replace lets the journal of From replace records that are in good order.
	Replace bool `json:"replace,omitempty"`
	// AcceptLoss goes on where the journal does not know everything, or nothing.
	AcceptLoss bool `json:"accept_loss,omitempty"`
}

// RebuildReport says what became of a rebuild.
type RebuildReport struct {
	// Replaced is false where box.db was found to be what the journal says, or newer:
	// then nothing was changed.
	Replaced bool  `json:"replaced"`
	People   int64 `json:"people"`
	Files    int64 `json:"files"`
	Consents int64 `json:"consents"` // decisions in the ledger
	Acts     int64 `json:"acts"`     // entries of the audit record

	Number      int64      `json:"number"`   // of the last transaction
	Replayed    int64      `json:"replayed"` // transactions after the generation
	LastChange  *time.Time `json:"last_change,omitempty"`
	Generation  string     `json:"generation"`  // "": an empty database
	Differences int64      `json:"differences"` // statements that did otherwise than at first
	Damaged     []string   `json:"damaged"`     // files of the journal that were got around
	Lost        string     `json:"lost"`        // what is not known any more

	// Contents that rows name and the volume lacks, at most maxMissing by name.
	Missing      int64         `json:"missing"`
	MissingNames []storage.Ref `json:"missing_sha256"`
	// Contents without a row: kept, and not looked into.
	Found      int64 `json:"found"`
	FoundBytes int64 `json:"found_bytes"`

	// Kept is the folder with what was replaced, "" for none.
	Kept string `json:"kept"`
}

const maxMissing = 1000

// RebuildProgress is told while a rebuild runs. Total is 0 where it is not known.
type RebuildProgress struct {
	Step  string `json:"step"` // records, contents
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// rebuilding is one rebuild of a box that does not run otherwise.
type rebuilding struct {
	RebuildOptions
	conf   config.Config
	log    *slog.Logger
	now    func() time.Time
	disk   vfs.FS
	store  *storage.Store
	ledger func(*db.DB, *audit.Log) (*consent.Ledger, error)
	tell   func(RebuildProgress)

	report RebuildReport
	spare  bool  // what the new records do not know is to be kept
	opened int64 // their number of starts and stops
}

func (r *rebuilding) path(parts ...string) string {
	return filepath.Join(append([]string{r.conf.State}, parts...)...)
}

// run makes new records beside the old ones, checks them as a whole, and only then
// puts them in their place. Whenever it is cut off it can be run again: the journal
// is only read, and what is replaced is kept.
func (r *rebuilding) run(ctx context.Context) (RebuildReport, error) {
	old, sound := r.inspect(ctx)
	if sound && r.From != "" && !r.Replace {
		return r.report, &problem.Error{Kind: problem.Conflict, Op: "daemon.rebuild",
			Title:  "The catalogue of this box is in good order",
			Detail: "What that journal says would replace it.",
			Hint:   "Nothing was changed. If you want that, say so with --replace.",
		}
	}
	if err := os.RemoveAll(r.path("rebuild")); err != nil { // of a rebuild that was cut off
		return r.report, err
	}
	if err := os.Mkdir(r.path("rebuild"), 0o700); err != nil {
		return r.report, err
	}
	defer os.RemoveAll(r.path("rebuild"))
	if err := r.build(ctx); err != nil {
		return r.report, err
	}
	if sound && r.From == "" {
		keep, err := r.same(ctx, old)
		if err != nil {
			return r.report, err
		}
		if keep {
			return r.report, r.verify(ctx) // only to say what it is like
		}
	}
	if r.report.Lost != "" && !r.AcceptLoss {
		return r.report, &problem.Error{Kind: problem.Damaged, Op: "daemon.rebuild",
			Title:  "The journal does not know everything",
			Detail: r.report.Lost,
			Hint: "Nothing was changed. With --accept-loss the box goes back to what is known; " +
				"what was deleted or withdrawn later has to be deleted or withdrawn again. " +
				"A second copy may know more: --from DIR.",
		}
	}
	if err := r.verify(ctx); err != nil {
		return r.report, err
	}
	if err := r.swap(); err != nil {
		return r.report, err
	}
	r.report.Replaced = true
	return r.report, nil
}

// inspect says whether the records that are there are in good order by themselves,
// and which transaction was their last.
func (r *rebuilding) inspect(ctx context.Context) (number int64, sound bool) {
	if info, err := os.Stat(r.path("box.db")); err != nil || info.Size() == 0 {
		return 0, false
	}
	d, err := db.Open(ctx, db.Options{Path: r.path("box.db"), BackupDir: r.path("backup"), Journal: r.path("journal"), Log: r.log, Now: r.now})
	if err != nil {
		r.log.Info("the records cannot be used", "err", err)
		return 0, false
	}
	err = d.CheckAll(ctx)
	number = d.Journal().Number
	if err := errors.Join(err, d.Close()); err != nil {
		r.log.Info("the records cannot be used", "err", err)
		return 0, false
	}
	return number, true
}

func (r *rebuilding) fresh() string { return r.path("rebuild", "box.db") }

func (r *rebuilding) build(ctx context.Context) error {
	from := r.From
	if from == "" {
		from = r.path("journal")
	}
	made, err := db.Rebuild(ctx, db.RebuildOptions{
		Journal: from, Path: r.fresh(), Log: r.log, Now: r.now,
		Progress: func(done, total int64) { r.tell(RebuildProgress{"records", done, total}) },
	})
	r.report.Damaged = append([]string{}, made.Damaged...)
	r.report.MissingNames = []storage.Ref{}
	if problem.KindOf(err) == problem.Damaged && r.AcceptLoss && r.From == "" {
		r.report.Lost = "Nothing of the journal can be read. The box begins with an empty catalogue."
		return nil // verify makes it
	}
	if err != nil {
		return err
	}
	r.report.Number, r.report.Replayed, r.report.Generation = made.Number, made.Replayed, made.Generation
	r.report.Differences, r.report.Lost = made.Differences, made.Lost
	if !made.Time.IsZero() {
		when := made.Time.UTC()
		r.report.LastChange = &when
	}
	return nil
}

// same reports whether sound records are to stay: they are what the journal says,
// or newer. A byte of a name that was changed on the disk shows here, where nothing
// else sees it; the journal has each byte twice and under a checksum.
func (r *rebuilding) same(ctx context.Context, number int64) (bool, error) {
	if r.report.Number < number {
		r.log.Info("the records are newer than their journal and in good order: they stay")
		return true, nil
	}
	have, err := db.Digest(ctx, r.path("box.db"))
	if err != nil {
		return false, nil // found damaged late
	}
	want, err := db.Digest(ctx, r.fresh())
	if err != nil {
		return false, err
	}
	equal := len(have) == len(want)
	for table, sum := range want {
		if have[table] != sum {
			r.log.Warn("a table of the records is not what the journal says", "table", table)
			equal = false
		}
	}
	return equal, nil
}

// verify holds the new records against themselves and the volume.
func (r *rebuilding) verify(ctx context.Context) (err error) {
	// Without a journal, and only to read: what would be written now is no transaction
	// of the box.
	d, err := db.Open(ctx, db.Options{Path: r.fresh(), BackupDir: r.path("backup"), Log: r.log, Now: r.now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log := audit.New(d)
	acts, err := log.Verify(ctx)
	if err != nil {
		return err
	}
	ledger, err := r.ledger(d, log)
	if err != nil {
		return err
	}
	consents, err := ledger.Verify(ctx)
	if err != nil {
		return err
	}
	for what, chain := range map[string]audit.Report{"audit record": acts, "ledger of consents": consents} {
		if chain.Bad != nil {
			r.log.Error("a chain does not hold", "chain", what, "entry", chain.Bad.Seq, "reason", chain.Bad.Reason)
			if !r.AcceptLoss {
				return &problem.Error{Kind: problem.Damaged, Op: "daemon.rebuild",
					Title:  "The rebuilt records do not hold",
					Detail: fmt.Sprintf("Entry %d of the %s is not what was written.", chain.Bad.Seq, what),
					Hint:   "Nothing was changed. Another journal may be whole: --from DIR. With --accept-loss this one is taken.",
				}
			}
		}
	}
	r.report.Acts, r.report.Consents = acts.Entries, consents.Entries
	if err := d.Read(ctx, func(tx *db.Tx) error {
		var volume string
		if err := tx.QueryRow(`SELECT (SELECT count(*) FROM user), (SELECT count(*) FROM item), coalesce((SELECT value FROM box WHERE key = 'volume'), ''),
			coalesce((SELECT CAST(value AS INTEGER) FROM box WHERE key = 'opened'), 0)`).
			Scan(&r.report.People, &r.report.Files, &volume, &r.opened); err != nil {
			return err
		}
		if volume != "" && volume != r.store.VolumeID() {
			return anotherBox(volume, r.store.VolumeID())
		}
		return r.contents(ctx, tx)
	}); err != nil {
		return err
	}
	r.spare = r.report.Found > 0 || r.report.Lost != "" || r.From != ""
	return nil
}

// markOrphans makes the next start find the records behind the volume: what they do
// not know is then no orphan, for good. See compareRecords.
func (r *rebuilding) markOrphans() error {
	if !r.spare {
		return nil
	}
	mark, err := readRecordsMark(r.disk)
	if err != nil {
		return nil // a damaged one has the same effect
	}
	if mark.opened = max(mark.opened, r.opened) + 1; mark.time.IsZero() {
		mark.time = r.now()
	}
	return vfs.WriteFile(r.disk, recordsFile, mark.marshal(), 0o600)
}

// contents compares the rows with the volume. Both come in the order of the hashes.
func (r *rebuilding) contents(ctx context.Context, tx *db.Tx) error {
	var total int64
	if err := tx.QueryRow(`SELECT blobs FROM blob_total`).Scan(&total); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT ref, size, dead IS NOT NULL FROM blob ORDER BY ref`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ref storage.Ref
	var size int64
	var dead bool
	next := func() (bool, error) {
		if !rows.Next() {
			return false, rows.Err()
		}
		var b []byte
		if err := rows.Scan(&b, &size, &dead); err != nil {
			return false, err
		}
		copy(ref[:], b)
		return true, nil
	}
	missing := func() {
		if dead {
			return
		}
		if r.report.Missing++; len(r.report.MissingNames) < maxMissing {
			r.report.MissingNames = append(r.report.MissingNames, ref)
		}
	}
	more, err := next()
	if err != nil {
		return err
	}
	var done int64
	for blob, err := range r.store.Refs(ctx) {
		if err != nil {
			return err
		}
		for more && slices.Compare(ref[:], blob.Ref[:]) < 0 {
			missing()
			if more, err = next(); err != nil {
				return err
			}
		}
		switch {
		case !more || ref != blob.Ref:
			r.report.Found++
			r.report.FoundBytes += blob.Size
			continue
		case size != blob.Size:
			missing()
		}
		if more, err = next(); err != nil {
			return err
		}
		if done++; done%1024 == 0 {
			r.tell(RebuildProgress{"contents", done, total})
		}
	}
	for more {
		missing()
		if more, err = next(); err != nil {
			return err
		}
	}
	return nil
}

// swap puts the new records in place. Until the last step a start finds none, or
// old ones behind their journal, and asks for a rebuild again.
func (r *rebuilding) swap() error {
	if err := r.markOrphans(); err != nil {
		return err
	}
	aside := r.path("damaged", r.now().UTC().Format("20060102T150405.000Z"))
	move := func(name string) error {
		if _, err := os.Lstat(r.path(name)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := os.MkdirAll(aside, 0o700); err != nil {
			return err
		}
		r.report.Kept = aside
		return os.Rename(r.path(name), filepath.Join(aside, name))
	}
	// The log first: SQLite would read it into another database of that name.
	for _, name := range []string{"box.db-wal", "box.db-shm", "box.db"} {
		if err := move(name); err != nil {
			return err
		}
	}
	for _, dir := range []string{aside, r.path("damaged"), r.conf.State} {
		if err := syncFolder(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(r.fresh(), r.path("box.db")); err != nil {
		return err
	}
	if err := syncFolder(r.conf.State); err != nil {
		return err
	}
	if r.report.Lost == "" && r.From == "" {
		return nil // the journal goes on
	}
	if err := move("journal"); err != nil {
		return err
	}
	return syncFolder(r.conf.State)
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// anotherBox is what is said about records of another volume.
func anotherBox(records, volume string) error {
	return &problem.Error{Kind: problem.Unavailable, Op: "daemon.open",
		Title:  "This is another box's disk",
		Detail: fmt.Sprintf("The records speak of volume %s, the disk is volume %s.", records, volume),
		Hint:   "Nothing was changed. Attach the right disk and start the box again."}
}

// refuseNewRecords keeps a box from beginning with empty records where there were
// some: nobody would know whose the files are.
func (b *Box) refuseNewRecords(ctx context.Context, disk vfs.FS) error {
	info, err := os.Stat(b.path("box.db"))
	if err == nil && info.Size() > 0 {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mark, err := readRecordsMark(disk)
	blobs := false
	if err == nil && mark.opened == 0 {
		blobs, err = b.hasBlobs(ctx)
	}
	if err == nil && mark.opened == 0 && !blobs {
		return nil
	}
	return &problem.Error{Kind: problem.Damaged, Op: "daemon.open", Err: err,
		Title:  "The box's catalogue is missing",
		Detail: "There was one on this volume. The files themselves are untouched.",
		Hint:   "Run `yunboxctl rebuild` on the box: it makes the catalogue anew from the journal beside it."}
}

// recordsState is what the status of the box says about its records.
func (b *Box) recordsState() api.RecordsState {
	j := b.db.Journal()
	s := api.RecordsState{OK: true, Number: j.Number, Generations: j.Generations, Newest: j.Newest.UTC(), LogBytes: j.Bytes}
	if err := errors.Join(b.db.Err(), j.Err); err != nil {
		text := err.Error()
		s.OK, s.Error = false, &text
	}
	return s
}

// noteRebuild writes into the audit record that the records were rebuilt.
func (b *Box) noteRebuild(ctx context.Context, report *RebuildReport) error {
	if report == nil || !report.Replaced {
		return nil
	}
	return b.db.Write(ctx, func(tx *db.Tx) error {
		if err := b.noteRebuilt(tx); err != nil {
			return err
		}
		return b.audit.Append(tx, audit.Event{Action: "records.rebuild", Via: "socket", Detail: map[string]string{
			"number": strconv.FormatInt(report.Number, 10), "lost": strconv.FormatBool(report.Lost != ""),
			"missing": strconv.FormatInt(report.Missing, 10), "found": strconv.FormatInt(report.Found, 10),
		}})
	})
}
