package health

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

const (
	// keyLast of table box is when the last portion ended, keyWhole when a run of
	// everything began that has not ended. Unix milliseconds.
	keyLast  = "scrubbed"
	keyWhole = "scrub_whole"

	fresh = 24 * time.Hour // what was written or read since then is not read again by a portion

	// spare is how much sooner than Options.Days everything comes round: for days on
	// which the box is off.
	spare = 4

	// Findings are noted together: so many contents or so long.
	noteCount = 256
	noteSums  = 256 << 10 // or so many sums, which are 1 MiB
	noteEvery = 20 * time.Second

	yieldRate = 4 << 20 // bytes a second beside uploads
)

// Run reads contents back when it is time, and when Begin asks for it, until ctx
// ends.
func (h *Health) Run(ctx context.Context) {
	if whole, err := h.moment(ctx, keyWhole); err == nil && !whole.IsZero() {
		h.mu.Lock() // a restart interrupted it
		h.whole, h.asked = whole, true
		h.mu.Unlock()
	}
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	var quiet time.Time // when a portion had nothing to read: that is not written down
	last, known := time.Time{}, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-timer.C:
		}
		timer.Reset(lookEvery)
		h.mu.Lock()
		asked, whole := h.asked || !h.whole.IsZero(), h.whole
		h.asked = false
		h.mu.Unlock()
		now := h.o.Now()
		if !asked {
			if !known {
				var err error
				last, err = h.moment(ctx, keyLast)
				known = err == nil
			}
			if !known || h.o.Days == 0 || now.Sub(last) < rest && !last.After(now) || now.Sub(quiet) < rest && !quiet.After(now) {
				continue
			}
			if !h.good(now, last) {
				timer.Reset(lookClosely)
				continue
			}
		}
		p := h.scrub(ctx, whole, asked)
		known = false
		if ctx.Err() != nil {
			return
		}
		if p.Total == 0 && p.Error == "" || p.Stopped {
			quiet = now
		}
		if p.Error != "" {
			h.log.Warn("the scrub did not finish; it goes on later", "error", p.Error)
		}
	}
}

