package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
)

// Detail is something that a person may tell about themselves beside their user name.
type Detail string

// The details (policy 1.1.1), all of them optional.
const (
	Email    Detail = "email"
	Phone    Detail = "phone"
	Nickname Detail = "nickname"
	Gender   Detail = "gender"
	City     Detail = "city"
	avatar   Detail = "avatar" // has functions of its own
)

// Details lists all but the picture, in the order in which they are shown.
func Details() []Detail { return []Detail{Email, Phone, Nickname, Gender, City} }

// Genders are the words that Gender may say.
func Genders() []string { return []string{"female", "male", "other"} }

func profileGeneral() vault.Column {
	return vault.Column{Table: "profile", Name: "sealed", Row: "field", Class: vault.General}
}

func profileSensitive() vault.Column {
	return vault.Column{Table: "profile_sensitive", Name: "sealed", Row: "field", Class: vault.Sensitive}
}

// column is where a detail lies. What the policy calls sensitive lies apart.
func (d Detail) column() vault.Column {
	switch d {
	case Email, Phone, Nickname:
		return profileSensitive()
	}
	return profileGeneral()
}

// Sealed lists the columns of this package whose values the vault seals.
func Sealed() []vault.Column {
	return []vault.Column{profileGeneral(), profileSensitive(), aboutColumn(), signInColumn(), useColumn(), totpColumn(secretName), totpColumn(pendingName), linkColumn()}
}

// Indexed is what vault.Options.Value wants: a detail in the form by which it is found.
func Indexed(v *vault.Vault, tx *db.Tx, u ident.UserID, kind string) (string, error) {
	d := Detail(kind)
	if d != Email && d != Phone {
		return "", nil
	}
	var sealed []byte
	err := tx.QueryRow(`SELECT sealed FROM `+d.column().Table+` WHERE user = ? AND field = ?`, int64(u), kind).Scan(&sealed)
	if isNoRows(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	value, err := v.Open(u, d.column(), kind, sealed)
	return d.indexed(string(value)), err
}

// Hashed lists the columns with fingerprints of what the box does not keep.
func Hashed() []vault.Column { return []vault.Column{{Table: "link", Name: "subject"}} }

// A Masked value prints masked; only its owner's explicit act reveals it.
type Masked interface {
	fmt.Stringer
	Reveal(vault.Witness) string
}

// masked is a value of the detail as it may be shown and logged.
func (d Detail) masked(value string) Masked {
	switch d {
	case Email:
		return vault.NewEmail(value)
	case Phone:
		return vault.NewPhone(value)
	case Nickname:
		return vault.NewName(value)
	}
	return vault.NewPlace(value)
}

// clean checks a value of the detail and returns it in the form in which it is kept.
func (d Detail) clean(op, value string) (string, error) {
	if len(value) > 4*maxLabel || !utf8.ValidString(value) {
		return "", invalid(op, "That is too long or not valid UTF-8.", "Use a shorter text.")
	}
	value = norm.NFC.String(strings.TrimSpace(value))
	switch d {
	case Email:
		return cleanEmail(op, value)
	case Phone:
		return cleanPhone(op, value)
	case Gender:
		if !slices.Contains(Genders(), value) {
			return "", invalid(op, "That is not one of the choices for gender.", "Use female, male or other, or delete the detail.")
		}
		return value, nil
	case Nickname:
		return displayName(op, "nickname", value)
	case City:
		return displayName(op, "city", value)
	}
	return "", noDetail(op)
}

func noDetail(op string) error {
	return &problem.Error{Kind: problem.NotFound, Op: op, Title: "There is no such detail",
		Hint: "The details are email, phone, nickname, gender and city."}
}

// cleanEmail takes one plain address (RFC 5321 §4.1.2 without quotes and comments).
func cleanEmail(op, s string) (string, error) {
	wrong := invalid(op, "That is not an e-mail address.", "Write it like anna@example.com.")
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 || len(s) > 254 || strings.Count(s, "@") != 1 {
		return "", wrong
	}
	local, domain := s[:at], strings.ToLower(s[at+1:])
	for _, r := range local + domain {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(`"(),:;<>[\]`, r) {
			return "", wrong
		}
	}
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(s, "..") {
		return "", wrong
	}
	labels := strings.Split(domain, ".")
	if len(labels) < 2 {
		return "", wrong
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") {
			return "", wrong
		}
	}
	if _, err := netip.ParseAddr(domain); err == nil {
		return "", wrong
	}
	return local + "@" + domain, nil
}

