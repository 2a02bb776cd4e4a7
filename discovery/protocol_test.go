package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

const (
	hostName    = "yunbox-7f3a.local."
	boxName     = `Yunbox\ 7F3A._yunbox._tcp.local.`
	boxType     = "_yunbox._tcp.local."
	subtypeName = "_unbound._sub._yunbox._tcp.local."
)

func bubble(t *testing.T, fn func(*testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}

func TestANameIsAskedForBeforeItIsUsed(t *testing.T) { // RFC 6762 § 8.1, 8.3, 10, 10.2
	bubble(t, func(t *testing.T) {
		began := time.Now()
		_, c := running(t, box())
		probes, said := c.since(began, false), c.since(began, true)
		if len(probes) != 3 || len(said) != 2 {
			t.Fatalf("%d probes and %d announcements", len(probes), len(said))
		}
		if d := probes[0].at.Sub(began); d > probeWait {
			t.Errorf("the first probe after %v", d)
		}
		for i, p := range probes {
			if p.msg.Id != 0 || len(p.msg.Question) != 4 || p.msg.Question[0].Name != hostName || len(p.msg.Answer) != 0 {
				t.Errorf("probe: %v", p.msg)
			}
			for _, q := range p.msg.Question {
				if q.Qtype != dns.TypeANY || q.Qclass != dns.ClassINET|flush {
					t.Errorf("probe asks %v", q)
				}
			}
			for _, rr := range p.msg.Ns {
				if rr.Header().Class&flush != 0 {
					t.Errorf("flush bit in a probe: %v", rr)
				}
			}
			if !holds(p.msg.Ns, "A 192.0.2.5") || !holds(p.msg.Ns, "SRV 0 0 8443 "+hostName) || !holds(p.msg.Ns, `TXT "txtvers=1"`) {
				t.Errorf("probe does not say what it is for: %v", p.msg.Ns)
			}
			if i > 0 && p.at.Sub(probes[i-1].at) != probeWait {
				t.Errorf("%v between probes", p.at.Sub(probes[i-1].at))
			}
		}
		if d := said[0].at.Sub(began); d > 1100*time.Millisecond {
			t.Errorf("announced only after %v", d)
		}
		if d := said[0].at.Sub(probes[2].at); d != probeWait {
			t.Errorf("announced %v after the last probe", d)
		}
		if d := said[1].at.Sub(said[0].at); d < time.Second {
			t.Errorf("%v between the announcements", d)
		}
		for _, s := range said {
			if !s.msg.Authoritative || s.msg.Id != 0 || len(s.msg.Question) != 0 {
				t.Errorf("announcement: %v", s.msg)
			}
			for _, rr := range s.msg.Answer {
				h := rr.Header()
				wantTTL := uint32(4500)
				if h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA || h.Rrtype == dns.TypeSRV {
					wantTTL = 120
				}
				if h.Ttl != wantTTL || (h.Class&flush != 0) != (h.Rrtype != dns.TypePTR) {
					t.Errorf("announced with another TTL or flush bit: %v", rr)
				}
			}
			for _, want := range []string{"A 192.0.2.5", "AAAA 2001:db8::5", "SRV 0 0 8443 " + hostName, "TXT", boxType + " IN PTR " + boxName,
				subtypeName + " IN PTR", "_services._dns-sd._udp.local. IN PTR " + boxType, "_https._tcp.local. IN PTR", "_webdavs._tcp.local. IN PTR"} {
				if !holds(s.msg.Answer, want) {
					t.Errorf("no %q in the announcement", want)
				}
			}
		}
		// And then it is quiet.
		at := time.Now()
		time.Sleep(10 * time.Minute)
		if n := len(c.since(at, true)) + len(c.since(at, false)); n != 0 {
			t.Errorf("%d packets in ten quiet minutes", n)
		}
	})
}

func TestNothingIsSaidUnderANameThatIsNotOursYet(t *testing.T) { // RFC 6762 § 8.1
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		m.plugIn(1, c, "192.0.2.5/24")
		start(t, box(), m, Names{})
		for range 6 { // less than the 750 ms that probing takes
			for _, q := range []*dns.Msg{question(hostName, dns.TypeA), question(boxName, dns.TypeSRV), question(boxType, dns.TypePTR)} {
				c.put(t, peer, q)
				c.put(t, simple, q)
			}
			time.Sleep(120 * time.Millisecond)
		}
		if got := c.since(time.Time{}, true); len(got) != 0 {
			t.Errorf("said while the names were being asked for: %v", got[0].msg)
		}
	})
}

