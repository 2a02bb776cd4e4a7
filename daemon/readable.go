package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/tree"
	"yunbox.local/storage/vfs"
)

// openTree is the part that shows everybody's files under their own names. It has a
// descriptor of its own for its folder: what it syncs and is told of lost data must not
// be what the store waits for.
func (b *Box) openTree() error {
	mode := b.conf.Tree
	if mode == "" {
		mode = config.Off
	}
	if mode == config.Off {
		if _, err := os.Stat(b.path("tree")); errors.Is(err, fs.ErrNotExist) {
			return nil // and nothing to clear away
		}
	}
	if err := vfs.CreateDir(b.path("tree")); err != nil {
		return fmt.Errorf("readable view: %w", err)
	}
	disk, err := vfs.OpenDir(b.path("tree"))
	if err != nil {
		return fmt.Errorf("readable view: %w", err)
	}
	b.closers = append(b.closers, disk.Close)
	b.tree = tree.New(tree.Options{
		Catalog: b.catalog, Store: b.store, DB: b.db, Disk: disk, Mode: mode, Log: b.log, Now: b.now,
		Busy: func() bool { return b.store.Receiving() || b.ingest.Active() > 0 },
		People: func(ctx context.Context) ([]tree.Person, error) {
			list, err := b.accounts.Users(ctx)
			people := make([]tree.Person, 0, len(list))
			for _, u := range list {
				if b.erasure == nil || !b.erasure.Erasing(u.ID) { // the folder of who is being erased goes
					people = append(people, tree.Person{ID: u.ID, Name: u.Username})
				}
			}
			return people, err
		},
	})
	return nil
}

// letGo is what ingest asks before contents are removed.
func (b *Box) letGo(ctx context.Context) error {
	if b.tree == nil {
		return nil
	}
	return b.tree.LetGo(ctx)
}

func (b *Box) treeRoutes() {
	if b.tree != nil {
		b.tree.Routes(b.maintenance.Handle)
		return
	}
	off := func(http.ResponseWriter, *http.Request) error {
		return &problem.Error{Kind: problem.Unsupported, Op: "tree", Title: "There is no readable view on this box", Detail: "It is switched off.", Hint: "Start the box with --tree auto."}
	}
	for _, pattern := range []string{"GET /local/tree", "POST /local/tree/rebuild", "POST /local/tree/check"} {
		b.maintenance.Handle(pattern, off)
	}
}
