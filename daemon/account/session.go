package account

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Session is the proof that somebody signed in. Token is shown once and kept by
// the client only.
type Session struct {
	Token     string
	Principal ident.Principal
	Expires   time.Time // at the latest; 30 days without use end it earlier
}

const (
	sessionIdle = 30 * 24 * time.Hour
	// SessionLife is how long a session lasts at most.
	SessionLife = 180 * 24 * time.Hour
	// touchEvery is how exactly the last use is known: finer would mean writing to
	// the disk on every request.
	touchEvery  = time.Hour
	maxSessions = 100 // of one person; the least recently used goes first

	sessionPrefix = "ys_" // the prefixes tell secret scanners and people what they found
	tokenPrefix   = "yb_"
)

// newToken returns a token and what the database keeps of it.
func newToken(prefix string) (token string, hash [32]byte) {
	token = prefix + base64.RawURLEncoding.EncodeToString(random(32))
	return token, sha256.Sum256([]byte(token))
}

// openSession signs p in within tx.
func (a *Accounts) openSession(tx *db.Tx, p ident.Principal, d DeviceInfo) (Session, error) {
	now := tx.Sure // a jump of the clock must neither remove sessions nor make one that lasts
	user := int64(p.User)
	_, err := tx.Exec(`DELETE FROM session WHERE user = ?1 AND (last_seen < ?2 OR expires <= ?3)`,
		user, now.Add(-sessionIdle).UnixMilli(), now.UnixMilli())
	if err != nil {
		return Session{}, err
	}
	rows, err := tx.Query(`SELECT id FROM session WHERE user = ? ORDER BY last_seen DESC LIMIT -1 OFFSET ?`, user, maxSessions-1)
	if err != nil {
		return Session{}, err
	}
	var old []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			rows.Close()
			return Session{}, err
		}
		old = append(old, id)
	}
	if err := rows.Close(); err != nil {
		return Session{}, err
	}
	for _, id := range old {
		if err := a.endSession(tx, id); err != nil {
			return Session{}, err
		}
	}
	if p.Device, err = a.signInDevice(tx, p.User, d); err != nil {
		return Session{}, err
	}
	token, hash := newToken(sessionPrefix)
	p.Session = ident.New[int64](now)
	expires := now.Add(SessionLife)
	_, err = tx.Exec(`INSERT INTO session (id, user, device, hash, created, last_seen, expires) VALUES (?,?,?,?,?,?,?)`,
		p.Session, user, nullDevice(p.Device), hash[:], now.UnixMilli(), now.UnixMilli(), expires.UnixMilli())
	if err != nil {
		return Session{}, err
	}
	if err := a.log.Append(tx, As(p, viaHTTP).event(actionIn, p.User)); err != nil {
		return Session{}, err
	}
	proved := a.now() // only somebody who has just proved who they are gets a session
	tx.AfterCommit(func() { a.fresh.mark(p.Session, proved) })
	return Session{Token: token, Principal: p, Expires: expires.UTC().Truncate(time.Millisecond)}, nil
}

func (a *Accounts) endSession(tx *db.Tx, id int64) error {
	if _, err := tx.Exec(`DELETE FROM session WHERE id = ?`, id); err != nil {
		return err
	}
	a.forget(tx, func(p ident.Principal) bool { return p.Session == id })
	return nil
}

// Logout ends the session that p came with. An app token is no session: it is
// revoked by RevokeToken.
func (a *Accounts) Logout(ctx context.Context, p ident.Principal) error {
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, "account.logout"); err != nil {
			return err
		}
		if err := a.endSession(tx, p.Session); err != nil {
			return err
		}
		return a.log.Append(tx, As(p, viaHTTP).event("session.close", p.User))
	})
}

