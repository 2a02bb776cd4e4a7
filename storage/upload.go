package storage

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"sync/atomic"

	"yunbox.local/storage/vfs"
)

// Upload is a content on its way in. Its methods may be called from any
// goroutine; they take turns, except ID, Offset and Size, which never wait.
//
// Every Upload must end: by Close or Discard, or by Seal and then Commit and
// Release of the Sealed. Closing twice, and closing what was committed, is
// harmless, so that Close can be deferred.
type Upload struct {
	s      *Store
	id     string
	offset atomic.Int64
	size   atomic.Int64 // -1: not known

	mu     sync.Mutex
	phase  phase
	void   error    // why nothing can become of this upload any more
	file   vfs.File // nil: nothing was written yet, or sealed and already in blobs/
	name   string   // the file's name in staging/; "": it has none
	synced int64    // this many bytes are durable
	pushed int64    // this many bytes have been handed to the disk

	hashes hashes
	sums   uploadSums
	crc    uint32 // of what came, of a content that the intent log may take

	seq       uint64 // number of the last checkpoint; 0: there was none
	kept      int64  // offset of the last checkpoint
	keptSize  int64  // size in the last checkpoint
	stateFile vfs.File

	sum    Ref // once sealed
	sum1   SHA1
	keep   bool // the blob is there already, and good; its name may not be durable
	small  bool // its data is left to the intent log
	pinned bool
}

type phase int

const (
	receiving phase = iota
	sealed
	committed // durable, not yet released
	gone      // closed, discarded or released
)

// Sealed is a content that has arrived whole. It is not yet durable.
type Sealed struct {
	Ref  Ref
	SHA1 SHA1
	Size int64 // bytes
	Sums Sums  // nil: not known, or the content is not longer than SumsFrom

	upload *Upload
}

