package discovery

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// link is a network that the box is announced on.
type link struct {
	iface net.Interface
	addrs []netip.Prefix // what the host name resolves to on this link, sorted, with the link's prefix length
}

// virtual names the interfaces of containers, virtual machines and tunnels: the
// phones are not there, and their addresses must not be told to the LAN.
var virtual = regexp.MustCompile(`^(docker\d|br-[0-9a-f]{12}$|virbr|vmnet|lxcbr|lxdbr|cni|flannel|cali|podman|tun|tap|wg|tailscale|zt|ppp)`)

// currentLinks lists the links that are up and can do multicast, ordered by index.
// It costs a handful of system calls.
func currentLinks() ([]link, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var links []link
	for _, ifi := range ifaces {
		const need = net.FlagUp | net.FlagMulticast
		if ifi.Flags&need != need || ifi.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 || virtual.MatchString(ifi.Name) {
			continue
		}
		raw, err := ifi.Addrs()
		if err != nil {
			continue // it went away between the two calls; the notification of that is on its way
		}
		addrs := usable(raw)
		if len(addrs) == 0 {
			continue
		}
		// The host's end of a container's cable has no address but the link-local one.
		if strings.HasPrefix(ifi.Name, "veth") && !slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() }) {
			continue
		}
		links = append(links, link{iface: ifi, addrs: addrs})
	}
	slices.SortFunc(links, func(a, b link) int { return a.iface.Index - b.iface.Index })
	return links, nil
}

// usable picks the addresses worth announcing: IPv4, and IPv6 beyond the link;
// link-local IPv6 only if there is nothing else of IPv6, as clients lose its zone.
func usable(raw []net.Addr) []netip.Prefix {
	var v4, v6, local []netip.Prefix
	for _, a := range raw {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		ones, _ := n.Mask.Size()
		p := netip.PrefixFrom(ip, ones)
		switch {
		case !p.IsValid() || ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified():
		case ip.Is4():
			v4 = append(v4, p)
		case ip.IsLinkLocalUnicast():
			local = append(local, p)
		default:
			v6 = append(v6, p)
		}
	}
	if len(v6) == 0 {
		v6 = local
	}
	all := append(v4, v6...)
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}

// sameLinks reports whether two lists name the same interfaces, whatever their addresses.
func sameLinks(a, b []link) bool {
	return slices.EqualFunc(a, b, func(x, y link) bool {
		return x.iface.Index == y.iface.Index && x.iface.Name == y.iface.Name
	})
}

// sameAddrs reports whether two lists of the same links have the same addresses.
func sameAddrs(a, b []link) bool {
	return slices.EqualFunc(a, b, func(x, y link) bool { return slices.Equal(x.addrs, y.addrs) })
}

func interfaces(links []link) []net.Interface {
	list := make([]net.Interface, len(links))
	for i, l := range links {
		list[i] = l.iface
	}
	return list
}

// onLink reports whether ip is a neighbour on l: mDNS answers nobody else (RFC 6762 § 11).
func (l link) onLink(ip net.IP) bool {
	for _, p := range l.addrs {
		n := net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if n.Contains(ip) {
			return true
		}
	}
	return ip.IsLinkLocalUnicast()
}
