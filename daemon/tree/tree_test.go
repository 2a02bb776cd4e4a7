package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/tree"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

var day = time.Date(2019, time.May, 4, 12, 0, 0, 123e6, time.UTC)

// names are few, so that files and folders get in each other's way.
var names = []string{"a", "b", "A", "Ferien 2019/a.jpg", "Ferien 2019/b.jpg", "Ferien 2019/tief/a.jpg", "照片/b", "b/a", "b/b/a", "a/a", "SHA256SUMS", "%SHA256SUMS", `back\slash`}

var folders = []string{"Ferien 2019", "照片", "b", "b/b", "a", "neu", "Ferien 2019/tief"}

// something changes the catalogue. What it refuses is no fault.
func (w *world) something(rng *rand.Rand) {
	w.t.Helper()
	ctx := w.t.Context()
	u := ident.UserID(1 + rng.IntN(2))
	items := w.items(u)
	name := func() string { return names[rng.IntN(len(names))] }
	content := func() string { return strings.Repeat(fmt.Sprint("content ", rng.IntN(9), " "), 1+rng.IntN(2)*80) }
	var err error
	switch op := rng.IntN(20); {
	case op < 7 || len(items) == 0:
		var at time.Time
		if rng.IntN(4) > 0 {
			at = day.Add(time.Duration(rng.IntN(5)) * time.Hour)
		}
		_, err = w.add(u, name(), content(), at)
	case op < 10:
		_, err = w.cat.Move(ctx, u, items[rng.IntN(len(items))].ID, name())
	case op < 12:
		err = w.cat.MoveFolder(ctx, u, folders[rng.IntN(len(folders))], folders[rng.IntN(len(folders))])
	case op < 13:
		err = w.cat.TrashFolder(ctx, u, folders[rng.IntN(len(folders))])
	case op < 16:
		err = w.cat.Trash(ctx, u, items[rng.IntN(len(items))].ID)
	case op < 17:
		err = w.db.Write(ctx, func(tx *db.Tx) error {
			return w.cat.SetMTimeIn(tx, u, items[rng.IntN(len(items))].ID, day.Add(time.Duration(rng.IntN(9))*time.Minute))
		})
	default:
		page, failed := w.cat.List(ctx, u, catalog.Query{Trash: true})
		must(w.t, failed)
		if len(page.Items) == 0 {
			return
		}
		it := page.Items[rng.IntN(len(page.Items))]
		if op < 18 {
			_, err = w.cat.Restore(ctx, u, it.ID)
		} else {
			err = w.cat.Purge(ctx, u, it.ID)
		}
	}
	if err != nil && problem.KindOf(err) == problem.Internal {
		w.t.Fatal(err)
	}
	w.note()
}

// Whatever the catalogue goes through, the view follows, with shared storage and with
// copies.
func TestFollowsTheCatalogue(t *testing.T) {
	for _, clones := range []bool{true, false} {
		t.Run(fmt.Sprintf("clones=%t", clones), func(t *testing.T) {
			rng := vfstest.Seed(t)
			w := newWorld(t, clones)
			for round := range 40 {
				for range rng.IntN(20) {
					w.something(rng)
				}
				w.follow()
				w.same()
				if round%20 == 19 {
					w.disk = w.disk.Kill()
					w.open()
				}
			}
		})
	}
}

// A cut, or a failure, at any call leaves names that are stale at most, and what comes
// next goes on. R01
func TestCutsAndFailures(t *testing.T) {
	rng := vfstest.Seed(t)
	w := newWorld(t, true)
	unsure := false // a sync failed: the view waits for the next start
	for round := range 120 {
		w.disk.SetClones(round%50 < 40)
		for range 1 + rng.IntN(12) {
			w.something(rng)
		}
		if rng.IntN(5) == 0 && !unsure {
			w.follow()
		}
		if rng.IntN(4) == 0 {
			w.disk.Fail(vfstest.Fault{Nth: 1 + rng.IntN(40), Err: []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)],
				Path: func(name string) bool { return strings.HasPrefix(name, "tree") }})
			_, err := w.tree.Follow(t.Context())
			if err == nil && w.disk.Pending() {
				w.disk.Heal()
				w.same()
			}
			w.disk.Heal()
			w.honest()
			if rng.IntN(2) == 0 { // the same process goes on, unless a sync failed
				if _, err := w.tree.Follow(t.Context()); err == nil {
					w.same()
				} else if unsure = strings.Contains(err.Error(), "at the next start"); !unsure {
					t.Fatal(err)
				}
				w.honest()
				continue
			}
		} else {
			w.disk.CutIn(1 + rng.IntN(120))
			_, _ = w.tree.Follow(t.Context())
		}
		w.cut(rng)
		w.honest()
		unsure = false
		if rng.IntN(3) > 0 {
			for range rng.IntN(4) {
				w.something(rng)
			}
			w.follow()
			w.honest()
			w.same()
		}
	}
}

