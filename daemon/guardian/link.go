package guardian

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// maxGuardians is how many stand for a child at most, invitations included.
const maxGuardians = 2

// NewChild describes a child to be added.
type NewChild struct {
	Username, Password string
	// OfAge is the month in which it turns 14: "2031-05". More of its birth is not asked.
	OfAge string
	// Guardian is the user name of an adult of the box, who still has to accept.
	Guardian string
}

// CreateChild adds a child and asks its guardian. Until that one has accepted and agreed
// to something, nothing is taken from the child. Whoever may add members may do it.
func (r *Room) CreateChild(ctx context.Context, by account.Actor, n NewChild) (account.User, error) {
	const op = "guardian.create"
	if !by.Manages() {
		return r.Accounts.CreateUser(ctx, by, account.NewUser{Username: n.Username, Password: n.Password, Role: ident.Child}) // says why not
	}
	ends, err := consent.OfAge(n.OfAge)
	if err != nil || n.OfAge == "" {
		return account.User{}, &problem.Error{Kind: problem.Invalid, Op: op, Title: "The month in which the child turns 14 is not clear",
			Detail: "It is all that the box wants to know of the child's birth.", Hint: "Write year and month: 2031-05."}
	}
	g, err := r.adult(ctx, op, n.Guardian)
	if err != nil {
		return account.User{}, err
	}
	return r.Accounts.CreateUser(ctx, by, account.NewUser{Username: n.Username, Password: n.Password, Role: ident.Child, With: func(tx *db.Tx, child account.User) error {
		switch left := ends.Sub(tx.Sure); {
		case left <= 0:
			return &problem.Error{Kind: problem.Invalid, Op: op, Title: "Who has turned 14 needs no guardian",
				Detail: "That month is over.", Hint: "Add the person as a member."}
		case ends.After(tx.Sure.AddDate(14, 2, 0)):
			return &problem.Error{Kind: problem.Invalid, Op: op, Title: "That month is more than 14 years away",
				Detail: "Nobody who lives now turns 14 then.", Hint: "Write the month in which the child turns 14, not that of its birth."}
		}
		if _, err := tx.Exec(`INSERT INTO ward (user, of_age, alone) VALUES (?, ?, ?)`, int64(child.ID), n.OfAge, tx.Sure.UnixMilli()); err != nil {
			return err
		}
		if err := r.invite(tx, by, op, child.ID, child.Username, g); err != nil {
			return err
		}
		return r.Consent.GuardiansChanged(tx, child.ID)
	}})
}

// adult finds somebody who can be a guardian. Whether they still can is asked again in
// the transaction.
func (r *Room) adult(ctx context.Context, op, name string) (account.User, error) {
	u, err := r.Accounts.UserNamed(ctx, name)
	if problem.KindOf(err) == problem.NotFound {
		return u, &problem.Error{Kind: problem.Invalid, Op: op, Title: "There is no such guardian",
			Detail: "A guardian is an adult with an account on this box.", Hint: "Name one by the user name; add the account first if there is none."}
	}
	return u, err
}

// invite asks g to stand for child.
func (r *Room) invite(tx *db.Tx, by account.Actor, op string, child ident.UserID, name string, g account.User) error {
	g, err := r.Accounts.UserIn(tx, g.ID)
	if err != nil {
		return err
	}
	switch {
	case g.Role == ident.Child || g.ID == child:
		return &problem.Error{Kind: problem.Invalid, Op: op, Title: "A child cannot be a guardian",
			Detail: "Somebody under 14 needs a guardian and stands for nobody.", Hint: "Name an adult of the box."}
	case !g.Disabled.IsZero():
		return &problem.Error{Kind: problem.Invalid, Op: op, Title: "That account is switched off",
			Detail: "Who cannot sign in cannot decide for a child.", Hint: "Name somebody else, or switch the account on first."}
	}
	var asked, n int
	err = tx.QueryRow(`SELECT coalesce(sum(guardian = ?2), 0), count(*) FROM guardian WHERE child = ?1`, int64(child), int64(g.ID)).Scan(&asked, &n)
	switch {
	case err != nil:
		return err
	case asked > 0:
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That guardian was named already",
			Detail: "They stand for the child, or have not answered yet.", Hint: "Ask them to look at the box's page under Guardian."}
	case n >= maxGuardians:
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "A child has two guardians at most",
			Detail: "There are two, counting whoever has not answered yet.", Hint: "To hand over, one of them steps down first."}
	}
	if _, err := tx.Exec(`INSERT INTO guardian (child, guardian, asked) VALUES (?, ?, ?)`, int64(child), int64(g.ID), tx.Now.UnixMilli()); err != nil {
		return err
	}
	if err := r.tell(tx, account.NoticeGuardianAsked, name, g.ID); err != nil {
		return err
	}
	e := by.Event("guardian.ask", child)
	e.Object = g.ID.String()
	return r.Audit.Append(tx, e)
}

