package daemon_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// A told is an event that a listener was told.
type told struct {
	ID, Kind, Path string
	Seq            int64
}

// listen hears events until the test ends or hang is called. The channel is
// closed at the end of the stream.
func listen(t *testing.T, p *daemontest.Person, last string) (events chan told, hang func()) {
	t.Helper()
	r := p.Request("GET", "/v1/events", nil)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := p.Box().Client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	t.Cleanup(func() { resp.Body.Close() })
	events = make(chan told, 1000)
	go func() {
		defer close(events)
		var e told
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
			case "id":
				e.ID = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e); err != nil {
					t.Error(err)
				}
			case "":
				if e.ID != "" && lines.Text() == "" {
					events <- e
					e = told{}
				}
			}
		}
	}()
	return events, func() { resp.Body.Close() }
}

func next(t *testing.T, events chan told) told {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(2 * time.Minute):
		t.Fatal("no event within two minutes")
	}
	return told{}
}

// A page that listens sees a file when it is there; one that was away, even
// while the box was started anew, is told all it missed, once and in order.
func TestEventsMissNothing(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada, bob := b.Bind(), b.AddPerson("bob")
	ada.Grant("album_backup")
	bob.Grant("album_backup")
	events, hang := listen(t, ada, "")
	others, _ := listen(t, bob, "")
	put(t, ada, "first.jpg", "photo")
	e := next(t, events)
	if e.Kind != "added" || e.Path != "first.jpg" || e.ID != fmt.Sprint(e.Seq) {
		t.Fatalf("%+v", e)
	}
	// What an event names can be read at once.
	if r := ask(ada, "GET", "/v1/files/"+e.Path, ""); r.status != 200 {
		t.Fatal(r)
	}
	hang()

	// Away for more than fits one page of the box's own reading.
	const missed = 430
	for i := range missed {
		if i == 300 {
			b.Restart()
		}
		name := fmt.Sprintf("/v1/files/missed/%03d.jpg?source=album", i)
		if r := ask(ada, "PUT", name, "", "Repr-Digest", digestOf("photo")); r.status != 200 {
			t.Fatal(r)
		}
	}
	again, _ := listen(t, ada, e.ID)
	seq := e.Seq
	for i := range missed {
		e := next(t, again)
		if want := fmt.Sprintf("missed/%03d.jpg", i); e.Path != want || e.Kind != "added" || e.Seq <= seq {
			t.Fatalf("event %d after %d is %+v", i, seq, e)
		}
		seq = e.Seq
	}
	// From there on it goes on as it happens.
	ask(ada, "DELETE", "/v1/files/first.jpg", "").is(t, "trash", 204, "")
	if e := next(t, again); e.Kind != "trashed" || e.Path != "first.jpg" || e.Seq <= seq {
		t.Errorf("%+v", e)
	}
	// bob's stream ended with the restart and was told nothing of ada's.
	for e := range others {
		t.Errorf("bob is told of %+v", e)
	}
}
