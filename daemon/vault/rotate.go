package vault

import (
	"context"
	"errors"
	"fmt"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Progress is how far Rotate has come.
type Progress struct {
	People int   `json:"people"` // who have keys, the box itself among them
	Done   int   `json:"done"`   // of them
	Values int64 `json:"values"` // that were sealed anew
	Lost   int64 `json:"lost"`   // that no key opens: they stay as they are
	Found  int64 `json:"found"`  // fingerprints that were made anew
}

// ErrRotating is returned by Rotate while it is running already.
var ErrRotating = errors.New("vault: the keys are being changed already")

// batch is how many values one transaction seals anew: 4 MiB if all are pictures.
const batch = 16

// Rotate makes another master key, other keys for everybody and another one for
// fingerprints, seals every value and makes every fingerprint anew or wraps it (see wrap.go), a few at a time. Cut off at any moment, it goes on where it was when it is
// called again: see Unfinished. The keys before stay until the next rotation, so that a
// second copy that is being written meanwhile can be read: whoever fears that keys are
// known calls it twice. The key of fingerprints before goes at the end (see stillUsed). report is called after each person and each batch.
func (v *Vault) Rotate(ctx context.Context, report func(Progress)) (p Progress, err error) {
	if !v.rotating.TryLock() {
		return p, ErrRotating
	}
	defer v.rotating.Unlock()
	if err := v.beginRotation(ctx); err != nil {
		return p, fmt.Errorf("vault: %w", err)
	}
	people, err := v.people()
	if err != nil {
		return p, fmt.Errorf("vault: %w", err)
	}
	p.People = len(people)
	for _, u := range people {
		err := v.rotatePerson(ctx, u, &p, report)
		if err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, ErrLost) {
			return p, fmt.Errorf("vault: %w", err)
		}
		p.Done++
		report(p)
	}
	if err := v.reindex(ctx, &p, report); err != nil {
		return p, fmt.Errorf("vault: %w", err)
	}
	before, err := v.stillUsed(ctx)
	if err != nil {
		return p, fmt.Errorf("vault: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	done := v.box
	done.Masters, done.Before = []master{v.box.current()}, before
	if err := v.writeTwice(boxName, done); err != nil {
		return p, fmt.Errorf("vault: %w", err)
	}
	v.box = done
	return p, nil
}

// Unfinished reports whether a rotation was cut off.
func (v *Vault) Unfinished() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.box.Masters) > 1
}

// beginRotation makes the next master key and the next one of fingerprints, unless a
// rotation was cut off.
func (v *Vault) beginRotation(ctx context.Context) error {
	next, err := v.nextKeys()
	if err != nil || next == nil {
		return err
	}
	// As a writer among the others: who writes a fingerprint under the key before has
	// written it when this returns, and reindex finds it.
	return v.db.Write(ctx, func(*db.Tx) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.box = *next
		return nil
	})
}

// nextKeys writes the file with which a rotation begins; nil: one has begun.
func (v *Vault) nextKeys() (*boxFile, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.box.Masters) > 1 {
		return nil, nil
	}
	next := v.box
	next.Masters = []master{v.box.current(), newMaster()}
	if v.value != nil {
		next.Before = append([][]byte{v.box.Index}, v.box.Before...)
		next.Before = next.Before[:min(len(next.Before), maxLinkKeys)]
		next.Index, next.Tagged = random(keySize), true
	}
	return &next, v.writeTwice(boxName, next)
}

func (v *Vault) rotatePerson(ctx context.Context, u ident.UserID, p *Progress, report func(Progress)) error {
	r, err := v.turn(u)
	if err != nil {
		return err
	}
	for _, c := range v.cols {
		if err := v.reseal(ctx, u, c, r.current, p, report); err != nil {
			return err
		}
	}
	return nil
}

