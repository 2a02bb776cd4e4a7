package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"

	"yunbox.local/storage/vfs"
)

// trustAbove is the size in bytes above which an existing blob is not read back
// when the same content comes again: the new copy takes its place instead,
// which costs little, since most of it is on the disk by then.
const trustAbove = 64 << 20

// Commit makes sealed uploads durable and visible, all of them with as few
// flushes as one needs, and gives a verdict for each. A nil verdict: its data
// and its name are on stable storage.
//
// The order is what makes it safe. (1) The data of all items is synced, side by
// side. (2) Each gets its name under blobs/; so whatever is visible there is
// whole, even if the power fails now. (3) The directories are synced, side by
// side. A name that exists already is not taken on trust, for it may be older
// than the last crash: its bytes are read back and, with its name, synced in the
// same two rounds; the new copy is dropped, or replaces it when it is damaged.
//
// All items are pinned against Sweep until Release, which must follow, whatever
// the verdicts. An item that failed is lost to its caller, who must get the
// bytes again; a checkpointed one can be resumed, unless the error is ErrSync.
// The cause of ctx is the verdict of all if ctx has ended before the first step.
func (s *Store) Commit(ctx context.Context, batch []Sealed) []error {
	verdicts := make([]error, len(batch))
	if err := s.mayCommit(ctx); err != nil {
		for i := range batch {
			batch[i].upload.Close() //nolint:errcheck // nothing of it is needed
			verdicts[i] = err
		}
		return verdicts
	}
	items := make([]*commit, 0, len(batch))
	first := make(map[Ref]*commit, len(batch))
	var twins []int // the same content more than once in one batch
	for i, sealed := range batch {
		if first[sealed.Ref] != nil {
			twins = append(twins, i)
			continue
		}
		c := &commit{store: s, upload: sealed.upload, verdict: &verdicts[i]}
		first[sealed.Ref] = c
		items = append(items, c)
	}
	for _, i := range twins {
		s.pinUpload(batch[i].upload)
	}
	s.commit(items)
	for _, i := range twins {
		if err := *first[batch[i].Ref].verdict; err == nil {
			batch[i].upload.finish()
		} else {
			s.commit([]*commit{{store: s, upload: batch[i].upload, verdict: &verdicts[i]}})
		}
	}
	return verdicts
}

func (s *Store) mayCommit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.usable()
}

// commit is one item on its way through Commit.
type commit struct {
	store   *Store
	upload  *Upload
	verdict *error
	keep    bool // the blob is there already, and good
}

// commit takes distinct contents through the three steps.
func (s *Store) commit(items []*commit) {
	for _, c := range items {
		c.upload.mu.Lock()
		s.pin(c.upload)
	}
	each(items, func(c *commit) { *c.verdict = c.syncData() })
	dirs := make(map[string][]*commit, len(items))
	for _, c := range items {
		if *c.verdict == nil && !c.keep {
			*c.verdict = c.giveName()
		}
		if *c.verdict == nil {
			dir := path.Dir(c.upload.sum.path())
			dirs[dir] = append(dirs[dir], c)
		}
	}
	names := make([]string, 0, len(dirs))
	for dir := range dirs {
		names = append(names, dir)
	}
	each(names, func(dir string) {
		if err := s.limit(func() error { return s.fsys.SyncDir(dir) }); err != nil {
			err = s.syncFailed("a directory of blobs", err)
			s.namesUnsure(err)
			for _, c := range dirs[dir] {
				*c.verdict = err
			}
		}
	})
	for _, c := range items {
		c.conclude()
		c.upload.mu.Unlock()
	}
}

// each calls f for all items side by side; the caller's own goroutine does one,
// so that a lone item starts none.
func each[T any](items []T, f func(T)) {
	if len(items) == 0 {
		return
	}
	var wait sync.WaitGroup
	for _, item := range items[1:] {
		wait.Go(func() { f(item) })
	}
	f(items[0])
	wait.Wait()
}

