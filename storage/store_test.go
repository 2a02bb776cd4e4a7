package storage_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// put stores one content in one piece.
func put(ctx context.Context, s *storage.Store, data []byte) (storage.Ref, error) {
	u, err := s.Begin(ctx, int64(len(data)))
	if err != nil {
		return storage.Ref{}, err
	}
	defer u.Close()
	if _, err := u.Write(ctx, 0, bytes.NewReader(data)); err != nil {
		return storage.Ref{}, err
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		return storage.Ref{}, err
	}
	batch := []storage.Sealed{sealed}
	err = s.Commit(ctx, batch)[0]
	s.Release(batch)
	return sealed.Ref, err
}

func TestRealDisk(t *testing.T) {
	ctx := t.Context()
	fsys, err := vfs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	s, err := storage.Open(ctx, fsys, storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 100_000, 1 << 20, 1<<20 + 1, 70 << 20} {
		data := bytes.Repeat([]byte("yunbox "), n/7+1)[:n]
		for range 2 {
			ref, err := put(ctx, s, data)
			if err != nil {
				t.Fatal(err)
			}
			if ref != sha256.Sum256(data) {
				t.Fatalf("%d bytes: wrong name %s", n, ref)
			}
			b, err := s.Get(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(b)
			if err := errors.Join(err, b.Close()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came back as %d others", n, len(got))
			}
		}
	}
	if _, err := storage.Open(ctx, fsys, storage.Options{}); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("second store on one volume: %v", err)
	}
	u, err := s.Begin(ctx, 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(ctx, 0, bytes.NewReader(make([]byte, 12))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(u.Checkpoint(ctx), u.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = storage.Open(ctx, fsys, storage.Options{Volume: s.VolumeID()}); err != nil {
		t.Fatal(err)
	}
	if u, err = s.Resume(ctx, u.ID()); err != nil || u.Offset() != 12 || u.Size() != 20 {
		t.Fatal(u, err)
	}
	if _, err := u.Write(ctx, 12, bytes.NewReader(make([]byte, 8))); err != nil {
		t.Fatal(err)
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Ref != sha256.Sum256(make([]byte, 20)) || sealed.SHA1 != sha1.Sum(make([]byte, 20)) {
		t.Error("wrong sums after resuming")
	}
	if err := s.Commit(ctx, []storage.Sealed{sealed})[0]; err != nil {
		t.Fatal(err)
	}
	s.Release([]storage.Sealed{sealed})
	if entries, err := fsys.ReadDir("staging"); err != nil || len(entries) > 0 {
		t.Errorf("left in staging: %v %v", entries, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
