package dedup

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// A record is one name of one file, in few bytes: a million of them must fit
// beside everything else that a small box does.
type record struct {
	Facts
	name  int64 // in names
	alloc int64 // bytes on the disk
	links uint32
	known known
	ends  [16]byte    // of the first and last bytes
	full  storage.Ref // of all bytes
}

type known uint32

const (
	knowsEnds known = 1 << iota
	knowsFull
)

const recordSize = 5*8 + 2*8 + 2*4 + 16 + 32

func (r *record) put(b []byte) {
	le := binary.LittleEndian
	for i, v := range []uint64{r.Volume, r.Inode, uint64(r.Size), uint64(r.Mtime), uint64(r.Ctime), uint64(r.name), uint64(r.alloc)} {
		le.PutUint64(b[8*i:], v)
	}
	le.PutUint32(b[56:], r.links)
	le.PutUint32(b[60:], uint32(r.known))
	copy(b[64:], r.ends[:])
	copy(b[80:], r.full[:])
}

func (r *record) get(b []byte) {
	le := binary.LittleEndian
	r.Volume, r.Inode, r.Size = le.Uint64(b), le.Uint64(b[8:]), int64(le.Uint64(b[16:]))
	r.Mtime, r.Ctime = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))
	r.name, r.alloc = int64(le.Uint64(b[40:])), int64(le.Uint64(b[48:]))
	r.links, r.known = le.Uint32(b[56:]), known(le.Uint32(b[60:]))
	copy(r.ends[:], b[64:])
	copy(r.full[:], b[80:])
}

// An order in which records are needed. Two numbers of a record decide first, which
// are quick to compare; only where both are the same the records are looked at.
type order struct {
	key func(r *record) (first, second uint64)
	cmp func(a, b *record) int
}

// bySize: large ones first, then links of one file together.
func bySize() order {
	return order{
		func(r *record) (uint64, uint64) { return ^uint64(r.Size), r.Volume },
		func(a, b *record) int { return cmp.Or(cmp.Compare(b.Size, a.Size), compareInodes(a, b)) },
	}
}

// byInode is also about the order on the disk.
func byInode() order {
	return order{func(r *record) (uint64, uint64) { return r.Volume, r.Inode }, compareInodes}
}

func compareInodes(a, b *record) int {
	return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.name, b.name))
}

func byEnds() order {
	return order{
		func(r *record) (uint64, uint64) { return ^uint64(r.Size), binary.BigEndian.Uint64(r.ends[:]) },
		func(a, b *record) int {
			return cmp.Or(cmp.Compare(b.Size, a.Size), bytes.Compare(a.ends[:], b.ends[:]), compareInodes(a, b))
		},
	}
}

func byContent() order {
	return order{
		func(r *record) (uint64, uint64) { return ^uint64(r.Size), binary.BigEndian.Uint64(r.full[:]) },
		func(a, b *record) int {
			return cmp.Or(cmp.Compare(b.Size, a.Size), bytes.Compare(a.full[:], b.full[:]), compareInodes(a, b))
		},
	}
}

// names keeps paths as pairs of folder and name, in a file once they are many. One
// goroutine adds or many read.
type names struct {
	scratch *scratch
	file    vfs.File
	flushed int64
	tail    []byte // what is not in the file yet
	limit   int    // how long that may get; 0: namesTail

	mu      sync.Mutex
	folders map[int64]string // paths of folders that were asked for lately
}

// someFolders is how many of those are kept.
const someFolders = 256

const (
	namesTail = 4 << 20
	noFolder  = -1 // the root
)

// add returns the number by which path finds the name again.
func (n *names) add(folder int64, name []byte) (int64, error) {
	if len(name) > math.MaxUint16 {
		return 0, fmt.Errorf("a name of %d bytes", len(name))
	}
	at := n.flushed + int64(len(n.tail))
	n.tail = binary.LittleEndian.AppendUint64(n.tail, uint64(folder))
	n.tail = binary.LittleEndian.AppendUint16(n.tail, uint16(len(name)))
	n.tail = append(n.tail, name...)
	if limit := cmp.Or(n.limit, namesTail); len(n.tail) < limit {
		return at, nil
	}
	if n.file == nil {
		f, err := n.scratch.file()
		if err != nil {
			return 0, err
		}
		n.file = f
	}
	if _, err := n.file.WriteAt(n.tail, n.flushed); err != nil {
		return 0, err
	}
	n.flushed += int64(len(n.tail))
	n.tail = n.tail[:0]
	return at, nil
}

func (n *names) entry(at int64) (folder int64, name string, err error) {
	if at >= n.flushed {
		return parseName(n.tail[at-n.flushed:])
	}
	var b [10 + 256]byte
	got, err := n.file.ReadAt(b[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, "", err
	}
	if over := at + int64(got) - n.flushed; over > 0 {
		got -= int(over)
	}
	return parseName(b[:got])
}

func parseName(b []byte) (folder int64, name string, err error) {
	if len(b) < 10 {
		return 0, "", io.ErrUnexpectedEOF
	}
	length := int(binary.LittleEndian.Uint16(b[8:]))
	if len(b) < 10+length {
		return 0, "", io.ErrUnexpectedEOF // names are 255 bytes at most
	}
	return int64(binary.LittleEndian.Uint64(b)), string(b[10 : 10+length]), nil
}

// path is the whole path of a name below the root.
func (n *names) path(at int64) (string, error) {
	folder, name, err := n.entry(at)
	if err != nil {
		return "", fmt.Errorf("names: %w", err)
	}
	if folder == noFolder {
		return name, nil
	}
	n.mu.Lock()
	above, ok := n.folders[folder]
	n.mu.Unlock()
	if !ok {
		if above, err = n.path(folder); err != nil {
			return "", err
		}
		n.mu.Lock()
		if n.folders == nil || len(n.folders) >= someFolders {
			n.folders = make(map[int64]string, someFolders)
		}
		n.folders[folder] = above
		n.mu.Unlock()
	}
	return above + "/" + name, nil
}

func (n *names) close() {
	if n.file != nil {
		n.file.Close() // nothing in it is needed any more
	}
}
