package daemon_test

import (
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage/vfs/vfstest"
)

// Whoever watches the box learns whether it does its work, and writes nothing by asking,
// however often. The figures are for this machine and for admins.
func TestReadinessAndFigures(t *testing.T) {
	t.Parallel()
	disk := vfstest.NewDisk()
	b := daemontest.StartOn(t, t.TempDir(), disk)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	bob := b.AddPerson("bob")
	put(t, ada, "a.jpg", "photo")

	syncs, before := disk.Calls(vfstest.OpSync|vfstest.OpWrite), figures(t, b)
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			for range 8 {
				ask(ada.With(""), "GET", "/readyz", "").is(t, "ready", 200, "")
				ask(ada.With(""), "GET", "/healthz", "").is(t, "alive", 200, "")
			}
		})
	}
	crowd.Wait()
	after := figures(t, b)
	if n := disk.Calls(vfstest.OpSync | vfstest.OpWrite); n != syncs {
		t.Errorf("%d calls of the disk", n-syncs)
	}
	for _, name := range []string{"yunbox_db_commits_total", "yunbox_db_writes_total"} {
		if before[name] != after[name] {
			t.Errorf("%s: %q became %q", name, before[name], after[name])
		}
	}
	if after[`yunbox_answers_2xx_total{gateway="other"}`] == before[`yunbox_answers_2xx_total{gateway="other"}`] {
		t.Error("the questions were not counted")
	}

	// A proxy on the box asks for somebody elsewhere.
	ask(ada.With(""), "GET", "/metrics", "").is(t, "this machine", 200, "")
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"} {
		ask(ada.With(""), "GET", "/metrics", "", header, "192.0.2.1").is(t, header, 403, "forbidden")
	}
	ask(bob, "GET", "/metrics", "", "Via", "1.1 proxy").is(t, "a member", 403, "forbidden")
	ask(ada, "GET", "/metrics", "", "Via", "1.1 proxy").is(t, "an admin", 200, "")

	disk.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Sticky: true, Err: syscall.EIO})
	ask(ada, "PUT", "/v1/files/b.jpg?source=album", "another")
	if r := ask(ada.With(""), "GET", "/readyz", ""); r.status != 503 || !strings.Contains(string(r.body), "The disk has failed") {
		t.Errorf("a failed disk: %v", r)
	}
	b.PowerOff()
}

func figures(t *testing.T, b *daemontest.Box) map[string]string {
	t.Helper()
	r := ask(b.Nobody(), "GET", "/metrics", "").is(t, "figures", 200, "")
	all := map[string]string{}
	for line := range strings.Lines(string(r.body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			all[name] = value
		}
	}
	return all
}

// A box whose catalogue takes no changes is alive, and not ready.
func TestABoxWithoutItsWriterIsNotReady(t *testing.T) {
	t.Parallel()
	box, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{
		State: t.TempDir(), HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, ScrubDays: 30,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Database(box).Close(); err != nil {
		t.Fatal(err)
	}
	defer box.Close() // it complains that the database is closed
	for target, want := range map[string]int{"/readyz": 503, "/healthz": 200} {
		r := httptest.NewRequest("GET", strings.TrimSuffix(box.URLs()[0], "/")+target, nil)
		w := httptest.NewRecorder()
		daemon.Front(box).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}