// syncData is step 1: good bytes for this name are on stable storage.
func (c *commit) syncData() error {
	u := c.upload
	switch {
	case u.void != nil:
		return u.void
	case u.phase != sealed:
		return fmt.Errorf("upload %s: %w", u.id, ErrClosed)
	}
	info, err := c.store.fsys.Stat(u.sum.path())
	switch {
	case err == nil:
		good, err := c.store.makeSure(u.sum, u.size.Load(), info, u.file != nil)
		if good || u.file == nil {
			c.keep = true
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("blob %s: %w", u.sum, err)
	case u.file == nil:
		return fmt.Errorf("blob %s: %w: it had its name before the restart", u.sum, ErrNotFound)
	}
	return u.sync()
}

// makeSure looks whether a blob that exists can be relied on, and makes its data
// durable. When there is a new copy of the content, any doubt is decided in
// favour of that.
func (s *Store) makeSure(ref Ref, size int64, info fs.FileInfo, haveCopy bool) (bool, error) {
	s.mu.Lock()
	_, damaged := s.damaged[ref]
	s.mu.Unlock()
	if damaged || info.Size() != size || size > trustAbove && haveCopy {
		return false, fmt.Errorf("blob %s: %w", ref, ErrDamaged)
	}
	f, err := s.fsys.OpenFile(ref.path(), vfs.ReadOnly, 0)
	if err != nil {
		return false, fmt.Errorf("blob %s: %w", ref, err)
	}
	defer f.Close() //nolint:errcheck // read only
	if err := s.sameAs(f, ref); err != nil {
		return false, err
	}
	if err := s.limit(f.Datasync); err != nil {
		// The pages may count as clean now, and a later sync say nil: this
		// copy is never to be relied on again.
		s.markDamaged(ref)
		return false, s.syncFailed("a blob", err)
	}
	return true, nil
}

// giveName is step 2.
func (c *commit) giveName() error {
	u, fsys, target := c.upload, c.store.fsys, c.upload.sum.path()
	if u.seq > 0 {
		if err := u.file.Chmod(blobMode); err != nil {
			return fmt.Errorf("blob %s: %w", u.sum, err)
		}
	}
	if u.name == "" {
		err := u.file.Link(target)
		if err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("blob %s: %w", u.sum, full(err))
		}
		// Only a rename replaces.
		name := u.id + extTemp
		if err := u.file.Link(stagingDir + "/" + name); err != nil {
			return fmt.Errorf("blob %s: %w", u.sum, full(err))
		}
		u.name = name
	}
	if err := fsys.Rename(stagingDir+"/"+u.name, target); err != nil {
		return fmt.Errorf("blob %s: %w", u.sum, full(err))
	}
	if u.seq == 0 {
		u.name = ""
	}
	return nil
}

// conclude ends the upload as the verdict says.
func (c *commit) conclude() {
	u, err := c.upload, *c.verdict
	switch {
	case err == nil:
		if !c.keep {
			c.store.forgetDamage(u.sum)
		}
		u.done()
	case u.phase != sealed:
	case errors.Is(err, ErrSync) || u.seq == 0:
		u.void = err
		_ = u.remove() // cleared at the next start at the latest
	default:
		_ = u.leave() // only closes files that are durable
	}
}

// finish is done for an upload whose content another one made durable.
func (u *Upload) finish() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done()
}

// done leaves of a durable upload only what Release will remove. u.mu is held.
func (u *Upload) done() {
	_ = u.closeFiles() // the data is durable
	if u.name != "" {
		// The blob was there already; or the rename did nothing, because
		// after a crash both names were those of one file. If this fails,
		// the next start clears it.
		_ = u.s.removeStaged(u.name)
		u.name = ""
	}
	u.phase = committed
}

// Release ends the pins of a batch that went through Commit: its rows are
// committed, or given up. Items that failed may be part of it.
func (s *Store) Release(batch []Sealed) {
	for _, sealed := range batch {
		u := sealed.upload
		u.mu.Lock()
		if u.phase == committed {
			_ = u.remove() // only the state is left; the expiry finds it
		}
		u.mu.Unlock()
	}
}

func (s *Store) pinUpload(u *Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.pin(u)
}

// pin keeps the upload's blob from Sweep until unpin. u.mu is held.
func (s *Store) pin(u *Upload) {
	if !u.pinned {
		s.pinRef(u.sum)
		u.pinned = true
	}
}

func (s *Store) unpin(u *Upload) {
	if u.pinned {
		s.unpinRef(u.sum)
		u.pinned = false
	}
}
