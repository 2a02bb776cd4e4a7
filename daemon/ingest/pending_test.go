package ingest_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/problem"
)

// R05: by the name of its file only what a gateway persisted as its own is found.
func TestPending(t *testing.T) {
	b := start(t, settings{})
	ctx := context.Background()
	begin := func(extra string, persist bool) string {
		m := album("DCIM/a", -1)
		m.Extra = extra
		i, err := b.in.Begin(ctx, b.grant(ann, consent.AlbumBackup), m)
		must(t, err)
		defer i.Close()
		_, err = i.Write(ctx, 0, strings.NewReader("01234"))
		must(t, err)
		if persist {
			must(t, i.Persist(ctx))
		}
		return i.ID()
	}
	begin("ftp", false)
	begin("another", true)
	first := begin("ftp", true)
	time.Sleep(2 * time.Millisecond) // they are ordered by the millisecond
	second := begin("ftp", true)
	ids, err := b.in.Pending(ctx, ann, "DCIM/a", "ftp")
	if err != nil || !slices.Equal(ids, []string{second, first}) {
		t.Errorf("%v, %v; want %v", ids, err, []string{second, first})
	}
	if ids, err := b.in.Pending(ctx, bob, "DCIM/a", "ftp"); err != nil || len(ids) != 0 {
		t.Errorf("somebody else finds %v, %v", ids, err)
	}
	_, err = b.in.Pending(ctx, ann, "../a", "ftp")
	want(t, err, problem.Invalid)
	i, err := b.in.Resume(ctx, b.grant(ann, consent.AlbumBackup), second)
	must(t, err)
	_, err = i.Finish(ctx)
	must(t, err)
	must(t, i.Close())
	if ids, err := b.in.Pending(ctx, ann, "DCIM/a", "ftp"); err != nil || !slices.Equal(ids, []string{first}) {
		t.Errorf("a finished upload goes on: %v, %v", ids, err)
	}
}
