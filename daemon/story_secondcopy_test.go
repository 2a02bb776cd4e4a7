package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// A secondCopy is one that a box keeps below top.
type secondCopy struct {
	t    *testing.T
	box  *daemontest.Box
	top  string
	dir  string // the box's folder in it
	key  target.Recovery
	name string
}

func addCopy(t *testing.T, b *daemontest.Box, top string) *secondCopy {
	t.Helper()
	key, err := target.NewRecovery()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	c := &secondCopy{t: t, box: b, top: top, key: key}
	var added struct{ Name, Path string }
	b.Local("POST", "/local/backups", map[string]any{"path": top, "recipient": public.Recipient, "master": public.Master, "same_disk": true}, &added)
	c.name, c.dir = added.Name, added.Path
	return c
}

type copyRun struct {
	Event, Error, Kind string
	Fresh, Complete    bool
	Generation         int64
	Contents, Copied   int64
	Missing            int64
	Removed            int
	Damaged            int64
	File               string
}

// run asks for a run and returns its last word.
func (c *secondCopy) run() copyRun {
	c.t.Helper()
	return c.last("/local/backups/run", map[string]any{"name": c.name})
}

func (c *secondCopy) verify(full bool) (last copyRun, damaged []string) {
	c.t.Helper()
	lines := c.box.LocalLines("POST", "/local/backups/verify", map[string]any{"name": c.name, "full": full})
	for _, line := range lines {
		var r copyRun
		if err := json.Unmarshal(line, &r); err != nil {
			c.t.Fatal(err)
		}
		if r.Event == "damage" {
			damaged = append(damaged, r.File)
		}
		last = r
	}
	return last, damaged
}

func (c *secondCopy) last(path string, in any) (r copyRun) {
	c.t.Helper()
	lines := c.box.LocalLines("POST", path, in)
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil || r.Event != "done" {
		c.t.Fatalf("%s: %s", path, lines)
	}
	return r
}

// must run and be complete.
func (c *secondCopy) must() copyRun {
	c.t.Helper()
	r := c.run()
	if r.Error != "" || !r.Complete {
		c.t.Fatalf("the run failed: %+v", r)
	}
	return r
}

