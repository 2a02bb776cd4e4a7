package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// Progress is how far a run or a verification is.
type Progress struct {
	Event string `json:"event"` // "progress"
	Phase string `json:"phase"` // copy, records, tidy, verify
	Done  int64  `json:"done"`  // contents that were dealt with
	All   int64  `json:"all"`   // 0: not known yet
	Bytes int64  `json:"bytes"` // that were copied or read
}

// Result says what a run did.
type Result struct {
	Event      string    `json:"event"` // "done"
	Name       string    `json:"name"`
	Generation int64     `json:"generation"`
	Time       time.Time `json:"time"` // of the state that can be restored
	Fresh      bool      `json:"fresh"`
	Contents   int64     `json:"contents"`
	Bytes      int64     `json:"bytes"`   // of them all, encrypted
	Copied     int64     `json:"copied"`  // contents
	Written    int64     `json:"written"` // bytes of them
	Removed    int       `json:"removed"` // files that nothing names any more
	Missing    int64     `json:"missing"` // contents that could not be copied
	Complete   bool      `json:"complete"`
	Error      string    `json:"error,omitempty"`
}

// RunNow brings the copy of that name up to date. Where there is nothing new it
// writes nothing. step may be nil.
func (b *Backup) RunNow(ctx context.Context, name string, step func(Progress)) (Result, error) {
	release, err := b.claim(ctx)
	if err != nil {
		return Result{}, err
	}
	defer release()
	t, err := b.Find(ctx, name)
	if err != nil {
		return Result{}, err
	}
	return b.run(ctx, t, "socket", step)
}

// run does a run and notes how it ended. The caller has claimed the copies.
func (b *Backup) run(ctx context.Context, t Target, via string, step func(Progress)) (Result, error) {
	r := &runner{b: b, t: t, ctx: ctx, via: via, paced: via != "socket", told: step}
	defer b.told("", nil)
	res, err := r.run()
	if err != nil && ctx.Err() == nil && !errors.Is(err, target.ErrAbsent) {
		err = errors.Join(err, b.failed(t, err))
	}
	return res, err
}

// told notes how far the copy with that id is.
func (b *Backup) told(id string, p *Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of != id {
		b.since = b.opt.Now()
	}
	b.of, b.now = id, p
}

