package httpd

import (
	"net"
	"net/http"
	"net/netip"
)

// OnLink reports whether r comes from this computer or from an address on one of the
// networks that it is attached to, no router in between.
func OnLink(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return onLink(from.Addr(), addrs)
}

func onLink(from netip.Addr, own []net.Addr) bool {
	from = from.Unmap().WithZone("")
	if from.IsLoopback() || from.IsLinkLocalUnicast() {
		return true
	}
	for _, a := range own {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		ones, size := n.Mask.Size()
		if size == 128 && ip.Is4() {
			ones -= 96
		}
		// A network of one address, as tunnels have it, has nobody else on it.
		if p, err := ip.Prefix(ones); err == nil && (p.Contains(from) && ones < ip.BitLen() || ip == from) {
			return true
		}
	}
	return false
}

// FromPage reports whether a browser says that the box's own page makes r.
func FromPage(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "same-origin" || r.Header.Get("Sec-Fetch-Site") == "" && isOwnOrigin(r)
}
