package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"yunbox.local/daemon/doctor"
	"yunbox.local/daemon/problem"
	"yunbox.local/discovery"
)

func cmdUnpack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: unpack ZIP FILE")
	}
	z, err := zip.OpenReader(ts.MkAbs(args[0]))
	ts.Check(err)
	defer z.Close()
	var all bytes.Buffer
	for _, f := range z.File {
		r, err := f.Open()
		ts.Check(err)
		fmt.Fprintf(&all, "== %s\n", f.Name)
		_, err = io.Copy(&all, r)
		ts.Check(err)
		r.Close()
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), all.Bytes(), 0o600))
}

// Who announces the box, and whether it sees itself. R02
func TestStatusSaysHowTheBoxIsFound(t *testing.T) {
	for _, c := range []struct {
		network, says string
		attention     bool
	}{
		{`null`, "not said", false},
		{`{"mdns":"off","links":[],"seen":null,"error":null}`, "mdns is off", false},
		{`{"mdns":"own","links":[],"seen":null,"error":null}`, "NOT announced: not yet", false},
		{`{"mdns":"own","links":["eth0","wlan0"],"seen":null,"error":null}`, "announced by the box itself on eth0, wlan0", false},
		{`{"mdns":"avahi","links":["eth0"],"seen":true,"error":null}`, "announced by Avahi on eth0; it sees itself", false},
		{`{"mdns":"own","links":["eth0"],"seen":false,"error":null}`, "does NOT see itself", true},
		{`{"mdns":"avahi","links":[],"seen":null,"error":"avahi-daemon does not run"}`, "NOT announced", true},
	} {
		var s boxStatus
		if err := json.Unmarshal([]byte(`{"bound":true,"network":`+c.network+`}`), &s); err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(s.attention(time.Now()), func(f doctor.Finding) bool { return f.Check == "mdns" })
		if !strings.Contains(s.announced(), c.says) || found != c.attention {
			t.Errorf("%s: %q, %v", c.network, s.announced(), s.attention(time.Now()))
		}
	}
}

// What is in the way is said also where the box is seen, and with what to do. R02
func TestDoctorSaysWhyTheBoxIsNotAnnounced(t *testing.T) {
	here := []discovery.Found{{Text: map[string]string{"id": "OTHER"}}, {Text: map[string]string{"id": "box"}, Addrs: make([]netip.Addr, 2)}}
	for _, c := range []struct {
		network, says, do string
		found             []discovery.Found
		state             doctor.State
	}{
		{`{"mdns":"own"}`, "finds itself on the network, with 2 addresses that it answers to. It is announced by the box itself.", "", here, doctor.OK},
		{`{"mdns":"own"}`, "does not find itself", "firewall", here[:1], doctor.Warn},
		{`{"mdns":"own","error":"address already in use"}`, "finds itself", "`ss -ulpn sport = 5353`", here, doctor.Warn},
		{`{"mdns":"avahi","error":"avahi-daemon failed: Timeout"}`, "In the way: avahi-daemon failed: Timeout.", "`systemctl restart avahi-daemon`", here, doctor.Warn},
		{`{"mdns":"avahi","error":"avahi-daemon does not run"}`, "It should be announced by Avahi. In the way: avahi-daemon does not run.", "`systemctl restart avahi-daemon`", nil, doctor.Warn},
		{`null`, "finds itself on the network, with 2 addresses that it answers to.", "", here, doctor.OK},
		{`{"mdns":"own"},"addresses":["https://127.0.0.1:1/","https://[::1]:1/","https://localhost:1/"]`, "listens on this computer only", "Set https to", here, doctor.Warn},
		{`{"mdns":"own"},"addresses":["https://127.0.0.1:1/","https://192.0.2.1:1/"]`, "finds itself", "", here, doctor.OK},
	} {
		var s boxStatus
		if err := json.Unmarshal([]byte(`{"id":"BOX","bound":true,"network":`+c.network+`}`), &s); err != nil {
			t.Fatal(err)
		}
		f := sight(c.found, s)
		if f.State != c.state || !strings.Contains(f.Says, c.says) || !strings.Contains(f.Do, c.do) || (f.Do == "") != (c.do == "") {
			t.Errorf("%s: %+v", c.network, f)
		}
		for _, f := range s.attention(time.Now()) {
			if f.Check == "mdns" && s.Network.MDNS == "avahi" && !strings.Contains(f.Do, c.do) {
				t.Errorf("%s: %+v", c.network, f)
			}
		}
	}
}

