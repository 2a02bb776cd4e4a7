package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

const (
	cameras = 8
	phones  = 4
)

// A party is clients that upload at the same time.
type party struct {
	name                   string
	phones, plain, secured int // WebDAV; cameras by FTP in the clear, and with TLS
}

// parties: each kind of client alone, and all together.
func parties() []party {
	return []party{
		{name: "one phone by WebDAV", phones: 1},
		{name: "one camera by FTP", plain: 1},
		{name: "one camera by FTPS", secured: 1},
		{name: fmt.Sprintf("%d cameras by FTP, %d by FTPS and %d phones", cameras/2, cameras-cameras/2, phones), phones: phones, plain: cameras / 2, secured: cameras - cameras/2},
	}
}

// partyResult is what a party did within its time.
type partyResult struct {
	rate  float64 // bytes acknowledged per second
	files float64 // per second
	share string  // of the kinds of clients
	cpu   float64 // of the server, seconds per second
	peak  int64   // VmHWM, bytes
}

// gateways lets cameras and phones upload photos together, and each kind alone. All
// keep their connections and sessions. Sizes are those of photos, and some small
// files beside them.
func (b *bench) gateways(ctx context.Context) error {
	all := parties()
	results := make([][]partyResult, len(all))
	for range b.smallRounds {
		for i, p := range all {
			r, err := b.party(ctx, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	fmt.Fprintf(b.out, "\n### Cameras and phones together: photos of 3–8 MB and a fifth small files, %v each\n\n", b.partyTime)
	fmt.Fprintln(b.out, "| clients | rate | files | server CPU | VmHWM |")
	fmt.Fprintln(b.out, "|--- |--: |--: |--: |--: |")
	alone, together := 0.0, 0.0
	for i, p := range all {
		slices.SortFunc(results[i], func(x, y partyResult) int { return int(x.rate - y.rate) })
		r := results[i][len(results[i])/2]
		fmt.Fprintf(b.out, "| %s | %.0f MB/s%s | %.1f/s | %.2f | %.0f MiB |\n", p.name, r.rate/1e6, r.share, r.files, r.cpu, float64(r.peak)/(1<<20))
		if i < len(all)-1 {
			alone = max(alone, r.rate)
		} else {
			together = r.rate
		}
	}
	b.note("Together they have %.2f times the rate of the fastest of them alone (asked: 0.80).", together/alone)
	return nil
}

func (b *bench) party(ctx context.Context, p party) (r partyResult, err error) {
	dir, clear, err := b.place()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, clear()) }()
	server, err := b.startAll(ctx, dir)
	if err != nil {
		return r, err
	}
	defer server.Kill()
	// A sender sends one file and returns when it was acknowledged.
	type sender func(ctx context.Context, name string, size int64, body io.Reader) error
	var senders []sender
	for i := range p.phones {
		folder := fmt.Sprintf("phone%d", i)
		if err := server.MakeFolder(ctx, folder); err != nil {
			return r, err
		}
		senders = append(senders, func(ctx context.Context, name string, size int64, body io.Reader) error {
			return server.SendDAV(ctx, folder+"/"+name, size, body)
		})
	}
	for i := range p.plain + p.secured {
		camera, err := server.AddCamera(ctx, "owner", fmt.Sprintf("camera%d", i))
		if err != nil {
			return r, err
		}
		session, err := camera.Connect(ctx, i >= p.plain)
		if err != nil {
			return r, err
		}
		defer session.Close()
		senders = append(senders, func(ctx context.Context, name string, _ int64, body io.Reader) error {
			return session.Put(ctx, camera.Folder+name, body)
		})
	}
	if err := syncFS(dir); err != nil {
		return r, err
	}
	before, err := server.Usage()
	if err != nil {
		return r, err
	}
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		files    atomic.Int64
		byDAV    atomic.Int64
		byCamera atomic.Int64
		end      = time.Now().Add(b.partyTime)
	)
	for i, send := range senders {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(b.seed, uint64(i)))
			source := newStream(rng.Uint64())
			for n := 0; time.Now().Before(end) && ctx.Err() == nil; n++ {
				size := 3_000_000 + rng.Int64N(5_000_000)
				if n%5 == 4 {
					size = 20_000 + rng.Int64N(180_000)
				}
				failed := send(ctx, fmt.Sprintf("IMG_%05d.JPG", n), size, io.NopCloser(io.LimitReader(source, size)))
				if failed != nil {
					mu.Lock()
					err = errors.Join(err, failed)
					mu.Unlock()
					return
				}
				if time.Now().After(end) {
					return // it was not done in time
				}
				files.Add(1)
				if i < p.phones {
					byDAV.Add(size)
				} else {
					byCamera.Add(size)
				}
			}
		})
	}
	wg.Wait()
	if err != nil {
		return r, fmt.Errorf("%w (the server says: %s)", err, server.Output())
	}
	after, err := server.Usage()
	if err != nil {
		return r, err
	}
	seconds := b.partyTime.Seconds()
	r = partyResult{rate: float64(byDAV.Load()+byCamera.Load()) / seconds, files: float64(files.Load()) / seconds,
		cpu: (after.CPU - before.CPU).Seconds() / seconds, peak: after.Peak}
	if p.phones > 0 && p.phones < len(senders) {
		r.share = fmt.Sprintf(" (phones %.0f, cameras %.0f)", float64(byDAV.Load())/seconds/1e6, float64(byCamera.Load())/seconds/1e6)
	}
	return r, nil
}

// allGateways is the box's program with all of its gateways on.
func (b *bench) allGateways() box.Programs {
	programs := b.programs
	programs.Args = append(slices.Clone(programs.Args), "--ftp", "127.0.0.1:0", "--ftp-plain=on")
	return programs
}

// startAll runs a claimed box with all of its gateways on.
func (b *bench) startAll(ctx context.Context, dir string, wrap ...string) (*box.Box, error) {
	server, err := b.allGateways().Start(ctx, filepath.Join(dir, "state"), nil, wrap...)
	if err != nil {
		return nil, err
	}
	if err := server.Claim(ctx, "owner", "correct horse battery"); err != nil {
		server.Kill()
		return nil, err
	}
	return server, nil
}
