package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	settle    = 100 * time.Millisecond // a change of the network comes as a burst of messages
	slowLook  = time.Minute            // between looks at the network: what the kernel tells may get lost
	farewell  = 50 * time.Millisecond  // from the first goodbye to the second
	closeWait = time.Second            // for all of Close
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
	// Kept are the names that Keep was given last. They are what the box takes if
	// the wanted names turn out to be somebody else's again.
	Kept Names
	// Keep is told the names that the box holds, when they are held for the first
	// time and whenever they changed. It is called from one goroutine at a time and
	// may take long.
	Keep func(Names)
}

// Status is how an announcement is doing.
type Status struct {
	Names Names
	Held  bool     // nobody else on any link has them
	Links []string // where the box is announced, by the names of the interfaces
	Err   error    // why it is not, if it cannot be: the port of mDNS is not to be had
}

// Announcer keeps a box announced until it is closed: it is the responder of RFC
// 6762 for the box's names. Its methods may be called from any goroutine.
type Announcer struct {
	log    *slog.Logger
	net    network
	core   *responder
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // holds one token: the core has work
	change chan struct{} // holds one token: the network changed
	keep   chan Names    // holds the latest
	keeper sync.WaitGroup

	mu     sync.Mutex
	failed error
}

// Announce starts to announce s and returns at once. It fails only if s cannot be
// announced at all. Without a network it waits for one, for as long as it takes;
// when links or addresses change, the announcement follows. It ends with a goodbye
// when ctx ends or Close is called.
func Announce(ctx context.Context, s Service, o Options) (*Announcer, error) {
	return announce(ctx, s, o, newSockets())
}

func announce(ctx context.Context, s Service, o Options, n network) (*Announcer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &Announcer{
		log: log, net: n, core: newResponder(log, s, o.Kept, n.send), cancel: cancel,
		done: make(chan struct{}), wake: make(chan struct{}, 1), change: make(chan struct{}, 1), keep: make(chan Names, 1),
	}
	a.keeper.Go(func() {
		for names := range a.keep {
			if o.Keep != nil {
				o.Keep(names)
			}
		}
	})
	go a.run(ctx)
	return a, nil
}

// Update announces s from now on in place of what was announced before. A new name
// is asked for first, as at the start.
func (a *Announcer) Update(s Service) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := a.core.update(s); err != nil {
		return err
	}
	poke(a.wake)
	return nil
}

// Status is how the announcement is doing now.
func (a *Announcer) Status() Status {
	var s Status
	s.Names, s.Held, s.Links = a.core.status()
	a.mu.Lock()
	s.Err = a.failed
	a.mu.Unlock()
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

// run follows the network and the clock of the protocol. It sleeps until the
// earliest of what the core wants, a change and the look of each minute.
func (a *Announcer) run(ctx context.Context) {
	defer close(a.done)
	defer a.keeper.Wait()
	defer close(a.keep)
	defer a.net.close()
	over, err := a.net.watch(ctx, func() { poke(a.change) })
	if err != nil {
		a.log.Info("discovery looks at the network once a minute, as the system does not notify", "err", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.Now()
	var told Names
	var where string
	for {
		if now := time.Now(); !now.Before(look) {
			look = now.Add(slowLook)
			a.follow()
		}
		next := earlier(a.core.step(), look)
		if names, all, links := a.core.status(); all && (names != told || where != fmt.Sprint(links)) {
			a.log.Info("announced on the network", "name", names.Instance, "host", names.Host, "links", links)
			if names != told {
				a.tell(names)
			}
			told, where = names, fmt.Sprint(links)
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			a.core.close() // twice: nothing is said after it that could make up for a lost packet
			time.Sleep(farewell)
			a.core.close()
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

// tell has the keeper called with the latest names.
func (a *Announcer) tell(names Names) {
	select {
	case <-a.keep: // an earlier one that nobody looked at yet
	default:
	}
	a.keep <- names
}

// follow looks at the network and tells the core.
func (a *Announcer) follow() {
	err := a.net.open(func(p packet) {
		if a.core.handle(p) {
			poke(a.wake)
		}
	})
	var links []link
	if err == nil {
		if links, err = a.net.links(); err == nil {
			err = a.core.setLinks(links)
		}
	}
	a.mu.Lock()
	before := a.failed
	a.failed = err
	a.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		a.log.Warn("the box is not announced on the network; trying again each minute", "err", err)
	}
}
