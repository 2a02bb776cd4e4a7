package dedup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"yunbox.local/storage"
)

// UndoResult is what became of taking a plan back.
type UndoResult struct {
	Plan   string   `json:"plan"`
	Action Action   `json:"action"`
	Files  int64    `json:"files"` // that had been folded
	Done   int64    `json:"done"`  // that are as before
	Left   Troubles `json:"left"`  // files that could not be brought back, and why
	// Nothing says that there is nothing to take back: files that share storage
	// are files of their own.
	Nothing bool `json:"nothing"`
}

// Undo takes back what Apply did: links become files of their own again, with their
// own time of change; what is in the trash goes back where it was, if nothing else
// is there now. It may be called again after an error, or when something was left.
func (f *Folder) Undo(ctx context.Context, id string, tell func(Progress)) (_ UndoResult, err error) {
	info, err := f.work.planInfo(id)
	if err != nil {
		return UndoResult{}, err
	}
	if info.State == Planned {
		return UndoResult{}, fmt.Errorf("%w: it was not applied", ErrState)
	}
	if info.Root != Path(f.name) {
		return UndoResult{}, fmt.Errorf("%w: it is one of another folder", ErrState)
	}
	d := f.newFold(ctx, info.Plan)
	u := &undo{fold: d, r: UndoResult{Plan: id, Action: info.Action}}
	if info.State == Begun {
		if _, err := d.recover(); err != nil {
			return u.r, err
		}
	}
	if d.journal, err = f.work.openJournal(id); err != nil {
		return u.r, err
	}
	defer func() { err = errors.Join(err, d.journal.close()) }()
	if err := errors.Join(d.journal.add(jline{Op: opUndo}), d.journal.sync()); err != nil {
		return u.r, err
	}
	if info.Action == Reflink {
		u.r.Nothing = true
		return u.r, d.journal.add(jline{Op: opUndone})
	}
	d.meter = newMeter(tell, Undoing, info.Files, 0)
	defer d.meter.end()
	open := map[int64]*jline{}
	_, err = f.work.readJournal(id, func(l *jline) error {
		switch l.Op {
		case opIntent:
			open[l.N] = l
		case opResult:
			if i := open[l.N]; i != nil {
				delete(open, l.N)
				return u.take(i, l.Result == resDone)
			}
		case opEnd, opUndo, opUndone:
		}
		return nil
	})
	if err != nil {
		return u.r, err
	}
	return u.r, d.journal.add(jline{Op: opUndone})
}

type undo struct {
	*fold
	r UndoResult
}

// take takes one act back. One that was left may have been left half way, when even
// the way back failed.
func (u *undo) take(l *jline, done bool) error {
	if u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	var err error
	if !done {
		if _, err = u.disk.stat(string(l.To)); err != nil {
			return nil
		}
	}
	switch {
	case !done && l.Act == Hardlink:
		err = u.settleLink(l)
	case l.Act == Trash:
		err = u.untrash(l)
	default:
		err = u.unlink(l)
	}
	if err != nil && u.ctx.Err() != nil {
		return err
	}
	u.r.Files++
	u.meter.add(1, l.Dup.Size)
	if err != nil {
		u.r.Left.add(string(l.Path), reasonOf(err))
		return nil
	}
	u.r.Done++
	return nil
}

var (
	errTaken   = errors.New("something else has its name now")
	errNoTrash = errors.New("it is no longer in the trash, and its content is nowhere else")
)

// untrash moves a file back. If the trash was emptied the content still stands in
// the file that stayed, and is copied from there.
func (u *undo) untrash(l *jline) error {
	name, to := string(l.Path), string(l.To)
	at, err := u.disk.stat(to)
	if gone(err) {
		return u.fromKept(l)
	}
	if err != nil {
		return err
	}
	if !at.same(*l.Dup) {
		return errSincePlan
	}
	if now, err := u.disk.stat(name); err == nil && now.same(at) { // it has both names
		if err := u.disk.sync(path.Dir(name)); err != nil { // a killed run may not have come to that
			return err
		}
		return errors.Join(u.removeLink(to), u.disk.sync(path.Dir(to)))
	}
	linked, err := u.linkTo(to, name, at)
	switch {
	case errors.Is(err, errChanged), errors.Is(err, errNotAFile):
		return errTaken
	case err != nil:
		return err
	case linked:
		return errors.Join(u.removeLink(to), u.disk.sync(path.Dir(to)))
	}
	switch err := u.disk.move(to, name); {
	case errors.Is(err, fs.ErrExist):
		return errTaken
	case err != nil:
		return err
	}
	return u.syncBoth(to, name) // first the place that it is in now
}

