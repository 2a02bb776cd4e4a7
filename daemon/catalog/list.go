package catalog

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	defaultLimit = 200
	// MaxLimit is the most entries of one page.
	MaxLimit = 1000
)

// Query selects what List returns.
type Query struct {
	// Folder is listed, folders first, both by name; "" is the root.
	Folder string
	// Recursive lists the items (not the folders) of Folder and all below it,
	// folder by folder in the order of their paths.
	Recursive bool
	// Trash lists the trash instead, newest first; Folder and Recursive are
	// ignored.
	Trash bool
	// Source keeps only items of that source. With Recursive and the root it is
	// quick for any number of items, and the newest come first.
	Source string
	// Limit is the most entries of a page: 0 means 200, MaxLimit at most.
	Limit int
	// Cursor is the Next of the page before, "" for the first.
	Cursor string
}

// Page is a part of a listing. Only an empty Next says that it is the last: with
// Source a page may hold fewer entries than there are, or none.
type Page struct {
	Folders []Folder
	Items   []Item
	Next    string
}

// Every listing goes by an index from where the page before ended.
const (
	listFolders = `SELECT ` + folderColumns + ` FROM folder f LEFT JOIN change c ON c.user = f.user AND c.seq = f.seq
WHERE f.parent = +? AND f.name > ? ORDER BY f.name LIMIT +?`

	listItems = `SELECT ` + columns + ` FROM folder f CROSS JOIN item i ON i.folder = f.id
WHERE f.user = +? AND f.path = +? AND i.name > ? ORDER BY i.name LIMIT +?`

	listTree = `SELECT ` + columns + ` FROM folder f CROSS JOIN item i ON i.folder = f.id
WHERE f.user = +? AND f.path > ? AND f.path < ? ORDER BY f.path, i.name LIMIT +?`

	listAll = `SELECT ` + columns + ` FROM folder f CROSS JOIN item i ON i.folder = f.id
WHERE f.user = +? AND f.path > ? ORDER BY f.path, i.name LIMIT +?`

	listSource = `SELECT ` + columns + ` FROM item i JOIN folder f ON f.id = i.folder
WHERE i.user = +? AND i.source = +? AND i.folder IS NOT NULL AND i.id < ? ORDER BY i.id DESC LIMIT +?`

	listSourceUp = `SELECT ` + columns + ` FROM item i JOIN folder f ON f.id = i.folder
WHERE i.user = +? AND i.source = +? AND i.folder IS NOT NULL AND i.id > ? ORDER BY i.id LIMIT +?`

	listTrash = `SELECT ` + columns + ` FROM item i LEFT JOIN folder f ON f.id = i.folder
WHERE i.user = +? AND i.trashed IS NOT NULL AND (i.trashed, i.id) < (?, ?) ORDER BY i.trashed DESC, i.id DESC LIMIT +?`
)

// Listing is a query that a page or a phone can cause, with arguments of the
// right types.
type Listing struct {
	Name string
	SQL  string
	Args []any
}

