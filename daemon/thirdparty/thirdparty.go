// Package thirdparty lets people sign in with an account that they have elsewhere
// (policy 1.1.1, 7): at an OpenID provider, with Apple's ways among them, or at WeChat,
// which is none. A service that stands in the settings can be connected by somebody who
// is signed in and consented; from then on it opens their account, second factor
// included. It makes no account, and takes no more than an id, when it is connected also
// a nickname or an e-mail address.
//
// # How a browser goes through it
//
// Begin makes a flow: state, nonce, the secret of PKCE (RFC 7636), and a cookie that
// binds them to this browser. The service sends the browser back to an address of its
// own, so that the answer of one service is never taken for another's (RFC 9700 §4.4);
// where it names itself, that must be right (RFC 9207). A flow is good for one answer
// within ten minutes. What that answer proved waits under a ticket, another cookie, for
// the page to fetch it: as a sign-in, or as a connection by the session that began it.
//
// Flows and tickets live in memory, in bounded number. After a restart one begins again.
package thirdparty

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Service is one that people may sign in with.
type Service struct {
	ID       string
	Name     string // as people call it
	Kind     Kind
	Issuer   string // https address: of the OpenID provider, or of WeChat's interface
	ClientID string
	TeamID   string // Apple's, with KeyID
	KeyID    string
	Roots    *x509.CertPool // further authorities to trust; nil: those of the system
}

// Kind is the protocol that a service speaks.
type Kind string

// The kinds of services.
const (
	OpenID Kind = "oidc"
	Apple  Kind = "apple"
	WeChat Kind = "wechat"
)

// Options of New. All but Log are needed.
type Options struct {
	Services []Service
	DB       *db.DB
	Accounts *account.Accounts
	Consent  *consent.Ledger
	Outside  *disclosure.Register
	// Secret returns the secret of a service by its id.
	Secret func(service string) (string, error)
	Now    func() time.Time
	Log    *slog.Logger
}

// Room is safe for concurrent use.
type Room struct {
	opt      Options
	log      *slog.Logger
	services []*service

	begun *account.Throttle // flows by source
	all   *account.Throttle // flows of everybody: each costs a request to the service

	mu      sync.Mutex
	flows   map[string]*flow   // by state
	tickets map[[32]byte]*done // by hash of the cookie
	order   []expiring         // of both, oldest first
	running context.Context    // nil: not yet
	watched map[ident.UserID]bool
}

// A protocol is how a kind of service is spoken to.
type protocol interface {
	// begin returns where the browser is sent to.
	begin(ctx context.Context, f *flow) (string, error)
	// finish makes of the service's answer who it proves, asking the service.
	finish(ctx context.Context, f *flow, answer url.Values) (subject, shown string, err error)
}

type service struct {
	Service
	protocol
	client *http.Client
	host   string
}

const (
	flowLife = 10 * time.Minute
	// ticketLife is how long what was proved waits for the page.
	ticketLife = 5 * time.Minute
	// maxFlows bounds flows and tickets each.
	maxFlows = 256
	// maxTries is how many codes of a second factor may be tried with one ticket.
	maxTries = 5
	maxID    = 255 // bytes of an id elsewhere
	maxShown = 128 // characters of a name there
)

