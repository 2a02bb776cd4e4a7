package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// SumChunk is the length in bytes of the chunks of a content that have a sum of their
// own. The last one of a content may be shorter.
const SumChunk = 128 << 10

// SumsFrom is the length in bytes above which the sums of a content are kept. Who reads
// a part of a shorter one can as well read all of it.
const SumsFrom = 1 << 20

// Sums are the CRC-32C (Castagnoli, RFC 3720 B.4) of the chunks of a content, in
// their order: so a part of it can be checked without the rest. They tell damage,
// not forgery. nil: they are not known.
type Sums []uint32

// Marshal returns them as docs/format.md has them: 4 bytes each, little-endian.
func (s Sums) Marshal() []byte {
	b := make([]byte, 0, 4*len(s))
	for _, sum := range s {
		b = binary.LittleEndian.AppendUint32(b, sum)
	}
	return b
}

// ParseSums reads what Marshal wrote, or a part of it.
func ParseSums(b []byte) Sums {
	s := make(Sums, len(b)/4)
	for i := range s {
		s[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return s
}

// SumChunks is how many chunks a content of size bytes has.
func SumChunks(size int64) int64 { return (size + SumChunk - 1) / SumChunk }

// SumOf is the sum of one chunk.
func SumOf(chunk []byte) uint32 { return crc32.Checksum(chunk, castagnoli) }

// A Summer computes Sums of bytes that come one after the other. The zero value is
// ready for use.
type Summer struct {
	full Sums // of chunks that came whole
	last uint32
	at   int // bytes of the chunk that last is of
}

// Write implements io.Writer. It never fails.
func (s *Summer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		b := p[:min(len(p), SumChunk-s.at)]
		s.last = crc32.Update(s.last, castagnoli, b)
		s.at += len(b)
		p = p[len(b):]
		if s.at == SumChunk {
			s.full = append(s.full, s.last)
			s.last, s.at = 0, 0
		}
	}
	return n, nil
}

// Sums returns those of all that was written.
func (s *Summer) Sums() Sums {
	all := s.full[:len(s.full):len(s.full)]
	if s.at > 0 {
		all = append(all, s.last)
	}
	return all
}

// uploadSums are the sums of what has come of an upload, and what of them its state
// file holds. They are a help and no more: where they are lost, or may be wrong, they
// are not known, and a later reading of the content finds them.
type uploadSums struct {
	Summer
	unknown bool
	saved   int // so many whole chunks' sums are in the state file
	fold    uint32
	folded  int // fold is the CRC of the sums of so many whole chunks
}

// sumsOffset is where the sums begin in a state file, behind its slots.
const sumsOffset = 2 * slotStride

// save writes the sums of the chunks that came whole since the last checkpoint into the
// state file f, and what else is needed to go on into r. They become durable with it.
func (s *uploadSums) save(f io.WriterAt, r *record) error {
	if s.unknown {
		return nil
	}
	if added := s.full[s.saved:]; len(added) > 0 {
		if _, err := f.WriteAt(added.Marshal(), sumsOffset+4*int64(s.saved)); err != nil {
			return fmt.Errorf("sums: %w", marked(err))
		}
	}
	s.fold = crc32.Update(s.fold, castagnoli, s.full[s.folded:].Marshal())
	s.saved, s.folded = len(s.full), len(s.full)
	r.summed, r.fold, r.last = true, s.fold, s.last
	return nil
}

// load is the reverse: r is a record of f. A power cut may have brought the record to
// the disk and not the sums: then they are not known.
func (s *uploadSums) load(f io.ReaderAt, r record) {
	b := make([]byte, 4*(r.offset/SumChunk))
	s.unknown = true
	if !r.summed {
		return
	}
	if n, _ := f.ReadAt(b, sumsOffset); n != len(b) || crc32.Checksum(b, castagnoli) != r.fold {
		return
	}
	full := ParseSums(b)
	*s = uploadSums{Summer: Summer{full: full, last: r.last, at: int(r.offset % SumChunk)}, saved: len(full), fold: r.fold, folded: len(full)}
}

// all are the sums of the content; nil: not known, or not needed.
func (s *uploadSums) all(size int64) Sums {
	if s.unknown || size <= SumsFrom {
		return nil
	}
	return s.Sums()
}
