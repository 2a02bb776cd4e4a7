package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/proc"
)

// A finder looks for equal files in a folder. It says how long that took and how much
// memory it had at most; dir is one of its own for both its runs.
type finder struct {
	name string
	find func(ctx context.Context, tree, dir string) (took time.Duration, rss int64, err error)
}

// dedup lets the box and its peers look for the same duplicates, each with a cold
// cache of the system, and a second time at once.
func (b *bench) dedup(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		b.note("Finding duplicates was left out: only root can empty the system's cache.")
		return nil
	}
	tree := filepath.Join(b.work, "equal")
	equal, bytes, err := makeEqual(tree, b.equalFiles, b.seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	state, clear, err := b.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clear()) }()
	s, err := b.startBox(ctx, state, nil)
	if err != nil {
		return err
	}
	defer s.Kill()
	if err := b.mayFold(ctx, s); err != nil {
		return err
	}
	finders := []finder{{"box", func(ctx context.Context, tree, _ string) (time.Duration, int64, error) {
		return b.boxFinds(ctx, s, tree, equal)
	}}}
	for _, f := range []finder{
		program("jdupes", func(tree, _ string) []string { return []string{"-rq", tree} }),
		program("rdfind", func(tree, dir string) []string {
			return []string{"-dryrun", "true", "-outputname", filepath.Join(dir, "results"), tree}
		}),
		program("rmlint", func(tree, dir string) []string {
			return []string{"-o", "json:" + filepath.Join(dir, "found"), "-T", "df", tree}
		}),
		program("duperemove", func(tree, dir string) []string {
			return []string{"-rq", "--hashfile=" + filepath.Join(dir, "hashes"), tree}
		}),
	} {
		if !slices.Contains(b.without, f.name) {
			finders = append(finders, f)
		}
	}
	b.note("Looking for duplicates in %d files, %.1f GB, %d of them equal to another:", b.equalFiles, float64(bytes)/1e9, equal)
	for _, f := range finders {
		dir := filepath.Join(b.work, "finder")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := emptyCache(); err != nil {
			return err
		}
		first, rss, err := f.find(ctx, tree, dir)
		if err == nil {
			var second time.Duration
			var more int64
			second, more, err = f.find(ctx, tree, dir)
			b.note("- %s: %.2f s, %.0f MiB; a second time %.2f s (%.0f times as fast), %.0f MiB.", f.name, first.Seconds(), float64(rss)/(1<<20),
				second.Seconds(), first.Seconds()/second.Seconds(), float64(more)/(1<<20))
		}
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// emptyCache has the system forget what it read.
func emptyCache() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// mayFold gives the owner's consent to finding duplicates.
func (b *bench) mayFold(ctx context.Context, s *box.Box) error {
	revision, err := s.PolicyRevision(ctx)
	if err != nil {
		return err
	}
	return s.API(ctx, http.MethodPut, "/v1/consents/file_dedup", map[string]any{"granted": true, "policy_revision": revision}, nil)
}

func (b *bench) boxFinds(ctx context.Context, s *box.Box, tree string, equal int) (time.Duration, int64, error) {
	var me struct {
		Username string `json:"username"`
	}
	if err := s.API(ctx, http.MethodGet, "/v1/me", nil, &me); err != nil {
		return 0, 0, err
	}
	if err := s.ResetPeak(); err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, b.programs.Yunboxctl, "--state", s.State, "--json", "dedup", "scan", tree, "--user", me.Username)
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, lastLine(out))
	}
	var done struct {
		Scan struct {
			Same int `json:"same"`
		} `json:"scan"`
	}
	if err := json.Unmarshal([]byte(lastLine(out)), &done); err != nil {
		return 0, 0, err
	}
	if done.Scan.Same != equal {
		return 0, 0, fmt.Errorf("it found %d equal files, there are %d", done.Scan.Same, equal)
	}
	usage, err := s.Usage()
	return took, usage.Peak, err
}

// program is a finder that is a command.
func program(name string, args func(tree, dir string) []string) finder {
	return finder{name, func(ctx context.Context, tree, dir string) (time.Duration, int64, error) {
		cmd := exec.CommandContext(ctx, name, args(tree, dir)...)
		cmd.Dir = dir
		var out bytes.Buffer
		cmd.Stderr = &out
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return 0, 0, err
		}
		ended := make(chan struct{})
		peak := make(chan int64)
		go func() { peak <- peakOf(cmd.Process.Pid, ended) }()
		err := cmd.Wait()
		took := time.Since(began)
		close(ended)
		rss := <-peak
		if err != nil {
			err = fmt.Errorf("%w: %s", err, lastLine(out.Bytes()))
		}
		return took, rss, err
	}}
}

// peakOf watches the most memory that a process had, until ended is closed. What the
// system tells at its end is no use: it counts the program that started it.
func peakOf(pid int, ended <-chan struct{}) (peak int64) {
	for {
		if u, err := proc.UsageOf(pid); err == nil {
			peak = max(peak, u.Peak)
		}
		select {
		case <-ended:
			return peak
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// makeEqual writes count files of 20 to 200 kB in folders of a hundred; three of ten
// are equal to one that was written before.
func makeEqual(dir string, count int, seed uint64) (equal int, size int64, err error) {
	rng := rand.New(rand.NewPCG(seed, uint64(count)))
	var originals []string
	for i := range count {
		path := filepath.Join(dir, fmt.Sprint("folder", i/100%500), fmt.Sprintf("IMG_%05d.jpg", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return 0, 0, err
		}
		if i%10 >= 7 {
			content, err := os.ReadFile(originals[rng.IntN(len(originals))])
			if err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
			if err != nil {
				return 0, 0, err
			}
			equal, size = equal+1, size+int64(len(content))
			continue
		}
		n := 20_000 + rng.Int64N(180_001)
		if _, err := writeRandom(path, n, rng.Uint64()); err != nil {
			return 0, 0, err
		}
		originals, size = append(originals, path), size+n
	}
	return equal, size, nil
}
