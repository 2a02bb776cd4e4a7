package consent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// consentPage is where a person reads the policy and decides.
const consentPage = "/#/consents"

// A Grant is the proof that a person consented to a purpose, for one device.
// Only Ledger.Grant makes one; the zero Grant is refused everywhere. It is a
// small value to be copied freely and is safe for concurrent use. Once the
// consent is withdrawn a Grant is dead for good, even if the person consents
// again: get a new one.
type Grant struct {
	ledger  *Ledger
	lease   *lease
	user    ident.UserID
	device  ident.DeviceID
	purpose Purpose
}

// User returns whose consent it is.
func (g Grant) User() ident.UserID { return g.user }

// Device returns the device that the Grant was asked for; zero: none in particular.
func (g Grant) Device() ident.DeviceID { return g.device }

// Purpose returns what was consented to.
func (g Grant) Purpose() Purpose { return g.purpose }

// GrantFor is Grant for the purpose of an upload's source; see PurposeOf.
func (l *Ledger) GrantFor(ctx context.Context, u ident.UserID, dev ident.DeviceID, source string) (Grant, error) {
	purpose, err := l.cat.purposeOf(source)
	if err != nil {
		return Grant{}, err
	}
	return l.Grant(ctx, u, dev, purpose)
}

// Grant returns the proof that u consented to purpose for the device dev (zero:
// no particular device, so that only decisions for all devices count). It asks
// no disk. Without consent it returns a problem of kind ConsentRequired whose
// members purpose, policy_revision, grant_url and page say where to give it.
func (l *Ledger) Grant(ctx context.Context, u ident.UserID, dev ident.DeviceID, purpose Purpose) (Grant, error) {
	if err := ctx.Err(); err != nil {
		return Grant{}, context.Cause(ctx)
	}
	info, err := l.cat.info(purpose)
	if err != nil {
		return Grant{}, err
	}
	if !info.Available {
		return Grant{}, notAvailable(info)
	}
	s := slot{purpose, dev}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.people[u]
	if p == nil {
		return Grant{}, l.ask(u, info, l.required(info, Never))
	}
	if state := l.judge(u, info, p.applying(s), p.applying(slot{Storage, 0}), p.declined().seq); state != Granted {
		if stands := p.standing(l.cat.current().Revision); stands.limited() {
			return Grant{}, l.ask(u, info, l.limited(stands))
		}
		return Grant{}, l.ask(u, info, l.required(info, state))
	}
	held := p.leases[s]
	if held == nil {
		held = &lease{purpose: info, live: map[*holder]struct{}{}}
		p.leases[s] = held
	}
	return Grant{ledger: l, lease: held, user: u, device: dev, purpose: purpose}, nil
}

// Context returns a copy of ctx that also ends when the consent is withdrawn;
// context.Cause is then a *problem.Error that says so. No goroutine waits for
// it. Call the CancelFunc when the work is done.
func (g Grant) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	c, cancel := context.WithCancelCause(ctx)
	if g.lease == nil {
		cancel(errZeroGrant)
		return c, func() {}
	}
	return c, g.lease.hold(cancel)
}

var errZeroGrant = errors.New("consent: a Grant that no Ledger made")

// Check says again, from the database and inside the transaction that writes,
// that the consent is in force and that it is one to purpose. Whatever comes
// after a withdrawal in the order of transactions is refused.
func (g Grant) Check(tx *db.Tx, purpose Purpose) error {
	if g.ledger == nil {
		return fmt.Errorf("consent: check %s: %w", purpose, errZeroGrant)
	}
	info, err := g.ledger.cat.info(purpose)
	if err != nil {
		return err
	}
	if purpose != g.purpose {
		return g.ledger.required(info, Never) // a yes to one thing is not a yes to another
	}
	if err := g.lease.ended(); err != nil {
		return err
	}
	d, declined, err := counting(tx, g.user, slot{purpose, g.device})
	if err != nil {
		return err
	}
	var core decision
	if d.granted && d.revision != g.ledger.cat.current().Revision {
		if core, _, err = counting(tx, g.user, slot{Storage, 0}); err != nil {
			return err
		}
	}
	switch state, err := g.ledger.judgeIn(tx, g.user, info, d, core, declined); {
	case err != nil:
		return fmt.Errorf("consent: check: %w", err)
	case state == Granted:
		return nil
	case state == Withdrawn:
		return g.ledger.asked(g.user, info, withdrawn(info))
	default:
		return g.ledger.asked(g.user, info, g.ledger.required(info, state))
	}
}

