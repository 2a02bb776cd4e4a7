package inbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"yunbox.local/daemon/db"
)

const (
	// pruneEvery is how often it is looked for files that left a folder.
	pruneEvery = 24 * time.Hour
	// keepGone is how long a file that left is remembered, in case it comes back
	// with a disk below the folder that was away.
	keepGone  = 30 * 24 * time.Hour
	pruneStep = 512
)

// prune forgets files that left a folder a month ago, so that what is remembered
// does not grow for ever. The volume of the folder is there.
func (in *Inbox) prune(ctx context.Context, f *folder, root *os.Root) {
	if f.conf.ID == 0 || time.Since(f.pruned) < pruneEvery {
		return
	}
	f.pruned = time.Now()
	after := ""
	for ctx.Err() == nil {
		next, err := in.pruneSome(ctx, f.conf.ID, root, after)
		if err != nil {
			in.log.Warn("files that left a watched folder could not be forgotten", "inbox", f.conf.ID, "err", err)
			return
		}
		if next == "" {
			return
		}
		after = next
	}
}

// pruneSome looks at some files after a path and returns the last, "" at the end.
func (in *Inbox) pruneSome(ctx context.Context, id int64, root *os.Root, after string) (last string, err error) {
	type row struct {
		path string
		gone bool
	}
	var rows []row
	err = in.opt.DB.Read(ctx, func(tx *db.Tx) error {
		list, err := tx.QueryContext(ctx, `SELECT path, gone IS NOT NULL FROM inbox_taken WHERE inbox = +? AND path > ? ORDER BY path LIMIT +?`, id, after, pruneStep)
		if err != nil {
			return err
		}
		defer list.Close()
		for list.Next() {
			var r row
			if err := list.Scan(&r.path, &r.gone); err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return list.Err()
	})
	if err != nil || len(rows) == 0 {
		return "", err
	}
	changed := rows[:0:0]
	for _, r := range rows {
		_, err := root.Lstat(r.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err // the disk is going: nothing is known
		}
		if r.gone || err != nil {
			changed = append(changed, row{r.path, err != nil})
		}
	}
	if len(changed) > 0 {
		err = in.opt.DB.Write(ctx, func(tx *db.Tx) error {
			for _, r := range changed {
				var err error
				if r.gone {
					_, err = tx.Exec(`UPDATE inbox_taken SET gone = ? WHERE inbox = ? AND path = ? AND gone IS NULL`, tx.Sure.UnixMilli(), id, r.path)
				} else {
					_, err = tx.Exec(`UPDATE inbox_taken SET gone = NULL WHERE inbox = ? AND path = ?`, id, r.path)
				}
				if err != nil {
					return err
				}
			}
			_, err := tx.Exec(`DELETE FROM inbox_taken WHERE inbox = ? AND path >= ? AND path <= ? AND gone <= ?`,
				id, rows[0].path, rows[len(rows)-1].path, tx.Sure.Add(-keepGone).UnixMilli())
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if len(rows) < pruneStep {
		return "", nil
	}
	return rows[len(rows)-1].path, nil
}