// Name asks another adult to stand for child. Guardians who stand for it may, to share
// or to hand over; who manages the box may only while nobody does.
func (r *Room) Name(ctx context.Context, by account.Actor, child ident.UserID, name string) error {
	const op = "guardian.name"
	g, err := r.adult(ctx, op, name)
	if err != nil {
		return err
	}
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		w, err := r.ward(tx, child)
		if err != nil {
			return err
		}
		own := false
		for _, id := range w.standing() {
			own = own || id == by.User()
		}
		switch {
		case !w.Grown.IsZero():
			return grown(op)
		case own:
		case !by.Manages():
			return errNoWard(op)
		case len(w.standing()) > 0:
			return &problem.Error{Kind: problem.Forbidden, Op: op, Title: "The child has a guardian",
				Detail: "Only who stands for a child shares that with somebody or hands it over.",
				Hint:   "Ask the guardian to name the other one, on the box's page under Guardian."}
		}
		return r.invite(tx, by, op, child, w.Name, g)
	})
}

func grown(op string) error {
	return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That person has turned 14",
		Detail: "They decide for themself, and need no guardian.", Hint: "There is nothing to do: ask them."}
}

// Accept makes the invited g a guardian of child. The caller has made sure lately of who
// g is (account.RequireFresh).
func (r *Room) Accept(ctx context.Context, g ident.Principal, child ident.UserID) error {
	const op = "guardian.accept"
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		w, err := r.ward(tx, child)
		if err != nil {
			return err
		}
		u, err := r.Accounts.UserIn(tx, g.User)
		if err != nil {
			return err
		}
		for _, l := range w.Guardians {
			switch {
			case l.Guardian != g.User:
				continue
			case !l.Since.IsZero():
				return nil // it is so already
			case u.Role == ident.Child || l.Off || !w.Grown.IsZero():
				return errNoWard(op)
			}
			if _, err := tx.Exec(`UPDATE guardian SET since = ? WHERE child = ? AND guardian = ?`, tx.Now.UnixMilli(), int64(child), int64(g.User)); err != nil {
				return err
			}
			if err := r.tell(tx, account.NoticeGuardianNew, u.Username, append(w.standing(), child)...); err != nil {
				return err
			}
			e := account.As(g, "http").Event("guardian.accept", child)
			e.Object = g.User.String()
			if err := r.Audit.Append(tx, e); err != nil {
				return err
			}
			return r.changed(tx, child)
		}
		return errNoWard(op)
	})
}

// Leave ends that guardian stands for child, or takes an invitation back or declines it:
// the guardian themself may, and who manages the box. What they agreed to for the child
// is suspended at once; what is stored is untouched.
func (r *Room) Leave(ctx context.Context, by account.Actor, child, guardian ident.UserID) error {
	const op = "guardian.leave"
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		if by.User() != guardian && !by.Manages() {
			return errNoWard(op)
		}
		return r.unlink(tx, by, op, child, guardian)
	})
}

func (r *Room) unlink(tx *db.Tx, by account.Actor, op string, child, guardian ident.UserID) error {
	w, err := r.ward(tx, child)
	if err != nil {
		return err
	}
	for _, l := range w.Guardians {
		if l.Guardian != guardian {
			continue
		}
		if _, err := tx.Exec(`DELETE FROM guardian WHERE child = ? AND guardian = ?`, int64(child), int64(guardian)); err != nil {
			return err
		}
		e := by.Event("guardian.leave", child)
		e.Object = guardian.String()
		if err := r.Audit.Append(tx, e); err != nil {
			return err
		}
		if l.Since.IsZero() { // it never counted; whoever may name another one hears of it
			owner, err := r.Accounts.OwnerIn(tx)
			if err != nil || by.User() != guardian {
				return err
			}
			return r.tell(tx, account.NoticeGuardianEnds, l.Name, owner)
		}
		to := []ident.UserID{child, guardian}
		for _, id := range w.standing() {
			if id != guardian {
				to = append(to, id)
			}
		}
		to = slices.DeleteFunc(to, func(id ident.UserID) bool { return id == by.User() })
		if err := r.tell(tx, account.NoticeGuardianEnds, l.Name, to...); err != nil {
			return err
		}
		return r.changed(tx, child)
	}
	return errNoWard(op)
}

// changed takes into account that who stands for child is another. Whoever is alone now
// is told, and so is the owner of the box, who can name somebody.
func (r *Room) changed(tx *db.Tx, child ident.UserID) error {
	if err := r.Consent.GuardiansChanged(tx, child); err != nil {
		return err
	}
	w, err := r.ward(tx, child)
	if err != nil {
		return err
	}
	switch alone := len(w.standing()) == 0; {
	case !alone:
		_, err := tx.Exec(`UPDATE ward SET alone = NULL WHERE user = ?`, int64(child))
		return err
	case !w.Alone.IsZero() || !w.Grown.IsZero():
		return nil
	}
	if _, err := tx.Exec(`UPDATE ward SET alone = ? WHERE user = ?`, tx.Sure.UnixMilli(), int64(child)); err != nil {
		return err
	}
	owner, err := r.Accounts.OwnerIn(tx)
	if err != nil {
		return err
	}
	return r.tell(tx, account.NoticeGuardianGone, w.Name, owner, child)
}

