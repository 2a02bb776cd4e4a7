package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	readyFor      = 2 * time.Second // an answer holds so long
	readyPatience = 5 * time.Second // for the catalogue to take a change
)

// readiness is what was found last: whoever floods the box with the question costs it
// one look in two seconds.
type readiness struct {
	mu    sync.Mutex // held while somebody looks: others wait for what is found
	asked time.Time
	err   error
}

type readyAnswer struct {
	Body struct {
		Ready bool `json:"ready"`
	} `nameHint:"Readiness"`
}

// ready fails while the box could not do what it is for. Nothing is written to find
// that out: the disk may sleep.
func (a *API) ready(ctx context.Context, _ *struct{}) (*readyAnswer, error) {
	if _, err := a.health(ctx, nil); err != nil {
		return nil, err // without a look
	}
	r := &a.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.asked) > readyFor {
		r.err = a.takesChanges()
		r.asked = time.Now()
	}
	if r.err != nil {
		return nil, r.err
	}
	out := &readyAnswer{}
	out.Body.Ready = true
	return out, nil
}

// errProbe undoes a change before it is one.
var errProbe = errors.New("api: only a try")

// takesChanges waits for the one writer of the catalogue, and gives up its turn: it is
// alive, and the database gives it the lock.
func (a *API) takesChanges() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
	defer cancel()
	err := a.db.Write(ctx, func(*db.Tx) error { return errProbe })
	switch {
	case errors.Is(err, errProbe):
		return nil
	case ctx.Err() != nil:
		return &problem.Error{Kind: problem.Unavailable, Op: "api.ready", Title: "The box's catalogue takes no changes", Err: err,
			Detail: "Something has held it for longer than five seconds.", Hint: "`yunboxctl doctor` tells more."}
	case problem.KindOf(err) == problem.Internal:
		return &problem.Error{Kind: problem.Unavailable, Op: "api.ready", Title: "The box's catalogue takes no changes", Err: err, Hint: "`yunboxctl doctor` tells more."}
	}
	return err
}

// localDevice is a device for who runs the box: what it is called is its owner's matter.
type localDevice struct {
	ID       ident.DeviceID `json:"id"`
	User     string         `json:"user"`
	Kind     string         `json:"kind"`
	Created  moment         `json:"created"`
	LastSeen moment         `json:"last_seen"`
}

// devices lists everybody's devices.
func (l *Local) devices(w http.ResponseWriter, r *http.Request) error {
	people, err := l.api.accounts.Users(r.Context())
	if err != nil {
		return err
	}
	list := []localDevice{}
	for _, u := range people {
		var devices []account.Device
		if devices, err = l.api.accounts.Devices(r.Context(), u.ID); err != nil {
			return err
		}
		for _, d := range devices {
			list = append(list, localDevice{d.ID, u.Username, d.Kind, moment(d.Created), moment(d.LastSeen)})
		}
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		Devices []localDevice `json:"devices"`
	}{list})
	return nil
}
