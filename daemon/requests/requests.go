// Package requests takes questions, requests and complaints about personal data, of
// people with an account and without, and sees that they are answered within 15 working
// days (policy 11).
package requests

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// Options of New. Calendar and Log may be nil.
type Options struct {
	DB       *db.DB
	Audit    *audit.Log
	Accounts *account.Accounts
	// Calendar has a file for each year that is not only weekends: see ReadYear.
	Calendar fs.FS
	Log      *slog.Logger
	Now      func() time.Time // for limits
}

// Room is safe for concurrent use.
type Room struct {
	opt      Options
	log      *slog.Logger
	bySource *account.Throttle // of strangers
	byAll    *account.Throttle
	byPerson *account.Throttle
}

// What strangers may cost: three at once and one each 20 minutes from one address, 20 at
// once and one each 10 minutes from all, and this many without an answer.
const (
	maxOpenStrangers = 200
	maxOpenMine      = 20
	maxText          = 8000 // bytes
	maxContact       = 200
	maxAnswer        = 8000
)

// New makes the room.
func New(opt Options) *Room {
	r := &Room{opt: opt, log: opt.Log,
		bySource: account.NewThrottle(20*time.Minute, 3, 1024), byAll: account.NewThrottle(10*time.Minute, 20, 1), byPerson: account.NewThrottle(time.Minute, 10, 1024)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.opt.Now == nil {
		r.opt.Now = time.Now
	}
	return r
}

// ID names a request.
type ID = ident.ItemID

// Kinds are what a request can be about.
func Kinds() []string {
	return []string{"question", "access", "correction", "deletion", "complaint", "other"}
}

// Request is what somebody asks for.
type Request struct {
	ID       ID
	User     ident.UserID // who wrote it; 0: somebody without an account
	Kind     string       // one of Kinds
	Text     string
	Contact  string // how a stranger can be reached; "" they did not say
	Verified bool   // who wrote it had signed in
	Received time.Time
	Due      string // YYYY-MM-DD, in the box's own time
	State    string // open, answered, refused
	Answer   string
	Closed   time.Time // when it was answered or refused; zero: it was not
	Overdue  bool
}

// Wish is a request to be written.
type Wish struct {
	Kind, Text, Contact string
}

func (w *Wish) check() error {
	const op = "requests.write"
	w.Text, w.Contact = strings.TrimSpace(w.Text), strings.TrimSpace(w.Contact)
	if !slices.Contains(Kinds(), w.Kind) {
		return &problem.Error{Kind: problem.Invalid, Op: op, Title: "That is no kind of request", Hint: "Choose one of: " + strings.Join(Kinds(), ", ") + "."}
	}
	for what, s := range map[string]struct {
		text string
		max  int
	}{"text": {w.Text, maxText}, "contact": {w.Contact, maxContact}} {
		if len(s.text) > s.max || !utf8.ValidString(s.text) || strings.ContainsFunc(s.text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }) {
			return &problem.Error{Kind: problem.Invalid, Op: op, Title: "The text is too long, or is no text", Members: map[string]any{"field": what, "max": s.max}}
		}
	}
	if w.Text == "" {
		return &problem.Error{Kind: problem.Invalid, Op: op, Title: "The request says nothing", Hint: "Say what you want to know, or to have done."}
	}
	return nil
}

