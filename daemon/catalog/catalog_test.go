package catalog_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

const (
	ann = ident.UserID(1)
	bob = ident.UserID(2)
)

type box struct {
	*catalog.Catalog
	db *db.DB
	t  testing.TB
}

func open(t testing.TB) *box {
	t.Helper()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "box.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	c, err := catalog.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{Catalog: c, db: d, t: t}
	b.write(func(tx *db.Tx) error {
		for u, role := range map[ident.UserID]string{ann: "owner", bob: "member"} {
			if _, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (?1, ?2, ?2, ?3, '', 0)`,
				int64(u), fmt.Sprint(u), role); err != nil {
				return err
			}
		}
		return nil
	})
	return b
}

func (b *box) write(fn func(*db.Tx) error) {
	b.t.Helper()
	if err := b.db.Write(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

func entry(u ident.UserID, path, content string) catalog.Entry {
	return catalog.Entry{
		User: u, Device: 7, Path: path, Ref: sha256.Sum256([]byte(content)), SHA1: sha1.Sum([]byte(content)),
		Size: int64(len(content)), MTime: time.UnixMilli(1_700_000_000_123), Source: "album",
	}
}

func (b *box) try(e catalog.Entry) (a catalog.Added, err error) {
	err = b.db.Write(context.Background(), func(tx *db.Tx) error {
		a, err = b.Add(tx, e)
		return err
	})
	return a, err
}

func (b *box) add(u ident.UserID, path, content string) catalog.Item {
	b.t.Helper()
	a, err := b.try(entry(u, path, content))
	if err != nil {
		b.t.Fatal(err)
	}
	return a.Item
}

func want(t *testing.T, err error, kind problem.Kind) {
	t.Helper()
	if got := problem.KindOf(err); got != kind {
		t.Errorf("want %s, got %q: %v", kind, got, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestANameKeepsItsVersions(t *testing.T) { // R01
	b := open(t)
	ctx := t.Context()
	first, err := b.try(entry(ann, "photos/2026/a.jpg", "one"))
	must(t, err)
	if first.Outcome != catalog.Created || first.Had || first.Item.Seq != 1 {
		t.Errorf("first: %+v", first)
	}
	again, err := b.try(entry(ann, "photos/2026/a.jpg", "one"))
	must(t, err)
	if again.Outcome != catalog.Unchanged || !again.Had || again.Item.ID != first.Item.ID {
		t.Errorf("again: %+v", again)
	}
	other, err := b.try(entry(ann, "photos/2026/a.jpg", "two!"))
	must(t, err)
	if other.Outcome != catalog.Replaced || other.Had || other.Item.ID != first.Item.ID {
		t.Errorf("other: %+v", other)
	}
	it, err := b.Lookup(ctx, ann, "photos/2026/a.jpg")
	must(t, err)
	if it != other.Item {
		t.Errorf("looked up %+v, added %+v", it, other.Item)
	}
	versions, err := b.Versions(ctx, ann, it.ID)
	must(t, err)
	if len(versions) != 1 || versions[0].Ref != first.Item.Ref || versions[0].Size != 3 || !versions[0].MTime.Equal(first.Item.MTime) {
		t.Errorf("versions: %+v", versions)
	}
	if u, _ := b.Usage(ctx, ann); u.Items != 1 || u.Bytes != 7 || u.Distinct != 7 || u.Quota != -1 {
		t.Errorf("usage: %+v", u)
	}
}

func TestConditionsOnTheName(t *testing.T) {
	b := open(t)
	b.add(ann, "a", "one")
	e := entry(ann, "a", "two")
	e.IfAbsent = true
	_, err := b.try(e)
	want(t, err, problem.PreconditionFailed)
	e.IfAbsent, e.IfRef = false, sha256.Sum256([]byte("three"))
	_, err = b.try(e)
	want(t, err, problem.PreconditionFailed)
	e.Path = "nothing"
	_, err = b.try(e)
	want(t, err, problem.PreconditionFailed)
	e.Path, e.IfRef = "a", sha256.Sum256([]byte("one"))
	if a, err := b.try(e); err != nil || a.Outcome != catalog.Replaced {
		t.Errorf("%+v, %v", a, err)
	}
	e = entry(ann, "new", "two")
	e.IfAbsent = true
	if a, err := b.try(e); err != nil || a.Outcome != catalog.Created || !a.Had {
		t.Errorf("%+v, %v", a, err)
	}
	if u, _ := b.Usage(t.Context(), ann); u.Items != 2 || u.Bytes != 9 || u.Distinct != 6 {
		t.Errorf("a refused condition left traces: %+v", u)
	}
}

func TestFilesAndFoldersDoNotShareAName(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	file := b.add(ann, "a/b", "x")
	_, err := b.try(entry(ann, "a/b/c", "y"))
	want(t, err, problem.Conflict)
	_, err = b.try(entry(ann, "a", "y"))
	want(t, err, problem.Conflict)
	_, err = b.MakeFolder(ctx, ann, "a/b")
	want(t, err, problem.Conflict)
	_, err = b.Move(ctx, ann, file.ID, "a")
	want(t, err, problem.Conflict)
	// Names are case-sensitive, and of other people there is no trace.
	b.add(ann, "A/B", "x")
	b.add(bob, "a", "x")
}

func TestNobodyLearnsOfAnother(t *testing.T) { // R34
	b := open(t)
	ctx := t.Context()
	it := b.add(ann, "secret/a.jpg", "content")
	refs := []storage.Ref{it.Ref}
	if known, err := b.Known(ctx, bob, refs); err != nil || len(known) != 0 {
		t.Errorf("bob was told that the box knows %v, %v", known, err)
	}
	_, err := b.Item(ctx, bob, it.ID)
	want(t, err, problem.NotFound)
	_, err = b.Lookup(ctx, bob, "secret/a.jpg")
	want(t, err, problem.NotFound)
	_, err = b.Versions(ctx, bob, it.ID)
	want(t, err, problem.NotFound)
	want(t, b.Trash(ctx, bob, it.ID), problem.NotFound)
	_, err = b.Restore(ctx, bob, it.ID)
	want(t, err, problem.NotFound)
	want(t, b.Purge(ctx, bob, it.ID), problem.NotFound)
	_, err = b.Move(ctx, bob, it.ID, "mine")
	want(t, err, problem.NotFound)
	want(t, b.MoveFolder(ctx, bob, "secret", "mine"), problem.NotFound)
	want(t, b.TrashFolder(ctx, bob, "secret"), problem.NotFound)
	_, err = b.List(ctx, bob, catalog.Query{Folder: "secret"})
	want(t, err, problem.NotFound)
	for _, q := range []catalog.Query{{}, {Recursive: true}, {Trash: true}, {Recursive: true, Source: "album"}} {
		if p, err := b.List(ctx, bob, q); err != nil || len(p.Items)+len(p.Folders) != 0 {
			t.Errorf("%+v: %+v, %v", q, p, err)
		}
	}
	if list, err := b.Since(ctx, bob, 0, 0); err != nil || len(list) != 0 {
		t.Errorf("changes: %v, %v", list, err)
	}
	// Bob's upload of the same content is new to him, his usage counts it in
	// full, and his change numbers begin at one: nothing hints at Ann's copy.
	a, err := b.try(entry(bob, "b.jpg", "content"))
	must(t, err)
	if a.Had || a.Item.Seq != 1 {
		t.Errorf("bob's upload: %+v", a)
	}
	if u, _ := b.Usage(ctx, bob); u.Bytes != 7 || u.Distinct != 7 {
		t.Errorf("bob's usage: %+v", u)
	}
	if total, _ := b.Totals(ctx); total != (catalog.Totals{Users: 2, Items: 2, LogicalBytes: 14, Blobs: 1, PhysicalBytes: 7}) {
		t.Errorf("totals: %+v", total)
	}
}

func TestKnownMeansSafelyKept(t *testing.T) { // R13
	b := open(t)
	ctx := t.Context()
	it := b.add(ann, "a", "one")
	b.add(ann, "b", "two")
	b.add(ann, "b", "three") // "two" is a version now
	ref := func(s string) storage.Ref { return sha256.Sum256([]byte(s)) }
	ask := func() (s string) {
		t.Helper()
		asked := []storage.Ref{ref("zero"), ref("three"), ref("one"), ref("two"), ref("one")}
		known, err := b.Known(ctx, ann, asked)
		must(t, err)
		for _, k := range known {
			for _, name := range []string{"zero", "one", "two", "three"} {
				if ref(name) == k {
					s += name + " "
				}
			}
		}
		return s
	}
	if got := ask(); got != "three one two one " {
		t.Errorf("known: %s", got)
	}
	must(t, b.Found(ctx, catalog.ByCheck, []catalog.Finding{{Ref: ref("one"), Damage: storage.WrongBytes}}))
	if got := ask(); got != "three two " {
		t.Errorf("with doubt about one: %s", got)
	}
	b.add(ann, "c", "one") // sent again: the doubt is gone
	if got := ask(); got != "three one two one " {
		t.Errorf("sent again: %s", got)
	}
	b2, err := b.Lookup(ctx, ann, "b")
	must(t, err)
	must(t, b.Trash(ctx, ann, b2.ID))
	must(t, b.Trash(ctx, ann, it.ID))
	if got := ask(); got != "one one " { // "c" keeps one; the trash does not count
		t.Errorf("with b in the trash: %s", got)
	}
	// What is in the trash can be sent again, and is new.
	if a, err := b.try(entry(ann, "b", "two")); err != nil || a.Had {
		t.Errorf("%+v, %v", a, err)
	}
	_, err = b.Known(ctx, ann, make([]storage.Ref, catalog.MaxKnown+1))
	want(t, err, problem.TooLarge)
	if known, err := b.Known(ctx, ann, nil); err != nil || known != nil {
		t.Errorf("%v, %v", known, err)
	}
}

func TestKnownWithoutBytes(t *testing.T) {
	b := open(t)
	addKnown := func(e catalog.Entry) (a catalog.Added, err error) {
		e.Size, e.SHA1 = 0, storage.SHA1{}
		err = b.db.Write(t.Context(), func(tx *db.Tx) error {
			a, err = b.AddKnown(tx, e)
			return err
		})
		return a, err
	}
	b.add(ann, "a", "one")
	a, err := addKnown(entry(ann, "copy", "one"))
	if err != nil || a.Item.Size != 3 || !a.Had || a.Outcome != catalog.Created {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := addKnown(entry(bob, "copy", "one")); !errors.Is(err, catalog.ErrUnknown) {
		t.Errorf("bob named ann's content: %v", err)
	}
	must(t, b.Found(t.Context(), catalog.ByCheck, []catalog.Finding{{Ref: a.Item.Ref, Damage: storage.WrongBytes}}))
	if _, err := addKnown(entry(ann, "third", "one")); !errors.Is(err, catalog.ErrUnknown) {
		t.Errorf("a doubted content was named: %v", err)
	}
}

func TestQuota(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	b.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE user SET quota_bytes = 10 WHERE id = 1`)
		return err
	})
	it := b.add(ann, "a", "123456")
	_, err := b.try(entry(ann, "b", "12345"))
	want(t, err, problem.Quota)
	if p := problem.As(err); p.Members["left"] != int64(4) || p.Members["needed"] != int64(5) {
		t.Errorf("%+v", p)
	}
	if _, err := b.Lookup(ctx, ann, "b"); problem.KindOf(err) != problem.NotFound {
		t.Error("half of a refused file is visible")
	}
	// The trash counts, as do versions and second names of one content.
	must(t, b.Trash(ctx, ann, it.ID))
	_, err = b.try(entry(ann, "b", "12345"))
	want(t, err, problem.Quota)
	b.add(ann, "c", "1234")
	_, err = b.try(entry(ann, "d", "1"))
	want(t, err, problem.Quota)
	check := func(n int64) (err error) {
		b.write(func(tx *db.Tx) error { err = b.CheckQuota(tx, ann, n); return nil })
		return err
	}
	want(t, check(1), problem.Quota)
	must(t, check(0))
	must(t, b.Purge(ctx, ann, it.ID))
	must(t, check(6))
	b.add(bob, "no limit", strings.Repeat("x", 1000))
}

