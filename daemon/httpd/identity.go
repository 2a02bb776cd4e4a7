package httpd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs"
)

const (
	caKeyName  = "ca.key"
	caCopyName = "ca.key.copy" // the key once more: nothing else on the disk could replace it
	caCertName = "ca.crt"
	leafName   = "leaf.pem" // certificate and key in one file: never a pair that does not match
)

// Identity is who the box is: the key of its own certificate authority, which is
// made once and never changes. Clients pin that key; the certificates below it
// come and go. It is safe for concurrent use.
//
// The authority is name-constrained (RFC 5280 §4.2.1.10): even whoever steals its
// key can only speak for names and addresses of a local network, not for the rest
// of the internet, so a person can trust it without fear.
type Identity struct {
	keys     vfs.FS
	now      func() time.Time
	hostname string // the operating system's, lower case; "" if it is none
	key      *ecdsa.PrivateKey
	ca       *x509.Certificate
	sum      [32]byte // SHA-256 of the authority's public key (SPKI)
	mended   []string // files that were damaged or missing

	mu   sync.Mutex // one certificate is made at a time
	leaf atomic.Pointer[leaf]
}

// LoadIdentity reads the identity kept in dir, which is made if missing, with
// everything in it, at the first start.
func LoadIdentity(dir string, now func() time.Time) (*Identity, error) {
	if err := vfs.CreateDir(dir); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	keys, err := vfs.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	id, err := openIdentity(keys, now)
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	return id, nil
}

// HasIdentity reports whether there is an identity in dir, or what is left of one. If
// not, LoadIdentity makes one.
func HasIdentity(dir string) (bool, error) {
	for _, name := range []string{caKeyName, caCopyName, caCertName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("identity: %w", err)
		}
	}
	return false, nil
}

func openIdentity(keys vfs.FS, now func() time.Time) (*Identity, error) {
	id := &Identity{keys: keys, now: now, hostname: systemName()}
	if id.now == nil {
		id.now = time.Now
	}
	if err := id.loadAuthority(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := id.loadLeaf(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return id, nil
}

// Close lets go of the folder of keys.
func (id *Identity) Close() error {
	if c, ok := id.keys.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// Signer signs in the name of the box.
func (id *Identity) Signer() crypto.Signer { return id.key }

// Sum is the SHA-256 of the authority's public key (SubjectPublicKeyInfo, DER).
func (id *Identity) Sum() [32]byte { return id.sum }

// Fingerprint is Sum in base64url, as in the pairing URI.
func (id *Identity) Fingerprint() string { return base64.RawURLEncoding.EncodeToString(id.sum[:]) }

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// ID is the first 80 bits of Sum as 16 lower-case base32 characters (RFC 4648).
func (id *Identity) ID() string { return strings.ToLower(idEncoding.EncodeToString(id.sum[:10])) }

// Suffix is the first 16 bits of Sum as 4 upper-case hex digits: the "7F3A" in
// the box's names.
func (id *Identity) Suffix() string { return fmt.Sprintf("%X", id.sum[:2]) }

// HostName is the box's own name on the local network: "yunbox-7f3a.local".
func (id *Identity) HostName() string {
	return "yunbox-" + strings.ToLower(id.Suffix()) + ".local"
}

// Words are the first bits of Sum for people to compare.
func (id *Identity) Words() [6]string { return ident.Words(id.sum) }

// CertificatePEM is the authority's certificate, for people who want their
// browser to trust the box.
func (id *Identity) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.ca.Raw})
}

func systemName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !isHostName(name) {
		return ""
	}
	return name
}

// isHostName reports whether s can stand in a certificate (RFC 1123 §2.1).
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

// Mended names the files that were missing or damaged when the identity was loaded,
// and were made again from what is left of it.
func (id *Identity) Mended() []string { return slices.Clone(id.mended) }

