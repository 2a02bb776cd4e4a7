package ftp

import (
	"net"

	"golang.org/x/sys/unix"
)

// alive reports whether the client still holds its end of the connection open. It
// asks the kernel, because what the client said last may not have been read yet.
func alive(c net.Conn) bool {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	var info *unix.TCPInfo
	var asked error
	err = raw.Control(func(fd uintptr) {
		info, asked = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return err == nil && asked == nil && info.State == unix.BPF_TCP_ESTABLISHED
}
