package resumable

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"yunbox.local/daemon/problem"
)

// maxMetadata bounds an Upload-Metadata header: two paths of the longest kind in
// base64 and some room.
const maxMetadata = 8 << 10

// metadata is a parsed Upload-Metadata header (tus 1.0.0, "Upload-Metadata").
// Values are valid UTF-8.
type metadata map[string]string

// parseMetadata reads "key base64,key base64,key". Keys are unique, not empty,
// of visible ASCII without comma; a key alone has the empty value. Values are
// decoded once and must be UTF-8, because all of ours are text.
func parseMetadata(header string) (metadata, error) {
	if len(header) > maxMetadata {
		return nil, badMetadata("It is longer than 8 KiB.")
	}
	m := metadata{}
	if strings.TrimSpace(header) == "" {
		return m, nil
	}
	for pair := range strings.SplitSeq(header, ",") {
		key, encoded, _ := strings.Cut(strings.Trim(pair, " \t"), " ")
		if !visibleASCII(key) {
			return nil, badMetadata("A key is empty or holds a character that is not visible ASCII.")
		}
		if _, twice := m[key]; twice {
			return nil, badMetadata("The key " + key + " is there twice.")
		}
		value, err := decodeBase64(strings.Trim(encoded, " \t"))
		if err != nil {
			return nil, badMetadata("The value of " + key + " is not base64.")
		}
		if !utf8.Valid(value) {
			return nil, badMetadata("The value of " + key + " is not UTF-8 text.")
		}
		m[key] = string(value)
	}
	return m, nil
}

// decodeBase64 takes the standard alphabet with or without padding: the protocol
// asks for padding, some clients leave it out.
func decodeBase64(s string) ([]byte, error) {
	return base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

func badMetadata(detail string) error {
	return &problem.Error{
		Kind:   problem.Invalid,
		Op:     "resumable.metadata",
		Title:  "The Upload-Metadata header cannot be read",
		Detail: detail,
		Hint:   "Send pairs of a key and its value in base64, separated by commas: filename aW1nLmpwZw==,source YWxidW0=",
	}
}
