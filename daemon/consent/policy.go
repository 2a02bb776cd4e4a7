package consent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// WholePolicy stands for the privacy policy in a decision that declines it. It is no
// purpose: nobody consents to it, and no Grant is given for it. Accepting the policy is
// the consent to Storage, and is what takes a decline back.
const WholePolicy Purpose = "policy"

// whole describes WholePolicy in receipts.
func (c *Catalogue) whole() *Info {
	return &Info{
		ID: WholePolicy, Version: 1, Core: true, Available: true, Room: "consent",
		Text: map[string]Text{
			"en": {
				Title: "The privacy policy", What: "Declined as a whole: the box takes in nothing new of this person and processes nothing of what it has.",
				Data:      []string{"everything that the box holds about the person"},
				Retention: "Until the person has exported or deleted it, or closed the account.",
				Processor: "Your box, at your home. Nothing is sent anywhere else.",
			},
			"zh": {
				Title: "隐私政策", What: "整体不同意：盒子不再接收此人的任何新内容，也不再处理已有的内容。",
				Data:      []string{"盒子保存的与此人有关的全部内容"},
				Retention: "直到此人导出、删除或注销账户。",
				Processor: "由你家里的这台盒子处理，不会发到别处。",
			},
		},
	}
}

// Policy returns the revision that people are asked to accept.
func (l *Ledger) Policy() Policy { return l.cat.current().clone() }

// Policies returns all revisions that the box knows, the oldest first.
func (l *Ledger) Policies() []Policy {
	list := make([]Policy, 0, len(l.cat.policies))
	for i := range l.cat.policies {
		list = append(list, l.cat.policies[i].clone())
	}
	return list
}

// A Standing is how a person stands to the policy that is current.
type Standing string

// The standings.
const (
	// Unasked: they said neither yes nor no to a policy. Nothing is processed, because
	// nothing was consented to; they may set their account up and decide.
	Unasked Standing = "unasked"
	// Accepted: under the current policy they said yes to the core service or to a purpose.
	Accepted Standing = "accepted"
	// Behind: they said yes or no to an earlier policy, and yes to nothing under this one.
	Behind Standing = "behind"
	// Declined: they declined the current policy, and have not accepted it since.
	Declined Standing = "declined"
)

// limited says that the person is left with what Ledger.Limited names.
func (s Standing) limited() bool { return s == Behind || s == Declined }

func standingOf(accepted int64, answered bool, declined decision, current string) Standing {
	switch {
	case declined.seq > accepted && declined.revision == current:
		return Declined
	case accepted > 0:
		return Accepted
	case answered:
		return Behind
	}
	return Unasked
}

// declined is the last decision that declined a policy.
func (p *person) declined() decision { return p.latest[slot{WholePolicy, 0}] }

func (p *person) standing(current string) Standing {
	return standingOf(p.accepted, p.answered, p.declined(), current)
}

// note takes a decision into what standing is derived from.
func (p *person) note(d decision, about Purpose, current string) {
	if d.granted && d.revision == current {
		p.accepted = max(p.accepted, d.seq)
	}
	p.answered = p.answered || d.granted || about == WholePolicy
}

const standingSQL = `coalesce(max(iif(granted = 1 AND policy_revision = ?1, seq, 0)), 0), coalesce(max(granted = 1 OR purpose = 'policy'), 0)
	FROM consent_ledger`

// readStandings fills in what is held in memory of everybody.
func (l *Ledger) readStandings(ctx context.Context, tx *db.Tx) error {
	rows, err := tx.QueryContext(ctx, `SELECT user, `+standingSQL+` GROUP BY user`, l.cat.current().Revision)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var u ident.UserID
		var accepted int64
		var answered bool
		if err := rows.Scan(&u, &accepted, &answered); err != nil {
			return err
		}
		p := l.person(u)
		p.accepted, p.answered = accepted, answered
	}
	return rows.Err()
}

// standing is how u stands as of tx, and the number of their last decision that
// declined a policy.
func (l *Ledger) standing(tx *db.Tx, u ident.UserID) (stands Standing, declined int64, err error) {
	current := l.cat.current().Revision
	var accepted int64
	var answered bool
	if err := tx.QueryRow(`SELECT `+standingSQL+` WHERE user = ?2`, current, u).Scan(&accepted, &answered); err != nil {
		return "", 0, fmt.Errorf("consent: standing: %w", err)
	}
	last, _, err := counting(tx, u, slot{WholePolicy, 0})
	return standingOf(accepted, answered, last, current), last.seq, err
}

