// Package ident says who is asking: people, their devices, and the principal
// that a request acts as. It holds no state and knows no storage.
package ident

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"time"
)

type (
	// UserID names a person of this box. The zero UserID names nobody.
	UserID int64
	// DeviceID names a device (a phone, a camera, a browser) of one person.
	// The zero DeviceID means "no particular device".
	DeviceID int64
	// ItemID names an item of a person's catalogue. The zero ItemID names none.
	ItemID int64
)

// ID is what all identifiers of this package have in common.
type ID interface{ ~int64 }

// New returns a fresh identifier: 42 bits of Unix milliseconds and 21 random
// bits. Identifiers made later sort later, so tables keyed by them grow at their
// end, and unlike row numbers they tell nobody how much others have stored.
// Two identifiers of the same millisecond collide with a chance of one in two
// million: insert them under a uniqueness constraint. It is safe for concurrent
// use.
func New[T ID](now time.Time) T {
	var b [4]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	low := binary.BigEndian.Uint32(b[:]) & (1<<21 - 1)
	id := (now.UnixMilli()&(1<<42-1))<<21 | int64(low)
	if id == 0 {
		id = 1 // a clock at the epoch must not make the identifier of nobody
	}
	return T(id)
}

var encoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// ErrSyntax is returned for a text that is not an identifier.
var ErrSyntax = errors.New("not an identifier: 13 characters of 0-9 and a-z without i, l, o, u are expected")

func format(id int64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(id))
	return encoding.EncodeToString(b[:])
}

// Parse reads the 13-character form that String gives. It refuses every other
// spelling, so that one identifier has one text.
func Parse[T ID](s string) (T, error) {
	if len(s) != 13 {
		return 0, ErrSyntax
	}
	b, err := encoding.DecodeString(s)
	if err != nil || len(b) != 8 {
		return 0, ErrSyntax
	}
	id := int64(binary.BigEndian.Uint64(b))
	if id <= 0 || format(id) != s {
		return 0, ErrSyntax
	}
	return T(id), nil
}

// String returns the identifier as 13 lower-case characters (Crockford's
// base 32), the form used in URLs and JSON.
func (id UserID) String() string { return format(int64(id)) }

// String returns the identifier as 13 lower-case characters.
func (id DeviceID) String() string { return format(int64(id)) }

// String returns the identifier as 13 lower-case characters.
func (id ItemID) String() string { return format(int64(id)) }

// MarshalText implements encoding.TextMarshaler.
func (id UserID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (id DeviceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (id ItemID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *UserID) UnmarshalText(b []byte) (err error) {
	*id, err = Parse[UserID](string(b))
	return err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *DeviceID) UnmarshalText(b []byte) (err error) {
	*id, err = Parse[DeviceID](string(b))
	return err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ItemID) UnmarshalText(b []byte) (err error) {
	*id, err = Parse[ItemID](string(b))
	return err
}

// Role is what a person may do on the box.
type Role string

const (
	// Owner bound the box; there is one. May do what an admin may.
	Owner Role = "owner"
	// Admin manages the box and its people, and cannot read others' files.
	Admin Role = "admin"
	// Member keeps files on the box.
	Member Role = "member"
	// Child is a person under 14, for whom a guardian consents.
	Child Role = "child"
)

// Valid reports whether r is one of the four roles.
func (r Role) Valid() bool { return r == Owner || r == Admin || r == Member || r == Child }

// Scope is how much of a person's rights a session or token carries.
type Scope string

const (
	// ScopeFull carries everything that the person may do.
	ScopeFull Scope = "full"
	// ScopeFiles carries the person's files and uploads only: no consents, no
	// passwords, no administration.
	ScopeFiles Scope = "files"
	// ScopeCamera carries leaving photos in the camera gateway and nothing else. No
	// HTTP request is ever made with it.
	ScopeCamera Scope = "camera"
)

// Valid reports whether s is one of the scopes.
func (s Scope) Valid() bool { return s == ScopeFull || s == ScopeFiles || s == ScopeCamera }

// Principal is who a request acts as. The zero Principal is nobody.
type Principal struct {
	User    UserID
	Name    string // user name, for greeting only
	Role    Role
	Device  DeviceID // zero: the session belongs to no known device
	Session int64    // the session or token that proved it
	Scope   Scope
	// Leaving: the account is being cancelled. It can be read and kept, not used.
	Leaving bool
}

// Admin reports whether the principal may manage the box.
func (p Principal) Admin() bool {
	return p.User != 0 && p.Scope == ScopeFull && (p.Role == Owner || p.Role == Admin)
}

// SpeaksFor reports whether the principal may say that a file comes from d. An
// app token for files that was made for one device speaks for no other, or what
// its person decided about that device could be got around.
func (p Principal) SpeaksFor(d DeviceID) bool {
	return p.Scope != ScopeFiles || p.Device == 0 || p.Device == d
}