func TestHostNameIsAnsweredForGood(t *testing.T) { // R02: a found box stays reachable
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		time.Sleep(time.Hour)
		got := c.ask(t, peer, question("YUNBOX-7F3A.Local.", dns.TypeA))
		if len(got) != 1 || !got[0].group() || len(got[0].msg.Answer) != 1 || len(got[0].msg.Question) != 0 {
			t.Fatalf("A: %v", got)
		}
		if rr := got[0].msg.Answer[0]; flat(rr) != hostName+" IN A 192.0.2.5" || rr.Header().Ttl != 120 || rr.Header().Class&flush == 0 || !holds(got[0].msg.Extra, "AAAA 2001:db8::5") {
			t.Errorf("A: %v", got[0].msg)
		}
		at := got[0].at // its AAAA was said too, so an asker for that waits until the second is over
		c.ask(t, peer, question(hostName, dns.TypeAAAA))
		time.Sleep(5 * time.Second)
		if got := c.since(at.Add(1), true); len(got) != 1 || !holds(got[0].msg.Answer, "AAAA") || got[0].at.Sub(at) != quiet {
			t.Errorf("AAAA: %v", got)
		}
	})
}

func TestAnswers(t *testing.T) { // RFC 6762 § 6, 6.1, 6.3; RFC 6763 § 9, 12
	bubble(t, func(t *testing.T) {
		s := box()
		s.Name, s.FTP = "云盒 Living. Room", 2121
		b, c := running(t, s)
		escaped := escapeLabel(s.Name) + "."
		for _, q := range []struct {
			name    string
			kind    uint16
			want    []string // answers
			also    []string // additional
			delayed bool
		}{
			{boxType, dns.TypePTR, []string{boxType + " IN PTR " + escaped + boxType}, []string{"SRV 0 0 8443", "TXT", " A 192", "AAAA"}, true},
			{"_YUNBOX._TCP.local.", dns.TypeANY, []string{"PTR"}, []string{"SRV"}, true},
			{"_ftp._tcp.local.", dns.TypePTR, []string{"PTR"}, []string{"SRV 0 0 2121 " + hostName}, true},
			{subtypeName, dns.TypePTR, []string{subtypeName + " IN PTR " + escaped + boxType}, []string{"SRV", "TXT"}, true},
			{"_services._dns-sd._udp.local.", dns.TypePTR, []string{"PTR " + boxType, "PTR _https._tcp", "PTR _webdavs._tcp", "PTR _ftp._tcp"}, nil, true},
			{escaped + boxType, dns.TypeSRV, []string{"SRV 0 0 8443 " + hostName}, []string{" A 192", "AAAA"}, false},
			{strings.ToUpper(escaped + boxType), dns.TypeTXT, []string{`TXT "txtvers=1" "id=PZ5TQ2M7XK3VDA6B" "pv=1" "api=/v1" "st=u" "md=Yunbox One" "sn4=0042"`}, nil, false},
			{escaped + boxType, dns.TypeANY, []string{"SRV", "TXT"}, []string{" A 192"}, false},
			{escaped + boxType, dns.TypeHINFO, []string{"NSEC " + escaped + boxType + " TXT SRV"}, nil, false},
			{hostName, dns.TypeANY, []string{" A 192", "AAAA"}, nil, false},
			{hostName, dns.TypeMX, []string{"NSEC " + hostName + " A AAAA"}, nil, false},
		} {
			time.Sleep(2 * time.Second)
			at := time.Now()
			got := c.ask(t, peer, question(q.name, q.kind))
			if len(got) != 1 || len(got[0].msg.Answer) != len(q.want) || !got[0].group() {
				t.Errorf("%s %s: %v", q.name, dns.TypeToString[q.kind], got)
				continue
			}
			for _, w := range q.want {
				if !holds(got[0].msg.Answer, w) {
					t.Errorf("%s %s: no %q in %v", q.name, dns.TypeToString[q.kind], w, got[0].msg.Answer)
				}
			}
			for _, w := range q.also {
				if !holds(got[0].msg.Extra, w) {
					t.Errorf("%s %s: no %q beside it: %v", q.name, dns.TypeToString[q.kind], w, got[0].msg.Extra)
				}
			}
			if d := got[0].at.Sub(at); q.delayed != (d >= sharedMin) || d > sharedMax {
				t.Errorf("%s %s: answered after %v", q.name, dns.TypeToString[q.kind], d)
			}
		}
		// A link without IPv6 says so, and nobody waits for it.
		b.plugIn(7, c, "192.0.2.5/24")
		time.Sleep(5 * time.Second)
		if got := c.ask(t, peer, question(hostName, dns.TypeAAAA)); len(got) != 1 || !holds(got[0].msg.Answer, "NSEC "+hostName+" A") {
			t.Errorf("AAAA without one: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := c.ask(t, peer, question(hostName, dns.TypeA)); len(got) != 1 || !holds(got[0].msg.Extra, "NSEC "+hostName+" A") {
			t.Errorf("A without AAAA: %v", got)
		}
	})
}

func TestOnlyUnboundBoxesAreInTheSubtype(t *testing.T) { // R03; RFC 6762 § 8.4, 10.1
	bubble(t, func(t *testing.T) {
		b, c := running(t, box())
		if got := c.ask(t, peer, question(subtypeName, dns.TypePTR)); len(got) != 1 || !holds(got[0].msg.Answer, "PTR "+boxName) {
			t.Errorf("unbound: %v", got)
		}
		time.Sleep(2 * time.Second)
		at := time.Now()
		s := box()
		s.State = Bound
		if err := b.Update(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var texts, gone int
		for _, p := range c.since(at, true) {
			for _, rr := range p.msg.Answer {
				switch {
				case rr.Header().Rrtype == dns.TypeTXT && strings.Contains(flat(rr), `"st=b"`) && rr.Header().Class&flush != 0:
					texts++
				case rr.Header().Name == subtypeName && rr.Header().Ttl == 0:
					gone++
				case strings.Contains(flat(rr), "0042") || strings.Contains(flat(rr), `"st=u"`):
					t.Errorf("a bound box still says %v", rr)
				}
			}
		}
		if texts != 2 || gone != 1 || len(c.since(at, false)) != 0 {
			t.Errorf("the new text was said %d times, the subtype left %d times", texts, gone)
		}
		if got := c.ask(t, peer, question(subtypeName, dns.TypePTR)); len(got) != 0 {
			t.Errorf("a bound box is listed as unbound: %v", got)
		}
	})
}

func TestWhatTheAskerKnowsIsNotSaid(t *testing.T) { // RFC 6762 § 7.1, 7.2
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		known := func(ttl int) []dns.RR { return rrs(t, fmt.Sprintf("%s %d IN PTR %s", boxType, ttl, boxName)) }
		q := question(boxType, dns.TypePTR)
		q.Answer = known(2250)
		if got := c.ask(t, peer, q); len(got) != 0 {
			t.Errorf("said though known: %v", got)
		}
		q.Answer = known(2249)
		if got := c.ask(t, peer, q); len(got) != 1 {
			t.Error("not said though the asker will soon forget it")
		}
		time.Sleep(2 * time.Second)
		q.Answer = rrs(t, boxType+" 4500 IN PTR other."+boxType)
		if got := c.ask(t, peer, q); len(got) != 1 {
			t.Error("not said though another one is known")
		}

		// The list goes on in further packets, with the last of which our record comes.
		time.Sleep(2 * time.Second)
		q.Truncated = true
		more := &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}, Answer: rrs(t, boxType+" 4500 IN PTR third."+boxType)}
		last := &dns.Msg{Answer: known(4500)}
		at := time.Now()
		c.put(t, peer, q)
		time.Sleep(300 * time.Millisecond)
		c.put(t, peer, more)
		time.Sleep(300 * time.Millisecond)
		c.put(t, peer, last)
		time.Sleep(2 * time.Second)
		if got := c.since(at, true); len(got) != 0 {
			t.Errorf("said though the last packet knew it: %v", got[0].msg)
		}
		// The list of somebody else does not count, and the answer waits for the rest.
		at = time.Now()
		c.put(t, peer, q)
		c.put(t, peer2, last)
		time.Sleep(2 * time.Second)
		if got := c.since(at, true); len(got) != 1 || got[0].at.Sub(at) < moreMin || got[0].at.Sub(at) > moreMax+sharedMax {
			t.Errorf("the answer to a long list: %v", got)
		}
		// Nobody can make us wait for ever, or remember much.
		at = time.Now()
		for i := range 100 {
			c.put(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}), mdnsPort), q)
		}
		for range 40 {
			c.put(t, peer, q)
			time.Sleep(350 * time.Millisecond)
		}
		if len(c.since(at, true)) == 0 {
			t.Error("patience without end")
		}
	})
}