// What was deleted for good is gone from the view before its content is, also if the
// view had not followed yet or a crash came in between.
func TestPurgeReachesTheView(t *testing.T) {
	rng := vfstest.Seed(t)
	w, deleted := newWorld(t, true), 0
	for n := 0; n < 40 || deleted < 20 && n < 400; n++ { // however the dice fall
		for range rng.IntN(20) {
			w.something(rng)
		}
		if rng.IntN(2) == 0 {
			w.disk.CutIn(1 + rng.IntN(100))
			_, _ = w.tree.Follow(t.Context())
			w.cut(rng)
		}
		for u := range w.people {
			for _, it := range w.items(u) {
				if rng.IntN(3) == 0 {
					must(t, w.cat.Trash(t.Context(), u, it.ID))
					must(t, w.cat.Purge(t.Context(), u, it.ID))
				}
			}
		}
		must(t, w.tree.LetGo(t.Context()))
		dead, err := w.cat.Dead(t.Context(), 1000)
		must(t, err)
		secret := map[string]bool{}
		for _, ref := range dead {
			secret[w.content("blobs/"+ref.String()[:2]+"/"+ref.String())] = true
		}
		deleted += len(dead)
		w.walk("tree", func(name string, _ fs.FileInfo) {
			if secret[w.content(name)] {
				t.Errorf("%s has a content that nobody keeps", name)
			}
		})
		_, err = w.store.Remove(t.Context(), dead, func(storage.Ref) (bool, error) { return false, nil })
		must(t, err)
		must(t, w.cat.Forget(t.Context(), dead))
	}
	if deleted < 20 {
		t.Errorf("only %d contents were deleted", deleted)
	}
	w.follow()
	w.same()
}

// A box that nobody uses writes nothing.
func TestNothingChangesNothingIsWritten(t *testing.T) {
	w := newWorld(t, true)
	for i := range 50 {
		_, err := w.add(1, fmt.Sprintf("d/%d", i), fmt.Sprint(i), day)
		must(t, err)
	}
	w.follow()
	writes := vfstest.OpWrite | vfstest.OpCreate | vfstest.OpRename | vfstest.OpRemove | vfstest.OpSync | vfstest.OpSyncDir | vfstest.OpSyncAll | vfstest.OpTimes | vfstest.OpClone | vfstest.OpMkdir
	disk, commits := w.disk.Calls(writes), w.db.Stats().Commits
	w.follow()
	if n := w.disk.Calls(writes) - disk; n != 0 {
		t.Errorf("%d writes", n)
	}
	if n := w.db.Stats().Commits - commits; n != 0 {
		t.Errorf("%d commits", n)
	}
	// And few when one file comes.
	_, err := w.add(1, "d/new", "new", day)
	must(t, err)
	disk, commits = w.disk.Calls(vfstest.OpSync|vfstest.OpSyncDir|vfstest.OpSyncAll), w.db.Stats().Commits
	w.follow()
	if n := w.disk.Calls(vfstest.OpSync|vfstest.OpSyncDir|vfstest.OpSyncAll) - disk; n > 6 {
		t.Errorf("%d syncs for one file", n)
	}
	if n := w.db.Stats().Commits - commits; n > 2 {
		t.Errorf("%d commits for one file", n)
	}
}

