package account

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	maxUsername = 64 // characters
	maxName     = 64 // characters of the name of a device or an app token
	// maxLabel is the size in bytes of any name, far above what its characters need.
	maxLabel    = 256
	minPassword = 8    // characters (NIST SP 800-63B §5.1.1.2, OWASP ASVS 5.0 6.2.1)
	maxPassword = 1024 // bytes
)

// Username checks a user name and returns it as its owner wrote it (NFC) and
// folded as sign-in compares it: NFKC with case removed, so that "Anna", "ANNA"
// and full-width "Ａnna" are one person. Letters, marks and digits of any script
// are allowed and . _ - @ + ' and single spaces within; a name begins with a
// letter or a digit. What is not allowed cannot reach a path, a header, a Basic
// credential (RFC 7617 §2 forbids the colon) or a terminal.
func Username(s string) (shown, folded string, err error) {
	const op = "account.username"
	if s == "" {
		return "", "", invalid(op, "The user name is missing.", "Choose a user name.")
	}
	if len(s) > 4*maxLabel || !utf8.ValidString(s) {
		return "", "", invalid(op, "The user name is too long or not valid UTF-8.", "Choose a user name of at most 64 characters.")
	}
	shown, folded = norm.NFC.String(s), foldName(s)
	for _, form := range []string{shown, folded} {
		if utf8.RuneCountInString(form) > maxUsername || len(form) > maxLabel {
			return "", "", invalid(op, "The user name is too long.", "Choose a user name of at most 64 characters.")
		}
		if strings.Contains(form, "  ") || strings.HasSuffix(form, " ") || strings.HasSuffix(form, ".") {
			return "", "", invalid(op, "The user name ends with a space or a full stop, or has two spaces in a row.",
				"Choose a user name without them.")
		}
		for i, r := range form {
			word := unicode.IsLetter(r) || unicode.IsDigit(r)
			if i == 0 && !word {
				return "", "", invalid(op, "The user name does not begin with a letter or a digit.", "Let it begin with one.")
			}
			if !word && !unicode.IsMark(r) && !strings.ContainsRune("._-@+' ", r) {
				return "", "", invalid(op, "The user name has a character that is not allowed.",
					"Use letters and digits of any script, and . _ - @ + ' or single spaces between them.")
			}
		}
	}
	return shown, folded, nil
}

// foldName is NFKC_Casefold without the removal of ignorable characters, which
// Username refuses. Lower case comes last because x/text swaps the cases of
// Cherokee when it folds them.
func foldName(s string) string {
	return norm.NFKC.String(strings.ToLower(cases.Fold().String(norm.NFKC.String(s))))
}

// displayName checks the name of a device or an app token.
func displayName(op, what, s string) (string, error) {
	s = norm.NFC.String(strings.TrimSpace(s))
	if s == "" {
		return "", invalid(op, "The "+what+" has no name.", "Give it a name by which you will know it.")
	}
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxName || len(s) > maxLabel {
		return "", invalid(op, "The name of the "+what+" is too long or not valid UTF-8.", "Use at most 64 characters.")
	}
	for _, r := range s {
		// Cf holds the bidirectional overrides, but also the joiners that emoji and
		// several scripts are written with.
		if !unicode.IsGraphic(r) && r != '\u200c' && r != '\u200d' {
			return "", invalid(op, "The name of the "+what+" has an invisible character.", "Use visible characters only.")
		}
	}
	return s, nil
}

// normalPassword makes the same password typed on two keyboards the same bytes
// (NIST SP 800-63B §5.1.1.2).
func normalPassword(s string) string { return norm.NFKC.String(s) }

//go:embed passwords.txt
var commonPasswords string

// common holds the passwords that are tried first everywhere. It is built when
// somebody chooses a password, which is seldom.
var common = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(commonPasswords) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			m[line] = true
		}
	}
	return m
})

// checkPassword judges a new password: long enough, and not among the first million
// that somebody tries who knows the given words. It asks for no mixture of
// character classes, which only makes passwords worse.
func checkPassword(op, password string, words ...string) error {
	if len(password) > maxPassword {
		return invalid(op, "The password is longer than 1,024 bytes.", "Choose a shorter one.")
	}
	if !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		return invalid(op, "The password has a control character or is not valid UTF-8.", "Choose one that can be typed.")
	}
	s := strengthOf(password, words...)
	if s.OK() {
		return nil
	}
	detail := "That password is among the first that an attacker tries."
	switch s.Reason {
	case "short":
		return invalid(op, "The password is shorter than 8 characters.", "Take a few words that you remember: long is better than complicated.")
	case "personal":
		detail = "The password is little more than your name or that of the box."
	case "pattern":
		detail = "The password follows the keyboard or the alphabet."
	case "repeat":
		detail = "The password repeats itself."
	case "date":
		detail = "The password is little more than a date."
	}
	return invalid(op, detail, "Take a few words that you remember and that belong together only for you.")
}
