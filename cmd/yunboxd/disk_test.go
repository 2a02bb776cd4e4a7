package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yunbox.local/daemon/problem"
)

// These tests mount real file systems and take them away from a running box. They
// need root, loop devices and mkfs.ext4.

// A loopDisk is an image with an ext4, and a loop device while it is plugged in.
type loopDisk struct {
	t     *testing.T
	image string
	loop  string
}

func newDisk(t *testing.T, size string) *loopDisk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may mount disks")
	}
	d := &loopDisk{t: t, image: filepath.Join(t.TempDir(), "disk.img")}
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount", "e2fsck"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("there is no ", tool)
		}
	}
	if out, err := exec.Command("truncate", "-s", size, d.image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(d.unplug)
	return d
}

// mount plugs the disk in and mounts it.
func (d *loopDisk) mount(dir string, options string) {
	d.t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", d.image).CombinedOutput()
	if err != nil {
		d.t.Skipf("no loop device is to be had: %s", out)
	}
	d.loop = strings.TrimSpace(string(out))
	if out, err := exec.Command("mount", "-t", "ext4", "-o", options, d.loop, dir).CombinedOutput(); err != nil {
		d.t.Skipf("mounting is not possible here: %s", out)
	}
	d.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// unplug takes the device away; its name is free then.
func (d *loopDisk) unplug() {
	if d.loop != "" {
		exec.Command("losetup", "--detach", d.loop).Run()
	}
	d.loop = ""
}

// die does to the file system what the kernel does when a disk is pulled out
// (fs/ext4/super.c, ext4_bdev_mark_dead): every call fails from now on.
func die(t *testing.T, dir string) {
	t.Helper()
	const shutdown = 0x8004587d // FS_IOC_SHUTDOWN, as in fs/ext4/ext4.h
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, 2); err != nil { // without writing anything
		t.Skip("this kernel cannot shut an ext4 down: ", err)
	}
}

// unmount waits for a moment until nobody uses the disk.
func unmount(t *testing.T, dir string) {
	t.Helper()
	var err error
	for range 1200 {
		if err = unix.Unmount(dir, 0); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	users, _ := exec.Command("sh", "-c", "ls -l /proc/[0-9]*/fd 2>/dev/null | grep "+dir).CombinedOutput()
	t.Fatalf("the box does not let go of its disk: %v\n%s", err, users)
}

// A client is somebody with a session on the box.
type client struct {
	t     *testing.T
	p     *process
	token string
	http  *http.Client
}

func (c *client) do(method, path, body string) (int, problemText) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.p.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	r, err := c.http.Do(req)
	if err != nil {
		return 0, problemText{Title: err.Error()}
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	p := problemText{body: string(b)}
	json.Unmarshal(b, &p) // a file is none
	return r.StatusCode, p
}

type problemText struct {
	Type, Title string
	body        string
}

// is asks once and compares.
func (c *client) is(want int, title, method, path, body string) problemText {
	c.t.Helper()
	status, p := c.do(method, path, body)
	if status != want || title != "" && p.Title != title {
		c.t.Errorf("%s %s: %d %q %.200s, want %d %q", method, path, status, p.Title, p.body, want, title)
	}
	return p
}

// becomes asks until the answer is as wanted.
func (c *client) becomes(want int, title, method, path, body string) {
	c.t.Helper()
	var status int
	var p problemText
	for range 2400 {
		if status, p = c.do(method, path, body); status == want && (title == "" || p.Title == title) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("%s %s: still %d %q, want %d %q\n%s", method, path, status, p.Title, want, title, c.p.log)
}

func (c *client) local(path string, out any) {
	c.t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(c.p.state, "run", "yunboxd.sock"))
	}}}
	r, err := h.Get("http://box" + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(out); err != nil {
		c.t.Fatal(err)
	}
}

// owner binds the box and consents to backups.
func owner(t *testing.T, p *process) *client {
	t.Helper()
	c := &client{t: t, p: p, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}}
	var label struct {
		PairURI string `json:"pair_uri"`
	}
	c.local("/local/label", &label)
	_, secret, _ := strings.Cut(label.PairURI, "&s=")
	secret, _, _ = strings.Cut(secret, "&")
	var in struct{ Token string }
	bound := c.is(201, "", "POST", "/v1/bind", fmt.Sprintf(`{"secret":%q,"username":"ada","password":"correct horse battery staple"}`, secret))
	if err := json.Unmarshal([]byte(bound.body), &in); err != nil {
		t.Fatal(err)
	}
	c.token = in.Token
	var policy struct{ Revision string }
	if err := json.Unmarshal([]byte(c.is(200, "", "GET", "/v1/policy", "").body), &policy); err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []string{"storage", "album_backup"} {
		c.is(200, "", "PUT", "/v1/consents/"+purpose, fmt.Sprintf(`{"granted":true,"policy_revision":%q}`, policy.Revision))
	}
	return c
}

