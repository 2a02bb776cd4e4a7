package webdav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// lock answers LOCK (RFC 4918 §9.10): with a body it takes a lock, without one it
// refreshes those that the If header names.
func (h *Handler) lock(v *visit) error {
	d, err := depth(v.r, "infinity", "0")
	if err != nil {
		return err
	}
	body, err := readXML(v.r)
	if err != nil {
		return err
	}
	timeout := parseTimeout(v.r.Header.Get("Timeout"))
	if body == nil {
		return h.refresh(v, timeout)
	}
	l, err := parseLockInfo(body)
	if err != nil {
		return err
	}
	l.path, l.infinite, l.token = v.path, d == "infinity", newToken()
	made, err := h.reserve(v)
	if err != nil {
		return err
	}
	var now time.Time
	err = h.db.Write(v.r.Context(), func(tx *db.Tx) error {
		now = tx.Now
		res, err := h.must(tx, v)
		if err != nil {
			return err
		}
		if !made { // it did so in reserve, before there was anything
			if err := h.holds(tx, v, res); err != nil {
				return err
			}
		}
		l.folder, l.expires = res.kind == folder, tx.Now.Add(timeout)
		l.infinite = l.infinite && l.folder
		if made && v.sent != v.path {
			if err := keepSpelling(tx, v.who.User, res.holder(), res.item.Name, v.sent); err != nil {
				return err
			}
		}
		return takeLock(tx, v.who.User, l)
	})
	if err != nil {
		return err
	}
	v.w.Header().Set("Lock-Token", "<"+l.token+">")
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	return answerLocks(v, status, []lock{l}, now)
}

// reserve makes an empty file where a lock is wanted on a name that is free (RFC
// 4918 §7.3). made is whether it did.
func (h *Handler) reserve(v *visit) (made bool, err error) {
	free := false
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) error {
		res, err := h.find(tx, v.who.User, v.path)
		if err != nil || res.kind != missing {
			return err
		}
		free = true
		if err := roomForLock(tx, v.who.User); err != nil {
			return err
		}
		if err := h.around(tx, v.who.User, v.path); err != nil {
			return err
		}
		if err := h.holds(tx, v, res); err != nil {
			return err
		}
		return h.unlocked(tx, v, v.path, members)
	})
	if err != nil || !free {
		return false, err
	}
	meta, err := metaOf(v, v.path)
	if err != nil {
		return false, err
	}
	meta.IfAbsent = true
	grant, err := h.consent.GrantFor(v.r.Context(), v.who.User, meta.Device, meta.Source)
	if err != nil {
		return false, err
	}
	intake, err := h.ingest.Begin(v.r.Context(), grant, meta)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, intake.Close()) }()
	if _, err := intake.Write(intake.Context(), 0, bytes.NewReader(nil)); err != nil {
		return false, err
	}
	_, err = intake.Finish(intake.Context())
	return err == nil, err
}

// parseLockInfo reads what kind of lock is wanted.
func parseLockInfo(body *node) (l lock, err error) {
	scope, kind := body.child("lockscope"), body.child("locktype")
	if body.name.Space != dav || body.name.Local != "lockinfo" || scope == nil || kind == nil || kind.child("write") == nil {
		return l, badXML("it does not ask for a write lock as a DAV:lockinfo")
	}
	switch exclusive, shared := scope.child("exclusive") != nil, scope.child("shared") != nil; {
	case exclusive == shared:
		return l, badXML("the scope of the lock is neither exclusive nor shared")
	default:
		l.shared = shared
	}
	if owner := body.child("owner"); owner != nil {
		l.owner = owner.String()
		if len(l.owner) > maxOwner {
			return l, &problem.Error{
				Kind: problem.TooLarge, Op: "webdav.lock", Detail: "The owner of a lock may have 2 KiB.", Hint: "Send less.",
			}
		}
	}
	return l, nil
}

// parseTimeout reads a Timeout header (RFC 4918 §10.7) and takes the first that it
// understands.
func parseTimeout(s string) time.Duration {
	for t := range strings.SplitSeq(s, ",") {
		t = strings.ToLower(strings.TrimSpace(t))
		if t == "infinite" {
			return maxTimeout
		}
		seconds, ok := strings.CutPrefix(t, "second-")
		n, err := strconv.ParseUint(seconds, 10, 32)
		if ok && err == nil && n > 0 {
			return min(time.Duration(n)*time.Second, maxTimeout)
		}
	}
	return defaultTimeout
}

