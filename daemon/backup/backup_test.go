package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/backup"
	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// The power of the target fails at any call of a run, again and again: what can be
// restored afterwards is exactly what the box kept when the newest generation or
// the one before was made, never less than what a run has reported, and the next
// run mends everything.
func TestPowerCutsDuringRuns(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	w := newWorld(t)
	w.add()
	for i := range 10 {
		w.keep(fmt.Appendf(nil, "content %d", i))
	}
	before := w.disk.Calls(vfstest.OpAny)
	first, err := w.run()
	must(t, err)
	calls := w.disk.Calls(vfstest.OpAny) - before

	states := map[int64]map[storage.Ref][]byte{first.Generation: maps.Clone(w.kept)}
	acked, cut, done := first.Generation, 0, 0
	for i := range cuts(t) {
		w.keep(fmt.Appendf(nil, "more %d", i))
		if refs := slices.Collect(maps.Keys(w.kept)); rng.IntN(2) == 0 && len(refs) > 8 {
			w.forget(refs[rng.IntN(len(refs))])
		}
		w.disk.CutIn(1 + rng.IntN(calls*3/2))
		res, err := w.run()
		if err == nil {
			acked = res.Generation
			done++
		} else {
			cut++
		}
		states[acked+1] = maps.Clone(w.kept) // if a generation came after, it is of this
		if err == nil {
			states[acked] = maps.Clone(w.kept)
		}
		w.plug(w.disk.PowerCut(rng))
		r, got, rerr := w.restore(w.disk)
		if rerr != nil {
			t.Fatalf("cut %d (%v): nothing can be restored: %v", i, err, rerr)
		}
		if r.Generation.Number < acked || !same(got, states[r.Generation.Number]) {
			t.Fatalf("cut %d (%v): generation %d, reported was %d; %d contents of %d", i, err, r.Generation.Number, acked, len(got), len(states[r.Generation.Number]))
		}
		acked = r.Generation.Number
		if i%10 != 9 {
			continue
		}
		res, err = w.run()
		must(t, err)
		acked = res.Generation
		states[acked] = maps.Clone(w.kept)
		if v, err := w.b.Verify(t.Context(), "", true, nil, nil); err != nil || v.Damaged > 0 {
			t.Fatalf("after a whole run: %+v %v", v, err)
		}
		union := maps.Clone(states[acked])
		maps.Copy(union, states[acked-1])
		if n, strange := onTarget(t, w.disk); n > len(union) || len(strange) > 0 {
			t.Errorf("%d contents where two generations name %d; %v", n, len(union), strange)
		}
	}
	if cut < 5 || done < 2 {
		t.Errorf("%d runs were cut off, %d were not: the test shows little", cut, done)
	}
}

// cuts is how often the power fails in a test; YUNBOX_CUTS says otherwise.
func cuts(t *testing.T) int {
	t.Helper()
	text := os.Getenv("YUNBOX_CUTS")
	if text == "" {
		return 25
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// Each call to the target fails once, in every way: the run says so or nothing is
// amiss, and the former generation stays.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	const ops = vfstest.OpCreate | vfstest.OpWrite | vfstest.OpSync | vfstest.OpSyncDir | vfstest.OpRename | vfstest.OpMkdir | vfstest.OpRead | vfstest.OpOpen
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.add()
			w.keep([]byte("first"))
			_, err := w.run()
			must(t, err)
			failed := 0
			for n := 1 + int(fault.(syscall.Errno))%5; ; n += 13 {
				former := maps.Clone(w.kept)
				w.keep(fmt.Appendf(nil, "more %d", n))
				w.disk.Fail(vfstest.Fault{Ops: ops, Nth: n, Err: fault, Short: true})
				_, err := w.run()
				struck := !w.disk.Pending()
				w.disk.Heal()
				if err != nil {
					failed++
					if p := problem.As(err); p.Kind == problem.Internal || p.Title == "" || p.Hint == "" {
						t.Fatalf("call %d: not told in words: %v", n, err)
					}
					if errors.Is(fault, syscall.ENOSPC) && problem.KindOf(err) != problem.Full && problem.KindOf(err) != problem.Unavailable && problem.KindOf(err) != problem.Damaged {
						t.Errorf("call %d: a full disk is told as %v", n, err)
					}
				}
				_, got, rerr := w.restore(w.disk)
				if rerr != nil || !same(got, former) && !same(got, w.kept) {
					t.Fatalf("call %d (%v): %v, %d contents", n, err, rerr, len(got))
				}
				if err == nil && !same(got, w.kept) {
					t.Fatalf("call %d: the run reported success", n)
				}
				if !struck {
					break
				}
				if _, err := w.run(); err != nil {
					t.Fatalf("call %d: the next run fails, too: %v", n, err)
				}
			}
			if failed < 5 {
				t.Errorf("only %d runs failed", failed)
			}
		})
	}
}

