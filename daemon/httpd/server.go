// Package httpd is the front hall of every HTTP gateway: TLS with the box's own
// identity, host names, cross-site requests, sign-in, limits, slow clients, and
// errors as RFC 9457 documents. A gateway behind it sees only requests that are
// meant for this box, come from where they may come from, and are made by
// somebody who may make them.
//
// A route cannot be registered without saying who may use it.
package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/metrics"
	"yunbox.local/daemon/problem"
)

// Access is who may use a route.
type Access int

const (
	// Public routes are for everybody. Who is signed in is known there too; bad
	// credentials are ignored.
	Public Access = iota + 1
	// SignedIn routes are for people with a session or a full app token.
	SignedIn
	// Files routes also accept app tokens that open files only. Their bodies may
	// be of any size; all other routes take at most 1 MiB.
	Files
	// AdminOnly routes are for the owner and admins, signed in as SignedIn wants it.
	AdminOnly
)

// maxBody is the size in bytes of a body on routes that do not take files.
const maxBody = 1 << 20

// largeBody is the one route beside them that takes more: it says itself when it is too
// much, and only who manages the box gets there.
const largeBody = "PUT /v1/update/bundle"

// Limits bound what clients can cost. A zero field takes its default.
type Limits struct {
	HeaderTimeout  time.Duration // for the TLS handshake and for the header of a request; 10 s
	IdleTimeout    time.Duration // of a connection between requests; 120 s
	Patience       time.Duration // within which a body must bring on average 1 KiB/s; 30 s
	Recheck        time.Duration // after which a body that still comes must still be allowed to; 2 s
	WriteTimeout   time.Duration // for the client to take a piece of the answer; 60 s
	Linger         time.Duration // for a client that is refused in the middle of its body to read why; 0.5 s
	HeaderBytes    int           // of a request; 32 KiB
	Conns          int           // connections in all; 256
	ConnsPerSource int           // of one address; 64
	// Requests at a time of people who are not signed in, in all and of one address;
	// 192 and 64. What is more is cut off.
	Strangers, StrangersPerSource int

	Drain time.Duration // for running requests when Serve's context ends; 20 s
}

func (l Limits) withDefaults() Limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&l.HeaderTimeout, 10*time.Second)
	def(&l.IdleTimeout, 120*time.Second)
	def(&l.Patience, 30*time.Second)
	def(&l.Recheck, 2*time.Second)
	def(&l.WriteTimeout, 60*time.Second)
	def(&l.Linger, 500*time.Millisecond)
	def(&l.Drain, 20*time.Second)
	if l.HeaderBytes == 0 {
		l.HeaderBytes = 32 << 10
	}
	if l.Conns == 0 {
		l.Conns = 256
	}
	if l.ConnsPerSource == 0 {
		l.ConnsPerSource = 64
	}
	if l.Strangers == 0 {
		l.Strangers = 192
	}
	if l.StrangersPerSource == 0 {
		l.StrangersPerSource = 64
	}
	return l
}

// Options of New.
type Options struct {
	Identity *Identity
	Accounts *account.Accounts
	// Names returns further host names by which the box is known now, such as the
	// one that mDNS settled on; nil: none. It is called on every request.
	Names func() []string
	// Limited returns why somebody may use only what remains to people who did not
	// accept the current privacy policy, see Remains; nil: they accepted it, or were not
	// asked yet. It is called on every request of theirs. A nil Limited limits nobody.
	Limited func(ident.UserID) error
	// Closed returns why nobody may use anything now but what says that the box is there;
	// nil: everybody may. It is called on every request. A nil Closed never closes.
	Closed func() error
	// Traffic counts what comes by which gateway; nil: nobody does.
	Traffic *metrics.Traffic
	Log     *slog.Logger // nil discards it
	Limits  Limits
}

// Server is the front hall. Register all routes before the first Serve. It is
// safe for concurrent use.
type Server struct {
	identity *Identity
	accounts *account.Accounts
	names    func() []string
	limited  func(ident.UserID) error
	closed   func() error
	traffic  *metrics.Traffic
	log      *slog.Logger
	limits   Limits
	mux      *http.ServeMux
	failed   *account.Throttle // bad credentials by source
	own      ownHosts
	routes   []Route
	visits   map[string]bool // see LetVisit

	secure, plain *http.Server
	listening     map[*listener]bool // under mu
	mu            sync.Mutex
	conns         *conns
	crowd         *crowd

	base     context.Context // of all requests
	end      context.CancelCauseFunc
	stopOnce sync.Once
	stopping chan struct{} // closed when Shutdown begins
	stopped  chan struct{} // closed when it is over
}

