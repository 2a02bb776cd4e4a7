package ingest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage/vfs/vfstest"
)

func TestResumeAfterABrokenBodyAndARestart(t *testing.T) { // R05
	dir := t.TempDir()
	disk := realDisk(t)
	b := start(t, settings{dir: dir, disk: disk})
	ctx := context.Background()
	m := album("a", 10)
	m.Want = sha256.Sum256([]byte("0123456789"))
	m.MTime = time.UnixMilli(1_600_000_000_500).UTC()
	m.Extra = "the gateway's own"
	i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), m)
	must(t, err)
	must(t, i.Persist(ctx))
	id := i.ID()
	if n, err := i.Write(ctx, 0, &cutAfter{"01234"}); n != 5 || problem.KindOf(err) != problem.Canceled {
		t.Errorf("%d, %v", n, err)
	}
	must(t, i.Close())
	b.stop()

	b = start(t, settings{dir: dir, disk: disk})
	info, err := b.in.Describe(ctx, ann, id)
	must(t, err)
	m.Device, m.SourceBy = phone, source.Declared
	if info.Offset != 5 || !reflect.DeepEqual(info.Meta, m) || info.Finished != nil || time.Until(info.Expires) < 6*24*time.Hour {
		t.Errorf("%+v", info)
	}
	i, err = b.in.Resume(ctx, b.grant(ann, consent.AlbumBackup), id)
	must(t, err)
	defer i.Close()
	_, err = i.Write(ctx, 3, strings.NewReader("3456789"))
	want(t, err, problem.Conflict)
	if n, err := i.Write(ctx, 5, strings.NewReader("56789")); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	r, err := i.Finish(ctx)
	must(t, err)
	must(t, i.Close())
	// The answer got lost: it can be had again, also after another restart.
	b.stop()
	b = start(t, settings{dir: dir, disk: disk})
	info, err = b.in.Describe(ctx, ann, id)
	must(t, err)
	if info.Finished == nil || info.Offset != 10 || info.Finished.Item.ID != r.Item.ID || info.Finished.Item.Ref != r.Item.Ref ||
		info.Finished.Item.Path != "a" || info.Finished.Stored != ingest.StoredNew || info.Finished.Outcome != r.Outcome {
		t.Errorf("%+v, finished %+v", info, info.Finished)
	}
	_, err = b.in.Resume(ctx, b.grant(ann, consent.AlbumBackup), id)
	want(t, err, problem.Conflict)
	if got, err := b.content(ann, "a"); err != nil || got != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, b.in.Cancel(ctx, ann, id)) // forgets the upload, not the file
	_, err = b.in.Describe(ctx, ann, id)
	want(t, err, problem.NotFound)
	if _, err := b.content(ann, "a"); err != nil {
		t.Error(err)
	}
}

// cutAfter yields its bytes and then the error of a dropped connection.
type cutAfter struct{ rest string }

func (c *cutAfter) Read(p []byte) (int, error) {
	if c.rest == "" {
		return broken{}.Read(p)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func TestUploadsOfOthersDoNotExist(t *testing.T) { // R34
	b := start(t, settings{})
	ctx := context.Background()
	i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), album("a", 10))
	must(t, err)
	defer i.Close()
	must(t, i.Persist(ctx))
	if len(i.ID()) != 26 { // 128 bits in base 32
		t.Errorf("the id %q can be guessed", i.ID())
	}
	_, err = b.in.Describe(ctx, bob, i.ID())
	want(t, err, problem.NotFound)
	_, err = b.in.Resume(ctx, b.grant(bob, consent.AlbumBackup), i.ID())
	want(t, err, problem.NotFound)
	want(t, b.in.Cancel(ctx, bob, i.ID()), problem.NotFound)
	for _, id := range []string{"", "nonsense", "../../box.db", strings.Repeat("a", 26)} {
		_, err = b.in.Describe(ctx, ann, id)
		want(t, err, problem.NotFound)
	}
	// Nor was its holder disturbed.
	if _, err := i.Write(ctx, 0, strings.NewReader("0123456789")); err != nil {
		t.Error(err)
	}
}

