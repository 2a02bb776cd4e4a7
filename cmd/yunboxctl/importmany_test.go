package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/problem"
)

// R26: whatever becomes of a row of an archive's files, each is taken in once, with its time and
// source, over nothing that is there, and what is refused is counted as what it is.
func TestImportManyToARequest(t *testing.T) {
	f := newForger(t)
	want := map[string]string{}
	for i := range 300 {
		path := fmt.Sprintf("%03d.jpg", i)
		content := strings.Repeat(fmt.Sprint("photo ", i), i)
		if i == 250 {
			content = strings.Repeat("photo 249", 249) // one content under two names
		}
		f.add("file", "files/"+path, path, content)
		f.lines[len(f.lines)-1].MTime = "2024-05-01T10:00:00.000Z"
		want[path] = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	}
	name := filepath.Join(t.TempDir(), "whole.tar")
	if err := os.WriteFile(name, f.archive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, old := range []bool{false, true} {
		heads := map[string]fileAhead{}
		b := &rowBox{t: t, kept: map[string]string{}, alone: map[string]string{}}
		b.head = func(h fileAhead) {
			b.mu.Lock()
			defer b.mu.Unlock()
			heads[h.Path] = h
		}
		b.old = old
		cut := b.cutsTwo()
		b.verdict = func(request int, path, _ string) (string, bool) {
			switch path {
			case "120.jpg":
				return `"problem":{"type":"urn:yunbox:problem:deleted","title":"t"}`, false
			case "130.jpg", "131.jpg": // its name is taken, says the row; the question after it says by what
				return `"problem":{"type":"urn:yunbox:problem:precondition-failed","title":"t"}`, false
			case "140.jpg":
				return `"problem":{"type":"urn:yunbox:problem:invalid","title":"t"}`, false
			}
			return "", cut(request)
		}
		b.taken = map[string]string{"130.jpg": want["130.jpg"], "131.jpg": strings.Repeat("0", 64)}
		srv := httptest.NewServer(b)
		t.Cleanup(srv.Close)
		t.Setenv("YUNBOX_TOKEN", "token")
		var out strings.Builder
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: io.Discard, json: true, box: srv.URL, profile: filepath.Join(t.TempDir(), "none")}
		m := &importer{app: a, jobs: 4, retryFor: time.Minute}
		var err error
		if m.c, err = a.person(t.Context()); err != nil {
			t.Fatal(err)
		}
		var code *codeError
		if err := m.run(t.Context(), name); !errors.As(err, &code) || code.code != problem.ExitPartly {
			t.Errorf("a conflict and a failure end the import with %v", err)
		}
		var sum importSum
		if err := json.Unmarshal([]byte(out.String()), &sum); err != nil {
			t.Fatal(err)
		}
		if old {
			if len(b.kept) != 0 || sum.Stored+sum.Known != 300 || sum.Conflict != 1 {
				t.Errorf("an older box: %d of many, %+v", len(b.kept), sum)
			}
			continue
		}
		if sum.Files != 301 || sum.Stored+sum.Known != 298 || sum.Deleted != 1 || sum.Conflict != 1 || sum.Failed != 1 || sum.Refused != 0 {
			t.Errorf("%+v", sum)
		}
		for path, hash := range want {
			if path != "120.jpg" && path != "130.jpg" && path != "131.jpg" && path != "140.jpg" && b.kept[path] != hash && b.alone[path] != hash {
				t.Errorf("%s is not on the box", path)
			}
		}
		if len(b.kept) < 290 {
			t.Errorf("only %d files came with others", len(b.kept))
		}
		for path, h := range heads {
			if !h.Absent || h.Source != "album" || h.MTime == "" || h.Again {
				t.Errorf("%s is announced as %+v", path, h)
			}
		}
	}
}
