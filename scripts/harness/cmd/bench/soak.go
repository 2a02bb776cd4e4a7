package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

const (
	soakMemory = 64 << 20 // of the box: its own and the pages of files that it uses
	soakLeast  = 4 << 10  // bytes of a file
	soakMost   = 36 << 10
)

// soak gives a box 64 MiB of memory in all, fills it through every gateway, and looks
// whether anything grows; then lets it rest, and at last kills it at work and takes
// the time of its start.
func (b *bench) soak(ctx context.Context) (err error) {
	dir, clear, err := b.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clear()) }()
	jail, err := newJail(soakMemory)
	if err != nil {
		b.note("The soak was left out: it needs root and a memory controller (%v).", err)
		return nil
	}
	defer func() { err = errors.Join(err, jail.remove()) }()
	s := &soaked{bench: b, jail: jail, dir: dir}
	if err := s.start(ctx); err != nil {
		return err
	}
	defer func() { s.box.Kill() }()
	if err := s.fill(ctx, b.soakFiles); err != nil {
		return err
	}
	if err := s.rest(ctx, b.idle); err != nil {
		return err
	}
	if err := s.restarts(ctx); err != nil {
		return fmt.Errorf("%w\n%d kills for want of memory; the box says: %s", err, s.jail.killed(), s.box.Output())
	}
	return nil
}

// A soaked box and who sends to it.
type soaked struct {
	*bench
	jail    *jail
	dir     string
	box     *box.Box
	senders []sender
	sent    atomic.Int64
	bytes   atomic.Int64
}

// A sender is a client of one gateway. It sends one file and returns when it was
// acknowledged.
type sender struct {
	name string
	put  func(ctx context.Context, path string, body []byte, sum string) error
}

func (s *soaked) start(ctx context.Context) (err error) {
	if s.box, err = s.startAll(ctx, s.dir, s.jail.wrap()...); err != nil {
		return err
	}
	return s.connect(ctx)
}

// connect makes two clients for each gateway but the camera's, of which each is alone
// with its session.
func (s *soaked) connect(ctx context.Context) error {
	s.senders = nil
	for i := range 2 {
		camera, err := s.box.AddCamera(ctx, "owner", fmt.Sprintf("camera%d-%d", i, s.sent.Load()))
		if err != nil {
			return err
		}
		session, err := camera.Connect(ctx, i == 1)
		if err != nil {
			return err
		}
		s.senders = append(s.senders, sender{[]string{"FTP", "FTPS"}[i], func(ctx context.Context, path string, body []byte, _ string) error {
			return session.Put(ctx, camera.Folder+path, strings.NewReader(string(body)))
		}})
	}
	put := func(ctx context.Context, path string, body []byte, sum string) error {
		return s.box.Put(ctx, path, strings.NewReader(string(body)), int64(len(body)), sum)
	}
	s.senders = append(s.senders,
		sender{"API", put}, sender{"WebDAV", s.box.PutDAV}, sender{"Immich", s.box.PostAsset},
		sender{"IETF", s.box.PostResumable}, sender{"tus", s.box.PutResumable}, sender{"Nextcloud chunks", s.box.PutChunks})
	return nil
}