// turn gives u keys under the newest master, unless they have them.
func (v *Vault) turn(u ident.UserID) (*ring, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone[u] {
		return nil, ErrGone
	}
	f, err := readTwice(v, nameOf(u), parsePerson)
	if err == nil && f.Keys[len(f.Keys)-1].Master == v.box.current().ID {
		return v.load(u)
	}
	return v.renew(u, func(box *boxFile, old []wrapped) (kept []wrapped) {
		if len(old) == 0 {
			return nil
		}
		last := old[len(old)-1]
		m, ok := box.master(last.Master)
		if !ok {
			return old[len(old)-1:] // nothing opens it here, but a key of a second copy may
		}
		general, sensitive, err := m.unwrap(u, last)
		if err != nil {
			return old[len(old)-1:]
		}
		again, err := box.current().wrap(u, last.Generation, general, sensitive)
		if err != nil {
			return old[len(old)-1:]
		}
		return []wrapped{again}
	})
}

// reseal seals what u has in a column under the current keys, a batch at a time.
func (v *Vault) reseal(ctx context.Context, u ident.UserID, c Column, current uint32, p *Progress, report func(Progress)) error {
	head := []byte{sealVersion, byte(current >> 24), byte(current >> 16), byte(current >> 8), byte(current)}
	type value struct {
		row           any
		text          string
		before, after []byte
	}
	find := `SELECT ` + c.Row + `, CAST(` + c.Row + ` AS TEXT), ` + c.Name + ` FROM ` + c.Table + `
		WHERE ` + c.owner() + ` = ?1 AND ` + c.Name + ` IS NOT NULL AND substr(` + c.Name + `, 1, 5) <> ?2
		AND substr(` + c.Name + `, 1, 1) = x'02' AND (?3 IS NULL OR ` + c.Row + ` > ?3) ORDER BY ` + c.Row + ` LIMIT ?4`
	set := `UPDATE ` + c.Table + ` SET ` + c.Name + ` = ?1 WHERE ` + c.owner() + ` = ?2 AND ` + c.Row + ` = ?3 AND ` + c.Name + ` = ?4`
	for last := any(nil); ; {
		var list []value
		err := v.db.Read(ctx, func(tx *db.Tx) error {
			rows, err := tx.QueryContext(ctx, find, int64(u), head, last, batch)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var a value
				if err := rows.Scan(&a.row, &a.text, &a.before); err != nil {
					return err
				}
				list = append(list, a)
			}
			return rows.Err()
		})
		if err != nil || len(list) == 0 {
			return err
		}
		last = list[len(list)-1].row
		var lost int64
		for i := range list {
			a := &list[i]
			plain, err := v.Open(u, c, a.text, a.before)
			if errors.Is(err, ErrLost) || errors.Is(err, ErrChanged) {
				lost++
				continue
			}
			if err == nil {
				a.after, err = v.Seal(u, c, a.text, plain)
			}
			if err != nil {
				return err
			}
		}
		var sealed int64
		err = v.db.Write(ctx, func(tx *db.Tx) error {
			sealed = 0
			for _, a := range list {
				if a.after == nil {
					continue
				}
				// It may have been replaced or deleted meanwhile.
				res, err := tx.Exec(set, a.after, int64(u), a.row, a.before)
				if err != nil {
					return err
				}
				n, err := res.RowsAffected()
				if err != nil {
					return err
				}
				sealed += n
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.Values += sealed
		p.Lost += lost
		report(*p)
	}
}

// Run ends a rotation that was cut off. Where none was, it makes fingerprints anew that
// are under a key that is gone: the records can have come back from a time before it.
func (v *Vault) Run(ctx context.Context) {
	if !v.Unfinished() {
		if !v.rotating.TryLock() {
			return
		}
		defer v.rotating.Unlock()
		if err := v.reindex(ctx, &Progress{}, func(Progress) {}); err != nil && ctx.Err() == nil {
			v.log.Error("somebody may not be found by what they told", "err", err)
		}
		return
	}
	p, err := v.Rotate(ctx, func(Progress) {})
	if err != nil && ctx.Err() == nil {
		v.log.Error("the change of keys that was cut off could not be ended", "err", err)
	} else if err == nil {
		v.log.Info("ended the change of keys that was cut off", "people", p.People, "values", p.Values)
	}
}
