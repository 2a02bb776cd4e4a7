package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

var modelFor = flag.Duration("model", 0, "how long TestFaultsAndCutsTogether goes on; 0: some seconds")

// A model is what people were told of a volume: which contents are kept, and which
// are gone for good. Several of them use it at the same time.
type model struct {
	mu    sync.Mutex
	facts map[storage.Ref]*fact
	ids   []string          // resumable uploads, the oldest first
	parts map[string][]byte // what they are of
	log   []string          // of this volume, for who has to find out why
}

// fact is what holds of one content.
type fact struct {
	data  []byte
	rows  int  // records that name it: it must be there
	gone  bool // Remove said so, and nobody has sent it since: it must not come back
	under int  // uploads under way
}

func newModel(rng *rand.Rand) *model {
	m := &model{facts: make(map[storage.Ref]*fact), parts: make(map[string][]byte)}
	for i := range 14 {
		data := make([]byte, [...]int{0, 1, 700, 4032, 5000, 9000, 30_000}[i%7])
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		if len(data) > 0 || i == 0 {
			m.facts[sha256.Sum256(data)] = &fact{data: data}
		}
	}
	return m
}

func (m *model) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *model) any(rng *rand.Rand) *fact {
	// The order of a map is no luck that a seed brings back.
	refs := slices.SortedFunc(maps.Keys(m.facts), func(a, b storage.Ref) int { return bytes.Compare(a[:], b[:]) })
	return m.facts[refs[rng.IntN(len(refs))]]
}

func (f *fact) ref() storage.Ref { return sha256.Sum256(f.data) }

func (m *model) live(ref storage.Ref) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.facts[ref]
	return f == nil || f.rows > 0, nil
}

func (m *model) begins(f *fact) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.under++
	f.gone = false
}

// upload sends a content, or goes on with an earlier upload, and believes the verdict.
func (m *model) upload(ctx context.Context, s *storage.Store, rng *rand.Rand) error {
	var batch []storage.Sealed
	var facts []*fact
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, f := range facts {
			f.under--
		}
	}()
	for range 1 + rng.IntN(3) {
		f := m.any(rng)
		facts = append(facts, f)
		m.begins(f)
		u, err := s.Begin(ctx, int64(len(f.data)))
		if err != nil {
			return err
		}
		defer u.Close()
		if rng.IntN(4) == 0 {
			half := rng.IntN(len(f.data) + 1)
			if _, err := u.Write(ctx, 0, bytes.NewReader(f.data[:half])); err != nil {
				return err
			}
			if err := u.Checkpoint(ctx); err != nil {
				return err
			}
			m.mu.Lock()
			m.ids, m.parts[u.ID()] = append(m.ids, u.ID()), f.data
			m.mu.Unlock()
			if rng.IntN(3) == 0 {
				return u.Close()
			}
		}
		sealed, err := f.sealed(ctx, u)
		if err != nil {
			return err
		}
		batch = append(batch, sealed)
	}
	return m.commit(ctx, s, rng, batch)
}

// sealed sends what is missing of a content and ends the upload.
func (f *fact) sealed(ctx context.Context, u *storage.Upload) (storage.Sealed, error) {
	if rest := f.data[u.Offset():]; len(rest) > 0 {
		if _, err := u.Write(ctx, u.Offset(), bytes.NewReader(rest)); err != nil {
			return storage.Sealed{}, err
		}
	}
	sealed, err := u.Seal(ctx)
	if err == nil && sealed.Ref != f.ref() {
		err = fmt.Errorf("wrong: sealed as %s, want %s", sealed.Ref, f.ref())
	}
	return sealed, err
}

func (m *model) commit(ctx context.Context, s *storage.Store, rng *rand.Rand, batch []storage.Sealed) error {
	verdicts := s.Commit(ctx, batch)
	m.mu.Lock()
	for i, err := range verdicts {
		// Now and then no row is written: consent was withdrawn a moment ago.
		if err == nil && rng.IntN(8) > 0 {
			m.facts[batch[i].Ref].rows++
		}
		m.log = append(m.log, fmt.Sprintf("commit %.8s of %d: %v, rows %d", batch[i].Ref, batch[i].Size, err, m.facts[batch[i].Ref].rows))
	}
	m.mu.Unlock()
	s.Release(batch)
	return errors.Join(verdicts...)
}

