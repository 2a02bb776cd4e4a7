package consent

import (
	"database/sql"
	"strings"
	"testing"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// tamper runs SQL as somebody would who holds the file: without our triggers.
func (h *house) tamper(statements ...string) {
	h.t.Helper()
	raw, err := sql.Open("sqlite3", "file:"+h.path+"?_busy_timeout=5000")
	if err != nil {
		h.t.Fatal(err)
	}
	defer raw.Close()
	rows, err := raw.Query("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'consent%'")
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, "DROP TRIGGER "+name)
	}
	rows.Close()
	for _, s := range append(all, statements...) {
		if _, err := raw.Exec(s); err != nil {
			h.t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestTheDatabaseRefusesToRewriteTheLedger(t *testing.T) { // R20, R35
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(ann, 0, AlbumBackup, false)
	before := h.verify()
	for _, s := range []string{
		"UPDATE consent_ledger SET granted = 1",
		"DELETE FROM consent_ledger WHERE seq = 2",
		"INSERT OR REPLACE INTO consent_ledger SELECT * FROM consent_ledger WHERE seq = 2",
		"INSERT INTO consent_ledger SELECT 3, prev, time, user, device, purpose, purpose_version, 1, policy_revision, actor, how, hash FROM consent_ledger WHERE seq = 2",
		"UPDATE consent_ledger_head SET seq = 1, hash = (SELECT hash FROM consent_ledger WHERE seq = 1)",
		"DELETE FROM consent_ledger_head",
		"INSERT OR REPLACE INTO consent_ledger_head VALUES (1, 0, zeroblob(32))",
		"UPDATE consent_receipt SET jws = 'x'",
		"DELETE FROM consent_receipt",
		"INSERT OR REPLACE INTO consent_receipt VALUES (1, 'x')",
	} {
		if err := h.db.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(s); return err }); err == nil {
			t.Errorf("accepted: %s", s)
		}
	}
	if after := h.verify(); after != before {
		t.Fatalf("before %+v, after %+v", before, after)
	}
}

func TestVerifyNamesTheFirstBadDecision(t *testing.T) { // R20, R35
	for name, c := range map[string]struct {
		sql  string
		seq  int64
		want audit.Reason
	}{
		"a no turned into a yes":   {"UPDATE consent_ledger SET granted = 1 WHERE seq = 2", 2, audit.Changed},
		"another person's":         {"UPDATE consent_ledger SET user = 22 WHERE seq = 3", 3, audit.Changed},
		"another purpose":          {"UPDATE consent_ledger SET purpose = 'face_recognition' WHERE seq = 1", 1, audit.Changed},
		"withdrawal removed":       {"DELETE FROM consent_receipt WHERE seq = 2; DELETE FROM consent_ledger WHERE seq = 2", 2, audit.Missing},
		"last withdrawal cut off":  {"DELETE FROM consent_receipt WHERE seq = 4; DELETE FROM consent_ledger WHERE seq = 4", 4, audit.Truncated},
		"receipt removed":          {"DELETE FROM consent_receipt WHERE seq = 3", 3, ReceiptBad},
		"receipt of another":       {"UPDATE consent_receipt SET jws = (SELECT jws FROM consent_receipt WHERE seq = 1) WHERE seq = 3", 3, ReceiptBad},
		"receipt without its sign": {"UPDATE consent_receipt SET jws = substr(jws, 1, length(jws) - 4) || 'AAAA' WHERE seq = 2", 2, ReceiptBad},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			h.decide(ann, 0, AlbumBackup, true)
			h.decide(ann, 0, AlbumBackup, false)
			h.decide(ann, phone, WeChatBackup, true)
			h.decide(ann, 0, WeChatBackup, false)
			h.tamper(c.sql)
			r := h.verify()
			if r.Bad == nil || *r.Bad != (audit.Bad{Seq: c.seq, Reason: c.want}) || r.Entries != c.seq-1 {
				t.Fatalf("%+v %+v, want %d %s", r, r.Bad, c.seq, c.want)
			}
		})
	}
}

