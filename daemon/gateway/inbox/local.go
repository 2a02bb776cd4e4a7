package inbox

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// The states of a watched folder.
const (
	stateWatching = "watching" // what comes is taken in
	stateScanning = "scanning" // it is being looked through
	stateAbsent   = "absent"   // its volume is not there
	statePaused   = "paused"   // the box takes nothing at the moment; reason says why
	stateConsent  = "consent"  // files wait for their owner's consent
)

// Status is how a watched folder stands.
type Status struct {
	ID        int64     `json:"id"`
	Path      string    `json:"path"`
	User      string    `json:"user"`
	Source    string    `json:"source"`
	Originals string    `json:"originals"`
	Into      string    `json:"into"` // "" is the root
	Created   time.Time `json:"created"`

	State  string  `json:"state"`
	Reason *string `json:"reason"` // null: there is nothing to say
	// Taken is how many files in the folder are remembered as taken, Session how many
	// were taken since the box started.
	Taken   int64 `json:"taken"`
	Session int   `json:"session"`
	Waiting int   `json:"waiting"` // files that change, or did a moment ago
	Skipped int   `json:"skipped"` // links, pipes, hidden files
	// Consents are those that files wait for; Refused, Declined (their owner deleted
	// that content) and Failed count files that were not taken, Troubles names some of
	// them.
	Consents []consent.Purpose `json:"consents"`
	Refused  int               `json:"refused"`
	Declined int               `json:"declined"`
	Failed   int               `json:"failed"`
	Troubles []Trouble         `json:"troubles"`
	// ScanOnly: there are too many folders to be told of changes; they are looked
	// through every quarter of an hour.
	ScanOnly bool       `json:"scan_only"`
	LastScan *time.Time `json:"last_scan"`
}

// Trouble is a file that was not taken.
type Trouble struct {
	Path    string          `json:"path"`
	Reason  string          `json:"reason"`
	Purpose consent.Purpose `json:"purpose,omitempty"`
}

// shownTroubles is how many files a Status names.
const shownTroubles = 20

// List says how all watched folders stand.
func (in *Inbox) List(ctx context.Context) ([]Status, error) {
	folders := in.all()
	slices.SortFunc(folders, func(a, b *folder) int { return cmp.Compare(a.conf.ID, b.conf.ID) })
	list := make([]Status, 0, len(folders))
	for _, f := range folders {
		name, _, err := in.opt.Person(ctx, f.conf.User)
		if err != nil {
			return nil, err
		}
		s := f.status()
		s.User = name
		if err := in.opt.DB.Read(ctx, func(tx *db.Tx) error {
			return tx.QueryRow(`SELECT count(*) FROM inbox_taken WHERE inbox = ? AND item > 0`, f.conf.ID).Scan(&s.Taken)
		}); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (f *folder) status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{
		ID: f.conf.ID, Path: f.conf.Path, Source: f.conf.Source, Originals: f.conf.Originals, Into: f.conf.Target, Created: f.conf.Created,
		State: stateWatching, Session: f.took, Waiting: len(f.pending), Skipped: f.skipped,
		Consents: []consent.Purpose{}, Troubles: []Trouble{}, Refused: f.unnamedRefused, Declined: f.unnamedGone, Failed: f.unnamed, ScanOnly: f.scanOnly,
	}
	for p := range f.missing {
		s.Consents = append(s.Consents, p)
	}
	slices.Sort(s.Consents)
	for rel, tr := range f.troubles {
		switch {
		case tr.Purpose != "":
			s.Refused++
		case tr.Deleted:
			s.Declined++
		default:
			s.Failed++
		}
		s.Troubles = append(s.Troubles, Trouble{Path: rel, Reason: tr.Reason, Purpose: tr.Purpose})
	}
	slices.SortFunc(s.Troubles, func(a, b Trouble) int { return cmp.Compare(a.Path, b.Path) })
	s.Troubles = s.Troubles[:min(len(s.Troubles), shownTroubles)]
	if !f.lastFull.IsZero() {
		at := f.lastFull.UTC()
		s.LastScan = &at
	}
	reason := ""
	switch {
	case f.absent && f.lastTry.IsZero():
		s.State = stateScanning
	case f.absent:
		s.State, reason = stateAbsent, "The disk, card or folder is not there, or another one is in its place."
	case f.busy:
		s.State = stateScanning
	case f.paused != "":
		s.State, reason = statePaused, f.paused
	case len(f.missing) > 0:
		s.State, reason = stateConsent, "Some files wait for their owner's consent."
	}
	if reason != "" {
		s.Reason = &reason
	}
	return s
}

// Routes mounts the maintenance operations. Whoever may use them administers the
// box; nobody there can consent for a person.
func (in *Inbox) Routes(handle func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /local/inboxes", in.serveList)
	handle("POST /local/inboxes", in.serveAdd)
	handle("DELETE /local/inboxes", in.serveRemove)
	handle("POST /local/inboxes/scan", in.serveScan)
	handle("POST /local/inboxes/import", in.serveImport)
}

func (in *Inbox) serveList(w http.ResponseWriter, r *http.Request) error {
	list, err := in.List(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"inboxes": list})
	return nil
}