// New returns a server without routes.
func New(opt Options) *Server {
	s := &Server{
		identity: opt.Identity, accounts: opt.Accounts, names: opt.Names, limited: opt.Limited, closed: opt.Closed, traffic: opt.Traffic, log: opt.Log,
		limits: opt.Limits.withDefaults(), mux: http.NewServeMux(),
		failed:   account.NewThrottle(6*time.Second, 10, 1024),
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.names == nil {
		s.names = func() []string { return nil }
	}
	if s.closed == nil {
		s.closed = func() error { return nil }
	}
	if s.limited == nil {
		s.limited = func(ident.UserID) error { return nil }
	}
	s.base, s.end = context.WithCancelCause(context.WithValue(context.Background(), stoppingKey{}, s.stopping))
	s.listening = map[*listener]bool{}
	s.conns = newConns(s.limits.Conns, s.limits.ConnsPerSource)
	s.crowd = newCrowd(s.limits.Strangers, s.limits.StrangersPerSource)
	s.secure = s.newHTTPServer()
	s.secure.TLSConfig = s.TLSConfig()
	s.plain = s.newHTTPServer()
	s.plain.Protocols.SetHTTP2(false)
	return s
}

// TLSConfig serves the box's identity to a protocol that is not HTTP.
func (s *Server) TLSConfig() *tls.Config {
	return s.identity.tlsConfig(s.names, func(err error) {
		s.log.Warn("the new certificate could not be kept on the disk", "err", err)
	})
}

func (s *Server) newHTTPServer() *http.Server {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.HeaderTimeout,
		IdleTimeout:       s.limits.IdleTimeout,
		MaxHeaderBytes:    s.limits.HeaderBytes,
		// ReadTimeout and WriteTimeout stay zero: an upload may last for hours as long
		// as it moves, see progressBody.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 64,
			// As large as may be, so that one connection fills a fast Wi-Fi. Memory is
			// needed only for what a handler has not read yet.
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			MaxReceiveBufferPerStream:     2 << 20,
			MaxReadFrameSize:              64 << 10,
			WriteByteTimeout:              s.limits.WriteTimeout,
		},
		Protocols:                    new(http.Protocols),
		ConnState:                    s.conns.state,
		ConnContext:                  s.conns.context,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return s.base },
		DisableGeneralOptionsHandler: true,
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(true)
	return h
}

// A Refuser is a Handler of a protocol with error documents of its own: it is
// asked to say also what the hall itself has against a request. Refuse ends in
// WriteProblemAs.
type Refuser interface {
	Refuse(w http.ResponseWriter, r *http.Request, err error)
}

// Handle registers a route. If h is a Refuser, it says why somebody may not use
// the route. The pattern is one of http.ServeMux; a pattern that
// conflicts with another, or an access that is none, panics.
func (s *Server) Handle(pattern string, h http.Handler, a Access) {
	if a < Public || a > AdminOnly {
		panic(fmt.Sprintf("httpd: the route %q does not say who may use it", pattern))
	}
	route := Route{pattern, a, StepUp(pattern), Remains(pattern, a)}
	s.routes = append(s.routes, route)
	lane := s.traffic.Of(pattern)
	s.mux.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := responseOf(w)
		out.routed, out.lane = true, lane
		r, err := s.admit(out, r, route)
		if err != nil {
			if p, ok := h.(Refuser); ok {
				p.Refuse(out, r, err)
			} else {
				WriteProblem(out, r, err)
			}
			return
		}
		h.ServeHTTP(out, r)
	}))
}

// A Route is what Handle registered.
type Route struct {
	Pattern string
	Access  Access
	StepUp  account.When // 0: a session or token is enough
	Remains string       // see Remains
}

// Routes lists the routes in the order of their registration.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

// Serve answers HTTPS on ln until Shutdown, or until ctx ends, which begins a
// Shutdown that takes at most Limits.Drain. It returns nil after a shutdown.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, func(ln net.Listener) error { return s.secure.ServeTLS(ln, "", "") })
}

// ServePlain answers HTTP without TLS on ln, for networks that are protected by
// other means. Everything that is sent can be read on the way. Browsers do not
// get a session there: the cookie is for TLS only.
func (s *Server) ServePlain(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.plain.Serve)
}

func (s *Server) serve(ctx context.Context, ln net.Listener, run func(net.Listener) error) error {
	l := s.conns.listen(ln)
	s.mu.Lock()
	s.listening[l] = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Drain)
		defer cancel()
		if err := s.Shutdown(drain); err != nil {
			s.log.Warn("some requests were cut off by the shutdown", "err", err)
		}
	})
	defer stop()
	err := run(l)
	s.mu.Lock()
	delete(s.listening, l)
	s.mu.Unlock()
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-s.stopped
	return nil
}

