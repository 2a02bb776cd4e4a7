package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const folderByPath = `SELECT id, seq FROM folder WHERE user = +? AND path = +?`

func folderIn(tx *db.Tx, u ident.UserID, path string) (id, seq int64, err error) {
	err = tx.QueryRow(folderByPath, int64(u), path).Scan(&id, &seq)
	return id, seq, err
}

const childFolder = `SELECT 1 FROM folder WHERE parent = +? AND name = +?`

func hasFolder(tx *db.Tx, parent int64, name string) (bool, error) {
	return exists(tx.QueryRow(childFolder, parent, name))
}

const itemNamed = `SELECT 1 FROM item WHERE folder = +? AND name = +?`

func hasItem(tx *db.Tx, folder int64, name string) (bool, error) {
	return exists(tx.QueryRow(itemNamed, folder, name))
}

func exists(r *sql.Row) (bool, error) {
	var one int
	err := r.Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// makeFolders returns the id of the folder at path, making what is missing of
// it, the person's usage row and root included. made is how many were made.
func makeFolders(tx *db.Tx, u ident.UserID, path string) (id int64, made int, err error) {
	if id, _, err = folderIn(tx, u, path); err == nil || !errors.Is(err, sql.ErrNoRows) {
		return id, 0, err
	}
	if _, err := tx.Exec(`INSERT INTO usage (user) VALUES (?) ON CONFLICT DO NOTHING`, int64(u)); err != nil {
		return 0, 0, err
	}
	for _, p := range chain(path) {
		parent := id
		id, _, err = folderIn(tx, u, p)
		if err == nil {
			continue
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return 0, 0, err
		}
		_, name := split(p)
		above := any(parent)
		if p == "" {
			above = nil
		} else if taken, err := hasItem(tx, parent, name); err != nil {
			return 0, 0, err
		} else if taken {
			return 0, 0, inTheWay("a file", p)
		}
		res, err := tx.Exec(`INSERT INTO folder (user, parent, name, path, seq) SELECT ?1, ?2, ?3, ?4, seq + 1 FROM usage WHERE user = +?1`,
			int64(u), above, name, p)
		if err != nil {
			return 0, 0, err
		}
		if id, err = res.LastInsertId(); err != nil {
			return 0, 0, err
		}
		made++
	}
	return id, made, nil
}

// folderColumns are what scanFolder reads. They need folder as f and, left
// joined, the change that gave it its number as c.
const folderColumns = `f.id, f.path, f.name, f.seq, c.time`

const folderEntry = `SELECT ` + folderColumns + ` FROM folder f LEFT JOIN change c ON c.user = f.user AND c.seq = f.seq
WHERE f.user = +? AND f.path = +?`

func scanFolder(r row) (f Folder, err error) {
	var changed sql.NullInt64
	err = r.Scan(&f.ID, &f.Path, &f.Name, &f.Seq, &changed)
	f.Changed = fromMillis(changed)
	return f, err
}

// Folder returns the folder of u at path; "" is the root, which every person
// has.
func (c *Catalog) Folder(ctx context.Context, u ident.UserID, path string) (f Folder, err error) {
	path, err = CleanFolder(path)
	if err != nil {
		return Folder{}, err
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		f, err = c.FolderIn(tx, u, path)
		return err
	})
	return f, err
}

// FolderIn is Folder as of tx, of a clean path.
func (c *Catalog) FolderIn(tx *db.Tx, u ident.UserID, path string) (Folder, error) {
	f, err := scanFolder(tx.QueryRow(folderEntry, int64(u), path))
	if !errors.Is(err, sql.ErrNoRows) {
		return f, err
	}
	if path == "" {
		return Folder{}, nil
	}
	return Folder{}, notFound("catalog.folder", "folder")
}

// FoldersBelow returns the folders of u below the one at path, at any depth, in
// the order of their paths and after the path after ("" for the first): limit of
// them, MaxLimit at most.
func (c *Catalog) FoldersBelow(ctx context.Context, u ident.UserID, path, after string, limit int) (list []Folder, err error) {
	if path, err = CleanPath(path); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > MaxLimit {
		limit = MaxLimit
	}
	lo, hi := below(path)
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		list, err = scanFolders(tx.QueryContext(ctx, foldersBelow, int64(u), max(lo, after), hi, limit))
		return err
	})
	return list, err
}

const foldersBelow = `SELECT ` + folderColumns + ` FROM folder f LEFT JOIN change c ON c.user = f.user AND c.seq = f.seq
WHERE f.user = +? AND f.path > ? AND f.path < ? ORDER BY f.path LIMIT +?`

// scanFolders reads and closes rows, as scanItems does.
func scanFolders(rows *sql.Rows, err error) (list []Folder, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		f, err := scanFolder(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, rows.Err()
}

// MakeFolder makes the folder at path and those above it. It succeeds if they
// exist and fails with problem.Conflict if a file has one of the names.
func (c *Catalog) MakeFolder(ctx context.Context, u ident.UserID, path string) (f Folder, err error) {
	path, err = CleanFolder(path)
	if err != nil {
		return Folder{}, err
	}
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		f, err = c.MakeFolderIn(tx, u, path)
		return err
	})
	return f, err
}

// MakeFolderIn is MakeFolder in tx, of a clean path. After an error tx must be
// undone to the savepoint before.
func (c *Catalog) MakeFolderIn(tx *db.Tx, u ident.UserID, path string) (Folder, error) {
	_, made, err := makeFolders(tx, u, path)
	if err == nil && made > 0 {
		_, err = c.touch(tx, u, 0, KindFolder, delta{}, path)
	}
	if err != nil {
		return Folder{}, err
	}
	return c.FolderIn(tx, u, path)
}

