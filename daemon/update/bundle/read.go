package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"yunbox.local/daemon/problem"
)

// rootKeys are the public root keys of whoever built this program, three in base64
// with commas between them, set by the linker:
//
//	-ldflags "-X yunbox.local/daemon/update/bundle.rootKeys=A,B,C"
//
// Empty, as in the source: the program takes no bundle at all.
var rootKeys string

// Threshold is how many of the root keys sign a list of keys.
const Threshold = 2

// Roots returns the root keys that are compiled in; none: no bundle is taken.
func Roots() ([]ed25519.PublicKey, error) { return ParseRoots(rootKeys) }

// ParseRoots reads root keys as they are compiled in: three, or none at all.
func ParseRoots(text string) (list []ed25519.PublicKey, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		k, err := base64.StdEncoding.DecodeString(part)
		if err != nil || len(k) != ed25519.PublicKeySize || slices.ContainsFunc(list, func(o ed25519.PublicKey) bool { return bytes.Equal(o, k) }) {
			return nil, fmt.Errorf("bundle: %q is no root key, or stands twice", part)
		}
		list = append(list, k)
	}
	if len(list) != 3 {
		return nil, fmt.Errorf("bundle: %d root keys, three are needed", len(list))
	}
	return list, nil
}

// Trust is what a reader believes before it reads.
type Trust struct {
	Roots []ed25519.PublicKey
	// List is the newest list of keys that was taken, as KeyListFile has it; nil: none yet.
	List []byte
}

// Box is what a bundle must fit.
type Box struct {
	Arch    string
	Counter int64 // of the release that runs
	Highest int64 // the highest that was ever kept
	Floor   int64 // below which it must not go
	Schema  int   // of its database
}

func refuse(kind problem.Kind, cause error, title, detail, hint string) error {
	return &problem.Error{Kind: kind, Op: "update.verify", Err: cause, Title: title, Detail: detail, Hint: hint}
}

func damagedBundle(cause error) error {
	return refuse(problem.Mismatch, cause, "The update is damaged or incomplete",
		"It is not what its maker signed.", "Nothing was changed. Fetch the file again and compare its size; then try again.")
}

func untrusted(cause error, detail string) error {
	return refuse(problem.Forbidden, cause, "The update is not signed by this box's maker", detail,
		"Nothing was changed. Take updates only from the maker of this box.")
}

// Fits says why a box must not take the release, nil if it may.
func (h *Header) Fits(b Box) error {
	const op = "Nothing was changed."
	switch {
	case h.Product != Product:
		return refuse(problem.Conflict, nil, "The update is for another product", "It is for "+h.Product+".", op+" Get the update of this box.")
	case h.Arch != b.Arch:
		return refuse(problem.Conflict, nil, "The update is for another kind of processor", fmt.Sprintf("It is for %s, this box has %s.", h.Arch, b.Arch), op+" Get the update for this processor.")
	case h.Counter < b.Floor:
		return refuse(problem.Conflict, nil, "The update is older than what is still safe", fmt.Sprintf("It is release %d; nothing below %d is taken since a hole was closed there.", h.Counter, b.Floor), op+" Get a newer update.")
	case h.Counter < b.Highest:
		return refuse(problem.Conflict, nil, "The update is older than this box", fmt.Sprintf("It is release %d; the box has had release %d.", h.Counter, b.Highest), op+" To go back to the version before, use `yunboxctl update rollback`.")
	case h.Counter == b.Counter:
		return refuse(problem.Conflict, nil, "The box has this version already", "It is "+h.Version+".", op+" There is nothing to do.")
	case b.Counter < h.MinCounterFrom:
		return refuse(problem.Conflict, nil, "Another update must come first", fmt.Sprintf("This one needs release %d or later, the box has %d.", h.MinCounterFrom, b.Counter), op+" Install the one between first.")
	case b.Schema > h.MaxSchema:
		return refuse(problem.Conflict, nil, "The update cannot read this box's records", fmt.Sprintf("They are of version %d, it knows up to %d.", b.Schema, h.MaxSchema), op+" Get a newer update.")
	case b.Schema < h.MinSchema:
		return refuse(problem.Conflict, nil, "Another update must come first", fmt.Sprintf("This one takes over records from version %d on, those of the box are of %d.", h.MinSchema, b.Schema), op+" Install the one between first.")
	}
	return nil
}

// A Reader reads the payload of a bundle: every byte that it gives was covered by a
// signature and compared. It is used by one goroutine.
type Reader struct {
	Header Header
	// KeyList is the list that came with the bundle; if it is newer than the one that was
	// known, KeyListFile is to be kept once the payload was read to its end.
	KeyList     KeyList
	KeyListFile []byte
	SignedBy    []KeyID
	// Head is how many bytes of the file come before the payload.
	Head int64

	src  io.Reader
	all  hash.Hash
	buf  []byte
	left []byte // of buf, not given yet
	next int    // chunk
	done bool
	err  error
}

// Open reads what comes before the payload and verifies it. Errors are problems: they
// say what is wrong with the file. It does not ask whether the release fits: see Fits.
func Open(r io.Reader, trust Trust) (*Reader, error) {
	if len(trust.Roots) == 0 {
		return nil, NoRoots()
	}
	counted := &counter{r: r}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(counted, start); err != nil || string(start) != magic {
		return nil, refuse(problem.Invalid, err, "That is no update of a box", "The file begins otherwise.", "Nothing was changed. Updates have names that end in .yup.")
	}
	list, err := readSigned(counted, maxKeyList)
	if err != nil {
		return nil, damagedBundle(err)
	}
	out := &Reader{src: r, all: sha256.New()}
	if out.KeyList, err = judgeList(list, trust); err != nil {
		return nil, err
	}
	out.KeyListFile = list.append(nil)
	head, err := readSigned(counted, maxHeader)
	if err != nil {
		return nil, damagedBundle(err)
	}
	if err := out.judgeHeader(head); err != nil {
		return nil, err
	}
	out.Head = counted.n
	out.buf = make([]byte, min(ChunkSize, out.Header.Size))
	return out, nil
}

