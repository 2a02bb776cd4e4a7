package nextcloud

import (
	"context"
	"database/sql"
	"errors"
	"hash/crc64"
	"io"
	"net/http"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// A chunk that comes before its turn is set aside: it is a small upload of its own,
// whole and durable before it is acknowledged and seen. Whoever takes the chunk before
// it appends it, too, and reads it back for that. So the bytes that may be set aside
// are few: appending them must not keep the line silent for long.

const (
	// maxEarly is how many chunks of one file may be set aside.
	maxEarly = 64
	// maxEarlyBytes is how many bytes those may have: five of the largest chunks that
	// clients are told to send.
	maxEarlyBytes = 5 * maxChunk
)

// Queries; see catalog for the plus before a parameter.
const (
	sumOfEarly = `SELECT count(*), coalesce(sum(size), 0) FROM nextcloud_early WHERE upload = +?`
	earlyAt    = `SELECT number, name, size, 0, crc, written FROM nextcloud_early WHERE upload = +? AND number = +?`
	firstEarly = `SELECT number, name, size, 0, crc, written, staged FROM nextcloud_early WHERE upload = +? ORDER BY number LIMIT 1`
	earlyAfter = `SELECT number, name, size, 0, crc, written FROM nextcloud_early WHERE upload = +? AND number > ? ORDER BY number LIMIT +?`
	stagedOf   = `SELECT staged FROM nextcloud_early WHERE upload = +?`
)

// A verdict says what can be done with a chunk that came before its turn.
type verdict int

const (
	tooMany verdict = iota // it has to wait
	fits
	known // it was set aside before
)

// mayWait decides about chunk n of size bytes, which is not due yet.
func (h *Handler) mayWait(ctx context.Context, f chunkFolder, n chunkName, size int64) (v verdict, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error {
		if _, err := scanChunk(tx.QueryRow(earlyAt, f.upload, n.number)); !errors.Is(err, sql.ErrNoRows) {
			v = known
			return err
		}
		if size < 0 {
			return nil
		}
		v, err = earlyRoom(tx, f, size)
		return err
	})
	return v, err
}

func earlyRoom(tx *db.Tx, f chunkFolder, size int64) (verdict, error) {
	var count, bytes int64
	err := tx.QueryRow(sumOfEarly, f.upload).Scan(&count, &bytes)
	if err != nil || count >= maxEarly || bytes+size > maxEarlyBytes {
		return tooMany, err
	}
	return fits, nil
}

// compareEarly answers for a chunk that was set aside and comes again.
func (h *Handler) compareEarly(e *errand, f chunkFolder, grant consent.Grant, n chunkName) error {
	var c chunk
	err := h.DB.Read(e.r.Context(), func(tx *db.Tx) (err error) {
		c, err = scanChunk(tx.QueryRow(earlyAt, f.upload, n.number))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) { // appended meanwhile
		_, err := h.compare(e, f, grant, n)
		return err
	}
	if err != nil {
		return err
	}
	return h.same(e, f, grant, c)
}

// setAside takes the body of e as a chunk whose turn has not come.
func (h *Handler) setAside(e *errand, f chunkFolder, grant consent.Grant, n chunkName) error {
	ctx, user := e.r.Context(), principal(e.r).User
	if err := h.roomFor(ctx, f, user, e.r.ContentLength); err != nil {
		return err
	}
	info, err := h.Ingest.Look(ctx, user, f.upload)
	if err != nil {
		return err
	}
	c := chunk{number: n.number, name: e.chunk, size: e.r.ContentLength}
	meta := ingest.Meta{Path: info.Meta.Path, Device: info.Meta.Device, Source: info.Meta.Source, SourceBy: info.Meta.SourceBy, Size: c.size}
	if err := h.stage(e, f, grant, meta, &c); err != nil {
		return err
	}
	if err := h.catchUp(ctx, f, grant, false); err != nil { // its turn may have come meanwhile
		return err
	}
	e.w.Header().Set("ETag", c.etag())
	e.w.WriteHeader(http.StatusCreated)
	return nil
}

func (h *Handler) stage(e *errand, f chunkFolder, grant consent.Grant, meta ingest.Meta, c *chunk) (err error) {
	intake, err := h.Ingest.Begin(e.r.Context(), grant, meta)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, intake.Close()) }()
	granted := intake.Context()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	size, err := intake.Write(granted, 0, io.TeeReader(httpd.ProgressReader(e.w, e.r.WithContext(granted)), sum))
	if err != nil {
		return err
	}
	if size != c.size {
		return io.ErrUnexpectedEOF
	}
	c.crc = sum.Sum64()
	if err := intake.Persist(granted); err != nil {
		return err
	}
	if err := h.insertEarly(granted, grant, f, *c, intake.ID()); err != nil {
		return errors.Join(err, intake.Discard())
	}
	return nil
}

// insertEarly notes a chunk that was set aside and is durable.
func (h *Handler) insertEarly(ctx context.Context, g consent.Grant, f chunkFolder, c chunk, staged string) error {
	return h.DB.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, g.Purpose()); err != nil {
			return err
		}
		if room, err := earlyRoom(tx, f, c.size); err != nil || room != fits { // others came meanwhile
			return errors.Join(err, tooEarly())
		}
		res, err := tx.Exec(`INSERT INTO nextcloud_early (upload, number, name, size, crc, written, staged)
			SELECT f.upload, ?2, ?3, ?4, ?5, ?6, ?7 FROM nextcloud_folder f WHERE f.upload = +?1 ON CONFLICT DO NOTHING`,
			f.upload, c.number, c.name, c.size, int64(c.crc), tx.Now.UnixMilli(), staged)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return &problem.Error{
			Kind: problem.Conflict, Op: "nextcloud.chunk", Title: "A chunk was sent twice at once",
			Detail: "Another request brought a chunk of that number just now.", Hint: "Send it again: it is compared with the other.",
		}
	})
}

