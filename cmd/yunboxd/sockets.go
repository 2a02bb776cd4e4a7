package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/problem"
)

// sockets are what the service manager listens on for the box, by FileDescriptorName=
// of the unit: "https", "http" and "ftp". They stay open for as long as the process
// lives, so that a box that is opened again gets them again, and who connects while
// there is no box waits in the kernel's queue.
type sockets map[string]*os.File

// firstSocket is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstSocket = 3

// inherited takes the sockets over, and the variables that name them out of the
// environment, which no child of ours is to see.
func inherited(log *slog.Logger) (sockets, error) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	if err := errors.Join(os.Unsetenv("LISTEN_PID"), os.Unsetenv("LISTEN_FDS"), os.Unsetenv("LISTEN_FDNAMES")); err != nil {
		return nil, err
	}
	if fds == "" || fds == "0" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // none, or meant for another process
	}
	count, err := strconv.Atoi(fds)
	if err != nil || count != len(names) || count > 16 {
		return nil, fmt.Errorf("LISTEN_FDS=%s and LISTEN_FDNAMES do not agree", fds)
	}
	s := sockets{}
	for i, name := range names {
		syscall.CloseOnExec(firstSocket + i)
		switch {
		case name != "https" && name != "http" && name != "ftp":
			log.Warn("a socket of the service manager is not used: FileDescriptorName= is https, http or ftp", "name", name)
		case s[name] != nil:
			return nil, fmt.Errorf("two sockets are named %s: one unit with one ListenStream= for each", name)
		default:
			s[name] = os.NewFile(uintptr(firstSocket+i), name)
		}
	}
	return s, nil
}

// listen is daemon.Options.Listen. A socket that was passed counts, whatever address is
// set: who made the unit has decided.
func (s sockets) listen(name, addr string) (net.Listener, error) {
	switch file := s[name]; {
	case file != nil:
		l, err := net.FileListener(file)
		if err != nil {
			return nil, fmt.Errorf("the service manager's socket: %w", err)
		}
		if _, ok := l.(*net.TCPListener); !ok {
			return nil, errors.Join(fmt.Errorf("the service manager's socket is not one of TCP but of %s", l.Addr().Network()), l.Close())
		}
		return l, nil
	case addr == config.Socket:
		return nil, &problem.Error{Kind: problem.Unavailable, Op: "yunboxd.sockets",
			Title:  "The service manager listens on nothing for the box",
			Detail: "The settings say " + name + " = \"" + config.Socket + "\", and no socket of that name was passed.",
			Hint:   "systemctl reset-failed 'yunboxd*'; systemctl restart yunboxd.socket. Without systemd: --" + name + " HOST:PORT."}
	case addr == config.Off:
		return nil, nil
	}
	return net.Listen("tcp", addr)
}
