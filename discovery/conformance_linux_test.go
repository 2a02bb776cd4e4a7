package discovery

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var (
	subject = flag.String("subject", "yunbox", "who is checked for conformance: `yunbox|grandcat|avahi`")
	figures = flag.Bool("figures", false, "check the times too that are promised, on a machine that is quiet")
)

// checks are what a responder must do, as seen from outside. Those marked * need an
// option that not every subject has.
var checks = []struct{ id, what string }{
	{"D01", "Avahi on another machine sees it, resolved"},
	{"D02", "over IPv6 too"},
	{"D03", "the host name has an A record for whoever asks cold"},
	{"D04", "and AAAA"},
	{"D05", "SRV and TXT of the instance are answered, whatever script its name is in"},
	{"D06", "upper and lower case do not matter"},
	{"D07", "PTR comes with SRV, TXT and addresses"},
	{"D08", "NSEC says what there is not"},
	{"D09", "the list of service types has its types"},
	{"D10", "a unicast answer is given where one is asked for"},
	{"D11", "a simple resolver gets a conventional answer"},
	{"D12", "what the asker knows is not said"},
	{"D13", "TTLs: 120 with a host name or an address, 4500 others"},
	{"D14", "cache-flush bit on unique records only, and not in probes"},
	{"D15", "hop limit 255, authoritative, id 0, no questions in answers"},
	{"D16", "both names are probed for three times, 250 ms apart"},
	{"D17", "announced twice, a second apart"},
	{"D18", "shared answers wait 20 to 120 ms, unique ones do not"},
	{"D19", "its name is defended against a probe"},
	{"D20", "a late conflict is noticed"},
	{"D21", "100 questions a second get few multicast answers"},
	{"D22", "who is not on the link gets no answer"},
	{"D23", "a response is not taken for a question"},
	{"D24", "* the subtype is listed"},
	{"D25", "* nothing personal is said"},
	{"D26", "* a new TXT is announced twice and seen"},
	{"D27", "a new IPv4 address is followed"},
	{"D28", "a new IPv6 address is followed"},
	{"D29", "a cable that was out is announced on again"},
	{"D30", "a new interface is served, with its own addresses"},
	{"D31", "3,000 broken packets: it lives, and grows no descriptors or memory"},
	{"D32", "of two equal ones both are seen"},
	{"D33", "SIGTERM: goodbye, gone at Avahi's, exit"},
	{"D34", "kill -9 and back under the same name"},
	{"D35", "starts without a network and appears with one"},
	{"D36", "simultaneous probes: the later data win"},
	{"D37", "started and stopped at once, nothing of it remains"},
}

// bench is the record of one run.
type bench struct {
	mu     sync.Mutex
	result map[string]string // "" passed
	took   map[string]string
}

// check notes the outcome of a check down; one that is noted twice has passed if both have.
func (b *bench) check(id string, ok bool, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	why := ""
	if !ok {
		why = "failed: " + fmt.Sprintf(format, args...)
	}
	if b.result[id] == "" {
		b.result[id] = why
	}
}

// time notes down how long something took, and checks it where times are promised.
func (b *bench) time(id string, d, goal time.Duration) {
	b.mu.Lock()
	b.took[id] += fmt.Sprintf(" %.2f s (goal %.1f)", d.Seconds(), goal.Seconds())
	b.mu.Unlock()
	if *figures && d > goal {
		b.check(id, false, "%v is longer than %v", d, goal)
	}
}

// patience is how long a check waits before it calls something missing.
const patience = 30 * time.Second

// soon is how long a check waits for what is not to come.
const soon = 300 * time.Millisecond

