package blockdev

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A write of Cut's input: a whole number of sectors filled with one byte.
type write struct {
	sector, sectors int
	fill            byte
}

// TestCut replays random recordings: after a cut each sector holds what was
// flushed last, or a later unflushed write of it, and the model says which.
func TestCut(t *testing.T) { // R01
	const sectors = 16
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		r := newRecording(t, sectors)
		var writes []write // a flush is a write of no sectors
		for range 40 {
			w := write{}
			if rng.IntN(5) > 0 {
				w = write{rng.IntN(sectors - 3), 1 + rng.IntN(3), byte(len(writes) + 1)}
				if err := r.addWrite(bytes.Repeat([]byte{w.fill}, w.sectors*sector), int64(w.sector*sector)); err != nil {
					t.Fatal(err)
				}
			} else {
				r.addFlush()
			}
			writes = append(writes, w)
		}
		for at := 0; at <= len(writes); at += 1 + rng.IntN(8) {
			model := Models()[rng.IntN(4)]
			image := filepath.Join(t.TempDir(), "image")
			if _, _, err := r.Cut(image, at, model, rng); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			for s := range sectors {
				allowed := allowedFills(writes[:at], s, model)
				for _, b := range got[s*sector : (s+1)*sector] {
					if !bytes.Contains(allowed, []byte{b}) {
						t.Fatalf("seed %d, cut at %d, %s: sector %d holds %d, may hold %v", seed, at, model, s, b, allowed)
					}
				}
			}
		}
	}
}

func allowedFills(writes []write, s int, model Model) []byte {
	allowed := []byte{0}
	flushed := 0
	for i, w := range writes {
		if w.sectors == 0 {
			flushed = i + 1
		}
	}
	for i, w := range writes {
		if s < w.sector || s >= w.sector+w.sectors {
			continue
		}
		switch {
		case i < flushed || model == Keep:
			allowed = []byte{w.fill}
		case model != Drop:
			allowed = append(allowed, w.fill)
		}
	}
	return allowed
}

func TestCutGoesForwardOnly(t *testing.T) {
	r := newRecording(t, 1)
	for range 3 {
		r.addFlush()
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		at   int
		good bool
	}{{2, true}, {1, false}, {4, false}, {3, true}} {
		_, _, err := r.Cut(filepath.Join(t.TempDir(), "image"), c.at, Drop, rng)
		if (err == nil) != c.good {
			t.Errorf("cut at %d: %v", c.at, err)
		}
	}
}

func newRecording(t *testing.T, sectors int) *Recording {
	t.Helper()
	dir := t.TempDir()
	base := filepath.Join(dir, "base")
	if err := os.WriteFile(base, make([]byte, sectors*sector), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return &Recording{log: log, base: base}
}
