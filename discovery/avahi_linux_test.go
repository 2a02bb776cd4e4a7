package discovery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// exclusive is what makes Avahi keep the port of mDNS for itself.
const exclusive = "disallow-other-stacks=yes"

// doing is how a box says it is.
type doing struct {
	Status
	says string // its error
}

// boxOn starts a box that speaks with the bus that there is now. ask says how it is doing.
func (l *lab) boxOn(machine, id string, env ...string) (p *process, states io.Writer, ask func() doing) {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	c := l.in(machine, self)
	c.Env = append(append(c.Env, roleEnv+"=yunbox", idEnv+"="+id), env...)
	if testing.Verbose() {
		c.Stderr = os.Stderr
	}
	in, err := c.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	p = l.start(c)
	lines := bufio.NewReader(out)
	return p, in, func() doing {
		l.t.Helper()
		if _, err := fmt.Fprintln(in, "?"); err != nil {
			l.t.Fatal(err)
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			l.t.Fatal(err)
		}
		var d struct {
			Status
			Err string
		}
		if err := json.Unmarshal(line, &d); err != nil {
			l.t.Fatalf("%v: %s", err, line)
		}
		return doing{d.Status, d.Err}
	}
}

// byAvahi is a box on a computer where Avahi has the port for itself: it is announced by
// that, under its own host name, and follows what happens. R02
func (b *bench) byAvahi(t *testing.T) {
	if *subject != "yunbox" {
		return
	}
	l := newLab(t)
	w := newWitness(l)
	l.machine("v")
	l.plug("v", 3)
	l.avahi("v", "viewer", "")
	view, viewers := l.browse("v", ServiceBox), l.bus
	l.machine("a")
	l.plug("a", 1)
	neighbour := l.avahi("a", "neighbour", "", exclusive)
	seenFrom := func(args ...string) string { // by who asks now
		t.Helper()
		c := l.in("v", append([]string{"timeout", "60"}, args...)...)
		c.Env = append(c.Env, "DBUS_SYSTEM_BUS_ADDRESS="+viewers)
		out, _ := c.CombinedOutput()
		return string(out)
	}
	began := time.Now()
	_, states, how := l.boxOn("a", labID)
	d, ok := view.box(began, patience, 1, shown(), "yunbox-7f3a.local", `"txtvers=1"`, `"id=`+labID+`"`, `"st=u"`)
	if !ok {
		t.Fatalf("not seen:\n%s", view)
	}
	t.Logf("seen after %v", d)
	if _, ok = view.after(began, patience, "=;lan0;IPv6;", shown(), ";8443;"); !ok {
		t.Errorf("not seen over IPv6:\n%s", view)
	}
	text, err := labBox().Text()
	if err != nil {
		t.Fatal(err)
	}
	// In this order, and nothing more (RFC 6763 § 6.7).
	if h, ok := w.await(began, patience, living(` IN TXT "`+strings.Join(text, `" "`)+`"`)); !ok {
		t.Errorf("the TXT record is another one: %v", h)
	}
	for kind, want := range map[string]string{SubtypeUnbound + "." + ServiceBox: ";8443;", ServiceWebDAV: `"path=/`} {
		if out := seenFrom("avahi-browse", "-rpt", kind); !strings.Contains(out, "=;") || !strings.Contains(out, shown()) || !strings.Contains(out, want) {
			t.Errorf("%s: %s", kind, out)
		}
	}
	if out := seenFrom("avahi-resolve", "-6", "-n", "yunbox-7f3a.local"); !strings.Contains(out, "2001:db8::1") {
		t.Errorf("avahi-resolve: %s", out)
	}
	var s doing
	l.until("the box to have looked for itself", func() string {
		if s = how(); s.Looked.IsZero() {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	if s.Backend != Avahi || !s.Held || !slices.Equal(s.Links, []string{"lan0"}) || !slices.Equal(s.Answered, []string{"lan0"}) || s.Disturbed || s.Names != labBox().Names() {
		t.Errorf("%+v", s)
	}
	// Other programs on this computer find boxes, too, without the port.
	l.seesItself("a")

	// Another state: the TXT record changes, the subtype ends, and nothing vanishes.
	at := time.Now()
	if _, err := fmt.Fprintln(states, "b"); err != nil {
		t.Fatal(err)
	}
	l.until("the new state", func() string {
		if out := seenFrom("avahi-browse", "-rpt", ServiceBox); !strings.Contains(out, `"st=b"`) || strings.Contains(out, "sn4") {
			return out
		}
		return ""
	})
	l.until("the end of the subtype", func() string {
		if out := seenFrom("avahi-browse", "-rpt", SubtypeUnbound+"."+ServiceBox); strings.Contains(out, "=;") {
			return out
		}
		return ""
	})
	if _, ok := view.after(at, 0, "-;lan0;"); ok {
		t.Errorf("it vanished for a moment:\n%s", view)
	}

	// Another address.
	at = time.Now()
	l.ip("-n", l.ns("a"), "addr", "add", "192.0.2.9/24", "dev", "lan0")
	l.ip("-n", l.ns("a"), "addr", "del", "192.0.2.1/24", "dev", "lan0")
	l.until("the new address", func() string {
		if out := seenFrom("avahi-resolve", "-4", "-n", "yunbox-7f3a.local"); !strings.Contains(out, "192.0.2.9") {
			return out
		}
		return ""
	})
	t.Logf("new address after %v", time.Since(at))

	// Avahi is started anew: it gets the port again, and the box is back.
	at = time.Now()
	neighbour.stop(syscall.SIGTERM, patience)
	if _, ok := view.after(at, patience, "-;lan0;IPv4;", shown()); !ok {
		t.Errorf("Avahi ended and nothing vanished:\n%s", view)
	}
	at = time.Now()
	neighbour = l.avahiOn("a", "neighbour", "", exclusive)
	if d, ok = view.after(at, patience, "=;lan0;IPv4;", shown(), ";8443;", `"st=b"`); !ok || !neighbour.running() {
		t.Errorf("not back:\n%s", view)
	}
	t.Logf("back after %v", d)

	// Avahi goes for good: the box speaks for itself.
	at = time.Now()
	neighbour.stop(syscall.SIGTERM, patience)
	if d, ok = view.after(at, patience, "-;lan0;IPv4;", shown()); !ok {
		t.Errorf("Avahi went and nothing vanished:\n%s", view)
	}
	if d, ok = view.after(at.Add(d), 2*patience, "=;lan0;IPv4;", shown(), ";8443;", `"st=b"`); !ok {
		t.Errorf("not back without Avahi:\n%s", view)
	}
	t.Logf("by itself after %v", d)
	if s := how(); s.Backend != Own {
		t.Errorf("%+v", s)
	}
}

// rivals is a box in a house where its names are somebody else's already, on a computer
// where Avahi has only the IPv4 half of the port for itself: it takes the next names, and
// says goodbye. Then it is told to leave it all to Avahi, and waits for that. R02
func (b *bench) rivals(t *testing.T) {
	if *subject != "yunbox" {
		return
	}
	l := newLab(t)
	l.machine("v")
	l.plug("v", 3)
	l.avahi("v", "viewer", "")
	view := l.browse("v", ServiceBox)
	l.machine("b")
	l.plug("b", 2)
	began := time.Now()
	b.run(l, "b", "B"+labID[1:])
	if _, ok := view.box(began, patience, 2); !ok {
		t.Fatalf("the rival is not seen:\n%s", view)
	}
	l.machine("a")
	l.plug("a", 1)
	neighbour := l.avahi("a", "neighbour", "", exclusive, "use-ipv6=no")
	at := time.Now()
	box, _, how := l.boxOn("a", labID)
	numbered := shown() + `\032\0402\041;`
	d, ok := view.box(at, patience, 1, numbered, "yunbox-7f3a-2.local;", "id="+labID)
	if !ok {
		t.Fatalf("the box did not take other names:\n%s", view)
	}
	t.Logf("both seen after %v", d)
	l.until("the box to hear from Avahi", func() string {
		if s := how(); s.Names != (Names{Instance: labBox().Name + " (2)", Host: "yunbox-7f3a-2"}) || s.Backend != Avahi || !s.Disturbed || !s.Held {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	at = time.Now()
	took := box.stop(syscall.SIGTERM, patience)
	if box.err != nil {
		t.Errorf("it ended with %v", box.err)
	}
	if d, ok = view.after(at, patience, "-;lan0;IPv4;", numbered); !ok {
		t.Errorf("SIGTERM and nothing vanished:\n%s", view)
	}
	t.Logf("ended after %v, gone after %v", took, d)
	if _, ok := view.after(at, 0, "-;lan0;IPv4;", shown()+";"); ok {
		t.Errorf("the rival vanished:\n%s", view)
	}

	neighbour.stop(syscall.SIGTERM, patience)
	_, _, how = l.boxOn("a", labID, backendEnv+"=avahi")
	l.until("the box to miss Avahi", func() string {
		if s := how(); s.says == "" || s.Backend != Avahi || s.Held || len(s.Links) > 0 {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	at = time.Now()
	l.avahiOn("a", "neighbour", "")
	if _, ok = view.box(at, patience, 1, numbered, "yunbox-7f3a-2.local;", "id="+labID); !ok {
		t.Errorf("Avahi came and the box is not seen:\n%s", view)
	}
	l.until("the box to hear from Avahi", func() string {
		if s := how(); s.says != "" || s.Backend != Avahi || !s.Held {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
}

// sickAvahi plays Avahi on a bus, one that can fail. What it is given to announce is for other tests.
type sickAvahi struct {
	bus *dbus.Conn

	mu     sync.Mutex
	groups int
	server int32  // its state
	fails  string // why it announces no services; "": it does
}

// GetState and EntryGroupNew are those of org.freedesktop.Avahi.Server.
func (a *sickAvahi) GetState() (int32, *dbus.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.server, nil
}

func (a *sickAvahi) EntryGroupNew() (dbus.ObjectPath, *dbus.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.groups++
	g := &sickGroup{avahi: a, path: dbus.ObjectPath(fmt.Sprint("/group/", a.groups))}
	if err := a.bus.Export(g, g.path, groupOf); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	return g.path, nil
}

// turn makes it be in another state.
func (a *sickAvahi) turn(state int32, why, fails string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server, a.fails = state, fails
	return a.bus.Emit("/", serverOf+".StateChanged", state, why)
}

type sickGroup struct {
	avahi    *sickAvahi
	path     dbus.ObjectPath
	services bool
}

func (g *sickGroup) AddAddress(int32, int32, uint32, string, string) *dbus.Error { return nil }

func (g *sickGroup) AddService(int32, int32, uint32, string, string, string, string, uint16, [][]byte) *dbus.Error {
	g.services = true
	return nil
}

func (g *sickGroup) AddServiceSubtype(int32, int32, uint32, string, string, string, string) *dbus.Error {
	return nil
}

func (g *sickGroup) Free() *dbus.Error { return nil }

func (g *sickGroup) Commit() *dbus.Error {
	g.avahi.mu.Lock()
	defer g.avahi.mu.Unlock()
	state, why := groupEstablished, "Success"
	if g.services && g.avahi.fails != "" {
		state, why = groupFailure, g.avahi.fails
	}
	if err := g.avahi.bus.Emit(g.path, groupOf+".StateChanged", int32(state), why); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// What Avahi cannot announce, and that it cannot work at all, is said, with its reason,
// until it can. R02
func TestWhatAvahiCannotDoIsSaid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.machine("a")
	l.plug("a", 1)
	l.busFor("a")
	bus, err := dbus.Connect(l.bus)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	sick := &sickAvahi{bus: bus, server: 2, fails: "Timeout\nreached"}
	if err := bus.Export(sick, "/", serverOf); err != nil {
		t.Fatal(err)
	}
	if got, err := bus.RequestName(avahiName, dbus.NameFlagDoNotQueue); err != nil || got != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(got, err)
	}
	_, _, how := l.boxOn("a", labID, backendEnv+"=avahi")
	until := func(what, says string, held bool) {
		t.Helper()
		l.until(what, func() string {
			if s := how(); s.says != says || s.Held != held || s.Backend != Avahi {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		})
	}
	until("the failure of a group", "avahi-daemon failed to announce the box on lan0: Timeout reached", false)
	for _, c := range []struct {
		state       int32
		why, fails  string
		says        string
		announced   bool
		description string
	}{
		{2, "Success", "", "", true, "the end of the failure"},
		{serverFailure, "Too many\nobjects", "", "avahi-daemon failed: Too many objects", true, "the failure of all"},
		{serverFailure, "", "", "avahi-daemon failed: it does not say why", true, "the failure without a reason"},
		{2, "Success", "", "", true, "the end of that"},
	} {
		if err := sick.turn(c.state, c.why, c.fails); err != nil {
			t.Fatal(err)
		}
		until(c.description, c.says, c.announced)
	}
}

// Whoever is on this machine can send signals to anybody on the bus.
func TestOnlyAvahiIsBelieved(t *testing.T) {
	v := &avahi{log: slog.New(slog.DiscardHandler), owner: ":1.7", naming: newNaming(box(), Names{}), on: map[int]*published{
		2: {host: group{path: "/h", state: groupEstablished}, instance: group{path: "/i", state: groupEstablished}},
	}}
	state := func(sender string, path dbus.ObjectPath, state groupState) *dbus.Signal {
		return &dbus.Signal{Sender: sender, Path: path, Name: groupOf + ".StateChanged", Body: []any{int32(state), "x"}}
	}
	for _, s := range []*dbus.Signal{
		state(":1.8", "/i", groupCollision), state(busName, "/i", groupCollision), state(":1.7", "/other", groupCollision),
		{Sender: ":1.8", Path: busPath, Name: busName + ".NameOwnerChanged", Body: []any{avahiName, ":1.7", ":1.8"}},
		{Sender: busName, Path: busPath, Name: busName + ".NameOwnerChanged", Body: []any{"org.example", ":1.7", ":1.8"}},
		{Sender: ":1.7", Path: "/i", Name: groupOf + ".StateChanged"}, {Sender: ":1.7", Path: "/i", Name: groupOf + ".StateChanged", Body: []any{"three", 4}},
	} {
		if v.signal(s) {
			t.Errorf("%+v is believed", s)
		}
	}
	want := box().Names()
	if n, all, _ := v.status(); n != want || v.owner != ":1.7" || all == (v.on[2].instance.state != groupEstablished) {
		t.Errorf("%v of %s", n, v.owner)
	}
	if !v.signal(state(":1.7", "/i", groupCollision)) {
		t.Error("a collision makes no work")
	}
	if n, _, _ := v.status(); n.Instance != want.Instance+" (2)" || n.Host != want.Host || !v.disturbed() {
		t.Errorf("after a collision: %v", n)
	}
	if !v.signal(&dbus.Signal{Sender: busName, Path: busPath, Name: busName + ".NameOwnerChanged", Body: []any{avahiName, ":1.7", ":1.9"}}) || v.owner != ":1.9" || len(v.on) != 0 {
		t.Errorf("another Avahi: %+v", v)
	}
	for range 2 * stormSize { // a storm of conflicts makes it slow
		v.on[2] = &published{instance: group{path: "/i"}}
		v.signal(state(":1.9", "/i", groupCollision))
	}
	if wait, err := v.publish(t.Context()); err != nil || time.Until(wait) < time.Second {
		t.Errorf("after a storm: %v, %v", wait, err)
	}
}
