package consent

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (h *house) decline(u ident.UserID) Receipt {
	h.t.Helper()
	return h.decide(u, 0, WholePolicy, false)
}

func TestDecliningThePolicy(t *testing.T) { // R22 R23
	h := build(t)
	h.decide(ann, 0, Storage, true)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(ann, phone, WeChatBackup, true)
	h.decide(bob, 0, AlbumBackup, true)
	album, wechat, core := h.grant(ann, tablet, AlbumBackup), h.grant(ann, phone, WeChatBackup), h.grant(ann, 0, Storage)
	bobs, stop := h.grant(bob, 0, AlbumBackup).Context(t.Context())
	defer stop()
	var running []context.Context
	for _, g := range []Grant{album, wechat, core} {
		ctx, cancel := g.Context(t.Context())
		defer cancel()
		running = append(running, ctx)
	}
	if err := h.Limited(ann); err != nil || h.Standing(ann) != Accepted || h.Standing(33) != Unasked {
		t.Fatalf("before: %v %s", err, h.Standing(ann))
	}
	r := h.decline(ann)
	if r.Event.State != Refused || r.Purpose.ID != WholePolicy || r.Withdrawal.Withdraws != "" || r.Notice.Revision != "1" {
		t.Errorf("%+v", r)
	}
	for i, ctx := range running {
		if ctx.Err() == nil {
			t.Fatalf("work %d goes on", i)
		}
		if e := problem.As(context.Cause(ctx)); e.Kind != problem.ConsentRequired || e.Title != "You declined the privacy policy" {
			t.Errorf("it ended with %v", e)
		}
	}
	if bobs.Err() != nil {
		t.Error("bob's work ended")
	}
	for name, reopen := range map[string]func(){"running": func() {}, "restarted": func() { h.restart(builtin()) }} {
		reopen()
		for _, p := range []Purpose{Storage, AlbumBackup, WeChatBackup, QQBackup} {
			if e := h.refused(ann, phone, p); e.Members["standing"] != "declined" || e.Members["policy_revision"] != "1" {
				t.Errorf("%s: %s: %v", name, p, e.Members)
			}
		}
		if err := h.Limited(ann); problem.KindOf(err) != problem.ConsentRequired || h.Standing(ann) != Declined || h.Limited(bob) != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := h.state(ann, 0, AlbumBackup); s != Suspended {
			t.Errorf("%s: %s", name, s)
		}
	}
	if err := h.check(album, AlbumBackup); err == nil {
		t.Error("a Grant of before passes")
	}
	if again := h.decline(ann); again.JWS != r.JWS {
		t.Error("the same no gave another receipt")
	}
	// Nothing but accepting takes it back, and nothing else comes back with it.
	_, err := h.Record(t.Context(), Decision{User: ann, Purpose: AlbumBackup, Granted: true, PolicyRevision: "1", Actor: ann, How: "page"})
	if problem.KindOf(err) != problem.ConsentRequired {
		t.Errorf("a purpose of a policy that was declined: %v", err)
	}
	h.decide(ann, 0, WeChatBackup, false) // a withdrawal is always heard
	h.decide(ann, 0, Storage, true)
	if h.Standing(ann) != Accepted || h.Limited(ann) != nil {
		t.Error("accepting did not take it back")
	}
	h.grant(ann, 0, Storage)
	if e := h.refused(ann, phone, AlbumBackup); e.Members["standing"] != nil || !strings.Contains(e.Detail, "changed") {
		t.Errorf("%v", e)
	}
	if err := h.check(core, Storage); err == nil {
		t.Error("a Grant of before the no passes after the yes")
	}
	yes := h.decide(ann, 0, AlbumBackup, true)
	if err := h.check(h.grant(ann, phone, AlbumBackup), AlbumBackup); err != nil || yes.Event.State != Granted {
		t.Error(err)
	}
	if second := h.decline(ann); second.JWS == r.JWS {
		t.Error("a no after a yes was taken for the no before")
	}
	if rep := h.verify(); rep.Bad != nil {
		t.Errorf("%+v", rep)
	}
}

