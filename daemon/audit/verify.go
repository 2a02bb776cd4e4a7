package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"yunbox.local/daemon/db"
)

// Reason says what is wrong with an entry of a chain.
type Reason string

// The reasons that Verify gives.
const (
	// Changed: the entry is not what it was when it was written, or stands where
	// none was written.
	Changed Reason = "changed"
	// Missing: the entry was removed; later ones are still there.
	Missing Reason = "missing"
	// Reordered: another entry stands in the place of this one.
	Reordered Reason = "reordered"
	// Truncated: this entry and all after it were removed.
	Truncated Reason = "truncated"
	// Rewritten: a Mark that was kept elsewhere has another hash. This entry, or some
	// before it, were changed together with every hash that follows.
	Rewritten Reason = "rewritten"
)

// A Mark is an entry's number and hash, kept where who rewrites the chain cannot
// reach it.
type Mark struct {
	// Seq is the number of the entry, from 1; 0: before the first.
	Seq int64 `json:"seq"`
	// Hash is the hash of the entry, 64 lower-case hex digits.
	Hash string `json:"hash"`
}

// Bad is the first entry of a chain that does not hold.
type Bad struct {
	// Seq is the number of the entry, from 1.
	Seq int64 `json:"seq"`
	// Reason is one of the constants of this package, or of the package whose
	// chain it is.
	Reason Reason `json:"reason"`
}

// Report is the outcome of a verification.
type Report struct {
	// Entries is how many entries hold, counted from the first.
	Entries int64 `json:"entries"`
	// Head is the hash of the last entry that holds, 64 hex digits. Written down
	// elsewhere, it proves later that nothing up to here was rewritten.
	Head string `json:"head"`
	// Bad is the first entry that does not hold; nil if all do.
	Bad *Bad `json:"bad,omitempty"`
}

// Verify reads the chain from its first entry to its last and says whether it
// holds, and if not, which entry is the first bad one. A chain that holds must
// also go through every mark in kept. Its memory does not grow with the chain. An
// error means that it could not be read, not that it is bad.
func (c *Chain) Verify(ctx context.Context, tx *db.Tx, kept ...Mark) (Report, error) {
	report, err := c.verify(ctx, tx)
	if err != nil || report.Bad != nil {
		return report, err
	}
	for _, k := range kept {
		now, err := c.at(ctx, tx, k.Seq)
		if err != nil {
			return Report{}, fmt.Errorf("audit: verify %s: %w", c.name, err)
		}
		switch {
		case now == nil:
			report.Bad = &Bad{Seq: report.Entries + 1, Reason: Truncated}
			return report, nil
		case *now != k && (report.Bad == nil || k.Seq < report.Bad.Seq):
			report.Bad = &Bad{Seq: k.Seq, Reason: Rewritten}
		}
	}
	return report, nil
}

// Marks returns the mark of the last entry, and of entry at as it is now: nil if
// there is none.
func (c *Chain) Marks(ctx context.Context, tx *db.Tx, at int64) (last Mark, then *Mark, err error) {
	end, err := c.head(ctx, tx)
	if err != nil {
		return Mark{}, nil, err
	}
	then, err = c.at(ctx, tx, at)
	return Mark{Seq: end.seq, Hash: end.hash.String()}, then, err
}

func (c *Chain) at(ctx context.Context, tx *db.Tx, seq int64) (*Mark, error) {
	hash, err := c.hashOf(ctx, tx, seq)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &Mark{Seq: seq, Hash: hash}, err
}

func (c *Chain) verify(ctx context.Context, tx *db.Tx) (Report, error) {
	w, err := c.walk(ctx, tx)
	if err != nil {
		return Report{}, fmt.Errorf("audit: verify %s: %w", c.name, err)
	}
	report := Report{Entries: w.good.seq, Head: w.good.hash.String()}
	end, err := c.head(ctx, tx)
	lost := errors.Is(err, sql.ErrNoRows)
	if err != nil && !lost {
		return Report{}, err
	}
	switch {
	case w.broken == nil && lost:
		report.Bad = &Bad{Seq: w.good.seq + 1, Reason: Truncated} // nothing says where the end was
	case w.broken == nil && w.good == end:
	case w.broken == nil && w.good.seq < end.seq:
		report.Bad = &Bad{Seq: w.good.seq + 1, Reason: Truncated}
	case w.broken == nil && w.good.seq > end.seq:
		report.Bad = &Bad{Seq: end.seq + 1, Reason: Changed} // written past the recorded end
	case w.broken == nil: // the last entry was rewritten together with its hash
		report.Bad = &Bad{Seq: end.seq, Reason: Changed}
	default:
		bad, err := c.diagnose(ctx, tx, w)
		if err != nil {
			return Report{}, fmt.Errorf("audit: verify %s: %w", c.name, err)
		}
		report.Bad = &bad
	}
	if b := report.Bad; b != nil && b.Seq >= 1 && b.Seq <= report.Entries {
		// The entry before the one that showed the fault is the bad one.
		report.Entries = b.Seq - 1
		if report.Head, err = c.hashOf(ctx, tx, b.Seq-1); err != nil {
			return Report{}, err
		}
	}
	return report, nil
}

