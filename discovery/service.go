// Package discovery makes the box findable on the local network without any
// configuration: it announces it by multicast DNS (RFC 6762) and DNS-based
// service discovery (RFC 6763), follows the network as interfaces and addresses
// come and go, and finds other boxes.
//
// A box is announced as `_yunbox._tcp`, for apps, as `_https._tcp`, for browsers,
// as `_webdavs._tcp`, for file managers, and as `_ftp._tcp` where cameras may come.
// While it is unbound it is also in the subtype `_unbound._sub._yunbox._tcp`, so
// that an app can ask for new boxes only.
//
// What is announced is public: everyone on the network reads it and anyone may
// forge it. So it carries no full serial number, no address of the hardware, no
// owner and no version, and nothing in it is a reason to trust the box: that
// comes from the pinned key alone.
//
// The responder is our own, on github.com/miekg/dns: responder.go keeps names and
// times, query.go answers, conflict.go settles whose a name is, network.go holds
// the sockets. docs/decisions/0033-our-own-responder.md says why, and
// what github.com/grandcat/zeroconf is still used for: looking around (browse.go).
package discovery

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The DNS-SD names under which a box is announced.
const (
	ServiceBox     = "_yunbox._tcp"  // the box itself; iOS apps must declare it, so it never changes
	ServiceHTTPS   = "_https._tcp"   // its admin page
	ServiceWebDAV  = "_webdavs._tcp" // the files of its people, for file managers
	ServiceFTP     = "_ftp._tcp"     // where cameras send their photos, where that is on
	SubtypeUnbound = "_unbound._sub" // subtype of ServiceBox while the box has no owner (RFC 6763 § 7.1)

	domain = "local."
)

// State is what a box says about itself in the TXT record's key `st`.
type State string

// The states of a box.
const (
	Unbound     State = "u" // waits for its first owner
	Bound       State = "b" // has an owner
	Pairing     State = "p" // has an owner and lets a further person join just now
	Maintenance State = "m" // is being upgraded or repaired
)

// Service describes the box that is announced. The zero value of a field that is
// not marked as required leaves its TXT key out or takes the default.
type Service struct {
	// Name is the instance name that people see, in any script, for example
	// "Yunbox 7F3A". Required. It is cut to 63 bytes of UTF-8 (RFC 6763 § 4.1.1).
	Name string
	// Host is the first label of the host name of our own, for example
	// "yunbox-7f3a": letters, digits and hyphens. Required. It must not be the
	// operating system's name, which its own responder announces.
	Host string
	// Port of the HTTPS server, 1 to 65535. Required.
	Port int
	// ID is the box's public identifier: 80 bits of the hash of its key in base32,
	// 16 characters. Required.
	ID string
	// State of the box. Required.
	State State
	// Model of the hardware, for people: "md".
	Model string
	// SerialTail is the last four characters of the serial number. It tells new
	// boxes apart and is announced only while the box is Unbound.
	SerialTail string
	// API is the path of the API on Port; "/v1" if empty.
	API string
	// WebDAV is the path of the WebDAV server on Port; it is not announced if empty.
	WebDAV string
	// FTP is the port where cameras send their photos, 0 if there is none.
	FTP int
}

// Names are the names that the box wants to have.
func (s Service) Names() Names {
	return Names{Instance: numbered(ofInstance, s, 1), Host: numbered(ofHost, s, 1)}
}

// Text returns the TXT record of ServiceBox: its strings in the order in which
// they are announced, `txtvers` first (RFC 6763 § 6.7). It fails if a value does
// not fit the rules of RFC 6763 § 6.
func (s Service) Text() ([]string, error) {
	api := s.API
	if api == "" {
		api = "/v1"
	}
	pairs := []Pair{
		{"txtvers", "1"},
		{"id", s.ID},
		{"pv", "1"},
		{"api", api},
		{"st", string(s.State)},
	}
	if s.Model != "" {
		pairs = append(pairs, Pair{"md", s.Model})
	}
	if s.State == Unbound && s.SerialTail != "" {
		pairs = append(pairs, Pair{"sn4", s.SerialTail})
	}
	return Text(pairs...)
}

// check refuses a description that could not be announced as a whole.
func (s Service) check() error {
	if instanceName(s.Name) == "" {
		return errors.New("discovery: the instance name is empty")
	}
	if !validLabel(s.Host) {
		return fmt.Errorf("discovery: %q is not a host name label (letters, digits and hyphens, at most 63)", s.Host)
	}
	if s.Port < 1 || s.Port > 65535 {
		return fmt.Errorf("discovery: port %d is out of range", s.Port)
	}
	if s.FTP < 0 || s.FTP > 65535 {
		return fmt.Errorf("discovery: port %d is out of range", s.FTP)
	}
	if s.ID == "" {
		return errors.New("discovery: the box's id is empty")
	}
	switch s.State {
	case Unbound, Bound, Pairing, Maintenance:
	default:
		return fmt.Errorf("discovery: unknown state %q", s.State)
	}
	if s.SerialTail != "" && len(s.SerialTail) != 4 {
		return errors.New("discovery: of the serial number exactly the last four characters may be announced")
	}
	_, err := s.Text()
	return err
}

func validLabel(l string) bool {
	if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for _, c := range []byte(l) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// instanceName makes a user's wish announceable: valid UTF-8 without control
// characters (RFC 6763 § 4.1.1), no dots or spaces at its ends (libraries of clients
// cut through an escaped dot there), at most 63 bytes, cut between characters.
func instanceName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, ". ")
	for len(name) > 63 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return strings.TrimRight(name, ". ")
}

// escapeLabel writes one label in the presentation format of RFC 1035 § 5.1, in
// exactly the form that the DNS library gives to names it receives, so that the two
// can be compared.
func escapeLabel(label string) string {
	var b strings.Builder
	for _, c := range []byte(label) {
		switch {
		case strings.IndexByte(`. '@;()"\`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescapeLabel undoes escapeLabel; what is not a valid escape is kept as it is.
func unescapeLabel(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			if v := int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0'); v <= 255 {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
