package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

const (
	// atOnce is how many files are read side by side: they share the flushes of a
	// group commit, and a slow disk is not made to seek between more.
	atOnce = 4
	// batch is how many names of a folder are held at once.
	batch = 256
	// maxDepth is how many folders may lie in each other.
	maxDepth = 64
	// rememberAtOnce is how many taken files are written down together. What a
	// crash forgets is read once more and found to be here.
	rememberAtOnce = 128
)

// outcome is what became of a file.
type outcome int

const (
	stored   outcome = iota // its content is new to the person
	known                   // the person kept that content already
	same                    // it was taken before and did not change
	unripe                  // it changes, or is open for writing
	gone                    // it is not there any more
	refused                 // a consent is missing
	declined                // its owner deleted that content
	failed                  // something about this file
)

// A round is one look at a folder whose volume is there.
type round struct {
	f    *folder
	root *os.Root
	vol  volume
	full bool

	ctx   context.Context // ends with the first error that is not about one file
	group *errgroup.Group
	done  chan keptFile

	tight   atomic.Pointer[error] // there was no room for a file; a smaller one may fit
	noRooms atomic.Int64          // how often
}

// maxNoRooms is how many files there may be no room for before the rest has to
// wait: each is written down for its owner to see.
const maxNoRooms = 16

type keptFile struct {
	rel string
	t   taken
}

// candidate is a file that may be taken.
type candidate struct {
	rel string
	id  fileID
	old *taken // as it was when it was taken before; nil: it was not
}

func (r *round) run(ctx context.Context) error {
	r.group, r.ctx = errgroup.WithContext(ctx)
	r.group.SetLimit(atOnce)
	r.done = make(chan keptFile)
	written := make(chan error, 1)
	go func() { written <- r.writeDown(context.WithoutCancel(ctx)) }()
	err := r.walk()
	err = errors.Join(r.group.Wait(), err)
	close(r.done)
	err = errors.Join(err, <-written)
	if tight := r.tight.Load(); tight != nil && err == nil {
		return *tight
	}
	return err
}

