package erasure

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// stage is how far the cancellation of an account is. Each is left by one transaction;
// what is done in it can be done again.
type stage string

const (
	waiting     stage = "waiting"     // cooling off: it can be undone
	withdrawing stage = "withdrawing" // consents are withdrawn, so that nothing runs any more
	handing     stage = "handing"     // files go to the heir
	clearing    stage = "clearing"    // files, derived data, records, the account itself
	forgetting  stage = "forgetting"  // keys, copies of the records; the receipt
)

// Cancellation is an account that is being cancelled.
type Cancellation struct {
	User     ident.UserID
	Stage    string // waiting, withdrawing, handing, clearing, forgetting
	Asked    time.Time
	Due      time.Time    // when the erasing begins
	Actor    ident.UserID // who asked; 0: root
	Heir     ident.UserID // to whom the files go; 0: they are erased
	Accepted bool         // the heir agreed
	// Trouble is why it does not go on: "refused" or "unanswered" by the heir, "quota" or
	// "consent" of theirs, "failed"; "" while nothing stands against it.
	Trouble string
	Handed  int64 // files that the heir got

	over   bool // the time to think is
	begun  time.Time
	counts string
	code   []byte
}

// Choice is what becomes of the files of an account that is cancelled.
type Choice struct {
	Heir string // name of whom they are offered to; "": they are erased
}

// newCode returns what a receipt is fetched with, and what the box keeps of it.
func newCode() (code string, hash []byte) {
	code = rand.Text()
	return code, hashCode(code)
}

// hashCode takes a code as people type it.
func hashCode(code string) []byte {
	code = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\n' || r == '\t' {
			return -1
		}
		return r
	}, strings.ToUpper(code))
	sum := sha256.Sum256([]byte(code))
	return sum[:]
}

// Cancel begins to cancel the account of p, whose identity was proved, or changes what
// becomes of its files; then the time to think begins anew. It returns what the receipt
// is fetched with, which is shown once and kept as a hash: the account will be gone.
func (r *Room) Cancel(ctx context.Context, p ident.Principal, c Choice) (Cancellation, string, error) {
	const op = "erasure.cancel"
	u, err := r.opt.Accounts.User(ctx, p.User)
	if err != nil {
		return Cancellation{}, "", err
	}
	if u.Role == ident.Owner {
		return Cancellation{}, "", isOwner(op)
	}
	var heir account.User
	if c.Heir != "" {
		if heir, err = r.opt.Accounts.UserNamed(ctx, c.Heir); err != nil {
			return Cancellation{}, "", err
		}
		if _, leaving := r.stageOf(heir.ID); heir.ID == p.User || leaving || !heir.Disabled.IsZero() {
			return Cancellation{}, "", &problem.Error{Kind: problem.Conflict, Op: op, Title: "The files cannot be handed to that person",
				Hint: "Name somebody else who has an account on this box."}
		}
	}
	return r.begin(ctx, p.User, p, p.User, "http", heir.ID, r.opt.Days, account.NoticeCancelled)
}

func isOwner(op string) error {
	return &problem.Error{Kind: problem.Conflict, Op: op, Title: "The owner's account cannot be cancelled",
		Detail: "A box has an owner as long as it is in use.",
		Hint: "Hand the box over to another adult who has an account on it: under “Erase, cancel, ask” on the box's page, or with `yunboxctl owner offer NAME`. " +
			"When they have accepted, your account can be cancelled."}
}

