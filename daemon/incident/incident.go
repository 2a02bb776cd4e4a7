// Package incident tells people what went wrong with their data (policy 4.4, 4.5): what
// happened and what it may mean, what was done about it, what they can do themselves,
// what they are entitled to, and whom to ask.
//
// Who runs the box writes it, as a draft that nobody sees, and sends it to everybody, to
// named people, or to those of whom data of some categories is kept. Each of them finds
// it on the page until they have read it, and gets an e-mail if there is a mail server
// and they gave an address. It is published for everybody who opens the page if that was
// asked for, or if somebody could not be reached within three days. Who has read it is
// recorded.
package incident

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/mail"
	"yunbox.local/daemon/problem"
)

// Text is what people read, in one language.
type Text struct {
	Title    string `json:"title" maxLength:"200" doc:"In a few words"`
	What     string `json:"what" maxLength:"4000" doc:"What happened, and to which data"`
	Effect   string `json:"effect" maxLength:"4000" doc:"What it may mean for the people concerned"`
	Measures string `json:"measures" maxLength:"4000" doc:"What was done, or will be"`
	Advice   string `json:"advice" maxLength:"4000" doc:"What they can do themselves"`
	Remedies string `json:"remedies" maxLength:"4000" doc:"What they are entitled to, or are offered"`
}

// Scope is whom it concerns: exactly one of its members is set.
type Scope struct {
	Everyone bool           `json:"everyone,omitempty"`
	People   []ident.UserID `json:"people,omitempty" maxItems:"1000"`
	Touched  []string       `json:"touched,omitempty" maxItems:"64" doc:"Categories of data, as in get-my-data: whoever has some"`
}

// Draft is what who runs the box writes.
type Draft struct {
	Happened time.Time // when it happened, or was noticed
	Contact  string    // whom to ask, at most 200 characters
	// Text by language, "en" and "zh"; one of them is enough.
	Text  map[string]Text
	Scope Scope
}

// Incident is a draft, or one that was sent.
type Incident struct {
	ID ident.ItemID
	Draft
	Created, Changed time.Time
	Sent             time.Time // zero: a draft
	Published, Ended time.Time // zero: it is not, or still is
	Reach            Reach
}

// Reach is how many people it reached.
type Reach struct {
	People  int64 `json:"people"`
	Seen    int64 `json:"seen" doc:"Who have read it on the page"`
	Mailed  int64 `json:"mailed" doc:"Whose e-mail the mail server took"`
	Waiting int64 `json:"waiting" doc:"Whose e-mail is still to be sent"`
	Failed  int64 `json:"failed" doc:"Whose e-mail the mail server refused for good, or who could not be reached by it in two days"`
}

// Told is one person and how they were told.
type Told struct {
	User   ident.UserID
	Seen   time.Time // zero: they have not read it
	Mail   string    // none, waiting, sent, failed
	Mailed time.Time
}

// Mine is an incident as a person whom it concerns sees it.
type Mine struct {
	Incident
	Seen time.Time // zero: not yet
}

// Options of New. All but Log, Address and HasAddress are needed.
type Options struct {
	DB      *db.DB
	Audit   *audit.Log
	Outside *disclosure.Register
	Mail    *mail.Mailer
	// Address returns a person's e-mail address if they gave one and allow its use; nil:
	// nobody did.
	Address func(ctx context.Context, u ident.UserID) (address string, ok bool)
	// HasAddress says the same without opening it; nil: it asks Address.
	HasAddress func(ctx context.Context, u ident.UserID) bool
	// Everyone lists all people of the box, Touched those with data of some categories; it
	// refuses a category that does not exist.
	Everyone func(ctx context.Context) ([]ident.UserID, error)
	Touched  func(ctx context.Context, categories []string) ([]ident.UserID, error)
	// Notify tells a person within tx that there is news for them.
	Notify func(tx *db.Tx, u ident.UserID) error
	// Box is what the box is called, and where its page is.
	Box func() (name, url string)
	Now func() time.Time
	Log *slog.Logger
}

// Room keeps incidents. It is safe for concurrent use.
type Room struct {
	opt  Options
	log  *slog.Logger
	wake chan struct{}
}

