package consent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/signed"
)

const (
	kid = ident.UserID(33)
	mum = ident.UserID(44)
	dad = ident.UserID(55)
)

// family adds a child with two guardians.
func (h *house) family() {
	h.t.Helper()
	h.change(`INSERT INTO user (id, username, shown, role, password, created) VALUES (33, 'kid', 'kid', 'child', '', 0), (44, 'mum', 'mum', 'member', '', 0), (55, 'dad', 'dad', 'owner', '', 0)`)
	h.change(`INSERT INTO ward (user, of_age) VALUES (33, '2031-05')`)
	h.change(`INSERT INTO guardian (child, guardian, asked) VALUES (33, 44, 1), (33, 55, 1)`)
}

// change runs a statement about the family, and tells the ledger.
func (h *house) change(query string) {
	h.t.Helper()
	if err := h.tryChange(query); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
}

func (h *house) tryChange(query string) error {
	return h.db.Write(h.t.Context(), func(tx *db.Tx) error {
		if _, err := tx.Exec(query); err != nil {
			return err
		}
		return h.GuardiansChanged(tx, kid)
	})
}

func (h *house) by(actor, user ident.UserID, p Purpose, yes bool) error {
	_, err := h.Record(h.t.Context(), Decision{User: user, Purpose: p, Granted: yes, PolicyRevision: h.cat.current().Revision, Actor: actor, How: "page"})
	return err
}

