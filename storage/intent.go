package storage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/storage/vfs"
)

// The intent log makes small contents durable with one flush for a whole batch,
// where their own files would need one each and their names more. It is what the
// ZFS intent log is to its files (ZIL; see docs/decisions/0009): the bytes go into
// the log and are synced there; the files get their names at once, unsynced, and
// reach the disk later, many at a time. Only then may their records go.
//
// There are two segments, each a file of a fixed size that is written over and
// over, so that its sync needs no journal of the file system. While one fills, the
// other is settled: everything is synced and the records are void. A segment whose
// records are not known to be void is put back by Open, record by record.
//
// Who finds no room in the log syncs the files themselves: nobody waits.
type intentLog struct {
	s     *Store
	size  int64       // of a segment
	limit int64       // most bytes of a content; 0: there is no log
	off   atomic.Bool // after an error nothing more goes in until the store is opened again
	doubt atomic.Bool // files that are not synced may be lost: a sync of all that failed does not say which
	syncs sync.Mutex  // one sync of all at a time: the system tells one of two of an error

	mu    sync.Mutex
	ended sync.Cond // a segment has no batch under way, or is settled
	segs  [2]*segment
	cur   int
	left  bool // records of an earlier process may count still
	watch []*watch
	stale bool // blobs were removed whose bytes may still lie in void records
	used  time.Time
	idle  *time.Timer
}

// segment is one file of the log. Guarded by the log's mu; what lies in the file
// before pos belongs to whoever appends, who holds mu, too.
type segment struct {
	name     string
	file     vfs.File // nil: not opened yet
	epoch    uint64   // of the records; 0: they are void
	pos      int64    // where the next record goes
	high     int64    // bytes of the file that may hold something
	batches  int      // logged, but their files have no names yet
	settling bool
	broken   error // why its files did not reach the disk: the records wait for the next start
	unread   error // what of it could not be read when it was put back
}

const (
	intentDir    = "intent"
	intentMagic  = "yunboxil"
	recordMagic  = "yunboxir"
	intentBlock  = 4096 // no record shares a block with another, so that none is torn by a later one
	recordHeader = 64

	intentSize  = 16 << 20  // of a segment, at most
	intentLimit = 512 << 10 // a larger content costs less to sync than to write twice

	// intentIdle is how long after the last record the log is emptied, so that
	// a disk can fall asleep and a start finds nothing to put back.
	intentIdle = 10 * time.Second
)

// padding is zeros, for the end of a record.
var padding [intentBlock]byte

var errNoIntent = errors.New("no room in the intent log")

func (s *Store) newIntentLog(size int64) *intentLog {
	l := &intentLog{s: s, size: size}
	l.ended.L = &l.mu
	for i := range l.segs {
		l.segs[i] = &segment{name: path.Join(intentDir, fmt.Sprint(i)), pos: intentBlock}
	}
	return l
}

// open puts back what an earlier process logged, and takes the log into use. An
// error of the log is no reason not to serve what is there: it is told, and the
// log is left as it is for the next start.
func (l *intentLog) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = true
	if err := l.prepare(); err != nil {
		l.off.Store(true)
		l.s.log.Error("the intent log cannot be read back: files of the last moments before the box stopped may be damaged", "error", err)
	}
}