func TestAnswersToOneAsker(t *testing.T) { // RFC 6762 § 5.4, 5.5, 6.7, 11
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		q := question(hostName, dns.TypeA)
		q.Question[0].Qclass |= flush
		if got := c.ask(t, peer, q); len(got) != 1 || got[0].to != peer || got[0].msg.Answer[0].Header().Ttl != 120 {
			t.Errorf("unicast was asked for: %v", got)
		}
		time.Sleep(time.Minute) // more than a quarter of the TTL: the others shall hear it too
		if got := c.ask(t, peer, q); len(got) != 1 || !got[0].group() {
			t.Errorf("unicast was asked for after a long silence: %v", got)
		}
		both := question(hostName, dns.TypeAAAA) // one of each kind
		both.Question = append(both.Question, dns.Question{Name: "_https._tcp.local.", Qtype: dns.TypePTR, Qclass: dns.ClassINET | flush})
		time.Sleep(2 * time.Second)
		if got := c.ask(t, peer, both); len(got) != 2 || got[0].group() == got[1].group() {
			t.Errorf("one of each kind: %v", got)
		}
		// dig and the like.
		time.Sleep(2 * time.Second)
		q = question(hostName, dns.TypeA)
		q.Id, q.RecursionDesired = 4711, true
		got := c.ask(t, simple, q)
		if len(got) != 1 || got[0].to != simple || got[0].msg.Id != 4711 || !slices.Equal(got[0].msg.Question, q.Question) {
			t.Fatalf("simple resolver: %v", got)
		}
		for _, rr := range append(got[0].msg.Answer, got[0].msg.Extra...) {
			if rr.Header().Ttl > legacyTTL || rr.Header().Class != dns.ClassINET {
				t.Errorf("a simple resolver cannot know what %v means", rr)
			}
		}
		for name, from := range map[string]netip.AddrPort{"off the link": distant, "off the link, simple": netip.AddrPortFrom(distant.Addr(), 40000)} {
			if got := c.ask(t, from, question(hostName, dns.TypeA)); len(got) != 0 {
				t.Errorf("%s: %v", name, got)
			}
		}
	})
}

