//go:build linux && (amd64 || arm64)

package db

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A fault lets one system call on files below Dir fail: the Nth of those that can
// fail by Err. SQLite makes its calls in C and the journal in Go, so it is the
// kernel that fails them (seccomp_unotify(2)), for a process that is watched by
// another one.
type fault struct {
	Dir   string
	Nth   int
	Err   syscall.Errno
	Short bool // a write takes the first half and says so, and the next one fails
}

// hit is what became of a fault.
type hit struct {
	Calls  int    // that could have failed
	Failed string // the call that did; "": none
}

// faults is the watched side. It is used by one goroutine at a time.
type faults struct {
	to *json.Encoder
	in *json.Decoder
}

// arm takes the place of the fault before and says what became of that.
func (f *faults) arm(t *testing.T, next fault) (last hit) {
	t.Helper()
	if err := errors.Join(f.to.Encode(next), f.in.Decode(&last)); err != nil {
		t.Fatal(err)
	}
	return last
}

const watchedEnv = "YUNBOX_TEST_WATCHED"

// watched runs fn in a process of its own whose system calls can be made to fail.
func watched(t *testing.T, fn func(*faults)) {
	t.Helper()
	if os.Getenv(watchedEnv) != "" {
		conn := os.NewFile(4, "faults")
		f := &faults{json.NewEncoder(conn), json.NewDecoder(conn)}
		if err := watchMe(3); err != nil {
			t.Fatal(err)
		}
		fn(f)
		return
	}
	handOver, theirs := socketPair(t)
	talk, theirTalk := socketPair(t)
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	for _, a := range os.Args[1:] {
		if a == "-every" {
			args = append(args, a)
		}
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), watchedEnv+"=1")
	cmd.ExtraFiles = []*os.File{theirs, theirTalk}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if *every { // it takes long
		cmd.Stdout = io.MultiWriter(&out, os.Stdout)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	theirTalk.Close()
	heard, wake, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{pid: cmd.Process.Pid, wishes: make(chan request, 1), heard: heard, wake: wake}
	ended := make(chan error, 1)
	go func() {
		fd, err := receive(handOver)
		if err == nil {
			w.notify = fd
			go w.listen(talk)
			err = w.serve()
		}
		ended <- err
	}()
	err = cmd.Wait()
	if err != nil || testing.Verbose() {
		t.Log(out.String())
	}
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatal("the watched process ran no test")
	}
}

func socketPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(p[0]), "ours"), os.NewFile(uintptr(p[1]), "theirs")
	t.Cleanup(func() { ours.Close() })
	return ours, theirs
}

// The calls by which SQLite and the journal change and read files.
var watchedCalls = []uint32{
	unix.SYS_OPENAT, unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_RENAMEAT2, unix.SYS_SYNCFS, unix.SYS_COPY_FILE_RANGE,
}

// watchMe lets the process's calls be judged by who gets the descriptor that is
// sent over the socket.
func watchMe(socket int) error {
	calls := slices.Concat(watchedCalls, olderCalls)
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}}
	for i, nr := range calls {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: nr})
	}
	prog = append(prog,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
		uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return errors.Join(unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(fd)), nil, 0), unix.Close(int(fd)), unix.Close(socket))
}