func (r *round) walk() error {
	f := r.f
	f.mu.Lock()
	dirty := f.dirty
	f.dirty = map[string]struct{}{}
	f.again = f.again && !r.full
	if r.full {
		clear(f.troubles)
		clear(f.missing)
		f.unnamed, f.unnamedRefused, f.unnamedGone, f.skipped, f.scanOnly = 0, 0, 0, 0, false
	}
	var due []string
	now := time.Now()
	for rel, p := range f.pending {
		if !now.Before(p.due) {
			due = append(due, rel)
		}
	}
	f.mu.Unlock()
	if r.full {
		return r.dir(".", 0)
	}
	for rel := range dirty {
		if err := r.dir(rel, strings.Count(rel, "/")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for len(due) > 0 {
		n := min(batch, len(due))
		if err := r.files(due[:n]); err != nil {
			return err
		}
		due = due[n:]
	}
	return nil
}

// hidden says whether a name is one that is left alone.
func hidden(name string) bool {
	lower := strings.ToLower(name)
	switch lower {
	case "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle":
		return true
	}
	for _, end := range []string{".part", ".partial", ".crdownload", ".filepart", ".tmp", ".download"} {
		if strings.HasSuffix(lower, end) {
			return true
		}
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "~$")
}

// dir looks at a folder: at all below it in a full round, else at its files and at
// folders that nobody tells about yet.
func (r *round) dir(rel string, depth int) error {
	f := r.f
	if depth > maxDepth {
		f.settled(rel, fileID{}, failed, trouble{Reason: fmt.Sprintf("More than %d folders lie in each other.", maxDepth)})
		return nil
	}
	watched := f.watch(rel, r.full) // before it is read, so that nothing is missed in between
	d, err := r.root.OpenFile(rel, os.O_RDONLY|notFollowed, 0)
	if err != nil {
		if rel == "." || !errors.Is(err, fs.ErrPermission) {
			return err
		}
		f.settled(rel, fileID{}, failed, trouble{Reason: reasonOf(err)})
		return nil
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(batch)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var files, folders []string
		skipped := 0
		for _, e := range entries {
			name := path.Join(rel, e.Name())
			switch t := e.Type(); {
			case hidden(e.Name()):
				if e.Name() != MarkerName && e.Name() != TrashName {
					skipped++
				}
			case t.IsDir():
				folders = append(folders, name)
			case t.IsRegular(), t&fs.ModeIrregular != 0: // the system does not say
				files = append(files, name)
			default:
				skipped++
			}
		}
		if r.full && skipped > 0 {
			f.mu.Lock()
			f.skipped += skipped
			f.mu.Unlock()
		}
		if err := r.files(files); err != nil {
			return err
		}
		for _, sub := range folders {
			if !r.full && (!watched || f.isBlind() || f.isWatched(sub)) {
				continue // the next full round comes by
			}
			if f.in.ownBelow(r.root, sub) {
				continue
			}
			switch err := r.dir(sub, depth+1); {
			case err == nil:
			case errors.Is(err, fs.ErrNotExist): // it went away while we looked
			default:
				return err
			}
		}
		if len(entries) == 0 || err != nil {
			return nil
		}
	}
}

// ownBelow says whether a folder below a watched one is the box's own: it may
// have been mounted there later.
func (in *Inbox) ownBelow(root *os.Root, rel string) bool {
	info, err := root.Lstat(rel)
	if err != nil {
		return false
	}
	own, err := os.Stat(in.opt.State)
	return err == nil && os.SameFile(info, own)
}

// files takes those of a folder that are new or have changed, and are ripe.
func (r *round) files(names []string) error {
	if r.f.conf.ID == 0 {
		if err := r.makeRoom(); err != nil {
			return err
		}
	}
	return r.look(names)
}

func (r *round) look(names []string) error {
	var list []candidate
	var paths []string
	for _, rel := range names {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		info, err := r.root.Lstat(rel)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.f.settled(rel, fileID{}, gone, trouble{})
		case err != nil:
			if broken(err) {
				return err
			}
			r.tell(candidate{rel: rel}, failed, trouble{Reason: reasonOf(err)})
		case !info.Mode().IsRegular():
		default:
			list = append(list, candidate{rel: rel, id: idOf(info, r.vol)})
			paths = append(paths, rel)
		}
	}
	if len(list) == 0 {
		return nil
	}
	before, err := r.f.in.remembered(r.ctx, r.f.conf.ID, paths)
	if err != nil {
		return err
	}
	deleted, err := r.deleted(list, before)
	if err != nil {
		return err
	}
	for i, c := range list {
		c.old = before[i]
		if c.old != nil && c.old.item == 0 {
			if when, still := deleted[c.old.ref]; still && c.old.id == c.id {
				r.tell(c, declined, trouble{Deleted: true, Reason: deletedOn(when)})
				continue
			}
			c.old = nil // it was not taken: now it is like any other
		}
		if c.old != nil && c.old.id == c.id && !c.old.lost {
			r.f.settled(c.rel, c.id, same, trouble{})
			if r.full && r.f.conf.Originals == Trash {
				r.group.Go(func() error { return r.discardAgain(c) })
			}
			continue
		}
		if !r.f.ripe(c.rel, c.id, r.vol) {
			continue
		}
		r.group.Go(func() error { return r.one(c) })
	}
	return nil
}

// deleted says which of the contents that were declined before would be again, and
// when they were deleted: their owner may want them by now.
func (r *round) deleted(list []candidate, before []*taken) (map[[32]byte]time.Time, error) {
	var refs []storage.Ref
	for i := range list {
		if t := before[i]; t != nil && t.item == 0 {
			refs = append(refs, t.ref)
		}
	}
	if len(refs) == 0 {
		return nil, nil
	}
	found, err := r.f.in.opt.Catalog.Deleted(r.ctx, r.f.conf.User, refs)
	when := make(map[[32]byte]time.Time, len(found))
	for _, d := range found {
		when[d.Ref] = d.Time
	}
	return when, err
}

// deletedOn is the reason that is told of a declined file.
func deletedOn(when time.Time) string {
	return "Its owner deleted this content from the box on " + when.Format(time.DateOnly) + ". It stays where it is."
}

// broken says whether an error is one of the disk and not of a file.
func broken(err error) bool {
	for _, bad := range diskErrors {
		if errors.Is(err, bad) {
			return true
		}
	}
	return false
}

// one takes a file and notes what became of it. Its error is one that the next
// file would meet too.
func (r *round) one(c candidate) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	o, err := r.take(c)
	if err == nil {
		r.tell(c, o, trouble{})
		return nil
	}
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	if broken(err) {
		return err
	}
	tr := trouble{Reason: reasonOf(err)}
	var original *moveError
	switch {
	case errors.As(err, &original):
		o, tr.Reason = failed, "It is kept, but the original could not be moved to the trash. "+reasonOf(original.err)
	case errors.Is(err, fs.ErrNotExist):
		o = gone
	case !isProblem(err):
		o = failed
	default:
		p := problem.As(err)
		tr.Reason = strings.TrimSpace(p.Title + ". " + p.Detail)
		switch o = failed; p.Kind {
		case problem.ConsentRequired:
			purpose, _ := p.Members["purpose"].(string)
			o, tr.Purpose = refused, consent.Purpose(purpose)
		case problem.Deleted:
			o = declined
			tr = r.leave(c, p)
		case problem.PreconditionFailed, problem.Mismatch: // the name was taken, the file changed, while we looked
			o = unripe
		case problem.Unavailable:
			return err
		case problem.Full, problem.Quota:
			r.tight.Store(&err)
			if r.noRooms.Add(1) > maxNoRooms {
				return err
			}
		}
	}
	r.tell(c, o, tr)
	return nil
}

