package metrics

import (
	"slices"
	"sync/atomic"
)

// A Lane counts what came by one gateway. Counting is one atomic addition; there is
// nothing that grows. A nil Lane counts nothing.
type Lane struct {
	received, sent atomic.Int64
	answers        [5]atomic.Int64 // as Answers
}

// Received counts bytes that came in.
func (l *Lane) Received(n int64) {
	if l != nil {
		l.received.Add(n)
	}
}

// Answered counts a request that is over: with the status, 0 for none, and the bytes
// that left.
func (l *Lane) Answered(status int, sent int64) {
	if l == nil {
		return
	}
	l.sent.Add(sent)
	class := status/100 - 2
	if class < 0 || class > 3 {
		class = 4
	}
	l.answers[class].Add(1)
}

// Traffic counts what comes by each of Ways since it was made. Its lanes are safe for
// concurrent use.
type Traffic struct{ lanes []Lane }

// NewTraffic returns one that has counted nothing.
func NewTraffic() *Traffic { return &Traffic{make([]Lane, len(Ways()))} }

// Of returns the lane of a route, see Way. A nil Traffic has nil lanes.
func (t *Traffic) Of(pattern string) *Lane {
	if t == nil {
		return nil
	}
	return &t.lanes[slices.Index(Ways(), Way(pattern))]
}

// Tell sets what was counted.
func (t *Traffic) Tell(p *Page) {
	for i, way := range Ways() {
		l := &t.lanes[i]
		p.Set("yunbox_received_bytes_total", way, float64(l.received.Load()))
		p.Set("yunbox_sent_bytes_total", way, float64(l.sent.Load()))
		for class, answer := range Answers() {
			p.Set("yunbox_answers_"+answer+"_total", way, float64(l.answers[class].Load()))
		}
	}
}
