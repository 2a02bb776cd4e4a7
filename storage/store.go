// Package storage keeps contents ("blobs") by their SHA-256 on one volume. It
// knows no people, no names, no SQL.
//
// # A blob's way
//
// Begin starts an Upload. Write appends what arrives and hashes it in the same
// pass. Seal ends the hashing and gives the content its name, a Ref. Commit
// makes a batch of sealed uploads durable: data first, then names; of small ones
// the data by one sync of the intent log, which Open puts back after a crash.
// Only after Commit said nil for an item may anybody be told "stored"; the caller
// writes its own record of the blob and then calls Release.
//
// An upload that may be interrupted calls Checkpoint; what it had received is
// then found again by Resume, after a restart and after a power cut.
//
// # What holds at every moment
//
// Whatever is visible under blobs/ of an open store is whole, since bytes are on
// stable storage, in their file or in the intent log, before they get their name. Nothing that was acknowledged is lost in a power
// cut. A failed sync is lost data: it is never tried again, the staged file is
// dropped, the client still has the bytes. docs/format.md describes the files.
package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"yunbox.local/storage/vfs"
)

var (
	// ErrFull: there is no room above the reserve. It also wraps the error of
	// the system call, when it was one.
	ErrFull = errors.New("the volume is full")
	// ErrNotFound: no such blob, or no such resumable upload.
	ErrNotFound = errors.New("not found")
	// ErrLocked: another daemon uses the volume.
	ErrLocked = errors.New("the volume is in use by another process")
	// ErrWrongVolume: the directory is not the volume that was expected, or
	// the volume's identity is missing or damaged. Nothing was written.
	ErrWrongVolume = errors.New("not the expected volume")
	// ErrOffset: a Write does not begin where the upload ends.
	ErrOffset = errors.New("not at the upload's offset")
	// ErrTooLong: more bytes came than were declared. The upload is void.
	ErrTooLong = errors.New("longer than declared")
	// ErrIncomplete: fewer bytes came than were declared.
	ErrIncomplete = errors.New("shorter than declared")
	// ErrDamaged: what is on the disk is not what was written there.
	ErrDamaged = errors.New("damaged on disk")
	// ErrInUse: somebody else holds that upload.
	ErrInUse = errors.New("the upload is in use")
	// ErrClosed: the store or the upload is closed or has been given away.
	ErrClosed = errors.New("closed")
	// ErrSync: a sync failed, and what it was to make durable must be taken
	// for lost. It wraps the error of the system call.
	ErrSync = errors.New("the disk did not keep the data")
	// ErrReadOnly: the volume can only be read, as a file system does after an error
	// of its own.
	ErrReadOnly = errors.New("the volume can only be read")
)

// Options of Open; the zero value is usable.
type Options struct {
	Log *slog.Logger // nil: none

	// Volume is the id that the volume must have. "": any, and a new volume
	// is made where there is none.
	Volume string

	// Reserve is how many bytes uploads leave free, so that the catalogue and
	// deletions work on a full disk. 0: the larger of 64 MiB and 1 % of the
	// disk, but not more than 5 % of it. Negative: none.
	Reserve int64

	// Intent is the size in bytes of each of the two files of the intent log.
	// 0: what suits the disk, 16 MiB at most. Negative: no log; small contents
	// are then synced one by one, as large ones are.
	Intent int64

	// Acknowledged says whether a blob was acknowledged before, so that something
	// committed names it, and is not known to be damaged. Only then does a blob that
	// exists stand for a copy of the same content that comes again, after it was read
	// back. Any other may be what a crash or a failed sync of its directory left, whose
	// name no later sync makes certain, and is replaced by the new copy. nil: none.
	Acknowledged func(context.Context, Ref) (bool, error)

	// Buffers is how many bytes all uploads together may hold in large buffers; more of
	// them get small ones. 0: 16 MiB.
	Buffers int64

	Now func() time.Time // nil: time.Now

	// Trouble is told, perhaps often, of an error by which a volume may show that it
	// is failing or gone. It must not block. nil: nobody.
	Trouble func(error)
}

// Store keeps blobs on one volume. All methods are safe for concurrent use.
type Store struct {
	fsys    vfs.FS
	log     *slog.Logger
	acked   func(context.Context, Ref) (bool, error)
	now     func() time.Time
	trouble func(error)
	reserve int64 // as in Options
	volume  volume
	lock    io.Closer
	buffers buffers
	intent  *intentLog

	dataSyncs, nameSyncs limiter
	folders              folders

	promises sync.Mutex   // one promise at a time
	promised atomic.Int64 // declared bytes of running uploads not yet written

	mu       sync.Mutex
	closed   bool
	open     map[string]*Upload    // by id: uploads somebody holds
	pins     map[Ref]int           // blobs that Sweep must leave alone
	removing map[Ref]chan struct{} // blobs that Sweep is about to remove
	damaged  map[Ref]struct{}      // found by Inspect: replaced when sent again
	failed   error                 // the first failed sync
	lossy    error                 // the first after which the disk is not to be relied on
	unsure   error                 // a failed sync after which no name can be trusted

	readOnly atomic.Bool // the last try to make a file found it so
}

