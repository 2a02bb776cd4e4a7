package httpd

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
)

// What comes by a connection is the same bytes in the same order, however often long
// reads are asked for and given up in the middle, and none is left that has a buffer.
func TestLongReads(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := newConns(100, 100)
	sent := make([]byte, 256<<10)
	for i := range sent {
		sent[i] = byte(rng.Uint32())
	}
	var ends []func()
	for n := range mostLongReads + 2 { // the last ones find no buffer
		here, there := net.Pipe()
		k := &conn{Conn: here, owner: c}
		r := (&http.Request{}).WithContext(context.WithValue(t.Context(), connKey{}, k))
		go func() {
			for rest := sent; len(rest) > 0; {
				k := min(len(rest), 40<<10)
				if _, err := there.Write(rest[:k]); err != nil {
					return
				}
				rest = rest[k:]
			}
			there.Close()
		}()
		var got bytes.Buffer
		end := func() {}
		for round := 0; ; round++ {
			if round%50 == 0 {
				end()
				if end = func() {}; round%100 == 0 {
					end = LongReads(r)
				}
			}
			_, err := io.CopyN(&got, k, int64(1+rng.IntN(20<<10)))
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got.Bytes(), sent) {
			t.Fatalf("connection %d: other bytes came", n)
		}
		end()
		end = LongReads(r)
		if _, err := k.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		if (k.buf != nil) != (n < mostLongReads) {
			t.Errorf("connection %d has a buffer: %v", n, k.buf != nil)
		}
		ends = append(ends, func() {
			end()
			if _, _ = k.Read(make([]byte, 1)); k.buf != nil {
				t.Error("a buffer is left")
			}
		})
	}
	for _, end := range ends {
		end()
	}
	if n := c.long.Load(); n != 0 {
		t.Errorf("%d have long reads still", n)
	}
}
