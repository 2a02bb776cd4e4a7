package account

import (
	"context"
	"slices"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Device is a phone, camera or computer of one person.
type Device struct {
	ID       ident.DeviceID
	Name     string
	Kind     string
	Created  time.Time
	LastSeen time.Time // to within an hour
}

const maxDevices = 200 // of one person

// deviceKinds are what a device can be; the page shows a picture of each.
func deviceKinds() []string {
	return []string{"phone", "tablet", "computer", "camera", "browser", "other"}
}

// cleanDevice checks what a client says about its device.
func cleanDevice(op string, d DeviceInfo) (DeviceInfo, error) {
	if d.Kind == "" {
		d.Kind = "other"
	}
	if !slices.Contains(deviceKinds(), d.Kind) {
		return d, invalid(op, "That is not a kind of device.", "Use phone, tablet, computer, camera, browser or other.")
	}
	if d.Name == "" {
		return d, nil
	}
	var err error
	d.Name, err = displayName(op, "device", d.Name)
	return d, err
}

// signInDevice returns the device of a new session: the one that is named by its
// id, a new one if there is only a name, or none.
func (a *Accounts) signInDevice(tx *db.Tx, user ident.UserID, d DeviceInfo) (ident.DeviceID, error) {
	switch {
	case d.ID != 0:
		res, err := tx.Exec(`UPDATE device SET last_seen = ? WHERE id = ? AND user = ?`, tx.Now.UnixMilli(), int64(d.ID), int64(user))
		if err != nil {
			return 0, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return d.ID, err
		}
		if d.Name == "" {
			return 0, notFound("account.login", "device")
		}
		// The device was removed; whoever holds it has just proved who they are.
	case d.Name == "":
		return 0, nil
	}
	made, err := a.insertDevice(tx, user, d)
	return made.ID, err
}

func (a *Accounts) insertDevice(tx *db.Tx, user ident.UserID, d DeviceInfo) (Device, error) {
	var n int
	if err := tx.QueryRow(`SELECT count(*) FROM device WHERE user = ?`, int64(user)).Scan(&n); err != nil {
		return Device{}, err
	}
	if n >= maxDevices {
		return Device{}, &problem.Error{Kind: problem.Conflict, Op: "account.add_device",
			Title: "There are too many devices", Detail: "A person can have 200 devices.",
			Hint: "Remove devices that you no longer use, or sign in without naming one."}
	}
	now := tx.Now.UTC().Truncate(time.Millisecond)
	made := Device{ID: ident.New[ident.DeviceID](now), Name: d.Name, Kind: d.Kind, Created: now, LastSeen: now}
	_, err := tx.Exec(`INSERT INTO device (id, user, name, kind, created, last_seen) VALUES (?,?,?,?,?,?)`,
		int64(made.ID), int64(user), made.Name, made.Kind, now.UnixMilli(), now.UnixMilli())
	if err != nil {
		return Device{}, err
	}
	return made, a.log.Append(tx, audit.Event{Actor: user, Action: "device.add", Subject: user, Object: made.ID.String(), Device: made.ID, Via: viaHTTP})
}

// AddDevice adds a device to the person of p.
func (a *Accounts) AddDevice(ctx context.Context, p ident.Principal, d DeviceInfo) (Device, error) {
	const op = "account.add_device"
	if err := full(p, op); err != nil {
		return Device{}, err
	}
	d, err := cleanDevice(op, d)
	if err != nil {
		return Device{}, err
	}
	if d.Name == "" {
		return Device{}, invalid(op, "The device has no name.", "Give it a name by which you will know it.")
	}
	var made Device
	err = a.db.Write(ctx, func(tx *db.Tx) (err error) {
		made, err = a.insertDevice(tx, p.User, d)
		return err
	})
	return made, err
}

const deviceColumns = `id, name, kind, created, last_seen`

func scanDevice(row interface{ Scan(...any) error }) (Device, error) {
	var (
		d                 Device
		id, created, seen int64
	)
	if err := row.Scan(&id, &d.Name, &d.Kind, &created, &seen); err != nil {
		return Device{}, err
	}
	d.ID, d.Created, d.LastSeen = ident.DeviceID(id), time.UnixMilli(created).UTC(), time.UnixMilli(seen).UTC()
	return d, nil
}

// Devices lists a person's devices in the order in which they came.
func (a *Accounts) Devices(ctx context.Context, user ident.UserID) (devices []Device, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+deviceColumns+` FROM device WHERE user = ? ORDER BY id`, int64(user))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			d, err := scanDevice(rows)
			if err != nil {
				return err
			}
			devices = append(devices, d)
		}
		return rows.Err()
	})
	return devices, err
}

// Device returns a person's device. Another person's is NotFound like one that
// does not exist.
func (a *Accounts) Device(ctx context.Context, user ident.UserID, id ident.DeviceID) (d Device, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		d, err = scanDevice(tx.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM device WHERE id = ? AND user = ?`, int64(id), int64(user)))
		return err
	})
	if isNoRows(err) {
		err = notFound("account.device", "device")
	}
	return d, err
}

// RenameDevice gives one of the person's devices another name.
func (a *Accounts) RenameDevice(ctx context.Context, p ident.Principal, id ident.DeviceID, name string) (Device, error) {
	const op = "account.rename_device"
	if err := full(p, op); err != nil {
		return Device{}, err
	}
	name, err := displayName(op, "device", name)
	if err != nil {
		return Device{}, err
	}
	var d Device
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		d, err = scanDevice(tx.QueryRow(`SELECT `+deviceColumns+` FROM device WHERE id = ? AND user = ?`, int64(id), int64(p.User)))
		if isNoRows(err) {
			return notFound(op, "device")
		}
		if err != nil || d.Name == name {
			return err
		}
		d.Name = name
		if _, err := tx.Exec(`UPDATE device SET name = ? WHERE id = ?`, name, int64(id)); err != nil {
			return err
		}
		if err := a.erased(tx, p.User, "devices"); err != nil {
			return err
		}
		e := As(p, viaHTTP).event("device.rename", p.User)
		e.Object = id.String()
		return a.log.Append(tx, e)
	})
	return d, err
}

// RemoveDevice removes one of the person's devices and signs it out: its sessions
// and app tokens are good for nothing when it returns. What the device has
// uploaded stays.
func (a *Accounts) RemoveDevice(ctx context.Context, p ident.Principal, id ident.DeviceID) error {
	const op = "account.remove_device"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		// Sessions and tokens go with it: ON DELETE CASCADE.
		res, err := tx.Exec(`DELETE FROM device WHERE id = ? AND user = ?`, int64(id), int64(p.User))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = notFound(op, "device")
			}
			return err
		}
		a.forget(tx, func(q ident.Principal) bool { return q.Device == id })
		if err := a.erased(tx, p.User, "devices"); err != nil {
			return err
		}
		e := As(p, viaHTTP).event("device.remove", p.User)
		e.Object = id.String()
		return a.log.Append(tx, e)
	})
}
