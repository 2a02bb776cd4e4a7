//go:build linux

package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the box, or a searching client, inside a network namespace.
const roleEnv = "YUNBOX_DISCOVERY_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "box":
		os.Exit(playBox())
	case "client":
		found, err := Browse(context.Background(), ServiceBox, 2*time.Second)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown role", role)
		os.Exit(2)
	}
}

// playBox announces until SIGTERM; each line on its input is a state to change to.
func playBox() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := labBox()
	a, err := Announce(ctx, s, Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			s.State = State(lines.Text())
			if err := a.Update(s); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	<-ctx.Done()
	if err := a.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func labBox() Service {
	s := box()
	s.Name = "云盒 Living Room"
	return s
}

// lab is two network namespaces joined by a cable: the box's and the house's, where
// a real avahi-daemon listens on a bus of its own.
type lab struct {
	t          *testing.T
	box, house string
	bus        string
}

func newLab(t *testing.T) *lab {
	if os.Geteuid() != 0 {
		t.Skip("this test makes network namespaces, which needs root")
	}
	for _, tool := range []string{"ip", "avahi-daemon", "avahi-browse", "avahi-resolve", "dbus-daemon", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install avahi-daemon avahi-utils dbus iproute2 (scripts/test does)", tool)
		}
	}
	id := fmt.Sprint(os.Getpid())
	l := &lab{t: t, box: "yb" + id, house: "yh" + id}
	if out, err := exec.Command("ip", "netns", "add", l.box).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Operation not permitted") || strings.Contains(string(out), "Permission denied") {
			t.Skipf("this machine lets not even root make network namespaces: %s", out)
		}
		t.Fatalf("ip netns add: %s", out)
	}
	t.Cleanup(func() { l.ip("netns", "del", l.box) })
	l.ip("netns", "add", l.house)
	t.Cleanup(func() { l.ip("netns", "del", l.house) })
	for _, ns := range []string{l.box, l.house} {
		l.ip("-n", ns, "link", "set", "lo", "up")
		// Addresses are usable at once, and the first one may go without the others.
		l.must(exec.Command("ip", "netns", "exec", ns, "sh", "-c",
			"for d in default all; do echo 0 > /proc/sys/net/ipv6/conf/$d/accept_dad; echo 1 > /proc/sys/net/ipv4/conf/$d/promote_secondaries; done"))
	}

	dir := t.TempDir()
	l.bus = "unix:path=" + filepath.Join(dir, "bus")
	conf := filepath.Join(dir, "bus.conf")
	err := os.WriteFile(conf, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>`+l.bus+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_requested_reply="true"/><allow send_destination="*"/><allow receive_sender="*"/><allow receive_requested_reply="true"/></policy></busconfig>`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.start(exec.Command("dbus-daemon", "--nofork", "--config-file="+conf))
	l.until("the bus", func() string {
		if _, err := os.Stat(filepath.Join(dir, "bus")); err != nil {
			return err.Error()
		}
		return ""
	})
	return l
}

// plug joins the namespaces, as late as the test wants.
func (l *lab) plug() {
	l.ip("-n", l.box, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", l.house)
	for i, ns := range []string{l.box, l.house} {
		l.ip("-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "lan0")
		l.ip("-n", ns, "link", "set", "lan0", "up")
	}
}

// avahi starts the witness. Where its state lives is compiled in, hence the mount.
func (l *lab) avahi() {
	conf := filepath.Join(l.t.TempDir(), "avahi.conf")
	if err := os.WriteFile(conf, []byte("[server]\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\npublish-workstation=no\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	c := l.in(l.house, "unshare", "-m", "sh", "-c", "mount -t tmpfs none /run/avahi-daemon && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "+conf)
	if err := os.MkdirAll("/run/avahi-daemon", 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.start(c)
	l.until("avahi-daemon", func() string {
		out, err := l.in(l.house, "avahi-resolve", "-a", "127.0.0.1").CombinedOutput()
		if err != nil && strings.Contains(string(out), "Daemon not running") {
			return string(out)
		}
		return ""
	})
}

func (l *lab) in(ns string, args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	c.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+l.bus, "LC_ALL=C.UTF-8")
	return c
}

func (l *lab) start(c *exec.Cmd) {
	l.t.Helper()
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	})
}

func (l *lab) ip(args ...string) { l.t.Helper(); l.must(exec.Command("ip", args...)) }

func (l *lab) must(c *exec.Cmd) {
	l.t.Helper()
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, out)
	}
}

