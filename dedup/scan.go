package dedup

import (
	"context"
	"errors"
	"iter"
	"time"

	"golang.org/x/sys/unix"
	"yunbox.local/storage"
)

// ScanOptions say what a scan looks at.
type ScanOptions struct {
	// OtherMounts includes file systems that are mounted below the root.
	OtherMounts bool
	// All hashes every file, also those of a size of their own, so that Known can
	// be asked about them.
	All bool
	// Known returns those of refs that the person keeps on the box already, up to
	// a thousand at a time. nil: nobody is asked.
	Known func(ctx context.Context, refs []storage.Ref) ([]storage.Ref, error)
	// Progress is told how far it is, five times a second at most; nil: nobody is.
	Progress func(Progress)
}

// Report is what a scan found.
type Report struct {
	Files   int64 `json:"files"` // regular ones, every name counted
	Bytes   int64 `json:"bytes"`
	Folders int64 `json:"folders"`
	Empty   int64 `json:"empty"`  // files without content: nothing to fold
	Linked  int64 `json:"linked"` // further names of files that were counted (hard links)

	Groups int64 `json:"groups"` // contents that there are several files of
	Same   int64 `json:"same"`   // files that are the same as another: all of a group but one
	Free   int64 `json:"free"`   // bytes that they take
	Shared int64 `json:"shared"` // files that use the storage of another already

	InBox      int64 `json:"in_box"` // files whose content the person keeps on the box
	InBoxBytes int64 `json:"in_box_bytes"`

	ReadFiles   int64 `json:"read_files"` // whose content was read, at least its ends
	ReadBytes   int64 `json:"read_bytes"`
	OtherMounts int64 `json:"other_mounts"` // folders left out because they are other file systems
	Reflinks    bool  `json:"reflinks"`     // all of it lies where files may share storage

	Unreadable Troubles `json:"unreadable"`
	Changed    Troubles `json:"changed"` // files that changed while they were read
}

// A Group is files of one content.
type Group struct {
	Ref   storage.Ref
	Size  int64 // of each, bytes
	InBox bool  // the person keeps the content on the box
	Files []Member
}

// Member is one name of one file of a Group. Names of one file come one after the
// other.
type Member struct {
	Path Path
	Facts
	Alloc   int64  // bytes on the disk
	Links   uint32 // names that the file has, here or elsewhere
	Storage uint64 // the same, and not 0: the files use the same storage
}

// maxGroup is how many names of one content are looked at together; more are
// several groups.
const maxGroup = 20_000

// scan is one at work.
type scan struct {
	*Folder
	opt     ScanOptions
	scratch *scratch
	names   *names
	report  *Report
	log     *cacheLog
	began   time.Time
}

func (s *scan) today() uint32 { return uint32(s.began.Unix() / 86400) }

// Scan looks for equal files and gives groups of them, large files first; nil: they
// are only counted. It ends with the error of ctx or of yield, if there is one; what
// was read until then is remembered.
func (f *Folder) Scan(ctx context.Context, opt ScanOptions, yield func(Group) error) (r *Report, err error) {
	err = f.list(ctx, opt, bySize(), func(s *scan, listed *sorter) error {
		equal, err := s.sift(ctx, listed)
		if err != nil {
			return err
		}
		defer equal.drop()
		r = s.report
		return s.group(ctx, equal, yield)
	})
	return r, err
}

// list walks the tree, gives do the files in an order, and lets the cache remember
// what do read.
func (f *Folder) list(ctx context.Context, opt ScanOptions, order order, do func(*scan, *sorter) error) (err error) {
	s := &scan{Folder: f, opt: opt, scratch: &scratch{work: f.work}, report: &Report{}, log: &cacheLog{w: f.work}, began: time.Now()}
	s.names = &names{scratch: s.scratch}
	defer s.names.close()
	f.tree.xdev = opt.OtherMounts
	if err := f.work.settle(s.today()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.log.close(), f.work.settle(s.today())) }()
	listed := newSorter(s.scratch, order)
	defer listed.drop()
	w := &walk{t: f.tree, names: s.names, out: listed, r: s.report, meter: newMeter(opt.Progress, Listing, 0, 0)}
	err = w.run(ctx)
	w.meter.end()
	if err != nil {
		return err
	}
	s.report.Reflinks = f.tree.vols.allReflink()
	return do(s, listed)
}

