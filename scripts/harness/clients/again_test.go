package clients

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"yunbox.local/scripts/harness/internal/box"
)

// A relay ends a client's TLS before the box and counts the bodies that pass: what
// a client itself says of what it sent is no proof.
type relay struct {
	*httptest.Server
	ca          string // file of its certificate
	fingerprint string // of its key

	mu     sync.Mutex
	bodies map[string]int64 // bytes by method and route
}

func relayTo(t *testing.T, b *box.Box) *relay {
	t.Helper()
	to, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{bodies: map[string]int64{}}
	proxy := &httputil.ReverseProxy{Transport: b.Client().Transport, Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		what := req.Method + " " + req.URL.Path
		r.count(what, 0)
		req.Body = &counted{ReadCloser: req.Body, left: req.ContentLength, add: func(n int) { r.count(what, int64(n)) }}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	r.ca = filepath.Join(t.TempDir(), "relay.crt")
	if err := os.WriteFile(r.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(r.Certificate().RawSubjectPublicKeyInfo)
	r.fingerprint = base64.RawURLEncoding.EncodeToString(key[:])
	return r
}

func (r *relay) count(what string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies[what] += n
}

// took tells the bytes of all bodies but those of the questions that are named, and
// of these, and forgets both.
func (r *relay) took(questions ...string) (files, asked int64, requests string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, n := range r.bodies {
		question := false
		for _, q := range questions {
			question = question || strings.HasPrefix(what, q)
		}
		if question {
			asked += n
		} else {
			files += n
		}
		requests += fmt.Sprintf("\n%s: %d bytes", what, n)
	}
	r.bodies = map[string]int64{}
	return files, asked, requests
}

// TestSecondRunSendsNothing counts, outside of clients and box, what a second run of
// the same backup sends: no byte of a file. nextcloudcmd is counted in TestNextcloudcmd.
func TestSecondRunSendsNothing(t *testing.T) { // R05 R13
	b := startImmich(t, "album_backup")
	cache := t.TempDir()
	for _, c := range []struct {
		name      string
		questions []string
		backup    func(t *testing.T, r *relay, dir string) (said string, err error)
	}{
		{"rclone", []string{"PROPFIND "}, func(t *testing.T, r *relay, dir string) (string, error) {
			d := davBox{Box: b.Box, password: b.key}
			return d.rclone(t, r.URL+"/dav/", "--ca-cert", r.ca, "copy", dir, ":webdav:phone")
		}},
		{"@immich/cli", []string{"POST /api/assets/bulk-upload-check"}, func(t *testing.T, r *relay, dir string) (string, error) {
			trusting := *b.Box
			trusting.CAFile = r.ca
			return immichBox{&trusting, b.key}.cli(t, r.URL, b.key, "upload", "--recursive", "--no-progress", dir)
		}},
		{"yunboxctl push", []string{"POST /v1/blobs/known"}, func(t *testing.T, r *relay, dir string) (string, error) {
			cmd := exec.CommandContext(t.Context(), programs(t).Yunboxctl, "--box", r.URL, "--fingerprint", r.fingerprint,
				"push", dir, "--source", "album", "--cache", cache)
			cmd.Env = append(os.Environ(), "YUNBOX_TOKEN="+b.key)
			out, err := cmd.CombinedOutput()
			return string(out), err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := relayTo(t, b.Box)
			var total int64
			sizes := map[string]int64{"DCIM/IMG_0001.JPG": 300_001, "DCIM/照片 2023/风景 😀.jpg": 100_000, "VID_0002.mp4": 3 * mib, "one.jpg": 1}
			for _, n := range sizes {
				total += n
			}
			dir, _ := photos(t, sizes)
			for run := range 2 {
				if said, err := c.backup(t, r, dir); err != nil {
					t.Fatalf("%v\n%s", err, said)
				}
				files, asked, requests := r.took(c.questions...)
				t.Logf("run %d: %d bytes of files, %d of questions", run+1, files, asked)
				if run == 0 && files < total {
					t.Fatalf("%d bytes were counted of %d: the counter does not count%s", files, total, requests)
				}
				if run == 1 && files != 0 {
					t.Errorf("the second run sent %d bytes%s", files, requests)
				}
			}
		})
	}
}
