package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// A file is taken once it was left alone for a while, by whichever of its times is
// later; a clock that is far ahead does not keep it out for ever.
func TestSettledFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
		for _, tt := range []struct {
			mtime, ctime time.Duration
			settled      bool
		}{
			{-time.Hour, -time.Hour, true}, {-quietFor, -quietFor, true},
			{-time.Second, -time.Second, false}, {0, 0, false},
			{-time.Hour, -time.Second, false}, // copied with its old time: it may still grow
			{-time.Second, -time.Hour, false},
			{time.Second, -time.Hour, false}, {time.Hour, -time.Hour, true}, {time.Hour, time.Hour, true},
		} {
			w := &watch{}
			if got := w.settled(fileID{mtime: at(tt.mtime), ctime: at(tt.ctime)}); got != tt.settled || w.unsettled.Load() == got {
				t.Errorf("changed %v and %v from now: settled %v, to be looked at again %v", tt.mtime, tt.ctime, got, w.unsettled.Load())
			}
		}
		w := &watch{}
		id := fileID{mtime: at(0), ctime: at(0)}
		if time.Sleep(quietFor); !w.settled(id) {
			t.Error("a file that was left alone is never taken")
		}
	})
}
