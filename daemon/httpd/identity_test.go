package httpd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

func load(t *testing.T, dir string, now func() time.Time) *httpd.Identity {
	t.Helper()
	id, err := httpd.LoadIdentity(dir, now)
	check(t, err)
	t.Cleanup(func() { id.Close() })
	return id
}

func authority(t *testing.T, id *httpd.Identity) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(id.CertificatePEM())
	cert, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	return cert
}

// shake is what a client sees that connects to server by name.
func shake(t *testing.T, id *httpd.Identity, now func() time.Time, names ...string) []*x509.Certificate {
	t.Helper()
	chain, err := httpd.ChainForTest(id, names)
	check(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(authority(t, id))
	for _, name := range append([]string{id.HostName(), "localhost", "127.0.0.1", "::1"}, names...) {
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	return chain
}

func TestIdentityIsKept(t *testing.T) { // R31
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	id := load(t, dir, nil)
	chain := shake(t, id, time.Now)
	if len(chain) != 2 || !chain[1].Equal(authority(t, id)) {
		t.Error("the chain does not end with the authority")
	}
	sum := sha256.Sum256(authority(t, id).RawSubjectPublicKeyInfo)
	if id.Fingerprint() != base64.RawURLEncoding.EncodeToString(sum[:]) || id.Sum() != sum {
		t.Error("the fingerprint is not that of the authority's key")
	}
	if !regexp.MustCompile(`^[a-z2-7]{16}$`).MatchString(id.ID()) || !regexp.MustCompile(`^yunbox-[0-9a-f]{4}\.local$`).MatchString(id.HostName()) {
		t.Errorf("id %q, host name %q", id.ID(), id.HostName())
	}
	again := load(t, dir, nil)
	if again.Fingerprint() != id.Fingerprint() || again.ID() != id.ID() || again.Words() != id.Words() {
		t.Error("a restart makes another box of it")
	}
	if !shake(t, again, time.Now)[0].Equal(chain[0]) {
		t.Error("a restart makes another certificate, and every browser asks again")
	}
	for _, name := range []string{"ca.key", "ca.crt", "leaf.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, err)
		if info.Mode() != 0o400 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
	if other := load(t, filepath.Join(t.TempDir(), "keys"), nil); other.Fingerprint() == id.Fingerprint() {
		t.Error("two boxes have the same key")
	}
}

func TestLeafLivesNoLongerThanClientsAccept(t *testing.T) { // R31
	t.Parallel()
	id := load(t, filepath.Join(t.TempDir(), "keys"), nil)
	leaf := shake(t, id, time.Now)[0]
	if life := leaf.NotAfter.Sub(leaf.NotBefore) + time.Second; life > 397*24*time.Hour {
		t.Errorf("it lives %v", life)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Error("it may do more than serve")
	}
}

func TestLeafIsRenewed(t *testing.T) { // R31
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	at := time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	id := load(t, dir, now)
	first := shake(t, id, now)[0]
	for range 20 {
		at = at.Add(10 * 24 * time.Hour)
		if !shake(t, id, now)[0].Equal(first) {
			t.Fatal("it is renewed too early")
		}
	}
	for range 40 {
		at = at.Add(30 * 24 * time.Hour)
		shake(t, id, now) // verifies at that time
	}
	if shake(t, id, now)[0].PublicKey.(*ecdsa.PublicKey).Equal(first.PublicKey) {
		t.Error("the leaf's key is never renewed")
	}
	// A box without a battery starts in 1970, and gets the time later.
	at = time.Unix(100, 0)
	leaf := shake1970(t, id)
	at = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	if shake(t, id, now)[0].Equal(leaf) {
		t.Error("the certificate of 1970 is kept")
	}
	if load(t, dir, now).Fingerprint() != id.Fingerprint() {
		t.Error("the identity changed")
	}
}

// shake1970 only looks: no chain can be valid before the authority is.
func shake1970(t *testing.T, id *httpd.Identity) *x509.Certificate {
	t.Helper()
	chain, err := httpd.ChainForTest(id, nil)
	check(t, err)
	if chain[0].NotBefore.Year() > 1970 {
		t.Errorf("valid from %v", chain[0].NotBefore)
	}
	return chain[0]
}

func TestLeafFollowsTheNames(t *testing.T) { // R31
	t.Parallel()
	id := load(t, filepath.Join(t.TempDir(), "keys"), nil)
	first := shake(t, id, time.Now)[0]
	second := shake(t, id, time.Now, "yunbox-7f3a-2.local", "kitchen.local")[0]
	if first.Equal(second) || !first.PublicKey.(*ecdsa.PublicKey).Equal(second.PublicKey) {
		t.Error("another name wants another certificate with the same key")
	}
	// What the authority may not speak for is left out rather than breaking the rest.
	third, err := httpd.ChainForTest(id, []string{"kitchen.local", "www.example.com", "evil_name.local", "192.168.1.1", "*.local", ""})
	check(t, err)
	for _, n := range third[0].DNSNames {
		if strings.Contains(n, "example") || strings.ContainsAny(n, "_*") {
			t.Errorf("the certificate names %q", n)
		}
	}
	for _, ip := range third[0].IPAddresses {
		if !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !(&net.IPNet{IP: net.IPv4(100, 64, 0, 0), Mask: net.CIDRMask(10, 32)}).Contains(ip) {
			t.Errorf("the certificate has the public address %v", ip)
		}
	}
}

func TestStolenAuthorityIsGoodForTheLocalNetworkOnly(t *testing.T) { // R31
	t.Parallel()
	id := load(t, filepath.Join(t.TempDir(), "keys"), nil)
	ca := authority(t, id)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	forge := func(isCA bool, names []string, ips ...net.IP) *x509.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			DNSNames: names, IPAddresses: ips, IsCA: isCA, BasicConstraintsValid: true,
		}, ca, &key.PublicKey, id.Signer())
		check(t, err)
		cert, err := x509.ParseCertificate(der)
		check(t, err)
		return cert
	}
	for name, c := range map[string]*x509.Certificate{
		"www.example.com":   forge(false, []string{"www.example.com"}),
		"local.example.com": forge(false, []string{"local.example.com"}),
		"8.8.8.8":           forge(false, nil, net.IPv4(8, 8, 8, 8)),
		"2001:db8::1":       forge(false, nil, net.ParseIP("2001:db8::1")),
		"mixed.local":       forge(false, []string{"mixed.local", "www.example.com"}),
	} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err == nil {
			t.Errorf("whoever steals the key can be %s", name)
		}
	}
	if _, err := forge(false, []string{"other.local"}).Verify(x509.VerifyOptions{Roots: roots, DNSName: "other.local"}); err != nil {
		t.Errorf("the control fails: %v", err)
	}
	if !ca.MaxPathLenZero || !ca.PermittedDNSDomainsCritical {
		t.Error("it may make further authorities, or its constraints may be ignored")
	}
}

