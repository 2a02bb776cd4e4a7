package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strconv"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// RecoveryCodes is how many recovery codes a person gets at once.
const RecoveryCodes = 10

// enrolFor is how long a new secret waits for its first code.
const enrolFor = 15 * time.Minute

// Factor is how a person's second factor stands.
type Factor struct {
	On    bool
	Since time.Time // when it was confirmed; zero: it is off
	Codes int       // recovery codes that are left
}

// Factor returns how the person's second factor stands.
func (a *Accounts) Factor(ctx context.Context, user ident.UserID) (f Factor, err error) {
	var since int64
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT ifnull((SELECT since FROM totp WHERE user = ?1 AND secret IS NOT NULL), 0),
			(SELECT count(*) FROM recovery_code WHERE user = ?1)`, int64(user)).Scan(&since, &f.Codes)
	})
	if since != 0 {
		f.On, f.Since = true, time.UnixMilli(since).UTC()
	}
	return f, err
}

// Enrolment is a secret for an authenticator app. It is shown this once and counts
// for nothing until ConfirmFactor got a code that was made with it.
type Enrolment struct {
	Secret  string // base 32, to be typed
	URI     string // "otpauth://totp/…", what the QR code says
	Expires time.Time
}

// BeginFactor makes a secret for the person of session p. One that is in use stays
// so until the new one is confirmed; one that was begun before is forgotten.
func (a *Accounts) BeginFactor(ctx context.Context, p ident.Principal) (e Enrolment, err error) {
	const op = "account.begin_factor"
	if err := full(p, op); err != nil {
		return Enrolment{}, err
	}
	secret := random(totpSecret)
	sealed, err := a.sealSecret(p.User, pendingName, secret)
	if err != nil {
		return Enrolment{}, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		e.Expires = tx.Now.Add(enrolFor).UTC().Truncate(time.Millisecond)
		_, err := tx.Exec(`INSERT INTO totp (user, pending, begun) VALUES (?1, ?2, ?3)
			ON CONFLICT (user) DO UPDATE SET pending = excluded.pending, begun = excluded.begun`,
			int64(p.User), sealed, tx.Sure.UnixMilli())
		return err
	})
	e.Secret, e.URI = base32Plain.EncodeToString(secret), totpURI(a.opt.Name, p.Name, secret)
	return e, err
}

// ConfirmFactor switches the second factor on, or over to another app, with a code
// of the secret that BeginFactor made. It returns new recovery codes, which are
// shown this once; earlier ones are void. All other sessions of the person end:
// they were opened without it.
func (a *Accounts) ConfirmFactor(ctx context.Context, p ident.Principal, code string) (codes []string, err error) {
	const op = "account.confirm_factor"
	if err := full(p, op); err != nil {
		return nil, err
	}
	var sealed []byte
	var begun int64
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT pending, begun FROM totp WHERE user = ? AND pending IS NOT NULL`, int64(p.User)).Scan(&sealed, &begun)
	})
	now := a.now()
	if age := now.Sub(time.UnixMilli(begun)); isNoRows(err) || err == nil && (age >= enrolFor || age < -enrolFor) {
		return nil, &problem.Error{Kind: problem.Conflict, Op: op,
			Title: "There is no new authenticator to confirm", Detail: "None was begun in the last 15 minutes.", Hint: "Begin again."}
	}
	if err != nil {
		return nil, err
	}
	secret, err := a.openSecret(p.User, pendingName, sealed)
	if err != nil {
		return nil, err
	}
	code = cleanCode(code)
	step, ok := totpMatch(secret, code, a.system(), totpSkew)
	if !ok {
		return nil, notConfirmed(op, secret, code, a.system())
	}
	kept, err := a.sealSecret(p.User, secretName, secret)
	if err != nil {
		return nil, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		res, err := tx.Exec(`UPDATE totp SET secret = ?, since = ?, step = ?, pending = NULL, begun = 0 WHERE user = ? AND pending = ?`,
			kept, tx.Now.UnixMilli(), step, int64(p.User), sealed)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = &problem.Error{Kind: problem.Conflict, Op: op, Title: "There is no new authenticator to confirm",
					Detail: "Another one was begun meanwhile.", Hint: "Begin again."}
			}
			return err
		}
		if _, err := a.endOthers(tx, p); err != nil {
			return err
		}
		if codes, err = newRecoveryCodes(tx, p.User); err != nil {
			return err
		}
		if err := a.notify(tx, p.User, NoticeFactorOn, p.Device); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event("factor.on", p.User))
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// notConfirmed says why a first code does not fit. A code that would be right at
// another time of the day means that a clock is wrong.
func notConfirmed(op string, secret []byte, code string, now time.Time) error {
	err := &problem.Error{Kind: problem.Invalid, Op: op, Title: "That code is not right",
		Detail: "It is not the one that the new authenticator shows now.",
		Hint:   "Type the six digits that the app shows for this box. If they never fit, the clock of the phone is wrong."}
	const day = int64(24 * time.Hour / totpPeriod)
	if !isTOTP(code) {
		return err
	}
	// 5,761 codes of a million may fit by chance: the nearest is the likely one, and
	// no more than words depend on it.
	for d := int64(totpSkew + 1); d <= day; d++ {
		for _, s := range []int64{-d, d} {
			if _, ok := totpMatch(secret, code, now.Add(time.Duration(s)*totpPeriod), 0); ok {
				minutes := strconv.FormatInt(max(d*int64(totpPeriod)/int64(time.Minute), 1), 10)
				err.Detail = "The clocks of the box and of the phone differ by " + minutes + " minutes."
				err.Hint = "Put them right, then try again: the codes depend on the time."
				return err
			}
		}
	}
	return err
}

