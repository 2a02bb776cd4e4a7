package tree

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// Wrong is a file of the view that is not as it should be. Whose it is and what it is
// called does not concern who maintains the box.
type Wrong struct {
	Ref    storage.Ref
	Reason string // missing, not-a-file, size, time, bytes
}

// Checked is what Check found.
type Checked struct {
	Files   int64 // that were looked at
	Bytes   int64 // that were read; 0 unless everything was
	Wrong   int64
	Pending int64 // items whose changes were still to be followed
	Strange int64 // files that nobody has there: left from somewhere, or somebody's own
}

// Check compares the view with the catalogue: names, sizes and times, and if deep also
// the bytes. It changes nothing; Rebuild puts right what it finds. wrong and step may
// be called from another goroutine, one at a time.
func (t *Tree) Check(ctx context.Context, deep bool, wrong func(Wrong), step func(done, total int64)) (c Checked, err error) {
	t.work.Lock()
	room := t.state.room && t.opt.Mode != Off
	t.work.Unlock()
	if !room {
		return c, t.noView()
	}
	totals, err := t.opt.Catalog.Totals(ctx)
	if err != nil {
		return c, err
	}
	for after := ident.ItemID(0); ; {
		items, err := t.opt.Catalog.EveryItem(ctx, after, atOnce)
		if err != nil {
			return c, err
		}
		for _, it := range items {
			after = it.ID
			if !it.Trashed.IsZero() {
				continue
			}
			if err := t.checkOne(ctx, it, deep, &c, wrong); err != nil {
				return c, err
			}
		}
		step(c.Files+c.Pending, totals.Items)
		if len(items) < atOnce {
			break
		}
	}
	return c, t.strangers(ctx, func(_ string, e fs.DirEntry) error {
		if !e.IsDir() {
			c.Strange++
		}
		return nil
	})
}

func (t *Tree) checkOne(ctx context.Context, it catalog.Item, deep bool, c *Checked, wrong func(Wrong)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.work.Lock()
	defer t.work.Unlock()
	f := t.people[it.User]
	if f == nil || it.Seq > f.seq || t.state.pass >= 0 {
		c.Pending++
		return nil
	}
	c.Files++
	reason, err := t.look(f.name+"/"+shown(it.Path), it, deep, c)
	if reason != "" {
		// Its name may have changed in this moment, its folder's for example.
		now, err := t.opt.Catalog.ItemsByID(ctx, []ident.ItemID{it.ID})
		if err != nil {
			return err
		}
		if len(now) == 0 || now[0] != it {
			c.Pending++
			return nil
		}
		c.Wrong++
		wrong(Wrong{it.Ref, reason})
	}
	return err
}

func (t *Tree) look(name string, it catalog.Item, deep bool, c *Checked) (reason string, err error) {
	info, err := t.opt.Disk.Stat(name)
	switch {
	case err != nil && gone(err):
		return "missing", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "not-a-file", nil
	case info.Size() != it.Size:
		return "size", nil
	case !sameTime(info.ModTime(), timeOf(it)):
		return "time", nil
	case !deep:
		return "", nil
	}
	f, err := t.opt.Disk.OpenFile(name, vfs.ReadOnly, 0)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	n, err := io.Copy(h, f)
	c.Bytes += n
	_ = f.Evict(0, 0)
	if err != nil || storage.Ref(h.Sum(nil)) != it.Ref {
		return "bytes", nil
	}
	return "", nil
}

// sameTime allows for what file systems can keep: some have seconds only, and some no
// years before 1970 or after 2038.
func sameTime(is, want time.Time) bool {
	return is.Sub(want).Abs() < time.Second || want.Year() < 1970 || want.Year() >= 2038
}

