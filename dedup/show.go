package dedup

import (
	"errors"
	"fmt"
	"io"
)

// ErrNoPicture is a file that Picture does not show.
var ErrNoPicture = errors.New("dedup: that is no picture")

// maxShown is the largest picture that is shown, in bytes.
const maxShown = 32 << 20

// Shown is a picture that is open to be shown. The caller closes it.
type Shown struct {
	io.ReaderAt
	io.Closer
	Size int64  // bytes
	Kind string // image/jpeg or image/png
}

// Picture opens a JPEG or PNG of the tree, so that a person sees what a scan
// suggested. What it is goes by its first bytes. ErrNoPicture: it is something else,
// larger than 32 MiB, or not there; the caller learns no more.
func (f *Folder) Picture(p Path) (*Shown, error) {
	if err := p.valid(); err != nil {
		return nil, errors.Join(ErrNoPicture, err)
	}
	file, err := f.tree.open(string(p))
	if err != nil {
		return nil, errors.Join(ErrNoPicture, err)
	}
	s := &Shown{ReaderAt: file, Closer: file}
	var magic [8]byte
	facts, err := file.facts()
	if err == nil {
		_, err = file.ReadAt(magic[:], 0)
	}
	switch {
	case err != nil:
	case facts.Size > maxShown:
		err = fmt.Errorf("it has %d bytes", facts.Size)
	case magic[0] == 0xFF && magic[1] == mSOI:
		s.Kind = "image/jpeg"
	case string(magic[:]) == pngMagic:
		s.Kind = "image/png"
	default:
		err = errors.New("its first bytes are of something else")
	}
	if err != nil {
		return nil, errors.Join(ErrNoPicture, err, file.Close())
	}
	s.Size = facts.Size
	return s, nil
}
