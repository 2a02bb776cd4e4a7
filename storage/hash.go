package storage

import (
	"crypto/sha1" //nolint:gosec // see SHA1
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// bite is how many bytes one hash takes before the other, where they are computed
// one after the other: what stays in the first cache of a processor.
const bite = 32 << 10

// hashes are SHA-256 and SHA-1 of the same bytes. Where the processor can, both are
// computed in one pass; the digests of the standard library stay what counts, and
// their states are what is kept.
type hashes struct {
	sha256, sha1 hash.Hash
	state        [2][]byte // room for two states
}

func newHashes() hashes { return hashes{sha256: sha256.New(), sha1: sha1.New()} }

// Write never fails.
func (h *hashes) Write(p []byte) (int, error) {
	n := len(p)
	if taken := h.together(p); taken > 0 {
		p = p[taken:]
	}
	for len(p) > 0 {
		b := p[:min(len(p), bite)]
		_, _ = h.sha256.Write(b)
		_, _ = h.sha1.Write(b)
		p = p[len(b):]
	}
	return n, nil
}

// The states of the digests, as their MarshalBinary gives them: four bytes that name
// the format, the words of the state, 64 bytes that wait for a whole block, and the
// count of all bytes.
const (
	magic256 = "sha\x03"
	magic1   = "sha\x01"
	state256 = len(magic256) + sha256.Size + sha256.BlockSize + 8
	state1   = len(magic1) + sha1.Size + sha1.BlockSize + 8
)

// together takes what it can of p in one pass and returns how much that was: 0 if
// the processor cannot, if p is too short to be worth it, if a block was left half
// full, and if the standard library's states are not as they were known here.
func (h *hashes) together(p []byte) int {
	const worth = 16 << 10
	n := len(p) &^ (sha256.BlockSize - 1)
	if !together || n < worth {
		return 0
	}
	a, okA := h.sha256.(state)
	b, okB := h.sha1.(state)
	if !okA || !okB {
		return 0
	}
	var errA, errB error
	h.state[0], errA = a.AppendBinary(h.state[0][:0])
	h.state[1], errB = b.AppendBinary(h.state[1][:0])
	x, y := h.state[0], h.state[1]
	if errA != nil || errB != nil || len(x) != state256 || len(y) != state1 || string(x[:4]) != magic256 || string(y[:4]) != magic1 {
		return 0
	}
	countA, countB := x[state256-8:], y[state1-8:]
	count := binary.BigEndian.Uint64(countA)
	if count%sha256.BlockSize != 0 || binary.BigEndian.Uint64(countB) != count {
		return 0
	}
	var words256 [8]uint32
	var words1 [5]uint32
	for i := range words256 {
		words256[i] = binary.BigEndian.Uint32(x[4+4*i:])
	}
	for i := range words1 {
		words1[i] = binary.BigEndian.Uint32(y[4+4*i:])
	}
	twoHashes(&words256, &words1, p[:n])
	for i, w := range words256 {
		binary.BigEndian.PutUint32(x[4+4*i:], w)
	}
	for i, w := range words1 {
		binary.BigEndian.PutUint32(y[4+4*i:], w)
	}
	binary.BigEndian.PutUint64(countA, count+uint64(n))
	binary.BigEndian.PutUint64(countB, count+uint64(n))
	if a.UnmarshalBinary(x) != nil || b.UnmarshalBinary(y) != nil {
		panic("storage: a hash does not take back its own state")
	}
	return n
}

type state interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}