// Remove has the account of a person cancelled by whoever manages the box. The person is
// told, and can sign in to export until then; only who manages the box can undo it. days
// is 7 to 90, for root also 0.
func (r *Room) Remove(ctx context.Context, by account.Actor, u ident.UserID, days int) (Cancellation, string, error) {
	const op = "erasure.remove"
	who, err := r.opt.Accounts.User(ctx, u)
	if err == nil {
		err = account.MayRemove(by, who)
	}
	if err != nil {
		return Cancellation{}, "", err
	}
	if root := by.Who().User == 0; days > 90 || days < 7 && !(root && days == 0) {
		return Cancellation{}, "", &problem.Error{Kind: problem.Invalid, Op: op, Title: "That is no time to export one's files in",
			Detail: "The person has 7 to 90 days.", Hint: "Only root, on the box itself, can remove somebody at once: with 0 days."}
	}
	return r.begin(ctx, u, ident.Principal{}, by.Who().User, by.Via(), 0, days, account.NoticeRemoved)
}

func (r *Room) begin(ctx context.Context, u ident.UserID, p ident.Principal, actor ident.UserID, via string, heir ident.UserID, days int, notice string) (c Cancellation, code string, err error) {
	code, hash := newCode()
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		// Somebody may have become the owner a moment ago.
		if now, err := r.opt.Accounts.UserIn(tx, u); err != nil {
			return err
		} else if now.Role == ident.Owner {
			return isOwner("erasure.cancel")
		}
		old, err := one(tx, u)
		switch {
		case err == nil && (stage(old.Stage) != waiting || old.Actor != u && actor == u):
			return &problem.Error{Kind: problem.Conflict, Op: "erasure.cancel", Title: "This account is being removed already",
				Hint: "Ask whoever manages the box if that is a mistake."}
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
		due := tx.Sure.AddDate(0, 0, days)
		if _, err := tx.Exec(`INSERT INTO cancellation (user, stage, asked, due, actor, heir, code) VALUES (?1, 'waiting', ?2, ?3, ?4, ?5, ?6)
			ON CONFLICT (user) DO UPDATE SET asked = ?2, due = ?3, actor = ?4, heir = ?5, accepted = NULL, trouble = '', code = ?6`,
			int64(u), tx.Now.UnixMilli(), due.UnixMilli(), int64(actor), int64(heir), hash); err != nil {
			return err
		}
		if err := r.opt.Accounts.Leaves(tx, u, p); err != nil {
			return err
		}
		if err := r.opt.Accounts.Notify(tx, u, notice); err != nil {
			return err
		}
		if heir != 0 {
			if err := r.opt.Accounts.Notify(tx, heir, account.NoticeHandOver); err != nil {
				return err
			}
		}
		if c, err = one(tx, u); err != nil {
			return err
		}
		tx.AfterCommit(func() { r.set(u, waiting, due) })
		return r.opt.Audit.Append(tx, audit.Event{Actor: actor, Action: "account.cancel", Subject: u, Device: p.Device, Via: via})
	})
	if err != nil {
		return Cancellation{}, "", err
	}
	r.wake()
	return c, code, nil
}

// set notes in memory how far somebody is.
func (r *Room) set(u ident.UserID, s stage, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == "" {
		delete(r.leaving, u)
		return
	}
	r.leaving[u] = s
	if s == waiting && (r.due.IsZero() || due.Before(r.due)) {
		r.due = due
	}
}

const cancelColumns = `SELECT user, stage, asked, due, actor, heir, accepted, begun, counts, handed, trouble, code FROM cancellation`

func scan(row interface{ Scan(...any) error }) (c Cancellation, err error) {
	var asked, due int64
	var accepted, begun sql.NullInt64
	err = row.Scan(&c.User, &c.Stage, &asked, &due, &c.Actor, &c.Heir, &accepted, &begun, &c.counts, &c.Handed, &c.Trouble, &c.code)
	c.Asked, c.Due, c.Accepted = time.UnixMilli(asked).UTC(), time.UnixMilli(due).UTC(), accepted.Valid
	if begun.Valid {
		c.begun = time.UnixMilli(begun.Int64).UTC()
	}
	return c, err
}

func one(tx *db.Tx, u ident.UserID) (Cancellation, error) {
	return scan(tx.QueryRow(cancelColumns+` WHERE user = ?`, int64(u)))
}

