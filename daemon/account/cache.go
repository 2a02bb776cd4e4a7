package account

import (
	"sync"
	"time"

	"yunbox.local/daemon/ident"
)

// cacheSize bounds the tokens that are answered from memory, some 200 bytes each.
const cacheSize = 1024

// An entry is what is known of a token.
type entry struct {
	p       ident.Principal
	folded  string    // the person's folded user name
	expires time.Time // zero: an app token, which is good until it is revoked
	lastUse time.Time // as the database has it, to within touchEvery
}

// A cache answers for tokens without asking the database. What is revoked is
// forgotten after the commit that revoked it; the generation keeps a reader that
// looked before that commit from putting its stale answer back.
type cache struct {
	mu         sync.Mutex
	size       int
	entries    map[[32]byte]entry
	generation uint64
}

func newCache(size int) *cache { return &cache{size: size, entries: map[[32]byte]entry{}} }

func (c *cache) get(hash [32]byte) (e entry, ok bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok = c.entries[hash]
	return e, ok, c.generation
}

// put keeps e unless something was revoked since generation.
func (c *cache) put(hash [32]byte, e entry, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if len(c.entries) >= c.size {
		for k := range c.entries { // any one will do: it costs one look-up
			delete(c.entries, k)
			break
		}
	}
	c.entries[hash] = e
}

// touch moves the last use and reports whether the caller is the one who has to
// write it down.
func (c *cache) touch(hash [32]byte, now, seen time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[hash]
	if !ok {
		return true
	}
	if !e.lastUse.Equal(seen) {
		return false
	}
	e.lastUse = now
	if !e.expires.IsZero() && e.expires.After(now.Add(SessionLife)) {
		e.expires = now.Add(SessionLife)
	}
	c.entries[hash] = e
	return true
}

// forget drops every entry for which match holds.
func (c *cache) forget(match func(ident.Principal) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for k, e := range c.entries {
		if match(e.p) {
			delete(c.entries, k)
		}
	}
}
