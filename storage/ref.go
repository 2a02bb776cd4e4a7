package storage

import (
	"crypto/sha1" //nolint:gosec // an index key that other people's clients ask by, never a proof
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Ref names a blob by its content: the SHA-256 of its bytes. The zero Ref names
// no blob. Refs are comparable, and print as 64 lower-case hex digits, which is
// also the blob's file name: sha256sum is all one needs to check it.
type Ref [sha256.Size]byte

// ParseRef reads 64 hex digits in either case.
func ParseRef(s string) (r Ref, err error) {
	if err := parseHex(r[:], s, "SHA-256"); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// String returns 64 lower-case hex digits.
func (r Ref) String() string { return hex.EncodeToString(r[:]) }

// IsZero reports whether r names no blob.
func (r Ref) IsZero() bool { return r == Ref{} }

// MarshalText implements encoding.TextMarshaler.
func (r Ref) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, r[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Ref) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRef(string(text))
	return err
}

// SHA1 is the SHA-1 of a content. It is computed in the same pass as the Ref
// and is only an index: the apps of Immich and Nextcloud ask by it. Nothing is
// ever taken to be equal because its SHA-1 is.
type SHA1 [sha1.Size]byte

// ParseSHA1 reads 40 hex digits in either case.
func ParseSHA1(s string) (h SHA1, err error) {
	if err := parseHex(h[:], s, "SHA-1"); err != nil {
		return SHA1{}, err
	}
	return h, nil
}

// String returns 40 lower-case hex digits.
func (h SHA1) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is not set.
func (h SHA1) IsZero() bool { return h == SHA1{} }

// MarshalText implements encoding.TextMarshaler.
func (h SHA1) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *SHA1) UnmarshalText(text []byte) (err error) {
	*h, err = ParseSHA1(string(text))
	return err
}

func parseHex(dst []byte, s, what string) error {
	if len(s) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s: %d hex digits expected, not %d characters", what, hex.EncodedLen(len(dst)), len(s))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
