// Package account knows who the people of the box are and proves it: binding
// the box to its owner, people and roles, passwords, devices, sessions and app
// tokens.
//
// # What proves what
//
// A password proves a person, with a code of their authenticator if they have set
// one up, and is asked for at sign-in and before sensitive acts only. It is kept as
// Argon2id; at most two are computed at once, because each takes 19 MiB of a
// small box. Sign-in gives a session token; a signed-in person can make app
// tokens for programs that know only a password. Tokens are 256 random bits,
// kept as SHA-256, so the database holds nothing that opens a door.
//
// # Revocation
//
// Signing out, a new password, switching a person off, removing a device and
// revoking a token take effect before the call returns: Authenticate answers
// from a small memory, which is emptied of what was revoked right after the
// commit and before Write returns.
package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
	"yunbox.local/storage/vfs"
)

// Options of Open.
type Options struct {
	// Keys is the folder for label.json and secrets.json.
	Keys vfs.FS
	// DeviceID and Fingerprint are those of the box's identity; they go into the
	// pairing URI so that a client can pin the box's key before it says anything.
	DeviceID    string
	Fingerprint string
	// Vault keeps what is personal; nil: one of its own in Keys.
	Vault *vault.Vault
	// Name is what the box calls itself; nobody may choose it as a password.
	Name string
	// Breached is a file of passwords that were stolen somewhere, which nobody may
	// choose: see breached. "": there is none.
	Breached string
	// OnBound is called once after the box was bound; nil: nobody is interested.
	OnBound func()
	// Stands is called in the transaction that switches somebody off or on again: what
	// they stand for stands or falls with it. nil: nobody is interested.
	Stands func(*db.Tx, ident.UserID) error
	// Erased is called in the transaction that erased something of a category of somebody's
	// data, so that the files of the database forget it, too. nil: nobody is interested.
	Erased func(tx *db.Tx, u ident.UserID, category string) error
	// Log receives what is worth knowing; nil discards it.
	Log *slog.Logger
	// Passwords is how many are checked at the same time, 19 MiB each; 0: two.
	Passwords int
	// System is what the computer's clock says, by which authenticators are read; nil is Now.
	System func() time.Time
	// Now is the clock, that of Tx.Sure; nil is time.Now. Transactions use that of the
	// database.
	Now func() time.Time
}

// Accounts are the people of one box. It is safe for concurrent use.
type Accounts struct {
	db     *db.DB
	log    *audit.Log
	opt    Options
	slog   *slog.Logger
	now    func() time.Time
	system func() time.Time

	hasher   *hasher
	logins   *loginLimiter
	cameras  *loginLimiter // of its own: a camera with an old password must not keep its owner out
	refusals *refusalRecord
	cache    *cache
	codes    *Throttle // tries of codes by somebody whose password was right
	fresh    *freshness
	bell     bell
	sealer   *sealer
	vault    *vault.Vault
	uses     *Throttle  // notes of use, by person
	drawing  sync.Mutex // one picture is decoded at a time

	bindMu    sync.Mutex // one binding at a time, so that one code cannot bind twice
	labelMu   sync.Mutex
	label     labelFile
	runs      runs // bindings by code that have begun
	invited   invitations
	bound     atomic.Bool
	byQR      *Throttle    // per source: keeps one client from flooding the pairing path
	qrWrites  *Throttle    // in all: how often that path may reach the disk
	uncounted atomic.Int64 // tries by secret that wait to be written with the next one
}

// Open reads the label, making it at the first start, and prepares sign-in.
func Open(ctx context.Context, d *db.DB, log *audit.Log, opt Options) (*Accounts, error) {
	a := &Accounts{db: d, log: log, opt: opt, slog: opt.Log, now: opt.Now}
	if a.slog == nil {
		a.slog = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.system = opt.System; a.system == nil {
		a.system = a.now
	}
	a.invited.changed = make(chan struct{}, 1)
	a.hasher = newHasher(opt.Passwords)
	a.logins, a.cameras = newLoginLimiter(), newLoginLimiter()
	a.refusals = newRefusalRecord()
	a.cache = newCache(cacheSize)
	a.codes = NewThrottle(15*time.Minute, 10, 2048)
	a.fresh = newFreshness()
	a.uses = NewThrottle(2*time.Second, 60, 512)
	a.byQR = NewThrottle(6*time.Second, 10, 1024)
	a.qrWrites = NewThrottle(time.Second, 60, 1)

	var owner bool
	err := d.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM user WHERE role = 'owner')`).Scan(&owner)
	})
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if a.sealer, err = openSealer(a.opt.Keys, a.slog); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if a.vault = opt.Vault; a.vault == nil {
		if a.vault, err = vault.Open(ctx, d, vault.Options{Keys: opt.Keys, Columns: Sealed(), Value: Indexed, Hashed: Hashed(), Log: a.slog}); err != nil {
			return nil, fmt.Errorf("account: %w", err)
		}
	}
	if opt.Breached != "" {
		if _, err := a.inBreach(""); err != nil {
			a.slog.Warn("the list of breached passwords cannot be used", "err", err)
		}
	}
	if err := a.openLabel(owner); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return a, nil
}

// An Actor is who does something to an account, for permission and for the
// audit record. The zero Actor may do nothing.
type Actor struct {
	who  ident.Principal
	root bool
	via  string
}

// As is a signed-in person who acts by the given way in ("http").
func As(p ident.Principal, via string) Actor { return Actor{who: p, via: via} }

// Root is whoever may open the box's unix socket: the system's administrator.
func Root(via string) Actor { return Actor{root: true, via: via} }

func (by Actor) admin() bool { return by.root || by.who.Admin() }
func (by Actor) owner() bool { return by.root || by.who.Admin() && by.who.Role == ident.Owner }

func (by Actor) event(action string, subject ident.UserID) audit.Event {
	return audit.Event{Actor: by.who.User, Action: action, Subject: subject, Device: by.who.Device, Via: by.via}
}

const viaHTTP = "http"

// full refuses principals that may only handle files.
func full(p ident.Principal, op string) error {
	switch {
	case p.User == 0:
		return &problem.Error{Kind: problem.Unauthenticated, Op: op,
			Detail: "Nobody is signed in.", Hint: "Sign in with your user name and password."}
	case p.Scope != ident.ScopeFull:
		return &problem.Error{Kind: problem.Forbidden, Op: op,
			Detail: "This app token opens files only.",
			Hint:   "Sign in with your user name and password."}
	}
	return nil
}

func notFound(op, what string) error {
	return &problem.Error{Kind: problem.NotFound, Op: op,
		Detail: "There is no such " + what + ".", Hint: "It may have been removed meanwhile: list them again."}
}

func invalid(op, detail, hint string) error {
	return &problem.Error{Kind: problem.Invalid, Op: op, Detail: detail, Hint: hint}
}

// timeOf is the zero time for 0 and NULL.
func timeOf(ms sql.NullInt64) time.Time {
	if !ms.Valid || ms.Int64 == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}

func nullDevice(id ident.DeviceID) sql.NullInt64 {
	return sql.NullInt64{Int64: int64(id), Valid: id != 0}
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
