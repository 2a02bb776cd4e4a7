// Powercut cuts the power under the box on a real ext4, XFS and btrfs, and checks
// that everything it had acknowledged is still there (see scripts/powercut --help).
// With faults as its first argument it lets single system calls fail instead (see
// scripts/faults --help).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"yunbox.local/scripts/harness/internal/blockdev"
	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/floor"
)

const usage = `usage: scripts/powercut [flags]

Runs yunboxd on a file system whose disk this program plays, lets clients store,
replace and delete files by every gateway, decide on consents, sign in and out, and
records every block write and every flush. From the recording it rebuilds the disk as it may be after a
power cut at many moments, mounts it, starts yunboxd on it, and compares: each
act that was acknowledged before the cut must have its effect, each file must
have its bytes, what was erased must be in no file, "yunboxctl check --deep" and "yunboxctl audit verify" must be
content, and the box must take a new file. Needs root, /dev/fuse, loop devices.

--each is another test: it records people who use their rights, one act after the other
and nothing else, and cuts the power at every write and every flush of each act. After
each cut what was asked for is done to the end or was not begun, and nothing comes back.
All of that takes hours; --cuts 100 --models drop takes a part.

--long makes 200 cuts by each model on each file system, all at moments when files and
deletions by every gateway, consents, sessions and app tokens were acknowledged, and
ends with a table of what was compared. It takes about half an hour, and less with
--work on a file system in memory.

Exit code: 0 nothing was lost, 1 something was, 2 the test could not be run.

`

func main() {
	if len(os.Args) > 1 && os.Args[1] == "floor" { // the server of --self-test, run by this program itself
		if err := floor.Main(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	program, args := run, os.Args[1:]
	if len(args) > 0 && args[0] == "faults" { // scripts/faults: the same clients and histories, another harm
		program, args = faultsMain, args[1:]
	}
	code := program(ctx, args, os.Stdout)
	stop()
	os.Exit(code)
}

// settings are the flags.
type settings struct {
	fileSystems []string
	models      []blockdev.Model
	cuts        int // of a recording
	rounds      int // recordings on each file system
	early       int // more cuts of a recording, before something of each row is acknowledged
	record      time.Duration
	size        int64
	seed        uint64
	flushDelay  time.Duration
	eioAfter    int
	eioCount    int
	keep        bool
	erasing     bool
	each        bool
	watch       io.Writer
	work        string
	out         io.Writer
}

func run(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("powercut", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	bin := flags.String("bin", "var/bin", "yunboxd and yunboxctl are in this `directory`")
	fileSystems := flags.String("fs", strings.Join(blockdev.FileSystems(), ","), "file systems")
	models := flags.String("models", "drop,torn,rand,keep", "what became of the writes since the last flush: drop (none arrived), keep (all), rand (some), torn (some, and in part)")
	cuts := flags.Int("cuts", 8, "power cuts per file system")
	record := flags.Duration("for", 3*time.Second, "how long clients act before the cuts are made from the recording")
	long := flags.Bool("long", false, "the thorough run: on each file system 5 recordings of 3 s and 160 cuts of each, and a table of what was compared")
	size := flags.Int64("size", 512, "size of the disk in MiB; a small one is full before the end")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "of contents and cuts")
	flushDelay := flags.Duration("flush-delay", 0, "each flush of the disk takes this long, as on a hard disk (10ms)")
	eioAfter := flags.Int("eio-after", 0, "with --eio-count: block writes that succeed before they fail")
	eioCount := flags.Int("eio-count", 0, "so many block writes fail: a dying disk")
	selfTest := flags.Bool("self-test", false, "show that the test can fail: run it on a server that syncs all, and on ones that forget to sync the name, the data, the row")
	erasing := flags.Bool("erase", false, "people also have data erased and accounts removed: what the box said is gone may be in no file of it")
	each := flags.Bool("each", false, "instead: one person after the other withdraws, deletes, has data erased, cancels, hands the box over, and the keys are changed; the power is cut at every block write and flush of each of these acts, or with --cuts at so many of them")
	keep := flags.Bool("keep", false, "keep the disks of bad cuts")
	verbose := flags.Bool("v", false, "show what the server prints")
	work := flags.String("work", "", "make the disks below this `directory` (default: a temporary one)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	s := settings{
		fileSystems: strings.Split(*fileSystems, ","), rounds: 1, cuts: *cuts, record: *record, size: *size << 20,
		seed: *seed, flushDelay: *flushDelay, eioAfter: *eioAfter, eioCount: *eioCount, keep: *keep, erasing: *erasing, each: *each, out: out,
	}
	if s.each && !isSet(flags, "cuts") {
		s.cuts = 0
	}
	if *long {
		s.rounds, s.cuts, s.early, s.record = 5, 40*len(blockdev.Models()), 4, 3*time.Second
	}
	if *verbose {
		s.watch = os.Stderr
	}
	for _, m := range strings.Split(*models, ",") {
		if !slices.Contains(blockdev.Models(), blockdev.Model(m)) {
			fmt.Fprintf(os.Stderr, "powercut: no model %q\n", m)
			return 2
		}
		s.models = append(s.models, blockdev.Model(m))
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "powercut: it needs root: loop devices, mount, FUSE. Try: sudo scripts/powercut")
		return 2
	}
	var err error
	if s.work, err = os.MkdirTemp(*work, "powercut-"); err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
		return 2
	}
	defer func() {
		if !s.keep {
			_ = os.RemoveAll(s.work) // a temporary directory
		}
	}()
	judge := s.all
	if *selfTest {
		judge = s.selfTest
	}
	programs := box.Find(*bin)
	programs.Args = []string{"--ftp", "127.0.0.1:0", "--ftp-plain=on"}
	switch lost, err := judge(ctx, programs); {
	case err != nil:
		fmt.Fprintln(os.Stderr, "powercut:", err)
		return 2
	case lost:
		return 1
	}
	return 0
}

