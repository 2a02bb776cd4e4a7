package account

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/vault"
)

const (
	// LogLife is how long sign-ins and what is noted of the page's use are kept.
	LogLife = 30 * 24 * time.Hour
	// maxRefused is how many wrong tries are kept: strangers cause them. 20 at once and
	// one a minute are noted at all.
	maxRefused = 5000
)

// How a sign-in ended.
const (
	SignedIn     = "signed_in"
	WrongSecret  = "refused"      // user name or password, or the password of a camera
	WrongCode    = "code_refused" // the password was right
	actionIn     = "session.open"
	actionRefuse = "session.refuse"
)

func signInColumn() vault.Column {
	return vault.Column{Table: "sign_in", Name: "sealed", Row: "id", Owner: "CASE own WHEN 1 THEN user ELSE 0 END", Class: vault.Sensitive}
}

// A SignIn is somebody who signed in, or tried to.
type SignIn struct {
	ID      int64
	User    ident.UserID // zero: of no name of this box
	Time    time.Time
	Outcome string
	Device  ident.DeviceID // zero: of no device in particular
	Name    string         // of the device; "" without one, or once it was removed
	Kind    string
	Address vault.Address // zero: it is not known
	Until   time.Time     // when the entry goes
}

// A sighting is where a request to sign in came from, sealed before the transaction
// that records how it ended.
type sighting struct {
	id     int64
	own    bool
	sealed []byte
}

// sight seals an address: under the keys of the person if they are known to be
// there, and under the box's own where the time that takes must not tell who exists. A
// sign-in does not fail for it.
func (a *Accounts) sight(user ident.UserID, remote string) sighting {
	s := sighting{id: ident.New[int64](a.now()), own: user != 0}
	if remote == "" {
		return s
	}
	var err error
	if s.sealed, err = a.vault.Seal(user, signInColumn(), rowOf(s.id), []byte(remote)); err != nil {
		a.slog.Warn("the address of a sign-in could not be kept", "err", err)
	}
	return s
}

// noteSignIn adds an entry for the newest one of the audit record, right after it was
// appended within tx, and removes what is old.
func (a *Accounts) noteSignIn(tx *db.Tx, user ident.UserID, s sighting) error {
	if err := forgetSignIns(tx); err != nil {
		return err
	}
	if !s.own {
		if _, err := tx.Exec(`DELETE FROM sign_in WHERE own = 0 AND id <= (SELECT id FROM sign_in WHERE own = 0 ORDER BY id DESC LIMIT 1 OFFSET ?)`, maxRefused-1); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO sign_in (id, user, entry, own, sealed, ends) SELECT ?1, ?2, seq, ?3, ?4, ?5 FROM audit_head`,
		s.id, sql.NullInt64{Int64: int64(user), Valid: user != 0}, s.own, s.sealed, tx.Sure.Add(LogLife).UnixMilli())
	return err
}

func forgetSignIns(tx *db.Tx) error {
	_, err := tx.Exec(`DELETE FROM sign_in WHERE ends <= ?`, tx.Sure.UnixMilli())
	return err
}

// SignIns lists up to limit sign-ins of a person and wrong tries at it, the newest
// first, before the given id if that is not zero. Addresses print masked.
func (a *Accounts) SignIns(ctx context.Context, user ident.UserID, before int64, limit int) (list []SignIn, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		list, err = a.signIns(ctx, tx, `WHERE s.user = ?1 AND s.ends > ?2 AND (?3 = 0 OR s.id < ?3) ORDER BY s.id DESC LIMIT ?4`,
			int64(user), tx.Sure.UnixMilli(), before, limit)
		return err
	})
	return list, err
}

// RevealSignIns is SignIns with witness of the person's explicit act to see addresses
// unmasked, which is recorded.
func (a *Accounts) RevealSignIns(ctx context.Context, p ident.Principal, before int64, limit int) (list []SignIn, w vault.Witness, err error) {
	if err := full(p, "account.reveal_sign_ins"); err != nil {
		return nil, w, err
	}
	if list, err = a.SignIns(ctx, p.User, before, limit); err != nil {
		return nil, w, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		w, err = a.recorded(tx, p, "sign_ins.reveal", "")
		return err
	})
	return list, w, err
}

// AllSignIns lists the newest sign-ins of everybody and all wrong tries, addresses
// masked, for whoever has to tell that the box is attacked.
func (a *Accounts) AllSignIns(ctx context.Context, by Actor, limit int) (list []SignIn, err error) {
	if !by.root {
		return nil, notAdmin("account.all_sign_ins")
	}
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		list, err = a.signIns(ctx, tx, `WHERE s.ends > ?1 ORDER BY s.id DESC LIMIT ?2`, tx.Sure.UnixMilli(), limit)
		return err
	})
	return list, err
}

func (a *Accounts) signIns(ctx context.Context, tx *db.Tx, where string, args ...any) (list []SignIn, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT s.id, ifnull(s.user, 0), s.own, s.sealed, s.ends, l.time, l.action, l.detail, l.device, ifnull(d.name, ''), ifnull(d.kind, '')
		FROM sign_in s JOIN audit l ON l.seq = s.entry LEFT JOIN device d ON d.id = l.device `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			s              SignIn
			user, ends, at int64
			own            bool
			sealed         []byte
			action, detail string
			device         int64
		)
		if err := rows.Scan(&s.ID, &user, &own, &sealed, &ends, &at, &action, &detail, &device, &s.Name, &s.Kind); err != nil {
			return nil, err
		}
		s.User, s.Device, s.Time, s.Until = ident.UserID(user), ident.DeviceID(device), time.UnixMilli(at).UTC(), time.UnixMilli(ends).UTC()
		s.Outcome = outcomeOf(action, detail)
		owner := s.User
		if !own {
			owner = 0
		}
		if sealed != nil {
			address, err := a.vault.Open(owner, signInColumn(), rowOf(s.ID), sealed)
			if err == nil {
				s.Address = vault.NewAddress(string(address))
			} else if !unreadable(err) {
				return nil, err
			}
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

func outcomeOf(action, detail string) string {
	switch {
	case action == actionIn:
		return SignedIn
	case strings.Contains(detail, `"why":"code"`):
		return WrongCode
	}
	return WrongSecret
}
