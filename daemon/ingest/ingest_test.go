package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

func TestOneUpload(t *testing.T) { // R01 R05
	b := start(t, settings{})
	before := time.Now().Add(-time.Millisecond)
	r := b.mustPut(ann, "DCIM/2026/IMG_1.jpg", "photo")
	if r.Stored != ingest.StoredNew || r.Outcome != catalog.Created || r.Item.Ref != sha256.Sum256([]byte("photo")) ||
		r.Item.Size != 5 || r.Item.Device != phone || r.Item.Source != "album" || r.Item.MTime.Before(before) {
		t.Errorf("%+v", r)
	}
	if got, err := b.content(ann, "DCIM/2026/IMG_1.jpg"); err != nil || got != "photo" {
		t.Errorf("%q, %v", got, err)
	}
	// The same again, the same elsewhere, another content under the same name.
	if r := b.mustPut(ann, "DCIM/2026/IMG_1.jpg", "photo"); r.Stored != ingest.StoredKnown || r.Outcome != catalog.Unchanged {
		t.Errorf("%+v", r)
	}
	if r := b.mustPut(ann, "copy.jpg", "photo"); r.Stored != ingest.StoredKnown || r.Outcome != catalog.Created {
		t.Errorf("%+v", r)
	}
	if r := b.mustPut(ann, "copy.jpg", "edited"); r.Stored != ingest.StoredNew || r.Outcome != catalog.Replaced {
		t.Errorf("%+v", r)
	}
	if r := b.mustPut(ann, "empty", ""); r.Item.Size != 0 {
		t.Errorf("%+v", r)
	}
	if n, staged := b.blobs(); n != 3 || staged != 0 {
		t.Errorf("%d blobs, %d staged", n, staged)
	}
	list, _, err := b.cat.Ledger(context.Background(), ann, phone, "", "", 0)
	must(t, err)
	var outcomes []string
	for _, o := range list {
		outcomes = append(outcomes, o.Outcome)
	}
	if got := strings.Join(outcomes, " "); got != "stored stored known known stored" {
		t.Errorf("ledger: %s", got)
	}
}

