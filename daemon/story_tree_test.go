package daemon_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
)

// mounted makes a file system in a file and mounts it, for who may.
func mounted(t *testing.T, kind string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		t.Skipf("there is no mkfs.%s", kind)
	}
	dir, err := os.MkdirTemp("/dev/shm", "yunbox-test-") // syncs cost nothing there
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 400<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.%s: %s", kind, out)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, at).CombinedOutput(); err != nil {
		t.Skipf("%s cannot be mounted here: %s", kind, out)
	}
	t.Cleanup(func() {
		// A program that another test starts holds every descriptor for a moment.
		for n := 0; ; n++ {
			out, err := exec.Command("umount", at).CombinedOutput()
			if err == nil {
				return
			}
			if n == 600 {
				t.Errorf("umount: %s", out)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	return at
}

func usedOf(t *testing.T, dir string) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * int64(st.Bsize) //nolint:unconvert // it is shorter on some architectures
}

// view is what a folder holds, lists left out: contents by name.
func view(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == ".yunbox" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || d.Name() == "SHA256SUMS" {
			return ignoreAbsent(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		m[name] = string(b)
		return ignoreAbsent(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ignoreAbsent(err error) error { // it is being renamed
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// shows waits until the view has just these files, and sha256sum agrees.
func shows(t *testing.T, b *daemontest.Box, want map[string]string) {
	t.Helper()
	dir := filepath.Join(b.State, "tree")
	sums := func() error {
		for name := range want {
			user, _, _ := strings.Cut(name, "/")
			c := exec.Command("sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS")
			c.Dir = filepath.Join(dir, user)
			if out, err := c.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %s", user, out)
			}
			list, err := os.ReadFile(filepath.Join(dir, user, "SHA256SUMS"))
			if err != nil {
				return err
			}
			n := 0
			for name := range want {
				if strings.HasPrefix(name, user+"/") {
					n++
				}
			}
			if strings.Count(string(list), "\n") != n {
				return fmt.Errorf("%s: %d files are not\n%s", user, n, list)
			}
		}
		return nil
	}
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got := view(t, dir)
		err := sums()
		if err == nil && maps.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			for name := range got {
				if got[name] != want[name] {
					t.Errorf("%s is shown", name)
				}
			}
			for name := range want {
				if _, ok := got[name]; !ok {
					t.Errorf("%s is not shown", name)
				}
			}
			t.Fatal(err)
		}
	}
}

// The disk can be read with ls, cp and sha256sum, and whatever root writes there, the
// contents stay what they are: on file systems that share storage and on one that
// does not.
func TestReadableView(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			state := filepath.Join(mounted(t, kind), "state")
			b := daemontest.StartWith(t, state, nil, func(c *config.Config) { c.Tree = "auto" })
			ada := b.Bind()
			ada.Grant("album_backup", "storage")
			bob := b.AddPerson("Bob B.x")
			bob.Grant("album_backup")

			large := strings.Repeat("a film of eight megabytes\n", 8<<20/26)
			want := map[string]string{
				"ada/Ferien 2019/Ägypten/IMG_1.jpg": "one", "ada/Ferien 2019/img_1.JPG": "two", "ada/Ferien 2019/IMG_1.JPG": "three",
				"ada/照片/-rf *;$(x)'\".jpg": "four", `ada/back\slash.jpg`: "five", "ada/%SHA256SUMS": "six", "ada/same.jpg": "four",
				"Bob B.x/same.jpg": "four", "ada/film.mp4": large,
			}
			for name, content := range want {
				person, p := ada, strings.TrimPrefix(name, "ada/")
				if person2, rest, _ := strings.Cut(name, "/"); person2 != "ada" {
					person, p = bob, rest
				}
				var parts []string
				for part := range strings.SplitSeq(strings.TrimPrefix(p, "%"), "/") {
					parts = append(parts, escaped(part))
				}
				put(t, person, strings.Join(parts, "/"), content)
			}
			if r := ask(ada, "PUT", "/v1/files/dated.jpg?source=album&mtime=1234567890.123", "dated"); r.status != 201 {
				t.Fatal(r)
			}
			want["ada/dated.jpg"] = "dated"
			shows(t, b, want)
			dir := filepath.Join(b.State, "tree")
			at := time.UnixMilli(1234567890123)
			if info, err := os.Stat(dir + "/ada/dated.jpg"); err != nil || !info.ModTime().Equal(at) {
				t.Error(info, err)
			}
			if kind != "ext4" {
				was := usedOf(t, b.State)
				b.LocalLines("POST", "/local/tree/rebuild", map[string]any{})
				if now := usedOf(t, b.State); now > was+4<<20 {
					t.Errorf("the view takes %d bytes", now-was)
				}
			}

			blob := func(content string) string {
				sum := sumOf(content)
				return filepath.Join(b.State, "blobs", sum[:2], sum)
			}
			for name, content := range want {
				writeThrough(t, filepath.Join(dir, name), blob(content), content)
			}
			checked := func(path string) (e struct{ Damaged, Wrong, Strange int }) {
				lines := b.LocalLines("POST", path, map[string]any{"deep": true})
				if err := json.Unmarshal(lines[len(lines)-1], &e); err != nil {
					t.Fatal(err)
				}
				return e
			}
			if e := checked("/local/check"); e.Damaged != 0 {
				t.Errorf("%d contents are damaged", e.Damaged)
			}
			if e := checked("/local/tree/check"); e.Wrong != len(want) {
				t.Errorf("%+v", e)
			}
			b.LocalLines("POST", "/local/tree/rebuild", map[string]any{})
			shows(t, b, want)
			if e := checked("/local/tree/check"); e.Wrong != 0 || e.Strange != 0 {
				t.Errorf("after the rebuild %+v", e)
			}

			// Another content, another name, another folder.
			put(t, ada, "same.jpg", "four, edited")
			want["ada/same.jpg"] = "four, edited"
			if r := ask(ada, "MKCOL", "/dav/Neu/", ""); r.status != 201 {
				t.Fatal(r)
			}
			for from, to := range map[string]string{"dated.jpg": "Neu/umbenannt.jpg", "Ferien%202019": "Urlaub"} {
				if r := ask(ada, "MOVE", "/dav/"+from, "", "Destination", b.URL+"/dav/"+to); r.status/100 != 2 {
					t.Fatal(from, r)
				}
			}
			for name, content := range maps.Clone(want) {
				if rest, ok := strings.CutPrefix(name, "ada/Ferien 2019/"); ok {
					delete(want, name)
					want["ada/Urlaub/"+rest] = content
				}
			}
			delete(want, "ada/dated.jpg")
			want["ada/Neu/umbenannt.jpg"] = "dated"
			shows(t, b, want)

			// A stopped box: copies have names, contents and times.
			b.Stop()
			to := t.TempDir()
			if out, err := exec.Command("cp", "-a", dir+"/ada", to).CombinedOutput(); err != nil {
				t.Fatalf("cp: %s", out)
			}
			for name, content := range want {
				if rest, ok := strings.CutPrefix(name, "ada/"); ok && view(t, to+"/ada")[rest] != content {
					t.Errorf("%s was not copied", name)
				}
			}
			if info, err := os.Stat(to + "/ada/Neu/umbenannt.jpg"); err != nil || !info.ModTime().Equal(at) {
				t.Error(info, err)
			}
			b.Restart()

			// What is deleted leaves, first the name and then the content.
			var item struct{ ID string }
			if err := json.Unmarshal([]byte(ask(ada, "PUT", "/v1/files/secret.jpg?source=album", "nobody is to see this").body), &item); err != nil {
				t.Fatal(err)
			}
			want["ada/secret.jpg"] = "nobody is to see this"
			shows(t, b, want)
			if r := ask(ada, "DELETE", "/v1/files/secret.jpg", ""); r.status/100 != 2 {
				t.Fatal(r)
			}
			if r := ask(ada, "DELETE", "/v1/items/"+item.ID, ""); r.status/100 != 2 {
				t.Fatal(r)
			}
			for gone := false; !gone; time.Sleep(5 * time.Millisecond) {
				_, err := os.Stat(blob("nobody is to see this"))
				gone = os.IsNotExist(err)
				if _, shown := view(t, dir)["ada/secret.jpg"]; gone && shown {
					t.Error("the view shows a content that is gone")
				}
			}
			delete(want, "ada/secret.jpg")
			shows(t, b, want)
		})
	}
}

func escaped(part string) string {
	var b strings.Builder
	for _, c := range []byte(part) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// writeThrough does as root what an editor may do to a file of the view, and looks
// whether the content has noticed.
func writeThrough(t *testing.T, name, blob, content string) {
	t.Helper()
	before, err := os.Stat(blob)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := os.Lstat(name)
	if err != nil || !shown.Mode().IsRegular() || os.SameFile(before, shown) {
		t.Fatalf("%s: %v %v", name, shown, err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0) // the mode forbids it, but not to root
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m {
		m[i] ^= 0xff
	}
	for _, err := range []error{unix.Msync(m, unix.MS_SYNC), unix.Munmap(m)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("edited"), 0); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.Chmod(0o666), f.Truncate(3), os.Chtimes(name, time.Now(), time.Now()), f.Chmod(0o444), f.Sync(), f.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.Stat(blob)
	if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size() {
		t.Errorf("%v instead of %v %v", after, before, err)
	}
	b, err := os.ReadFile(blob)
	if err != nil || string(b) != content {
		t.Errorf("%s was written through (%v)", filepath.Base(name), err)
	}
}
