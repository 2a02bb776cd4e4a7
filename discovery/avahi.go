package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names on the system bus. What Avahi offers there is described by the files
// org.freedesktop.Avahi.*.xml that come with it.
const (
	busName   = "org.freedesktop.DBus"
	busPath   = dbus.ObjectPath("/org/freedesktop/DBus")
	avahiName = "org.freedesktop.Avahi"
	serverOf  = avahiName + ".Server"
	groupOf   = avahiName + ".EntryGroup"

	collisionError = avahiName + ".CollisionError"

	noProbe     = uint32(2)  // AVAHI_PUBLISH_NO_PROBE: the name is ours
	noReverse   = uint32(16) // AVAHI_PUBLISH_NO_REVERSE: the addresses have names already
	noCookie    = uint32(32) // AVAHI_PUBLISH_NO_COOKIE: nothing is added to the TXT record
	anyProtocol = int32(-1)  // AVAHI_PROTO_UNSPEC

	callTime      = 5 * time.Second  // for an answer of the bus
	avahiPatience = 30 * time.Second // for an Avahi that went
)

// groupState is how Avahi does with a group of records.
type groupState int32

const (
	groupEstablished groupState = 2
	groupCollision   groupState = 3
	groupFailure     groupState = 4

	serverFailure = int32(4) // AVAHI_SERVER_FAILURE
)

var errNoAvahi = errors.New("discovery: avahi-daemon does not run")

// avahi has avahi-daemon announce the box. One goroutine drives it: publish makes it so,
// signal takes in what Avahi says about it.
type avahi struct {
	log     *slog.Logger
	bus     *dbus.Conn
	signals chan *dbus.Signal
	owner   string // Avahi's own name on the bus: who else speaks is not believed; "": it does not run
	here    []link // where to announce

	mu sync.Mutex
	naming
	after time.Time // a storm of conflicts: nothing is announced before
	on    map[int]*published
	ill   string // why Avahi as a whole cannot work, as it said
}

// published is what Avahi was given for one link. The subtype is a group of its own, so
// that it can end without the rest.
type published struct {
	link
	host, instance, subtype group
	text                    map[string]string // of the instance, by kind of service
}

func (p *published) groups() [3]*group { return [3]*group{&p.host, &p.instance, &p.subtype} }

// group is an EntryGroup: records that win or lose together.
type group struct {
	path  dbus.ObjectPath // "": there is none
	says  string          // what is in it
	state groupState
	fails string // why Avahi did not announce it, until it does
}

// demand is one call that fills a group.
type demand struct {
	method string
	args   []any
}

// busOf connects with the system bus. Nothing of what is done on it starts a service.
func busOf(ctx context.Context) (*dbus.Conn, error) {
	// Goodbyes are for after the end of ctx.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	late := time.AfterFunc(callTime, cancel)
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(life), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err == nil && (!stop() || !late.Stop()) {
		bus.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("system bus: %w", err)
	}
	return bus, nil
}