// TestSeenByAvahiFromAnotherMachine checks the responder from outside, by raw packets
// and by somebody else's software: no network at start, seen, resolved, questions of
// all kinds, conflicts, binding, changes of the network, SIGTERM. R02
func TestSeenByAvahiFromAnotherMachine(t *testing.T) {
	b := &bench{result: make(map[string]string), took: make(map[string]string)}
	t.Run("parts", func(t *testing.T) {
		t.Run("answers", func(t *testing.T) { t.Parallel(); b.answers(t) })
		t.Run("life", func(t *testing.T) { t.Parallel(); b.life(t) })
		t.Run("network", func(t *testing.T) { t.Parallel(); b.network(t) })
		t.Run("conflicts", func(t *testing.T) { t.Parallel(); b.conflicts(t) })
		t.Run("abuse", func(t *testing.T) { t.Parallel(); b.abuse(t) })
		t.Run("by Avahi", func(t *testing.T) { t.Parallel(); b.byAvahi(t) })
		t.Run("rivals of Avahi", func(t *testing.T) { t.Parallel(); b.rivals(t) })
	})
	if os.Geteuid() != 0 || len(b.result) == 0 {
		t.Skip("nothing could be checked")
	}
	passed, counted := 0, 0
	for _, c := range checks {
		why, done := b.result[c.id]
		optional := strings.HasPrefix(c.what, "*")
		if *subject != "yunbox" && optional {
			continue
		}
		counted++
		switch {
		case !done:
			why = "failed: was not come to"
		case why == "":
			passed++
			why = "ok"
		}
		if why != "ok" && *subject == "yunbox" {
			t.Errorf("%s %s: %.2000s%s", c.id, c.what, why, b.took[c.id])
			continue
		}
		t.Logf("%s %-70s %.300s%s", c.id, c.what, why, b.took[c.id])
	}
	t.Logf("%s passes %d of %d", *subject, passed, counted)
}

// run starts the subject on a machine.
func (b *bench) run(l *lab, machine, id string) (p *process, input io.Writer) {
	l.t.Helper()
	if *subject == "avahi" {
		dir := l.t.TempDir()
		file := `<?xml version="1.0" standalone='no'?><!DOCTYPE service-group SYSTEM "avahi-service.dtd"><service-group><name>` + labBox().Name + `</name>`
		for _, kind := range []string{ServiceBox, ServiceHTTPS} {
			file += `<service><type>` + kind + `</type><port>8443</port><txt-record>txtvers=1</txt-record><txt-record>id=` + id + `</txt-record></service>`
		}
		if err := os.WriteFile(filepath.Join(dir, "box.service"), []byte(file+"</service-group>"), 0o644); err != nil {
			l.t.Fatal(err)
		}
		bus := l.bus
		p := l.avahi(machine, labBox().Host, dir)
		l.bus = bus
		return p, io.Discard
	}
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	c := l.in(machine, self)
	c.Env = append(c.Env, roleEnv+"="+*subject, idEnv+"="+id)
	if testing.Verbose() {
		c.Stderr = os.Stderr
	}
	in, err := c.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.start(c), in
}

const labID = "PZ5TQ2M7XK3VDA6B"

func labInstance() string { return escapeLabel(labBox().Name) + "." + boxType }

// shown is how avahi-browse writes the name.
func shown() string {
	var s strings.Builder
	for _, c := range []byte(labBox().Name) {
		if c < '0' || c > 'z' {
			fmt.Fprintf(&s, `\%03d`, c)
		} else {
			s.WriteByte(c)
		}
	}
	return s.String()
}

func asked(name string, kind uint16) *dns.Msg { return question(name, kind) }

// spaced waits until records that were said may be said again.
func spaced() { time.Sleep(1150 * time.Millisecond) }

