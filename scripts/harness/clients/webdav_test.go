package clients

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// davBox is a box that can also be reached without TLS, and its owner's app token:
// what a WebDAV client is given.
type davBox struct {
	*box.Box
	plain    string // "http://127.0.0.1:PORT/dav/"
	secure   string
	password string
}

func startDAV(t *testing.T) davBox {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("YUNBOX_HTTP", address)
	b := davBox{Box: start(t), plain: "http://" + address + "/dav/"}
	b.secure = b.URL + "/dav/"
	revision, err := b.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []string{"album_backup", "wechat_backup", "camera_transfer"} { // not QQ
		in := map[string]any{"granted": true, "policy_revision": revision}
		if err := b.API(t.Context(), http.MethodPut, "/v1/consents/"+purpose, in, nil); err != nil {
			t.Fatal(err)
		}
	}
	var app struct{ Token string }
	if err := b.API(t.Context(), http.MethodPost, "/v1/tokens", map[string]string{"name": "drive", "scope": "files"}, &app); err != nil {
		t.Fatal(err)
	}
	b.password = app.Token
	return b
}

// run runs a client to its end and gives all that it printed.
func run(t *testing.T, dir string, env []string, in, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, append(os.Environ(), env...), strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestLitmus holds the box against the conformance tests of the neon project.
func TestLitmus(t *testing.T) {
	b := startDAV(t)
	// Without TLS: over it litmus leaves out its test of Expect: 100-continue.
	out, err := run(t, t.TempDir(), nil, "", "litmus", "-k", b.plain, "owner", b.password)
	if err != nil {
		t.Errorf("litmus: %v", err)
	}
	for name, tests := range map[string]int{"basic": 16, "copymove": 13, "props": 30, "locks": 41, "http": 4} {
		if !strings.Contains(out, fmt.Sprintf("summary for `%s': of %d tests run: %d passed, 0 failed", name, tests, tests)) {
			t.Errorf("%s is not all green", name)
		}
	}
	if t.Failed() || strings.Contains(out, "WARNING") || strings.Contains(out, "SKIPPED") {
		t.Errorf("litmus said:\n%s", out)
	}
}

// rclone copies with the settings that docs/clients.md gives.
func (b davBox) rclone(t *testing.T, address string, args ...string) (string, error) {
	t.Helper()
	secret, err := run(t, "", nil, "", "rclone", "obscure", b.password)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, "", nil, "", "rclone", append([]string{
		"--config", "/dev/null", "--ca-cert", b.CAFile, "--webdav-url", address, "--webdav-vendor", "other", "--webdav-user", "owner",
		"--webdav-pass", strings.TrimSpace(secret), "--retries", "3", "--low-level-retries", "3",
	}, args...)...)
}

