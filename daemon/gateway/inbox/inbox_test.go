package inbox_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/gateway/inbox"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

// R09: what lies in a folder and what comes into it is taken in once, also after
// a restart, and a changed file becomes a new version.
func TestTakenOnce(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	write(t, dir+"/a.txt", "one")
	write(t, dir+"/sub/deep/b.txt", "two")
	w.add(dir)
	want := map[string]string{"a.txt": "one", "sub/deep/b.txt": "two"}
	w.holds(want)
	write(t, dir+"/c.txt", "three")
	write(t, dir+"/new/d.txt", "four")
	write(t, dir+"/new/er/e.txt", "") // an empty file is a file
	want["c.txt"], want["new/d.txt"], want["new/er/e.txt"] = "three", "four", ""
	w.holds(want)
	offers := w.offers()
	w.looked()
	w.restart()
	write(t, dir+"/new/er/f.txt", "five")
	want["new/er/f.txt"] = "five"
	w.holds(want)
	if n := w.offers() - offers; n != 1 {
		t.Errorf("after the restart %d files were taken, one was new", n)
	}
	w.eventually("the scan is over", func() bool { return w.status().State != "scanning" })
	if s := w.status(); s.Taken != 6 || s.Session != 1 || s.Waiting != 0 || s.State != "watching" || s.User != "Ada" {
		t.Errorf("%+v", s)
	}

	it, err := w.cat.Lookup(t.Context(), ada, "a.txt")
	must(t, err)
	write(t, dir+"/a.txt", "one and a half")
	want["a.txt"] = "one and a half"
	w.holds(want)
	if v, err := w.cat.Versions(t.Context(), ada, it.ID); err != nil || len(v) != 1 || w.text(v[0].Ref) != "one" {
		t.Errorf("versions: %v, %v", v, err)
	}
	// Another time is no other file, nor is another number.
	offers = w.offers()
	must(t, os.Chtimes(dir+"/c.txt", time.Now(), time.Now()))
	must(t, os.Rename(dir+"/new/d.txt", dir+"/.d"))
	write(t, dir+"/new/d.txt", "four")
	time.Sleep(200 * time.Millisecond) // else the next look might come before they have settled
	w.looked()
	w.eventually("nothing waits", func() bool { return w.status().Waiting == 0 })
	if n := w.offers() - offers; n != 0 {
		t.Errorf("%d files were taken again", n)
	}
	// What its owner deleted does not come back by itself.
	it, err = w.cat.Lookup(t.Context(), ada, "c.txt")
	must(t, err)
	must(t, w.cat.Trash(t.Context(), ada, it.ID))
	w.looked()
	w.restart()
	w.looked()
	delete(want, "c.txt")
	w.holds(want)
}

// A file is taken when nobody writes to it any more, and then whole.
func TestUnfinishedFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	w.add(dir)
	f, err := os.Create(dir + "/film.mp4")
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("first half, ")
	must(t, err)
	write(t, dir+"/other.txt", "done")
	w.holds(map[string]string{"other.txt": "done"})
	time.Sleep(500 * time.Millisecond) // several times the time to settle: it is still open
	w.looked()
	if s := w.status(); s.Waiting != 1 || len(w.kept()) != 1 {
		t.Errorf("an open file: %+v %v", s, w.kept())
	}
	_, err = f.WriteString("second half")
	must(t, err)
	must(t, f.Close())
	w.holds(map[string]string{"other.txt": "done", "film.mp4": "first half, second half"})

	// A program that hides what is not finished.
	write(t, dir+"/.upload.X1", "hidden")
	write(t, dir+"/load.part", "not whole")
	must(t, os.Rename(dir+"/.upload.X1", dir+"/shown.txt"))
	w.holds(map[string]string{"other.txt": "done", "film.mp4": "first half, second half", "shown.txt": "hidden"})
}

