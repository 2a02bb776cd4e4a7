// Package mail sends e-mails by the one mail server that the settings name. Without one
// the box sends none. What is sent, to whom and whether it may be is for its callers.
package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"yunbox.local/daemon/problem"
)

// Patience is how long one e-mail may take.
const Patience = 30 * time.Second

// Options of New.
type Options struct {
	// Server is "HOST:PORT" of the mail server; "": there is none.
	Server string
	// From is the sender's address, with or without a name.
	From string
	// User signs in at the server; "": nobody does.
	User string
	// Implicit speaks TLS from the first byte (RFC 8314); else STARTTLS is insisted on.
	Implicit bool
	// Roots are further authorities to trust; nil: those of the system.
	Roots *x509.CertPool
	// Password returns that of User; it is asked for each e-mail.
	Password func() (string, error)
}

// Mailer sends e-mails. It is safe for concurrent use.
type Mailer struct {
	opt  Options
	host string
	port int
	from *netmail.Address
}

// New checks the settings. It connects to nobody.
func New(opt Options) (*Mailer, error) {
	m := &Mailer{opt: opt}
	if opt.Server == "" {
		return m, nil
	}
	host, port, err := net.SplitHostPort(opt.Server)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" {
		return nil, fmt.Errorf("mail: server: %q is not HOST:PORT", opt.Server)
	}
	m.host, m.port = host, int(n)
	if m.from, err = netmail.ParseAddress(opt.From); err != nil || !plain(opt.From) {
		return nil, fmt.Errorf("mail: from: %q is no address", opt.From)
	}
	return m, nil
}

// Server is the name of the mail server, who sees all that is sent; "": there is none.
func (m *Mailer) Server() string { return m.host }

// plain reports whether a text can stand in a header: no control characters.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 })
}

// Send gives one e-mail to the server and returns when that has taken it. An error for
// which Final is true will not go away by itself.
func (m *Mailer) Send(ctx context.Context, to, subject, body string) error {
	if m.host == "" {
		return &finalError{errors.New("mail: there is no mail server in the settings")}
	}
	addr, err := netmail.ParseAddress(to)
	if err != nil || !plain(to) || addr.Name != "" || !plain(subject) {
		return &finalError{errors.New("mail: the address or the subject cannot stand in a header")} // neither is repeated: it may end in a log
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := errors.Join(msg.FromFormat(m.from.Name, m.from.Address), msg.To(addr.Address)); err != nil {
		return &finalError{errors.New("mail: the address is not one that mail servers take")}
	}
	msg.Subject(subject)
	msg.SetDate()
	// Of ours alone: the library's would name this computer.
	id := make([]byte, 16)
	rand.Read(id)
	_, domain, _ := strings.Cut(m.from.Address, "@")
	msg.SetMessageIDWithValue(hex.EncodeToString(id) + "@" + domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	msg.SetBodyString(mail.TypeTextPlain, body)

	client, err := m.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return judge(err)
	}
	return nil
}

func (m *Mailer) client() (*mail.Client, error) {
	opts := []mail.Option{
		mail.WithPort(m.port), mail.WithTimeout(Patience), mail.WithHELO("[127.0.0.1]"), mail.WithoutNoop(),
		mail.WithTLSConfig(&tls.Config{ServerName: m.host, RootCAs: m.opt.Roots, MinVersion: tls.VersionTLS12}),
		mail.WithTLSPolicy(mail.TLSMandatory),
	}
	if m.opt.Implicit {
		opts = append(opts, mail.WithSSL())
	}
	if m.opt.User != "" {
		password, err := m.opt.Password()
		if err != nil {
			return nil, err
		}
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.opt.User), mail.WithPassword(password))
	}
	c, err := mail.NewClient(m.host, opts...)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return c, nil
}

type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// Final reports whether trying again is of no use: the server or the address refuse
// this e-mail for good.
func Final(err error) bool {
	var f *finalError
	return errors.As(err, &f)
}

// judge keeps of a failure what may be said: the server's words repeat addresses.
func judge(err error) error {
	var e *mail.SendError
	if !errors.As(err, &e) {
		return &problem.Error{Kind: problem.Unavailable, Op: "mail.send", Title: "The mail server could not be reached, or did not let the box in",
			Hint: "Look at the settings under [mail], and whether its password is right.", Err: redacted(err)}
	}
	out := fmt.Errorf("mail: refused: %s, code %d", e.Reason, e.ErrorCode())
	if !e.IsTemp() && e.ErrorCode() >= 500 {
		return &finalError{out}
	}
	return out
}

// redacted is a failure of the connection: those of the network have no addresses of
// people, others might.
func redacted(err error) error {
	var n net.Error
	var c *tls.CertificateVerificationError
	switch {
	case errors.As(err, &c):
		return c
	case errors.As(err, &n):
		return err
	}
	return errors.New("the server's answer was not as expected")
}
