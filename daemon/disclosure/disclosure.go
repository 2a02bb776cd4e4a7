// Package disclosure is the register of everything that left the box: to whom, which
// data of whom, why, and on whose authority (policy 5). It is only appended to and its
// entries are linked by hashes as those of the audit record are.
//
// What a person takes along, a second copy on a disk, an e-mail, a question to a
// service elsewhere: each is written down before it happens or in the transaction that
// says it did. Requests over HTTP leave by Client, which sends none without an entry,
// so that there is no way around the register.
//
// Entries hold identifiers and words of the program, no names, addresses or contents.
package disclosure

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Kind is what happened.
type Kind string

// The kinds of entries.
const (
	Export      Kind = "export"       // a person fetched all that is held about them
	SecondCopy  Kind = "second_copy"  // the box was copied, encrypted, to another disk
	Email       Kind = "email"        // an e-mail was given to the mail server
	SignInAsk   Kind = "sign_in_ask"  // the box asked a service that people sign in with
	SignIn      Kind = "sign_in"      // somebody signed in with an account elsewhere
	Link        Kind = "link"         // somebody connected an account elsewhere
	UpdateCheck Kind = "update_check" // the box asked for a newer version
	Statistics  Kind = "statistics"   // sums were sent
	UpdateFetch Kind = "update_fetch" // the box fetched an update
	Publication Kind = "publication"  // a text was shown to everybody who opens the page
)

// Basis is what allows it.
type Basis string

// On whose authority something leaves the box.
const (
	ByPerson  Basis = "person"  // the person did it, or asked for exactly that
	ByConsent Basis = "consent" // Authority names the purpose and the entry of the ledger
	ByClause  Basis = "clause"  // Authority names the clause of the policy
	ByOwner   Basis = "owner"   // who runs the box arranged it
)

// Entry is one thing that left the box.
type Entry struct {
	// User is whom it is about; zero: nobody in particular. Everyone is everybody who
	// has an account at the time.
	User     ident.UserID
	Everyone bool
	Kind     Kind
	// Recipient is to whom: the name of a host, or a word; at most 255 bytes.
	Recipient string
	// Categories are which data, as rights.Category.ID or words like it.
	Categories []string
	// Why is what for, a word of a to z and underscores.
	Why string
	// Basis and Authority are what allows it, see the constants.
	Basis     Basis
	Authority string
	// Actor had it done; zero: the box itself, or the system's administrator.
	Actor ident.UserID
	// Object is the identifier of what it was; at most 64 bytes.
	Object string
}

// Recorded is an Entry as it was written down.
type Recorded struct {
	Seq  int64
	Time time.Time // UTC, whole milliseconds
	Entry
}

// Register is that of one box. It is safe for concurrent use.
type Register struct {
	db    *db.DB
	chain *audit.Chain
}

// New returns the register in d.
func New(d *db.DB) *Register {
	return &Register{db: d, chain: audit.NewChain("disclosure",
		"time", "user", "everyone", "kind", "recipient", "categories", "why", "basis", "authority", "actor", "object")}
}

// ForConsent is the Authority of a consent: its purpose and its entry of the ledger.
func ForConsent[P ~string](purpose P, entry int64) string {
	return fmt.Sprintf("%s#%d", string(purpose), entry)
}

// Record writes e down within tx. If it fails, nothing may leave.
func (r *Register) Record(tx *db.Tx, e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	everyone := int64(0)
	if e.Everyone {
		everyone = 1
	}
	_, _, err := r.chain.Append(tx, tx.Now.UnixMilli(), int64(e.User), everyone, string(e.Kind), e.Recipient,
		strings.Join(e.Categories, " "), e.Why, string(e.Basis), e.Authority, int64(e.Actor), e.Object)
	return err
}

// Note is Record in a transaction of its own.
func (r *Register) Note(ctx context.Context, e Entry) error {
	return r.db.Write(ctx, func(tx *db.Tx) error { return r.Record(tx, e) })
}

