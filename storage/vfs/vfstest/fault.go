package vfstest

import (
	"errors"
	"io/fs"
	"math/bits"
	"syscall"
)

// Op is a kind of call on a Disk, or a set of kinds.
type Op uint

// The kinds of calls that are counted and can fail.
const (
	OpOpen   Op = 1 << iota // of a file that must exist
	OpCreate                // or that may be made
	OpRead
	OpWrite
	OpSync // of a file
	OpSyncDir
	OpSyncAll
	OpWriteBack
	OpEvict
	OpRename
	OpRemove
	OpMkdir
	OpReadDir
	OpStat
	OpTruncate
	OpChmod
	OpClose
	OpSpace
	OpLock
	OpLink
	OpTimes
	OpClone

	numOps = iota
)

// OpAny is every kind.
const OpAny Op = 1<<numOps - 1

var opNames = [numOps]string{
	"open", "create", "read", "write", "sync", "syncdir", "syncall", "writeback", "evict", "rename", "remove",
	"mkdir", "readdir", "stat", "truncate", "chmod", "close", "space", "lock", "link", "times", "clone",
}

// String names a single kind.
func (o Op) String() string {
	if bits.OnesCount(uint(o)) != 1 || o > OpAny {
		return "several"
	}
	return opNames[bits.TrailingZeros(uint(o))]
}

// Fault makes calls fail.
type Fault struct {
	Ops    Op    // which kinds are counted and fail; 0: any
	Nth    int   // the call that fails: 1 is the next one
	Err    error // syscall.EIO, syscall.ENOSPC, …
	Short  bool  // a write does half of its work first
	Sticky bool  // every later one fails, too
	// Path, when set, says which names are counted, as in path.Match terms of
	// the caller's choice.
	Path func(name string) bool
	// Loses, when set, says of which names a SyncAll that fails loses what was not
	// synced. The others arrive: Linux goes on with the rest.
	Loses func(name string) bool
}

// Fail plans a fault. Several may wait at once.
func (d *Disk) Fail(f Fault) {
	if f.Ops == 0 {
		f.Ops = OpAny
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.faults = append(d.m.faults, &f)
}

// Pending reports whether a planned fault has not struck yet.
func (d *Disk) Pending() bool {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	for _, f := range d.m.faults {
		if f.Nth > 0 {
			return true
		}
	}
	return false
}

// Heal forgets all faults, planned and sticky.
func (d *Disk) Heal() {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.faults = nil
}

// Calls counts the calls of some kinds so far.
func (d *Disk) Calls(ops Op) (n int) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	for i, calls := range d.m.calls {
		if ops&(1<<i) != 0 {
			n += calls
		}
	}
	return n
}

// CutIn lets the power fail right before the n-th call from now: that one and
// all later ones answer ErrPowerOff. PowerCut then shows what is left. 0 takes the
// plan back.
func (d *Disk) CutIn(n int) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.cutIn = n
}

// OnCut has now called at the moment at which CutIn lets the power fail, to take it
// from other things, too. It must not call the Disk.
func (d *Disk) OnCut(now func()) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.onCut = now
}

// failure is the error of a planned fault.
type failure struct {
	error
	short bool
	loses func(string) bool
}

func (f failure) Unwrap() error { return f.error }

// admit counts a call and says whether it fails. The media is locked.
func (m *media) admit(life int, op Op, name string) error {
	if life != m.life {
		return ErrPowerOff
	}
	if m.cutIn > 0 {
		if m.cutIn--; m.cutIn == 0 {
			m.life++
			if m.onCut != nil {
				m.onCut()
			}
			return ErrPowerOff
		}
	}
	m.calls[bits.TrailingZeros(uint(op))]++
	var failed error
	for _, f := range m.faults {
		if f.Ops&op == 0 || f.Path != nil && !f.Path(name) {
			continue
		}
		if f.Nth > 0 {
			f.Nth--
			if f.Nth > 0 {
				continue
			}
		} else if !f.Sticky {
			continue
		}
		failed = failure{f.Err, f.Short, f.Loses}
	}
	return failed
}

// shortOf is how many of n bytes a failed write has written.
func shortOf(err error, n int) int {
	if f, ok := errors.AsType[failure](err); ok && f.short {
		return n / 2
	}
	return 0
}

// losesOf says what a failed SyncAll loses.
func losesOf(err error) func(name string) bool {
	if f, ok := errors.AsType[failure](err); ok && f.loses != nil {
		return f.loses
	}
	return func(string) bool { return true }
}

// lost reports whether a failed sync has lost what it should have written. A
// device that has no room fails before it writes; everything else loses.
func lost(err error) bool {
	return !errors.Is(err, ErrPowerOff) && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, syscall.EINTR)
}
