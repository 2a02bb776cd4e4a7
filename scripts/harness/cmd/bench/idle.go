package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	settle = 150 * time.Second // everything that a box does once after its start is done by then
	apart  = 300 * time.Millisecond
)

// rest lets the box lie idle under strace and tells what it did all the same: calls
// that write, that sync or that read a file of its state directory, and wake-ups.
func (s *soaked) rest(ctx context.Context, idle time.Duration) error {
	if idle == 0 {
		return nil
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if err := syncFS(s.dir); err != nil {
		return err
	}
	seen, err := watchIdle(ctx, s.box.PID(), s.dir, filepath.Join(s.work, "idle.trace"), idle)
	if err != nil {
		return err
	}
	s.note("Idle for %v with %d files: %s", idle, s.sent.Load(), seen)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// idleness is what a process did while nobody asked it for anything.
type idleness struct {
	writes, syncs, reads int    // calls on files below the state directory
	wakes                int    // moments in which it did something
	first                string // call that touched the state directory
	disk                 string // requests to the block device, of whomever
}

func (i idleness) String() string {
	text := fmt.Sprintf("%d writes, %d syncs, %d reads of files in the state directory; woke up %d times; %s", i.writes, i.syncs, i.reads, i.wakes, i.disk)
	if i.first != "" {
		text += "; first of them: " + i.first
	}
	return text
}

func watchIdle(ctx context.Context, pid int, dir, trace string, idle time.Duration) (seen idleness, err error) {
	strace := exec.CommandContext(ctx, "strace", "-f", "-qq", "-ttt", "-y", "-o", trace, "-p", strconv.Itoa(pid))
	before, counted := diskCounters(dir)
	if err := strace.Start(); err != nil {
		return seen, err
	}
	err = pause(ctx, idle)
	after, _ := diskCounters(dir)
	_ = strace.Process.Signal(os.Interrupt) // it lets go of the process
	_ = strace.Wait()
	if err != nil {
		return seen, err
	}
	seen.disk = "the disk is not one that the kernel counts"
	if counted {
		seen.disk = fmt.Sprintf("%d reads and %d writes of the block device", after[0]-before[0], after[1]-before[1])
	}
	return seen, errors.Join(seen.read(trace, dir), os.Remove(trace))
}

// read goes through a trace of strace -f -ttt -y.
func (i *idleness) read(trace, dir string) error {
	f, err := os.Open(trace)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	last := 0.0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, rest, _ := strings.Cut(lines.Text(), " ")
		stamp, call, _ := strings.Cut(strings.TrimSpace(rest), " ")
		at, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			continue
		}
		if last == 0 || at-last > apart.Seconds() {
			i.wakes++
		}
		last = at
		name, args, ok := strings.Cut(call, "(")
		if !ok || !strings.Contains(args, dir) || strings.Contains(call, "resumed>") {
			continue
		}
		switch name {
		case "write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate", "unlinkat", "renameat", "renameat2", "mkdirat", "linkat", "fchmodat":
			i.writes++
		case "fsync", "fdatasync", "sync_file_range", "syncfs":
			i.syncs++
		default:
			i.reads++
		}
		if i.first == "" {
			i.first = call
		}
	}
	return nil
}

// diskCounters are the reads and writes that the disk below dir has completed.
func diskCounters(dir string) (n [2]int64, ok bool) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return n, false
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	f := strings.Fields(string(text))
	if err != nil || len(f) < 5 {
		return n, false
	}
	n[0], _ = strconv.ParseInt(f[0], 10, 64)
	n[1], _ = strconv.ParseInt(f[4], 10, 64)
	return n, true
}
