// Package duplicates is the room of the purpose file_dedup: it looks for equal files
// in folders of the box's own computer, for the person whose folders they are, and
// folds them as that person or the administrator chose. Package dedup does the work
// and knows no people; here is who may have what done.
//
// A folder is looked through for one person, who has consented to that. Over the
// socket the administrator names the person; a folder that the box watches for
// somebody is that person's and nobody else's. See docs/decisions/0019.
package duplicates

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/dedup"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// Options of New. All but Log are needed.
type Options struct {
	DB      *db.DB
	Audit   *audit.Log
	Consent *consent.Ledger
	Catalog *catalog.Catalog
	// Named finds a person by name in any spelling.
	Named func(ctx context.Context, name string) (ident.UserID, error)
	// Folder finds the folder that an absolute path names, refuses what belongs to
	// the box, and says for whom the box watches it, or what it holds; zero: for nobody.
	Folder func(path string) (real string, owner ident.UserID, err error)
	// Watches says, without looking at any disk, whether a path lies in a folder that
	// the box watches for a person.
	Watches func(u ident.UserID, path string) bool
	// Watched are the folders that the box watches for a person, absolute.
	Watched func(u ident.UserID) []string
	// Dir is where the room keeps its notes, one folder a person. It need not exist.
	Dir string
	Log *slog.Logger
}

// Room is safe for concurrent use.
type Room struct {
	opt Options
	log *slog.Logger
	// Holds one while something is done: a small box has one slow disk.
	busy chan struct{}

	mu      sync.Mutex
	running context.Context // ends when the box stops; nil: it does not run
	notes   *vfs.Dir        // Dir, once it was needed
	watched map[ident.UserID]bool
	now     *Work // nil: nothing is done
}

