package clients

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/wire"
)

// A watcher stands before the box and counts what is sent to it by method.
type watcher struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string         // method and path
	bytes    map[string]int64 // of bodies, by method
}

func watch(t *testing.T, target string) *watcher {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{bytes: map[string]int64{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: to.Scheme, Host: to.Host})
			r.Out.Host = r.In.Host // as the client says it: addresses in answers and headers lead here again
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		r.Body = &counted{ReadCloser: r.Body, left: r.ContentLength, add: func(n int) {
			w.mu.Lock()
			w.bytes[r.Method] += int64(n)
			w.mu.Unlock()
		}}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// counted is a body that ends by itself. Once the answer has begun, nothing can be read of
// the one below, not even its end: the proxy would drop the connection to the box then.
type counted struct {
	io.ReadCloser
	left int64 // bytes; -1: nobody knows
	add  func(int)
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.ReadCloser.Read(p)
	c.add(n)
	if c.left > 0 {
		c.left -= int64(n)
	}
	return n, err
}

// took returns how many bytes of files were sent, and how many requests began so.
func (w *watcher) took(prefix string) (bytes int64, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return w.bytes[http.MethodPut], n
}

// reset forgets what was counted. The client knows a server by its address, so it
// keeps that.
func (w *watcher) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests, w.bytes = nil, map[string]int64{}
}

// nextcloud runs one sync of dir with the folder /sync of the box.
func (b davBox) nextcloud(t *testing.T, home, dir, address string) (string, error) {
	t.Helper()
	return run(t, home, []string{
		"HOME=" + home, "QT_QPA_PLATFORM=offscreen",
		"OWNCLOUD_CHUNK_SIZE=5000000", "OWNCLOUD_MIN_CHUNK_SIZE=5000000", "OWNCLOUD_MAX_CHUNK_SIZE=5000000",
	}, "", "nextcloudcmd", "--non-interactive", "--trust", "-u", "owner", "-p", b.password, "--path", "/sync", dir, address)
}

// aged makes the files of dir an hour old. The client puts off what changed within two
// seconds: how often it looks again, and what it sends meanwhile, is a matter of chance.
func aged(t *testing.T, dir string) {
	t.Helper()
	before := time.Now().Add(-time.Hour)
	if err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(name, before, before)
	}); err != nil {
		t.Fatal(err)
	}
}

// sameTree fails unless both folders hold the same files with the same times.
func sameTree(t *testing.T, a, b string) {
	t.Helper()
	if out, err := run(t, "", nil, "", "diff", "-r", "--exclude", ".sync_*", "--exclude", ".nextcloudsync.log", a, b); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestNextcloudcmd(t *testing.T) { // R05 R13
	b := startDAV(t)
	base := strings.TrimSuffix(b.plain, "/dav/")
	dir, back, home := phone(t), t.TempDir(), t.TempDir()
	must := func(dir, address string) {
		t.Helper()
		if out, err := b.nextcloud(t, home, dir, address); err != nil {
			t.Fatalf("nextcloudcmd: %v\n%.8000s", err, out)
		}
	}
	if r := curl(t, b.Box, "-u", "owner:"+b.password, "-X", "MKCOL", b.URL+"/remote.php/dav/files/owner/sync"); r.status != 201 {
		t.Fatalf("%+v", r)
	}
	aged(t, dir)
	old := time.Unix(1_600_000_000, 0)
	if err := os.Chtimes(filepath.Join(dir, "IMG_0001.JPG"), old, old); err != nil {
		t.Fatal(err)
	}
	w := watch(t, base)
	must(dir, w.URL)
	if _, n := w.took("MOVE /remote.php/dav/uploads/owner/"); n != 1 {
		t.Errorf("%d files came in chunks, the film should", n)
	}
	must(back, b.URL) // over TLS
	sameTree(t, dir, back)
	if s, err := os.Stat(filepath.Join(back, "IMG_0001.JPG")); err != nil || !s.ModTime().Equal(old) {
		t.Errorf("the time is %v, %v", s.ModTime(), err)
	}

	w.reset()
	must(dir, w.URL)
	if sent, n := w.took("PUT"); sent != 0 || n != 0 {
		t.Errorf("the second run sent %d bytes in %d requests", sent, n)
	}

	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "IMG_0001.JPG"), []byte("another picture"), 0o644),
		os.Chtimes(filepath.Join(dir, "IMG_0001.JPG"), old.Add(time.Hour), old.Add(time.Hour)),
		os.Rename(filepath.Join(dir, "sub dir"), filepath.Join(dir, "renamed dir")),
		os.Remove(filepath.Join(dir, "empty.txt")),
	); err != nil {
		t.Fatal(err)
	}
	w.reset()
	must(dir, w.URL)
	if sent, n := w.took("PUT"); sent != 15 || n != 1 {
		t.Errorf("a changed, a renamed and a deleted file sent %d bytes in %d requests", sent, n)
	}
	must(back, b.URL) // over TLS
	sameTree(t, dir, back)
}

