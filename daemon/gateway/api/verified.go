package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"yunbox.local/storage"
)

// verifiedBlob is a blob whose bytes are hashed as they are read from the first
// to the last. The read that would deliver the last bytes of damaged content
// fails instead, so that whoever reads all of it never takes it for good. Reads
// of a part prove nothing and are not checked.
type verifiedBlob struct {
	*storage.Blob
	ref     storage.Ref
	hash    hash.Hash
	at      int64 // offset of the next Read
	hashed  int64 // bytes that went through hash, from the first; -1: out of order
	damaged bool
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
		v.hashed = 0
	}
	if v.at == v.hashed {
		v.hash.Write(p[:n])
		v.hashed += int64(n)
	} else {
		v.hashed = -1
	}
	v.at += int64(n)
	if v.hashed == v.Size() && n > 0 && storage.Ref(v.hash.Sum(nil)) != v.ref {
		v.damaged = true
		return 0, fmt.Errorf("blob %s: %w", v.ref, storage.ErrDamaged)
	}
	return n, err
}

var _ io.ReadSeeker = (*verifiedBlob)(nil)

// suspect reads a content again that did not look good, because memory and
// cables fail, too. If it is damaged, nobody is told any longer that it is
// known: a phone that still has it sends it again, and that heals it.
func (a *API) suspect(ctx context.Context, ref storage.Ref) {
	err := a.store.Verify(ctx, ref)
	if err == nil {
		a.log.WarnContext(ctx, "a content was read wrongly once and is sound", "ref", ref)
		return
	}
	if !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, storage.ErrNotFound) {
		a.log.WarnContext(ctx, "a content cannot be read right now", "ref", ref, "error", err)
		return // too many open files, for example: that says nothing about the bytes
	}
	a.log.ErrorContext(ctx, "a content is damaged; it will be asked for again", "ref", ref, "error", err)
	if err := a.catalog.Doubt(ctx, ref, true); err != nil {
		a.log.ErrorContext(ctx, "the damage could not be noted", "ref", ref, "error", err)
	}
}
