package account

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"yunbox.local/storage/vfs"
)

// RFC 4226, Appendix D.
func TestHOTPVectors(t *testing.T) {
	key := []byte("12345678901234567890")
	for counter, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := hotp(sha1.New, key, uint64(counter), 6); got != want {
			t.Errorf("counter %d: %s, want %s", counter, got, want)
		}
	}
}

// RFC 6238, Appendix B; with the keys of the lengths that its erratum 2866 gives.
func TestTOTPVectors(t *testing.T) { // R34
	const digits = "1234567890"
	modes := []struct {
		h   func() hash.Hash
		key []byte
	}{
		{sha1.New, []byte(strings.Repeat(digits, 2))}, {sha256.New, []byte(strings.Repeat(digits, 4)[:32])}, {sha512.New, []byte(strings.Repeat(digits, 7)[:64])},
	}
	for seconds, want := range map[int64][3]string{
		59:          {"94287082", "46119246", "90693936"},
		1111111109:  {"07081804", "68084774", "25091201"},
		1111111111:  {"14050471", "67062674", "99943326"},
		1234567890:  {"89005924", "91819424", "93441116"},
		2000000000:  {"69279037", "90698825", "38618901"},
		20000000000: {"65353130", "77737706", "47863826"},
	} {
		for i, m := range modes {
			step := totpStep(time.Unix(seconds, 0))
			if got := hotp(m.h, m.key, uint64(step), 8); got != want[i] {
				t.Errorf("at %d, mode %d: %s, want %s", seconds, i, got, want[i])
			}
		}
	}
}

func TestClocksMayDifferByOneStep(t *testing.T) {
	key, now := []byte("12345678901234567890"), time.Unix(1111111111, 0)
	at := totpStep(now)
	for d := int64(-3); d <= 3; d++ {
		step, ok := totpMatch(key, hotp(sha1.New, key, uint64(at+d), 6), now, totpSkew)
		if want := d >= -1 && d <= 1; ok != want || ok && step != at+d {
			t.Errorf("%d steps away: %v, step %d", d, ok, step-at)
		}
	}
	if _, ok := totpMatch(key, "000000", time.Unix(0, 0), totpSkew); ok {
		t.Error("a code before 1970")
	}
}

func TestCodesAsTheyAreTyped(t *testing.T) {
	for typed, want := range map[string]string{
		"123456": "123456", "123 456": "123456", " 123-456\t": "123456", "１２３４５６": "123456", "": "", strings.Repeat("1", 200): "",
	} {
		if got := cleanCode(typed); got != want {
			t.Errorf("%q is read as %q", typed, got)
		}
	}
	for code, want := range map[string]bool{"123456": true, "12345": false, "1234567": false, "12345a": false, "": false, "١٢٣٤٥٦": false} {
		if isTOTP(code) != want {
			t.Errorf("%q", code)
		}
	}
}

func TestOTPAuthURI(t *testing.T) {
	uri := totpURI("Yunbox 7F3A", "王 小明@home", []byte("12345678901234567890"))
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Yunbox 7F3A:王 小明@home" {
		t.Fatalf("%s: %v", uri, err)
	}
	q := u.Query()
	if q.Get("secret") != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" || q.Get("issuer") != "Yunbox 7F3A" || q.Get("digits") != "6" || q.Get("period") != "30" || q.Get("algorithm") != "SHA1" {
		t.Error(uri)
	}
	if strings.Contains(uri, "+") {
		t.Errorf("some apps show a plus: %s", uri)
	}
}

func TestSealedSecretsAreBoundToTheirPlace(t *testing.T) { // R32
	s, other := testSealer(t), testSealer(t)
	plain := []byte("12345678901234567890")
	sealed := s.seal(plain, secretColumn, 7)
	if bytes.Contains(sealed, plain) || bytes.Equal(sealed, s.seal(plain, secretColumn, 7)) {
		t.Error("it is not encrypted, or always the same")
	}
	if got, err := s.open(sealed, secretColumn, 7); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q, %v", got, err)
	}
	for what, err := range map[string]error{
		"another person": second(s.open(sealed, secretColumn, 8)),
		"another column": second(s.open(sealed, pendingColumn, 7)),
		"another key":    second(other.open(sealed, secretColumn, 7)),
		"nothing":        second(s.open(nil, secretColumn, 7)),
		"too short":      second(s.open(sealed[:12], secretColumn, 7)),
	} {
		if err == nil {
			t.Errorf("it opens for %s", what)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.open(changed, secretColumn, 7); err == nil {
			t.Errorf("byte %d was changed, and it opens", i)
		}
	}
}

