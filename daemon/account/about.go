package account

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/vault"
)

// About is what a device says about itself, of those whose person agreed to
// consent.DeviceInfo. What is empty was not said.
type About struct {
	Model  string `json:"model,omitempty"`  // "Pixel 9"
	System string `json:"system,omitempty"` // "Android 16"
	App    string `json:"app,omitempty"`    // "yunbox 1.2"
}

func aboutColumn() vault.Column {
	return vault.Column{Table: "device_about", Name: "sealed", Row: "device", Class: vault.General}
}

func rowOf[T ~int64](id T) string { return strconv.FormatInt(int64(id), 10) }

func (d About) clean(op string) (About, error) {
	for _, v := range []*string{&d.Model, &d.System, &d.App} {
		if *v == "" {
			continue
		}
		var err error
		if *v, err = displayName(op, "device", *v); err != nil {
			return d, err
		}
	}
	return d, nil
}

// DescribeDevice keeps what one of the devices of p says about itself, under a Grant of
// consent.DeviceInfo. It takes the place of what it said before; nothing deletes that. What
// goes so is in no file any more when Options.Erased is done with it.
func (a *Accounts) DescribeDevice(ctx context.Context, p ident.Principal, g consent.Grant, id ident.DeviceID, about About) error {
	const op = "account.describe_device"
	if err := full(p, op); err != nil {
		return err
	}
	if g.User() != p.User {
		return fmt.Errorf("%s: a consent of somebody else", op)
	}
	about, err := about.clean(op)
	if err != nil {
		return err
	}
	if about == (About{}) {
		return a.ForgetDevice(ctx, p, id)
	}
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	sealed, err := a.vault.Seal(p.User, aboutColumn(), rowOf(id), text)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, consent.DeviceInfo); err != nil {
			return err
		}
		if err := ownDevice(tx, op, p.User, id); err != nil {
			return err
		}
		var before []byte
		err := tx.QueryRow(`SELECT sealed FROM device_about WHERE device = ?`, int64(id)).Scan(&before)
		if err != nil && !isNoRows(err) {
			return err
		}
		if err == nil && !a.holds(p.User, aboutColumn(), rowOf(id), before, text) {
			if err := a.erased(tx, p.User, "device_details"); err != nil {
				return err
			}
		}
		_, err = tx.Exec(`INSERT INTO device_about (device, user, sealed, changed) VALUES (?, ?, ?, ?)
			ON CONFLICT (device) DO UPDATE SET sealed = excluded.sealed, changed = excluded.changed`,
			int64(id), int64(p.User), sealed, tx.Now.UnixMilli())
		return err
	})
}

func ownDevice(tx *db.Tx, op string, user ident.UserID, id ident.DeviceID) error {
	var own bool
	err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM device WHERE id = ? AND user = ?)`, int64(id), int64(user)).Scan(&own)
	if err == nil && !own {
		err = notFound(op, "device")
	}
	return err
}

// ForgetDevice deletes what a device said about itself. The device stays.
func (a *Accounts) ForgetDevice(ctx context.Context, p ident.Principal, id ident.DeviceID) error {
	const op = "account.forget_device"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := ownDevice(tx, op, p.User, id); err != nil {
			return err
		}
		res, err := tx.Exec(`DELETE FROM device_about WHERE device = ? AND user = ?`, int64(id), int64(p.User))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return a.erased(tx, p.User, "device_details")
	})
}

// Abouts returns what the devices of a person said about themselves.
func (a *Accounts) Abouts(ctx context.Context, user ident.UserID) (list map[ident.DeviceID]About, err error) {
	list = map[ident.DeviceID]About{}
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT device, sealed FROM device_about WHERE user = ?`, int64(user))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var sealed []byte
			if err := rows.Scan(&id, &sealed); err != nil {
				return err
			}
			text, err := a.vault.Open(user, aboutColumn(), rowOf(id), sealed)
			if unreadable(err) {
				continue
			}
			var about About
			if err == nil {
				err = json.Unmarshal(text, &about)
			}
			if err != nil {
				return err
			}
			list[ident.DeviceID(id)] = about
		}
		return rows.Err()
	})
	return list, err
}
