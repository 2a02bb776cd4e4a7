// Package catalog is the record of what the box keeps, whose it is, and under
// which name.
//
// A person has folders and items. An item is a name with its current content;
// contents that a name had before are kept as its versions; a deleted item lies
// in the trash until it is purged. Contents are named by storage.Ref and shared
// silently: two people who keep the same photo have two items and one blob, and
// neither learns of the other.
//
// Every change happens in one transaction that also moves the person's usage,
// the change number of every folder above it, and the change feed, so those can
// never disagree with the rows. The catalogue never touches a file: what lost
// its last row is found by Dead and removed later, outside any transaction.
package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Catalog is the catalogue of one box. It is safe for concurrent use.
type Catalog struct {
	db    *db.DB
	audit *audit.Log
	hurt  atomic.Bool // there was an open damage since Open

	died    chan struct{} // holds a token when a content lost its last row
	stirred chan struct{} // see Stirred
	offers  atomic.Uint64

	mu      sync.Mutex
	changed map[ident.UserID]chan struct{} // of people whom somebody watches
}

// Open returns the catalogue in d, whose schema holds its tables.
func Open(ctx context.Context, d *db.DB) (*Catalog, error) {
	c := &Catalog{db: d, died: make(chan struct{}, 1), stirred: make(chan struct{}, 1), changed: map[ident.UserID]chan struct{}{}, audit: audit.New(d)}
	if _, err := c.Totals(ctx); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	damages, err := c.DamageTotals(ctx)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	c.hurt.Store(damages.Open > 0)
	return c, nil
}

// Item is a name and its content.
type Item struct {
	ID     ident.ItemID
	User   ident.UserID
	Path   string // in the trash: where it was
	Name   string // the last part of Path
	Ref    storage.Ref
	Size   int64     // bytes
	MTime  time.Time // when the content was made, as its sender said; zero: not said
	Added  time.Time // when the box took it
	Source string    // "album", "wechat", …
	// SourceBy says how Source is known: declared, folder, name, guess, none.
	SourceBy string
	Taken    Taken
	Device   ident.DeviceID
	Trashed  time.Time // zero: live
	Seq      int64     // the person's change number when it last changed
}

// Taken is when a picture was taken.
type Taken struct {
	Time  time.Time // zero: not known
	Local bool      // Time is a clock's time of an unknown zone, written as if it were UTC
	From  string    // what says so: "name", the file's name; "" if it is not known
}

// Version is what an item held before it was replaced.
type Version struct {
	Ref      storage.Ref
	Size     int64
	MTime    time.Time
	Added    time.Time
	Replaced time.Time
	Source   string
	SourceBy string // as of Item
	Device   ident.DeviceID
}

// Folder is a folder of a person.
type Folder struct {
	ID      int64 // stays when the folder moves; 0: the root of somebody who keeps nothing
	Path    string
	Name    string
	Seq     int64     // rises with every change in the folder or below it
	Changed time.Time // when that was; zero: not known
}

// Usage is what a person keeps.
type Usage struct {
	Items    int64 // live items
	Bytes    int64 // of live items, their versions and the trash: what the quota limits
	Distinct int64 // the same with each content counted once
	Quota    int64 // bytes, -1 for no limit
	Seq      int64 // the newest change
}

// Totals is what the box keeps.
type Totals struct {
	Users         int64 // people who keep or kept something
	Items         int64 // live items of all
	LogicalBytes  int64 // the sum of everybody's Usage.Bytes
	Blobs         int64 // contents on the disk
	PhysicalBytes int64 // their bytes
}

// The queries of this package write `= +?` and `LIMIT +?` on purpose. For a bare
// parameter in a join, or with ORDER BY or max, SQLite's planner notes that
// another value might deserve another plan; the driver clears all parameters
// after each use, and so the cached statement would be parsed anew every time.
// The plus hides the parameter from the planner and changes nothing else.

// columns of an item, for scanItem. They need item as i and its folder as f.
const columns = `i.id, i.user, coalesce(f.path, i.origin), i.name, i.ref, i.size, i.mtime, i.added, i.source, i.source_by, i.taken, i.taken_local, i.taken_from, i.device, i.trashed, i.seq`

type row interface{ Scan(dest ...any) error }

func scanItem(r row) (Item, error) {
	var it Item
	var folder string
	var ref []byte
	var mtime, taken, trashed sql.NullInt64
	var added int64
	if err := r.Scan(&it.ID, &it.User, &folder, &it.Name, &ref, &it.Size, &mtime, &added, &it.Source, &it.SourceBy, &taken, &it.Taken.Local, &it.Taken.From, &it.Device, &trashed, &it.Seq); err != nil {
		return Item{}, err
	}
	copy(it.Ref[:], ref)
	it.Path = join(folder, it.Name)
	it.MTime, it.Trashed, it.Added = fromMillis(mtime), fromMillis(trashed), time.UnixMilli(added).UTC()
	it.Taken.Time = fromMillis(taken)
	return it, nil
}

func fromMillis(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMilli(n.Int64).UTC()
}

// millis is what a time is stored as; the zero time is NULL.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func notFound(op, what string) error {
	return &problem.Error{
		Kind: problem.NotFound, Op: op,
		Detail: "There is no " + what + " of that name among your files.",
		Hint:   "It may have been renamed or deleted meanwhile: list the folder again.",
	}
}

