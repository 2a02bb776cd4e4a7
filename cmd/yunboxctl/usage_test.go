package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"yunbox.local/daemon/problem"
)

// What is called in a wrong way says how it is called, and ends with 2: a script must not
// take a mistyped command for one that went well.
func TestWhatIsCalledInAWrongWaySaysHow(t *testing.T) {
	for args, want := range map[string]string{
		"nosuch":                   `unknown command "nosuch" for "yunboxctl"`,
		"audit nosuch":             `unknown command "nosuch" for "yunboxctl audit"`,
		"backup verfy":             `unknown command "verfy" for "yunboxctl backup"; did you mean verify?`,
		"--state x backup -- verf": `unknown command "verf" for "yunboxctl backup"`,
		"status extra":             "yunboxctl status does not take \"extra\"\nusage: yunboxctl status",
		"user quota ada":           "something is missing\nusage: yunboxctl user quota NAME SIZE|none",
		"user quota":               "something is missing\nusage: yunboxctl user quota NAME SIZE|none",
		"user quota ada 1 2":       `yunboxctl user quota does not take "ada" "1" "2"`,
		"status --nosuch":          "unknown flag: --nosuch",
		"wait --timeout -1s":       "--timeout must be more than 0s",
		"security-log --limit 0":   "--limit is between 1 and 1000",
	} {
		var out, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), strings.NewReader(""), &out, &stderr); code != problem.ExitUsage || !strings.Contains(stderr.String(), want) || out.Len() > 0 {
			t.Errorf("%s: %d, %s, %s", args, code, &out, &stderr)
		}
		stderr.Reset()
		var e struct {
			Error struct {
				Exit  int    `json:"exit"`
				Title string `json:"title"`
			} `json:"error"`
		}
		code := run(t.Context(), append([]string{"--json"}, strings.Fields(args)...), strings.NewReader(""), &out, &stderr)
		if err := json.Unmarshal(stderr.Bytes(), &e); err != nil || code != e.Error.Exit || code != problem.ExitUsage || !strings.Contains(e.Error.Title, want) {
			t.Errorf("%s --json: %d, %v, %s", args, code, err, &stderr)
		}
	}
	for _, args := range []string{"", "audit", "audit --help", "help audit", "audit nosuch --help", "--state x audit", "__complete audit ver"} {
		var out, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), strings.NewReader(""), &out, &stderr); code != 0 || out.Len() == 0 {
			t.Errorf("%q: %d, %s", args, code, &stderr)
		}
	}
}

// Help fits a screen's width, and no option seems to take what it does not.
func TestHelpCanBeRead(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, line := range strings.Split(c.Short+"\n"+c.Long, "\n") {
			if widthOf(line) > 100 && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), widthOf(line), line)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if value, usage := pflag.UnquoteUsage(f); strings.ContainsAny(value, " -") || usage == "" {
				t.Errorf("%s --%s %s: %s", c.CommandPath(), f.Name, value, usage)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
	if text := manual((&app{}).root()); !strings.Contains(text, `how many entries (default 20)`) || strings.Contains(text, "(default false)") {
		t.Error("the manual page does not say what options are by default")
	}
}

// On a terminal that is narrower than any, nothing that has to be read or copied is cut.
func TestNarrowTerminals(t *testing.T) {
	var s boxStatus
	s.Name, s.Version, s.Fingerprint = "云盒子的很长很长的名字很长很长", "0.1.0", "4jyJ9hbFCDWenZqW7ZCBL8gFgh63LpR_XlDarJO3xzE"
	s.Addresses = []string{"https://yunbox-e23c.local:8443/"}
	s.Volume.OK = true
	attention := s.attention(time.Now())
	for _, width := range []int{21, 40, 79} {
		var b, findings bytes.Buffer
		x := screen{w: &b, width: width, height: 24, terminal: true}
		s.draw(x, attention, time.Now())
		x.w = &findings
		tell(x, attention)
		for _, line := range strings.Split(b.String()+findings.String(), "\n") {
			if widthOf(line) > width {
				t.Errorf("%d columns of %d: %s", widthOf(line), width, line)
			}
		}
		all := strings.Join(strings.Fields(b.String()), "")
		for _, want := range []string{s.Fingerprint, s.Addresses[0], "looking after", "`yunboxctl label` shows what its owner needs."} {
			if !strings.Contains(all, strings.ReplaceAll(want, " ", "")) {
				t.Errorf("%d columns: %q is cut:\n%s", width, want, &b)
			}
		}
	}
	if got := wrap("云盒子云盒子 ab", 5); strings.Join(got, "|") != "云盒|子云|盒子|ab" {
		t.Errorf("%q", got)
	}
	if got := wrap("abcdefgh ij", 4); strings.Join(got, "|") != "abcd|efgh|ij" {
		t.Errorf("%q", got)
	}
	var b bytes.Buffer
	columns(&b, [][]string{{"云盒", "x"}, {"abcdef", "y"}})
	if b.String() != "云盒    x\nabcdef  y\n" {
		t.Errorf("%q", b.String())
	}
}

// Without a name the package's settings are checked, or what is missing is said.
func TestWhichSettingsAreChecked(t *testing.T) {
	if _, err := os.Stat(settingsFile); err == nil {
		t.Skip("there is a package here")
	}
	var out, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--state", t.TempDir(), "config", "check"}, strings.NewReader(""), &out, &stderr); code != problem.ExitUsage || !strings.Contains(stderr.String(), settingsFile) {
		t.Errorf("%d, %s", code, &stderr)
	}
	file := filepath.Join(t.TempDir(), "some.toml")
	if err := os.WriteFile(file, []byte("mdns = \"off\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"config", "check", file}, strings.NewReader(""), &out, &stderr); code != 0 || !strings.Contains(out.String(), "makes sense: 1 setting\n") {
		t.Errorf("%d, %s %s", code, &out, &stderr)
	}
}