// NoRoots is what a program without root keys says.
func NoRoots() error {
	return refuse(problem.Unsupported, nil, "This build takes no updates from files",
		"It has no root keys: whoever built it signs none.", "Install another package of it instead, or build it with the maker's keys.")
}

// judgeList says whether a list is signed by enough roots, and not an earlier one.
func judgeList(s signed, trust Trust) (l KeyList, err error) {
	if err := parse(s.doc, &l); err != nil {
		return l, damagedBundle(err)
	}
	if n := len(s.signers(listDomain, trust.Roots)); n < Threshold {
		return l, untrusted(nil, fmt.Sprintf("Its list of keys has %d of the %d root signatures that are needed.", n, Threshold))
	}
	if err := l.check(); err != nil {
		return l, damagedBundle(err)
	}
	if l.Product != Product {
		return l, untrusted(nil, "Its list of keys is for another product.")
	}
	if trust.List == nil {
		return l, nil
	}
	known, old, err := parseKeyList(trust.List)
	if err != nil {
		return l, err
	}
	switch {
	case l.Counter < old.Counter:
		return l, untrusted(nil, fmt.Sprintf("It carries key list %d; the box knows list %d, and some keys may be revoked since.", l.Counter, old.Counter))
	case l.Counter == old.Counter && !bytes.Equal(s.doc, known.doc):
		return l, untrusted(nil, "There are two different key lists of the same number.")
	}
	return l, nil
}

// parseKeyList reads a list as KeyListFile has it, without a look at its signatures.
func parseKeyList(file []byte) (s signed, l KeyList, err error) {
	r := bytes.NewReader(file)
	if s, err = readSigned(r, maxKeyList); err == nil && r.Len() > 0 {
		err = errFormat
	}
	if err == nil {
		err = parse(s.doc, &l)
	}
	return s, l, err
}

// VerifyKeyList reads a list of keys alone, as KeyListFile has it, and verifies it.
func VerifyKeyList(file []byte, trust Trust) (KeyList, error) {
	if len(trust.Roots) == 0 {
		return KeyList{}, NoRoots()
	}
	s, _, err := parseKeyList(file)
	if err != nil {
		return KeyList{}, damagedBundle(err)
	}
	return judgeList(s, trust)
}

func (r *Reader) judgeHeader(s signed) error {
	if err := parse(s.doc, &r.Header); err != nil {
		return damagedBundle(err)
	}
	keys := make([]ed25519.PublicKey, len(r.KeyList.Keys))
	for i, k := range r.KeyList.Keys {
		keys[i] = k.Key
	}
	if r.SignedBy = s.signers(headerDomain, keys); len(r.SignedBy) == 0 {
		for i := range s.sigs {
			if slices.Contains(r.KeyList.Revoked, s.sigs[i].id()) {
				return untrusted(nil, "The key that signed it was revoked.")
			}
		}
		return untrusted(nil, "None of the maker's release keys signed it.")
	}
	if err := r.Header.check(); err != nil {
		return damagedBundle(err)
	}
	return nil
}

// Read gives verified bytes; io.EOF comes once the whole payload was there, was right,
// and nothing follows it.
func (r *Reader) Read(p []byte) (int, error) {
	if len(r.left) == 0 && r.err == nil {
		r.err = r.chunk()
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// chunk reads one more and compares it before anybody gets a byte of it.
func (r *Reader) chunk() error {
	at := int64(r.next) * ChunkSize
	if at >= r.Header.Size {
		return r.finish()
	}
	b := r.buf[:min(ChunkSize, r.Header.Size-at)]
	if _, err := io.ReadFull(r.src, b); err != nil {
		return readFailed(err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != r.Header.Chunks[r.next] {
		return damagedBundle(fmt.Errorf("chunk %d", r.next))
	}
	r.all.Write(b)
	r.next++
	r.left = b
	return nil
}

func (r *Reader) finish() error {
	if r.done {
		return io.EOF
	}
	r.done = true
	if hex.EncodeToString(r.all.Sum(nil)) != r.Header.SHA256 {
		return damagedBundle(errors.New("the hash of the whole"))
	}
	switch n, err := r.src.Read(make([]byte, 1)); {
	case n > 0:
		return damagedBundle(errors.New("something follows the payload"))
	case err != nil && err != io.EOF:
		return readFailed(err)
	}
	return io.EOF
}

// readFailed is damage where the source ended too early, and what the source says
// where it failed.
func readFailed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damagedBundle(io.ErrUnexpectedEOF)
	}
	return err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func readSigned(r io.Reader, most uint32) (s signed, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return s, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > most {
		return s, errFormat
	}
	s.doc = make([]byte, n)
	if _, err := io.ReadFull(r, s.doc); err != nil {
		return s, err
	}
	var count [1]byte
	if _, err := io.ReadFull(r, count[:]); err != nil {
		return s, err
	}
	if count[0] > maxSigs {
		return s, errFormat
	}
	s.sigs = make([]signature, count[0])
	for i := range s.sigs {
		if _, err := io.ReadFull(r, s.sigs[i].by[:]); err != nil {
			return s, err
		}
		if _, err := io.ReadFull(r, s.sigs[i].sig[:]); err != nil {
			return s, err
		}
	}
	return s, nil
}