// Shutdown takes no new connections and waits for running requests, uploads
// among them, until they are done or ctx ends; then it cuts them off and returns
// ctx's error. What a cut-off upload has sent can be resumed.
func (s *Server) Shutdown(ctx context.Context) error {
	var err error
	s.stopOnce.Do(func() {
		close(s.stopping)
		defer close(s.stopped)
		s.hangUp(ctx)
		err = errors.Join(s.secure.Shutdown(ctx), s.plain.Shutdown(ctx))
		s.end(&problem.Error{Kind: problem.Canceled, Op: "httpd.shutdown",
			Detail: "The box is shutting down.", Hint: "Go on when it is back."})
		if err != nil {
			err = errors.Join(err, s.secure.Close(), s.plain.Close())
		}
	})
	<-s.stopped
	return err
}

// hangUp takes no more connections, and gives those that were made a moment ago, for
// patience at most, the time to bring the request that they were made for.
func (s *Server) hangUp(ctx context.Context) {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.listening))
	s.mu.Unlock()
	for _, l := range all {
		l.hangUp()
	}
	for _, l := range all {
		select {
		case <-l.drained:
		case <-ctx.Done():
		}
	}
	for s.conns.expected() && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
	}
}

type stoppingKey struct{}

// Connections returns how many are open.
func (s *Server) Connections() int {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return len(s.conns.open)
}

// Stopping returns a channel that is closed when the server begins to shut down.
// Handlers that would otherwise go on for ever, such as streams of events, end
// then. It is nil for a context that is not of a request.
func Stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stoppingKey{}).(chan struct{})
	return c
}

// ServeHTTP implements http.Handler: one request through the hall.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	out := newResponse(s.log, s.limits, w, r)
	out.crowd, out.lane = s.crowd, s.traffic.Of("")
	defer s.record(out, r, begin)
	out.guard(func() {
		secureHeaders(out.Header())
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// If there was a Content-Length too, net/http has removed it, and a proxy in
			// between may have believed it: what follows on the connection could be a
			// request that somebody smuggled in (RFC 9112 §6.1: the server MUST close).
			out.Header().Set("Connection", "close")
		}
		err := s.welcome(r)
		if err == nil && r.URL.Path != "/.well-known/yunbox" && r.URL.Path != "/healthz" {
			err = s.closed()
		}
		if err != nil {
			out.join()
			WriteProblem(out, r, err)
			return
		}
		out.routing = true
		s.mux.ServeHTTP(out, r)
	})
}

// Guard is for handlers of another server than this one, such as that of the
// box's unix socket: a panic and what WriteProblem writes are treated and logged
// as in the hall. Nobody is kept out.
func Guard(log *slog.Logger, h http.Handler) http.Handler {
	limits := Limits{}.withDefaults()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := newResponse(log, limits, w, r)
		out.guard(func() { h.ServeHTTP(out, r) })
	})
}

// welcome decides whether a request is for this box at all.
func (s *Server) welcome(r *http.Request) error {
	if !s.own.has(s, r) {
		return s.notThisBox()
	}
	if err := sameSite(r); err != nil && !s.mayVisit(r) {
		return err
	}
	// ServeMux would answer with a redirect, at which clients lose the body.
	if p := r.URL.Path; p != "*" && !isCleanPath(p) {
		return &problem.Error{Kind: problem.Invalid, Op: "httpd",
			Title:  "The address is not clean",
			Detail: `It has an empty part, or a part that is "." or "..".`,
			Hint:   "Send the path without them."}
	}
	return nil
}

func (s *Server) notThisBox() error {
	return &problem.Error{Kind: problem.Misdirected, Op: "httpd",
		Detail: "The request names a host that is not this box.",
		Hint:   "Open the box by its own name, " + s.identity.HostName() + ", or by its address."}
}

func isCleanPath(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	clean := path.Clean(p)
	return p == clean || p == clean+"/" && clean != "/"
}

// record writes the request down: the route, never the path or the query, which
// hold names of people's files.
func (s *Server) record(out *response, r *http.Request, begin time.Time) {
	out.lane.Answered(out.status, out.sent)
	level := slog.LevelDebug
	if out.status == http.StatusInternalServerError {
		level = slog.LevelWarn // others of 5xx, such as a full disk, are said once by who finds them
	}
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	s.log.Log(context.Background(), level, "request", "method", methodName(r.Method), "route", out.pattern(), "status", out.status,
		"in", out.received(), "out", out.sent, "ms", time.Since(begin).Milliseconds(), "proto", r.ProtoMajor)
}

// methodName keeps what a client made up out of the log.
func methodName(m string) string {
	if len(m) > 16 || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return "other"
	}
	return m
}

// secureHeaders sets what every answer carries. A handler may replace any of it.
func secureHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()")
	// Nothing that is not one of the box's own pages may do anything in a browser.
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox")
}
