package storage

import (
	"cmp"
	"sync"
	"sync/atomic"
)

// A body up to oneShot bytes is read into one buffer and written by one call. A
// larger one goes through two buffers of streamBuffer bytes, so that the next
// is read while the previous is hashed and written.
const (
	oneShot      = 1 << 20
	streamBuffer = 256 << 10

	// leanBuffer is used when the budget is spent: then many slow senders are
	// connected, and they do not need large buffers.
	leanBuffer   = 32 << 10
	bufferBudget = 16 << 20 // unless Options say otherwise
)

// buffers hands out buffers of a few sizes and bounds what all uploads together
// hold. The zero value is ready for use.
type buffers struct {
	budget int64 // bytes; 0: bufferBudget
	held   atomic.Int64
	pools  [4]sync.Pool // of *[]byte, by size: see bufferSizes
}

var bufferSizes = [4]int{leanBuffer, 64 << 10, streamBuffer, oneShot}

// get returns a buffer of n bytes, or a shorter one when memory is short; n is
// at most oneShot.
func (b *buffers) get(n int) *[]byte {
	class := 0
	for class < len(bufferSizes)-1 && bufferSizes[class] < n {
		class++
	}
	if b.held.Load()+int64(bufferSizes[class]) > cmp.Or(b.budget, bufferBudget) {
		class = 0
	}
	b.held.Add(int64(bufferSizes[class]))
	if buf, ok := b.pools[class].Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, bufferSizes[class])
	return &buf
}

func (b *buffers) put(buf *[]byte) {
	for class, size := range bufferSizes {
		if len(*buf) == size {
			b.held.Add(-int64(size))
			b.pools[class].Put(buf)
			return
		}
	}
}
