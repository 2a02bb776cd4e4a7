package target

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"strconv"
	"strings"

	"yunbox.local/storage"
)

// The small files of a copy are lines of a key, spaces and a value; the last
// line of those that carry no seal is a CRC-32C of the lines before.

func checked(text string) []byte {
	return fmt.Appendf([]byte(text), "crc       %08x\n", crc([]byte(text)))
}

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

var errText = errors.New("damaged: it does not have the lines that are expected")

// fields reads a text that checked wrote: its first line, then exactly keys.
func fields(data []byte, first string, keys ...string) (map[string]string, error) {
	last := bytes.LastIndex(data, []byte("\ncrc "))
	if last < 0 {
		return nil, errText
	}
	f, err := lines(data, first, append(keys, "crc")...)
	if err != nil {
		return nil, err
	}
	if sum, err := strconv.ParseUint(f["crc"], 16, 32); err != nil || uint32(sum) != crc(data[:last+1]) {
		return nil, errors.New("damaged: its checksum is wrong")
	}
	return f, nil
}

// lines reads a first line and then one line for each key, in order.
func lines(data []byte, first string, keys ...string) (map[string]string, error) {
	text, ok := strings.CutSuffix(string(data), "\n")
	all := strings.Split(text, "\n")
	if !ok || all[0] != first || len(all) != len(keys)+1 {
		return nil, errText
	}
	f := make(map[string]string, len(keys))
	for i, key := range keys {
		name, value, _ := strings.Cut(all[i+1], " ")
		if name != key {
			return nil, errText
		}
		f[key] = strings.TrimLeft(value, " ")
	}
	return f, nil
}

// dataDir is where contents lie, in 256 directories by the first byte of their names.
const dataDir = "data"

// ext ends the names of what is encrypted.
const ext = ".age"

func shardDir(i int) string { return path.Join(dataDir, fmt.Sprintf("%02x", i)) }

// Compare orders names as bytes.
func (n Name) Compare(o Name) int { return bytes.Compare(n[:], o[:]) }

func (n Name) shard() int { return int(n[0]) }

// base is the file name of a content.
func (n Name) base() string { return hex.EncodeToString(n[:]) + ext }

// path is where a content lies.
func (n Name) path() string { return path.Join(shardDir(n.shard()), n.base()) }

// parseName reads the file name of a content.
func parseName(base string) (n Name, ok bool) {
	digits, ok := strings.CutSuffix(base, ext)
	if !ok || !parseHex(n[:], digits) {
		return Name{}, false
	}
	return n, true
}

// parsePath reads the path of a content.
func parsePath(p string) (n Name, ok bool) {
	n, ok = parseName(path.Base(p))
	return n, ok && n.path() == p
}

// parseHex reads lower-case digits, so that a value has one spelling.
func parseHex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// Entry is a content in a copy.
type Entry struct {
	Name Name
	Ref  storage.Ref
	Sum  [32]byte // SHA-256 of the encrypted file
	Size int64    // bytes of the encrypted file
}

// sumLine is the line of SHA256SUMS, as sha256sum writes it.
func sumLine(sum [32]byte, p string) string { return hex.EncodeToString(sum[:]) + "  " + p + "\n" }

func parseSumLine(line string) (sum [32]byte, p string, err error) {
	digits, p, ok := strings.Cut(line, "  ")
	if !ok || !parseHex(sum[:], digits) || p == "" {
		return sum, "", errText
	}
	return sum, p, nil
}

// contentLine is the line of contents.age.
func (e Entry) contentLine() string { return fmt.Sprintf("%s %s %d\n", e.Ref, e.Name.path(), e.Size) }

func parseContentLine(line string) (e Entry, err error) {
	part := strings.Split(line, " ")
	if len(part) != 3 || !parseHex(e.Ref[:], part[0]) {
		return e, errText
	}
	var ok bool
	if e.Name, ok = parsePath(part[1]); !ok {
		return e, errText
	}
	if e.Size, err = strconv.ParseInt(part[2], 10, 64); err != nil || e.Size <= 0 || e.contentLine() != line+"\n" {
		return e, errText
	}
	return e, nil
}

// copiedLine is a line of the note of what an unfinished run has copied.
func (e Entry) copiedLine() string {
	return fmt.Sprintf("%x %d %s\n", e.Sum, e.Size, e.Name.path())
}

func parseCopiedLine(line string) (e Entry, ok bool) {
	part := strings.Split(line, " ")
	if len(part) != 3 || !parseHex(e.Sum[:], part[0]) {
		return e, false
	}
	size, err := strconv.ParseInt(part[1], 10, 64)
	if err != nil || size <= 0 {
		return e, false
	}
	e.Size = size
	e.Name, ok = parsePath(part[2])
	return e, ok && e.copiedLine() == line+"\n"
}
