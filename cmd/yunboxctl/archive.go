package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"yunbox.local/daemon/problem"
)

// Names and order in an archive: docs/export.md.
const (
	exportSchema = "yunbox-export/1"
	exportTyp    = "yunbox-export+jws"
	itemsName    = "metadata/items.jsonl"
	sumsName     = "SHA256SUMS"
	factsName    = "export.json"
	signName     = "export.jws"
	missingName  = "MISSING.jsonl"
	holesPrefix  = "holes/"

	maxFacts = 4 << 20  // bytes of export.json, and of its signature
	maxLine  = 64 << 10 // bytes of a line of items.jsonl or SHA256SUMS
)

// archiveLine is a line of items.jsonl.
type archiveLine struct {
	Kind     string `json:"kind"`
	Entry    string `json:"entry"`
	Path     string `json:"path"`
	SHA256   string `json:"sha256"`
	Size     int64  `json:"size"`
	MTime    string `json:"mtime"`
	Added    string `json:"added"`
	Source   string `json:"source"`
	SourceBy string `json:"source_by"`
}

// archiveFacts is export.json, as far as it matters here.
type archiveFacts struct {
	Schema string    `json:"schema_version"`
	Box    signedBy  `json:"box"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Person struct {
		Username string `json:"username"`
	} `json:"person"`
	Counts struct {
		Folders  int64 `json:"folders"`
		Files    int64 `json:"files"`
		Versions int64 `json:"versions"`
		Trash    int64 `json:"trash"`
		Bytes    int64 `json:"bytes"`
	} `json:"counts"`
	Items struct {
		SHA256 string `json:"sha256"`
	} `json:"items"`
	Sums struct {
		SHA256 string `json:"sha256"`
	} `json:"sha256sums"`

	// bad are entries that are not whole and that the archive says so of.
	bad map[string]bool
}

func badArchive(format string, args ...any) error {
	return &problem.Error{
		Kind: problem.Mismatch, Op: "export", Title: "This is not the archive that the box made",
		Detail: fmt.Sprintf(format, args...), Hint: "Nothing of it was used. Fetch it again from the box.",
	}
}

// sink is where what an archive holds goes while it is checked. A reader of an archive
// trusts none of its names: they are what the signed list says, or the archive is bad.
type sink interface {
	// create takes the content of an entry of that name, which begins at offset from.
	create(name string, from int64, line *archiveLine) (io.WriteCloser, error)
	// items opens items.jsonl, which was created before.
	items() (io.ReadCloser, error)
	sums() (io.ReadCloser, error)
}

// archiveReader checks an archive from its first byte to its last, in bounded memory.
type archiveReader struct {
	in   *counter
	tar  *tar.Reader
	sink sink
	head []headEntry // before the files

	facts   archiveFacts
	missing int64
}

// maxBad is how many files may have other bytes because the box's disk failed while they
// were read. MISSING.jsonl, which comes last, must name each of them.
const maxBad = 1000

type headEntry struct{ name, sum string }

// counter counts what was read, which is where the content of an entry begins.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// readArchive reads the archive in r into s. size is how long it should be; -1: not
// known. ready is called once the signed list was checked and before any file is taken.
func readArchive(ctx context.Context, r io.Reader, size int64, s sink, ready func(archiveFacts) error) (facts archiveFacts, missing int64, err error) {
	a := &archiveReader{in: &counter{r: bufio.NewReaderSize(r, 128<<10)}, sink: s}
	a.tar = tar.NewReader(a.in)
	err = a.read(ctx, ready)
	if err == nil {
		err = a.ends(size)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = badArchive("It ends too early.")
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) {
		err = badArchive("It is no tar archive, or a header in it is damaged.")
	}
	return a.facts, a.missing, err
}

func (a *archiveReader) read(ctx context.Context, ready func(archiveFacts) error) error {
	if err := a.readHead(ctx); err != nil {
		return err
	}
	if err := a.checkSums(); err != nil {
		return err
	}
	if err := ready(a.facts); err != nil {
		return err
	}
	items, err := a.sink.items()
	if err != nil {
		return err
	}
	defer items.Close()
	lines := bufio.NewReaderSize(items, maxLine)
	for {
		line, err := nextLine(lines)
		if errors.Is(err, io.EOF) {
			return a.readMissing()
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := a.readItem(&line); err != nil {
			return err
		}
	}
}

// next is the header of the next entry, which must be a plain file or a folder.
func (a *archiveReader) next() (*tar.Header, error) {
	h, err := a.tar.Next()
	if err != nil {
		return nil, err
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") {
			return nil, badArchive("It holds a file with gaps, which would be larger than it is.")
		}
	}
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
		return nil, badArchive("It holds something else than files and folders.")
	}
	return h, nil
}

// take reads the content of an entry into w and returns its hash.
func (a *archiveReader) take(h *tar.Header, w io.Writer) (string, error) {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, w), a.tar)
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	return hex.EncodeToString(sum.Sum(nil)), err
}

// readHead reads everything up to the signature, which it checks.
func (a *archiveReader) readHead(ctx context.Context) error {
	var facts, jws bytes.Buffer
	for {
		h, err := a.next()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := h.Name
		plain := strings.TrimPrefix(name, "metadata/")
		if h.Typeflag != tar.TypeReg || strings.ContainsAny(plain, `/\`) || !fs.ValidPath(plain) || len(a.head) > 1000 {
			return badArchive("What stands before the files is not as it should be.")
		}
		var also io.Writer = io.Discard
		if name == factsName || name == signName {
			if h.Size > maxFacts {
				return badArchive("%s is too large.", name)
			}
			also = map[string]*bytes.Buffer{factsName: &facts, signName: &jws}[name]
		}
		out, err := a.sink.create(name, a.in.n, nil)
		if err != nil {
			return err
		}
		sum, err := a.take(h, io.MultiWriter(out, also))
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
		a.head = append(a.head, headEntry{name, sum})
		if name == signName {
			return a.signed(facts.Bytes(), strings.TrimSpace(jws.String()))
		}
	}
}

// signed checks that export.json is what the box signed, and that the lists are those
// that it speaks of.
func (a *archiveReader) signed(facts []byte, jws string) error {
	payload, err := openSigned(jws, exportTyp, pin{})
	if err != nil {
		return badArchive("Its signature is wrong.")
	}
	if !bytes.Equal(payload, facts) || json.Unmarshal(facts, &a.facts) != nil {
		return badArchive("export.json is not what the box signed.")
	}
	if a.facts.Schema != exportSchema {
		return &problem.Error{
			Kind: problem.Unsupported, Op: "export", Title: "The archive has a form that this version cannot read", Detail: shown(a.facts.Schema),
			Hint: "Use a newer yunboxctl, or unpack it with tar.",
		}
	}
	for name, want := range map[string]string{itemsName: a.facts.Items.SHA256, sumsName: a.facts.Sums.SHA256} {
		if a.sumOf(name) != want {
			return badArchive("%s was changed.", name)
		}
	}
	return nil
}

func (a *archiveReader) sumOf(name string) (sum string) {
	for _, e := range a.head {
		if e.name == name {
			if sum != "" {
				return "" // there twice
			}
			sum = e.sum
		}
	}
	return sum
}

// checkSums compares SHA256SUMS, which is signed, with what came before it.
func (a *archiveReader) checkSums() error {
	f, err := a.sink.sums()
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, maxLine)
	for _, e := range a.head {
		if e.name == sumsName {
			break
		}
		text, err := lines.ReadSlice('\n')
		if err != nil || string(text) != e.sum+"  "+e.name+"\n" {
			return badArchive("%s was changed.", e.name)
		}
	}
	return nil
}

// nextLine reads one line of items.jsonl. io.EOF: there is none any more.
func nextLine(r *bufio.Reader) (l archiveLine, err error) {
	text, err := r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) || len(text) > 0 {
			err = badArchive("A line of its list is too long or cut off.")
		}
		return l, err
	}
	if json.Unmarshal(text, &l) != nil {
		return l, badArchive("A line of its list cannot be read.")
	}
	return l, l.check()
}

// check says whether the entry lies where a file of its kind lies.
func (l *archiveLine) check() error {
	dir, rest, _ := strings.Cut(l.Entry, "/")
	want := l.Path
	switch l.Kind {
	case "folder":
		want += "/"
		fallthrough
	case "file":
		if dir != "files" || rest != want {
			return badArchive("A name in its list leads to another place.")
		}
	case "version", "deleted_file":
		inner, path, _ := strings.Cut(rest, "/")
		if dir != map[string]string{"version": "older", "deleted_file": "trash"}[l.Kind] || path != want || inner == "" || strings.Trim(inner, ".0123456789abcdefghjkmnpqrstvwxyz") != "" || !fs.ValidPath(inner) || inner == "." {
			return badArchive("A name in its list leads to another place.")
		}
	default:
		return badArchive("Its list has a kind of entry that does not exist.")
	}
	if !fs.ValidPath(l.Path) || l.Path == "." || strings.ContainsRune(l.Path, 0) || l.Size < 0 || l.Kind == "folder" && l.Size != 0 {
		return badArchive("A name in its list leads to another place.")
	}
	if b, err := hex.DecodeString(l.SHA256); l.Kind != "folder" && (err != nil || len(b) != sha256.Size) {
		return badArchive("A line of its list has no hash.")
	}
	return nil
}

// readItem reads the entry that the list has next.
func (a *archiveReader) readItem(l *archiveLine) error {
	h, err := a.next()
	if err != nil {
		return err
	}
	hole := strings.HasPrefix(h.Name, holesPrefix) && len(l.Entry) > len(holesPrefix) && h.Name[len(holesPrefix):] == l.Entry[len(holesPrefix):]
	folder := l.Kind == "folder"
	if h.Name != l.Entry && (!hole || folder) || (h.Typeflag == tar.TypeDir) != folder || h.Size != l.Size {
		return badArchive("It does not hold what its list says.")
	}
	if hole {
		a.missing++
		_, err := a.take(h, io.Discard)
		return err
	}
	out, err := a.sink.create(h.Name, a.in.n, l)
	if err != nil {
		return err
	}
	sum, err := a.take(h, out)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if !folder && sum != l.SHA256 {
		if len(a.facts.bad) == maxBad {
			return changedFile(l.Entry)
		}
		if a.facts.bad == nil {
			a.facts.bad = map[string]bool{}
		}
		a.facts.bad[l.Entry] = true
		a.missing++
	}
	return nil
}

func changedFile(entry string) error {
	return &problem.Error{
		Kind: problem.Mismatch, Op: "export", Title: "A file in the archive was changed", Detail: shown(entry),
		Hint: "Nothing of the archive was used. Fetch it again; if the box says that the file is damaged, back it up again first.",
	}
}

func (a *archiveReader) readMissing() error {
	h, err := a.next()
	if err != nil {
		return err
	}
	if h.Name != missingName || h.Typeflag != tar.TypeReg || h.Size > maxFacts {
		return badArchive("It holds more than its list says.")
	}
	out, err := a.sink.create(h.Name, a.in.n, nil)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	_, err = a.take(h, io.MultiWriter(out, &text))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	named := map[string]bool{}
	for line := range strings.Lines(text.String()) {
		var m struct {
			Entry string `json:"entry"`
		}
		if json.Unmarshal([]byte(line), &m) == nil {
			named[m.Entry] = true
		}
	}
	for entry := range a.facts.bad {
		if !named[entry] {
			return changedFile(entry)
		}
	}
	return nil
}

// ends checks that nothing comes after the last entry but the two empty blocks.
func (a *archiveReader) ends(size int64) error {
	if _, err := a.tar.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = badArchive("It holds more than its list says.")
		}
		return err
	}
	rest, err := io.Copy(io.Discard, a.in)
	if err != nil {
		return err
	}
	if rest > 0 {
		return badArchive("Something follows its end.")
	}
	if size >= 0 && a.in.n != size || a.in.n%512 != 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}
