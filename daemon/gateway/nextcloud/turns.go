package nextcloud

import (
	"context"
	"sync"
)

// turns tells the chunks of a file that wait that another one was taken. The zero
// value is ready.
type turns struct {
	mu      sync.Mutex
	waiting map[string]*turn         // of uploads for which somebody waits
	busy    map[string]chan struct{} // closed when who catches up with an upload is done
}

type turn struct {
	taken   chan struct{}
	waiters int
}

// next returns a channel that is closed when the next chunk of an upload is taken.
// done must be called when nobody looks at it any more.
func (t *turns) next(upload string) (taken <-chan struct{}, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.waiting[upload]
	if w == nil {
		if t.waiting == nil {
			t.waiting = map[string]*turn{}
		}
		w = &turn{taken: make(chan struct{})}
		t.waiting[upload] = w
	}
	w.waiters++
	return w.taken, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.waiters--; w.waiters == 0 && t.waiting[upload] == w {
			delete(t.waiting, upload)
		}
	}
}

func (t *turns) advance(upload string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.waiting[upload]; w != nil {
		close(w.taken)
		delete(t.waiting, upload)
	}
}

// alone waits until nobody else catches up with an upload. done must be called at
// the end.
func (t *turns) alone(ctx context.Context, upload string) (done func(), err error) {
	for {
		t.mu.Lock()
		other := t.busy[upload]
		if other == nil {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[upload] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, upload)
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
