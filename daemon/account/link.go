package account

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
)

// Elsewhere is an account at a service elsewhere, as that service has just proved it.
type Elsewhere struct {
	Service string // its id in the settings
	Issuer  string // who proved it: another one of the same id in the settings is another service
	Subject string // the id there; it is kept as a keyed hash only
	Shown   string // nickname or e-mail address there; "" if none was asked for
}

// Link is an account elsewhere that somebody connected.
type Link struct {
	ID       LinkID
	Service  string
	Shown    string // nickname or e-mail address there; "": not known
	Created  time.Time
	LastUsed time.Time // zero: never
}

// LinkID names a link.
type LinkID int64

// String returns the identifier as 13 lower-case characters.
func (id LinkID) String() string { return ident.DeviceID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id LinkID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

func linkColumn() vault.Column {
	return vault.Column{Table: "link", Name: "shown", Row: "id", Class: vault.General}
}

// linkKind is the kind of fingerprint of an account elsewhere: it is all that is kept of
// its id. Who has the database cannot tell which one it is, nor find it in another box's.
// It is under the key that was in use when somebody connected it or signed in last.
const linkKind = "link"

// subject is what the fingerprint is of: each part stands after its length.
func (e Elsewhere) subject() string {
	var b strings.Builder
	for _, part := range []string{e.Service, e.Issuer, e.Subject} {
		fmt.Fprintf(&b, "%d:%s", len(part), part)
	}
	return b.String()
}

// linked finds who connected an account elsewhere; sql.ErrNoRows: nobody did.
func (a *Accounts) linked(tx *db.Tx, e Elsewhere) (id LinkID, user ident.UserID, err error) {
	err = a.vault.Lookup(linkKind, e.subject(), func(f []byte) (bool, error) {
		err := tx.QueryRow(`SELECT id, user FROM link WHERE subject = ?`, f).Scan(&id, &user)
		if isNoRows(err) {
			return false, nil
		}
		return true, err
	})
	if err == nil && id == 0 {
		err = sql.ErrNoRows
	}
	return id, user, err
}

// Linked is what else happens in the transaction that makes or uses a link.
type Linked func(tx *db.Tx, user ident.UserID) error

// AddLink connects an account elsewhere with the person of session p, who consented by
// g. One of the same service is replaced. One that somebody else connected is Conflict.
func (a *Accounts) AddLink(ctx context.Context, p ident.Principal, g consent.Grant, e Elsewhere, also Linked) (l Link, err error) {
	const op = "account.link"
	if err := full(p, op); err != nil {
		return Link{}, err
	}
	if g.User() != p.User || e.Service == "" || e.Issuer == "" || e.Subject == "" {
		return Link{}, invalid(op, "It is not known which account that is.", "Begin again.")
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		if err := g.Check(tx, consent.ThirdPartyLogin); err != nil {
			return err
		}
		_, who, err := a.linked(tx, e)
		if err != nil && !isNoRows(err) {
			return err
		}
		if err == nil && who != p.User {
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That account is connected to another person of the box",
				Detail: "An account elsewhere opens one account here.", Hint: "Choose another one there, or have the other person cut the connection."}
		}
		res, err := tx.Exec(`DELETE FROM link WHERE user = ? AND service = ?`, int64(p.User), e.Service)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n > 0 {
			if err := a.erased(tx, p.User, "links"); err != nil {
				return err
			}
		}
		l = Link{ID: ident.New[LinkID](tx.Now), Service: e.Service, Shown: e.Shown, Created: tx.Now.UTC().Truncate(time.Millisecond)}
		var shown []byte
		if e.Shown != "" {
			if shown, err = a.vault.Seal(p.User, linkColumn(), rowOf(l.ID), []byte(e.Shown)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`INSERT INTO link (id, user, service, subject, shown, created) VALUES (?,?,?,?,?,?)`,
			int64(l.ID), int64(p.User), e.Service, a.vault.Fingerprint(linkKind, e.subject()), shown, tx.Now.UnixMilli()); err != nil {
			return err
		}
		if err := also(tx, p.User); err != nil {
			return err
		}
		if err := a.notify(tx, p.User, NoticeLinked, p.Device); err != nil {
			return err
		}
		event := As(p, viaHTTP).event("link.add", p.User)
		event.Object = e.Service
		return a.log.Append(tx, event)
	})
	return l, err
}

