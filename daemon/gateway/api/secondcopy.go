package api

import (
	"context"
	"time"
)

// SecondCopy is how a copy of the box on another disk stands.
type SecondCopy struct {
	Name     string // what whoever runs the box calls it
	State    string // "complete" or why it is not
	Time     time.Time
	Current  bool  // nothing has changed on the box since
	Missing  int64 // contents that could not be copied
	Damaged  int64 // contents that are damaged on the other disk
	Complete bool
}

// CopyState is what everybody on the box may know of its second copies.
type CopyState struct {
	Time     moment `json:"time" doc:"When the box was last copied"`
	Complete bool   `json:"complete" doc:"All that the box kept then can be restored"`
	Current  bool   `json:"current" doc:"Nothing has changed on the box since"`
}

// localCopy is the same for whoever runs the box.
type localCopy struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Time    *moment `json:"time"` // null: no run has finished
	Current bool    `json:"current"`
	Missing int64   `json:"missing"`
	Damaged int64   `json:"damaged"`
}

func (a *API) secondCopies(ctx context.Context) ([]SecondCopy, error) {
	if a.box.SecondCopies == nil {
		return nil, nil
	}
	return a.box.SecondCopies(ctx)
}

// bestCopy is the newest of those that are complete, else the newest, nil if there
// is none.
func (a *API) bestCopy(ctx context.Context) (*CopyState, error) {
	list, err := a.secondCopies(ctx)
	if err != nil {
		return nil, err
	}
	var best SecondCopy
	for _, c := range list {
		if c.Complete && !best.Complete || c.Complete == best.Complete && c.Time.After(best.Time) {
			best = c
		}
	}
	if best.Time.IsZero() {
		return nil, nil
	}
	return &CopyState{moment(best.Time), best.Complete, best.Current}, nil
}

func (a *API) localCopies(ctx context.Context) ([]localCopy, error) {
	list, err := a.secondCopies(ctx)
	out := make([]localCopy, 0, len(list))
	for _, c := range list {
		out = append(out, localCopy{c.Name, c.State, momentOrNull(c.Time), c.Current, c.Missing, c.Damaged})
	}
	return out, err
}
