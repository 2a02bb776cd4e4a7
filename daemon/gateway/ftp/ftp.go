// Package ftp is a drop box for cameras: FTP (RFC 959) with explicit TLS (RFC
// 4217) and what RFC 3659 added, over the box's own store. It is a gateway: what
// may come in is decided by consent and ingest.
//
// A camera signs in with its owner's user name and a password that was made for it
// (scope camera of POST /v1/tokens), and sees one folder of its owner's: Camera and
// the name of that password, with what came by this gateway. It can leave files
// there and make folders. It can read, rename and delete nothing: whoever finds the
// camera finds its password.
//
// # When a file is whole
//
// STOR says no length, so an orderly end of the data connection is all that tells a
// photo from half a photo. ftpserverlib v0.32.0 tells its driver of ABOR, of a reset
// and of a failed read, and takes everything else for a whole file. That is too
// little, so the end of the data is judged here, see upload.whole:
//
//   - The kernel sends FIN for a program that was killed, too, and some programs say
//     close_notify when they give up. So the control connection must be there still a
//     moment after the end arrived, without an ABOR: a client that is gone waits for no
//     answer. Only of all that ALLO announced no more is asked.
//   - With TLS, crypto/tls says io.EOF at the end of a record without close_notify, as
//     many clients never send it. Of one that has sent it before, that is a break.
//   - If ALLO announced a size, fewer bytes are a break.
//   - The library gives a data connection no deadline. Here nothing for a minute is a
//     break: a camera that was switched off sends neither FIN nor reset.
//
// # What becomes of the rest
//
// An upload that broke off is kept for as long as ingest keeps any, and goes on with
// REST and STOR, or with SIZE and APPE. SIZE tells one byte less than there is, and
// that byte may come twice: a client that compares sizes must never take for stored
// what was not acknowledged. A file that is stored is gone on with in the same way,
// from a copy of its bytes; the shorter one stays as a version.
//
// Data connections are made by the client only, and taken from the address of its
// control connection only: PORT and EPRT are refused, so the box connects to nobody.
package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ingest"
	"yunbox.local/storage"
)

// Limits of the gateway. A zero field takes its default.
type Limits struct {
	Conns          int           // control connections at a time: 64
	ConnsPerSource int           // of one address: 16
	SignIn         time.Duration // from connecting to being signed in: a minute
	Idle           time.Duration // of a control connection without a transfer, to the second: 5 minutes
	DataIdle       time.Duration // of a data connection: a minute
	Recheck        time.Duration // after which a running upload's password must still be good: half a second
	Drain          time.Duration // for running transfers when the box stops: 5 seconds
}

func (l Limits) withDefaults() Limits {
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if l.Conns <= 0 {
		l.Conns = 64
	}
	if l.ConnsPerSource <= 0 {
		l.ConnsPerSource = 16
	}
	or(&l.SignIn, time.Minute)
	or(&l.Idle, 5*time.Minute)
	or(&l.DataIdle, time.Minute)
	or(&l.Recheck, 500*time.Millisecond)
	or(&l.Drain, 5*time.Second)
	return l
}

// Options of New. All but Log, Plain, the ports and Limits are needed.
type Options struct {
	Accounts *account.Accounts
	Catalog  *catalog.Catalog
	Consent  *consent.Ledger
	Ingest   *ingest.Ingest
	Store    *storage.Store
	DB       *db.DB
	TLS      *tls.Config
	Log      *slog.Logger // nil: none
	// Plain lets clients in that know no TLS.
	Plain bool
	// LowPort and HighPort are the range of the data connections' ports; 0: any.
	LowPort, HighPort int
	Limits            Limits
}

// Gateway takes photos from cameras. It is safe for concurrent use.
type Gateway struct {
	Options
	settings ftpserver.Settings // what all sessions have in common

	sessions sync.WaitGroup // and their transfers

	mu      sync.Mutex
	open    map[*session]struct{}
	sources map[netip.Addr]int
	running map[*upload]struct{}
}