// A full target is told as one; nothing that was there is lost, and with room the
// next run goes on without copying again what it had copied.
func TestAFullTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	w.keep([]byte("first"))
	_, err := w.run()
	must(t, err)
	former := maps.Clone(w.kept)
	for i := range 150 {
		w.keep(bytes.Repeat(fmt.Appendf(nil, "%03d", i), 10_000))
	}
	w.disk.SetCapacity(4 << 20)
	_, err = w.run()
	if p := problem.As(err); p == nil || p.Kind != problem.Full {
		t.Fatalf("a full target: %v", err)
	}
	if _, got, err := w.restore(w.disk); err != nil || !same(got, former) {
		t.Errorf("the former state: %v, %d contents", err, len(got))
	}
	list, err := w.b.List(t.Context())
	must(t, err)
	if list[0].State != "failing" || list[0].Reason == nil || !strings.Contains(*list[0].Reason, "full") {
		t.Errorf("%+v", list[0])
	}
	w.disk.SetCapacity(1 << 40)
	r, err := w.run()
	must(t, err)
	if r.Copied > 100 || r.Contents != 151 {
		t.Errorf("%d were copied again", r.Copied)
	}
	if list, err := w.b.List(t.Context()); err != nil || list[0].State != "complete" || list[0].Reason != nil {
		t.Errorf("%+v %v", list, err)
	}
	if _, got, err := w.restore(w.disk); err != nil || !same(got, w.kept) {
		t.Errorf("%v, %d contents", err, len(got))
	}
}

// A disk that is not there, another one in its place, an empty folder: absent, and
// nothing is written. It is pulled out in the middle: absent too, and no failure.
func TestAnAbsentTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	w.keep([]byte("first"))
	real := w.disk
	other := newWorld(t)
	other.add()
	for name, disk := range map[string]*vfstest.Disk{"none": nil, "empty": vfstest.NewDisk(), "another box's": other.disk} {
		w.plug(disk)
		calls := 0
		if disk != nil {
			calls = disk.Calls(vfstest.OpCreate | vfstest.OpMkdir | vfstest.OpWrite | vfstest.OpRename | vfstest.OpRemove)
		}
		if _, err := w.run(); !errors.Is(err, target.ErrAbsent) {
			t.Errorf("%s: %v", name, err)
		}
		if disk != nil && disk.Calls(vfstest.OpCreate|vfstest.OpMkdir|vfstest.OpWrite|vfstest.OpRename|vfstest.OpRemove) != calls {
			t.Errorf("%s: it was written to", name)
		}
		w.b.Look(t.Context())
	}
	w.plug(real)
	for i := range 30 {
		w.keep(fmt.Appendf(nil, "content %d", i))
	}
	real.Fail(vfstest.Fault{Ops: vfstest.OpAny, Nth: 300, Err: syscall.EIO, Sticky: true})
	if _, err := w.run(); !errors.Is(err, target.ErrAbsent) {
		t.Errorf("pulled out in the middle: %v", err)
	}
	if list, err := w.b.List(t.Context()); err != nil || list[0].State != "never" || list[0].Reason != nil {
		t.Errorf("%+v %v", list, err)
	}
	real.Heal()
	_, err := w.run()
	must(t, err)
	if _, got, err := w.restore(w.disk); err != nil || !same(got, w.kept) {
		t.Errorf("%v, %d contents", err, len(got))
	}
}

