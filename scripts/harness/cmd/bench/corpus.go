package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A file to upload.
type file struct {
	name string // a plain name, unique in the corpus
	path string
	size int64
	sum  string // SHA-256, hex
}

// A corpus is a set of files, dealt out to lanes: what one connection, or one run
// of a client program, uploads. The files of a lane lie in a folder of their own.
type corpus struct {
	lanes [][]file
	dirs  []string
	bytes int64
	count int
}

// makeCorpus writes count random files of least to most bytes for lanes below dir.
func makeCorpus(dir string, count, lanes int, least, most int64, seed uint64) (*corpus, error) {
	c := &corpus{lanes: make([][]file, lanes), count: count}
	rng := rand.New(rand.NewPCG(seed, uint64(count)))
	for lane := range lanes {
		c.dirs = append(c.dirs, filepath.Join(dir, fmt.Sprint("lane", lane)))
		if err := os.MkdirAll(c.dirs[lane], 0o755); err != nil {
			return nil, err
		}
	}
	for i := range count {
		lane := i % lanes
		name := fmt.Sprintf("IMG_%05d.jpg", i)
		f := file{name: name, path: filepath.Join(c.dirs[lane], name), size: least + rng.Int64N(most-least+1)}
		var err error
		if f.sum, err = writeRandom(f.path, f.size, rng.Uint64()); err != nil {
			return nil, err
		}
		c.lanes[lane] = append(c.lanes[lane], f)
		c.bytes += f.size
	}
	return c, nil
}

// alone is the same corpus with one lane of its first count files.
func (c *corpus) alone(count int) *corpus {
	one := &corpus{lanes: [][]file{c.lanes[0][:min(count, len(c.lanes[0]))]}, dirs: c.dirs[:1]}
	for _, f := range one.lanes[0] {
		one.bytes += f.size
		one.count++
	}
	return one
}

func writeRandom(path string, size int64, seed uint64) (sum string, err error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	out := bufio.NewWriterSize(f, 1<<20)
	_, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(newStream(seed), size))
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, out.Flush(), f.Close())
}

// newStream is an endless reader of bytes that no server can compress or find
// again: cheap, so that the client's own cost stays small.
func newStream(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	block := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8(key).Read(block) // it never fails
	return &stream{block: block, left: block}
}

type stream struct {
	block, left []byte
	turn        uint64
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		s.turn++
		for i := 0; i < len(s.block); i += 4096 {
			binary.LittleEndian.PutUint64(s.block[i:], s.turn)
		}
		s.left = s.block
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// remove deletes the files; what is left in the work directory goes at the end.
func (c *corpus) remove() {
	for _, dir := range c.dirs {
		_ = os.RemoveAll(dir)
	}
}
