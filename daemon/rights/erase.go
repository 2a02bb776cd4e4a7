package rights

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Erase says what becomes of a category when all of it is to go, or why it stays. The
// zero Erase says nothing, and a test refuses it.
type Erase struct {
	// Rows has the rows of Tables deleted, some in each transaction.
	Rows bool
	// After is called in each transaction that deleted some of Rows; nil: nothing is.
	After func(*db.Tx, ident.UserID) error
	// Step erases up to n records and returns how many it did; 0: none is left. It may
	// be cut off at any moment and begun again, also by another run of the box.
	Step func(ctx context.Context, u ident.UserID, w Which, n int) (int, error)
	// Count is how much Step would erase for one purpose. Where it is nil the records of
	// the category cannot be told apart by purpose: they go for their only one, or all at once.
	Count func(ctx context.Context, tx *db.Tx, u ident.UserID, purpose string) (Sum, error)
	// With names the category that takes this one along.
	With string
	// Lists names a category whose records this one names: when any of those go for good,
	// all of it goes.
	Lists string
	// Last says why it goes with the account and not before.
	Last Words
	// Stays says why it stays when the account goes, and in which form.
	Stays Words
}

// Which of a category is to be erased.
type Which struct {
	Purpose string // only what rests on this consent; "": all
	Trash   bool   // files go into the trash instead of for good
	// Whole takes all of each category that rests on Purpose, whatever else it rests on:
	// the consent to storage stands behind every file.
	Whole bool
	// End leaves no memory of what went: the account goes, too, or it may come again.
	End bool
	// Before takes only what is older, by the category's Period; zero: all.
	Before time.Time
	// Gone counts the records while they go; nil: nobody asks.
	Gone *atomic.Int64
}

// eraseAtOnce is how many rows one transaction deletes, so that uploads need not wait.
const eraseAtOnce = 512

// deletion is the statement that deletes some of a person's rows: ?1 the person, ?2 how many.
func (t *Table) deletion() (string, error) {
	if t.From != "" && t.Where != "" {
		return "", fmt.Errorf("rights: rows of %s are found by way of other tables: it needs a Step", t.Name)
	}
	key := strings.Join(t.Key, ", ")
	return "DELETE FROM " + t.Name + " AS t WHERE " + t.where() + " AND (" + key + ") IN (SELECT " + key + " FROM " + t.Name + " AS t WHERE " + t.where() +
		" ORDER BY " + key + " LIMIT +?2)", nil
}

// deleteRows deletes up to n rows of the category's tables, in their order.
func (c *Category) deleteRows(ctx context.Context, d *db.DB, u ident.UserID, n int) (deleted int, err error) {
	err = d.Write(ctx, func(tx *db.Tx) error {
		deleted = 0
		for i := range c.Tables {
			query, err := c.Tables[i].deletion()
			if err != nil {
				return err
			}
			res, err := tx.Exec(query, int64(u), n-deleted)
			if err != nil {
				return fmt.Errorf("rights: %s: %w", c.Tables[i].Name, err)
			}
			some, err := res.RowsAffected()
			if err != nil {
				return err
			}
			if deleted += int(some); deleted >= n {
				break
			}
		}
		if deleted > 0 && c.Erase.After != nil {
			return c.Erase.After(tx, u)
		}
		return nil
	})
	return deleted, err
}

// takes reports whether erasing for w takes anything of the category, and whether all.
func (c *Category) takes(w Which) bool {
	if w.Whole {
		return slices.Contains(c.Purposes, w.Purpose)
	}
	return w.Purpose == "" || c.Erase.Count != nil && slices.Contains(c.Purposes, w.Purpose) || slices.Equal(c.Purposes, []string{w.Purpose})
}

