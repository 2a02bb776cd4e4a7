package resumable_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/gateway/resumable"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

// impatient is a box that waits for the bytes of a body for a moment only.
// daemontest's has the patience of the real one, which no test can wait for.
type impatient struct {
	addr  string
	tls   *tls.Config
	token string
}

func newImpatient(t *testing.T) *impatient {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, dir := t.Context(), t.TempDir()
	store, err := storage.Open(ctx, vfstest.NewDisk(), storage.Options{Intent: 64 << 10})
	must(err)
	d, err := db.Open(ctx, db.Options{Path: filepath.Join(dir, "box.db"), BackupDir: filepath.Join(dir, "backup")})
	must(err)
	identity, err := httpd.LoadIdentity(filepath.Join(dir, "keys"), time.Now)
	must(err)
	log := audit.New(d)
	accounts, err := account.Open(ctx, d, log, account.Options{Keys: vfstest.NewDisk(), DeviceID: identity.ID(), Fingerprint: identity.Fingerprint()})
	must(err)
	ledger, err := consent.Open(ctx, d, log, identity.Signer())
	must(err)
	cat, err := catalog.Open(ctx, d)
	must(err)
	in := ingest.New(ingest.Options{Store: store, Catalog: cat, DB: d, Consent: ledger})

	label, err := accounts.Label(ctx)
	must(err)
	pair, err := account.ParsePairURI(label.PairURI)
	must(err)
	session, err := accounts.Bind(ctx, account.BindRequest{Secret: pair.Secret, Username: "ada", Password: "correct horse battery staple"})
	must(err)
	for _, purpose := range []consent.Purpose{consent.Storage, consent.AlbumBackup} {
		user := session.Principal.User
		_, err := ledger.Record(ctx, consent.Decision{User: user, Actor: user, Purpose: purpose, Granted: true, PolicyRevision: consent.CurrentPolicy().Revision, How: "test"})
		must(err)
	}

	server := httpd.New(httpd.Options{Identity: identity, Accounts: accounts, Limits: httpd.Limits{Patience: time.Second}})
	face := api.New(api.Options{Server: server})
	resumable.New(resumable.Options{
		Ingest: in,
		Device: func(context.Context, ident.UserID, ident.DeviceID) error { return nil },
	}).Register(server, face.OpenAPI())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, err := range []error{server.Shutdown(ctx), <-served, in.Close(ctx), d.Close(), store.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(identity.CertificatePEM())
	return &impatient{ln.Addr().String(), &tls.Config{RootCAs: authority, ServerName: "127.0.0.1"}, session.Token}
}

// R05: a client that is too slow to send the whole file with its creation, but
// still there, is told where to go on.
func TestSlowCreationCanGoOn(t *testing.T) {
	t.Parallel()
	box := newImpatient(t)
	conn, err := tls.Dial("tcp", box.addr, box.tls)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 10\r\nUpload-Metadata: %s\r\n"+
		"Content-Type: application/offset+octet-stream\r\nContent-Length: 10\r\n\r\nhalf ", box.token, meta("a.jpg"))
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 || resp.Header.Get("Upload-Offset") != "5" || resp.Header.Get("Location") == "" || resp.Header.Get("Yunbox-Item") != "" {
		t.Fatalf("a creation that stalled: %s %v", resp.Status, resp.Header)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: box.tls}}
	t.Cleanup(c.CloseIdleConnections)
	location := resp.Header.Get("Location")
	r, err := http.NewRequestWithContext(t.Context(), "HEAD", "https://"+box.addr+location[len("https://127.0.0.1"):], nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+box.token)
	r.Header.Set("Tus-Resumable", "1.0.0")
	head, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer head.Body.Close()
	if head.StatusCode != 200 || head.Header.Get("Upload-Offset") != "5" {
		t.Errorf("HEAD: %s %v", head.Status, head.Header)
	}
}