// maxSyncs bounds the syncs of data, and those of names, that run side by side,
// and with them the threads that wait for the disk.
const maxSyncs = 32

type limiter chan struct{}

// run calls f when there is room for it.
func (l limiter) run(f func() error) error {
	l <- struct{}{}
	defer func() { <-l }()
	return f()
}

// Open takes a volume into use, exclusively. A new volume is made, complete and
// durable, where that is safe: see Options.Volume. Errors: ErrLocked,
// ErrWrongVolume, ErrFull. The caller keeps fsys open until after Close.
func Open(ctx context.Context, fsys vfs.FS, opt Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s := &Store{
		fsys:      fsys,
		dataSyncs: make(limiter, maxSyncs),
		nameSyncs: make(limiter, maxSyncs),
		log:       opt.Log,
		now:       opt.Now,
		acked:     opt.Acknowledged,
		trouble:   opt.Trouble,
		reserve:   opt.Reserve,
		open:      make(map[string]*Upload),
		pins:      make(map[Ref]int),
		removing:  make(map[Ref]chan struct{}),
		damaged:   make(map[Ref]struct{}),
		buffers:   buffers{budget: opt.Buffers},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.trouble == nil {
		s.trouble = func(error) {}
	}
	if s.acked == nil {
		s.acked = func(context.Context, Ref) (bool, error) { return false, nil }
	}
	// A directory that is not the expected volume gets not even a lock file.
	if _, err := readVolume(fsys, opt.Volume); err != nil && !errors.Is(err, errNoVolume) {
		return nil, err
	}
	lock, err := fsys.Lock(lockFile)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	} else if err != nil {
		return nil, fmt.Errorf("lock the volume: %w", marked(err))
	}
	s.lock = lock
	s.volume, err = readVolume(fsys, opt.Volume)
	if errors.Is(err, errNoVolume) {
		s.volume, err = newVolume(fsys, s.now())
	} else if err == nil {
		s.mendVolume()
		if err = s.mendDirs(); err != nil {
			err = fmt.Errorf("mend the volume: %w", marked(err))
		}
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.intent = s.newIntentLog(opt.Intent)
	s.intent.open() // first: a staged upload may lead to a blob that is put back
	if err := s.clearStaging(); err != nil {
		return nil, errors.Join(fmt.Errorf("clear staging: %w", err), s.intent.close(), lock.Close())
	}
	return s, nil
}

// Close gives the volume back. Uploads still held can only be closed; those
// that were checkpointed will be found by Resume.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	return errors.Join(s.intent.close(), s.lock.Close())
}

// VolumeID is the identity of the volume, 26 characters.
func (s *Store) VolumeID() string { return s.volume.id }

// Space is the volume's size and the bytes that are free on it, the reserve
// included.
func (s *Store) Space() (vfs.Space, error) { return s.fsys.Space() }

// Receiving reports whether uploads are running whose declared bytes have not all
// come.
func (s *Store) Receiving() bool { return s.promised.Load() > 0 }

// Err says what is wrong with the volume, nil while nothing is. After the first
// failed sync, ErrSync, it takes no more data until it is opened again: the disk
// loses data and should be looked after. (One that failed for want of room is told,
// and no more.) ErrReadOnly lasts until something can be written.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmp.Or(s.failed, s.unsure); err != nil {
		return err
	}
	if s.readOnly.Load() {
		return ErrReadOnly
	}
	return nil
}

// Writable tries whether a file can be made on the volume.
func (s *Store) Writable() error {
	err := s.touched(writable(s.fsys))
	if err == nil {
		s.readOnly.Store(false)
	}
	return err
}

// Present says whether fsys is the volume with that id, there to be read and
// written: nil, or what is wrong, such as ErrWrongVolume and ErrReadOnly. It
// changes nothing.
func Present(fsys vfs.FS, id string) error {
	if _, err := readVolume(fsys, id); err != nil {
		return err
	}
	return marked(writable(fsys))
}

func writable(fsys vfs.FS) error {
	name := stagingDir + "/" + newID() + extTemp
	f, err := fsys.OpenFile(name, vfs.CreateNew, stageMode)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), fsys.Remove(name))
}

// Verified reads the identity of the volume from the disk, past the cache: nil if
// the volume is still there.
func (s *Store) Verified() error { return s.there() }

// usable says whether new data may be taken.
func (s *Store) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("storage: %w", ErrClosed)
	}
	if s.unsure != nil {
		return s.unsure
	}
	return s.lossy
}

// lost is the failed sync after which neither names nor bytes that were not synced by
// themselves can be trusted, if any.
func (s *Store) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.unsure, s.lossy)
}