func TestIdentityAfterCutsAndDamage(t *testing.T) { // R31
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	id := load(t, dir, nil)
	shake(t, id, time.Now)
	replace := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		_ = os.Remove(path)
		if content != "" {
			check(t, os.WriteFile(path, []byte(content), 0o400))
		}
	}
	// The cut came after the key and before its certificate.
	crt, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	check(t, err)
	replace("ca.crt", "")
	if again := load(t, dir, nil); again.Fingerprint() != id.Fingerprint() {
		t.Error("the identity is another one")
	} else {
		shake(t, again, time.Now)
	}
	for _, leaf := range []string{"", "garbage", string(crt)} {
		replace("leaf.pem", leaf)
		shake(t, load(t, dir, nil), time.Now)
	}
	replace("leaf.pem.new", "half a file")
	replace("leaf.pem", "")
	shake(t, load(t, dir, nil), time.Now)

	// Any two of the key, its copy and the certificate are the identity; the key alone is, too.
	good := map[string]string{}
	for _, name := range []string{"ca.key", "ca.key.copy", "ca.crt"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		check(t, err)
		good[name] = string(data)
	}
	otherDir := filepath.Join(t.TempDir(), "keys")
	other := load(t, otherDir, nil)
	otherKey, err := os.ReadFile(filepath.Join(otherDir, "ca.key"))
	check(t, err)
	bad := map[string][]string{
		"ca.key":      {"", "garbage", "-----BEGIN PRIVATE KEY-----", string(otherKey)},
		"ca.key.copy": {"", "garbage", string(otherKey)},
		"ca.crt":      {"", "-----BEGIN", flipped(good["ca.crt"]), string(other.CertificatePEM())},
	}
	mends := func(what string) {
		t.Helper()
		again := load(t, dir, nil)
		if again.Fingerprint() != id.Fingerprint() {
			t.Errorf("%s: it is another identity", what)
		}
		shake(t, again, time.Now)
		if again = load(t, dir, nil); len(again.Mended()) != 0 {
			t.Errorf("%s: mended again: %q", what, again.Mended())
		}
	}
	for name, contents := range bad {
		for _, content := range contents {
			replace(name, content)
			mends(fmt.Sprintf("%s is %.20q", name, content))
			replace(name, good[name])
		}
	}
	for _, key := range []string{"ca.key", "ca.key.copy"} { // one key is left
		for _, content := range []string{"", "garbage"} {
			replace(key, content)
			replace("ca.crt", content)
			mends(fmt.Sprintf("%s and ca.crt are %q", key, content))
		}
	}
	// What does not belong together is not guessed about, and nothing is touched.
	for what, files := range map[string]map[string]string{
		"both keys are damaged":       {"ca.key": "garbage", "ca.key.copy": "garbage", "ca.crt": good["ca.crt"]},
		"both keys are lost":          {"ca.key": "", "ca.key.copy": "", "ca.crt": good["ca.crt"]},
		"two keys, no certificate":    {"ca.key": good["ca.key"], "ca.key.copy": string(otherKey), "ca.crt": ""},
		"a key and another's cert":    {"ca.key": good["ca.key"], "ca.key.copy": "", "ca.crt": string(other.CertificatePEM())},
		"nothing in it can be read":   {"ca.key": "garbage", "ca.key.copy": "garbage", "ca.crt": "garbage"},
		"a damaged key, nothing else": {"ca.key": "garbage", "ca.key.copy": "", "ca.crt": ""},
	} {
		for name, content := range files {
			replace(name, content)
		}
		if _, err := httpd.LoadIdentity(dir, nil); problem.KindOf(err) != problem.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
		for name, content := range files {
			if data, _ := os.ReadFile(filepath.Join(dir, name)); string(data) != content {
				t.Errorf("%s: %s was changed", what, name)
			}
		}
	}
}

