package duplicates_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

type done struct {
	Event string `json:"event"`
	Scan  *struct {
		Same      int64 `json:"same"`
		ReadFiles int64 `json:"read_files"`
	} `json:"scan"`
	Folded *struct {
		Done int64 `json:"done"`
		Left struct {
			N int64 `json:"n"`
		} `json:"left"`
	} `json:"folded"`
	Undo *struct {
		Done int64 `json:"done"`
	} `json:"undo"`
	Failed *struct {
		Kind    string         `json:"kind"`
		Members map[string]any `json:"members"`
	} `json:"failed"`
}

// task has the administrator do something for ada, and returns its end.
func task(t *testing.T, box *daemontest.Box, verb string, body map[string]any) (d done) {
	t.Helper()
	body["user"] = "ada"
	lines := box.LocalLines("POST", "/local/dedup/"+verb, body)
	if err := json.Unmarshal(lines[len(lines)-1], &d); err != nil || d.Event != "done" {
		t.Fatalf("%s ends with %s, %v", verb, lines[len(lines)-1], err)
	}
	return d
}

// many makes a folder of equal files.
func many(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		name := filepath.Join(dir, fmt.Sprint("d", i%10), fmt.Sprint(i))
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte("the same"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func count(t *testing.T, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, e := os.ReadFile(path)
			if files++; e != nil || string(b) != "the same" {
				t.Errorf("%s: %q %v", path, b, e)
			}
			if strings.Contains(path, ".yunbox-dedup-") {
				t.Errorf("%s is left", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Withdrawing the consent stops what runs, between two files; given again, it goes on
// from there, and all of it can be taken back. R22
func TestWithdrawalStopsFolding(t *testing.T) {
	box := daemontest.Start(t)
	ada := box.Bind()
	ada.Grant("storage")
	dir := many(t, 600)
	ada.Grant("file_dedup")
	task(t, box, "plan", map[string]any{"path": dir, "action": "trash"})
	ended := make(chan done)
	go func() { ended <- task(t, box, "apply", map[string]any{"path": dir}) }()
	for {
		if list, _ := filepath.Glob(filepath.Join(dir, ".yunbox-trash", "*", "*", "*")); len(list) > 3 {
			break // it is at work
		}
	}
	ada.Withdraw("file_dedup")
	d := <-ended
	if d.Failed == nil || d.Failed.Kind != "consent-required" || d.Failed.Members["purpose"] != "file_dedup" {
		t.Fatalf("%+v", d)
	}
	if n := count(t, dir); n != 600 {
		t.Errorf("%d files", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "d0")); err != nil {
		t.Error(err)
	}
	ada.Grant("file_dedup")
	if d := task(t, box, "apply", map[string]any{"path": dir}); d.Folded == nil || d.Folded.Done != 599 || d.Folded.Left.N != 0 {
		t.Errorf("%+v", d.Folded)
	}
	ada.Withdraw("file_dedup") // not needed to have one's files back
	if d := task(t, box, "undo", map[string]any{"path": dir}); d.Undo == nil || d.Undo.Done != 599 {
		t.Errorf("%+v", d.Undo)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".yunbox-trash")); err != nil {
		t.Fatal(err)
	}
	if n := count(t, dir); n != 600 {
		t.Errorf("%d files after undo", n)
	}
}

// Nobody has a folder looked through that is not watched for them, and no answer tells
// what there is. R20
func TestPeopleSeeTheirFoldersOnly(t *testing.T) {
	box := daemontest.Start(t)
	ada := box.Bind()
	ada.Grant("storage", "file_dedup")
	bob := box.AddPerson("bob")
	bob.Grant("storage", "file_dedup")
	dir := many(t, 3)
	box.Local("POST", "/local/inboxes", map[string]any{"path": dir, "user": "ada"}, nil)
	ask := func(p *daemontest.Person, path string) (int, string) {
		r := p.Request("POST", "/v1/duplicates/scan", strings.NewReader(fmt.Sprintf(`{"path":%q,"groups":true}`, path)))
		r.Header.Set("Content-Type", "application/json")
		status, _, body := p.Do(r)
		return status, string(body)
	}
	if status, body := ask(ada, dir); status != http.StatusOK || !strings.Contains(body, `"same":2`) {
		t.Errorf("%d %s", status, body)
	}
	for _, path := range []string{dir, filepath.Dir(dir), filepath.Join(dir, ".."), "/etc", "/nowhere", box.State} {
		status, body := ask(bob, path)
		nowhere, same := ask(bob, "/nowhere/at/all")
		if status != http.StatusForbidden || status != nowhere || body != same {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	ada.Withdraw("file_dedup")
	if status, body := ask(ada, dir); status != http.StatusForbidden || !strings.Contains(body, "consent-required") {
		t.Errorf("%d %s", status, body)
	}
	nobody := box.Nobody()
	if status, _ := ask(nobody, dir); status != http.StatusUnauthorized {
		t.Errorf("nobody: %d", status)
	}
}
