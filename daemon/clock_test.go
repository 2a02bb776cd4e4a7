package daemon

import (
	"log/slog"
	"testing"
	"time"
)

// stage is a system whose clock and running time a test sets.
type stage struct {
	wall  time.Time
	run   time.Duration
	right bool
}

func (s *stage) clock(known time.Time) *clock {
	return newClock(func() time.Time { return s.wall }, func() time.Duration { return s.run }, func() bool { return s.right }, known, known, slog.New(slog.DiscardHandler))
}

func (s *stage) pass(d time.Duration) { s.wall, s.run = s.wall.Add(d), s.run+d }

const day = 24 * time.Hour

func TestTheSureTime(t *testing.T) { // R15
	begin := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &stage{wall: begin}
	c := s.clock(time.Time{})
	at := func(what string, want time.Time, unsure bool) {
		t.Helper()
		if got, doubt := c.Sure(); got.Sub(want).Abs() > time.Hour || doubt != unsure {
			t.Errorf("%s: %v, unsure %v; expected %v, %v", what, got, doubt, want, unsure)
		}
	}
	at("a new box", begin, false)
	s.pass(90 * day)
	at("while all is well", begin.Add(90*day), false)

	s.wall = s.wall.Add(3650 * day)
	at("after a jump", begin.Add(90*day), true)
	s.pass(day)
	at("a day later", begin.Add(98*day), true)
	s.wall = s.wall.Add(-3650 * day)
	at("when the clock went back", begin.Add(98*day), false)
	s.pass(14 * day)
	at("two weeks later", begin.Add(105*day), false)

	s.wall = s.wall.Add(20 * day)
	at("after a small jump", begin.Add(105*day), false)
	s.pass(4 * day)
	at("it catches up", s.wall, false)

	s.wall = s.wall.Add(3650 * day)
	at("after another jump", s.wall.Add(-3650*day), true)
	s.right = true
	at("once NTP says that it is right", s.wall, false)
	s.right = false

	was := c.sure()
	s.wall = time.Unix(60, 0)
	at("when the clock forgets everything", was, true)
	s.pass(2 * day)
	at("which does not stop the time", was.Add(2*day), true)
	if now := c.Now(); now.Sub(was.Add(2*day)).Abs() > time.Hour {
		t.Errorf("it is %v", now)
	}
}

func TestTheTimeOfCertificates(t *testing.T) { // R15
	begin := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		start, jump time.Duration // of the clock before the start, and while it runs
		want        time.Duration
	}{
		"all is well":                {0, 0, 0},
		"off for half a year":        {180 * day, 0, 0},
		"off for three years":        {1000 * day, 0, 1000 * day},
		"a jump of ten years":        {0, 3650 * day, 0},
		"a month back":               {0, -30 * day, -30 * day},
		"a year and a half back":     {0, -400 * day, 0},
		"a jump of half a year":      {0, 180 * day, 0},
		"1970":                       {-50 * 365 * day, 0, 0},
		"1970, while it was at work": {0, -50 * 365 * day, 0},
	} {
		s := &stage{wall: begin.Add(c.start)}
		k := s.clock(begin)
		k.certificates()
		s.wall = s.wall.Add(c.jump)
		if c.jump < -3650*day {
			s.wall = time.Unix(60, 0)
		}
		if got := k.certificates().Sub(begin); (got - c.want).Abs() > day {
			t.Errorf("%s: %v instead of %v", name, got, c.want)
		}
	}
}
