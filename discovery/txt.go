package discovery

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a TXT record (RFC 6763 § 6.1, 6.2 and 6.4).
const (
	maxKey    = 9   // characters of a key
	maxString = 255 // bytes of "key=value"
	maxText   = 400 // bytes of the whole record; 200 are wanted, 400 still fit one packet with the rest
)

// Pair is one key and its value in a TXT record. The value may hold any bytes.
type Pair struct{ Key, Value string }

// Text builds the strings of a TXT record in the given order. It refuses keys that
// are longer than nine characters, not printable ASCII, or repeated in any case,
// and records that are too long. Without pairs it returns one empty string: a TXT
// record is never empty (RFC 6763 § 6.1).
func Text(pairs ...Pair) ([]string, error) {
	if len(pairs) == 0 {
		return []string{""}, nil
	}
	total, seen := 0, make(map[string]bool, len(pairs))
	text := make([]string, 0, len(pairs))
	for i, p := range pairs {
		if p.Key == "" || len(p.Key) > maxKey {
			return nil, fmt.Errorf("discovery: TXT key %q must have 1 to %d characters", p.Key, maxKey)
		}
		for _, c := range []byte(p.Key) {
			if c < 0x20 || c > 0x7E || c == '=' {
				return nil, fmt.Errorf("discovery: TXT key %q must be printable ASCII without '='", p.Key)
			}
		}
		folded := strings.ToLower(p.Key)
		if seen[folded] {
			return nil, fmt.Errorf("discovery: TXT key %q is there twice", p.Key)
		}
		seen[folded] = true
		if folded == "txtvers" && i != 0 {
			return nil, errors.New("discovery: TXT key txtvers must come first")
		}
		s := p.Key + "=" + p.Value
		if len(s) > maxString {
			return nil, fmt.Errorf("discovery: the value of TXT key %q is too long", p.Key)
		}
		total += 1 + len(s)
		text = append(text, s)
	}
	if total > maxText {
		return nil, fmt.Errorf("discovery: the TXT record would have %d bytes, %d are allowed", total, maxText)
	}
	return text, nil
}

// parseText reads the strings of a received TXT record: the first of equal keys
// counts, strings without a key are ignored (RFC 6763 § 6.4).
func parseText(text []string) map[string]string {
	m := make(map[string]string, len(text))
	for _, s := range text {
		k, v, _ := strings.Cut(s, "=")
		k = strings.ToLower(k)
		if k == "" {
			continue
		}
		if _, ok := m[k]; !ok {
			m[k] = v
		}
	}
	return m
}
