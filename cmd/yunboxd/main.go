// Command yunboxd is the firmware daemon of a private-cloud storage box. Its
// settings are those of daemon/config; its exit codes are in docs/exit-codes.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/pflag"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/problem"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := config.Flags()
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "yunboxd keeps a box's files. Settings come from flags, YUNBOX_… variables and --config, in this order.\n\n%s", flags.FlagUsages())
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return problem.ExitOK
	case err != nil:
		return fail(stderr, &config.Error{Err: err})
	case flags.NArg() > 0:
		return fail(stderr, &config.Error{Err: fmt.Errorf("%q is not a setting", flags.Arg(0))})
	}
	if v, _ := flags.GetBool("version"); v {
		fmt.Fprintln(stdout, "yunboxd", daemon.Version)
		return problem.ExitOK
	}
	conf, err := config.Load(flags)
	if err != nil {
		return fail(stderr, err)
	}
	log := daemon.Log(stderr, conf.LogFormat)
	conf = daemon.LimitMemory(conf, log)
	if err := serve(ctx, conf, log); err != nil {
		log.Error("stopped", "err", err)
		return fail(stderr, err)
	}
	return problem.ExitOK
}

// serve runs the box, and in its place the rescue of its records where these cannot
// be used, until ctx ends.
func serve(ctx context.Context, conf config.Config, log *slog.Logger) error {
	passed, err := inherited(log)
	if err != nil {
		return err
	}
	opt := daemon.Options{Config: conf, Log: log, Listen: passed.listen}
	dog := newWatchdog(log)
	var walk sync.WaitGroup
	walking, stop := context.WithCancel(context.WithoutCancel(ctx)) // a box that stops is watched, too
	walk.Go(func() { dog.run(walking) })
	defer walk.Wait()
	defer stop()
	for {
		err := serveBox(ctx, &opt, dog)
		if errors.Is(err, daemon.ErrWritable) && ctx.Err() == nil {
			continue
		}
		if !errors.Is(err, daemon.ErrRebuild) && !daemon.NeedsRebuild(err) {
			return err
		}
		log.Error("nobody is served until the records were rebuilt", "err", err)
		report, err := daemon.Rescue(ctx, opt, err, func() { tellReady(ctx, log) })
		if err != nil || ctx.Err() != nil {
			return err
		}
		opt.Rebuilt = report
	}
}

// serveBox returns daemon.ErrWritable when the box is to be opened again, on the
// same addresses: its disk was away or could only be read, and has come back.
func serveBox(ctx context.Context, opt *daemon.Options, dog *watchdog) error {
	box, err := daemon.Open(ctx, *opt)
	if err != nil {
		return err
	}
	alive := box.Alive
	err = box.Run(ctx, func() {
		opt.Log.Info("ready", "version", daemon.Version, "addresses", box.URLs())
		tellReady(ctx, opt.Log)
		dog.alive.Store(&alive)
		context.AfterFunc(ctx, func() { dog.alive.Store(nil) }) // it hangs up by itself now
	})
	dog.alive.Store(nil)
	opt.Rebuilt = nil
	away := errors.Is(err, daemon.ErrAway)
	if !away && !errors.Is(err, daemon.ErrWritable) {
		return errors.Join(err, box.Close())
	}
	opt.Log.Error("the box is closed for now", "err", err)
	opt.Config = box.Config()
	if failed := box.Close(); failed != nil {
		opt.Log.Warn("not everything could be closed as usual", "err", failed)
	}
	if away {
		if err := box.Await(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return daemon.ErrWritable
}

func tellReady(ctx context.Context, log *slog.Logger) {
	if err := notify("READY=1"); err != nil {
		log.Warn("the service manager could not be told", "err", err)
	}
	context.AfterFunc(ctx, func() { notify("STOPPING=1") }) // a courtesy: it shows "stopping"
}

func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "yunboxd:", problem.Sentence(err))
	var c *config.Error
	if errors.As(err, &c) {
		fmt.Fprintln(stderr, "yunboxd --help lists the settings")
		return problem.ExitUsage
	}
	return problem.ExitCode(err)
}
