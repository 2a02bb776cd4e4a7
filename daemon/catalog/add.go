package catalog

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Entry is a content that is to be kept under a name. Path must have come from
// CleanPath, and the content must be on stable storage and pinned there until
// the transaction has ended.
type Entry struct {
	User   ident.UserID
	Device ident.DeviceID
	Path   string
	Ref    storage.Ref
	SHA1   storage.SHA1
	Size   int64
	Sums   storage.Sums // nil: not known, or not needed
	MTime  time.Time
	Source string
	// SourceBy says how Source is known: see Item. "": declared.
	SourceBy string
	Taken    Taken // zero: not known

	// IfAbsent and IfRef are conditions on the name, checked in the transaction
	// that writes it (problem.PreconditionFailed): that it is free; that its
	// content is IfRef (zero: no condition).
	IfAbsent bool
	IfRef    storage.Ref

	// Beside leaves a name that has another content alone and gives the next free
	// one like it: "a (2).jpg". Once gives no name at all to a content that a live
	// item of the person has already: that item is the result, Unchanged. Both are
	// for protocols without folders, in which a name is no place.
	Beside, Once bool
}

// declared is SourceBy of what a client said itself.
const declared = "declared"

// Outcome says what Add did to the name.
type Outcome string

const (
	// Created: the name is new.
	Created Outcome = "created"
	// Replaced: the name had another content, which is kept as a version.
	Replaced Outcome = "replaced"
	// Unchanged: the name had this content already; nothing was written.
	Unchanged Outcome = "unchanged"
)

// Added is the result of Add.
type Added struct {
	Item    Item
	Outcome Outcome
	// Had is whether the person kept this content already, under this name or
	// another, as Known would have said. It never speaks of other people.
	Had bool
}

// What u has of a content: a row at all, and one that is not in the trash.
const holds = `SELECT
  EXISTS (SELECT 1 FROM item WHERE ref = +?1 AND user = +?2) OR EXISTS (SELECT 1 FROM version WHERE ref = +?1 AND user = +?2),
  EXISTS (SELECT 1 FROM item WHERE ref = +?1 AND user = +?2 AND trashed IS NULL) OR EXISTS (SELECT 1 FROM version WHERE ref = +?1 AND user = +?2 AND trashed IS NULL)`

type holding struct{ any, live bool }

func held(tx *db.Tx, u ident.UserID, ref storage.Ref) (h holding, err error) {
	err = tx.QueryRow(holds, ref[:], int64(u)).Scan(&h.any, &h.live)
	return h, err
}

// Fresh bytes bring a content back to life and dispel any doubt about it.
const addBlob = `INSERT INTO blob (ref, sha1, size, added) VALUES (?, ?, ?, ?)
ON CONFLICT (ref) DO UPDATE SET dead = NULL, doubted = NULL, added = excluded.added, verified = NULL WHERE dead IS NOT NULL OR doubted IS NOT NULL`

// Add keeps e in tx. A name that has another content keeps that as a version.
// It fails with problem.Quota when the person's share is used up and with
// problem.Conflict when a folder has that name or a file that of its folder; tx
// must then be undone to the savepoint before.
//
// This is the hot path of every upload. The common case, a new name in a known
// folder, is five statements: blob, item, usage with quota and what the person
// had of the content, change, folders.
func (c *Catalog) Add(tx *db.Tx, e Entry) (Added, error) {
	if _, err := tx.Exec(addBlob, e.Ref[:], e.SHA1[:], e.Size, tx.Sure.UnixMilli()); err != nil {
		return Added{}, err
	}
	if err := setSums(tx, e.Ref, e.Sums); err != nil {
		return Added{}, err
	}
	if err := c.endDamage(tx, e.Ref, EndUpload, ""); err != nil {
		return Added{}, err
	}
	return c.put(tx, e)
}

// ErrUnknown is returned by AddKnown.
var ErrUnknown = errors.New("catalog: the person does not keep this content")

