// Package backup keeps second copies of the box on other disks: by itself, a while
// after something changed, encrypted so that the disk alone tells nobody anything,
// and so that a box which burned can be made again from one of them.
//
// Package target knows how a copy lies on its disk. This package knows what
// belongs into it and when. docs/decisions/0021-the-second-copy.md has the
// reasons.
package backup

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

const (
	// DefaultEvery is how long a run is held off after the last one.
	DefaultEvery = 24 * time.Hour
	// lookEvery is how often the box looks whether a run is due.
	lookEvery = 10 * time.Minute
	// retryAfter is how long a run that failed waits.
	retryAfter = time.Hour
	// maxWait is how long a run that is due waits for a busy box.
	maxWait = time.Hour
	// verifyEvery is how often a copy is read back whole.
	verifyEvery = 30 * 24 * time.Hour

	keyPrefix = "backup-" // of the files with the keys of copies, in keys/
	snapshot  = "second-copy.db"
)

// Options of New. All but Log, Busy, Doubt, Config, Left and Open are needed.
type Options struct {
	DB    *db.DB
	Audit *audit.Log
	Store *storage.Store
	Disk  vfs.FS // of the volume: VOLUME is copied from there
	Keys  vfs.FS // the folder keys/
	State string // the box's own directory
	Box   string // id of the box
	Now   func() time.Time
	Log   *slog.Logger // nil: none

	// Busy says whether the box has better things to do; nil: never.
	Busy func() bool
	// Doubt is told of a content of so many bytes that is damaged on the box
	// itself; nil: nobody.
	Doubt func(ctx context.Context, ref storage.Ref, size int64) error
	// Config returns the box's settings as they were given; nil: there are none.
	Config func() ([]byte, error)
	// Left writes down within tx that the box was copied to the target of that id; nil:
	// nobody does.
	Left func(tx *db.Tx, target string) error
	// Open opens a folder on a target; nil: vfs.OpenDir.
	Open func(dir string) (Folder, error)
}

// Folder is an open folder on a target.
type Folder interface {
	vfs.FS
	io.Closer
}

// Backup keeps the second copies. It is safe for concurrent use.
type Backup struct {
	opt  Options
	log  *slog.Logger
	wake chan struct{}

	working chan struct{} // holds one while a copy is worked on: one at a time

	mu      sync.Mutex
	running context.Context      // of Run; nil: it does not run
	giveWay context.CancelFunc   // ends what the box does by itself; nil: nothing
	now     *Progress            // of what runs; nil: nothing
	of      string               // id of its copy
	since   time.Time            // when it began
	held    map[string]time.Time // by id: no try by itself before then
}

// New reads nothing yet. Run does the work.
func New(opt Options) *Backup {
	b := &Backup{opt: opt, log: opt.Log, wake: make(chan struct{}, 1), working: make(chan struct{}, 1), held: map[string]time.Time{}}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.opt.Busy == nil {
		b.opt.Busy = func() bool { return false }
	}
	if b.opt.Open == nil {
		b.opt.Open = func(dir string) (Folder, error) { return vfs.OpenDir(dir) }
	}
	return b
}

// Target is a copy that was added.
type Target struct {
	ID, Name, Path string
	Every          time.Duration
	Created        time.Time

	Run        time.Time // when the newest generation was made; zero: never
	Generation int64
	Contents   int64
	Bytes      int64
	Missing    int64     // contents that could not be copied
	Damaged    int64     // contents that are damaged on the target
	Verified   time.Time // when all of it was last read back and held; zero: never
	Failed     time.Time // when the last try failed; zero: it did not
	Reason     string

	mark    []byte
	settled bool
}

const targetColumns = `id, name, path, every, created, run, generation, mark, settled, contents, bytes, missing, verified, failed, reason,
	(SELECT count(*) FROM backup_damage WHERE target = id)`

