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
	"time"

	"yunbox.local/storage/vfs"
)

const (
	volumeFile = "VOLUME"
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

func parseVolume(data []byte) (volume, error) {
	var v volume
	if !bytes.HasPrefix(data, []byte("yunbox volume ")) {
		return v, errors.New("not a yunbox volume file")
	}
	if !bytes.HasPrefix(data, []byte("yunbox volume 1\n")) {
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return v, fmt.Errorf("a newer layout, %.40q, which this version of yunbox cannot read", line)
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) != 5 || lines[4] != "" {
		return v, errors.New("damaged: it does not have four lines")
	}
	field := func(line, name string) (string, bool) {
		return strings.CutPrefix(line, fmt.Sprintf("%-8s", name))
	}
	crc, ok := field(lines[3], "crc")
	sum, err := strconv.ParseUint(crc, 16, 32)
	if !ok || err != nil || uint32(sum) != crc32.Checksum(data[:len(data)-len(lines[3])-1], castagnoli) {
		return v, errors.New("damaged: its checksum is wrong")
	}
	if v.id, ok = field(lines[1], "id"); !ok || !validID(v.id) {
		return v, errors.New("damaged: it has no valid id")
	}
	created, ok := field(lines[2], "created")
	if v.created, err = time.Parse(time.RFC3339, created); !ok || err != nil {
		return v, errors.New("damaged: it has no valid time")
	}
	return v, nil
}

// errNoVolume: there is none, and none was expected.
var errNoVolume = errors.New("no volume")

// readVolume reads VOLUME. want is the id that it must have, or "".
func readVolume(fsys vfs.FS, want string) (volume, error) {
	data, err := vfs.ReadFile(fsys, volumeFile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && want == "":
		return volume{}, errNoVolume
	case errors.Is(err, fs.ErrNotExist):
		return volume{}, fmt.Errorf("%w: no %s here, expected was volume %s: is the disk mounted?", ErrWrongVolume, volumeFile, want)
	case err != nil:
		return volume{}, fmt.Errorf("read %s: %w", volumeFile, err)
	}
	v, err := parseVolume(data)
	if err != nil {
		return v, fmt.Errorf("%w: %s: %w", ErrWrongVolume, volumeFile, err)
	}
	if want != "" && v.id != want {
		return v, fmt.Errorf("%w: this is volume %s, expected was %s", ErrWrongVolume, v.id, want)
	}
	return v, nil
}

// newVolume makes a volume where there is no blob.
func newVolume(fsys vfs.FS, now time.Time) (volume, error) {
	if err := mustHaveNoBlobs(fsys); err != nil {
		return volume{}, err
	}
	v := volume{id: newID(), created: now}
	if err := makeVolume(fsys, v); err != nil {
		return v, fmt.Errorf("make the volume: %w", full(err))
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
// durable, children before parents; VOLUME comes last and says that it is so.
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
	return vfs.WriteFile(fsys, volumeFile, v.marshal(), blobMode)
}

const shards = 256

func shardDir(i int) string { return path.Join(blobsDir, fmt.Sprintf("%02x", i)) }

// shard is the number of the directory that holds r.
func (r Ref) shard() int { return int(r[0]) }

// path is the blob's file name.
func (r Ref) path() string { return path.Join(shardDir(r.shard()), r.String()) }
