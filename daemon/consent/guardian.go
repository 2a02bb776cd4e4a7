package consent

import (
	"fmt"
	"slices"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// guards is what the ledger knows of people under 14 (policy 8). The links themselves
// are package guardian's: tables ward and guardian.
//
// A consent is as good as the one who stands behind it: a grant counts while it was
// given by the person, or by somebody who is a guardian of the child now. So nothing
// has to be written when a guardian goes, and nothing can be forgotten.
type guards struct {
	// wards has the guardians that stand for each child, as of the last commit. A child
	// without one is there with none; who decides for themself is not there.
	wards map[ident.UserID][]ident.UserID
	// decided is called within the transaction of each decision about somebody who is or
	// was a child; nil: nobody is interested.
	decided func(*db.Tx, Decision) error
}

// standing are the guardians who may decide for a child now.
const standing = `SELECT g.child, g.guardian FROM ward AS w JOIN guardian AS g ON g.child = w.user JOIN user AS u ON u.id = g.guardian
	WHERE w.grown IS NULL AND g.since IS NOT NULL AND u.disabled IS NULL`

func (g *guards) load(tx *db.Tx) error {
	g.wards = map[ident.UserID][]ident.UserID{}
	rows, err := tx.Query(`SELECT user FROM ward WHERE grown IS NULL`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var child ident.UserID
		if err := rows.Scan(&child); err != nil {
			return err
		}
		g.wards[child] = nil
	}
	if err := rows.Err(); err != nil {
		return err
	}
	links, err := tx.Query(standing)
	if err != nil {
		return err
	}
	defer links.Close()
	for links.Next() {
		var child, guardian ident.UserID
		if err := links.Scan(&child, &guardian); err != nil {
			return err
		}
		g.wards[child] = append(g.wards[child], guardian)
	}
	return links.Err()
}

// OnWardDecision has fn called within the transaction of each decision about somebody
// who is or was a child. Its error undoes the decision. Call it once, before people come.
func (l *Ledger) OnWardDecision(fn func(*db.Tx, Decision) error) { l.guards.decided = fn }

// GuardiansChanged says that who stands for child, or whether anybody needs to, is
// another in tx. What no longer holds ends with the commit.
func (l *Ledger) GuardiansChanged(tx *db.Tx, child ident.UserID) error {
	ward, err := isWard(tx, child)
	if err != nil {
		return err
	}
	var list []ident.UserID
	if ward {
		rows, err := tx.Query(standing+` AND w.user = ?`, int64(child))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var of, guardian ident.UserID
			if err := rows.Scan(&of, &guardian); err != nil {
				return err
			}
			list = append(list, guardian)
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	tx.AfterCommit(func() {
		l.mu.Lock()
		if delete(l.guards.wards, child); ward {
			l.guards.wards[child] = list
		}
		ended := l.unheld(child)
		l.mu.Unlock()
		for _, lease := range ended {
			lease.end(unguarded(lease.purpose))
		}
	})
	return nil
}

// isWard reports whether a guardian decides for u.
func isWard(tx *db.Tx, u ident.UserID) (ward bool, err error) {
	err = tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM ward WHERE user = ? AND grown IS NULL)`, int64(u)).Scan(&ward)
	return ward, err
}

// standsFor reports whether by is a guardian who may decide for child now.
func standsFor(tx *db.Tx, by, child ident.UserID) (stands bool, err error) {
	err = tx.QueryRow(`SELECT EXISTS (`+standing+` AND w.user = ? AND g.guardian = ?)`, int64(child), int64(by)).Scan(&stands)
	return stands, err
}

// mayDecide refuses who neither is the person nor stands for them, and a child that
// says yes by itself. For a child the policy comes first: whatever else a guardian
// agrees to rests on it.
func (l *Ledger) mayDecide(tx *db.Tx, d Decision) error {
	ward, err := isWard(tx, d.User)
	if err != nil {
		return err
	}
	if !ward {
		if d.Actor != d.User {
			return notTheirs()
		}
		return nil
	}
	if d.Actor == d.User {
		if !d.Granted {
			return nil // saying no is as easy for a child
		}
		return &problem.Error{
			Kind: problem.Forbidden, Op: "consent.record", Title: "Your guardian decides about that",
			Detail:  "For somebody under 14 a guardian agrees to what the box may do. You can say no yourself at any time.",
			Hint:    "Ask your guardian: on the box's page under Guardian, or POST /v1/guardianship/requests.",
			Members: map[string]any{"purpose": string(d.Purpose), "request_url": requestURL, "page": guardianPage},
		}
	}
	stands, err := standsFor(tx, d.Actor, d.User)
	if err != nil {
		return err
	}
	if !stands {
		return notTheirs()
	}
	if !d.Granted || d.Purpose == Storage {
		return nil
	}
	core, err := l.wardCore(tx, d.User)
	if err != nil || core == Granted {
		return err
	}
	return &problem.Error{
		Kind: problem.Conflict, Op: "consent.record", Title: "Accept the privacy policy for the child first",
		Detail:  "Everything else that the box does with a child's data rests on it.",
		Hint:    "Read the policy, accept it for the child, and then decide about this purpose.",
		Members: map[string]any{"purpose": string(Storage), "page": guardianPage},
	}
}

func notTheirs() *problem.Error {
	return &problem.Error{
		Kind: problem.Forbidden, Op: "consent.record", Title: "Nobody can consent for somebody else",
		Detail: "A consent is given or withdrawn by the person whose data it is about.",
		Hint:   "Ask them to sign in and decide.",
	}
}

const (
	// guardianPage is where a child asks and a guardian answers.
	guardianPage = "/#/guardian"
	requestURL   = "/v1/guardianship/requests"
)

// judge is Catalogue.state for u, whose decision d is. l.mu is held.
func (l *Ledger) judge(u ident.UserID, info *Info, d, core decision, declined int64) State {
	s := l.cat.state(info, d, core, declined)
	if s != Granted {
		return s
	}
	guardians, ward := l.guards.wards[u]
	behind := func(d decision) bool {
		return d.actor == u && !ward || d.actor != u && slices.Contains(guardians, d.actor)
	}
	if !behind(d) {
		return Suspended
	}
	if ward && info.ID != Storage && (l.cat.state(l.coreInfo(), core, core, declined) != Granted || !behind(core)) {
		return Suspended
	}
	return Granted
}

// judgeIn is judge by what stands in tx. Nobody pays for it but children and who was one.
func (l *Ledger) judgeIn(tx *db.Tx, u ident.UserID, info *Info, d, core decision, declined int64) (State, error) {
	s := l.cat.state(info, d, core, declined)
	if s != Granted || d.actor == u {
		return s, nil // a child has no grant of its own
	}
	switch stands, err := standsFor(tx, d.actor, u); {
	case err != nil:
		return "", err
	case !stands:
		return Suspended, nil
	case info.ID == Storage:
		return s, nil
	}
	if core, err := l.wardCore(tx, u); err != nil || core != Granted {
		return Suspended, err
	}
	return s, nil
}

// wardCore is what became of Storage for a child.
func (l *Ledger) wardCore(tx *db.Tx, u ident.UserID) (State, error) {
	core, declined, err := counting(tx, u, slot{Storage, 0})
	if err != nil {
		return "", err
	}
	return l.judgeIn(tx, u, l.coreInfo(), core, core, declined)
}

func (l *Ledger) coreInfo() *Info { return &l.cat.purposes[l.cat.index[Storage]] }

// StateIn says within tx what became of u's consent to p for all devices.
func (l *Ledger) StateIn(tx *db.Tx, u ident.UserID, p Purpose) (State, error) {
	info, err := l.cat.info(p)
	if err != nil {
		return "", err
	}
	d, declined, err := counting(tx, u, slot{p, 0})
	if err != nil {
		return "", err
	}
	core, _, err := counting(tx, u, slot{Storage, 0})
	if err != nil {
		return "", err
	}
	return l.judgeIn(tx, u, info, d, core, declined)
}

// ask turns the problem of a consent that u has not given into one that u can act on:
// a child asks its guardian. l.mu is held.
func (l *Ledger) ask(u ident.UserID, info *Info, e *problem.Error) *problem.Error {
	guardians, ward := l.guards.wards[u]
	if !ward {
		return e
	}
	title := info.Text["en"].Title
	if e.Op != opWithdrawn { // that says better why it ends now
		e.Title = "Your guardian's consent is needed first"
		e.Detail = fmt.Sprintf("Your guardian has not agreed to “%s”.", title)
	}
	e.Hint = fmt.Sprintf("Ask for “%s” on the box's page under Guardian; your guardian answers there.", title)
	if len(guardians) == 0 {
		e.Detail = fmt.Sprintf("Nobody stands for you as a guardian now, so nobody agrees to “%s”.", title)
		e.Hint = "Ask whoever manages the box to name a guardian for you."
	}
	delete(e.Members, "grant_url")
	e.Members["request_url"], e.Members["page"] = requestURL, guardianPage
	return e
}

// asked is ask for who does not hold l.mu.
func (l *Ledger) asked(u ident.UserID, info *Info, e *problem.Error) *problem.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ask(u, info, e)
}

// unguarded is why work ends when nobody stands behind its consent any more.
func unguarded(info *Info) *problem.Error {
	return &problem.Error{
		Kind: problem.ConsentRequired, Op: "consent.unguarded", Title: "Nobody stands behind this consent any more",
		Detail:  fmt.Sprintf("Who agreed to “%s” for you is not your guardian now, so the box stopped at once. What it had stored before is untouched.", info.Text["en"].Title),
		Hint:    "Who stands for you now has to agree again: see the box's page under Guardian.",
		Members: map[string]any{"purpose": string(info.ID), "request_url": requestURL, "page": guardianPage},
	}
}

// wardDecided tells whoever keeps the links of a decision about a child.
func (l *Ledger) wardDecided(tx *db.Tx, d Decision) error {
	if l.guards.decided == nil {
		return nil
	}
	var was bool
	err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM ward WHERE user = ?)`, int64(d.User)).Scan(&was)
	if err != nil || !was {
		return err
	}
	return l.guards.decided(tx, d)
}

// Entry returns the hash of the newest decision about u and p, as its receipt says it;
// "": there is none.
func (l *Ledger) Entry(tx *db.Tx, u ident.UserID, p Purpose) (string, error) {
	last, err := latest(tx, u, slot{p, 0})
	if err != nil || last.seq == 0 {
		return "", err
	}
	return fmt.Sprintf("%x", last.hash), nil
}

// Controller returns the box as its receipts name it.
func (l *Ledger) Controller() Controller {
	return Controller{ID: l.sign.box, Key: l.sign.kid, SPKI: l.sign.der}
}

// OfAge returns when somebody who turns 14 in the month ("2031-05") surely has: at its
// end, UTC. Their birthday is not known.
func OfAge(month string) (time.Time, error) {
	t, err := time.Parse("2006-01", month)
	if err != nil {
		return time.Time{}, fmt.Errorf("consent: %q is not a month", month)
	}
	return t.AddDate(0, 1, 0), nil
}
