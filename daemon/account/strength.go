package account

import (
	_ "embed"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Strength is how well a password withstands somebody who guesses cleverly.
type Strength struct {
	// Score is 0 to 4: less than 10³, 10⁶, 10⁸, 10¹⁰ guesses, and more.
	Score int
	// Reason names the pattern that makes it weak: one of short, common, personal,
	// pattern, repeat, date; "" if none stands out.
	Reason string
}

// OK reports whether the box takes such a password.
func (s Strength) OK() bool { return s.Score >= 2 && s.Reason != "short" }

// PasswordStrength judges a password that somebody thinks of. What is built of words
// is as weak as them: give it the user name, the name of the box.
func (a *Accounts) PasswordStrength(password string, words ...string) Strength {
	return strengthOf(password, append(words, a.opt.Name, "yunbox")...)
}

// strengthOf counts the guesses of an attacker who knows the lists and patterns
// below, in the way of zxcvbn (Wheeler, USENIX Security 2016): the password is cut
// into the pieces that together take the fewest.
func strengthOf(password string, words ...string) Strength {
	p := normalPassword(password)
	if utf8.RuneCountInString(p) < minPassword {
		return Strength{Reason: "short"}
	}
	e := newEstimate(p, words)
	if common()[string(e.low)] {
		return Strength{Reason: "common"}
	}
	guesses, pieces := e.fewest()
	score := 0
	for _, limit := range []float64{3, 6, 8, 10} { // of log10(guesses)
		if guesses >= limit {
			score++
		}
	}
	if score > 2 {
		return Strength{Score: score}
	}
	// What covers most of it is what its owner should hear.
	longest, reason := 0, ""
	for _, m := range pieces {
		if n := m.end - m.start; n > longest {
			longest, reason = n, m.reason
		}
	}
	return Strength{Score: score, Reason: reason}
}

//go:embed words.txt
var guessWords string

// ranks gives each word its place in its list. It is built when somebody chooses a
// password, which is seldom.
var ranks = sync.OnceValue(func() map[string]int {
	m := map[string]int{}
	for _, list := range []string{commonPasswords, guessWords} {
		rank := 0
		for line := range strings.Lines(list) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			rank++
			if _, ok := m[line]; !ok {
				m[line] = rank
			}
		}
	}
	return m
})

const (
	maxJudged = 64 // characters; what follows only makes it stronger
	maxPiece  = 24 // characters of a word of the lists
	maxBlock  = 16 // characters of what is repeated
)

// rows are what fingers walk along on keyboards; each is tried backwards, too.
func rows() []string {
	return []string{
		"qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", "1234567890-=", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.",
		"qazwsxedcrfvtgbyhnujmikolp", "!@#$%^&*()", "7894561230", "147258369", "qweasdzxc", "qwertzuiop", "azertyuiop",
	}
}

// A piece of a password, and how many guesses it takes, as log10.
type piece struct {
	start, end int
	guesses    float64
	reason     string
}

type estimate struct {
	raw, low []rune // as typed, and in lower case
	own      []string
	memo     map[string]float64 // of repeated blocks
}

func newEstimate(p string, words []string) *estimate {
	raw := []rune(p)
	raw = raw[:min(len(raw), maxJudged)]
	e := &estimate{raw: raw, low: make([]rune, len(raw))}
	for i, r := range raw {
		e.low[i] = unicode.ToLower(r)
	}
	for _, w := range words {
		w = foldName(w)
		if w == "" || len(w) > maxLabel {
			continue
		}
		parts := append(strings.FieldsFunc(w, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }),
			w, strings.ReplaceAll(w, "-", ""), strings.ReplaceAll(w, " ", ""))
		for _, part := range parts {
			if utf8.RuneCountInString(part) >= 3 && !slices.Contains(e.own, part) {
				e.own = append(e.own, part)
			}
		}
	}
	return e
}

