package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"yunbox.local/daemon/backup"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// refuseHalfRestored keeps a box from starting on what a restore has not finished.
func refuseHalfRestored(mark string) error {
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "daemon.open",
		Title:  "The restore of this box is not finished",
		Detail: "It was interrupted, or it still runs.",
		Hint:   "Run the same `yunboxctl backup restore` again: it goes on where it was."}
}

// settleRestore finishes a restore before anybody can ask the box for something.
func (b *Box) settleRestore(ctx context.Context) error {
	state, err := vfs.OpenDir(b.conf.State)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return errors.Join(backup.Settle(ctx, state, b.db, b.audit, b.log), state.Close())
}

// openBackup is the part that keeps second copies on other disks.
func (b *Box) openBackup(disk, keys vfs.FS) {
	b.backup = backup.New(backup.Options{
		DB: b.db, Audit: b.audit, Store: b.store, Disk: disk, Keys: keys, State: b.conf.State, Box: b.identity.ID(), Now: b.now, Log: b.log,
		Busy: func() bool { return b.ingest.Active() > 0 },
		Doubt: func(ctx context.Context, ref storage.Ref, size int64) error {
			found, err := b.store.Inspect(ctx, ref, size, nil)
			if err != nil {
				return err
			}
			return b.catalog.Found(ctx, catalog.ByRead, []catalog.Finding{{Ref: ref, Damage: found, Time: b.now()}})
		},
		Left: func(tx *db.Tx, target string) error {
			return b.outside.Record(tx, disclosure.Entry{Everyone: true, Kind: disclosure.SecondCopy, Recipient: "an encrypted disk of the owner",
				Categories: []string{"everything"}, Why: "second_copy", Basis: disclosure.ByOwner, Object: target})
		},
		Config: func() ([]byte, error) {
			if b.conf.File == "" {
				return nil, nil
			}
			settings, err := os.ReadFile(b.conf.File)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil // it was moved since the start
			}
			return settings, err
		},
	})
}

// secondCopies is what the status and the page show of them.
func (b *Box) secondCopies(ctx context.Context) ([]api.SecondCopy, error) {
	list, err := b.backup.List(ctx)
	out := make([]api.SecondCopy, 0, len(list))
	for _, c := range list {
		out = append(out, api.SecondCopy{
			Name: c.Name, State: c.State, Time: c.Newest(), Current: c.Current, Missing: c.Missing, Damaged: c.Damaged,
			Complete: c.Missing == 0 && c.Damaged == 0 && c.Generation > 0,
		})
	}
	return out, err
}