func TestDecisionsAboutThePolicyThatMakeNoSense(t *testing.T) { // R20 R23
	h := build(t)
	h.restart(catalogueWith(nil, "2"))
	for name, c := range map[string]struct {
		d    Decision
		want problem.Kind
	}{
		"an old one":         {Decision{User: ann, Actor: ann, Purpose: WholePolicy, PolicyRevision: "1", How: "page"}, problem.Conflict},
		"one to come":        {Decision{User: ann, Actor: ann, Purpose: WholePolicy, PolicyRevision: "3", How: "page"}, problem.Conflict},
		"none":               {Decision{User: ann, Actor: ann, Purpose: WholePolicy, How: "page"}, problem.Conflict},
		"for another":        {Decision{User: ann, Actor: bob, Purpose: WholePolicy, PolicyRevision: "2", How: "page"}, problem.Forbidden},
		"for one device":     {Decision{User: ann, Actor: ann, Purpose: WholePolicy, PolicyRevision: "2", Device: phone, How: "page"}, problem.Invalid},
		"a yes to it":        {Decision{User: ann, Actor: ann, Purpose: WholePolicy, PolicyRevision: "2", Granted: true, How: "page"}, problem.Internal},
		"a yes for another":  {Decision{User: ann, Actor: bob, Purpose: Storage, PolicyRevision: "2", Granted: true, How: "page"}, problem.Forbidden},
		"a no for another":   {Decision{User: ann, Actor: bob, Purpose: Storage, PolicyRevision: "2", How: "page"}, problem.Forbidden},
		"a yes to an old":    {Decision{User: ann, Actor: ann, Purpose: AlbumBackup, PolicyRevision: "1", Granted: true, How: "page"}, problem.Conflict},
		"of nobody":          {Decision{Purpose: WholePolicy, PolicyRevision: "2", How: "page"}, problem.Forbidden},
		"in no way":          {Decision{User: ann, Actor: ann, Purpose: WholePolicy, PolicyRevision: "2"}, problem.Internal},
		"in a strange way":   {Decision{User: ann, Actor: ann, Purpose: WholePolicy, PolicyRevision: "2", How: "page\n"}, problem.Internal},
		"a grant is no such": {Decision{User: ann, Actor: ann, Purpose: "policies", PolicyRevision: "2", Granted: true, How: "page"}, problem.NotFound},
	} {
		if _, err := h.Record(t.Context(), c.d); problem.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Grant(t.Context(), ann, 0, WholePolicy); problem.KindOf(err) != problem.NotFound {
		t.Errorf("a grant of the policy: %v", err)
	}
	if r := h.verify(); r.Entries != 0 {
		t.Errorf("%+v", r)
	}
}

func TestChangesSinceWhatWasAgreedTo(t *testing.T) { // R23
	h := build(t)
	h.decide(ann, 0, Storage, true)
	h.restart(catalogueWith(nil, "2", "3"))
	names := func(list []Policy) (s string) {
		for _, p := range list {
			s += p.Revision
		}
		return s
	}
	for u, want := range map[ident.UserID]string{ann: "1 23", bob: " 123"} {
		since, list, err := h.Changes(t.Context(), u)
		if got := since + " " + names(list); err != nil || got != want {
			t.Errorf("%d: %q, %v", u, got, err)
		}
	}
	h.decide(ann, 0, AlbumBackup, true)
	if since, list, err := h.Changes(t.Context(), ann); err != nil || since != "3" || len(list) != 0 {
		t.Errorf("%s %s %v", since, names(list), err)
	}
	// An earlier version of the software does not know what was agreed to: the person
	// is asked again, and nothing is assumed.
	h.restart(builtin())
	if since, list, err := h.Changes(t.Context(), ann); err != nil || since != "3" || names(list) != "1" || h.Standing(ann) != Accepted {
		t.Errorf("%s %s %s %v", since, names(list), h.Standing(ann), err)
	}
	h.grant(ann, 0, AlbumBackup) // she had accepted that policy, too
	h.decide(bob, 0, Storage, true)
	h.restart(catalogueWith(nil, "2"))
	h.decide(bob, 0, QQBackup, true)
	h.restart(builtin())
	h.grant(bob, 0, QQBackup)
	if _, err := h.Revision("2"); problem.KindOf(err) != problem.NotFound {
		t.Error(err)
	}
}

// A history of decisions, of new versions of the box, restarts and clocks that jump,
// against rules that are written once more, the simplest way: what memory says, what the
// database says, and what follows from all decisions are the same after every step.
func TestStatesFollowFromTheDecisions(t *testing.T) { // R20 R21 R22 R23
	h := build(t)
	rng := rand.New(rand.NewPCG(23, 6))
	type entry struct {
		d        Decision
		revision string
		version  int
	}
	var history []entry
	versions := map[Purpose]int{AlbumBackup: 1, WeChatBackup: 1, Storage: 1}
	revisions := []string{}
	current := func() string { return h.cat.current().Revision }
	world := func() { h.restart(catalogueWith(versions, revisions...)) }
	// what follows for one person, purpose and device
	allowed := func(u ident.UserID, p Purpose, dev ident.DeviceID) bool {
		yes, core := false, false
		for _, e := range history {
			switch {
			case e.d.User != u:
			case e.d.Purpose == WholePolicy:
				yes, core = false, false
			default:
				if e.d.Purpose == Storage {
					core = e.d.Granted && e.revision == current()
				}
				if e.d.Purpose == p && (e.d.Device == 0 || e.d.Device == dev) {
					yes = e.d.Granted && e.version == versions[p]
				}
			}
		}
		if !yes {
			return false
		}
		last := ""
		for _, e := range history {
			if e.d.User == u && e.d.Purpose == p && (e.d.Device == 0 || e.d.Device == dev) {
				last = e.revision
			}
		}
		return last == current() || core
	}
	purposes := []Purpose{Storage, AlbumBackup, WeChatBackup}
	for step := range 400 {
		h.now.Add(rng.Int64N(7_200_000) - 3_600_000) // the clock goes, and jumps
		u := []ident.UserID{ann, bob}[rng.IntN(2)]
		switch n := rng.IntN(40); {
		case n == 0 && len(revisions) < 6:
			revisions = append(revisions, string(rune('2'+len(revisions))))
			world()
		case n == 1:
			versions[purposes[1+rng.IntN(2)]]++
			world()
		case n == 2:
			world()
		default:
			d := Decision{User: u, Actor: u, How: "page", PolicyRevision: current(), Purpose: purposes[rng.IntN(3)], Granted: rng.IntN(3) > 0}
			if d.Purpose != Storage {
				d.Device = []ident.DeviceID{0, phone, tablet}[rng.IntN(3)]
			}
			if n < 6 {
				d.Purpose, d.Device, d.Granted = WholePolicy, 0, false
			}
			if n == 7 { // replayed from another time
				d.PolicyRevision = "0"
			}
			before := h.Standing(u)
			_, err := h.Record(t.Context(), d)
			refuse := d.PolicyRevision == "0" && (d.Granted || d.Purpose == WholePolicy) || d.Granted && d.Purpose != Storage && before == Declined
			if (err != nil) != refuse {
				t.Fatalf("step %d: %+v of one who is %s: %v", step, d, before, err)
			}
			if err == nil {
				history = append(history, entry{d, current(), versions[d.Purpose]})
			}
		}
		for _, u := range []ident.UserID{ann, bob} {
			for _, p := range purposes {
				for _, dev := range []ident.DeviceID{0, phone, tablet} {
					want := allowed(u, p, dev)
					g, err := h.Grant(t.Context(), u, dev, p)
					if (err == nil) != want {
						t.Fatalf("step %d: %d %s on %d: %v, want %v\n%+v", step, u, p, dev, err, want, history[max(0, len(history)-8):])
					}
					if want {
						if err := h.check(g, p); err != nil {
							t.Fatalf("step %d: memory lets %d do %s, the database: %v", step, u, p, err)
						}
						if s := h.Standing(u); s != Accepted {
							t.Fatalf("step %d: %d may do %s and is %s", step, u, p, s)
						}
					}
				}
			}
			var inDatabase Standing
			if err := h.db.Read(t.Context(), func(tx *db.Tx) (err error) {
				inDatabase, _, err = h.standing(tx, u)
				return err
			}); err != nil || inDatabase != h.Standing(u) {
				t.Fatalf("step %d: %s in memory, %s in the database, %v", step, h.Standing(u), inDatabase, err)
			}
		}
	}
	if r := h.verify(); r.Bad != nil || r.Entries == 0 {
		t.Fatalf("%+v", r)
	}
	if !slices.ContainsFunc(history, func(e entry) bool { return e.d.Purpose == WholePolicy }) {
		t.Fatal("nobody declined")
	}
}

func TestExceptions(t *testing.T) { // R25
	h := build(t)
	for name, e := range map[string]Exception{
		"an act of nobody":              {User: ann, Act: "curiosity", Via: "box"},
		"one that goes on all the time": {User: ann, Act: "security_record", Via: "box"},
		"one that concerns no one":      {Act: ActRecordRead, Via: "box"},
	} {
		if err := h.db.Write(t.Context(), func(tx *db.Tx) error { return h.Except(tx, e) }); err == nil {
			t.Errorf("%s was entered", name)
		}
	}
	if err := h.Excepted(t.Context(), ActRecordRead, bob, "http", ann, bob); err != nil {
		t.Fatal(err)
	}
	if err := h.Excepted(t.Context(), ActRecordRead, bob, "http"); err != nil {
		t.Fatal(err)
	}
	r, err := h.log.Verify(t.Context())
	if err != nil || r.Entries != 2 || r.Bad != nil {
		t.Errorf("the record of acts: %+v %v", r, err)
	}
}

// 100,000 decisions: how long reading and verifying them takes.
func BenchmarkLedgerOf100000(b *testing.B) { // R20
	h := build(b)
	const entries = 100_000
	h.fill(entries)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := open(b.Context(), h.db, h.log, h.key, builtin()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		began := cpu(b)
		for b.Loop() {
			if r := h.verify(); r.Entries != entries || r.Bad != nil {
				b.Fatalf("%+v", r)
			}
		}
		b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/op") // whatever else the machine does
	})
}

