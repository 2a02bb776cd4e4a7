package ingest

import (
	"context"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/ident"
)

// maxPending is how many unfinished uploads of one path Pending returns.
const maxPending = 16

const pendingUploads = `SELECT id FROM upload WHERE user = +? AND path = +? AND extra = ? AND item IS NULL AND expires > ? ORDER BY created DESC, id LIMIT ?`

// Pending returns the unfinished uploads of u for path that a gateway persisted
// with that Meta.Extra, the newest first: for protocols whose clients know an
// upload by the name of its file only. It returns at most 16.
func (in *Ingest) Pending(ctx context.Context, u ident.UserID, path, extra string) (ids []string, err error) {
	if path, err = catalog.CleanPath(path); err != nil {
		return nil, err
	}
	return in.ids(ctx, pendingUploads, int64(u), path, extra, in.now().UnixMilli(), maxPending)
}