func TestTheNewConnectionWins(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	i, err := b.in.Begin(ctx, g, album("a", 10))
	must(t, err)
	must(t, i.Persist(ctx))
	body := newStuck("01234")
	verdict := make(chan error, 1)
	go func() { // a connection whose client is gone
		_, err := i.Write(ctx, 0, body)
		verdict <- err
		i.Close()
	}()
	<-body.waiting
	info, err := b.in.Describe(ctx, ann, i.ID())
	must(t, err)
	want(t, <-verdict, problem.Locked)
	if info.Offset != 5 {
		t.Errorf("offset %d", info.Offset)
	}
	i2, err := b.in.Resume(ctx, g, i.ID())
	must(t, err)
	if _, err := i2.Write(ctx, 5, strings.NewReader("567")); err != nil {
		t.Error(err)
	}
	go func() {
		<-i2.Context().Done()
		i2.Close()
	}()
	i3, err := b.in.Resume(ctx, g, i.ID())
	must(t, err)
	defer i3.Close()
	if i3.Offset() != 8 {
		t.Errorf("offset %d: what had arrived was lost", i3.Offset())
	}
	if _, err := i3.Write(ctx, 8, strings.NewReader("89")); err != nil {
		t.Error(err)
	}
	_, err = i3.Finish(ctx)
	must(t, err)
	if got, err := b.content(ann, "a"); err != nil || got != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
}

// R05: what the box has, it does not ask for again: the new connection waits while
// bytes of the old one still come, also while the disk takes its time.
func TestTheNewConnectionWaitsForWhatIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a slow computer is no pause
		disk := vfstest.NewDisk()
		b := start(t, settings{disk: disk})
		ctx := t.Context()
		const size = 8 << 20
		for _, tt := range []struct {
			pause, stall time.Duration // before each piece; of the disk, at the first pieces
		}{{0, 0}, {10 * time.Millisecond, 0}, {0, time.Second}} {
			i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), album(fmt.Sprint(tt), 2*size))
			must(t, err)
			stalls := 2
			disk.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 1 << 30, Path: func(string) bool {
				if stalls--; stalls >= 0 {
					time.Sleep(tt.stall)
				}
				return false
			}})
			must(t, i.Persist(ctx))
			body := &backlog{left: size, pause: tt.pause, begun: make(chan struct{})}
			verdict := make(chan error, 1)
			go func() {
				_, err := i.Write(ctx, 0, body)
				verdict <- err
				i.Close()
			}()
			<-body.begun
			info, err := b.in.Describe(ctx, ann, i.ID())
			must(t, err)
			if info.Offset != size {
				t.Errorf("of %d bytes that were here %d were kept", size, info.Offset)
			}
			want(t, <-verdict, problem.Canceled)
			disk.Heal()
		}
	})
}

// backlog is what lies in the buffers of a connection that is gone.
type backlog struct {
	left  int
	pause time.Duration // before each piece
	once  sync.Once
	begun chan struct{}
}

func (l *backlog) Read(p []byte) (int, error) {
	if l.left == 0 {
		return broken{}.Read(p)
	}
	l.once.Do(func() { close(l.begun) })
	time.Sleep(l.pause)
	n := min(len(p), l.left, 64<<10)
	clear(p[:n])
	l.left -= n
	return n, nil
}

func TestAHolderThatDoesNotLetGo(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), album("a", 10))
	must(t, err)
	defer i.Close()
	must(t, i.Persist(ctx))
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.in.Describe(short, ann, i.ID()); err == nil {
		t.Error("it was described while it was held")
	}
}

func TestUnprovenBytesAreNotKept(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	i, err := b.in.Begin(ctx, g, album("a", 10))
	must(t, err)
	must(t, i.Persist(ctx))
	_, err = i.Write(ctx, 0, strings.NewReader("012"))
	must(t, err)
	must(t, i.Checkpoint(ctx))
	i.Provisional(true)
	_, err = i.Write(ctx, 3, &cutAfter{"345"})
	want(t, err, problem.Canceled)
	must(t, i.Close()) // would keep what had arrived otherwise
	if info, err := b.in.Describe(ctx, ann, i.ID()); err != nil || info.Offset != 3 {
		t.Errorf("offset %d, %v", info.Offset, err)
	}
}