// flipped changes one letter within.
func flipped(s string) string {
	b := []byte(s)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func TestIdentitySurvivesPowerCuts(t *testing.T) { // R01, R31
	t.Parallel()
	rng := vfstest.Seed(t)
	for n := 1; ; n++ {
		disk := vfstest.NewDisk()
		disk.CutIn(n)
		shown := ""
		id, err := httpd.OpenIdentityForTest(disk)
		if err == nil {
			shown = id.Fingerprint() // from now on it may be on a label
			_, err = httpd.ChainForTest(id, nil)
		}
		for range 5 {
			after := disk.PowerCut(rng)
			again, err := httpd.OpenIdentityForTest(after)
			if err != nil {
				t.Fatalf("a cut before call %d leaves a box that does not start: %v", n, err)
			}
			if shown != "" && again.Fingerprint() != shown {
				t.Fatalf("a cut before call %d makes another box of it", n)
			}
			shake(t, again, time.Now)
			disk, shown = after, again.Fingerprint()
		}
		if err == nil && n > 30 {
			return
		}
		if n > 200 {
			t.Fatal("it never ends")
		}
	}
}

func TestIdentityOnAFailingDisk(t *testing.T) { // R31
	t.Parallel()
	for n := 1; n < 60; n++ {
		disk := vfstest.NewDisk()
		disk.Fail(vfstest.Fault{Nth: n, Err: syscall.ENOSPC, Short: true})
		id, err := httpd.OpenIdentityForTest(disk)
		if err == nil {
			if _, err := httpd.ChainForTest(id, nil); err != nil {
				t.Errorf("call %d fails: a full disk keeps people out: %v", n, err)
			}
		}
		disk.Heal()
		again, err := httpd.OpenIdentityForTest(disk)
		if err != nil {
			t.Fatalf("call %d failed once, and the box never starts again: %v", n, err)
		}
		if id != nil && id.Fingerprint() != again.Fingerprint() {
			t.Errorf("call %d failed: another identity", n)
		}
	}
}

func TestTLSVersions(t *testing.T) { // R31
	h := open(t, httpd.Limits{}, each)
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		for _, name := range []string{h.id.HostName(), "localhost", "127.0.0.1", "nas.home.arpa"} {
			cfg := h.pin(name)
			cfg.MinVersion, cfg.MaxVersion = version, version
			c, err := tls.Dial("tcp", h.addr, cfg)
			if (err == nil) != want {
				t.Errorf("%s to %s: %v", tls.VersionName(version), name, err)
			}
			if err == nil {
				c.Close()
			}
		}
	}
	weak := h.pin("localhost")
	weak.MaxVersion = tls.VersionTLS12
	weak.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
	if c, err := tls.Dial("tcp", h.addr, weak); err == nil {
		c.Close()
		t.Error("a CBC suite is accepted")
	}
	// A man in the middle has another key.
	stranger := load(t, filepath.Join(t.TempDir(), "keys"), nil)
	cfg := (&hall{t: t, id: stranger}).pin("127.0.0.1")
	if c, err := tls.Dial("tcp", h.addr, cfg); err == nil {
		c.Close()
		t.Error("the pin accepts any box")
	}
}
