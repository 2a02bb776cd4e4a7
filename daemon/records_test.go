package daemon_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/problem"
)

// Records that were put back from a copy, or were lost, do not know all files.
// What they do not know is somebody's photo and no orphan.
func TestOldOrLostRecordsDeleteNoFiles(t *testing.T) { // R01
	old := func(t *testing.T, b *daemontest.Box, older []byte) {
		forget(t, b)
		forgetJournal(t, b)
		write(t, filepath.Join(b.State, "box.db"), older)
	}
	// Without a journal nothing brings the records back: whoever says so gets empty ones.
	lost := func(t *testing.T, b *daemontest.Box) {
		forget(t, b)
		forgetJournal(t, b)
		err := open(t, b.State)
		if !daemon.NeedsRebuild(err) || !strings.Contains(problem.Sentence(err), "yunboxctl rebuild") {
			t.Fatalf("a box began anew where there are files: %v", err)
		}
		if _, err := b.Rebuild(daemon.RebuildOptions{}); problem.KindOf(err) != problem.Damaged {
			t.Fatalf("records were made of nothing: %v", err)
		}
		report, err := b.Rebuild(daemon.RebuildOptions{AcceptLoss: true})
		if err != nil || report.Found != 1 || report.FoundBytes != int64(len("the only copy of a photo")) || report.People != 0 || report.Lost == "" {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	for name, change := range map[string]func(t *testing.T, b *daemontest.Box, older []byte){
		"put back from a copy": old,
		"lost":                 func(t *testing.T, b *daemontest.Box, _ []byte) { lost(t, b) },
		"lost with their counter": func(t *testing.T, b *daemontest.Box, _ []byte) {
			remove(t, b, "RECORDS")
			lost(t, b)
		},
		"with a damaged counter": func(t *testing.T, b *daemontest.Box, older []byte) {
			old(t, b, older)
			write(t, filepath.Join(b.State, "RECORDS"), []byte("yunbox records 1\nopened  "))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := daemontest.Start(t)
			ada := b.Bind()
			ada.Grant("album_backup")
			b.Stop()
			older, err := os.ReadFile(filepath.Join(b.State, "box.db"))
			if err != nil {
				t.Fatal(err)
			}
			b.Restart()
			put(t, ada, "a.jpg", "the only copy of a photo")
			b.Stop()
			change(t, b, older)
			b.Restart()
			sum := sumOf("the only copy of a photo")
			blob := filepath.Join(b.State, "blobs", sum[:2], sum)
			for range 2 { // the box goes on to remember it, too
				longAgo := time.Now().Add(-30 * 24 * time.Hour)
				if err := os.Chtimes(blob, longAgo, longAgo); err != nil {
					t.Fatal(err)
				}
				b.Local("POST", "/local/sweep", nil, nil)
				if _, err := os.Stat(blob); err != nil {
					t.Fatalf("a sweep under such records deleted a file: %v", err)
				}
				b.Restart()
			}
		})
	}
}

// The records of a box in good order know everything: orphans go.
func TestRestartsDoNotKeepOrphans(t *testing.T) {
	b := daemontest.Start(t)
	b.Restart()
	b.Crash(nil)
	b.Restart()
	sum := sumOf("left by a cut between a blob and its row")
	blob := filepath.Join(b.State, "blobs", sum[:2], sum)
	write(t, blob, []byte("left by a cut between a blob and its row"))
	longAgo := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(blob, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	b.Local("POST", "/local/sweep", nil, nil)
	if _, err := os.Stat(blob); err == nil {
		t.Error("an orphan is kept for ever")
	}
}

func forget(t *testing.T, b *daemontest.Box) {
	for _, name := range []string{"box.db", "box.db-wal", "box.db-shm"} {
		remove(t, b, name)
	}
}

func forgetJournal(t *testing.T, b *daemontest.Box) {
	if err := os.RemoveAll(filepath.Join(b.State, "journal")); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, b *daemontest.Box, name string) {
	if err := os.Remove(filepath.Join(b.State, name)); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

func write(t *testing.T, name string, data []byte) {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A box without a clock of its own starts in 1970 after a power cut, until the
// network tells it the time. Nobody is signed out by that, no upload is given
// up, and nobody's client sees a certificate from another century.
func TestAClockThatStartsIn1970EndsNothing(t *testing.T) { // R02 R05
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	tus := []string{"Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream"}
	begin := func(name string) string {
		r := ask(ada, "POST", "/v1/uploads", "", append(tus, "Upload-Length", "9",
			"Upload-Metadata", "path "+b64(name)+",source "+b64("album"))...).is(t, "creation", 201, "")
		return r.header.Get("Location")[len(b.URL):]
	}
	before := begin("before.jpg")

	b.Stop()
	lost := time.Since(time.Unix(60, 0))
	b.Pass(-lost)
	b.Restart()
	config := b.TLS()
	config.Time = time.Now // the phone knows what year it is
	b.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	ask(ada, "GET", "/v1/me", "").is(t, "the session in 1970", 200, "")
	meanwhile := begin("meanwhile.jpg")

	b.Pass(lost)
	ask(ada, "GET", "/v1/me", "").is(t, "the session when the time is known again", 200, "")
	b.Local("POST", "/local/sweep", nil, nil)
	for _, address := range []string{before, meanwhile} {
		ask(ada, "PATCH", address, "the bytes", append(tus, "Upload-Offset", "0")...).is(t, "the upload", 204, "")
	}
}
