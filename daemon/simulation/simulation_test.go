package simulation_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"maps"
	randv2 "math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"yunbox.local/storage/vfs/vfstest"
)

var (
	seed  = flag.Uint64("seed", 0, "of the simulation; 0: another one each time, which is printed")
	steps = flag.Int("steps", 1500, "that the simulation takes in all")
	tell  = flag.String("tell", "", "with -alone: write all steps to this `file`")
	alone = flag.Bool("alone", false, "simulate in this process: what the test runs itself by")
)

// stepsOfAWorld bounds how long a box lives: a young database is quick to copy.
const stepsOfAWorld = 4000

// live lets worlds live one after the other, all drawn from a seed, and returns a
// digest of all their steps.
func live(t *testing.T, seed uint64, steps int, count map[string]int) string {
	// One thread, and random numbers that repeat: then a seed does the same again.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	cryptotest.SetGlobalRandom(t, seed)
	rng := randv2.New(randv2.NewPCG(seed, 0))
	trace := sha256.New()
	var told io.Writer = trace
	if *tell != "" {
		f, err := os.Create(*tell)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		told = io.MultiWriter(trace, f)
	}
	for done := 0; done < steps && !t.Failed(); {
		n := min(stepsOfAWorld, steps-done)
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, quickDir(t), rng, told, count)
			w.step = done
			defer func() { _ = w.stop() }() // after a failure; stopping twice is harmless
			for range n {
				w.one()
			}
			w.end()
		})
		done += n
	}
	return fmt.Sprintf("%x", trace.Sum(nil))
}

// quickDir is in memory where there is such a place.
func quickDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "yunbox-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// end demands everything once more, and that the disk holds what the catalogue
// names and nothing else.
func (w *world) end() {
	w.last = "the end"
	w.check()
	w.verify()
	w.ahead.Add(int64(30 * 24 * time.Hour))
	_, err := w.in.Sweep(w.ctx())
	w.must(err)
	blobs, staged := int64(0), 0
	for info, err := range w.store.Refs(w.ctx()) {
		w.must(err)
		blobs++
		if !w.model.refs()[info.Ref] {
			w.wrong("%s was deleted by all, and is on the disk", info.Ref)
		}
	}
	for _, err := range w.store.Staged(w.ctx()) {
		w.must(err)
		staged++
	}
	total, err := w.cat.Totals(w.ctx())
	w.must(err)
	if blobs != total.Blobs || int(blobs) != len(w.model.refs()) || staged != 0 {
		w.wrong("%d blobs on the disk, %d in the catalogue, %d are kept, %d staged", blobs, total.Blobs, len(w.model.refs()), staged)
	}
	w.must(w.stop())
}

func TestAlone(t *testing.T) {
	if !*alone {
		t.Skip("the other tests run it")
	}
	count := map[string]int{}
	digest := live(t, *seed, *steps, count)
	fmt.Printf("digest %s\n", digest)
	for _, name := range slices.Sorted(maps.Keys(count)) {
		fmt.Printf("count %d %s\n", count[name], name)
	}
}

// run lets another process live through steps and returns what it prints.
func run(t *testing.T, seed uint64, steps int) (string, error) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestAlone$", "-alone", fmt.Sprint("-seed=", seed), fmt.Sprint("-steps=", steps))
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1") // goroutines take turns where they wait only
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSimulation(t *testing.T) { // R01 R03 R05
	first := *seed
	if first == 0 {
		first = vfstest.Seed(t).Uint64() | 1
	}
	workers := max(min(runtime.NumCPU(), *steps/stepsOfAWorld), 1)
	each := (*steps + workers - 1) / workers
	began := time.Now()
	count := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			seed := first + uint64(i)
			out, err := run(t, seed, each)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("go test ./daemon/simulation -run TestAlone -alone -seed=%d -steps=%d\n%s", seed, each, out)
			}
			for line := range strings.Lines(out) {
				var n int
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "count "); ok {
					number, name, _ := strings.Cut(name, " ")
					if _, err := fmt.Sscan(number, &n); err == nil {
						count[name] += n
					}
				}
			}
		})
	}
	all.Wait()
	fmt.Printf("simulation: seed %d, %d steps in %v\n", first, workers*each, time.Since(began).Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(count)) {
		fmt.Printf("  %6d %s\n", count[name], name)
	}
}

// The same seed takes the same steps, with the same answers, the same number of calls
// of the disk and the same cuts.
func TestSameSeedDoesTheSame(t *testing.T) {
	var digests []string
	for range 2 {
		out, err := run(t, 7, 600)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(out) {
			if digest, ok := strings.CutPrefix(strings.TrimSpace(line), "digest "); ok {
				digests = append(digests, digest)
			}
		}
	}
	if len(digests) != 2 || digests[0] != digests[1] {
		t.Errorf("digests of the steps: %q", digests)
	}
	t.Log(digests)
}
