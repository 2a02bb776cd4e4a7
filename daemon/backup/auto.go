package backup

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// Wake has the box look now whether a run is due.
func (b *Backup) Wake() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run keeps the copies up to date until ctx ends. While nothing changes it writes
// nothing, here or there, and does not look at the disks of the copies.
func (b *Backup) Run(ctx context.Context) {
	b.mu.Lock()
	b.running = ctx
	b.mu.Unlock()
	// Of a run that was killed: what is deleted later must not stay in it.
	if err := removeSnapshot(filepath.Join(b.scratch(), snapshot)); err != nil {
		b.log.Warn("a copy of the records that is not needed any more stays", "err", err)
	}
	for pause := time.Minute; ; pause = lookEvery { // a start has better things to do first
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-b.wake:
			timer.Stop()
		case <-timer.C:
		}
		if !b.lookOrLeave(ctx) {
			return
		}
	}
}

// stuck is how long a disk that does not answer, such as a server that went away,
// holds up a box that wants to stop.
const stuck = 10 * time.Second

// lookOrLeave is Look, left alone if it does not end with ctx.
func (b *Backup) lookOrLeave(ctx context.Context) bool {
	ended := make(chan struct{})
	go func() { defer close(ended); b.Look(ctx) }()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(stuck):
		b.log.Warn("the disk of a second copy does not answer; it is left")
	}
	return false
}

// Look does what is due now: a run, or a verification, of each copy that is there.
func (b *Backup) Look(ctx context.Context) {
	list, err := b.Targets(ctx)
	if err != nil {
		b.log.Error("the second copies cannot be listed", "err", err)
		return
	}
	for _, t := range list {
		if err := b.tend(ctx, t); err != nil && ctx.Err() == nil {
			b.hold(t.ID, b.opt.Now().Add(retryAfter))
			b.log.Error("a second copy is not up to date", "copy", t.ID, "err", err)
		}
	}
}

func (b *Backup) hold(id string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[id] = until
}

// tend does what is due for one copy. That its disk is not there is no error.
func (b *Backup) tend(ctx context.Context, t Target) error {
	run, verify, err := b.due(ctx, t)
	if err != nil || !run && !verify {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !b.begin(cancel) {
		return nil // somebody does it by hand
	}
	defer b.end()
	if run {
		_, err = b.run(ctx, t, "box", nil)
	} else {
		_, err = b.verify(ctx, t, true, true, nil, nil)
	}
	if errors.Is(err, target.ErrAbsent) || ctx.Err() != nil && outer.Err() == nil {
		return nil
	}
	return err
}

// begin claims the copies for what the box does by itself.
func (b *Backup) begin(cancel context.CancelFunc) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.working <- struct{}{}:
		b.giveWay = cancel
		return true
	default:
		return false
	}
}

func (b *Backup) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveWay = nil
	<-b.working
}

// due says what a copy needs by the records and the clock alone.
func (b *Backup) due(ctx context.Context, t Target) (run, verify bool, err error) {
	now := b.opt.Now()
	b.mu.Lock()
	held := b.held[t.ID]
	b.mu.Unlock()
	if now.Before(held) && held.Sub(now) <= retryAfter {
		return false, false, nil
	}
	since := now.Sub(t.Run)
	if since < 0 { // the clock was set back
		since = t.Every
	}
	switch {
	case t.Run.IsZero():
		return true, false, nil
	case since < t.Every && t.Damaged == 0:
	case b.opt.Busy() && since < t.Every+maxWait:
	default:
		m, err := b.mark(ctx)
		if err != nil {
			return false, false, err
		}
		// A run whose predecessor still has what was deleted since is followed by
		// another, so that nothing outlives its deletion for long.
		if string(m) != string(t.mark) || !t.settled || t.Damaged > 0 {
			return true, false, nil
		}
	}
	last := t.Verified
	if last.IsZero() {
		last = t.Created
	}
	return false, now.Sub(last).Abs() >= verifyEvery && !b.opt.Busy(), nil // a time to come is that of a wrong clock
}

