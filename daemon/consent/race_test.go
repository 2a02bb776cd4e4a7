package consent

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// People withdraw while thousands of uploads ask and write. Once Record has
// returned, no Check of an older Grant succeeds, no new Grant is given and every
// context is done.
func TestWithdrawalAgainstEverythingAtOnce(t *testing.T) { // R22
	h := build(t)
	const rounds, workers, eachRound = 8, 16, 40
	var checks, grants atomic.Int64
	for round := range rounds {
		dev := ident.DeviceID(round % 2 * int(phone)) // for all devices, and for one
		h.decide(ann, dev, AlbumBackup, true)
		var over atomic.Bool // Record of the withdrawal has returned
		var wg sync.WaitGroup
		started := make(chan struct{}, workers)
		for w := range workers {
			wg.Go(func() {
				for i := 0; ; i++ {
					wasOver := over.Load()
					g, err := h.Grant(context.Background(), ann, phone, AlbumBackup)
					if err != nil {
						if i == 0 {
							started <- struct{}{}
						}
						return
					}
					grants.Add(1)
					if wasOver {
						t.Error("a Grant was given after the withdrawal")
						return
					}
					ctx, cancel := g.Context(context.Background())
					err = h.db.Write(context.Background(), func(tx *db.Tx) error {
						wasOver := over.Load()
						err := g.Check(tx, AlbumBackup)
						if err == nil && wasOver {
							t.Error("a Check succeeded after the withdrawal")
						}
						checks.Add(1)
						return err
					})
					if over.Load() && ctx.Err() == nil {
						t.Error("a context lives after the withdrawal")
					}
					var p *problem.Error
					if err != nil && !errors.As(err, &p) {
						t.Error(err)
					}
					cancel()
					if i == 0 {
						started <- struct{}{}
					}
					if i > eachRound*50 {
						t.Errorf("worker %d never noticed the withdrawal", w)
						return
					}
				}
			})
		}
		for range workers {
			<-started
		}
		for checks.Load() < int64((round+1)*eachRound*workers/2) {
			runtime.Gosched()
		}
		h.decide(ann, dev, AlbumBackup, false)
		over.Store(true)
		wg.Wait()
	}
	if grants.Load() < 1000 || checks.Load() < 1000 {
		t.Fatalf("only %d grants and %d checks: that was no race", grants.Load(), checks.Load())
	}
	if r := h.verify(); r.Bad != nil || r.Entries != 2*rounds {
		t.Fatalf("%+v", r)
	}
	t.Logf("%d grants, %d checks", grants.Load(), checks.Load())
}

// Decisions of many people at once: memory and ledger agree afterwards.
func TestMemoryAndLedgerAgree(t *testing.T) { // R20, R22
	h := build(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				u := ident.UserID(1 + (w+i)%3)
				p := []Purpose{AlbumBackup, WeChatBackup, Storage}[i%3]
				dev := ident.DeviceID(0)
				if p != Storage {
					dev = ident.DeviceID((w * i) % 3)
				}
				_, err := h.Record(context.Background(), Decision{User: u, Device: dev, Purpose: p,
					Granted: (w*7+i*5)%3 != 0, PolicyRevision: "1", Actor: u, How: "app"})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	type question struct {
		u   ident.UserID
		dev ident.DeviceID
		p   Purpose
	}
	answers := func() map[question]bool {
		out := map[question]bool{}
		for u := ident.UserID(1); u <= 3; u++ {
			for dev := range ident.DeviceID(3) {
				for _, p := range []Purpose{AlbumBackup, WeChatBackup, Storage} {
					_, err := h.Grant(t.Context(), u, dev, p)
					out[question{u, dev, p}] = err == nil
				}
			}
		}
		return out
	}
	remembered := answers()
	h.restart(builtin())
	for q, yes := range answers() {
		if remembered[q] != yes {
			t.Errorf("%+v: memory said %v, the ledger says %v", q, remembered[q], yes)
		}
	}
	if r := h.verify(); r.Bad != nil {
		t.Fatalf("%+v", r.Bad)
	}
}

// A thousand uploads that hold a Grant cost no goroutine, and what is released
// is forgotten.
func TestGrantsCostNoGoroutines(t *testing.T) { // R22
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	before := runtime.NumGoroutine()
	var release []context.CancelFunc
	var last context.Context
	g := h.grant(ann, phone, AlbumBackup)
	for range 1000 {
		ctx, cancel := h.grant(ann, phone, AlbumBackup).Context(t.Context())
		last, release = ctx, append(release, cancel)
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Fatalf("%d goroutines for 1,000 grants", n)
	}
	for _, cancel := range release[:900] {
		cancel()
	}
	if n := len(g.lease.live); n != 100 {
		t.Fatalf("%d contexts are held, 100 are open", n)
	}
	h.decide(ann, 0, AlbumBackup, false)
	if last.Err() == nil || g.lease.live != nil {
		t.Fatal("the withdrawal left something behind")
	}
	for _, cancel := range release {
		cancel() // late, and twice: harmless
	}
	if n := len(h.people[ann].leases); n != 0 {
		t.Fatalf("%d leases of a withdrawn consent are kept", n)
	}
}