// A cut in the middle of a large file costs one chunk at most.
func TestNextcloudcmdGoesOnAfterCut(t *testing.T) { // R05
	b := startDAV(t)
	base := strings.TrimSuffix(b.plain, "/dav/")
	dir, home := t.TempDir(), t.TempDir()
	if r := curl(t, b.Box, "-u", "owner:"+b.password, "-X", "MKCOL", b.URL+"/remote.php/dav/files/owner/sync"); r.status != 201 {
		t.Fatalf("%+v", r)
	}
	large, sum := content(t, 25*mib)
	old := time.Unix(1_600_000_000, 0)
	if err := errors.Join(os.Rename(large, filepath.Join(dir, "VID_0003.mp4")), os.Chtimes(filepath.Join(dir, "VID_0003.mp4"), old, old)); err != nil {
		t.Fatal(err)
	}
	p, err := wire.Listen(strings.TrimPrefix(base, "http://"), 9*mib)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	address := fmt.Sprintf("http://127.0.0.1:%d", p.Port())
	out, err := b.nextcloud(t, home, dir, address)
	for range 3 {
		if err == nil && p.Cuts() > 0 {
			if _, gone := b.Hash(t.Context(), "sync/VID_0003.mp4"); gone == nil {
				break
			}
		}
		out, err = b.nextcloud(t, home, dir, address)
	}
	if err != nil || p.Cuts() != 1 {
		t.Errorf("%v, %d cuts\n%.8000s", err, p.Cuts(), out)
	}
	mustHave(t, b.Box, "sync/VID_0003.mp4", sum)
	if again := p.Sent() - 25*mib; again > 5_000_000+256<<10 {
		t.Errorf("%d bytes were sent twice", again)
	}
}

func TestRcloneNextcloud(t *testing.T) { // R05 R13
	b := startDAV(t)
	dir := phone(t)
	base := strings.TrimSuffix(b.plain, "/dav/")
	w := watch(t, base)
	address := w.URL + "/remote.php/dav/files/owner/"
	must := func(args ...string) {
		t.Helper()
		args = append(args, "--webdav-vendor", "nextcloud")
		if out, err := b.rclone(t, address, args...); err != nil {
			t.Fatalf("rclone %s: %v\n%s", args[0], err, out)
		}
	}
	must("copy", dir, ":webdav:phone")
	must("check", "--download", dir, ":webdav:phone")
	sent, _ := w.took("PUT")
	must("copy", dir, ":webdav:phone")
	if now, _ := w.took("PUT"); now != sent {
		t.Errorf("the second run sent %d bytes", now-sent)
	}
	must("moveto", ":webdav:phone/IMG_0001.JPG", ":webdav:phone/sub dir/IMG_9.JPG")
	must("purge", ":webdav:phone")
	mustNotHave(t, b.Box, "phone/sub dir/IMG_9.JPG")
}
