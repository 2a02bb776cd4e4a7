package account

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// SessionID names a session. It is no secret: it opens nothing.
type SessionID int64

// String returns the identifier as 13 lower-case characters.
func (id SessionID) String() string { return ident.DeviceID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id SessionID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// OpenSession is a place where a person is signed in. Addresses are not kept.
type OpenSession struct {
	ID       SessionID
	Device   ident.DeviceID // zero: of no device in particular
	Name     string         // of the device; "" without one
	Kind     string         // of the device; "" without one
	Created  time.Time
	LastSeen time.Time // to within an hour
	Current  bool      // the one that asks
}

// Sessions lists where the person of p is signed in, the most recently used first.
func (a *Accounts) Sessions(ctx context.Context, p ident.Principal) (list []OpenSession, err error) {
	now := a.now()
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT s.id, s.device, ifnull(d.name, ''), ifnull(d.kind, ''), s.created, s.last_seen
			FROM session s LEFT JOIN device d ON d.id = s.device
			WHERE s.user = ? AND s.last_seen > ? AND s.expires > ? ORDER BY s.last_seen DESC`,
			int64(p.User), now.Add(-sessionIdle).UnixMilli(), now.UnixMilli())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				s             OpenSession
				device        sql.NullInt64
				created, seen int64
			)
			if err := rows.Scan(&s.ID, &device, &s.Name, &s.Kind, &created, &seen); err != nil {
				return err
			}
			s.Device, s.Created, s.LastSeen = ident.DeviceID(device.Int64), time.UnixMilli(created).UTC(), time.UnixMilli(seen).UTC()
			s.Current = int64(s.ID) == p.Session
			list = append(list, s)
		}
		return rows.Err()
	})
	return list, err
}

// EndSession signs the person of session p out where they signed in as id. It is good
// for nothing when it returns; what it is sending breaks off within two seconds.
func (a *Accounts) EndSession(ctx context.Context, p ident.Principal, id SessionID) error {
	const op = "account.end_session"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		var device sql.NullInt64
		err := tx.QueryRow(`SELECT device FROM session WHERE id = ? AND user = ?`, int64(id), int64(p.User)).Scan(&device)
		if isNoRows(err) {
			return notFound(op, "session")
		}
		if err != nil {
			return err
		}
		if err := a.endSession(tx, int64(id)); err != nil {
			return err
		}
		e := As(p, viaHTTP).event("session.end", p.User)
		e.Object = id.String()
		return a.log.Append(tx, e)
	})
}

// EndOtherSessions signs the person of session p out everywhere else and returns how
// many sessions that were. App tokens stay.
func (a *Accounts) EndOtherSessions(ctx context.Context, p ident.Principal) (ended int64, err error) {
	const op = "account.end_sessions"
	if err := full(p, op); err != nil {
		return 0, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		if ended, err = a.endOthers(tx, p); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event("session.end_others", p.User))
	})
	return ended, err
}

func (a *Accounts) endOthers(tx *db.Tx, p ident.Principal) (int64, error) {
	res, err := tx.Exec(`DELETE FROM session WHERE user = ? AND id <> ?`, int64(p.User), p.Session)
	if err != nil {
		return 0, err
	}
	a.forget(tx, func(q ident.Principal) bool { return q.User == p.User && q.Session != p.Session })
	return res.RowsAffected()
}

// forget drops what is remembered of credentials that tx takes away, and wakes those
// who answer at length, so that they ask again who is there.
func (a *Accounts) forget(tx *db.Tx, match func(ident.Principal) bool) {
	tx.AfterCommit(func() {
		a.cache.forget(match)
		a.bell.ring()
	})
}
