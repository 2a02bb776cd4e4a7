package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/duplicates"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/gateway/ftp"
	"yunbox.local/daemon/gateway/immich"
	"yunbox.local/daemon/gateway/inbox"
	"yunbox.local/daemon/gateway/nextcloud"
	"yunbox.local/daemon/gateway/resumable"
	"yunbox.local/daemon/gateway/web"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

// drain is how long a stopping box waits for uploads to end by themselves. What
// is resumable goes on after the restart.
const drain = 10 * time.Second

// socket is where yunboxctl finds the box, below the state directory.
const socket = "run/yunboxd.sock"

func (b *Box) listen() (err error) {
	if b.https, err = b.listenOn("https", b.conf.HTTPS); err != nil {
		return err
	}
	if b.plain, err = b.listenOn("http", b.conf.HTTP); err != nil {
		return err
	}
	if b.ftp, err = b.listenOn("ftp", b.conf.FTP); err != nil {
		return err
	}
	if err := vfs.CreateDir(b.path("run")); err != nil {
		return fmt.Errorf("local socket: %w", err)
	}
	b.local, err = listenLocal(b.path(socket))
	if err != nil {
		return fmt.Errorf("local socket: %w", err)
	}
	b.closers = append(b.closers, closed(b.local))
	return nil
}

