package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestANameThatSomebodyHasGetsANumber(t *testing.T) { // RFC 6762 § 8.1, 9
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		m.plugIn(1, c, "192.0.2.5/24")
		b := start(t, box(), m, Names{})
		time.Sleep(300 * time.Millisecond) // the first probe is out
		c.put(t, peer, says(t, boxName+" 4500 IN TXT \"id=other\"", hostName+" 120 IN A 192.0.2.77"))
		time.Sleep(5 * time.Second)
		want := Names{"Yunbox 7F3A (2)", "yunbox-7f3a-2"}
		if s := b.Status(); s.Names != want || !s.Held || !slices.Equal(s.Links, []string{"lan1"}) {
			t.Errorf("status: %+v", s)
		}
		if got := c.ask(t, peer, question(boxType, dns.TypePTR)); len(got) != 1 || !holds(got[0].msg.Answer, `PTR Yunbox\ 7F3A\ \(2\).`+boxType) || !holds(got[0].msg.Extra, "SRV 0 0 8443 yunbox-7f3a-2.local.") {
			t.Errorf("PTR: %v", got)
		}
		if got := c.ask(t, peer, question(hostName, dns.TypeA)); len(got) != 0 {
			t.Errorf("answers for the name of another box: %v", got)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !slices.Equal(b.kept, []Names{want}) {
			t.Errorf("kept: %v", b.kept)
		}
	})
}

func TestTheNumberIsKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken []string // numbers of instances that are somebody else's
		kept  Names
		want  string
	}{
		{"nobody has the wanted name any more", nil, Names{"Yunbox 7F3A (5)", "yunbox-7f3a-5"}, "Yunbox 7F3A"},
		{"the wanted name is still taken", []string{boxName}, Names{"Yunbox 7F3A (5)", "yunbox-7f3a-5"}, "Yunbox 7F3A (5)"},
		{"the kept one too", []string{boxName, `Yunbox\ 7F3A\ \(5\).` + boxType}, Names{"Yunbox 7F3A (5)", ""}, "Yunbox 7F3A (6)"},
		{"kept for another name", []string{boxName}, Names{"Yunbox (5)", "yunbox-5"}, "Yunbox 7F3A (2)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				wire, m := new(cable), newMachine()
				m.plugIn(1, wire, "192.0.2.5/24")
				b := start(t, box(), m, c.kept)
				for range 20 { // somebody defends
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
					for _, p := range wire.since(time.Now().Add(-100*time.Millisecond), false) {
						for _, name := range c.taken {
							if slices.ContainsFunc(p.msg.Question, func(q dns.Question) bool { return q.Name == name }) {
								wire.put(t, peer, says(t, name+" 120 IN SRV 0 0 1 rival.local."))
							}
						}
					}
				}
				time.Sleep(5 * time.Second)
				if got := b.Status().Names.Instance; got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestNumbersFitTheNames(t *testing.T) {
	s := box()
	s.Name = strings.Repeat("云", 21)
	for _, n := range []int{2, 9, 10, 4711} {
		for which := range 2 {
			name := numbered(which, s, n)
			if len(name) > 63 || numberOf(which, s, name) != n {
				t.Errorf("%q (%d bytes) is number %d", name, len(name), numberOf(which, s, name))
			}
		}
	}
	for _, name := range []string{"", "Yunbox", s.Name, s.Name + " (1)", s.Name + "2", "x (2)"} {
		if n := numberOf(ofInstance, s, name); n != 0 {
			t.Errorf("%q is number %d of another name", name, n)
		}
	}
}

func TestAStormOfConflictsSlowsDown(t *testing.T) { // RFC 6762 § 8.1: fifteen in ten seconds
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		m.plugIn(1, c, "192.0.2.5/24")
		b := start(t, box(), m, Names{})
		began := time.Now()
		answered := 0
		for time.Since(began) < 100*time.Second {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			for _, p := range c.since(time.Now().Add(1-10*time.Millisecond), false) {
				c.put(t, peer, says(t, p.msg.Question[len(p.msg.Question)-1].Name+" 120 IN SRV 0 0 1 rival.local."))
				answered++
			}
		}
		// 15 within the first four seconds, then one in five.
		if answered < 25 || answered > 40 {
			t.Errorf("%d names tried in 100 s", answered)
		}
		time.Sleep(10 * time.Second)
		if s := b.Status(); !s.Held || !strings.HasPrefix(s.Names.Instance, "Yunbox 7F3A (") {
			t.Errorf("after the storm: %+v", s)
		}
	})
}