func (b *bench) answers(t *testing.T) {
	l := newLab(t)
	w := newWitness(l)
	l.machine("v")
	l.plug("v", 3)
	l.avahi("v", "viewer", "")
	view := l.browse("v", ServiceBox)
	l.machine("a")
	l.plug("a", 1)
	name, host := labInstance(), hostName
	began := time.Now()
	box, _ := b.run(l, "a", labID)

	d, ok := view.box(began, patience, 1, shown(), "yunbox-7f3a.local", `"txtvers=1"`)
	b.check("D01", ok, "avahi-browse says\n%s", view)
	b.time("D01", d, 1300*time.Millisecond)
	_, ok = view.after(began, patience, "=;lan0;IPv6;", shown(), ";8443;")
	b.check("D02", ok, "avahi-browse says\n%s", view)

	first, ok := w.await(began, patience, living(name+" IN SRV"))
	if !ok {
		b.check("D17", false, "not announced")
		return
	}
	silence := 2300 * time.Millisecond
	if *subject == "avahi" {
		silence = 4500 * time.Millisecond // it announces a third time
	}
	time.Sleep(time.Until(first.at.Add(silence)))
	b.probes(w, began, name, host)
	b.announcements(w, began, name)

	question := func(name string, kind uint16, patterns ...string) (time.Time, []heard, bool) {
		ok := func(got []heard) bool {
			for _, p := range patterns {
				if !slices.ContainsFunc(got, living(p)) {
					return false
				}
			}
			return true
		}
		at, got := w.answers(asked(name, kind), ok)
		return at, got, len(got) > 0 && ok(got)
	}
	var unique []time.Duration
	at, got, ok := question(host, dns.TypeA, "A 192.0.2.1")
	b.check("D03", ok, "%v", got)
	if ok {
		unique = append(unique, got[0].at.Sub(at))
	}
	spaced()
	at, got, ok = question(host, dns.TypeAAAA, "AAAA 2001:db8::1")
	b.check("D04", ok, "%v", got)
	if ok {
		unique = append(unique, got[0].at.Sub(at))
	}
	spaced()
	_, got, ok = question(name, dns.TypeSRV, "SRV 0 0 8443 "+host)
	b.check("D05", ok, "SRV: %v", got)
	_, got, ok = question(name, dns.TypeTXT, `TXT "txtvers=1" "id=`+labID+`"`)
	b.check("D05", ok, "TXT: %v", got)
	spaced()
	_, got, ok = question(strings.ToUpper(host), dns.TypeA, "A 192.0.2.1")
	b.check("D06", ok, "host: %v", got)
	_, got, ok = question(strings.ToUpper(boxType), dns.TypePTR, "PTR "+name)
	b.check("D06", ok, "service: %v", got)
	spaced()
	at, got, ok = question(boxType, dns.TypePTR, "PTR "+name)
	b.check("D07", ok, "%v", got)
	if ok {
		for _, p := range []string{"SRV 0 0 8443 " + host, `TXT "txtvers=1"`, "A 192.0.2.1"} {
			b.check("D07", holds(slices.Concat(got[0].msg.Answer, got[0].msg.Extra), p), "no %s in %v", p, got[0])
		}
		d := got[0].at.Sub(at)
		b.check("D18", d >= 19*time.Millisecond, "a shared answer after %v", d)
		b.check("D18", d < 150*time.Millisecond || !*figures, "a shared answer after %v", d)
	}
	b.check("D18", len(unique) > 0 && (slices.Min(unique) < 20*time.Millisecond || !*figures), "unique answers after %v", unique)
	if len(unique) > 0 {
		b.time("D18", slices.Min(unique), 20*time.Millisecond)
	}
	_, got, _ = question("other."+boxType, dns.TypeSRV)
	b.check("D07", len(got) == 0, "answers for others: %v", got)
	spaced()
	_, got, ok = question(host, dns.TypeHINFO, "NSEC")
	b.check("D08", ok, "%v", got)
	_, got, ok = question("_services._dns-sd._udp.local.", dns.TypePTR, "PTR "+boxType, "PTR _https._tcp.local.")
	b.check("D09", ok, "%v", got)

	unicast := asked(name, dns.TypeTXT)
	unicast.Question[0].Qclass |= flush
	_, got = w.answers(unicast, func(got []heard) bool { return len(got) > 0 })
	b.check("D10", len(got) > 0 && !slices.ContainsFunc(got, func(h heard) bool { return h.to.IsMulticast() }), "%v", got)

	legacy := asked(host, dns.TypeA)
	legacy.Id, legacy.RecursionDesired = 4711, true
	m := w.alone("", "224.0.0.251:5353", legacy, patience)
	b.check("D11", m != nil && m.Response && m.Id == 4711 && len(m.Question) == 1 && holds(m.Answer, "A 192.0.2.1"), "%v", m)
	if m != nil {
		for _, rr := range m.Answer {
			b.check("D11", rr.Header().Ttl <= 10 && rr.Header().Class == dns.ClassINET, "%v", rr)
		}
	}
	for _, c := range []struct {
		ttl  int
		said bool
	}{{4500, false}, {2300, false}, {1000, true}} {
		spaced()
		known := asked(boxType, dns.TypePTR)
		known.Answer = rrs(t, fmt.Sprintf("%s %d IN PTR %s", boxType, c.ttl, name))
		said := func(got []heard) bool { return slices.ContainsFunc(got, living("PTR "+name)) }
		_, got = w.answers(known, func(got []heard) bool { return said(got) || !c.said })
		b.check("D12", said(got) == c.said, "known for %d s: %v", c.ttl, got)
	}

	l.ip("-n", l.ns("w"), "addr", "add", "198.51.100.9/32", "dev", "lan0")
	l.ip("-n", l.ns("a"), "route", "add", "198.51.100.0/24", "dev", "lan0")
	m = w.alone("198.51.100.9", "192.0.2.1:5353", asked(boxType, dns.TypePTR), time.Second)
	b.check("D22", m == nil, "%v", m)
	spaced()
	response := asked(boxType, dns.TypePTR)
	response.Response = true
	_, got = w.ask(response, soon)
	b.check("D23", len(got) == 0, "%v", got)

	if !box.running() {
		t.Error("it ended")
	}
}

