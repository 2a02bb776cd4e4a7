package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	mdnsPort  = 5353
	maxPacket = 9000        // RFC 6762 § 17
	flush     = 1 << 15     // cache-flush bit of a class (§ 10.2); in a question: "unicast answer, please" (§ 5.4)
	hostTTL   = 120         // seconds, for records that hold an address (§ 10)
	otherTTL  = 4500        // seconds, for the rest
	legacyTTL = 10          // seconds, for askers that do not listen to multicast (§ 6.7)
	quiet     = time.Second // between two multicast answers with the same record on one link (§ 6)
)

var (
	group4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort}
	group6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: mdnsPort}
)

// hostResponder answers what the zeroconf library leaves open, so that a box that
// was found can also be reached: the addresses of our host name, which the library
// sends along once but never answers for, and the subtype of unbound boxes.
type hostResponder struct {
	host     string // absolute, lower case
	subtype  string // absolute, lower case; empty: not in the subtype
	instance string // absolute, escaped
	v4       *ipv4.PacketConn
	v6       *ipv6.PacketConn
	done     sync.WaitGroup
	closing  chan struct{}

	mu    sync.Mutex
	links map[int]link
	sent  map[sentKey]time.Time // bounded: links × 4
}

type sentKey struct {
	link int
	what uint16 // dns.TypeA, TypeAAAA, TypeANY: of the host; TypePTR: of the subtype
}

func newHostResponder(s Service, links []link) (*hostResponder, error) {
	h := &hostResponder{
		host:     s.hostName(),
		instance: escapeLabel(instanceName(s.Name)) + "." + ServiceBox + "." + domain,
		closing:  make(chan struct{}),
		sent:     make(map[sentKey]time.Time),
	}
	if s.State == Unbound {
		h.subtype = SubtypeUnbound + "." + ServiceBox + "." + domain
	}
	h.setLinks(links)
	err4, err6 := h.listen4(links), h.listen6(links)
	if err4 != nil && err6 != nil {
		return nil, fmt.Errorf("listen for mDNS: %w", errors.Join(err4, err6))
	}
	if h.v4 != nil {
		h.done.Go(func() {
			h.receive(func(b []byte) (int, int, net.Addr, error) {
				n, cm, from, err := h.v4.ReadFrom(b)
				if cm == nil {
					return n, 0, from, err
				}
				return n, cm.IfIndex, from, err
			})
		})
	}
	if h.v6 != nil {
		h.done.Go(func() {
			h.receive(func(b []byte) (int, int, net.Addr, error) {
				n, cm, from, err := h.v6.ReadFrom(b)
				if cm == nil {
					return n, 0, from, err
				}
				return n, cm.IfIndex, from, err
			})
		})
	}
	h.done.Go(func() { // twice, one second apart (§ 8.3)
		h.announce(links)
		select {
		case <-h.closing:
		case <-time.After(time.Second):
			h.announce(h.snapshot())
		}
	})
	return h, nil
}

func (h *hostResponder) listen4(links []link) error {
	// A multicast address makes the runtime share the port with other responders.
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(224, 0, 0, 0), Port: mdnsPort})
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(c)
	joined := 0
	for i := range links {
		if p.JoinGroup(&links[i].iface, group4) == nil {
			joined++
		}
	}
	if joined == 0 {
		p.Close()
		return errors.New("no link takes part in IPv4 multicast")
	}
	if err := errors.Join(p.SetControlMessage(ipv4.FlagInterface, true), p.SetMulticastTTL(255), p.SetMulticastLoopback(true)); err != nil {
		p.Close()
		return err
	}
	h.v4 = p
	return nil
}

func (h *hostResponder) listen6(links []link) error {
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP("ff02::"), Port: mdnsPort})
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(c)
	joined := 0
	for i := range links {
		if p.JoinGroup(&links[i].iface, group6) == nil {
			joined++
		}
	}
	if joined == 0 {
		p.Close()
		return errors.New("no link takes part in IPv6 multicast")
	}
	if err := errors.Join(p.SetControlMessage(ipv6.FlagInterface, true), p.SetMulticastHopLimit(255), p.SetMulticastLoopback(true)); err != nil {
		p.Close()
		return err
	}
	h.v6 = p
	return nil
}

func (h *hostResponder) setLinks(links []link) {
	m := make(map[int]link, len(links))
	for _, l := range links {
		m[l.iface.Index] = l
	}
	h.mu.Lock()
	h.links = m
	h.mu.Unlock()
}

