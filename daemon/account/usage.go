package account

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
)

// maxUses is how many entries are kept of one person; the oldest go first.
const maxUses = 2000

func useColumn() vault.Column {
	return vault.Column{Table: "usage_log", Name: "sealed", Row: "id", Class: vault.Sensitive}
}

// A Use is a page of the box that somebody opened, of those who agreed to
// consent.UsageLogs.
type Use struct {
	ID       int64
	Time     time.Time
	Page     string // its name in the program: 1 to 32 of a-z and hyphens
	Browser  string // what it says about itself
	Language string
	Address  vault.Address
	Until    time.Time // when the entry goes
}

type useText struct {
	Page     string `json:"page"`
	Browser  string `json:"browser,omitempty"`
	Language string `json:"language,omitempty"`
	Address  string `json:"address,omitempty"`
}

// short cuts what a browser says about itself.
func short(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for i := range s {
		if i >= n {
			return s[:i]
		}
	}
	return s
}

// NoteUse notes that the person of g, a Grant of consent.UsageLogs, opened a page. More
// than one in two seconds for a while is RateLimited.
func (a *Accounts) NoteUse(ctx context.Context, g consent.Grant, page, browser, language, remote string) error {
	const op = "account.note_use"
	if page == "" || len(page) > 32 || strings.Trim(page, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return invalid(op, "That is not the name of a page.", "Use letters a to z and hyphens.")
	}
	user := g.User()
	if wait, ok := a.uses.Take(a.now(), user.String()); !ok {
		return &problem.Error{Kind: problem.RateLimited, Op: op, Title: "That is too much to note", RetryAfter: wait, Hint: "Leave some out."}
	}
	text, err := json.Marshal(useText{page, short(browser, 256), short(language, 64), remote})
	if err != nil {
		return err
	}
	id := ident.New[int64](a.now())
	sealed, err := a.vault.Seal(user, useColumn(), rowOf(id), text)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, consent.UsageLogs); err != nil {
			return err
		}
		if err := forgetUses(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM usage_log WHERE user = ?1 AND id <= (SELECT id FROM usage_log WHERE user = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`,
			int64(user), maxUses-1); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO usage_log (id, user, time, sealed, ends) VALUES (?, ?, ?, ?, ?)`,
			id, int64(user), tx.Now.UnixMilli(), sealed, tx.Sure.Add(LogLife).UnixMilli())
		return err
	})
}

func forgetUses(tx *db.Tx) error {
	_, err := tx.Exec(`DELETE FROM usage_log WHERE ends <= ?`, tx.Sure.UnixMilli())
	return err
}

// Uses lists up to limit pages that a person opened, the newest first, before the given
// id if that is not zero. Addresses print masked.
func (a *Accounts) Uses(ctx context.Context, user ident.UserID, before int64, limit int) (list []Use, err error) {
	err = a.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, time, sealed, ends FROM usage_log WHERE user = ?1 AND ends > ?2 AND (?3 = 0 OR id < ?3) ORDER BY id DESC LIMIT ?4`,
			int64(user), tx.Sure.UnixMilli(), before, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var u Use
			var at, ends int64
			var sealed []byte
			if err := rows.Scan(&u.ID, &at, &sealed, &ends); err != nil {
				return err
			}
			u.Time, u.Until = time.UnixMilli(at).UTC(), time.UnixMilli(ends).UTC()
			text, err := a.openUse(user, u.ID, sealed)
			if err != nil && !unreadable(err) {
				return err
			}
			u.Page, u.Browser, u.Language, u.Address = text.Page, text.Browser, text.Language, vault.NewAddress(text.Address)
			list = append(list, u)
		}
		return rows.Err()
	})
	return list, err
}

func (a *Accounts) openUse(user ident.UserID, id int64, sealed []byte) (text useText, err error) {
	plain, err := a.vault.Open(user, useColumn(), rowOf(id), sealed)
	if err == nil {
		err = json.Unmarshal(plain, &text)
	}
	return text, err
}

// RevealUses is Uses with witness of the person's explicit act to see addresses
// unmasked, which is recorded.
func (a *Accounts) RevealUses(ctx context.Context, p ident.Principal, before int64, limit int) (list []Use, w vault.Witness, err error) {
	if err := full(p, "account.reveal_uses"); err != nil {
		return nil, w, err
	}
	if list, err = a.Uses(ctx, p.User, before, limit); err != nil {
		return nil, w, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		w, err = a.recorded(tx, p, "usage.reveal", "")
		return err
	})
	return list, w, err
}

// DeleteUses deletes what was noted of the person of p.
func (a *Accounts) DeleteUses(ctx context.Context, p ident.Principal) error {
	const op = "account.delete_uses"
	if err := full(p, op); err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error { return eraseUses(tx, p.User) })
}

func eraseUses(tx *db.Tx, user ident.UserID) error {
	_, err := tx.Exec(`DELETE FROM usage_log WHERE user = ?`, int64(user))
	return err
}

// UsesOf shows the system's administrator what somebody, who agreed to it, did on the page
// before it was slow or did not work. It is recorded.
func (a *Accounts) UsesOf(ctx context.Context, by Actor, name string, limit int) (list []Use, err error) {
	const op = "account.uses_of"
	if !by.root {
		return nil, notAdmin(op)
	}
	u, err := a.UserNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	if list, err = a.Uses(ctx, u.ID, 0, limit); err != nil {
		return nil, err
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error { return a.log.Append(tx, by.event("usage.read", u.ID)) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return list, nil
}