func TestWhatIsRefusedBeforeTheFirstByte(t *testing.T) { // R05 R06 R20
	b := start(t, settings{})
	g := b.grant(ann, consent.AlbumBackup)
	refuse := func(m ingest.Meta, kind problem.Kind) {
		t.Helper()
		_, err := b.send(g, m, unread{t})
		want(t, err, kind)
	}
	refuse(album("../etc/passwd", 1), problem.Invalid)
	refuse(album("a\x00b", 1), problem.Invalid)
	refuse(album(strings.Repeat("n", 4096), 1), problem.Invalid)
	refuse(album("\xff\xfe", 1), problem.Invalid)
	refuse(album("", 1), problem.Invalid)
	refuse(album("a", -2), problem.Invalid)
	refuse(album("a", 9e15), problem.TooLarge)
	refuse(ingest.Meta{Source: "nowhere", Path: "a", Size: 1}, problem.Invalid)
	refuse(ingest.Meta{Source: "album", Path: "a", Size: 1, Extra: strings.Repeat("x", ingest.MaxExtra+1)}, problem.TooLarge)
	// A grant to one thing is none to another, nor for another device: the
	// gateway has to ask for the right one.
	refuse(ingest.Meta{Source: "wechat", Path: "a", Size: 1}, problem.Internal)
	refuse(ingest.Meta{Source: "album", Path: "a", Size: 1, Device: phone + 1}, problem.Internal)
	if _, err := b.in.Begin(context.Background(), consent.Grant{}, album("a", 1)); err == nil {
		t.Error("the zero Grant was taken")
	}
	if _, err := b.ledger.Grant(context.Background(), ann, phone, consent.WeChatBackup); problem.KindOf(err) != problem.ConsentRequired {
		t.Errorf("wechat without consent: %v", err)
	}
	b.decide(ann, consent.AlbumBackup, false)
	refuse(album("a", 1), problem.ConsentRequired)
	if n, staged := b.blobs(); n+staged+b.in.Active() != 0 || b.usage(ann).Items != 0 {
		t.Errorf("something was left: %d blobs, %d staged", n, staged)
	}
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestNamesAreKeptInNFC(t *testing.T) {
	b := start(t, settings{})
	b.mustPut(ann, "e\u0301te\u0301/a.jpg", "x")
	if _, err := b.cat.Lookup(t.Context(), ann, "\u00e9t\u00e9/a.jpg"); err != nil {
		t.Error(err)
	}
}

func TestWrongBytesLeaveNothing(t *testing.T) {
	b := start(t, settings{})
	g := b.grant(ann, consent.AlbumBackup)
	m := album("a", 5)
	m.Want = sha256.Sum256([]byte("other"))
	_, err := b.send(g, m, strings.NewReader("bytes"))
	want(t, err, problem.Mismatch)
	m.Want, m.WantSHA1 = storage.Ref{}, sha1.Sum([]byte("other"))
	_, err = b.send(g, m, strings.NewReader("bytes"))
	want(t, err, problem.Mismatch)
	_, err = b.send(g, album("a", 5), strings.NewReader("four"))
	want(t, err, problem.Invalid)
	_, err = b.send(g, album("a", 5), strings.NewReader("sixsix"))
	want(t, err, problem.TooLarge)
	_, err = b.send(g, album("a", 5), io.MultiReader(strings.NewReader("fo"), broken{}))
	want(t, err, problem.Canceled)
	if n, staged := b.blobs(); n+staged+b.in.Active() != 0 || b.usage(ann).Items != 0 {
		t.Errorf("something was left: %d blobs, %d staged, %d held", n, staged, b.in.Active())
	}
	m = album("a", 5)
	m.Want, m.WantSHA1 = sha256.Sum256([]byte("right")), sha1.Sum([]byte("right"))
	if _, err := b.send(g, m, strings.NewReader("right")); err != nil {
		t.Error(err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestTwoPeopleShareABlobAndDoNotKnow(t *testing.T) { // R13 R34
	b := start(t, settings{})
	content := bytes.Repeat([]byte("same"), 10_000)
	const each = 8
	results := make([]ingest.Result, 2*each)
	var both sync.WaitGroup
	for i := range results {
		both.Go(func() {
			var err error
			results[i], err = b.put([]ident.UserID{ann, bob}[i%2], fmt.Sprintf("f/%d", i), content)
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	news := map[ident.UserID]int{}
	for _, r := range results {
		if r.Stored == ingest.StoredNew {
			news[r.Item.User]++
		}
	}
	if news[ann] != 1 || news[bob] != 1 {
		t.Errorf("new for ann %d times, for bob %d times", news[ann], news[bob])
	}
	if n, _ := b.blobs(); n != 1 {
		t.Errorf("%d blobs", n)
	}
}

func TestKnownSendsNoBytes(t *testing.T) { // R13
	b := start(t, settings{})
	ctx := context.Background()
	b.mustPut(ann, "a", "content")
	g := b.grant(ann, consent.AlbumBackup)
	m := album("b", 7)
	m.Want = sha256.Sum256([]byte("content"))
	r, known, err := b.in.Known(ctx, g, m)
	if err != nil || !known || r.Stored != ingest.StoredKnown || r.Outcome != catalog.Created || r.Item.Size != 7 {
		t.Errorf("%+v, %v, %v", r, known, err)
	}
	if got, err := b.content(ann, "b"); err != nil || got != "content" {
		t.Errorf("%q, %v", got, err)
	}
	ask := func(g consent.Grant, m ingest.Meta) bool {
		t.Helper()
		_, known, err := b.in.Known(ctx, g, m)
		must(t, err)
		return known
	}
	if ask(b.grant(bob, consent.AlbumBackup), m) {
		t.Error("bob named ann's content")
	}
	if m.Want[0]++; ask(g, m) {
		t.Error("a content that nobody has is known")
	}
	if m.Want = (storage.Ref{}); ask(g, m) {
		t.Error("no content is known")
	}
	// The file is missing on the disk: nobody is told that it is known, and what
	// is sent again heals it.
	ref := storage.Ref(sha256.Sum256([]byte("content")))
	if _, err := b.store.Sweep(ctx, 0, func(storage.Ref) (bool, error) { return false, nil }); err != nil {
		t.Fatal(err)
	}
	if m.Want = ref; ask(g, m) {
		t.Error("a missing blob is known")
	}
	if known, err := b.cat.Known(ctx, ann, []storage.Ref{ref}); err != nil || len(known) != 0 {
		t.Errorf("%v, %v", known, err)
	}
	b.mustPut(ann, "a", "content")
	if !ask(g, m) {
		t.Error("sent again and still in doubt")
	}
}

func TestQuotaAndRoom(t *testing.T) { // R30
	b := start(t, settings{})
	ctx := context.Background()
	must(t, b.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE user SET quota_bytes = 10 WHERE id = 1`)
		return err
	}))
	g := b.grant(ann, consent.AlbumBackup)
	b.mustPut(ann, "a", "123456")
	_, err := b.send(g, album("b", 5), unread{t})
	want(t, err, problem.Quota)
	m := album("b", -1) // unknown: stopped where the quota ends
	_, err = b.send(g, m, strings.NewReader("12345"))
	want(t, err, problem.Quota)
	_, err = b.send(g, m, strings.NewReader("1234"))
	must(t, err)
	// Two at once that fit alone but not together: one gets in.
	must(t, b.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE user SET quota_bytes = 15 WHERE id = 1`)
		return err
	}))
	i1, err := b.in.Begin(ctx, g, album("c", 3))
	must(t, err)
	defer i1.Close()
	i2, err := b.in.Begin(ctx, g, album("d", 3))
	must(t, err)
	defer i2.Close()
	for _, i := range []*ingest.Intake{i1, i2} {
		_, err := i.Write(ctx, 0, strings.NewReader("abc"))
		must(t, err)
	}
	_, err = i1.Finish(ctx)
	must(t, err)
	_, err = i2.Finish(ctx)
	want(t, err, problem.Quota)
	if u := b.usage(ann); u.Bytes != 13 {
		t.Errorf("%+v", u)
	}
	list, _, err := b.cat.Ledger(ctx, ann, phone, "", "", 0)
	must(t, err)
	if len(list) == 0 || list[0].Outcome != catalog.OfferDeclined || list[0].Reason == "" {
		t.Errorf("ledger: %+v", list)
	}
}

// What lies on the disk of unfinished uploads is bounded by a person's share, too:
// else many of them would fill the disk past any quota.
func TestUnfinishedUploadsAreBounded(t *testing.T) { // R30
	b := start(t, settings{})
	ctx := context.Background()
	must(t, b.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE user SET quota_bytes = 10 WHERE id = 1`)
		return err
	}))
	g := b.grant(ann, consent.AlbumBackup)
	var first string
	for k := range 2 { // 4 + 4 bytes of 10
		i, err := b.in.Begin(ctx, g, album("a", 4))
		must(t, err)
		must(t, i.Persist(ctx))
		_, err = i.Write(ctx, 0, strings.NewReader("1234"))
		must(t, err)
		if k == 0 {
			first = i.ID()
		}
		must(t, i.Close())
	}
	_, err := b.in.Begin(ctx, g, album("b", 4))
	want(t, err, problem.Quota)
	b.mustPut(ann, "c", "12")
	again, err := b.in.Resume(ctx, g, first) // what was admitted goes on
	must(t, err)
	_, err = again.Finish(ctx)
	must(t, err)
	must(t, again.Close())
	if u := b.usage(ann); u.Bytes != 6 {
		t.Errorf("%+v", u)
	}
	b.mustPut(ann, "d", "1234") // and a finished one makes room among the unfinished
}

func TestWithdrawalStopsABodyInTheMiddle(t *testing.T) { // R22
	b := start(t, settings{})
	ctx := context.Background()
	for _, persist := range []bool{false, true} {
		i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), album("a", 1<<20))
		must(t, err)
		if persist {
			must(t, i.Persist(ctx))
		}
		body := newStuck("half of it")
		verdict := make(chan error, 1)
		go func() {
			_, err := i.Write(ctx, 0, body)
			verdict <- err
		}()
		<-body.waiting // the reader is blocked in Read
		b.decide(ann, consent.AlbumBackup, false)
		want(t, <-verdict, problem.ConsentRequired)
		if cause := context.Cause(i.Context()); problem.KindOf(cause) != problem.ConsentRequired {
			t.Errorf("the context ended with %v", cause)
		}
		_, err = i.Finish(ctx)
		want(t, err, problem.ConsentRequired)
		id := i.ID()
		must(t, i.Close())
		if _, err := b.in.Describe(ctx, ann, id); problem.KindOf(err) != problem.NotFound {
			t.Errorf("what came without consent was kept: %v", err)
		}
		if n, staged := b.blobs(); n+staged+b.in.Active() != 0 {
			t.Errorf("%d blobs, %d staged", n, staged)
		}
		b.decide(ann, consent.AlbumBackup, true)
	}
}

// stuck is a body that blocks after its first bytes until it is interrupted.
type stuck struct {
	r           io.Reader
	waiting     chan struct{}
	interrupted chan struct{}
	once        sync.Once
}

func newStuck(first string) *stuck {
	return &stuck{r: strings.NewReader(first), waiting: make(chan struct{}), interrupted: make(chan struct{})}
}

func (s *stuck) Read(p []byte) (int, error) {
	if n, err := s.r.Read(p); err == nil {
		return n, nil
	}
	s.once.Do(func() { close(s.waiting) })
	<-s.interrupted
	return 0, errors.New("interrupted")
}

func (s *stuck) Interrupt() { close(s.interrupted) }

func TestWithdrawalBetweenTheBytesAndTheRow(t *testing.T) { // R22
	b := start(t, settings{})
	ctx := context.Background()
	i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), album("a", 3))
	must(t, err)
	defer i.Close()
	_, err = i.Write(ctx, 0, strings.NewReader("abc"))
	must(t, err)
	b.decide(ann, consent.AlbumBackup, false)
	b.decide(ann, consent.AlbumBackup, true) // a new consent does not revive the old grant
	_, err = i.Finish(ctx)
	want(t, err, problem.ConsentRequired)
	if b.usage(ann).Items != 0 {
		t.Error("it was stored")
	}
}

func TestADeadRequestDoesNotLoseItsBytes(t *testing.T) {
	b := start(t, settings{})
	request, hangUp := context.WithCancel(context.Background())
	i, err := b.in.Begin(request, b.grant(ann, consent.AlbumBackup), album("a", 3))
	must(t, err)
	must(t, i.Persist(request))
	hangUp()
	if n, err := i.Write(request, 0, strings.NewReader("abc")); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	must(t, i.Close())
	if info, err := b.in.Describe(context.Background(), ann, i.ID()); err != nil || info.Offset != 3 {
		t.Errorf("%+v, %v", info, err)
	}
	i, err = b.in.Resume(context.Background(), b.grant(ann, consent.AlbumBackup), i.ID())
	must(t, err)
	defer i.Close()
	if _, err := i.Finish(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestConditionsAreCheckedWhenTheRowIsWritten(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	m := album("a", 3)
	m.IfAbsent = true
	i, err := b.in.Begin(ctx, g, m)
	must(t, err)
	defer i.Close()
	_, err = i.Write(ctx, 0, strings.NewReader("abc"))
	must(t, err)
	b.mustPut(ann, "a", "first") // somebody was quicker
	_, err = i.Finish(ctx)
	want(t, err, problem.PreconditionFailed)
	if got, err := b.content(ann, "a"); err != nil || got != "first" {
		t.Errorf("%q, %v", got, err)
	}
	m.IfAbsent, m.IfRef = false, sha256.Sum256([]byte("first"))
	_, err = b.send(g, m, strings.NewReader("abc"))
	must(t, err)
	_, err = b.send(g, m, strings.NewReader("abd"))
	want(t, err, problem.PreconditionFailed)
}

func TestAfterCloseNothingComesIn(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	i, err := b.in.Begin(ctx, g, album("slow", 100))
	must(t, err)
	must(t, i.Persist(ctx))
	body := newStuck("some")
	verdict := make(chan error, 1)
	go func() {
		_, err := i.Write(ctx, 0, body)
		verdict <- errors.Join(err, i.Close())
	}()
	<-body.waiting
	must(t, b.in.Close(ctx))
	want(t, <-verdict, problem.Unavailable)
	_, err = b.in.Begin(ctx, g, album("late", 1))
	want(t, err, problem.Unavailable)
	_, err = b.in.Resume(ctx, g, i.ID())
	want(t, err, problem.Unavailable)
	must(t, b.in.Close(ctx)) // again is harmless
}

// What is refused at its row must not stay on the disk for a day, or a person
// fills it with what their share has no room for.
func TestARefusedRowLeavesNoBlob(t *testing.T) { // R22 R30
	b := start(t, settings{})
	b.mustPut(ann, "kept", "kept")
	b.mustPut(ann, "folder/x", "x")
	g := b.grant(ann, consent.AlbumBackup)
	_, err := b.send(g, album("folder", 8), strings.NewReader("in vain!"))
	want(t, err, problem.Conflict)
	taken := album("kept", 8)
	taken.IfAbsent = true
	_, err = b.send(g, taken, strings.NewReader("too late"))
	want(t, err, problem.PreconditionFailed)
	taken.Size = 4 // the content of somebody's name is not taken away with a refusal
	_, err = b.send(g, taken, strings.NewReader("kept"))
	want(t, err, problem.PreconditionFailed)
	if blobs, staged := b.blobs(); blobs != 2 || staged != 0 {
		t.Errorf("%d blobs and %d staged uploads where 2 and 0 belong", blobs, staged)
	}
}
