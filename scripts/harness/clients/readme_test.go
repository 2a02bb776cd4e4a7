package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadme does what the README says, in its order, on the box that its first
// command starts. The commands are cut out of the README itself.
func TestReadme(t *testing.T) { // R01 R02 R05 R06 R13 R35
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	place, err := os.MkdirTemp("", "readme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(place); err != nil {
			t.Error(err)
		}
	})
	project, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	pictures := filepath.Join(place, "Pictures")
	for _, dir := range []string{pictures, filepath.Join(place, "var")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		file, _ := content(t, int64(50_000+i))
		if err := os.Rename(file, filepath.Join(pictures, fmt.Sprintf("IMG_%04d.jpg", i))); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"photo.jpg": filepath.Join(pictures, "IMG_0002.jpg"), "var/bin": filepath.Join(project, "var", "bin")} {
		if err := os.Symlink(target, filepath.Join(place, name)); err != nil {
			t.Fatal(err)
		}
	}
	box := startScript(t, place, pictures)
	port := regexp.MustCompile(`https://127\.0\.0\.1:(\d+)/`).FindStringSubmatch(box.out.String())[1]

	run := func(heading string, status int, wants ...string) {
		t.Helper()
		script := block(t, string(text), heading)
		script = strings.ReplaceAll(script, ":8443/", ":"+port+"/")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		// The last command's status is the block's; those before must not fail.
		cmd := exec.CommandContext(ctx, "bash", "-e", "-O", "expand_aliases", "-c", script)
		cmd.Dir = place
		cmd.Env = append(os.Environ(), "HOME="+place)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("%s: exit code %d, want %d: %v\n%s\n%s", heading, got, status, err, script, out)
		}
		for _, want := range wants {
			if !regexp.MustCompile(want).Match(out) {
				t.Errorf("%s: the output has no %s:\n%s", heading, want, out)
			}
		}
	}
	run("**3.", 1, `damaged`) // the promise is that it is found
	box.stop(t)
	box = startScript(t, place, pictures) // "send the file again"
	port = regexp.MustCompile(`https://127\.0\.0\.1:(\d+)/`).FindStringSubmatch(box.out.String())[1]
	run("**4.", 0)
	run("**5.", 4, `Consent to wechat_backup is needed`, `yunboxctl consent grant wechat_backup`)
	run("`yunboxctl` maintains", 0, `all safe: 3 files`, `IMG_0001\.jpg`, `fingerprint`, `audit record is whole`)
	run("Any HTTP client", 0, `"path":"from curl/photo.jpg"`, `"stored":"known"`)
	box.stop(t)
}

// block is the first indented block after the paragraph that starts with heading.
func block(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+heading)
	if !found {
		t.Fatalf("the README has no paragraph %q", heading)
	}
	var lines []string
	for line := range strings.Lines(rest) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, code)
		} else if len(lines) > 0 && strings.TrimSpace(line) != "" {
			break
		}
	}
	return strings.Join(lines, "")
}
