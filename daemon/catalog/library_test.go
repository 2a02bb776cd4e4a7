package catalog_test

import (
	"crypto/sha1"
	"fmt"
	"slices"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// R13: clients of photo servers ask by SHA-1. The answer is that of Known for live
// items: nothing of the trash, of doubt, of versions, or of other people.
func TestKnownBySHA1(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	one, two := b.add(ann, "a", "one"), b.add(ann, "b", "two")
	b.add(ann, "copy", "one")
	b.add(bob, "bob's", "four")
	sum := func(s string) storage.SHA1 { return sha1.Sum([]byte(s)) }
	ask := func(u ident.UserID) []ident.ItemID {
		t.Helper()
		ids, err := b.KnownSHA1(ctx, u, []storage.SHA1{sum("zero"), sum("two"), sum("one"), sum("four"), sum("two")})
		must(t, err)
		return ids
	}
	if got := ask(ann); !slices.Equal(got, []ident.ItemID{0, two.ID, one.ID, 0, two.ID}) {
		t.Errorf("%v; one is %v, two is %v", got, one.ID, two.ID)
	}
	if got := ask(bob); got[1] != 0 || got[2] != 0 || got[3] == 0 {
		t.Errorf("bob is told of %v", got)
	}
	must(t, b.Found(ctx, catalog.ByCheck, []catalog.Finding{{Ref: one.Ref, Damage: storage.WrongBytes}}))
	if got := ask(ann); got[2] != 0 || got[1] == 0 {
		t.Errorf("with doubt about one: %v", got)
	}
	must(t, b.Trash(ctx, ann, two.ID))
	if got := ask(ann); got[1] != 0 {
		t.Errorf("with two in the trash: %v", got)
	}
	b.add(ann, "copy", "five") // one is only a version of it now, and doubted
	must(t, b.Found(ctx, catalog.ByCheck, []catalog.Finding{{Ref: one.Ref, Time: time.Now()}}))
	must(t, b.Trash(ctx, ann, one.ID))
	if got := ask(ann); got[2] != 0 {
		t.Errorf("with one in the trash and a version: %v", got)
	}
	_, err := b.KnownSHA1(ctx, ann, make([]storage.SHA1, catalog.MaxKnown+1))
	want(t, err, problem.TooLarge)
	if ids, err := b.KnownSHA1(ctx, ann, nil); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
	sums, err := b.SHA1s(ctx, []catalog.Item{two, one})
	if err != nil || !slices.Equal(sums, []storage.SHA1{sum("two"), sum("one")}) {
		t.Errorf("%v, %v", sums, err)
	}
}

// R01: without folders a name is no place: other bytes of the same name stand
// beside, and the same bytes are not named again.
func TestBesideAndOnce(t *testing.T) {
	b := open(t)
	put := func(path, content string, once bool) catalog.Added {
		t.Helper()
		e := entry(ann, path, content)
		e.Beside, e.Once = true, once
		a, err := b.try(e)
		must(t, err)
		return a
	}
	first := put("p/a.jpg", "one", true)
	for _, c := range []struct {
		path, content string
		once          bool
		outcome       catalog.Outcome
		now           string
		had           bool
	}{
		{"p/a.jpg", "two", true, catalog.Created, "p/a (2).jpg", false},
		{"p/a.jpg", "three", true, catalog.Created, "p/a (3).jpg", false},
		{"p/a.jpg", "two", true, catalog.Unchanged, "p/a (2).jpg", true},
		{"p/other.jpg", "one", true, catalog.Unchanged, "p/a.jpg", true},
		{"p/a.jpg", "two", false, catalog.Unchanged, "p/a (2).jpg", true},
		{"q/a.jpg", "two", false, catalog.Created, "q/a.jpg", true},
		{"q/a.jpg", "one", false, catalog.Created, "q/a (2).jpg", true},
		{"p", "four", true, catalog.Created, "p (2)", false}, // p is a folder
	} {
		a := put(c.path, c.content, c.once)
		if a.Outcome != c.outcome || a.Item.Path != c.now || a.Had != c.had {
			t.Errorf("%+v: %+v", c, a)
		}
	}
	if v, err := b.Versions(t.Context(), ann, first.Item.ID); err != nil || len(v) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	// What lies in the trash is no reason to keep nothing.
	must(t, b.Trash(t.Context(), ann, first.Item.ID))
	for _, it := range []string{"q/a (2).jpg"} {
		old, err := b.Lookup(t.Context(), ann, it)
		must(t, err)
		must(t, b.Trash(t.Context(), ann, old.ID))
	}
	if a := put("p/a.jpg", "one", true); a.Outcome != catalog.Created || a.Item.Path != "p/a.jpg" || a.Had {
		t.Errorf("%+v", a)
	}
}

func TestByID(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	var all []ident.ItemID
	for i := range 23 {
		e := entry(ann, fmt.Sprintf("f%d/%d", i%3, i), fmt.Sprint(i))
		e.Source = []string{"album", "wechat", "other"}[i%3]
		a, err := b.try(e)
		must(t, err)
		all = append(all, a.Item.ID)
	}
	b.add(bob, "bob's", "x")
	must(t, b.Trash(ctx, ann, all[4]))
	all = slices.Delete(all, 4, 5)
	slices.Sort(all)
	slices.Reverse(all)
	for _, newest := range []bool{true, false} {
		for _, limit := range []int{1, 4, 22, 100} {
			var got []ident.ItemID
			var from ident.ItemID
			for {
				page, err := b.ByID(ctx, ann, from, newest, limit)
				must(t, err)
				if len(page) > limit {
					t.Fatalf("%d items on a page of %d", len(page), limit)
				}
				if len(page) == 0 {
					break
				}
				for _, it := range page {
					got = append(got, it.ID)
				}
				from = got[len(got)-1]
			}
			if !slices.Equal(got, all) {
				t.Errorf("by %d: %v, want %v", limit, got, all)
			}
		}
		slices.Reverse(all)
	}
	var names []string
	must(t, b.EachName(ctx, ann, func(name string) { names = append(names, name) }))
	slices.Sort(names)
	if names = slices.Compact(names); len(names) != len(all) || slices.Contains(names, "4") {
		t.Errorf("%q of %d", names, len(all))
	}
}

func TestFoldersAreCounted(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	b.add(ann, "x/1", "1")
	b.add(ann, "x/2", "2")
	b.add(ann, "x/below/3", "3")
	b.add(bob, "y/4", "4")
	x, err := b.Folder(ctx, ann, "x")
	must(t, err)
	y, err := b.Folder(ctx, bob, "y")
	must(t, err)
	if n, err := b.Counts(ctx, ann, []catalog.Folder{y, x}); err != nil || !slices.Equal(n, []int64{0, 2}) {
		t.Errorf("%v, %v", n, err)
	}
	must(t, b.MoveFolder(ctx, ann, "x", "z"))
	if f, err := b.FolderByID(ctx, ann, x.ID); err != nil || f.Path != "z" {
		t.Errorf("%+v, %v", f, err)
	}
	_, err = b.FolderByID(ctx, ann, y.ID)
	want(t, err, problem.NotFound)
}
