package storage

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"yunbox.local/storage/vfs"
)

const (
	volumeFile = "VOLUME"
	volumeCopy = "VOLUME.copy" // the same once more: without it the box would take the disk for absent
	lockFile   = "LOCK"
	blobsDir   = "blobs"
	stagingDir = "staging"

	dirMode   = 0o750
	blobMode  = 0o440 // for good: a blob is never written to
	stageMode = 0o600
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	idText     = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

// newID returns 128 random bits as 26 characters.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return idText.EncodeToString(b[:])
}

// validID tells an id of ours from any other string, so that an id that came
// from outside can become part of a file name.
func validID(id string) bool {
	if len(id) != 26 {
		return false
	}
	b, err := idText.DecodeString(id)
	return err == nil && len(b) == 16 && idText.EncodeToString(b) == id
}

// volume is the content of the file VOLUME; docs/format.md describes it.
type volume struct {
	id      string
	created time.Time
}

func (v volume) marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "yunbox volume 1\nid      %s\ncreated %s\n", v.id, v.created.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "crc     %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

var (
	errVolumeDamaged = errors.New("damaged")
	errVolumeNewer   = errors.New("a newer layout")
)

func (v volume) same(o volume) bool { return v.id == o.id && v.created.Unix() == o.created.Unix() }

func parseVolume(data []byte) (volume, error) {
	var v volume
	if !bytes.HasPrefix(data, []byte("yunbox volume ")) {
		return v, fmt.Errorf("%w: not a yunbox volume file", errVolumeDamaged)
	}
	if !bytes.HasPrefix(data, []byte("yunbox volume 1\n")) {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		if _, err := parseVolume(append([]byte("yunbox volume 1\n"), rest...)); err == nil || len(line) > len("yunbox volume 1")+3 {
			return v, fmt.Errorf("%w: its first line is wrong", errVolumeDamaged)
		}
		return v, fmt.Errorf("%w, %.40q, which this version of yunbox cannot read", errVolumeNewer, line)
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) != 5 || lines[4] != "" {
		return v, fmt.Errorf("%w: it does not have four lines", errVolumeDamaged)
	}
	field := func(line, name string) (string, bool) {
		return strings.CutPrefix(line, fmt.Sprintf("%-8s", name))
	}
	crc, ok := field(lines[3], "crc")
	sum, err := strconv.ParseUint(crc, 16, 32)
	if !ok || err != nil || uint32(sum) != crc32.Checksum(data[:len(data)-len(lines[3])-1], castagnoli) {
		return v, fmt.Errorf("%w: its checksum is wrong", errVolumeDamaged)
	}
	if v.id, ok = field(lines[1], "id"); !ok || !validID(v.id) {
		return v, fmt.Errorf("%w: it has no valid id", errVolumeDamaged)
	}
	created, ok := field(lines[2], "created")
	if v.created, err = time.Parse(time.RFC3339, created); !ok || err != nil {
		return v, fmt.Errorf("%w: it has no valid time", errVolumeDamaged)
	}
	return v, nil
}

// errNoVolume: there is none, and none was expected.
var errNoVolume = errors.New("no volume")

// HasVolume reports whether fsys is a volume, or what is left of one.
func HasVolume(fsys vfs.FS) (bool, error) {
	for _, name := range []string{volumeFile, volumeCopy} {
		if _, err := fsys.Stat(name); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// readVolume reads VOLUME, or its copy where it is damaged or lost. want is the id
// that it must have, or "".
func readVolume(fsys vfs.FS, want string) (volume, error) {
	v, err := readVolumeFile(fsys, volumeFile)
	if err == nil {
		if spare, spareErr := readVolumeFile(fsys, volumeCopy); spareErr == nil && spare.id != v.id {
			return v, fmt.Errorf("%w: %s is of volume %s, %s of volume %s", ErrWrongVolume, volumeFile, v.id, volumeCopy, spare.id)
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errVolumeDamaged) || errors.Is(err, syscall.EIO) { // a bad sector
		spare, spareErr := readVolumeFile(fsys, volumeCopy)
		switch {
		case spareErr == nil:
			v, err = spare, nil
		case !errors.Is(spareErr, fs.ErrNotExist):
			err = errors.Join(err, spareErr)
		case errors.Is(err, fs.ErrNotExist) && want == "":
			return volume{}, errNoVolume
		case errors.Is(err, fs.ErrNotExist):
			return volume{}, fmt.Errorf("%w: no %s here, expected was volume %s: is the disk mounted?", ErrWrongVolume, volumeFile, want)
		}
	}
	if errors.Is(err, errVolumeDamaged) || errors.Is(err, errVolumeNewer) || errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%w: %w", ErrWrongVolume, err)
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", volumeFile, err)
	}
	if want != "" && v.id != want {
		return v, fmt.Errorf("%w: this is volume %s, expected was %s", ErrWrongVolume, v.id, want)
	}
	return v, nil
}

func readVolumeFile(fsys vfs.FS, name string) (volume, error) {
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return volume{}, err
	}
	v, err := parseVolume(data)
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// mendVolume writes VOLUME or its copy again where they are not what was read. A disk
// that does not take it is no reason not to start.
func (s *Store) mendVolume() {
	for _, name := range []string{volumeFile, volumeCopy} {
		v, err := readVolumeFile(s.fsys, name)
		if err == nil && v.same(s.volume) {
			continue
		}
		if name == volumeFile || !errors.Is(err, fs.ErrNotExist) { // volumes from before have no copy
			s.log.Error("the identity file of the volume was damaged or lost, and is made again: look at the disk", "file", name, "error", err)
		}
		if err := vfs.WriteFile(s.fsys, name, s.volume.marshal(), blobMode); err != nil {
			s.log.Error("the identity file of the volume cannot be written", "file", name, "error", err)
		}
	}
}

// newVolume makes a volume where there is no blob.
func newVolume(fsys vfs.FS, now time.Time) (volume, error) {
	if err := mustHaveNoBlobs(fsys); err != nil {
		return volume{}, err
	}
	v := volume{id: newID(), created: now}
	if err := makeVolume(fsys, v); err != nil {
		return v, fmt.Errorf("make the volume: %w", marked(err))
	}
	return v, nil
}

// mustHaveNoBlobs lets a first start go on that a power cut stopped half-way,
// and refuses blobs whose VOLUME is missing.
func mustHaveNoBlobs(fsys vfs.FS) error {
	for i := range shards {
		entries, err := fsys.ReadDir(shardDir(i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			return fmt.Errorf("%w: there are blobs but no %s: restore that file", ErrWrongVolume, volumeFile)
		}
	}
	return nil
}

// makeVolume makes every directory that will ever be needed and makes all names
// durable, children before parents; VOLUME comes after them and says that it is so.
func makeVolume(fsys vfs.FS, v volume) error {
	dirs := []string{stagingDir, blobsDir}
	for i := range shards {
		dirs = append(dirs, shardDir(i))
	}
	for _, dir := range dirs {
		if err := fsys.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for i := range dirs {
		if err := fsys.SyncDir(dirs[len(dirs)-1-i]); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir("."); err != nil {
		return err
	}
	if err := vfs.WriteFile(fsys, volumeFile, v.marshal(), blobMode); err != nil {
		return err
	}
	return vfs.WriteFile(fsys, volumeCopy, v.marshal(), blobMode)
}

// mendDirs makes directories again that the volume lost: fsck takes what it cannot
// place out of the tree. What stands in the place of one is set aside. Contents that
// were in it are missing then, and are found to be so as any other.
func (s *Store) mendDirs() error {
	want := map[string][]string{".": {blobsDir, stagingDir}}
	for i := range shards {
		want[blobsDir] = append(want[blobsDir], path.Base(shardDir(i)))
	}
	for _, parent := range []string{".", blobsDir} {
		entries, err := s.fsys.ReadDir(parent)
		if err != nil {
			return err
		}
		there := make(map[string]fs.DirEntry, len(entries))
		for _, e := range entries {
			there[e.Name()] = e
		}
		var made []string
		for _, base := range want[parent] {
			name, e := path.Join(parent, base), there[base]
			if e != nil && e.IsDir() {
				continue
			}
			if e != nil {
				if err := s.fsys.Rename(name, name+".damaged-"+newID()); err != nil {
					return err
				}
			}
			if err := s.fsys.Mkdir(name, dirMode); err != nil {
				return err
			}
			if err := s.fsys.SyncDir(name); err != nil {
				return err
			}
			made = append(made, name)
		}
		// Also when there is none to make: one that was killed may have made some
		// without this.
		err = s.fsys.SyncDir(parent)
		if err != nil && len(made) > 0 {
			return err
		} else if err != nil {
			s.namesUnsure(s.syncFailed("a directory of the volume", err)) // it can be read
		}
		if len(made) == 0 {
			continue
		}
		s.log.Error("folders of the volume were lost, and made again: look at the disk; `yunboxctl check` says what is missing", "count", len(made), "first", made[0])
	}
	return nil
}

const shards = 256

func shardDir(i int) string { return path.Join(blobsDir, fmt.Sprintf("%02x", i)) }

// shard is the number of the directory that holds r.
func (r Ref) shard() int { return int(r[0]) }

// path is the blob's file name.
func (r Ref) path() string { return path.Join(shardDir(r.shard()), r.String()) }
