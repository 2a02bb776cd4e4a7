package account

import (
	"container/list"
	"sync"
	"time"
)

// An lru remembers the most recently used values of a bounded number of keys. It
// needs its owner's lock.
type lru[V any] struct {
	max   int
	at    map[string]*list.Element
	order *list.List // of *kept[V], the most recently used first
}

type kept[V any] struct {
	key   string
	value V
}

func newLRU[V any](max int) *lru[V] {
	return &lru[V]{max: max, at: map[string]*list.Element{}, order: list.New()}
}

func (l *lru[V]) get(key string) (v V, ok bool) {
	e := l.at[key]
	if e == nil {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*kept[V]).value, true
}

// add remembers the value of a key that get does not know.
func (l *lru[V]) add(key string, v V) {
	if l.order.Len() >= l.max {
		oldest := l.order.Back()
		delete(l.at, oldest.Value.(*kept[V]).key)
		l.order.Remove(oldest)
	}
	l.at[key] = l.order.PushFront(&kept[V]{key, v})
}

// A Throttle limits tries per key by token buckets. It remembers a bounded
// number of keys and forgets the least recently used, which is harmless while
// there are fewer callers than keys. It is safe for concurrent use.
type Throttle struct {
	every time.Duration
	burst float64

	mu      sync.Mutex
	buckets *lru[*bucket]
}

type bucket struct {
	tokens float64
	filled time.Time
}

// NewThrottle allows burst tries per key at once and one more every interval,
// for at most keys keys.
func NewThrottle(every time.Duration, burst, keys int) *Throttle {
	return &Throttle{every: every, burst: float64(burst), buckets: newLRU[*bucket](keys)}
}

// Take uses one try of key. If there is none it takes nothing and returns how
// long to wait for one.
func (t *Throttle) Take(now time.Time, key string) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucket(now, key)
	if b.tokens < 1 {
		return time.Duration((1-b.tokens)*float64(t.every)).Truncate(time.Second) + time.Second, false
	}
	b.tokens--
	return 0, true
}

// Give returns one try to key: it turned out to be a good one.
func (t *Throttle) Give(now time.Time, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucket(now, key)
	b.tokens = min(b.tokens+1, t.burst)
}

func (t *Throttle) bucket(now time.Time, key string) *bucket {
	b, ok := t.buckets.get(key)
	if !ok {
		b = &bucket{tokens: t.burst, filled: now}
		t.buckets.add(key, b)
		return b
	}
	if d := now.Sub(b.filled); d > 0 {
		b.tokens = min(b.tokens+float64(d)/float64(t.every), t.burst)
	}
	b.filled = now
	return b
}