// New makes the room. Run sends the e-mails.
func New(opt Options) *Room {
	r := &Room{opt: opt, log: opt.Log, wake: make(chan struct{}, 1)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.opt.Address == nil {
		r.opt.Address = func(context.Context, ident.UserID) (string, bool) { return "", false }
	}
	if r.opt.HasAddress == nil {
		r.opt.HasAddress = func(ctx context.Context, u ident.UserID) bool { _, ok := r.opt.Address(ctx, u); return ok }
	}
	return r
}

const (
	maxTitle, maxText, maxContact = 200, 4000, 200
	// publishAfter is how long somebody may stay out of reach before it is published.
	publishAfter = 72 * time.Hour
	// shownFor is how long it then stays on the page before the sign-in.
	shownFor = 90 * 24 * time.Hour
	// maxIncidents bounds the drafts; what was sent stays.
	maxDrafts = 100
)

func invalid(detail string) error {
	return &problem.Error{Kind: problem.Invalid, Op: "incident", Title: "Something is missing from that notice", Detail: detail,
		Hint: "People must read what happened, what it may mean, what was done, what they can do, what they are entitled to, and whom to ask."}
}

func (d *Draft) check() error {
	if d.Happened.IsZero() || d.Happened.Year() < 1990 || d.Happened.Year() > 9999 {
		return invalid("It does not say when it happened.")
	}
	if !isText(d.Contact, maxContact, false) {
		return invalid("It does not say whom to ask.")
	}
	if len(d.Text) == 0 {
		return invalid("It has no text.")
	}
	for lang, t := range d.Text {
		if lang != "en" && lang != "zh" {
			return invalid("Its languages are en and zh.")
		}
		if !isText(t.Title, maxTitle, false) {
			return invalid("A title of one line is missing, or too long.")
		}
		for _, s := range []string{t.What, t.Effect, t.Measures, t.Advice, t.Remedies} {
			if !isText(s, maxText, true) {
				return invalid("A part of its text is missing, or too long.")
			}
		}
	}
	kinds := 0
	for _, is := range []bool{d.Scope.Everyone, len(d.Scope.People) > 0, len(d.Scope.Touched) > 0} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return invalid("It must concern everybody, named people, or those with data of some categories: one of the three.")
	}
	return nil
}

// isText reports whether s says something in at most limit characters, without control
// characters but for new lines where lines allows them.
func isText(s string, limit int, lines bool) bool {
	return strings.TrimSpace(s) != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && !(lines && (r == '\n' || r == '\t')) })
}

func noSuch() error {
	return &problem.Error{Kind: problem.NotFound, Op: "incident", Title: "There is no such notice", Hint: "List them again: it may have been removed."}
}

func wasSent() error {
	return &problem.Error{Kind: problem.Conflict, Op: "incident", Title: "That notice was sent",
		Detail: "What people were told stays as it is.", Hint: "Write another one if there is more to say."}
}

// By is who acts: a person, or the system's administrator (zero) by a way in.
type By struct {
	User   ident.UserID
	Device ident.DeviceID
	Via    string
}

func (r *Room) note(tx *db.Tx, by By, action string, id ident.ItemID, detail map[string]string) error {
	return r.opt.Audit.Append(tx, audit.Event{Actor: by.User, Action: action, Object: id.String(), Device: by.Device, Via: by.Via, Detail: detail})
}

func encode(d *Draft) (text, scope string, err error) {
	t, err := json.Marshal(d.Text)
	if err != nil {
		return "", "", err
	}
	s, err := json.Marshal(d.Scope)
	return string(t), string(s), err
}

// Write makes a draft (id zero) or changes one.
func (r *Room) Write(ctx context.Context, by By, id ident.ItemID, d Draft) (Incident, error) {
	if err := d.check(); err != nil {
		return Incident{}, err
	}
	if len(d.Scope.Touched) > 0 { // refused now rather than when it is urgent
		if _, err := r.opt.Touched(ctx, d.Scope.Touched); err != nil {
			return Incident{}, err
		}
	}
	text, scope, err := encode(&d)
	if err != nil {
		return Incident{}, err
	}
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		for _, u := range d.Scope.People {
			var is bool
			if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM user WHERE id = ?)`, int64(u)).Scan(&is); err != nil {
				return err
			}
			if !is {
				return invalid("It names somebody who has no account here.")
			}
		}
		now := tx.Now.UnixMilli()
		if id == 0 {
			var drafts int
			if err := tx.QueryRow(`SELECT count(*) FROM incident WHERE sent IS NULL`).Scan(&drafts); err != nil {
				return err
			}
			if drafts >= maxDrafts {
				return &problem.Error{Kind: problem.TooLarge, Op: "incident", Title: "There are too many drafts", Hint: "Remove some first."}
			}
			id = ident.New[ident.ItemID](tx.Now)
			_, err := tx.Exec(`INSERT INTO incident (id, actor, created, changed, happened, contact, text, scope) VALUES (?,?,?,?,?,?,?,?)`,
				int64(id), int64(by.User), now, now, d.Happened.UnixMilli(), d.Contact, text, scope)
			if err != nil {
				return err
			}
			return r.note(tx, by, "incident.draft", id, nil)
		}
		res, err := tx.Exec(`UPDATE incident SET changed = ?, happened = ?, contact = ?, text = ?, scope = ? WHERE id = ? AND sent IS NULL`,
			now, d.Happened.UnixMilli(), d.Contact, text, scope, int64(id))
		if err := r.changed(tx, res, err, id); err != nil {
			return err
		}
		return r.note(tx, by, "incident.draft", id, nil)
	})
	if err != nil {
		return Incident{}, err
	}
	return r.One(ctx, id)
}

// rowsAffected is what changed needs of a sql.Result.
type rowsAffected interface{ RowsAffected() (int64, error) }

// changed says why a draft was not changed, if it was not.
func (r *Room) changed(tx *db.Tx, res rowsAffected, err error, id ident.ItemID) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	var is bool
	if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM incident WHERE id = ?)`, int64(id)).Scan(&is); err != nil {
		return err
	}
	if is {
		return wasSent()
	}
	return noSuch()
}

