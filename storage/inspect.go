package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"

	"yunbox.local/storage/vfs"
)

// Damage says what is wrong with a blob.
type Damage string

// What can be wrong. The texts are kept in records and shown to programs.
const (
	Sound      Damage = ""           // nothing
	Missing    Damage = "missing"    // there is no file of that name
	NotAFile   Damage = "not-a-file" // a directory, a device or a link to nowhere has the name
	WrongSize  Damage = "size"       // the file is longer or shorter than the content
	WrongBytes Damage = "bytes"      // its bytes have another hash
	Unreadable Damage = "unreadable" // the disk does not give them
)

// Pace says how fast a blob is read back, and is told how far it came. It is for
// one reader at a time. nil: as fast as the disk gives.
type Pace struct {
	// Rate is asked again and again for the bytes per second that may be read
	// now; 0: no limit. nil: no limit.
	Rate func() int64
	// Read is told of every n bytes that were read. nil: nobody.
	Read func(n int64)

	due time.Time // when what was read so far may have been read
}

// longestPause bounds how far a wait goes ahead of the next question for the rate.
const longestPause = time.Second

// took accounts for n bytes and waits until they were slow enough.
func (p *Pace) took(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	if p.Read != nil {
		p.Read(int64(n))
	}
	if p.Rate == nil {
		return nil
	}
	rate := p.Rate()
	now := time.Now()
	if rate <= 0 {
		p.due = now
		return nil
	}
	if p.due.Before(now) {
		p.due = now // what was slower than allowed is no credit
	}
	p.due = p.due.Add(min(time.Duration(float64(n)/float64(rate)*float64(time.Second)), longestPause))
	wait := p.due.Sub(now)
	if wait < 5*time.Millisecond {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Look says whether the file of a blob is there and has the right size, which -1
// leaves open. It reads nothing. An error means that it cannot be said now.
func (s *Store) Look(ctx context.Context, ref Ref, size int64) (Damage, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	damage, err := s.look(ref, size)
	if err != nil || damage == Sound {
		return damage, err
	}
	return damage, s.there()
}

func (s *Store) look(ref Ref, size int64) (Damage, error) {
	info, err := s.fsys.Stat(ref.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Missing, nil
	case err != nil:
		return unreadable(err)
	case !info.Mode().IsRegular():
		return NotAFile, nil
	case size >= 0 && info.Size() != size:
		return WrongSize, nil
	}
	return Sound, nil
}

// Inspect reads a blob back from the disk itself, not from the page cache, and
// compares it with its name and with its size, which -1 leaves open. What does not
// fit is read once more, since memory and cables fail, too: only what is wrong
// twice is damage, and the next upload of that content then replaces it. The
// blob's pages are dropped from the cache before, between and behind.
//
// An error means that nothing can be said of the blob: ctx has ended, the process
// has no descriptor or memory left, the volume is not there any more.
func (s *Store) Inspect(ctx context.Context, ref Ref, size int64, pace *Pace) (Damage, error) {
	damage, _, err := s.ReadBack(ctx, ref, size, pace)
	return damage, err
}

// ReadBack is Inspect that also returns the sums of a content that is Sound.
func (s *Store) ReadBack(ctx context.Context, ref Ref, size int64, pace *Pace) (Damage, Sums, error) {
	first, sums, err := s.inspect(ctx, ref, size, pace)
	if err != nil || first == Sound {
		return first, sums, err
	}
	second, sums, err := s.inspect(ctx, ref, size, pace)
	if err != nil {
		return "", nil, err
	}
	if second == Sound {
		s.log.Warn("a blob was read wrongly once and is sound", "blob", ref, "first", string(first))
		return Sound, sums, nil
	}
	if err := s.there(); err != nil {
		return "", nil, err
	}
	s.Doubt(ref)
	return second, nil, nil
}

// evictEvery is how many bytes are read before their pages are let go.
const evictEvery = 4 << 20

func (s *Store) inspect(ctx context.Context, ref Ref, size int64, pace *Pace) (Damage, Sums, error) {
	if ctx.Err() != nil {
		return "", nil, context.Cause(ctx)
	}
	if damage, err := s.look(ref, size); err != nil || damage != Sound {
		return damage, nil, err
	}
	f, err := s.fsys.OpenFile(ref.path(), vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Missing, nil, nil
	} else if err != nil {
		damage, err := unreadable(err)
		return damage, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	_ = f.Evict(0, 0)
	defer f.Evict(0, 0) //nolint:errcheck // a hint
	buf := s.buffers.get(streamBuffer)
	defer s.buffers.put(buf)
	h := sha256.New()
	var sums Summer
	for read, gone := int64(0), int64(0); ; {
		n, err := f.Read(*buf)
		h.Write((*buf)[:n])
		_, _ = sums.Write((*buf)[:n])
		read += int64(n)
		if read-gone >= evictEvery {
			_ = f.Evict(gone, read-gone)
			gone = read
		}
		if n > 0 {
			if err := pace.took(ctx, n); err != nil {
				return "", nil, err
			}
		}
		switch {
		case ctx.Err() != nil:
			return "", nil, context.Cause(ctx)
		case err == io.EOF && size >= 0 && read != size:
			return WrongSize, nil, nil // it changed meanwhile
		case err == io.EOF && Ref(h.Sum(nil)) != ref:
			return WrongBytes, nil, nil
		case err == io.EOF:
			return Sound, sums.Sums(), nil
		case err != nil:
			damage, err := unreadable(err)
			return damage, nil, err
		}
	}
}

// unreadable tells damage from what says nothing about the blob.
func unreadable(err error) (Damage, error) {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN, fs.ErrClosed} {
		if errors.Is(err, own) {
			return "", fmt.Errorf("read a blob back: %w", err)
		}
	}
	return Unreadable, nil
}

// there says whether the volume still is: a disk that was unplugged holds no
// damaged blobs.
func (s *Store) there() error {
	if err := s.usable(); errors.Is(err, ErrClosed) {
		return err
	}
	if f, err := s.fsys.OpenFile(volumeFile, vfs.ReadOnly, 0); err == nil {
		_ = f.Evict(0, 0)
		_ = f.Close() // read only
	}
	if _, err := readVolume(s.fsys, s.volume.id); err != nil {
		s.trouble(err)
		return fmt.Errorf("the volume cannot be read any more: %w", err)
	}
	return nil
}