func (m *model) resume(ctx context.Context, s *storage.Store, rng *rand.Rand) error {
	m.mu.Lock()
	if len(m.ids) == 0 {
		m.mu.Unlock()
		return nil
	}
	id := m.ids[rng.IntN(len(m.ids))]
	f := m.facts[sha256.Sum256(m.parts[id])]
	m.mu.Unlock()
	m.begins(f)
	defer func() { m.mu.Lock(); f.under--; m.mu.Unlock() }()
	if rng.IntN(4) == 0 {
		return s.Discard(ctx, id)
	}
	u, err := s.Resume(ctx, id)
	if err != nil {
		return err
	}
	defer u.Close()
	sealed, err := f.sealed(ctx, u)
	if err != nil {
		return err
	}
	return m.commit(ctx, s, rng, []storage.Sealed{sealed})
}

// remove lets the last record of some contents go, and believes what Remove says.
func (m *model) remove(ctx context.Context, s *storage.Store, rng *rand.Rand, certain bool) error {
	var refs []storage.Ref
	for range 1 + rng.IntN(2) {
		f := m.any(rng)
		m.mu.Lock()
		f.rows = 0
		m.mu.Unlock()
		refs = append(refs, f.ref())
	}
	_, err := s.Remove(ctx, refs, m.live)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range refs {
		f := m.facts[ref]
		m.log = append(m.log, fmt.Sprintf("remove %.8s: %v, rows %d, under way %d", ref, err, f.rows, f.under))
		if err != nil || !certain || f.rows > 0 || f.under > 0 {
			continue
		}
		_, err := s.Get(ctx, ref)
		f.gone = errors.Is(err, storage.ErrNotFound)
	}
	return err
}

func (m *model) step(ctx context.Context, s *storage.Store, rng *rand.Rand, certain bool) error {
	switch rng.IntN(12) {
	case 0, 1:
		return m.remove(ctx, s, rng, certain)
	case 2:
		_, err := s.Sweep(ctx, -1, m.live)
		return err
	case 3, 4:
		return m.resume(ctx, s, rng)
	case 5:
		m.say("wipe")
		return s.Wipe()
	case 6:
		f := m.any(rng)
		_, err := s.Inspect(ctx, f.ref(), int64(len(f.data)), nil)
		return err
	default:
		return m.upload(ctx, s, rng)
	}
}

// check demands what the model knows.
func (m *model) check(ctx context.Context, s *storage.Store, whole bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ref, f := range m.facts {
		_, err := s.Get(ctx, ref)
		switch {
		case f.rows > 0 && err != nil:
			return fmt.Errorf("kept, but lost: %w", err)
		case f.gone && !errors.Is(err, storage.ErrNotFound):
			return fmt.Errorf("removed, but %s is back: %w", ref, err)
		}
		if f.rows == 0 || !whole {
			continue
		}
		if err := s.Verify(ctx, ref); err != nil {
			return fmt.Errorf("kept, but not whole: %w", err)
		}
		b, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(b)
		if err := errors.Join(err, b.Close()); err != nil || !bytes.Equal(got, f.data) {
			return fmt.Errorf("kept, but it is %d other bytes: %w", len(got), err)
		}
	}
	if !whole {
		return nil
	}
	for info, err := range s.Refs(ctx) {
		if err == nil {
			err = s.Verify(ctx, info.Ref)
		}
		if err != nil {
			return fmt.Errorf("visible, but not whole: %w", err)
		}
	}
	return nil
}

// someFault is any one call of some kind that fails, once or from then on. names says
// whether it may leave names that the system shows and the disk has not.
func someFault(rng *rand.Rand) (f vfstest.Fault, names bool) {
	f.Ops = []vfstest.Op{
		vfstest.OpAny, vfstest.OpSync, vfstest.OpSync, vfstest.OpSyncDir, vfstest.OpSyncAll, vfstest.OpSyncAll, vfstest.OpSync | vfstest.OpSyncAll,
		vfstest.OpWrite, vfstest.OpWrite, vfstest.OpRename, vfstest.OpRead, vfstest.OpCreate, vfstest.OpOpen, vfstest.OpRemove, vfstest.OpTruncate,
	}[rng.IntN(15)]
	f.Err = []syscall.Errno{syscall.EIO, syscall.EIO, syscall.ENOSPC, syscall.EROFS}[rng.IntN(4)]
	f.Nth = 1 + rng.IntN(1+rng.IntN(40))
	f.Short = rng.IntN(2) == 0
	f.Sticky = rng.IntN(4) == 0
	if dir := []string{"", "", "intent/", "staging/", "blobs/"}[rng.IntN(5)]; dir != "" && f.Ops&vfstest.OpSyncAll == 0 {
		f.Path = func(name string) bool { return strings.HasPrefix(name, dir) }
	}
	if rng.IntN(2) == 0 { // a failed SyncAll loses some of what it should have written
		n := rng.IntN(16)
		f.Loses = func(name string) bool { return int(sha256.Sum256([]byte(name))[0])%16 > n }
	}
	return f, f.Ops&(vfstest.OpSyncDir|vfstest.OpSyncAll) != 0
}

