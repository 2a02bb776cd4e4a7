package vfstest

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// Seed returns the random numbers of a test. It logs their seed; with
// YUNBOX_SEED set to that number the test does the same again.
func Seed(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("YUNBOX_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("YUNBOX_SEED: %v", err)
		}
	}
	t.Logf("YUNBOX_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Kill ends the process that uses the disk, as kill -9 does, and returns the
// disk as the next process finds it: its files are closed, its locks are gone,
// but what it wrote is there, synced or not. The old Disk is off.
func (d *Disk) Kill() *Disk {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
	m.locks = make(map[string]bool)
	m.faults, m.cutIn, m.untold = nil, 0, false
	m.root.closeAll()
	m.used = m.root.room(make(map[*inode]bool))
	return &Disk{m: m, life: m.life}
}

// closeAll also forgets what a SyncAll has lost and nobody was told: silence is
// harder on the next process.
func (n *inode) closeAll() {
	n.opens, n.untold = 0, false
	for _, child := range n.entries {
		child.closeAll()
	}
}

// room is what a tree takes.
func (n *inode) room(seen map[*inode]bool) int64 {
	if seen[n] {
		return 0
	}
	seen[n] = true
	sum := blocks(n)
	for _, child := range n.entries {
		sum += child.room(seen)
	}
	return sum
}

// PowerCut returns the disk as it may look after a power cut at this moment.
// Everything synced is there. Of the rest, sectors, sizes and names have
// survived or not, as rng decides. The old Disk is off.
func (d *Disk) PowerCut(rng *rand.Rand) *Disk { return d.PowerCutAs(rng, Mixed) }

// PowerCutAs is PowerCut with one kind of luck for the whole disk.
func (d *Disk) PowerCutAs(rng *rand.Rand, luck Luck) *Disk {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
	after := &media{capacity: m.capacity, now: m.now, clones: m.clones, locks: make(map[string]bool), luck: luck}
	made := make(map[*inode]*inode)
	after.root = after.survive(rng, m.root, made)
	after.root.links = 1
	after.used = after.root.room(make(map[*inode]bool))
	return &Disk{m: after}
}

// survive copies what is left of a tree.
func (m *media) survive(rng *rand.Rand, old *inode, made map[*inode]*inode) *inode {
	if n := made[old]; n != nil {
		return n
	}
	n := m.newInode(old.mode)
	n.num, n.mtime = old.num, old.mtime
	m.inodes = max(m.inodes, n.num)
	made[old] = n
	if !old.mode.IsDir() {
		n.disk = old.surviving(rng, m.drawFate(rng))
		n.data = slices.Clone(n.disk)
		return n
	}
	entries := old.survivingNames(rng, m.drawFate(rng))
	// By age, not by name, for names may be random: the same seed must do the
	// same again.
	names := slices.SortedFunc(maps.Keys(entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(entries[a].num, entries[b].num), cmp.Compare(a, b))
	})
	for _, name := range names {
		child := m.survive(rng, entries[name], made)
		child.links++
		n.entries[name], n.durable[name] = child, child
	}
	return n
}

// fate is how a cut treats what was not synced. The extremes are frequent, since
// they are what real file systems mostly do.
type fate int

const (
	lose fate = iota
	keep
	mix
)

// Luck is how a power cut treats all that was not synced.
type Luck int

const (
	Mixed Luck = iota // each file and each folder has its own
	Drop              // all is lost
	Keep              // all arrived
	Rand              // all of a file or a folder arrived, or nothing
	Torn              // any part of each
)

// Lucks are the four that are the same for the whole disk.
func Lucks() []Luck { return []Luck{Drop, Torn, Rand, Keep} }

func (l Luck) String() string { return [...]string{"mixed", "drop", "keep", "rand", "torn"}[l] }

func (m *media) drawFate(rng *rand.Rand) fate {
	switch m.luck {
	case Drop:
		return lose
	case Keep:
		return keep
	case Rand:
		return [...]fate{lose, keep}[rng.IntN(2)]
	case Torn:
		return mix
	}
	return [...]fate{lose, keep, mix, mix}[rng.IntN(4)]
}

// surviving is what the device has of a file after a cut.
func (n *inode) surviving(rng *rand.Rand, how fate) []byte {
	b := slices.Clone(n.disk)
	if n.resized && (how == keep || how == mix && rng.IntN(2) == 0) {
		b = n.ofSize(b, len(n.data))
	}
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		from, to := s*sector, min((s+1)*sector, len(n.data), len(b))
		if from < to && (how == keep || how == mix && rng.IntN(2) == 0) {
			copy(b[from:to], n.data[from:to])
		}
	}
	return b
}

// survivingNames is what the device has of a directory after a cut. Changes of
// one name survive in their order: a later one never without an earlier one.
func (n *inode) survivingNames(rng *rand.Rand, how fate) map[string]*inode {
	entries := maps.Clone(n.durable)
	lost := make(map[string]bool)
	for _, c := range n.log {
		survives := how == keep || how == mix && rng.IntN(2) == 0
		for _, e := range c {
			survives = survives && !lost[e.name]
		}
		if survives {
			c.reach(entries)
			continue
		}
		for _, e := range c {
			lost[e.name] = true
		}
	}
	return entries
}
