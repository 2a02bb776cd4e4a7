package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/grandcat/zeroconf"
	"golang.org/x/sys/unix"
)

// The test binary plays the box, or a searching client, inside a network namespace.
const (
	roleEnv = "YUNBOX_DISCOVERY_ROLE"
	nameEnv = "YUNBOX_DISCOVERY_NAME"
	idEnv   = "YUNBOX_DISCOVERY_ID"

	backendEnv = "YUNBOX_DISCOVERY_BACKEND"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
		flag.Parse()
		if err := flag.Set("test.parallel", "8"); err != nil { // they mostly wait
			panic(err)
		}
		os.Exit(m.Run())
	case "yunbox":
		os.Exit(playBox())
	case "grandcat":
		os.Exit(playLibrary())
	case "client":
		found, err := Browse(context.Background(), ServiceBox, 2*time.Second)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
			os.Exit(1)
		}
	case "itself":
		if _, err := Check(context.Background(), labBox().ID, 5*time.Second); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if _, err := Check(context.Background(), "nobody", time.Second); !errors.Is(err, ErrUnseen) {
			fmt.Fprintln(os.Stderr, "another box:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown role", role)
		os.Exit(2)
	}
}

// playBox announces until SIGTERM; each line on its input is a state to change to, or a
// question mark: how it is doing comes as a line of JSON.
func playBox() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := labBox()
	a, err := Announce(ctx, s, Options{
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Backend: Backend(os.Getenv(backendEnv)), patience: 2 * time.Second,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if lines.Text() == "?" {
				now := a.Status()
				says := ""
				if now.Err != nil {
					says = now.Err.Error()
				}
				if err := json.NewEncoder(os.Stdout).Encode(struct {
					Status
					Err string
				}{now, says}); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
				continue
			}
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

// playLibrary announces the same by the library, as a program that just uses it does:
// for the comparison in docs/decisions/0033-our-own-responder.md.
func playLibrary() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := labBox()
	text, err := s.Text()
	if err != nil {
		return 1
	}
	var servers []*zeroconf.Server
	for _, kind := range []string{ServiceBox, ServiceHTTPS} {
		srv, err := zeroconf.RegisterProxy(s.Name, kind, domain, s.Port, s.Host, addressTexts(), text, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		servers = append(servers, srv)
	}
	<-ctx.Done()
	for _, srv := range servers {
		srv.Shutdown()
	}
	return 0
}

func addressTexts() (list []string) {
	links, err := currentLinks()
	if err != nil {
		return nil
	}
	for _, l := range links {
		for _, p := range l.addrs {
			list = append(list, p.Addr().String())
		}
	}
	return list
}

func labBox() Service {
	s := box()
	s.Name = "云盒 Living Room"
	if n := os.Getenv(nameEnv); n != "" {
		s.Name = n
	}
	if id := os.Getenv(idEnv); id != "" {
		s.ID = id
	}
	return s
}

var labs atomic.Int32

// lab is a house: machines, which are network namespaces, on one switch.
type lab struct {
	t   *testing.T
	id  string
	dir string
	bus string
}

const avahiConf = "[server]\nuse-ipv4=yes\nuse-ipv6=yes\nhost-name=%s\nratelimit-burst=0\n[publish]\npublish-workstation=no\npublish-hinfo=no\n"

func newLab(t *testing.T) *lab {
	if os.Geteuid() != 0 {
		t.Skip("this test makes network namespaces, which needs root")
	}
	for _, tool := range []string{"ip", "avahi-daemon", "avahi-browse", "avahi-resolve", "dbus-daemon", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install avahi-daemon avahi-utils dbus iproute2 (scripts/test does)", tool)
		}
	}
	l := &lab{t: t, id: fmt.Sprintf("y%d-%d", os.Getpid(), labs.Add(1)), dir: t.TempDir()}
	if out, err := exec.Command("ip", "netns", "add", l.ns("sw")).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Operation not permitted") || strings.Contains(string(out), "Permission denied") {
			t.Skipf("this machine lets not even root make network namespaces: %s", out)
		}
		t.Fatalf("ip netns add: %s", out)
	}
	t.Cleanup(func() { l.ip("netns", "del", l.ns("sw")) })
	l.ip("-n", l.ns("sw"), "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	l.ip("-n", l.ns("sw"), "link", "set", "br0", "up")
	return l
}

