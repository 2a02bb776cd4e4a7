package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// result is what one contender did in one run, or the median of several runs.
type result struct {
	Contender string  `json:"contender"`
	How       string  `json:"how"`
	Answered  float64 `json:"answered_seconds"` // until the last upload was answered as stored
	Durable   float64 `json:"durable_seconds"`  // until the file system had nothing left to write
	CPU       float64 `json:"cpu_seconds"`      // of the server and its children
	Client    float64 `json:"client_seconds"`   // processor time of who sends, on the same cores
	RSS       int64   `json:"rss_bytes"`        // the most seen at once, summed over its processes
	Median    float64 `json:"median_ms"`        // of one upload
	Rounds    int     `json:"rounds"`
	Flushes   float64 `json:"flushes,omitempty"`   // of the slowed disk
	Syncs     string  `json:"syncs_before_answer"` // see syncs; "" not asked
	Err       string  `json:"error,omitempty"`
}

// upload lets a contender take a corpus and measures it.
func (b *bench) upload(ctx context.Context, c contender, load *corpus, at place) (r result, err error) {
	r = result{Contender: c.name, How: c.how, Rounds: 1}
	dir, clear, err := at()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, clear()) }()
	s, err := c.start(ctx, dir, nil)
	if err != nil {
		return r, err
	}
	defer s.Kill()
	if err := syncFS(dir); err != nil { // what other runs left behind is not this one's
		return r, err
	}
	before, err := s.Usage()
	if err != nil {
		return r, err
	}
	sampler := s.Sample(20 * time.Millisecond)
	client := ownTime()
	flushes := b.flushes()
	began := time.Now()
	times, err := uploadAll(ctx, s, load)
	r.Answered = time.Since(began).Seconds()
	r.Client = (ownTime() - client).Seconds()
	r.Flushes = float64(b.flushes() - flushes)
	if err == nil {
		err = syncFS(dir)
	}
	r.Durable = time.Since(began).Seconds()
	samples := sampler.Stop()
	if err != nil {
		return r, fmt.Errorf("%w (the server says: %s)", err, s.Output())
	}
	after, err := s.Usage()
	if err != nil {
		return r, err
	}
	r.CPU = (after.CPU - before.CPU).Seconds()
	r.RSS = slices.Max(append(samples, after.RSS))
	if len(times) > 0 {
		slices.Sort(times)
		r.Median = times[len(times)/2].Seconds() * 1000
	}
	return r, nil
}

// ownTime is the processor time of this program and of the client programs that it ran
// to their end, which is what the senders cost. Watching the server's memory is in it: 3 %
// of a core.
func ownTime() (t time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			t += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return t
}

// flushes counts those of the slowed disk, while there is one.
func (b *bench) flushes() int64 {
	if b.disk == nil {
		return 0
	}
	return b.disk.Flushes()
}

// uploadAll uploads each lane's files one after the other, all lanes at a time.
// The times are those of single files, where the client is ours.
func uploadAll(ctx context.Context, s *running, load *corpus) (times []time.Duration, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	if s.many != nil {
		return nil, s.many(ctx, load.lanes) // no file has a beginning of its own
	}
	for lane, files := range load.lanes {
		wg.Go(func() {
			var own []time.Duration
			var failed error
			if s.folder != nil {
				failed = s.folder(ctx, load.dirs[lane])
			} else {
				own, failed = uploadLane(ctx, s, files)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
			err = errors.Join(err, failed)
		})
	}
	wg.Wait()
	return times, err
}

func uploadLane(ctx context.Context, s *running, files []file) (times []time.Duration, err error) {
	for _, f := range files {
		content, err := os.Open(f.path)
		if err != nil {
			return times, err
		}
		began := time.Now()
		// NopCloser hides the file's type: else each peer's client would send it by
		// another path of the library.
		err = s.send(ctx, f, io.NopCloser(content))
		times = append(times, time.Since(began))
		if err := errors.Join(err, content.Close()); err != nil {
			return times, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return times, nil
}

// syncs counts, by strace, the calls that make data durable while a contender
// takes files one at a time, up to its last answer.
func (b *bench) syncs(ctx context.Context, c contender, load *corpus) (verdict string, err error) {
	dir, clear, err := b.place()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, clear()) }()
	trace := filepath.Join(dir, "trace")
	s, err := c.start(ctx, dir, []string{"strace", "-f", "-qq", "-o", trace, "-e", "signal=none", "-e", "trace=fsync,fdatasync,sync,syncfs"})
	if err != nil {
		return "", err
	}
	defer s.Kill()
	start, err := os.ReadFile(trace)
	if err != nil {
		return "", err
	}
	if _, err := uploadAll(ctx, s, load); err != nil {
		return "", err
	}
	end, err := os.ReadFile(trace)
	if err != nil {
		return "", err
	}
	// A call that another thread interrupted stands on two lines; one is "resumed".
	calls := 0
	for line := range bytes.Lines(end[len(start):]) {
		if !bytes.Contains(line, []byte("resumed>")) {
			calls++
		}
	}
	switch per := float64(calls) / float64(load.count); {
	case calls == 0:
		return "no", nil
	case per < 1:
		return fmt.Sprintf("partly: %d calls for %d files", calls, load.count), nil
	default:
		return fmt.Sprintf("yes: %.1f calls a file", per), nil
	}
}

// median merges the runs of one contender, field by field.
func median(runs []result) result {
	merged := runs[0]
	merged.Rounds = len(runs)
	pick := func(field func(*result) *float64) {
		values := make([]float64, len(runs))
		for i := range runs {
			values[i] = *field(&runs[i])
		}
		slices.Sort(values)
		*field(&merged) = values[len(values)/2]
	}
	pick(func(r *result) *float64 { return &r.Answered })
	pick(func(r *result) *float64 { return &r.Durable })
	pick(func(r *result) *float64 { return &r.CPU })
	pick(func(r *result) *float64 { return &r.Client })
	pick(func(r *result) *float64 { return &r.Median })
	pick(func(r *result) *float64 { return &r.Flushes })
	for _, r := range runs {
		merged.RSS = max(merged.RSS, r.RSS)
	}
	return merged
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
