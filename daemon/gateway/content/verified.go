package content

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"yunbox.local/storage"
)

// verifiedBlob is a blob whose bytes are hashed as they are read from the first
// to the last. The read that would deliver the last bytes of damaged content
// fails instead, so that whoever reads all of it never takes it for good. So does a
// read that the disk refuses, or that ends before the content does. Parts are for
// partBlob.
type verifiedBlob struct {
	*storage.Blob
	ref     storage.Ref
	hash    hash.Hash
	at      int64 // offset of the next Read
	hashed  int64 // bytes that went through hash, from the first; -1: out of order
	damaged bool

	summer storage.Summer // of what went through hash
	sums   storage.Sums   // once all of it has proved right
}

func verified(b *storage.Blob, ref storage.Ref) *verifiedBlob {
	return &verifiedBlob{Blob: b, ref: ref, hash: sha256.New()}
}

// Seek implements io.Seeker.
func (v *verifiedBlob) Seek(offset int64, whence int) (int64, error) {
	at, err := v.Blob.Seek(offset, whence)
	if err == nil {
		v.at = at
	}
	return at, err
}

// Read implements io.Reader.
func (v *verifiedBlob) Read(p []byte) (int, error) {
	n, err := v.Blob.Read(p)
	if v.at == 0 {
		v.hash.Reset()
		v.hashed, v.summer = 0, storage.Summer{}
	}
	if v.at == v.hashed {
		v.hash.Write(p[:n])
		_, _ = v.summer.Write(p[:n])
		v.hashed += int64(n)
	} else {
		v.hashed = -1
	}
	v.at += int64(n)
	if err != nil && err != io.EOF || err == io.EOF && v.at < v.Size() {
		v.damaged = true
		return n, fmt.Errorf("blob %s: %w: %w", v.ref, storage.ErrDamaged, err)
	}
	if v.hashed == v.Size() && n > 0 {
		if storage.Ref(v.hash.Sum(nil)) != v.ref {
			v.damaged = true
			return 0, fmt.Errorf("blob %s: %w", v.ref, storage.ErrDamaged)
		}
		v.sums = v.summer.Sums()
	}
	return n, err
}

var _ io.ReadSeeker = (*verifiedBlob)(nil)
