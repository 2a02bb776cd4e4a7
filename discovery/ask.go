package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// askAgain is between two questions: an answer may be lost, or nobody may be ready yet.
const askAgain = 500 * time.Millisecond

// Answered asks on each link, as a simple resolver does (RFC 6762 § 6.7), for the box
// with a public id, and says on which of them this computer itself answers for it: by our
// own responder in whatever process, or by Avahi. It returns when all did or d is over.
// The keys are the names of the links where a box can be announced now. It needs no port
// that somebody else could have, and what others on the network say changes nothing: an
// answer counts only if it comes from an address of this computer.
func Answered(ctx context.Context, id string, d time.Duration) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	links, err := currentLinks()
	if err != nil {
		return nil, err
	}
	own := make(map[netip.Addr]bool)
	on := make(map[string]bool, len(links))
	for _, l := range links {
		on[l.iface.Name] = false
		for _, p := range l.nets {
			own[p.Addr()] = true
		}
	}
	missing := len(links)
	err = ask(ctx, links, ServiceBox, func(l link, from netip.Addr, f Found) bool {
		if own[from] && strings.EqualFold(f.Text["id"], id) && !on[l.iface.Name] {
			on[l.iface.Name] = true
			missing--
		}
		return missing > 0
	})
	return on, err
}

// asker is a socket of each family that is there, without a port of mDNS.
type asker struct {
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

func newAsker() (*asker, error) {
	var a asker
	c4, err4 := net.ListenPacket("udp4", "0.0.0.0:0")
	if err4 == nil {
		a.v4 = ipv4.NewPacketConn(c4)
		err4 = errors.Join(a.v4.SetMulticastTTL(255), a.v4.SetMulticastLoopback(true))
	}
	c6, err6 := net.ListenPacket("udp6", "[::]:0")
	if err6 == nil {
		a.v6 = ipv6.NewPacketConn(c6)
		err6 = errors.Join(a.v6.SetMulticastHopLimit(255), a.v6.SetMulticastLoopback(true))
	}
	if err4 != nil && err6 != nil {
		a.close()
		return nil, errors.Join(err4, err6)
	}
	return &a, nil
}

func (a *asker) close() {
	if a.v4 != nil {
		a.v4.Close()
	}
	if a.v6 != nil {
		a.v6.Close()
	}
}

// say sends a question to the group on one link. What is lost is asked again.
func (a *asker) say(l link, raw []byte) {
	if a.v4 != nil && l.can[ip4] {
		_, _ = a.v4.WriteTo(raw, &ipv4.ControlMessage{IfIndex: l.iface.Index}, group4)
	}
	if a.v6 != nil && l.can[ip6] {
		_, _ = a.v6.WriteTo(raw, &ipv6.ControlMessage{IfIndex: l.iface.Index}, group6)
	}
}

// heardFrom is an answer and whose it is.
type heardFrom struct {
	from netip.Addr
	msg  *dns.Msg
}

// listen hands answers on until the sockets are closed.
func (a *asker) listen(ctx context.Context, answers chan<- heardFrom) {
	read := func(from func([]byte) (int, net.Addr, error)) {
		buf := make([]byte, maxPacket)
		for ctx.Err() == nil {
			n, addr, err := from(buf)
			if err != nil {
				return
			}
			udp, ok := addr.(*net.UDPAddr)
			m := new(dns.Msg)
			if !ok || udp.Port != mdnsPort || m.Unpack(buf[:n]) != nil || !m.Response {
				continue
			}
			select {
			case answers <- heardFrom{udp.AddrPort().Addr().Unmap().WithZone(""), m}:
			case <-ctx.Done():
			}
		}
	}
	if a.v4 != nil {
		go read(func(b []byte) (n int, from net.Addr, err error) { n, _, from, err = a.v4.ReadFrom(b); return })
	}
	if a.v6 != nil {
		go read(func(b []byte) (n int, from net.Addr, err error) { n, _, from, err = a.v6.ReadFrom(b); return })
	}
}

// ask asks for a kind of service on links without a port of mDNS, again and again until
// ctx ends or each returns false. each gets what is found, also several times with the
// same, with the link and the address that it came from.
func ask(ctx context.Context, links []link, kind string, each func(l link, from netip.Addr, f Found) bool) error {
	if len(links) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.close()
	answers := make(chan heardFrom)
	a.listen(ctx, answers)
	// Who answers says which question it was: each link has its own number.
	first := uint16(rand.N(1 << 15))
	question := func(i int, questions ...dns.Question) {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: first + uint16(i)}, Question: questions}
		if raw, err := m.Pack(); err == nil {
			a.say(links[i], raw)
		}
	}
	service := kind + "." + domain
	more := maxFound // questions that answers may cause
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for i := range links {
				question(i, dns.Question{Name: service, Qtype: dns.TypePTR, Qclass: dns.ClassINET})
			}
			tick.Reset(askAgain)
		case h := <-answers:
			i := int(h.msg.Id - first)
			if i >= len(links) {
				continue
			}
			found, half := services(h.msg, service)
			for _, f := range found {
				if !each(links[i], h.from, f) {
					return nil
				}
			}
			for _, name := range half { // of who answers only what was asked for
				if more--; more < 0 {
					break
				}
				question(i, dns.Question{Name: name, Qtype: dns.TypeSRV, Qclass: dns.ClassINET}, dns.Question{Name: name, Qtype: dns.TypeTXT, Qclass: dns.ClassINET})
			}
		}
	}
}

// services are those of a message that are whole, and the names of those of which it has
// only that they are there.
func services(m *dns.Msg, service string) (found []Found, half []string) {
	all := slices.Concat(m.Answer, m.Ns, m.Extra)
	type parts struct {
		srv *dns.SRV
		txt *dns.TXT
	}
	names := make(map[string]*parts)
	var order []string
	at := func(name string) *parts {
		key := fold(name)
		p := names[key]
		if p == nil && strings.HasSuffix(key, "."+fold(service)) && len(names) < maxFound {
			p = new(parts)
			names[key] = p
			order = append(order, name)
		}
		return p
	}
	for _, rr := range all {
		switch rr := rr.(type) {
		case *dns.PTR:
			if fold(rr.Hdr.Name) == fold(service) {
				at(rr.Ptr)
			}
		case *dns.SRV:
			if p := at(rr.Hdr.Name); p != nil {
				p.srv = rr
			}
		case *dns.TXT:
			if p := at(rr.Hdr.Name); p != nil {
				p.txt = rr
			}
		}
	}
	for _, name := range order {
		p := names[fold(name)]
		if p.srv == nil || p.txt == nil {
			if p.srv == nil && p.txt == nil {
				half = append(half, name)
			}
			continue
		}
		f := Found{
			Name: unescapeLabel(name[:len(name)-len(service)-1]), Host: trimFinalDot(p.srv.Target), Port: int(p.srv.Port), Text: parseText(p.txt.Txt),
		}
		for _, rr := range all {
			if ip, ok := addr(rr); ok && fold(rr.Header().Name) == fold(p.srv.Target) {
				f.Addrs = append(f.Addrs, ip)
			}
		}
		slices.SortFunc(f.Addrs, netip.Addr.Compare)
		f.Addrs = slices.Compact(f.Addrs)
		found = append(found, f)
	}
	return found, half
}
