package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Swept counts what a Sweep removed.
type Swept struct {
	Blobs int
	Bytes int64
}

// Pin keeps a blob from Sweep until release is called, so that a row that names
// it can be written. ErrNotFound when there is no such blob. Release may be
// called more than once.
func (s *Store) Pin(ctx context.Context, ref Ref) (release func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.pinRef(ref)
	if _, err := s.fsys.Stat(ref.path()); err != nil {
		s.unpinRef(ref)
		return nil, blobError(ref, err)
	}
	released := false
	return func() {
		s.mu.Lock()
		again := released
		released = true
		s.mu.Unlock()
		if !again {
			s.unpinRef(ref)
		}
	}, nil
}

// pinRef counts a pin. If the blob is just being removed it waits until that
// is decided, so that who pinned a blob and still sees it can rely on it.
func (s *Store) pinRef(ref Ref) {
	for {
		s.mu.Lock()
		busy := s.removing[ref]
		if busy == nil {
			s.pins[ref]++
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		<-busy
	}
}

func (s *Store) unpinRef(ref Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[ref]--; s.pins[ref] <= 0 {
		delete(s.pins, ref)
	}
}

// Sweep removes the blobs that came longer ago than olderThan, are not pinned
// and of which live says that nothing names them. live is asked when no new
// pin can come between its answer and the removal: whoever writes a row pins
// first, so a row that live does not see yet belongs to a pinned blob.
// live must see every row that was committed before it is called.
//
// The removals are not synced: a blob that a power cut brings back is swept
// again.
func (s *Store) Sweep(ctx context.Context, olderThan time.Duration, live func(Ref) (bool, error)) (Swept, error) {
	var swept Swept
	before := s.now().Add(-olderThan)
	spared, err := s.awaited(ctx)
	if err != nil {
		return swept, err
	}
	if err := s.intent.removing(nil); err != nil {
		return swept, err
	}
	for info, err := range s.Refs(ctx) {
		if err != nil {
			return swept, err
		}
		if info.Modified.After(before) || spared[info.Ref] {
			continue
		}
		removed, err := s.sweepOne(info.Ref, live)
		if err != nil {
			return swept, err
		}
		if removed {
			swept.Blobs++
			swept.Bytes += info.Size
		}
	}
	return swept, nil
}

// Remove is Sweep for the given blobs only, however young: for contents of which
// the last row has just been removed. Those that are pinned or live are kept;
// one that does not exist is no error. When it returns without an error no power cut
// brings one of them back. ErrSync as of Commit: the names in a folder are not sure then,
// and the store takes no more data.
func (s *Store) Remove(ctx context.Context, refs []Ref, live func(Ref) (bool, error)) (Swept, error) {
	var swept Swept
	spared, err := s.awaited(ctx)
	if err != nil {
		return swept, err
	}
	logged := s.intent.watchFor(refs)
	defer logged()
	if err := s.intent.removing(refs); err != nil {
		return swept, err
	}
	var names []Ref // of those too that are gone: an earlier process may have had no time to sync
	for _, ref := range refs {
		if spared[ref] {
			continue
		}
		names = append(names, ref)
		if ctx.Err() != nil {
			return swept, context.Cause(ctx)
		}
		info, err := s.fsys.Stat(ref.path())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return swept, fmt.Errorf("remove blobs: %w", err)
		}
		removed, err := s.sweepOne(ref, live)
		if err != nil {
			return swept, err
		}
		if removed {
			swept.Blobs++
			swept.Bytes += info.Size()
		}
	}
	if logged() {
		// Somebody sent one of them meanwhile, which then was not kept: its record
		// would bring it back.
		if err := s.intent.removing(names); err != nil {
			return swept, err
		}
	}
	return swept, s.syncNamesOf(names)
}

// awaited are the blobs that a crash left between their name and their row, and
// whose upload a client may still take up. There can only be as many as there
// were uploads in the moment of the crash.
func (s *Store) awaited(ctx context.Context) (map[Ref]bool, error) {
	refs := make(map[Ref]bool)
	for id, err := range s.stagedIDs(ctx) {
		if err != nil {
			return nil, fmt.Errorf("sweep: %w", err)
		}
		st, err := s.loadStaged(id)
		if err == nil && st.sealed && !st.part {
			refs[Ref(st.hash)] = true
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("sweep: %w", err)
		}
	}
	return refs, nil
}

func (s *Store) sweepOne(ref Ref, live func(Ref) (bool, error)) (removed bool, err error) {
	s.mu.Lock()
	if s.closed || s.pins[ref] > 0 || s.removing[ref] != nil {
		s.mu.Unlock()
		return false, nil
	}
	done := make(chan struct{})
	s.removing[ref] = done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.removing, ref)
		s.mu.Unlock()
		close(done)
	}()
	needed, err := live(ref)
	if err != nil {
		return false, fmt.Errorf("sweep: is blob %s needed: %w", ref, err)
	}
	if needed {
		return false, nil
	}
	if err := s.fsys.Remove(ref.path()); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("sweep: %w", err)
	}
	return true, nil
}
