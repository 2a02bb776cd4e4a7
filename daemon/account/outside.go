package account

import (
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// NotifyIncident tells a person within tx that a notice of an incident waits for them.
func (a *Accounts) NotifyIncident(tx *db.Tx, user ident.UserID) error {
	return a.notify(tx, user, NoticeIncident, 0)
}