// counting reads the decision that counts for s, and the number of the last one that
// declined a policy: three seeks in one index.
func counting(tx *db.Tx, u ident.UserID, s slot) (d decision, declined int64, err error) {
	rows, err := tx.Query(countingSQL, u, s.purpose, s.device)
	if err != nil {
		return d, 0, fmt.Errorf("consent: check: %w", err)
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(&d.seq, &d.granted, &d.actor, &d.version, &d.revision, &declined); err != nil {
			return d, 0, fmt.Errorf("consent: check: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return d, 0, fmt.Errorf("consent: check: %w", err)
	}
	return d, declined, nil
}

const countingSQL = `SELECT seq, granted, actor, purpose_version, policy_revision,
	coalesce((SELECT max(seq) FROM consent_ledger WHERE user = ?1 AND purpose = 'policy' AND device = 0), 0)
	FROM consent_ledger WHERE seq = max(
	coalesce((SELECT max(seq) FROM consent_ledger WHERE user = ?1 AND purpose = ?2 AND device = 0), 0),
	coalesce((SELECT max(seq) FROM consent_ledger WHERE user = ?1 AND purpose = ?2 AND device = ?3), 0))`

// A lease is what the Grants of one person, purpose and device have in common:
// the contexts that end together.
type lease struct {
	purpose *Info

	mu    sync.Mutex
	cause *problem.Error // why it ended; nil while it holds
	live  map[*holder]struct{}
}

type holder struct{ cancel context.CancelCauseFunc }

// hold has cancel called when the lease ends, until the returned function is.
func (l *lease) hold(cancel context.CancelCauseFunc) context.CancelFunc {
	h := &holder{cancel}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		cancel(l.cause)
		return func() {}
	}
	l.live[h] = struct{}{}
	return func() {
		l.mu.Lock()
		delete(l.live, h)
		l.mu.Unlock()
		cancel(nil)
	}
}

func (l *lease) end(cause *problem.Error) {
	l.mu.Lock()
	live := l.live
	l.cause, l.live = cause, nil
	l.mu.Unlock()
	for h := range live {
		h.cancel(cause)
	}
}

func (l *lease) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		return nil // not l.cause: a nil *problem.Error is not a nil error
	}
	return l.cause
}

// required is the problem of a consent that is not in force.
func (l *Ledger) required(info *Info, s State) *problem.Error {
	e := &problem.Error{
		Kind: problem.ConsentRequired, Op: "consent.grant", Title: "Your consent is needed first",
		Hint: fmt.Sprintf("Open the box's page under Consents, read what “%s” means and switch it on; then try again.", info.Text["en"].Title),
		Members: map[string]any{
			"purpose": string(info.ID), "policy_revision": l.cat.current().Revision,
			"grant_url": "/v1/consents/" + string(info.ID), "page": consentPage,
		},
	}
	title := info.Text["en"].Title
	switch s {
	case Withdrawn:
		e.Detail = fmt.Sprintf("You said no to “%s”.", title)
	case Suspended:
		e.Detail = fmt.Sprintf("What you agreed to has changed since you agreed to “%s”.", title)
	case Never, Granted:
		e.Detail = fmt.Sprintf("You have not agreed to “%s” yet.", title)
	}
	if info.ID == Storage {
		e.Hint = "Open the box's page under Consents, read the privacy policy and accept it; then try again."
		if s == Never {
			e.Detail = "You have not accepted the box's privacy policy yet."
		}
	}
	return e
}

const opWithdrawn = "consent.withdrawn"

// withdrawn is why work ends in the middle.
func withdrawn(info *Info) *problem.Error {
	return &problem.Error{
		Kind: problem.ConsentRequired, Op: opWithdrawn, Title: "The consent was withdrawn",
		Detail:  fmt.Sprintf("“%s” was switched off, so the box stopped at once. What it had stored before is still yours.", info.Text["en"].Title),
		Hint:    "Switch it on again on the box's page under Consents if this was not meant.",
		Members: map[string]any{"purpose": string(info.ID), "grant_url": "/v1/consents/" + string(info.ID), "page": consentPage},
	}
}

func notAvailable(info *Info) *problem.Error {
	return &problem.Error{
		Kind: problem.Unsupported, Op: "consent", Title: "This version of the box cannot do that yet",
		Detail:  fmt.Sprintf("There is nothing behind “%s” that a consent could switch on.", info.Text["en"].Title),
		Hint:    "A later version will ask you again; nothing is decided until then.",
		Members: map[string]any{"purpose": string(info.ID)},
	}
}