// Write takes a request. p is who is signed in, or nobody, who comes from remote: they
// get a code to read the answer with, which is shown once.
func (r *Room) Write(ctx context.Context, p ident.Principal, remote string, w Wish) (q Request, code string, err error) {
	const op = "requests.write"
	if err := w.check(); err != nil {
		return q, "", err
	}
	if err := r.limit(p, remote); err != nil {
		return q, "", err
	}
	var user, hash any
	if p.User != 0 {
		user = int64(p.User)
	} else {
		code = rand.Text()
		hash = hashCode(code)
	}
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		var open int
		most, count, args := maxOpenStrangers, `SELECT count(*) FROM request WHERE user IS NULL AND state = 'open'`, []any(nil)
		if p.User != 0 {
			most, count, args = maxOpenMine, `SELECT count(*) FROM request WHERE user = ? AND state = 'open'`, []any{user}
		}
		if err := tx.QueryRow(count, args...).Scan(&open); err != nil {
			return err
		}
		if open >= most {
			return &problem.Error{Kind: problem.Conflict, Op: op, Title: "Too many requests wait for an answer", Hint: "Wait until some are answered, or speak to whoever runs the box."}
		}
		today := today(tx)
		due, err := (&calendar{files: r.opt.Calendar}).after(today, WorkingDays)
		if err != nil {
			// A file that cannot be read must not keep anybody from complaining.
			r.log.Error("the calendar of working days cannot be read; weekends count alone", "err", err)
			if due, err = (&calendar{}).after(today, WorkingDays); err != nil {
				return err
			}
		}
		q = Request{ID: ident.New[ID](tx.Now), User: p.User, Kind: w.Kind, Text: w.Text, Contact: w.Contact, Verified: p.User != 0,
			Received: time.UnixMilli(tx.Now.UnixMilli()).UTC(), Due: due.Format(time.DateOnly), State: "open"}
		if _, err := tx.Exec(`INSERT INTO request (id, user, code, kind, text, contact, verified, received, due, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')`,
			int64(q.ID), user, hash, q.Kind, q.Text, q.Contact, q.Verified, tx.Now.UnixMilli(), q.Due); err != nil {
			return err
		}
		if err := r.opt.Accounts.NotifyAdmins(tx, account.NoticeRequest); err != nil {
			return err
		}
		return r.opt.Audit.Append(tx, audit.Event{Actor: p.User, Action: "request.write", Subject: p.User, Object: q.ID.String(), Device: p.Device, Via: "http",
			Detail: map[string]string{"kind": q.Kind, "due": q.Due}})
	})
	return q, code, err
}

func (r *Room) limit(p ident.Principal, remote string) error {
	now := r.opt.Now()
	wait, ok := time.Duration(0), true
	if p.User != 0 {
		wait, ok = r.byPerson.Take(now, p.User.String())
	} else if wait, ok = r.bySource.Take(now, remote); ok {
		if wait, ok = r.byAll.Take(now, ""); !ok {
			r.bySource.Give(now, remote)
		}
	}
	if ok {
		return nil
	}
	return &problem.Error{Kind: problem.RateLimited, Op: "requests.write", RetryAfter: wait, Title: "Too many requests in a short time", Hint: "Wait a while, then send it again."}
}

func hashCode(code string) []byte {
	code = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '-' {
			return -1
		}
		return r
	}, strings.ToUpper(code))
	sum := sha256.Sum256([]byte(code))
	return sum[:]
}

// today is the day that terms are counted from and held against. While the clock may well
// be wrong it is that of the sure time: one that runs ahead would give an answer years.
func today(tx *db.Tx) time.Time {
	if tx.Unsure {
		return tx.Sure.Local()
	}
	return tx.Now.Local()
}

const columns = `SELECT id, coalesce(user, 0), kind, text, contact, verified, received, due, state, answer, closed FROM request`

func scan(row interface{ Scan(...any) error }, today string) (q Request, err error) {
	var received int64
	var closed sql.NullInt64
	err = row.Scan(&q.ID, &q.User, &q.Kind, &q.Text, &q.Contact, &q.Verified, &received, &q.Due, &q.State, &q.Answer, &closed)
	q.Received = time.UnixMilli(received).UTC()
	if closed.Valid {
		q.Closed = time.UnixMilli(closed.Int64).UTC()
	}
	q.Overdue = q.State == "open" && q.Due < today
	return q, err
}

func (r *Room) list(ctx context.Context, query string, args ...any) (list []Request, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, columns+query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			q, err := scan(rows, today(tx).Format(time.DateOnly))
			if err != nil {
				return err
			}
			list = append(list, q)
		}
		return rows.Err()
	})
	return list, err
}

// MaxList is how many requests a list has at most.
const MaxList = 500

// Mine lists the requests of a person, the newest first.
func (r *Room) Mine(ctx context.Context, u ident.UserID) ([]Request, error) {
	return r.list(ctx, ` WHERE user = ? ORDER BY id DESC LIMIT ?`, int64(u), MaxList)
}

// All lists everybody's requests for whoever manages the box: those that are open, the
// most urgent first, or with closed those that are not, the newest first.
func (r *Room) All(ctx context.Context, closed bool) ([]Request, error) {
	if closed {
		return r.list(ctx, ` WHERE closed IS NOT NULL ORDER BY closed DESC, id LIMIT ?`, MaxList)
	}
	return r.list(ctx, ` WHERE state = 'open' ORDER BY due, id LIMIT ?`, MaxList)
}

func notThere() error {
	return &problem.Error{Kind: problem.NotFound, Op: "requests", Title: "There is no such request", Hint: "It may have been removed: closed requests are kept for a year."}
}