// send lets every client send until count files are acknowledged, or ctx ends.
func (s *soaked) send(ctx context.Context, count int64) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, len(s.senders))
	for i, c := range s.senders {
		wg.Go(func() {
			rng := rand.NewChaCha8([32]byte{byte(i), byte(s.seed), byte(s.seed >> 8), byte(s.sent.Load()), byte(s.sent.Load() >> 8), byte(s.sent.Load() >> 16)})
			size := rand.New(rand.NewPCG(s.seed, uint64(i)))
			body := make([]byte, soakMost)
			for n := next.Add(1); n <= count && ctx.Err() == nil; n = next.Add(1) {
				data := body[:soakLeast+size.IntN(soakMost-soakLeast)]
				_, _ = rng.Read(data) // it never fails
				sum := sha256.Sum256(data)
				path := fmt.Sprintf("soak/%s/%03d/IMG_%06d.jpg", strings.ReplaceAll(c.name, " ", "-"), n/1000, n)
				if strings.HasPrefix(c.name, "FTP") {
					path = fmt.Sprintf("IMG_%06d.jpg", n+s.sent.Load())
				} else if c.name == "WebDAV" || c.name == "Nextcloud chunks" {
					path = fmt.Sprintf("%s-%03d/IMG_%06d.jpg", strings.ReplaceAll(c.name, " ", "-"), n/1000, n+s.sent.Load())
				}
				if err := c.put(ctx, path, data, hex.EncodeToString(sum[:])); err != nil {
					errs[i] = fmt.Errorf("%s: %w", c.name, err)
					return
				}
				s.sent.Add(1)
				s.bytes.Add(int64(len(data)))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// size is what a running box takes.
type size struct {
	rss, descriptors, goroutines int64
}

func (s *soaked) look(ctx context.Context) (z size, err error) {
	u, err := s.box.Usage()
	if err != nil {
		return z, err
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.box.PID()))
	if err != nil {
		return z, err
	}
	z = size{rss: u.RSS, descriptors: int64(len(list))}
	text, err := box.Exchange(ctx, s.box.Client(), "GET", s.box.URL+"/metrics", nil)
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "yunbox_goroutines %d", &z.goroutines)
	}
	return z, err
}

func (s *soaked) fill(ctx context.Context, count int) error {
	before, err := s.look(ctx)
	if err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	defer cancel()
	type sample struct {
		at int64
		size
	}
	var samples []sample
	var watching sync.WaitGroup
	watching.Go(func() {
		for done.Err() == nil {
			if z, err := s.look(done); err == nil {
				samples = append(samples, sample{s.sent.Load(), z})
			}
			select {
			case <-done.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
	began := time.Now()
	err = s.send(ctx, int64(count))
	took := time.Since(began)
	cancel()
	watching.Wait()
	killed := s.jail.killed()
	if err != nil || killed > 0 {
		return errors.Join(err, fmt.Errorf("%d kills for want of memory after %d files; the box says: %s", killed, s.sent.Load(), s.box.Output()))
	}
	part := func(from, to int64) (z size) {
		n := int64(0)
		for _, x := range samples {
			if x.at >= from && x.at < to {
				z.rss += x.rss
				z.descriptors += x.descriptors
				z.goroutines += x.goroutines
				n++
			}
		}
		n = max(n, 1)
		return size{z.rss / n, z.descriptors / n, z.goroutines / n}
	}
	tenth := int64(count) / 10
	first, last := part(0, tenth), part(int64(count)-tenth, int64(count)+1)
	var top size
	for _, x := range samples {
		top.rss, top.descriptors, top.goroutines = max(top.rss, x.rss), max(top.descriptors, x.descriptors), max(top.goroutines, x.goroutines)
	}
	b := s.bench
	b.note("Soak: %d files, %.1f GB, by %d clients of as many gateways in %.0f s (%.0f files/s), in %d MiB of memory, the pages of files included.",
		count, float64(s.bytes.Load())/1e9, len(s.senders), took.Seconds(), float64(count)/took.Seconds(), soakMemory>>20)
	fmt.Fprintf(b.out, "\n| | resident | descriptors | goroutines |\n|--- |--: |--: |--: |\n")
	row := func(name string, z size) {
		fmt.Fprintf(b.out, "| %s | %.1f MiB | %d | %d |\n", name, float64(z.rss)/(1<<20), z.descriptors, z.goroutines)
	}
	row("before", before)
	row("first tenth, on average", first)
	row("last tenth, on average", last)
	row("at most", top)
	s.box.Client().CloseIdleConnections()
	s.hangUp()
	time.Sleep(3 * time.Second)
	after, err := s.look(ctx)
	row("3 s after", after)
	b.note("Memory of the whole group at most %.1f MiB, killed %d times; %s.", float64(s.jail.peak())/(1<<20), killed, s.jail.pressure())
	return err
}

// hangUp ends what connect began.
func (s *soaked) hangUp() { s.senders = nil }

// restarts kills the box at work, again and again, and takes the time from exec to
// the first answer to its owner.
func (s *soaked) restarts(ctx context.Context) error {
	var warm, cold, ready []time.Duration
	for n := range 10 {
		if err := s.connect(ctx); err != nil {
			return err
		}
		busy, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.send(busy, 1<<40) // until it is killed
		}()
		time.Sleep(2*time.Second + time.Duration(n)*97*time.Millisecond)
		s.box.Kill()
		cancel()
		<-ended
		if n%2 == 1 {
			if err := dropCaches(); err != nil {
				return err
			}
		}
		took, told, err := s.again(ctx)
		if err != nil {
			return err
		}
		ready = append(ready, told)
		if n%2 == 1 {
			cold = append(cold, took)
		} else {
			warm = append(warm, took)
		}
	}
	s.note("Start after kill -9 at work with %d files, from exec to the first answer to its owner: %s; the same with nothing in the system's cache: %s. READY came after %v at most.",
		s.sent.Load(), spread(warm), spread(cold), slices.Max(ready).Round(time.Millisecond))
	return nil
}

func spread(times []time.Duration) string {
	slices.Sort(times)
	return fmt.Sprintf("%v to %v", times[0].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
}

// again starts the box on its state and on the address that it had, and asks as its
// owner until there is an answer.
func (s *soaked) again(ctx context.Context) (answered, ready time.Duration, err error) {
	notice, err := listenForReady(filepath.Join(s.dir, "notify"))
	if err != nil {
		return 0, 0, err
	}
	defer notice.close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	if err := s.box.Again(s.allGateways(), []string{"NOTIFY_SOCKET=" + notice.name}, s.jail.wrap()...); err != nil {
		return 0, 0, err
	}
	if err := s.box.Await(ctx, func() error { return s.box.API(ctx, "GET", "/v1/me", nil, nil) }); err != nil {
		return 0, 0, err
	}
	answered = time.Since(began)
	return answered, notice.at().Sub(began), nil
}
