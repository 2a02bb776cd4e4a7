package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/db"
	"yunbox.local/storage/vfs"
)

// Settle finishes a restore when a box starts for the first time on what was
// restored into state. All sessions end, for one that was ended after the copy was
// made would be open again: everybody signs in anew. What was on its way into the
// box is void, since its bytes were not copied. App tokens stay, so that phones
// and programs go on by themselves; so do consents, as they stood.
func Settle(ctx context.Context, state vfs.FS, d *db.DB, log *audit.Log, say *slog.Logger) error {
	n, err := target.ReadNotice(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", target.RestoredFile, err)
	}
	what := fmt.Sprintf("%s %d", n.Copy, n.Generation)
	if err := d.Write(ctx, func(tx *db.Tx) error {
		var done bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM box WHERE key = 'restored' AND value = ?)`, what).Scan(&done); err != nil || done {
			return err // a cut came before the file was removed
		}
		for _, query := range []string{`DELETE FROM session`, `DELETE FROM upload WHERE item IS NULL`} {
			if _, err := tx.Exec(query); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`INSERT INTO box (key, value) VALUES ('restored', ?1) ON CONFLICT DO UPDATE SET value = ?1`, what); err != nil {
			return err
		}
		return log.Append(tx, audit.Event{Action: "backup.restore", Object: n.Copy, Via: "box", Detail: map[string]string{
			"generation": fmt.Sprint(n.Generation), "state_of": n.Time.Format(time.RFC3339)}})
	}); err != nil {
		return err
	}
	say.Warn("this box was restored from a second copy: what happened after that copy was made is not known to it", "copy", n.Copy, "state_of", n.Time)
	if err := state.Remove(target.RestoredFile); err != nil {
		return err
	}
	return state.SyncDir(".")
}