// New returns a gateway that listens nowhere.
func New(opt Options) *Gateway {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.Limits = opt.Limits.withDefaults()
	g := &Gateway{Options: opt, open: map[*session]struct{}{}, sources: map[netip.Addr]int{}, running: map[*upload]struct{}{}}
	g.settings = ftpserver.Settings{
		IdleTimeout:       max(int(opt.Limits.Idle/time.Second), 1),
		ConnectionTimeout: 30, // seconds until the client must have made its data connection
		Banner:            banner,
		TLSRequired:       ftpserver.MandatoryEncryption,
		DisableActiveMode: true,
		DisableSite:       true,
		DisableSTAT:       true, // of the server: it tells the user name
		// Photos are no text: what a camera sends in "ASCII" is kept as it comes.
		DefaultTransferType: ftpserver.TransferTypeBinary, DisableASCIIConversion: true,
		PasvConnectionsCheck: ftpserver.IPMatchRequired,
	}
	if opt.Plain {
		g.settings.TLSRequired = ftpserver.ClearOrEncrypted
	}
	if opt.LowPort > 0 {
		g.settings.PassiveTransferPortRange = ftpserver.PortRange{Start: opt.LowPort, End: opt.HighPort}
	}
	return g
}

const banner = "yunbox: a drop box for cameras"

// Serve answers on l until ctx ends, then ends idle sessions at once and running
// transfers after Limits.Drain: what they have sent is kept for resumption. It
// returns when no session is left, nil unless l fails.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var err error
	var pause time.Duration
	for {
		var c net.Conn
		if c, err = l.Accept(); err == nil {
			pause = 0
			g.admit(c)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			break
		}
		// Out of descriptors, most likely: others give theirs back in a moment.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		g.Log.Warn("the camera gateway cannot take a connection", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	g.shutdown()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (g *Gateway) shutdown() {
	g.end(func(s *session) bool { return g.uploadIn(s) == nil })
	over := make(chan struct{})
	go func() {
		g.sessions.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(g.Limits.Drain):
		g.end(func(*session) bool { return true })
		<-over
	}
}

// end closes the sessions for which match holds.
func (g *Gateway) end(match func(*session) bool) {
	g.mu.Lock()
	var list []*session
	for s := range g.open {
		list = append(list, s)
	}
	g.mu.Unlock()
	for _, s := range list {
		if match(s) {
			s.close()
		}
	}
}

// uploadIn returns the upload that runs in s, nil if there is none.
func (g *Gateway) uploadIn(s *session) *upload {
	g.mu.Lock()
	defer g.mu.Unlock()
	for u := range g.running {
		if u.s == s {
			return u
		}
	}
	return nil
}

// admit begins a session on c, or says that there are too many.
func (g *Gateway) admit(c net.Conn) {
	from := addrOf(c.RemoteAddr())
	g.mu.Lock()
	full := len(g.open) >= g.Limits.Conns || g.sources[from] >= g.Limits.ConnsPerSource
	var s *session
	if !full {
		s = newSession(g, c, from)
		g.open[s] = struct{}{}
		g.sources[from]++
		g.sessions.Add(1)
	}
	g.mu.Unlock()
	if full {
		// A second is more than the line needs; whoever does not read it waits for nothing.
		c.SetDeadline(time.Now().Add(time.Second))
		c.Write([]byte("421 Too many connections. Close some, or try again in a minute.\r\n"))
		c.Close()
		return
	}
	s.serve()
}

// leave is the end of a session.
func (g *Gateway) leave(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, there := g.open[s]; !there {
		return
	}
	delete(g.open, s)
	if g.sources[s.from]--; g.sources[s.from] == 0 {
		delete(g.sources, s.from)
	}
	g.sessions.Done()
}

// transfers lets the gateway's end wait for a transfer of s, too, unless s is over.
func (g *Gateway) transfers(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, there := g.open[s]
	if there {
		g.sessions.Add(1)
	}
	return there
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
