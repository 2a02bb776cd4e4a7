package guardian

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	// maxOpen is how many requests of one child wait for an answer at most.
	maxOpen = 8
	// keptRequests is how many of a child are remembered once they were answered.
	keptRequests = 20
	// askAgain is how long a no holds before the child may ask for the same again.
	askAgain = 24 * time.Hour
)

// RequestID names a request; later ones are greater.
type RequestID int64

// String returns the identifier as 13 lower-case characters.
func (id RequestID) String() string { return ident.ItemID(id).String() }

// Request is what a child asks its guardians to consent to.
type Request struct {
	ID       RequestID
	Purpose  consent.Purpose
	Asked    time.Time
	Answer   string // "yes", "no"; "": none yet
	Answered time.Time
}

func requests(tx *db.Tx, child ident.UserID) (list []Request, err error) {
	rows, err := tx.Query(`SELECT id, purpose, asked, coalesce(answer, ''), answered FROM ward_request WHERE child = ? ORDER BY id DESC LIMIT ?`,
		int64(child), maxOpen+keptRequests)
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var q Request
		var asked, answered sql.NullInt64
		if err := rows.Scan(&q.ID, &q.Purpose, &asked, &q.Answer, &answered); err != nil {
			return nil, err
		}
		q.Asked, q.Answered = timeOf(asked), timeOf(answered)
		list = append(list, q)
	}
	return list, rows.Err()
}

