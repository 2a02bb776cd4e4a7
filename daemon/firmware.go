package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update"
	"yunbox.local/daemon/update/bundle"
	"yunbox.local/daemon/update/install"
	"yunbox.local/discovery"
	"yunbox.local/storage"
)

// openUpdates is the part that changes the box's own software. Which release runs is
// said by release.json beside the program; without one it was not installed.
func (b *Box) openUpdates() error {
	roots, err := bundle.Roots()
	if err != nil {
		return err
	}
	opt := update.Options{
		DB: b.db, Audit: b.audit, Outside: b.outside, Log: b.log, State: b.dir, Version: Version, Roots: roots,
		Roll: b.db.Roll, Notify: b.accounts.NotifyAdmins, Test: b.proveItself, Answered: b.answered,
	}
	if opt.Authorities, err = authorities(b.conf.Maker.CA); err != nil {
		return err
	}
	if opt.Release, opt.Software, err = runningRelease(); err != nil {
		// A box that keeps photos and cannot be updated is better than none.
		b.log.Error("which release this is cannot be read: no update is taken", "err", err)
	}
	b.updates, err = update.New(opt)
	return err
}

// runningRelease reads what lies beside the program, and the folder of all releases.
func runningRelease() (r bundle.Release, software fs.FS, err error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return r, nil, nil // a program that was removed while it runs
	}
	dir := filepath.Dir(exe)
	text, err := os.ReadFile(filepath.Join(dir, bundle.ReleaseFile))
	if errors.Is(err, fs.ErrNotExist) || filepath.Base(filepath.Dir(dir)) != install.Releases {
		return r, nil, nil
	} else if err != nil {
		return r, nil, err
	}
	if r, err = bundle.ParseRelease(text); err != nil {
		return bundle.Release{}, nil, err
	}
	return r, os.DirFS(filepath.Dir(filepath.Dir(dir))), nil
}

// refuseHalfBack keeps a box from starting on records that the updater is putting back.
func refuseHalfBack(mark string) error {
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "daemon.open",
		Title:  "The version before is being put back",
		Detail: "The box's records are not whole until that is done.",
		Hint:   "It goes on by itself: `systemctl start yunbox-update`. Nothing is lost."}
}

// tryOut serves a box that takes nothing in until its new version has proved itself; it
// returns at once for every other one.
func (b *Box) tryOut(ctx context.Context, ready func()) bool {
	if b.updates.Closed() == nil {
		return true
	}
	b.log.Warn("a new version is tried out; nothing is taken in until it has proved itself")
	ready()
	if !b.updates.Await(ctx) {
		return false
	}
	b.onBound() // the network hears that it is no longer in maintenance
	return true
}

// whileClosed is what root may ask of a box that is tried out.
func (b *Box) whileClosed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := b.updates.Closed(); err != nil && r.URL.Path != "/local/status" && r.URL.Path != "/local/update" {
			b.maintenance.Refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// proveItself has the box do what it is for, and returns the word of what it cannot.
func (b *Box) proveItself(ctx context.Context) (failed string) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for _, check := range []struct {
		word string
		do   func(context.Context) error
	}{
		{"database", b.proveDatabase}, {"blob", b.proveBlob}, {"https", b.proveHTTPS},
		{"disk", func(context.Context) error { return b.store.Err() }}, {"mdns", b.proveMDNS},
	} {
		if err := check.do(ctx); err != nil {
			b.log.Error("the box cannot do what it is for", "check", check.word, "err", err)
			return check.word
		}
	}
	return ""
}

