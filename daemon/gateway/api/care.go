package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/health"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

func (a *API) registerCare() {
	register(a, route{
		Method: "GET", Path: "/v1/damaged", ID: "list-damaged", Tag: "files",
		Summary: "The asker's files whose content the box lost and asks for again",
		Description: "Up to 200 of them. The box serves none of these and answers that it does not know their contents, so that a backup from a " +
			"device that still has one sends it again; the file is whole then and leaves this list.",
	}, httpd.Files, a.damaged)
}

// Care says how well the stored bytes are known to be sound.
type Care struct {
	Disk     string  `json:"disk" enum:"ok,read-only,failed" doc:"Whether the box can take anything. read-only: not before its disk can be written again; failed: not before somebody has looked after the disk and restarted the box. What is stored can be read all the same"`
	Damaged  int64   `json:"damaged" minimum:"0" doc:"Contents of the asker that the box lost and asks for again: see GET /v1/damaged"`
	Oldest   *moment `json:"oldest_unverified" nullable:"true" doc:"When the content of the box that was not read for the longest time was last read back, or written; null: nothing is kept"`
	Days     int     `json:"scrub_days" minimum:"0" doc:"Within how many days the box reads all contents back; 0: it does not by itself"`
	Scrubbed *moment `json:"scrubbed" nullable:"true" doc:"When the box last ended a portion of that; null: never"`
}

func (a *API) care(ctx context.Context, u ident.UserID) (c Care, err error) {
	cover, err := a.keeper.Coverage(ctx)
	if err != nil {
		return c, err
	}
	c = Care{Disk: a.diskState(), Oldest: momentOrNull(cover.Oldest), Days: cover.Days, Scrubbed: momentOrNull(cover.Last)}
	c.Damaged, _, err = a.catalog.DamagedOf(ctx, u, 0)
	return c, err
}

const maxDamaged = 200

type damagedAnswer struct {
	Body struct {
		Damaged int64         `json:"damaged" minimum:"0" doc:"Contents, versions of files included"`
		Files   []DamagedFile `json:"files"`
	} `nameHint:"DamagedAnswer"`
}

// DamagedFile is a file whose content is lost until it is sent again.
type DamagedFile struct {
	Item   ItemEntry `json:"item"`
	Damage string    `json:"damage" enum:"missing,not-a-file,size,bytes,unreadable" doc:"What is wrong with the stored bytes"`
	Found  moment    `json:"found"`
}

func (a *API) damaged(ctx context.Context, _ *struct{}) (*damagedAnswer, error) {
	n, list, err := a.catalog.DamagedOf(ctx, principal(ctx).User, maxDamaged)
	if err != nil {
		return nil, err
	}
	out := &damagedAnswer{}
	out.Body.Damaged = n
	out.Body.Files = make([]DamagedFile, 0, len(list))
	for _, f := range list {
		out.Body.Files = append(out.Body.Files, DamagedFile{Item: itemEntry(f.Item), Damage: string(f.Kind), Found: moment(f.Found)})
	}
	return out, nil
}

// ScrubState is how well the stored bytes of the box are known, for who maintains it.
type ScrubState struct {
	Days         int       `json:"days"`              // within which all are to be read back; 0: only on demand
	Oldest       *moment   `json:"oldest_unverified"` // null: nothing is kept
	Last         *moment   `json:"last"`              // null: never
	Damaged      int64     `json:"damaged"`           // contents that wait for somebody to send them again
	DamagedBytes int64     `json:"damaged_bytes"`
	DamagedSince *moment   `json:"damaged_since"` // null: nothing is damaged
	Healed       int64     `json:"healed"`        // damages that ended well, ever
	Run          *scrubRun `json:"run"`           // the one that goes on; null: none
}

func (a *API) scrubState(ctx context.Context) (ScrubState, error) {
	c, err := a.keeper.Coverage(ctx)
	if err != nil {
		return ScrubState{}, err
	}
	s := ScrubState{
		Days: c.Days, Oldest: momentOrNull(c.Oldest), Last: momentOrNull(c.Last),
		Damaged: c.Damage.Open, DamagedBytes: c.Damage.Bytes, DamagedSince: momentOrNull(c.Damage.Oldest), Healed: c.Damage.Healed,
	}
	if c.Run.Running {
		run := asRun("progress", c.Run)
		s.Run = &run
	}
	return s, nil
}

// scrubRun is a line of the answer of POST /local/scrub.
type scrubRun struct {
	Event   string  `json:"event"` // begun, progress, done
	Whole   bool    `json:"whole"`
	Done    int64   `json:"done"` // contents
	Total   int64   `json:"total"`
	Bytes   int64   `json:"bytes"`
	Size    int64   `json:"size"` // of all that are to be read
	Damaged int64   `json:"damaged"`
	Healed  int64   `json:"healed"`
	Begun   *moment `json:"begun"`
	Error   string  `json:"error,omitempty"` // why it ended early
	Stopped bool    `json:"stopped,omitempty"`
}