func notLeaving() error {
	return &problem.Error{Kind: problem.NotFound, Op: "erasure", Title: "No cancellation goes on", Detail: "The account stays as it is."}
}

// Cancellation returns how far the cancellation of an account is; problem.NotFound: none
// goes on.
func (r *Room) Cancellation(ctx context.Context, u ident.UserID) (c Cancellation, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		c, err = one(tx, u)
		c.over = !tx.Sure.Before(c.Due)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = notLeaving()
	}
	r.lookAt(c)
	return c, err
}

// lookAt begins to erase where somebody looks who may see that it is due.
func (r *Room) lookAt(c Cancellation) {
	if stage(c.Stage) == waiting && c.Trouble == "" && c.over {
		r.wake()
	}
}

// Keep undoes a cancellation that has not begun to erase. Who began it may: the person
// their own, whoever manages the box theirs and the person's, for somebody who asks.
func (r *Room) Keep(ctx context.Context, by account.Actor, u ident.UserID) error {
	const op = "erasure.keep"
	own := by.Who().User == u
	if !own {
		who, err := r.opt.Accounts.User(ctx, u)
		if err == nil {
			err = account.MayRemove(by, who)
		}
		if err != nil {
			return err
		}
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		c, err := one(tx, u)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notLeaving()
		case err != nil:
			return err
		case stage(c.Stage) != waiting:
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "The account is being erased", Detail: "The time to think is over, and there is no way back."}
		case own && c.Actor != u:
			return &problem.Error{Kind: problem.Forbidden, Op: op, Title: "Whoever manages the box has this account removed",
				Detail: "You can export everything until then.", Hint: "Ask them if that is a mistake: they can undo it."}
		}
		if _, err := tx.Exec(`DELETE FROM cancellation WHERE user = ?`, int64(u)); err != nil {
			return err
		}
		r.opt.Accounts.Returns(tx, u)
		if err := r.opt.Accounts.Notify(tx, u, account.NoticeKept); err != nil {
			return err
		}
		tx.AfterCommit(func() { r.set(u, "", time.Time{}) })
		return r.opt.Audit.Append(tx, audit.Event{Actor: by.Who().User, Action: "account.keep", Subject: u, Device: by.Who().Device, Via: by.Via()})
	})
}

// Offers lists the cancellations whose files are offered to u, or were taken by them.
func (r *Room) Offers(ctx context.Context, u ident.UserID) (list []Cancellation, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, cancelColumns+` WHERE heir = ? AND heir <> 0 ORDER BY user`, int64(u))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c, err := scan(rows)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return rows.Err()
	})
	return list, err
}

// Answer takes or refuses the files that from offers to p. Taking them needs p's consent
// to storage and room in their share. Until the erasing begins p may think again.
func (r *Room) Answer(ctx context.Context, p ident.Principal, from ident.UserID, accept bool) error {
	const op = "erasure.answer"
	gone := &problem.Error{Kind: problem.NotFound, Op: op, Title: "Nobody offers you their files", Detail: "The offer may have been taken back."}
	if c, err := r.Cancellation(ctx, from); problem.KindOf(err) == problem.NotFound || err == nil && c.Heir != p.User {
		return gone
	} else if err != nil {
		return err
	}
	var g consent.Grant
	if accept {
		var err error
		if g, err = r.opt.Consent.Grant(ctx, p.User, 0, consent.Storage); err != nil {
			return err
		}
		has, err := r.opt.Catalog.Usage(ctx, from)
		if problem.KindOf(err) == problem.NotFound {
			err = nil
		}
		mine, merr := r.opt.Catalog.Usage(ctx, p.User)
		if err := errors.Join(err, merr); err != nil {
			return err
		}
		if err := mine.Room(has.Bytes); err != nil {
			return err
		}
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		c, err := one(tx, from)
		if errors.Is(err, sql.ErrNoRows) || err == nil && c.Heir != p.User {
			return gone
		}
		if err == nil && stage(c.Stage) != waiting {
			err = &problem.Error{Kind: problem.Conflict, Op: op, Title: "It is decided already"}
		}
		if err != nil {
			return err
		}
		accepted, trouble, notice, action := any(nil), "refused", account.NoticeHandRefused, "handover.refuse"
		if accept {
			if err := g.Check(tx, consent.Storage); err != nil {
				return err
			}
			accepted, trouble, notice, action = tx.Now.UnixMilli(), "", account.NoticeHandTaken, "handover.accept"
		}
		if _, err := tx.Exec(`UPDATE cancellation SET accepted = ?, trouble = ? WHERE user = ?`, accepted, trouble, int64(from)); err != nil {
			return err
		}
		if err := r.opt.Accounts.Notify(tx, from, notice); err != nil {
			return err
		}
		tx.AfterCommit(r.wake)
		return r.opt.Audit.Append(tx, audit.Event{Actor: p.User, Action: action, Subject: from, Device: p.Device, Via: "http"})
	})
}

