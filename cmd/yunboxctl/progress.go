package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"yunbox.local/daemon/problem"
)

// progress is a line at the foot of a terminal: how far, how fast, how long still.
// On anything but a terminal it writes nothing. Safe for concurrent use.
type progress struct {
	w  io.Writer // nil: silent
	mu sync.Mutex

	begin      time.Time
	drawn      time.Time
	onScreen   bool
	done, all  int64 // bytes; all 0: not known yet
	files, of  int64
	rate       float64 // bytes a second, smoothed
	lastRate   time.Time
	sinceRate  int64
	totalKnown bool
}

const redraw = 100 * time.Millisecond

func newProgress(w io.Writer, wanted bool) *progress {
	p := &progress{begin: time.Now(), lastRate: time.Now()}
	if wanted && isTerminal(w) {
		p.w = w
	}
	return p
}

// total sets how many bytes there are.
func (p *progress) total(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all, p.totalKnown = n, true
}

// found sets how many files and bytes there are to look at.
func (p *progress) found(files, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of, p.all, p.totalKnown = files, bytes, true
}

// add counts bytes that moved.
func (p *progress) add(n int64) { p.step(n, n, 0) }

// step counts bytes that are dealt with, of them moved over the network, and files.
func (p *progress) step(bytes, moved, files int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += bytes
	p.files += files
	p.sinceRate += moved
	if d := time.Since(p.lastRate); d > 500*time.Millisecond {
		now := float64(p.sinceRate) / d.Seconds()
		if p.rate == 0 {
			p.rate = now
		}
		p.rate = 0.7*p.rate + 0.3*now
		p.sinceRate, p.lastRate = 0, time.Now()
	}
	if p.w != nil && time.Since(p.drawn) > redraw {
		p.draw()
	}
}

func (p *progress) draw() {
	p.drawn, p.onScreen = time.Now(), true
	var parts []string
	if p.of > 0 {
		parts = append(parts, fmt.Sprintf("%d/%d files", p.files, p.of))
	} else if p.files > 0 {
		parts = append(parts, plural(p.files, "file", "files"))
	}
	if !p.totalKnown || p.all == 0 {
		parts = append(parts, problem.Bytes(p.done))
	} else {
		parts = append(parts, problem.Bytes(p.done)+" of "+problem.Bytes(p.all))
	}
	parts = append(parts, problem.Bytes(int64(p.rate))+"/s")
	// Time left by what was dealt with so far: much of it may not need to be sent.
	if spent := time.Since(p.begin); p.totalKnown && p.done > 0 && p.done < p.all && spent > 2*time.Second {
		left := time.Duration(float64(spent) * float64(p.all-p.done) / float64(p.done))
		parts = append(parts, clock(left)+" left")
	}
	text := strings.Join(parts, "  ")
	columns := width(p.w)
	if room := columns - len(text) - 5; room >= 10 && p.totalKnown && p.all > 0 {
		room = min(room, 40)
		full := int(int64(room) * min(p.done, p.all) / p.all)
		text = "[" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "] " + text
	}
	if len(text) >= columns {
		text = text[:columns-1]
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
}

// at shows how far somebody else's work is: files of them, bytes of size.
func (p *progress) at(files, of, bytes, size int64) {
	p.mu.Lock()
	files, bytes = files-p.files, bytes-p.done
	p.of, p.all, p.totalKnown = of, size, size > 0
	p.mu.Unlock()
	p.step(bytes, bytes, files)
}

// note shows a line of its own in place of the bar.
func (p *progress) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		p.onScreen = true
		fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
	}
}

// clear takes the line away, so that something else can be written.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil && p.onScreen {
		p.onScreen = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
