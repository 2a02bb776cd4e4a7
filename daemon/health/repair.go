package health

import (
	"context"
	"errors"
	"fmt"

	"yunbox.local/daemon/catalog"
	"yunbox.local/storage"
)

// Repaired is what became of an entry of the list of damages.
type Repaired struct {
	Ref    storage.Ref
	Size   int64
	Kind   storage.Damage
	Ending catalog.Ending // StillOpen: a device that still has the file must send it
	Copy   string         // from which it was healed
	Err    error          // why it could not be looked at or healed
}

// Repair goes through the list of damages: what can be read again is sound, what
// another copy has is healed from it. each is told of every entry; its error ends
// the repair.
func (h *Health) Repair(ctx context.Context, each func(Repaired) error) error {
	return h.eachDamage(ctx, func(d catalog.Damage) error {
		ending, from, err := h.mend(ctx, catalog.ByRepair, d)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return each(Repaired{Ref: d.Ref, Size: d.Size, Kind: d.Kind, Ending: ending, Copy: from, Err: err})
	})
}

// eachDamage calls f for every open entry.
func (h *Health) eachDamage(ctx context.Context, f func(catalog.Damage) error) error {
	var after storage.Ref
	for {
		list, err := h.o.Catalog.OpenDamage(ctx, after, page)
		if err != nil {
			return err
		}
		for _, d := range list {
			after = d.Ref
			if err := f(d); err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
	}
}

// mend tries to end one damage.
func (h *Health) mend(ctx context.Context, how catalog.How, d catalog.Damage) (catalog.Ending, string, error) {
	damage, sums, err := h.o.Store.ReadBack(ctx, d.Ref, d.Size, nil)
	if err != nil {
		return catalog.StillOpen, "", err
	}
	if damage == storage.Sound {
		err := h.o.Catalog.Found(ctx, how, []catalog.Finding{{Ref: d.Ref, Time: h.o.Now(), Sums: sums}})
		return catalog.EndSound, "", err
	}
	from, err := h.heal(ctx, d.Ref, d.Size)
	if from == "" || err != nil {
		return catalog.StillOpen, "", err
	}
	return catalog.EndCopy, from, nil
}

// heal stores a damaged content again from the first source that has good bytes of
// it, and returns that source's name, "" if none has.
func (h *Health) heal(ctx context.Context, ref storage.Ref, size int64) (string, error) {
	var errs []error
	for _, s := range h.sources() {
		err := h.healFrom(ctx, s, ref, size)
		switch {
		case err == nil:
			h.log.Info("a damaged content was healed", "ref", ref, "from", s.Name())
			return s.Name(), nil
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case !errors.Is(err, storage.ErrNotFound):
			errs = append(errs, fmt.Errorf("%s: %w", s.Name(), err))
		}
	}
	return "", errors.Join(errs...)
}

// healFrom copies the bytes through an upload, like any others: they are hashed on
// their way, and the damaged file is replaced when they are durable.
func (h *Health) healFrom(ctx context.Context, s Source, ref storage.Ref, size int64) error {
	r, err := s.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	u, err := h.o.Store.Begin(ctx, size)
	if err != nil {
		return err
	}
	defer u.Close()
	if _, err := u.Write(ctx, 0, r); err != nil {
		return err
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		return err
	}
	if sealed.Ref != ref {
		return fmt.Errorf("the copy is %w, too", storage.ErrDamaged)
	}
	batch := []storage.Sealed{sealed}
	defer h.o.Store.Release(batch)
	if err := h.o.Store.Commit(ctx, batch)[0]; err != nil {
		return err
	}
	return h.o.Catalog.Healed(context.WithoutCancel(ctx), ref, s.Name())
}
