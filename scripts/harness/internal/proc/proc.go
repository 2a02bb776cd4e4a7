// Package proc runs a server as a child and reads what it and its own children
// cost: processor time and memory, from /proc.
package proc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a started server with all processes that it starts.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
	log  *tail
}

// Start runs a command in a process group of its own. Its output goes to watch
// (if not nil), and the end of it is kept for [Process.Output].
func Start(watch io.Writer, name string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(name, args...), done: make(chan struct{}), log: &tail{}}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := io.Writer(p.log)
	if watch != nil {
		out = io.MultiWriter(p.log, watch)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.WaitDelay = time.Second // children that outlive it must not hold us by its output
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process id of the server itself.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the server has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is the end of what the server printed, up to 4 KiB.
func (p *Process) Output() string { return strings.TrimSpace(p.log.String()) }

// Await polls ready until it is nil. It gives up when the server ends or ctx does.
func (p *Process) Await(ctx context.Context, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the server ended before it was ready: %w: %s", p.err, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w: %w: %s", err, ctx.Err(), p.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Kill ends the whole process group at once, as a crash would.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // ESRCH: already gone
	<-p.done
}

// Stop asks the server to end and kills what is left of its group after grace.
// The error is the server's own bad ending.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
		return p.err
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("the server did not end within %v of SIGTERM", grace)
	}
}

// Usage is what a process tree has used.
type Usage struct {
	CPU  time.Duration // user and system, of ended children too
	RSS  int64         // bytes resident now, summed over the tree
	Peak int64         // VmHWM of the first process, bytes
}

// Usage reads what the tree has used so far.
func (p *Process) Usage() (Usage, error) { return UsageOf(p.PID()) }

// UsageOf reads what the tree below a process has used so far.
func UsageOf(pid int) (Usage, error) {
	children, err := childrenByParent()
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	if err := u.add(pid); err != nil {
		return Usage{}, err
	}
	status, err := memory(pid)
	if err != nil {
		return Usage{}, err
	}
	u.Peak = status["VmHWM"]
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		_ = u.add(queue[0]) // it may have ended since; then its parent has its time
		queue = append(queue, children[queue[0]]...)
	}
	return u, nil
}

// ResetPeak makes VmHWM start again from the present size.
func (p *Process) ResetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0)
}

const ticksPerSecond = 100 // USER_HZ: a constant of Linux's interface to programs

func (u *Usage) add(pid int) error {
	fields, err := stat(pid)
	if err != nil {
		return err
	}
	for _, i := range []int{11, 12, 13, 14} { // utime stime cutime cstime
		t, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return err
		}
		u.CPU += time.Duration(t) * (time.Second / ticksPerSecond)
	}
	m, err := memory(pid)
	if err != nil {
		return err
	}
	u.RSS += m["VmRSS"]
	return nil
}

// stat gives the fields of /proc/PID/stat from the third (state) on.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	s := string(b)
	end := strings.LastIndexByte(s, ')') // the name may hold spaces and parentheses
	fields := strings.Fields(s[end+1:])
	if end < 0 || len(fields) < 22 {
		return nil, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	return fields, nil
}

// memory reads the Vm… lines of /proc/PID/status, in bytes.
func memory(pid int) (map[string]int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	sizes := map[string]int64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if kib, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			if n, err := strconv.ParseInt(kib, 10, 64); err == nil {
				sizes[name] = n << 10
			}
		}
	}
	return sizes, nil
}

func childrenByParent() (map[int][]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil {
			continue // it has ended
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// Sampler watches a tree's resident memory while something runs.
type Sampler struct {
	stop    chan struct{}
	stopped chan struct{}
	samples []int64
}

// Sample begins to watch; [Sampler.Stop] ends it.
func (p *Process) Sample(every time.Duration) *Sampler {
	s := &Sampler{stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(s.stopped)
		for {
			if u, err := p.Usage(); err == nil {
				s.samples = append(s.samples, u.RSS)
			}
			select {
			case <-s.stop:
				return
			case <-time.After(every):
			}
		}
	}()
	return s
}

// Stop ends the watch and gives the resident bytes seen, in order of time.
func (s *Sampler) Stop() []int64 {
	close(s.stop)
	<-s.stopped
	return s.samples
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 4<<10; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
