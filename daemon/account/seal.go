package account

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

// secretsName is keys/secrets.json, mode 0400: the key under which the few secrets
// lie that the box must be able to read again. Losing it costs those secrets:
// authenticators have to be set up anew.
const secretsName = "secrets.json"

// sealVersion begins a sealed value. Another way of keeping keys takes another one
// and goes on reading this.
const sealVersion = 1

// A sealer encrypts secrets that stand in the database, so that neither the
// database, its journal nor a copy of them holds one in the clear.
type sealer struct{ aead cipher.AEAD }

// openSealer reads the key, making it at the first start.
func openSealer(keys vfs.FS) (*sealer, error) {
	var file struct {
		Version int    `json:"version"`
		Key     []byte `json:"key"` // 32 random bytes
	}
	data, err := vfs.ReadFile(keys, secretsName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file.Version, file.Key = 1, random(32)
		if data, err = json.Marshal(file); err != nil {
			return nil, err
		}
		if err := vfs.WriteFile(keys, secretsName, append(data, '\n'), 0o400); err != nil {
			return nil, fmt.Errorf("%s cannot be written: %w", secretsName, err)
		}
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", secretsName, err)
	default:
		if err := json.Unmarshal(data, &file); err != nil || file.Version != 1 || len(file.Key) != 32 {
			return nil, fmt.Errorf("%s is damaged or of a newer version: restore it, or remove it and let people set up their authenticators anew", secretsName)
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

// seal encrypts plain for the column of the person's row: version, 12 bytes of
// nonce, AES-256-GCM.
func (s *sealer) seal(plain []byte, column string, user ident.UserID) []byte {
	nonce := random(s.aead.NonceSize())
	out := append([]byte{sealVersion}, nonce...)
	return s.aead.Seal(out, nonce, plain, sealFor(column, user))
}

// open decrypts what seal made. It fails for values of another place, another key,
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