func second(_ []byte, err error) error { return err }

func testSealer(t *testing.T) *sealer {
	t.Helper()
	return sealerIn(t, tempKeys(t))
}

func sealerIn(t *testing.T, keys vfs.FS) *sealer {
	t.Helper()
	s, err := openSealer(keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheKeyOfSecretsIsKeptTwice(t *testing.T) {
	keys := tempKeys(t)
	sealed := sealerIn(t, keys).seal([]byte("secret"), secretColumn, 7)
	opens := func() bool {
		_, err := sealerIn(t, keys).open(sealed, secretColumn, 7)
		return err == nil
	}
	for _, name := range []string{secretsName, secretsCopy, secretsName} {
		for what, spoil := range map[string]func() error{
			"gone": func() error { return keys.Remove(name) },
			"half": func() error { return vfs.WriteFile(keys, name, []byte(`{"version":1,"ke`), 0o400) },
			"none": func() error { return vfs.WriteFile(keys, name, []byte(`{"version":1,"key":"AAAA"}`), 0o400) },
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			for start := range 2 { // the second one with what the first has mended
				if !opens() {
					t.Errorf("%s: %s, start %d", name, what, start)
				}
			}
		}
	}
	if err := vfs.WriteFile(keys, secretsName, []byte(`{"version":2}`), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := openSealer(keys, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file of a newer version is taken, or lost")
	}
	for _, name := range []string{secretsName, secretsCopy} {
		if err := keys.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if opens() {
		t.Error("another key opens it")
	}
}

func TestStrengthOfPasswords(t *testing.T) { // R36
	for p, want := range map[string]Strength{
		"seven77":       {0, "short"},
		"woaini1314":    {0, "common"},
		"iloveyou2":     {1, "common"},
		"P@ssw0rd1":     {1, "common"},
		"daisy1987":     {1, "common"},
		"Summer2024":    {1, "common"},
		"qwertz123":     {1, "pattern"},
		"abcabcabcabc":  {0, "repeat"},
		"aaaaaaaaa":     {0, "repeat"},
		"19870412":      {1, "date"},
		"anna1990":      {1, "date"},
		"annaanna1":     {1, "repeat"},
		"7f3a7f3a!":     {1, "repeat"},
		"yunbox7f3a":    {0, "personal"},
		"x7!Kq2#p":      {3, ""},
		"correct horse": {4, ""},
		"我爱北京天安门的花":     {4, ""},
	} {
		if got := strengthOf(p, "Anna", "Yunbox 7F3A", "yunbox"); got != want && !(want.Score > 2 && got.Score > 2) {
			t.Errorf("%s: %+v, want %+v", p, got, want)
		}
	}
	// The name of one is no name of others.
	if a, b := strengthOf("zaphodbb42", "zaphodbb"), strengthOf("zaphodbb42"); a.OK() || !b.OK() {
		t.Errorf("%+v, %+v", a, b)
	}
	for _, p := range []string{strings.Repeat("a", 1000), strings.Repeat("ab3!", 250), strings.Repeat("12", 500)} {
		if s := strengthOf(p); s.OK() {
			t.Errorf("%.20s…: %+v", p, s)
		}
	}
}

func FuzzStrength(f *testing.F) {
	for _, s := range []string{"password", "aaaaaaaaaaaa", "\xff\xfe", "ǅ🙂🙂🙂", "20240230", "1234567890-=", ""} {
		f.Add(s, "anna")
	}
	f.Fuzz(func(t *testing.T, password, name string) {
		s := strengthOf(password, name)
		if s.Score < 0 || s.Score > 4 || s.Score > 2 && s.Reason != "" {
			t.Errorf("%+v", s)
		}
		if strengthOf(password, name) != s {
			t.Error("another time it is another strength")
		}
	})
}
