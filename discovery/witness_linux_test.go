package discovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// witness is a machine that hears every packet of mDNS and says what it likes.
type witness struct {
	l  *lab
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
	c4 *net.UDPConn // below v4
	c6 *net.UDPConn // below v6

	mu   sync.Mutex
	seen []heard
}

type heard struct {
	at   time.Time // when the kernel had it: this program may be late
	from netip.AddrPort
	ttl  int
	link int
	fam  family
	to   net.IP
	raw  []byte
	msg  *dns.Msg
}

func (h heard) String() string { return fmt.Sprintf("%s to %s:\n%v", h.from, h.to, h.msg) }

// newWitness makes the machine w of the lab, plugged in as number 200.
func newWitness(l *lab) *witness {
	l.t.Helper()
	l.machine("w")
	l.plug("w", 200)
	w := &witness{l: l}
	err := l.within("w", func() error {
		c4, err := listen(ip4, mdnsPort, share)
		if err != nil {
			return err
		}
		c6, err := listen(ip6, mdnsPort, share)
		if err != nil {
			return err
		}
		w.v4, w.v6, w.c4, w.c6 = ipv4.NewPacketConn(c4), ipv6.NewPacketConn(c6), c4.(*net.UDPConn), c6.(*net.UDPConn)
		for _, err := range []error{
			stamped(w.c4), stamped(w.c6),
			w.v4.SetControlMessage(ipv4.FlagTTL|ipv4.FlagDst|ipv4.FlagInterface, true), w.v4.SetMulticastTTL(255), w.v4.SetMulticastLoopback(false),
			w.v6.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagDst|ipv6.FlagInterface, true), w.v6.SetMulticastHopLimit(255), w.v6.SetMulticastLoopback(false),
		} {
			if err != nil {
				return err
			}
		}
		return w.join("lan0")
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { w.v4.Close(); w.v6.Close() })
	go w.listen(ip4)
	go w.listen(ip6)
	return w
}

func (w *witness) join(name string) error {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	if err := w.v4.JoinGroup(ifi, group4); err != nil {
		return err
	}
	if err := w.v4.SetMulticastInterface(ifi); err != nil {
		return err
	}
	return w.v6.JoinGroup(ifi, group6)
}

// stamped asks the kernel to note when each packet came.
func stamped(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	return errors.Join(failed, err)
}

// stamp is when a packet came, by what the kernel says beside it; now if it does not.
func stamp(beside []byte) time.Time {
	list, err := unix.ParseSocketControlMessage(beside)
	if err == nil {
		for _, m := range list {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) == 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

func (w *witness) listen(fam family) {
	buf, beside := make([]byte, 65536), make([]byte, 1024)
	conn := w.c4
	if fam == ip6 {
		conn = w.c6
	}
	for {
		h := heard{fam: fam}
		n, m, _, from, err := conn.ReadMsgUDPAddrPort(buf, beside)
		if err != nil {
			return
		}
		if fam == ip4 {
			var cm ipv4.ControlMessage
			if cm.Parse(beside[:m]) == nil {
				h.ttl, h.to, h.link = cm.TTL, cm.Dst, cm.IfIndex
			}
		} else {
			var cm ipv6.ControlMessage
			if cm.Parse(beside[:m]) == nil {
				h.ttl, h.to, h.link = cm.HopLimit, cm.Dst, cm.IfIndex
			}
		}
		h.at, h.raw, h.msg = stamp(beside[:m]), slices.Clone(buf[:n]), new(dns.Msg)
		h.from = from
		if h.msg.Unpack(h.raw) != nil {
			continue
		}
		w.mu.Lock()
		w.seen = append(w.seen, h)
		w.mu.Unlock()
	}
}

// box is where the box under test may say things from, over IPv4.
func ofBox(h heard) bool {
	switch h.from.Addr().Unmap().String() {
	case "192.0.2.1", "192.0.2.9", "203.0.113.1":
		return true
	}
	return false
}

// from returns what the box said over IPv4 since a time, questions or answers.
func (w *witness) from(since time.Time, answers bool) (list []heard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.seen {
		if ofBox(h) && !h.at.Before(since) && h.msg.Response == answers {
			list = append(list, h)
		}
	}
	return list
}

// await waits for an answer of the box that satisfies ok.
func (w *witness) await(since time.Time, patience time.Duration, ok func(heard) bool) (heard, bool) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		for _, h := range w.from(since, true) {
			if ok(h) {
				return h, true
			}
		}
		if time.Now().After(deadline) {
			return heard{}, false
		}
	}
}

// announces is an answer to nobody that holds a living record.
func living(pattern string) func(heard) bool {
	return func(h heard) bool {
		return slices.ContainsFunc(h.msg.Answer, func(rr dns.RR) bool {
			return rr.Header().Ttl > 0 && holds([]dns.RR{rr}, pattern)
		})
	}
}

// say sends a message to the group over IPv4.
func (w *witness) say(m *dns.Msg) time.Time {
	w.l.t.Helper()
	raw, err := m.Pack()
	if err != nil {
		w.l.t.Error(err)
	}
	return w.put(raw)
}

func (w *witness) put(raw []byte) time.Time {
	at := time.Now()
	if _, err := w.v4.WriteTo(raw, nil, group4); err != nil {
		w.l.t.Log(err)
	}
	return at
}

// ask sends a question and returns what came in the time after it.
func (w *witness) ask(m *dns.Msg, d time.Duration) (time.Time, []heard) {
	w.l.t.Helper()
	at := w.say(m)
	time.Sleep(d)
	return at, w.from(at, true)
}

// answers asks a question whose answers shall satisfy ok, and returns what came by then, and
// in any case all that came soon.
func (w *witness) answers(m *dns.Msg, ok func([]heard) bool) (time.Time, []heard) {
	w.l.t.Helper()
	at, got := w.ask(m, soon)
	for deadline := at.Add(patience); !ok(got) && time.Now().Before(deadline); got = w.from(at, true) {
		time.Sleep(5 * time.Millisecond)
	}
	return at, got
}

// alone asks by a socket of its own, bound to an address of the witness ("" for any),
// as simple resolvers do, and returns the answer, nil if none comes within that time.
func (w *witness) alone(bind, to string, m *dns.Msg, patience time.Duration) (answer *dns.Msg) {
	w.l.t.Helper()
	raw, err := m.Pack()
	if err != nil {
		w.l.t.Fatal(err)
	}
	var c net.PacketConn
	err = w.l.within("w", func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp4", net.JoinHostPort(bind, "0"))
		if err != nil {
			return err
		}
		dst, err := net.ResolveUDPAddr("udp4", to)
		if err != nil {
			return err
		}
		ifi, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		_, err = ipv4.NewPacketConn(c).WriteTo(raw, &ipv4.ControlMessage{IfIndex: ifi.Index}, dst)
		return err
	})
	if err != nil {
		w.l.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.l.t.Fatal(err)
	}
	buf := make([]byte, 9000)
	n, _, err := c.ReadFrom(buf)
	if err != nil {
		return nil
	}
	answer = new(dns.Msg)
	if answer.Unpack(buf[:n]) != nil {
		return nil
	}
	return answer
}
