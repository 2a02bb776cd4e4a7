package main

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
)

// forger makes archives that are signed, by somebody's own key, and may lie.
type forger struct {
	key   *ecdsa.PrivateKey
	lines []archiveLine
	data  map[string]string // by entry
	// change may change an entry before it is written; nil: leave it out.
	change func(h *tar.Header, content string) (*tar.Header, string)
	tail   bool
}

func newForger(t *testing.T) *forger {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{key: key, data: map[string]string{}, tail: true}
	f.lines = append(f.lines, archiveLine{Kind: "folder", Entry: "files/照片/", Path: "照片"})
	f.add("file", "files/照片/a.jpg", "照片/a.jpg", strings.Repeat("photo ", 300))
	f.add("version", "older/0000000000001.7/照片/a.jpg", "照片/a.jpg", "older")
	f.add("deleted_file", "trash/0000000000002/b.jpg", "b.jpg", "trash")
	return f
}

func (f *forger) add(kind, entry, path, content string) {
	f.lines = append(f.lines, archiveLine{
		Kind: kind, Entry: entry, Path: path, SHA256: sumText(content), Size: int64(len(content)), Source: "album", SourceBy: "declared",
		Added: "2026-11-26T10:00:00.000Z",
	})
	f.data[entry] = content
}

func sumText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func (f *forger) archive(t *testing.T) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var out, items, sums bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h *tar.Header, content string) {
		h.Size = int64(len(content))
		if f.change != nil {
			if h, content = f.change(h, content); h == nil {
				return
			}
		}
		must(w.WriteHeader(h))
		_, err := io.WriteString(w, content)
		must(err)
	}
	file := func(name, content string) {
		put(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content)
		fmt.Fprintf(&sums, "%s  %s\n", sumText(content), name)
	}
	for _, l := range f.lines {
		must(json.NewEncoder(&items).Encode(l))
	}
	file("README.txt", "read me")
	file(itemsName, items.String())
	list := sums.String()
	for _, l := range f.lines {
		if l.Kind != "folder" {
			list += l.SHA256 + "  " + l.Entry + "\n"
		}
	}
	file(sumsName, list)
	spki, err := x509.MarshalPKIXPublicKey(&f.key.PublicKey)
	must(err)
	kid := pin(sha256.Sum256(spki)).String()
	facts, err := json.Marshal(map[string]any{
		"schema_version": exportSchema, "box": signedBy{Key: kid, SPKI: base64.StdEncoding.EncodeToString(spki)}, "time": time.Now(),
		"items": map[string]string{"sha256": sumText(items.String())}, "sha256sums": map[string]string{"sha256": sumText(list)},
	})
	must(err)
	file(factsName, string(facts))
	input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"`+exportTyp+`","kid":"`+kid+`"}`)) + "." + base64.RawURLEncoding.EncodeToString(facts)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.key, digest[:])
	must(err)
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	file(signName, input+"."+base64.RawURLEncoding.EncodeToString(sig[:])+"\n")
	for _, l := range f.lines {
		h := &tar.Header{Name: l.Entry, Typeflag: tar.TypeReg, Mode: 0o644}
		if l.Kind == "folder" {
			h.Typeflag = tar.TypeDir
		}
		put(h, f.data[l.Entry])
	}
	if f.tail {
		put(&tar.Header{Name: missingName, Typeflag: tar.TypeReg}, "\n\n")
	}
	must(w.Close())
	return out.Bytes()
}

// try reads an archive as a file and into a folder, which must come to the same end. It
// returns what was unpacked.
func try(t *testing.T, archive []byte) (missing int64, dir string, err error) {
	t.Helper()
	size := int64(len(archive))
	_, missing, err = readArchive(t.Context(), bytes.NewReader(archive), size, newScan(bytes.NewReader(archive)), func(archiveFacts) error { return nil })
	dir = t.TempDir()
	root, e := os.OpenRoot(dir)
	if e != nil {
		t.Fatal(e)
	}
	defer root.Close()
	_, again, err2 := readArchive(t.Context(), bytes.NewReader(archive), size, unpacked{root}, func(archiveFacts) error { return nil })
	if (err == nil) != (err2 == nil) || missing != again {
		t.Errorf("as a file: %v, %d missing; into a folder: %v, %d", err, missing, err2, again)
	}
	return missing, dir, err
}

// R26: an archive that lies is refused, whoever signed it, and puts nothing anywhere
// that it should not.
func TestArchivesThatLieAreRefused(t *testing.T) {
	if missing, dir, err := try(t, newForger(t).archive(t)); err != nil || missing != 0 {
		t.Fatalf("an honest archive: %v", err)
	} else if b, err := os.ReadFile(filepath.Join(dir, "files/照片/a.jpg")); err != nil || len(b) != 1800 {
		t.Fatalf("unpacked: %d bytes, %v", len(b), err)
	}
	entry := func(name string, change func(*tar.Header, string) (*tar.Header, string)) func(*forger) {
		return func(f *forger) {
			f.change = func(h *tar.Header, content string) (*tar.Header, string) {
				if h.Name != name {
					return h, content
				}
				return change(h, content)
			}
		}
	}
	line := func(kind, entry, path string) func(*forger) {
		return func(f *forger) { f.add(kind, entry, path, "evil") }
	}
	const photo = "files/照片/a.jpg"
	for name, lie := range map[string]func(*forger){
		"up": line("file", "files/../evil", "../evil"), "up in the entry": line("file", "files/../evil", "evil"), "absolute": line("file", "/etc/evil", "evil"),
		"absolute path": line("file", "files//etc/evil", "/etc/evil"), "over metadata": line("file", "metadata/items.jsonl", "items.jsonl"),
		"dots in the middle": line("file", "files/a/../../evil", "a/../../evil"), "dot": line("file", "files/.", "."),
		"a version upwards": line("version", "older/../evil", "evil"), "a version elsewhere": line("version", "older/./evil", "evil"), "an unknown kind": line("device", "files/evil", "evil"),
		"trash upwards":  line("deleted_file", "trash/0000000000002/../../evil", "../../evil"),
		"the same twice": line("file", photo, "照片/a.jpg"),
		"other bytes":    entry(photo, func(h *tar.Header, c string) (*tar.Header, string) { return h, strings.Replace(c, "p", "q", 1) }),
		"another length": entry(photo, func(h *tar.Header, c string) (*tar.Header, string) {
			h.Size--
			return h, c[:h.Size]
		}),
		"another name": entry(photo, func(h *tar.Header, c string) (*tar.Header, string) {
			h.Name = "files/照片/b.jpg"
			return h, c
		}),
		"a link": entry(photo, func(h *tar.Header, _ string) (*tar.Header, string) {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0
			return h, ""
		}),
		"a hard link": entry(photo, func(h *tar.Header, _ string) (*tar.Header, string) {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, "README.txt", 0
			return h, ""
		}),
		"a pipe": entry(photo, func(h *tar.Header, _ string) (*tar.Header, string) {
			h.Typeflag, h.Size = tar.TypeFifo, 0
			return h, ""
		}),
		"a folder for a file": entry(photo, func(h *tar.Header, _ string) (*tar.Header, string) {
			h.Typeflag, h.Size = tar.TypeDir, 0
			return h, ""
		}),
		"left out":      entry(photo, func(*tar.Header, string) (*tar.Header, string) { return nil, "" }),
		"other read me": entry("README.txt", func(h *tar.Header, c string) (*tar.Header, string) { return h, "eat me!" }),
		"other list":    entry(itemsName, func(h *tar.Header, c string) (*tar.Header, string) { return h, strings.Replace(c, "album", "chats", 1) }),
		"other sums": entry(sumsName, func(h *tar.Header, c string) (*tar.Header, string) {
			return h, strings.Replace(c, "README", "READYO", 1)
		}),
		"other facts":  entry(factsName, func(h *tar.Header, c string) (*tar.Header, string) { return h, strings.Replace(c, "time", "tame", 1) }),
		"no signature": entry(signName, func(*tar.Header, string) (*tar.Header, string) { return nil, "" }),
		"wrong signature": entry(signName, func(h *tar.Header, c string) (*tar.Header, string) {
			b := []byte(c)
			b[len(b)-10] ^= 1
			return h, string(b)
		}),
		"no end": func(f *forger) { f.tail = false },
	} {
		t.Run(name, func(t *testing.T) {
			f := newForger(t)
			lie(f)
			_, dir, err := try(t, f.archive(t))
			if kind := problem.KindOf(err); kind != problem.Mismatch {
				t.Errorf("%v (%s)", err, kind)
			}
			err = filepath.WalkDir(filepath.Dir(dir), func(name string, d os.DirEntry, err error) error {
				if err == nil && (d.Name() == "evil" || d.Type()&os.ModeSymlink != 0) {
					t.Errorf("it made %s", name)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// R26: wherever an archive is cut off, it is refused; a byte that differs is found, or
// is of no consequence, as what fills a block up.
func TestArchivesThatWereDamagedAreRefused(t *testing.T) {
	whole := newForger(t).archive(t)
	rng := mrand.New(mrand.NewPCG(5, 6))
	for range 150 {
		if _, _, err := try(t, whole[:rng.IntN(len(whole))]); err == nil {
			t.Fatal("a part of an archive passed for the whole")
		}
	}
	if _, _, err := try(t, append(bytes.Clone(whole), make([]byte, 512)...)); err == nil {
		t.Error("something behind its end was not noticed")
	}
	if _, _, err := try(t, append(bytes.Clone(whole), whole...)); err == nil {
		t.Error("a second archive behind it was not noticed")
	}
	photo := []byte("photo photo")
	at := bytes.Index(whole, photo)
	for i := range len(photo) {
		changed := bytes.Clone(whole)
		changed[at+i] ^= byte(1 + rng.IntN(255))
		if _, _, err := try(t, changed); problem.KindOf(err) != problem.Mismatch {
			t.Errorf("byte %d of a photo: %v", i, err)
		}
	}
	for range 300 {
		changed := bytes.Clone(whole)
		i := rng.IntN(len(changed))
		changed[i] ^= byte(1 + rng.IntN(255))
		missing, dir, err := try(t, changed)
		if err != nil {
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, "files/照片/a.jpg"))
		if missing == 0 && (err != nil || string(got) != strings.Repeat("photo ", 300)) {
			t.Fatalf("byte %d: another photo was taken for good: %v", i, err)
		}
	}
}

// R27: what was deleted while the archive was fetched is missing and nothing else.
func TestHolesAreCounted(t *testing.T) {
	f := newForger(t)
	f.change = func(h *tar.Header, content string) (*tar.Header, string) {
		if h.Name == "files/照片/a.jpg" {
			h.Name, content = "holes/照片/a.jpg", strings.Repeat("\x00", len(content))
		}
		return h, content
	}
	missing, dir, err := try(t, f.archive(t))
	if err != nil || missing != 1 {
		t.Fatalf("%d missing, %v", missing, err)
	}
	// A file whose disk failed in the middle is no hole; the end of the archive names it.
	f.change = func(h *tar.Header, content string) (*tar.Header, string) {
		switch h.Name {
		case "files/照片/a.jpg":
			content = content[:600] + strings.Repeat("\x00", len(content)-600)
		case missingName:
			content = `{"entry":"files/照片/a.jpg","reason":"damaged"}` + "\n\n"
			h.Size = int64(len(content))
		}
		return h, content
	}
	if missing, _, err := try(t, f.archive(t)); err != nil || missing != 1 {
		t.Fatalf("half a photo: %d missing, %v", missing, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "files/照片/a.jpg")); !os.IsNotExist(err) {
		t.Errorf("a hole was taken for a photo: %v", err)
	}
}
