package consent

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/signed"
)

const (
	ann = ident.UserID(11)
	bob = ident.UserID(22)

	phone  = ident.DeviceID(101)
	tablet = ident.DeviceID(102)
)

// A house is a ledger on a real database, with a clock that moves by hand.
type house struct {
	*Ledger
	t    testing.TB
	path string
	key  *ecdsa.PrivateKey
	log  *audit.Log
	now  *atomic.Int64
}

func build(t testing.TB) *house { return buildWith(t, builtin()) }

func buildWith(t testing.TB, cat *Catalogue) *house {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, path: filepath.Join(t.TempDir(), "box.db"), key: key, now: &atomic.Int64{}}
	h.now.Store(time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC).UnixMilli())
	h.start(cat)
	t.Cleanup(func() { h.db.Close() })
	return h
}

func (h *house) start(cat *Catalogue) {
	h.t.Helper()
	d, err := db.Open(h.t.Context(), db.Options{Path: h.path, BackupDir: filepath.Dir(h.path),
		Now: func() time.Time { return time.UnixMilli(h.now.Load()) }})
	if err != nil {
		h.t.Fatal(err)
	}
	h.log = audit.New(d)
	if h.Ledger, err = open(h.t.Context(), d, h.log, h.key, cat); err != nil {
		h.t.Fatal(err)
	}
}

// restart stops the box and starts one that was built with cat.
func (h *house) restart(cat *Catalogue) {
	h.t.Helper()
	if err := h.db.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start(cat)
}

func (h *house) decide(u ident.UserID, dev ident.DeviceID, p Purpose, yes bool) Receipt {
	h.t.Helper()
	r, err := h.Record(h.t.Context(), Decision{
		User: u, Device: dev, Purpose: p, Granted: yes, PolicyRevision: h.cat.current().Revision, Actor: u, How: "page"})
	if err != nil {
		h.t.Fatalf("%v %v %s %v: %v", u, dev, p, yes, err)
	}
	return r
}

func (h *house) grant(u ident.UserID, dev ident.DeviceID, p Purpose) Grant {
	h.t.Helper()
	g, err := h.Grant(h.t.Context(), u, dev, p)
	if err != nil {
		h.t.Fatalf("%v %v %s: %v", u, dev, p, err)
	}
	return g
}

// refused asserts that neither memory nor database lets u do p.
func (h *house) refused(u ident.UserID, dev ident.DeviceID, p Purpose) *problem.Error {
	h.t.Helper()
	_, err := h.Grant(h.t.Context(), u, dev, p)
	if problem.KindOf(err) != problem.ConsentRequired {
		h.t.Fatalf("%v %v %s: %v where consent is needed", u, dev, p, err)
	}
	return problem.As(err)
}

func (h *house) check(g Grant, p Purpose) error {
	return h.db.Write(context.Background(), func(tx *db.Tx) error { return g.Check(tx, p) })
}

// newest is what a decision about p is made after.
func (h *house) newest(u ident.UserID, p Purpose) string {
	h.t.Helper()
	list, err := h.State(h.t.Context(), u)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range list {
		if c.Purpose == p {
			return c.Newest
		}
	}
	h.t.Fatalf("no state of %s", p)
	return ""
}

func (h *house) state(u ident.UserID, dev ident.DeviceID, p Purpose) State {
	h.t.Helper()
	list, err := h.State(h.t.Context(), u)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range list {
		if c.Purpose == p && c.Device == dev {
			return c.State
		}
	}
	return ""
}

