//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pipeline serves clients that each send one file after the other, and wait for
// the acknowledgement of each. A committer takes whatever has arrived, makes it
// durable, writes one synced journal entry for all (the database) and
// acknowledges.
type pipeline struct {
	name    string
	arrived func(b *bench, f *os.File) error       // by each client itself, before it joins the committer
	data    func(b *bench, files []*os.File) error // by the committer
	names   func(b *bench, group []item) error     // by the committer, after the renames
	limit   int                                    // files in a group; 0: any number
	gather  bool                                   // the committer lets those join first that are in arrived
}

func noFiles(*bench, []*os.File) error { return nil }
func noFile(*bench, *os.File) error    { return nil }

var pipelines = []pipeline{
	{"one file per commit", noFile, (*bench).syncFiles, (*bench).syncDirs, 1, false},
	{"committer: fdatasync, rename, fsync dirs", noFile, (*bench).syncFiles, (*bench).syncDirs, 0, false},
	{"committer: syncfs, rename, syncfs", noFile, func(b *bench, _ []*os.File) error { return b.syncfs() }, (*bench).syncAll, 0, false},
	{"client: fdatasync; committer: rename, fsync dirs", (*bench).syncFile, noFiles, (*bench).syncDirs, 0, false},
	{"client: fdatasync; committer: rename, syncfs", (*bench).syncFile, noFiles, (*bench).syncAll, 0, false},
	{"the last but one, waiting for clients in fdatasync", (*bench).syncFile, noFiles, (*bench).syncDirs, 0, true},
	{"the last but one, waiting for clients in fdatasync", (*bench).syncFile, noFiles, (*bench).syncAll, 0, true},
}

type arrival struct {
	item item
	file *os.File
	done chan error
}

func (b *bench) servePipelines(rng *rand.Rand, files, rounds int) error {
	clients := []int{1, 8, 32}
	fmt.Printf("%-52s", "clients (files per second)")
	for _, n := range clients {
		fmt.Printf("%9d", n)
	}
	fmt.Println()
	best := make([][]float64, len(pipelines))
	for i := range best {
		best[i] = make([]float64, len(clients))
	}
	for range rounds {
		for i := range pipelines {
			for k, n := range clients {
				rate, err := b.serve(&pipelines[i], rng, n, max(4, files/n/4))
				if err != nil {
					return fmt.Errorf("%s: %w", pipelines[i].name, err)
				}
				best[i][k] = max(best[i][k], rate)
			}
		}
	}
	for i, p := range pipelines {
		fmt.Printf("%-52s", p.name)
		for _, rate := range best[i] {
			fmt.Printf("%9.0f", rate)
		}
		fmt.Println()
	}
	return nil
}

// serve returns the files per second of n clients that send count files each.
func (b *bench) serve(p *pipeline, rng *rand.Rand, n, count int) (float64, error) {
	journal, err := os.OpenFile(b.dir+"/journal", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer journal.Close()
	queue := make(chan arrival, n)
	errs := make([]error, n)
	var all []item
	var wait sync.WaitGroup
	var arriving atomic.Int64 // files received and not yet in a group
	start := time.Now()
	for i := range n {
		items := make([]item, count)
		for k := range items {
			items[k] = newItem(rng)
		}
		all = append(all, items...)
		wait.Go(func() { errs[i] = b.send(p, items, queue, &arriving) })
	}
	go func() { wait.Wait(); close(queue) }()
	for first := range queue {
		arriving.Add(-1)
		group := []arrival{first}
		for len(group) != p.limit && (len(queue) > 0 || p.gather && arriving.Load() > 0) {
			group = append(group, <-queue)
			arriving.Add(-1)
		}
		err := b.commit(p, group, journal)
		for _, a := range group {
			a.done <- err
		}
	}
	took := time.Since(start)
	if err := b.remove(all); err != nil {
		return 0, err
	}
	return float64(n*count) / took.Seconds(), errors.Join(errs...)
}

func (b *bench) send(p *pipeline, items []item, queue chan<- arrival, arriving *atomic.Int64) error {
	done := make(chan error)
	for _, it := range items {
		f, err := os.OpenFile(b.inStaging(it.name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o440)
		if err != nil {
			return err
		}
		_, err = f.Write(it.data)
		arriving.Add(1)
		if err := errors.Join(err, p.arrived(b, f)); err != nil {
			return errors.Join(err, f.Close())
		}
		queue <- arrival{it, f, done}
		if err := errors.Join(<-done, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) commit(p *pipeline, group []arrival, journal *os.File) error {
	files, items := make([]*os.File, len(group)), make([]item, len(group))
	for i, a := range group {
		files[i], items[i] = a.file, a.item
	}
	if err := p.data(b, files); err != nil {
		return err
	}
	for _, it := range items {
		if err := os.Rename(b.inStaging(it.name), b.path(it.name)); err != nil {
			return err
		}
	}
	if err := p.names(b, items); err != nil {
		return err
	}
	if _, err := journal.Write(make([]byte, 4096*len(group))); err != nil {
		return err
	}
	return unix.Fdatasync(int(journal.Fd()))
}

func (b *bench) syncFile(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