// A file that is written to again and again is never taken half: whatever is
// kept of it is something that a writer had finished.
func TestNeverHalf(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{Settle: 20 * time.Millisecond})
	w.add(dir)
	for round := range 12 {
		f, err := os.OpenFile(dir+"/a.bin", os.O_RDWR|os.O_CREATE, 0o644)
		must(t, err)
		for i := range 8 {
			_, err = f.WriteAt([]byte(strings.Repeat(string(rune('a'+round)), 50_000)), int64(i)*50_000)
			must(t, err)
			time.Sleep(5 * time.Millisecond)
		}
		must(t, f.Close())
		time.Sleep(time.Duration(round*10) * time.Millisecond)
	}
	w.holds(map[string]string{"a.bin": strings.Repeat("l", 400_000)})
	it, err := w.cat.Lookup(t.Context(), ada, "a.bin")
	must(t, err)
	versions, err := w.cat.Versions(t.Context(), ada, it.ID)
	must(t, err)
	for _, v := range versions {
		if s := w.text(v.Ref); len(s) != 400_000 || strings.Trim(s, s[:1]) != "" {
			t.Errorf("a half version of %d bytes was kept", len(s))
		}
	}
}

// A scanner that opens and closes its file for every page writes one file.
func TestWrittenInPieces(t *testing.T) {
	t.Parallel()
	const settle = time.Second
	dir, w := t.TempDir(), newWorld(t, inbox.Options{Settle: settle})
	w.add(dir)
	for try := range 20 {
		name, text := fmt.Sprint("scan", try, ".pdf"), ""
		last, longest := time.Now(), time.Duration(0)
		for page := range 10 {
			begun := time.Now()
			f, err := os.OpenFile(dir+"/"+name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
			must(t, err)
			text += fmt.Sprintln("page", page)
			_, err = fmt.Fprintln(f, "page", page)
			must(t, err)
			must(t, f.Close())
			longest, last = max(longest, time.Since(last)), begun
			time.Sleep(40 * time.Millisecond)
		}
		w.eventually("it is taken", func() bool { return w.kept()[name] == text })
		if longest > settle/2 {
			continue // this computer was so busy that the scanner seemed to be done
		}
		it, err := w.cat.Lookup(t.Context(), ada, name)
		must(t, err)
		if v, err := w.cat.Versions(t.Context(), ada, it.ID); err != nil || len(v) != 0 {
			t.Errorf("it was taken %d times before it was whole, %v", len(v), err)
		}
		return
	}
	t.Error("no file was written without long pauses")
}

// A file that changes while it is read is read again from its beginning.
func TestChangesWhileItIsRead(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	const size = 8 << 20
	write(t, dir+"/a.bin", strings.Repeat("a", size))
	changed := false
	w.disk.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 1, Err: syscall.EIO, Path: func(string) bool {
		if !changed {
			changed = true // the first bytes have been read, and the others not yet
			write(t, dir+"/a.bin", strings.Repeat("b", size))
		}
		return false
	}})
	w.add(dir)
	w.holds(map[string]string{"a.bin": strings.Repeat("b", size)})
	if !changed {
		t.Error("the file was not changed while it was read")
	}
	it, err := w.cat.Lookup(t.Context(), ada, "a.bin")
	must(t, err)
	if v, err := w.cat.Versions(t.Context(), ada, it.ID); err != nil || len(v) != 0 {
		t.Errorf("%d versions of a mixture are kept, %v", len(v), err)
	}
}

// A file that never stops changing keeps nothing else from being taken.
func TestAFileThatNeverSettles(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	w.add(dir)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_ = os.WriteFile(dir+"/log.txt", []byte(fmt.Sprint("line ", n)), 0o644)
			}
		}
	}()
	for n := range 5 {
		write(t, fmt.Sprintf("%s/%d.txt", dir, n), "calm")
	}
	w.eventually("the others are taken", func() bool { return len(w.kept()) >= 5 })
	w.eventually("it waits", func() bool { return w.status().Waiting == 1 })
	close(stop)
	<-stopped
	last, err := os.ReadFile(dir + "/log.txt")
	must(t, err)
	w.eventually("then it is taken", func() bool { return w.kept()["log.txt"] == string(last) })
}

