package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// fileID is what tells that a file did not change since its content was read.
type fileID struct {
	dev, inode uint64
	size       int64
	mtime      int64 // Unix nanoseconds
	ctime      int64 // Unix nanoseconds; no program can set it back
}

// record is what is remembered of one file.
type record struct {
	rel   string
	id    fileID
	sum   [sha256.Size]byte
	named bool // the box has confirmed this content under this name
}

var errBusy = errors.New("in use")

// cache remembers the hashes of one folder's files for one person on one box, so
// that a second push reads no content. Losing it costs time, never a file: what is
// safe is asked of the box each time.
//
// It is one file, ordered like the walk. A push reads the old one alongside the
// walk and writes the new one, so memory does not grow with the folder. Three files
// make it safe to kill: NAME is whole; NAME.part is the new one as far as it got;
// NAME.log holds the files of the unfinished batch in the order in which they were
// done. Opening merges them.
type cache struct {
	name string
	lock *os.File

	old  *recordReader
	part *recordWriter

	mu      sync.Mutex // guards log and uploads
	log     *recordWriter
	uploads map[string]pendingUpload // by path; at most as many as run at once, and those a kill left
}

// pendingUpload is a resumable upload that the box holds a part of.
type pendingUpload struct {
	Path   string `json:"path"` // below the root
	Target string `json:"target"`
	ID     [5]int64
	SHA256 string `json:"sha256"`
	URL    string `json:"url"` // path on the box
}

// openCache opens the cache of one push. key names folder, box, person and target.
func openCache(dir, key string) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(key))
	c := &cache{name: filepath.Join(dir, hex.EncodeToString(sum[:12])), uploads: make(map[string]pendingUpload)}
	var err error
	if c.lock, err = lockFile(c.name + ".lock"); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		c.lock.Close()
		return nil, err
	}
	return c, nil
}

func (c *cache) start() error {
	if err := c.recover(); err != nil {
		return err
	}
	if b, err := os.ReadFile(c.name + ".uploads"); err == nil {
		var list []pendingUpload
		if json.Unmarshal(b, &list) == nil {
			for _, u := range list {
				c.uploads[u.Path] = u
			}
		}
	}
	var err error
	if c.old, err = openRecords(c.name); err != nil {
		return err
	}
	if c.part, err = createRecords(c.name + ".part"); err != nil {
		return err
	}
	c.log, err = createRecords(c.name + ".log")
	return err
}

// recover merges what a killed push left: the log is newer than the part, the part
// is newer than the whole.
func (c *cache) recover() error {
	var log []record
	r, err := openRecords(c.name + ".log")
	if err != nil {
		return err
	}
	for rec, ok := r.next(); ok; rec, ok = r.next() {
		log = append(log, rec)
	}
	r.close()
	part, err := openRecords(c.name + ".part")
	if err != nil {
		return err
	}
	defer part.close()
	if part.f == nil && len(log) == 0 {
		return nil
	}
	slices.SortStableFunc(log, func(a, b record) int { return walkOrder(a.rel, b.rel) })
	whole, err := openRecords(c.name)
	if err != nil {
		return err
	}
	defer whole.close()
	out, err := createRecords(c.name + ".merged")
	if err != nil {
		return err
	}
	next := func() (record, bool) {
		if len(log) == 0 {
			return record{}, false
		}
		rec := log[0]
		for len(log) > 0 && log[0].rel == rec.rel { // the last word on a file counts
			rec, log = log[0], log[1:]
		}
		return rec, true
	}
	if err := errors.Join(merge(out, next, part.next, whole.next), out.close(), os.Rename(c.name+".merged", c.name)); err != nil {
		return err
	}
	return errors.Join(remove(c.name+".part"), remove(c.name+".log"))
}