func receive(from *os.File) (fd int, err error) {
	c, err := net.FileConn(from)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	one, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(one, oob)
	if err != nil {
		return 0, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return 0, fmt.Errorf("no descriptor came: %v", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return 0, fmt.Errorf("no descriptor came: %v", err)
	}
	return fds[0], nil
}

// A watcher judges the calls of the process pid.
type watcher struct {
	pid, notify int
	wishes      chan request
	heard, wake *os.File // a pipe: a wish is there

	fault
	hit
	halved bool // a short write was made, and the error is to follow
}

type request struct {
	next fault
	last chan hit
}

// See struct seccomp_notif and seccomp_notif_resp in linux/seccomp.h.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type verdict struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifRecv = 0xc0502100
	notifSend = 0xc0182101
	goOn      = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// listen takes wishes of the watched process.
func (w *watcher) listen(talk *os.File) {
	in, out := json.NewDecoder(talk), json.NewEncoder(talk)
	for {
		r := request{last: make(chan hit)}
		if in.Decode(&r.next) != nil {
			return
		}
		w.wishes <- r
		w.wake.Write([]byte{0})
		if out.Encode(<-r.last) != nil {
			return
		}
	}
}

// serve judges calls until the process has ended.
func (w *watcher) serve() error {
	defer unix.Close(w.notify)
	defer w.heard.Close()
	defer w.wake.Close()
	for {
		p := []unix.PollFd{{Fd: int32(w.notify), Events: unix.POLLIN}, {Fd: int32(w.heard.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR {
			return err
		}
		if p[1].Revents&unix.POLLIN != 0 {
			w.heard.Read(make([]byte, 1))
			r := <-w.wishes
			last := w.hit
			w.fault, w.hit, w.halved = r.next, hit{}, false
			r.last <- last
		}
		if p[0].Revents&unix.POLLIN == 0 {
			if p[0].Revents&unix.POLLHUP != 0 {
				return nil
			}
			continue
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(w.notify), notifRecv, uintptr(unsafe.Pointer(&n))); errno != 0 {
			if errno == unix.ENOENT || errno == unix.EINTR {
				continue // the thread has gone
			}
			return fmt.Errorf("receive: %w", errno)
		}
		v := w.judge(&n)
		v.id = n.id
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(w.notify), notifSend, uintptr(unsafe.Pointer(&v))); errno != 0 && errno != unix.ENOENT {
			return fmt.Errorf("send: %w", errno)
		}
	}
}

func (w *watcher) judge(n *notification) verdict {
	pass := verdict{flags: goOn}
	c := callOf(n)
	if w.Nth == 0 || w.Failed != "" && !w.halved || !c.canFailBy(w.Err, n) {
		return pass
	}
	path := w.pathOf(c, n)
	if !strings.HasPrefix(path, w.Dir+"/") {
		return pass
	}
	if w.halved {
		if path != strings.TrimPrefix(w.Failed, "short write ") {
			return pass
		}
		w.halved = false
		w.Failed = c.name + " " + path
		return verdict{errno: -int32(w.Err)}
	}
	if w.Calls++; w.Calls != w.Nth {
		return pass
	}
	if w.Short && c.writes && n.args[2] > 1 {
		if v, err := w.half(c, n); err == nil {
			w.Failed, w.halved = "short write "+path, true
			return v
		}
	}
	w.Failed = c.name + " " + path
	return verdict{errno: -int32(w.Err)}
}

// half writes the first half of what a call was to write.
func (w *watcher) half(c kind, n *notification) (verdict, error) {
	pidfd, err := unix.PidfdOpen(w.pid, 0)
	if err != nil {
		return verdict{}, err
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, int(n.args[0]), 0)
	if err != nil {
		return verdict{}, err
	}
	f := os.NewFile(uintptr(fd), "theirs")
	defer f.Close()
	b, err := w.memory(n.args[1], int(n.args[2]/2))
	if err != nil {
		return verdict{}, err
	}
	var k int
	if c.name == "pwrite" {
		k, err = unix.Pwrite(fd, b, int64(n.args[3]))
	} else {
		k, err = unix.Write(fd, b)
	}
	return verdict{val: int64(k)}, err
}

func (w *watcher) memory(at uint64, size int) ([]byte, error) {
	b := make([]byte, size)
	k, err := unix.ProcessVMReadv(w.pid, []unix.Iovec{{Base: &b[0], Len: uint64(size)}}, []unix.RemoteIovec{{Base: uintptr(at), Len: size}}, 0)
	return b[:max(k, 0)], err
}

// A kind of system call.
type kind struct {
	name    string
	path    int  // the argument that is a path; -1: the first is a descriptor
	flags   int  // the argument that tells how a file is opened; -1: none
	writes  bool // bytes
	changes bool // the file or its folder
}

func (c kind) canFailBy(e syscall.Errno, n *notification) bool {
	opens := c.name == "open"
	creates := opens && n.args[c.flags]&unix.O_CREAT != 0
	switch e {
	case unix.ENOSPC, unix.EDQUOT:
		return c.writes || creates || c.name == "mkdir" || c.name == "fallocate" || c.name == "ftruncate"
	case unix.EMFILE:
		return opens
	case unix.EINTR:
		return opens || c.writes || strings.HasSuffix(c.name, "read") || c.name == "ftruncate" || c.name == "fallocate"
	case unix.EROFS:
		return c.changes || opens && n.args[c.flags]&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT) != 0
	}
	return c.name != "" // EIO
}

func callOf(n *notification) kind {
	switch uint32(n.nr) {
	case unix.SYS_OPENAT:
		return kind{"open", 1, 2, false, false}
	case unix.SYS_READ:
		return kind{"read", -1, -1, false, false}
	case unix.SYS_PREAD64:
		return kind{"pread", -1, -1, false, false}
	case unix.SYS_WRITE:
		return kind{"write", -1, -1, true, true}
	case unix.SYS_PWRITE64:
		return kind{"pwrite", -1, -1, true, true}
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS:
		return kind{"sync", -1, -1, false, false}
	case unix.SYS_FTRUNCATE:
		return kind{"ftruncate", -1, -1, false, true}
	case unix.SYS_FALLOCATE:
		return kind{"fallocate", -1, -1, false, true}
	case unix.SYS_COPY_FILE_RANGE:
		return kind{"copy", -1, -1, false, true}
	case unix.SYS_UNLINKAT:
		return kind{"unlink", 1, -1, false, true}
	case unix.SYS_MKDIRAT:
		return kind{"mkdir", 1, -1, false, true}
	case unix.SYS_RENAMEAT2:
		return kind{"rename", 1, -1, false, true}
	}
	return olderCall(n)
}

func (w *watcher) pathOf(c kind, n *notification) string {
	if c.path < 0 {
		p, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", w.pid, int32(n.args[0])))
		return strings.TrimSuffix(p, " (deleted)")
	}
	b, err := w.memory(n.args[c.path], 4096)
	if err != nil && len(b) == 0 { // the page after it may not be there
		b, _ = w.memory(n.args[c.path], int(4096-n.args[c.path]%4096))
	}
	name := string(b)
	if end := strings.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	if at := int32(n.args[0]); c.path == 1 && at != unix.AT_FDCWD && !filepath.IsAbs(name) {
		dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", w.pid, at))
		name = filepath.Join(dir, name)
	}
	return name
}
