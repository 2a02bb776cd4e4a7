package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/update/install"
	"yunbox.local/discovery"
)

// alone runs a test again in a network of its own, with one interface, lan0. It returns
// false where the test runs outside of that.
func alone(t *testing.T) bool {
	const inside = "YUNBOX_TEST_ALONE"
	run := func(args ...string) ([]byte, error) {
		c := exec.Command(args[0], args[1:]...)
		c.Env = append(os.Environ(), inside+"=1")
		return c.CombinedOutput()
	}
	if os.Getenv(inside) != "" {
		for _, args := range []string{"link set lo up", "link add lan0 type veth peer name veth1", "addr add 192.0.2.1/24 dev lan0", "link set veth1 up", "link set lan0 up", "route add 224.0.0.0/4 dev lan0"} {
			if out, err := run(append([]string{"ip"}, strings.Fields(args)...)...); err != nil {
				t.Skipf("no interface can be made: %s", out)
			}
		}
		return true
	}
	if out, err := run("unshare", "-n", "true"); err != nil {
		t.Skipf("no network can be made: %v %s", err, out)
	}
	out, err := run("unshare", "-n", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// text is what the box with an id says about itself on the network, as a simple resolver
// hears it (RFC 6762 § 6.7); "" if it says nothing.
func text(t *testing.T, id string) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "192.0.2.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := new(dns.Msg).SetQuestion(discovery.ServiceBox+".local.", dns.TypePTR)
	raw, err := m.Pack()
	if err == nil {
		_, err = c.WriteTo(raw, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	}
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 9000)
	n, _, err := c.ReadFrom(buf)
	if err != nil || m.Unpack(buf[:n]) != nil || !strings.Contains(m.String(), "id="+id) {
		return ""
	}
	return m.String()
}

// A new version that does not answer by mDNS where the one before did goes back; on trial
// the box says on the network that it is in maintenance. R18
func TestAVersionOnTrialIsFound(t *testing.T) {
	if !alone(t) {
		return
	}
	state := t.TempDir()
	put := func(name string, v any) {
		t.Helper()
		b, _ := json.Marshal(v)
		if err := os.WriteFile(filepath.Join(state, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 1200 {
			if ok() {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal(what)
	}
	start := func() (b *daemon.Box, stop func()) {
		t.Helper()
		b, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{State: state, HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, MDNS: config.MDNSOn}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx, func() {}) }()
		return b, func() {
			t.Helper()
			cancel()
			if err := errors.Join(<-ended, b.Close()); err != nil {
				t.Error(err)
			}
		}
	}

	prove := func(b *daemon.Box) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return daemon.ProveMDNS(ctx, b)
	}

	if err := os.Mkdir(filepath.Join(state, install.Dir), 0o700); err != nil {
		t.Fatal(err)
	}
	// Interfaces that are gone count no more.
	type heard struct {
		ID    string   `json:"id"`
		Links []string `json:"links"`
	}
	put(install.TrialFile, install.Trial{ID: "one", Closed: true})
	put("update/heard", heard{"one", []string{"lan0", "gone0"}})
	box, stop := start()
	id := daemon.ID(box)
	says := func(word string) func() bool { return func() bool { return strings.Contains(text(t, id), "st="+word) } }
	until("the box is not announced", func() bool { return daemon.Network(box).Announced })
	if n := daemon.Network(box); n.MDNS != "own" || !slices.Equal(n.Links, []string{"lan0"}) || n.Error != nil || !strings.HasSuffix(n.Host, ".local") {
		t.Errorf("%+v", n)
	}
	until("it does not answer where it is announced", func() bool { return slices.Equal(daemon.Answered(t.Context(), box), []string{"lan0"}) })
	var health install.Health
	until("the box never says how it is", func() bool {
		b, err := os.ReadFile(filepath.Join(state, install.HealthFile))
		return err == nil && json.Unmarshal(b, &health) == nil
	})
	if !health.OK || health.ID != "one" {
		t.Errorf("a good box fails its checks: %+v", health)
	}
	until("the network does not hear that the box is in maintenance", says("m"))
	if err := os.Remove(filepath.Join(state, install.TrialFile)); err != nil {
		t.Fatal(err)
	}
	until("the box stays in maintenance", says("u"))
	stop()

	// A version that keeps the port busy itself.
	put(install.TrialFile, install.Trial{ID: "busy"})
	put("update/heard", heard{"busy", []string{"lan0"}})
	var busy []net.PacketConn
	for network, addr := range map[string]string{"udp4": "0.0.0.0:5353", "udp6": "[::]:5353"} {
		if p, err := net.ListenPacket(network, addr); err == nil {
			busy = append(busy, p)
		} else if network == "udp4" {
			t.Fatal(err)
		}
	}
	box, stop = start()
	until("the box does not say that it is not announced", func() bool { return daemon.Network(box).Error != nil })
	if err := prove(box); err == nil || !strings.Contains(err.Error(), "lan0") {
		t.Errorf("a box that keeps the port busy is well: %v", err)
	}
	stop()
	for _, p := range busy {
		p.Close()
	}

	// A version that is heard by nobody: it cannot join the group.
	if err := os.WriteFile("/proc/sys/net/ipv4/igmp_max_memberships", []byte("0"), 0); err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
		t.Skip(err)
	}
	put(install.TrialFile, install.Trial{ID: "two"})
	put("update/heard", heard{"two", []string{"lan0"}})
	box, stop = start()
	until("the box does not believe that it is announced", func() bool { return daemon.Network(box).Announced })
	if err := prove(box); err == nil || !strings.Contains(err.Error(), "lan0") {
		t.Errorf("a box that nobody can find is well: %v", err)
	}
	stop()
}

// Nobody on the network can make a box go back to the version before. R18
func TestWhatOthersDoIsNoFaultOfAVersion(t *testing.T) {
	taken := fmt.Errorf("listen: %w", syscall.EADDRINUSE)
	for _, c := range []struct {
		s    discovery.Status
		want bool
	}{
		{discovery.Status{Backend: discovery.Own}, false},
		{discovery.Status{Backend: discovery.Own, Err: errors.New("no socket")}, false},
		{discovery.Status{Backend: discovery.Own, Disturbed: true}, true},
		{discovery.Status{Backend: discovery.Own, Err: taken}, true},
		{discovery.Status{Backend: discovery.Own, Err: fmt.Errorf("listen: %w", discovery.ErrOwnPort)}, false},
		{discovery.Status{Backend: discovery.Own, Err: errors.Join(taken, discovery.ErrOwnPort)}, true}, // one of IPv4 and IPv6 each
		{discovery.Status{Backend: discovery.Avahi}, false},
		{discovery.Status{Backend: discovery.Avahi, Err: errors.New("avahi-daemon does not run")}, true},
	} {
		if got := daemon.Excused(c.s); got != c.want {
			t.Errorf("%+v: %v", c.s, got)
		}
	}
}
