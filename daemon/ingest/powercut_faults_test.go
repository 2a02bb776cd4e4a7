package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"yunbox.local/daemon/ingest"
	"yunbox.local/storage/vfs/vfstest"
)

// The disk fails and the power does, in the same life, while phones upload and people
// delete. What was acknowledged is there after it, and no name is without its bytes.
func TestFaultsAndPowerCuts(t *testing.T) { // R01 R05
	h := newHousehold(t)
	h.faulty = true
	lives := 0
	for begin := time.Now(); lives < 5 || lives < 100 && time.Since(begin) < 2*time.Second; lives++ {
		b := h.box()
		h.check(b, true)
		h.fail()
		h.struggle(b, 1+h.rng.IntN(4))
		h.disk.Heal()
		h.cut(b)
		b.stop()
		if t.Failed() {
			t.Fatalf("after %d lives", lives+1)
		}
	}
	b := h.box()
	h.check(b, true)
	t.Logf("%d lives, %d uploads, %d acknowledged", lives, h.next.Load(), len(h.stored))
	h.sweepsClean(b)
}

// fail plans what goes wrong in this life.
func (h *household) fail() {
	for range 1 + h.rng.IntN(2) {
		f := vfstest.Fault{
			Ops:    []vfstest.Op{vfstest.OpSync, vfstest.OpSyncAll, vfstest.OpSyncDir, vfstest.OpWrite, vfstest.OpRename, vfstest.OpAny}[h.rng.IntN(6)],
			Err:    []error{syscall.EIO, syscall.ENOSPC}[h.rng.IntN(2)],
			Nth:    1 + h.rng.IntN(60),
			Short:  h.rng.IntN(2) == 0,
			Sticky: h.rng.IntN(4) == 0,
		}
		if f.Ops&(vfstest.OpSync|vfstest.OpWrite) != 0 && h.rng.IntN(2) == 0 {
			f.Path = func(name string) bool { return strings.HasPrefix(name, "intent/") }
		}
		h.disk.Fail(f)
	}
	if h.rng.IntN(2) == 0 {
		h.disk.CutIn(1 + h.rng.IntN(300))
	}
}

// struggle uploads, whatever comes of it, and deletes now and then.
func (h *household) struggle(b *box, phones int) {
	ctx := context.Background()
	var all sync.WaitGroup
	for range phones {
		rng := rand.New(rand.NewPCG(h.rng.Uint64(), 1))
		all.Go(func() {
			for range 1 + rng.IntN(15) {
				before := h.begun()
				if err := h.upload(ctx, b, rng); err != nil {
					h.forget(before) // what a checkpoint said counts, unless the disk lost it since
				}
				if errors.Is(b.store.Writable(), vfstest.ErrPowerOff) {
					return
				}
				if rng.IntN(8) == 0 {
					h.purge(b)
				}
			}
		})
	}
	all.Wait()
}

// begun are the resumable uploads that there are.
func (h *household) begun() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make(map[string]bool)
	for id := range h.pending {
		ids[id] = true
	}
	return ids
}

// forget forgets those that were begun since.
func (h *household) forget(before map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.pending {
		if !before[id] {
			delete(h.pending, id)
		}
	}
}

// purge deletes some file for good, and what nobody keeps then.
func (h *household) purge(b *box) {
	ctx := context.Background()
	var x told
	h.mu.Lock()
	for key, one := range h.stored {
		x = one
		delete(h.stored, key)
		break
	}
	h.mu.Unlock()
	if x.path == "" {
		return
	}
	it, err := b.cat.Lookup(ctx, x.user, x.path)
	if err != nil {
		h.t.Errorf("%s of %d was acknowledged: %v", x.path, x.user, err)
		return
	}
	must(h.t, b.cat.Trash(ctx, x.user, it.ID))
	must(h.t, b.cat.Purge(ctx, x.user, it.ID))
	_, _ = b.in.Sweep(ctx) // on a disk that fails
}

// A commit fails, and may hold all the same after a restart: until then the blob that it
// names stays, though it had lost its last name before and is on the list of those to go.
func TestNothingGoesAfterACommitThatFailed(t *testing.T) { // R01
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir := quickDir(t)
	swept := make(chan struct{})
	var once sync.Once
	warned := handler(func(text string) {
		if strings.Contains(text, "nobody keeps") {
			once.Do(func() { close(swept) })
		}
	})
	b := start(t, settings{dir: dir, options: ingest.Options{Log: slog.New(warned)}})
	r := b.mustPut(ann, "old name", "the content")
	must(t, b.cat.Trash(ctx, ann, r.Item.ID))
	must(t, b.cat.Purge(ctx, ann, r.Item.ID))

	breakLog(t, dir)
	if _, err := b.put(ann, "new name", []byte("the content")); err == nil {
		t.Fatal("it was acknowledged")
	}
	if b.db.Err() == nil {
		t.Fatal("the commit did not fail as it should")
	}
	var all sync.WaitGroup
	all.Go(func() { b.in.Run(ctx) }) // it was told that something died
	<-swept
	stop()
	all.Wait()
	if err := b.store.Verify(context.Background(), r.Item.Ref); err != nil {
		t.Errorf("the blob of a commit that may hold: %v", err)
	}
	b.powerless.Store(true)
}

// breakLog lets every write to the log of a database fail from now on.
func breakLog(t *testing.T, dir string) {
	t.Helper()
	name := filepath.Join(dir, "box.db-wal")
	readOnly, err := os.Open(name)
	must(t, err)
	defer readOnly.Close()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	done := 0
	for _, e := range list {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil || fd == int(readOnly.Fd()) {
			continue
		}
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == name {
			must(t, unix.Dup3(int(readOnly.Fd()), fd, unix.O_CLOEXEC))
			done++
		}
	}
	if done == 0 {
		t.Fatal("the log is not open")
	}
}

// handler is a slog.Handler that is only told of the messages.
type handler func(text string)

func (h handler) Enabled(context.Context, slog.Level) bool { return true }
func (h handler) Handle(_ context.Context, r slog.Record) error {
	h(r.Message)
	return nil
}
func (h handler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h handler) WithGroup(string) slog.Handler      { return h }
