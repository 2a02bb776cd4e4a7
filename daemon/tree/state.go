package tree

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// state is the row of tree_state; the zero state: there is none.
type state struct {
	mark   string
	batch  int64
	healed time.Time
	pass   int64 // -1: no comparison goes on
	anew   bool
	room   bool
}

// folder is a row of tree_user.
type folder struct {
	name      string // on the disk
	seq, sums int64
}

// row is one of tree_file.
type row struct {
	item  ident.ItemID
	user  ident.UserID
	path  string // in the person's folder
	ref   storage.Ref
	mtime int64
}

// open makes the folder ready once: it finds out what the file system can, whether the
// rows speak of this folder, and puts right what a crash left. The work is locked.
func (t *Tree) open(ctx context.Context) error {
	if t.opened || t.unsure != nil {
		return t.unsure
	}
	for _, dir := range []string{private, workDir} {
		if err := t.opt.Disk.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := t.emptyWork(); err != nil {
		return err
	}
	var err error
	if t.clones, err = t.canClone(); err != nil {
		return err
	}
	if err := t.load(ctx); err != nil {
		return err
	}
	last, err := readIntent(t.opt.Disk)
	if err != nil {
		return err
	}
	if t.state.mark == "" || last.Mark != t.state.mark || last.Batch != t.state.batch && last.Batch != t.state.batch+1 {
		// The folder was removed, or the records were put back from a copy: rows and
		// files know nothing of each other.
		if err := t.void(ctx, last.Batch); err != nil {
			return err
		}
	} else if last.Batch == t.state.batch+1 {
		if err := t.recover(ctx, last); err != nil {
			return err
		}
	}
	if !t.state.room { // giving it back may have been cut short
		if err := errors.Join(t.empty(true), t.forget(ctx, `1`)); err != nil {
			return err
		}
	}
	t.opened = true
	return nil
}

func (t *Tree) load(ctx context.Context) error {
	return t.opt.DB.Read(ctx, func(tx *db.Tx) error {
		t.state = state{}
		var pass sql.NullInt64
		var healed int64
		err := tx.QueryRow(`SELECT mark, batch, healed, pass, anew, room FROM tree_state`).
			Scan(&t.state.mark, &t.state.batch, &healed, &pass, &t.state.anew, &t.state.room)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		t.state.healed, t.state.pass = time.UnixMilli(healed).UTC(), -1
		if pass.Valid {
			t.state.pass = pass.Int64
		}
		return err
	})
}

// save writes s, and what else f writes, in one transaction.
func (t *Tree) save(ctx context.Context, s state, f func(*db.Tx) error) error {
	err := t.opt.DB.Write(ctx, func(tx *db.Tx) error {
		var pass any
		if s.pass >= 0 {
			pass = s.pass
		}
		_, err := tx.Exec(`INSERT INTO tree_state (id, mark, batch, healed, pass, anew, room) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)
			ON CONFLICT (id) DO UPDATE SET mark = ?1, batch = ?2, healed = ?3, pass = ?4, anew = ?5, room = ?6`,
			s.mark, s.batch, s.healed.UnixMilli(), pass, s.anew, s.room)
		if err == nil && f != nil {
			err = f(tx)
		}
		return err
	})
	if err == nil {
		t.state = s
	}
	return err
}

// void begins with a folder of which nothing is known.
func (t *Tree) void(ctx context.Context, batch int64) error {
	s := state{mark: rand.Text(), batch: max(batch, t.state.batch) + 1, room: t.state.room || t.clones, healed: t.opt.Now()}
	t.people = nil
	if err := t.save(ctx, s, nil); err != nil {
		return err
	}
	if err := t.anew(ctx); err != nil {
		return err
	}
	return writeIntent(t.opt.Disk, intent{Mark: s.mark, Batch: s.batch})
}

// anew begins a pass that makes every file again. What changes from now on comes with
// the feed.
func (t *Tree) anew(ctx context.Context) error {
	seqs, err := t.opt.Catalog.Seqs(ctx)
	if err != nil {
		return err
	}
	s := t.state
	s.pass, s.anew, s.room = 0, true, true
	if !t.clones && !t.state.room {
		if s.room, err = t.ample(ctx); err != nil {
			return err
		}
	}
	if !s.room {
		s.pass = -1
	}
	if err := t.save(ctx, s, func(tx *db.Tx) error {
		for u, seq := range seqs {
			if _, err := tx.Exec(`UPDATE tree_user SET seq = ?2, sums = 0 WHERE user = ?1`, int64(u), seq); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for u, f := range t.people {
		f.seq, f.sums = seqs[u], 0
	}
	return nil
}

// ample says whether copies may begin.
func (t *Tree) ample(ctx context.Context) (bool, error) {
	totals, err := t.opt.Catalog.Totals(ctx)
	if err != nil {
		return false, err
	}
	space, err := t.opt.Disk.Space()
	return t.opt.Mode == Auto && space.Free/4 >= totals.LogicalBytes, err
}

// recover removes the names of a batch that a crash may have cut short. Its items, and
// those that had the names before, have changes that are still to come, or the pass
// comes to them.
func (t *Tree) recover(ctx context.Context, last intent) error {
	folders := map[string]bool{}
	for _, name := range last.Names {
		if !fs.ValidPath(name) || !strings.Contains(name, "/") || inside(name, private) {
			continue
		}
		if err := t.removeAll(name); err != nil {
			return err
		}
		folders[path.Dir(name)] = true
		if err := t.prune(name, folders); err != nil {
			return err
		}
	}
	if err := t.syncFolders(folders); err != nil {
		return t.distrust(ctx, err)
	}
	s := t.state
	s.batch = last.Batch
	return t.save(ctx, s, func(tx *db.Tx) error {
		for _, name := range last.Names {
			user, rest, _ := strings.Cut(name, "/")
			if _, err := tx.Exec(`DELETE FROM tree_file WHERE path = ?2 AND user = (SELECT user FROM tree_user WHERE name = ?1)`, user, rest); err != nil {
				return err
			}
			if _, err := tx.Exec(`DELETE FROM tree_file WHERE path > ?2 AND path < ?3 AND user = (SELECT user FROM tree_user WHERE name = ?1)`, user, rest+"/", rest+"0"); err != nil {
				return err
			}
		}
		return nil
	})
}

// distrust ends the work on the view until the next start, after a sync of names has
// failed: the kernel may show names that are not on the disk, or none where there are
// some, and no later sync tells. The next start makes everything anew.
func (t *Tree) distrust(ctx context.Context, err error) error {
	t.unsure = fmt.Errorf("a sync failed, the readable view is made anew at the next start: %w", err)
	s := t.state
	s.mark = ""
	return errors.Join(t.unsure, t.save(context.WithoutCancel(ctx), s, nil))
}

// meet learns who there is: new people get a folder, other names a rename, and the
// folder of who is gone is removed.
func (t *Tree) meet(ctx context.Context) error {
	list, err := t.opt.People(ctx)
	if err != nil {
		return err
	}
	if t.people == nil {
		if t.people, err = t.folders(ctx); err != nil {
			return err
		}
	}
	// A pass that begins comes to all that is there now.
	var seqs map[ident.UserID]int64
	if t.state.anew && t.state.pass == 0 {
		if seqs, err = t.opt.Catalog.Seqs(ctx); err != nil {
			return err
		}
	}
	left := map[ident.UserID]bool{}
	for u := range t.people {
		left[u] = true
	}
	for _, p := range list {
		name := folderName(p)
		f := t.people[p.ID]
		delete(left, p.ID)
		switch {
		case f == nil:
			f = &folder{name: name, seq: seqs[p.ID]}
		case f.name != name:
			if err := t.opt.Disk.Rename(f.name, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := t.opt.Disk.SyncDir("."); err != nil {
				return t.distrust(ctx, err)
			}
			f = &folder{name: name, seq: f.seq, sums: f.sums}
		default:
			continue
		}
		if err := t.opt.DB.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO tree_user (user, name, seq, sums) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (user) DO UPDATE SET name = ?2`, int64(p.ID), f.name, f.seq, f.sums)
			return err
		}); err != nil {
			return err
		}
		t.people[p.ID] = f
	}
	for u := range left {
		if err := t.removeAll(t.people[u].name); err != nil {
			return err
		}
		if err := t.forget(ctx, `user = ?1`, int64(u)); err != nil {
			return err
		}
		if err := t.opt.DB.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`DELETE FROM tree_user WHERE user = ?`, int64(u))
			return err
		}); err != nil {
			return err
		}
		delete(t.people, u)
	}
	return nil
}

func (t *Tree) folders(ctx context.Context) (map[ident.UserID]*folder, error) {
	m := map[ident.UserID]*folder{}
	err := t.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT user, name, seq, sums FROM tree_user`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var u ident.UserID
			f := &folder{}
			if err := rows.Scan(&u, &f.name, &f.seq, &f.sums); err != nil {
				return err
			}
			m[u] = f
		}
		return rows.Err()
	})
	return m, err
}

// forget deletes rows of files, some at a time.
func (t *Tree) forget(ctx context.Context, which string, args ...any) error {
	for {
		var n int64
		err := t.opt.DB.Write(ctx, func(tx *db.Tx) error {
			res, err := tx.Exec(`DELETE FROM tree_file WHERE item IN (SELECT item FROM tree_file WHERE `+which+` ORDER BY item LIMIT 1000)`, args...)
			if err != nil {
				return err
			}
			n, err = res.RowsAffected()
			return err
		})
		if err != nil || n < 1000 {
			return err
		}
	}
}

const columns = `SELECT item, user, path, ref, mtime FROM tree_file `

func (t *Tree) rows(ctx context.Context, query string, args ...any) (list []row, err error) {
	err = t.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, columns+query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r row
			var ref []byte
			if err := rows.Scan(&r.item, &r.user, &r.path, &ref, &r.mtime); err != nil {
				return err
			}
			r.ref = storage.Ref(ref)
			list = append(list, r)
		}
		return rows.Err()
	})
	return list, err
}

