//go:build linux

// Syncbench measures how small files become durable most quickly.
//
//	syncbench [-files 256] [-rounds 5] [-seed 1] [-clients] DIR…
//
// Give it one directory on each file system of interest. It writes groups of 1,
// 8 and 32 files of 20–200 kB below each, in every way listed in strategies, and
// prints the time per group, of which a tenth of the groups took less. Then
// clients that send one file after the other are served by a committer, in every
// way listed in pipelines, and it prints files per second, the best round. The
// ways take turns, so that other work on the machine hits them alike. The
// numbers are in docs/decisions/0002-how-a-group-becomes-durable.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const shards = 256

func main() {
	files := flag.Int("files", 256, "files per way, group size and round")
	rounds := flag.Int("rounds", 5, "rounds")
	clientsOnly := flag.Bool("clients", false, "measure only clients")
	seed := flag.Uint64("seed", 1, "seed of sizes and names")
	flag.Parse()
	for _, dir := range flag.Args() {
		if err := measure(dir, *files, *rounds, *seed, *clientsOnly); err != nil {
			fmt.Fprintln(os.Stderr, "syncbench:", err)
			os.Exit(1)
		}
	}
}

// strategy makes the files of one group durable under their names.
type strategy struct {
	name string
	run  func(b *bench, group []item) error
}

type item struct {
	name string // below blobs/
	data []byte
}

var strategies = []strategy{
	{"one by one", func(b *bench, group []item) error {
		for _, it := range group {
			if err := b.fdatasyncRename([]item{it}); err != nil {
				return err
			}
		}
		return nil
	}},
	{"fdatasync, rename, fsync dirs", (*bench).fdatasyncRename},
	{"O_TMPFILE, fdatasync, linkat, fsync dirs", func(b *bench, group []item) error {
		return b.tmpfile(group, false)
	}},
	{"the same, fdatasync again after linkat", func(b *bench, group []item) error {
		return b.tmpfile(group, true)
	}},
	{"staged in the shard, fdatasync, rename, fsync dirs", func(b *bench, group []item) error {
		return b.staged(group, b.inShard, b.syncFiles, b.syncDirs)
	}},
	{"start writing all, fdatasync, rename, fsync dirs", func(b *bench, group []item) error {
		return b.staged(group, b.inStaging, b.pushFiles, b.syncDirs)
	}},
	{"write all and wait, fdatasync, rename, fsync dirs", func(b *bench, group []item) error {
		return b.staged(group, b.inStaging, b.waitFiles, b.syncDirs)
	}},
	{"fdatasync, rename, one syncfs", func(b *bench, group []item) error {
		return b.staged(group, b.inStaging, b.syncFiles, b.syncAll)
	}},
	{"syncfs, rename, syncfs", func(b *bench, group []item) error {
		return b.staged(group, b.inStaging, func([]*os.File) error { return b.syncfs() }, b.syncAll)
	}},
	{"rename, one syncfs (names before data)", func(b *bench, group []item) error {
		return b.staged(group, b.inStaging, func([]*os.File) error { return nil }, b.syncAll)
	}},
	{"write only (nothing durable)", func(b *bench, group []item) error {
		nothing := func([]*os.File) error { return nil }
		return b.staged(group, b.inStaging, nothing, func([]item) error { return nil })
	}},
}

type bench struct {
	dir string
	top *os.File
}

func measure(dir string, files, rounds int, seed uint64, clientsOnly bool) error {
	dir, err := os.MkdirTemp(dir, "syncbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range shards {
		if err := os.MkdirAll(filepath.Join(dir, "blobs", fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "staging"), 0o700); err != nil {
		return err
	}
	top, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	b := &bench{dir, top}
	if err := b.syncfs(); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(top.Fd()), &st); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	if clientsOnly {
		fmt.Printf("%s (type %#x)\n", filepath.Dir(dir), st.Type)
		return b.servePipelines(rng, files, rounds)
	}
	fmt.Printf("%s (type %#x), ms per group\n%-52s", filepath.Dir(dir), st.Type, "files in the group")
	groups := []int{1, 8, 32}
	for _, n := range groups {
		fmt.Printf("%9d", n)
	}
	fmt.Println()
	times := make(map[string]map[int][]time.Duration)
	for _, s := range strategies {
		times[s.name] = make(map[int][]time.Duration)
	}
	for round := range rounds {
		for k := range strategies {
			s := strategies[(k+round)%len(strategies)]
			for _, n := range groups {
				took, err := b.groups(rng, s, n, max(1, files/n/4))
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				times[s.name][n] = append(times[s.name][n], took...)
			}
		}
	}
	for _, s := range strategies {
		fmt.Printf("%-52s", s.name)
		for _, n := range groups {
			all := times[s.name][n]
			slices.Sort(all)
			fmt.Printf("%9.2f", float64(all[len(all)/10].Microseconds())/1000)
		}
		fmt.Println()
	}
	return b.servePipelines(rng, files, rounds)
}