// By itself: after something changed, at most daily, when the disk is there; and
// not a single call to it while nothing changes.
func TestRunsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	w.keep([]byte("first"))
	generation := func() int64 {
		list, err := w.b.Targets(t.Context())
		must(t, err)
		return list[0].Generation
	}
	w.b.Look(t.Context())
	if generation() != 1 {
		t.Fatal("a new copy waits")
	}
	second := w.keep([]byte("second"))
	w.pass(23 * time.Hour)
	w.b.Look(t.Context())
	if generation() != 1 {
		t.Error("more often than daily")
	}
	w.pass(90 * time.Minute)
	w.busy = true
	w.b.Look(t.Context())
	if generation() != 1 {
		t.Error("while the box is busy")
	}
	w.busy = false
	w.b.Look(t.Context())
	if generation() != 2 {
		t.Error("something new is not copied")
	}
	w.forget(second)
	w.pass(25 * time.Hour)
	w.b.Look(t.Context())
	w.pass(25 * time.Hour)
	w.b.Look(t.Context()) // so that the generation with what was deleted goes
	if n, _ := onTarget(t, w.disk); generation() != 4 || n != 1 {
		t.Errorf("generation %d, %d contents on the target: what was deleted stays", generation(), n)
	}
	calls, commits := w.disk.Calls(vfstest.OpAny), w.db.Stats().Commits
	for range 24 * 6 {
		w.pass(time.Hour)
		w.b.Look(t.Context())
	}
	if n := w.disk.Calls(vfstest.OpAny); n != calls || w.db.Stats().Commits != commits || generation() != 4 {
		t.Errorf("%d calls to the disk and %d commits while nothing changed", n-calls, w.db.Stats().Commits-commits)
	}
	// After a month it is read back, without a change to it.
	w.pass(30 * 24 * time.Hour)
	wrote := w.disk.Calls(vfstest.OpCreate | vfstest.OpWrite | vfstest.OpRemove | vfstest.OpRename)
	w.b.Look(t.Context())
	list, err := w.b.Targets(t.Context())
	must(t, err)
	if list[0].Verified.IsZero() || w.disk.Calls(vfstest.OpCreate|vfstest.OpWrite|vfstest.OpRemove|vfstest.OpRename) != wrote {
		t.Errorf("%+v", list[0])
	}
	// A failure is not tried again at once.
	w.keep([]byte("third"))
	w.pass(25 * time.Hour)
	w.disk.Fail(vfstest.Fault{Ops: vfstest.OpSync, Nth: 1, Err: syscall.EIO})
	w.b.Look(t.Context())
	calls = w.disk.Calls(vfstest.OpAny)
	w.b.Look(t.Context())
	if w.disk.Calls(vfstest.OpAny) != calls || generation() != 4 {
		t.Error("a failing disk is not left in peace")
	}
	w.pass(time.Hour)
	w.b.Look(t.Context())
	if generation() != 5 {
		t.Error("it is not tried again")
	}
}

// What is damaged on the box is not copied as good; a copy from before stays, and
// the box can be healed from it.
func TestADamagedBoxDoesNotSpoilItsCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	good, fresh := w.keep([]byte("was copied in time")), w.keep(bytes.Repeat([]byte("was not"), 50_000))
	w.forget(fresh)
	_, err := w.run()
	must(t, err)
	fresh = w.keep(bytes.Repeat([]byte("was not"), 50_000))
	gone := w.keep([]byte("vanished from the disk of the box"))
	for _, ref := range []storage.Ref{good, fresh} {
		name := filepath.Join(w.state, "blobs", ref.String()[:2], ref.String())
		b, err := os.ReadFile(name)
		must(t, err)
		b[len(b)/2] ^= 4
		must(t, os.Chmod(name, 0o600))
		must(t, os.WriteFile(name, b, 0o600))
	}
	must(t, os.Remove(filepath.Join(w.state, "blobs", gone.String()[:2], gone.String())))
	r, err := w.run()
	if err != nil || r.Missing != 2 || r.Complete || r.Contents != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if len(w.doubted) != 2 || !slices.Contains(w.doubted, fresh) || !slices.Contains(w.doubted, gone) {
		t.Errorf("the box is told of %v", w.doubted)
	}
	if list, err := w.b.List(t.Context()); err != nil || list[0].State != "incomplete" || list[0].Missing != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if b, err := readAll(w.b.Open(t.Context(), good)); err != nil || string(b) != "was copied in time" {
		t.Errorf("healing: %q %v", b, err)
	}
	if _, err := w.b.Open(t.Context(), fresh); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("healing what was never copied: %v", err)
	}
	w.plug(nil)
	if _, err := w.b.Open(t.Context(), good); !errors.Is(err, target.ErrAbsent) {
		t.Errorf("healing without the disk: %v", err)
	}
}

