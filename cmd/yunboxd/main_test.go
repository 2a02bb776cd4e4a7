package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
)

// The test binary is the daemon itself when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("YUNBOXD_TEST_AS_DAEMON") != "" {
		main()
	}
	os.Exit(m.Run())
}

type process struct {
	*exec.Cmd
	url   string
	state string
	log   *logBuffer
	done  chan struct{}
}

// logBuffer collects the daemon's log and hands out the address in it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	url  chan string
}

var address = regexp.MustCompile(`addresses="?\[(https://\S+?)/?[\] ]`)

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(b)
	if m := address.FindSubmatch(l.text.Bytes()); m != nil {
		select {
		case l.url <- string(m[1]):
		default:
		}
	}
	return n, err
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func command(t *testing.T, args ...string) (*exec.Cmd, *logBuffer) {
	t.Helper()
	log := &logBuffer{url: make(chan string, 1)}
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), "YUNBOXD_TEST_AS_DAEMON=1")
	c.Stderr = log
	return c, log
}

func start(t *testing.T, state string, env ...string) *process {
	t.Helper()
	return startAs(t, state, nil, env...)
}

// startAs is start with attributes of the process.
func startAs(t *testing.T, state string, attr *syscall.SysProcAttr, env ...string) *process {
	t.Helper()
	c, log := command(t, "--state", state, "--https", "127.0.0.1:0", "--mdns=off")
	c.Env, c.SysProcAttr = append(c.Env, env...), attr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: c, state: state, log: log, done: make(chan struct{})}
	go func() { c.Wait(); close(p.done) }()
	t.Cleanup(func() { c.Process.Kill(); <-p.done })
	select {
	case p.url = <-log.url:
	case <-p.done:
		t.Fatalf("the daemon ended: %s", log)
	case <-time.After(3 * time.Minute):
		t.Fatalf("the daemon is not ready after three minutes: %s", log)
	}
	return p
}

func (p *process) end(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(3 * time.Minute):
		t.Fatalf("still running three minutes after %v: %s", sig, p.log)
	}
	return p.ProcessState.ExitCode()
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	// The daemon's key is not the matter of these tests, and it is on this machine.
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, r.Status, b, err)
	}
	return b
}

func TestSIGTERMEndsWithZeroAndTheSameBoxComesBack(t *testing.T) { // R01 R31
	state := t.TempDir()
	identity := func(p *process) string {
		var about struct{ ID, Fingerprint string }
		if err := json.Unmarshal(get(t, p.url+"/.well-known/yunbox"), &about); err != nil || about.Fingerprint == "" {
			t.Fatal(err)
		}
		return about.ID + about.Fingerprint
	}
	p := start(t, state)
	first := identity(p)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.log)
	}
	if _, err := os.Lstat(filepath.Join(state, "run", "yunboxd.sock")); err == nil {
		t.Error("the socket was left behind")
	}
	p = start(t, state)
	if identity(p) != first {
		t.Error("another identity after a restart")
	}
	p.end(t, syscall.SIGKILL)
	p = start(t, state) // the socket of the killed daemon is in the way
	if identity(p) != first {
		t.Error("another identity after kill -9")
	}
}

func TestSecondDaemonIsRefusedAndTheFirstGoesOn(t *testing.T) {
	state := t.TempDir()
	p := start(t, state)
	c, log := command(t, "--state", state, "--https", "127.0.0.1:0", "--mdns=off")
	c.Run()
	if code := c.ProcessState.ExitCode(); code != problem.ExitLocked {
		t.Errorf("exit code %d: %s", code, log)
	}
	if !strings.Contains(log.String(), "--state") {
		t.Errorf("no word about what to do: %s", log)
	}
	get(t, p.url+"/healthz")
	conn, err := net.Dial("unix", filepath.Join(state, "run", "yunboxd.sock"))
	if err != nil {
		t.Fatalf("the second daemon took the first one's socket: %v", err)
	}
	conn.Close()
}

func TestReadyIsSaidToTheServiceManager(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said := make(chan string, 4)
	go func() {
		defer close(said)
		for b := make([]byte, 100); ; {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	p := start(t, t.TempDir(), "NOTIFY_SOCKET="+name)
	if s := <-said; s != "READY=1" {
		t.Fatalf("said %q", s)
	}
	p.end(t, syscall.SIGTERM)
	if s := <-said; s != "STOPPING=1" {
		t.Fatalf("said %q", s)
	}
}

func TestMisuseIsAUsageError(t *testing.T) {
	for want, args := range map[string][]string{
		"unknown flag": {"--colour"},
		"not a settin": {"start"},
		"HOST:PORT":    {"--https", "nonsense"},
		"ftp-ports":    {"--ftp-ports", "all"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != problem.ExitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--version"}, &out, io.Discard); code != 0 || !strings.HasPrefix(out.String(), "yunboxd ") {
		t.Errorf("%d %s", code, &out)
	}
}

func TestAddressInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var stderr bytes.Buffer
	code := run(context.Background(), []string{"--state", t.TempDir(), "--https", l.Addr().String(), "--mdns=off"}, io.Discard, &stderr)
	if code != problem.ExitFailed || !strings.Contains(stderr.String(), "address already in use") {
		t.Errorf("%d: %s", code, &stderr)
	}
}
