package inbox

import (
	"path/filepath"
	"slices"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs"
)

// Folder finds the folder that an absolute path names, as Add does, and says for whom
// the box watches it, one that holds it, or some in it; zero: for nobody. Folders of
// several people are problem.Conflict.
func (in *Inbox) Folder(path string) (real string, owner ident.UserID, err error) {
	if real, _, err = in.place(path); err != nil {
		return "", 0, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, f := range in.folders {
		if !vfs.Within(real, f.conf.Path) && !vfs.Within(f.conf.Path, real) && real != f.conf.Path {
			continue
		}
		if owner != 0 && owner != f.conf.User {
			return "", 0, &problem.Error{Kind: problem.Conflict, Op: "inbox.folder", Title: "Folders of several people lie in it",
				Detail: "The box watches some of them for one person and some for another.", Hint: "Name a folder that is one person's."}
		}
		owner = f.conf.User
	}
	return real, owner, nil
}

// WatchedFor says whether a path is, or lies in, a folder that the box watches for u. It
// goes by the names alone.
func (in *Inbox) WatchedFor(u ident.UserID, path string) bool {
	path = filepath.Clean(path)
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, f := range in.folders {
		if rel, err := filepath.Rel(f.conf.Path, path); f.conf.User == u && err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// FoldersOf lists the folders that the box watches for u, by path.
func (in *Inbox) FoldersOf(u ident.UserID) (list []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, f := range in.folders {
		if f.conf.User == u {
			list = append(list, f.conf.Path)
		}
	}
	slices.Sort(list)
	return list
}
