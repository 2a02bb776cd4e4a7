// Package inbox takes files in from folders of the box's own computer: a share
// that others write to, a card or a stick that is plugged in, a folder that
// another program fills.
//
// It is a gateway like those of the network. Whoever administers the box says
// which folder becomes whose files; only that person's consent lets anything in,
// asked for by the source of each file before it is read.
//
// Notifications of changes are a hint, a scan now and then is the truth: a lost
// notification, an overflow, more folders than can be watched only cost time. A
// file is taken when it has stopped changing, is read once, and is kept or moved
// to a trash folder beside it only after ingest said that it is durable. A folder
// whose volume is not there is absent, not empty.
//
// Symbolic links are never followed, neither are names that begin with a dot:
// programs that write into shared folders hide there what is not finished.
package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage/vfs"
)

// What becomes of a file that was taken in.
const (
	Keep  = "keep"  // it stays where it is, and is remembered
	Trash = "trash" // it is moved to the trash folder at the top of the watched one
)

const (
	// MarkerName is the file by which a folder is known again, also on another
	// device or under another number.
	MarkerName = ".yunbox-inbox"
	// TrashName is where originals go that are not kept.
	TrashName = ".yunbox-trash"
)

// Options of New. All but the times, Watches and Log are needed.
type Options struct {
	DB      *db.DB
	Audit   *audit.Log
	Consent *consent.Ledger
	Catalog *catalog.Catalog
	Ingest  *ingest.Ingest
	// Named finds a person by name in any spelling; Person says what they are
	// called and whether their account is open.
	Named  func(ctx context.Context, name string) (ident.UserID, error)
	Person func(ctx context.Context, u ident.UserID) (name string, open bool, err error)
	// State is the box's own directory, in which no folder may lie.
	State string
	Log   *slog.Logger // nil: none

	Settle  time.Duration // how long a file must not have changed; 0: 2 s
	Scan    time.Duration // between two looks at everything; 0: 15 minutes, and up to four hours while the system tells of changes and there are none
	Retry   time.Duration // after the box could not take a file; 0: 1 minute
	Absent  time.Duration // between two questions whether a volume is there, if nobody tells; 0: 1 minute
	Watches int           // folders that are watched at once, subfolders counted; 0: 4096
}

// Inbox watches folders. It is safe for concurrent use.
type Inbox struct {
	opt Options
	log *slog.Logger
	hub *hub // nil until Run, and where the system notifies of nothing

	admin sync.Mutex // one change of the configuration at a time

	watches atomic.Int64 // folders that the system tells of

	mu      sync.Mutex
	folders map[int64]*folder
	start   func(*folder) // nil: Run does not run
	running context.Context
}

// Config is a watched folder.
type Config struct {
	ID        int64
	Path      string // absolute, without symbolic links
	User      ident.UserID
	Source    string // ingest.AutoSource, or one of source.List
	Originals string // Keep or Trash
	Target    string // folder among the person's files; "" the root
	Created   time.Time

	marker string // what the marker file says; "" where there is none
	made   bool   // the marker file is ours
	volume volume // as it was when the folder was added
}

// volume is the file system that a folder lies on.
type volume struct {
	device, inode uint64 // of the folder
	name          string // of the file system: kind, id, size
	loose         bool   // inode numbers and change times of files are made up
	remote        bool   // it is another computer's, with a clock of its own
	unreal        bool   // the kernel's own tables
}

// fileID is what tells that a file did not change since it was read.
type fileID struct {
	device, inode uint64 // device is 0 for the folder's own
	size          int64
	mtime, ctime  int64 // Unix nanoseconds
}

// New reads the configuration. Run does the work.
func New(ctx context.Context, opt Options) (*Inbox, error) {
	in := &Inbox{opt: opt, log: opt.Log, folders: map[int64]*folder{}}
	if in.log == nil {
		in.log = slog.New(slog.DiscardHandler)
	}
	for t, d := range map[*time.Duration]time.Duration{
		&in.opt.Settle: 2 * time.Second, &in.opt.Scan: 15 * time.Minute, &in.opt.Retry: time.Minute, &in.opt.Absent: time.Minute,
	} {
		if *t <= 0 {
			*t = d
		}
	}
	if in.opt.Watches <= 0 {
		in.opt.Watches = 4096
	}
	list, err := in.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	for _, c := range list {
		in.folders[c.ID] = newFolder(in, c)
	}
	return in, nil
}

