package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A history is what a client did to one thing (a path, a purpose), one act after
// the other. It knows which states that thing may have after a power cut.
type history struct {
	row  string // of the tally; set before the first act
	mu   sync.Mutex
	acts []act
}

// An act changes the thing to a state. Positions are those of the disk's
// recording: started is read before the request is sent, acked after its answer
// was read, so all that made the act durable lies before acked.
type act struct {
	state   string
	started int
	acked   int // unanswered for good if the answer never came or was not 2xx
}

const (
	unanswered = -1
	absent     = "absent" // the state before the first act
)

// begin notes that an act starts and returns how to note that it was acknowledged.
func (h *history) begin(state string, pos func() int) (acked func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acts = append(h.acts, act{state: state, started: pos(), acked: unanswered})
	i := len(h.acts) - 1
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.acts[i].acked = pos()
	}
}

// add notes an act that was acknowledged, once it is over.
func (h *history) add(a act) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acts = append(h.acts, a)
}

// allowed lists the states that the thing may have if the power was cut after
// position at: that of the last act acknowledged by then, or of any act that had
// started later and may or may not have taken effect. row is that of the last
// acknowledged act, "" if there was none by then: the thing says nothing about
// durability.
func (h *history) allowed(at int) (states []string, row string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	states = []string{absent}
	for _, a := range h.acts {
		switch {
		case a.acked != unanswered && a.acked <= at:
			states, row = []string{a.state}, h.rowOf(a.state)
		case a.started <= at:
			states = append(states, a.state)
		}
	}
	return states, row
}

// rowOf says to which row of the tally a state belongs.
func (h *history) rowOf(state string) string {
	if way, file := strings.CutPrefix(h.row, "files by "); file && state == absent {
		return "deletions by " + way
	}
	return h.row
}

// first notes from which position on each row had something to compare. What a
// later act undid does not count, for a cut after that finds nothing of it.
func (h *history) first(at map[string]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.acts) - 1; i >= 0; i-- {
		if a := h.acts[i]; a.acked != unanswered {
			if pos, known := at[h.rowOf(a.state)]; !known || a.acked < pos {
				at[h.rowOf(a.state)] = a.acked
			}
			return
		}
	}
}

// last is the position at which the last act started.
func (h *history) last() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.acts) == 0 {
		return 0
	}
	return h.acts[len(h.acts)-1].started
}

// acks lists the positions at which acts were acknowledged.
func (h *history) acks() (positions []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.acts {
		if a.acked != unanswered {
			positions = append(positions, a.acked)
		}
	}
	return positions
}

// histories are those of everything a client touched, by key.
type histories struct {
	mu  sync.Mutex
	all map[string]*history
	by  map[string]int // acknowledged files, by the gateway that took them

	signIns int // begun
}

// signIn counts the attempts to sign in before this one.
func (hs *histories) signIn() int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.signIns++
	return hs.signIns - 1
}

// way makes a gateway known, so that it is missed if nothing comes by it.
func (hs *histories) way(name string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.by == nil {
		hs.by = map[string]int{}
	}
	hs.by[name] += 0
}

// acked counts a file that a gateway acknowledged.
func (hs *histories) acked(way string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.by[way]++
}

// complete tells whether something of each row was acknowledged.
func (hs *histories) complete() bool {
	rows := map[string]int{}
	for _, key := range hs.keys() {
		hs.of(key).first(rows)
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for way := range hs.by {
		for _, row := range []string{"files by ", "deletions by "} {
			if _, ok := rows[row+way]; !ok {
				return false
			}
		}
	}
	for _, row := range []string{"consent", "receipt", "session", "token", "item"} {
		if _, ok := rows[row]; !ok {
			return false
		}
	}
	return true
}

// acknowledged tells whether the last act on some thing of each of these rows was.
func (hs *histories) acknowledged(rows ...string) bool {
	at := map[string]int{}
	for _, key := range hs.keys() {
		if h := hs.of(key); slices.Contains(rows, h.row) && len(h.acks()) > 1 { // it was there, and then it was gone
			h.first(at)
		}
	}
	return len(at) == len(rows)
}

// ways says how many files came by each gateway, and by which none did.
func (hs *histories) ways() (text string, idle []string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	var parts []string
	for _, way := range slices.Sorted(maps.Keys(hs.by)) {
		parts = append(parts, fmt.Sprintf("%s %d", way, hs.by[way]))
		if hs.by[way] == 0 {
			idle = append(idle, way)
		}
	}
	return strings.Join(parts, ", "), idle
}

func (hs *histories) of(key string) *history {
	row, _, _ := strings.Cut(key, ":")
	return hs.in(row, key)
}

// file is the history of a path, which a gateway makes.
func (hs *histories) file(way, path string) *history { return hs.in("files by "+way, "file:"+path) }

func (hs *histories) in(row, key string) *history {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.all == nil {
		hs.all = map[string]*history{}
	}
	h := hs.all[key]
	if h == nil {
		h = &history{row: row}
		hs.all[key] = h
	}
	return h
}

// ready is the position from which on something of each row was acknowledged, so
// that a cut after it says something about each.
func (hs *histories) ready() (at int) {
	firsts := map[string]int{}
	for _, key := range hs.keys() {
		hs.of(key).first(firsts)
	}
	for _, pos := range firsts {
		at = max(at, pos)
	}
	return at
}

// keys lists everything that was touched, sorted.
func (hs *histories) keys() []string {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	keys := make([]string, 0, len(hs.all))
	for key := range hs.all {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// acks lists all positions at which something was acknowledged, sorted.
func (hs *histories) acks() (positions []int) {
	for _, key := range hs.keys() {
		positions = append(positions, hs.of(key).acks()...)
	}
	slices.Sort(positions)
	return positions
}

// unanswered counts the acts that were refused, or cut off at the end.
func (hs *histories) unanswered() (count int) {
	for _, key := range hs.keys() {
		h := hs.of(key)
		h.mu.Lock()
		for _, a := range h.acts {
			if a.acked == unanswered {
				count++
			}
		}
		h.mu.Unlock()
	}
	return count
}