func scanTarget(row interface{ Scan(...any) error }) (t Target, err error) {
	var every, created int64
	var run, verified, failed sql.NullInt64
	err = row.Scan(&t.ID, &t.Name, &t.Path, &every, &created, &run, &t.Generation, &t.mark, &t.settled, &t.Contents, &t.Bytes, &t.Missing, &verified, &failed, &t.Reason, &t.Damaged)
	t.Every, t.Created = time.Duration(every)*time.Millisecond, time.UnixMilli(created).UTC()
	t.Run, t.Verified, t.Failed = moment(run), moment(verified), moment(failed)
	return t, err
}

func moment(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}

// Targets lists the copies in the order in which they were added.
func (b *Backup) Targets(ctx context.Context) (list []Target, err error) {
	err = b.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+targetColumns+` FROM backup_target ORDER BY created, id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			t, err := scanTarget(rows)
			if err != nil {
				return err
			}
			list = append(list, t)
		}
		return rows.Err()
	})
	return list, err
}

// Find returns the copy of that name, or the only one for "".
func (b *Backup) Find(ctx context.Context, name string) (Target, error) {
	list, err := b.Targets(ctx)
	if err != nil {
		return Target{}, err
	}
	for _, t := range list {
		if t.Name == name || t.ID == name || name == "" && len(list) == 1 {
			return t, nil
		}
	}
	e := &problem.Error{Kind: problem.NotFound, Op: "backup", Title: "There is no second copy of that name",
		Hint: "yunboxctl backup list names them."}
	switch {
	case len(list) == 0:
		e.Title, e.Hint = "The box has no second copy", "Add one: yunboxctl backup add /media/DISK"
	case name == "":
		e.Title = "Which second copy?"
		e.Detail = "There are several."
	}
	return Target{}, e
}

// Wish is what Add is told.
type Wish struct {
	Path  string        // of the target: a folder that exists
	Name  string        // "": the last part of the path
	Every time.Duration // 0: DefaultEvery
	Key   target.Public
	// SameDisk lets the copy lie on the box's own disk, where it does not
	// outlive it.
	SameDisk bool
}

// Add makes a folder of the box's own on a target and keeps a copy there from now
// on.
func (b *Backup) Add(ctx context.Context, w Wish) (t Target, err error) {
	release, err := b.claim(ctx)
	if err != nil {
		return t, err
	}
	defer release()
	if t, err = b.check(w); err != nil {
		return t, err
	}
	list, err := b.Targets(ctx)
	if err != nil {
		return t, err
	}
	for _, other := range list {
		if other.Name == t.Name {
			return t, &problem.Error{Kind: problem.Conflict, Op: "backup.add", Title: "A second copy has that name already", Hint: "Say another with --name."}
		}
	}
	keys, err := target.NewKeys(w.Key)
	if err != nil {
		return t, err
	}
	now := b.opt.Now().UTC().Truncate(time.Second)
	if err := b.initialise(t, keys, target.Identity{ID: t.ID, Box: b.opt.Box, Created: now}); err != nil {
		return t, err
	}
	// The key first: a copy that the records name can be written.
	if err := vfs.WriteFile(b.opt.Keys, keyPrefix+t.ID, keys.Marshal(), 0o400); err != nil {
		return t, err
	}
	err = b.opt.DB.Write(ctx, func(tx *db.Tx) error {
		t.Created = tx.Now.UTC()
		if _, err := tx.Exec(`INSERT INTO backup_target (id, name, path, every, created) VALUES (?, ?, ?, ?, ?)`,
			t.ID, t.Name, t.Path, t.Every.Milliseconds(), t.Created.UnixMilli()); err != nil {
			return err
		}
		return b.opt.Audit.Append(tx, audit.Event{Action: "backup.add", Object: t.ID, Via: "socket"})
	})
	if err != nil {
		return t, errors.Join(err, b.opt.Keys.Remove(keyPrefix+t.ID))
	}
	b.Wake()
	return t, nil
}

// check turns a wish into a target.
func (b *Backup) check(w Wish) (t Target, err error) {
	invalid := func(title, detail, hint string) error {
		return &problem.Error{Kind: problem.Invalid, Op: "backup.add", Title: title, Detail: detail, Hint: hint}
	}
	if !filepath.IsAbs(w.Path) {
		return t, invalid("The path is not complete", "It does not begin at the root of the file system.", "Say the whole path, such as /media/disk.")
	}
	top := filepath.Clean(w.Path)
	info, err := os.Stat(top)
	if err != nil || !info.IsDir() {
		return t, &problem.Error{Kind: problem.NotFound, Op: "backup.add", Title: "There is no such folder", Err: err,
			Hint: "Plug the disk in and mount it, or correct the path; the box's own user must be able to write there."}
	}
	state, err := os.Stat(b.opt.State)
	if err != nil {
		return t, err
	}
	if vfs.Within(top, b.opt.State) {
		return t, invalid("That folder belongs to the box itself", "It lies in the box's state directory.", "Choose a folder on another disk.")
	}
	if device(info) == device(state) && !w.SameDisk {
		return t, &problem.Error{Kind: problem.Conflict, Op: "backup.add", Title: "That folder is on the box's own disk",
			Detail: "A copy there is lost together with the disk. Perhaps the other disk is not mounted.",
			Hint:   "Mount the other disk first. If it is meant so, say --same-disk."}
	}
	t = Target{ID: newID(), Name: w.Name, Path: filepath.Join(top, target.Folder(b.opt.Box)), Every: w.Every}
	if t.Name == "" {
		t.Name = filepath.Base(top)
	}
	if len(t.Name) > 64 || !utf8.ValidString(t.Name) || strings.ContainsFunc(t.Name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return t, invalid("That name cannot be used", "It is too long or has invisible characters.", "Say another with --name.")
	}
	switch {
	case t.Every == 0:
		t.Every = DefaultEvery
	case t.Every < time.Minute:
		return t, invalid("A copy every moment wears the disk out", "A minute is the least.", "Say --every 24h, for example.")
	}
	return t, nil
}

func device(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev) //nolint:unconvert // its type differs between architectures
	}
	return 0
}

// newID returns 128 random bits as 26 characters.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(b[:])
}

func (b *Backup) initialise(t Target, keys *target.Keys, id target.Identity) error {
	if err := vfs.CreateDir(t.Path); err != nil {
		return &problem.Error{Kind: problem.Unavailable, Op: "backup.add", Err: err, Title: "The folder cannot be made on that disk",
			Hint: "The box's own user must be able to write there."}
	}
	folder, err := b.opt.Open(t.Path)
	if err != nil {
		return err
	}
	_, err = target.Init(folder, keys, id)
	return errors.Join(err, folder.Close())
}

// Remove keeps the copy of that name no longer. erase also removes it from its
// target, which must be there; else it stays as it is, and only the recovery key
// opens it.
func (b *Backup) Remove(ctx context.Context, name string, erase bool) (Target, error) {
	release, err := b.claim(ctx)
	if err != nil {
		return Target{}, err
	}
	defer release()
	if name == "" {
		return Target{}, &problem.Error{Kind: problem.Invalid, Op: "backup.remove", Title: "Which second copy?", Hint: "yunboxctl backup list names them."}
	}
	t, err := b.Find(ctx, name)
	if err != nil {
		return t, err
	}
	if erase {
		if err := b.erase(ctx, t); err != nil {
			return t, err
		}
	}
	if err := b.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM backup_target WHERE id = ?`, t.ID); err != nil {
			return err
		}
		return b.opt.Audit.Append(tx, audit.Event{Action: "backup.remove", Object: t.ID, Via: "socket", Detail: map[string]string{"erased": fmt.Sprint(erase)}})
	}); err != nil {
		return t, err
	}
	if err := b.opt.Keys.Remove(keyPrefix + t.ID); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	return t, b.opt.Keys.SyncDir(".")
}

