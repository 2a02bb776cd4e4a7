package account

import (
	"context"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// OfferDays is how many days the owner's offer of the box lasts.
const OfferDays = 7

// What people hear of the box's owner. Notice.Name is the other person's name, as it was.
const (
	NoticeOwnerOffer = "owner_offer" // the owner offers them the box
	NoticeOwnerNo    = "owner_no"    // the offer was taken back, or declined
	NoticeOwnerNew   = "owner_new"   // to both: the box has another owner
)

// BoxOffer is that the owner wants to hand the box over.
type BoxOffer struct {
	From, To   ident.UserID
	FromName   string
	ToName     string
	Asked, Due time.Time // Due is of the sure clock
}

const boxOffers = `SELECT o.user, o.person, f.shown, p.shown, o.asked, o.due FROM ownership_offer o
	JOIN user f ON f.id = o.user AND f.role = 'owner' JOIN user p ON p.id = o.person WHERE o.due > ?1 AND `

func scanOffer(row interface{ Scan(...any) error }) (o BoxOffer, err error) {
	var asked, due int64
	err = row.Scan(&o.From, &o.To, &o.FromName, &o.ToName, &asked, &due)
	o.Asked, o.Due = time.UnixMilli(asked).UTC(), time.UnixMilli(due).UTC()
	return o, err
}

func noOffer(op string) error {
	return &problem.Error{Kind: problem.NotFound, Op: op, Title: "Nobody offers this box",
		Detail: "The offer was taken back, declined or accepted, or its time is over.", Hint: "Ask the owner of the box to offer it again."}
}

// Offered returns the offer of the box that u made or got; problem.NotFound: none stands.
func (a *Accounts) Offered(ctx context.Context, u ident.UserID) (o BoxOffer, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		o, err = scanOffer(tx.QueryRowContext(ctx, boxOffers+`(o.user = ?2 OR o.person = ?2)`, tx.Sure.UnixMilli(), int64(u)))
		return err
	})
	if isNoRows(err) {
		err = noOffer("account.offered")
	}
	return o, err
}

// mayOwn says whether the box can be given to u, who is not its owner.
func mayOwn(tx *db.Tx, op string, u User) error {
	var guarded bool
	if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM ward WHERE user = ?)`, int64(u.ID)).Scan(&guarded); err != nil {
		return err
	}
	switch {
	case u.Role == ident.Owner:
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That person owns the box already", Hint: "Name somebody else."}
	case u.Role == ident.Child || guarded:
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "A child cannot own a box",
			Detail: "For somebody under 14 a guardian decides, and an owner decides for everybody.", Hint: "Name an adult of the box."}
	case !u.Disabled.IsZero():
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That account is switched off",
			Detail: "Who cannot sign in cannot look after a box.", Hint: "Name somebody else, or switch the account on first."}
	case u.Leaving:
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That account is being cancelled",
			Detail: "A box has an owner as long as it is in use.", Hint: "Name somebody else, or have the account kept first."}
	}
	return nil
}

// OfferBox offers the box to the person of that name, in the place of an earlier offer,
// for OfferDays. p is its owner, and has proved lately who they are (RequireFresh).
func (a *Accounts) OfferBox(ctx context.Context, p ident.Principal, name string) (o BoxOffer, err error) {
	const op = "account.offer_box"
	if err := full(p, op); err != nil {
		return o, err
	}
	to, err := a.UserNamed(ctx, name)
	if err != nil {
		return o, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		owner, err := a.UserIn(tx, p.User)
		if err != nil {
			return err
		}
		if owner.Role != ident.Owner {
			return &problem.Error{Kind: problem.Forbidden, Op: op, Title: "Only the owner may hand the box over", Hint: "Ask the owner of the box."}
		}
		if to, err = a.UserIn(tx, to.ID); err == nil {
			err = mayOwn(tx, op, to)
		}
		if err != nil {
			return err
		}
		before, err := scanOffer(tx.QueryRow(boxOffers+`o.user = ?2`, tx.Sure.UnixMilli(), int64(owner.ID)))
		if err == nil && before.To != to.ID {
			err = a.NotifyAbout(tx, before.To, NoticeOwnerNo, owner.Username)
		}
		if err != nil && !isNoRows(err) {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO ownership_offer (user, person, asked, due) VALUES (?1, ?2, ?3, ?4)
			ON CONFLICT (user) DO UPDATE SET person = ?2, asked = ?3, due = ?4`,
			int64(owner.ID), int64(to.ID), tx.Now.UnixMilli(), tx.Sure.AddDate(0, 0, OfferDays).UnixMilli()); err != nil {
			return err
		}
		if o, err = scanOffer(tx.QueryRow(boxOffers+`o.user = ?2`, tx.Sure.UnixMilli(), int64(owner.ID))); err != nil {
			return err
		}
		if err := a.NotifyAbout(tx, to.ID, NoticeOwnerOffer, owner.Username); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event("owner.offer", to.ID))
	})
	return o, err
}

// TakeBox makes p, to whom the box is offered, its owner, and the owner a member. Both
// keep what they have and stay signed in; what they may do is another thing when it
// returns. p has proved lately who they are (RequireFresh).
func (a *Accounts) TakeBox(ctx context.Context, p ident.Principal) error {
	const op = "account.take_box"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		o, err := scanOffer(tx.QueryRow(boxOffers+`o.person = ?2`, tx.Sure.UnixMilli(), int64(p.User)))
		if isNoRows(err) {
			return noOffer(op)
		}
		if err != nil {
			return err
		}
		me, err := a.UserIn(tx, p.User)
		if err == nil {
			err = mayOwn(tx, op, me)
		}
		if err != nil {
			return err
		}
		// In this order: there is never more than one (index user_owner).
		if _, err := tx.Exec(`UPDATE user SET role = 'member' WHERE id = ? AND role = 'owner'`, int64(o.From)); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE user SET role = 'owner' WHERE id = ?`, int64(o.To)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM ownership_offer`); err != nil {
			return err
		}
		if err := a.NotifyAbout(tx, o.From, NoticeOwnerNew, o.ToName); err != nil {
			return err
		}
		if err := a.NotifyAbout(tx, o.To, NoticeOwnerNew, o.ToName); err != nil {
			return err
		}
		a.forget(tx, func(q ident.Principal) bool { return q.User == o.From || q.User == o.To })
		return a.log.Append(tx, As(p, viaHTTP).event("owner.accept", o.From))
	})
}

// EndOffer takes the offer of the box back, if p made it, or declines it, if p got it.
func (a *Accounts) EndOffer(ctx context.Context, p ident.Principal) error {
	const op = "account.end_offer"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		o, err := scanOffer(tx.QueryRow(boxOffers+`(o.user = ?2 OR o.person = ?2)`, tx.Sure.UnixMilli(), int64(p.User)))
		if isNoRows(err) {
			return noOffer(op)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM ownership_offer WHERE user = ?`, int64(o.From)); err != nil {
			return err
		}
		action, other, name := "owner.withdraw", o.To, o.FromName
		if p.User == o.To {
			action, other, name = "owner.decline", o.From, o.ToName
		}
		if err := a.NotifyAbout(tx, other, NoticeOwnerNo, name); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event(action, other))
	})
}
