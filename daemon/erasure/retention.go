package erasure

import (
	"context"
	"errors"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// Expire erases what is past its period: it is called once a day, and writes only where
// there is such a thing.
func (r *Room) Expire(ctx context.Context) error {
	days, err := r.opt.Rights().Periods(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var total int64
	for _, c := range r.opt.Rights().Categories() {
		var people []ident.UserID
		before := rights.Which{}
		if err := r.opt.DB.Read(ctx, func(tx *db.Tx) (err error) {
			people, before.Before, err = c.Due(ctx, tx, days[c.ID])
			return err
		}); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, u := range people {
			n, err := r.opt.Rights().Expire(ctx, &c, u, before.Before)
			total += n
			errs = append(errs, err)
		}
	}
	errs = append(errs, r.opt.Catalog.ForgetDeletions(ctx), r.expireReceipts(ctx))
	if total > 0 {
		r.log.Info("records that were past their period were erased", "records", total)
	}
	return errors.Join(errs...)
}

func (r *Room) expireReceipts(ctx context.Context) error {
	var any bool
	const over = `SELECT EXISTS (SELECT 1 FROM deletion_receipt WHERE expires <= ?)`
	if err := r.opt.DB.Read(ctx, func(tx *db.Tx) error { return tx.QueryRowContext(ctx, over, tx.Sure.UnixMilli()).Scan(&any) }); err != nil || !any {
		return err
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM deletion_receipt WHERE expires <= ?`, tx.Sure.UnixMilli())
		return err
	})
}

// SetPeriod has records of a category go after so many days, 0: never. Only the owner
// of the box may, within the bounds of rights.Period.
func (r *Room) SetPeriod(ctx context.Context, p ident.Principal, category string, days int) error {
	const op = "erasure.period"
	if p.Role != ident.Owner || p.Scope != ident.ScopeFull {
		return &problem.Error{Kind: problem.Forbidden, Op: op, Detail: "Only the owner of the box may change for how long it keeps records.", Hint: "Ask the owner of the box."}
	}
	c, err := r.opt.Rights().Category(category)
	if err != nil {
		return err
	}
	if c.Period == nil {
		return &problem.Error{Kind: problem.Conflict, Op: op, Title: "That does not go by its age", Detail: c.Kept.EN}
	}
	if !c.Period.Allows(days) {
		return &problem.Error{Kind: problem.Invalid, Op: op, Title: "The box does not keep it for so long, or for so short a time",
			Members: map[string]any{"min": c.Period.Min, "max": c.Period.Max, "never": c.Period.Days == 0}}
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if err := r.opt.Rights().SetPeriod(tx, category, days); err != nil {
			return err
		}
		return r.opt.Audit.Append(tx, audit.Event{Actor: p.User, Action: "retention.set", Object: category, Device: p.Device, Via: "http"})
	})
}
