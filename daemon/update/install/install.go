// Package install puts a release in place as root, tries it, and keeps it or goes back.
//
// It is run by the release that the box had before, never by the one that is tried. What
// it is about to do is durable before it does it, so that after a kill or a power cut it
// goes on, or back: see docs/update.md for the steps and docs/decisions/0036.
package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update/bundle"
	"yunbox.local/storage/vfs"
)

// Names in the folder of the software.
const (
	Current  = "current" // a symbolic link to the release that is to run
	Releases = "releases"
	Packaged = "releases/packaged" // the release that the package brought
	updater  = "updater"           // a symbolic link to the newest release that was kept

	own      = "update" // the updater's own notes
	stepFile = own + "/step.json"
	keptFile = own + "/kept.json"
	triesOf  = own + "/tries.json"
	keyFile  = own + "/keys"
	lockFile = own + "/lock"
)

// Names in the box's state directory.
const (
	Dir          = "update"
	BundleFile   = Dir + "/bundle.yup"  // verified by the daemon, waits to be installed
	OfferedFile  = Dir + "/offered.yup" // what the box has, for others
	RequestFile  = Dir + "/request"     // a Request; the service manager waits for it
	TrialFile    = Dir + "/trial"       // a Trial: the daemon that starts is on trial
	HealthFile   = Dir + "/health"      // a Health, by the daemon that is on trial
	ResultFile   = Dir + "/result"      // a Result
	KeptFile     = Dir + "/kept"        // a Kept
	RestoreMark  = Dir + "/restoring"   // the records are being put back: no daemon may start
	records      = Dir + "/records"     // as they were before the trial
	recordsPart  = Dir + "/records.part"
	databaseFile = "box.db"
	journalDir   = "journal"
)

// What a Request may ask for.
const (
	Install  = "install"
	Rollback = "rollback"
)

// A Request asks the updater for something.
type Request struct {
	ID     string `json:"id"`
	Action string `json:"action"`
}

// Trial tells a daemon that it is on trial.
type Trial struct {
	ID string `json:"id"`
	// Closed: the records moved to another schema, and would be put back: nothing may be
	// taken from anybody before the trial is over.
	Closed bool `json:"closed"`
}

// Health is what the daemon on trial found out about itself.
type Health struct {
	ID      string `json:"id"`
	Counter int64  `json:"counter"` // of the release that speaks
	OK      bool   `json:"ok"`
	Failed  string `json:"failed"` // the check that did, a word
}

// How a Request ended.
const (
	OutcomeKept    = "kept"
	OutcomeBack    = "back"    // the version before runs again
	OutcomeRefused = "refused" // nothing was changed
)