// A disk that was pulled out is absent: the box lets go of it, writes nothing where
// it was, takes no other disk for it, calls nothing damaged, and goes on by itself
// when it is back, whatever the system calls it then. R16
func TestDiskIsPulledOutAndComesBack(t *testing.T) {
	disk, other := newDisk(t, "96M"), newDisk(t, "32M")
	place := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	disk.mount(place, "defaults")
	p := start(t, place)
	ada := owner(t, p)
	ada.is(201, "", "PUT", "/v1/files/a.jpg?source=album", "photo")
	big := strings.Repeat("film ", 200_000)
	ada.is(201, "", "PUT", "/v1/files/film.mp4?source=album", big)

	const gone = "The box's disk is not there"
	// Twice: pulled out, and taken away by whoever unmounts in haste.
	for round, leave := range []func(){
		func() {
			die(t, place)
			if status, _ := ada.do("PUT", "/v1/files/b.jpg?source=album", "another"); status/100 == 2 {
				t.Error("a dead disk took a file")
			}
			ada.becomes(503, gone, "GET", "/healthz", "")
			unmount(t, place)
		},
		func() {
			if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			ada.becomes(503, gone, "GET", "/healthz", "")
		},
	} {
		leave()
		before := disk.loop
		disk.unplug()
		for _, ask := range []string{"PUT /v1/files/b.jpg?source=album", "GET /v1/files/a.jpg", "PUT /dav/b.jpg", "POST /v1/session", "GET /v1/items", "POST /v1/blobs/known", "DELETE /v1/files/a.jpg"} {
			method, path, _ := strings.Cut(ask, " ")
			ada.is(503, gone, method, path, "another")
		}
		if r := ada.is(200, "", "GET", "/", ""); !strings.Contains(r.body, "<html") {
			t.Errorf("no page to tell what is wrong: %.200s", r.body)
		}
		if list, err := os.ReadDir(place); err != nil || len(list) > 0 {
			t.Errorf("the box wrote where its disk was: %v %v", list, err)
		}
		// Its name goes to another disk, which is not its disk.
		other.mount(place, "defaults")
		time.Sleep(200 * time.Millisecond)
		ada.is(503, gone, "PUT", "/v1/files/b.jpg?source=album", "another")
		if list, err := os.ReadDir(place); err != nil || len(list) != 1 { // lost+found
			t.Errorf("the box took another disk for its own: %v %v", list, err)
		}
		disk.mount(t.TempDir(), "defaults") // as yet somewhere else
		if disk.loop == before {
			t.Log("the disk has the name that it had")
		}
		elsewhere := disk.loop
		unmount(t, place)
		other.unplug()
		if out, err := exec.Command("mount", elsewhere, place).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		ada.becomes(200, "", "GET", "/healthz", "")
		name := fmt.Sprintf("/v1/files/%d.jpg", round)
		ada.is(201, "", "PUT", name+"?source=album", fmt.Sprint("after round ", round))
		if r := ada.is(200, "", "GET", "/v1/files/a.jpg", ""); r.body != "photo" {
			t.Errorf("%q", r.body)
		}
		if r := ada.is(200, "", "GET", "/v1/files/film.mp4", ""); r.body != big {
			t.Errorf("the film is another: %d bytes", len(r.body))
		}
		var status struct {
			Volume struct{ OK bool }
			Items  int
			Scrub  struct{ Damaged int }
		}
		if ada.local("/local/status", &status); !status.Volume.OK || status.Items != 3+round || status.Scrub.Damaged != 0 {
			t.Errorf("%+v", status)
		}
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.log)
	}
}

