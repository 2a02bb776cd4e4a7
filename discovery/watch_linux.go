package discovery

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// watchLinks calls changed whenever the kernel reports that a link or an address
// came, changed or went, until ctx ends. It costs nothing while nothing changes:
// a netlink socket in the runtime's poller. The returned channel is closed when the
// watch is over. It returns an error at once if the socket cannot be had (a sandbox
// without AF_NETLINK).
func watchLinks(ctx context.Context, changed func()) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer stop()
		defer f.Close()
		// What changed is not read from the message: the state is looked up anew,
		// which is also right after messages were dropped (ENOBUFS).
		buf := make([]byte, 8192)
		for {
			_, err := f.Read(buf)
			if ctx.Err() != nil {
				return
			}
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			changed()
		}
	}()
	return over, nil
}