// A volume on a disk that fails, killed and cut off from its power again and again
// while several people upload and remove, keeps every promise: what was acknowledged is
// there, what was removed stays away, what is visible is whole, and it opens again. R01 R02 R27
func TestFaultsAndCutsTogether(t *testing.T) {
	rng := vfstest.Seed(t)
	long := 2 * time.Second
	if *modelFor > 0 {
		long = *modelFor
	} else if testing.Short() {
		long = time.Second
	}
	lives, struck := 0, 0
	for begin := time.Now(); time.Since(begin) < long; {
		m := newModel(rng)
		disk := vfstest.NewDisk()
		certain := true // whether names that the system shows are those of the disk
		for range 8 {
			lives++
			disk = m.life(t, rng, disk, &certain, &struck)
			if t.Failed() {
				for _, line := range m.log {
					t.Log(line)
				}
				return
			}
		}
	}
	t.Logf("%d lives, %d faults struck", lives, struck)
}

// life opens the volume, checks it, lets people use it until its end and returns what
// the next one finds.
func (m *model) life(t *testing.T, rng *rand.Rand, disk *vfstest.Disk, certain *bool, struck *int) *vfstest.Disk {
	ctx := context.Background()
	var powerless atomic.Bool
	disk.OnCut(func() { powerless.Store(true) })
	opt := storage.Options{Reserve: -1, Intent: [...]int64{-1, 6 * 4096, 12 * 4096, 12 * 4096, 60 * 4096}[rng.IntN(5)]}
	opt.Acknowledged = func(_ context.Context, ref storage.Ref) (bool, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		f := m.facts[ref]
		return f != nil && f.rows > 0, nil
	}
	m.say("life: intent %d, certain %v", opt.Intent, *certain)
	names, behind := false, rng.IntN(4) == 0 // the kernel loses something, too
	plan := func() {
		for range rng.IntN(3) {
			f, unsure := someFault(rng)
			m.say("fault: %v %v nth %d short %v sticky %v", f.Ops, f.Err, f.Nth, f.Short, f.Sticky)
			names = names || unsure
			disk.Fail(f)
		}
		if rng.IntN(3) > 0 {
			n := 1 + rng.IntN(1+rng.IntN(300))
			m.say("cut in %d", n)
			disk.CutIn(n)
		}
	}
	early := rng.IntN(3) == 0 // things go wrong while it is opened
	if early {
		plan()
	}
	s, err := storage.Open(ctx, disk, opt)
	m.say("opened: %v", err)
	if err != nil && !early {
		t.Errorf("it does not open: %v", err)
		return disk
	}
	if err == nil {
		if !early {
			if err := m.check(ctx, s, true); err != nil {
				t.Error(err)
				return disk
			}
			plan()
		}
		var wait sync.WaitGroup
		for range 1 + rng.IntN(3) {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
			wait.Go(func() {
				for range 1 + rng.IntN(25) {
					if behind && rng.IntN(16) == 0 {
						m.say("lost behind")
						n := rng.IntN(256)
						disk.Lose(func(name string) bool { return int(sha256.Sum256([]byte(name))[0]) < n })
						disk.Reclaim()
					}
					err := m.step(ctx, s, rng, *certain && !names)
					if err != nil && strings.HasPrefix(err.Error(), "wrong: ") {
						t.Error(err)
					}
					if powerless.Load() {
						return
					}
				}
			})
		}
		wait.Wait()
		if rng.IntN(4) == 0 {
			m.say("closed: %v", s.Close())
		} else {
			defer s.Close() //nolint:errcheck // its disk is off
		}
	}
	if !disk.Pending() {
		*struck++
	}
	disk.Heal()
	if rng.IntN(3) == 0 {
		m.say("killed")
		*certain = *certain && !names
		return disk.Kill()
	}
	luck := vfstest.Luck(rng.IntN(5))
	m.say("power cut: %v", luck)
	*certain = true
	return disk.PowerCutAs(rng, luck)
}
