package daemontest

import (
	"io"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// floodSize is how many bytes a Flood has.
	floodSize = 64 << 20
	// floodTaken is the most of them that may leave the client before it hears a
	// refusal. Nearly all of these lie in the buffers of both ends of the connection.
	floodTaken = 12 << 20
)

// A Flood is the body of a request that does not end: Head, and then Again over and
// over.
type Flood struct {
	Head, Again string

	sent atomic.Int64
	at   int // in Again
}

// Read implements io.Reader.
func (f *Flood) Read(p []byte) (n int, err error) {
	sent := f.sent.Load()
	if sent >= floodSize {
		return 0, io.EOF
	}
	if sent < int64(len(f.Head)) {
		n = copy(p, f.Head[sent:])
	}
	for n < len(p) {
		k := copy(p[n:], f.Again[f.at:])
		f.at = (f.at + k) % len(f.Again)
		n += k
	}
	f.sent.Add(int64(n))
	return n, nil
}

// Refuse sends a flood as the body of r, without saying how long it is, and returns
// the answer. It fails the test if more of it was taken than lies on the way.
func (p *Person) Refuse(t testing.TB, r *http.Request, f *Flood) (status int, header http.Header, body []byte) {
	t.Helper()
	for try := 1; ; try++ {
		body := &Flood{Head: f.Head, Again: f.Again}
		r.Body, r.ContentLength = io.NopCloser(body), -1
		resp, err := p.box.Client.Do(r)
		if sent := body.sent.Load(); sent > floodTaken {
			t.Errorf("%s %s: %d MiB were sent before it was refused", r.Method, r.URL.Path, sent>>20)
		}
		if err != nil && try < 3 {
			continue // on a slow machine the box may have closed before its answer was read
		}
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, answer
	}
}

// Grown runs do and returns by how many bytes the heap, of the box and of the test,
// was larger meanwhile than before. It means something only while no other test runs.
func Grown(do func()) int64 {
	debug.FreeOSMemory() // what earlier tests left
	before := heap()
	var top atomic.Int64
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			top.Store(max(top.Load(), heap()-before))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	do()
	close(stop)
	watching.Wait()
	return top.Load()
}

// heap returns the bytes of the heap that are in use: objects and what the spans
// around them waste.
func heap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() + s[1].Value.Uint64())
}