// erase erases what w says of the category and returns how many records went.
func (r *Register) erase(ctx context.Context, c *Category, u ident.UserID, w Which) (total int64, err error) {
	if w.Whole || c.Erase.Lists != "" {
		w.Purpose = ""
	}
	for {
		if err := r.rest(ctx); err != nil {
			return total, err
		}
		n := 0
		if c.Erase.Step != nil {
			n, err = c.Erase.Step(ctx, u, w, eraseAtOnce)
		} else if c.Erase.Rows {
			n, err = c.deleteRows(ctx, r.db, u, eraseAtOnce)
		}
		total += int64(n)
		if w.Gone != nil {
			w.Gone.Add(int64(n))
		}
		if err != nil || n == 0 {
			return total, err
		}
	}
}

// Fate is what erasing does to a category of a person.
type Fate struct {
	Category string
	Title    Words
	Goes     Sum   // what goes
	Stays    Words // why nothing goes, or what stays; zero: all of it goes
	With     string
}

// Plan says what erasing would do to a person's data, and nothing is erased: category
// "" is all of them. It tells of categories of which there is something.
func (r *Register) Plan(ctx context.Context, u ident.UserID, category string, w Which) (list []Fate, err error) {
	if category != "" {
		if _, err := r.Category(category); err != nil {
			return nil, err
		}
	}
	err = r.db.Read(ctx, func(tx *db.Tx) error {
		list, err = r.PlanIn(ctx, tx, u, category, w)
		return err
	})
	return list, err
}

// PlanIn is Plan within a transaction; an unknown category has no fate.
func (r *Register) PlanIn(ctx context.Context, tx *db.Tx, u ident.UserID, category string, w Which) (list []Fate, err error) {
	for _, c := range r.Categories() {
		lists := r.listed(&c, w)
		along := category != "" && (c.Erase.With == category || lists && c.Erase.Lists == category)
		if category != "" && c.ID != category && !along || !c.takes(w) && !along && !lists {
			continue
		}
		f := Fate{Category: c.ID, Title: c.Title, With: c.Erase.With}
		if w.Purpose != "" && !w.Whole && !lists && c.Erase.Count != nil {
			f.Goes, err = c.Erase.Count(ctx, tx, u, w.Purpose)
		} else {
			f.Goes, err = c.Sum(ctx, tx, u)
		}
		if err != nil {
			return nil, err
		}
		if f.Goes.Records == 0 && c.ID != category {
			continue
		}
		if f.Stays = c.Erase.Stays; f.Stays == (Words{}) {
			f.Stays = c.Erase.Last
		}
		if f.Stays != (Words{}) {
			f.Goes = Sum{}
		}
		list = append(list, f)
	}
	return list, nil
}

// listed reports whether the category names records of another one that w takes.
func (r *Register) listed(c *Category, w Which) bool {
	o, err := r.Category(c.Erase.Lists)
	return err == nil && !w.Trash && o.takes(w)
}

// Erase erases a category of a person, or with "" every one that does not go with the
// account only, and returns how many records went. It can be cut off at any moment and
// called again; memory does not grow with what there is.
func (r *Register) Erase(ctx context.Context, u ident.UserID, category string, w Which) (total int64, err error) {
	list := r.Categories()
	if category != "" {
		c, err := r.Category(category)
		if err != nil {
			return 0, err
		}
		if c.Erase.With != "" {
			if c, err = r.Category(c.Erase.With); err != nil {
				return 0, err
			}
		}
		if stays := c.stays(); stays != (Words{}) {
			return 0, &problem.Error{Kind: problem.Conflict, Op: "rights.erase", Title: "That cannot be erased by itself", Detail: stays.EN}
		}
		list = []Category{c}
		for _, o := range r.Categories() {
			if o.Erase.Lists == c.ID {
				list = append(list, o)
			}
		}
	}
	for i := range list {
		if c := &list[i]; c.stays() == (Words{}) && (c.takes(w) || r.listed(c, w)) {
			n, err := r.erase(ctx, c, u, w)
			total += n
			if err != nil {
				return total, fmt.Errorf("rights: erase %s: %w", c.ID, err)
			}
		}
	}
	return total, nil
}

func (c *Category) stays() Words {
	if c.Erase.Stays != (Words{}) {
		return c.Erase.Stays
	}
	return c.Erase.Last
}

