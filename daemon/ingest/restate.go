package ingest

import (
	"cmp"
	"context"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
)

// Look is Describe without asking whoever holds the upload to let go: it says what
// was noted of it. Its Offset means nothing unless the upload is finished.
func (in *Ingest) Look(ctx context.Context, u ident.UserID, id string) (Info, error) {
	return in.load(ctx, u, id)
}

// Restate says what the file of an unfinished upload is, for protocols that say so
// only after the bytes: m replaces all that Begin was told, except the size and
// Extra. g must cover it; whoever holds the upload must let go. Resume and Finish
// then go by it.
//
// Errors are those of Begin and Resume, and problem.Invalid if m has another size
// than the upload.
func (in *Ingest) Restate(ctx context.Context, g consent.Grant, id string, m Meta) error {
	m, err := in.admit(g, m)
	if err != nil {
		return err
	}
	if _, err := in.load(ctx, g.User(), id); err != nil {
		return err
	}
	s, err := in.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer in.free(id, s)
	info, err := in.load(ctx, g.User(), id) // as its last holder left it
	if err != nil {
		return err
	}
	if info.Finished != nil {
		return finishedAlready()
	}
	if m.Size >= 0 && info.Meta.Size >= 0 && m.Size != info.Meta.Size {
		return &problem.Error{
			Kind: problem.Invalid, Op: "ingest.restate", Title: "The size of the file is said in two ways",
			Detail: "The upload was begun for a file of another size.", Hint: "Begin the upload anew.",
		}
	}
	return in.db.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, g.Purpose()); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE upload SET device = ?, source = ?, source_by = ?, path = ?, automatic = ?, mtime = ?, want = ?, want_sha1 = ?, if_absent = ?, if_ref = ?
			WHERE id = ? AND item IS NULL`,
			int64(m.Device), m.Source, cmp.Or(m.SourceBy, source.Declared), m.Path, m.declines(), optionalTime(m.MTime),
			optional(m.Want[:], m.Want.IsZero()), optional(m.WantSHA1[:], m.WantSHA1.IsZero()),
			m.IfAbsent, optional(m.IfRef[:], m.IfRef.IsZero()), id)
		return err
	})
}