// errDamaged is what a chunk that was set aside and reads back otherwise ends with.
var errDamaged = &problem.Error{
	Kind: problem.Unavailable, Op: "nextcloud.chunk", Title: "A chunk on the disk is damaged",
	Detail: "It was set aside until its turn, and is not what had come.", Hint: "The box has dropped it: send it again.",
}

// catchUp appends the chunks that were set aside and whose turn has come. With gaps it
// appends all of them, whatever is missing in between.
func (h *Handler) catchUp(ctx context.Context, f chunkFolder, grant consent.Grant, gaps bool) error {
	done, err := h.turns.alone(ctx, f.upload)
	if err != nil {
		return err
	}
	defer done()
	ctx = context.WithoutCancel(ctx) // what was acknowledged does not wait for who asks
	for {
		first, staged, err := h.firstEarly(ctx, f)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		chunks, err := h.chunks(ctx, f.upload)
		if err != nil {
			return err
		}
		n, err := parseChunkName(first.name)
		if err != nil {
			return err
		}
		switch {
		case first.number < chunks.next: // it is appended already; see dropBehind for when it is not
			has, err := h.appended(ctx, grant, f, first)
			if err != nil {
				return err
			}
			if !has {
				continue
			}
			if err := h.forget(ctx, grant.User(), f, first, staged); err != nil {
				return err
			}
			continue
		case !gaps && !chunks.isNext(n):
			return nil
		}
		err = h.appendEarly(ctx, f, grant, piece{chunkName: n, name: first.name, early: &first, gap: gaps}, staged)
		if errors.Is(err, errDamaged) || problem.KindOf(err) == problem.NotFound && !h.isThere(ctx, grant.User(), staged) {
			return errors.Join(err, h.forget(ctx, grant.User(), f, first, staged))
		}
		if err != nil {
			return err
		}
		h.turns.advance(f.upload)
	}
}

// appended reports whether a chunk that has a row counts: its bytes are durable.
func (h *Handler) appended(ctx context.Context, grant consent.Grant, f chunkFolder, c chunk) (bool, error) {
	info, err := h.Ingest.Describe(ctx, grant.User(), f.upload)
	if err != nil {
		return false, err
	}
	dropped, err := h.dropBehind(ctx, f.upload, info.Offset)
	return !dropped, err
}

func (h *Handler) isThere(ctx context.Context, u ident.UserID, upload string) bool {
	_, err := h.Ingest.Look(ctx, u, upload)
	return problem.KindOf(err) != problem.NotFound
}

func (h *Handler) firstEarly(ctx context.Context, f chunkFolder) (c chunk, staged string, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error {
		var crc, end int64
		err := tx.QueryRow(firstEarly, f.upload).Scan(&c.number, &c.name, &c.size, &end, &crc, &c.written, &staged)
		c.crc = uint64(crc)
		return err
	})
	return c, staged, err
}

// appendEarly appends a chunk that was set aside, and forgets it.
func (h *Handler) appendEarly(ctx context.Context, f chunkFolder, grant consent.Grant, p piece, staged string) (err error) {
	part, err := h.Ingest.Resume(ctx, grant, staged)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	whole, err := h.Ingest.Resume(ctx, grant, f.upload)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, whole.Close()) }()
	if p.body, err = part.Received(); err != nil {
		return err
	}
	if _, again, err := h.write(ctx, whole, grant, p); err != nil || again {
		return err
	}
	return part.Discard() // and with its row that of the chunk
}

// forget drops a chunk that was set aside.
func (h *Handler) forget(ctx context.Context, u ident.UserID, f chunkFolder, c chunk, staged string) error {
	if err := h.Ingest.Cancel(ctx, u, staged); problem.KindOf(err) != problem.NotFound && err != nil {
		return err
	}
	return h.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM nextcloud_early WHERE upload = ? AND number = ? AND staged = ?`, f.upload, c.number, staged)
		return err
	})
}

// complete appends what was set aside before the file is made. If chunks are missing
// in between, they were none, provided that the length is the one that was said.
func (h *Handler) complete(e *errand, f chunkFolder, meta ingest.Meta) error {
	ctx := e.r.Context()
	var early, bytes int64
	count := func() error {
		return h.DB.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(sumOfEarly, f.upload).Scan(&early, &bytes) })
	}
	if err := count(); err != nil || early == 0 {
		return err
	}
	grant, err := h.Consent.GrantFor(ctx, principal(e.r).User, meta.Device, meta.Source)
	if err != nil {
		return err
	}
	if err := h.catchUp(ctx, f, grant, false); err != nil {
		return err
	}
	if err := count(); err != nil || early == 0 {
		return err
	}
	total, err := totalLength(e.r)
	if err != nil {
		return err
	}
	chunks, err := h.chunks(ctx, f.upload)
	if err != nil {
		return err
	}
	if total < 0 {
		total = meta.Size
	}
	if total != chunks.end+bytes {
		return missingChunks()
	}
	return h.catchUp(ctx, f, grant, true)
}

// drop gives an unfinished file up, with all that was set aside of it.
func (h *Handler) drop(ctx context.Context, u ident.UserID, upload string) error {
	var staged []string
	err := h.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(stagedOf, upload)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			staged = append(staged, id)
		}
		return rows.Err()
	})
	for _, id := range append(staged, upload) {
		if cerr := h.Ingest.Cancel(ctx, u, id); problem.KindOf(cerr) != problem.NotFound {
			err = errors.Join(err, cerr)
		}
	}
	return err
}