func (b *Box) proveDatabase(ctx context.Context) error {
	word := make([]byte, 8)
	rand.Read(word)
	err := b.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO box (key, value) VALUES ('update_probe', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, fmt.Sprintf("%x", word))
		return err
	})
	if err != nil {
		return err
	}
	var have string
	if err := b.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT value FROM box WHERE key = 'update_probe'`).Scan(&have)
	}); err != nil {
		return err
	}
	if have != fmt.Sprintf("%x", word) {
		return errors.New("the database gives back something else")
	}
	_, err = b.catalog.Totals(ctx)
	return err
}

// proveBlob stores a content as an upload does, reads it back and removes it.
func (b *Box) proveBlob(ctx context.Context) error {
	content := make([]byte, 256<<10)
	rand.Read(content)
	u, err := b.store.Begin(ctx, int64(len(content)))
	if err != nil {
		return err
	}
	defer u.Close()
	if _, err := u.Write(ctx, 0, bytes.NewReader(content)); err != nil {
		return err
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		return err
	}
	batch := []storage.Sealed{sealed}
	err = errors.Join(b.store.Commit(ctx, batch)...)
	b.store.Release(batch)
	if err != nil {
		return err
	}
	blob, err := b.store.Get(ctx, sealed.Ref)
	if err != nil {
		return err
	}
	have, err := io.ReadAll(blob)
	if err := errors.Join(err, blob.Close()); err != nil {
		return err
	}
	if !bytes.Equal(have, content) {
		return errors.New("the store gives back something else")
	}
	swept, err := b.store.Remove(ctx, []storage.Ref{sealed.Ref}, func(storage.Ref) (bool, error) { return false, nil })
	if err == nil && swept.Blobs != 1 {
		err = errors.New("what is removed stays")
	}
	return err
}

// proveHTTPS asks the box as a phone does that knows its key.
func (b *Box) proveHTTPS(ctx context.Context) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b.identity.CertificatePEM()) {
		return errors.New("the box's own certificate cannot be read")
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: b.identity.HostName(), MinVersion: tls.VersionTLS12},
	}}
	at := b.URLs()[len(b.URLs())-1]
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(at, "/")+"/.well-known/yunbox", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the box answers %d: %w", resp.StatusCode, err)
	}
	return nil
}

const (
	askTime = 1500 * time.Millisecond // for an answer on every link, before the version is changed
	// mdnsTime is how long a version may take to answer, in each of its three tries: it
	// probes for a second, and a busy box on a slow disk comes to that late.
	mdnsTime = 20 * time.Second
)

// answered are the links on which the box is announced and answers, now. That it is not
// known on some of them is no reason to stay with a version.
func (b *Box) answered(ctx context.Context) []string {
	s, ok := b.Announced()
	if !ok || len(s.Links) == 0 {
		return nil
	}
	on, err := discovery.Answered(ctx, b.identity.ID(), askTime)
	if err != nil {
		b.log.Warn("the network cannot be asked for the box", "err", err)
	}
	return slices.DeleteFunc(s.Links, func(link string) bool { return !on[link] })
}

// proveMDNS asks for the box on every link on which the version before answered and which
// is still there. Where Avahi speaks for it, Avahi's word is enough. A version need not
// answer where it is not its doing that there is no answer: see excused.
func (b *Box) proveMDNS(ctx context.Context) error {
	before := b.updates.AnsweredBefore()
	if len(before) == 0 || !b.conf.MDNS.Announces() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mdnsTime)
	defer cancel()
	for {
		on, err := discovery.Answered(ctx, b.identity.ID(), askTime)
		if err != nil {
			b.log.Warn("the network cannot be asked for the box: whether it is found is not known", "err", err)
			return nil
		}
		s, _ := b.Announced()
		silent := slices.DeleteFunc(slices.Clone(before), func(link string) bool {
			answers, here := on[link]
			return answers || !here || s.Backend == discovery.Avahi && slices.Contains(s.Links, link)
		})
		switch {
		case len(silent) == 0:
			return nil
		case ctx.Err() == nil:
			continue
		case excused(s):
			b.log.Warn("the box is not found on the network, and others are why", "links", silent, "disturbed", s.Disturbed, "err", s.Err)
			return nil
		}
		return fmt.Errorf("no answer on %s, where the version before gave one", strings.Join(silent, ", "))
	}
}

// excused reports whether others may be why the box is not found: somebody claims its names
// or floods the network, the port is another program's, or Avahi is gone. Without that,
// anybody on the network could make the box go back to the version before. That a version
// keeps the port busy itself (discovery.ErrOwnPort) is its own fault.
func excused(s discovery.Status) bool {
	return s.Disturbed || errors.Is(s.Err, syscall.EADDRINUSE) || s.Backend == discovery.Avahi && s.Err != nil
}
