package incident

import (
	"context"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/mail"
)

// backoff is how long each further try of an e-mail waits: two days in all.
func backoff() []time.Duration {
	return []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 30 * time.Hour}
}

// Run sends e-mails that are due, and publishes what did not reach everybody, until ctx
// ends. While there is neither it waits to be told.
func (r *Room) Run(ctx context.Context) {
	for ctx.Err() == nil {
		next, err := r.work(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("notices of an incident could not be sent on", "err", err)
			next = time.Hour
		}
		r.wait(ctx, next)
	}
}

// wait returns after d, 0: never, or when something new was sent.
func (r *Room) wait(ctx context.Context, d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		t := time.NewTimer(min(d, time.Hour)) // the clock may be put right meanwhile
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-r.wake:
	case <-due:
	}
}

// An errand is an e-mail that is due.
type errand struct {
	incident ident.ItemID
	user     ident.UserID
	tries    int
}

// work does all that is due and returns how long nothing is; 0: for good.
func (r *Room) work(ctx context.Context) (next time.Duration, err error) {
	for {
		now := r.opt.Now()
		var e errand
		var publish ident.ItemID
		var due, publishDue int64
		err := r.opt.DB.Read(ctx, func(tx *db.Tx) error {
			err := tx.QueryRowContext(ctx, `SELECT incident, user, tries, due FROM incident_person WHERE due IS NOT NULL ORDER BY due LIMIT 1`).
				Scan(&e.incident, &e.user, &e.tries, &due)
			if err != nil && !isNoRows(err) {
				return err
			}
			err = tx.QueryRowContext(ctx, `SELECT id, publish_due FROM incident WHERE publish_due IS NOT NULL ORDER BY publish_due LIMIT 1`).Scan(&publish, &publishDue)
			if isNoRows(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		switch ms := now.UnixMilli(); {
		case e.user != 0 && due <= ms:
			err = r.deliver(ctx, e)
		case publish != 0 && publishDue <= ms:
			err = r.settle(ctx, publish)
		case e.user != 0 && (publish == 0 || due <= publishDue):
			return time.UnixMilli(due).Sub(now), nil
		case publish != 0:
			return time.UnixMilli(publishDue).Sub(now), nil
		default:
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// settle publishes an incident that did not reach everybody.
func (r *Room) settle(ctx context.Context, id ident.ItemID) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		var left bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM incident_person WHERE incident = ? AND seen IS NULL AND mail <> 'sent')`, int64(id)).Scan(&left); err != nil {
			return err
		}
		if left {
			return r.publish(tx, By{Via: "box"}, id)
		}
		_, err := tx.Exec(`UPDATE incident SET publish_due = NULL WHERE id = ?`, int64(id))
		return err
	})
}

// deliver tries one e-mail. It is written down before it is given to the server.
func (r *Room) deliver(ctx context.Context, e errand) error {
	i, err := r.One(ctx, e.incident)
	if err != nil {
		return err
	}
	address, ok := r.opt.Address(ctx, e.user)
	if !ok || r.opt.Mail.Server() == "" {
		return r.outcome(ctx, e, "none", 0) // taken back meanwhile
	}
	var author ident.UserID
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.QueryRow(`SELECT actor FROM incident WHERE id = ?`, int64(e.incident)).Scan(&author); err != nil {
			return err
		}
		return r.opt.Outside.Record(tx, disclosure.Entry{User: e.user, Kind: disclosure.Email, Recipient: r.opt.Mail.Server(), Categories: []string{"email_address", "incident"},
			Why: "incident_notice", Basis: disclosure.ByClause, Authority: "4.5", Actor: author, Object: e.incident.String()})
	})
	if err != nil {
		return err
	}
	name, url := r.opt.Box()
	err = r.opt.Mail.Send(ctx, address, subject(i, name), body(i, name, url))
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // a stop of the box is no fault of the server
	}
	waits := backoff()
	switch {
	case err == nil:
		return r.outcome(ctx, e, "sent", 0)
	case mail.Final(err) || e.tries >= len(waits):
		r.log.Warn("an e-mail about an incident cannot be delivered", "incident", e.incident, "err", err)
		return r.outcome(ctx, e, "failed", 0)
	}
	r.log.Info("an e-mail about an incident waits for the mail server", "incident", e.incident, "err", err)
	return r.outcome(ctx, e, "waiting", waits[e.tries])
}

func (r *Room) outcome(ctx context.Context, e errand, state string, wait time.Duration) error {
	return r.opt.DB.Write(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		var due, mailed any
		if state == "waiting" {
			due = tx.Sure.Add(wait).UnixMilli()
		}
		if state == "sent" {
			mailed = tx.Now.UnixMilli()
		}
		_, err := tx.Exec(`UPDATE incident_person SET mail = ?, tries = tries + 1, due = ?, mailed = ? WHERE incident = ? AND user = ?`,
			state, due, mailed, int64(e.incident), int64(e.user))
		return err
	})
}

// The e-mail has every language that the notice has: the box does not know which its
// reader wants.
func subject(i Incident, box string) string {
	var titles []string
	for _, lang := range []string{"en", "zh"} {
		if t, ok := i.Text[lang]; ok {
			titles = append(titles, t.Title)
		}
	}
	return box + ": " + strings.Join(titles, " / ")
}

type headings struct{ intro, when, what, effect, measures, advice, remedies, contact, page string }

func headingsIn(lang string) headings {
	if lang == "zh" {
		return headings{"这是盒子“%s”就您的个人数据发出的通知。", "时间", "发生了什么", "可能的影响", "已采取或将采取的措施", "您可以做什么", "对您的补救", "联系人", "登录盒子的页面可再次查看：%s"}
	}
	return headings{"This is a notice of the box “%s” about your personal data.", "When", "What happened", "What it may mean for you", "What was done about it",
		"What you can do", "What you are entitled to", "Whom to ask", "You find this again when you sign in: %s"}
}

func body(i Incident, box, url string) string {
	var b strings.Builder
	for _, lang := range []string{"en", "zh"} {
		t, ok := i.Text[lang]
		if !ok {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\n\n--------\n\n")
		}
		h := headingsIn(lang)
		fmt.Fprintf(&b, h.intro+"\n\n%s\n", box, t.Title)
		for _, part := range [][2]string{
			{h.when, i.Happened.UTC().Format("2006-01-02 15:04 UTC")}, {h.what, t.What}, {h.effect, t.Effect}, {h.measures, t.Measures},
			{h.advice, t.Advice}, {h.remedies, t.Remedies}, {h.contact, i.Contact},
		} {
			fmt.Fprintf(&b, "\n%s\n%s\n", part[0], part[1])
		}
		fmt.Fprintf(&b, "\n"+h.page+"\n", url)
	}
	return b.String()
}
