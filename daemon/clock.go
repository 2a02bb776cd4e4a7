package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"yunbox.local/storage/vfs"
)

const (
	// catchUp is how many times as fast as the box is seen to run the sure time goes, at
	// most, after the clock went ahead.
	catchUp = 8
	// unsureFrom is how far both may be apart before what carries a time says so.
	unsureFrom = 31 * 24 * time.Hour
	// spanned is how far both may be apart for one certificate to be good at both.
	spanned = 380 * 24 * time.Hour
	// markEvery is how often the time is written down while the box is in use.
	markEvery = 24 * time.Hour
)

// A clock tells two times (docs/decisions/0023). Now is what the system says. Sure is
// what a deadline is held against whose passing cannot be undone: a jump of the clock
// must not end everything that has an end. It goes as fast as the box is seen to run;
// where the clock is ahead it follows with no more than catchUp times that, and where
// the clock went back it waits.
type clock struct {
	system  func() time.Time
	running func() time.Duration // since some moment
	right   func() bool          // the system's clock is known to be right
	log     *slog.Logger
	off     time.Duration // how far ahead of the sure time the clock was at the start

	mu    sync.Mutex
	now   time.Time     // what Now was when the system's clock was set
	nowAt time.Duration // when that was
	line  time.Time     // what Sure was
	at    time.Duration // when that was
	told  bool          // that it is behind
}

// newClock starts a clock. known is the last sure time of the box, base the last time
// that its files show; both may be zero.
func newClock(system func() time.Time, running func() time.Duration, right func() bool, known, base time.Time, log *slog.Logger) *clock {
	c := &clock{system: system, running: running, right: right, log: log, now: base, line: known}
	if c.now.Before(firstRelease()) {
		c.now = firstRelease()
	}
	c.nowAt, c.at = running(), running()
	if c.line.IsZero() {
		c.line = c.Now() // a new box, or one from before there was a sure time
	}
	c.off = c.Now().Sub(c.line)
	return c
}

// Now is the system's time, but for a computer whose clock was never set (small boxes
// have none that runs while they are off, and start in 1970): then it is the last time
// that was known and what has passed since.
func (c *clock) Now() time.Time {
	t, run := c.system(), c.running()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Before(firstRelease()) {
		return c.now.Add(run - c.nowAt)
	}
	c.now, c.nowAt = t, run
	return t
}

// Sure returns the time that may be held against deadlines, and whether Now may well be
// wrong.
func (c *clock) Sure() (sure time.Time, unsure bool) {
	now, run := c.Now(), c.running()
	unset, right := c.system().Before(firstRelease()), c.right()
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := max(run-c.at, 0)
	c.at = run
	slow, fast := c.line.Add(passed/2), c.line.Add(catchUp*min(passed, 365*24*time.Hour))
	switch {
	case right, !now.Before(c.line) && now.Sub(fast) <= time.Hour:
		c.line, c.told = now, false
	case now.Before(c.line):
		c.line = slow // it went back: what is to end still ends, only later
		if c.line.Before(now) {
			c.line = now
		}
	default:
		c.line = fast
		if !c.told {
			c.told = true
			c.log.Warn("the clock is ahead of the time that this box has seen pass; nothing is ended for good by that until it has run for a while", "clock", now.UTC(), "sure", c.line.UTC())
		}
	}
	return c.line, unset || now.Sub(c.line).Abs() > unsureFrom
}

// shown returns the time as people are told it, and whether it may well be wrong.
func (c *clock) shown() (now time.Time, unsure bool) {
	_, unsure = c.Sure()
	return c.Now(), unsure
}

func (c *clock) sure() time.Time { t, _ := c.Sure(); return t }

// earlier is the earlier of both times: for what compares with the times of files.
func (c *clock) earlier() time.Time {
	if now, sure := c.Now(), c.sure(); now.Before(sure) {
		return now
	} else {
		return sure
	}
}

// certificates is the time from which a certificate is to hold: good by either clock
// if that can be. If not, a box that was off for so long believes the clock, and one
// that saw it jump does not.
func (c *clock) certificates() time.Time {
	now, sure := c.Now(), c.sure()
	switch apart := now.Sub(sure); {
	case apart.Abs() <= spanned:
		return c.earlier()
	case apart > 0 && c.off > spanned:
		return now
	}
	return sure
}

// keepTime writes the sure time down while the box is in use, so that a power cut does
// not leave it with that of its start. A box that nobody uses writes nothing. With it
// goes what is looked at once an hour, or once a day.
func (b *Box) keepTime(ctx context.Context) {
	timer := time.NewTicker(lookHourly)
	defer timer.Stop()
	commits := b.db.Stats().Commits
	b.expire(ctx)
	for hours := 1; ; hours++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		b.erasure.Look(b.clock.sure())
		if time.Duration(hours)*lookHourly%markEvery != 0 {
			continue
		}
		b.expire(ctx)
		if now := b.db.Stats().Commits; now != commits {
			commits = now
			if err := b.markTime(); err != nil {
				b.log.Warn("the time could not be written down", "err", err)
			}
		}
	}
}

func (b *Box) markTime() error {
	mark, err := readRecordsMark(b.volume)
	if err != nil || mark.opened == 0 {
		return errors.Join(err)
	}
	mark.time = b.clock.sure()
	return vfs.WriteFile(b.volume, recordsFile, mark.marshal(), 0o600)
}
