package account

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"net/url"
	"sync"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// How long an invitation is good, and how many there may be at once.
const (
	InvitationLife = 10 * time.Minute
	maxInvitations = 16
)

// An Invitation lets one person make themselves an account.
type Invitation struct {
	URI     string // "yunbox://join?v=1&id=…&k=…&s=…": pins the key of the box, as the label does
	Secret  string // s of the URI
	Role    ident.Role
	Expires time.Time
}

// invitations are those that nobody has used. They are in memory only, by the hash of
// their secret: a restart ends them, and somebody who waits beside the box gets another.
type invitations struct {
	mu      sync.Mutex
	open    map[[32]byte]invitation
	changed chan struct{} // holds one when there are others than before
}

type invitation struct {
	by      ident.UserID
	role    ident.Role
	expires time.Time
}

// Invite makes an invitation for a member, or by the owner for an admin. Children are
// added with a guardian instead (CreateUser).
func (a *Accounts) Invite(ctx context.Context, p ident.Principal, role ident.Role) (Invitation, error) {
	const op = "account.invite"
	by := As(p, viaHTTP)
	switch {
	case !by.admin():
		return Invitation{}, notAdmin(op)
	case role == ident.Admin && !by.owner():
		return Invitation{}, &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "Only the owner may make somebody an admin.", Hint: "Ask the owner of the box, or add a member."}
	case role != ident.Admin && role != ident.Member:
		return Invitation{}, invalid(op, "Only members and admins are invited.", "Add a child by hand: a guardian has to be named.")
	}
	now := a.now()
	secret := newPairSecret()
	a.invited.mu.Lock()
	defer a.invited.mu.Unlock()
	if a.invited.open == nil {
		a.invited.open = map[[32]byte]invitation{}
	}
	for sum, i := range a.invited.open {
		if over(i, now) {
			delete(a.invited.open, sum)
		}
	}
	if len(a.invited.open) >= maxInvitations {
		return Invitation{}, &problem.Error{Kind: problem.RateLimited, Op: op, RetryAfter: time.Minute,
			Detail: "There are too many invitations that nobody has used.", Hint: "Take them back, or wait ten minutes until they end."}
	}
	e := by.event("user.invite", 0)
	e.Detail = map[string]string{"role": string(role)}
	if err := a.db.Write(ctx, func(tx *db.Tx) error { return a.log.Append(tx, e) }); err != nil {
		return Invitation{}, err
	}
	i := invitation{by: p.User, role: role, expires: now.Add(InvitationLife)}
	a.invited.open[sha256.Sum256([]byte(secret))] = i
	a.invited.told()
	uri := "yunbox://join?v=1&id=" + url.QueryEscape(a.opt.DeviceID) + "&k=" + url.QueryEscape(a.opt.Fingerprint) + "&s=" + url.QueryEscape(secret)
	return Invitation{URI: uri, Secret: secret, Role: role, Expires: i.expires}, nil
}

// Inviting returns until when somebody may join by an invitation that is open, the zero
// time if nobody may, and a channel that yields after that has changed; for one caller,
// who looks again then and at that time.
func (a *Accounts) Inviting() (until time.Time, changed <-chan struct{}) {
	now := a.now()
	a.invited.mu.Lock()
	defer a.invited.mu.Unlock()
	for _, i := range a.invited.open {
		if !over(i, now) && i.expires.After(until) {
			until = i.expires
		}
	}
	return until, a.invited.changed
}

// told notes that there are others than before. l.mu is held.
func (l *invitations) told() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// over also says so of one that was made before the clock was set back.
func over(i invitation, now time.Time) bool {
	return !now.Before(i.expires) || i.expires.Sub(now) > InvitationLife
}

// Uninvite takes back what somebody has invited and nobody has used.
func (a *Accounts) Uninvite(by ident.UserID) {
	a.invited.mu.Lock()
	defer a.invited.mu.Unlock()
	for sum, i := range a.invited.open {
		if i.by == by {
			delete(a.invited.open, sum)
		}
	}
	a.invited.told()
}

// take removes an invitation, so that it is used once, and returns how to put it back.
func (l *invitations) take(secret string, now time.Time) (i invitation, back func(), ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != 16 {
		return i, nil, false
	}
	sum := sha256.Sum256([]byte(secret)) // the map is asked by a hash: what it takes says nothing of the secret
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok = l.open[sum]
	if !ok || over(i, now) {
		return i, nil, false
	}
	delete(l.open, sum)
	l.told()
	return i, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open != nil {
			l.open[sum] = i
			l.told()
		}
	}, true
}

// JoinRequest makes the account of somebody who was invited.
type JoinRequest struct {
	Secret   string
	Username string
	Password string
	Device   DeviceInfo
	Remote   string
}

// Join makes the account that an invitation is good for and signs its person in. What is
// wrong with the name or the password does not use the invitation up.
func (a *Accounts) Join(ctx context.Context, j JoinRequest) (Session, error) {
	const op = "account.join"
	if wait, ok := a.byQR.Take(a.now(), j.Remote); !ok {
		return Session{}, tooMany(op, wait)
	}
	shown, folded, err := Username(j.Username)
	if err != nil {
		return Session{}, err
	}
	device, err := cleanDevice(op, j.Device)
	if err != nil {
		return Session{}, err
	}
	device.ID = 0 // nobody has devices yet
	used := &problem.Error{Kind: problem.Unauthenticated, Op: op,
		Title:  "That invitation is over",
		Detail: "An invitation is good for ten minutes and for one person, until the box is restarted or whoever made it takes it back.",
		Hint:   "Ask for another one."}
	i, back, ok := a.invited.take(j.Secret, a.now())
	if !ok {
		return Session{}, used
	}
	hash, err := a.newPassword(ctx, op, j.Password, shown)
	if err != nil {
		back()
		return Session{}, err
	}
	var s Session
	seen := a.sight(0, j.Remote)
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		// Whoever invited must still be able to.
		var role string
		var disabled sql.NullInt64
		err := tx.QueryRow(`SELECT role, disabled FROM user WHERE id = ?`, int64(i.by)).Scan(&role, &disabled)
		if isNoRows(err) {
			return used
		}
		if err != nil {
			return err
		}
		if r := ident.Role(role); disabled.Valid || r != ident.Owner && (r != ident.Admin || i.role == ident.Admin) {
			return used
		}
		id, err := insertUser(tx, op, shown, folded, i.role, hash)
		if err != nil {
			return err
		}
		if err := a.log.Append(tx, audit.Event{Actor: i.by, Action: "user.create", Subject: id, Via: viaHTTP, Detail: map[string]string{"role": string(i.role)}}); err != nil {
			return err
		}
		if s, err = a.openSession(tx, ident.Principal{User: id, Name: shown, Role: i.role, Scope: ident.ScopeFull}, device); err != nil {
			return err
		}
		return a.noteSignIn(tx, id, seen)
	})
	if err != nil {
		if problem.KindOf(err) == problem.Conflict { // the name is taken
			back()
		}
		return Session{}, err
	}
	return s, nil
}
