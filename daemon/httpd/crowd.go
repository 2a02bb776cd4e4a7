package httpd

import "sync"

// A crowd bounds the requests that people who are not signed in make at the same
// time, in all and by address. HTTP/2 lets each connection make 64 at once, and
// each one that waits for its client to read the answer keeps some 50 kB: without
// a bound, one guest on the network could take the memory of the whole box.
type crowd struct {
	max, perSource int

	mu      sync.Mutex
	all     int
	sources map[string]int
}

func newCrowd(max, perSource int) *crowd {
	return &crowd{max: max, perSource: perSource, sources: map[string]int{}}
}

// enter counts a request, or says that there is no room for it.
func (c *crowd) enter(source string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.max || c.sources[source] >= c.perSource {
		return false
	}
	c.all++
	c.sources[source]++
	return true
}

func (c *crowd) leave(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.sources[source]--; c.sources[source] == 0 {
		delete(c.sources, source)
	}
}