func TestASizeThatComesLater(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	i, err := b.in.Begin(ctx, g, album("a", -1))
	must(t, err)
	must(t, i.Persist(ctx))
	_, err = i.Write(ctx, 0, strings.NewReader("01234"))
	must(t, err)
	want(t, i.SetSize(-5), problem.Invalid)
	want(t, i.SetSize(ingest.MaxSize+1), problem.TooLarge)
	must(t, i.SetSize(7))
	must(t, i.Checkpoint(ctx))
	must(t, i.Close())
	info, err := b.in.Describe(ctx, ann, i.ID())
	must(t, err)
	if info.Meta.Size != 7 || info.Offset != 5 {
		t.Errorf("%+v", info)
	}
	i, err = b.in.Resume(ctx, g, i.ID())
	must(t, err)
	defer i.Close()
	_, err = i.Finish(ctx)
	want(t, err, problem.Invalid) // bytes are missing, and it can go on
	_, err = i.Write(ctx, 5, strings.NewReader("56"))
	must(t, err)
	_, err = i.Write(ctx, 7, strings.NewReader(""))
	must(t, err)
	_, err = i.Finish(ctx)
	must(t, err)
}

func TestExpiryAndCancel(t *testing.T) {
	clock := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	b := start(t, settings{now: func() time.Time { return clock }, options: ingest.Options{Expiry: time.Hour}})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	begin := func(path string) string {
		i, err := b.in.Begin(ctx, g, album(path, 10))
		must(t, err)
		defer i.Close()
		must(t, i.Persist(ctx))
		_, err = i.Write(ctx, 0, strings.NewReader("01234"))
		must(t, err)
		must(t, i.Checkpoint(ctx))
		return i.ID()
	}
	first, second, third := begin("first"), begin("second"), begin("third")
	must(t, b.in.Cancel(ctx, ann, third))
	clock = clock.Add(40 * time.Minute)
	i, err := b.in.Resume(ctx, g, second) // who works on it gets more time
	must(t, err)
	must(t, i.Close())
	clock = clock.Add(40 * time.Minute)
	_, err = b.in.Describe(ctx, ann, first)
	want(t, err, problem.NotFound)
	if info, err := b.in.Describe(ctx, ann, second); err != nil || info.Offset != 5 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, staged := b.blobs(); staged != 2 {
		t.Errorf("%d staged", staged)
	}
	swept, err := b.in.Sweep(ctx)
	if err != nil || swept.Uploads != 1 {
		t.Errorf("%+v, %v", swept, err)
	}
	if _, staged := b.blobs(); staged != 1 {
		t.Errorf("%d staged", staged)
	}
}

// The policy promises the seven days after the last piece, not the first.
func TestEachPieceGivesTheWholeTimeAgain(t *testing.T) { // R30
	clock := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	b := start(t, settings{now: func() time.Time { return clock }})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	i, err := b.in.Begin(ctx, g, album("film", 10))
	must(t, err)
	must(t, i.Persist(ctx))
	must(t, i.Close())
	clock = clock.Add(3 * 24 * time.Hour)
	i, err = b.in.Resume(ctx, g, i.ID())
	must(t, err)
	must(t, i.Close())
	clock = clock.Add(7*24*time.Hour - 2*time.Hour)
	if _, err := b.in.Describe(ctx, ann, i.ID()); err != nil {
		t.Error(err)
	}
	clock = clock.Add(3 * time.Hour)
	_, err = b.in.Describe(ctx, ann, i.ID())
	want(t, err, problem.NotFound)
}

func TestPurgedContentsGoAtOnce(t *testing.T) { // R27
	b := start(t, settings{})
	ctx, stop := context.WithCancel(context.Background())
	r := b.mustPut(ann, "a", "mine alone")
	shared := b.mustPut(ann, "b", "shared")
	b.mustPut(bob, "b", "shared")
	must(t, b.cat.Trash(ctx, ann, r.Item.ID))
	must(t, b.cat.Trash(ctx, ann, shared.Item.ID))
	ran := make(chan struct{})
	go func() {
		b.in.Run(ctx)
		close(ran)
	}()
	must(t, b.cat.Purge(ctx, ann, r.Item.ID))
	must(t, b.cat.Purge(ctx, ann, shared.Item.ID))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		total, err := b.cat.Totals(ctx)
		must(t, err)
		if n, _ := b.blobs(); n == 1 && total.Blobs == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the purged content is still on the disk")
		}
	}
	if got, err := b.content(bob, "b"); err != nil || got != "shared" {
		t.Errorf("%q, %v", got, err)
	}
	stop()
	<-ran
}
