package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// memory watches the box's resident memory under two loads: many files, and one
// huge one. It must stay the same, whatever the count and the size.
func (b *bench) memory(ctx context.Context) error {
	many, err := b.smallCorpus("many", b.manyFiles)
	if err != nil {
		return err
	}
	load := func(ctx context.Context, s *running) error {
		_, err := uploadAll(ctx, s, many)
		return err
	}
	what := fmt.Sprintf("%d files of 20–200 kB, ", many.count)
	err = b.watch(ctx, b.box(), what+fmt.Sprintf("%d at a time", lanes), load)
	if err == nil {
		err = b.watch(ctx, b.boxMany(b.streams), what+fmt.Sprintf("many to a request, %d requests at a time", b.streams), load)
	}
	many.remove()
	if err != nil {
		return err
	}
	huge := file{name: "huge.mp4", size: b.hugeBytes}
	return b.watch(ctx, b.box(), fmt.Sprintf("one file of %.1f GB", float64(huge.size)/1e9), func(ctx context.Context, s *running) error {
		return s.send(ctx, huge, newStream(b.seed))
	})
}

func (b *bench) watch(ctx context.Context, c contender, what string, load func(context.Context, *running) error) (err error) {
	dir, clear, err := b.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clear()) }()
	s, err := c.start(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer s.Kill()
	idle, err := s.Usage()
	if err != nil {
		return err
	}
	if err := s.ResetPeak(); err != nil {
		return err
	}
	sampler := s.Sample(50 * time.Millisecond)
	began := time.Now()
	err = load(ctx, s)
	took := time.Since(began)
	samples := sampler.Stop()
	if err != nil {
		return err
	}
	end, err := s.Usage()
	if err != nil {
		return err
	}
	quarter := max(len(samples)/4, 1)
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	b.note("Memory, %s in %.1f s: %.1f MiB before, %.1f MiB at most (VmHWM); on average %.1f MiB in the second quarter of the time and %.1f MiB in the last.",
		what, took.Seconds(), mib(idle.RSS), mib(max(end.Peak, slices.Max(samples))), mib(mean(samples[min(quarter, len(samples)-1):min(2*quarter+1, len(samples))])), mib(mean(samples[len(samples)-quarter:])))
	return nil
}

func mean(values []int64) int64 {
	var sum int64
	for _, v := range values {
		sum += v
	}
	return sum / int64(max(len(values), 1))
}