// refresh gives the locks that the If header names their time anew (RFC 4918
// §9.10.2).
func (h *Handler) refresh(v *visit, timeout time.Duration) error {
	var refreshed []lock
	var now time.Time
	err := h.db.Write(v.r.Context(), func(tx *db.Tx) error {
		refreshed, now = nil, tx.Now
		if len(v.cond) == 0 {
			return badXML("it is empty, and there is no If header that names a lock to be refreshed")
		}
		res, err := h.find(tx, v.who.User, v.path)
		if err != nil {
			return err
		}
		if err := h.holds(tx, v, res); err != nil {
			return err
		}
		for _, token := range v.cond.tokens() {
			held, err := queryLocks(tx, lockByToken, int64(v.who.User), token, tx.Now.UnixMilli())
			if err != nil {
				return err
			}
			for _, l := range held {
				if !l.covers(v.path) {
					continue
				}
				l.expires = tx.Now.Add(timeout)
				if _, err := tx.Exec(`UPDATE dav_lock SET expires = ? WHERE token = ?`, l.expires.UnixMilli(), l.token); err != nil {
					return err
				}
				refreshed = append(refreshed, l)
			}
		}
		if len(refreshed) == 0 {
			return noSuchLock(problem.PreconditionFailed)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return answerLocks(v, http.StatusOK, refreshed, now)
}

func noSuchLock(k problem.Kind) error {
	return &failed{condition: "lock-token-matches-request-uri", problem: &problem.Error{
		Kind: k, Op: "webdav.lock", Title: "There is no such lock",
		Detail: "The lock token does not belong to this file or folder, or its time is over.", Hint: "Lock it again.",
	}}
}

// unlock answers UNLOCK (RFC 4918 §9.11).
func (h *Handler) unlock(v *visit) error {
	header := strings.TrimSpace(v.r.Header.Get("Lock-Token"))
	if len(header) < 3 || header[0] != '<' || header[len(header)-1] != '>' {
		return &problem.Error{
			Kind: problem.Invalid, Op: "webdav.unlock", Title: "The lock is not named", Hint: "Send Lock-Token: <the token that LOCK gave>.",
		}
	}
	token := header[1 : len(header)-1]
	err := h.db.Write(v.r.Context(), func(tx *db.Tx) error {
		held, err := queryLocks(tx, lockByToken, int64(v.who.User), token, tx.Now.UnixMilli())
		if err != nil {
			return err
		}
		if len(held) == 0 || !held[0].covers(v.path) {
			return noSuchLock(problem.Conflict)
		}
		_, err = tx.Exec(`DELETE FROM dav_lock WHERE token = ?`, token)
		return err
	})
	if err != nil {
		return err
	}
	v.w.WriteHeader(http.StatusNoContent)
	return nil
}

func answerLocks(v *visit, status int, locks []lock, now time.Time) error {
	v.w.Header().Set("Content-Type", contentTypeXML)
	v.w.Header().Set("Cache-Control", "no-store")
	v.w.WriteHeader(status)
	_, _ = v.w.Write([]byte(xml.Header + `<d:prop xmlns:d="DAV:"><d:lockdiscovery>` + activeLocks(v.mount.Prefix, locks, now) + `</d:lockdiscovery></d:prop>`))
	return nil // a client that is gone does not undo it
}

// activeLocks is the value of lockdiscovery (RFC 4918 §15.8).
func activeLocks(prefix string, locks []lock, now time.Time) string {
	var b strings.Builder
	for _, l := range locks {
		scope, depth := "exclusive", "0"
		if l.shared {
			scope = "shared"
		}
		if l.infinite {
			depth = "infinity"
		}
		b.WriteString("<d:activelock><d:locktype><d:write/></d:locktype><d:lockscope><d:" + scope + "/></d:lockscope><d:depth>" + depth + "</d:depth>" +
			l.owner + "<d:timeout>Second-" + strconv.Itoa(max(int(l.expires.Sub(now).Round(time.Second).Seconds()), 1)) + "</d:timeout>" +
			"<d:locktoken><d:href>" + escaped(l.token) + "</d:href></d:locktoken><d:lockroot><d:href>" + escaped(l.href(prefix)) + "</d:href></d:lockroot></d:activelock>")
	}
	return b.String()
}
