package httpd

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"yunbox.local/daemon/problem"
)

// AnnouncedSHA256 returns the SHA-256 that the named integrity fields announce
// (RFC 9530 §2 and §3), or zeros when they announce none. Several fields of a
// request whose body is the whole file, without a content coding, speak of the
// same bytes and must agree. Errors are of the kind Invalid.
func AnnouncedSHA256(h http.Header, fields ...string) ([sha256.Size]byte, error) {
	var none, want [sha256.Size]byte
	for _, name := range fields {
		lines := h.Values(name)
		if len(lines) == 0 {
			continue
		}
		digests, ok := parseDigests(strings.Join(lines, ","))
		if !ok {
			return none, badDigest(name, "It is not a list like sha-256=:base64: (RFC 9530).")
		}
		sum, given := digests["sha-256"]
		if !given {
			continue // other algorithms may be ignored (RFC 9530 §2)
		}
		if len(sum) != len(want) {
			return none, badDigest(name, "The sha-256 value is not 32 bytes long.")
		}
		got := [sha256.Size]byte(sum)
		if want != none && want != got {
			return none, badDigest(name, strings.Join(fields, " and ")+" announce different content.")
		}
		want = got
	}
	return want, nil
}

func badDigest(header, detail string) error {
	return &problem.Error{
		Kind:   problem.Invalid,
		Op:     "httpd.digest",
		Title:  "The " + header + " header cannot be used",
		Detail: detail,
		Hint:   "Send " + header + ": sha-256=:<the SHA-256 of the file in base64>: or leave the header out.",
	}
}

// parseDigests reads a Dictionary Structured Field whose values are Byte
// Sequences (RFC 8941 §3.2, §3.3.5). Parameters are skipped; of two equal keys
// the later one counts, as the RFC has it.
func parseDigests(s string) (map[string][]byte, bool) {
	out := map[string][]byte{}
	p := fieldParser{rest: strings.Trim(s, " \t")}
	for p.rest != "" {
		key, ok := p.key()
		if !ok || !p.take('=') {
			return nil, false
		}
		value, ok := p.bytes()
		if !ok || !p.parameters() {
			return nil, false
		}
		out[key] = value
		p.space()
		if p.rest == "" {
			break
		}
		if !p.take(',') {
			return nil, false
		}
		p.space()
		if p.rest == "" {
			return nil, false // a trailing comma
		}
	}
	return out, len(out) > 0
}

// fieldParser walks over a structured field value.
type fieldParser struct{ rest string }

func (p *fieldParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *fieldParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// key reads lcalpha or "*", then lcalpha, DIGIT, "_", "-", "." and "*".
func (p *fieldParser) key() (string, bool) {
	n := 0
	for n < len(p.rest) {
		c := p.rest[n]
		first := 'a' <= c && c <= 'z' || c == '*'
		if !first && (n == 0 || !('0' <= c && c <= '9' || c == '_' || c == '-' || c == '.')) {
			break
		}
		n++
	}
	key := p.rest[:n]
	p.rest = p.rest[n:]
	return key, n > 0
}

func (p *fieldParser) bytes() ([]byte, bool) {
	if !p.take(':') {
		return nil, false
	}
	encoded, rest, closed := strings.Cut(p.rest, ":")
	if !closed {
		return nil, false
	}
	p.rest = rest
	value, err := base64.StdEncoding.DecodeString(encoded)
	return value, err == nil && !strings.ContainsAny(encoded, "\r\n")
}

// parameters skips *( ";" *SP key [ "=" bare-item ] ).
func (p *fieldParser) parameters() bool {
	for p.take(';') {
		p.rest = strings.TrimLeft(p.rest, " ")
		if _, ok := p.key(); !ok {
			return false
		}
		if p.take('=') && !p.bareItem() {
			return false
		}
	}
	return true
}

func (p *fieldParser) bareItem() bool {
	switch {
	case p.rest == "":
		return false
	case p.rest[0] == ':':
		_, ok := p.bytes()
		return ok
	case p.rest[0] == '"':
		return p.quoted()
	}
	n := strings.IndexAny(p.rest, ";, \t")
	if n < 0 {
		n = len(p.rest)
	}
	p.rest = p.rest[n:]
	return n > 0
}

func (p *fieldParser) quoted() bool {
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			p.rest = p.rest[i+1:]
			return true
		}
	}
	return false
}