func (b *Backup) erase(ctx context.Context, t Target) error {
	tt, done, err := b.open(t)
	if err != nil {
		return err
	}
	defer done()
	if err := tt.Erase(ctx); err != nil {
		return err
	}
	if err := os.Remove(t.Path); err != nil {
		b.log.Info("the folder of a second copy that was erased stays: there are other files in it", "copy", t.ID)
	}
	return nil
}

// open opens the folder of a copy. Call done soon: an open folder keeps a disk
// from being unmounted.
func (b *Backup) open(t Target) (tt *target.Target, done func(), err error) {
	data, err := vfs.ReadFile(b.opt.Keys, keyPrefix+t.ID)
	if err == nil {
		var keys *target.Keys
		if keys, err = target.ParseKeys(data); err == nil {
			return b.openWith(t, keys)
		}
	}
	return nil, nil, &problem.Error{Kind: problem.Damaged, Op: "backup.open", Err: err, Title: "The box's key of this second copy is lost or damaged",
		Detail: "The copy itself is not: the recovery key opens it.", Hint: "Remove it with `yunboxctl backup remove`, rename its folder, and add it anew."}
}

func (b *Backup) openWith(t Target, keys *target.Keys) (*target.Target, func(), error) {
	folder, err := b.opt.Open(t.Path)
	if err != nil {
		return nil, nil, &problem.Error{Kind: problem.Unavailable, Op: "backup.open", Err: fmt.Errorf("%w: %w", target.ErrAbsent, err),
			Title: "The disk with the second copy is not there", Detail: "Its folder is missing.",
			Hint: "Plug the disk in and mount it; the copy goes on by itself. A missing disk is never taken for an empty one."}
	}
	tt, err := target.Open(folder, keys, t.ID)
	if err != nil {
		return nil, nil, errors.Join(err, folder.Close())
	}
	return tt, func() { folder.Close() }, nil //nolint:errcheck // nothing is written through it any more
}

