package webdav

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	// maxLocks is how many locks a person may hold at a time. A program locks what it
	// has open; more than this is a mistake.
	maxLocks = 1000
	// maxTogether is how many locks may hold one file or folder at a time.
	maxTogether = 32
	// maxOwner is the most bytes of what a client says of itself in a lock.
	maxOwner = 2 << 10
	// defaultTimeout and maxTimeout bound a lock's life. Clients refresh it.
	defaultTimeout = 10 * time.Minute
	maxTimeout     = time.Hour
)

// A lock is a write lock (RFC 4918 §7).
type lock struct {
	token    string // a URN
	path     string // its root
	folder   bool
	infinite bool   // it also holds all below
	shared   bool   // others may have shared locks on the same
	owner    string // an element, as its client sent it; ""
	expires  time.Time
}

// covers reports whether l protects path.
func (l lock) covers(path string) bool {
	return l.path == path || l.infinite && within(path, l.path)
}

func (l lock) href(prefix string) string { return hrefOf(prefix, l.path, l.folder) }

// newToken returns a token that nobody can guess. It is shorter than the usual
// UUID: with two entity tags of 64 digits beside it, it must fit into the 199
// bytes that some clients have for an If header.
func newToken() string { return "urn:yunbox:" + rand.Text() }

const lockColumns = `l.token, l.path, l.folder, l.infinite, l.shared, l.owner, l.expires`

// Queries of locks; see catalog for the plus before a parameter.
const (
	locksAt = `SELECT ` + lockColumns + ` FROM dav_lock l
WHERE l.user = +?1 AND l.path IN (SELECT value FROM json_each(?2)) AND l.expires > ?3`

	// A lock below a folder that none of the submitted tokens covers.
	lockBelow = `SELECT ` + lockColumns + ` FROM dav_lock l
WHERE l.user = +?1 AND l.path >= ?2 AND l.path < ?3 AND l.expires > ?4 AND NOT EXISTS (
  SELECT 1 FROM json_each(?5) j CROSS JOIN dav_lock s ON s.token = j.value
  WHERE s.user = l.user AND s.expires > ?4
    AND (s.path = l.path OR s.infinite AND (s.path = '' OR substr(l.path, 1, length(s.path) + 1) = s.path || '/')))
LIMIT 1`

	lockByToken = `SELECT ` + lockColumns + ` FROM dav_lock l WHERE l.token = ?2 AND l.user = ?1 AND l.expires > ?3`

	countLocks = `SELECT count(*) FROM dav_lock l WHERE l.user = ? AND l.expires > ?`

	// A lock below a folder that another lock on the folder would meet: any, or an
	// exclusive one. None of them is expired.
	lockWithin = `SELECT ` + lockColumns + ` FROM dav_lock l WHERE l.user = ?1 AND l.path >= ?2 AND l.path < ?3 AND (?4 OR NOT l.shared) LIMIT 1`

	dropExpired = `DELETE FROM dav_lock AS l WHERE l.user = ?1 AND (l.expires <= ?2 OR l.expires > ?2 + 3600000)` // maxTimeout

	dropLocks = `DELETE FROM dav_lock AS l WHERE l.user = ?1 AND l.path >= ?2 AND l.path < ?3`

	dropLocksAt = `DELETE FROM dav_lock AS l WHERE l.user = ?1 AND l.path = ?2`
)

type row interface{ Scan(dest ...any) error }

func scanLock(r row) (l lock, err error) {
	var expires int64
	err = r.Scan(&l.token, &l.path, &l.folder, &l.infinite, &l.shared, &l.owner, &expires)
	l.expires = time.UnixMilli(expires).UTC()
	return l, err
}

func queryLocks(tx *db.Tx, query string, args ...any) (list []lock, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		l, err := scanLock(rows)
		if err != nil {
			return nil, err
		}
		if l.expires.Sub(tx.Now) <= maxTimeout { // else the clock was ahead when it was made
			list = append(list, l)
		}
	}
	return list, rows.Err()
}

// chain is path and everything above it.
func chain(path string) []string {
	list := []string{""}
	for i := range len(path) {
		if path[i] == '/' {
			list = append(list, path[:i])
		}
	}
	if path != "" {
		list = append(list, path)
	}
	return list
}

// locksFrom returns the locks whose root is one of paths.
func locksFrom(tx *db.Tx, u ident.UserID, paths []string) ([]lock, error) {
	return queryLocks(tx, locksAt, int64(u), jsonList(paths), tx.Now.UnixMilli())
}

// locksOn returns the locks that protect path.
func locksOn(tx *db.Tx, u ident.UserID, path string) ([]lock, error) {
	all, err := locksFrom(tx, u, chain(path))
	return slices.DeleteFunc(all, func(l lock) bool { return !l.covers(path) }), err
}

// locksBelow returns a lock below the folder at path that none of the tokens
// covers, if there is one.
func locksBelow(tx *db.Tx, u ident.UserID, path string, tokens []string) ([]lock, error) {
	lo, hi := below(path)
	return queryLocks(tx, lockBelow, int64(u), lo, hi, tx.Now.UnixMilli(), jsonList(tokens))
}

