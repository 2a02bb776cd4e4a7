package dedup

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// endSize is how much of each end is compared first.
	endSize = 4 << 10
	// wholeLimit is up to which size a file is read whole at once: a look at both
	// ends costs a disk as much.
	wholeLimit = 256 << 10
	// pieceSize is how much is compared at a time; a quarter of it is read and hashed.
	pieceSize = 1 << 20
	// stepSize is after how many bytes of one file it is told how far it is.
	stepSize = 16 << 20
	// readers is how many files are read at once: disks without a head answer many
	// questions as fast as one.
	readers = 16
)

var errChanged = errors.New("it changed meanwhile")

// reader reads files of one scan, several at once where that helps.
type reader struct {
	s     *scan
	meter *meter
	full  bool          // all of it, whatever the size
	out   func(*record) // one call at a time

	head sync.Mutex // of a hard disk
	mu   sync.Mutex // guards out, report, meter
}

// job is a file to read: its names are records of one inode.
type job []record

// pass reads what in gives, which is sorted by inode. Each record comes out with what
// it was read for, or not at all.
func (s *scan) pass(ctx context.Context, stage Stage, in iter.Seq2[*record, error], files, bytes int64, full bool, out func(*record)) error {
	r := &reader{s: s, meter: newMeter(s.opt.Progress, stage, files, bytes), full: full, out: out}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan job, 64)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			buf := make([]byte, pieceSize/4)
			for j := range jobs {
				if ctx.Err() == nil {
					if err := r.take(ctx, j, buf); err != nil {
						cancel(err)
					}
				}
			}
		})
	}
	var now job
	var failed error
	send := func() {
		switch {
		case len(now) == 0:
		case now[0].known&r.wanted(&now[0]) != 0: // there is nothing to read
			if err := r.take(ctx, now, nil); err != nil {
				cancel(err)
			}
			now = now[:0]
		default:
			select {
			case jobs <- now:
			case <-ctx.Done():
			}
			now = nil
		}
	}
	for rec, err := range in {
		if err != nil {
			failed = err
			break
		}
		if len(now) > 0 && !now[0].same(rec.Facts) {
			send()
		}
		if ctx.Err() != nil {
			break
		}
		now = append(now, *rec)
	}
	send()
	close(jobs)
	wg.Wait()
	if failed == nil && ctx.Err() != nil {
		failed = context.Cause(ctx)
	}
	r.meter.end()
	return failed
}

// take reads one file. The error is what ends the scan.
func (r *reader) take(ctx context.Context, j job, buf []byte) error {
	first := &j[0]
	var failed error
	read, told := int64(0), int64(0)
	if first.known&r.wanted(first) == 0 {
		read, failed = r.read(ctx, j, buf, func(n int64) {
			told += n
			r.mu.Lock()
			defer r.mu.Unlock()
			r.meter.add(0, n)
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meter.add(1, cost(first, r.full)-told)
	if read > 0 {
		r.s.report.ReadFiles++
		r.s.report.ReadBytes += read
	}
	if failed != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path, err := r.s.names.path(first.name)
		if err != nil {
			return err
		}
		if errors.Is(failed, errChanged) || gone(failed) {
			r.s.report.Changed.add(path, reasonOf(failed))
		} else {
			r.s.report.Unreadable.add(path, reasonOf(failed))
		}
		return nil
	}
	if read > 0 {
		if err := r.s.remember(first); err != nil {
			return err
		}
	}
	for i := range j {
		j[i].known, j[i].ends, j[i].full = first.known, first.ends, first.full
		r.out(&j[i])
	}
	return nil
}

// cost is how many bytes of a file are read.
func cost(r *record, full bool) int64 {
	if full || r.Size <= wholeLimit {
		return r.Size
	}
	return 2 * endSize
}

// wanted is what a file must be read for.
func (r *reader) wanted(rec *record) known {
	if r.full || rec.Size <= wholeLimit {
		return knowsFull
	}
	return knowsEnds | knowsFull
}

// read opens a file by any of its names. Of a long one step is told how it goes on.
func (r *reader) read(ctx context.Context, j job, buf []byte, step func(int64)) (n int64, err error) {
	for i := range j {
		var path string
		if path, err = r.s.names.path(j[i].name); err != nil {
			return 0, err
		}
		if n, err = r.readName(ctx, path, &j[0], buf, step); err == nil || !gone(err) {
			break
		}
	}
	return n, err
}

func (r *reader) readName(ctx context.Context, path string, rec *record, buf []byte, step func(int64)) (n int64, err error) {
	fd, err := r.s.tree.openFD(path)
	if err != nil {
		return 0, pathError("open", path, err)
	}
	defer unix.Close(fd)
	vol, err := r.s.unchanged(fd, rec.Facts)
	if err != nil {
		return 0, err
	}
	if vol.spins {
		// Others hash while one reads.
		r.head.Lock()
		defer r.head.Unlock()
	}
	if r.wanted(rec)&knowsEnds != 0 {
		err = readEnds(fd, rec, buf)
		n = 2 * endSize
	} else {
		n, err = readWhole(ctx, fd, rec, buf, vol.spins, &r.head, step)
	}
	if err != nil {
		return n, err
	}
	_, err = r.s.unchanged(fd, rec.Facts)
	return n, err
}

// unchanged says whether an open file is as it was listed.
func (s *scan) unchanged(fd int, was Facts) (volume, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return volume{}, os.NewSyscallError("fstat", err)
	}
	vol := s.tree.vols.of(uint64(st.Dev), fd)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || s.tree.factsOf(&st, fd) != was {
		return vol, errChanged
	}
	return vol, nil
}

func readEnds(fd int, rec *record, buf []byte) error {
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) // no read-ahead; only a hint
	b := buf[:2*endSize]
	if err := readAll(fd, b[:endSize], 0); err != nil {
		return err
	}
	if err := readAll(fd, b[endSize:], rec.Size-endSize); err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	copy(rec.ends[:], sum[:])
	rec.known |= knowsEnds
	return nil
}

// readAll fills b. A file that ends before is one that changed.
func readAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return errChanged
		default:
			b, off = b[n:], off+int64(n)
		}
	}
	return nil
}

// readWhole hashes all of a file. The head of a hard disk, held by the caller, is
// free for others while a piece is hashed.
func readWhole(ctx context.Context, fd int, rec *record, buf []byte, spins bool, head *sync.Mutex, step func(int64)) (int64, error) {
	h := sha256.New()
	since := int64(0)
	var ends [2 * endSize]byte
	for off := int64(0); off < rec.Size; {
		if ctx.Err() != nil {
			return off, context.Cause(ctx)
		}
		b := buf[:min(rec.Size-off, int64(len(buf)))]
		if err := readAll(fd, b, off); err != nil {
			return off, err
		}
		if spins {
			// What comes next is on its way before another file has its turn.
			_ = unix.Fadvise(fd, off+int64(len(b)), 4<<20, unix.FADV_WILLNEED)
			head.Unlock()
		}
		h.Write(b)
		if spins {
			head.Lock()
		}
		if off == 0 {
			copy(ends[:endSize], b)
		}
		off += int64(len(b))
		if since += int64(len(b)); since >= stepSize {
			step(since)
			since = 0
		}
	}
	if rec.Size > wholeLimit {
		if err := readAll(fd, ends[endSize:], rec.Size-endSize); err != nil {
			return rec.Size, err
		}
		sum := sha256.Sum256(ends[:])
		copy(rec.ends[:], sum[:])
		rec.known |= knowsEnds
	}
	rec.known |= knowsFull
	h.Sum(rec.full[:0])
	return rec.Size, nil
}
