package target

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"syscall"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// tempSuffix ends the name of a file that is not whole yet.
const tempSuffix = ".new"

const bufferSize = 128 << 10

// ErrSource is wrapped by the error of a content that cannot be copied because of
// itself: its bytes are not what they should be, or the target cannot hold a file
// of that size. Everything else can go on.
var ErrSource = errors.New("this content cannot be copied")

// written gives a failure of the target the words for a person.
func written(op string, err error) error {
	var p *problem.Error
	switch {
	case err == nil || errors.As(err, &p) || errors.Is(err, ErrSource), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case vfs.IsFull(err):
		return &problem.Error{Kind: problem.Full, Op: op, Err: err, Title: "The disk of the second copy is full",
			Detail: "The former state of the copy is whole and can be restored.",
			Hint:   "Free space on that disk, or add a larger one with `yunboxctl backup add`; what was copied already is not copied again."}
	}
	return &problem.Error{Kind: problem.Unavailable, Op: op, Err: err, Title: "The disk of the second copy does not work",
		Detail: "Writing to it or reading back from it failed. The former state of the copy is not touched.",
		Hint:   "Look at its cable and at the system's log; if it goes on failing, add another disk."}
}

// syncDir makes names durable. Some network file systems know no such thing; their
// server decides.
func (t *Target) syncDir(dir string) error {
	err := t.fsys.SyncDir(dir)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// sink is a file on its way: what is written is hashed and counted.
type sink struct {
	f    vfs.File
	sum  hash.Hash
	size int64
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	s.sum.Write(p[:n])
	s.size += int64(n)
	return n, err
}

// put writes what fill writes to name + ".new", encrypted unless plain, makes it
// durable, and reads it back from the device. The name itself is publish's.
func (t *Target) put(ctx context.Context, name string, plain bool, fill func(io.Writer) error) (e Entry, err error) {
	temp := name + tempSuffix
	if err := t.fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	f, err := t.fsys.OpenFile(temp, vfs.CreateNew, fileMode)
	if err != nil {
		return e, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = t.fsys.Remove(temp) // a leftover is removed by the next run
		}
	}()
	out := &sink{f: f, sum: sha256.New()}
	if err := t.fill(out, plain, fill); err != nil {
		return e, err
	}
	if err := f.Sync(); err != nil {
		return e, err
	}
	out.sum.Sum(e.Sum[:0])
	e.Size = out.size
	back, err := t.readBack(ctx, f)
	if err != nil {
		return e, err
	}
	if back != e.Sum {
		return e, fmt.Errorf("%s: the disk gives back other bytes than were written", path.Base(name))
	}
	return e, nil
}

