// Package mailtest runs a mail server in a test: a real one, by a library that the box
// does not use, with TLS.
package mailtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// User and Password open the server.
const (
	User     = "box"
	Password = "mail server's password 4711"
)

// Message is what came.
type Message struct {
	From, To string // of the envelope
	Header   mail.Header
	Body     string // as it was sent
	Raw      string
	Helo     string
}

// Server is a mail server on this machine.
type Server struct {
	Addr  string // "127.0.0.1:PORT"
	Roots *x509.CertPool
	PEM   []byte // of the same

	mu     sync.Mutex
	mails  []Message
	refuse []error       // of the next messages, nil lets one in
	ready  chan struct{} // one for each message
}

// Start runs a server until the test ends. implicit speaks TLS from the first byte;
// plain knows no TLS at all.
func Start(t testing.TB, implicit, plain bool) *Server {
	t.Helper()
	s := &Server{Roots: x509.NewCertPool(), ready: make(chan struct{}, 100)}
	cert := certificate(t)
	s.Roots.AddCert(cert.Leaf)
	s.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw})
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{server: s, conn: c}, nil }))
	server.Domain = "mail.example"
	server.AllowInsecureAuth = plain
	server.ErrorLog = quiet{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = ln.Addr().String()
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	switch {
	case implicit:
		ln = tls.NewListener(ln, conf)
	case !plain:
		server.TLSConfig = conf
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return s
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Refuse answers the next messages with errors, one each; nil lets one in.
func (s *Server) Refuse(answers ...error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = append(s.refuse, answers...)
}

// Answer is an answer of the protocol.
func Answer(code int) error { return &smtp.SMTPError{Code: code, Message: "not this one"} }

// Messages returns what came so far.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message{}, s.mails...)
}

// Wait returns once another message came, or was refused.
func (s *Server) Wait(t testing.TB) {
	t.Helper()
	select {
	case <-s.ready:
	case <-time.After(20 * time.Second):
		t.Fatal("no e-mail came")
	}
}

type session struct {
	server   *Server
	conn     *smtp.Conn
	in       bool
	from, to string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != User || password != Password {
			return errors.New("no")
		}
		s.in = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.in {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if len(s.server.refuse) > 0 {
		err := s.server.refuse[0]
		s.server.refuse = s.server.refuse[1:]
		if err != nil {
			s.server.ready <- struct{}{}
			return err
		}
	}
	s.to += to
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := Message{From: s.from, To: s.to, Raw: string(raw), Helo: s.conn.Hostname()}
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	m.Header = parsed.Header
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		return err
	}
	m.Body = string(body)
	s.server.mu.Lock()
	s.server.mails = append(s.server.mails, m)
	s.server.mu.Unlock()
	s.server.ready <- struct{}{}
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }
