package inbox_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/gateway/inbox"
)

// A box that does not run as root tells of what it may not read, takes the rest,
// and goes by the file system where it may not put its marker. For root nothing
// is unreadable, so the test runs again as somebody else.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		asNobody(t)
		return
	}
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	write(t, dir+"/good.txt", "good")
	write(t, dir+"/closed.txt", "closed")
	write(t, dir+"/locked/in.txt", "locked")
	must(t, os.Chmod(dir+"/closed.txt", 0))
	must(t, os.Chmod(dir+"/locked", 0))
	must(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() {
		os.Chmod(dir, 0o755)
		os.Chmod(dir+"/locked", 0o755)
	})
	w.add(dir, trash)
	w.holds(map[string]string{"good.txt": "good"})
	w.eventually("it is told", func() bool { return w.status().Failed == 3 })
	want := map[string]string{"closed.txt": "permission denied", "good.txt": "could not be moved", "locked": "permission denied"}
	for _, tr := range w.status().Troubles {
		if s := want[tr.Path]; s == "" || !strings.Contains(tr.Reason, s) {
			t.Errorf("%+v", tr)
		}
	}
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(dir+"/closed.txt", 0o644))
	must(t, os.Chmod(dir+"/locked", 0o755))
	w.looked()
	w.holds(map[string]string{"good.txt": "good", "closed.txt": "closed", "locked/in.txt": "locked"})
	w.eventually("all are moved", func() bool {
		_, err := os.Stat(dir + "/good.txt")
		return os.IsNotExist(err) && w.status().Failed == 0
	})
	if err := os.Mkdir(dir+"/none", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(t.Context(), inbox.Wish{Path: dir + "/none", User: "ada"}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a folder that cannot be read is watched: %v", err)
	}
}

// asNobody runs the test of that name again, as a user who owns nothing.
func asNobody(t *testing.T) {
	const nobody = 65534
	home, err := os.MkdirTemp("", "yunbox-nobody-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(home) })
	must(t, os.Chown(home, nobody, nobody))
	program := filepath.Join(home, "test")
	in, err := os.Open("/proc/self/exe")
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	var said []byte
	for { // a program that another test starts has what we wrote open for a moment
		c := exec.Command(program, "-test.run=^"+t.Name()+"$", "-test.v")
		c.Dir, c.Env = home, append(os.Environ(), "TMPDIR="+home, "HOME="+home)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if said, err = c.CombinedOutput(); !errors.Is(err, syscall.ETXTBSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil || !strings.Contains(string(said), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, said)
	}
}