func (t *Target) fill(out io.Writer, plain bool, fill func(io.Writer) error) error {
	buf := bufio.NewWriter(out) // for what is small: pieces of age go past it
	if plain {
		if err := fill(buf); err != nil {
			return err
		}
		return buf.Flush()
	}
	enc, err := t.keys.encrypt(buf)
	if err != nil {
		return err
	}
	if err := fill(enc); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

// readBack hashes a file as the device has it.
func (t *Target) readBack(ctx context.Context, f vfs.File) (sum [32]byte, err error) {
	if c, ok := f.(interface{ Evict(off, n int64) error }); ok {
		if err := c.Evict(0, 0); err != nil { // so that the device answers, not the page cache
			return sum, err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return sum, err
	}
	h := sha256.New()
	if _, err := t.copy(h, readOnly{ctx, f}); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// readOnly is a reader that ends with its context, and nothing more.
type readOnly struct {
	ctx context.Context
	r   io.Reader
}

func (r readOnly) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// writeSmall replaces a small file that is not encrypted.
func (t *Target) writeSmall(name string, data []byte) error {
	_, err := t.put(context.Background(), name, true, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if err := t.fsys.Rename(name+tempSuffix, name); err != nil {
		return err
	}
	return t.syncDir(path.Dir(name))
}

// maxBatch is how many contents become visible, and are noted, together.
const maxBatch = 64

// Copier puts contents into a copy. What it has copied is noted on the target as
// it goes, so that an interrupted run is not done again.
type Copier struct {
	t       *Target
	note    vfs.File // nil until something is copied
	notes   string   // its name
	pending []Entry
	have    map[Name]bool // what lies in the directory shard
	shard   int
}

// NewCopier begins to copy. Entries must be asked for and put in the order of
// their names. Close it.
func (t *Target) NewCopier() *Copier { return &Copier{t: t, shard: -1} }

// Has reports whether a file of that name is on the target.
func (c *Copier) Has(n Name) (bool, error) {
	if n.shard() != c.shard {
		if err := c.Flush(); err != nil {
			return false, err
		}
		have, err := c.t.namesIn(n.shard())
		if err != nil {
			return false, written("backup.run", err)
		}
		c.have, c.shard = have, n.shard()
	}
	return c.have[n], nil
}

// namesIn lists one directory of contents.
func (t *Target) namesIn(shard int) (map[Name]bool, error) {
	list, err := t.fsys.ReadDir(shardDir(shard))
	if err != nil {
		return nil, err
	}
	have := make(map[Name]bool, len(list))
	for _, e := range list {
		if n, ok := parseName(e.Name()); ok && e.Type().IsRegular() && n.shard() == shard {
			have[n] = true
		}
	}
	return have, nil
}

// Put copies one content from r, which must have the SHA-256 ref: else the error
// wraps ErrSource and nothing was copied. It is durable after Flush.
func (c *Copier) Put(ctx context.Context, ref storage.Ref, r io.Reader) (Entry, error) {
	name := c.t.keys.Name(ref)
	e, err := c.t.put(ctx, name.path(), false, func(w io.Writer) error {
		h := sha256.New()
		// A failure to read is the source's, one to write is the target's.
		in := &sourceReader{r: readOnly{ctx, r}}
		if _, err := c.t.copy(io.MultiWriter(w, h), in); err != nil {
			if in.failed != nil && ctx.Err() == nil {
				return fmt.Errorf("%w: %w", ErrSource, in.failed)
			}
			return err
		}
		if got := storage.Ref(h.Sum(nil)); got != ref {
			return fmt.Errorf("%w: its bytes have the SHA-256 %s", ErrSource, got)
		}
		return nil
	})
	switch {
	case errors.Is(err, syscall.EFBIG):
		return e, fmt.Errorf("%w: %w", ErrSource, err)
	case err != nil:
		return e, written("backup.run", err)
	}
	e.Name, e.Ref = name, ref
	c.pending = append(c.pending, e)
	if len(c.pending) >= maxBatch {
		return e, c.Flush()
	}
	return e, nil
}

type sourceReader struct {
	r      io.Reader
	failed error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = err
	}
	return n, err
}

// Flush gives what was put its names, durably, and notes it.
func (c *Copier) Flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	var note bytes.Buffer
	dirs := map[string]bool{}
	for _, e := range c.pending {
		p := e.Name.path()
		if err := c.t.fsys.Rename(p+tempSuffix, p); err != nil {
			return written("backup.run", err)
		}
		dirs[path.Dir(p)] = true
		note.WriteString(e.copiedLine())
	}
	c.pending = c.pending[:0]
	for dir := range dirs {
		if err := c.t.syncDir(dir); err != nil {
			return written("backup.run", err)
		}
	}
	return written("backup.run", c.writeNote(note.Bytes()))
}

func (c *Copier) writeNote(text []byte) error {
	if c.note == nil {
		for n := 1; ; n++ {
			name := fmt.Sprintf("%s%06d", copiedPrefix, n)
			f, err := c.t.fsys.OpenFile(name, vfs.CreateNew, fileMode)
			if errors.Is(err, fs.ErrExist) {
				continue
			} else if err != nil {
				return err
			}
			c.note, c.notes = f, name
			break
		}
		if err := c.t.syncDir("."); err != nil {
			return err
		}
	}
	if _, err := c.note.Write(text); err != nil {
		return err
	}
	return c.note.Sync()
}

// Close ends the copying; what was not flushed is given up.
func (c *Copier) Close() error {
	for _, e := range c.pending {
		_ = c.t.fsys.Remove(e.Name.path() + tempSuffix) // else the next run does
	}
	c.pending = nil
	if c.note == nil {
		return nil
	}
	f := c.note
	c.note = nil
	return written("backup.run", f.Close())
}

// Copied gives what unfinished runs have noted to fn, in no order. A line that a
// cut has torn is left out.
func (t *Target) Copied(fn func(Entry) error) error {
	return t.eachNote(func(name string) error {
		f, err := openRegular(t.fsys, name)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // read only
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if e, ok := parseCopiedLine(lines.Text()); ok {
				if err := fn(e); err != nil {
					return err
				}
			}
		}
		if errors.Is(lines.Err(), bufio.ErrTooLong) {
			return nil // zeros where a cut fell
		}
		return lines.Err()
	})
}

func (t *Target) eachNote(fn func(name string) error) error {
	list, err := t.fsys.ReadDir(".")
	if err != nil {
		return written("backup.run", err)
	}
	for _, e := range list {
		var n int
		if _, err := fmt.Sscanf(e.Name(), copiedPrefix+"%06d", &n); err == nil && e.Name() == fmt.Sprintf("%s%06d", copiedPrefix, n) {
			if err := fn(e.Name()); err != nil {
				return written("backup.run", err)
			}
		}
	}
	return nil
}
