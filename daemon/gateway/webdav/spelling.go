package webdav

import (
	"net/url"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/ident"
)

// The catalogue knows a name in one spelling, Unicode normal form C, under which all
// spellings of it are found. Clients compare names byte by byte: one that sent the "é"
// of a Mac, two characters, and lists one takes it for another file and sends it again.
// So the spelling in which a name was made is kept beside the dead properties and is
// what listings show, as APFS does. It is a property of no value in a namespace of the
// box's own, which no client sees or sets; its name is the spelling.
const spellingSpace = "urn:yunbox:spelling"

const (
	dropItemSpelling   = `DELETE FROM dav_property AS p WHERE p.item = ? AND p.space = ?`
	dropFolderSpelling = `DELETE FROM dav_property AS p WHERE p.folder = ? AND p.space = ?`
	keepItemSpelling   = `INSERT INTO dav_property (user, item, space, name, xml) VALUES (?, ?, ?, ?, '')`
	keepFolderSpelling = `INSERT INTO dav_property (user, folder, space, name, xml) VALUES (?, ?, ?, ?, '')`
)

// sentPath is the path that u names below prefix as its client wrote it, without the
// slash at its end. u was read by pathOf before.
func sentPath(u *url.URL, prefix string) string {
	p, err := content.Path(u, prefix)
	if err != nil {
		return "" // the root, without its slash
	}
	return strings.TrimSuffix(p, "/")
}

// keepSpelling notes that the name of h, which is name in the catalogue, was written
// as sent, a whole path. It forgets how it was written before.
func keepSpelling(tx *db.Tx, u ident.UserID, h holder, name, sent string) error {
	if _, err := tx.Exec(h.pick(dropItemSpelling, dropFolderSpelling), h.id(), spellingSpace); err != nil {
		return err
	}
	sent = catalog.Base(sent)
	if sent == name || !spells(sent, name) {
		return nil
	}
	_, err := tx.Exec(h.pick(keepItemSpelling, keepFolderSpelling), int64(u), h.id(), spellingSpace, sent)
	return err
}

// spells reports whether s is a spelling of name. That of a file or folder that was
// renamed by another protocol is none any more.
func spells(s, name string) bool {
	clean, err := catalog.CleanPath(s)
	return err == nil && clean == name
}

// spelling takes out of the properties of r how its name was written.
func spelling(r resource, dead []property) (shown string, rest []property) {
	shown = catalog.Base(r.path)
	for _, p := range dead {
		switch {
		case p.name.Space != spellingSpace:
			rest = append(rest, p)
		case spells(p.name.Local, shown):
			shown = p.name.Local
		}
	}
	return shown, rest
}