// Clear erases everything of a person, what goes with the account at the end. What
// Stays remains, and nothing else. It can be cut off at any moment and called again. gone
// counts the records while they go; nil: nobody asks.
func (r *Register) Clear(ctx context.Context, u ident.UserID, gone *atomic.Int64) error {
	w := Which{End: true, Gone: gone}
	if _, err := r.Erase(ctx, u, "", w); err != nil {
		return err
	}
	list := r.Categories()
	for i := len(list) - 1; i >= 0; i-- { // the account was the first to come
		c := &list[i]
		if c.Erase.Last == (Words{}) || c.Erase.Stays != (Words{}) {
			continue
		}
		if i == 0 {
			if err := r.rest(ctx); err != nil {
				return err
			}
			if err := r.clearClaims(ctx, u); err != nil {
				return err
			}
		}
		if _, err := r.erase(ctx, c, u, w); err != nil {
			return fmt.Errorf("rights: erase %s: %w", c.ID, err)
		}
	}
	return nil
}

// clearClaims deletes what is no record of its own: sums and indexes, one row a person.
func (r *Register) clearClaims(ctx context.Context, u ident.UserID) error {
	return r.db.Write(ctx, func(tx *db.Tx) error {
		for _, c := range r.Categories() {
			for _, table := range c.Claims {
				if c.Erase.Stays != (Words{}) {
					continue
				}
				if _, err := tx.Exec("DELETE FROM "+table+" WHERE user = ?", int64(u)); err != nil {
					return fmt.Errorf("rights: %s: %w", table, err)
				}
			}
		}
		return nil
	})
}

// Faults says what is wrong with how the categories say that they are erased.
func (r *Register) Faults() error {
	var errs []error
	for _, c := range r.Categories() {
		e := c.Erase
		ways := 0
		for _, is := range []bool{e.Rows, e.Step != nil, e.With != "", e.Stays != (Words{})} {
			if is {
				ways++
			}
		}
		if ways != 1 {
			errs = append(errs, fmt.Errorf("%s says %d ways in which it is erased, want one: Rows, Step, With or Stays", c.ID, ways))
		}
		if e.With != "" {
			if _, err := r.Category(e.With); err != nil {
				errs = append(errs, fmt.Errorf("%s goes with %s, which does not exist", c.ID, e.With))
			}
		}
		if e.Lists != "" {
			if _, err := r.Category(e.Lists); err != nil {
				errs = append(errs, fmt.Errorf("%s names records of %s, which does not exist", c.ID, e.Lists))
			}
		}
		if e.Rows {
			for i := range c.Tables {
				if _, err := c.Tables[i].deletion(); err != nil {
					errs = append(errs, err)
				}
			}
		}
		if e.Count != nil && e.Step == nil {
			errs = append(errs, fmt.Errorf("%s counts by purpose what it cannot erase by purpose", c.ID))
		}
		if c.Files != nil && e.Rows {
			errs = append(errs, fmt.Errorf("%s has files, which Rows does not erase", c.ID))
		}
	}
	return errors.Join(errs...)
}

// Deletions returns the statements that delete rows, for the test of query plans.
func (t *Table) Deletions() []string {
	q, err := t.deletion()
	if err != nil {
		return nil
	}
	return []string{q}
}

// Counted is how much there is of a category.
type Counted struct {
	Category string `json:"category"`
	Records  int64  `json:"records"`
	Bytes    int64  `json:"bytes"` // of files; 0 where they are not what counts
}

// Count says how much there is of a person, by category; of which there is nothing is
// left out.
func (r *Register) Count(ctx context.Context, u ident.UserID) (list []Counted, err error) {
	list = []Counted{}
	err = r.db.Read(ctx, func(tx *db.Tx) error {
		for _, c := range r.Categories() {
			s, err := c.Sum(ctx, tx, u)
			if err != nil {
				return err
			}
			if s != (Sum{}) {
				list = append(list, Counted{c.ID, s.Records, s.Bytes})
			}
		}
		return nil
	})
	return list, err
}
