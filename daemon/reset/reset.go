// Package reset makes a box what it was when it was new: nobody's, with another key, and
// with nothing left of what it kept.
//
// A reset is asked for by a mark in the state directory. Until the mark is durable nothing
// has happened; from then on it is done by whoever opens the directory next, as often as
// that takes. There is nothing in between.
package reset

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"yunbox.local/storage/vfs"
)

// Mark is the file that asks for a reset.
const Mark = "RESET"

const markHead = "yunbox reset 1\nserial "

// lockFile keeps a second daemon away (docs/format.md); it is empty, and stays.
const lockFile = "LOCK"

// shredded comes first: without these keys, what is sealed in the records and in every
// copy of them can be read by nobody.
const shredded = "keys"

// software is what the updater notes: nothing of anybody, but which release is the oldest
// that may come back. A box that was reset takes no older one either.
const software = "update"

// known is everything else of a box, in the order in which it goes.
func known() []string {
	return []string{"blobs", "staging", "intent", "tree", "exports", "dedup", "box.db", "journal", "rebuild", "damaged", "backup",
		"RECORDS", "RESTORING", "run", "VOLUME"}
}

// Ask asks for a reset. It returns nil when it is certain to come; with an error it will
// not, as far as the disk can be told. serial is that of the label, which stays.
func Ask(disk vfs.FS, serial string) error {
	err := vfs.WriteFile(disk, Mark, []byte(markHead+serial+"\n"), 0o600)
	if err != nil {
		_ = disk.Remove(Mark) // the name may be there
		return fmt.Errorf("reset: %w", err)
	}
	return nil
}

// Asked reports whether a reset was asked for, and the serial number that stays; "" if
// that cannot be read any more.
func Asked(disk vfs.FS) (serial string, asked bool, err error) {
	data, err := vfs.ReadFile(disk, Mark)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("reset: %w", err)
	}
	text, ok := strings.CutPrefix(string(data), markHead)
	if !ok {
		return "", true, nil // no reset is half asked for: the mark is written whole
	}
	return strings.TrimSuffix(text, "\n"), true, nil
}

// Do does what was asked for, and is repeated after every cut. keepVolume leaves the
// volume its identity, for a box whose settings name it. fresh puts in place what the new
// box begins with. What it finds in the directory and does not know is not the box's: it
// stays, and is returned.
func Do(disk vfs.FS, keepVolume bool, fresh func() error) (foreign []string, err error) {
	lock, err := disk.Lock(lockFile)
	if err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	defer lock.Close() //nolint:errcheck // the process's end would do
	if err := shred(disk, shredded); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	if err := disk.SyncDir("."); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	for _, name := range append([]string{shredded}, known()...) {
		if name == "VOLUME" && keepVolume {
			continue
		}
		if err := removeLike(disk, name); err != nil {
			return nil, fmt.Errorf("reset: %w", err)
		}
	}
	if err := disk.SyncDir("."); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	if err := errors.Join(fresh(), disk.SyncDir(".")); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	if foreign, err = others(disk, keepVolume); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	if err := disk.Remove(Mark); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	if err := disk.SyncDir("."); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	return foreign, nil
}

// like reports whether name is of the box's file or folder known, or made beside it:
// box.db-wal, RECORDS.new, blobs.damaged-1.
func like(name, known string) bool {
	rest, ok := strings.CutPrefix(name, known)
	return ok && (rest == "" || rest[0] == '-' || rest[0] == '.')
}

func removeLike(disk vfs.FS, known string) error {
	list, err := disk.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range list {
		if like(e.Name(), known) {
			if err := remove(disk, e.Name(), e); err != nil {
				return err
			}
		}
	}
	return nil
}

func others(disk vfs.FS, keepVolume bool) (names []string, err error) {
	list, err := disk.ReadDir(".")
	for _, e := range list {
		switch name := e.Name(); {
		case name == lockFile || name == software || name == "lost+found" || like(name, Mark) || like(name, shredded) || keepVolume && like(name, "VOLUME"):
		case slices.ContainsFunc(known(), func(k string) bool { return like(name, k) }):
			return nil, fmt.Errorf("%s is still there", name)
		default:
			names = append(names, name)
		}
	}
	return names, err
}

// remove removes a file, or a folder with all that is in it. A link goes, not what it
// leads to.
func remove(disk vfs.FS, name string, e fs.DirEntry) error {
	if e.IsDir() {
		// What was removed while a folder was read may hide what is behind it.
		for more := true; more; {
			more = false
			err := vfs.Entries(disk, name, func(e fs.DirEntry) error {
				more = true
				return remove(disk, path.Join(name, e.Name()), e)
			})
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// shred writes zeros over every file of a folder and removes it. Where a disk keeps what
// was written over, as flash does, the zeros are for nothing and the removal is what counts.
func shred(disk vfs.FS, dir string) error {
	list, err := disk.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		if name := path.Join(dir, e.Name()); e.Type().IsRegular() {
			if err := zero(disk, name); err != nil {
				return err
			}
			if err := disk.Remove(name); err != nil {
				return err
			}
		}
	}
	return disk.SyncDir(dir)
}

func zero(disk vfs.FS, name string) error {
	f, err := disk.OpenFile(name, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	err = f.Chmod(0o600) // keys are read-only
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if f, err = disk.OpenFile(name, vfs.ReadWrite, 0); err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, min(info.Size(), 1<<20)))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
