package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/gateway/web"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

var (
	// ErrAway ends Run when the disk is not there any more: close the box, wait
	// with Await, and open it again.
	ErrAway = errors.New("the disk with the state directory is not there any more")
	// ErrWritable ends Run when a disk that could only be read can be written again:
	// close the box and open it again.
	ErrWritable = errors.New("the disk can be written again")
)

const (
	// lookAgain is how often a box that takes nothing, because of its disk, looks
	// whether that has ended, beside looking at every change of the mounts.
	lookAgain = time.Minute
	// lookTwice is how long a disk that does not show its identity has to do so.
	lookTwice = time.Second
)

// watchVolume ends Run, by its error, when the disk goes away or comes back. It
// sleeps until the table of mounts changes or something fails.
func (b *Box) watchVolume(ctx context.Context) error {
	dir, ok := b.dir.(*vfs.Dir)
	if !ok {
		<-ctx.Done() // a disk in memory stays where it is
		return nil
	}
	mounts := make(chan struct{}, 1)
	go b.tellMounts(ctx, mounts)
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	for {
		var again <-chan time.Time
		if b.refusing() != nil {
			timer.Reset(lookAgain)
			again = timer.C
		}
		failing := false
		select {
		case <-ctx.Done():
			return nil
		case <-mounts:
		case <-again:
		case <-b.trouble:
			failing = true
		}
		if !dir.InPlace() {
			return ErrAway
		}
		if failing && b.store.Verified() != nil {
			if !rest(ctx, lookTwice) {
				return nil
			}
			if err := b.store.Verified(); err != nil {
				return errors.Join(ErrAway, err)
			}
		}
		if failing {
			_ = b.store.Writable() // so that it says what it is
			continue
		}
		if errors.Is(b.refusing(), storage.ErrReadOnly) && b.store.Writable() == nil {
			return ErrWritable
		}
	}
}

// refusing is why the box takes nothing because of its disk, nil if it does.
func (b *Box) refusing() error { return errors.Join(b.store.Err(), b.db.Err()) }

// noteTrouble has watchVolume look at the disk.
func (b *Box) noteTrouble(error) {
	select {
	case b.trouble <- struct{}{}:
	default:
	}
}

// tellMounts says on changed that the table of mounts has changed. Where the system
// does not tell, it says so every minute.
func (b *Box) tellMounts(ctx context.Context, changed chan<- struct{}) {
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := vfs.WatchMounts(ctx, tell); err != nil {
		b.log.Info("the system does not tell when disks come and go; the box looks every minute", "err", err)
		for rest(ctx, lookAgain) {
			tell()
		}
	}
}

// rest waits and reports whether ctx goes on.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Config returns the settings to open the box again with: on the same addresses.
func (b *Box) Config() config.Config {
	c := b.conf
	c.HTTPS = b.https.Addr().String()
	if b.plain != nil && c.HTTP != config.Off {
		c.HTTP = b.plain.Addr().String()
	}
	if b.ftp != nil {
		c.FTP = b.ftp.Addr().String()
	}
	return c
}

// Await returns nil when the disk of a closed box is back at its place: the same
// volume, to be read and written. An empty directory and another volume are not it,
// and nothing is written to either. Until then everybody who connects by HTTPS is
// told that the disk is not there; certificate and key are in memory.
func (b *Box) Await(ctx context.Context) error {
	away := &problem.Error{Kind: problem.Unavailable, Op: "daemon.away", Title: "The box's disk is not there",
		Detail:     "It was unplugged or unmounted, or does not answer any more.",
		Hint:       "Nothing was lost: devices keep their files and try again. Attach and mount the disk; the box goes on by itself.",
		RetryAfter: lookAgain}
	listener, err := b.opens("https", b.Config().HTTPS)
	if err != nil {
		return fmt.Errorf("https: %w", err)
	}
	page := web.Handler()
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /assets/", page)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { httpd.WriteProblem(w, r, away) })
	server := &http.Server{Handler: httpd.Guard(b.log, mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10}
	ended := make(chan error, 1)
	go func() { ended <- ignoreClosed(server.Serve(tls.NewListener(listener, b.front.TLSConfig()))) }()
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	mounts := make(chan struct{}, 1)
	go b.tellMounts(waiting, mounts)
	said := ""
	for {
		err := b.back()
		if err == nil {
			return errors.Join(server.Close(), <-ended)
		}
		if text := err.Error(); text != said {
			said = text
			b.log.Warn("waiting for the disk", "state", b.conf.State, "volume", b.store.VolumeID(), "why", text)
		}
		timer := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(server.Close(), <-ended)
		case err := <-ended:
			timer.Stop()
			return err
		case <-mounts:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// back says why the volume is not back yet.
func (b *Box) back() error {
	dir, err := vfs.OpenDir(b.conf.State)
	if err != nil {
		return err
	}
	return errors.Join(storage.Present(dir, b.store.VolumeID()), dir.Close())
}
