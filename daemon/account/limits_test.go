package account

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/crypto/argon2"

	"yunbox.local/daemon/ident"
)

func TestGuessingFromManyAddresses(t *testing.T) { // R34
	l := newLoginLimiter()
	now := time.Now()
	l.succeeded(now, "anna", "192.168.1.10") // she has been here before
	tried := 0
	// IPv6 gives an attacker as many addresses as he wants.
	for i := range 5000 {
		if _, ok := l.begin(now, "anna", fmt.Sprintf("fd00:1:2:3::%x", i+1)); ok {
			tried++
		}
	}
	if tried != 61 {
		t.Errorf("%d guesses from one network in no time, want the 60 for everybody and its own one", tried)
	}
	for range 5 {
		if _, ok := l.begin(now, "anna", "192.168.1.10"); !ok {
			t.Error("the owner is locked out where she always is")
		}
	}
	if _, ok := l.begin(now, "anna", "192.168.1.23"); !ok {
		t.Error("the owner is locked out of a new place")
	}
	for range 10 {
		now = now.Add(time.Hour)
		tried = 0
		for i := range 3600 {
			if _, ok := l.begin(now.Add(time.Duration(i)*time.Second), "anna", fmt.Sprintf("fd00:1:2:3::%x", i+9000)); ok {
				tried++
			}
		}
		if tried > 3600+120 {
			t.Errorf("%d guesses in an hour", tried)
		}
	}
}

func TestRefusedTriesCostNothing(t *testing.T) {
	l := newLoginLimiter()
	now := time.Now()
	for range 100 {
		l.begin(now, "anna", "10.0.0.1")
	}
	// Only the five that were compared count against the address.
	for i := range 5 {
		if _, ok := l.begin(now, "ben", "10.0.0.1"); !ok {
			t.Errorf("Ben's try %d is refused for what was not even tried", i+1)
		}
	}
	if _, ok := l.begin(now, "carl", "10.0.0.1"); ok {
		t.Error("the address has no limit")
	}
}

func TestFoldingIsStable(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) {
			continue
		}
		folded := foldName(string(r))
		if again := foldName(folded); again != folded {
			t.Errorf("%U folds to %+q, and that to %+q", r, folded, again)
		}
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			if got := foldName(string(other)); got != folded {
				t.Errorf("%U folds to %+q, its other case %U to %+q", r, folded, other, got)
			}
		}
	}
}

func TestRefusalsCannotFillTheDisk(t *testing.T) { // R34
	r := newRefusalRecord()
	now := time.Now()
	written, told := 0, int64(0)
	for i := range 100_000 {
		if skipped, ok := r.begin(now.Add(time.Duration(i) * time.Second / 10)); ok {
			written++
			told += skipped
		}
	}
	if limit := 20 + 100_000/600 + 1; written > limit || written < 100 {
		t.Errorf("%d entries for 100,000 refusals in three hours, want at most %d", written, limit)
	}
	if missing := 100_000 - int64(written) - told; missing < 0 || missing > 700 {
		t.Errorf("%d refusals are in no entry's count", missing)
	}
}

func TestThrottle(t *testing.T) {
	th := NewThrottle(10*time.Second, 3, 2)
	now := time.Now()
	take := func(key string, want bool) {
		t.Helper()
		if wait, ok := th.Take(now, key); ok != want || !ok && (wait <= 0 || wait > 11*time.Second) {
			t.Errorf("%s: %v, wait %v", key, ok, wait)
		}
	}
	for range 3 {
		take("a", true)
	}
	take("a", false)
	take("b", true)
	now = now.Add(10 * time.Second)
	take("a", true)
	take("a", false)
	th.Give(now, "a")
	take("a", true)
	for range 10 {
		th.Give(now, "a")
	}
	for range 3 {
		take("a", true)
	}
	take("a", false) // giving back never exceeds the burst
	now = now.Add(-time.Hour)
	take("a", false) // a clock that goes back fills nothing
	th.Take(now, "b")
	th.Take(now, "c") // only two keys are kept: a is forgotten
	if n := len(th.buckets.at); n != 2 || th.buckets.order.Len() != 2 {
		t.Errorf("%d keys", n)
	}
}

func TestCacheKeepsNoStaleAnswer(t *testing.T) {
	c := newCache(4)
	_, _, before := c.get([32]byte{1})
	c.forget(func(ident.Principal) bool { return true }) // the revocation
	c.put([32]byte{1}, entry{}, before)                  // what was read before it
	if _, ok, _ := c.get([32]byte{1}); ok {
		t.Error("what was read before the revocation is kept after it")
	}
	for i := range 100 {
		_, _, g := c.get([32]byte{byte(i)})
		c.put([32]byte{byte(i)}, entry{}, g)
	}
	if len(c.entries) != 4 {
		t.Errorf("%d entries", len(c.entries))
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add(phc{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, 16), key: make([]byte, 32)}.String())
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.memory > 64*1024 || p.time > 16 || len(p.salt) > 64 || len(p.key) > 64 {
			t.Errorf("%q asks for %+v", s, p)
		}
		if again, err := parsePHC(p.String()); err != nil || again.String() != p.String() {
			t.Errorf("%q is written as %q, %v", s, p, err)
		}
	})
}

// The string that the reference implementation's command line gives for
// `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -e`, from its
// test vectors.
func TestPHCOfTheReferenceImplementation(t *testing.T) {
	const vector = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	p, err := parsePHC(vector)
	if err != nil {
		t.Fatal(err)
	}
	if p.String() != vector {
		t.Errorf("written as %q", p)
	}
	key := argon2.IDKey([]byte("password"), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	if string(key) != string(p.key) {
		t.Error("the password of the vector does not fit")
	}
	if !p.outdated() || strings.Contains(newHasher(0).dummy.String(), "m=65536") {
		t.Error("other parameters than ours are not noticed")
	}
}
