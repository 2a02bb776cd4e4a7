package main

import (
	"context"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"yunbox.local/daemon/problem"
)

const (
	// rescan is how often --watch looks at everything: notifications get lost.
	rescan = 15 * time.Minute
	// quietFor is how long nothing must happen before a changed folder is pushed, and
	// how long a file must not have changed: a camera app is still writing.
	quietFor = 2 * time.Second
	// atMost bounds that wait where something always happens.
	atMost = 30 * time.Second
	// awayFor is the longest wait before a box that was away is tried again.
	awayFor = time.Minute
)

// A watch is what --watch keeps from one push to the next.
type watch struct {
	again     bool        // the folder was pushed once: what is as it was is not told again
	warned    bool        // it was told that the box's record does not hold
	retrying  bool        // this round failed before, for a reason that passes
	unsettled atomic.Bool // files were left for later, because they had just changed
}

// settled reports whether a file is old enough to be taken. A clock that is ahead,
// a camera's or a server's, does not keep a file out.
func (w *watch) settled(id fileID) bool {
	age := time.Since(time.Unix(0, max(id.mtime, id.ctime)))
	if age >= quietFor || age <= -quietFor {
		return true
	}
	w.unsettled.Store(true)
	return false
}

// watch pushes, waits for a change or for the next look, and pushes again, until
// ctx ends or a person has to decide something. Notifications are a hint only.
func (p *pusher) watch(ctx context.Context) error {
	p.watching = &watch{}
	if err := p.whileAway(ctx, func() error { return p.introduce(ctx) }); err != nil || ctx.Err() != nil {
		return ended(ctx, err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		p.app.warn("changes are not noticed at once (%v); looking every %s", err, rescan)
	} else {
		defer w.Close()
	}
	for {
		if w != nil {
			p.addFolders(w)
		}
		p.watching.unsettled.Store(false)
		clear(p.sent)
		err := p.whileAway(ctx, func() error { _, err := p.run(ctx); return err })
		if err != nil || ctx.Err() != nil {
			return ended(ctx, err)
		}
		p.watching.again = true
		if err := p.keepRecord(ctx); err != nil && !p.watching.warned {
			p.watching.warned = true // backing up goes on
			p.app.complain(err)
		}
		if !p.waitForChange(ctx, w) {
			return nil
		}
	}
}

// ended is how a watch ends: from outside it ends well.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// whileAway repeats do while the box is away, is full or is busy with the same
// folder: that passes by itself, and is said once until it has passed.
func (p *pusher) whileAway(ctx context.Context, do func() error) error {
	var told problem.Kind
	for wait := newBackoff(); ; {
		p.alive.beat()
		err := do()
		kind := problem.KindOf(err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if told != "" {
				p.away("back", nil)
			}
			p.watching.retrying = false
			return nil
		case !passes(err):
			return err
		}
		p.watching.retrying = true
		if told != kind {
			told = kind
			p.away("away", err)
		}
		t := time.NewTimer(min(max(wait.next(), problem.As(err).RetryAfter), awayFor))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// passes reports whether err is of a kind that ends without anybody's decision.
func passes(err error) bool {
	switch problem.KindOf(err) {
	case problem.Unavailable, problem.RateLimited, problem.Full, problem.Quota, problem.Locked:
		return true
	}
	return false
}

// away tells that the box takes nothing for now, or again.
func (p *pusher) away(event string, err error) {
	if p.app.json {
		line := map[string]any{"event": event}
		if err != nil {
			line["kind"], line["reason"] = problem.KindOf(err), problem.As(err).Title
		}
		p.app.encode(p.app.stdout, line)
		return
	}
	if err != nil {
		p.app.complain(p.explain(err))
		p.app.warn("waiting; it goes on by itself")
		return
	}
	p.app.warn("the box takes files again")
}

// addFolders watches every folder; what is watched already stays.
func (p *pusher) addFolders(w *fsnotify.Watcher) {
	skip := &walker{exclude: p.opt.exclude}
	err := filepath.WalkDir(p.root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // the walk of the push reports it
		}
		if !d.IsDir() {
			return nil
		}
		if rel, err := filepath.Rel(p.root, name); err == nil && rel != "." && skip.excluded(filepath.ToSlash(rel)) {
			return fs.SkipDir
		}
		return w.Add(name)
	})
	if err != nil && !p.watching.again {
		p.app.warn("not all changes are noticed at once (%v); looking every %s", err, rescan)
	}
}

// waitForChange returns true when it is time to push again.
func (p *pusher) waitForChange(ctx context.Context, w *fsnotify.Watcher) bool {
	look := rescan
	if p.watching.unsettled.Load() {
		look = quietFor
	}
	next := time.NewTimer(look)
	defer next.Stop()
	var events chan fsnotify.Event
	var errs chan error
	if w != nil {
		events, errs = w.Events, w.Errors
	}
	select {
	case <-ctx.Done():
		return false
	case <-next.C:
		return true
	case <-errs: // overflow: look at everything
	case <-events:
	}
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	quiet := time.NewTimer(quietFor)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-limit.C:
			return true
		case <-quiet.C:
			return true
		case <-errs:
		case <-events:
			quiet.Reset(quietFor)
		}
	}
}
