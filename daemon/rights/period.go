package rights

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Period is after how many days records of a category go by themselves.
type Period struct {
	// Table and Column say when a record's time began, in Unix milliseconds.
	Table, Column string
	// Where says which records have a period, "": all.
	Where string
	// Days is what holds unless the owner of the box chose otherwise; 0: they stay.
	Days int
	// Min and Max bound what may be chosen. 0, never, may be chosen where Days is 0.
	Min, Max int
}

// Allows reports whether the owner may choose a period of so many days.
func (p *Period) Allows(days int) bool {
	return days >= p.Min && days <= p.Max || days == 0 && p.Days == 0
}

func (p *Period) where() string {
	if p.Where == "" {
		return "t." + p.Column + " IS NOT NULL"
	}
	return p.Where
}

// Periods returns the periods that hold, in days, by category.
func (r *Register) Periods(ctx context.Context) (map[string]int, error) {
	days := map[string]int{}
	for _, c := range r.Categories() {
		if c.Period != nil {
			days[c.ID] = c.Period.Days
		}
	}
	err := r.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT category, days FROM retention`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			var n int
			if err := rows.Scan(&id, &n); err != nil {
				return err
			}
			if _, known := days[id]; known {
				days[id] = n
			}
		}
		return rows.Err()
	})
	return days, err
}

// SetPeriod keeps the owner's choice within tx. The caller has asked Allows.
func (r *Register) SetPeriod(tx *db.Tx, category string, days int) error {
	_, err := tx.Exec(`INSERT INTO retention (category, days) VALUES (?, ?) ON CONFLICT (category) DO UPDATE SET days = excluded.days`, category, days)
	return err
}

// Goes returns when the next record of u in the category goes by its age, the zero time
// for none.
func (c *Category) Goes(ctx context.Context, tx *db.Tx, u ident.UserID, days int) (time.Time, error) {
	if c.Period == nil || days == 0 {
		return time.Time{}, nil
	}
	var first sql.NullInt64
	err := tx.QueryRowContext(ctx, "SELECT min(t."+c.Period.Column+") FROM "+c.Period.Table+" AS t WHERE t.user = +?1 AND "+c.Period.where(), int64(u)).Scan(&first)
	if err != nil || !first.Valid {
		return time.Time{}, err
	}
	return time.UnixMilli(first.Int64).UTC().AddDate(0, 0, days), nil
}

// Due lists who has records of the category that are to go: older than days before Sure,
// and when the oldest of them is from.
func (c *Category) Due(ctx context.Context, tx *db.Tx, days int) (people []ident.UserID, before time.Time, err error) {
	if c.Period == nil || days == 0 {
		return nil, before, nil
	}
	before = tx.Sure.AddDate(0, 0, -days)
	rows, err := tx.QueryContext(ctx, "SELECT u.id FROM user u WHERE EXISTS (SELECT 1 FROM "+c.Period.Table+" AS t WHERE t.user = u.id AND "+c.Period.where()+" AND t."+c.Period.Column+" <= ?1)", before.UnixMilli())
	if err != nil {
		return nil, before, fmt.Errorf("rights: %s: %w", c.ID, err)
	}
	defer rows.Close()
	for rows.Next() {
		var u ident.UserID
		if err := rows.Scan(&u); err != nil {
			return nil, before, err
		}
		people = append(people, u)
	}
	return people, before, rows.Err()
}

// Expire erases what of u in the category is older than before, and returns how many
// records that were.
func (r *Register) Expire(ctx context.Context, c *Category, u ident.UserID, before time.Time) (total int64, err error) {
	for {
		if err := r.rest(ctx); err != nil {
			return total, err
		}
		var n int
		if c.Erase.Step != nil {
			n, err = c.Erase.Step(ctx, u, Which{Before: before}, eraseAtOnce)
		} else {
			n, err = c.expireRows(ctx, r.db, u, before)
		}
		total += int64(n)
		if err != nil || n == 0 {
			return total, err
		}
	}
}

func (c *Category) expireRows(ctx context.Context, d *db.DB, u ident.UserID, before time.Time) (n int, err error) {
	for i := range c.Tables {
		t := c.Tables[i]
		if t.Name != c.Period.Table {
			continue
		}
		t.Where = t.where() + " AND " + c.Period.where() + " AND t." + c.Period.Column + " <= ?3"
		query, err := t.deletion()
		if err != nil {
			return 0, err
		}
		err = d.Write(ctx, func(tx *db.Tx) error {
			res, err := tx.Exec(query, int64(u), eraseAtOnce, before.UnixMilli())
			if err != nil {
				return err
			}
			some, err := res.RowsAffected()
			n = int(some)
			return err
		})
		return n, err
	}
	return 0, fmt.Errorf("rights: %s has no table %s to expire", c.ID, c.Period.Table)
}