func (b *Backup) failed(t Target, err error) error {
	p := problem.As(err)
	return b.opt.DB.Write(context.Background(), func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE backup_target SET failed = ?, reason = ? WHERE id = ?`, tx.Now.UnixMilli(), p.Title, t.ID)
		return err
	})
}

// mark is what the records say of themselves: it changes with everything that a
// person or an admin does. Uploads, moves and deletions raise the change numbers,
// decisions and administration the ledgers; what the box does by itself, such as
// sweeping and copying, is left out.
func mark(ctx context.Context, tx *db.Tx) ([]byte, error) {
	h := sha256.New()
	for _, query := range []string{
		`SELECT coalesce((SELECT seq FROM audit WHERE action NOT LIKE 'backup.%' ORDER BY seq DESC LIMIT 1), 0)`,
		`SELECT seq FROM consent_ledger_head`,
		`SELECT coalesce(sum(seq), 0) FROM usage`,
		`SELECT coalesce(sum(bytes), 0) + coalesce((SELECT max(id) FROM dav_property), 0) FROM dav_usage`,
		`SELECT coalesce(max(id), 0) + count(*) FROM inbox`,
		`SELECT count(*) + coalesce(max(id), 0) FROM token`,
	} {
		var n int64
		if err := tx.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return nil, err
		}
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	return h.Sum(nil), nil
}

func (b *Backup) mark(ctx context.Context) (m []byte, err error) {
	err = b.opt.DB.Read(ctx, func(tx *db.Tx) error {
		m, err = mark(ctx, tx)
		return err
	})
	return m, err
}

type runner struct {
	b     *Backup
	t     Target
	ctx   context.Context
	via   string
	paced bool // give others half of the time
	told  func(Progress)

	tt      *target.Target
	known   *target.Sorter // what lies on the target: names and sums
	damaged map[target.Name]bool
	prog    Progress
	last    time.Time // when progress was last told
	res     Result
}

func (r *runner) run() (Result, error) {
	r.res = Result{Event: "done", Name: r.t.Name}
	now, err := r.b.mark(r.ctx)
	if err != nil {
		return r.res, err
	}
	tt, done, err := r.b.open(r.t)
	if err != nil {
		return r.res, err
	}
	defer done()
	r.tt = tt
	newest, err := tt.Peek()
	if err != nil {
		return r.res, err
	}
	if newest.Number > 0 && newest.Number == r.t.Generation && string(now) == string(r.t.mark) && r.t.Damaged == 0 &&
		(r.t.settled || r.b.opt.Now().Sub(r.t.Run) < r.t.Every) {
		return r.result(newest), r.succeeded()
	}
	lock, err := tt.Lock()
	if err != nil {
		return r.res, err
	}
	defer lock.Close() //nolint:errcheck // an empty file
	if err := tt.Tidy(); err != nil {
		return r.res, err
	}
	gen, m, err := r.make()
	if err != nil {
		if gone := tt.Present(); gone != nil && r.ctx.Err() == nil {
			return r.res, gone // it was pulled out meanwhile
		}
		return r.res, err
	}
	r.res.Fresh = true
	if err := r.note(gen); err != nil {
		return r.result(gen), err
	}
	r.step("tidy", 0)
	if r.res.Removed, err = tt.Drop(r.ctx, gen); err != nil {
		return r.result(gen), err
	}
	return r.result(gen), r.finish(m)
}

func (r *runner) result(g target.Generation) Result {
	r.res.Generation, r.res.Time = g.Number, g.Time
	r.res.Contents, r.res.Bytes, r.res.Missing = g.Contents, g.Bytes, g.Missing
	r.res.Complete = g.Missing == 0
	return r.res
}

// succeeded clears an older failure. It writes only if there was one.
func (r *runner) succeeded() error {
	if r.t.Failed.IsZero() {
		return nil
	}
	return r.b.opt.DB.Write(r.ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE backup_target SET failed = NULL, reason = '' WHERE id = ?`, r.t.ID)
		return err
	})
}

// note writes down that a generation was made. Until finish it counts as one that
// another has to follow.
func (r *runner) note(g target.Generation) error {
	return r.b.opt.DB.Write(context.WithoutCancel(r.ctx), func(tx *db.Tx) error {
		if _, err := tx.Exec(`UPDATE backup_target SET run = ?, generation = ?, mark = NULL, settled = 0, contents = ?, bytes = ?, missing = ?, failed = NULL, reason = '' WHERE id = ?`,
			tx.Now.UnixMilli(), g.Number, g.Contents, g.Bytes, g.Missing, r.t.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM backup_damage WHERE target = ?`, r.t.ID); err != nil {
			return err
		}
		if r.b.opt.Left != nil {
			if err := r.b.opt.Left(tx, r.t.ID); err != nil {
				return err
			}
		}
		return r.b.opt.Audit.Append(tx, audit.Event{Action: "backup.run", Object: r.t.ID, Via: r.via, Detail: map[string]string{
			"generation": fmt.Sprint(g.Number), "contents": fmt.Sprint(g.Contents), "copied": fmt.Sprint(r.res.Copied), "missing": fmt.Sprint(g.Missing)}})
	})
}

// finish writes down that nothing superfluous is left on the target.
func (r *runner) finish(m []byte) error {
	settled := string(m) == string(r.t.mark) // the generation before has nothing that this one has not
	return r.b.opt.DB.Write(context.WithoutCancel(r.ctx), func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE backup_target SET mark = ?, settled = ? WHERE id = ?`, m, settled, r.t.ID)
		return err
	})
}

// scratch is where snapshots and sorted runs lie for as long as a run takes.
func (b *Backup) scratch() string { return filepath.Join(b.opt.State, "backup") }

