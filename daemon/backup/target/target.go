// Package target is the second copy of a box as it lies on another disk: the
// format of docs/format.md, how it is written so that a cut at any moment leaves
// the former generation whole, how it is verified without the recovery key, and
// how a box is restored from it. It knows no people and no SQL.
//
// Everything on a target may be hostile: somebody else may have had the disk.
// Nothing there is believed that does not carry the seal of the key, and no
// content is restored whose SHA-256 is not the one that the box knew it by.
package target

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

const (
	// IdentityFile says what a folder is. Without it a target is absent, not empty.
	IdentityFile = "YUNBOX-BACKUP"
	readmeFile   = "README.txt"
	lockFile     = "LOCK"
	genDir       = "generations"
	copiedPrefix = "copied-" // notes of unfinished runs

	maxText  = 64 << 10 // bytes of a small file that is read whole
	fileMode = 0o600
	dirMode  = 0o700
	shards   = 256
)

//go:embed README.txt
var readme []byte

// Identity is what the identity file of a copy says.
type Identity struct {
	ID      string    // of the copy, 26 characters
	Box     string    // id of the box that it is of
	Created time.Time // to the second
	check   string    // tells whether a key belongs to it
}

// Folder is the name of a box's own folder on a target, so that several boxes
// can share one disk.
func Folder(box string) string { return "yunbox-" + box }

// Target is the folder of one box on a target. Its methods may be called from
// several goroutines as far as they only read; one that writes runs alone.
type Target struct {
	fsys vfs.FS
	keys *Keys
	id   Identity

	buffers sync.Pool // of *[]byte
}

// copy is io.Copy with a buffer that is used again.
func (t *Target) copy(w io.Writer, r io.Reader) (int64, error) {
	b := t.buffer()
	defer t.buffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *b)
}

// buffer lends a buffer.
func (t *Target) buffer() *[]byte {
	if b, ok := t.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, bufferSize)
	return &b
}

// ErrAbsent is wrapped by the errors of a target that is not there, or is not the
// one that is expected.
var ErrAbsent = errors.New("the second copy is not there")

func absent(op string, err error) error {
	return &problem.Error{Kind: problem.Unavailable, Op: op, Err: fmt.Errorf("%w: %w", ErrAbsent, err),
		Title: "The disk with the second copy is not there", Detail: "Its folder is missing, or it is not the copy that was added.",
		Hint: "Plug the disk in and mount it; the copy goes on by itself. A missing disk is never taken for an empty one."}
}

func damaged(op, detail string, err error) error {
	return &problem.Error{Kind: problem.Damaged, Op: op, Err: err, Title: "The second copy is damaged", Detail: detail,
		Hint: "`yunboxctl backup verify --full` says what is damaged, `yunboxctl backup run` writes it again."}
}

// Init makes an empty folder a copy of box, identity file last. A folder that has
// anything else in it than what an interrupted Init leaves is refused.
func Init(fsys vfs.FS, keys *Keys, id Identity) (*Target, error) {
	if err := mustBeOurs(fsys); err != nil {
		return nil, err
	}
	dirs := []string{genDir, dataDir}
	for i := range shards {
		dirs = append(dirs, shardDir(i))
	}
	for _, dir := range dirs {
		if err := fsys.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, written("backup.add", err)
		}
	}
	t := &Target{fsys: fsys, keys: keys, id: id}
	for _, dir := range []string{dataDir, "."} {
		if err := t.syncDir(dir); err != nil {
			return nil, written("backup.add", err)
		}
	}
	id.check = keys.check
	t.id = id
	for _, f := range []struct {
		name string
		data []byte
	}{
		{readmeFile, readme}, {lockFile, nil},
		{IdentityFile, checked(fmt.Sprintf("yunbox backup 1\nid        %s\nbox       %s\ncreated   %s\ncheck     %s\n",
			id.ID, id.Box, id.Created.UTC().Format(time.RFC3339), id.check))},
	} {
		if err := t.writeSmall(f.name, f.data); err != nil {
			return nil, written("backup.add", err)
		}
	}
	return t, nil
}

func mustBeOurs(fsys vfs.FS) error {
	foreign := func(what string) error {
		return &problem.Error{Kind: problem.Conflict, Op: "backup.add", Title: "The box's folder on that disk is not empty", Detail: "It holds " + what + ".",
			Hint: "Nothing was changed. If it is an older copy that is not needed any more, rename or delete that folder."}
	}
	list, err := fsys.ReadDir(".")
	if err != nil {
		return written("backup.add", err)
	}
	for _, e := range list {
		switch e.Name() {
		case readmeFile, lockFile, readmeFile + tempSuffix, lockFile + tempSuffix, IdentityFile + tempSuffix:
		case genDir, dataDir:
		case IdentityFile:
			return foreign("a copy already")
		default:
			return foreign("other files")
		}
	}
	dirs := []string{genDir}
	for i := range shards {
		dirs = append(dirs, shardDir(i))
	}
	for _, dir := range dirs {
		if list, err := fsys.ReadDir(dir); err == nil && len(list) > 0 {
			return foreign("a copy whose identity file is missing")
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return written("backup.add", err)
		}
	}
	return nil
}

