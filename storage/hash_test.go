package storage

import (
	"crypto/sha1" //nolint:gosec // see SHA1
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// What is computed in one pass must be what the standard library says, however the
// bytes come.
func TestHashesTogether(t *testing.T) {
	if !together {
		t.Log("this processor computes them one after the other")
	}
	random := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	for range 300 {
		size := random.IntN(len(content))
		h := newHashes()
		for at := 0; at < size; {
			n := 1 + random.IntN(size-at)
			switch random.IntN(3) {
			case 0:
				n = min(n, 1+random.IntN(200))
			case 1:
				n = min(size-at, (n+63)&^63)
			}
			if k, err := h.Write(content[at : at+n]); k != n || err != nil {
				t.Fatal(k, err)
			}
			at += n
		}
		if got, want := Ref(h.sha256.Sum(nil)), Ref(sha256.Sum256(content[:size])); got != want {
			t.Fatalf("%d bytes: SHA-256 %s, want %s", size, got, want)
		}
		if got, want := SHA1(h.sha1.Sum(nil)), SHA1(sha1.Sum(content[:size])); got != want {
			t.Fatalf("%d bytes: SHA-1 %x, want %x", size, got, want)
		}
	}
}

// A release of Go that keeps states otherwise must be noticed: no byte would be lost,
// but large files would be slower.
func TestHashesAreTakenTogether(t *testing.T) {
	if !together {
		t.Skip("this processor has no SHA instructions")
	}
	h := newHashes()
	if n := h.together(make([]byte, 100_000)); n != 100_000&^63 {
		t.Fatalf("%d bytes were hashed in one pass", n)
	}
	if n := h.together(make([]byte, 100)); n != 0 {
		t.Fatalf("%d bytes of a short piece were", n)
	}
	_, _ = h.Write([]byte("x"))
	if n := h.together(make([]byte, 100_000)); n != 0 {
		t.Fatalf("%d bytes were after half a block", n)
	}
}

func BenchmarkHashes(b *testing.B) {
	h, buf := newHashes(), make([]byte, streamBuffer)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		_, _ = h.Write(buf)
	}
}