// strangers calls each with every file that no row speaks of, and with every folder
// after what is in it.
func (t *Tree) strangers(ctx context.Context, each func(name string, e fs.DirEntry) error) error {
	t.work.Lock()
	owners := map[string]ident.UserID{}
	for u, f := range t.people {
		owners[f.name] = u
	}
	t.work.Unlock()
	return vfs.Entries(t.opt.Disk, ".", func(e fs.DirEntry) error {
		if e.Name() == private {
			return nil
		}
		owner, ok := owners[e.Name()]
		if !e.IsDir() || !ok {
			owner = 0
		}
		return t.strangersIn(ctx, owner, e.Name(), e, each)
	})
}

func (t *Tree) strangersIn(ctx context.Context, owner ident.UserID, name string, e fs.DirEntry, each func(string, fs.DirEntry) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.IsDir() {
		err := vfs.Entries(t.opt.Disk, name, func(e fs.DirEntry) error {
			return t.strangersIn(ctx, owner, name+"/"+e.Name(), e, each)
		})
		if err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		t.work.Lock()
		defer t.work.Unlock()
		return each(name, e)
	}
	_, in, _ := strings.Cut(name, "/")
	if owner != 0 && in == sumsFile {
		return nil
	}
	t.work.Lock()
	defer t.work.Unlock()
	rows, err := t.rows(ctx, `WHERE user = ? AND path = ?`, int64(owner), in)
	if err != nil || len(rows) > 0 {
		return err
	}
	return each(name, e)
}

// sweep removes what no row speaks of: what an older state of the box left there. It
// has the mode that files of the view have; what has another one is somebody's own and
// stays.
func (t *Tree) sweep(ctx context.Context) error {
	touched := map[string]bool{}
	err := t.strangers(ctx, func(name string, e fs.DirEntry) error {
		if e.IsDir() {
			return t.prune(name+"/.", touched)
		}
		info, err := e.Info()
		if err != nil || info.Mode() != fileMode {
			if err != nil && !gone(err) {
				return err
			}
			return nil
		}
		if err := t.opt.Disk.Remove(name); err != nil && !gone(err) {
			return err
		}
		touched[path.Dir(name)] = true
		if len(touched) > syncOneByOne { // they are only many after something went very wrong
			err := t.syncFolders(touched)
			clear(touched)
			if err != nil {
				return t.distrust(ctx, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.syncFolders(touched); err != nil {
		t.work.Lock()
		defer t.work.Unlock()
		return t.distrust(ctx, err)
	}
	return nil
}

func (t *Tree) noView() error {
	e := &problem.Error{
		Kind: problem.Unsupported, Op: "tree", Title: "There is no readable view on this box",
		Detail: "Its file system cannot share storage between files, and copies of all files would take too much of its room.",
		Hint:   "A data disk with XFS or Btrfs has one for nothing. SHA256SUMS in tree/ still says which content belongs to which name.",
	}
	if t.opt.Mode == Off {
		e.Detail, e.Hint = "It is switched off.", "Start the box with --tree auto."
	}
	return e
}

// Status says how the view stands.
type Status struct {
	Mode     string    `json:"mode"`
	Sharing  bool      `json:"sharing"` // files share storage with the contents; else they are copies
	Shown    bool      `json:"shown"`
	Pending  int64     `json:"pending"` // changes that are still to be followed
	Progress *jsonStep `json:"progress"`
	LeftOut  int64     `json:"left_out"`
}

type jsonStep struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Status returns how the view stands.
func (t *Tree) Status(ctx context.Context) (Status, error) {
	seqs, err := t.opt.Catalog.Seqs(ctx)
	if err != nil {
		return Status{}, err
	}
	t.work.Lock()
	s := Status{Mode: t.opt.Mode, Sharing: t.clones, Shown: t.state.room && t.opt.Mode != Off}
	for u, f := range t.people {
		if s.Shown {
			s.Pending += max(seqs[u]-f.seq, 0)
		}
		delete(seqs, u)
	}
	t.work.Unlock()
	for _, seq := range seqs { // of people who are not met yet
		if s.Shown {
			s.Pending += seq
		}
	}
	p := t.Progress()
	s.LeftOut = p.LeftOut
	if p.Running {
		s.Progress = &jsonStep{p.Done, p.Total}
	}
	return s, nil
}
