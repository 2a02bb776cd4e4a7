package nextcloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Queries; see catalog for the plus before a parameter.
const (
	folderAt    = `SELECT upload, destination FROM nextcloud_folder WHERE user = +? AND name = +? AND destination = +?`
	foldersOf   = `SELECT f.upload, f.destination FROM nextcloud_folder f JOIN upload u ON u.id = f.upload WHERE f.user = +? AND f.name = +? AND u.item IS NULL LIMIT 2`
	unfinished  = `SELECT count(*), coalesce(sum(f.bytes), 0) FROM nextcloud_folder f JOIN upload u ON u.id = f.upload WHERE f.user = +? AND u.item IS NULL`
	longestIdle = `SELECT f.upload, u.expires FROM nextcloud_folder f JOIN upload u ON u.id = f.upload WHERE f.user = +? AND u.item IS NULL`
	sumOfChunks = `SELECT count(*), coalesce(max(number), -1), coalesce(max(end), 0) FROM nextcloud_chunk WHERE upload = +?`
	chunkAt     = `SELECT number, name, size, end, crc, written FROM nextcloud_chunk WHERE upload = +? AND number = +?`
	chunksAfter = `SELECT number, name, size, end, crc, written FROM nextcloud_chunk WHERE upload = +? AND number > ? ORDER BY number LIMIT +?`
	chunkBehind = `SELECT EXISTS (SELECT 1 FROM nextcloud_chunk WHERE upload = +? AND number = (SELECT max(number) FROM nextcloud_chunk WHERE upload = +?1) AND end > ?2)`
)

// A chunkFolder is one that exists.
type chunkFolder struct {
	upload      string
	destination string
}

func noFolder() error {
	return &problem.Error{
		Kind: problem.NotFound, Op: "nextcloud.folder", Title: "There is no such chunk folder",
		Detail: "It was never made, its file is complete, or it has expired.", Hint: "Make it with MKCOL.",
	}
}

// find returns the folder that e names, unfinished: the one for its Destination if
// it has that header, else the only one of the name.
func (h *Handler) find(e *errand) (chunkFolder, error) {
	path, err := h.destination(e.r)
	if err != nil {
		return chunkFolder{}, err
	}
	f, err := h.findAt(e, path)
	if err != nil {
		return f, err
	}
	info, err := h.Ingest.Look(e.r.Context(), principal(e.r).User, f.upload)
	if err == nil && info.Finished != nil {
		err = noFolder()
	}
	return f, err
}

// findAt is find for a destination, "" if it was not said. The folder may be
// finished.
func (h *Handler) findAt(e *errand, path string) (f chunkFolder, err error) {
	user := int64(principal(e.r).User)
	err = h.DB.Read(e.r.Context(), func(tx *db.Tx) error {
		if path != "" {
			for _, at := range []string{path, ""} {
				err := tx.QueryRow(folderAt, user, e.name, at).Scan(&f.upload, &f.destination)
				if !errors.Is(err, sql.ErrNoRows) {
					return err
				}
			}
			return noFolder()
		}
		rows, err := tx.Query(foldersOf, user, e.name)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			if err := rows.Scan(&f.upload, &f.destination); err != nil {
				return err
			}
		}
		switch {
		case rows.Err() != nil:
			return rows.Err()
		case n == 0:
			return noFolder()
		case n > 1:
			f = chunkFolder{}
			return &problem.Error{
				Kind: problem.Conflict, Op: "nextcloud.folder", Title: "Two files are sent under one name",
				Detail: "The app sends the chunks of both into a folder of the same name.", Hint: "Say which is meant in the header Destination.",
			}
		}
		return nil
	})
	return f, err
}

// clear makes the key of a folder free: of a file that is complete or gone. One
// that is being sent stays, and its client is told so.
func (h *Handler) clear(ctx context.Context, u ident.UserID, name, path string) error {
	var upload string
	err := h.DB.Read(ctx, func(tx *db.Tx) error {
		var destination string
		return tx.QueryRow(folderAt, int64(u), name, path).Scan(&upload, &destination)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := h.Ingest.Look(ctx, u, upload)
	if err == nil && info.Finished == nil {
		return &problem.Error{
			Kind: problem.MethodNotAllowed, Op: "nextcloud.begin", Title: "There is such a chunk folder already",
			Detail: "A file of that name is being sent.", Hint: "List what is in the folder and go on from there, or delete it.",
		}
	}
	if err != nil && problem.KindOf(err) != problem.NotFound {
		return err
	}
	return h.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM nextcloud_folder WHERE upload = ?`, upload)
		return err
	})
}

// makeRoom sees to it that u has fewer unfinished files than may be, by giving up
// the one that nothing came for since the longest time.
func (h *Handler) makeRoom(ctx context.Context, u ident.UserID) error {
	var upload string
	oldest, n := int64(0), 0
	err := h.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(longestIdle, int64(u))
		if err != nil {
			return err
		}
		defer rows.Close()
		for ; rows.Next(); n++ {
			var id string
			var expires int64
			if err := rows.Scan(&id, &expires); err != nil {
				return err
			}
			if n == 0 || expires < oldest {
				upload, oldest = id, expires
			}
		}
		// The time is given anew with each chunk: what is left of it tells how long
		// nothing came.
		if n >= maxFolders && oldest > tx.Sure.Add(h.Ingest.Expiry()-keepFolder).UnixMilli() {
			return &problem.Error{
				Kind: problem.Quota, Op: "nextcloud.begin", Title: "Too many files are being sent at once",
				Detail: fmt.Sprintf("%d are not complete.", n), Hint: "Let the app complete some of them first.",
			}
		}
		return rows.Err()
	})
	if err != nil || n < maxFolders {
		return err
	}
	return h.drop(ctx, u, upload)
}

func (h *Handler) insertFolder(ctx context.Context, u ident.UserID, name, path, upload string) error {
	return h.DB.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`INSERT INTO nextcloud_folder (upload, user, name, destination) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, upload, int64(u), name, path)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return &problem.Error{
			Kind: problem.Conflict, Op: "nextcloud.begin", Title: "The chunk folder was made twice at once",
			Detail: "Another request made a folder of that name just now.", Hint: "List what is in it and go on from there.",
		}
	})
}

