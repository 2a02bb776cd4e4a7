package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdRelay starts a man in the middle: it has an authority and a certificate of its own,
// which are as good as the box's, and passes everything on.
func cmdRelay(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	long := time.Now().AddDate(1, 0, 0)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Yunbox 7F3A"}, NotAfter: long, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caRaw, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	ts.Check(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: long, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafRaw, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	ts.Check(err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leafRaw, caRaw}, PrivateKey: key}}})
	ts.Check(err)
	there := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.seen.WriteString(r.Method + " " + r.URL.Path + " ")
		w.seen.Write(append(body, '\n'))
		to := "https://" + w.addr + r.URL.String()
		w.mu.Unlock()
		on, err := http.NewRequestWithContext(r.Context(), r.Method, to, bytes.NewReader(body))
		if err != nil {
			return
		}
		on.Header = r.Header
		res, err := there.Do(on)
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		rw.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		rw.WriteHeader(res.StatusCode)
		io.Copy(rw, res.Body)
	})}
	go server.Serve(listener)
	ts.Defer(func() { server.Close() })
	ts.Setenv("RELAY", "https://"+listener.Addr().String())
}

func cmdRelaySaw(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: relay-saw TEXT")
	}
	w := worldOf(ts)
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes.Contains(w.seen.Bytes(), []byte(args[0])) == neg {
		ts.Fatalf("the relay saw:\n%s", w.seen.Bytes())
	}
}
