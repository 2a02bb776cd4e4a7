package daemon_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// Damage on the disk is found, said, never served as good, and mended by whoever
// still has the file.
func TestDamageIsFoundAndMended(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	contents := map[string]string{"flipped": "", "cut": "", "gone": "", "empty": ""}
	blob := func(what string) string {
		sum := sumOf(contents[what])
		return filepath.Join(b.State, "blobs", sum[:2], sum)
	}
	for what := range contents {
		contents[what] = what + strings.Repeat(" the only copy", 30_000)
		put(t, ada, what+".jpg", contents[what])
		if err := os.Chmod(blob(what), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(blob("flipped"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{'!'}, 200_000); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.Close(), os.Truncate(blob("cut"), 1000), os.Remove(blob("gone")), os.Truncate(blob("empty"), 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	known := func() string {
		var question struct {
			SHA256 []string `json:"sha256"`
		}
		for _, c := range contents {
			question.SHA256 = append(question.SHA256, sumOf(c))
		}
		body, err := json.Marshal(question)
		if err != nil {
			t.Fatal(err)
		}
		return string(ask(ada, "POST", "/v1/blobs/known", string(body)).is(t, "known", 200, "").body)
	}
	for what, content := range contents {
		resp, err := b.Client.Do(ada.Request("GET", "/v1/files/"+what+".jpg", nil))
		if err != nil {
			continue // cut off before the header
		}
		if got := readAll(resp); resp.StatusCode == 200 && int64(len(got)) == resp.ContentLength && got != content {
			t.Errorf("%s: %d other bytes were served as the file", what, len(got))
		}
		if resp.StatusCode != 200 && resp.StatusCode != 500 {
			t.Errorf("%s: %s", what, resp.Status)
		}
	}
	found := map[string]bool{}
	for _, line := range b.LocalLines("POST", "/local/check", map[string]any{"deep": true}) {
		var e struct{ Event, SHA256 string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == "damage" {
			found[e.SHA256] = true
		}
	}
	for what, content := range contents {
		if !found[sumOf(content)] {
			t.Errorf("the check did not find what is %s", what)
		}
		if strings.Contains(known(), sumOf(content)) {
			t.Errorf("%s: a phone would be told that it need not send it", what)
		}
	}
	// The phone sends what is not known any more, with or without saying so first.
	for what, content := range contents {
		if r := ask(ada, "PUT", "/v1/files/"+what+".jpg?source=album", content, "Repr-Digest", digestOf(content)); r.status/100 != 2 {
			t.Errorf("%s: %v", what, r)
		}
		if r := ask(ada, "GET", "/v1/files/"+what+".jpg", ""); r.status != 200 || string(r.body) != content {
			t.Errorf("%s was not mended: %d, %d bytes", what, r.status, len(r.body))
		}
	}
	checkDeep(t, b)
}

// readAll returns what comes of a body until it ends or breaks off.
func readAll(resp *http.Response) string {
	defer resp.Body.Close()
	var s strings.Builder
	for p := make([]byte, 32<<10); ; {
		n, err := resp.Body.Read(p)
		s.Write(p[:n])
		if err != nil {
			return s.String()
		}
	}
}