// requireSession refuses app tokens: a token must not be able to make further
// ones or to outlive its revocation.
func requireSession(tx *db.Tx, p ident.Principal, op string) error {
	var is bool
	err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM session WHERE id = ? AND user = ?)`, p.Session, int64(p.User)).Scan(&is)
	if err != nil {
		return err
	}
	if !is {
		return &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "That needs somebody who signed in with their password, not an app token.",
			Hint:   "Sign in with your user name and password."}
	}
	return nil
}

func badToken() error {
	return &problem.Error{Kind: problem.Unauthenticated, Op: "account.authenticate",
		Detail: "The session has ended, or the app token was revoked.",
		Hint:   "Sign in again, or make a new app token under Account."}
}

// Authenticate returns who carries a session or app token. It asks the database
// once per token and then answers from memory; it writes at most once an hour and
// token. Every token that does not open the box is Unauthenticated.
func (a *Accounts) Authenticate(ctx context.Context, token string) (ident.Principal, error) {
	return a.authenticate(ctx, token, "")
}

// AuthenticateBasic returns who presents a user name and an app token, as
// programs do that know only Basic authentication. The account's password is not
// accepted there: it would travel with every request and be kept by the program.
func (a *Accounts) AuthenticateBasic(ctx context.Context, username, password string) (ident.Principal, error) {
	if !strings.HasPrefix(password, tokenPrefix) {
		return ident.Principal{}, &problem.Error{Kind: problem.Unauthenticated, Op: "account.authenticate",
			Detail: "This way of signing in takes an app token in place of the password.",
			Hint:   "Make an app token on the box's page under Account and use it as the password."}
	}
	if len(username) > 4*maxLabel {
		return ident.Principal{}, badToken()
	}
	folded := foldName(username)
	if folded == "" {
		return ident.Principal{}, badToken()
	}
	return a.authenticate(ctx, password, folded)
}

// authenticate finds the token; folded, unless empty, must be its owner's name.
func (a *Accounts) authenticate(ctx context.Context, token, folded string) (ident.Principal, error) {
	if len(token) > 128 {
		return ident.Principal{}, badToken()
	}
	hash := sha256.Sum256([]byte(token))
	now := a.now()
	e, seen, generation := a.cache.get(hash)
	if !seen {
		var err error
		switch {
		case strings.HasPrefix(token, sessionPrefix):
			e, err = a.readSession(ctx, hash)
		case strings.HasPrefix(token, tokenPrefix):
			e, err = a.readToken(ctx, hash)
		default:
			err = badToken()
		}
		if err != nil {
			return ident.Principal{}, err
		}
		a.cache.put(hash, e, generation)
	}
	if folded != "" && folded != e.folded {
		return ident.Principal{}, badToken()
	}
	if !e.expires.IsZero() && (!now.Before(e.expires) || now.Sub(e.lastUse) >= sessionIdle) {
		return ident.Principal{}, badToken()
	}
	// A last use in the future means that the clock was set back meanwhile.
	if d := now.Sub(e.lastUse); d >= touchEvery || d <= -touchEvery {
		if a.cache.touch(hash, now, e.lastUse) {
			if err := a.touch(ctx, e); err != nil {
				a.slog.Warn("the last use of a session could not be written down", "err", err)
			}
		}
	}
	return e.p, nil
}

func (a *Accounts) readSession(ctx context.Context, hash [32]byte) (entry, error) {
	return a.readCredential(ctx, `SELECT s.id, s.user, s.device, 'full', s.last_seen, s.expires, u.username, u.shown, u.role,
		EXISTS (SELECT 1 FROM cancellation c WHERE c.user = u.id)
		FROM session s JOIN user u ON u.id = s.user WHERE s.hash = ? AND u.disabled IS NULL`, hash)
}

func (a *Accounts) readToken(ctx context.Context, hash [32]byte) (entry, error) {
	return a.readCredential(ctx, `SELECT t.id, t.user, t.device, t.scope, ifnull(t.last_used, 0), 0, u.username, u.shown, u.role, 0
		FROM token t JOIN user u ON u.id = t.user WHERE t.hash = ? AND u.disabled IS NULL AND `+notLeaving, hash)
}

func (a *Accounts) readCredential(ctx context.Context, query string, hash [32]byte) (entry, error) {
	var (
		e                 entry
		user, last, until int64
		device            sql.NullInt64
		scope, role       string
	)
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, query, hash[:]).Scan(&e.p.Session, &user, &device, &scope, &last, &until, &e.folded, &e.p.Name, &role, &e.p.Leaving)
	})
	if isNoRows(err) {
		return entry{}, badToken()
	}
	if err != nil {
		return entry{}, err
	}
	e.p.User, e.p.Device = ident.UserID(user), ident.DeviceID(device.Int64)
	e.p.Role, e.p.Scope = ident.Role(role), ident.Scope(scope)
	e.lastUse = time.UnixMilli(last)
	if until != 0 {
		e.expires = time.UnixMilli(until)
	}
	return e, nil
}

// touch writes down that a session or token was used. A session that was opened
// while the clock ran ahead is cut to its proper length on this occasion.
func (a *Accounts) touch(ctx context.Context, e entry) error {
	return a.db.Write(ctx, func(tx *db.Tx) error {
		now := tx.Sure.UnixMilli()
		query, args := `UPDATE token SET last_used = ? WHERE id = ?`, []any{now, e.p.Session}
		if !e.expires.IsZero() {
			query = `UPDATE session SET last_seen = ?, expires = min(expires, ?) WHERE id = ?`
			args = []any{now, tx.Sure.Add(SessionLife).UnixMilli(), e.p.Session}
		}
		if _, err := tx.Exec(query, args...); err != nil {
			return err
		}
		if e.p.Device != 0 {
			_, err := tx.Exec(`UPDATE device SET last_seen = ? WHERE id = ?`, now, int64(e.p.Device))
			return err
		}
		return nil
	})
}
