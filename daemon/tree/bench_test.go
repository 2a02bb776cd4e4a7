package tree_test

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/tree"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// BenchmarkRebuild makes a view of many items of 20 kB anew, on the file system of
// $YUNBOX_BENCH_DIR ($YUNBOX_BENCH_ITEMS of them, 1000 by default).
func BenchmarkRebuild(b *testing.B) {
	top := os.Getenv("YUNBOX_BENCH_DIR")
	if top == "" {
		top = b.TempDir()
	}
	n := 1000
	if s := os.Getenv("YUNBOX_BENCH_ITEMS"); s != "" {
		if _, err := fmt.Sscan(s, &n); err != nil {
			b.Fatal(err)
		}
	}
	state := filepath.Join(top, "state")
	must(b, os.MkdirAll(filepath.Join(state, "tree"), 0o700))
	disk, err := vfs.OpenDir(state)
	must(b, err)
	view, err := vfs.OpenDir(filepath.Join(state, "tree"))
	must(b, err)
	ctx := b.Context()
	store, err := storage.Open(ctx, disk, storage.Options{Reserve: -1})
	must(b, err)
	d, err := db.Open(ctx, db.Options{Path: filepath.Join(state, "box.db"), Journal: filepath.Join(state, "journal")})
	must(b, err)
	b.Cleanup(func() { _ = errors.Join(d.Close(), store.Close(), view.Close(), disk.Close()) })
	must(b, d.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'Ada', 'owner', '', 0)`)
		return err
	}))
	cat, err := catalog.Open(ctx, d)
	must(b, err)
	for from := 0; from < n; from += 500 {
		var batch []storage.Sealed
		for i := from; i < min(from+500, n); i++ {
			content := fmt.Sprintf("%d %s", i, strings.Repeat("x", 20<<10))
			u, err := store.Begin(ctx, int64(len(content)))
			must(b, err)
			_, err = u.Write(ctx, 0, strings.NewReader(content))
			must(b, err)
			sealed, err := u.Seal(ctx)
			must(b, err)
			batch = append(batch, sealed)
		}
		must(b, errors.Join(store.Commit(ctx, batch)...))
		must(b, d.Write(ctx, func(tx *db.Tx) error {
			for i, s := range batch {
				var size int64 = 20<<10 + 1 + int64(len(fmt.Sprint(from+i)))
				if _, err := cat.Add(tx, catalog.Entry{User: 1, Path: fmt.Sprintf("DCIM/Camera %d/IMG_%08d.jpg", i%20, from+i), Ref: s.Ref,
					SHA1: sha1.Sum(s.Ref[:]), Size: size, MTime: day, Source: "album"}); err != nil {
					return err
				}
			}
			return nil
		}))
		store.Release(batch)
	}
	must(b, disk.SyncAll())
	v := tree.New(tree.Options{Catalog: cat, Store: store, DB: d, Disk: view, Mode: tree.Auto,
		People: func(context.Context) ([]tree.Person, error) { return []tree.Person{{ID: 1, Name: "ada"}}, nil }})
	_, err = v.Follow(ctx)
	must(b, err)
	s, err := v.Status(ctx)
	must(b, err)
	if !s.Shown {
		b.Fatal("there is no view")
	}
	go v.Run(ctx)
	for b.Loop() {
		p, err := v.Rebuild(ctx, func(tree.Progress) {})
		must(b, err)
		if p.Done != int64(n) || p.Error != "" {
			b.Fatalf("%+v", p)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB-heap")
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
