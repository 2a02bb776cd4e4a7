package db

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The files of the journal; docs/format.md describes them.
const (
	segmentPrefix = "log-"
	copySuffix    = ".copy"

	segmentHead = 80
	recordHead  = 32
	// maxRecord bounds the body of a record: a group of 64 calls is far below it.
	maxRecord = 64 << 20
	// maxSegment is where the next segment begins. A start reads the last one.
	maxSegment = 4 << 20
)

const segmentMagic = "yunboxjl"

// point is a place in the journal: after the transaction of that number.
type point struct {
	number int64
	mark   int64
}

type schemaHash [sha256.Size]byte

// segmentHeader begins a file of the log.
type segmentHeader struct {
	after  point // the transaction before its first
	schema schemaHash
	at     time.Time
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (h segmentHeader) marshal() []byte {
	b := make([]byte, 0, segmentHead)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.after.number))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.after.mark))
	b = append(b, h.schema[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.at.UnixMilli()))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crcOf(b))
}

func parseSegmentHeader(b []byte) (h segmentHeader, ok bool) {
	if len(b) < segmentHead || string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[8:]) != 1 ||
		binary.LittleEndian.Uint32(b[76:]) != crcOf(b[:76]) {
		return h, false
	}
	h.after = point{int64(binary.LittleEndian.Uint64(b[16:])), int64(binary.LittleEndian.Uint64(b[24:]))}
	copy(h.schema[:], b[32:])
	h.at = time.UnixMilli(int64(binary.LittleEndian.Uint64(b[64:])))
	return h, true
}

// record is one transaction in the log.
type record struct {
	point
	at   time.Time
	body []byte
}

// appendRecord appends a record whose body follows from o.
func appendRecord(b []byte, p point, at time.Time, o *ops, known map[string]uint64) []byte {
	begin := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = o.appendBody(b, known)
	r := b[begin:]
	binary.LittleEndian.PutUint32(r[4:], uint32(len(r)-recordHead))
	binary.LittleEndian.PutUint64(r[8:], uint64(p.number))
	binary.LittleEndian.PutUint64(r[16:], uint64(p.mark))
	binary.LittleEndian.PutUint64(r[24:], uint64(at.UnixMilli()))
	binary.LittleEndian.PutUint32(r, crcOf(r[4:]))
	return b
}

// segmentName is the name of the segment whose first record has that number.
func segmentName(first int64) string { return fmt.Sprintf("%s%016x", segmentPrefix, first) }

// segments lists the numbers of the first records of the segments in dir, rising.
// One that has lost one of its two files counts.
func segments(dir string) ([]int64, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []int64
	for _, e := range list {
		hex, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), copySuffix), segmentPrefix)
		n, err := strconv.ParseInt(hex, 16, 64)
		if ok && err == nil && len(hex) == 16 && n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// segmentReader reads a segment from its two files, record by record, each from
// the one where it is sound.
type segmentReader struct {
	segmentHeader
	files [2]*os.File // the second may lack the end, each may be missing
	pos   int64
	last  point
	buf   []byte

	// Of the two files: where the one or the other was not sound.
	bad [2]bool
}

// openSegment opens the segment whose first record is first. It fails with
// errSegment where both heads are damaged.
func openSegment(dir string, first int64) (*segmentReader, error) {
	name := filepath.Join(dir, segmentName(first))
	return openFiles(name, name+copySuffix, first)
}

func openFiles(one, other string, first int64) (*segmentReader, error) {
	r := &segmentReader{}
	for i, name := range []string{one, other} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			r.bad[i] = true
			continue
		} else if err != nil {
			r.Close()
			return nil, err
		}
		r.files[i] = f
	}
	head := make([]byte, segmentHead)
	found := false
	for i, f := range r.files {
		if f == nil {
			continue
		}
		if _, err := readAt(f, head, 0); err != nil && !errors.Is(err, io.EOF) {
			r.bad[i] = true // a sector that cannot be read is as good as a damaged one
			continue
		}
		if h, ok := parseSegmentHeader(head); ok && h.after.number == first-1 {
			r.segmentHeader, found = h, true
		} else {
			r.bad[i] = true
		}
	}
	if !found {
		r.Close()
		return nil, errSegment
	}
	r.pos, r.last = segmentHead, r.after
	return r, nil
}