// probes looks at what was asked before the names were used.
func (b *bench) probes(w *witness, began time.Time, name, host string) {
	for n, used := range map[string]string{name: name + " IN SRV", host: host + " IN A "} {
		first, ok := w.await(began, 0, living(used))
		b.check("D16", ok, "%s is not used", n)
		var at []time.Time
		for _, h := range w.from(began, false) {
			for _, q := range h.msg.Question {
				if fold(q.Name) == fold(n) && q.Qtype == dns.TypeANY && len(h.msg.Ns) > 0 && h.at.Before(first.at) {
					at = append(at, h.at)
				}
			}
			for _, rr := range h.msg.Ns {
				b.check("D14", rr.Header().Class&flush == 0, "in a probe: %v", rr)
			}
		}
		b.check("D16", len(at) >= 3, "%d probes for %s", len(at), n)
		for i := range at {
			next := first.at
			if i+1 < len(at) {
				next = at[i+1]
			}
			b.check("D16", next.Sub(at[i]) > 150*time.Millisecond, "%v after a probe for %s", next.Sub(at[i]), n)
		}
	}
}

// announcements looks at what was said unasked.
func (b *bench) announcements(w *witness, began time.Time, name string) {
	var at []time.Time
	for _, h := range w.from(began, true) {
		if living(name + " IN SRV")(h) {
			at = append(at, h.at)
		}
		b.check("D15", h.ttl == 255 && h.msg.Authoritative && h.msg.Id == 0 && len(h.msg.Question) == 0, "hop limit %d: %v", h.ttl, h)
		for _, rr := range slices.Concat(h.msg.Answer, h.msg.Extra) {
			hd := rr.Header()
			if !strings.Contains(fold(hd.Name), "yunbox") {
				continue // of an Avahi itself
			}
			want := uint32(4500)
			if hd.Rrtype == dns.TypeA || hd.Rrtype == dns.TypeAAAA || hd.Rrtype == dns.TypeSRV {
				want = 120
			}
			b.check("D13", hd.Ttl == want || hd.Rrtype == dns.TypeNSEC, "%v", rr)
			b.check("D14", (hd.Class&flush != 0) == (hd.Rrtype != dns.TypePTR), "%v", rr)
		}
	}
	b.check("D17", len(at) >= 2 && at[len(at)-1].Sub(at[0]) > 900*time.Millisecond, "announced at %v", at)
	b.check("D13", len(at) > 0, "not announced")
	b.check("D15", len(at) > 0, "not announced")
}