// scrub is one run: of everything that was not read since whole, or of a portion.
func (h *Health) scrub(ctx context.Context, whole time.Time, asked bool) Progress {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{h: h, whole: whole}
	if !asked {
		r.rate = h.o.Rate
	}
	h.mu.Lock()
	h.run = Progress{Number: h.run.Number + 1, Running: true, Whole: !whole.IsZero(), Begun: h.o.Now()}
	h.stop = cancel
	h.mu.Unlock()
	err := r.do(ctx)
	err = errors.Join(err, r.note(context.WithoutCancel(ctx)))
	if err == nil {
		err = r.finish(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop = nil
	if h.run.Stopped {
		// Not with the lock: a writer may wait for who holds it.
		h.mu.Unlock()
		gaveUp := h.setMoment(context.WithoutCancel(ctx), keyWhole, time.Time{})
		h.mu.Lock()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		err = errors.Join(err, gaveUp)
	}
	h.run.Running, h.run.Ended = false, h.o.Now()
	if err != nil {
		h.run.Error = problem.Sentence(err)
	} else if h.run.Whole && !h.run.Stopped {
		h.whole = time.Time{}
	}
	return h.run
}

// run is a run of the scrub.
type run struct {
	h        *Health
	whole    time.Time // see scrub
	rate     int64     // bytes a second; 0: no limit
	findings []catalog.Finding
	sums     int // how many are in findings
	noted    time.Time

	commits int64 // of the database when it was last asked, for busy
	changed time.Time
	asked   time.Time
}

func (r *run) count(f func(*Progress)) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	f(&r.h.run)
}

func (r *run) do(ctx context.Context) error {
	h := r.h
	r.noted = time.Now()
	if !r.whole.IsZero() {
		if err := h.setMoment(ctx, keyWhole, r.whole); err != nil {
			return err
		}
	}
	if err := r.damaged(ctx); err != nil {
		return err
	}
	shards, err := h.order(ctx)
	if err != nil {
		return err
	}
	since := r.whole
	if since.IsZero() {
		since = h.o.Now().Add(-fresh)
		shards = h.portion(shards)
	}
	for _, shard := range shards {
		blobs, bytes, err := h.o.Catalog.StaleTotal(ctx, shard, since)
		if err != nil {
			return err
		}
		r.count(func(p *Progress) { p.Total += blobs; p.Size += bytes })
	}
	for _, shard := range shards {
		if err := r.shard(ctx, shard, since); err != nil {
			return err
		}
	}
	return nil
}

// portion returns the shards of a day: so many that all come round in time, and those
// that are late.
func (h *Health) portion(shards []int) []int {
	days := h.o.Days
	if days == 0 {
		days = 30 // somebody asked for a portion all the same
	}
	n := (catalog.Shards + max(days-spare, 1) - 1) / max(days-spare, 1)
	late := h.o.Now().Add(-time.Duration(days-1) * 24 * time.Hour)
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(shards) && h.bounds[shards[n]].at.Before(late) {
		n++
	}
	return shards[:min(n, len(shards))]
}

const page = 200

// shard reads what is stale in one shard, in the order of the table.
func (r *run) shard(ctx context.Context, shard int, since time.Time) error {
	var after storage.Ref
	for {
		list, err := r.h.o.Catalog.Stale(ctx, shard, since, after, page)
		if err != nil {
			return err
		}
		for _, b := range list {
			after = b.Ref
			if b.Doubted {
				r.count(func(p *Progress) { p.Blobs++; p.Bytes += b.Size })
				continue // see damaged
			}
			if _, err := r.inspect(ctx, b.Ref, b.Size); err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
	}
}

// inspect reads one content and notes what it finds.
func (r *run) inspect(ctx context.Context, ref storage.Ref, size int64) (storage.Damage, error) {
	counted := int64(0)
	pace := &storage.Pace{Rate: r.speed, Read: func(n int64) {
		n = min(n, size-counted) // the second reading of what does not fit is not counted
		counted += n
		r.count(func(p *Progress) { p.Bytes += n })
	}}
	damage, sums, err := r.h.o.Store.ReadBack(ctx, ref, size, pace)
	if err != nil {
		return "", err
	}
	r.count(func(p *Progress) { p.Blobs++; p.Bytes += size - counted })
	if damage == storage.Sound {
		return damage, r.found(ctx, catalog.Finding{Ref: ref, Time: r.h.o.Now(), Sums: sums})
	}
	live, err := r.h.o.Catalog.Live(ctx, ref)
	if err != nil || !live {
		return damage, err // its last owner let it go while we looked
	}
	r.h.log.Error("the scrub found a damaged content; it will be asked for again", "ref", ref, "damage", string(damage))
	r.count(func(p *Progress) { p.Damaged++ })
	if err := r.found(ctx, catalog.Finding{Ref: ref, Damage: damage}); err != nil || len(r.h.sources()) == 0 {
		return damage, err
	}
	if err := r.note(ctx); err != nil {
		return damage, err
	}
	return damage, r.heal(ctx, ref, size)
}

// found remembers a finding until it is noted together with others.
func (r *run) found(ctx context.Context, f catalog.Finding) error {
	r.findings = append(r.findings, f)
	r.sums += len(f.Sums)
	if len(r.findings) >= noteCount || r.sums > noteSums || time.Since(r.noted) > noteEvery {
		return r.note(ctx)
	}
	return nil
}

func (r *run) heal(ctx context.Context, ref storage.Ref, size int64) error {
	from, err := r.h.heal(ctx, ref, size)
	if err != nil && ctx.Err() == nil {
		r.h.log.Warn("a damaged content could not be healed", "ref", ref, "error", err)
		return nil // the others may be
	}
	if from != "" {
		r.count(func(p *Progress) { p.Healed++ })
	}
	return err
}

// note writes down what was found.
func (r *run) note(ctx context.Context) error {
	err := r.h.o.Catalog.Found(ctx, catalog.ByScrub, r.findings)
	clear(r.findings)
	r.findings, r.sums, r.noted = r.findings[:0], 0, time.Now()
	return err
}

// damaged looks at the list of damages again: a disk that was away is back, another
// copy has come.
func (r *run) damaged(ctx context.Context) error {
	return r.h.eachDamage(ctx, func(d catalog.Damage) error {
		ending, _, err := r.h.mend(ctx, catalog.ByScrub, d)
		if err != nil && ctx.Err() == nil {
			r.h.log.Warn("a damaged content could not be healed", "ref", d.Ref, "error", err)
			return nil
		}
		if ending != catalog.StillOpen {
			r.count(func(p *Progress) { p.Healed++ })
		}
		return err
	})
}

// speed is how many bytes a second may be read now: people who send something come
// first.
func (r *run) speed() int64 {
	if !r.busy() {
		return r.rate
	}
	if r.rate > 0 {
		return min(r.rate, yieldRate)
	}
	return yieldRate
}

// busy reports whether something is written to the box, by the counters that are
// there anyway.
func (r *run) busy() bool {
	now := time.Now()
	if now.Sub(r.asked) > 100*time.Millisecond {
		r.asked = now
		commits := r.h.o.DB.Stats().Commits
		if commits != r.commits && r.commits != 0 {
			r.changed = now
		}
		r.commits = commits
	}
	return r.h.o.Store.Receiving() || now.Sub(r.changed) < time.Second
}

// finish writes down that the run ended.
func (r *run) finish(ctx context.Context) error {
	if !r.whole.IsZero() {
		if err := r.h.setMoment(ctx, keyWhole, time.Time{}); err != nil {
			return err
		}
	}
	if p := r.h.Progress(); p.Total > 0 { // a box with nothing to read writes nothing
		return r.h.setMoment(ctx, keyLast, r.h.o.Now())
	}
	return nil
}

// moment reads a time from table box; zero: there is none.
func (h *Health) moment(ctx context.Context, key string) (t time.Time, err error) {
	err = h.o.DB.Read(ctx, func(tx *db.Tx) error {
		var text string
		err := tx.QueryRow(`SELECT value FROM box WHERE key = ?`, key).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		ms, err := strconv.ParseInt(text, 10, 64)
		t = time.UnixMilli(ms).UTC()
		return err
	})
	return t, err
}

// setMoment writes a time to table box; zero removes it.
func (h *Health) setMoment(ctx context.Context, key string, t time.Time) error {
	return h.o.DB.Write(ctx, func(tx *db.Tx) error {
		if t.IsZero() {
			_, err := tx.Exec(`DELETE FROM box WHERE key = ?`, key)
			return err
		}
		_, err := tx.Exec(`INSERT INTO box (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
			key, strconv.FormatInt(t.UnixMilli(), 10))
		return err
	})
}
