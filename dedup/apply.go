package dedup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// FoldResult is what became of a plan.
type FoldResult struct {
	Plan   string   `json:"plan"`
	Action Action   `json:"action"`
	Files  int64    `json:"files"` // acts of the plan, of all runs
	Done   int64    `json:"done"`
	Bytes  int64    `json:"bytes"` // of the files done
	Left   Troubles `json:"left"`  // files that were left as they are, and why
}

// batch is how many acts have their intents made durable together.
const batch = 64

// fold is applying or undoing one plan.
type fold struct {
	*Folder
	ctx     context.Context
	plan    Plan
	journal *journal
	meter   *meter
	done    FoldResult
	made    string // the folder in the trash that was made last
	bufs    [2][]byte
}

func (f *Folder) newFold(ctx context.Context, p Plan) *fold {
	d := &fold{Folder: f, ctx: ctx, plan: p, done: FoldResult{Plan: p.ID, Action: p.Action}}
	for i := range d.bufs {
		d.bufs[i] = make([]byte, pieceSize)
	}
	if f.tree != nil {
		f.tree.xdev = p.OtherMounts
	}
	return d
}

// Apply carries out a plan, or goes on where that was cut off. After an error, such
// as that of ctx, no act is half done, and Apply may be called again.
func (f *Folder) Apply(ctx context.Context, id string, tell func(Progress)) (_ FoldResult, err error) {
	info, err := f.work.planInfo(id)
	if err != nil {
		return FoldResult{}, err
	}
	if info.State != Planned && info.State != Begun {
		return FoldResult{}, fmt.Errorf("%w: it is %s", ErrState, info.State)
	}
	if info.Root != Path(f.name) {
		return FoldResult{}, fmt.Errorf("%w: it is one of another folder", ErrState)
	}
	d := f.newFold(ctx, info.Plan)
	last, err := d.recover()
	if err != nil {
		return d.done, err
	}
	p, err := f.work.openPlan(id)
	if err != nil {
		return d.done, err
	}
	defer p.close()
	if d.journal, err = f.work.openJournal(id); err != nil {
		return d.done, err
	}
	defer func() { err = errors.Join(err, d.journal.close()) }()
	d.meter = newMeter(tell, Folding, info.Files, 0)
	d.meter.add(last, 0)
	defer d.meter.end()
	var acts []act
	n := int64(0)
	for {
		g, _, err := p.group()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d.done, err
		}
		for _, dup := range g.Fold {
			if n++; n <= last {
				continue
			}
			if acts = append(acts, d.newAct(n, &g, dup)); len(acts) == batch {
				if err := d.run(acts); err != nil {
					return d.done, err
				}
				acts = acts[:0]
			}
		}
	}
	if err := d.run(acts); err != nil {
		return d.done, err
	}
	return d.done, d.journal.add(jline{Op: opEnd})
}

// act is one name to fold.
type act struct {
	jline
	size int64
}

func (d *fold) newAct(n int64, g *PlanGroup, dup PlanFile) act {
	a := act{size: g.Size, jline: jline{
		Op: opIntent, N: n, Act: d.plan.Action, Path: dup.Path, Keep: g.Keep.Path, Dup: &dup.Facts, Kept: &g.Keep.Facts, Ref: &g.Ref,
	}}
	switch d.plan.Action {
	case Hardlink:
		a.To = Path(join(path.Dir(string(dup.Path)), fmt.Sprint(tempPrefix, d.plan.ID, "-", n)))
	case Trash:
		a.To = Path(TrashName+"/dedup-"+d.plan.ID) + "/" + dup.Path
	case Reflink:
	}
	return a
}

// run does some acts.
func (d *fold) run(acts []act) error {
	for i := range acts {
		if err := d.journal.add(acts[i].jline); err != nil {
			return err
		}
	}
	if err := d.journal.sync(); err != nil {
		return err
	}
	for i := range acts {
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		err := d.do(&acts[i])
		if err != nil && d.ctx.Err() != nil {
			return err // the next run finds out how it stands
		}
		if err := d.note(acts[i].N, acts[i].Path, acts[i].size, err); err != nil {
			return err
		}
	}
	return nil
}