func TestOfTwoProbesAtOnceTheLaterDataWin(t *testing.T) { // RFC 6762 § 8.2
	for name, c := range map[string]struct {
		theirs []string
		wins   bool
	}{
		"they have less":          {[]string{`TXT "a"`}, true},
		"they have more":          {[]string{`TXT "zzzzzzzzzzzzz"`}, false}, // the length of the string counts first
		"they have another type":  {[]string{"SRV 0 0 1 a.local."}, false},
		"they have a lower type":  {[]string{"A 192.0.2.77"}, true},
		"they have ours and more": {[]string{`TXT "txtvers=1" "id=PZ5TQ2M7XK3VDA6B" "pv=1" "api=/v1" "st=u" "md=Yunbox One" "sn4=0042"`, "SRV 0 0 8443 " + hostName, "SRV 0 0 8444 " + hostName}, false},
		"they have the same":      {[]string{`TXT "txtvers=1" "id=PZ5TQ2M7XK3VDA6B" "pv=1" "api=/v1" "st=u" "md=Yunbox One" "sn4=0042"`, "SRV 0 0 8443 " + hostName}, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cable, m := new(cable), newMachine()
				m.plugIn(1, cable, "192.0.2.5/24")
				began := time.Now()
				b := start(t, box(), m, Names{})
				time.Sleep(600 * time.Millisecond) // between probes
				probe := question(boxName, dns.TypeANY)
				for _, s := range c.theirs {
					probe.Ns = append(probe.Ns, rrs(t, boxName+" 120 IN "+s)...)
				}
				cable.put(t, peer, probe)
				lost := time.Now()
				synctest.Wait()
				if s := b.Status(); s.Disturbed == c.wins {
					t.Errorf("disturbed: %v", s.Disturbed)
				}
				time.Sleep(5 * time.Second)
				var said time.Time // the first time that the name of the box is used
				for _, p := range cable.since(began, true) {
					if said.IsZero() && holds(p.msg.Answer, "PTR "+boxName) {
						said = p.at
					}
				}
				if won := said.Sub(lost) < 600*time.Millisecond; won != c.wins || said.IsZero() {
					t.Errorf("announced %v after the other probe", said.Sub(lost))
				}
				if !c.wins && said.Sub(lost) != loserWait+3*probeWait {
					t.Errorf("the loser announced %v after the other probe", said.Sub(lost))
				}
				if s := b.Status(); s.Names.Instance != "Yunbox 7F3A" {
					t.Errorf("took the name %q though nobody took the wanted one", s.Names.Instance)
				}
			})
		})
	}
}

