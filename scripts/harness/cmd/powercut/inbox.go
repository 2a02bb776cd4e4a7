package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	batchFiles = 5  // of a watched folder
	ahead      = 40 // folders that are ready before the first is watched: the box waits until a file has not changed for 2 s
)

// An inboxWorker fills folders on a disk that keeps its power, and has the box watch
// one after the other. A file counts as acknowledged when the box says that it took
// it, or when the box moved it to the folder's trash.
type inboxWorker struct {
	s    *boxServer
	rng  *rand.Rand
	hs   *histories
	pos  func() int
	dir  string // of the folders
	sums [][]string
}

// fill makes the next folder.
func (w *inboxWorker) fill() error {
	n := len(w.sums)
	folder := w.folder(n)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var sums []string
	for i := range batchFiles {
		content, sum := randomContent(w.rng)
		if err := os.WriteFile(filepath.Join(folder, inboxName(i)), content, 0o644); err != nil {
			return err
		}
		sums = append(sums, sum)
	}
	w.sums = append(w.sums, sums)
	return nil
}

func (w *inboxWorker) folder(n int) string { return filepath.Join(w.dir, fmt.Sprintf("card %04d", n)) }

func inboxName(i int) string { return fmt.Sprintf("照片 %d.jpg", i) }

func (w *inboxWorker) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		if err := w.fill(); err != nil {
			return // no other folder can be made: what was taken is compared all the same
		}
		if err := w.watch(ctx, n); err != nil && ctx.Err() == nil {
			pause(ctx, 20*time.Millisecond) // refused, as on a full or dying disk
		}
	}
}

// watch has the box take a folder in. Every other one is left as it is, the others
// are moved to their trash.
func (w *inboxWorker) watch(ctx context.Context, n int) error {
	into := fmt.Sprintf("inbox/card %04d", n)
	var acks []func()
	for i, sum := range w.sums[n] {
		acks = append(acks, w.hs.file("inbox", into+"/"+inboxName(i)).begin(sum, w.pos))
	}
	wish := map[string]string{"path": w.folder(n), "user": "owner", "source": "other", "into": into, "originals": []string{"keep", "trash"}[n%2]}
	if err := w.s.Local(ctx, http.MethodPost, "/local/inboxes", wish, nil); err != nil {
		return err
	}
	for !w.taken(ctx, n) {
		pause(ctx, 5*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for _, acked := range acks {
		acked()
		w.hs.acked("inbox")
	}
	if err := w.s.Local(ctx, http.MethodDelete, "/local/inboxes", map[string]string{"inbox": w.folder(n)}, nil); err != nil {
		return err
	}
	one := into + "/" + inboxName(w.rng.IntN(batchFiles))
	if done := w.hs.file("inbox", one).begin(absent, w.pos); w.s.remove(ctx, one) == nil {
		done()
	}
	return nil
}

// taken tells whether the box has taken a folder's files.
func (w *inboxWorker) taken(ctx context.Context, n int) bool {
	if n%2 == 1 {
		return !w.left(n)
	}
	var list struct {
		Inboxes []struct {
			Path    string
			Session int
		}
	}
	if err := w.s.Local(ctx, http.MethodGet, "/local/inboxes", nil, &list); err != nil {
		return false
	}
	for _, in := range list.Inboxes {
		if in.Path == w.folder(n) {
			return in.Session >= batchFiles
		}
	}
	return false
}

// left tells whether originals are where they were.
func (w *inboxWorker) left(n int) bool {
	for i := range batchFiles {
		if _, err := os.Lstat(filepath.Join(w.folder(n), inboxName(i))); err == nil {
			return true
		}
	}
	return false
}
