// Bench runs the box against a floor program and its peers, side by side on this
// machine with the same files (see scripts/bench --help).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"yunbox.local/scripts/harness/internal/blockdev"
	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/floor"
)

const usage = `usage: scripts/bench [flags] [STAGE …]

Stages (default: all):
  small    small files, 8 at a time, each acknowledged: box, floor and peers
  lone     the same, one at a time: nothing may wait for a timer
  slow     the same with every flush of the disk slowed to 10 ms: box and floor
  large    one large file
  gateways 8 cameras (FTP, FTPS) and 4 phones (WebDAV) together, and one of each
           alone
  cuts     one cut in the middle of a film: what each gateway is sent twice
  memory   the box's resident memory while it takes 10,000 files, and one 4 GB file
  rerun    the same backup twice: yunboxctl push, restic, rsync
  dedup    finding duplicates, cold and again: the box, jdupes, rdfind, rmlint, duperemove
  giant    the box's memory while it takes one file of 20 GB by each gateway; only
           if it is named, as it needs as much room below --work and some minutes
  soak     a box with 64 MiB of memory in all takes 100,000 files by every gateway:
           what grows, what it does when idle, and how long its start takes after
           it was killed at work; only if it is named
  export   a box with 512 MiB of memory in all gives a person a million files: the
           list, the archive, cut off in the middle and gone on with, and what
           another box takes of it; only if it is named
  syncs    whether a server syncs before it answers (by strace)

The floor is a program that only receives, hashes, writes, syncs and commits one
row per file, each on its own. Contenders take turns, and medians are compared,
since a machine is never quiet. Nothing here passes or fails: read the ratios.

`