// claim lets one thing at a time happen to the copies. What somebody asks for goes
// first: what the box does by itself is ended, and goes on later where it was.
func (b *Backup) claim(ctx context.Context) (release func(), err error) {
	b.mu.Lock()
	waits := b.giveWay != nil
	if waits {
		b.giveWay()
	}
	b.mu.Unlock()
	release = func() { <-b.working }
	select {
	case b.working <- struct{}{}:
		return release, nil
	default:
	}
	if waits {
		select {
		case b.working <- struct{}{}:
			return release, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, &problem.Error{Kind: problem.Locked, Op: "backup", Title: "The box is working on a second copy right now",
		Detail: "One thing at a time happens to the copies.", Hint: "`yunboxctl backup status` shows how far it is. Try again when it is done."}
}

// Name is what the copies are called where damage is healed from one of them.
func (b *Backup) Name() string { return "second copy" }

// Open opens a content as one of the copies has it, decrypted while it is read: for
// whoever heals the box. The caller holds it against the SHA-256.
// storage.ErrNotFound: no copy has it. target.ErrAbsent: none that is there has it.
func (b *Backup) Open(ctx context.Context, ref storage.Ref) (io.ReadCloser, error) {
	list, err := b.Targets(ctx)
	if err != nil {
		return nil, err
	}
	missed := fmt.Errorf("second copy of %s: %w", ref, storage.ErrNotFound)
	for _, t := range list {
		tt, done, err := b.open(t)
		if err != nil {
			missed = err // another may have it
			continue
		}
		r, err := tt.Content(ctx, ref)
		if err == nil {
			return &content{r, done}, nil
		}
		done()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, missed
}

type content struct {
	io.ReadCloser
	done func()
}

func (c *content) Close() error {
	err := c.ReadCloser.Close()
	c.done()
	return err
}
