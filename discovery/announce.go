package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	settle    = 100 * time.Millisecond // a change of the network comes as a burst of messages
	slowLook  = time.Minute            // between looks at the network: what the kernel tells may get lost
	farewell  = 50 * time.Millisecond  // from the first goodbye to the second
	closeWait = time.Second            // for all of Close

	lookAfter = 2500 * time.Millisecond // after the box was announced it asks for itself
	lookTime  = 2 * time.Second         // for the answers
)

// Backend is who speaks for the box on the network.
type Backend string

// The backends.
const (
	// Auto is our own responder, and Avahi where another program has the port of mDNS
	// for itself.
	Auto Backend = ""
	// Own is our own responder (RFC 6762).
	Own Backend = "own"
	// Avahi is avahi-daemon on this machine, asked over D-Bus.
	Avahi Backend = "avahi"
)

// Names are what the box is called on the network.
type Names struct {
	Instance string // as people see it, "Yunbox 7F3A", or "Yunbox 7F3A (2)" after a conflict
	Host     string // label of the host name, "yunbox-7f3a", or "yunbox-7f3a-2"
}

// Options of an Announcer.
type Options struct {
	// Log gets what happens to the announcement; nothing is logged if it is nil.
	Log *slog.Logger
	// Backend is who shall speak for the box.
	Backend Backend
	// Kept are the names that Keep was given last. They are what the box takes if
	// the wanted names turn out to be somebody else's again.
	Kept Names
	// Keep is told the names that the box holds, when they are held for the first
	// time and whenever they changed. It is called from one goroutine at a time and
	// may take long.
	Keep func(Names)

	patience time.Duration // with an Avahi that went; 0: avahiPatience
}

// Status is how an announcement is doing.
type Status struct {
	Names   Names
	Backend Backend  // who speaks for the box: Own or Avahi
	Held    bool     // nobody else on any link has the names
	Links   []string // where the box is announced, by the names of the interfaces
	// Disturbed: within the last minute others laid claim to the names, or sent so much that
	// some of it got no answer. It may be why the box is not found.
	Disturbed bool
	// Answered are those links on which the box was answered when it asked for itself,
	// a moment after what is announced changed last; Looked is when, zero: not yet.
	Answered []string
	Looked   time.Time
	// Err is what keeps the box from being announced, or from being announced over both
	// IPv4 and IPv6. It is syscall.EADDRINUSE where another program has the port of mDNS,
	// ErrOwnPort where none has.
	Err error
}

// speaker says the box's names on the network: the responder, or what asks Avahi to.
type speaker interface {
	update(Service) error
	// status of the names: what they are, whether they are held on all links, and where
	// they are held.
	status() (n Names, all bool, where []string)
	disturbed() bool
}

// Announcer keeps a box announced until it is closed. Its methods may be called from
// any goroutine.
type Announcer struct {
	log    *slog.Logger
	net    network
	want   Backend
	look   func(ctx context.Context, id string, d time.Duration) (map[string]bool, error)
	wait   time.Duration // for an Avahi that went
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // holds one token: the speaker has work
	change chan struct{} // holds one token: the network changed
	keep   chan Names    // holds the latest
	glance chan struct{} // holds one token: what is announced changed
	keeper sync.WaitGroup

	told  Names  // by run's goroutine only, as is where
	where string // the box was announced

	mu      sync.Mutex
	service Service
	kept    Names
	by      Backend
	voice   speaker // nil: nobody yet
	failed  error
	heard   []string
	looked  time.Time
}

// Announce starts to announce s and returns at once. It fails only if s cannot be
// announced at all. Without a network it waits for one, for as long as it takes;
// when links or addresses change, the announcement follows. It ends with a goodbye
// when ctx ends or Close is called.
func Announce(ctx context.Context, s Service, o Options) (*Announcer, error) {
	return announce(ctx, s, o, newSockets(), Answered)
}

