package account

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/url"
	"strings"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/vault"
	"yunbox.local/storage/vfs"
)

const labelName = "label.json"

// Label is what is printed on the box or shown to its administrator: everything
// that is needed to bind it.
type Label struct {
	Serial string // "YB26-4F7Q-9KMD"; not a secret
	// Code is the 8-digit verification code; "" once it is spent.
	Code string
	// PairURI is what the label's QR code says; "" once it is spent.
	PairURI string
	Spent   bool // the box was bound; code and pairing secret exist no more
}

// Format implements fmt.Formatter: masked, whatever the verb. Showing a label means to
// name its fields.
func (l Label) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s %s", vault.NewSerial(l.Serial), vault.NewCode(l.Code))
}

// LogValue implements slog.LogValuer: masked.
func (l Label) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(l)) }

// labelFile is keys/label.json, mode 0400. Losing it costs the label, nothing
// else, so it is not part of any backup.
type labelFile struct {
	Version int    `json:"version"`
	Serial  string `json:"serial"`
	Code    string `json:"code,omitempty"`
	Secret  string `json:"secret,omitempty"` // base64url of 16 random bytes
	Spent   bool   `json:"spent"`
}

// NewLabel writes a label that was never used, with the serial number that stands on the
// box: for one that was given back what it was made with.
func NewLabel(keys vfs.FS, serial string) error {
	shown, ok := ident.ParseSerial(serial)
	if !ok {
		return fmt.Errorf("%q is no serial number", serial)
	}
	return writeLabel(keys, labelFile{Version: 1, Serial: shown, Code: newCode(), Secret: newPairSecret()})
}

func newPairSecret() string { return base64.RawURLEncoding.EncodeToString(random(16)) }

// openLabel reads the label, makes it at the first start, and finishes what a
// power cut between binding and spending has left.
func (a *Accounts) openLabel(owner bool) error {
	label, err := a.readLabel()
	damaged := owner && errors.Is(err, errLabelDamaged) // its owner came: the label is for nothing any more
	if damaged && a.slog != nil {
		a.slog.Warn("the label was damaged and is made anew, spent: look at the disk", "err", err)
	}
	switch {
	case damaged, errors.Is(err, fs.ErrNotExist):
		label = labelFile{Version: 1, Serial: newSerial(), Spent: owner}
		if !owner {
			label.Code, label.Secret = newCode(), newPairSecret()
		}
		if err := a.writeLabel(label); err != nil {
			return err
		}
	case err != nil:
		// Without an owner a new one is not made for it: a box that lost its records, too,
		// would be up for grabs.
		return fmt.Errorf("%s cannot be read (remove it to get a new label): %w", labelName, err)
	}
	a.label = label
	a.bound.Store(owner || a.label.Spent)
	if owner && !a.label.Spent {
		return a.spendLabel()
	}
	return nil
}

var errLabelDamaged = errors.New("it is damaged")

func (a *Accounts) readLabel() (labelFile, error) {
	var l labelFile
	data, err := vfs.ReadFile(a.opt.Keys, labelName)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fmt.Errorf("%w: %w", errLabelDamaged, err)
	}
	if l.Version > 1 {
		return l, errors.New("it is of a newer version of yunbox")
	}
	if _, ok := ident.ParseSerial(l.Serial); l.Version != 1 || !ok || !l.Spent && (len(l.Code) != 8 || len(l.Secret) != 22) {
		return l, errLabelDamaged
	}
	return l, nil
}

// writeLabel replaces the file durably.
func (a *Accounts) writeLabel(l labelFile) error { return writeLabel(a.opt.Keys, l) }

func writeLabel(keys vfs.FS, l labelFile) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(keys, labelName, append(data, '\n'), 0o400); err != nil {
		return fmt.Errorf("%s cannot be written: %w", labelName, err)
	}
	return nil
}

