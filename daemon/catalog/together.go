package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Together is how many entries AddTogether takes at once. Sixteen cost hardly less for
// each, and eight are reached more often.
const Together = 8

// AddTogether is Add for exactly Together entries of one person and one device, and Offer
// for each, by a seventh of the statements. It takes them only if each is what nearly all
// are: a new name in a folder that exists, with a content that the person never had and
// that has no sums to keep. So IfAbsent, Beside and Once hold by themselves. If one is
// anything else it says false, and has changed nothing. After an error, which may be
// problem.Quota although some of them had room, tx must be undone.
func (c *Catalog) AddTogether(tx *db.Tx, entries []Entry) (added []Added, ok bool, err error) {
	if c.hurt.Load() || len(entries) != Together || !distinct(entries) {
		return nil, false, nil
	}
	first, now := entries[0], tx.Now.Truncate(time.Millisecond).UTC()
	ids := make([]ident.ItemID, len(entries))
	for i := range ids {
		ids[i] = ident.New[ident.ItemID](now)
	}
	folders, ok, err := newNames(tx, entries, ids)
	if err != nil || !ok {
		return nil, false, err
	}
	var size int64
	blobs := make([]any, 0, 4*Together)
	for i := range entries {
		e := &entries[i]
		size += e.Size
		blobs = append(blobs, e.Ref[:], e.SHA1[:], e.Size, tx.Sure.UnixMilli())
	}
	if _, err := tx.Exec(addBlobs, blobs...); err != nil {
		return nil, false, err
	}
	var last, total, quota int64
	if err := tx.QueryRow(moveUsageTogether, int64(first.User), Together, size).Scan(&last, &total, &quota); err != nil {
		return nil, false, err
	}
	if err := withinQuota(size, total, quota); err != nil {
		return nil, false, err
	}
	added = make([]Added, 0, Together)
	items, changes := make([]any, 0, 15*Together), make([]any, 0, 5*Together)
	offers := append(make([]any, 0, 4+5*Together), int64(first.User), int64(first.Device), tx.Now.UnixMilli(), OfferStored)
	for i := range entries {
		e := &entries[i]
		it := itemOf(*e, now)
		it.ID, it.Seq = ids[i], last-Together+1+int64(i)
		items = append(items, int64(it.ID), int64(e.User), folders[i], it.Name, e.Ref[:], e.Size, millis(e.MTime), now.UnixMilli(),
			it.Source, int64(it.Device), it.SourceBy, millis(it.Taken.Time), it.Taken.Local, it.Taken.From, it.Seq)
		changes = append(changes, int64(e.User), it.Seq, int64(it.ID), string(KindAdded), tx.Now.UnixMilli())
		offers = append(offers, i+1, e.Path, e.Ref[:], e.Size, int64(it.ID))
		added = append(added, Added{Item: it, Outcome: Created})
	}
	if _, err := tx.Exec(insertItems, items...); err != nil {
		return nil, false, err
	}
	if _, err := tx.Exec(insertChanges, changes...); err != nil {
		return nil, false, err
	}
	for i := range entries {
		folder, _ := split(entries[i].Path)
		if later := slices.ContainsFunc(entries[i+1:], func(e Entry) bool { f, _ := split(e.Path); return f == folder }); later {
			continue
		}
		if _, err := tx.Exec(moveFolders, added[i].Item.Seq, int64(first.User), chains([]string{folder})); err != nil {
			return nil, false, err
		}
	}
	if _, err := tx.Exec(insertOffers, offers...); err != nil {
		return nil, false, err
	}
	tx.AfterCommit(func() { c.announce(first.User) })
	return added, true, c.dropOffers(tx, first.User, first.Device, Together)
}

// distinct says whether the entries are of one person and device, no two have one name or
// one content, and none needs more than a new row in each table.
func distinct(entries []Entry) bool {
	for i := range entries {
		e := &entries[i]
		if e.User != entries[0].User || e.Device != entries[0].Device || !e.IfRef.IsZero() || kept(e.Sums) {
			return false
		}
		for j := range entries[:i] {
			if entries[j].Path == e.Path || entries[j].Ref == e.Ref {
				return false
			}
		}
	}
	return true
}

// newNames returns the folders of the entries, if they exist and neither the names in
// them nor the contents are known there, and if the identifiers are free.
func newNames(tx *db.Tx, entries []Entry, ids []ident.ItemID) (folders []int64, ok bool, err error) {
	args := make([]any, 0, newNamesUser)
	for i := range entries {
		folder, name := split(entries[i].Path)
		if slices.Contains(ids[:i], ids[i]) {
			return nil, false, nil
		}
		args = append(args, i, folder, name, entries[i].Ref[:], int64(ids[i]))
	}
	args = append(args, int64(entries[0].User))
	rows, err := tx.Query(newNamesOf, args...)
	if err != nil {
		return nil, false, err
	}
	folders = make([]int64, len(entries))
	n := 0
	for rows.Next() {
		var i int
		var folder int64
		if err = rows.Scan(&i, &folder); err != nil {
			break
		}
		folders[i], n = folder, n+1
	}
	return folders, n == len(entries), errors.Join(err, rows.Err(), rows.Close())
}

// newNamesUser is the number of the last parameter of newNamesOf, the person.
const newNamesUser = 5*Together + 1

// The statements of AddTogether: those of Add and Offer, for as many rows.
var (
	newNamesOf = strings.ReplaceAll(`SELECT v.column1, f.id FROM (VALUES `+rowsOf(`(?, ?, ?, ?, ?)`)+`) v
CROSS JOIN usage g ON g.user = +?user CROSS JOIN folder f ON f.user = +?user AND f.path = v.column2
WHERE NOT EXISTS (SELECT 1 FROM item WHERE folder = f.id AND name = v.column3)
  AND NOT EXISTS (SELECT 1 FROM folder c WHERE c.parent = f.id AND c.name = v.column3)
  AND NOT EXISTS (SELECT 1 FROM item WHERE ref = v.column4 AND user = +?user)
  AND NOT EXISTS (SELECT 1 FROM version WHERE ref = v.column4 AND user = +?user)
  AND NOT EXISTS (SELECT 1 FROM item WHERE id = v.column5)`, "?user", fmt.Sprint("?", newNamesUser))

	addBlobs = strings.Replace(addBlob, `(?, ?, ?, ?)`, rowsOf(`(?, ?, ?, ?)`), 1)

	insertItems = `INSERT INTO item (id, user, folder, name, ref, size, mtime, added, source, device, source_by, taken, taken_local, taken_from, seq)
VALUES ` + rowsOf(`(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)

	insertChanges = strings.Replace(insertChange, `(?, ?, ?, ?, ?)`, rowsOf(`(?, ?, ?, ?, ?)`), 1)

	insertOffers = `INSERT INTO ledger (user, device, n, time, path, ref, size, outcome, reason, item, kind)
SELECT ?1, ?2, m.n + v.column1, ?3, v.column2, v.column3, v.column4, ?4, '', v.column5, ''
FROM (SELECT coalesce(max(n), 0) AS n FROM ledger WHERE user = +?1 AND device = +?2) m CROSS JOIN (VALUES ` + rowsOf(`(?, ?, ?, ?, ?)`) + `) v`
)

const moveUsageTogether = `UPDATE usage SET items = items + ?2, bytes = bytes + ?3, distinct_bytes = distinct_bytes + ?3, seq = seq + ?2
WHERE user = ?1 RETURNING seq, bytes, (SELECT coalesce(quota_bytes, -1) FROM user WHERE id = ?1)`

func rowsOf(row string) string { return strings.Repeat(row+", ", Together-1) + row }