// cancellations lists the accounts on their way out, the oldest first.
func cancellations(ctx context.Context, tx *db.Tx) (list []Cancellation, err error) {
	rows, err := tx.QueryContext(ctx, cancelColumns+` ORDER BY asked, user`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		c, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// cancelAll goes on with every cancellation as far as it can.
func (r *Room) cancelAll(ctx context.Context) error {
	var list []Cancellation
	if err := r.opt.DB.Read(ctx, func(tx *db.Tx) (err error) {
		list, err = cancellations(ctx, tx)
		return err
	}); err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		if err := r.goOn(ctx, c); err != nil {
			errs = append(errs, err)
			if ctx.Err() == nil {
				errs = append(errs, r.troubled(ctx, c.User, "failed"))
			}
		}
	}
	return errors.Join(append(errs, r.load(ctx))...)
}

// goOn takes one cancellation through its stages.
func (r *Room) goOn(ctx context.Context, c Cancellation) (err error) {
	for {
		if err := r.opt.Pace(ctx); err != nil {
			return err
		}
		next := stage("")
		switch stage(c.Stage) {
		case waiting:
			if next, err = r.isDue(ctx, c); next == "" {
				return err
			}
		case withdrawing:
			next, err = r.withdraw(ctx, c)
		case handing:
			if next, err = r.hand(ctx, &c); next == "" {
				return err
			}
		case clearing:
			err = r.clear(ctx, c)
			next = forgetting
		case forgetting:
			return r.forget(ctx, c)
		default:
			return fmt.Errorf("erasure: %q is no stage of a cancellation", c.Stage)
		}
		if err != nil {
			return err
		}
		if c, err = r.enter(ctx, c.User, next); err != nil {
			return err
		}
	}
}

// clear erases everything of an account.
func (r *Room) clear(ctx context.Context, c Cancellation) error {
	s, err := r.stepOfAccount(ctx, c)
	if err != nil {
		return err
	}
	r.at(s)
	defer r.at(nil)
	if err := r.opt.Rights().Clear(ctx, c.User, &s.gone); err != nil {
		return err
	}
	return r.opt.Sweep(ctx)
}

// enter writes down that a stage begins.
func (r *Room) enter(ctx context.Context, u ident.UserID, s stage) (c Cancellation, err error) {
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`UPDATE cancellation SET stage = ?, trouble = '' WHERE user = ?`, string(s), int64(u)); err != nil {
			return err
		}
		if s == withdrawing {
			if _, err := tx.Exec(`UPDATE cancellation SET begun = ? WHERE user = ?`, tx.Now.UnixMilli(), int64(u)); err != nil {
				return err
			}
			if err := r.opt.Accounts.Retire(tx, u); err != nil {
				return err
			}
			if err := r.opt.Audit.Append(tx, audit.Event{Action: "account.erase", Subject: u, Via: "box"}); err != nil {
				return err
			}
		}
		if c, err = one(tx, u); err != nil {
			return err
		}
		if s == withdrawing && c.Heir != 0 && !c.Accepted {
			return errors.New("erasure: the files are not taken any more") // refused a moment ago: nothing has begun
		}
		tx.AfterCommit(func() { r.set(u, s, time.Time{}) })
		return nil
	})
	return c, err
}