func (in *Inbox) serveAdd(w http.ResponseWriter, r *http.Request) error {
	var wish Wish
	if err := httpd.ReadJSON(w, r, &wish, maxBody); err != nil {
		return err
	}
	c, err := in.Add(r.Context(), wish)
	if err != nil {
		return err
	}
	f := in.find(c.Path)
	if f == nil {
		return notWatched("inbox.add") // somebody removed it at once
	}
	s := f.status()
	if s.User, _, err = in.opt.Person(r.Context(), c.User); err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusCreated, s)
	return nil
}

// which is a folder by its path or number.
type which struct {
	Inbox string `json:"inbox"`
}

func (in *Inbox) serveRemove(w http.ResponseWriter, r *http.Request) error {
	var body which
	if err := httpd.ReadJSON(w, r, &body, maxBody); err != nil {
		return err
	}
	c, err := in.Remove(r.Context(), body.Inbox)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"id": c.ID, "path": c.Path})
	return nil
}

// serveScan has a folder, or all, looked through now.
func (in *Inbox) serveScan(w http.ResponseWriter, r *http.Request) error {
	var body which
	if err := httpd.ReadJSON(w, r, &body, maxBody); err != nil {
		return err
	}
	list := in.all()
	if body.Inbox != "" {
		f := in.find(body.Inbox)
		if f == nil {
			return notWatched("inbox.scan")
		}
		list = []*folder{f}
	}
	for _, f := range list {
		f.lookAgain()
	}
	httpd.WriteJSON(w, http.StatusAccepted, map[string]any{"inboxes": len(list)})
	return nil
}

func notWatched(op string) error {
	return &problem.Error{Kind: problem.NotFound, Op: op, Title: "That folder is not watched",
		Detail: "No watched folder has that path or number.", Hint: "yunboxctl inbox list names them."}
}

// Import events, one JSON value a line. The last line is always done; without it
// the import was cut off.
type (
	importProgress struct {
		Event string `json:"event"` // "progress"
		Files int64  `json:"files"`
		Bytes int64  `json:"bytes"`
	}
	importFile struct { // a file that was not taken
		Event   string          `json:"event"` // "file"
		Path    string          `json:"path"`
		Result  string          `json:"result"` // "refused", "declined", "failed"
		Reason  string          `json:"reason"`
		Purpose consent.Purpose `json:"purpose,omitempty"`
	}
	// Imported says what an import did.
	Imported struct {
		Event    string `json:"event"` // "done"
		Files    int64  `json:"files"`
		Stored   int64  `json:"stored"`
		Known    int64  `json:"known"`
		Refused  int64  `json:"refused"`
		Failed   int64  `json:"failed"`
		Declined int64  `json:"declined"` // their owner deleted that content
		Waiting  int64  `json:"waiting"`  // files that did not stop changing
		Skipped  int64  `json:"skipped"`  // links, pipes, hidden files
		Bytes    int64  `json:"bytes"`    // of those stored and known
		Error    string `json:"error,omitempty"`
	}
)

const maxBody = 64 << 10 // of a question: paths and names

func (in *Inbox) serveImport(w http.ResponseWriter, r *http.Request) error {
	var wish Wish
	if err := httpd.ReadJSON(w, r, &wish, maxBody); err != nil {
		return err
	}
	c, err := in.check(r.Context(), wish)
	if err != nil {
		return err
	}
	if wish.Originals != "" && wish.Originals != Keep {
		return invalid("An import leaves the originals where they are", "Only a watched folder can move them to its trash.", "Leave --originals out.")
	}
	say := httpd.Lines(w)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	in.mu.Lock()
	if in.running != nil {
		defer context.AfterFunc(in.running, cancel)()
	}
	in.mu.Unlock()
	emit := func(line any) {
		if say(line) != nil {
			cancel() // nobody reads any more
		}
	}
	emit(in.run(ctx, c, emit))
	return nil
}
