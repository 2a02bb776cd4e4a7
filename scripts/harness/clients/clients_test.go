// Package clients tests a box with clients that nobody here wrote: tus-js-client
// on Node, and curl. Each finds what our own client would forgive.
package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/wire"
)

// programs finds what scripts/test has built.
func programs(t *testing.T) box.Programs {
	t.Helper()
	dir := os.Getenv("YUNBOX_BIN")
	if dir == "" {
		t.Fatal("YUNBOX_BIN must name the directory of yunboxd and yunboxctl: run scripts/test, which builds them")
	}
	return box.Find(dir)
}

// start runs a box that its owner has claimed.
func start(t *testing.T) *box.Box {
	t.Helper()
	// Not t.TempDir: the path of the box's socket must fit into 107 bytes.
	dir, err := os.MkdirTemp("", "box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b := startOn(t, filepath.Join(dir, "state"))
	if err := b.Claim(t.Context(), "owner", "correct horse battery"); err != nil {
		t.Fatal(err)
	}
	return b
}

func startOn(t *testing.T, state string) *box.Box {
	t.Helper()
	b, err := programs(t).Start(t.Context(), state, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

// content makes a file of random bytes.
func content(t *testing.T, size int64) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "content")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path, hex.EncodeToString(h.Sum(nil))
}

// mustHave reads a file back from the box.
func mustHave(t *testing.T, b *box.Box, path, sum string) {
	t.Helper()
	if got, err := b.Hash(t.Context(), path); err != nil || got != sum {
		t.Errorf("%q reads back as %s, %v; want %s", path, got, err, sum)
	}
}

func mustNotHave(t *testing.T, b *box.Box, path string) {
	t.Helper()
	if got, err := b.Hash(t.Context(), path); !box.IsStatus(err, http.StatusNotFound) {
		t.Errorf("%q must not exist: %s, %v", path, got, err)
	}
}

// proxy stands before the box and cuts connections at these totals of sent bytes.
func proxy(t *testing.T, b *box.Box, cuts ...int64) *wire.Proxy {
	t.Helper()
	p, err := wire.Listen(strings.TrimPrefix(b.URL, "https://"), cuts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// tusSettings are what tus.mjs takes.
type tusSettings struct {
	Endpoint string `json:"endpoint"`
	File     string `json:"file"`
	Token    string `json:"token"`
	Path     string `json:"path"`
	Chunk    int64  `json:"chunk"`
	SHA256   string `json:"sha256,omitempty"`
	Protocol string `json:"protocol,omitempty"` // "": tus-v1
}

type tusResult struct {
	OK      bool
	Retries int
	URL     string
	SHA256  string
	Status  int
	Body    string
	Error   string
}

// tus runs tus-js-client. It trusts the box's own authority, and nothing else new.
func tus(t *testing.T, b *box.Box, s tusSettings) tusResult {
	t.Helper()
	settings, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "tus.mjs", string(settings))
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+b.CAFile)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	runErr := cmd.Run() // 1 when the upload failed: the line says why
	var r tusResult
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("tus.mjs: %v, %v: %s%s", runErr, err, out.Bytes(), complaints.Bytes())
	}
	return r
}

const mib = 1 << 20

func TestTusClient(t *testing.T) { // R05
	b := start(t)
	for _, c := range []struct {
		name  string
		size  int64
		chunk int64
		cuts  []int64
		slack int64 // bytes that may be sent twice, and TLS
	}{
		{"in one request", 12 * mib, 0, nil, mib},
		{"empty file", 0, 0, nil, mib},
		{"in chunks", 12 * mib, 5 * mib, nil, mib},
		// What a cut loses is what lay in the buffers of the sockets.
		{"cut three times", 40 * mib, 0, []int64{9 * mib, 20 * mib, 33 * mib}, 24 * mib},
		{"in chunks, cut three times", 40 * mib, 4 * mib, []int64{9 * mib, 20 * mib, 33 * mib}, 24 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, sum := content(t, c.size)
			p := proxy(t, b, c.cuts...)
			path := "tus/照片 " + c.name + ".jpg"
			r := tus(t, b, tusSettings{
				Endpoint: fmt.Sprintf("https://127.0.0.1:%d/v1/uploads", p.Port()), File: file, Token: b.Token, Path: path, Chunk: c.chunk, SHA256: sum,
			})
			if !r.OK {
				t.Fatalf("tus-js-client gave up: %+v", r)
			}
			if p.Cuts() != len(c.cuts) || r.Retries < len(c.cuts) {
				t.Errorf("%d cuts and %d retries, want %d", p.Cuts(), r.Retries, len(c.cuts))
			}
			if sent := p.Sent(); sent > c.size+c.slack {
				t.Errorf("%d bytes were sent for a file of %d: it did not resume", sent, c.size)
			}
			if r.SHA256 != sum {
				t.Errorf("the box says it stored %q, sent was %s", r.SHA256, sum)
			}
			mustHave(t, b, path, sum)
		})
	}
}

