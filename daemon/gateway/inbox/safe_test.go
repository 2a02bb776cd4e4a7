package inbox_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/inbox"
	"yunbox.local/storage/vfs/vfstest"
)

// R22: a consent that is withdrawn while a file is read ends that at once, and
// nothing of it is kept.
func TestWithdrawnMidway(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), newWorld(t, inbox.Options{})
	write(t, dir+"/DCIM/Camera/film.mp4", strings.Repeat("film", 2<<20))
	withdrawn := false
	w.disk.Fail(vfstest.Fault{Ops: vfstest.OpWrite, Nth: 1, Err: syscall.EIO, Path: func(string) bool {
		if !withdrawn {
			withdrawn = true
			w.decide(consent.AlbumBackup, false)
		}
		return false
	}})
	w.add(dir)
	w.eventually("it is left alone", func() bool { return w.status().Refused == 1 })
	if !withdrawn || len(w.kept()) != 0 || w.ingest.Active() != 0 {
		t.Errorf("withdrawn %v: %d files are kept, %d are read", withdrawn, len(w.kept()), w.ingest.Active())
	}
	w.decide(consent.AlbumBackup, true)
	w.eventually("then it is taken", func() bool { return len(w.kept()["DCIM/Camera/film.mp4"]) == 8<<20 })
}

// R01: whatever the moment at which the power fails, an original that was moved
// away is safe on the box, and all the others are taken after it.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	for range 6 {
		dir, w := t.TempDir(), newWorld(t, inbox.Options{})
		want := map[string]string{}
		for n := range 60 {
			name := fmt.Sprintf("%d/%02d.txt", n%3, n)
			want[name] = strings.Repeat(fmt.Sprint(n, " "), 1000)
			write(t, filepath.Join(dir, name), want[name])
		}
		w.add(dir, trash)
		cut := rng.IntN(60)
		w.eventually("some are taken", func() bool { return w.offers() >= cut })
		w.powerless = true
		disk := w.disk.PowerCut(rng)
		w.stop()
		moved, err := filepath.Glob(filepath.Join(dir, inbox.TrashName, "*", "*", "*.txt"))
		must(t, err)
		w.disk, w.powerless = disk, false
		w.run()
		kept := w.kept()
		for _, name := range moved {
			rel := filepath.Join(filepath.Base(filepath.Dir(name)), filepath.Base(name))
			if kept[rel] != want[rel] {
				t.Errorf("%s was moved away and is not safe: %d bytes", rel, len(kept[rel]))
			}
		}
		w.holds(want)
		w.stop()
	}
}

// On a whole box: what a phone sent and a share holds is one content, each
// person has their own, and a restart changes nothing.
func TestOnAWholeBox(t *testing.T) {
	t.Parallel()
	anns, bobs := t.TempDir(), t.TempDir()
	box := daemontest.Start(t)
	ada, bob := box.Bind(), box.AddPerson("bob")
	ada.Grant("storage", "album_backup")
	photo := bytes.Repeat([]byte("photo"), 10_000)
	write(t, anns+"/DCIM/Camera/IMG_20260501_123000.jpg", string(photo))
	write(t, bobs+"/DCIM/Camera/IMG_20260501_123000.jpg", string(photo))
	r := ada.Request("PUT", "/v1/files/phone/a.jpg?source=album", bytes.NewReader(photo))
	if status, _, body := ada.Do(r); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	type state struct {
		Inboxes []struct {
			User, State string
			Taken       int
			Consents    []string
		}
	}
	wait := func(want string) {
		t.Helper()
		var got string
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			var s state
			box.Local("GET", "/local/inboxes", nil, &s)
			if got = fmt.Sprint(s.Inboxes); got == want {
				return
			}
		}
		t.Fatalf("the folders stand at %s, not %s", got, want)
	}
	box.Local("POST", "/local/inboxes", map[string]string{"path": anns, "user": "ADA", "into": "share"}, nil)
	box.Local("POST", "/local/inboxes", map[string]string{"path": bobs, "user": "bob", "into": "/"}, nil)
	wait("[{ada watching 1 []} {bob consent 0 [album_backup]}]")
	blobs := func() (n int64) {
		var s struct{ Blobs int64 }
		box.Local("GET", "/local/status", nil, &s)
		return s.Blobs
	}
	list := func(p *daemontest.Person) string {
		var page struct {
			Items []struct {
				Path, Source string
				SourceBy     string `json:"source_by"`
				Taken        string
			}
		}
		p.Call("GET", "/v1/items?recursive=true", nil, &page)
		return fmt.Sprint(page.Items)
	}
	const adas = "[{phone/a.jpg album declared } {share/DCIM/Camera/IMG_20260501_123000.jpg album folder 2026-05-01T12:30:00.000Z}]"
	if got := list(ada); got != adas || list(bob) != "[]" || blobs() != 1 {
		t.Errorf("%s, %s, %d contents", got, list(bob), blobs())
	}
	bob.Grant("storage", "album_backup")
	wait("[{ada watching 1 []} {bob watching 1 []}]")
	box.Restart()
	wait("[{ada watching 1 []} {bob watching 1 []}]")
	if got := list(ada); got != adas || blobs() != 1 {
		t.Errorf("%s, %d contents", got, blobs())
	}
	status, _, body := bob.Do(bob.Request("GET", "/v1/files/DCIM/Camera/IMG_20260501_123000.jpg", nil))
	if status != 200 || !bytes.Equal(body, photo) {
		t.Errorf("%d, %d bytes", status, len(body))
	}
	var done struct {
		Event            string
		Damaged, Orphans int64
	}
	for _, line := range box.LocalLines("POST", "/local/check", map[string]any{"deep": true}) {
		must(t, json.Unmarshal(line, &done))
	}
	if done.Event != "done" || done.Damaged+done.Orphans != 0 {
		t.Errorf("%+v", done)
	}
	// The box loses its copy, and takes the file that is still in the folder again.
	sum := fmt.Sprintf("%x", sha256.Sum256(photo))
	must(t, os.Truncate(filepath.Join(box.State, "blobs", sum[:2], sum), 0))
	box.LocalLines("POST", "/local/check", map[string]any{})
	box.Restart()
	for healed := false; !healed; time.Sleep(20 * time.Millisecond) {
		var s struct {
			Scrub struct{ Damaged, Healed int64 }
		}
		box.Local("GET", "/local/status", nil, &s)
		healed = s.Scrub.Damaged == 0 && s.Scrub.Healed == 1
	}
	if status, _, body := bob.Do(bob.Request("GET", "/v1/files/DCIM/Camera/IMG_20260501_123000.jpg", nil)); status != 200 || !bytes.Equal(body, photo) {
		t.Errorf("healed: %d, %d bytes", status, len(body))
	}
	if got := list(ada); got != adas {
		t.Errorf("healing made %s", got)
	}
	box.Local("PATCH", "/local/users/bob", map[string]any{"disabled": true}, nil)
	write(t, bobs+"/late.txt", "late")
	wait("[{ada watching 1 []} {bob paused 1 []}]")
	if _, err := os.Stat(bobs + "/" + inbox.MarkerName); err != nil {
		t.Error(err)
	}
}
