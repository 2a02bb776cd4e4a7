//go:build !linux

package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// watchLinks is for Linux only; elsewhere the announcer looks once a minute.
func watchLinks(context.Context, func()) (<-chan struct{}, error) {
	return nil, errors.ErrUnsupported
}

// linkAddrs lists the addresses of all links, by index.
func linkAddrs() (map[int][]address, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	all := make(map[int][]address)
	for _, ifi := range ifaces {
		raw, err := ifi.Addrs()
		if err != nil {
			continue
		}
		for _, a := range raw {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					ones, _ := n.Mask.Size()
					all[ifi.Index] = append(all[ifi.Index], address{prefix: netip.PrefixFrom(ip.Unmap(), ones)})
				}
			}
		}
	}
	return all, nil
}

// carriers knows nothing here; what runs has a carrier.
func carriers() (map[int]bool, error) { return nil, nil }

func reusePort(int) error { return nil }

// busyByUs knows nothing here.
func busyByUs(family, int) bool { return false }
