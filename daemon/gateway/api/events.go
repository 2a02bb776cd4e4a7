package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	eventsPage = 200              // changes that are read from the database at once
	eventsPing = 25 * time.Second // below the idle limits of phones and of home routers
	eventsSlow = 30 * time.Second // what a listener may take to accept a write
)

func (a *API) registerEvents() {
	stream[eventsInput, struct{}](a, route{
		Method: "GET", Path: "/v1/events", ID: "listen", Tag: "events", Status: 200,
		Summary: "What changes in the asker's files, as server-sent events",
		Description: "`event: change` with `{\"seq\",\"kind\",\"item\",\"path\"}`; the event's id is `seq`. A listener that comes back with " +
			"`Last-Event-ID` gets what it missed; one without starts at the present. `event: damage` with `{\"damaged\"}` says how many " +
			"contents of the asker the box lost and asks for again (GET /v1/damaged), at the beginning if there are any and when that changes. " +
			"`event: notice` with `{\"id\",\"kind\",\"time\",\"device\"}` tells a session what happens on the account from now on (GET /v1/me/notices). A comment comes every 25 s when nothing happens.",
	}, httpd.Files, "/v1/events", map[string]*huma.Response{"200": {
		Description: "A stream without an end",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}, a.listen)
}

type eventsInput struct {
	LastEventID string `header:"Last-Event-ID" pattern:"^[0-9]+$" doc:"The last event that arrived"`
}

// changeEvent is the data of an event.
type changeEvent struct {
	Seq  int64         `json:"seq"`
	Kind string        `json:"kind"`
	Item *ident.ItemID `json:"item"` // null: a folder changed
	Path string        `json:"path"` // "": it is gone
}

// listen runs until the listener goes, the box stops, or the credential that
// opened the stream is no longer good.
func (a *API) listen(w http.ResponseWriter, r *http.Request) {
	user := principal(r.Context()).User
	seq, err := a.firstSeq(r, user)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	s := &eventStream{w: w, rc: http.NewResponseController(w)}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.printf("retry: 2000\n: listening\n\n")
	damaged := int64(0)
	heard := true // news of accounts
	noticed, err := a.lastNotice(r)
	if err != nil {
		a.log.WarnContext(r.Context(), "event stream ended", "error", err)
		return
	}

	ping := time.NewTicker(eventsPing)
	defer ping.Stop()
	for s.err == nil {
		news := a.accounts.Changed()
		if p, err := a.server.Authenticate(r); err != nil || p.User != user {
			return // revoked or switched off meanwhile
		}
		changed := a.catalog.Changed(user) // before reading, so that nothing slips between
		if seq, err = a.send(r, s, user, seq); err != nil {
			a.log.WarnContext(r.Context(), "event stream ended", "error", err)
			return
		}
		if damaged, err = a.sendDamage(r, s, user, damaged); err != nil {
			a.log.WarnContext(r.Context(), "event stream ended", "error", err)
			return
		}
		if heard {
			if noticed, err = a.sendNotices(r, s, noticed); err != nil {
				a.log.WarnContext(r.Context(), "event stream ended", "error", err)
				return
			}
		}
		s.flush()
		select {
		case <-changed:
		case <-news:
		case <-ping.C:
			s.printf(": ping\n\n")
		case <-r.Context().Done():
			return
		case <-httpd.Stopping(r.Context()):
			return
		}
		select { // it may have come together with a change
		case <-news:
			heard = true
		default:
			heard = false
		}
	}
}

// firstSeq is where the listener left off, or the present.
func (a *API) firstSeq(r *http.Request, user ident.UserID) (int64, error) {
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		usage, err := a.catalog.Usage(r.Context(), user)
		return usage.Seq, err
	}
	seq, err := strconv.ParseInt(last, 10, 64)
	if err != nil || seq < 0 {
		return 0, &problem.Error{
			Kind: problem.Invalid, Op: "api.events", Title: "Last-Event-ID is not an event of this box",
			Hint: "Leave it out to start at the present.",
		}
	}
	return seq, nil
}

// send writes all changes after seq and returns the last one.
func (a *API) send(r *http.Request, s *eventStream, user ident.UserID, seq int64) (int64, error) {
	for s.err == nil {
		changes, err := a.catalog.Since(r.Context(), user, seq, eventsPage)
		if err != nil {
			return seq, err
		}
		for _, c := range changes {
			s.change(c)
			seq = c.Seq
		}
		if len(changes) < eventsPage {
			break
		}
	}
	return seq, nil
}

// sendDamage says how many contents of the person are damaged if that is not what
// was said last, and returns it.
func (a *API) sendDamage(r *http.Request, s *eventStream, user ident.UserID, said int64) (int64, error) {
	n, _, err := a.catalog.DamagedOf(r.Context(), user, 0)
	if err == nil && n != said {
		s.printf("event: damage\ndata: {\"damaged\":%d}\n\n", n)
	}
	return n, err
}

// eventStream writes server-sent events (WHATWG HTML §9.2). The first error
// stays: a listener that does not read is dropped.
type eventStream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (s *eventStream) change(c catalog.Change) {
	data, err := json.Marshal(changeEvent{Seq: c.Seq, Kind: string(c.Kind), Item: orNull(c.Item), Path: c.Path})
	if err != nil {
		s.err = err
		return
	}
	s.printf("event: change\nid: %d\ndata: %s\n\n", c.Seq, data)
}

func (s *eventStream) printf(format string, args ...any) {
	if s.err != nil {
		return
	}
	if s.err = s.rc.SetWriteDeadline(time.Now().Add(eventsSlow)); s.err == nil {
		_, s.err = fmt.Fprintf(s.w, format, args...)
	}
}

func (s *eventStream) flush() {
	if s.err == nil {
		s.err = s.rc.Flush()
	}
}
