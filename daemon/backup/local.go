package backup

import (
	"context"
	"net/http"
	"time"

	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// The states of a copy.
const (
	stateNever      = "never"      // no run has finished
	stateComplete   = "complete"   // all that the box kept at that time can be restored
	stateIncomplete = "incomplete" // some contents could not be copied
	stateDamaged    = "damaged"    // a verification found damage; the next run mends it
	stateFailing    = "failing"    // the last run failed; the generation before it is whole
)

// Status is how a copy stands.
type Status struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Path    string `json:"path"`
	Every   int64  `json:"every_seconds"`
	Created string `json:"created"`

	State string `json:"state"`
	// Current says whether nothing has changed on the box since Time.
	Current    bool    `json:"current"`
	Present    *bool   `json:"present,omitempty"` // whether its disk is there; asked only by list and status of backup
	Time       *string `json:"time"`              // of the newest generation; null: none
	Generation int64   `json:"generation"`
	Contents   int64   `json:"contents"`
	Bytes      int64   `json:"bytes"` // encrypted
	Missing    int64   `json:"missing"`
	Damaged    int64   `json:"damaged"`
	Verified   *string `json:"verified"` // when all of it was last read back and held
	Failed     *string `json:"failed"`
	Reason     *string `json:"reason"`

	Progress *Progress `json:"progress"` // null: nothing runs

	newest, failed, since time.Time
}

// Since is when what Progress tells of began.
func (s Status) Since() time.Time { return s.since }

// FailedAt is Failed as a time; zero: the newest run did not fail.
func (s Status) FailedAt() time.Time { return s.failed }

// Newest is Time as a time; zero: there is no generation.
func (s Status) Newest() time.Time { return s.newest }

func text(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339)
	return &s
}

// List says how all copies stand by the box's own records, without a look at their
// disks.
func (b *Backup) List(ctx context.Context) ([]Status, error) {
	list, err := b.Targets(ctx)
	if err != nil || len(list) == 0 {
		return []Status{}, err
	}
	now, err := b.mark(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Status, 0, len(list))
	for _, t := range list {
		s := Status{
			ID: t.ID, Name: t.Name, Path: t.Path, Every: int64(t.Every / time.Second), Created: *text(t.Created), State: stateComplete,
			Current: string(now) == string(t.mark), Time: text(t.Run), newest: t.Run, Generation: t.Generation, Contents: t.Contents, Bytes: t.Bytes,
			Missing: t.Missing, Damaged: t.Damaged, Verified: text(t.Verified), Failed: text(t.Failed), failed: t.Failed,
		}
		switch {
		case t.Run.IsZero():
			s.State = stateNever
		case t.Damaged > 0:
			s.State = stateDamaged
		case t.Missing > 0:
			s.State = stateIncomplete
		}
		if !t.Failed.IsZero() {
			s.State, s.Reason = stateFailing, &t.Reason
		}
		b.mu.Lock()
		if b.of == t.ID {
			s.Progress, s.since = b.now, b.since
		}
		b.mu.Unlock()
		out = append(out, s)
	}
	return out, nil
}

// Routes mounts the maintenance operations. Whoever may use them administers the
// box. None of them gives anybody a person's files: what is copied is encrypted
// before it leaves the box.
func (b *Backup) Routes(handle func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /local/backups", b.serveList)
	handle("POST /local/backups", b.serveAdd)
	handle("DELETE /local/backups", b.serveRemove)
	handle("POST /local/backups/run", b.serveRun)
	handle("POST /local/backups/verify", b.serveVerify)
}

func (b *Backup) serveList(w http.ResponseWriter, r *http.Request) error {
	list, err := b.List(r.Context())
	if err != nil {
		return err
	}
	for i := range list {
		present := b.present(list[i])
		list[i].Present = &present
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"backups": list})
	return nil
}

func (b *Backup) present(s Status) bool {
	_, done, err := b.open(Target{ID: s.ID, Path: s.Path})
	if err != nil {
		return false
	}
	done()
	return true
}

func (b *Backup) serveAdd(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Path      string `json:"path"`
		Name      string `json:"name"`
		Every     int64  `json:"every_seconds"`
		Recipient string `json:"recipient"`
		Master    string `json:"master"`
		SameDisk  bool   `json:"same_disk"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxBody); err != nil {
		return err
	}
	const most = int64(365 * 24 * time.Hour / time.Second)
	if in.Every < 0 || in.Every > most {
		return &problem.Error{Kind: problem.Invalid, Op: "backup.add", Title: "That pause between two runs makes no sense", Hint: "Say --every 24h, for example."}
	}
	t, err := b.Add(r.Context(), Wish{
		Path: in.Path, Name: in.Name, Every: time.Duration(in.Every) * time.Second, SameDisk: in.SameDisk,
		Key: target.Public{Recipient: in.Recipient, Master: in.Master},
	})
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusCreated, map[string]any{"id": t.ID, "name": t.Name, "path": t.Path, "every_seconds": int64(t.Every / time.Second)})
	return nil
}

func (b *Backup) serveRemove(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name  string `json:"name"`
		Erase bool   `json:"erase"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxBody); err != nil {
		return err
	}
	t, err := b.Remove(r.Context(), in.Name, in.Erase)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"id": t.ID, "name": t.Name, "path": t.Path, "erased": in.Erase})
	return nil
}

func (b *Backup) serveRun(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name string `json:"name"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxBody); err != nil {
		return err
	}
	if _, err := b.Find(r.Context(), in.Name); err != nil {
		return err
	}
	s, end := b.newStream(w, r)
	defer end()
	res, err := b.RunNow(s.ctx, in.Name, func(p Progress) { s.emit(p) })
	s.emit(b.closing(&res, &res.Event, &res.Error, err))
	return nil
}

func (b *Backup) serveVerify(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name string `json:"name"`
		Full bool   `json:"full"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxBody); err != nil {
		return err
	}
	if _, err := b.Find(r.Context(), in.Name); err != nil {
		return err
	}
	s, end := b.newStream(w, r)
	defer end()
	v, err := b.Verify(s.ctx, in.Name, in.Full, func(f Found) { s.emit(f) }, func(p Progress) { s.emit(p) })
	s.emit(b.closing(&v, &v.Event, &v.Error, err))
	return nil
}

// closing makes the last line of a stream, with the problem if there was one.
func (b *Backup) closing(line any, event, said *string, err error) any {
	*event = "done"
	if err == nil {
		return line
	}
	p := problem.As(err)
	if p.Kind == problem.Internal {
		b.log.Error("work on a second copy failed", "err", err)
	}
	*said = p.Title
	return struct {
		Event  string       `json:"event"`
		Error  string       `json:"error"`
		Kind   problem.Kind `json:"kind"`
		Detail string       `json:"detail,omitempty"`
		Hint   string       `json:"hint,omitempty"`
		Result any          `json:"result"`
	}{"done", p.Title, p.Kind, p.Detail, p.Hint, line}
}

const maxBody = 64 << 10 // of a question: paths and names

// stream is an answer of one JSON value a line. It ends the work when nobody reads
// it any more.
type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	say    func(line any) error
}

func (b *Backup) newStream(w http.ResponseWriter, r *http.Request) (s *stream, end func()) {
	s = &stream{say: httpd.Lines(w)}
	s.ctx, s.cancel = context.WithCancel(r.Context())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == nil {
		return s, s.cancel
	}
	stop := context.AfterFunc(b.running, s.cancel) // the box stops
	return s, func() { stop(); s.cancel() }
}

func (s *stream) emit(line any) {
	if s.say(line) != nil {
		s.cancel()
	}
}
