package api

import (
	"testing"
	"testing/synctest"
	"time"
)

// One request reads a bounded part, and one content at least, so that whoever
// asks for the rest comes to an end.
func TestReadingBackIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := look{begin: time.Now()}
		if !l.mayRead(1 << 40) {
			t.Error("a large content is never read")
		}
		l.bytes = verifyBytes - 10
		if !l.mayRead(10) || l.mayRead(11) {
			t.Errorf("%d bytes more than allowed", l.bytes+11-verifyBytes)
		}
		l.bytes = 1
		if time.Sleep(verifyTime - 1); !l.mayRead(10) {
			t.Error("there was time left")
		}
		if time.Sleep(time.Nanosecond); l.mayRead(10) {
			t.Error("it reads on after its time")
		}
	})
}
