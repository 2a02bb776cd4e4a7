package inbox

import (
	"context"
	"errors"
	"os"
	"path"
	"sync"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
)

const (
	// maxPending is how many files of a folder are waited for at once; more wait
	// for the next look.
	maxPending = 4096
	// maxTroubles is how many files that could not be taken are named; the others
	// are counted.
	maxTroubles = 200
	// maxDirty is how many changed folders are remembered; more, and everything is
	// looked through.
	maxDirty = 256
	// maxWait is the longest pause between two looks at a file that keeps changing,
	// in times to settle.
	maxWait = 8
	// maxCalm is how often the pause between two looks at everything is doubled while
	// the system tells of changes and there are none: a disk is left asleep.
	maxCalm = 4
)

// A folder is a watched folder at work. Everything but what mu guards belongs to
// the goroutine of run.
type folder struct {
	in   *Inbox
	conf Config

	cancel context.CancelFunc // nil: not running
	ended  chan struct{}

	hints  chan struct{} // holds a token when something may have changed
	mounts chan struct{} // holds one when something was mounted or unmounted

	decided <-chan struct{}                                     // closed by a decision since the last look began
	dir     os.FileInfo                                         // of the folder when it was last looked at
	pruned  time.Time                                           // when it was last looked for files that left
	report  func(rel string, o outcome, tr trouble, size int64) // of an import; else nil

	mu             sync.Mutex
	lastFull       time.Time           // when everything was looked through; zero: not yet
	lastTry        time.Time           // when the last look ended
	dirty          map[string]struct{} // folders that changed, below this one
	all            bool                // so much changed that everything must be looked at
	watched        map[string]struct{} // folders below this one that the system tells about
	scanOnly       bool                // there are more than can be watched
	pending        map[string]*pending
	again          bool // files were left out because too many are waited for
	troubles       map[string]trouble
	unnamed        int                     // troubles beyond those
	unnamedRefused int                     // of them for want of a consent
	unnamedGone    int                     // of them because their owner deleted them
	missing        map[consent.Purpose]int // consents that files wait for
	absent         bool
	paused         string    // why the box takes nothing at the moment
	retry          time.Time // when it tries again
	calm           int       // full looks in a row that found what the system had told, and so nothing
	busy           bool      // looking through it right now
	skipped        int       // links, pipes, hidden files, as of the last full look
	took           int       // since the start
}

// pending is a file that changes, or did a moment ago.
type pending struct {
	id    fileID
	since time.Time // when it was first seen like this
	due   time.Time // when to look again
	wait  time.Duration
}

// trouble is why a file was not taken.
type trouble struct {
	Reason  string
	Purpose consent.Purpose // the consent that is missing; "": something else
	Deleted bool            // its owner deleted that content
}

func newFolder(in *Inbox, c Config) *folder {
	return &folder{
		in: in, conf: c, hints: make(chan struct{}, 1), mounts: make(chan struct{}, 1), absent: true,
		dirty: map[string]struct{}{}, watched: map[string]struct{}{},
		pending: map[string]*pending{}, troubles: map[string]trouble{}, missing: map[consent.Purpose]int{},
	}
}

// run is the life of a watched folder.
func (f *folder) run(ctx context.Context) {
	defer f.unwatch()
	for full := true; ctx.Err() == nil; full = f.wait(ctx) {
		f.decided = f.in.opt.Consent.Decided() // before it looks, so that none is missed
		f.look(ctx, full)
	}
}

// look takes in what is ripe: in all of the folder, or where something changed.
func (f *folder) look(ctx context.Context, full bool) {
	defer func() {
		f.mu.Lock()
		f.busy, f.lastTry = false, time.Now()
		f.mu.Unlock()
	}()
	root, v, err := f.conf.open()
	f.mu.Lock()
	was := f.absent
	f.absent = err != nil
	f.busy = err == nil
	f.mu.Unlock()
	if err != nil {
		if !was {
			f.in.log.Info("a watched folder is absent", "inbox", f.conf.ID)
		}
		f.forget()
		return
	}
	defer root.Close()
	if f.dir, err = root.Stat("."); err != nil {
		f.dir = nil // it is asked for again soon
	}
	if was {
		full = true
	}
	f.round(ctx, root, v, full)
}

// forget lets go of what was known of a volume that is away.
func (f *folder) forget() {
	f.unwatch()
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.dirty)
	clear(f.pending)
	clear(f.troubles)
	clear(f.missing)
	f.unnamed, f.unnamedRefused, f.unnamedGone, f.all, f.again, f.paused = 0, 0, 0, false, false, ""
}