// fewest returns log10 of the guesses for the best way to cut the password, and its
// pieces. With n pieces it takes n! orders, and at least 10⁴ tries for each piece
// before the last.
func (e *estimate) fewest() (float64, []piece) {
	n := len(e.low)
	if n == 0 {
		return 0, nil
	}
	ending := make([][]piece, n+1)
	for _, m := range e.patterns() {
		ending[m.end] = append(ending[m.end], m)
	}
	type best struct {
		sum  float64
		last piece
	}
	at := make([][]best, n+1) // at[end][count]
	at[0] = []best{{}}
	for end := 1; end <= n; end++ {
		at[end] = make([]best, end+1)
		for c := range at[end] {
			at[end][c].sum = math.Inf(1)
		}
		put := func(m piece) {
			for c, b := range at[m.start] {
				if s := b.sum + m.guesses; s < at[end][c+1].sum {
					at[end][c+1] = best{s, m}
				}
			}
		}
		for _, m := range ending[end] {
			put(m)
		}
		for start := range end {
			put(piece{start: start, end: end, guesses: e.byForce(start, end)})
		}
	}
	total, count := math.Inf(1), 0
	orders := 0.0
	for c := 1; c <= n; c++ {
		orders += math.Log10(float64(c))
		if g := addLogs(at[n][c].sum+orders, 4*float64(c-1)); g < total {
			total, count = g, c
		}
	}
	var pieces []piece
	for end, c := n, count; c > 0; c-- {
		m := at[end][c].last
		pieces = append(pieces, m)
		end = m.start
	}
	return total, pieces
}

// addLogs is log10(10^a + 10^b).
func addLogs(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	return a + math.Log10(1+math.Pow(10, b-a))
}

// byForce is trying everything: ten guesses for a character, as zxcvbn counts, and
// a hundred where one is written by several keys.
func (e *estimate) byForce(start, end int) float64 {
	g := 0.0
	for _, r := range e.low[start:end] {
		if r < 0x80 {
			g++
		} else {
			g += 2
		}
	}
	if end-start == 1 {
		return max(g, math.Log10(11))
	}
	return max(g, math.Log10(51))
}

// patterns finds everything in the password that is quicker guessed than by force.
func (e *estimate) patterns() (list []piece) {
	add := func(start, end int, guesses float64, reason string) {
		list = append(list, piece{start, end, math.Log10(max(guesses, 1)), reason})
	}
	n := len(e.low)
	for start := range n {
		for end := start + 3; end <= min(n, start+maxPiece); end++ {
			if rank, own := e.word(start, end); rank > 0 {
				reason := "common"
				if own {
					reason = "personal"
				}
				add(start, end, float64(rank)*e.capitals(start, end), reason)
			}
		}
		e.runs(start, add)
		e.walks(start, add)
		e.dates(start, add)
		e.repeats(start, func(end int, guesses float64) {
			list = append(list, piece{start, end, guesses, "repeat"})
		})
	}
	return list
}

// word returns the rank of a piece in the lists, 0 if it is no word: as it stands,
// with digits and signs read as the letters that they stand for, or backwards.
func (e *estimate) word(start, end int) (rank int, own bool) {
	plain := string(e.low[start:end])
	forms := []string{plain}
	for _, one := range []rune{'i', 'l'} {
		if s := strings.Map(func(r rune) rune { return standsFor(r, one) }, plain); s != plain && !slices.Contains(forms, s) {
			forms = append(forms, s)
		}
	}
	back := []rune(plain)
	slices.Reverse(back)
	forms = append(forms, string(back))
	for i, f := range forms {
		factor := 1
		if i > 0 {
			factor = 4
		}
		if slices.Contains(e.own, f) {
			return factor, true
		}
		if r := ranks()[f]; r > 0 && (rank == 0 || r*factor < rank) {
			rank = r * factor
		}
	}
	return rank, false
}

