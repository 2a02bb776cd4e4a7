package api

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// R34: the kernel says who connected; neither the socket's mode nor anything
// that the peer sends decides.
func TestOnlyRootAndTheDaemonAreTrusted(t *testing.T) {
	dir, err := os.MkdirTemp("", "peer") // t.TempDir's own parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, p := range []string{dir, path} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if !trusted(t, ln, path, os.Geteuid()) {
		t.Error("the daemon's own user is refused")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can pretend to be somebody else")
	}
	if trusted(t, ln, path, 65534) {
		t.Error("nobody is trusted")
	}
}

// trusted has a thread of its own connect as uid.
func trusted(t *testing.T, ln net.Listener, path string, uid int) bool {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its user with it. The
		// raw call changes this thread only.
		runtime.LockOSThread()
		var err error
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno
		}
		if err == nil {
			var c net.Conn
			if c, err = net.Dial("unix", path); err == nil {
				err = c.Close()
			}
		}
		if failed <- err; err != nil {
			ln.Close() // nobody will come
		}
	}()
	c, err := ln.Accept()
	if why := <-failed; err != nil || why != nil {
		t.Fatal(err, why)
	}
	defer c.Close()
	return trustedPeer(c)
}