// tally counts what a sorter holds: files and bytes, further names not counted.
type tally struct{ files, bytes int64 }

// sift goes from names to those whose content somebody else has too: by size, then
// by the ends, then by all of it. The result is sorted by content.
func (s *scan) sift(ctx context.Context, listed *sorter) (*sorter, error) {
	candidates, n, err := s.sameSize(listed)
	if err != nil {
		return nil, err
	}
	defer candidates.drop()
	equal := newSorter(s.scratch, byContent())
	ends := newSorter(s.scratch, byEnds())
	defer ends.drop()
	err = s.pass(ctx, Sampling, s.recall(candidates.each()), n.files, n.bytes, s.opt.All, func(r *record) {
		switch {
		case r.known&knowsFull != 0 && (r.Size <= wholeLimit || s.opt.All):
			equal.add(r)
		default:
			ends.add(r)
		}
	})
	if err != nil {
		equal.drop()
		return nil, err
	}
	suspects := newSorter(s.scratch, byInode())
	defer suspects.drop()
	var rest tally
	sameEnds := func(a, b *record) bool { return a.Size == b.Size && a.ends == b.ends }
	err = several(ends.each(), sameEnds, func(r *record, first bool) {
		suspects.add(r)
		if first {
			rest.files, rest.bytes = rest.files+1, rest.bytes+r.Size
		}
	})
	if err == nil {
		err = s.pass(ctx, Reading, suspects.each(), rest.files, rest.bytes, true, func(r *record) { equal.add(r) })
	}
	if err != nil {
		equal.drop()
		return nil, err
	}
	return equal, nil
}

// sameSize keeps files whose size another file has, or all.
func (s *scan) sameSize(listed *sorter) (*sorter, tally, error) {
	out := newSorter(s.scratch, byInode())
	var n tally
	keep := func(r *record, first bool) {
		out.add(r)
		if first {
			n.files, n.bytes = n.files+1, n.bytes+cost(r, s.opt.All)
		}
	}
	var last record
	counted := func(yield func(*record, error) bool) {
		for r, err := range listed.each() {
			if err == nil {
				if last.Inode != 0 && last.same(r.Facts) {
					s.report.Linked++
				}
				last = *r
			}
			if !yield(r, err) {
				return
			}
		}
	}
	if s.opt.All {
		var before Facts
		for r, err := range counted {
			if err != nil {
				return nil, n, err
			}
			keep(r, !before.same(r.Facts))
			before = r.Facts
		}
		return out, n, out.err
	}
	err := several(counted, func(a, b *record) bool { return a.Size == b.Size }, keep)
	return out, n, err
}

// several gives all records of those groups of alike neighbours that hold at least
// two files; first marks the first name of each.
func several(in iter.Seq2[*record, error], alike func(a, b *record) bool, emit func(r *record, first bool)) error {
	var held []record // of the first file of a group, until there is a second
	var last record
	begun := false
	for r, err := range in {
		if err != nil {
			return err
		}
		switch {
		case !begun || !alike(&last, r):
			held = append(held[:0], *r)
			begun = true
		case last.same(r.Facts) && len(held) > 0:
			held = append(held, *r)
		default:
			for i := range held {
				emit(&held[i], i == 0)
			}
			held = held[:0]
			emit(r, !last.same(r.Facts))
		}
		last = *r
	}
	return nil
}