// all cuts the power under the box on each file system.
func (s settings) all(ctx context.Context, programs box.Programs) (bad bool, err error) {
	var sum outcome
	for round := 0; round < s.rounds && ctx.Err() == nil; round++ {
		for i, fsType := range s.fileSystems {
			one := boxTarget{programs: programs, seed: s.seed + uint64(round*len(s.fileSystems)+i), work: s.work, watch: s.watch, erasing: s.erasing}
			t := target(&one)
			if s.each {
				t = &eachTarget{boxTarget: one}
			}
			o, err := s.cutOn(ctx, fsType, t)
			sum.add(o)
			if ctx.Err() != nil {
				fmt.Fprintln(s.out, "interrupted; so far:")
				sum.unhappy++
				break
			} else if err != nil {
				return false, fmt.Errorf("%s: %w", fsType, err)
			}
			if s.rounds > 1 {
				fmt.Fprintf(s.out, "%s, recording %d of %d: %s\n", fsType, round+1, s.rounds, o)
			}
		}
	}
	if s.rounds > 1 {
		sum.tally.print(s.out, s.fileSystems, s.models)
		if least := sum.tally.least(s.fileSystems, s.models); least < s.rounds*s.cuts/len(s.models) {
			sum.unhappy++
			fmt.Fprintf(s.out, "some row says something about %d cuts of a model on a file system only\n", least)
		}
	}
	fmt.Fprintf(s.out, "powercut: %s; %s; seed %d: %s\n", strings.Join(s.fileSystems, " "), sum, s.seed, verdict(!sum.bad()))
	return sum.bad(), nil
}

// selfTest runs the same on the floor program: where it forgets a step it must be
// caught, and pass where it does not.
func (s settings) selfTest(ctx context.Context, _ box.Programs) (bad bool, err error) {
	for _, fsType := range s.fileSystems {
		for _, fault := range floor.Faults() {
			var o outcome
			for try := range uint64(5) { // a few cuts may all come where they show nothing
				quiet := s
				quiet.out, quiet.seed = io.Discard, s.seed+try
				if o, err = quiet.cutOn(ctx, fsType, &floorTarget{fault: fault, seed: quiet.seed, work: s.work, watch: s.watch}); err != nil {
					return false, fmt.Errorf("%s, fault %s: %w", fsType, fault, err)
				}
				if o.lost+o.unhappy > 0 || o.checks > 0 && !fault.Forgets() {
					break
				}
			}
			right := o.bad() == fault.Forgets()
			bad = bad || !right
			fmt.Fprintf(s.out, "powercut self-test: %-5s fault %-6s: %s: %s\n", fsType, fault, o, verdict(right))
		}
	}
	return bad, nil
}