// Run takes in what comes until ctx ends.
func (in *Inbox) Run(ctx context.Context) {
	hub, err := newHub(in)
	if err != nil {
		in.log.Warn("the system does not tell of changes in folders; they are looked through instead", "err", err)
	}
	var work sync.WaitGroup
	in.mu.Lock()
	in.hub, in.running = hub, ctx
	in.start = func(f *folder) {
		var inner context.Context
		inner, f.cancel = context.WithCancel(ctx)
		f.ended = make(chan struct{})
		work.Go(func() {
			defer close(f.ended)
			f.run(inner)
		})
	}
	for _, f := range in.folders {
		in.start(f)
	}
	in.mu.Unlock()
	work.Go(func() {
		if err := vfs.WatchMounts(ctx, in.mounted); err != nil {
			in.log.Warn("the system does not tell when a disk is mounted; watched folders are asked for every minute", "err", err)
		}
	})
	if hub != nil {
		hub.run(ctx)
	}
	<-ctx.Done()
	in.mu.Lock()
	in.start = nil
	in.mu.Unlock()
	ended := make(chan struct{})
	go func() { defer close(ended); work.Wait() }()
	select {
	case <-ended:
	case <-time.After(stuck):
		in.log.Warn("a watched folder does not answer; it is left")
	}
}

// stuck is how long a folder that does not answer, such as on a server that went
// away, holds up whoever wants to stop it.
const stuck = 10 * time.Second

// Wish is what Add and Import are told.
type Wish struct {
	Path      string `json:"path"`
	User      string `json:"user"`
	Source    string `json:"source"`    // "": auto
	Originals string `json:"originals"` // "": keep
	Into      string `json:"into"`      // folder among the person's files; "": named like the watched one; "/": the root
}

// check turns a wish into a configuration.
func (in *Inbox) check(ctx context.Context, w Wish) (Config, error) {
	c := Config{Source: w.Source, Originals: w.Originals}
	if c.Source == "" {
		c.Source = ingest.AutoSource
	}
	if c.Originals == "" {
		c.Originals = Keep
	}
	if c.Source != ingest.AutoSource && !slices.Contains(source.List(), c.Source) {
		return c, invalid("The source is not known", "It is none of "+strings.Join(source.List(), ", ")+".", "Say auto, and the box finds it by the names of each file.")
	}
	if c.Originals != Keep && c.Originals != Trash {
		return c, invalid("What is to become of the originals is not clear", "It is neither keep nor trash.", "Say keep or trash.")
	}
	var err error
	if c.User, err = in.opt.Named(ctx, w.User); err != nil {
		return c, err
	}
	if c.Path, c.volume, err = in.place(w.Path); err != nil {
		return c, err
	}
	switch w.Into {
	case "/":
	case "":
		// A name that the catalogue does not take falls back to the root.
		if t, err := catalog.CleanPath(filepath.Base(c.Path)); err == nil {
			c.Target = t
		}
	default:
		if c.Target, err = catalog.CleanPath(strings.Trim(w.Into, "/")); err != nil {
			return c, err
		}
	}
	return c, nil
}

func invalid(title, detail, hint string) error {
	return &problem.Error{Kind: problem.Invalid, Op: "inbox", Title: title, Detail: detail, Hint: hint}
}

