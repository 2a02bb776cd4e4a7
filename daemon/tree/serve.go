package tree

import (
	"context"
	"net/http"
	"sync"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

const maxBody = 4 << 10

// Routes mounts the maintenance operations.
func (t *Tree) Routes(handle func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /local/tree", t.serveStatus)
	handle("POST /local/tree/rebuild", t.serveRebuild)
	handle("POST /local/tree/check", t.serveCheck)
}

func (t *Tree) serveStatus(w http.ResponseWriter, r *http.Request) error {
	s, err := t.Status(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, s)
	return nil
}

// The lines of the answers, one JSON value each.
type (
	stepLine struct {
		Event string `json:"event"` // progress
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
	}
	wrongLine struct {
		Event  string `json:"event"` // wrong
		SHA256 string `json:"sha256"`
		Reason string `json:"reason"`
	}
	rebuiltLine struct {
		Event   string `json:"event"` // done
		Files   int64  `json:"files"`
		LeftOut int64  `json:"left_out"`
		Error   string `json:"error,omitempty"`
	}
	checkedLine struct {
		Event   string `json:"event"` // done
		Files   int64  `json:"files"`
		Bytes   int64  `json:"bytes"`
		Wrong   int64  `json:"wrong"`
		Pending int64  `json:"pending"`
		Strange int64  `json:"strange"`
		Error   string `json:"error,omitempty"`
	}
)

// lines hands on values, one at a time, until one cannot be sent.
type lines struct {
	mu     sync.Mutex
	emit   func(any) error
	cancel context.CancelFunc
}

func (l *lines) say(line any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.emit(line) != nil {
		l.cancel() // nobody reads it any more
	}
}

func (t *Tree) serveRebuild(w http.ResponseWriter, r *http.Request) error {
	if s, err := t.Status(r.Context()); err != nil {
		return err
	} else if !s.Shown {
		return t.noView()
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	l := &lines{emit: httpd.Lines(w), cancel: cancel}
	p, err := t.Rebuild(ctx, func(p Progress) { l.say(stepLine{"progress", p.Done, p.Total}) })
	end := rebuiltLine{Event: "done", Files: p.Done - p.LeftOut, LeftOut: p.LeftOut, Error: p.Error}
	if err != nil {
		end.Error = t.told(err)
	}
	l.say(end)
	return nil
}

func (t *Tree) serveCheck(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Deep bool `json:"deep"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxBody); err != nil {
		return err
	}
	if s, err := t.Status(r.Context()); err != nil {
		return err
	} else if !s.Shown {
		return t.noView()
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	l := &lines{emit: httpd.Lines(w), cancel: cancel}
	c, err := t.Check(ctx, in.Deep,
		func(x Wrong) { l.say(wrongLine{"wrong", x.Ref.String(), x.Reason}) },
		func(done, total int64) { l.say(stepLine{"progress", done, total}) })
	end := checkedLine{"done", c.Files, c.Bytes, c.Wrong, c.Pending, c.Strange, ""}
	if err != nil {
		end.Error = t.told(err)
	}
	l.say(end)
	return nil
}

// told is what a person may read of an error.
func (t *Tree) told(err error) string {
	if p := problem.As(err); p.Kind != problem.Internal {
		return p.Title
	}
	t.log.Error("work on the readable view failed", "err", err)
	return "The readable view cannot be worked on"
}