func TestTwoEqualBoxes(t *testing.T) { // both get names, within four seconds; RFC 6762 § 8.2, 9
	var worst time.Duration
	for round := range 40 {
		bubble(t, func(t *testing.T) {
			c := new(cable)
			var boxes []*station
			began := time.Now()
			for i := range 2 {
				m := newMachine()
				m.plugIn(1, c, fmt.Sprintf("192.0.2.%d/24", i+1), fmt.Sprintf("2001:db8::%d/64", i+1))
				s := box()
				s.ID = fmt.Sprintf("%d%015d", i, 0)
				boxes = append(boxes, start(t, s, m, Names{}))
				if round%2 == 1 {
					time.Sleep(time.Duration(round) * 40 * time.Millisecond)
				}
			}
			for !(boxes[0].Status().Held && boxes[1].Status().Held) {
				time.Sleep(10 * time.Millisecond)
				if time.Since(began) > time.Minute {
					t.Fatalf("not settled: %+v %+v", boxes[0].Status(), boxes[1].Status())
				}
			}
			worst = max(worst, time.Since(began))
			time.Sleep(10 * time.Second)
			a, b := boxes[0].Status(), boxes[1].Status()
			if a.Names.Instance == b.Names.Instance || a.Names.Host == b.Names.Host || !a.Held || !b.Held {
				t.Errorf("%+v and %+v", a, b)
			}
			for _, s := range []Status{a, b} {
				if n := numberOf(ofInstance, box(), s.Names.Instance); n > 2 {
					t.Errorf("%q: the second name would have done", s.Names.Instance)
				}
			}
		})
	}
	t.Logf("settled after at most %v", worst)
	if worst > 4*time.Second {
		t.Errorf("two equal boxes need %v", worst)
	}
}

func TestALateConflictIsSettled(t *testing.T) { // RFC 6762 § 9
	bubble(t, func(t *testing.T) {
		b, c := running(t, box())
		rival := says(t, boxName+" 120 IN SRV 0 0 1 rival.local.")
		at := time.Now()
		c.put(t, peer, rival)
		time.Sleep(5 * time.Second)
		if n := len(c.since(at, false)); n != 3 {
			t.Errorf("%d probes after somebody used the name", n)
		}
		if s := b.Status(); s.Names.Instance != "Yunbox 7F3A" || !s.Held {
			t.Errorf("the rival did not insist, but: %+v", s)
		}
		c.put(t, peer, rival)
		time.Sleep(300 * time.Millisecond)
		c.put(t, peer, rival) // it answers the probe
		time.Sleep(5 * time.Second)
		if s := b.Status(); s.Names != (Names{"Yunbox 7F3A (2)", "yunbox-7f3a"}) || !s.Held {
			t.Errorf("the rival insisted: %+v", s)
		}
		// Not rivals: the same data, a goodbye, a port that is not of mDNS, a stranger.
		at = time.Now()
		c.put(t, peer, says(t, hostName+" 120 IN A 192.0.2.5"))
		c.put(t, peer, says(t, hostName+" 0 IN A 192.0.2.99"))
		c.put(t, simple, says(t, hostName+" 120 IN A 192.0.2.99"))
		c.put(t, distant, says(t, hostName+" 120 IN A 192.0.2.99"))
		time.Sleep(5 * time.Second)
		if n := len(c.since(at, false)); n != 0 {
			t.Errorf("%d probes without a rival", n)
		}
	})
}

func TestWhatOthersSayWrongIsSetRight(t *testing.T) { // RFC 6762 § 6.6
	bubble(t, func(t *testing.T) {
		_, c := running(t, box())
		for _, wrong := range []string{"_services._dns-sd._udp.local. 0 IN PTR _https._tcp.local.", hostName + " 30 IN A 192.0.2.5", boxType + " 0 IN PTR " + boxName} {
			time.Sleep(2 * time.Second)
			at := time.Now()
			c.put(t, peer, says(t, wrong))
			time.Sleep(time.Second)
			if got := c.since(at, true); len(got) != 1 || !holds(got[0].msg.Answer, flat(rrs(t, wrong)[0])) || got[0].msg.Answer[0].Header().Ttl < 120 {
				t.Errorf("%s: %v", wrong, got)
			}
		}
	})
}

