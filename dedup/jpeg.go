package dedup

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"io"
)

// jpegInfo is what the segments of a JPEG say (ITU-T T.81 Annex B).
type jpegInfo struct {
	wide, high  int
	memory      int64 // bytes that decoding it takes, at most
	key         [16]byte
	progressive bool
}

// errNotJPEG is a file that is no JPEG, or not a whole one.
var errNotJPEG = errors.New("it is no whole JPEG")

const (
	mSOI   = 0xD8
	mEOI   = 0xD9
	mSOS   = 0xDA
	mTEM   = 0x01
	mRST0  = 0xD0
	mRST7  = 0xD7
	mAPP0  = 0xE0
	mAPP14 = 0xEE // says how colours are coded: part of the picture
	mAPP15 = 0xEF
	mCOM   = 0xFE
)

// readJPEG goes through the segments of a JPEG to the end of its first picture. The
// key is a hash of the picture without what was written beside it: the APP segments
// (Exif, colour profiles, thumbnails) and comments. Two files of one key show the same
// picture, dot for dot. It decodes nothing and keeps no more than one segment.
func readJPEG(from io.Reader) (info jpegInfo, err error) {
	r := bufio.NewReaderSize(from, 64<<10)
	h := sha256.New()
	var b [2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return info, notWhole(err)
	}
	if b[0] != 0xFF || b[1] != mSOI {
		return info, errNotJPEG
	}
	seg := make([]byte, 0, 1<<10)
	marker, err := nextMarker(r)
	for err == nil {
		switch {
		case marker == mEOI:
			if info.wide == 0 {
				return info, errNotJPEG
			}
			h.Sum(nil)
			copy(info.key[:], h.Sum(nil))
			return info, nil
		case marker == mSOI || marker == 0:
			return info, errNotJPEG
		case marker == mTEM || marker >= mRST0 && marker <= mRST7:
			marker, err = nextMarker(r)
			continue
		}
		if _, err = io.ReadFull(r, b[:]); err != nil {
			break
		}
		length := int(b[0])<<8 | int(b[1])
		if length < 2 {
			return info, errNotJPEG
		}
		if marker == mCOM || marker >= mAPP0 && marker <= mAPP15 && marker != mAPP14 {
			if _, err = r.Discard(length - 2); err != nil {
				break
			}
			marker, err = nextMarker(r)
			continue
		}
		if cap(seg) < length-2 {
			seg = make([]byte, 0, length-2)
		}
		seg = seg[:length-2]
		if _, err = io.ReadFull(r, seg); err != nil {
			break
		}
		h.Write([]byte{0xFF, marker, b[0], b[1]})
		h.Write(seg)
		if isFrame(marker) {
			if info.wide != 0 || !info.frame(marker, seg) {
				return info, errNotJPEG
			}
		}
		if marker == mSOS {
			marker, err = scanData(r, h)
		} else {
			marker, err = nextMarker(r)
		}
	}
	return info, notWhole(err)
}

func notWhole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errNotJPEG
	}
	return err
}

// isFrame says whether a marker begins a frame header (SOFn; not DHT, JPG, DAC).
func isFrame(m byte) bool { return m >= 0xC0 && m <= 0xCF && m != 0xC4 && m != 0xC8 && m != 0xCC }

// frame reads a frame header: size, components and how they are sampled.
func (i *jpegInfo) frame(marker byte, seg []byte) bool {
	if len(seg) < 6 || len(seg) != 6+3*int(seg[5]) || seg[5] == 0 || seg[5] > 4 {
		return false
	}
	i.high, i.wide = int(seg[1])<<8|int(seg[2]), int(seg[3])<<8|int(seg[4])
	i.progressive = marker == 0xC2
	var sum, h, v int64
	for c := range int(seg[5]) {
		ch, cv := int64(seg[7+3*c]>>4), int64(seg[7+3*c]&15)
		if ch == 0 || cv == 0 {
			return false
		}
		sum, h, v = sum+ch*cv, max(h, ch), max(v, cv)
	}
	// A component takes a byte for each dot that it has, and in a progressive file
	// four more for its coefficients.
	i.memory = int64(i.wide+128) * int64(i.high+128) * sum / (h * v)
	if i.progressive {
		i.memory *= 5
	}
	return i.wide > 0 && i.high > 0
}

// nextMarker reads a marker. Bytes before it that are none are not allowed, except for
// fill bytes.
func nextMarker(r *bufio.Reader) (byte, error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	if c != 0xFF {
		return 0, errNotJPEG
	}
	for c == 0xFF {
		if c, err = r.ReadByte(); err != nil {
			return 0, err
		}
	}
	return c, nil
}

// scanData hashes coded data up to the marker after it, which it returns.
func scanData(r *bufio.Reader, h io.Writer) (byte, error) {
	for {
		part, err := r.ReadSlice(0xFF)
		if errors.Is(err, bufio.ErrBufferFull) {
			h.Write(part)
			continue
		}
		if err != nil {
			return 0, err
		}
		h.Write(part[:len(part)-1])
		c := byte(0xFF)
		for c == 0xFF {
			if c, err = r.ReadByte(); err != nil {
				return 0, err
			}
		}
		if c != 0 && (c < mRST0 || c > mRST7) {
			return c, nil
		}
		h.Write([]byte{0xFF, c})
	}
}