// New makes the room. It touches no disk.
func New(opt Options) *Room {
	r := &Room{opt: opt, log: opt.Log, watched: map[ident.UserID]bool{}, busy: make(chan struct{}, 1)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// Run forgets what must not be remembered of people who withdrew their consent while
// the box was off, then waits for ctx to end. No work goes on after that.
func (r *Room) Run(ctx context.Context) {
	r.mu.Lock()
	r.running = ctx
	r.mu.Unlock()
	if err := r.forgetWithdrawn(ctx); err != nil && ctx.Err() == nil {
		r.log.Warn("what was remembered for finding duplicates cannot be removed", "err", err)
	}
	<-ctx.Done()
}

// Close lets go of the room's folder.
func (r *Room) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes == nil {
		return nil
	}
	err := r.notes.Close()
	r.notes = nil
	return err
}

// dir opens the room's folder, made when it is missing and make is set.
func (r *Room) dir(create bool) (*vfs.Dir, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes != nil {
		return r.notes, nil
	}
	if create {
		if err := vfs.CreateDir(r.opt.Dir); err != nil {
			return nil, err
		}
	}
	d, err := vfs.OpenDir(r.opt.Dir)
	if err != nil {
		return nil, err
	}
	r.notes = d
	return d, nil
}

// work is where notes about a person's files are kept.
func (r *Room) work(u ident.UserID) (dedup.Work, error) {
	d, err := r.dir(true)
	if err != nil {
		return dedup.Work{}, err
	}
	w := dedup.Work{FS: d, Dir: strconv.FormatInt(int64(u), 10)}
	if err := d.Mkdir(w.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return w, err
	}
	return w, d.SyncDir(".")
}

// forgetWithdrawn removes what is remembered of people without a consent.
func (r *Room) forgetWithdrawn(ctx context.Context) error {
	d, err := r.dir(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	people, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range people {
		id, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil {
			continue
		}
		g, err := r.opt.Consent.Grant(ctx, ident.UserID(id), 0, consent.FileDedup)
		switch problem.KindOf(err) {
		case "":
			r.watch(ctx, g)
		case problem.ConsentRequired:
			errs = append(errs, r.forget(ident.UserID(id)))
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// forget removes fingerprints, and plans that were not begun; how to undo what was
// done is kept.
func (r *Room) forget(u ident.UserID) error {
	r.busy <- struct{}{}
	defer func() { <-r.busy }()
	w, err := r.work(u)
	if err != nil {
		return err
	}
	return w.Forget()
}

// watch has what is remembered of a person removed when their consent ends.
func (r *Room) watch(running context.Context, g consent.Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched[g.User()] {
		return
	}
	r.watched[g.User()] = true
	ctx, release := g.Context(running)
	context.AfterFunc(ctx, func() {
		release()
		r.mu.Lock()
		delete(r.watched, g.User())
		r.mu.Unlock()
		if running.Err() != nil {
			return
		}
		if err := r.forget(g.User()); err != nil {
			r.log.Warn("what was remembered for finding duplicates cannot be removed", "err", err)
		}
	})
}

// Asker is who has something done, and for whom.
type Asker struct {
	// Person is set when a person asks for themselves; their folders are those
	// that the box watches for them. Zero: the administrator asks, for Task.User.
	Person ident.UserID
	// Manages says that the Person is the owner or an admin: disks that are attached
	// to the box, and that it watches for nobody, are theirs to look through as well.
	Manages bool
	Via     string // for the audit record
}

// Task is one thing to do in one folder.
type Task struct {
	Path        string       `json:"path"`
	User        string       `json:"user,omitempty"`
	Plan        string       `json:"plan,omitempty"`   // apply, undo: its id; "": the newest of the folder
	Action      dedup.Action `json:"action,omitempty"` // plan
	Rule        dedup.Rule   `json:"rule,omitempty"`
	Prefer      []string     `json:"prefer,omitempty"` // absolute, or below the folder
	Stay        []string     `json:"stay,omitempty"`
	AnyTime     bool         `json:"any_time,omitempty"`
	OtherMounts bool         `json:"other_mounts,omitempty"`
	All         bool         `json:"all,omitempty"`     // look at every file, also those without an equal
	Similar     bool         `json:"similar,omitempty"` // scan: suggest pictures that look alike
	Groups      bool         `json:"groups,omitempty"`  // name the files
}

// session is a task that may be done: the folder is open, the grant is held.
type session struct {
	*Room
	ctx    context.Context
	user   ident.UserID
	grant  consent.Grant // zero for undo
	person bool          // the person asks, not the administrator
	root   string
	folder *dedup.Folder
	work   dedup.Work
	task   Task
}

// needs are what a task needs beside a folder that the asker may name.
type needs struct {
	grant bool // else nothing in the folder is looked at
	turn  bool // one at a time: it reads much, or writes notes
}

// begin finds out whether a task may be done. To undo needs no grant, for it compares
// nothing and gives back what was. The caller calls end.
func (r *Room) begin(ctx context.Context, who Asker, t Task, need needs) (_ *session, end func(), err error) {
	s := &session{Room: r, ctx: ctx, user: who.Person, person: who.Person != 0, task: t}
	if !s.person {
		if s.user, err = r.opt.Named(ctx, t.User); err != nil {
			return nil, nil, err
		}
	}
	disk := false
	if s.person && !r.opt.Watches(s.user, t.Path) { // who asks learns nothing about other paths
		// A name that came over the network goes no further: it must be one that the
		// kernel has in its table.
		if disk = who.Manages && slices.Contains(attached(), t.Path); !disk {
			return nil, nil, notTheirs()
		}
	}
	var undo []func() // what end does, the last first
	leave := func() {
		for _, fn := range slices.Backward(undo) {
			fn()
		}
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	if need.grant {
		if s.grant, err = r.opt.Consent.Grant(ctx, s.user, 0, consent.FileDedup); err != nil {
			return nil, nil, err
		}
		var release context.CancelFunc
		s.ctx, release = s.grant.Context(ctx)
		undo = append(undo, release)
	}
	var owner ident.UserID
	if s.root, owner, err = r.opt.Folder(t.Path); err != nil {
		return nil, nil, err
	}
	if owner != 0 && owner != s.user || owner == 0 && s.person && !disk {
		return nil, nil, notTheirs()
	}
	r.mu.Lock()
	running := r.running
	r.mu.Unlock()
	if running == nil || running.Err() != nil {
		return nil, nil, &problem.Error{Kind: problem.Unavailable, Op: "duplicates.begin", Title: "The box is starting or stopping", Hint: "Try again in a moment."}
	}
	if need.turn {
		if err := r.take(s.ctx); err != nil {
			return nil, nil, err
		}
		r.at(&Work{User: s.user, Began: time.Now()})
		undo = append(undo, func() { r.at(nil); <-r.busy })
	}
	within, cancel := context.WithCancelCause(s.ctx)
	s.ctx = within
	stop := context.AfterFunc(running, func() { cancel(context.Cause(running)) })
	undo = append(undo, func() { stop(); cancel(nil) })
	if need.grant {
		r.watch(running, s.grant)
	}
	if s.work, err = r.work(s.user); err != nil {
		return nil, nil, err
	}
	if s.folder, err = dedup.Open(s.root, s.work); err != nil {
		return nil, nil, unreadable(err)
	}
	undo = append(undo, func() { s.folder.Close() }) // only read
	return s, leave, nil
}

// take waits for the task before, which is patience at most.
func (r *Room) take(ctx context.Context) error {
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case r.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wait.C:
		return &problem.Error{Kind: problem.Locked, Op: "duplicates.begin", Title: "The box is looking for duplicates already",
			Detail: "One folder is looked through at a time, so that the disk has time for other things.", Hint: "Wait until that has ended, or end it, then try again."}
	}
}

// patience is how long a task waits for the one before: long enough for what ends by
// itself, such as the removal of notes, and no longer.
const patience = 3 * time.Second

func notTheirs() error {
	return &problem.Error{Kind: problem.Forbidden, Op: "duplicates.begin", Title: "That folder is not this person's",
		Detail: "The box looks for duplicates in folders that it watches for a person, for that person only.",
		Hint:   "`yunboxctl inbox list` says which folder is whose."}
}

func unreadable(err error) error {
	return &problem.Error{Kind: problem.NotFound, Op: "duplicates.begin", Title: "The folder cannot be read", Err: err,
		Hint: "Plug the disk in and mount it, or correct the path; the box's own user must be able to read it."}
}

// known says which contents the person keeps on the box. Only the person themselves
// is told: it would tell an administrator who may not see their files.
func (s *session) known() func(context.Context, []storage.Ref) ([]storage.Ref, error) {
	if !s.person {
		return nil
	}
	return func(ctx context.Context, refs []storage.Ref) ([]storage.Ref, error) {
		return s.opt.Catalog.Known(ctx, s.user, refs)
	}
}

// below turns paths that people give into ones below the folder.
func (s *session) below(list []string) (out []dedup.Path, err error) {
	for _, p := range list {
		rel := filepath.Clean(p)
		if filepath.IsAbs(p) {
			real, e := filepath.EvalSymlinks(p)
			if e == nil {
				rel, e = filepath.Rel(s.root, real)
			}
			if e != nil {
				return nil, notBelow()
			}
		}
		if rel != "." && !filepath.IsLocal(rel) {
			return nil, notBelow()
		}
		out = append(out, dedup.Path(filepath.ToSlash(rel)))
	}
	return out, nil
}

func notBelow() error {
	return &problem.Error{Kind: problem.Invalid, Op: "duplicates.plan", Title: "That is not in the folder",
		Detail: "A file that is to stay, or a folder that is preferred, lies elsewhere or is not there.", Hint: "Name files and folders below the one that is looked through."}
}

// audited writes down what was done, with counts and no names.
func (s *session) audited(who Asker, action, plan string, detail map[string]string) error {
	e := audit.Event{Action: action, Subject: s.user, Object: plan, Via: who.Via, Detail: detail}
	if s.person {
		e.Actor = s.user
	}
	return s.opt.DB.Write(context.WithoutCancel(s.ctx), func(tx *db.Tx) error { return s.opt.Audit.Append(tx, e) })
}

// check says again, inside a transaction, that the consent holds: right before files
// are changed.
func (s *session) check() error {
	return s.opt.DB.Read(s.ctx, func(tx *db.Tx) error { return s.grant.Check(tx, consent.FileDedup) })
}

// explain turns what went wrong into words.
func (s *session) explain(err error) error {
	if cause := context.Cause(s.ctx); err != nil && cause != nil {
		return cause // such as the withdrawal of the consent
	}
	switch {
	case errors.Is(err, dedup.ErrNoPlan):
		return &problem.Error{Kind: problem.NotFound, Op: "duplicates", Title: "There is no such plan for that folder", Hint: "Look through the folder again, then make one."}
	case errors.Is(err, dedup.ErrChoice):
		return &problem.Error{Kind: problem.Invalid, Op: "duplicates", Title: "The choice makes no sense", Err: err,
			Detail: "Actions are reflink, hardlink and trash; rules are oldest, newest and shortest.", Hint: "Correct it and try again."}
	case errors.Is(err, dedup.ErrState):
		return &problem.Error{Kind: problem.Conflict, Op: "duplicates", Title: "The plan is in another state", Err: err,
			Detail: "A plan is applied once, and undone after that.", Hint: "Make a new plan to fold what there is now."}
	case errors.Is(err, dedup.ErrDamage):
		return &problem.Error{Kind: problem.Damaged, Op: "duplicates", Title: "The plan is damaged", Err: err, Hint: "Nothing was done by it. Make a new one."}
	case vfs.IsFull(err):
		return &problem.Error{Kind: problem.Full, Op: "duplicates", Err: err, Hint: "Free some space, then try again: it goes on where it was."}
	case errors.Is(err, fs.ErrNotExist):
		return unreadable(err)
	}
	return err
}