// Ask has child ask its guardians for a consent. Asking again what waits for an answer
// changes nothing.
func (r *Room) Ask(ctx context.Context, child ident.Principal, p consent.Purpose) (q Request, err error) {
	const op = "guardian.request"
	err = r.DB.Write(ctx, func(tx *db.Tx) error {
		w, err := r.ward(tx, child.User)
		if err != nil {
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "You decide for yourself",
				Detail: "Only who is under 14 asks a guardian.", Hint: "Decide on the box's page under Consents."}
		}
		if !w.Grown.IsZero() {
			return grown(op)
		}
		state, err := r.Consent.StateIn(tx, child.User, p)
		if err != nil {
			return err
		}
		info, err := r.purpose(p)
		switch {
		case err != nil:
			return err
		case !info.Available:
			return &problem.Error{Kind: problem.Unsupported, Op: op, Title: "This version of the box cannot do that yet",
				Detail: "There is nothing behind that purpose that a consent could switch on.", Hint: "Ask for another one."}
		case state == consent.Granted:
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "Your guardian has agreed already", Hint: "There is nothing to ask for."}
		case len(w.standing()) == 0:
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "Nobody stands for you now",
				Detail: "There is no guardian who could answer.", Hint: "Ask whoever manages the box to name a guardian for you."}
		}
		open := 0
		for _, old := range w.Requests {
			switch {
			case old.Answer == "" && old.Purpose == p:
				q = old
				return nil
			case old.Answer == "":
				open++
			case old.Answer == "no" && old.Purpose == p && tx.Now.Sub(old.Answered).Abs() < askAgain:
				return &problem.Error{Kind: problem.Conflict, Op: op, Title: "Your guardian said no",
					Detail: "That was less than a day ago.", Hint: "Talk with your guardian; you can ask again tomorrow."}
			}
		}
		if open >= maxOpen {
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "Too much waits for an answer",
				Detail: fmt.Sprintf("There are %d requests that your guardian has not answered.", open), Hint: "Wait for an answer, or take one back."}
		}
		if _, err := tx.Exec(`DELETE FROM ward_request WHERE child = ?1 AND answer IS NOT NULL AND id <= coalesce(
			(SELECT id FROM ward_request WHERE child = ?1 AND answer IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?2), 0)`, int64(child.User), keptRequests-1); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO ward_request (child, purpose, asked) VALUES (?, ?, ?)`, int64(child.User), string(p), tx.Now.UnixMilli()); err != nil {
			return err
		}
		list, err := requests(tx, child.User)
		if err != nil {
			return err
		}
		q = list[0]
		if err := r.tell(tx, account.NoticeWardAsks, w.Name, w.standing()...); err != nil {
			return err
		}
		e := account.As(child, "http").Event("guardian.request", child.User)
		e.Object = string(p)
		return r.Audit.Append(tx, e)
	})
	return q, err
}

func (r *Room) purpose(p consent.Purpose) (consent.Info, error) {
	for _, info := range r.Consent.Purposes() {
		if info.ID == p {
			return info, nil
		}
	}
	return consent.Info{}, &problem.Error{Kind: problem.NotFound, Op: "guardian.purpose", Title: "There is no such purpose",
		Detail: "The box does not know that purpose.", Hint: "GET /v1/purposes lists those that it knows."}
}

func noRequest() error {
	return &problem.Error{Kind: problem.NotFound, Op: "guardian.request", Title: "There is no such request",
		Detail: "It may have been answered or taken back meanwhile.", Hint: "GET /v1/guardianship lists what waits for an answer."}
}

// TakeBack removes a request of child that was not answered yet.
func (r *Room) TakeBack(ctx context.Context, child ident.UserID, id RequestID) error {
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`DELETE FROM ward_request WHERE id = ? AND child = ? AND answer IS NULL`, int64(id), int64(child))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return noRequest()
	})
}

// Answer says yes or no to a request of a child for which g stands. A yes is a consent,
// under the policy that g has read; a no ends one that was suspended. receipt is what the
// box signs for it.
func (r *Room) Answer(ctx context.Context, g ident.Principal, id RequestID, yes bool, revision string, after *string, how string) (receipt consent.Receipt, err error) {
	const op = "guardian.answer"
	var child ident.UserID
	var q Request
	err = r.DB.Read(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(`SELECT child FROM ward_request WHERE id = ?`, int64(id)).Scan(&child)
		if err != nil {
			return noRequest()
		}
		w, err := r.stands(tx, op, g.User, child)
		if err != nil {
			return noRequest() // neither is it theirs to know that there is one
		}
		for _, old := range w.Requests {
			if old.ID == id && old.Answer == "" {
				q = old
				return nil
			}
		}
		return noRequest()
	})
	if err != nil {
		return receipt, err
	}
	if receipt, err = r.Decide(ctx, g, child, q.Purpose, yes, revision, after, how); err != nil {
		return receipt, err
	}
	// The decision has answered it, unless the ledger said so already.
	return receipt, r.DB.Write(ctx, func(tx *db.Tx) error { return answer(tx, child, q.Purpose, yes, g.User) })
}

// Decide records what g decides for child about a purpose, for all of its devices. A yes
// comes after the receipt that it names, as consent.Decision says; nil: after any.
func (r *Room) Decide(ctx context.Context, g ident.Principal, child ident.UserID, p consent.Purpose, yes bool, revision string, after *string, how string) (consent.Receipt, error) {
	if err := r.MustStand(ctx, g.User, child); err != nil {
		return consent.Receipt{}, err
	}
	if _, err := r.purpose(p); err != nil { // not the policy as a whole: that is the child's own no
		return consent.Receipt{}, err
	}
	d := consent.Decision{User: child, Actor: g.User, Purpose: p, Granted: yes, PolicyRevision: revision, How: how}
	if yes {
		d.After = after // a no is always heard
	}
	return r.Consent.Record(ctx, d)
}

// answer closes the open request of child for p.
func answer(tx *db.Tx, child ident.UserID, p consent.Purpose, yes bool, by ident.UserID) error {
	said := "no"
	if yes {
		said = "yes"
	}
	_, err := tx.Exec(`UPDATE ward_request SET answer = ?, answered = ?, actor = ? WHERE child = ? AND purpose = ? AND answer IS NULL`,
		said, tx.Now.UnixMilli(), int64(by), int64(child), string(p))
	return err
}

// decided follows a decision about somebody who is or was a child, in its transaction.
func (r *Room) decided(tx *db.Tx, d consent.Decision) error {
	w, err := r.ward(tx, d.User)
	if err != nil {
		return err
	}
	if !w.Grown.IsZero() {
		if d.Granted && d.Purpose == consent.Storage {
			return r.becomeMember(tx, d.User)
		}
		return nil
	}
	if d.Actor == d.User {
		if err := r.tell(tx, account.NoticeWardSaysNo, w.Name, w.standing()...); err != nil {
			return err
		}
	} else {
		by, err := r.Accounts.UserIn(tx, d.Actor)
		if err != nil {
			return err
		}
		if err := answer(tx, d.User, d.Purpose, d.Granted, d.Actor); err != nil {
			return err
		}
		if err := r.tell(tx, account.NoticeWardAnswer, by.Username, d.User); err != nil {
			return err
		}
	}
	if d.Granted {
		return r.keep(tx, d.User, d.Purpose)
	}
	if d.Purpose == consent.WholePolicy {
		d.Purpose = consent.Storage // everything rests on it
	}
	return r.schedule(tx, w, d)
}