// readAt is f.ReadAt, and once more where the disk does not give what there is: the copy
// of the last segment may be behind and have nothing to put in its place.
func readAt(f *os.File, b []byte, at int64) (n int, err error) {
	if n, err = f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		n, err = f.ReadAt(b, at)
	}
	return n, err
}

var errSegment = errors.New("db: both heads of a segment of the journal are damaged")

func (r *segmentReader) Close() error {
	for _, f := range r.files {
		if f != nil {
			f.Close() // only read
		}
	}
	return nil
}

// next returns the next record, whose body is valid until the next call. It ends
// with io.EOF at the end or at what no crash explains: see rest.
func (r *segmentReader) next() (rec record, err error) {
	for i := range r.files {
		var ok bool
		rec, ok, err = r.read(i)
		if err != nil {
			return rec, err
		}
		if ok {
			r.pos += recordHead + int64(len(rec.body))
			r.last = rec.point
			return rec, nil
		}
	}
	return rec, io.EOF
}

// read reads the record at pos from one of the files. It is not there, or not
// sound, if ok is false.
func (r *segmentReader) read(i int) (rec record, ok bool, err error) {
	f := r.files[i]
	if f == nil {
		return rec, false, nil
	}
	var head [recordHead]byte
	if n, err := readAt(f, head[:], r.pos); err != nil && !(errors.Is(err, io.EOF) && n == recordHead) {
		if !errors.Is(err, io.EOF) {
			r.bad[i] = true
		}
		return rec, false, nil
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	if n > maxRecord {
		r.bad[i] = true
		return rec, false, nil
	}
	if info, err := f.Stat(); err != nil {
		return rec, false, err
	} else if r.pos+recordHead+n > info.Size() {
		r.bad[i] = true
		return rec, false, nil
	}
	need := recordHead + int(n)
	r.buf = slices.Grow(r.buf[:0], need)[:need]
	if got, err := readAt(f, r.buf, r.pos); err != nil && !(errors.Is(err, io.EOF) && got == need) {
		r.bad[i] = true
		return rec, false, nil
	}
	rec = record{
		point: point{int64(binary.LittleEndian.Uint64(r.buf[8:])), int64(binary.LittleEndian.Uint64(r.buf[16:]))},
		at:    time.UnixMilli(int64(binary.LittleEndian.Uint64(r.buf[24:]))),
		body:  r.buf[recordHead:],
	}
	if binary.LittleEndian.Uint32(r.buf) != crcOf(r.buf[4:]) || rec.number != r.last.number+1 {
		r.bad[i] = true
		return rec, false, nil
	}
	return rec, true, nil
}

// rest is how many bytes after the last sound record both files have: what a
// daemon that was killed while it wrote leaves is less than a record, and torn
// says that it may be that.
func (r *segmentReader) rest() (n int64, torn bool) {
	torn = true
	for _, f := range r.files {
		if f == nil {
			continue
		}
		info, err := f.Stat()
		if err != nil {
			return n, false
		}
		left := info.Size() - r.pos
		if left <= 0 {
			continue
		}
		n = max(n, left)
		var head [recordHead]byte
		if left >= recordHead {
			if _, err := readAt(f, head[:], r.pos); err != nil {
				torn = false
			} else if size := int64(binary.LittleEndian.Uint32(head[4:])); size > maxRecord || recordHead+size <= left || int64(binary.LittleEndian.Uint64(head[8:])) != r.last.number+1 {
				torn = false // all of a record is there, or no head of one
			}
		}
	}
	return n, torn
}
