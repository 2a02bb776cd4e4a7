package source

import (
	"fmt"
	"strings"
	"time"
)

// A pattern is the beginning of a folded file name. Capital letters stand for
// what differs, everything else for itself:
//
//	Y M D     year (4 digits), month, day (2 digits each)
//	H I S     hour, minute, second (2 digits each); just three more digits after
//	          S are milliseconds
//	P         nothing, or one of - _ . and space
//	T E       Unix time: 13 digits of milliseconds, 10 of seconds
//	N         one digit or more
//	C         one digit
//	X         32 hex digits, what WeChat and QQ call a picture by
//	Z         the end of the name, or the dot before what remains of it
//
// A number that is a time ends where its digits end: "mmexport" and fourteen
// digits is no time.

// match holds a pattern against a folded name. timed: the name carries a time.
// A name whose time cannot be one does not match.
func match(pattern, name string) (c Capture, timed, ok bool) {
	var at [7]int64 // year, month, day, hour, minute, second, millisecond
	fields, s := 0, name
	for i := 0; i < len(pattern); i++ {
		n := 0
		switch token := pattern[i]; token {
		case 'Y':
			at[0], n = number(s, 4)
			fields++
		case 'M', 'D', 'H', 'I', 'S':
			k := strings.IndexByte("YMDHIS", token)
			at[k], n = number(s, 2)
			fields++
			if n > 0 && token == 'S' {
				switch rest := s[n:]; digits(rest) {
				case 0:
				case 3:
					ms, _ := number(rest, 3)
					at[6], n = ms, n+3
				default:
					return c, false, false
				}
			}
		case 'T', 'E':
			length, scale := 13, int64(1)
			if token == 'E' {
				length, scale = 10, 1000
			}
			if digits(s) != length {
				return c, false, false
			}
			at[6], n = number(s, length)
			c.Time = time.UnixMilli(at[6] * scale).UTC()
			fields = -1
		case 'P':
			if s != "" && strings.IndexByte("-_. ", s[0]) >= 0 {
				s = s[1:]
			}
			continue
		case 'N':
			n = digits(s)
		case 'C':
			_, n = number(s, 1)
		case 'X':
			n = hex(s)
		case 'Z':
			if s != "" && s[0] != '.' {
				return c, false, false
			}
			continue
		default:
			if s == "" || s[0] != token {
				return c, false, false
			}
			n = 1
		}
		if n == 0 {
			return c, false, false
		}
		s = s[n:]
	}
	if fields == 0 {
		return c, false, true
	}
	if fields > 0 {
		c.Local = true
		c.Time = time.Date(int(at[0]), time.Month(at[1]), int(at[2]), int(at[3]), int(at[4]), int(at[5]), int(at[6])*int(time.Millisecond), time.UTC)
		// A 13th month, a 60th minute would have moved on.
		sense := c.Time.Format("2006 01 02 15 04 05") == fmt.Sprintf("%04d %02d %02d %02d %02d %02d", at[0], at[1], at[2], at[3], at[4], at[5])
		if !sense {
			return Capture{}, false, false
		}
	}
	if c.Time.Before(oldest) || !c.Time.Before(newest) {
		return Capture{}, false, false
	}
	return c, fields < 0 || fields == 6, true // a day alone is no capture time
}

// number reads exactly n digits; the length is 0 if there are fewer.
func number(s string, n int) (v int64, length int) {
	if len(s) < n {
		return 0, 0
	}
	for i := range n {
		if s[i] < '0' || s[i] > '9' {
			return 0, 0
		}
		v = v*10 + int64(s[i]-'0')
	}
	return v, n
}

// digits counts the digits that s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// hex returns 32 if s begins with just as many hex digits, else 0.
func hex(s string) int {
	n := 0
	for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] >= 'a' && s[n] <= 'f') {
		n++
	}
	if n == 32 {
		return n
	}
	return 0
}

// compose writes a folded path in Unicode normal form C, as far as the tables
// have such letters: a Mac sends accents, Japanese voicing marks and the parts of
// Korean syllables as characters of their own.
func compose(s string) string {
	if !strings.ContainsFunc(s, combining) {
		return s
	}
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if n := len(out); n > 0 && combining(r) {
			if whole := join(out[n-1], r); whole != 0 {
				out[n-1] = whole
				continue
			}
		}
		out = append(out, r)
	}
	return string(out)
}

// combining says whether r may join the character before it.
func combining(r rune) bool {
	return r >= 0x0300 && r <= 0x036F || r == 0x3099 || r == 0x309A || r >= vowels && r < vowels+21 || r > trails && r < trails+28
}

// Korean syllables are computed (Unicode Standard, section 3.12).
const (
	leads, vowels, trails = 0x1100, 0x1161, 0x11A7
	syllables             = 0xAC00
)

func join(a, b rune) rune {
	switch {
	case a >= leads && a < leads+19 && b >= vowels && b < vowels+21:
		return syllables + ((a-leads)*21+(b-vowels))*28
	case a >= syllables && a < syllables+19*21*28 && (a-syllables)%28 == 0 && b > trails && b < trails+28:
		return a + b - trails
	}
	for _, p := range pairs {
		if p.base == a && p.mark == b {
			return p.whole
		}
	}
	return 0
}

// pairs are the accented letters that the tables use.
var pairs = []struct{ base, mark, whole rune }{
	{'e', 0x0301, 'é'}, {'a', 0x0301, 'á'}, {'i', 0x0301, 'í'}, {'o', 0x0301, 'ó'}, {'u', 0x0301, 'ú'},
	{'u', 0x0308, 'ü'}, {'o', 0x0308, 'ö'}, {'a', 0x0308, 'ä'}, {'e', 0x0300, 'è'}, {'a', 0x0303, 'ã'},
	{'タ', 0x3099, 'ダ'}, {'ト', 0x3099, 'ド'}, {'シ', 0x3099, 'ジ'}, {'и', 0x0306, 'й'},
}
