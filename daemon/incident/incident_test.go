package incident

import (
	"context"
	"fmt"
	"mime"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/mail"
	"yunbox.local/daemon/mail/mailtest"
	"yunbox.local/daemon/problem"
)

// world is a room with a mail server and three people: ada (1), bob (2), and carl (3),
// who gave no address.
type world struct {
	*Room
	t        *testing.T
	db       *db.DB
	outside  *disclosure.Register
	server   *mailtest.Server
	ahead    atomic.Int64
	notified []ident.UserID
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t *testing.T, withMail bool) *world {
	t.Helper()
	w := &world{t: t}
	dir := t.TempDir()
	var err error
	w.db, err = db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), Journal: filepath.Join(dir, "journal"), Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := w.db.Write(t.Context(), func(tx *db.Tx) error {
		for i, name := range []string{"ada", "bob", "carl"} {
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?, ?, ?, 'member', '', 1)`, i+1, name, name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	opt := mail.Options{}
	if withMail {
		w.server = mailtest.Start(t, false, false)
		opt = mail.Options{Server: w.server.Addr, From: "box@home.example", User: mailtest.User, Roots: w.server.Roots,
			Password: func() (string, error) { return mailtest.Password, nil }}
	}
	m, err := mail.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	w.outside = disclosure.New(w.db)
	w.Room = New(Options{
		DB: w.db, Audit: audit.New(w.db), Outside: w.outside, Mail: m, Now: w.now,
		Address: func(_ context.Context, u ident.UserID) (string, bool) {
			return map[ident.UserID]string{1: "ada@mail.example", 2: "bob@mail.example"}[u], u < 3
		},
		Everyone: func(context.Context) ([]ident.UserID, error) { return []ident.UserID{1, 2, 3}, nil },
		Touched: func(_ context.Context, c []string) ([]ident.UserID, error) {
			if c[0] != "devices" {
				return nil, &problem.Error{Kind: problem.NotFound, Op: "test"}
			}
			return []ident.UserID{2}, nil
		},
		Notify: func(_ *db.Tx, u ident.UserID) error { w.notified = append(w.notified, u); return nil },
		Box:    func() (string, string) { return "Ada's box", "https://box.local:8443/" },
	})
	return w
}

var english = Text{Title: "A disk was stolen", What: "The second copy was taken from the car.", Effect: "It is encrypted; nobody can read it.",
	Measures: "Another copy was made.", Advice: "Nothing is needed.", Remedies: "Ask for a new copy."}

func draft(change func(*Draft)) Draft {
	d := Draft{Happened: time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC), Contact: "Ada, 4711", Text: map[string]Text{"en": english}, Scope: Scope{Everyone: true}}
	if change != nil {
		change(&d)
	}
	return d
}

// R37: a notice without one of its contents cannot be written.
func TestContentsAreRequired(t *testing.T) {
	w := newWorld(t, false)
	with := func(change func(*Text)) func(*Draft) {
		return func(d *Draft) {
			text := english
			change(&text)
			d.Text = map[string]Text{"en": text}
		}
	}
	for what, change := range map[string]func(*Draft){
		"no time":             func(d *Draft) { d.Happened = time.Time{} },
		"no contact":          func(d *Draft) { d.Contact = " " },
		"no text":             func(d *Draft) { d.Text = nil },
		"another language":    func(d *Draft) { d.Text["de"] = english },
		"half a translation":  func(d *Draft) { d.Text["zh"] = Text{Title: "磁盘被盗"} },
		"no title":            with(func(t *Text) { t.Title = "" }),
		"no event":            with(func(t *Text) { t.What = "" }),
		"no effect":           with(func(t *Text) { t.Effect = "\n" }),
		"no measures":         with(func(t *Text) { t.Measures = "" }),
		"no advice":           with(func(t *Text) { t.Advice = "" }),
		"no remedies":         with(func(t *Text) { t.Remedies = "" }),
		"a title of lines":    with(func(t *Text) { t.Title = "a\r\nBcc: eve@mail.example" }),
		"a control character": with(func(t *Text) { t.What = "a\x1b[2J" }),
		"a book":              with(func(t *Text) { t.What = strings.Repeat("字", 4001) }),
		"nobody":              func(d *Draft) { d.Scope = Scope{} },
		"two scopes":          func(d *Draft) { d.Scope.People = []ident.UserID{1} },
		"a stranger":          func(d *Draft) { d.Scope = Scope{People: []ident.UserID{9}} },
		"no such category":    func(d *Draft) { d.Scope = Scope{Touched: []string{"x"}} },
	} {
		if _, err := w.Write(t.Context(), By{User: 1, Via: "http"}, 0, draft(change)); err == nil || problem.KindOf(err) == problem.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := w.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func (w *world) send(d Draft, publish bool) Incident {
	w.t.Helper()
	by := By{User: 1, Via: "http"}
	i, err := w.Write(w.t.Context(), by, 0, d)
	if err != nil {
		w.t.Fatal(err)
	}
	if i, err = w.Send(w.t.Context(), by, i.ID, publish); err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *world) works() time.Duration {
	w.t.Helper()
	next, err := w.work(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// R37 R38: everybody concerned is told by all there is, in both languages, each e-mail
// is in the register, and who has read it is known.
func TestPeopleAreTold(t *testing.T) {
	w := newWorld(t, true)
	i := w.send(draft(func(d *Draft) {
		d.Text["zh"] = Text{"磁盘被盗", "第二副本在车里被偷。", "已加密，无人能读。", "已制作新的副本。", "无需操作。", "可索取新的副本。"}
	}), false)
	if len(w.notified) != 3 || i.Reach.Waiting != 2 || i.Sent.IsZero() || !i.Published.IsZero() {
		t.Fatalf("%v, %+v", w.notified, i)
	}
	if next := w.works(); next < 71*time.Hour {
		t.Errorf("the room looks again in %v", next)
	}
	got := w.server.Messages()
	if len(got) != 2 {
		t.Fatalf("%d e-mails", len(got))
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(got[0].Header.Get("Subject"))
	if err != nil || subject != "Ada's box: A disk was stolen / 磁盘被盗" {
		t.Errorf("%q, %v", subject, err)
	}
	for _, part := range []string{english.What, english.Effect, english.Measures, english.Advice, english.Remedies, "Ada, 4711", "2026-03-04 05:06 UTC", "https://box.local:8443/"} {
		if plain := strings.ReplaceAll(got[0].Body, "=\r\n", ""); !strings.Contains(plain, part) {
			t.Errorf("the e-mail lacks %q:\n%s", part, plain)
		}
	}
	list, err := w.outside.Of(t.Context(), 2, 0, 10)
	if err != nil || len(list) != 1 || list[0].Kind != disclosure.Email || list[0].Recipient != "127.0.0.1" || list[0].Authority != "4.5" || list[0].Actor != 1 {
		t.Errorf("the register says to bob %+v, %v", list, err)
	}
	if err := w.Seen(t.Context(), 3, i.ID); err != nil {
		t.Fatal(err)
	}
	mine, err := w.Of(t.Context(), 3)
	if err != nil || len(mine) != 1 || mine[0].Seen.IsZero() || mine[0].Text["zh"].Title != "磁盘被盗" {
		t.Errorf("%+v, %v", mine, err)
	}
	if i, err = w.One(t.Context(), i.ID); err != nil || i.Reach != (Reach{People: 3, Seen: 1, Mailed: 2}) {
		t.Errorf("%+v, %v", i.Reach, err)
	}
	// All were reached: nothing is published, and there is nothing to wait for.
	w.ahead.Store(int64(publishAfter + time.Minute))
	if next := w.works(); next != 0 {
		t.Errorf("the room looks again in %v", next)
	}
	if list, err := w.Published(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v was published, %v", list, err)
	}
	for what, err := range map[string]error{
		"changed": func() error { _, err := w.Write(t.Context(), By{Via: "socket"}, i.ID, draft(nil)); return err }(),
		"removed": w.Remove(t.Context(), By{Via: "socket"}, i.ID),
		"sent":    func() error { _, err := w.Send(t.Context(), By{Via: "socket"}, i.ID, true); return err }(),
		"ended":   w.End(t.Context(), By{Via: "socket"}, i.ID),
	} {
		if problem.KindOf(err) != problem.Conflict {
			t.Errorf("it was %s again: %v", what, err)
		}
	}
	if err := w.Seen(t.Context(), 2, i.ID+1); problem.KindOf(err) != problem.NotFound {
		t.Errorf("%v", err)
	}
}

// R37: who cannot be reached within three days is the reason to publish it.
func TestWhoCannotBeReached(t *testing.T) {
	w := newWorld(t, false)
	i := w.send(draft(func(d *Draft) { d.Scope = Scope{Touched: []string{"devices"}} }), false)
	if len(w.notified) != 1 || w.notified[0] != 2 || i.Reach != (Reach{People: 1}) {
		t.Fatalf("%v %+v", w.notified, i.Reach)
	}
	if next := w.works(); next < 71*time.Hour {
		t.Errorf("the room looks again in %v", next)
	}
	w.ahead.Store(int64(publishAfter + time.Minute))
	if next := w.works(); next != 0 {
		t.Errorf("the room looks again in %v", next)
	}
	list, err := w.Published(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	all, err := w.outside.All(t.Context(), 0, 10)
	if err != nil || len(all) != 1 || all[0].Kind != disclosure.Publication || all[0].User != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := w.End(t.Context(), By{Via: "socket"}, i.ID); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Published(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	// One that is published at once, and goes off the page by itself.
	w.send(draft(func(d *Draft) { d.Scope = Scope{People: []ident.UserID{3, 3}} }), true)
	if list, err := w.Published(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	w.ahead.Add(int64(shownFor + time.Hour))
	if list, err := w.Published(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// R37: an e-mail that the server does not take is tried again, at last given up; one
// that it never will is not.
func TestEmailsAreTriedAgain(t *testing.T) {
	w := newWorld(t, true)
	w.server.Refuse(mailtest.Answer(550))
	i := w.send(draft(func(d *Draft) { d.Scope = Scope{People: []ident.UserID{1}} }), false)
	w.works()
	if i, _ = w.One(t.Context(), i.ID); i.Reach.Failed != 1 {
		t.Errorf("refused for good: %+v", i.Reach)
	}
	w.server.Refuse(mailtest.Answer(450), mailtest.Answer(421))
	i = w.send(draft(func(d *Draft) { d.Scope = Scope{People: []ident.UserID{2}} }), false)
	for try, wait := range backoff()[:2] {
		next := w.works()
		if next > wait || next < wait-time.Minute/2 {
			t.Errorf("after try %d the room looks again in %v", try+1, next)
		}
		w.ahead.Add(int64(wait + time.Second))
	}
	w.works()
	if i, _ = w.One(t.Context(), i.ID); i.Reach.Mailed != 1 || len(w.server.Messages()) != 1 {
		t.Errorf("after three tries: %+v", i.Reach)
	}
	for range len(backoff()) + 1 {
		w.server.Refuse(mailtest.Answer(450))
	}
	i = w.send(draft(func(d *Draft) { d.Scope = Scope{People: []ident.UserID{2}} }), true)
	for _, wait := range backoff() {
		w.works()
		w.ahead.Add(int64(wait + time.Second))
	}
	w.works()
	if i, _ = w.One(t.Context(), i.ID); i.Reach.Failed != 1 {
		t.Errorf("given up: %+v", i.Reach)
	}
	if list, err := w.outside.Of(t.Context(), 2, 0, 100); err != nil || len(list) != 3+len(backoff())+1 {
		t.Errorf("the register has %d tries, %v", len(list), err)
	}
}

// The room sends by itself, also what waited when the box went down, and rests else.
func TestRunSends(t *testing.T) {
	w := newWorld(t, true)
	sent := []Incident{w.send(draft(nil), true)}
	for round, people := range []string{"ada bob", "bob"} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { w.Run(ctx); close(ended) }()
		if round == 1 {
			sent = append(sent, w.send(draft(func(d *Draft) { d.Scope = Scope{People: []ident.UserID{2}} }), true))
		}
		var to []string
		for range strings.Fields(people) {
			w.server.Wait(t)
		}
		for waiting := int64(1); waiting > 0; {
			i, err := w.One(t.Context(), sent[round].ID)
			if err != nil {
				t.Fatal(err)
			}
			waiting = i.Reach.Waiting
			time.Sleep(time.Millisecond)
		}
		cancel()
		<-ended
		for _, m := range w.server.Messages() {
			name, _, _ := strings.Cut(m.To, "@")
			to = append(to, name)
		}
		if got := fmt.Sprint(to); round == 0 && got != "[ada bob]" || round == 1 && got != "[ada bob bob]" {
			t.Errorf("round %d: %s", round, got)
		}
	}
}