// loadAuthority reads the key, its copy and the certificate. Any two that belong
// together mend the third; the key and its copy can do without a certificate. A new
// identity is made only where there is nothing at all.
func (id *Identity) loadAuthority() error {
	key, keyErr := id.readKey(caKeyName)
	spare, spareErr := id.readKey(caCopyName)
	ca, caErr := id.readAuthority()
	first := errors.Is(keyErr, fs.ErrNotExist) && errors.Is(spareErr, fs.ErrNotExist) && errors.Is(caErr, fs.ErrNotExist)
	of := func(k *ecdsa.PrivateKey) bool { return k != nil && ca != nil && k.PublicKey.Equal(ca.PublicKey) }
	is := func(k *ecdsa.PrivateKey) bool { return k != nil && k.Equal(id.key) }
	agree := key != nil && spare != nil && key.Equal(spare)
	switch {
	case first:
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		id.key = key
		if err := id.writeKey(caKeyName); err != nil {
			return err
		}
		spare = nil
	case agree, of(key), spare == nil && ca == nil && key != nil:
		id.key = key
	case of(spare), key == nil && ca == nil && spare != nil:
		id.key = spare
	default:
		return &problem.Error{
			Kind: problem.Unavailable, Op: "httpd.identity", Title: "The box's key is damaged",
			Detail: "What is left in the folder keys does not belong together. The key is what phones know the box by.",
			Hint:   "Restore it from the second copy: `yunboxctl backup restore` onto an empty folder, and take its folder keys.",
			Err:    errors.Join(keyErr, spareErr, caErr),
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(&id.key.PublicKey)
	if err != nil {
		return err
	}
	id.sum = sha256.Sum256(spki)
	if !is(key) {
		id.mend(caKeyName, func() error { return id.writeKey(caKeyName) })
	}
	if spare == nil && errors.Is(spareErr, fs.ErrNotExist) { // the first start, or the first of this version
		if err := id.writeKey(caCopyName); err != nil {
			return err
		}
	} else if !is(spare) {
		id.mend(caCopyName, func() error { return id.writeKey(caCopyName) })
	}
	if of(id.key) {
		id.ca = ca
		return nil
	}
	// The first start, a cut between the two files, or damage: the key is the identity.
	data, err := id.makeAuthority()
	if err != nil {
		return err
	}
	if errors.Is(caErr, fs.ErrNotExist) {
		return vfs.WriteFile(id.keys, caCertName, data, keyMode)
	}
	id.mend(caCertName, func() error { return vfs.WriteFile(id.keys, caCertName, data, keyMode) })
	return nil
}

// mend notes that a file was made again. A disk that does not take it keeps nobody
// out: what it would say is known, and the next start tries once more.
func (id *Identity) mend(name string, write func() error) {
	if err := write(); err != nil {
		name += " (not written: " + err.Error() + ")"
	}
	id.mended = append(id.mended, name)
}

func (id *Identity) readKey(name string) (*ecdsa.PrivateKey, error) {
	data, err := vfs.ReadFile(id.keys, name)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

func (id *Identity) readAuthority() (*x509.Certificate, error) {
	data, err := vfs.ReadFile(id.keys, caCertName)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: there is no certificate in it", caCertName)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err == nil {
		err = ca.CheckSignatureFrom(ca) // a flipped bit, whatever it hits
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", caCertName, err)
	}
	return ca, nil
}

// makeAuthority gives the key a new certificate and returns it in PEM. Its dates are fixed: a box
// without a clock that runs must be able to make it, and nothing is to be won by
// an end that nobody would be there to renew.
func (id *Identity) makeAuthority() ([]byte, error) {
	serial, err := newSerialNumber()
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Yunbox " + id.Suffix()},
		NotBefore:             time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2099, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         localDomains(id.hostname),
		PermittedIPRanges:           localNetworks(),
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &id.key.PublicKey, id.key)
	if err != nil {
		return nil, err
	}
	if id.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return id.CertificatePEM(), nil
}

// localDomains are names that mean nothing outside a local network (RFC 6762,
// RFC 8375, RFC 6761, and what home routers use), and the computer's own.
func localDomains(hostname string) []string {
	domains := []string{"local", "localhost", "home.arpa", "internal", "lan"}
	if hostname != "" && !permitsName(domains, hostname) {
		domains = append(domains, hostname)
	}
	return domains
}

// localNetworks are the addresses that are routed on a local network only: RFC
// 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291 §2.5.6, and loopback.
func localNetworks() []*net.IPNet {
	var out []*net.IPNet
	for _, s := range []string{
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
		"fc00::/7", "fe80::/10", "::1/128",
	} {
		p := netip.MustParsePrefix(s)
		out = append(out, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return out
}

func permitsName(domains []string, name string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

func (id *Identity) permitsName(name string) bool {
	return isHostName(name) && permitsName(id.ca.PermittedDNSDomains, name)
}

func (id *Identity) permitsAddr(ip netip.Addr) bool {
	return slices.ContainsFunc(id.ca.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip.AsSlice()) })
}

func newSerialNumber() (*big.Int, error) {
	// At most 20 octets and positive (RFC 5280 §4.1.2.2).
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
}

// keyMode is of all files in the folder of keys.
const keyMode = 0o400

// writeKey replaces a file with the key durably.
func (id *Identity) writeKey(name string) error {
	data, err := encodeKey(id.key)
	if err != nil {
		return err
	}
	return vfs.WriteFile(id.keys, name, data, keyMode)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("there is no key in it")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("it is not a P-256 key")
	}
	return ec, nil
}

// tlsConfig serves the identity. TLS 1.2 clients get forward-secret AEAD suites
// only; TLS 1.3 knows no others.
func (id *Identity) tlsConfig(names func() []string, failed func(error)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return id.certificate(hello, names(), failed)
		},
	}
}
