package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/blake2b"
)

// Draft is what the maker decides about a release; the rest is in its release.json.
type Draft struct {
	Channel        string
	MinCounterFrom int64
	SecurityFloor  int64
	Created        time.Time
}

// Make writes the payload of a release to payload, and returns the header for it.
func Make(payload io.Writer, d Draft, open func(name string) (io.ReadCloser, int64, error)) (Header, error) {
	f, _, err := open(ReleaseFile)
	if err != nil {
		return Header{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err := errors.Join(err, f.Close()); err != nil {
		return Header{}, err
	}
	r, err := ParseRelease(text)
	if err != nil {
		return Header{}, err
	}
	sums := &summer{w: payload, all: sha256.New(), chunk: sha256.New()}
	if err := pack(sums, open); err != nil {
		return Header{}, err
	}
	sums.cut()
	h := Header{
		Product: Product, Arch: r.Arch, Channel: d.Channel, Version: r.Version, Counter: r.Counter, MinCounterFrom: d.MinCounterFrom,
		MinSchema: r.MinSchema, MaxSchema: r.MaxSchema, SecurityFloor: d.SecurityFloor,
		Size: sums.n, SHA256: hex.EncodeToString(sums.all.Sum(nil)), Chunks: sums.chunks, Created: d.Created.UTC().Format(time.RFC3339),
	}
	return h, h.check()
}

// summer hashes what it passes on, as a whole and by chunks.
type summer struct {
	w          io.Writer
	all, chunk interface {
		io.Writer
		Sum([]byte) []byte
		Reset()
	}
	n, in  int64
	chunks []string
}

func (s *summer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part := rest[:min(int64(len(rest)), ChunkSize-s.in)]
		s.all.Write(part)
		s.chunk.Write(part)
		s.in += int64(len(part))
		s.n += int64(len(part))
		rest = rest[len(part):]
		if s.in == ChunkSize {
			s.cut()
		}
	}
	return s.w.Write(p)
}

func (s *summer) cut() {
	if s.in > 0 {
		s.chunks = append(s.chunks, hex.EncodeToString(s.chunk.Sum(nil)))
		s.chunk.Reset()
		s.in = 0
	}
}

// Head makes what comes before the payload: the list of keys, as KeyListFile has it,
// and the header, signed by keys that stand in the list.
func Head(list []byte, h Header, keys ...ed25519.PrivateKey) ([]byte, error) {
	_, l, err := parseKeyList(list)
	if err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	s := signed{}
	if s.doc, err = canonical(h); err != nil {
		return nil, err
	}
	for _, k := range keys {
		id := IDOf(k.Public().(ed25519.PublicKey))
		if !has(l.names(), id) {
			return nil, fmt.Errorf("key %s is not in the list", id)
		}
		if err := s.sign(headerDomain, k); err != nil {
			return nil, err
		}
	}
	if len(s.sigs) == 0 || len(s.sigs) > maxSigs || len(s.doc) > maxHeader {
		return nil, errors.New("bundle: one release key is needed, and no more than 16")
	}
	return s.append(append([]byte(magic), list...)), nil
}

func has(list []KeyID, id KeyID) bool {
	for _, o := range list {
		if o == id {
			return true
		}
	}
	return false
}

// SignKeyList signs a list with a root key, or adds its signature to a list that
// another root has signed: file is then what came of that, else nil. The result is what
// a Reader calls KeyListFile.
func SignKeyList(l KeyList, file []byte, root ed25519.PrivateKey) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	doc, err := canonical(l)
	if err != nil {
		return nil, err
	}
	s := signed{doc: doc}
	if file != nil {
		old, _, err := parseKeyList(file)
		if err != nil {
			return nil, err
		}
		if string(old.doc) == string(doc) {
			s.sigs = old.sigs
		}
	}
	id := IDOf(root.Public().(ed25519.PublicKey))
	for i := range s.sigs {
		if s.sigs[i].id() == id {
			return s.append(nil), nil
		}
	}
	if err := s.sign(listDomain, root); err != nil {
		return nil, err
	}
	return s.append(nil), nil
}

// ParseKeyList reads a list of keys without a look at its signatures, and names who
// signed it, whether rightly or not.
func ParseKeyList(file []byte) (KeyList, []KeyID, error) {
	s, l, err := parseKeyList(file)
	var by []KeyID
	for i := range s.sigs {
		by = append(by, s.sigs[i].id())
	}
	return l, by, err
}

// Minisign is a detached signature of a whole file in the form that minisign 0.11
// verifies (prehashed), for people who want to check by hand. Boxes do not look at it.
func Minisign(file io.Reader, comment string, key ed25519.PrivateKey) (string, error) {
	h, err := blake2b.New512(nil)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	sig := ed25519.Sign(key, h.Sum(nil))
	id, err := minisignID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return "", err
	}
	line := base64.StdEncoding.EncodeToString(append(append([]byte("ED"), id...), sig...))
	global := base64.StdEncoding.EncodeToString(ed25519.Sign(key, append(sig, comment...)))
	return "untrusted comment: signature of a yunbox release\n" + line + "\ntrusted comment: " + comment + "\n" + global + "\n", nil
}

// MinisignKey is the public key in minisign's form.
func MinisignKey(k ed25519.PublicKey) (string, error) {
	id, err := minisignID(k)
	return base64.StdEncoding.EncodeToString(append(append([]byte("Ed"), id...), k...)), err
}

func minisignID(k ed25519.PublicKey) ([]byte, error) { return hex.DecodeString(string(IDOf(k))) }