// syncFailed records a failed sync and returns the error to hand on.
func (s *Store) syncFailed(what string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrSync, what, marked(err))
	s.mu.Lock()
	first := s.failed == nil
	if first {
		s.failed = err
	}
	if s.lossy == nil && !vfs.IsFull(err) {
		s.lossy = err
	}
	s.mu.Unlock()
	s.trouble(err)
	if first {
		s.log.Error("a sync failed: data may be lost, the disk needs attention", "what", what, "error", err)
	}
	return err
}

// namesUnsure stops the store from taking data. After a failed sync of a
// directory the kernel may show names that are not on the disk, and no later
// sync tells which: only a new mount shows the truth.
func (s *Store) namesUnsure(err error) {
	if !errors.Is(err, ErrSync) {
		err = s.syncFailed("the intent log", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsure == nil {
		s.unsure = err
	}
}

// promise sets n bytes aside for an upload, or says ErrFull.
func (s *Store) promise(n int64) error {
	s.promises.Lock()
	defer s.promises.Unlock()
	if err := s.room(n); err != nil {
		return err
	}
	s.promised.Add(n)
	return nil
}

// room says ErrFull when n more bytes do not fit above the reserve, beside what
// running uploads were promised.
func (s *Store) room(n int64) error {
	space, err := s.fsys.Space()
	if err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	reserve := s.reserve
	switch {
	case reserve < 0:
		reserve = 0
	case reserve == 0:
		reserve = min(max(64<<20, space.Total/100), space.Total/20)
	}
	if left := space.Free - reserve - s.promised.Load(); n > left {
		return fmt.Errorf("%w: %d bytes wanted, %d left", ErrFull, n, max(left, 0))
	}
	return nil
}

// marked marks errors that mean "no room" as ErrFull, and those of a volume that
// cannot be written as ErrReadOnly.
func marked(err error) error {
	switch {
	case vfs.IsFull(err) && !errors.Is(err, ErrFull):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EROFS) && !errors.Is(err, ErrReadOnly):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// touched is marked for the error of a call that reached the disk, and notes what it
// says of the volume.
func (s *Store) touched(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EROFS) {
		if !s.readOnly.Swap(true) {
			s.log.Error("the volume can only be read", "error", err)
		}
	}
	for _, sign := range []error{syscall.EROFS, syscall.EIO, syscall.ENODEV, syscall.ENXIO, syscall.ENOTCONN, syscall.ESTALE, syscall.ESHUTDOWN} {
		if errors.Is(err, sign) {
			s.trouble(err)
			break
		}
	}
	return marked(err)
}

// clearStaging removes what no upload can ever use again (see docs/format.md)
// and makes the rest certain: a process that was killed may have left records
// that are in the page cache only, and Resume must not build on them.
func (s *Store) clearStaging() error {
	entries, err := s.fsys.ReadDir(stagingDir)
	if err != nil {
		return err
	}
	var kept []string
	for _, e := range entries {
		name := e.Name()
		id, ext, _ := strings.Cut(name, ".")
		if !validID(id) {
			continue // not ours
		}
		switch "." + ext {
		case extTemp:
			err = s.removeStaged(name)
		case extPart:
			_, err = s.tidy(id)
		case extState:
			var good bool
			if good, err = s.tidy(id); good {
				kept = append(kept, id)
			}
		}
		if err != nil {
			// A disk that does not give one of them may give the rest.
			s.log.Error("a staged upload cannot be read or removed, and is left", "upload", id, "error", s.touched(err))
		}
	}
	errs := make([]error, len(kept))
	each(kept, func(i int, id string) { errs[i] = s.settleState(id) })
	if err := errors.Join(errs...); err != nil || len(kept) == 0 {
		return err
	}
	if err := s.fsys.SyncDir(stagingDir); err != nil {
		s.namesUnsure(s.syncFailed("the staging directory", err)) // contents can be read
	}
	return nil
}

// tidy removes the halves of a staged upload that lack their other half, and
// reports whether it is complete.
func (s *Store) tidy(id string) (bool, error) {
	_, err := s.loadStaged(id)
	if errors.Is(err, ErrNotFound) {
		return false, errors.Join(s.removeStaged(id+extPart), s.removeStaged(id+extState))
	}
	return err == nil, err
}

// settleState makes a record durable that an earlier process wrote; the bytes
// it speaks of were durable before. If that fails the upload is given up.
func (s *Store) settleState(id string) error {
	f, err := s.fsys.OpenFile(stagingDir+"/"+id+extState, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	err = s.dataSyncs.run(f.Datasync)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = s.syncFailed("a checkpoint of an earlier process", err)
		return errors.Join(s.removeStaged(id+extState), s.removeStaged(id+extPart))
	}
	return nil
}

// removeStaged removes a file below staging/, if it is there.
func (s *Store) removeStaged(name string) error {
	if err := s.fsys.Remove(stagingDir + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