// Links lists the accounts elsewhere that a person connected.
func (a *Accounts) Links(ctx context.Context, user ident.UserID) (list []Link, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, service, shown, created, last_used FROM link WHERE user = ? ORDER BY service`, int64(user))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var l Link
			var shown []byte
			var created int64
			var used sql.NullInt64
			if err := rows.Scan(&l.ID, &l.Service, &shown, &created, &used); err != nil {
				return err
			}
			if shown != nil {
				plain, err := a.vault.Open(user, linkColumn(), rowOf(l.ID), shown)
				if err != nil {
					a.slog.Warn("the name of an account elsewhere cannot be read", "err", err)
				}
				l.Shown = string(plain)
			}
			l.Created, l.LastUsed = time.UnixMilli(created).UTC(), timeOf(used)
			list = append(list, l)
		}
		return rows.Err()
	})
	return list, err
}

// RemoveLink cuts the connection of the person of session p with an account elsewhere.
func (a *Accounts) RemoveLink(ctx context.Context, p ident.Principal, id LinkID) error {
	const op = "account.unlink"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		var service string
		err := tx.QueryRow(`SELECT service FROM link WHERE id = ? AND user = ?`, int64(id), int64(p.User)).Scan(&service)
		if isNoRows(err) {
			return notFound(op, "connection")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM link WHERE id = ? AND user = ?`, int64(id), int64(p.User)); err != nil {
			return err
		}
		if err := a.erased(tx, p.User, "links"); err != nil {
			return err
		}
		if err := a.notify(tx, p.User, NoticeUnlinked, p.Device); err != nil {
			return err
		}
		event := As(p, viaHTTP).event("link.remove", p.User)
		event.Object = service
		return a.log.Append(tx, event)
	})
}

// EraseLinks cuts all connections of a person who withdrew the consent to them.
func (a *Accounts) EraseLinks(ctx context.Context, user ident.UserID) error {
	return a.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`DELETE FROM link WHERE user = ?`, int64(user))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if err := a.erased(tx, user, "links"); err != nil {
			return err
		}
		if err := a.notify(tx, user, NoticeUnlinked, 0); err != nil {
			return err
		}
		return a.log.Append(tx, Actor{via: "box"}.event("link.erase", user))
	})
}

// LinkedPeople lists who has connected an account elsewhere.
func (a *Accounts) LinkedPeople(ctx context.Context) (list []ident.UserID, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT DISTINCT user FROM link`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var u ident.UserID
			if err := rows.Scan(&u); err != nil {
				return err
			}
			list = append(list, u)
		}
		return rows.Err()
	})
	return list, err
}

// LinkedLogin is somebody who wants to sign in with an account elsewhere.
type LinkedLogin struct {
	Elsewhere
	Code   string // of the second factor, or a recovery code; "": not given
	Device DeviceInfo
	Remote string // where the request came from, as httpd.Remote says it
}

// LoginLinked signs in whoever connected the account elsewhere. It makes no account,
// and a second factor is asked for as by Login. grant returns the person's consent. The
// session has not proved a password: what needs a recent proof asks for it.
func (a *Accounts) LoginLinked(ctx context.Context, req LinkedLogin, grant func(context.Context, ident.UserID) (consent.Grant, error), also Linked) (Session, error) {
	const op = "account.login_linked"
	device, err := cleanDevice(op, req.Device)
	if err != nil {
		return Session{}, err
	}
	var folded string
	var link LinkID
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		var user ident.UserID
		if link, user, err = a.linked(tx, req.Elsewhere); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT username FROM user WHERE id = ?`, int64(user)).Scan(&folded)
	})
	if isNoRows(err) {
		return Session{}, notLinked(op)
	}
	if err != nil {
		return Session{}, err
	}
	if wait, ok := a.logins.begin(a.now(), folded, req.Remote); !ok {
		return Session{}, tooMany(op, wait)
	}
	l, err := a.readLogin(ctx, folded)
	if err != nil {
		return Session{}, err
	}
	if l.id == 0 {
		return Session{}, notLinked(op)
	}
	if l.disabled {
		a.logins.untried(a.now(), folded, req.Remote)
		return Session{}, &problem.Error{Kind: problem.Forbidden, Op: op,
			Title: "This account is switched off", Hint: "Ask the owner of the box to switch it on again."}
	}
	g, err := grant(ctx, l.id)
	if err != nil {
		a.logins.untried(a.now(), folded, req.Remote)
		return Session{}, err
	}
	code, err := a.checkFactor(ctx, op, l, req.Code, req.Remote)
	if err != nil {
		return Session{}, err
	}
	var s Session
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := l.stillGood(tx, op); err != nil {
			return err
		}
		if err := g.Check(tx, consent.ThirdPartyLogin); err != nil {
			return err
		}
		res, err := tx.Exec(`UPDATE link SET last_used = ?, subject = ? WHERE id = ? AND user = ?`,
			tx.Now.UnixMilli(), a.vault.Fingerprint(linkKind, req.subject()), int64(link), int64(l.id))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = notLinked(op) // cut meanwhile
			}
			return err
		}
		if err := a.spend(tx, op, code, l.id); err != nil {
			return err
		}
		if s, err = a.openSession(tx, ident.Principal{User: l.id, Name: l.shown, Role: l.role, Scope: ident.ScopeFull}, device); err != nil {
			return err
		}
		session := s.Principal.Session
		tx.AfterCommit(func() { a.fresh.mark(session, time.Time{}) })
		if err := also(tx, l.id); err != nil || device.ID != 0 && device.ID == s.Principal.Device {
			return err
		}
		return a.notify(tx, l.id, NoticeDevice, s.Principal.Device)
	})
	return s, err
}

func notLinked(op string) error {
	return &problem.Error{Kind: problem.Unauthenticated, Op: op, Title: "That account opens nothing here",
		Detail: "No person of the box has connected it.", Hint: "Sign in with your user name and password, then connect it under Account."}
}
