package account

import (
	"context"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/vault"
)

// NotifyIncident tells a person within tx that a notice of an incident waits for them.
func (a *Accounts) NotifyIncident(tx *db.Tx, user ident.UserID) error {
	return a.notify(tx, user, NoticeIncident, 0)
}

// HasMailAddress says whether a person gave an e-mail address, without opening it.
func (a *Accounts) HasMailAddress(ctx context.Context, user ident.UserID) bool {
	list, err := a.Profile(ctx, user)
	if err != nil {
		a.slog.Warn("a profile cannot be read", "err", err)
	}
	for _, t := range list {
		if t.Detail == Email && t.Value != nil {
			return true
		}
	}
	return false
}

// MailAddress returns the e-mail address that a person gave, for a notice that they must
// be sent. That it was opened is in the record.
func (a *Accounts) MailAddress(ctx context.Context, user ident.UserID) (address string, ok bool) {
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		list, err := a.profile(ctx, tx, user)
		if err != nil {
			return err
		}
		for _, t := range list {
			if t.Detail != Email || t.Value == nil {
				continue
			}
			witness, err := vault.Recorded(tx, func(tx *db.Tx) error {
				return a.log.Append(tx, audit.Event{Action: "profile.mail", Subject: user, Object: string(Email), Via: "box"})
			})
			if err != nil {
				return err
			}
			address, ok = t.Value.Reveal(witness), true
		}
		return nil
	})
	if err != nil {
		a.slog.Warn("an e-mail address cannot be read", "err", err)
		return "", false
	}
	return address, ok
}
