package discovery

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
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

func TestAddressesWorthAnnouncing(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"fe80::1/64 192.168.1.4/24 127.0.0.1/8", "192.168.1.4/24 fe80::1/64"},
		{"fe80::1/64 fd00::2/64 2001:db8::1/64", "2001:db8::1/64 fd00::2/64"},
		{"::1/128", ""},
		{"2001:db8::1/64? fe80::1/64", "fe80::1/64"},                             // not yet known to be alone
		{"2001:db8::99/64~ 2001:db8::1/64 fe80::1/64", "2001:db8::1/64"},         // changes every day
		{"2001:db8::99/64~ fe80::1/64 10.0.0.1/8", "10.0.0.1/8 2001:db8::99/64"}, // but is all there is
	} {
		var in []address
		for _, f := range strings.Fields(c.in) {
			in = append(in, address{prefix: netip.MustParsePrefix(strings.Trim(f, "?~")), unready: strings.HasSuffix(f, "?"), passing: strings.HasSuffix(f, "~")})
		}
		var got []string
		for _, p := range usable(in) {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.in, got, c.want)
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