// Standing returns how u stands to the current policy. It asks no disk.
func (l *Ledger) Standing(u ident.UserID) Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.people[u]; p != nil {
		return p.standing(l.cat.current().Revision)
	}
	return Unasked
}

// Limited returns nil for who may use the box. For who is Behind or Declined it is a
// problem of kind ConsentRequired that says what is left to them and where, in its
// member left. It asks no disk. Whoever serves people asks it before anything that
// is not on that list; a Grant asks it by itself.
func (l *Ledger) Limited(u ident.UserID) error {
	if s := l.Standing(u); s.limited() {
		return l.asked(u, l.coreInfo(), l.limited(s))
	}
	return nil
}

// A Way is something that is left to a person who did not accept the policy.
type Way struct {
	What string `json:"what"`
	API  string `json:"api"`
	Page string `json:"page"`
}

// ways is what is left, in the order in which a person should hear of it.
func ways() []Way {
	return []Way{
		{"accept", "PUT /v1/policy", consentPage},
		{"changes", "GET /v1/policy/changes", consentPage},
		{"data", "GET /v1/me/data", "/#/data"},
		{"export", "POST /v1/me/exports", "/#/data"},
		{"fetch", "GET /v1/files/{path}", "/#/files"},
		{"delete", "DELETE /v1/files/{path}", "/#/files"},
		{"withdraw", "DELETE /v1/consents/{purpose}", consentPage},
		{"cancel", "POST /v1/me/cancellation", "/#/account"},
		{"sign_out", "DELETE /v1/session", "/#/account"},
	}
}

func (l *Ledger) limited(s Standing) *problem.Error {
	current := l.cat.current()
	e := &problem.Error{
		Kind: problem.ConsentRequired, Op: "consent.policy", Title: "The privacy policy has changed",
		Detail: fmt.Sprintf("You have not accepted revision %s of %s yet. Until you do, the box takes in nothing new from you.",
			current.Revision, current.Modified.Format(time.DateOnly)),
		Hint: "Open the box's page under Consents, read what is new and decide. Without accepting you can still see, fetch, export and delete what is yours, close your account, and sign out.",
		Members: map[string]any{
			"purpose": string(Storage), "policy_revision": current.Revision, "standing": string(s),
			"grant_url": "/v1/policy", "changes_url": "/v1/policy/changes", "page": consentPage, "left": ways(),
		},
	}
	if s == Declined {
		e.Title = "You declined the privacy policy"
		e.Detail = fmt.Sprintf("You declined revision %s of %s, so the box takes in nothing new from you and processes nothing of yours.",
			current.Revision, current.Modified.Format(time.DateOnly))
	}
	return e
}

// Changes says what is new for u: since is the revision under which they last said
// yes, "" before the first, and list are the revisions after it, the oldest first; the
// current one alone if the box does not know theirs.
func (l *Ledger) Changes(ctx context.Context, u ident.UserID) (since string, list []Policy, err error) {
	err = l.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT policy_revision FROM consent_ledger
			WHERE seq = (SELECT max(seq) FROM consent_ledger WHERE user = ? AND granted = 1)`, u)
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			if err := rows.Scan(&since); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return "", nil, fmt.Errorf("consent: changes: %w", err)
	}
	list, err = l.ChangesSince(since)
	if err != nil {
		list, err = []Policy{l.Policy()}, nil
	}
	return since, list, err
}

// ChangesSince returns the revisions after the given one ("": all of them), the oldest
// first. A revision that the box does not know is problem.NotFound.
func (l *Ledger) ChangesSince(revision string) ([]Policy, error) {
	all := l.Policies()
	if revision == "" {
		return all, nil
	}
	for i, p := range all {
		if p.Revision == revision {
			return all[i+1:], nil
		}
	}
	return nil, errNoRevision()
}

// Revision returns one revision of the policy, problem.NotFound if the box has none of that name.
func (l *Ledger) Revision(revision string) (Policy, error) {
	for _, p := range l.Policies() {
		if p.Revision == revision {
			return p, nil
		}
	}
	return Policy{}, errNoRevision()
}

func errNoRevision() error {
	return &problem.Error{
		Kind: problem.NotFound, Op: "consent.policy", Title: "The box has no such revision of the policy",
		Hint: "GET /v1/policy/revisions lists those that it has.", Err: errors.New("unknown revision"),
	}
}