func asRun(event string, p health.Progress) scrubRun {
	return scrubRun{
		Event: event, Whole: p.Whole, Done: p.Blobs, Total: p.Total, Bytes: p.Bytes, Size: p.Size,
		Damaged: p.Damaged, Healed: p.Healed, Begun: momentOrNull(p.Begun), Error: p.Error, Stopped: p.Stopped,
	}
}

const scrubInterval = 500 * time.Millisecond // between two looks at a run

// scrub begins a run, and with wait stays until it has ended. The run goes on when
// who waits goes away.
func (l *Local) scrub(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Whole bool `json:"whole"`
		Wait  bool `json:"wait"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	number := l.api.keeper.Begin(in.Whole)
	emit := httpd.Lines(w)
	err := emit(scrubRun{Event: "begun", Whole: in.Whole})
	tick := time.NewTicker(scrubInterval)
	defer tick.Stop()
	for in.Wait && err == nil {
		p := l.api.keeper.Progress()
		switch {
		case p.Number > number || p.Number == number && !p.Running:
			return l.gone(r, emit(asRun("done", p)))
		case p.Number == number:
			err = emit(asRun("progress", p))
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		}
	}
	return l.gone(r, err)
}

// stopScrub ends the run that goes on.
func (l *Local) stopScrub(w http.ResponseWriter, _ *http.Request) error {
	httpd.WriteJSON(w, http.StatusOK, map[string]bool{"stopped": l.api.keeper.Stop()})
	return nil
}

// gone notes that nobody read an answer to its end.
func (l *Local) gone(r *http.Request, err error) error {
	if err != nil && r.Context().Err() == nil {
		l.api.log.WarnContext(r.Context(), "an answer was not read to its end", "error", err)
	}
	return nil
}

// The lines of the answer of POST /local/repair.
type (
	repairLine struct {
		Event  string `json:"event"` // healed, waiting
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
		Damage string `json:"damage"`
		By     string `json:"by,omitempty"`     // copy, sound
		Copy   string `json:"copy,omitempty"`   // from which it was healed
		Reason string `json:"reason,omitempty"` // why it could not be healed
	}
	repairDone struct {
		Event   string `json:"event"` // done
		Healed  int64  `json:"healed"`
		Waiting int64  `json:"waiting"` // for a device that still has the file
		Error   string `json:"error,omitempty"`
	}
)

// repair goes through the list of damages and heals what can be healed here.
func (l *Local) repair(w http.ResponseWriter, r *http.Request) error {
	if err := httpd.ReadJSON(w, r, &struct{}{}, maxJSON); err != nil {
		return err
	}
	emit := httpd.Lines(w)
	done := repairDone{Event: "done"}
	err := l.api.keeper.Repair(r.Context(), func(x health.Repaired) error {
		line := repairLine{Event: "healed", SHA256: x.Ref.String(), Size: x.Size, Damage: string(x.Kind), By: string(x.Ending), Copy: x.Copy}
		if x.Ending == catalog.StillOpen {
			line.Event = "waiting"
			done.Waiting++
		} else {
			done.Healed++
		}
		if x.Err != nil {
			line.Reason = problem.Sentence(x.Err)
		}
		return emit(line)
	})
	if err != nil {
		done.Error = problem.Sentence(err)
	}
	return l.gone(r, emit(done))
}

// damageEntry is an entry of the list of damages.
type damageEntry struct {
	ID     int64       `json:"id"`
	SHA256 storage.Ref `json:"sha256"`
	Size   int64       `json:"size"`
	Damage string      `json:"damage"`
	Found  moment      `json:"found"`
	By     string      `json:"found_by"`
	State  string      `json:"state"`  // damaged, healed, forgotten
	Closed *moment     `json:"closed"` // null: it is open
	Ending string      `json:"ending"` // upload, copy, sound, forgotten; "": it is open
	Copy   string      `json:"copy"`
}

// damage lists damages, newest first: whose files they are does not concern who
// maintains the box.
func (l *Local) damage(w http.ResponseWriter, r *http.Request) error {
	before := int64(0)
	if s := r.URL.Query().Get("before"); s != "" {
		var err error
		if before, err = strconv.ParseInt(s, 10, 64); err != nil || before < 1 {
			return &problem.Error{Kind: problem.Invalid, Op: "api.local", Title: "That is no entry of the list", Hint: "This yunboxctl may be older or newer than the box."}
		}
	}
	list, err := l.api.catalog.DamageRecord(r.Context(), before, catalog.MaxLimit)
	if err != nil {
		return err
	}
	entries := make([]damageEntry, 0, len(list))
	for _, d := range list {
		e := damageEntry{
			ID: d.ID, SHA256: d.Ref, Size: d.Size, Damage: string(d.Kind), Found: moment(d.Found), By: string(d.How),
			State: "damaged", Closed: momentOrNull(d.Closed), Ending: string(d.Ending), Copy: d.Copy,
		}
		switch d.Ending {
		case catalog.StillOpen:
		case catalog.EndGone:
			e.State = "forgotten"
		default:
			e.State = "healed"
		}
		entries = append(entries, e)
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		Damage []damageEntry `json:"damage"`
	}{entries})
	return nil
}
