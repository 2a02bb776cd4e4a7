package ftp_test

import (
	"net"

	"golang.org/x/sys/unix"
)

// unread returns how many bytes that were sent on c the other side's kernel has not
// acknowledged.
func unread(c net.Conn) int {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1
	}
	left := -1
	raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err != nil {
		return -1
	}
	return left
}
