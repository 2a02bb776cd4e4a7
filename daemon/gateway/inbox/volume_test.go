//go:build linux

package inbox_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/gateway/inbox"
)

// A stick is a file system in a file, plugged in by mounting it.
type stick struct {
	t            *testing.T
	image, place string
}

// newStick makes a file system with the files of a folder.
func newStick(t *testing.T, files string) *stick {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may mount a file system")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4 to make a file system with")
	}
	dir := t.TempDir()
	s := &stick{t: t, image: dir + "/image", place: dir + "/stick"}
	must(t, os.Mkdir(s.place, 0o755))
	must(t, os.WriteFile(s.image, nil, 0o600))
	must(t, os.Truncate(s.image, 24<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", "-d", files, s.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", s.place).Run() })
	s.plug()
	return s
}

func (s *stick) plug() {
	s.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", s.image, s.place).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "loop device") || strings.Contains(string(out), "permission denied") {
			s.t.Skipf("this machine mounts nothing: %s", out)
		}
		s.t.Fatalf("mount: %v: %s", err, out)
	}
}

// unplug unmounts it as a person would who pulls it out with care.
func (s *stick) unplug() {
	s.t.Helper()
	var out []byte
	for range 600 { // a program that another test starts holds every descriptor for a moment
		var err error
		if out, err = exec.Command("umount", s.place).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("the box does not let the stick go: %s", out)
}

// A volume that is away is absent, not empty: what lies in its place is not taken,
// and when it is back nothing is taken twice.
func TestMissingVolume(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	write(t, files+"/a.txt", "a")
	write(t, files+"/sub/b.txt", "b")
	s, w := newStick(t, files), newWorld(t, inbox.Options{})
	w.add(s.place)
	want := map[string]string{"a.txt": "a", "sub/b.txt": "b"}
	w.holds(want)
	offers := w.offers()
	s.unplug()
	w.eventually("it is absent", func() bool { return w.status().State == "absent" })
	if st := w.status(); st.Taken != 2 || st.Reason == nil || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	write(t, s.place+"/stray.txt", "written where no stick was")
	w.looked2()
	w.restart()
	w.eventually("it is absent", func() bool { return w.status().State == "absent" })
	w.holds(want)

	other := newStick(t, t.TempDir()) // another stick in the same place
	other.unplug()
	other.place = s.place
	write(t, files+"/other.txt", "other")
	other.plug()
	write(t, s.place+"/other.txt", "of another stick")
	w.looked2()
	if st := w.status(); st.State != "absent" {
		t.Errorf("another stick passes for it: %+v", st)
	}
	other.unplug()

	s.plug()
	w.eventually("it is back", func() bool { return w.status().State == "watching" })
	write(t, s.place+"/sub/c.txt", "c")
	want["sub/c.txt"] = "c"
	w.holds(want)
	if n := w.offers() - offers; n != 1 {
		t.Errorf("%d files were taken after it came back, one was new", n)
	}
	s.unplug()
	w.eventually("it is absent", func() bool { return w.status().State == "absent" })
}

// looked2 waits for several looks at a volume that is away.
func (w *world) looked2() {
	w.t.Helper()
	for range 3 {
		w.Overflow()
	}
	w.eventually("it was looked for", func() bool { return w.status().State != "scanning" })
}

// A stick that is torn out while it is read: nothing of what it had is kept in
// part, and the rest is taken when it is back.
func TestTornOutInTheMiddle(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	want := map[string]string{}
	for n := range 12 {
		b := make([]byte, 1<<20)
		_, err := io.ReadFull(rand.Reader, b)
		must(t, err)
		name := fmt.Sprintf("DCIM/100APPLE/IMG_%04d.HEIC", n)
		write(t, filepath.Join(files, name), string(b))
		want[name] = string(b)
	}
	s, w := newStick(t, files), newWorld(t, inbox.Options{})
	w.decide(consent.AlbumBackup, false)
	w.add(s.place)
	w.eventually("it waits for the consent", func() bool { return w.status().State == "consent" })
	s.unplug()
	w.eventually("it is absent", func() bool { return w.status().State == "absent" })
	whole, err := os.ReadFile(s.image)
	must(t, err)
	s.plug()
	w.eventually("it is back", func() bool { return w.status().State == "consent" })
	s.tear(t, int64(len(whole)/4))
	w.decide(consent.AlbumBackup, true)
	w.eventually("the box noticed", func() bool {
		st := w.status()
		return st.State == "absent" || st.State == "paused" || st.Failed > 0
	})
	for name, text := range w.kept() {
		if text != want[name] {
			t.Errorf("%s is kept and is not what it was", name)
		}
	}
	t.Logf("%d of %d were taken before; %s", len(w.kept()), len(want), w.status().State)
	exec.Command("umount", "-l", s.place).Run()
	w.eventually("it is absent", func() bool { return w.status().State == "absent" })
	s.image += "-again" // the dead one is still held by the system
	must(t, os.WriteFile(s.image, whole, 0o600))
	s.plug()
	w.eventually("all are taken", func() bool { return len(w.kept()) == len(want) })
	for name, text := range w.kept() {
		if text != want[name] {
			t.Errorf("%s is kept and is not what it was", name)
		}
	}
}

// tear takes the blocks after n away: who reads them gets EIO.
func (s *stick) tear(t *testing.T, n int64) {
	t.Helper()
	must(t, os.Truncate(s.image, n))
	dev, err := os.Open(s.place)
	must(t, err)
	defer dev.Close()
	_ = unix.Syncfs(int(dev.Fd())) // what waited to be written has no place any more
}

// A card with its lock on cannot be marked: it is known by its file system, and
// nothing is written to it.
func TestReadOnlyCard(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	write(t, files+"/DCIM/a.jpg", "a")
	s, w := newStick(t, files), newWorld(t, inbox.Options{})
	if out, err := exec.Command("mount", "-o", "remount,ro", s.place).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.add(s.place, trash)
	w.holds(map[string]string{"DCIM/a.jpg": "a"})
	w.eventually("it is told that the original stays", func() bool {
		st := w.status()
		return st.Failed == 1 && strings.Contains(st.Troubles[0].Reason, "could not be moved")
	})
	offers := w.offers()
	s.unplug()
	w.eventually("it is absent", func() bool { return w.status().State == "absent" })
	s.plug()
	w.eventually("it is back, and unlocked", func() bool {
		_, err := os.Stat(s.place + "/DCIM/a.jpg")
		return os.IsNotExist(err) && w.status().State == "watching"
	})
	if w.offers() != offers {
		t.Error("it was taken again")
	}
	w.holds(map[string]string{"DCIM/a.jpg": "a"})
}
