package erasure

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// Job is something of a person's data that is being erased.
type Job struct {
	ID       int64
	Category string // "": all
	Purpose  string // "": whatever it rests on
	Trash    bool   // files go into the trash
	Asked    time.Time
	Erased   int64 // records so far
	Done     bool  // nothing of it is left
}

// maxJobs is how many may wait of one person.
const maxJobs = 32

// Begin has a category of a person's data erased, or what rests on one purpose, or with
// neither all that does not go with the account only. It is written down when Begin
// returns, and goes on whatever happens.
func (r *Room) Begin(ctx context.Context, p ident.Principal, category, purpose string, trash bool) (Job, error) {
	const op = "erasure.begin"
	w := rights.Which{Purpose: purpose, Trash: trash}
	fates, err := r.opt.Rights().Plan(ctx, p.User, category, w)
	if err != nil {
		return Job{}, err
	}
	if category != "" && len(fates) > 0 && fates[0].Category == category && fates[0].Stays != (rights.Words{}) {
		return Job{}, &problem.Error{Kind: problem.Conflict, Op: op, Title: "That cannot be erased by itself", Detail: fates[0].Stays.EN}
	}
	j := Job{Category: category, Purpose: purpose, Trash: trash}
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		var waiting int
		if err := tx.QueryRow(`SELECT count(*) FROM erasure WHERE user = ? AND gone IS NULL`, int64(p.User)).Scan(&waiting); err != nil {
			return err
		}
		if waiting >= maxJobs {
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "Much of your data is being erased already", Hint: "Wait until that has ended."}
		}
		j.Asked = tx.Now.UTC().Truncate(time.Millisecond)
		if err := tx.QueryRow(`INSERT INTO erasure (user, category, purpose, trash, asked) VALUES (?, ?, ?, ?, ?) RETURNING id`,
			int64(p.User), category, purpose, trash, tx.Now.UnixMilli()).Scan(&j.ID); err != nil {
			return err
		}
		detail := map[string]string{}
		if purpose != "" {
			detail["purpose"] = purpose
		}
		return r.opt.Audit.Append(tx, audit.Event{Actor: p.User, Action: "data.erase", Subject: p.User, Object: category, Device: p.Device, Via: "http", Detail: detail})
	})
	if err != nil {
		return Job{}, err
	}
	r.wake()
	return j, nil
}

// Gone has the files of the database forget what was erased of a category within tx,
// elsewhere than by Begin, or what another value took the place of. Until they have, the
// person sees it among what is being erased.
func (r *Room) Gone(tx *db.Tx, u ident.UserID, category string) error {
	if _, err := tx.Exec(`INSERT INTO erasure (user, category, purpose, trash, asked, erased, gone) VALUES (?1, ?2, '', 0, ?3, 1, ?3)`,
		int64(u), category, tx.Now.UnixMilli()); err != nil {
		return err
	}
	tx.AfterCommit(r.wake)
	return nil
}

// Jobs lists what is being erased of a person, and what was a moment ago.
func (r *Room) Jobs(ctx context.Context, u ident.UserID) (list []Job, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		list, err = jobs(tx.QueryContext(ctx, jobColumns+` WHERE user = ? ORDER BY id`, int64(u)))
		return err
	})
	return list, err
}

const jobColumns = `SELECT id, user, category, purpose, trash, asked, erased, gone FROM erasure`

func jobs(rows *sql.Rows, err error) (list []Job, _ error) {
	_, list, err = owned(rows, err)
	return list, err
}

func owned(rows *sql.Rows, err error) (people []ident.UserID, list []Job, _ error) {
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var j Job
		var u ident.UserID
		var asked int64
		var gone sql.NullInt64
		if err := rows.Scan(&j.ID, &u, &j.Category, &j.Purpose, &j.Trash, &asked, &j.Erased, &gone); err != nil {
			return nil, nil, err
		}
		j.Asked, j.Done = time.UnixMilli(asked).UTC(), gone.Valid
		people, list = append(people, u), append(list, j)
	}
	return people, list, rows.Err()
}

// Wait returns how a job stands when nothing of it is left, or after d.
func (r *Room) Wait(ctx context.Context, u ident.UserID, id int64, d time.Duration) (Job, error) {
	patience := time.NewTimer(d)
	defer patience.Stop()
	for late := false; ; {
		turned := r.next()
		list, err := r.Jobs(ctx, u)
		if err != nil {
			return Job{}, err
		}
		now := Job{ID: id, Done: true} // forgotten, with what it was about
		for _, j := range list {
			if j.ID == id {
				now = j
			}
		}
		if now.Done || late {
			return now, nil
		}
		select {
		case <-turned:
		case <-patience.C:
			late = true
		case <-ctx.Done():
			return now, context.Cause(ctx)
		}
	}
}

// erase does all jobs, one after the other, and then has the files of the database
// forget what went. What they were is forgotten last.
func (r *Room) erase(ctx context.Context) error {
	var people []ident.UserID
	var list []Job
	err := r.opt.DB.Read(ctx, func(tx *db.Tx) (err error) {
		people, list, err = owned(tx.QueryContext(ctx, jobColumns+` ORDER BY id`))
		return err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	var errs []error
	scour, ended := false, []int64{}
	for i, j := range list {
		if !j.Done {
			if err := r.eraseOne(ctx, people[i], j); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		ended = append(ended, j.ID)
		scour = scour || !j.Trash || j.Category != "files"
	}
	if scour && len(errs) == 0 {
		if err := r.opt.Sweep(ctx); err != nil {
			return err
		}
		if err := r.opt.Scour(ctx); err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		for _, id := range ended {
			if _, err := tx.Exec(`DELETE FROM erasure WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Room) eraseOne(ctx context.Context, u ident.UserID, j Job) error {
	s, err := r.stepOf(ctx, u, j)
	if err != nil {
		return err
	}
	r.at(s)
	defer r.at(nil)
	n, err := r.opt.Rights().Erase(ctx, u, j.Category, rights.Which{Purpose: j.Purpose, Trash: j.Trash, Gone: &s.gone})
	werr := r.opt.DB.Write(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		var gone any
		if err == nil {
			gone = tx.Now.UnixMilli()
		}
		_, err := tx.Exec(`UPDATE erasure SET erased = erased + ?, gone = ? WHERE id = ?`, n, gone, j.ID)
		return err
	})
	r.turn()
	return errors.Join(err, werr)
}
