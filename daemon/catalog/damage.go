package catalog

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// How says who looked at stored bytes.
type How string

// Those who look.
const (
	ByScrub  How = "scrub"  // the box, in time
	ByCheck  How = "check"  // whoever maintains it
	ByRepair How = "repair" // the same
	ByRead   How = "read"   // somebody who read the file
	ByVerify How = "verify" // an app that asked before it frees space
	ByUpload How = "upload" // somebody who sent the content again
)

// Ending says how a damage came to its end.
type Ending string

// The endings.
const (
	StillOpen Ending = ""
	EndUpload Ending = "upload"    // somebody sent the content again
	EndCopy   Ending = "copy"      // healed from another copy, which Damage.Copy names
	EndSound  Ending = "sound"     // it was read again and is sound: the disk had been away
	EndGone   Ending = "forgotten" // nobody keeps the content any more
)

// Damage is an entry of the list of contents whose stored bytes were found
// damaged or missing.
type Damage struct {
	ID     int64 // rises with every entry
	Ref    storage.Ref
	Size   int64
	Kind   storage.Damage
	Found  time.Time
	How    How // "start": by a version of the box that kept no list
	Closed time.Time
	Ending Ending
	Copy   string
}

// A Finding is what looking at stored bytes showed.
type Finding struct {
	Ref    storage.Ref
	Damage storage.Damage // Sound: all bytes were read and are those of the name
	Time   time.Time      // when they had been read; only of sound ones
	Sums   storage.Sums   // of sound ones, where they were computed on the way
}

// Found notes findings, all or none. What is damaged is not known to anybody from
// then on, so that whoever still has it sends it again, and that ends it: see Add.
// What is sound is remembered with its time, and any damage that was noted of it
// ends. Contents that nobody keeps are left out.
func (c *Catalog) Found(ctx context.Context, how How, findings []Finding) error {
	if len(findings) == 0 {
		return nil
	}
	return c.db.Write(ctx, func(tx *db.Tx) error {
		for _, f := range findings {
			err := error(nil)
			if f.Damage == storage.Sound {
				err = c.foundSound(tx, f)
			} else {
				err = c.foundDamaged(tx, how, f)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Catalog) foundSound(tx *db.Tx, f Finding) error {
	if _, err := tx.Exec(`UPDATE blob SET verified = ?, doubted = NULL WHERE ref = ?`, min(f.Time.UnixMilli(), tx.Sure.UnixMilli()), f.Ref[:]); err != nil {
		return err
	}
	if err := learnSums(tx, f.Ref, f.Sums); err != nil {
		return err
	}
	return c.endDamage(tx, f.Ref, EndSound, "")
}

func (c *Catalog) foundDamaged(tx *db.Tx, how How, f Finding) error {
	c.hurt.Store(true) // before the row can be seen by who ends damages
	res, err := tx.Exec(`UPDATE blob SET doubted = ? WHERE ref = ? AND doubted IS NULL AND dead IS NULL`, tx.Now.UnixMilli(), f.Ref[:])
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err // noted before, or nobody keeps it
	}
	if _, err := tx.Exec(`INSERT INTO damage (ref, size, kind, found, found_by) SELECT ref, size, ?, ?, ? FROM blob WHERE ref = ?`,
		string(f.Damage), tx.Now.UnixMilli(), string(how), f.Ref[:]); err != nil {
		return err
	}
	if err := c.tellKeepers(tx, f.Ref); err != nil {
		return err
	}
	return c.audit.Append(tx, audit.Event{Action: "blob.damaged", Object: f.Ref.String(),
		Detail: map[string]string{"damage": string(f.Damage), "found_by": string(how)}})
}

// Healed notes that good bytes of ref were stored again from the copy of that
// name, and are on stable storage.
func (c *Catalog) Healed(ctx context.Context, ref storage.Ref, copyName string) error {
	return c.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`UPDATE blob SET added = ?, verified = NULL, doubted = NULL WHERE ref = ?`, tx.Sure.UnixMilli(), ref[:]); err != nil {
			return err
		}
		return c.endDamage(tx, ref, EndCopy, copyName)
	})
}

// endDamage closes the open entry of ref, if there is one. On a box that never met
// damage it costs nothing.
func (c *Catalog) endDamage(tx *db.Tx, ref storage.Ref, ending Ending, copyName string) error {
	if !c.hurt.Load() {
		return nil
	}
	res, err := tx.Exec(`UPDATE damage SET closed = ?, ending = ?, copy = ? WHERE ref = ? AND closed IS NULL`, tx.Now.UnixMilli(), string(ending), copyName, ref[:])
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	if err := c.tellKeepers(tx, ref); err != nil {
		return err
	}
	detail := map[string]string{"by": string(ending)}
	if copyName != "" {
		detail["copy"] = copyName
	}
	return c.audit.Append(tx, audit.Event{Action: "blob.healed", Object: ref.String(), Detail: detail})
}

const keepersOf = `SELECT user FROM item WHERE ref = +?1 UNION SELECT user FROM version WHERE ref = +?1`

// tellKeepers wakes whoever watches the files of those who keep ref.
func (c *Catalog) tellKeepers(tx *db.Tx, ref storage.Ref) error {
	rows, err := tx.Query(keepersOf, ref[:])
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var u ident.UserID
		if err := rows.Scan(&u); err != nil {
			return err
		}
		tx.AfterCommit(func() { c.announce(u) })
	}
	return rows.Err()
}

