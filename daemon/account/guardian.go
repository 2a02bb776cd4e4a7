package account

import (
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// What guardians, their children and the owner of the box hear of each other
// (package guardian). Notice.Name is the other person's name, as it was then.
const (
	NoticeGuardianAsked = "guardian_asked" // to an adult: somebody wants them as a child's guardian
	NoticeGuardianNew   = "guardian_new"   // to a child and its other guardian: somebody accepted
	NoticeGuardianEnds  = "guardian_ends"  // to all three: somebody is no guardian any more
	NoticeGuardianGone  = "guardian_gone"  // to the owner and the child: nobody stands for the child now
	NoticeWardAsks      = "ward_asks"      // to guardians: the child asks for a consent
	NoticeWardAnswer    = "ward_answer"    // to the child: a guardian answered or decided
	NoticeWardSaysNo    = "ward_says_no"   // to guardians: the child withdrew a consent itself
	NoticeWardErasure   = "ward_erasure"   // to both: what came in will be deleted
	NoticeWardErased    = "ward_erased"    // to both: it was deleted
	NoticeOfAge         = "of_age"         // to the child: it decides itself from now on
	NoticeWardOfAge     = "ward_of_age"    // to guardians: the child decides itself from now on
)

// NotifyAbout adds a notice within tx that concerns another person, by their name.
func (a *Accounts) NotifyAbout(tx *db.Tx, user ident.UserID, kind, name string) error {
	return a.addNotice(tx, user, kind, 0, name)
}

// Grow makes a child a member within tx, in every session that it has.
func (a *Accounts) Grow(tx *db.Tx, child ident.UserID) error {
	if _, err := tx.Exec(`UPDATE user SET role = 'member' WHERE id = ? AND role = 'child'`, int64(child)); err != nil {
		return err
	}
	a.forget(tx, func(p ident.Principal) bool { return p.User == child })
	return nil
}

// UserIn is User within tx.
func (a *Accounts) UserIn(tx *db.Tx, id ident.UserID) (User, error) {
	u, err := scanUser(tx.QueryRow(`SELECT `+userColumns+` FROM user WHERE id = ?`, int64(id)))
	if isNoRows(err) {
		err = notFound("account.user", "person")
	}
	return u, err
}

// OwnerIn returns the owner of the box.
func (a *Accounts) OwnerIn(tx *db.Tx) (id ident.UserID, err error) {
	err = tx.QueryRow(`SELECT id FROM user WHERE role = 'owner'`).Scan(&id)
	return id, err
}

// Manages reports whether by may manage the people of the box.
func (by Actor) Manages() bool { return by.admin() }

// User is who acts; zero for Root.
func (by Actor) User() ident.UserID { return by.who.User }

// Event is what by did, for the audit record.
func (by Actor) Event(action string, subject ident.UserID) audit.Event {
	return by.event(action, subject)
}
