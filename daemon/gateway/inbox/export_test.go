package inbox

import "github.com/fsnotify/fsnotify"

// Overflow is what the system says when it lost count of the changes.
func (in *Inbox) Overflow() { (&hub{in: in}).lost(fsnotify.ErrEventOverflow) }

// Watches is how many folders the system is asked to tell of.
func (in *Inbox) Watches() int64 { return in.watches.Load() }

// Numbered is numbered.
var Numbered = numbered