// Read returns the request of a stranger to whoever has its code.
func (r *Room) Read(ctx context.Context, code string) (Request, error) {
	list, err := r.list(ctx, ` WHERE code = ?`, hashCode(code))
	if err != nil || len(list) == 0 {
		return Request{}, errors.Join(err, notThere())
	}
	return list[0], nil
}

// Answer closes a request, by an answer or by saying why it is refused.
func (r *Room) Answer(ctx context.Context, by account.Actor, id ID, refuse bool, text string) error {
	const op = "requests.answer"
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxAnswer || !utf8.ValidString(text) {
		return &problem.Error{Kind: problem.Invalid, Op: op, Title: "An answer has words", Detail: "Also whoever is refused something is told why."}
	}
	state, action := "answered", "request.answer"
	if refuse {
		state, action = "refused", "request.refuse"
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		var user ident.UserID
		err := tx.QueryRow(`UPDATE request SET state = ?, answer = ?, answerer = ?, closed = ? WHERE id = ? AND state = 'open' RETURNING coalesce(user, 0)`,
			state, text, int64(by.Who().User), tx.Sure.UnixMilli(), int64(id)).Scan(&user)
		if errors.Is(err, sql.ErrNoRows) {
			return notThere()
		}
		if err != nil {
			return err
		}
		if user != 0 {
			if err := r.opt.Accounts.Notify(tx, user, account.NoticeAnswered); err != nil {
				return err
			}
		}
		return r.opt.Audit.Append(tx, audit.Event{Actor: by.Who().User, Action: action, Subject: user, Object: id.String(), Device: by.Who().Device, Via: by.Via()})
	})
}

// Tally is how many requests wait.
type Tally struct {
	Open    int64  `json:"open"`
	Overdue int64  `json:"overdue"`
	Due     string `json:"due,omitempty"` // YYYY-MM-DD: the last day for the most urgent one; "": none is open
}

// Tally counts the requests that wait for an answer.
func (r *Room) Tally(ctx context.Context) (t Tally, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(due < ?), 0), coalesce(min(due), '') FROM request WHERE state = 'open'`, today(tx).Format(time.DateOnly)).Scan(&t.Open, &t.Overdue, &t.Due)
	})
	return t, err
}

// keptDays is for how many days a closed request is kept.
const keptDays = 365

// Expire removes the closed requests of strangers that are past the period. Those of
// people go with rights.Period.
func (r *Room) Expire(ctx context.Context, days int) error {
	var any bool
	const over = `SELECT EXISTS (SELECT 1 FROM request WHERE closed <= ? AND user IS NULL)`
	before := int64(0)
	if err := r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		before = tx.Sure.AddDate(0, 0, -days).UnixMilli()
		return tx.QueryRowContext(ctx, over, before).Scan(&any)
	}); err != nil || !any {
		return err
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM request WHERE closed <= ? AND user IS NULL`, before)
		return err
	})
}

// Held says what this room keeps about people.
func (r *Room) Held() rights.Holder {
	return rights.Holder{Package: "requests", Categories: []rights.Category{{
		ID: "requests", Title: rights.Words{EN: "Requests and complaints", ZH: "请求与投诉"},
		What:  rights.Words{EN: "What you asked of whoever runs the box about your data, until when it is to be answered, and the answer.", ZH: "您就个人数据向盒子管理者提出的请求、答复期限和答复内容。"},
		From:  rights.Words{EN: "From you; the answer from whoever runs the box.", ZH: "由您提出；答复由盒子管理者给出。"},
		Kept:  rights.Words{EN: "For a year after the answer, unless the owner of the box chose otherwise.", ZH: "答复后一年，除非盒子主人另行设定。"},
		Fix:   rights.Words{EN: "Write another one.", ZH: "请另行提交。"},
		Erase: rights.Erase{Rows: true}, Period: &rights.Period{Table: "request", Column: "closed", Days: keptDays, Min: 90, Max: 1825},
		Tables: []rights.Table{{
			Name: "request", Kind: "request", Key: []string{"t.id"}, Columns: []rights.Column{
				rights.ID("id"), rights.Text("about").Of("t.kind"), rights.Text("text"), rights.Text("contact"), rights.Flag("verified"), rights.Time("received"),
				rights.Text("due"), rights.Text("state"), rights.Text("answer"), rights.ID("answerer"), rights.Time("closed")},
		}},
	}}}
}