func newRecoveryCodes(tx *db.Tx, user ident.UserID) (codes []string, err error) {
	if _, err := tx.Exec(`DELETE FROM recovery_code WHERE user = ?`, int64(user)); err != nil {
		return nil, err
	}
	for range RecoveryCodes {
		code, hash := newTyped()
		if _, err := tx.Exec(`INSERT INTO recovery_code (user, hash) VALUES (?, ?)`, int64(user), hash[:]); err != nil {
			return nil, err
		}
		codes = append(codes, code)
	}
	return codes, nil
}

// RenewRecoveryCodes replaces the recovery codes of the person of session p. The
// earlier ones are void when it returns.
func (a *Accounts) RenewRecoveryCodes(ctx context.Context, p ident.Principal) (codes []string, err error) {
	const op = "account.renew_recovery_codes"
	if err := full(p, op); err != nil {
		return nil, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		var on bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM totp WHERE user = ? AND secret IS NOT NULL)`, int64(p.User)).Scan(&on); err != nil {
			return err
		}
		if !on {
			return noFactor(op)
		}
		if codes, err = newRecoveryCodes(tx, p.User); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event("factor.codes", p.User))
	})
	return codes, err
}

func noFactor(op string) error {
	return &problem.Error{Kind: problem.Conflict, Op: op, Title: "There is no second factor",
		Detail: "The password alone signs in to this account.", Hint: "Set up an authenticator first."}
}

// RemoveFactor switches the second factor of the person of session p off.
func (a *Accounts) RemoveFactor(ctx context.Context, p ident.Principal) error {
	const op = "account.remove_factor"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		if err := eraseFactor(tx, op, p.User); err != nil {
			return err
		}
		if err := a.notify(tx, p.User, NoticeFactorOff, p.Device); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event("factor.off", p.User))
	})
}

// ResetFactor switches off the second factor of somebody who has lost it, and signs
// them out everywhere. They can sign in with their password then, and are told.
// Admins may do it for members, the owner for admins too, and for the owner only the
// system's administrator.
func (a *Accounts) ResetFactor(ctx context.Context, by Actor, id ident.UserID) error {
	const op = "account.reset_factor"
	if !by.admin() {
		return notAdmin(op)
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		u, err := scanUser(tx.QueryRow(`SELECT `+userColumns+` FROM user WHERE id = ?`, int64(id)))
		switch {
		case isNoRows(err):
			return notFound(op, "person")
		case err != nil:
			return err
		case u.Role == ident.Owner && !by.root:
			return &problem.Error{Kind: problem.Forbidden, Op: op,
				Detail: "The second factor of the owner is reset on the box itself.", Hint: "Run `yunboxctl user reset-factor NAME` there."}
		case u.Role == ident.Admin && !by.owner():
			return &problem.Error{Kind: problem.Forbidden, Op: op,
				Detail: "Only the owner may reset the second factor of an admin.", Hint: "Ask the owner of the box."}
		}
		if err := eraseFactor(tx, op, id); err != nil {
			return err
		}
		if err := a.endSessions(tx, id); err != nil {
			return err
		}
		if err := a.notify(tx, id, NoticeFactorReset, 0); err != nil {
			return err
		}
		return a.log.Append(tx, by.event("factor.reset", id))
	})
}

func eraseFactor(tx *db.Tx, op string, user ident.UserID) error {
	res, err := tx.Exec(`DELETE FROM totp WHERE user = ? AND secret IS NOT NULL`, int64(user))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		if err == nil {
			err = noFactor(op)
		}
		return err
	}
	_, err = tx.Exec(`DELETE FROM recovery_code WHERE user = ?`, int64(user))
	return err
}

// A codeProof is a second factor that fits. It counts once: spend it in the
// transaction that relies on it.
type codeProof struct {
	step     int64
	sealed   []byte // the secret that it fits
	recovery []byte // hash of a recovery code; nil: none
}

// checkFactor finds out whether code is the second factor of somebody whose
// password was right. Tries are limited; the caller has taken one of those for the
// sign-in already.
func (a *Accounts) checkFactor(ctx context.Context, op string, l login, code, remote string) (proof codeProof, err error) {
	if l.totp == nil {
		a.logins.succeeded(a.now(), l.folded, remote)
		return codeProof{}, nil
	}
	code = cleanCode(code)
	if code == "" {
		a.logins.untried(a.now(), l.folded, remote)
		return codeProof{}, codeRequired(op)
	}
	if isTOTP(code) {
		proof, err = a.checkTOTP(ctx, op, l, code, remote)
	} else {
		proof, err = a.checkRecovery(ctx, op, l, code)
	}
	if problem.KindOf(err) == problem.CodeRequired {
		a.recordRefusal(ctx, l.id, "code", remote)
	}
	if err == nil {
		a.logins.succeeded(a.now(), l.folded, remote)
	}
	return proof, err
}

func (a *Accounts) checkTOTP(ctx context.Context, op string, l login, code, remote string) (codeProof, error) {
	now := a.now()
	// Six digits can be guessed by somebody who has the password. Where the person
	// has signed in from before, they have a budget of their own: nobody elsewhere can
	// use it up. Recovery codes need none.
	key := l.folded + "\x00"
	if a.logins.isKnown(l.folded, remote) {
		key += remote
	}
	if wait, ok := a.codes.Take(now, key); !ok {
		if err := a.tell(ctx, l.id, NoticeGuessing); err != nil {
			a.slog.Warn("a notice could not be written down", "err", err)
		}
		return codeProof{}, &problem.Error{Kind: problem.RateLimited, Op: op, RetryAfter: wait,
			Title: "Too many wrong codes", Detail: "There were too many codes that were not right.",
			Hint: "Use a recovery code, or wait and try again."}
	}
	secret, err := a.openSecret(l.id, secretName, l.totp)
	if err != nil {
		a.slog.Error("an authenticator's secret cannot be read", "err", err)
		return codeProof{}, &problem.Error{Kind: problem.Unavailable, Op: op, Err: err,
			Title: "The box can no longer check your authenticator", Detail: "The key for its secret is gone.",
			Hint: "Use a recovery code, or have the second factor reset on the box with `yunboxctl user reset-factor`."}
	}
	// Not the sure time: that may be days behind a clock that is right, or run ahead of one that is.
	step, ok := totpMatch(secret, code, a.system(), totpSkew)
	if !ok {
		return codeProof{}, wrongCode(op)
	}
	a.codes.Give(now, key)
	if step <= l.step {
		e := wrongCode(op)
		if l.step > totpStep(a.system())+totpSkew {
			e.Detail = "The box's clock was set back to before the last code that it took."
			e.Hint = "Put the clock right, or use a recovery code."
		}
		return codeProof{}, e
	}
	return codeProof{step: step, sealed: l.totp}, nil
}

func (a *Accounts) checkRecovery(ctx context.Context, op string, l login, code string) (codeProof, error) {
	hash := hashTyped(code)
	var found bool
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT hash FROM recovery_code WHERE user = ?`, int64(l.id))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var h []byte
			if err := rows.Scan(&h); err != nil {
				return err
			}
			found = subtle.ConstantTimeCompare(h, hash[:]) == 1 || found
		}
		return rows.Err()
	})
	if err == nil && !found {
		err = wrongCode(op)
	}
	return codeProof{recovery: hash[:]}, err
}

