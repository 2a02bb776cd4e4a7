package audit_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

type box struct {
	*db.DB
	path string
	log  *audit.Log
}

func open(t *testing.T) *box {
	t.Helper()
	return openIn(t, t.TempDir())
}

func openIn(t *testing.T, dir string) *box {
	t.Helper()
	path := filepath.Join(dir, "box.db")
	at := time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC)
	d, err := db.Open(t.Context(), db.Options{Path: path, BackupDir: dir, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &box{DB: d, path: path, log: audit.New(d)}
}

// fill appends n events in one transaction.
func (b *box) fill(t *testing.T, n int) {
	t.Helper()
	err := b.Write(t.Context(), func(tx *db.Tx) error {
		for i := range n {
			e := audit.Event{Actor: ident.UserID(i + 1), Action: "session.open", Subject: 7, Object: fmt.Sprint(i), Device: 3, Via: "http"}
			if i%2 == 0 {
				e.Detail = map[string]string{"b": "2", "a": "1"}
			}
			if err := b.log.Append(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tamper runs SQL as somebody would who holds the file: without our triggers.
func (b *box) tamper(t *testing.T, statements ...string) {
	t.Helper()
	raw, err := sql.Open("sqlite3", "file:"+b.path+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	rows, err := raw.Query("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'audit%'")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		all = append(all, "DROP TRIGGER "+name)
	}
	rows.Close()
	for _, s := range append(all, statements...) {
		if _, err := raw.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (b *box) verify(t *testing.T) audit.Report {
	t.Helper()
	r, err := b.log.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordHoldsAndComesBack(t *testing.T) { // R35
	b := open(t)
	if r := b.verify(t); r.Bad != nil || r.Entries != 0 || r.Head != strings.Repeat("0", 64) {
		t.Fatalf("an empty record gives %+v", r)
	}
	b.fill(t, 50)
	r := b.verify(t)
	if r.Bad != nil || r.Entries != 50 || len(r.Head) != 64 {
		t.Fatalf("%+v", r)
	}
	tail, err := b.log.Tail(t.Context(), 3)
	if err != nil || len(tail) != 3 {
		t.Fatalf("%v, %v", tail, err)
	}
	last := tail[2]
	if tail[0].Seq != 48 || last.Seq != 50 || last.Actor != 50 || last.Hash != r.Head || last.Object != "49" || last.Detail != nil {
		t.Fatalf("tail: %+v", tail)
	}
	if tail[1].Detail["a"] != "1" || !last.Time.Equal(time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC)) {
		t.Fatalf("tail: %+v", tail)
	}
	j, err := json.Marshal(last)
	want := `{"seq":50,"time":"2026-11-26T05:00:00.000Z","actor":"` + ident.UserID(50).String() + `","action":"session.open","subject":"` + ident.UserID(7).String() + `","object":"49","device":"` + ident.DeviceID(3).String() + `","via":"http","hash":"` + r.Head + `"}`
	if err != nil || string(j) != want {
		t.Fatalf("JSON %s, %v\nwant %s", j, err, want)
	}
}

// An act that is undone leaves no entry, and the record still holds.
func TestEventSharesTheFateOfItsAct(t *testing.T) { // R35
	b := open(t)
	b.fill(t, 2)
	boom := errors.New("boom")
	err := b.Write(t.Context(), func(tx *db.Tx) error {
		if err := b.log.Append(tx, audit.Event{Action: "user.create"}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	b.fill(t, 1)
	if r := b.verify(t); r.Bad != nil || r.Entries != 3 {
		t.Fatalf("%+v", r)
	}
}

func TestTheDatabaseRefusesToRewriteTheRecord(t *testing.T) { // R35
	b := open(t)
	b.fill(t, 3)
	before := b.verify(t)
	for _, s := range []string{
		"UPDATE audit SET actor = 9 WHERE seq = 2",
		"UPDATE OR REPLACE audit SET seq = 1 WHERE seq = 2",
		"DELETE FROM audit WHERE seq = 3",
		"DELETE FROM audit",
		"INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 2",
		"INSERT INTO audit SELECT seq + 10, prev, time, actor, action, subject, object, device, via, detail, hash FROM audit WHERE seq = 3",
		"INSERT INTO audit SELECT seq + 1, prev, time, actor, action, subject, object, device, via, detail, hash FROM audit WHERE seq = 3",
		"UPDATE audit_head SET seq = 2",
		"UPDATE audit_head SET hash = zeroblob(32)",
		"DELETE FROM audit_head",
		"INSERT OR REPLACE INTO audit_head VALUES (1, 0, zeroblob(32))",
	} {
		err := b.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(s); return err })
		if err == nil {
			t.Errorf("accepted: %s", s)
		}
	}
	if after := b.verify(t); after != before {
		t.Fatalf("before %+v, after %+v", before, after)
	}
}

func TestVerifyNamesTheFirstBadEntry(t *testing.T) { // R35
	swap := func(x, y int) []string {
		return []string{
			fmt.Sprintf("UPDATE audit SET seq = -1 WHERE seq = %d", x),
			fmt.Sprintf("UPDATE audit SET seq = %d WHERE seq = %d", x, y),
			fmt.Sprintf("UPDATE audit SET seq = %d WHERE seq = -1", y),
		}
	}
	renumber := "UPDATE audit SET seq = -seq WHERE seq > 5; UPDATE audit SET seq = -seq - 1 WHERE seq < 0"
	for name, c := range map[string]struct {
		sql  []string
		seq  int64
		want audit.Reason
	}{
		"actor changed":           {[]string{"UPDATE audit SET actor = 99 WHERE seq = 5"}, 5, audit.Changed},
		"first changed":           {[]string{"UPDATE audit SET action = 'x' WHERE seq = 1"}, 1, audit.Changed},
		"last changed":            {[]string{"UPDATE audit SET detail = 'x' WHERE seq = 10"}, 10, audit.Changed},
		"moved between columns":   {[]string{"UPDATE audit SET object = via, via = object WHERE seq = 4"}, 4, audit.Changed},
		"time changed":            {[]string{"UPDATE audit SET time = time + 1 WHERE seq = 3"}, 3, audit.Changed},
		"hash changed":            {[]string{"UPDATE audit SET hash = randomblob(32) WHERE seq = 6"}, 6, audit.Changed},
		"two changed":             {[]string{"UPDATE audit SET actor = 99 WHERE seq IN (4, 8)"}, 4, audit.Changed},
		"link changed":            {[]string{"UPDATE audit SET prev = randomblob(32) WHERE seq = 6"}, 6, audit.Changed},
		"removed":                 {[]string{"DELETE FROM audit WHERE seq = 5"}, 5, audit.Missing},
		"three removed":           {[]string{"DELETE FROM audit WHERE seq BETWEEN 5 AND 7"}, 5, audit.Missing},
		"first removed":           {[]string{"DELETE FROM audit WHERE seq = 1"}, 1, audit.Missing},
		"removed and renumbered":  {[]string{"DELETE FROM audit WHERE seq = 5", renumber}, 5, audit.Missing},
		"neighbours swapped":      {swap(5, 6), 5, audit.Reordered},
		"far ones swapped":        {swap(2, 9), 2, audit.Reordered},
		"last two swapped":        {swap(9, 10), 9, audit.Reordered},
		"moved to the end":        {[]string{"UPDATE audit SET seq = 11 WHERE seq = 5"}, 5, audit.Reordered},
		"tail cut":                {[]string{"DELETE FROM audit WHERE seq > 7"}, 8, audit.Truncated},
		"last cut":                {[]string{"DELETE FROM audit WHERE seq = 10"}, 10, audit.Truncated},
		"all cut":                 {[]string{"DELETE FROM audit"}, 1, audit.Truncated},
		"head gone":               {[]string{"DELETE FROM audit_head"}, 11, audit.Truncated},
		"tail cut and head gone":  {[]string{"DELETE FROM audit WHERE seq > 7", "DELETE FROM audit_head"}, 8, audit.Truncated},
		"head set back":           {[]string{"UPDATE audit_head SET seq = 8, hash = (SELECT hash FROM audit WHERE seq = 8)"}, 9, audit.Changed},
		"head of another history": {[]string{"UPDATE audit_head SET hash = randomblob(32)"}, 10, audit.Changed},
		"entry before the first":  {[]string{"INSERT INTO audit SELECT 0, prev, time, actor, action, subject, object, device, via, detail, hash FROM audit WHERE seq = 1"}, 0, audit.Changed},
		"copy at the end":         {[]string{"INSERT INTO audit SELECT 11, prev, time, actor, action, subject, object, device, via, detail, hash FROM audit WHERE seq = 10"}, 11, audit.Changed},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.fill(t, 10)
			b.tamper(t, c.sql...)
			r := b.verify(t)
			if r.Bad == nil || r.Bad.Seq != c.seq || r.Bad.Reason != c.want {
				t.Fatalf("%+v %+v, want %d %s", r, r.Bad, c.seq, c.want)
			}
			if r.Entries != max(c.seq-1, 0) {
				t.Fatalf("%d entries hold before entry %d", r.Entries, c.seq)
			}
		})
	}
}

// Somebody who rewrites an entry *and* its hash is caught at the next link.
func TestRewrittenHashIsFound(t *testing.T) { // R35
	for seq := int64(1); seq <= 5; seq++ {
		honest, forged := open(t), open(t)
		honest.fill(t, 5)
		forged.fill(t, int(seq-1))
		err := forged.Write(t.Context(), func(tx *db.Tx) error {
			return forged.log.Append(tx, audit.Event{Actor: 66, Action: "session.open"})
		})
		if err != nil {
			t.Fatal(err)
		}
		// Both histories agree up to seq, so the forged row links in perfectly.
		honest.tamper(t, fmt.Sprintf("ATTACH '%s' AS f; DELETE FROM audit WHERE seq = %d; INSERT INTO audit SELECT * FROM f.audit WHERE seq = %[2]d", forged.path, seq))
		if r := honest.verify(t); r.Bad == nil || *r.Bad != (audit.Bad{Seq: seq, Reason: audit.Changed}) || r.Entries != seq-1 {
			t.Fatalf("entry %d rewritten: %+v %+v", seq, r, r.Bad)
		}
	}
}

// A record that lost its tail still takes entries: the loss stays visible, and
// the box stays usable.
func TestAppendAfterTruncation(t *testing.T) { // R35
	b := open(t)
	b.fill(t, 10)
	b.tamper(t, "DELETE FROM audit WHERE seq > 7")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openIn(t, filepath.Dir(b.path)) // a start puts the triggers back
	b.fill(t, 2)
	if r := b.verify(t); r.Bad == nil || *r.Bad != (audit.Bad{Seq: 8, Reason: audit.Missing}) {
		t.Fatalf("%+v %+v", r, r.Bad)
	}
}

// A chain that holds in itself is not enough for who kept a part of it elsewhere.
func TestWhatWasKeptElsewhereMustStillBeThere(t *testing.T) { // R35
	b, other := open(t), open(t)
	b.fill(t, 9)
	other.fill(t, 3)
	other.fill(t, 4) // the same events would be the same chain: entries 4 to 7 differ
	mark := func(b *box, at int64) audit.Mark {
		_, then, err := b.log.Marks(t.Context(), at)
		if err != nil || then == nil || then.Seq != at || len(then.Hash) != 64 {
			t.Fatalf("entry %d: %v %v", at, then, err)
		}
		return *then
	}
	last, none, err := b.log.Marks(t.Context(), 10)
	if err != nil || none != nil || last != mark(b, 9) {
		t.Errorf("after the last entry: %v %v %v", last, none, err)
	}
	for what, kept := range map[string]struct {
		marks []audit.Mark
		bad   *audit.Bad
	}{
		"as it was":             {[]audit.Mark{mark(b, 0), mark(b, 3), mark(b, 9)}, nil},
		"the common beginning":  {[]audit.Mark{mark(other, 3)}, nil},
		"two that were others":  {[]audit.Mark{mark(other, 6), mark(other, 5), mark(other, 3)}, &audit.Bad{Seq: 5, Reason: audit.Rewritten}},
		"one that is not there": {[]audit.Mark{mark(b, 2), {Seq: 12, Hash: last.Hash}}, &audit.Bad{Seq: 10, Reason: audit.Truncated}},
	} {
		r, err := b.log.Verify(t.Context(), kept.marks...)
		if err != nil || (r.Bad == nil) != (kept.bad == nil) || r.Bad != nil && *r.Bad != *kept.bad {
			t.Errorf("%s: %+v %v, want %+v", what, r.Bad, err, kept.bad)
		}
	}
}

func TestLostHeadSaysWhatToDo(t *testing.T) { // R35
	b := open(t)
	b.fill(t, 2)
	b.tamper(t, "DELETE FROM audit_head")
	err := b.Write(t.Context(), func(tx *db.Tx) error { return b.log.Append(tx, audit.Event{Action: "user.create"}) })
	if problem.KindOf(err) != problem.Damaged || !strings.Contains(problem.Sentence(err), "audit verify") {
		t.Fatal(err)
	}
}

func TestEventsAreBounded(t *testing.T) { // R35
	b := open(t)
	many := map[string]string{}
	for i := range 17 {
		many[fmt.Sprint(i)] = "x"
	}
	for _, e := range []audit.Event{
		{},
		{Action: "Session.Open"},
		{Action: "session open"},
		{Action: strings.Repeat("a", 65)},
		{Action: "a.b", Via: strings.Repeat("a", 65)},
		{Action: "a.b", Object: strings.Repeat("a", 256)},
		{Action: "a.b", Detail: many},
		{Action: "a.b", Detail: map[string]string{"k": strings.Repeat("a", 2048)}},
	} {
		if err := b.Write(t.Context(), func(tx *db.Tx) error { return b.log.Append(tx, e) }); err == nil {
			t.Errorf("accepted: %+v", e)
		}
	}
	if r := b.verify(t); r.Entries != 0 || r.Bad != nil {
		t.Fatalf("%+v", r)
	}
}

func TestVerifyStopsWhenNobodyWaits(t *testing.T) {
	b := open(t)
	b.fill(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.log.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// The bound is on memory, which can be asserted; the speed is in the benchmark.
func TestVerifyMemoryDoesNotGrow(t *testing.T) {
	b := open(t)
	b.fill(t, 1000)
	small := testing.AllocsPerRun(3, func() { b.verify(t) }) / 1000
	b.fill(t, 4000)
	large := testing.AllocsPerRun(3, func() { b.verify(t) }) / 5000
	if large > small*1.1 {
		t.Fatalf("%.1f allocations an entry in a short record, %.1f in a long one", small, large)
	}
}

func BenchmarkVerify100000(b *testing.B) {
	dir := b.TempDir()
	d, err := db.Open(b.Context(), db.Options{Path: filepath.Join(dir, "box.db"), BackupDir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	log := audit.New(d)
	for range 10 {
		err := d.Write(b.Context(), func(tx *db.Tx) error {
			for range 10_000 {
				if err := log.Append(tx, audit.Event{Actor: 1, Action: "session.open", Subject: 1, Via: "http", Detail: map[string]string{"kind": "phone"}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if r, err := log.Verify(b.Context()); err != nil || r.Entries != 100_000 {
			b.Fatal(r, err)
		}
	}
}
