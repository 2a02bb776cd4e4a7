package dedup

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// walkers is how many folders are listed at once: a disk that can do several things
// at a time does, and others put them in order.
const walkers = 4

// walk lists a tree: every name of every regular file that is not empty goes into out.
type walk struct {
	t     *tree
	names *names
	out   *sorter
	r     *Report
	meter *meter

	mu   sync.Mutex
	more *sync.Cond // todo, busy or err changed
	todo []int64    // folders, as names
	busy int
	err  error
}

func (w *walk) run(ctx context.Context) error {
	w.more = sync.NewCond(&w.mu)
	w.todo = append(w.todo, noFolder)
	defer context.AfterFunc(ctx, func() { w.stop(context.Cause(ctx)) })()
	var wg sync.WaitGroup
	for range walkers {
		wg.Go(w.worker)
	}
	wg.Wait()
	if w.err == nil {
		w.err = w.out.err
	}
	return w.err
}

func (w *walk) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.more.Broadcast()
}

func (w *walk) worker() {
	l := &lister{walk: w, buf: make([]byte, 64<<10)}
	for {
		w.mu.Lock()
		for len(w.todo) == 0 && w.busy > 0 && w.err == nil {
			w.more.Wait()
		}
		if w.err != nil || len(w.todo) == 0 {
			w.mu.Unlock()
			return
		}
		folder := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.busy++
		path, err := ".", error(nil)
		if folder != noFolder {
			path, err = w.names.path(folder)
		}
		w.mu.Unlock()
		if err == nil {
			err = l.folder(folder, path)
		}
		w.mu.Lock()
		w.busy--
		if w.err == nil {
			w.err = err
		}
		w.more.Broadcast()
		w.mu.Unlock()
	}
}

// lister reads one folder at a time.
type lister struct {
	*walk
	buf   []byte
	batch []dirent
	text  []byte // the names of the batch
	some  []found
}

type dirent struct {
	inode    uint64
	kind     byte
	from, to int // in text
}

// batchLength bounds how much of a folder is sorted at once.
const batchLength = 8 << 10

// folder lists one. Its own troubles are counted; the error is what ends the walk.
func (l *lister) folder(folder int64, path string) error {
	fd, err := l.t.at(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = l.t.at(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err == nil && l.t.xdev {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && l.t.vols.of(uint64(st.Dev), fd).unreal {
			unix.Close(fd)
			return nil
		}
	}
	switch {
	case err == unix.EXDEV:
		l.mu.Lock()
		l.r.OtherMounts++
		l.mu.Unlock()
		return nil
	case err != nil && folder == noFolder:
		return pathError("open", path, err)
	case err == unix.ENOENT, err == unix.ENOTDIR, err == unix.ELOOP:
		return nil // it went away, or became something else, a moment ago
	case err != nil:
		l.trouble(path, err)
		return nil
	}
	defer unix.Close(fd)
	l.mu.Lock()
	l.r.Folders++
	l.mu.Unlock()
	for {
		n := 0
		err := again(func() (err error) { n, err = unix.ReadDirent(fd, l.buf); return err })
		if err != nil {
			l.trouble(path, err)
			break
		}
		if n == 0 {
			break
		}
		l.parse(l.buf[:n])
		if len(l.batch) >= batchLength {
			if err := l.take(fd, folder, path); err != nil {
				return err
			}
		}
	}
	return l.take(fd, folder, path)
}

func (l *lister) trouble(path string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.Unreadable.add(path, reasonOf(err))
}

// parse reads struct linux_dirent64.
func (l *lister) parse(b []byte) {
	for len(b) >= 19 {
		length := int(binary.NativeEndian.Uint16(b[16:]))
		if length < 19 || length > len(b) {
			return
		}
		name := b[19:length]
		if end := slices.Index(name, 0); end >= 0 {
			name = name[:end]
		}
		if s := string(name); s != "." && s != ".." && !ours(s) {
			from := len(l.text)
			l.text = append(l.text, name...)
			l.batch = append(l.batch, dirent{binary.NativeEndian.Uint64(b), b[18], from, len(l.text)})
		}
		b = b[length:]
	}
}

// found is what an entry turned out to be.
type found struct {
	r        record
	from, to int // its name, in text
	dir      bool
}

// foundLength is how many are given on at a time.
const foundLength = 256

// take looks at the entries of a folder in the order in which they lie on the disk.
func (l *lister) take(fd int, folder int64, path string) error {
	slices.SortFunc(l.batch, func(a, b dirent) int { return cmp.Compare(a.inode, b.inode) })
	var device, volume uint64 // of the file before
	for _, e := range l.batch {
		if e.kind != unix.DT_DIR && e.kind != unix.DT_REG && e.kind != unix.DT_UNKNOWN {
			continue
		}
		f := found{from: e.from, to: e.to, dir: e.kind == unix.DT_DIR}
		if !f.dir {
			name := l.text[e.from:e.to]
			var st unix.Stat_t
			err := again(func() error { return unix.Fstatat(fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW) })
			switch {
			case err == unix.ENOENT:
				continue
			case err != nil:
				l.trouble(join(path, string(name)), err)
				continue
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				f.dir = true
			case unix.S_IFREG:
				if volume == 0 || device != uint64(st.Dev) {
					device, volume = uint64(st.Dev), l.t.vols.of(uint64(st.Dev), fd).key
				}
				f.r = record{Facts: factsOf(&st, volume), alloc: min(st.Blocks*512, st.Size), links: uint32(min(st.Nlink, 1<<31))}
			default:
				continue
			}
		}
		if l.some = append(l.some, f); len(l.some) == foundLength {
			if err := l.give(folder); err != nil {
				return err
			}
		}
	}
	err := l.give(folder)
	l.batch, l.text = l.batch[:0], l.text[:0]
	return err
}

// give passes on what was found in a folder.
func (l *lister) give(folder int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var files, bytes int64
	for i := range l.some {
		f := &l.some[i]
		if !f.dir {
			files, bytes = files+1, bytes+f.r.Size
			if f.r.Size == 0 {
				l.r.Empty++
				continue
			}
		}
		at, err := l.names.add(folder, l.text[f.from:f.to])
		if err != nil {
			return err
		}
		if f.dir {
			l.todo = append(l.todo, at)
			l.more.Signal()
			continue
		}
		f.r.name = at
		l.out.add(&f.r)
	}
	l.r.Files += files
	l.r.Bytes += bytes
	l.meter.add(files, bytes)
	l.some = l.some[:0]
	return l.err
}

func join(folder, name string) string {
	if folder == "." {
		return name
	}
	return folder + "/" + name
}

// gone says whether an error means that the file is not there, or is no longer one.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotAFile) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR)
}
