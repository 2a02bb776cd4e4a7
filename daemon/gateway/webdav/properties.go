package webdav

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	// maxProperties and maxPropertyBytes bound what clients keep on one file or
	// folder, maxPersonBytes what they keep for one person.
	maxProperties    = 64
	maxPropertyBytes = 16 << 10
	maxPersonBytes   = 64 << 20
)

// A holder is a file or a folder, by its row.
type holder struct {
	item   ident.ItemID
	folder int64
}

func (r resource) holder() holder { return holder{r.item.ID, r.folder.ID} }

// id is what the column of h is compared with; the other column is NULL.
func (h holder) id() int64 {
	if h.item != 0 {
		return int64(h.item)
	}
	return h.folder
}

// A property is a dead one: its name, and the whole element as it was sent.
type property struct {
	name xml.Name
	xml  string
}

// Queries of dead properties, of items and of folders.
const (
	itemProperties = `SELECT p.item, p.space, p.name, p.xml FROM dav_property p
WHERE p.item IN (SELECT value FROM json_each(?)) ORDER BY p.item, p.space, p.name`

	folderProperties = `SELECT p.folder, p.space, p.name, p.xml FROM dav_property p
WHERE p.folder IN (SELECT value FROM json_each(?)) ORDER BY p.folder, p.space, p.name`

	dropItemProperty   = `DELETE FROM dav_property AS p WHERE p.item = ? AND p.space = ? AND p.name = ?`
	dropFolderProperty = `DELETE FROM dav_property AS p WHERE p.folder = ? AND p.space = ? AND p.name = ?`

	itemUse   = `SELECT count(*), coalesce(sum(octet_length(p.xml)), 0) FROM dav_property p WHERE p.item = ?`
	folderUse = `SELECT count(*), coalesce(sum(octet_length(p.xml)), 0) FROM dav_property p WHERE p.folder = ?`

	personUse = `SELECT coalesce((SELECT bytes FROM dav_usage WHERE user = ?), 0)`

	copyItemProperties = `INSERT INTO dav_property (user, item, space, name, xml)
SELECT p.user, ?2, p.space, p.name, p.xml FROM dav_property p WHERE p.item = +?1`
	copyFolderProperties = `INSERT INTO dav_property (user, folder, space, name, xml)
SELECT p.user, ?2, p.space, p.name, p.xml FROM dav_property p WHERE p.folder = +?1`

	clearItem   = `DELETE FROM dav_property AS p WHERE p.item = ?`
	clearFolder = `DELETE FROM dav_property AS p WHERE p.folder = ?`
)

// pick returns the query for what h is.
func (h holder) pick(ofItem, ofFolder string) string {
	if h.item != 0 {
		return ofItem
	}
	return ofFolder
}

// deadProperties returns the dead properties of each of a page of resources.
func deadProperties(tx *db.Tx, page []resource) (map[holder][]property, error) {
	items, folders := []byte("["), []byte("[")
	add := func(list []byte, id int64) []byte {
		if len(list) > 1 {
			list = append(list, ',')
		}
		return strconv.AppendInt(list, id, 10)
	}
	for _, r := range page {
		switch r.kind {
		case file:
			items = add(items, int64(r.item.ID))
		case folder:
			folders = add(folders, r.folder.ID)
		}
	}
	found := map[holder][]property{}
	for _, q := range []struct {
		query string
		ids   []byte
		of    func(int64) holder
	}{
		{itemProperties, items, func(id int64) holder { return holder{item: ident.ItemID(id)} }},
		{folderProperties, folders, func(id int64) holder { return holder{folder: id} }},
	} {
		if len(q.ids) == 1 {
			continue
		}
		rows, err := tx.Query(q.query, string(append(q.ids, ']')))
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id int64
			var p property
			if err := rows.Scan(&id, &p.name.Space, &p.name.Local, &p.xml); err != nil {
				rows.Close()
				return nil, err
			}
			found[q.of(id)] = append(found[q.of(id)], p)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		rows.Close()
	}
	return found, nil
}

// setProperty keeps p on h, in the place of one of the same name; nil of xml
// removes that.
func setProperty(tx *db.Tx, u ident.UserID, h holder, p property) error {
	if _, err := tx.Exec(h.pick(dropItemProperty, dropFolderProperty), h.id(), p.name.Space, p.name.Local); err != nil || p.xml == "" {
		return err
	}
	var item, folder any
	if h.item != 0 {
		item = int64(h.item)
	} else {
		folder = h.folder
	}
	if _, err := tx.Exec(`INSERT INTO dav_property (user, item, folder, space, name, xml) VALUES (?, ?, ?, ?, ?, ?)`,
		int64(u), item, folder, p.name.Space, p.name.Local, p.xml); err != nil {
		return err
	}
	return withinBounds(tx, u, h)
}

