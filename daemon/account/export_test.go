package account

import (
	"context"
	"crypto/sha1"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

// HashForTest is the PHC string that an earlier version might have stored.
func HashForTest(password string, memory, time uint32) string {
	p := phc{memory: memory, time: time, threads: 1, salt: random(argonSalt)}
	p.key = argon2.IDKey([]byte(normalPassword(password)), p.salt, time, memory, 1, argonKey)
	return p.String()
}

// CodeForTest is what an authenticator with the secret shows at that time.
func CodeForTest(secret string, at time.Time) string {
	key, err := base32Plain.DecodeString(secret)
	if err != nil {
		panic(err)
	}
	return hotp(sha1.New, key, uint64(totpStep(at)), totpDigits)
}

func tempKeys(t testing.TB) vfs.FS {
	t.Helper()
	keys, err := vfs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	return keys
}

// SecondForTest is the part of Login that comes after the password was right, without
// the tenth of a second that Argon2id takes.
func (a *Accounts) SecondForTest(ctx context.Context, name, code, remote string) error {
	if wait, ok := a.logins.begin(a.now(), name, remote); !ok {
		return tooMany("test", wait)
	}
	l, err := a.readLogin(ctx, name)
	if err != nil {
		return err
	}
	proof, err := a.checkFactor(ctx, "test", l, code, remote)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error { return a.spend(tx, "test", proof, l.id) })
}

// SealedBefore is a secret as a version without a vault kept it.
func SealedBefore(a *Accounts, user ident.UserID, secret string) []byte {
	key, err := base32Plain.DecodeString(secret)
	if err != nil {
		panic(err)
	}
	return a.sealer.seal(key, secretColumn, user)
}

// seal is what boxes did before there was a vault.
func (s *sealer) seal(plain []byte, column string, user ident.UserID) []byte {
	nonce := random(s.aead.NonceSize())
	out := append([]byte{sealVersion}, nonce...)
	return s.aead.Seal(out, nonce, plain, sealFor(column, user))
}
