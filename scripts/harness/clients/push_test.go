package clients

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/wire"
)

// fingerprint is that of the box's key, as its label shows it.
func fingerprint(t *testing.T, b *box.Box) string {
	t.Helper()
	var status struct{ Fingerprint string }
	if err := b.Local(t.Context(), http.MethodGet, "/local/status", nil, &status); err != nil {
		t.Fatal(err)
	}
	return status.Fingerprint
}

// pushDone is the last line of `yunboxctl push --json`.
type pushDone struct {
	Event                                            string
	Files, Stored, Known, Duplicate, Failed, Skipped int
	SentBytes                                        int64 `json:"sent_bytes"`
}

// pushCommand is yunboxctl on its way through a proxy.
func pushCommand(t *testing.T, b *box.Box, p *wire.Proxy, folder, cache string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), programs(t).Yunboxctl, "--json", "--box", fmt.Sprint("https://127.0.0.1:", p.Port()), "--fingerprint", fingerprint(t, b),
		"push", folder, "--source", "other", "--cache", cache)
	cmd.Env = append(os.Environ(), "YUNBOX_TOKEN="+b.Token)
	return cmd
}

func lastEvent(t *testing.T, out []byte) (done pushDone) {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &done); err != nil || done.Event != "done" {
		t.Fatalf("the last line of push is %q: %v", lines[len(lines)-1], err)
	}
	return done
}

var bigFile = flag.Int64("big", 160<<20, "size in bytes of the largest file of TestPush; 2147483648 is a long video")

// TestPush sends a folder as people have them, over a connection that is cut three
// times and to a box that is killed once. Everything must be there, whole; a second
// run must send nothing.
func TestPush(t *testing.T) { // R01 R05 R13
	b := start(t)
	folder, cache := t.TempDir(), t.TempDir()
	want := map[string]string{} // name → SHA-256
	put := func(name string, size int64) string {
		path, sum := content(t, size)
		place := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, place); err != nil {
			t.Fatal(err)
		}
		want[name] = sum
		return sum
	}
	bigSize := *bigFile
	for i := range 60 {
		put(fmt.Sprintf("2024/%02d/IMG_%04d.jpg", i%12, i), int64(1000*i+1))
	}
	put("a b#c%d&e+f;g=h'i[j].jpg", 70_000)
	put("微信图片_20240115 😀.jpg", 90_000)
	put("שלום \u200f.jpg", 10)
	put(".hidden/empty", 0)
	put(strings.Repeat("长", 80)+".jpg", 20)
	put("VID_0001.mp4", bigSize)
	put("Cafe\u0301.jpg", 30) // NFD, as Macs write it
	want["Caf\u00e9.jpg"] = want["Cafe\u0301.jpg"]
	delete(want, "Cafe\u0301.jpg")
	for i, original := range []string{"2024/01/IMG_0001.jpg", "VID_0001.mp4"} {
		name := fmt.Sprintf("copies/%d", i)
		if err := os.MkdirAll(filepath.Join(folder, "copies"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(folder, original), filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
		want[name] = want[original]
	}

	p := proxy(t, b, bigSize/5, bigSize/5*2, bigSize/5*4)
	cmd := pushCommand(t, b, p, folder, cache)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for p.Sent() < bigSize/5*3 { // between the second cut and the third
		select {
		case err := <-ended:
			t.Fatalf("push ended early: %v\n%s%s", err, out.Bytes(), complaints.Bytes())
		case <-time.After(time.Millisecond):
		}
	}
	b.Kill()
	again := startOn(t, b.State)
	again.Token = b.Token
	p.Retarget(strings.TrimPrefix(again.URL, "https://"))
	if err := <-ended; err != nil {
		t.Fatalf("push: %v\n%s%s", err, out.Bytes(), complaints.Bytes())
	}
	done := lastEvent(t, out.Bytes())
	if done.Files != len(want) || done.Failed != 0 || done.Duplicate+done.Known < 2 {
		t.Errorf("%+v of %d files, two of them duplicates", done, len(want))
	}
	if p.Cuts() != 3 {
		t.Errorf("%d cuts were made, want 3", p.Cuts())
	}
	// The big file went once, and what was in flight at four cuts once more.
	if sent := p.Sent(); sent > bigSize+bigSize/2 {
		t.Errorf("%d bytes were sent for a folder of %d: it did not resume", sent, bigSize)
	}
	for name, sum := range want {
		mustHave(t, again, name, sum)
	}

	before := p.Sent()
	out.Reset()
	cmd = pushCommand(t, again, p, folder, cache)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("second push: %v\n%s%s", err, out.Bytes(), complaints.Bytes())
	}
	if done := lastEvent(t, out.Bytes()); done.Known != len(want) || done.SentBytes != 0 {
		t.Errorf("the second push: %+v, want all %d known", done, len(want))
	}
	if sent := p.Sent() - before; sent > 64<<10 {
		t.Errorf("the second push put %d bytes on the wire", sent)
	}
	checked := exec.CommandContext(t.Context(), programs(t).Yunboxctl, "--state", again.State, "check", "--deep")
	if report, err := checked.CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, report)
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(again.State, "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files++
		}
		return err
	})
	if err != nil || files != len(want)-2 {
		t.Errorf("%d contents are stored for %d files with two duplicates: %v", files, len(want), err)
	}
}