func withinBounds(tx *db.Tx, u ident.UserID, h holder) error {
	var n, bytes, all int64
	if err := tx.QueryRow(h.pick(itemUse, folderUse), h.id()).Scan(&n, &bytes); err != nil {
		return err
	}
	if err := tx.QueryRow(personUse, int64(u)).Scan(&all); err != nil {
		return err
	}
	if n <= maxProperties && bytes <= maxPropertyBytes && all <= maxPersonBytes {
		return nil
	}
	return &problem.Error{
		Kind: problem.Quota, Op: "webdav.properties", Title: "Too many properties are kept",
		Detail: "A file or folder may have 64 properties of 16 KiB in all, and a person 64 MiB of them.", Hint: "Remove some of them first.",
	}
}

// copyProperties gives to the properties of from, and no others (RFC 4918 §9.8.2).
func copyProperties(tx *db.Tx, u ident.UserID, from, to holder) error {
	if from == to {
		return nil
	}
	if _, err := tx.Exec(to.pick(clearItem, clearFolder), to.id()); err != nil {
		return err
	}
	res, err := tx.Exec(to.pick(copyItemProperties, copyFolderProperties), from.id(), to.id())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return withinBounds(tx, u, to)
}

// liveNames are the properties that the box knows by itself (RFC 4918 §15), as far
// as they are told to whoever asks for all. The quota has to be asked for by name
// (RFC 4331 §3).
func liveNames() []string {
	return []string{
		"creationdate", "displayname", "getcontentlength", "getcontenttype", "getetag", "getlastmodified",
		"lockdiscovery", "resourcetype", "supportedlock",
	}
}

// isLive reports whether the box decides about a property, so that no client can
// set it.
func isLive(n xml.Name) bool {
	if n.Space != dav {
		return false
	}
	switch n.Local {
	case "creationdate", "displayname", "getcontentlength", "getcontenttype", "getetag", "getlastmodified",
		"lockdiscovery", "resourcetype", "supportedlock", "quota-available-bytes", "quota-used-bytes":
		return true
	}
	return false
}

// windows is the namespace of the properties that Windows keeps.
const windows = "urn:schemas-microsoft-com:"

// isMTime reports whether clients set the modification time of a file by that
// property: Windows, and others the one of RFC 4918 although it forbids that.
func isMTime(n xml.Name) bool {
	switch n {
	case xml.Name{Space: dav, Local: "getlastmodified"}, xml.Name{Space: dav, Local: "lastmodified"},
		xml.Name{Space: windows, Local: "Win32LastModifiedTime"}:
		return true
	}
	return false
}

// A share is how much room a person has, for RFC 4331.
type share struct{ used, available int64 }

// An entry is a resource with all that can be asked of it.
type entry struct {
	resource
	prefix string // of its address
	shown  string // its path as it is shown
	name   string // of the root; "": that of the resource
	locks  []lock
	dead   []property
	share  *share // nil: nobody asked
	now    time.Time
}

const supportedLocks = `<d:lockentry><d:lockscope><d:exclusive/></d:lockscope><d:locktype><d:write/></d:locktype></d:lockentry>` +
	`<d:lockentry><d:lockscope><d:shared/></d:lockscope><d:locktype><d:write/></d:locktype></d:lockentry>`

// live returns the value of a live property as XML.
func (e *entry) live(name string) (value string, ok bool) {
	isFile := e.kind == file
	switch name {
	case "creationdate":
		return e.item.Added.UTC().Format(time.RFC3339), isFile
	case "displayname":
		if e.name != "" {
			return escaped(e.name), true
		}
		return escaped(catalog.Base(e.shown)), true
	case "getcontentlength":
		return strconv.FormatInt(e.item.Size, 10), isFile
	case "getcontenttype":
		return content.Type(e.item.Name), isFile
	case "getetag":
		return escaped(e.etag()), true
	case "getlastmodified":
		t := e.folder.Changed
		if isFile {
			t = e.item.MTime
		}
		return t.UTC().Format(http.TimeFormat), !t.IsZero()
	case "lockdiscovery":
		return activeLocks(e.prefix, e.locks, e.now), true
	case "resourcetype":
		if isFile {
			return "", true
		}
		return "<d:collection/>", true
	case "supportedlock":
		return supportedLocks, true
	case "quota-available-bytes":
		if isFile || e.share == nil {
			return "", false
		}
		return strconv.FormatInt(e.share.available, 10), true
	case "quota-used-bytes":
		if isFile || e.share == nil {
			return "", false
		}
		return strconv.FormatInt(e.share.used, 10), true
	}
	return "", false
}

// folderETag is the entity tag of a folder with that change number.
func folderETag(seq int64) string { return `"d` + strconv.FormatInt(seq, 10) + `"` }