// Remove forgets a draft.
func (r *Room) Remove(ctx context.Context, by By, id ident.ItemID) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`DELETE FROM incident WHERE id = ? AND sent IS NULL`, int64(id))
		if err := r.changed(tx, res, err, id); err != nil {
			return err
		}
		return r.note(tx, by, "incident.remove", id, nil)
	})
}

// Send tells the people whom a draft concerns. With publish everybody who opens the
// page sees it from now on, too.
func (r *Room) Send(ctx context.Context, by By, id ident.ItemID, publish bool) (Incident, error) {
	i, err := r.One(ctx, id)
	if err != nil {
		return Incident{}, err
	}
	people, err := r.concerned(ctx, i.Scope)
	if err != nil {
		return Incident{}, err
	}
	if len(people) == 0 && !publish {
		return Incident{}, &problem.Error{Kind: problem.Conflict, Op: "incident", Title: "It concerns nobody",
			Detail: "Nobody on the box has data of these categories.", Hint: "Choose others, or publish it."}
	}
	mailed := map[ident.UserID]bool{}
	if r.opt.Mail.Server() != "" {
		for _, u := range people {
			mailed[u] = r.opt.HasAddress(ctx, u)
		}
	}
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		now, sure := tx.Now.UnixMilli(), tx.Sure.UnixMilli()
		res, err := tx.Exec(`UPDATE incident SET sent = ?1, publish_due = CASE WHEN ?2 THEN NULL ELSE ?3 END WHERE id = ?4 AND sent IS NULL AND changed = ?5`,
			now, publish, tx.Sure.Add(publishAfter).UnixMilli(), int64(id), i.Changed.UnixMilli())
		if err := r.changed(tx, res, err, id); err != nil {
			return err
		}
		for _, u := range people {
			state, due := "none", any(nil)
			if mailed[u] {
				state, due = "waiting", sure
			}
			// Somebody whose account ended meanwhile is left out.
			if _, err := tx.Exec(`INSERT INTO incident_person (incident, user, mail, tries, due) SELECT ?1, id, ?3, 0, ?4 FROM user WHERE id = ?2`,
				int64(id), int64(u), state, due); err != nil {
				return err
			}
			if err := r.opt.Notify(tx, u); err != nil {
				return err
			}
		}
		if publish {
			if err := r.publish(tx, by, id); err != nil {
				return err
			}
		}
		tx.AfterCommit(r.ring)
		return r.note(tx, by, "incident.send", id, map[string]string{"people": fmt.Sprint(len(people)), "published": fmt.Sprint(publish)})
	})
	if err != nil {
		return Incident{}, err
	}
	return r.One(ctx, id)
}

func (r *Room) concerned(ctx context.Context, s Scope) ([]ident.UserID, error) {
	switch {
	case s.Everyone:
		return r.opt.Everyone(ctx)
	case len(s.Touched) > 0:
		return r.opt.Touched(ctx, s.Touched)
	}
	list := slices.Clone(s.People)
	slices.Sort(list)
	return slices.Compact(list), nil
}

// publish shows it to everybody who opens the page, which is a disclosure of its own.
func (r *Room) publish(tx *db.Tx, by By, id ident.ItemID) error {
	if _, err := tx.Exec(`UPDATE incident SET published = ?, publish_due = NULL WHERE id = ?`, tx.Now.UnixMilli(), int64(id)); err != nil {
		return err
	}
	if err := r.opt.Outside.Record(tx, disclosure.Entry{Kind: disclosure.Publication, Recipient: "everybody who opens the page", Categories: []string{"incident"},
		Why: "incident_notice", Basis: disclosure.ByClause, Authority: "4.5", Actor: by.User, Object: id.String()}); err != nil {
		return err
	}
	return r.note(tx, by, "incident.publish", id, nil)
}

// End takes a published notice off the page.
func (r *Room) End(ctx context.Context, by By, id ident.ItemID) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(`UPDATE incident SET ended = ? WHERE id = ? AND published IS NOT NULL AND ended IS NULL`, tx.Now.UnixMilli(), int64(id))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = &problem.Error{Kind: problem.Conflict, Op: "incident", Title: "That notice is not published", Hint: "List them again."}
			}
			return err
		}
		return r.note(tx, by, "incident.end", id, nil)
	})
}

// Seen notes that u has read what they were sent.
func (r *Room) Seen(ctx context.Context, u ident.UserID, id ident.ItemID) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		var seen *int64
		err := tx.QueryRow(`SELECT seen FROM incident_person WHERE incident = ? AND user = ?`, int64(id), int64(u)).Scan(&seen)
		if isNoRows(err) {
			return noSuch()
		}
		if err != nil || seen != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE incident_person SET seen = ? WHERE incident = ? AND user = ?`, tx.Now.UnixMilli(), int64(id), int64(u)); err != nil {
			return err
		}
		return r.opt.Audit.Append(tx, audit.Event{Actor: u, Action: "incident.seen", Subject: u, Object: id.String(), Via: "http"})
	})
}

func (r *Room) ring() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
