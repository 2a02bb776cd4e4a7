package catalog_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
	"yunbox.local/storage"
)

// erase erases as a withdrawn consent of a child has it done, and returns how many records
// of files went. "album" is a purpose with two sources.
func (b *box) erase(u ident.UserID, w rights.Which) (files int64) {
	b.t.Helper()
	register := b.register()
	plan, err := register.Plan(context.Background(), u, "", w)
	must(b.t.(*testing.T), err)
	for _, f := range plan {
		if slices.Contains([]string{"files", "versions", "trash"}, f.Category) {
			files += f.Goes.Records
		}
	}
	_, err = register.Erase(context.Background(), u, "", w)
	must(b.t.(*testing.T), err)
	return files
}

func (b *box) register() *rights.Register {
	return rights.New(b.db, b.Held(func(p string) []string {
		return map[string][]string{"album_backup": {"album", "screenshot"}, "qq_backup": {"qq"}}[p]
	}))
}

var (
	album = rights.Which{Purpose: "album_backup", End: true}
	all   = rights.Which{Purpose: "storage", Whole: true, End: true}
)

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
	b.add(bob, "bob.jpg", "photo 1")        // and bob's stays
	if n := b.erase(ann, album); n != 253 { // again.jpg, and of both.jpg what it held before
		t.Errorf("erased: %d", n)
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
	if b.left(`SELECT count(*) FROM folder WHERE path = 'photos'`) != 0 || b.left(`SELECT count(*) FROM folder WHERE path = 'qq'`) != 1 {
		t.Error("the folder that was emptied is there, or the other is not")
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

	if n := b.erase(ann, all); n != 3 {
		t.Errorf("all: %d", n)
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
	b.erase(ann, all) // of nobody's files
	b.erase(ident.UserID(99), all)
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
	parts := 0
	register := b.register()
	register.Pace(func(context.Context) error {
		if parts++; parts == 2 {
			return cut
		}
		return nil
	})
	n, err := register.Erase(t.Context(), ann, "", album)
	if !errors.Is(err, cut) {
		t.Fatalf("%v", err)
	}
	if left := b.left(`SELECT count(*) FROM item WHERE user = ?`, int64(ann)); left != 250-int(n) || n == 0 {
		t.Errorf("%d are left after %d were erased", left, n)
	}
	if _, err := register.Erase(t.Context(), ann, "", album); err != nil {
		t.Fatal(err)
	}
	if u, _ := b.Usage(t.Context(), ann); u.Items != 0 || u.Bytes != 0 || u.Distinct != 0 {
		t.Errorf("usage: %+v", u)
	}
}
