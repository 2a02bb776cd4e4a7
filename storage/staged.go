package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	"yunbox.local/storage/vfs"
)

const (
	extPart  = ".part"
	extState = ".state"
	extTemp  = ".tmp"
)

// StagedInfo describes an upload that Resume would find.
type StagedInfo struct {
	ID       string
	Size     int64 // declared; -1: not known
	Offset   int64 // durable bytes
	Modified time.Time
}

// Staged goes through all resumable uploads on the volume, those in use too, as
// of their last checkpoint.
func (s *Store) Staged(ctx context.Context) iter.Seq2[StagedInfo, error] {
	return func(yield func(StagedInfo, error) bool) {
		for id, err := range s.stagedIDs(ctx) {
			var st staged
			if err == nil {
				st, err = s.loadStaged(id)
			}
			if errors.Is(err, ErrNotFound) {
				continue // finished or discarded meanwhile
			}
			info := StagedInfo{ID: id, Size: st.size, Offset: st.offset, Modified: st.time}
			if !yield(info, err) {
				return
			}
		}
	}
}

// stagedIDs goes through the ids of which there is a state.
func (s *Store) stagedIDs(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := s.fsys.ReadDir(stagingDir)
		if err != nil {
			yield("", fmt.Errorf("list staged uploads: %w", err))
			return
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				yield("", context.Cause(ctx))
				return
			}
			id, ok := strings.CutSuffix(e.Name(), extState)
			if ok && validID(id) && !yield(id, nil) {
				return
			}
		}
	}
}

// staged is what is on the disk of one resumable upload.
type staged struct {
	record
	sums uploadSums
	part bool // its bytes are in staging/; else, sealed, in blobs/
}

// loadStaged reads the state of an upload and compares it with its bytes.
// ErrNotFound: nothing there to go on with.
func (s *Store) loadStaged(id string) (staged, error) {
	if !validID(id) {
		return staged{}, fmt.Errorf("upload: %w", ErrNotFound)
	}
	notFound := func(err error) (staged, error) {
		return staged{}, fmt.Errorf("upload %s: %w (%w)", id, ErrNotFound, err)
	}
	f, err := s.fsys.OpenFile(stagingDir+"/"+id+extState, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return notFound(err)
	} else if err != nil {
		return staged{}, fmt.Errorf("upload %s: %w", id, err)
	}
	r, err := readRecord(f)
	var sums uploadSums
	if err == nil {
		sums.load(f, r)
	}
	if err := errors.Join(err, f.Close()); errors.Is(err, errNoRecord) {
		return notFound(err)
	} else if err != nil {
		return staged{}, fmt.Errorf("upload %s: %w", id, err)
	}
	info, err := s.fsys.Stat(stagingDir + "/" + id + extPart)
	if errors.Is(err, fs.ErrNotExist) && r.sealed {
		// The bytes may have got their name already.
		if info, err = s.fsys.Stat(Ref(r.hash).path()); err == nil && info.Size() == r.size {
			return staged{record: r, sums: sums}, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return notFound(err)
	} else if err != nil {
		return staged{}, fmt.Errorf("upload %s: %w", id, err)
	}
	if info.Size() < r.offset {
		return notFound(fmt.Errorf("%w: %d bytes where %d were synced", ErrDamaged, info.Size(), r.offset))
	}
	return staged{record: r, sums: sums, part: true}, nil
}