// note writes down and counts what became of an act.
func (d *fold) note(n int64, name Path, size int64, failed error) error {
	l := jline{Op: opResult, N: n, Result: resDone}
	if failed != nil {
		l.Result, l.Why = resLeft, reasonOf(failed)
	}
	d.count(name, size, l.Result, l.Why)
	d.meter.add(1, size)
	if err := d.journal.add(l); err != nil {
		return err
	}
	// What ends everything: the disk itself.
	if errors.Is(failed, unix.EIO) || errors.Is(failed, unix.EROFS) || errors.Is(failed, unix.ENODEV) {
		return failed
	}
	return nil
}

func (d *fold) count(name Path, size int64, r result, why string) {
	d.done.Files++
	if r == resDone {
		d.done.Done++
		d.done.Bytes += size
	} else {
		d.done.Left.add(string(name), why)
	}
}

// Reasons to leave a file alone.
var (
	errSameFile  = errors.New("it is the file that stays, by another name")
	errSincePlan = errors.New("it is not the file of the plan any more")
	errKeepGone  = errors.New("the file that stays is not the one of the plan any more")
	errMode      = errors.New("its owner, permissions or attributes differ from those of the file that stays")
	errTime      = errors.New("its time differs from that of the file that stays")
	errNoSwap    = errors.New("the file system cannot swap two names at once")
	errNoShare   = errors.New("the file system cannot let files share storage")
)

// pair is the file that stays and the one that goes, both open.
type pair struct {
	keep, dup         file
	keepWas, dupWas   Facts // as they were opened
	keepMeta, dupMeta meta
}

func (p *pair) close() { p.keep.Close(); p.dup.Close() } // only read

// openPair opens both files of an act and says whether they may be folded.
func (d *fold) openPair(a *jline) (p *pair, err error) {
	p = &pair{}
	if p.keep, err = d.disk.open(string(a.Keep)); err != nil {
		if gone(err) {
			err = errKeepGone
		}
		return nil, err
	}
	if p.dup, err = d.disk.open(string(a.Path)); err != nil {
		if gone(err) {
			err = errSincePlan
		}
		return nil, errors.Join(err, p.keep.Close())
	}
	if err := p.check(a); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pair) check(a *jline) (err error) {
	if p.keepWas, err = p.keep.facts(); err != nil {
		return err
	}
	if p.dupWas, err = p.dup.facts(); err != nil {
		return err
	}
	// Of the plan, what this very folding does not change: another name of the
	// same file may have been folded a moment ago. The bytes are compared anyway.
	like := func(now Facts, then *Facts) bool {
		return now.same(*then) && now.Size == then.Size && now.Mtime == then.Mtime
	}
	switch {
	case p.keepWas.same(p.dupWas):
		return errSameFile
	case !like(p.keepWas, a.Kept):
		return errKeepGone
	case !like(p.dupWas, a.Dup) || p.dupWas.Size != p.keepWas.Size:
		return errSincePlan
	}
	if p.keepMeta, err = p.keep.meta(); err != nil {
		return err
	}
	p.dupMeta, err = p.dup.meta()
	return err
}

// equal reads both files, byte for byte, and says whether they are equal and did
// not change in the meantime.
func (d *fold) equal(p *pair) error {
	for off := int64(0); off < p.dupWas.Size; {
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		n := min(p.dupWas.Size-off, pieceSize)
		for i, f := range []file{p.keep, p.dup} {
			if got, err := f.ReadAt(d.bufs[i][:n], off); int64(got) < n {
				if err == nil || errors.Is(err, io.EOF) {
					err = errChanged
				}
				return err
			}
		}
		if !bytes.Equal(d.bufs[0][:n], d.bufs[1][:n]) {
			return errDiffers
		}
		off += n
	}
	return d.unchanged(p)
}

// unchanged says whether both files are as they were opened.
func (d *fold) unchanged(p *pair) error {
	keep, err := p.keep.facts()
	if err != nil {
		return err
	}
	dup, err := p.dup.facts()
	if err != nil {
		return err
	}
	if keep != p.keepWas || dup != p.dupWas {
		return errChanged
	}
	return nil
}

