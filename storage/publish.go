package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"yunbox.local/storage/vfs"
)

// Clone gives to, which is empty, open for writing and lies on the same volume, the
// bytes of a blob by sharing their storage. No write to it ever reaches the blob: the
// two are different files of the file system. ErrNotFound; errors.ErrUnsupported where
// storage cannot be shared.
func (s *Store) Clone(ctx context.Context, ref Ref, to vfs.File) error {
	b, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // read only
	if err := to.Clone(b.file); err != nil {
		return fmt.Errorf("blob %s: %w", ref, marked(err))
	}
	return nil
}

// Copy gives to, which is empty and open for writing, a copy of a blob. It makes
// nothing durable. ErrNotFound; ErrDamaged if the bytes are not those of the name: to
// is then not to be used.
func (s *Store) Copy(ctx context.Context, ref Ref, to vfs.File) error {
	b, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // read only
	buf := s.buffers.get(streamBuffer)
	defer s.buffers.put(buf)
	h := sha256.New()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := b.Read(*buf)
		h.Write((*buf)[:n])
		if _, err := to.Write((*buf)[:n]); err != nil {
			return fmt.Errorf("copy of blob %s: %w", ref, marked(err))
		}
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("blob %s: %w: %w", ref, ErrDamaged, err)
		}
	}
	if got := Ref(h.Sum(nil)); got != ref {
		return fmt.Errorf("blob %s: %w: its bytes have the SHA-256 %s", ref, ErrDamaged, got)
	}
	return nil
}
