package ingest

import (
	"context"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage"
)

// What its owner deleted does not come back by a backup (docs/decisions/0014 and
// 0017). The rule is here and nowhere else; gateways say what they know of a file.

// declines says whether what its owner deleted is to be declined if it comes as m.
// A device that backs up offers everything that it has; so does whatever does not
// say otherwise, because declining loses nothing: the device keeps the file, and
// its ledger says what became of it.
func (m Meta) declines() bool {
	switch {
	case m.Again:
		return false // its person asks for just this one
	case m.Drive && m.Device == 0:
		return false // somebody's hands, or a program that was told to store it
	case m.Source == source.Other:
		// Declared, that is what people put there themselves. Found by a drive, it is a
		// document, and deleting one may be undone on the computer. But a backup that
		// the box finds no better source for is a backup.
		return !m.Drive && m.SourceBy != "" && m.SourceBy != source.Declared
	}
	return true
}

// wanted fails with problem.Deleted, and notes it, if m announces a content that
// u deleted and only a backup brings back.
func (in *Ingest) wanted(ctx context.Context, u ident.UserID, m Meta) error {
	if !m.declines() || m.Want.IsZero() && m.WantSHA1 == (storage.SHA1{}) {
		return nil
	}
	err := in.mayComeBack(ctx, u, &m)
	if problem.KindOf(err) == problem.Deleted {
		in.note(u, m, catalog.OfferDeclined, err)
	}
	return err
}

// mayComeBack fails with problem.Deleted if u deleted what m.Want, or else
// m.WantSHA1, announces, and then sets m.Want.
func (in *Ingest) mayComeBack(ctx context.Context, u ident.UserID, m *Meta) error {
	return in.db.Read(ctx, func(tx *db.Tx) error {
		if m.Want.IsZero() {
			gone, err := in.cat.DeletedSHA1In(tx, u, []storage.SHA1{m.WantSHA1})
			if err != nil || gone[0].Time.IsZero() {
				return err
			}
			m.Want = gone[0].Ref
		}
		return in.cat.MayComeBack(tx, u, m.Want)
	})
}

// declined fails with problem.Deleted, and notes it, if i's content, which is whole
// by now, was deleted by its owner and only a backup brings it back. That is asked
// before the content is published: what is declined was never more than a staged
// upload, and removing that costs no flush. A deletion that comes after the question
// finds the upload done, as if it had come first.
func (i *Intake) declined(ctx context.Context, s storage.Sealed) error {
	if !i.meta.declines() || i.meta.Room != nil && !i.meta.Want.IsZero() {
		return nil // or it was asked by the same hash a moment ago: see Begin
	}
	m, u := i.meta, i.grant.User()
	m.Want, m.Size = s.Ref, s.Size
	err := i.in.mayComeBack(context.WithoutCancel(ctx), u, &m)
	if problem.KindOf(err) != problem.Deleted {
		return err
	}
	i.in.note(u, m, catalog.OfferDeclined, err)
	werr := i.in.db.Write(context.WithoutCancel(ctx), func(tx *db.Tx) error { return i.in.cat.NoteSHA1(tx, u, s.Ref, s.SHA1) })
	if werr != nil {
		i.in.log.Warn("the SHA-1 of a deleted content could not be noted", "err", werr)
	}
	return err
}