func (l *lab) ns(machine string) string { return l.id + machine }

// machine makes one, with its number as the last part of its addresses.
func (l *lab) machine(name string) {
	l.t.Helper()
	l.ip("netns", "add", l.ns(name))
	l.t.Cleanup(func() { l.ip("netns", "del", l.ns(name)) })
	l.ip("-n", l.ns(name), "link", "set", "lo", "up")
	// Addresses are usable at once, and the first one may go without the others.
	l.must(l.in(name, "sh", "-c",
		"for d in default all; do echo 0 > /proc/sys/net/ipv6/conf/$d/accept_dad; echo 1 > /proc/sys/net/ipv4/conf/$d/promote_secondaries; done"))
}

// plug connects a machine with the switch.
func (l *lab) plug(name string, number int) {
	l.t.Helper()
	l.ip("-n", l.ns(name), "link", "add", "lan0", "type", "veth", "peer", "name", "port-"+name, "netns", l.ns("sw"))
	l.ip("-n", l.ns("sw"), "link", "set", "dev", "port-"+name, "master", "br0", "up")
	l.ip("-n", l.ns(name), "addr", "add", fmt.Sprintf("192.0.2.%d/24", number), "dev", "lan0")
	l.ip("-n", l.ns(name), "addr", "add", fmt.Sprintf("2001:db8::%d/64", number), "dev", "lan0", "nodad")
	l.ip("-n", l.ns(name), "link", "set", "lan0", "up")
}

// busFor starts a system bus for the daemons of one machine.
func (l *lab) busFor(name string) {
	l.t.Helper()
	l.bus = "unix:path=" + filepath.Join(l.dir, "bus"+name)
	conf := filepath.Join(l.dir, name+".conf")
	err := os.WriteFile(conf, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>`+l.bus+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_requested_reply="true"/><allow send_destination="*"/><allow receive_sender="*"/><allow receive_requested_reply="true"/></policy></busconfig>`), 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	l.start(exec.Command("dbus-daemon", "--nofork", "--config-file="+conf))
	l.until("the bus", func() string {
		if _, err := os.Stat(filepath.Join(l.dir, "bus"+name)); err != nil {
			return err.Error()
		}
		return ""
	})
}

// avahi starts avahi-daemon on a machine; services is the folder of what it announces,
// "" if nothing. Where its state lives is compiled in, hence the mounts. It listens to
// further settings.
func (l *lab) avahi(name, host, services string, settings ...string) *process {
	l.t.Helper()
	l.busFor(name)
	return l.avahiOn(name, host, services, settings...)
}

// avahiOn is avahi on the bus that there is.
func (l *lab) avahiOn(name, host, services string, settings ...string) *process {
	l.t.Helper()
	conf := filepath.Join(l.dir, name+"-avahi.conf")
	text := strings.Replace(fmt.Sprintf(avahiConf, host), "[publish]", strings.Join(append(settings, "[publish]"), "\n"), 1)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	for _, d := range []string{"/run/avahi-daemon", "/etc/avahi/services"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	mounts := "mount -t tmpfs none /run/avahi-daemon && mount -t tmpfs none /etc/avahi/services && "
	if services != "" {
		mounts += "cp " + services + "/* /etc/avahi/services/ && "
	}
	p := l.start(l.in(name, "unshare", "-m", "sh", "-c", mounts+"exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "+conf))
	l.until("avahi-daemon", func() string {
		out, err := l.in(name, "avahi-resolve", "-a", "127.0.0.1").CombinedOutput()
		if err != nil && strings.Contains(string(out), "Daemon not running") {
			return string(out)
		}
		return ""
	})
	return p
}

func (l *lab) in(name string, args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", l.ns(name)}, args...)...)
	c.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+l.bus, "LC_ALL=C.UTF-8")
	return c
}