// A folder that was removed, edited or swapped for an older one is made again.
func TestRebuild(t *testing.T) {
	for _, clones := range []bool{true, false} {
		w := newWorld(t, clones)
		for i := range 300 {
			_, err := w.add(ident.UserID(1+i%2), fmt.Sprintf("d%d/%d", i%7, i), fmt.Sprint(i), day)
			must(t, err)
		}
		w.follow()
		w.same()

		// Somebody writes through the view, adds a file, removes one.
		edit := func(name, content string, mode fs.FileMode) {
			t.Helper()
			_ = w.disk.Remove("tree/" + name)
			f, err := w.disk.OpenFile("tree/"+name, vfs.CreateNew, mode)
			must(t, err)
			_, err = f.Write([]byte(content))
			must(t, errors.Join(err, f.Close()))
		}
		edit("Ada/d0/0", "edited", 0o444)
		edit("Ada/d0/stale", "of an older state", 0o444)
		edit("Ada/d0/notes.txt", "somebody's own", 0o644)
		must(t, w.disk.Remove("tree/Ada/d2/2"))
		w.checks(t, map[string]int{"missing": 1, "size": 1}, 2)

		var steps int
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { w.tree.Run(ctx); close(done) }()
		p, err := w.tree.Rebuild(t.Context(), func(tree.Progress) { steps++ })
		must(t, err)
		cancel()
		<-done
		if p.Done != 300 || p.LeftOut != 0 || p.Error != "" {
			t.Errorf("%+v", p)
		}
		w.checks(t, map[string]int{}, 1)
		must(t, w.disk.Remove("tree/Ada/d0/notes.txt"))
		w.follow()
		w.same()

		// The whole folder is removed while the box is off.
		w.disk = w.disk.Kill()
		w.removeAll("tree")
		must(t, w.disk.Mkdir("tree", 0o700))
		w.open()
		w.follow()
		w.same()
	}
}

func (w *world) removeAll(name string) {
	if list, err := w.disk.ReadDir(name); err == nil {
		for _, e := range list {
			w.removeAll(name + "/" + e.Name())
		}
	}
	must(w.t, w.disk.Remove(name))
}

// checks compares what Check finds.
func (w *world) checks(t *testing.T, want map[string]int, strange int64) {
	t.Helper()
	got := map[string]int{}
	c, err := w.tree.Check(t.Context(), true, func(x tree.Wrong) { got[x.Reason]++ }, func(int64, int64) {})
	must(t, err)
	if c.Files != 300 || c.Strange != strange || c.Pending != 0 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v %v", c, got)
	}
}

// Records that were put back from a copy speak of another state of the folder.
func TestOlderRecords(t *testing.T) {
	rng := vfstest.Seed(t)
	w := newWorld(t, true)
	for range 30 {
		w.something(rng)
	}
	w.follow()
	var batch int64
	read := func(tx *db.Tx) error { return tx.QueryRow(`SELECT batch FROM tree_state`).Scan(&batch) }
	must(t, w.db.Read(t.Context(), read))
	for range 30 {
		w.something(rng)
		w.follow()
	}
	// The rows are those of then, and so is the number.
	must(t, w.db.Write(t.Context(), func(tx *db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM tree_file WHERE item IN (SELECT item FROM tree_file ORDER BY item DESC LIMIT 4)`); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE tree_state SET batch = ?`, batch)
		return err
	}))
	w.disk = w.disk.Kill()
	w.open()
	w.follow()
	w.same()
}