// Listings returns every listing query, for the test of query plans.
func Listings() []Listing {
	ref := make([]byte, 32)
	return []Listing{
		{"folders", listFolders, []any{1, "a", 10}},
		{"items", listItems, []any{1, "a", "b", 10}},
		{"tree", listTree, []any{1, "a/", "a0", 10}},
		{"all", listAll, []any{1, "a", 10}},
		{"source", listSource, []any{1, "album", 1, 10}},
		{"source, oldest first", listSourceUp, []any{1, "album", 1, 10}},
		{"trash", listTrash, []any{1, 1, 1, 10}},
		{"versions", versionsOf, []any{1, 1, 10}},
		{"changes", listChanges, []any{1, 1, 10}},
		{"ledger", listLedger, []any{1, 1, 1, 10}},
		{"ledger of trouble", listTrouble, []any{1, 1, 1, "failed", 10}},
		{"ledger of an outcome", listOutcome, []any{1, 1, 1, "known", 10}},
		{"nameless offer", lastNameless, []any{1, 1, "quota", "a"}},
		{"offer", insertOffer, []any{1, 1, 1, "a", nil, 1, "stored", "", 1, ""}},
		{"drop offers", dropOffers, []any{1, 1, 1}},
		{"blobs", listBlobs, []any{ref, 10}},
		{"dead", listDead, []any{10}},
		{"damage", listOpenDamage, []any{ref, 10}},
		{"record of damage", listDamage, []any{1, 10}},
		{"damaged files", listDamagedFiles, []any{1, 10}},
		{"damaged of a person", countDamagedOf, []any{1}},
		{"keepers", keepersOf, []any{ref}},
		{"relied", reliedByRef, []any{ref}},
		{"stale", listStale, []any{ref, ref, 1, 1, 10}},
		{"stale total", sumStale, []any{ref, ref, 1, 1}},
		{"oldest", oldestInShard, []any{ref, ref, 1}},
		{"known", listKnown, []any{"[]", 1}},
		{"deleted", listDeleted, []any{"[]", 1, 1}},
		{"deleted by SHA-1", listDeletedSHA1, []any{"[]", 1, 1}},
		{"deleted newest", newestInTrash, []any{ref, 1}},
		{"deleted one", deletedSince, []any{ref, 1}},
		{"holdings", listHoldings, []any{"[]", 1}},
		{"known by SHA-1", listKnownSHA1, []any{"[]", 1}},
		{"SHA-1s", listSHA1, []any{"[]"}},
		{"next source", nextSource, []any{1, ""}},
		{"names", listNames, []any{1}},
		{"counts", listCounts, []any{"[]", 1}},
		{"folder by number", folderByID, []any{1, 1}},
		{"item with content", itemWithRef, []any{ref, 1}},
		{"every item", itemsAfter, []any{1, 10}},
		{"items by id", itemsByID, []any{"[]"}},
		{"live with content", liveWithRef, []any{ref}},
		{"purged", purgedSince, []any{1, 1, 10}},
		{"live", liveByRef, []any{ref}},
		{"item by id", itemByID, []any{1, 1}},
		{"item by path", itemByPath, []any{1, "a", "b"}},
		{"folder by path", folderByPath, []any{1, "a"}},
		{"folder entry", folderEntry, []any{1, "a"}},
		{"folders below", foldersBelow, []any{1, "a/", "a0", 10}},
		{"tree size", treeSize, []any{1, "a", "a/", "a0"}},
		{"child folder", childFolder, []any{1, "a"}},
		{"erase live files of a source", someLiveOf, []any{1, 10, `["album"]`}},
		{"erase versions of a source", someVersionsOf, []any{1, 10, `["album"]`}},
		{"nothing in a folder", nothingIn, []any{1}},
		{"erase offers", someOffers, []any{1, 10}},
		{"erase old offers", someOffersUntil, []any{1, 10, 5}},
		{"erase offers of what is gone", someOffersLost, []any{1, 10}},
		{"count offers of a source", countOffersOf, []any{1, `["album"]`}},
		{"item named", itemNamed, []any{1, "a"}},
		{"items below", itemsBelow, []any{1, "a", "a/", "a0", 10}},
		{"longest below", longestBelow, []any{1, "a", "a/", "a0"}},
		{"insert item", insertItem, []any{1, 1, "a", "b", ref, 1, 1, 1, "album", 1, "declared", nil, false, ""}},
		{"holds", holds, []any{ref, 1}},
		{"dead mark", markDead, []any{ref, 1}},
		{"usage", usageOf, []any{1}},
		{"add usage", addUsage, []any{1, 1, 1, ref, 1}},
		{"move usage", moveUsage, []any{1, 1, 1, 1}},
		{"move folders", moveFolders, []any{1, 1, "[]"}},
		{"new names", newNamesOf, slices.Repeat([]any{1}, newNamesUser)},
		{"insert offers", insertOffers, slices.Repeat([]any{1}, 4+5*Together)},
	}
}

// List returns a page of u's items. A folder that does not exist is NotFound.
func (c *Catalog) List(ctx context.Context, u ident.UserID, q Query) (p Page, err error) {
	if q.Folder, err = CleanFolder(q.Folder); err != nil {
		return Page{}, err
	}
	switch {
	case q.Limit <= 0:
		q.Limit = defaultLimit
	case q.Limit > MaxLimit:
		q.Limit = MaxLimit
	}
	at, err := parseCursor(q.Cursor)
	if err != nil {
		return Page{}, err
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		l := lister{ctx: ctx, tx: tx, u: u, q: q}
		switch {
		case q.Trash:
			p, err = l.trash(at)
		case q.Recursive && q.Folder == "" && q.Source != "":
			p, err = l.source(at)
		case q.Recursive:
			p, err = l.tree(at)
		default:
			p, err = l.folder(at)
		}
		return err
	})
	return p, err
}

type lister struct {
	ctx context.Context
	tx  *db.Tx
	u   ident.UserID
	q   Query
}

func (l *lister) trash(at cursor) (Page, error) {
	when, id := int64(1<<62), int64(1<<62)
	if at.kind != "" {
		var err1, err2 error
		when, err1 = strconv.ParseInt(at.a, 10, 64)
		id, err2 = strconv.ParseInt(at.b, 10, 64)
		if at.kind != "t" || err1 != nil || err2 != nil {
			return Page{}, errCursor()
		}
	}
	return l.page(func(last Item) cursor {
		return cursor{"t", strconv.FormatInt(last.Trashed.UnixMilli(), 10), strconv.FormatInt(int64(last.ID), 10)}
	}, listTrash, int64(l.u), when, id, l.q.Limit+1)
}

func (l *lister) source(at cursor) (Page, error) {
	before := int64(1<<63 - 1)
	if at.kind != "" {
		var err error
		if before, err = strconv.ParseInt(at.a, 10, 64); at.kind != "s" || err != nil {
			return Page{}, errCursor()
		}
	}
	return l.page(func(last Item) cursor {
		return cursor{"s", strconv.FormatInt(int64(last.ID), 10), ""}
	}, listSource, int64(l.u), l.q.Source, before, l.q.Limit+1)
}