// R20: without the consent to its source a file is left alone, and taken when
// that is given; after a withdrawal no more.
func TestOnlyWithConsent(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	write(t, dir+"/Pictures/WeiXin/mmexport1598266474988.jpg", "from a chat")
	write(t, dir+"/DCIM/100CANON/IMG_0001.CR3", "from a camera")
	write(t, dir+"/letter.txt", "mine")
	w.add(dir)
	w.holds(map[string]string{"letter.txt": "mine"})
	w.eventually("it says so", func() bool { return w.status().State == "consent" })
	s := w.status()
	if fmt.Sprint(s.Consents) != "[camera_transfer wechat_backup]" || s.Refused != 2 || s.Failed != 0 || len(s.Troubles) != 2 ||
		s.Troubles[1].Path != "Pictures/WeiXin/mmexport1598266474988.jpg" || s.Troubles[1].Purpose != "wechat_backup" {
		t.Errorf("%+v", s)
	}
	w.decide(consent.WeChatBackup, true)
	w.holds(map[string]string{"letter.txt": "mine", "Pictures/WeiXin/mmexport1598266474988.jpg": "from a chat"})
	it, err := w.cat.Lookup(t.Context(), ada, "Pictures/WeiXin/mmexport1598266474988.jpg")
	must(t, err)
	if it.Source != "wechat" || it.SourceBy != "folder" || it.Taken.From != "name" {
		t.Errorf("%+v", it)
	}
	w.decide(consent.WeChatBackup, false)
	write(t, dir+"/Pictures/WeiXin/later.jpg", "later")
	write(t, dir+"/later.txt", "later")
	w.eventually("the other is taken", func() bool { return w.kept()["later.txt"] == "later" })
	w.eventually("the refusal is told", func() bool { return w.status().Refused == 2 })
	if len(w.kept()) != 3 {
		t.Errorf("%v", w.kept())
	}
	must(t, os.RemoveAll(dir+"/Pictures"))
	w.looked()
	if s := w.status(); s.Refused != 1 || fmt.Sprint(s.Consents) != "[camera_transfer]" {
		t.Errorf("what is gone is still told of: %+v", s)
	}
	// A declared source is the whole folder's.
	_, err = w.Remove(t.Context(), dir)
	must(t, err)
	w.add(dir, func(w *inbox.Wish) { w.Source = "other" })
	w.eventually("it is taken as declared", func() bool { return w.kept()["DCIM/100CANON/IMG_0001.CR3"] != "" })
	if it, err := w.cat.Lookup(t.Context(), ada, "DCIM/100CANON/IMG_0001.CR3"); err != nil || it.Source != "other" || it.SourceBy != "declared" {
		t.Errorf("%+v, %v", it, err)
	}
}

// Links lead nowhere, pipes are not opened, and what cannot have a name is told.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	dir, outside, w := t.TempDir(), t.TempDir(), newWorld(t, inbox.Options{})
	write(t, outside+"/secret.txt", "secret")
	must(t, os.Symlink(outside+"/secret.txt", dir+"/link.txt"))
	must(t, os.Symlink(outside, dir+"/folder"))
	must(t, os.Symlink(dir, dir+"/loop"))
	must(t, syscall.Mkfifo(dir+"/pipe", 0o644))
	write(t, dir+"/.hidden", "no")
	write(t, dir+"/bad\xff.txt", "no name")
	write(t, dir+"/turn\u202eed.txt", "no name")
	write(t, dir+"/微信 😀.txt", "yes")
	write(t, dir+"/"+strings.Repeat("長", 85)+"/"+strings.Repeat("n", 255), "long")
	write(t, dir+"/new\nline.txt", "no name")
	write(t, dir+"/e\u0301.txt", "two marks")
	w.add(dir)
	w.holds(map[string]string{"微信 😀.txt": "yes", "é.txt": "two marks", strings.Repeat("長", 85) + "/" + strings.Repeat("n", 255): "long"})
	w.looked()
	if s := w.status(); s.Failed != 3 || len(s.Troubles) != 3 || s.Skipped != 5 || s.State != "watching" {
		t.Errorf("%+v", s)
	}
	// The same name in another writing, with another content, gets a number.
	write(t, dir+"/é.txt", "one mark")
	w.eventually("both are there", func() bool { return w.kept()["é (2).txt"] == "one mark" && w.kept()["é.txt"] == "two marks" })
	// A folder deeper than any.
	deep := dir
	for range 70 {
		deep += "/d"
	}
	write(t, deep+"/f.txt", "deep")
	w.looked()
	w.eventually("it is told", func() bool { return w.status().Failed == 4 })
}

