package target

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

const (
	// RestoringFile lies in a state directory that is not whole yet: no box
	// starts on it.
	RestoringFile = "RESTORING"
	// RestoredFile tells the first box that starts on a restored state directory.
	RestoredFile = "RESTORED"

	databaseName = "box.db"
	volumeName   = "VOLUME"
	keysName     = "keys"
	configName   = "config.toml"

	maxKept = 1 << 20 // bytes of one file of state.tar
	maxTar  = 1024    // files in it
)

// StateNames says whether state.tar may hold a file of that name: what else is in
// it would be somebody else's.
func stateName(name string) bool {
	if dir, base := path.Split(name); dir == keysName+"/" {
		return base != "" && fs.ValidPath(name)
	}
	return name == volumeName || name == configName
}

// WriteState writes state.tar from files, in the order of names.
func WriteState(w io.Writer, files map[string][]byte, when time.Time) error {
	names := make([]string, 0, len(files))
	for name := range files {
		if !stateName(name) || len(files[name]) > maxKept {
			return fmt.Errorf("backup: %s does not belong into the copy", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	out := tar.NewWriter(w)
	for _, name := range names {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o400, Size: int64(len(files[name])), ModTime: when, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if _, err := out.Write(files[name]); err != nil {
			return err
		}
	}
	return out.Close()
}

// Restored says what a restore did.
type Restored struct {
	Copy       string // id of the copy
	Box        string // id of the box
	Generation Generation
	Contents   int64 // that are there and have been read back or written now
	Bytes      int64
	Already    int64 // of them, those that an interrupted restore had brought
	Damaged    int64 // that could not be restored
	Missing    int64 // that the copy never had
}

// RestoreOptions of Restore.
type RestoreOptions struct {
	// Generation to restore, 0 for the newest.
	Generation int64
	// Lost is told of each content that cannot be restored.
	Lost func(ref storage.Ref, reason string)
	// Step is told how many contents and bytes are done, of how many.
	Step func(done, all, bytes int64)
}

// Restore makes the empty directory state the state directory of the box in the
// copy. An interrupted one goes on when it is called again. A content whose bytes
// are not right is left out and told of; everything else is restored.
func (t *Target) Restore(ctx context.Context, state vfs.FS, opt RestoreOptions) (Restored, error) {
	g, err := t.choose(opt.Generation)
	if err != nil {
		return Restored{}, err
	}
	r := &restore{t: t, ctx: ctx, state: state, opt: opt}
	r.Copy, r.Box, r.Generation, r.Missing = t.id.ID, t.id.Box, g, g.Missing
	return r.Restored, errors.Join(r.run(), ctx.Err())
}

func (t *Target) choose(number int64) (Generation, error) {
	good, bad, err := t.Generations()
	if err != nil {
		return Generation{}, err
	}
	for _, g := range good {
		if number == 0 || g.Number == number {
			return g, nil
		}
	}
	if len(good) == 0 && bad > 0 {
		return Generation{}, damaged("backup.restore", "No generation in it holds.", nil)
	}
	return Generation{}, &problem.Error{Kind: problem.NotFound, Op: "backup.restore", Title: "There is no such generation in the copy",
		Hint: "Leave --generation out to restore the newest one."}
}

type restore struct {
	Restored
	t     *Target
	ctx   context.Context
	state vfs.FS
	opt   RestoreOptions
}

func (r *restore) run() error {
	if err := r.begin(); err != nil {
		return err
	}
	for shard := range shards {
		if err := r.mkdir(path.Join("blobs", fmt.Sprintf("%02x", shard))); err != nil {
			return r.fail(err)
		}
	}
	if err := r.contents(); err != nil {
		return r.fail(err)
	}
	for shard := range shards {
		if err := r.state.SyncDir(path.Join("blobs", fmt.Sprintf("%02x", shard))); err != nil {
			return r.fail(err)
		}
	}
	if err := r.state.SyncDir("blobs"); err != nil {
		return r.fail(err)
	}
	volume, err := r.keys()
	if err != nil {
		return r.fail(err)
	}
	if err := r.database(); err != nil {
		return r.fail(err)
	}
	told := checked(fmt.Sprintf("yunbox restored 1\ncopy       %s\ngeneration %d\ntime       %s\n", r.Copy, r.Generation.Number, r.Generation.Time.UTC().Format(time.RFC3339)))
	if err := vfs.WriteFile(r.state, RestoredFile, told, 0o600); err != nil {
		return r.fail(err)
	}
	// The identity of the volume comes last, as when a volume is made.
	if err := vfs.WriteFile(r.state, volumeName, volume, 0o440); err != nil {
		return r.fail(err)
	}
	if err := r.state.Remove(RestoringFile); err != nil {
		return r.fail(err)
	}
	return r.fail(r.state.SyncDir("."))
}

// fail gives an error of the new state directory the words for a person.
func (r *restore) fail(err error) error {
	var p *problem.Error
	switch {
	case err == nil || errors.As(err, &p) || r.ctx.Err() != nil:
		return err
	case vfs.IsFull(err):
		return &problem.Error{Kind: problem.Full, Op: "backup.restore", Err: err, Title: "The new disk is full",
			Hint: "Take a larger one, or free space and run the same command again: what is restored already stays."}
	}
	return fmt.Errorf("restore: %w", err)
}

// begin refuses a directory that is in use, and marks an empty one.
func (r *restore) begin() error {
	mark := checked(fmt.Sprintf("yunbox restoring 1\ncopy       %s\ngeneration %d\n", r.Copy, r.Generation.Number))
	list, err := r.state.ReadDir(".")
	if err != nil {
		return r.fail(err)
	}
	have, err := readSmall(r.state, RestoringFile)
	switch {
	case err == nil && string(have) == string(mark):
		return nil
	case err == nil:
		return &problem.Error{Kind: problem.Conflict, Op: "backup.restore", Title: "Another restore was begun here",
			Detail: "It was of another copy, or of another generation of this one.", Hint: "Choose an empty directory, or go on with that generation: see --generation."}
	case !errors.Is(err, fs.ErrNotExist):
		return r.fail(err)
	}
	if n, err := ReadNotice(r.state); err == nil && n.Copy == r.Copy && n.Generation == r.Generation.Number {
		return &problem.Error{Kind: problem.Conflict, Op: "backup.restore", Title: "The box has been restored here already",
			Hint: "Start yunboxd on that directory."}
	}
	for _, e := range list {
		if e.Name() != "lost+found" && e.Name() != RestoringFile+tempSuffix {
			return &problem.Error{Kind: problem.Conflict, Op: "backup.restore", Title: "The directory is not empty",
				Detail: "A box is restored only into an empty directory, so that nothing can be lost.", Hint: "Choose a new directory with --state. Nothing was changed."}
		}
	}
	return r.fail(vfs.WriteFile(r.state, RestoringFile, mark, 0o600))
}

func (r *restore) mkdir(dir string) error {
	if dir != "." {
		if err := r.mkdir(path.Dir(dir)); err != nil {
			return err
		}
		if err := r.state.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (r *restore) contents() error {
	for e, err := range r.t.Contents(r.Generation) {
		if err != nil {
			return damaged("backup.restore", "Its list of contents cannot be read; another generation may do.", err)
		}
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		if err := r.content(e); err != nil {
			return err
		}
		r.opt.Step(r.Contents+r.Damaged, r.Generation.Contents, r.Bytes)
	}
	return nil
}

// content restores one content, unless it is there.
func (r *restore) content(e Entry) error {
	name := path.Join("blobs", e.Ref.String()[:2], e.Ref.String())
	size, err := r.holds(name, e.Ref)
	if err == nil {
		r.Contents++
		r.Already++
		r.Bytes += size
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := r.t.open(e.Name.path())
	if err != nil {
		return r.lose(e.Ref, err)
	}
	defer in.Close() //nolint:errcheck // read only
	size, bad, err := r.bring(name, e.Ref, in)
	switch {
	case err != nil:
		return err
	case bad != nil:
		return r.lose(e.Ref, bad)
	}
	r.Contents++
	r.Bytes += size
	return nil
}

func (r *restore) lose(ref storage.Ref, err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if _, gone := ReadIdentity(r.t.fsys); gone != nil {
		return absent("backup.restore", err) // the disk was pulled out: nothing is lost
	}
	reason := "It cannot be read from the copy."
	if errors.Is(err, fs.ErrNotExist) {
		reason = "It is missing in the copy."
	}
	r.Damaged++
	r.opt.Lost(ref, reason)
	return nil
}

// holds says fs.ErrNotExist where the content is not there, whole.
func (r *restore) holds(name string, ref storage.Ref) (int64, error) {
	f, err := openRegular(r.state, name)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	n, err := r.t.copy(h, readOnly{r.ctx, f})
	if err != nil {
		return 0, err
	}
	if storage.Ref(h.Sum(nil)) != ref {
		return 0, fs.ErrNotExist
	}
	return n, nil
}

// bring writes a content to a name of its own and gives it its name when all of it
// is durable and right. bad: the copy's bytes are not.
func (r *restore) bring(name string, ref storage.Ref, in io.Reader) (size int64, bad, err error) {
	src := &sourceReader{r: readOnly{r.ctx, in}}
	temp := name + tempSuffix
	h := sha256.New()
	err = r.write(temp, 0o440, func(w io.Writer) (err error) {
		size, err = r.t.copy(io.MultiWriter(w, h), src)
		return err
	})
	if err == nil && storage.Ref(h.Sum(nil)) != ref {
		src.failed = errors.New("its bytes have another SHA-256")
	}
	if src.failed != nil {
		_ = r.state.Remove(temp) // harmless if it is not there
		return 0, src.failed, nil
	}
	if err != nil {
		_ = r.state.Remove(temp)
		return 0, nil, err
	}
	return size, nil, r.state.Rename(temp, name)
}

// write makes a file whose bytes are durable.
func (r *restore) write(name string, mode fs.FileMode, fill func(io.Writer) error) error {
	if err := r.state.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.state.OpenFile(name, vfs.CreateNew, mode)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(f)
	if err = fill(buf); err == nil {
		err = buf.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// keys restores keys and settings, and returns the identity of the volume.
func (r *restore) keys() (volume []byte, err error) {
	bad := func(err error) error {
		return damaged("backup.restore", "Its keys cannot be read; another generation may do.", err)
	}
	in, err := r.t.File(r.Generation, StateFile)
	if err != nil {
		return nil, bad(err)
	}
	defer in.Close() //nolint:errcheck // read only
	if err := r.state.Mkdir(keysName, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	list := tar.NewReader(in)
	for n := 0; ; n++ {
		h, err := list.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, bad(err)
		}
		if n >= maxTar || h.Typeflag != tar.TypeReg || h.Size > maxKept || !stateName(h.Name) {
			return nil, bad(fmt.Errorf("%q does not belong there", h.Name))
		}
		data, err := io.ReadAll(list)
		if err != nil {
			return nil, bad(err)
		}
		if h.Name == volumeName {
			volume = data
			continue
		}
		if err := vfs.WriteFile(r.state, h.Name, data, 0o400); err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // its end proves that it is whole
		return nil, bad(err)
	}
	if len(volume) == 0 {
		return nil, bad(errors.New("there is no " + volumeName))
	}
	return volume, r.mkdir("staging")
}

func (r *restore) database() error {
	in, err := r.t.File(r.Generation, DatabaseFile)
	if err != nil {
		return damaged("backup.restore", "Its database cannot be read; another generation may do.", err)
	}
	defer in.Close() //nolint:errcheck // read only
	src := &sourceReader{r: readOnly{r.ctx, in}}
	temp := databaseName + tempSuffix
	err = r.write(temp, 0o600, func(w io.Writer) error {
		_, err := r.t.copy(w, src)
		return err
	})
	switch {
	case src.failed != nil && r.ctx.Err() == nil:
		return damaged("backup.restore", "Its database is damaged; another generation may do.", src.failed)
	case err != nil:
		return err
	}
	return r.state.Rename(temp, databaseName)
}

// Notice is what RestoredFile says.
type Notice struct {
	Copy       string
	Generation int64
	Time       time.Time // of the state that was restored
}

// ReadNotice reads RestoredFile; fs.ErrNotExist where there is none.
func ReadNotice(state vfs.FS) (n Notice, err error) {
	data, err := readSmall(state, RestoredFile)
	if err != nil {
		return n, err
	}
	f, err := fields(data, "yunbox restored 1", "copy", "generation", "time")
	if err != nil {
		return n, err
	}
	n.Copy = f["copy"]
	if n.Generation, err = strconv.ParseInt(f["generation"], 10, 64); err != nil {
		return n, err
	}
	n.Time, err = time.Parse(time.RFC3339, f["time"])
	return n, err
}

// Find opens the folder of a box on a target with its recovery key. dir opens a
// folder below the target, "." itself. box chooses where there are several; "" is
// the one that the key opens.
func Find(top vfs.FS, dir func(name string) (vfs.FS, error), key Recovery, box string) (*Target, error) {
	keys, err := key.Keys()
	if err != nil {
		return nil, err
	}
	names := []string{"."}
	list, err := top.ReadDir(".")
	if err != nil {
		return nil, absent("backup.restore", err)
	}
	for _, e := range list {
		if id, ok := strings.CutPrefix(e.Name(), Folder("")); ok && e.IsDir() && (box == "" || box == id) {
			names = append(names, e.Name())
		}
	}
	var last error
	for _, name := range names {
		sub, err := dir(name)
		if err != nil {
			last = errors.Join(last, err)
			continue
		}
		t, err := Open(sub, keys, "")
		if err == nil && box != "" && t.id.Box != box {
			err = absent("backup.restore", fmt.Errorf("this is a copy of box %s", t.id.Box))
		}
		if err == nil {
			return t, nil
		}
		if last == nil || !errors.Is(err, ErrAbsent) {
			last = err
		}
	}
	return nil, last
}
