package ingest

import (
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/problem"
)

// The range of modification times that every gateway takes: what 32 unsigned
// bits of seconds can hold. Cameras without a clock say 1970 or 1980, which is
// kept; anything outside is a mistake of the client.
const maxMTime = 1<<32 - 1 // 2106-02-07T06:28:15Z

// ParseMTime reads the modification time of a file as clients write it: RFC 3339,
// or Unix seconds with or without decimals (Nextcloud on iOS sends
// 1700000000.123). The result is in UTC, cut to milliseconds, and lies between
// 1970 and 2106; anything else is a *problem.Error of kind Invalid.
func ParseMTime(s string) (time.Time, error) {
	t, ok := parseUnixDecimal(s)
	if !ok {
		var err error
		if t, err = time.Parse(time.RFC3339, s); err != nil {
			return time.Time{}, badMTime("It is neither a date and time of RFC 3339 nor a number of seconds.")
		}
	}
	if t.Unix() < 0 || t.Unix() > maxMTime {
		return time.Time{}, badMTime("It lies before 1970 or after 2106.")
	}
	return t.UTC().Truncate(time.Millisecond), nil
}

// parseUnixDecimal reads digits, then perhaps a point and digits. It does not go
// through a floating-point number, which cannot hold today's time in
// nanoseconds.
func parseUnixDecimal(s string) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	var nanos int64
	if fraction != "" {
		digits := (fraction + "000000000")[:9]
		if nanos, err = strconv.ParseInt(digits, 10, 64); err != nil || strings.Trim(fraction, "0123456789") != "" {
			return time.Time{}, false
		}
	}
	if whole[0] == '-' {
		nanos = -nanos
	}
	return time.Unix(seconds, nanos), true
}

func badMTime(detail string) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "ingest.mtime", Title: "The modification time cannot be used", Detail: detail,
		Hint: "Send it like 2026-11-26T04:51:00Z or like 1795668660.5, or leave it out.",
	}
}