// phone is a folder as phones have them.
func phone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int64{
		"IMG_0001.JPG": 1_200_000, "微信图片_20240115 😀.jpg": 300_000, "a b#c%d&e+f;g=h'i[j].jpg": 200_001, "sub dir/日本/VID thumb.png": 65_536,
		"VID_0002.mp4": 12 * mib, "empty.txt": 0, strings.Repeat("长", 80) + ".jpg": 1000,
	} {
		from, _ := content(t, size)
		to := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRcloneWebDAV(t *testing.T) { // R05 R13
	b := startDAV(t)
	dir := phone(t)
	must := func(address string, args ...string) {
		t.Helper()
		if out, err := b.rclone(t, address, args...); err != nil {
			t.Fatalf("rclone %s: %v\n%s", args[0], err, out)
		}
	}
	must(b.secure, "copy", dir, ":webdav:phone")
	must(b.secure, "check", "--download", dir, ":webdav:phone")
	p := proxy(t, b.Box)
	address := fmt.Sprintf("https://127.0.0.1:%d/dav/", p.Port())
	must(address, "copy", dir, ":webdav:phone")
	if sent := p.Sent(); sent > 64<<10 { // of 14 MB: the listings, and TLS
		t.Errorf("the second run sent %d bytes", sent)
	}
	// A cut in the middle of a file: rclone sends it again, and nothing torn is there.
	large, sum := content(t, 24*mib)
	if err := os.Rename(large, filepath.Join(dir, "VID_0003.mp4")); err != nil {
		t.Fatal(err)
	}
	p = proxy(t, b.Box, 9*mib)
	address = fmt.Sprintf("https://127.0.0.1:%d/dav/", p.Port())
	must(address, "copy", dir, ":webdav:phone")
	if p.Cuts() != 1 {
		t.Errorf("%d cuts", p.Cuts())
	}
	mustHave(t, b.Box, "phone/VID_0003.mp4", sum)
	must(b.secure, "check", "--download", dir, ":webdav:phone")
	// Without another try the name stays free.
	p = proxy(t, b.Box, 9*mib)
	address = fmt.Sprintf("https://127.0.0.1:%d/dav/", p.Port())
	if out, err := b.rclone(t, address, "--retries", "1", "--low-level-retries", "1", "copyto", filepath.Join(dir, "VID_0003.mp4"), ":webdav:phone/torn.mp4"); err == nil {
		t.Errorf("a cut upload is called done: %s", out)
	}
	mustNotHave(t, b.Box, "phone/torn.mp4")
	must(b.secure, "moveto", ":webdav:phone/IMG_0001.JPG", ":webdav:phone/sub dir/IMG_9.JPG")
	must(b.secure, "copyto", ":webdav:phone/VID_0003.mp4", ":webdav:phone/copy.mp4")
	mustHave(t, b.Box, "phone/copy.mp4", sum)
	must(b.secure, "purge", ":webdav:phone")
	mustNotHave(t, b.Box, "phone/copy.mp4")
}

func TestCurlWebDAV(t *testing.T) { // R02 R20
	b := startDAV(t)
	file, sum := content(t, 8*mib)
	auth := []string{"-u", "owner:" + b.password}
	dav := func(args ...string) curlResult { return curl(t, b.Box, append(auth, args...)...) }
	if r := dav("-X", "MKCOL", b.secure+"curl/"); r.status != 201 {
		t.Fatalf("%+v", r)
	}
	if r := dav("-T", file, "-H", "X-OC-Mtime: 1234567890", b.secure+"curl/a.bin"); r.status != 201 {
		t.Fatalf("%+v", r)
	}
	mustHave(t, b.Box, "curl/a.bin", sum)
	if r := dav("-r", "10-19", b.secure+"curl/a.bin"); r.status != 206 || len(r.body) != 10 {
		t.Errorf("range: %d, %d bytes", r.status, len(r.body))
	}
	if r := dav("-X", "PROPFIND", "-H", "Depth: 0", b.secure+"curl/a.bin"); r.status != 207 || !strings.Contains(r.body, "Fri, 13 Feb 2009 23:31:30 GMT") || !strings.Contains(r.body, sum) {
		t.Errorf("%+v", r)
	}
	expect := []string{"-T", file, "-H", "Expect: 100-continue", "--expect100-timeout", "20"}
	for _, c := range []struct {
		name   string
		status int
		args   []string
	}{
		{"a wrong password", 401, []string{"-u", "owner:wrong", b.secure + "curl/b.bin"}},
		{"no consent", 403, []string{"-H", "Yunbox-Source: qq", b.secure + "curl/b.bin"}},
		{"no folder", 409, []string{b.secure + "nowhere/b.bin"}},
		{"part of a file", 400, []string{"-H", "Content-Range: bytes 0-9/20", b.secure + "curl/a.bin"}},
		{"a condition", 412, []string{"-H", "If-None-Match: *", b.secure + "curl/a.bin"}},
	} {
		r := dav(append(expect, c.args...)...)
		if r.status != c.status || r.uploaded != 0 {
			t.Errorf("%s: %+v, want %d before the body", c.name, r, c.status)
		}
		var doc struct {
			Message string `xml:"http://sabredav.org/ns message"`
		}
		if c.status != 401 && (xml.Unmarshal([]byte(r.body), &doc) != nil || doc.Message == "") {
			t.Errorf("%s: it does not say why: %s", c.name, r.body)
		}
	}
	mustHave(t, b.Box, "curl/a.bin", sum)
	mustNotHave(t, b.Box, "curl/b.bin")
}

// The client of the power-cut test does what that test believes.
func TestPowercutClient(t *testing.T) {
	b := startDAV(t)
	file, sum := content(t, 5000)
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.PutDAV(t.Context(), "phone 5/照片.jpg", body, sum); err != nil {
			t.Fatal(err)
		}
		mustHave(t, b.Box, "phone 5/照片.jpg", sum)
		if err := b.RemoveDAV(t.Context(), "phone 5/照片.jpg"); err != nil {
			t.Fatal(err)
		}
		mustNotHave(t, b.Box, "phone 5/照片.jpg")
	}
	if err := b.PutDAV(t.Context(), "phone 5/照片.jpg", body, sum[1:]+"0"); err == nil {
		t.Error("another hash was taken for the right one")
	}
	for range 2 {
		if err := b.PutChunks(t.Context(), "phone 7/照片.jpg", body, sum); err != nil {
			t.Fatal(err)
		}
		mustHave(t, b.Box, "phone 7/照片.jpg", sum)
	}
	if err := b.PutChunks(t.Context(), "phone 7/照片.jpg", body, sum[1:]+"0"); err == nil {
		t.Error("another hash was taken for the right one")
	}
}