// Stands has the children of u follow when u's account was switched off or on in tx: it
// is account.Options.Stands.
func (r *Room) Stands(tx *db.Tx, u ident.UserID) error {
	list, err := childrenOf(tx, u)
	if err != nil {
		return err
	}
	for _, child := range list {
		if err := r.changed(tx, child); err != nil {
			return err
		}
	}
	return nil
}

// Gone ends all that u stands for and all who stand for u, within the transaction that
// removes the account: call it before the row goes.
func (r *Room) Gone(tx *db.Tx, by account.Actor, u ident.UserID) error {
	list, err := childrenOf(tx, u)
	if err != nil {
		return err
	}
	for _, child := range list {
		if err := r.unlink(tx, by, "guardian.gone", child, u); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`DELETE FROM ward WHERE user = ?`, int64(u)); err != nil {
		return err
	}
	return r.Consent.GuardiansChanged(tx, u)
}

// Mature has those decide for themselves who have surely turned 14: guardians stop
// deciding and seeing, and what they agreed to is suspended until the person has read
// the policy and agreed to it. It returns how many those are.
func (r *Room) Mature(ctx context.Context) (n int, err error) {
	var due []ident.UserID
	find := func(tx *db.Tx) error {
		due = nil
		rows, err := tx.Query(`SELECT user, of_age FROM ward WHERE grown IS NULL`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id ident.UserID
			var month string
			if err := rows.Scan(&id, &month); err != nil {
				return err
			}
			if ends, err := consent.OfAge(month); err != nil {
				return err
			} else if !tx.Sure.Before(ends) {
				due = append(due, id)
			}
		}
		return rows.Err()
	}
	if err := r.DB.Read(ctx, find); err != nil || len(due) == 0 {
		return 0, err
	}
	err = r.DB.Write(ctx, func(tx *db.Tx) error {
		if err := find(tx); err != nil {
			return err
		}
		for _, id := range due {
			if err := r.mature(tx, id); err != nil {
				return err
			}
		}
		n = len(due)
		return nil
	})
	return n, err
}

func (r *Room) mature(tx *db.Tx, child ident.UserID) error {
	w, err := r.ward(tx, child)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE ward SET grown = ?, alone = NULL WHERE user = ?`, tx.Now.UnixMilli(), int64(child)); err != nil {
		return err
	}
	for _, q := range []string{`DELETE FROM guardian WHERE child = ?`, `DELETE FROM ward_request WHERE child = ? AND answer IS NULL`, `DELETE FROM ward_erasure WHERE child = ? AND begun IS NULL`} {
		if _, err := tx.Exec(q, int64(child)); err != nil {
			return err
		}
	}
	if err := r.tell(tx, account.NoticeOfAge, "", child); err != nil {
		return err
	}
	if err := r.tell(tx, account.NoticeWardOfAge, w.Name, w.standing()...); err != nil {
		return err
	}
	if err := r.Audit.Append(tx, account.Root(viaBox).Event("guardian.of_age", child)); err != nil {
		return err
	}
	return r.Consent.GuardiansChanged(tx, child)
}

// becomeMember ends the guardianship of somebody who accepted the policy for themself.
func (r *Room) becomeMember(tx *db.Tx, u ident.UserID) error {
	var left int
	err := tx.QueryRow(`SELECT count(*) FROM ward_erasure WHERE child = ?`, int64(u)).Scan(&left)
	if err != nil {
		return err
	}
	if left > 0 {
		return errDeleting("guardian.of_age")
	}
	if _, err := tx.Exec(`DELETE FROM ward WHERE user = ?`, int64(u)); err != nil {
		return err
	}
	if err := r.Accounts.Grow(tx, u); err != nil {
		return err
	}
	return r.Audit.Append(tx, account.Root(viaBox).Event("guardian.end", u))
}

// Standing lists the guardians of each child, for who manages the box: that they are
// there, and nothing of what they decide.
func (r *Room) Standing(ctx context.Context) (list []Ward, err error) {
	err = r.DB.Read(ctx, func(tx *db.Tx) error {
		children, err := ids(tx.Query(`SELECT w.user FROM ward AS w JOIN user AS u ON u.id = w.user ORDER BY u.username`))
		if err != nil {
			return err
		}
		for _, id := range children {
			w := Ward{Child: id}
			var alone, grown sql.NullInt64
			err := tx.QueryRow(`SELECT u.shown, w.of_age, w.alone, w.grown FROM ward AS w JOIN user AS u ON u.id = w.user WHERE w.user = ?`, int64(id)).
				Scan(&w.Name, &w.OfAge, &alone, &grown)
			if err != nil {
				return fmt.Errorf("guardian: %w", err)
			}
			w.Alone, w.Grown = timeOf(alone), timeOf(grown)
			if w.Guardians, err = links(tx, id); err != nil {
				return err
			}
			list = append(list, w)
		}
		return nil
	})
	return list, err
}
