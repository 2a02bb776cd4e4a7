package account

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/spake2plus"
)

// How many bindings by code may be under way, and for how long one is good. The lock lets
// five begin in ten minutes, so nobody can push out somebody else's.
const (
	maxRuns = 8
	runLife = 2 * time.Minute
)

// runs are the bindings by code that have begun. They are in memory only: after a restart
// one begins anew, and what was counted stays counted.
type runs struct {
	mu     sync.Mutex
	open   map[string]*run
	record *spake2plus.Record // of the label's code; nil: not needed yet
}

type run struct {
	verifier *spake2plus.Verifier
	shown    string // user name
	folded   string
	began    time.Time
}

// forget drops every run: there is no code any more.
func (r *runs) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.record = nil, nil
}

// recordOf returns what stands for the code; it is derived once.
func (r *runs) recordOf(b spake2plus.Binding, code string) (spake2plus.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record == nil {
		secret, err := b.Secret(code)
		if err != nil {
			return spake2plus.Record{}, err
		}
		record, err := secret.Record()
		if err != nil {
			return spake2plus.Record{}, err
		}
		r.record = &record
	}
	return *r.record, nil
}

// add remembers a run and returns its name.
func (r *runs) add(one *run) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[string]*run{}
	}
	oldest := ""
	for name, other := range r.open {
		if one.began.Sub(other.began).Abs() > runLife {
			delete(r.open, name)
		} else if oldest == "" || other.began.Before(r.open[oldest].began) {
			oldest = name
		}
	}
	if len(r.open) >= maxRuns {
		delete(r.open, oldest)
	}
	name := rand.Text()
	r.open[name] = one
	return name
}

// get returns the run of that name if it is still good, nil if not.
func (r *runs) get(name string, now time.Time) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.open[name]
	if one == nil || now.Sub(one.began).Abs() > runLife {
		return nil
	}
	return one
}

// take ends the run of that name and reports whether it was open until now.
func (r *runs) take(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.open[name]
	delete(r.open, name)
	return ok
}

// BindOffer is the box's part of a binding by code, which proves that it knows the code
// and has the key that the client sees.
type BindOffer struct {
	Run            string // to be named in FinishBind
	Share, Confirm []byte
	Expires        time.Time
}

// StartBind begins a binding by the code of the label, which is never sent (SPAKE2+,
// RFC 9383). The try is counted on disk before the box answers, since with the answer
// somebody can find out whether one code is right; it shares its count and lock with the
// codes that Bind takes. username is who becomes the owner, in the form in which the
// client puts it into its own transcript.
func (a *Accounts) StartBind(ctx context.Context, username string, share []byte) (BindOffer, error) {
	const op = "account.start_bind"
	if a.bound.Load() {
		return BindOffer{}, alreadyBound(op)
	}
	shown, folded, err := Username(username)
	if err != nil {
		return BindOffer{}, err
	}
	if err := spake2plus.CheckShare(share); err != nil {
		return BindOffer{}, badShare(op)
	}
	key, err := base64.RawURLEncoding.DecodeString(a.opt.Fingerprint)
	if err != nil || len(key) != 32 {
		return BindOffer{}, fmt.Errorf("%s: the box's fingerprint is %q", op, a.opt.Fingerprint)
	}
	if err := a.countAttempt(ctx, byCode); err != nil {
		return BindOffer{}, err
	}
	a.labelMu.Lock()
	label := a.label
	a.labelMu.Unlock()
	if label.Spent {
		return BindOffer{}, alreadyBound(op)
	}
	b := spake2plus.Binding{Key: [32]byte(key), ID: a.opt.DeviceID, Serial: label.Serial, Username: username}
	record, err := a.runs.recordOf(b, label.Code)
	if err != nil {
		return BindOffer{}, err
	}
	v, err := spake2plus.Verify(b.Session(), record, share)
	if err != nil {
		return BindOffer{}, badShare(op)
	}
	now := a.now()
	name := a.runs.add(&run{verifier: v, shown: shown, folded: folded, began: now})
	return BindOffer{Run: name, Share: v.Share(), Confirm: v.Confirm(), Expires: now.Add(runLife)}, nil
}

func badShare(op string) error {
	return invalid(op, "That share is no point of the curve P-256.", "Use a current app. This did not count as a try.")
}

// BindFinish is the client's part of a binding by code.
type BindFinish struct {
	Run      string // of the BindOffer
	Confirm  []byte // which proves that the client knows the code
	Password string
	Device   DeviceInfo
	Remote   string
}

// FinishBind makes the person who was named to StartBind the owner and signs them in. One
// confirmation ends a run, right or wrong; what is wrong with the password does not.
func (a *Accounts) FinishBind(ctx context.Context, f BindFinish) (Session, error) {
	const op = "account.finish_bind"
	if a.bound.Load() {
		return Session{}, alreadyBound(op)
	}
	device, err := cleanDevice(op, f.Device)
	if err != nil {
		return Session{}, err
	}
	device.ID = 0 // nobody has devices yet
	over := &problem.Error{Kind: problem.NotFound, Op: op,
		Title:  "That binding is over",
		Detail: "It was finished, took longer than two minutes, or the box was restarted meanwhile.",
		Hint:   "Begin again."}
	one := a.runs.get(f.Run, a.now())
	if one == nil {
		return Session{}, over
	}
	if err := checkPassword(op, f.Password, one.shown, a.opt.Name, "yunbox"); err != nil {
		return Session{}, err
	}
	if err := a.refuseBreached(ctx, op, f.Password); err != nil {
		return Session{}, err
	}
	a.bindMu.Lock()
	defer a.bindMu.Unlock()
	switch {
	case a.bound.Load():
		return Session{}, alreadyBound(op)
	case !a.runs.take(f.Run):
		return Session{}, over
	}
	if _, err := one.verifier.Finish(f.Confirm); err != nil {
		return Session{}, notTheLabel(op)
	}
	return a.makeOwner(ctx, op, byCode, owner{one.shown, one.folded, f.Password, device, f.Remote})
}
