package api

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// trustedPeer says whether the process at the other end of a unix socket runs as
// root or as the daemon's own user. The kernel recorded who connected, so nobody
// can pretend (SO_PEERCRED, unix(7)).
func trustedPeer(c net.Conn) bool {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
}