func (h *hostResponder) snapshot() []link {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]link, 0, len(h.links))
	for _, l := range h.links {
		list = append(list, l)
	}
	return list
}

// readdress makes the changed addresses known at once and says goodbye to those
// that went (§ 8.4): the flush bit alone would leave the last one of a family.
func (h *hostResponder) readdress(links []link) {
	before := h.snapshot()
	h.setLinks(links)
	for _, old := range before {
		for _, l := range links {
			if l.iface.Index == old.iface.Index {
				old.addrs = slices.DeleteFunc(slices.Clone(old.addrs), func(p netip.Prefix) bool { return slices.Contains(l.addrs, p) })
			}
		}
		if gone := response(); len(old.addrs) > 0 {
			gone.Answer = h.addresses(old, 0, dns.TypeANY)
			h.multicast(gone, old.iface.Index)
		}
	}
	h.announce(links)
}

func (h *hostResponder) announce(links []link) { h.broadcast(links, hostTTL, otherTTL) }

func (h *hostResponder) broadcast(links []link, host, other uint32) {
	for _, l := range links {
		m := response()
		m.Answer = h.addresses(l, host, dns.TypeANY)
		if h.subtype != "" {
			m.Answer = append(m.Answer, h.subtypePTR(other))
		}
		h.multicast(m, l.iface.Index)
	}
}

// close says goodbye (§ 10.1), twice as it is the last word, and lets the sockets go.
func (h *hostResponder) close() {
	close(h.closing)
	links := h.snapshot()
	h.broadcast(links, 0, 0)
	time.Sleep(30 * time.Millisecond)
	h.broadcast(links, 0, 0)
	if h.v4 != nil {
		h.v4.Close()
	}
	if h.v6 != nil {
		h.v6.Close()
	}
	h.done.Wait()
}

// receive answers packets until the socket is closed.
func (h *hostResponder) receive(read func([]byte) (int, int, net.Addr, error)) {
	buf := make([]byte, maxPacket)
	for {
		n, index, from, err := read(buf)
		if err != nil {
			select {
			case <-h.closing:
				return
			case <-time.After(time.Second): // a socket that fails for good must not eat the processor
				continue
			}
		}
		if udp, ok := from.(*net.UDPAddr); ok && n < maxPacket {
			h.packet(buf[:n], index, udp)
		}
	}
}

// packet answers one packet from the network, which may hold anything.
func (h *hostResponder) packet(raw []byte, index int, from *net.UDPAddr) {
	h.mu.Lock()
	l, ok := h.links[index]
	h.mu.Unlock()
	if !ok || !l.onLink(from.IP) {
		return
	}
	m, unicast := h.answer(raw, l, from.Port != mdnsPort)
	switch {
	case m == nil:
	case unicast:
		h.unicast(m, index, from)
	default:
		h.multicast(m, index)
	}
}

// answer makes the answer to a packet that came in on l, or nil if there is none.
// legacy: the asker is a simple resolver that wants a conventional answer (§ 6.7).
func (h *hostResponder) answer(raw []byte, l link, legacy bool) (m *dns.Msg, unicast bool) {
	defer func() {
		if recover() != nil { // a defect of the parser must not be everybody's off switch
			m = nil
		}
	}()
	var q dns.Msg
	if q.Unpack(raw) != nil || q.Response || q.Opcode != dns.OpcodeQuery || len(q.Question) == 0 {
		return nil, false
	}
	m = response()
	unicast = true
	for _, question := range q.Question {
		if question.Qclass&^flush != dns.ClassINET && question.Qclass&^flush != dns.ClassANY {
			continue
		}
		wantsUnicast := legacy || question.Qclass&flush != 0
		var answers, extra []dns.RR
		what := question.Qtype
		switch strings.ToLower(question.Name) {
		case h.host:
			answers = h.addresses(l, hostTTL, question.Qtype)
			if len(answers) == 0 && (question.Qtype == dns.TypeA || question.Qtype == dns.TypeAAAA) {
				answers = []dns.RR{h.nsec(l)} // there is none, so nobody need wait for it (§ 6.1)
			}
		case h.subtype:
			if question.Qtype != dns.TypePTR && question.Qtype != dns.TypeANY {
				continue
			}
			what = dns.TypePTR
			answers = []dns.RR{h.subtypePTR(otherTTL)}
			extra = h.addresses(l, hostTTL, dns.TypeANY)
		}
		if answers = unknownTo(&q, answers); len(answers) == 0 || !wantsUnicast && !h.mayRepeat(l.iface.Index, what) {
			continue
		}
		unicast = unicast && wantsUnicast
		m.Answer = append(m.Answer, answers...)
		m.Extra = append(m.Extra, extra...)
	}
	if len(m.Answer) == 0 {
		return nil, false
	}
	// The same question a thousand times in one packet gets one answer.
	m.Answer, m.Extra = dns.Dedup(m.Answer, nil), dns.Dedup(m.Extra, nil)
	if legacy {
		m.Id, m.Question = q.Id, q.Question
		for _, rr := range append(m.Answer[:len(m.Answer):len(m.Answer)], m.Extra...) {
			rr.Header().Ttl = min(rr.Header().Ttl, legacyTTL)
			rr.Header().Class &^= flush
		}
	}
	return m, unicast
}