func (f *folder) round(ctx context.Context, root *os.Root, v volume, full bool) {
	r := &round{f: f, root: root, vol: v, full: full}
	name, open, err := f.in.opt.Person(ctx, f.conf.User)
	if err != nil || !open {
		reason := "The account of " + name + " is closed for now."
		if err != nil {
			reason = problem.As(err).Title + "."
		}
		f.pause(reason)
		return
	}
	f.mu.Lock()
	took := f.took
	f.mu.Unlock()
	if full { // else what there was no room for would be forgotten for long
		f.pause("")
	}
	if err := r.run(ctx); err != nil && ctx.Err() == nil {
		// The volume may have been pulled out in the middle.
		if _, gone := f.conf.identify(root); gone != nil {
			f.mu.Lock()
			f.absent = true
			f.mu.Unlock()
			f.forget()
			return
		}
		reason := reasonOf(err)
		if isProblem(err) {
			reason = problem.As(err).Title + "."
		}
		f.pause(reason)
	}
	if full {
		f.mu.Lock()
		f.lastFull = time.Now()
		if f.took == took && len(f.pending) == 0 && f.paused == "" && !f.scanOnly && !v.remote && !v.loose {
			f.calm = min(f.calm+1, maxCalm)
		} else {
			f.calm = 0
		}
		f.mu.Unlock()
		if ctx.Err() == nil {
			f.in.prune(ctx, f, root)
		}
	}
}

func isProblem(err error) bool {
	var p *problem.Error
	return errors.As(err, &p)
}

func (f *folder) pause(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused, f.retry = reason, time.Now().Add(f.in.opt.Retry)
}

// wait returns when it is time to look again, and whether at everything.
func (f *folder) wait(ctx context.Context) (full bool) {
	for {
		timer, decided := time.NewTimer(max(time.Until(f.next()), 0)), f.decided
		if !f.waitsForConsent() {
			decided = nil
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-f.hints:
			timer.Stop()
			f.quiet(ctx)
			return f.takeAll()
		case <-f.mounts:
			timer.Stop()
			if f.isAbsent() {
				return true
			}
		case <-decided:
			timer.Stop()
			f.decided = f.in.opt.Consent.Decided()
		case <-timer.C:
		}
		switch {
		case !time.Now().Before(f.nextFull()), !f.here(), f.consented(ctx):
			return true
		case f.pendingDue():
			return f.takeAll()
		}
	}
}

// next is when something is due: a look, or a question that costs next to nothing.
func (f *folder) next() time.Time {
	due := f.nextFull()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pending {
		if p.due.Before(due) {
			due = p.due
		}
	}
	ask := time.Now().Add(f.in.opt.Absent)
	if f.absent || due.Before(ask) {
		return due
	}
	return ask
}

// here says whether the folder still is the one that was looked at. Nobody tells
// of a volume that is unmounted.
func (f *folder) here() bool {
	if f.isAbsent() {
		return true // that it is back is found by looking
	}
	info, err := os.Stat(f.conf.Path)
	return err == nil && f.dir != nil && os.SameFile(info, f.dir)
}

func (f *folder) isAbsent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.absent
}

func (f *folder) waitsForConsent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.missing) > 0
}

func (f *folder) pendingDue() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, p := range f.pending {
		if !now.Before(p.due) {
			return true
		}
	}
	return false
}

// nextFull is when everything is due.
func (f *folder) nextFull() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	opt := f.in.opt
	switch {
	case f.absent:
		return f.lastTry.Add(opt.Absent)
	case f.paused != "":
		return f.retry
	case f.again && len(f.pending) < maxPending/2:
		return f.lastFull.Add(opt.Settle)
	}
	return f.lastFull.Add(opt.Scan << f.calm)
}

// consented says whether a consent that files wait for is there by now.
func (f *folder) consented(ctx context.Context) bool {
	f.mu.Lock()
	var purposes []consent.Purpose
	for p := range f.missing {
		purposes = append(purposes, p)
	}
	f.mu.Unlock()
	for _, p := range purposes {
		if _, err := f.in.opt.Consent.Grant(ctx, f.conf.User, 0, p); err == nil {
			return true
		}
	}
	return false
}

