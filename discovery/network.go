package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const mdnsPort = 5353

// maxLinks is how many groups the kernel lets one socket join (igmp_max_memberships), less some.
const maxLinks = 16

var (
	group4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort}
	group6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: mdnsPort}
)

// network is what an Announcer stands on: this machine's, or in tests cables in memory.
type network interface {
	// watch calls changed when links or addresses changed, until ctx ends; the
	// channel is closed when it cannot go on.
	watch(ctx context.Context, changed func()) (<-chan struct{}, error)
	// open gets packets ready to flow to handle. It may be called again after it failed,
	// and after close. An error that is errHalf left one of IPv4 and IPv6 open.
	open(handle func(packet)) error
	// links lists the links that there are, ready to send on.
	links() ([]link, error)
	send(packet)
	// close lets all go; handle is not called any more when it returns.
	close()
}

// ErrOwnPort is what is in the way where the port of mDNS cannot be had and no other program
// is why: this process has it already, or does not ask for its share of it.
var ErrOwnPort = errors.New("the box itself keeps the port of mDNS busy")

// errHalf: the port of mDNS is somebody's, over IPv4 or IPv6.
var errHalf = errors.New("the port of mDNS cannot be had over both IPv4 and IPv6")

// sockets are the network of this machine: one socket for each family, shared by all
// links. They are sent on while they are opened.
type sockets struct {
	done   sync.WaitGroup
	closed chan struct{}

	mu sync.RWMutex
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

func newSockets() *sockets { return &sockets{closed: make(chan struct{})} }

// share lets other responders on this machine, such as Avahi, have the port too.
func share(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		if e := reusePort(int(fd)); e != nil {
			failed = errors.Join(failed, e)
		}
	})
	return errors.Join(err, failed)
}

// listen binds to all addresses: simple resolvers ask by unicast (RFC 6762 § 5.5, 6.7).
// Its error is ErrOwnPort, or EADDRINUSE where another program has the port.
func listen(fam family, port int, control func(network, address string, c syscall.RawConn) error) (net.PacketConn, error) {
	c := net.ListenConfig{Control: control}
	network, host := "udp4", "0.0.0.0"
	if fam == ip6 {
		network, host = "udp6", "::"
	}
	for tries := 0; ; tries++ {
		p, err := c.ListenPacket(context.Background(), network, net.JoinHostPort(host, strconv.Itoa(port)))
		if !errors.Is(err, syscall.EADDRINUSE) || !busyByUs(fam, port) {
			return p, err
		}
		if tries > 0 { // the other program did not just end
			return nil, fmt.Errorf("%w: %v", ErrOwnPort, err) //nolint:errorlint // EADDRINUSE is for others
		}
	}
}

func (s *sockets) open(handle func(packet)) error {
	err4, err6 := s.open4(handle), s.open6(handle)
	err := errors.Join(err4, err6)
	switch {
	case s.v4 == nil && s.v6 == nil:
		return fmt.Errorf("listen for mDNS: %w", err)
	case busy(err):
		return fmt.Errorf("%w: %w", errHalf, err)
	}
	return nil // a machine without one of the families is well
}

// busy reports whether the port is somebody's, ourselves included.
func busy(err error) bool { return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, ErrOwnPort) }

func (s *sockets) open4(handle func(packet)) error {
	if s.v4 != nil {
		return nil
	}
	c, err := listen(ip4, mdnsPort, share)
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(c)
	if err := errors.Join(p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true), p.SetMulticastTTL(255), p.SetTTL(255), p.SetMulticastLoopback(true)); err != nil {
		p.Close()
		return err
	}
	s.mu.Lock()
	s.v4 = p
	s.mu.Unlock()
	s.done.Go(func() {
		s.receive(handle, ip4, func(b []byte) (n, index int, dst net.IP, from net.Addr, err error) {
			n, cm, from, err := p.ReadFrom(b)
			if cm != nil {
				index, dst = cm.IfIndex, cm.Dst
			}
			return n, index, dst, from, err
		})
	})
	return nil
}

func (s *sockets) open6(handle func(packet)) error {
	if s.v6 != nil {
		return nil
	}
	c, err := listen(ip6, mdnsPort, share)
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(c)
	if err := errors.Join(p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true), p.SetMulticastHopLimit(255), p.SetHopLimit(255), p.SetMulticastLoopback(true)); err != nil {
		p.Close()
		return err
	}
	s.mu.Lock()
	s.v6 = p
	s.mu.Unlock()
	s.done.Go(func() {
		s.receive(handle, ip6, func(b []byte) (n, index int, dst net.IP, from net.Addr, err error) {
			n, cm, from, err := p.ReadFrom(b)
			if cm != nil {
				index, dst = cm.IfIndex, cm.Dst
			}
			return n, index, dst, from, err
		})
	})
	return nil
}

// receive hands packets on until the socket is closed.
func (s *sockets) receive(handle func(packet), fam family, read func([]byte) (int, int, net.IP, net.Addr, error)) {
	buf := make([]byte, maxPacket+1)
	for {
		n, index, dst, from, err := read(buf)
		if err != nil {
			select {
			case <-s.closed:
				return
			case <-time.After(time.Second): // a socket that fails for good must not eat the processor
				continue
			}
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok {
			continue
		}
		peer := udp.AddrPort()
		handle(packet{
			link: index, fam: fam, raw: buf[:n], group: dst.IsMulticast(),
			peer: netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()),
		})
	}
}

func (s *sockets) watch(ctx context.Context, changed func()) (<-chan struct{}, error) {
	return watchLinks(ctx, changed)
}

// links joins the groups on the links that are there. A link that is in already
// says so by an error; one that cannot be in is told from that by its silence only,
// and is tried again with the next change.
func (s *sockets) links() ([]link, error) {
	list, err := currentLinks()
	if err != nil {
		return nil, err
	}
	if len(list) > maxLinks {
		list = list[:maxLinks]
	}
	for i := range list {
		l := &list[i]
		if s.v4 != nil && l.can[ip4] {
			l.can[ip4] = joined(s.v4.JoinGroup(&l.iface, group4))
		}
		if s.v6 != nil && l.can[ip6] {
			l.can[ip6] = joined(s.v6.JoinGroup(&l.iface, group6))
		}
		l.can[ip4], l.can[ip6] = l.can[ip4] && s.v4 != nil, l.can[ip6] && s.v6 != nil
	}
	return list, nil
}

func joined(err error) bool { return err == nil || errors.Is(err, syscall.EADDRINUSE) }

// send is best effort: what is lost is asked for again, and a link that is down
// comes back as a change of the network.
func (s *sockets) send(p packet) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p.fam == ip4 && s.v4 != nil {
		to := group4
		if !p.group {
			to = net.UDPAddrFromAddrPort(p.peer)
		}
		_, _ = s.v4.WriteTo(p.raw, &ipv4.ControlMessage{IfIndex: p.link}, to)
	} else if p.fam == ip6 && s.v6 != nil {
		to := group6
		if !p.group {
			to = net.UDPAddrFromAddrPort(p.peer)
		}
		_, _ = s.v6.WriteTo(p.raw, &ipv6.ControlMessage{IfIndex: p.link}, to)
	}
}

func (s *sockets) close() {
	close(s.closed)
	s.mu.Lock()
	if s.v4 != nil {
		s.v4.Close()
	}
	if s.v6 != nil {
		s.v6.Close()
	}
	s.v4, s.v6 = nil, nil
	s.mu.Unlock()
	s.done.Wait()
	s.closed = make(chan struct{})
}
