package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// rerun makes the same backup of a folder twice, with three clients and servers.
func (b *bench) rerun(ctx context.Context) error {
	load, err := b.smallCorpus("rerun", b.rerunFiles)
	if err != nil {
		return err
	}
	defer load.remove()
	from := filepath.Join(b.work, "rerun")
	b.note("The same backup twice, %d files, %.1f MB:", load.count, float64(load.bytes)/1e6)
	for _, backup := range []func(ctx context.Context, from, dir string) error{b.rerunBox, b.rerunRestic, b.rerunRsync} {
		dir, clear, err := b.place()
		if err != nil {
			return err
		}
		if err := errors.Join(backup(ctx, from, dir), clear()); err != nil {
			return err
		}
	}
	return nil
}

// twice times a first and a second run and tells the ratio.
func (b *bench) twice(name string, backup func() error) error {
	var took [2]time.Duration
	for i := range took {
		began := time.Now()
		if err := backup(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		took[i] = time.Since(began)
	}
	b.note("- %s: first %.2f s, second %.3f s: %.0f times as fast.", name, took[0].Seconds(), took[1].Seconds(), took[0].Seconds()/took[1].Seconds())
	return nil
}

func (b *bench) rerunBox(ctx context.Context, from, dir string) error {
	server, err := b.startBox(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer server.Kill()
	var status struct{ Fingerprint string }
	if err := server.Local(ctx, http.MethodGet, "/local/status", nil, &status); err != nil {
		return err
	}
	push := func(address, fingerprint string) error {
		cmd := exec.CommandContext(ctx, b.programs.Yunboxctl, "--box", address, "--fingerprint", fingerprint,
			"push", from, "--source", "other", "--cache", filepath.Join(dir, "cache"))
		cmd.Env = append(os.Environ(), "YUNBOX_TOKEN="+server.Token)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, lastLine(out))
		}
		return nil
	}
	if err := b.twice("yunboxctl push", func() error { return push(server.URL, status.Fingerprint) }); err != nil {
		return err
	}
	front, err := newCounter(server, b.race)
	if err != nil {
		return err
	}
	defer front.close()
	if err := push(front.url, front.fingerprint); err != nil {
		return fmt.Errorf("counting its requests: %w", err)
	}
	b.note("  Counted in a third run: %s.", front)
	return nil
}

func (b *bench) rerunRestic(ctx context.Context, from, dir string) error {
	server, address, err := b.startRestic(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer server.Kill()
	restic := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "restic", append([]string{"--repo", "rest:" + address, "--cacert", b.cert, "--cache-dir", filepath.Join(dir, "cache"), "--quiet"}, args...)...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=bench")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("restic %s: %w: %s", args[0], err, lastLine(out))
		}
		return nil
	}
	if err := restic("init"); err != nil {
		return err
	}
	return b.twice("restic backup to rclone serve restic", func() error { return restic("backup", from) })
}

func (b *bench) rerunRsync(ctx context.Context, from, dir string) error {
	server, address, err := b.startRsync(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer server.Kill()
	return b.twice("rsync -rt --fsync to a daemon", func() error { return rsync(ctx, from, address) })
}

// counter stands before a box, ends its TLS, and counts what is asked of it.
type counter struct {
	url, fingerprint string
	server           *http.Server

	mu       sync.Mutex
	requests map[string]int // by method and route
	body     int64          // of requests other than the pre-flight
	asked    int64          // body bytes of the pre-flight
}

func newCounter(to *box.Box, r race) (*counter, error) {
	pair, err := tls.LoadX509KeyPair(r.cert, r.key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(r.ca)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(to.URL)
	if err != nil {
		return nil, err
	}
	c := &counter{
		url: "https://" + ln.Addr().String(), fingerprint: base64.RawURLEncoding.EncodeToString(key[:]),
		requests: map[string]int{},
	}
	proxy := &httputil.ReverseProxy{
		Transport: to.Client().Transport,
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	c.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.count(r)
			proxy.ServeHTTP(w, r)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = c.server.ServeTLS(ln, "", "") }() // ends with close
	return c, nil
}

func (c *counter) close() { _ = c.server.Close() }

func (c *counter) count(r *http.Request) {
	route := r.URL.Path
	for _, prefix := range []string{"/v1/files/", "/v1/uploads/", "/v1/items/"} {
		if strings.HasPrefix(route, prefix) {
			route = prefix + "…"
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[r.Method+" "+route]++
	if route == "/v1/blobs/known" {
		c.asked += max(r.ContentLength, 0)
	} else {
		c.body += max(r.ContentLength, 0)
	}
}

func (c *counter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, route := range slices.Sorted(maps.Keys(c.requests)) {
		parts = append(parts, fmt.Sprintf("%d × %s", c.requests[route], route))
	}
	return fmt.Sprintf("%d bytes of files, %.0f kB of questions; %s", c.body, float64(c.asked)/1000, strings.Join(parts, ", "))
}
