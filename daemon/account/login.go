package account

import (
	"context"
	"database/sql"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// LoginRequest is somebody who wants to sign in.
type LoginRequest struct {
	Username, Password string
	Code               string // of the second factor, or a recovery code; "": not given
	Device             DeviceInfo
	Remote             string // where the request came from, as httpd.Remote says it
}

// Login signs somebody in by their password, and by a code if they have a second
// factor: without one it is CodeRequired. Unknown people, wrong passwords and
// garbled names get the same answer after the same work. Too many tries are
// RateLimited: see loginLimiter.
func (a *Accounts) Login(ctx context.Context, req LoginRequest) (Session, error) {
	const op = "account.login"
	device, err := cleanDevice(op, req.Device)
	if err != nil {
		return Session{}, err
	}
	folded := ""
	if _, f, err := Username(req.Username); err == nil {
		folded = f
	}
	u, err := a.checkLogin(ctx, op, folded, req.Password, req.Remote)
	if err != nil {
		return Session{}, err
	}
	code, err := a.checkFactor(ctx, op, u, req.Code, req.Remote)
	if err != nil {
		return Session{}, err
	}
	var s Session
	seen := a.sight(u.id, req.Remote)
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := u.stillGood(tx, op); err != nil {
			return err
		}
		if err := a.spend(tx, op, code, u.id); err != nil {
			return err
		}
		if u.rehashed != "" {
			if _, err := tx.Exec(`UPDATE user SET password = ? WHERE id = ?`, u.rehashed, int64(u.id)); err != nil {
				return err
			}
		}
		s, err = a.openSession(tx, ident.Principal{User: u.id, Name: u.shown, Role: u.role, Scope: ident.ScopeFull}, device)
		if err == nil {
			err = a.noteSignIn(tx, u.id, seen)
		}
		if err != nil || device.ID != 0 && device.ID == s.Principal.Device {
			return err
		}
		return a.notify(tx, u.id, NoticeDevice, s.Principal.Device)
	})
	return s, err
}

// ChangePassword gives the person of session p a new password. All of the
// person's sessions end, p's included; the new one that it returns takes its
// place. App tokens stay. It asks for no code: see WithFactor.
func (a *Accounts) ChangePassword(ctx context.Context, p ident.Principal, old, password, remote string) (Session, error) {
	const op = "account.change_password"
	if err := full(p, op); err != nil {
		return Session{}, err
	}
	u, err := a.checkOwnPassword(ctx, op, p, old, remote)
	if err != nil {
		return Session{}, err
	}
	a.logins.succeeded(a.now(), u.folded, remote)
	if old == password {
		return Session{}, invalid(op, "The new password is the old one.", "Choose another one.")
	}
	hash, err := a.newPassword(ctx, op, password, u.shown)
	if err != nil {
		return Session{}, err
	}
	var s Session
	seen := a.sight(p.User, remote)
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if err := requireSession(tx, p, op); err != nil {
			return err
		}
		if err := u.stillGood(tx, op); err != nil {
			return err
		}
		if err := a.storePassword(tx, As(p, viaHTTP), p.User, hash); err != nil {
			return err
		}
		if s, err = a.openSession(tx, p, DeviceInfo{ID: p.Device}); err != nil {
			return err
		}
		if err := a.noteSignIn(tx, p.User, seen); err != nil {
			return err
		}
		return a.notify(tx, p.User, NoticePassword, p.Device)
	})
	return s, err
}

// A login is somebody whose password was right.
type login struct {
	id             ident.UserID
	folded, shown  string
	role           ident.Role
	hash, rehashed string
	disabled       bool
	totp           []byte // sealed; nil: the password is enough
	step           int64  // the newest that was accepted
}

// stillGood finds out within tx that the person was neither switched off nor
// given another password while the old one was being verified.
func (l login) stillGood(tx *db.Tx, op string) error {
	var same bool
	err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM user WHERE id = ? AND password = ? AND disabled IS NULL)`, int64(l.id), l.hash).Scan(&same)
	if err == nil && !same {
		err = wrongPassword(op)
	}
	return err
}

func wrongPassword(op string) error {
	return &problem.Error{Kind: problem.Unauthenticated, Op: op,
		Title:  "The user name or the password is wrong",
		Detail: "Nobody could be signed in with that.",
		Hint:   "Check both. A forgotten password can be reset on the box itself with `yunboxctl user`."}
}

// checkLogin verifies a password under the limits. folded == "" is nobody. The try
// that it took is still to be given back, by loginLimiter.succeeded or untried.
func (a *Accounts) checkLogin(ctx context.Context, op, folded, password, remote string) (login, error) {
	if wait, ok := a.logins.begin(a.now(), folded, remote); !ok {
		return login{}, tooMany(op, wait)
	}
	l, err := a.readLogin(ctx, folded)
	if err != nil {
		return login{}, err
	}
	if len(password) > maxPassword {
		password = "" // nobody's: hashing megabytes is work for an attacker to give
	}
	ok, outdated, err := a.hasher.verify(ctx, l.hash, password)
	if err != nil {
		if problem.KindOf(err) != problem.Internal {
			a.logins.untried(a.now(), folded, remote)
		}
		return login{}, err
	}
	if !ok {
		// For strangers too, with nobody as the subject: the time that writing takes
		// must not tell who exists.
		a.recordRefusal(ctx, l.id, "", remote)
		return login{}, wrongPassword(op)
	}
	if l.disabled {
		a.logins.untried(a.now(), folded, remote)
		return login{}, &problem.Error{Kind: problem.Forbidden, Op: op,
			Title: "This account is switched off", Hint: "Ask the owner of the box to switch it on again."}
	}
	if outdated {
		// Better parameters than those of the day when the password was chosen.
		if l.rehashed, err = a.hasher.hash(ctx, password); err != nil {
			return login{}, err
		}
	}
	return l, nil
}

func (a *Accounts) readLogin(ctx context.Context, folded string) (login, error) {
	var (
		l        login
		id       int64
		role     string
		disabled sql.NullInt64
	)
	err := a.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT u.id, u.shown, u.role, u.password, u.disabled, t.secret, ifnull(t.step, 0)
			FROM user u LEFT JOIN totp t ON t.user = u.id WHERE u.username = ?`, folded).
			Scan(&id, &l.shown, &role, &l.hash, &disabled, &l.totp, &l.step)
	})
	if isNoRows(err) {
		return login{}, nil
	}
	if err != nil {
		return login{}, err
	}
	l.folded = folded
	l.id, l.role, l.disabled = ident.UserID(id), ident.Role(role), disabled.Valid
	return l, nil
}

