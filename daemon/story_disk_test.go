package daemon_test

import (
	"strings"
	"syscall"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

// The first sync that fails flags the volume: the status, the page's figures, the
// health check and the metrics say so at once, every protocol is refused with what to
// do, nothing is synced a second time as if that helped, and what is stored can be
// read. A restart ends it. R07
func TestAFailedSyncFlagsTheVolume(t *testing.T) {
	t.Parallel()
	disk := vfstest.NewDisk()
	b := daemontest.StartOn(t, t.TempDir(), disk)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	put(t, ada, "a.jpg", "photo")
	film := strings.Repeat("film ", 1<<20) // over what the intent log takes
	disk.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO})
	lost := func(what string, r reply) {
		t.Helper()
		if r.status != 503 || !strings.Contains(string(r.body), "loses data") {
			t.Errorf("%s: %v", what, r)
		}
	}
	lost("the file whose sync failed", ask(ada, "PUT", "/v1/files/film.mp4?source=album", film))
	if disk.Pending() {
		t.Fatal("nothing failed")
	}
	var status struct {
		Volume struct {
			OK    bool
			Error string
		}
	}
	if b.Local("GET", "/local/status", nil, &status); status.Volume.OK || !strings.Contains(status.Volume.Error, storage.ErrSync.Error()) {
		t.Errorf("%+v", status)
	}
	var use struct{ Care struct{ Disk string } }
	if ask(ada, "GET", "/v1/storage", "").is(t, "storage", 200, "").into(t, &use); use.Care.Disk != "failed" {
		t.Errorf("%+v", use)
	}
	ask(ada, "GET", "/healthz", "").is(t, "health", 503, "unavailable")
	if r := ask(ada, "GET", "/metrics", ""); !strings.Contains(string(r.body), "yunbox_volume_healthy 0") {
		t.Errorf("%s", r.body)
	}
	disk.Heal()
	syncs := disk.Calls(vfstest.OpSync)
	lost("the same file again", ask(ada, "PUT", "/v1/files/film.mp4?source=album", film))
	lost("a small one", ask(ada, "PUT", "/v1/files/b.jpg?source=album", "another"))
	lost("by WebDAV", ask(ada, "PUT", "/dav/b.jpg", "another"))
	lost("a resumable one", ask(ada, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "9",
		"Upload-Metadata", "path "+b64("c.jpg")+",source "+b64("album")))
	if again := disk.Calls(vfstest.OpSync); again != syncs {
		t.Errorf("%d syncs after the one that failed", again-syncs)
	}
	if r := ask(ada, "GET", "/v1/files/a.jpg", ""); r.status != 200 || string(r.body) != "photo" {
		t.Errorf("what was stored before: %v", r)
	}
	ask(ada, "DELETE", "/v1/files/a.jpg", "").is(t, "deletion", 204, "")
	b.PowerOff()
	b.Restart()
	put(t, ada, "film.mp4", film)
	if r := ask(ada, "GET", "/v1/files/film.mp4", ""); r.status != 200 || string(r.body) != film {
		t.Errorf("%d, %d bytes", r.status, len(r.body))
	}
	if b.Local("GET", "/local/status", nil, &status); !status.Volume.OK {
		t.Errorf("after the restart: %+v", status)
	}
}

// A volume that can only be read says so, and takes files again as soon as it can be
// written, without a restart. R16
func TestAReadOnlyVolumeGoesOn(t *testing.T) {
	t.Parallel()
	disk := vfstest.NewDisk()
	b := daemontest.StartOn(t, t.TempDir(), disk)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	put(t, ada, "a.jpg", "photo")
	disk.Fail(vfstest.Fault{Ops: vfstest.OpCreate | vfstest.OpWrite | vfstest.OpRename | vfstest.OpRemove, Nth: 1, Sticky: true, Err: syscall.EROFS})
	var use struct{ Care struct{ Disk string } }
	for range 2 {
		if r := ask(ada, "PUT", "/v1/files/b.jpg?source=album", "another"); r.status != 503 || !strings.Contains(string(r.body), "can only be read") {
			t.Errorf("%v", r)
		}
		if ask(ada, "GET", "/v1/storage", "").is(t, "storage", 200, "").into(t, &use); use.Care.Disk != "read-only" {
			t.Errorf("%+v", use)
		}
		ask(ada, "GET", "/v1/files/a.jpg", "").is(t, "a file", 200, "")
	}
	disk.Heal()
	put(t, ada, "b.jpg", "another")
	if ask(ada, "GET", "/v1/storage", "").is(t, "storage", 200, "").into(t, &use); use.Care.Disk != "ok" {
		t.Errorf("%+v", use)
	}
	ask(ada, "GET", "/healthz", "").is(t, "health", 200, "")
}
