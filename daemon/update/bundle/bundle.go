// Package bundle is the file by which a box gets another release of its software: a
// signed header, the list of keys that may sign one, and the release's files. It says
// what such a file must be, makes one, and reads one without believing anything in it
// that is not signed. docs/update.md describes the format.
package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// Product is what all bundles of this program are for.
	Product = "yunbox"
	// ChunkSize is how many bytes of the payload one hash of the header covers; the last
	// chunk may be shorter.
	ChunkSize = 4 << 20
	// MaxPayload is the most bytes of a payload.
	MaxPayload = 512 << 20

	magic      = "yunbox update 1\n"
	maxKeyList = 64 << 10 // bytes of the document
	maxHeader  = 64 << 10
	maxSigs    = 16

	// What is signed begins with one of these, so that no signature is good for two things.
	headerDomain = "yunbox release header 1\x00"
	listDomain   = "yunbox key list 1\x00"
)

// Header is what is signed about a release.
type Header struct {
	Product string `json:"product"`
	Arch    string `json:"arch"`    // amd64, arm64 or armhf
	Channel string `json:"channel"` // "stable" or another word of the maker
	Version string `json:"version"` // Semantic Versioning 2.0.0
	// Counter is greater in each later release: it and not Version says which is newer.
	Counter int64 `json:"release_counter"`
	// MinCounterFrom is the least counter of a release that can take this one on.
	MinCounterFrom int64 `json:"min_counter_from"`
	// MinSchema to MaxSchema are the versions of the database that it opens; it leaves it
	// at MaxSchema.
	MinSchema int `json:"min_schema"`
	MaxSchema int `json:"max_schema"`
	// SecurityFloor is the least counter that a box may go back to once it has this release.
	SecurityFloor int64    `json:"security_floor"`
	Size          int64    `json:"size"`   // of the payload in bytes
	SHA256        string   `json:"sha256"` // of the payload
	Chunks        []string `json:"chunks"` // SHA-256 of each ChunkSize bytes of it
	Created       string   `json:"created"`
}

var (
	version = regexp.MustCompile(`^\d{1,6}\.\d{1,6}\.\d{1,6}(-[0-9A-Za-z.-]{1,32})?(\+[0-9A-Za-z.-]{1,32})?$`)
	word    = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
)

var errFormat = errors.New("the file is not a whole bundle")

// check says what of a header makes no sense by itself.
func (h *Header) check() error {
	want := int((h.Size + ChunkSize - 1) / ChunkSize)
	switch _, err := time.Parse(time.RFC3339, h.Created); {
	case !word.MatchString(h.Product), !word.MatchString(h.Arch), !word.MatchString(h.Channel), !version.MatchString(h.Version), err != nil:
		return fmt.Errorf("%w: a word of the header", errFormat)
	case h.Counter < 1, h.MinCounterFrom < 0, h.MinCounterFrom >= h.Counter, h.SecurityFloor < 0, h.SecurityFloor > h.Counter:
		return fmt.Errorf("%w: a counter of the header", errFormat)
	case h.MinSchema < 1, h.MaxSchema < h.MinSchema, h.MaxSchema > 1<<20:
		return fmt.Errorf("%w: the schemas of the header", errFormat)
	case h.Size < 1, h.Size > MaxPayload, len(h.Chunks) != want:
		return fmt.Errorf("%w: the size in the header", errFormat)
	}
	for _, sum := range append([]string{h.SHA256}, h.Chunks...) {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size || sum != strings.ToLower(sum) {
			return fmt.Errorf("%w: a hash of the header", errFormat)
		}
	}
	return nil
}

// KeyID is the name of a key: the first 8 bytes of its SHA-256, as 16 hex digits.
type KeyID string

// IDOf names a key.
func IDOf(k ed25519.PublicKey) KeyID {
	sum := sha256.Sum256(k)
	return KeyID(hex.EncodeToString(sum[:8]))
}

// ReleaseKey is a key that may sign releases.
type ReleaseKey struct {
	ID  KeyID  `json:"id"`
	Key []byte `json:"key"`
}

// KeyList says which keys sign releases. It is signed by two of the three root keys.
type KeyList struct {
	Product string `json:"product"`
	// Counter is greater in each later list: a box takes no earlier one.
	Counter int64        `json:"list_counter"`
	Keys    []ReleaseKey `json:"keys"`
	Revoked []KeyID      `json:"revoked"` // signed once, and must not any more
	Created string       `json:"created"`
}

func (l *KeyList) check() error {
	if _, err := time.Parse(time.RFC3339, l.Created); err != nil || !word.MatchString(l.Product) || l.Counter < 1 || len(l.Keys) > 64 || len(l.Revoked) > 1024 {
		return fmt.Errorf("%w: the list of keys", errFormat)
	}
	for i, k := range l.Keys {
		if len(k.Key) != ed25519.PublicKeySize || IDOf(k.Key) != k.ID || slices.Contains(l.Revoked, k.ID) ||
			slices.ContainsFunc(l.Keys[:i], func(o ReleaseKey) bool { return o.ID == k.ID }) {
			return fmt.Errorf("%w: a key of the list", errFormat)
		}
	}
	return nil
}

// canonical is the one form in which a document is signed: the fields in their order,
// without spaces.
func canonical(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// parse reads a document that must be in its canonical form: there are no two ways to
// write the same, and nothing that one reader sees and another does not.
func parse(doc []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errFormat, err)
	}
	again, err := canonical(into)
	if err != nil || !bytes.Equal(again, doc) {
		return fmt.Errorf("%w: a document is not in its canonical form", errFormat)
	}
	return nil
}

// A signed document, as it lies in a file.
type signed struct {
	doc  []byte
	sigs []signature
}

type signature struct {
	by  [8]byte // the key's identifier
	sig [ed25519.SignatureSize]byte
}

func (s *signature) id() KeyID { return KeyID(hex.EncodeToString(s.by[:])) }

func (s *signed) sign(domain string, key ed25519.PrivateKey) error {
	id, err := hex.DecodeString(string(IDOf(key.Public().(ed25519.PublicKey))))
	if err != nil {
		return err
	}
	var one signature
	copy(one.by[:], id)
	copy(one.sig[:], ed25519.Sign(key, append([]byte(domain), s.doc...)))
	s.sigs = append(s.sigs, one)
	return nil
}

// signers returns those of keys whose signature is under the document, each once.
func (s *signed) signers(domain string, keys []ed25519.PublicKey) (list []KeyID) {
	msg := append([]byte(domain), s.doc...)
	for _, k := range keys {
		id := IDOf(k)
		for i := range s.sigs {
			if s.sigs[i].id() == id && !slices.Contains(list, id) && ed25519.Verify(k, msg, s.sigs[i].sig[:]) {
				list = append(list, id)
			}
		}
	}
	return list
}

func (s *signed) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.doc)))
	b = append(b, s.doc...)
	b = append(b, byte(len(s.sigs)))
	for _, one := range s.sigs {
		b = append(append(b, one.by[:]...), one.sig[:]...)
	}
	return b
}
