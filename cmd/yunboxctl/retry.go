package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/problem"
)

// silence is how long a connection may carry nothing before it is given up. The
// box may need a while to sync a large file on a slow disk before it answers.
const silence = 2 * time.Minute

var errSilent = &problem.Error{
	Kind: problem.Unavailable, Op: "client", Title: "The connection went silent",
	Detail: "Nothing moved for " + silence.String() + ".", Hint: "Check the network.",
}

// alive decides how long to go on trying: until nothing was confirmed for the given
// time since a first failure. Bytes that leave prove nothing, only answers do. It is
// shared by everything that runs at once, so one working connection keeps the others
// trying. Safe for concurrent use.
type alive struct {
	patience time.Duration
	failing  atomic.Int64 // Unix nanoseconds of the first failure since the last progress; 0: none
}

// beat notes progress that the box confirmed.
func (a *alive) beat() { a.failing.Store(0) }

// spent is how long everything has been failing.
func (a *alive) spent() time.Duration {
	now := time.Now().UnixNano()
	a.failing.CompareAndSwap(0, now)
	since := a.failing.Load()
	if since == 0 { // somebody made progress just now
		return 0
	}
	return time.Duration(now - since)
}

// again waits before the next try after err and returns nil, or returns why there
// should be none: err would be the same, or there was no progress for too long.
func (a *alive) again(ctx context.Context, b *backoff, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p := problem.As(err)
	switch p.Kind {
	case problem.Unavailable, problem.Canceled, problem.RateLimited, problem.Locked:
	case problem.Internal:
		if b.tries >= 3 {
			return err
		}
	default:
		return err
	}
	wait := max(b.next(), p.RetryAfter)
	if a.spent()+wait > a.patience {
		return err
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// A flow is one connection in use. It ends its context when nothing moved on it for
// too long, whatever others do.
type flow struct {
	timer *time.Timer
	end   context.CancelCauseFunc
}

func newFlow(ctx context.Context) (context.Context, *flow) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &flow{end: cancel, timer: time.AfterFunc(silence, func() { cancel(errSilent) })}
}

// stop ends the watching; the context ends with it.
func (f *flow) stop() {
	f.timer.Stop()
	f.end(nil)
}

// reader keeps the flow going with every read.
func (f *flow) reader(r io.Reader, count func(int)) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		if n > 0 {
			f.timer.Reset(silence)
			if count != nil {
				count(n)
			}
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// backoff is the waiting time between tries: doubling from a quarter of a second to
// fifteen seconds, each by chance between half and all of it, so that phones that
// lost the box together do not come back together.
type backoff struct {
	tries int
	wait  time.Duration
}

func newBackoff() *backoff { return &backoff{wait: 250 * time.Millisecond} }

func (b *backoff) next() time.Duration {
	w := b.wait/2 + rand.N(b.wait/2)
	b.tries++
	b.wait = min(2*b.wait, 15*time.Second)
	return w
}

// isFatal reports whether err ends the whole backup, not only one file: who signs
// in, what is consented to, how much room there is, whether the box is there.
func isFatal(err error) bool {
	if errors.Is(err, context.Canceled) {
		return true
	}
	switch problem.KindOf(err) {
	case problem.ConsentRequired, problem.Unauthenticated, problem.Forbidden, problem.Full, problem.Quota,
		problem.Unavailable, problem.Canceled, problem.RateLimited, problem.Unsupported:
		return true
	}
	return false
}
