package tree

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// syncOneByOne is how many syncs are cheaper than one of the whole volume.
const syncOneByOne = 16

// follow takes up the changes of everybody.
func (t *Tree) follow(ctx context.Context) error {
	if err := t.mend(ctx); err != nil {
		return err
	}
	seqs, err := t.opt.Catalog.Seqs(ctx)
	if err != nil {
		return err
	}
	for u, seq := range seqs {
		for more := true; more; {
			began := time.Now()
			if more, err = t.followOne(ctx, u, seq); err != nil {
				return err
			}
			if more {
				t.rest(ctx, time.Since(began))
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// followOne takes up some changes of a person, up to seq or beyond, and says whether
// there are more.
func (t *Tree) followOne(ctx context.Context, u ident.UserID, seq int64) (more bool, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	f := t.people[u]
	if f == nil || f.seq >= seq || !t.state.room {
		return false, nil
	}
	changes, err := t.opt.Catalog.Since(ctx, u, f.seq, atOnce)
	if err != nil || len(changes) == 0 {
		return false, err
	}
	var ids []ident.ItemID
	seen, moved := map[ident.ItemID]bool{}, false
	for _, c := range changes {
		if c.Item == 0 {
			moved = moved || c.Kind == catalog.KindMoved // of a folder: any item may lie elsewhere
		} else if !seen[c.Item] {
			seen[c.Item] = true
			ids = append(ids, c.Item)
		}
	}
	items, err := t.opt.Catalog.ItemsByID(ctx, ids)
	if err != nil {
		return false, err
	}
	last, s := changes[len(changes)-1].Seq, t.state
	err = t.apply(ctx, ids, items, func(tx *db.Tx) error {
		if moved {
			if _, err := tx.Exec(`UPDATE tree_state SET pass = 0`); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`UPDATE tree_user SET seq = ? WHERE user = ?`, last, int64(u))
		return err
	})
	if err != nil {
		return false, err
	}
	f.seq = last
	if moved && s.pass != 0 {
		t.state.pass = 0
	}
	return len(changes) == atOnce, nil
}

// pass compares all items with what lies in the view, from where it was.
func (t *Tree) pass(ctx context.Context) error {
	t.work.Lock()
	going := t.state.pass >= 0 && t.state.room
	t.work.Unlock()
	if !going {
		t.at(func(p *Progress) { p.Running = false })
		return nil
	}
	totals, err := t.opt.Catalog.Totals(ctx)
	if err == nil {
		t.at(func(p *Progress) {
			p.Running, p.Began, p.Done, p.Total, p.LeftOut, p.Error = true, t.opt.Now(), 0, totals.Items, 0, ""
		})
		for ended := false; err == nil && !ended; {
			ended, err = t.passOnce(ctx)
		}
	}
	t.at(func(p *Progress) {
		p.Running = false
		if err != nil {
			p.Error = "it was interrupted, and goes on later"
		}
	})
	return err
}

// passOnce is a pass. It has not ended if another one was asked for meanwhile.
func (t *Tree) passOnce(ctx context.Context) (ended bool, err error) {
	if err := t.compareAll(ctx); err != nil {
		return false, err
	}
	t.work.Lock()
	at, anew := t.state.pass, t.state.anew
	t.work.Unlock()
	if anew {
		if err := t.sweep(ctx); err != nil {
			return false, err
		}
	}
	t.work.Lock()
	defer t.work.Unlock()
	if t.state.pass != at {
		return !t.state.room, nil
	}
	s := t.state
	s.pass, s.anew = -1, false
	return true, t.save(ctx, s, nil)
}

func (t *Tree) compareAll(ctx context.Context) error {
	for {
		began := time.Now()
		n, err := t.compare(ctx)
		if err != nil || n == 0 {
			return err
		}
		t.at(func(p *Progress) { p.Done += int64(n) })
		t.rest(ctx, time.Since(began))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// compare is one page of a pass. It returns 0 at the end.
func (t *Tree) compare(ctx context.Context) (n int, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	after := t.state.pass
	if after < 0 || !t.state.room {
		return 0, nil
	}
	items, err := t.opt.Catalog.EveryItem(ctx, ident.ItemID(after), atOnce)
	if err != nil {
		return 0, err
	}
	last := int64(1<<63 - 1)
	if len(items) == atOnce {
		last = int64(items[len(items)-1].ID)
	}
	// Rows of items that are no more.
	rows, err := t.rows(ctx, `WHERE item > ? AND item <= ? ORDER BY item LIMIT ?`, after, last, 2*atOnce)
	if err != nil {
		return 0, err
	}
	if len(rows) == 2*atOnce {
		last = int64(rows[len(rows)-1].item)
	}
	var ids []ident.ItemID
	known, live := map[ident.ItemID]bool{}, 0
	for _, it := range items {
		if int64(it.ID) > last {
			continue
		}
		ids, known[it.ID] = append(ids, it.ID), true
		if it.Trashed.IsZero() {
			live++
		}
	}
	for _, r := range rows {
		if !known[r.item] {
			ids = append(ids, r.item)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if last == 1<<63-1 {
		last = int64(max(ids[len(ids)-1], ids[0]))
		for _, id := range ids {
			last = max(last, int64(id))
		}
	}
	err = t.apply(ctx, ids, items, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE tree_state SET pass = ?`, last)
		return err
	})
	if err != nil {
		return 0, err
	}
	t.state.pass = last
	return max(live, 1), nil
}

// mend shows contents again that were healed: a file that shares storage with a damaged
// one is as damaged.
func (t *Tree) mend(ctx context.Context) error {
	t.work.Lock()
	defer t.work.Unlock()
	healed, err := t.opt.Catalog.HealedSince(ctx, t.state.healed)
	if err != nil || len(healed) == 0 || !t.state.room {
		return err
	}
	for _, h := range healed {
		items, err := t.opt.Catalog.LiveWith(ctx, h.Ref)
		if err != nil {
			return err
		}
		for len(items) > 0 {
			some := items[:min(len(items), atOnce)]
			items = items[len(some):]
			b := batch{t: t, anew: true}
			if err := b.run(ctx, idsOf(some), some, nil); err != nil {
				return err
			}
		}
	}
	s := t.state
	s.healed = healed[len(healed)-1].Time
	return t.save(ctx, s, nil)
}

func idsOf(items []catalog.Item) []ident.ItemID {
	ids := make([]ident.ItemID, len(items))
	for i := range items {
		ids[i] = items[i].ID
	}
	return ids
}

// apply brings the view of some items to what items says of them; one that is not among
// them is no more. also is written in the transaction that ends it. The work is locked.
func (t *Tree) apply(ctx context.Context, ids []ident.ItemID, items []catalog.Item, also func(*db.Tx) error) error {
	b := batch{t: t, anew: t.state.anew}
	return b.run(ctx, ids, items, also)
}

// A batch is what apply does, in one part or in several.
type batch struct {
	t    *Tree
	anew bool // files that are there are not relied on

	put           map[string]bool // names that were given, from the top of the tree
	made, touched map[string]bool // folders
	acts          []act
	again         []ident.ItemID // items that need another part
}

// act is what is done about one item.
type act struct {
	item   catalog.Item
	live   bool
	name   string // that it gets, from the top of the tree
	path   string // the same in its person's folder
	old    *row
	oldAt  string // name of old
	staged string // the new file in the work folder; "": the old one gets the name, or there is none

	dropped []string // names that had to give way, with all below them
	gone    bool     // nothing of the item is shown afterwards
}

func (b *batch) run(ctx context.Context, ids []ident.ItemID, items []catalog.Item, also func(*db.Tx) error) error {
	byID := make(map[ident.ItemID]*catalog.Item, len(items))
	for i := range items {
		byID[items[i].ID] = &items[i]
	}
	for {
		n := b.fitting(ids, byID)
		last := n == len(ids)
		b.again = nil
		if err := b.part(ctx, ids[:n], byID, func(tx *db.Tx) error {
			if also == nil || !last || len(b.again) > 0 {
				return nil
			}
			return also(tx)
		}); err != nil {
			return err
		}
		if ids = append(b.again, ids[n:]...); len(ids) == 0 {
			return nil
		}
	}
}

// fitting is how many of ids are one part: not many bytes where they are copied.
func (b *batch) fitting(ids []ident.ItemID, byID map[ident.ItemID]*catalog.Item) int {
	if b.t.clones {
		return len(ids)
	}
	var sum int64
	for i, id := range ids {
		if it := byID[id]; it != nil {
			if sum += it.Size; sum > copyAtOnce && i > 0 {
				return i
			}
		}
	}
	return len(ids)
}

// part is one batch as docs/format.md describes it.
func (b *batch) part(ctx context.Context, ids []ident.ItemID, byID map[ident.ItemID]*catalog.Item, also func(*db.Tx) error) error {
	t := b.t
	rows, err := t.rowsOf(ctx, ids)
	if err != nil {
		return err
	}
	b.put, b.made, b.touched, b.acts = map[string]bool{}, map[string]bool{}, map[string]bool{}, nil
	for _, id := range ids {
		if a, ok := b.plan(id, byID[id], rows); ok {
			b.acts = append(b.acts, a)
		}
	}
	if len(b.acts) == 0 {
		return t.opt.DB.Write(ctx, also)
	}
	defer t.emptyWork() //nolint:errcheck // the next start does it, too
	names, err := b.stage(ctx)
	if err != nil {
		return err
	}
	s := t.state
	s.batch++
	if err := writeIntent(t.opt.Disk, intent{Mark: s.mark, Batch: s.batch, Names: names}); err != nil {
		return err
	}
	// From here on the disk and the rows differ until the transaction: if that is not
	// reached, the next open puts it right.
	t.opened = false
	for i := range b.acts {
		if err := b.act(&b.acts[i]); err != nil {
			return err
		}
	}
	if err := t.syncFolders(b.touched); err != nil {
		return t.distrust(ctx, err)
	}
	if err := t.save(ctx, s, func(tx *db.Tx) error { return errors.Join(b.note(tx), also(tx)) }); err != nil {
		return err
	}
	t.opened = true
	return nil
}

// plan says what there is to do about an item.
func (b *batch) plan(id ident.ItemID, it *catalog.Item, rows map[ident.ItemID]row) (a act, todo bool) {
	if r, ok := rows[id]; ok {
		if f := b.t.people[r.user]; f != nil {
			a.old, a.oldAt = &r, f.name+"/"+r.path
		}
	}
	a.item.ID = id
	if it == nil || !it.Trashed.IsZero() || b.t.people[it.User] == nil {
		return a, a.old != nil
	}
	a.item, a.live, a.path = *it, true, shown(it.Path)
	a.name = b.t.people[it.User].name + "/" + a.path
	if a.old == nil || b.anew {
		return a, true
	}
	return a, a.old.ref != it.Ref || a.old.mtime != timeOf(*it).UnixMilli() || a.oldAt != a.name
}

// stays says whether the old file is as it should be but for its name.
func (a *act) stays() bool {
	return a.old != nil && a.old.ref == a.item.Ref && a.old.mtime == timeOf(a.item).UnixMilli() && a.old.user == a.item.User
}

// stage makes the new files of a batch, with all that is in them durable, and returns
// the names that the batch will give.
func (b *batch) stage(ctx context.Context) (names []string, err error) {
	var files []vfs.File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	for i := range b.acts {
		a := &b.acts[i]
		if !a.live {
			continue
		}
		names = append(names, a.name)
		if a.stays() && !b.anew {
			continue
		}
		name := workName(i)
		f, err := b.t.opt.Disk.OpenFile(name, vfs.CreateNew, fileMode)
		if err != nil {
			return nil, err
		}
		err = b.fill(ctx, a.item, f)
		switch {
		case errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged):
			// It is on the list of damages or gets there; if it is healed, it comes back.
			if err := errors.Join(f.Close(), b.t.removeAll(name)); err != nil {
				return nil, err
			}
			a.live = false
			b.t.at(func(p *Progress) { p.LeftOut++ })
			continue
		case err != nil:
			return nil, errors.Join(err, f.Close())
		}
		a.staged = name
		if len(b.acts) <= syncOneByOne {
			err = f.Datasync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	if len(b.acts) > syncOneByOne {
		return names, b.syncStaged()
	}
	return names, nil
}

// syncStaged makes many new files durable at once.
func (b *batch) syncStaged() error {
	if err := b.t.opt.Disk.SyncAll(); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for _, a := range b.acts {
		if a.staged == "" {
			continue
		}
		f, err := b.t.opt.Disk.OpenFile(a.staged, vfs.ReadOnly, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Datasync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// fill gives a new file the content and the time of an item.
func (b *batch) fill(ctx context.Context, it catalog.Item, f vfs.File) error {
	var err error
	if b.t.clones {
		err = b.t.opt.Store.Clone(ctx, it.Ref, f)
		if errors.Is(err, errors.ErrUnsupported) {
			// blobs/ lies on another file system than tree/.
			b.t.clones = false
			if ok, err := b.t.ample(ctx); err != nil || !ok {
				return errors.Join(err, storage.ErrFull)
			}
		}
	}
	if !b.t.clones {
		err = b.t.opt.Store.Copy(ctx, it.Ref, f)
	}
	if err != nil {
		return err
	}
	return f.SetModTime(timeOf(it))
}

// act removes, renames or puts one file.
func (b *batch) act(a *act) error {
	t := b.t
	if !a.live {
		a.gone = true
		return b.removeOld(a)
	}
	dropped, err := t.makeFolders(a.name, b.made, b.touched)
	a.dropped = dropped
	if err != nil {
		return b.refused(a, err)
	}
	from := a.staged
	if from == "" {
		from = a.oldAt
		if old, err := b.isFile(from); err != nil {
			return err
		} else if !old || b.put[from] { // it is another item's by now
			a.gone, b.again = true, append(b.again, a.item.ID)
			return b.left(from)
		}
	}
	err = t.opt.Disk.Rename(from, a.name)
	if errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		// What was a folder is a file now. It may have lain in that folder.
		a.dropped = append(a.dropped, a.name)
		const aside = workDir + "/moving"
		err = t.opt.Disk.Rename(from, aside)
		if err == nil {
			err = t.removeAll(a.name)
		}
		if err == nil {
			err = t.opt.Disk.Rename(aside, a.name)
		}
		clear(b.made)
	}
	if err != nil {
		return b.refused(a, err)
	}
	b.put[a.name] = true
	b.touch(a.name)
	if a.staged == "" {
		return b.left(from)
	}
	if a.oldAt != a.name {
		return b.removeOld(a)
	}
	return nil
}

// refused leaves an item out whose name this file system does not take.
func (b *batch) refused(a *act, err error) error {
	for _, name := range []error{syscall.ENAMETOOLONG, syscall.EILSEQ, syscall.EINVAL} {
		if errors.Is(err, name) {
			a.gone = true
			b.t.at(func(p *Progress) { p.LeftOut++ })
			return b.removeOld(a)
		}
	}
	return err
}

// removeOld removes what an item had, unless another one has that name by now.
func (b *batch) removeOld(a *act) error {
	if a.old == nil || b.put[a.oldAt] {
		return nil
	}
	old, err := b.isFile(a.oldAt)
	if err == nil && old {
		err = b.t.opt.Disk.Remove(a.oldAt)
	}
	if err != nil && !gone(err) {
		return err
	}
	return b.left(a.oldAt)
}

// isFile says whether a name is still that of a file: there may be a folder by now.
func (b *batch) isFile(name string) (bool, error) {
	info, err := b.t.opt.Disk.Stat(name)
	if err != nil && gone(err) {
		return false, nil
	}
	return err == nil && !info.IsDir(), err
}

// left sees to the folders of a name that is no more.
func (b *batch) left(name string) error {
	b.touch(name)
	err := b.t.prune(name, b.touched)
	if !b.touched[dirOf(name)] {
		clear(b.made) // some of them are no more
	}
	return err
}

func (b *batch) touch(name string) { b.touched[dirOf(name)] = true }

func dirOf(name string) string { return name[:strings.LastIndexByte(name, '/')] }

// note writes what was done.
func (b *batch) note(tx *db.Tx) error {
	for i := range b.acts {
		a := &b.acts[i]
		for _, name := range a.dropped {
			_, p, _ := strings.Cut(name, "/")
			if _, err := tx.Exec(`DELETE FROM tree_file WHERE user = ?1 AND (path = ?2 OR path > ?3 AND path < ?4)`, int64(a.item.User), p, p+"/", p+"0"); err != nil {
				return err
			}
		}
		if a.gone {
			if a.old != nil {
				if _, err := tx.Exec(`DELETE FROM tree_file WHERE item = ?`, int64(a.item.ID)); err != nil {
					return err
				}
			}
			continue
		}
		if _, err := tx.Exec(`DELETE FROM tree_file WHERE user = ? AND path = ? AND item <> ?`, int64(a.item.User), a.path, int64(a.item.ID)); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO tree_file (item, user, path, ref, mtime) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT (item) DO UPDATE SET user = ?2, path = ?3, ref = ?4, mtime = ?5`,
			int64(a.item.ID), int64(a.item.User), a.path, a.item.Ref[:], timeOf(a.item).UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}
