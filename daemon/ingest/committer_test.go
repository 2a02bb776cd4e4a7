package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yunbox.local/daemon/problem"
)

// effects are a committer's, played: they take time, fail and note everything.
type effects struct {
	mu      sync.Mutex
	batches [][]*commitment
	began   []time.Time          // of the batches
	durable map[*commitment]bool // blobs said nil
	row     map[*commitment]bool // rows said nil
	free    map[*commitment]int  // times released
	wrong   []string

	blobs, rows func(x *commitment) error // nil: fine
	takes       func() time.Duration
}

func newEffects() *effects {
	return &effects{durable: map[*commitment]bool{}, row: map[*commitment]bool{}, free: map[*commitment]int{}}
}

func (e *effects) start() *committer {
	return newCommitter(slog.New(slog.DiscardHandler), e.doBlobs, e.doRows, e.release)
}

func (e *effects) wait() {
	if e.takes != nil {
		time.Sleep(e.takes())
	}
}

func (e *effects) doBlobs(_ context.Context, batch []*commitment) []error {
	e.mu.Lock()
	e.batches, e.began = append(e.batches, slices.Clone(batch)), append(e.began, time.Now())
	e.mu.Unlock()
	e.wait()
	return e.judge(batch, e.blobs, e.durable)
}

func (e *effects) doRows(_ context.Context, batch []*commitment) []error {
	e.mu.Lock()
	for _, x := range batch {
		if !e.durable[x] {
			e.wrong = append(e.wrong, "a row before its blob")
		}
		if e.free[x] > 0 {
			e.wrong = append(e.wrong, "a row after its blob was released")
		}
	}
	e.mu.Unlock()
	e.wait()
	return e.judge(batch, e.rows, e.row)
}

func (e *effects) judge(batch []*commitment, fails func(*commitment) error, good map[*commitment]bool) []error {
	verdicts := make([]error, len(batch))
	for i, x := range batch {
		if fails != nil {
			verdicts[i] = fails(x)
		}
		if verdicts[i] == nil {
			e.mu.Lock()
			good[x] = true
			e.mu.Unlock()
		}
	}
	return verdicts
}

func (e *effects) release(batch []*commitment) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range batch {
		e.free[x]++
	}
}

func (e *effects) sizes() (list []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.batches {
		list = append(list, len(b))
	}
	return list
}

func TestNoRowBeforeItsBlobAndNoAnswerBeforeItsRow(t *testing.T) { // R01
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			var mu sync.Mutex
			chance := func(n int) bool { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) == 0 }
			pause := func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(rng.IntN(20)) * time.Millisecond
			}
			bad := errors.New("bad item")
			e := newEffects()
			e.takes = pause
			e.blobs = func(*commitment) error {
				if chance(10) {
					return bad
				}
				return nil
			}
			e.rows = e.blobs
			c := e.start()
			var callers sync.WaitGroup
			for range 200 {
				callers.Go(func() {
					time.Sleep(pause())
					x := &commitment{}
					if chance(2) {
						x.cohort = c.announce()
						time.Sleep(pause())
					}
					err := c.commit(x)
					e.mu.Lock()
					defer e.mu.Unlock()
					if (err == nil) != (e.durable[x] && e.row[x]) {
						t.Errorf("answered %v; blob durable %v, row durable %v", err, e.durable[x], e.row[x])
					}
					if e.free[x] != 1 {
						t.Errorf("released %d times when answered", e.free[x])
					}
				})
			}
			callers.Wait()
			c.close()
			seen := map[*commitment]int{}
			for _, b := range e.batches {
				if len(b) > maxBatch {
					t.Errorf("a batch of %d", len(b))
				}
				for _, x := range b {
					seen[x]++
				}
			}
			for _, n := range seen {
				if n != 1 {
					t.Errorf("one item was in %d batches", n)
				}
			}
			if len(seen) != 200 || len(e.wrong) != 0 {
				t.Errorf("%d items seen; %v", len(seen), e.wrong)
			}
		})
	}
}

func TestALoneUploadWaitsForNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEffects()
		c := e.start()
		start := time.Now() // of the bubble, where only timers make time pass
		if err := c.commit(&commitment{}); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it waited for %v", d)
		}
		c.close()
	})
}

func TestABatchIsWhoeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEffects()
		gate := make(chan struct{})
		var once sync.Once
		e.blobs = func(*commitment) error { once.Do(func() { <-gate }); return nil }
		c := e.start()
		var order []*commitment
		var callers sync.WaitGroup
		for i := range 151 {
			x := &commitment{}
			order = append(order, x)
			callers.Go(func() {
				if err := c.commit(x); err != nil {
					t.Error(i, err)
				}
			})
			synctest.Wait() // it is in the queue, or with the first in the round
		}
		close(gate)
		callers.Wait()
		c.close()
		var got []*commitment
		for _, b := range e.batches {
			got = append(got, b...)
		}
		if sizes := e.sizes(); !slices.Equal(sizes, []int{1, 64, 64, 22}) {
			t.Errorf("batches of %v", sizes)
		}
		if !slices.Equal(got, order) {
			t.Error("they were not served in the order of their arrival")
		}
	})
}

func TestARoundWaitsForThoseWhoSealNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEffects()
		c := e.start()
		var callers sync.WaitGroup
		upload := func(begins, seals time.Duration, gives bool) {
			callers.Go(func() {
				time.Sleep(begins)
				g := c.announce()
				time.Sleep(seals)
				if gives {
					g.leave()
				} else if err := c.commit(&commitment{cohort: g}); err != nil {
					t.Error(err)
				}
			})
		}
		start := time.Now()
		upload(0, 10*time.Millisecond, false)                  // is there first, at 10
		upload(5*time.Millisecond, 15*time.Millisecond, false) // seals then: waited for, at 20
		upload(5*time.Millisecond, 25*time.Millisecond, true)  // seals then, but fails at 30
		upload(12*time.Millisecond, time.Hour, false)          // announces later: not waited for
		upload(25*time.Millisecond, time.Millisecond, false)   // comes in time by luck, at 26
		callers.Wait()
		c.close()
		if sizes := e.sizes(); !slices.Equal(sizes, []int{3, 1}) || e.began[0].Sub(start) != 30*time.Millisecond {
			t.Errorf("batches of %v, the first after %v", sizes, e.began[0].Sub(start))
		}
	})
}

func TestAFullBatchDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEffects()
		c := e.start()
		slow := c.announce()
		var callers sync.WaitGroup
		for range maxBatch {
			callers.Go(func() {
				if err := c.commit(&commitment{}); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		slow.leave()
		c.close()
		if sizes := e.sizes(); !slices.Equal(sizes, []int{maxBatch}) {
			t.Errorf("batches of %v", sizes)
		}
	})
}

func TestAPanicFailsTheBatchAndNotTheBox(t *testing.T) {
	for _, where := range []string{"blobs", "rows", "release"} {
		synctest.Test(t, func(t *testing.T) {
			e := newEffects()
			boom := func(*commitment) error { panic("boom") }
			c := e.start()
			switch where {
			case "blobs":
				e.blobs = boom
			case "rows":
				e.rows = boom
			case "release":
				c.release = func([]*commitment) { panic("boom") }
			}
			err := c.commit(&commitment{})
			if where == "release" {
				// File and row are durable; only room may be wasted.
				if err != nil {
					t.Errorf("%s: %v", where, err)
				}
			} else if problem.KindOf(err) != problem.Internal {
				t.Errorf("%s: %v", where, err)
			}
			e.blobs, e.rows = nil, nil
			if err := c.commit(&commitment{}); err != nil {
				t.Errorf("%s: the next one: %v", where, err)
			}
			c.close()
		})
	}
}

func TestShutdownEndsTheRoundAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEffects()
		e.takes = func() time.Duration { return time.Second }
		c := e.start()
		verdicts := make([]error, 5)
		var callers sync.WaitGroup
		for i := range verdicts {
			callers.Go(func() { verdicts[i] = c.commit(&commitment{}) })
			synctest.Wait()
		}
		c.close()
		callers.Wait()
		if verdicts[0] != nil {
			t.Errorf("the round that was running: %v", verdicts[0])
		}
		for i, err := range append(verdicts[1:], c.commit(&commitment{})) {
			if problem.KindOf(err) != problem.Unavailable {
				t.Errorf("caller %d: %v", i+1, err)
			}
		}
		if len(e.batches) != 1 {
			t.Errorf("%d rounds", len(e.batches))
		}
	})
}

func TestOneBadItemFailsAlone(t *testing.T) {
	for _, step := range []string{"blobs", "rows"} {
		synctest.Test(t, func(t *testing.T) {
			e := newEffects()
			var bad *commitment
			fail := func(x *commitment) error {
				if x == bad {
					return fmt.Errorf("bad in %s", step)
				}
				return nil
			}
			gate := make(chan struct{})
			e.blobs = func(x *commitment) error { <-gate; return nil }
			c := e.start()
			go c.commit(&commitment{}) //nolint:errcheck // keeps the committer busy
			synctest.Wait()
			items := []*commitment{{}, {}, {}}
			bad = items[1]
			verdicts := make([]error, len(items))
			var callers sync.WaitGroup
			for i, x := range items {
				callers.Go(func() { verdicts[i] = c.commit(x) })
			}
			synctest.Wait()
			if step == "blobs" {
				e.blobs = fail
			} else {
				e.blobs, e.rows = nil, fail
			}
			close(gate)
			callers.Wait()
			c.close()
			if verdicts[0] != nil || verdicts[2] != nil || verdicts[1] == nil {
				t.Errorf("%s: %v", step, verdicts)
			}
		})
	}
}
