package target

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Recovery is the key that opens a copy without the box. It is shown once, to
// whoever adds the copy, and kept nowhere by us.
type Recovery struct{ identity *age.X25519Identity }

// NewRecovery makes a key.
func NewRecovery() (Recovery, error) {
	id, err := age.GenerateX25519Identity()
	return Recovery{id}, err
}

// ParseRecovery reads a key as Recovery.String writes it. Lines that are empty or
// begin with # are left out, as in a key file of age.
func ParseRecovery(text string) (Recovery, error) {
	var keys []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	if len(keys) == 1 {
		if id, err := age.ParseX25519Identity(strings.ToUpper(keys[0])); err == nil {
			return Recovery{id}, nil
		}
	}
	return Recovery{}, &problem.Error{Kind: problem.Invalid, Op: "backup.key", Title: "That is no recovery key",
		Detail: "A recovery key is one line that begins with AGE-SECRET-KEY-1.",
		Hint:   "Take the key that `yunboxctl backup add` has shown; a mistyped character is noticed."}
}

// String is the key itself: "AGE-SECRET-KEY-1…", 74 characters.
func (r Recovery) String() string { return r.identity.String() }

// Public is what the box may know of a recovery key.
type Public struct {
	Recipient string // for whom everything is encrypted: "age1…"
	Master    string // 64 hex digits: names and seals come from it
}

// Public derives what the box keeps. Master comes from the key, so that nothing
// needs to be sealed on the target and nobody without the key can make a copy that
// a restore takes for ours; the key cannot be found from it.
func (r Recovery) Public() (Public, error) {
	master, err := hkdf.Key(sha256.New, []byte(r.identity.String()), nil, "yunbox backup 1 master", sha256.Size)
	return Public{Recipient: r.identity.Recipient().String(), Master: hex.EncodeToString(master)}, err
}

// Keys are what is needed to work with one copy: those of the box, or those that
// a recovery key gives.
type Keys struct {
	public     Public
	own        *age.X25519Identity // opens what the box itself wrote
	recipients []age.Recipient
	names      []byte // for the names of contents
	seals      []byte // for the seals of generations
	check      string // tells this key from another, and nothing else
}

// NewKeys makes the keys that a box keeps for a new copy.
func NewKeys(p Public) (*Keys, error) {
	own, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return newKeys(p, own)
}

// Keys are the keys that a restore works with.
func (r Recovery) Keys() (*Keys, error) {
	p, err := r.Public()
	if err != nil {
		return nil, err
	}
	return newKeys(p, r.identity)
}

func newKeys(p Public, own *age.X25519Identity) (*Keys, error) {
	recovery, err := age.ParseX25519Recipient(p.Recipient)
	if err != nil {
		return nil, invalidKey(err)
	}
	master, err := hex.DecodeString(p.Master)
	if err != nil || len(master) != sha256.Size {
		return nil, invalidKey(errors.New("the master key is not 64 hex digits"))
	}
	derive := func(what string) []byte {
		m := hmac.New(sha256.New, master)
		m.Write([]byte("yunbox backup 1 " + what))
		return m.Sum(nil)
	}
	return &Keys{
		public: p, own: own, recipients: []age.Recipient{recovery, own.Recipient()},
		names: derive("names"), seals: derive("seals"), check: hex.EncodeToString(derive("check")[:8]),
	}, nil
}

func invalidKey(err error) error {
	return &problem.Error{Kind: problem.Invalid, Op: "backup.key", Title: "The key of a second copy is not valid", Err: err,
		Hint: "This yunboxctl may be older or newer than the box."}
}

// Marshal is the file that a box keeps for one copy; docs/format.md describes it.
func (k *Keys) Marshal() []byte {
	return checked(fmt.Sprintf("yunbox backup key 1\nrecipient %s\nmaster    %s\nown       %s\n", k.public.Recipient, k.public.Master, k.own))
}

// ParseKeys reads what Marshal wrote.
func ParseKeys(data []byte) (*Keys, error) {
	f, err := fields(data, "yunbox backup key 1", "recipient", "master", "own")
	if err != nil {
		return nil, err
	}
	own, err := age.ParseX25519Identity(f["own"])
	if err != nil {
		return nil, errors.New("the box's own key is damaged") // the error of age may show it
	}
	return newKeys(Public{Recipient: f["recipient"], Master: f["master"]}, own)
}

// encrypt returns a writer for what only the recovery key and the box can read.
func (k *Keys) encrypt(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, k.recipients...) }

func (k *Keys) decrypt(r io.Reader) (io.Reader, error) { return age.Decrypt(r, k.own) }

// Name is the name of a content on the target. Only who has the key can tell
// which content it is.
type Name [sha256.Size]byte

// Name returns the name of a content.
func (k *Keys) Name(ref storage.Ref) (n Name) {
	m := hmac.New(sha256.New, k.names)
	m.Write(ref[:])
	m.Sum(n[:0])
	return n
}

// mac seals the text of a generation.
func (k *Keys) mac(text string) string {
	m := hmac.New(sha256.New, k.seals)
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}