const itemByID = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder WHERE i.id = +? AND i.user = +?`

func itemIn(tx *db.Tx, op string, u ident.UserID, id ident.ItemID) (Item, error) {
	it, err := scanItem(tx.QueryRow(itemByID, int64(id), int64(u)))
	if errors.Is(err, sql.ErrNoRows) {
		return Item{}, notFound(op, "item")
	}
	return it, err
}

// Item returns an item of u, live or in the trash. Another person's item is
// NotFound like one that does not exist.
func (c *Catalog) Item(ctx context.Context, u ident.UserID, id ident.ItemID) (it Item, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		it, err = itemIn(tx, "catalog.item", u, id)
		return err
	})
	return it, err
}

const itemByPath = `SELECT ` + columns + ` FROM folder f CROSS JOIN item i ON i.folder = f.id WHERE f.user = +? AND f.path = +? AND i.name = +?`

// Lookup returns the live item of u at path, which need not be clean.
func (c *Catalog) Lookup(ctx context.Context, u ident.UserID, path string) (it Item, err error) {
	path, err = CleanPath(path)
	if err != nil {
		return Item{}, err
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		it, err = c.LookupIn(tx, u, path)
		return err
	})
	return it, err
}

// LookupIn is Lookup as of tx, of a clean path.
func (c *Catalog) LookupIn(tx *db.Tx, u ident.UserID, path string) (Item, error) {
	folder, name := split(path)
	it, err := scanItem(tx.QueryRow(itemByPath, int64(u), folder, name))
	if errors.Is(err, sql.ErrNoRows) {
		return Item{}, notFound("catalog.lookup", "file")
	}
	return it, err
}

// maxVersions is how many versions Versions returns.
const maxVersions = 1000

const versionsOf = `SELECT ref, size, mtime, added, replaced, source, source_by, device FROM version WHERE item = +? AND user = +? ORDER BY seq DESC LIMIT +?`

// Versions returns what an item of u held before, newest first, a thousand at
// most. All of them are kept until the item is purged.
func (c *Catalog) Versions(ctx context.Context, u ident.UserID, id ident.ItemID) (list []Version, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		if _, err := itemIn(tx, "catalog.versions", u, id); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, versionsOf, int64(id), int64(u), maxVersions)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v Version
			var ref []byte
			var mtime sql.NullInt64
			var added, replaced int64
			if err := rows.Scan(&ref, &v.Size, &mtime, &added, &replaced, &v.Source, &v.SourceBy, &v.Device); err != nil {
				return err
			}
			copy(v.Ref[:], ref)
			v.MTime, v.Added, v.Replaced = fromMillis(mtime), time.UnixMilli(added).UTC(), time.UnixMilli(replaced).UTC()
			list = append(list, v)
		}
		return rows.Err()
	})
	return list, err
}

const usageOf = `SELECT coalesce(g.items, 0), coalesce(g.bytes, 0), coalesce(g.distinct_bytes, 0), coalesce(g.seq, 0), coalesce(p.quota_bytes, -1)
FROM user p LEFT JOIN usage g ON g.user = p.id WHERE p.id = +?`

// UsageIn is Usage as of tx.
func (c *Catalog) UsageIn(tx *db.Tx, u ident.UserID) (Usage, error) {
	var g Usage
	err := tx.QueryRow(usageOf, int64(u)).Scan(&g.Items, &g.Bytes, &g.Distinct, &g.Seq, &g.Quota)
	if errors.Is(err, sql.ErrNoRows) {
		return Usage{}, notFound("catalog.usage", "person")
	}
	return g, err
}

// Usage returns what u keeps.
func (c *Catalog) Usage(ctx context.Context, u ident.UserID) (g Usage, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		g, err = c.UsageIn(tx, u)
		return err
	})
	return g, err
}

// Room fails with problem.Quota if there is none for add more bytes.
func (g Usage) Room(add int64) error {
	if left := g.Quota - g.Bytes; g.Quota >= 0 && add > left {
		return overQuota(add, max(left, 0), g.Quota)
	}
	return nil
}

// CheckQuota fails with problem.Quota if u may not keep add more bytes.
func (c *Catalog) CheckQuota(tx *db.Tx, u ident.UserID, add int64) error {
	g, err := c.UsageIn(tx, u)
	if err != nil {
		return err
	}
	return g.Room(add)
}

func overQuota(need, left, quota int64) error {
	return &problem.Error{
		Kind: problem.Quota, Op: "catalog.quota",
		Detail:  fmt.Sprintf("%s are needed, %s of %s are left.", problem.Bytes(need), problem.Bytes(left), problem.Bytes(quota)),
		Hint:    "Nothing was lost: the device keeps the file. Empty the trash, or ask whoever manages the box for a larger share.",
		Members: map[string]any{"needed": need, "left": left, "quota": quota},
	}
}

// Totals returns what the box keeps.
func (c *Catalog) Totals(ctx context.Context) (t Totals, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		// usage has one row per person, blob_total has one row.
		return tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(g.items), 0), coalesce(sum(g.bytes), 0),
			(SELECT blobs FROM blob_total), (SELECT bytes FROM blob_total) FROM usage g`).
			Scan(&t.Users, &t.Items, &t.LogicalBytes, &t.Blobs, &t.PhysicalBytes)
	})
	return t, err
}
