package ftp

import (
	"context"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/afero"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// source of everything that comes by this gateway.
const source = "camera"

// maxListed is how many entries of a folder are listed: cameras begin a new folder
// at 999 or 9,999 photos.
const maxListed = 10000

// A dropBox is the folder of one camera, as the library's driver.
type dropBox struct {
	s    *session
	who  ident.Principal
	root string
}

func newDropBox(s *session, c account.Camera) *dropBox {
	return &dropBox{s: s, who: c.Principal, root: folderOf(c)}
}

// path is where a name of the client, absolute and clean, lies among its owner's
// files. The library cleans names before we see them, so that ".." ends at the root.
func (d *dropBox) path(name string) (string, error) {
	if name == "/" {
		return d.root, nil
	}
	p, err := catalog.CleanPath(d.root + name)
	return p, d.s.refuse(err)
}

// ready refuses whoever's password was revoked since they signed in.
func (d *dropBox) ready(ctx context.Context) error {
	return d.s.refuse(d.s.g.Accounts.CameraStillIn(ctx, d.who))
}

// Stat implements afero.Fs.
func (d *dropBox) Stat(name string) (os.FileInfo, error) {
	ctx := context.Background()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	if name == "/" {
		return entry{name: "/", dir: true}, nil
	}
	p, err := d.path(name)
	if err != nil {
		return nil, err
	}
	if d.s.context.GetLastCommand() == "SIZE" {
		if size, pending, err := d.standsAt(ctx, p); err != nil {
			return nil, d.s.refuse(err)
		} else if pending {
			d.s.tell(p, size)
			return entry{name: catalog.Base(p), size: size}, nil
		}
	}
	it, err := d.item(ctx, p)
	if err == nil {
		d.s.tell(p, it.Size)
		return itemEntry(it), nil
	}
	if problem.KindOf(err) != problem.NotFound {
		return nil, d.s.refuse(err)
	}
	f, err := d.s.g.Catalog.Folder(ctx, d.who.User, p)
	if err != nil {
		return nil, d.s.refuse(err)
	}
	return entry{name: f.Name, dir: true}, nil
}

// item finds what came from a camera at p.
func (d *dropBox) item(ctx context.Context, p string) (catalog.Item, error) {
	it, err := d.s.g.Catalog.Lookup(ctx, d.who.User, p)
	if err == nil && it.Source != source {
		err = &problem.Error{Kind: problem.NotFound, Op: "ftp", Detail: "No camera sent a file of that name."}
	}
	return it, err
}

// ReadDir implements ftpserver.ClientDriverExtensionFileList.
func (d *dropBox) ReadDir(name string) ([]os.FileInfo, error) {
	ctx := context.Background()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	p, err := d.path(name)
	if err != nil {
		return nil, err
	}
	list := []os.FileInfo{}
	q := catalog.Query{Folder: p, Source: source, Limit: catalog.MaxLimit}
	for len(list) < maxListed {
		page, err := d.s.g.Catalog.List(ctx, d.who.User, q)
		if problem.KindOf(err) == problem.NotFound && name == "/" {
			break // nothing was sent yet
		}
		if err != nil {
			return nil, d.s.refuse(err)
		}
		for _, f := range page.Folders {
			list = append(list, entry{name: f.Name, dir: true})
		}
		for _, it := range page.Items {
			list = append(list, itemEntry(it))
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	return list[:min(len(list), maxListed)], nil
}

// Mkdir implements afero.Fs. The name of a folder is the person's data, too.
func (d *dropBox) Mkdir(name string, _ os.FileMode) error {
	ctx := context.Background()
	if err := d.ready(ctx); err != nil {
		return err
	}
	p, err := d.path(name)
	if err != nil {
		return err
	}
	if name == "/" {
		return fs.ErrExist
	}
	if _, err := d.s.g.Consent.GrantFor(ctx, d.who.User, d.who.Device, source); err != nil {
		return d.s.refuse(err)
	}
	if _, err := d.s.g.Catalog.Folder(ctx, d.who.User, p); err == nil {
		return fs.ErrExist
	} else if problem.KindOf(err) != problem.NotFound {
		return d.s.refuse(err)
	}
	_, err = d.s.g.Catalog.MakeFolder(ctx, d.who.User, p)
	return d.s.refuse(err)
}

// MkdirAll implements afero.Fs.
func (d *dropBox) MkdirAll(name string, mode os.FileMode) error { return d.Mkdir(name, mode) }

// Chtimes implements afero.Fs: MFMT, after a file was stored.
func (d *dropBox) Chtimes(name string, _, at time.Time) error {
	ctx := context.Background()
	if err := d.ready(ctx); err != nil {
		return err
	}
	p, err := d.path(name)
	if err != nil {
		return err
	}
	if at.Unix() < 0 || at.Unix() > 1<<32-1 {
		return fs.ErrInvalid
	}
	it, err := d.item(ctx, p)
	if err == nil {
		err = d.s.g.DB.Write(ctx, func(tx *db.Tx) error {
			return d.s.g.Catalog.SetMTimeIn(tx, d.who.User, it.ID, at)
		})
	}
	return d.s.refuse(err)
}

// AllocateSpace implements ftpserver.ClientDriverExtensionAllocate: the size that a
// client announces is one that its next file must reach.
func (d *dropBox) AllocateSpace(size int) error {
	if size < 0 || int64(size) > ingest.MaxSize {
		return d.s.refuse(&problem.Error{Kind: problem.TooLarge, Op: "ftp.allocate", Title: "No file of that size is taken"})
	}
	d.s.announced = int64(size)
	return nil
}

// dropOnly is the answer to whatever is not leaving a file.
func (d *dropBox) dropOnly() error {
	return d.s.refuse(&problem.Error{
		Kind: problem.Forbidden, Op: "ftp", Title: "Cameras can only leave files here",
		Detail: "What is stored cannot be read, renamed or deleted with a camera's password.",
		Hint:   "Do that on the box's page.",
	})
}

// Create implements afero.Fs; the library asks GetHandle instead.
func (d *dropBox) Create(string) (afero.File, error) { return nil, d.dropOnly() }

// Open implements afero.Fs; the library asks ReadDir and GetHandle instead.
func (d *dropBox) Open(string) (afero.File, error) { return nil, d.dropOnly() }

// OpenFile implements afero.Fs; the library asks GetHandle instead.
func (d *dropBox) OpenFile(string, int, os.FileMode) (afero.File, error) { return nil, d.dropOnly() }

// Remove implements afero.Fs.
func (d *dropBox) Remove(string) error { return d.dropOnly() }

// RemoveAll implements afero.Fs.
func (d *dropBox) RemoveAll(string) error { return d.dropOnly() }

// Rename implements afero.Fs.
func (d *dropBox) Rename(string, string) error { return d.dropOnly() }

// Chmod implements afero.Fs.
func (d *dropBox) Chmod(string, os.FileMode) error { return d.dropOnly() }

// Chown implements afero.Fs.
func (d *dropBox) Chown(string, int, int) error { return d.dropOnly() }

// Name implements afero.Fs.
func (d *dropBox) Name() string { return "yunbox" }

// entry is a line of a listing.
type entry struct {
	name  string
	size  int64
	mtime time.Time
	dir   bool
}

func itemEntry(it catalog.Item) entry {
	mtime := it.MTime
	if mtime.IsZero() {
		mtime = it.Added
	}
	return entry{name: it.Name, size: it.Size, mtime: mtime}
}

// Name implements fs.FileInfo.
func (e entry) Name() string { return e.name }

// Size implements fs.FileInfo.
func (e entry) Size() int64 { return e.size }

// ModTime implements fs.FileInfo.
func (e entry) ModTime() time.Time {
	if e.mtime.IsZero() {
		return time.Unix(0, 0).UTC() // folders have none
	}
	return e.mtime
}

// IsDir implements fs.FileInfo.
func (e entry) IsDir() bool { return e.dir }

// Sys implements fs.FileInfo.
func (e entry) Sys() any { return nil }

// Mode implements fs.FileInfo.
func (e entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o700
	}
	return 0o400
}