// Originals that are not kept are moved when they are safe, and never lost.
func TestTrash(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	write(t, dir+"/in/scan.txt", "one")
	write(t, dir+"/Pictures/WeiXin/a.jpg", "chat")
	w.add(dir, trash)
	w.holds(map[string]string{"in/scan.txt": "one"})
	moved := func(name, text string) {
		t.Helper()
		w.eventually(name+" is in the trash", func() bool {
			found, err := filepath.Glob(filepath.Join(dir, inbox.TrashName, "20[0-9][0-9]-[01][0-9]-[0-3][0-9]", name)) // of today, whenever that ends
			if err != nil || len(found) != 1 {
				return false
			}
			b, err := os.ReadFile(found[0])
			return err == nil && string(b) == text
		})
	}
	moved("in/scan.txt", "one")
	if _, err := os.Stat(dir + "/Pictures/WeiXin/a.jpg"); err != nil {
		t.Error("what was not taken was moved:", err)
	}
	// A scanner that gives every page one name: each is a file of its own.
	write(t, dir+"/in/scan.txt", "two")
	w.holds(map[string]string{"in/scan.txt": "one", "in/scan (2).txt": "two"})
	moved("in/scan (2).txt", "two")
	// And the same page once more is here already.
	write(t, dir+"/in/scan.txt", "two")
	moved("in/scan (3).txt", "two")
	w.restart()
	w.looked()
	w.holds(map[string]string{"in/scan.txt": "one", "in/scan (2).txt": "two"})
	w.eventually("nothing is remembered", func() bool {
		s := w.status()
		return s.Taken == 0 && s.Refused == 1
	})
}

// More folders than can be watched are looked through instead, and after an
// overflow everything is.
func TestMoreThanCanBeWatched(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{Watches: 3})
	for n := range 20 {
		write(t, fmt.Sprintf("%s/%02d/a.txt", dir, n), "a")
	}
	w.add(dir)
	w.eventually("all are taken", func() bool { return len(w.kept()) == 20 })
	if s := w.status(); !s.ScanOnly || w.Watches() != 3 {
		t.Errorf("%d watches, %+v", w.Watches(), s)
	}
	for n := range 20 {
		write(t, fmt.Sprintf("%s/%02d/b.txt", dir, n), "b")
	}
	time.Sleep(400 * time.Millisecond)
	if len(w.kept()) >= 40 {
		t.Error("somebody told of folders that are not watched: the test tests nothing")
	}
	w.Overflow()
	w.eventually("all are taken", func() bool { return len(w.kept()) == 40 })
	_, err := w.Remove(t.Context(), "1")
	must(t, err)
	if n := w.Watches(); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

// A scan finds what nobody told of.
func TestAScanIsTheTruth(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{Watches: 1, Scan: 200 * time.Millisecond})
	must(t, os.Mkdir(dir+"/deaf", 0o755))
	w.add(dir)
	w.looked()
	write(t, dir+"/deaf/a.txt", "a")
	w.holds(map[string]string{"deaf/a.txt": "a"})
}

// Thousands of folders and a stop in the middle: nothing lost, nothing twice.
func TestThousandsOfFoldersAndARestart(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{Watches: 10_000})
	const folders = 1500
	for n := range folders {
		write(t, fmt.Sprintf("%s/%02d/%04d/a.txt", dir, n%40, n), fmt.Sprint(n))
	}
	w.add(dir)
	w.eventually("it has begun", func() bool { return w.offers() > 50 })
	w.restart()
	w.eventually("all are taken", func() bool { return w.status().Taken == folders })
	w.eventually("nothing waits", func() bool { return w.status().Waiting == 0 })
	if s := w.status(); s.ScanOnly || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	kept := w.kept()
	for n := range folders {
		if kept[fmt.Sprintf("%02d/%04d/a.txt", n%40, n)] != fmt.Sprint(n) {
			t.Fatalf("folder %d: %d files are kept", n, len(kept))
		}
	}
	if len(kept) != folders {
		t.Errorf("%d files are kept", len(kept))
	}
	// A folder that is moved is one of another name; what it held stays.
	must(t, os.Rename(dir+"/07", dir+"/moved"))
	write(t, dir+"/moved/0007/b.txt", "b")
	w.eventually("it is seen under its new name", func() bool { return w.kept()["moved/0007/b.txt"] == "b" })
}