const sizeOfSound = `SELECT size FROM blob WHERE ref = +? AND doubted IS NULL AND dead IS NULL`

// AddKnown is Add for a content that the person keeps already, without its
// bytes: e.Size and e.SHA1 are ignored. It returns ErrUnknown if the person does
// not keep it (see Known) or there is doubt about the stored bytes.
func (c *Catalog) AddKnown(tx *db.Tx, e Entry) (Added, error) {
	h, err := held(tx, e.User, e.Ref)
	if err != nil {
		return Added{}, err
	}
	if !h.live {
		return Added{}, ErrUnknown
	}
	err = tx.QueryRow(sizeOfSound, e.Ref[:]).Scan(&e.Size)
	if errors.Is(err, sql.ErrNoRows) {
		return Added{}, ErrUnknown
	}
	if err != nil {
		return Added{}, err
	}
	return c.put(tx, e)
}

// insertItem does nothing where the folder does not exist yet, the name is
// taken, or the random part of the id met its like.
const insertItem = `INSERT INTO item (id, user, folder, name, ref, size, mtime, added, source, device, source_by, taken, taken_local, taken_from, seq)
SELECT ?1, ?2, f.id, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, g.seq + 1
FROM folder f CROSS JOIN usage g
WHERE f.user = +?2 AND f.path = +?3 AND g.user = +?2
  AND NOT EXISTS (SELECT 1 FROM folder c WHERE c.parent = f.id AND c.name = +?4)
ON CONFLICT DO NOTHING`

func (c *Catalog) put(tx *db.Tx, e Entry) (Added, error) {
	if e.Once {
		old, err := scanItem(tx.QueryRow(itemWithRef, e.Ref[:], int64(e.User)))
		if !errors.Is(err, sql.ErrNoRows) {
			return Added{Item: old, Outcome: Unchanged, Had: true}, err
		}
	}
	if e.Beside {
		var err error
		if e.Path, err = beside(tx, e); err != nil {
			return Added{}, err
		}
	}
	folder, name := split(e.Path)
	now := tx.Now.Truncate(time.Millisecond).UTC()
	it := itemOf(e, now)
	if !e.IfRef.IsZero() {
		if err := mustBe(tx, e, folder, name); err != nil {
			return Added{}, err
		}
	}
	insert := func() (bool, error) {
		it.ID = ident.New[ident.ItemID](now)
		res, err := tx.Exec(insertItem, int64(it.ID), int64(e.User), folder, name, e.Ref[:], e.Size,
			millis(e.MTime), now.UnixMilli(), it.Source, int64(it.Device), it.SourceBy, millis(it.Taken.Time), it.Taken.Local, it.Taken.From)
		if err != nil {
			return false, err
		}
		n, err := res.RowsAffected()
		return n == 1, err
	}
	outcome := Created
	done, err := insert()
	if err == nil && !done {
		outcome, err = c.putSlowly(tx, &it, folder, insert)
	}
	if err != nil {
		return Added{}, err
	}
	if e.IfAbsent && outcome != Created {
		return Added{}, changedMeanwhile("There is a file of that name already.")
	}
	if outcome == Unchanged {
		return Added{Item: it, Outcome: Unchanged, Had: true}, nil
	}
	a := Added{Outcome: outcome}
	items := 0
	if outcome == Created {
		items = 1
	}
	var total, quota int64
	if err := tx.QueryRow(addUsage, int64(e.User), items, e.Size, e.Ref[:], int64(it.ID)).Scan(&it.Seq, &total, &quota, &a.Had); err != nil {
		return Added{}, err
	}
	if err := withinQuota(e.Size, total, quota); err != nil {
		return Added{}, err
	}
	a.Item = it
	return a, c.follow(tx, e.User, it.ID, kindOf(outcome), it.Seq, folder)
}

