package duplicates_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"yunbox.local/daemon/daemontest"
)

func post(p *daemontest.Person, verb string, body map[string]any) (int, string) {
	b, _ := json.Marshal(body)
	r := p.Request("POST", "/v1/duplicates/"+verb, bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	status, _, answer := p.Do(r)
	return status, string(answer)
}

func folders(p *daemontest.Person) (list []string) {
	var out struct{ Folders []struct{ Path, Kind string } }
	p.Call("GET", "/v1/duplicates/folders", nil, &out)
	for _, f := range out.Folders {
		list = append(list, f.Kind+" "+f.Path)
	}
	return list
}

// A disk that somebody plugs in is the owner's to look through, as a whole and under the
// kernel's own name for it, and nobody else's. R20
func TestAttachedDiskIsTheOwners(t *testing.T) {
	disk := fmt.Sprintf("/mnt/yunbox-test-%d", os.Getpid())
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Skip("only root can mount a disk: ", err)
	}
	t.Cleanup(func() { os.Remove(disk) })
	if err := unix.Mount("/dev/yunbox-test", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("only root can mount a disk: ", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	for _, name := range []string{"a", "b", "sub/c"} {
		os.MkdirAll(filepath.Dir(filepath.Join(disk, name)), 0o755)
		if err := os.WriteFile(filepath.Join(disk, name), []byte("the same"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	box := daemontest.Start(t)
	ada := box.Bind()
	ada.Grant("storage")
	bob := box.AddPerson("bob")
	bob.Grant("storage", "file_dedup")
	if list := folders(ada); !strings.Contains(strings.Join(list, "\n"), "disk "+disk) {
		t.Fatalf("%q", list)
	}
	if list := folders(bob); len(list) != 0 {
		t.Errorf("bob is shown %q", list)
	}
	if status, body := post(ada, "scan", map[string]any{"path": disk}); status != http.StatusForbidden || !strings.Contains(body, "consent-required") {
		t.Errorf("without consent: %d %s", status, body)
	}
	ada.Grant("file_dedup")
	if status, body := post(ada, "scan", map[string]any{"path": disk}); status != http.StatusOK || !strings.Contains(body, `"same":2`) {
		t.Errorf("%d %s", status, body)
	}
	// The whole disk by its own name, and no other spelling.
	for _, path := range []string{disk + "/sub", disk + "/", disk + "/../" + filepath.Base(disk), "/mnt", "/"} {
		if status, body := post(ada, "scan", map[string]any{"path": path}); status != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for verb, more := range map[string]string{"scan": "", "plan": "action", "apply": "", "undo": "", "plans": "", "picture": "file"} {
		task := map[string]any{"path": disk}
		if more != "" {
			task[more] = "trash"
		}
		if status, body := post(bob, verb, task); status != http.StatusForbidden {
			t.Errorf("bob, %s: %d %s", verb, status, body)
		}
	}
	// Once the box watches it for somebody it is theirs.
	box.Local("POST", "/local/inboxes", map[string]any{"path": disk, "user": "bob"}, nil)
	if status, body := post(ada, "scan", map[string]any{"path": disk}); status != http.StatusForbidden {
		t.Errorf("bob's disk: %d %s", status, body)
	}
	if status, body := post(bob, "scan", map[string]any{"path": disk}); status != http.StatusOK {
		t.Errorf("bob, his own: %d %s", status, body)
	}
}

// Pictures are shown to the person whose folder it is, with their consent, and nothing
// that is none, or that lies elsewhere.
func TestPictures(t *testing.T) {
	box := daemontest.Start(t)
	ada := box.Bind()
	ada.Grant("storage", "file_dedup")
	dir := t.TempDir()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 9))); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret.png")
	for name, content := range map[string][]byte{"a.png": b.Bytes(), "text.png": []byte("a text, whatever its name is"), "short.png": []byte("\x89P"), "\xff.png": b.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(secret, b.Bytes(), 0o644)
	os.Symlink(secret, filepath.Join(dir, "link.png"))
	box.Local("POST", "/local/inboxes", map[string]any{"path": dir, "user": "ada"}, nil)
	ask := func(file any) (int, string) { return post(ada, "picture", map[string]any{"path": dir, "file": file}) }
	for _, file := range []any{"a.png", map[string]any{"base64": "/y5wbmc="}} {
		if status, body := ask(file); status != http.StatusOK || body != b.String() {
			t.Errorf("%v: %d, %d bytes", file, status, len(body))
		}
	}
	_, nowhere := ask("nowhere.png")
	for _, file := range []any{"text.png", "short.png", "link.png", "../" + filepath.Base(dir) + "/a.png", secret, "", ".", "a.png/", "nowhere.png"} {
		if status, body := ask(file); status != http.StatusNotFound || body != nowhere {
			t.Errorf("%v: %d %s", file, status, body)
		}
	}
	ada.Withdraw("file_dedup")
	if status, body := ask("a.png"); status != http.StatusForbidden || !strings.Contains(body, "consent-required") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := post(ada, "plans", map[string]any{"path": dir}); status != http.StatusOK {
		t.Errorf("what there is to undo needs no consent: %d %s", status, body)
	}
}
