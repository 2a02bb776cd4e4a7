package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// cable is a network in memory: every packet to the group reaches all that are
// plugged in, the sender too, as on a real machine.
type cable struct {
	mu   sync.Mutex
	ends []*machine
	seen []sighting // all packets that were sent
}

// sighting is a packet as it was on the cable.
type sighting struct {
	at   time.Time
	from netip.AddrPort
	to   netip.AddrPort // zero: the group
	fam  family
	msg  *dns.Msg
	size int
}

func (s sighting) group() bool { return !s.to.IsValid() }

// machine is the network of one box: links by index, each plugged into a cable.
type machine struct {
	mu      sync.Mutex
	plugs   map[int]plug
	handle  func(packet)
	changed func()
	in      chan packet
	stop    chan struct{}
	done    sync.WaitGroup
	failing error // of open
}

type plug struct {
	cable *cable
	addrs []netip.Prefix
}

func newMachine() *machine {
	return &machine{plugs: make(map[int]plug), in: make(chan packet, 4096), stop: make(chan struct{})}
}

// plugIn puts a link of the machine on a cable, or changes its addresses.
func (m *machine) plugIn(index int, c *cable, addrs ...string) {
	var list []netip.Prefix
	for _, a := range addrs {
		list = append(list, netip.MustParsePrefix(a))
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	m.mu.Lock()
	m.plugs[index] = plug{c, list}
	changed := m.changed
	m.mu.Unlock()
	c.mu.Lock()
	if !slices.Contains(c.ends, m) {
		c.ends = append(c.ends, m)
	}
	c.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (m *machine) unplug(index int) {
	m.mu.Lock()
	delete(m.plugs, index)
	changed := m.changed
	m.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (m *machine) watch(ctx context.Context, changed func()) (<-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = changed
	return make(chan struct{}), nil
}

func (m *machine) open(handle func(packet)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != nil || m.handle != nil {
		return m.failing
	}
	m.handle = handle
	m.done.Go(func() {
		for {
			select {
			case p := <-m.in:
				handle(p)
			case <-m.stop:
				return
			}
		}
	})
	return nil
}

func (m *machine) links() ([]link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []link
	for index, p := range m.plugs {
		l := link{iface: net.Interface{Index: index, Name: fmt.Sprintf("lan%d", index), MTU: 1500}, addrs: p.addrs, nets: p.addrs}
		for _, a := range p.addrs {
			if a.Addr().Is4() {
				l.can[ip4] = true
			} else {
				l.can[ip6] = true
			}
		}
		if len(p.addrs) > 0 {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b link) int { return a.iface.Index - b.iface.Index })
	return list, nil
}

func (m *machine) source(index int, fam family) netip.AddrPort {
	for _, a := range m.plugs[index].addrs {
		if a.Addr().Is4() == (fam == ip4) {
			return netip.AddrPortFrom(a.Addr(), mdnsPort)
		}
	}
	return netip.AddrPort{}
}

func (m *machine) send(p packet) {
	m.mu.Lock()
	from, c := m.source(p.link, p.fam), m.plugs[p.link].cable
	m.mu.Unlock()
	if c == nil || !from.IsValid() {
		return
	}
	to := p.peer
	if p.group {
		to = netip.AddrPort{}
	}
	c.carry(from, to, p.fam, p.raw)
}

func (m *machine) close() {
	close(m.stop)
	m.done.Wait()
}

// carry delivers a packet and notes it down.
func (c *cable) carry(from, to netip.AddrPort, fam family, raw []byte) {
	raw = slices.Clone(raw)
	msg := new(dns.Msg)
	if msg.Unpack(raw) != nil {
		msg = nil
	}
	c.mu.Lock()
	c.seen = append(c.seen, sighting{time.Now(), from, to, fam, msg, len(raw)})
	ends := slices.Clone(c.ends)
	c.mu.Unlock()
	for _, m := range ends {
		m.mu.Lock()
		for index, p := range m.plugs {
			if p.cable == c && (!to.IsValid() || slices.ContainsFunc(p.addrs, func(a netip.Prefix) bool { return a.Addr() == to.Addr() })) {
				select {
				case m.in <- packet{link: index, fam: fam, peer: from, group: !to.IsValid(), raw: raw}:
				default: // as a kernel does
				}
			}
		}
		m.mu.Unlock()
	}
}

// Somebody else on the cable.
var (
	peer    = netip.MustParseAddrPort("192.0.2.77:5353")
	peer2   = netip.MustParseAddrPort("192.0.2.78:5353")
	simple  = netip.MustParseAddrPort("192.0.2.77:40000")
	distant = netip.MustParseAddrPort("198.51.100.9:5353")
)

func (c *cable) put(t *testing.T, from netip.AddrPort, m *dns.Msg) {
	t.Helper()
	m.Compress = true
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c.carry(from, netip.AddrPort{}, ip4, raw)
}

// since returns what the box sent from a time on: answers, or questions.
func (c *cable) since(at time.Time, answers bool) (list []sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.seen {
		theirs := s.from.Addr() == peer.Addr() || s.from.Addr() == peer2.Addr() || s.from.Addr() == distant.Addr()
		if !s.at.Before(at) && s.msg != nil && s.msg.Response == answers && !theirs && s.fam == ip4 {
			list = append(list, s)
		}
	}
	return list
}

// ask sends a question and returns what the box says in the 150 ms after it.
func (c *cable) ask(t *testing.T, from netip.AddrPort, m *dns.Msg) []sighting {
	t.Helper()
	synctest.Wait()
	at := time.Now()
	c.put(t, from, m)
	time.Sleep(150 * time.Millisecond)
	synctest.Wait()
	return c.since(at, true)
}

func question(name string, kind uint16) *dns.Msg {
	return &dns.Msg{Question: []dns.Question{{Name: name, Qtype: kind, Qclass: dns.ClassINET}}}
}

// rrs parses records in the format of zone files.
func rrs(t *testing.T, lines ...string) (list []dns.RR) {
	t.Helper()
	for _, s := range lines {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		list = append(list, rr)
	}
	return list
}

func says(t *testing.T, lines ...string) *dns.Msg {
	return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Answer: rrs(t, lines...)}
}

// holds reports whether a message has a record; the pattern is its text without the TTL.
func holds(list []dns.RR, pattern string) bool {
	return slices.ContainsFunc(list, func(rr dns.RR) bool { return strings.Contains(flat(rr), pattern) })
}

// flat is a record's text with single blanks and without the TTL.
func flat(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Class &^= flush
	f := strings.Split(rr.String(), "\t")
	return strings.Join(append(f[:1:1], f[2:]...), " ")
}

type station struct {
	*Announcer
	*machine
	t    *testing.T
	kept []Names
	mu   sync.Mutex
}

// start runs a box on a machine in the bubble of the test.
func start(t *testing.T, s Service, m *machine, kept Names) *station {
	t.Helper()
	b := &station{machine: m, t: t}
	a, err := announce(t.Context(), s, Options{Log: slog.New(slog.DiscardHandler), Kept: kept, Keep: func(n Names) {
		b.mu.Lock()
		b.kept = append(b.kept, n)
		b.mu.Unlock()
	}}, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Announcer = a
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// running is a box that has announced itself, alone on a cable.
func running(t *testing.T, s Service) (*station, *cable) {
	t.Helper()
	c, m := new(cable), newMachine()
	m.plugIn(7, c, "192.0.2.5/24", "2001:db8::5/64")
	b := start(t, s, m, Names{})
	time.Sleep(5 * time.Second)
	synctest.Wait()
	return b, c
}

func (b *station) Close() error { return b.Announcer.Close() }
