package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	flush     = 1 << 15 // cache-flush bit of a class (RFC 6762 § 10.2); in a question: "unicast answer, please" (§ 5.4)
	hostTTL   = 120     // seconds, for records that hold a host name or an address (§ 10)
	otherTTL  = 4500    // seconds, for the rest
	legacyTTL = 10      // seconds, for askers that do not listen to multicast (§ 6.7)
	maxAddrs  = 16      // addresses announced on one link: more would not fit one packet with the rest
)

// family tells the two worlds of IP apart; they share the names of a link and
// nothing else (RFC 6762 § 20).
type family int

const (
	ip4 family = iota
	ip6
	families
)

// record is one of our resource records on one link.
type record struct {
	rr       dns.RR // as the DNS library reads it from the network; TTL when it is true, class without the flush bit
	key      string // the wire format without the TTL, to recognise it after a rebuild
	name     string // owner, folded
	claim    *claim // the name that must be ours before this may be said
	unique   bool   // nobody else has records of this name and type (§ 2)
	negative bool   // NSEC: says what else there is not (§ 6.1)
	stays    bool   // others announce the very same: no goodbye

	last   [families]time.Time // when it was multicast
	due    [families]time.Time // when it shall be; zero: not at all
	defend [families]bool      // it is due because somebody probes for its name
}

// fold makes names comparable: the DNS knows no upper and lower case of ASCII, and
// all else is escaped in the library's format (RFC 6762 § 16).
func fold(name string) string { return strings.ToLower(name) }

// kind is one service of the box.
type kind struct {
	name string
	port int
	text []string
}

// kinds are the services that are announced, ServiceBox first.
func (s Service) kinds() ([]kind, error) {
	text, err := s.Text()
	if err != nil {
		return nil, err
	}
	list := []kind{{ServiceBox, s.Port, text}, {ServiceHTTPS, s.Port, []string{"path=/"}}}
	if s.WebDAV != "" {
		list = append(list, kind{ServiceWebDAV, s.Port, []string{"path=" + s.WebDAV}})
	}
	if s.FTP != 0 {
		list = append(list, kind{ServiceFTP, s.FTP, []string{"path=/"}})
	}
	return list, nil
}

