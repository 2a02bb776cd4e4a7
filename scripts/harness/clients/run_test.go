package clients

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestRunScript runs the README's first command twice, as a newcomer does.
func TestRunScript(t *testing.T) { // R01 R03 R05 R13
	place, err := os.MkdirTemp("", "run") // short: the path of a socket goes below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(place); err != nil {
			t.Error(err)
		}
	})
	photos := filepath.Join(place, "my photos")
	for name, content := range map[string]string{
		"IMG_1.jpg": "one", "春节/IMG_2.jpg": "two", "copy of IMG_1.jpg": "one", "empty.txt": "",
	} {
		path := filepath.Join(photos, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first := runScript(t, place, photos)
	for _, want := range []string{
		`(?m)^ +https://127\.0\.0\.1:\d+/$`, `(?m)^serial +\S{14}$`, `(?m)^code +\d{8}$`, `yunbox://pair\?v=1&`, `█`,
		`(?m)^Password, shown only now: \w{24} `, `granted: album_backup`, `all safe: 4 files`, `sent +3 `, `duplicates +1\b`, `the box has stopped`,
	} {
		if !regexp.MustCompile(want).MatchString(first) {
			t.Errorf("the first run does not show %s:\n%s", want, first)
		}
	}
	for name, mode := range map[string]os.FileMode{"demo": 0o700 | os.ModeDir, "demo/password": 0o600, "demo/profile.json": 0o600} {
		if info, err := os.Stat(filepath.Join(place, "var", name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", name, info, err, mode)
		}
	}
	second := runScript(t, place, photos)
	for _, want := range []string{`already there +4\b`, `sent +0 `, `the box has stopped`} {
		if !regexp.MustCompile(want).MatchString(second) {
			t.Errorf("the second run does not show %s:\n%s", want, second)
		}
	}
	serial := regexp.MustCompile(`(?m)^serial .*$`)
	if a, b := serial.FindString(first), serial.FindString(second); a != b {
		t.Errorf("the second run shows another box: %q, then %q", a, b)
	}
}

// runScript runs scripts/run until it stands, presses Ctrl-C, and gives all that it printed.
func runScript(t *testing.T, place, photos string) string {
	t.Helper()
	s := startScript(t, place, photos)
	s.stop(t)
	return s.out.String()
}

// script is a running scripts/run.
type script struct {
	cmd   *exec.Cmd
	out   output
	ended chan error
}

// startScript runs scripts/run with all its state below place/var until the box
// stands and the folder is backed up.
func startScript(t *testing.T, place, photos string) *script {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it builds first
	s := &script{cmd: exec.CommandContext(ctx, "../../run", photos), ended: make(chan error, 1)}
	s.cmd.Env = append(os.Environ(), "YUNBOX_VAR="+filepath.Join(place, "var"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if s.cmd.ProcessState == nil { // a failed test left it running
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	go func() { s.ended <- s.cmd.Wait() }()
	for !strings.Contains(s.out.String(), "Ctrl-C stops the box") {
		select {
		case err := <-s.ended:
			t.Fatalf("it ended by itself: %v\n%s", err, s.out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return s
}

// stop presses Ctrl-C: a terminal tells the whole process group.
func (s *script) stop(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("after Ctrl-C: %v\n%s", err, s.out.String())
	}
}

// output may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