func TestTusClientSurvivesKilledBox(t *testing.T) { // R05
	b := start(t)
	file, sum := content(t, 32*mib)
	p := proxy(t, b)
	settings := tusSettings{
		Endpoint: fmt.Sprintf("https://127.0.0.1:%d/v1/uploads", p.Port()), File: file, Token: b.Token, Path: "tus/restart.bin", Chunk: 4 * mib, SHA256: sum,
	}
	done := make(chan tusResult, 1)
	go func() { done <- tus(t, b, settings) }()
	for p.Sent() < 14*mib { // bounded: the client's own time limit ends the test
		select {
		case r := <-done:
			t.Fatalf("it ended before the box was killed: %+v", r)
		case <-time.After(time.Millisecond):
		}
	}
	b.Kill()
	again := startOn(t, b.State)
	again.Token = b.Token
	p.Retarget(strings.TrimPrefix(again.URL, "https://"))
	if r := <-done; !r.OK || r.Retries == 0 {
		t.Fatalf("tus-js-client gave up: %+v", r)
	}
	mustHave(t, again, "tus/restart.bin", sum)
}

func TestTusClientIsToldOfWrongHash(t *testing.T) {
	b := start(t)
	file, _ := content(t, mib)
	_, other := content(t, 10)
	r := tus(t, b, tusSettings{Endpoint: b.URL + "/v1/uploads", File: file, Token: b.Token, Path: "tus/wrong.bin", SHA256: other})
	if r.OK || r.Status/100 != 4 || !strings.Contains(r.Body, `"hint"`) {
		t.Errorf("the wrong hash must be refused with a problem that says what to do: %+v", r)
	}
	mustNotHave(t, b, "tus/wrong.bin")
}

// curlResult is what curl saw.
type curlResult struct {
	status   int
	uploaded int64
	body     string
	code     int // of curl itself
}

// problemType is the "type" of an RFC 9457 answer.
func (r curlResult) problemType() string {
	var p struct{ Type, Hint string }
	if json.Unmarshal([]byte(r.body), &p) != nil || p.Hint == "" {
		return ""
	}
	return p.Type
}

func curl(t *testing.T, b *box.Box, args ...string) curlResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	body := filepath.Join(t.TempDir(), "answer")
	args = append([]string{"-sS", "--http1.1", "--cacert", b.CAFile, "-o", body, "-w", "%{http_code} %{size_upload}"}, args...)
	cmd := exec.CommandContext(ctx, "curl", args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	r := curlResult{code: cmd.ProcessState.ExitCode()}
	if _, scanErr := fmt.Sscan(out.String(), &r.status, &r.uploaded); scanErr != nil {
		t.Fatalf("curl: %v: %s%s", err, out.Bytes(), complaints.Bytes())
	}
	answer, err := os.ReadFile(body)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	r.body = string(answer)
	return r
}

func digest(sum string) string {
	raw, err := hex.DecodeString(sum)
	if err != nil {
		panic(err) // we made it
	}
	return "Repr-Digest: sha-256=:" + base64.StdEncoding.EncodeToString(raw) + ":"
}

