package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTheJournalIsToldPriorities(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {`<6>level=INFO msg=ready part=a n=1`, `<4>level=WARN msg="a\nb" part=a`, `<3>level=ERROR msg=bad part=a g.x=1`},
		"json": {`<6>{"level":"INFO","msg":"ready","part":"a","n":1}`, `<4>{"level":"WARN","msg":"a\nb","part":"a"}`, `<3>{"level":"ERROR","msg":"bad","part":"a","g":{"x":1}}`},
	} {
		var out bytes.Buffer
		log := newLog(&out, format, true).With("part", "a")
		log.Debug("not said")
		log.Info("ready", "n", 1)
		log.Warn("a\nb")
		log.WithGroup("g").Error("bad", "x", 1)
		if got := strings.Split(strings.TrimSpace(out.String()), "\n"); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %q", format, got)
		}
		out.Reset()
		newLog(&out, format, false).Info("ready")
		if !strings.Contains(out.String(), "time") || strings.HasPrefix(out.String(), "<") {
			t.Errorf("%s, elsewhere: %s", format, out.String())
		}
	}
}

func TestWhatIsTheJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "x": false, "1:": false,
	} {
		if isJournal(f, stream) != want {
			t.Errorf("%q: %v", stream, !want)
		}
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	Log(f, "text").Log(t.Context(), slog.LevelError, "x")
	if text, err := os.ReadFile(f.Name()); err != nil || string(text) != "<3>level=ERROR msg=x\n" {
		t.Errorf("%q, %v", text, err)
	}
}