func standsFor(r, one rune) rune {
	switch r {
	case '4', '@':
		return 'a'
	case '3':
		return 'e'
	case '0':
		return 'o'
	case '5', '$':
		return 's'
	case '7', '+':
		return 't'
	case '1', '!', '|':
		return one
	}
	return r
}

// capitals is how many ways of writing a piece large an attacker tries before this
// one: first letter, last letter, all of them, or some.
func (e *estimate) capitals(start, end int) float64 {
	upper := 0
	for i := start; i < end; i++ {
		if e.raw[i] != e.low[i] {
			upper++
		}
	}
	switch {
	case upper == 0:
		return 1
	case upper == end-start, upper == 1 && (e.raw[start] != e.low[start] || e.raw[end-1] != e.low[end-1]):
		return 2
	}
	return math.Pow(2, float64(min(upper, end-start-upper)+2))
}

// runs finds "abcdef", "987654" and what goes by other even steps.
func (e *estimate) runs(start int, add func(start, end int, guesses float64, reason string)) {
	if start+3 > len(e.low) {
		return
	}
	step := e.low[start+1] - e.low[start]
	if step == 0 || step < -3 || step > 3 {
		return
	}
	for end := start + 2; end <= len(e.low) && e.low[end-1]-e.low[end-2] == step; end++ {
		if end-start < 3 {
			continue
		}
		base := 26.0
		if strings.ContainsRune("a1z09", e.low[start]) {
			base = 4
		}
		if step != 1 {
			base *= 2
		}
		add(start, end, base*float64(end-start), "pattern")
	}
}

// walks finds rows of keys.
func (e *estimate) walks(start int, add func(start, end int, guesses float64, reason string)) {
	for _, row := range rows() {
		back := []rune(row)
		slices.Reverse(back)
		for _, keys := range []string{row, string(back)} {
			for end := start + 4; end <= len(e.low); end++ {
				if !strings.Contains(keys, string(e.low[start:end])) {
					break
				}
				add(start, end, 40*float64(end-start), "pattern")
			}
		}
	}
}

// dates finds years and days: 2024, 19990131, 310199.
func (e *estimate) dates(start int, add func(start, end int, guesses float64, reason string)) {
	for _, n := range []int{4, 6, 8} {
		if start+n > len(e.low) {
			break
		}
		s := string(e.low[start : start+n])
		if strings.Trim(s, "0123456789") != "" {
			continue
		}
		switch n {
		case 4:
			if s >= "1900" && s <= "2049" {
				add(start, start+n, 150, "date")
			}
		case 6:
			if isDate(s, "060102", "020106", "010206") {
				add(start, start+n, 365*100, "date")
			}
		case 8:
			if isDate(s, "20060102", "02012006", "01022006") && (s[:2] == "19" || s[:2] == "20" || s[4:6] == "19" || s[4:6] == "20") {
				add(start, start+n, 365*150*2, "date")
			}
		}
	}
}

func isDate(s string, layouts ...string) bool {
	return slices.ContainsFunc(layouts, func(l string) bool {
		_, err := time.Parse(l, s)
		return err == nil
	})
}

// repeats finds one block over and over: it takes the guesses of the block, times
// how often it stands there.
func (e *estimate) repeats(start int, add func(end int, guesses float64)) {
	n := len(e.low)
	for size := 1; size <= maxBlock && start+2*size <= n; size++ {
		times := 1
		for end := start + size; end+size <= n && slices.Equal(e.low[end:end+size], e.low[start:start+size]); end += size {
			times++
			if size*times >= 3 {
				add(end+size, e.block(start, start+size)+math.Log10(float64(times)))
			}
		}
	}
}

func (e *estimate) block(start, end int) float64 {
	key := string(e.low[start:end])
	if g, ok := e.memo[key]; ok {
		return g
	}
	if e.memo == nil {
		e.memo = map[string]float64{}
	}
	inner := &estimate{raw: e.raw[start:end], low: e.low[start:end], own: e.own, memo: e.memo}
	g, _ := inner.fewest()
	e.memo[key] = g
	return g
}
