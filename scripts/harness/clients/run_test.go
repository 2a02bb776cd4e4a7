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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // it builds first
	defer cancel()
	cmd := exec.CommandContext(ctx, "../../run", photos)
	cmd.Env = append(os.Environ(), "YUNBOX_VAR="+filepath.Join(place, "var"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !strings.Contains(out.String(), "Ctrl-C stops the box") {
		select {
		case err := <-ended:
			t.Fatalf("it ended by itself: %v\n%s", err, out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil { // a terminal tells the whole group
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after Ctrl-C: %v\n%s", err, out.String())
	}
	return out.String()
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
