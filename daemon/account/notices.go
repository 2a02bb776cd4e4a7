package account

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// What a person hears about their own account.
const (
	NoticeDevice      = "device"        // somebody signed in on a device that was not known
	NoticeFactorOn    = "factor_on"     // a second factor was set up
	NoticeFactorOff   = "factor_off"    // it was switched off
	NoticeFactorReset = "factor_reset"  // somebody else switched it off
	NoticeRecovery    = "recovery_code" // a recovery code was used
	NoticeGuessing    = "code_guessing" // the password was right, and many codes were wrong
	NoticePassword    = "password"      // the password was changed
	NoticeReset       = "password_set"  // root gave the account another password
	NoticePolicy      = "policy"        // the privacy policy has another revision; Name is that
	NoticeIncident    = "incident"      // they were sent a notice of an incident
	NoticeLinked      = "linked"        // an account elsewhere was connected
	NoticeUnlinked    = "unlinked"      // that was cut
)

// A Notice tells somebody what happened on their account. It stays until they have
// seen it, and 90 days at most.
type Notice struct {
	ID     NoticeID
	Time   time.Time
	Kind   string
	Device ident.DeviceID // where it happened; zero: not known
	Name   string         // of that device, as it was then; with NoticePolicy the revision
}

// NoticeID names a notice; later ones are greater.
type NoticeID int64

// String returns the identifier as 13 lower-case characters.
func (id NoticeID) String() string { return ident.DeviceID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id NoticeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

const (
	noticeLife = 90 * 24 * time.Hour
	maxNotices = 100 // of one person; the oldest go first
	// onceAn is how often what a stranger can cause is told.
	onceAn = time.Hour
)

// notify adds a notice within tx.
func (a *Accounts) notify(tx *db.Tx, user ident.UserID, kind string, device ident.DeviceID) error {
	name := ""
	if device != 0 {
		err := tx.QueryRow(`SELECT name FROM device WHERE id = ? AND user = ?`, int64(device), int64(user)).Scan(&name)
		if err != nil && !isNoRows(err) {
			return err
		}
	}
	return a.addNotice(tx, user, kind, device, name)
}

func (a *Accounts) addNotice(tx *db.Tx, user ident.UserID, kind string, device ident.DeviceID, name string) error {
	if _, err := tx.Exec(`DELETE FROM notice WHERE user = ?1 AND (time < ?2 OR id <=
		(SELECT id FROM notice WHERE user = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3))`,
		int64(user), tx.Sure.Add(-noticeLife).UnixMilli(), maxNotices-1); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO notice (user, time, kind, device, name) VALUES (?,?,?,?,?)`,
		int64(user), tx.Now.UnixMilli(), kind, nullDevice(device), name)
	if err == nil {
		tx.AfterCommit(a.bell.ring)
	}
	return err
}

// TellPolicy tells everybody, once, that the privacy policy has another revision than
// the one that they were told of: first is the one that no box had to tell.
func (a *Accounts) TellPolicy(ctx context.Context, revision, first string) error {
	told := first
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT value FROM box WHERE key = 'policy_told'`).Scan(&told)
		if isNoRows(err) {
			return nil
		}
		return err
	})
	if err != nil || told == revision {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		people, err := a.Everybody(tx)
		if err != nil {
			return err
		}
		for _, u := range people {
			if err := a.addNotice(tx, u, NoticePolicy, 0, revision); err != nil {
				return err
			}
		}
		_, err = tx.Exec(`INSERT INTO box (key, value) VALUES ('policy_told', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, revision)
		return err
	})
}

// Everybody lists all people as of tx, also those who are switched off.
func (a *Accounts) Everybody(tx *db.Tx) (people []ident.UserID, err error) {
	rows, err := tx.Query(`SELECT id FROM user ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var u ident.UserID
		if err := rows.Scan(&u); err != nil {
			return nil, err
		}
		people = append(people, u)
	}
	return people, rows.Err()
}

// tell adds a notice about what somebody without a session does, once an hour.
func (a *Accounts) tell(ctx context.Context, user ident.UserID, kind string) error {
	var told bool
	asks := func(tx *db.Tx) error { // one from a time to come is of a clock that ran ahead
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM notice WHERE user = ? AND kind = ? AND time > ? AND time <= ?)`,
			int64(user), kind, tx.Now.Add(-onceAn).UnixMilli(), tx.Now.UnixMilli()).Scan(&told)
	}
	if err := a.db.Read(ctx, asks); err != nil || told {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := asks(tx); err != nil || told {
			return err
		}
		return a.notify(tx, user, kind, 0)
	})
}

// Notices lists what the person has not seen yet, after the given one if that is not
// zero, the oldest first.
func (a *Accounts) Notices(ctx context.Context, user ident.UserID, after NoticeID) (list []Notice, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, time, kind, device, name FROM notice WHERE user = ? AND id > ? ORDER BY id`, int64(user), int64(after))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				n      Notice
				at     int64
				device sql.NullInt64
			)
			if err := rows.Scan(&n.ID, &at, &n.Kind, &device, &n.Name); err != nil {
				return err
			}
			n.Time, n.Device = time.UnixMilli(at).UTC(), ident.DeviceID(device.Int64)
			list = append(list, n)
		}
		return rows.Err()
	})
	return list, err
}

// SeenNotices removes the person's notices up to the given one.
func (a *Accounts) SeenNotices(ctx context.Context, user ident.UserID, through NoticeID) error {
	return a.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM notice WHERE user = ? AND id <= ?`, int64(user), int64(through))
		return err
	})
}

// A bell wakes those who wait for news of accounts.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// Changed returns a channel that is closed when a credential, anybody's, was revoked
// or a notice was written, after the moment of the call.
func (a *Accounts) Changed() <-chan struct{} { return a.bell.wait() }