// place finds the folder that a path names, and refuses what may not be watched:
// the box's own directory, what lies in it and what holds it.
func (in *Inbox) place(path string) (string, volume, error) {
	if !filepath.IsAbs(path) {
		return "", volume{}, invalid("The path is not complete", "It does not begin at the root of the file system.", "Say the whole path, such as /srv/share.")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", volume{}, unreadable(err)
	}
	if !utf8.ValidString(real) {
		return "", volume{}, invalid("The path is not text", "It is not valid UTF-8.", "Rename the folder.")
	}
	dir, err := os.Open(real)
	if err != nil {
		return "", volume{}, unreadable(err)
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return "", volume{}, unreadable(err)
	}
	if !info.IsDir() {
		return "", volume{}, invalid("That is not a folder", "The path names something else.", "Name the folder that holds the files.")
	}
	v, err := volumeOf(dir)
	if err != nil {
		return "", volume{}, unreadable(err)
	}
	if v.unreal {
		return "", volume{}, invalid("There are no files in that folder", "It shows the kernel's own tables.", "Name a folder on a disk, a card or a stick.")
	}
	if in.ownFolder(real) {
		return "", volume{}, invalid("That folder belongs to the box itself",
			"It lies in the box's state directory, or holds it.", "Choose a folder elsewhere.")
	}
	return real, v, nil
}

func unreadable(err error) error {
	return &problem.Error{Kind: problem.NotFound, Op: "inbox", Title: "The folder cannot be read", Err: err,
		Detail: reasonOf(err), Hint: "Plug the disk in and mount it, or correct the path; the box's own user must be able to read it."}
}

// ownFolder says whether path is the state directory, in it, or above it, by
// whatever name (the same folder may be mounted twice).
func (in *Inbox) ownFolder(path string) bool {
	state, err := filepath.EvalSymlinks(in.opt.State)
	if err != nil {
		state = filepath.Clean(in.opt.State)
	}
	return vfs.Within(path, state) || vfs.Within(state, path)
}

// Add begins to watch a folder.
func (in *Inbox) Add(ctx context.Context, w Wish) (Config, error) {
	in.admin.Lock()
	defer in.admin.Unlock()
	c, err := in.check(ctx, w)
	if err != nil {
		return c, err
	}
	in.mu.Lock()
	for _, f := range in.folders {
		if vfs.Within(c.Path, f.conf.Path) || vfs.Within(f.conf.Path, c.Path) || c.Path == f.conf.Path {
			err = &problem.Error{Kind: problem.Conflict, Op: "inbox.add", Title: "That folder is watched already",
				Detail: "The box watches it, a folder in it, or one that holds it. Its files would be taken twice.",
				Hint:   "Remove the other one first; yunboxctl inbox list names it."}
		}
	}
	in.mu.Unlock()
	if err != nil {
		return c, err
	}
	if err := mark(&c); err != nil {
		return c, unreadable(err)
	}
	err = in.opt.DB.Write(ctx, func(tx *db.Tx) error {
		c.Created = tx.Now.UTC().Truncate(time.Millisecond)
		res, err := tx.Exec(`INSERT INTO inbox (path, user, source, originals, target, marker, made, volume, device, inode, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.Path, int64(c.User), c.Source, c.Originals, c.Target, c.marker, c.made, c.volume.name, int64(c.volume.device), int64(c.volume.inode), c.Created.UnixMilli())
		if err != nil {
			return err
		}
		if c.ID, err = res.LastInsertId(); err != nil {
			return err
		}
		return in.opt.Audit.Append(tx, event("inbox.add", c))
	})
	if err != nil {
		return c, errors.Join(err, unmark(c))
	}
	f := newFolder(in, c)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.folders[c.ID] = f
	if in.start != nil {
		in.start(f)
	}
	return c, nil
}

func event(action string, c Config) audit.Event {
	e := audit.Event{Action: action, Subject: c.User, Via: "socket", Detail: map[string]string{"source": c.Source, "originals": c.Originals}}
	if c.ID != 0 {
		e.Object = strconv.FormatInt(c.ID, 10)
	}
	return e
}

// Remove stops watching the folder of that path or number. What was taken in
// stays with its owner, and the folder's files stay where they are.
func (in *Inbox) Remove(ctx context.Context, which string) (Config, error) {
	in.admin.Lock()
	defer in.admin.Unlock()
	f := in.find(which)
	if f == nil {
		return Config{}, notWatched("inbox.remove")
	}
	in.mu.Lock()
	cancel, ended := f.cancel, f.ended
	in.mu.Unlock()
	if cancel != nil {
		cancel()
		select {
		case <-ended:
		case <-time.After(stuck):
			return f.conf, &problem.Error{Kind: problem.Unavailable, Op: "inbox.remove", Title: "The folder does not answer",
				Detail: "The system has not finished reading from it.", Hint: "Bring its disk or server back, or force the unmount, then try again."}
		}
	}
	err := in.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM inbox WHERE id = ?`, f.conf.ID); err != nil {
			return err
		}
		return in.opt.Audit.Append(tx, event("inbox.remove", f.conf))
	})
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil {
		if in.start != nil {
			in.start(f)
		}
		return f.conf, err
	}
	delete(in.folders, f.conf.ID)
	if f.present() {
		if err := unmark(f.conf); err != nil {
			in.log.Warn("the marker of a folder that is no longer watched stays in it", "err", reasonOf(err))
		}
	}
	return f.conf, nil
}