// itemOf is the item that an entry becomes at a time, but for what the rows give it.
func itemOf(e Entry, now time.Time) Item {
	_, name := split(e.Path)
	it := Item{
		User: e.User, Path: e.Path, Name: name, Ref: e.Ref, Size: e.Size,
		MTime: e.MTime, Added: now, Source: e.Source, SourceBy: e.SourceBy, Taken: e.Taken, Device: e.Device,
	}
	if it.SourceBy == "" {
		it.SourceBy = declared
	}
	if it.Taken.Time.IsZero() {
		it.Taken = Taken{}
	}
	if !it.MTime.IsZero() {
		it.MTime = it.MTime.Truncate(time.Millisecond).UTC()
	}
	return it
}

// addUsage is moveUsage for a row that is in item already: it finds out itself
// whether the content is new to the person, and whether they had it before
// outside the trash.
const addUsage = `UPDATE usage SET items = items + ?2, bytes = bytes + ?3, seq = seq + 1,
  distinct_bytes = distinct_bytes + CASE WHEN
    EXISTS (SELECT 1 FROM item WHERE ref = +?4 AND user = +?1 AND id <> ?5) OR EXISTS (SELECT 1 FROM version WHERE ref = +?4 AND user = +?1)
    THEN 0 ELSE ?3 END
WHERE user = ?1 RETURNING seq, bytes, (SELECT coalesce(quota_bytes, -1) FROM user WHERE id = ?1),
  EXISTS (SELECT 1 FROM item WHERE ref = +?4 AND user = +?1 AND trashed IS NULL AND id <> ?5) OR EXISTS (SELECT 1 FROM version WHERE ref = +?4 AND user = +?1 AND trashed IS NULL)`

func withinQuota(grows, total, quota int64) error {
	if grows > 0 && quota >= 0 && total > quota {
		return overQuota(grows, max(quota-(total-grows), 0), quota)
	}
	return nil
}

const itemWithRef = `SELECT ` + columns + ` FROM item i JOIN folder f ON f.id = i.folder
WHERE i.id = (SELECT min(id) FROM item WHERE ref = +? AND user = +? AND trashed IS NULL)`

// maxBeside is how many names are tried. A folder with a thousand files of one
// name is no place for another one.
const maxBeside = 1000

// beside returns the first path like that of e that is free or has its content.
func beside(tx *db.Tx, e Entry) (string, error) {
	folder, name := split(e.Path)
	for n := range maxBeside {
		try := numbered(name, n+1)
		old, err := scanItem(tx.QueryRow(itemByPath, int64(e.User), folder, try))
		if err == nil && old.Ref != e.Ref {
			continue
		}
		if errors.Is(err, sql.ErrNoRows) {
			if _, _, err = folderIn(tx, e.User, join(folder, try)); err == nil {
				continue
			}
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
		return join(folder, try), nil
	}
	return "", inTheWay("a file", e.Path)
}

func mustBe(tx *db.Tx, e Entry, folder, name string) error {
	old, err := scanItem(tx.QueryRow(itemByPath, int64(e.User), folder, name))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return changedMeanwhile("There is no file of that name any more.")
	case err == nil && old.Ref != e.IfRef:
		return changedMeanwhile("The file has another content by now.")
	}
	return err
}

func changedMeanwhile(detail string) error {
	return &problem.Error{
		Kind: problem.PreconditionFailed, Op: "catalog.add", Detail: detail,
		Hint: "Look at what is there now, then decide again.",
	}
}

func kindOf(o Outcome) Kind {
	if o == Replaced {
		return KindReplaced
	}
	return KindAdded
}

// putSlowly is put where insert did nothing: it makes the folder, replaces what
// has the name, or finds it unchanged.
func (c *Catalog) putSlowly(tx *db.Tx, it *Item, folder string, insert func() (bool, error)) (Outcome, error) {
	id, _, err := makeFolders(tx, it.User, folder)
	if err != nil {
		return "", err
	}
	for range 8 {
		old, err := scanItem(tx.QueryRow(itemByPath, int64(it.User), folder, it.Name))
		switch {
		case err == nil && old.Ref == it.Ref:
			*it = old
			return Unchanged, nil
		case err == nil:
			return Replaced, replace(tx, it, old)
		case !errors.Is(err, sql.ErrNoRows):
			return "", err
		}
		if taken, err := hasFolder(tx, id, it.Name); err != nil || taken {
			if err == nil {
				err = inTheWay("a folder", it.Path)
			}
			return "", err
		}
		if done, err := insert(); err != nil || done {
			return Created, err
		}
	}
	return "", fmt.Errorf("catalog: no free identifier for an item")
}