// roomFor refuses a chunk for which the person's share has no room. Of a file whose
// size was said, ingest knows that already.
func (h *Handler) roomFor(ctx context.Context, f chunkFolder, u ident.UserID, more int64) error {
	return h.DB.Read(ctx, func(tx *db.Tx) error {
		var size int64
		if err := tx.QueryRow(`SELECT size FROM upload WHERE id = ?`, f.upload).Scan(&size); err != nil || size >= 0 {
			if errors.Is(err, sql.ErrNoRows) {
				err = noFolder()
			}
			return err
		}
		var n, begun int64
		if err := tx.QueryRow(unfinished, int64(u)).Scan(&n, &begun); err != nil {
			return err
		}
		usage, err := h.Catalog.UsageIn(tx, u)
		if err != nil {
			return err
		}
		// All that is not complete may come to as much as the share once more, as for
		// other resumable uploads.
		return (catalog.Usage{Bytes: begun, Quota: usage.Quota}).Room(more)
	})
}

// A chunk is one that was taken.
type chunk struct {
	number    int64
	name      string
	size, end int64
	crc       uint64
	written   int64 // Unix milliseconds
}

func (c chunk) etag() string { return fmt.Sprintf(`"%016x-%d"`, c.crc, c.size) }

// chunks is what can be said of all chunks of a file that were appended.
type chunks struct {
	count int64
	next  int64 // the number that follows on the highest
	end   int64 // bytes of all
}

// isNext reports whether a chunk is the one that comes next. Clients count from 1;
// those that write sixteen digits, as ownCloud's did, from 0. Others name a chunk by
// where it begins.
func (c chunks) isNext(n chunkName) bool {
	switch {
	case n.isOffset():
		return n.number == c.end
	case c.count > 0:
		return n.number == c.next
	case n.digits >= 16:
		return n.number == 0
	}
	return n.number <= 1
}

func (h *Handler) chunks(ctx context.Context, upload string) (c chunks, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(sumOfChunks, upload).Scan(&c.count, &c.next, &c.end) })
	c.next++
	return c, err
}

func (h *Handler) has(ctx context.Context, upload string, n int64) (bool, error) {
	_, err := h.chunk(ctx, upload, n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func scanChunk(row interface{ Scan(...any) error }) (c chunk, err error) {
	var crc int64
	err = row.Scan(&c.number, &c.name, &c.size, &c.end, &crc, &c.written)
	c.crc = uint64(crc)
	return c, err
}

// chunk fails with sql.ErrNoRows if there is none of that number.
func (h *Handler) chunk(ctx context.Context, upload string, n int64) (c chunk, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error {
		c, err = scanChunk(tx.QueryRow(chunkAt, upload, n))
		return err
	})
	return c, err
}

// chunksAfter returns some chunks in their order, from behind the number after: those
// of the query chunksAfter or earlyAfter.
func (h *Handler) chunksAfter(ctx context.Context, query, upload string, after int64) (list []chunk, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(query, upload, after, 100)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c, err := scanChunk(rows)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return rows.Err()
	})
	return list, err
}

// insertChunk notes a chunk before its bytes are made durable. A cut in between
// leaves a row that counts for nothing; see dropBehind.
func (h *Handler) insertChunk(ctx context.Context, g consent.Grant, upload string, c chunk) error {
	return h.DB.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, g.Purpose()); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO nextcloud_chunk (upload, number, name, size, end, crc, written) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			upload, c.number, c.name, c.size, c.end, int64(c.crc), tx.Now.UnixMilli()); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE nextcloud_folder SET bytes = ? WHERE upload = ?`, c.end, upload)
		return err
	})
}

// dropBehind forgets chunks that end behind offset, where the upload stands: the
// box stopped after it had noted them and before they were durable.
func (h *Handler) dropBehind(ctx context.Context, upload string, offset int64) (dropped bool, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(chunkBehind, upload, offset).Scan(&dropped) })
	if err != nil || !dropped {
		return false, err
	}
	return true, h.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM nextcloud_chunk WHERE upload = ? AND end > ?`, upload, offset)
		if err == nil {
			_, err = tx.Exec(`UPDATE nextcloud_folder SET bytes = ? WHERE upload = ?`, offset, upload)
		}
		return err
	})
}