// spend makes the code good for nothing from now on, or says that somebody was
// faster.
func (a *Accounts) spend(tx *db.Tx, op string, p codeProof, user ident.UserID) error {
	var query string
	var args []any
	switch {
	case p.recovery != nil:
		query, args = `DELETE FROM recovery_code WHERE user = ? AND hash = ?`, []any{int64(user), p.recovery}
	case p.sealed != nil:
		query, args = `UPDATE totp SET step = ?1 WHERE user = ?2 AND secret = ?3 AND step < ?1`, []any{p.step, int64(user), p.sealed}
	default: // there is no second factor, and none may have come meanwhile
		var on bool
		err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM totp WHERE user = ? AND secret IS NOT NULL)`, int64(user)).Scan(&on)
		if err == nil && on {
			err = codeRequired(op)
		}
		return err
	}
	res, err := tx.Exec(query, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return wrongCode(op)
	}
	if p.recovery == nil {
		return nil
	}
	var left int
	if err := tx.QueryRow(`SELECT count(*) FROM recovery_code WHERE user = ?`, int64(user)).Scan(&left); err != nil {
		return err
	}
	if err := a.notify(tx, user, NoticeRecovery, 0); err != nil {
		return err
	}
	e := Actor{via: viaHTTP}.event("factor.recovery", user)
	e.Actor, e.Detail = user, map[string]string{"left": fmt.Sprint(left)}
	return a.log.Append(tx, e)
}

func codeRequired(op string) *problem.Error {
	return &problem.Error{Kind: problem.CodeRequired, Op: op,
		Detail: "This account has a second factor.",
		Hint:   "Type the six digits that your authenticator shows, or one of your recovery codes."}
}

func wrongCode(op string) *problem.Error {
	return &problem.Error{Kind: problem.CodeRequired, Op: op, Title: "That code is not right",
		Detail: "It is wrong, too old, or was used before: each is good once.",
		Hint:   "Wait until the authenticator shows the next one, or use a recovery code."}
}

// newTyped returns a secret that a person types or writes down, 80 random bits as 16
// characters in four groups, and what the database keeps of it. So many bits cannot
// be guessed from their SHA-256, which is why no slow hash is needed.
func newTyped() (typed string, hash [sha256.Size]byte) {
	typed = newTypedText()
	return typed, hashTyped(typed)
}
