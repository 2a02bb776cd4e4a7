package disclosure

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Limits of what a server elsewhere can cost.
const (
	// MaxAnswer is how many bytes of an answer are read.
	MaxAnswer = 512 << 10
	// Patience is how long a request may take in all.
	Patience = 15 * time.Second
)

// ClientOptions of Client.
type ClientOptions struct {
	// Hosts are names that the settings give: they may have addresses of the home
	// network. Every other host must be on the internet, so that no answer from
	// elsewhere sends the box knocking at its neighbours.
	Hosts []string
	// Roots are further authorities that are trusted; nil: those of the system alone.
	Roots *x509.CertPool
	// MaxAnswer and Patience are other limits than those above; 0: those.
	MaxAnswer int64
	Patience  time.Duration
	// AnyServer takes the word of any server, for what is signed by itself.
	AnyServer bool
}

// Client returns a client for HTTPS whose every request needs an Entry in its context,
// see With: the entry is durable before a byte is sent. It follows no redirect, keeps no
// connection, sends no cookie, and reads MaxAnswer bytes within Patience.
func (r *Register) Client(opt ClientOptions) *http.Client {
	patience, most := cmp.Or(opt.Patience, Patience), cmp.Or(opt.MaxAnswer, MaxAnswer)
	plain := &net.Dialer{Timeout: Patience / 3}
	public := &net.Dialer{Timeout: Patience / 3, Control: func(_, address string, _ syscall.RawConn) error {
		if at, err := netip.ParseAddrPort(address); err != nil || !isPublic(at.Addr()) {
			return errors.New("the host has an address of a home network")
		}
		return nil
	}}
	return &http.Client{
		Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Transport: &recording{register: r, most: most, next: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if slices.ContainsFunc(opt.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
					return plain.DialContext(ctx, network, address)
				}
				return public.DialContext(ctx, network, address)
			},
			TLSClientConfig:        &tls.Config{RootCAs: opt.Roots, MinVersion: tls.VersionTLS12, InsecureSkipVerify: opt.AnyServer},
			TLSHandshakeTimeout:    Patience / 3,
			DisableKeepAlives:      true, // an idle box holds no connection
			MaxResponseHeaderBytes: 32 << 10,
		}},
	}
}

type entryKey struct{}

// With returns a context whose requests by Client are written down as e. Recipient is
// the host that each is sent to.
func With(ctx context.Context, e Entry) context.Context {
	return context.WithValue(ctx, entryKey{}, e)
}

type recording struct {
	register *Register
	next     http.RoundTripper
	most     int64
}

// RoundTrip implements http.RoundTripper.
func (t *recording) RoundTrip(r *http.Request) (*http.Response, error) {
	e, ok := r.Context().Value(entryKey{}).(Entry)
	if !ok {
		return nil, errors.New("disclosure: a request that does not say what it is for")
	}
	if r.URL.Scheme != "https" {
		return nil, refused("Its address does not begin with https.")
	}
	if e.Recipient = strings.ToLower(r.URL.Hostname()); len(e.Recipient) > 255 {
		return nil, refused("The name of its host is too long.")
	}
	if err := t.register.Note(r.Context(), e); err != nil {
		return nil, err
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &limited{Reader: io.LimitReader(resp.Body, t.most+1), Closer: resp.Body, most: t.most}
	return resp, nil
}

// limited fails where an answer is longer than it may be.
type limited struct {
	io.Reader
	io.Closer
	n, most int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if l.n += int64(n); l.n > l.most {
		return 0, refused("Its answer is too long.")
	}
	return n, err
}

// notPublic are ranges that Go's own predicates do not know (IANA special-purpose
// registries): shared address space, protocol assignments, benchmarking, documentation,
// reserved, and ways to write an IPv4 address in IPv6.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2001:db8::/32"),
}

// isPublic reports whether an address is one of the internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}
