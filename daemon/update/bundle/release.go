package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"
)

// Release is release.json, which lies beside the programs of a release.
type Release struct {
	Version   string `json:"version"`
	Counter   int64  `json:"counter"`
	Arch      string `json:"arch"`
	MinSchema int    `json:"min_schema"`
	MaxSchema int    `json:"max_schema"`
}

// ReleaseFile is the name of Release among the files.
const ReleaseFile = "release.json"

// Files are those that every release has; a payload has no others.
func Files() []string { return []string{ReleaseFile, "yunboxctl", "yunboxd"} }

// ParseRelease reads release.json.
func ParseRelease(b []byte) (r Release, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("release.json: %w", err)
	}
	if !version.MatchString(r.Version) || r.Counter < 1 || !word.MatchString(r.Arch) || r.MinSchema < 1 || r.MaxSchema < r.MinSchema {
		return r, errors.New("release.json: its numbers make no sense")
	}
	return r, nil
}

// maxFile is the most bytes of one file of a release.
const maxFile = 256 << 20

// pack makes the payload: a compressed tar that is the same for the same files.
func pack(w io.Writer, open func(name string) (io.ReadCloser, int64, error)) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, name := range Files() {
		f, size, err := open(name)
		if err != nil {
			return err
		}
		err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: modeOf(name), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
		if err == nil {
			_, err = io.Copy(t, f)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func modeOf(name string) int64 {
	if path.Ext(name) == ".json" {
		return 0o644
	}
	return 0o755
}

// Unpack gives each file of the payload to take, in the order of Files, and refuses
// whatever else is in it. What it gives is verified chunk by chunk, the whole only
// once Unpack returns nil.
func (r *Reader) Unpack(take func(name string, mode int64, size int64, content io.Reader) error) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return r.cause(err)
	}
	t := tar.NewReader(z)
	for _, want := range Files() {
		h, err := t.Next()
		if err != nil {
			return r.cause(err)
		}
		if h.Name != want || h.Typeflag != tar.TypeReg || h.Size < 1 || h.Size > maxFile {
			return damagedBundle(fmt.Errorf("the payload has %q where %s should be", h.Name, want))
		}
		if err := take(want, modeOf(want), h.Size, t); err != nil {
			return r.cause(err)
		}
	}
	if _, err := t.Next(); err != io.EOF {
		return damagedBundle(errors.New("the payload has more files than a release"))
	}
	if n, err := io.Copy(io.Discard, z); err != nil || n > 1<<20 {
		return r.cause(errors.Join(err, errFormat))
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// cause prefers what the reader found to what came of it.
func (r *Reader) cause(err error) error {
	if r.err != nil && r.err != io.EOF {
		return r.err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, tar.ErrHeader) || errors.Is(err, errFormat) {
		return damagedBundle(err)
	}
	return err
}

// Describes says whether release.json of the payload is that of its header.
func (h *Header) Describes(r Release) error {
	if r != (Release{h.Version, h.Counter, h.Arch, h.MinSchema, h.MaxSchema}) {
		return damagedBundle(errors.New("release.json is not that of the header"))
	}
	return nil
}

// names lists the keys that may sign.
func (l *KeyList) names() []KeyID {
	list := make([]KeyID, 0, len(l.Keys))
	for _, key := range l.Keys {
		list = append(list, key.ID)
	}
	slices.Sort(list)
	return list
}
