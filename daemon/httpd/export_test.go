package httpd

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"

	"yunbox.local/storage/vfs"
)

// OpenIdentityForTest is LoadIdentity on another disk.
func OpenIdentityForTest(keys vfs.FS) (*Identity, error) { return openIdentity(keys, nil) }

// KeyPairForTest is what another server needs to show the same certificate.
func KeyPairForTest(id *Identity) (chain [][]byte, key crypto.PrivateKey, err error) {
	c, err := id.certificate(&tls.ClientHelloInfo{}, nil, func(error) {})
	if err != nil {
		return nil, nil, err
	}
	return c.Certificate, c.PrivateKey, nil
}

// ChainForTest is what a client sees that connects by no known address.
func ChainForTest(id *Identity, names []string) ([]*x509.Certificate, error) {
	c, err := id.certificate(&tls.ClientHelloInfo{}, names, func(error) {})
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	return out, nil
}
