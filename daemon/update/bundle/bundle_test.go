package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update/bundle"
)

// key is the same for the same word.
func key(word string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(word))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func roots() (list []ed25519.PublicKey) {
	for _, w := range []string{"root 1", "root 2", "root 3"} {
		list = append(list, public(key(w)))
	}
	return list
}

func listed(words ...string) (out []bundle.ReleaseKey) {
	for _, w := range words {
		out = append(out, bundle.ReleaseKey{ID: bundle.IDOf(public(key(w))), Key: public(key(w))})
	}
	return out
}

// keyList makes a signed list.
func keyList(t testing.TB, l bundle.KeyList, by ...string) []byte {
	t.Helper()
	if l.Product == "" {
		l.Product = bundle.Product
	}
	if l.Created == "" {
		l.Created = "2026-11-26T00:00:00Z"
	}
	if l.Revoked == nil {
		l.Revoked = []bundle.KeyID{}
	}
	var file []byte
	for _, w := range by {
		var err error
		if file, err = bundle.SignKeyList(l, file, key(w)); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

var release = bundle.Release{Version: "0.2.0", Counter: 20, Arch: "amd64", MinSchema: 1, MaxSchema: 3}

// large is more than one chunk, and nothing that shrinks.
var large = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	for sum := sha256.Sum256([]byte("large")); b.Len() < 5<<20; sum = sha256.Sum256(sum[:]) {
		b.Write(sum[:])
	}
	return b.Bytes()
})

// content is what the programs of a release are in these tests.
func content(name string) []byte {
	if name == bundle.ReleaseFile {
		b, _ := json.Marshal(release)
		return b
	}
	if name == "yunboxd" {
		return large()
	}
	return []byte("a small program")
}