// life is what is special about a box: its subtype, its state and its silence, on a
// machine where Avahi runs too.
func (b *bench) life(t *testing.T) {
	if *subject != "yunbox" {
		return
	}
	l := newLab(t)
	w := newWitness(l)
	l.machine("v")
	l.plug("v", 3)
	l.avahi("v", "viewer", "")
	l.machine("a")
	l.plug("a", 1)
	bus := l.bus
	l.avahi("a", "neighbour", "") // on the same machine: they share the port and leave each other alone
	l.bus = bus
	began := time.Now()
	_, states := b.run(l, "a", labID)
	if _, ok := w.await(began, patience, living("PTR "+labInstance())); !ok {
		t.Fatal("not announced")
	}
	out, err := l.in("v", "timeout", "60", "avahi-browse", "-rpt", SubtypeUnbound+"."+ServiceBox).Output()
	b.check("D24", err == nil && bytes.Contains(out, []byte(shown())) && bytes.Contains(out, []byte("=;")), "%v %s", err, out)
	for _, kind := range []string{ServiceHTTPS, ServiceWebDAV} {
		out, err := l.in("v", "timeout", "60", "avahi-browse", "-rpt", kind).Output()
		b.check("D24", err == nil && bytes.Contains(out, []byte("yunbox-7f3a.local;")) && bytes.Contains(out, []byte(";8443;")) && bytes.Contains(out, []byte(`"path=/`)), "%s: %v %s", kind, err, out)
	}
	if out, err := l.in("v", "avahi-resolve", "-4", "-n", "neighbour.local").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("192.0.2.1")) {
		t.Errorf("the Avahi beside the box: %v %s", err, out)
	}
	client := l.in("v", os.Args[0])
	client.Env = append(client.Env, roleEnv+"=client")
	out, err = client.Output()
	var found []Found
	if err != nil || json.Unmarshal(out, &found) != nil || len(found) != 1 ||
		found[0].Name != labBox().Name || found[0].Text["st"] != "u" || found[0].Host != "yunbox-7f3a.local" || found[0].Port != 8443 || len(found[0].Addrs) == 0 {
		t.Errorf("Browse: %v, %s", err, out)
	}
	l.seesItself("a")

	at := time.Now()
	if _, err := fmt.Fprintln(states, "b"); err != nil {
		t.Fatal(err)
	}
	said := func() (n int) {
		for _, h := range w.from(at, true) {
			if living(`"st=b"`)(h) {
				n++
			}
			b.check("D26", !holds(h.msg.Answer, `"sn4=`), "%v", h)
		}
		return n
	}
	for deadline := at.Add(patience); said() < 2 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	b.check("D26", said() == 2, "said %d times", said())
	out, err = l.in("v", "timeout", "60", "avahi-browse", "-rpt", ServiceBox).Output()
	b.check("D26", err == nil && bytes.Contains(out, []byte(`"st=b"`)) && !bytes.Contains(out, []byte("sn4")), "%v %s", err, out)
	out, err = l.in("v", "timeout", "60", "avahi-browse", "-rpt", SubtypeUnbound+"."+ServiceBox).Output()
	b.check("D26", err == nil && !bytes.Contains(out, []byte("=;")), "still unbound: %v %s", err, out)

	mac, err := exec.Command("ip", "netns", "exec", l.ns("a"), "cat", "/sys/class/net/lan0/address").Output()
	if err != nil {
		t.Fatal(err)
	}
	system, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	hardware, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(mac)), ":", ""))
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.seen {
		for _, secret := range [][]byte{bytes.TrimSpace(mac), hardware, []byte(hex.EncodeToString(hardware)), []byte(system), []byte("root"), []byte("go1.")} {
			if ofBox(h) {
				b.check("D25", !bytes.Contains(bytes.ToLower(h.raw), bytes.ToLower(secret)), "%q in %v", secret, h)
			}
		}
	}
}