func inTheWay(what, path string) error {
	return &problem.Error{
		Kind: problem.Conflict, Op: "catalog.name", Title: "The name is taken",
		Detail: fmt.Sprintf("%q is %s already.", path, what),
		Hint:   "Choose another name, or move what is there first.",
	}
}

// replace makes old's current content a version and it the current one.
func replace(tx *db.Tx, it *Item, old Item) error {
	it.ID = old.ID
	if _, err := tx.Exec(`INSERT INTO version (item, seq, user, ref, size, mtime, added, source, source_by, device, replaced)
		SELECT i.id, g.seq + 1, i.user, i.ref, i.size, i.mtime, i.added, i.source, i.source_by, i.device, ?
		FROM item i CROSS JOIN usage g ON g.user = i.user WHERE i.id = +?`, it.Added.UnixMilli(), int64(it.ID)); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE item SET ref = ?, size = ?, mtime = ?, added = ?, source = ?, source_by = ?, taken = ?, taken_local = ?, taken_from = ?, device = ?,
		seq = (SELECT seq + 1 FROM usage g WHERE g.user = item.user) WHERE id = ?`,
		it.Ref[:], it.Size, millis(it.MTime), it.Added.UnixMilli(), it.Source, it.SourceBy, millis(it.Taken.Time), it.Taken.Local, it.Taken.From, int64(it.Device), int64(it.ID))
	return err
}

// delta is how a change moves a person's usage.
type delta struct{ items, bytes, distinct int64 }

const moveUsage = `UPDATE usage SET items = items + ?2, bytes = bytes + ?3, distinct_bytes = distinct_bytes + ?4, seq = seq + 1
WHERE user = ?1 RETURNING seq, bytes, (SELECT coalesce(quota_bytes, -1) FROM user WHERE id = ?1)`

const insertChange = `INSERT INTO change (user, seq, item, kind, time) VALUES (?, ?, ?, ?, ?)`

const moveFolders = `UPDATE folder SET seq = ?1 WHERE user = ?2 AND path IN (SELECT value FROM json_each(?3))`

// touch is the end of every change: it moves the usage of u (within the quota,
// if it grows), writes the change feed and raises the change number of the
// folders and of all above them. The row of u in usage must exist.
func (c *Catalog) touch(tx *db.Tx, u ident.UserID, id ident.ItemID, kind Kind, d delta, folders ...string) (seq int64, err error) {
	var total, quota int64
	if err := tx.QueryRow(moveUsage, int64(u), d.items, d.bytes, d.distinct).Scan(&seq, &total, &quota); err != nil {
		return 0, err
	}
	if err := withinQuota(d.bytes, total, quota); err != nil {
		return 0, err
	}
	return seq, c.follow(tx, u, id, kind, seq, folders...)
}

// follow writes what follows from a change of usage that gave it the number seq.
func (c *Catalog) follow(tx *db.Tx, u ident.UserID, id ident.ItemID, kind Kind, seq int64, folders ...string) error {
	if _, err := tx.Exec(insertChange, int64(u), seq, int64(id), string(kind), tx.Now.UnixMilli()); err != nil {
		return err
	}
	if _, err := tx.Exec(moveFolders, seq, int64(u), chains(folders)); err != nil {
		return err
	}
	tx.AfterCommit(func() { c.announce(u) })
	return nil
}

// chains returns the folders and all above them as a JSON array.
func chains(folders []string) string {
	var list []string
	for _, f := range folders {
		list = append(list, chain(f)...)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(list); err != nil {
		panic(err) // a list of strings can always be encoded
	}
	return b.String()
}