// make copies what is new and makes a generation. The contents come first and the
// records after them, so that the records never speak of a content that is not
// there; what came in between is copied then.
func (r *runner) make() (gen target.Generation, m []byte, err error) {
	if err := vfs.CreateDir(r.b.scratch()); err != nil {
		return gen, nil, err
	}
	r.known = target.NewSorter(r.b.scratch())
	defer func() { err = errors.Join(err, r.known.Close()) }()
	if err := r.load(); err != nil {
		return gen, nil, err
	}
	if err := r.pass(func(want *target.Sorter) error {
		return r.b.opt.DB.Read(r.ctx, func(tx *db.Tx) error { return r.wanted(tx, want) })
	}, nil); err != nil {
		return gen, nil, err
	}
	for try := 1; ; try++ {
		gen, m, err = r.generation()
		if !errors.Is(err, errVanished) {
			return gen, m, err
		}
		if try == 5 {
			return gen, nil, &problem.Error{Kind: problem.Conflict, Op: "backup.run", Title: "Files are being deleted all the time",
				Detail: "Each copy of the records spoke of files that were gone a moment later.", Hint: "The box tries again by itself."}
		}
	}
}

// load reads what lies on the target already, and what of it is damaged.
func (r *runner) load() error {
	good, _, err := r.tt.Generations()
	if err != nil {
		return err
	}
	// The older one, too: what was deleted and came back is not written over while a
	// generation has its checksum.
	for _, g := range slices.Backward(good) {
		for e, err := range r.tt.Contents(g) {
			if err != nil {
				// What cannot be read back cannot be built on: it is written anew.
				r.b.log.Warn("a generation of a second copy cannot be read; contents that only it names are copied again", "copy", r.t.ID, "err", err)
				break
			}
			if err := r.know(e); err != nil {
				return err
			}
		}
	}
	if err := r.tt.Copied(r.know); err != nil {
		return err
	}
	r.damaged = map[target.Name]bool{}
	return r.b.opt.DB.Read(r.ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(r.ctx, `SELECT name FROM backup_damage WHERE target = ?`, r.t.ID)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name []byte
			if err := rows.Scan(&name); err != nil {
				return err
			}
			r.damaged[target.Name(name)] = true
		}
		return rows.Err()
	})
}

func (r *runner) know(e target.Entry) error {
	return r.known.Add(target.Record{Name: e.Name, Value: e.Sum, Size: e.Size})
}

var errVanished = errors.New("a content vanished after the records were copied")

// generation copies the records, then what they speak of and is not there yet, and
// seals both.
func (r *runner) generation() (gen target.Generation, m []byte, err error) {
	path := filepath.Join(r.b.scratch(), snapshot)
	if err := removeSnapshot(path); err != nil {
		return gen, nil, err
	}
	r.step("records", 0)
	when := r.b.opt.Now()
	if err := r.b.opt.DB.Backup(r.ctx, path); err != nil {
		return gen, nil, err
	}
	defer func() { err = errors.Join(err, removeSnapshot(path)) }()
	w, err := r.tt.Begin(r.ctx, when)
	if err != nil {
		return gen, nil, err
	}
	defer w.Close()
	err = db.ReadCopy(r.ctx, path, func(tx *db.Tx) error {
		if m, err = mark(r.ctx, tx); err != nil {
			return err
		}
		if err := r.pass(func(want *target.Sorter) error { return r.wanted(tx, want) }, w); err != nil {
			return err
		}
		return w.File(target.FilesFile, func(out io.Writer) error { return names(r.ctx, tx, out) })
	})
	if err != nil {
		return gen, nil, err
	}
	if err := w.File(target.DatabaseFile, func(out io.Writer) error { return r.copyFile(path, out) }); err != nil {
		return gen, nil, err
	}
	files, err := r.state()
	if err != nil {
		return gen, nil, err
	}
	if err := w.File(target.StateFile, func(out io.Writer) error { return target.WriteState(out, files, when) }); err != nil {
		return gen, nil, err
	}
	gen, err = w.Seal()
	return gen, m, err
}

