package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

const (
	// keyID is how many bytes of a fingerprint say under which key it is; the other 24 are
	// of the HMAC. Those of before the first rotation have 32 of it.
	keyID = 8
	// maxLinkKeys bounds the keys that are kept for values that nobody can tell the box
	// anew but who comes with them.
	maxLinkKeys = 64
)

func idOf(key []byte) []byte {
	sum := sha256.Sum256(append([]byte("yunbox vault index id\x00"), key...))
	return sum[:keyID]
}

func mac(key []byte, kind, value string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("yunbox vault index 1\x00" + kind + "\x00" + value))
	return h.Sum(nil)
}

func fingerprint(key []byte, kind, value string) []byte {
	return append(idOf(key), mac(key, kind, value)[:sha256.Size-keyID]...)
}

// Fingerprint finds a value again without opening any: HMAC-SHA-256 under a key of its
// own, the one in use. kind keeps an address of one sort from being found as another
// ("email"); value is in the one form that equal values have. Who has the disk and its keys
// can try values that are easy to guess, so Destroy removes it. Write it in the transaction
// in which it was asked for: Rotate waits for those that began under the key before.
func (v *Vault) Fingerprint(kind, value string) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.box.Tagged {
		return mac(v.box.Index, kind, value)
	}
	return fingerprint(v.box.Index, kind, value)
}

// Lookup calls find with each fingerprint that value may have been written with, the one
// of the key in use first, until find says that it has found it. Keys that change meanwhile
// are tried, too.
func (v *Vault) Lookup(kind, value string, find func(fingerprint []byte) (found bool, err error)) error {
	tried := map[string]bool{}
	for more := true; more; {
		more = false
		found := false
		err := forms(v.indexKeys(), kind, value, func(f []byte) (bool, error) {
			if tried[string(f)] {
				return false, nil
			}
			tried[string(f)], more = true, true
			var err error
			found, err = find(f)
			return found, err
		})
		if err != nil || found {
			return err
		}
	}
	return nil
}

// indexKeys are the key in use and those before it, the newest first.
func (v *Vault) indexKeys() [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([][]byte{v.box.Index}, v.box.Before...)
}

// indexID is what fingerprints under the key in use begin with; false: with nothing.
func (v *Vault) indexID() ([]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return idOf(v.box.Index), v.box.Tagged
}

// SetIndex has u found by value, and by no earlier value of that kind; "": by none.
func (v *Vault) SetIndex(tx *db.Tx, u ident.UserID, kind, value string) error {
	if _, err := tx.Exec(`DELETE FROM vault_index WHERE user = ? AND kind = ?`, int64(u), kind); err != nil || value == "" {
		return err
	}
	_, err := tx.Exec(`INSERT INTO vault_index (kind, hash, user) VALUES (?, ?, ?)`, kind, v.Fingerprint(kind, value), int64(u))
	return err
}

// Find returns who has that value, ten at most.
func (v *Vault) Find(tx *db.Tx, kind, value string) (list []ident.UserID, err error) {
	err = v.Lookup(kind, value, func(f []byte) (bool, error) {
		rows, err := tx.Query(`SELECT user FROM vault_index WHERE kind = ? AND hash = ? ORDER BY user LIMIT 10`, kind, f)
		if err != nil {
			return false, err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return false, err
			}
			list = append(list, ident.UserID(id))
		}
		return false, rows.Err()
	})
	slices.Sort(list)
	return list[:min(len(list), 10)], err
}

// reindex makes each fingerprint anew that is not under the key in use, a batch at a time;
// those of values that the box does not keep are wrapped. Of a value that no key opens it
// stays, in case that key comes back.
func (v *Vault) reindex(ctx context.Context, p *Progress, report func(Progress)) error {
	id, tagged := v.indexID()
	if v.value == nil || !tagged {
		return nil
	}
	if err := v.rewrap(ctx, func() { report(*p) }); err != nil {
		return err
	}
	type row struct {
		kind          string
		user          ident.UserID
		before, after []byte // after: nil if there is nothing to be found by
		lost          bool
	}
	for last := (row{}); ; {
		var list []row
		if err := v.db.Read(ctx, func(tx *db.Tx) error {
			list = nil
			rows, err := tx.QueryContext(ctx, `SELECT kind, user, hash FROM vault_index WHERE substr(hash, 1, 8) <> ?1 AND (kind, user) > (?2, ?3)
				ORDER BY kind, user LIMIT ?4`, id, last.kind, int64(last.user), batch)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var r row
				if err := rows.Scan(&r.kind, &r.user, &r.before); err != nil {
					return err
				}
				list = append(list, r)
			}
			return rows.Err()
		}); err != nil || len(list) == 0 {
			return err
		}
		last = list[len(list)-1]
		if err := v.db.Read(ctx, func(tx *db.Tx) error {
			for i := range list {
				r := &list[i]
				value, err := v.value(v, tx, r.user, r.kind)
				switch {
				case errors.Is(err, ErrLost) || errors.Is(err, ErrChanged):
					r.lost = true
				case err != nil:
					return err
				case value != "":
					r.after = v.Fingerprint(r.kind, value)
				}
			}
			return nil
		}); err != nil {
			return err
		}
		var done int64
		if err := v.db.Write(ctx, func(tx *db.Tx) error {
			done = 0
			for _, r := range list {
				if r.lost {
					continue
				}
				// What was told anew meanwhile has another fingerprint already.
				const where = ` WHERE kind = ? AND user = ? AND hash = ?`
				query, args := `DELETE FROM vault_index`+where, []any{r.kind, int64(r.user), r.before}
				if r.after != nil {
					query, args = `UPDATE OR REPLACE vault_index SET hash = ?`+where, append([]any{r.after}, args...)
				}
				res, err := tx.Exec(query, args...)
				if err != nil {
					return err
				}
				n, err := res.RowsAffected()
				if err != nil {
					return err
				}
				done += n
			}
			return nil
		}); err != nil {
			return err
		}
		p.Found += done
		report(*p)
	}
}
