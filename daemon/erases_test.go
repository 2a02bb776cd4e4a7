package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
)

// R22: what a purpose says that it erases is a category that rests on it, and a category
// that rests on nothing else is erased with it.
func TestPurposesSayWhatTheyErase(t *testing.T) {
	rests := map[string][]string{} // category → purposes
	for _, c := range daemon.Register(openBox(t)).Categories() {
		rests[c.ID] = c.Purposes
	}
	for _, p := range consent.Purposes() {
		for _, id := range p.Erases {
			if !slices.Equal(rests[id], []string{string(p.ID)}) {
				t.Errorf("%s erases %s, which rests on %v", p.ID, id, rests[id])
			}
		}
		for id, on := range rests {
			if p.Available && p.ID != consent.Storage && slices.Equal(on, []string{string(p.ID)}) && !slices.Contains(p.Erases, id) {
				t.Errorf("%s rests on %s alone, which does not say that it erases it", id, p.ID)
			}
		}
	}
}

// R22 R27: what was derived for a purpose goes with the consent: with a withdrawal, with a
// policy that is declined, with one that is wider; and after a kill between the decision and
// the erasing, at the next start.
func TestWhatWasDerivedGoesWithTheConsent(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	dir := t.TempDir()
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".bin")), []byte("equal contents"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ada.Grant("file_dedup")
	b.Local("POST", "/local/inboxes", map[string]any{"path": dir, "user": "ada"}, nil)
	held := func() string {
		names, err := filepath.Glob(filepath.Join(b.State, "dedup", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " ")
	}
	scan := func() {
		t.Helper()
		r := ask(ada, "POST", "/v1/duplicates/plan", fmt.Sprintf(`{"path":%q,"action":"trash"}`, dir)).is(t, "a plan", 200, "")
		if held() == "" {
			t.Fatalf("nothing was derived, so nothing is tried here: %v", r)
		}
	}
	gone := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); held() != ""; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s is left", what, held())
			}
		}
		var d struct{ Records []any }
		ada.Call("GET", "/v1/me/data/duplicates", nil, &d)
		if len(d.Records) != 0 {
			t.Errorf("%s: %v is shown", what, d.Records)
		}
	}
	// killed takes the notes from before the decision and puts them back while the box is
	// off: what a kill leaves that comes after the decision and before the erasing.
	killed := func(decide func()) {
		t.Helper()
		notes := t.TempDir()
		b.Stop()
		if err := os.CopyFS(notes, os.DirFS(filepath.Join(b.State, "dedup"))); err != nil {
			t.Fatal(err)
		}
		b.Restart()
		decide()
		gone("before the kill")
		b.Stop()
		if err := os.RemoveAll(filepath.Join(b.State, "dedup")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(b.State, "dedup"), os.DirFS(notes)); err != nil {
			t.Fatal(err)
		}
		if held() == "" {
			t.Fatal("the notes are not back")
		}
		b.Restart()
		gone("after a kill")
	}

	scan()
	ada.Withdraw("file_dedup")
	gone("withdrawn")
	ask(ada, "POST", "/v1/duplicates/scan", fmt.Sprintf(`{"path":%q}`, dir)).is(t, "after it", 403, "consent-required")

	ada.Grant("file_dedup")
	scan()
	killed(func() { ada.Withdraw("file_dedup") })

	ada.Grant("file_dedup")
	scan()
	killed(func() { ada.Call("PUT", "/v1/policy", map[string]any{"accepted": false, "revision": "1"}, nil) })

	ada.Grant("storage", "file_dedup")
	scan()
	b.Update(daemontest.Revised(t, 0, consent.FileDedup))
	gone("wider")
}
