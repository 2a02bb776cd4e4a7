package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// A pin is the SHA-256 of the public key (SPKI) of a box's own certificate
// authority: the identity of the box. The zero pin trusts nobody.
type pin [sha256.Size]byte

// parsePin reads a fingerprint as it stands on labels and in URIs (base64url), or
// in hex with or without colons.
func parsePin(s string) (pin, error) {
	s = strings.TrimSpace(s)
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) != sha256.Size {
		b, err = hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	}
	if err == nil && len(b) == sha256.Size && pin(b) != (pin{}) {
		return pin(b), nil
	}
	return pin{}, usagef("that is no fingerprint of a box's key: 43 characters, as on its label or in `yunboxctl --state DIR status`")
}

// String is the fingerprint as on the label, empty for the zero pin.
func (p pin) String() string {
	if p == (pin{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(p[:])
}

func (p pin) words() string {
	w := ident.Words(p)
	return strings.Join(w[:], " ")
}

// tlsConfig trusts one box and nobody else: the presented chain must hold the
// authority with the pinned key, and the certificate must verify under it for
// host. The system's authorities have no say.
func (p pin) tlsConfig(host string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		ClientSessionCache: tls.NewLRUClientSessionCache(16),
		InsecureSkipVerify: true, // VerifyConnection does it, also for resumed sessions
		VerifyConnection:   func(cs tls.ConnectionState) error { return p.verify(cs, host) },
	}
}

func (p pin) verify(cs tls.ConnectionState, host string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate was presented")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range cs.PeerCertificates {
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		if c.IsCA && bytes.Equal(sum[:], p[:]) {
			roots.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
	}
	if !found {
		return wrongKey("Another key than the pinned one answers at this address. Nothing was sent to it.")
	}
	leaf := cs.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		CurrentTime: within(time.Now(), leaf.NotBefore, leaf.NotAfter), Roots: roots, Intermediates: between, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return &problem.Error{
			Kind: problem.Forbidden, Op: "trust", Title: "The box's certificate does not fit this address",
			Detail: err.Error() + ".", Err: err,
			Hint: "The key is the right one. Use the address that `yunboxctl --state DIR status` shows on the box.",
		}
	}
	return nil
}

// within returns the moment from first to last that is nearest to t. The clock of the
// box or of this machine may never have been set, and a box makes itself a certificate
// whenever it needs one: its dates prove nothing that the pinned key does not.
func within(t, first, last time.Time) time.Time {
	switch {
	case t.Before(first):
		return first
	case t.After(last):
		return last
	}
	return t
}

func wrongKey(detail string) error {
	return &problem.Error{
		Kind: problem.Forbidden, Op: "trust", Title: "This is not the box that you know", Detail: detail,
		Hint: "If the box was reset or replaced, compare its label and log in again with --fingerprint. Otherwise somebody on your network pretends to be your box.",
	}
}

// presentedPin looks which key answers at an address, and sends it nothing.
func presentedPin(ctx context.Context, address string) (pin, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return pin{}, unreachable(err)
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	for _, c := range chain {
		if c.IsCA && c.CheckSignatureFrom(c) == nil {
			return sha256.Sum256(c.RawSubjectPublicKeyInfo), nil
		}
	}
	return pin{}, &problem.Error{
		Kind: problem.Forbidden, Op: "trust", Title: "No box answers at this address",
		Detail: "Its certificate chain holds no authority of its own.", Hint: "Check the address and the port.",
	}
}

// isLoopback reports whether host means this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// choosePin finds the key that a box at u must have: --fingerprint, or what the way
// of finding the box proved, the pairing code, its socket or the saved profile. On
// the loopback nobody on the network can stand in between, so there the key that
// answers is taken. Else a person compares six words, or the connection is refused.
func (a *app) choosePin(ctx context.Context, u *url.URL, known pin) (pin, error) {
	if a.fingerprint != "" {
		p, err := parsePin(a.fingerprint)
		if err == nil && known != (pin{}) && known != p {
			err = wrongKey("The fingerprint that was given is another than the one that is known of this box.")
		}
		return p, err
	}
	if known != (pin{}) {
		return known, nil
	}
	if a.state != "" {
		s, err := a.localStatus(ctx)
		if err != nil {
			return pin{}, err
		}
		return parsePin(s.Fingerprint)
	}
	if p, err := a.loadProfile(); err == nil && p.Box == u.String() && p.Fingerprint != "" {
		return parsePin(p.Fingerprint)
	}
	if u.Scheme == "http" { // allowed for the loopback only, and there is no key
		return pin{}, nil
	}
	presented, err := presentedPin(ctx, u.Host)
	if err != nil {
		return pin{}, err
	}
	if isLoopback(u.Hostname()) {
		return presented, nil
	}
	yes, asked := a.ask(fmt.Sprintf("The box at %s shows a key that is not known here. Its six words are\n\n    %s\n\nAre they the words on the box's label or page?", u.Host, presented.words()))
	switch {
	case yes:
		return presented, nil
	case asked:
		return pin{}, &problem.Error{Kind: problem.Forbidden, Op: "trust", Title: "The key was not accepted", Hint: "Nothing was sent. Scan or type the label's fingerprint: --fingerprint."}
	}
	return pin{}, &problem.Error{
		Kind: problem.Forbidden, Op: "trust", Title: "It is not known whether this is the right box",
		Detail: "No fingerprint of its key is known here, and nobody can be asked to compare it.",
		Hint:   "Pass --fingerprint (or YUNBOX_FINGERPRINT) from the box's label, or bind with --pair and the label's URI.",
	}
}

// pairing is what the QR code on a box's label says.
type pairing struct {
	id     string
	key    pin
	secret string
}

// parsePairing reads yunbox://pair?v=1&id=…&k=…&s=…&n=….
func parsePairing(s string) (pairing, error) {
	return parseURI(s, "pair", "pairing URI", "as in the label's QR code")
}

// parseInvitation reads yunbox://join?v=1&id=…&k=…&s=….
func parseInvitation(s string) (pairing, error) {
	return parseURI(s, "join", "invitation", "as somebody who manages the box gets it with `yunboxctl invite`")
}

func parseURI(s, host, what, from string) (pairing, error) {
	bad := usagef("that is no %s: yunbox://%s?v=1&id=…&k=…&s=…, %s", what, host, from)
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Scheme != "yunbox" || u.Host != host {
		return pairing{}, bad
	}
	q := u.Query()
	if v := q.Get("v"); v != "1" {
		return pairing{}, usagef("this %s is of a newer kind: use a newer yunboxctl", what)
	}
	key, err := parsePin(q.Get("k"))
	if err != nil || q.Get("s") == "" || q.Get("id") == "" {
		return pairing{}, bad
	}
	return pairing{id: q.Get("id"), key: key, secret: q.Get("s")}, nil
}
