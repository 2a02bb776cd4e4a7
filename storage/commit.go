package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"sync"
	"syscall"

	"yunbox.local/storage/vfs"
)

// trustAbove is the size in bytes above which an existing blob is not read back
// when the same content comes again: the new copy takes its place instead,
// which costs little, since most of it is on the disk by then.
const trustAbove = 64 << 20

// Commit gives sealed uploads their names under blobs/ and makes the names
// durable, all of them with as few flushes as one needs, and returns a verdict
// for each. A nil verdict: its data and its name are on stable storage.
//
// The order is what makes it safe. (1) The data is synced: of large files by Seal,
// of small ones here, all of them with one flush of the intent log. (2) Each file
// gets its name; so whatever is visible under blobs/ is whole, even if the power
// fails now and Open has to put it back, and replaces what may have had that name
// before. (3) The directories of the large files are synced, side by side; the log
// knows the names of the others. Of a blob that was acknowledged before, Seal has
// read the bytes back, and the new copy is dropped here.
//
// All items stay pinned against Sweep until Release, which must follow, whatever
// the verdicts. An item that failed is lost to its caller, who must get the
// bytes again; a checkpointed one can be resumed, unless the error is ErrSync.
// The cause of ctx is the verdict of all if ctx has ended before the first step.
func (s *Store) Commit(ctx context.Context, batch []Sealed) []error {
	verdicts := make([]error, len(batch))
	if err := s.mayCommit(ctx); err != nil {
		for i := range batch {
			verdicts[i] = errors.Join(err, batch[i].upload.Close())
		}
		return verdicts
	}
	for _, sealed := range batch {
		sealed.upload.mu.Lock()
	}
	named := s.logSmall(batch, verdicts)
	dirs := make(map[string][]int, len(batch))
	for i, sealed := range batch {
		if verdicts[i] != nil {
			continue
		}
		if verdicts[i] = sealed.upload.giveName(); verdicts[i] == nil && !sealed.upload.small {
			dir := path.Dir(sealed.Ref.path())
			dirs[dir] = append(dirs[dir], i)
		}
	}
	named()
	s.syncNames(dirs, verdicts)
	for i, sealed := range batch {
		sealed.upload.conclude(verdicts[i])
		sealed.upload.mu.Unlock()
	}
	return verdicts
}

// logSmall makes the data of the small uploads of a batch durable, in the intent
// log or, where that has no room, each in its own file; those are small no more.
// The function that it returns says that they have their names.
func (s *Store) logSmall(batch []Sealed, verdicts []error) (named func()) {
	var small []*Upload
	var places []int
	for i := range batch {
		if u := batch[i].upload; u.small && u.void == nil && u.phase == sealed {
			small, places = append(small, u), append(places, i)
		}
	}
	if len(small) == 0 {
		return func() {}
	}
	named, err := s.intent.append(small)
	if err == nil {
		return named
	}
	each(small, func(i int, u *Upload) {
		u.small = false
		verdicts[places[i]] = u.sync()
	})
	return func() {}
}

func (s *Store) mayCommit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.usable()
}

// syncNames makes durable the names in some directories, and condemns the items
// of those where that fails.
func (s *Store) syncNames(dirs map[string][]int, verdicts []error) {
	names := make([]string, 0, len(dirs))
	for dir := range dirs {
		names = append(names, dir)
	}
	each(names, func(_ int, dir string) {
		if err := s.syncShard(dir); err != nil {
			for _, i := range dirs[dir] {
				verdicts[i] = err
			}
		}
	})
}

// syncNamesOf makes durable which names there are in the directories of some blobs.
func (s *Store) syncNamesOf(refs []Ref) error {
	dirs := make(map[string][]int)
	for _, ref := range refs {
		if dir := path.Dir(ref.path()); dirs[dir] == nil {
			dirs[dir] = []int{len(dirs)}
		}
	}
	verdicts := make([]error, len(dirs))
	s.syncNames(dirs, verdicts)
	return errors.Join(verdicts...)
}

// syncShard makes durable the names in a directory of blobs.
func (s *Store) syncShard(dir string) error {
	return s.folders.take(dir, func(f *folder) error {
		if f.unsure != nil {
			return f.unsure
		}
		err := s.nameSyncs.run(func() error { return s.fsys.SyncDir(dir) })
		if err != nil {
			err = s.syncFailed("a directory of blobs", err)
			s.namesUnsure(err)
			f.unsure = err
		}
		return err
	})
}