// cpu is the time that this process has had of the processors.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fill enters decisions of 500 people, many in a transaction.
func (h *house) fill(entries int) {
	h.t.Helper()
	policy := h.cat.current()
	info, err := h.cat.info(AlbumBackup)
	if err != nil {
		h.t.Fatal(err)
	}
	for done := 0; done < entries; {
		err := h.db.Write(context.Background(), func(tx *db.Tx) error {
			for range 1000 {
				d := Decision{User: ident.UserID(100 + done%500), Device: ident.DeviceID(1 + done%3), Purpose: AlbumBackup, Granted: done%2 == 0, How: "page"}
				d.Actor = d.User
				now := decision{granted: d.Granted, version: info.Version, revision: policy.Revision, time: tx.Now.UTC()}
				seq, hash, err := h.chain.Append(tx, now.time.UnixMilli(), int64(d.User), int64(d.Device), string(d.Purpose), int64(now.version), bit(d.Granted), now.revision, int64(d.Actor), d.How)
				if err != nil {
					return err
				}
				r := h.receipt(d, info, policy, now, hash, previous{})
				if r.Earlier, err = h.earlier(tx, seq); err != nil {
					return err
				}
				if r.JWS, err = h.sign.jws(r); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT INTO consent_receipt (seq, jws) VALUES (?, ?)", seq, r.JWS); err != nil {
					return err
				}
				done++
			}
			return nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
}
