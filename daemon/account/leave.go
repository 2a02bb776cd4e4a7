package account

import (
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// What a person hears about an account that is cancelled, theirs or another's.
const (
	NoticeCancelled   = "cancellation"    // this account is being cancelled
	NoticeRemoved     = "removal"         // whoever manages the box has it removed
	NoticeKept        = "cancellation_no" // it is kept after all
	NoticeHandOver    = "handover"        // somebody offers their files
	NoticeHandTaken   = "handover_yes"    // the offer was taken
	NoticeHandRefused = "handover_no"     // it was not
	NoticeHanded      = "handover_done"   // the files are there
	NoticeRequest     = "request"         // somebody wrote a request
	NoticeAnswered    = "request_answer"  // a request was answered
)

// notLeaving holds for whom no cancellation goes on (package erasure): their app tokens
// and camera passwords rest from the request on, and come back if the account is kept.
const notLeaving = `NOT EXISTS (SELECT 1 FROM cancellation gone WHERE gone.user = u.id)`

// Notify adds a notice for a person within tx.
func (a *Accounts) Notify(tx *db.Tx, user ident.UserID, kind string) error {
	return a.notify(tx, user, kind, 0)
}

// NotifyAdmins adds a notice for the owner and the admins within tx.
func (a *Accounts) NotifyAdmins(tx *db.Tx, kind string) error {
	rows, err := tx.Query(`SELECT id FROM user WHERE role IN ('owner', 'admin') AND disabled IS NULL ORDER BY id`)
	if err != nil {
		return err
	}
	var list []ident.UserID
	for rows.Next() {
		var u ident.UserID
		if err := rows.Scan(&u); err != nil {
			rows.Close()
			return err
		}
		list = append(list, u)
	}
	if err := rows.Close(); err != nil {
		return err
	}
	for _, u := range list {
		if err := a.notify(tx, u, kind, 0); err != nil {
			return err
		}
	}
	return nil
}

// Leaves is called within tx when the cancellation of an account begins or is undone:
// what its credentials open changes with the commit. Whoever asked, if it was by p,
// stays signed in where they are; all other sessions end.
func (a *Accounts) Leaves(tx *db.Tx, id ident.UserID, p ident.Principal) error {
	if _, err := tx.Exec(`DELETE FROM session WHERE user = ? AND id <> ?`, int64(id), p.Session); err != nil {
		return err
	}
	a.forget(tx, func(q ident.Principal) bool { return q.User == id })
	return nil
}

// Returns is called within tx when a cancellation is undone.
func (a *Accounts) Returns(tx *db.Tx, id ident.UserID) {
	a.forget(tx, func(q ident.Principal) bool { return q.User == id })
}

// Retire switches a person off for good within tx: what follows is that their row goes.
func (a *Accounts) Retire(tx *db.Tx, id ident.UserID) error {
	if _, err := tx.Exec(`UPDATE user SET disabled = ? WHERE id = ? AND disabled IS NULL`, tx.Now.UnixMilli(), int64(id)); err != nil {
		return err
	}
	if a.opt.Stands != nil {
		if err := a.opt.Stands(tx, id); err != nil {
			return err
		}
	}
	return a.endSessions(tx, id)
}

// MayRemove says whether by may have the account of u removed: the owner's by nobody, an
// admin's by the owner or root.
func MayRemove(by Actor, u User) error {
	const op = "account.remove"
	switch {
	case !by.admin():
		return notAdmin(op)
	case u.Role == ident.Owner:
		return &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "The owner of the box cannot be removed.", Hint: "Every box has an owner, who can hand it over to somebody else."}
	case u.Role == ident.Admin && !by.owner():
		return &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "Only the owner may remove an admin.", Hint: "Ask the owner of the box."}
	}
	return nil
}

// Who is the person that by acts as; zero for root.
func (by Actor) Who() ident.Principal { return by.who }

// Via is the way in by which it acts.
func (by Actor) Via() string { return by.via }