// announce looks for itself with look, not at all if that is nil.
func announce(ctx context.Context, s Service, o Options, n network, look func(context.Context, string, time.Duration) (map[string]bool, error)) (*Announcer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	switch o.Backend {
	case Auto, Own, Avahi:
	default:
		return nil, fmt.Errorf("discovery: nobody is called %q", o.Backend)
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &Announcer{
		log: log, net: n, want: o.Backend, look: look, wait: cmp.Or(o.patience, avahiPatience), cancel: cancel, service: s, kept: o.Kept, by: Own,
		done: make(chan struct{}), wake: make(chan struct{}, 1), change: make(chan struct{}, 1), keep: make(chan Names, 1), glance: make(chan struct{}, 1),
	}
	if o.Backend == Avahi {
		a.by = Avahi
	}
	a.keeper.Go(func() {
		for names := range a.keep {
			if o.Keep != nil {
				o.Keep(names)
			}
		}
	})
	if look != nil {
		a.keeper.Go(func() { a.lookForItself(ctx) })
	}
	go a.run(ctx)
	return a, nil
}

// Update announces s from now on in place of what was announced before. A new name
// is asked for first, as at the start.
func (a *Announcer) Update(s Service) error {
	if err := s.check(); err != nil {
		return err
	}
	a.mu.Lock()
	a.service = s
	voice := a.voice
	a.mu.Unlock()
	if voice != nil {
		if err := voice.update(s); err != nil {
			return err
		}
	}
	poke(a.wake)
	return nil
}

// Status is how the announcement is doing now.
func (a *Announcer) Status() Status {
	a.mu.Lock()
	s := Status{Names: a.service.Names(), Backend: a.by, Err: a.failed, Answered: slices.Clone(a.heard), Looked: a.looked}
	voice := a.voice
	a.mu.Unlock()
	if voice != nil {
		s.Names, s.Held, s.Links = voice.status()
		s.Disturbed = voice.disturbed()
	}
	return s
}

// Close says goodbye to the network and returns when that is done, within about
// one second. A second call does nothing.
func (a *Announcer) Close() error {
	a.cancel()
	select {
	case <-a.done:
		return nil
	case <-time.After(closeWait):
		return errors.New("discovery: the goodbye took too long; the box vanishes from lists when its records expire")
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run follows the network until ctx ends, by our own responder or by Avahi.
func (a *Announcer) run(ctx context.Context) {
	defer close(a.done)
	defer a.keeper.Wait()
	defer close(a.keep)
	over, err := a.net.watch(ctx, func() { poke(a.change) })
	if err != nil {
		a.log.Info("discovery looks at the network once a minute, as the system does not notify", "err", err)
		over = nil
	}
	if a.want != Avahi {
		a.byItself(ctx, over)
	}
	last, pause := time.Now(), time.Second // when Avahi was there
	for ctx.Err() == nil {
		there, err := a.byAvahi(ctx, over)
		if ctx.Err() != nil {
			return
		}
		a.fail(err)
		if !there.IsZero() {
			last, pause = there, time.Second
		}
		// An Avahi that is started anew must find the port as it left it: so not at once.
		if a.want == Auto && time.Since(last) >= a.wait {
			a.log.Info("Avahi is gone: the box announces itself if it can have the port of mDNS")
			a.byItself(ctx, over)
			last, pause = time.Now(), time.Second
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, slowLook)
	}
}

// speak makes somebody the one who speaks for the box from now on.
func (a *Announcer) speak(by Backend, voice func(Service, Names) speaker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.kept
	if a.told != (Names{}) {
		kept = a.told
	}
	a.by, a.voice = by, voice(a.service, kept)
	a.where, a.heard, a.looked = "", nil, time.Time{}
}

// byItself follows the network and the clock of the protocol by our own responder. It
// sleeps until the earliest of what that wants, a change and the look of each minute. It
// returns when ctx ends, or when Avahi has the port for itself and can speak for the box.
func (a *Announcer) byItself(ctx context.Context, over <-chan struct{}) {
	var core *responder
	a.speak(Own, func(s Service, kept Names) speaker {
		core = newResponder(a.log, s, kept, a.net.send)
		return core
	})
	defer a.net.close()
	goodbye := func() {
		core.close() // twice: nothing is said after it that could make up for a lost packet
		time.Sleep(farewell)
		core.close()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.Now()
	for {
		if now := time.Now(); !now.Before(look) {
			look = now.Add(slowLook)
			err := a.follow(core)
			if a.want == Auto && busy(err) && avahiRuns(ctx) {
				a.log.Info("the port of mDNS cannot be had: Avahi is asked to announce the box", "err", err)
				goodbye()
				return
			}
			a.fail(err)
		}
		next := earlier(core.step(), look)
		a.report(core)
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			goodbye()
			return
		case <-timer.C:
		case <-a.wake:
		case <-a.change: // let the burst end
			look = earlier(look, time.Now().Add(settle))
		case <-over:
			over = nil
			a.log.Info("discovery looks at the network once a minute, as the system stopped to notify")
		}
	}
}

// report tells the log and the keeper when the box is announced under other names, or
// elsewhere.
func (a *Announcer) report(voice speaker) {
	names, all, links := voice.status()
	where := fmt.Sprint(links)
	if !all || names == a.told && where == a.where {
		return
	}
	a.log.Info("announced on the network", "name", names.Instance, "host", names.Host, "links", links)
	if names != a.told {
		select {
		case <-a.keep: // an earlier one that nobody looked at yet
		default:
		}
		a.keep <- names
	}
	a.told, a.where = names, where
	poke(a.glance)
}

// lookForItself asks for the box as others do, a moment after what is announced changed.
func (a *Announcer) lookForItself(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.glance:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAfter):
		}
		a.mu.Lock()
		id := a.service.ID
		a.mu.Unlock()
		on, err := a.look(ctx, id, lookTime)
		if err != nil {
			a.log.Info("the box cannot ask the network for itself", "err", err)
			continue
		}
		var heard, deaf []string
		for link, answered := range on {
			if answered {
				heard = append(heard, link)
			} else {
				deaf = append(deaf, link)
			}
		}
		slices.Sort(heard)
		slices.Sort(deaf)
		a.mu.Lock()
		a.heard, a.looked = heard, time.Now()
		a.mu.Unlock()
		if len(deaf) > 0 && ctx.Err() == nil {
			a.log.Warn("the box asks the network for itself and gets no answer: is UDP port 5353 let through?", "links", deaf)
		}
	}
}

// follow looks at the network and tells the core.
func (a *Announcer) follow(core *responder) error {
	err := a.net.open(func(p packet) {
		if core.handle(p) {
			poke(a.wake)
		}
	})
	if err != nil && !errors.Is(err, errHalf) {
		return err
	}
	links, failed := a.net.links()
	if failed == nil {
		failed = core.setLinks(links)
	}
	return errors.Join(failed, err)
}

// fail notes down how it is, and tells the log what is new.
func (a *Announcer) fail(err error) {
	a.mu.Lock()
	before := a.failed
	a.failed = err
	a.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		a.log.Warn("the box is not announced on the network as it should; trying again each minute", "err", err)
	}
}