// do carries out one act, whole or not at all.
func (d *fold) do(a *act) error {
	p, err := d.openPair(&a.jline)
	if err != nil {
		return err
	}
	defer p.close()
	if a.Act == Reflink {
		return d.reflink(p)
	}
	if a.Act == Hardlink {
		switch {
		case p.keepMeta.Mode != p.dupMeta.Mode, p.keepMeta.UID != p.dupMeta.UID, p.keepMeta.GID != p.dupMeta.GID, !maps.Equal(p.keepMeta.Xattrs, p.dupMeta.Xattrs):
			return errMode
		case p.keepMeta.Mtime != p.dupMeta.Mtime && !d.plan.AnyTime:
			return errTime
		}
	}
	// Nobody writes to the one that stays, nobody has the other one open.
	if err := errors.Join(p.keep.lease(false), p.dup.lease(true)); err != nil {
		return errBusy
	}
	if err := d.equal(p); err != nil {
		return err
	}
	// What stays must be on the medium before anything goes.
	if err := p.keep.sync(); err != nil {
		return err
	}
	if a.Act == Hardlink {
		return d.hardlink(&a.jline, p)
	}
	return d.trash(&a.jline, p)
}

// reflink has the kernel compare and share. There is nothing to undo, and nothing
// half done: each piece is shared or not, with the same bytes in both files.
func (d *fold) reflink(p *pair) error {
	for off := int64(0); off < p.dupWas.Size; {
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		n, err := p.keep.share(p.dup, off, p.dupWas.Size-off)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EXDEV):
			return errNoShare
		case err != nil:
			return err
		}
		off += n
	}
	return nil
}

// hardlink gives the path of the file that goes to the one that stays. In between
// the file that goes has the name To, so at every moment both contents have a name.
func (d *fold) hardlink(a *jline, p *pair) error {
	name, temp := string(a.Path), string(a.To)
	if err := d.disk.link(string(a.Keep), temp); err != nil {
		return err
	}
	// Was it the open file that got the link, and is it still the same otherwise?
	if err := d.isFile(temp, p.keepWas); err != nil {
		return errors.Join(err, d.removeLink(temp))
	}
	if err := d.disk.exchange(name, temp); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
			err = errNoSwap
		}
		return errors.Join(err, d.removeLink(temp))
	}
	// The swap must be on the medium before the other file goes. That takes a
	// while, in which whoever opened it a moment ago breaks the lease.
	err := d.disk.sync(path.Dir(name))
	if err == nil {
		err = d.swapped(name, temp, p)
	}
	if err == nil {
		// The name must not come back after this counts as done.
		return errors.Join(d.disk.remove(temp), d.disk.sync(path.Dir(name)))
	}
	return errors.Join(err, d.unswap(name, temp, p.keepWas))
}

// unswap takes a swap back. If the name means a third file by now, its user put that
// there, and what had the name before keeps the one that it has.
func (d *fold) unswap(name, temp string, keep Facts) error {
	if err := d.isFile(name, keep); err != nil {
		return fmt.Errorf("%s stays: %w", path.Base(temp), err)
	}
	if err := d.disk.exchange(name, temp); err != nil {
		return err
	}
	if err := d.disk.sync(path.Dir(name)); err != nil {
		return err
	}
	return errors.Join(d.removeLink(temp), d.disk.sync(path.Dir(name)))
}

// swapped says whether name and temp mean what they should, and the bytes of the
// file that goes are still those that were compared.
func (d *fold) swapped(name, temp string, p *pair) error {
	if err := errors.Join(d.isFile(name, p.keepWas), d.isFile(temp, p.dupWas)); err != nil {
		return err
	}
	keep, err := p.keep.facts()
	if err != nil {
		return err
	}
	dup, err := p.dup.facts()
	if err != nil {
		return err
	}
	// The change times are ours: names were made.
	keep.Ctime, dup.Ctime = p.keepWas.Ctime, p.dupWas.Ctime
	if keep != p.keepWas || dup != p.dupWas || !p.keep.undisturbed() || !p.dup.undisturbed() {
		return errChanged
	}
	return nil
}

