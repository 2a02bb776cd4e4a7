package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

const (
	password = "correct horse battery" // of the owner

	exportMemory = 512 << 20 // of the box: its own and the pages of files that it uses
	exportKinds  = 1000      // different contents: many names share one, and the disk stays small
	exportRow    = 2000      // files of one request
)

// exported gives everything of a person with very many files to them, on a box with
// 512 MiB of memory in all: the list is made, the archive is fetched, cut off in the
// middle together with the box and gone on with, read through by yunboxctl, and taken
// to another box.
type exported struct {
	*bench
	jail *jail
	dir  string
	box  *box.Box
	kind [exportKinds]struct {
		data []byte
		sum  string
	}
}

func (b *bench) export(ctx context.Context) (err error) {
	dir, clear, err := b.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clear()) }()
	jail, err := newJail(exportMemory)
	if err != nil {
		b.note("The export was left out: it needs root and a memory controller (%v).", err)
		return nil
	}
	defer func() { err = errors.Join(err, jail.remove()) }()
	e := &exported{bench: b, jail: jail, dir: dir}
	rng := rand.New(rand.NewPCG(b.seed, 1))
	for i := range e.kind {
		data := make([]byte, 64+rng.IntN(1000))
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		sum := sha256.Sum256(data)
		e.kind[i].data, e.kind[i].sum = data, hex.EncodeToString(sum[:])
	}
	if e.box, err = e.start(ctx, "first"); err != nil {
		return err
	}
	defer func() { e.box.Kill() }()
	for _, step := range []func(context.Context) error{e.fill, e.all, e.elsewhere} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("%w\n%d kills for want of memory; the box says: %s", err, jail.killed(), e.box.Output())
		}
	}
	if n := jail.killed(); n > 0 {
		return fmt.Errorf("%d kills for want of memory", n)
	}
	b.note("  Nothing was killed for want of memory; %s.", jail.pressure())
	return nil
}

// viewless leaves the readable view out, which would be a million small files more.
func (e *exported) viewless() box.Programs {
	p := e.programs
	p.Args = append(append([]string{}, p.Args...), "--tree", "off")
	return p
}

