package ingest_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

// pause begins an upload of u's device dev, and leaves it with half of its bytes.
func (b *box) pause(u ident.UserID, dev ident.DeviceID, source, path string) (id string) {
	b.t.Helper()
	ctx := context.Background()
	g, err := b.ledger.GrantFor(ctx, u, dev, source)
	must(b.t, err)
	i, err := b.in.Begin(ctx, g, ingest.Meta{Source: source, Path: path, Size: 6})
	must(b.t, err)
	must(b.t, i.Persist(ctx))
	_, err = i.Write(ctx, 0, strings.NewReader("abc"))
	must(b.t, err)
	must(b.t, i.Close())
	return i.ID()
}

// run lets the box do what it does by itself until its staging holds n uploads.
func (b *box) run(n int) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); b.in.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, staged := b.blobs()
		if staged == n {
			return
		}
		if time.Now().After(limit) {
			b.t.Fatalf("%d uploads are staged, want %d", staged, n)
		}
	}
}

// R22: what is not whole goes with its consent, whatever kind of no that is, and nothing
// else does. No later consent brings it back, and neither does a power cut before its bytes
// went, or after that.
func TestWhatIsPausedGoesWithItsConsent(t *testing.T) {
	const tablet = phone + 1
	for name, tt := range map[string]struct {
		no   func(*box)
		gone []string
	}{
		"a purpose":           {func(b *box) { b.decide(ann, consent.AlbumBackup, false) }, []string{"phone", "tablet"}},
		"for one device":      {func(b *box) { b.decideFor(ann, phone, consent.AlbumBackup, false) }, []string{"phone"}},
		"the core":            {func(b *box) { b.decide(ann, consent.Storage, false) }, []string{"other"}},
		"the policy":          {func(b *box) { b.decide(ann, consent.WholePolicy, false) }, []string{"phone", "tablet", "other"}},
		"of another purpose":  {func(b *box) { b.decide(ann, consent.WeChatBackup, false) }, nil},
		"of no source at all": {func(b *box) { b.decide(ann, consent.ProfileDetails, false) }, nil},
	} {
		for _, cut := range []string{"before the bytes went", "after"} {
			if cut != "after" && len(tt.gone) == 0 {
				continue
			}
			t.Run(name+", cut: "+cut, func(t *testing.T) {
				disk, dir := vfstest.NewDisk(), quickDir(t)
				b := start(t, settings{dir: dir, disk: disk})
				whose := map[string]ident.UserID{"phone": ann, "tablet": ann, "other": ann, "bob's": bob}
				ids := map[string]string{
					"phone": b.pause(ann, phone, "album", "phone"), "tablet": b.pause(ann, tablet, "album", "tablet"),
					"other": b.pause(ann, phone, "other", "other"), "bob's": b.pause(bob, phone, "album", "bob's"),
				}
				b.run(len(ids))
				tt.no(b)
				if cut != "before the bytes went" {
					b.run(len(ids) - len(tt.gone))
				}
				b.powerless.Store(true)
				disk = disk.PowerCut(vfstest.Seed(t))
				b.stop()
				b = start(t, settings{dir: dir, disk: disk})
				if name != "the policy" { // who declined that accepts it first
					b.decide(ann, consent.AlbumBackup, true)
				}
				b.decide(ann, consent.Storage, true)
				for what, id := range ids {
					_, err := b.in.Describe(context.Background(), whose[what], id)
					if gone := slices.Contains(tt.gone, what); gone != (problem.KindOf(err) == problem.NotFound) || !gone && err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				b.run(len(ids) - len(tt.gone))
				for what, id := range ids {
					if slices.Contains(tt.gone, what) {
						continue
					}
					source := "album"
					if what == "other" {
						source = "other"
					}
					dev := phone
					if what == "tablet" {
						dev = tablet
					}
					g, err := b.ledger.GrantFor(context.Background(), whose[what], dev, source)
					must(t, err)
					i, err := b.in.Resume(context.Background(), g, id)
					must(t, err)
					_, err = i.Write(context.Background(), 3, strings.NewReader("def"))
					must(t, err)
					_, err = i.Finish(context.Background())
					must(t, err)
					must(t, i.Close())
				}
			})
		}
	}
}

// R22: a no that comes while somebody takes the upload up again ends it, too.
func TestWithdrawnWhileItIsTakenUp(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	id := b.pause(ann, phone, "album", "a")
	g := b.grant(ann, consent.AlbumBackup)
	i, err := b.in.Resume(ctx, g, id)
	must(t, err)
	b.decide(ann, consent.AlbumBackup, false)
	must(t, i.Close()) // keeps what has arrived, as after any pause
	b.decide(ann, consent.AlbumBackup, true)
	_, err = b.in.Resume(ctx, b.grant(ann, consent.AlbumBackup), id)
	want(t, err, problem.NotFound)
	b.run(0)
}
