package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

const faultsUsage = `usage: scripts/faults [flags]

Runs yunboxd below strace, which lets a system call fail: the n-th of a kind on
each thread, a few in a row, or all from the n-th on. Clients store, replace and
delete files by every protocol and decide on consents meanwhile. The box may
refuse, and may end with a message; it may not crash, hang, or say yes to what is
not there. After a kill and a start without faults each act that was acknowledged
must have its effect, "yunboxctl check --deep" and "yunboxctl audit verify" must be
content, and the box must take a new file.

With --kills the box is killed at work instead, again and again on one state
directory; after each start what was touched last, and a choice of the rest, must
be as it was acknowledged.

Exit code: 0 nothing was lost, 1 something was, 2 the test could not be run.

`

// A fault is what one system call says instead of doing its work.
type fault struct{ call, errno string }

func (f fault) String() string { return f.call + "=" + f.errno }

// faults are what disks, quotas and limits really say. write, read and fcntl are
// left out: the runtime of Go uses them for its own threads and sockets.
// A write that is short cannot be played by strace without losing bytes; the disk
// in memory of the package tests plays it.
func faults() (list []fault) {
	for _, f := range []struct {
		calls  []string
		errnos []string
	}{
		{[]string{"pwrite64"}, []string{"EIO", "ENOSPC", "EDQUOT", "EINTR"}},
		{[]string{"pread64"}, []string{"EIO", "EINTR"}},
		{[]string{"fdatasync", "fsync", "syncfs"}, []string{"EIO", "ENOSPC", "EDQUOT", "EINTR"}},
		{[]string{"openat", "openat2"}, []string{"EMFILE", "EIO", "ENOSPC", "EROFS", "EINTR"}},
		{[]string{"ftruncate", "fallocate"}, []string{"EIO", "ENOSPC", "EDQUOT", "EINTR"}},
		{[]string{"renameat", "renameat2", "linkat"}, []string{"EIO", "ENOSPC", "EDQUOT", "EROFS"}},
		{[]string{"unlink", "unlinkat"}, []string{"EIO", "EROFS"}},
		{[]string{"mkdirat"}, []string{"EIO", "ENOSPC"}},
		{[]string{"fstat", "newfstatat", "lseek", "getdents64", "statfs"}, []string{"EIO"}},
	} {
		for _, call := range f.calls {
			for _, errno := range f.errnos {
				list = append(list, fault{call, errno})
			}
		}
	}
	return list
}

// happens tells whether the world has such a fault at w: no signal interrupts for
// ever.
func (f fault) happens(w string) bool { return f.errno != "EINTR" || !strings.HasSuffix(w, "+") }

// whens are strace's expressions for the calls that fail, counted on each thread.
var whens = []string{"1", "2", "3..5", "4", "7", "12", "12+", "20..40", "33", "60+", "100", "150..160", "250", "400+"}

func faultsMain(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), faultsUsage)
		flags.PrintDefaults()
	}
	bin := flags.String("bin", "var/bin", "yunboxd and yunboxctl are in this `directory`")
	runs := flags.Int("runs", 12, "faults to play; 0: every kind at every place")
	acting := flags.Duration("for", 700*time.Millisecond, "how long clients act in each run")
	only := flags.String("only", "", "faults whose name holds this `text`, such as fdatasync or =ENOSPC")
	when := flags.String("when", "", "the calls that fail, as strace's when= takes it (default: many)")
	kills := flags.Int("kills", 0, "kill -9 the box so many times instead, each time at work, on one state directory")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "of contents and of the choice")
	verbose := flags.Bool("v", false, "show what the box prints")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	var plays []play
	for _, f := range faults() {
		for _, w := range whens {
			if !f.happens(w) {
				continue
			}
			if !strings.Contains(f.String(), *only) {
				continue
			}
			plays = append(plays, play{f, cmp.Or(*when, w)})
			if *when != "" {
				break
			}
		}
	}
	rng := rand.New(rand.NewPCG(*seed, 7))
	if *runs > 0 {
		rng.Shuffle(len(plays), func(i, j int) { plays[i], plays[j] = plays[j], plays[i] })
		plays = plays[:min(*runs, len(plays))]
	}
	cameras, err := freeAddress() // the same at each start, for the camera is set up once
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 2
	}
	programs := box.Find(*bin)
	programs.Args = []string{"--ftp", cameras, "--ftp-plain=on"}
	s := faultSettings{programs: programs, acting: *acting, seed: *seed}
	if *verbose {
		s.watch = os.Stderr
	}
	judge := func() (bool, error) { return s.all(ctx, plays, out) }
	if *kills > 0 {
		judge = func() (bool, error) { return s.kill(ctx, *kills, rng, out) }
	}
	bad, err := judge()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 2
	case bad:
		return 1
	}
	return 0
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// A play is a fault at a place.
type play struct {
	fault
	when string
}

func (p play) String() string { return p.fault.String() + " when " + p.when }

type faultSettings struct {
	programs box.Programs
	acting   time.Duration
	seed     uint64
	watch    io.Writer
}

