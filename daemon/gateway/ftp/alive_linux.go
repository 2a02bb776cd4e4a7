package ftp

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// alive reports whether the client still holds its end of the connection open. It
// asks the kernel, because what the client said last may not have been read yet.
func alive(c net.Conn) bool {
	info, ok := tcpInfo(c)
	return !ok || info != nil && info.State == unix.BPF_TCP_ESTABLISHED
}

// roundTrip is how long a question and its answer take on c, as the kernel measured
// it: on a connection that only receives, when it was made.
func roundTrip(c net.Conn) time.Duration {
	info, ok := tcpInfo(c)
	if !ok || info == nil {
		return 0
	}
	return time.Duration(info.Rtt) * time.Microsecond
}

// tcpInfo asks the kernel about c. ok is false for what is no TCP connection; of one
// that is closed there is nothing to know.
func tcpInfo(c net.Conn) (info *unix.TCPInfo, ok bool) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil, false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil, true
	}
	var asked error
	err = raw.Control(func(fd uintptr) {
		info, asked = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil || asked != nil {
		return nil, true
	}
	return info, true
}
