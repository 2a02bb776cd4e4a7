package main

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// A watchdog tells the service manager that the box lives (sd_watchdog_enabled(3)), a
// third of the time after which that would kill us. It is silent when the box that runs
// does not answer, and when the question does not end.
type watchdog struct {
	every time.Duration // 0: nobody wants to know
	log   *slog.Logger
	// alive asks the box. nil: none runs now. It is being opened or closed, it waits for its disk
	// or for a rebuild: that may take long, and no restart makes it shorter.
	alive atomic.Pointer[func(context.Context) error]
}

func newWatchdog(log *slog.Logger) *watchdog {
	w := &watchdog{log: log}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		w.every = time.Duration(usec) * time.Microsecond / 3
	}
	return w
}

// run pings until ctx ends.
func (w *watchdog) run(ctx context.Context) {
	if w.every == 0 {
		return
	}
	wait := time.NewTicker(w.every)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if err := w.ask(ctx); ctx.Err() != nil {
			return
		} else if err != nil {
			w.log.Error("the box does not answer itself; the service manager restarts it if that goes on", "err", err)
		} else if err := notify("WATCHDOG=1"); err != nil {
			w.log.Warn("the service manager could not be told", "err", err)
		}
	}
}

func (w *watchdog) ask(ctx context.Context) error {
	alive := w.alive.Load()
	if alive == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.every)
	defer cancel()
	if err := (*alive)(ctx); w.alive.Load() == alive {
		return err
	}
	return nil // it was closed meanwhile
}
