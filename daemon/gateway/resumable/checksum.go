package resumable

import (
	"crypto/sha1" //nolint:gosec // the protocol asks for SHA-1 (tus 1.0.0, "Checksum"); it guards a transfer here and names nothing
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"strings"

	"yunbox.local/daemon/problem"
)

// checksumAlgorithms is what Tus-Checksum-Algorithm announces.
const checksumAlgorithms = "sha1,sha256"

// statusChecksumMismatch is the protocol's own status for a chunk whose bytes
// are not those that were announced (tus 1.0.0, "Checksum").
const statusChecksumMismatch = 460

// checksum is what a client announced for the body of one request.
type checksum struct {
	hash   hash.Hash
	want   []byte
	header string // that announced it
	// keepsBroken says that what arrived before the connection broke is kept,
	// though it proves nothing then.
	keepsBroken bool
}

// parseChecksum reads an Upload-Checksum header, "algorithm base64". It returns
// nil when there is none.
func parseChecksum(header string) (*checksum, error) {
	if header == "" {
		return nil, nil
	}
	name, encoded, _ := strings.Cut(strings.TrimSpace(header), " ")
	c := &checksum{header: "Upload-Checksum"}
	switch name {
	case "sha1":
		c.hash = sha1.New() //nolint:gosec // see the import
	case "sha256":
		c.hash = sha256.New()
	default:
		return nil, badChecksum("The algorithm is not one of " + checksumAlgorithms + ".")
	}
	want, err := decodeBase64(strings.TrimSpace(encoded))
	if err != nil || len(want) != c.hash.Size() {
		return nil, badChecksum("The value is not the base64 of a " + name + " digest.")
	}
	c.want = want
	return c, nil
}

// matches says whether the bytes that went through the hash are the announced ones.
func (c *checksum) matches() bool {
	return subtle.ConstantTimeCompare(c.hash.Sum(nil), c.want) == 1
}

func badChecksum(detail string) error {
	return &problem.Error{
		Kind:   problem.Invalid,
		Op:     "resumable.checksum",
		Title:  "The Upload-Checksum header cannot be used",
		Detail: detail,
		Hint:   "Send the name of an algorithm, one space and the digest of this request's body in base64, or leave the header out.",
	}
}