// isFile says whether a name means the file with these facts.
func (d *fold) isFile(name string, was Facts) error {
	now, err := d.disk.stat(name)
	if err != nil {
		return err
	}
	if !now.same(was) {
		return errChanged
	}
	return nil
}

// removeLink removes a name of ours if it is one of several of its file.
func (d *fold) removeLink(temp string) error {
	links, err := d.disk.links(temp)
	if err != nil {
		return err
	}
	if links < 2 {
		return fmt.Errorf("%s stays: it is the only name of its file", path.Base(temp))
	}
	return d.disk.remove(temp)
}

// trash moves a file to the trash folder. Nothing is removed. The file gets its name
// there before it loses the one that it has: not every file system keeps a name in the
// middle of a move through a cut.
func (d *fold) trash(a *jline, p *pair) error {
	name, to := string(a.Path), string(a.To)
	if err := d.makeFolders(path.Dir(to)); err != nil {
		return err
	}
	if err := d.unchanged(p); err != nil {
		return err
	}
	linked, err := d.linkTo(name, to, p.dupWas)
	if err != nil {
		return err
	}
	away := to
	if linked {
		away = d.away(a)
	}
	// A move, and not the removal of a name that might mean another file by now.
	if err := d.disk.move(name, away); err != nil {
		if linked {
			err = errors.Join(err, d.removeLink(to))
		}
		return err
	}
	err = d.isFile(away, p.dupWas)
	if err == nil && (!p.keep.undisturbed() || !p.dup.undisturbed()) {
		err = errChanged
	}
	if err == nil && d.isFile(string(a.Keep), p.keepWas) != nil {
		err = errKeepGone // the name that stays must still mean what was compared
	}
	switch {
	case err != nil:
		if back := d.disk.move(away, name); back != nil {
			return errors.Join(err, back)
		}
		if linked {
			err = errors.Join(err, d.removeLink(to))
		}
		return errors.Join(err, d.syncBoth(to, name))
	case linked:
		if err := d.removeLink(away); err != nil {
			return err
		}
	}
	return d.syncBoth(name, to)
}

// away is the name that a file has for a moment on its way to the trash.
func (d *fold) away(a *jline) string {
	return join(path.Dir(string(a.To)), fmt.Sprint(tempPrefix, d.plan.ID, "-", a.N))
}

// linkTo gives the file of name another name, durably. It is false where the file
// system has no links.
func (d *fold) linkTo(name, to string, was Facts) (bool, error) {
	switch err := d.disk.link(name, to); {
	case errors.Is(err, fs.ErrExist): // by a run that was killed, or it is in the way
		if err := d.isFile(to, was); err != nil {
			return false, err
		}
		return true, d.disk.sync(path.Dir(to))
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
		return false, nil
	case err != nil:
		return false, err
	}
	if err := d.isFile(to, was); err != nil {
		return false, errors.Join(err, d.removeLink(to))
	}
	return true, d.disk.sync(path.Dir(to))
}

// syncBoth makes a move durable: first where it led to.
func (d *fold) syncBoth(name, to string) error {
	if err := d.disk.sync(path.Dir(to)); err != nil {
		return err
	}
	return d.disk.sync(path.Dir(name))
}

// makeFolders makes a folder with all above it, durably.
func (d *fold) makeFolders(dir string) error {
	if dir == "." || dir == d.made {
		return nil
	}
	up := path.Dir(dir)
	made := d.made
	if err := d.makeFolders(up); err != nil {
		return err
	}
	d.made = made
	if err := d.disk.mkdir(dir); err != nil {
		return err
	}
	if err := d.disk.sync(up); err != nil {
		return err
	}
	d.made = dir
	return nil
}

