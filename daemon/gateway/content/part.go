package content

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"yunbox.local/daemon/catalog"
	"yunbox.local/storage"
)

// unsummedMost is the length in bytes up to which a content whose sums are not known,
// because it came with an older version of the box, is read whole before a part of it
// is given out. Of a longer one nobody would wait for that.
const unsummedMost = 256 << 20

// window is how many sums are asked for at a time.
const window = 1024

// partBlob is a blob of which parts are read: before any byte of a chunk leaves, all
// of the chunk is compared with its sum.
type partBlob struct {
	*storage.Blob
	ref     storage.Ref
	sums    func(from int64) (storage.Sums, error) // some, from that chunk on
	known   storage.Sums
	first   int64 // number of the chunk that known begins with
	buf     []byte
	held    int64 // number of the chunk in buf; -1: none
	at      int64 // offset of the next Read
	damaged bool
}

// parts prepares content for who wants parts of it. nil: it cannot be checked, see
// unsummedMost.
func (f *Files) parts(ctx context.Context, blob *storage.Blob, item catalog.Item) (*partBlob, error) {
	p := &partBlob{Blob: blob, ref: item.Ref, held: -1}
	stored := func(from int64) (storage.Sums, error) {
		return f.Catalog.Sums(ctx, item.Ref, item.Size, from, window)
	}
	var err error
	if item.Size > storage.SumsFrom {
		if p.known, err = stored(0); p.known != nil || err != nil {
			p.sums = stored
			return p, err
		}
	}
	if item.Size > unsummedMost {
		return nil, nil
	}
	if item.Size > storage.SumsFrom {
		f.surveying.Lock() // one at a time; a player asks for many parts at once
		defer f.surveying.Unlock()
		if p.known, err = stored(0); p.known != nil || err != nil {
			p.sums = stored
			return p, err
		}
	}
	if p.known, err = survey(ctx, blob, item); err != nil {
		return nil, err
	}
	p.sums = func(int64) (storage.Sums, error) { return nil, nil } // all are there
	return p, f.Catalog.LearnSums(ctx, item.Ref, p.known)
}

// survey reads all of a content, compares it with its name and returns its sums.
func survey(ctx context.Context, blob *storage.Blob, item catalog.Item) (storage.Sums, error) {
	var sums storage.Summer
	hash := sha256.New()
	buf := make([]byte, min(item.Size, storage.SumChunk))
	for at := int64(0); at < item.Size; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b := buf[:min(item.Size-at, storage.SumChunk)]
		if _, err := blob.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("blob %s: %w: %w", item.Ref, storage.ErrDamaged, err)
		}
		hash.Write(b)
		_, _ = sums.Write(b)
		at += int64(len(b))
	}
	if storage.Ref(hash.Sum(nil)) != item.Ref {
		return nil, fmt.Errorf("blob %s: %w", item.Ref, storage.ErrDamaged)
	}
	return sums.Sums(), nil
}

// Seek implements io.Seeker.
func (p *partBlob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.Size()
	}
	if offset < 0 {
		return 0, errors.New("content: a seek to before the beginning")
	}
	p.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (p *partBlob) Read(b []byte) (int, error) {
	if p.at >= p.Size() {
		return 0, io.EOF
	}
	chunk := p.at / storage.SumChunk
	if chunk != p.held {
		if err := p.load(chunk); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.buf[p.at-chunk*storage.SumChunk:])
	p.at += int64(n)
	return n, nil
}

// load reads a chunk and checks it, a second time if it does not fit.
func (p *partBlob) load(chunk int64) (err error) {
	p.held = -1
	at := chunk * storage.SumChunk
	if p.buf == nil {
		p.buf = make([]byte, min(p.Size(), storage.SumChunk))
	}
	p.buf = p.buf[:min(p.Size()-at, storage.SumChunk)]
	sum, err := p.sumOf(chunk)
	if err != nil {
		return err
	}
	for range 2 {
		if _, err = p.ReadAt(p.buf, at); err != nil && !errors.Is(err, io.EOF) {
			continue
		}
		if err = nil; storage.SumOf(p.buf) == sum {
			p.held = chunk
			return nil
		}
	}
	p.damaged = true
	return errors.Join(fmt.Errorf("blob %s: chunk %d: %w", p.ref, chunk, storage.ErrDamaged), err)
}

func (p *partBlob) sumOf(chunk int64) (uint32, error) {
	if i := chunk - p.first; i >= 0 && i < int64(len(p.known)) {
		return p.known[i], nil
	}
	some, err := p.sums(chunk)
	if err == nil && len(some) == 0 {
		err = fmt.Errorf("blob %s: the sum of chunk %d is not known any more", p.ref, chunk)
	}
	if err != nil {
		return 0, err
	}
	p.known, p.first = some, chunk
	return some[0], nil
}

var _ io.ReadSeeker = (*partBlob)(nil)
