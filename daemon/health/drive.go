package health

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drive is the disk below the box, as far as the kernel tells whether it is in use
// (Documentation/admin-guide/iostats.rst). Reading that does not wake it.
type drive struct {
	dir  string
	file string // its counters; "" until it is known
	seen string // what they were
	when time.Time
}

// busy reports whether the disk did something since it was asked a few minutes ago.
// Whoever asks for the first time in a while learns it the next time. known is false where the kernel does not tell: for file systems that
// spread over several disks.
func (d *drive) busy() (busy, known bool) {
	if d.file == "" {
		var st syscall.Stat_t
		if d.dir == "" || syscall.Stat(d.dir, &st) != nil {
			return false, false
		}
		dev := uint64(st.Dev) //nolint:unconvert // it is shorter on some architectures
		if unix.Major(dev) == 0 {
			return false, false
		}
		d.file = fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(dev), unix.Minor(dev))
	}
	text, err := os.ReadFile(d.file)
	if err != nil {
		return false, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 8 {
		return false, false
	}
	now := fields[0] + " " + fields[4] // reads and writes completed
	busy = now != d.seen && time.Since(d.when) < 2*lookClosely
	d.seen, d.when = now, time.Now()
	return busy, true
}

const (
	firstLook   = 2 * time.Minute // after the start, which has better things to do
	lookEvery   = time.Hour
	lookClosely = 5 * time.Minute // while a portion is due
	rest        = 20 * time.Hour  // between two portions
	patience    = 40 * time.Hour  // after which a portion does not wait for a good moment
	nightFrom   = 2               // o'clock, local time
	nightTo     = 5
)

// good reports whether now is a moment for a portion that is due since the last one
// ended at last.
func (h *Health) good(now, last time.Time) bool {
	busy, known := h.drive.busy()
	if known && busy {
		return true
	}
	if hour := now.Local().Hour(); hour >= nightFrom && hour < nightTo {
		return true
	}
	return !last.IsZero() && now.Sub(last) > patience
}