func TestWhatIsNotAQuestionForUsIsNotAnswered(t *testing.T) { // RFC 6762 § 18
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		response := question(hostName, dns.TypeA)
		response.Response = true
		update := question(hostName, dns.TypeA)
		update.Opcode = dns.OpcodeUpdate
		failed := question(hostName, dns.TypeA)
		failed.Rcode = dns.RcodeRefused
		chaos := question(hostName, dns.TypeA)
		chaos.Question[0].Qclass = dns.ClassCHAOS
		endless := new(dns.Msg)
		for range maxQuestions + 1 {
			endless.Question = append(endless.Question, question(hostName, dns.TypeA).Question...)
		}
		for name, q := range map[string]*dns.Msg{
			"response": response, "update": update, "failure": failed, "other class": chaos, "endless": endless,
			"other host": question("other.local.", dns.TypeA), "root": question(".", dns.TypeANY), "other service": question("_ipp._tcp.local.", dns.TypePTR),
			"other domain": question("yunbox-7f3a.example.", dns.TypeA),
		} {
			if got := c.ask(t, peer, q); len(got) != 0 {
				t.Errorf("%s: answered %v", name, got[0].msg)
			}
		}
		synctest.Wait()
		at := time.Now()
		c.carry(peer, netip.AddrPort{}, ip4, []byte("\x00\x00\x00\x00\x00\x01\xff"))
		c.carry(peer, netip.AddrPort{}, ip4, make([]byte, 60000))
		time.Sleep(time.Second)
		if got := c.since(at, true); len(got) != 0 {
			t.Errorf("garbage: %v", got)
		}
	})
}