func (u *undo) fromKept(l *jline) error {
	name := string(l.Path)
	switch at, err := u.disk.stat(name); {
	case err == nil && at.Size == l.Dup.Size && at.Mtime == l.Dup.Mtime:
		return u.disk.sync(path.Dir(name)) // taken back before; the number of an inode alone may be another file's by now
	case err == nil || !gone(err):
		return errTaken
	}
	keep, err := u.disk.open(string(l.Keep))
	if err != nil {
		return errNoTrash
	}
	defer keep.Close()
	m, err := keep.meta()
	if err != nil {
		return err
	}
	m.Mtime = l.Dup.Mtime
	temp := u.temp(l)
	same, err := u.copy(keep, temp, m, *l.Ref)
	if err != nil {
		return err
	}
	if !same {
		return errors.Join(errNoTrash, u.disk.remove(temp))
	}
	if err := u.disk.move(temp, name); err != nil {
		return errors.Join(errTaken, u.disk.remove(temp))
	}
	return u.disk.sync(path.Dir(name))
}

func (u *undo) temp(l *jline) string {
	return join(path.Dir(string(l.Path)), fmt.Sprint(tempPrefix, u.plan.ID, "-", l.N))
}

// copy writes what is in f to a new file, in place of one that a cut left, and says
// whether it has the content that it should have.
func (u *undo) copy(f file, temp string, m meta, want storage.Ref) (bool, error) {
	was, err := f.facts()
	if err != nil {
		return false, err
	}
	if err := u.disk.remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	h := sha256.New()
	content := io.TeeReader(&interruptible{u.ctx, io.NewSectionReader(f, 0, was.Size)}, h)
	if err := u.disk.write(temp, content, m); err != nil {
		return false, errors.Join(err, u.drop(temp))
	}
	if now, err := f.facts(); err != nil || now != was {
		return false, errors.Join(errChanged, err, u.drop(temp))
	}
	return storage.Ref(h.Sum(nil)) == want, nil
}

func (u *undo) drop(temp string) error {
	if err := u.disk.remove(temp); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

// unlink gives a name a file of its own again.
func (u *undo) unlink(l *jline) error {
	name := string(l.Path)
	f, err := u.disk.open(name)
	if gone(err) {
		return errSincePlan
	}
	if err != nil {
		return err
	}
	defer f.Close()
	was, err := f.facts()
	if err != nil {
		return err
	}
	temp := u.temp(l)
	if !was.same(*l.Kept) {
		if was.Size == l.Dup.Size && was.Mtime == l.Dup.Mtime { // taken back before
			if err := u.isFile(temp, *l.Kept); err == nil {
				return errors.Join(u.removeLink(temp), u.disk.sync(path.Dir(name)))
			}
			return nil
		}
		return errSincePlan
	}
	m, err := f.meta()
	if err != nil {
		return err
	}
	if m.Links < 2 {
		return nil // the other name is gone: this is a file of its own
	}
	if was.Mtime == l.Kept.Mtime {
		m.Mtime = l.Dup.Mtime
	}
	if err := f.lease(false); err != nil {
		return err
	}
	if _, err := u.copy(f, temp, m, *l.Ref); err != nil {
		return err
	}
	own, err := u.disk.stat(temp)
	if err != nil {
		return err
	}
	if err := u.disk.exchange(name, temp); err != nil {
		return errors.Join(err, u.disk.remove(temp))
	}
	err = u.disk.sync(path.Dir(name))
	if err == nil {
		err = u.isFile(temp, was)
	}
	if err == nil && !f.undisturbed() {
		err = errBusy
	}
	if err != nil { // back
		if e := u.isFile(name, own); e != nil {
			return errors.Join(err, e)
		}
		if e := u.disk.exchange(name, temp); e != nil {
			return errors.Join(err, e)
		}
		if e := u.isFile(temp, own); e != nil {
			return errors.Join(err, e)
		}
		return errors.Join(err, u.disk.remove(temp))
	}
	return errors.Join(u.removeLink(temp), u.disk.sync(path.Dir(name))) // it is the link now
}