func isSet(flags *flag.FlagSet, name string) (set bool) {
	flags.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func verdict(good bool) string {
	if good {
		return "ok"
	}
	return "FAILED"
}

// outcome is what the cuts of a recording showed.
type outcome struct {
	acts, cuts, checks, lost int
	unhappy                  int // cuts after which the server did not start, or its own check complained
	unmountable              int // not the server's doing, but nothing was checked
	slowest                  time.Duration
	tally                    tally
}

func (o outcome) bad() bool { return o.lost > 0 || o.unhappy > 0 || o.checks == 0 }

func (o *outcome) add(p outcome) {
	o.acts += p.acts
	o.cuts += p.cuts
	o.checks += p.checks
	o.lost += p.lost
	o.unhappy += p.unhappy
	o.unmountable += p.unmountable
	o.slowest = max(o.slowest, p.slowest)
	o.tally.add(p.tally)
}

func (o outcome) String() string {
	text := fmt.Sprintf("%d acknowledged acts, %d cuts, %d checks, lost %d, slowest restart %v", o.acts, o.cuts, o.checks, o.lost, o.slowest.Round(time.Millisecond))
	if o.unhappy > 0 {
		text += fmt.Sprintf(", %d times the server did not start or found damage", o.unhappy)
	}
	if o.unmountable > 0 {
		text += fmt.Sprintf(", %d times the file system itself did not mount", o.unmountable)
	}
	return text
}

// A cut is the power going away after a record.
type cut struct {
	at    int
	model blockdev.Model
}

// choose spreads cuts over the recording: half at an acknowledgement, the moment
// that hurts most, and the others anywhere. One is at the moment the server had
// settled, and if some are to be early the others are after everything was ready.
func (s settings) choose(first, ready, end int, acks []int, rng *rand.Rand) []cut {
	spread := func(cuts []cut, n, from, to int) []cut {
		low, _ := slices.BinarySearch(acks, from)
		high, _ := slices.BinarySearch(acks, to+1)
		for i := range n {
			at := from + rng.IntN(to-from+1)
			if i%2 == 0 && high > low {
				at = acks[low+rng.IntN(high-low)]
			}
			cuts = append(cuts, cut{at, s.models[i/2%len(s.models)]})
		}
		return cuts
	}
	cuts := []cut{{first, s.models[0]}}
	if s.early == 0 {
		cuts = spread(cuts, s.cuts-1, first, end)
	} else {
		cuts = spread(cuts, s.early-1, first, max(ready, first))
		cuts = spread(cuts, s.cuts, max(ready, first), end)
	}
	slices.SortStableFunc(cuts, func(a, b cut) int { return a.at - b.at })
	return cuts
}

// cutOn records a target at work on a file system and replays cuts.
func (s settings) cutOn(ctx context.Context, fsType string, t target) (o outcome, err error) {
	dir, err := os.MkdirTemp(s.work, fsType+"-")
	if err != nil {
		return o, err
	}
	defer func() {
		if !s.keep {
			_ = os.RemoveAll(dir) // a temporary directory
		}
	}()
	hs := &histories{}
	recording, first, err := s.recordOn(ctx, dir, fsType, t, hs)
	if err != nil {
		return o, err
	}
	defer func() { _ = recording.Close() }()
	acks := hs.acks()
	o.acts = len(acks)
	writes, flushes, bytes := recording.Totals()
	fmt.Fprintf(s.out, "%s: %d acknowledged acts in %v, %d without an answer; %d block writes, %d flushes, %.1f MB\n", fsType, len(acks), s.record, hs.unanswered(), writes, flushes, float64(bytes)/1e6)
	ways, idle := hs.ways()
	rng := rand.New(rand.NewPCG(s.seed, uint64(len(fsType))))
	cuts := s.choose(first, hs.ready(), recording.Pos(), acks, rng)
	if t, ok := t.(*eachTarget); ok {
		cuts = t.everywhere(recording, s.models, s.cuts, rng)
		fmt.Fprintf(s.out, "%s: cuts by act: %s\n", fsType, t.tell(cuts))
	} else {
		fmt.Fprintf(s.out, "%s: files acknowledged by %s\n", fsType, ways)
	}
	if len(idle) > 0 && s.eioCount == 0 {
		o.unhappy++
		fmt.Fprintf(s.out, "%s: nothing came by %s, so nothing is known about it\n", fsType, strings.Join(idle, ", "))
	}
	for i, c := range cuts {
		if err := ctx.Err(); err != nil {
			return o, err
		}
		if err := s.replay(ctx, dir, fsType, t, hs, recording, i, c, rng, &o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// recordOn lets the clients act on a new disk. first is the position at which the
// server had settled.
func (s settings) recordOn(ctx context.Context, dir, fsType string, t target, hs *histories) (r *blockdev.Recording, first int, err error) {
	disk, err := blockdev.New(dir, s.size, s.flushDelay)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if err := blockdev.Format(fsType, disk.Image()); err != nil {
		return nil, 0, err
	}
	if r, err = disk.Record(filepath.Join(dir, "log"), filepath.Join(dir, "base.img")); err != nil {
		return nil, 0, err
	}
	mount, err := blockdev.MountFile(fsType, disk.Path(), filepath.Join(dir, "mnt"))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, mount.Unmount()) }()
	state := filepath.Join(mount.Dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, 0, err
	}
	if err := syncFS(mount.Dir); err != nil { // the state directory itself was there before the server
		return nil, 0, err
	}
	server, err := t.start(ctx, mount.Dir)
	if err != nil {
		return nil, 0, err
	}
	defer server.kill()
	if err := server.settle(ctx, hs, r.Pos); err != nil {
		return nil, 0, err
	}
	first = r.Pos()
	disk.FailWrites(s.eioAfter, s.eioCount)
	acting, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	clients := server.clients(acting, hs, r.Pos)
	for _, client := range clients {
		go func() { client(); done <- struct{}{} }()
	}
	began := time.Now()
	if !s.each {
		pause(ctx, s.record)
	}
	for !s.each && s.eioCount == 0 && ctx.Err() == nil && time.Since(began) < patience && !s.enough(hs) {
		pause(ctx, 100*time.Millisecond)
	}
	if !s.each {
		stop()
	}
	for range clients {
		<-done
	}
	disk.StopRecording()
	if each, ok := server.(*eachServer); ok && each.problem != nil && ctx.Err() == nil {
		return nil, 0, each.problem
	}
	return r, first, ctx.Err()
}

// enough tells whether the recording says something of all that it is made for.
func (s settings) enough(hs *histories) bool {
	if s.rounds > 1 {
		return hs.complete()
	}
	_, idle := hs.ways()
	return len(idle) == 0 && (!s.erasing || hs.acknowledged("erasure", "cancellation"))
}

// patience is how long a busy computer may take for a recording of which each row of
// the table has something.
const patience = 2 * time.Minute

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// replay makes one cut and compares what is there with what was acknowledged.
func (s settings) replay(ctx context.Context, dir, fsType string, t target, hs *histories, r *blockdev.Recording, number int, c cut, rng *rand.Rand, o *outcome) (err error) {
	image := filepath.Join(dir, fmt.Sprintf("cut-%d.img", number))
	unflushed, kept, err := r.Cut(image, c.at, c.model, rng)
	if err != nil {
		return err
	}
	bad := false
	defer func() {
		if !bad || !s.keep {
			err = errors.Join(err, os.Remove(image))
		} else {
			fmt.Fprintln(s.out, "    the disk is kept:", image)
		}
	}()
	o.cuts++
	report := func(format string, args ...any) {
		bad = true
		fmt.Fprintf(s.out, "%s cut %d at %d/%d, %s, %d of %d unflushed writes kept: %s\n", fsType, number, c.at, r.Pos(), c.model, kept, unflushed, fmt.Sprintf(format, args...))
	}
	mount, err := blockdev.MountFile(fsType, image, filepath.Join(dir, "mnt"))
	if errors.Is(err, blockdev.ErrMount) {
		o.unmountable++
		report("%v", err)
		return nil
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount()) }()
	began := time.Now()
	server, err := t.start(ctx, mount.Dir)
	if ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		o.unhappy++
		report("THE SERVER DOES NOT START: %v", err)
		return nil
	}
	defer server.kill()
	o.slowest = max(o.slowest, time.Since(began))
	var lost []string
	keys := hs.keys()
	states := server.observe(ctx, keys)
	if err := ctx.Err(); err != nil {
		return err // what was not asked is not lost
	}
	compared := map[string]int{}
	for _, key := range keys {
		allowed, row := hs.of(key).allowed(c.at)
		if row != "" {
			o.checks++
			compared[row]++
		}
		if !slices.Contains(allowed, states[key]) {
			lost = append(lost, fmt.Sprintf("%.120s is %s, may be %s", key, states[key], strings.Join(allowed, " or ")))
		}
	}
	o.tally.count(fsType, c.model, compared)
	if len(lost) > 0 {
		o.lost += len(lost)
		report("LOST %d:\n    %s", len(lost), strings.Join(lost[:min(len(lost), 3)], "\n    "))
	}
	if err := server.judge(ctx); err != nil && ctx.Err() == nil {
		o.unhappy++
		report("%v", err)
	}
	return ctx.Err()
}
