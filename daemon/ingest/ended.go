package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/storage"
)

// What has begun to come in and is not whole yet goes when its person says no, whatever
// brings it: see docs/decisions/0041. The rule is here and nowhere else. The transaction
// of the decision ends the uploads, so that no later consent brings them back; their bytes
// go as soon as it is committed. Cut off, that is done at the next start. A consent that
// is only missing (a new revision of the policy, a child without a guardian) ends nothing:
// what is paused waits for the answer.

// ended is the time of expiry of an upload that a decision ended.
const ended = 0

const (
	endAll = `UPDATE upload SET expires = 0 WHERE user = ?1 AND item IS NULL`
	// A decision for one device says nothing of the others.
	endOf        = endAll + ` AND source IN (SELECT value FROM json_each(?2)) AND (?3 = 0 OR device = ?3)`
	endedUploads = `SELECT id FROM upload WHERE expires = 0 ORDER BY id LIMIT +?`
)

// endUploads ends within tx what d, which says no, leaves without a consent.
func (in *Ingest) endUploads(tx *db.Tx, d consent.Decision) error {
	query, args := endAll, []any{int64(d.User)}
	if d.Purpose != consent.WholePolicy {
		sources := consent.SourcesOf(d.Purpose)
		if len(sources) == 0 {
			return nil
		}
		list, err := json.Marshal(sources)
		if err != nil {
			return err
		}
		query, args = endOf, append(args, string(list), int64(d.Device))
	}
	res, err := tx.Exec(query, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n > 0 {
		tx.AfterCommit(func() {
			select {
			case in.endings <- struct{}{}:
			default: // it will be seen with the one before
			}
		})
	}
	return err
}

// again is when what could not be removed is tried again.
const again = time.Minute

// removeEnded removes what decisions ended, until ctx ends: first what a power cut left.
func (in *Ingest) removeEnded(ctx context.Context) {
	if _, err := in.sweepStaged(ctx); err != nil && ctx.Err() == nil {
		in.log.Warn("staged bytes of no upload could not be removed; the next sweep tries again", "err", err)
	}
	for {
		var retry <-chan time.Time
		if err := in.dropEnded(ctx); err != nil && ctx.Err() == nil {
			in.log.Error("what was on its way when its consent was withdrawn could not be removed; it is tried again", "err", err)
			retry = time.After(again)
		}
		select {
		case <-ctx.Done():
			return
		case <-in.ctx.Done():
			return
		case <-in.endings:
		case <-retry:
		}
	}
}

// dropEnded removes the bytes of all uploads that a decision ended, and then their rows,
// which say until then what is to be done.
func (in *Ingest) dropEnded(ctx context.Context) error {
	for {
		if err := in.db.Err(); err != nil {
			return err
		}
		ids, err := in.ids(ctx, endedUploads, expireBatch)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := in.removeAll(ctx, ids); err != nil {
			return err
		}
	}
}

// removeAll is dropEnded for some. Those that nobody holds go first: whoever holds one has
// been told to let go. One that cannot be removed does not keep the others.
func (in *Ingest) removeAll(ctx context.Context, ids []string) error {
	held := make(map[string]*slot, len(ids))
	defer func() {
		for id, s := range held {
			in.free(id, s)
		}
	}()
	var busy []string
	var errs []error
	for _, id := range ids {
		s := in.tryAcquire(id)
		if s == nil {
			busy = append(busy, id)
			continue
		}
		if err := in.discard(ctx, id); err != nil {
			in.free(id, s)
			errs = append(errs, err)
			continue
		}
		held[id] = s
	}
	if len(held) > 0 {
		errs = append(errs, in.db.Write(ctx, func(tx *db.Tx) error {
			for id := range held {
				if _, err := tx.Exec(`DELETE FROM upload WHERE id = ?`, id); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for _, id := range busy {
		in.letEnd(ctx, id)
	}
	if len(busy) > 0 {
		_, err := in.dropAll(ctx, busy)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// patience is how long whoever holds an upload that a decision ended has to let go by
// themselves: their Grant ends with the same commit, and that is what their client is to
// hear, not that the upload was taken from them.
const patience = 500 * time.Millisecond

func (in *Ingest) letEnd(ctx context.Context, id string) {
	s, _, _ := in.holder(id)
	if s == nil {
		return
	}
	select {
	case <-s.free:
	case <-ctx.Done():
	case <-time.After(patience):
	}
}

// tryAcquire takes the upload id if nobody holds it; nil: somebody does.
func (in *Ingest) tryAcquire(id string) *slot {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.slots[id] != nil {
		return nil
	}
	s := newSlot()
	in.slots[id] = s
	return s
}

// discard removes the bytes of an upload that the caller holds, if there are any.
func (in *Ingest) discard(ctx context.Context, id string) error {
	err := in.store.Discard(ctx, id)
	if err == nil || errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return in.explain(Meta{Size: -1}, err)
}
