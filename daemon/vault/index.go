package vault

import (
	"crypto/hmac"
	"crypto/sha256"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Fingerprint finds a sealed value again without opening any: HMAC-SHA-256 under a key
// of its own. kind keeps an address of one sort from being found as another ("email");
// value is in the one form that equal values have. Who has the disk and its keys can try
// values that are easy to guess, so Destroy removes it.
func (v *Vault) Fingerprint(kind, value string) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := hmac.New(sha256.New, v.box.Index)
	h.Write([]byte("yunbox vault index 1\x00" + kind + "\x00" + value))
	return h.Sum(nil)
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
	rows, err := tx.Query(`SELECT user FROM vault_index WHERE kind = ? AND hash = ? ORDER BY user LIMIT 10`, kind, v.Fingerprint(kind, value))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, ident.UserID(id))
	}
	return list, rows.Err()
}
