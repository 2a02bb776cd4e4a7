// Package tree keeps a plain view of everybody's files, tree/<user>/…, with the names,
// folders and times that people gave them: so that the disk can be put into any
// computer and read with ls and cp, without us.
//
// # A write there never changes a content
//
// No file of the view is a file of blobs/: it shares storage with it where the file
// system does that for two files (a reflink), and is a copy else, as long as there is
// ample room. There are no hard and no symbolic links, since what is written through
// those is written into the content, by root whatever the mode says. See
// docs/decisions/0022-the-readable-view.md.
//
// # How it follows
//
// The view is made behind the acknowledgement, from the change feed of the catalogue,
// once it has been quiet for a moment. The table tree_file says which item lies where.
// Changes are taken in batches: (1) new files are made in .yunbox/work and synced; (2)
// .yunbox/batch says which names the batch will give; (3) files are removed and renamed
// to their places, and the folders synced; (4) one transaction writes rows and cursor.
// After a crash between 2 and 4 the names of that batch are removed, with their rows,
// and the batch is done again. So a cut leaves stale names or none, and never a wrong
// content under a name.
//
// Nothing is written, and no timer runs, while nothing changes.
package tree

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// The values of Options.Mode.
const (
	Auto    = "auto"    // shared storage where there is such a thing, else copies while there is ample room
	Reflink = "reflink" // shared storage or nothing
	Off     = "off"     // nothing; what was there is removed
)

const (
	atOnce     = 512      // items of one batch
	copyAtOnce = 64 << 20 // bytes that are copied in one batch, unless one file has more

	quiet      = time.Second     // without a change, before changes are followed
	longest    = 5 * time.Minute // that changes wait on a box that is never quiet
	retryAfter = 10 * time.Minute
	maxRest    = 5 * time.Second
)

// Person is somebody whose files are shown.
type Person struct {
	ID   ident.UserID
	Name string // of the account
}

// Options of New. Log, Now and Busy may be nil.
type Options struct {
	Catalog *catalog.Catalog
	Store   *storage.Store
	DB      *db.DB
	Disk    vfs.FS // its top is the folder tree/, and it is nobody else's
	Mode    string
	People  func(context.Context) ([]Person, error)
	Busy    func() bool // whether somebody sends something just now
	Log     *slog.Logger
	Now     func() time.Time
}

// Tree keeps the view. It is safe for concurrent use.
type Tree struct {
	opt Options
	log *slog.Logger
	ask chan struct{} // holds a token when somebody wants it done at once

	work   sync.Mutex // one batch at a time; guards what follows
	opened bool
	unsure error // a sync failed: see distrust
	clones bool  // files can share storage
	state  state
	people map[ident.UserID]*folder
	due    map[ident.UserID]time.Time // when SHA256SUMS is to be written

	mu       sync.Mutex
	progress Progress
	stirred  time.Time // when something changed last
}

// Progress is how the view stands.
type Progress struct {
	Number  int64 // of the rebuild, since the start of the box; 0: there was none
	Running bool
	Began   time.Time
	Done    int64 // items that were looked at, and
	Total   int64 // of about how many
	LeftOut int64 // items that could not be shown: their content is damaged, or the file system refuses the name
	Error   string
}

// New reads nothing yet. Run does the work.
func New(opt Options) *Tree {
	t := &Tree{opt: opt, log: opt.Log, ask: make(chan struct{}, 1), due: map[ident.UserID]time.Time{}}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.opt.Now == nil {
		t.opt.Now = time.Now
	}
	if t.opt.Busy == nil {
		t.opt.Busy = func() bool { return false }
	}
	return t
}

// Run keeps the view up to date until ctx ends.
func (t *Tree) Run(ctx context.Context) {
	for {
		next, err := t.Follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.log.Warn("the readable view is not up to date; it is tried again later", "err", err)
			next = t.opt.Now().Add(retryAfter)
		}
		if !t.wait(ctx, next) {
			return
		}
	}
}

// wait returns when there is something to do: at once when somebody asked, at next
// (zero: never), and after a change once the box is quiet. false: ctx has ended.
func (t *Tree) wait(ctx context.Context, next time.Time) bool {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(next.Sub(t.opt.Now()))
		defer timer.Stop()
		due = timer.C
	}
	stirred := t.opt.Catalog.Stirred()
	if t.opt.Mode == Off {
		stirred = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-t.ask:
		return true
	case <-due:
		return true
	case <-stirred:
		t.stir()
	}
	latest := time.NewTimer(longest)
	defer latest.Stop()
	for {
		silence := time.NewTimer(quiet)
		select {
		case <-stirred:
			silence.Stop()
			t.stir()
			continue
		case <-ctx.Done():
		case <-t.ask:
		case <-latest.C:
		case <-silence.C:
		}
		silence.Stop()
		return ctx.Err() == nil
	}
}

func (t *Tree) stir() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stirred = time.Now()
}