func (e *exported) start(ctx context.Context, name string) (*box.Box, error) {
	s, err := e.viewless().Start(ctx, filepath.Join(e.dir, name), nil, e.jail.wrap()...)
	if err != nil {
		return nil, err
	}
	if err := s.Claim(ctx, "owner", password); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// again starts the box that was killed, with the address that it had.
func (e *exported) again(ctx context.Context) error {
	if err := e.box.Again(e.viewless(), nil, e.jail.wrap()...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return e.box.Await(ctx, func() error { return e.box.API(ctx, http.MethodGet, "/v1/me", nil, nil) })
}

func (e *exported) name(n int) string { return fmt.Sprintf("album %04d/照片 %07d.jpg", n/1000, n) }

func (e *exported) fill(ctx context.Context) error {
	began := time.Now()
	var next atomic.Int64
	errs := make([]error, e.streams)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			for from := int(next.Add(exportRow)) - exportRow; from < e.exportFiles && errs[i] == nil; from = int(next.Add(exportRow)) - exportRow {
				row := make([]box.Sending, 0, exportRow)
				for n := from; n < min(from+exportRow, e.exportFiles); n++ {
					k := &e.kind[n%exportKinds]
					row = append(row, box.Sending{Path: e.name(n), Data: k.data, Size: int64(len(k.data)), Sum: k.sum})
				}
				errs[i] = e.box.PutMany(ctx, row, func(int) {})
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	u, err := e.box.Usage()
	e.note("Export: a box with %d MiB of memory in all, the pages of files included, took %d files in %.0f s; its own memory at most %.1f MiB.",
		exportMemory>>20, e.exportFiles, time.Since(began).Seconds(), float64(u.Peak)/(1<<20))
	return err
}

// exportState is what the box says of an export.
type exportState struct {
	ID, State string
	Failure   *string
	Listed    int64
	Sent      int64
	Size      *int64
}

func (e *exported) state(ctx context.Context, id string) (s exportState, err error) {
	err = e.box.API(ctx, http.MethodGet, "/v1/me/exports/"+id, nil, &s)
	return s, err
}

// phase notes what something took, and the box's own memory meanwhile.
func (e *exported) phase(ctx context.Context, what func() (string, error)) error {
	if err := e.box.ResetPeak(); err != nil {
		return err
	}
	began := time.Now()
	text, err := what()
	if err != nil {
		return err
	}
	took := time.Since(began)
	u, err := e.box.Usage()
	e.note("  - %s: %.0f s, the box's own memory at most %.1f MiB.", text, took.Seconds(), float64(u.Peak)/(1<<20))
	return errors.Join(err, ctx.Err())
}

// all makes the list and fetches the archive.
func (e *exported) all(ctx context.Context) error {
	var s exportState
	if err := e.box.API(ctx, http.MethodPost, "/v1/session/proof", map[string]string{"password": password}, nil); err != nil {
		return err
	}
	if err := e.phase(ctx, func() (string, error) {
		if err := e.box.API(ctx, http.MethodPost, "/v1/me/exports", map[string]bool{"versions": true, "trash": true}, &s); err != nil {
			return "", err
		}
		var told int // different numbers
		var longest time.Duration
		for n := 0; s.State == "preparing"; n++ {
			before, began := s.Listed, time.Now()
			_, err := e.box.PutItem(ctx, "other", fmt.Sprintf("meanwhile/%d.txt", n), strings.NewReader("meanwhile"), 9, "")
			if err != nil {
				return "", err
			}
			longest = max(longest, time.Since(began))
			pause(ctx, 500*time.Millisecond)
			if s, err = e.state(ctx, s.ID); err != nil {
				return "", err
			}
			if s.Listed < before {
				return "", fmt.Errorf("%d were on the list, now %d", before, s.Listed)
			} else if s.Listed > before {
				told++
			}
		}
		if s.State != "ready" || s.Size == nil || s.Listed < int64(e.exportFiles) {
			return "", fmt.Errorf("the export is %+v", s)
		}
		return fmt.Sprintf("the list of %d entries was made, while its length was told %d times and an upload took %v at most", s.Listed, told, longest.Round(time.Millisecond)), nil
	}); err != nil {
		return err
	}
	file, err := os.Create(e.archive())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read afterwards
	var tag string
	size, half := *s.Size, *s.Size/2
	if err := e.phase(ctx, func() (string, error) {
		var err error
		if tag, err = e.fetch(ctx, s.ID, file, 0, half, ""); err != nil {
			return "", err
		}
		at, err := e.state(ctx, s.ID)
		if err == nil && at.Sent < half {
			err = fmt.Errorf("%d bytes were sent, says the box, and %d had come", at.Sent, half)
		}
		return fmt.Sprintf("the first half of %.2f GB came", float64(size)/1e9), err
	}); err != nil {
		return err
	}
	e.box.Kill()
	began := time.Now()
	if err := e.again(ctx); err != nil {
		return err
	}
	e.note("  - killed in the middle, the box answered again after %.1f s", time.Since(began).Seconds())
	if err := e.phase(ctx, func() (string, error) {
		same, err := e.fetch(ctx, s.ID, file, half, size, tag)
		if err == nil && same != tag {
			err = fmt.Errorf("the entity tag was %s and is %s", tag, same)
		}
		return "the other half came, from where it was cut off", err
	}); err != nil {
		return err
	}
	return file.Close()
}

func (e *exported) archive() string { return filepath.Join(e.dir, "archive.tar") }

// fetch appends the bytes from..to of the archive to file. With a tag it goes on.
func (e *exported) fetch(ctx context.Context, id string, file io.Writer, from, to int64, tag string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.box.URL+"/v1/me/exports/"+id+"/archive", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+e.box.Token)
	want := http.StatusOK
	if tag != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		req.Header.Set("If-Range", tag)
		want = http.StatusPartialContent
	}
	res, err := e.box.Client().Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != want {
		return "", fmt.Errorf("the archive from byte %d on: %s", from, res.Status)
	}
	_, err = io.CopyN(file, res.Body, to-from)
	return res.Header.Get("ETag"), err
}

// elsewhere lets yunboxctl read the whole archive and take it to another box, which
// has the first one's memory.
func (e *exported) elsewhere(ctx context.Context) (err error) {
	e.box.Kill()
	if e.box, err = e.start(ctx, "second"); err != nil {
		return err
	}
	took, peak, out, err := e.ctl(ctx, "import", "--dry-run", e.archive())
	if err != nil {
		return err
	}
	var whole struct{ Files int64 }
	if err := json.Unmarshal(out, &whole); err != nil {
		return err
	} else if whole.Files < int64(e.exportFiles) {
		return fmt.Errorf("yunboxctl import --dry-run: %s", out)
	}
	e.note("  - yunboxctl read the archive through, the signature and the hash of each of %d files: %.0f s, its own memory at most %.1f MiB.", whole.Files, took.Seconds(), float64(peak)/(1<<20))
	if err := e.phase(ctx, func() (string, error) {
		limited, cancel := context.WithTimeout(ctx, took+e.importFor)
		defer cancel()
		_, peak, out, err := e.ctl(limited, "import", e.archive())
		if err != nil && limited.Err() == nil {
			return "", err
		}
		text, count := "everything was taken to another box", e.exportFiles
		if limited.Err() != nil {
			text = fmt.Sprintf("for %v more files were taken to another box, then it was broken off", e.importFor)
			if count, err = e.arrived(ctx); err != nil {
				return "", err
			}
		} else {
			var sum struct{ Stored, Known, Failed, Refused, Conflict int64 }
			if err := json.Unmarshal(out, &sum); err != nil {
				return "", err
			} else if sum.Stored+sum.Known < int64(e.exportFiles) || sum.Failed+sum.Refused+sum.Conflict > 0 {
				return "", fmt.Errorf("yunboxctl import: %s", out)
			}
		}
		rng := rand.New(rand.NewPCG(e.seed, 2))
		for range 100 {
			n := rng.IntN(count)
			if sum, err := e.box.Hash(ctx, e.name(n)); err != nil {
				return "", err
			} else if sum != e.kind[n%exportKinds].sum {
				return "", fmt.Errorf("%s is another file on the other box: %s", e.name(n), sum)
			}
		}
		return fmt.Sprintf("read through again, %s (%d files, 100 of them compared; yunboxctl's own memory at most %.1f MiB)", text, count, float64(peak)/(1<<20)), nil
	}); err != nil {
		return err
	}
	return nil
}

// arrived is how many files of the archive are on the box, whose order is that of their
// names: all before the last one that is there, but for those that were under way.
func (e *exported) arrived(ctx context.Context) (int, error) {
	low, high := 0, e.exportFiles
	for low < high {
		n := (low + high) / 2
		_, err := e.box.Hash(ctx, e.name(n))
		if err != nil && !box.IsStatus(err, http.StatusNotFound) {
			return 0, err
		}
		if err == nil {
			low = n + 1
		} else {
			high = n
		}
	}
	low -= 64 // --jobs at most were under way
	if low <= 0 {
		return 0, errors.New("nothing was taken to the other box")
	}
	return low, nil
}

// ctl runs yunboxctl as the box's owner, and says how long it took and its peak of memory.
func (e *exported) ctl(ctx context.Context, args ...string) (took time.Duration, peak int64, out []byte, err error) {
	var status struct{ Fingerprint string }
	if err := e.box.Local(ctx, http.MethodGet, "/local/status", nil, &status); err != nil {
		return 0, 0, nil, err
	}
	cmd := exec.CommandContext(ctx, e.programs.Yunboxctl, append([]string{"--json", "--box", e.box.URL, "--fingerprint", status.Fingerprint}, args...)...)
	cmd.Env = append(os.Environ(), "YUNBOX_TOKEN="+e.box.Token)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	out, err = cmd.Output()
	if err != nil {
		err = fmt.Errorf("yunboxctl %s: %w: %s", args[0], err, lastLine(said.Bytes()))
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = u.Maxrss << 10 // Linux counts it in KiB
	}
	return time.Since(began), peak, out, err
}
