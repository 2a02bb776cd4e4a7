package discovery

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"
)

func box() Service {
	return Service{Name: "Yunbox 7F3A", Host: "yunbox-7f3a", Port: 8443, ID: "PZ5TQ2M7XK3VDA6B", State: Unbound, Model: "Yunbox One", SerialTail: "0042", WebDAV: "/dav/"}
}

func TestTextIsInOrderAndHidesTheSerialOnceBound(t *testing.T) { // R02 R33
	s := box()
	got, err := s.Text()
	want := []string{"txtvers=1", "id=PZ5TQ2M7XK3VDA6B", "pv=1", "api=/v1", "st=u", "md=Yunbox One", "sn4=0042"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("unbound: %q, %v; want %q", got, err, want)
	}
	for _, st := range []State{Bound, Pairing, Maintenance} {
		s.State = st
		got, err := s.Text()
		if err != nil || slices.ContainsFunc(got, func(v string) bool { return strings.Contains(v, "0042") }) {
			t.Errorf("state %s announces the serial number: %q, %v", st, got, err)
		}
	}
}

func TestTextKeepsTheRulesOfRFC6763(t *testing.T) {
	if got, err := Text(); err != nil || !slices.Equal(got, []string{""}) {
		t.Errorf("empty record: %q, %v; want one empty string", got, err)
	}
	long := strings.Repeat("x", 253)
	for name, pairs := range map[string][]Pair{
		"long key":          {{"abcdefghij", "1"}},
		"empty key":         {{"", "1"}},
		"equals sign":       {{"a=b", "1"}},
		"not ASCII":         {{"ключ", "1"}},
		"control character": {{"a\x01", "1"}},
		"twice in any case": {{"id", "1"}, {"ID", "2"}},
		"txtvers not first": {{"id", "1"}, {"txtvers", "1"}},
		"long string":       {{"ab", long + "x"}},
		"long record":       {{"a", long}, {"b", long}},
	} {
		if got, err := Text(pairs...); err == nil {
			t.Errorf("%s: accepted as %q", name, got)
		}
	}
	if _, err := Text(Pair{"a", long}); err != nil {
		t.Errorf("255 bytes are allowed: %v", err)
	}
}