// listenOn returns nil for what is off.
func (b *Box) listenOn(name, addr string) (net.Listener, error) {
	l, err := b.opens(name, addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if l != nil {
		b.closers = append(b.closers, closed(l))
	}
	return l, nil
}

func listenTCP(_, addr string) (net.Listener, error) {
	if addr == config.Off {
		return nil, nil
	}
	return net.Listen("tcp", addr)
}

// closed closes a listener that its server may have closed before.
func closed(l net.Listener) func() error {
	return func() error {
		return unlessClosed(l.Close())
	}
}

// unlessClosed is err, if it is not about a listener that we closed ourselves.
func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// listenLocal makes the unix socket, in the place of one that a killed daemon
// left behind: the volume's lock says that nobody else is using it.
func listenLocal(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil && len(path) > 100 {
		// The kernel keeps at most 107 bytes of a socket's path. Its folder is
		// reached through a descriptor instead, by a short name.
		return listenLongPath(path)
	}
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

func listenLongPath(path string) (net.Listener, error) {
	dir, err := os.Open(path[:len(path)-len("/yunboxd.sock")])
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	short := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/yunboxd.sock"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the short name ends with this descriptor
	return l, os.Chmod(path, 0o600)
}

func (b *Box) openFront() error {
	b.front = httpd.New(httpd.Options{
		Identity: b.identity, Accounts: b.accounts, Limited: b.consent.Limited, Closed: b.updates.Closed, Traffic: b.traffic, Log: b.log,
		Names: func() []string { return append([]string{b.hostName()}, b.conf.Hosts...) },
	})
	originals := &content.Files{Catalog: b.catalog, Store: b.store, Log: b.log}
	b.openExports(originals)
	if err := b.openRights(context.Background()); err != nil {
		return err
	}
	face := api.New(api.Options{
		Server: b.front, Identity: b.identity, Accounts: b.accounts, Audit: b.audit, Consent: b.consent,
		Catalog: b.catalog, Ingest: b.ingest, Store: b.store, Health: b.health, DB: b.db, Log: b.log,
		Rights: b.register, Exports: b.exports, Erasure: b.erasure, Requests: b.requests, Guardians: b.guardians,
		Outside: b.outside, Incidents: b.incidents, Elsewhere: b.elsewhere, Maker: b.maker,
		Box: api.Box{
			Version: Version, Name: b.Name, Addresses: b.URLs, Resident: resident,
			Uptime:  func() int64 { return int64(time.Since(b.started).Seconds()) },
			Network: b.network,
			Clock:   b.clock.shown, Uploads: b.ingest.Active, Records: b.recordsState, SecondCopies: b.secondCopies, Works: b.works, Metrics: b.metrics, Reset: b.askReset,
			FTPPort: func() int {
				if b.ftp == nil {
					return 0
				}
				return port(b.ftp)
			},
		},
	})
	resumable.New(resumable.Options{
		Ingest: b.ingest, Files: originals, Log: b.log,
		Device: func(ctx context.Context, u ident.UserID, d ident.DeviceID) error {
			_, err := b.accounts.Device(ctx, u, d)
			return err
		},
	}).Register(b.front, face.OpenAPI())
	files := webdav.New(webdav.Options{
		Consent: b.consent, Catalog: b.catalog, Ingest: b.ingest, Store: b.store, DB: b.db, Log: b.log,
	})
	files.Register(b.front)
	nextcloud.New(nextcloud.Options{
		Accounts: b.accounts, Consent: b.consent, Catalog: b.catalog, Ingest: b.ingest, Store: b.store, DB: b.db,
		Files: files, Name: b.Name, Instance: b.identity.ID()[:10], Log: b.log,
	}).Register(b.front)
	if b.ftp != nil {
		if err := b.openCameras(); err != nil {
			return err
		}
	}
	page := web.Handler()
	b.front.Handle("GET /{$}", page, httpd.Public)
	b.front.Handle("GET /assets/", page, httpd.Public)
	b.maintenance = face.Local()
	b.updates.Register(b.front, face.OpenAPI())
	b.updates.Routes(b.maintenance.Handle)
	b.upkeepRoutes()
	b.maintenance.Handle("POST /local/rebuild", b.askRebuild)
	b.maintenance.Handle("POST /local/vault/rotate", b.rotateKeys)
	immich.New(immich.Options{
		Consent: b.consent, Catalog: b.catalog, Ingest: b.ingest, DB: b.db, Files: originals,
	}).Register(b.front)
	return b.openInbox(face)
}

// openInbox reads which folders of this computer the box takes files in from.
func (b *Box) openInbox(face *api.API) (err error) {
	b.inbox, err = inbox.New(context.Background(), inbox.Options{
		DB: b.db, Audit: b.audit, Consent: b.consent, Catalog: b.catalog, Ingest: b.ingest, State: b.conf.State, Log: b.log,
		Named: func(ctx context.Context, name string) (ident.UserID, error) {
			u, err := b.accounts.UserNamed(ctx, name)
			return u.ID, err
		},
		Person: func(ctx context.Context, id ident.UserID) (string, bool, error) {
			u, err := b.accounts.User(ctx, id)
			return u.Username, u.Disabled.IsZero() && b.refuse(id) == nil, err
		},
	})
	if err != nil {
		return err
	}
	b.inbox.Routes(b.maintenance.Handle)
	b.backup.Routes(b.maintenance.Handle)
	b.secrets.Routes(b.maintenance.Handle)
	b.treeRoutes()
	b.openDuplicates(face)
	return nil
}

func (b *Box) openDuplicates(face *api.API) {
	b.duplicates = duplicates.New(duplicates.Options{
		DB: b.db, Audit: b.audit, Consent: b.consent, Catalog: b.catalog, Folder: b.inbox.Folder, Watches: b.inbox.WatchedFor, Watched: b.inbox.FoldersOf, Dir: b.path("dedup"), Log: b.log,
		Named: func(ctx context.Context, name string) (ident.UserID, error) {
			u, err := b.accounts.UserNamed(ctx, name)
			return u.ID, err
		},
	})
	b.duplicates.Routes(b.maintenance.Handle)
	b.duplicates.Register(b.front, face.OpenAPI())
	b.closers = append(b.closers, b.duplicates.Close)
}

func (b *Box) openCameras() error {
	low, high, err := b.conf.FTPPortRange()
	if err != nil {
		return err
	}
	b.cameras = ftp.New(ftp.Options{
		Accounts: b.accounts, Catalog: b.catalog, Consent: b.consent, Ingest: b.ingest, Store: b.store, DB: b.db,
		TLS: b.front.TLSConfig(), Log: b.log, Plain: b.conf.FTPPlain, LowPort: low, HighPort: high,
	})
	if b.conf.FTPPlain {
		b.log.Warn("cameras may come without TLS: their passwords and photos can be read on the network")
	}
	return nil
}

// Run serves until ctx ends or a part fails, then stops taking connections,
// gives uploads a moment to end, and returns. ready is called once, when the box
// answers. See ErrRebuild, ErrReset, ErrAway and ErrWritable.
func (b *Box) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	serve := func(name string, fn func() error) {
		parts.Go(func() {
			if err := fn(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	serve("https", func() error { return b.front.Serve(ctx, b.https) })
	switch {
	case b.plain == nil:
	case b.conf.HTTP == config.Off: // who calls there is shown the way
		serve("http", func() error { return b.front.ServeRedirect(ctx, b.plain, port(b.https)) })
	default:
		serve("http", func() error { return b.front.ServePlain(ctx, b.plain) })
	}
	maintenance := &http.Server{
		Handler: httpd.Guard(b.log, b.whileClosed(b.maintenance)), ConnContext: b.maintenance.ConnContext,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
	}
	serve("local socket", func() error { return ignoreClosed(maintenance.Serve(b.local)) })
	serve("disk", func() error { return b.watchVolume(ctx) })
	parts.Go(func() { b.keepTime(ctx) })
	parts.Go(func() { b.updates.Run(ctx) })
	if b.conf.MDNS.Announces() { // on trial, too: whether it can is one of the checks
		parts.Go(func() { b.announce(ctx) })
	}
	if once := sync.OnceFunc(ready); b.tryOut(ctx, once) {
		b.serveRest(ctx, &parts, serve, cancel)
		once()
	}
	<-ctx.Done()

	patience := drain
	if cause := context.Cause(ctx); errors.Is(cause, ErrAway) || errors.Is(cause, ErrReset) {
		patience = time.Second // what is being sent has nowhere to go
	}
	stop, done := context.WithTimeout(context.Background(), patience)
	defer done()
	err := errors.Join(b.front.Shutdown(stop), maintenance.Shutdown(stop))
	parts.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		b.log.Info("stopped while somebody was still connected; resumable uploads go on after the restart")
		err = nil
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

// serveRest starts what may take something in, or change it by itself.
func (b *Box) serveRest(ctx context.Context, parts *sync.WaitGroup, serve func(string, func() error), cancel context.CancelCauseFunc) {
	if b.cameras != nil {
		serve("ftp", func() error { return b.cameras.Serve(ctx, counted{b.ftp, &b.visits}) })
	}
	parts.Go(func() { b.ingest.Run(ctx) })
	parts.Go(func() { b.accounts.Run(ctx, b.consent) })
	parts.Go(func() { b.vault.Run(ctx) })
	parts.Go(func() { b.inbox.Run(ctx) })
	parts.Go(func() { b.health.Run(ctx) })
	parts.Go(func() { b.backup.Run(ctx) })
	if b.tree != nil {
		parts.Go(func() { b.tree.Run(ctx) })
	}
	parts.Go(func() { b.duplicates.Run(ctx) })
	parts.Go(func() { b.exports.Run(ctx) })
	parts.Go(func() { b.guardians.Run(ctx) })
	parts.Go(func() { b.erasure.Run(ctx) })
	parts.Go(func() { b.incidents.Run(ctx) })
	parts.Go(func() { b.elsewhere.Run(ctx) })
	parts.Go(func() {
		select {
		case <-b.rebuild:
			cancel(ErrRebuild)
		case <-b.again:
			cancel(ErrReset)
		case <-ctx.Done():
		}
	})
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// CameraAddress is where cameras connect, "HOST:PORT", empty if they may not.
func (b *Box) CameraAddress() string {
	if b.ftp == nil {
		return ""
	}
	return b.ftp.Addr().String()
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// URLs lists where the box's page can be opened, the most useful first: its own
// name on the network, then its addresses there, then this machine.
func (b *Box) URLs() []string {
	at := b.https.Addr().(*net.TCPAddr)
	url := func(host string) string {
		return "https://" + net.JoinHostPort(host, strconv.Itoa(at.Port)) + "/"
	}
	if !at.IP.IsUnspecified() {
		return []string{url(at.IP.String())}
	}
	var urls []string
	if b.conf.MDNS.Announces() {
		urls = append(urls, url(b.hostName()))
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		b.log.Warn("the addresses of this machine cannot be read", "err", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			urls = append(urls, url(n.IP.String()))
		}
	}
	return append(urls, url("127.0.0.1"))
}

// resident returns the memory that the process occupies, in bytes, 0 if the
// system does not say.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(syscall.Getpagesize())
}
