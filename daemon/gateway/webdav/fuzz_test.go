package webdav

import (
	"testing"
	"time"
)

// No Timeout header gives a lock that lasts for ever or is over at once.
func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"", "Infinite", "Second-1", "Second-4294967295", "Second-4294967296", "Second--1", "Infinite, Second-5", ",", "second-0,SECOND-7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := parseTimeout(s); d < time.Second || d > maxTimeout {
			t.Errorf("%q: %v", s, d)
		}
	})
}

// Times in properties are those that the box can keep, in either form.
func FuzzPropertyTime(f *testing.F) {
	for _, s := range []string{"Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14T22:13:20Z", "1700000000.5", "Mon, 01 Jan 0001 00:00:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseTime(s)
		if err != nil {
			return
		}
		if at.Unix() < 0 || at.Unix() > 1<<32-1 || at.Location() != time.UTC || at.Nanosecond()%1e6 != 0 {
			t.Errorf("%q: %v", s, at)
		}
	})
}