// cleanPhone takes a number as people write it and keeps its digits, with the plus of a
// country's code (ITU-T E.164: 15 digits at most).
func cleanPhone(op, s string) (string, error) {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '+' && i == 0:
			b.WriteByte('+')
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case !strings.ContainsRune(" -()./\u00a0", r):
			return "", invalid(op, "That is not a telephone number.", "Use digits, a plus at the beginning, spaces and hyphens.")
		}
	}
	number := b.String()
	if n := len(strings.TrimPrefix(number, "+")); n < 5 || n > 15 {
		return "", invalid(op, "A telephone number has 5 to 15 digits.", "Write it with the code of its area or country.")
	}
	return number, nil
}

// indexed is the form in which a detail is found by its value; "": it is not.
func (d Detail) indexed(value string) string {
	switch d {
	case Email:
		return strings.ToLower(value)
	case Phone:
		return value
	}
	return ""
}

// Told is a detail that a person told.
type Told struct {
	Detail  Detail
	Value   Masked // nil: no key opens it any more; it can be told again
	Changed time.Time
}

// SetDetail keeps a detail of the person of p, who consented to it by g
// (consent.ProfileDetails). It takes the place of an earlier one, which is in no file any
// more when Options.Erased is done with it.
func (a *Accounts) SetDetail(ctx context.Context, p ident.Principal, g consent.Grant, d Detail, value string) error {
	const op = "account.set_detail"
	if err := full(p, op); err != nil {
		return err
	}
	value, err := d.clean(op, value)
	if err != nil {
		return err
	}
	return a.setSealed(ctx, op, p, g, d, []byte(value), d.indexed(value))
}

func (a *Accounts) setSealed(ctx context.Context, op string, p ident.Principal, g consent.Grant, d Detail, value []byte, indexed string) error {
	if g.User() != p.User {
		return fmt.Errorf("%s: a consent of somebody else", op)
	}
	at := d.column()
	sealed, err := a.vault.Seal(p.User, at, string(d), value)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, consent.ProfileDetails); err != nil {
			return err
		}
		var before []byte
		err := tx.QueryRow(`SELECT sealed FROM `+at.Table+` WHERE user = ? AND field = ?`, int64(p.User), string(d)).Scan(&before)
		if err != nil && !isNoRows(err) {
			return err
		}
		if err == nil && !a.holds(p.User, at, string(d), before, value) {
			if err := a.erased(tx, p.User, "profile"); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`INSERT INTO `+at.Table+` (user, field, sealed, changed) VALUES (?1, ?2, ?3, ?4)
			ON CONFLICT (user, field) DO UPDATE SET sealed = excluded.sealed, changed = excluded.changed`,
			int64(p.User), string(d), sealed, tx.Now.UnixMilli()); err != nil {
			return err
		}
		if d == Email || d == Phone {
			if err := a.vault.SetIndex(tx, p.User, string(d), indexed); err != nil {
				return err
			}
		}
		e := As(p, viaHTTP).event("profile.set", p.User)
		e.Object = string(d)
		return a.log.Append(tx, e)
	})
}

// holds reports whether a sealed value is this one.
func (a *Accounts) holds(u ident.UserID, at vault.Column, row string, sealed, value []byte) bool {
	plain, err := a.vault.Open(u, at, row, sealed)
	return err == nil && bytes.Equal(plain, value)
}

// DeleteDetail deletes a detail of the person of p. It needs no consent, and one that is
// not there is no error.
func (a *Accounts) DeleteDetail(ctx context.Context, p ident.Principal, d Detail) error {
	const op = "account.delete_detail"
	if err := full(p, op); err != nil {
		return err
	}
	if d != avatar && !slices.Contains(Details(), d) {
		return noDetail(op)
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`DELETE FROM `+d.column().Table+` WHERE user = ? AND field = ?`, int64(p.User), string(d))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if err := a.vault.SetIndex(tx, p.User, string(d), ""); err != nil {
			return err
		}
		if err := a.erased(tx, p.User, "profile"); err != nil {
			return err
		}
		e := As(p, viaHTTP).event("profile.delete", p.User)
		e.Object = string(d)
		return a.log.Append(tx, e)
	})
}

