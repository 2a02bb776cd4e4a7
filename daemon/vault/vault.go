// Package vault seals personal information that stands in the database, and destroys
// the keys when a person goes.
//
// Each person has two keys, one for what is general and one for what is sensitive
// (policy 3, R32). They lie in a file of that person beside the database and not in it,
// wrapped by the master key of the box: the journal of the database and its copies
// remember what was deleted for a while, and they must not remember keys. Destroy
// removes the file; what is left of the person's values anywhere is noise from then on.
//
// A sealed value is bound to its person, class, column and row, so it is good in no
// other place. What a person is shown of it is masked: see Phone, Email and the others.
package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

// Class is how much it would hurt if a value leaked. The classes have keys of their own.
type Class uint8

// The classes.
const (
	General   Class = 1
	Sensitive Class = 2
)

func (c Class) String() string {
	if c == Sensitive {
		return "sensitive"
	}
	return "general"
}

// Column is a column of the database with sealed values.
type Column struct {
	Table, Name string
	// Row is the column that tells the rows of one person apart, or an expression.
	Row string
	// Owner says under whose keys a value lies; "" is the column user. 0 are the box's own.
	Owner string
	Class Class
}

func (c Column) owner() string {
	if c.Owner == "" {
		return "user"
	}
	return c.Owner
}

// Options of Open.
type Options struct {
	// Keys is the folder for vault.json and the files of people.
	Keys vfs.FS
	// Columns are all that hold sealed values: Rotate needs to know them.
	Columns []Column
	// Value opens the value that SetIndex wrote a fingerprint of, in the form that it had
	// there; "": there is none any more. nil: nobody calls SetIndex.
	Value func(v *Vault, tx *db.Tx, u ident.UserID, kind string) (string, error)
	// Hashed are columns with fingerprints of values that the box does not have.
	Hashed []Column
	// Log receives what is worth knowing; nil discards it.
	Log *slog.Logger
}

// MaxPlain is how long a value may be, in bytes.
const MaxPlain = 256 << 10

var (
	// ErrLost: no key opens the value. It was destroyed, or both of its files are damaged.
	ErrLost = errors.New("vault: there is no key for this value")
	// ErrChanged: the value was changed, or belongs to another place.
	ErrChanged = errors.New("vault: this value was changed, or belongs to another place")
	// ErrGone: the person's keys were destroyed; they get no new ones.
	ErrGone = errors.New("vault: the keys of this person were destroyed")
)

// Vault seals and opens. It is safe for concurrent use.
type Vault struct {
	db   *db.DB
	keys vfs.FS
	cols []Column
	log  *slog.Logger

	value  func(*Vault, *db.Tx, ident.UserID, string) (string, error)
	hashed []Column

	rotating sync.Mutex // held by Rotate
	mu       sync.Mutex // of all below, and of the files
	box      boxFile
	rings    map[ident.UserID]*ring // some of them; see maxRings
	gone     map[ident.UserID]bool  // since the start
}

// A ring has the open keys of one person.
type ring struct {
	current uint32
	aeads   map[uint32][2]cipher.AEAD
}

// maxRings bounds the keys in memory, about 2 KiB a person.
const maxRings = 64

// Open reads the master key, making it at the first start, and removes the keys of
// people whose destruction was cut off.
func Open(ctx context.Context, d *db.DB, opt Options) (*Vault, error) {
	v := &Vault{db: d, keys: opt.Keys, cols: opt.Columns, log: opt.Log, value: opt.Value, hashed: opt.Hashed,
		rings: map[ident.UserID]*ring{}, gone: map[ident.UserID]bool{}}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if err := v.openBox(); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	if err := v.finishDestroying(ctx); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return v, nil
}

const (
	sealVersion = 2 // 1 is that of account/seal.go
	header      = 1 + 4
	nonceSize   = 12
	tagSize     = 16
	keySize     = 32
	// bucket hides how long a short value is: "male" is as long as "female".
	bucket = 32
)

// place is what a value is bound to, after the header of the sealed value itself.
func (c Column) place(u ident.UserID, row string, head []byte) []byte {
	b := append([]byte("yunbox vault 1\x00"), head...)
	b = append(b, byte(c.Class))
	b = binary.BigEndian.AppendUint64(b, uint64(u))
	b = append(b, c.Table+"."+c.Name+"\x00"+row...)
	return b
}

// Seal encrypts plain, at most MaxPlain bytes, for one row of a column of u, 0: the box
// itself. The first value of a person makes their keys, which are on stable storage when
// it returns: call it before the transaction that writes the value, not within.
func (v *Vault) Seal(u ident.UserID, at Column, row string, plain []byte) ([]byte, error) {
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("vault: a value of %d bytes is too long", len(plain))
	}
	r, err := v.ringFor(u)
	if err != nil {
		return nil, err
	}
	aead := r.aeads[r.current][at.Class-1]
	padded := make([]byte, (len(plain)/bucket+1)*bucket)
	copy(padded, plain)
	padded[len(plain)] = 0x80
	out := make([]byte, header+nonceSize, header+nonceSize+len(padded)+tagSize)
	out[0] = sealVersion
	binary.BigEndian.PutUint32(out[1:], r.current)
	nonce := out[header:]
	rand.Read(nonce) // never fails
	return aead.Seal(out, nonce, padded, at.place(u, row, out[:header])), nil
}

// Open decrypts what Seal made for the same place. See ErrLost and ErrChanged.
func (v *Vault) Open(u ident.UserID, at Column, row string, sealed []byte) ([]byte, error) {
	n := len(sealed) - header - nonceSize - tagSize
	if n < bucket || n > MaxPlain+bucket || n%bucket != 0 || sealed[0] != sealVersion {
		return nil, ErrChanged
	}
	r, err := v.ring(u)
	if err != nil {
		return nil, err
	}
	pair, ok := r.aeads[binary.BigEndian.Uint32(sealed[1:])]
	if !ok {
		return nil, ErrLost
	}
	plain, err := pair[at.Class-1].Open(nil, sealed[header:header+nonceSize], sealed[header+nonceSize:], at.place(u, row, sealed[:header]))
	if err != nil {
		return nil, ErrChanged
	}
	for i := len(plain) - 1; i >= 0; i-- {
		switch plain[i] {
		case 0:
		case 0x80:
			return plain[:i], nil
		default:
			return nil, ErrChanged
		}
	}
	return nil, ErrChanged
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
