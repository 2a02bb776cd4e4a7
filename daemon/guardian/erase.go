package guardian

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

const (
	// Grace is how long what came in of a child stays after its consent was withdrawn,
	// unless a guardian wants it deleted at once or agrees again. Both are shown the day.
	Grace = 14 * 24 * time.Hour
	// checkEvery is how often Run looks whether something is due.
	checkEvery = time.Hour
	// DeletionType is typ in the header of a receipt of a deletion.
	DeletionType   = "yunbox-deletion+jws"
	deletionSchema = "yunbox-deletion/1"
	keptDeletions  = 100 // receipts that are shown
)

// Erasure is what is to be deleted of a child because its consent was withdrawn.
type Erasure struct {
	Purpose consent.Purpose // Storage: everything
	Decided time.Time       // when the consent was withdrawn
	Due     time.Time       // when it is deleted at the latest
	Now     bool            // a guardian wants it deleted at once
	Begun   bool            // some of it is gone
}

// Deletion is the receipt of an erasure, signed as consent.Receipt is: JWS with the typ
// DeletionType over the JSON of all other fields.
type Deletion struct {
	Schema string `json:"schema_version"`
	// Record is the hash of the ledger's entry that withdrew the consent, or declined the
	// policy; left out where nobody withdrew it: nobody stood behind it any more.
	Record     string             `json:"record_id,omitempty"`
	Controller consent.Controller `json:"pii_controller"`
	Principal  ident.UserID       `json:"pii_principal_id"`
	Purpose    consent.Purpose    `json:"purpose"`
	All        bool               `json:"all"` // everything of the person was deleted, not one purpose's data
	Title      map[string]string  `json:"title"`
	// Requester is the guardian who wanted it at once; left out: its time had come.
	Requester ident.UserID `json:"requested_by,omitzero"`
	Decided   time.Time    `json:"decided"` // UTC, whole milliseconds
	Deleted   time.Time    `json:"deleted"`
	// ClockUnsure: the box knew that its clock may well be wrong.
	ClockUnsure bool              `json:"clock_unsure,omitempty"`
	Files       int64             `json:"files"` // that there were when it began, and older versions of files
	Bytes       int64             `json:"bytes"` // of them
	Left        map[string]string `json:"left"`  // what goes later, and when
	JWS         string            `json:"jws,omitempty"`
}

// left says, by language, what a deletion reaches later.
func left() map[string]string {
	return map[string]string{
		"en": "A content that somebody else on the box keeps, too, stays as theirs. A second copy on another disk forgets with the second run after this.",
		"zh": "盒子上另有人保存的同样内容作为其本人的内容保留。另一块磁盘上的副本在此后第二次运行时移除。",
	}
}

// which is what came in under p: under Storage, everything. It leaves no memory, so that
// the phone may send it again when a guardian agrees again. ok is false where nothing comes in.
func (r *Room) which(p consent.Purpose) (w rights.Which, ok bool) {
	info, err := r.purpose(p)
	return rights.Which{Purpose: string(p), Whole: p == consent.Storage, End: true}, err == nil && len(info.Sources) > 0
}

// came counts what came in of u: files with their older versions, and unfinished uploads.
func (r *Room) came(ctx context.Context, tx *db.Tx, u ident.UserID, w rights.Which) (files rights.Sum, any bool, err error) {
	plan, err := r.Rights().PlanIn(ctx, tx, u, "", w)
	for _, f := range plan {
		switch f.Category {
		case "files", "versions", "trash":
			files.Records += f.Goes.Records
			files.Bytes += f.Goes.Bytes
			any = true
		case "uploads":
			any = true
		}
	}
	return files, any, err
}

func erasures(tx *db.Tx, child ident.UserID) (list []Erasure, err error) {
	rows, err := tx.Query(`SELECT purpose, decided, due, asked_by IS NOT NULL, begun IS NOT NULL FROM ward_erasure WHERE child = ? ORDER BY purpose`, int64(child))
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e Erasure
		var decided, due sql.NullInt64
		if err := rows.Scan(&e.Purpose, &decided, &due, &e.Now, &e.Begun); err != nil {
			return nil, err
		}
		e.Decided, e.Due = timeOf(decided), timeOf(due)
		list = append(list, e)
	}
	return list, rows.Err()
}

func receipts(tx *db.Tx, child ident.UserID) (list []string, err error) {
	rows, err := tx.Query(`SELECT jws FROM ward_deletion WHERE child = ? ORDER BY id DESC LIMIT ?`, int64(child), keptDeletions)
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var jws string
		if err := rows.Scan(&jws); err != nil {
			return nil, err
		}
		list = append(list, jws)
	}
	return list, rows.Err()
}

// Deletions returns the receipts of what was deleted of u as a child, also long after.
func (r *Room) Deletions(ctx context.Context, u ident.UserID) (list []string, err error) {
	err = r.DB.Read(ctx, func(tx *db.Tx) error {
		list, err = receipts(tx, u)
		return err
	})
	return list, err
}

