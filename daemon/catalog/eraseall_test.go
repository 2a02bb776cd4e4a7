package catalog_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

func (b *box) erase(u ident.UserID, sources []string) (e catalog.Erased) {
	b.t.Helper()
	must(b.t.(*testing.T), b.EraseAll(context.Background(), u, sources, func(_ *db.Tx, part catalog.Erased) error {
		e.Files += part.Files
		e.Bytes += part.Bytes
		return nil
	}))
	return e
}

func (b *box) left(query string, args ...any) (n int) {
	b.t.Helper()
	must(b.t.(*testing.T), b.db.Read(context.Background(), func(tx *db.Tx) error { return tx.QueryRow(query, args...).Scan(&n) }))
	return n
}

// R24 R27: what came in from one source goes with its versions and out of the trash, what
// came in from another stays, and nothing remembers what was there.
func TestWhatCameInFromASourceIsErased(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	from := func(source, path, content string) catalog.Item {
		e := entry(ann, path, content)
		e.Source = source
		a, err := b.try(e)
		must(t, err)
		must(t, b.db.Write(ctx, func(tx *db.Tx) error {
			return b.Offer(tx, catalog.Offer{User: ann, Device: 7, Path: path, Ref: e.Ref, Size: e.Size, Outcome: catalog.OfferStored, Item: a.Item.ID})
		}))
		return a.Item
	}
	for i := range 250 { // three parts
		from("album", fmt.Sprintf("photos/%d.jpg", i), fmt.Sprint("photo ", i))
	}
	from("qq", "qq/chat.jpg", "from a chat")
	from("album", "both.jpg", "the album's")
	from("qq", "both.jpg", "the chat's")
	from("album", "again.jpg", "from a chat") // a content that stays
	gone := from("album", "gone.jpg", "in the trash")
	must(t, b.Trash(ctx, ann, gone.ID))
	b.add(bob, "bob.jpg", "photo 1") // and bob's stays
	e := b.erase(ann, []string{"album", "screenshot"})
	if e.Files != 253 {
		t.Errorf("erased: %+v", e)
	}
	for query, want := range map[string]int{
		`SELECT count(*) FROM item WHERE user = ?`: 2, `SELECT count(*) FROM version WHERE user = ?`: 0,
		`SELECT count(*) FROM tombstone WHERE user = ?`: 0, `SELECT count(*) FROM tombstone_sha1 WHERE user = ?`: 0,
		`SELECT count(*) FROM ledger WHERE user = ?`: 3, // of both.jpg two
	} {
		if n := b.left(query, int64(ann)); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	if u, _ := b.Usage(ctx, ann); u.Items != 2 || u.Bytes != int64(len("from a chat")+len("the chat's")) || u.Distinct != u.Bytes {
		t.Errorf("usage: %+v", u)
	}
	for content, live := range map[string]bool{"photo 1": true, "photo 2": false, "in the trash": false, "the album's": false, "from a chat": true} {
		if got, err := b.Live(ctx, storage.Ref(sha256.Sum256([]byte(content)))); err != nil || got != live {
			t.Errorf("%q is kept: %v, %v", content, got, err)
		}
	}
	// It may come back at once: nobody said that it may not.
	b.add(ann, "photos/2.jpg", "photo 2")

	if e := b.erase(ann, nil); e.Files != 3 {
		t.Errorf("all: %+v", e)
	}
	for _, table := range []string{"item", "version", "tombstone", "tombstone_sha1", "ledger"} {
		if n := b.left(`SELECT count(*) FROM `+table+` WHERE user = ?`, int64(ann)); n != 0 {
			t.Errorf("%d rows of %s are left", n, table)
		}
	}
	if n := b.left(`SELECT count(*) FROM folder WHERE user = ? AND path > ''`, int64(ann)); n != 0 {
		t.Errorf("%d folders are left", n)
	}
	if u, _ := b.Usage(ctx, ann); u.Items != 0 || u.Bytes != 0 || u.Distinct != 0 {
		t.Errorf("usage: %+v", u)
	}
	b.erase(ann, nil) // of nobody's files
	b.erase(ident.UserID(99), nil)
	if _, err := b.Lookup(ctx, bob, "bob.jpg"); err != nil {
		t.Error(err)
	}
}

// R24 R27: an erasure that is cut off has deleted whole parts, and goes on later.
func TestAnErasureThatIsCutGoesOn(t *testing.T) {
	b := open(t)
	for i := range 250 {
		b.add(ann, fmt.Sprintf("photos/%d.jpg", i), fmt.Sprint("photo ", i))
	}
	cut := errors.New("cut")
	total, parts := 0, 0
	count := func(_ *db.Tx, e catalog.Erased) error {
		if parts++; parts == 2 {
			return cut
		}
		total += e.Files
		return nil
	}
	if err := b.EraseAll(t.Context(), ann, []string{"album"}, count); !errors.Is(err, cut) {
		t.Fatalf("%v", err)
	}
	if n := b.left(`SELECT count(*) FROM item WHERE user = ?`, int64(ann)); n != 250-total || total == 0 {
		t.Errorf("%d are left after %d were erased", n, total)
	}
	must(t, b.EraseAll(t.Context(), ann, []string{"album"}, count))
	if u, _ := b.Usage(t.Context(), ann); total != 250 || u.Items != 0 || u.Bytes != 0 || u.Distinct != 0 {
		t.Errorf("%d were erased; usage: %+v", total, u)
	}
}