// build makes the records of one link anew; what is still the same keeps its times.
func (r *responder) build(l *linkState) error {
	kinds, err := r.service.kinds()
	if err != nil {
		return err
	}
	old := make(map[string]*record, len(l.records))
	for _, rec := range l.records {
		old[rec.key] = rec
	}
	l.records, l.byName = nil, make(map[string][]*record)
	var broken error
	add := func(rr dns.RR, rec record) {
		rec.rr = rr
		if err := rec.settle(); err != nil {
			broken = err
			return
		}
		if before, ok := old[rec.key]; ok {
			rec.last, rec.due, rec.defend = before.last, before.due, before.defend
		}
		l.records = append(l.records, &rec)
		l.byName[rec.name] = append(l.byName[rec.name], &rec)
	}
	header := func(name string, kind uint16, ttl uint32) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
	}

	host := r.names().Host + "." + domain
	l.host.names = []string{host}
	var types []uint16
	for i, p := range l.addrs {
		if i == maxAddrs {
			break
		}
		a, t := p.Addr(), dns.TypeAAAA
		rr := dns.RR(&dns.AAAA{Hdr: header(host, t, hostTTL), AAAA: a.AsSlice()})
		if a.Is4() {
			t = dns.TypeA
			rr = &dns.A{Hdr: header(host, t, hostTTL), A: a.AsSlice()}
		}
		if len(types) == 0 || types[len(types)-1] != t { // addresses are in order: IPv4 first
			types = append(types, t)
		}
		add(rr, record{claim: &l.host, unique: true})
	}
	add(&dns.NSEC{Hdr: header(host, dns.TypeNSEC, hostTTL), NextDomain: host, TypeBitMap: types}, record{claim: &l.host, unique: true, negative: true})

	label := escapeLabel(r.names().Instance)
	l.instance.names = nil
	for _, k := range kinds {
		service := k.name + "." + domain
		instance := label + "." + service
		l.instance.names = append(l.instance.names, instance)
		ours := record{claim: &l.instance, unique: true}
		add(&dns.PTR{Hdr: header("_services._dns-sd._udp."+domain, dns.TypePTR, otherTTL), Ptr: service}, record{claim: &l.instance, stays: true})
		add(&dns.PTR{Hdr: header(service, dns.TypePTR, otherTTL), Ptr: instance}, record{claim: &l.instance})
		if k.name == ServiceBox && r.service.State == Unbound {
			add(&dns.PTR{Hdr: header(SubtypeUnbound+"."+service, dns.TypePTR, otherTTL), Ptr: instance}, record{claim: &l.instance})
		}
		add(&dns.SRV{Hdr: header(instance, dns.TypeSRV, hostTTL), Port: uint16(k.port), Target: host}, ours)
		text := make([]string, len(k.text))
		for i, s := range k.text {
			text[i] = strings.ReplaceAll(s, `\`, `\\`)
		}
		add(&dns.TXT{Hdr: header(instance, dns.TypeTXT, otherTTL), Txt: text}, ours)
		ours.negative = true
		add(&dns.NSEC{Hdr: header(instance, dns.TypeNSEC, hostTTL), NextDomain: instance, TypeBitMap: []uint16{dns.TypeTXT, dns.TypeSRV}}, ours)
	}
	return broken
}

// settle brings the record into the form in which the library reads it, so that the
// two can be compared.
func (rec *record) settle() error {
	wire, _, err := wireOf(rec.rr)
	if err != nil {
		return fmt.Errorf("discovery: %s: %w", dns.TypeToString[rec.rr.Header().Rrtype], err)
	}
	if rec.rr, _, err = dns.UnpackRR(wire, 0); err != nil {
		return err
	}
	rec.name = fold(rec.rr.Header().Name)
	key := dns.Copy(rec.rr)
	key.Header().Ttl = 0
	if wire, _, err = wireOf(key); err != nil {
		return err
	}
	rec.key = string(wire)
	return nil
}

// wireOf is a record as it is sent, without compression, and where its data begin.
func wireOf(rr dns.RR) (wire []byte, data int, err error) {
	buf := make([]byte, dns.Len(rr)+16)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, 0, err
	}
	for data < n && buf[data] != 0 {
		data += int(buf[data]) + 1
	}
	return buf[:n], data + 1 + 10, nil // type, class, TTL and length
}

// is reports whether a record from the network is this one, whatever its TTL.
func (rec *record) is(rr dns.RR) bool {
	h := rr.Header()
	if h.Rrtype != rec.rr.Header().Rrtype || h.Class&^flush != dns.ClassINET || fold(h.Name) != rec.name {
		return false
	}
	class := h.Class
	h.Class = dns.ClassINET
	same := dns.IsDuplicate(rec.rr, rr)
	h.Class = class
	return same
}

// out is the record as it is sent: with the flush bit if it is unique, unless the
// asker is a simple resolver (§ 10.2).
func (rec *record) out(ttl uint32, legacy bool) dns.RR {
	rr := dns.Copy(rec.rr)
	rr.Header().Ttl = ttl
	if rec.unique && !legacy {
		rr.Header().Class |= flush
	}
	return rr
}

func (rec *record) ttl() uint32 { return rec.rr.Header().Ttl }

// addr is the address in an A or AAAA record.
func addr(rr dns.RR) (a netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		a, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap(), ok
}

// matching finds the records that answer a question: those of its name and type,
// or the one that says that there are none.
func (l *linkState) matching(q dns.Question) []*record {
	if c := q.Qclass &^ flush; c != dns.ClassINET && c != dns.ClassANY {
		return nil
	}
	var found []*record
	var none *record
	for _, rec := range l.byName[fold(q.Name)] {
		switch {
		case rec.claim.state != held:
		case rec.negative && q.Qtype != dns.TypeNSEC:
			none = rec
		case q.Qtype == dns.TypeANY || q.Qtype == rec.rr.Header().Rrtype:
			found = append(found, rec)
		}
	}
	if len(found) == 0 && none != nil {
		found = append(found, none)
	}
	return found
}

// alsoUseful finds what the reader of the answers will ask next (RFC 6763 § 12).
func (l *linkState) alsoUseful(answers []*record) []*record {
	var extra []*record
	taken := make(map[*record]bool, len(answers))
	for _, rec := range answers {
		taken[rec] = true
	}
	add := func(name string, types ...uint16) {
		for _, rec := range l.byName[fold(name)] {
			for _, t := range types {
				if rec.rr.Header().Rrtype == t && rec.claim.state == held && !taken[rec] {
					taken[rec] = true
					extra = append(extra, rec)
				}
			}
		}
	}
	addresses := func(host string) {
		add(host, dns.TypeA, dns.TypeAAAA)
		if l.oneFamily() {
			add(host, dns.TypeNSEC) // so that nobody waits for the other family
		}
	}
	for _, rec := range answers {
		switch rr := rec.rr.(type) {
		case *dns.PTR:
			add(rr.Ptr, dns.TypeSRV, dns.TypeTXT)
			if rec.stays {
				continue
			}
			for _, s := range l.byName[fold(rr.Ptr)] {
				if srv, ok := s.rr.(*dns.SRV); ok {
					addresses(srv.Target)
				}
			}
		case *dns.SRV:
			addresses(rr.Target)
		case *dns.A, *dns.AAAA:
			addresses(rr.Header().Name)
		}
	}
	return extra
}

func (l *linkState) oneFamily() bool {
	n := min(len(l.addrs), maxAddrs)
	return n > 0 && l.addrs[0].Addr().Is4() == l.addrs[n-1].Addr().Is4()
}