// Move gives the live item id of u another path, making folders as needed. A
// name that is taken is problem.Conflict: moving never replaces.
func (c *Catalog) Move(ctx context.Context, u ident.UserID, id ident.ItemID, to string) (it Item, err error) {
	to, err = CleanPath(to)
	if err != nil {
		return Item{}, err
	}
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		it, err = c.MoveIn(tx, u, id, to)
		return err
	})
	return it, err
}

// MoveIn is Move in tx, to a clean path. After an error tx must be undone to the
// savepoint before.
func (c *Catalog) MoveIn(tx *db.Tx, u ident.UserID, id ident.ItemID, to string) (Item, error) {
	it, err := liveItem(tx, "catalog.move", u, id)
	if err != nil || it.Path == to {
		return it, err
	}
	from, _ := split(it.Path)
	folder, name := split(to)
	fid, _, err := makeFolders(tx, u, folder)
	if err != nil {
		return Item{}, err
	}
	if err := mustBeFree(tx, fid, name, to); err != nil {
		return Item{}, err
	}
	if it.Seq, err = c.touch(tx, u, id, KindMoved, delta{}, from, folder); err != nil {
		return Item{}, err
	}
	it.Path, it.Name = to, name
	_, err = tx.Exec(`UPDATE item SET folder = ?, name = ?, seq = ? WHERE id = ?`, fid, name, it.Seq, int64(id))
	return it, err
}

// liveItem is itemIn for what cannot be done in the trash.
func liveItem(tx *db.Tx, op string, u ident.UserID, id ident.ItemID) (Item, error) {
	it, err := itemIn(tx, op, u, id)
	if err == nil && !it.Trashed.IsZero() {
		err = trashedAlready(op)
	}
	return it, err
}

func mustBeFree(tx *db.Tx, folder int64, name, path string) error {
	if taken, err := hasItem(tx, folder, name); err != nil {
		return err
	} else if taken {
		return inTheWay("a file", path)
	}
	if taken, err := hasFolder(tx, folder, name); err != nil {
		return err
	} else if taken {
		return inTheWay("a folder", path)
	}
	return nil
}

func trashedAlready(op string) error {
	return &problem.Error{
		Kind: problem.Conflict, Op: op, Title: "The file is in the trash",
		Detail: "Only files that are not in the trash can be changed.", Hint: "Restore it first.",
	}
}

// MoveFolder gives a folder of u, and with it everything in it, another path. A
// name that is taken is problem.Conflict, the root and a place inside the folder
// itself are problem.Invalid.
func (c *Catalog) MoveFolder(ctx context.Context, u ident.UserID, from, to string) error {
	from, err := CleanPath(from)
	if err != nil {
		return err
	}
	if to, err = CleanPath(to); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *db.Tx) error { return c.MoveFolderIn(tx, u, from, to) })
}

// MoveFolderIn is MoveFolder in tx, of clean paths. After an error tx must be
// undone to the savepoint before.
func (c *Catalog) MoveFolderIn(tx *db.Tx, u ident.UserID, from, to string) error {
	if from == to {
		return nil
	}
	if len(to) > len(from) && to[:len(from)+1] == from+"/" {
		return &problem.Error{
			Kind: problem.Invalid, Op: "catalog.move", Title: "A folder cannot be moved into itself",
			Detail: fmt.Sprintf("%q lies in %q.", to, from), Hint: "Choose another place.",
		}
	}
	id, _, err := folderIn(tx, u, from)
	if errors.Is(err, sql.ErrNoRows) {
		return notFound("catalog.move", "folder")
	}
	if err != nil {
		return err
	}
	above, name := split(to)
	parent, _, err := makeFolders(tx, u, above)
	if err != nil {
		return err
	}
	if err := mustBeFree(tx, parent, name, to); err != nil {
		return err
	}
	if err := moveTree(tx, u, from, to); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE folder SET parent = ?, name = ? WHERE id = ?`, parent, name, id); err != nil {
		return err
	}
	was, _ := split(from)
	_, err = c.touch(tx, u, 0, KindMoved, delta{}, was, to)
	return err
}

const longestBelow = `SELECT coalesce(max(length(CAST(f.path AS BLOB)) + 1 + coalesce((SELECT max(length(CAST(i.name AS BLOB))) FROM item i WHERE i.folder = f.id), 0)), 0)
FROM folder f WHERE f.user = +?1 AND f.path >= ?2 AND f.path < ?4 AND (f.path = +?2 OR f.path > ?3)`

// moveTree rewrites the paths of the folder from and of all below it.
func moveTree(tx *db.Tx, u ident.UserID, from, to string) error {
	lo, hi := below(from)
	if grown := len(to) - len(from); grown > 0 {
		var longest int
		if err := tx.QueryRow(longestBelow, int64(u), from, lo, hi).Scan(&longest); err != nil {
			return err
		}
		if longest+grown > MaxPath {
			return badPath("a file in the folder would have a path of %d bytes, %d are the most", longest+grown, MaxPath)
		}
	}
	_, err := tx.Exec(`UPDATE folder SET path = ?5 || substr(path, ?6) WHERE user = ?1 AND path >= ?2 AND path < ?4 AND (path = ?2 OR path > ?3)`,
		int64(u), from, lo, hi, to, runes(from)+1)
	return err
}

// below returns the open range of paths that lie in folder, at any depth.
func below(folder string) (lo, hi string) { return folder + "/", folder + "0" } // '0' follows '/'

// runes counts as SQLite's substr does on text.
func runes(s string) (n int) {
	for range s {
		n++
	}
	return n
}