// Profile lists what a person told about themselves, without the picture.
func (a *Accounts) Profile(ctx context.Context, user ident.UserID) (list []Told, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		list, err = a.profile(ctx, tx, user)
		return err
	})
	return list, err
}

func (a *Accounts) profile(ctx context.Context, tx *db.Tx, user ident.UserID) (list []Told, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT field, sealed, changed FROM profile WHERE user = ?1 AND field <> 'avatar'
		UNION ALL SELECT field, sealed, changed FROM profile_sensitive WHERE user = ?1`, int64(user))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t Told
		var sealed []byte
		var changed int64
		if err := rows.Scan(&t.Detail, &sealed, &changed); err != nil {
			return nil, err
		}
		t.Changed = time.UnixMilli(changed).UTC()
		value, err := a.vault.Open(user, t.Detail.column(), string(t.Detail), sealed)
		switch {
		case err == nil:
			t.Value = t.Detail.masked(string(value))
		case !unreadable(err):
			return nil, err
		}
		list = append(list, t)
	}
	order := Details()
	slices.SortFunc(list, func(x, y Told) int { return slices.Index(order, x.Detail) - slices.Index(order, y.Detail) })
	return list, rows.Err()
}

// unreadable reports whether a sealed value is there and nothing opens it.
func unreadable(err error) bool {
	return errors.Is(err, vault.ErrLost) || errors.Is(err, vault.ErrChanged)
}

// RevealProfile shows the person of p what they told, unmasked; it is their explicit act,
// and recorded. details limits it; none: all.
func (a *Accounts) RevealProfile(ctx context.Context, p ident.Principal, details ...Detail) (shown map[Detail]string, err error) {
	const op = "account.reveal_profile"
	if err := full(p, op); err != nil {
		return nil, err
	}
	for _, d := range details {
		if !slices.Contains(Details(), d) {
			return nil, noDetail(op)
		}
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		list, err := a.profile(ctx, tx, p.User)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(t Told) bool {
			return t.Value == nil || len(details) > 0 && !slices.Contains(details, t.Detail)
		})
		shown = map[Detail]string{}
		if len(list) == 0 {
			return nil
		}
		var names []string
		for _, t := range list {
			names = append(names, string(t.Detail))
		}
		witness, err := a.recorded(tx, p, "profile.reveal", strings.Join(names, ","))
		if err != nil {
			return err
		}
		for _, t := range list {
			shown[t.Detail] = t.Value.Reveal(witness)
		}
		return nil
	})
	return shown, err
}

// recorded is what Reveal asks for.
func (a *Accounts) recorded(tx *db.Tx, p ident.Principal, action, what string) (vault.Witness, error) {
	return vault.Recorded(tx, func(tx *db.Tx) error {
		e := As(p, viaHTTP).event(action, p.User)
		e.Object = what
		return a.log.Append(tx, e)
	})
}

// WhoTold returns who told that e-mail address or telephone number, for somebody who
// forgot their user name. Only the system's administrator asks, and it is recorded.
func (a *Accounts) WhoTold(ctx context.Context, by Actor, d Detail, value string) (names []string, err error) {
	const op = "account.who_told"
	if !by.root {
		return nil, notAdmin(op)
	}
	if d != Email && d != Phone {
		return nil, invalid(op, "People are found by an e-mail address or a telephone number.", "Give one of both.")
	}
	if value, err = d.clean(op, value); err != nil {
		return nil, err
	}
	names = []string{}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		found, err := a.vault.Find(tx, string(d), d.indexed(value))
		if err != nil {
			return err
		}
		for _, u := range found {
			var name string
			if err := tx.QueryRow(`SELECT shown FROM user WHERE id = ?`, int64(u)).Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
			e := by.event("profile.find", u)
			e.Object = string(d)
			if err := a.log.Append(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	return names, err
}
