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
	nets  []netip.Prefix // all addresses, also those that are not announced
	can   [families]bool // it has an address of the family to send from, and takes part in its group
}

// address is one of a link, as the kernel sees it.
type address struct {
	prefix  netip.Prefix
	unready bool // not yet known to be the only one on the link, or known not to be
	passing bool // changes every few hours, or is on its way out
}

// virtual names the interfaces of containers, virtual machines and tunnels: the
// phones are not there, and their addresses must not be told to the LAN.
var virtual = regexp.MustCompile(`^(docker\d|br-[0-9a-f]{12}$|virbr|vmnet|lxcbr|lxdbr|cni|flannel|cali|podman|tun|tap|wg|tailscale|zt|ppp)`)

// currentLinks lists the links that are up, have a cable in and can do multicast,
// ordered by index. It costs a handful of system calls.
func currentLinks() ([]link, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	all, err := linkAddrs()
	if err != nil {
		return nil, err
	}
	plugged, err := carriers()
	if err != nil {
		return nil, err
	}
	var links []link
	for _, ifi := range ifaces {
		const need = net.FlagUp | net.FlagMulticast
		if ifi.Flags&need != need || !(ifi.Flags&net.FlagRunning != 0 || plugged[ifi.Index]) || ifi.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 || virtual.MatchString(ifi.Name) {
			continue
		}
		l := link{iface: ifi, addrs: usable(all[ifi.Index])}
		for _, a := range all[ifi.Index] {
			if a.unready {
				continue
			}
			l.nets = append(l.nets, a.prefix)
			if a.prefix.Addr().Is4() {
				l.can[ip4] = true
			} else {
				l.can[ip6] = true
			}
		}
		if len(l.addrs) == 0 {
			continue
		}
		// The host's end of a container's cable has no address but the link-local one.
		if strings.HasPrefix(ifi.Name, "veth") && !slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() }) {
			continue
		}
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b link) int { return a.iface.Index - b.iface.Index })
	return links, nil
}

// usable picks the addresses worth announcing: IPv4, and IPv6 beyond the link that
// is there to stay; what passes or is link-local only if there is nothing else of
// IPv6, as clients lose the zone of the latter.
func usable(all []address) []netip.Prefix {
	var v4, v6, passing, local []netip.Prefix
	for _, a := range all {
		ip := a.prefix.Addr()
		switch {
		case a.unready || !a.prefix.IsValid() || ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified():
		case ip.Is4():
			v4 = append(v4, a.prefix)
		case ip.IsLinkLocalUnicast():
			local = append(local, a.prefix)
		case a.passing:
			passing = append(passing, a.prefix)
		default:
			v6 = append(v6, a.prefix)
		}
	}
	if len(v6) == 0 {
		v6 = passing
	}
	if len(v6) == 0 {
		v6 = local
	}
	list := append(v4, v6...)
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

func interfaces(links []link) []net.Interface {
	list := make([]net.Interface, len(links))
	for i, l := range links {
		list[i] = l.iface
	}
	return list
}

// onLink reports whether ip is a neighbour on l: mDNS answers nobody else (RFC 6762 § 11).
func (l link) onLink(ip netip.Addr) bool {
	ip = ip.WithZone("")
	if ip.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(l.nets, func(p netip.Prefix) bool { return p.Contains(ip) })
}
