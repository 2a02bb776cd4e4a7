package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A jail is a control group whose processes get so much memory, the pages of the
// files that they use included, and no more.
type jail struct {
	dir string
	v2  bool
}

func newJail(bytes int64) (*jail, error) {
	j := &jail{dir: filepath.Join("/sys/fs/cgroup/memory", fmt.Sprint("yunbox-bench-", os.Getpid()))}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		j.v2, j.dir = true, filepath.Join("/sys/fs/cgroup", filepath.Base(j.dir))
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(j.dir, 0o755); err != nil {
		return nil, err
	}
	if err := j.set(j.name("memory.limit_in_bytes", "memory.max"), bytes); err != nil {
		return nil, errors.Join(err, j.remove())
	}
	// No swap: where the kernel counts it apart, there is none to be switched off.
	_ = j.set(j.name("memory.memsw.limit_in_bytes", "memory.swap.max"), map[bool]int64{false: bytes, true: 0}[j.v2])
	return j, nil
}

func (j *jail) name(v1, v2 string) string {
	if j.v2 {
		return v2
	}
	return v1
}

func (j *jail) set(file string, value int64) error {
	return os.WriteFile(filepath.Join(j.dir, file), []byte(strconv.FormatInt(value, 10)), 0)
}

// wrap is a command that runs its arguments in the jail.
func (j *jail) wrap() []string {
	return []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(j.dir, "cgroup.procs")}
}

func (j *jail) number(file, key string) (n int64) {
	for _, line := range linesOf(filepath.Join(j.dir, file)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key || len(f) == 1 && key == "" {
			n, _ = strconv.ParseInt(f[len(f)-1], 10, 64)
		}
	}
	return n
}

// killed is how many processes were ended for want of memory.
func (j *jail) killed() int64 {
	return j.number(j.name("memory.oom_control", "memory.events"), "oom_kill")
}

// peak is the most bytes that the group had, which is its limit once it read enough files.
func (j *jail) peak() int64 {
	return j.number(j.name("memory.max_usage_in_bytes", "memory.peak"), "")
}

// pressure says what the bytes of the group are.
func (j *jail) pressure() string {
	return fmt.Sprintf("at the end %.1f MiB are its own and %.1f MiB pages of files",
		float64(j.number("memory.stat", j.name("rss", "anon")))/(1<<20), float64(j.number("memory.stat", j.name("cache", "file")))/(1<<20))
}

func (j *jail) remove() (err error) {
	for range 100 { // the last process may still be ending
		if err = os.Remove(j.dir); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// dropCaches makes the system forget what it has read.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// A notice is a service manager that waits to be told READY.
type notice struct {
	name string
	conn *net.UnixConn
	told chan time.Time
}

func listenForReady(name string) (*notice, error) {
	_ = os.Remove(name) // of the last start
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	n := &notice{name: name, conn: conn, told: make(chan time.Time, 1)}
	go func() {
		var b [64]byte
		for {
			count, err := conn.Read(b[:])
			if err != nil {
				return
			}
			if string(b[:count]) == "READY=1" {
				n.told <- time.Now()
				return
			}
		}
	}()
	return n, nil
}

// at is when READY was told; the zero time if it was not within ten seconds.
func (n *notice) at() time.Time {
	select {
	case t := <-n.told:
		return t
	case <-time.After(10 * time.Second):
		return time.Time{}
	}
}

func (n *notice) close() { _ = n.conn.Close() }