func TestTrashRemembersThePlace(t *testing.T) { // R27
	b := open(t)
	ctx := t.Context()
	it := b.add(ann, "trip/day 1/a.jpg", "one")
	must(t, b.Trash(ctx, ann, it.ID))
	must(t, b.Trash(ctx, ann, it.ID)) // again is harmless
	must(t, b.TrashFolder(ctx, ann, "trip"))
	_, err := b.Folder(ctx, ann, "trip")
	want(t, err, problem.NotFound)
	got, err := b.Item(ctx, ann, it.ID)
	must(t, err)
	if got.Path != "trip/day 1/a.jpg" || got.Trashed.IsZero() {
		t.Errorf("in the trash: %+v", got)
	}
	got, err = b.Restore(ctx, ann, it.ID)
	must(t, err)
	if got.Path != "trip/day 1/a.jpg" || !got.Trashed.IsZero() || got.Ref != it.Ref {
		t.Errorf("restored: %+v", got)
	}
	// The name was taken meanwhile.
	must(t, b.Trash(ctx, ann, it.ID))
	b.add(ann, "trip/day 1/a.jpg", "two")
	b.add(ann, "trip/day 1/a (2).jpg", "three")
	got, err = b.Restore(ctx, ann, it.ID)
	must(t, err)
	if got.Path != "trip/day 1/a (3).jpg" {
		t.Errorf("restored as %q", got.Path)
	}
	// The folder's name was taken by a file meanwhile.
	must(t, b.Trash(ctx, ann, it.ID))
	must(t, b.TrashFolder(ctx, ann, "trip/day 1"))
	b.add(ann, "trip/day 1", "a file now")
	got, err = b.Restore(ctx, ann, it.ID)
	must(t, err)
	if got.Path != "trip/a (3).jpg" {
		t.Errorf("restored as %q", got.Path)
	}
	want(t, b.Purge(ctx, ann, it.ID), problem.Conflict)
	must(t, b.Trash(ctx, ann, it.ID))
	select {
	case <-b.Died():
		t.Error("something died early")
	default:
	}
	must(t, b.Purge(ctx, ann, it.ID))
	<-b.Died()
	_, err = b.Item(ctx, ann, it.ID)
	want(t, err, problem.NotFound)
	dead, err := b.Dead(ctx, 10)
	must(t, err)
	if !slices.Equal(dead, []storage.Ref{it.Ref}) {
		t.Errorf("dead: %v", dead)
	}
	purged := func(u ident.UserID) int {
		t.Helper()
		list, err := b.Deleted(ctx, u, []storage.Ref{it.Ref, entry(ann, "", "nobody's").Ref})
		must(t, err)
		return len(list)
	}
	if purged(ann) != 1 || purged(bob) != 0 {
		t.Errorf("purged by ann: %d, by bob: %d", purged(ann), purged(bob))
	}
	// It comes back to life when somebody sends it before the sweep.
	b.add(bob, "x", "one")
	if dead, _ = b.Dead(ctx, 10); len(dead) != 0 {
		t.Errorf("dead: %v", dead)
	}
	if purged(ann) != 1 {
		t.Error("bob's upload undid ann's decision")
	}
	must(t, b.Forget(ctx, []storage.Ref{it.Ref}))
	b.add(ann, "wanted again", "one")
	if purged(ann) != 0 {
		t.Error("what ann keeps again counts as deleted")
	}
	if live, err := b.Live(ctx, it.Ref); err != nil || !live {
		t.Errorf("live: %v, %v", live, err)
	}
	if list, err := b.Blobs(ctx, storage.Ref{}, 0); err != nil || len(list) != 4 {
		t.Errorf("%d blobs, %v", len(list), err)
	}
}