// groups writes several groups of n files in one way.
func (b *bench) groups(rng *rand.Rand, s strategy, n, count int) ([]time.Duration, error) {
	var took []time.Duration
	for range count {
		group := make([]item, n)
		for i := range group {
			group[i] = newItem(rng)
		}
		start := time.Now()
		if err := s.run(b, group); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
		if err := b.remove(group); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// remove makes room for the next group.
func (b *bench) remove(group []item) error {
	for _, it := range group {
		if err := os.Remove(b.path(it.name)); err != nil {
			return err
		}
	}
	return nil
}

func newItem(rng *rand.Rand) item {
	it := item{fmt.Sprintf("%02x/%016x", rng.IntN(shards), rng.Uint64()), make([]byte, 20_000+rng.IntN(180_000))}
	for j := 0; j < len(it.data); j += 8 {
		it.data[j] = byte(rng.Uint32())
	}
	return it
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, "blobs", name) }
func (b *bench) inStaging(name string) string {
	return filepath.Join(b.dir, "staging", filepath.Base(name))
}
func (b *bench) inShard(name string) string { return b.path(name) + ".tmp" }

func (b *bench) fdatasyncRename(group []item) error {
	return b.staged(group, b.inStaging, b.syncFiles, b.syncDirs)
}

// staged writes all files under other names, syncs the data, renames, syncs the
// names.
func (b *bench) staged(group []item, stage func(string) string, data func([]*os.File) error, names func([]item) error) error {
	files := make([]*os.File, len(group))
	for i, it := range group {
		f, err := os.OpenFile(stage(it.name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o440)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(it.data); err != nil {
			return err
		}
		files[i] = f
	}
	if err := data(files); err != nil {
		return err
	}
	for _, it := range group {
		if err := os.Rename(stage(it.name), b.path(it.name)); err != nil {
			return err
		}
	}
	return names(group)
}

func (b *bench) tmpfile(group []item, again bool) error {
	files := make([]*os.File, len(group))
	for i, it := range group {
		f, err := os.OpenFile(filepath.Join(b.dir, "staging"), os.O_RDWR|unix.O_TMPFILE, 0o440)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(it.data); err != nil {
			return err
		}
		files[i] = f
	}
	if err := b.syncFiles(files); err != nil {
		return err
	}
	for i, it := range group {
		from := "/proc/self/fd/" + strconv.Itoa(int(files[i].Fd()))
		if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, b.path(it.name), unix.AT_SYMLINK_FOLLOW); err != nil {
			return err
		}
	}
	if !again {
		return b.syncDirs(group)
	}
	var wait sync.WaitGroup
	var failed error
	wait.Go(func() { failed = b.syncFiles(files) })
	err := b.syncDirs(group)
	wait.Wait()
	return errors.Join(err, failed)
}

func (b *bench) syncFiles(files []*os.File) error {
	return parallel(files, func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) })
}

// waitFiles has all bytes on the device, blocks allocated, before the first sync:
// then all that the files still need is in one journal transaction.
func (b *bench) waitFiles(files []*os.File) error {
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for _, flags := range []int{unix.SYNC_FILE_RANGE_WRITE, wait} {
		for _, f := range files {
			if err := unix.SyncFileRange(int(f.Fd()), 0, 0, flags); err != nil {
				return err
			}
		}
	}
	return b.syncFiles(files)
}

// pushFiles starts all writing before it waits for any.
func (b *bench) pushFiles(files []*os.File) error {
	for _, f := range files {
		if err := unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE); err != nil {
			return err
		}
	}
	return b.syncFiles(files)
}

func (b *bench) syncDirs(group []item) error {
	var dirs []string
	for _, it := range group {
		dirs = append(dirs, filepath.Dir(b.path(it.name)))
	}
	slices.Sort(dirs)
	return parallel(slices.Compact(dirs), func(dir string) error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	})
}

func (b *bench) syncAll([]item) error { return b.syncfs() }
func (b *bench) syncfs() error        { return unix.Syncfs(int(b.top.Fd())) }

// parallel runs f on all items side by side.
func parallel[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var wait sync.WaitGroup
	for i, item := range items[1:] {
		wait.Go(func() { errs[i+1] = f(item) })
	}
	errs[0] = f(items[0])
	wait.Wait()
	return errors.Join(errs...)
}
