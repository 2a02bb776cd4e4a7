package httpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"yunbox.local/storage/vfs"
)

const (
	// leafLife is the longest that clients accept of any authority's certificates
	// (CA/Browser Forum Baseline Requirements §6.3.2).
	leafLife = 397 * 24 * time.Hour
	// leafSlack allows for clients whose clock is behind.
	leafSlack = 48 * time.Hour
	leafRenew = leafLife / 3
	// maxNames bounds the size of the certificate on a computer with very many
	// addresses.
	maxNames = 64
)

// A leaf is the certificate that clients see now.
type leaf struct {
	tls   *tls.Certificate
	names []string
	addrs []netip.Addr
	begin time.Time
	end   time.Time
}

// fits reports whether the leaf is good for a client that knows the box by these.
func (l *leaf) fits(now time.Time, names []string, local netip.Addr) bool {
	if now.Before(l.begin) || now.After(l.end.Add(-leafRenew)) {
		return false
	}
	if local.IsValid() && !slices.Contains(l.addrs, local) {
		return false
	}
	for _, n := range names {
		if !slices.Contains(l.names, n) {
			return false
		}
	}
	return true
}

// certificate returns the leaf for a client, making a new one if the old one
// runs out or lacks a name of the box or the address to which the client
// connected. So nothing has to watch the network or the calendar: a box whose
// address changed has the right certificate for the first who asks, and an idle
// box does nothing.
func (id *Identity) certificate(hello *tls.ClientHelloInfo, names []string, failed func(error)) (*tls.Certificate, error) {
	var local netip.Addr
	if hello.Conn != nil {
		// The two loopback addresses are in every leaf; the sixteen million others are
		// no reason to make one.
		if ip := addrOf(hello.Conn.LocalAddr()); ip.IsValid() && !ip.IsLoopback() && id.permitsAddr(ip) {
			local = ip
		}
	}
	names = id.leafNames(names)
	if l := id.leaf.Load(); l != nil && l.fits(id.now(), names, local) {
		return l.tls, nil
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	old := id.leaf.Load()
	if old != nil && old.fits(id.now(), names, local) {
		return old.tls, nil
	}
	l, err := id.makeLeaf(old, names, local)
	if err != nil {
		return nil, err
	}
	id.leaf.Store(l)
	// Keeping it spares people who made their browser accept exactly this one from
	// being asked again after a restart. A full disk must not keep them out.
	if err := id.storeLeaf(l); err != nil {
		failed(err)
	}
	return l.tls, nil
}

// leafNames are the names in a leaf: the box's own, the computer's, and those
// that the caller knows, as far as the authority may speak for them.
func (id *Identity) leafNames(more []string) []string {
	names := []string{id.HostName(), "localhost"}
	for _, n := range append(id.systemNames(), more...) {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if id.permitsName(n) && !slices.Contains(names, n) && len(names) < maxNames {
			names = append(names, n)
		}
	}
	return names
}

// systemNames are what the operating system, and its own mDNS responder, call
// this computer.
func (id *Identity) systemNames() []string {
	if id.hostname == "" {
		return nil
	}
	first, _, _ := strings.Cut(id.hostname, ".")
	return []string{id.hostname, first + ".local"}
}

func (id *Identity) makeLeaf(old *leaf, names []string, local netip.Addr) (*leaf, error) {
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	for _, ip := range append([]netip.Addr{local}, ownAddrs()...) {
		// A public address would break the whole chain: Go, among others, checks
		// every name of the leaf against the authority's constraints.
		if ip.IsValid() && id.permitsAddr(ip) && !slices.Contains(addrs, ip) && len(addrs) < maxNames {
			addrs = append(addrs, ip)
		}
	}
	var key *ecdsa.PrivateKey
	now := id.now()
	if old != nil && !now.Before(old.begin) && !now.After(old.end.Add(-leafRenew)) {
		key = old.tls.PrivateKey.(*ecdsa.PrivateKey) // only names or addresses changed
	} else {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	serial, err := newSerialNumber()
	if err != nil {
		return nil, err
	}
	begin := now.Add(-leafSlack).UTC().Truncate(time.Second)
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id.HostName()},
		NotBefore:    begin,
		NotAfter:     begin.Add(leafLife - time.Second), // both ends count
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names,
	}
	for _, ip := range addrs {
		cert.IPAddresses = append(cert.IPAddresses, ip.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, id.ca, &key.PublicKey, id.key)
	if err != nil {
		return nil, err
	}
	return id.newLeaf(der, key)
}

func (id *Identity) newLeaf(der []byte, key *ecdsa.PrivateKey) (*leaf, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := cert.CheckSignatureFrom(id.ca); err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("certificate and key do not belong together")
	}
	l := &leaf{
		// With the authority's certificate, so that a client which knows only the
		// authority's key can check the chain.
		tls:   &tls.Certificate{Certificate: [][]byte{der, id.ca.Raw}, PrivateKey: key, Leaf: cert},
		names: cert.DNSNames, begin: cert.NotBefore, end: cert.NotAfter,
	}
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			l.addrs = append(l.addrs, a.Unmap())
		}
	}
	return l, nil
}

func (id *Identity) storeLeaf(l *leaf) error {
	key, err := encodeKey(l.tls.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	return vfs.WriteFile(id.keys, leafName, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.tls.Leaf.Raw}), key...), keyMode)
}

// loadLeaf reads the last leaf. One that cannot be used is not an error: the
// first client gets a new one.
func (id *Identity) loadLeaf() error {
	data, err := vfs.ReadFile(id.keys, leafName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	key, err := decodeKey(rest)
	if err != nil {
		return nil
	}
	if l, err := id.newLeaf(block.Bytes, key); err == nil {
		id.leaf.Store(l)
	}
	return nil
}

// ownAddrs are the addresses of this computer now, without zones.
func ownAddrs() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the certificate is still good for names and for where clients connect to
	}
	var out []netip.Addr
	for _, a := range list {
		if ip := addrOf(a); ip.IsValid() {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// addrOf is the IP address in a, unmapped and without its zone; invalid if there
// is none.
func addrOf(a net.Addr) netip.Addr {
	var ip netip.Addr
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.AddrPort().Addr()
	case *net.IPNet:
		ip, _ = netip.AddrFromSlice(a.IP)
	case nil:
	default:
		if p, err := netip.ParseAddrPort(a.String()); err == nil {
			ip = p.Addr()
		}
	}
	return ip.Unmap().WithZone("")
}
