// Package guardian keeps who stands for a person under 14, and what follows from it
// (policy 8): a guardian agrees to each purpose or does not, the child asks and may say
// no, what came in without consent is deleted with proof, and a child that has become 14
// decides for itself.
//
// What is in force is the ledger's business (package consent): a consent counts while
// who gave it stands for the child. This package makes and ends the links.
//
// A guardian sees what was asked and decided, and what is to be deleted: no file, no
// name, no device. An admin sees that there is a guardian, and nothing else.
package guardian

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// Options of New. All but Log are needed.
type Options struct {
	DB       *db.DB
	Accounts *account.Accounts
	Audit    *audit.Log
	Consent  *consent.Ledger
	Rights   func() *rights.Register
	// Clean removes the contents that nobody keeps any longer, and has every file of the
	// database forget what went.
	Clean func(context.Context) error
	Log   *slog.Logger // nil discards
}

// Room is where guardians and children meet. It is safe for concurrent use.
type Room struct {
	Options
	wake chan struct{} // there is something to delete
}

// New returns the room of a box. It hears of each decision about a child from then on.
func New(o Options) *Room {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Room{Options: o, wake: make(chan struct{}, 1)}
	o.Consent.OnWardDecision(r.decided)
	return r
}

// Link is one who stands for a child, or was asked to.
type Link struct {
	Guardian ident.UserID
	Name     string    // user name
	Asked    time.Time // when they were invited
	Since    time.Time // when they accepted; zero: not yet
	Off      bool      // their account is switched off: meanwhile they do not stand for the child
}

// Stands reports whether the guardian may decide now.
func (l Link) Stands() bool { return !l.Since.IsZero() && !l.Off }

// Ward is a child as it and its guardians see it.
type Ward struct {
	Child     ident.UserID
	Name      string    // user name
	OfAge     string    // the month in which it turns 14: "2031-05"
	Alone     time.Time // sure time since when nobody stands for it; zero: somebody does
	Grown     time.Time // since when it decides for itself, and has not agreed to anything yet; zero: a guardian does
	Guardians []Link
	Requests  []Request // the newest first
	Erasures  []Erasure
	Receipts  []string // of deletions: JWS, the newest first
}

const viaBox = "box" // in the audit record, of what happens by itself

// Ward returns u as a child; NotFound if u is none.
func (r *Room) Ward(ctx context.Context, u ident.UserID) (w Ward, err error) {
	err = r.DB.Read(ctx, func(tx *db.Tx) error {
		w, err = r.ward(tx, u)
		return err
	})
	return w, err
}

// Children returns those for whom g stands or was asked to stand, by their names. What
// they asked and what is to be deleted is said only of those for whom g stands.
func (r *Room) Children(ctx context.Context, g ident.UserID) (list []Ward, err error) {
	err = r.DB.Read(ctx, func(tx *db.Tx) error {
		ids, err := childrenOf(tx, g)
		if err != nil {
			return err
		}
		for _, id := range ids {
			w, err := r.ward(tx, id)
			if err != nil {
				return err
			}
			list = append(list, w.asSeenBy(g))
		}
		return nil
	})
	return list, err
}

// asSeenBy leaves out what an invitation does not open.
func (w Ward) asSeenBy(g ident.UserID) Ward {
	for _, l := range w.Guardians {
		if l.Guardian == g && l.Stands() {
			return w
		}
	}
	w.Requests, w.Erasures, w.Receipts = nil, nil, nil
	return w
}

func childrenOf(tx *db.Tx, g ident.UserID) ([]ident.UserID, error) {
	return ids(tx.Query(`SELECT g.child FROM guardian AS g JOIN user AS u ON u.id = g.child WHERE g.guardian = ? ORDER BY u.username`, int64(g)))
}

func ids(rows *sql.Rows, err error) (list []ident.UserID, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id ident.UserID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, rows.Err()
}

// errNoWard is said to whoever asks about somebody for whom they do not stand, child or not.
func errNoWard(op string) error {
	return &problem.Error{Kind: problem.NotFound, Op: op, Title: "There is no such child",
		Detail: "You stand for nobody of that name.", Hint: "GET /v1/guardianship lists the children for whom you stand."}
}

func (r *Room) ward(tx *db.Tx, u ident.UserID) (w Ward, err error) {
	var alone, grown sql.NullInt64
	w.Child = u
	err = tx.QueryRow(`SELECT u.shown, w.of_age, w.alone, w.grown FROM ward AS w JOIN user AS u ON u.id = w.user WHERE w.user = ?`, int64(u)).
		Scan(&w.Name, &w.OfAge, &alone, &grown)
	if errors.Is(err, sql.ErrNoRows) {
		return w, errNoWard("guardian.ward")
	}
	if err != nil {
		return w, fmt.Errorf("guardian: %w", err)
	}
	w.Alone, w.Grown = timeOf(alone), timeOf(grown)
	if w.Guardians, err = links(tx, u); err != nil {
		return w, err
	}
	if w.Requests, err = requests(tx, u); err != nil {
		return w, err
	}
	if w.Erasures, err = erasures(tx, u); err != nil {
		return w, err
	}
	w.Receipts, err = receipts(tx, u)
	return w, err
}

func links(tx *db.Tx, child ident.UserID) (list []Link, err error) {
	rows, err := tx.Query(`SELECT g.guardian, u.shown, g.asked, g.since, u.disabled IS NOT NULL FROM guardian AS g JOIN user AS u ON u.id = g.guardian
		WHERE g.child = ? ORDER BY g.asked, g.guardian`, int64(child))
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l Link
		var asked, since sql.NullInt64
		if err := rows.Scan(&l.Guardian, &l.Name, &asked, &since, &l.Off); err != nil {
			return nil, err
		}
		l.Asked, l.Since = timeOf(asked), timeOf(since)
		list = append(list, l)
	}
	return list, rows.Err()
}

func timeOf(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}

// stands is the ward as one of its guardians may see and change it, or errNoWard.
func (r *Room) stands(tx *db.Tx, op string, g, child ident.UserID) (Ward, error) {
	w, err := r.ward(tx, child)
	if err != nil {
		return w, err
	}
	for _, l := range w.Guardians {
		if l.Guardian == g && l.Stands() && w.Grown.IsZero() {
			return w, nil
		}
	}
	return w, errNoWard(op)
}

// MustStand refuses whoever does not stand for child now, with NotFound.
func (r *Room) MustStand(ctx context.Context, g, child ident.UserID) error {
	return r.DB.Read(ctx, func(tx *db.Tx) error {
		_, err := r.stands(tx, "guardian.child", g, child)
		return err
	})
}

// tell gives each of the people a notice about another.
func (r *Room) tell(tx *db.Tx, kind, about string, to ...ident.UserID) error {
	for _, u := range to {
		if err := r.Accounts.NotifyAbout(tx, u, kind, about); err != nil {
			return err
		}
	}
	return nil
}

// standing are those who may decide for the ward now.
func (w Ward) standing() (list []ident.UserID) {
	for _, l := range w.Guardians {
		if l.Stands() {
			list = append(list, l.Guardian)
		}
	}
	return list
}
