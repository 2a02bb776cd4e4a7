package discovery

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/grandcat/zeroconf"
)

// maxFound bounds what a network full of forged announcements can make us keep.
const maxFound = 256

// Found is a service that somebody on the network announces. None of it is proven.
type Found struct {
	Name  string            // instance name, unescaped
	Host  string            // host name without the final dot
	Port  int               // 0 to 65535
	Addrs []netip.Addr      // without zones
	Text  map[string]string // keys in lower case
}

// Browse looks for services of a kind, such as ServiceBox, for the given time or
// until ctx ends, and returns at most 256 of them ordered by name. It sees those
// that answer in that time; an empty list is no proof that there are none.
func Browse(ctx context.Context, kind string, d time.Duration) ([]Found, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	links, err := currentLinks()
	if err != nil || len(links) == 0 {
		return nil, err
	}
	r, err := zeroconf.NewResolver(zeroconf.SelectIfaces(interfaces(links)))
	if err != nil { // the library wants both families; one is enough
		if r, err = zeroconf.NewResolver(zeroconf.SelectIfaces(interfaces(links)), zeroconf.SelectIPTraffic(zeroconf.IPv4)); err != nil {
			return nil, err
		}
	}
	entries := make(chan *zeroconf.ServiceEntry)
	failed := r.Browse(ctx, kind, domain, entries)
	seen := make(map[string]Found)
	for e := range entries { // the library closes it when ctx ends
		f := Found{
			Name: unescapeLabel(e.Instance), Host: trimFinalDot(e.HostName), Port: e.Port,
			Addrs: addrs(e.AddrIPv4, e.AddrIPv6), Text: parseText(e.Text),
		}
		if _, ok := seen[f.Name]; ok || len(seen) < maxFound {
			seen[f.Name] = f
		}
	}
	list := make([]Found, 0, len(seen))
	for _, f := range seen {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Found) int { return cmp.Compare(a.Name, b.Name) })
	return list, failed
}

func addrs(lists ...[]net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ips := range lists {
		for _, ip := range ips {
			if a, ok := netip.AddrFromSlice(ip); ok {
				all = append(all, a.Unmap())
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func trimFinalDot(s string) string {
	if n := len(s); n > 0 && s[n-1] == '.' {
		return s[:n-1]
	}
	return s
}
