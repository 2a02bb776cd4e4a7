package daemon_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/update"
	"yunbox.local/daemon/update/install"
)

// A new version whose records would be put back takes nothing from anybody before it has
// proved itself: what it answered for would be lost with them. R18.
func TestAVersionOnTrialTakesNothing(t *testing.T) {
	state := t.TempDir()
	box := daemontest.StartOn(t, state, nil)
	owner := box.Bind()
	box.Stop()
	put := func(name string, v any) {
		t.Helper()
		b, _ := json.Marshal(v)
		if err := os.WriteFile(filepath.Join(state, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(install.TrialFile, install.Trial{ID: "one", Closed: true})
	box.Restart()
	status := func(method, path string, who *daemontest.Person) int {
		t.Helper()
		code, header, _ := who.Do(who.Request(method, path, strings.NewReader("x")))
		if code == http.StatusServiceUnavailable && header.Get("Retry-After") == "" {
			t.Error("no word of when to come again")
		}
		return code
	}
	for _, k := range [][2]string{{"PUT", "/v1/files/a.jpg"}, {"POST", "/v1/session"}, {"PUT", "/dav/a.jpg"}, {"POST", "/v1/uploads"}, {"POST", "/api/assets"}, {"GET", "/v1/me"}, {"GET", "/"}} {
		if got := status(k[0], k[1], owner); got != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d", k[0], k[1], got)
		}
	}
	if got := status("GET", "/.well-known/yunbox", box.Nobody()); got != http.StatusOK {
		t.Errorf("an app cannot find the box: %d", got)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 2400 {
			if ok() {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal(what)
	}
	var health install.Health
	until("the box never says how it is", func() bool {
		b, err := os.ReadFile(filepath.Join(state, install.HealthFile))
		return err == nil && json.Unmarshal(b, &health) == nil
	})
	if !health.OK || health.ID != "one" {
		t.Fatalf("a good box fails its checks: %+v", health)
	}
	put(install.ResultFile, install.Result{ID: "one", Action: install.Install, Outcome: install.OutcomeKept, Version: "0.2.0", Counter: 20, Runs: "0.2.0"})
	if err := os.Remove(filepath.Join(state, install.TrialFile)); err != nil {
		t.Fatal(err)
	}
	until("the box stays closed", func() bool { return status("GET", "/v1/me", owner) == http.StatusOK })
	until("the owner is not told", func() bool {
		var out struct {
			Notices []struct{ Kind string }
		}
		owner.Call("GET", "/v1/me/notices", nil, &out)
		return slices.ContainsFunc(out.Notices, func(n struct{ Kind string }) bool { return n.Kind == "update_kept" })
	})
	var how update.State
	owner.Call("GET", "/v1/update", nil, &how)
	if how.Last == nil || how.Last.Outcome != install.OutcomeKept || how.OnTrial || how.TakesNone || how.Keys {
		t.Errorf("%+v", how)
	}
	if code, _, body := owner.Do(owner.Request("PUT", "/v1/update/bundle", strings.NewReader("no update"))); code/100 == 2 {
		t.Errorf("%d %s", code, body)
	}
	box.Stop()
	put(install.RestoreMark, nil)
	if b, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{State: state, HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64}}); err == nil || !strings.Contains(err.Error(), "put back") {
		t.Errorf("a box starts on records that are half put back: %v", err)
		b.Close()
	}
}