// Begin starts an upload of size bytes, -1 when that is not known yet. ErrFull:
// it would not fit above the reserve. Nothing is written to the disk before the
// first byte comes.
func (s *Store) Begin(ctx context.Context, size int64) (*Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if size < -1 {
		return nil, fmt.Errorf("begin upload: size %d", size)
	}
	u := &Upload{s: s, id: newID(), hashes: newHashes()}
	u.size.Store(size)
	if err := s.hold(u); err != nil {
		return nil, err
	}
	if err := s.promise(u.missing()); err != nil {
		s.letGo(u)
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	return u, nil
}

// hold enters u among the uploads in use.
func (s *Store) hold(u *Upload) error {
	if err := s.usable(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[u.id] != nil {
		return fmt.Errorf("upload %s: %w", u.id, ErrInUse)
	}
	s.open[u.id] = u
	return nil
}

func (s *Store) letGo(u *Upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[u.id] == u {
		delete(s.open, u.id)
	}
}

// Resume takes up an upload at its last checkpoint. ErrNotFound: there is none
// of that id. ErrInUse: it is held; its holder must Close it first.
func (s *Store) Resume(ctx context.Context, id string) (*Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	u := &Upload{s: s, id: id, hashes: newHashes()}
	if !validID(id) {
		return nil, fmt.Errorf("upload: %w", ErrNotFound)
	}
	if err := s.hold(u); err != nil {
		return nil, err
	}
	if err := u.load(ctx); err != nil {
		err = errors.Join(err, u.closeFiles())
		s.unpin(u)
		s.letGo(u)
		return nil, err
	}
	s.promised.Add(u.missing())
	return u, nil
}

// load brings u to its last checkpoint.
func (u *Upload) load(ctx context.Context) error {
	st, err := u.s.loadStaged(u.id)
	if err != nil {
		return err
	}
	u.size.Store(st.size)
	u.offset.Store(st.offset)
	u.seq, u.kept, u.keptSize = st.seq, st.offset, st.size
	u.synced, u.pushed = st.offset, st.offset
	u.sums = st.sums
	flag := vfs.ReadWrite
	if st.sealed {
		u.phase, u.sum, u.sum1 = sealed, Ref(st.hash), SHA1(st.sha1)
		u.s.pin(u)
		if !st.part {
			// Renamed before a crash, perhaps without the sync that follows.
			u.keep = true
			if err := u.whole(); err != nil {
				return fmt.Errorf("upload %s: %w (%w)", u.id, ErrNotFound, err)
			}
			return u.s.syncShard(path.Dir(u.sum.path()))
		}
		flag = vfs.ReadOnly // its mode may be that of a blob already
	}
	u.name = u.id + extPart
	if u.file, err = u.s.fsys.OpenFile(stagingDir+"/"+u.name, flag, 0); err != nil {
		return fmt.Errorf("upload %s: %w", u.id, err)
	}
	if st.sealed {
		return nil
	}
	// Bytes after the offset may or may not have reached the disk.
	if err := u.file.Truncate(st.offset); err != nil {
		return fmt.Errorf("upload %s: %w", u.id, err)
	}
	if u.restoreHashes(st.record) == nil {
		return nil
	}
	// The state is from a Go release that this one cannot read.
	u.hashes.sha256.Reset()
	u.hashes.sha1.Reset()
	buf := u.s.buffers.get(streamBuffer)
	defer u.s.buffers.put(buf)
	all := &contextReader{ctx, io.NewSectionReader(u.file, 0, st.offset)}
	if n, err := io.CopyBuffer(&u.hashes, all, *buf); err != nil {
		return fmt.Errorf("upload %s: hash again: %w", u.id, err)
	} else if n != st.offset {
		return fmt.Errorf("upload %s: hash again: %w", u.id, ErrDamaged)
	}
	return nil
}

// whole looks whether the blob that a sealed upload has become is there, now that it is
// pinned, and is whole: the same content may have come once more by the intent log, and
// that may not have been put back.
func (u *Upload) whole() error {
	f, err := u.s.fsys.OpenFile(u.sum.path(), vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	if u.size.Load() > intentLimit {
		return nil
	}
	return u.s.sameAs(f, u.sum)
}

func (u *Upload) restoreHashes(r record) error {
	a, okA := u.hashes.sha256.(encoding.BinaryUnmarshaler)
	b, okB := u.hashes.sha1.(encoding.BinaryUnmarshaler)
	if !okA || !okB {
		return errors.ErrUnsupported
	}
	return errors.Join(a.UnmarshalBinary(r.hash), b.UnmarshalBinary(r.sha1))
}

// Discard removes a resumable upload that nobody holds. ErrNotFound, ErrInUse.
func (s *Store) Discard(ctx context.Context, id string) error {
	u, err := s.Resume(ctx, id)
	if err != nil {
		return err
	}
	return u.Discard()
}

// ID is the name under which Resume finds the upload, after a Checkpoint: 26
// characters, not guessable.
func (u *Upload) ID() string { return u.id }

// Offset is the number of bytes received so far.
func (u *Upload) Offset() int64 { return u.offset.Load() }

// Size is the declared size in bytes, -1 while it is not known.
func (u *Upload) Size() int64 { return u.size.Load() }

// SetSize declares the size of an upload begun without one. ErrFull as for
// Begin; ErrTooLong when more has arrived already.
func (u *Upload) SetSize(size int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.receiving(); err != nil {
		return err
	}
	switch have := u.size.Load(); {
	case size == have:
		return nil
	case have >= 0:
		return fmt.Errorf("upload %s: its size is %d bytes already", u.id, have)
	case size < u.offset.Load():
		return fmt.Errorf("upload %s: %w: %d bytes have come, %d declared", u.id, ErrTooLong, u.offset.Load(), size)
	}
	if err := u.s.promise(size - u.offset.Load()); err != nil {
		return fmt.Errorf("upload %s: %w", u.id, err)
	}
	u.size.Store(size)
	return nil
}

// missing is how many declared bytes have not come yet.
func (u *Upload) missing() int64 {
	if size := u.size.Load(); size >= 0 {
		return size - u.offset.Load()
	}
	return 0
}

// receiving says whether the upload can go on. u.mu is held.
func (u *Upload) receiving() error {
	switch {
	case u.void != nil:
		return fmt.Errorf("upload %s: void: %w", u.id, u.void)
	case u.phase != receiving:
		return fmt.Errorf("upload %s: %w", u.id, ErrClosed)
	}
	return u.s.usable()
}

// Seal ends the upload, computes its name and makes its data durable, unless it
// is small enough for the intent log, where Commit brings it. From then
// until Release, Close or Discard the blob of that name is pinned against Sweep.
// ErrIncomplete: fewer bytes came than were declared; the upload goes on. A
// sealed upload of unknown size has the size that came. Sealing again gives the
// same answer.
//
// The data is synced here, by each upload for itself, and not in Commit: while
// one group gets its names, the file system writes the data of the next with
// the same flush, and nobody waits in Commit for the data of somebody else's
// large file. Of a resumable upload the end is recorded too, so that a client
// whose answer is lost need not send all of it again.
func (u *Upload) Seal(ctx context.Context) (Sealed, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == sealed && u.void == nil {
		return u.asSealed(), nil
	}
	if err := u.receiving(); err != nil {
		return Sealed{}, err
	}
	if err := ctx.Err(); err != nil {
		return Sealed{}, context.Cause(ctx)
	}
	if missing := u.missing(); missing > 0 {
		return Sealed{}, fmt.Errorf("upload %s: %w: %d of %d bytes are missing", u.id, ErrIncomplete, missing, u.size.Load())
	}
	u.sum, u.sum1 = Ref(u.hashes.sha256.Sum(nil)), SHA1(u.hashes.sha1.Sum(nil))
	u.s.pin(u)
	if err := u.seal(ctx); err != nil {
		u.s.unpin(u)
		return Sealed{}, err
	}
	u.phase = sealed
	return u.asSealed(), nil
}

// seal brings good bytes of the upload's content to stable storage: those that
// came, unless there is a good blob of that content already.
func (u *Upload) seal(ctx context.Context) error {
	var err error
	if u.keep, err = u.s.makeSure(ctx, u.sum, u.offset.Load()); err != nil {
		u.s.log.Warn("a blob cannot be relied on and is replaced by the copy that came now", "blob", u.sum, "error", err)
	}
	if u.keep && u.seq == 0 {
		u.size.Store(u.offset.Load())
		return nil
	}
	if err := u.create(); err != nil {
		return err
	}
	if u.small = u.seq == 0 && u.s.intent.takes(u.offset.Load()); !u.small {
		if err := u.sync(); err != nil {
			return err
		}
	}
	size := u.size.Swap(u.offset.Load())
	if u.seq > 0 {
		if err := u.record(true); err != nil {
			u.size.Store(size)
			return err
		}
	}
	return nil
}

func (u *Upload) asSealed() Sealed {
	return Sealed{Ref: u.sum, SHA1: u.sum1, Size: u.size.Load(), Sums: u.sums.all(u.size.Load()), upload: u}
}

// Close lets go of the upload. What was checkpointed stays and can be resumed;
// an upload that never was vanishes.
func (u *Upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == committed || u.phase == gone {
		return nil
	}
	if u.seq == 0 || u.void != nil {
		return u.remove()
	}
	return u.leave()
}

// Discard lets go of the upload and removes all that was kept of it.
func (u *Upload) Discard() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == committed || u.phase == gone {
		return nil
	}
	return u.remove()
}

// leave ends the holding and keeps the files. u.mu is held.
func (u *Upload) leave() error {
	u.phase = gone
	err := u.closeFiles()
	u.s.promised.Add(-u.missing())
	u.s.unpin(u)
	u.s.letGo(u)
	return err
}

// remove ends the holding and removes the files. u.mu is held. The names need
// no sync: if a power cut brings them back, they are a resumable upload or are
// cleared at the next start.
func (u *Upload) remove() error {
	var err error
	if u.seq > 0 || u.stateFile != nil {
		err = u.s.removeStaged(u.id + extState)
	}
	if u.name != "" {
		err = errors.Join(err, u.s.removeStaged(u.name))
	}
	return errors.Join(err, u.leave())
}

func (u *Upload) closeFiles() error {
	var err error
	if u.file != nil {
		err = u.file.Close()
	}
	if u.stateFile != nil {
		err = errors.Join(err, u.stateFile.Close())
	}
	u.file, u.stateFile = nil, nil
	return err
}

// create makes the file for the bytes.
func (u *Upload) create() error {
	if u.file != nil {
		return nil
	}
	name := u.id + extTemp
	file, err := u.s.fsys.OpenFile(stagingDir+"/"+name, vfs.CreateNew, blobMode)
	if err != nil {
		return fmt.Errorf("upload %s: %w", u.id, u.s.touched(err))
	}
	u.s.readOnly.Store(false)
	u.file, u.name = file, name
	return nil
}

// sync makes all received bytes durable. A failure is final.
func (u *Upload) sync() error {
	if u.synced == u.offset.Load() {
		return nil
	}
	if err := u.s.dataSyncs.run(u.file.Datasync); err != nil {
		u.void = u.s.syncFailed("a staged upload", err)
		return u.void
	}
	u.synced = u.offset.Load()
	return nil
}
