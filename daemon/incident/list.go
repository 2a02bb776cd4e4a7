package incident

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

const columns = `i.id, i.created, i.changed, i.happened, i.contact, i.text, i.scope, ifnull(i.sent, 0), ifnull(i.published, 0), ifnull(i.ended, 0)`

func scan(row interface{ Scan(...any) error }, more ...any) (i Incident, err error) {
	var created, changed, happened, sent, published, ended int64
	var text, scope string
	err = row.Scan(append([]any{&i.ID, &created, &changed, &happened, &i.Contact, &text, &scope, &sent, &published, &ended}, more...)...)
	if err != nil {
		return i, err
	}
	i.Created, i.Changed, i.Happened, i.Sent, i.Published, i.Ended = at(created), at(changed), at(happened), at(sent), at(published), at(ended)
	if err := errors.Join(json.Unmarshal([]byte(text), &i.Text), json.Unmarshal([]byte(scope), &i.Scope)); err != nil {
		return i, fmt.Errorf("incident %s: %w", i.ID, err)
	}
	return i, nil
}

// at is the zero time for 0.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func reach(ctx context.Context, tx *db.Tx, id ident.ItemID) (r Reach, err error) {
	err = tx.QueryRowContext(ctx, `SELECT count(*), count(seen), count(*) FILTER (WHERE mail = 'sent'), count(*) FILTER (WHERE mail = 'waiting'),
		count(*) FILTER (WHERE mail = 'failed') FROM incident_person WHERE incident = ?`, int64(id)).Scan(&r.People, &r.Seen, &r.Mailed, &r.Waiting, &r.Failed)
	return r, err
}

// One returns the incident of that id, with how many it reached.
func (r *Room) One(ctx context.Context, id ident.ItemID) (i Incident, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		if i, err = scan(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM incident AS i WHERE i.id = ?`, int64(id))); err != nil {
			return err
		}
		i.Reach, err = reach(ctx, tx, id)
		return err
	})
	if isNoRows(err) {
		err = noSuch()
	}
	return i, err
}

// maxList is how many are listed.
const maxList = 500

// List returns the newest 500, drafts among them.
func (r *Room) List(ctx context.Context) (list []Incident, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		if list, err = query(ctx, tx, `SELECT `+columns+` FROM incident AS i ORDER BY i.id DESC LIMIT ?`, maxList); err != nil {
			return err
		}
		for n := range list {
			if list[n].Reach, err = reach(ctx, tx, list[n].ID); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func query(ctx context.Context, tx *db.Tx, sql string, args ...any) (list []Incident, err error) {
	rows, err := tx.QueryContext(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		i, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, rows.Err()
}

// Published returns what everybody may read who opens the page, the newest first.
func (r *Room) Published(ctx context.Context) (list []Incident, err error) {
	since := r.opt.Now().Add(-shownFor).UnixMilli()
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		list, err = query(ctx, tx, `SELECT `+columns+` FROM incident AS i WHERE i.published > ? AND i.ended IS NULL ORDER BY i.published DESC LIMIT 20`, since)
		return err
	})
	return list, err
}

// Of returns what u was sent, the newest first.
func (r *Room) Of(ctx context.Context, u ident.UserID) (list []Mine, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+columns+`, ifnull(p.seen, 0) FROM incident_person AS p CROSS JOIN incident AS i ON i.id = p.incident
			WHERE p.user = ? ORDER BY p.incident DESC LIMIT ?`, int64(u), maxList)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m Mine
			var seen int64
			if m.Incident, err = scan(rows, &seen); err != nil {
				return err
			}
			m.Seen = at(seen)
			list = append(list, m)
		}
		return rows.Err()
	})
	return list, err
}

// Told lists the people whom a sent incident concerns, and how each was told.
func (r *Room) Told(ctx context.Context, id ident.ItemID) (list []Told, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT user, ifnull(seen, 0), mail, ifnull(mailed, 0) FROM incident_person WHERE incident = ? ORDER BY user`, int64(id))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t Told
			var seen, mailed int64
			if err := rows.Scan(&t.User, &seen, &t.Mail, &mailed); err != nil {
				return err
			}
			t.Seen, t.Mailed = at(seen), at(mailed)
			list = append(list, t)
		}
		return rows.Err()
	})
	return list, err
}