// A full box takes nothing, says why, loses nothing, and goes on when there is room.
func TestFullBox(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	space, err := w.disk.Space()
	must(t, err)
	w.disk.SetCapacity(space.Total - space.Free + 1<<20)
	write(t, dir+"/large.bin", strings.Repeat("x", 2<<20))
	write(t, dir+"/small.txt", "fits")
	w.add(dir)
	w.holds(map[string]string{"small.txt": "fits"})
	w.eventually("it says so", func() bool { return w.status().State == "paused" })
	if s := w.status(); s.Reason == nil || !strings.Contains(*s.Reason, "full") || s.Failed != 1 {
		t.Errorf("%+v", s)
	}
	write(t, dir+"/late.txt", "late") // what comes meanwhile does not make it forget
	w.eventually("the late one is taken", func() bool { return w.kept()["late.txt"] == "late" })
	w.disk.SetCapacity(1 << 30)
	w.eventually("then it is taken", func() bool { return len(w.kept()["large.bin"]) == 2<<20 })
	w.eventually("and all is well", func() bool { return w.status().State == "watching" })
}

// The files of somebody whose account is closed wait.
func TestClosedAccount(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	w.stop()
	w.closed[ada] = true
	w.run()
	write(t, dir+"/a.txt", "a")
	w.add(dir)
	w.eventually("it is paused", func() bool { return w.status().State == "paused" })
	if len(w.kept()) != 0 {
		t.Error(w.kept())
	}
	w.stop()
	w.closed[ada] = false
	w.run()
	w.holds(map[string]string{"a.txt": "a"})
}

// Who may watch what, and that it is on record.
func TestWhatMayBeWatched(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	write(t, dir+"/sub/a.txt", "a")
	write(t, w.dir+"/in/a.txt", "a")
	must(t, os.Symlink(w.dir, dir+"/../"+filepath.Base(dir)+"-link"))
	for _, tt := range []struct {
		wish inbox.Wish
		kind problem.Kind
	}{
		{inbox.Wish{Path: "relative", User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: dir + "/none", User: "ada"}, problem.NotFound},
		{inbox.Wish{Path: dir + "/sub/a.txt", User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: w.dir, User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: w.dir + "/in", User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: filepath.Dir(w.dir), User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: dir + "-link/in", User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: "/", User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: "/proc/self", User: "ada"}, problem.Invalid},
		{inbox.Wish{Path: dir, User: "bob"}, problem.NotFound},
		{inbox.Wish{Path: dir, User: "ada", Source: "fax"}, problem.Invalid},
		{inbox.Wish{Path: dir, User: "ada", Originals: "burn"}, problem.Invalid},
		{inbox.Wish{Path: dir, User: "ada", Into: "../up"}, problem.Invalid},
	} {
		if _, err := w.Add(t.Context(), tt.wish); problem.KindOf(err) != tt.kind {
			t.Errorf("%+v: %v", tt.wish, err)
		} else if p := problem.As(err); tt.wish.User == "ada" && (p.Hint == "" || p.Detail == "") {
			t.Errorf("%+v: %+v says too little", tt.wish, p)
		}
	}
	if list, err := w.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	w.add(dir+"/sub", func(w *inbox.Wish) { w.Into = "" })
	for _, path := range []string{dir, dir + "/sub"} {
		if _, err := w.Add(t.Context(), inbox.Wish{Path: path, User: "ada"}); problem.KindOf(err) != problem.Conflict {
			t.Errorf("%s: %v", path, err)
		}
	}
	w.holds(map[string]string{"sub/a.txt": "a"})
	if _, err := w.Remove(t.Context(), dir+"/other"); problem.KindOf(err) != problem.NotFound {
		t.Error(err)
	}
	_, err := w.Remove(t.Context(), dir+"/sub")
	must(t, err)
	if _, err := os.Stat(dir + "/sub/" + inbox.MarkerName); !os.IsNotExist(err) {
		t.Error("the marker is still there:", err)
	}
	write(t, dir+"/sub/late.txt", "late")
	entries, err := w.audit.Tail(t.Context(), 10)
	must(t, err)
	var acts []string
	for _, e := range entries {
		if strings.HasPrefix(e.Action, "inbox.") {
			acts = append(acts, fmt.Sprint(e.Action, " ", e.Object, " ", e.Subject == ada, " ", e.Detail))
		}
	}
	if got := strings.Join(acts, "; "); got != "inbox.add 1 true map[originals:keep source:auto]; inbox.remove 1 true map[originals:keep source:auto]" {
		t.Error(got)
	}
	w.restart()
	time.Sleep(300 * time.Millisecond)
	w.holds(map[string]string{"sub/a.txt": "a"})
}

