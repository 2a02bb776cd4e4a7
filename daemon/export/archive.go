package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// holesSize is the length of MISSING.jsonl, whatever is in it: the archive must not
// grow while it is fetched.
const holesSize = 64 << 10

// tail is what follows the files: the list of what is missing, and two empty blocks.
const tail = block + holesSize + 2*block

func (e *Export) size() int64 { return e.Head + e.Entries + tail }

// Archive is an archive that is being read. It is for one goroutine.
type Archive struct {
	room *Room
	e    *Export
	ctx  context.Context
	head vfs.File

	off int64
	// The entry around off, or the one before it.
	lines *lines
	cur   current
	end   []byte // the tail, once it was made
}

// current is an entry.
type current struct {
	Line
	start, end int64 // behind the head
	header     []byte
	content    io.ReadSeekCloser
	at         int64 // where content is
	hole       bool  // its bytes are gone: zeros stand for them
}

// errNotReady is for an export whose list is not made yet.
var errNotReady = &problem.Error{
	Kind: problem.Conflict, Op: "export.archive", Title: "The export is not ready yet",
	Hint: "Ask for its state, and fetch it when it is ready.",
}

// Open opens the archive of an export of p for reading from any place.
func (r *Room) Open(ctx context.Context, p ident.Principal, id string) (*Archive, Info, error) {
	e, err := r.find(ctx, p.User, id)
	if err != nil {
		return nil, Info{}, err
	}
	info := e.info()
	if info.State != Ready {
		return nil, info, errNotReady
	}
	d, err := r.folder(false)
	if err != nil {
		return nil, info, err
	}
	head, err := d.OpenFile(path.Join(e.ID, headFile), vfs.ReadOnly, 0)
	if err != nil {
		return nil, info, err
	}
	r.told(e, func(p *progress) { p.readers++ })
	return &Archive{room: r, e: e, ctx: ctx, head: head}, info, nil
}

// Fetched notes in the record that the archive is being fetched: each time that it is
// begun, and once where only parts of it are asked for.
func (r *Room) Fetched(ctx context.Context, p ident.Principal, id string, part bool) error {
	e, err := r.find(ctx, p.User, id)
	if err != nil || part && e.fetched.Load() {
		return err
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if r.opt.Left != nil {
			if err := r.opt.Left(tx, p, id); err != nil {
				return err
			}
		}
		tx.AfterCommit(func() { e.fetched.Store(true) })
		return r.append(tx, p, "export.fetch", id)
	})
}

// Close ends the reading.
func (a *Archive) Close() error {
	a.leave()
	a.room.told(a.e, func(p *progress) { p.readers-- })
	return a.head.Close()
}

func (a *Archive) leave() {
	if a.cur.content != nil {
		if err := a.cur.content.Close(); err != nil {
			a.room.log.Warn("a content was not closed", "err", err)
		}
	}
	a.cur = current{}
}

// Seek implements io.Seeker. It reads nothing.
func (a *Archive) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += a.off
	case io.SeekEnd:
		offset += a.e.size()
	}
	if offset < 0 {
		return a.off, fs.ErrInvalid
	}
	a.off = offset
	return offset, nil
}

// Read implements io.Reader.
func (a *Archive) Read(p []byte) (n int, err error) {
	if a.e.gone.Err() != nil {
		return 0, &problem.Error{Kind: problem.Gone, Op: "export.read", Title: "The export was removed", Hint: "Begin a new one."}
	}
	if err := a.ctx.Err(); err != nil {
		return 0, context.Cause(a.ctx)
	}
	switch behind := a.off - a.e.Head; {
	case len(p) == 0:
		return 0, nil
	case behind < 0:
		n, err = a.head.ReadAt(p[:min(int64(len(p)), -behind)], a.off)
		if err == io.EOF && n > 0 {
			err = nil
		}
	case behind < a.e.Entries:
		n, err = a.readEntry(p, behind)
	case behind < a.e.Entries+tail:
		if a.end == nil {
			if a.end, err = a.tail(); err != nil {
				return 0, err
			}
		}
		n = copy(p, a.end[behind-a.e.Entries:])
	default:
		return 0, io.EOF
	}
	a.off += int64(n)
	if a.off > a.e.sent.Load() {
		a.e.sent.Store(a.off)
	}
	return n, err
}

// readEntry reads from the entry around a place behind the head.
func (a *Archive) readEntry(p []byte, at int64) (int, error) {
	if a.cur.header == nil || at < a.cur.start || at >= a.cur.end {
		if err := a.find(at); err != nil {
			return 0, err
		}
	}
	c := &a.cur
	in := at - c.start
	if in == 0 && c.content == nil && !c.hole && c.Size > 0 {
		// Before its header is read it can still be called a hole.
		if err := a.open(); err != nil {
			return 0, err
		}
	}
	if in < int64(len(c.header)) {
		return copy(p, c.header[in:]), nil
	}
	in -= int64(len(c.header))
	if in >= c.Size {
		return zeros(p, c.end-at), nil
	}
	p = p[:min(int64(len(p)), c.Size-in)]
	if c.content == nil && !c.hole {
		if err := a.open(); err != nil {
			return 0, err
		}
	}
	if c.hole {
		return zeros(p, int64(len(p))), nil
	}
	if c.at != in {
		if _, err := c.content.Seek(in, io.SeekStart); err != nil {
			return 0, err
		}
		c.at = in
	}
	n, err := c.content.Read(p)
	c.at += int64(n)
	if err == nil || n > 0 && errors.Is(err, io.EOF) {
		return n, nil
	}
	if a.ctx.Err() != nil {
		return n, context.Cause(a.ctx)
	}
	// The disk does not give its bytes. The sum will not be right, and the list says so.
	if err := a.lost("damaged"); err != nil {
		return n, err
	}
	return n, nil
}