// rest lets uploads go first: on a busy box a tenth of the time is for the view.
func (t *Tree) rest(ctx context.Context, took time.Duration) {
	select {
	case <-t.opt.Catalog.Stirred():
		t.stir()
		t.wake() // Run is to see that there is more
	default:
	}
	t.mu.Lock()
	busy := time.Since(t.stirred) < time.Second
	t.mu.Unlock()
	if !busy && !t.opt.Busy() {
		return
	}
	timer := time.NewTimer(min(9*took, maxRest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (t *Tree) wake() {
	select {
	case t.ask <- struct{}{}:
	default:
	}
}

// Follow brings the view up to date. It returns when it is to be called again though
// nothing changes (for SHA256SUMS); zero: never.
func (t *Tree) Follow(ctx context.Context) (next time.Time, err error) {
	wanted, err := t.begin(ctx)
	if err != nil || !wanted {
		return next, err
	}
	if err := t.pass(ctx); err != nil {
		return next, t.outOfRoom(ctx, err)
	}
	if err := t.follow(ctx); err != nil {
		return next, t.outOfRoom(ctx, err)
	}
	if err := t.pass(ctx); err != nil { // of a folder that was moved
		return next, t.outOfRoom(ctx, err)
	}
	return t.sums(ctx)
}

// begin opens the folder, sees to people and room, and says whether there is a view.
func (t *Tree) begin(ctx context.Context) (bool, error) {
	if _, _, err := t.ready(ctx); err != nil || t.opt.Mode == Off {
		return false, err
	}
	t.work.Lock()
	defer t.work.Unlock()
	return true, t.makeRoom(ctx)
}

// makeRoom decides whether there may be copies. They begin while all of them would take
// a quarter of what is free at most, and are given up when they are more than what is
// left.
func (t *Tree) makeRoom(ctx context.Context) error {
	if t.clones {
		if t.state.room {
			return nil
		}
		return t.anew(ctx)
	}
	totals, err := t.opt.Catalog.Totals(ctx)
	if err != nil {
		return err
	}
	space, err := t.opt.Disk.Space()
	if err != nil {
		return err
	}
	switch {
	case t.state.room && (space.Free < totals.LogicalBytes || t.opt.Mode == Reflink):
		t.log.Info("the readable view has given its room back; SHA256SUMS still lists the files")
		return t.giveUp(ctx)
	case !t.state.room && space.Free/4 >= totals.LogicalBytes && t.opt.Mode == Auto:
		return t.anew(ctx)
	}
	return nil
}

// outOfRoom gives copies up when the disk is full.
func (t *Tree) outOfRoom(ctx context.Context, err error) error {
	if !errors.Is(err, storage.ErrFull) && !vfs.IsFull(err) {
		return err
	}
	t.work.Lock()
	defer t.work.Unlock()
	if t.clones {
		return err
	}
	return errors.Join(err, t.giveUp(ctx))
}

// LetGo removes from the view what was deleted for good, before the contents are. It is
// asked by whoever removes those, and they stay if it fails. On a disk that is full to
// the last byte, where what is removed cannot be noted, all of the view is removed: it
// must not stand in the way of deleting.
func (t *Tree) LetGo(ctx context.Context) error {
	err := t.letGo(ctx)
	if !errors.Is(err, storage.ErrFull) && !vfs.IsFull(err) {
		return err
	}
	t.work.Lock()
	defer t.work.Unlock()
	t.opened = false // the next open finds nothing, and makes it anew when there is room
	t.log.Warn("the disk is full: the readable view gives way, and comes back when there is room", "err", err)
	return t.clear()
}

func (t *Tree) letGo(ctx context.Context) error {
	shown, anew, err := t.ready(ctx)
	if err != nil || !shown {
		return err
	}
	if anew { // what lies there is not known before it has ended
		if err := t.pass(ctx); err != nil {
			return err
		}
	}
	t.work.Lock()
	defer t.work.Unlock()
	for u, f := range t.people {
		for seq := f.seq; ; {
			ids, last, err := t.opt.Catalog.PurgedSince(ctx, u, seq, atOnce)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				break
			}
			if err := t.apply(ctx, ids, nil, nil); err != nil {
				return err
			}
			seq = last
		}
	}
	return nil
}

// ready opens the folder and says whether there is a view, and one that is known.
func (t *Tree) ready(ctx context.Context) (shown, anew bool, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	if t.opt.Mode == Off {
		return false, false, t.close(ctx)
	}
	if err = t.open(ctx); err == nil {
		err = t.meet(ctx)
	}
	return t.state.room, t.state.anew, err
}

// Rebuild has every file of the view made anew and what does not belong there removed.
// It goes on when ctx ends, and after a restart; step is told how far it is.
func (t *Tree) Rebuild(ctx context.Context, step func(Progress)) (Progress, error) {
	t.work.Lock()
	err := t.open(ctx)
	if err == nil && t.opt.Mode != Off && (t.clones || t.state.room) {
		err = t.anew(ctx)
	}
	t.work.Unlock()
	if err != nil {
		return Progress{}, err
	}
	if t.opt.Mode == Off || !t.state.room {
		return Progress{}, t.noView()
	}
	number := t.at(func(p *Progress) { p.Number++; p.Running, p.Error = true, "" }).Number
	t.wake()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return t.Progress(), context.Cause(ctx)
		case <-tick.C:
		}
		p := t.Progress()
		if p.Number != number || !p.Running {
			return p, nil
		}
		step(p)
	}
}

// Progress returns how the view stands.
func (t *Tree) Progress() Progress { return t.at(func(*Progress) {}) }

func (t *Tree) at(f func(*Progress)) Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.progress)
	return t.progress
}