// ReadIdentity reads the identity file of a folder. An error wraps ErrAbsent if
// there is none.
func ReadIdentity(fsys vfs.FS) (Identity, error) {
	data, err := readSmall(fsys, IdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, absent("backup.open", err)
	} else if err != nil {
		return Identity{}, damaged("backup.open", "Its identity file "+IdentityFile+" cannot be read.", err)
	}
	if !strings.HasPrefix(string(data), "yunbox backup 1\n") {
		return Identity{}, &problem.Error{Kind: problem.Unsupported, Op: "backup.open", Title: "This version cannot read that copy",
			Detail: "Its identity file begins with another line than this version writes.", Hint: "Use a newer yunboxctl."}
	}
	f, err := fields(data, "yunbox backup 1", "id", "box", "created", "check")
	if err != nil {
		return Identity{}, damaged("backup.open", "Its identity file "+IdentityFile+" is damaged.", err)
	}
	id := Identity{ID: f["id"], Box: f["box"], check: f["check"]}
	if id.Created, err = time.Parse(time.RFC3339, f["created"]); err != nil || id.ID == "" {
		return Identity{}, damaged("backup.open", "Its identity file "+IdentityFile+" is damaged.", err)
	}
	return id, nil
}

// Open takes a copy into use. want is the id that it must have, "" for any: an
// error wraps ErrAbsent where it is another.
func Open(fsys vfs.FS, keys *Keys, want string) (*Target, error) {
	id, err := ReadIdentity(fsys)
	if err != nil {
		return nil, err
	}
	if want != "" && id.ID != want {
		return nil, absent("backup.open", fmt.Errorf("this is copy %s, expected was %s", id.ID, want))
	}
	if id.check != keys.check {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "backup.open", Title: "That key does not open this copy",
			Detail: "The copy was made with another recovery key.", Hint: "Take the key that was shown when this copy was added; nothing was changed."}
	}
	return &Target{fsys: fsys, keys: keys, id: id}, nil
}

// Identity says which copy it is.
func (t *Target) Identity() Identity { return t.id }

// Present asks whether the copy is still there: an error wraps ErrAbsent if not.
func (t *Target) Present() error {
	id, err := ReadIdentity(t.fsys)
	if err == nil && id.ID != t.id.ID {
		err = errors.New("it is another copy")
	}
	if err != nil && !errors.Is(err, ErrAbsent) {
		return absent("backup.open", err)
	}
	return err
}

// Name is the name of a content on the target.
func (t *Target) Name(ref storage.Ref) Name { return t.keys.Name(ref) }

// Space is the room on the target.
func (t *Target) Space() (vfs.Space, error) { return t.fsys.Space() }

// Lock keeps a second writer away, such as another box that was restored from
// this very copy. A file system without locks has none.
func (t *Target) Lock() (io.Closer, error) {
	lock, err := t.fsys.Lock(lockFile)
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, vfs.ErrLocked):
		return nil, &problem.Error{Kind: problem.Locked, Op: "backup.run", Err: err, Title: "Another box writes this copy right now",
			Hint: "Two boxes must not share one copy: add another for one of them."}
	case errors.Is(err, syscall.ENOLCK), errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		return io.NopCloser(nil), nil
	}
	return nil, written("backup.run", err)
}

// Content opens a content as it is in the copy. It is decrypted while it is read;
// its end proves that nothing is missing and that the box wrote it, and the caller
// holds it against the SHA-256. fs.ErrNotExist: it is not there.
func (t *Target) Content(ctx context.Context, ref storage.Ref) (io.ReadCloser, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return t.open(t.keys.Name(ref).path())
}

// open opens an encrypted file.
func (t *Target) open(name string) (io.ReadCloser, error) {
	f, err := openRegular(t.fsys, name)
	if err != nil {
		return nil, err
	}
	r, err := t.keys.decrypt(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path.Base(name), err), f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{r, f}, nil
}

// openRegular opens a file that is one: opening a pipe would wait for ever.
func openRegular(fsys vfs.FS, name string) (vfs.File, error) {
	info, err := fsys.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return fsys.OpenFile(name, vfs.ReadOnly, 0)
}

// readSmall reads a small file whole.
func readSmall(fsys vfs.FS, name string) ([]byte, error) {
	f, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(data) > maxText {
		err = fmt.Errorf("%s is too long", name)
	}
	return data, errors.Join(err, f.Close())
}
