package discovery

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func (b *bench) conflicts(t *testing.T) {
	l := newLab(t)
	w := newWitness(l)
	l.machine("v")
	l.plug("v", 3)
	l.avahi("v", "viewer", "")
	l.machine("a")
	l.plug("a", 1)
	l.machine("b")
	l.plug("b", 2)
	name := labInstance()
	probe := func(record string) *dns.Msg {
		m := asked(name, dns.TypeANY)
		for r := range strings.SplitSeq(record, "; ") {
			m.Ns = append(m.Ns, rrs(t, name+" 120 IN "+r)...)
		}
		return m
	}
	probed := func(began time.Time) (heard, bool) {
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			for _, h := range w.from(began, false) {
				if len(h.msg.Ns) > 0 && slices.ContainsFunc(h.msg.Question, func(q dns.Question) bool { return fold(q.Name) == fold(name) }) {
					return h, true
				}
			}
		}
		return heard{}, false
	}
	// rival answers the first probe of the box by one of its own, while the box still probes.
	rival := func(record string) (time.Time, *process) {
		for try := 0; ; try++ {
			began := time.Now()
			box, _ := b.run(l, "a", labID)
			h, ok := probed(began)
			if !ok {
				return time.Now(), box
			}
			at := w.say(probe(record))
			if at.Sub(h.at) < 400*time.Millisecond || try == 10 {
				return at, box
			}
			box.stop(syscall.SIGKILL, patience) // this computer was too busy: the name is taken by now
		}
	}

	at, box := rival("A 192.0.2.250") // type 1 is before all of ours
	h, ok := w.await(at, patience, living(name+" IN SRV"))
	b.check("D36", ok, "the winner did not announce")
	if ok && *figures {
		b.check("D36", h.at.Sub(at) < time.Second, "the winner waited %v", h.at.Sub(at))
	}
	box.stop(syscall.SIGKILL, patience)
	at, box = rival(`TXT "zzzzzzzzzzzzzzzzzzzz"; SRV 65535 65535 65535 zzz.local.`)
	h, ok = w.await(at, 2*time.Second, living(name+" IN SRV"))
	b.check("D36", !ok || h.at.Sub(at) > 950*time.Millisecond, "the loser announced after %v", h.at.Sub(at))
	h, ok = w.await(at, patience, living(boxType+" IN SRV"))
	b.check("D36", ok, "the loser never announced")
	time.Sleep(2300 * time.Millisecond)
	if ok { // Avahi may have taken another name
		for _, rr := range h.msg.Answer {
			if n := rr.Header().Name; rr.Header().Rrtype == dns.TypeSRV && strings.HasSuffix(fold(n), boxType) {
				name = n
			}
		}
	}

	at = w.say(probe("SRV 0 0 1 rival.local."))
	h, ok = w.await(at, patience, func(h heard) bool { return holds(h.msg.Answer, "SRV 0 0 8443") })
	b.check("D19", ok, "no defence")
	if ok {
		b.time("D19", h.at.Sub(at), 250*time.Millisecond)
	}
	spaced()
	claim := says(t, name+" 120 IN SRV 0 0 1 rival.local.")
	claim.Answer[0].Header().Class |= flush
	at = w.say(claim)
	noticed := func() bool {
		for _, h := range w.from(at, false) {
			if len(h.msg.Ns) > 0 {
				return true
			}
		}
		return slices.ContainsFunc(w.from(at, true), func(h heard) bool { return holds(h.msg.Answer, "SRV 0 0 8443") })
	}
	for time.Since(at) < patience && !noticed() {
		time.Sleep(20 * time.Millisecond)
	}
	b.check("D20", noticed(), "nothing was done about it")
	box.stop(syscall.SIGTERM, patience)
	time.Sleep(1500 * time.Millisecond)

	view := l.browse("v", ServiceBox)
	at = time.Now()
	b.run(l, "a", labID)
	b.run(l, "b", "B"+labID[1:])
	one, ok1 := view.box(at, patience, 1, "id="+labID)
	two, ok2 := view.box(at, patience, 2, "id=B"+labID[1:])
	b.check("D32", ok1 && ok2, "avahi-browse says\n%s", view)
	if ok1 && ok2 {
		b.time("D32", max(one, two), 4*time.Second)
	}
	var out []byte
	instances, hosts := map[string]bool{}, map[string]bool{}
	for range 5 {
		time.Sleep(500 * time.Millisecond)
		instances, hosts = map[string]bool{}, map[string]bool{}
		out, _ = l.in("v", "timeout", "60", "avahi-browse", "-rpt", ServiceBox).Output()
		for line := range strings.Lines(string(out)) {
			if f := strings.Split(line, ";"); f[0] == "=" && len(f) > 7 && f[2] == "IPv4" {
				instances[f[3]], hosts[f[6]] = true, true
			}
		}
		if len(instances) == 2 && len(hosts) == 2 {
			break
		}
	}
	b.check("D32", len(instances) == 2 && len(hosts) == 2, "avahi-browse says\n%s", out)
}