// Result is how a Request ended.
type Result struct {
	ID      string `json:"id"`
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	Version string `json:"version"` // that was to be installed; "": not known
	Counter int64  `json:"counter"`
	Runs    string `json:"runs"` // the version that runs now
	// Why is a word where Outcome is "back", else empty; Title, Detail and Hint are the
	// problem where it is "refused".
	Why    string `json:"why,omitempty"`
	Title  string `json:"title,omitempty"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// Kept is what holds for all releases to come.
type Kept struct {
	Highest  int64  `json:"highest"` // counter of a release that was kept
	Floor    int64  `json:"floor"`
	Previous string `json:"previous"` // folder of the release before
}

// The phases of an update that was begun. Before there is one, nothing but new files
// was made.
const (
	phaseSave  = "save"  // the daemon is stopped, its records are copied
	phaseTrial = "trial" // the new release runs, or is about to
	phaseKeep  = "keep"  // it passed
	phaseBack  = "back"  // it did not
)

// step is what is done now.
type step struct {
	Request
	Phase   string `json:"phase"`
	From    string `json:"from"` // folders of releases
	To      string `json:"to"`
	Version string `json:"version"`
	Counter int64  `json:"counter"`
	Floor   int64  `json:"floor"`
	Moves   bool   `json:"moves"` // the schema of the records
	Tries   int    `json:"tries"` // of the trial
	Why     string `json:"why"`
}

// Tree is a folder that can hold symbolic links: vfs.Dir, and in tests a disk that
// loses power.
type Tree interface {
	vfs.FS
	Symlink(target, name string) error
	Readlink(name string) (string, error)
}

// Services starts and stops the daemon: systemd, and in tests something quicker.
type Services interface {
	// Stop stops the daemon and has nothing start it.
	Stop(context.Context) error
	// Start starts it, and whatever failed before counts no more.
	Start(context.Context) error
	// Restart starts the release that is current now; no connection is refused meanwhile.
	Restart(context.Context) error
	// Alive names the running process, "" if there is none; failed: it will not be
	// started again by itself.
	Alive(context.Context) (process string, failed bool, err error)
}

// Options of New. All but Log are needed.
type Options struct {
	Base     Tree   // the folder of the software, root's own
	State    vfs.FS // the box's state directory
	Services Services
	Trust    bundle.Trust
	// Give makes a file of the state directory one of the daemon's user.
	Give func(name string) error
	Log  *slog.Logger

	// Patience is how long a release may take to be healthy, Stay how long it must then
	// go on; Pause lies between two looks.
	Patience, Stay, Pause time.Duration
	Sleep                 func(context.Context, time.Duration)
	Now                   func() time.Time
}

// Times of a trial where Options say none.
const (
	DefaultPatience = 90 * time.Second
	DefaultStay     = 20 * time.Second
	defaultPause    = 250 * time.Millisecond
	// mostTries of one request: something ends the updater, or the box, again and again.
	mostTries = 3
)

// Updater does one thing at a time.
type Updater struct{ Options }

// New makes an updater.
func New(opt Options) *Updater {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Patience == 0 {
		opt.Patience = DefaultPatience
	}
	if opt.Stay == 0 {
		opt.Stay = DefaultStay
	}
	if opt.Pause == 0 {
		opt.Pause = defaultPause
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Sleep == nil {
		opt.Sleep = func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		}
	}
	return &Updater{opt}
}

// Run goes on with what was begun, or does what is asked for. A release that does not
// fit or does not work is no error: the Result says so. An error leaves the step where
// it is, for the next Run.
func (u *Updater) Run(ctx context.Context) error {
	unlock, err := u.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := u.readStep()
	if err != nil {
		return err
	}
	switch s.Phase {
	case phaseTrial:
		return u.tryAgain(ctx, s)
	case phaseKeep:
		return u.keep(ctx, s)
	case phaseBack:
		return u.back(ctx, s)
	case phaseSave:
		// The release is in place, the records were being copied: from the beginning.
		if err := u.Services.Start(ctx); err != nil {
			return err
		}
		if err := u.forgetStep(); err != nil {
			return err
		}
	}
	if err := u.tidy(); err != nil {
		return err
	}
	return u.begin(ctx)
}

// Recover is what must be done at boot before the daemon starts, by which nothing is
// started: it finishes going back, and ends a trial that the box did not survive twice.
func (u *Updater) Recover(ctx context.Context) error {
	unlock, err := u.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := u.readStep()
	if err != nil {
		return err
	}
	u.Services = idle{}
	switch s.Phase {
	case phaseTrial:
		if s.Tries < mostTries {
			return errors.Join(u.link(Current, s.To), u.tellTrial(s)) // Run counts the try
		}
		s.Why = "restarts"
		return u.turnBack(ctx, s)
	case phaseKeep:
		return u.keep(ctx, s)
	case phaseBack:
		return u.back(ctx, s)
	case phaseSave:
		return u.forgetStep()
	}
	return u.tidy()
}

// idle starts nothing: the boot does.
type idle struct{}

func (idle) Stop(context.Context) error                  { return nil }
func (idle) Start(context.Context) error                 { return nil }
func (idle) Restart(context.Context) error               { return nil }
func (idle) Alive(context.Context) (string, bool, error) { return "", false, nil }

func (u *Updater) lock() (unlock func(), err error) {
	if err := mkdir(u.Base, own, 0o755); err != nil {
		return nil, err
	}
	l, err := u.Base.Lock(lockFile)
	if err != nil {
		return nil, fmt.Errorf("update: another updater runs: %w", err)
	}
	return func() { _ = l.Close() }, nil
}

// begin does what is asked for.
func (u *Updater) begin(ctx context.Context) error {
	var req Request
	if ok, err := ReadJSON(u.State, RequestFile, &req); err != nil || !ok {
		return err
	}
	s := step{Request: req}
	err := u.count(req)
	if err == nil {
		err = u.prepare(ctx, &s)
	}
	if err != nil {
		var p *problem.Error
		if ctx.Err() == nil && errors.As(err, &p) {
			return u.refused(s, p)
		}
		return err
	}
	if s.Moves {
		s.Phase = phaseSave
		if err := u.note(s); err != nil {
			return err
		}
		if err := u.Services.Stop(ctx); err != nil {
			return err
		}
		if err := u.saveRecords(); err != nil {
			// Nothing has moved yet.
			var p *problem.Error
			if !errors.As(err, &p) {
				return err
			}
			return errors.Join(u.refused(s, p), u.Services.Start(ctx), u.forgetStep())
		}
	}
	s.Phase = phaseTrial
	return u.try(ctx, s)
}

// count refuses a request that ends the updater again and again.
func (u *Updater) count(req Request) error {
	var tries struct {
		ID string `json:"id"`
		N  int    `json:"n"`
	}
	if _, err := ReadJSON(u.Base, triesOf, &tries); err != nil {
		return err
	}
	if tries.ID != req.ID {
		tries.ID, tries.N = req.ID, 0
	}
	if tries.N++; tries.N > mostTries {
		return &problem.Error{Kind: problem.Internal, Op: "update", Title: "The update was interrupted again and again",
			Detail: "It was begun three times and ended three times before it was in place.", Hint: "Nothing was changed. Look at the system's log, then ask for it again."}
	}
	return writeJSON(u.Base, triesOf, tries, 0o644)
}

// prepare puts the release beside the others, whole and durable, or finds the one
// before.
func (u *Updater) prepare(ctx context.Context, s *step) error {
	now, from, err := u.current()
	if err != nil {
		return err
	}
	s.From = from
	kept, err := u.kept()
	if err != nil {
		return err
	}
	kept.Highest = max(kept.Highest, now.Counter)
	if s.Action == Rollback {
		return u.prepareRollback(s, now, kept)
	}
	return u.unpack(ctx, s, now, kept)
}

// current reads the release that runs.
func (u *Updater) current() (r bundle.Release, dir string, err error) {
	dir, err = u.Base.Readlink(Current)
	if err != nil {
		return r, "", err
	}
	if !fs.ValidPath(dir) || path.Dir(dir) != Releases {
		return r, "", fmt.Errorf("update: %s points to %q", Current, dir)
	}
	r, err = u.release(dir)
	return r, dir, err
}

func (u *Updater) release(dir string) (bundle.Release, error) {
	text, err := vfs.ReadFile(u.Base, dir+"/"+bundle.ReleaseFile)
	if err != nil {
		return bundle.Release{}, err
	}
	return bundle.ParseRelease(text)
}

func (u *Updater) kept() (k Kept, err error) {
	_, err = ReadJSON(u.Base, keptFile, &k)
	return k, err
}

func (u *Updater) prepareRollback(s *step, now bundle.Release, kept Kept) error {
	var r bundle.Release
	var err error
	if kept.Previous != "" {
		r, err = u.release(kept.Previous)
	}
	if kept.Previous == "" || kept.Previous == s.From || errors.Is(err, fs.ErrNotExist) {
		return &problem.Error{Kind: problem.NotFound, Op: "update.rollback", Title: "There is no version to go back to",
			Detail: "The box keeps the one before, and has had none.", Hint: "Nothing was changed."}
	} else if err != nil {
		return err
	}
	s.To, s.Version, s.Counter = kept.Previous, r.Version, r.Counter
	switch {
	case r.Counter < kept.Floor:
		return &problem.Error{Kind: problem.Conflict, Op: "update.rollback", Title: "The version before is not safe any more",
			Detail: "A hole in it was closed since.", Hint: "Nothing was changed. Stay with this version."}
	case r.MaxSchema != now.MaxSchema:
		return &problem.Error{Kind: problem.Conflict, Op: "update.rollback", Title: "The version before cannot read the records any more",
			Detail: "They were moved, and what came since would be lost.", Hint: "Nothing was changed. Stay with this version, or take a newer one."}
	}
	return nil
}

// unpack verifies the bundle while it unpacks it into a folder that nothing uses, and
// gives that its name only then.
func (u *Updater) unpack(ctx context.Context, s *step, now bundle.Release, kept Kept) error {
	f, err := u.State.OpenFile(BundleFile, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &problem.Error{Kind: problem.NotFound, Op: "update.install", Title: "No update is waiting", Hint: "Nothing was changed. Give the box the file again."}
	} else if err != nil {
		return err
	}
	defer f.Close()
	trust := u.Trust
	if trust.List, err = vfs.ReadFile(u.Base, keyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := bundle.Open(&until{ctx, f}, trust)
	if err != nil {
		return err
	}
	s.Version, s.Counter, s.Floor = r.Header.Version, r.Header.Counter, r.Header.SecurityFloor
	s.Moves = r.Header.MaxSchema != now.MaxSchema
	s.To = fmt.Sprintf("%s/%d", Releases, r.Header.Counter)
	if err := r.Header.Fits(bundle.Box{Arch: now.Arch, Counter: now.Counter, Highest: kept.Highest, Floor: kept.Floor, Schema: now.MaxSchema}); err != nil {
		return err
	}
	if s.To == s.From {
		return fmt.Errorf("update: %s is the release that runs", s.To)
	}
	if err := u.room(s.Moves, r.Header.Size); err != nil {
		return err
	}
	part := s.To + ".part"
	for _, dir := range []string{part, s.To} {
		if err := removeAll(u.Base, dir); err != nil {
			return err
		}
	}
	if err := u.Base.Mkdir(part, 0o755); err != nil {
		return full(err)
	}
	var text []byte
	err = r.Unpack(func(name string, mode, size int64, content io.Reader) error {
		return u.unpackFile(part+"/"+name, fs.FileMode(mode), content)
	})
	if err == nil {
		text, err = vfs.ReadFile(u.Base, part+"/"+bundle.ReleaseFile)
	}
	var said bundle.Release
	if err == nil {
		said, err = bundle.ParseRelease(text)
	}
	if err == nil {
		err = r.Header.Describes(said)
	}
	if err != nil {
		return errors.Join(full(err), removeAll(u.Base, part))
	}
	if err := u.Base.SyncDir(part); err != nil {
		return err
	}
	if err := u.Base.Rename(part, s.To); err != nil {
		return err
	}
	if err := u.Base.SyncDir(Releases); err != nil {
		return err
	}
	return vfs.WriteFile(u.Base, keyFile+".new", r.KeyListFile, 0o644)
}

func (u *Updater) unpackFile(name string, mode fs.FileMode, content io.Reader) error {
	f, err := u.Base.OpenFile(name, vfs.CreateNew, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, make([]byte, 1<<20))
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// room refuses before anything is written where it would not fit: programs shrink to a
// third and more, the records lie there three times for a while.
func (u *Updater) room(moves bool, payload int64) error {
	space, err := u.Base.Space()
	if err != nil {
		return err
	}
	if space.Free < 5*payload {
		return noRoom(5*payload - space.Free)
	}
	if !moves {
		return nil
	}
	size, err := u.recordsSize()
	if err != nil {
		return err
	}
	if space, err = u.State.Space(); err == nil && space.Free < 3*size+(16<<20) {
		return noRoom(3*size + (16 << 20) - space.Free)
	}
	return err
}

func noRoom(n int64) error {
	return &problem.Error{Kind: problem.Full, Op: "update.install", Title: "There is no room for the update",
		Detail: problem.Bytes(n) + " more are needed.", Hint: "Nothing was changed. Make room, then try again."}
}

func full(err error) error {
	if vfs.IsFull(err) {
		return errors.Join(noRoom(1<<20), err)
	}
	return err
}

// refused ends a request by which nothing was changed.
func (u *Updater) refused(s step, p *problem.Error) error {
	u.Log.Warn("the update was refused", "title", p.Title, "detail", p.Detail)
	now, _, err := u.current()
	if err != nil {
		u.Log.Warn("what the release that runs says of itself cannot be read", "err", err)
	}
	p = problem.As(p)
	res := Result{ID: s.ID, Action: s.Action, Outcome: OutcomeRefused, Version: s.Version, Counter: s.Counter, Runs: now.Version, Title: p.Title, Detail: p.Detail, Hint: p.Hint}
	return u.end(res, s.Action == Install)
}

// end says how it went and takes the request away.
func (u *Updater) end(r Result, drop bool) error {
	if err := writeJSON(u.State, ResultFile, r, 0o644); err != nil {
		return err
	}
	names := []string{RequestFile, HealthFile}
	if drop {
		names = append(names, BundleFile)
	}
	for _, name := range names {
		if err := remove(u.State, name); err != nil {
			return err
		}
	}
	return u.State.SyncDir(Dir)
}

// open ends the trial for the daemon: it opens to everybody.
func (u *Updater) open() error {
	if err := remove(u.State, TrialFile); err != nil {
		return err
	}
	return u.State.SyncDir(Dir)
}

// tidy clears what a power cut left of a step that is over: a daemon that is closed for
// nothing, a copy of the records that nobody needs.
func (u *Updater) tidy() error {
	for _, name := range []string{records, recordsPart} {
		if err := removeAll(u.State, name); err != nil {
			return err
		}
	}
	if _, err := u.State.Stat(TrialFile); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return u.open()
}

// note makes a step durable before it is done.
func (u *Updater) note(s step) error {
	u.Log.Info("update", "phase", s.Phase, "from", s.From, "to", s.To, "moves", s.Moves, "tries", s.Tries)
	return writeJSON(u.Base, stepFile, s, 0o644)
}

// readStep reads the step and has what it saw be durable: an updater that was killed may
// have written or removed the file without the name's being so, and what is done next
// must not outlive what it rests on.
func (u *Updater) readStep() (s step, err error) {
	if _, err := ReadJSON(u.Base, stepFile, &s); err != nil {
		return s, err
	}
	return s, u.Base.SyncDir(own)
}

func (u *Updater) forgetStep() error {
	if err := remove(u.Base, stepFile); err != nil {
		return err
	}
	return u.Base.SyncDir(own)
}

// link points a symbolic link elsewhere, at once and durably.
func (u *Updater) link(name, target string) error {
	if is, err := u.Base.Readlink(name); err == nil && is == target {
		return u.Base.SyncDir(".")
	}
	if err := remove(u.Base, name+".new"); err != nil {
		return err
	}
	if err := u.Base.Symlink(target, name+".new"); err != nil {
		return err
	}
	if err := u.Base.Rename(name+".new", name); err != nil {
		return err
	}
	return u.Base.SyncDir(".")
}

// until ends reading with the context.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// ReadJSON reads what was noted under name into into; false: there is no such file.
func ReadJSON(fsys vfs.FS, name string, into any) (ok bool, err error) {
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return false, fmt.Errorf("update: %s: %w", name, err)
	}
	return true, nil
}

func writeJSON(fsys vfs.FS, name string, v any, perm fs.FileMode) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return vfs.WriteFile(fsys, name, append(b, '\n'), perm)
}

func mkdir(fsys vfs.FS, name string, perm fs.FileMode) error {
	if err := fsys.Mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

func remove(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeAll removes a folder of files, or what is left of one.
func removeAll(fsys vfs.FS, name string) error {
	list, err := fsys.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range list {
		at := name + "/" + e.Name()
		if e.IsDir() {
			err = removeAll(fsys, at)
		} else {
			err = remove(fsys, at)
		}
		if err != nil {
			return err
		}
	}
	if err := remove(fsys, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

func isTemporary(name string) bool {
	return strings.HasSuffix(name, ".part") || strings.HasSuffix(name, ".new")
}
