package ingest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage"
)

// Info describes a persisted upload.
type Info struct {
	ID      string
	Meta    Meta
	Offset  int64 // bytes that Resume would go on from
	Expires time.Time
	// Finished is the result of an upload that is finished, nil of one that is
	// not. A client whose answer was lost finds it here. An unfinished upload
	// whose Offset is its size lacks only Finish: Resume it and do that.
	Finished *Result
}

// Persist makes the upload survive: it can then be resumed after the connection
// was lost, after a restart and after a power cut, until it expires.
func (i *Intake) Persist(ctx context.Context) error {
	if i.persisted || i.done {
		return nil
	}
	// First the bytes, then the row: a cut in between leaves staged bytes without
	// a row, which are swept; a row without bytes would promise too much.
	if err := i.up.Checkpoint(ctx); err != nil {
		return i.in.explain(i.meta, err)
	}
	m := i.meta
	err := i.in.db.Write(ctx, func(tx *db.Tx) error {
		if err := i.grant.Check(tx, i.grant.Purpose()); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO upload (id, user, device, source, path, size, mtime, want, want_sha1, if_absent, if_ref, extra, created, expires, source_by, automatic)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			i.ID(), int64(i.grant.User()), int64(m.Device), m.Source, m.Path, m.Size, optionalTime(m.MTime),
			optional(m.Want[:], m.Want.IsZero()), optional(m.WantSHA1[:], m.WantSHA1.IsZero()),
			m.IfAbsent, optional(m.IfRef[:], m.IfRef.IsZero()), m.Extra,
			tx.Now.UnixMilli(), tx.Sure.Add(i.in.expiry).UnixMilli(), cmp.Or(m.SourceBy, source.Declared), m.declines())
		return err
	})
	if err != nil {
		return errors.Join(err, i.Discard())
	}
	i.persisted = true
	return nil
}

func optional(b []byte, absent bool) any {
	if absent {
		return nil
	}
	return b
}

func optionalTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func (in *Ingest) saveSize(ctx context.Context, id string, size int64) error {
	return in.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE upload SET size = ? WHERE id = ?`, size, id)
		return err
	})
}

// saveResult fails if the upload was cancelled meanwhile: then it leaves no item.
func saveResult(tx *db.Tx, id string, r Result) error {
	res, err := tx.Exec(`UPDATE upload SET item = ?, ref = ?, size = ?, stored = ?, outcome = ? WHERE id = ?`,
		int64(r.Item.ID), r.Item.Ref[:], r.Item.Size, r.Stored, string(r.Outcome), id)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return errNoUpload()
}

// forget removes the row of an upload. It works while the box shuts down.
func (in *Ingest) forget(id string) error {
	return in.db.Write(context.WithoutCancel(in.ctx), func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM upload WHERE id = ?`, id)
		return err
	})
}

func errNoUpload() error {
	return &problem.Error{
		Kind: problem.NotFound, Op: "ingest.upload", Title: "There is no such upload",
		Detail: "It was never begun, was cancelled, or has expired.", Hint: "Begin a new upload.",
	}
}

const uploadByID = `SELECT device, source, source_by, automatic, path, size, mtime, want, want_sha1, if_absent, if_ref, extra, expires, item, ref, stored, outcome
FROM upload WHERE id = ? AND user = ?`

// load reads the row of u's upload id. Another person's is NotFound like one
// that does not exist or has expired.
func (in *Ingest) load(ctx context.Context, u ident.UserID, id string) (Info, error) {
	info := Info{ID: id}
	m := &info.Meta
	var mtime, item sql.NullInt64
	var want, want1, ifRef, ref []byte
	var stored, outcome sql.NullString
	var expires int64
	var automatic bool
	err := in.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(uploadByID, id, int64(u)).Scan(&m.Device, &m.Source, &m.SourceBy, &automatic, &m.Path, &m.Size, &mtime,
			&want, &want1, &m.IfAbsent, &ifRef, &m.Extra, &expires, &item, &ref, &stored, &outcome)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Info{}, errNoUpload()
	}
	if err != nil {
		return Info{}, err
	}
	m.Again = !automatic // what of Meta.declines depends on more than these
	copy(m.Want[:], want)
	copy(m.WantSHA1[:], want1)
	copy(m.IfRef[:], ifRef)
	if mtime.Valid {
		m.MTime = time.UnixMilli(mtime.Int64).UTC()
	}
	info.Expires = time.UnixMilli(expires).UTC()
	if !in.now().Before(info.Expires) {
		return Info{}, errNoUpload()
	}
	if item.Valid {
		r := &Result{Stored: stored.String, Outcome: catalog.Outcome(outcome.String), Item: catalog.Item{
			ID: ident.ItemID(item.Int64), User: u, Path: m.Path, Name: catalog.Base(m.Path), Size: m.Size,
			MTime: m.MTime, Source: m.Source, Device: m.Device,
		}}
		copy(r.Item.Ref[:], ref)
		info.Finished, info.Offset = r, m.Size
	}
	return info, nil
}