// Found is a damaged file of a copy.
type Found struct {
	Event  string `json:"event"` // "damage"
	File   string `json:"file"`  // on the target
	Reason string `json:"reason"`
}

// Verdict says what a verification found.
type Verdict struct {
	Event      string    `json:"event"` // "done"
	Name       string    `json:"name"`
	Full       bool      `json:"full"`
	Generation int64     `json:"generation"`
	Time       time.Time `json:"time"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"` // that were read
	Damaged    int64     `json:"damaged"`
	Missing    int64     `json:"missing"` // contents that the copy never had
	Older      int       `json:"older"`   // further generations that hold
	Error      string    `json:"error,omitempty"`
}

// Verify holds the copy of that name against its checksums, all of it if full.
// What is damaged is noted and written again by the next run.
func (b *Backup) Verify(ctx context.Context, name string, full bool, found func(Found), step func(Progress)) (Verdict, error) {
	release, err := b.claim(ctx)
	if err != nil {
		return Verdict{}, err
	}
	defer release()
	t, err := b.Find(ctx, name)
	if err != nil {
		return Verdict{}, err
	}
	return b.verify(ctx, t, full, false, found, step)
}

// maxNoted bounds how many damaged contents are noted: a disk that loses more is
// replaced.
const maxNoted = 100_000

func (b *Backup) verify(ctx context.Context, t Target, full, paced bool, found func(Found), step func(Progress)) (Verdict, error) {
	v := Verdict{Event: "done", Name: t.Name, Full: full}
	tt, done, err := b.open(t)
	if err != nil {
		return v, err
	}
	defer done()
	defer b.told("", nil)
	var noted int64
	last, began := time.Time{}, time.Now()
	c, err := tt.Verify(ctx, full, func(d target.Damage) error {
		// A disk that was pulled out shows nothing; it is not damaged.
		if err := tt.Present(); err != nil {
			return err
		}
		if found != nil {
			found(Found{"damage", d.File, d.Reason})
		}
		if noted++; noted > maxNoted {
			return nil
		}
		return b.noteDamage(ctx, t, d)
	}, func(files, bytes int64) {
		if paced {
			rest(ctx, min(time.Since(began), maxRest))
			began = time.Now()
		}
		if time.Since(last) < 500*time.Millisecond {
			return
		}
		last = time.Now()
		p := Progress{Event: "progress", Phase: "verify", Done: files, All: t.Contents, Bytes: bytes}
		b.told(t.ID, &p)
		if step != nil {
			step(p)
		}
	})
	v.Generation, v.Time, v.Files, v.Bytes = c.Generation.Number, c.Generation.Time, c.Files, c.Bytes
	v.Damaged, v.Missing, v.Older = c.Damaged, c.Generation.Missing, c.Older
	if problem.KindOf(err) == problem.Damaged {
		return v, errors.Join(err, b.noteDamage(ctx, t, target.Damage{}))
	}
	if err != nil || !full {
		return v, err
	}
	return v, b.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if v.Damaged > 0 {
			return nil
		}
		if _, err := tx.Exec(`DELETE FROM backup_damage WHERE target = ?`, t.ID); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE backup_target SET verified = ? WHERE id = ?`, tx.Now.UnixMilli(), t.ID)
		return err
	})
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// noteDamage has the next run write a content again, or make a new generation
// where the damage is in one.
func (b *Backup) noteDamage(ctx context.Context, t Target, d target.Damage) error {
	return b.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if d.Name == (target.Name{}) {
			_, err := tx.Exec(`UPDATE backup_target SET mark = NULL, settled = 0 WHERE id = ?`, t.ID)
			return err
		}
		_, err := tx.Exec(`INSERT INTO backup_damage (target, name) VALUES (?, ?) ON CONFLICT DO NOTHING`, t.ID, d.Name[:])
		return err
	})
}