func (l *intentLog) prepare() error {
	if err := l.s.fsys.Mkdir(intentDir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, g := range l.segs {
		if err := l.openSegment(g); err != nil {
			return err
		}
	}
	if err := l.putBack(); err != nil {
		return err
	}
	l.left = false
	// Also of what was there: one that was killed may have made it without this.
	for _, dir := range []string{".", intentDir} {
		if err := l.s.fsys.SyncDir(dir); err != nil {
			return l.s.syncFailed("the intent log", err)
		}
	}
	if l.size < 0 {
		return nil
	}
	size := l.size
	if size == 0 {
		space, err := l.s.fsys.Space()
		if err != nil {
			return err
		}
		size = min(intentSize, space.Total/64)
	}
	l.size = size / intentBlock * intentBlock
	for _, g := range l.segs {
		if err := l.fill(g); errors.Is(err, ErrFull) {
			return nil // no log this time
		} else if err != nil {
			return err
		}
	}
	l.limit = min(intentLimit, l.size/4)
	return nil
}

// putBack makes blobs of all records that count, and the segments void.
func (l *intentLog) putBack() error {
	var errs []error
	for _, g := range l.segs {
		var err error
		if g.epoch != 0 {
			err = l.restore(g)
		}
		if err == nil {
			// Also where it is void as far as can be seen: who made it so may have been
			// killed, or have met an error, before that was on the disk.
			err = l.void(g)
		}
		if errs = append(errs, err); err == nil {
			g.epoch = 0
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	l.doubt.Store(false) // there is no file yet but those that were put back and synced
	l.off.Store(false)
	return nil
}

// fill gives a segment its size. Zeros are written, not just reserved: the first
// write to reserved blocks is a change of the file that its sync has to journal.
func (l *intentLog) fill(g *segment) error {
	if g.high >= l.size {
		return nil
	}
	if err := l.s.room(l.size - g.high); err != nil {
		return err
	}
	zeros := l.s.buffers.get(oneShot)
	defer l.s.buffers.put(zeros)
	clear(*zeros)
	for g.high < l.size {
		n, err := g.file.WriteAt((*zeros)[:min(int64(len(*zeros)), l.size-g.high)], g.high)
		if g.high += int64(n); err != nil {
			return marked(err)
		}
	}
	if err := g.file.Datasync(); err != nil {
		return l.s.syncFailed("the intent log", err)
	}
	return nil
}

func (l *intentLog) openSegment(g *segment) error {
	f, err := l.s.fsys.OpenFile(g.name, vfs.ReadWrite, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = l.s.fsys.OpenFile(g.name, vfs.CreateNew, stageMode)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	head := make([]byte, recordHeader)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(err, f.Close())
	}
	g.file, g.high, g.epoch = f, info.Size(), parseIntentHead(head[:n])
	return nil
}

// takes says whether a content of n bytes is one for the log.
func (l *intentLog) takes(n int64) bool {
	return n <= l.limit && l.limit > 0 && !l.off.Load()
}

// append makes the contents of some uploads durable and returns the function
// that must be called when their files have got their names. After an error,
// errNoIntent if there was just no room, none of them counts as durable.
func (l *intentLog) append(batch []*Upload) (named func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	need := int64(0)
	for _, u := range batch {
		need += recordRoom(u.offset.Load())
	}
	g, err := l.room(need)
	if err != nil {
		return nil, err
	}
	if err := l.write(g, batch); err != nil {
		// The records before these are as good as ever.
		l.off.Store(true)
		l.startSettle(g)
		return nil, l.s.syncFailed("the intent log", err)
	}
	g.batches++
	l.tell(batch)
	l.used = time.Now()
	if l.idle == nil {
		l.idle = time.AfterFunc(intentIdle, l.whenIdle)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		g.batches--
		l.ended.Broadcast()
	}, nil
}

// room finds the segment for need bytes more.
func (l *intentLog) room(need int64) (*segment, error) {
	if l.off.Load() || need > l.size-intentBlock {
		return nil, errNoIntent
	}
	g := l.segs[l.cur]
	if !g.has(need, l.size) {
		l.startSettle(g)
		l.cur = 1 - l.cur
		g = l.segs[l.cur]
	}
	if !g.has(need, l.size) {
		return nil, errNoIntent
	}
	return g, nil
}

// has says whether need bytes more can go into a segment of that size.
func (g *segment) has(need, size int64) bool {
	return !g.settling && g.broken == nil && (g.epoch == 0 || g.pos+need <= size)
}

// write appends the records of a batch and syncs them.
func (l *intentLog) write(g *segment, batch []*Upload) error {
	if g.epoch == 0 {
		g.epoch, g.pos = newEpoch(), intentBlock
		if _, err := g.file.WriteAt(intentHead(g.epoch), 0); err != nil {
			return err
		}
	}
	room := l.s.buffers.get(oneShot)
	defer l.s.buffers.put(room)
	buf, at := (*room)[:0], g.pos
	flush := func() error {
		n, err := g.file.WriteAt(buf, at)
		at += int64(n)
		g.high = max(g.high, at)
		buf = buf[:0]
		return err
	}
	put := func(b []byte) error {
		for len(b) > 0 {
			n := min(len(b), cap(buf)-len(buf))
			buf = append(buf, b[:n]...)
			if b = b[n:]; len(buf) == cap(buf) {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	pos := g.pos
	for _, u := range batch {
		size := u.offset.Load()
		if err := put(intentRecord(g.epoch, pos, u.sum, size)); err != nil {
			return err
		}
		crc := uint32(0)
		for off := int64(0); off < size; {
			if len(buf) == cap(buf) {
				if err := flush(); err != nil {
					return err
				}
			}
			n, err := u.file.ReadAt(buf[len(buf):min(int64(cap(buf)), int64(len(buf))+size-off)], off)
			if n == 0 {
				return fmt.Errorf("upload %s: read back: %w", u.id, errors.Join(err, io.ErrUnexpectedEOF))
			}
			crc = crc32.Update(crc, castagnoli, buf[len(buf):len(buf)+n])
			buf, off = buf[:len(buf)+n], off+int64(n)
		}
		if crc != u.crc {
			// The system failed to write it, and has let go of its pages since.
			u.void = fmt.Errorf("%w: what came is not what is read back", ErrSync)
			return u.void
		}
		if err := put(padding[:recordRoom(size)-recordHeader-size]); err != nil {
			return err
		}
		pos += recordRoom(size)
	}
	if err := flush(); err != nil {
		return err
	}
	if err := g.file.Datasync(); err != nil {
		return err
	}
	g.pos = pos
	return nil
}

// startSettle lets a segment be settled in the background.
func (l *intentLog) startSettle(g *segment) {
	if !g.settling && g.broken == nil && g.epoch != 0 {
		g.settling = true
		go func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.finishSettle(g)
		}()
	}
}

// finishSettle brings the files of a segment to the disk and makes its records
// void. l.mu is held, but not while it waits.
func (l *intentLog) finishSettle(g *segment) {
	for g.batches > 0 {
		l.ended.Wait()
	}
	l.mu.Unlock()
	err := l.settle(g)
	l.mu.Lock()
	if err == nil {
		g.epoch = 0
	} else {
		g.broken = err
		l.off.Store(true)
		l.s.namesUnsure(err)
	}
	g.settling = false
	l.ended.Broadcast()
}

func (l *intentLog) settle(g *segment) error {
	if err := l.sync(); err != nil {
		// Something was lost, and nobody knows what; but the log has it all.
		if again := l.restore(g); again != nil {
			return errors.Join(err, again)
		}
	}
	return l.void(g)
}

// sync makes the files of all records durable, or says that some may not be.
func (l *intentLog) sync() error {
	if err := l.lost(); err != nil {
		return err
	}
	err := l.syncAll()
	if errors.Is(err, errors.ErrUnsupported) {
		l.off.Store(true) // writing all a third time is no way to go on
		return err
	} else if err != nil {
		return l.s.syncFailed("the volume", err)
	}
	// Who heard of an error meanwhile has noted it after this.
	return errors.Join(l.s.folders.wait(), l.lost())
}

// lost is why a sync of all is not to be relied on, if it is not.
func (l *intentLog) lost() error {
	err := l.s.lost()
	if l.doubt.Load() {
		err = errors.Join(err, errDoubt)
	}
	return err
}

var errDoubt = errors.New("an earlier sync of the volume failed")

// syncAll is SyncAll. What that loses when it fails includes files of the other segment
// and of uploads that are not in the log yet, and the next one does not tell of it.
func (l *intentLog) syncAll() error {
	l.syncs.Lock()
	defer l.syncs.Unlock()
	err := l.s.fsys.SyncAll()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		l.doubt.Store(true)
		l.off.Store(true)
	}
	return err
}

// drain settles all there is, and says whether all of it is on the disk. l.mu is
// held.
func (l *intentLog) drain() error {
	for i := range l.segs {
		g := l.segs[(l.cur+1+i)%len(l.segs)]
		for g.settling {
			l.ended.Wait()
		}
		if g.epoch != 0 && g.broken == nil {
			g.settling = true
			l.finishSettle(g)
		}
		if g.broken != nil {
			return fmt.Errorf("the intent log could not be settled: %w", g.broken)
		}
	}
	return nil
}

// removing is called before blobs are removed: a record must not bring them
// back. What they were is wiped from the log when that has a moment. refs are those
// of which this must be certain.
func (l *intentLog) removing(refs []Ref) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left && len(refs) > 0 {
		return l.strike(refs)
	}
	if l.limit == 0 {
		return nil
	}
	l.stale = true
	if l.idle == nil {
		l.idle = time.AfterFunc(intentIdle, l.whenIdle)
	}
	return l.drain()
}

// whenIdle empties the log when nothing came for a while.
func (l *intentLog) whenIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle == nil {
		return // closed
	}
	if left := intentIdle - time.Since(l.used); left > 0 {
		l.idle.Reset(left)
		return
	}
	l.idle = nil
	if err := l.empty(); err != nil {
		l.s.log.Warn("the intent log could not be emptied", "error", err)
	}
}

// empty settles the log and wipes what deleted blobs may have left in it.
func (l *intentLog) empty() error {
	if err := l.drain(); err != nil || !l.stale {
		return err
	}
	zeros := l.s.buffers.get(oneShot)
	defer l.s.buffers.put(zeros)
	clear(*zeros)
	for _, g := range l.segs {
		off := int64(intentBlock)
		if g.epoch != 0 { // uploads went on while the other was settled: these records count, and were written over what was here
			off = g.pos
		}
		for off < g.high {
			n, err := g.file.WriteAt((*zeros)[:min(int64(len(*zeros)), g.high-off)], off)
			if err != nil {
				return err
			}
			off += int64(n)
		}
		if err := g.file.Datasync(); err != nil {
			return l.s.syncFailed("the intent log", err)
		}
	}
	l.stale = false
	return nil
}

// close empties the log, so that the next start has nothing to put back.
func (l *intentLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.limit > 0 {
		err = l.empty()
	}
	l.off.Store(true)
	if l.idle != nil {
		l.idle.Stop()
		l.idle = nil
	}
	for _, g := range l.segs {
		for g.settling {
			l.ended.Wait()
		}
		if g.file != nil {
			err = errors.Join(err, g.file.Close())
			g.file = nil
		}
	}
	return err
}

// void says durably that the records of a segment count no more.
func (l *intentLog) void(g *segment) error {
	_, err := g.file.WriteAt(make([]byte, intentBlock), 0)
	if vfs.IsFull(err) {
		// A file system that writes nothing in place may have no block left
		// for this; an end it can always put.
		g.high = 0
		err = g.file.Truncate(0)
	}
	if err != nil {
		return err
	}
	if err := g.file.Datasync(); err != nil {
		return l.s.syncFailed("the intent log", err)
	}
	return nil
}

// restore writes the contents of a segment to new files, syncs them, lets them take
// their names and syncs those. It does not look at what has the name: after a failed
// sync the system may show bytes that are not on the disk. Nor does it rely on a record
// that it can read: one whose own sync failed, or was never made, is no copy yet, and
// what it would replace may be the only one.
func (l *intentLog) restore(g *segment) error {
	files := 0
	g.unread = nil
	for pos := int64(intentBlock); pos < g.high; {
		again, next, err := l.rewrite(g, pos)
		if errors.Is(err, ErrFull) && len(again) > 0 {
			err = nil // what these take the place of may be the room for the next
		}
		if err == nil {
			err = l.s.renew(again)
		}
		if err != nil {
			for _, b := range again {
				_ = l.s.fsys.Remove(b.name) // else the next start does
			}
			return err // what was begun is in the log still
		}
		pos, files = next, files+len(again)
	}
	if files > 0 {
		l.s.log.Info("files were put back from the intent log", "files", files)
	}
	return g.unread
}

// rewritten is a content of the log in a file of its own, not yet under its name.
type rewritten struct {
	ref  Ref
	name string
}

// rewrite writes contents of a segment, from a record on, to files of their own, and
// says where it stopped.
func (l *intentLog) rewrite(g *segment, pos int64) (again []rewritten, next int64, err error) {
	buf := make([]byte, intentLimit)
	for r, err := range g.records(pos) {
		if err == nil {
			_, err = g.readAt(buf[:r.size], r.pos+recordHeader)
		}
		if errors.Is(err, io.EOF) {
			break // it was cut there
		} else if err != nil {
			g.unread = err // the others can be put back all the same
			continue
		}
		if sha256.Sum256(buf[:r.size]) == r.ref { // else of a batch that was not acknowledged
			b := rewritten{ref: r.ref, name: stagingDir + "/" + newID() + extTemp}
			if err := l.s.writeTemp(b.name, buf[:r.size]); err != nil {
				return again, r.pos, marked(err)
			}
			again = append(again, b)
		}
	}
	return again, g.high, nil
}

// renew gives contents their names, and makes the bytes durable before and the names
// after: all at once or, where that cannot be or fails, one by one.
func (s *Store) renew(again []rewritten) error {
	if len(again) == 0 {
		return nil
	}
	if s.intent.syncAll() != nil {
		if err := s.syncEach(again); err != nil {
			return err
		}
	}
	refs := make([]Ref, 0, len(again))
	for _, b := range again {
		if err := s.fsys.Rename(b.name, b.ref.path()); err != nil {
			return marked(err)
		}
		refs = append(refs, b.ref)
	}
	if s.intent.syncAll() != nil {
		return s.syncNamesOf(refs)
	}
	return nil
}

func (s *Store) writeTemp(name string, data []byte) error {
	f, err := s.fsys.OpenFile(name, vfs.CreateNew, blobMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, s.fsys.Remove(name))
	}
	return nil
}

func (s *Store) syncEach(list []rewritten) error {
	for some := range slices.Chunk(list, maxSyncs) {
		errs := make([]error, len(some))
		each(some, func(i int, b rewritten) {
			f, err := s.fsys.OpenFile(b.name, vfs.ReadOnly, 0)
			if err == nil {
				err = errors.Join(s.dataSyncs.run(f.Datasync), f.Close())
			}
			errs[i] = err
		})
		if err := errors.Join(errs...); err != nil {
			return s.syncFailed("a blob put back", err)
		}
	}
	return nil
}

// recordRoom is what a content takes in the log.
func recordRoom(size int64) int64 {
	return (recordHeader + size + intentBlock - 1) / intentBlock * intentBlock
}

// newEpoch marks the records of one filling of a segment. It is random, so that
// no content can hold what looks like a record of it.
func newEpoch() uint64 {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails, see crypto/rand
		if e := binary.LittleEndian.Uint64(b[:]); e != 0 {
			return e
		}
	}
}