// recover looks at what a run that was cut off left, and returns the last act that
// it began. Acts without a result are brought to an end, in one direction or the other.
func (d *fold) recover() (last int64, err error) {
	open := map[int64]*jline{}
	_, err = d.work.readJournal(d.plan.ID, func(l *jline) error {
		switch l.Op {
		case opIntent:
			// Behind a gap nothing was begun: intents are durable before that.
			if l.N == last+1 {
				last = l.N
			}
			if l.N <= last {
				open[l.N] = l
			}
		case opResult:
			if i := open[l.N]; i != nil {
				d.count(i.Path, i.Dup.Size, l.Result, l.Why)
				delete(open, l.N)
			}
		case opEnd, opUndo, opUndone:
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || len(open) == 0 {
		return last, err
	}
	// A killed run may have left its last lines in memory only: opening makes them
	// durable, before anything is done by them.
	j, err := d.work.openJournal(d.plan.ID)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	for _, n := range slices.Sorted(maps.Keys(open)) {
		l := open[n]
		if d.ctx.Err() != nil {
			return last, context.Cause(d.ctx)
		}
		r := jline{Op: opResult, N: l.N, Result: resDone}
		if err := d.settleAct(l); err != nil {
			if d.ctx.Err() != nil {
				return last, err
			}
			r.Result, r.Why = resLeft, reasonOf(err)
		}
		d.count(l.Path, l.Dup.Size, r.Result, r.Why)
		if err := j.add(r); err != nil {
			return last, err
		}
	}
	return last, nil
}

// settleAct ends an act of which only the intent is known, by what is found on the
// disk. An error means that the file is as it was.
func (d *fold) settleAct(l *jline) error {
	a := &act{jline: *l, size: l.Dup.Size}
	if l.Act == Hardlink {
		if err := d.settleLink(l); err != nil {
			return err
		}
	}
	if l.Act == Trash {
		if err := d.settleAway(l); err != nil {
			return err
		}
	}
	at, err := d.disk.stat(string(l.Path))
	switch {
	case err == nil && l.Act == Hardlink && at.same(*l.Kept):
		return d.disk.sync(path.Dir(string(l.Path)))
	case err == nil && at.same(*l.Dup):
		return d.do(a) // not begun, or taken back
	case l.Act == Trash && gone(err):
		if to, err := d.disk.stat(string(l.To)); err == nil && to.same(*l.Dup) {
			return d.syncBoth(string(l.Path), string(l.To))
		}
	}
	return errSincePlan
}

// settleAway sees to the name that a file has for a moment on its way to the trash.
func (d *fold) settleAway(l *jline) error {
	away := d.away(l)
	at, err := d.disk.stat(away)
	switch {
	case gone(err):
		return nil
	case err != nil:
		return err
	case at.same(*l.Dup):
		return errors.Join(d.removeLink(away), d.disk.sync(path.Dir(away))) // it is in the trash already
	}
	return d.disk.move(away, string(l.Path)) // another one had its name, and gets it back
}

// settleLink sees to the name that a hard link has for a moment.
func (d *fold) settleLink(l *jline) error {
	name, temp := string(l.Path), string(l.To)
	t, err := d.disk.stat(temp)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := d.disk.stat(name)
	if err != nil {
		return err
	}
	switch {
	case t.same(*l.Kept) && n.same(*l.Dup): // linked, not swapped
		return errors.Join(d.removeLink(temp), d.disk.sync(path.Dir(name)))
	case t.same(*l.Dup) && n.same(*l.Kept): // swapped, not removed
	default:
		return errSincePlan
	}
	if err := d.disk.sync(path.Dir(name)); err != nil {
		return err
	}
	// Somebody may have changed either meanwhile: they are compared again.
	p := &pair{}
	if p.keep, err = d.disk.open(name); err != nil {
		return err
	}
	if p.dup, err = d.disk.open(temp); err != nil {
		return errors.Join(err, p.keep.Close())
	}
	defer p.close()
	if p.keepWas, err = p.keep.facts(); err != nil {
		return err
	}
	if p.dupWas, err = p.dup.facts(); err != nil {
		return err
	}
	err = errors.Join(p.keep.lease(false), p.dup.lease(true))
	if err == nil && p.keepWas.Size != p.dupWas.Size {
		err = errDiffers
	}
	if err == nil {
		err = d.equal(p)
	}
	if err == nil {
		err = p.keep.sync()
	}
	if err == nil {
		err = d.swapped(name, temp, p)
	}
	if err == nil {
		return errors.Join(d.disk.remove(temp), d.disk.sync(path.Dir(name)))
	}
	return errors.Join(err, d.unswap(name, temp, *l.Kept))
}