// mayRepeat keeps one record from being multicast more than once a second on a link.
func (h *hostResponder) mayRepeat(index int, what uint16) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := sentKey{index, what}
	if last, ok := h.sent[k]; ok && time.Since(last) < quiet {
		return false
	}
	h.sent[k] = time.Now()
	return true
}

// unknownTo leaves out the answers that the asker says it has (§ 7.1).
func unknownTo(q *dns.Msg, answers []dns.RR) []dns.RR {
	var left []dns.RR
next:
	for _, a := range answers {
		for _, known := range q.Answer {
			k := dns.Copy(known)
			k.Header().Class &^= flush
			b := dns.Copy(a)
			b.Header().Class &^= flush
			if dns.IsDuplicate(k, b) && known.Header().Ttl >= a.Header().Ttl/2 {
				continue next
			}
		}
		left = append(left, a)
	}
	return left
}

func response() *dns.Msg {
	return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Compress: true}
}

// addresses are the host's records of type qtype (A, AAAA or ANY) for link l.
func (h *hostResponder) addresses(l link, ttl uint32, qtype uint16) []dns.RR {
	var list []dns.RR
	for _, p := range l.addrs {
		ip := p.Addr()
		switch {
		case ip.Is4() && (qtype == dns.TypeA || qtype == dns.TypeANY):
			list = append(list, &dns.A{Hdr: h.header(dns.TypeA, ttl), A: ip.AsSlice()})
		case ip.Is6() && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
			list = append(list, &dns.AAAA{Hdr: h.header(dns.TypeAAAA, ttl), AAAA: ip.AsSlice()})
		}
	}
	return list
}

func (h *hostResponder) nsec(l link) dns.RR {
	var types []uint16
	if len(h.addresses(l, 0, dns.TypeA)) > 0 {
		types = append(types, dns.TypeA)
	}
	if len(h.addresses(l, 0, dns.TypeAAAA)) > 0 {
		types = append(types, dns.TypeAAAA)
	}
	return &dns.NSEC{Hdr: h.header(dns.TypeNSEC, hostTTL), NextDomain: h.host, TypeBitMap: types}
}

func (h *hostResponder) header(kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: h.host, Rrtype: kind, Class: dns.ClassINET | flush, Ttl: ttl}
}

func (h *hostResponder) subtypePTR(ttl uint32) dns.RR {
	return &dns.PTR{Hdr: dns.RR_Header{Name: h.subtype, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: h.instance}
}

// Sending is best effort: what is lost is asked for again, and a link that is down
// comes back as a change of the network.
func (h *hostResponder) multicast(m *dns.Msg, index int) {
	raw, err := m.Pack()
	if err != nil {
		return
	}
	if h.v4 != nil {
		_, _ = h.v4.WriteTo(raw, &ipv4.ControlMessage{IfIndex: index}, group4)
	}
	if h.v6 != nil {
		_, _ = h.v6.WriteTo(raw, &ipv6.ControlMessage{IfIndex: index}, group6)
	}
}

func (h *hostResponder) unicast(m *dns.Msg, index int, to *net.UDPAddr) {
	raw, err := m.Pack()
	if err != nil {
		return
	}
	if to.IP.To4() != nil {
		if h.v4 != nil {
			_, _ = h.v4.WriteTo(raw, &ipv4.ControlMessage{IfIndex: index}, to)
		}
	} else if h.v6 != nil {
		_, _ = h.v6.WriteTo(raw, &ipv6.ControlMessage{IfIndex: index}, to)
	}
}
