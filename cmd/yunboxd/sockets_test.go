package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
)

// passing starts a daemon the way systemd does: with sockets from 3 on, and the pid of
// the very process.
func passing(t *testing.T, state string, files []*os.File, names string, env ...string) *process {
	t.Helper()
	inner, log := command(t, "--state", state, "--https", "socket", "--mdns=off")
	// The pid is known only to the shell that becomes the daemon.
	inner.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, append([]string{os.Args[0]}, inner.Args[1:]...)...)
	inner.Path = "/bin/sh"
	inner.ExtraFiles = files
	inner.Env = append(append(inner.Env, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+names), env...)
	if err := inner.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: inner, state: state, log: log, done: make(chan struct{})}
	go func() { inner.Wait(); close(p.done) }()
	t.Cleanup(func() { inner.Process.Kill(); <-p.done })
	select {
	case p.url = <-log.url:
	case <-p.done:
	case <-time.After(3 * time.Minute):
		t.Fatalf("the daemon is not ready after three minutes: %s", log)
	}
	return p
}

func socket(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

// The service manager's sockets outlive the daemon: whoever calls in between waits, and
// is answered by the next one. HTTP that is off only points to HTTPS.
func TestSocketsOfTheServiceManagerAreUsed(t *testing.T) {
	state := t.TempDir()
	https, at := socket(t)
	plain, plainAt := socket(t)
	p := passing(t, state, []*os.File{https, plain}, "https:http")
	if p.url != "https://"+at {
		t.Fatalf("it answers at %q, the socket is at %s: %s", p.url, at, p.log)
	}
	get(t, p.url+"/healthz")
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]string{"/": "https://" + at + "/", "/v1/session": ""} {
		r, err := stay.Get("http://" + plainAt + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := r.Header.Get("Location"); got != want || want == "" && r.StatusCode/100 != 4 {
			t.Errorf("%s: %s to %q", path, r.Status, got)
		}
	}
	p.end(t, syscall.SIGTERM)

	answer := make(chan error, 1)
	c, err := net.Dial("tcp", at) // nobody is there
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, err := fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n") // not TLS: any answer will do
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		answer <- err
	}()
	passing(t, state, []*os.File{https}, "https")
	if err := <-answer; err != nil {
		t.Errorf("who waited was not answered: %v", err)
	}
}

// Whoever calls while the box is restarted, on a connection of its own, waits a moment: nobody is
// refused or cut off.
func TestARestartCutsNobodyOff(t *testing.T) {
	state := t.TempDir()
	https, at := socket(t)
	p := passing(t, state, []*os.File{https}, "https")
	c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the key is not the matter of this test
	}}
	var callers sync.WaitGroup
	enough := make(chan struct{})
	failed := make(chan error, 8)
	var answered atomic.Int32
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
				r, err := c.Get("https://" + at + "/.well-known/yunbox")
				if err != nil {
					failed <- err
					return
				}
				r.Body.Close()
				answered.Add(1)
			}
		})
	}
	for range 3 {
		for before := answered.Load(); answered.Load() < before+20 && len(failed) == 0; {
			time.Sleep(time.Millisecond)
		}
		p.end(t, syscall.SIGTERM)
		p = passing(t, state, []*os.File{https}, "https")
	}
	close(enough)
	callers.Wait()
	if len(failed) > 0 {
		t.Errorf("%d of 8 callers were not answered; one: %v", len(failed), <-failed)
	}
}

func TestNoSocketsWhereTheyAreSetIsFatal(t *testing.T) {
	p := passing(t, t.TempDir(), nil, "")
	<-p.done
	if code := p.ProcessState.ExitCode(); code != problem.ExitUnreachable || !strings.Contains(p.log.String(), "yunboxd.socket") {
		t.Errorf("%d: %s", code, p.log)
	}
}

// The watchdog is fed by a box that answers, without a byte for the disk, and not by one
// that hangs.
func TestTheWatchdogIsFedByABoxThatAnswers(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var attr *syscall.SysProcAttr
	if os.Geteuid() == 0 { // the box hears of every mount, and other tests make some
		attr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	p := startAs(t, t.TempDir(), attr, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=1500000", "YUNBOX_FTP=127.0.0.1:0", "YUNBOX_HTTP=127.0.0.1:0")
	pings := func(n int) {
		t.Helper()
		for b := make([]byte, 100); n > 0; {
			if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			m, err := l.Read(b)
			if err != nil {
				t.Fatalf("no ping: %v\n%s", err, p.log)
			}
			if string(b[:m]) == "WATCHDOG=1" {
				n--
			}
		}
	}
	pings(1)
	var written []int64
	for range 15 {
		before := doings(t, p.Process.Pid).written
		pings(3)
		written = append(written, doings(t, p.Process.Pid).written-before)
		if written[len(written)-1] == 0 {
			break
		}
	}
	if written[len(written)-1] != 0 {
		t.Errorf("feeding it cost these bytes on the disk: %v", written)
	}
}