// A receipt that the box's own key signed, but that says something else than the
// ledger, is found too.
func TestReceiptMustSayWhatTheLedgerSays(t *testing.T) { // R20, R35
	for name, change := range map[string]func(*Receipt){
		"another entry":   func(r *Receipt) { r.Record = strings.Repeat("0", 64) },
		"another person":  func(r *Receipt) { r.Principal = bob },
		"another device":  func(r *Receipt) { r.Device = tablet },
		"another purpose": func(r *Receipt) { r.Purpose.ID = QQBackup },
		"the opposite":    func(r *Receipt) { r.Event.State = Withdrawn },
		"another decider": func(r *Receipt) { r.Event.Actor = bob },
		"another time":    func(r *Receipt) { r.Event.Time = r.Event.Time.Add(1e6) },
	} {
		h := build(t)
		h.decide(ann, 0, AlbumBackup, true)
		r := h.decide(ann, phone, WeChatBackup, true)
		change(&r)
		jws, err := h.sign.jws(r)
		if err != nil {
			t.Fatal(err)
		}
		h.tamper("UPDATE consent_receipt SET jws = '" + jws + "' WHERE seq = 2")
		if got := h.verify(); got.Bad == nil || *got.Bad != (audit.Bad{Seq: 2, Reason: ReceiptBad}) || got.Entries != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The question that every writing transaction asks must be two seeks, however
// long the ledger is.
func TestCheckReadsNoMoreThanItMust(t *testing.T) {
	h := build(t)
	for i := range 50 {
		h.decide(ann, ident.DeviceID(i+1), AlbumBackup, i%2 == 0)
	}
	for name, q := range map[string]string{"check": countingSQL} {
		var plan strings.Builder
		err := h.db.Read(t.Context(), func(tx *db.Tx) error {
			rows, err := tx.Query("EXPLAIN QUERY PLAN "+q, ann, AlbumBackup, phone)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var id, parent, x int
				var line string
				if err := rows.Scan(&id, &parent, &x, &line); err != nil {
					return err
				}
				plan.WriteString(line + "\n")
			}
			return rows.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(plan.String(), "SCAN") || strings.Contains(plan.String(), "TEMP B-TREE") ||
			strings.Count(plan.String(), "consent_ledger_latest (user=? AND purpose=? AND device=?)") != 3 {
			t.Errorf("%s:\n%s", name, plan.String())
		}
	}
}

// The newest receipt vouches for all before it, so that a long ledger is verified by one
// signature; whatever is done to an earlier one is found all the same, also by the box's
// own key, and also where receipts of before are none of that form.
func TestTheNewestReceiptVouchesForAll(t *testing.T) { // R20 R35
	h := build(t)
	for i := range 5 {
		h.decide(ann, 0, AlbumBackup, i%2 == 0)
	}
	vouched := func() bool {
		t.Helper()
		var ok bool
		if err := h.db.Read(t.Context(), func(tx *db.Tx) (err error) {
			last, _, err := h.chain.Marks(t.Context(), tx, 0)
			if err == nil {
				ok, err = h.vouched(t.Context(), tx, last.Seq, last.Hash)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !vouched() || h.verify().Bad != nil {
		t.Fatal("an untouched ledger is not vouched for")
	}
	list, _, err := h.Receipts(t.Context(), ann, "", 0, 1000)
	if err != nil || len(list) != 5 || list[4].Earlier != strings.Repeat("0", 64) || len(list[0].Earlier) != 64 || list[0].Earlier == list[1].Earlier {
		t.Fatalf("%v %v", list, err)
	}
	again, err := h.sign.jws(list[3]) // says the same, with another signature
	if err != nil {
		t.Fatal(err)
	}
	h.tamper("UPDATE consent_receipt SET jws = '" + again + "' WHERE seq = 2")
	if r := h.verify(); vouched() || r.Bad == nil || *r.Bad != (audit.Bad{Seq: 3, Reason: ReceiptBad}) || r.Entries != 2 {
		t.Errorf("a receipt that was signed anew: %+v", r)
	}
	h.tamper("UPDATE consent_receipt SET jws = '" + list[3].JWS + "' WHERE seq = 2")
	if r := h.verify(); !vouched() || r.Bad != nil {
		t.Errorf("put back: %+v", r)
	}

	// As an earlier version of the box left it: no receipt vouches for others.
	for i, r := range list {
		r.Earlier = ""
		jws, err := h.sign.jws(r)
		if err != nil {
			t.Fatal(err)
		}
		h.tamper("UPDATE consent_receipt SET jws = '" + jws + "' WHERE seq = " + string(rune('5'-i)))
	}
	if r := h.verify(); vouched() || r.Bad != nil || r.Entries != 5 {
		t.Errorf("a ledger of before: %+v", r)
	}
	h.restart(builtin())
	h.decide(ann, 0, AlbumBackup, false)
	if r := h.verify(); !vouched() || r.Bad != nil || r.Entries != 6 {
		t.Errorf("it goes on from a ledger of before: %+v", r)
	}
}
