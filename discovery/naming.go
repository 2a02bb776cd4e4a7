package discovery

import (
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	ofHost     = 0
	ofInstance = 1

	stormSize = 15               // conflicts make a storm (RFC 6762 § 8.1)
	stormTime = 10 * time.Second // if they come within this time

	disturbedTime = time.Minute // after trouble, for which that may be why the box is not found
)

// naming is what the box wants to be called, and what it takes where others have that.
type naming struct {
	service Service
	number  [2]int      // of the host and the instance: 1 is the wanted name, 2 adds " (2)" or "-2"
	kept    [2]int      // the number that was held when the box ran last; 0: none
	recent  []time.Time // the latest conflicts
	trouble time.Time   // when others last gave any: see Status.Disturbed
}

func newNaming(s Service, kept Names) naming {
	return naming{
		service: s, number: [2]int{1, 1},
		kept: [2]int{numberOf(ofHost, s, kept.Host), numberOf(ofInstance, s, kept.Instance)},
	}
}

// names are the names now claimed.
func (n *naming) names() Names {
	return Names{Instance: numbered(ofInstance, n.service, n.number[ofInstance]), Host: numbered(ofHost, n.service, n.number[ofHost])}
}

// describe takes another description, and reports which names are others: they begin
// with the wanted one.
func (n *naming) describe(s Service) (fresh [2]bool) {
	fresh[ofHost] = fold(n.service.Host) != fold(s.Host)
	fresh[ofInstance] = instanceName(n.service.Name) != instanceName(s.Name)
	for which, f := range fresh {
		if f {
			n.number[which], n.kept[which] = 1, 0
		}
	}
	n.service = s
	return fresh
}

// lose takes the next name in place of those that somebody else has.
func (n *naming) lose(lost [2]bool) {
	for which := range lost {
		switch {
		case !lost[which]:
		case n.number[which] == 1 && n.kept[which] > 1:
			n.number[which] = n.kept[which] // the name it had when it ran last
		default:
			n.number[which]++
		}
	}
}

// conflict remembers one, and reports whether there was a storm of them.
func (n *naming) conflict(now time.Time) (storm bool) {
	if len(n.recent) == stormSize {
		n.recent = n.recent[1:]
	}
	n.recent = append(n.recent, now)
	n.trouble = now
	return len(n.recent) == stormSize && now.Sub(n.recent[0]) < stormTime
}

func (n *naming) disturbed(now time.Time) bool {
	return !n.trouble.IsZero() && now.Sub(n.trouble) < disturbedTime
}

// numbered makes the n-th name out of the wanted one (§ 9, and appendix D of RFC 6763).
func numbered(which int, s Service, n int) string {
	name, suffix, most := instanceName(s.Name), " ("+strconv.Itoa(n)+")", 63
	if which == ofHost {
		name, suffix = fold(s.Host), "-"+strconv.Itoa(n)
	}
	if n < 2 {
		return name
	}
	for len(name) > most-len(suffix) {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name + suffix
}

// numberOf is the inverse of numbered; 0 if it is not one of its names.
func numberOf(which int, s Service, name string) int {
	digits := name
	for len(digits) > 0 && !isDigit(digits[len(digits)-1]) {
		digits = digits[:len(digits)-1]
	}
	start := len(digits)
	for start > 0 && isDigit(digits[start-1]) {
		start--
	}
	if n, err := strconv.Atoi(digits[start:]); err == nil && n >= 2 && numbered(which, s, n) == name {
		return n
	}
	return 0
}
