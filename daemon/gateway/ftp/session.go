package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/problem"
)

// A session is one control connection. Each has a server of the library for itself,
// which makes the library's callbacks know whose they are.
type session struct {
	g       *Gateway
	from    netip.Addr
	control *control
	context ftpserver.ClientContext // set once, before any command

	signedIn atomic.Bool

	mu       sync.Mutex
	listener *passive // of the data connection to come; nil: none
	data     *dataConn

	// For the goroutine of the command that runs, of which there is one at a time.
	announced int64            // by ALLO, for the next STOR; -1: nothing
	notifies  bool             // the client ends TLS data connections with close_notify
	told      map[string]int64 // sizes that SIZE told, at most maxTold
}

// maxTold bounds what a session remembers of its SIZE commands.
const maxTold = 64

func newSession(g *Gateway, c net.Conn, from netip.Addr) *session {
	s := &session{g: g, from: from, announced: -1, told: map[string]int64{}}
	s.control = &control{Conn: c, s: s, signInBy: time.Now().Add(g.Limits.SignIn)}
	return s
}

// serve lets the library read the commands, in goroutines of its own.
func (s *session) serve() {
	server := ftpserver.NewFtpServer(s)
	server.Logger = slog.New(faults{s.g.Log})
	err := server.Listen() // not really: it takes the listener from the settings
	if err == nil {
		err = server.Serve() // returns once the listener has given its one connection
	}
	if err != nil {
		s.g.Log.Error("a camera's connection could not be served", "err", err)
		s.control.Close()
		s.g.leave(s)
	}
}

// close ends the session and its transfer.
func (s *session) close() {
	s.breakData()
	s.control.Close()
}

// breakData ends the data connection, so that a transfer gets an error.
func (s *session) breakData() {
	s.mu.Lock()
	l, d := s.listener, s.data
	s.mu.Unlock()
	if l != nil {
		l.Close()
	}
	if d != nil {
		d.Close()
	}
}

// GetSettings implements ftpserver.MainDriver.
func (s *session) GetSettings() (*ftpserver.Settings, error) {
	settings := s.g.settings
	settings.Listener = &single{conn: s.control}
	return &settings, nil
}

// GetTLSConfig implements ftpserver.MainDriver. The library would put TLS into TLS as
// often as AUTH is said, and each layer costs memory before anybody has signed in.
func (s *session) GetTLSConfig() (*tls.Config, error) {
	if c := s.context; c != nil && c.GetLastCommand() == "AUTH" && c.HasTLSForControl() {
		return nil, errors.New("this connection is encrypted already")
	}
	return s.g.TLS, nil
}

// ClientConnected implements ftpserver.MainDriver.
func (s *session) ClientConnected(c ftpserver.ClientContext) (string, error) {
	s.context = c
	return banner, nil
}

// ClientDisconnected implements ftpserver.MainDriver. The library closes the data
// connection when it returns.
func (s *session) ClientDisconnected(ftpserver.ClientContext) {
	if u := s.g.uploadIn(s); u != nil {
		u.settle(context.Background())
	}
	s.breakData()
	s.g.leave(s)
}

// AuthUser implements ftpserver.MainDriver.
func (s *session) AuthUser(_ ftpserver.ClientContext, user, password string) (ftpserver.ClientDriver, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	camera, err := s.g.Accounts.AuthenticateCamera(ctx, user, password, s.from.String())
	if err != nil {
		return nil, s.refuse(err)
	}
	s.signedIn.Store(true)
	return newDropBox(s, camera), nil
}

// WrapPassiveListener implements ftpserver.MainDriverExtensionPassiveWrapper. The
// listener before is closed here: the library forgets one that its client cannot
// be told of (PASV over IPv6).
func (s *session) WrapPassiveListener(l net.Listener) (net.Listener, error) {
	p := &passive{Listener: l, s: s}
	s.mu.Lock()
	old := s.listener
	s.listener = p
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return p, nil
}

// refuse makes of err what the client is told: everything that a person needs, and
// nothing of the box's inside.
func (s *session) refuse(err error) error {
	if err == nil {
		return nil
	}
	p := problem.As(err)
	if p.Kind == problem.Internal || p.Kind == problem.Unavailable {
		s.g.Log.Error("a camera was refused for a fault of the box", "err", err)
	}
	return &refusal{p}
}

// refusal is a problem as the text of a reply.
type refusal struct{ p *problem.Error }