func (r *Room) troubled(ctx context.Context, u ident.UserID, why string) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE cancellation SET trouble = ? WHERE user = ? AND trouble <> ?`, why, int64(u), why)
		return err
	})
}

// isDue says whether the erasing may begin. What was offered and not taken holds it up:
// nobody's files are erased that were to be handed over.
func (r *Room) isDue(ctx context.Context, c Cancellation) (stage, error) {
	var over bool
	if err := r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		over = !tx.Sure.Before(c.Due)
		return nil
	}); err != nil || !over {
		return "", err
	}
	if c.Heir != 0 && !c.Accepted {
		if c.Trouble == "" {
			return "", r.troubled(ctx, c.User, "unanswered")
		}
		return "", nil
	}
	return withdrawing, nil
}

// withdraw says no to every purpose, in the person's name: they asked for the account to
// be closed. What runs for them ends with it. Then it counts what there is.
func (r *Room) withdraw(ctx context.Context, c Cancellation) (stage, error) {
	if c.counts == "" {
		if err := r.count(ctx, c.User); err != nil {
			return "", err
		}
	}
	list, err := r.opt.Consent.State(ctx, c.User)
	if err != nil {
		return "", err
	}
	for _, s := range list {
		if s.State != consent.Granted && s.State != consent.Suspended {
			continue
		}
		if err := r.opt.Pace(ctx); err != nil {
			return "", err
		}
		if _, err := r.opt.Consent.Record(ctx, consent.Decision{User: c.User, Device: s.Device, Purpose: s.Purpose, Actor: c.User, How: "cancellation"}); err != nil {
			return "", err
		}
	}
	if c.Heir != 0 {
		return handing, nil
	}
	return clearing, nil
}

// count writes down how much there is of each category.
func (r *Room) count(ctx context.Context, u ident.UserID) error {
	fates, err := r.opt.Rights().Count(ctx, u)
	if err != nil {
		return err
	}
	b, err := json.Marshal(fates)
	if err != nil {
		return err
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE cancellation SET counts = ? WHERE user = ?`, string(b), int64(u))
		return err
	})
}

// hand gives the files to the heir. Where they have no room, or have withdrawn their
// consent, it waits for them.
func (r *Room) hand(ctx context.Context, c *Cancellation) (stage, error) {
	folder := "Handed over " + c.begun.Format(time.DateOnly)
	for {
		g, err := r.opt.Consent.Grant(ctx, c.Heir, 0, consent.Storage)
		n := 0
		if err == nil {
			n, err = r.opt.Catalog.HandOver(ctx, c.User, c.Heir, folder, 128, func(tx *db.Tx, n int) error {
				if n == 0 {
					return r.opt.Accounts.Notify(tx, c.Heir, account.NoticeHanded)
				}
				if err := g.Check(tx, consent.Storage); err != nil {
					return err
				}
				_, err := tx.Exec(`UPDATE cancellation SET handed = handed + ? WHERE user = ?`, n, int64(c.User))
				return err
			})
		}
		switch problem.KindOf(err) {
		case "":
		case problem.Quota:
			return "", r.troubled(ctx, c.User, "quota")
		case problem.ConsentRequired:
			return "", r.troubled(ctx, c.User, "consent")
		default:
			return "", err
		}
		if n == 0 {
			return clearing, nil
		}
		if err := r.opt.Pace(ctx); err != nil {
			return "", err
		}
	}
}