// docs/format.md describes these bytes.
func intentHead(epoch uint64) []byte {
	b := append(make([]byte, 0, intentBlock), intentMagic...)
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint64(b, epoch)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:intentBlock]
}

// parseIntentHead returns the epoch, 0 when the records are void.
func parseIntentHead(b []byte) uint64 {
	if len(b) < 28 || string(b[:8]) != intentMagic || binary.LittleEndian.Uint64(b[8:]) != 1 ||
		binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], castagnoli) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[16:])
}

func intentRecord(epoch uint64, pos int64, ref Ref, size int64) []byte {
	b := append(make([]byte, 0, recordHeader), recordMagic...)
	b = binary.LittleEndian.AppendUint64(b, epoch)
	b = binary.LittleEndian.AppendUint32(b, uint32(pos/intentBlock))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = append(b, ref[:]...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseIntentRecord(b []byte, epoch uint64, pos int64) (ref Ref, size int64, ok bool) {
	if string(b[:8]) != recordMagic || binary.LittleEndian.Uint64(b[8:]) != epoch ||
		binary.LittleEndian.Uint32(b[16:]) != uint32(pos/intentBlock) ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return ref, 0, false
	}
	size = int64(binary.LittleEndian.Uint32(b[20:]))
	return Ref(b[24:56]), size, size <= intentLimit
}
