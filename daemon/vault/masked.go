package vault

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"unicode/utf8"

	"yunbox.local/daemon/db"
)

// A Witness is the proof that the showing of something was recorded. The zero Witness
// is refused.
type Witness struct{ recorded bool }

// Recorded calls record, which writes into the audit record within tx whose values are
// shown to whom, and returns what Reveal asks for.
func Recorded(tx *db.Tx, record func(*db.Tx) error) (Witness, error) {
	if err := record(tx); err != nil {
		return Witness{}, err
	}
	return Witness{true}, nil
}

// hidden is a value that prints masked. It is embedded in the types below, so that
// nothing but Reveal gives the value away: not fmt, a log, or JSON.
type hidden struct {
	plain *string // fmt follows no pointer where it may call no method: in a field with a small letter
	mask  string
}

func hide(plain, mask string) hidden { return hidden{&plain, mask} }

// Format implements fmt.Formatter: the masked form, whatever the verb.
func (h hidden) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", h.mask)
		return
	}
	io.WriteString(f, h.mask)
}

// String returns the masked form.
func (h hidden) String() string { return h.mask }

// LogValue implements slog.LogValuer: the masked form.
func (h hidden) LogValue() slog.Value { return slog.StringValue(h.mask) }

// MarshalJSON implements json.Marshaler: the masked form.
func (h hidden) MarshalJSON() ([]byte, error) { return json.Marshal(h.mask) }

// MarshalText implements encoding.TextMarshaler: the masked form.
func (h hidden) MarshalText() ([]byte, error) { return []byte(h.mask), nil }

// IsZero reports whether there is no value.
func (h hidden) IsZero() bool { return h.plain == nil || *h.plain == "" }

// Reveal returns the value itself, to its owner who asked for it. Without a Witness it
// stays masked.
func (h hidden) Reveal(w Witness) string {
	if !w.recorded || h.plain == nil {
		return h.mask
	}
	return *h.plain
}

// A Phone is a telephone number: "138****5678".
type Phone struct{ hidden }

// NewPhone returns the number as a value that prints masked.
func NewPhone(s string) Phone { return Phone{hide(s, maskPhone(s))} }

// An Email is an address of electronic mail: "a***@example.com".
type Email struct{ hidden }

// NewEmail returns the address as a value that prints masked.
func NewEmail(s string) Email { return Email{hide(s, maskEmail(s))} }

// A Serial is the serial number of a device: "****-****-9KMD".
type Serial struct{ hidden }

// NewSerial returns the number as a value that prints masked.
func NewSerial(s string) Serial { return Serial{hide(s, maskSerial(s))} }

// A Code is something that opens a door: "********".
type Code struct{ hidden }

// NewCode returns the code as a value that prints masked.
func NewCode(s string) Code { return Code{hide(s, stars(s, 8))} }

// A Place is where somebody lives or was: "***".
type Place struct{ hidden }

// NewPlace returns the place as a value that prints masked.
func NewPlace(s string) Place { return Place{hide(s, stars(s, 3))} }

// A Name is what somebody is called beside their user name: "A***".
type Name struct{ hidden }

// NewName returns the name as a value that prints masked.
func NewName(s string) Name { return Name{hide(s, maskName(s))} }

// An Address is one of the network: "192.168.1.*".
type Address struct{ hidden }

// NewAddress returns the address as a value that prints masked.
func NewAddress(s string) Address { return Address{hide(s, maskAddress(s))} }

func stars(s string, n int) string {
	if s == "" {
		return ""
	}
	return strings.Repeat("*", n)
}

// maskPhone leaves the first three and the last four digits of a long number, the last
// two of a shorter one, and the country's code.
func maskPhone(s string) string {
	var digits []int // their places
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			digits = append(digits, i)
		}
	}
	head, tail := 0, 0
	switch n := len(digits); {
	case n >= 11:
		head, tail = n-8, 4
	case n >= 8:
		head, tail = n-6, 2
	case n >= 5:
		tail = 2
	}
	out := []byte(s)
	for i := range out {
		if out[i] > 0x7f {
			return stars(s, 8)
		}
	}
	for i, at := range digits {
		if i >= head && i < len(digits)-tail {
			out[at] = '*'
		}
	}
	return string(out)
}

func maskEmail(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 {
		return stars(s, 3)
	}
	local, domain := s[:at], s[at:]
	if utf8.RuneCountInString(local) < 3 {
		return "***" + domain
	}
	_, n := utf8.DecodeRuneInString(local)
	return local[:n] + "***" + domain
}

func maskSerial(s string) string {
	if len(s) < 8 {
		return stars(s, 4)
	}
	out := []byte(s)
	for i := range len(out) - 4 {
		if out[i] != '-' {
			out[i] = '*'
		}
	}
	return string(out)
}

func maskName(s string) string {
	if utf8.RuneCountInString(s) < 2 {
		return stars(s, 3)
	}
	_, n := utf8.DecodeRuneInString(s)
	return s[:n] + "***"
}

// maskAddress leaves the network: 24 bits of IPv4, 48 of IPv6.
func maskAddress(s string) string {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return stars(s, 3)
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		b := ip.As4()
		b[3] = 0
		return strings.TrimSuffix(netip.AddrFrom4(b).String(), "0") + "*"
	}
	p, err := ip.Prefix(48)
	if err != nil {
		return stars(s, 3)
	}
	return p.Masked().Addr().String() + "*"
}