func TestCadaver(t *testing.T) {
	b := startDAV(t)
	home := t.TempDir()
	at, err := url.Parse(b.plain)
	if err != nil {
		t.Fatal(err)
	}
	netrc := "machine " + at.Hostname() + " login owner password " + b.password + "\n"
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(netrc), 0o600); err != nil {
		t.Fatal(err)
	}
	file, sum := content(t, 100_000)
	out, err := run(t, home, []string{"HOME=" + home}, strings.Join([]string{
		"mkcol albums", "cd albums", "put " + file + " a.bin", "lock a.bin", "put " + file + " a.bin", "discover a.bin", "unlock a.bin",
		"copy a.bin b.bin", "move b.bin c.bin", "propset c.bin color blue", "propget c.bin color", "ls", "delete a.bin", "quit", "",
	}, "\n"), "cadaver", b.plain)
	if err != nil || strings.Contains(out, "failed") || !regexp.MustCompile(`Value of color is: blue`).MatchString(out) || !regexp.MustCompile(`c\.bin +100000`).MatchString(out) {
		t.Errorf("cadaver: %v\n%s", err, out)
	}
	mustHave(t, b.Box, "albums/c.bin", sum)
	mustNotHave(t, b.Box, "albums/a.bin")
}

// TestDavfs mounts the box as a drive, where FUSE is there.
func TestDavfs(t *testing.T) {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil || os.Geteuid() != 0 {
		t.Skipf("mounting needs root and FUSE: %v", err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b := startDAV(t)
	// mount.davfs gives its rights up and then reads these: not t.TempDir, which is
	// closed to others.
	dir, err := os.MkdirTemp("", "davfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mount, conf, secrets, ca := filepath.Join(dir, "drive"), filepath.Join(dir, "conf"), filepath.Join(dir, "secrets"), filepath.Join(dir, "ca.crt")
	pem, err := os.ReadFile(b.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(mount, 0o755), os.WriteFile(ca, pem, 0o644),
		os.WriteFile(secrets, []byte(b.secure+" owner "+b.password+"\n"), 0o600),
		os.WriteFile(conf, []byte("trust_ca_cert "+ca+"\nsecrets "+secrets+"\nask_auth 0\nuse_locks 1\ndelay_upload 0\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, nil, "", "mount", "-t", "davfs", "-o", "conf="+conf, b.secure, mount); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if out, err := run(t, dir, nil, "", "umount", mount); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		}
	}
	t.Cleanup(unmount)
	file, sum := content(t, 3*mib)
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(mount, name) }
	// By name only: davfs2 1.6.1 cannot list folders on today's kernels, with any server.
	if err := errors.Join(os.Mkdir(at("new folder"), 0o755), os.WriteFile(at("new folder/a.bin"), body, 0o644),
		os.Rename(at("new folder/a.bin"), at("微信 b.bin")), os.Remove(at("new folder")), os.WriteFile(at("c.txt"), []byte("c"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at("微信 b.bin")); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
	unmount()
	mustHave(t, b.Box, "微信 b.bin", sum)
	mustNotHave(t, b.Box, "new folder/a.bin")
	if _, err := b.Hash(t.Context(), "c.txt"); err != nil {
		t.Error(err)
	}
}
