package inbox

import (
	"context"
	"sync"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// patience is how many times the settle time an import waits for files that keep
// changing.
const patience = 15

// run takes a folder in once, leaving it as it is. emit is called by one
// goroutine at a time.
func (in *Inbox) run(ctx context.Context, c Config, emit func(line any)) Imported {
	sum := Imported{Event: "done"}
	if err := in.opt.DB.Write(ctx, func(tx *db.Tx) error { return in.opt.Audit.Append(tx, event("inbox.import", c)) }); err != nil {
		sum.Error = problem.Sentence(err)
		return sum
	}
	var mu sync.Mutex
	last := time.Now()
	f := newFolder(in, c)
	f.report = func(rel string, o outcome, tr trouble, size int64) {
		mu.Lock()
		defer mu.Unlock()
		switch o {
		case stored:
			sum.Stored++
		case known, same:
			sum.Known++
		case refused, failed, declined:
			line := importFile{Event: "file", Path: rel, Result: "failed", Reason: tr.Reason, Purpose: tr.Purpose}
			switch o {
			case refused:
				sum.Refused++
				line.Result = "refused"
			case declined:
				sum.Declined++
				line.Result = "declined"
			default:
				sum.Failed++
			}
			sum.Files++
			emit(line)
			return
		default:
			return
		}
		sum.Files++
		sum.Bytes += size
		if time.Since(last) >= time.Second {
			last = time.Now()
			emit(importProgress{Event: "progress", Files: sum.Files, Bytes: sum.Bytes})
		}
	}
	var deadline time.Time // of files that keep changing
	for full := true; ; full = false {
		f.look(ctx, full)
		f.mu.Lock()
		waiting, absent, paused := len(f.pending), f.absent, f.paused
		f.mu.Unlock()
		sum.Waiting, sum.Skipped = int64(waiting), int64(f.skipped)
		switch {
		case ctx.Err() != nil:
			sum.Error = "The import was interrupted."
		case absent:
			sum.Error = "The disk, card or folder is not there any more."
		case paused != "":
			sum.Error = paused
		case waiting > 0 && (deadline.IsZero() || time.Now().Before(deadline)):
			if deadline.IsZero() {
				deadline = time.Now().Add(patience * in.opt.Settle)
			}
			select {
			case <-ctx.Done():
			case <-time.After(in.opt.Settle / 2):
			}
			continue
		}
		return sum
	}
}

// makeRoom waits until fewer files of an import are waited for than can be: a
// second look at everything would read all of it again.
func (r *round) makeRoom() error {
	f := r.f
	for range patience {
		f.mu.Lock()
		var due []string
		now := time.Now()
		for rel, p := range f.pending {
			if !now.Before(p.due) {
				due = append(due, rel)
			}
		}
		crowded := len(f.pending) > maxPending-batch
		f.mu.Unlock()
		if !crowded {
			return nil
		}
		for len(due) > 0 {
			n := min(batch, len(due))
			if err := r.look(due[:n]); err != nil {
				return err
			}
			due = due[n:]
		}
		select {
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		case <-time.After(r.f.in.opt.Settle):
		}
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "inbox.import", Title: "Too many files keep changing",
		Detail: "Thousands of files were written to while they were to be read.", Hint: "Import the folder again when nobody writes to it."}
}