func (s faultSettings) all(ctx context.Context, plays []play, out io.Writer) (bad bool, err error) {
	work, err := os.MkdirTemp("", "faults-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	prepared := filepath.Join(work, "prepared")
	if err := os.MkdirAll(filepath.Join(prepared, "state"), 0o700); err != nil {
		return false, err
	}
	t := &boxTarget{programs: s.programs, seed: s.seed, watch: s.watch}
	before := &histories{}
	none := func() int { return 0 }
	first, err := t.start(ctx, prepared)
	if err != nil {
		return false, err
	}
	if err := first.settle(ctx, before, none); err != nil {
		first.kill()
		return false, err
	}
	camera := first.(*boxServer).camera
	first.kill()

	var acts, refusals, endings, failures int
	for i, p := range plays {
		if err := ctx.Err(); err != nil {
			return bad, err
		}
		dir := filepath.Join(work, fmt.Sprint("run-", i))
		if out, err := exec.CommandContext(ctx, "cp", "-a", prepared, dir).CombinedOutput(); err != nil {
			return bad, fmt.Errorf("cp: %w: %s", err, out)
		}
		r := faultRun{s: s, target: t, dir: dir, camera: camera, hs: &histories{}}
		wrong := r.play(ctx, p)
		acts += len(r.hs.acks())
		refusals += r.hs.unanswered()
		if r.ended {
			endings++
		}
		if len(wrong) > 0 && ctx.Err() == nil {
			failures++
			fmt.Fprintf(out, "faults: %s, seed %d: FAILED\n    %s\n", p, s.seed, strings.Join(wrong[:min(len(wrong), 5)], "\n    "))
		}
		if err := os.RemoveAll(dir); err != nil {
			return bad, err
		}
	}
	fmt.Fprintf(out, "faults: %d faults, %d acknowledged acts, %d refused or unanswered, the box ended with a message %d times, %d failures; seed %d: %s\n",
		len(plays), acts, refusals, endings, failures, s.seed, verdict(failures == 0 && acts > 0))
	return failures > 0 || acts == 0, nil
}

// A faultRun is one play on a copy of the prepared box.
type faultRun struct {
	s      faultSettings
	target *boxTarget
	dir    string
	camera *box.Camera
	hs     *histories
	ended  bool // the box ended by itself, which a fault may make it do
}

// play lets clients act while calls fail, and tells what is wrong afterwards.
func (r *faultRun) play(ctx context.Context, p play) (wrong []string) {
	now := func() int { return int(time.Since(processStart)) }
	r.act(ctx, p, now, &wrong)
	server, err := r.target.start(ctx, r.dir)
	if err != nil {
		return append(wrong, "THE BOX DOES NOT START without the fault: "+err.Error())
	}
	defer server.kill()
	keys := r.hs.keys()
	states := server.observe(ctx, keys)
	end := now()
	for _, key := range keys {
		if allowed, _ := r.hs.of(key).allowed(end); !slices.Contains(allowed, states[key]) {
			wrong = append(wrong, fmt.Sprintf("LOST %.120s: it is %s, may be %s", key, states[key], strings.Join(allowed, " or ")))
		}
	}
	if err := server.judge(ctx); err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

var processStart = time.Now()

func (r *faultRun) act(ctx context.Context, p play, now func() int, wrong *[]string) {
	strace := []string{"strace", "-f", "-qqq", "--seccomp-bpf", "-e", "signal=none", "-e", "trace=" + p.call, "-e", "status=none",
		"-o", "/dev/null", "-e", fmt.Sprintf("inject=%s:error=%s:when=%s", p.call, p.errno, p.when)}
	b, err := r.s.programs.Start(ctx, filepath.Join(r.dir, "state"), r.s.watch, strace...)
	if err != nil {
		r.ended = true
		if crashed(err.Error()) {
			*wrong = append(*wrong, "IT CRASHED at its start: "+err.Error())
		}
		return
	}
	defer b.Kill()
	b.Token = r.target.token
	server := &boxServer{Box: b, target: r.target, camera: r.camera}
	acting, stop := context.WithTimeout(ctx, r.s.acting)
	defer stop()
	done := make(chan struct{})
	clients := server.clients(acting, r.hs, now)
	for _, client := range clients {
		go func() { client(); done <- struct{}{} }()
	}
	for range clients {
		<-done
	}
	// It is still there: it takes a file, or says why not.
	asking, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	content, sum := randomContent(rand.New(rand.NewPCG(r.s.seed, 1<<33)))
	err = server.PutDAV(asking, "after the fault.jpg", content, sum)
	var status *box.StatusError
	select {
	case <-b.Done():
		r.ended = true
	default:
		if err != nil && !errors.As(err, &status) && asking.Err() != nil {
			*wrong = append(*wrong, "IT DOES NOT ANSWER any more: "+err.Error())
		}
	}
	if crashed(b.Output()) {
		*wrong = append(*wrong, "IT CRASHED: "+b.Output())
	}
}

// crashed tells a Go program that broke from one that ended with a message.
func crashed(output string) bool {
	for _, sign := range []string{"panic:", "fatal error:", "SIGSEGV", "SIGBUS", "goroutine "} {
		if strings.Contains(output, sign) {
			return true
		}
	}
	return false
}