func removeSnapshot(path string) error {
	for _, name := range []string{path, path + ".part"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *runner) copyFile(path string, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	_, err = io.CopyBuffer(out, struct{ io.Reader }{f}, make([]byte, 128<<10))
	return err
}

// state is what belongs to a box beside its records and contents: its keys, among
// them that of this copy, its settings, and the identity of its volume.
func (r *runner) state() (map[string][]byte, error) {
	opt := r.b.opt
	volume, err := vfs.ReadFile(opt.Disk, "VOLUME")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"VOLUME": volume}
	list, err := opt.Keys.ReadDir(".")
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if !e.Type().IsRegular() || strings.HasSuffix(e.Name(), ".new") {
			continue
		}
		data, err := vfs.ReadFile(opt.Keys, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the keys of somebody who has left this moment
		}
		if err != nil {
			return nil, err
		}
		files["keys/"+e.Name()] = data
	}
	if opt.Config != nil {
		settings, err := opt.Config()
		if err != nil {
			return nil, err
		}
		if settings != nil {
			files["config.toml"] = settings
		}
	}
	return files, nil
}

// names lists the files of all people, for whoever reads the copy without us.
func names(ctx context.Context, tx *db.Tx, out io.Writer) error {
	rows, err := tx.QueryContext(ctx, `SELECT i.ref, u.username, f.path, i.name FROM folder AS f CROSS JOIN user AS u ON u.id = f.user CROSS JOIN item AS i ON i.folder = f.id
		ORDER BY f.user, f.path, i.name`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var ref []byte
		var user, folder, name string
		if err := rows.Scan(&ref, &user, &folder, &name); err != nil {
			return err
		}
		if folder != "" {
			folder += "/"
		}
		if _, err := fmt.Fprintf(out, "%x  %s/%s%s\n", ref, user, folder, name); err != nil {
			return err
		}
	}
	return rows.Err()
}