func call(ctx context.Context, bus *dbus.Conn, to string, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return bus.Object(to, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// ownerOf is the unique name of who has Avahi's, "" if nobody.
func ownerOf(ctx context.Context, bus *dbus.Conn) (owner string, err error) {
	err = call(ctx, bus, busName, busPath, busName+".GetNameOwner", avahiName).Store(&owner)
	var e dbus.Error
	if errors.As(err, &e) && e.Name == busName+".Error.NameHasNoOwner" {
		return "", nil
	}
	return owner, err
}

// avahiRuns reports whether Avahi can be asked.
func avahiRuns(ctx context.Context) bool {
	bus, err := busOf(ctx)
	if err != nil {
		return false
	}
	defer bus.Close()
	owner, err := ownerOf(ctx, bus)
	return err == nil && owner != ""
}

// byAvahi has Avahi announce the box until ctx ends, or the bus is lost, or, if our own
// responder may take over, Avahi stays away. It returns when Avahi was there last, zero:
// not at all.
func (a *Announcer) byAvahi(ctx context.Context, over <-chan struct{}) (there time.Time, err error) {
	bus, err := busOf(ctx)
	if err != nil {
		return there, err
	}
	defer bus.Close() // frees all that is left
	v := &avahi{log: a.log, bus: bus, signals: make(chan *dbus.Signal, 16), on: make(map[int]*published)}
	bus.Signal(v.signals)
	if err := errors.Join(
		bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, avahiName)),
		bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(avahiName), dbus.WithMatchInterface(serverOf)),
		bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(avahiName), dbus.WithMatchInterface(groupOf)),
	); err != nil {
		return there, fmt.Errorf("system bus: %w", err)
	}
	if v.owner, err = ownerOf(ctx, bus); err != nil {
		return there, fmt.Errorf("system bus: %w", err)
	}
	a.speak(Avahi, func(s Service, kept Names) speaker {
		v.naming = newNaming(s, kept)
		return v
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	look, work := time.Now(), false
	gone := time.Now() // since when Avahi does not run
	var refused error  // what the last call said
	for {
		if now := time.Now(); !now.Before(look) {
			if links, err := currentLinks(); err != nil {
				a.log.Warn("the network cannot be looked at", "err", err)
			} else {
				v.here = links
			}
			look, work = now.Add(slowLook), true
		}
		next := look
		switch {
		case v.owner == "":
			a.fail(errNoAvahi)
			if a.want == Auto {
				if next = earlier(next, gone.Add(a.wait)); !time.Now().Before(gone.Add(a.wait)) {
					return there, errNoAvahi
				}
			}
		case work:
			var wait time.Time
			wait, refused = v.publish(ctx)
			work = false
			next = earlier(next, wait)
			if !wait.IsZero() {
				look = earlier(look, wait)
			}
		}
		a.report(v)
		if v.owner != "" {
			there, gone = time.Now(), time.Now()
			if ctx.Err() == nil {
				a.fail(cmp.Or(refused, v.failing()))
			}
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			v.leave()
			return there, nil
		case s, ok := <-v.signals:
			if !ok {
				return there, errors.New("system bus: the connection is lost")
			}
			work = v.signal(s) || work
		case <-timer.C:
		case <-a.wake:
			work = true
		case <-a.change: // let the burst end
			look = earlier(look, time.Now().Add(settle))
		case <-over:
			over = nil
			a.log.Info("discovery looks at the network once a minute, as the system stopped to notify")
		}
	}
}

// signal takes in what was said on the bus, and reports whether that makes work.
// Anybody on this machine can send a signal, so the sender counts.
func (v *avahi) signal(s *dbus.Signal) (work bool) {
	switch {
	case s.Sender == busName && s.Name == busName+".NameOwnerChanged" && len(s.Body) == 3 && s.Body[0] == any(avahiName):
		owner, _ := s.Body[2].(string)
		v.mu.Lock()
		v.owner, v.on, v.ill = owner, make(map[int]*published), "" // they went with the one before
		v.mu.Unlock()
		return true
	case s.Sender != v.owner || len(s.Body) == 0:
		return false
	case s.Name == serverOf+".StateChanged":
		v.mu.Lock()
		v.ill = why(s.Body[1:])
		v.mu.Unlock()
		return true // it may be able to do now what it was not
	case s.Name != groupOf+".StateChanged":
		return false
	}
	state, _ := s.Body[0].(int32)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.on {
		for _, g := range p.groups() {
			if g.path != s.Path {
				continue
			}
			g.state = groupState(state)
			switch g.state {
			case groupEstablished:
				g.fails = ""
			case groupCollision:
				v.lost(p, g)
				return true
			case groupFailure: // tried again with the next look
				g.fails = why(s.Body[1:])
			}
		}
	}
	return false
}

// why is what Avahi says of a failure, in the rest of its signal. It is shown to people, on one line.
func why(rest []any) string {
	text := "it does not say why"
	if len(rest) > 0 {
		if s, ok := rest[0].(string); ok && s != "" {
			text = strings.Join(strings.Fields(s), " ")
		}
	}
	return text
}

// failing is what Avahi told of the box's records that it could not announce, nil if
// nothing.
func (v *avahi) failing() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var where []string
	text := ""
	for _, p := range v.on {
		for _, g := range p.groups() {
			if g.fails != "" && !slices.Contains(where, p.iface.Name) {
				where = append(where, p.iface.Name)
				text = max(text, g.fails) // of several, always the same one
			}
		}
	}
	if len(where) == 0 {
		return nil
	}
	slices.Sort(where)
	return fmt.Errorf("avahi-daemon failed to announce the box on %s: %s", strings.Join(where, ", "), text)
}

