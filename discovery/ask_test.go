package discovery

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestAnAnswerIsTakenApart(t *testing.T) {
	m := &dns.Msg{Answer: rrs(t,
		boxType+` 10 IN PTR Whole\ one.`+boxType, boxType+" 10 IN PTR half."+boxType, "_other._tcp.local. 10 IN PTR x._other._tcp.local."),
		Extra: rrs(t,
			"WHOLE\\ one."+strings.ToUpper(boxType)+" 10 IN SRV 0 0 8443 a.local.", `Whole\ one.`+boxType+` 10 IN TXT "txtvers=1" "id=abc"`,
			"x._other._tcp.local. 10 IN SRV 0 0 1 b.local.", `x._other._tcp.local. 10 IN TXT "id=abc"`,
			"A.local. 10 IN A 192.0.2.2", "a.local. 10 IN A 192.0.2.1", "a.local. 10 IN A 192.0.2.1", "b.local. 10 IN A 192.0.2.3", "a.local. 10 IN AAAA 2001:db8::1"),
	}
	found, half := services(m, boxType)
	if len(found) != 1 || found[0].Name != "Whole one" || found[0].Host != "a.local" || found[0].Port != 8443 || found[0].Text["id"] != "abc" ||
		fmt.Sprint(found[0].Addrs) != "[192.0.2.1 192.0.2.2 2001:db8::1]" {
		t.Errorf("%+v", found)
	}
	if len(half) != 1 || half[0] != "half."+boxType {
		t.Errorf("%v", half)
	}
}

func FuzzAnswers(f *testing.F) {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}}
	for _, s := range []string{boxType + ` 10 IN PTR a\.\b.` + boxType, "a." + boxType + " 10 IN SRV 0 0 1 a.local.", "a." + boxType + ` 10 IN TXT "id=1" "" "=" "x"`, "a.local. 10 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	raw, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m dns.Msg
		if m.Unpack(raw) != nil {
			return
		}
		found, half := services(&m, boxType)
		if len(found)+len(half) > maxFound {
			t.Errorf("%d and %d", len(found), len(half))
		}
		for _, f := range found {
			if f.Name == "" || len(f.Addrs) > len(m.Answer)+len(m.Ns)+len(m.Extra) {
				t.Errorf("%+v", f)
			}
		}
	})
}

// What others did may be why a box is not found; that is over after a while. R18
func TestWhoDisturbs(t *testing.T) {
	flood := func(pause time.Duration, m *dns.Msg, n int) func(*testing.T, *cable) {
		return func(t *testing.T, c *cable) {
			for range n {
				c.put(t, simple, m)
				time.Sleep(pause)
			}
		}
	}
	conflict := says(t, boxName+" 120 IN SRV 0 0 1 rival.local.")
	probe := question(boxName, dns.TypeANY)
	probe.Ns = rrs(t, boxName+` 120 IN TXT "zzzzzzzzzzzzz"`)
	for name, c := range map[string]struct {
		do   func(*testing.T, *cable)
		want bool
	}{
		"nobody":                                  {func(*testing.T, *cable) {}, false},
		"some ask":                                {flood(50*time.Millisecond, question(hostName, dns.TypeA), 100), false},
		"many ask for an answer each":             {flood(12*time.Millisecond, question(hostName, dns.TypeA), 200), true},
		"many ask for nothing of ours":            {flood(2*time.Millisecond, question("other.local.", dns.TypeA), 700), true},
		"somebody has the name":                   {func(t *testing.T, c *cable) { c.put(t, peer, conflict) }, true},
		"somebody probes for a name that is held": {func(t *testing.T, c *cable) { c.put(t, peer, probe) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b, wire := running(t, box())
				c.do(t, wire)
				synctest.Wait()
				if s := b.Status(); s.Disturbed != c.want {
					t.Errorf("%+v", s)
				}
				time.Sleep(disturbedTime + 10*time.Second)
				if s := b.Status(); s.Disturbed || !s.Held {
					t.Errorf("after a while: %+v", s)
				}
			})
		})
	}
}
