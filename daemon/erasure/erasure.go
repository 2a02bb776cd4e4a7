// Package erasure is the room of the rights to deletion and cancellation and of
// retention (policy 3.2, 6.3, 6.4): it has erased what people ask for, and what is past
// its period, by what each package says of its own data (package rights).
//
// Whatever it does is written down first and goes on after a power cut, at any step,
// until it has ended; nothing that went comes back. One thing at a time: a small box has
// one slow disk. See docs/decisions/0029.
package erasure

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// DefaultCoolOff is how many days a person can keep an account that they cancelled.
const DefaultCoolOff = 7

// Signer is the box that signs receipts.
type Signer struct {
	ID   string `json:"id"`
	Key  string `json:"key"`  // fingerprint of its key
	SPKI string `json:"spki"` // the key itself, base64
}

// Options of New. All but Shred, Days and Log are needed.
type Options struct {
	DB       *db.DB
	Audit    *audit.Log
	Accounts *account.Accounts
	Consent  *consent.Ledger
	Catalog  *catalog.Catalog
	Rights   func() *rights.Register
	// Sweep removes at once the contents that nobody keeps any longer.
	Sweep func(context.Context) error
	// Scour has every file of the database forget what went: see db.DB.Scour. It may wait
	// until nobody sends.
	Scour func(context.Context) error
	// Shred destroys the keys of a person, by which what copies of the records still
	// hold of them is lost for good; nil: there are none. It may be called again.
	Shred func(context.Context, ident.UserID) error
	// Forget removes copies of the records that lie outside of the database and its
	// journal.
	Forget func(context.Context) error
	// Elsewhere says where data of a person may still be that the box does not reach.
	Elsewhere func(context.Context) ([]Elsewhere, error)
	// Pace is called between two steps: it lets others go first, and an error of it breaks
	// off, to be begun again.
	Pace func(context.Context) error
	Sign func(typ string, payload []byte) (string, error)
	Box  func() (Signer, error)
	Days int // of cooling off; 0: DefaultCoolOff
	Log  *slog.Logger
}

// Room is safe for concurrent use.
type Room struct {
	opt Options
	log *slog.Logger
	ask chan struct{} // holds a token when there may be something to do

	mu      sync.Mutex
	leaving map[ident.UserID]stage
	due     time.Time     // when the next cooling-off ends; zero: none runs
	failed  bool          // something did not go on
	turned  chan struct{} // closed when something has ended; nil: nobody waits
	now     *step         // what is being erased; nil: nothing
}

// New reads who is leaving.
func New(ctx context.Context, opt Options) (*Room, error) {
	r := &Room{opt: opt, log: opt.Log, ask: make(chan struct{}, 1)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.opt.Days = cmp.Or(opt.Days, DefaultCoolOff)
	return r, r.load(ctx)
}

func (r *Room) load(ctx context.Context) error {
	return r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT user, stage, due FROM cancellation`)
		if err != nil {
			return err
		}
		defer rows.Close()
		leaving, first := map[ident.UserID]stage{}, time.Time{}
		for rows.Next() {
			var u ident.UserID
			var s stage
			var due int64
			if err := rows.Scan(&u, &s, &due); err != nil {
				return err
			}
			leaving[u] = s
			if at := time.UnixMilli(due); s == waiting && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		r.mu.Lock()
		r.leaving, r.due = leaving, first
		r.mu.Unlock()
		return rows.Err()
	})
}

// Run goes on with what was begun, and does what is asked for, until ctx ends.
func (r *Room) Run(ctx context.Context) {
	r.wake()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.ask:
		}
		err := r.Work(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.failed = err != nil
		r.mu.Unlock()
		if err != nil {
			// The person's data is not named by it: see problem.Error and package rights.
			r.log.Warn("something that is to be erased is still there; it is tried again", "err", err)
		}
	}
}

func (r *Room) wake() {
	select {
	case r.ask <- struct{}{}:
	default:
	}
}

// Look has done what is due by now. It is called once an hour, and asks no disk while
// nothing is due.
func (r *Room) Look(sure time.Time) {
	r.mu.Lock()
	due := r.failed || !r.due.IsZero() && !sure.Before(r.due)
	r.mu.Unlock()
	if due {
		r.wake()
	}
}

// Work does everything that there is to do now. Run calls it.
func (r *Room) Work(ctx context.Context) error {
	err := r.erase(ctx)
	if cerr := r.cancelAll(ctx); err == nil {
		err = cerr
	}
	return err
}

// turn tells those who wait that something has ended.
func (r *Room) turn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turned != nil {
		close(r.turned)
		r.turned = nil
	}
}

func (r *Room) next() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turned == nil {
		r.turned = make(chan struct{})
	}
	return r.turned
}

// Refuse says why nothing is taken in for somebody: their account is being cancelled.
func (r *Room) Refuse(u ident.UserID) error {
	if _, leaving := r.stageOf(u); !leaving {
		return nil
	}
	return &problem.Error{Kind: problem.Forbidden, Op: "erasure.refuse", Title: "This account is being cancelled",
		Detail: "Until then it can be read and exported, and nothing is taken in or changed.",
		Hint:   "To keep the account, undo the cancellation on the box's page under Account."}
}

// Erasing reports whether the account of u is being erased by now: there is no way back.
func (r *Room) Erasing(u ident.UserID) bool {
	s, leaving := r.stageOf(u)
	return leaving && s != waiting
}

func (r *Room) stageOf(u ident.UserID) (stage, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.leaving[u]
	return s, ok
}

// Held says what this room keeps about people.
func (r *Room) Held() rights.Holder {
	return rights.Holder{Package: "erasure", Categories: []rights.Category{{
		ID: "erasures", Title: rights.Words{EN: "Erasing and cancelling", ZH: "删除与注销"},
		What: rights.Words{EN: "What you asked to have erased, until it is; and that you cancelled your account, until that is done.", ZH: "您要求删除的内容（直到删除完成），以及您已申请注销账户（直到注销完成）。"},
		From: rights.Words{EN: "From you, or from whoever manages the box.", ZH: "由您或管理盒子的人提出。"},
		Kept: rights.Words{EN: "Until it has ended.", ZH: "直到办理完成。"},
		Fix:  rights.Words{EN: "Undo the cancellation while the time to think lasts.", ZH: "冷静期内可撤销注销申请。"},
		Erase: rights.Erase{Step: func(context.Context, ident.UserID, rights.Which, int) (int, error) { return 0, nil },
			Last: rights.Words{EN: "It goes by itself when it is done.", ZH: "办理完成后自动移除。"}},
		Tables: []rights.Table{
			{Name: "erasure", Kind: "erasure", Key: []string{"t.id"}, Columns: []rights.Column{
				rights.ID("id"), rights.Text("category"), rights.Text("purpose"), rights.Flag("trash"), rights.Time("asked"), rights.Text("erased"), rights.Time("gone")}},
			{Name: "cancellation", Kind: "cancellation", Key: []string{"t.user"}, Columns: []rights.Column{
				rights.Text("stage"), rights.Time("asked"), rights.Time("due"), rights.ID("actor"), rights.ID("heir"), rights.Time("accepted"), rights.Time("begun"),
				rights.Text("handed"), rights.Text("trouble"), rights.JSON("counts")}},
		},
	}}}
}