// leave remembers a file whose content was declined, so that it is not read again
// while it stays as it is. It is not touched, whatever was wished for originals:
// the box does not have it.
func (r *round) leave(c candidate, p *problem.Error) trouble {
	sum, _ := p.Members["sha256"].(string)
	if ref, err := storage.ParseRef(sum); err == nil {
		r.done <- keptFile{c.rel, taken{id: c.id, ref: ref}}
	}
	said, _ := p.Members["deleted"].(string)
	when, err := time.Parse(time.RFC3339, said)
	if err != nil {
		when = time.Now().UTC() // it is our own member
	}
	return trouble{Deleted: true, Reason: deletedOn(when)}
}

func (r *round) tell(c candidate, o outcome, tr trouble) {
	r.f.settled(c.rel, c.id, o, tr)
	if r.f.report != nil {
		r.f.report(c.rel, o, tr, c.id.size)
	}
}

// take reads a file once and keeps it. The consent is asked for before it is
// opened.
func (r *round) take(c candidate) (outcome, error) {
	f, in := r.f, r.f.in
	meta := ingest.Meta{Size: c.id.size, Path: path.Join(f.conf.Target, c.rel)}
	meta.Source, meta.SourceBy = f.sourceOf(c.rel)
	grant, err := in.opt.Consent.GrantFor(r.ctx, f.conf.User, 0, meta.Source)
	if err != nil {
		return refused, err
	}
	if meta.Path, err = catalog.CleanPath(meta.Path); err != nil {
		return failed, err
	}
	if t := time.Unix(0, c.id.mtime); t.Unix() >= 0 && t.Unix() <= maxMTime {
		meta.MTime = t.UTC().Truncate(time.Millisecond)
	}
	file, err := r.root.OpenFile(c.rel, os.O_RDONLY|notFollowed, 0)
	if err != nil {
		return failed, err
	}
	defer file.Close()
	if !r.still(c, file) || beingWritten(file) {
		return unripe, nil
	}
	o, err := r.place(c, file, grant, &meta)
	if err != nil || o == same || o == unripe {
		return o, err
	}
	intake, err := in.opt.Ingest.Begin(r.ctx, grant, meta)
	if err != nil {
		return failed, err
	}
	defer intake.Close()
	if _, err := intake.Write(r.ctx, 0, &reader{ctx: r.ctx, r: file}); err != nil {
		if errors.Is(err, fs.ErrNotExist) || broken(err) {
			return failed, pathless(err)
		}
		if !r.still(c, file) {
			return unripe, nil
		}
		return failed, err
	}
	// Whole is only what did not change while it was read.
	if !r.still(c, file) || beingWritten(file) {
		return unripe, nil
	}
	result, err := intake.Finish(r.ctx)
	if err != nil {
		if !r.still(c, file) {
			return unripe, nil
		}
		return failed, err
	}
	o = stored
	if result.Stored == ingest.StoredKnown {
		o = known
	}
	return o, r.keep(c, file, taken{id: c.id, ref: result.Item.Ref, item: result.Item.ID})
}

// maxMTime is the newest time that the box keeps: see ingest.ParseMTime.
const maxMTime = 1<<32 - 1

// pathless takes the file's name off an error of the disk, for the log.
func pathless(err error) error {
	for _, bad := range diskErrors {
		if errors.Is(err, bad) {
			return bad
		}
	}
	return fs.ErrNotExist
}

// still says whether an open file is the one that was looked at, and its name
// still leads to it.
func (r *round) still(c candidate, file *os.File) bool {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || idOf(info, r.vol) != c.id {
		return false
	}
	named, err := r.root.Lstat(c.rel)
	return err == nil && os.SameFile(info, named) && idOf(named, r.vol) == c.id
}