// A card is taken in once; again, only what is new.
func TestImport(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	for n := range 300 {
		write(t, fmt.Sprintf("%s/DCIM/100APPLE/IMG_%04d.HEIC", dir, n), fmt.Sprint("photo ", n))
	}
	write(t, dir+"/Pictures/WeiXin/a.jpg", "chat")
	write(t, dir+"/bad\xff.txt", "no name")
	wish := inbox.Wish{Path: dir, User: "ada", Into: "Card"}
	lines := w.imports(wish)
	last := func() string {
		d := lines[len(lines)-1]
		return fmt.Sprint(d["event"], d["files"], d["stored"], d["known"], d["refused"], d["failed"], d["waiting"], d["error"])
	}
	if got := last(); got != "done302 300 0 1 1 0 <nil>" {
		t.Errorf("%s in %v", got, lines)
	}
	if len(w.kept()) != 300 || w.kept()["Card/DCIM/100APPLE/IMG_0007.HEIC"] != "photo 7" {
		t.Errorf("%d files are kept", len(w.kept()))
	}
	if _, err := os.Stat(dir + "/" + inbox.MarkerName); !os.IsNotExist(err) {
		t.Error("an import leaves something behind:", err)
	}
	write(t, dir+"/DCIM/100APPLE/IMG_0300.HEIC", "new")
	write(t, dir+"/DCIM/100APPLE/IMG_0001.HEIC", "another picture of the same name")
	lines = w.imports(wish)
	if got := last(); got != "done303 2 299 1 1 0 <nil>" {
		t.Errorf("%s in %v", got, lines)
	}
	if k := w.kept(); k["Card/DCIM/100APPLE/IMG_0001.HEIC"] != "photo 1" || k["Card/DCIM/100APPLE/IMG_0001 (2).HEIC"] != "another picture of the same name" {
		t.Error("a picture took the place of another of its name")
	}
	if list, err := w.List(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("an import is watched: %v, %v", list, err)
	}
}

// What left a folder is remembered for a month, in case it comes back, and what is
// remembered does not grow for ever.
func TestWhatLeftIsForgotten(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	const files = 600 // more than one step
	for n := range files {
		write(t, fmt.Sprintf("%s/%03d.txt", dir, n), fmt.Sprint(n))
	}
	w.add(dir)
	w.eventually("all are taken", func() bool { return w.status().Taken == files })
	later := func(days int) { // what left is looked for after each start
		t.Helper()
		w.stop()
		w.ahead += time.Duration(days) * 24 * time.Hour
		w.run()
		w.looked()
	}
	for n := range files / 2 {
		must(t, os.Remove(fmt.Sprintf("%s/%03d.txt", dir, n)))
	}
	later(0)
	must(t, os.Rename(dir+"/599.txt", dir+"/.599"))
	later(20)
	if s := w.status(); s.Taken != files {
		t.Errorf("%d are remembered before the month is over", s.Taken)
	}
	must(t, os.Rename(dir+"/.599", dir+"/599.txt"))
	later(0)
	later(15)
	w.eventually("half is forgotten", func() bool { return w.status().Taken == files/2 })
	if n := len(w.kept()); n != files {
		t.Errorf("%d files are kept", n)
	}
}