// A disk is filled to the last byte, by somebody else, too: files are refused; what
// frees room, signing in and withdrawing go on, also after a start; and so do uploads
// once there is room. R08
func TestDiskIsFilledToTheLastByte(t *testing.T) {
	disk := newDisk(t, "96M")
	place := t.TempDir()
	disk.mount(place, "defaults")
	state := filepath.Join(place, "state")
	noView := "YUNBOX_TREE=off" // its copies would give way, and the disk would not stay full
	p := start(t, state, noView)
	ada := owner(t, p)
	const full = "The box is full"
	files := 0
	for lost := 0; ; {
		status, why := ada.do("PUT", fmt.Sprintf("/v1/files/%d.bin?source=album", files), randomText(4<<20))
		if status == 507 && why.Title == full {
			break
		} else if status == 0 && lost < 50 { // refused while it is sent, an answer may be lost (RFC 9112 §9.6)
			lost++
		} else if status != 201 || files > 30 {
			t.Fatalf("file %d: %d %s %s", files, status, why.Title, why.body)
		} else {
			files++
		}
	}
	filler, err := os.Create(filepath.Join(place, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := filler.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	filler.Sync()
	signIn := `{"username":"ada","password":"correct horse battery staple"}`
	for round := range 2 {
		ada.is(507, full, "PUT", "/v1/files/x.jpg?source=album", randomText(1000))
		ada.is(200, "", "GET", "/v1/files/0.bin", "")
		ada.is(200, "", "POST", "/v1/session", signIn)
		for i := range 2 { // root's own part of the disk is to be freed first
			ada.is(204, "", "DELETE", fmt.Sprintf("/v1/files/%d.bin", files-1-2*round-i), "")
		}
		if round == 0 {
			ada.is(507, "", "PUT", "/dav/x.jpg", randomText(1000))
			ada.is(200, "", "DELETE", "/v1/consents/storage", "")
			if code := p.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d: %s", code, p.log)
			}
			p = start(t, state, noView)
			ada.p = p
		}
	}
	var trash struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(ada.is(200, "", "GET", "/v1/items?trash=true", "").body), &trash); err != nil || len(trash.Items) != 4 {
		t.Fatalf("%+v %v", trash, err)
	}
	for _, item := range trash.Items {
		ada.is(204, "", "DELETE", "/v1/items/"+item.ID, "")
	}
	ada.becomes(201, "", "PUT", "/v1/files/y.jpg?source=album", randomText(1000))
	for i := range files - 4 {
		ada.is(200, "", "GET", fmt.Sprintf("/v1/files/%d.bin", i), "")
	}
}

// randomText has n bytes that are no other's.
func randomText(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

// A box that waits for its disk can be stopped.
func TestWaitingForADiskEnds(t *testing.T) {
	disk := newDisk(t, "64M")
	place := t.TempDir()
	disk.mount(place, "defaults")
	p := start(t, place)
	if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, p: p, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}}
	c.becomes(503, "", "GET", "/healthz", "")
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.log)
	}
}

// A file system that found an error of its own can only be read from then on: the box
// says so, refuses what changes anything, and gives what it has. When it was checked
// and mounted again the box goes on, and nothing is missing. R16
func TestDiskBecomesReadOnly(t *testing.T) {
	disk := newDisk(t, "96M")
	place := t.TempDir()
	disk.mount(place, "errors=remount-ro")
	p := start(t, place)
	ada := owner(t, p)
	ada.is(201, "", "PUT", "/v1/files/a.jpg?source=album", "photo")
	trigger := "/sys/fs/ext4/" + filepath.Base(disk.loop) + "/trigger_fs_error"
	if err := os.WriteFile(trigger, []byte("1"), 0); err != nil {
		t.Skip("errors cannot be made here: ", err)
	}
	const title = "The box's disk can only be read"
	ada.is(503, title, "PUT", "/v1/files/b.jpg?source=album", "another")
	ada.becomes(503, title, "GET", "/healthz", "")
	for range 2 {
		ada.is(503, title, "PUT", "/v1/files/b.jpg?source=album", "another")
		ada.is(503, "", "PUT", "/dav/b.jpg", "another")
		ada.is(503, title, "DELETE", "/v1/files/a.jpg", "")
		if r := ada.is(200, "", "GET", "/v1/files/a.jpg", ""); r.body != "photo" {
			t.Errorf("%q", r.body)
		}
		ada.is(200, "", "GET", "/v1/items", "")
		ada.is(200, "", "POST", "/v1/blobs/known", `{"sha256":[]}`)
	}
	var use struct{ Care struct{ Disk string } }
	if err := json.Unmarshal([]byte(ada.is(200, "", "GET", "/v1/storage", "").body), &use); err != nil || use.Care.Disk != "read-only" {
		t.Errorf("%+v %v", use, err)
	}
	var status struct {
		Volume struct {
			OK    bool
			Error string
		}
	}
	if ada.local("/local/status", &status); status.Volume.OK || !strings.Contains(status.Volume.Error, "only be read") {
		t.Errorf("%+v", status)
	}
	// Another box does not start on it.
	if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	ada.becomes(503, "The box's disk is not there", "GET", "/healthz", "")
	if out, err := exec.Command("e2fsck", "-fp", disk.loop).CombinedOutput(); err != nil && exitCode(err) > 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "ro", disk.loop, place).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	time.Sleep(200 * time.Millisecond)
	ada.is(503, "The box's disk is not there", "GET", "/healthz", "") // not as long as nothing can be written
	if out, err := exec.Command("mount", "-o", "remount,rw", place).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ada.becomes(200, "", "GET", "/healthz", "")
	if r := ada.is(200, "", "GET", "/v1/files/a.jpg", ""); r.body != "photo" {
		t.Errorf("%q", r.body)
	}
	ada.is(201, "", "PUT", "/v1/files/b.jpg?source=album", "another")
	ada.is(204, "", "DELETE", "/v1/files/a.jpg", "")
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return -1
}