func TestANewAddressIsSaidAtOnce(t *testing.T) { // RFC 6762 § 8.4
	bubble(t, func(t *testing.T) {
		b, c := running(t, box())
		at := time.Now()
		b.plugIn(7, c, "192.0.2.9/24", "2001:db8::5/64")
		time.Sleep(5 * time.Second)
		got := c.since(at, true)
		if len(got) != 2 || len(c.since(at, false)) != 0 || got[0].at.Sub(at) > settle+time.Millisecond {
			t.Fatalf("a new address: %v", got)
		}
		for _, s := range got {
			if !holds(s.msg.Answer, "A 192.0.2.9") || !holds(s.msg.Answer, "AAAA 2001:db8::5") || holds(s.msg.Answer, "192.0.2.5") {
				t.Errorf("said %v", s.msg.Answer)
			}
		}
		// The last one of its family goes: nothing would flush it.
		at = time.Now()
		b.plugIn(7, c, "192.0.2.9/24")
		time.Sleep(5 * time.Second)
		gone := false
		for _, s := range c.since(at, true) {
			for _, rr := range s.msg.Answer {
				gone = gone || strings.Contains(flat(rr), "AAAA 2001:db8::5") && rr.Header().Ttl == 0
			}
		}
		if !gone {
			t.Error("no goodbye for the last address of IPv6")
		}
	})
}

func TestTheNetworkComesAndGoes(t *testing.T) { // R02
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		b := start(t, box(), m, Names{})
		time.Sleep(time.Hour)
		if s := b.Status(); s.Held || len(s.Links) != 0 {
			t.Errorf("without a network: %+v", s)
		}
		for range 3 {
			at := time.Now()
			m.plugIn(1, c, "192.0.2.5/24")
			time.Sleep(1200 * time.Millisecond)
			if got := c.since(at, true); len(c.since(at, false)) != 3 || len(got) == 0 || !holds(got[0].msg.Answer, "A 192.0.2.5") {
				t.Errorf("a cable was plugged in: %v", got)
			}
			time.Sleep(time.Minute)
			m.unplug(1)
			time.Sleep(time.Minute)
			at = time.Now()
			time.Sleep(time.Minute)
			if n := len(c.since(at, true)); n != 0 || len(b.Status().Links) != 0 {
				t.Errorf("%d packets without a cable", n)
			}
		}
	})
}

func TestEachLinkHearsItsOwnAddresses(t *testing.T) { // and a second one is joined while the box runs
	bubble(t, func(t *testing.T) {
		b, c := running(t, box())
		other := new(cable)
		at := time.Now()
		b.plugIn(8, other, "198.51.100.1/24")
		time.Sleep(5 * time.Second)
		if len(c.since(at, true)) != 0 || len(other.since(at, false)) != 3 {
			t.Error("the first link was told of the second, or that one was not probed on")
		}
		got := other.ask(t, distant, question(hostName, dns.TypeANY))
		if len(got) != 1 || !holds(got[0].msg.Answer, "A 198.51.100.1") || holds(got[0].msg.Answer, "192.0.2.5") {
			t.Errorf("on the second link: %v", got)
		}
		if got := c.ask(t, peer, question(hostName, dns.TypeANY)); len(got) != 1 || holds(got[0].msg.Answer, "198.51.100.1") {
			t.Errorf("on the first link: %v", got)
		}
		// A conflict on one of them is one on all: the name is the same everywhere.
		other.put(t, distant, says(t, hostName+" 120 IN A 198.51.100.9"))
		time.Sleep(300 * time.Millisecond)
		at = time.Now()
		other.put(t, distant, says(t, hostName+" 120 IN A 198.51.100.9"))
		time.Sleep(5 * time.Second)
		if s := b.Status(); s.Names.Host != "yunbox-7f3a-2" || len(s.Links) != 2 {
			t.Errorf("after the conflict: %+v", s)
		}
		gone := false
		for _, s := range c.since(at, true) {
			for _, rr := range s.msg.Answer {
				gone = gone || flat(rr) == hostName+" IN A 192.0.2.5" && rr.Header().Ttl == 0
			}
		}
		if !gone {
			t.Error("the old name was not taken back on the first link")
		}
	})
}

func TestAFamilyThatComesLateHearsAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		m.plugIn(1, c, "192.0.2.5/24")
		start(t, box(), m, Names{})
		time.Sleep(10 * time.Second)
		at := time.Now()
		m.plugIn(1, c, "192.0.2.5/24", "2001:db8::5/64")
		time.Sleep(10 * time.Second)
		n := 0
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.seen {
			if s.fam == ip6 && !s.at.Before(at) && holds(s.msg.Answer, "PTR "+boxName) && holds(s.msg.Answer, "AAAA 2001:db8::5") {
				n++
			}
		}
		if n != 2 {
			t.Errorf("announced %d times over IPv6", n)
		}
	})
}

func TestTwoLinksToOneNetworkAreNoConflict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		m.plugIn(1, c, "192.0.2.5/24")
		m.plugIn(2, c, "192.0.2.6/24")
		b := start(t, box(), m, Names{})
		time.Sleep(30 * time.Second)
		if s := b.Status(); s.Names != (Names{"Yunbox 7F3A", "yunbox-7f3a"}) || len(s.Links) != 2 {
			t.Errorf("%+v", s)
		}
		// Another program on this machine, which shares the address, is somebody else.
		rival := says(t, hostName+" 120 IN A 203.0.113.1")
		at := time.Now()
		c.put(t, netip.MustParseAddrPort("192.0.2.5:5353"), rival)
		time.Sleep(5 * time.Second)
		if len(c.since(at, false)) == 0 {
			t.Error("a rival on the same machine is not heard")
		}
	})
}

func TestAnotherWishIsAskedForAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, c := running(t, box())
		at := time.Now()
		s := box()
		s.Name = "家里的云盒"
		if err := b.Update(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		var gone, came bool
		for _, p := range c.since(at, true) {
			for _, rr := range p.msg.Answer {
				gone = gone || flat(rr) == boxType+" IN PTR "+boxName && rr.Header().Ttl == 0
				came = came || flat(rr) == boxType+" IN PTR "+escapeLabel(s.Name)+"."+boxType && gone
			}
		}
		if !gone || !came || len(c.since(at, false)) != 3 || b.Status().Names.Instance != s.Name {
			t.Errorf("goodbye %t, new name %t, %d probes, %+v", gone, came, len(c.since(at, false)), b.Status())
		}
		// A service that was not there before is asked for, one that is gone is taken back.
		at = time.Now()
		s.FTP, s.WebDAV = 2121, ""
		if err := b.Update(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		gone = false
		for _, p := range c.since(at, true) {
			for _, rr := range p.msg.Answer {
				gone = gone || strings.HasPrefix(flat(rr), "_webdavs._tcp.local. IN PTR") && rr.Header().Ttl == 0
			}
		}
		if got := c.ask(t, peer, question("_ftp._tcp.local.", dns.TypePTR)); !gone || len(got) != 1 {
			t.Errorf("WebDAV gone %t, FTP %v", gone, got)
		}
		if got := c.ask(t, peer, question("_webdavs._tcp.local.", dns.TypePTR)); len(got) != 0 {
			t.Errorf("WebDAV is still there: %v", got)
		}
		if err := b.Update(Service{}); err == nil {
			t.Error("nothing was announced")
		}
	})
}

func TestAPortThatCannotBeHadIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, m := new(cable), newMachine()
		m.plugIn(1, c, "192.0.2.5/24")
		m.failing = errors.New("in use")
		b := start(t, box(), m, Names{})
		time.Sleep(10 * time.Minute)
		if s := b.Status(); s.Err == nil || s.Held {
			t.Errorf("%+v", s)
		}
		m.mu.Lock()
		m.failing = nil
		m.mu.Unlock()
		time.Sleep(slowLook + 2*time.Second)
		if s := b.Status(); s.Err != nil || !s.Held {
			t.Errorf("%+v", s)
		}
	})
}
