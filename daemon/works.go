package daemon

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"yunbox.local/daemon/backup"
	"yunbox.local/daemon/export"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// works lists what the box does in the background, and how it ended what it did last.
func (b *Box) works(ctx context.Context) (list []api.Work, err error) {
	now := b.now() // by which exports, copies and the view count
	scrub, err := b.scrubWork(ctx, b.clock.sure())
	if err != nil {
		return nil, err
	}
	list = append(list, scrub...)
	if b.tree != nil {
		list = append(list, b.viewWork(now)...)
	}
	copies, err := b.backup.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range copies {
		list = append(list, copyWork(c, now)...)
	}
	if w, ok := b.duplicates.Work(); ok {
		list = append(list, api.Work{Kind: "duplicates", State: api.WorkRuns, Phase: string(w.Stage), Whose: w.User, Since: w.Began,
			Done: w.Files, Total: w.OfFiles, Bytes: w.Bytes, Size: w.OfBytes, Left: time.Duration(w.Progress.Left) * time.Second,
			Stop: "end the `yunboxctl dedup` that began it, or close its page"})
	}
	for _, w := range b.exports.Work() {
		list = append(list, exportWork(w, now))
	}
	erasures, err := b.erasureWork(ctx)
	return append(list, erasures...), err
}

func (b *Box) scrubWork(ctx context.Context, now time.Time) ([]api.Work, error) {
	p := b.health.Progress()
	w := api.Work{Kind: "scrub", State: api.WorkRuns, Done: p.Blobs, Total: p.Total, Bytes: p.Bytes, Size: p.Size, Since: p.Begun, Ended: p.Ended}
	cover, err := b.health.Coverage(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case p.Running:
		w.Left, w.Stop, w.Ended = api.Remaining(p.Begun, now, p.Bytes, p.Size-p.Bytes), "`yunboxctl jobs stop scrub`", time.Time{}
	case p.Number == 0 || p.Total == 0 && p.Error == "":
		if cover.Last.IsZero() {
			return nil, nil
		}
		w = api.Work{Kind: "scrub", State: api.WorkDone, Ended: cover.Last} // by an earlier run of the box
	case p.Error != "":
		w.State, w.Says, w.Do = api.WorkFailed, p.Error, "It goes on later. `yunboxctl doctor` looks at the disk."
	case p.Stopped:
		w.State = api.WorkStopped
	default:
		w.State = api.WorkDone
	}
	if n := cover.Damage.Open; n > 0 && w.Says == "" {
		w.Says, w.Do = fmt.Sprintf("%d contents are damaged and wait for a device that still has them.", n), "`yunboxctl repair`, then let the devices back up again."
	}
	return []api.Work{w}, nil
}

func (b *Box) viewWork(now time.Time) []api.Work {
	p := b.tree.Progress()
	w := api.Work{Kind: "view", State: api.WorkRuns, Done: p.Done, Total: p.Total, Since: p.Began}
	switch {
	case p.Running:
		w.Left = api.Remaining(p.Began, now, p.Done, p.Total-p.Done)
	case p.Error != "":
		w.State, w.Says, w.Do = api.WorkFailed, "The readable view was interrupted.", "It goes on by itself."
	case p.LeftOut > 0:
		w.State, w.Says, w.Do = api.WorkDone, fmt.Sprintf("%d files cannot be shown in the readable view.", p.LeftOut), "`yunboxctl tree check` names them."
	default:
		return nil // each start of the box is followed by one
	}
	return []api.Work{w}
}

// copyWork is what is done to a second copy, or how that ended. What people call their
// copies is not told.
func copyWork(c backup.Status, now time.Time) []api.Work {
	w := api.Work{Kind: "second-copy"}
	switch p := c.Progress; {
	case p != nil:
		w.State, w.Phase, w.Done, w.Total, w.Bytes, w.Since = api.WorkRuns, p.Phase, p.Done, p.All, p.Bytes, c.Since()
		w.Left, w.Stop = api.Remaining(c.Since(), now, p.Done, p.All-p.Done), "`yunboxctl jobs stop second-copy`"
		return []api.Work{w}
	case !c.FailedAt().IsZero():
		w.State, w.Ended, w.Do = api.WorkFailed, c.FailedAt(), "`yunboxctl backup list` says more; it is tried again by itself."
		if c.Reason != nil {
			w.Says = *c.Reason + "."
		}
		return []api.Work{w}
	case c.Newest().IsZero():
		return nil
	}
	w.State, w.Done, w.Total, w.Bytes, w.Size, w.Ended = api.WorkDone, c.Contents, c.Contents, c.Bytes, c.Bytes, c.Newest()
	switch {
	case c.Damaged > 0:
		w.Says, w.Do = fmt.Sprintf("%d contents are damaged on the other disk.", c.Damaged), "`yunboxctl backup run` copies them again."
	case c.Missing > 0:
		w.Says, w.Do = fmt.Sprintf("%d contents could not be copied.", c.Missing), "`yunboxctl repair`, then let the devices back up again."
	}
	return []api.Work{w}
}