// quiet waits until nothing happens for a moment: a copy of a thousand files is
// looked at once.
func (f *folder) quiet(ctx context.Context) {
	pause := min(f.in.opt.Settle/4, 500*time.Millisecond)
	limit := time.NewTimer(4 * pause)
	defer limit.Stop()
	calm := time.NewTimer(pause)
	defer calm.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-calm.C:
			return
		case <-f.hints:
			calm.Reset(pause)
		}
	}
}

// takeAll says whether everything must be looked at, and takes the order back.
func (f *folder) takeAll() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.all
	f.all = false
	return all
}

// hint notes that something changed in a folder below this one, "." itself.
func (f *folder) hint(dir string) {
	f.mu.Lock()
	f.calm = 0
	if _, ok := f.dirty[dir]; !ok && len(f.dirty) >= maxDirty {
		f.all = true
	} else {
		f.dirty[dir] = struct{}{}
	}
	f.mu.Unlock()
	f.wake()
}

// lookAgain has everything looked through.
func (f *folder) lookAgain() {
	f.mu.Lock()
	f.calm = 0
	f.all = true
	f.mu.Unlock()
	f.wake()
}

func (f *folder) wake() {
	select {
	case f.hints <- struct{}{}:
	default:
	}
}

// present asks the volume itself.
func (f *folder) present() bool {
	root, _, err := f.conf.open()
	if err != nil {
		return false
	}
	root.Close()
	return true
}

// ripe says whether a file has stopped changing, as far as looking at it tells.
// If not, it is remembered and looked at again.
func (f *folder) ripe(rel string, id fileID, v volume) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, settle := time.Now(), f.in.opt.Settle
	p := f.pending[rel]
	switch {
	case p == nil && old(id, v, now, settle):
		return true
	case p == nil:
		f.postpone(rel, id, now)
		return false
	case p.id != id:
		p.id, p.since = id, now
		p.wait = min(2*p.wait, maxWait*f.in.opt.Settle)
		p.due = now.Add(p.wait)
		return false
	case now.Sub(p.since) < settle:
		p.due = p.since.Add(settle)
		return false
	}
	return true
}

// old says whether the system's own times show that a file has not changed for
// a while. No program can set the time of change back; where there is none, the
// time of writing must be further away. Another computer's clock shows nothing.
func old(id fileID, v volume, now time.Time, settle time.Duration) bool {
	switch {
	case v.remote:
		return false
	case v.loose:
		return now.Sub(time.Unix(0, id.mtime)) >= max(settle, time.Minute)
	}
	return now.Sub(time.Unix(0, max(id.mtime, id.ctime))) >= settle
}

// postpone has a file looked at again. f.mu is held.
func (f *folder) postpone(rel string, id fileID, now time.Time) {
	if p := f.pending[rel]; p != nil {
		p.id, p.since = id, now
		p.wait = min(2*p.wait, maxWait*f.in.opt.Settle)
		p.due = now.Add(p.wait)
		return
	}
	if len(f.pending) >= maxPending {
		f.again = true
		return
	}
	settle := f.in.opt.Settle
	f.pending[rel] = &pending{id: id, since: now, due: now.Add(settle), wait: settle}
}

// settled notes what became of a file.
func (f *folder) settled(rel string, id fileID, o outcome, tr trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o == unripe {
		f.postpone(rel, id, time.Now())
		return
	}
	delete(f.pending, rel)
	f.untrouble(rel)
	switch o {
	case refused, failed, declined:
		named := maxTroubles
		if o == declined {
			named /= 2 // nobody need do anything about them: they leave room for others
		}
		switch {
		case len(f.troubles) < named:
			f.troubles[rel] = tr
		case o == declined:
			f.unnamedGone++
		case o == refused:
			f.unnamedRefused++
		default:
			f.unnamed++
		}
		if tr.Purpose != "" {
			f.missing[tr.Purpose]++
		}
	case stored, known:
		f.took++
	}
}

// untrouble forgets why a file was not taken. f.mu is held.
func (f *folder) untrouble(rel string) {
	tr, ok := f.troubles[rel]
	if !ok {
		return
	}
	delete(f.troubles, rel)
	if tr.Purpose != "" {
		if f.missing[tr.Purpose]--; f.missing[tr.Purpose] <= 0 {
			delete(f.missing, tr.Purpose)
		}
	}
}

// sourceOf is where a file comes from: what the folder was added with, or what
// the names of the file and of the folders above it say.
func (f *folder) sourceOf(rel string) (string, source.Confidence) {
	if f.conf.Source == "auto" {
		return source.Of(path.Join(f.conf.Path, rel))
	}
	return f.conf.Source, source.Declared
}
