package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/storage/vfs"
)

// recordsFile lies on the volume and says how often records were opened there.
const recordsFile = "RECORDS"

// recordsMark is the content of recordsFile; docs/format.md describes it.
type recordsMark struct {
	opened int64     // rises by one whenever a box opens and closes
	time   time.Time // when that was last, by the sure time of the box

	strange bool // there is no mark, but there are files
}

func (m recordsMark) marshal() []byte {
	return fmt.Appendf(nil, "yunbox records 1\nopened  %d\ntime    %s\n", m.opened, m.time.UTC().Format(time.RFC3339))
}

func parseRecordsMark(data []byte) (recordsMark, error) {
	var m recordsMark
	var when string
	n, err := fmt.Sscanf(string(data), "yunbox records 1\nopened %d\ntime %s\n", &m.opened, &when)
	if err != nil || n != 2 || m.opened < 0 {
		return recordsMark{}, fmt.Errorf("%s is damaged", recordsFile)
	}
	if m.time, err = time.Parse(time.RFC3339, when); err != nil {
		return recordsMark{}, fmt.Errorf("%s is damaged: %w", recordsFile, err)
	}
	return m, nil
}

// readRecordsMark returns the zero mark for a volume that has none.
func readRecordsMark(disk vfs.FS) (recordsMark, error) {
	data, err := vfs.ReadFile(disk, recordsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return recordsMark{}, nil
	} else if err != nil {
		return recordsMark{}, err
	}
	return parseRecordsMark(data)
}

// compareRecords finds out whether box.db knows all that has happened on this
// volume. One that was put back from a copy, or was lost and made anew, does not:
// to it, files that came later look like orphans that nobody keeps, and a sweep
// would delete people's photos. Such records are marked for good, and what they
// do not know stays on the disk.
//
// The volume and the records each keep a number that rises whenever the box
// starts and stops; records whose number is behind are not the newest. The
// records are written first, so that a power cut in between only puts them ahead.
func (b *Box) compareRecords(ctx context.Context, disk vfs.FS) {
	mark, err := readRecordsMark(disk)
	if err != nil {
		b.log.Error("it is not certain that box.db is as new as the files: what it does not know is kept", "err", err)
	}
	if err == nil && mark.opened == 0 {
		mark.strange, err = b.hasBlobs(ctx)
	}
	b.keepOrphans, err = b.countRecords(ctx, disk, mark, err != nil)
	if err != nil { // a full disk, for example: the box has to start all the same
		b.log.Warn("the start could not be written down: files that box.db does not know are kept until the next one", "err", err)
		b.keepOrphans = true
		return
	}
	if b.keepOrphans {
		b.log.Warn("box.db was lost or put back from a copy, so there may be files on the disk that it does not know; they are kept. `yunboxctl check` lists them as orphans.")
	}
	b.closers = append(b.closers, func() error {
		mark, err := readRecordsMark(disk)
		if err == nil {
			_, err = b.countRecords(context.Background(), disk, mark, false)
		}
		if err != nil {
			b.log.Warn("the stop could not be written down", "err", err)
		}
		return nil
	})
}

func (b *Box) hasBlobs(ctx context.Context) (bool, error) {
	for _, err := range b.store.Refs(ctx) {
		return err == nil, err
	}
	return false, nil
}

// countRecords raises both numbers and says whether the records are marked.
func (b *Box) countRecords(ctx context.Context, disk vfs.FS, mark recordsMark, doubt bool) (marked bool, err error) {
	next := recordsMark{time: b.clock.sure()}
	err = b.db.Write(ctx, func(tx *db.Tx) error {
		var opened int64
		if err := tx.QueryRow(`SELECT coalesce((SELECT CAST(value AS INTEGER) FROM box WHERE key = 'opened'), 0)`).Scan(&opened); err != nil {
			return err
		}
		if doubt || opened < mark.opened || opened == 0 && mark.strange {
			if _, err := tx.Exec(`INSERT INTO box (key, value) VALUES ('keep_orphans', 'yes') ON CONFLICT DO NOTHING`); err != nil {
				return err
			}
		}
		next.opened = max(opened, mark.opened) + 1
		if _, err := tx.Exec(`INSERT INTO box (key, value) VALUES ('opened', ?1) ON CONFLICT DO UPDATE SET value = ?1`, strconv.FormatInt(next.opened, 10)); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM box WHERE key = 'keep_orphans')`).Scan(&marked)
	})
	if err != nil {
		return false, err
	}
	return marked, vfs.WriteFile(disk, recordsFile, next.marshal(), 0o600)
}

// firstRelease is before any clock that was ever set.
func firstRelease() time.Time { return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC) }

// openClock starts the box's clock from what the volume says.
func (b *Box) openClock(disk vfs.FS) *clock {
	var known, base time.Time
	later := func(t time.Time) {
		if t.After(base) {
			base = t
		}
	}
	if mark, err := readRecordsMark(disk); err == nil { // an error is told later
		known = mark.time
		later(known)
	}
	for _, name := range []string{"box.db", "box.db-wal"} {
		if info, err := os.Stat(b.path(name)); err == nil {
			later(info.ModTime())
		}
	}
	return newClock(b.now, b.running, b.right, known, base, b.log)
}
