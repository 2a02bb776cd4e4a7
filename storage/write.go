package storage

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// While a long body streams in, its bytes are handed to the disk in steps of
// pushStep, and nobody runs further ahead of the disk than maxAhead. So the page
// cache of a small box does not fill with dirty pages, and the sync at the end
// finds little left to do.
const (
	pushStep = 8 << 20
	maxAhead = 64 << 20
)

// Write appends the bytes of r, which begin at offset off of the content, and
// returns how many it kept. What arrived before an error of r is kept. Without
// an error r was read to its end.
//
// Errors: ErrOffset when the upload does not stand at off; nothing was read.
// ErrTooLong when r has more than the declared size; the upload is void then.
// ErrFull. The error of r. The cause of ctx, which is looked at before every
// read: who wants a read that waits for the network to end sooner must make it
// end, by a deadline. r is not used any more when Write returns.
func (u *Upload) Write(ctx context.Context, off int64, r io.Reader) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.receiving(); err != nil {
		return 0, err
	}
	if have := u.offset.Load(); off != have {
		return 0, fmt.Errorf("upload %s: %w: it stands at %d, not at %d", u.id, ErrOffset, have, off)
	}
	var err error
	if size := u.size.Load(); size < 0 || size-off > oneShot {
		err = u.stream(ctx, r)
	} else {
		err = u.writeShort(&contextReader{ctx, r}, int(size-off))
	}
	return u.offset.Load() - off, err
}

// writeShort takes a body whose rest of n bytes fits one buffer.
func (u *Upload) writeShort(r io.Reader, n int) error {
	buf := u.s.buffers.get(min(n+1, oneShot))
	defer u.s.buffers.put(buf)
	for {
		n, err := fill(r, *buf)
		if err := u.take((*buf)[:n]); err != nil {
			return err
		}
		if err != nil {
			return ended(err)
		}
	}
}

// stream takes a long body, or one of unknown length: the next buffer is read
// while the last one is hashed and written.
func (u *Upload) stream(ctx context.Context, r io.Reader) error {
	type chunk struct {
		buf *[]byte
		n   int
		err error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	in := &contextReader{ctx, r}
	const depth = 2
	empty, filled := make(chan *[]byte, depth), make(chan chunk, depth)
	for range depth {
		buf := u.s.buffers.get(streamBuffer)
		defer u.s.buffers.put(buf)
		empty <- buf
	}
	go func() {
		defer close(filled)
		for buf := range empty {
			n, err := fill(in, *buf)
			filled <- chunk{buf, n, err}
			if err != nil {
				return
			}
		}
	}()
	var failed error
	for c := range filled {
		if failed == nil {
			if failed = u.take((*c.buf)[:c.n]); failed != nil {
				stop() // the reader comes to its end; what it brings is dropped
			} else if c.err != nil {
				failed = ended(c.err)
			}
		}
		empty <- c.buf
	}
	return failed
}

// fill reads until buf is full or r ends.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

// ended tells the end of a body from its failure.
func ended(err error) error {
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// take appends b to the file and to the hashes.
func (u *Upload) take(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	off, size := u.offset.Load(), u.size.Load()
	tooLong := size >= 0 && int64(len(b)) > size-off
	if tooLong {
		b = b[:size-off]
	}
	if err := u.create(); err != nil {
		return err
	}
	n, err := u.file.WriteAt(b, off)
	_, _ = u.hashes.Write(b[:n])
	if !u.sums.unknown && (size < 0 || size > SumsFrom) {
		_, _ = u.sums.Write(b[:n])
	}
	if off+int64(n) <= intentLimit {
		u.crc = crc32.Update(u.crc, castagnoli, b[:n])
	}
	u.offset.Store(off + int64(n))
	if size >= 0 {
		u.s.promised.Add(-int64(n))
	}
	if err != nil {
		return fmt.Errorf("upload %s: write: %w", u.id, u.s.touched(err))
	}
	if tooLong {
		u.void = ErrTooLong
		return fmt.Errorf("upload %s: %w: more than %d bytes", u.id, ErrTooLong, size)
	}
	return u.push()
}

// push hands the next step to the disk and waits for the step that lies
// maxAhead behind, which has normally been written long since.
func (u *Upload) push() error {
	for u.offset.Load()-u.pushed >= pushStep {
		if err := u.writeBack(u.pushed, false); err != nil {
			return err
		}
		if behind := u.pushed - maxAhead; behind >= 0 {
			if err := u.writeBack(behind, true); err != nil {
				return err
			}
		}
		u.pushed += pushStep
		// Somebody else may fill the disk, too; and the size may be unknown.
		if u.pushed%maxAhead < pushStep {
			if err := u.s.room(0); err != nil {
				return fmt.Errorf("upload %s: %w", u.id, err)
			}
		}
	}
	return nil
}

func (u *Upload) writeBack(off int64, wait bool) error {
	if err := u.file.WriteBack(off, pushStep, wait); err != nil {
		u.void = u.s.syncFailed("a staged upload", err)
		return u.void
	}
	return nil
}

// contextReader ends with the cause of its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
