package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// DeviceInfo describes the device that somebody signs in with.
type DeviceInfo struct {
	ID   ident.DeviceID // one of the person's devices; zero: a new one if Name is set
	Name string         // at most 64 characters
	Kind string         // phone, tablet, computer, camera, browser, other; "" is other
}

// BindRequest makes somebody the owner of an unbound box. Either Secret (from the
// label's QR code, sent only to a box whose key was pinned) or Serial and Code.
type BindRequest struct {
	Serial, Code string
	Secret       string
	Username     string
	Password     string
	Device       DeviceInfo
	Remote       string // where the request came from, as httpd.Remote says it
}

// The two ways to bind, with separate counters: who floods the one with
// wrong codes does not close the other to the owner.
const (
	byCode   = "code"
	bySecret = "secret"
)

// Limits of typed codes. With at most ten tries a day, guessing for a year finds
// one of 10⁸ codes with a chance of 1 in 27,000.
const (
	triesShort  = 5
	shortWindow = 10 * time.Minute
	triesDay    = 10
	dayWindow   = 24 * time.Hour
	firstLock   = time.Hour
	longestLock = 24 * time.Hour
)

// Bind makes the first person of the box its owner and signs them in. Every try
// is counted on disk before anything is compared. Once the box is bound, code and
// secret exist no more and Bind answers Conflict for good.
func (a *Accounts) Bind(ctx context.Context, req BindRequest) (Session, error) {
	const op = "account.bind"
	if a.bound.Load() {
		return Session{}, alreadyBound(op)
	}
	// What is wrong by form costs no try.
	shown, folded, err := Username(req.Username)
	if err != nil {
		return Session{}, err
	}
	device, err := cleanDevice(op, req.Device)
	if err != nil {
		return Session{}, err
	}
	device.ID = 0 // nobody has devices yet
	a.labelMu.Lock()
	label := a.label
	a.labelMu.Unlock()
	// Compared with what the request says, not with the label: the answer must not
	// tell a stranger what stands there.
	if err := checkPassword(op, req.Password, shown, req.Serial, req.Code, a.opt.Name, "yunbox"); err != nil {
		return Session{}, err
	}
	if err := a.refuseBreached(ctx, op, req.Password); err != nil {
		return Session{}, err
	}
	way, given, want, err := proof(op, req, label)
	if err != nil {
		return Session{}, err
	}
	if way == bySecret {
		if wait, ok := a.byQR.Take(a.now(), req.Remote); !ok {
			return Session{}, tooMany(op, wait)
		}
	}

	a.bindMu.Lock()
	defer a.bindMu.Unlock()
	if a.bound.Load() {
		return Session{}, alreadyBound(op)
	}
	if err := a.countAttempt(ctx, way); err != nil {
		return Session{}, err
	}
	if subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		return Session{}, notTheLabel(op)
	}
	return a.makeOwner(ctx, op, way, owner{shown, folded, req.Password, device, req.Remote})
}

// An owner is who the box is to belong to; what they say was checked.
type owner struct {
	shown, folded string
	password      string
	device        DeviceInfo
	remote        string
}

