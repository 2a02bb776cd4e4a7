package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

const (
	settle    = 200 * time.Millisecond // a change of the network comes as a burst of messages
	slowLook  = time.Minute            // between looks at the network where the kernel cannot notify, and after a failure
	minLife   = 100 * time.Millisecond // the library's goroutines must be running before it may be shut down
	farewell  = 700 * time.Millisecond // for the library to say goodbye
	closeWait = time.Second            // for all of Close
)

// Options of an Announcer.
type Options struct {
	// Log gets what happens to the announcement; nothing is logged if it is nil.
	Log *slog.Logger
}

// Announcer keeps a box announced until it is closed. Its methods may be called
// from any goroutine.
type Announcer struct {
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // holds one token: something changed

	mu   sync.Mutex
	want Service
}

// Announce starts to announce s and returns at once. It fails only if s cannot be
// announced at all. Without a network it waits for one, for as long as it takes;
// when links or addresses change, the announcement follows. It ends with a goodbye
// when ctx ends or Close is called.
func Announce(ctx context.Context, s Service, o Options) (*Announcer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &Announcer{log: log, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1), want: s}
	go a.run(ctx)
	return a, nil
}

// Update announces s from now on in place of what was announced before.
func (a *Announcer) Update(s Service) error {
	if err := s.check(); err != nil {
		return err
	}
	a.mu.Lock()
	a.want = s
	a.mu.Unlock()
	a.poke()
	return nil
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

func (a *Announcer) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run follows the wish and the network. One turn of the loop makes the two agree;
// between turns it sleeps without a timer, unless the last turn failed or the
// kernel does not notify.
func (a *Announcer) run(ctx context.Context) {
	defer close(a.done)
	over, err := watchLinks(ctx, a.poke)
	if err != nil {
		a.log.Info("discovery looks at the network once a minute, as the system does not notify", "error", err)
	}
	var now *registration
	defer func() { now.close() }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Stop()
		failed := false
		if now, err = a.follow(now); err != nil {
			failed = true
			a.log.Warn("the box is not announced on the network; trying again", "error", err, "in", slowLook)
		}
		if failed || over == nil {
			timer.Reset(slowLook)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			continue
		case <-over:
			over = nil
			continue
		case <-a.wake:
		}
		select { // let the burst end
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		select {
		case <-a.wake:
		default:
		}
	}
}

// follow returns the registration that fits the wish and the network, which is the
// old one if that still does, or none while there is no network.
func (a *Announcer) follow(old *registration) (*registration, error) {
	a.mu.Lock()
	want := a.want
	a.mu.Unlock()
	links, err := currentLinks()
	if err != nil {
		return old, fmt.Errorf("list network interfaces: %w", err)
	}
	if old != nil && old.service == want && sameLinks(old.links, links) {
		if !sameAddrs(old.links, links) {
			a.log.Info("addresses changed", "links", names(links))
			old.links = links
			old.host.readdress(links)
		}
		return old, nil
	}
	old.close()
	if len(links) == 0 {
		if old != nil {
			a.log.Info("no network: the box is not announced")
		}
		return nil, nil
	}
	fresh, err := register(want, links)
	if err != nil {
		return nil, err
	}
	a.log.Info("announced", "name", want.Name, "host", want.hostName(), "port", want.Port, "state", want.State, "links", names(links))
	return fresh, nil
}

func names(links []link) []string {
	list := make([]string, len(links))
	for i, l := range links {
		list[i] = l.iface.Name
	}
	return list
}

// registration is one service announced on one set of links. It never changes but
// for the addresses: the library reads its texts from several goroutines without a
// lock, so a new text needs a new registration.
type registration struct {
	service Service
	links   []link
	since   time.Time
	servers []*zeroconf.Server
	host    *hostResponder
}

func register(s Service, links []link) (r *registration, err error) {
	text, err := s.Text()
	if err != nil {
		return nil, err
	}
	r = &registration{service: s, links: links, since: time.Now()}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the mDNS library panicked: %v", p)
		}
		if err != nil {
			r.close()
			r = nil
		}
	}()
	if r.host, err = newHostResponder(s, links); err != nil {
		return r, err
	}
	instance := escapeLabel(instanceName(s.Name))
	type kind struct {
		name string
		text []string
	}
	kinds := []kind{{ServiceBox, text}, {ServiceHTTPS, []string{"path=/"}}}
	if s.WebDAV != "" {
		kinds = append(kinds, kind{ServiceWebDAV, []string{"path=" + s.WebDAV}})
	}
	for _, t := range kinds {
		// Without addresses of its own the proxy tells each link the addresses of
		// that link, as they are when it is asked, and its goodbye spares the host
		// name that the services share.
		srv, err := zeroconf.RegisterProxy(instance, t.name, domain, s.Port, s.Host, nil, t.text, interfaces(links))
		if err != nil {
			return r, fmt.Errorf("announce %s: %w", t.name, err)
		}
		r.servers = append(r.servers, srv)
	}
	return r, nil
}

// close says goodbye. It gives up on a library that hangs.
func (r *registration) close() {
	if r == nil {
		return
	}
	time.Sleep(max(0, minLife-time.Since(r.since)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range r.servers {
			func() {
				defer func() { _ = recover() }() // a goodbye that cannot be said must not stop the box
				s.Shutdown()
			}()
		}
	}()
	if r.host != nil {
		r.host.close()
	}
	select {
	case <-done:
	case <-time.After(farewell):
	}
}
