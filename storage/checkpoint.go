package storage

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"sync"

	"yunbox.local/storage/vfs"
)

// Checkpoint makes durable what has been received, with the state of the
// hashes: after nil, Resume finds the upload at this offset, also after a power
// cut. An upload that comes in one piece never needs it.
//
// After an error the last checkpoint counts, except ErrSync: then the upload is
// lost and will not be found again.
func (u *Upload) Checkpoint(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == sealed && u.void == nil {
		return nil // a sealed upload is recorded, or not resumable
	}
	if err := u.receiving(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if u.seq > 0 && u.kept == u.offset.Load() && u.keptSize == u.size.Load() {
		return nil
	}
	if err := u.create(); err != nil {
		return err
	}
	if err := u.sync(); err != nil {
		return err
	}
	return u.record(false)
}

// record writes a checkpoint and makes it durable; all bytes are already.
func (u *Upload) record(seal bool) error {
	r := record{
		seq:    u.seq + 1,
		size:   u.size.Load(),
		offset: u.offset.Load(),
		time:   u.s.now(),
		sealed: seal,
	}
	if seal {
		r.hash, r.sha1 = u.sum[:], u.sum1[:]
	} else if err := u.saveHashes(&r); err != nil {
		return fmt.Errorf("checkpoint of upload %s: %w", u.id, err)
	}
	first := u.seq == 0
	if first {
		if err := u.appear(); err != nil {
			return fmt.Errorf("checkpoint of upload %s: %w", u.id, u.s.touched(err))
		}
	} else if u.stateFile == nil { // resumed
		var err error
		u.stateFile, err = u.s.fsys.OpenFile(stagingDir+"/"+u.id+extState, vfs.ReadWrite, 0)
		if err != nil {
			return fmt.Errorf("checkpoint of upload %s: %w", u.id, err)
		}
	}
	if err := u.sums.save(u.stateFile, &r); err != nil {
		return fmt.Errorf("checkpoint of upload %s: %w", u.id, err)
	}
	slot, err := r.marshal()
	if err != nil {
		return fmt.Errorf("checkpoint of upload %s: %w", u.id, err)
	}
	if _, err := u.stateFile.WriteAt(slot, r.slot()); err != nil {
		return fmt.Errorf("checkpoint of upload %s: %w", u.id, u.s.touched(err))
	}
	if err := u.syncState(first); err != nil {
		u.void = err
		return err
	}
	u.seq, u.kept, u.keptSize = r.seq, r.offset, r.size
	return nil
}

// appear gives the upload its two names in staging/.
func (u *Upload) appear() (err error) {
	if err := u.file.Chmod(stageMode); err != nil {
		return err
	}
	part := u.id + extPart
	if u.name != part { // else an earlier first checkpoint stopped half-way
		if err := u.s.fsys.Rename(stagingDir+"/"+u.name, stagingDir+"/"+part); err != nil {
			return err
		}
		u.name = part
	}
	if u.stateFile == nil {
		u.stateFile, err = u.s.fsys.OpenFile(stagingDir+"/"+u.id+extState, vfs.CreateNew, stageMode)
	}
	return err
}

// syncState makes the record durable, and the names when they are new, side by
// side: on a journaling file system the two share one flush.
func (u *Upload) syncState(names bool) error {
	var wait sync.WaitGroup
	var dir error
	if names {
		wait.Go(func() {
			if err := u.s.nameSyncs.run(func() error { return u.s.fsys.SyncDir(stagingDir) }); err != nil {
				dir = u.s.syncFailed("the staging directory", err)
			}
		})
	}
	err := u.s.dataSyncs.run(u.stateFile.Datasync)
	if err != nil {
		err = u.s.syncFailed("a checkpoint", err)
	}
	wait.Wait()
	return errors.Join(err, dir)
}

func (u *Upload) saveHashes(r *record) (err error) {
	a, okA := u.hashes.sha256.(encoding.BinaryMarshaler)
	b, okB := u.hashes.sha1.(encoding.BinaryMarshaler)
	if !okA || !okB {
		return errors.ErrUnsupported
	}
	if r.hash, err = a.MarshalBinary(); err != nil {
		return err
	}
	r.sha1, err = b.MarshalBinary()
	return err
}
