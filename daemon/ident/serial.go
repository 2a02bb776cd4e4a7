package ident

import "strings"

// SerialAlphabet is Crockford's base 32: no I, L, O and U.
const SerialAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// SerialCheck is Luhn's algorithm modulo 32: it finds every single wrong
// character and nearly every pair that changed places.
func SerialCheck(s string) byte {
	const n = len(SerialAlphabet)
	sum, factor := 0, 2
	for i := len(s) - 1; i >= 0; i-- {
		v := factor * strings.IndexByte(SerialAlphabet, s[i])
		sum += v/n + v%n
		factor = 3 - factor
	}
	return SerialAlphabet[(n-sum%n)%n]
}

// ParseSerial reads a serial number as a person types it: any case, with or
// without hyphens and spaces, O for 0 and I or L for 1. It returns the form on
// the label.
func ParseSerial(s string) (string, bool) {
	if len(s) > 64 {
		return "", false
	}
	s = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(s))
	if len(s) != 12 || strings.Trim(s, SerialAlphabet) != "" || SerialCheck(s[:11]) != s[11] {
		return "", false
	}
	return s[:4] + "-" + s[4:8] + "-" + s[8:], true
}

// ParseCode reads a verification code as a person types it.
func ParseCode(s string) (string, bool) {
	if len(s) > 64 {
		return "", false
	}
	s = strings.NewReplacer("-", "", " ", "").Replace(s)
	return s, len(s) == 8 && strings.Trim(s, "0123456789") == ""
}
