package daemon_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

func open(t *testing.T, state string) error {
	t.Helper()
	box, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{
		State: state, HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64,
	}})
	if err == nil {
		box.Close()
	}
	return err
}

// A disk that is not there must never look like a box without files.
func TestMissingAndForeignVolumesAreRefusedUntouched(t *testing.T) { // R01
	state := t.TempDir()
	b := daemontest.StartOn(t, state, nil)
	b.Stop()
	volume := filepath.Join(state, "VOLUME")
	own, err := os.ReadFile(volume)
	if err != nil {
		t.Fatal(err)
	}
	spare := filepath.Join(state, "VOLUME.copy")
	if err := errors.Join(os.Remove(volume), os.Remove(spare)); err != nil {
		t.Fatal(err)
	}
	if err := open(t, state); problem.KindOf(err) != problem.Unavailable {
		t.Errorf("a volume without its identity was used: %v", err)
	}
	if _, err := os.Stat(volume); err == nil {
		t.Error("a missing volume was made anew over existing records")
	}
	other := daemontest.Start(t)
	other.Stop()
	foreign, err := os.ReadFile(filepath.Join(other.State, "VOLUME"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, state); problem.KindOf(err) != problem.Unavailable {
		t.Errorf("another box's volume was used: %v", err)
	}
	if err := os.WriteFile(volume, own, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(spare); err != nil { // it was made of the other's
		t.Fatal(err)
	}
	if err := open(t, state); err != nil {
		t.Errorf("the right volume was refused: %v", err)
	}
}

// A box that lost its key does not silently become another one, whom no phone knows.
func TestALostKeyIsNotMadeAnew(t *testing.T) { // R31
	state := t.TempDir()
	daemontest.StartOn(t, state, nil).Stop()
	keys, away := filepath.Join(state, "keys"), filepath.Join(state, "away")
	if err := os.Rename(keys, away); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := open(t, state); problem.KindOf(err) != problem.Unavailable {
			t.Errorf("it started: %v", err)
		}
	}
	if err := os.RemoveAll(keys); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, keys); err != nil {
		t.Fatal(err)
	}
	if err := open(t, state); err != nil {
		t.Error(err)
	}
}

func TestConfiguredNamesAndDefaultsReachTheOutside(t *testing.T) { // R02
	b := daemontest.Start(t)
	var about struct{ Name, ID, State, API string }
	r, err := b.Client.Get(b.URL + "/.well-known/yunbox")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&about); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(about.Name, "Yunbox ") || about.State != "u" || about.API != "/v1" || len(about.ID) != 16 {
		t.Fatalf("%+v", about)
	}
	page, err := b.Client.Get(b.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	if page.StatusCode != http.StatusOK || !strings.Contains(page.Header.Get("Content-Security-Policy"), "script-src 'self'") {
		t.Fatalf("%s %v", page.Status, page.Header)
	}
}

// The whole box over a disk that loses power: whatever a person got a 2xx for is
// there when the box comes up again, with the same bytes under the same name.
func TestWholeBoxSurvivesAPowerCut(t *testing.T) { // R01 R13
	rng := vfstest.Seed(t)
	state := t.TempDir()
	disk := vfstest.NewDisk()
	b := daemontest.StartOn(t, state, disk)
	ada := b.Bind()
	ada.Grant("album_backup")
	acked := map[string]string{}
	for round := range 4 {
		for i := range 6 {
			body := make([]byte, 1+rng.IntN(60_000))
			for j := range body {
				body[j] = byte(rng.Uint32())
			}
			name := strings.Repeat("x", round+1) + string(rune('a'+i)) + ".jpg"
			code, _, answer := ada.Do(ada.Request("PUT", "/v1/files/Camera/"+name+"?source=album", bytes.NewReader(body)))
			if code != http.StatusCreated {
				t.Fatalf("%d %s", code, answer)
			}
			sum := sha256.Sum256(body)
			acked[name] = hex.EncodeToString(sum[:])
		}
		// The database is C and lives on the real disk; its own files are copied as
		// they are, log included, at the moment of the cut.
		after := t.TempDir()
		copyFiles(t, state, after)
		disk = disk.PowerCut(rng)
		b.PowerOff()
		state = after
		b = daemontest.StartOn(t, state, disk)
		ada = b.SignIn("ada")
		for name, want := range acked {
			code, _, body := ada.Do(ada.Request("GET", "/v1/files/Camera/"+name, nil))
			if sum := sha256.Sum256(body); code != http.StatusOK || hex.EncodeToString(sum[:]) != want {
				t.Fatalf("round %d: %s was acknowledged and is lost (%d)", round, name, code)
			}
		}
	}
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"box.db", "box.db-wal"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(to, "keys"), os.DirFS(filepath.Join(from, "keys"))); err != nil {
		t.Fatal(err)
	}
}

func TestStoppingBoxLetsAnUploadEnd(t *testing.T) {
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	body, rest := io.Pipe()
	r := ada.Request("PUT", "/v1/files/slow.jpg?source=album", body)
	r.ContentLength = int64(len("firstsecond"))
	type reply struct {
		resp *http.Response
		err  error
	}
	replies := make(chan reply, 1)
	go func() {
		resp, err := b.Client.Do(r)
		body.Close() // nobody reads any more: the writer below must not wait
		replies <- reply{resp, err}
	}()
	if _, err := io.WriteString(rest, "first"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var status struct{ Uploads int }
		if b.Local("GET", "/local/status", nil, &status); status.Uploads == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the upload never began")
		}
	}
	stopped := make(chan struct{})
	go func() { b.Stop(); close(stopped) }()
	if _, err := io.WriteString(rest, "second"); err != nil {
		t.Error(err)
	}
	rest.Close()
	got := <-replies
	if got.err != nil {
		t.Fatal(got.err)
	}
	defer got.resp.Body.Close()
	if got.resp.StatusCode != http.StatusCreated {
		t.Error(got.resp.Status)
	}
	<-stopped
}