// A box does not start on a disk that can only be read, and says so.
func TestStartOnAReadOnlyDisk(t *testing.T) {
	disk := newDisk(t, "64M")
	place := t.TempDir()
	disk.mount(place, "defaults")
	p := start(t, place)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.log)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", place).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"--state", place, "--https", "127.0.0.1:0", "--mdns=off"}, io.Discard, &stderr)
	if code != problem.ExitUnreachable || !strings.Contains(stderr.String(), "can only be read") {
		t.Errorf("%d: %s", code, &stderr)
	}
}

// A box whose settings name its volume does not begin anew where its disk is not
// mounted: it writes nothing there. R16
func TestVolumeInTheSettings(t *testing.T) {
	state := t.TempDir()
	p := start(t, state)
	var status struct{ Volume struct{ ID string } }
	(&client{t: t, p: p}).local("/local/status", &status)
	p.end(t, syscall.SIGTERM)
	empty := t.TempDir()
	for place, there := range map[string]bool{empty: false, filepath.Join(empty, "missing"): false, state: true} {
		for _, id := range []string{status.Volume.ID, strings.Repeat("a", 26)} {
			ctx, cancel := context.WithCancel(t.Context())
			if there && id == status.Volume.ID {
				cancel() // it starts, and ends at once
			}
			var stderr bytes.Buffer
			code := run(ctx, []string{"--state", place, "--https", "127.0.0.1:0", "--mdns=off", "--volume", id}, io.Discard, &stderr)
			if ctx.Err() == nil && (code != problem.ExitUnreachable || !strings.Contains(stderr.String(), "not there")) {
				t.Errorf("%s, %s: %d %s", place, id, code, &stderr)
			}
			cancel()
		}
	}
	if list, err := os.ReadDir(empty); err != nil || len(list) > 0 {
		t.Errorf("something was written: %v %v", list, err)
	}
}

// One volume is one volume, by whatever way two daemons come to it.
func TestSecondDaemonByAnotherPathIsRefused(t *testing.T) {
	state, dir := t.TempDir(), t.TempDir()
	p := start(t, state)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(state, link); err != nil {
		t.Fatal(err)
	}
	bound := filepath.Join(dir, "bound")
	if err := os.Mkdir(bound, 0o700); err != nil {
		t.Fatal(err)
	}
	paths := []string{link}
	if err := unix.Mount(state, bound, "", unix.MS_BIND, ""); err != nil {
		t.Log("a bind mount is not possible here: ", err)
	} else {
		t.Cleanup(func() { unix.Unmount(bound, unix.MNT_DETACH) })
		paths = append(paths, bound)
	}
	for _, path := range paths {
		c, log := command(t, "--state", path, "--https", "127.0.0.1:0", "--mdns=off")
		c.Run()
		if code := c.ProcessState.ExitCode(); code != problem.ExitLocked {
			t.Errorf("%s: exit code %d: %s", path, code, log)
		}
	}
	get(t, p.url+"/healthz")
}