// lost takes the next name in place of that of a group of p, which somebody else has.
func (v *avahi) lost(p *published, g *group) {
	var which [2]bool
	which[ofHost], which[ofInstance] = g == &p.host, g == &p.instance
	if which == [2]bool{} {
		return
	}
	before, now := v.names(), time.Now()
	if v.conflict(now) {
		v.after = now.Add(stormWait)
	}
	v.lose(which)
	v.log.Warn("another device on the network has the box's name", "had", before, "takes", v.names())
}

// publish makes Avahi announce what is to be announced now, no more and no less. wait is
// when it must be called again, zero if only a change makes new work.
func (v *avahi) publish(ctx context.Context) (wait time.Time, err error) {
	for range stormSize { // names of others on this machine are told at once
		v.mu.Lock()
		service, names, after := v.service, v.names(), v.after
		v.mu.Unlock()
		if time.Now().Before(after) {
			return after, nil
		}
		again, err := v.put(ctx, service, names)
		if err != nil || !again {
			return time.Time{}, err
		}
	}
	return time.Now().Add(stormWait), nil
}

// put does that for one pair of names, and reports whether these turned out to be
// somebody else's.
func (v *avahi) put(ctx context.Context, s Service, names Names) (again bool, err error) {
	kinds, err := s.kinds()
	if err != nil {
		return false, err
	}
	if err := v.sound(ctx); err != nil {
		return false, err
	}
	for index := range v.on {
		if !slices.ContainsFunc(v.here, func(l link) bool { return l.iface.Index == index && l.iface.Name == v.on[index].iface.Name }) {
			p := v.on[index]
			for _, g := range p.groups() {
				v.free(ctx, g)
			}
			v.mu.Lock()
			delete(v.on, index)
			v.mu.Unlock()
		}
	}
	var failed error
	for _, l := range v.here {
		p := v.on[l.iface.Index]
		if p == nil {
			p = &published{link: l, text: make(map[string]string)}
			v.mu.Lock()
			v.on[l.iface.Index] = p
			v.mu.Unlock()
		}
		p.link = l
		lost, err := v.putOn(ctx, p, s, kinds, names)
		if lost != nil {
			v.mu.Lock()
			v.lost(p, lost)
			v.mu.Unlock()
			return true, nil
		}
		failed = cmp.Or(failed, err)
	}
	return false, failed
}