func main() {
	if len(os.Args) > 1 && os.Args[1] == "floor" { // a contender, run by this program itself
		if err := floor.Main(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is the plan of one call.
type bench struct {
	race
	work   string
	place  place     // where runs keep their data
	out    io.Writer // for people
	report report
	seed   uint64
	disk   *blockdev.Disk // the slowed disk, while the stage that uses it runs

	smallFiles, smallRounds int
	largeBytes              int64
	largeRounds             int
	slowFiles, loneFiles    int
	manyFiles               int
	hugeBytes               int64
	rerunFiles              int
	equalFiles              int
	partyTime               time.Duration
	giantBytes              int64
	soakFiles               int
	idle                    time.Duration
	exportFiles             int
	importFor               time.Duration
	without                 []string
	streams                 int
}

const lanes = 8 // uploads at a time

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	bin := flags.String("bin", "var/bin", "yunboxd and yunboxctl are in this `directory`")
	tusd := flags.String("tusd", "tusd", "the tusd `program`")
	quick := flags.Bool("quick", false, "fewer and smaller files, one round: about two minutes")
	asJSON := flags.Bool("json", false, "print the report as JSON (what people read goes to stderr)")
	work := flags.String("work", "/var/tmp", "keep all data below this `directory`")
	disk := flags.String("disk", "image", "where a run writes: image (a fresh ext4 in a file below --work), ram (the same in memory: flushes cost nothing) or folder (a directory below --work)")
	rounds := flags.Int("rounds", 0, "let the contenders take this many turns (0: three, with --quick one)")
	without := flags.String("without", "", "leave these contenders out (names, with commas; of the stage giant: gateways)")
	soakFiles := flags.Int("soak", 100_000, "`files` of the stage soak")
	idle := flags.Duration("idle", time.Minute, "how long that box is watched at rest afterwards; 0: not")
	exportFiles := flags.Int("export", 1_000_000, "`files` of the stage export")
	importFor := flags.Duration("import-for", time.Hour, "break that stage's import off after so long")
	streams := flags.Int("streams", 2, "`requests` at a time that carry many files each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &bench{
		out: os.Stdout, seed: uint64(time.Now().UnixNano()),
		smallFiles: 2000, smallRounds: 3, largeBytes: 2 << 30, largeRounds: 3, slowFiles: 400, loneFiles: 200,
		manyFiles: 10_000, hugeBytes: 4 << 30, rerunFiles: 5000, equalFiles: 50_000,
		partyTime: 8 * time.Second, giantBytes: 20_000_000_000,
		without: strings.Split(*without, ","), soakFiles: *soakFiles, idle: *idle, streams: *streams,
		exportFiles: *exportFiles, importFor: *importFor,
	}
	if *quick {
		b.smallFiles, b.smallRounds, b.largeBytes, b.largeRounds = 600, 1, 512<<20, 1
		b.slowFiles, b.loneFiles, b.manyFiles, b.hugeBytes, b.rerunFiles, b.equalFiles = 160, 60, 3000, 1<<30, 1000, 10_000
		b.partyTime, b.giantBytes = 3*time.Second, 2_000_000_000
	}
	if *rounds > 0 {
		b.smallRounds, b.largeRounds = *rounds, *rounds
	}
	if *asJSON {
		b.out = os.Stderr
	}
	if b.work, err = os.MkdirTemp(*work, "yunbox-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	cert, key, err := floor.Certificate(b.work)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(cert)
	if err != nil {
		return err
	}
	programs := box.Find(*bin)
	b.race = race{programs: programs, tusd: *tusd, cert: cert, key: key, ca: ca}
	b.report.Machine = machine(b.work)
	fmt.Fprintf(b.out, "%s\n", b.report.Machine)
	leave, err := b.prepare(*disk, max(b.largeBytes, b.hugeBytes)+2<<30)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	stages := []stage{
		{"small", b.small}, {"lone", b.lone}, {"slow", b.slow}, {"large", b.large},
		{"gateways", b.gateways}, {"cuts", b.cuts}, {"memory", b.memory}, {"rerun", b.rerun}, {"dedup", b.dedup}, {"syncs", b.syncStage},
		{"giant", b.giant}, {"soak", b.soak}, {"export", b.export},
	}
	for _, name := range flags.Args() {
		if !slices.ContainsFunc(stages, func(s stage) bool { return s.name == name }) {
			return fmt.Errorf("no stage %q (see --help)", name)
		}
	}
	for _, s := range stages {
		if flags.NArg() > 0 && !slices.Contains(flags.Args(), s.name) || flags.NArg() == 0 && slices.Contains([]string{"giant", "soak", "export"}, s.name) {
			continue
		}
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.report.Seconds = time.Since(b.report.Machine.Date).Seconds()
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(b.report)
	}
	return nil
}

// prepare makes the disk that runs use; leave takes it away.
func (b *bench) prepare(disk string, size int64) (leave func() error, err error) {
	leave = func() error { return nil }
	if os.Geteuid() != 0 && disk != "folder" {
		disk = "folder"
		b.note("Not root, so all runs share a file system, and later ones pay for what earlier ones deleted.")
	}
	b.report.Machine.Disk = disk
	file := filepath.Join(b.work, "disk.img")
	switch disk {
	case "folder":
		b.place = folder(filepath.Join(b.work, "run"))
		return leave, nil
	case "ram":
		ram := filepath.Join(b.work, "ram")
		if err := blockdev.MountRAM(ram, size+1<<20); err != nil {
			return leave, err
		}
		leave = func() error { return blockdev.UnmountRAM(ram) }
		file = filepath.Join(ram, "disk.img")
		b.place = fresh(file, file, filepath.Join(b.work, "mnt"))
	case "image":
		b.place = fresh(file, file, filepath.Join(b.work, "mnt"), "--direct-io=on")
	default:
		return leave, fmt.Errorf("no disk %q: image, ram or folder", disk)
	}
	return leave, image(file, size)
}

type stage struct {
	name string
	run  func(context.Context) error
}

// all lists the contenders of the small-file race, the box and the floor first.
func (b *bench) all() []contender {
	return b.admitted(append([]contender{b.box(), b.boxMany(b.streams), b.floor("floor")}, b.peers()...)...)
}

func (b *bench) peers() []contender {
	return []contender{b.rcloneWebDAV(), b.rcloneRestic(), b.nginx(), b.tus(), b.samba(), b.rsync(), b.rsyncTLS()}
}

func (b *bench) admitted(all ...contender) []contender {
	return slices.DeleteFunc(all, func(c contender) bool { return slices.Contains(b.without, c.name) })
}

// turns lets contenders take a corpus in turn, round after round.
func (b *bench) turns(ctx context.Context, title string, contenders []contender, load *corpus, rounds int, at place) error {
	runs := make([][]result, len(contenders))
	failed := make([]error, len(contenders))
	for range rounds {
		for i, c := range contenders {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := b.upload(ctx, c, load, at)
			if err != nil {
				failed[i] = err
				continue
			}
			runs[i] = append(runs[i], r)
		}
	}
	t := table{Title: title, Files: load.count, Bytes: load.bytes}
	for i, c := range contenders {
		if failed[i] != nil {
			t.Results = append(t.Results, result{Contender: c.name, How: c.how, Err: failed[i].Error()})
			continue
		}
		t.Results = append(t.Results, median(runs[i]))
	}
	b.publish(t)
	return nil
}

func (b *bench) publish(t table) {
	b.report.Tables = append(b.report.Tables, t)
	t.print(b.out)
}

func (b *bench) smallCorpus(name string, count int) (*corpus, error) {
	return makeCorpus(filepath.Join(b.work, name), count, lanes, 20_000, 200_000, b.seed)
}

func (b *bench) small(ctx context.Context) error {
	load, err := b.smallCorpus("small", b.smallFiles)
	if err != nil {
		return err
	}
	defer load.remove()
	return b.turns(ctx, fmt.Sprintf("Small files, %d at a time", lanes), b.all(), load, b.smallRounds, b.place)
}

func (b *bench) lone(ctx context.Context) error {
	load, err := b.smallCorpus("lone", b.loneFiles*lanes)
	if err != nil {
		return err
	}
	defer load.remove()
	return b.turns(ctx, "Small files, one at a time", b.admitted(b.box(), b.floor("floor")), load.alone(b.loneFiles), 3, b.place)
}

// slow measures on a disk each flush of which takes 10 ms.
func (b *bench) slow(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		b.note("The slow disk was left out: it needs root.")
		return nil
	}
	load, err := b.smallCorpus("slow", b.slowFiles)
	if err != nil {
		return err
	}
	defer load.remove()
	disk, err := blockdev.New(filepath.Join(b.work, "slow"), 4<<30, 10*time.Millisecond)
	if err != nil {
		return err
	}
	b.disk = disk
	defer func() {
		b.disk = nil
		err = errors.Join(err, disk.Close(), os.RemoveAll(filepath.Join(b.work, "slow")))
	}()
	at := fresh(disk.Image(), disk.Path(), filepath.Join(b.work, "slow-mnt"))
	return b.turns(ctx, fmt.Sprintf("Small files, %d at a time, every flush takes 10 ms", lanes), b.admitted(b.box(), b.floor("floor")), load, b.smallRounds, at)
}

func (b *bench) large(ctx context.Context) error {
	load, err := makeCorpus(filepath.Join(b.work, "large"), 1, 1, b.largeBytes, b.largeBytes, b.seed)
	if err != nil {
		return err
	}
	defer load.remove()
	contenders := []contender{b.box(), b.floor("floor"), b.floor("floor hashing beside", "--pipeline")}
	contenders = append(contenders, b.peers()...)
	return b.turns(ctx, "One large file", b.admitted(contenders...), load, b.largeRounds, b.place)
}

func (b *bench) syncStage(ctx context.Context) error {
	load, err := b.smallCorpus("syncs", 12*lanes)
	if err != nil {
		return err
	}
	defer load.remove()
	one := load.alone(12)
	t := table{Title: "Does it sync before it answers? (12 files, one at a time)", Files: one.count, Bytes: one.bytes}
	for _, c := range b.all() {
		r := result{Contender: c.name, How: c.how}
		if r.Syncs, err = b.syncs(ctx, c, one); err != nil {
			r.Err = err.Error()
		}
		t.Results = append(t.Results, r)
	}
	b.publish(t)
	return nil
}
