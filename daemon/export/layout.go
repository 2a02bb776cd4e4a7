package export

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Where things are in an archive: see docs/export.md. The first three and holes are
// equally long, so that a file that is gone leaves a hole of the same size.
const (
	filesDir = "files/"
	trashDir = "trash/"
	olderDir = "older/"
	holesDir = "holes/"

	metaDir   = "metadata/"
	itemsFile = metaDir + "items.jsonl"
	sumsFile  = "SHA256SUMS"
	factsFile = "export.json"
	signFile  = "export.jws"
	holesFile = "MISSING.jsonl"
)

// Line is one line of items.jsonl: a folder or a file, and where its bytes are. All
// that is not known is left out.
type Line struct {
	Kind       string `json:"kind"` // folder, file, version, deleted_file
	Entry      string `json:"entry"`
	ID         string `json:"id,omitempty"`
	Path       string `json:"path"`
	SHA256     string `json:"sha256,omitempty"`
	Size       int64  `json:"size"`
	MTime      string `json:"mtime,omitempty"`
	Added      string `json:"added,omitempty"`
	Source     string `json:"source,omitempty"`
	SourceBy   string `json:"source_by,omitempty"`
	Taken      string `json:"taken,omitempty"`
	TakenLocal bool   `json:"taken_local,omitempty"`
	TakenFrom  string `json:"taken_from,omitempty"`
	Device     string `json:"device,omitempty"`
	Replaced   string `json:"replaced,omitempty"`
	Trashed    string `json:"trashed,omitempty"`
}

const folderKind = "folder"

const block = 512

// padded is n rounded up to whole blocks.
func padded(n int64) int64 { return (n + block - 1) / block * block }

// header is what stands before the bytes of an entry. It depends on nothing but the
// line, and is as long for a hole as for the file.
func (l *Line) header(hole bool) ([]byte, error) {
	h := tar.Header{Format: tar.FormatPAX, Name: l.Entry, Mode: 0o644, Size: l.Size, Typeflag: tar.TypeReg}
	if hole {
		h.Name = holesDir + l.Entry[len(holesDir):]
	}
	if l.Kind == folderKind {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	}
	for _, t := range []string{l.MTime, l.Added} {
		if t == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t)
		if err != nil {
			return nil, err
		}
		h.ModTime = at
		break
	}
	return headerBytes(&h)
}

func headerBytes(h *tar.Header) ([]byte, error) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return b.Bytes(), nil
}

// plainHeader is the header, of one block, of a file of our own.
func plainHeader(name string, size int64, at time.Time) ([]byte, error) {
	b, err := headerBytes(&tar.Header{Format: tar.FormatUSTAR, Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg, ModTime: at.Truncate(time.Second)})
	if err == nil && len(b) != block {
		err = fmt.Errorf("export: the header of %s has %d bytes", name, len(b))
	}
	return b, err
}

// sumLine is the line of a file in SHA256SUMS, in the form of sha256sum(1): a name with
// a backslash or a line break is written with escapes, after a backslash. The catalogue
// takes no names with line breaks.
func sumLine(sum, name string) string {
	if strings.Contains(name, `\`) {
		return `\` + sum + "  " + strings.ReplaceAll(name, `\`, `\\`) + "\n"
	}
	return sum + "  " + name + "\n"
}
