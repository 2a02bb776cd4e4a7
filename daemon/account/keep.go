package account

import (
	"context"
	"errors"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// erasable is what goes when a person withdraws a consent.
type erasable struct {
	purpose consent.Purpose
	what    string // category, see Held
	who     string // query of all who have such data
	erase   func(*Accounts, *db.Tx, ident.UserID) error
}

func erasables() []erasable {
	return []erasable{
		{consent.ProfileDetails, "profile", `SELECT user FROM profile UNION SELECT user FROM profile_sensitive`, (*Accounts).eraseProfile},
		{consent.DeviceInfo, "device_details", `SELECT DISTINCT user FROM device_about`, func(_ *Accounts, tx *db.Tx, u ident.UserID) error {
			_, err := tx.Exec(`DELETE FROM device_about WHERE user = ?`, int64(u))
			return err
		}},
		{consent.UsageLogs, "usage", `SELECT DISTINCT user FROM usage_log`, func(_ *Accounts, tx *db.Tx, u ident.UserID) error { return eraseUses(tx, u) }},
	}
}

func (a *Accounts) eraseProfile(tx *db.Tx, u ident.UserID) error {
	for _, table := range []string{"profile", "profile_sensitive"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE user = ?`, int64(u)); err != nil {
			return err
		}
	}
	return a.forgetIndexes(tx, u)
}

func (a *Accounts) erased(tx *db.Tx, u ident.UserID, category string) error {
	if a.opt.Erased == nil {
		return nil
	}
	return a.opt.Erased(tx, u, category)
}

// forgetIndexes forgets by what a person could be found.
func (a *Accounts) forgetIndexes(tx *db.Tx, u ident.UserID) error {
	for _, d := range []Detail{Email, Phone} {
		if err := a.vault.SetIndex(tx, u, string(d), ""); err != nil {
			return err
		}
	}
	return nil
}

// Run erases what rests on a consent as soon as that is withdrawn, also what was
// withdrawn while the box was off. It returns when ctx ends.
func (a *Accounts) Run(ctx context.Context, ledger *consent.Ledger) {
	if err := a.moveSecrets(ctx); err != nil && ctx.Err() == nil {
		a.slog.Warn("secrets of authenticators could not be moved into the vault", "err", err)
	}
	for {
		decided := ledger.Decided() // before it is looked: no decision may fall between
		if err := a.eraseWithdrawn(ctx, ledger); err != nil && ctx.Err() == nil {
			a.slog.Error("what rested on a withdrawn consent could not be erased; the next decision or start tries again", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-decided:
		}
	}
}

func (a *Accounts) eraseWithdrawn(ctx context.Context, ledger *consent.Ledger) error {
	var errs []error
	for _, e := range erasables() {
		people, err := a.people(ctx, e.who)
		if err != nil {
			return err
		}
		for _, u := range people {
			state, err := stateOf(ctx, ledger, u, e.purpose)
			// Suspended is no withdrawal: what is there stays until the person decides.
			if err == nil && (state == consent.Withdrawn || state == consent.Never) {
				err = a.db.Write(ctx, func(tx *db.Tx) error {
					if g, err := ledger.Grant(ctx, u, 0, e.purpose); err == nil && g.Check(tx, e.purpose) == nil {
						return nil // they said yes again meanwhile
					}
					if err := e.erase(a, tx, u); err != nil {
						return err
					}
					return a.erased(tx, u, e.what)
				})
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func stateOf(ctx context.Context, ledger *consent.Ledger, u ident.UserID, p consent.Purpose) (consent.State, error) {
	list, err := ledger.State(ctx, u)
	if err != nil {
		return "", err
	}
	for _, c := range list {
		if c.Purpose == p && c.Device == 0 {
			return c.State, nil
		}
	}
	return consent.Never, nil
}

func (a *Accounts) people(ctx context.Context, query string) (list []ident.UserID, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			list = append(list, ident.UserID(id))
		}
		return rows.Err()
	})
	return list, err
}

// Expire removes sign-ins and notes of use that are older than LogLife. Each new entry
// does that, too: this is for a box where nobody signs in. Where there is nothing to
// remove it writes nothing.
func (a *Accounts) Expire(ctx context.Context) error {
	var due bool
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sign_in WHERE ends <= ?1) OR EXISTS (SELECT 1 FROM usage_log WHERE ends <= ?1)
			OR EXISTS (SELECT 1 FROM ownership_offer WHERE due <= ?1)`, tx.Sure.UnixMilli()).Scan(&due)
	})
	if err != nil || !due {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := forgetSignIns(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM ownership_offer WHERE due <= ?`, tx.Sure.UnixMilli()); err != nil {
			return err
		}
		return forgetUses(tx)
	})
}