func (h *house) verify() audit.Report {
	h.t.Helper()
	r, err := h.Verify(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// catalogueWith returns the built-in catalogue with changed versions of purposes
// and further policy revisions.
func catalogueWith(versions map[Purpose]int, revisions ...string) *Catalogue {
	old := builtin()
	c := *old
	c.purposes = append([]Info(nil), old.purposes...)
	for p, v := range versions {
		c.purposes[c.index[p]].Version = v
	}
	c.policies = append([]Policy(nil), old.policies...)
	for _, id := range revisions {
		p := *old.current()
		p.Revision, p.Modified = id, p.Modified.AddDate(0, len(c.policies), 0)
		c.policies = append(c.policies, p)
	}
	return &c
}

func TestNothingIsTickedBeforehand(t *testing.T) { // R20
	h := build(t)
	list, err := h.State(t.Context(), ann)
	if err != nil || len(list) != len(order()) {
		t.Fatalf("%d states, %v", len(list), err)
	}
	for i, c := range list {
		if c.State != Never || c.Device != 0 || c.PolicyRevision != "" || !c.Time.IsZero() || c.Purpose != order()[i] {
			t.Errorf("%+v before any decision", c)
		}
	}
	for _, info := range Purposes() {
		if info.Available {
			h.refused(ann, 0, info.ID)
			h.refused(ann, phone, info.ID)
		}
	}
}

func TestDecisionIsRecordedWithAllThatMatters(t *testing.T) { // R20
	h := build(t)
	r := h.decide(ann, phone, WeChatBackup, true)
	got, err := VerifyReceipt(h.key.Public(), []byte(r.JWS))
	if err != nil {
		t.Fatal(err)
	}
	if got.Principal != ann || got.Device != phone || got.Purpose.ID != WeChatBackup || got.Purpose.Version != 1 ||
		got.Notice.Revision != "1" || got.Notice.Modified != "2026-11-26" || got.Notice.SHA256["zh"] != CurrentPolicy().Digest("zh") ||
		got.Event.State != Granted || got.Event.Actor != ann || got.Event.How != "page" || got.Event.Time.UnixMilli() != h.now.Load() ||
		got.Purpose.Basis != "consent" || got.Purpose.Title["zh"] != "微信备份" || len(got.Purpose.Data["en"]) == 0 || !got.Purpose.Sensitive {
		t.Fatalf("%+v", got)
	}
	if report := h.verify(); report.Bad != nil || report.Entries != 1 || report.Head != got.Record {
		t.Fatalf("%+v", report)
	}
	tail, err := h.log.Tail(t.Context(), 10)
	if err != nil || len(tail) != 1 {
		t.Fatal(tail, err)
	}
	e := tail[0]
	if e.Action != "consent.grant" || e.Actor != ann || e.Subject != ann || e.Object != "wechat_backup" || e.Device != phone || e.Detail["entry"] != got.Record {
		t.Fatalf("audit: %+v", e)
	}
	list, err := h.State(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Device == phone && (c.State != Granted || c.PolicyRevision != "1" || c.PurposeVersion != 1 || c.Time.UnixMilli() != h.now.Load()) {
			t.Fatalf("%+v", c)
		}
	}
}

func TestOnePurposeIsNotAnother(t *testing.T) { // R20
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	g := h.grant(ann, phone, AlbumBackup)
	if err := h.check(g, AlbumBackup); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Purpose{Storage, WeChatBackup, QQBackup, CameraTransfer} {
		h.refused(ann, phone, p)
		err := h.check(g, p)
		if problem.KindOf(err) != problem.ConsentRequired || problem.As(err).Members["purpose"] != string(p) {
			t.Errorf("album's grant checked for %s: %v", p, err)
		}
	}
	h.refused(bob, 0, AlbumBackup)
	h.refused(bob, phone, AlbumBackup)
	// Not even where the other was consented to as well: a Grant proves one thing.
	h.decide(ann, 0, WeChatBackup, true)
	if err := h.check(g, WeChatBackup); problem.KindOf(err) != problem.ConsentRequired {
		t.Errorf("album's grant checked for wechat: %v", err)
	}
}

func TestProblemSaysWhereToGrant(t *testing.T) { // R20
	h := build(t)
	e := h.refused(ann, 0, WeChatBackup)
	want := map[string]any{"purpose": "wechat_backup", "policy_revision": "1", "grant_url": "/v1/consents/wechat_backup", "page": "/#/consents"}
	for k, v := range want {
		if e.Members[k] != v {
			t.Errorf("member %s is %v, want %v", k, e.Members[k], v)
		}
	}
	if !strings.Contains(e.Detail, "WeChat backup") || e.Hint == "" || e.Title == "" {
		t.Errorf("%+v", e)
	}
	if e := h.refused(ann, 0, Storage); !strings.Contains(e.Detail, "privacy policy") || e.Members["page"] != "/#/consents" {
		t.Errorf("%+v", e)
	}
}

func TestZeroGrantIsRefused(t *testing.T) { // R20
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	for name, g := range map[string]Grant{"zero": {}, "self-made": {user: ann, purpose: AlbumBackup}} {
		if err := h.check(g, AlbumBackup); !errors.Is(err, errZeroGrant) {
			t.Errorf("%s: Check: %v", name, err)
		}
		ctx, cancel := g.Context(t.Context())
		if context.Cause(ctx) == nil {
			t.Errorf("%s: its context lives", name)
		}
		cancel()
	}
}

func TestSenselessDecisionsAreRefused(t *testing.T) { // R20, R21, R23, R24
	h := build(t)
	ok := Decision{User: ann, Purpose: AlbumBackup, Granted: true, PolicyRevision: "1", Actor: ann, How: "page"}
	for name, c := range map[string]struct {
		change func(*Decision)
		want   problem.Kind
	}{
		"unknown purpose":         {func(d *Decision) { d.Purpose = "mind_reading" }, problem.NotFound},
		"unknown, withdrawn":      {func(d *Decision) { d.Purpose, d.Granted = "mind_reading", false }, problem.NotFound},
		"no purpose":              {func(d *Decision) { d.Purpose = "" }, problem.NotFound},
		"no revision":             {func(d *Decision) { d.PolicyRevision = "" }, problem.Conflict},
		"old revision":            {func(d *Decision) { d.PolicyRevision = "0" }, problem.Conflict},
		"future revision":         {func(d *Decision) { d.PolicyRevision = "2" }, problem.Conflict},
		"nothing behind it":       {func(d *Decision) { d.Purpose = FaceRecognition }, problem.Unsupported},
		"for somebody else":       {func(d *Decision) { d.Actor = bob }, problem.Forbidden},
		"root for a person":       {func(d *Decision) { d.Actor = 0 }, problem.Forbidden},
		"for nobody":              {func(d *Decision) { d.User, d.Actor = 0, 0 }, problem.Forbidden},
		"device where none fits":  {func(d *Decision) { d.Purpose, d.Device = Storage, phone }, problem.Invalid},
		"no way":                  {func(d *Decision) { d.How = "" }, problem.Internal},
		"a secret as the way":     {func(d *Decision) { d.How = "Bearer x" }, problem.Internal},
		"a long story as the way": {func(d *Decision) { d.How = strings.Repeat("a", 65) }, problem.Internal},
	} {
		d := ok
		c.change(&d)
		_, err := h.Record(t.Context(), d)
		if problem.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if c.want == problem.Conflict && problem.As(err).Members["policy_revision"] != "1" {
			t.Errorf("%s: does not say which revision is current: %v", name, problem.As(err).Members)
		}
	}
	if r := h.verify(); r.Entries != 0 {
		t.Fatalf("%d decisions were recorded all the same", r.Entries)
	}
	h.refused(ann, 0, AlbumBackup)
	if _, err := h.Grant(t.Context(), ann, 0, FaceRecognition); problem.KindOf(err) != problem.Unsupported {
		t.Fatalf("a purpose that nothing serves: %v", err)
	}
	if _, err := h.Grant(t.Context(), ann, 0, "mind_reading"); problem.KindOf(err) != problem.NotFound {
		t.Fatal(err)
	}
}

// Withdrawal is as easy as giving: it needs no revision, and also works for what
// was never granted or is not served.
func TestWithdrawingNeedsNothing(t *testing.T) { // R22
	h := build(t)
	for _, p := range order() {
		if _, err := h.Record(t.Context(), Decision{User: ann, Purpose: p, Actor: ann, How: "page"}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		if s := h.state(ann, 0, p); s != Withdrawn {
			t.Errorf("%s is %s", p, s)
		}
	}
}

func TestWithdrawalStopsWhatRuns(t *testing.T) { // R22
	h := build(t)
	h.decide(ann, 0, WeChatBackup, true)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(bob, 0, WeChatBackup, true)
	g, other, bobs := h.grant(ann, phone, WeChatBackup), h.grant(ann, phone, AlbumBackup), h.grant(bob, phone, WeChatBackup)
	ctx, cancel := g.Context(t.Context())
	defer cancel()
	otherCtx, cancel := other.Context(t.Context())
	defer cancel()
	bobsCtx, cancel := bobs.Context(t.Context())
	defer cancel()

	granted, _, err := h.Receipts(t.Context(), ann, WeChatBackup, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	r := h.decide(ann, 0, WeChatBackup, false)
	// Not "soon": when Record has returned, it is over.
	var p *problem.Error
	if cause := context.Cause(ctx); !errors.As(cause, &p) || p.Kind != problem.ConsentRequired || p.Members["purpose"] != "wechat_backup" {
		t.Fatalf("the running work ended with %v", context.Cause(ctx))
	}
	if err := h.check(g, WeChatBackup); problem.KindOf(err) != problem.ConsentRequired {
		t.Fatalf("Check after the withdrawal: %v", err)
	}
	h.refused(ann, phone, WeChatBackup)
	if r.Event.State != Withdrawn || r.Withdrawal.Withdraws != granted[0].Record {
		t.Fatalf("receipt of the withdrawal: %+v", r)
	}
	if otherCtx.Err() != nil || bobsCtx.Err() != nil || h.check(other, AlbumBackup) != nil || h.check(bobs, WeChatBackup) != nil {
		t.Fatal("the withdrawal ended what was not withdrawn")
	}
	late, cancel := g.Context(t.Context())
	defer cancel()
	if !errors.As(context.Cause(late), &p) {
		t.Fatal("a dead Grant gave a living context")
	}

	// Consenting again does not wake the dead.
	h.decide(ann, 0, WeChatBackup, true)
	if err := h.check(g, WeChatBackup); problem.KindOf(err) != problem.ConsentRequired {
		t.Fatalf("the old Grant: %v", err)
	}
	if err := h.check(h.grant(ann, phone, WeChatBackup), WeChatBackup); err != nil {
		t.Fatalf("the new Grant: %v", err)
	}
}

func TestContextEndsWithItsParentAndItsCancel(t *testing.T) {
	h := build(t)
	h.decide(ann, 0, Storage, true)
	g := h.grant(ann, 0, Storage)
	parent, stop := context.WithCancelCause(t.Context())
	a, cancelA := g.Context(parent)
	b, cancelB := g.Context(parent)
	cancelA()
	if a.Err() == nil || b.Err() != nil {
		t.Fatal("cancel ended too little or too much")
	}
	boom := errors.New("boom")
	stop(boom)
	if context.Cause(b) != boom {
		t.Fatal(context.Cause(b))
	}
	cancelB()
	cancelB()
	if n := len(g.lease.live); n != 0 {
		t.Fatalf("%d contexts are still held", n)
	}
}

func TestLatestDecisionThatAppliesCounts(t *testing.T) { // R20, R22
	h := build(t)
	type step struct {
		dev           ident.DeviceID
		yes           bool
		all, ph, tabl bool // who may afterwards
	}
	for i, s := range []step{
		{phone, true, false, true, false},
		{tablet, false, false, true, false},
		{0, true, true, true, true},
		{phone, false, true, false, true},
		{0, true, true, true, true}, // all devices again: not the same as nothing
		{tablet, false, true, true, false},
		{0, false, false, false, false},
		{tablet, true, false, false, true},
		{0, false, false, false, false},
	} {
		h.now.Add(1000)
		h.decide(ann, s.dev, AlbumBackup, s.yes)
		for dev, want := range map[ident.DeviceID]bool{0: s.all, phone: s.ph, tablet: s.tabl} {
			g, err := h.Grant(t.Context(), ann, dev, AlbumBackup)
			if (err == nil) != want {
				t.Fatalf("step %d, device %d: %v", i, dev, err)
			}
			if want {
				if err := h.check(g, AlbumBackup); err != nil {
					t.Fatalf("step %d, device %d: %v", i, dev, err)
				}
			}
			if s := h.state(ann, dev, AlbumBackup); s != "" && (s == Granted) != want {
				t.Fatalf("step %d, device %d: state %s", i, dev, s)
			}
		}
	}
	if r := h.verify(); r.Entries != 9 || r.Bad != nil {
		t.Fatalf("%+v", r)
	}
	h.restart(builtin()) // what was derived is derived again
	h.refused(ann, tablet, AlbumBackup)
}

func TestRepeatingADecisionIsHarmless(t *testing.T) { // R20
	h := build(t)
	first := h.decide(ann, 0, AlbumBackup, true)
	h.now.Add(5000)
	if again := h.decide(ann, 0, AlbumBackup, true); again.JWS != first.JWS {
		t.Fatal("the same yes gave another receipt")
	}
	own := h.decide(ann, phone, AlbumBackup, true) // asked for the phone: gets a receipt for the phone
	if own.Device != phone {
		t.Fatalf("%+v", own)
	}
	no := h.decide(ann, 0, AlbumBackup, false)
	if again := h.decide(ann, 0, AlbumBackup, false); again.JWS != no.JWS {
		t.Fatal("the same no gave another receipt")
	}
	if r := h.verify(); r.Entries != 3 {
		t.Fatalf("%d entries", r.Entries)
	}
	list, _, err := h.Receipts(t.Context(), ann, "", 0, 1000)
	if err != nil || len(list) != 3 || list[0].JWS != no.JWS || list[2].JWS != first.JWS {
		t.Fatalf("%d receipts, %v", len(list), err)
	}
	page, next, err := h.Receipts(t.Context(), ann, "", 0, 2)
	if err != nil || len(page) != 2 || page[1].JWS != list[1].JWS || next == 0 {
		t.Fatalf("a page has %d receipts, %v", len(page), err)
	}
	if page, next, err = h.Receipts(t.Context(), ann, "", next, 2); err != nil || len(page) != 1 || page[0].JWS != first.JWS || next != 0 {
		t.Fatalf("the page after it has %d receipts and a next one at %d, %v", len(page), next, err)
	}
	if list, _, err := h.Receipts(t.Context(), bob, "", 0, 1000); err != nil || len(list) != 0 {
		t.Fatalf("bob has %d of ann's receipts, %v", len(list), err)
	}
	if list, _, err := h.Receipts(t.Context(), ann, QQBackup, 0, 1000); err != nil || len(list) != 0 {
		t.Fatalf("%d receipts about QQ, %v", len(list), err)
	}
	if _, _, err := h.Receipts(t.Context(), ann, "mind_reading", 0, 1000); problem.KindOf(err) != problem.NotFound {
		t.Fatal(err)
	}
}

// A yes that was held up, or is sent again, does not undo a no that came in between.
func TestALateDecisionIsRefused(t *testing.T) { // R20 R22
	h := build(t)
	yes := func(after string) (Receipt, error) {
		return h.Record(t.Context(), Decision{
			User: ann, Actor: ann, Purpose: AlbumBackup, Granted: true, PolicyRevision: h.cat.current().Revision, How: "test", After: &after,
		})
	}
	late := func(what, after string) {
		t.Helper()
		if _, err := yes(after); problem.KindOf(err) != problem.Conflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	late("after what never was", strings.Repeat("0", 64))
	first, err := yes("")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := yes(""); err != nil || again.JWS != first.JWS {
		t.Errorf("what is in force, sent again: %v", err)
	}
	no := h.decide(ann, 0, AlbumBackup, false)
	late("the first one, sent again", "")
	late("one that was made before the no", first.Record)
	h.decide(ann, phone, AlbumBackup, true)
	late("one that was made before another for the phone", no.Record)
	newest, _, err := h.Receipts(t.Context(), ann, AlbumBackup, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if seen := h.newest(ann, AlbumBackup); seen != newest[0].Record {
		t.Errorf("%s is the newest receipt, and %s is shown as that", newest[0].Record, seen)
	}
	again, err := yes(newest[0].Record)
	if err != nil {
		t.Fatal(err)
	}
	// Declining the policy is a no to everything, for good; accepting it anew is a yes to storage alone.
	accept := func(after string) (Receipt, error) {
		return h.Record(t.Context(), Decision{User: ann, Actor: ann, Purpose: Storage, Granted: true, PolicyRevision: h.cat.current().Revision, How: "test", After: &after})
	}
	h.decide(ann, 0, WholePolicy, false)
	if _, err := accept(""); problem.KindOf(err) != problem.Conflict {
		t.Errorf("an acceptance from before the policy was declined: %v", err)
	}
	if _, err := accept(h.newest(ann, Storage)); err != nil {
		t.Fatal(err)
	}
	late("one from before the policy was declined", again.Record)
	if _, err := yes(h.newest(ann, AlbumBackup)); err != nil {
		t.Error(err)
	}
	if r := h.verify(); r.Entries != 7 {
		t.Errorf("%d entries", r.Entries)
	}
}

func TestDecisionsSurviveARestart(t *testing.T) { // R20, R22
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(ann, phone, WeChatBackup, true)
	h.decide(ann, phone, WeChatBackup, false)
	h.restart(builtin())
	if err := h.check(h.grant(ann, tablet, AlbumBackup), AlbumBackup); err != nil {
		t.Fatal(err)
	}
	h.refused(ann, phone, WeChatBackup)
	h.decide(ann, 0, QQBackup, true)
	if r := h.verify(); r.Bad != nil || r.Entries != 4 {
		t.Fatalf("%+v", r)
	}
}

func TestWiderPurposeIsSuspended(t *testing.T) { // R21
	h := build(t)
	h.decide(ann, 0, Storage, true)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(ann, 0, WeChatBackup, true)
	h.restart(catalogueWith(map[Purpose]int{AlbumBackup: 2}))
	if e := h.refused(ann, 0, AlbumBackup); !strings.Contains(e.Detail, "changed") {
		t.Fatal(e)
	}
	if s := h.state(ann, 0, AlbumBackup); s != Suspended {
		t.Fatalf("state %s", s)
	}
	h.grant(ann, 0, WeChatBackup) // the others go on
	before := h.verify().Entries
	if r := h.decide(ann, 0, AlbumBackup, true); r.Purpose.Version != 2 {
		t.Fatalf("consented to version %d", r.Purpose.Version)
	}
	if after := h.verify().Entries; after != before+1 {
		t.Fatal("consenting to the wider purpose was taken for a repetition")
	}
	if err := h.check(h.grant(ann, 0, AlbumBackup), AlbumBackup); err != nil {
		t.Fatal(err)
	}
}

// A Grant that an older program would have handed out fails in the database.
func TestCheckKnowsSuspension(t *testing.T) { // R21, R23
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	g := h.grant(ann, 0, AlbumBackup)
	for name, cat := range map[string]*Catalogue{
		"wider":        catalogueWith(map[Purpose]int{AlbumBackup: 2}),
		"new revision": catalogueWith(nil, "2"),
	} {
		h.cat = cat
		if err := h.check(g, AlbumBackup); problem.KindOf(err) != problem.ConsentRequired {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.cat = builtin()
	if err := h.check(g, AlbumBackup); err != nil {
		t.Fatal(err)
	}
}

func TestNewRevisionSuspendsUntilAccepted(t *testing.T) { // R23
	h := build(t)
	h.decide(ann, 0, Storage, true)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(bob, 0, AlbumBackup, true)
	h.restart(catalogueWith(nil, "2"))
	for _, p := range []Purpose{Storage, AlbumBackup} {
		if e := h.refused(ann, 0, p); e.Members["policy_revision"] != "2" {
			t.Fatalf("%v", e.Members)
		}
		if s := h.state(ann, 0, p); s != Suspended {
			t.Fatalf("%s is %s", p, s)
		}
	}
	// Accepting the revision brings back what did not become wider.
	h.decide(ann, 0, Storage, true)
	g := h.grant(ann, phone, AlbumBackup)
	if err := h.check(g, AlbumBackup); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := g.Context(t.Context())
	defer cancel()
	// Who takes the acceptance back loses what rested on it, at once.
	h.decide(ann, 0, Storage, false)
	if ctx.Err() == nil {
		t.Fatal("work that rested on the accepted policy goes on")
	}
	if err := h.check(g, AlbumBackup); problem.KindOf(err) != problem.ConsentRequired {
		t.Fatal(err)
	}
	// A purpose that is consented to under the current revision needs no more.
	h.decide(bob, 0, AlbumBackup, true)
	if err := h.check(h.grant(bob, 0, AlbumBackup), AlbumBackup); err != nil {
		t.Fatal(err)
	}
	h.refused(bob, 0, Storage)
}

func TestPurposesAreIndependentOfStorage(t *testing.T) { // R20, R22
	h := build(t)
	h.decide(ann, 0, AlbumBackup, true)
	h.decide(ann, 0, Storage, true)
	g := h.grant(ann, 0, AlbumBackup)
	h.decide(ann, 0, Storage, false)
	if err := h.check(g, AlbumBackup); err != nil {
		t.Fatal(err)
	}
	h.refused(ann, 0, Storage)
}

func TestPurposeThatIsNoLongerServedIsSuspended(t *testing.T) { // R21
	h := build(t)
	h.decide(ann, 0, QQBackup, true)
	cat := catalogueWith(nil)
	cat.purposes[cat.index[QQBackup]].Available = false
	h.restart(cat)
	if s := h.state(ann, 0, QQBackup); s != Suspended {
		t.Fatalf("state %s", s)
	}
	if _, err := h.Grant(t.Context(), ann, 0, QQBackup); problem.KindOf(err) != problem.Unsupported {
		t.Fatal(err)
	}
}

// Nothing of a decision exists if its transaction is undone.
func TestFailedDecisionLeavesNothing(t *testing.T) { // R20
	h := build(t)
	h.sign = &signer{key: misnamed{brokenKey{}, h.sign.pub}, pub: h.sign.pub, kid: h.sign.kid, box: h.sign.box}
	_, err := h.Record(t.Context(), Decision{User: ann, Purpose: AlbumBackup, Granted: true, PolicyRevision: "1", Actor: ann, How: "page"})
	if !errors.Is(err, errBrokenKey) {
		t.Fatal(err)
	}
	h.refused(ann, 0, AlbumBackup)
	if r := h.verify(); r.Entries != 0 || r.Bad != nil {
		t.Fatalf("%+v", r)
	}
	if r, err := h.log.Verify(t.Context()); err != nil || r.Entries != 0 {
		t.Fatalf("%+v %v", r, err)
	}
}

var errBrokenKey = errors.New("no key today")

type brokenKey struct{}

func (brokenKey) Public() crypto.PublicKey { return nil }
func (brokenKey) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, errBrokenKey
}

func TestOnlyP256Signs(t *testing.T) {
	h := build(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{nil, p384, brokenKey{}} {
		if _, err := Open(t.Context(), h.db, h.log, key); !errors.Is(err, signed.ErrKey) {
			t.Errorf("%T: %v", key, err)
		}
	}
}

func BenchmarkGrantAndCheck(b *testing.B) {
	h := build(b)
	h.decide(ann, 0, AlbumBackup, true)
	g := h.grant(ann, phone, AlbumBackup)
	b.Run("grant", func(b *testing.B) {
		for b.Loop() {
			h.grant(ann, phone, AlbumBackup)
		}
	})
	b.Run("check", func(b *testing.B) {
		err := h.db.Write(b.Context(), func(tx *db.Tx) error {
			for b.Loop() {
				if err := g.Check(tx, AlbumBackup); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
	b.Run("record", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			h.decide(ann, 0, QQBackup, i%2 == 0)
		}
	})
}