func TestNumbered(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		want string
	}{
		{"a.jpg", 2, "a (2).jpg"}, {"a", 10, "a (10)"}, {".x", 2, ".x (2)"}, {"a.b.tar.gz", 3, "a.b.tar (3).gz"},
		{strings.Repeat("長", 84) + ".jpg", 2, strings.Repeat("長", 82) + " (2).jpg"},
	} {
		if got := inbox.Numbered(tt.name, tt.n); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What its owner deleted is told of and left where it is, also where originals go
// to the trash, until they want it again. It is read and noted once.
func TestDeletedIsDeclined(t *testing.T) {
	t.Parallel()
	for _, how := range []string{inbox.Keep, inbox.Trash} {
		w := newWorld(t, inbox.Options{})
		dir := t.TempDir()
		for _, name := range []string{"a.jpg", "b.jpg"} {
			write(t, dir+"/"+name, name+" once")
		}
		w.imports(inbox.Wish{Path: dir, User: "ada", Into: "/"})
		w.holds(map[string]string{"a.jpg": "a.jpg once", "b.jpg": "b.jpg once"})
		var refs []storage.Ref
		for _, name := range []string{"a.jpg", "b.jpg"} {
			it, err := w.cat.Lookup(t.Context(), ada, name)
			must(t, err)
			must(t, w.cat.Trash(t.Context(), ada, it.ID))
			if refs = append(refs, it.Ref); name == "b.jpg" {
				must(t, w.cat.Purge(t.Context(), ada, it.ID))
			}
		}
		lines := w.imports(inbox.Wish{Path: dir, User: "ada", Into: "/"})
		if done := lines[len(lines)-1]; done["declined"] != 2.0 || done["failed"] != 0.0 || done["stored"] != 0.0 || done["known"] != 0.0 {
			t.Errorf("an import says %v", lines)
		}
		w.add(dir, func(wish *inbox.Wish) { wish.Originals = how })
		w.eventually("both are declined", func() bool { return w.status().Declined == 2 && w.status().State == "watching" })
		s := w.status()
		if len(s.Troubles) != 2 || !strings.Contains(s.Troubles[0].Reason, "deleted") || s.Failed != 0 || s.Refused != 0 || s.Taken != 0 || s.State != "watching" {
			t.Errorf("%+v", s)
		}
		declined := func() []catalog.Offer {
			t.Helper()
			list, _, err := w.cat.Ledger(t.Context(), ada, 0, catalog.OfferDeclined, "", 0)
			must(t, err)
			return list
		}
		noted := declined()
		if len(noted) != 4 || noted[0].Kind != problem.Deleted || noted[0].Ref.IsZero() || noted[0].Path == "" {
			t.Errorf("the ledger has %+v", noted)
		}
		w.looked()
		w.restart()
		w.eventually("they are told of after a restart", func() bool { return w.status().Declined == 2 })
		must(t, os.Chtimes(dir+"/a.jpg", time.Now(), time.Now().Add(-time.Hour)))
		w.looked()
		w.eventually("a touched file is declined", func() bool {
			return w.status().Declined == 2 && w.status().Waiting == 0 && len(declined()) == len(noted)+1
		})
		w.holds(map[string]string{})
		for _, name := range []string{"a.jpg", "b.jpg"} {
			if b, err := os.ReadFile(dir + "/" + name); err != nil || string(b) != name+" once" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		for _, ref := range refs {
			if _, ok, err := w.cat.Want(t.Context(), ada, ref); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}
		w.looked()
		w.holds(map[string]string{"a.jpg": "a.jpg once", "b.jpg": "b.jpg once"})
		w.eventually("nothing is declined", func() bool { return w.status().Declined == 0 })
		_, err := os.Stat(dir + "/b.jpg")
		if gone := os.IsNotExist(err); gone != (how == inbox.Trash) {
			t.Errorf("originals %s: gone is %v", how, gone)
		}
	}
}