func (h *house) must(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// R24: who may decide for whom.
func TestWhoDecidesForAChild(t *testing.T) {
	h := build(t)
	h.family()
	no := func(what string, actor, user ident.UserID, p Purpose, yes bool, want problem.Kind) {
		t.Helper()
		if err := h.by(actor, user, p, yes); problem.KindOf(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	no("the child agrees", kid, kid, Storage, true, problem.Forbidden)
	no("one who was only invited", mum, kid, Storage, true, problem.Forbidden)
	no("a stranger", ann, kid, Storage, true, problem.Forbidden)
	no("nobody", 0, kid, Storage, true, problem.Forbidden)
	h.must("the child says no", h.by(kid, kid, AlbumBackup, false))
	h.change(`UPDATE guardian SET since = 2 WHERE guardian = 44`)
	no("an adult for an adult", mum, ann, Storage, true, problem.Forbidden)
	no("a child for its guardian", kid, mum, Storage, true, problem.Forbidden)
	no("a stranger withdraws", ann, kid, Storage, false, problem.Forbidden)
	no("anything before the policy", mum, kid, AlbumBackup, true, problem.Conflict)
	h.must("the policy", h.by(mum, kid, Storage, true))
	h.must("a purpose", h.by(mum, kid, AlbumBackup, true))
	g := h.grant(kid, phone, AlbumBackup)
	h.must("check", h.check(g, AlbumBackup))

	// Nobody else decides after they are gone, and nothing that they decided holds.
	ctx, cancel := g.Context(t.Context())
	defer cancel()
	h.change(`DELETE FROM guardian WHERE guardian = 44`)
	if p := problem.As(context.Cause(ctx)); p.Kind != problem.ConsentRequired || !strings.Contains(p.Title, "Nobody stands") {
		t.Errorf("what ran goes on, or says %v", p)
	}
	if problem.KindOf(h.check(g, AlbumBackup)) != problem.ConsentRequired {
		t.Error("what they agreed to is still good")
	}
	no("a former guardian", mum, kid, AlbumBackup, false, problem.Forbidden)
	if p := h.refused(kid, phone, AlbumBackup); p.Members["request_url"] != requestURL || p.Members["grant_url"] != nil || !strings.Contains(p.Hint, "manages the box") {
		t.Errorf("the child is told %+v", p)
	}
	for _, p := range []Purpose{Storage, AlbumBackup} {
		if s := h.state(kid, 0, p); s != Suspended {
			t.Errorf("%s is %s", p, s)
		}
	}
	h.restart(builtin())
	h.refused(kid, phone, AlbumBackup)
}

// R24: a consent goes with the one who gave it, in every order, and what the database
// and the memory say is the same.
func TestAConsentIsAsGoodAsWhoStandsBehindIt(t *testing.T) {
	h := build(t)
	h.family()
	h.change(`UPDATE guardian SET since = 2`)
	h.must("mum", h.by(mum, kid, Storage, true))
	h.must("dad", h.by(dad, kid, AlbumBackup, true))
	holds := func(what string, p Purpose, want bool) {
		t.Helper()
		g, err := h.Grant(t.Context(), kid, 0, p)
		var in State
		h.must("read", h.db.Read(t.Context(), func(tx *db.Tx) (err error) {
			in, err = h.StateIn(tx, kid, p)
			return err
		}))
		if (err == nil) != want || (in == Granted) != want || (h.state(kid, 0, p) == Granted) != want {
			t.Fatalf("%s: %s: %v, %s, %s; want %v", what, p, err, in, h.state(kid, 0, p), want)
		}
		if want && h.check(g, p) != nil {
			t.Fatalf("%s: %s: %v", what, p, h.check(g, p))
		}
	}
	holds("both", AlbumBackup, true)
	h.change(`UPDATE user SET disabled = 1 WHERE id = 44`)
	holds("the policy rests on mum, who is off", AlbumBackup, false)
	h.change(`UPDATE user SET disabled = NULL WHERE id = 44`)
	holds("she is back", AlbumBackup, true)
	h.change(`UPDATE user SET disabled = 1 WHERE id = 55`)
	holds("dad is off", AlbumBackup, false)
	holds("dad is off", Storage, true)
	h.must("mum agrees too", h.by(mum, kid, AlbumBackup, true))
	holds("on mum's word", AlbumBackup, true)
	h.must("the child says no", h.by(kid, kid, Storage, false))
	holds("without the policy", Storage, false)
	holds("without the policy", AlbumBackup, false)
	h.must("mum again", h.by(mum, kid, Storage, true))
	holds("and with it", AlbumBackup, true)

	// Grown: guardians have no say, and the person begins anew.
	h.change(`UPDATE ward SET grown = 3`)
	for _, p := range []Purpose{Storage, AlbumBackup} {
		holds("grown", p, false)
	}
	if p := h.refused(kid, phone, AlbumBackup); p.Members["grant_url"] == nil {
		t.Errorf("a grown person is sent to a guardian: %+v", p)
	}
	if err := h.by(mum, kid, AlbumBackup, true); problem.KindOf(err) != problem.Forbidden {
		t.Errorf("a former guardian: %v", err)
	}
	h.must("by itself", h.by(kid, kid, AlbumBackup, true))
	holds("by itself", AlbumBackup, true)
	if r, err := h.Verify(t.Context()); err != nil || r.Bad != nil {
		t.Errorf("the ledger does not hold: %+v, %v", r, err)
	}
}

// R24: the database itself refuses circles, children who stand for others, and a third
// guardian.
func TestTheDatabaseRefusesCircles(t *testing.T) {
	h := build(t)
	h.family()
	h.change(`INSERT INTO user (id, username, shown, role, password, created) VALUES (66, 'sis', 'sis', 'child', '', 0), (77, 'gran', 'gran', 'member', '', 0)`)
	h.change(`INSERT INTO ward (user, of_age) VALUES (66, '2032-01')`)
	for what, query := range map[string]string{
		"a child of itself":       `INSERT INTO guardian (child, guardian, asked) VALUES (66, 66, 1)`,
		"a child for a child":     `INSERT INTO guardian (child, guardian, asked) VALUES (66, 33, 1)`,
		"a guardian as a child":   `INSERT INTO ward (user, of_age) VALUES (44, '2031-05')`,
		"made a child":            `UPDATE user SET role = 'child' WHERE id = 44`,
		"for an adult":            `INSERT INTO guardian (child, guardian, asked) VALUES (77, 44, 1)`,
		"a third":                 `INSERT INTO guardian (child, guardian, asked) VALUES (33, 77, 1)`,
		"turned to another child": `UPDATE guardian SET child = 66 WHERE guardian = 44`,
		"not a month":             `INSERT INTO ward (user, of_age) VALUES (66, '2031-5')`,
		"a birthday":              `UPDATE ward SET of_age = '2031-05-17' WHERE user = 33`,
	} {
		if err := h.tryChange(query); err == nil {
			t.Errorf("%s: the database took it", what)
		}
	}
	h.change(`UPDATE ward SET grown = 1 WHERE user = 66`)
	if err := h.tryChange(`INSERT INTO guardian (child, guardian, asked) VALUES (66, 77, 1)`); err == nil {
		t.Error("somebody who decides for itself got a guardian")
	}
}

// The birthday is not known: 14 is who surely is.
func TestOfAgeIsTheEndOfTheMonth(t *testing.T) { // R24
	for month, want := range map[string]string{"2031-05": "2031-06-01", "2031-12": "2032-01-01", "2028-02": "2028-03-01"} {
		if got, err := OfAge(month); err != nil || got.Format(time.DateOnly) != want {
			t.Errorf("%s: %v, %v", month, got, err)
		}
	}
	for _, month := range []string{"", "2031", "2031-13", "2031-5", "31-05", "2031-05-17", "may"} {
		if _, err := OfAge(month); err == nil {
			t.Errorf("%q is a month", month)
		}
	}
}

// A signature for one thing is none for another.
func TestASignatureIsOfOneKind(t *testing.T) { // R20
	h := build(t)
	jws, err := h.Sign("yunbox-test+jws", []byte(`{}`))
	h.must("sign", err)
	if got, err := signed.Verify(h.key.Public(), "yunbox-test+jws", jws); err != nil || string(got) != "{}" {
		t.Errorf("%s, %v", got, err)
	}
	for _, typ := range []string{"yunbox-other+jws", receiptType} {
		if _, err := signed.Verify(h.key.Public(), typ, jws); !errors.Is(err, signed.ErrHeader) {
			t.Errorf("%s: %v", typ, err)
		}
	}
	if _, err := VerifyReceipt(h.key.Public(), []byte(jws)); !errors.Is(err, ErrReceipt) {
		t.Errorf("as a receipt: %v", err)
	}
}

// R24: whatever comes after a guardian went, in the order of transactions, is refused,
// and who holds a Grant hears of it; many at once.
func TestNothingIsTakenAfterAGuardianWent(t *testing.T) {
	h := build(t)
	h.family()
	h.change(`UPDATE guardian SET since = 2`)
	h.must("the policy", h.by(mum, kid, Storage, true))
	h.must("a purpose", h.by(mum, kid, AlbumBackup, true))
	stop := make(chan struct{})
	var uploads sync.WaitGroup
	var taken atomic.Int64
	for range 4 {
		uploads.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				g, err := h.Grant(t.Context(), kid, phone, AlbumBackup)
				if err != nil {
					continue
				}
				_ = h.db.Write(context.Background(), func(tx *db.Tx) error {
					if err := g.Check(tx, AlbumBackup); err != nil {
						return err
					}
					var off bool
					if err := tx.QueryRow(`SELECT disabled IS NOT NULL FROM user WHERE id = 44`).Scan(&off); err != nil || off {
						t.Errorf("taken while nobody stood behind it: %v", err)
					}
					taken.Add(1)
					return nil
				})
			}
		})
	}
	for range 40 {
		g, err := h.Grant(t.Context(), kid, tablet, AlbumBackup)
		h.must("with a guardian", err)
		ctx, cancel := g.Context(t.Context())
		h.change(`UPDATE user SET disabled = 1 WHERE id = 44`)
		if ctx.Err() == nil {
			t.Fatal("who was at work did not hear of it")
		}
		cancel()
		h.refused(kid, phone, AlbumBackup)
		h.change(`UPDATE user SET disabled = NULL WHERE id = 44`)
		before := taken.Load()
		for taken.Load() == before {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	uploads.Wait()
}