func TestAnswersAreBundled(t *testing.T) { // RFC 6762 § 6.4, 7.4
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		at := time.Now()
		c.put(t, peer, question(boxType, dns.TypePTR))
		c.put(t, peer2, question("_https._tcp.local.", dns.TypePTR))
		c.put(t, peer2, question("_webdavs._tcp.local.", dns.TypePTR))
		time.Sleep(200 * time.Millisecond)
		if got := c.since(at, true); len(got) != 1 {
			t.Errorf("three questions at once made %d answers", len(got))
		}
		time.Sleep(2 * time.Second)
		q := question(boxType, dns.TypePTR)
		for _, k := range []string{"_https._tcp.local.", "_webdavs._tcp.local.", boxType} {
			q.Question = append(q.Question, question(k, dns.TypePTR).Question[0])
		}
		q.Question = append(q.Question, question(hostName, dns.TypeA).Question[0])
		if got := c.ask(t, peer, q); len(got) != 1 || len(got[0].msg.Answer) != 4 {
			t.Errorf("five questions in one packet: %v", got)
		}
		// Somebody else says the same first.
		time.Sleep(2 * time.Second)
		at = time.Now()
		c.put(t, peer, question("_services._dns-sd._udp.local.", dns.TypePTR))
		c.put(t, peer2, says(t, "_services._dns-sd._udp.local. 4500 IN PTR _https._tcp.local.", "_services._dns-sd._udp.local. 10 IN PTR _webdavs._tcp.local."))
		time.Sleep(300 * time.Millisecond)
		var said []dns.RR
		for _, s := range c.since(at, true) {
			said = append(said, s.msg.Answer...)
		}
		if holds(said, "PTR _https") || !holds(said, "PTR _webdavs") || !holds(said, "PTR "+boxType) {
			t.Errorf("said after somebody said some of it: %v", said)
		}
	})
}

func TestAFloodOfQuestionsIsAnsweredOnceASecond(t *testing.T) { // RFC 6762 § 6
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		for _, q := range []*dns.Msg{question(boxType, dns.TypePTR), question(hostName, dns.TypeA), question(boxName, dns.TypeSRV)} {
			time.Sleep(2 * time.Second)
			at := time.Now()
			for range 1000 {
				c.put(t, peer, q)
				time.Sleep(10 * time.Millisecond)
			}
			if n := len(c.since(at, true)); n < 9 || n > 11 {
				t.Errorf("%s: %d answers in ten seconds of a hundred questions each", q.Question[0].Name, n)
			}
		}
		// Those who ask alone are bounded too, so that nobody is flooded with our help.
		time.Sleep(2 * time.Second)
		at := time.Now()
		for range 1000 {
			c.put(t, simple, question(hostName, dns.TypeA))
		}
		time.Sleep(time.Second)
		if n := len(c.since(at, true)); n == 0 || n > 2*unicastRate {
			t.Errorf("%d unicast answers to 1,000 questions at once", n)
		}
	})
}

func TestAProbeIsAnsweredAtOnce(t *testing.T) { // RFC 6762 § 6, 8.1: defence
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		probe := question(strings.ToLower(boxName), dns.TypeANY)
		probe.Question[0].Qclass |= flush
		probe.Ns = rrs(t, boxName+" 120 IN SRV 0 0 1 rival.local.")
		at := time.Now()
		for range 3 {
			c.put(t, peer, probe)
			time.Sleep(probeWait)
		}
		got := c.since(at, true)
		if len(got) != 3 || got[0].at.Sub(at) > time.Millisecond {
			t.Fatalf("three probes: %v", got)
		}
		for _, s := range got {
			if !s.group() || !holds(s.msg.Answer, "SRV 0 0 8443") || !holds(s.msg.Answer, "TXT") {
				t.Errorf("defended with %v", s.msg)
			}
		}
		at = time.Now()
		for range 100 {
			c.put(t, peer, probe)
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(c.since(at, true)); n < 4 || n > 5 {
			t.Errorf("%d answers to a hundred probes in a second", n)
		}
	})
}

func TestGoodbyeIsSaidTwiceAndNothingAfterIt(t *testing.T) { // RFC 6762 § 10.1
	bubble(t, func(t *testing.T) {
		b, c := running(t, box())
		c.put(t, peer, question(boxType, dns.TypePTR)) // an answer is on its way
		synctest.Wait()
		at := time.Now()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(at); d > 250*time.Millisecond {
			t.Errorf("the goodbye took %v", d)
		}
		c.put(t, peer, question(boxType, dns.TypePTR))
		time.Sleep(3 * time.Second)
		got := c.since(at, true)
		if len(got) != 2 {
			t.Fatalf("%d packets, want 2 goodbyes", len(got))
		}
		for _, s := range got {
			for _, want := range []string{"A 192.0.2.5", "AAAA", "SRV", "TXT", boxType + " IN PTR", subtypeName + " IN PTR", "_https._tcp.local. IN PTR"} {
				if !holds(s.msg.Answer, want) {
					t.Errorf("no goodbye for %q", want)
				}
			}
			for _, rr := range s.msg.Answer {
				if rr.Header().Ttl != 0 || strings.HasPrefix(flat(rr), "_services.") {
					t.Errorf("goodbye: %v", rr)
				}
			}
		}
	})
}