// keep takes an erasure back that has not begun: the consent is given again.
func (r *Room) keep(tx *db.Tx, child ident.UserID, p consent.Purpose) error {
	var begun bool
	err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM ward_erasure WHERE child = ? AND purpose IN (?, ?) AND begun IS NOT NULL)`,
		int64(child), string(p), string(consent.Storage)).Scan(&begun)
	if err != nil {
		return err
	}
	if begun {
		return errDeleting("guardian.keep")
	}
	_, err = tx.Exec(`DELETE FROM ward_erasure WHERE child = ? AND purpose = ?`, int64(child), string(p))
	return err
}

func errDeleting(op string) error {
	return &problem.Error{Kind: problem.Conflict, Op: op, Title: "What came in before is being deleted",
		Detail: "It cannot be kept any more.", Hint: "Decide again in a moment, when the receipt of the deletion is there."}
}

// schedule has what came in under a consent that ended deleted in time.
func (r *Room) schedule(tx *db.Tx, w Ward, d consent.Decision) error {
	what, ok := r.which(d.Purpose)
	if !ok || d.Device != 0 {
		return nil
	}
	_, has, err := r.came(context.Background(), tx, d.User, what)
	if err != nil || !has {
		return err
	}
	res, err := tx.Exec(`INSERT INTO ward_erasure (child, purpose, actor, decided, due) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		int64(d.User), string(d.Purpose), int64(d.Actor), tx.Now.UnixMilli(), tx.Sure.Add(Grace).UnixMilli())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return r.tell(tx, account.NoticeWardErasure, w.Name, append(w.standing(), d.User)...)
}

// EraseNow has what came in of child under p deleted at once, for its guardian g, who has
// proved lately who they are. The consent must have ended before (problem.Conflict).
func (r *Room) EraseNow(ctx context.Context, g ident.Principal, child ident.UserID, p consent.Purpose) error {
	const op = "guardian.erase"
	err := r.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := r.stands(tx, op, g.User, child); err != nil {
			return err
		}
		what, ok := r.which(p)
		if !ok {
			return &problem.Error{Kind: problem.Invalid, Op: op, Title: "Nothing comes in under that purpose",
				Detail: "Only backups and the storage of files keep what a child sends.", Hint: "Choose one of those."}
		}
		switch state, err := r.Consent.StateIn(tx, child, p); {
		case err != nil:
			return err
		case state == consent.Granted:
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "You agree to that purpose",
				Detail: "What comes in would be deleted while more is coming.", Hint: "Withdraw the consent first, then delete."}
		}
		_, has, err := r.came(ctx, tx, child, what)
		if err != nil {
			return err
		}
		if !has {
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "There is nothing to delete", Hint: "Nothing came in under that purpose, or it was deleted already."}
		}
		if _, err := tx.Exec(`INSERT INTO ward_erasure (child, purpose, actor, decided, due, asked_by) VALUES (?1, ?2, ?3, ?4, ?5, ?3)
			ON CONFLICT DO UPDATE SET asked_by = coalesce(asked_by, excluded.asked_by)`,
			int64(child), string(p), int64(g.User), tx.Now.UnixMilli(), tx.Sure.UnixMilli()); err != nil {
			return err
		}
		e := account.As(g, "http").Event("guardian.erase", child)
		e.Object = string(p)
		return r.Audit.Append(tx, e)
	})
	if err == nil {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return err
}

// Run deletes what is due and sees to who turned 14, until ctx ends.
func (r *Room) Run(ctx context.Context) {
	timer := time.NewTimer(30 * time.Second) // the start has better things to do
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
			timer.Reset(checkEvery)
		}
		if err := r.Settle(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn("what is due for children was not done", "err", err)
		}
	}
}

// Settle does at once all that Run would do in time.
func (r *Room) Settle(ctx context.Context) error {
	_, err := r.Mature(ctx)
	type what struct {
		child ident.UserID
		p     consent.Purpose
	}
	var due []what
	rerr := r.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(`SELECT child, purpose FROM ward_erasure WHERE asked_by IS NOT NULL OR begun IS NOT NULL OR due <= ?`, tx.Sure.UnixMilli())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var w what
			if err := rows.Scan(&w.child, &w.p); err != nil {
				return err
			}
			due = append(due, w)
		}
		return rows.Err()
	})
	err = errors.Join(err, rerr)
	gone := due[:0]
	for _, w := range due {
		left, eerr := r.erase(ctx, w.child, w.p)
		if err = errors.Join(err, eerr); eerr == nil && left {
			gone = append(gone, w)
		}
	}
	if len(gone) == 0 {
		return err
	}
	if cerr := r.Clean(ctx); cerr != nil { // no receipt before nothing is left in any file
		return errors.Join(err, cerr)
	}
	for _, w := range gone {
		err = errors.Join(err, r.DB.Write(ctx, func(tx *db.Tx) error { return r.finish(tx, w.child, w.p) }))
	}
	return err
}

