package storage

import (
	"crypto/sha1" //nolint:gosec // see SHA1
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// record is one checkpoint of an upload; docs/format.md describes its bytes.
type record struct {
	seq    uint64 // number of the checkpoint, from 1
	size   int64  // declared; -1: not known
	offset int64  // durable bytes
	time   time.Time

	// The states of the two hashes at offset; of a sealed upload their sums.
	sealed     bool
	hash, sha1 []byte

	summed     bool   // the sums of the chunks before offset are in the file, too
	fold, last uint32 // CRC of those of the whole ones; of the bytes of one that is not whole
}

const (
	slotSize   = 512
	slotStride = 4096 // the slots never share a physical sector
	stateMagic = "yunboxup"

	flagSealed = 1
	flagSummed = 2

	sumsAt = slotSize - 12 // where fold and last are in a slot
)

var errNoRecord = errors.New("no valid checkpoint")

// slot is where the record goes: alternating, so that a torn write never spoils
// the record that counts.
func (r record) slot() int64 { return int64(r.seq%2) * slotStride }

func (r record) marshal() ([]byte, error) {
	b := make([]byte, 0, slotSize)
	b = append(b, stateMagic...)
	b = binary.LittleEndian.AppendUint16(b, 1)
	flags := uint16(0)
	if r.sealed {
		flags |= flagSealed
	}
	if r.summed {
		flags |= flagSummed
	}
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.time.UnixMilli()))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.hash)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.sha1)))
	b = append(b, r.hash...)
	b = append(b, r.sha1...)
	if len(b) > sumsAt {
		return nil, fmt.Errorf("checkpoint: %d bytes of hash state do not fit", len(r.hash)+len(r.sha1))
	}
	b = b[:sumsAt]
	b = binary.LittleEndian.AppendUint32(b, r.fold)
	b = binary.LittleEndian.AppendUint32(b, r.last)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// parseRecord reads one slot. What it accepts is consistent in itself: the
// caller still has to compare it with the file it speaks of.
func parseRecord(b []byte) (record, error) {
	if len(b) < slotSize || string(b[:8]) != stateMagic {
		return record{}, errNoRecord
	}
	b = b[:slotSize]
	if binary.LittleEndian.Uint32(b[slotSize-4:]) != crc32.Checksum(b[:slotSize-4], castagnoli) {
		return record{}, errNoRecord
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != 1 {
		return record{}, fmt.Errorf("%w: version %d", errNoRecord, v)
	}
	r := record{
		sealed: binary.LittleEndian.Uint16(b[10:])&flagSealed != 0,
		seq:    binary.LittleEndian.Uint64(b[16:]),
		size:   int64(binary.LittleEndian.Uint64(b[24:])),
		offset: int64(binary.LittleEndian.Uint64(b[32:])),
		time:   time.UnixMilli(int64(binary.LittleEndian.Uint64(b[40:]))).UTC(),
	}
	if r.summed = binary.LittleEndian.Uint16(b[10:])&flagSummed != 0; r.summed {
		r.fold, r.last = binary.LittleEndian.Uint32(b[sumsAt:]), binary.LittleEndian.Uint32(b[sumsAt+4:])
	}
	n, m := int(binary.LittleEndian.Uint16(b[48:])), int(binary.LittleEndian.Uint16(b[50:]))
	if r.summed && 52+n+m > sumsAt || 52+n+m > slotSize-4 {
		return record{}, fmt.Errorf("%w: lengths", errNoRecord)
	}
	r.hash, r.sha1 = b[52:52+n:52+n], b[52+n:52+n+m:52+n+m]
	switch {
	case r.seq == 0, r.offset < 0, r.size < -1, r.size >= 0 && r.offset > r.size:
		return record{}, fmt.Errorf("%w: numbers", errNoRecord)
	case r.sealed && (n != sha256.Size || m != sha1.Size || r.offset != r.size):
		return record{}, fmt.Errorf("%w: sealed without its sums", errNoRecord)
	}
	return r, nil
}

// readRecord returns the newest valid record of a state file, errNoRecord when
// there is none.
func readRecord(f io.ReaderAt) (record, error) {
	var newest record
	found := errNoRecord
	for slot := range int64(2) {
		b := make([]byte, slotSize)
		n, err := f.ReadAt(b, slot*slotStride)
		if err != nil && !errors.Is(err, io.EOF) {
			return record{}, err
		}
		r, err := parseRecord(b[:n])
		if err == nil && r.slot() == slot*slotStride && r.seq > newest.seq {
			newest, found = r, nil
		}
	}
	return newest, found
}