// merge writes the union of ordered sources; of equal paths the first source wins.
func merge(out *recordWriter, sources ...func() (record, bool)) error {
	heads := make([]*record, len(sources))
	pull := func(i int) {
		heads[i] = nil
		if rec, ok := sources[i](); ok {
			heads[i] = &rec
		}
	}
	for i := range sources {
		pull(i)
	}
	for {
		first := -1
		for i, h := range heads {
			if h != nil && (first < 0 || walkOrder(h.rel, heads[first].rel) < 0) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		rec := *heads[first]
		if err := out.add(rec); err != nil {
			return err
		}
		for i, h := range heads {
			if h != nil && h.rel == rec.rel {
				pull(i)
			}
		}
	}
}

// find returns what is remembered of a file that did not change. Paths must be
// asked for in the order of the walk.
func (c *cache) find(rel string, id fileID) (record, bool) {
	rec, ok := c.old.seek(rel)
	if ok && rec.id == id {
		return rec, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if u, ok := c.uploads[rel]; ok && u.ID == id.numbers() {
		if b, err := hex.DecodeString(u.SHA256); err == nil && len(b) == sha256.Size {
			return record{rel: rel, id: id, sum: [sha256.Size]byte(b)}, true
		}
	}
	return record{}, false
}

func (id fileID) numbers() [5]int64 {
	return [5]int64{int64(id.dev), int64(id.inode), id.size, id.mtime, id.ctime}
}

// done notes one file of the running batch at once, for the case of a kill.
func (c *cache) done(rec record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.log.add(rec), c.log.flush())
}

// batch writes the records of a finished batch, in the order of the walk.
func (c *cache) batch(recs []record) error {
	for _, r := range recs {
		if err := c.part.add(r); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.part.flush(), c.log.restart())
}

// close keeps what was learned. whole: the walk came to its end and every batch was
// written, so files that it did not meet are gone and forgotten.
func (c *cache) close(whole bool) error {
	defer c.lock.Close()
	c.old.close()
	err := errors.Join(c.part.close(), c.log.close())
	if err == nil && whole {
		err = errors.Join(os.Rename(c.name+".part", c.name), remove(c.name+".log"))
	}
	return err // otherwise the next push merges what is there
}

// pending returns the upload that an earlier try began for this very content and name.
func (c *cache) pending(rel, target string, id fileID, sum [sha256.Size]byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.uploads[rel]
	if !ok || u.Target != target || u.ID != id.numbers() || u.SHA256 != hex.EncodeToString(sum[:]) {
		return ""
	}
	return u.URL
}

// setPending remembers an upload, or forgets it if url is empty.
func (c *cache) setPending(rel, target string, id fileID, sum [sha256.Size]byte, url string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if url == "" {
		if _, ok := c.uploads[rel]; !ok {
			return nil
		}
		delete(c.uploads, rel)
	} else {
		c.uploads[rel] = pendingUpload{Path: rel, Target: target, ID: id.numbers(), SHA256: hex.EncodeToString(sum[:]), URL: url}
	}
	list := make([]pendingUpload, 0, len(c.uploads))
	for _, u := range c.uploads {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b pendingUpload) int { return cmp.Compare(a.Path, b.Path) })
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return replaceFile(c.name+".uploads", b)
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// The file: a line that names the format, then records, each with its own checksum.
// A record that is not whole ends the file: it was being written at a kill.
const recordsMagic = "yunbox hashes 1\n"

type recordReader struct {
	f    *os.File // nil: no file, no records
	r    *bufio.Reader
	head *record // read ahead by seek
}

// openRecords opens a file of records; a missing one, or one of another format, has none.
func openRecords(name string) (*recordReader, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &recordReader{}, nil
	}
	if err != nil {
		return nil, err
	}
	r := &recordReader{f: f, r: bufio.NewReaderSize(f, 64<<10)}
	magic := make([]byte, len(recordsMagic))
	if _, err := io.ReadFull(r.r, magic); err != nil || string(magic) != recordsMagic {
		f.Close()
		return &recordReader{}, nil
	}
	return r, nil
}

func (r *recordReader) close() {
	if r.f != nil {
		r.f.Close()
	}
}

// next returns the next record.
func (r *recordReader) next() (record, bool) {
	if r.head != nil {
		rec := *r.head
		r.head = nil
		return rec, true
	}
	if r.f == nil {
		return record{}, false
	}
	return readRecord(r.r)
}

// seek skips to the record of rel.
func (r *recordReader) seek(rel string) (record, bool) {
	for {
		rec, ok := r.next()
		if !ok {
			return record{}, false
		}
		switch order := walkOrder(rec.rel, rel); {
		case order == 0:
			return rec, true
		case order > 0:
			r.head = &rec
			return record{}, false
		}
	}
}

const maxRecord = 64 << 10

func readRecord(r *bufio.Reader) (rec record, ok bool) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > maxRecord {
		return rec, false
	}
	b := make([]byte, n+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return rec, false
	}
	b, sum := b[:n], binary.LittleEndian.Uint32(b[n:])
	const fixed = 5*8 + sha256.Size + 1
	if crc32.ChecksumIEEE(b) != sum || len(b) <= fixed {
		return rec, false
	}
	word := func() uint64 { v := binary.LittleEndian.Uint64(b); b = b[8:]; return v }
	rec.id = fileID{dev: word(), inode: word(), size: int64(word()), mtime: int64(word()), ctime: int64(word())}
	copy(rec.sum[:], b)
	rec.named = b[sha256.Size] == 1
	rec.rel = string(b[sha256.Size+1:])
	return rec, true
}

type recordWriter struct {
	f *os.File
	w *bufio.Writer
}

func createRecords(name string) (*recordWriter, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &recordWriter{f: f, w: bufio.NewWriterSize(f, 64<<10)}
	_, err = w.w.WriteString(recordsMagic)
	return w, err
}

func (w *recordWriter) add(rec record) error {
	if len(rec.rel) > maxRecord/2 {
		return fmt.Errorf("a path of %d bytes", len(rec.rel))
	}
	b := make([]byte, 0, 5*8+sha256.Size+1+len(rec.rel))
	for _, v := range rec.id.numbers() {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	b = append(b, rec.sum[:]...)
	if rec.named {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, rec.rel...)
	out := binary.AppendUvarint(nil, uint64(len(b)))
	out = append(out, b...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(b))
	_, err := w.w.Write(out)
	return err
}

func (w *recordWriter) flush() error { return w.w.Flush() }

// restart empties the file.
func (w *recordWriter) restart() error {
	w.w.Reset(w.f)
	if err := w.f.Truncate(0); err != nil {
		return err
	}
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := w.w.WriteString(recordsMagic)
	return err
}

func (w *recordWriter) close() error { return errors.Join(w.w.Flush(), w.f.Close()) }