func (e Entry) check() error {
	words := append([]string{string(e.Kind), e.Why}, e.Categories...)
	for _, w := range words {
		if w == "" || len(w) > 64 || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return fmt.Errorf("disclosure: %q is no word", w)
		}
	}
	switch {
	case e.Recipient == "" || len(e.Recipient) > 255, len(e.Object) > 64, len(e.Authority) > 128, len(e.Categories) == 0, len(e.Categories) > 16:
		return fmt.Errorf("disclosure: the entry about %s is incomplete or too large", e.Kind)
	case e.User != 0 && e.Everyone:
		return errors.New("disclosure: one person or everybody")
	case e.Basis != ByPerson && e.Basis != ByConsent && e.Basis != ByClause && e.Basis != ByOwner,
		(e.Authority == "") != (e.Basis == ByPerson || e.Basis == ByOwner):
		return fmt.Errorf("disclosure: the entry about %s does not say on whose authority", e.Kind)
	}
	return nil
}

// MaxPage is the most entries of a page.
const MaxPage = 200

const columns = "seq, time, user, everyone, kind, recipient, categories, why, basis, authority, actor, object"

// Of returns up to limit entries (1 to MaxPage) about u, the newest first, older than
// entry before; 0: from the newest one. What was about everybody counts from when u had
// an account.
func (r *Register) Of(ctx context.Context, u ident.UserID, before int64, limit int) ([]Recorded, error) {
	return r.list(ctx, `SELECT `+columns+` FROM (
		SELECT * FROM (SELECT `+columns+` FROM disclosure WHERE user = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3)
		UNION ALL
		SELECT * FROM (SELECT `+columns+` FROM disclosure WHERE everyone = 1 AND seq < ?2
			AND time >= ifnull((SELECT created FROM user WHERE id = ?1), 9223372036854775807) ORDER BY seq DESC LIMIT ?3)
		) ORDER BY seq DESC LIMIT ?3`, int64(u), upTo(before), min(max(limit, 1), MaxPage))
}

// All is Of about the whole box, for who runs it: whom an entry is about, who had it
// done and what it was are left out of what is about one person.
func (r *Register) All(ctx context.Context, before int64, limit int) ([]Recorded, error) {
	list, err := r.list(ctx, `SELECT `+columns+` FROM disclosure WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2`,
		upTo(before), min(max(limit, 1), MaxPage))
	for i := range list {
		if e := &list[i]; e.User != 0 {
			e.User, e.Actor, e.Object = Somebody, 0, ""
			if e.Basis == ByConsent { // its entry says whose it is
				e.Authority, _, _ = strings.Cut(e.Authority, "#")
			}
		}
	}
	return list, err
}

// Somebody stands for one person in what All returns.
const Somebody ident.UserID = -1

func upTo(before int64) int64 {
	if before <= 0 {
		return 1<<63 - 1
	}
	return before
}

func (r *Register) list(ctx context.Context, query string, args ...any) (list []Recorded, err error) {
	err = r.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			e, err := scan(rows)
			if err != nil {
				return err
			}
			list = append(list, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("disclosure: list: %w", err)
	}
	return list, nil
}

func scan(rows *sql.Rows) (e Recorded, err error) {
	var ms int64
	var categories string
	err = rows.Scan(&e.Seq, &ms, &e.User, &e.Everyone, &e.Kind, &e.Recipient, &categories, &e.Why, &e.Basis, &e.Authority, &e.Actor, &e.Object)
	e.Time, e.Categories = time.UnixMilli(ms).UTC(), strings.Fields(categories)
	return e, err
}

// Verify reads the whole register and says whether it holds; see audit.Log.Verify.
func (r *Register) Verify(ctx context.Context, kept ...audit.Mark) (report audit.Report, err error) {
	err = r.db.Read(ctx, func(tx *db.Tx) (err error) {
		report, err = r.chain.Verify(ctx, tx, kept...)
		return err
	})
	return report, err
}

// Marks returns the mark of the last entry, and of entry at; see audit.Log.Marks.
func (r *Register) Marks(ctx context.Context, at int64) (last audit.Mark, then *audit.Mark, err error) {
	err = r.db.Read(ctx, func(tx *db.Tx) (err error) {
		last, then, err = r.chain.Marks(ctx, tx, at)
		return err
	})
	return last, then, err
}

func refused(detail string) error {
	return &problem.Error{Kind: problem.Unavailable, Op: "disclosure.client", Title: "The box did not connect to that server",
		Detail: detail, Hint: "Have whoever runs the box look at its settings."}
}