func open(name string) (io.ReadCloser, int64, error) {
	b := content(name)
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

type made struct {
	list    []byte
	header  bundle.Header
	payload []byte
}

func draft(t testing.TB) made {
	t.Helper()
	var payload bytes.Buffer
	h, err := bundle.Make(&payload, bundle.Draft{Channel: "stable", MinCounterFrom: 5, SecurityFloor: 10, Created: time.Unix(1e9, 0)}, open)
	if err != nil {
		t.Fatal(err)
	}
	return made{keyList(t, bundle.KeyList{Counter: 7, Keys: listed("release 1", "release 2")}, "root 1", "root 3"), h, payload.Bytes()}
}

func (m made) file(t testing.TB, by ...string) []byte {
	t.Helper()
	var keys []ed25519.PrivateKey
	for _, w := range by {
		keys = append(keys, key(w))
	}
	head, err := bundle.Head(m.list, m.header, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return append(head, m.payload...)
}

// read reads a bundle as a box does.
func read(file []byte, trust bundle.Trust, box bundle.Box) (files map[string][]byte, err error) {
	r, err := bundle.Open(bytes.NewReader(file), trust)
	if err != nil {
		return nil, err
	}
	if err := r.Header.Fits(box); err != nil {
		return nil, err
	}
	files = map[string][]byte{}
	err = r.Unpack(func(name string, _, _ int64, content io.Reader) error {
		files[name], err = io.ReadAll(content)
		return err
	})
	return files, err
}

var box = bundle.Box{Arch: "amd64", Counter: 10, Highest: 10, Schema: 2}

func TestBundle(t *testing.T) { // R18
	m := draft(t)
	file := m.file(t, "release 2")
	files, err := read(file, bundle.Trust{Roots: roots()}, box)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range bundle.Files() {
		if !bytes.Equal(files[name], content(name)) {
			t.Errorf("%s is not what was packed", name)
		}
	}
	if again := draft(t).file(t, "release 2"); !bytes.Equal(again, file) {
		t.Error("the same release makes another bundle")
	}
}

// Whatever is not what the maker made for this very box is refused, before anything of it
// is used, with words that say what to do.
func TestRefusals(t *testing.T) { // R18
	m := draft(t)
	good := m.file(t, "release 1")
	trust := bundle.Trust{Roots: roots()}
	with := func(change func(*made)) []byte {
		o := m
		change(&o)
		return o.file(t, "release 1")
	}
	other := func(change func(*bundle.Header)) []byte { return with(func(m *made) { change(&m.header) }) }
	list := func(l bundle.KeyList, by ...string) []byte {
		return with(func(m *made) { m.list = keyList(t, l, by...) })
	}
	keys := listed("release 1", "release 2")
	known := bundle.Trust{Roots: roots(), List: keyList(t, bundle.KeyList{Counter: 8, Keys: listed("release 2"), Revoked: []bundle.KeyID{keys[0].ID}}, "root 1", "root 2")}
	// A header that was signed by a key of an earlier list, and now comes with a list that revokes it.
	revoked := append(keyList(t, bundle.KeyList{Counter: 8, Keys: listed("release 2"), Revoked: []bundle.KeyID{keys[0].ID}}, "root 1", "root 2"), good[16+len(m.list):]...)
	revoked = append([]byte("yunbox update 1\n"), revoked...)
	newer, old, floor, schema, has, far := box, box, box, box, box, box
	newer.Counter, newer.Highest = 12, 30
	old.Schema = 4
	floor.Floor = 25
	schema.Schema = 1
	has.Counter, has.Highest = 20, 20
	far.Counter, far.Highest = 4, 4
	for name, c := range map[string]struct {
		file  []byte
		trust bundle.Trust
		box   bundle.Box
		title string
	}{
		"nothing":               {nil, trust, box, "That is no update of a box"},
		"another file":          {content("yunboxd"), trust, box, "That is no update of a box"},
		"no roots":              {good, bundle.Trust{}, box, "This build takes no updates from files"},
		"other roots":           {good, bundle.Trust{Roots: []ed25519.PublicKey{public(key("a")), public(key("b")), public(key("c"))}}, box, "The update is not signed by this box's maker"},
		"one root":              {list(bundle.KeyList{Counter: 7, Keys: keys}, "root 1"), trust, box, "The update is not signed by this box's maker"},
		"one root twice":        {list(bundle.KeyList{Counter: 7, Keys: keys}, "root 1", "root 1"), trust, box, "The update is not signed by this box's maker"},
		"root and stranger":     {list(bundle.KeyList{Counter: 7, Keys: keys}, "root 1", "release 1"), trust, box, "The update is not signed by this box's maker"},
		"older key list":        {good, known, box, "The update is not signed by this box's maker"},
		"another list 7":        {good, bundle.Trust{Roots: roots(), List: keyList(t, bundle.KeyList{Counter: 7, Keys: listed("release 2")}, "root 1", "root 2")}, box, "The update is not signed by this box's maker"},
		"revoked key":           {revoked, trust, box, "The update is not signed by this box's maker"},
		"list of another":       {list(bundle.KeyList{Product: "other", Counter: 7, Keys: keys}, "root 1", "root 2"), trust, box, "The update is not signed by this box's maker"},
		"another product":       {other(func(h *bundle.Header) { h.Product = "other" }), trust, box, "The update is for another product"},
		"another processor":     {other(func(h *bundle.Header) { h.Arch = "arm64" }), trust, box, "The update is for another kind of processor"},
		"older":                 {good, trust, newer, "The update is older than this box"},
		"below the floor":       {good, trust, floor, "The update is older than what is still safe"},
		"already here":          {good, trust, has, "The box has this version already"},
		"needs one between":     {good, trust, far, "Another update must come first"},
		"records too new":       {good, trust, old, "The update cannot read this box's records"},
		"records too old":       {other(func(h *bundle.Header) { h.MinSchema = 2 }), trust, schema, "Another update must come first"},
		"longer":                {append(bytes.Clone(good), 0), trust, box, "The update is damaged or incomplete"},
		"payload of another":    {with(func(m *made) { m.payload = append(bytes.Clone(m.payload[:len(m.payload)-1]), 1) }), trust, box, "The update is damaged or incomplete"},
		"payload, chunk signed": {with(func(m *made) { m.header.SHA256 = strings.Repeat("0", 64) }), trust, box, "The update is damaged or incomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(c.file, c.trust, c.box)
			var p *problem.Error
			if !errors.As(err, &p) || p.Title != c.title || p.Hint == "" {
				t.Errorf("got %v, want %q and what to do", err, c.title)
			}
		})
	}
}

// No bit of a bundle can be another, none may be missing.
func TestEveryBitCounts(t *testing.T) { // R18
	small := release
	m := draft(t)
	var payload bytes.Buffer
	h, err := bundle.Make(&payload, bundle.Draft{Channel: "stable", Created: time.Unix(1e9, 0)}, func(name string) (io.ReadCloser, int64, error) {
		b := []byte("tiny")
		if name == bundle.ReleaseFile {
			b, _ = json.Marshal(small)
		}
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.header, m.payload = h, payload.Bytes()
	file := m.file(t, "release 1")
	trust := bundle.Trust{Roots: roots()}
	if _, err := read(file, trust, box); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(file)*8; i += 7 {
		b := bytes.Clone(file)
		b[i/8] ^= 1 << (i % 8)
		if _, err := read(b, trust, box); err == nil {
			t.Fatalf("bit %d of byte %d of %d makes no difference", i%8, i/8, len(file))
		}
	}
	for n := 0; n < len(file); n += 5 {
		if _, err := read(file[:n], trust, box); err == nil {
			t.Fatalf("%d of %d bytes are enough", n, len(file))
		}
	}
}

// A chunk that is damaged gives no byte of itself, nor of what follows.
func TestDamageIsSeenBeforeItIsUsed(t *testing.T) {
	m := draft(t)
	file := m.file(t, "release 1")
	file[len(file)-len(m.payload)+bundle.ChunkSize] ^= 1
	r, err := bundle.Open(bytes.NewReader(file), bundle.Trust{Roots: roots()})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if len(b) != bundle.ChunkSize || problem.KindOf(err) != problem.Mismatch {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestNothingElseInThePayload(t *testing.T) {
	if _, err := bundle.ParseRoots("AA==,,"); err == nil {
		t.Error("bad root keys are taken")
	}
	one := base64.StdEncoding.EncodeToString(public(key("a")))
	for _, text := range []string{one, one + "," + one + "," + one} {
		if _, err := bundle.ParseRoots(text); err == nil {
			t.Errorf("%q are taken as three root keys", text)
		}
	}
	if list, err := bundle.Roots(); err != nil || len(list) != 0 {
		t.Errorf("the source tree has root keys: %v %v", list, err)
	}
}

func TestVersions(t *testing.T) {
	for text, ok := range map[string]bool{"0.1.0": true, "0.1.0+next": true, "1.2.3-rc.1": true, "1.2.3-rc.1+b7": true, "1.2": false, "1.2.3+": false, "1.2.3/x": false, "": false} {
		_, err := bundle.ParseRelease(fmt.Appendf(nil, `{"version":%q,"counter":1,"arch":"amd64","min_schema":1,"max_schema":3}`, text))
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMinisign(t *testing.T) {
	path, err := exec.LookPath("minisign")
	file := filepath.Join(t.TempDir(), "x.yup")
	if err := os.WriteFile(file, draft(t).file(t, "release 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, failed := os.Open(file)
	if failed != nil {
		t.Fatal(failed)
	}
	defer f.Close()
	sig, failed := bundle.Minisign(f, "yunbox 0.2.0", key("release 1"))
	if failed != nil {
		t.Fatal(failed)
	}
	if lines := strings.Split(sig, "\n"); len(lines) != 5 || !strings.HasPrefix(lines[1], "RU") {
		t.Fatalf("%q", sig)
	}
	if err != nil {
		return // the form was looked at; the program is not here
	}
	if err := os.WriteFile(file+".minisig", []byte(sig), 0o600); err != nil {
		t.Fatal(err)
	}
	pub, _ := bundle.MinisignKey(public(key("release 1")))
	if out, err := exec.Command(path, "-Vm", file, "-P", pub).CombinedOutput(); err != nil {
		t.Errorf("minisign: %v %s", err, out)
	}
}

func FuzzOpen(f *testing.F) {
	m := draft(f)
	good := m.file(f, "release 1")
	head := len(good) - len(m.payload)
	f.Add(good[:head])
	f.Add([]byte("yunbox update 1\n\x00\x00\x00\x02{}\x00"))
	f.Add(m.list)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := bundle.Open(bytes.NewReader(b), bundle.Trust{Roots: roots()})
		if err == nil && fmt.Sprint(r.Header) != fmt.Sprint(m.header) {
			t.Errorf("%v was never signed", r.Header)
		}
		if err != nil && problem.KindOf(err) == problem.Internal {
			t.Errorf("no problem: %v", err)
		}
		bundle.ParseKeyList(b)
		if _, err := bundle.VerifyKeyList(b, bundle.Trust{Roots: roots()}); err == nil && !bytes.Equal(b, m.list) {
			t.Error("a list that was never signed")
		}
	})
}
