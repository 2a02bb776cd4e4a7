package main

import (
	"context"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"yunbox.local/daemon/problem"
)

const (
	// rescan is how often --watch looks at everything: notifications get lost.
	rescan = 15 * time.Minute
	// quietFor is how long nothing must happen before a changed folder is pushed: a
	// camera app is still writing.
	quietFor = 2 * time.Second
	// atMost bounds that wait where something always happens.
	atMost = 30 * time.Second
)

// watch pushes, waits for a change or for the next look, and pushes again, until
// ctx ends or a person has to decide something. Notifications are a hint only.
func (p *pusher) watch(ctx context.Context) error {
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
		p.alive.beat()
		_, err := p.run(ctx)
		switch kind := problem.KindOf(err); {
		case ctx.Err() != nil:
			return nil // ended from outside: that is how a watch ends
		case err == nil:
		case kind == problem.Unavailable, kind == problem.RateLimited, kind == problem.Full, kind == problem.Quota, kind == problem.Locked:
			p.app.complain(p.explain(err)) // passes by itself
		default:
			return err
		}
		if !p.waitForChange(ctx, w) {
			return nil
		}
	}
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
	if err != nil {
		p.app.warn("not all changes are noticed at once (%v); looking every %s", err, rescan)
	}
}

// waitForChange returns true when it is time to push again.
func (p *pusher) waitForChange(ctx context.Context, w *fsnotify.Watcher) bool {
	next := time.NewTimer(rescan)
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