func zeros(p []byte, n int64) int {
	n = min(n, int64(len(p)))
	clear(p[:n])
	return int(n)
}

// find makes the entry around a place the current one.
func (a *Archive) find(at int64) error {
	next := a.cur.end
	if a.cur.header == nil || at != next {
		marks := a.e.Marks
		i, found := slices.BinarySearchFunc(marks, at, func(m mark, at int64) int { return int(min(max(m.Entry-at, -1), 1)) })
		if !found {
			i--
		}
		a.lines, next = newLines(a.head, a.e.Items+marks[i].Line), marks[i].Entry
	}
	a.leave()
	for {
		l, err := a.lines.next()
		if err != nil {
			return fmt.Errorf("export: the list cannot be read: %w", err)
		}
		header, err := l.header(false)
		if err != nil {
			return err
		}
		start := next
		next += int64(len(header)) + padded(l.Size)
		if at < next {
			a.cur = current{Line: l, start: start, end: next, header: header}
			return nil
		}
	}
}

// open opens the content of the current entry, or makes it a hole.
func (a *Archive) open() error {
	ref, err := storage.ParseRef(a.cur.SHA256)
	if err != nil {
		return err
	}
	keeps, err := a.room.opt.Catalog.Keeps(a.ctx, a.e.User, ref)
	if err != nil {
		return err
	}
	if !keeps {
		return a.lost("deleted")
	}
	a.cur.content, err = a.room.opt.Open(a.ctx, catalog.Item{User: a.e.User, Ref: ref, Size: a.cur.Size, Path: a.cur.Path})
	if err == nil {
		a.cur.at = 0
		return nil
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return a.lost("damaged")
}

// lost makes the current entry a hole.
func (a *Archive) lost(why string) error {
	c := &a.cur
	c.hole = true
	if c.content != nil {
		if err := c.content.Close(); err != nil {
			a.room.log.Warn("a content was not closed", "err", err)
		}
		c.content = nil
	}
	header, err := c.Line.header(true)
	if err != nil {
		return err
	}
	c.header = header
	d, err := a.room.folder(false)
	if err != nil {
		return err
	}
	return a.e.missing.add(d, path.Join(a.e.ID, holeList), hole{Entry: c.Entry, SHA256: c.SHA256, Size: c.Size, Reason: why})
}

// tail makes the end of the archive.
func (a *Archive) tail() ([]byte, error) {
	header, err := plainHeader(holesFile, holesSize, a.e.Created)
	if err != nil {
		return nil, err
	}
	return append(append(header, a.e.missing.text()...), make([]byte, 2*block)...), nil
}

// hole is a file that could not be given out: a line of MISSING.jsonl.
type hole struct {
	Entry  string `json:"entry"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Reason string `json:"reason"` // deleted, damaged
}

// maxHoles is how many holes are known by name.
const maxHoles = 10_000

// missing is the list of holes.
type missing struct {
	mu    sync.Mutex
	seen  map[string]bool // by entry
	lines []byte          // of those that have room in MISSING.jsonl
	shown int64
	at    int64 // length of the file of holes
}

func (m *missing) count() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.seen))
}

func (m *missing) add(d vfs.FS, name string, h hole) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[h.Entry] || len(m.seen) >= maxHoles {
		return nil
	}
	line, err := m.note(h)
	if err != nil {
		return err
	}
	flag := vfs.ReadWrite
	if m.at == 0 {
		flag = vfs.Replace
	}
	f, err := d.OpenFile(name, flag, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(line, m.at)
	m.at += int64(len(line))
	return errors.Join(err, f.Close())
}

// note remembers a hole; m.mu is held, or m is not shared yet.
func (m *missing) note(h hole) ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	m.seen[h.Entry] = true
	if len(m.lines)+len(line) <= holesSize-256 {
		m.lines = append(m.lines, line...)
		m.shown++
	}
	return line, nil
}

// text is the content of MISSING.jsonl.
func (m *missing) text() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := slices.Clone(m.lines)
	if more := int64(len(m.seen)) - m.shown; more > 0 {
		text = fmt.Appendf(text, "{\"more\":%d}\n", more)
	}
	for len(text) < holesSize {
		text = append(text, '\n')
	}
	return text
}

// load reads what an earlier run noted.
func (m *missing) load(d vfs.FS, name string) error {
	data, err := vfs.ReadFile(d, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		var h hole
		if !whole || json.Unmarshal(line, &h) != nil {
			break // a cut came in between: it is noted again
		}
		if _, err := m.note(h); err != nil {
			return err
		}
		m.at += int64(len(line)) + 1
		data = rest
	}
	return nil
}

// Modified is when the list was made.
func (a *Archive) Modified() time.Time { return a.e.Created }

var _ io.ReadSeeker = (*Archive)(nil)