// reader ends with a context. It hides that the file can be closed.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// place decides under which name a file is kept, or finds that it is here: what
// only got another time or number is not taken again. A file that was taken
// before becomes a new version of what it was; any other gets a name of its own.
func (r *round) place(c candidate, file *os.File, grant consent.Grant, meta *ingest.Meta) (outcome, error) {
	in, user := r.f.in, r.f.conf.User
	var sum storage.Ref
	hash := func() (err error) {
		if !sum.IsZero() {
			return nil
		}
		h := sha256.New()
		if _, err := io.Copy(h, &reader{ctx: r.ctx, r: file}); err != nil {
			return err
		}
		sum = storage.Ref(h.Sum(nil))
		meta.Want = sum
		_, err = file.Seek(0, io.SeekStart)
		return err
	}
	if c.old != nil {
		if err := hash(); err != nil {
			return failed, err
		}
		if !r.still(c, file) {
			return unripe, nil
		}
		unchanged := sum == storage.Ref(c.old.ref)
		if unchanged && !c.old.lost {
			return same, r.keep(c, file, taken{id: c.id, ref: sum, item: c.old.item})
		}
		if it, err := in.opt.Catalog.Item(r.ctx, user, c.old.item); err == nil && it.Trashed.IsZero() {
			meta.Path = it.Path // its owner may have moved it
			return stored, nil
		}
		if unchanged { // damaged, and deleted by its owner
			return same, r.keep(c, file, taken{id: c.id, ref: sum, item: c.old.item})
		}
	}
	folder, name := path.Split(meta.Path)
	for n := 1; ; n++ {
		if n > 1 {
			meta.Path = folder + numbered(name, n)
		}
		it, err := in.opt.Catalog.Lookup(r.ctx, user, meta.Path)
		switch {
		case problem.KindOf(err) == problem.NotFound:
			meta.IfAbsent = true
			return stored, nil
		case err != nil || n == maxNumber:
			return failed, err
		}
		if err := hash(); err != nil {
			return failed, err
		}
		if it.Ref != sum {
			continue
		}
		if !r.still(c, file) {
			return unripe, nil
		}
		meta.Size = it.Size
		result, here, err := in.opt.Ingest.Known(r.ctx, grant, *meta)
		if err != nil {
			return failed, err
		}
		if !here { // there is doubt about the stored copy: it gets the bytes
			return stored, nil
		}
		return same, r.keep(c, file, taken{id: c.id, ref: sum, item: result.Item.ID})
	}
}

// maxNumber is how many files of one name and different contents get numbers.
const maxNumber = 1000

// numbered is the n-th name of a file whose name is taken: "a (2).jpg".
func numbered(name string, n int) string {
	ext := path.Ext(name)
	if len(ext) > 16 || ext == name {
		ext = ""
	}
	stem, tail := strings.TrimSuffix(name, ext), fmt.Sprintf(" (%d)%s", n, ext)
	for len(stem)+len(tail) > catalog.MaxName {
		stem = strings.ToValidUTF8(stem[:len(stem)-1], "")
	}
	return stem + tail
}

// keep does with the original what was wished, now that its content is durable.
func (r *round) keep(c candidate, file *os.File, t taken) error {
	var moved error
	if r.f.conf.Originals == Trash && r.f.conf.ID != 0 {
		if moved = r.discard(c, file); moved == nil {
			return nil // there is nothing left that could be taken twice
		}
	}
	r.done <- keptFile{c.rel, t}
	if moved != nil {
		return &moveError{moved}
	}
	return nil
}

// moveError is an original that could not be moved, of a file that is kept.
type moveError struct{ err error }

func (e *moveError) Error() string { return "inbox: the original stays: " + e.err.Error() }

func (e *moveError) Unwrap() error { return e.err }

// discardAgain tries once more to move an original that was taken before.
func (r *round) discardAgain(c candidate) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	file, err := r.root.OpenFile(c.rel, os.O_RDONLY|notFollowed, 0)
	if err == nil {
		err = r.discard(c, file)
		file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.tell(c, failed, trouble{Reason: "It is kept, but the original could not be moved to the trash. " + reasonOf(err)})
	}
	return nil
}

// discard moves an original to the trash folder at the top of the watched one.
func (r *round) discard(c candidate, file *os.File) error {
	if !r.still(c, file) {
		return nil // it changed since: it stays, and is looked at again
	}
	to := path.Join(TrashName, time.Now().UTC().Format(time.DateOnly), c.rel)
	if err := r.root.MkdirAll(path.Dir(to), 0o755); err != nil {
		return err
	}
	folder, name := path.Split(to)
	for n := 1; ; n++ {
		if n > 1 {
			to = folder + numbered(name, n)
		}
		if _, err := r.root.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
	}
	if err := r.root.Rename(c.rel, to); err != nil {
		return err
	}
	// Another file may have taken the name in the last moment: it goes back.
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if there, err := r.root.Lstat(to); err != nil || os.SameFile(info, there) {
		return err
	}
	if _, err := r.root.Lstat(c.rel); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("another file took its name")
	}
	return r.root.Rename(to, c.rel)
}

// writeDown remembers what was taken, many at once.
func (r *round) writeDown(ctx context.Context) error {
	var failed error
	var paths []string
	var list []taken
	flush := func() {
		failed = errors.Join(failed, r.f.in.remember(ctx, r.f.conf.ID, paths, list))
		paths, list = paths[:0], list[:0]
	}
	for k := range r.done {
		paths, list = append(paths, k.rel), append(list, k.t)
		if len(list) == rememberAtOnce {
			flush()
		}
	}
	flush()
	return failed
}
