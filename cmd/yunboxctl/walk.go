package main

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// walker goes through a folder in an order that never changes: by name, byte by
// byte, a folder's content where the folder stands. It follows no symbolic links
// and keeps nothing but the names of the folder it is in.
type walker struct {
	root    string
	exclude []string // patterns of path.Match, for a name or for a path below root

	skipped int64 // links, devices, junk and what was excluded
}

// walked is a regular file, or the error that kept a folder or file from being seen.
type walked struct {
	rel  string // below root, with slashes
	info fs.FileInfo
	err  error
}

// junk lists what systems and apps leave beside photos and nobody misses, in lower case.
func junk(name string) bool {
	switch name = strings.ToLower(name); name {
	case ".ds_store", "thumbs.db", "desktop.ini", ".nomedia", ".thumbnails", ".trashes", ".spotlight-v100",
		".fseventsd", "$recycle.bin", "system volume information", "lost+found", "@eadir":
		return true
	}
	return strings.HasPrefix(name, "._") || strings.HasPrefix(name, ".trash-") || strings.HasPrefix(name, ".trashed-")
}

func (w *walker) excluded(rel string) bool {
	base := path.Base(rel)
	if junk(base) {
		return true
	}
	for _, p := range w.exclude {
		for _, name := range []string{base, rel} {
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
	}
	return false
}

// walk calls found for every file until it returns an error or ctx ends.
func (w *walker) walk(ctx context.Context, found func(walked) error) error {
	return filepath.WalkDir(w.root, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, relErr := filepath.Rel(w.root, name)
		if relErr != nil {
			return relErr
		}
		rel = filepath.ToSlash(rel)
		if rel == "." {
			return err
		}
		if w.excluded(rel) {
			w.skipped++
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err != nil {
			return found(walked{rel: rel, err: err})
		}
		switch {
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			w.skipped++
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return found(walked{rel: rel, err: err})
		}
		return found(walked{rel: rel, info: info})
	})
}

// walkOrder makes paths comparable in the order of walk.
func walkOrder(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}
