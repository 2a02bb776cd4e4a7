package account

import (
	"context"
	"strconv"
	"sync"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// FreshFor is how long signing in, or Prove, counts for acts that need a recent
// proof of identity.
const FreshFor = 5 * time.Minute

// When says which people must have proved who they are lately.
type When uint8

const (
	// Always is everybody.
	Always When = iota + 1
	// WithFactor is whoever has a second factor: for acts that give out a credential
	// which needs none, or that ask for the password themselves.
	WithFactor
)

// freshness remembers when sessions proved who holds them. It is in memory only: after
// a restart everybody proves it again.
type freshness struct {
	mu sync.Mutex
	at *lru[*time.Time]
}

const maxFresh = 1024

func newFreshness() *freshness { return &freshness{at: newLRU[*time.Time](maxFresh)} }

func (f *freshness) mark(session int64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := strconv.FormatInt(session, 10)
	if at, ok := f.at.get(key); ok {
		*at = now
		return
	}
	f.at.add(key, &now)
}

func (f *freshness) has(session int64, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.at.get(strconv.FormatInt(session, 10))
	return ok && now.Sub(*at) >= 0 && now.Sub(*at) < FreshFor
}

// RequireFresh refuses p with problem.StepUpRequired unless its session proved
// within FreshFor who holds it, by signing in or by Prove. An app token cannot prove
// that and is Forbidden.
func (a *Accounts) RequireFresh(ctx context.Context, p ident.Principal, when When) error {
	const op = "account.step_up"
	if a.fresh.has(p.Session, a.now()) {
		return nil
	}
	f, err := a.Factor(ctx, p.User)
	if err != nil || when == WithFactor && !f.On {
		return err
	}
	if err := a.db.Read(ctx, func(tx *db.Tx) error { return requireSession(tx, p, op) }); err != nil {
		return err
	}
	return &problem.Error{Kind: problem.StepUpRequired, Op: op,
		Detail: "This needs a proof of identity that is not older than five minutes.",
		Hint:   "Type your password again, then go on.",
		Members: map[string]any{
			"proof_url": "/v1/session/proof", "max_age": int(FreshFor / time.Second), "code": f.On,
		}}
}

// Prove takes the password of the person of session p, and a code if they have a
// second factor, and counts for RequireFresh until the time that it returns. Tries
// are limited as those of Login are.
func (a *Accounts) Prove(ctx context.Context, p ident.Principal, password, code, remote string) (until time.Time, err error) {
	const op = "account.prove"
	if err := full(p, op); err != nil {
		return time.Time{}, err
	}
	u, err := a.checkOwnPassword(ctx, op, p, password, remote)
	if err != nil {
		return time.Time{}, err
	}
	proof, err := a.checkFactor(ctx, op, u, code, remote)
	if err != nil {
		return time.Time{}, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		if err := u.stillGood(tx, op); err != nil {
			return err
		}
		if err := a.spend(tx, op, proof, u.id); err != nil {
			return err
		}
		now := a.now()
		until = now.Add(FreshFor).UTC().Truncate(time.Millisecond)
		tx.AfterCommit(func() { a.fresh.mark(p.Session, now) })
		return a.log.Append(tx, As(p, viaHTTP).event("session.prove", p.User))
	})
	return until, err
}

// checkOwnPassword is checkLogin for somebody who is signed in. A wrong password is
// Forbidden: 401 would tell the client that its session had ended.
func (a *Accounts) checkOwnPassword(ctx context.Context, op string, p ident.Principal, password, remote string) (login, error) {
	var folded string
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT username FROM user WHERE id = ?`, int64(p.User)).Scan(&folded)
	})
	if err != nil {
		return login{}, err
	}
	u, err := a.checkLogin(ctx, op, folded, password, remote)
	if problem.KindOf(err) == problem.Unauthenticated {
		err = &problem.Error{Kind: problem.Forbidden, Op: op,
			Title: "The password is wrong", Hint: "Type the password that you signed in with."}
	}
	return u, err
}
