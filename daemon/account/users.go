package account

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// User is a person of the box.
type User struct {
	ID       ident.UserID
	Username string // as its owner writes it
	Role     ident.Role
	Quota    int64     // bytes; -1: no limit
	Disabled time.Time // since when the person may not sign in; zero: may
	Created  time.Time
	Factor   bool // signing in takes a code, too
	Leaving  bool // the account is being cancelled
}

// NewUser describes a person to be added.
type NewUser struct {
	Username string
	Password string
	Role     ident.Role // "": member
	// With runs in the transaction that adds the person; a child needs it, to be given
	// its guardian (package guardian).
	With func(*db.Tx, User) error
}

// CreateUser adds a person. Admins may add members; the owner and the system's
// administrator may add admins too. The owner of a box is made by Bind only. A child
// is refused without NewUser.With: a guardian has to consent for it.
func (a *Accounts) CreateUser(ctx context.Context, by Actor, n NewUser) (User, error) {
	const op = "account.create_user"
	if n.Role == "" {
		n.Role = ident.Member
	}
	switch {
	case !by.admin():
		return User{}, notAdmin(op)
	case n.Role == ident.Child && n.With == nil:
		return User{}, invalid(op, "For a person under 14 a guardian decides what the box may do.",
			"Name an adult of the box as guardian, and the month in which the child turns 14.")
	case n.Role == ident.Owner:
		return User{}, &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "A box has one owner, who is made by binding the box.", Hint: "Choose the role admin or member."}
	case n.Role == ident.Admin && !by.owner():
		return User{}, &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "Only the owner may make somebody an admin.", Hint: "Ask the owner of the box, or add a member."}
	case n.Role != ident.Admin && n.Role != ident.Member && n.Role != ident.Child:
		return User{}, invalid(op, "That is not a role.", "Choose the role admin, member or child.")
	}
	shown, folded, err := Username(n.Username)
	if err != nil {
		return User{}, err
	}
	hash, err := a.newPassword(ctx, op, n.Password, shown)
	if err != nil {
		return User{}, err
	}
	u := User{Username: shown, Role: n.Role, Quota: -1}
	err = a.db.Write(ctx, func(tx *db.Tx) (err error) {
		if u.ID, err = insertUser(tx, op, shown, folded, n.Role, hash); err != nil {
			return err
		}
		u.Created = tx.Now.UTC().Truncate(time.Millisecond)
		e := by.event("user.create", u.ID)
		e.Detail = map[string]string{"role": string(n.Role)}
		if err := a.log.Append(tx, e); err != nil || n.With == nil {
			return err
		}
		return n.With(tx, u)
	})
	if err != nil {
		return User{}, err
	}
	return u, nil
}

// newPassword checks and hashes a password that somebody chose.
func (a *Accounts) newPassword(ctx context.Context, op, password, username string) (string, error) {
	a.labelMu.Lock()
	serial := a.label.Serial
	a.labelMu.Unlock()
	if err := checkPassword(op, password, username, serial, a.opt.Name, "yunbox"); err != nil {
		return "", err
	}
	if err := a.refuseBreached(ctx, op, password); err != nil {
		return "", err
	}
	return a.hasher.hash(ctx, password)
}

func insertUser(tx *db.Tx, op, shown, folded string, role ident.Role, hash string) (ident.UserID, error) {
	var taken bool
	if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM user WHERE username = ?)`, folded).Scan(&taken); err != nil {
		return 0, err
	}
	if taken {
		return 0, &problem.Error{Kind: problem.Conflict, Op: op,
			Title: "That user name is taken", Detail: "Somebody on this box has that name already; capitals make no difference.",
			Hint: "Choose another name."}
	}
	id := ident.New[ident.UserID](tx.Now)
	_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?,?,?,?,?,?)`,
		int64(id), folded, shown, string(role), hash, tx.Now.UnixMilli())
	return id, err
}

const userColumns = `id, shown, role, quota_bytes, disabled, created,
	EXISTS (SELECT 1 FROM totp WHERE totp.user = user.id AND totp.secret IS NOT NULL),
	EXISTS (SELECT 1 FROM cancellation WHERE cancellation.user = user.id)`

func scanUser(row interface{ Scan(...any) error }) (User, error) {
	var (
		u               User
		id, created     int64
		role            string
		quota, disabled sql.NullInt64
	)
	if err := row.Scan(&id, &u.Username, &role, &quota, &disabled, &created, &u.Factor, &u.Leaving); err != nil {
		return User{}, err
	}
	u.ID, u.Role, u.Quota = ident.UserID(id), ident.Role(role), -1
	if quota.Valid {
		u.Quota = quota.Int64
	}
	u.Disabled, u.Created = timeOf(disabled), time.UnixMilli(created).UTC()
	return u, nil
}

// Users lists all people in the order in which they came.
func (a *Accounts) Users(ctx context.Context) (users []User, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+userColumns+` FROM user ORDER BY id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			u, err := scanUser(rows)
			if err != nil {
				return err
			}
			users = append(users, u)
		}
		return rows.Err()
	})
	return users, err
}

// User returns the person of that id, or NotFound.
func (a *Accounts) User(ctx context.Context, id ident.UserID) (User, error) {
	return a.oneUser(ctx, `id = ?`, int64(id))
}

// UserNamed returns the person of that user name in any spelling, or NotFound.
func (a *Accounts) UserNamed(ctx context.Context, username string) (User, error) {
	_, folded, err := Username(username)
	if err != nil {
		return User{}, notFound("account.user", "person")
	}
	return a.oneUser(ctx, `username = ?`, folded)
}

func (a *Accounts) oneUser(ctx context.Context, where string, arg any) (u User, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		u, err = scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM user WHERE `+where, arg))
		return err
	})
	if isNoRows(err) {
		err = notFound("account.user", "person")
	}
	return u, err
}

