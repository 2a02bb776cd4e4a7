package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// kill ends the box at work, so many times, and compares after each start.
func (s faultSettings) kill(ctx context.Context, times int, rng *rand.Rand, out io.Writer) (bad bool, err error) {
	dir, err := os.MkdirTemp("", "kills-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir+"/state", 0o700); err != nil {
		return false, err
	}
	t := &boxTarget{programs: s.programs, seed: s.seed, watch: s.watch}
	all, now := &histories{}, func() int { return int(time.Since(processStart)) }
	var sum outcome
	var camera *box.Camera
	for round := 0; ; round++ {
		t.seed = s.seed + uint64(round)
		began := time.Now()
		up, err := t.start(ctx, dir)
		if ctx.Err() != nil {
			return sum.lost > 0, ctx.Err()
		} else if err != nil {
			return true, fmt.Errorf("after kill %d: %w", round, err)
		}
		sum.slowest = max(sum.slowest, time.Since(began))
		server := up.(*boxServer)
		if round == 0 {
			if err := server.settle(ctx, all, now); err != nil {
				server.kill()
				return false, err
			}
			camera = server.camera
		}
		server.camera = camera
		lost := s.compare(ctx, server, all, rng, now(), &sum)
		if round%50 == 0 || round == times {
			if err := server.judge(ctx); err != nil {
				lost = append(lost, err.Error())
			}
		}
		if len(lost) > 0 {
			sum.lost += len(lost)
			fmt.Fprintf(out, "kill %d, seed %d: LOST %d:\n    %s\n", round, s.seed, len(lost), strings.Join(lost[:min(len(lost), 3)], "\n    "))
		}
		if round == times {
			server.kill()
			break
		}
		s.interrupt(ctx, server, all, fmt.Sprintf("round %04d ", round), time.Duration(rng.Int64N(int64(s.acting))), now)
		sum.cuts++
	}
	sum.acts = len(all.acks())
	fmt.Fprintf(out, "kills: %d kills, %d acknowledged acts, %d checks, lost %d, slowest restart %v; seed %d: %s\n",
		sum.cuts, sum.acts, sum.checks, sum.lost, sum.slowest.Round(time.Millisecond), s.seed, verdict(!sum.bad()))
	return sum.bad(), nil
}

// interrupt kills the box while clients act on it.
func (s faultSettings) interrupt(ctx context.Context, server *boxServer, all *histories, folder string, after time.Duration, now func() int) {
	acting, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	server.folder = folder
	clients := server.clients(acting, all, now)
	for _, client := range clients {
		go func() { client(); done <- struct{}{} }()
	}
	pause(ctx, after)
	server.kill()
	stop()
	for range clients {
		<-done
	}
}

// compare looks at what was touched since the last kill, and at some of the rest.
func (s faultSettings) compare(ctx context.Context, server *boxServer, all *histories, rng *rand.Rand, at int, sum *outcome) (lost []string) {
	keys := all.keys()
	if len(keys) > 400 {
		rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		slices.SortStableFunc(keys, func(a, b string) int { return all.of(b).last() - all.of(a).last() })
		keys = append(keys[:300:300], keys[len(keys)-100:]...)
	}
	states := server.observe(ctx, keys)
	for _, key := range keys {
		allowed, row := all.of(key).allowed(at)
		if row != "" {
			sum.checks++
		}
		if !slices.Contains(allowed, states[key]) && ctx.Err() == nil {
			lost = append(lost, fmt.Sprintf("%.120s is %s, may be %s", key, states[key], strings.Join(allowed, " or ")))
		}
	}
	return lost
}
