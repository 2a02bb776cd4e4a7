package api_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// listener reads an event stream.
type listener struct {
	t      *testing.T
	resp   *http.Response
	events chan event // closed at the end of the stream
}

type event struct {
	ID   string
	Data struct {
		Seq              int64
		Kind, Item, Path string
	}
}

func listen(w *world, p *daemontest.Person, last string) *listener {
	w.t.Helper()
	return listenWith(w, p.Token, last)
}

func listenWith(w *world, token, last string) *listener {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", w.URL+"/v1/events", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := w.Client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("GET /v1/events: %s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	l := &listener{t: w.t, resp: resp, events: make(chan event, 100)}
	go l.read()
	w.t.Cleanup(func() { resp.Body.Close() })
	return l
}

func (l *listener) read() {
	defer close(l.events)
	var e event
	for lines := bufio.NewScanner(l.resp.Body); lines.Scan(); {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			e.ID = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.Data); err != nil {
				l.t.Error(err)
			}
		case "":
			if e.ID != "" && lines.Text() == "" {
				l.events <- e
				e = event{}
			}
		}
	}
}

// next returns the next event, or false at the end of the stream.
func (l *listener) next() (event, bool) {
	e, ok := <-l.events
	return e, ok
}

// One's own changes, in order, without gaps.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.ada, "before.jpg", "x")
	l := listen(w, w.ada, "")
	w.put(w.bob(), "bobs.jpg", "x")
	w.put(w.ada, "a.jpg", "a")
	e, _ := l.next()
	if e.Data.Path != "a.jpg" || e.Data.Kind != "added" {
		t.Errorf("the first event is %+v", e)
	}
	first := e.ID
	w.ask(w.ada, "DELETE", "/v1/files/a.jpg", "").is(t, "trash", 204, "")
	if e, _ = l.next(); e.Data.Kind != "trashed" {
		t.Errorf("the second event is %+v", e)
	}
	l.resp.Body.Close()
	w.put(w.ada, "missed.jpg", "m")
	again := listen(w, w.ada, first)
	var kinds []string
	for range 2 {
		e, _ := again.next()
		kinds = append(kinds, e.Data.Kind+" "+e.Data.Path)
	}
	if got := strings.Join(kinds, ", "); got != "trashed a.jpg, added missed.jpg" {
		t.Errorf("after %s came %s", first, got)
	}
	w.ask(w.ada, "GET", "/v1/events", "", "Last-Event-ID", "garbage").is(t, "no event", 400, "invalid")
	w.ask(nil, "GET", "/v1/events", "").is(t, "nobody", 401, "unauthenticated")
}

// R34: a stream ends with the credential that opened it; nothing more is told.
func TestEventsEndWhenTheTokenIsRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var app struct{ ID, Token string }
	w.ask(w.ada, "POST", "/v1/tokens", `{"name":"app","scope":"files"}`).into(t, &app)
	l := listenWith(w, app.Token, "")
	w.ask(w.ada, "DELETE", "/v1/tokens/"+app.ID, "").is(t, "revoke", 204, "")
	w.put(w.ada, "secret.jpg", "x")
	if e, ok := l.next(); ok {
		t.Errorf("told after the revocation: %+v", e)
	}
}

func TestEventsEndWhenTheBoxStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := listen(w, w.ada, "")
	w.Stop()
	if e, ok := l.next(); ok {
		t.Errorf("an event while stopping: %+v", e)
	}
}
