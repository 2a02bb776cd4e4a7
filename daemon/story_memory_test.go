package daemon_test

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// heap returns the bytes of the heap that are in use: objects and what the spans
// around them waste.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64()
}

// peak runs do and returns the largest heap that was seen meanwhile.
func peak(do func()) uint64 {
	debug.FreeOSMemory() // what earlier tests left
	var top atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			top.Store(max(top.Load(), heap()))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	do()
	close(stop)
	<-stopped
	return top.Load()
}

// film yields n bytes that repeat after a prime number of them, and hashes them.
type film struct {
	left int64
	at   int
	sum  hash.Hash
}

var reel = func() []byte {
	b := make([]byte, 65521)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	return b
}()

func (f *film) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), f.left)], reel[f.at:])
	f.at, f.left = (f.at+n)%len(reel), f.left-int64(n)
	f.sum.Write(p[:n])
	return n, nil
}

// A small box takes and gives a film that is larger than its memory. The test's
// own client is in the figures, too.
func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const (
		size  = 256 << 20
		limit = 32 << 20
	)
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	sent := &film{left: size, sum: sha256.New()}
	in := peak(func() {
		r := ada.Request("PUT", "/v1/files/film.mp4?source=album", sent)
		r.ContentLength = size
		if status, _, body := ada.Do(r); status != 201 {
			t.Fatalf("%d %s", status, body)
		}
	})
	got := sha256.New()
	out := peak(func() {
		resp, err := b.Client.Do(ada.Request("GET", "/v1/files/film.mp4", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(got, resp.Body); err != nil {
			t.Fatal(err)
		}
	})
	if hex.EncodeToString(got.Sum(nil)) != hex.EncodeToString(sent.sum.Sum(nil)) {
		t.Error("another film came back")
	}
	t.Logf("largest heap: %d KiB in, %d KiB out", in>>10, out>>10)
	if in > limit || out > limit {
		t.Errorf("a film of 256 MiB took %d MiB of memory on its way in, %d on its way out", in>>20, out>>20)
	}
}