// recall adds what the cache knows to records that are sorted by inode.
func (s *scan) recall(in iter.Seq2[*record, error]) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		c, err := s.work.entries(cacheName)
		if err != nil {
			yield(nil, err)
			return
		}
		defer c.close()
		c.next()
		for r, err := range in {
			if err == nil && c.seek(r.Facts) {
				if c.now.day+renewDays < s.today() {
					c.now.day = s.today()
					err = s.log.add(&c.now)
				}
				r.known |= c.now.known & (knowsEnds | knowsFull)
				r.ends, r.full = c.now.ends, c.now.full
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// remember writes down what was read of a file, if its times would tell a change
// from now on.
func (s *scan) remember(r *record) error {
	if max(r.Mtime, r.Ctime) > s.began.Add(-s.settled).UnixNano() {
		return nil
	}
	if s.tree.vols.loose(r.Volume) {
		return nil
	}
	return s.log.add(&entry{Facts: r.Facts, known: r.known, day: s.today(), ends: r.ends, full: r.full})
}

// group collects neighbours of one content.
func (s *scan) group(ctx context.Context, equal *sorter, yield func(Group) error) error {
	a := &asker{s: s, yield: yield}
	var g []record
	end := func() error {
		made, err := s.makeGroup(g, yield != nil)
		g = g[:0]
		if err != nil || made == nil {
			return err
		}
		return a.add(ctx, *made)
	}
	for r, err := range equal.each() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(g) > 0 && (g[0].full != r.full || g[0].Size != r.Size || len(g) >= maxGroup) {
			if err := end(); err != nil {
				return err
			}
		}
		g = append(g, *r)
	}
	if err := end(); err != nil {
		return err
	}
	return a.flush(ctx)
}

// makeGroup is nil for a content that one file has and nobody wants to know about. The
// files have their paths if they are named.
func (s *scan) makeGroup(list []record, named bool) (*Group, error) {
	if len(list) == 0 || !s.opt.All && list[0].same(list[len(list)-1].Facts) {
		return nil, nil
	}
	g := &Group{Ref: list[0].full, Size: list[0].Size, Files: make([]Member, len(list))}
	for i := range list {
		r := &list[i]
		reflinks := s.tree.vols.reflinks(r.Volume)
		path := ""
		if named || reflinks {
			var err error
			if path, err = s.names.path(r.name); err != nil {
				return nil, err
			}
		}
		m := Member{Path: Path(path), Facts: r.Facts, Alloc: r.alloc, Links: r.links}
		if i > 0 && m.same(g.Files[i-1].Facts) {
			m.Storage = g.Files[i-1].Storage
		} else if reflinks {
			if fd, err := s.tree.openFD(path); err == nil {
				m.Storage = storageOf(fd)
				unix.Close(fd)
			}
		}
		g.Files[i] = m
	}
	return g, nil
}

// asker gives groups on after it asked which contents the box has, many at a time.
type asker struct {
	s     *scan
	yield func(Group) error
	wait  []Group
	files int
}

func (a *asker) add(ctx context.Context, g Group) error {
	a.wait = append(a.wait, g)
	if a.files += len(g.Files); len(a.wait) < 1000 && a.files < 4000 {
		return nil
	}
	return a.flush(ctx)
}

func (a *asker) flush(ctx context.Context) error {
	known := map[storage.Ref]bool{}
	if a.s.opt.Known != nil && len(a.wait) > 0 {
		refs := make([]storage.Ref, len(a.wait))
		for i := range a.wait {
			refs[i] = a.wait[i].Ref
		}
		list, err := a.s.opt.Known(ctx, refs)
		if err != nil {
			return err
		}
		for _, ref := range list {
			known[ref] = true
		}
	}
	for _, g := range a.wait {
		g.InBox = known[g.Ref]
		if a.s.count(g) && a.yield != nil {
			if err := a.yield(g); err != nil {
				return err
			}
		}
	}
	a.wait, a.files = a.wait[:0], 0
	return nil
}

// count adds a group to the report, and says whether it is one of several files.
func (s *scan) count(g Group) bool {
	r := s.report
	files, free := int64(0), int64(0)
	stored := map[uint64]bool{}
	for i, m := range g.Files {
		if g.InBox {
			r.InBox++
			r.InBoxBytes += m.Size
		}
		if i > 0 && m.same(g.Files[i-1].Facts) {
			continue
		}
		files++
		switch {
		case m.Storage != 0 && stored[m.Storage]:
			r.Shared++
		case files > 1:
			free += m.Alloc
		}
		if m.Storage != 0 {
			stored[m.Storage] = true
		}
	}
	if files < 2 {
		return false
	}
	r.Groups++
	r.Same += files - 1
	r.Free += free
	return true
}