// files is everything on the target: path → content.
func (c *secondCopy) files() map[string]string {
	c.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(c.top, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		all[strings.TrimPrefix(p, c.top+"/")] = string(b)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

func (c *secondCopy) restore(key target.Recovery, state string) (target.Restored, []string, error) {
	c.t.Helper()
	folder, err := vfs.OpenDir(c.dir)
	if err != nil {
		return target.Restored{}, nil, err
	}
	defer folder.Close()
	keys, err := key.Keys()
	if err != nil {
		c.t.Fatal(err)
	}
	tt, err := target.Open(folder, keys, "")
	if err != nil {
		return target.Restored{}, nil, err
	}
	into, err := vfs.OpenDir(state)
	if err != nil {
		c.t.Fatal(err)
	}
	defer into.Close()
	var lost []string
	r, err := tt.Restore(c.t.Context(), into, target.RestoreOptions{
		Lost: func(ref storage.Ref, _ string) { lost = append(lost, ref.String()) }, Step: func(int64, int64, int64) {},
	})
	return r, lost, err
}

// A box burns, and another is made from its second copy: everything that was there
// is there again, under the same identity; what was deleted or withdrawn is not.
func TestABoxComesBackFromItsSecondCopy(t *testing.T) {
	t.Parallel()
	a := daemontest.Start(t)
	ada := a.Bind()
	ada.Grant("storage", "album_backup", "camera_transfer")
	ada.Withdraw("camera_transfer")
	ada.Grant("profile_details")
	ask(ada, "PUT", "/v1/me/profile/city", `{"value":"Londinium"}`).is(t, "a detail", 204, "")
	bob := a.AddPerson("bob")
	bob.Grant("storage", "album_backup")
	var app, lost, device struct{ ID, Token string }
	ask(ada, "POST", "/v1/devices", `{"name":"phone","kind":"phone"}`).is(t, "device", 201, "").into(t, &device)
	ask(ada, "POST", "/v1/tokens", `{"name":"rclone","scope":"files"}`).is(t, "token", 201, "").into(t, &app)
	ask(ada, "POST", "/v1/tokens", `{"name":"lost","scope":"full"}`).is(t, "token", 201, "").into(t, &lost)
	ask(ada, "DELETE", "/v1/tokens/"+lost.ID, "").is(t, "revoke", 204, "")
	put(t, ada, "a.jpg", "photo")
	put(t, ada, "a.jpg", "edited photo")
	put(t, ada, "trashed.jpg", "rubbish")
	ask(ada, "DELETE", "/v1/files/trashed.jpg", "").is(t, "trash", 204, "")
	put(t, ada, "2026/Urlaub%20am%20See/%E6%B9%96%E8%BE%B9.jpg", "lake")
	put(t, ada, "big.mp4", strings.Repeat("film ", 200_000))
	put(t, ada, "empty.txt", "")
	put(t, bob, "bob.jpg", "bob's photo")
	put(t, bob, "same.jpg", "photo")
	purge(t, ada, "secret.jpg", "a secret that its owner deleted for good")

	c := addCopy(t, a, t.TempDir())
	if r := c.must(); r.Contents != 7 {
		t.Fatalf("%+v", r)
	}
	nothingReadable(t, c, "photo", "rubbish", "film film", "bob's photo", "username", "trashed.jpg", "Urlaub", "rclone", sumOf("photo"), sumOf("edited photo"))
	before, bobs := picture(t, a, ada), picture2(t, bob)
	status := a.State
	a.Stop()
	if err := os.RemoveAll(status); err != nil {
		t.Fatal(err)
	}

	state := t.TempDir()
	r, missing, err := c.restore(c.key, state)
	if err != nil || len(missing) > 0 || r.Contents != 7 || r.Damaged != 0 {
		t.Fatalf("%+v %v %v", r, missing, err)
	}
	for _, ref := range []string{sumOf("a secret that its owner deleted for good")} {
		if _, err := os.Stat(filepath.Join(state, "blobs", ref[:2], ref)); err == nil {
			t.Error("a content that was deleted for good came back")
		}
	}
	b := daemontest.StartOn(t, state, nil)
	if _, err := os.Stat(filepath.Join(state, target.RestoredFile)); err == nil {
		t.Error("the restore is settled each time")
	}
	// Sessions end; app tokens stay; revoked ones stay revoked. R20
	ask(ada2(b, ada), "GET", "/v1/me", "").is(t, "an old session", 401, "unauthenticated")
	ask(ada2(b, ada).With(app.Token), "GET", "/v1/me", "").is(t, "an app token", 200, "")
	ask(ada2(b, ada).With(lost.Token), "GET", "/v1/me", "").is(t, "a revoked token", 401, "unauthenticated")
	ada, bob = b.SignIn("ada"), b.SignIn("bob")
	if after := picture(t, b, ada); withoutAudit(after) != withoutAudit(before) {
		t.Errorf("ada's\n%s\nbecame\n%s", before, after)
	}
	if after := picture2(t, bob); after != bobs {
		t.Errorf("bob's\n%s\nbecame\n%s", bobs, after)
	}
	ask(ada, "PUT", "/v1/files/x.jpg?source=camera", "x").is(t, "a withdrawn consent", 403, "consent-required")
	ask(ada, "POST", "/v1/me/profile/reveal", `{}`).is(t, "a detail", 200, "").has(t, "Londinium") // R32: its key came along
	ask(ada, "GET", "/v1/files/2026/Urlaub%20am%20See/%E6%B9%96%E8%BE%B9.jpg", "").is(t, "a file", 200, "")
	ask(ada, "GET", "/v1/files/bob.jpg", "").is(t, "another's file", 404, "not-found")
	var audit struct{ Bad any }
	b.Local("GET", "/local/audit/verify", nil, &audit)
	if audit.Bad != nil {
		t.Errorf("the record does not hold: %v", audit.Bad)
	}
	for _, line := range b.LocalLines("POST", "/local/check", map[string]bool{"deep": true}) {
		if bytes.Contains(line, []byte(`"damage"`)) || bytes.Contains(line, []byte(`"orphan"`)) {
			t.Errorf("%s", line)
		}
	}
	// The new box takes files, and goes on with the very same copy.
	put(t, ada, "after.jpg", "after the fire")
	c.box = b
	if r := c.must(); !r.Fresh || r.Copied != 1 || r.Contents != 8 {
		t.Errorf("%+v", r)
	}
}

// ada2 is the same person with the same token on another box.
func ada2(b *daemontest.Box, p *daemontest.Person) *daemontest.Person {
	return b.Nobody().With(p.Token)
}

// picture2 is picture for somebody who has no a.jpg.
func picture2(t *testing.T, p *daemontest.Person) string {
	t.Helper()
	var s strings.Builder
	for _, path := range []string{"/v1/me", "/v1/consents", "/v1/consents/receipts", "/v1/devices", "/v1/items?recursive=true"} {
		fmt.Fprintf(&s, "%s %v\n", path, ask(p, "GET", path, "").is(t, path, 200, ""))
	}
	return s.String()
}

func withoutAudit(picture string) string {
	before, _, _ := strings.Cut(picture, "audit ")
	return before
}

// purge stores a file and removes it for good.
func purge(t *testing.T, p *daemontest.Person, name, content string) {
	t.Helper()
	var item struct{ ID string }
	ask(p, "PUT", "/v1/files/"+name+"?source=album", content).is(t, name, 201, "").into(t, &item)
	ask(p, "DELETE", "/v1/files/"+name, "").is(t, "trash", 204, "")
	ask(p, "DELETE", "/v1/items/"+item.ID, "").is(t, "purge", 204, "")
}

// nothingReadable looks for words in the names and bytes on a target.
func nothingReadable(t *testing.T, c *secondCopy, words ...string) {
	t.Helper()
	for name, content := range c.files() {
		if filepath.Base(name) == "README.txt" {
			continue
		}
		for _, w := range words {
			if strings.Contains(content, w) || strings.Contains(name, w) {
				t.Errorf("%s shows %q to whoever finds the disk", name, w)
			}
		}
	}
}

// A run without anything new writes nothing anywhere; one with a new file copies
// that; what was deleted for good leaves the target with the second run after.
func TestASecondCopyIsIncremental(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	for i := range 20 {
		put(t, ada, fmt.Sprintf("%d.jpg", i), fmt.Sprintf("photo %d", i))
	}
	c := addCopy(t, b, t.TempDir())
	c.must()
	before := c.files()
	rows := recordsMoved(t, b)
	if r := c.must(); r.Fresh || r.Copied != 0 || r.Contents != 20 {
		t.Errorf("%+v", r)
	}
	if after := c.files(); !maps.Equal(after, before) {
		t.Errorf("a run without anything new changed the target")
	}
	if n := recordsMoved(t, b); n != rows {
		t.Errorf("a run without anything new wrote %d times to the box's records", n-rows)
	}

	put(t, ada, "new.jpg", "a new photo")
	purge(t, ada, "secret.jpg", "secret")
	if r := c.must(); !r.Fresh || r.Copied != 1 || r.Contents != 21 {
		t.Errorf("%+v", r)
	}
	for name, content := range before {
		if strings.Contains(name, "/data/") && c.files()[name] != content {
			t.Errorf("%s was written again", name)
		}
	}

	// Deleted for good after it was copied.
	put(t, ada, "doomed.jpg", "doomed")
	c.must()
	var items struct {
		Items []struct{ ID, Path string }
	}
	ask(ada, "GET", "/v1/items?recursive=true", "").into(t, &items)
	for _, it := range items.Items {
		if it.Path == "doomed.jpg" {
			ask(ada, "DELETE", "/v1/files/doomed.jpg", "").is(t, "trash", 204, "")
			ask(ada, "DELETE", "/v1/items/"+it.ID, "").is(t, "purge", 204, "")
		}
	}
	n := contents(c)
	if r := c.must(); r.Contents != 21 || contents(c) != n {
		t.Errorf("%+v, %d contents on the target", r, contents(c))
	}
	// Nothing changes any more, and the generation that names it still goes.
	b.Pass(25 * time.Hour)
	if r := c.must(); !r.Fresh || r.Copied != 0 || contents(c) != n-1 {
		t.Errorf("%+v, %d contents on the target where %d are kept", r, contents(c), n-1)
	}
	b.Pass(25 * time.Hour)
	before = c.files()
	if r := c.must(); r.Fresh || !maps.Equal(before, c.files()) {
		t.Errorf("it never comes to rest: %+v", r)
	}
}

func contents(c *secondCopy) (n int) {
	for name := range c.files() {
		if strings.Contains(name, "/data/") {
			n++
		}
	}
	return n
}

// recordsMoved counts changes of the records: those of box.db and its log on the disk.
func recordsMoved(t *testing.T, b *daemontest.Box) int64 {
	t.Helper()
	var tail struct {
		Entries []struct{ Seq int64 }
	}
	b.Local("GET", "/local/audit/tail?n=1", nil, &tail)
	info, err := os.Stat(filepath.Join(b.State, "box.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	return tail.Entries[0].Seq + info.ModTime().UnixNano()
}

// Every bit that flips on the target is found, without the recovery key; the next
// run writes the file again; and until then it is not restored as good.
func TestDamageOfASecondCopy(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	for i := range 12 {
		put(t, ada, fmt.Sprintf("%d.jpg", i), strings.Repeat(fmt.Sprintf("photo %d ", i), 20_000*(i%3)+1))
	}
	c := addCopy(t, b, t.TempDir())
	c.must()
	if v, damaged := c.verify(true); v.Error != "" || v.Damaged != 0 || len(damaged) > 0 {
		t.Fatalf("%+v %v", v, damaged)
	}
	var data []string
	for name := range c.files() {
		if strings.Contains(name, "/data/") {
			data = append(data, filepath.Join(c.top, name))
		}
	}
	slices.Sort(data)
	spoilFile(t, data[0], 0)  // the header of age
	spoilFile(t, data[1], -1) // the last byte
	shorten(t, data[2], -1)
	shorten(t, data[3], 10)
	if err := os.Remove(data[4]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(data[5], []byte{}, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(data[6], data[7]); err != nil { // one content under the name of another
		t.Fatal(err)
	}
	// Not the key of anybody: what is right is restored, what is not is left out.
	state := t.TempDir()
	r, lost, err := c.restore(c.key, state)
	if err != nil || r.Damaged != 8 || len(lost) != 8 || r.Contents != 4 {
		t.Fatalf("%+v %v %v", r, lost, err)
	}
	for _, ref := range lost {
		if _, err := os.Stat(filepath.Join(state, "blobs", ref[:2], ref)); err == nil {
			t.Errorf("%s was restored as good", ref)
		}
	}
	entries, err := os.ReadDir(filepath.Join(state, "blobs"))
	if err != nil || len(entries) != 256 {
		t.Fatal(len(entries), err)
	}

	// All but the first two, whose size is right; the last may have the size of another.
	if v, damaged := c.verify(false); v.Damaged != 5 && v.Damaged != 6 {
		t.Errorf("quick: %+v %v", v, damaged)
	}
	if v, damaged := c.verify(true); v.Damaged != 8 || len(damaged) != 8 {
		t.Errorf("full: %+v %v", v, damaged)
	}
	if r := c.must(); !r.Fresh || r.Copied != 8 {
		t.Errorf("%+v", r)
	}
	if v, damaged := c.verify(true); v.Damaged != 0 || v.Error != "" {
		t.Errorf("after the next run: %+v %v", v, damaged)
	}
	// A file of the generation itself: the one before is restored, the next run
	// makes a new one.
	for _, file := range []string{"box.db.age", "contents.age", "state.tar.age", "SHA256SUMS", "SEAL"} {
		gens, err := filepath.Glob(filepath.Join(c.dir, "generations", "*"))
		if err != nil {
			t.Fatal(err)
		}
		newest := gens[len(gens)-1]
		spoilFile(t, filepath.Join(newest, file), -2)
		v, _ := c.verify(true)
		if v.Damaged == 0 && v.Error == "" && v.Generation >= int64(len(gens)) && file != "SEAL" && file != "SHA256SUMS" {
			t.Errorf("%s: damage was not found: %+v", file, v)
		}
		if _, _, err := c.restore(c.key, t.TempDir()); err == nil && file != "SEAL" && file != "SHA256SUMS" {
			t.Errorf("%s: a damaged generation was restored", file)
		}
		put(t, ada, file, file)
		if r := c.must(); !r.Fresh {
			t.Errorf("%s: %+v", file, r)
		}
		if v, damaged := c.verify(true); v.Error != "" || v.Damaged != 0 {
			t.Errorf("%s: after the next run: %+v %v", file, v, damaged)
		}
	}
	if _, lost, err := c.restore(c.key, t.TempDir()); err != nil || len(lost) > 0 {
		t.Errorf("%v %v", lost, err)
	}
	// Another key opens nothing, and nothing is left behind.
	other, err := target.NewRecovery()
	if err != nil {
		t.Fatal(err)
	}
	state = t.TempDir()
	if _, _, err := c.restore(other, state); problem.KindOf(err) != problem.Invalid {
		t.Errorf("a wrong key: %v", err)
	}
	// Neither is a directory touched that is in use.
	inUse := t.TempDir()
	if err := os.WriteFile(filepath.Join(inUse, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.restore(c.key, inUse); problem.KindOf(err) != problem.Conflict {
		t.Errorf("a directory in use: %v", err)
	}
	if list, err := os.ReadDir(inUse); err != nil || len(list) != 1 {
		t.Error("it was changed")
	}
}

func spoilFile(t *testing.T, name string, at int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func shorten(t *testing.T, name string, to int64) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if to < 0 {
		to += info.Size()
	}
	if err := os.Truncate(name, to); err != nil {
		t.Fatal(err)
	}
}

// Two boxes share one disk, each in its own folder: neither sees, changes or
// removes what is the other's, and a key finds its own.
func TestTwoBoxesOnOneDisk(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	if err := os.WriteFile(filepath.Join(top, "somebody's holiday.jpg"), []byte("sea"), 0o600); err != nil {
		t.Fatal(err)
	}
	var copies []*secondCopy
	for i := range 2 {
		b := daemontest.Start(t)
		ada := b.Bind()
		ada.Grant("storage", "album_backup")
		var storage struct {
			Copy *struct{ Complete, Current bool } `json:"second_copy"`
		}
		ask(ada, "GET", "/v1/storage", "").into(t, &storage)
		if storage.Copy != nil {
			t.Error("a second copy where there is none")
		}
		put(t, ada, "a.jpg", fmt.Sprintf("photo of box %d", i))
		c := addCopy(t, b, top)
		c.must()
		copies = append(copies, c)
		ask(ada, "GET", "/v1/storage", "").into(t, &storage)
		if storage.Copy == nil || !storage.Copy.Complete || !storage.Copy.Current {
			t.Errorf("the page is told of %+v", storage.Copy)
		}
	}
	disk, err := vfs.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for i, c := range copies {
		found, err := target.Find(disk, func(name string) (vfs.FS, error) { return vfs.OpenDir(filepath.Join(top, name)) }, c.key, "")
		if err != nil || target.Folder(found.Identity().Box) != filepath.Base(c.dir) {
			t.Fatalf("box %d: %v", i, err)
		}
		_, err = target.Find(disk, func(name string) (vfs.FS, error) { return vfs.OpenDir(filepath.Join(top, name)) }, c.key, copies[1-i].dir[len(top)+len("/yunbox-"):])
		if problem.KindOf(err) != problem.Invalid {
			t.Errorf("box %d with the key of the other: %v", i, err)
		}
	}
	copies[0].box.Local("DELETE", "/local/backups", map[string]any{"name": copies[0].name, "erase": true}, nil)
	if v, damaged := copies[1].verify(true); v.Error != "" || v.Damaged > 0 {
		t.Errorf("%+v %v", v, damaged)
	}
	if _, err := os.Stat(copies[0].dir); err == nil {
		t.Error("what was erased is there")
	}
	if b, err := os.ReadFile(filepath.Join(top, "somebody's holiday.jpg")); err != nil || string(b) != "sea" {
		t.Error("another's file was touched")
	}
}

// No box starts on what a restore has not finished.
func TestAHalfRestoredBoxDoesNotStart(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, target.RestoringFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, state); problem.KindOf(err) != problem.Unavailable {
		t.Errorf("%v", err)
	}
	if list, err := os.ReadDir(state); err != nil || len(list) != 1 {
		t.Errorf("something was made there: %v", list)
	}
}
