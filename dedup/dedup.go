// Package dedup finds equal files in trees that exist, and folds them: scan,
// plan, apply, undo. It knows bytes and no people; who may have what compared is
// for its caller to know.
//
// # What is equal
//
// Files of one size are compared by their first and last bytes, then by the
// SHA-256 of all of them. What was read is remembered by (volume, inode, size,
// both times), so that a second look at files that did not change reads none of
// them. That is enough to suggest something, not to act: right before a file is
// folded, it and the one that stays are read again and compared byte by byte.
//
// # What cannot happen
//
//   - The last copy never goes. What stays is another file than what goes (by
//     inode, so links and bind mounts of one file are one), both are open while it
//     happens, and nothing is unlinked before the name of the link that takes its
//     place is on stable storage.
//   - A file that changes is left alone. Size, times and inode are those of the
//     plan, and the same before and after the comparison; a lease of the kernel
//     says that nobody has it open for writing, where the file system has leases.
//   - No name leads elsewhere: every path is opened below the root of the tree, and
//     no symbolic link is followed on the way, not even one put there meanwhile.
//   - A cut or kill leaves each file as it was or as it should become. What was
//     about to happen stands in a journal before it does; the next run ends it.
package dedup

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"yunbox.local/storage/vfs"
)

const (
	// TrashName is the folder at the top of a tree that holds what was folded
	// into the trash.
	TrashName = ".yunbox-trash"
	// tempPrefix begins the names of links and copies that exist for a moment.
	tempPrefix = ".yunbox-dedup-"
)

// ours says whether a name is one that no scan looks at.
func ours(name string) bool {
	return name == TrashName || strings.HasPrefix(name, ".yunbox-inbox") || strings.HasPrefix(name, tempPrefix)
}

// Facts identify a file as it was at one moment.
type Facts struct {
	Volume uint64 `json:"volume"` // the file system: the same number after a restart
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`  // bytes
	Mtime  int64  `json:"mtime"` // Unix nanoseconds
	Ctime  int64  `json:"ctime"`
}

// same says whether both are the same file, whatever is in it.
func (f Facts) same(o Facts) bool { return f.Volume == o.Volume && f.Inode == o.Inode }

// Path is a name below the root of a tree, with slashes, in the bytes that the
// file system has. As JSON it is a string, or {"base64": …} where it is not UTF-8.
type Path string

// MarshalJSON implements json.Marshaler.
func (p Path) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) {
		return json.Marshal(string(p))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(p))})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Path) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*p = Path(s)
		return nil
	}
	var o struct {
		Base64 []byte `json:"base64"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	*p = Path(o.Base64)
	return nil
}

// valid says whether p names something below the root.
func (p Path) valid() error {
	for part := range strings.SplitSeq(string(p), "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return fmt.Errorf("%q is no path below a folder: %w", string(p), fs.ErrInvalid)
		}
	}
	return nil
}

// Work is where a Folder keeps what it remembers: the cache, plans and journals.
// It belongs to one person: all of it speaks of their files.
type Work struct {
	FS  vfs.FS
	Dir string // below the root of FS; it exists
}

func (w Work) path(name string) string { return w.Dir + "/" + name }

// Folder is a tree in which equal files are looked for. It is used by one caller
// at a time, who sees to it: two that share a Work must take turns as well.
type Folder struct {
	work Work
	disk disk
	tree *tree // the real disk; nil in tests of what does not scan
	name string

	settled time.Duration // see settled
}

// Open opens the folder at root, an absolute path, for a person whose notes are in
// work. It follows no symbolic link below root. The caller closes it.
func Open(root string, work Work) (*Folder, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	return &Folder{work: work, disk: t, tree: t, name: root, settled: settled}, nil
}

// Close lets go of the folder.
func (f *Folder) Close() error {
	if f.tree == nil {
		return nil
	}
	return f.tree.Close()
}

// Progress is how far something is. Rate and Left are 0 as long as they are unknown.
type Progress struct {
	Stage   Stage `json:"stage"`
	Files   int64 `json:"files"`
	OfFiles int64 `json:"of_files"` // 0: not known yet
	Bytes   int64 `json:"bytes"`
	OfBytes int64 `json:"of_bytes"`
	Rate    int64 `json:"rate"`         // bytes a second
	Left    int64 `json:"seconds_left"` // rounded up
}

// Stage is what is being done.
type Stage string

// The stages.
const (
	Listing   Stage = "listing"   // folders are read
	Sampling  Stage = "sampling"  // the ends of files of one size are read
	Reading   Stage = "reading"   // files whose ends are equal are read
	Comparing Stage = "comparing" // pictures are looked at
	Folding   Stage = "folding"   // a plan is carried out
	Undoing   Stage = "undoing"
)

// meter counts progress and tells it, not more often than five times a second.
type meter struct {
	tell  func(Progress)
	p     Progress
	began time.Time
	told  time.Time
}

func newMeter(tell func(Progress), stage Stage, files, bytes int64) *meter {
	m := &meter{tell: tell, p: Progress{Stage: stage, OfFiles: files, OfBytes: bytes}}
	m.began = time.Now()
	if tell != nil {
		m.told = m.began
		m.say(m.began) // what comes next may take long
	}
	return m
}

func (m *meter) add(files, bytes int64) {
	m.p.Files += files
	m.p.Bytes += bytes
	if m.tell == nil {
		return
	}
	if t := time.Now(); t.Sub(m.told) >= 200*time.Millisecond {
		m.told = t
		m.say(t)
	}
}

// end tells how it ended, in any case.
func (m *meter) end() {
	if m.tell != nil {
		m.say(time.Now())
	}
}

func (m *meter) say(t time.Time) {
	p := m.p
	spent := t.Sub(m.began).Seconds()
	if spent > 0.5 {
		p.Rate = int64(float64(p.Bytes) / spent)
		switch {
		case p.OfBytes > p.Bytes && p.Bytes > 0:
			p.Left = int64(spent*float64(p.OfBytes-p.Bytes)/float64(p.Bytes)) + 1
		case p.OfFiles > p.Files && p.Files > 0:
			p.Left = int64(spent*float64(p.OfFiles-p.Files)/float64(p.Files)) + 1
		}
	}
	m.tell(p)
}

// Trouble is a file or folder that was left out, and why.
type Trouble struct {
	Path   Path   `json:"path"`
	Reason string `json:"reason"`
}

// shownTroubles is how many are named; the others are counted.
const shownTroubles = 100

// Troubles are files or folders that were left out.
type Troubles struct {
	N    int64     `json:"n"`
	List []Trouble `json:"list"` // a hundred at most
}

func (t *Troubles) add(path string, reason string) {
	t.N++
	if len(t.List) < shownTroubles {
		t.List = append(t.List, Trouble{Path(path), reason})
	}
}

// settled is how old a change must be for the times of a file to tell later ones:
// two seconds is the coarsest clock of a file system (FAT).
const settled = 2 * time.Second

// reasonOf says why the system refused something, without naming a file.
func reasonOf(err error) string {
	var named *fs.PathError
	if errors.As(err, &named) {
		err = named.Err
	}
	return err.Error()
}