func (t *Tree) rowsOf(ctx context.Context, ids []ident.ItemID) (map[ident.ItemID]row, error) {
	numbers := make([]int64, len(ids))
	for i, id := range ids {
		numbers[i] = int64(id)
	}
	text, err := json.Marshal(numbers)
	if err != nil {
		return nil, err
	}
	list, err := t.rows(ctx, `WHERE item IN (SELECT value FROM json_each(?))`, string(text))
	m := make(map[ident.ItemID]row, len(list))
	for _, r := range list {
		m[r.item] = r
	}
	return m, err
}

// giveUp removes all files but the lists of them. The work is locked.
func (t *Tree) giveUp(ctx context.Context) error {
	s := t.state
	s.room, s.pass, s.anew = false, -1, false
	if err := t.save(ctx, s, nil); err != nil {
		return err
	}
	t.opened = false // and again at the next open, should it be cut short
	if err := errors.Join(t.empty(true), t.forget(ctx, `1`)); err != nil {
		return err
	}
	t.opened = true
	return nil
}

// close removes everything of a view that is not wanted. The work is locked.
func (t *Tree) close(ctx context.Context) error {
	if t.opened {
		return nil
	}
	if err := t.load(ctx); err != nil {
		return err
	}
	if err := t.empty(false); err != nil {
		return err
	}
	if t.state.mark != "" {
		if err := t.forget(ctx, `1`); err != nil {
			return err
		}
		if err := t.opt.DB.Write(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(`DELETE FROM tree_user`); err != nil {
				return err
			}
			_, err := tx.Exec(`DELETE FROM tree_state`)
			return err
		}); err != nil {
			return err
		}
	}
	t.opened = true
	return nil
}

// intent is the file .yunbox/batch.
type intent struct {
	Mark  string   `json:"mark"`
	Batch int64    `json:"batch"`
	Names []string `json:"names"` // that it gives, from the top of the tree
}

// readIntent returns the zero intent where there is none that can be read.
func readIntent(disk vfs.FS) (i intent, err error) {
	data, err := vfs.ReadFile(disk, batchFile)
	if errors.Is(err, fs.ErrNotExist) {
		return intent{}, nil
	}
	if err == nil && json.Unmarshal(data, &i) != nil {
		i = intent{}
	}
	return i, err
}

func writeIntent(disk vfs.FS, i intent) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return vfs.WriteFile(disk, batchFile, append(data, '\n'), 0o600)
}

// timeOf is what the file of an item has as its time.
func timeOf(it catalog.Item) time.Time {
	if it.MTime.IsZero() {
		return it.Added
	}
	return it.MTime
}
