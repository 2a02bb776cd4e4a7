// Package daemon puts the parts of a box together, starts and stops them. It is
// the only package that knows them all, and owns no rule of its own.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/backup"
	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/duplicates"
	"yunbox.local/daemon/erasure"
	"yunbox.local/daemon/export"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/gateway/ftp"
	"yunbox.local/daemon/gateway/inbox"
	"yunbox.local/daemon/guardian"
	"yunbox.local/daemon/health"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/incident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/metrics"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/report"
	"yunbox.local/daemon/requests"
	"yunbox.local/daemon/secrets"
	"yunbox.local/daemon/thirdparty"
	"yunbox.local/daemon/tree"
	"yunbox.local/daemon/update"
	"yunbox.local/daemon/update/install"
	"yunbox.local/daemon/vault"
	"yunbox.local/discovery"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// Options of Open.
type Options struct {
	Config config.Config
	// Log receives what is worth knowing; nil discards it.
	Log *slog.Logger
	// Disk keeps the blobs; nil is the state directory itself.
	Disk vfs.FS
	// Listen opens what the box answers on, "https", "http" and "ftp", by the address
	// that is set for it; nil, nil where that is "off". For a box that is opened again it
	// is called again. nil: TCP at the address.
	Listen func(name, addr string) (net.Listener, error)
	// Now is the clock; nil is time.Now, which is believed at once while the system
	// says that it is right.
	Now func() time.Time
	// Running is how long the box was seen to run since some moment, whatever became of
	// the clock; nil: as the system counts it.
	Running func() time.Duration
	// Catalogue is what purposes and policies say; nil is what this version was built
	// with, which is what every box in use has. Tests give another one.
	Catalogue *consent.Catalogue
	// Rebuilt is what Rescue returned; nil: nothing was rebuilt. It is written into
	// the audit record.
	Rebuilt *RebuildReport
}

// Box is a running box. Its methods may be called from several goroutines, Run
// and Close once each.
type Box struct {
	conf    config.Config
	log     *slog.Logger
	now     func() time.Time // the system's; from openVolume on, clock.Now
	running func() time.Duration
	words   *consent.Catalogue
	right   func() bool
	opens   func(name, addr string) (net.Listener, error)
	clock   *clock
	volume  vfs.FS
	started time.Time

	// Held from Open to Close, given back in the reverse order.
	closers []func() error

	store     *storage.Store
	identity  *httpd.Identity
	db        *db.DB
	audit     *audit.Log
	vault     *vault.Vault
	outside   *disclosure.Register
	elsewhere *thirdparty.Room
	maker     *report.Room
	accounts  *account.Accounts
	consent   *consent.Ledger
	catalog   *catalog.Catalog
	ingest    *ingest.Ingest
	inbox     *inbox.Inbox
	health    *health.Health
	backup    *backup.Backup
	tree      *tree.Tree // nil: there is none
	secrets   *secrets.Secrets
	incidents *incident.Room

	duplicates *duplicates.Room
	exports    *export.Room
	guardians  *guardian.Room
	erasure    *erasure.Room
	requests   *requests.Room
	updates    *update.Room

	traffic     *metrics.Traffic
	visits      atomic.Int64 // of cameras
	front       *httpd.Server
	maintenance *api.Local
	https       net.Listener
	plain       net.Listener // nil: nothing there; it only points to https while conf.HTTP is off
	ftp         net.Listener // nil: off
	cameras     *ftp.Gateway // nil with ftp
	local       net.Listener

	bound     chan struct{}                       // tells the announcement that the box got its owner
	announced atomic.Pointer[discovery.Announcer] // nil: not on the network
	called    atomic.Pointer[discovery.Names]     // what the network calls the box; nil: not yet known

	rebuild chan struct{} // ends Run with ErrRebuild
	again   chan struct{} // ends Run with ErrReset
	trouble chan struct{} // has watchVolume look at the disk

	between     func(context.Context) error // two steps of erasing: a test cuts there
	dir         vfs.FS                      // of the volume
	disk        vfs.FS                      // of a box that was opened for a rebuild
	keepOrphans bool                        // see compareRecords
}

