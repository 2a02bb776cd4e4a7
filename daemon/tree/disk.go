package tree

import (
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"

	"yunbox.local/daemon/catalog"
	"yunbox.local/storage/vfs"
)

const (
	private   = ".yunbox" // no user name begins with a full stop
	batchFile = private + "/batch"
	workDir   = private + "/work"
	sumsFile  = "SHA256SUMS"

	fileMode   = 0o444
	folderMode = 0o755
)

// folderName is how the folder of a person is called: as their account, unless that is
// longer than file systems take.
func folderName(p Person) string {
	if len(p.Name) > catalog.MaxName {
		return "~" + p.ID.String()
	}
	return p.Name
}

// shown is how a path of the catalogue is called in its person's folder. The catalogue
// takes no name that ext4, XFS or Btrfs refuse. Only our own list is in the way: a
// person's file of its name, and what such files are called, get a % before it.
func shown(p string) string {
	if strings.HasSuffix(p, sumsFile) && strings.Trim(p[:len(p)-len(sumsFile)], "%") == "" {
		return "%" + p
	}
	return p
}

func inside(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// canClone tries whether two files of this folder can share storage.
func (t *Tree) canClone() (bool, error) {
	a, err := t.opt.Disk.OpenFile(workDir+"/a", vfs.CreateNew, fileMode)
	if err != nil {
		return false, err
	}
	defer a.Close() //nolint:errcheck // is removed
	b, err := t.opt.Disk.OpenFile(workDir+"/b", vfs.CreateNew, fileMode)
	if err != nil {
		return false, err
	}
	defer b.Close() //nolint:errcheck // is removed
	if _, err := a.Write(make([]byte, 4096)); err != nil {
		return false, err
	}
	if err = b.Clone(a); errors.Is(err, errors.ErrUnsupported) {
		return false, t.emptyWork()
	}
	return err == nil, errors.Join(err, t.emptyWork())
}

func (t *Tree) emptyWork() error {
	return vfs.Entries(t.opt.Disk, workDir, func(e fs.DirEntry) error { return t.removeAll(workDir + "/" + e.Name()) })
}

func workName(i int) string { return workDir + "/" + strconv.Itoa(i) }

// removeAll removes a file, or a folder with all in it, if it is there. It follows no
// link.
func (t *Tree) removeAll(name string) error {
	err := t.opt.Disk.Remove(name)
	if err == nil || gone(err) {
		return nil
	}
	if !full(err) {
		return err
	}
	err = vfs.Entries(t.opt.Disk, name, func(e fs.DirEntry) error { return t.removeAll(name + "/" + e.Name()) })
	if err != nil {
		return err
	}
	if err := t.opt.Disk.Remove(name); err != nil && !gone(err) {
		return err
	}
	return nil
}

// gone says that there is nothing of that name: a part of it may be a file.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// full says that a folder is not empty.
func full(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist)
}

// empty removes all but what is private, and the lists if they are to be kept.
func (t *Tree) empty(keepLists bool) error {
	return vfs.Entries(t.opt.Disk, ".", func(e fs.DirEntry) error {
		top := e.Name()
		if !keepLists || !e.IsDir() {
			return t.removeAll(top)
		}
		if top == private {
			return nil
		}
		return vfs.Entries(t.opt.Disk, top, func(e fs.DirEntry) error {
			if e.Name() == sumsFile {
				return nil
			}
			return t.removeAll(top + "/" + e.Name())
		})
	})
}

// clear removes all there is, durably.
func (t *Tree) clear() error {
	if err := vfs.Entries(t.opt.Disk, ".", func(e fs.DirEntry) error { return t.removeAll(e.Name()) }); err != nil {
		return err
	}
	return t.opt.Disk.SyncDir(".")
}

// prune removes the folders above a name that became empty, but not a person's own.
func (t *Tree) prune(name string, touched map[string]bool) error {
	for dir := path.Dir(name); strings.Contains(dir, "/"); dir = path.Dir(dir) {
		info, err := t.opt.Disk.Stat(dir)
		if err == nil && !info.IsDir() {
			return nil // a file has the name by now
		}
		if err == nil {
			err = t.opt.Disk.Remove(dir)
		}
		if err != nil && full(err) {
			return nil
		}
		if err != nil && !gone(err) {
			return err
		}
		delete(touched, dir)
		touched[path.Dir(dir)] = true
	}
	return nil
}

// makeFolders makes the folders above a name, and removes a file that has the name of
// one: it is stale. It reports the folders that it changed, and such files.
func (t *Tree) makeFolders(name string, made, touched map[string]bool) (stale []string, err error) {
	dir := path.Dir(name)
	if made[dir] || dir == "." {
		return nil, nil
	}
	if stale, err = t.makeFolders(dir, made, touched); err != nil {
		return stale, err
	}
	for {
		err := t.opt.Disk.Mkdir(dir, folderMode)
		if err == nil {
			touched[path.Dir(dir)] = true
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return stale, err
		}
		info, err := t.opt.Disk.Stat(dir)
		if err == nil && info.IsDir() {
			break
		}
		if err := t.opt.Disk.Remove(dir); err != nil && !gone(err) {
			return stale, err
		}
		touched[path.Dir(dir)] = true
		stale = append(stale, dir)
	}
	made[dir] = true
	return stale, nil
}

// syncFolders makes the names in some folders durable. A folder that is gone had its
// name in another one of them.
func (t *Tree) syncFolders(dirs map[string]bool) error {
	if len(dirs) > syncOneByOne {
		if err := t.opt.Disk.SyncAll(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	for dir := range dirs {
		if err := t.opt.Disk.SyncDir(dir); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}