// A run looks at what is really on the target: what somebody removed there is copied
// again. What was deleted and came back while a generation still has it is not
// written over.
func TestWhatIsOnTheTargetCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	back := []byte("deleted and back")
	w.keep([]byte("stays"))
	ref := w.keep(back)
	_, err := w.run()
	must(t, err)
	keys, err := w.key.Keys()
	must(t, err)
	name := func(ref storage.Ref) string {
		n := keys.Name(ref)
		return fmt.Sprintf("data/%02x/%x.age", n[0], n[:])
	}
	before, err := vfs.ReadFile(w.disk, name(ref))
	must(t, err)
	w.forget(ref)
	_, err = w.run()
	must(t, err)
	w.keep(back)
	r, err := w.run()
	must(t, err)
	if after, err := vfs.ReadFile(w.disk, name(ref)); err != nil || r.Copied != 0 || !bytes.Equal(after, before) {
		t.Errorf("%+v, written over: %t, %v", r, !bytes.Equal(after, before), err)
	}
	must(t, w.disk.Remove(name(ref)))
	w.keep([]byte("something new"))
	r, err = w.run()
	if err != nil || r.Copied != 2 {
		t.Errorf("%+v %v", r, err)
	}
	if _, got, err := w.restore(w.disk); err != nil || !same(got, w.kept) {
		t.Errorf("%v, %d contents", err, len(got))
	}
}

// Files that come and are deleted while the records are copied do not make a
// generation speak of what is not there, and none of the others is missing.
func TestDeletionsDuringARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	for i := range 40 {
		w.keep(fmt.Appendf(nil, "content %d", i))
	}
	var brief []storage.Ref
	copies := 0
	r, err := w.b.RunNow(t.Context(), "", func(p backup.Progress) {
		switch {
		case p.Phase == "records":
			if copies++; copies == 1 {
				for i := range 10 {
					brief = append(brief, w.keep(fmt.Appendf(nil, "here for a moment %d", i)))
				}
			}
		case p.Phase == "copy" && copies == 1 && len(brief) > 0:
			for _, ref := range brief {
				w.forget(ref)
			}
			brief = nil
		}
	})
	if err != nil || r.Missing != 0 || copies != 2 {
		t.Fatalf("%+v %v, the records were copied %d times", r, err, copies)
	}
	if _, got, err := w.restore(w.disk); err != nil || !same(got, w.kept) {
		t.Errorf("%v, %d contents of %d", err, len(got), len(w.kept))
	}
}

// Whoever asks goes before what the box does by itself, which stops at once and
// goes on later.
func TestWhoAsksGoesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	w.keep(bytes.Repeat([]byte("a long film "), 1<<20))
	left := filepath.Join(w.state, "backup", "second-copy.db") // of a run that was killed
	must(t, errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, nil, 0o600)))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.b.Run(ctx) }() // Add has woken it: the run takes seconds, for it gives others half of the time
	for {
		if list, err := w.b.List(t.Context()); err != nil || list[0].Progress != nil || list[0].Generation > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("a copy of the records stays on the box")
	}
	r, err := w.run()
	if err != nil || r.Contents != 1 {
		t.Errorf("%+v %v", r, err)
	}
	stop()
	<-ended
}
