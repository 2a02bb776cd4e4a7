package storage

import (
	"bytes"
	"fmt"
	"io"
)

// Received returns what has been received so far, from its first byte on. It reads
// the staged bytes back from the disk, so it may be used until the upload ends; it
// fails for one that is sealed already.
func (u *Upload) Received() (io.Reader, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.receiving(); err != nil {
		return nil, err
	}
	if u.offset.Load() == 0 {
		return bytes.NewReader(nil), nil
	}
	if u.file == nil {
		return nil, fmt.Errorf("upload %s: %w", u.id, ErrNotFound)
	}
	return io.NewSectionReader(u.file, 0, u.offset.Load()), nil
}
