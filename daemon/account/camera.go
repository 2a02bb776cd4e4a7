package account

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// cameraAlphabet is what a camera's keypad has on its first page, without the
// letters that look like digits (Crockford's base 32). Recovery codes are written in
// it, too.
const cameraAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// newTypedText returns 16 characters of the alphabet in four groups, 80 random bits.
func newTypedText() string {
	var b strings.Builder
	for i, r := range random(16) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(cameraAlphabet[r%32])
	}
	return b.String()
}

// hashTyped takes what newTyped made as a person may have typed it.
func hashTyped(password string) [32]byte {
	plain := strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		return r
	}, password)
	return sha256.Sum256([]byte(strings.ToLower(plain)))
}

// A Camera is who signed in with a password for cameras.
type Camera struct {
	Principal ident.Principal // of ident.ScopeCamera
	Name      string          // of the password, as its owner gave it
}

// AuthenticateCamera returns who signs in with a user name and a password that
// CreateToken made for a camera. remote is the address that the camera comes from.
// Unknown people, wrong passwords and garbled names get the same answer after the
// same work. Tries are limited as those of Login are, on an account of their own.
func (a *Accounts) AuthenticateCamera(ctx context.Context, username, password, remote string) (Camera, error) {
	const op = "account.camera"
	folded := ""
	if len(username) <= 4*maxLabel {
		folded = foldName(username)
	}
	if wait, ok := a.cameras.begin(a.now(), folded, remote); !ok {
		return Camera{}, tooMany(op, wait)
	}
	if len(password) > 128 {
		password = "" // nobody's
	}
	hash := hashTyped(password)
	var (
		c            Camera
		owner        string
		role         string
		user         int64
		device, used sql.NullInt64
	)
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT c.id, c.user, c.device, c.name, c.last_used, u.username, u.shown, u.role
			FROM camera_password c JOIN user u ON u.id = c.user WHERE c.hash = ? AND u.disabled IS NULL AND `+notLeaving, hash[:]).
			Scan(&c.Principal.Session, &user, &device, &c.Name, &used, &owner, &c.Principal.Name, &role)
	})
	if err != nil && !isNoRows(err) {
		a.cameras.untried(a.now(), folded, remote)
		return Camera{}, err
	}
	if err != nil || folded == "" || owner != folded {
		a.recordRefusal(ctx, 0, "", remote)
		return Camera{}, wrongCameraPassword(op)
	}
	a.cameras.succeeded(a.now(), folded, remote)
	c.Principal.User, c.Principal.Device = ident.UserID(user), ident.DeviceID(device.Int64)
	c.Principal.Role, c.Principal.Scope = ident.Role(role), ident.ScopeCamera
	if d := a.now().Sub(timeOf(used)); d >= touchEvery || d <= -touchEvery {
		if err := a.touchCamera(ctx, c.Principal); err != nil {
			a.slog.Warn("the last use of a camera's password could not be written down", "err", err)
		}
	}
	return c, nil
}

func (a *Accounts) touchCamera(ctx context.Context, p ident.Principal) error {
	return a.db.Write(ctx, func(tx *db.Tx) error {
		now := tx.Sure.Truncate(time.Millisecond).UnixMilli()
		if _, err := tx.Exec(`UPDATE camera_password SET last_used = ? WHERE id = ?`, now, p.Session); err != nil {
			return err
		}
		if p.Device == 0 {
			return nil
		}
		_, err := tx.Exec(`UPDATE device SET last_seen = ? WHERE id = ?`, now, int64(p.Device))
		return err
	})
}

// CameraStillIn returns a problem of kind Unauthenticated once the password that p
// signed in with was revoked, or its owner was switched off.
func (a *Accounts) CameraStillIn(ctx context.Context, p ident.Principal) error {
	var in bool
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM camera_password c JOIN user u ON u.id = c.user
			WHERE c.id = ? AND c.user = ? AND u.disabled IS NULL AND `+notLeaving+`)`, p.Session, int64(p.User)).Scan(&in)
	})
	if err == nil && !in {
		return wrongCameraPassword("account.camera")
	}
	return err
}

func wrongCameraPassword(op string) error {
	return &problem.Error{Kind: problem.Unauthenticated, Op: op,
		Title:  "The user name or the camera password is wrong",
		Detail: "Cameras sign in with a password of their own, not with that of the account.",
		Hint:   "Make one with `yunboxctl camera add NAME`, and type it into the camera."}
}