// Doubted reports whether the stored bytes of ref are known to be damaged.
func (c *Catalog) Doubted(ctx context.Context, ref storage.Ref) (doubted bool, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM blob WHERE ref = +? AND doubted IS NOT NULL)`, ref[:]).Scan(&doubted)
	})
	return doubted, err
}

const reliedByRef = `SELECT (` + liveByRef + `) AND NOT EXISTS (SELECT 1 FROM blob WHERE ref = +?1 AND doubted IS NOT NULL)`

// Relied reports whether somebody keeps ref and its stored bytes are not known to
// be damaged: whether they may stand for the same content that comes again.
func (c *Catalog) Relied(ctx context.Context, ref storage.Ref) (relied bool, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(reliedByRef, ref[:]).Scan(&relied) })
	return relied, err
}

const damageColumns = `x.id, x.ref, x.size, x.kind, x.found, x.found_by, x.closed, x.ending, x.copy`

const listOpenDamage = `SELECT ` + damageColumns + ` FROM damage x INDEXED BY damage_open WHERE x.closed IS NULL AND x.ref > ? ORDER BY x.ref LIMIT +?`

// OpenDamage returns up to limit (MaxLimit at most) entries that are open, after
// the given content in the order of refs. The zero Ref begins.
func (c *Catalog) OpenDamage(ctx context.Context, after storage.Ref, limit int) ([]Damage, error) {
	return c.damages(ctx, listOpenDamage, after[:], clampLimit(limit))
}

const listDamage = `SELECT ` + damageColumns + ` FROM damage x WHERE x.id < ? ORDER BY x.id DESC LIMIT +?`

// DamageRecord returns up to limit (MaxLimit at most) entries, open and closed,
// that are older than before, newest first. 0 begins.
func (c *Catalog) DamageRecord(ctx context.Context, before int64, limit int) ([]Damage, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return c.damages(ctx, listDamage, before, clampLimit(limit))
}

func clampLimit(limit int) int {
	if limit <= 0 || limit > MaxLimit {
		return MaxLimit
	}
	return limit
}

func (c *Catalog) damages(ctx context.Context, query string, args ...any) (list []Damage, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d Damage
			var ref []byte
			var found int64
			var closed sql.NullInt64
			if err := rows.Scan(&d.ID, &ref, &d.Size, &d.Kind, &found, &d.How, &closed, &d.Ending, &d.Copy); err != nil {
				return err
			}
			d.Ref, d.Found, d.Closed = storage.Ref(ref), time.UnixMilli(found).UTC(), fromMillis(closed)
			list = append(list, d)
		}
		return rows.Err()
	})
	return list, err
}

// DamageTotals counts the list.
type DamageTotals struct {
	Open, Bytes int64 // entries that are open, and the bytes of their contents
	Oldest      time.Time
	Healed      int64 // entries that ended well
}

// DamageTotals returns how the list stands.
func (c *Catalog) DamageTotals(ctx context.Context) (t DamageTotals, err error) {
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		var oldest sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(size), 0), min(found) FROM damage INDEXED BY damage_open WHERE closed IS NULL`).
			Scan(&t.Open, &t.Bytes, &oldest)
		if err != nil {
			return err
		}
		t.Oldest = fromMillis(oldest)
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM damage WHERE closed IS NOT NULL AND ending <> 'forgotten'`).Scan(&t.Healed)
	})
	return t, err
}

// DamagedFile is a file of a person whose content is damaged.
type DamagedFile struct {
	Item  Item // live or in the trash
	Kind  storage.Damage
	Found time.Time
}

const listDamagedFiles = `SELECT ` + columns + `, x.kind, x.found
FROM damage x INDEXED BY damage_open CROSS JOIN item i INDEXED BY item_ref ON i.ref = x.ref AND i.user = +?1 LEFT JOIN folder f ON f.id = i.folder
WHERE x.closed IS NULL LIMIT +?2`

const countDamagedOf = `SELECT count(*) FROM damage x INDEXED BY damage_open WHERE x.closed IS NULL AND (
  EXISTS (SELECT 1 FROM item i WHERE i.ref = x.ref AND i.user = +?1) OR EXISTS (SELECT 1 FROM version v WHERE v.ref = x.ref AND v.user = +?1))`

// DamagedOf returns how many contents that u keeps are damaged, and up to limit
// (MaxLimit at most) of the files that have one. It costs what the list of
// damages is long, which is nothing on almost every box.
func (c *Catalog) DamagedOf(ctx context.Context, u ident.UserID, limit int) (n int64, list []DamagedFile, err error) {
	if !c.hurt.Load() {
		return 0, nil, nil
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		if err := tx.QueryRowContext(ctx, countDamagedOf, int64(u)).Scan(&n); err != nil || limit == 0 {
			return err
		}
		rows, err := tx.QueryContext(ctx, listDamagedFiles, int64(u), clampLimit(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var f DamagedFile
			var found int64
			if f.Item, err = scanItem(withMore{rows, []any{&f.Kind, &found}}); err != nil {
				return err
			}
			f.Found = time.UnixMilli(found).UTC()
			list = append(list, f)
		}
		return rows.Err()
	})
	return n, list, err
}

// withMore is a row with columns behind those of an item.
type withMore struct {
	row
	more []any
}

func (r withMore) Scan(dest ...any) error { return r.row.Scan(append(dest, r.more...)...) }