// folders are the directories of blobs. The system may tell of an error once, and then
// only one of those who sync a directory, or a file in it, at the same time; so they
// take turns, and the others hear of it.
type folders [shards]folder

type folder struct {
	mu     sync.Mutex
	unsure error // a sync of it failed
}

func (l *folders) take(dir string, f func(*folder) error) error {
	n, err := strconv.ParseUint(path.Base(dir), 16, 8)
	if err != nil {
		return err
	}
	one := &l[n]
	one.mu.Lock()
	defer one.mu.Unlock()
	return f(one)
}

// wait returns when those who sync now have ended, and what was heard of any directory.
func (l *folders) wait() (unsure error) {
	for i := range l {
		l[i].mu.Lock()
		unsure = cmp.Or(unsure, l[i].unsure)
		l[i].mu.Unlock()
	}
	return unsure
}

// each calls f for all items side by side; the caller's own goroutine does one,
// so that a lone item starts none.
func each[T any](items []T, f func(i int, item T)) {
	if len(items) == 0 {
		return
	}
	var wait sync.WaitGroup
	for i, item := range items[1:] {
		wait.Go(func() { f(i+1, item) })
	}
	f(0, items[0])
	wait.Wait()
}

// makeSure looks whether there is a blob of that name that can be relied on, and
// makes its data durable. An error says why one that was acknowledged cannot:
// any doubt is decided in favour of the copy that has just come.
func (s *Store) makeSure(ctx context.Context, ref Ref, size int64) (bool, error) {
	info, err := s.fsys.Stat(ref.path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if acked, err := s.acked(ctx, ref); err != nil || !acked {
		return false, err
	}
	switch {
	case info.Size() != size:
		return false, fmt.Errorf("%w: %d bytes where %d belong", ErrDamaged, info.Size(), size)
	case s.isDamaged(ref):
		return false, fmt.Errorf("%w: as was found before", ErrDamaged)
	case size > trustAbove:
		return false, nil
	}
	f, err := s.fsys.OpenFile(ref.path(), vfs.ReadOnly, 0)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // read only
	if err := s.sameAs(f, ref); err != nil {
		return false, err
	}
	err = s.folders.take(path.Dir(ref.path()), func(*folder) error {
		err := s.dataSyncs.run(f.Datasync)
		if err != nil {
			// The pages may count as clean now, and a later sync say nil: this
			// copy is never to be relied on again.
			s.Doubt(ref)
			s.intent.doubt.Store(true)
			err = s.syncFailed("a blob", err)
		}
		return err
	})
	return err == nil, err
}

// giveName is step 2. u.mu is held.
func (u *Upload) giveName() error {
	switch {
	case u.void != nil:
		return u.void
	case u.phase != sealed:
		return fmt.Errorf("upload %s: %w", u.id, ErrClosed)
	case u.keep:
		return nil
	}
	if u.seq > 0 {
		if err := u.file.Chmod(blobMode); err != nil {
			return fmt.Errorf("blob %s: %w", u.sum, err)
		}
	}
	err := u.s.fsys.Rename(stagingDir+"/"+u.name, u.sum.path())
	if errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
		err = errors.Join(u.s.setAside(u.sum), u.s.fsys.Rename(stagingDir+"/"+u.name, u.sum.path()))
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", u.sum, u.s.touched(err))
	}
	if u.seq == 0 {
		u.name = ""
	}
	return nil
}

// setAside takes the name of a blob from a directory that is there instead, which
// is not ours and is not removed.
func (s *Store) setAside(ref Ref) error {
	aside := ref.path() + ".aside-" + newID()
	s.log.Error("a directory has the name of a blob and is set aside", "blob", ref, "to", aside)
	return s.fsys.Rename(ref.path(), aside)
}

// conclude ends the upload as its verdict says. u.mu is held.
func (u *Upload) conclude(err error) {
	switch {
	case u.phase != sealed:
	case err == nil:
		if !u.keep {
			u.s.settle(u.sum)
		}
		u.done()
	case errors.Is(err, ErrSync) || u.seq == 0:
		u.void = err
		_ = u.remove() // cleared at the next start at the latest
	default:
		_ = u.leave() // only closes files that are durable
	}
}

// done leaves of a durable upload only what Release will remove.
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
