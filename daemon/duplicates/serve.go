package duplicates

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/dedup"
)

// Events, one JSON value a line. The last line is always done; without it the work
// was cut off.
type (
	progressEvent struct {
		Event string `json:"event"` // "progress"
		dedup.Progress
	}
	groupEvent struct { // equal files, large ones first
		Event string `json:"event"` // "group"
		dedup.PlanGroup
	}
	alikeEvent struct { // pictures that look alike: a suggestion
		Event string `json:"event"` // "alike"
		dedup.Alike
	}
	doneEvent struct {
		Event  string               `json:"event"` // "done"
		Scan   *dedup.Report        `json:"scan,omitempty"`
		Alike  *dedup.SimilarReport `json:"alike,omitempty"`
		Plan   *dedup.PlanInfo      `json:"plan,omitempty"`
		Fold   *dedup.FoldResult    `json:"folded,omitempty"`
		Undo   *dedup.UndoResult    `json:"undo,omitempty"`
		Failed *failure             `json:"failed,omitempty"`
	}
	// failure is a problem that came up after the answer had begun.
	failure struct {
		Kind    problem.Kind   `json:"kind"`
		Title   string         `json:"title"`
		Detail  string         `json:"detail,omitempty"`
		Hint    string         `json:"hint,omitempty"`
		Members map[string]any `json:"members,omitempty"`
	}
)

// Routes mounts the operations of the administrator, who can consent for nobody.
func (r *Room) Routes(handle func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	for name, do := range r.verbs() {
		handle("POST /local/dedup/"+name, func(w http.ResponseWriter, req *http.Request) error {
			return r.serve(w, req, Asker{Via: "socket"}, do)
		})
	}
	handle("POST /local/dedup/plans", func(w http.ResponseWriter, req *http.Request) error {
		return r.servePlans(w, req, Asker{Via: "socket"})
	})
}

// verb does a task; emit takes events.
type verb struct {
	needGrant bool
	do        func(s *session, who Asker, emit func(any)) (doneEvent, error)
}

func (r *Room) verbs() map[string]verb {
	return map[string]verb{
		"scan":  {true, (*session).scan},
		"plan":  {true, (*session).plan},
		"apply": {true, (*session).apply},
		"undo":  {false, (*session).undo},
	}
}

func (r *Room) serve(w http.ResponseWriter, req *http.Request, who Asker, v verb) error {
	var t Task
	if err := httpd.ReadJSON(w, req, &t, 1<<20); err != nil {
		return err
	}
	s, end, err := r.begin(req.Context(), who, t, needs{grant: v.needGrant, turn: true})
	if err != nil {
		return err
	}
	defer end()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.ctx = ctx
	out := &lines{w: w, rc: http.NewResponseController(w), cancel: cancel}
	done, err := v.do(s, who, out.emit)
	done.Event = "done"
	if err = s.explain(err); err != nil {
		p := problem.As(err)
		if p.Kind == problem.Internal {
			r.log.Error("looking for duplicates failed", "err", err)
		}
		done.Failed = &failure{p.Kind, p.Title, p.Detail, p.Hint, p.Members}
	}
	out.emit(done)
	return nil
}

// lines writes events. Nobody reads any more: the work ends.
type lines struct {
	mu      sync.Mutex
	w       io.Writer
	rc      *http.ResponseController
	cancel  context.CancelFunc
	flushed time.Time
}

func (l *lines) emit(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	enc := json.NewEncoder(l.w)
	enc.SetEscapeHTML(false)
	err := errors.Join(l.rc.SetWriteDeadline(time.Now().Add(time.Minute)), enc.Encode(v))
	// Groups may be hundreds of thousands; a packet for each would take longer than
	// to find them.
	if _, group := v.(groupEvent); !group || time.Since(l.flushed) > time.Second {
		l.flushed = time.Now()
		err = errors.Join(err, l.rc.Flush())
	}
	if err != nil {
		l.cancel()
	}
}

func (s *session) options(emit func(any)) dedup.ScanOptions {
	return dedup.ScanOptions{
		OtherMounts: s.task.OtherMounts, All: s.task.All, Known: s.known(),
		Progress: s.told(emit),
	}
}

func (s *session) scan(_ Asker, emit func(any)) (done doneEvent, err error) {
	var seen func(dedup.Group) error
	if s.task.Groups {
		seen = func(g dedup.Group) error { emit(groupEvent{"group", asPlanGroup(g)}); return s.ctx.Err() }
	}
	done.Scan, err = s.folder.Scan(s.ctx, s.options(emit), seen)
	if err != nil || !s.task.Similar {
		return done, err
	}
	done.Alike, err = s.folder.Similar(s.ctx, s.options(emit), func(a dedup.Alike) error {
		if s.task.Groups {
			emit(alikeEvent{"alike", a})
		}
		return s.ctx.Err()
	})
	return done, err
}

// asPlanGroup shows a group of a scan, in which nothing was chosen yet.
func asPlanGroup(g dedup.Group) dedup.PlanGroup {
	out := dedup.PlanGroup{Ref: g.Ref, Size: g.Size, InBox: g.InBox, Fold: make([]dedup.PlanFile, 0, len(g.Files))}
	for i, m := range g.Files {
		f := dedup.PlanFile{Path: m.Path, Facts: m.Facts}
		if i == 0 {
			out.Keep = f
		} else {
			out.Fold = append(out.Fold, f)
		}
	}
	return out
}

