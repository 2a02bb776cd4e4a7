package account

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// TokenID names an app token. ident.Parse reads its text.
type TokenID int64

// String returns the identifier as 13 lower-case characters.
func (id TokenID) String() string { return ident.DeviceID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id TokenID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Token is an app token: a password of its own for one program, which opens no
// more than its scope and can be revoked alone.
type Token struct {
	ID       TokenID
	Name     string
	Scope    ident.Scope
	Device   ident.DeviceID // zero: of no device; else it goes with the device
	Created  time.Time
	LastUsed time.Time // to within an hour; zero: never
}

const maxTokens = 200 // of one person

// CreateToken makes an app token for the person of session p and returns its
// secret, which is shown this once. With ident.ScopeCamera the secret is a password
// that can be typed on a camera, for AuthenticateCamera only. A token cannot make tokens: what a program
// was given, it cannot widen or keep.
func (a *Accounts) CreateToken(ctx context.Context, p ident.Principal, name string, scope ident.Scope, device ident.DeviceID) (Token, string, error) {
	const op = "account.create_token"
	if err := full(p, op); err != nil {
		return Token{}, "", err
	}
	name, err := displayName(op, "app token", name)
	if err != nil {
		return Token{}, "", err
	}
	if !scope.Valid() {
		return Token{}, "", invalid(op, "That is not a scope.", `Use "files", "camera" for a camera, or "full" for a program that may do all that you may.`)
	}
	t := Token{Name: name, Scope: scope, Device: device}
	secret, hash := newToken(tokenPrefix)
	if scope == ident.ScopeCamera {
		secret, hash = newTyped()
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(`SELECT (SELECT count(*) FROM token WHERE user = ?1) + (SELECT count(*) FROM camera_password WHERE user = ?1)`, int64(p.User)).Scan(&n); err != nil {
			return err
		}
		if n >= maxTokens {
			return &problem.Error{Kind: problem.Conflict, Op: op,
				Title: "There are too many app tokens", Detail: "A person can have 200.", Hint: "Revoke those that you no longer use."}
		}
		if device != 0 {
			var own bool
			if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM device WHERE id = ? AND user = ?)`, int64(device), int64(p.User)).Scan(&own); err != nil {
				return err
			}
			if !own {
				return notFound(op, "device")
			}
		}
		t.ID, t.Created = ident.New[TokenID](tx.Now), tx.Now.UTC().Truncate(time.Millisecond)
		insert := `INSERT INTO token (id, user, device, name, hash, created, scope) VALUES (?,?,?,?,?,?,?)`
		args := []any{int64(t.ID), int64(p.User), nullDevice(device), name, hash[:], t.Created.UnixMilli(), string(scope)}
		if scope == ident.ScopeCamera {
			insert = `INSERT INTO camera_password (id, user, device, name, hash, created) VALUES (?,?,?,?,?,?)`
			args = args[:6]
		}
		if _, err := tx.Exec(insert, args...); err != nil {
			return err
		}
		e := As(p, viaHTTP).event("token.create", p.User)
		e.Object, e.Detail = t.ID.String(), map[string]string{"scope": string(scope)}
		return a.log.Append(tx, e)
	})
	if err != nil {
		return Token{}, "", err
	}
	return t, secret, nil
}

// Tokens lists a person's app tokens in the order in which they were made.
func (a *Accounts) Tokens(ctx context.Context, user ident.UserID) (tokens []Token, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `
SELECT id, name, scope, device, created, last_used FROM token WHERE user = ?1
UNION ALL SELECT id, name, 'camera', device, created, last_used FROM camera_password WHERE user = ?1
ORDER BY 1`, int64(user))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				t            Token
				scope        string
				device, used sql.NullInt64
				created      int64
			)
			if err := rows.Scan(&t.ID, &t.Name, &scope, &device, &created, &used); err != nil {
				return err
			}
			t.Scope, t.Device = ident.Scope(scope), ident.DeviceID(device.Int64)
			t.Created, t.LastUsed = time.UnixMilli(created).UTC(), timeOf(used)
			tokens = append(tokens, t)
		}
		return rows.Err()
	})
	return tokens, err
}

// RevokeToken ends one of the person's app tokens before it returns.
func (a *Accounts) RevokeToken(ctx context.Context, p ident.Principal, id TokenID) error {
	const op = "account.revoke_token"
	if err := full(p, op); err != nil {
		return err
	}
	return a.revokeToken(ctx, p, id, op)
}

// EndOwnToken ends the app token that p came by, as when somebody signs out of an
// app. Any token may end itself; a session is not one.
func (a *Accounts) EndOwnToken(ctx context.Context, p ident.Principal) error {
	return a.revokeToken(ctx, p, TokenID(p.Session), "account.end_token")
}

func (a *Accounts) revokeToken(ctx context.Context, p ident.Principal, id TokenID, op string) error {
	return a.db.Write(ctx, func(tx *db.Tx) error {
		var gone int64
		for _, from := range []string{"token", "camera_password"} {
			res, err := tx.Exec(`DELETE FROM `+from+` WHERE id = ? AND user = ?`, int64(id), int64(p.User))
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			gone += n
		}
		if gone == 0 {
			return notFound(op, "app token")
		}
		a.forget(tx, func(q ident.Principal) bool { return q.Session == int64(id) })
		e := As(p, viaHTTP).event("token.revoke", p.User)
		e.Object = id.String()
		return a.log.Append(tx, e)
	})
}