func (b *bench) network(t *testing.T) {
	l := newLab(t)
	w := newWitness(l)
	l.machine("v")
	l.plug("v", 3)
	l.avahi("v", "viewer", "")
	view := l.browse("v", ServiceBox)
	l.machine("a")
	name := labInstance()
	box, _ := b.run(l, "a", labID)
	time.Sleep(300 * time.Millisecond)
	b.check("D35", box.running(), "it ended without a network")
	began := time.Now()
	l.plug("a", 1)
	d, ok := view.box(began, patience, 1, shown())
	b.check("D35", ok, "avahi-browse says\n%s", view)
	b.time("D35", d, 1300*time.Millisecond)
	if !ok { // the other checks are for a box that is seen
		box.stop(syscall.SIGTERM, patience)
		began = time.Now()
		box, _ = b.run(l, "a", labID)
		if _, ok := view.box(began, patience, 1, shown()); !ok {
			t.Log("not seen with a network either")
		}
	}
	time.Sleep(2300 * time.Millisecond)

	for _, c := range []struct{ id, family, old, address, record string }{
		{"D27", "-4", "192.0.2.1/24", "192.0.2.9/24", "A 192.0.2.9"},
		{"D28", "-6", "2001:db8::1/64", "2001:db8::9/64", "AAAA 2001:db8::9"},
	} {
		at := time.Now()
		l.ip("-n", l.ns("a"), "addr", "add", c.address, "dev", "lan0", "nodad")
		l.ip("-n", l.ns("a"), "addr", "del", c.old, "dev", "lan0")
		h, ok := w.await(at, patience, living(c.record))
		b.check(c.id, ok, "not announced")
		if ok {
			b.time(c.id, h.at.Sub(at), 500*time.Millisecond)
		}
		want, _, _ := strings.Cut(c.address, "/")
		var out []byte
		for {
			out, _ = l.in("v", "timeout", "3", "avahi-resolve", c.family, "-n", "yunbox-7f3a.local").CombinedOutput()
			if ok = bytes.Contains(out, []byte(want)); ok || time.Since(at) > patience {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		b.check(c.id, ok, "avahi-resolve says %s", out)
		spaced()
	}

	l.ip("-n", l.ns("sw"), "link", "set", "dev", "port-a", "down")
	time.Sleep(500 * time.Millisecond)
	at := time.Now()
	l.ip("-n", l.ns("sw"), "link", "set", "dev", "port-a", "up")
	h, ok := w.await(at, patience, func(h heard) bool { return living(name+" IN SRV")(h) || living(hostName+" IN ")(h) })
	b.check("D29", ok, "not announced")
	if ok {
		b.time("D29", h.at.Sub(at), 1300*time.Millisecond)
	}

	l.ip("-n", l.ns("a"), "link", "add", "lan1", "type", "veth", "peer", "name", "lan1", "netns", l.ns("w"))
	l.ip("-n", l.ns("w"), "addr", "add", "203.0.113.2/24", "dev", "lan1")
	l.ip("-n", l.ns("w"), "link", "set", "lan1", "up")
	if err := l.within("w", func() error { return w.join("lan1") }); err != nil { // and asks there from now on
		t.Fatal(err)
	}
	at = time.Now()
	l.ip("-n", l.ns("a"), "addr", "add", "203.0.113.1/24", "dev", "lan1")
	l.ip("-n", l.ns("a"), "link", "set", "lan1", "up")
	h, ok = w.await(at, patience, living("A 203.0.113.1"))
	b.check("D30", ok, "not announced on the new interface")
	if ok {
		b.time("D30", h.at.Sub(at), 1500*time.Millisecond)
		spaced()
	}
	asking, _ := w.ask(asked(hostName, dns.TypeA), 0)
	h, ok = w.await(asking, patience, func(h heard) bool {
		return living("A 203.0.113.1")(h) && h.from.Addr() == netip.MustParseAddr("203.0.113.1")
	})
	b.check("D30", !ok || !living("A 192.0.2.")(h), "addresses of another link: %v", h)
	b.check("D30", ok, "no answer on the new interface")
	l.ip("-n", l.ns("a"), "link", "del", "lan1")
	if err := l.within("w", func() error {
		ifi, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		return w.v4.SetMulticastInterface(ifi)
	}); err != nil {
		t.Fatal(err)
	}

	box.stop(syscall.SIGKILL, patience)
	at = time.Now()
	box, _ = b.run(l, "a", labID)
	h, ok = w.await(at, patience, living("PTR "+name))
	b.check("D34", ok, "not announced under its name")
	if ok {
		b.time("D34", h.at.Sub(at), 1300*time.Millisecond)
	}
	time.Sleep(1500 * time.Millisecond)

	at = time.Now()
	took := box.stop(syscall.SIGTERM, patience)
	b.check("D33", box.err == nil || *subject != "yunbox", "it ended with %v", box.err)
	b.time("D33", took, 300*time.Millisecond)
	d, ok = view.after(at, patience, "-;lan0;IPv4;", shown())
	b.check("D33", ok, "avahi-browse says\n%s", view)
	b.time("D33", d, 1100*time.Millisecond)
	goodbyes := 0
	for deadline := time.Now().Add(patience); goodbyes < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		goodbyes = 0
		for _, h := range w.from(at, true) {
			if slices.ContainsFunc(h.msg.Answer, func(rr dns.RR) bool { return rr.Header().Ttl == 0 && holds([]dns.RR{rr}, "PTR "+name) }) {
				goodbyes++
			}
		}
		if *subject != "yunbox" {
			break // it may say less
		}
	}
	b.check("D33", goodbyes > 0 && (goodbyes == 2 || *subject != "yunbox"), "%d goodbyes", goodbyes)

	for i := range 3 {
		box, _ = b.run(l, "a", labID)
		time.Sleep(time.Duration(50+250*i) * time.Millisecond)
		box.stop(syscall.SIGTERM, patience)
	}
	at = time.Now()
	time.Sleep(1200 * time.Millisecond)
	got := w.from(at, true)
	b.check("D37", len(got) == 0, "said after its end: %v", got)
}
