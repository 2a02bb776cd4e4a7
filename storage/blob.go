package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"yunbox.local/storage/vfs"
)

// Blob is an open content. It stays readable when it is swept meanwhile.
type Blob struct {
	file vfs.File
	info fs.FileInfo
}

var (
	_ io.ReadSeekCloser = (*Blob)(nil)
	_ io.ReaderAt       = (*Blob)(nil)
)

func (b *Blob) Read(p []byte) (int, error)              { return b.file.Read(p) }
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { return b.file.ReadAt(p, off) }
func (b *Blob) Seek(off int64, whence int) (int64, error) {
	return b.file.Seek(off, whence)
}
func (b *Blob) Close() error { return b.file.Close() }

// Size is the length in bytes.
func (b *Blob) Size() int64 { return b.info.Size() }

// ModTime is when the content arrived.
func (b *Blob) ModTime() time.Time { return b.info.ModTime() }

// Get opens a blob for reading. ErrNotFound.
func (s *Store) Get(ctx context.Context, ref Ref) (*Blob, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, err := s.fsys.OpenFile(ref.path(), vfs.ReadOnly, 0)
	if err != nil {
		return nil, blobError(ref, s.touched(err))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(blobError(ref, s.touched(err)), f.Close())
	}
	return &Blob{f, info}, nil
}

func blobError(ref Ref, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", ref, ErrNotFound)
	}
	return fmt.Errorf("blob %s: %w", ref, err)
}

// Verify is Inspect for who needs an error: ErrDamaged, ErrNotFound.
func (s *Store) Verify(ctx context.Context, ref Ref) error {
	switch damage, err := s.Inspect(ctx, ref, -1, nil); {
	case err != nil:
		return fmt.Errorf("blob %s: %w", ref, err)
	case damage == Missing:
		return fmt.Errorf("blob %s: %w", ref, ErrNotFound)
	case damage != Sound:
		return fmt.Errorf("blob %s: %w: %s", ref, ErrDamaged, damage)
	}
	return nil
}

// sameAs compares the bytes of r with a name.
func (s *Store) sameAs(r io.Reader, ref Ref) error {
	buf := s.buffers.get(streamBuffer)
	defer s.buffers.put(buf)
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{r}, *buf); err != nil {
		return fmt.Errorf("blob %s: %w: %w", ref, ErrDamaged, err)
	}
	if got := Ref(h.Sum(nil)); got != ref {
		return fmt.Errorf("blob %s: %w: its bytes have the SHA-256 %s", ref, ErrDamaged, got)
	}
	return nil
}

// maxDamaged bounds what is remembered; a disk that loses more is replaced.
const maxDamaged = 100_000

// Doubt says that a blob is not to be relied on: it stays, but the next upload
// of that content replaces it. Inspect calls it; so may whoever learns of damage
// in another way. It is remembered until the store is closed.
func (s *Store) Doubt(ref Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.damaged) < maxDamaged {
		s.damaged[ref] = struct{}{}
	}
}

// settle ends a doubt.
func (s *Store) settle(ref Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.damaged, ref)
}

func (s *Store) isDamaged(ref Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, damaged := s.damaged[ref]
	return damaged
}

// Info describes a blob.
type Info struct {
	Ref      Ref
	Size     int64 // bytes
	Modified time.Time
}

// Refs goes through all blobs on the volume in the order of their names.
func (s *Store) Refs(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for i := range shards {
			if !s.refsOf(ctx, i, yield) {
				return
			}
		}
	}
}

// refsOf goes through one shard and reports whether to go on.
func (s *Store) refsOf(ctx context.Context, shard int, yield func(Info, error) bool) bool {
	entries, err := s.fsys.ReadDir(shardDir(shard))
	if err != nil {
		return yield(Info{}, fmt.Errorf("list blobs: %w", err))
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			yield(Info{}, context.Cause(ctx))
			return false
		}
		ref, err := ParseRef(e.Name())
		if err != nil || ref.String() != e.Name() || ref.shard() != shard {
			continue // not ours
		}
		info, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // swept meanwhile
		case err != nil:
			if !yield(Info{Ref: ref}, fmt.Errorf("blob %s: %w", ref, err)) {
				return false
			}
		case info.Mode().IsRegular():
			if !yield(Info{ref, info.Size(), info.ModTime()}, nil) {
				return false
			}
		}
	}
	return true
}
