package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/storage"
)

const (
	firstPass   = 30 * time.Second // after the start, which has better things to do
	passEvery   = time.Hour
	orphanAge   = 24 * time.Hour // a younger blob without a row may be about to get one
	recheck     = orphanAge + time.Hour
	deadAtOnce  = 256
	expireBatch = 64
)

// Swept says what a Sweep removed.
type Swept struct {
	Uploads int   // resumable uploads that had expired, and staged bytes of none
	Blobs   int   // contents that nobody keeps
	Bytes   int64 // of those
}

// Run removes what has expired, what a withdrawal ended and what nobody keeps any longer,
// until ctx ends.
//
// Contents that lost their last name go at once, orphans (a power cut may leave
// a blob before its row) when they are a day old. Looking for orphans walks
// through the whole volume, so it is done only when there may be some: after a
// start, a day later for those that were too young then, and after a commit that
// failed half-way. A box that nobody uses does not wake its disk.
func (in *Ingest) Run(ctx context.Context) {
	var ended sync.WaitGroup
	defer ended.Wait()
	ended.Go(func() { in.removeEnded(ctx) }) // does not wait for a walk through the volume
	timer := time.NewTimer(firstPass)
	defer timer.Stop()
	in.orphans.Store(true)
	again := in.now().Add(recheck)
	for {
		select {
		case <-ctx.Done():
			return
		case <-in.ctx.Done():
			return
		case <-in.cat.Died():
			if _, err := in.sweepDead(ctx); err != nil && ctx.Err() == nil {
				in.log.Warn("contents that nobody keeps could not be removed", "err", err)
			}
			continue
		case <-timer.C:
			timer.Reset(passEvery)
		}
		walk := in.orphans.Swap(false)
		if walk {
			again = in.now().Add(recheck)
		} else if in.now().After(again) {
			walk, again = true, in.now().Add(100*365*24*time.Hour)
		}
		swept, err := in.sweep(ctx, walk)
		if err != nil && ctx.Err() == nil {
			in.orphans.Store(in.orphans.Load() || walk)
			in.log.Warn("the sweep did not finish", "err", err)
		}
		if swept != (Swept{}) {
			in.log.Info("swept", "uploads", swept.Uploads, "blobs", swept.Blobs, "bytes", swept.Bytes)
		}
	}
}

// Sweep does at once all that Run would do in time: it removes expired uploads,
// contents that nobody keeps, and orphans older than a day (unless
// Options.KeepOrphans). After a failed commit it removes nothing: see db.DB.Err.
func (in *Ingest) Sweep(ctx context.Context) (Swept, error) { return in.sweep(ctx, true) }

func (in *Ingest) sweep(ctx context.Context, walk bool) (s Swept, err error) {
	// A commit that failed may be in the log all the same and hold after a restart:
	// until then nobody knows which blobs have no row.
	if err := in.db.Err(); err != nil {
		return s, err
	}
	var errs []error
	n, err := in.expire(ctx)
	s.Uploads += n
	errs = append(errs, err)
	dead, err := in.sweepDead(ctx)
	s.Blobs, s.Bytes = dead.Blobs, dead.Bytes
	errs = append(errs, err)
	if walk {
		n, err := in.sweepStaged(ctx)
		s.Uploads += n
		errs = append(errs, err)
	}
	if walk && !in.spare {
		orphans, err := in.store.Sweep(ctx, orphanAge, in.live(ctx))
		s.Blobs += orphans.Blobs
		s.Bytes += orphans.Bytes
		errs = append(errs, err)
	}
	return s, errors.Join(errs...)
}

// live says whether a row names a blob. After a commit that failed nobody knows: what it
// wrote may be in the log all the same and hold after a restart. Who failed with it lets
// go of its blobs only then, so that this is asked in time.
func (in *Ingest) live(ctx context.Context) func(storage.Ref) (bool, error) {
	return func(ref storage.Ref) (bool, error) {
		if err := in.db.Err(); err != nil {
			return true, err
		}
		return in.cat.Live(ctx, ref)
	}
}

// unwanted removes at once a blob that was made durable and whose row was then
// refused, so that nobody fills the disk with what their share has no room for,
// and nothing stays of an upload whose consent ended.
func (in *Ingest) unwanted(ref storage.Ref) {
	if in.spare || in.db.Err() != nil {
		return
	}
	ctx := context.WithoutCancel(in.ctx)
	if _, err := in.store.Remove(ctx, []storage.Ref{ref}, in.live(ctx)); err != nil {
		in.log.Warn("a blob without a row stays until the next sweep", "err", err)
	}
}

const expiredUploads = `SELECT id FROM upload WHERE expires <= ? ORDER BY expires LIMIT +?`

// expire removes resumable uploads whose time is over.
func (in *Ingest) expire(ctx context.Context) (n int, err error) {
	for {
		ids, err := in.ids(ctx, expiredUploads, in.now().UnixMilli(), expireBatch)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		some, err := in.dropAll(ctx, ids)
		if n += some; err != nil {
			return n, err
		}
	}
}

// dropAll ends those uploads and removes what arrived of them; n is how many it did.
func (in *Ingest) dropAll(ctx context.Context, ids []string) (n int, err error) {
	for _, id := range ids {
		s, err := in.acquire(ctx, id)
		if err != nil {
			return n, err
		}
		err = in.drop(ctx, id)
		in.free(id, s)
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// ids are the uploads that a query finds.
func (in *Ingest) ids(ctx context.Context, query string, args ...any) (ids []string, err error) {
	err = in.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	return ids, err
}

// sweepStaged removes staged bytes that no row knows: a cut came between the checkpoint
// and the row, or brought back what had been removed. Bytes get their row from who holds
// them, so what nobody holds gets none any more.
func (in *Ingest) sweepStaged(ctx context.Context) (n int, err error) {
	for st, err := range in.store.Staged(ctx) {
		if err != nil {
			return n, err
		}
		removed, err := in.sweepOne(ctx, st.ID)
		if err != nil {
			return n, err
		}
		if removed {
			n++
		}
	}
	return n, nil
}

func (in *Ingest) sweepOne(ctx context.Context, id string) (removed bool, err error) {
	s := in.tryAcquire(id)
	if s == nil {
		return false, nil
	}
	defer in.free(id, s)
	known, err := in.hasRow(ctx, id)
	if err != nil || known {
		return false, err
	}
	err = in.store.Discard(ctx, id)
	if errors.Is(err, storage.ErrInUse) || errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (in *Ingest) hasRow(ctx context.Context, id string) (known bool, err error) {
	err = in.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM upload WHERE id = ?)`, id).Scan(&known)
	})
	return known, err
}

// sweepDead removes the files of contents that lost their last row. Storage asks
// again under its own lock whether each is dead, so that an upload of the same
// content in this moment keeps it.
func (in *Ingest) sweepDead(ctx context.Context) (s storage.Swept, err error) {
	for {
		refs, err := in.cat.Dead(ctx, deadAtOnce)
		if err != nil || len(refs) == 0 {
			return s, err
		}
		if in.letGo != nil {
			if err := in.letGo(ctx); err != nil {
				return s, err
			}
		}
		part, err := in.store.Remove(ctx, refs, in.live(ctx))
		s.Blobs += part.Blobs
		s.Bytes += part.Bytes
		if err != nil {
			return s, err
		}
		if part.Blobs < len(refs) {
			// Some are being uploaded again right now. If that fails they are
			// orphans from now on.
			in.orphans.Store(true)
		}
		if err := in.cat.Forget(ctx, refs); err != nil {
			return s, err
		}
	}
}
