package erasure

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// Work is something that is being erased, or waits for that. It holds nothing of what it
// is about but how many records.
type Work struct {
	User    ident.UserID
	Account bool // it goes as a whole, and not a part of the data
	Asked   time.Time
	Due     time.Time // when an account's time to think ends; zero: nothing waits for that
	Began   time.Time // when this start of the box came to it; zero: it waits for its turn
	Done    int64     // records that went
	Before  int64     // of them, before Began
	Total   int64     // 0: not known yet
	Tidying bool      // they are gone; files of the database still have to forget them
	Trouble string    // why an account does not go on: see Cancellation.Trouble
}

// step is what is being erased now.
type step struct {
	user   ident.UserID
	job    int64 // 0: an account
	began  time.Time
	before int64
	total  int64
	gone   atomic.Int64
}

func (s *step) tell(w *Work) {
	w.Began, w.Before, w.Total = s.began, s.before, s.total
	w.Done = min(s.before+s.gone.Load(), s.total)
}

// at notes what is being erased now; nil: nothing is.
func (r *Room) at(s *step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = s
}

// stepOf begins to count what goes for a job of a person.
func (r *Room) stepOf(ctx context.Context, u ident.UserID, j Job) (*step, error) {
	fates, err := r.opt.Rights().Plan(ctx, u, j.Category, rights.Which{Purpose: j.Purpose, Trash: j.Trash})
	if err != nil {
		return nil, err
	}
	s := &step{user: u, job: j.ID, began: time.Now(), before: j.Erased, total: j.Erased}
	for _, f := range fates {
		s.total += f.Goes.Records
	}
	return s, nil
}

// stepOfAccount begins to count what goes with an account.
func (r *Room) stepOfAccount(ctx context.Context, c Cancellation) (*step, error) {
	left, err := r.opt.Rights().Count(ctx, c.User)
	if err != nil {
		return nil, err
	}
	s := &step{user: c.User, began: time.Now(), total: r.goes(c.counts)}
	s.before = max(s.total-r.records(left), 0)
	return s, nil
}

// goes is how many records of a cancellation's counts do not stay; 0: they were not
// counted yet.
func (r *Room) goes(counts string) int64 {
	var list []rights.Counted
	if json.Unmarshal([]byte(counts), &list) != nil {
		return 0
	}
	return r.records(list)
}

func (r *Room) records(list []rights.Counted) (n int64) {
	for _, c := range list {
		if k, err := r.opt.Rights().Category(c.Category); err == nil && k.Erase.Stays == (rights.Words{}) {
			n += c.Records
		}
	}
	return n
}

// Works lists what is being erased, and what waits for that, the oldest first: what people
// asked for, then accounts on their way out.
func (r *Room) Works(ctx context.Context) (list []Work, err error) {
	r.mu.Lock()
	now := r.now
	r.mu.Unlock()
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		list = nil
		people, all, err := owned(tx.QueryContext(ctx, jobColumns+` ORDER BY id`))
		if err != nil {
			return err
		}
		for i, j := range all {
			w := Work{User: people[i], Asked: j.Asked, Done: j.Erased, Tidying: j.Done}
			switch {
			case j.Done:
				w.Total = j.Erased
			case now != nil && now.job == j.ID:
				now.tell(&w)
			}
			list = append(list, w)
		}
		leaving, err := cancellations(ctx, tx)
		if err != nil {
			return err
		}
		for _, c := range leaving {
			w := Work{User: c.User, Account: true, Asked: c.Asked, Trouble: c.Trouble}
			switch stage(c.Stage) {
			case waiting:
				w.Due = c.Due
			case forgetting:
				w.Total = r.goes(c.counts)
				w.Done, w.Tidying = w.Total, true
			default:
				w.Began = c.begun
				if now != nil && now.job == 0 && now.user == c.User {
					now.tell(&w)
				}
			}
			list = append(list, w)
		}
		return nil
	})
	return list, err
}

// Failed says whether something could not be erased; it is tried again each hour.
func (r *Room) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}
