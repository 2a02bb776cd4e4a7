package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A box that nobody uses writes nothing and hardly wakes up. What it does once after
// its start and after an upload comes at times of its own, so what is asked for is a
// window in which it does nothing at all: who ticks has none.
func TestAnIdleBoxSleeps(t *testing.T) {
	t.Parallel()
	const window, wakes = 6 * time.Second, 10 // one tick a second wakes several threads
	state := t.TempDir()
	var attr *syscall.SysProcAttr
	if os.Geteuid() == 0 { // the box hears of every mount, and other tests make some
		attr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	p := startAs(t, state, attr, "YUNBOX_FTP=127.0.0.1:0", "YUNBOX_HTTP=127.0.0.1:0")
	keepOneFile(t, state, p.url)
	var tries []string
	for range 15 {
		before := doings(t, p.Process.Pid)
		time.Sleep(window)
		d := doings(t, p.Process.Pid)
		d.written, d.wakes = d.written-before.written, d.wakes-before.wakes
		if d.written == 0 && d.wakes <= wakes {
			return
		}
		tries = append(tries, fmt.Sprintf("%+v", d))
	}
	t.Errorf("there were no %v in which the box did nothing: %v", window, tries)
}

// keepOneFile binds the box, consents and stores a file, so that there is something at
// rest. Then it hangs up.
func keepOneFile(t *testing.T, state, box string) {
	t.Helper()
	local := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(state, "run", "yunboxd.sock"))
	}}}
	// The daemon's key is not the matter of this test, and it is on this machine.
	remote := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	token := ""
	ask := func(c *http.Client, method, address, body string, out any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		a, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if err := json.NewDecoder(a.Body).Decode(out); err != nil || a.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s %v", method, address, a.Status, err)
		}
	}
	var label struct {
		PairURI string `json:"pair_uri"`
	}
	ask(local, "GET", "http://box/local/label", "", &label)
	uri, err := url.Parse(label.PairURI)
	if err != nil {
		t.Fatal(err)
	}
	var session struct{ Token string }
	ask(remote, "POST", box+"/v1/bind", `{"secret":"`+uri.Query().Get("s")+`","username":"ada","password":"correct horse battery staple"}`, &session)
	token = session.Token
	var policy struct{ Revision string }
	ask(remote, "GET", box+"/v1/policy", "", &policy)
	var any map[string]any
	ask(remote, "PUT", box+"/v1/consents/album_backup", `{"granted":true,"policy_revision":"`+policy.Revision+`"}`, &any)
	ask(remote, "PUT", box+"/v1/files/a.jpg?source=album", "a photo", &any)
}

// doing is what a process has done so far.
type doing struct {
	written int64 // bytes, to files on disks
	wakes   int64 // how often one of its threads waited and went on
}

func doings(t *testing.T, pid int) (d doing) {
	t.Helper()
	d.written = field(t, fmt.Sprintf("/proc/%d/io", pid), "write_bytes:")
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, name := range threads {
		d.wakes += field(t, name, "voluntary_ctxt_switches:")
	}
	return d
}

func field(t *testing.T, name, key string) int64 {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		return 0 // a thread that has ended
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), key); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", name, key)
	return 0
}