// pass goes through all contents that the records keep, in the order of their
// names on the target, and copies those that are not there. w, if not nil, gets
// them all; else those that cannot be copied are left for the pass that has it.
func (r *runner) pass(ask func(*target.Sorter) error, w *target.Writer) (err error) {
	want := target.NewSorter(r.b.scratch())
	defer func() { err = errors.Join(err, want.Close()) }()
	if err := ask(want); err != nil {
		return err
	}
	fresh := target.NewSorter(r.b.scratch())
	defer func() { err = errors.Join(err, fresh.Close()) }()
	c := r.tt.NewCopier()
	defer func() { err = errors.Join(err, c.Close()) }()
	known := newFollower(r.known)
	defer known.stop()
	for rec, err := range want.All() {
		if err != nil {
			return err
		}
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		e, err := r.content(c, known, rec, w)
		if err != nil {
			return err
		}
		if e.fresh {
			if err := fresh.Add(target.Record{Name: e.Name, Value: e.Sum, Size: e.Size}); err != nil {
				return err
			}
		}
		if w != nil && e.ok {
			if err := w.Content(e.Entry); err != nil {
				return err
			}
		}
		r.prog.Done++
		r.step("copy", 0)
	}
	if err := c.Flush(); err != nil {
		return err
	}
	known.stop()
	for rec, err := range fresh.All() {
		if err != nil {
			return err
		}
		delete(r.damaged, rec.Name)
		if err := r.known.Add(rec); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) wanted(tx *db.Tx, want *target.Sorter) error {
	rows, err := tx.QueryContext(r.ctx, `SELECT ref, size FROM blob WHERE dead IS NULL`)
	if err != nil {
		return err
	}
	defer rows.Close()
	r.prog.Done, r.prog.All = 0, 0
	for rows.Next() {
		var ref []byte
		var size int64
		if err := rows.Scan(&ref, &size); err != nil {
			return err
		}
		if err := want.Add(target.Record{Name: r.tt.Name(storage.Ref(ref)), Value: [32]byte(ref), Size: size}); err != nil {
			return err
		}
		r.prog.All++
	}
	return rows.Err()
}

type copied struct {
	target.Entry
	ok    bool // it is on the target
	fresh bool // it was copied now
}

// content sees to it that one content is on the target.
func (r *runner) content(c *target.Copier, known *follower, rec target.Record, w *target.Writer) (copied, error) {
	ref := storage.Ref(rec.Value)
	k, ok, err := known.at(rec.Name)
	if err != nil {
		return copied{}, err
	}
	there, err := c.Has(rec.Name)
	if err != nil {
		return copied{}, err
	}
	old := copied{Entry: target.Entry{Name: rec.Name, Ref: ref, Sum: k.Value, Size: k.Size}, ok: ok && there}
	if old.ok && !r.damaged[rec.Name] {
		return old, nil
	}
	e, err := r.put(c, ref)
	switch {
	case err == nil:
		return copied{Entry: e, ok: true, fresh: true}, nil
	case !errors.Is(err, target.ErrSource) && !errors.Is(err, storage.ErrNotFound):
		return copied{}, err
	case w == nil:
		return copied{}, nil // asked again, and told, by the pass that makes the generation
	case old.ok:
		return old, nil // better a damaged one in both places than in none
	}
	return copied{}, r.missing(w, ref, rec.Size, err)
}

func (r *runner) put(c *target.Copier, ref storage.Ref) (target.Entry, error) {
	blob, err := r.b.opt.Store.Get(r.ctx, ref)
	if err != nil {
		return target.Entry{}, err
	}
	defer blob.Close() //nolint:errcheck // read only
	e, err := c.Put(r.ctx, ref, &pacer{r: r, from: blob, began: time.Now()})
	if err == nil {
		r.res.Copied++
		r.res.Written += e.Size
	}
	return e, err
}

// missing tells a content that the box lost from one that a person deleted after
// the records were copied.
func (r *runner) missing(w *target.Writer, ref storage.Ref, size int64, cause error) error {
	var live bool
	if err := r.b.opt.DB.Read(r.ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM blob WHERE ref = ? AND dead IS NULL)`, ref[:]).Scan(&live)
	}); err != nil {
		return err
	}
	if !live {
		return errVanished
	}
	w.Missing()
	r.b.log.Error("a content cannot be copied to the second copy", "ref", ref, "err", cause)
	if r.b.opt.Doubt == nil {
		return nil
	}
	return r.b.opt.Doubt(r.ctx, ref, size)
}

// step tells how far the run is, at most twice a second.
func (r *runner) step(phase string, read int64) {
	r.prog.Bytes += read
	if phase == r.prog.Phase && time.Since(r.last) < 500*time.Millisecond {
		return
	}
	r.prog.Event, r.prog.Phase, r.last = "progress", phase, time.Now()
	p := r.prog
	r.b.told(r.t.ID, &p)
	if r.told != nil {
		r.told(p)
	}
}

// pacer reads a content for a run that nobody waits for: after each piece it rests
// as long as that took, and while the box is busy much longer.
type pacer struct {
	r     *runner
	from  io.Reader
	began time.Time
}

const maxRest = time.Second

func (p *pacer) Read(buf []byte) (int, error) {
	if p.r.paced {
		rest := min(time.Since(p.began), maxRest)
		if p.r.b.opt.Busy() {
			rest = min(4*rest, maxRest)
		}
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-p.r.ctx.Done():
			timer.Stop()
			return 0, context.Cause(p.r.ctx)
		}
	}
	p.began = time.Now()
	n, err := p.from.Read(buf)
	p.r.step("copy", int64(n))
	return n, err
}

// follower reads a sorter beside another that has the same order.
type follower struct {
	next func() (target.Record, error, bool)
	stop func()
	rec  target.Record
	ok   bool // rec is not used up
}

func newFollower(s *target.Sorter) *follower {
	next, stop := iter.Pull2(s.All())
	return &follower{next: next, stop: stop}
}

// at returns the record of that name. Names are asked for in order.
func (f *follower) at(n target.Name) (target.Record, bool, error) {
	for {
		if !f.ok {
			rec, err, more := f.next()
			if !more {
				return target.Record{}, false, nil
			}
			if err != nil {
				return target.Record{}, false, err
			}
			f.rec, f.ok = rec, true
		}
		switch c := f.rec.Name.Compare(n); {
		case c < 0:
			f.ok = false
		case c == 0:
			f.ok = false
			return f.rec, true, nil
		default:
			return target.Record{}, false, nil
		}
	}
}
