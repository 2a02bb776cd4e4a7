package api

import (
	"context"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
)

// Work is something that the box does in the background, or did last.
type Work struct {
	Kind  string       // one of metrics.Jobs
	State WorkState    //
	Phase string       // what is being done of it; "": there is one thing only
	Whose ident.UserID // 0: the box's
	Count int          // of things that are alike
	// Done of Total things, Bytes of Size bytes: how far it is; 0 of 0: that is not known.
	Done, Total int64
	Bytes, Size int64
	Since       time.Time     // when it was begun, or asked for; zero: not known
	Until       time.Time     // when what waits begins; zero: not known
	Ended       time.Time     // zero: it has not, or that is not known
	Left        time.Duration // until it ends; 0: not known
	Stop        string        // how it is ended; "": not at all
	Says, Do    string        // what is wrong with it and what to do; "": nothing
}

// WorkState is how a work stands.
type WorkState string

// The states of a work.
const (
	WorkRuns    WorkState = "running"
	WorkWaits   WorkState = "waiting"
	WorkDone    WorkState = "done"
	WorkFailed  WorkState = "failed"
	WorkStopped WorkState = "stopped" // by somebody
)

// Over reports whether w has ended.
func (w Work) Over() bool { return w.State != WorkRuns && w.State != WorkWaits }

// Remaining estimates how long rest takes, when done took since then; 0: it is too early
// to say.
func Remaining(since, now time.Time, done, rest int64) time.Duration {
	took := now.Sub(since)
	if since.IsZero() || done <= 0 || rest <= 0 || took < 3*time.Second {
		return 0
	}
	return time.Duration(float64(took) / float64(done) * float64(rest)).Round(time.Second)
}

// Job is a work as it is told.
type Job struct {
	Kind  string  `json:"kind" enum:"scrub,view,second-copy,duplicates,export,erasure,cancellation" doc:"scrub: contents are read back; view: the readable view is made anew; duplicates: a folder is looked through; cancellation: an account goes"`
	State string  `json:"state" enum:"running,waiting,done,failed,stopped"`
	Phase string  `json:"phase" doc:"What is being done of it; empty: there is one thing only"`
	Mine  bool    `json:"mine" doc:"It is the asker's own. Whose the others are is not told: those that are alike are told as one"`
	Count int     `json:"count" minimum:"1" doc:"Of works that are alike"`
	Done  int64   `json:"done" minimum:"0" doc:"Contents, files or records that were dealt with"`
	Total int64   `json:"total" minimum:"0" doc:"Of so many; 0: not known"`
	Bytes int64   `json:"bytes" minimum:"0" doc:"Bytes that were dealt with"`
	Size  int64   `json:"size" minimum:"0" doc:"Of so many; 0: not known"`
	Since *moment `json:"since" nullable:"true" doc:"When it was begun or asked for, the first of several; null: not known"`
	Until *moment `json:"until" nullable:"true" doc:"When what waits begins, the first of several; null: not known, or it does not wait"`
	Ended *moment `json:"ended" nullable:"true" doc:"null: it goes on, or that is not known"`
	Left  int64   `json:"seconds_left" minimum:"0" doc:"An estimate; 0: not known"`
	Stop  string  `json:"stop" doc:"How who maintains the box ends it; empty: not at all"`
	Says  string  `json:"says" doc:"What is wrong with it; empty: nothing"`
	Do    string  `json:"do" doc:"What to do then"`
}

// Jobs is how works are told to somebody: their own one by one, those of others without a
// word about whose they are, and only to who manages the box. asker 0 is root.
func Jobs(works []Work, asker ident.UserID, manages bool) []Job {
	list := []Job{}
	var whole []Work // by place in list
	for _, w := range works {
		mine := w.Whose != 0 && w.Whose == asker
		if !mine && !manages || !mine && w.Whose != 0 && w.Over() {
			continue
		}
		if i := alike(list, w, mine); i >= 0 {
			whole[i] = whole[i].with(w)
			list[i] = whole[i].told(false)
			continue
		}
		w.Count = max(w.Count, 1)
		whole, list = append(whole, w), append(list, w.told(mine))
	}
	return list
}

// alike finds the job that another person's work is told with; -1: there is none.
func alike(list []Job, w Work, mine bool) int {
	if mine || w.Whose == 0 {
		return -1
	}
	for i, j := range list {
		if !j.Mine && j.Kind == w.Kind && j.State == string(w.State) {
			return i
		}
	}
	return -1
}

func (w Work) with(o Work) Work {
	w.Count += max(o.Count, 1)
	if w.Phase != o.Phase {
		w.Phase = ""
	}
	if w.Total == 0 || o.Total == 0 { // a sum with something unknown in it says nothing
		w.Done, w.Total = 0, 0
	} else {
		w.Done, w.Total = w.Done+o.Done, w.Total+o.Total
	}
	if w.Size == 0 || o.Size == 0 {
		w.Bytes, w.Size = 0, 0
	} else {
		w.Bytes, w.Size = w.Bytes+o.Bytes, w.Size+o.Size
	}
	w.Since, w.Until, w.Ended = first(w.Since, o.Since), first(w.Until, o.Until), first(w.Ended, o.Ended)
	w.Left = 0
	if w.Says == "" {
		w.Says, w.Do = o.Says, o.Do
	}
	return w
}

// first is the earlier of two times, as far as they are known.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (w Work) told(mine bool) Job {
	return Job{
		Kind: w.Kind, State: string(w.State), Phase: w.Phase, Mine: mine, Count: w.Count, Done: w.Done, Total: w.Total, Bytes: w.Bytes, Size: w.Size,
		Since: momentOrNull(w.Since), Until: momentOrNull(w.Until), Ended: momentOrNull(w.Ended), Left: int64(w.Left / time.Second),
		Stop: w.Stop, Says: w.Says, Do: w.Do,
	}
}

func (a *API) registerJobs() {
	register(a, route{
		Method: "GET", Path: "/v1/jobs", ID: "list-jobs", Tag: "box",
		Summary: "What the box does in the background, and how what it did last ended",
		Description: "Everybody is told of their own exports and erasures. Who manages the box is told of all that runs, without a word about whose it is, " +
			"and of the box's own work that has ended.",
	}, httpd.SignedIn, func(ctx context.Context, _ *struct{}) (*jobsAnswer, error) {
		out := &jobsAnswer{}
		works, err := a.box.Works(ctx)
		if err != nil {
			return nil, err
		}
		out.Body.Jobs = Jobs(works, principal(ctx).User, principal(ctx).Admin())
		return out, nil
	})
}

type jobsAnswer struct {
	Body struct {
		Jobs []Job `json:"jobs"`
	} `nameHint:"JobsAnswer"`
}