// Describe says where the upload id of u stands. Whoever holds it must let go, as
// soon as nothing comes for it any more, so that the offset is final: the client
// that asks is about to go on from it.
func (in *Ingest) Describe(ctx context.Context, u ident.UserID, id string) (Info, error) {
	info, err := in.load(ctx, u, id)
	if err != nil || info.Finished != nil {
		return info, err
	}
	in.settle(ctx, id)
	s, err := in.acquire(ctx, id)
	if err != nil {
		return Info{}, err
	}
	defer in.free(id, s)
	// Its holder may have finished it while we waited.
	if info, err = in.load(ctx, u, id); err != nil || info.Finished != nil {
		return info, err
	}
	up, err := in.resume(ctx, id)
	if err != nil {
		return Info{}, err
	}
	info.Offset = up.Offset()
	return info, in.explain(Meta{Size: -1}, up.Close())
}

// resume takes up the staged bytes of an upload whose row exists.
func (in *Ingest) resume(ctx context.Context, id string) (*storage.Upload, error) {
	up, err := in.store.Resume(ctx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errors.Join(errNoUpload(), in.forget(id))
	}
	if errors.Is(err, storage.ErrInUse) {
		return nil, errLocked()
	}
	return up, in.explain(Meta{Size: -1}, err)
}

// Resume goes on with the upload id of g's person, displacing whoever holds it.
// The caller must Close the Intake. A finished upload is problem.Conflict: ask
// Describe for its result.
func (in *Ingest) Resume(ctx context.Context, g consent.Grant, id string) (*Intake, error) {
	if g.User() == 0 {
		return nil, errors.New("ingest: a Grant that no Ledger made")
	}
	if _, err := in.load(ctx, g.User(), id); err != nil {
		return nil, err
	}
	if err := in.alive(g); err != nil {
		return nil, err
	}
	s, err := in.acquire(ctx, id)
	if err != nil {
		return nil, err
	}
	i, err := in.takeUp(ctx, g, id, s)
	if err != nil {
		in.free(id, s)
	}
	return i, err
}

func (in *Ingest) takeUp(ctx context.Context, g consent.Grant, id string, s *slot) (*Intake, error) {
	info, err := in.load(ctx, g.User(), id) // as its last holder left it
	if err != nil {
		return nil, err
	}
	if info.Finished != nil {
		return nil, finishedAlready()
	}
	m, err := in.admit(g, info.Meta)
	if err != nil {
		return nil, err
	}
	limit, err := in.limit(ctx, g.User(), m, false)
	if err != nil {
		return nil, err
	}
	if err := in.extend(ctx, info); err != nil {
		return nil, err
	}
	up, err := in.resume(ctx, id)
	if err != nil {
		return nil, err
	}
	i := in.intake(g, m, up, s, limit)
	i.persisted = true
	return i, nil
}

func finishedAlready() error {
	return &problem.Error{
		Kind: problem.Conflict, Op: "ingest.resume", Title: "The upload is finished",
		Detail: "All of the file has arrived and is stored.", Hint: "There is nothing left to send.",
	}
}

// extend gives an upload that is being worked on its whole time again, to within
// an hour (or half of a shorter time), so that this costs no write per request.
func (in *Ingest) extend(ctx context.Context, info Info) error {
	now := in.now()
	if info.Expires.Sub(now) > in.expiry-min(time.Hour, in.expiry/2) {
		return nil
	}
	return in.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`UPDATE upload SET expires = ? WHERE id = ? AND expires <> ?`, now.Add(in.expiry).UnixMilli(), info.ID, ended)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return errNoUpload()
	})
}

// Cancel ends the upload id of u and removes what has arrived of it. Of a
// finished one only the memory of the upload goes, not the file.
func (in *Ingest) Cancel(ctx context.Context, u ident.UserID, id string) error {
	if _, err := in.load(ctx, u, id); err != nil {
		return err
	}
	s, err := in.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer in.free(id, s)
	return in.drop(ctx, id)
}

// drop removes an upload that the caller holds: first the row, so that a cut in
// between leaves nothing that a client could find.
func (in *Ingest) drop(ctx context.Context, id string) error {
	if err := in.forget(id); err != nil {
		return err
	}
	return in.discard(ctx, id)
}
