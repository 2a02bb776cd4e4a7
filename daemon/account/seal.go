package account

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/vault"
	"yunbox.local/storage/vfs"
)

// secretsName is keys/secrets.json, mode 0400: the key under which the few secrets
// lie that the box must be able to read again. It is kept twice; losing both costs those
// secrets: authenticators have to be set up anew.
const (
	secretsName = "secrets.json"
	secretsCopy = secretsName + ".copy"
)

// sealVersion begins a value that was sealed before there was a vault, which begins
// its own with another one. They are read, and moved into the vault at the next start.
const sealVersion = 1

// What the values before the vault are bound to.
const (
	secretColumn  = "totp.secret"
	pendingColumn = "totp.pending"
)

// The columns themselves.
const (
	secretName  = "secret"
	pendingName = "pending"
)

func totpColumn(name string) vault.Column {
	return vault.Column{Table: "totp", Name: name, Row: "user", Class: vault.Sensitive}
}

func (a *Accounts) sealSecret(user ident.UserID, column string, secret []byte) ([]byte, error) {
	return a.vault.Seal(user, totpColumn(column), rowOf(user), secret)
}

func (a *Accounts) openSecret(user ident.UserID, column string, sealed []byte) ([]byte, error) {
	if len(sealed) > 0 && sealed[0] == sealVersion {
		return a.sealer.open(sealed, "totp."+column, user)
	}
	return a.vault.Open(user, totpColumn(column), rowOf(user), sealed)
}

// moveSecrets seals in the vault what was sealed before there was one.
func (a *Accounts) moveSecrets(ctx context.Context) error {
	for _, column := range []string{secretName, pendingName} {
		people, err := a.people(ctx, `SELECT user FROM totp WHERE substr(`+column+`, 1, 1) = x'01'`)
		if err != nil {
			return err
		}
		for _, u := range people {
			var before []byte
			if err := a.db.Read(ctx, func(tx *db.Tx) error {
				return tx.QueryRowContext(ctx, `SELECT `+column+` FROM totp WHERE user = ?`, int64(u)).Scan(&before)
			}); err != nil {
				return err
			}
			plain, err := a.openSecret(u, column, before)
			if err != nil {
				a.slog.Warn("the secret of an authenticator cannot be read: its owner needs a recovery code", "err", err)
				continue
			}
			after, err := a.sealSecret(u, column, plain)
			if err != nil {
				return err
			}
			if err := a.db.Write(ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(`UPDATE totp SET `+column+` = ? WHERE user = ? AND `+column+` = ?`, after, int64(u), before)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// A sealer encrypts secrets that stand in the database, so that neither the
// database, its journal nor a copy of them holds one in the clear.
type sealer struct{ aead cipher.AEAD }

type secretsFile struct {
	Version int    `json:"version"`
	Key     []byte `json:"key"` // 32 random bytes
}

var errSecretsDamaged = errors.New("it is damaged")

func readSecrets(keys vfs.FS, name string) (f secretsFile, err error) {
	data, err := vfs.ReadFile(keys, name)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("%w: %w", errSecretsDamaged, err)
	}
	if f.Version > 1 {
		return f, errors.New("it is of a newer version of yunbox")
	}
	if f.Version != 1 || len(f.Key) != 32 {
		return f, errSecretsDamaged
	}
	return f, nil
}

// openSealer reads the key, making it at the first start. One of its two files mends
// the other; without both the box starts all the same, with another key.
func openSealer(keys vfs.FS, log *slog.Logger) (*sealer, error) {
	var file *secretsFile
	var mend []string
	for _, name := range []string{secretsName, secretsCopy} {
		f, err := readSecrets(keys, name)
		switch {
		case err == nil && (file == nil || bytes.Equal(f.Key, file.Key)):
			file = &f
		case err == nil: // two keys: the first one is in use
			mend = append(mend, name)
		case errors.Is(err, fs.ErrNotExist):
			mend = append(mend, name)
		case errors.Is(err, errSecretsDamaged):
			log.Warn("a key file is damaged and is made anew: look at the disk", "file", name, "err", err)
			mend = append(mend, name)
		default:
			return nil, fmt.Errorf("%s cannot be read: %w", name, err)
		}
	}
	if file == nil {
		file = &secretsFile{1, random(32)}
	}
	data, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	for _, name := range mend {
		if err := vfs.WriteFile(keys, name, append(data, '\n'), 0o400); err != nil {
			return nil, fmt.Errorf("%s cannot be written: %w", name, err)
		}
	}
	key, err := hkdf.Key(sha256.New, file.Key, nil, "yunbox second factor 1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

// sealFor binds a sealed value to its place, so that it is good in no other row.
func sealFor(column string, user ident.UserID) []byte {
	return binary.BigEndian.AppendUint64([]byte(column+"\x00"), uint64(user))
}

// open decrypts a value that an earlier box sealed: version, 12 bytes of nonce,
// AES-256-GCM. New ones lie in the vault. It fails for values of another place, another key,
// and damaged ones.
func (s *sealer) open(sealed []byte, column string, user ident.UserID) ([]byte, error) {
	n := 1 + s.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealVersion {
		return nil, errors.New("account: a sealed secret is damaged or of a newer version")
	}
	plain, err := s.aead.Open(nil, sealed[1:n], sealed[n:], sealFor(column, user))
	if err != nil {
		return nil, errors.New("account: a sealed secret does not belong to this key or this place")
	}
	return plain, nil
}
