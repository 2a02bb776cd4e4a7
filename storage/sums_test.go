package storage_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// sumsOf computes them in another way.
func sumsOf(data []byte) (sums storage.Sums) {
	for chunk := range slices.Chunk(data, storage.SumChunk) {
		sums = append(sums, crc32.Checksum(chunk, crc32.MakeTable(crc32.Castagnoli)))
	}
	return sums
}

func randomBytes(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// A resumable upload has its sums at the end, wherever it was put down, and through
// power cuts it has the right ones or none. R01 R03
func TestSumsOfAnUploadInPieces(t *testing.T) {
	rng := vfstest.Seed(t)
	ctx := t.Context()
	for range 25 {
		disk := vfstest.NewDisk()
		s := mustOpen(t, disk, storage.Options{Reserve: -1, Intent: -1})
		data := randomBytes(rng, storage.SumsFrom+storage.SumChunk+rng.IntN(8*storage.SumChunk))
		if rng.IntN(3) == 0 {
			data = data[:max(len(data)/storage.SumChunk, storage.SumsFrom/storage.SumChunk+1)*storage.SumChunk]
		}
		cuts := rng.IntN(2) == 0
		u, err := s.Begin(ctx, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Checkpoint(ctx); err != nil {
			t.Fatal(err)
		}
		id := u.ID()
		for u.Offset() < int64(len(data)) {
			rest := data[u.Offset():]
			n := min(1+rng.IntN(3*storage.SumChunk), len(rest))
			if rng.IntN(3) == 0 {
				n = min(storage.SumChunk, len(rest))
			}
			if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(rest[:n])); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				if err := u.Checkpoint(ctx); err != nil {
					t.Fatal(err)
				}
			}
			switch {
			case cuts && rng.IntN(4) == 0:
				disk = disk.PowerCut(rng)
				s = mustOpen(t, disk, storage.Options{Reserve: -1, Intent: -1})
			case rng.IntN(3) == 0:
				if err := u.Close(); err != nil {
					t.Fatal(err)
				}
			default:
				continue
			}
			if u, err = s.Resume(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		sealed, err := u.Seal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if want := sumsOf(data); !slices.Equal(sealed.Sums, want) && (sealed.Sums != nil || !cuts) {
			t.Fatalf("%d bytes, with cuts: %v: %x, want %x", len(data), cuts, sealed.Sums, want)
		}
		if err := u.Close(); err != nil { // the client's answer was lost
			t.Fatal(err)
		}
		if u, err = s.Resume(ctx, id); err != nil {
			t.Fatal(err)
		}
		again, err := u.Seal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.Sums, sealed.Sums) {
			t.Fatalf("%x, and after it was sealed %x", sealed.Sums, again.Sums)
		}
		if err := errors.Join(s.Commit(ctx, []storage.Sealed{again})...); err != nil {
			t.Fatal(err)
		}
		s.Release([]storage.Sealed{again})
		damage, sums, err := s.ReadBack(ctx, again.Ref, again.Size, nil)
		if damage != storage.Sound || err != nil || !slices.Equal(sums, sumsOf(data)) {
			t.Fatalf("read back: %q, %v, %x", damage, err, sums)
		}
	}
}

// Sums that a power cut kept from the state file, or that rotted there, are not
// taken for those of the bytes.
func TestDamagedSumsOfAnUploadAreNotUsed(t *testing.T) {
	rng := vfstest.Seed(t)
	ctx := t.Context()
	disk := vfstest.NewDisk()
	s := mustOpen(t, disk, storage.Options{Reserve: -1, Intent: -1})
	data := randomBytes(rng, 2*storage.SumsFrom)
	u, err := s.Begin(ctx, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(ctx, 0, bytes.NewReader(data[:storage.SumsFrom])); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{u.Checkpoint(ctx), u.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := disk.OpenFile("staging/"+u.ID()+".state", vfs.ReadWrite, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3, 4}, 8192+4*int64(rng.IntN(8))); err != nil {
		t.Fatal(err)
	}
	if u, err = s.Resume(ctx, u.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(data[u.Offset():])); err != nil {
		t.Fatal(err)
	}
	sealed, err := u.Seal(ctx)
	if err != nil || sealed.Sums != nil {
		t.Fatalf("%v, %x", err, sealed.Sums)
	}
}

// Nothing is kept of what is read whole anyway.
func TestSmallContentsHaveNoSums(t *testing.T) {
	ctx := t.Context()
	s := mustOpen(t, vfstest.NewDisk(), storage.Options{Reserve: -1, Intent: -1})
	for _, size := range []int{0, 1, storage.SumChunk, storage.SumsFrom, storage.SumsFrom + 1} {
		for _, said := range []int64{int64(size), -1} {
			u, err := s.Begin(ctx, said)
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat([]byte{7}, size)
			if _, err := u.Write(ctx, 0, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			sealed, err := u.Seal(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var want storage.Sums
			if size > storage.SumsFrom {
				want = sumsOf(data)
			}
			if !slices.Equal(sealed.Sums, want) || (sealed.Sums == nil) != (want == nil) {
				t.Errorf("%d bytes (said %d): %x", size, said, sealed.Sums)
			}
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