// process is a program in the lab. It ends with the test at the latest.
type process struct {
	*exec.Cmd
	ended chan struct{}
	err   error
}

func (l *lab) start(c *exec.Cmd) *process {
	l.t.Helper()
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	p := &process{Cmd: c, ended: make(chan struct{})}
	go func() {
		p.err = c.Wait()
		close(p.ended)
	}()
	l.t.Cleanup(func() { p.stop(syscall.SIGTERM, patience) })
	return p
}

// stop sends a signal and waits; it reports how long it took.
func (p *process) stop(s syscall.Signal, patience time.Duration) time.Duration {
	began := time.Now()
	_ = p.Process.Signal(s)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.Process.Kill()
		<-p.ended
	}
	return time.Since(began)
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (l *lab) ip(args ...string) { l.t.Helper(); l.must(exec.Command("ip", args...)) }

func (l *lab) must(c *exec.Cmd) {
	l.t.Helper()
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, out)
	}
}

// until waits for a condition; it names what it still waits for, or nothing.
func (l *lab) until(what string, missing func() string) {
	l.t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		m := missing()
		if m == "" {
			return
		}
		if time.Since(begin) > time.Minute {
			l.t.Fatalf("waiting for %s: %s", what, m)
		}
	}
}

// within runs fn in the network of a machine; sockets made there stay there.
func (l *lab) within(name string, fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + l.ns(name))
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	failed := fn()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(err) // this thread must not be used by anybody any more
	}
	return failed
}

// viewer is an avahi-browse that stays: its lines with their times.
type viewer struct {
	mu    sync.Mutex
	lines []viewed
}

type viewed struct {
	at   time.Time
	text string
}

// browse watches a kind of service from a machine where Avahi runs.
func (l *lab) browse(name, kind string) *viewer {
	l.t.Helper()
	c := l.in(name, "stdbuf", "-oL", "avahi-browse", "-rpk", kind)
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	v := new(viewer)
	go func() {
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				v.mu.Lock()
				v.lines = append(v.lines, viewed{time.Now(), line})
				v.mu.Unlock()
			}
			if err != nil {
				_, _ = io.Copy(io.Discard, r)
				return
			}
		}
	}()
	l.start(c)
	return v
}

// after waits for a line since a time that has all of the parts, and returns when it came.
func (v *viewer) after(since time.Time, patience time.Duration, parts ...string) (time.Duration, bool) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		v.mu.Lock()
		for _, line := range v.lines {
			if line.at.Before(since) {
				continue
			}
			all := true
			for _, p := range parts {
				all = all && strings.Contains(line.text, p)
			}
			if all {
				v.mu.Unlock()
				return line.at.Sub(since), true
			}
		}
		v.mu.Unlock()
		if time.Now().After(deadline) {
			return 0, false
		}
	}
}

// box waits for a box that was resolved to an address with that number, by a line that has
// all of the parts. Avahi shows the address that it hears first, of whatever family.
func (v *viewer) box(since time.Time, patience time.Duration, number int, parts ...string) (time.Duration, bool) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		for _, address := range []string{"192.0.2.", "2001:db8::"} {
			if d, ok := v.after(since, 0, append([]string{"=;lan0;", fmt.Sprintf(";%s%d;8443;", address, number)}, parts...)...); ok {
				return d, true
			}
		}
		if time.Now().After(deadline) {
			return 0, false
		}
	}
}

// seesItself looks for the box from the machine that it runs on.
func (l *lab) seesItself(machine string) {
	l.t.Helper()
	itself := l.in(machine, os.Args[0])
	itself.Env = append(itself.Env, roleEnv+"=itself")
	if out, err := itself.CombinedOutput(); err != nil {
		l.t.Errorf("the box does not see itself: %v %s", err, out)
	}
}

func (v *viewer) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, line := range v.lines {
		b.WriteString(line.text)
	}
	return b.String()
}