// sound asks whether Avahi as a whole can work.
func (v *avahi) sound(ctx context.Context) error {
	var state int32
	if err := call(ctx, v.bus, v.owner, "/", serverOf+".GetState").Store(&state); err != nil {
		return avahiError(err)
	}
	if state != serverFailure {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Errorf("avahi-daemon failed: %s", cmp.Or(v.ill, why(nil)))
}

// putOn does that on one link.
func (v *avahi) putOn(ctx context.Context, p *published, s Service, kinds []kind, names Names) (lost *group, err error) {
	index, host := int32(p.iface.Index), names.Host+"."+trimFinalDot(domain)
	var hosts, services, subtypes []demand
	flags := noReverse
	if p.host.state == groupEstablished && strings.HasPrefix(p.host.says, host+" ") {
		flags |= noProbe // other addresses only (RFC 6762 § 8.4)
	}
	for i, a := range p.addrs {
		if i < maxAddrs {
			hosts = append(hosts, demand{"AddAddress", []any{index, anyProtocol, flags, host, a.Addr().String()}})
		}
	}
	says := names.Instance
	for _, k := range kinds {
		says += fmt.Sprint(" ", k.name, " ", k.port)
		services = append(services, demand{"AddService", []any{index, anyProtocol, noCookie, names.Instance, k.name, trimFinalDot(domain), host, uint16(k.port), bytesOf(k.text)}})
	}
	if s.State == Unbound {
		subtypes = append(subtypes, demand{"AddServiceSubtype", []any{index, anyProtocol, uint32(0), names.Instance, ServiceBox, trimFinalDot(domain), SubtypeUnbound + "." + ServiceBox}})
	}
	if lost, err := v.fill(ctx, &p.host, fmt.Sprint(host, " ", p.addrs), hosts); lost || err != nil {
		return orNil(lost, &p.host), err
	}
	before := p.instance.path
	if lost, err := v.fill(ctx, &p.instance, says+" "+host, services); lost || err != nil {
		return orNil(lost, &p.instance), err
	}
	for _, k := range kinds {
		text := strings.Join(k.text, "\n")
		if before == p.instance.path && p.text[k.name] != text {
			if err := v.ask(ctx, p.instance.path, "UpdateServiceTxt", index, anyProtocol, noCookie, names.Instance, k.name, trimFinalDot(domain), bytesOf(k.text)); err != nil {
				v.free(ctx, &p.instance) // it is made anew the next time
				return nil, err
			}
		}
		p.text[k.name] = text
	}
	_, err = v.fill(ctx, &p.subtype, fmt.Sprint(says, subtypes), subtypes)
	return nil, err
}

func orNil(is bool, g *group) *group {
	if is {
		return g
	}
	return nil
}

func bytesOf(text []string) [][]byte {
	list := make([][]byte, len(text))
	for i, s := range text {
		list[i] = []byte(s)
	}
	return list
}

// fill makes a group that says what it shall, unless it does. lost: somebody on this
// machine has the name.
func (v *avahi) fill(ctx context.Context, g *group, says string, demands []demand) (lost bool, err error) {
	if g.path != "" && g.says == says && g.state != groupCollision && g.state != groupFailure {
		return false, nil
	}
	fails := g.fails
	v.free(ctx, g)
	if len(demands) == 0 {
		return false, nil
	}
	var path dbus.ObjectPath
	if err := call(ctx, v.bus, v.owner, "/", serverOf+".EntryGroupNew").Store(&path); err != nil {
		return false, avahiError(err)
	}
	v.mu.Lock()
	*g = group{path: path, says: says, fails: fails}
	v.mu.Unlock()
	for _, d := range append(demands, demand{method: "Commit"}) {
		if err := v.ask(ctx, path, d.method, d.args...); err != nil {
			v.free(ctx, g)
			var e dbus.Error
			if errors.As(err, &e) && e.Name == collisionError {
				return true, nil
			}
			return false, err
		}
	}
	return false, nil
}

func (v *avahi) ask(ctx context.Context, path dbus.ObjectPath, method string, args ...any) error {
	return avahiError(call(ctx, v.bus, v.owner, path, groupOf+"."+method, args...).Err)
}

func avahiError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("avahi-daemon does not announce the box: %w", err)
}

// free ends a group; Avahi says goodbye for what was in it.
func (v *avahi) free(ctx context.Context, g *group) {
	v.mu.Lock()
	path := g.path
	*g = group{}
	v.mu.Unlock()
	if path == "" {
		return
	}
	if err := v.ask(ctx, path, "Free"); err != nil { // then it is gone already, or goes with the connection
		v.log.Debug("Avahi does not end an announcement", "err", err)
	}
}

// leave says goodbye on all links.
func (v *avahi) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait/2)
	defer cancel()
	for _, p := range v.on {
		for _, g := range []*group{&p.subtype, &p.instance, &p.host} {
			v.free(ctx, g)
		}
	}
}

// update implements speaker; publish does it.
func (v *avahi) update(s Service) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.describe(s)
	return nil
}

// status implements speaker.
func (v *avahi) status() (n Names, all bool, where []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	all = len(v.on) > 0
	for _, p := range v.on {
		if p.host.state == groupEstablished && p.instance.state == groupEstablished {
			where = append(where, p.iface.Name)
		} else {
			all = false
		}
	}
	slices.Sort(where)
	return v.names(), all, where
}

// disturbed implements speaker. Of a flood only Avahi knows.
func (v *avahi) disturbed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.naming.disturbed(time.Now())
}