// A box with everything wrong at once, and names as long as they may be, still fits a
// serial console.
func TestStatusFitsAScreen(t *testing.T) {
	long := strings.Repeat("云盒子", 7)
	old := time.Now().Add(-100 * 24 * time.Hour)
	var s boxStatus
	s.Name, s.Version, s.Fingerprint, s.Words = long, "0.1.0", strings.Repeat("f", 43), strings.Fields("one two three four five six")
	for i := range 9 {
		s.Addresses = append(s.Addresses, fmt.Sprintf("https://[2001:db8::%d]:8443/", i))
	}
	s.Disk.Total, s.Volume.Error = 100e9, strings.Repeat("the disk has failed ", 20)
	s.Items, s.Scrub.Oldest, s.Scrub.Days, s.Scrub.Damaged = 5, &old, 30, 4711
	s.Requests.Overdue = 2
	for range 5 {
		s.SecondCopies = append(s.SecondCopies, secondCopy{Name: long, Time: &old, State: "complete"})
	}
	for _, kind := range []string{"scrub", "view", "second-copy", "duplicates", "export", "erasure", "cancellation"} {
		s.Jobs = append(s.Jobs, boxJob{Kind: kind, State: "running"}, boxJob{Kind: kind, State: "failed", Says: strings.Repeat("It failed. ", 20), Do: "Try again."})
	}
	attention := s.attention(time.Now())
	if len(attention) < 6 || attention[0].State != doctor.Fail {
		t.Errorf("%+v", attention)
	}
	for _, ascii := range []bool{false, true} {
		var b strings.Builder
		s.draw(screen{w: &b, width: 80, height: 24, terminal: true, ascii: ascii}, attention, time.Now())
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) > 24 {
			t.Errorf("%d lines:\n%s", len(lines), b.String())
		}
		for _, l := range lines {
			columns := 0
			for _, r := range l {
				columns += columnsOf(r)
				if ascii && r >= utf8.RuneSelf || r < ' ' {
					t.Errorf("%q has %q", l, r)
				}
			}
			if columns > 80 {
				t.Errorf("%d columns: %s", columns, l)
			}
		}
		if !strings.Contains(b.String(), "more: `yunboxctl doctor`") || strings.Contains(b.String(), "\x1b") {
			t.Errorf("%s", b.String())
		}
	}
	s = boxStatus{Name: "Yunbox", Bound: true}
	s.Volume.OK, s.Disk.Total, s.Disk.Free = true, 100e9, 90e9
	var b strings.Builder
	s.draw(screen{w: &b, width: 80, terminal: true, colour: true}, s.attention(time.Now()), time.Now())
	if !strings.HasPrefix(b.String(), green+"Yunbox, version , up 0s: all is well") {
		t.Errorf("%s", b.String())
	}
	s.Jobs = []boxJob{{Kind: "export", State: "running"}, {Kind: "scrub", State: "done"}, {Kind: "erasure", State: "waiting", Says: "It is still there.", Do: "Look at the disk."}}
	b.Reset()
	s.draw(screen{w: &b, width: 80}, s.attention(time.Now()), time.Now())
	for _, want := range []string{"0 uploads running; in the background: export\n", "! erasure: It is still there.\n   Look at the disk.\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

func TestLinesAreCutBetweenSigns(t *testing.T) {
	for text, want := range map[string]string{"abcdefgh": "abcdefgh", "abcdefghi": "abcdefg~", "云盒子云": "云盒子云", "云盒子云盒": "云盒子~", "a云盒子云": "a云盒子~", "": ""} {
		if got := cut(text, 8); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
	for env, want := range map[string]bool{"LANG=C": true, "LANG=de_DE.UTF-8": false, "LC_ALL=C.utf8": false, "": true, "LC_ALL=POSIX": true} {
		name, value, _ := strings.Cut(env, "=")
		if got := asciiOnly(func(n string) string {
			if n == name {
				return value
			}
			return ""
		}); got != want {
			t.Errorf("%s: %v", env, got)
		}
	}
}

func TestRates(t *testing.T) {
	before := parseMetrics([]byte("# HELP x y\nyunbox_received_bytes_total{gateway=\"api\"} 100\nyunbox_answers_2xx_total{gateway=\"api\"} 5\nyunbox_uploads_total{outcome=\"new\"} 1\nyunbox_db_commits_total 9\nnonsense\n"))
	after := parseMetrics([]byte("yunbox_received_bytes_total{gateway=\"api\"} 2100\nyunbox_answers_2xx_total{gateway=\"api\"} 9\nyunbox_answers_5xx_total{gateway=\"api\"} 2\n" +
		"yunbox_uploads_total{outcome=\"new\"} 5\nyunbox_uploads_total{outcome=\"failed\"} 2\nyunbox_db_commits_total 3\nyunbox_disk_bytes 1000\nyunbox_disk_free_bytes 250\n"))
	l := between(before, after, 2)
	if g := l.Gateways["api"]; g.In != 1000 || g.Requests != 3 || g.Refused != 1 || l.Files != 2 || l.Declined != 1 {
		t.Errorf("%+v %+v", l, l.Gateways["api"])
	}
	if l.Commits != 0 {
		t.Errorf("a box that was restarted: %v commits a second", l.Commits)
	}
	var b strings.Builder
	l.draw(screen{w: &b, width: 80}, true)
	if !strings.Contains(b.String(), "75 % used") || !strings.Contains(b.String(), "nothing runs in the background") {
		t.Error(b.String())
	}
}

func TestCertificateIsJudged(t *testing.T) {
	now := time.Date(2027, 1, 10, 0, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), DNSNames: []string{"yunbox-7f3a.local"}, IPAddresses: []net.IP{net.ParseIP("192.168.1.5")}}
	good := []string{"https://yunbox-7f3a.local:8443/", "https://192.168.1.5:8443/"}
	for what, c := range map[string]struct {
		addresses []string
		now       time.Time
		state     doctor.State
		says      string
	}{
		"good":        {good, now, doctor.OK, "lasts for 2 days"},
		"new address": {append(good, "https://192.168.1.6:8443/"), now, doctor.Fail, "does not name 1 of its 3"},
		"expired":     {good, now.Add(72 * time.Hour), doctor.Fail, "expired"},
		"early":       {good, now.Add(-2 * time.Hour), doctor.Warn, "future"},
	} {
		if f := judge(cert, c.addresses, c.now); f.State != c.state || !strings.Contains(f.Says, c.says) {
			t.Errorf("%s: %+v", what, f)
		}
	}
}

// What a bundle must not have, however it got into the log.
func TestMasking(t *testing.T) {
	m := newMasker()
	m.knows("Ada", "Familie Meier", "/srv/ada's box")
	const secrets = "Ada ada@example.com +49 170 1234567 13812345678 192.168.1.77 192.168.1.77:8443 fe80::1c2d:3eff:fe4f:1 [2001:db8::1]:443 00:1A:2b:3c:4d:5e" +
		" /home/ada/Photos/IMG_1.jpg IMG_0815.HEIC yunbox-7f3a.local https://cloud.example.com/x?y=z Familie Meier 张伟.txt 日记" +
		" 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 ybt_AbCdEfGhIjKlMnOpQrStUv"
	for _, line := range []string{
		"time=2027-01-10T10:00:00.000Z level=WARN msg=\"" + secrets + "\"",
		"2027-01-10T10:00:00+0100 box yunboxd[7]: " + secrets,
		`<4>{"level":"WARN","msg":"x","path":"` + secrets + `"}`,
	} {
		got := m.mask(line)
		for _, word := range []string{"ada", "example", "170", "1234567", "138", "192.168", "fe80", "2001", "db8", "1a:2b", "photos", "img_", "7f3a", "meier", "张", "日记", "9f86", "abcdef"} {
			if strings.Contains(strings.ToLower(got), word) {
				t.Errorf("%s is in %s", word, got)
			}
		}
		if stamp := line[:20]; !strings.HasPrefix(got, stamp) && !strings.HasPrefix(line, "<") {
			t.Errorf("the time went: %s", got)
		}
	}
	const plain = `time=2027-01-10T10:00:00.000Z level=INFO msg="a damaged content was healed" from=copy n=12 status=200 madam adamant`
	if got := m.mask(plain); got != plain {
		t.Errorf("%s", got)
	}
}

// everyCommand walks all that the program can do, but for what writes pages and completions.
func everyCommand(c *cobra.Command, path []string, each func(path []string, c *cobra.Command)) {
	for _, sub := range c.Commands() {
		if sub.Name() == "completion" || sub.Name() == "help" || sub.Name() == "man" {
			continue
		}
		p := append(slices.Clone(path), sub.Name())
		if sub.Runnable() {
			each(p, sub)
		}
		everyCommand(sub, p, each)
	}
}

// Every command has --json: what it says is JSON, and so is why it fails. None of them
// can reach a box here.
func TestEveryCommandHasJSON(t *testing.T) {
	home := t.TempDir()
	for name, value := range map[string]string{"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "YUNBOX_TOKEN": "", "YUNBOX_BOX": "", "YUNBOX_FINGERPRINT": "", "PATH": home} {
		t.Setenv(name, value)
	}
	t.Chdir(home)
	root := (&app{}).root()
	ran := 0
	everyCommand(root, nil, func(path []string, c *cobra.Command) {
		if c.Flags().ShorthandLookup("h") == nil {
			c.InitDefaultHelpFlag()
		}
		if c.InheritedFlags().Lookup("json") == nil && c.Flags().Lookup("json") == nil {
			t.Errorf("%v has no --json", path)
			return
		}
		if c.Short == "" {
			t.Errorf("%v does not say what it does", path)
		}
		// With no arguments, and with as many as its line of usage names.
		for _, args := range [][]string{nil, slices.Repeat([]string{"nothing"}, len(regexp.MustCompile(`[A-Z]{2,}|\|`).FindAllString(c.Use, -1))), {"nothing"}} {
			ran++
			if path[0] == "wait" {
				args = append(slices.Clone(args), "--timeout", "1ms")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			var stdout, stderr bytes.Buffer
			code := run(ctx, slices.Concat([]string{"--json", "--state", filepath.Join(home, "none")}, path, args), strings.NewReader(""), &stdout, &stderr)
			cancel()
			for line := range strings.Lines(stdout.String()) {
				if !json.Valid([]byte(line)) && !json.Valid(stdout.Bytes()) {
					t.Errorf("%v %v says %q", path, args, line)
				}
			}
			var out struct {
				Error *struct {
					Exit  int    `json:"exit"`
					Title string `json:"title"`
				} `json:"error"`
			}
			last := strings.TrimSpace(stderr.String())
			last = last[strings.LastIndexByte(last, '\n')+1:]
			if code == 0 || last == "" && stdout.Len() > 0 {
				continue // it said so on standard output
			}
			if err := json.Unmarshal([]byte(last), &out); err != nil || out.Error == nil || out.Error.Exit != code || out.Error.Title == "" {
				t.Errorf("%v %v ends with %d: %s", path, args, code, stderr.String())
			}
		}
	})
	if ran < 150 {
		t.Errorf("only %d commands were tried", ran)
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[int]bool{problem.ExitOK: true, problem.ExitFailed: true, problem.ExitUsage: true, problem.ExitPartly: true}
	for _, kind := range problem.Kinds() {
		codes[problem.ExitCode(&problem.Error{Kind: kind})] = true
	}
	for code := range codes {
		if n := strings.Count(string(text), fmt.Sprintf("\n| %d | ", code)); n != 1 {
			t.Errorf("docs/exit-codes.md has %d rows for %d", n, code)
		}
		if !strings.Contains(exitCodes, fmt.Sprintf("\n  %d  ", code)) {
			t.Errorf("--help does not say what %d is", code)
		}
	}
}

func TestJobsAreDrawn(t *testing.T) {
	at := time.Date(2027, 1, 10, 3, 4, 0, 0, time.Local)
	var b strings.Builder
	drawJobs(&b, "now", []boxJob{
		{Kind: "export", State: "running", Phase: "sending", Count: 1, Bytes: 1.5e9, Size: 3e9, Since: &at, Left: 90},
		{Kind: "erasure", State: "running", Count: 3, Done: 512, Total: 2048, Phase: "erasing"},
		{Kind: "second-copy", State: "failed", Ended: &at, Says: "The disk\x1b[2J is not there.", Do: "Attach it."},
		{Kind: "scrub", State: "done", Total: 12, Size: 5e6, Ended: &at, Stop: "never shown"},
		{Kind: "cancellation", State: "waiting", Until: &at, Stop: "yunboxctl user keep NAME"},
	})
	want := `now
  export        running  since 01-10 03:04  1.5 GB of 3.0 GB, sending, about 1m30s left
  erasure       running                     3 of them, 512 of 2048 (25 %), erasing
  second-copy   failed   ended 01-10 03:04
    ! The disk�[2J is not there.
      Attach it.
  scrub         done     ended 01-10 03:04  12, 5.0 MB
  cancellation  waiting  until 01-10 03:04
    ends by: yunboxctl user keep NAME
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}