// page runs a query whose last argument is one more than the limit, to learn
// whether anything follows.
func (l *lister) page(next func(last Item) cursor, query string, args ...any) (Page, error) {
	items, err := scanItems(l.tx.QueryContext(l.ctx, query, args...))
	return l.cut(items, next), err
}

func (l *lister) cut(items []Item, next func(last Item) cursor) (p Page) {
	if len(items) > l.q.Limit {
		items = items[:l.q.Limit]
		p.Next = next(items[len(items)-1]).String()
	}
	if l.q.Source == "" {
		p.Items = items
		return p
	}
	for _, it := range items {
		if it.Source == l.q.Source {
			p.Items = append(p.Items, it)
		}
	}
	return p
}

// tree lists the rest of the folder that the page before ended in, then the
// folders after it.
func (l *lister) tree(at cursor) (Page, error) {
	if at.kind == "" {
		if _, err := l.mustExist(); err != nil {
			return Page{}, err
		}
		at = cursor{"r", l.q.Folder, ""}
	}
	if at.kind != "r" || at.a != l.q.Folder && l.q.Folder != "" && !strings.HasPrefix(at.a, l.q.Folder+"/") {
		return Page{}, errCursor()
	}
	items, err := scanItems(l.tx.QueryContext(l.ctx, listItems, int64(l.u), at.a, at.b, l.q.Limit+1))
	if err != nil {
		return Page{}, err
	}
	if need := l.q.Limit + 1 - len(items); need > 0 {
		var more []Item
		if l.q.Folder == "" {
			more, err = scanItems(l.tx.QueryContext(l.ctx, listAll, int64(l.u), at.a, need))
		} else {
			lo, hi := below(l.q.Folder)
			more, err = scanItems(l.tx.QueryContext(l.ctx, listTree, int64(l.u), max(lo, at.a), hi, need))
		}
		if err != nil {
			return Page{}, err
		}
		items = append(items, more...)
	}
	return l.cut(items, func(last Item) cursor {
		folder, name := split(last.Path)
		return cursor{"r", folder, name}
	}), nil
}

func (l *lister) mustExist() (id int64, err error) {
	id, _, err = folderIn(l.tx, l.u, l.q.Folder)
	if errors.Is(err, sql.ErrNoRows) {
		if l.q.Folder == "" {
			return 0, nil // the root of somebody who keeps nothing yet
		}
		return 0, notFound("catalog.list", "folder")
	}
	return id, err
}

func (l *lister) folder(at cursor) (p Page, err error) {
	id, err := l.mustExist()
	if err != nil {
		return Page{}, err
	}
	left := l.q.Limit + 1
	if at.kind == "" || at.kind == "f" {
		if p.Folders, err = l.folders(id, at.a, left); err != nil {
			return Page{}, err
		}
		if len(p.Folders) == left {
			p.Folders = p.Folders[:l.q.Limit]
			p.Next = cursor{"f", p.Folders[l.q.Limit-1].Name, ""}.String()
			return p, nil
		}
		left -= len(p.Folders)
		at = cursor{kind: "i"}
	}
	if at.kind != "i" {
		return Page{}, errCursor()
	}
	items, err := scanItems(l.tx.QueryContext(l.ctx, listItems, int64(l.u), l.q.Folder, at.a, left))
	if err != nil {
		return Page{}, err
	}
	if len(items) == left && left == 1 { // the page is full of folders
		p.Next = cursor{"i", "", ""}.String()
		return p, nil
	}
	l.q.Limit = left - 1
	rest := l.cut(items, func(last Item) cursor { return cursor{"i", last.Name, ""} })
	p.Items, p.Next = rest.Items, rest.Next
	return p, nil
}

func (l *lister) folders(parent int64, after string, limit int) (list []Folder, err error) {
	return scanFolders(l.tx.QueryContext(l.ctx, listFolders, parent, after, limit))
}

// scanItems reads and closes rows; it takes the error of the query that made
// them, so that one can be called on the other.
func scanItems(rows *sql.Rows, err error) ([]Item, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Item
	for rows.Next() {
		it, err := scanItem(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, it)
	}
	return list, rows.Err()
}

// A cursor says where a page ended: by values, not by counting, so that what
// comes and goes between two pages neither repeats nor skips anything else.
type cursor struct{ kind, a, b string }

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.kind + "\x00" + c.a + "\x00" + c.b))
}

func parseCursor(s string) (cursor, error) {
	if s == "" {
		return cursor{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return cursor{}, errCursor()
	}
	parts := strings.Split(string(b), "\x00")
	if len(parts) != 3 || parts[0] == "" {
		return cursor{}, errCursor()
	}
	return cursor{parts[0], parts[1], parts[2]}, nil
}

func errCursor() error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "catalog.list", Title: "This is not a place in the list",
		Detail: "The cursor is not one that this listing gave.", Hint: "Begin again without a cursor.",
	}
}