// SetDisabled switches a person off or on again. Whoever is switched off is
// signed out everywhere before it returns, and their app tokens rest. The owner
// cannot be switched off; other admins only by the owner or the system's
// administrator.
func (a *Accounts) SetDisabled(ctx context.Context, by Actor, id ident.UserID, disabled bool) error {
	const op = "account.disable"
	if !by.admin() {
		return notAdmin(op)
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		u, err := scanUser(tx.QueryRow(`SELECT `+userColumns+` FROM user WHERE id = ?`, int64(id)))
		switch {
		case isNoRows(err):
			return notFound(op, "person")
		case err != nil:
			return err
		case u.Role == ident.Owner:
			return &problem.Error{Kind: problem.Forbidden, Op: op,
				Detail: "The owner of the box cannot be switched off.", Hint: "Every box has an owner, who can hand it over to somebody else."}
		case u.Role == ident.Admin && !by.owner():
			return &problem.Error{Kind: problem.Forbidden, Op: op,
				Detail: "Only the owner may switch off an admin.", Hint: "Ask the owner of the box."}
		case disabled == !u.Disabled.IsZero():
			return nil // it is so already
		}
		action, since := "user.enable", sql.NullInt64{}
		if disabled {
			action, since = "user.disable", sql.NullInt64{Int64: tx.Now.UnixMilli(), Valid: true}
			if err := a.endSessions(tx, id); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`UPDATE user SET disabled = ? WHERE id = ?`, since, int64(id)); err != nil {
			return err
		}
		a.forget(tx, func(p ident.Principal) bool { return p.User == id })
		if a.opt.Stands != nil {
			if err := a.opt.Stands(tx, id); err != nil {
				return err
			}
		}
		return a.log.Append(tx, by.event(action, id))
	})
}

// SetQuota limits what a person may keep, in bytes of their files as they see
// them; negative: no limit. What is over a new limit stays.
func (a *Accounts) SetQuota(ctx context.Context, by Actor, id ident.UserID, bytes int64) error {
	const op = "account.set_quota"
	if !by.admin() {
		return notAdmin(op)
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`UPDATE user SET quota_bytes = ? WHERE id = ?`, sql.NullInt64{Int64: bytes, Valid: bytes >= 0}, int64(id))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = notFound(op, "person")
			}
			return err
		}
		e := by.event("user.quota", id)
		if bytes >= 0 {
			e.Detail = map[string]string{"bytes": strconv.FormatInt(bytes, 10)}
		}
		return a.log.Append(tx, e)
	})
}

// MaxDeclineDays is the most days for which deletions are remembered (a century).
const MaxDeclineDays = 36500

// DeclineDays returns for how many days backups may not bring back what u
// deleted from the box; 0: they may at once.
func (a *Accounts) DeclineDays(ctx context.Context, u ident.UserID) (days int, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT decline_days FROM user WHERE id = ?`, int64(u)).Scan(&days)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return 0, notFound("account.decline_days", "person")
	}
	return days, err
}

// SetDeclineDays changes DeclineDays of u to 0 to MaxDeclineDays. It counts at once, and for what was
// deleted before, too.
func (a *Accounts) SetDeclineDays(ctx context.Context, u ident.UserID, days int) error {
	if days < 0 || days > MaxDeclineDays {
		return &problem.Error{
			Kind: problem.Invalid, Op: "account.decline_days", Title: "That is no number of days",
			Hint: "Choose 0 to 36500 days; with 0 a backup may bring everything back.",
		}
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE user SET decline_days = ? WHERE id = ?`, days, int64(u))
		return err
	})
}

// SetPassword gives a person a new password without knowing the old one and
// signs them out everywhere. Only the system's administrator may: an admin who
// could do it could read others' files.
func (a *Accounts) SetPassword(ctx context.Context, by Actor, id ident.UserID, password string) error {
	const op = "account.set_password"
	if !by.root {
		return &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "A password is reset on the box itself.", Hint: "Run `yunboxctl user` there."}
	}
	u, err := a.User(ctx, id)
	if err != nil {
		return err
	}
	hash, err := a.newPassword(ctx, op, password, u.Username)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := a.storePassword(tx, by, id, hash); err != nil {
			return err
		}
		return a.notify(tx, id, NoticeReset, 0)
	})
}

func (a *Accounts) storePassword(tx *db.Tx, by Actor, id ident.UserID, hash string) error {
	res, err := tx.Exec(`UPDATE user SET password = ? WHERE id = ?`, hash, int64(id))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		if err == nil {
			err = notFound("account.set_password", "person")
		}
		return err
	}
	if err := a.endSessions(tx, id); err != nil {
		return err
	}
	return a.log.Append(tx, by.event("user.password", id))
}

// endSessions signs a person out everywhere. App tokens stay: each is revoked by
// its name.
func (a *Accounts) endSessions(tx *db.Tx, id ident.UserID) error {
	if _, err := tx.Exec(`DELETE FROM session WHERE user = ?`, int64(id)); err != nil {
		return err
	}
	a.forget(tx, func(p ident.Principal) bool { return p.User == id })
	return nil
}

func notAdmin(op string) error {
	return &problem.Error{Kind: problem.Forbidden, Op: op,
		Detail: "Only the owner and the admins of the box may do that.", Hint: "Ask one of them."}
}