func TestCurl(t *testing.T) { // R02 R05 R06 R31
	b := start(t)
	file, sum := content(t, 8*mib)
	small, smallSum := content(t, 3)
	auth := "Authorization: Bearer " + b.Token

	put := func(name string, query url.Values, args ...string) curlResult {
		address := b.FileURL(name)
		if len(query) > 0 {
			address += "?" + query.Encode()
		}
		return curl(t, b, append([]string{"-H", auth, address}, args...)...)
	}
	t.Run("stores a file and reads it back", func(t *testing.T) {
		r := put("curl/new.bin", nil, "-T", file, "-H", digest(sum))
		if r.status != 201 || !strings.Contains(r.body, sum) {
			t.Fatalf("%+v", r)
		}
		mustHave(t, b, "curl/new.bin", sum)
	})
	t.Run("sends no body for what the box has", func(t *testing.T) {
		r := put("curl/again.bin", nil, "-T", file, "-H", digest(sum), "-H", "Expect: 100-continue", "--expect100-timeout", "20")
		if r.status/100 != 2 || r.uploaded != 0 || !strings.Contains(r.body, `"known"`) {
			t.Errorf("%+v", r)
		}
		mustHave(t, b, "curl/again.bin", sum)
	})
	t.Run("is refused before the body", func(t *testing.T) {
		expect := []string{"-T", file, "-H", "Expect: 100-continue", "--expect100-timeout", "20"}
		for _, c := range []struct {
			name    string
			status  int
			problem string
			result  func() curlResult
		}{
			{"without consent", 403, "consent-required", func() curlResult {
				return put("curl/wechat.bin", url.Values{"source": {"wechat"}}, expect...)
			}},
			{"unknown source", 400, "invalid", func() curlResult {
				return put("curl/source.bin", url.Values{"source": {"carrier-pigeon"}}, expect...)
			}},
			{"wrong token", 401, "unauthenticated", func() curlResult {
				return curl(t, b, append([]string{"-H", "Authorization: Bearer no", b.FileURL("curl/token.bin")}, expect...)...)
			}},
			{"part of a file", 400, "invalid", func() curlResult {
				return put("curl/part.bin", nil, append(expect, "-H", "Content-Range: bytes 0-9/20")...)
			}},
			{"right-to-left override in the name", 400, "invalid", func() curlResult {
				return put("curl/evil\u202egpj.exe", nil, expect...)
			}},
		} {
			r := c.result()
			if r.status != c.status || !strings.HasSuffix(r.problemType(), c.problem) {
				t.Errorf("%s: %+v, want %d and a problem …%s with a hint", c.name, r, c.status, c.problem)
			}
			if r.uploaded != 0 {
				t.Errorf("%s: curl sent %d bytes of the body first", c.name, r.uploaded)
			}
		}
	})
	t.Run("wrong digest leaves nothing", func(t *testing.T) {
		r := put("curl/wrong.bin", nil, "-T", small, "-H", digest(sum[2:]+"00"))
		if r.status/100 != 4 || r.problemType() == "" {
			t.Errorf("%+v", r)
		}
		mustNotHave(t, b, "curl/wrong.bin")
	})
	t.Run("short body leaves nothing", func(t *testing.T) {
		r := put("curl/short.bin", nil, "-T", small, "-H", "Content-Length: 100", "-m", "3")
		if r.status/100 == 2 {
			t.Errorf("%+v", r)
		}
		mustNotHave(t, b, "curl/short.bin")
	})
	t.Run("climbing path stays inside", func(t *testing.T) {
		r := curl(t, b, "-H", auth, "--path-as-is", "-T", small, b.URL+"/v1/files/curl/../../../../etc/passwd")
		if r.status/100 != 4 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("chunked body of unknown length", func(t *testing.T) {
		r := put("curl/chunked.bin", nil, "-T", small, "-H", "Transfer-Encoding: chunked")
		switch r.status {
		case 201:
			mustHave(t, b, "curl/chunked.bin", smallSum)
		case 411:
			mustNotHave(t, b, "curl/chunked.bin")
		default:
			t.Errorf("%+v", r)
		}
	})
	t.Run("range and condition", func(t *testing.T) {
		if r := put("curl/new.bin", nil, "-r", "10-19"); r.status != 206 || len(r.body) != 10 {
			t.Errorf("range: %d, %d bytes", r.status, len(r.body))
		}
		if r := put("curl/new.bin", nil, "-H", `If-None-Match: "`+sum+`"`); r.status != 304 {
			t.Errorf("condition: %d", r.status)
		}
	})
	t.Run("does not trust a stranger", func(t *testing.T) {
		r := curl(t, b, "--cacert", "/dev/null", b.URL+"/")
		if r.code == 0 {
			t.Errorf("curl took the box's certificate without its authority: %+v", r)
		}
	})
	t.Run("deletes", func(t *testing.T) {
		if r := put("curl/again.bin", nil, "-X", "DELETE"); r.status != 204 {
			t.Errorf("%+v", r)
		}
		mustNotHave(t, b, "curl/again.bin")
		mustHave(t, b, "curl/new.bin", sum)
	})
}