func TestAnnounceRefusesWhatCannotBeAnnounced(t *testing.T) {
	for name, change := range map[string]func(*Service){
		"no name":       func(s *Service) { s.Name = " . " },
		"no host":       func(s *Service) { s.Host = "" },
		"host with dot": func(s *Service) { s.Host = "a.b" },
		"port 0":        func(s *Service) { s.Port = 0 },
		"port 65536":    func(s *Service) { s.Port = 65536 },
		"no id":         func(s *Service) { s.ID = "" },
		"unknown state": func(s *Service) { s.State = "x" },
		"whole serial":  func(s *Service) { s.SerialTail = "YB-2026-000042" },
		"endless model": func(s *Service) { s.Model = strings.Repeat("m", 300) },
	} {
		s := box()
		change(&s)
		if a, err := Announce(t.Context(), s, Options{}); err == nil {
			a.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNamesAreEscapedAsTheDNSLibraryReadsThem(t *testing.T) {
	for _, name := range []string{"yunbox", "Yunbox 7F3A", "云盒 Living Room", "Fam. Müller's (2) \"@;\\", "a.b"} {
		escaped := escapeLabel(name)
		m := new(dns.Msg)
		m.SetQuestion(escaped+"._yunbox._tcp.local.", dns.TypeSRV)
		raw, err := m.Pack()
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		var back dns.Msg
		if err := back.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		if got := back.Question[0].Name; got != m.Question[0].Name {
			t.Errorf("%q: sent as %q, read as %q: the library would not know its own name", name, m.Question[0].Name, got)
		}
		if got := unescapeLabel(escaped); got != name {
			t.Errorf("%q came back as %q", name, got)
		}
	}
}

func FuzzInstanceName(f *testing.F) {
	for _, s := range []string{"Yunbox", strings.Repeat("云", 40), "...", "a\x00b", "\xff", "x. ."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := instanceName(s)
		if len(n) > 63 || !utf8.ValidString(n) || strings.HasSuffix(n, ".") || strings.HasPrefix(n, ".") {
			t.Fatalf("%q became %q", s, n)
		}
		if n != "" {
			if _, err := (&dns.Msg{Question: []dns.Question{{Name: escapeLabel(n) + "._yunbox._tcp.local.", Qtype: dns.TypePTR, Qclass: 1}}}).Pack(); err != nil {
				t.Fatalf("%q cannot be sent: %v", n, err)
			}
		}
		if got := unescapeLabel(escapeLabel(s)); got != s {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}

// responder is a hostResponder without sockets.
func responder(s Service) (*hostResponder, link) {
	l := link{iface: net.Interface{Index: 7, Name: "lan"}, addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")}}
	h := &hostResponder{host: s.hostName(), instance: escapeLabel(s.Name) + "._yunbox._tcp.local."}
	h.sent = make(map[sentKey]time.Time)
	if s.State == Unbound {
		h.subtype = "_unbound._sub._yunbox._tcp.local."
	}
	h.setLinks([]link{l})
	return h, l
}

func ask(t *testing.T, h *hostResponder, l link, legacy bool, q dns.Msg) (*dns.Msg, bool) {
	t.Helper()
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return h.answer(raw, l, legacy)
}

func question(name string, kind uint16) dns.Msg {
	return dns.Msg{Question: []dns.Question{{Name: name, Qtype: kind, Qclass: dns.ClassINET}}}
}

func TestHostNameIsAnsweredForGood(t *testing.T) { // R02: a found box stays reachable
	synctest.Test(t, func(t *testing.T) {
		h, l := responder(box())
		m, unicast := ask(t, h, l, false, question("YUNBOX-7F3A.local.", dns.TypeA))
		if m == nil || unicast || len(m.Answer) != 1 {
			t.Fatalf("A: %v", m)
		}
		if a, ok := m.Answer[0].(*dns.A); !ok || a.A.String() != "192.0.2.5" || a.Hdr.Ttl != 120 || a.Hdr.Class != dns.ClassINET|flush || !m.Authoritative || len(m.Question) != 0 {
			t.Errorf("A: %v", m)
		}
		if m, _ := ask(t, h, l, false, question("yunbox-7f3a.local.", dns.TypeA)); m != nil {
			t.Errorf("the host name was multicast twice within a second: %v", m)
		}
		if m, _ := ask(t, h, l, false, question("yunbox-7f3a.local.", dns.TypeAAAA)); m == nil || len(m.Answer) != 1 {
			t.Errorf("AAAA: %v", m)
		}
		time.Sleep(quiet)
		known := question("yunbox-7f3a.local.", dns.TypeA)
		known.Answer = h.addresses(l, 61, dns.TypeA)
		if m, _ := ask(t, h, l, false, known); m != nil {
			t.Errorf("an answer that the asker has was sent again: %v", m)
		}
		known.Answer[0].Header().Ttl = 59
		if m, _ := ask(t, h, l, false, known); m == nil {
			t.Error("an answer that is about to expire was held back")
		}
		time.Sleep(quiet)
		l.addrs = l.addrs[:1]
		m, _ = ask(t, h, l, false, question("yunbox-7f3a.local.", dns.TypeAAAA))
		if nsec, ok := m.Answer[0].(*dns.NSEC); !ok || !slices.Equal(nsec.TypeBitMap, []uint16{dns.TypeA}) {
			t.Errorf("no AAAA: %v", m)
		}
	})
}

func TestSimpleResolversGetAConventionalAnswer(t *testing.T) {
	h, l := responder(box())
	q := question("yunbox-7f3a.local.", dns.TypeA)
	q.Id = 4711
	m, unicast := ask(t, h, l, true, q)
	if m == nil || !unicast || m.Id != 4711 || len(m.Question) != 1 || m.Answer[0].Header().Ttl != 10 || m.Answer[0].Header().Class != dns.ClassINET {
		t.Errorf("legacy answer: %v", m)
	}
	q = question("yunbox-7f3a.local.", dns.TypeA)
	q.Question[0].Qclass |= flush
	if m, unicast := ask(t, h, l, false, q); m == nil || !unicast || m.Answer[0].Header().Ttl != 120 {
		t.Errorf("unicast was asked for: %v", m)
	}
}

func TestOnlyUnboundBoxesAreInTheSubtype(t *testing.T) { // R03
	s := box()
	h, l := responder(s)
	m, _ := ask(t, h, l, false, question("_unbound._sub._yunbox._tcp.local.", dns.TypePTR))
	if m == nil || m.Answer[0].(*dns.PTR).Ptr != `Yunbox\ 7F3A._yunbox._tcp.local.` || len(m.Extra) != 2 {
		t.Errorf("subtype: %v", m)
	}
	s.State = Bound
	h, l = responder(s)
	if m, _ := ask(t, h, l, false, question("_unbound._sub._yunbox._tcp.local.", dns.TypePTR)); m != nil {
		t.Errorf("a bound box is listed as unbound: %v", m)
	}
}

func TestWhatIsNotAQuestionForUsIsNotAnswered(t *testing.T) {
	h, l := responder(box())
	response := question("yunbox-7f3a.local.", dns.TypeA)
	response.Response = true
	update := question("yunbox-7f3a.local.", dns.TypeA)
	update.Opcode = dns.OpcodeUpdate
	chaos := question("yunbox-7f3a.local.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	for name, q := range map[string]dns.Msg{
		"response": response, "update": update, "other class": chaos,
		"other host": question("other.local.", dns.TypeA), "root": question(".", dns.TypeANY), "other type": question("yunbox-7f3a.local.", dns.TypeMX),
	} {
		if m, _ := ask(t, h, l, false, q); m != nil {
			t.Errorf("%s: answered %v", name, m)
		}
	}
	if l.onLink(net.IPv4(198, 51, 100, 1)) || !l.onLink(net.IPv4(192, 0, 2, 77)) || !l.onLink(net.ParseIP("fe80::1")) {
		t.Error("neighbours are told from strangers by the link's prefixes")
	}
}

func FuzzAnswer(f *testing.F) {
	for _, q := range []dns.Msg{question("yunbox-7f3a.local.", dns.TypeA), question("_unbound._sub._yunbox._tcp.local.", dns.TypeANY)} {
		raw, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, false)
		f.Add(raw, true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, legacy bool) {
		h, l := responder(box())
		m, _ := h.answer(raw, l, legacy)
		if m == nil {
			return
		}
		out, err := m.Pack()
		if err != nil && !legacy { // the question of a legacy asker goes back as it came
			t.Fatalf("the answer to %x cannot be sent: %v", raw, err)
		}
		if !legacy && len(out) > 512 {
			t.Fatalf("%d bytes make an answer of %d", len(raw), len(out))
		}
	})
}

func TestAddressesWorthAnnouncing(t *testing.T) {
	parse := func(list ...string) (all []net.Addr) {
		for _, s := range list {
			ip, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return all
	}
	for _, c := range []struct{ in, want []string }{
		{[]string{"fe80::1/64", "192.168.1.4/24", "127.0.0.1/8"}, []string{"192.168.1.4/24", "fe80::1/64"}},
		{[]string{"fe80::1/64", "fd00::2/64", "2001:db8::1/64"}, []string{"2001:db8::1/64", "fd00::2/64"}},
		{[]string{"::1/128"}, nil},
	} {
		var got []string
		for _, p := range usable(parse(c.in...)) {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
	for name, want := range map[string]bool{"eth0": false, "wlan0": false, "br0": false, "br-lan": false, "docker0": true, "br-0123456789ab": true, "wg0": true, "tun1": true} {
		if virtual.MatchString(name) != want {
			t.Errorf("%s: virtual = %t", name, !want)
		}
	}
}

func TestParseText(t *testing.T) {
	got := parseText([]string{"TxtVers=1", "st=u", "st=b", "flag", "=x", "v=a=b"})
	if len(got) != 4 || got["txtvers"] != "1" || got["st"] != "u" || got["flag"] != "" || got["v"] != "a=b" {
		t.Errorf("%v", got)
	}
}
