package discovery

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"

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

// linkAddrs asks the kernel for the addresses of all links, by index, with what it
// thinks of them.
func linkAddrs() (map[int][]address, error) {
	raw, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	messages, err := syscall.ParseNetlinkMessage(raw)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	all := make(map[int][]address)
	for i := range messages {
		if index, a, ok := parseAddr(&messages[i]); ok {
			all[index] = append(all[index], a)
		}
	}
	return all, nil
}

// carriers tells which links have a cable in or are joined to a Wi-Fi. The kernel
// says that they are running too, but up to a second later.
func carriers() (map[int]bool, error) {
	raw, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	messages, err := syscall.ParseNetlinkMessage(raw)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	plugged := make(map[int]bool)
	for _, m := range messages {
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg {
			continue
		}
		index, flags := int(int32(binary.NativeEndian.Uint32(m.Data[4:]))), binary.NativeEndian.Uint32(m.Data[8:])
		plugged[index] = flags&unix.IFF_LOWER_UP != 0 && flags&unix.IFF_DORMANT == 0 // dormant: not let in yet
	}
	return plugged, nil
}

// parseAddr reads one RTM_NEWADDR message (rtnetlink(7)).
func parseAddr(m *syscall.NetlinkMessage) (index int, a address, ok bool) {
	if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg {
		return 0, a, false
	}
	fam, bits, flags := m.Data[0], int(m.Data[1]), uint32(m.Data[2])
	index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return 0, a, false
	}
	var ip, local netip.Addr
	for _, at := range attrs {
		switch at.Attr.Type {
		case unix.IFA_ADDRESS:
			ip, _ = netip.AddrFromSlice(at.Value)
		case unix.IFA_LOCAL: // of IPv4; the other one is the far end where there is one
			local, _ = netip.AddrFromSlice(at.Value)
		case unix.IFA_FLAGS: // all of them, where the message has room for eight
			if len(at.Value) >= 4 {
				flags = binary.NativeEndian.Uint32(at.Value)
			}
		}
	}
	if local.IsValid() {
		ip = local
	}
	a.prefix = netip.PrefixFrom(ip.Unmap(), bits)
	if fam == syscall.AF_INET6 {
		a.unready = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
		a.passing = flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY) != 0
	}
	return index, a, a.prefix.IsValid()
}

func reusePort(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}
