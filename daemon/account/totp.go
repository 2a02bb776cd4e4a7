package account

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash"
	"net/url"
	"strings"
	"time"
)

// The parameters that every authenticator app knows (RFC 6238 with the key of RFC
// 4226 §4, R6: 160 bits). Apps ignore others, or refuse them.
const (
	totpPeriod = 30 * time.Second
	totpDigits = 6
	totpSecret = 20 // bytes
	totpSkew   = 1  // steps by which the clocks may differ, either way (RFC 6238 §5.2)
)

// hotp is the code of a counter (RFC 4226 §5.3): with the time step as counter it
// is that of RFC 6238. digits is at most 9.
func hotp(h func() hash.Hash, key []byte, counter uint64, digits int) string {
	mac := hmac.New(h, key)
	var c [8]byte
	binary.BigEndian.PutUint64(c[:], counter)
	mac.Write(c[:])
	sum := mac.Sum(nil)
	off := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[off:]) & 0x7fffffff
	modulo := uint32(1)
	for range digits {
		modulo *= 10
	}
	return fmt.Sprintf("%0*d", digits, n%modulo)
}

func totpStep(now time.Time) int64 { return now.Unix() / int64(totpPeriod/time.Second) }

// totpMatch returns the time step within skew steps of now of which code is the
// code. All of them are computed, whichever it is.
func totpMatch(secret []byte, code string, now time.Time, skew int64) (step int64, ok bool) {
	at := totpStep(now)
	for s := at - skew; s <= at+skew; s++ {
		if s >= 0 && subtle.ConstantTimeCompare([]byte(hotp(sha1.New, secret, uint64(s), totpDigits)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}

// cleanCode is a code as a person may have typed it, without spaces and hyphens and
// with full-width digits made plain.
func cleanCode(code string) string {
	if len(code) > 128 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\t' {
			return -1
		}
		return r
	}, normalPassword(code))
}

func isTOTP(code string) bool {
	return len(code) == totpDigits && strings.Trim(code, "0123456789") == ""
}

var base32Plain = base32.StdEncoding.WithPadding(base32.NoPadding)

// totpURI is what the QR code for the authenticator says (the "Key Uri Format" of
// Google Authenticator, which the others read too).
func totpURI(issuer, name string, secret []byte) string {
	label := url.PathEscape(issuer) + ":" + url.PathEscape(name)
	// Spaces as %20: some apps show the + of a query.
	query := strings.ReplaceAll(url.Values{
		"secret": {base32Plain.EncodeToString(secret)}, "issuer": {issuer},
		"algorithm": {"SHA1"}, "digits": {fmt.Sprint(totpDigits)}, "period": {fmt.Sprint(int(totpPeriod / time.Second))},
	}.Encode(), "+", "%20")
	return "otpauth://totp/" + label + "?" + query
}
