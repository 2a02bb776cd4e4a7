package discovery

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Any packet from any device on the network, to a box that has its names or is asking
// for them: it is answered with little or nothing, and what is remembered is bounded.
func FuzzPacket(f *testing.F) {
	probe := question(boxName, dns.TypeANY)
	probe.Ns = []dns.RR{&dns.SRV{Hdr: dns.RR_Header{Name: boxName, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: 120}, Port: 1, Target: "rival.local."}}
	long := question(boxType, dns.TypePTR)
	long.Truncated = true
	long.Answer = []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: boxType, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: 4500}, Ptr: boxName}}
	rival := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: []dns.RR{
		&dns.A{Hdr: dns.RR_Header{Name: hostName, Rrtype: dns.TypeA, Class: dns.ClassINET | flush, Ttl: 120}, A: net.IPv4(192, 0, 2, 77).To4()},
		&dns.TXT{Hdr: dns.RR_Header{Name: boxName, Rrtype: dns.TypeTXT, Class: dns.ClassINET | flush, Ttl: 4500}, Txt: []string{"id=x"}},
		&dns.NSEC{Hdr: dns.RR_Header{Name: hostName, Rrtype: dns.TypeNSEC, Class: dns.ClassINET | flush, Ttl: 120}, NextDomain: hostName, TypeBitMap: []uint16{1, 28}},
	}}
	all := question(hostName, dns.TypeANY)
	for _, name := range []string{boxType, subtypeName, "_services._dns-sd._udp.local.", strings.ToUpper(boxName)} {
		all.Question = append(all.Question, dns.Question{Name: name, Qtype: dns.TypeANY, Qclass: dns.ClassANY | flush})
	}
	for _, m := range []*dns.Msg{question(hostName, dns.TypeA), probe, long, rival, all} {
		m.Compress = true
		raw, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		for how := range byte(8) {
			f.Add(raw, how)
		}
	}
	f.Add([]byte{0, 0, 0x84, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 0x0c}, byte(1))
	f.Fuzz(func(t *testing.T, raw []byte, how byte) {
		var sent, bytes int
		said := func(p packet) {
			sent++
			bytes += len(p.raw)
			if len(p.raw) > 9000 || p.group && len(p.raw) > 1440 {
				t.Fatalf("a packet of %d bytes", len(p.raw))
			}
			if new(dns.Msg).Unpack(p.raw) != nil {
				t.Fatalf("said %x", p.raw)
			}
		}
		log := slog.New(&tattler{t: t})
		r := newResponder(log, box(), Names{}, said)
		l := link{iface: net.Interface{Index: 7, Name: "lan", MTU: 1500}, can: [families]bool{true, true},
			addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")}}
		l.nets = l.addrs
		if err := r.setLinks([]link{l}); err != nil {
			t.Fatal(err)
		}
		state := r.links[7]
		if how&1 == 0 {
			state.host.state, state.instance.state = held, held
		}
		from := peer
		if how&2 != 0 {
			from = simple
		}
		for range 3 {
			r.handle(packet{link: 7, peer: from, group: how&4 == 0, raw: raw})
		}
		if len(state.gathering) > maxGathering || len(state.replies) > maxReplies || len(state.repeats) > maxRepeats || len(r.recent) > stormSize {
			t.Fatal("too much is remembered")
		}
		r.mu.Lock()
		r.stepLink(state, time.Now().Add(2*time.Second))
		r.mu.Unlock()
		if sent > 12 || bytes > 12*1440 && from != simple {
			t.Fatalf("%d bytes, three times, make %d packets of %d bytes", len(raw), sent, bytes)
		}
		if n := r.names(); numberOf(ofHost, box(), n.Host) > 4 || numberOf(ofInstance, box(), n.Instance) > 4 {
			t.Fatalf("three packets made three names: %v", n)
		}
	})
}

// tattler fails a test when an error is logged: that is where a caught panic goes.
type tattler struct {
	slog.Handler
	t *testing.T
}

func (h *tattler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (h *tattler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		h.t.Errorf("%s: %v", r.Message, a)
		return true
	})
	return nil
}

// The TXT record of any device on the network: the first of equal keys counts, in any
// spelling, and nothing is made up (RFC 6763 §6.4).
func FuzzText(f *testing.F) {
	for _, s := range []string{"id=a\nID=b", "=x", "", "st", "a=b=c", "\xff=\x00", "sn4=\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := strings.Split(s, "\n")
		for k, v := range parseText(list) {
			if k == "" || strings.Contains(k, "=") || k != strings.ToLower(k) {
				t.Errorf("%q has a key %q", s, k)
			}
			for _, entry := range list {
				if key, value, _ := strings.Cut(entry, "="); strings.ToLower(key) == k {
					if value != v {
						t.Errorf("%q: %q is %q", s, k, v)
					}
					break
				}
			}
		}
	})
}
