package vault

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"yunbox.local/daemon/db"
)

// A fingerprint of what the box does not keep cannot be made anew under another key: so it
// is wrapped in one. It is then the HMAC, under the new key, of what stood there, and so on
// with each rotation: who has stolen the key before can do nothing with what is in the
// database from then on. Whoever comes with the value is found by going the same way, for
// which the keys before are kept; and it is under the newest key alone from then on.
//
// The first eight bytes say which way that is. Of one that is not wrapped they are those of
// its key's id. Of one that is, four are of the id of the key that it began with, and four
// of that which it was wrapped in last; every key between them comes in turn.

const halfID = keyID / 2

// wrap puts the fingerprint f, which began under a key with that id, into another key.
func wrap(begun, key, f []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("yunbox vault index wrapped 1\x00"))
	h.Write(f)
	tag := append(bytes.Clone(begun[:halfID]), idOf(key)[:halfID]...)
	return append(tag, h.Sum(nil)[:sha256.Size-keyID]...)
}

// under returns which of the keys, the newest first, a fingerprint began under and which it
// was wrapped in last, the same one if it is not wrapped; false: it says neither, because
// it is older than the first rotation or its key is gone.
func under(keys [][]byte, f []byte) (begun, last int, known bool) {
	begun, last = -1, -1
	for i, k := range keys {
		id := idOf(k)
		if bytes.Equal(f[:keyID], id) {
			return i, i, true
		}
		if bytes.Equal(f[:halfID], id[:halfID]) {
			begun = i
		}
		if bytes.Equal(f[halfID:keyID], id[:halfID]) {
			last = i
		}
	}
	return begun, last, begun > last && last >= 0
}

// rewrapped is a fingerprint under the newest key; nil: it is already, or cannot be.
func rewrapped(keys [][]byte, f []byte) []byte {
	begun, last, known := under(keys, f)
	if !known {
		if len(keys) != 2 {
			return nil
		}
		begun, last = 1, 1 // as fingerprints were before the first rotation, which this is
	}
	if last == 0 {
		return nil
	}
	for k := last - 1; k >= 0; k-- {
		f = wrap(idOf(keys[begun]), keys[k], f)
	}
	return f
}

// forms calls find with all that a value may be found by under the keys, the newest first,
// until find says that it has found it.
func forms(keys [][]byte, kind, value string, find func([]byte) (bool, error)) error {
	for begun, key := range keys {
		for _, f := range [][]byte{fingerprint(key, kind, value), mac(key, kind, value)} {
			for k := begun; ; k-- {
				if found, err := find(f); err != nil || found {
					return err
				}
				if k == 0 {
					break
				}
				f = wrap(idOf(key), keys[k-1], f)
			}
		}
	}
	return nil
}

// rewrap wraps each fingerprint of what the box does not keep in the key in use, a batch at
// a time, each only if it is still what was read.
func (v *Vault) rewrap(ctx context.Context, report func()) error {
	keys := v.indexKeys()
	if _, tagged := v.indexID(); !tagged || len(keys) < 2 {
		return nil
	}
	for _, c := range v.hashed {
		for last := []byte{}; ; {
			var list [][]byte
			if err := v.db.Read(ctx, func(tx *db.Tx) (err error) {
				list, err = fingerprints(ctx, tx, `SELECT `+c.Name+` FROM `+c.Table+` WHERE `+c.Name+` > ? ORDER BY `+c.Name+` LIMIT ?`, last, batch)
				return err
			}); err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			last = list[len(list)-1]
			wrapped := 0
			if err := v.db.Write(ctx, func(tx *db.Tx) error {
				wrapped = 0
				for _, before := range list {
					after := rewrapped(keys, before)
					if after == nil {
						continue
					}
					if _, err := tx.Exec(`UPDATE `+c.Table+` SET `+c.Name+` = ? WHERE `+c.Name+` = ?`, after, before); err != nil {
						return err
					}
					wrapped++
				}
				return nil
			}); err != nil {
				return err
			}
			if wrapped > 0 {
				report()
			}
		}
	}
	return nil
}

func fingerprints(ctx context.Context, tx *db.Tx, query string, args ...any) (list [][]byte, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var f []byte
		if err := rows.Scan(&f); err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, rows.Err()
}

// stillUsed returns which of the keys before the one in use are needed to find what is known
// only to whoever comes with it: all from the oldest that some value began under. The
// newest is kept until the next rotation if there is any such value: the newest rows may be
// lost with a power cut.
func (v *Vault) stillUsed(ctx context.Context) (used [][]byte, err error) {
	keys, need := v.indexKeys(), 0
	if err := v.db.Read(ctx, func(tx *db.Tx) error {
		for _, c := range v.hashed {
			list, err := fingerprints(ctx, tx, `SELECT DISTINCT substr(`+c.Name+`, 1, 8) FROM `+c.Table)
			if err != nil {
				return err
			}
			for _, f := range list {
				begun, _, known := under(keys, f)
				if !known { // perhaps of before the first rotation
					begun = len(keys) - 1
				}
				need = max(need, begun, 1)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return keys[1:min(need+1, len(keys))], nil
}