func (s *session) plan(_ Asker, emit func(any)) (done doneEvent, err error) {
	p := dedup.Plan{Action: s.task.Action, AnyTime: s.task.AnyTime, Choice: dedup.Choice{Rule: s.task.Rule}}
	if p.Action == "" {
		p.Action = dedup.Reflink
	}
	if p.Choice.Prefer, err = s.below(s.task.Prefer); err != nil {
		return done, err
	}
	if p.Choice.Stay, err = s.below(s.task.Stay); err != nil {
		return done, err
	}
	var seen func(dedup.PlanGroup) error
	if s.task.Groups {
		seen = func(g dedup.PlanGroup) error { emit(groupEvent{"group", g}); return s.ctx.Err() }
	}
	made, sum, report, err := s.folder.MakePlan(s.ctx, p, s.options(emit), seen)
	if err != nil {
		return done, err
	}
	done.Scan, done.Plan = report, &dedup.PlanInfo{Plan: made, PlanSum: sum, State: dedup.Planned}
	return done, nil
}

func (s *session) apply(who Asker, emit func(any)) (done doneEvent, err error) {
	info, err := s.work.Plan(dedup.Path(s.root), s.task.Plan)
	if err != nil {
		return done, err
	}
	if err := s.check(); err != nil {
		return done, err
	}
	if err := s.audited(who, "dedup.apply", info.ID, map[string]string{"action": string(info.Action), "files": strconv.FormatInt(info.Files, 10)}); err != nil {
		return done, err
	}
	r, err := s.folder.Apply(s.ctx, info.ID, s.told(emit))
	done.Plan, done.Fold = &info, &r
	return done, err
}

func (s *session) undo(who Asker, emit func(any)) (done doneEvent, err error) {
	info, err := s.work.Plan(dedup.Path(s.root), s.task.Plan)
	if err != nil {
		return done, err
	}
	if err := s.audited(who, "dedup.undo", info.ID, map[string]string{"action": string(info.Action)}); err != nil {
		return done, err
	}
	r, err := s.folder.Undo(s.ctx, info.ID, s.told(emit))
	done.Plan, done.Undo = &info, &r
	return done, err
}

// serveFolders lists what the asker may have looked through.
func (r *Room) serveFolders(w http.ResponseWriter, _ *http.Request, who Asker) error {
	type folder struct {
		Path string `json:"path"`
		Kind string `json:"kind"`
	}
	list := []folder{}
	for _, path := range r.opt.Watched(who.Person) {
		list = append(list, folder{path, "watched"})
	}
	if who.Manages {
		for _, path := range attached() {
			if !r.opt.Watches(who.Person, path) {
				list = append(list, folder{path, "disk"})
			}
		}
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"folders": list})
	return nil
}

// servePicture shows a picture, for a person who has to say which of several stays.
func (r *Room) servePicture(w http.ResponseWriter, req *http.Request, who Asker) error {
	var t struct {
		Path string     `json:"path"`
		File dedup.Path `json:"file"`
	}
	if err := httpd.ReadJSON(w, req, &t, 64<<10); err != nil {
		return err
	}
	s, end, err := r.begin(req.Context(), who, Task{Path: t.Path}, needs{grant: true})
	if err != nil {
		return err
	}
	defer end()
	p, err := s.folder.Picture(t.File)
	if err != nil {
		if errors.Is(err, dedup.ErrNoPicture) {
			return &problem.Error{Kind: problem.NotFound, Op: "duplicates.picture", Title: "There is no such picture", Hint: "Look through the folder again."}
		}
		return s.explain(err)
	}
	defer p.Close()
	h := w.Header()
	h.Set("Content-Type", p.Kind)
	h.Set("Content-Length", strconv.FormatInt(p.Size, 10))
	h.Set("Content-Disposition", "attachment")
	h.Set("Cache-Control", "no-store")
	buf := make([]byte, 32<<10)
	rc := http.NewResponseController(w)
	for off := int64(0); off < p.Size; {
		if s.ctx.Err() != nil {
			panic(http.ErrAbortHandler) // the consent was withdrawn: a cut answer is none
		}
		n, err := p.ReadAt(buf[:min(int64(len(buf)), p.Size-off)], off)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			panic(http.ErrAbortHandler) // it became shorter, or cannot be read
		}
		if rc.SetWriteDeadline(time.Now().Add(time.Minute)) != nil {
			return nil
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return nil // nobody looks any more
		}
		off += int64(n)
	}
	return nil
}

// servePlans lists the plans of a folder, the newest last. It needs no consent, as undo
// needs none: it says what there is to take back.
func (r *Room) servePlans(w http.ResponseWriter, req *http.Request, who Asker) error {
	var t Task
	if err := httpd.ReadJSON(w, req, &t, 1<<20); err != nil {
		return err
	}
	s, end, err := r.begin(req.Context(), who, t, needs{})
	if err != nil {
		return err
	}
	defer end()
	list, err := s.work.Plans()
	if err != nil {
		return err
	}
	mine := []dedup.PlanInfo{}
	for _, p := range list {
		if p.Root == dedup.Path(s.root) {
			mine = append(mine, p)
		}
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"plans": mine})
	return nil
}