// makeOwner makes the box somebody's who has proved that they may have it. It needs
// bindMu.
func (a *Accounts) makeOwner(ctx context.Context, op, way string, o owner) (Session, error) {
	hash, err := a.hasher.hash(ctx, o.password)
	if err != nil {
		return Session{}, err
	}
	var s Session
	seen := a.sight(0, o.remote) // the owner has no keys before they exist
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		var owned bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM user WHERE role = 'owner')`).Scan(&owned); err != nil {
			return err
		}
		if owned {
			return alreadyBound(op)
		}
		id, err := insertUser(tx, op, o.shown, o.folded, ident.Owner, hash)
		if err != nil {
			return err
		}
		p := ident.Principal{User: id, Name: o.shown, Role: ident.Owner, Scope: ident.ScopeFull}
		if err := a.log.Append(tx, audit.Event{Actor: id, Action: "box.bind", Subject: id, Via: viaHTTP, Detail: map[string]string{"way": way}}); err != nil {
			return err
		}
		// What was counted when it began was no guess.
		at, err := readAttempts(tx, way)
		if err != nil {
			return err
		}
		if err := (attempts{total: max(at.total-1, 0)}).write(tx, way); err != nil {
			return err
		}
		if s, err = a.openSession(tx, p, o.device); err != nil {
			return err
		}
		if err := a.noteSignIn(tx, id, seen); err != nil {
			return err
		}
		tx.AfterCommit(func() { a.bound.Store(true) })
		return nil
	})
	if err != nil {
		return Session{}, err
	}
	// The owner is on disk; should this fail, the next start finishes it, and until
	// then the memory knows that the label is spent.
	if err := a.spendLabel(); err != nil {
		a.slog.Error("the spent label could not be erased from the disk; the next start tries again", "err", err)
	}
	if a.opt.OnBound != nil {
		a.opt.OnBound()
	}
	return s, nil
}

// proof checks the form of what was given and returns hashes of what to compare:
// of equal length, so that comparing takes the same time for all of it.
func proof(op string, req BindRequest, label labelFile) (way string, given, want [32]byte, err error) {
	switch {
	case req.Secret != "" && (req.Serial != "" || req.Code != ""):
		err = invalid(op, "Both the label's secret and a code were given.", "Send either secret, or serial and code.")
	case req.Secret != "":
		if len(req.Secret) > 128 {
			err = invalid(op, "The label's secret is too long.", "Scan the label again.")
		}
		way = bySecret
		given, want = sha256.Sum256([]byte(req.Secret)), sha256.Sum256([]byte(label.Secret))
	default:
		serial, ok := ident.ParseSerial(req.Serial)
		if !ok {
			err = invalid(op, "That is not a serial number: it looks like YB26-4F7Q-9KMD, and its last character has to fit the others.",
				"Compare it with the label on the box. This did not count as a try.")
			break
		}
		code, ok := ident.ParseCode(req.Code)
		if !ok {
			err = invalid(op, "The verification code has 8 digits.", "Compare it with the label on the box. This did not count as a try.")
			break
		}
		way = byCode
		given, want = sha256.Sum256([]byte(serial+"\x00"+code)), sha256.Sum256([]byte(label.Serial+"\x00"+label.Code))
	}
	return way, given, want, err
}

func notTheLabel(op string) error {
	return &problem.Error{Kind: problem.Unauthenticated, Op: op,
		Title:  "The box does not accept that",
		Detail: "The serial number and the code, or the scanned label, are not those of this box.",
		Hint:   "Compare them with the label on the box, or run `yunboxctl label` on it. After five wrong codes the box waits for an hour; scanning the label still works."}
}

func alreadyBound(op string) error {
	return &problem.Error{Kind: problem.Conflict, Op: op,
		Title:  "The box is already bound",
		Detail: "This box has an owner; its label was used up when it was bound.",
		Hint:   "Ask the owner for an account. If the box is yours and you are locked out, `yunboxctl user` on the box itself helps."}
}

func tooMany(op string, wait time.Duration) error {
	return &problem.Error{Kind: problem.RateLimited, Op: op, RetryAfter: wait,
		Detail: "There were too many tries in a short time.",
		Hint:   "Wait and try again. Trying from another device works at once."}
}

// countAttempt writes down that a try begins, or refuses it. It returns when the
// count is on stable storage.
func (a *Accounts) countAttempt(ctx context.Context, way string) error {
	n := int64(1)
	if way == bySecret {
		// 2¹²⁸ secrets need no lock, and a lock would let anyone on the network keep
		// the owner out. What must be bounded is only the wear of the disk.
		if _, ok := a.qrWrites.Take(a.now(), ""); !ok {
			a.uncounted.Add(1)
			return nil
		}
		n += a.uncounted.Swap(0)
	}
	var locked time.Duration
	err := a.db.Write(ctx, func(tx *db.Tx) error {
		at, err := readAttempts(tx, way)
		if err != nil {
			return err
		}
		if way == byCode {
			before := at
			if locked = at.begin(tx.Now); locked > 0 {
				if at == before {
					return nil
				}
				return at.write(tx, way) // the lock was shortened after the clock went back
			}
		}
		at.total += n
		if err := at.write(tx, way); err != nil {
			return err
		}
		return a.log.Append(tx, audit.Event{Action: "box.bind_try", Via: viaHTTP,
			Detail: map[string]string{"way": way, "total": strconv.FormatInt(at.total, 10)}})
	})
	if err != nil {
		if way == bySecret {
			a.uncounted.Add(n)
		}
		return err
	}
	if locked > 0 {
		return &problem.Error{Kind: problem.RateLimited, Op: "account.bind", RetryAfter: locked,
			Title:  "Binding by code is locked for a while",
			Detail: "There were too many wrong codes, from whatever device.",
			Hint:   "Scan the QR code of the label instead, or wait " + locked.Round(time.Minute).String() + "."}
	}
	return nil
}

// attempts is a row of bind_attempt: times in Unix milliseconds.
type attempts struct {
	total, shortStart, shortCount, dayStart, dayCount, lockedUntil, locks int64
}

func readAttempts(tx *db.Tx, way string) (attempts, error) {
	var at attempts
	err := tx.QueryRow(`SELECT total, short_start, short_count, day_start, day_count, locked_until, locks FROM bind_attempt WHERE way = ?`, way).
		Scan(&at.total, &at.shortStart, &at.shortCount, &at.dayStart, &at.dayCount, &at.lockedUntil, &at.locks)
	if isNoRows(err) {
		return attempts{}, nil
	}
	return at, err
}

func (at attempts) write(tx *db.Tx, way string) error {
	_, err := tx.Exec(`INSERT OR REPLACE INTO bind_attempt (way, total, short_start, short_count, day_start, day_count, locked_until, locks) VALUES (?,?,?,?,?,?,?,?)`,
		way, at.total, at.shortStart, at.shortCount, at.dayStart, at.dayCount, at.lockedUntil, at.locks)
	return err
}

// begin counts a typed try that starts now, or says how long to wait. The last
// try that is allowed sets the lock itself: what follows it cannot run ahead.
func (at *attempts) begin(now time.Time) (wait time.Duration) {
	ms := now.UnixMilli()
	// A clock that was set back must not lock the box for years.
	if latest := ms + longestLock.Milliseconds(); at.lockedUntil > latest {
		at.lockedUntil = latest
	}
	if at.lockedUntil > ms {
		return time.Duration(at.lockedUntil-ms) * time.Millisecond
	}
	if ms < at.shortStart || ms-at.shortStart >= shortWindow.Milliseconds() {
		at.shortStart, at.shortCount = ms, 0
	}
	if ms < at.dayStart || ms-at.dayStart >= dayWindow.Milliseconds() {
		at.dayStart, at.dayCount = ms, 0
	}
	at.shortCount++
	at.dayCount++
	if at.shortCount >= triesShort || at.dayCount >= triesDay {
		at.lockedUntil = ms + min(firstLock<<min(at.locks, 5), longestLock).Milliseconds()
		at.locks++
		at.shortCount, at.dayCount = 0, 0
	}
	return 0
}