// walked is how far the chain holds, and the entry at which it does not.
type walked struct {
	good   head
	broken *broken
}

type broken struct {
	seq  int64
	prev Hash // what the entry says that it follows
	hash Hash
	self bool // its own hash holds: the entry is as it was written
}

func (c *Chain) walk(ctx context.Context, tx *db.Tx) (walked, error) {
	var w walked
	rows, err := tx.QueryContext(ctx, c.scan)
	if err != nil {
		return w, err
	}
	defer rows.Close()
	var prev, stored []byte
	var seq int64
	values := make([]any, len(c.columns))
	into := []any{&seq, &prev, &stored}
	for i := range values {
		into = append(into, &values[i])
	}
	h := c.newHasher()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return w, err
		}
		b := broken{seq: seq}
		copy(b.prev[:], prev)
		copy(b.hash[:], stored)
		sum, err := h.sum(b.prev, seq, values) // fails only on a type that Append never wrote
		b.self = err == nil && sum == b.hash && len(prev) == len(b.prev) && len(stored) == len(b.hash)
		if seq != w.good.seq+1 || b.prev != w.good.hash || !b.self {
			w.broken = &b
			return w, nil
		}
		w.good = head{seq: seq, hash: sum}
	}
	return w, rows.Err()
}

// diagnose names the first bad entry when the walk stopped at one.
func (c *Chain) diagnose(ctx context.Context, tx *db.Tx, w walked) (Bad, error) {
	b, want := w.broken, w.good.seq+1
	if b.seq < 1 {
		return Bad{Seq: b.seq, Reason: Changed}, nil
	}
	if b.prev == w.good.hash {
		// It names the right predecessor, so it was written here or made up here.
		if b.seq == want {
			return Bad{Seq: b.seq, Reason: Changed}, nil
		}
		return Bad{Seq: want, Reason: Reordered}, nil // the right entry under a wrong number
	}
	// Does the entry that belongs here stand somewhere else?
	var elsewhere bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+c.name+" WHERE prev = ? AND seq > ?)",
		w.good.hash[:], b.seq).Scan(&elsewhere); err != nil {
		return Bad{}, err
	}
	switch {
	case elsewhere:
		return Bad{Seq: want, Reason: Reordered}, nil
	case b.seq != want:
		return Bad{Seq: want, Reason: Missing}, nil
	case b.self && w.good.seq > 0:
		// As it was written, but after another entry than the one that now stands
		// before it: that one was rewritten together with its own hash.
		return Bad{Seq: w.good.seq, Reason: Changed}, nil
	case b.self:
		return Bad{Seq: want, Reason: Changed}, nil
	}
	moved, err := c.wasElsewhere(ctx, tx, b)
	if err != nil {
		return Bad{}, err
	}
	if moved {
		return Bad{Seq: want, Reason: Missing}, nil // removed, and later ones renumbered
	}
	return Bad{Seq: want, Reason: Changed}, nil
}

// farthest is how many numbers wasElsewhere tries: about a second of hashing.
const farthest = 1 << 21

// wasElsewhere reports whether the entry at b.seq is genuine under a later
// number than the one that it has now.
func (c *Chain) wasElsewhere(ctx context.Context, tx *db.Tx, b *broken) (bool, error) {
	var count int64
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM "+c.name).Scan(&count); err != nil {
		return false, err
	}
	if end, err := c.head(ctx, tx); err == nil {
		count = max(count, end.seq)
	}
	var seq int64
	var prev, stored []byte
	values := make([]any, len(c.columns))
	into := []any{&seq, &prev, &stored}
	for i := range values {
		into = append(into, &values[i])
	}
	if err := tx.QueryRowContext(ctx, c.scanOne, b.seq).Scan(into...); err != nil {
		return false, err
	}
	h := c.newHasher()
	for n := b.seq + 1; n <= min(count, b.seq+farthest); n++ {
		sum, err := h.sum(b.prev, n, values)
		if err != nil {
			return false, nil // a type that Append never wrote: not genuine anywhere
		}
		if sum == b.hash {
			return true, nil
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}

func (c *Chain) hashOf(ctx context.Context, tx *db.Tx, seq int64) (string, error) {
	if seq == 0 {
		return Hash{}.String(), nil
	}
	var b []byte
	if err := tx.QueryRowContext(ctx, "SELECT hash FROM "+c.name+" WHERE seq = ?", seq).Scan(&b); err != nil {
		return "", fmt.Errorf("audit: verify %s: %w", c.name, err)
	}
	var h Hash
	copy(h[:], b)
	return h.String(), nil
}