// below returns the range of paths that lie in folder, at any depth.
func below(folder string) (lo, hi string) {
	if folder == "" {
		return "\x01", "\U0010ffff" // no clean path has a control character
	}
	return folder + "/", folder + "0" // '0' follows '/'
}

func jsonList(list []string) string {
	if list == nil {
		return "[]"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // a list of strings can always be encoded
	}
	return string(b)
}

// A scope is what of a path a change touches.
type scope int

const (
	itself  scope = 1 << iota // the file or folder
	inside                    // all that lies in the folder
	members                   // the list of names of the folder around it (RFC 4918 §7.4)
)

// unlocked fails with problem.Locked if a lock whose token v did not submit
// forbids to change that scope of path.
func (h *Handler) unlocked(tx *db.Tx, v *visit, path string, s scope) error {
	all, err := locksFrom(tx, v.who.User, chain(path))
	if err != nil {
		return err
	}
	submitted := v.cond.tokens()
	on := func(path string) error {
		var held *lock
		for _, l := range all {
			if !l.covers(path) {
				continue
			}
			if slices.Contains(submitted, l.token) {
				return nil // of several shared locks one is enough
			}
			held = &l
		}
		if held == nil {
			return nil
		}
		return isLocked(*held)
	}
	if s&itself != 0 {
		if err := on(path); err != nil {
			return err
		}
	}
	if s&members != 0 && path != "" {
		if err := on(parentOf(path)); err != nil {
			return err
		}
	}
	if s&inside != 0 {
		held, err := locksBelow(tx, v.who.User, path, submitted)
		if err != nil {
			return err
		}
		if len(held) > 0 {
			return isLocked(held[0])
		}
	}
	return nil
}

func isLocked(l lock) error {
	return &failed{condition: "lock-token-submitted", held: &l, problem: lockProblem(l)}
}

func lockProblem(l lock) *problem.Error {
	p := &problem.Error{
		Kind: problem.Locked, Op: "webdav.lock", Title: "The file or folder is locked",
		Detail: fmt.Sprintf("A program holds a lock on %q until %s.", "/"+l.path, l.expires.Format("15:04:05 UTC")),
		Hint:   "Close it in that program, or try again later.",
	}
	if owner := l.ownerText(); owner != "" {
		p.Members = map[string]any{"lock_owner": owner}
	}
	return p
}

// ownerText is what the owner element says, without its markup.
func (l lock) ownerText() string {
	n, err := parseXML([]byte(l.owner))
	if err != nil {
		return ""
	}
	var b strings.Builder
	var walk func(*node)
	walk = func(n *node) {
		b.WriteString(n.text())
		for _, e := range n.elements() {
			walk(e)
		}
	}
	walk(n)
	return strings.TrimSpace(b.String())
}

// takeLock keeps a new lock. It fails with problem.Locked if another one forbids
// it, and with problem.Quota if the person has too many.
func takeLock(tx *db.Tx, u ident.UserID, l lock) error {
	if _, err := tx.Exec(dropExpired, int64(u), tx.Now.UnixMilli()); err != nil {
		return err
	}
	others, err := locksOn(tx, u, l.path)
	if err == nil && l.infinite {
		var inner []lock
		lo, hi := below(l.path)
		inner, err = queryLocks(tx, lockWithin, int64(u), lo, hi, !l.shared)
		others = append(others, inner...)
	}
	if err != nil {
		return err
	}
	for _, o := range others {
		if !l.shared || !o.shared {
			return &failed{condition: "no-conflicting-lock", held: &o, problem: lockProblem(o)}
		}
	}
	if len(others) >= maxTogether {
		return tooManyLocks(len(others))
	}
	if err := roomForLock(tx, u); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO dav_lock (token, user, path, folder, infinite, shared, owner, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		l.token, int64(u), l.path, l.folder, l.infinite, l.shared, l.owner, l.expires.UnixMilli())
	return err
}

// roomForLock fails with problem.Quota if u has as many locks as may be.
func roomForLock(tx *db.Tx, u ident.UserID) error {
	var n int
	if err := tx.QueryRow(countLocks, int64(u), tx.Now.UnixMilli()).Scan(&n); err != nil || n < maxLocks {
		return err
	}
	return tooManyLocks(n)
}

func tooManyLocks(held int) error {
	return &problem.Error{
		Kind: problem.Quota, Op: "webdav.lock", Title: "Too many locks are held",
		Detail: fmt.Sprintf("%d are, and that is the most that may be.", held),
		Hint:   "Close programs that have files open, or wait: every lock ends within an hour.",
	}
}

// dropLocksIn ends the locks on path and on all below: what they protected is
// gone from there (RFC 4918 §7.5, §9.6.1, §9.9.4).
func dropLocksIn(tx *db.Tx, u ident.UserID, path string) error {
	if _, err := tx.Exec(dropLocksAt, int64(u), path); err != nil {
		return err
	}
	lo, hi := below(path)
	_, err := tx.Exec(dropLocks, int64(u), lo, hi)
	return err
}