// spendLabel erases code and secret: first from memory, where it counts now,
// then from the file.
func (a *Accounts) spendLabel() error {
	a.labelMu.Lock()
	defer a.labelMu.Unlock()
	a.label.Spent, a.label.Code, a.label.Secret = true, "", ""
	a.runs.forget()
	return a.writeLabel(a.label)
}

// Label returns the label as it is now.
func (a *Accounts) Label(context.Context) (Label, error) {
	a.labelMu.Lock()
	l := a.label
	a.labelMu.Unlock()
	out := Label{Serial: l.Serial, Spent: l.Spent}
	if !l.Spent {
		out.Code = l.Code
		out.PairURI = PairURI{ID: a.opt.DeviceID, Key: a.opt.Fingerprint, Secret: l.Secret, SerialEnd: l.Serial[len(l.Serial)-4:]}.String()
	}
	return out, nil
}

// SerialEnd returns the last four characters of the serial number, which an
// unbound box announces so that its owner can tell it from the neighbour's.
func (a *Accounts) SerialEnd() string {
	a.labelMu.Lock()
	defer a.labelMu.Unlock()
	return a.label.Serial[len(a.label.Serial)-4:]
}

// Bound reports whether the box has an owner, or had one: a box that lost its
// database is not up for grabs.
func (a *Accounts) Bound(context.Context) bool { return a.bound.Load() }

// serialPrefix names the product and its series; the rest is random, so a serial
// number says nothing about how many boxes there are or when one was made.
const serialPrefix = "YB26"

func newSerial() string {
	s := serialPrefix
	for _, b := range random(7) {
		s += ident.SerialAlphabet[b&31 : b&31+1]
	}
	s += string(ident.SerialCheck(s))
	return s[:4] + "-" + s[4:8] + "-" + s[8:]
}

func newCode() string {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		panic(err) // never happens: crypto/rand aborts the program instead
	}
	return fmt.Sprintf("%08d", n)
}

// PairURI is what the QR code on the label says.
type PairURI struct {
	ID        string // the box's id, as in its mDNS record
	Key       string // base64url of the SHA-256 of the CA's public key (SPKI)
	Secret    string // base64url of 16 bytes
	SerialEnd string // last four characters of the serial number
}

// String returns "yunbox://pair?v=1&id=…&k=…&s=…&n=…".
func (p PairURI) String() string {
	return "yunbox://pair?v=1&id=" + url.QueryEscape(p.ID) + "&k=" + url.QueryEscape(p.Key) +
		"&s=" + url.QueryEscape(p.Secret) + "&n=" + url.QueryEscape(p.SerialEnd)
}

// ParsePairURI reads what String wrote. Fields that it does not know are
// ignored; a version other than 1 is refused.
func ParsePairURI(s string) (PairURI, error) {
	const op = "account.pair"
	const hint = "Scan the label again."
	var p PairURI
	if len(s) > 1024 {
		return p, invalid(op, "That is too long to be a pairing code.", hint)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "yunbox" || u.Host != "pair" {
		return p, invalid(op, "That is not a pairing code.", hint)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return p, invalid(op, "That pairing code is garbled.", hint)
	}
	if q.Get("v") != "1" {
		return p, invalid(op, "That pairing code is of a newer kind.", "Update the app.")
	}
	p = PairURI{ID: q.Get("id"), Key: q.Get("k"), Secret: q.Get("s"), SerialEnd: q.Get("n")}
	key, err := base64.RawURLEncoding.Strict().DecodeString(p.Key)
	if err != nil || len(key) != 32 {
		return PairURI{}, invalid(op, "That pairing code has no fingerprint of the box's key.", hint)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(p.Secret)
	if err != nil || len(secret) != 16 {
		return PairURI{}, invalid(op, "That pairing code has no secret.", hint)
	}
	if len(p.ID) != 16 || strings.Trim(p.ID, "abcdefghijklmnopqrstuvwxyz234567") != "" ||
		len(p.SerialEnd) != 4 || strings.Trim(p.SerialEnd, ident.SerialAlphabet) != "" {
		return PairURI{}, invalid(op, "That pairing code is garbled.", hint)
	}
	return p, nil
}