// New prepares the services. It asks none of them anything.
func New(opt Options) *Room {
	r := &Room{opt: opt, log: opt.Log, flows: map[string]*flow{}, tickets: map[[32]byte]*done{}, watched: map[ident.UserID]bool{},
		begun: account.NewThrottle(6*time.Second, 10, 1024), all: account.NewThrottle(10*time.Second, 60, 1)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, c := range opt.Services {
		s := &service{Service: c}
		if u, err := url.Parse(c.Issuer); err == nil {
			s.host = strings.ToLower(u.Hostname())
		}
		s.client = opt.Outside.Client(disclosure.ClientOptions{Hosts: []string{s.host}, Roots: c.Roots})
		if c.Kind == WeChat {
			s.protocol = &weChat{service: s, room: r}
		} else {
			s.protocol = &openID{service: s, room: r}
		}
		r.services = append(r.services, s)
	}
	return r
}

// Services lists what people may sign in with.
func (r *Room) Services() (list []Service) {
	for _, s := range r.services {
		list = append(list, s.Service)
	}
	return list
}

func (r *Room) find(id string) (*service, error) {
	for _, s := range r.services {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, &problem.Error{Kind: problem.NotFound, Op: "thirdparty", Title: "There is no such service",
		Hint: "GET /v1/sign-in lists those that whoever runs the box has set up."}
}

// A flow is one browser on its way to a service and back.
type flow struct {
	service  *service
	state    string
	nonce    string
	verifier string // of PKCE
	redirect string // the box's address that the service sends back to
	browser  [32]byte
	linking  ident.Principal // zero: a sign-in
	entry    int64           // of the consent, in the ledger
	ends     time.Time
	provider *discovered // nil with WeChat
}

// done is a flow that came back.
type done struct {
	who     account.Elsewhere
	host    string
	err     error // why nothing was proved; nil: it was
	linking ident.Principal
	tries   int
	ends    time.Time
}

type expiring struct {
	state  string
	ticket [32]byte
	ends   time.Time
}

func secret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func hashOf(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// expire forgets what is over. r.mu is held.
func (r *Room) expire(now time.Time) {
	n := 0
	for _, e := range r.order {
		if left := e.ends.Sub(now); left > 0 && left <= max(flowLife, ticketLife) { // else the clock was ahead when it began
			break
		}
		n++
		delete(r.flows, e.state)
		delete(r.tickets, e.ticket)
	}
	r.order = slices.Delete(r.order, 0, n)
}

// Started is a flow that has begun.
type Started struct {
	URL string // where the browser goes
	// Browser is the secret that binds the flow to the browser, to be kept by it for
	// Life. CrossSite: the service comes back by a form of its own site, so that the
	// cookie must be sent with that.
	Browser   string
	CrossSite bool
	Life      time.Duration
}

// BeginSignIn sends a browser to a service to sign in. redirect is the address of the
// box that the service sends it back to, remote where it comes from.
func (r *Room) BeginSignIn(ctx context.Context, id, redirect, remote string) (Started, error) {
	s, err := r.find(id)
	if err != nil {
		return Started{}, err
	}
	return r.begin(ctx, &flow{service: s, redirect: redirect}, remote)
}

// BeginLink is BeginSignIn for the person of session p, who consented to it, to connect
// an account there.
func (r *Room) BeginLink(ctx context.Context, p ident.Principal, id, redirect, remote string) (Started, error) {
	s, err := r.find(id)
	if err != nil {
		return Started{}, err
	}
	g, err := r.grant(ctx, p.User)
	if err != nil {
		return Started{}, err
	}
	f := &flow{service: s, redirect: redirect, linking: p}
	if err := r.opt.DB.Read(ctx, func(tx *db.Tx) (err error) { f.entry, err = g.Entry(tx); return err }); err != nil {
		return Started{}, err
	}
	return r.begin(ctx, f, remote)
}

func (r *Room) grant(ctx context.Context, u ident.UserID) (consent.Grant, error) {
	return r.opt.Consent.Grant(ctx, u, 0, consent.ThirdPartyLogin)
}

func (r *Room) begin(ctx context.Context, f *flow, remote string) (Started, error) {
	now := r.opt.Now()
	wait, ok := r.begun.Take(now, remote)
	if ok {
		wait, ok = r.all.Take(now, "")
	}
	if !ok {
		return Started{}, tooMany(wait)
	}
	browser := secret()
	f.state, f.nonce, f.verifier, f.browser, f.ends = secret(), secret(), secret(), hashOf(browser), now.Add(flowLife)
	to, err := f.service.begin(r.recorded(ctx, f, "discovery"), f)
	if err != nil {
		return Started{}, r.unreachable(f.service, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	if len(r.flows) >= maxFlows {
		return Started{}, tooMany(time.Minute)
	}
	r.flows[f.state] = f
	r.order = append(r.order, expiring{state: f.state, ends: f.ends})
	return Started{URL: to, Browser: browser, CrossSite: f.service.Kind == Apple, Life: flowLife}, nil
}

// recorded is a context for requests to the flow's service: each is written down.
func (r *Room) recorded(ctx context.Context, f *flow, why string) context.Context {
	e := disclosure.Entry{Kind: disclosure.SignInAsk, Categories: []string{"network_address"}, Why: why, Basis: disclosure.ByOwner}
	if why != "discovery" {
		e.Categories, e.Basis = append(e.Categories, "sign_in_code"), disclosure.ByPerson
	}
	if p := f.linking; p.User != 0 {
		e.User, e.Actor, e.Basis, e.Authority = p.User, p.User, disclosure.ByConsent, disclosure.ForConsent(consent.ThirdPartyLogin, f.entry)
	}
	return disclosure.With(ctx, e)
}

// Finish takes what a service sent a browser back with, and returns the ticket under
// which the outcome waits for the page; linking says what for. id is the service whose
// address it came to. An answer to no flow of that browser is problem.NotFound.
func (r *Room) Finish(ctx context.Context, id, browser string, answer url.Values) (ticket string, linking bool, err error) {
	now := r.opt.Now()
	state := answer.Get("state")
	r.mu.Lock()
	r.expire(now)
	f := r.flows[state]
	// A wrong browser does not end the flow: who only knows the state must not be able to.
	known := hashOf(browser)
	if f != nil && subtle.ConstantTimeCompare(f.browser[:], known[:]) != 1 {
		f = nil
	}
	if f != nil {
		delete(r.flows, state) // good for one answer, whatever that is
	}
	r.mu.Unlock()
	if f == nil || len(answer["state"]) != 1 {
		return "", false, over()
	}
	d := &done{linking: f.linking, host: f.service.host, ends: now.Add(ticketLife)}
	if f.service.ID != id { // the answer came to another service's address: a mix-up
		return "", false, over()
	}
	d.who, d.err = r.prove(ctx, f, answer)
	ticket = secret()
	key := hashOf(ticket)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tickets) >= maxFlows {
		return "", false, tooMany(time.Minute)
	}
	r.tickets[key] = d
	r.order = append(r.order, expiring{ticket: key, ends: d.ends})
	slices.SortStableFunc(r.order, func(a, b expiring) int { return a.ends.Compare(b.ends) })
	return ticket, f.linking.User != 0, nil
}

// prove finds out who somebody is elsewhere.
func (r *Room) prove(ctx context.Context, f *flow, answer url.Values) (who account.Elsewhere, err error) {
	for _, name := range []string{"code", "error", "iss"} {
		if len(answer[name]) > 1 {
			return who, r.unproved(f.service, fmt.Errorf("%s stands twice", name))
		}
	}
	if e := answer.Get("error"); e != "" {
		return who, declined(e)
	}
	if answer.Get("code") == "" {
		return who, r.unproved(f.service, errors.New("there is no code"))
	}
	subject, shown, err := f.service.finish(ctx, f, answer)
	if err != nil {
		return who, r.unproved(f.service, err)
	}
	if subject == "" || len(subject) > maxID {
		return who, r.unproved(f.service, errors.New("the id is missing or too long"))
	}
	if f.linking.User == 0 {
		shown = "" // nobody needs it again
	}
	return account.Elsewhere{Service: f.service.ID, Issuer: f.service.Issuer, Subject: subject, Shown: clean(shown)}, nil
}

// clean makes a name from elsewhere fit to be shown.
func clean(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s))
	if runes := []rune(s); len(runes) > maxShown {
		s = string(runes[:maxShown])
	}
	return s
}

// take returns what waits under a ticket, for a sign-in or for the linking of p. It
// stays there only where keep says so of its use.
func (r *Room) take(ticket string, p ident.Principal) (*done, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(r.opt.Now())
	key := hashOf(ticket)
	d := r.tickets[key]
	if d == nil || d.linking.User != p.User || d.linking.Session != p.Session {
		return nil, over()
	}
	if d.tries++; d.err != nil || d.tries >= maxTries {
		delete(r.tickets, key)
	}
	return d, d.err
}

func (r *Room) drop(ticket string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tickets, hashOf(ticket))
}

// SignIn makes a session of what waits under a ticket. It may be tried again with a code
// where one is asked for, a few times.
func (r *Room) SignIn(ctx context.Context, ticket, code, remote string, device account.DeviceInfo) (account.Session, error) {
	d, err := r.take(ticket, ident.Principal{})
	if err != nil {
		return account.Session{}, err
	}
	s, err := r.opt.Accounts.LoginLinked(ctx, account.LinkedLogin{Elsewhere: d.who, Code: code, Device: device, Remote: remote}, r.grant,
		func(tx *db.Tx, u ident.UserID) error {
			g, err := r.grant(ctx, u)
			if err != nil {
				return err
			}
			entry, err := g.Entry(tx)
			if err != nil {
				return err
			}
			return r.opt.Outside.Record(tx, disclosure.Entry{User: u, Kind: disclosure.SignIn, Recipient: d.host, Categories: []string{"network_address", "time_of_sign_in"},
				Why: "sign_in", Basis: disclosure.ByConsent, Authority: disclosure.ForConsent(consent.ThirdPartyLogin, entry), Actor: u})
		})
	if problem.KindOf(err) != problem.CodeRequired {
		r.drop(ticket)
	}
	return s, err
}

// Link connects what waits under a ticket with the person of the session that began it.
func (r *Room) Link(ctx context.Context, p ident.Principal, ticket string) (account.Link, error) {
	d, err := r.take(ticket, p)
	if err != nil {
		return account.Link{}, err
	}
	r.drop(ticket)
	g, err := r.grant(ctx, p.User)
	if err != nil {
		return account.Link{}, err
	}
	l, err := r.opt.Accounts.AddLink(ctx, p, g, d.who, func(tx *db.Tx, u ident.UserID) error {
		entry, err := g.Entry(tx)
		if err != nil {
			return err
		}
		return r.opt.Outside.Record(tx, disclosure.Entry{User: u, Kind: disclosure.Link, Recipient: d.host, Categories: []string{"network_address", "time_of_sign_in"},
			Why: "link", Basis: disclosure.ByConsent, Authority: disclosure.ForConsent(consent.ThirdPartyLogin, entry), Actor: u})
	})
	if err == nil {
		r.watch(g)
	}
	return l, err
}

// Run cuts the connections of people who withdrew their consent, those that did while the
// box was off first, until ctx ends.
func (r *Room) Run(ctx context.Context) {
	r.mu.Lock()
	r.running = ctx
	r.mu.Unlock()
	people, err := r.opt.Accounts.LinkedPeople(ctx)
	if err != nil && ctx.Err() == nil {
		r.log.Warn("connections with accounts elsewhere cannot be read", "err", err)
	}
	for _, u := range people {
		if g, err := r.grant(ctx, u); err == nil {
			r.watch(g)
		} else {
			r.eraseIfWithdrawn(ctx, u)
		}
	}
	<-ctx.Done()
}

// watch has the connections of a person cut when their consent ends.
func (r *Room) watch(g consent.Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running := r.running
	if running == nil || r.watched[g.User()] {
		return
	}
	r.watched[g.User()] = true
	ctx, release := g.Context(running)
	context.AfterFunc(ctx, func() {
		release()
		r.mu.Lock()
		delete(r.watched, g.User())
		r.mu.Unlock()
		if running.Err() == nil {
			r.eraseIfWithdrawn(running, g.User())
		}
	})
}

// eraseIfWithdrawn leaves connections alone that only wait for a new revision of the
// policy to be accepted: they open nothing until then.
func (r *Room) eraseIfWithdrawn(ctx context.Context, u ident.UserID) {
	list, err := r.opt.Consent.State(ctx, u)
	if err == nil && (r.opt.Consent.Standing(u) == consent.Declined || slices.ContainsFunc(list, func(c consent.Consent) bool {
		return c.Purpose == consent.ThirdPartyLogin && (c.State == consent.Withdrawn || c.State == consent.Never)
	})) {
		err = r.opt.Accounts.EraseLinks(ctx, u)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("connections with accounts elsewhere could not be cut", "err", err)
	}
}

func tooMany(wait time.Duration) error {
	return &problem.Error{Kind: problem.RateLimited, Op: "thirdparty", RetryAfter: wait,
		Detail: "Too many people want to sign in elsewhere right now.", Hint: "Wait a little, or sign in with your user name and password."}
}

func over() error {
	return &problem.Error{Kind: problem.NotFound, Op: "thirdparty", Title: "This sign-in is over",
		Detail: "It was completed, took too long, or was begun in another browser.", Hint: "Begin again."}
}

func declined(code string) error {
	e := &problem.Error{Kind: problem.Canceled, Op: "thirdparty", Title: "The other service did not sign you in",
		Detail: "It refused, or you did.", Hint: "Begin again, or sign in with your user name and password."}
	if code == "access_denied" || code == "user_cancelled_authorize" {
		e.Detail = "You did not allow it there."
	}
	return e
}

// unreachable and unproved keep the reason for the log: it is the service's word, and
// nothing that a stranger should read on the page.
func (r *Room) unreachable(s *service, err error) error {
	if problem.KindOf(err) == problem.RateLimited {
		return err
	}
	r.log.Warn("a service that people sign in with could not be asked", "service", s.ID, "err", r.reason(err))
	return &problem.Error{Kind: problem.Unavailable, Op: "thirdparty", Title: "The other service cannot be reached",
		Detail: "The box could not ask it.", Hint: "Try again later, or sign in with your user name and password.", Err: r.reason(err)}
}

func (r *Room) unproved(s *service, err error) error {
	r.log.Warn("the answer of a service that people sign in with proves nothing", "service", s.ID, "err", r.reason(err))
	return &problem.Error{Kind: problem.Unauthenticated, Op: "thirdparty", Title: "The other service's answer proves nothing",
		Detail: "It does not fit what the box asked, or it could not be checked.", Hint: "Begin again. If it stays so, whoever runs the box finds the reason in its log.",
		Err: r.reason(err)}
}
