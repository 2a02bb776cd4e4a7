package erasure

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
	"yunbox.local/daemon/signed"
)

const (
	receiptSchema = "yunbox-deletion-receipt/1"
	receiptType   = "yunbox-deletion-receipt+jws"
	// receiptDays is for how long a receipt can be fetched.
	receiptDays = 90
)

// Receipt is what the box vouches for when an account is gone: a JSON Web Signature
// (RFC 7515, compact form, ES256) by its own key, whose payload this is. It names the
// account by the number that the audit record and consent receipts name it by, and holds
// no name.
type Receipt struct {
	Schema     string       `json:"schema_version"`
	Principal  ident.UserID `json:"pii_principal_id"`
	Controller BoxKey       `json:"pii_controller"`
	Box        Signer       `json:"box"`
	By         string       `json:"asked_by"` // person, manager
	Asked      time.Time    `json:"asked"`    // UTC, whole milliseconds, as those below
	Begun      time.Time    `json:"begun"`
	Done       time.Time    `json:"done"`
	// ClockUnsure: the box knew that its clock may well be wrong.
	ClockUnsure bool        `json:"clock_unsure,omitempty"`
	Handed      int64       `json:"files_handed_over"`
	Erased      []Erased    `json:"erased"`
	Stays       []Kept      `json:"stays"`
	Elsewhere   []Elsewhere `json:"elsewhere"`
	Keys        bool        `json:"keys_destroyed"` // the person's own keys
}

// BoxKey is the box that kept the data.
type BoxKey struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

// Erased is what went of one category.
type Erased struct {
	Category string       `json:"category"`
	Title    rights.Words `json:"title"`
	Records  int64        `json:"records"`
	Bytes    int64        `json:"bytes,omitempty"`
}

// Kept is what stays of one category, and why.
type Kept struct {
	Category string       `json:"category"`
	Title    rights.Words `json:"title"`
	Records  int64        `json:"records"`
	Why      rights.Words `json:"why"`
}

// Elsewhere is a place that the box does not reach.
type Elsewhere struct {
	Place string       `json:"place"`
	What  rights.Words `json:"what"`
}

// forget is the last stage: the account is gone. Keys are destroyed, the files of the
// database and copies of it forget, and the receipt is signed in the transaction that
// ends it.
func (r *Room) forget(ctx context.Context, c Cancellation) error {
	if err := r.opt.Pace(ctx); err != nil {
		return err
	}
	if r.opt.Shred != nil {
		if err := r.opt.Shred(ctx, c.User); err != nil {
			return err
		}
	}
	if err := r.opt.Forget(ctx); err != nil {
		return err
	}
	if err := r.opt.Pace(ctx); err != nil {
		return err
	}
	if err := r.opt.Scour(ctx); err != nil {
		return err
	}
	if err := r.opt.Pace(ctx); err != nil {
		return err
	}
	out, err := r.receipt(ctx, c)
	if err != nil {
		return err
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		out.Done, out.ClockUnsure = time.UnixMilli(tx.Now.UnixMilli()).UTC(), tx.Unsure
		payload, err := json.Marshal(out)
		if err != nil {
			return err
		}
		jws, err := r.opt.Sign(receiptType, payload)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO deletion_receipt (code, jws, expires) VALUES (?, ?, ?)`, c.code, jws, tx.Sure.AddDate(0, 0, receiptDays).UnixMilli()); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM cancellation WHERE user = ?`, int64(c.User)); err != nil {
			return err
		}
		tx.AfterCommit(func() { r.set(c.User, "", time.Time{}) })
		return r.opt.Audit.Append(tx, audit.Event{Action: "account.erased", Subject: c.User, Via: "box"})
	})
}

func (r *Room) receipt(ctx context.Context, c Cancellation) (Receipt, error) {
	box, err := r.opt.Box()
	if err != nil {
		return Receipt{}, err
	}
	out := Receipt{
		Schema: receiptSchema, Principal: c.User, Controller: BoxKey{box.ID, box.Key}, Box: box, By: "manager",
		Asked: c.Asked, Begun: c.begun, Handed: c.Handed, Erased: []Erased{}, Stays: []Kept{}, Keys: r.opt.Shred != nil,
	}
	if c.Actor == c.User {
		out.By = "person"
	}
	if out.Elsewhere, err = r.opt.Elsewhere(ctx); err != nil {
		return out, err
	}
	var counts []rights.Counted
	if err := json.Unmarshal([]byte(c.counts), &counts); err != nil {
		return out, err
	}
	left, err := r.opt.Rights().Count(ctx, c.User)
	if err != nil {
		return out, err
	}
	stays := map[string]int64{}
	for _, n := range left {
		stays[n.Category] = n.Records
	}
	for _, n := range counts {
		k, err := r.opt.Rights().Category(n.Category)
		if problem.KindOf(err) == problem.NotFound {
			k = rights.Category{ID: n.Category, Title: rights.Words{EN: n.Category, ZH: n.Category}} // of the version before
		} else if err != nil {
			return out, err
		}
		if k.Erase.Stays != (rights.Words{}) {
			out.Stays = append(out.Stays, Kept{k.ID, k.Title, stays[k.ID], k.Erase.Stays})
			continue
		}
		out.Erased = append(out.Erased, Erased{k.ID, k.Title, n.Records, n.Bytes})
	}
	return out, nil
}

// Fetched is the answer to who has the code of a receipt.
type Fetched struct {
	State string // waiting, erasing, done
	Due   time.Time
	JWS   string // once it is done
}

// Fetch returns the receipt of an account that is gone, or how far that is, to whoever
// has the code: nobody can sign in any more.
func (r *Room) Fetch(ctx context.Context, code string) (f Fetched, err error) {
	hash := hashCode(code)
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		c, err := scan(tx.QueryRowContext(ctx, cancelColumns+` WHERE code = ?`, hash))
		if err == nil {
			if f.State = "erasing"; stage(c.Stage) == waiting {
				f = Fetched{State: "waiting", Due: c.Due}
			}
			c.over = !tx.Sure.Before(c.Due)
			r.lookAt(c)
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		f.State = "done"
		return tx.QueryRowContext(ctx, `SELECT jws FROM deletion_receipt WHERE code = ?`, hash).Scan(&f.JWS)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = &problem.Error{Kind: problem.NotFound, Op: "erasure.fetch", Title: "There is no receipt for that code",
			Detail: "It may have been kept longer than 90 days ago, the account may have been kept, or the code has a mistake.",
			Hint:   "Type the code as it was shown when the account was cancelled."}
	}
	return f, err
}

// NewCode gives somebody who is leaving another code for their receipt: the one before
// was lost, or was shown to whoever manages the box.
func (r *Room) NewCode(ctx context.Context, u ident.UserID) (code string, err error) {
	code, hash := newCode()
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`UPDATE cancellation SET code = ? WHERE user = ? AND stage = 'waiting'`, hash, int64(u))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, notLeaving())
		}
		return nil
	})
	return code, err
}

// Read returns what a receipt of this box says, without checking its signature.
func Read(jws string) (r Receipt, err error) {
	payload, err := signed.Payload(jws)
	if err == nil {
		err = json.Unmarshal(payload, &r)
	}
	return r, err
}
