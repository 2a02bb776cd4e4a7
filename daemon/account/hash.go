package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"

	"yunbox.local/daemon/problem"
)

// The parameters of new passwords: OWASP's choice for Argon2id (RFC 9106) on
// small machines. Stored passwords carry their own.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

const (
	hashSlots   = 2  // computed at once, at most: 19 MiB each
	hashWaiters = 24 // more than that are told to come back
)

// A hasher computes Argon2id for a bounded number of callers at a time, so that
// fifty sign-ins at once cost no more memory than two.
type hasher struct {
	slots   chan struct{}
	waiting atomic.Int32 // in the queue or computing
	dummy   phc          // compared with the password of people who do not exist
}

func newHasher(slots int) *hasher {
	if slots < 1 || slots > hashSlots {
		slots = hashSlots
	}
	h := &hasher{slots: make(chan struct{}, slots)}
	h.dummy = phc{memory: argonMemory, time: argonTime, threads: argonThreads, salt: random(argonSalt), key: random(argonKey)}
	return h
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	return b
}

// A phc is a password hash in the "PHC string format".
type phc struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads,
		b64.EncodeToString(p.salt), b64.EncodeToString(p.key))
}

// parsePHC reads what String wrote. The bounds keep a damaged row from asking
// for the memory of the whole box.
func parsePHC(s string) (phc, error) {
	var p phc
	var version int
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, fmt.Errorf("account: a stored password is not an Argon2id string")
	}
	if _, err := fmt.Sscanf(parts[2]+"$"+parts[3], "v=%d$m=%d,t=%d,p=%d", &version, &p.memory, &p.time, &p.threads); err != nil {
		return p, fmt.Errorf("account: a stored password has unreadable parameters: %w", err)
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return p, fmt.Errorf("account: a stored password has an unreadable salt: %w", err)
	}
	if p.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return p, fmt.Errorf("account: a stored password has an unreadable hash: %w", err)
	}
	if version != argon2.Version || p.memory < 8 || p.memory > 64*1024 || p.time < 1 || p.time > 16 ||
		p.threads < 1 || p.threads > 4 || len(p.salt) < 8 || len(p.salt) > 64 || len(p.key) < 16 || len(p.key) > 64 {
		return p, fmt.Errorf("account: a stored password has parameters out of range")
	}
	return p, nil
}

// outdated reports whether a password should be hashed anew at the next chance.
func (p phc) outdated() bool {
	return p.memory != argonMemory || p.time != argonTime || p.threads != argonThreads || len(p.key) != argonKey
}

// enter waits for one of the slots.
func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	if h.waiting.Add(1) > hashSlots+hashWaiters {
		h.waiting.Add(-1)
		return nil, &problem.Error{Kind: problem.RateLimited, Op: "account.hash",
			Title:  "The box is busy with other sign-ins",
			Detail: "Too many people are signing in at this moment.",
			Hint:   "Try again in a few seconds.", RetryAfter: 3 * time.Second}
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		h.waiting.Add(-1)
		return nil, context.Cause(ctx)
	}
	return func() {
		// The working memory of a sign-in is a third of what the whole box may use:
		// it goes back before the next one begins, not with some later collection.
		debug.FreeOSMemory()
		<-h.slots
		h.waiting.Add(-1)
	}, nil
}

// hash returns the PHC string of a new password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	p := phc{memory: argonMemory, time: argonTime, threads: argonThreads, salt: random(argonSalt)}
	p.key = argon2.IDKey([]byte(normalPassword(password)), p.salt, p.time, p.memory, p.threads, argonKey)
	return p.String(), nil
}

// verify compares a password with a stored one; stored == "" stands for somebody
// who does not exist and takes as long.
func (h *hasher) verify(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	p := h.dummy
	if stored != "" {
		if p, err = parsePHC(stored); err != nil {
			return false, false, err
		}
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	key := argon2.IDKey([]byte(normalPassword(password)), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	ok = subtle.ConstantTimeCompare(key, p.key) == 1 && stored != ""
	return ok, ok && p.outdated(), nil
}
