package discovery

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// busyByUs reports whether a UDP port that could not be bound for a family is busy by this
// process, or could be had by who shares it: then no other program is why. What cannot be
// found out counts as another program's.
func busyByUs(fam family, port int) bool {
	ours, err := ourSockets()
	if err != nil {
		return false
	}
	var others bool
	for _, table := range []string{"/proc/self/net/udp", "/proc/self/net/udp6"} {
		inodes, err := bound(table, port)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a machine without that family
		}
		if err != nil {
			return false
		}
		for _, inode := range inodes {
			shares, is := ours[inode]
			switch {
			case !is:
				others = true
			case !shares:
				return true // whoever has it beside us came later
			}
		}
	}
	return !others || shareable(fam, port)
}

// ourSockets are those that this process has open, by inode, and whether they share their
// address.
func ourSockets() (map[uint64]bool, error) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	ours := make(map[uint64]bool)
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			return nil, fmt.Errorf("/proc/self/fd: %w", err)
		}
		to, err := os.Readlink("/proc/self/fd/" + n.Name())
		if err != nil || !strings.HasPrefix(to, "socket:[") {
			continue // closed meanwhile, or no socket
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(to[len("socket:["):], "]"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/self/fd: %w", err)
		}
		shares, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
		if still, again := os.Readlink("/proc/self/fd/" + n.Name()); err == nil && again == nil && still == to {
			ours[inode] = shares != 0
		}
	}
	return ours, nil
}

// bound lists the inodes of the sockets in a table of the kernel's that have a port:
// proc(5), /proc/net/udp.
func bound(table string, port int) (inodes []uint64, err error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	at := fmt.Sprintf(":%04X", port)
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			return nil, fmt.Errorf("%s has a line that cannot be read", table)
		}
		if !strings.HasSuffix(fields[1], at) {
			continue
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", table, err)
		}
		inodes = append(inodes, inode)
	}
	return inodes, lines.Err()
}

// shareable reports whether a socket that shares its address can have the port now. It does
// not use listen, since that may be what is wrong.
func shareable(fam family, port int) bool {
	domain, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port})
	if fam == ip6 {
		domain, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if fam == ip6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return false
		}
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return false
		}
	}
	return unix.Bind(fd, addr) == nil
}