// A loginLimiter slows down guessing. Each person-and-source and each source has
// its own budget. When the budget for everybody is used up, which is an attack
// from many sources, every network prefix is left one try a minute: an attacker
// gets no further than the number of his networks. A person who has signed in
// from a source before is not affected, so nobody can lock the owner out.
type loginLimiter struct {
	pair, source, all, strict *Throttle

	mu    sync.Mutex
	known *lru[struct{}] // person and source of good sign-ins
}

func newLoginLimiter() *loginLimiter {
	return &loginLimiter{
		pair:   NewThrottle(30*time.Second, 5, 2048),
		source: NewThrottle(15*time.Second, 10, 1024),
		all:    NewThrottle(time.Second, 60, 1),
		strict: NewThrottle(time.Minute, 1, 1024),
		known:  newLRU[struct{}](512),
	}
}

func (l *loginLimiter) begin(now time.Time, folded, source string) (wait time.Duration, ok bool) {
	if wait, ok = l.source.Take(now, source); !ok {
		return wait, false
	}
	pair := folded + "\x00" + source
	if wait, ok = l.pair.Take(now, pair); !ok {
		l.source.Give(now, source) // nothing was tried
		return wait, false
	}
	if l.isKnown(folded, source) {
		return 0, true
	}
	if _, ok = l.all.Take(now, ""); ok {
		return 0, true
	}
	if wait, ok = l.strict.Take(now, prefixOf(source)); !ok {
		l.source.Give(now, source)
		l.pair.Give(now, pair)
	}
	return wait, ok
}

// isKnown reports whether the person has signed in from that source before.
func (l *loginLimiter) isKnown(folded, source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.known.get(folded + "\x00" + source)
	return known
}

// untried gives a try back that came to nothing.
func (l *loginLimiter) untried(now time.Time, folded, source string) {
	l.source.Give(now, source)
	l.pair.Give(now, folded+"\x00"+source)
	l.all.Give(now, "")
	l.strict.Give(now, prefixOf(source))
}

// succeeded gives the try back and remembers that this person uses that source.
func (l *loginLimiter) succeeded(now time.Time, folded, source string) {
	l.untried(now, folded, source)
	pair := folded + "\x00" + source
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.known.get(pair); !known {
		l.known.add(pair, struct{}{})
	}
}

// prefixOf is what one attacker is assumed to hold of the addresses: one of
// IPv4, a whole network of IPv6 (64 bits), where a host may take any number.
func prefixOf(source string) string {
	ip, err := netip.ParseAddr(source)
	if err != nil || ip.Is4() {
		return source
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return source
	}
	return p.String()
}

// A refusalRecord decides which failed sign-ins are worth an audit entry each:
// anybody on the network can cause them, and must not be able to fill the disk.
type refusalRecord struct {
	mu      sync.Mutex
	budget  *Throttle
	skipped int64
}

func newRefusalRecord() *refusalRecord {
	return &refusalRecord{budget: NewThrottle(time.Minute, 20, 1)}
}

// begin reports whether to write an entry, and how many were left out before it.
func (r *refusalRecord) begin(now time.Time) (skipped int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.budget.Take(now, ""); !ok {
		r.skipped++
		return 0, false
	}
	skipped, r.skipped = r.skipped, 0
	return skipped, true
}

// recordRefusal writes down that somebody was not signed in. why is "code" if only
// the second factor was wrong.
func (a *Accounts) recordRefusal(ctx context.Context, id ident.UserID, why, remote string) {
	skipped, ok := a.refusals.begin(a.now())
	if !ok {
		return
	}
	e := audit.Event{Action: actionRefuse, Subject: id, Via: viaHTTP}
	if skipped > 0 || why != "" {
		e.Detail = map[string]string{}
	}
	if skipped > 0 {
		e.Detail["more_before"] = strconv.FormatInt(skipped, 10)
	}
	if why != "" {
		e.Detail["why"] = why
	}
	seen := a.sight(0, remote)
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		if err := a.log.Append(tx, e); err != nil {
			return err
		}
		return a.noteSignIn(tx, id, seen)
	})
	if err != nil {
		a.slog.Warn("a refused sign-in could not be recorded", "err", err)
	}
}