// Error implements error.
func (r *refusal) Error() string {
	text := strings.TrimSuffix(r.p.Title, ".") + "."
	if purpose, ok := r.p.Members["purpose"].(string); ok {
		text += " Purpose: " + purpose + "."
	}
	for _, more := range []string{r.p.Detail, r.p.Hint} {
		if more != "" {
			text += " " + more
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// Unwrap gives the library what it has reply codes for: 552, 553, else 550.
func (r *refusal) Unwrap() []error {
	switch r.p.Kind {
	case problem.Quota, problem.Full, problem.TooLarge:
		return []error{r.p, ftpserver.ErrStorageExceeded}
	case problem.Invalid:
		return []error{r.p, ftpserver.ErrFileNameNotAllowed}
	}
	return []error{r.p}
}

// single is a listener that gives one connection and is closed then.
type single struct {
	conn net.Conn
	mu   sync.Mutex
	done bool
}

// Accept implements net.Listener.
func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	}
	l.done = true
	return l.conn, nil
}

// Close implements net.Listener.
func (l *single) Close() error { return nil }

// Addr implements net.Listener.
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// control is a control connection.
type control struct {
	net.Conn
	s        *session
	signInBy time.Time
}

// SetDeadline implements net.Conn. The library calls it before each command with
// the idle timeout, which a stranger must not stretch by talking.
func (c *control) SetDeadline(t time.Time) error {
	if !c.s.signedIn.Load() && t.After(c.signInBy) {
		t = c.signInBy
	}
	return c.Conn.SetDeadline(t)
}

// passive listens for a data connection from the address of the control
// connection. Others are dropped, so that nobody can take the camera's place.
type passive struct {
	net.Listener
	s *session
}

// Accept implements net.Listener.
func (p *passive) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if addrOf(c.RemoteAddr()) != p.s.from {
			p.s.g.Log.Warn("a data connection came from another address than its camera")
			c.Close()
			continue
		}
		d := &dataConn{Conn: c, idle: p.s.g.Limits.DataIdle}
		p.s.mu.Lock()
		p.s.data = d
		p.s.mu.Unlock()
		return d, nil
	}
}

// dataConn is a data connection: it ends when nothing moves, and knows whether and
// when the other side sent FIN.
type dataConn struct {
	net.Conn
	idle time.Duration
	fin  atomic.Bool

	// For the goroutine that reads.
	reads int
	ended time.Time // by when FIN had arrived, maybe before what came ahead of it was read
}

// lookEvery is after how many reads a dataConn asks whether FIN has arrived.
const lookEvery = 8

// Read implements io.Reader.
func (d *dataConn) Read(b []byte) (int, error) {
	if err := d.SetReadDeadline(time.Now().Add(d.idle)); err != nil {
		return 0, err
	}
	n, err := d.Conn.Read(b)
	d.reads++
	switch {
	case errors.Is(err, io.EOF):
		d.fin.Store(true)
		d.endedBy(time.Now())
	case err == nil && d.reads%lookEvery == 0 && d.ended.IsZero() && !alive(d.Conn):
		d.endedBy(time.Now())
	}
	return n, err
}

func (d *dataConn) endedBy(now time.Time) {
	if d.ended.IsZero() {
		d.ended = now
	}
}

// Write implements io.Writer.
func (d *dataConn) Write(b []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(d.idle)); err != nil {
		return 0, err
	}
	return d.Conn.Write(b)
}

// faults lets of the library's log pass only that a command panicked, without what
// the client said: the rest is names of files and of people.
type faults struct{ log *slog.Logger }

// Enabled implements slog.Handler.
func (faults) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (f faults) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "Internal command handling error" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "command" {
				f.log.Error("a command of a camera failed inside the library", "command", a.Value)
			}
			return true
		})
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (f faults) WithAttrs([]slog.Attr) slog.Handler { return f }

// WithGroup implements slog.Handler.
func (f faults) WithGroup(string) slog.Handler { return f }

// folderOf is where a camera's files lie among those of its owner: two cameras
// count their photos from the same number.
func folderOf(c account.Camera) string {
	name := strings.ToValidUTF8(c.Name[:min(len(c.Name), 240)], "")
	name = strings.TrimSpace(strings.ReplaceAll(name, "/", "-"))
	if name == "." || name == ".." || name == "" {
		name = "camera"
	}
	return "Camera/" + name
}
