package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"yunbox.local/daemon/problem"
)

// Damage is a file of the copy that is not what was written.
type Damage struct {
	File   string // path on the target
	Name   Name   // of a content; the zero Name for a file of the generation
	Reason string
}

// Checked says what Verify found.
type Checked struct {
	Generation Generation
	Files      int64 // that were looked at
	Bytes      int64 // that were read
	Damaged    int64
	Older      int // further generations that hold
	Bad        int // further generations that do not
}

// Verify holds the newest generation against its checksums. full: every file is
// read; else those of the generation itself, and of contents only whether they are
// there with their size. It needs no recovery key and writes nothing. found is told
// of each damage, step after each file.
func (t *Target) Verify(ctx context.Context, full bool, found func(Damage) error, step func(done, bytes int64)) (Checked, error) {
	good, bad, err := t.Generations()
	if err != nil {
		return Checked{}, err
	}
	if len(good) == 0 {
		if bad > 0 {
			return Checked{Bad: bad}, damaged("backup.verify", "No generation in it holds.", nil)
		}
		return Checked{}, &problem.Error{Kind: problem.NotFound, Op: "backup.verify", Title: "The second copy is empty",
			Detail: "No run has finished yet.", Hint: "Run `yunboxctl backup run`."}
	}
	v := &verifier{t: t, ctx: ctx, full: full, found: found, step: step}
	v.Generation, v.Older, v.Bad = good[0], len(good)-1, bad
	if err := v.generation(); err != nil {
		return v.Checked, err
	}
	return v.Checked, v.contents()
}

type verifier struct {
	Checked
	t     *Target
	ctx   context.Context
	full  bool
	found func(Damage) error
	step  func(done, bytes int64)

	shard int // whose sizes are in sizes
	sizes map[Name]int64
}

func (v *verifier) generation() error {
	own, err := v.t.own(v.Generation)
	if err != nil {
		return damaged("backup.verify", "Its list of checksums cannot be read.", err)
	}
	for p, want := range own {
		if err := v.read(Damage{File: p}, want); err != nil {
			return err
		}
	}
	return nil
}

// read reads a file and compares it.
func (v *verifier) read(d Damage, want [32]byte) error {
	sum, n, err := v.t.hash(v.ctx, d.File)
	v.Bytes += n
	switch {
	case v.ctx.Err() != nil:
		return context.Cause(v.ctx)
	case errors.Is(err, fs.ErrNotExist):
		d.Reason = "It is missing."
	case err != nil:
		d.Reason = "It cannot be read."
	case sum != want:
		d.Reason = "Its bytes are others than were written."
	}
	return v.done(d)
}

func (v *verifier) done(d Damage) error {
	v.Files++
	v.step(v.Files, v.Bytes)
	if d.Reason == "" {
		return nil
	}
	v.Damaged++
	return v.found(d)
}

func (v *verifier) contents() error {
	v.shard = -1
	for e, err := range v.t.Contents(v.Generation) {
		if err != nil {
			return damaged("backup.verify", "Its list of contents cannot be read.", err)
		}
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		d := Damage{File: e.Name.path(), Name: e.Name}
		if v.full {
			if err := v.read(d, e.Sum); err != nil {
				return err
			}
			continue
		}
		size, ok, err := v.size(e.Name)
		switch {
		case err != nil:
			d.Reason = "It cannot be read."
		case !ok:
			d.Reason = "It is missing."
		case size != e.Size:
			d.Reason = fmt.Sprintf("It has %d bytes, %d were written.", size, e.Size)
		}
		if err := v.done(d); err != nil {
			return err
		}
	}
	return nil
}

// size looks a content up in the listing of its directory.
func (v *verifier) size(n Name) (int64, bool, error) {
	if n.shard() != v.shard {
		v.shard, v.sizes = n.shard(), map[Name]int64{}
		list, err := v.t.fsys.ReadDir(shardDir(v.shard))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, false, err
		}
		for _, e := range list {
			name, ok := parseName(e.Name())
			info, err := e.Info()
			if ok && err == nil && info.Mode().IsRegular() {
				v.sizes[name] = info.Size()
			}
		}
	}
	size, ok := v.sizes[n]
	return size, ok, nil
}

// Erase removes the copy: the identity first, so that what is half removed is no
// copy any more. Files that are not ours stay, and then so does the folder.
func (t *Target) Erase(ctx context.Context) error {
	numbers, err := t.numbers()
	if err != nil {
		return written("backup.remove", err)
	}
	for _, name := range []string{IdentityFile} {
		if err := t.remove(name); err != nil {
			return err
		}
	}
	if err := written("backup.remove", t.syncDir(".")); err != nil {
		return err
	}
	for _, n := range numbers {
		if err := t.removeGeneration(n); err != nil {
			return written("backup.remove", err)
		}
	}
	for i := range shards {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := t.dropIn(i, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return written("backup.remove", err)
		}
	}
	if err := t.eachNote(t.fsys.Remove); err != nil {
		return err
	}
	dirs := []string{genDir}
	for i := range shards {
		dirs = append(dirs, shardDir(i))
	}
	for _, name := range slices.Concat(dirs, []string{dataDir, readmeFile, lockFile}) {
		_ = t.fsys.Remove(name) // a folder with foreign files in it stays
	}
	return written("backup.remove", t.syncDir(path.Dir(IdentityFile)))
}

func (t *Target) remove(name string) error {
	if err := t.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return written("backup.remove", err)
	}
	return nil
}