// erase deletes what came in of child under p, and reports whether that is to be signed.
// What ends early goes on later: nothing brings it back, since no consent is taken meanwhile.
func (r *Room) erase(ctx context.Context, child ident.UserID, p consent.Purpose) (bool, error) {
	what, ok := r.which(p)
	if !ok {
		return false, fmt.Errorf("guardian: nothing comes in under %s", p)
	}
	begin := false
	err := r.DB.Write(ctx, func(tx *db.Tx) error {
		var begun bool
		err := tx.QueryRow(`SELECT begun IS NOT NULL FROM ward_erasure WHERE child = ? AND purpose = ?`, int64(child), string(p)).Scan(&begun)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // it went with another one, or somebody agreed again
		}
		if err != nil {
			return err
		}
		state, err := r.Consent.StateIn(tx, child, p)
		switch {
		case err != nil:
			return err
		case state == consent.Granted && begun: // somebody stands behind it again: what is gone has its receipt, the rest stays
			return r.finish(tx, child, p)
		case state == consent.Granted: // never, whatever the table says
			_, err := tx.Exec(`DELETE FROM ward_erasure WHERE child = ? AND purpose = ?`, int64(child), string(p))
			return err
		}
		if begin = true; begun {
			return nil
		}
		files, _, err := r.came(ctx, tx, child, what)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE ward_erasure SET begun = ?, files = ?, bytes = ? WHERE child = ? AND purpose = ?`,
			tx.Now.UnixMilli(), files.Records, files.Bytes, int64(child), string(p))
		return err
	})
	if err != nil || !begin {
		return false, err
	}
	_, err = r.Rights().Erase(ctx, child, "", what)
	return true, err
}

// finish signs that all of it is gone.
func (r *Room) finish(tx *db.Tx, child ident.UserID, p consent.Purpose) error {
	info, err := r.purpose(p)
	if err != nil {
		return err
	}
	d := Deletion{
		Schema: deletionSchema, Controller: r.Consent.Controller(), Principal: child, Purpose: p, All: p == consent.Storage, Title: map[string]string{},
		Deleted: time.UnixMilli(tx.Now.UnixMilli()).UTC(), ClockUnsure: tx.Unsure, Left: left(),
	}
	for lang, t := range info.Text {
		d.Title[lang] = t.Title
	}
	var decided, asked sql.NullInt64
	err = tx.QueryRow(`SELECT decided, asked_by, files, bytes FROM ward_erasure WHERE child = ? AND purpose = ?`, int64(child), string(p)).
		Scan(&decided, &asked, &d.Files, &d.Bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // another run of this finished it
	}
	if err != nil {
		return err
	}
	d.Decided, d.Requester = timeOf(decided), ident.UserID(asked.Int64)
	state, err := r.Consent.StateIn(tx, child, p)
	if err != nil {
		return err
	}
	ended := p
	if state != consent.Withdrawn && r.Consent.Standing(child) == consent.Declined {
		state, ended = consent.Withdrawn, consent.WholePolicy // that is how it ended
	}
	if state == consent.Withdrawn {
		if d.Record, err = r.Consent.Entry(tx, child, ended); err != nil {
			return err
		}
	}
	payload, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("guardian: receipt: %w", err)
	}
	jws, err := r.Consent.Sign(DeletionType, payload)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO ward_deletion (child, time, jws) VALUES (?, ?, ?)`, int64(child), tx.Now.UnixMilli(), jws); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM ward_erasure WHERE child = ? AND purpose = ?`, int64(child), string(p)); err != nil {
		return err
	}
	if d.All { // what was to be deleted of it alone is gone with it
		if _, err := tx.Exec(`DELETE FROM ward_erasure WHERE child = ? AND begun IS NULL`, int64(child)); err != nil {
			return err
		}
	}
	w, err := r.ward(tx, child)
	if err != nil {
		return err
	}
	if err := r.tell(tx, account.NoticeWardErased, w.Name, append(w.standing(), child)...); err != nil {
		return err
	}
	e := account.Root(viaBox).Event("guardian.erased", child)
	e.Object = string(p)
	e.Detail = map[string]string{"files": fmt.Sprint(d.Files)}
	return r.Audit.Append(tx, e)
}

// Decode reads a receipt of our own without checking it; `yunboxctl receipt verify` does that.
func Decode(jws string) (Deletion, error) {
	var d Deletion
	_, rest, _ := strings.Cut(jws, ".")
	body, _, _ := strings.Cut(rest, ".")
	payload, err := base64.RawURLEncoding.DecodeString(body)
	if err == nil {
		err = json.Unmarshal(payload, &d)
	}
	if err != nil {
		return d, fmt.Errorf("guardian: receipt: %w", err)
	}
	d.JWS = jws
	return d, nil
}

// Declare notes that p says to be 14 or older: that they said so once, and nothing else.
func (r *Room) Declare(ctx context.Context, p ident.Principal) error {
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		var said bool
		err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM audit WHERE actor = ? AND action = 'age.declare')`, int64(p.User)).Scan(&said)
		if err != nil || said {
			return err
		}
		return r.Audit.Append(tx, account.As(p, "http").Event("age.declare", p.User))
	})
}