// find returns the watched folder of that path or number, nil if there is none.
func (in *Inbox) find(which string) *folder {
	paths := []string{which, filepath.Clean(which)}
	if real, err := filepath.EvalSymlinks(which); err == nil {
		paths = append(paths, real)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for id, f := range in.folders {
		if slices.Contains(paths, f.conf.Path) || strconv.FormatInt(id, 10) == which {
			return f
		}
	}
	return nil
}

// load reads what is configured.
func (in *Inbox) load(ctx context.Context) (list []Config, err error) {
	err = in.opt.DB.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, path, user, source, originals, target, marker, made, volume, device, inode, created FROM inbox ORDER BY id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c Config
			var device, inode, created int64
			if err := rows.Scan(&c.ID, &c.Path, &c.User, &c.Source, &c.Originals, &c.Target, &c.marker, &c.made, &c.volume.name, &device, &inode, &created); err != nil {
				return err
			}
			c.volume.device, c.volume.inode = uint64(device), uint64(inode)
			c.Created = time.UnixMilli(created).UTC()
			list = append(list, c)
		}
		return rows.Err()
	})
	return list, err
}

// taken is what is remembered of a file that was left where it is.
type taken struct {
	id   fileID
	ref  [32]byte
	item ident.ItemID
	lost bool // the box's own copy is damaged: the bytes are taken again
}

const selectTaken = `SELECT device, inode, size, mtime, ctime, ref, item,
  EXISTS (SELECT 1 FROM blob b INDEXED BY blob_doubted WHERE b.ref = t.ref AND b.doubted IS NOT NULL) FROM inbox_taken t WHERE inbox = ? AND path = ?`

// remembered looks files up in one transaction; what is not known is nil.
func (in *Inbox) remembered(ctx context.Context, id int64, paths []string) ([]*taken, error) {
	list := make([]*taken, len(paths))
	if id == 0 {
		return list, nil
	}
	err := in.opt.DB.Read(ctx, func(tx *db.Tx) error {
		for i, p := range paths {
			var t taken
			var device, inode, item int64
			var ref []byte
			err := tx.QueryRowContext(ctx, selectTaken, id, p).Scan(&device, &inode, &t.id.size, &t.id.mtime, &t.id.ctime, &ref, &item, &t.lost)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			t.id.device, t.id.inode, t.item = uint64(device), uint64(inode), ident.ItemID(item)
			copy(t.ref[:], ref)
			list[i] = &t
		}
		return nil
	})
	return list, err
}

// remember writes down what was taken.
func (in *Inbox) remember(ctx context.Context, id int64, paths []string, list []taken) error {
	if id == 0 || len(paths) == 0 {
		return nil
	}
	return in.opt.DB.Write(ctx, func(tx *db.Tx) error {
		for i, t := range list {
			if _, err := tx.Exec(`INSERT INTO inbox_taken (inbox, path, device, inode, size, mtime, ctime, ref, item) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET device = excluded.device, inode = excluded.inode, size = excluded.size, mtime = excluded.mtime,
					ctime = excluded.ctime, ref = excluded.ref, item = excluded.item, gone = NULL`,
				id, paths[i], int64(t.id.device), int64(t.id.inode), t.id.size, t.id.mtime, t.id.ctime, t.ref[:], int64(t.item)); err != nil {
				return err
			}
		}
		return nil
	})
}

// reasonOf says why the system refused something, without naming a file.
func reasonOf(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		err = link.Err
	}
	return "The system says: " + err.Error() + "."
}