// until waits for a condition; it names what it still waits for, or nothing.
func (l *lab) until(what string, missing func() string) time.Duration {
	l.t.Helper()
	begin := time.Now()
	for {
		m := missing()
		if m == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > 30*time.Second {
			l.t.Fatalf("waiting for %s: %s", what, m)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// browse asks the witness for services and returns the lines of those it resolved.
func (l *lab) browse(kind string) string {
	out, err := l.in(l.house, "timeout", "10", "avahi-browse", "-rpt", kind).Output()
	if err != nil {
		l.t.Fatalf("avahi-browse %s: %v", kind, err)
	}
	var resolved []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "=") {
			resolved = append(resolved, line)
		}
	}
	return strings.Join(resolved, "")
}

func (l *lab) seen(what, kind string, want, unwanted []string) {
	l.t.Helper()
	d := l.until(what, func() string {
		out := l.browse(kind)
		for _, w := range want {
			if !strings.Contains(out, w) {
				return fmt.Sprintf("no %q in\n%s", w, out)
			}
		}
		for _, u := range unwanted {
			if strings.Contains(out, u) {
				return fmt.Sprintf("still %q in\n%s", u, out)
			}
		}
		return ""
	})
	l.t.Logf("%s: after %v", what, d.Round(10*time.Millisecond))
}

// TestSeenByAvahiFromAnotherMachine is the whole life of an announcement, judged by
// somebody else's software: no network at start, a network, binding, a new address,
// SIGTERM. R02
func TestSeenByAvahiFromAnotherMachine(t *testing.T) {
	l := newLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	yunbox := l.in(l.box, self)
	yunbox.Env = append(yunbox.Env, roleEnv+"=box")
	yunbox.Stderr = os.Stderr
	states, err := yunbox.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := yunbox.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- yunbox.Wait() }()
	t.Cleanup(func() { _ = yunbox.Process.Kill(); <-exited })

	l.plug()
	l.avahi()
	// avahi-browse escapes what is not plain ASCII in names: bytes as \DDD.
	const name = `\228\186\145\231\155\146\032Living\032Room`
	txt := `"txtvers=1" "id=PZ5TQ2M7XK3VDA6B" "pv=1" "api=/v1" "st=`
	l.seen("seen", ServiceBox, []string{name, "yunbox-7f3a.local", "192.0.2.1;8443;", `"st=u"`, `"sn4=0042"`, `"id=PZ5TQ2M7XK3VDA6B"`}, nil)
	l.seen("admin page", ServiceHTTPS, []string{name, "192.0.2.1;8443;", `"path=/"`}, nil)
	l.seen("files", ServiceWebDAV, []string{name, "192.0.2.1;8443;", `"path=/dav/"`}, nil)
	l.seen("unbound", SubtypeUnbound+"."+ServiceBox, []string{name, `"st=u"`}, nil)
	if out := l.browse(ServiceBox); !strings.Contains(reversed(out), txt) {
		t.Errorf("TXT strings are not in the order of the design:\n%s", out)
	}

	client := l.in(l.house, self)
	client.Env = append(client.Env, roleEnv+"=client")
	out, err := client.Output()
	var found []Found
	if err != nil || json.Unmarshal(out, &found) != nil || len(found) != 1 ||
		found[0].Name != "云盒 Living Room" || found[0].Text["st"] != "u" || found[0].Host != "yunbox-7f3a.local" || found[0].Port != 8443 {
		t.Errorf("Browse: %v, %s", err, out)
	}

	if _, err := fmt.Fprintln(states, "b"); err != nil {
		t.Fatal(err)
	}
	l.seen("bound", ServiceBox, []string{`"st=b"`, "192.0.2.1;8443;"}, []string{`"st=u"`, "sn4"})
	l.seen("out of the subtype", SubtypeUnbound+"."+ServiceBox, nil, []string{"="})

	l.ip("-n", l.box, "addr", "add", "192.0.2.9/24", "dev", "lan0")
	l.ip("-n", l.box, "addr", "del", "192.0.2.1/24", "dev", "lan0")
	d := l.until("the new address", func() string {
		out, err := l.in(l.house, "timeout", "5", "avahi-resolve", "-4", "-n", "yunbox-7f3a.local").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "192.0.2.9") {
			return string(out)
		}
		return ""
	})
	t.Logf("new address: after %v", d.Round(10*time.Millisecond))

	if err := yunbox.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Errorf("the box ended with %v", err)
	}
	exited <- nil
	l.seen("gone", ServiceBox, nil, []string{"="})
	l.seen("admin page gone", ServiceHTTPS, nil, []string{"="})
}

// reversed puts the strings of each TXT record back in order: avahi-browse prints
// them last first.
func reversed(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		fields := strings.SplitN(strings.TrimSpace(line), ";", 10)
		texts := strings.Split(fields[len(fields)-1], `" "`)
		for i := len(texts) - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "%q ", strings.Trim(texts[i], `"`))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