func (b *bench) abuse(t *testing.T) {
	l := newLab(t)
	w := newWitness(l)
	l.machine("a")
	l.plug("a", 1)
	name := labInstance()
	began := time.Now()
	box, _ := b.run(l, "a", labID)
	if _, ok := w.await(began, patience, living("PTR "+name)); !ok {
		b.check("D21", false, "not announced")
		return
	}
	time.Sleep(2300 * time.Millisecond)
	at := time.Now()
	for range 400 {
		w.say(asked(boxType, dns.TypePTR))
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(at)
	n := 0
	for _, h := range w.from(at, true) {
		if h.at.Sub(at) < took && living("PTR "+name)(h) {
			n++
		}
	}
	rate := float64(n) / took.Seconds()
	b.check("D21", n > 0 && rate <= 3, "%.1f answers a second", rate)
	if *subject == "yunbox" {
		b.check("D21", float64(n-1) <= took.Seconds(), "%.1f answers a second", rate)
	}
	b.mu.Lock()
	b.took["D21"] = fmt.Sprintf(" %d answers in %.1f s", n, took.Seconds())
	b.mu.Unlock()

	fds, memory := usage(t, box.Process.Pid)
	rng := rand.New(rand.NewPCG(1, 2))
	var seeds [][]byte
	for _, m := range []*dns.Msg{asked(boxType, dns.TypePTR), asked(hostName, dns.TypeANY), says(t, hostName+" 120 IN AAAA 2001:db8::77", "x."+boxType+" 120 IN SRV 0 0 1 x.local."), {MsgHdr: dns.MsgHdr{Truncated: true}, Question: asked(name, dns.TypeANY).Question, Answer: rrs(t, boxType+" 4500 IN PTR x."+boxType)}} {
		m.Compress = true
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, raw)
	}
	for i := range 3000 {
		raw := bytes.Clone(seeds[i%len(seeds)])
		for range 1 + rng.IntN(4) {
			switch rng.IntN(4) {
			case 0:
				raw[rng.IntN(len(raw))] ^= byte(1 << rng.IntN(8))
			case 1:
				raw = raw[:1+rng.IntN(len(raw))]
			case 2:
				raw = append(raw, raw[rng.IntN(len(raw)):]...)
			default:
				raw[rng.IntN(len(raw))] = byte(rng.Uint32())
			}
		}
		w.put(raw)
		if i%10 == 9 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	time.Sleep(1500 * time.Millisecond)
	b.check("D31", box.running(), "it ended")
	if !box.running() {
		return
	}
	_, got := w.answers(asked(boxType, dns.TypePTR), func(got []heard) bool {
		return slices.ContainsFunc(got, func(h heard) bool { return holds(h.msg.Answer, boxType+" IN PTR") })
	})
	b.check("D31", slices.ContainsFunc(got, func(h heard) bool { return holds(h.msg.Answer, boxType+" IN PTR") }), "no answer any more")
	fds2, memory2 := usage(t, box.Process.Pid)
	b.check("D31", fds2 <= fds+2 && memory2 < memory+16<<10, "%d descriptors and %d KiB became %d and %d", fds, memory, fds2, memory2)
	b.mu.Lock()
	b.took["D31"] = fmt.Sprintf(" %d to %d KiB", memory, memory2)
	b.mu.Unlock()
}

// usage is how many descriptors and KiB of memory a process has.
func usage(t *testing.T, pid int) (fds, memory int) {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "VmRSS:") {
			if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &memory); err != nil {
				t.Fatal(err)
			}
		}
	}
	return len(list), memory
}