// Open takes the state directory into use and listens on the configured
// addresses; nothing is answered before Run. A second box on the same state
// directory is refused with problem.Locked, a missing or foreign volume with
// problem.Unavailable, records that are missing or damaged with problem.Damaged:
// see NeedsRebuild.
func Open(ctx context.Context, opt Options) (*Box, error) {
	b := newBox(opt)
	err := b.open(ctx, opt.Disk)
	if err == nil {
		err = b.noteRebuild(ctx, opt.Rebuilt)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func newBox(opt Options) *Box {
	b := &Box{conf: opt.Config, log: opt.Log, now: opt.Now, running: opt.Running, words: opt.Catalogue, traffic: metrics.NewTraffic(), right: func() bool { return false }, opens: opt.Listen,
		bound: make(chan struct{}, 1), rebuild: make(chan struct{}, 1), again: make(chan struct{}, 1), trouble: make(chan struct{}, 1)}
	b.between = func(context.Context) error { return nil }
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.opens == nil {
		b.opens = listenTCP
	}
	if b.now == nil {
		b.now, b.right = time.Now, synchronised
	}
	if b.running == nil {
		begin := time.Now()
		b.running = func() time.Duration { return time.Since(begin) }
	}
	return b
}

func (b *Box) open(ctx context.Context, disk vfs.FS) error {
	disk, err := b.openVolume(ctx, disk)
	if err != nil {
		return err
	}
	if err := b.refuseNewKey(disk); err != nil {
		return err
	}
	keys, err := b.openKeys()
	if err != nil {
		return err
	}
	if err := b.openRecords(ctx, disk, keys); err != nil {
		return err
	}
	b.openBackup(disk, keys)
	if err := b.openOutside(keys); err != nil {
		return err
	}
	if err := b.openUpdates(); err != nil {
		return err
	}
	b.health.AddSource(b.backup)
	if err := b.listen(); err != nil {
		return err
	}
	return b.openFront()
}

func (b *Box) memory() memory { return share(int64(b.conf.MemoryMiB) << 20) }

func (b *Box) path(parts ...string) string {
	return filepath.Join(append([]string{b.conf.State}, parts...)...)
}

// openVolume comes first: it holds the lock that keeps a second daemon away.
func (b *Box) openVolume(ctx context.Context, disk vfs.FS) (vfs.FS, error) {
	if b.conf.Volume == "" {
		if err := vfs.CreateDir(b.conf.State); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
	}
	if disk == nil {
		dir, err := vfs.OpenDir(b.conf.State)
		if b.conf.Volume != "" && errors.Is(err, fs.ErrNotExist) {
			return nil, b.notThere(err)
		}
		if err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		b.closers = append(b.closers, dir.Close)
		disk = dir
	}
	b.dir = disk
	if err := b.finishReset(disk); err != nil {
		return nil, err
	}
	if err := refuseHalfRestored(b.path(target.RestoringFile)); err != nil {
		return nil, err
	}
	if err := refuseHalfBack(b.path(install.RestoreMark)); err != nil {
		return nil, err
	}
	if err := refuseEmptyVolume(disk, b.path("box.db")); err != nil {
		return nil, err
	}
	b.volume = disk
	b.clock = b.openClock(disk)
	b.now = b.clock.Now
	b.started = time.Now() // its monotonic part counts, whatever becomes of the clock
	store, err := storage.Open(ctx, disk, storage.Options{
		Volume: b.conf.Volume, Log: b.log, Reserve: int64(b.conf.ReserveMiB) << 20, Now: b.clock.earlier, Trouble: b.noteTrouble, Buffers: b.memory().uploads,
		// Nothing is asked before the first upload, and the catalogue is there by then.
		Acknowledged: func(ctx context.Context, ref storage.Ref) (bool, error) { return b.catalog.Relied(ctx, ref) },
	})
	switch {
	case errors.Is(err, storage.ErrLocked):
		return nil, &problem.Error{Kind: problem.Locked, Op: "daemon.open", Err: err,
			Title:  "Another yunboxd is using this state directory",
			Detail: b.conf.State,
			Hint:   "Stop it first, or give this one a state directory of its own with --state."}
	case errors.Is(err, storage.ErrWrongVolume) && b.conf.Volume != "":
		return nil, b.notThere(err)
	case errors.Is(err, storage.ErrWrongVolume):
		return nil, &problem.Error{Kind: problem.Unavailable, Op: "daemon.open", Err: err,
			Title:  "The volume with the files cannot be recognised",
			Detail: "Its identity files VOLUME and VOLUME.copy are not what this version writes.",
			Hint:   "Nothing was changed. Is it the right disk? The second copy has the file VOLUME, too."}
	case errors.Is(err, storage.ErrReadOnly):
		return nil, &problem.Error{Kind: problem.Unavailable, Op: "daemon.open", Err: err,
			Title:  "The disk with the state directory can only be read",
			Detail: b.conf.State,
			Hint:   "Nothing was changed. Look after the disk, mount it so that it can be written, then start the box again. The files lie under blobs/ and can be read without the box."}
	case err != nil:
		return nil, fmt.Errorf("volume: %w", err)
	}
	b.store = store
	b.closers = append(b.closers, store.Close)
	return disk, nil
}

// notThere is said by a box whose settings name its volume, which it does not find.
func (b *Box) notThere(err error) error {
	return &problem.Error{Kind: problem.Unavailable, Op: "daemon.open", Err: err,
		Title:  "The box's disk is not there",
		Detail: fmt.Sprintf("The settings say that %s lies on volume %s.", b.conf.State, b.conf.Volume),
		Hint:   "Nothing was changed. Attach and mount the disk, then start the box again."}
}

// refuseEmptyVolume keeps a box from starting over on a volume that lost its
// identity while its records are there: what is missing then is a disk, not the
// people's files.
func refuseEmptyVolume(disk vfs.FS, records string) error {
	if _, err := os.Stat(records); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if there, err := storage.HasVolume(disk); err != nil {
		return fmt.Errorf("volume: %w", err)
	} else if !there {
		return &problem.Error{Kind: problem.Unavailable, Op: "daemon.open", Err: err,
			Title:  "The volume with the files is not there",
			Detail: "The box's records exist, but the identity file VOLUME beside them does not.",
			Hint:   "Nothing was changed. Attach and mount the disk, then start the box again."}
	}
	return nil
}

// refuseNewKey keeps a box that lost its key from silently becoming another one: no
// phone would speak to it, and its receipts would be nobody's.
func (b *Box) refuseNewKey(disk vfs.FS) error {
	if known, err := httpd.HasIdentity(b.path("keys")); err != nil || known {
		return err
	}
	used := false
	for _, name := range []string{recordsFile, "box.db"} {
		_, err := disk.Stat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("state directory: %w", err)
		}
		used = used || err == nil
	}
	if !used {
		return nil
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "daemon.open",
		Title:  "The box's key is lost",
		Detail: "There are records and files, but the folder keys has no ca.key. The key is what phones know the box by.",
		Hint:   "Nothing was changed. Restore the key from the second copy: `yunboxctl backup restore` onto an empty folder, and take its folder keys."}
}

func (b *Box) openKeys() (vfs.FS, error) {
	identity, err := httpd.LoadIdentity(b.path("keys"), b.clock.certificates)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if mended := identity.Mended(); len(mended) > 0 {
		b.log.Warn("files with the box's key were damaged or lost, and made again from what is left: look at the disk", "files", mended)
	}
	b.identity = identity
	b.closers = append(b.closers, identity.Close)
	keys, err := vfs.OpenDir(b.path("keys"))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	b.closers = append(b.closers, keys.Close)
	return keys, nil
}

func (b *Box) openRecords(ctx context.Context, disk, keys vfs.FS) (err error) {
	if err := b.refuseNewRecords(ctx, disk); err != nil {
		return err
	}
	b.db, err = db.Open(ctx, db.Options{
		Path: b.path("box.db"), BackupDir: b.path("backup"), Journal: b.path("journal"), Cache: b.memory().pages, Log: b.log,
		Now: b.now, Sure: b.clock.Sure, Trouble: b.noteTrouble, Gone: b.store.Verified,
	})
	if err != nil {
		return err
	}
	b.closers = append(b.closers, b.db.Close)
	if err := b.sameVolume(ctx); err != nil {
		return err
	}
	b.compareRecords(ctx, disk)
	b.audit = audit.New(b.db)
	b.outside = disclosure.New(b.db)
	if err := b.settleRestore(ctx); err != nil {
		return err
	}
	if err := b.openVault(ctx, keys); err != nil {
		return err
	}
	b.accounts, err = account.Open(ctx, b.db, b.audit, account.Options{
		Keys: keys, Vault: b.vault, Breached: b.conf.Breached, DeviceID: b.identity.ID(), Fingerprint: b.identity.Fingerprint(),
		Name: b.Name(), Log: b.log, Now: b.clock.sure, System: b.now, OnBound: b.onBound, Passwords: b.memory().passwords,
		// Nobody is switched off before the room is there.
		Stands: func(tx *db.Tx, u ident.UserID) error { return b.guardians.Stands(tx, u) },
		Erased: func(tx *db.Tx, u ident.UserID, category string) error { return b.erasure.Gone(tx, u, category) },
	})
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	if b.consent, err = consent.OpenWith(ctx, b.db, b.audit, b.identity.Signer(), b.words); err != nil {
		return fmt.Errorf("consents: %w", err)
	}
	if err := b.tellPolicy(ctx); err != nil {
		return fmt.Errorf("consents: %w", err)
	}
	if b.catalog, err = catalog.Open(ctx, b.db); err != nil {
		return fmt.Errorf("catalogue: %w", err)
	}
	b.ingest = ingest.New(ingest.Options{
		Store: b.store, Catalog: b.catalog, DB: b.db, Consent: b.consent, Log: b.log, Now: b.clock.sure, KeepOrphans: b.keepOrphans, LetGo: b.letGo, Refuse: b.refuse,
	})
	b.guardians = guardian.New(guardian.Options{
		DB: b.db, Accounts: b.accounts, Audit: b.audit, Consent: b.consent, Rights: b.register, Clean: b.clean, Log: b.log,
	})
	if err := b.openTree(); err != nil {
		return err
	}
	b.health = health.New(health.Options{
		Catalog: b.catalog, Store: b.store, DB: b.db, Log: b.log, Now: b.clock.sure,
		Days: b.conf.ScrubDays, Rate: int64(b.conf.ScrubMiB) << 20, Dir: b.conf.State,
	})
	b.closers = append(b.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		return b.ingest.Close(ctx)
	})
	return nil
}

// sameVolume ties the records to the volume that they speak of: a disk of
// another box under the same path must not count as "all files deleted".
func (b *Box) sameVolume(ctx context.Context) error {
	return b.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec("INSERT INTO box(key, value) VALUES ('volume', ?) ON CONFLICT DO NOTHING", b.store.VolumeID()); err != nil {
			return err
		}
		var id string
		if err := tx.QueryRow("SELECT value FROM box WHERE key = 'volume'").Scan(&id); err != nil {
			return err
		}
		if id != b.store.VolumeID() {
			return anotherBox(id, b.store.VolumeID())
		}
		return nil
	})
}

func (b *Box) onBound() {
	select {
	case b.bound <- struct{}{}:
	default:
	}
}

// Close gives back everything that Open took. Run must have returned.
func (b *Box) Close() error {
	var errs []error
	for len(b.closers) > 0 {
		last := len(b.closers) - 1
		errs = append(errs, b.closers[last]())
		b.closers = b.closers[:last]
	}
	return errors.Join(errs...)
}

// Name is what people call the box.
func (b *Box) Name() string {
	if b.conf.Name != "" {
		return b.conf.Name
	}
	return "Yunbox " + b.identity.Suffix()
}