func exportWork(e export.Work, now time.Time) api.Work {
	w := api.Work{Kind: "export", Whose: e.User, Since: e.Created}
	switch {
	case e.State == export.Failed:
		w.State, w.Ended = api.WorkFailed, e.Ended
		if f := e.Failure; f != nil {
			w.Says, w.Do = f.Title+".", f.Hint
		}
	case e.State == export.Ready && e.Readers > 0:
		w.State, w.Phase, w.Bytes, w.Size = api.WorkRuns, "sending", e.Sent, e.Size
	case e.State == export.Ready:
		w.State, w.Done, w.Total, w.Bytes, w.Size, w.Ended = api.WorkDone, e.Listed, e.Listed, e.Sent, e.Size, e.Ended
		if e.Missing > 0 {
			w.Says = fmt.Sprintf("%d files were deleted before they were fetched.", e.Missing)
			w.Do = "MISSING.jsonl in the archive names them."
		}
	case e.Began.IsZero():
		w.State = api.WorkWaits
	default:
		w.State, w.Phase, w.Done, w.Total = api.WorkRuns, "listing", min(e.Listed, max(e.Total, 1)), e.Total
		w.Left = api.Remaining(e.Began, now, w.Done, w.Total-w.Done)
	}
	return w
}

func (b *Box) erasureWork(ctx context.Context) (list []api.Work, err error) {
	works, err := b.erasure.Works(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range works {
		w := api.Work{Kind: "erasure", State: api.WorkRuns, Whose: e.User, Since: e.Asked, Done: e.Done, Total: e.Total}
		if e.Account {
			w.Kind = "cancellation"
		}
		switch {
		case !e.Due.IsZero():
			w.State, w.Until, w.Stop = api.WorkWaits, e.Due, "`yunboxctl user keep NAME`, while it waits"
		case e.Tidying:
			w.Phase = "tidying"
		case e.Began.IsZero():
			w.State = api.WorkWaits
		default:
			w.Phase = "erasing"
			w.Left = api.Remaining(e.Began, time.Now(), e.Done-e.Before, e.Total-e.Done)
		}
		if e.Trouble != "" {
			w.Says, w.Do = "The files that were to be handed over are not taken.", "The person can hand them to somebody else, or have them erased, on their page under “Erase, cancel, ask”."
		}
		if e.Trouble == "failed" || e.Trouble == "" && w.State == api.WorkWaits && e.Due.IsZero() && b.erasure.Failed() {
			w.Says, w.Do = "Something that is to be erased is still there.", "It is tried again each hour. `yunboxctl doctor` looks at the disk."
		}
		list = append(list, w)
	}
	return list, nil
}

// serveJobs tells who maintains the box of all works, without a word about whose they are.
func (b *Box) serveJobs(w http.ResponseWriter, r *http.Request) error {
	works, err := b.works(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, map[string][]api.Job{"jobs": api.Jobs(works, 0, true)})
	return nil
}

// stopJob ends what can be ended from here. What was done counts.
func (b *Box) stopJob(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Kind string `json:"kind"`
	}
	if err := httpd.ReadJSON(w, r, &in, 1<<10); err != nil {
		return err
	}
	stopped := false
	switch in.Kind {
	case "scrub":
		stopped = b.health.Stop()
	case "second-copy":
		stopped = b.backup.Stop()
	default:
		return &problem.Error{Kind: problem.Invalid, Op: "daemon.jobs", Title: "That cannot be stopped from here",
			Detail: "A scrub and a second copy can.", Hint: "`yunboxctl jobs` says how each job ends."}
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]bool{"stopped": stopped})
	return nil
}