func TestALargeFolderIsTrashedInParts(t *testing.T) {
	b := open(t)
	const n = 700
	b.write(func(tx *db.Tx) error {
		for i := range n {
			if _, err := b.Add(tx, entry(ann, fmt.Sprintf("f/%d/%d", i%7, i), "same")); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, b.TrashFolder(t.Context(), ann, "f"))
	u, err := b.Usage(t.Context(), ann)
	must(t, err)
	if u.Items != 0 || u.Bytes != n*4 || u.Distinct != 4 {
		t.Errorf("usage: %+v", u)
	}
	if p, err := b.List(t.Context(), ann, catalog.Query{}); err != nil || len(p.Folders)+len(p.Items) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestFolderNumbersRiseWithEveryChangeBelow(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	seqs := func() (list []int64) {
		for _, p := range []string{"", "a", "a/b", "c"} {
			f, err := b.Folder(ctx, ann, p)
			must(t, err)
			list = append(list, f.Seq)
		}
		return list
	}
	it := b.add(ann, "a/b/x", "1")
	b.add(ann, "c/y", "2")
	before := seqs()
	step := func(what string, want ...bool) {
		t.Helper()
		after := seqs()
		for i, w := range want {
			if (after[i] > before[i]) != w {
				t.Errorf("%s: folder %d went from %d to %d", what, i, before[i], after[i])
			}
		}
		before = after
	}
	b.add(ann, "a/b/x", "3")
	step("replace", true, true, true, false)
	b.add(ann, "a/b/x", "3")
	step("nothing", false, false, false, false)
	_, err := b.Move(ctx, ann, it.ID, "c/x")
	must(t, err)
	step("move", true, true, true, true)
	must(t, b.Trash(ctx, ann, it.ID))
	step("trash", true, false, false, true)
	_, err = b.Restore(ctx, ann, it.ID)
	must(t, err)
	step("restore", true, false, false, true)
	_, err = b.MakeFolder(ctx, ann, "a/new")
	must(t, err)
	step("new folder", true, true, false, false)
	must(t, b.TrashFolder(ctx, ann, "a/new"))
	step("removed folder", true, true, false, false)
	must(t, b.MoveFolder(ctx, ann, "a/b", "c/b"))
	if _, err = b.MakeFolder(ctx, ann, "a/b"); err != nil {
		t.Fatal(err)
	}
	step("moved folder", true, true, true, true)
}

// A folder keeps its number when it moves, and knows when it last changed.
func TestFoldersAreKnownByNumber(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	root, err := b.Folder(ctx, ann, "")
	must(t, err)
	if root != (catalog.Folder{}) {
		t.Errorf("the root of somebody who keeps nothing: %+v", root)
	}
	b.add(ann, "a/b/x", "1")
	before, err := b.Folder(ctx, ann, "a/b")
	must(t, err)
	must(t, b.MoveFolder(ctx, ann, "a/b", "c"))
	after, err := b.Folder(ctx, ann, "c")
	must(t, err)
	if before.ID == 0 || after.ID != before.ID || after.Name != "c" || after.Seq <= before.Seq || time.Since(after.Changed) > time.Minute {
		t.Errorf("%+v became %+v", before, after)
	}
	p, err := b.List(ctx, ann, catalog.Query{})
	must(t, err)
	if len(p.Folders) != 2 || p.Folders[1] != after {
		t.Errorf("listed as %+v, looked up as %+v", p.Folders, after)
	}
}

// A copy counts against the quota, keeps time and source, and is a content of its
// own: what becomes of the one does not touch the other.
func TestCopies(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	e := entry(ann, "a.jpg", "one")
	e.SourceBy, e.Taken = "folder", catalog.Taken{Time: time.UnixMilli(1_600_000_000_000).UTC(), Local: true, From: "name"}
	original, err := b.try(e)
	must(t, err)
	it := original.Item
	copied := func(to string) (a catalog.Added, err error) {
		err = b.db.Write(ctx, func(tx *db.Tx) error {
			a, err = b.CopyIn(tx, ann, it.ID, to, 9)
			return err
		})
		return a, err
	}
	a, err := copied("new/b.jpg")
	must(t, err)
	if a.Outcome != catalog.Created || !a.Had || a.Item.Ref != it.Ref || !a.Item.MTime.Equal(it.MTime) ||
		a.Item.Source != it.Source || a.Item.SourceBy != "folder" || a.Item.Taken != it.Taken || it.Taken.From != "name" || a.Item.Device != 9 {
		t.Errorf("%+v", a)
	}
	if u, _ := b.Usage(ctx, ann); u.Items != 2 || u.Bytes != 6 || u.Distinct != 3 {
		t.Errorf("%+v", u)
	}
	must(t, b.Trash(ctx, ann, it.ID))
	must(t, b.Purge(ctx, ann, it.ID))
	if live, err := b.Live(ctx, it.Ref); err != nil || !live {
		t.Errorf("the content of the copy went with the original: %v", err)
	}
	b.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE user SET quota_bytes = 4 WHERE id = ?`, int64(ann))
		return err
	})
	it = a.Item
	_, err = copied("c.jpg")
	want(t, err, problem.Quota)
	if _, err := b.Lookup(ctx, ann, "c.jpg"); problem.KindOf(err) != problem.NotFound {
		t.Errorf("a copy over the quota is there: %v", err)
	}
}

func TestMovingAFolder(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	b.add(ann, "写真/a/x", "1")
	b.add(ann, "写真/a/b/y", "2")
	b.add(ann, "写真/ab/z", "3")
	must(t, b.MoveFolder(ctx, ann, "写真/a", "new/place"))
	for path, ok := range map[string]bool{"new/place/x": true, "new/place/b/y": true, "写真/ab/z": true, "写真/a/x": false, "写真/a/b/y": false} {
		if it, err := b.Lookup(ctx, ann, path); (err == nil) != ok || ok && it.Path != path {
			t.Errorf("%s: %+v, %v", path, it, err)
		}
	}
	want(t, b.MoveFolder(ctx, ann, "new", "new/place/deeper"), problem.Invalid)
	want(t, b.MoveFolder(ctx, ann, "new/place", "写真"), problem.Conflict)
	want(t, b.MoveFolder(ctx, ann, "gone", "写真/b"), problem.NotFound)
	long := strings.Repeat("n", 250)
	deep := strings.Repeat(long+"/", 8) + long[:39] // itself short enough, but not with the file
	want(t, b.MoveFolder(ctx, ann, "new/place/b", deep), problem.Invalid)
	if _, err := b.Lookup(ctx, ann, "new/place/b/y"); err != nil {
		t.Errorf("a refused move left traces: %v", err)
	}
}

func TestWatchersHearOfCommittedChangesOnly(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	mine, others := b.Changed(ann), b.Changed(bob)
	if err := b.db.Write(ctx, func(tx *db.Tx) error {
		_, err := b.Add(tx, entry(ann, "a", "x"))
		return errors.Join(err, errors.New("undone"))
	}); err == nil {
		t.Fatal("the write was not undone")
	}
	select {
	case <-mine:
		t.Error("ann heard of what never happened")
	default:
	}
	b.add(ann, "b", "x")
	<-mine
	select {
	case <-others:
		t.Error("bob heard of ann's change")
	default:
	}
	list, err := b.Since(ctx, ann, 0, 0)
	must(t, err)
	if n := len(list); n == 0 || list[n-1].Path != "b" || list[n-1].Kind != catalog.KindAdded {
		t.Errorf("changes: %+v", list)
	}
	seq, err := b.Seq(ctx, ann)
	must(t, err)
	if seq != list[len(list)-1].Seq {
		t.Errorf("seq %d after %+v", seq, list)
	}
	if list, err = b.Since(ctx, ann, seq, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestLedgerIsPagedAndBounded(t *testing.T) { // R15
	b := open(t)
	ctx := t.Context()
	offer := func(tx *db.Tx, dev ident.DeviceID, i int) error {
		return b.Offer(tx, catalog.Offer{User: ann, Device: dev, Path: fmt.Sprint(i), Size: int64(i), Outcome: catalog.OfferDeclined, Reason: "why"})
	}
	b.write(func(tx *db.Tx) error {
		for i := range 25 {
			if err := errors.Join(offer(tx, 7, i), offer(tx, 8, 100+i)); err != nil {
				return err
			}
		}
		return nil
	})
	var got []int64
	for cur := ""; ; {
		list, next, err := b.Ledger(ctx, ann, 7, "", cur, 10)
		must(t, err)
		for _, o := range list {
			if o.Outcome != catalog.OfferDeclined || o.Reason != "why" || !o.Ref.IsZero() || o.Time.IsZero() {
				t.Errorf("%+v", o)
			}
			got = append(got, o.Size)
		}
		if cur = next; cur == "" {
			break
		}
	}
	if len(got) != 25 || got[0] != 24 || got[24] != 0 || !slices.IsSortedFunc(got, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("ledger: %v", got)
	}
	// As if the device had offered a great many before.
	b.write(func(tx *db.Tx) error {
		if _, err := tx.Exec(`UPDATE ledger SET n = n + ? WHERE user = 1 AND device = 7 AND n > 20`, catalog.KeptOffers); err != nil {
			return err
		}
		for i := range 64 {
			if err := offer(tx, 7, i); err != nil {
				return err
			}
		}
		return nil
	})
	var n int
	must(t, b.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT count(*) FROM ledger WHERE user = 1 AND device = 7 AND n <= 20`).Scan(&n)
	}))
	if n != 0 {
		t.Errorf("%d old offers were kept", n)
	}
	_, _, err := b.Ledger(ctx, ann, 7, "", "nonsense", 10)
	want(t, err, problem.Invalid)
}
