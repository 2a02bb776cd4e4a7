package main

import (
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"yunbox.local/daemon/problem"
)

// summary is the last event of a push.
type summary struct {
	Event     string  `json:"event"` // "done"
	Files     int64   `json:"files"`
	Stored    int64   `json:"stored"`
	Known     int64   `json:"known"`
	Duplicate int64   `json:"duplicate"`
	WouldSend int64   `json:"would_send,omitempty"`
	Deleted   int64   `json:"deleted"`
	Refused   int64   `json:"refused"`
	Failed    int64   `json:"failed"`
	Skipped   int64   `json:"skipped"`
	Bytes     int64   `json:"bytes"`      // of all files
	SentBytes int64   `json:"sent_bytes"` // bodies that left, tries that failed included
	Seconds   float64 `json:"seconds"`
	Complete  bool    `json:"complete"` // every file was looked at
}

// report tells about a push: events with --json, a progress bar on a terminal, a
// summary otherwise. Safe for concurrent use.
type report struct {
	app   *app
	p     *pusher
	bar   *progress
	begin time.Time

	mu sync.Mutex
	s  summary
}

func newReport(a *app, p *pusher) *report {
	return &report{app: a, p: p, bar: newProgress(a.stderr, !a.json), begin: time.Now(), s: summary{Event: "done"}}
}

func (r *report) start() {
	if r.app.json && (r.p.watching == nil || !r.p.watching.retrying) {
		r.app.encode(r.app.stdout, map[string]any{
			"event": "start", "dir": r.p.root, "source": r.p.opt.source, "box": r.p.boxID, "user": r.p.user.Username, "dry_run": r.p.opt.dry,
		})
	}
}

// fileEvent is what became of one file.
type fileEvent struct {
	Event  string `json:"event"` // "file"
	Path   string `json:"path"`
	SHA256 string `json:"sha256,omitempty"`
	Size   int64  `json:"size"`
	Result string `json:"result"`
	Reason string `json:"reason,omitempty"`
}

func (r *report) file(e *entry, result, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.s.Files++
	r.s.Bytes += e.id.size
	switch result {
	case resultStored:
		r.s.Stored++
	case resultKnown:
		r.s.Known++
	case resultDuplicate:
		r.s.Duplicate++
	case resultWouldSend:
		r.s.WouldSend++
	case resultDeleted:
		r.s.Deleted++
	case resultRefused:
		r.s.Refused++
	case resultFailed:
		r.s.Failed++
	}
	if again := r.p.watching != nil && r.p.watching.again; again && (e.asBefore || result == resultDeleted) {
		return
	}
	if r.app.json {
		f := fileEvent{Event: "file", Path: e.rel, Size: e.id.size, Result: result, Reason: reason}
		if e.hashed {
			f.SHA256 = hex.EncodeToString(e.sum[:])
		}
		r.app.encode(r.app.stdout, f)
		return
	}
	if result == resultFailed {
		r.bar.clear()
		fmt.Fprintf(r.app.stderr, "failed: %s: %s\n", shown(e.rel), reason)
	} else if result == resultWouldSend {
		r.bar.clear()
		fmt.Fprintf(r.app.stdout, "would send: %s (%s)\n", shown(e.rel), problem.Bytes(e.id.size))
	}
}

func (r *report) moved(n int64) {
	r.mu.Lock()
	r.s.SentBytes += n
	r.mu.Unlock()
}

func (r *report) skipped(n int64) {
	r.mu.Lock()
	r.s.Skipped = n
	r.mu.Unlock()
}

func (r *report) warn(format string, args ...any) {
	r.bar.clear()
	fmt.Fprintf(r.app.stderr, "yunboxctl: "+format+"\n", args...)
}

// done tells the end.
func (r *report) done(err error) summary {
	r.bar.clear()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.s.Seconds = time.Since(r.begin).Seconds()
	r.s.Complete = err == nil
	if r.p.watching != nil && err != nil && passes(err) {
		return r.s // the round goes on
	}
	if r.app.json {
		r.app.encode(r.app.stdout, r.s)
		return r.s
	}
	if again := r.p.watching != nil && r.p.watching.again; again && err == nil && r.s.Stored+r.s.Duplicate+r.s.Refused+r.s.Failed == 0 {
		return r.s // nothing that a person would want to read again
	}
	w := r.app.stdout
	head := "all safe: "
	switch {
	case r.p.opt.dry:
		head = "nothing was sent: "
	case err != nil:
		head = "not finished: "
	case r.s.Failed > 0 || r.s.Refused > 0:
		head = "NOT all safe: "
	}
	fmt.Fprintf(w, "%s%s, %s\n", head, plural(r.s.Files, "file", "files"), problem.Bytes(r.s.Bytes))
	if r.p.opt.dry {
		fmt.Fprintf(w, "  would be sent %d\n", r.s.WouldSend)
	} else {
		fmt.Fprintf(w, "  sent          %d (%s in %s)\n", r.s.Stored, problem.Bytes(r.s.SentBytes), clock(time.Since(r.begin)))
	}
	fmt.Fprintf(w, "  already there %d\n  duplicates    %d\n", r.s.Known, r.s.Duplicate)
	if r.s.Deleted > 0 {
		fmt.Fprintf(w, "  not again     %d (you deleted them from the box; --again sends them)\n", r.s.Deleted)
	}
	if r.s.Refused > 0 {
		fmt.Fprintf(w, "  refused       %d (you did not consent to them)\n", r.s.Refused)
	}
	if r.s.Failed > 0 {
		fmt.Fprintf(w, "  failed        %d\n", r.s.Failed)
	}
	if r.s.Skipped > 0 {
		fmt.Fprintf(w, "  left out      %d (links, system files, excluded)\n", r.s.Skipped)
	}
	return r.s
}