// A content that is damaged is left out, and shown when it is healed; a file that
// shared its storage is made anew.
func TestHealedContent(t *testing.T) {
	w := newWorld(t, true)
	it, err := w.add(1, "a.jpg", "a picture", day)
	must(t, err)
	w.follow()
	ctx, blob := t.Context(), "blobs/"+it.Ref.String()[:2]+"/"+it.Ref.String()
	// Both are damaged, as storage that is shared is.
	must(t, w.disk.Corrupt(blob, 0))
	must(t, w.disk.Corrupt("tree/Ada/a.jpg", 0))
	must(t, w.cat.Found(ctx, catalog.ByScrub, []catalog.Finding{{Ref: it.Ref, Damage: storage.WrongBytes}}))
	w.follow()
	time.Sleep(2 * time.Millisecond) // healed later than the view began
	w.store.Doubt(it.Ref)
	_, err = w.add(1, "a.jpg", "a picture", day)
	must(t, err)
	w.follow()
	w.same()

	// A content that is missing.
	it, err = w.add(1, "b.jpg", "another", day)
	must(t, err)
	must(t, w.disk.Remove("blobs/"+it.Ref.String()[:2]+"/"+it.Ref.String()))
	w.follow()
	if got, _ := w.found(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// Copies are made while there is ample room, and give way.
func TestCopiesGiveWay(t *testing.T) {
	w := newWorld(t, false)
	space, err := w.disk.Space()
	must(t, err)
	used := space.Total - space.Free
	w.disk.SetCapacity(used + 4<<20)
	for i := range 10 {
		_, err := w.add(1, fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 32<<10), day)
		must(t, err)
	}
	w.follow()
	w.same()
	for i := range 40 {
		_, err := w.add(1, fmt.Sprint("x", i), strings.Repeat(fmt.Sprint("x", i), 16<<10), day)
		must(t, err)
	}
	w.follow()
	w.follow()
	got, sums := w.found()
	if len(got) != 0 || strings.Count(sums["Ada"], "\n") != 50 {
		t.Errorf("%d files are left, %d are listed", len(got), strings.Count(sums["Ada"], "\n"))
	}
	if _, err := w.tree.Rebuild(t.Context(), nil); problem.KindOf(err) != problem.Unsupported {
		t.Error(err)
	}
	w.disk = w.disk.Kill()
	w.disk.SetCapacity(used + 64<<20)
	w.open()
	w.follow()
	w.same()

	// Switched off, nothing stays.
	w.disk = w.disk.Kill()
	w.mode = tree.Off
	w.open()
	w.follow()
	if list, err := w.disk.ReadDir("tree"); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	w.disk = w.disk.Kill()
	w.mode = tree.Auto
	w.open()
	w.follow()
	w.same()
}

// deleteOfTwo shows a.jpg and b.jpg, and deletes the first for good.
func (w *world) deleteOfTwo() {
	w.t.Helper()
	a, err := w.add(1, "a.jpg", "is deleted", day)
	must(w.t, err)
	_, err = w.add(1, "b.jpg", "stays", day)
	must(w.t, err)
	w.follow()
	w.same()
	must(w.t, w.cat.Trash(w.t.Context(), 1, a.ID))
	must(w.t, w.cat.Purge(w.t.Context(), 1, a.ID))
}

// On a disk that is full to the last byte nothing can be noted, and what was deleted has
// to go all the same: else nobody could make room.
func TestAFullDiskLetsGo(t *testing.T) {
	for _, clones := range []bool{true, false} {
		w := newWorld(t, clones)
		w.deleteOfTwo()
		space, err := w.disk.Space()
		must(t, err)
		w.disk.SetCapacity(space.Total - space.Free)
		must(t, w.tree.LetGo(t.Context()))
		if got, _ := w.found(); got["Ada/a.jpg"] != (file{}) {
			t.Errorf("clones %v: what was deleted is still shown", clones)
		}
		w.disk.SetCapacity(space.Total)
		w.follow()
		w.follow()
		w.same()
	}
}

// The list of a person's files names nothing that was erased once that is said to be so:
// it does not wait for more changes, and goes where there is no room for another. R27
func TestListsForgetWhatWasErased(t *testing.T) {
	for _, fullDisk := range []bool{false, true} {
		w := newWorld(t, true)
		w.deleteOfTwo()
		must(t, w.tree.LetGo(t.Context()))
		space, err := w.disk.Space()
		must(t, err)
		if fullDisk {
			w.disk.SetCapacity(space.Total - space.Free)
		}
		must(t, w.tree.Forget(t.Context()))
		var left []string
		w.walk("tree", func(name string, _ fs.FileInfo) {
			if strings.Contains(w.content(name), "a.jpg") {
				left = append(left, name)
			}
		})
		if len(left) > 0 {
			t.Errorf("full disk %v: what was erased stands in %v", fullDisk, left)
		}
		w.disk.SetCapacity(space.Total)
		w.follow()
		w.same()
	}
}

// People come, go, and get other names.
func TestPeople(t *testing.T) {
	w := newWorld(t, true)
	for u := range w.people {
		_, err := w.add(u, "a", "of both", day)
		must(t, err)
	}
	w.follow()
	w.people[1] = "Ada Lovelace"
	w.note()
	w.follow()
	w.same()
	delete(w.people, 2)
	w.follow()
	w.same()
	if _, err := w.disk.Stat("tree/小明"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
